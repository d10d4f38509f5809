//! Imported revisions as files of ours, and as records of what is applied.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::files::{entries, numbered};
use super::{Import, Imported, ImportedDown, Result, listed, refused};
use crate::gate::Gate;
use crate::plan::Config;
use crate::revision::database::{Record, Standing};
use crate::revision::run::{self, Terms};
use crate::revision::{Down, Error, Revision, file, order};
use crate::store;

/// Writes the revisions into the project's folder of migrations, to run in the store `store`; all of them, or none.
/// What is there already with the same text stays. The paths are those that were written.
///
/// # Errors
/// [`Error::Refused`] if a file of the same name has another text, or another file has the same version;
/// [`Error::File`] for what cannot be read back as it was written.
pub fn write(import: &Import, config: &Config, store: &str, gate: &Gate) -> Result<Vec<PathBuf>> {
    let folder = &config.migrations;
    std::fs::create_dir_all(folder).map_err(|cause| failed("make", folder, cause))?;
    let there = entries(folder)?;
    let mut wanted: Vec<(PathBuf, String)> = Vec::new();
    let mut taken = Vec::new();
    for one in &import.revisions {
        let (text, revision) = rendered(import, one, config, store)?;
        let same = |name: &str| numbered(name).is_some_and(|(digits, _)| order(digits) == order(&one.stamp));
        let ours = |name: &str| name.ends_with(".sql") || name.ends_with(".toml");
        let mut is_there = false;
        for (name, path) in there.iter().filter(|(name, _)| same(name) && ours(name)) {
            if *path == revision.path && std::fs::read_to_string(path).is_ok_and(|other| other == text) {
                is_there = true;
            } else {
                taken.push(name.clone());
            }
        }
        if !is_there {
            wanted.push((revision.path, text));
        }
    }
    if !taken.is_empty() {
        let cause =
            format!("{} has these versions already, and with another text: {}", folder.display(), listed(&taken));
        return Err(refused(
            cause,
            "nothing was written; are these theirs? let ours be elsewhere: [project] migrations = \"revisions\"",
        ));
    }
    let mut written = Vec::new();
    match place(folder, wanted, gate, &mut written) {
        Ok(()) => Ok(written),
        Err(error) => {
            for path in written {
                // what stays is found again, and is the same
                let _ = std::fs::remove_file(path);
            }
            Err(error)
        }
    }
}

/// Writes all beside their places first, so that what fails most likely fails before the first is in its place.
fn place(folder: &Path, wanted: Vec<(PathBuf, String)>, gate: &Gate, written: &mut Vec<PathBuf>) -> Result<()> {
    let mut ready = Vec::new();
    for (path, text) in wanted {
        let fail = |cause| failed("write", &path, cause);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".backout-import");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // less what the user's umask takes away
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder).map_err(fail)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
        ready.push((path, file));
    }
    for (path, file) in ready {
        gate.pass("write an imported revision", || {
            file.persist_noclobber(&path).map(drop).map_err(|e| failed("write", &path, e.error))
        })?;
        written.push(path);
    }
    Ok(())
}

/// Records of what is applied, for the caller to write in one transaction. `nth`: what the first of them is in the
/// order in which revisions were applied in the project.
///
/// # Errors
/// As [`write()`].
pub fn records(import: &Import, config: &Config, store: &str, nth: u64) -> Result<Vec<Record>> {
    let applied = import.revisions.iter().filter(|one| import.applied.contains(&one.stamp));
    let record = |(nth, one): (u64, &Imported)| {
        let (_, revision) = rendered(import, one, config, store)?;
        let begun = run::begun_record(&revision, &Terms { nth, ..Terms::default() });
        Ok(Record { standing: Standing::Applied, stamped: true, ..begun })
    };
    (nth..).zip(applied).map(record).collect()
}

/// A revision's file, and what is read of it again.
fn rendered(import: &Import, one: &Imported, config: &Config, store: &str) -> Result<(String, Revision)> {
    let path = config.migrations.join(format!("{}_{}.sql", one.stamp, one.slug));
    let text = text(import, one, None);
    let (text, revision) = match file::parse(&text, &path, config) {
        Ok(revision) if revision.store.as_deref() == Some(store) => (text, revision),
        // it has to be said in which store it runs
        _ => {
            let text = self::text(import, one, Some(store));
            let revision = file::parse(&text, &path, config)?;
            (text, revision)
        }
    };
    let down = match (&revision.down, &one.down) {
        (Down::Sql(script), ImportedDown::Sql(text, transaction)) => {
            script.text == *text && script.transaction == *transaction
        }
        (Down::Nothing, ImportedDown::Nothing) => true,
        (Down::Irreversible(a), ImportedDown::Irreversible(b)) => a == b,
        _ => false,
    };
    if !down || revision.up.text != one.up || revision.up.transaction != one.up_transaction {
        let cause =
            format!("{} would not say what {} has as {}", path.display(), import.tool.name(), one.their_version);
        return Err(refused(cause, "is there a comment `-- migrate:…` in it? take it out of a copy, and import that"));
    }
    Ok((text, revision))
}

fn text(import: &Import, one: &Imported, store: Option<&str>) -> String {
    let mut text = String::new();
    if one.title != one.slug.replace('_', " ") {
        text += &format!("-- backout:title {}\n", one.title);
    }
    if let Some(store) = store {
        text += &format!("-- backout:store {store}\n");
    }
    let theirs: String = one.their_version.chars().filter(|c| !c.is_control()).collect();
    text += &format!("-- from {}: {theirs}\n", import.tool.name());
    let option = |transaction: bool| if transaction { "" } else { " transaction:false" };
    text += &format!("-- migrate:up{}\n{}", option(one.up_transaction), one.up);
    match &one.down {
        ImportedDown::Sql(sql, transaction) => text + &format!("-- migrate:down{}\n{sql}", option(*transaction)),
        ImportedDown::Nothing => text + "-- migrate:down nothing\n",
        ImportedDown::Irreversible(reason) => text + &format!("-- migrate:down irreversible: {reason}\n"),
    }
}

fn failed(operation: &'static str, path: &Path, cause: std::io::Error) -> Error {
    Error::Store(store::Error::File { operation: operation.into(), path: path.display().to_string(), cause })
}
