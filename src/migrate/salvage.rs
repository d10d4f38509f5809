//! After an emergency: the target has come back, and what was never carried is carried into the live source (P22).
//!
//! The target is sealed before it is read. What only it changed is written to the source in one transaction, as the application's own writes
//! would be; a key that the source changed too since it was opened is a conflict: kept whole, listed, exported, never merged.

use std::collections::HashSet;

use crate::mapping::fold::Origin;
use crate::mapping::{Way, map_key, map_row};
use crate::plan::{Kind, TablePlan};
use crate::store::{self, Mode, Parked, Phase, Position, Side, Store, Write};
use crate::value::{Key, Row, encode_row};

use super::drain::{Changes, Read, Unfit, map_changes, read_back};
use super::undo::own;
use super::{Error, Result, Run, close, emergency, fingerprint, hand_over, sums, within};

/// The application runs on the source, configured for it.
fn at_home(run: &mut Run) -> Result<()> {
    run.app.undo()?.into_iter().for_each(|n| run.note(n));
    hand_over::start(run)?;
    run.enter(Phase::Outstanding)?;
    Ok(())
}

/// Carries what is left of the target, and ends the run.
pub(crate) fn salvage(run: &mut Run) -> Result<Phase> {
    let state = run.source_state()?;
    let parting = state.parting.clone().ok_or_else(|| Error::Internal("nothing is outstanding".into()))?;
    if state.last_error.is_some() {
        at_home(run)?;
    }
    if !parting.whole && !parting.untrusted {
        let (plan, id) = (run.plan.clone(), run.id.clone());
        let parked = run.source.parked(&id)?;
        let gone = gone(run)?;
        let read = if plan.in_place() {
            // sealed as it went aside, and what was noted of it ended there: the log is the source's now
            None
        } else {
            Some(emergency::seal_and_read(run.target.as_mut(), &id, &plan, state.epoch, state.checkpoint, &parked)?)
        };
        let (read, full) = match read {
            None => (read_all(run, &gone)?, true),
            Some(Err(Error::Store(store::Error::Capture { cause, schema_changed, .. })))
                if !schema_changed || !gone.is_empty() =>
            {
                run.note(format!(
                    "the target's change log cannot be relied on ({cause}): both sides are compared in full"
                ));
                (read_all(run, &gone)?, true)
            }
            Some(read) => (read?, false),
        };
        let file = run.source.kind() == Kind::Json;
        if file && !run.app.has_services() && !run.settings.writers_stopped {
            return Err(Error::Refused {
                cause: format!(
                    "{} cannot be locked, and no [[service]] says how to stop the application that writes it",
                    run.source.title()
                ),
                hint: "stop the application, then `backout salvage --writers-stopped`".into(),
            });
        }
        if file {
            // whoever goes on if we are killed starts it again
            run.change_source("source: the application rests", |s| {
                s.last_error = Some("the application was not started yet".to_owned());
            })?;
            run.app.stop()?;
        }
        let carried = carry(run, &read, full, gone.is_empty());
        if file {
            at_home(run)?;
        }
        carried?;
        if !gone.is_empty() {
            return Err(Error::Refused {
                cause: format!(
                    "{} {} not in the target any more: what was written there after {} cannot be carried; everything else was",
                    gone.join(", "),
                    if gone.len() == 1 { "is" } else { "are" },
                    parting.upto
                ),
                hint: "put it back as it was, then `backout salvage` again; `backout salvage --forget` gives it up"
                    .into(),
            });
        }
    }
    close::rolled_back(run)
}

/// The target's tables that someone dropped.
fn gone(run: &mut Run) -> Result<Vec<String>> {
    let plan = run.plan.clone();
    let tables = plan.target_tables();
    let there = emergency::present(run.target.as_mut(), &tables)?;
    let gone = tables.iter().filter(|t| !there.iter().any(|x| x.name == t.name));
    Ok(gone.map(|t| t.name.clone()).collect())
}

/// Every row that differs, as if the log had named it. Without the tables that are gone; then there is no log to go on with, either.
fn read_all(run: &mut Run, gone: &[String]) -> Result<Read> {
    let (plan, id) = (run.plan.clone(), run.id.clone());
    let mut tables = plan.target_tables();
    tables.retain(|t| !gone.contains(&t.name));
    let at = run.target.now()?;
    let position = if gone.is_empty() && !plan.in_place() {
        within(run.target.as_mut(), Mode::Write, &tables, "target: change capture anew", |t| {
            let from = t.capture_on(&tables, &id)?;
            let mut state = own(t, &id)?;
            state.captured_from = Some(from.clone());
            t.put_state(&state, None)?;
            Ok(from)
        })?
    } else {
        Position(serde_json::Value::Null)
    };
    let mut changes = Vec::new();
    for (i, t) in plan.tables.iter().enumerate().filter(|(_, t)| !gone.contains(&t.target.name)) {
        let keys = sums::suspects(run, i, t)?;
        let rows = super::looking(run.target.as_mut(), &tables, |s| Ok(s.fetch(&t.target, &keys)?))?;
        let rows = keys.into_iter().zip(rows).map(|(k, row)| (k, Origin::Kept, row)).collect();
        changes.push(Changes { table: i, truncated: false, doubted: HashSet::new(), rows, strangers: Vec::new() });
    }
    let entries = changes.iter().map(|c| c.rows.len()).sum();
    Ok(Read { changes, entries, position, at, marks: Vec::new() })
}

fn carry(run: &mut Run, read: &Read, full: bool, whole: bool) -> Result<()> {
    let mut unfit = Unfit::new();
    loop {
        match carry_without(run, read, full, whole, &unfit) {
            Err(Error::Store(store::Error::Unfit { store, rows })) => {
                let before = unfit.len();
                unfit.extend(rows.iter().map(|(t, k, why)| ((*t, k.clone()), why.clone())));
                if unfit.len() == before {
                    return Err(store::Error::Unfit { store, rows }.into());
                }
            }
            other => return other,
        }
    }
}

fn carry_without(run: &mut Run, read: &Read, full: bool, whole: bool, unfit: &Unfit) -> Result<()> {
    let (plan, id) = (run.plan.clone(), run.id.clone());
    let epoch = run.source_state()?.epoch;
    let tables = plan.source_tables();
    within(run.source.as_mut(), Mode::Lease, &tables, "source: salvaged", |s| {
        let mut state = own(s, &id)?;
        if state.epoch != epoch || state.side != Side::Open || state.phase != Phase::Outstanding {
            return Err(Error::Internal("another command has gone on with this meanwhile".into()));
        }
        let opened = state.parting.as_ref().and_then(|p| p.opened_at.clone()).unwrap_or_default();
        let mine = changed_here(s, &tables, &state)?;
        let known = s.parked(&id)?;
        let (mut writes, mut images) = (Vec::<(usize, Vec<Write>)>::new(), Vec::new());
        let (mut park, mut unpark) = (Vec::new(), Vec::new());
        for c in &read.changes {
            let (i, t) = (c.table, &plan.tables[c.table]);
            let refused = conflicts(s, t, c, &mine, full, &opened, unfit)?;
            let done = map_changes(s, Way::Down, t, c, &refused)?;
            for (key, row, misfit) in done.misfits {
                park.push(Parked { table: i, key, row: encode_row(&row), reason: misfit.to_string() });
            }
            for (key, row, reason) in done.refused {
                if agrees(s, t, &key, &row)? || row.is_empty() && born_here(t, &mine, i, &key) {
                    unpark.push((i, key));
                } else {
                    park.push(Parked { table: i, key, row: encode_row(&row), reason });
                }
            }
            unpark.extend(done.through.into_iter().map(|k| (i, k)));
            fingerprint::shift(&mut state.digests, Way::Down, (i, t), &done.before, &done.writes);
            images.extend(done.before.into_iter().map(|(k, row)| (i, k, row)));
            if !done.writes.is_empty() {
                writes.push((i, done.writes));
            }
        }
        unpark.retain(|(i, k)| known.iter().any(|p| p.table == *i && p.key == *k));
        let rows = writes.iter().map(|(_, w)| w.len() as u64).sum::<u64>();
        if rows > 0 {
            s.write(&tables, &writes)?;
            read_back(s, &plan.tables, Way::Down, &writes)?;
        }
        state.drains += 1;
        s.keep_images(&id, state.drains, &read.at, &images)?;
        s.put_parked(&id, &park, &unpark)?;
        state.checkpoint = Some(read.position.clone());
        state.carried += rows;
        if let Some(p) = &mut state.parting {
            p.sealed = true;
            if whole {
                (p.whole, p.upto) = (true, read.at.clone());
                state.drained_at = Some(read.at.clone());
            }
        }
        Ok(s.put_state(&state, None)?)
    })
}

/// What others changed in the source since it was opened; `None`: it cannot be told, so anything.
type Mine = Option<Here>;

#[derive(Default)]
struct Here {
    keys: HashSet<(usize, Key)>,
    /// Of these the keys that were not there before.
    born: HashSet<(usize, Key)>,
    /// Tables that were emptied.
    all: HashSet<usize>,
}

fn changed_here(s: &mut dyn Store, tables: &[&crate::plan::Table], state: &store::State) -> Result<Mine> {
    let Some(from) = &state.captured_from else { return Ok(None) };
    let log = s.look(tables).and_then(|()| s.log_since(tables, from));
    let log = match log {
        Ok((log, _)) => log,
        Err(store::Error::Capture { schema_changed: false, .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut here = Here::default();
    for e in log {
        if e.op == store::Op::Truncate {
            here.all.insert(e.table);
        }
        if let (store::Op::Insert, Some(key)) = (e.op, &e.after)
            && !here.keys.contains(&(e.table, key.clone()))
        {
            here.born.insert((e.table, key.clone()));
        }
        here.keys.extend(e.before.into_iter().chain(e.after).map(|k| (e.table, k)));
    }
    Ok(Some(here))
}

/// The source's keys that this must not touch, and why.
fn conflicts(
    s: &mut dyn Store,
    t: &TablePlan,
    c: &Changes,
    mine: &Mine,
    full: bool,
    opened: &str,
    unfit: &Unfit,
) -> Result<Unfit> {
    let i = c.table;
    let mut out: Unfit = unfit.iter().filter(|((n, _), _)| *n == i).map(|(k, why)| (k.clone(), why.clone())).collect();
    let touched = |key: &Key| match mine {
        None => true,
        Some(here) => here.all.contains(&i) || here.keys.contains(&(i, key.clone())),
    };
    let name = t.source.title();
    let why = |key: &Key| match full {
        true => format!(
            "{name} {key} was changed in the source since {opened}, and is not so in the target: the source's stays"
        ),
        false => format!("{name} {key} was changed on both sides since {opened}: the source's stays"),
    };
    for (key, origin, row) in &c.rows {
        let Ok(rkey) = map_key(Way::Down, t, key) else { continue };
        let was = match origin {
            Origin::MovedFrom(was) => map_key(Way::Down, t, was).ok(),
            _ => None,
        };
        if touched(&rkey) || was.is_some_and(|was| touched(&was)) {
            out.insert((i, rkey.clone()), why(&rkey));
        } else if full && row.is_none() {
            out.insert((i, rkey.clone()), format!("{name} {rkey} is only in the source: it stays"));
        }
    }
    if c.truncated {
        for key in s.keys(&t.source)?.into_iter().filter(touched) {
            out.insert((i, key.clone()), why(&key));
        }
    }
    Ok(out)
}

/// The target never had it.
fn born_here(t: &TablePlan, mine: &Mine, i: usize, key: &Key) -> bool {
    let Ok(rkey) = map_key(Way::Down, t, key) else { return false };
    mine.as_ref().is_some_and(|here| here.born.contains(&(i, rkey)))
}

/// Both sides say the same of this key of the target already.
fn agrees(s: &mut dyn Store, t: &TablePlan, key: &Key, row: &Row) -> Result<bool> {
    let Ok(rkey) = map_key(Way::Down, t, key) else { return Ok(false) };
    let here = s.fetch(&t.source, &[rkey])?.pop().flatten();
    if row.is_empty() {
        return Ok(here.is_none());
    }
    Ok(here.is_some_and(|here| map_row(Way::Down, t, row, Some(&here)).is_ok_and(|mapped| mapped == here)))
}
