//! The commands that go forward: up, cutover, resume, complete; and abort, before there is anything to take back.

use std::time::Instant;

use crate::mapping::Way;
use crate::plan::{Migration, SwitchConfig, set_it};
use crate::store::{Mode, Phase};

use super::answers::{Outcome, RollbackOptions, Until, UpOptions};
use super::chain::Link;
use super::planning::Proposal;
use super::project::{Done, Project};
use super::revisions::{halfway, leading};
use super::{Error, Failure, Result, Run, close, drain, hand_over, in_place, prepare};

impl Project {
    /// Looks at the next pending migration (or the one named) and says what `up` would do. Changes nothing.
    ///
    /// # Errors
    /// A refusal, or what a store says; nothing is changed.
    pub fn plan(&self, revision: Option<&str>) -> Done<Option<Proposal>> {
        let untouched = Failure::untouched;
        let Some(m) = self.next_move(revision).map_err(untouched)? else { return Ok(None) };
        let mut source = self.store(&m.transfer.from, false).map_err(untouched)?;
        self.propose(m, source.as_mut()).map(Some).map_err(untouched)
    }

    /// Moves forward: the open run if there is one, else every pending migration up to the one asked for. A migration that moves data
    /// stays soaking, and a second one waits until its window is closed.
    ///
    /// # Errors
    /// What went wrong, what state the data is in, what to type next.
    pub fn up(&self, asked: &UpOptions) -> Done<Outcome> {
        let begun = Instant::now();
        let until = if asked.until == Until::Ready { Phase::Ready } else { Phase::Soaking };
        let open = self.open_state().map_err(Failure::untouched)?;
        if let Some((m, state)) = &open
            && state.phase != Phase::Soaking
        {
            if state.phase == Phase::Outstanding || state.parting.is_some() {
                return Err(self.not_now("up", state.phase));
            }
            if let Some(why) = state.called_off.as_ref().filter(|_| !asked.acknowledge) {
                let held = Error::Refused {
                    cause: format!(
                        "the cutover of {} ({}) was called off by itself, and others wait: {why}",
                        m.stamp, m.title
                    ),
                    hint: "once the cause is mended: `backout up --acknowledge`".into(),
                };
                return Err(Failure::during(held, state.phase));
            }
            return self.go_on(m, state, until, begun);
        }
        let ledgers = self.ledgers(false).map_err(Failure::untouched)?;
        if let Some(record) = ledgers.iter().flat_map(|l| &l.records).find(|r| r.standing.is_halfway()) {
            return Err(Failure::untouched(halfway(record)));
        }
        let mut steps = self
            .pending(&ledgers)
            .and_then(|pending| self.up_to(pending, asked.revision.as_deref()))
            .and_then(|steps| self.in_order(steps, &ledgers, asked))
            .map_err(Failure::untouched)?;
        drop(ledgers);
        let mut out = Outcome::default();
        if steps.is_empty() {
            let told = match open {
                Some((_, state)) => self.outcome_of(&state, begun),
                None => Outcome { state: "every migration is applied".into(), ..Outcome::default() },
            };
            return Ok(Outcome { nothing: true, ..told });
        }
        let mut soaking = open;
        while let Some(first) = steps.first() {
            let Link::Mapping(m) = *first else {
                let group = leading(&steps);
                steps.drain(..group.len());
                self.run_up(&group, asked, &mut out)?;
                continue;
            };
            if let Some((under, _)) = &soaking {
                let cause = format!(
                    "{} ({}) is still soaking; {} would be put on top of it",
                    under.stamp, under.title, m.stamp
                );
                let hint = "`backout complete` closes its window first, `backout rollback` takes it back";
                if out.revisions.is_empty() && out.phase.is_none() {
                    return Err(Failure::during(Error::Refused { cause, hint: hint.into() }, Phase::Soaking));
                }
                out.notes.push(format!("{cause}: {hint}"));
                break;
            }
            steps.remove(0);
            let (run, proposal) = self.start(m, asked, until).map_err(Failure::untouched)?;
            let moved = self.drive(run, until, begun, Some(&proposal))?;
            let (revisions, proof_seconds) = (std::mem::take(&mut out.revisions), out.proof_seconds);
            out = Outcome { revisions, proof_seconds, ..moved };
            if until == Phase::Ready {
                return Ok(out);
            }
            soaking = self.open_state().map_err(Failure::untouched)?;
        }
        if out.phase.is_none() {
            self.head_words(&mut out)?;
        }
        out.seconds = begun.elapsed().as_secs_f64();
        out.effects = self.gate.count();
        Ok(out)
    }

    /// Locks both stores, plans, and makes the run's first record.
    fn start(&self, m: &Migration, asked: &UpOptions, until: Phase) -> Result<(Run, Proposal)> {
        if self.config.unused.iter().any(|u| u.contains("flag")) {
            return Err(Error::Refused {
                cause: "backout.toml switches the application by a feature flag, which this version cannot do".into(),
                hint: "the application would stay on the old store: use [[switch]] dotenv or file instead".into(),
            });
        }
        for switch in &self.config.switches {
            if let SwitchConfig::Dotenv { path, unset: Some(unset), .. } = switch {
                return Err(Error::Refused {
                    cause: format!("the switch of {} needs the variable {unset}, which is not set", path.display()),
                    hint: set_it(unset),
                });
            }
        }
        let mut source = self.store(&m.transfer.from, false)?;
        source.lock(self.options.wait)?;
        if let (false, Ok(mut target)) = (m.in_place(), self.store(&m.transfer.to, false)) {
            self.set_aside_the_closed(source.as_mut(), target.as_mut())?;
        }
        let proposal = self.propose(m, source.as_mut())?;
        if let Some(hash) = &asked.plan
            && (hash.len() < 8 || !proposal.hash.starts_with(hash.as_str()))
        {
            return Err(Error::Refused {
                cause: format!(
                    "the plan is not the one you saw: it has the hash {} now, not {hash}",
                    &proposal.hash[..16]
                ),
                hint: "look at `backout plan` again; then give its hash".into(),
            });
        }
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let mut target = self.store(&m.transfer.to, true)?;
        if m.in_place() {
            in_place::stand(source.as_mut(), target.as_mut(), &id)?;
        } else {
            target.lock(self.options.wait)?;
        }
        if let Some(other) = target.state()? {
            return Err(Error::Refused {
                cause: format!("{} takes part in another run, {} ({})", target.title(), other.run, other.title),
                hint: "end that one first: `backout status` in its project".into(),
            });
        }
        // tried and taken back at once: what we may not do there is known before anything is changed
        target.begin(Mode::Write, &[])?;
        let tables = proposal.plan.target_tables();
        let may = target.prepare().and_then(|()| target.create(&tables)).and_then(|()| {
            tables.iter().try_for_each(|t| target.build_key(t))?;
            target.build_rest(&tables)?;
            if m.in_place() { target.dress(&proposal.plan.source_tables(), &tables) } else { Ok(()) }
        });
        target.rollback();
        may?;
        let text = serde_json::to_string(&proposal.plan).map_err(|e| Error::Internal(e.to_string()))?;
        let record = prepare::Record {
            id: &id,
            migration: &m.stamp,
            title: &m.title,
            hash: &proposal.hash,
            plan: &text,
            hold: until == Phase::Ready,
        };
        prepare::begin(source.as_mut(), &record)?;
        let mut run = self.run(id, proposal.plan.clone(), source, target)?;
        run.counts = proposal.counts.tables.iter().map(|(rows, _)| *rows).collect();
        Ok((run, proposal))
    }

    /// Hands a `Ready` run over to the target.
    ///
    /// # Errors
    /// As for `up`.
    pub fn cutover(&self) -> Done<Outcome> {
        let begun = Instant::now();
        let (m, state) = self.the_open_run()?;
        match state.phase {
            Phase::Ready | Phase::CuttingOver => self.go_on(m, &state, Phase::Soaking, begun),
            Phase::Soaking => Ok(Outcome { nothing: true, ..self.outcome_of(&state, begun) }),
            other => Err(self.not_now("cutover", other)),
        }
    }

    /// Goes on with whatever was cut off.
    ///
    /// # Errors
    /// As for `up`.
    pub fn resume(&self, until: Option<Until>) -> Done<Outcome> {
        let begun = Instant::now();
        let Some((m, state)) = self.open_state().map_err(Failure::untouched)? else {
            return self.resume_sql(begun);
        };
        if state.phase == Phase::Soaking && self.halfway().map_err(Failure::untouched)?.is_some() {
            return self.resume_sql(begun);
        }
        if state.phase == Phase::Outstanding || state.parting.is_some() {
            return self.part(m, &state, &RollbackOptions::default(), begun);
        }
        let until = match state.phase {
            Phase::Soaking => {
                // a start that failed after the cutover is made up for here
                let mut run = self.attach(m, &state).map_err(|e| Failure::during(e, state.phase))?;
                let started = if state.last_error.is_some() { hand_over::start(&mut run) } else { Ok(()) };
                started.and_then(|()| run.enter(Phase::Soaking)).map_err(|e| Failure::during(e, Phase::Soaking))?;
                return Ok(Outcome { nothing: state.last_error.is_none(), ..self.outcome_of(&state, begun) });
            }
            Phase::RollingBack => Phase::RolledBack,
            Phase::Aborting => Phase::Aborted,
            Phase::Completing => Phase::Completed,
            Phase::CuttingOver => Phase::Soaking,
            _ if until == Some(Until::Ready) || (until.is_none() && state.hold) => Phase::Ready,
            _ => Phase::Soaking,
        };
        self.go_on(m, &state, until, begun)
    }

    /// Goes on with a SQL revision that was cut off.
    fn resume_sql(&self, begun: Instant) -> Done<Outcome> {
        let mut out = Outcome::default();
        if !self.go_on_sql(&mut out)? {
            return self.nothing_open(begun);
        }
        self.head_words(&mut out)?;
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    /// Throws the target away, before a cutover.
    ///
    /// # Errors
    /// As for `up`.
    pub fn abort(&self) -> Done<Outcome> {
        let begun = Instant::now();
        let (m, state) = match self.open_state().map_err(Failure::untouched)? {
            Some(open) => open,
            None => return self.nothing_open(begun),
        };
        let during = |e: Error| Failure::during(e, state.phase);
        if matches!(state.phase, Phase::Soaking | Phase::RollingBack | Phase::Outstanding | Phase::Completing) {
            return Err(self.not_now("abort", state.phase));
        }
        let mut run = self.attach(m, &state).map_err(during)?;
        if state.phase == Phase::CuttingOver && hand_over::settle_cutover(&mut run).map_err(during)? == Phase::Soaking {
            return Err(self.not_now("abort", Phase::Soaking));
        }
        run.enter(Phase::Aborting).map_err(during)?;
        self.drive(run, Phase::Aborted, begun, None)
    }

    /// Closes the window: the way back is given up. With nothing soaking, what SQL revisions keep of what they took away is let go.
    ///
    /// # Errors
    /// As for `up`.
    pub fn complete(&self, delete_source: bool) -> Done<Outcome> {
        let begun = Instant::now();
        let Some((m, state)) = self.open_state().map_err(Failure::untouched)? else {
            let none = self.kept()?.is_empty();
            return if none { self.nothing_open(begun) } else { self.let_go(begun) };
        };
        let during = |e: Error| Failure::during(e, state.phase);
        if !matches!(state.phase, Phase::Soaking | Phase::Completing) {
            return Err(self.not_now("complete", state.phase));
        }
        let mut run = self.attach(m, &state).map_err(during)?;
        if state.phase == Phase::Soaking {
            let parked = run.source.parked(&run.id.clone()).map_err(|e| during(e.into()))?;
            if !parked.is_empty() {
                run.note(format!(
                    "{} could never be carried back; that ends to matter with this",
                    super::count(parked.len(), "row")
                ));
            }
        }
        let before = self.outcome_of(&state, begun);
        close::complete(&mut run, delete_source).map_err(|e| Failure::during(e, Phase::Completing))?;
        Ok(self.ended(&run, Phase::Completed, before, begun))
    }

    /// Lets the resting side follow the live one, once.
    ///
    /// # Errors
    /// As for `up`.
    pub fn shadow(&self) -> Done<Outcome> {
        let begun = Instant::now();
        let (m, state) = self.the_open_run()?;
        let during = |e: Error| Failure::during(e, state.phase);
        let way = match state.phase {
            Phase::Soaking => Way::Down,
            Phase::Ready => Way::Up,
            other => return Err(self.not_now("shadow", other)),
        };
        let mut run = self.attach(m, &state).map_err(during)?;
        drain::drain(&mut run, way).map_err(during)?;
        let state = run.source_state().map_err(during)?;
        let mut out = self.outcome_of(&state, begun);
        let id = run.id.clone();
        out.parked = run.source.parked(&id).map_err(|e| during(e.into()))?.into_iter().map(|p| p.reason).collect();
        Ok(out)
    }
}
