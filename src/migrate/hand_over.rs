//! Hand-over between stores: the same for cutover and rollback (P2). One commit point: opening the receiver.
//!
//! Before it, the way back is: receiver `Withdrawn`, read back, then the giver unsealed. After it, forward only. At most one side is open at any time.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::mapping::Way;
use crate::plan::Kind;
use crate::store::{Mode, Phase, Side, State};

use super::{Error, Result, Run, drain, in_place, now, within};

/// Ready → Soaking.
pub(crate) fn cut_over(run: &mut Run) -> Result<Phase> {
    if run.source.kind() == Kind::Json && !run.app.has_services() && !run.settings.writers_stopped {
        return Err(Error::Refused {
            cause: format!("{} cannot be locked, and no [[service]] says how to stop the application that writes it", run.source.title()),
            hint: "add a [[service]] with stop and start commands to backout.toml, or stop the application yourself and run `backout cutover --writers-stopped`".into(),
        });
    }
    drain::until_close(run, Way::Up)?;
    run.enter(Phase::CuttingOver)?;
    match hand_over(run, Way::Up) {
        Ok(()) => {
            let phase = settle_cutover(run)?;
            run.note("nothing follows the target by itself: `backout shadow` keeps the source close behind it");
            Ok(phase)
        }
        Err(cause) => call_off(run, Way::Up, cause),
    }
}

/// Soaking → RollingBack, or back to Soaking.
pub(crate) fn roll_back(run: &mut Run) -> Result<Phase> {
    drain::until_close(run, Way::Down)?;
    run.enter(Phase::RollingBack)?;
    let done = hand_over(run, Way::Down);
    run.summary.in_time = run.deadline.take().map(|end| Instant::now() <= end);
    match done {
        Ok(()) => {
            run.committed.store(true, Ordering::SeqCst);
            Ok(Phase::RollingBack)
        }
        Err(cause) => call_off(run, Way::Down, cause),
    }
}

fn hand_over(run: &mut Run, way: Way) -> Result<()> {
    if run.plan.in_place() {
        return in_place::hand_over(run, way);
    }
    let plan = run.plan.clone();
    let (givers, receivers) = (way.givers(&plan), way.receivers(&plan));
    let id = run.id.clone();
    let epoch = raise_epoch(run)?;
    run.app.stop()?;
    let frozen = lease(run, way)?;
    let sealed = drain::drain_leased(run, way, epoch).and_then(|(position, rows)| {
        let (giver, receiver) = run.sides(way);
        let digests = receiver.state()?.map(|s| s.digests).unwrap_or_default();
        let mut state = giver.state()?.filter(|s| s.run == id && s.epoch == epoch).ok_or_else(ghost)?;
        giver.seal(&givers, &id)?;
        if way == Way::Up {
            giver.capture_off(&givers)?;
            state.digests = digests;
        }
        state.side = Side::Sealed { epoch, position: position.clone() };
        // from now on it receives: it begins at the start of the other side's log
        (state.checkpoint, state.previous) = (None, None);
        giver.put_state(&state, None)?;
        giver.commit("giver: sealed")?;
        Ok((position, rows))
    });
    let (giver, _) = run.sides(way);
    giver.rollback();
    let (position, rows) = sealed?;
    run.in_time()?;
    match way {
        Way::Up => run.app.apply()?,
        Way::Down => run.app.undo()?.into_iter().for_each(|n| run.note(n)),
    }
    let (giver, _) = run.sides(way);
    let given = giver.state()?.filter(|s| s.run == id).map(|s| s.side);
    let marks = giver.high_water(&givers)?;
    if given != Some(Side::Sealed { epoch, position: position.clone() }) {
        return Err(ghost());
    }
    // a file cannot be locked: what was written to it since the drain is found here, while there is a way back
    super::looking(giver, &givers, |g| drain::undisturbed(g, &givers))?;
    run.in_time()?;
    let window = run.settings.window_ends();
    let (_, receiver) = run.sides(way);
    within(receiver, Mode::Write, &receivers, "receiver: open", |r| {
        let mut state = r.state()?.filter(|s| s.run == id).ok_or_else(ghost)?;
        if state.side != (Side::Drained { epoch, position: position.clone() }) {
            return Err(ghost());
        }
        if way == Way::Down {
            drain::undisturbed(r, &receivers)?;
        }
        r.unseal(&receivers)?;
        state.captured_from = Some(r.capture_on(&receivers, &id)?);
        r.raise_high_water(&receivers, &marks)?;
        state.side = Side::Open;
        state.previous = None;
        if way == Way::Up {
            (state.cutover_at, state.window_ends) = (Some(now()), window.clone());
        }
        Ok(r.put_state(&state, None)?)
    })?;
    handed_over(run, way, frozen, rows);
    Ok(())
}

/// Notes that it is done: since when others waited, and how many rows were carried meanwhile.
pub(super) fn handed_over(run: &mut Run, way: Way, frozen: Instant, rows: u64) {
    run.frozen = Some(frozen.elapsed());
    let what = if way == Way::Up { "cutover" } else { "rollback" };
    run.journal_line("hand-over", &format!("{what}: {} carried", super::count(rows as usize, "row")), true, frozen);
}

/// How many changes may be left to carry while nobody can write.
const AT_ONCE: u64 = 2_000;

/// Locks the giver when little is left to carry, so that nobody waits for long: what is there is carried freely first, and once more if
/// others wrote much just before the lock was had (P21). Returns since when they wait.
fn lease(run: &mut Run, way: Way) -> Result<Instant> {
    let plan = run.plan.clone();
    let givers = way.givers(&plan);
    let mut tries = 5;
    loop {
        drain::until_close(run, way)?;
        run.go_on()?;
        let frozen = Instant::now();
        run.sides(way).0.begin(Mode::Lease, &givers)?;
        tries -= 1;
        // a file is not locked by this
        if tries == 0 || run.sides(way).0.kind() == Kind::Json {
            return Ok(frozen);
        }
        let left = drain::waiting(run, way);
        if matches!(left, Ok(left) if left <= AT_ONCE) {
            return Ok(frozen);
        }
        run.sides(way).0.rollback();
        left?;
    }
}

/// Raised in both stores by each attempt, and by each calling off: whatever still runs of an earlier one writes nothing more (P4).
pub(super) fn raise_epoch(run: &mut Run) -> Result<u64> {
    let epoch = 1 + run.source_state()?.epoch.max(run.target_state()?.epoch);
    run.change_source("source: epoch", |s| s.epoch = epoch)?;
    run.change_target("target: epoch", |s| s.epoch = epoch)?;
    Ok(epoch)
}

pub(super) fn ghost() -> Error {
    Error::Internal("another hand-over has begun meanwhile".into())
}

/// A hand-over failed, or was killed: if the receiver is open, it was done; else everything goes back to where it was.
fn call_off(run: &mut Run, way: Way, cause: Error) -> Result<Phase> {
    let done = match way {
        Way::Up => settle(run, Some(&cause)),
        Way::Down => settle_rollback(run),
    };
    match done {
        Ok(phase @ (Phase::Soaking | Phase::Ready)) if (phase == Phase::Ready) == (way == Way::Up) => {
            let attempt = if way == Way::Up { "the cutover" } else { "the rollback" };
            Err(Error::CalledOff { attempt, cause: Box::new(cause) })
        }
        Ok(phase) => Ok(phase),
        Err(e) => {
            run.note(format!("and putting things back failed: {e}"));
            Err(cause)
        }
    }
}

/// A cutover that was begun: goes on if its commit point is behind, else falls back to `Ready`.
pub(crate) fn settle_cutover(run: &mut Run) -> Result<Phase> {
    settle(run, None)
}

/// The same, for a cause: what falls back without anyone's having asked for it holds the next `up` (M20).
fn settle(run: &mut Run, cause: Option<&Error>) -> Result<Phase> {
    let target = run.target_state()?;
    if target.side == Side::Open {
        let not_yet = run.app.has_services().then(|| "the application was not started yet".to_owned());
        run.change_source("source: soaking", |s| {
            s.phase = Phase::Soaking;
            s.last_error = not_yet;
            s.cutover_at.clone_from(&target.cutover_at);
            s.window_ends.clone_from(&target.window_ends);
        })?;
        if run.app.has_services() {
            start(run)?;
            run.enter(Phase::Soaking)?;
        }
        return Ok(Phase::Soaking);
    }
    withdraw(run, Way::Up)?;
    run.app.undo()?.into_iter().for_each(|n| run.note(n));
    run.app.start()?;
    // who was told to stop was asked to
    let called_off = cause.filter(|cause| !matches!(cause, Error::Stopped)).map(ToString::to_string);
    run.change_source("source: phase ready", |s| {
        (s.phase, s.last_error, s.called_off) = (Phase::Ready, None, called_off);
    })?;
    Ok(Phase::Ready)
}

/// A rollback that was begun: goes on if its commit point is behind, else falls back to `Soaking`.
pub(crate) fn settle_rollback(run: &mut Run) -> Result<Phase> {
    if run.source_state()?.side == Side::Open {
        return Ok(Phase::RollingBack);
    }
    withdraw(run, Way::Down)?;
    run.app.apply()?;
    run.app.start()?;
    run.enter(Phase::Soaking)
}

/// Starts the application and asks whether it runs. If not, the hand-over stands all the same, and a rollback works.
pub(crate) fn start(run: &mut Run) -> Result<()> {
    run.app.start().and_then(|()| run.app.check()).map_err(|e| Error::NotStarted(Box::new(e.into())))
}

/// Before the commit point: first the receiver is withdrawn, and only when that is read back may the giver be open again.
fn withdraw(run: &mut Run, way: Way) -> Result<()> {
    let plan = run.plan.clone();
    let givers = way.givers(&plan);
    let id = run.id.clone();
    raise_epoch(run)?;
    let (giver, receiver) = run.sides(way);
    let read = |s: Option<State>| s.filter(|s| s.run == id).ok_or_else(ghost);
    // If the seal never committed, the giver may have lost writes in a crash of its machine that the receiver has: carrying them
    // again would not take those back, so both sides are compared first.
    let unsealed = !matches!(read(giver.state()?)?.side, Side::Sealed { .. });
    if let Side::Drained { epoch, .. } = read(receiver.state()?)?.side {
        super::change_state(receiver, &id, "receiver: withdrawn", |s| {
            s.side = Side::Withdrawn { epoch };
            s.checkpoint = s.previous.take();
            if unsealed {
                s.doubt = Some("a hand-over was cut off before the live side had sealed it".to_owned());
            }
        })?;
    }
    if matches!(read(receiver.state()?)?.side, Side::Open | Side::Drained { .. }) {
        return Err(ghost());
    }
    if matches!(read(giver.state()?)?.side, Side::Sealed { .. }) {
        within(giver, Mode::Write, &givers, "giver: open again", |g| {
            let mut state = g.state()?.filter(|s| s.run == id).ok_or_else(ghost)?;
            g.unseal(&givers)?;
            if way == Way::Up {
                // on a rollback it was never off
                state.captured_from = Some(g.capture_on(&givers, &id)?);
            }
            state.side = Side::Open;
            Ok(g.put_state(&state, None)?)
        })?;
    }
    Ok(())
}
