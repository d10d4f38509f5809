//! What an up or a down destroys is kept first, under its key, and put back by the opposite step.
//!
//! It covers what DDL takes away: tables that are dropped, columns that are dropped or get another type. What is kept lies in the schema
//! `migration_backup` (in SQLite in tables `migration_backup__…`). A row that was not touched since gets back what it had; of one that was
//! changed, what the opposite step made of it wins, where that made anything, and the conflict is told.

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Column, Table};
use super::database::Database;
use super::look::{Alteration, Look, same};
use super::{Result, Statement, sql};
use crate::plan::Kind;
use crate::value::{Row, Value};

/// Something that one way of a revision takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The table that it is kept in, quoted.
    pub kept: String,
    /// The table that it is taken from, quoted, as it is called before.
    pub table: String,
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
        /// The key's columns before and after, quoted, and whether they have the same type.
        key: Vec<(String, String, bool)>,
        /// The columns.
        columns: Vec<LostColumn>,
        /// All columns afterwards, quoted, in the order of their names: by them it is told whether a row was changed.
        rest: Vec<String>,
    },
}

/// A column that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostColumn {
    /// Its name before, quoted.
    pub name: String,
    /// Its default before: a value that nobody chose.
    pub default: Option<String>,
    /// It stays, with another type.
    pub retyped: bool,
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

/// What goes when a schema `before` becomes `after` by these statements. `way` is `up` or `down`.
pub fn losses(before: &Catalog, after: &Catalog, statements: &[Statement], stamp: &str, way: &str) -> Vec<Loss> {
    let kind = before.kind;
    let names = Renames::of(statements, kind);
    let mut losses = Vec::new();
    for table in before.tables() {
        let short: String = table.name.name.chars().filter(|c| c.is_alphanumeric() || *c == '_').take(20).collect();
        let name = format!("{stamp}_{way}_{}_{short}", losses.len() + 1);
        let kept = match kind {
            Kind::Sqlite => format!("\"migration_backup__{name}\""),
            _ => format!("migration_backup.\"{name}\""),
        };
        let lost = match names.table(table, after) {
            None => Lost::Table {
                columns: table
                    .columns
                    .iter()
                    .filter(|c| c.generated.is_none())
                    .map(|c| c.quoted().to_owned())
                    .collect(),
                key: quoted(table, &table.key),
            },
            Some(now) => match columns(table, now, &names) {
                Some(lost) => lost,
                None => continue,
            },
        };
        losses.push(Loss { kept, table: table.name.quoted().to_owned(), lost });
    }
    losses
}

/// Columns that go from a table; `None` where none does, or nothing tells its rows apart.
fn columns(table: &Table, now: &Table, names: &Renames) -> Option<Lost> {
    let called = |column: &Column| names.column(table, &column.name);
    let find = |column: &Column| now.columns.iter().find(|c| same_name(&c.name, &called(column)));
    let mut lost = Vec::new();
    for column in table.columns.iter().filter(|c| c.generated.is_none()) {
        let retyped = match find(column) {
            Some(there) if there.ty == column.ty && there.generated.is_none() => continue,
            other => other.is_some(),
        };
        lost.push(LostColumn { name: column.quoted().to_owned(), default: column.default.clone(), retyped });
    }
    if lost.is_empty() {
        return None;
    }
    let certain = |key: &&Vec<String>| {
        key.iter().all(|name| {
            table
                .columns
                .iter()
                .any(|c| c.name == *name && (c.not_null || table.key.contains(name)) && find(c).is_some())
        })
    };
    let key = std::iter::once(&table.key).chain(&table.unique).filter(|key| !key.is_empty()).find(certain)?;
    let key = key.iter().filter_map(|name| {
        let column = table.columns.iter().find(|c| c.name == *name)?;
        let there = find(column)?;
        Some((column.quoted().to_owned(), there.quoted().to_owned(), there.ty == column.ty))
    });
    let mut rest: Vec<&Column> = now.columns.iter().collect();
    rest.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Lost::Columns {
        after: now.name.quoted().to_owned(),
        key: key.collect(),
        columns: lost,
        rest: rest.iter().map(|c| c.quoted().to_owned()).collect(),
    })
}

fn quoted(table: &Table, names: &[String]) -> Vec<String> {
    names.iter().filter_map(|n| table.columns.iter().find(|c| c.name == *n)).map(|c| c.quoted().to_owned()).collect()
}

fn same_name(a: &str, b: &str) -> bool {
    a == b || a.eq_ignore_ascii_case(b)
}

/// Renames that a script makes, in its order.
struct Renames {
    tables: Vec<(String, String)>,
    columns: Vec<(String, String, String)>,
    kind: Kind,
}

impl Renames {
    fn of(statements: &[Statement], kind: Kind) -> Renames {
        let mut names = Renames { tables: Vec::new(), columns: Vec::new(), kind };
        for statement in statements {
            let look = Look { kind, tokens: sql::tokens(&statement.sql, kind).collect() };
            for action in look.actions() {
                let table = action.table.clone();
                match (Look { kind, tokens: action.tokens }).alteration() {
                    Alteration::RenameTable(to) => names.tables.push((table, to)),
                    Alteration::RenameColumn { from, to } => names.columns.push((table, from, to)),
                    _ => {}
                }
            }
        }
        names
    }

    fn spelled(&self, table: &Table) -> String {
        let name = match &table.name.schema {
            Some(schema) => format!("{schema}.{}", table.name.name),
            None => table.name.name.clone(),
        };
        if self.kind == Kind::Sqlite { name.to_ascii_lowercase() } else { name }
    }

    /// The table that `table` is afterwards: the one it was renamed to, else the one of its name.
    fn table<'a>(&self, table: &Table, after: &'a Catalog) -> Option<&'a Table> {
        let mut name = self.spelled(table);
        for (from, to) in &self.tables {
            if same(&name, from) {
                name = match name.rsplit_once('.') {
                    Some((schema, _)) if !to.contains('.') => format!("{schema}.{to}"),
                    _ => to.clone(),
                };
            }
        }
        let named = |name: &str| after.tables().iter().find(|t| self.spelled(t) == name);
        named(&name).or_else(|| named(&self.spelled(table)))
    }

    /// What a column of `table` is called afterwards.
    fn column(&self, table: &Table, column: &str) -> String {
        let mut name = column.to_owned();
        let spelled = self.spelled(table);
        for (of, from, to) in &self.columns {
            let renamed = self.tables.iter().any(|(a, b)| same(&spelled, a) && same(of, b));
            if (same(&spelled, of) || renamed) && same_name(&name, from) {
                name.clone_from(to);
            }
        }
        name
    }
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
        db.run(&format!("DROP TABLE IF EXISTS {}", loss.kept))?;
        let list = match &loss.lost {
            Lost::Table { columns, .. } => columns.join(", "),
            Lost::Columns { key, columns, .. } => {
                let keys = key.iter().enumerate().map(|(i, (name, ..))| format!("{name} AS k{i}"));
                let values = columns.iter().enumerate().map(|(i, column)| format!("{} AS c{i}", column.name));
                let all: Vec<String> =
                    keys.chain(values).chain(["CAST(NULL AS text) AS row_then".to_owned()]).collect();
                all.join(", ")
            }
        };
        let list = if list.is_empty() { "1".to_owned() } else { list };
        db.run(&format!("CREATE TABLE {} AS SELECT {list} FROM {}", loss.kept, loss.table))?;
        if let Lost::Columns { key, .. } = &loss.lost {
            let keys: Vec<String> = (0..key.len()).map(|i| format!("k{i}")).collect();
            let (table, index) = (&loss.kept, loss.kept.replace("migration_backup.", "").replace('"', ""));
            let short: String = index.chars().rev().take(50).collect::<Vec<_>>().into_iter().rev().collect();
            db.run(&format!("CREATE INDEX \"{short}_key\" ON {table} ({})", keys.join(", ")))?;
        }
    }
    Ok(())
}

/// Notes how rows look right after the step, to tell later which were changed. Within its transaction, after its last statement.
pub fn note_rows(db: &mut dyn Database, losses: &[Loss]) -> Result<()> {
    for loss in losses {
        let Lost::Columns { after, rest, .. } = &loss.lost else { continue };
        let (kept, digest, on) = (&loss.kept, digest(db.kind(), rest), on(db.kind(), loss));
        db.run(&format!("UPDATE {kept} SET row_then = {digest} FROM {after} AS t WHERE {on}"))?;
    }
    Ok(())
}

/// Forgets how rows looked that were changed since: for them the opposite step's own word counts. Before that step's first statement.
pub fn mark_changed(db: &mut dyn Database, losses: &[Loss]) -> Result<()> {
    for loss in losses {
        let Lost::Columns { after, rest, .. } = &loss.lost else { continue };
        if !is_there(db, &loss.kept)? {
            continue;
        }
        let (kept, digest, on) = (&loss.kept, digest(db.kind(), rest), on(db.kind(), loss));
        db.run(&format!("UPDATE {kept} SET row_then = NULL FROM {after} AS t WHERE {on} AND row_then <> {digest}"))?;
    }
    Ok(())
}

/// Puts back early what the opposite step has just made room for, so that what it does next (NOT NULL, an index) finds it. What does not
/// go yet goes at its end.
pub fn put_back_early(db: &mut dyn Database, losses: &[Loss], done: &mut Vec<usize>) -> Result<()> {
    for (i, loss) in losses.iter().enumerate() {
        if done.contains(&i) || !is_there(db, &loss.kept)? || !has_room(db, loss)? {
            continue;
        }
        db.run("SAVEPOINT kept")?;
        let put = match &loss.lost {
            Lost::Table { .. } => put_rows(db, loss),
            Lost::Columns { .. } => put_values(db, loss, true),
        };
        match put {
            Ok(()) => {
                db.run("RELEASE SAVEPOINT kept")?;
                done.push(i);
            }
            Err(_) => db.run("ROLLBACK TO SAVEPOINT kept; RELEASE SAVEPOINT kept")?,
        }
    }
    Ok(())
}

/// Puts back what was kept, and lets it go. Returns what both sides have their own word on. After the opposite step's last statement.
pub fn put_back(db: &mut dyn Database, losses: &[Loss], early: &[usize]) -> Result<Vec<String>> {
    let mut conflicts = Vec::new();
    for (i, loss) in losses.iter().enumerate() {
        if !is_there(db, &loss.kept)? {
            continue;
        }
        match &loss.lost {
            Lost::Table { .. } if early.contains(&i) => {}
            Lost::Table { .. } => put_rows(db, loss)?,
            Lost::Columns { .. } => {
                conflicts.extend(differing(db, loss)?);
                put_values(db, loss, false)?;
            }
        }
        db.run(&format!("DROP TABLE {}", loss.kept))?;
    }
    Ok(conflicts)
}

/// Whether what is kept here can be found.
pub fn is_there(db: &mut dyn Database, kept: &str) -> Result<bool> {
    let asked = match db.kind() {
        Kind::Sqlite => format!("SELECT 1 FROM sqlite_schema WHERE name = {}", text(kept.trim_matches('"'))),
        _ => format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", text(kept)),
    };
    Ok(!db.query(&asked)?.is_empty())
}

/// The table is there again, or the columns that were dropped are.
fn has_room(db: &mut dyn Database, loss: &Loss) -> Result<bool> {
    let columns: Vec<&str> = match &loss.lost {
        Lost::Table { columns, .. } => columns.iter().map(String::as_str).collect(),
        Lost::Columns { columns, .. } if columns.iter().any(|c| c.retyped) => return Ok(false),
        Lost::Columns { columns, .. } => columns.iter().map(|c| c.name.as_str()).collect(),
    };
    let table = &loss.table;
    db.run("SAVEPOINT room")?;
    let list = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    let there = db.query(&format!("SELECT {list} FROM {table} LIMIT 0")).is_ok();
    db.run(if there { "RELEASE SAVEPOINT room" } else { "ROLLBACK TO SAVEPOINT room; RELEASE SAVEPOINT room" })?;
    // SQLite takes a name in double quotes that is no column for a text
    Ok(there && (db.kind() != Kind::Sqlite || named_in_sqlite(db, table, &columns)?))
}

fn named_in_sqlite(db: &mut dyn Database, table: &str, columns: &[&str]) -> Result<bool> {
    let rows = db.query(&format!("SELECT name FROM pragma_table_info({})", text(&plain(table))))?;
    let there: Vec<String> = rows.iter().filter_map(|row| row.first()).map(words).collect();
    Ok(columns.iter().all(|column| there.iter().any(|name| same_name(name, &plain(column)))))
}

/// A table's rows that are not there, in place of the triggers that would write more.
fn put_rows(db: &mut dyn Database, loss: &Loss) -> Result<()> {
    let Lost::Table { columns, key } = &loss.lost else { return Ok(()) };
    let (table, kept, list) = (&loss.table, &loss.kept, columns.join(", "));
    if columns.is_empty() {
        return Ok(());
    }
    let absent = if key.is_empty() {
        format!("NOT EXISTS (SELECT 1 FROM {table})")
    } else {
        let equal: Vec<String> = key.iter().map(|k| format!("t.{k} = k.{k}")).collect();
        format!("NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {})", equal.join(" AND "))
    };
    let own = if db.kind() == Kind::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
    without_triggers(db, table, |db| {
        Ok(db.run(&format!("INSERT INTO {table} ({list}){own} SELECT {list} FROM {kept} AS k WHERE {absent}"))?)
    })?;
    go_on_numbering(db, table)
}

/// Columns' values. `early`: wherever nobody chose one; else of every row that was not changed, and of others where nobody chose one.
fn put_values(db: &mut dyn Database, loss: &Loss, early: bool) -> Result<()> {
    let Lost::Columns { columns, .. } = &loss.lost else { return Ok(()) };
    let (kind, table, kept) = (db.kind(), &loss.table, &loss.kept);
    let on = on_before(loss);
    without_triggers(db, table, |db| {
        for (i, column) in columns.iter().enumerate() {
            let name = &column.name;
            let unchosen = unchosen(kind, column);
            let rows = match (early, column.retyped) {
                (true, _) => unchosen,
                (false, true) => "k.row_then IS NOT NULL".to_owned(),
                (false, false) => format!("(k.row_then IS NOT NULL OR {unchosen})"),
            };
            db.run(&format!("UPDATE {table} AS t SET {name} = k.c{i} FROM {kept} AS k WHERE {on} AND {rows}"))?;
        }
        Ok(())
    })
}

/// Rows that were changed, and for which the step made another value than the one that is kept.
fn differing(db: &mut dyn Database, loss: &Loss) -> Result<Vec<String>> {
    let Lost::Columns { columns, key, .. } = &loss.lost else { return Ok(Vec::new()) };
    let (kind, table, kept) = (db.kind(), &loss.table, &loss.kept);
    let mut told = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        let name = &column.name;
        let keys: Vec<String> = (0..key.len()).map(|i| format!("k.k{i}")).collect();
        let differs = match kind {
            Kind::Sqlite => format!("t.{name} IS NOT k.c{i}"),
            _ => format!("t.{name} IS DISTINCT FROM k.c{i}"),
        };
        let rows = db.query(&format!(
            "SELECT {}, k.c{i}, t.{name} FROM {table} AS t, {kept} AS k WHERE {} AND k.row_then IS NULL AND {differs} \
             AND NOT {} LIMIT 21",
            keys.join(", "),
            on_before(loss),
            unchosen(kind, column)
        ))?;
        for row in rows.iter().take(20) {
            let (key, values) = row.split_at(key.len());
            let [kept, now] = values else { continue };
            let key: Vec<String> = key.iter().map(words).collect();
            told.push(format!("{table} {}: {name} stays {}, was {} before", key.join(", "), words(now), words(kept)));
        }
        if rows.len() > 20 {
            told.push(format!("{table}: {name} of more rows than these"));
        }
    }
    Ok(told)
}

/// The value is the one that a row has of whom nobody said anything.
fn unchosen(kind: Kind, column: &LostColumn) -> String {
    let same = if kind == Kind::Sqlite { "IS" } else { "IS NOT DISTINCT FROM" };
    match &column.default {
        Some(default) => format!("(t.{0} IS NULL OR t.{0} {same} ({default}))", column.name),
        None => format!("(t.{} IS NULL)", column.name),
    }
}

/// The kept row (without a name of its own) of the row `t` as the table is afterwards.
fn on(kind: Kind, loss: &Loss) -> String {
    let Lost::Columns { key, .. } = &loss.lost else { return "1 = 0".to_owned() };
    let kept = &loss.kept;
    let part = |(i, (_, after, alike)): (usize, &(String, String, bool))| match (alike, kind) {
        (false, Kind::Postgres) => format!("t.{after}::text = {kept}.k{i}::text"),
        _ => format!("t.{after} = {kept}.k{i}"),
    };
    key.iter().enumerate().map(part).collect::<Vec<_>>().join(" AND ")
}

/// The kept row `k` of the row `t` as the table is before.
fn on_before(loss: &Loss) -> String {
    let Lost::Columns { key, .. } = &loss.lost else { return "1 = 0".to_owned() };
    let part = |(i, (before, ..)): (usize, &(String, String, bool))| format!("t.{before} = k.k{i}");
    key.iter().enumerate().map(part).collect::<Vec<_>>().join(" AND ")
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

/// The table's own triggers do not see what we put back: it is what they saw already.
fn without_triggers(
    db: &mut dyn Database,
    table: &str,
    body: impl FnOnce(&mut dyn Database) -> Result<()>,
) -> Result<()> {
    if db.kind() == Kind::Postgres {
        let enabled = format!(
            "SELECT format('%I', tgname), tgenabled::text FROM pg_catalog.pg_trigger \
             WHERE tgrelid = to_regclass({}) AND NOT tgisinternal AND tgenabled <> 'D'",
            text(table)
        );
        let enabled = db.query(&enabled)?;
        for row in &enabled {
            db.run(&format!("ALTER TABLE {table} DISABLE TRIGGER {}", row.first().map(words).unwrap_or_default()))?;
        }
        body(db)?;
        for row in &enabled {
            let [name, how] = &row[..] else { continue };
            let how = match words(how).as_str() {
                "A" => "ENABLE ALWAYS",
                "R" => "ENABLE REPLICA",
                _ => "ENABLE",
            };
            db.run(&format!("ALTER TABLE {table} {how} TRIGGER {}", words(name)))?;
        }
        return Ok(());
    }
    let named = format!(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = {} COLLATE NOCASE",
        text(&plain(table))
    );
    let triggers = db.query(&named)?;
    for row in &triggers {
        let name = row.first().map(words).unwrap_or_default();
        db.run(&format!("DROP TRIGGER \"{}\"", name.replace('"', "\"\"")))?;
    }
    body(db)?;
    for row in &triggers {
        db.run(&row.get(1).map(words).unwrap_or_default())?;
    }
    Ok(())
}

/// Numbers that the table gives go on after those that were put back.
fn go_on_numbering(db: &mut dyn Database, table: &str) -> Result<()> {
    if db.kind() != Kind::Postgres {
        return Ok(());
    }
    let sequences = db.query(&format!(
        "SELECT format('SELECT setval(%L, max(%I)) FROM {} HAVING max(%I) > coalesce((SELECT last_value FROM %s), 0)', \
         s, a.attname, a.attname, s) FROM pg_catalog.pg_attribute a, LATERAL pg_get_serial_sequence({}, a.attname::text) s \
         WHERE a.attrelid = to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped AND s IS NOT NULL",
        table.replace('%', "%%").replace('\'', "''"),
        text(table),
        text(table)
    ))?;
    for row in &sequences {
        db.run(&row.first().map(words).unwrap_or_default())?;
    }
    Ok(())
}

/// A quoted identifier without its quotes.
fn plain(name: &str) -> String {
    match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn words(value: &Value<'_>) -> String {
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
