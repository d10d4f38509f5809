//! The PostgreSQL store.
//!
//! One session, transactions by plain BEGIN and COMMIT. Our own records, the change log and the functions of our triggers
//! are in the schema `backout`; the tables of a plan are in the session's current schema. Everything works as the plain
//! owner of the tables.

mod build;
mod capture;
mod copy;
mod dress;
mod locks;
mod log;
pub(crate) mod records;
mod rows;
mod schema;
mod session;
mod snapshots;
mod standing;
mod swap;
mod tell;
mod triggers;
mod write;

use std::collections::HashMap;
use std::time::Duration;

use postgres::types::ToSql;
use postgres::{Client, Config, Row as Line, Statement};

pub use session::open;
pub(crate) use session::{configured, connect, title_of};

use crate::gate::Gate;
use crate::plan::{Column, Kind, Pair, Table, Teller};
use crate::store::{
    Chunk, Entry, Error, HistoryLine, LogSize, Mode, Parked, Position, Result, Role, Schema, Site, State, Store, Write,
};
use crate::value::{Batch, Key, Row};

struct Postgres {
    client: Client,
    config: Config,
    gate: Gate,
    title: String,
    /// The schema where the plan's tables are: the session's current one, unless this session stands elsewhere.
    home: String,
    /// The session's current schema.
    base: String,
    /// Which side of a run this session speaks of, if both are here.
    side: Option<(Role, Site)>,
    version: i32,
    open: Option<Mode>,
    locked: bool,
    /// How many entries a table's change log may hold.
    log_limit: u64,
    /// What was asked before, by its text.
    asked: HashMap<&'static str, Statement>,
}

/// A quoted identifier.
pub(crate) fn quoted(name: &str) -> String {
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

/// A server's error with its cause, detail and place.
pub(crate) fn words(e: &postgres::Error) -> String {
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

pub(crate) fn code(e: &postgres::Error) -> &str {
    e.code().map_or("", |c| c.code())
}

/// A failed statement as a store's error.
pub(crate) fn failed(store: &str, operation: &str, e: &postgres::Error) -> Error {
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

impl Postgres {
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

    /// The same for what is asked again and again, of the server's catalogs and of our own records: prepared once, as each message counts while
    /// others wait. Not for what reads tables of the plan: their columns may be others after a swap.
    fn ask(&mut self, operation: &str, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Line>> {
        let statement = self.statement(operation, sql)?;
        self.client.query(&statement, params).map_err(|e| self.fail(operation, &e))
    }

    fn statement(&mut self, operation: &str, sql: &'static str) -> Result<Statement> {
        if let Some(statement) = self.asked.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).map_err(|e| self.fail(operation, &e))?;
        self.asked.insert(sql, statement.clone());
        Ok(statement)
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

    fn need(&self, what: &str) -> Result<()> {
        match self.open {
            Some(Mode::Write | Mode::Lease | Mode::Swap) => Ok(()),
            _ => Err(self.wrong(what, "no transaction that writes is open")),
        }
    }
}

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
        Ok(Box::new(self.another()?))
    }

    fn lock(&mut self, wait: Duration) -> Result<()> {
        self.take_lock(wait)
    }

    fn stand(&mut self, role: Role, site: Site) {
        self.home = self.schema_of(&site);
        self.side = Some((role, site));
    }

    fn standing(&self) -> (Role, Site) {
        self.side.clone().unwrap_or((Role::Source, Site::Home))
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
        self.start(mode, tables)?;
        self.open = Some(mode);
        Ok(())
    }

    fn hold(&mut self) -> Result<()> {
        self.run("holding the lease", "SELECT 1")
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

    fn may_say(&mut self, expression: &str, from: &Column, to: &Column, _strict: bool) -> Result<()> {
        self.can_say(expression, from, to)
    }

    fn teller(&self, was: &Column, is: &Column, up: &str, down: &str, _strict: bool) -> Teller {
        self.tells(was, is, up, down)
    }

    fn may_create(&mut self, tables: &[&Table]) -> Result<()> {
        self.may_make()?;
        self.types_known(tables)
    }

    fn may_record(&mut self) -> Result<()> {
        self.may_keep().map(drop)
    }

    fn lingering(&mut self, tables: &[&Table]) -> Result<Vec<String>> {
        self.linger(tables)
    }

    fn create(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("creating tables")?;
        self.create_tables(tables)
    }

    fn load(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        self.need("loading rows")?;
        self.load_rows(table, rows)
    }

    fn builds_early(&self, table: &Table) -> bool {
        !table.key.is_empty() && table.indexes.iter().any(build::is_early)
    }

    fn build_early(&mut self, table: &Table, key: bool) -> Result<()> {
        self.add_early(table, key)
    }

    fn build_key(&mut self, table: &Table) -> Result<()> {
        self.need("building a key")?;
        self.add_key(table)
    }

    fn build_rest(&mut self, tables: &[&Table]) -> Result<()> {
        self.need("building indexes")?;
        self.add_rest(tables)
    }

    fn may_swap(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<Vec<String>> {
        self.could_swap(sources, targets)
    }

    fn dress(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<()> {
        self.need("preparing the swap")?;
        self.dress_all(sources, targets)
    }

    fn before_swap(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        self.begin(Mode::Read, &[])?;
        let looked = self.look_before_swap(out, aside, home, from);
        self.rollback();
        looked
    }

    fn swap(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        self.need("swapping tables")?;
        self.swap_tables(out, aside, home, from)
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

    fn limit_log(&mut self, entries: u64) {
        self.log_limit = entries;
    }

    fn log_is_full(&mut self) -> Result<bool> {
        self.full()
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

    fn doubt(&mut self, _tables: &[&Table], table: usize, keys: &[Key]) -> Result<()> {
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

    fn pairs(&mut self, run: &str) -> Result<Vec<Pair>> {
        self.read_pairs(run)
    }

    fn put_pairs(&mut self, run: &str, pairs: &[Pair]) -> Result<()> {
        self.need("keeping pairs of keys")?;
        self.write_pairs(run, pairs)
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
        let lines = self.ask("asking for the time", sql, &[])?;
        Ok(lines.first().map(|l| l.get(0)).unwrap_or_default())
    }
}
