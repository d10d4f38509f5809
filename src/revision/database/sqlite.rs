//! Revisions in a SQLite file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Batch, Connection, OpenFlags, OptionalExtension, params, params_from_iter};

use super::{Database, Record};
use crate::gate::Gate;
use crate::plan::Kind;
use crate::store::sqlite::records::{HISTORY, VIEW};
use crate::store::sqlite::{ask_again, bound, failure, owned};
use crate::store::{Error, HistoryLine, Result};
use crate::value::{Row, Value};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS backout_revision \
    (version TEXT PRIMARY KEY, name TEXT NOT NULL, standing TEXT NOT NULL, at TEXT NOT NULL, record TEXT NOT NULL)";

/// How long others may wait for what is gathered, beside the last of it.
const MOMENT: Duration = Duration::from_millis(50);

/// How the folders of scratch databases are called.
const SCRATCH: &str = "backout-scratch";

/// A SQLite file.
pub struct Sqlite {
    path: PathBuf,
    title: String,
    gate: Gate,
    conn: Option<Connection>,
    create: bool,
    open: bool,
    gathers: bool,
    /// What was committed since then waits for the file's own commit, and what that is called.
    gathered: Option<(Instant, String)>,
    /// A scratch database lies in this folder, and goes with it.
    _folder: Option<tempfile::TempDir>,
}

impl Sqlite {
    pub(super) fn open(path: &Path, title: &str, create: bool, gate: &Gate) -> Result<Sqlite> {
        let mut database = Sqlite {
            path: path.to_owned(),
            title: title.to_owned(),
            gate: gate.clone(),
            conn: None,
            create,
            open: false,
            gathers: false,
            gathered: None,
            _folder: None,
        };
        let there = path.exists();
        if there {
            database.conn = Some(database.connect(false)?);
        } else if !create || !path.parent().is_some_and(|folder| folder.as_os_str().is_empty() || folder.is_dir()) {
            return Err(Error::Input {
                store: title.to_owned(),
                cause: "there is no such file".into(),
                hint: "check the path in backout.toml".into(),
            });
        }
        Ok(database)
    }

    fn connect(&self, create: bool) -> Result<Connection> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let no = |e: rusqlite::Error| failure(&self.title, "open", &e);
        let mut conn = Connection::open_with_flags(&self.path, flags).map_err(no)?;
        conn.busy_handler(Some(ask_again)).map_err(no)?;
        // one text for a whole row, by which it is told whether it was changed
        conn.create_scalar_function("backout_digest", -1, FunctionFlags::SQLITE_UTF8, |row| {
            let values: Vec<_> = (0..row.len()).map(|i| owned(row.get_raw(i))).collect();
            Ok(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&crate::value::encode_row(&values))))
        })
        .map_err(no)?;
        conn.execute_batch("PRAGMA foreign_keys = OFF; SELECT count(*) FROM sqlite_schema;").map_err(no)?;
        Ok(conn)
    }

    fn conn(&mut self) -> Result<&Connection> {
        if self.conn.is_none() {
            self.conn = Some(self.connect(self.create)?);
        }
        self.conn.as_ref().ok_or_else(|| self.error("open", "there is no connection"))
    }

    fn error(&self, operation: &str, cause: &str) -> Error {
        Error::Database { store: self.title.clone(), operation: operation.into(), cause: cause.into() }
    }

    fn run_as(&mut self, operation: &str, sql: &str) -> Result<()> {
        let title = self.title.clone();
        self.conn()?.execute_batch(sql).map_err(|e| failure(&title, operation, &e))
    }

    /// The same, but for what would be a parameter in a program, and NULL here, without a word.
    fn run_each(&mut self, sql: &str) -> Result<()> {
        let title = self.title.clone();
        let fail = |e: rusqlite::Error| failure(&title, "run", &e);
        let mut parameter = None;
        let mut statements = Batch::new(self.conn()?, sql);
        while let Some(mut statement) = statements.next().map_err(fail)? {
            if statement.parameter_count() > 0 {
                parameter = Some(statement.parameter_name(1).unwrap_or("?").to_owned());
                break;
            }
            let mut rows = statement.query([]).map_err(fail)?;
            while rows.next().map_err(fail)?.is_some() {}
        }
        match parameter {
            None => Ok(()),
            Some(name) => Err(self
                .error("run", &format!("{name} is a parameter, which nobody gives a value: write the value itself"))),
        }
    }

    /// Rows that refer to rows that do not exist, as the open transaction sees it.
    fn orphans(conn: &Connection) -> rusqlite::Result<Vec<String>> {
        let mut asked = conn.prepare("PRAGMA foreign_key_check")?;
        let rows = asked.query_map([], |r| {
            let (table, row, parent): (String, Option<i64>, String) = (r.get(0)?, r.get(1)?, r.get(2)?);
            Ok(match row {
                Some(row) => format!("{table} (rowid {row}) refers to a row of {parent} that does not exist"),
                None => format!("a row of {table} refers to a row of {parent} that does not exist"),
            })
        })?;
        rows.collect()
    }

    /// Refuses what the transaction would leave dangling and was not before.
    fn check_references(&mut self) -> Result<()> {
        let title = self.title.clone();
        let ask = |e: rusqlite::Error| failure(&title, "check the foreign keys", &e);
        let after = Sqlite::orphans(self.conn()?).map_err(ask)?;
        if after.is_empty() {
            return Ok(());
        }
        // another connection still sees what was before
        let before = self.connect(false).and_then(|other| Sqlite::orphans(&other).map_err(ask)).unwrap_or_default();
        let born: Vec<&String> = after.iter().filter(|one| !before.contains(one)).take(5).collect();
        if born.is_empty() {
            return Ok(());
        }
        let list = born.iter().map(|s| s.as_str()).collect::<Vec<_>>().join("; ");
        Err(self.error("commit", &format!("foreign keys would be broken: {list}")))
    }

    /// Makes true what is gathered.
    fn settle(&mut self) -> Result<()> {
        let Some((_, what)) = self.gathered.take() else { return Ok(()) };
        let gate = self.gate.clone();
        let done = gate.pass(&what, || self.run_as(&what, "COMMIT"));
        if done.is_err() {
            self.rollback();
        }
        done
    }

    fn has_records(&mut self) -> Result<bool> {
        let title = self.title.clone();
        let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'backout_revision'";
        let asked = self.conn()?.query_row(sql, [], |_| Ok(())).optional();
        Ok(asked.map_err(|e| failure(&title, "look for the history", &e))?.is_some())
    }
}

/// Scratch databases that someone who was killed left behind a day ago or earlier. What cannot be removed stays.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(SCRATCH)) {
        let used = std::fs::metadata(entry.path().join("scratch.db")).or_else(|_| entry.metadata());
        let age = used.and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > std::time::Duration::from_secs(24 * 3600)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Database for Sqlite {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn begin(&mut self) -> Result<()> {
        if self.gathered.is_some() && self.conn()?.is_autocommit() {
            // the statement that failed took back what was before it, too
            self.gathered = None;
        }
        match self.gathered {
            Some(_) => self.run_as("begin", "SAVEPOINT gathered")?,
            // a script before this one may have changed it
            None => self.run_as("begin", "PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE")?,
        }
        self.open = true;
        Ok(())
    }

    fn commit(&mut self, what: &str) -> Result<()> {
        let since = self.gathered.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        let done = self.check_references().and_then(|()| {
            if self.gathered.is_some() {
                self.run_as(what, "RELEASE gathered")?;
            }
            self.gathered = Some((since, what.to_owned()));
            self.open = false;
            if self.gathers && since.elapsed() < MOMENT { Ok(()) } else { self.settle() }
        });
        if done.is_err() {
            self.rollback();
        }
        done
    }

    fn gather(&mut self, on: bool) -> Result<()> {
        self.gathers = on;
        if on { Ok(()) } else { self.settle() }
    }

    fn rollback(&mut self) {
        let only = self.gathered.is_some();
        if only && !self.open {
            return;
        }
        if let Some(conn) = &self.conn
            && !conn.is_autocommit()
        {
            let sql = if only { "ROLLBACK TO gathered; RELEASE gathered" } else { "ROLLBACK" };
            // a failed ROLLBACK leaves the transaction to the next open of the file, which rolls it back
            let _ = conn.execute_batch(sql);
        }
        self.open = false;
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        if self.open {
            return self.run_each(sql);
        }
        let gate = self.gate.clone();
        gate.pass("a statement", || self.run_each(sql))
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let title = self.title.clone();
        let ask = |conn: &Connection| -> rusqlite::Result<Vec<Row>> {
            let mut asked = conn.prepare(sql)?;
            let width = asked.column_count();
            let rows = asked.query_map([], |r| (0..width).map(|i| r.get_ref(i).map(owned)).collect())?;
            rows.collect()
        };
        let no = |e: rusqlite::Error| failure(&title, "ask", &e);
        // a question makes no file
        if self.conn.is_none() && !self.path.exists() {
            return Connection::open_in_memory().and_then(|nothing| ask(&nothing)).map_err(no);
        }
        ask(self.conn()?).map_err(no)
    }

    fn put_rows(&mut self, table: &str, columns: &[String], rows: &[Row]) -> Result<()> {
        let title = self.title.clone();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO {table} ({}) VALUES ({marks})", columns.join(", "));
        let put = |conn: &Connection| -> rusqlite::Result<()> {
            let mut statement = conn.prepare(&sql)?;
            for row in rows {
                statement.execute(params_from_iter(row.iter().map(bound)))?;
            }
            Ok(())
        };
        put(self.conn()?).map_err(|e| failure(&title, &format!("put rows into {table}"), &e))
    }

    fn wants_no_transaction(&self, error: &Error) -> bool {
        matches!(error, Error::Database { cause, .. }
            if cause.contains("within a transaction") || cause.contains("from within a transaction"))
    }

    fn scratch(&mut self, _at: Option<&str>) -> Result<Box<dyn Database>> {
        let failed =
            |cause| Error::File { operation: "make a folder for".into(), path: "a scratch database".into(), cause };
        sweep();
        let folder = tempfile::Builder::new().prefix(SCRATCH).tempdir().map_err(failed)?;
        let path = folder.path().join("scratch.db");
        let mut scratch = Sqlite::open(&path, "the scratch database", true, &Gate::default())?;
        // nothing in it has to outlive us
        scratch.run_as("set it up", "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")?;
        scratch._folder = Some(folder);
        Ok(Box::new(scratch))
    }

    fn prepare(&mut self) -> Result<()> {
        let places = [("backout_revision", TABLE), ("backout_history", HISTORY), ("migration_log", VIEW)];
        let asked =
            "SELECT name FROM sqlite_schema WHERE name IN ('backout_revision', 'backout_history', 'migration_log')";
        let there = self.query(asked)?;
        for (name, sql) in places {
            // somebody else's table of that name stays as it is
            if !there.iter().any(|row| row.first() == Some(&Value::text(name))) {
                self.run_as(&format!("make {name}"), sql)?;
            }
        }
        Ok(())
    }

    fn records(&mut self) -> Result<Vec<Record>> {
        if !self.path.exists() || !self.has_records()? {
            return Ok(Vec::new());
        }
        let lines = self.query("SELECT record FROM backout_revision")?;
        super::read_records(&self.title, lines)
    }

    fn put_record(&mut self, record: &Record) -> Result<()> {
        let title = self.title.clone();
        let (standing, text) = super::written(&title, record)?;
        let sql = "INSERT OR REPLACE INTO backout_revision VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![record.stamp, record.slug, standing, record.at, text];
        self.conn()?.execute(sql, values).map(drop).map_err(|e| failure(&title, "record a revision", &e))
    }

    fn remove_record(&mut self, stamp: &str) -> Result<()> {
        let title = self.title.clone();
        let gone = self.conn()?.execute("DELETE FROM backout_revision WHERE version = ?1", [stamp]);
        gone.map(drop).map_err(|e| failure(&title, "remove a revision's record", &e))
    }

    fn log(&mut self, l: &HistoryLine) -> Result<()> {
        let title = self.title.clone();
        let sql = "INSERT INTO backout_history (run, migration, title, plan_hash, outcome, started_at, ended_at, note) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let values = params![l.run, l.migration, l.title, l.plan_hash, l.outcome, l.started_at, l.ended_at, l.note];
        self.conn()?.execute(sql, values).map(drop).map_err(|e| failure(&title, "write the log", &e))
    }
}
