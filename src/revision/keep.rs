//! What an up or a down destroys is kept first, under its key, to be put back by the opposite step.
//!
//! It covers what DDL takes away: tables that are dropped, columns that are dropped or get another type. What is kept lies in the schema
//! `migration_backup` (in SQLite in tables `migration_backup__…`). A row that was not touched since gets back what it had; of one that was
//! changed, what the opposite step made of it wins, where that made anything, and the conflict is told.

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Column, Table};
use super::database::Database;
use super::trace::Trace;
use super::{Error, Result, Statement, sql};
use crate::plan::Kind;
use crate::value::{Row, Value};

/// Something that one way of a revision takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The table that it is kept in, quoted.
    pub kept: String,
    /// The table that it is taken from, quoted, as it is called before.
    pub table: String,
    /// Columns, quoted, that are kept as text, so that what is kept does not hold on to a type that goes as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_text: Vec<String>,
    /// What it is.
    pub lost: Lost,
}

/// What is lost of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// All of it.
    Table {
        /// Its columns that can be put, quoted.
        columns: Vec<String>,
        /// Its key, quoted; may be empty.
        key: Vec<String>,
    },
    /// Some columns, or what their type could hold.
    Columns {
        /// The table as it is called afterwards, quoted.
        after: String,
        /// The columns that tell its rows apart.
        key: Vec<KeyColumn>,
        /// The columns.
        columns: Vec<LostColumn>,
        /// All columns afterwards, quoted, in the order of their names: by them it is told whether a row was changed.
        rest: Vec<String>,
        /// What is not of the key tells the rows apart as well, so that a row can be found whose key was changed, and nothing else.
        #[serde(default)]
        follows: bool,
    },
}

/// A column of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name before, quoted.
    pub before: String,
    /// Its name afterwards, quoted.
    pub after: String,
    /// It has the same type afterwards, and is kept as one of it.
    pub alike: bool,
    /// SQLite: it is a key, and may be NULL all the same.
    pub nullable: bool,
}

/// A column that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostColumn {
    /// Its name before, quoted.
    pub name: String,
    /// Its default before: a value that nobody chose.
    pub default: Option<String>,
    /// The database gives each row another value: a number, a random one, the time.
    pub given: bool,
    /// It stays under this name, quoted, with another type.
    pub retyped: Option<String>,
}

impl Loss {
    /// For people: `the table "a"`, `columns b, c of "a"`.
    pub fn words(&self) -> String {
        match &self.lost {
            Lost::Table { .. } => format!("the table {}", self.table),
            Lost::Columns { columns, .. } => {
                let names = columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
                format!("{names} of {}", self.table)
            }
        }
    }
}

impl Loss {
    /// A column as it is taken into the table that it is kept in, where it is called `kept`.
    fn taken(&self, column: &str, kept: &str) -> String {
        let cast = if self.as_text.iter().any(|name| name == column) { "::text" } else { "" };
        format!("{column}{cast} AS {kept}")
    }

    /// What is kept as text: its name in the table it comes from, and in the one it is kept in.
    pub(super) fn texts(&self) -> Vec<(&str, String)> {
        let all: Vec<(&str, String)> = match &self.lost {
            Lost::Table { columns, .. } => columns.iter().map(|c| (c.as_str(), c.clone())).collect(),
            Lost::Columns { key, columns, .. } => {
                let keys = key.iter().enumerate().map(|(i, c)| (c.before.as_str(), format!("k{i}")));
                keys.chain(columns.iter().enumerate().map(|(i, c)| (c.name.as_str(), format!("c{i}")))).collect()
            }
        };
        all.into_iter().filter(|(name, _)| self.as_text.iter().any(|text| text == name)).collect()
    }
}

/// What goes when a schema `before` becomes `after` by these statements. `way` is `up` or `down`.
pub fn losses(before: &Catalog, after: &Catalog, statements: &[Statement], stamp: &str, way: &str) -> Vec<Loss> {
    let kind = before.kind;
    let trace = Trace::of(before, statements);
    let mut losses = Vec::new();
    for table in before.tables() {
        let short: String =
            table.name.name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(20).collect();
        let name = format!("{stamp}_{way}_{}_{short}", losses.len() + 1);
        let kept = match kind {
            Kind::Sqlite => format!("\"migration_backup__{name}\""),
            _ => format!("migration_backup.\"{name}\""),
        };
        let lost = match trace.table(table, after) {
            None => {
                let stored = table.columns.iter().filter(|c| c.generated.is_none());
                Lost::Table { columns: stored.map(|c| c.quoted().to_owned()).collect(), key: quoted(table, &table.key) }
            }
            Some(now) => {
                let lost = lost_columns(kind, table, now, &trace);
                match key(kind, table, now, &trace).filter(|_| !lost.is_empty()) {
                    Some(key) => columns(kind, now, key, lost),
                    None => continue,
                }
            }
        };
        let as_text = table.columns.iter().filter(|c| kind == Kind::Postgres && of_a_user(&c.ty));
        let as_text = as_text.map(|c| c.quoted().to_owned()).collect();
        losses.push(Loss { kept, table: table.name.quoted().to_owned(), as_text, lost });
    }
    losses
}

/// A type of PostgreSQL's that is not the server's own: it is written with its schema.
fn of_a_user(ty: &str) -> bool {
    ty.contains('.')
}

/// What goes and cannot be kept, as nothing tells the rows apart that it belongs to: tables, and the columns' names in words.
pub fn keyless(before: &Catalog, after: &Catalog, statements: &[Statement]) -> Vec<(String, String)> {
    let trace = Trace::of(before, statements);
    let mut found = Vec::new();
    for table in before.tables() {
        let Some(now) = trace.table(table, after) else { continue };
        let lost = lost_columns(before.kind, table, now, &trace);
        if !lost.is_empty() && key(before.kind, table, now, &trace).is_none() {
            let names = lost.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            found.push((table.name.quoted().to_owned(), names));
        }
    }
    found
}

/// Columns that go from a table, or get another type.
fn lost_columns(kind: Kind, table: &Table, now: &Table, trace: &Trace) -> Vec<LostColumn> {
    let mut lost = Vec::new();
    for column in table.columns.iter().filter(|c| c.generated.is_none()) {
        let retyped = match trace.column(table, column, now) {
            Some(there) if there.ty == column.ty && there.generated.is_none() => continue,
            other => other.map(|there| there.quoted().to_owned()),
        };
        let default = column.default.clone();
        let changing = |d: &String| sql::words(d, kind).iter().any(|word| VOLATILE.contains(&word.as_str()));
        let given = column.identity.is_some() && kind == Kind::Postgres || default.as_ref().is_some_and(changing);
        lost.push(LostColumn { name: column.quoted().to_owned(), default, given, retyped });
    }
    lost
}

/// What gives another value each time.
pub(super) const VOLATILE: &[&str] = &[
    "RANDOM",
    "RANDOMBLOB",
    "NOW",
    "CLOCK_TIMESTAMP",
    "STATEMENT_TIMESTAMP",
    "CURRENT_TIMESTAMP",
    "CURRENT_TIME",
    "CURRENT_DATE",
    "GEN_RANDOM_UUID",
    "UUID_GENERATE_V4",
    "NEXTVAL",
    "TXID_CURRENT",
];

/// The columns that tell a table's rows apart, before and afterwards.
fn key(kind: Kind, table: &Table, now: &Table, trace: &Trace) -> Option<Vec<KeyColumn>> {
    let column = |name: &String| table.columns.iter().find(|c| c.name == *name);
    let stays = |name: &String| column(name).is_some_and(|c| trace.column(table, c, now).is_some());
    let certain = |name: &String| column(name).is_some_and(|c| c.not_null);
    let unique = table.unique.iter().filter(|key| key.iter().all(certain));
    let key = std::iter::once(&table.key).chain(unique).find(|key| !key.is_empty() && key.iter().all(stays))?;
    let key = key.iter().filter_map(|name| {
        let column = column(name)?;
        let there = trace.column(table, column, now)?;
        Some(KeyColumn {
            before: column.quoted().to_owned(),
            after: there.quoted().to_owned(),
            alike: there.ty == column.ty && !(kind == Kind::Postgres && of_a_user(&column.ty)),
            nullable: kind == Kind::Sqlite && !column.not_null && column.identity.is_none(),
        })
    });
    Some(key.collect())
}

fn columns(kind: Kind, now: &Table, key: Vec<KeyColumn>, columns: Vec<LostColumn>) -> Lost {
    let of_key = |c: &Column| key.iter().any(|k| k.after == c.quoted());
    let certain = |name: &String| now.columns.iter().any(|c| c.name == *name && c.not_null && !of_key(c));
    let plain = |k: &KeyColumn| k.alike || kind == Kind::Sqlite;
    let mut others = std::iter::once(&now.key).chain(&now.unique);
    let follows = key.iter().all(plain) && others.any(|other| !other.is_empty() && other.iter().all(certain));
    let mut rest: Vec<&Column> = now.columns.iter().collect();
    rest.sort_by(|a, b| a.name.cmp(&b.name));
    let rest = rest.iter().map(|c| c.quoted().to_owned()).collect();
    Lost::Columns { after: now.name.quoted().to_owned(), key, columns, rest, follows }
}

fn quoted(table: &Table, names: &[String]) -> Vec<String> {
    names.iter().filter_map(|n| table.columns.iter().find(|c| c.name == *n)).map(|c| c.quoted().to_owned()).collect()
}

/// Keeps what is about to be lost. Within the step's transaction, before its first statement.
pub fn keep(db: &mut dyn Database, losses: &[Loss]) -> Result<()> {
    if losses.is_empty() {
        return Ok(());
    }
    if db.kind() == Kind::Postgres
        && db.query("SELECT 1 WHERE to_regnamespace('migration_backup') IS NOT NULL")?.is_empty()
    {
        db.run("CREATE SCHEMA migration_backup")?;
    }
    for loss in losses {
        let forced = see_all(db, &loss.table)?;
        if is_there(db, &loss.kept)? {
            set_aside(db, &loss.kept)?;
        }
        let list = match &loss.lost {
            Lost::Table { columns, .. } => {
                columns.iter().map(|name| loss.taken(name, name)).collect::<Vec<_>>().join(", ")
            }
            Lost::Columns { key, columns, follows, .. } => {
                told_apart(db, loss, key)?;
                let body = follows.then(|| "CAST(NULL AS text) AS body_then".to_owned());
                let keys = key.iter().enumerate().map(|(i, column)| loss.taken(&column.before, &format!("k{i}")));
                let values = columns.iter().enumerate().map(|(i, column)| loss.taken(&column.name, &format!("c{i}")));
                let then = columns.iter().enumerate().filter(|(_, c)| c.retyped.is_some());
                let then = then.map(|(i, _)| format!("CAST(NULL AS text) AS then{i}"));
                let all =
                    keys.chain(values).chain(then).chain(["CAST(NULL AS text) AS row_then".to_owned()]).chain(body);
                all.collect::<Vec<_>>().join(", ")
            }
        };
        let list = if list.is_empty() { "1".to_owned() } else { list };
        db.run(&format!("CREATE TABLE {} AS SELECT {list} FROM {}", loss.kept, loss.table))?;
        if let Lost::Columns { key, .. } = &loss.lost {
            let keys: Vec<String> = (0..key.len()).map(|i| format!("k{i}")).collect();
            db.run(&format!("CREATE INDEX {} ON {} ({})", index_of(&loss.kept), loss.kept, keys.join(", ")))?;
        }
        keep_numbers(db, loss)?;
        see_as_before(db, forced)?;
    }
    Ok(())
}

/// PostgreSQL: no row of a table is hidden from us by row security; where that cannot be, to read it is an error. Within a transaction.
/// Returns the statement that makes it as it was.
pub(super) fn see_all(db: &mut dyn Database, table: &str) -> Result<Option<String>> {
    if db.kind() != Kind::Postgres {
        return Ok(None);
    }
    db.run("SET LOCAL row_security = off")?;
    let forced = "SELECT 1 FROM pg_catalog.pg_class WHERE relforcerowsecurity AND pg_has_role(relowner, 'USAGE')";
    if db.query(&format!("{forced} AND oid = to_regclass({})", text(table)))?.is_empty() {
        return Ok(None);
    }
    db.run(&format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"))?;
    Ok(Some(format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY")))
}

/// Row security as it was.
pub(super) fn see_as_before(db: &mut dyn Database, forced: Option<String>) -> Result<()> {
    if let Some(sql) = forced {
        db.run(&sql)?;
    }
    if db.kind() == Kind::Postgres {
        db.run("SET LOCAL row_security TO DEFAULT")?;
    }
    Ok(())
}

/// What lies there already was not put back: it gets another name, which is returned, and stays.
pub(super) fn set_aside(db: &mut dyn Database, kept: &str) -> Result<String> {
    let mut n = 1;
    let aside = |n: u32| format!("{}_{n}\"", kept.trim_end_matches('"'));
    while is_there(db, &aside(n))? {
        n += 1;
    }
    // a RENAME of SQLite's fails where a view anywhere is broken
    db.run(&format!("CREATE TABLE {} AS SELECT * FROM {kept}", aside(n)))?;
    db.run(&format!("DROP TABLE {kept}"))?;
    db.run(&format!("DROP TABLE IF EXISTS {}", numbers_of(kept)))?;
    Ok(aside(n))
}

/// Refuses rows that share a key: in SQLite one that is NULL.
fn told_apart(db: &mut dyn Database, loss: &Loss, key: &[KeyColumn]) -> Result<()> {
    let absent: Vec<String> = key.iter().filter(|c| c.nullable).map(|c| format!("{} IS NULL", c.before)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let names = key.iter().map(|c| c.before.as_str()).collect::<Vec<_>>().join(", ");
    let (table, absent) = (&loss.table, absent.join(" OR "));
    let twice = format!("SELECT 1 FROM {table} WHERE {absent} GROUP BY {names} HAVING count(*) > 1 LIMIT 1");
    if db.query(&twice)?.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        cause: format!(
            "rows of {table} have NULL as their key ({names}): what {} held could not be put back",
            loss.words()
        ),
        hint: "give those rows a key first".into(),
    })
}

fn index_of(kept: &str) -> String {
    format!("\"{}_key\"", kept.replace("migration_backup.", "").replace('"', ""))
}

/// Where the numbers are kept that were given last.
pub(crate) fn numbers_of(kept: &str) -> String {
    format!("{}_n\"", kept.trim_end_matches('"'))
}

/// The numbers that the table or its lost columns gave last.
fn keep_numbers(db: &mut dyn Database, loss: &Loss) -> Result<()> {
    let numbers = numbers_of(&loss.kept);
    if db.kind() != Kind::Postgres {
        let counts = !db.query("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'")?.is_empty();
        if counts && matches!(loss.lost, Lost::Table { .. }) {
            let name = text(&plain(&loss.table));
            let found = format!("SELECT name, seq FROM sqlite_sequence WHERE name = {name} COLLATE NOCASE");
            if !db.query(&found)?.is_empty() {
                db.run(&format!("CREATE TABLE {numbers} AS {found}"))?;
            }
        }
        return Ok(());
    }
    let all: Vec<&str> = match &loss.lost {
        Lost::Table { columns, .. } => columns.iter().map(String::as_str).collect(),
        Lost::Columns { columns, .. } => columns.iter().map(|c| c.name.as_str()).collect(),
    };
    let mut made = false;
    for (column, sequence) in sequences(db, &loss.table)? {
        if !all.iter().any(|name| plain(name) == column) {
            continue;
        }
        if !made {
            db.run(&format!("CREATE TABLE {numbers} (name text, seq bigint)"))?;
            made = true;
        }
        let name = text(&column);
        db.run(&format!("INSERT INTO {numbers} SELECT {name}, last_value FROM {sequence} WHERE is_called"))?;
    }
    Ok(())
}

/// PostgreSQL: columns that take their value from a sequence of their own, and the sequences.
pub(super) fn sequences(db: &mut dyn Database, table: &str) -> Result<Vec<(String, String)>> {
    let rows = db.query(&format!(
        "SELECT a.attname, s FROM pg_catalog.pg_attribute a, LATERAL pg_get_serial_sequence({0}, a.attname::text) s \
         WHERE a.attrelid = to_regclass({0}) AND a.attnum > 0 AND NOT a.attisdropped AND s IS NOT NULL",
        text(table)
    ))?;
    Ok(rows.iter().filter_map(|row| Some((words(row.first()?), words(row.get(1)?)))).collect())
}

/// Notes how rows look right after the step, to tell later which were changed. Within its transaction, after its last statement.
pub fn note_rows(db: &mut dyn Database, losses: &[Loss]) -> Result<()> {
    for loss in losses {
        let Lost::Columns { after, rest, columns, follows, .. } = &loss.lost else { continue };
        let (kept, on) = (&loss.kept, on(db.kind(), loss));
        let mut set = vec![format!("row_then = {}", digest(db.kind(), rest))];
        if *follows {
            set.push(format!("body_then = {}", digest(db.kind(), &body(loss))));
        }
        for (i, column) in columns.iter().enumerate() {
            let Some(name) = &column.retyped else { continue };
            set.push(format!("then{i} = {}", digest(db.kind(), std::slice::from_ref(name))));
        }
        let forced = see_all(db, after)?;
        db.run(&format!("UPDATE {kept} SET {} FROM {after} AS t WHERE {on}", set.join(", ")))?;
        see_as_before(db, forced)?;
    }
    Ok(())
}

/// Forgets how rows looked that were changed since: for them the opposite step's own word counts. Before that step's first statement.
pub fn mark_changed(db: &mut dyn Database, losses: &[Loss]) -> Result<()> {
    for loss in losses {
        let Lost::Columns { after, rest, columns, .. } = &loss.lost else { continue };
        if !is_there(db, &loss.kept)? {
            continue;
        }
        let forced = see_all(db, after)?;
        follow(db, loss)?;
        let (kept, on) = (&loss.kept, on(db.kind(), loss));
        let mut forget = |name: &str, digest: String| {
            db.run(&format!("UPDATE {kept} SET {name} = NULL FROM {after} AS t WHERE {on} AND {name} <> {digest}"))
        };
        let kind = if matches!(kept.as_bytes().first(), Some(b'"')) { Kind::Sqlite } else { Kind::Postgres };
        forget("row_then", digest(kind, rest))?;
        for (i, column) in columns.iter().enumerate() {
            let Some(name) = &column.retyped else { continue };
            forget(&format!("then{i}"), digest(kind, std::slice::from_ref(name)))?;
        }
        see_as_before(db, forced)?;
    }
    Ok(())
}

/// Has what is kept of a row go with it, where it has got another key since and is the same but for that. What was kept under that key is of
/// another row, which is not known any more.
fn follow(db: &mut dyn Database, loss: &Loss) -> Result<()> {
    let Lost::Columns { after, key, follows: true, .. } = &loss.lost else { return Ok(()) };
    let (kept, on) = (&loss.kept, on(db.kind(), loss));
    let list = |part: &dyn Fn(usize, &KeyColumn) -> String, between: &str| {
        key.iter().enumerate().map(|(i, c)| part(i, c)).collect::<Vec<_>>().join(between)
    };
    let named = list(&|i, c| format!("t.{} AS k{i}", c.after), ", ");
    let set = list(&|i, _| format!("k{i} = moved.k{i}"), ", ");
    let body = digest(db.kind(), &body(loss));
    db.run(&format!(
        "WITH moved AS MATERIALIZED (SELECT {body} AS body, {named} FROM {after} AS t \
         WHERE NOT EXISTS (SELECT 1 FROM {kept} WHERE {on} AND body_then = {body})) \
         UPDATE {kept} SET {set}, body_then = '{FOLLOWED}' FROM moved WHERE body_then = moved.body"
    ))?;
    let same = list(&|i, c| format!("f.k{i} {} {kept}.k{i}", c.equals()), " AND ");
    Ok(db.run(&format!(
        "UPDATE {kept} SET body_then = '{GONE}' WHERE body_then <> '{FOLLOWED}' \
         AND EXISTS (SELECT 1 FROM {kept} AS f WHERE f.body_then = '{FOLLOWED}' AND {same})"
    ))?)
}

/// In place of a row's digest: it has got another key, and what is kept has that, too.
const FOLLOWED: &str = "followed";

/// In place of a row's digest: whatever has this key now is another row.
pub(super) const GONE: &str = "gone";

/// A row's columns that are not of its key.
fn body(loss: &Loss) -> Vec<String> {
    let Lost::Columns { key, rest, .. } = &loss.lost else { return Vec::new() };
    rest.iter().filter(|name| !key.iter().any(|k| k.after == **name)).cloned().collect()
}

/// Whether what is kept here can be found.
pub fn is_there(db: &mut dyn Database, kept: &str) -> Result<bool> {
    let asked = match db.kind() {
        Kind::Sqlite => format!("SELECT 1 FROM sqlite_schema WHERE name = {}", text(kept.trim_matches('"'))),
        _ => format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", text(kept)),
    };
    Ok(!db.query(&asked)?.is_empty())
}

/// Tables in which something is kept, quoted, each with its bare name.
pub fn all_kept(db: &mut dyn Database) -> Result<Vec<(String, String)>> {
    let (asked, prefix) = match db.kind() {
        Kind::Sqlite => (
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'migration_backup__*' ORDER BY name",
            "migration_backup__",
        ),
        _ => (
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND n.nspname = 'migration_backup' ORDER BY c.relname",
            "",
        ),
    };
    let rows = db.query(asked)?;
    let names = rows.iter().filter_map(|row| row.first()).map(words);
    // a migration's source may rest beside them
    let ours = |name: &String| {
        let mut parts = name.strip_prefix(prefix).unwrap_or_default().splitn(4, '_');
        let number = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        number(parts.next()) && matches!(parts.next(), Some("up" | "down")) && number(parts.next())
    };
    let place = if db.kind() == Kind::Postgres { "migration_backup." } else { "" };
    Ok(names
        .filter(ours)
        .map(|name| (format!("{place}\"{name}\""), name.strip_prefix(prefix).unwrap_or(&name).to_owned()))
        .collect())
}

/// The revision that a table keeps something of.
pub fn stamp_of(kept: &str) -> &str {
    let bare = kept.trim_start_matches("migration_backup.").trim_matches('"').trim_start_matches("migration_backup__");
    bare.split('_').next().unwrap_or_default()
}

/// What one way of a revision took away and is still kept, for people: a script without a transaction puts nothing back.
pub(super) fn still_kept(db: &mut dyn Database, stamp: &str, way: &str) -> Result<Vec<String>> {
    let all = all_kept(db)?;
    let begins = format!("{stamp}_{way}_");
    // the numbers of another one are no rows of anybody's
    let rows = |kept: &String| !all.iter().any(|(other, _)| numbers_of(other) == *kept);
    let mine = all.iter().filter(|(kept, bare)| bare.starts_with(&begins) && rows(kept));
    let told =
        |(kept, _): &(String, String)| format!("not put back, as it runs outside a transaction: what is in {kept}");
    Ok(mine.map(told).collect())
}

/// Whether anything is kept under a name that begins so.
pub(super) fn lies_there(db: &mut dyn Database, begins: &str) -> Result<bool> {
    Ok(all_kept(db)?.iter().any(|(_, bare)| bare.starts_with(begins)))
}

/// The kept row (without a name of its own) of the row `t` as the table is afterwards.
fn on(kind: Kind, loss: &Loss) -> String {
    let Lost::Columns { key, .. } = &loss.lost else { return "1 = 0".to_owned() };
    let kept = &loss.kept;
    let part = |(i, column): (usize, &KeyColumn)| match (column.alike, kind) {
        (false, Kind::Postgres) => format!("t.{}::text = {kept}.k{i}::text", column.after),
        _ => format!("t.{} {} {kept}.k{i}", column.after, column.equals()),
    };
    key.iter().enumerate().map(part).collect::<Vec<_>>().join(" AND ")
}

impl KeyColumn {
    /// How it is held against another value.
    pub(super) fn equals(&self) -> &'static str {
        if self.nullable { "IS" } else { "=" }
    }
}

/// One text for all values of a row `t`.
fn digest(kind: Kind, columns: &[String]) -> String {
    let part = |column: &String| match kind {
        Kind::Sqlite => format!("t.{column}"),
        _ => format!("quote_nullable(t.{column}::text)"),
    };
    let parts: Vec<String> = columns.iter().map(part).collect();
    match kind {
        Kind::Sqlite => format!("backout_digest({})", parts.join(", ")),
        _ => format!("md5({})", parts.join(" || ',' || ")),
    }
}

/// A quoted identifier without its quotes.
pub(super) fn plain(name: &str) -> String {
    match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn words(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => super::sample::literal(other),
    }
}

/// How many rows are kept of each loss, or would be.
pub fn counted(db: &mut dyn Database, losses: &[Loss]) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for loss in losses {
        let rows: Vec<Row> = db.query(&format!("SELECT count(*) FROM {}", loss.table))?;
        let n = rows.first().and_then(|row| row.first()).map(words).and_then(|n| n.parse().ok()).unwrap_or_default();
        all.push((loss.words(), n));
    }
    Ok(all)
}
