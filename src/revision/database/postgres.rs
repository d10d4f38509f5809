//! Revisions in a PostgreSQL database.

use std::io::Write;

use postgres::{Client, Config, SimpleQueryMessage};

use super::{Database, Record};
use crate::gate::Gate;
use crate::plan::Kind;
use crate::store::postgres::records::HISTORY;
use crate::store::postgres::{code, configured, connect, failed, quoted, title_of, words};
use crate::store::{Error, HistoryLine, Result};
use crate::value::{Row, Value};

const RECORDS: &str = "CREATE TABLE IF NOT EXISTS backout.revision (version text PRIMARY KEY, name text NOT NULL, standing text NOT NULL, \
    at text NOT NULL, record text NOT NULL);";

/// What a session of a script's relies on. All else is as the role and the database have it, as for the application.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0; \
    SET client_min_messages = warning; SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');";

/// The advisory lock of whoever proves in a scratch database.
const TAKEN: i64 = 0x6261_636b;

/// How long we wait for another proof.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A PostgreSQL database.
pub struct Postgres {
    client: Client,
    config: Config,
    title: String,
    gate: Gate,
    open: bool,
    /// A scratch database: its name, and the database it was made from, from where it is dropped.
    made: Option<(String, Config)>,
    /// A scratch database that others made: it is emptied when we leave it.
    lent: bool,
}

impl Postgres {
    pub(super) fn open(url: &str, gate: &Gate) -> Result<Postgres> {
        Postgres::with(configured(url)?, gate)
    }

    fn with(config: Config, gate: &Gate) -> Result<Postgres> {
        let mut client = connect(&config)?;
        let title = title_of(&config);
        client.batch_execute(SETTINGS).map_err(|e| failed(&title, "setting the session up", &e))?;
        Ok(Postgres { client, config, title, gate: gate.clone(), open: false, made: None, lent: false })
    }

    fn fail(&self, operation: &str, e: &postgres::Error) -> Error {
        failed(&self.title, operation, e)
    }

    /// What a statement of the user's said, with the place it speaks of.
    fn said(&self, e: &postgres::Error) -> Error {
        let mut error = self.fail("run", e);
        if let (Error::Database { cause, .. }, Some(state)) = (&mut error, e.code()) {
            *cause = format!("{} ({})", words(e), state.code());
        }
        error
    }

    fn run_now(&mut self, sql: &str) -> Result<()> {
        let done = self.client.batch_execute(sql);
        done.map_err(|e| self.said(&e))
    }

    /// Scratch databases that someone who was killed left behind an hour ago or earlier. What cannot be removed stays.
    fn sweep(&mut self) {
        let old = "SELECT datname FROM pg_catalog.pg_database d WHERE datname ~ '^backout_scratch_[0-9]+_' \
            AND split_part(datname, '_', 3)::int8 < extract(epoch FROM now()) - 3600 \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datname = d.datname)";
        for row in self.query(old).unwrap_or_default() {
            if let Some(Value::Text(name)) = row.first() {
                let sql = format!("DROP DATABASE IF EXISTS {}", quoted(&String::from_utf8_lossy(name)));
                let _ = self.client.batch_execute(&sql);
            }
        }
    }

    /// Takes a scratch database for ourselves: one proof at a time. What it is taken by is seen from each session in the same database.
    fn take(&mut self) -> Result<()> {
        let begun = std::time::Instant::now();
        while self.query(&format!("SELECT 1 WHERE pg_try_advisory_lock({TAKEN})"))?.is_empty() {
            if begun.elapsed() > PATIENCE {
                return Err(Error::Locked {
                    store: self.title.clone(),
                    cause: format!("another proof uses this scratch database; waited {} s", PATIENCE.as_secs()),
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(())
    }

    /// Refuses to use this database as a scratch one if that other session is in it, too.
    fn is_not(&mut self, other: &mut Postgres) -> Result<()> {
        let mine = self.query("SELECT pg_backend_pid()")?;
        let Some(Value::Text(pid)) = mine.first().and_then(|row| row.first()) else { return Ok(()) };
        let seen = other.query(&format!(
            "SELECT 1 FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database \
             WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = {TAKEN} AND l.granted AND l.pid = {}",
            String::from_utf8_lossy(pid)
        ))?;
        if seen.is_empty() {
            return Ok(());
        }
        Err(Error::Refused {
            store: other.title.clone(),
            cause: "[project] scratch names a store of this project, and everything in a scratch database is dropped"
                .into(),
            hint: "give the proofs an empty database of their own in [project] scratch".into(),
        })
    }

    /// Empties a database that is ours to empty: it has nothing in it, or what an earlier proof left there.
    fn empty(&mut self) -> Result<()> {
        let foreign = self.query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace s WHERE s.nspname = 'backout_scratch') LIMIT 1",
        )?;
        if let Some(Value::Text(name)) = foreign.first().and_then(|row| row.first()) {
            return Err(Error::Refused {
                store: self.title.clone(),
                cause: format!("it is to be the scratch database, and holds {}", String::from_utf8_lossy(name)),
                hint: "give an empty database of its own in [project] scratch: everything in it is dropped".into(),
            });
        }
        self.run_now(
            "CREATE SCHEMA IF NOT EXISTS backout_scratch; \
             DO $$ DECLARE s text; BEGIN FOR s IN SELECT nspname FROM pg_catalog.pg_namespace \
             WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'backout_scratch') LOOP \
             EXECUTE format('DROP SCHEMA %I CASCADE', s); END LOOP; END $$; CREATE SCHEMA public",
        )
    }
}

/// Refuses a scratch database that is one of these stores; one that cannot be reached cannot be asked.
pub(super) fn check_scratch(at: &str, stores: &[&str]) -> Result<()> {
    let mut scratch = Postgres::open(at, &Gate::default())?;
    scratch.take()?;
    for url in stores {
        if let Ok(mut other) = Postgres::open(url, &Gate::default()) {
            scratch.is_not(&mut other)?;
        }
    }
    Ok(())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.lent {
            self.rollback();
            // copies of rows stay nowhere; what cannot be emptied now is emptied by the next proof, which knows it by that schema
            if self.empty().is_ok() {
                let _ = self.client.batch_execute("DROP SCHEMA backout_scratch");
            }
        }
        if let Some((name, config)) = self.made.take()
            && let Ok(mut client) = connect(&config)
        {
            // what cannot be dropped now is removed by a later proof
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name)));
        }
    }
}

impl Database for Postgres {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn begin(&mut self) -> Result<()> {
        self.client.batch_execute("BEGIN").map_err(|e| failed(&self.title, "begin", &e))?;
        self.open = true;
        Ok(())
    }

    fn commit(&mut self, what: &str) -> Result<()> {
        let gate = self.gate.clone();
        let done = gate.pass(what, || {
            // a COMMIT of a transaction that has failed is answered with ROLLBACK, and no error
            let said = self.client.simple_query("SET CONSTRAINTS ALL IMMEDIATE; COMMIT");
            said.map(drop).map_err(|e| self.fail(what, &e))
        });
        match done {
            Ok(()) => self.open = false,
            Err(_) => self.rollback(),
        }
        done
    }

    fn rollback(&mut self) {
        if self.open {
            // a session that is gone has rolled back
            let _ = self.client.batch_execute("ROLLBACK");
        }
        self.open = false;
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        if self.open {
            return self.run_now(sql);
        }
        let gate = self.gate.clone();
        gate.pass("a statement", || self.run_now(sql))
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let messages = self.client.simple_query(sql).map_err(|e| failed(&self.title, "ask", &e))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|i| row.get(i).map_or(Value::Null, |t| Value::text(t))).collect())
                }
                _ => None,
            })
            .collect())
    }

    fn put_rows(&mut self, table: &str, columns: &[String], rows: &[Row]) -> Result<()> {
        let sql = format!("COPY {table} ({}) FROM STDIN", columns.join(", "));
        let title = self.title.clone();
        let fail = |e: &postgres::Error| failed(&title, &format!("put rows into {table}"), e);
        let mut copy = self.client.copy_in(&sql).map_err(|e| fail(&e))?;
        let mut lines = String::new();
        for row in rows {
            for (i, value) in row.iter().enumerate() {
                if i > 0 {
                    lines.push('\t');
                }
                match value {
                    Value::Text(text) => {
                        for c in String::from_utf8_lossy(text).chars() {
                            match c {
                                '\\' => lines.push_str("\\\\"),
                                '\n' => lines.push_str("\\n"),
                                '\r' => lines.push_str("\\r"),
                                '\t' => lines.push_str("\\t"),
                                c => lines.push(c),
                            }
                        }
                    }
                    _ => lines.push_str("\\N"),
                }
            }
            lines.push('\n');
        }
        let sent = copy.write_all(lines.as_bytes());
        sent.map_err(|e| Error::Server {
            store: title.clone(),
            cause: e.to_string(),
            hint: "run the command again".into(),
        })?;
        copy.finish().map(drop).map_err(|e| fail(&e))
    }

    fn wants_no_transaction(&self, error: &Error) -> bool {
        matches!(error, Error::Database { cause, .. } if cause.ends_with("(25001)"))
    }

    fn scratch(&mut self, at: Option<&str>) -> Result<Box<dyn Database>> {
        if let Some(url) = at {
            let mut scratch = Postgres::open(url, &Gate::default())?;
            scratch.take()?;
            scratch.is_not(self)?;
            scratch.empty()?;
            scratch.lent = true;
            return Ok(Box::new(scratch));
        }
        self.sweep();
        let nonce = &uuid::Uuid::new_v4().simple().to_string()[..8];
        let name = format!("backout_scratch_{}_{nonce}", jiff::Timestamp::now().as_second());
        let like = "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype) \
            FROM pg_catalog.pg_database WHERE datname = current_database()";
        let like = match self.query(like)?.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Value::Text(text)) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let sql = format!("CREATE DATABASE {} TEMPLATE template0 {like}", quoted(&name));
        self.client.batch_execute(&sql).map_err(|e| match code(&e) {
            "42501" => Error::Refused {
                store: self.title.clone(),
                cause: "the way back is proven in a scratch database, and this role may not create one".into(),
                hint: "ALTER ROLE … CREATEDB, or name an empty database: [project] scratch = \"postgres://…\"".into(),
            },
            _ => failed(&self.title, "create a scratch database", &e),
        })?;
        let mut config = self.config.clone();
        config.dbname(&name);
        let mut scratch = Postgres::with(config, &Gate::default())?;
        scratch.made = Some((name, self.config.clone()));
        scratch.title = "the scratch database".into();
        Ok(Box::new(scratch))
    }

    fn prepare(&mut self) -> Result<()> {
        // asked first: a role that may not create the schema may still use it
        let asked = "SELECT (to_regnamespace('backout') IS NOT NULL)::int + (to_regclass('backout.revision') IS NOT NULL \
            AND to_regclass('backout.history') IS NOT NULL AND to_regclass('backout.migration_log') IS NOT NULL)::int";
        match self.query(asked)?.first().and_then(|row| row.first()) {
            Some(found) if *found == Value::text("2") => Ok(()),
            Some(found) if *found == Value::text("1") => self.run_now(&format!("{RECORDS}{HISTORY}")),
            _ => self.run_now(&format!("CREATE SCHEMA backout; {RECORDS}{HISTORY}")),
        }
    }

    fn records(&mut self) -> Result<Vec<Record>> {
        if self.query("SELECT 1 WHERE to_regclass('backout.revision') IS NOT NULL")?.is_empty() {
            return Ok(Vec::new());
        }
        let lines = self.query("SELECT record FROM backout.revision")?;
        super::read_records(&self.title, lines)
    }

    fn put_record(&mut self, record: &Record) -> Result<()> {
        let (standing, text) = super::written(&self.title, record)?;
        let sql = "INSERT INTO backout.revision VALUES ($1, $2, $3, $4, $5) ON CONFLICT (version) DO UPDATE \
            SET name = excluded.name, standing = excluded.standing, at = excluded.at, record = excluded.record";
        let done = self.client.execute(sql, &[&record.stamp, &record.slug, &standing, &record.at, &text]);
        done.map(drop).map_err(|e| self.fail("record a revision", &e))
    }

    fn remove_record(&mut self, stamp: &str) -> Result<()> {
        let gone = self.client.execute("DELETE FROM backout.revision WHERE version = $1", &[&stamp]);
        gone.map(drop).map_err(|e| self.fail("remove a revision's record", &e))
    }

    fn log(&mut self, l: &HistoryLine) -> Result<()> {
        let sql = "INSERT INTO backout.history (line, run, migration, title, plan_hash, outcome, started_at, ended_at, note) \
            SELECT coalesce(max(line), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8 FROM backout.history";
        let values: [&(dyn postgres::types::ToSql + Sync); 8] =
            [&l.run, &l.migration, &l.title, &l.plan_hash, &l.outcome, &l.started_at, &l.ended_at, &l.note];
        self.client.execute(sql, &values).map(drop).map_err(|e| self.fail("write the log", &e))
    }
}
