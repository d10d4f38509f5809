//! What we keep in the file about a run: tables `backout_*`, in SQL that old versions of SQLite can read.

use rusqlite::{OptionalExtension, params};

use super::{Sqlite, triggers};
use crate::plan::{Pair, Table};
use crate::store::{Chunk, Error, HistoryLine, Parked, Result, Role, State};
use crate::value::{Key, Row, encode_row, row_of};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS backout_run (run TEXT PRIMARY KEY, state TEXT NOT NULL, plan TEXT);
CREATE TABLE IF NOT EXISTS backout_target (run TEXT PRIMARY KEY, state TEXT NOT NULL, plan TEXT);
CREATE TABLE IF NOT EXISTS backout_chunk
    (run TEXT, t INTEGER, n INTEGER, upto BLOB, row_count INTEGER, done INTEGER, PRIMARY KEY (run, t));
CREATE TABLE IF NOT EXISTS backout_image
    (run TEXT, drain INTEGER, at TEXT, t INTEGER, key BLOB, image BLOB, PRIMARY KEY (run, drain, t, key));
CREATE TABLE IF NOT EXISTS backout_pair
    (run TEXT, name TEXT, source TEXT, target TEXT, PRIMARY KEY (run, name, target), UNIQUE (run, name, source));
CREATE TABLE IF NOT EXISTS backout_parked
    (run TEXT, t INTEGER, key BLOB, image BLOB, reason TEXT, PRIMARY KEY (run, t, key));";

/// Runs that ended, and what became of SQL revisions, which have no run.
pub(crate) const HISTORY: &str = "
CREATE TABLE IF NOT EXISTS backout_history
    (run TEXT, migration TEXT, title TEXT, plan_hash TEXT, outcome TEXT, started_at TEXT, ended_at TEXT, note TEXT,
     remains TEXT);";

/// What anyone can ask.
pub(crate) const VIEW: &str = "CREATE VIEW migration_log AS SELECT run, migration, title, outcome, started_at, ended_at, note, \
    CASE WHEN outcome IN ('rolled back', 'rollback failed', 'unstamped') THEN 'down' \
    WHEN outcome NOT IN ('acknowledged', 'let go') THEN 'up' END AS direction FROM backout_history";

/// Is this view the one that we make?
pub(super) fn is_our_view(name: &str, sql: Option<&str>) -> bool {
    name == "migration_log" && sql == Some(VIEW)
}

impl Sqlite {
    pub(super) fn prepared(&self) -> Result<bool> {
        for name in ["run", "target", "pair", "parked", "history"] {
            if !self.has(&format!("backout_{name}"))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn make_records(&mut self) -> Result<()> {
        self.ddl()?;
        self.run("make the tables for our records", TABLES)?;
        self.run("make the table of ended runs", HISTORY)?;
        // somebody else's table of that name stays as it is
        if self.has("migration_log")? { Ok(()) } else { self.run("make the view migration_log", VIEW) }
    }

    /// Where this connection's side is recorded: of a run that has both here, the target apart.
    fn record(&self) -> &'static str {
        if matches!(self.side, Some((Role::Target, _))) { "backout_target" } else { "backout_run" }
    }

    pub(super) fn read_state(&self) -> Result<Option<State>> {
        let record = self.record();
        if !self.has(record)? {
            return Ok(None);
        }
        let text: Option<String> = self
            .conn
            .query_row(&format!("SELECT state FROM {record} LIMIT 1"), [], |r| r.get(0))
            .optional()
            .map_err(self.err("read the run's record"))?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| self.unreadable("the run's record", &e))).transpose()
    }

    fn unreadable(&self, what: &str, e: &dyn std::fmt::Display) -> Error {
        Error::Database { store: self.title.clone(), operation: format!("read {what}"), cause: e.to_string() }
    }

    pub(super) fn read_plan(&self, run: &str) -> Result<Option<String>> {
        if !self.has("backout_run")? {
            return Ok(None);
        }
        self.conn
            .query_row("SELECT plan FROM backout_run WHERE run = ?1", [run], |r| r.get(0))
            .optional()
            .map(Option::flatten)
            .map_err(self.err("read the plan"))
    }

    pub(super) fn write_state(&mut self, state: &State, plan: Option<&str>) -> Result<()> {
        if !self.prepared()? {
            self.make_records()?;
        }
        let text = serde_json::to_string(state).map_err(|e| self.unreadable("the run's record", &e))?;
        let record = self.record();
        let put = format!("INSERT OR IGNORE INTO {record} (run, state) VALUES (?1, ?2)");
        let changed = format!("UPDATE {record} SET state = ?2, plan = coalesce(?3, plan) WHERE run = ?1");
        self.conn
            .execute(&put, params![state.run, text])
            .and_then(|_| self.conn.execute(&changed, params![state.run, text, plan]))
            .map(drop)
            .map_err(self.err("write the run's record"))
    }

    pub(super) fn read_chunks(&self, run: &str) -> Result<Vec<(usize, Chunk)>> {
        if !self.has("backout_chunk")? {
            return Ok(Vec::new());
        }
        let rows = |mut s: rusqlite::Statement<'_>| {
            s.query_map([run], |r| {
                let chunk = Chunk {
                    n: r.get::<_, i64>(1)? as u64,
                    upto: r.get(2)?,
                    rows: r.get::<_, i64>(3)? as u64,
                    done: r.get(4)?,
                };
                Ok((r.get::<_, i64>(0)? as usize, chunk))
            })?
            .collect()
        };
        self.conn
            .prepare("SELECT t, n, upto, row_count, done FROM backout_chunk WHERE run = ?1 ORDER BY t")
            .and_then(rows)
            .map_err(self.err("read the chunks"))
    }

    pub(super) fn write_chunk(&self, run: &str, table: usize, chunk: &Chunk) -> Result<()> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO backout_chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut s| {
                s.execute(params![run, table as i64, chunk.n as i64, chunk.upto, chunk.rows as i64, chunk.done])
            })
            .map(drop)
            .map_err(self.err("record a chunk"))
    }

    pub(super) fn write_images(
        &self,
        run: &str,
        drain: u64,
        at: &str,
        images: &[(usize, Key, Option<Row>)],
    ) -> Result<()> {
        let put = || {
            // a drain's first image of a row is how the row was before it
            let mut s =
                self.conn.prepare_cached("INSERT OR IGNORE INTO backout_image VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for (table, key, row) in images {
                let row = row.as_ref().map(|r| encode_row(r));
                s.execute(params![run, drain as i64, at, *table as i64, key.0, row])?;
            }
            Ok(())
        };
        put().map_err(self.err("keep rows as they were"))
    }

    pub(super) fn read_image_drains(&self, run: &str) -> Result<Vec<(u64, String)>> {
        if !self.has("backout_image")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT drain, min(at) FROM backout_image WHERE run = ?1 GROUP BY drain ORDER BY drain";
        self.all("list the drains", sql, [run], |r| Ok((r.get::<_, i64>(0)? as u64, r.get(1)?)))
    }

    pub(super) fn read_images(&self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>> {
        if !self.has("backout_image")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT t, key, image FROM backout_image WHERE run = ?1 AND drain = ?2 ORDER BY t, key";
        self.all("read rows as they were", sql, params![run, drain as i64], |r| {
            let image: Option<Vec<u8>> = r.get(2)?;
            Ok((r.get::<_, i64>(0)? as usize, Key(r.get(1)?), image.map(|i| row_of(&i))))
        })
    }

    pub(super) fn read_parked(&self, run: &str) -> Result<Vec<Parked>> {
        if !self.has("backout_parked")? {
            return Ok(Vec::new());
        }
        let rows = |mut s: rusqlite::Statement<'_>| {
            s.query_map([run], |r| {
                Ok(Parked {
                    table: r.get::<_, i64>(0)? as usize,
                    key: Key(r.get(1)?),
                    row: r.get(2)?,
                    reason: r.get(3)?,
                })
            })?
            .collect()
        };
        self.conn
            .prepare("SELECT t, key, image, reason FROM backout_parked WHERE run = ?1 ORDER BY t, key")
            .and_then(rows)
            .map_err(self.err("read the parked rows"))
    }

    pub(super) fn write_parked(&self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()> {
        let put = || {
            let mut gone = self.conn.prepare_cached("DELETE FROM backout_parked WHERE run=?1 AND t=?2 AND key=?3")?;
            for (table, key) in remove {
                gone.execute(params![run, *table as i64, key.0])?;
            }
            let mut s =
                self.conn.prepare_cached("INSERT OR REPLACE INTO backout_parked VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for p in add {
                s.execute(params![run, p.table as i64, p.key.0, p.row, p.reason])?;
            }
            Ok(())
        };
        put().map_err(self.err("park rows"))
    }

    pub(super) fn read_pairs(&self, run: &str) -> Result<Vec<Pair>> {
        if !self.has("backout_pair")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT name, source, target FROM backout_pair WHERE run = ?1 ORDER BY name, source";
        let pair = |r: &rusqlite::Row<'_>| Ok(Pair { table: r.get(0)?, source: r.get(1)?, target: r.get(2)? });
        self.all("read pairs of keys", sql, [run], pair)
    }

    pub(super) fn write_pairs(&self, run: &str, pairs: &[Pair]) -> Result<()> {
        let put = || -> rusqlite::Result<()> {
            let mut s = self.conn.prepare_cached("INSERT INTO backout_pair VALUES (?1, ?2, ?3, ?4)")?;
            pairs.iter().try_for_each(|p| s.execute(params![run, p.table, p.source, p.target]).map(drop))
        };
        put().map_err(self.err("keep pairs of keys"))
    }

    pub(super) fn read_history(&self) -> Result<Vec<HistoryLine>> {
        if !self.has("backout_history")? {
            return Ok(Vec::new());
        }
        let rows = |mut s: rusqlite::Statement<'_>| {
            s.query_map([], |r| {
                Ok(HistoryLine {
                    run: r.get(0)?,
                    migration: r.get(1)?,
                    title: r.get(2)?,
                    plan_hash: r.get(3)?,
                    outcome: r.get(4)?,
                    started_at: r.get(5)?,
                    ended_at: r.get(6)?,
                    note: r.get(7)?,
                    // a history that an earlier version began has no such column
                    remains: r.get::<_, Option<String>>(8).ok().flatten().and_then(|t| serde_json::from_str(&t).ok()),
                })
            })?
            .collect()
        };
        self.conn
            .prepare("SELECT * FROM backout_history WHERE run <> '' ORDER BY rowid")
            .and_then(rows)
            .map_err(self.err("read the history"))
    }

    fn has_remains(&self) -> Result<bool> {
        let sql = "SELECT count(*) FROM pragma_table_info('backout_history') WHERE name = 'remains'";
        self.conn.query_row(sql, [], |r| r.get(0)).map_err(self.err("look at the history"))
    }

    /// Ends the run: only the history stays (and, in a target, the view over it).
    pub(super) fn end_run(&mut self, tables: &[&Table], line: &HistoryLine) -> Result<()> {
        let state = self.read_state()?;
        let target = state.is_some_and(|s| s.role == Role::Target);
        self.ddl()?;
        self.remove_triggers(tables, triggers::CAPTURE)?;
        self.remove_triggers(tables, triggers::SEAL)?;
        if self.record() == "backout_target" {
            // what else there is of the run is the source's too
            return self.run("drop the target's record", "DELETE FROM backout_target");
        }
        for name in ["log", "scratch", "meta", "run", "target", "chunk", "image", "parked", "pair", "text"] {
            self.run(&format!("drop backout_{name}"), &format!("DROP TABLE IF EXISTS backout_{name}"))?;
        }
        self.run("make the table of ended runs", HISTORY)?;
        let view: Option<String> = self
            .conn
            .query_row("SELECT sql FROM sqlite_schema WHERE name = 'migration_log'", [], |r| r.get(0))
            .optional()
            .map_err(self.err("look for the view migration_log"))?;
        let ours = is_our_view("migration_log", view.as_deref());
        // in place the store goes on as what it became
        let target = target || self.side.is_some() && line.outcome == "completed";
        // it tells of revisions too
        let stays = target || self.has("backout_revision")?;
        if stays && view.is_none() {
            self.run("make the view migration_log", VIEW)?;
        } else if !stays && ours {
            self.run("drop the view migration_log", "DROP VIEW migration_log")?;
        }
        let l = line;
        if !self.has_remains()? {
            self.run("widen the history", "ALTER TABLE backout_history ADD COLUMN remains TEXT")?;
        }
        let remains = l.remains.as_ref().map(serde_json::to_string).transpose();
        let remains = remains.map_err(|e| self.unreadable("the run's remains", &e))?;
        // a run that was closed already, the answer being lost, is told once
        self.conn
            .execute(
                "INSERT INTO backout_history SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 \
                 WHERE NOT EXISTS (SELECT 1 FROM backout_history WHERE run = ?1)",
                params![l.run, l.migration, l.title, l.plan_hash, l.outcome, l.started_at, l.ended_at, l.note, remains],
            )
            .map(drop)
            .map_err(self.err("write the history"))
    }
}
