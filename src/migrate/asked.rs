//! `verify`, as a program asks for it: of the run that is open, or of a source that was taken back.

use std::time::Instant;

use crate::mapping::Way;
use crate::plan::{Kind, Plan};
use crate::store::{HistoryLine, Phase, Side};

use super::answers::Outcome;
use super::project::{Done, Project};
use super::verify::{self, Verified, VerifyOptions};
use super::{Error, Failure, Result, Run, checks, fingerprint};

impl Project {
    /// Compares both sides of the open run in full, and asks the stores' own checks.
    ///
    /// # Errors
    /// As for `up`; differences are no error here, they are in the outcome.
    pub fn verify(&self) -> Done<Outcome> {
        self.verify_as(&VerifyOptions::default())
    }

    /// Compares both sides of the open run as far as is asked; or, asked for that, the source with its fingerprint after a rollback.
    ///
    /// # Errors
    /// As for `up`; differences are no error here, they are in the outcome, and so is what there was no time for.
    pub fn verify_as(&self, asked: &VerifyOptions) -> Done<Outcome> {
        let begun = Instant::now();
        let deadline = asked.timeout.map(|t| begun + t);
        let open = self.open_state().map_err(Failure::untouched)?;
        if asked.rollback {
            return match open {
                Some((_, state)) if state.phase != Phase::RollingBack => {
                    Err(self.not_now("verify --rollback", state.phase))
                }
                Some((m, state)) => {
                    let during = |e: Error| Failure::during(e, state.phase);
                    let mut run = self.attach(m, &state).map_err(during)?;
                    if state.side != Side::Open {
                        return Err(self.not_now("verify --rollback", state.phase));
                    }
                    run.deadline = deadline;
                    let verified = verify::after_rollback(&mut run).map_err(during)?;
                    Ok(told(self.outcome_of(&state, begun), verified, begun))
                }
                None => self.verify_closed(deadline, begun).map_err(Failure::untouched),
            };
        }
        let (m, state) = self.the_open_run()?;
        let during = |e: Error| Failure::during(e, state.phase);
        let way = match state.phase {
            Phase::Ready => Way::Up,
            Phase::Soaking => Way::Down,
            other => return Err(self.not_now("verify", other)),
        };
        let mut run = self.attach(m, &state).map_err(during)?;
        run.deadline = deadline;
        let verified = in_scope(&mut run, way, asked).map_err(during)?;
        Ok(told(self.outcome_of(&state, begun), verified, begun))
    }

    /// Against what a rolled-back run left in the source's history.
    fn verify_closed(&self, deadline: Option<Instant>, begun: Instant) -> Result<Outcome> {
        let refused = |cause: String, hint: &str| Error::Refused { cause, hint: hint.into() };
        let (name, line) = self.last_taken_back()?;
        let Some(remains) = line.remains.filter(|r| !r.digests.is_empty()) else {
            return Err(refused(
                format!("nothing was recorded of {name} that it could be compared with"),
                "a run's fingerprints come from the comparison before its cutover, which --no-verify leaves out",
            ));
        };
        let plan: Plan = serde_json::from_str(&remains.plan)
            .map_err(|e| Error::Internal(format!("the plan of run {} cannot be read: {e}", line.run)))?;
        let mut source = self.store(&name, false)?;
        super::ask(&plan, source.as_ref());
        let stop = self.stop.clone();
        let late = move || deadline.is_some_and(|d| Instant::now() >= d);
        let stopped = || late() || stop.load(std::sync::atomic::Ordering::SeqCst);
        let mut out = Verified { scope: "rollback", ..Verified::default() };
        match fingerprint::check_closed(source.as_mut(), &plan, &remains, &stopped) {
            Ok((fingerprints, misfits)) => {
                out.rows = fingerprints.iter().map(|f| (f.table.clone(), f.found.rows)).collect();
                out.digests = fingerprints.iter().map(|f| f.found).collect();
                (out.fingerprints, out.problems) = (fingerprints, misfits);
            }
            Err(Error::Stopped) if late() => out.not_compared.push(format!("the rows of {}", source.title())),
            Err(e) => return Err(e),
        }
        out.problems.extend(source.self_check(&plan.source_tables(), true)?);
        if plan.from.kind != Kind::Json {
            out.problems.extend(checks::definitions(source.as_mut(), &plan)?);
        }
        out.seconds = begun.elapsed().as_secs_f64();
        let as_of = remains.as_of.unwrap_or(line.ended_at);
        let outcome = Outcome {
            run: Some(line.run),
            migration: Some(line.migration),
            title: Some(line.title),
            phase: Some(Phase::RolledBack),
            state: format!("the application runs on the source; it was taken back with every write up to {as_of}"),
            ..Outcome::default()
        };
        Ok(told(outcome, out, begun))
    }

    /// The last run that ended in one of the migrations' sources, which must have been taken back.
    fn last_taken_back(&self) -> Result<(String, HistoryLine)> {
        let mut last: Option<(String, HistoryLine)> = None;
        for m in &self.migrations.list {
            let Ok(mut store) = self.store(&m.transfer.from, false) else { continue };
            for line in store.history()?.into_iter().filter(|l| l.migration == m.stamp && l.outcome != "aborted") {
                if last.as_ref().is_none_or(|(_, l)| l.ended_at <= line.ended_at) {
                    last = Some((m.transfer.from.clone(), line));
                }
            }
        }
        let hint = "`backout history` shows what ran; `backout verify` compares both sides of a run under way".into();
        match last {
            Some(last) if last.1.outcome == "rolled back" => Ok(last),
            Some((_, l)) => Err(Error::Refused {
                cause: format!("the last run, of {} {}, was {} and not rolled back", l.migration, l.title, l.outcome),
                hint,
            }),
            None => Err(Error::Refused { cause: "no migration was rolled back".into(), hint }),
        }
    }
}

/// Rows first, then the stores' own checks, as far as there is time.
fn in_scope(run: &mut Run, way: Way, asked: &VerifyOptions) -> Result<Verified> {
    let mut verified = verify::compare(run, way, asked.scope)?;
    let (problems, left) = checks::in_time(run, asked.scope)?;
    verified.problems = problems;
    verified.not_compared.extend(left);
    Ok(verified)
}

fn told(mut out: Outcome, verified: Verified, begun: Instant) -> Outcome {
    out.rows.clone_from(&verified.rows);
    out.verified = Some(verified);
    out.seconds = begun.elapsed().as_secs_f64();
    out
}
