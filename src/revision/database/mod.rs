//! A database as a revision sees it: a session like the application's own, in which statements run as they are written.
//!
//! Not a [`Store`](crate::store::Store): that one's sessions are marked as ours, so that change capture passes them over, and have settings
//! of their own. What a revision changes in a soaking database has to be captured like any other writer's changes.

mod postgres;
mod sqlite;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::keep::Loss;
use crate::gate::Gate;
use crate::plan::Kind;
use crate::store::{Error, HistoryLine, Result};
use crate::value::{Row, Value};

/// A database that revisions run in. There is one transaction at a time.
pub trait Database: Send {
    /// SQLite or PostgreSQL.
    fn kind(&self) -> Kind;

    /// For people: path, or host and database; never a password.
    fn title(&self) -> String;

    /// Begins a transaction that writes. In SQLite foreign keys are not enforced within it (a table that is rebuilt would
    /// empty its children), but asked for before its commit.
    fn begin(&mut self) -> Result<()>;

    /// Makes what was done since `begin` true, durably, as one effect named `what`. In SQLite it is refused if rows refer to rows that do
    /// not exist and did not before.
    fn commit(&mut self, what: &str) -> Result<()>;

    /// Forgets what was done since `begin`; harmless when nothing is open.
    fn rollback(&mut self);

    /// While this is on, `commit` may leave what was done to be made true by a later one, a moment's work at most, so that a file is
    /// synced less often. Turned off, it makes true what was left. Who dies before has done nothing of it.
    fn gather(&mut self, _on: bool) -> Result<()> {
        Ok(())
    }

    /// Runs statements as they are written. Outside a transaction they are one effect.
    fn run(&mut self, sql: &str) -> Result<()>;

    /// All rows that a query returns. PostgreSQL's values come as text, or NULL.
    fn query(&mut self, sql: &str) -> Result<Vec<Row>>;

    /// Puts rows into a table; names are quoted and qualified already. Of PostgreSQL values are text as it writes them. Within a transaction.
    fn put_rows(&mut self, table: &str, columns: &[String], rows: &[Row]) -> Result<()>;

    /// Whether this is what a statement says that cannot run within a transaction.
    fn wants_no_transaction(&self, error: &Error) -> bool;

    /// An empty database of the same kind and of the same settings, that is gone when it is dropped. `at`: the address of a
    /// PostgreSQL database that may be emptied for this; where there is none, one is created beside this one.
    fn scratch(&mut self, at: Option<&str>) -> Result<Box<dyn Database>>;

    /// Makes the place for our records if there is none. Within a transaction.
    fn prepare(&mut self) -> Result<()>;

    /// What is recorded of revisions, oldest version first; nothing where we have no records.
    fn records(&mut self) -> Result<Vec<Record>>;

    /// Writes what is recorded of one revision, in place of what was. Within a transaction.
    fn put_record(&mut self, record: &Record) -> Result<()>;

    /// Removes the record of a revision. Within a transaction.
    fn remove_record(&mut self, stamp: &str) -> Result<()>;

    /// Adds a line to what the view `migration_log` shows. Within a transaction, after `prepare`.
    fn log(&mut self, line: &HistoryLine) -> Result<()>;
}

/// How far a revision has come in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its up ran to its end.
    Applied,
    /// Its up, which runs statement by statement, is under way.
    GoingUp,
    /// Its down, which runs statement by statement, is under way.
    GoingDown,
    /// Its up failed and left nothing; others wait until that is acknowledged.
    Failed,
}

impl Standing {
    /// Between two of its statements.
    pub fn is_halfway(self) -> bool {
        matches!(self, Standing::GoingUp | Standing::GoingDown)
    }
}

/// What a database records of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this document; 1.
    pub format: u32,
    /// Which one it was in the order in which revisions were applied here, from 1.
    pub nth: u64,
    /// The revision's stamp.
    pub stamp: String,
    /// Its slug.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// How far it has come.
    pub standing: Standing,
    /// When it came there (RFC 3339).
    pub at: String,
    /// How many milliseconds that took.
    pub ms: u64,
    /// Of `GoingUp` and `GoingDown`: statements that are done.
    #[serde(default)]
    pub done: usize,
    /// Of `GoingUp` and `GoingDown`: the next statement was begun outside a transaction, and may have had its effect.
    #[serde(default)]
    pub trying: bool,
    /// The up as it ran, to show what was edited since.
    pub up: String,
    /// The up ran in one transaction.
    pub up_transaction: bool,
    /// How it is taken back, frozen as proven.
    pub down: FrozenDown,
    /// What the proof came to; `None`: it was not asked for.
    #[serde(default)]
    pub proof: Option<String>,
    /// Why the author accepts that the down does not bring everything back.
    #[serde(default)]
    pub accepted_loss: Option<String>,
    /// What its up took away and keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_up: Vec<Loss>,
    /// What its down will take away and keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_down: Vec<Loss>,
    /// It was not proven: what its down takes away is found out as it runs.
    #[serde(default)]
    pub unproven: bool,
    /// When that was let go which its up keeps (RFC 3339): its down cannot bring it back any more.
    #[serde(default)]
    pub let_go: Option<String>,
    /// What an up put back and the rows had their own word on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// It was recorded without having been run (`stamp`, `import`).
    #[serde(default)]
    pub stamped: bool,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
}

/// A line of the log, of a revision: what came of it now.
pub fn log_line(stamp: &str, title: &str, outcome: &str, started_at: &str, note: String) -> HistoryLine {
    HistoryLine {
        run: String::new(),
        migration: stamp.to_owned(),
        title: title.to_owned(),
        plan_hash: String::new(),
        outcome: outcome.to_owned(),
        started_at: started_at.to_owned(),
        ended_at: crate::now(),
        note,
        remains: None,
    }
}

impl Record {
    /// A line of the log: what came of it now.
    pub fn line(&self, outcome: &str, started_at: &str, note: String) -> HistoryLine {
        log_line(&self.stamp, &self.title, outcome, started_at, note)
    }

    /// What a log says of its up: proof, losses that were accepted, what was not put back.
    pub fn words(&self) -> String {
        let accepted = self.accepted_loss.as_ref().map(|why| format!("loss accepted: {why}"));
        self.proof.iter().cloned().chain(accepted).chain(self.conflicts.iter().cloned()).collect::<Vec<_>>().join("; ")
    }
}

/// A down as it was when its up ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrozenDown {
    /// These statements, in one transaction or not.
    Sql {
        /// Their text.
        text: String,
        /// All in one transaction.
        transaction: bool,
    },
    /// There is nothing to undo.
    Nothing,
    /// It cannot be taken back, for this reason.
    Irreversible(String),
}

impl FrozenDown {
    /// Its statements, if it has any, and whether they run in one transaction.
    pub fn text(&self) -> (Option<&str>, bool) {
        match self {
            FrozenDown::Sql { text, transaction } => (Some(text), *transaction),
            _ => (None, true),
        }
    }
}

/// Opens the database at `url` (`sqlite:PATH`, `postgres://…`); relative paths are below `folder`. A SQLite file that does not exist is made
/// by the first transaction, if `create`.
///
/// # Errors
/// [`Error::Input`], [`Error::Server`], or [`Error::Refused`] for a JSON file.
pub fn open(url: &str, folder: &Path, create: bool, gate: &Gate) -> Result<Box<dyn Database>> {
    if let Some(rest) = url.strip_prefix("sqlite:") {
        let path = folder.join(rest.strip_prefix("///").unwrap_or(rest));
        Ok(Box::new(sqlite::Sqlite::open(&path, rest, create, gate)?))
    } else if url.starts_with("postgres") {
        Ok(Box::new(postgres::Postgres::open(url, gate)?))
    } else {
        Err(Error::Refused {
            store: url.split(':').next().unwrap_or_default().to_owned(),
            cause: "SQL revisions do not run in a JSON file".into(),
            hint: "name a SQLite or PostgreSQL store: [project] default_store, or `-- backout:store NAME` in the file"
                .into(),
        })
    }
}

/// Refuses a scratch database (its address) that is one of these stores, of which every PostgreSQL one is asked.
///
/// # Errors
/// [`Error::Refused`], [`Error::Locked`] while another proof uses it, or what the server says.
pub fn check_scratch(at: &str, stores: &[&str]) -> Result<()> {
    let asked: Vec<&str> = stores.iter().copied().filter(|url| url.starts_with("postgres")).collect();
    postgres::check_scratch(at, &asked)
}

/// A record's standing and whole text, for its columns.
fn written(title: &str, record: &Record) -> Result<(String, String)> {
    let unwritable = |e: serde_json::Error| Error::Database {
        store: title.to_owned(),
        operation: "write a revision's record".into(),
        cause: e.to_string(),
    };
    let standing = serde_json::to_value(record.standing).map_err(unwritable)?;
    let text = serde_json::to_string(record).map_err(unwritable)?;
    Ok((standing.as_str().unwrap_or_default().to_owned(), text))
}

/// Records from their texts, in order.
fn read_records(title: &str, lines: Vec<Row>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for line in lines {
        let Some(Value::Text(text)) = line.first() else { continue };
        records.push(serde_json::from_slice::<Record>(text).map_err(|e| Error::Database {
            store: title.to_owned(),
            operation: "read a revision's record".into(),
            cause: e.to_string(),
        })?);
    }
    records.sort_by(|a, b| super::order(&a.stamp).cmp(&super::order(&b.stamp)));
    Ok(records)
}
