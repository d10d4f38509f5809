//! What Backout keeps in a store about a run. One document per run and store, changed only in transactions.

use serde::{Deserialize, Serialize};

/// Which side of the mapping this store is; fixed for the migration's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Where the data came from.
    Source,
    /// Where it goes.
    Target,
}

/// The phases of a run, in the order in which it goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The plan is frozen; nothing is changed yet.
    Planned,
    /// Change capture and the target's tables are being made.
    Preparing,
    /// What is there is being copied.
    Backfilling,
    /// Keys, indexes, and the changes made meanwhile.
    CatchingUp,
    /// Both sides are compared, every row, both ways.
    Verifying,
    /// Verified; waits for the cutover.
    Ready,
    /// The application is being handed over to the target.
    CuttingOver,
    /// The application runs on the target; the source follows.
    Soaking,
    /// The application is being handed back to the source.
    RollingBack,
    /// Taken back without the target; what was written there since the last drain is still to be salvaged, or given up.
    Outstanding,
    /// Taken back.
    RolledBack,
    /// The target is being thrown away before a cutover.
    Aborting,
    /// Thrown away before a cutover.
    Aborted,
    /// The window is being closed.
    Completing,
    /// For good.
    Completed,
}

impl Phase {
    /// As printed: `catching up`.
    pub fn words(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Preparing => "preparing",
            Phase::Backfilling => "backfilling",
            Phase::CatchingUp => "catching up",
            Phase::Verifying => "verifying",
            Phase::Ready => "ready",
            Phase::CuttingOver => "cutting over",
            Phase::Soaking => "soaking",
            Phase::RollingBack => "rolling back",
            Phase::Outstanding => "outstanding",
            Phase::RolledBack => "rolled back",
            Phase::Aborting => "aborting",
            Phase::Aborted => "aborted",
            Phase::Completing => "completing",
            Phase::Completed => "completed",
        }
    }
}

/// Who may write here. At most one of a run's two stores is `Open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Side {
    /// The application writes here.
    Open,
    /// It rests: it takes the other side's changes and refuses everyone else's.
    Resting,
    /// It was live and was sealed at this epoch, everything up to `position` being carried.
    Sealed {
        /// Epoch of the hand-over.
        epoch: u64,
        /// Last position drained.
        position: Position,
    },
    /// It has received everything up to `position` and waits to be opened.
    Drained {
        /// Epoch of the hand-over.
        epoch: u64,
        /// Last position drained.
        position: Position,
    },
    /// A hand-over to it was called off at this epoch.
    Withdrawn {
        /// Epoch of the hand-over that was called off.
        epoch: u64,
    },
}

/// A place in a giver's change log, meaningful to that store alone: what was read, which marker must still be there,
/// and which incarnation of the store it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub serde_json::Value);

/// A run as one store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format of this document; 1.
    pub format: u32,
    /// The run's id, 12 hexadecimal digits.
    pub run: String,
    /// This store's role.
    pub role: Role,
    /// The migration's stamp.
    pub migration: String,
    /// The migration's title.
    pub title: String,
    /// Hash of the frozen plan.
    pub plan_hash: String,
    /// Where the run stands (the source's word counts).
    pub phase: Phase,
    /// Who may write here.
    pub side: Side,
    /// Raised in both stores by each attempt at a hand-over.
    pub epoch: u64,
    /// As giver: where its log begins, from the transaction that turned capture on.
    #[serde(default)]
    pub captured_from: Option<Position>,
    /// As source: go no further than `Ready` until a cutover is asked for.
    #[serde(default)]
    pub hold: bool,
    /// As target: its tables are made.
    #[serde(default)]
    pub built: bool,
    /// As receiver: how far the giver's log is applied here (`None`: from where it begins).
    pub checkpoint: Option<Position>,
    /// As receiver, while `Drained`: the checkpoint to go back to if the hand-over is called off.
    pub previous: Option<Position>,
    /// As receiver: number of the last drain, which names its before-images.
    pub drains: u64,
    /// Changes carried to this store by drains since the cutover.
    pub carried: u64,
    /// When the last drain was complete, by the giver's clock (RFC 3339).
    pub drained_at: Option<String>,
    /// Why both sides must be compared in full before a rollback is called lossless.
    pub doubt: Option<String>,
    /// As receiver: the live side turned out to be an earlier state of itself; what only this side has is parked (P12, P16).
    #[serde(default)]
    pub rewound: bool,
    /// The last failure, until the phase is passed.
    pub last_error: Option<String>,
    /// As source, while `Ready`: why the cutover was taken back by itself, until someone asks for it again.
    #[serde(default)]
    pub called_off: Option<String>,
    /// When full verification last succeeded (RFC 3339).
    pub verified_at: Option<String>,
    /// Digest per table of the source's rows, in plan order; empty if they were not compared. As long as the source is live they are in
    /// the target's record, from the seal on in the source's, and every drain keeps them up.
    pub digests: Vec<crate::value::Digest>,
    /// When the run began (RFC 3339).
    pub started_at: String,
    /// When the target was opened (RFC 3339).
    pub cutover_at: Option<String>,
    /// When the rollback window ends (RFC 3339).
    pub window_ends: Option<String>,
    /// As source, per table in plan order: the highest number that the target's identity had given at the last drain.
    #[serde(default)]
    pub marks: Vec<Option<i64>>,
    /// As source: it is being taken back without relying on the target, or was.
    #[serde(default)]
    pub parting: Option<Parting>,
    /// As source, while `Completing`: its tables shall be dropped.
    #[serde(default)]
    pub delete_source: bool,
}

/// A rollback that does not wait for the target: what it leaves out, and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parting {
    /// The target's writes up to this moment, by its own clock, are in the source (RFC 3339).
    pub upto: String,
    /// What was carried later than that is untrusted and is undone in the source.
    #[serde(default)]
    pub untrusted: bool,
    /// The newest drain that stays; undone are those after it.
    #[serde(default)]
    pub keep: u64,
    /// The oldest drain that is undone by now; 0: none.
    #[serde(default)]
    pub undone: u64,
    /// Bytes of the file of what is left out that count.
    #[serde(default)]
    pub exported: u64,
    /// Rows in that file.
    #[serde(default)]
    pub left_out: u64,
    /// The target was reached and sealed, and takes no more writes.
    #[serde(default)]
    pub sealed: bool,
    /// Everything that the target held when it was sealed is in the source, or in the file of what is left out.
    #[serde(default)]
    pub whole: bool,
    /// When the source was opened (RFC 3339).
    #[serde(default)]
    pub opened_at: Option<String>,
}

impl State {
    /// A run that begins at `at` (RFC 3339), in the store of that role: nothing is done yet, and the source is live.
    pub fn begun(run: &str, role: Role, migration: &str, title: &str, plan_hash: &str, at: &str) -> State {
        State {
            format: 1,
            run: run.to_owned(),
            role,
            migration: migration.to_owned(),
            title: title.to_owned(),
            plan_hash: plan_hash.to_owned(),
            phase: Phase::Preparing,
            side: if role == Role::Source { Side::Open } else { Side::Resting },
            epoch: 1,
            captured_from: None,
            hold: false,
            built: false,
            checkpoint: None,
            previous: None,
            drains: 0,
            carried: 0,
            drained_at: None,
            doubt: None,
            rewound: false,
            last_error: None,
            called_off: None,
            verified_at: None,
            digests: Vec::new(),
            started_at: at.to_owned(),
            cutover_at: None,
            window_ends: None,
            marks: Vec::new(),
            parting: None,
            delete_source: false,
        }
    }
}

/// A run that has ended, as a store's history tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Run id.
    pub run: String,
    /// Migration's stamp.
    pub migration: String,
    /// Migration's title.
    pub title: String,
    /// Hash of the plan it ran.
    pub plan_hash: String,
    /// `completed`, `rolled back` or `aborted`.
    pub outcome: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub ended_at: String,
    /// Anything a person should know: rows carried, where a kept target is.
    pub note: String,
    /// What is kept for looking back; not of an aborted run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remains: Option<Remains>,
}

/// What stays of a run that ended: how it mapped rows, and what the source was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// The frozen plan.
    pub plan: String,
    /// Digest per table of the source's rows at that moment, in plan order; empty if they were never compared.
    pub digests: Vec<crate::value::Digest>,
    /// The moment up to which changes were carried (RFC 3339).
    pub as_of: Option<String>,
    /// Pairs of keys that were made up on the way back; the next run of the migration knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<crate::plan::Pair>,
}

/// How large a store's change log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogSize {
    /// Entries, those that were carried and not trimmed yet too.
    pub rows: u64,
    /// Bytes on disk, about.
    pub bytes: u64,
}

/// A row that could not be mapped back, kept whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Parked {
    /// Index of its table in the plan.
    pub table: usize,
    /// Its key in the giver.
    pub key: crate::value::Key,
    /// The giver's row, encoded.
    pub row: Vec<u8>,
    /// Which column, which value, why.
    pub reason: String,
}

/// How the reason ends of a row that is parked because only the resting side had it. Such a row is not tried again.
pub const ONLY_HERE: &str =
    "only the resting side still had this row when the live one turned out to be an earlier state of itself";

impl Parked {
    /// It was taken out of the resting side, the live side having been restored to before it: nothing to try again.
    pub fn only_here(&self) -> bool {
        self.reason.ends_with(ONLY_HERE)
    }
}

/// How far a table's backfill got.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Number of the chunk within its table, from 1.
    pub n: u64,
    /// Where the next one starts in the source (empty when the table is done).
    pub upto: Vec<u8>,
    /// Rows loaded so far in this table.
    pub rows: u64,
    /// No more chunks.
    pub done: bool,
}
