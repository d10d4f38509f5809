//! How a run ends: rolled back, aborted or completed. The target's records go first, the source's last, so that a run killed on
//! the way is still found by its source.

use crate::mapping::Way;
use crate::plan::Kind;
use crate::store::{HistoryLine, Mode, Phase, Side, State};

use super::{Error, Result, Run, hand_over, now, verify, within};

/// Past a rollback's commit point: the application starts, both sides are compared, the records are closed.
pub(crate) fn after_rollback(run: &mut Run) -> Result<Phase> {
    if run.source_state()?.side != Side::Open {
        return hand_over::settle_rollback(run);
    }
    hand_over::start(run)?;
    let state = run.source_state()?;
    run.summary.carried = state.carried;
    let id = run.id.clone();
    run.summary.parked = run.source.parked(&id)?.into_iter().map(|p| p.reason).collect();
    if run.settings.verify && run.target.state()?.is_some() {
        let verified = verify::compare(run, Way::Up, false)?;
        let differences = verified.differences.clone();
        run.summary.verified = Some(verified);
        if !differences.is_empty() {
            return Err(Error::Differences(differences));
        }
    }
    let plan = run.plan.clone();
    if run.target.state()?.is_some() {
        let tables = plan.target_tables();
        // rows that could not go back are nowhere else: their target stays
        let clean = run.settings.clean_target && run.summary.parked.is_empty();
        let line = line(&state, "rolled back", "");
        let kept = within(run.target.as_mut(), Mode::Write, &tables, "target: closed", |t| {
            t.capture_off(&tables)?;
            t.unseal(&tables)?;
            let kept = if clean {
                t.drop_tables(&tables)?;
                None
            } else {
                Some(t.set_aside(&tables, &id)?)
            };
            let note = kept.clone().map_or("target dropped".into(), |k| k);
            t.close(&tables, &HistoryLine { note, ..line })?;
            Ok(kept)
        })?;
        run.summary.kept = kept;
    }
    run.app.forget()?;
    let mut note = format!("{} rows carried back", state.carried);
    if !run.summary.parked.is_empty() {
        note.push_str(&format!(", {} parked: {}", run.summary.parked.len(), run.summary.parked.join("; ")));
    }
    close_source(run, line(&state, "rolled back", &note))?;
    Ok(Phase::RolledBack)
}

/// Before a cutover: the target goes, the source is as it was.
pub(crate) fn abort(run: &mut Run) -> Result<Phase> {
    let state = run.source_state()?;
    let plan = run.plan.clone();
    if let Some(target) = run.target.state()?.filter(|t| t.run == run.id) {
        if target.side == Side::Open {
            return Err(Error::Internal("the target is live: this calls for a rollback".into()));
        }
        let tables = plan.target_tables();
        within(run.target.as_mut(), Mode::Write, &[], "target: thrown away", |t| {
            if target.built {
                t.drop_tables(&tables)?;
            }
            t.close(&[], &line(&state, "aborted", "target dropped"))?;
            Ok(())
        })?;
    }
    run.app.forget()?;
    close_source(run, line(&state, "aborted", "before the cutover; nothing was handed over"))?;
    Ok(Phase::Aborted)
}

/// The one point of no return: the way back is given up.
pub(crate) fn complete(run: &mut Run, delete_source: bool) -> Result<Phase> {
    run.enter(Phase::Completing)?;
    let state = run.source_state()?;
    let plan = run.plan.clone();
    if run.target.state()?.is_some() {
        let tables = plan.target_tables();
        within(run.target.as_mut(), Mode::Write, &tables, "target: closed", |t| {
            t.capture_off(&tables)?;
            t.close(&tables, &line(&state, "completed", ""))?;
            Ok(())
        })?;
    }
    run.app.forget()?;
    let delete = delete_source && run.source.kind() != Kind::Json;
    let line = if delete {
        line(&state, "completed", "source tables dropped")
    } else {
        run.summary.kept = Some(format!("{} stays as it was at the last drain, sealed", run.source.title()));
        line(&state, "completed", &format!("{} carried to the source while soaking", state.carried))
    };
    let tables = plan.source_tables();
    let tables: &[&crate::plan::Table] = if delete { &tables } else { &[] };
    within(run.source.as_mut(), Mode::Write, tables, "source: closed", |s| {
        if delete {
            s.drop_tables(tables)?;
        }
        // where they are kept the seal stays, so that a forgotten writer fails loudly
        Ok(s.close(tables, &line)?)
    })?;
    Ok(Phase::Completed)
}

/// The source's records go, and its triggers: it is as it was.
fn close_source(run: &mut Run, line: HistoryLine) -> Result<()> {
    let plan = run.plan.clone();
    let tables = plan.source_tables();
    within(run.source.as_mut(), Mode::Write, &tables, "source: closed", |s| Ok(s.close(&tables, &line)?))
}

fn line(state: &State, outcome: &str, note: &str) -> HistoryLine {
    HistoryLine {
        run: state.run.clone(),
        migration: state.migration.clone(),
        title: state.title.clone(),
        plan_hash: state.plan_hash.clone(),
        outcome: outcome.to_owned(),
        started_at: state.started_at.clone(),
        ended_at: now(),
        note: note.to_owned(),
    }
}
