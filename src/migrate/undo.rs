//! Undoing what was carried: drains are taken out of the source again, newest first, by the images that they kept (P25).
//!
//! Each drain is one transaction of the source, which says how far we are. What is taken out is exported before it is gone.

use crate::mapping::{Way, map_key, map_row};
use crate::store::{self, Mode, State, Store, Write};
use crate::value::{Key, Row};

use super::drain::Changes;
use super::emergency::Alone;
use super::export::Left;
use super::{Error, Result, fingerprint, within};

/// The newest drain that was complete at `until`, and the moment it stands for; without `until` that of the cutover.
pub(crate) fn moment(source: &mut dyn Store, state: &State, until: Option<jiff::Timestamp>) -> Result<(u64, String)> {
    let cutover = state.cutover_at.clone().unwrap_or_else(|| state.started_at.clone());
    let Some(until) = until else { return Ok((0, cutover)) };
    let time = |t: &str| t.parse::<jiff::Timestamp>().ok();
    if time(&cutover).is_some_and(|c| until < c) {
        return Err(Error::Refused {
            cause: format!("{until} is before the cutover, which was at {cutover}"),
            hint: "`backout rollback --discard` goes back to the cutover".into(),
        });
    }
    let drains = source.image_drains(&state.run)?;
    if let Some(n) = drains.iter().position(|(_, at)| time(at).is_none_or(|at| at > until)) {
        let kept = drains[..n].last();
        // a drain's number is the newest that stays: those that kept no image changed nothing
        return Ok((drains[n].0 - 1, kept.map_or(cutover, |(_, at)| at.clone())));
    }
    Ok((state.drains, state.drained_at.clone().unwrap_or(cutover)))
}

/// Takes the drains out that are not to stay.
pub(crate) fn take_out(alone: &mut Alone) -> Result<()> {
    let id = alone.id.clone();
    let parting = alone.parting()?;
    let mut drains = alone.source.image_drains(&id)?;
    drains.retain(|(n, _)| *n > parting.keep && (parting.undone == 0 || *n < parting.undone));
    for (drain, at) in drains.into_iter().rev() {
        one(alone, drain, &at)?;
    }
    Ok(())
}

fn one(alone: &mut Alone, drain: u64, at: &str) -> Result<()> {
    let (plan, id) = (alone.plan.clone(), alone.id.clone());
    let (tables, epoch) = (plan.source_tables(), alone.epoch);
    let export = alone.left_out();
    let images = alone.source.images(&id, drain)?;
    within(alone.source.as_mut(), Mode::Write, &tables, &format!("source: drain {drain} undone"), |s| {
        let (mut lines, mut writes, mut left) = (Vec::new(), Vec::new(), 0);
        let mut state = ours(s, &id, epoch)?;
        for (i, table) in tables.iter().enumerate() {
            let mine: Vec<&(usize, Key, Option<Row>)> = images.iter().filter(|(t, ..)| *t == i).collect();
            let keys: Vec<Key> = mine.iter().map(|(_, k, _)| k.clone()).collect();
            let (mut puts, mut there) = (Vec::new(), Vec::new());
            for ((_, key, was), now) in mine.into_iter().zip(s.fetch(table, &keys)?) {
                if *was == now {
                    continue;
                }
                let (before, after) = (was.as_deref(), now.as_deref().map(|row| (*table, row)));
                let why = "carried, and taken out again";
                lines.extend(Left { table, key, source: table, before, after, at: Some(at), why }.line());
                left += 1;
                puts.push(match was {
                    Some(row) => Write::Put { row: row.clone(), from: now.is_some().then(|| key.clone()) },
                    None => Write::Delete { key: key.clone() },
                });
                there.push((key.clone(), now));
            }
            fingerprint::shift(&mut state.digests, Way::Down, (i, &plan.tables[i]), &there, &puts);
            if !puts.is_empty() {
                writes.push((i, puts));
            }
        }
        let Some(parting) = &mut state.parting else { return Err(Error::Internal("nothing is being undone".into())) };
        if !lines.is_empty() {
            parting.exported = export.add(parting.exported, &lines)?;
        }
        parting.left_out += left;
        parting.undone = drain;
        if !writes.is_empty() {
            s.write(&tables, &writes)?;
        }
        Ok(s.put_state(&state, None)?)
    })
}

/// Exports changes of the target that were never carried, and never will be.
pub(crate) fn leave_out(alone: &mut Alone, changes: &[Changes], at: &str) -> Result<()> {
    let (plan, id) = (alone.plan.clone(), alone.id.clone());
    let (tables, epoch) = (plan.source_tables(), alone.epoch);
    let export = alone.left_out();
    within(alone.source.as_mut(), Mode::Write, &tables, "source: the rest is exported", |s| {
        let (mut lines, mut left) = (Vec::new(), 0);
        for c in changes {
            let t = &plan.tables[c.table];
            for (key, _, row) in &c.rows {
                let skey = map_key(Way::Down, t, key).ok();
                let before = match &skey {
                    Some(k) => s.fetch(&t.source, std::slice::from_ref(k))?.pop().flatten(),
                    None => None,
                };
                if before.is_none() && row.is_none() {
                    continue;
                }
                let mapped = row.as_ref().map(|row| map_row(Way::Down, t, row, before.as_ref()));
                let after = match (&mapped, row) {
                    (Some(Ok(mapped)), _) => Some((&t.source, mapped.as_slice())),
                    (_, Some(row)) => Some((&t.target, row.as_slice())),
                    _ => None,
                };
                let (table, key) = skey.as_ref().map_or((&t.target, key), |k| (&t.source, k));
                let why = "never carried";
                let (source, before) = (&t.source, before.as_deref());
                lines.extend(Left { table, key, source, before, after, at: Some(at), why }.line());
                left += 1;
            }
            if c.truncated {
                let here: Vec<Key> = s.keys(&t.source)?;
                let there: std::collections::HashSet<Key> =
                    c.rows.iter().filter_map(|(k, ..)| map_key(Way::Down, t, k).ok()).collect();
                for key in here.iter().filter(|k| !there.contains(*k)) {
                    let before = s.fetch(&t.source, std::slice::from_ref(key))?.pop().flatten();
                    let (table, source, before, why) = (&t.source, &t.source, before.as_deref(), "never carried");
                    lines.extend(Left { table, key, source, before, after: None, at: Some(at), why }.line());
                    left += 1;
                }
            }
        }
        let mut state = ours(s, &id, epoch)?;
        let Some(parting) = &mut state.parting else { return Err(Error::Internal("nothing is being undone".into())) };
        if !lines.is_empty() {
            parting.exported = export.add(parting.exported, &lines)?;
        }
        parting.left_out += left;
        parting.whole = true;
        Ok(s.put_state(&state, None)?)
    })
}

/// This run's record in the store of the open transaction.
pub(crate) fn own(store: &mut dyn Store, id: &str) -> Result<State> {
    let state = store.state()?.filter(|s| s.run == id);
    state.ok_or_else(|| store_lost(store, id))
}

/// The same, unless another attempt raised the epoch since: then we are a ghost, and write nothing (P4).
pub(crate) fn ours(store: &mut dyn Store, id: &str, epoch: u64) -> Result<State> {
    let state = own(store, id)?;
    if state.epoch != epoch {
        return Err(Error::Internal("another attempt to go back has begun meanwhile".into()));
    }
    Ok(state)
}

fn store_lost(store: &mut dyn Store, id: &str) -> Error {
    store::Error::Refused {
        store: store.title(),
        cause: format!("it has no record of run {id}"),
        hint: "is this the store that the run began with?".into(),
    }
    .into()
}
