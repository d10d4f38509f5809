//! The PostgreSQL store.
//!
//! One session, transactions by plain BEGIN and COMMIT. Our own records, the change log and the functions of our triggers
//! are in the schema `backout`; the tables of a plan are in the session's current schema. Everything works as the plain
//! owner of the tables.

mod build;
mod capture;
mod copy;
mod records;
mod rows;
mod schema;
mod write;

use std::time::{Duration, Instant};

use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row as Line};

use crate::gate::Gate;
use crate::plan::{Kind, Table};
use crate::store::{
    Chunk, Entry, Error, HistoryLine, LogSize, Mode, Parked, Position, Result, Schema, State, Store, Write,
};
use crate::value::{Batch, Key, Row};

/// Opens the database at `location`, a `postgres://` URL.
///
/// # Errors
/// [`Error::Server`] when it cannot be reached or does not let us in.
pub fn open(location: &str, gate: &Gate) -> Result<Box<dyn Store>> {
    let mut config: Config = location.parse().map_err(|_| Error::Server {
        store: "PostgreSQL".into(),
        cause: "its address cannot be read".into(),
        hint:
            "write postgres://USER:PASSWORD@HOST:PORT/DATABASE; in a password, write %40 for @, %2F for /, %3F for ? \
               and %23 for #; options that only libpq knows are not known here"
                .into(),
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host("localhost");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    config.application_name("backout");
    Ok(Box::new(Postgres::connect(config, gate.clone())?))
}

/// How long we try for a lock before we say who holds it.
const PATIENCE: Duration = Duration::from_secs(10);

struct Postgres {
    client: Client,
    config: Config,
    gate: Gate,
    title: String,
    /// The current schema, where the plan's tables are.
    home: String,
    version: i32,
    open: Option<Mode>,
    locked: bool,
}

/// A quoted identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Quoted identifiers, with commas.
fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|n| quoted(n.as_ref())).collect::<Vec<_>>().join(", ")
}

fn title_of(config: &Config) -> String {
    use postgres::config::Host;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        #[allow(unreachable_patterns)]
        _ => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("its default database");
    if port == 5432 {
        format!("PostgreSQL {database} on {host}")
    } else {
        format!("PostgreSQL {database} on {host}:{port}")
    }
}

/// A server's error with its cause, detail and place.
fn words(e: &postgres::Error) -> String {
    use std::error::Error as _;
    if let Some(db) = e.as_db_error() {
        let mut out = db.message().to_owned();
        for more in [db.detail(), db.hint()].into_iter().flatten() {
            out.push_str("; ");
            out.push_str(more);
        }
        if let Some(place) = db.where_().filter(|w| w.starts_with("COPY")) {
            out.push_str(" (");
            out.push_str(place);
            out.push(')');
        }
        return out;
    }
    let mut out = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        let more = c.to_string();
        if !out.contains(&more) {
            out.push_str(": ");
            out.push_str(&more);
        }
        cause = c.source();
    }
    out
}

fn code(e: &postgres::Error) -> &str {
    e.code().map_or("", |c| c.code())
}

/// A failed statement as a store's error.
fn failed(store: &str, operation: &str, e: &postgres::Error) -> Error {
    let (store, cause) = (store.to_owned(), words(e));
    let operation = operation.to_owned();
    match code(e) {
        "55P03" | "40P01" => Error::Locked { store, cause: format!("{operation}: {cause}") },
        "42501" => Error::Refused {
            store,
            cause: format!("{operation}: {cause}"),
            hint: "connect as the owner of the tables, or have an administrator grant it".into(),
        },
        "" | "25P03" | "57P01" | "57P02" | "57P03" => Error::Server {
            store,
            cause: format!("{operation}: the connection was lost: {cause}"),
            hint: "what was not committed is undone; run the command again".into(),
        },
        c if c.starts_with("08") => Error::Server { store, cause, hint: "run the command again".into() },
        _ => Error::Database { store, operation, cause },
    }
}

fn refused_connection(title: &str, e: &postgres::Error) -> Error {
    let hint = match code(e) {
        "28P01" => "the user or the password is wrong",
        "28000" => "the server lets no such user in from here: look at pg_hba.conf, and at the user's name",
        "3D000" => "there is no such database: look at its name, or create it",
        "42501" => "an administrator can GRANT CONNECT ON DATABASE",
        "53300" => "the server has no connection left: close some, or raise max_connections",
        "57P03" => "the server is starting or stopping: try again in a moment",
        _ => {
            "is the server running, and are host and port right? (TLS is not spoken yet: sslmode=require will not work)"
        }
    };
    Error::Server { store: title.to_owned(), cause: words(e), hint: hint.into() }
}

/// Connects in a thread of its own: the driver's limit is for reaching the host, and a server that accepts and then says nothing
/// would hold us up for ever.
fn connected(config: &Config, title: &str) -> Result<Client> {
    let limit = config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10));
    let (tell, told) = std::sync::mpsc::channel();
    let asked = config.clone();
    std::thread::spawn(move || drop(tell.send(asked.connect(NoTls))));
    match told.recv_timeout(limit + Duration::from_millis(500)) {
        Ok(client) => client.map_err(|e| refused_connection(title, &e)),
        Err(_) => Err(Error::Server {
            store: title.to_owned(),
            cause: format!("it did not answer within {} s", limit.as_secs()),
            hint: "is the server running, or does something on the way drop what we send?".into(),
        }),
    }
}

impl Postgres {
    fn connect(config: Config, gate: Gate) -> Result<Postgres> {
        let title = title_of(&config);
        let mut client = connected(&config, &title)?;
        let setup = "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET DateStyle = 'ISO, YMD'; \
            SET IntervalStyle = 'postgres'; SET lc_monetary = 'C'; SET xmloption = 'content'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; \
            SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10min'; \
            SET row_security = off; SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; \
            SET jit = off; SET client_min_messages = warning; \
            SELECT set_config('synchronous_commit', 'on', false) \
                WHERE current_setting('synchronous_commit') IN ('off', 'local')";
        client.batch_execute(setup).map_err(|e| failed(&title, "setting the session up", &e))?;
        let line = client
            .query_one("SELECT current_schema()::text, current_setting('server_version_num')::int4", &[])
            .map_err(|e| failed(&title, "asking for the schema", &e))?;
        let Some(home) = line.get::<_, Option<String>>(0) else {
            return Err(Error::Refused {
                store: title,
                cause: "no schema of the search_path exists".into(),
                hint: "set one: ALTER ROLE … SET search_path = …".into(),
            });
        };
        Ok(Postgres { client, config, gate, title, home, version: line.get(1), open: None, locked: false })
    }

    /// A table of the plan, qualified and quoted.
    fn name(&self, table: &Table) -> String {
        self.named(&table.name)
    }

    fn named(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.home), quoted(table))
    }

    fn fail(&self, operation: &str, e: &postgres::Error) -> Error {
        failed(&self.title, operation, e)
    }

    fn refused(&self, cause: impl Into<String>, hint: &str) -> Error {
        Error::Refused { store: self.title.clone(), cause: cause.into(), hint: hint.into() }
    }

    fn broken(&self, cause: impl Into<String>, schema_changed: bool) -> Error {
        Error::Capture { store: self.title.clone(), cause: cause.into(), schema_changed, rewound: false }
    }

    /// This is not the database whose changes were followed, or it is an earlier state of it.
    fn rewound(&self, cause: impl Into<String>) -> Error {
        Error::Capture { store: self.title.clone(), cause: cause.into(), schema_changed: false, rewound: true }
    }

    fn wrong(&self, operation: &str, cause: impl Into<String>) -> Error {
        Error::Database { store: self.title.clone(), operation: operation.to_owned(), cause: cause.into() }
    }

    /// Runs statements without parameters.
    fn run(&mut self, operation: &str, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).map_err(|e| self.fail(operation, &e))
    }

    fn query(&mut self, operation: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Line>> {
        self.client.query(sql, params).map_err(|e| self.fail(operation, &e))
    }

    fn execute(&mut self, operation: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        self.client.execute(sql, params).map_err(|e| self.fail(operation, &e))
    }

    /// Runs statements that commit by themselves, as one effect; within a transaction they are part of it.
    fn effect(&mut self, what: &str, sql: &str) -> Result<()> {
        if self.open.is_some() {
            return self.run(what, sql);
        }
        let gate = self.gate.clone();
        gate.pass(what, || self.run(what, sql))
    }

    /// Opens a transaction with these statements, again and again until the locks in it are had.
    fn open_with(&mut self, sql: &str, tables: &[&Table], strong: bool) -> Result<()> {
        let began = Instant::now();
        let mut blockers = String::new();
        for attempt in 0.. {
            match self.client.batch_execute(sql) {
                Ok(()) => return Ok(()),
                Err(e) => {
                    let again = code(&e) == "55P03";
                    let _ = self.client.batch_execute("ROLLBACK");
                    if code(&e) == "42P01" {
                        return Err(self.broken(words(&e), true));
                    }
                    if !again {
                        return Err(self.fail("beginning a transaction", &e));
                    }
                }
            }
            self.wait_for(tables, strong, began, attempt, &mut blockers)?;
        }
        Ok(())
    }

    /// Waits a moment before the next attempt at a lock; past the limit it is an error naming those in the way.
    fn wait_for(
        &mut self,
        tables: &[&Table],
        strong: bool,
        began: Instant,
        attempt: u32,
        blockers: &mut String,
    ) -> Result<()> {
        // The holder may have gone when the patience ends, so whoever was seen last is named.
        let seen = self.blockers(tables, strong)?;
        if !seen.is_empty() || blockers.is_empty() {
            *blockers = seen;
        }
        if began.elapsed() >= PATIENCE {
            let by = if blockers.is_empty() { "someone who could not be told".to_owned() } else { blockers.clone() };
            let cause = format!("waited {} s for {by}", began.elapsed().as_secs());
            return Err(Error::Locked { store: self.title.clone(), cause });
        }
        let jitter = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) % 64;
        std::thread::sleep(Duration::from_millis((10u64 << attempt.min(4)) + jitter));
        Ok(())
    }

    /// Who holds locks on these tables that are in our way.
    fn blockers(&mut self, tables: &[&Table], strong: bool) -> Result<String> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT DISTINCT coalesce('session ' || l.pid, 'prepared transaction') || coalesce(' (' || \
                concat_ws(', ', nullif(a.application_name, ''), a.usename, host(a.client_addr), a.state, \
                'since ' || to_char(a.xact_start, 'HH24:MI:SS')) || ')', '') || ' holding ' || c.relname \
            FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation \
            LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
            WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() \
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
            AND c.relname = ANY($1) AND c.relnamespace = $2::text::regnamespace \
            AND (l.mode = 'AccessExclusiveLock' OR ($3 AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')))";
        let home = quoted(&self.home);
        let lines = self.query("looking who holds a lock", sql, &[&names, &home, &strong])?;
        Ok(lines.iter().map(|l| l.get::<_, String>(0)).collect::<Vec<_>>().join("; "))
    }

    /// Runs statements on live tables within the transaction, in short attempts at their locks.
    fn ddl(&mut self, operation: &str, tables: &[&Table], sql: &str) -> Result<()> {
        let began = Instant::now();
        let mut blockers = String::new();
        for attempt in 0.. {
            let text = format!(
                "SAVEPOINT backout_ddl; SET LOCAL lock_timeout = '50ms'; {sql}; SET LOCAL lock_timeout = '10s'; \
                 RELEASE SAVEPOINT backout_ddl"
            );
            match self.client.batch_execute(&text) {
                Ok(()) => return Ok(()),
                Err(e) if code(&e) == "55P03" => {
                    self.run(operation, "ROLLBACK TO SAVEPOINT backout_ddl; RELEASE SAVEPOINT backout_ddl")?;
                }
                Err(e) => return Err(self.fail(operation, &e)),
            }
            self.wait_for(tables, true, began, attempt, &mut blockers)?;
        }
        Ok(())
    }

    /// `LOCK TABLE …` of these tables, or nothing.
    fn lock_sql(&self, tables: &[&Table], mode: &str) -> String {
        if tables.is_empty() {
            return String::new();
        }
        let names: Vec<String> = tables.iter().map(|t| self.name(t)).collect();
        format!("LOCK TABLE {} IN {mode} MODE;", names.join(", "))
    }

    fn need(&self, what: &str) -> Result<()> {
        match self.open {
            Some(Mode::Write | Mode::Lease) => Ok(()),
            _ => Err(self.wrong(what, "no transaction that writes is open")),
        }
    }
}

/// Marks our session with the run that is open here, until the transaction ends, so that our triggers let it pass.
const MARK_SESSION: &str = "DO $$ BEGIN \
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'backout' AND c.relname = 'run') \
    THEN PERFORM set_config('backout.session', run, true) FROM backout.run; END IF; END $$;";

impl Store for Postgres {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn identity(&mut self) -> Result<String> {
        // two servers do not start in the same microsecond and have a database of the same number and name
        let sql = "SELECT concat_ws(' ', d.oid, d.datname, pg_postmaster_start_time()) \
            FROM pg_catalog.pg_database d WHERE d.datname = current_database()";
        let lines = self.query("asking which database this is", sql, &[])?;
        Ok(lines.first().map(|l| l.get(0)).unwrap_or_default())
    }

    fn again(&self) -> Result<Box<dyn Store>> {
        Ok(Box::new(Postgres::connect(self.config.clone(), self.gate.clone())?))
    }

    fn lock(&mut self, wait: Duration) -> Result<()> {
        // The class is "back" in ASCII; a lock of this kind belongs to one database already.
        const CLASS: &str = "1650549611, hashtext(current_database())";
        let began = Instant::now();
        while !self.locked {
            let sql = format!("SELECT pg_try_advisory_lock({CLASS})");
            self.locked = self.query("taking the lock", &sql, &[])?.first().is_some_and(|l| l.get(0));
            if self.locked {
                break;
            }
            if began.elapsed() >= wait {
                let sql = "SELECT 'session ' || l.pid || ' (' || concat_ws(', ', nullif(a.application_name, ''), \
                        a.usename, 'from ' || coalesce(host(a.client_addr), 'the same machine'), \
                        'since ' || to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')) || ')' \
                    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
                    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid::bigint = 1650549611 \
                    AND l.objid::bigint = hashtext(current_database())::bigint & 4294967295 \
                    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";
                let holder = self.query("looking who holds the lock", sql, &[])?;
                let holder = holder.first().and_then(|l| l.get::<_, Option<String>>(0));
                let holder = holder.unwrap_or_else(|| "a session that has just gone".into());
                let cause = format!("another run works here: {holder}; waited {} s", began.elapsed().as_secs());
                return Err(Error::Locked { store: self.title.clone(), cause });
            }
            std::thread::sleep(Duration::from_millis(50).min(wait));
        }
        Ok(())
    }

    fn schema(&mut self) -> Result<Schema> {
        self.read_schema()
    }

    fn scan(&mut self, table: &Table, after: &[u8], limit: usize, out: &mut Batch) -> Result<Option<Vec<u8>>> {
        let own = self.open.is_none();
        if own {
            self.begin(Mode::Read, &[table])?;
        }
        let next = self.scan_rows(table, after, limit, out);
        if own {
            self.rollback();
        }
        next
    }

    fn count(&mut self, table: &Table) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", self.name(table));
        let lines = self.query(&format!("counting {}", table.name), &sql, &[])?;
        Ok(lines.first().map_or(0, |l| l.get::<_, i64>(0)) as u64)
    }

    fn self_check(&mut self, tables: &[&Table], deep: bool) -> Result<Vec<String>> {
        self.check(tables, deep)
    }

    fn begin(&mut self, mode: Mode, tables: &[&Table]) -> Result<()> {
        if self.open.is_some() {
            return Err(self.wrong("beginning a transaction", "one is open already"));
        }
        match mode {
            // LOCK TABLE takes no snapshot, so the one of `SELECT` is younger than the locks.
            Mode::Read => {
                let locks = self.lock_sql(tables, "ACCESS SHARE");
                let sql = format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL row_security = off; \
                     SET LOCAL lock_timeout = '50ms'; {locks} SET LOCAL lock_timeout = '10s'; SELECT 1"
                );
                self.open_with(&sql, tables, false)?;
            }
            Mode::Write => {
                let sql = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; {MARK_SESSION}");
                self.open_with(&sql, tables, true)?;
            }
            // Each statement sees what is committed when it begins: of the leased tables, what was when they were locked.
            Mode::Lease => {
                let locks = self.lock_sql(tables, "SHARE ROW EXCLUSIVE");
                let sql = format!(
                    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL row_security = off; \
                     SET LOCAL idle_in_transaction_session_timeout = '10s'; \
                     SET LOCAL lock_timeout = '50ms'; {locks} SET LOCAL lock_timeout = '10s'; {MARK_SESSION}"
                );
                self.open_with(&sql, tables, true)?;
            }
        }
        self.open = Some(mode);
        Ok(())
    }

    fn commit(&mut self, what: &str) -> Result<()> {
        if self.open.is_none() {
            return Err(self.wrong(what, "no transaction is open"));
        }
        let gate = self.gate.clone();
        // In a transaction that has failed COMMIT says nothing and rolls back; SELECT says so.
        let done = gate.pass(what, || self.run(what, "SELECT 1; COMMIT"));
        if done.is_err() {
            self.rollback();
        }
        self.open = None;
        done
    }

    fn rollback(&mut self) {
        if self.open.take().is_some() {
            let _ = self.client.batch_execute("ROLLBACK");
        }
    }

    fn fetch(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.fetch_rows(table, keys)
    }

    fn keys(&mut self, table: &Table) -> Result<Vec<Key>> {
        self.all_keys(table)
    }

    fn write(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()> {
        self.need("writing rows")?;
        self.apply(tables, writes)
    }

    fn may_create(&mut self, tables: &[&Table]) -> Result<()> {
        self.may_make()?;
        self.types_known(tables)
    }

    fn create(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("creating tables")?;
        self.create_tables(tables)
    }

    fn load(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        self.need("loading rows")?;
        self.load_rows(table, rows)
    }

    fn build_key(&mut self, table: &Table) -> Result<()> {
        self.need("building a key")?;
        self.add_key(table)
    }

    fn build_rest(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("building indexes")?;
        self.add_rest(tables)
    }

    fn drop_tables(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("dropping tables")?;
        self.drop_all(tables)
    }

    fn set_aside(&mut self, tables: &[&Table], run: &str) -> Result<String> {
        self.need("setting tables aside")?;
        self.move_aside(tables, run)
    }

    fn capture_on(&mut self, tables: &[&Table], run: &str) -> Result<Position> {
        self.need("turning capture on")?;
        self.start_capture(tables, run)
    }

    fn capture_off(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("turning capture off")?;
        self.stop_capture(tables)
    }

    fn look(&mut self, tables: &[&Table]) -> Result<()> {
        self.look_at(tables)
    }

    fn log_since(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        self.read_log(tables, from)
    }

    fn lag(&mut self, tables: &[&Table], from: &Position) -> Result<u64> {
        self.waiting(tables, from)
    }

    fn log_size(&mut self, tables: &[&Table]) -> Result<LogSize> {
        self.size_of_log(tables)
    }

    fn mark(&mut self, position: Position) -> Result<Position> {
        self.put_mark(position)
    }

    fn trim(&mut self, tables: &[&Table], position: &Position) -> Result<()> {
        self.trim_log(tables, position)
    }

    fn doubt(&mut self, table: usize, keys: &[Key]) -> Result<()> {
        if self.open.is_some() {
            return self.put_doubts(table, keys);
        }
        self.begin(Mode::Write, &[])?;
        match self.put_doubts(table, keys) {
            Ok(()) => self.commit("noting doubts"),
            Err(e) => {
                self.rollback();
                Err(e)
            }
        }
    }

    fn seal(&mut self, tables: &[&Table], run: &str) -> Result<()> {
        self.need("sealing")?;
        self.put_seal(tables, run)
    }

    fn unseal(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("unsealing")?;
        self.lift_seal(tables)
    }

    fn high_water(&mut self, tables: &[&Table]) -> Result<Vec<Option<i64>>> {
        self.numbers(tables)
    }

    fn raise_high_water(&mut self, tables: &[&Table], marks: &[Option<i64>]) -> Result<()> {
        self.need("raising a sequence")?;
        self.raise_numbers(tables, marks)
    }

    fn prepare(&mut self) -> Result<()> {
        self.make_records()
    }

    fn state(&mut self) -> Result<Option<State>> {
        self.read_state()
    }

    fn plan(&mut self, run: &str) -> Result<Option<String>> {
        self.read_plan(run)
    }

    fn put_state(&mut self, state: &State, plan: Option<&str>) -> Result<()> {
        self.need("recording the run")?;
        self.write_state(state, plan)
    }

    fn chunks(&mut self, run: &str) -> Result<Vec<(usize, Chunk)>> {
        self.read_chunks(run)
    }

    fn put_chunk(&mut self, run: &str, table: usize, chunk: &Chunk) -> Result<()> {
        self.need("recording a chunk")?;
        self.write_chunk(run, table, chunk)
    }

    fn keep_images(&mut self, run: &str, drain: u64, at: &str, images: &[(usize, Key, Option<Row>)]) -> Result<()> {
        self.need("keeping images")?;
        self.write_images(run, drain, at, images)
    }

    fn image_drains(&mut self, run: &str) -> Result<Vec<(u64, String)>> {
        self.read_image_drains(run)
    }

    fn images(&mut self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>> {
        self.read_images(run, drain)
    }

    fn parked(&mut self, run: &str) -> Result<Vec<Parked>> {
        self.read_parked(run)
    }

    fn put_parked(&mut self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()> {
        self.need("parking rows")?;
        self.write_parked(run, add, remove)
    }

    fn history(&mut self) -> Result<Vec<HistoryLine>> {
        self.read_history()
    }

    fn close(&mut self, tables: &[&Table], line: &HistoryLine) -> Result<()> {
        self.need("closing the run")?;
        self.end_run(tables, line)
    }

    fn now(&mut self) -> Result<String> {
        let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let lines = self.query("asking for the time", sql, &[])?;
        Ok(lines.first().map(|l| l.get(0)).unwrap_or_default())
    }
}
