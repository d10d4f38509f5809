//! A project: backout.toml, its migrations and its stores. What the command line does, a program does through this: commands that go
//! forward are in `forward`, the ways back in `back`, what can be asked in `asked` and `status`. Here is what they are made of.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::app::App;
use crate::gate::Gate;
use crate::journal::Journal;
use crate::plan::{Config, Kind, Lookup, Migration, Migrations, Plan};
use crate::revision::{self, Revision};
use crate::store::{self, Phase, Role, Site, State, Store};

use super::answers::{Options, Outcome};
use super::chain::Link;
use super::planning::{self, Proposal};
use super::{Error, Failure, Observer, Result, Run, Settings, Silent, Summary, close, in_place};

/// A project. See the crate's head for an example.
pub struct Project {
    /// backout.toml, checked.
    pub config: Config,
    /// The migrations that move data, oldest first.
    pub migrations: Migrations,
    /// The SQL revisions, oldest first; none if one of their files cannot be read.
    pub revisions: Vec<Revision>,
    unread: bool,
    pub(crate) gate: Gate,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) options: Options,
}

pub(crate) type Done<T> = std::result::Result<T, Failure>;

impl Project {
    /// Reads `backout.toml` in `folder` and its migrations. `lookup` answers for `${VAR}`.
    ///
    /// # Errors
    /// What is wrong with the files, with line and column.
    pub fn open(folder: &Path, lookup: Lookup<'_>) -> Done<Project> {
        let config = Config::load(&folder.join("backout.toml"), lookup).map_err(|e| Failure::untouched(e.into()))?;
        let migrations = config.migrations().map_err(|e| Failure::untouched(e.into()))?;
        // a file that cannot be read stands in the way of revisions, not of a migration's way back
        let (revisions, unread) = match revision::file::load(&config, &migrations.sql) {
            Ok(revisions) => (revisions, false),
            Err(_) => (Vec::new(), true),
        };
        Ok(Project {
            config,
            migrations,
            revisions,
            unread,
            gate: Gate::default(),
            observer: Arc::new(Silent),
            stop: Arc::new(AtomicBool::new(false)),
            options: Options::default(),
        })
    }

    /// Says which file of a SQL revision cannot be read, if there is one.
    pub(crate) fn readable(&self) -> Result<()> {
        if self.unread {
            revision::file::load(&self.config, &self.migrations.sql)?;
        }
        Ok(())
    }

    /// The same project with other options.
    #[must_use]
    pub fn with(mut self, options: Options) -> Project {
        self.options = options;
        self
    }

    /// Tells `observer` of progress.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Project {
        self.observer = observer;
        self
    }

    /// Passes effects through this gate.
    #[must_use]
    pub fn gated(mut self, gate: Gate) -> Project {
        self.gate = gate;
        self
    }

    /// When this flag is raised, the present step is finished or undone and the command ends; it can be resumed.
    #[must_use]
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Project {
        self.stop = stop;
        self
    }

    pub(crate) fn store(&self, name: &str, create: bool) -> Result<Box<dyn Store>> {
        Ok(store::open(self.url(name)?, &self.config.folder, create, &self.gate)?)
    }

    /// A store's URL.
    pub(crate) fn url(&self, name: &str) -> Result<&str> {
        if let Some(unset) = self.config.unset(name) {
            return Err(Error::Refused {
                cause: format!(
                    "the URL of {name} in backout.toml needs the variable {}, which is not set",
                    unset.variable
                ),
                hint: crate::plan::set_it(&unset.variable),
            });
        }
        self.config.store(name).ok_or_else(|| Error::Refused {
            cause: format!("backout.toml has no store {name:?}"),
            hint: "add it to [stores]".into(),
        })
    }

    pub(crate) fn propose(&self, m: &Migration, source: &mut dyn Store) -> Result<Proposal> {
        if let Some(s) = source.state()? {
            return Err(Error::Refused {
                cause: format!("{} takes part in another run, {} ({})", source.title(), s.run, s.title),
                hint: "end that one first: `backout complete`, `backout rollback` or `backout abort`".into(),
            });
        }
        if m.in_place() {
            let kind = source.kind();
            return planning::propose(m, source, None, kind, self.observer.as_ref(), &self.stop);
        }
        let url = self.config.store(&m.transfer.to).unwrap_or_default();
        let kind = if url.starts_with("json:") {
            Kind::Json
        } else if url.starts_with("sqlite:") {
            Kind::Sqlite
        } else {
            Kind::Postgres
        };
        let mut target = match self.store(&m.transfer.to, false) {
            Ok(t) => Some(t),
            // a SQLite file that is not there yet will be made
            Err(Error::Store(store::Error::Input { .. })) if kind == Kind::Sqlite && !self.sqlite_there(url) => None,
            Err(e) => return Err(e),
        };
        // what a run that ended without its target left there is set aside when the next one begins
        let left = target.as_mut().map_or(Ok(None), |t| t.state())?;
        if let Some(left) = left
            && source.history()?.iter().any(|l| l.run == left.run)
        {
            target = None;
        }
        let target: Option<&mut dyn Store> = match &mut target {
            Some(t) => Some(t.as_mut()),
            None => None,
        };
        planning::propose(m, source, target, kind, self.observer.as_ref(), &self.stop)
    }

    pub(crate) fn sqlite_there(&self, url: &str) -> bool {
        let path = url.trim_start_matches("sqlite:");
        self.config.folder.join(path.strip_prefix("///").unwrap_or(path)).exists()
    }

    /// The next migration that moves data and is not applied; or the one named, which must be the next one.
    pub(crate) fn next_move(&self, revision: Option<&str>) -> Result<Option<&Migration>> {
        let ledgers = self.ledgers(false)?;
        let steps = self.up_to(self.pending(&ledgers)?, revision)?;
        let mut moves = steps.iter().filter_map(|link| if let Link::Mapping(m) = link { Some(*m) } else { None });
        let first = moves.next();
        if let (Some(name), Some(first)) = (revision, first)
            && let Some(second) = moves.next()
            && !matches!(name, "head")
            && !name.starts_with('+')
        {
            return Err(Error::Refused {
                cause: format!("{} comes before {} and is not applied yet", first.stamp, second.stamp),
                hint: format!("`backout up {}` first", first.stamp),
            });
        }
        Ok(first)
    }

    /// The run that is open in any of the project's sources. A source that cannot be asked is an error only if no other
    /// has one: it may be the lost target of the very run that is asked for.
    pub(crate) fn open_state(&self) -> Result<Option<(&Migration, State)>> {
        let mut lost = None;
        for m in self.migrations.list.iter().rev() {
            let mut s = match self.store(&m.transfer.from, false) {
                Ok(s) => s,
                // a source that is not there yet is some earlier migration's target
                Err(Error::Store(store::Error::Input { .. })) if self.migrations.list.len() > 1 => continue,
                Err(e) => {
                    lost.get_or_insert(e);
                    continue;
                }
            };
            if let Some(state) = s.state()?
                && state.role == Role::Source
                && state.migration == m.stamp
            {
                return Ok(Some((m, state)));
            }
        }
        lost.map_or(Ok(None), Err)
    }

    pub(crate) fn the_open_run(&self) -> Done<(&Migration, State)> {
        self.open_state().map_err(Failure::untouched)?.ok_or_else(|| {
            Failure::untouched(Error::Refused {
                cause: "no migration is under way".into(),
                hint: "`backout plan` shows what `backout up` would do; `backout history` what ended".into(),
            })
        })
    }

    pub(crate) fn nothing_to_roll_back(&self) -> Error {
        let last = self.history().ok().and_then(|h| h.lines.into_iter().next_back());
        Error::Refused {
            cause: match &last {
                Some((_, l)) if l.outcome == "completed" => {
                    format!(
                        "{} ({}) was completed at {}: its way back was given up then",
                        l.migration, l.title, l.ended_at
                    )
                }
                _ => "no migration is applied that could be rolled back".into(),
            },
            hint: "`backout history` shows what ran".into(),
        }
    }

    pub(crate) fn not_now(&self, command: &str, phase: Phase) -> Failure {
        let cause = format!("{command} is not possible while the migration is {}", phase.words());
        // nothing was begun, so that nothing is incomplete by it
        Failure { exit: 4, ..Failure::during(Error::Refused { cause, hint: String::new() }, phase) }
    }

    /// A target that could not be reached when its run ended in the source: what it has of that run is set aside (P23).
    pub(super) fn set_aside_the_closed(&self, source: &mut dyn Store, target: &mut dyn Store) -> Result<()> {
        let Some(left) = target.state()? else { return Ok(()) };
        let Some(line) = source.history()?.into_iter().find(|l| l.run == left.run) else { return Ok(()) };
        let plan = frozen(target, &left.run)?;
        target.lock(self.options.wait)?;
        close::target_aside(target, &plan.target_tables(), &line).map(drop)
    }

    /// There is nothing to go on with, which is fine.
    pub(super) fn nothing_open(&self, begun: Instant) -> Done<Outcome> {
        for (name, _) in &self.config.stores {
            if let Ok(mut store) = self.store(name, false) {
                // what a run killed in its last moment left beside a file goes when its lock is taken
                let _ = store.lock(self.options.wait);
            }
        }
        Ok(Outcome {
            nothing: true,
            state: "no migration is under way".into(),
            next: "backout plan      shows what `backout up` would do".into(),
            seconds: begun.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            batch: self.options.batch.max(1),
            verify: self.options.verify,
            writers_stopped: self.options.writers_stopped,
            window: self.config.rollback.window,
            clean_target: self.config.rollback.clean_target,
        }
    }

    pub(crate) fn run(
        &self,
        id: String,
        mut plan: Plan,
        mut source: Box<dyn Store>,
        mut target: Box<dyn Store>,
    ) -> Result<Run> {
        let app = App::new(&self.config, &id, &self.gate)?;
        if plan.in_place() {
            in_place::stand(source.as_mut(), target.as_mut(), &id)?;
        }
        super::ask(&plan, source.as_ref());
        plan.know(&source.pairs(&id)?);
        source.limit_log(self.config.rollback.log_limit);
        target.limit_log(self.config.rollback.log_limit);
        Ok(Run {
            id,
            plan,
            source,
            target,
            app,
            journal: Journal::open(&self.config.folder, &self.gate),
            gate: self.gate.clone(),
            observer: self.observer.clone(),
            stop: self.stop.clone(),
            settings: self.settings(),
            folder: self.config.folder.clone(),
            deadline: None,
            committed: Arc::new(AtomicBool::new(false)),
            counts: Vec::new(),
            frozen: None,
            early: None,
            ahead: None,
            summary: Summary::default(),
        })
    }

    /// The target of an open run, locked (with the source, if that is the same store). Where the application runs on it, not to find it is an emergency.
    fn target(&self, m: &Migration, state: &State) -> Result<Box<dyn Store>> {
        use Phase::{Completing, CuttingOver, Outstanding, RollingBack, Soaking};
        let lives = matches!(state.phase, CuttingOver | Soaking | RollingBack | Outstanding | Completing);
        let open = || -> Result<Box<dyn Store>> {
            let mut target = self.store(&m.transfer.to, !lives)?;
            if m.in_place() {
                target.stand(Role::Target, Site::Home);
            } else {
                target.lock(self.options.wait)?;
            }
            let known = target.state()?.is_some_and(|t| t.run == state.run);
            if matches!(state.phase, CuttingOver | Soaking) && !known {
                return Err(Error::Refused {
                    cause: format!("{} has no record of run {}", target.title(), state.run),
                    hint: "is it the database that the run went to? Look at [stores] in backout.toml".into(),
                });
            }
            Ok(target)
        };
        open().map_err(|e| match e {
            Error::Store(store::Error::Locked { .. } | store::Error::Gate(_)) => e,
            _ if lives => Error::TargetLost(Box::new(e)),
            _ => e,
        })
    }

    /// Locks both stores of an open run and reads its frozen plan.
    pub(crate) fn attach(&self, m: &Migration, state: &State) -> Result<Run> {
        let mut source = self.store(&m.transfer.from, false)?;
        source.lock(self.options.wait)?;
        let target = self.target(m, state)?;
        // another command may have gone on with it while we waited for the locks (P4)
        let now = source.state()?;
        if now.as_ref().is_none_or(|now| now.run != state.run || now.phase != state.phase) {
            return Err(Error::Overtaken { was: state.phase, stands: now.map(|now| now.phase) });
        }
        let plan = frozen(source.as_mut(), &state.run)?;
        if plan.hash() != state.plan_hash {
            return Err(Error::Internal("the frozen plan is not the one the run began with".into()));
        }
        let mut run = self.run(state.run.clone(), plan, source, target)?;
        run.counts = match state.phase {
            // counting is cheap beside what these phases do
            Phase::Preparing | Phase::Backfilling => {
                let tables = run.plan.source_tables();
                tables.iter().map(|t| run.source.count(t)).collect::<store::Result<_>>()?
            }
            _ => state.digests.iter().map(|d| d.rows).collect(),
        };
        Ok(run)
    }

    pub(super) fn go_on(&self, m: &Migration, state: &State, until: Phase, begun: Instant) -> Done<Outcome> {
        let mut run = self.attach(m, state).map_err(|e| Failure::during(e, state.phase))?;
        let hold = until == Phase::Ready;
        if (state.hold != hold || state.called_off.is_some()) && until <= Phase::Soaking {
            let change = run.change_source("source: how far", |s| (s.hold, s.called_off) = (hold, None));
            change.map_err(|e| Failure::during(e, state.phase))?;
        }
        if until == Phase::Ready && state.phase > Phase::Ready {
            return Ok(Outcome { nothing: true, ..self.outcome_of(state, begun) });
        }
        self.drive(run, until, begun, None)
    }

    /// Runs until `until`, and tells what came of it.
    pub(crate) fn drive(
        &self,
        mut run: Run,
        until: Phase,
        begun: Instant,
        proposal: Option<&Proposal>,
    ) -> Done<Outcome> {
        let before = run.source_state().map(|s| self.outcome_of(&s, begun)).unwrap_or_default();
        let reached = run.advance(until);
        let mut done = self.driven(run, reached, before, begun)?;
        if let Some(p) = proposal {
            let counted = p.plan.tables.iter().zip(&p.counts.tables);
            done.rows = counted.map(|(t, c)| (t.source.title().to_owned(), c.0)).collect();
        }
        Ok(done)
    }

    /// What came of a drive.
    pub(crate) fn driven(
        &self,
        mut run: Run,
        reached: Result<Phase>,
        before: Outcome,
        begun: Instant,
    ) -> Done<Outcome> {
        match reached {
            Ok(phase) => {
                let out = match run.source_state() {
                    Ok(state) if !matches!(phase, Phase::RolledBack | Phase::Aborted | Phase::Completed) => {
                        self.outcome_of(&state, begun)
                    }
                    _ => before,
                };
                Ok(self.ended(&run, phase, out, begun))
            }
            Err(error) => {
                let phase = run.phase().unwrap_or(Phase::Planned);
                Err(Failure::during(error, phase))
            }
        }
    }

    pub(crate) fn ended(&self, run: &Run, phase: Phase, mut out: Outcome, begun: Instant) -> Outcome {
        out.phase = Some(phase);
        out.state = super::state_words(phase).into();
        out.next = super::ways_out(phase);
        out.carried = out.carried.max(run.summary.carried);
        out.parked.clone_from(&run.summary.parked);
        out.verified.clone_from(&run.summary.verified);
        out.kept.clone_from(&run.summary.kept);
        out.exported.clone_from(&run.summary.exported);
        out.budget = run.summary.in_time.map(|kept| (0.0, kept));
        out.frozen_ms = run.frozen.map(|f| u64::try_from(f.as_millis()).unwrap_or(u64::MAX));
        out.seconds = begun.elapsed().as_secs_f64();
        out.effects = run.gate.count();
        out
    }

    pub(crate) fn outcome_of(&self, s: &State, begun: Instant) -> Outcome {
        Outcome {
            run: Some(s.run.clone()),
            migration: Some(s.migration.clone()),
            title: Some(s.title.clone()),
            phase: Some(s.phase),
            state: super::state_words(s.phase).into(),
            carried: s.carried,
            seconds: begun.elapsed().as_secs_f64(),
            next: super::ways_out(s.phase),
            ..Outcome::default()
        }
    }
}

/// The plan that a run froze.
pub(crate) fn frozen(source: &mut dyn Store, run: &str) -> Result<Plan> {
    let text = source.plan(run)?;
    let text =
        text.ok_or_else(|| Error::Internal(format!("{} has lost the frozen plan of run {run}", source.title())))?;
    serde_json::from_str(&text).map_err(|e| Error::Internal(format!("the frozen plan cannot be read: {e}")))
}
