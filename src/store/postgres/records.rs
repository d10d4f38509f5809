//! Our own records, in the schema `backout`.

use postgres::types::ToSql;

use super::copy::Wire;
use super::locks::lock_all;
use super::rows::{Array, MANY, params};
use super::{Postgres, code, quoted};
use crate::plan::{Pair, Table};
use crate::store::{Chunk, Error, HistoryLine, Mode, Parked, Result, Role, State};
use crate::value::{Key, Row, Value, encode_row, row_of};

/// What `prepare` makes; the history stays when a run has ended, the rest goes.
const RECORDS: &str = "
CREATE TABLE IF NOT EXISTS backout.run (run text PRIMARY KEY, plan text, state text NOT NULL);
CREATE TABLE IF NOT EXISTS backout.target (run text PRIMARY KEY, plan text, state text NOT NULL);
CREATE TABLE IF NOT EXISTS backout.chunk (run text, tbl int4, n int8 NOT NULL, upto bytea NOT NULL, rows int8 NOT NULL,
    done bool NOT NULL, PRIMARY KEY (run, tbl));
CREATE TABLE IF NOT EXISTS backout.image (run text NOT NULL, drain int8 NOT NULL, at text NOT NULL, tbl int4 NOT NULL,
    key bytea NOT NULL, row bytea);
CREATE TABLE IF NOT EXISTS backout.parked (run text, tbl int4, key bytea, row bytea NOT NULL, reason text NOT NULL,
    PRIMARY KEY (run, tbl, key));
CREATE TABLE IF NOT EXISTS backout.pair (run text NOT NULL, name text NOT NULL, source text NOT NULL, target text NOT NULL,
    PRIMARY KEY (run, name, target), UNIQUE (run, name, source));
CREATE TABLE IF NOT EXISTS backout.meta (tbl int4 PRIMARY KEY, name text NOT NULL, incarnation text NOT NULL,
    oid text, columns text, rewritten text, parts text, triggers text);
CREATE TABLE IF NOT EXISTS backout.mark (nonce text PRIMARY KEY, xid xid8 NOT NULL);
CREATE TABLE IF NOT EXISTS backout.overflow (tbl int4 NOT NULL, generation text NOT NULL);
";

/// Runs that ended, and what became of SQL revisions, which have no run; and the view of it that anyone can ask.
pub(crate) const HISTORY: &str = "
CREATE TABLE IF NOT EXISTS backout.history (line int8 PRIMARY KEY, run text NOT NULL, migration text NOT NULL,
    title text NOT NULL, plan_hash text NOT NULL, outcome text NOT NULL, started_at text NOT NULL,
    ended_at text NOT NULL, note text NOT NULL, remains text);
CREATE OR REPLACE VIEW backout.migration_log AS
    SELECT run, migration, title, outcome, started_at, ended_at, note, plan_hash,
    CASE WHEN outcome IN ('rolled back', 'rollback failed', 'unstamped') THEN 'down'
    WHEN outcome NOT IN ('acknowledged', 'let go') THEN 'up' END AS direction FROM backout.history ORDER BY line;
GRANT USAGE ON SCHEMA backout TO PUBLIC;
GRANT SELECT ON backout.migration_log TO PUBLIC;
";

/// All of ours but the history.
pub(super) const OURS: &[&str] = &["run", "target", "chunk", "image", "parked", "pair", "meta", "mark", "overflow"];

impl Postgres {
    /// Is there a table of ours by this name?
    pub(super) fn has(&mut self, table: &str) -> Result<bool> {
        // there is no swap without them
        if self.open == Some(Mode::Swap) && OURS.contains(&table) {
            return Ok(true);
        }
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
            ON n.oid = c.relnamespace WHERE n.nspname = 'backout' AND c.relname = $1)";
        Ok(self.ask("looking for our records", sql, &[&table])?.first().is_some_and(|l| l.get(0)))
    }

    /// Whether our tables are all there, or at least our schema.
    fn records_there(&mut self) -> Result<(bool, bool)> {
        let sql = "SELECT (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
                ON n.oid = c.relnamespace WHERE n.nspname = 'backout' AND c.relname = ANY($1)), \
            EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'backout')";
        let mut names = OURS.to_vec();
        names.extend(["history", "migration_log"]);
        let lines = self.query("looking for our records", sql, &[&names])?;
        Ok(lines.first().map_or((false, false), |l| (l.get::<_, i64>(0) == names.len() as i64, l.get(1))))
    }

    /// Refuses, before anything is made, what an administrator must permit first: the schema for our records, tables in the home.
    pub(super) fn may_make(&mut self) -> Result<()> {
        let user = self.may_keep()?;
        let sql = "SELECT has_schema_privilege($1, 'USAGE') AND has_schema_privilege($1, 'CREATE')";
        let lines = self.query("asking for privileges", sql, &[&self.home.clone()])?;
        if lines.first().is_none_or(|l| l.get(0)) {
            return Ok(());
        }
        let home = quoted(&self.home);
        Err(self.refused(
            format!("{user} may not make tables in the schema {home}"),
            &format!("an administrator runs once: GRANT USAGE, CREATE ON SCHEMA {home} TO {user};"),
        ))
    }

    /// Refuses if the place for our records could not be made; returns who we are, quoted.
    pub(super) fn may_keep(&mut self) -> Result<String> {
        self.refuse_standby()?;
        let (all, there) = self.records_there()?;
        let sql = "SELECT CASE WHEN $1 THEN has_schema_privilege('backout', 'CREATE') \
                ELSE has_database_privilege(current_database(), 'CREATE') END, current_user::text";
        let lines = self.query("asking for privileges", sql, &[&there])?;
        let Some(line) = lines.first() else { return Ok(String::new()) };
        if all || line.get(0) { Ok(quoted(line.get(1))) } else { Err(self.no_place(there)) }
    }

    /// A standby cannot be written to, and a run writes to both of its stores.
    pub(super) fn refuse_standby(&mut self) -> Result<()> {
        let lines = self.query("asking for the primary", "SELECT pg_is_in_recovery()", &[])?;
        if lines.first().is_some_and(|l| l.get(0)) {
            return Err(self.refused("it is a standby: it can only be read", "give the address of its primary"));
        }
        Ok(())
    }

    /// We may not make our schema, or our tables in it.
    fn no_place(&mut self, there: bool) -> Error {
        let names = self.query("asking who we are", "SELECT current_database()::text, current_user::text", &[]);
        let (database, user) = match names.as_ref().ok().and_then(|lines| lines.first()) {
            Some(line) => (quoted(line.get(0)), quoted(line.get(1))),
            None => ("…".to_owned(), "…".to_owned()),
        };
        let hint = if there {
            format!("an administrator runs once: ALTER SCHEMA backout OWNER TO {user};")
        } else {
            format!(
                "an administrator runs once: GRANT CREATE ON DATABASE {database} TO {user}; \
                 or CREATE SCHEMA backout AUTHORIZATION {user};"
            )
        };
        self.refused(format!("{user} may not make the schema backout, where the records of a run are kept"), &hint)
    }

    pub(super) fn make_records(&mut self) -> Result<()> {
        let (all, there) = self.records_there()?;
        if all {
            return Ok(());
        }
        // CREATE SCHEMA IF NOT EXISTS asks for the privilege even where there is nothing to do.
        let schema = if there { "" } else { "CREATE SCHEMA backout;" };
        let sql = format!("{schema}{RECORDS}{HISTORY}");
        let gate = self.gate.clone();
        gate.pass("making the place for records", || match self.client.batch_execute(&sql) {
            Ok(()) => Ok(()),
            Err(e) if code(&e) == "42501" => Err(self.no_place(there)),
            Err(e) => Err(self.fail("making the place for records", &e)),
        })
    }

    /// Where this session's side is recorded: of a run that has both here, the target apart.
    fn record(&self) -> &'static str {
        if matches!(self.side, Some((Role::Target, _))) { "target" } else { "run" }
    }

    pub(super) fn read_state(&mut self) -> Result<Option<State>> {
        let record = self.record();
        if !self.has(record)? {
            return Ok(None);
        }
        let sql = match (record, matches!(self.open, Some(Mode::Write | Mode::Lease | Mode::Swap))) {
            ("target", true) => "SELECT state FROM backout.target FOR UPDATE",
            ("target", false) => "SELECT state FROM backout.target",
            (_, true) => "SELECT state FROM backout.run FOR UPDATE",
            (_, false) => "SELECT state FROM backout.run",
        };
        let lines = self.ask("reading the run", sql, &[])?;
        let Some(line) = lines.first() else { return Ok(None) };
        let state = serde_json::from_str(line.get::<_, &str>(0));
        state.map(Some).map_err(|e| self.wrong("reading the run", e.to_string()))
    }

    pub(super) fn read_plan(&mut self, run: &str) -> Result<Option<String>> {
        if !self.has("run")? {
            return Ok(None);
        }
        let lines = self.query("reading the plan", "SELECT plan FROM backout.run WHERE run = $1", &[&run])?;
        Ok(lines.first().and_then(|l| l.get(0)))
    }

    pub(super) fn write_state(&mut self, state: &State, plan: Option<&str>) -> Result<()> {
        let text = serde_json::to_string(state).map_err(|e| self.wrong("recording the run", e.to_string()))?;
        let record = self.record();
        let sql = format!(
            "INSERT INTO backout.{record} (run, plan, state) VALUES ($1, $2, $3) ON CONFLICT (run) \
            DO UPDATE SET state = EXCLUDED.state, plan = coalesce(EXCLUDED.plan, backout.{record}.plan)"
        );
        self.execute("recording the run", &sql, &[&state.run, &plan, &text])?;
        self.mark_session(&state.run)
    }

    /// Marks our session for the rest of the transaction.
    pub(super) fn mark_session(&mut self, run: &str) -> Result<()> {
        // a swap begins with that
        if self.open == Some(Mode::Swap) {
            return Ok(());
        }
        self.ask("marking the session", "SELECT set_config('backout.session', $1, true)", &[&run]).map(|_| ())
    }

    pub(super) fn read_chunks(&mut self, run: &str) -> Result<Vec<(usize, Chunk)>> {
        if !self.has("chunk")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT tbl, n, upto, rows, done FROM backout.chunk WHERE run = $1 ORDER BY tbl";
        let lines = self.query("reading chunks", sql, &[&run])?;
        let chunk = |l: &postgres::Row| {
            let (n, rows): (i64, i64) = (l.get(1), l.get(3));
            (l.get::<_, i32>(0) as usize, Chunk { n: n as u64, upto: l.get(2), rows: rows as u64, done: l.get(4) })
        };
        Ok(lines.iter().map(chunk).collect())
    }

    pub(super) fn write_chunk(&mut self, run: &str, table: usize, chunk: &Chunk) -> Result<()> {
        let sql = "INSERT INTO backout.chunk (run, tbl, n, upto, rows, done) VALUES ($1, $2, $3, $4, $5, $6) \
            ON CONFLICT (run, tbl) DO UPDATE \
            SET n = EXCLUDED.n, upto = EXCLUDED.upto, rows = EXCLUDED.rows, done = EXCLUDED.done";
        let (n, rows) = (chunk.n as i64, chunk.rows as i64);
        let values: [&(dyn ToSql + Sync); 6] = [&run, &(table as i32), &n, &chunk.upto, &rows, &chunk.done];
        self.execute("recording a chunk", sql, &values)?;
        // A crash of the server may take back a chunk, rows and record together, and it is then read again. A table's last
        // chunk outlasts a crash, and with it all that was committed before.
        if chunk.done { Ok(()) } else { self.run("recording a chunk", "SET LOCAL synchronous_commit = off") }
    }

    pub(super) fn write_images(
        &mut self,
        run: &str,
        drain: u64,
        at: &str,
        images: &[(usize, Key, Option<Row>)],
    ) -> Result<()> {
        let sql = "INSERT INTO backout.image (run, drain, at, tbl, key, row) \
            SELECT $4, $5, $6, * FROM unnest($1::int4[], $2::bytea[], $3::bytea[])";
        for piece in images.chunks(MANY) {
            let mut arrays = [Array::new(Wire::Int4), Array::new(Wire::Bytea), Array::new(Wire::Bytea)];
            for (table, key, row) in piece {
                let row = row.as_ref().map_or(Value::Null, |r| Value::Blob(encode_row(r).into()));
                let values = [Value::Int(*table as i64), Value::Blob((&key.0).into()), row];
                for (array, value) in arrays.iter_mut().zip(&values) {
                    array.push(value).map_err(|e| self.wrong("keeping images", e))?;
                }
            }
            let drain = drain as i64;
            let mut all = params(&arrays);
            all.extend([&run as &(dyn ToSql + Sync), &drain, &at]);
            self.execute("keeping images", sql, &all)?;
        }
        Ok(())
    }

    pub(super) fn read_image_drains(&mut self, run: &str) -> Result<Vec<(u64, String)>> {
        if !self.has("image")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT drain, min(at) FROM backout.image WHERE run = $1 GROUP BY drain ORDER BY drain";
        let lines = self.query("listing the drains", sql, &[&run])?;
        Ok(lines.iter().map(|l| (l.get::<_, i64>(0) as u64, l.get(1))).collect())
    }

    pub(super) fn read_images(&mut self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>> {
        if !self.has("image")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT DISTINCT ON (tbl, key) tbl, key, row FROM backout.image WHERE run = $1 AND drain = $2 \
            ORDER BY tbl, key";
        let lines = self.query("reading images", sql, &[&run, &(drain as i64)])?;
        let image = |l: &postgres::Row| {
            let row: Option<Vec<u8>> = l.get(2);
            (l.get::<_, i32>(0) as usize, Key(l.get(1)), row.map(|r| row_of(&r)))
        };
        Ok(lines.iter().map(image).collect())
    }

    pub(super) fn read_parked(&mut self, run: &str) -> Result<Vec<Parked>> {
        if !self.has("parked")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT tbl, key, row, reason FROM backout.parked WHERE run = $1 ORDER BY tbl, key";
        let lines = self.ask("reading parked rows", sql, &[&run])?;
        let parked = |l: &postgres::Row| Parked {
            table: l.get::<_, i32>(0) as usize,
            key: Key(l.get(1)),
            row: l.get(2),
            reason: l.get(3),
        };
        Ok(lines.iter().map(parked).collect())
    }

    pub(super) fn write_parked(&mut self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()> {
        for (table, key) in remove {
            let sql = "DELETE FROM backout.parked WHERE run = $1 AND tbl = $2 AND key = $3";
            self.execute("parking rows", sql, &[&run, &(*table as i32), &key.0])?;
        }
        for p in add {
            let sql = "INSERT INTO backout.parked (run, tbl, key, row, reason) VALUES ($1, $2, $3, $4, $5) \
                ON CONFLICT (run, tbl, key) DO UPDATE SET row = EXCLUDED.row, reason = EXCLUDED.reason";
            self.execute("parking rows", sql, &[&run, &(p.table as i32), &p.key.0, &p.row, &p.reason])?;
        }
        Ok(())
    }

    pub(super) fn read_pairs(&mut self, run: &str) -> Result<Vec<Pair>> {
        if !self.has("pair")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT name, source, target FROM backout.pair WHERE run = $1 ORDER BY name, source";
        let lines = self.query("reading pairs of keys", sql, &[&run])?;
        Ok(lines.iter().map(|l| Pair { table: l.get(0), source: l.get(1), target: l.get(2) }).collect())
    }

    pub(super) fn write_pairs(&mut self, run: &str, pairs: &[Pair]) -> Result<()> {
        let sql = "INSERT INTO backout.pair (run, name, source, target) \
            SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])";
        for some in pairs.chunks(MANY) {
            let column = |of: fn(&Pair) -> &String| some.iter().map(of).collect::<Vec<_>>();
            let (names, sources, targets) = (column(|p| &p.table), column(|p| &p.source), column(|p| &p.target));
            self.execute("keeping pairs of keys", sql, &[&run, &names, &sources, &targets])?;
        }
        Ok(())
    }

    pub(super) fn read_history(&mut self) -> Result<Vec<HistoryLine>> {
        if !self.has("history")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT run, migration, title, plan_hash, outcome, started_at, ended_at, note, \
            pg_catalog.to_jsonb(h) ->> 'remains' FROM backout.history h WHERE run <> '' ORDER BY line";
        let lines = self.query("reading the history", sql, &[])?;
        let line = |l: &postgres::Row| HistoryLine {
            run: l.get(0),
            migration: l.get(1),
            title: l.get(2),
            plan_hash: l.get(3),
            outcome: l.get(4),
            started_at: l.get(5),
            ended_at: l.get(6),
            note: l.get(7),
            // a history that an earlier version began has no such column
            remains: l.get::<_, Option<&str>>(8).and_then(|t| serde_json::from_str(t).ok()),
        };
        Ok(lines.iter().map(line).collect())
    }

    pub(super) fn end_run(&mut self, tables: &[&Table], line: &HistoryLine) -> Result<()> {
        if self.record() == "target" {
            // what else there is of the run is the source's too
            self.drop_triggers(tables)?;
            return self.run("dropping the target's record", "DELETE FROM backout.target");
        }
        self.make_records()?;
        // a run that was closed already, the answer being lost, is told once
        let sql = "INSERT INTO backout.history (line, run, migration, title, plan_hash, outcome, started_at, ended_at, note, remains) \
            SELECT coalesce(max(line), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9 FROM backout.history \
            HAVING NOT EXISTS (SELECT FROM backout.history WHERE run = $1)";
        let l = line;
        let remains = l.remains.as_ref().map(serde_json::to_string).transpose();
        let remains = remains.map_err(|e| self.wrong("writing the history", e.to_string()))?;
        let there = "SELECT FROM pg_catalog.pg_attribute \
            WHERE attrelid = 'backout.history'::pg_catalog.regclass AND attname = 'remains'";
        if self.query("looking at the history", there, &[])?.is_empty() {
            self.run("widening the history", "ALTER TABLE backout.history ADD COLUMN remains text")?;
        }
        let values: [&(dyn ToSql + Sync); 9] =
            [&l.run, &l.migration, &l.title, &l.plan_hash, &l.outcome, &l.started_at, &l.ended_at, &l.note, &remains];
        self.execute("writing the history", sql, &values)?;
        // whoever reads or vacuums our own tables is waited for before anyone waits for us
        let there = self.present(tables)?;
        let mut names: Vec<String> = there.iter().map(|t| self.name(t)).collect();
        let sql = "SELECT format('backout.%I', relname) FROM pg_catalog.pg_class \
            WHERE relnamespace = 'backout'::regnamespace AND relkind = 'r' AND relname <> 'history' ORDER BY 1";
        names.extend(self.query("closing the run", sql, &[])?.iter().map(|l| l.get::<_, String>(0)));
        self.ddl("closing the run", &there, lock_all(&names, "ACCESS EXCLUSIVE").trim_end_matches(';'))?;
        self.drop_triggers(tables)?;
        self.drop_logs()?;
        let ours: Vec<String> = OURS.iter().map(|t| format!("backout.{t}")).collect();
        self.run("dropping our records", &format!("DROP TABLE IF EXISTS {}", ours.join(", ")))
    }
}
