//! Change capture by triggers, the log, what may have gone unseen, and seals.
//!
//! `backout_log` has a row per change with the keys before (`b…`) and after (`a…`). Its entries, per row changed:
//! INSERT: `I`, preceded by a `D` for each row that a REPLACE removed; when it removed a row of the very same key: `U` of
//! that key, as the row is kept. UPDATE: `U` with both keys, preceded by `D`s likewise. DELETE: `D`. Ours: `X` is a doubt,
//! `M` a marker, with its nonce.
//!
//! REPLACE removes rows without firing DELETE triggers. So BEFORE triggers note in `backout_scratch` who could be removed,
//! and AFTER triggers tell who was. An application with `recursive_triggers` on fires DELETE triggers too; there the REPLACE
//! of a key is logged as `D` and `I`, a row born anew.
//!
//! `backout_meta` remembers the schema as it was when capture was made, for P15.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, params};
use serde_json::{Value as Json, json};

use super::rows::same;
use super::schema::rowid_name;
use super::text::{self, quote};
use super::{Sqlite, bound, owned};
use crate::plan::Table;
use crate::store::{Entry, Error, LogSize, Mode, Op, Position, Result};
use crate::value::{Key, values_of};

/// Prefixes of our triggers' names.
pub(super) const CAPTURE: &str = "backout_capture_";
pub(super) const SEAL: &str = "backout_seal_";

/// What is said of a log that has reached its limit.
const FULL: &str = "the change log reached its limit, and what was written since is not in it";

/// `b1, b2` for a key of two columns.
fn marked(letter: &str, n: usize) -> String {
    (1..=n).map(|i| format!("{letter}{i}")).collect::<Vec<_>>().join(", ")
}

/// The key's columns of `row` (`NEW`, `OLD`, an alias).
fn key_of(row: &str, table: &Table) -> String {
    table.key_names().into_iter().map(|n| format!("{row}.{}", quote(n))).collect::<Vec<_>>().join(", ")
}

/// Two keys that are no columns of a table with an index: `s.k1` and `NEW."id"`.
fn equal(table: &Table, a: impl Fn(usize) -> String, b: impl Fn(usize) -> String) -> String {
    let one = |i: usize| {
        let (a, b) = (a(i), b(i));
        format!("{a} COLLATE BINARY IS {b} AND typeof({a}) = typeof({b})")
    };
    (0..table.key.len()).map(one).collect::<Vec<_>>().join(" AND ")
}

/// What a column gets by this statement: REPLACE puts the default where NULL is not allowed.
fn new_value(table: &Table, column: &str) -> String {
    let plain = format!("NEW.{}", quote(column));
    match table.column(column).map(|i| &table.columns[i]) {
        Some(c) if c.not_null && !c.identity => match &c.default {
            Some(default) => format!("coalesce({plain}, {})", text::default_expression(default)),
            None => plain,
        },
        _ => plain,
    }
}

/// A unique index, part by part, each with its collation.
type Unique = Vec<Part>;

enum Part {
    Column { name: String, collation: Option<String> },
    Expression { text: String, collation: Option<String> },
}

/// What an index's expression says of a row whose columns are `value`: in a subquery they have their bare names.
fn calculated(table: &Table, expression: &str, value: impl Fn(&str) -> String) -> String {
    let names = table.columns.iter().map(|c| &c.name).chain(table.generated.iter().map(|g| &g.name));
    let each: Vec<String> = names.map(|n| format!("{} AS {}", value(n), quote(n))).collect();
    format!("(SELECT {expression} FROM (SELECT {}))", each.join(", "))
}

/// What else may change a table between our BEFORE trigger and the end of the change: then what the scratch table has
/// of rows that still exist may be an outer statement's, and is not cleared.
#[derive(Clone, Copy)]
struct Nested {
    /// A trigger of the user's writes the table.
    any: bool,
    /// A foreign key's action may update it.
    update: bool,
}

/// The triggers of a table: name and text.
fn triggers(table: &Table, t: usize, uniques: &[Unique], nested: Nested, limit: i64) -> Vec<(String, String)> {
    let name = quote(&table.name);
    let n = table.key.len();
    let (ks, bs, az) = (marked("k", n), marked("b", n), marked("a", n));
    let exists = |row: &str| {
        let whose = same("x.", table, |i| format!("{row}k{}", i + 1));
        format!("EXISTS (SELECT 1 FROM {name} AS x WHERE {whose})")
    };
    let col = |row: &'static str| move |i: usize| format!("{row}.{}", quote(&table.columns[table.key[i]].name));
    let slot = |i: usize| format!("s.k{}", i + 1);
    // noting who is in the way of NEW
    let note = |update: bool| {
        let mut sql = String::new();
        if !(nested.any || update && nested.update) {
            sql += &format!("DELETE FROM backout_scratch WHERE t = {t} AND {}; ", exists("backout_scratch."));
        }
        let not_itself = match rowid_name(table) {
            _ if !update => String::new(),
            Some(rowid) => format!(" AND x.{rowid} <> OLD.{rowid}"),
            None => format!(" AND NOT ({})", equal(table, col("x"), col("OLD"))),
        };
        let head =
            format!("INSERT INTO backout_scratch (t, {ks}) SELECT {t}, {} FROM {name} AS x WHERE", key_of("x", table));
        if let Some(rowid) = rowid_name(table) {
            let moved = if update { format!("NEW.{rowid} <> OLD.{rowid} AND ") } else { String::new() };
            sql += &format!("{head} {moved}x.{rowid} = NEW.{rowid}{not_itself}; ");
        }
        for index in uniques {
            let changed: Vec<String> = index
                .iter()
                .map(|p| match p {
                    Part::Column { name, .. } => format!("NEW.{0} COLLATE BINARY IS NOT OLD.{0}", quote(name)),
                    Part::Expression { text, .. } => {
                        let of = |row: &str| calculated(table, text, |c| format!("{row}.{}", quote(c)));
                        format!("{} COLLATE BINARY IS NOT {}", of("NEW"), of("OLD"))
                    }
                })
                .collect();
            let changed = if update { format!("({}) AND ", changed.join(" OR ")) } else { String::new() };
            let hit: Vec<String> = index
                .iter()
                .map(|p| match p {
                    Part::Column { name, collation } => {
                        let collation = quote(collation.as_deref().unwrap_or("BINARY"));
                        format!("x.{} COLLATE {collation} = {}", quote(name), new_value(table, name))
                    }
                    Part::Expression { text, collation } => {
                        let collation = quote(collation.as_deref().unwrap_or("BINARY"));
                        let new = calculated(table, text, |c| new_value(table, c));
                        format!("({text}) COLLATE {collation} = {new}")
                    }
                })
                .collect();
            sql += &format!("{head} {changed}{}{not_itself}; ", hit.join(" AND "));
        }
        sql
    };
    let dead = format!("INSERT INTO backout_log (t, op, {bs}) SELECT {t}, 'D', {}", marked("s.k", n));
    let clear = |all: bool, done: String| {
        let only = if all { String::new() } else { format!(" AND (NOT {} OR {done})", exists("backout_scratch.")) };
        format!("DELETE FROM backout_scratch WHERE t = {t}{only};")
    };
    let bare = |i: usize| format!("k{}", i + 1);
    let is_new = equal(table, bare, col("NEW"));
    let inserted = format!(
        "{dead} FROM backout_scratch AS s WHERE s.t = {t} AND NOT {}; \
         INSERT INTO backout_log (t, op, {bs}, {az}) SELECT {t}, CASE WHEN EXISTS (SELECT 1 FROM backout_scratch AS s \
         WHERE s.t = {t} AND {}) THEN 'U' ELSE 'I' END, {new}, {new}; {}",
        exists("s."),
        equal(table, slot, col("NEW")),
        clear(!nested.any, is_new.clone()),
        new = key_of("NEW", table),
    );
    let updated = format!(
        "{dead} FROM backout_scratch AS s WHERE s.t = {t} AND NOT ({}) AND (NOT {} OR {}); \
         INSERT INTO backout_log (t, op, {bs}, {az}) VALUES ({t}, 'U', {}, {}); {}",
        equal(table, slot, col("OLD")),
        exists("s."),
        equal(table, slot, col("NEW")),
        key_of("OLD", table),
        key_of("NEW", table),
        clear(!nested.any && !nested.update, format!("({is_new} AND NOT ({}))", equal(table, bare, col("OLD")))),
    );
    let deleted = format!(
        "INSERT INTO backout_log (t, op, {bs}) VALUES ({t}, 'D', {}); DELETE FROM backout_scratch WHERE t = {t} AND {};",
        key_of("OLD", table),
        equal(table, bare, col("OLD")),
    );
    [
        ("before_insert", "BEFORE INSERT", note(false)),
        ("before_update", "BEFORE UPDATE", note(true)),
        ("insert", "AFTER INSERT", inserted),
        ("update", "AFTER UPDATE", updated),
        ("delete", "AFTER DELETE", deleted),
    ]
    .into_iter()
    .filter(|(.., body)| !body.is_empty())
    .map(|(what, when, body)| {
        let own = format!("{CAPTURE}{what}__{}", table.name);
        // ids are never given twice and grow by one, so two looks at the ends of the log tell how long it is (P17)
        let room = format!("(SELECT max(id) FROM backout_log) - (SELECT min(id) FROM backout_log) < {limit}");
        let sql = format!("CREATE TRIGGER {} {when} ON {name} WHEN {room} BEGIN {} END", quote(&own), body.trim_end());
        (own, sql)
    })
    .collect()
}

/// Can this trigger write one of these tables?
fn may_write(sql: &str, tables: &[String]) -> bool {
    text::written(sql).is_none_or(|w| w.iter().any(|n| tables.iter().any(|t| t.to_lowercase() == *n)))
}

/// What is remembered of one object of the schema.
type Object = (String, Option<String>);

impl Sqlite {
    fn broken(&self, cause: impl Into<String>, schema_changed: bool) -> Error {
        Error::Capture { store: self.title.clone(), cause: cause.into(), schema_changed, rewound: false }
    }

    /// This is not the file whose changes were followed, or it is an earlier state of it.
    fn rewound(&self, cause: impl Into<String>) -> Error {
        Error::Capture { store: self.title.clone(), cause: cause.into(), schema_changed: false, rewound: true }
    }

    /// Drops our triggers with this prefix on these tables.
    pub(super) fn remove_triggers(&mut self, tables: &[&Table], prefix: &str) -> Result<()> {
        let ours = self.all(
            "list our triggers",
            "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'",
            [],
            |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)),
        )?;
        for (name, on) in ours {
            if name.starts_with(prefix) && tables.iter().any(|t| t.name.eq_ignore_ascii_case(&on)) {
                self.ddl()?;
                self.run(&format!("drop trigger {name}"), &format!("DROP TRIGGER {}", quote(&name)))?;
            }
        }
        Ok(())
    }

    pub(super) fn put_seals(&mut self, tables: &[&Table]) -> Result<()> {
        self.ddl()?;
        for table in tables {
            for event in ["INSERT", "UPDATE", "DELETE"] {
                let name = quote(&format!("{SEAL}{}__{}", event.to_lowercase(), table.name));
                let sql = format!(
                    "CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} ON {} BEGIN SELECT backout_sealed(); END",
                    quote(&table.name)
                );
                self.run(&format!("seal {}", table.name), &sql)?;
            }
        }
        Ok(())
    }

    /// Unique indexes as they are now.
    fn uniques(&self, table: &Table) -> Result<Vec<Unique>> {
        let op = format!("read the unique indexes of {}", table.name);
        let sql = "SELECT l.name, m.sql FROM pragma_index_list(?1) AS l LEFT JOIN sqlite_schema AS m \
                   ON m.type = 'index' AND m.name = l.name WHERE l.\"unique\" = 1";
        let names: Vec<(String, Option<String>)> = self.all(&op, sql, [&table.name], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let mut out = Vec::new();
        for (name, sql) in names {
            let said = sql.as_deref().map(text::indexed_parts).unwrap_or_default();
            let parts =
                self.all(&op, "SELECT name, coll FROM pragma_index_xinfo(?1) WHERE \"key\" = 1", [&name], |r| {
                    Ok((r.get::<_, Option<String>>(0)?, r.get(1)?))
                })?;
            let mut unique = Unique::new();
            for (at, (column, collation)) in parts.into_iter().enumerate() {
                unique.push(match (column, said.get(at)) {
                    (Some(name), _) => Part::Column { name, collation },
                    (None, Some(text)) => Part::Expression { text: text.clone(), collation },
                    (None, None) => return Err(self.broken(format!("index {name} cannot be read"), false)),
                });
            }
            out.push(unique);
        }
        Ok(out)
    }

    pub(super) fn install(&mut self, tables: &[&Table]) -> Result<Position> {
        self.ddl()?;
        // positions of before remain good if nobody could have written unseen since then
        let names: Vec<String> = tables.iter().map(|t| t.name.clone()).collect();
        let known = self.captured_names()?.is_some_and(|n| n == names)
            && self.ddl == Some(true)
            && !self.has_gap()?
            && !self.full()?;
        if !known {
            self.begin_log(tables)?;
        }
        if !known || self.captured(&names)? < names.len() {
            self.remove_triggers(tables, CAPTURE)?;
            let limit = i64::try_from(self.log_limit).unwrap_or(i64::MAX);
            self.conn
                .execute_batch(&format!(
                    "DELETE FROM backout_meta WHERE what = 'limit'; \
                     INSERT INTO backout_meta (what, n) VALUES ('limit', {limit})"
                ))
                .map_err(self.err("remember the log's limit"))?;
            for (t, table) in tables.iter().enumerate() {
                for (name, sql) in triggers(table, t, &self.uniques(table)?, self.nested(table)?, limit) {
                    self.run(&format!("make trigger {name}"), &sql)?;
                }
            }
        }
        // the commit remembers the schema with all this in it
        self.ddl = Some(true);
        let id = self.number("read the change log", "SELECT coalesce(max(id), 0) FROM backout_log")?;
        self.put_marker(&Position(json!({ "id": id })))
    }

    fn nested(&self, table: &Table) -> Result<Nested> {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND substr(name, 1, 8) <> 'backout_'";
        let others: Vec<String> = self.all("look for triggers", sql, [], |r| r.get(0))?;
        let sql = "SELECT on_delete, on_update FROM pragma_foreign_key_list(?1)";
        let actions: Vec<(String, String)> =
            self.all("look for foreign keys", sql, [&table.name], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let update = actions.iter().any(|(d, u)| d.starts_with("SET") || u.starts_with("SET") || u == "CASCADE");
        Ok(Nested { any: others.iter().any(|s| may_write(s, std::slice::from_ref(&table.name))), update })
    }

    /// An empty log, of a new incarnation.
    fn begin_log(&mut self, tables: &[&Table]) -> Result<()> {
        self.remove_triggers(tables, CAPTURE)?;
        let n = tables.iter().map(|t| t.key.len()).max().unwrap_or(1).max(1);
        let sql = format!(
            "DROP TABLE IF EXISTS backout_log; DROP TABLE IF EXISTS backout_scratch; DROP TABLE IF EXISTS backout_meta; \
             CREATE TABLE backout_log (id INTEGER PRIMARY KEY, t INTEGER, op TEXT, {}, {}); \
             CREATE TABLE backout_scratch (t INTEGER, {}); \
             CREATE TABLE backout_meta (what TEXT, n INTEGER, kind TEXT, name TEXT, tbl TEXT, sql TEXT)",
            marked("b", n),
            marked("a", n),
            marked("k", n)
        );
        self.run("make the change log", &sql)?;
        let (_, ino) = self.file()?;
        let put = || {
            for (t, table) in tables.iter().enumerate() {
                let sql = "INSERT INTO backout_meta (what, n, name) VALUES ('table', ?1, ?2)";
                self.conn.execute(sql, params![t as i64, table.name])?;
            }
            let sql = "INSERT INTO backout_meta (what, n, name) VALUES ('incarnation', ?1, ?2)";
            self.conn.execute(sql, params![ino as i64, Sqlite::nonce()])
        };
        put().map(drop).map_err(self.err("remember the tables"))
    }

    /// How many of these tables have all of our capture triggers.
    fn captured(&self, names: &[String]) -> Result<usize> {
        self.guarded(names, CAPTURE, 5)
    }

    fn guarded(&self, names: &[String], prefix: &str, wanted: i64) -> Result<usize> {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE \
                   AND substr(name, 1, length(?2)) = ?2";
        let mut n = 0;
        for name in names {
            let found: i64 = self
                .conn
                .query_row(sql, [name.as_str(), prefix], |r| r.get(0))
                .map_err(self.err("count our triggers"))?;
            n += usize::from(found == wanted);
        }
        Ok(n)
    }

    /// Since the log began there was a commit after which tables were neither followed nor sealed.
    fn has_gap(&self) -> Result<bool> {
        self.number("read what is remembered", "SELECT count(*) FROM backout_meta WHERE what = 'gap'").map(|n| n > 0)
    }

    /// Names of the captured tables by number; `None` when capture was never made.
    fn captured_names(&self) -> Result<Option<Vec<String>>> {
        if !self.has("backout_meta")? {
            return Ok(None);
        }
        let sql = "SELECT name FROM backout_meta WHERE what = 'table' ORDER BY n";
        self.all("read what is captured", sql, [], |r| r.get(0)).map(Some)
    }

    /// The present schema: per (kind, name) the table it belongs to and its text.
    fn objects(&self, sql: &str) -> Result<HashMap<(String, String), Object>> {
        Ok(self
            .all("read the schema", sql, [], |r| Ok(((r.get(0)?, r.get(1)?), (r.get(2)?, r.get(3)?))))?
            .into_iter()
            .collect())
    }

    fn objects_now(&self) -> Result<HashMap<(String, String), Object>> {
        self.objects(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'",
        )
    }

    /// Remembers the schema as it is now, and whether others may write unseen from now on; nothing without a log.
    pub(super) fn remember(&self) -> Result<()> {
        let Some(names) = self.captured_names()? else { return Ok(()) };
        self.run(
            "remember the schema",
            "DELETE FROM backout_meta WHERE what IN ('object', 'version'); \
             INSERT INTO backout_meta (what, kind, name, tbl, sql) SELECT 'object', type, name, tbl_name, sql \
             FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'; \
             INSERT INTO backout_meta (what, n) SELECT 'version', schema_version FROM pragma_schema_version",
        )?;
        if self.captured(&names)? < names.len() && self.guarded(&names, SEAL, 3)? < names.len() {
            self.run("note a gap", "INSERT INTO backout_meta (what) VALUES ('gap')")?;
        }
        Ok(())
    }

    /// Why changes may have gone unseen since the schema was remembered, and whether a captured table's own text
    /// changed. `None`: all is well, or there is no capture.
    pub(super) fn unseen(&self) -> Result<Option<(String, bool)>> {
        let Some(tables) = self.captured_names()? else { return Ok(None) };
        let (_, ino) = self.file()?;
        let (then, inode) = self
            .conn
            .query_row(
                "SELECT (SELECT n FROM backout_meta WHERE what = 'version'), \
                 (SELECT n FROM backout_meta WHERE what = 'incarnation')",
                [],
                |r| Ok((r.get::<_, Option<i64>>(0)?, r.get::<_, Option<i64>>(1)?)),
            )
            .map_err(self.err("read what is remembered"))?;
        if inode != Some(ino as i64) {
            return Ok(Some(("the file was replaced by another".into(), false)));
        }
        let now = self.number("read the schema's version", "PRAGMA schema_version")?;
        if then == Some(now) {
            return Ok(None);
        }
        let old = self.objects("SELECT kind, name, tbl, sql FROM backout_meta WHERE what = 'object'")?;
        let new = self.objects_now()?;
        for table in &tables {
            let id = ("table".to_owned(), table.clone());
            if old.get(&id) != new.get(&id) {
                return Ok(Some((format!("table {table} was changed"), true)));
            }
        }
        let mut rise = 0;
        let mut statistics = 0;
        let gone: HashSet<&str> =
            old.keys().filter(|id| id.0 == "table" && !new.contains_key(*id)).map(|id| id.1.as_str()).collect();
        for (id, (on, sql)) in &new {
            match old.get(id) {
                Some(before) if before == &(on.clone(), sql.clone()) => {}
                Some(_) => return Ok(Some((format!("{} {} was changed", id.0, id.1), false))),
                // one ANALYZE makes all of its tables
                None if id.1.starts_with("sqlite_stat") => statistics = 1,
                None => {
                    let unique = sql.as_deref().is_some_and(|s| text::tokens(s).get(1).is_some_and(|t| t.is("UNIQUE")));
                    if unique && id.0 == "index" && tables.iter().any(|t| t.eq_ignore_ascii_case(on)) {
                        let cause = format!("unique index {} is new, and its REPLACE victims were not noted", id.1);
                        return Ok(Some((cause, false)));
                    }
                    if id.0 == "trigger" && sql.as_deref().is_none_or(|s| may_write(s, &tables)) {
                        return Ok(Some((format!("trigger {} is new and may write what is followed", id.1), false)));
                    }
                    rise += 1;
                }
            }
        }
        for (id, (on, _)) in &old {
            if new.contains_key(id) {
                continue;
            }
            if id.1.starts_with("backout_") {
                return Ok(Some((format!("our {} {} is gone", id.0, id.1), false)));
            }
            // indexes and triggers go with their table, in one step
            rise += i64::from(id.0 == "table" || !gone.contains(on.as_str()));
        }
        if then.is_some_and(|then| now - then == rise + statistics) {
            return Ok(None);
        }
        Ok(Some(("the schema was changed and changed back, or the file was rebuilt (VACUUM)".into(), false)))
    }

    pub(super) fn look_at(&mut self, tables: &[&Table]) -> Result<()> {
        let Some(names) = self.captured_names()? else {
            return Err(self.broken("changes are not being noted", false));
        };
        if let Some(missing) = tables.iter().find(|t| !names.contains(&t.name)) {
            return Err(self.broken(format!("changes of {} are not being noted", missing.name), false));
        }
        if self.ddl != Some(true)
            && let Some((cause, schema_changed)) = self.unseen()?
        {
            return Err(self.broken(cause, schema_changed));
        }
        let asked: Vec<String> = tables.iter().map(|t| t.name.clone()).collect();
        if self.captured(&asked)? < asked.len() {
            return Err(self.broken("triggers that note changes are not there", false));
        }
        let version =
            "SELECT count(*) FROM backout_meta, pragma_schema_version WHERE what = 'version' AND n = schema_version";
        if matches!(self.mode, Some(Mode::Write | Mode::Lease))
            && self.number("read the schema's version", version)? == 0
        {
            // what explained a new version is remembered with this commit
            self.ddl = Some(true);
        }
        Ok(())
    }

    /// The log is as long as it may be: what was written since is not in it.
    pub(super) fn full(&self) -> Result<bool> {
        if !self.has("backout_meta")? || !self.has("backout_log")? {
            return Ok(false);
        }
        let sql = "SELECT coalesce((SELECT max(id) FROM backout_log) - (SELECT min(id) FROM backout_log) >= \
                   (SELECT n FROM backout_meta WHERE what = 'limit'), 0)";
        self.number("look how long the change log is", sql).map(|full| full != 0)
    }

    fn incarnation(&self) -> Result<Option<(i64, String)>> {
        if !self.has("backout_meta")? || !self.has("backout_log")? {
            return Ok(None);
        }
        self.conn
            .query_row("SELECT n, name FROM backout_meta WHERE what = 'incarnation'", [], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .optional()
            .map_err(self.err("read the incarnation"))
    }

    /// The id that a position stands for, if it belongs to this file and its marker is still there.
    fn place(&self, from: &Position) -> Result<i64> {
        let strange = |why: &str| self.rewound(why);
        let Some((_, incarnation)) = self.incarnation()? else { return Err(strange("changes are not being noted")) };
        let (dev, ino) = self.file()?;
        let p = &from.0;
        if p["incarnation"].as_str() != Some(&incarnation) || p["file"] != json!([dev, ino]) {
            return Err(strange("the file is not the one that was followed"));
        }
        let marker = self
            .conn
            .prepare_cached("SELECT 1 FROM backout_log WHERE id = ?1 AND op = 'M' AND b1 = ?2")
            .and_then(|mut s| s.exists(params![p["marker"].as_i64(), p["nonce"].as_str()]))
            .map_err(self.err("look for our marker"))?;
        match p["id"].as_i64() {
            Some(id) if marker => Ok(id),
            _ => Err(strange("our marker is gone from the log: the file was taken back to an earlier state")),
        }
    }

    pub(super) fn entries(&self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        let after = self.place(from)?;
        if self.full()? {
            return Err(self.broken(FULL, false));
        }
        let names = self.captured_names()?.unwrap_or_default();
        let asked: Vec<Option<usize>> = names.iter().map(|n| tables.iter().position(|t| &t.name == n)).collect();
        let n = self.key_width()?;
        let sql = format!(
            "SELECT id, t, op, {}, {} FROM backout_log WHERE id > ?1 ORDER BY id",
            marked("b", n),
            marked("a", n)
        );
        let (mut out, mut last) = (Vec::new(), after);
        let mut work = || -> rusqlite::Result<()> {
            let mut s = self.conn.prepare_cached(&sql)?;
            let mut rows = s.query([after])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                let t: i64 = row.get(1)?;
                let Some(table) = usize::try_from(t).ok().and_then(|t| asked.get(t).copied().flatten()) else {
                    continue;
                };
                let width = tables[table].key.len();
                let key = |first: usize| -> rusqlite::Result<Option<Key>> {
                    let values: rusqlite::Result<Vec<_>> =
                        (0..width).map(|i| row.get_ref(first + i).map(owned)).collect();
                    Ok(Some(Key::of(&values?)))
                };
                let (b, a) = (3, 3 + n);
                let (op, before, after) = match row.get_ref(2)?.as_bytes().unwrap_or_default() {
                    b"I" => (Op::Insert, None, key(a)?),
                    b"U" => (Op::Update, key(b)?, key(a)?),
                    b"D" => (Op::Delete, key(b)?, None),
                    b"X" => (Op::Doubt, key(b)?, None),
                    _ => continue,
                };
                out.push(Entry { table, op, before, after, was: None, now: None });
            }
            Ok(())
        };
        work().map_err(self.err("read the change log"))?;
        let mut position = from.0.clone();
        position["id"] = json!(last);
        Ok((out, Position(position)))
    }

    /// Columns for a key in the log.
    fn key_width(&self) -> Result<usize> {
        self.number("read the change log", "SELECT (count(*) - 3) / 2 FROM pragma_table_info('backout_log')")
            .map(|n| usize::try_from(n).unwrap_or(1))
    }

    pub(super) fn waiting(&self, from: &Position) -> Result<u64> {
        if !self.has("backout_log")? {
            return Ok(0);
        }
        let sql = "SELECT count(*) FROM backout_log WHERE id > ?1 AND op <> 'M'";
        self.conn
            .query_row(sql, [from.0["id"].as_i64()], |r| r.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(self.err("count what waits"))
    }

    pub(super) fn size_of_log(&self) -> Result<LogSize> {
        if !self.has("backout_log")? {
            return Ok(LogSize::default());
        }
        let sql = "SELECT (SELECT count(*) FROM backout_log WHERE op <> 'M'),
            (SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = 'backout_log')";
        self.conn
            .query_row(sql, [], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)))
            .map(|(rows, bytes)| LogSize { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() })
            .map_err(self.err("look at the change log"))
    }

    pub(super) fn put_marker(&mut self, position: &Position) -> Result<Position> {
        let Some((_, incarnation)) = self.incarnation()? else {
            return Err(self.broken("changes are not being noted", false));
        };
        let nonce = Sqlite::nonce();
        self.conn
            .execute("INSERT INTO backout_log (t, op, b1) VALUES (-1, 'M', ?1)", [&nonce])
            .map_err(self.err("mark the change log"))?;
        let (dev, ino) = self.file()?;
        let id = position.0.get("id").cloned().unwrap_or(Json::Null);
        Ok(Position(json!({
            "file": [dev, ino],
            "incarnation": incarnation,
            "id": id,
            "marker": self.conn.last_insert_rowid(),
            "nonce": nonce,
        })))
    }

    /// The last row stays whatever it is, or its id would be given again.
    pub(super) fn forget(&mut self, position: &Position) -> Result<()> {
        let upto = self.place(position)?;
        // it filled up since it was read: shortening it would hide that
        if self.full()? {
            return Ok(());
        }
        self.conn
            .execute(
                "DELETE FROM backout_log WHERE id <= ?1 AND id <> ?2 AND id < (SELECT max(id) FROM backout_log) \
                 AND id <> (SELECT max(id) FROM backout_log WHERE op = 'M')",
                params![upto, position.0["marker"].as_i64()],
            )
            .map(drop)
            .map_err(self.err("trim the change log"))
    }

    pub(super) fn put_doubts(&mut self, table: usize, keys: &[Key]) -> Result<()> {
        if !self.has("backout_log")? {
            return Err(self.broken("changes are not being noted", false));
        }
        let put = || -> rusqlite::Result<()> {
            for key in keys {
                let values = values_of(&key.0);
                let marks: Vec<String> = (2..values.len() + 2).map(|i| format!("?{i}")).collect();
                let names = marked("b", values.len());
                let sql = format!("INSERT INTO backout_log (t, op, {names}) VALUES (?1, 'X', {})", marks.join(", "));
                let mut s = self.conn.prepare_cached(&sql)?;
                s.raw_bind_parameter(1, table as i64)?;
                for (i, value) in values.iter().enumerate() {
                    s.raw_bind_parameter(i + 2, bound(value))?;
                }
                s.raw_execute()?;
            }
            Ok(())
        };
        put().map_err(self.err("note doubts"))
    }

    /// The id after which our own writes are logged; `None` without a log.
    pub(super) fn last_logged(&self) -> Result<Option<i64>> {
        if !self.has("backout_log")? {
            return Ok(None);
        }
        self.number("read the change log", "SELECT coalesce(max(id), 0) FROM backout_log").map(Some)
    }
}
