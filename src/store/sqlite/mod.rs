//! SQLite: connections and transactions here, the rest in one file per concern.
//!
//! To every connection of ours `sqlite_source_id()` says `backout`, which is what lets us write sealed tables and nobody else.

mod apply;
mod build;
mod capture;
mod fits;
mod lock;
mod log;
pub(crate) mod records;
mod rows;
mod schema;
mod swap;
mod tell;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod triggers;

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use self::swap::refs;
use crate::gate::Gate;
use crate::plan::{Column, Kind, Pair, Table, Teller};
use crate::store::{
    Chunk, Entry, Error, HistoryLine, LogSize, Mode, Parked, Position, Result, Role, Schema, Site, State, Store, Write,
};
use crate::value::{Batch, Key, Row, Value};

/// What `sqlite_source_id()` says to us.
const OURS: &str = "backout";

/// How long a statement waits for another writer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again at once, for as long as we have patience. SQLite's own way of waiting longer and longer would never meet the
/// moment between two transactions of an application that writes without a pause.
pub(crate) fn ask_again(asked: i32) -> bool {
    thread_local!(static SINCE: Cell<Option<Instant>> = const { Cell::new(None) });
    let since = SINCE.get().filter(|_| asked > 0).unwrap_or_else(Instant::now);
    SINCE.set(Some(since));
    // not in step with whoever writes
    let pause = 100 + u64::from(since.elapsed().subsec_nanos() % 397);
    std::thread::sleep(Duration::from_micros(if asked < 1000 { pause } else { 4 * pause }));
    since.elapsed() < PATIENCE
}

/// A SQLite file.
struct Sqlite {
    path: PathBuf,
    title: String,
    create: bool,
    gate: Gate,
    /// While the file does not exist: an empty database in memory.
    conn: Connection,
    /// `conn` is the file.
    real: bool,
    /// The open transaction made the file.
    made: bool,
    mode: Option<Mode>,
    /// The open transaction changed the schema (`Some`), having found it as remembered (`true`).
    ddl: Option<bool>,
    lock: Option<lock::Lock>,
    /// Which side of a run this connection speaks of, if both are here.
    side: Option<(Role, Site)>,
    /// How many entries the change log may hold.
    log_limit: u64,
    /// Keys of rows that were not loaded, and of those that were in their way.
    left_out: Vec<Key>,
}

/// Opens it.
///
/// # Errors
/// [`Error::Input`] if there is no SQLite database, [`Error::Locked`] if others keep it busy.
pub fn open(location: &Path, create: bool, gate: &Gate) -> Result<Box<dyn Store>> {
    Ok(Box::new(Sqlite::open(location, create, gate)?))
}

impl Sqlite {
    fn open(location: &Path, create: bool, gate: &Gate) -> Result<Sqlite> {
        let title = location.display().to_string();
        // absolute, so that a name beginning with `file:` or `:memory:` is a path all the same
        let path = std::path::absolute(location).map_err(|cause| Error::File {
            operation: "find".into(),
            path: title.clone(),
            cause,
        })?;
        let input =
            |cause: &str, hint: &str| Error::Input { store: title.clone(), cause: cause.into(), hint: hint.into() };
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() => return Err(input("it is a directory", "give the path of a SQLite file")),
            Ok(m) if !m.is_file() => return Err(input("it is not a file", "give the path of a SQLite file")),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if !create {
                    return Err(input("there is no such file", "check the path in backout.toml"));
                }
                if !path.parent().is_some_and(Path::is_dir) {
                    return Err(input("its folder does not exist", "make the folder, or correct the path"));
                }
            }
            Err(e) => return Err(input(&e.to_string(), "check the path and its permissions")),
        }
        let conn = Connection::open_in_memory().map_err(|e| failure(&title, "open a connection", &e))?;
        let (gate, lock, side, log_limit) = (gate.clone(), None, None, i64::MAX.unsigned_abs());
        let mut store = Sqlite {
            path,
            title,
            create,
            gate,
            conn,
            real: false,
            made: false,
            mode: None,
            ddl: None,
            lock,
            side,
            log_limit,
            left_out: Vec::new(),
        };
        store.arrive(false)?;
        Ok(store)
    }

    /// Connects to the file if it is there by now, or if it is to be made.
    fn arrive(&mut self, make: bool) -> Result<()> {
        if self.real {
            return Ok(());
        }
        let there = self.path.exists();
        if !(there || make && self.create) {
            return Ok(());
        }
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if !there {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let title = self.title.clone();
        let no = |e: rusqlite::Error| match code(&e) {
            Some((ErrorCode::CannotOpen | ErrorCode::PermissionDenied, _)) => Error::Input {
                store: title.clone(),
                cause: "it may not be read and written".into(),
                hint: "check the permissions of the file and of its folder".into(),
            },
            _ => failure(&title, "open", &e),
        };
        let mut conn = Connection::open_with_flags(&self.path, flags).map_err(no)?;
        conn.busy_handler(Some(ask_again)).map_err(no)?;
        conn.set_prepared_statement_cache_capacity(256);
        conn.create_scalar_function("sqlite_source_id", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(OURS)).map_err(no)?;
        // EXTRA: the folder, too, is on the disk before a commit is told, or a crash of the machine brings its journal back
        conn.execute_batch(
            "PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF; PRAGMA legacy_alter_table = OFF; \
             PRAGMA synchronous = EXTRA; PRAGMA cache_size = -16384; SELECT count(*) FROM sqlite_schema;",
        )
        .map_err(no)?;
        (self.conn, self.real, self.made) = (conn, true, !there);
        Ok(())
    }

    /// What a failed statement means; `operation` names what was done to which object.
    fn err(&self, operation: &str) -> impl Fn(rusqlite::Error) -> Error {
        move |e| failure(&self.title, operation, &e)
    }

    fn refused(&self, cause: impl Into<String>, hint: &str) -> Error {
        Error::Refused { store: self.title.clone(), cause: cause.into(), hint: hint.into() }
    }

    /// Runs statements that return nothing of interest.
    fn run(&self, operation: &str, sql: &str) -> Result<()> {
        self.conn.execute_batch(sql).map_err(self.err(operation))
    }

    /// One number.
    fn number(&self, operation: &str, sql: &str) -> Result<i64> {
        self.conn.query_row(sql, [], |r| r.get(0)).map_err(self.err(operation))
    }

    /// Is there a table, view, index or trigger of this name?
    fn has(&self, name: &str) -> Result<bool> {
        self.conn
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE")
            .and_then(|mut s| s.exists([name]))
            .map_err(self.err("look for a table"))
    }

    /// Which file this is: device and inode.
    fn file(&self) -> Result<(u64, u64)> {
        let m = std::fs::metadata(&self.path).map_err(|cause| Error::File {
            operation: "look at".into(),
            path: self.title.clone(),
            cause,
        })?;
        Ok((m.dev(), m.ino()))
    }

    /// After a read.
    fn may_write_again(&self) {
        // what could not be switched off makes the next write fail, and nothing else
        let _ = self.conn.execute_batch("PRAGMA query_only = OFF");
    }

    /// Statements that change the schema: the commit remembers it anew, if nobody else had changed it behind us.
    fn ddl(&mut self) -> Result<()> {
        if self.ddl.is_none() {
            self.ddl = Some(self.unseen()?.is_none());
        }
        Ok(())
    }

    /// A random number in hexadecimal.
    fn nonce() -> String {
        uuid::Uuid::new_v4().simple().to_string()
    }

    /// `work` in the open transaction, or in one of its own.
    fn within<T>(&mut self, what: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if matches!(self.mode, Some(Mode::Write | Mode::Lease | Mode::Swap)) {
            return work(self);
        }
        self.begin(Mode::Write, &[])?;
        match work(self) {
            Ok(done) => self.commit(what).map(|()| done),
            Err(e) => {
                self.rollback();
                Err(e)
            }
        }
    }
}

/// The primary and the extended code of an error.
fn code(e: &rusqlite::Error) -> Option<(ErrorCode, i32)> {
    match e {
        rusqlite::Error::SqliteFailure(e, _) | rusqlite::Error::SqlInputError { error: e, .. } => {
            Some((e.code, e.extended_code))
        }
        _ => None,
    }
}

/// A row is in the way: unique index, key or rowid.
fn in_the_way(e: &rusqlite::Error) -> bool {
    matches!(code(e), Some((ErrorCode::ConstraintViolation, 2067 | 1555 | 2579)))
}

pub(crate) fn failure(title: &str, operation: &str, e: &rusqlite::Error) -> Error {
    let store = title.to_owned();
    let input = |cause: &str, hint: &str| Error::Input { store: title.into(), cause: cause.into(), hint: hint.into() };
    let said = match e {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        e => e.to_string(),
    };
    match code(e).map(|c| c.0) {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked {
            store,
            cause: format!("another program is writing to it; waited {} s ({operation})", PATIENCE.as_secs()),
        },
        Some(ErrorCode::NotADatabase) => input(
            "is not a SQLite database, or it is encrypted",
            "check the path in backout.toml; an encrypted database cannot be migrated",
        ),
        Some(ErrorCode::DatabaseCorrupt) => {
            input(&format!("it is damaged ({said})"), "restore a backup, or try `sqlite3 FILE .recover`")
        }
        Some(ErrorCode::ReadOnly) => Error::Refused {
            store,
            cause: format!("it cannot be written ({said})"),
            hint: "check the permissions of the file and of its folder".into(),
        },
        _ => Error::Database { store, operation: operation.into(), cause: said },
    }
}

/// The value as SQLite is given it; `None` for what only other stores have.
pub(crate) fn bound<'a>(value: &'a Value<'_>) -> Option<ToSqlOutput<'a>> {
    Some(ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Int(i) => ValueRef::Integer(*i),
        Value::Real(r) => ValueRef::Real(*r),
        Value::Text(t) => ValueRef::Text(t),
        Value::Blob(b) => ValueRef::Blob(b),
        _ => return None,
    }))
}

/// The value as SQLite has it.
pub(crate) fn owned(value: ValueRef<'_>) -> Value<'static> {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Int(i),
        ValueRef::Real(r) => Value::Real(r),
        ValueRef::Text(t) => Value::Text(t.to_vec().into()),
        ValueRef::Blob(b) => Value::Blob(b.to_vec().into()),
    }
}

impl Store for Sqlite {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn identity(&mut self) -> Result<String> {
        self.arrive(false)?;
        Ok(if self.real { format!("{:?}", self.file()?) } else { self.path.display().to_string() })
    }

    fn again(&self) -> Result<Box<dyn Store>> {
        let mut other = Sqlite::open(&self.path, self.create, &self.gate)?;
        other.title.clone_from(&self.title);
        other.side.clone_from(&self.side);
        Ok(Box::new(other))
    }

    fn lock(&mut self, wait: Duration) -> Result<()> {
        if self.lock.is_none() {
            self.lock = Some(lock::Lock::take(&self.path, &self.title, wait)?);
        }
        Ok(())
    }

    fn stand(&mut self, role: Role, site: Site) {
        self.side = Some((role, site));
    }

    fn standing(&self) -> (Role, Site) {
        self.side.clone().unwrap_or((Role::Source, Site::Home))
    }

    fn may_swap(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<Vec<String>> {
        self.could_swap(sources, targets)
    }

    fn swap(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        self.swap_tables(out, aside, home, from)
    }

    fn schema(&mut self) -> Result<Schema> {
        self.arrive(false)?;
        self.read_schema()
    }

    fn scan(&mut self, table: &Table, after: &[u8], limit: usize, out: &mut Batch) -> Result<Option<Vec<u8>>> {
        let table = &*self.here(table);
        self.arrive(false)?;
        self.scan_rows(table, after, limit, out)
    }

    fn count(&mut self, table: &Table) -> Result<u64> {
        let table = &*self.here(table);
        self.arrive(false)?;
        let sql = format!("SELECT count(*) FROM {}", text::quote(&table.name));
        self.number(&format!("count {}", table.name), &sql).map(i64::unsigned_abs)
    }

    fn strays(&mut self, table: &Table, columns: &[String], limit: usize) -> Result<Vec<Key>> {
        let table = &*self.here(table);
        self.orphan_keys(table, columns, limit)
    }

    fn dangling(&mut self, table: &Table, column: &str, limit: usize) -> Result<crate::value::Row> {
        let table = &*self.here(table);
        self.orphans(table, column, limit)
    }

    fn self_check(&mut self, tables: &[&Table], deep: bool) -> Result<Vec<String>> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.arrive(false)?;
        self.checked(tables, deep)
    }

    fn begin(&mut self, mode: Mode, _tables: &[&Table]) -> Result<()> {
        if self.mode.is_some() {
            return Err(Error::Database {
                store: self.title.clone(),
                operation: "begin".into(),
                cause: "a transaction is open already".into(),
            });
        }
        self.arrive(mode != Mode::Read)?;
        // a read looks at once, so that its moment is now; and it cannot write
        let sql = if mode == Mode::Read {
            "BEGIN; SELECT count(*) FROM sqlite_schema; PRAGMA query_only = ON"
        } else {
            // the lock before the first look: behind that one another's write would come, and no write of ours could be made any more
            "BEGIN IMMEDIATE"
        };
        if let Err(e) = self.run("begin", sql) {
            self.rollback();
            return Err(e);
        }
        self.mode = Some(mode);
        self.left_out.clear();
        Ok(())
    }

    fn commit(&mut self, what: &str) -> Result<()> {
        let Some(mode) = self.mode else {
            return Err(Error::Database {
                store: self.title.clone(),
                operation: what.into(),
                cause: "no transaction is open".into(),
            });
        };
        let remembered = if self.ddl == Some(true) { self.remember() } else { Ok(()) };
        let done = remembered.and_then(|()| match mode {
            // nothing was changed, so it is no effect
            Mode::Read => self.run(what, "COMMIT"),
            Mode::Write | Mode::Lease | Mode::Swap => self.gate.clone().pass(what, || self.run(what, "COMMIT")),
        });
        match done {
            Ok(()) => {
                self.may_write_again();
                (self.mode, self.ddl, self.made) = (None, None, false);
            }
            Err(_) => self.rollback(),
        }
        done
    }

    fn rollback(&mut self) {
        if !self.conn.is_autocommit() {
            // a failed ROLLBACK leaves the transaction to the next open of the file, which rolls it back
            let _ = self.conn.execute_batch("ROLLBACK");
            if self.ddl.is_some() {
                // a schema that is taken back with its version would pass for another's of that version
                self.schema_anew();
            }
        }
        self.may_write_again();
        (self.mode, self.ddl) = (None, None);
        if self.made {
            // nothing was ever committed to the file that we made
            self.made = false;
            if let Ok(memory) = Connection::open_in_memory() {
                (self.conn, self.real) = (memory, false);
                if std::fs::metadata(&self.path).is_ok_and(|m| m.len() == 0) {
                    let _ = std::fs::remove_file(&self.path);
                }
            }
        }
    }

    fn fetch(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let table = &*self.here(table);
        self.fetch_rows(table, keys)
    }

    fn keys(&mut self, table: &Table) -> Result<Vec<Key>> {
        let table = &*self.here(table);
        self.all_keys(table)
    }

    fn write(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.apply(tables, writes)
    }

    fn may_say(&mut self, expression: &str, from: &Column, to: &Column, strict: bool) -> Result<()> {
        self.can_say(expression, from, to, strict)
    }

    fn teller(&self, was: &Column, is: &Column, up: &str, down: &str, strict: bool) -> Teller {
        tell::teller(was, is, up, down, strict)
    }

    fn create(&mut self, tables: &[&Table]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.create_tables(tables)
    }

    fn load(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        let table = &*self.here(table);
        self.load_rows(table, rows)
    }

    fn left_out(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.left_out)
    }

    /// The key came with the table, SQLite cannot add it later.
    fn build_key(&mut self, _table: &Table) -> Result<()> {
        Ok(())
    }

    fn build_rest(&mut self, tables: &[&Table]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.create_indexes(tables)
    }

    fn thin(&mut self, tables: &[&Table]) -> Result<bool> {
        let tables = self.all_here(tables);
        self.thin_tables(&refs(&tables))
    }

    fn drop_tables(&mut self, tables: &[&Table]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.remove_tables(tables)
    }

    fn set_aside(&mut self, tables: &[&Table], run: &str) -> Result<String> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.keep_tables(tables, run)
    }

    fn capture_on(&mut self, tables: &[&Table], _run: &str) -> Result<Position> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.install(tables)
    }

    fn limit_log(&mut self, entries: u64) {
        self.log_limit = entries;
    }

    fn log_is_full(&mut self) -> Result<bool> {
        self.arrive(false)?;
        self.full()
    }

    fn capture_off(&mut self, tables: &[&Table]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.remove_triggers(tables, triggers::CAPTURE)
    }

    fn look(&mut self, tables: &[&Table]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.look_at(tables)
    }

    fn log_since(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.entries(tables, from)
    }

    fn lag(&mut self, _tables: &[&Table], from: &Position) -> Result<u64> {
        self.arrive(false)?;
        self.waiting(from)
    }

    fn log_size(&mut self, _tables: &[&Table]) -> Result<LogSize> {
        self.arrive(false)?;
        self.size_of_log()
    }

    fn mark(&mut self, position: Position) -> Result<Position> {
        self.within("mark the change log", |s| s.put_marker(&position))
    }

    fn trim(&mut self, _tables: &[&Table], position: &Position) -> Result<()> {
        self.within("trim the change log", |s| s.forget(position))
    }

    fn doubt(&mut self, _tables: &[&Table], table: usize, keys: &[Key]) -> Result<()> {
        self.within("note doubts", |s| s.put_doubts(table, keys))
    }

    fn seal(&mut self, tables: &[&Table], _run: &str) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.put_seals(tables)
    }

    fn unseal(&mut self, tables: &[&Table]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.remove_triggers(tables, triggers::SEAL)
    }

    fn high_water(&mut self, tables: &[&Table]) -> Result<Vec<Option<i64>>> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.arrive(false)?;
        tables.iter().map(|t| self.highest(t)).collect()
    }

    fn raise_high_water(&mut self, tables: &[&Table], marks: &[Option<i64>]) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        tables.iter().zip(marks).try_for_each(|(t, m)| self.raise(t, *m))
    }

    fn prepare(&mut self) -> Result<()> {
        self.arrive(false)?;
        if self.prepared()? {
            return Ok(());
        }
        self.within("prepare the store", Sqlite::make_records)
    }

    fn state(&mut self) -> Result<Option<State>> {
        self.arrive(false)?;
        self.read_state()
    }

    fn plan(&mut self, run: &str) -> Result<Option<String>> {
        self.arrive(false)?;
        self.read_plan(run)
    }

    fn put_state(&mut self, state: &State, plan: Option<&str>) -> Result<()> {
        self.write_state(state, plan)
    }

    fn chunks(&mut self, run: &str) -> Result<Vec<(usize, Chunk)>> {
        self.arrive(false)?;
        self.read_chunks(run)
    }

    fn put_chunk(&mut self, run: &str, table: usize, chunk: &Chunk) -> Result<()> {
        self.write_chunk(run, table, chunk)
    }

    fn keep_images(&mut self, run: &str, drain: u64, at: &str, images: &[(usize, Key, Option<Row>)]) -> Result<()> {
        self.write_images(run, drain, at, images)
    }

    fn image_drains(&mut self, run: &str) -> Result<Vec<(u64, String)>> {
        self.arrive(false)?;
        self.read_image_drains(run)
    }

    fn images(&mut self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>> {
        self.arrive(false)?;
        self.read_images(run, drain)
    }

    fn parked(&mut self, run: &str) -> Result<Vec<Parked>> {
        self.arrive(false)?;
        self.read_parked(run)
    }

    fn put_parked(&mut self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()> {
        self.write_parked(run, add, remove)
    }

    fn pairs(&mut self, run: &str) -> Result<Vec<Pair>> {
        self.arrive(false)?;
        self.read_pairs(run)
    }

    fn put_pairs(&mut self, run: &str, pairs: &[Pair]) -> Result<()> {
        self.write_pairs(run, pairs)
    }

    fn history(&mut self) -> Result<Vec<HistoryLine>> {
        self.arrive(false)?;
        self.read_history()
    }

    fn close(&mut self, tables: &[&Table], line: &HistoryLine) -> Result<()> {
        let tables = self.all_here(tables);
        let tables = &refs(&tables);
        self.end_run(tables, line)
    }

    fn now(&mut self) -> Result<String> {
        self.conn
            .query_row("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')", [], |r| r.get(0))
            .map_err(self.err("read the clock"))
    }
}
