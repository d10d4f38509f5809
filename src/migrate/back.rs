//! The ways back as commands: a rollback that carries everything, one that does without the target, and what is salvaged later.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::mapping::Way;
use crate::plan::{Affinity, Column, Kind, Migration, Table};
use crate::revision::database::Record;
use crate::store::{self, Phase, Role, Site, State};

use super::answers::{Outcome, RollbackOptions, Status};
use super::chain::Applied;
use super::emergency::{self, Alone, Fenced, Trust};
use super::project::{Done, Project, frozen};
use super::status::window_over;
use super::{Error, Failure, Result, Run, close, doubt, hand_over, in_place, salvage};

impl Project {
    /// Takes back what is newest: SQL revisions by their frozen downs, the soaking migration with every write made since; or, if so
    /// asked, that one without relying on the target. The whole way is checked before its first step.
    ///
    /// # Errors
    /// As for `up`; before the commit point everything is as before.
    pub fn rollback(&self, asked: &RollbackOptions) -> Done<Outcome> {
        let begun = Instant::now();
        let to = asked.to.as_deref().unwrap_or("-1");
        let open = self.open_state().map_err(Failure::untouched)?;
        let apart = asked.emergency || asked.discard || asked.until.is_some();
        if let Some((m, state)) = open.filter(|(_, state)| apart || state.phase != Phase::Soaking) {
            return self.take_back(m, state, asked, begun);
        }
        let ledgers = self.ledgers(false).map_err(Failure::untouched)?;
        let chain = self.applied(&ledgers).and_then(|applied| self.down_to(applied, to)).map_err(Failure::untouched)?;
        drop(ledgers);
        let mut out = Outcome::default();
        if chain.is_empty() {
            if to == "-1" {
                return Err(Failure::untouched(self.nothing_to_roll_back()));
            }
            out.nothing = true;
            out.state =
                if to == "base" { "no migration is applied".into() } else { "that is the newest one applied".into() };
            out.next = "backout history   shows what is applied".into();
            return Ok(out);
        }
        self.may_go_down(&chain, asked).map_err(Failure::untouched)?;
        let mut group: Vec<(usize, Record)> = Vec::new();
        for link in chain {
            match link {
                Applied::Sql(ledger, record) => group.push((ledger, *record)),
                Applied::Soaking(m) => {
                    self.run_down(&std::mem::take(&mut group), &mut out)?;
                    // what stood on top of it is gone by now
                    let state = self.open_state().map_err(Failure::untouched)?.map(|(_, state)| state);
                    if let Some(state) = state {
                        let back = self.take_back(m, state, asked, begun)?;
                        out = Outcome { revisions: std::mem::take(&mut out.revisions), ..back };
                    }
                }
                Applied::Completed(..) => {}
            }
        }
        if !group.is_empty() {
            self.run_down(&group, &mut out)?;
        }
        if out.phase.is_none() {
            self.head_words(&mut out)?;
        }
        out.seconds = begun.elapsed().as_secs_f64();
        out.effects = self.gate.count();
        Ok(out)
    }

    /// Takes a migration that moved data back.
    fn take_back(&self, m: &Migration, state: State, asked: &RollbackOptions, begun: Instant) -> Done<Outcome> {
        let apart = asked.emergency || asked.discard || asked.until.is_some();
        match state.phase {
            Phase::Soaking | Phase::RollingBack | Phase::CuttingOver => {}
            // its target may still have to be closed, its application to be started
            Phase::Outstanding if state.last_error.is_some() || finished(&state) => {}
            other => return Err(self.not_now("rollback", other)),
        }
        if state.phase == Phase::Soaking && window_over(&state) && !asked.force {
            return Err(Failure::during(
                Error::Refused {
                    cause: format!("the rollback window ended at {}", state.window_ends.as_deref().unwrap_or("?")),
                    hint: "everything needed for a rollback is still there: `backout rollback --force` takes the change back all the same".into(),
                },
                Phase::Soaking));
        }
        if apart || state.parting.is_some() {
            return self.part(m, &state, asked, begun);
        }
        let mut run = self.attach(m, &state).map_err(|e| Failure::during(e, state.phase))?;
        if m.in_place() && state.phase == Phase::Soaking {
            in_place::rests(run.source.as_mut(), &run.plan).map_err(|e| Failure::during(e, Phase::Soaking))?;
        }
        if let Some(clean) = asked.clean_target {
            run.settings.clean_target = clean;
        }
        if state.phase == Phase::CuttingOver {
            // killed in the cutover: if it fell back, there is nothing to take back
            let settled = hand_over::settle_cutover(&mut run).map_err(|e| Failure::during(e, Phase::CuttingOver))?;
            if settled == Phase::Ready {
                let state = run.source_state().map_err(Failure::untouched)?;
                return Ok(self.outcome_of(&state, begun));
            }
        }
        let budget = asked.timeout.unwrap_or(self.config.rollback.timeout);
        run.deadline = Some(begun + budget);
        let mut out = self.watched(run, begun, budget)?;
        out.budget = out.budget.map(|(_, kept)| (budget.as_secs_f64(), kept));
        Ok(out)
    }

    /// Drives a rollback in a thread of its own. It ends itself when its time is used up; but a target that has stopped
    /// answering holds it where it is, and that is not waited for.
    fn watched(&self, mut run: Run, begun: Instant, budget: Duration) -> Done<Outcome> {
        // a command of the user's may take as long as its limit says
        let quiet = self.config.services.iter().map(|s| s.timeout).max().unwrap_or_default() + Duration::from_secs(5);
        let before = run.source_state().map(|s| self.outcome_of(&s, begun)).unwrap_or_default();
        let committed = run.committed.clone();
        let (tell, told) = channel();
        let worker = std::thread::spawn(move || {
            let reached = run.advance(Phase::RolledBack);
            let _ = tell.send((run, reached));
        });
        let (mut effects, mut moved) = (0, Instant::now());
        loop {
            match told.recv_timeout(Duration::from_millis(100)) {
                Ok((run, reached)) => return self.driven(run, reached, before, begun),
                // it can only have panicked, and that is nobody's but the caller's
                Err(RecvTimeoutError::Disconnected) => match worker.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => return Err(Failure::during(Error::Stopped, Phase::RollingBack)),
                },
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.gate.count() != effects {
                (effects, moved) = (self.gate.count(), Instant::now());
            }
            if begun.elapsed() > budget && moved.elapsed() > quiet && !committed.load(Ordering::SeqCst) {
                let phase = self.phase().ok().flatten().unwrap_or(Phase::RollingBack);
                let silent = Error::Refused {
                    cause: format!("nothing has answered for {} s", moved.elapsed().as_secs()),
                    hint: "see why the server of the target is silent".into(),
                };
                return Err(Failure::during(Error::TargetLost(Box::new(silent)), phase));
            }
        }
    }

    /// Goes back to the source without relying on the target; or goes on with that.
    pub(crate) fn part(&self, m: &Migration, state: &State, asked: &RollbackOptions, begun: Instant) -> Done<Outcome> {
        let mut alone = self.alone(m, state).map_err(|e| Failure::during(e, state.phase))?;
        if m.in_place() && state.phase == Phase::Soaking {
            in_place::rests(alone.source.as_mut(), &alone.plan).map_err(|e| Failure::during(e, Phase::Soaking))?;
        }
        let mut notes = Vec::new();
        let parted = self.go_apart(m, &mut alone, asked, begun, &mut notes);
        let phase = alone.state().map_or(state.phase, |s| s.phase);
        parted.map_err(|e| Failure::during(e, phase)).and_then(|fenced| {
            let during = |e: Error| Failure::during(e, Phase::Outstanding);
            self.part_ends(alone, fenced, asked, begun, notes).map_err(during)
        })
    }

    fn alone(&self, m: &Migration, state: &State) -> Result<Alone> {
        let mut source = self.store(&m.transfer.from, false)?;
        source.lock(self.options.wait)?;
        let mut plan = frozen(source.as_mut(), &state.run)?;
        let app = App::new(&self.config, &state.run, &self.gate)?;
        if plan.in_place() {
            in_place::stand_source(source.as_mut(), &state.run)?;
        }
        super::ask(&plan, source.as_ref());
        plan.know(&source.pairs(&state.run)?);
        let (id, gate, folder) = (state.run.clone(), self.gate.clone(), self.config.folder.clone());
        let epoch = super::undo::own(source.as_mut(), &id)?.epoch;
        Ok(Alone { id, plan, source, epoch, app, gate, folder, observer: self.observer.clone() })
    }

    /// Up to where the application runs on the source again.
    fn go_apart(
        &self,
        m: &Migration,
        alone: &mut Alone,
        asked: &RollbackOptions,
        begun: Instant,
        notes: &mut Vec<String>,
    ) -> Result<Result<Fenced>> {
        let trust = if asked.discard || asked.until.is_some() { Trust::Until(asked.until) } else { Trust::All };
        let budget = asked.timeout.unwrap_or(self.config.rollback.timeout);
        let opened = alone.state()?.phase == Phase::Outstanding;
        let mut foreign = None;
        if !opened {
            emergency::begin(alone, trust)?;
            emergency::stop(alone);
            foreign = emergency::accept(alone, self.json_file(m))?;
        }
        let left = budget.saturating_sub(begun.elapsed());
        let (patience, all) = (Duration::from_secs(10).min(left / 4), Duration::from_secs(60).min(left / 2));
        let url = self.url(&m.transfer.to).map(str::to_owned);
        let (folder, gate) = (self.config.folder.clone(), self.gate.clone());
        let open = move || Ok(store::open(&url?, &folder, false, &gate)?);
        let mut fenced = emergency::fence(open, alone, patience, all);
        if alone.plan.in_place() && !opened {
            // what cannot be asked now is no more lost than the source is: only changes that went unseen cannot be carried
            match fenced {
                Err(e) => return Err(e),
                Ok(Fenced { read: Err(e), .. }) if !matches!(e, Error::Store(store::Error::Capture { .. })) => {
                    return Err(e);
                }
                _ => {}
            }
        }
        if !opened {
            if let (Some(copy), Trust::All) = (&foreign, trust) {
                self.overwrite(alone, &mut fenced, copy, notes)?;
            }
            emergency::settle(alone, &fenced)?;
            emergency::open(alone)?;
        }
        emergency::start(alone)?;
        Ok(fenced)
    }

    /// The resting file's path, if the source is one.
    fn json_file(&self, m: &Migration) -> Option<std::path::PathBuf> {
        let path = self.config.store(&m.transfer.from)?.strip_prefix("json:")?.to_owned();
        std::fs::canonicalize(self.config.folder.join(path)).ok()
    }

    /// What others wrote to a resting file gives way to what the target has, if that can be asked.
    fn overwrite(
        &self,
        alone: &mut Alone,
        fenced: &mut Result<Fenced>,
        copy: &str,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let found = format!(
            "{} was written to by others while it rested; as it was found it is kept as {copy}",
            alone.source.title()
        );
        let Ok(reached) = fenced else {
            notes.push(format!("{found}, and it is what the application has now"));
            return Ok(());
        };
        if reached.read.is_err() {
            notes.push(format!("{found}, and it is what the application has now"));
            return Ok(());
        }
        let mut run = self.run(alone.id.clone(), alone.plan.clone(), alone.source.again()?, reached.store.again()?)?;
        doubt::resolve(&mut run, Way::Down)?;
        let state = alone.state()?;
        let parked = alone.source.parked(&alone.id)?;
        let (id, plan, from) = (alone.id.clone(), alone.plan.clone(), state.checkpoint);
        reached.read = emergency::seal_and_read(reached.store.as_mut(), &id, &plan, state.epoch, from, &parked)?;
        notes.push(format!("{found}; in its place the application has what the target had"));
        Ok(())
    }

    /// What is left to do, and what is to be said.
    fn part_ends(
        &self,
        mut alone: Alone,
        fenced: Result<Fenced>,
        asked: &RollbackOptions,
        begun: Instant,
        mut notes: Vec<String>,
    ) -> Result<Outcome> {
        let state = alone.state()?;
        let parting = alone.parting()?;
        let reached = match &fenced {
            Ok(_) => Ok(()),
            Err(e) => Err(e.to_string()),
        };
        let unread = fenced.as_ref().ok().and_then(|f| f.read.as_ref().err()).map(ToString::to_string);
        let mut out = self.outcome_of(&state, begun);
        let left_out = (parting.left_out > 0).then(|| alone.left_out().title());
        if parting.untrusted {
            notes.push(format!("the source is as the target was at {}, by the target's clock", parting.upto));
            let path = left_out.as_deref().unwrap_or("no file");
            notes.push(format!("left out: {}, in {path}", super::count(parting.left_out as usize, "row")));
            if !parting.whole {
                let why = reached.clone().err().or(unread.clone()).unwrap_or_default();
                notes.push(format!(
                    "what the target took after its last drain could not be read and is not in that file: {why}"
                ));
            }
        } else if !parting.whole {
            notes.push(format!(
                "carried: every write that the target had acknowledged at {}, by its clock",
                parting.upto
            ));
            let late =
                "not carried: what was written to the target after that (of the same instant some may have come along)";
            notes.push(late.into());
            notes.extend(unmoved(alone.plan.source_tables(), alone.source.kind()));
            if let Some(why) = unread.as_ref().filter(|_| reached.is_ok()) {
                notes.push(format!("the target could not be read: {why}"));
            }
        }
        if let (Err(why), false) = (&reached, parting.sealed) {
            notes.push(format!("the target could not be reached ({why}): it may still take writes"));
        }
        let ends = parting.whole || parting.untrusted;
        let source_line = || {
            let note =
                format!("taken back to {}, {} left out", parting.upto, super::count(parting.left_out as usize, "row"));
            close::line(&state, "rolled back", if parting.untrusted { &note } else { "the target was gone at the end" })
        };
        let fenced = match fenced {
            // in place the target is where the source is, whatever became of its fence
            Err(e) if ends && alone.plan.in_place() => Ok(Fenced { store: alone.source.again()?, read: Err(e) }),
            fenced => fenced,
        };
        match fenced {
            Ok(fenced) if ends => {
                let Alone { id, plan, source, .. } = alone;
                let mut run = self.run(id, plan, source, fenced.store)?;
                run.settings.clean_target = asked.clean_target.unwrap_or(run.settings.clean_target);
                let phase = close::rolled_back(&mut run)?;
                out = self.ended(&run, phase, out, begun);
            }
            Err(_) if ends => {
                out.parked = alone.source.parked(&alone.id)?.into_iter().map(|p| p.reason).collect();
                out.exported = close::export_alone(&mut alone)?;
                emergency::close(&mut alone, &source_line())?;
                (out.phase, out.next) = (Some(Phase::RolledBack), super::ways_out(Phase::RolledBack));
                out.state = super::state_words(Phase::RolledBack).into();
            }
            _ => out.upto = Some(parting.upto.clone()),
        }
        if parting.untrusted {
            out.state = format!("the application runs on the source, as the target was at {}", parting.upto);
            out.upto = Some(parting.upto.clone());
            out.exported = match (left_out, out.exported) {
                (Some(left), Some(parked)) => {
                    notes.push(format!("rows that could not go back are in {parked}"));
                    Some(left)
                }
                (left, parked) => left.or(parked),
            };
        }
        let budget = asked.timeout.unwrap_or(self.config.rollback.timeout);
        out.budget = Some((budget.as_secs_f64(), begun.elapsed() <= budget));
        (out.notes, out.effects) = (notes, self.gate.count());
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    /// Carries what an emergency left in the target, now that it can be reached, and ends the run. With `forget` it is given
    /// up instead.
    ///
    /// # Errors
    /// As for `up`; what was carried stays carried, and the command may be run again.
    pub fn salvage(&self, forget: bool) -> Done<Outcome> {
        let begun = Instant::now();
        let (m, state) = self.the_open_run()?;
        if state.phase != Phase::Outstanding {
            return Err(self.not_now("salvage", state.phase));
        }
        let during = |e: Error| Failure::during(e, Phase::Outstanding);
        if forget {
            return self.forget(m, &state, begun).map_err(during);
        }
        let mut run = self.attach(m, &state).map_err(|e| during(lost(e)))?;
        let before = self.outcome_of(&state, begun);
        let phase = salvage::salvage(&mut run).map_err(during)?;
        Ok(self.ended(&run, phase, before, begun))
    }

    /// Ends the run with what the source has.
    fn forget(&self, m: &Migration, state: &State, begun: Instant) -> Result<Outcome> {
        let mut out = self.outcome_of(state, begun);
        let upto = state.parting.as_ref().map(|p| p.upto.clone()).unwrap_or_default();
        let mut alone = self.alone(m, state)?;
        if state.last_error.is_some() {
            emergency::start(&mut alone)?;
        }
        let note = format!("carried up to {upto}; what was written to the target later was given up");
        out.parked = alone.source.parked(&alone.id)?.into_iter().map(|p| p.reason).collect();
        out.exported = close::export_alone(&mut alone)?;
        let line = close::line(state, "rolled back", &note);
        if alone.plan.in_place() {
            let mut target = alone.source.again()?;
            target.stand(Role::Target, Site::Staged(alone.id.clone()));
            if target.state()?.is_some() {
                out.kept = Some(close::target_aside(target.as_mut(), &alone.plan.target_tables(), &line)?);
            }
        }
        emergency::close(&mut alone, &line)?;
        out.notes.push(format!("given up: what was written to the target after {upto}"));
        (out.phase, out.next) = (Some(Phase::RolledBack), super::ways_out(Phase::RolledBack));
        (out.state, out.upto) =
            (format!("the application runs on the source, as the target was at {upto}"), Some(upto));
        Ok(out)
    }

    /// The target's tables that hold rows, and how many: what a rollback that cleans the target drops.
    ///
    /// # Errors
    /// What a store says.
    pub fn would_drop(&self) -> Done<Vec<(String, u64)>> {
        let Some((m, state)) = self.open_state().map_err(Failure::untouched)? else { return Ok(Vec::new()) };
        if state.phase != Phase::Soaking {
            return Ok(Vec::new());
        }
        let count = || -> Result<Vec<(String, u64)>> {
            let mut source = self.store(&m.transfer.from, false)?;
            let mut target = self.store(&m.transfer.to, false)?;
            let plan = frozen(source.as_mut(), &state.run)?;
            if plan.in_place() {
                in_place::stand(source.as_mut(), target.as_mut(), &state.run)?;
            }
            let counted = plan.target_tables().into_iter().map(|t| Ok((t.name.clone(), target.count(t)?)));
            counted.filter(|c| !matches!(c, Ok((_, 0)))).collect()
        };
        count().map_err(|e| Failure::during(e, state.phase))
    }

    /// What a rollback would do now. Changes nothing.
    ///
    /// # Errors
    /// What a store says.
    pub fn rollback_preview(&self) -> Done<Status> {
        let Some((m, state)) = self.open_state().map_err(Failure::untouched)? else {
            return Err(Failure::untouched(self.nothing_to_roll_back()));
        };
        if state.phase != Phase::Soaking {
            return Err(self.not_now("rollback", state.phase));
        }
        self.status_of(m, state).map_err(|e| Failure::during(e, Phase::Soaking))
    }
}

/// Nothing of the target is outstanding; only the records are still to be closed.
fn finished(state: &State) -> bool {
    state.parting.as_ref().is_some_and(|p| p.whole || p.untrusted)
}

/// The application does not run on the target any more, so that to wait for it is no emergency.
fn lost(e: Error) -> Error {
    match e {
        Error::TargetLost(cause) => *cause,
        e => e,
    }
}

fn is_integer(column: &Column, kind: Kind) -> bool {
    match kind {
        Kind::Postgres => ["smallint", "integer", "bigint"].contains(&column.ty.as_str()),
        _ => Affinity::of(&column.ty) == Affinity::Integer,
    }
}

/// Tables whose keys go on after the greatest one that is there, and which therefore are given twice.
fn unmoved(tables: Vec<&Table>, kind: Kind) -> Option<String> {
    // what the application gives it gives again, if that is one more than the greatest
    let own = |t: &Table| {
        let refers = |name: &String| t.foreign_keys.iter().any(|f| f.columns.contains(name));
        matches!(t.key.as_slice(), [k] if is_integer(&t.columns[*k], kind) && !refers(&t.columns[*k].name))
    };
    let plain = |t: &&&Table| match kind {
        Kind::Sqlite => !t.details.autoincrement && (t.columns.iter().any(|c| c.identity) || own(t)),
        Kind::Postgres => own(t) && !t.columns[t.key[0]].identity,
        Kind::Json => false,
    };
    let names: Vec<&str> = tables.iter().filter(plain).map(|t| t.title()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "keys of {} go on after the greatest one there: they may be given again that the target gave already; `backout salvage` lists them",
            names.join(", ")
        )
    })
}
