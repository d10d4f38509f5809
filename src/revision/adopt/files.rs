//! Tools whose migration is a file, or a pair of files, of plain SQL: dbmate, sqlx, golang-migrate, refinery. And how
//! folders are read.

use std::path::{Path, PathBuf};

use super::{Found, Result, Unless, Way, listed, refused, stamps};
use crate::plan::{ConfigError, read};
use crate::revision::{Error, order};

/// Name and path of each thing in a folder, by name.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |cause: std::io::Error| {
        let hint = Some("name the folder that holds the migrations: --folder PATH".to_owned());
        Error::File(ConfigError::Read { file: folder.to_owned(), cause, hint })
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        all.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
    }
    all.sort();
    Ok(all)
}

/// The text of a file of theirs.
pub(super) fn text(path: &Path) -> Result<String> {
    Ok(read(path, "it was there a moment ago")?)
}

/// The digits that a name begins with, and what follows.
pub(super) fn numbered(name: &str) -> Option<(&str, &str)> {
    let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    (end > 0).then(|| name.split_at(end))
}

/// One whose version is digits and whose name says the rest.
pub(super) fn found(version: &str, name: &str, up: Way, down: Option<Way>) -> Found {
    let slug = stamps::slug(name);
    let title = stamps::title(&slug);
    Found { version: version.to_owned(), stamp: version.to_owned(), slug, title, up, down, why: None }
}

/// In the order of their versions.
pub(super) fn sorted(mut all: Vec<Found>) -> Vec<Found> {
    all.sort_by(|a, b| order(&a.stamp).cmp(&order(&b.stamp)));
    all
}

/// What looks like a migration and is code.
pub(super) fn refuse_code(names: &[String], what: &str) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let cause = format!("migrations in {what} cannot be taken over: {}", listed(names));
    Err(refused(cause, "write what they do as SQL in a copy of the folder, and import that"))
}

/// Says which files of a folder are no migrations.
pub(super) fn note_others(others: &[String], notes: &mut Vec<String>) {
    if !others.is_empty() {
        notes.push(format!("not migrations, and left aside: {}", listed(others)));
    }
}

/// dbmate: one file with `-- migrate:up` and `-- migrate:down`, several times over if it likes.
pub(super) fn dbmate(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let (mut all, mut others) = (Vec::new(), Vec::new());
    for (name, path) in entries(folder)? {
        let Some((version, rest)) = numbered(&name).filter(|_| name.ends_with(".sql")) else {
            others.push(name);
            continue;
        };
        let whole = crate::revision::sql::plain(&text(&path)?);
        let mut blocks: Vec<(bool, Way)> = Vec::new();
        for (i, line) in whole.lines().enumerate() {
            match directive(line) {
                Some((up, options)) => {
                    let transaction = !options.split_whitespace().any(|option| option == "transaction:false");
                    let way = Way { transaction, line: i + 2, ..Way::whole(&path, String::new()) };
                    blocks.push((up, way));
                }
                None => match blocks.last_mut() {
                    Some((_, way)) => way.text += &format!("{line}\n"),
                    None if line.trim().is_empty() || line.trim_start().starts_with("--") => {}
                    None => {
                        let cause = format!("{}:{}: a statement before `-- migrate:up`", path.display(), i + 1);
                        return Err(refused(cause, "is this a file of dbmate's? it says -- migrate:up first"));
                    }
                },
            }
        }
        let (ups, downs): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(up, _)| *up);
        let Some(up) = joined(ups.into_iter().map(|(_, way)| way)) else {
            let cause = format!("{} has no `-- migrate:up`", path.display());
            return Err(refused(cause, "is this a file of dbmate's? it says -- migrate:up first"));
        };
        let down = joined(downs.into_iter().map(|(_, way)| way));
        let slug = rest.strip_suffix(".sql").unwrap_or(rest);
        all.push(found(version, slug, up, down));
    }
    note_others(&others, notes);
    Ok(sorted(all))
}

/// Whether a line begins an up (`true`) or a down, and with which options.
fn directive(line: &str) -> Option<(bool, &str)> {
    let rest = line.strip_prefix("--")?.trim_start();
    let (up, options) = match (rest.strip_prefix("migrate:up"), rest.strip_prefix("migrate:down")) {
        (Some(options), _) => (true, options),
        (_, Some(options)) => (false, options),
        _ => return None,
    };
    (options.is_empty() || options.starts_with(char::is_whitespace)).then_some((up, options))
}

/// Blocks one after the other, as dbmate runs them. All in one transaction if each was in one.
fn joined(blocks: impl Iterator<Item = Way>) -> Option<Way> {
    blocks.reduce(|mut all, next| {
        // lines stay what they are, so that an error names the right one
        let lines = all.line + all.text.matches('\n').count();
        all.text += &"\n".repeat(next.line.saturating_sub(lines));
        all.text += &next.text;
        all.transaction &= next.transaction;
        all
    })
}

/// sqlx: `1_x.up.sql` and `1_x.down.sql`, or `1_x.sql`, which has no way down.
pub(super) fn sqlx(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    pairs(folder, notes, &[".up.sql", ".sql"], &[".down.sql"], |text| {
        (!text.starts_with("-- no-transaction"), Unless::Never)
    })
}

/// golang-migrate: `1_x.up.sql` and `1_x.down.sql`.
pub(super) fn golang_migrate(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    pairs(folder, notes, &[".up.sql"], &[".down.sql"], |_| (true, Unless::Alone))
}

/// `NNN_x` with one of these endings, the first that fits, for the way up and the way down.
fn pairs(
    folder: &Path,
    notes: &mut Vec<String>,
    ups: &[&str],
    downs: &[&str],
    how: impl Fn(&str) -> (bool, Unless),
) -> Result<Vec<Found>> {
    let (mut all, mut backs, mut others): (Vec<Found>, Vec<(String, Way)>, Vec<String>) = Default::default();
    for (name, path) in entries(folder)? {
        let rest = numbered(&name).and_then(|(version, rest)| Some((version, rest.strip_prefix('_')?)));
        let Some((version, rest)) = rest.filter(|_| path.is_file()) else {
            others.push(name);
            continue;
        };
        let ending = |endings: &[&str]| endings.iter().find_map(|e| rest.strip_suffix(e).map(str::to_owned));
        let (down, up) = (ending(downs), ending(ups));
        let whole = match (&down, &up) {
            (None, None) => {
                others.push(name);
                continue;
            }
            _ => text(&path)?,
        };
        let (transaction, unless) = how(&whole);
        let way = Way { transaction, unless, ..Way::whole(&path, whole) };
        match (down, up) {
            (None, Some(slug)) => all.push(found(version, &slug, way, None)),
            _ => backs.push((version.to_owned(), way)),
        }
    }
    let mut lonely = Vec::new();
    for (version, way) in backs {
        match all.iter_mut().find(|one| order(&one.version) == order(&version) && one.down.is_none()) {
            Some(one) => one.down = Some(way),
            None => lonely.push(way.file.display().to_string()),
        }
    }
    if !lonely.is_empty() {
        let cause = format!("ways down without their way up: {}", listed(&lonely));
        return Err(refused(cause, "add the file that ends in .up.sql, or leave these out of a copy of the folder"));
    }
    note_others(&others, notes);
    Ok(sorted(all))
}

/// refinery: `V1__x.sql`, or `U1__x.sql` where the order of versions does not matter. There is no way down.
pub(super) fn refinery(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let (mut all, mut code, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (name, path) in entries(folder)? {
        let parts = name.strip_prefix(['V', 'U']).and_then(numbered);
        let Some((version, rest)) = parts.and_then(|(v, rest)| Some((v, rest.strip_prefix("__")?))) else {
            others.push(name);
            continue;
        };
        if let Some(slug) = rest.strip_suffix(".sql") {
            all.push(found(version, slug, Way::whole(&path, text(&path)?), None));
        } else if rest.ends_with(".rs") {
            code.push(name);
        } else {
            others.push(name);
        }
    }
    refuse_code(&code, "Rust")?;
    note_others(&others, notes);
    Ok(sorted(all))
}
