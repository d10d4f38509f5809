//! Change capture put up and looked after, and seals. What the triggers are is in `triggers`, what they wrote in `log`.
//!
//! `backout_meta` remembers the schema as it was when capture was made, for P15.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::text::{self, quote};
use super::triggers::{CAPTURE, MERGING, Nested, Part, SEAL, Unique, marked, merging, triggers};
use super::{OURS, Sqlite};
use crate::plan::Table;
use crate::store::{Error, Mode, Position, Result};
use rusqlite::params;

/// Can this trigger write one of these tables?
fn may_write(sql: &str, tables: &[String]) -> bool {
    text::written(sql).is_none_or(|w| w.iter().any(|n| tables.iter().any(|t| t.to_lowercase() == *n)))
}

/// What is remembered of one object of the schema.
type Object = (String, Option<String>);

impl Sqlite {
    pub(super) fn broken(&self, cause: impl Into<String>, schema_changed: bool) -> Error {
        Error::Capture { store: self.title.clone(), cause: cause.into(), schema_changed, rewound: false }
    }

    /// This is not the file whose changes were followed, or it is an earlier state of it.
    pub(super) fn rewound(&self, cause: impl Into<String>) -> Error {
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
                // An error when it runs, and no constraint's: that is not taken for a duplicate, and a connection that has the
                // schema in its memory looks at the file first, so that it finds the table unsealed when it is.
                let says = format!("backout: table {} is resting, its data lives elsewhere now", table.name);
                let sql = format!(
                    "CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} ON {} WHEN sqlite_source_id() <> '{OURS}' \
                     BEGIN SELECT json_extract('{{}}', {}); END",
                    quote(&table.name),
                    text::literal(&says)
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
            for (t, table) in tables.iter().enumerate() {
                for (name, sql) in triggers(table, t, &self.uniques(table)?, self.nested(table)?) {
                    self.run(&format!("make trigger {name}"), &sql)?;
                }
            }
        }
        self.run(&format!("drop trigger {MERGING}"), &format!("DROP TRIGGER IF EXISTS {MERGING}"))?;
        self.run(&format!("make trigger {MERGING}"), &merging(self.key_width()?, self.log_limit))?;
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
    pub(super) fn captured_names(&self) -> Result<Option<Vec<String>>> {
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
        if matches!(self.mode, Some(Mode::Write | Mode::Lease | Mode::Swap))
            && self.number("read the schema's version", version)? == 0
        {
            // what explained a new version is remembered with this commit
            self.ddl = Some(true);
        }
        Ok(())
    }
}
