//! Changes in place: both sides are tables of one store, and each hand-over is one transaction (P3).
//!
//! The engine has two sessions on that store, each standing at one side. What lies where is told by the source's record, which outlives
//! all others of a run: it says `Open` just as long as the source is home, and changes in the same commit as the tables.

use std::time::Instant;

use crate::mapping::{self, Way};
use crate::plan::Plan;
use crate::store::{self, Mode, Position, Role, Side, Site, State, Store};

use super::drain::{self, Moment, Then};
use super::emergency::{self, Alone};
use super::hand_over::{ghost, handed_over, raise_epoch};
use super::{Error, Result, Run, checks, keys, undo};

/// Has both sessions stand where their sides lie.
pub(crate) fn stand(source: &mut dyn Store, target: &mut dyn Store, run: &str) -> Result<()> {
    let site = stand_source(source, run)?;
    target.stand(Role::Target, site);
    Ok(())
}

/// The source alone; returns where the target is.
pub(crate) fn stand_source(source: &mut dyn Store, run: &str) -> Result<Site> {
    source.stand(Role::Source, Site::Home);
    let rests = source.state()?.is_some_and(|s| s.run == run && s.side != Side::Open);
    if rests {
        source.stand(Role::Source, Site::Backup);
    }
    Ok(if rests { Site::Home } else { Site::Staged(run.to_owned()) })
}

/// Refuses if the tables in which the source rests are not all there: nothing could come home.
pub(crate) fn rests(source: &mut dyn Store, plan: &Plan) -> Result<()> {
    let sources = plan.source_tables();
    let there = emergency::present(source, &sources)?;
    let mut gone: Vec<&str> = sources.iter().map(|t| t.name.as_str()).collect();
    gone.retain(|name| !there.iter().any(|t| t.name == *name));
    gone.dedup();
    if gone.is_empty() { Ok(()) } else { Err(Error::SourceGone(gone.join(", "))) }
}

/// Gives the targets all that the application has put upon its tables.
pub(crate) fn dress(run: &mut Run) -> Result<()> {
    let plan = run.plan.clone();
    let (sources, targets) = (plan.source_tables(), plan.target_tables());
    super::within(run.target.as_mut(), Mode::Write, &[], "target: all that goes with the tables", |t| {
        Ok(t.dress(&sources, &targets)?)
    })
}

/// How many changes may be left to carry while nobody can write.
const AT_ONCE: u64 = 200;

/// The hand-over: lock, carry what is left, swap, seal what rests, note changes of what is home; one commit.
pub(crate) fn hand_over(run: &mut Run, way: Way) -> Result<()> {
    if way == Way::Up {
        // an index, a check or the like that came after the plan would rest with the source, and nobody would know
        let plan = run.plan.clone();
        let apart = checks::definitions(run.source.as_mut(), &plan)?;
        if !apart.is_empty() {
            return Err(Error::Refused {
                cause: format!("the tables are not as they were planned any more: {}", apart.join("; ")),
                hint: "`backout abort`, then `backout up` plans and builds anew".into(),
            });
        }
    }
    let epoch = raise_epoch(run)?;
    run.app.stop()?;
    match way {
        Way::Up => run.app.apply()?,
        Way::Down => run.app.undo()?.into_iter().for_each(|n| run.note(n)),
    }
    let mut tries = 12;
    let mut unfit = drain::Unfit::new();
    loop {
        tries -= 1;
        let (begun, swapped) = attempt(run, way, epoch, &unfit, tries <= 0);
        let (id, source, target) = (run.id.clone(), run.source.as_mut(), run.target.as_mut());
        stand(source, target, &id)?;
        if !matches!(swapped, Ok(Some(_))) {
            // a key that was made up in vain is made up anew
            run.plan.know_again(&run.source.pairs(&id)?);
        }
        match swapped {
            Ok(Some(rows)) => {
                handed_over(run, way, begun, rows);
                return Ok(());
            }
            // too much was written just before the lock was had
            Ok(None) => {}
            // the next attempt parks them
            Err(Error::Store(store::Error::Unfit { store, rows })) if way == Way::Down => {
                let before = unfit.len();
                unfit.extend(rows.iter().map(|(t, k, why)| ((*t, k.clone()), why.clone())));
                if unfit.len() > before {
                    // it came closer
                    tries += 1;
                } else if tries <= 0 {
                    return Err(store::Error::Unfit { store, rows }.into());
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// Returns since when others wait, and how many rows were carried; `None` if too many are left, and nothing was done. The last one carries
/// whatever there is.
fn attempt(run: &mut Run, way: Way, epoch: u64, unfit: &drain::Unfit, last: bool) -> (Instant, Result<Option<u64>>) {
    let plan = run.plan.clone();
    // what was put on the tables since they were prepared goes along
    let dressed = if way == Way::Up { dress(run) } else { Ok(()) };
    mapping::warm(&plan);
    let ready = dressed.and_then(|()| super::heard(&plan));
    let ready = ready.and_then(|()| look_before(run, way)).and_then(|()| drain::close_up(run, way));
    if let Err(e) = ready.and_then(|()| run.go_on()) {
        return (Instant::now(), Err(e));
    }
    let swapped = run.sides(way).0.begin(Mode::Swap, &way.givers(&plan)).map_err(Error::from);
    // from here on others wait
    let begun = Instant::now();
    let swapped = swapped.and_then(|()| swap(run, way, epoch, unfit, last));
    // after a commit there is nothing open
    run.sides(way).0.rollback();
    (begun, swapped)
}

/// What was home goes to where the source rests, or to where the target was made.
fn aside(way: Way, id: &str) -> Site {
    if way == Way::Up { Site::Backup } else { Site::Staged(id.to_owned()) }
}

fn look_before(run: &mut Run, way: Way) -> Result<()> {
    let (plan, aside) = (run.plan.clone(), aside(way, &run.id));
    let (givers, receivers) = (way.givers(&plan), way.receivers(&plan));
    let (giver, receiver) = run.sides(way);
    let from = receiver.standing().1;
    Ok(giver.before_swap(&givers, &aside, &receivers, &from)?)
}

/// Everything under the lock, through the giver's session.
fn swap(run: &mut Run, way: Way, epoch: u64, unfit: &drain::Unfit, last: bool) -> Result<Option<u64>> {
    let (id, plan) = (run.id.clone(), run.plan.clone());
    let (givers, receivers) = (way.givers(&plan), way.receivers(&plan));
    let (from, parked, _) = drain::from_where(run, way)?;
    let (giver, receiver) = run.sides(way);
    if !last && giver.lag(&givers, &from)? > AT_ONCE {
        return Ok(None);
    }
    let at = giver.now()?;
    let read = drain::read_changes(giver, way, &plan, &from, &parked, at)?;
    let marks = keys::marks(way, &plan, giver.high_water(&givers)?);
    let (gives, takes) = (giver.standing(), receiver.standing());
    let moment =
        Moment { position: &read.position, at: &read.at, marks: &read.marks, epoch, then: Then::Drained(&from) };

    giver.stand(takes.0, takes.1.clone());
    let rows = drain::apply_in(&id, &plan, giver, way, &read.changes, unfit, &moment)?;
    let mut taken = giver.state()?.filter(|s| s.run == id).ok_or_else(ghost)?;
    giver.unseal(&receivers)?;
    giver.stand(gives.0, gives.1.clone());
    giver.capture_off(&givers)?;
    let mut given = giver.state()?.filter(|s| s.run == id && s.epoch == epoch).ok_or_else(ghost)?;

    let aside = aside(way, &id);
    giver.swap(&givers, &aside, &receivers, &takes.1)?;

    giver.stand(gives.0, aside);
    giver.seal(&givers, &id)?;
    given.side = Side::Sealed { epoch, position: read.position.clone() };
    // from now on it receives: it begins at the start of the other side's log
    (given.checkpoint, given.previous) = (None, None);
    if way == Way::Up {
        given.digests = std::mem::take(&mut taken.digests);
    }
    giver.put_state(&given, None)?;

    giver.stand(takes.0, Site::Home);
    taken.captured_from = Some(giver.capture_on(&receivers, &id)?);
    giver.raise_high_water(&receivers, &marks)?;
    (taken.side, taken.previous) = (Side::Open, None);
    if way == Way::Up {
        (taken.cutover_at, taken.window_ends) = (Some(super::now()), run.settings.window_ends());
    }
    let (giver, _) = run.sides(way);
    giver.put_state(&taken, None)?;
    run.in_time()?;
    run.sides(way).0.commit(if way == Way::Up { "the cutover" } else { "the way back" })?;
    Ok(Some(rows))
}

/// The source comes home without anything more being carried, and the target goes to where it was made: the commit point of a
/// rollback that does not rely on the target. `opened` says in the source's record that it is so.
pub(crate) fn part(
    alone: &mut Alone,
    opened: impl FnOnce(&mut State, &[Option<i64>]) -> Vec<Option<i64>>,
) -> Result<()> {
    let (id, plan, epoch) = (alone.id.clone(), alone.plan.clone(), alone.epoch);
    let sources = plan.source_tables();
    let db = alone.source.as_mut();
    db.stand(Role::Target, Site::Home);
    let swapped = emergency::present(db, &plan.target_tables()).and_then(|targets| {
        super::within(db, Mode::Swap, &targets, "the way back", |db| {
            let target = db.state()?.filter(|s| s.run == id);
            db.capture_off(&targets)?;
            // it moves, and is sealed anew where it comes to rest
            db.unseal(&targets)?;
            db.stand(Role::Source, Site::Backup);
            let mut state = undo::ours(db, &id, epoch)?;
            db.unseal(&sources)?;
            // which takes the place of which is told by the order of all
            db.swap(&plan.target_tables(), &Site::Staged(id.clone()), &sources, &Site::Backup)?;
            db.stand(Role::Target, Site::Staged(id.clone()));
            db.seal(&targets, &id)?;
            if let Some(target) = target {
                let position = target.captured_from.clone().unwrap_or(Position(serde_json::Value::Null));
                db.put_state(&State { side: Side::Sealed { epoch, position }, ..target }, None)?;
            }
            db.stand(Role::Source, Site::Home);
            state.captured_from = Some(db.capture_on(&sources, &id)?);
            let marks = db.high_water(&sources)?;
            let marks = opened(&mut state, &marks);
            state.parting.iter_mut().for_each(|p| p.sealed = true);
            db.raise_high_water(&sources, &marks)?;
            (state.side, state.previous) = (Side::Open, None);
            Ok(db.put_state(&state, None)?)
        })
    });
    stand_source(alone.source.as_mut(), &id)?;
    swapped
}
