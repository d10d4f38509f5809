//! How a run ends: rolled back, aborted or completed. The target's records go first, the source's last, so that a run killed on
//! the way is still found by its source.

use crate::mapping::Way;
use crate::plan::{Kind, Plan, Table};
use crate::store::{HistoryLine, Mode, Phase, Role, Side, Site, State, Store};
use crate::value::Key;

use super::emergency::Alone;
use super::export::{Export, Left};
use super::{Error, Result, Run, emergency, fingerprint, hand_over, keys, now, verify, within};

/// Past a rollback's commit point: the application starts, both sides are compared, the records are closed.
pub(crate) fn after_rollback(run: &mut Run) -> Result<Phase> {
    if run.source_state()?.side != Side::Open {
        return hand_over::settle_rollback(run);
    }
    hand_over::start(run)?;
    rolled_back(run)
}

/// The application runs on the source: both sides are compared, the records are closed.
pub(crate) fn rolled_back(run: &mut Run) -> Result<Phase> {
    let state = run.source_state()?;
    run.summary.carried = state.carried;
    let id = run.id.clone();
    run.summary.parked = run.source.parked(&id)?.into_iter().map(|p| p.reason).collect();
    let untrusted = state.parting.as_ref().filter(|p| p.untrusted).cloned();
    if run.settings.verify && untrusted.is_none() && run.target.state()?.is_some() {
        let verified = verify::after_rollback(run)?;
        let differences = verified.found();
        run.summary.verified = Some(verified);
        if !differences.is_empty() {
            return Err(Error::Differences(differences));
        }
    }
    let plan = run.plan.clone();
    if run.target.state()?.is_some() {
        let tables = plan.target_tables();
        // rows that could not go back are nowhere else: their target stays
        let whole = state.parting.as_ref().is_none_or(|p| p.whole);
        let clean = run.settings.clean_target && run.summary.parked.is_empty() && whole;
        let line = line(&state, "rolled back", "");
        run.summary.kept = if clean {
            within(run.target.as_mut(), Mode::Write, &tables, "target: closed", |t| {
                t.capture_off(&tables)?;
                t.unseal(&tables)?;
                t.drop_tables(&tables)?;
                Ok(t.close(&tables, &HistoryLine { note: "target dropped".into(), ..line })?)
            })?;
            None
        } else {
            Some(target_aside(run.target.as_mut(), &tables, &line)?)
        };
    }
    export_parked(run)?;
    run.app.forget()?;
    let mut note = match &untrusted {
        Some(p) => format!("taken back to {}, {} left out", p.upto, super::count(p.left_out as usize, "row")),
        None => format!("{} rows carried back", state.carried),
    };
    if !run.summary.parked.is_empty() {
        note.push_str(&format!(", {} parked: {}", run.summary.parked.len(), run.summary.parked.join("; ")));
    }
    let pairs = super::looking(run.source.as_mut(), &plan.source_tables(), |s| {
        keys::living(s, &plan, state.captured_from.as_ref())
    })?;
    let remains = Some(fingerprint::remains(&state, &plan, pairs)?);
    close_source(run, HistoryLine { remains, ..line(&state, "rolled back", &note) })?;
    Ok(Phase::RolledBack)
}

/// What a target has of a run that is over is moved aside, and its records are closed. Returns where.
pub(crate) fn target_aside(target: &mut dyn Store, tables: &[&Table], line: &HistoryLine) -> Result<String> {
    // where a target is made in place nobody else looks
    let here = if target.standing().1 == Site::Home { emergency::present(target, tables)? } else { tables.to_vec() };
    within(target, Mode::Write, &here, "target: closed", |t| {
        t.capture_off(&here)?;
        t.unseal(&here)?;
        let kept = t.set_aside(&here, &line.run)?;
        t.close(tables, &HistoryLine { note: kept.clone(), ..line.clone() })?;
        Ok(kept)
    })
}

/// Rows that could not go back are nowhere else once the records are closed: they go to a file (P12).
fn export_parked(run: &mut Run) -> Result<()> {
    let (id, plan) = (run.id.clone(), run.plan.clone());
    let export = Export::of(&run.folder, "parked", &id, &run.gate);
    run.summary.exported = export_of(run.source.as_mut(), &id, &plan, &export)?;
    Ok(())
}

/// So do rows that never left the source, before it goes.
fn export_staying(run: &mut Run) -> Result<()> {
    let plan = run.plan.clone();
    let mut lines = Vec::new();
    for t in &plan.tables {
        let mut keys: Vec<Key> = t.staying().into_iter().collect();
        keys.sort();
        let rows = super::looking(run.source.as_mut(), &[&t.source], |s| Ok(s.fetch(&t.source, &keys)?))?;
        for (key, row) in keys.iter().zip(rows) {
            let (table, before, why) = (&t.source, row.as_deref(), "it refers to nothing and never left the source");
            lines.extend(Left { table, key, source: table, before, after: None, at: None, why }.line());
        }
    }
    if !lines.is_empty() {
        let export = Export::of(&run.folder, "stayed", &run.id, &run.gate);
        export.add(0, &lines)?;
        run.note(format!("rows that never left the source are in {}", export.title()));
    }
    Ok(())
}

/// The same without the target.
pub(crate) fn export_alone(alone: &mut Alone) -> Result<Option<String>> {
    let (id, plan) = (alone.id.clone(), alone.plan.clone());
    let export = Export::of(&alone.folder, "parked", &id, &alone.gate);
    export_of(alone.source.as_mut(), &id, &plan, &export)
}

fn export_of(source: &mut dyn Store, id: &str, plan: &Plan, export: &Export) -> Result<Option<String>> {
    let parked = source.parked(id)?;
    if parked.is_empty() {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for p in &parked {
        let t = &plan.tables[p.table];
        let row = crate::value::row_of(&p.row);
        let here = match crate::mapping::map_key(Way::Down, t, &p.key) {
            Ok(key) => super::looking(source, &[&t.source], |s| Ok(s.fetch(&t.source, &[key])?))?.pop(),
            Err(_) => None,
        };
        let before = here.flatten();
        let after = (!row.is_empty()).then_some((&t.target, row.as_slice()));
        let (table, key, before) = (&t.target, &p.key, before.as_deref());
        lines.extend(Left { table, key, source: &t.source, before, after, at: None, why: &p.reason }.line());
    }
    export.add(0, &lines)?;
    Ok(Some(export.title()))
}

/// Before a cutover: the target goes, the source is as it was.
pub(crate) fn abort(run: &mut Run) -> Result<Phase> {
    let state = run.source_state()?;
    let plan = run.plan.clone();
    let target = run.target.state()?;
    if target.as_ref().is_some_and(|t| t.run == run.id && t.side == Side::Open) {
        return Err(Error::Internal("the target is live: this calls for a rollback".into()));
    }
    // where there is no record yet, or no more, the place for it may be
    if target.as_ref().is_none_or(|t| t.run == run.id) {
        let tables = plan.target_tables();
        if target.as_ref().is_some_and(|t| t.built) {
            thinned(run, Role::Target, &tables)?;
        }
        within(run.target.as_mut(), Mode::Write, &[], "target: thrown away", |t| {
            if target.is_some_and(|t| t.built) {
                t.drop_tables(&tables)?;
            }
            Ok(t.close(&[], &line(&state, "aborted", "target dropped"))?)
        })?;
    }
    run.app.forget()?;
    close_source(run, line(&state, "aborted", "before the cutover; nothing was handed over"))?;
    Ok(Phase::Aborted)
}

/// The one point of no return: the way back is given up.
pub(crate) fn complete(run: &mut Run, delete_source: bool) -> Result<Phase> {
    // what was asked for is remembered, so that a completion that is cut off ends as it was meant
    let state = run.change_source("source: phase completing", |s| {
        s.phase = Phase::Completing;
        s.last_error = None;
        s.delete_source |= delete_source;
    })?;
    export_parked(run)?;
    if state.delete_source {
        export_staying(run)?;
    }
    let plan = run.plan.clone();
    // how rows went there, for `extract`
    let remains = Some(fingerprint::remains(&state, &plan, plan.known())?);
    if run.target.state()?.is_some() {
        let (tables, remains) = (plan.target_tables(), remains.clone());
        within(run.target.as_mut(), Mode::Write, &tables, "target: closed", |t| {
            t.capture_off(&tables)?;
            t.close(&tables, &HistoryLine { remains, ..line(&state, "completed", "") })?;
            Ok(())
        })?;
    }
    run.app.forget()?;
    // in place there is nothing of the source but these tables (P27)
    if plan.in_place() && run.source.standing().1 != Site::Backup {
        return Err(Error::Internal("the source's tables do not rest where they should".into()));
    }
    let delete = plan.in_place() || state.delete_source && run.source.kind() != Kind::Json;
    let line = if plan.in_place() {
        HistoryLine { remains, ..line(&state, "completed", "what rested of the source was dropped") }
    } else if delete {
        line(&state, "completed", "source tables dropped")
    } else {
        run.summary.kept = Some(format!("{} stays as it was at the last drain, sealed", run.source.title()));
        line(&state, "completed", &format!("{} carried to the source while soaking", state.carried))
    };
    let tables = plan.source_tables();
    let tables: &[&Table] = if delete { &tables } else { &[] };
    thinned(run, Role::Source, tables)?;
    within(run.source.as_mut(), Mode::Write, tables, "source: closed", |s| {
        if delete {
            s.drop_tables(tables)?;
        }
        // where they are kept the seal stays, so that a forgotten writer fails loudly
        Ok(s.close(tables, &line)?)
    })?;
    Ok(Phase::Completed)
}

/// Takes the rows off tables that are dropped next, a few at a time, so that whoever writes elsewhere in that store has never to wait for long.
/// Cut off, it goes on with what is left.
fn thinned(run: &mut Run, role: Role, tables: &[&Table]) -> Result<()> {
    while !tables.is_empty() {
        run.go_on()?;
        let store = if role == Role::Source { run.source.as_mut() } else { run.target.as_mut() };
        store.begin(Mode::Write, &[])?;
        match store.thin(tables) {
            Ok(true) => store.commit("rows of what is dropped next")?,
            done => {
                store.rollback();
                return Ok(done.map(drop)?);
            }
        }
        // who waits for the lock tries it every now and then
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// The source's records go, and its triggers: it is as it was.
fn close_source(run: &mut Run, line: HistoryLine) -> Result<()> {
    let plan = run.plan.clone();
    let tables = plan.source_tables();
    within(run.source.as_mut(), Mode::Write, &tables, "source: closed", |s| Ok(s.close(&tables, &line)?))
}

pub(crate) fn line(state: &State, outcome: &str, note: &str) -> HistoryLine {
    HistoryLine {
        run: state.run.clone(),
        migration: state.migration.clone(),
        title: state.title.clone(),
        plan_hash: state.plan_hash.clone(),
        outcome: outcome.to_owned(),
        started_at: state.started_at.clone(),
        ended_at: now(),
        note: note.to_owned(),
        remains: None,
    }
}
