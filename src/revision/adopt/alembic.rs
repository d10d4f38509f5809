//! Alembic: its own offline mode says what each revision does, in one run of its Python.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Found, Origin, Result, Unless, Way, history, listed, refused, stamps};
use crate::plan::{Kind, redact};
use crate::revision::database::Database;

/// Fed to Python's stdin, so that no file of ours has to be anywhere.
const DRIVER: &str = include_str!("alembic.py");

/// An Alembic project as it was read.
pub(super) struct Project {
    pub found: Vec<Found>,
    parents: HashMap<String, Vec<String>>,
    /// The table of its history, as SQL writes it.
    table: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Missing { missing: String },
    Heads { heads: Vec<String> },
    Failed { failed: Said },
    Read(Read),
}

#[derive(Deserialize)]
struct Read {
    dialect: Option<String>,
    transactional: bool,
    table: String,
    schema: Option<String>,
    revisions: Vec<Revision>,
}

#[derive(Deserialize)]
struct Revision {
    revision: String,
    file: PathBuf,
    title: String,
    date: Option<String>,
    parents: Vec<String>,
    tabs: bool,
    up: Side,
    down: Side,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    Written { statements: Vec<String>, alone: bool },
    Failed(Said),
}

#[derive(Deserialize)]
struct Said {
    error: String,
    line: Option<usize>,
    /// The author raised it.
    meant: bool,
}

/// Reads the project whose `alembic.ini` is, or is in, the origin's folder.
pub(super) fn read(origin: &Origin, notes: &mut Vec<String>) -> Result<Project> {
    let named = origin.folder.is_file();
    let ini = if named { origin.folder.clone() } else { origin.folder.join("alembic.ini") };
    if !ini.is_file() && !origin.folder.join("pyproject.toml").is_file() {
        let cause = format!("there is no alembic.ini in {}", origin.folder.display());
        return Err(refused(cause, "name the folder that has it, or the file: --folder PATH"));
    }
    let read = match ask(origin, &ini)? {
        Answer::Read(read) => read,
        Answer::Heads { heads } => {
            let cause = format!("the Alembic project has several heads: {}", listed(&heads));
            return Err(refused(cause, "alembic merge heads, then import"));
        }
        Answer::Failed { failed } => {
            let cause = format!("Alembic cannot read the project offline: {}", redact(&failed.error));
            return Err(refused(cause, "does `alembic upgrade head --sql` work there? mend that first"));
        }
        Answer::Missing { missing } => return Err(no_alembic(&missing)),
    };
    let wanted = if origin.kind == Kind::Postgres { "postgresql" } else { "sqlite" };
    if let Some(dialect) = read.dialect.as_deref().filter(|dialect| *dialect != wanted) {
        let cause = format!("the Alembic project is for {dialect}, and the store is {wanted}");
        return Err(refused(cause, "name the store that it is for: --store NAME"));
    }
    refuse_failures(&read.revisions)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = match &read.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&read.table)),
        None => quoted(&read.table),
    };
    let tabs: Vec<String> = read.revisions.iter().filter(|one| one.tabs).map(|one| one.revision.clone()).collect();
    if !tabs.is_empty() {
        notes.push(format!(
            "Alembic's offline mode writes four spaces for a tab, also within values; look at: {}",
            listed(&tabs)
        ));
    }
    let moments: Vec<Option<String>> = read.revisions.iter().map(|one| one.date.clone()).collect();
    let made = stamps::of_moments(&moments);
    let parents = read.revisions.iter().map(|one| (one.revision.clone(), one.parents.clone())).collect();
    // of SQLite Alembic says that DDL is not transactional, which is so of its driver alone
    let transactional = read.transactional || origin.kind == Kind::Sqlite;
    let found = read.revisions.into_iter().zip(made).map(|(one, stamp)| found(one, stamp, transactional)).collect();
    Ok(Project { found, parents, table })
}

fn found(one: Revision, stamp: String, transactional: bool) -> Found {
    let title = one.title.lines().next().unwrap_or_default().trim().to_owned();
    let words: String = stamps::slug(&title.to_lowercase()).chars().take(60).collect();
    let words = words.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_");
    let slug = match title.is_empty() {
        true => stamps::slug(&one.revision),
        false => format!("{}_{words}", stamps::slug(&one.revision)),
    };
    let way = |side: Side| match side {
        Side::Written { statements, alone } => {
            let text = statements.iter().map(|statement| ended(statement)).collect();
            let transaction = transactional && !alone;
            Way { file: one.file.clone(), line: 1, text, transaction, unless: Unless::Never }
        }
        // of a way up it was refused before
        Side::Failed(_) => Way::whole(&one.file, String::new()),
    };
    let title = if title.is_empty() { stamps::title(&slug) } else { title };
    let (down, why) = match one.down {
        Side::Failed(said) => (None, Some(said.error.split_whitespace().collect::<Vec<_>>().join(" "))),
        written => (Some(way(written)), None),
    };
    Found { stamp, slug, title, up: way(one.up), down, why, version: one.revision }
}

/// A statement with its end, which a comment must not swallow.
fn ended(statement: &str) -> String {
    let last = statement.rsplit('\n').next().unwrap_or_default();
    if last.contains("--") { format!("{statement}\n;\n\n") } else { format!("{statement};\n\n") }
}

/// Refuses with the names of all revisions that offline mode cannot run, and what it says of each.
fn refuse_failures(revisions: &[Revision]) -> Result<()> {
    let mut failures = Vec::new();
    for one in revisions {
        for (way, side) in [("upgrade", &one.up), ("downgrade", &one.down)] {
            if let Side::Failed(said) = side
                && !(said.meant && way == "downgrade")
            {
                let place = said.line.map_or(String::new(), |line| format!(":{line}"));
                let file = one.file.display();
                failures.push(format!("{} ({file}{place}, {way}): {}", one.revision, redact(&said.error)));
            }
        }
    }
    match failures.len() {
        0 => Ok(()),
        count => {
            let shown: Vec<String> = failures.iter().take(10).map(|line| format!("\n  {line}")).collect();
            let more = if count > 10 { format!("\n  and {} more", count - 10) } else { String::new() };
            let cause = format!("Alembic cannot write these as SQL:{}{more}", shown.concat());
            Err(refused(
                cause,
                "they ask the database as they run: say that in SQL (op.execute) in a copy, and import the copy",
            ))
        }
    }
}

/// Runs the driver with the first Python that has Alembic.
fn ask(origin: &Origin, ini: &Path) -> Result<Answer> {
    let settings =
        serde_json::json!({ "ini": std::path::absolute(ini).unwrap_or_else(|_| ini.to_owned()), "url": origin.url });
    // JSON in a Python string, by JSON's own rules for strings, which Python shares
    let literal = serde_json::Value::String(settings.to_string());
    let text = format!("import json\nSETTINGS = json.loads({literal})\n{DRIVER}");
    let folder = ini.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut missing = None;
    for python in pythons(origin, folder) {
        let spawned = Command::new(&python)
            // -B: their folder gets no files of Python's
            .args(["-B", "-"])
            .current_dir(folder)
            .env_clear()
            .envs(origin.environment.iter().map(|(key, value)| (key, value)))
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(cause) if origin.python.is_some() => {
                let cause = format!("{} cannot be started: {cause}", python.display());
                return Err(refused(cause, "name the Python that has Alembic: --python PATH"));
            }
            Err(_) => continue,
        };
        if let Some(mut stdin) = child.stdin.take() {
            // one that is gone says why by what it wrote
            let _ = stdin.write_all(text.as_bytes());
        }
        let done = child
            .wait_with_output()
            .map_err(|cause| refused(format!("{} cannot be waited for: {cause}", python.display()), "run it again"))?;
        let line = String::from_utf8_lossy(&done.stdout);
        match serde_json::from_str::<Answer>(line.trim()) {
            Ok(Answer::Missing { missing: said }) => missing = Some(format!("{}: {said}", python.display())),
            Ok(answer) => return Ok(answer),
            Err(_) => {
                let said = String::from_utf8_lossy(&done.stderr);
                let mut last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
                last.reverse();
                let said: Vec<String> = last.into_iter().map(redact).collect();
                let cause = format!("{} did not read the project: {}", python.display(), said.join("\n  "));
                return Err(refused(cause, "does `alembic upgrade head --sql` work there? mend that first"));
            }
        }
    }
    Err(no_alembic(&missing.unwrap_or_else(|| "no Python was found".to_owned())))
}

fn no_alembic(said: &str) -> super::Error {
    refused(
        format!("Alembic itself is needed to read its revisions, and was not found ({said})"),
        "activate its environment, or name its Python: --python PATH",
    )
}

/// Where a Python with Alembic may be, likeliest first.
fn pythons(origin: &Origin, folder: &Path) -> Vec<PathBuf> {
    if let Some(python) = &origin.python {
        return vec![python.clone()];
    }
    let variable = |name: &str| origin.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let mut folders: Vec<PathBuf> = variable("VIRTUAL_ENV").map(|env| Path::new(env).join("bin")).into_iter().collect();
    folders.extend([folder.join(".venv/bin"), folder.join("venv/bin")]);
    let path: Vec<PathBuf> = variable("PATH").map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    // a program of its own environment may be linked into a folder of the path
    let alembic = path.iter().map(|folder| folder.join("alembic")).find(|program| program.is_file());
    if let Some(real) = alembic.and_then(|program| program.canonicalize().ok()) {
        folders.extend(real.parent().map(Path::to_owned));
    }
    folders.extend(path);
    let names = ["python3", "python"];
    let mut all: Vec<PathBuf> = Vec::new();
    for folder in folders {
        if let Some(python) = names.iter().map(|name| folder.join(name)).find(|program| program.is_file())
            && !all.contains(&python)
        {
            // relative to where we are, and the child starts elsewhere
            all.push(std::path::absolute(&python).unwrap_or(python));
        }
    }
    all
}

impl Project {
    /// The revisions that the database has: its heads, and all below them.
    pub fn applied(&self, db: &mut dyn Database, notes: &mut Vec<String>) -> Result<history::Versions> {
        if !history::there(db, &self.table, notes)? {
            return Ok(None);
        }
        let rows = history::ask(db, &format!("SELECT version_num FROM {}", self.table))?;
        let mut waiting: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next()?).collect();
        let mut all = BTreeSet::new();
        while let Some(revision) = waiting.pop() {
            waiting.extend(self.parents.get(&revision).into_iter().flatten().cloned());
            all.insert(revision);
        }
        Ok(Some(all.into_iter().collect()))
    }
}
