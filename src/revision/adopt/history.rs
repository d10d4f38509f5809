//! What another tool's history says is applied. It is only read.

use std::collections::HashMap;
use std::fmt::Write;

use sha2::Digest;

use super::{Found, Origin, Result, Tool, listed, refused};
use crate::plan::Kind;
use crate::revision::database::Database;
use crate::revision::order;
use crate::value::Value;

/// Versions as the history names them; `missing`: there is no history.
pub(super) type Versions = Option<Vec<String>>;

/// Asks, if there is a database to be asked.
pub(super) fn asked(
    database: Option<&mut dyn Database>,
    notes: &mut Vec<String>,
    ask: impl FnOnce(&mut dyn Database, &mut Vec<String>) -> Result<Versions>,
) -> Result<Vec<String>> {
    let Some(database) = database else { return Ok(Vec::new()) };
    Ok(ask(database, notes)?.unwrap_or_default())
}

/// The table in which each tool but Alembic keeps its history.
fn table(tool: Tool) -> &'static str {
    match tool {
        Tool::Alembic => "alembic_version",
        Tool::Dbmate | Tool::GolangMigrate => "schema_migrations",
        Tool::Sqlx => "_sqlx_migrations",
        Tool::Goose => "goose_db_version",
        Tool::Flyway => "flyway_schema_history",
        Tool::Refinery => "refinery_schema_history",
        Tool::Diesel => "__diesel_schema_migrations",
        Tool::Yoyo => "_yoyo_migration",
    }
}

/// Whether a table is there; a note if it is not. `name`: as SQL writes it.
pub(super) fn there(db: &mut dyn Database, name: &str, notes: &mut Vec<String>) -> Result<bool> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let sql = match db.kind() {
        Kind::Postgres => format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", literal(name)),
        _ => {
            let bare = name.trim_matches('"').replace("\"\"", "\"");
            format!("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower({})", literal(&bare))
        }
    };
    let found = !db.query(&sql)?.is_empty();
    if !found {
        notes.push(format!("there is no table {name} in {}: nothing is taken to be applied", db.title()));
    }
    Ok(found)
}

/// Rows as texts.
pub(super) fn ask(db: &mut dyn Database, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let text = |value: Value<'_>| match value {
        Value::Text(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Int(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Blob(bytes) => Some(hex(&bytes)),
        _ => None,
    };
    Ok(db.query(sql)?.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

/// As PostgreSQL writes bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        // a String takes everything
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A column of the row that has to have something in it.
fn column(row: &[Option<String>], i: usize) -> &str {
    row.get(i).and_then(Option::as_deref).unwrap_or_default()
}

/// Either database's way to say yes.
fn yes(text: &str) -> bool {
    matches!(text, "1" | "t" | "true")
}

/// What the history of a tool says is applied, in its order.
pub(super) fn applied(
    origin: &Origin,
    db: &mut dyn Database,
    found: &[Found],
    notes: &mut Vec<String>,
) -> Result<Versions> {
    let tool = origin.tool;
    let name = match &origin.table {
        Some(name) => {
            name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
        }
        None => table(tool).to_owned(),
    };
    let table = name.as_str();
    if !there(db, table, notes)? {
        return Ok(None);
    }
    let first = |rows: Vec<Vec<Option<String>>>| rows.into_iter().filter_map(|row| row.into_iter().next()?).collect();
    Ok(Some(match tool {
        Tool::Dbmate => {
            if db.query(&format!("SELECT dirty FROM {table}")).is_ok() {
                let cause = format!("the table {table} of {} is that of golang-migrate", db.title());
                return Err(refused(cause, "backout import --from golang-migrate"));
            }
            first(ask(db, &format!("SELECT version FROM {table}"))?)
        }
        Tool::GolangMigrate => golang_migrate(db, table, found)?,
        Tool::Sqlx => sqlx(db, table, found, notes)?,
        Tool::Goose => goose(db, table)?,
        Tool::Flyway => flyway(db, table, found)?,
        Tool::Refinery => first(ask(db, &format!("SELECT version FROM {table}"))?),
        Tool::Diesel => first(ask(db, &format!("SELECT version FROM {table}"))?),
        Tool::Yoyo | Tool::Alembic => first(ask(db, &format!("SELECT migration_id FROM {table}"))?),
    }))
}

/// It knows the last one alone.
fn golang_migrate(db: &mut dyn Database, table: &str, found: &[Found]) -> Result<Vec<String>> {
    let rows = ask(db, &format!("SELECT version, dirty FROM {table}"))?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let version = column(row, 0);
    if yes(column(row, 1)) {
        return Err(refused(
            format!("golang-migrate stopped within version {version} in {}: it is marked dirty", db.title()),
            "look what of it was done, undo or finish that by hand, then: migrate force VERSION (the last whole one)",
        ));
    }
    if version.starts_with('-') {
        return Ok(Vec::new());
    }
    let before = found.iter().map(|one| &one.version).filter(|v| order(v) < order(version));
    Ok(before.cloned().chain([version.to_owned()]).collect())
}

fn sqlx(db: &mut dyn Database, table: &str, found: &[Found], notes: &mut Vec<String>) -> Result<Vec<String>> {
    let rows = ask(db, &format!("SELECT version, success, checksum FROM {table} ORDER BY version"))?;
    let mut versions = Vec::new();
    let mut edited = Vec::new();
    for row in &rows {
        let version = column(row, 0);
        if !yes(column(row, 1)) {
            return Err(refused(
                format!("sqlx failed within version {version} in {}, and may have left a part of it", db.title()),
                format!("undo or finish it by hand, then remove its row, or set success, in {table}"),
            ));
        }
        let file = found.iter().find(|one| same(&one.version, version)).map(|one| &one.up.file);
        if let Some(bytes) = file.and_then(|file| std::fs::read(file).ok())
            && hex(&sha2::Sha384::digest(&bytes)) != column(row, 2)
        {
            edited.push(version.to_owned());
        }
        versions.push(version.to_owned());
    }
    if !edited.is_empty() {
        notes.push(format!("edited since sqlx ran them, and taken over as they are now: {}", listed(&edited)));
    }
    Ok(versions)
}

/// A row for each step up and, in earlier releases, each step down: the last one counts.
fn goose(db: &mut dyn Database, table: &str) -> Result<Vec<String>> {
    let mut versions: Vec<String> = Vec::new();
    for row in ask(db, &format!("SELECT version_id, is_applied FROM {table} ORDER BY id"))? {
        let version = column(&row, 0).to_owned();
        versions.retain(|v| *v != version);
        // it writes version 0 when it makes the table
        if yes(column(&row, 1)) && version != "0" {
            versions.push(version);
        }
    }
    Ok(versions)
}

fn flyway(db: &mut dyn Database, table: &str, found: &[Found]) -> Result<Vec<String>> {
    let sql = format!("SELECT version, type, success FROM {table} ORDER BY installed_rank");
    let mut versions: Vec<String> = Vec::new();
    for row in ask(db, &sql)? {
        let (version, kind) = (super::flyway::plain(column(&row, 0)), column(&row, 1));
        if !yes(column(&row, 2)) {
            return Err(refused(
                format!("Flyway failed within version {version} in {}", db.title()),
                "undo or finish it by hand, then: flyway repair",
            ));
        }
        if version.is_empty() || kind == "SCHEMA" {
            continue;
        }
        versions.retain(|v| *v != version);
        if kind.starts_with("UNDO") || kind == "DELETE" {
            continue;
        }
        if kind.ends_with("BASELINE") {
            let counts = |one: &&Found| super::flyway::order(&one.version) <= super::flyway::order(&version);
            versions.extend(found.iter().filter(counts).map(|one| super::flyway::plain(&one.version)));
            continue;
        }
        versions.push(version);
    }
    Ok(versions)
}

/// Whether two spellings are of one version: as numbers if they are.
fn same(one: &str, other: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(one) && digits(other) { order(one) == order(other) } else { one == other }
}

/// The stamps of what is applied. Refused if there is no file of something that is, but it is older than all files.
pub(super) fn settle(
    found: &[Found],
    applied: Vec<String>,
    tool: Tool,
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let key = |version: &str| {
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
            match tool {
                Tool::Flyway => super::flyway::plain(version),
                _ => version.to_owned(),
            }
        } else {
            match version.trim_start_matches('0') {
                "" => "0".to_owned(),
                digits => digits.to_owned(),
            }
        }
    };
    let places: HashMap<String, usize> = found.iter().enumerate().map(|(i, one)| (key(&one.version), i)).collect();
    let mut is = vec![false; found.len()];
    let mut before = Vec::new();
    for version in applied {
        match places.get(&key(&version)) {
            Some(place) => is[*place] = true,
            None => before.push(version),
        }
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let oldest = found.first().map(|one| one.version.as_str()).filter(|v| digits(v));
    let gone: Vec<String> =
        before.iter().filter(|v| !digits(v) || oldest.is_none_or(|oldest| order(v) > order(oldest))).cloned().collect();
    if !gone.is_empty() {
        return Err(refused(
            format!("{} has applied what is not in the folder: {}", tool.name(), listed(&gone)),
            "import the folder as it was when they ran, or take them back with that tool first",
        ));
    }
    if !before.is_empty() {
        let list = listed(&before);
        notes.push(format!("applied before the first file of the folder, and in no history of ours: {list}"));
    }
    let last = is.iter().rposition(|applied| *applied);
    let gaps: Vec<String> = found
        .iter()
        .zip(&is)
        .take(last.unwrap_or(0))
        .filter(|(_, is)| !**is)
        .map(|(one, _)| one.version.clone())
        .collect();
    if !gaps.is_empty() {
        notes.push(format!("not applied, though later ones are: {}", listed(&gaps)));
    }
    Ok(found.iter().zip(is).filter(|(_, is)| *is).map(|(one, _)| one.stamp.clone()).collect())
}
