//! Stores: a JSON file, a SQLite file, a PostgreSQL database, behind one trait.
//!
//! A store knows nothing of mappings or phases. It reads and writes rows of the tables it is told of, notes who changed
//! what, keeps Backout's own records, and decides who may write. Everything between `begin` and `commit` is one
//! transaction. Every effect passes the [`Gate`].

mod json;
pub(crate) mod postgres;
mod slices;
pub(crate) mod sqlite;
pub mod state;

use std::path::Path;
use std::time::Duration;

pub use crate::mapping::fold::{Entry, Op, Place};
pub use crate::plan::Schema;
pub use state::{Chunk, HistoryLine, LogSize, Parked, Parting, Phase, Position, Remains, Role, Side, State};

use crate::gate::{Gate, Refused};
use crate::plan::{Column, Kind, Pair, Table, Teller};
use crate::value::{Batch, Key, Row};

/// What a store could not do. Each names the operation, the object and the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is missing, unreadable, no database, or broken.
    #[error("{store}: {cause}")]
    Input {
        /// The store, without secrets.
        store: String,
        /// What is wrong with it, with line and column where there are any.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// A server that does not answer, or does not let us in.
    #[error("{store}: {cause}")]
    Server {
        /// The store, without secrets.
        store: String,
        /// What it said.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// Something in the store that cannot be worked with as it is.
    #[error("{store}: {cause}")]
    Refused {
        /// The store, without secrets.
        store: String,
        /// Why.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// Another run, or the application, holds a lock for longer than the limit.
    #[error("{store} is locked: {cause}")]
    Locked {
        /// The store.
        store: String,
        /// By whom, as far as it can be told, and for how long we waited.
        cause: String,
    },
    /// What was noted of changes cannot be trusted: the schema changed, a trigger is gone, the store is another one.
    #[error("{store}: changes may have gone unseen: {cause}")]
    Capture {
        /// The store.
        store: String,
        /// What was found.
        cause: String,
        /// The tables themselves are not what they were: a new plan is needed, a comparison is not enough.
        schema_changed: bool,
        /// The store is another one, or an earlier state of the one that was followed: what was carried from it may not be
        /// in it any more.
        rewound: bool,
    },
    /// Rows of a set that this store does not take. Nothing of the set counts; without these the rest may go through.
    #[error("{store}: {}", unfit(.rows))]
    Unfit {
        /// The store.
        store: String,
        /// Index into the tables given, key, and why.
        rows: Vec<(usize, Key, String)>,
    },
    /// A statement failed.
    #[error("{store}: {operation}: {cause}")]
    Database {
        /// The store.
        store: String,
        /// What was being done, and to which object.
        operation: String,
        /// What the store said.
        cause: String,
    },
    /// A file operation failed.
    #[error("{operation} {path}: {cause}")]
    File {
        /// What was being done.
        operation: String,
        /// To which file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A test made this effect fail.
    #[error(transparent)]
    Gate(#[from] Refused),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

fn unfit(rows: &[(usize, Key, String)]) -> String {
    rows.iter().take(5).map(|(_, _, why)| why.as_str()).collect::<Vec<_>>().join("; ")
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One consistent look at the tables; holds no writer up (PostgreSQL: ACCESS SHARE locks *before* the snapshot is
    /// taken, REPEATABLE READ, `row_security = off`).
    Read,
    /// Change rows or records of ours; others may go on (SQLite: BEGIN IMMEDIATE).
    Write,
    /// The lease: every other writer of these tables waits until we commit or die (PostgreSQL: SHARE ROW EXCLUSIVE in
    /// short attempts, `idle_in_transaction_session_timeout`; SQLite: BEGIN IMMEDIATE; JSON: nothing can be locked, the
    /// file is read twice equal, and checked again before it is replaced).
    Lease,
    /// A lease under which readers wait too, in short attempts that are told in advance to end: for a swap. Whoever holds a snapshot that
    /// is older than what is swapped in would find empty tables, so it is waited for as well (P21). (SQLite: the same as `Lease`.)
    Swap,
}

/// Where the tables of one side lie, of a run that has both sides in one store (P3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Site {
    /// Where the application finds them.
    #[default]
    Home,
    /// Where the target's are made, and where they are again after a rollback; under the run's id. PostgreSQL: the schema
    /// `backout_stage_RUN`. SQLite: `backout_stage_RUN__NAME`.
    Staged(String),
    /// Where the source's rest while the target is live. PostgreSQL: the schema `migration_backup`. SQLite: `migration_backup__NAME`.
    Backup,
}

/// One change to be made in a receiver. A call's writes are applied as a set: their order means nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The row must be there afterwards, as given, whatever was under its key.
    Put {
        /// The row as it shall be, in the order of the table's columns.
        row: Row,
        /// The key under which this same row (not a stranger) is here now; it is changed in place, so that what the row
        /// has beyond the columns given stays with it. `None`: a row that is new here.
        from: Option<Key>,
    },
    /// No row may be under this key afterwards.
    Delete {
        /// The key.
        key: Key,
    },
}

/// A store. See the module's head; the contract suite in `tests/contract.rs` holds every store to these words.
///
/// Tables are given as a plan has them. Where several are given, indexes into that list name them elsewhere.
pub trait Store: Send {
    /// Which kind it is.
    fn kind(&self) -> Kind;

    /// For people: path, or host and database; never a password.
    fn title(&self) -> String;

    /// Which store this really is, however its address is spelled: what is the same for two of them is one store.
    fn identity(&mut self) -> Result<String> {
        Ok(self.title())
    }

    /// A second connection to the same store, for another thread.
    fn again(&self) -> Result<Box<dyn Store>>;

    /// Takes the one lock that a store has for runs, waiting at most `wait`; held until this store is dropped or its process
    /// dies, by which it is free at once. Taking it twice is fine. [`Error::Locked`] names the holder.
    fn lock(&mut self, wait: Duration) -> Result<()>;

    /// Of a run that has both its sides here: from now on this session, and those that `again` makes of it, speak of the side of
    /// `role`. Its record is that side's, and the tables of the plan lie at `place`. Never asked of a JSON file.
    fn stand(&mut self, role: Role, site: Site);

    /// Where this session's side lies.
    fn standing(&self) -> (Role, Site);

    // ── looking ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// All tables and what else is there; ours left out.
    fn schema(&mut self) -> Result<Schema>;

    /// Appends up to about `limit` rows (and at most some 4 MiB) of `table` to `out`, from where the last call ended
    /// (`after` is empty at first), in a short transaction of its own, or in the one that is open. Returns where to go on, or `None`
    /// when there is no more. Order is the store's own, and cheapest. While the application writes, a row may be met
    /// twice or not at all if it moves; each such row is in the change log.
    fn scan(&mut self, table: &Table, after: &[u8], limit: usize, out: &mut Batch) -> Result<Option<Vec<u8>>>;

    /// How many rows, exactly.
    fn count(&mut self, table: &Table) -> Result<u64>;

    /// The store's own checks of these tables. Empty: all well. `deep` asks everything (SQLite: `integrity_check`, every index
    /// against its table; PostgreSQL: every foreign key row by row), else what costs about a reading of the tables
    /// (`quick_check` and `foreign_key_check`; the validity of constraints and indexes).
    fn self_check(&mut self, tables: &[&Table], deep: bool) -> Result<Vec<String>>;

    /// Keys of rows whose foreign key of these columns refers to no row; at most `limit` of them.
    fn strays(&mut self, _table: &Table, _columns: &[String], _limit: usize) -> Result<Vec<Key>> {
        Ok(Vec::new())
    }

    /// Values of a foreign key of one column that refer to no row; at most `limit` of them.
    fn dangling(&mut self, _table: &Table, _column: &str, _limit: usize) -> Result<Row> {
        Ok(Row::new())
    }

    // ── transactions ───────────────────────────────────────────────────────────────────────────────────────────────

    /// Begins. There is one transaction at a time.
    fn begin(&mut self, mode: Mode, tables: &[&Table]) -> Result<()>;

    /// Says that we are still there: a lease ends by itself after some seconds in which its store hears nothing of us.
    fn hold(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes what was done since `begin` true, durably, as one effect named `what`. On an error it is rolled back, or (the
    /// answer being lost) may have happened: whoever goes on reads what is true.
    fn commit(&mut self, what: &str) -> Result<()>;

    /// Forgets what was done since `begin`; harmless when nothing is open.
    fn rollback(&mut self);

    // ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The rows under `keys`, in that order; keys are compared byte for byte, never by a collation. Within a transaction.
    fn fetch(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>>;

    /// All keys of a table (for a TRUNCATE). Within a transaction.
    fn keys(&mut self, table: &Table) -> Result<Vec<Key>>;

    /// Applies a set of writes to each table, in one go: rows that are in each other's way are deleted first. No cascade,
    /// no trigger that writes these tables or changes the rows; triggers that write only other tables fire. Foreign keys
    /// of touched rows hold at the end, or it is an error naming them ([`Error::Unfit`], where the rest may go through without
    /// them). Within a `Write` transaction.
    fn write(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()>;

    // ── columns that change by SQL (never a JSON file) ─────────────────────────────────────────────────────────────

    /// [`Error::Refused`] if this is no expression that makes a value of `to` from one of `from`, of which alone it speaks, and the same one
    /// at each time. Changes nothing; outside of a transaction.
    fn may_say(&mut self, _expression: &str, _from: &Column, _to: &Column, _strict: bool) -> Result<()> {
        Err(Error::Refused { store: self.title(), cause: "it knows no SQL".into(), hint: String::new() })
    }

    /// Says what `up`, an expression of the column as it `was`, and `down`, one of the column as it `is`, make of values: in a session of
    /// its own, which is opened when it is first asked and reads no table. `strict`: the tables are SQLite's STRICT ones.
    fn teller(&self, _was: &Column, _is: &Column, _up: &str, _down: &str, _strict: bool) -> Teller {
        Box::new(|_, _| Err("it knows no SQL".into()))
    }

    // ── building a target (never a JSON file) ──────────────────────────────────────────────────────────────────────

    /// Refuses, before anything is made, if `create` would not be permitted, or a column's type is not known here.
    fn may_create(&mut self, _tables: &[&Table]) -> Result<()> {
        Ok(())
    }

    /// Refuses, before anything is made, if the records of a run could not be kept here.
    fn may_record(&mut self) -> Result<()> {
        Ok(())
    }

    /// Who would keep a lease of these tables waiting as things are now, for people.
    fn lingering(&mut self, _tables: &[&Table]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Creates the tables with their columns, without key, index or foreign key. Within a `Write` transaction.
    fn create(&mut self, tables: &[&Table]) -> Result<()>;

    /// Adds a chunk's rows to a table without a key. Within a `Write` transaction.
    fn load(&mut self, table: &Table, rows: &Batch) -> Result<()>;

    /// Keys of rows that `load` left out in this transaction, as another row has their value in a unique index that is there already,
    /// and of those other rows. The two were read at different moments, or do not go together: each is a doubt.
    fn left_out(&mut self) -> Vec<Key> {
        Vec::new()
    }

    /// Whether `build_early` is of use for this table.
    fn builds_early(&self, _table: &Table) -> bool {
        false
    }

    /// Builds, before `build_key`, the index that the key will need, or else those that refuse no row, so that two sessions can
    /// build both at a time. What it does not build, or fails at, `build_key` and `build_rest` do. Within a `Write` transaction.
    fn build_early(&mut self, _table: &Table, _key: bool) -> Result<()> {
        Ok(())
    }

    /// Adds the table's key; rows read twice during backfill lose their double first. Does nothing if it is there.
    /// Within a `Write` transaction.
    fn build_key(&mut self, table: &Table) -> Result<()>;

    /// Adds defaults, identities, indexes, unique constraints and foreign keys that are not there yet. Within a
    /// `Write` transaction.
    fn build_rest(&mut self, tables: &[&Table]) -> Result<()>;

    /// Refuses, before anything is made, what could not follow when `targets` take the place of `sources`: views, triggers, policies and
    /// foreign keys of others that would not work there. Returns what is worth a word. Changes nothing.
    fn may_swap(&mut self, _sources: &[&Table], _targets: &[&Table]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Gives staged targets all that the application has put on the sources beyond what a plan says (grants, comments, policies, triggers,
    /// views …), so that nothing of it is lacking when they are swapped in. Each target belongs to the source of the same index. Within a
    /// `Write` transaction, this session standing at the targets; after `build_rest`.
    fn dress(&mut self, _sources: &[&Table], _targets: &[&Table]) -> Result<()> {
        Ok(())
    }

    /// What `swap` will look at, before anyone waits for it: a refusal that can be had now is had now. Outside of a transaction.
    fn before_swap(&mut self, _out: &[&Table], _aside: &Site, _home: &[&Table], _from: &Site) -> Result<()> {
        Ok(())
    }

    /// Within an open `Lease`: `out` go from home to `aside`, and `home` come from `from` to where those were. Every name is kept;
    /// what others have built upon the tables, by name or upon the thing itself, finds what is home now. The way back undoes it exactly. The first of
    /// `out` goes for the first of `home`, and so on; those of `out` that are not there are passed over.
    fn swap(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()>;

    /// Takes rows off the first of these tables that has many, for a few milliseconds; `false` if none has, and to drop them will hold nobody up.
    /// Of tables that nobody needs any more. Within a `Write` transaction.
    fn thin(&mut self, _tables: &[&Table]) -> Result<bool> {
        Ok(false)
    }

    /// Drops these tables and what was made for them. Within a `Write` transaction. Those not there are passed over.
    fn drop_tables(&mut self, tables: &[&Table]) -> Result<()>;

    /// Moves the tables of an ended run out of the way, under a name with the run's id, so that they can be looked at and
    /// another run finds the place free. Returns where they are, for people. Within a `Write` transaction.
    fn set_aside(&mut self, tables: &[&Table], run: &str) -> Result<String>;

    // ── change capture ─────────────────────────────────────────────────────────────────────────────────────────────

    /// From its commit on, every change of these tables by anyone but us is noted. Returns the position from which
    /// `log_since` tells all of them. Installing it anew is fine. Within a `Write` or `Lease` transaction.
    fn capture_on(&mut self, tables: &[&Table], run: &str) -> Result<Position>;

    /// How many changes the log may hold, for the next `capture_on`. Past that the triggers note nothing more, so that a log
    /// nobody drains does not fill the disk; `log_since` then says [`Error::Capture`] until capture is put up anew.
    fn limit_log(&mut self, _entries: u64) {}

    /// The log has reached its limit: changes since are not in it.
    fn log_is_full(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Removes the triggers; the log stays. Within a `Write` or `Lease` transaction.
    fn capture_off(&mut self, tables: &[&Table]) -> Result<()>;

    /// [`Error::Capture`] if anything suggests that changes went unseen since `capture_on`: the tables' definitions,
    /// our triggers, the incarnation of the store. Within a transaction.
    fn look(&mut self, tables: &[&Table]) -> Result<()>;

    /// All changes after `from` that are committed and visible in the open transaction, and the position after them.
    /// [`Error::Capture`] if `from` does not belong to this incarnation. Within a `Read` or `Lease` transaction.
    fn log_since(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)>;

    /// How many changes wait after `from`; cheap, may be off by a few.
    fn lag(&mut self, tables: &[&Table], from: &Position) -> Result<u64>;

    /// How large the log is; without capture nothing. Changes nothing, and may be off by a few.
    fn log_size(&mut self, tables: &[&Table]) -> Result<LogSize>;

    /// Commits a marker with a random nonce into the log, durably, and returns `position` with that marker in it: after
    /// this no crash of this store can take back what was read up to `position`. Called after the reading transaction ended; or, under a
    /// lease, within it: where the marker then commits only with the lease, that is so.
    fn mark(&mut self, position: Position) -> Result<Position>;

    /// Forgets log entries at or before `position`, which a receiver has committed. Its own commit.
    fn trim(&mut self, tables: &[&Table], position: &Position) -> Result<()>;

    /// Adds doubts to the log of these tables, so that the next drain looks at these keys of one of them. Its own commit, or within a
    /// `Write` transaction.
    fn doubt(&mut self, tables: &[&Table], table: usize, keys: &[Key]) -> Result<()>;

    // ── who may write ──────────────────────────────────────────────────────────────────────────────────────────────

    /// From its commit on, everyone but us is refused loudly when writing these tables (JSON: what the file holds is
    /// recorded, and a change by others is found). Sealing twice is fine. Within a `Write` or `Lease` transaction.
    fn seal(&mut self, tables: &[&Table], run: &str) -> Result<()>;

    /// Lets everyone write again. Within a `Write` transaction.
    fn unseal(&mut self, tables: &[&Table]) -> Result<()>;

    /// Per table the highest number its identity has given or seen; of one whose key is an integer that the application gives, the
    /// greatest that is there (`None`: it has neither, or none yet).
    fn high_water(&mut self, tables: &[&Table]) -> Result<Vec<Option<i64>>>;

    /// Sets each identity to go on after the greater of this number and the greatest in the table. Within a `Write` transaction.
    fn raise_high_water(&mut self, tables: &[&Table], marks: &[Option<i64>]) -> Result<()>;

    // ── our own records ────────────────────────────────────────────────────────────────────────────────────────────

    /// Makes the place for our records if there is none; changes nothing else. Its own commit (none if it is there), or within a
    /// `Write` transaction.
    fn prepare(&mut self) -> Result<()>;

    /// The run that is open here, if any; a store without records of ours has none. In a `Write` or `Lease` transaction the record is locked.
    fn state(&mut self) -> Result<Option<State>>;

    /// Its frozen plan, as written by `put_state`.
    fn plan(&mut self, run: &str) -> Result<Option<String>>;

    /// Writes the run's record; `plan` is written when given, else left. Within a `Write` or `Lease` transaction.
    fn put_state(&mut self, state: &State, plan: Option<&str>) -> Result<()>;

    /// The last chunk of each table (by index in the plan) that was loaded.
    fn chunks(&mut self, run: &str) -> Result<Vec<(usize, Chunk)>>;

    /// Records a chunk. Within the `Write` transaction that loads it; unless it is the table's last, a crash of the store may
    /// take both back after the commit.
    fn put_chunk(&mut self, run: &str, table: usize, chunk: &Chunk) -> Result<()>;

    /// Keeps rows as they are before drain number `drain` changes them (`None`: there was none). Same transaction.
    fn keep_images(&mut self, run: &str, drain: u64, at: &str, images: &[(usize, Key, Option<Row>)]) -> Result<()>;

    /// The drains that kept images, oldest first, each with the giver's time of it.
    fn image_drains(&mut self, run: &str) -> Result<Vec<(u64, String)>>;

    /// The images of one drain, by table and key, each key once.
    fn images(&mut self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>>;

    /// Rows that could not be mapped.
    fn parked(&mut self, run: &str) -> Result<Vec<Parked>>;

    /// Adds (or replaces, by table and key) parked rows, and removes those that went through. Within a `Write` transaction.
    fn put_parked(&mut self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()>;

    /// Pairs of keys that were made up on the way back (P10).
    fn pairs(&mut self, run: &str) -> Result<Vec<Pair>>;

    /// Adds pairs, in the transaction that writes their rows.
    fn put_pairs(&mut self, run: &str, pairs: &[Pair]) -> Result<()>;

    /// Runs that ended here, oldest first.
    fn history(&mut self) -> Result<Vec<HistoryLine>>;

    /// Ends the run here: its triggers on these tables, log, chunks, images, parked rows and record go, the line is added to
    /// the history, and nothing else of ours stays. Within a `Write` transaction.
    fn close(&mut self, tables: &[&Table], line: &HistoryLine) -> Result<()>;

    /// The store's clock (RFC 3339).
    fn now(&mut self) -> Result<String>;
}

/// Makes a JSON file of these rows, table by table; whole or not at all.
///
/// # Errors
/// If something of that name is there, or it cannot be written.
pub(crate) fn write_json(path: &Path, tables: &[&Table], rows: Vec<Vec<Row>>, gate: &Gate) -> Result<()> {
    json::write_new(path, tables, rows, gate)
}

/// Opens the store at `url` (`json:PATH`, `sqlite:PATH`, `postgres://…`); relative paths are below `folder`. A SQLite file
/// that does not exist is made when something is first committed to it, if `create`; else it is an error.
///
/// # Errors
/// [`Error::Input`] or [`Error::Server`], with nothing changed.
pub fn open(url: &str, folder: &Path, create: bool, gate: &Gate) -> Result<Box<dyn Store>> {
    // people see the path: as they wrote it where they stand in the folder
    let path = |rest: &str| if folder == Path::new(".") { Path::new(rest).to_owned() } else { folder.join(rest) };
    if let Some(rest) = url.strip_prefix("json:") {
        json::open(&path(rest), gate)
    } else if let Some(rest) = url.strip_prefix("sqlite:") {
        let rest = rest.strip_prefix("///").map_or(rest, |r| r);
        Ok(slices::over(sqlite::open(&path(rest), create, gate)?))
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(slices::over(postgres::open(url, gate)?))
    } else {
        Err(Error::Input {
            store: url.split(':').next().unwrap_or_default().to_owned(),
            cause: "no such kind of store".into(),
            hint: "a store is json:FILE, sqlite:FILE or postgres://USER@HOST/DATABASE".into(),
        })
    }
}
