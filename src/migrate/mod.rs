//! The flow: one loop over phases, a file per phase. Start reading at `Run::advance`.
//!
//! Each phase may be killed anywhere and run again. What is true is read from the stores: `phase` in the source's record
//! says where the run stands, and during a hand-over the two `side`s say who is live.

mod ahead;
mod answers;
mod asked;
mod back;
mod backfill;
mod chain;
mod checks;
mod close;
mod doubt;
mod drain;
mod emergency;
mod error;
mod export;
mod extract;
mod fingerprint;
mod forward;
mod generate;
mod hand_over;
mod import;
mod in_place;
mod keys;
mod let_go;
mod planning;
mod prepare;
mod project;
mod proofs;
mod repair;
mod reshaping;
mod revisions;
mod salvage;
mod sample;
mod script;
mod status;
mod sums;
mod undo;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use ahead::Step;
pub use answers::{Applied, MigrationState, Options, Outcome, RevisionDone, RollbackOptions, Status, Until, UpOptions};
pub use error::{Error, Failure, Result, count, state_words, ways_out};
pub use extract::{ExtractOptions, Extracted};
pub use fingerprint::Fingerprint;
pub use generate::Generated;
pub use import::Imported;
pub use let_go::Kept;
pub use planning::{Estimate, Proposal};
pub use project::Project;
pub use proofs::Checked;
pub use repair::{RepairOptions, Repaired, TableRepaired};
pub use verify::{Scope, Verified, VerifyOptions};

use crate::app::App;
use crate::gate::Gate;
use crate::journal::{Event as Note, Journal};
use crate::mapping::Way;
pub(crate) use crate::now;
use crate::plan::Plan;
use crate::store::{self, Mode, Phase, State, Store};

/// What the flow tells while it works.
#[derive(Clone, Debug)]
pub enum Event {
    /// A phase begins.
    Phase(Phase),
    /// Rows done of a table in a phase; `total` may be an estimate.
    Progress {
        /// The phase, or `profiling`.
        what: &'static str,
        /// The table, as the source names it.
        table: String,
        /// Rows done.
        done: u64,
        /// Rows expected.
        total: u64,
    },
    /// Something a person may want to know.
    Note(String),
}

/// Who is told. Called from several threads.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Nobody is told.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}

/// One run of one migration, between two stores that are locked for it.
pub struct Run {
    /// Run id.
    pub id: String,
    /// The frozen plan.
    pub plan: Plan,
    /// Where the data came from.
    pub source: Box<dyn Store>,
    /// Where it goes.
    pub target: Box<dyn Store>,
    app: App,
    journal: Journal,
    gate: Gate,
    observer: Arc<dyn Observer>,
    stop: Arc<AtomicBool>,
    settings: Settings,
    /// The project's.
    folder: std::path::PathBuf,
    /// At this moment a hand-over is called off, if it is before its commit point, and a comparison stops.
    deadline: Option<std::time::Instant>,
    /// A rollback's commit point is behind.
    committed: Arc<AtomicBool>,
    /// Rows per table as counted while planning, for progress.
    counts: Vec<u64>,
    /// From lock to open, of the last hand-over.
    frozen: Option<std::time::Duration>,
    /// What was compared while indexes were built.
    early: Option<sums::Early>,
    /// What is read of the source while it is copied.
    ahead: Option<sums::Ahead>,
    /// What the run came to, noted before its records are closed.
    summary: Summary,
}

/// A store that could not be asked what becomes of a value has found no fault with the value.
///
/// # Errors
/// If that happened.
pub(crate) fn heard(plan: &Plan) -> Result<()> {
    let Some(cause) = plan.unheard() else { return Ok(()) };
    let hint = "what was not committed is undone; run the command again".into();
    Err(store::Error::Server { store: plan.from.name.clone(), cause, hint }.into())
}

/// Gives each column that changes by SQL of its store a session to ask.
pub(crate) fn ask(plan: &Plan, store: &dyn Store) {
    plan.ask(|t, i, up, down| {
        store.teller(&t.source.columns[i], &t.target.columns[i], up, down, t.source.details.strict)
    });
}

/// What a run that ended came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub carried: u64,
    pub parked: Vec<String>,
    pub verified: Option<verify::Verified>,
    pub kept: Option<String>,
    pub exported: Option<String>,
    /// The commit point of a rollback came before its deadline.
    pub in_time: Option<bool>,
}

/// What the command line and backout.toml say about how to run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub batch: usize,
    pub verify: bool,
    pub writers_stopped: bool,
    pub window: std::time::Duration,
    pub clean_target: bool,
}

impl Settings {
    /// When a rollback window ends that begins now (RFC 3339).
    fn window_ends(&self) -> Option<String> {
        let end = jiff::Timestamp::now().checked_add(self.window).ok();
        end.map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl Run {
    /// Goes from phase to phase until `until` is reached, or something fails.
    pub(crate) fn advance(&mut self, until: Phase) -> Result<Phase> {
        loop {
            let phase = self.phase()?;
            if phase == until {
                return Ok(phase);
            }
            self.observer.event(Event::Phase(phase));
            let begun = std::time::Instant::now();
            let result = match phase {
                Phase::Planned | Phase::Preparing => prepare::prepare(self),
                Phase::Backfilling => backfill::backfill(self),
                Phase::CatchingUp => backfill::catch_up(self),
                Phase::Verifying => verify::before_cutover(self),
                Phase::Ready => hand_over::cut_over(self),
                Phase::CuttingOver => hand_over::settle_cutover(self),
                Phase::Soaking => hand_over::roll_back(self),
                Phase::RollingBack => close::after_rollback(self),
                Phase::Aborting => close::abort(self),
                Phase::Completing => close::complete(self, false),
                Phase::Outstanding | Phase::RolledBack | Phase::Aborted | Phase::Completed => return Ok(phase),
            };
            self.record(phase, &result, begun);
            match result? {
                Phase::RolledBack => return Ok(Phase::RolledBack),
                Phase::Aborted => return Ok(Phase::Aborted),
                Phase::Completed => return Ok(Phase::Completed),
                _ => {}
            }
        }
    }

    /// Where the run stands.
    pub(crate) fn phase(&mut self) -> Result<Phase> {
        Ok(self.source_state()?.phase)
    }

    /// Makes `phase` true, and forgets the last failure.
    pub(crate) fn enter(&mut self, phase: Phase) -> Result<Phase> {
        let what = format!("source: phase {}", phase.words());
        self.change_source(&what, |s| {
            s.phase = phase;
            s.last_error = None;
        })?;
        Ok(phase)
    }

    /// The source's record of this run.
    pub(crate) fn source_state(&mut self) -> Result<State> {
        let state = self.source.state()?.filter(|s| s.run == self.id);
        state.ok_or_else(|| Error::Internal(format!("{} has no record of run {}", self.source.title(), self.id)))
    }

    /// The target's record of this run.
    pub(crate) fn target_state(&mut self) -> Result<State> {
        let state = self.target.state()?.filter(|s| s.run == self.id);
        state.ok_or_else(|| Error::Internal(format!("{} has no record of run {}", self.target.title(), self.id)))
    }

    /// Changes the source's record, alone in a transaction.
    pub(crate) fn change_source(&mut self, what: &str, change: impl FnOnce(&mut State)) -> Result<State> {
        change_state(self.source.as_mut(), &self.id, what, change)
    }

    /// Changes the target's record, alone in a transaction.
    pub(crate) fn change_target(&mut self, what: &str, change: impl FnOnce(&mut State)) -> Result<State> {
        change_state(self.target.as_mut(), &self.id, what, change)
    }

    /// Giver and receiver of a way.
    pub(crate) fn sides(&mut self, way: Way) -> (&mut dyn Store, &mut dyn Store) {
        match way {
            Way::Up => (self.source.as_mut(), self.target.as_mut()),
            Way::Down => (self.target.as_mut(), self.source.as_mut()),
        }
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.observer.event(Event::Note(text.into()));
    }

    /// An error if we were told to stop; asked between steps.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        self.in_time()
    }

    /// An error if the time for this is used up.
    pub(crate) fn in_time(&self) -> Result<()> {
        if self.out_of_time() { Err(Error::TimedOut) } else { Ok(()) }
    }

    /// The time for this is used up.
    pub(crate) fn out_of_time(&self) -> bool {
        self.deadline.is_some_and(|d| std::time::Instant::now() >= d)
    }

    /// Whether to stop, to be asked by any thread: we were told to, or the time for it is over.
    pub(crate) fn stopped(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let (stop, deadline) = (self.stop.clone(), self.deadline);
        move || stop.load(Ordering::SeqCst) || deadline.is_some_and(|d| std::time::Instant::now() >= d)
    }

    /// Writes what a phase came to into the journal, and a failure into the source's record. Neither may fail the run.
    fn record(&mut self, phase: Phase, result: &Result<Phase>, begun: std::time::Instant) {
        let detail = match result {
            Ok(next) => format!("→ {}", next.words()),
            Err(e) => e.to_string(),
        };
        self.journal_line(phase.words(), &detail, result.is_ok(), begun);
        if result.is_err() {
            let _ = self.change_source("source: last error", |s| s.last_error = Some(detail));
        }
    }

    /// A line in the journal; a journal that cannot be written never fails a run.
    pub(crate) fn journal_line(&mut self, operation: &str, detail: &str, ok: bool, begun: std::time::Instant) {
        let _ = self.journal.note(&Note {
            at: now(),
            run: self.id.clone(),
            migration: self.plan.migration.clone(),
            phase: operation.to_owned(),
            operation: operation.to_owned(),
            detail: detail.to_owned(),
            ok,
            ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
}

/// Changes a store's record of a run, alone in a transaction.
pub(crate) fn change_state(
    store: &mut dyn Store,
    run: &str,
    what: &str,
    change: impl FnOnce(&mut State),
) -> Result<State> {
    within(store, Mode::Write, &[], what, |store| {
        let state = store.state()?.filter(|s| s.run == run);
        let mut state =
            state.ok_or_else(|| Error::Internal(format!("{} has no record of run {run}", store.title())))?;
        change(&mut state);
        store.put_state(&state, None)?;
        Ok(state)
    })
}

/// A transaction around `body`: committed if it succeeds, else rolled back.
pub(crate) fn within<T>(
    store: &mut dyn Store,
    mode: Mode,
    tables: &[&crate::plan::Table],
    what: &str,
    body: impl FnOnce(&mut dyn Store) -> Result<T>,
) -> Result<T> {
    store.begin(mode, tables)?;
    let result = body(store).and_then(|v| store.commit(what).map(|()| v).map_err(Error::from));
    if result.is_err() {
        store.rollback();
    }
    result
}

/// A look around `body`, which changes nothing.
pub(crate) fn looking<T>(
    store: &mut dyn Store,
    tables: &[&crate::plan::Table],
    body: impl FnOnce(&mut dyn Store) -> Result<T>,
) -> Result<T> {
    store.begin(Mode::Read, tables)?;
    let result = body(store);
    store.rollback();
    result
}
