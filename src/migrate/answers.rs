//! What commands are asked, and what they answer.

use std::time::Duration;

use serde::Serialize;

use crate::store::{HistoryLine, LogSize, Phase, State};

use super::verify::Verified;

/// How a command is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows in a chunk.
    pub batch: usize,
    /// Compare both sides in full (before a cutover, after a rollback).
    pub verify: bool,
    /// The user vouches that nobody writes the JSON file.
    pub writers_stopped: bool,
    /// How long to wait for another run's lock.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { batch: 20_000, verify: true, writers_stopped: false, wait: Duration::from_secs(3) }
    }
}

/// How far to go up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Until {
    /// Stop before the cutover.
    Ready,
    /// Hand the application over.
    #[default]
    Soaking,
}

/// What `up` is asked to do.
#[derive(Clone, Debug, Default)]
pub struct UpOptions {
    /// A migration's stamp (or `head`, `+1`); the next pending one if `None`.
    pub revision: Option<String>,
    /// How far.
    pub until: Until,
    /// Refuse unless the plan has this hash.
    pub plan: Option<String>,
    /// A revision that failed, or a cutover that was called off, does not hold the others up any more.
    pub acknowledge: bool,
    /// A down may lose what it was shown to lose, for this reason.
    pub accept_loss: Option<String>,
    /// A revision may run that is older than one that is applied.
    pub out_of_order: bool,
}

/// What `rollback` is asked to do.
#[derive(Clone, Debug, Default)]
pub struct RollbackOptions {
    /// How far: `-1` (if `None`), `-N`, `base`, or the migration that shall be the newest then.
    pub to: Option<String>,
    /// Revisions whose file was edited since go back by the down that was frozen when they ran.
    pub frozen: bool,
    /// Past the window too.
    pub force: bool,
    /// Drop the target afterwards instead of setting it aside; `None`: as backout.toml says.
    pub clean_target: Option<bool>,
    /// Go back without relying on the target: it may be gone, or not answer.
    pub emergency: bool,
    /// Take what was written after this moment out again: it is not to be trusted.
    pub until: Option<jiff::Timestamp>,
    /// Take all that was written since the cutover out again.
    pub discard: bool,
    /// How long it may take to the commit point; `None`: as backout.toml says.
    pub timeout: Option<Duration>,
}

/// What a command came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Nothing had to be done.
    pub nothing: bool,
    /// Run id.
    pub run: Option<String>,
    /// Migration's stamp.
    pub migration: Option<String>,
    /// Migration's title.
    pub title: Option<String>,
    /// Where the run stands now.
    pub phase: Option<Phase>,
    /// What state the data is in.
    pub state: String,
    /// Rows per table as compared, or as planned.
    pub rows: Vec<(String, u64)>,
    /// Rows changed on the target and carried to the source.
    pub carried: u64,
    /// Rows that could not be mapped back.
    pub parked: Vec<String>,
    /// What verification found, if it ran.
    pub verified: Option<Verified>,
    /// Milliseconds from the lock to the opening of the other side, services apart.
    pub frozen_ms: Option<u64>,
    /// Seconds the command took.
    pub seconds: f64,
    /// Where a kept side is.
    pub kept: Option<String>,
    /// A file with the rows that could not go back, or were left out.
    pub exported: Option<String>,
    /// The target's writes up to this moment, by its own clock, are in the source (RFC 3339), where not all of them are.
    pub upto: Option<String>,
    /// Seconds that a rollback had until its commit point, and whether that was enough.
    pub budget: Option<(f64, bool)>,
    /// Of them, seconds that proofs of SQL revisions took.
    pub proof_seconds: f64,
    /// SQL revisions that were run, in that order.
    pub revisions: Vec<RevisionDone>,
    /// What else a person has to know.
    pub notes: Vec<String>,
    /// Effects that passed the gate.
    pub effects: u64,
    /// Commands that lead on.
    pub next: String,
}

/// A SQL revision that was run.
#[derive(Clone, Debug, Serialize)]
pub struct RevisionDone {
    /// Its stamp.
    pub stamp: String,
    /// Its title.
    pub title: String,
    /// `up` or `down`.
    pub way: &'static str,
    /// Milliseconds that took.
    pub ms: u64,
    /// What its proof came to.
    pub proof: Option<String>,
}

impl RevisionDone {
    pub(crate) fn of(record: &crate::revision::database::Record, way: &'static str, took: Duration) -> RevisionDone {
        RevisionDone {
            stamp: record.stamp.clone(),
            title: record.title.clone(),
            way,
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            proof: record.proof.clone(),
        }
    }
}

/// A migration and where it stands.
#[derive(Clone, Debug, Serialize)]
pub struct MigrationState {
    /// Stamp.
    pub migration: String,
    /// What follows the stamp in its file's name.
    pub slug: String,
    /// Title.
    pub title: String,
    /// `pending`, `applied`, a phase's name, or an outcome.
    pub state: String,
    /// Whether its target is where the application's data lives now.
    pub applied: bool,
    /// What else there is to say.
    pub note: String,
    /// How the file of a SQL revision differs from what ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited: Option<String>,
}

/// The open run, as its stores know it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The source's record.
    pub source: State,
    /// The target's record.
    pub target: Option<State>,
    /// Source store, for people.
    pub source_title: String,
    /// Target store, for people.
    pub target_title: String,
    /// Who is live: `source`, `target` or `nobody`.
    pub live: String,
    /// Run id.
    pub run: String,
    /// Migration's stamp.
    pub migration: String,
    /// Migration's title.
    pub title: String,
    /// Where the run stands.
    pub phase: Phase,
    /// What went wrong last, until it is passed.
    pub last_error: Option<String>,
    /// When both sides were last found to agree before the cutover (RFC 3339).
    pub verified_at: Option<String>,
    /// When the target was opened (RFC 3339).
    pub cutover_at: Option<String>,
    /// When the rollback window ends (RFC 3339).
    pub window_ends: Option<String>,
    /// Rows written on the target that came to the source so far.
    pub carried: u64,
    /// When the resting side had last seen every change, by the live side's clock (RFC 3339); null if never.
    pub followed_at: Option<String>,
    /// While soaking: changes wait, and nothing has carried any for a minute.
    pub unfollowed: bool,
    /// How large the live side's change log is.
    pub log: Option<LogSize>,
    /// Changes on the live side that the other one has not seen yet.
    pub lag: Option<u64>,
    /// Rows that could not be mapped back.
    pub parked: Vec<String>,
    /// The rollback window is over.
    pub window_over: bool,
    /// What could not be asked, and why.
    pub problems: Vec<String>,
    /// What state the data is in.
    pub state: String,
    /// Commands that lead on.
    pub next: String,
}

/// A migration applied to this project.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// History lines of all stores, oldest first, with the store's name.
    pub lines: Vec<(String, HistoryLine)>,
}
