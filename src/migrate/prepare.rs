//! Preparing: the records in both stores, change capture on the source, empty tables in the target.

use crate::mapping::Way;
use crate::plan::Pair;
use crate::store::{Mode, Phase, Role, State, Store};

use super::{Error, Result, Run, now, within};

/// The run's first trace: its record, with the frozen plan, in the source. Before this nothing is changed.
pub(crate) fn begin(source: &mut dyn Store, run: &Record<'_>) -> Result<()> {
    within(source, Mode::Write, &[], "source: record of the run", |s| {
        s.prepare()?;
        s.put_state(&run.state(Role::Source), Some(run.plan))?;
        let pairs = kept_pairs(s, run.migration)?;
        if pairs.is_empty() { Ok(()) } else { Ok(s.put_pairs(run.id, &pairs)?) }
    })
}

/// Keys that an earlier run of this migration made up stay what they were (P23).
pub(crate) fn kept_pairs(source: &mut dyn Store, migration: &str) -> Result<Vec<Pair>> {
    let before = source.history()?.into_iter().rev().find(|l| l.migration == migration && l.remains.is_some());
    Ok(before.and_then(|l| l.remains).map(|r| r.pairs).unwrap_or_default())
}

/// What a run's record is made of.
pub(crate) struct Record<'a> {
    pub id: &'a str,
    pub migration: &'a str,
    pub title: &'a str,
    pub hash: &'a str,
    pub plan: &'a str,
    pub hold: bool,
}

impl Record<'_> {
    fn state(&self, role: Role) -> State {
        let begun = State::begun(self.id, role, self.migration, self.title, self.hash, &now());
        State { hold: self.hold, ..begun }
    }
}

/// Target's record, capture on the source, tables in the target; each its own commit, each done once.
pub(crate) fn prepare(run: &mut Run) -> Result<Phase> {
    run.enter(Phase::Preparing)?;
    if run.target.state()?.is_none() {
        let (hash, text) =
            (run.plan.hash(), serde_json::to_string(&run.plan).map_err(|e| Error::Internal(e.to_string()))?);
        let record = Record {
            id: &run.id,
            migration: &run.plan.migration,
            title: &run.plan.title,
            hash: &hash,
            plan: &text,
            hold: false,
        };
        let state = record.state(Role::Target);
        within(run.target.as_mut(), Mode::Write, &[], "target: record of the run", |t| {
            t.prepare()?;
            Ok(t.put_state(&state, Some(&text))?)
        })?;
    }
    capture(run)?;
    if !run.target_state()?.built {
        let tables = Way::Up.receivers(&run.plan);
        let id = run.id.clone();
        within(run.target.as_mut(), Mode::Write, &[], "target: tables", |t| {
            t.create(&tables)?;
            let mut state =
                t.state()?.filter(|s| s.run == id).ok_or_else(|| Error::Internal("target without a record".into()))?;
            state.built = true;
            Ok(t.put_state(&state, None)?)
        })?;
    }
    run.enter(Phase::Backfilling)
}

/// Capture is on before the first row is read (P6); where it begins is committed with it.
fn capture(run: &mut Run) -> Result<()> {
    if run.source_state()?.captured_from.is_some() {
        return Ok(());
    }
    let tables = Way::Up.givers(&run.plan);
    let id = run.id.clone();
    within(run.source.as_mut(), Mode::Write, &tables, "source: change capture on", |s| {
        let from = s.capture_on(&tables, &id)?;
        let mut state =
            s.state()?.filter(|s| s.run == id).ok_or_else(|| Error::Internal("source without a record".into()))?;
        state.captured_from = Some(from);
        Ok(s.put_state(&state, None)?)
    })
}
