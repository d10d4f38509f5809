//! Where things stand: asked of the stores, changing nothing.

use crate::journal::{Event as Note, Journal};
use crate::mapping::Way;
use crate::plan::{Migration, Plan};
use crate::revision::database::{Record, Standing};
use crate::revision::{Revision, edited, order};
use crate::store::{self, HistoryLine, Phase, Side, State, Store};

use super::answers::{Applied, MigrationState, Status};
use super::project::{Done, Project};
use super::{Error, Failure, Result, in_place};

impl Project {
    /// The open run as its stores know it; `None` when there is none.
    ///
    /// # Errors
    /// What a store says.
    pub fn status(&self) -> Done<Option<Status>> {
        match self.open_state().map_err(Failure::untouched)? {
            None => Ok(None),
            Some((m, state)) => self.status_of(m, state).map(Some).map_err(Failure::untouched),
        }
    }

    /// Where the open run stands, by its source alone; `None` when there is none.
    ///
    /// # Errors
    /// What a store says.
    pub fn phase(&self) -> Done<Option<Phase>> {
        Ok(self.open_state().map_err(Failure::untouched)?.map(|(_, s)| s.phase))
    }

    pub(crate) fn status_of(&self, m: &Migration, state: State) -> Result<Status> {
        let mut problems = Vec::new();
        let mut source = self.store(&m.transfer.from, false)?;
        let plan = source.plan(&state.run)?;
        let mut target = self.store(&m.transfer.to, false);
        if let (true, Ok(target)) = (m.in_place(), &mut target) {
            in_place::stand(source.as_mut(), target.as_mut(), &state.run)?;
        }
        let target_state = match &mut target {
            Ok(t) => t.state()?.filter(|t| t.run == state.run),
            // a file that is still to be made
            Err(Error::Store(store::Error::Input { .. })) if state.phase == Phase::Preparing => None,
            Err(e) => {
                problems.push(format!("the target could not be asked: {e}"));
                None
            }
        };
        let target_live = target_state.as_ref().is_some_and(|t| t.side == Side::Open);
        let live = match (&state.side, target_live) {
            (Side::Open, _) => "source",
            (_, true) => "target",
            // its record may be closed already
            _ if state.phase == Phase::Completing => "target",
            _ => "nobody",
        };
        let (mut lag, mut log) = (None, None);
        if let (Some(text), Ok(t)) = (&plan, &mut target) {
            let plan: Plan = serde_json::from_str(text)
                .map_err(|e| Error::Internal(format!("the frozen plan cannot be read: {e}")))?;
            let begun = |s: &State| s.captured_from.clone();
            let asked = match (live, &target_state) {
                ("source", Some(ts)) => ts.checkpoint.clone().or(begun(&state)).map(|p| (Way::Up, p)),
                ("target", Some(ts)) => state.checkpoint.clone().or(begun(ts)).map(|p| (Way::Down, p)),
                _ => None,
            };
            if let Some((way, from)) = asked {
                let giver: &mut dyn Store = if way == Way::Up { source.as_mut() } else { t.as_mut() };
                match giver.lag(&way.givers(&plan), &from) {
                    Ok(n) => lag = Some(n),
                    Err(e) => problems.push(e.to_string()),
                }
                if giver.log_is_full().unwrap_or(false) {
                    problems.push(format!(
                        "the change log of {} reached its limit, as nothing drained it: the next drain or rollback compares both sides in \
                         full, which takes as long as the tables are large",
                        giver.title()
                    ));
                }
                match giver.log_size(&way.givers(&plan)) {
                    Ok(size) => log = Some(size),
                    Err(e) => problems.push(e.to_string()),
                }
            }
        }
        let followed_at = match live {
            "source" => target_state.as_ref().and_then(|t| t.drained_at.clone()),
            _ => state.drained_at.clone(),
        };
        let last = followed_at.clone().or(state.cutover_at.clone());
        let unfollowed = state.phase == Phase::Soaking && lag.is_some_and(|n| n > 0) && last.is_some_and(|t| old(&t));
        Ok(Status {
            run: state.run.clone(),
            migration: state.migration.clone(),
            title: state.title.clone(),
            phase: state.phase,
            last_error: state.last_error.clone(),
            verified_at: state.verified_at.clone(),
            cutover_at: state.cutover_at.clone(),
            window_ends: state.window_ends.clone(),
            carried: state.carried,
            followed_at,
            unfollowed,
            log,
            source_title: source.title(),
            target_title: target.as_ref().map_or_else(|_| m.transfer.to.clone(), |t| t.title()),
            live: live.into(),
            lag,
            parked: source.parked(&state.run)?.into_iter().map(|p| p.reason).collect(),
            window_over: window_over(&state),
            problems,
            state: super::state_words(state.phase).into(),
            next: super::ways_out(state.phase),
            target: target_state,
            source: state,
        })
    }

    /// Every migration and revision and where it stands, oldest first.
    ///
    /// # Errors
    /// What a store says.
    pub fn list(&self) -> Done<Vec<MigrationState>> {
        let mut all = if self.migrations.list.is_empty() { Vec::new() } else { self.moves()? };
        let ledgers = self.ledgers(false).map_err(Failure::untouched)?;
        for revision in &self.revisions {
            let home = self.home(revision).map_err(Failure::untouched)?;
            let record = ledgers.iter().find(|l| l.store == home).and_then(|l| l.record(&revision.stamp));
            all.push(revision_state(&revision.stamp, &revision.slug, &revision.title, record, Some(revision)));
        }
        for record in ledgers.iter().flat_map(|l| &l.records) {
            if !self.revisions.iter().any(|r| order(&r.stamp) == order(&record.stamp)) {
                all.push(revision_state(&record.stamp, &record.slug, &record.title, Some(record), None));
            }
        }
        all.sort_by(|a, b| order(&a.migration).cmp(&order(&b.migration)));
        Ok(all)
    }

    /// Every migration that moves data and where it stands, oldest first.
    pub(crate) fn moves(&self) -> Done<Vec<MigrationState>> {
        let history = self.history()?;
        let open = self.open_state().map_err(Failure::untouched)?;
        Ok(self
            .migrations
            .list
            .iter()
            .map(|m| {
                let last = history.lines.iter().rev().find(|(_, l)| l.migration == m.stamp && l.outcome != "aborted");
                let (state, applied, note) = match (&open, last) {
                    (Some((o, s)), _) if o.stamp == m.stamp => (
                        s.phase.words().to_owned(),
                        matches!(s.phase, Phase::Soaking | Phase::Completing | Phase::RollingBack),
                        s.last_error.clone().unwrap_or_default(),
                    ),
                    (_, Some((_, l))) if l.outcome == "completed" => {
                        ("completed".into(), true, format!("{} {}", l.ended_at, l.note))
                    }
                    (_, Some((_, l))) => ("pending".into(), false, format!("{} {}: {}", l.outcome, l.ended_at, l.note)),
                    _ => ("pending".into(), false, String::new()),
                };
                MigrationState {
                    migration: m.stamp.clone(),
                    slug: m.slug.clone(),
                    title: m.title.clone(),
                    state,
                    applied,
                    note,
                    edited: None,
                }
            })
            .collect())
    }

    /// What ended in any store of the project, oldest first. A store that cannot be opened is passed over.
    ///
    /// # Errors
    /// What a store says.
    pub fn history(&self) -> Done<Applied> {
        let mut lines: Vec<(String, HistoryLine)> = Vec::new();
        for (name, _) in &self.config.stores {
            let Ok(mut s) = self.store(name, false) else { continue };
            let mine = s.history().map_err(|e| Failure::untouched(e.into()))?;
            // what remains of a run is for us, not for people
            lines.extend(mine.into_iter().map(|l| (name.clone(), HistoryLine { remains: None, ..l })));
        }
        lines.sort_by(|a, b| a.1.ended_at.cmp(&b.1.ended_at));
        Ok(Applied { lines })
    }

    /// What happened in this project, from its journal; oldest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn log(&self) -> Done<Vec<Note>> {
        Journal::open(&self.config.folder, &self.gate)
            .events(&crate::journal::Filter::default())
            .map_err(|e| Failure::untouched(Error::Internal(e.to_string())))
    }
}

/// Where a revision stands, by its record and its file.
fn revision_state(
    stamp: &str,
    slug: &str,
    title: &str,
    record: Option<&Record>,
    file: Option<&Revision>,
) -> MigrationState {
    let state = match record.map(|r| r.standing) {
        None => "pending",
        Some(Standing::Applied) if file.is_none() => "applied, its file is missing",
        Some(Standing::Applied) if record.is_some_and(|r| r.stamped) => "stamped",
        Some(Standing::Applied) => "applied",
        Some(Standing::GoingUp) => "half-way up",
        Some(Standing::GoingDown) => "half-way down",
        Some(Standing::Failed) => "failed",
    };
    let mut notes: Vec<String> = Vec::new();
    if let Some(record) = record {
        notes.push(record.at.clone());
        notes.extend(record.error.clone());
        notes.extend(record.proof.clone());
        notes.extend(record.accepted_loss.as_ref().map(|why| format!("loss accepted: {why}")));
    }
    MigrationState {
        migration: stamp.to_owned(),
        slug: slug.to_owned(),
        title: title.to_owned(),
        state: state.to_owned(),
        applied: record.is_some_and(|r| r.standing != Standing::Failed),
        note: notes.join("; "),
        edited: record.zip(file).and_then(|(record, file)| edited(record, file)),
    }
}

/// More than a minute ago.
fn old(at: &str) -> bool {
    at.parse::<jiff::Timestamp>().is_ok_and(|at| jiff::Timestamp::now().as_second() - at.as_second() > 60)
}

/// The rollback window has passed.
pub(crate) fn window_over(s: &State) -> bool {
    s.window_ends
        .as_deref()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok())
        .is_some_and(|end| jiff::Timestamp::now() > end)
}
