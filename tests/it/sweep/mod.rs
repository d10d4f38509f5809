//! The sweep of the gate: each effect of a command fails once, or the program dies in its place, for n = 1, 2, 3 … until
//! the command passes. Whatever is left must be whole, must say how to go on, and must end with the state before or after;
//! and no write that was acknowledged may be lost.
//!
//! `BACKOUT_TEST_GRID=full` sweeps the whole grid: the real binary killed at each n too, each n forward and back, each second
//! kill after each first one. `scripts/campaign` runs it.

mod apart;
mod mend;
pub mod strike;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use backout::gate::Gate;
use backout::migrate::{RollbackOptions, Until, UpOptions};
use backout::store::Phase;

use crate::database::Database;
use crate::faults::servers::Server;
use crate::room::{Kind, Pair, Pool, Room};
use strike::{Act, How, strike};

/// Whether the whole grid was asked for.
pub fn full_grid() -> bool {
    std::env::var("BACKOUT_TEST_GRID").is_ok_and(|v| v == "full")
}

/// Pairs whose effects are struck in each way in every run.
pub fn in_full(pair: Pair) -> bool {
    full_grid() || (pair.from != Kind::Postgres && pair.to != Kind::Postgres)
}

/// Plays `one` for n = 1, 2, 3 … until it says that the trap was not reached; several at a time.
pub fn sweep(what: &str, one: impl Fn(u64) -> Option<String> + Sync) {
    sweep_each(1, what, one);
}

/// The same for every `step`-th n only, where not the whole grid is asked for: for what is a variant of something that
/// is played at each n.
pub fn sweep_each(step: u64, what: &str, one: impl Fn(u64) -> Option<String> + Sync) {
    let step = if full_grid() { 1 } else { step };
    // not the same ones in every sweep
    sweep_from(1 + what.bytes().map(u64::from).sum::<u64>() % step, step, what, one);
}

/// The same for what is struck so of this pair.
pub fn sweep_as(pair: Pair, how: How, what: &str, one: impl Fn(u64) -> Option<String> + Sync) {
    let (first, step) = how.which(pair);
    sweep_from(first, step, &format!("{pair}: {what} {how:?}"), one);
}

/// The same from `first` on.
fn sweep_from(first: u64, step: u64, what: &str, one: impl Fn(u64) -> Option<String> + Sync) {
    let _pool = Pool::open();
    let (next, last) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
    let failed = Mutex::new(Vec::new());
    let begun = std::time::Instant::now();
    std::thread::scope(|threads| {
        // more would play more in vain past the end
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let n = next.fetch_add(step, Ordering::SeqCst);
                    if n > last.load(Ordering::SeqCst) || n > 500 || failed.lock().unwrap().len() > 7 {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| one(n))) {
                        Ok(Some(_)) => {}
                        Ok(None) => {
                            last.fetch_min(n, Ordering::SeqCst);
                        }
                        Err(_) => failed.lock().unwrap().push(n),
                    }
                }
            });
        }
    });
    let (last, mut failed) = (last.into_inner(), failed.into_inner().unwrap());
    failed.sort_unstable();
    println!("{what}: {} effects, {:.1} s", last.saturating_sub(1), begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{what}: failed at n = {failed:?}");
    assert!(last > 1 && last < 500, "{what}: the trap was reached {last} times");
}

/// Says which effect it was if `body` panics.
pub fn shown(n: u64, hit: Option<&String>, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        eprintln!("… at effect {n}: {hit:?}");
        std::panic::resume_unwind(panic);
    }
}

/// Everything once more: the target must be free for it.
fn once_more(room: &mut Room) {
    room.up();
    room.is_soaking();
    room.roll_back();
    room.is_home();
}

/// From wherever an `up` was cut off: forward by `resume` or `up`, or back by what is open there.
pub fn after_up(room: &mut Room, n: u64, ahead: bool) {
    let phase = room.between(n);
    match phase {
        None => room.up(),
        Some(Phase::Soaking) if ahead => {
            room.project().resume(None).unwrap();
        }
        Some(_) if ahead => {
            let act = if n / 2 % 2 == 1 { Act::Resume } else { Act::Up };
            let out = act.perform(&room.project()).unwrap();
            assert_eq!(out.phase, Some(Phase::Soaking));
        }
        Some(Phase::Soaking) => room.roll_back(),
        Some(Phase::CuttingOver) if (n / 2).is_multiple_of(2) => {
            let out = room.project().rollback(&RollbackOptions::default()).unwrap();
            if out.phase == Some(Phase::Ready) {
                room.write();
                room.project().abort().unwrap();
            }
        }
        Some(Phase::CuttingOver) => {
            room.project().resume(None).unwrap();
            room.write();
            room.roll_back();
        }
        Some(_) => {
            let out = room.project().abort().unwrap();
            assert_eq!(out.phase, Some(Phase::Aborted));
        }
    }
    if ahead || phase.is_none() {
        room.is_soaking();
        if n % 8 == 3 {
            room.roll_back();
            room.is_home();
        }
    } else {
        room.is_home();
        if n.is_multiple_of(8) {
            once_more(room);
        }
    }
}

pub fn after_rollback(room: &mut Room, n: u64) {
    if n.is_multiple_of(8) {
        let out =
            Command::new(env!("CARGO_BIN_EXE_backout")).arg("status").current_dir(room.folder.path()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    match room.between(n) {
        None => {}
        Some(Phase::RollingBack) if n / 2 % 2 == 1 => {
            let out = room.project().resume(None).unwrap();
            assert_eq!(out.phase, Some(Phase::RolledBack));
        }
        Some(_) => room.roll_back(),
    }
    room.is_home();
    if n % 8 == 5 {
        once_more(room);
    }
}

/// Forward and back alternate, or both are played for each n.
pub fn up(pair: Pair, how: How) {
    let step = how.which(pair).1;
    sweep_as(pair, how, "up", |n| {
        let once = |ahead| {
            let mut room = Room::new(pair);
            let hit = strike(&room, Act::Up, how, n);
            shown(n, hit.as_ref(), || match hit {
                Some(_) => after_up(&mut room, n, ahead),
                None => room.is_soaking(),
            });
            room.leave();
            hit
        };
        if full_grid() {
            once(true).and_then(|_| once(false))
        } else {
            once((n / step).is_multiple_of(2) == (how == How::Dies))
        }
    });
}

pub fn rollback(pair: Pair, how: How) {
    sweep_as(pair, how, "rollback", |n| {
        let mut room = Room::soaking(pair);
        let hit = strike(&room, Act::Rollback, how, n);
        shown(n, hit.as_ref(), || match hit {
            Some(_) => after_rollback(&mut room, n),
            None => room.is_home(),
        });
        room.leave();
        hit
    });
}

fn complete(pair: Pair, how: How, delete: bool) {
    sweep_as(pair, how, if delete { "complete, deleting" } else { "complete" }, |n| {
        let mut room = Room::soaking(pair);
        let hit = strike(&room, Act::Complete { delete }, how, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                match room.between(n) {
                    None => {}
                    Some(Phase::Completing) if (n / 2).is_multiple_of(2) => {
                        let out = room.project().resume(None).unwrap();
                        assert_eq!(out.phase, Some(Phase::Completed));
                    }
                    Some(_) => {
                        room.project().complete(delete).unwrap();
                    }
                }
            }
            room.is_completed(delete);
        });
        room.leave();
        hit
    });
}

fn abort(pair: Pair, how: How) {
    sweep_as(pair, how, "abort", |n| {
        let mut room = Room::new(pair);
        room.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
        room.write();
        let hit = strike(&room, Act::Abort, how, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                match room.between(n) {
                    None => {}
                    Some(Phase::Aborting) if (n / 2).is_multiple_of(2) => {
                        let out = room.project().resume(None).unwrap();
                        assert_eq!(out.phase, Some(Phase::Aborted));
                    }
                    Some(_) => {
                        let out = room.project().abort().unwrap();
                        assert_eq!(out.phase, Some(Phase::Aborted));
                    }
                }
            }
            room.is_home();
            if n.is_multiple_of(8) {
                once_more(&mut room);
            }
        });
        room.leave();
        hit
    });
}

/// Another client tries to write on both sides before and after each effect of a whole life.
fn crowded(pair: Pair) {
    let room = Arc::new(Mutex::new(Room::new(pair)));
    let perform = |act: Act| {
        let crowd = room.clone();
        let gate = Gate::between(move |what| crowd.lock().unwrap().bystander(what));
        let project = room.lock().unwrap().project().gated(gate);
        act.perform(&project).unwrap()
    };
    let out = perform(Act::Up);
    assert_eq!(out.phase, Some(Phase::Soaking));
    room.lock().unwrap().is_soaking();
    let out = perform(Act::Rollback);
    assert_eq!(out.phase, Some(Phase::RolledBack));
    let Ok(room) = Arc::try_unwrap(room) else { panic!("somebody still writes") };
    let mut room = room.into_inner().unwrap();
    room.is_home();
    println!("{pair}: {} tries to write meanwhile", room.writes);
    room.leave();
}

/// Cut off at n, and what goes on with it at m; a diagonal of the grid, or all of it.
fn twice(pair: Pair, act: Act, how: How) {
    let play = |n: u64, m: u64, i: u64| {
        let mut room = if matches!(act, Act::Up) { Room::new(pair) } else { Room::soaking(pair) };
        let hit = strike(&room, act, how, n);
        let mut again = None;
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                if room.between(n).is_some() {
                    again = strike(&room, Act::Resume, how, m);
                }
                shown(m, again.as_ref(), || match act {
                    Act::Up => after_up(&mut room, i, i % 2 == 1),
                    _ => after_rollback(&mut room, i),
                });
            }
        });
        room.leave();
        (hit, again)
    };
    sweep_each(if in_full(pair) { 1 } else { 6 }, &format!("{pair}: {act:?} {how:?} twice"), |i| {
        if !full_grid() {
            return play(3 * i - 2, 1 + i * 5 % 17, i).0;
        }
        for m in 1.. {
            let (hit, again) = play(i, m, m);
            if again.is_none() {
                return hit;
            }
        }
        None
    });
}

const HOWS: [How; 3] = [How::Dies, How::Fails, How::Loses];

/// The scenarios of one pair of stores.
macro_rules! pair {
    ($name:ident, $from:ident, $to:ident) => {
        mod $name {
            use super::*;

            const PAIR: Pair = Pair { from: Kind::$from, to: Kind::$to };

            #[test]
            fn up_fails() {
                up(PAIR, How::Fails);
            }

            #[test]
            fn up_dies() {
                up(PAIR, How::Dies);
            }

            #[test]
            fn up_loses_its_answers() {
                up(PAIR, How::Loses);
            }

            #[test]
            fn up_dies_twice() {
                twice(PAIR, Act::Up, How::Dies);
            }

            #[test]
            fn rollback_fails() {
                rollback(PAIR, How::Fails);
            }

            #[test]
            fn rollback_dies() {
                rollback(PAIR, How::Dies);
            }

            #[test]
            fn rollback_loses_its_answers() {
                rollback(PAIR, How::Loses);
            }

            #[test]
            fn rollback_dies_twice() {
                twice(PAIR, Act::Rollback, How::Dies);
            }

            #[test]
            fn complete_and_abort() {
                for how in HOWS {
                    complete(PAIR, how, false);
                    if PAIR.from != Kind::Json {
                        complete(PAIR, how, true);
                    }
                    abort(PAIR, how);
                }
            }

            #[test]
            fn emergency() {
                HOWS.into_iter().for_each(|how| apart::emergency(PAIR, how));
            }

            #[test]
            fn discard() {
                HOWS.into_iter().for_each(|how| apart::left_out(PAIR, how, false));
            }

            #[test]
            fn back_until_a_moment() {
                HOWS.into_iter().for_each(|how| apart::left_out(PAIR, how, true));
            }

            #[test]
            fn repair() {
                for how in HOWS {
                    mend::repair(PAIR, how, false);
                    if PAIR.from != Kind::Json {
                        // nothing is written to a file that somebody else changed
                        mend::repair(PAIR, how, true);
                    }
                }
            }

            #[test]
            fn extract() {
                HOWS.into_iter().take(if in_full(PAIR) { 3 } else { 2 }).for_each(|how| mend::extract(PAIR, how));
            }

            #[test]
            fn the_target_is_away_and_is_salvaged() {
                for how in HOWS {
                    apart::lost(PAIR, how);
                    apart::salvage(PAIR, how);
                }
            }

            #[test]
            fn others_write_at_every_moment() {
                crowded(PAIR);
            }

            /// The real program, killed at each effect; in the whole grid only.
            #[test]
            fn grid_killed() {
                if full_grid() {
                    up(PAIR, How::Killed);
                    rollback(PAIR, How::Killed);
                    complete(PAIR, How::Killed, false);
                    abort(PAIR, How::Killed);
                }
            }
        }
    };
}

/// From one server to another, each with a clock, a log and an incarnation of its own.
#[test]
fn two_servers() {
    let other = Server::new();
    let pair = Pair { from: Kind::Postgres, to: Kind::Postgres };
    for (act, how) in [(Act::Up, How::Dies), (Act::Rollback, How::Dies), (Act::Rollback, How::Fails)] {
        sweep_each(6, &format!("{pair}, two servers: {act:?} {how:?}"), |n| {
            let (one, two) = (Database::new(), other.database());
            let mut room = Room::on(pair, [&one.url, &two.url]);
            if matches!(act, Act::Rollback) {
                room.write();
                room.up();
                room.write();
            }
            let hit = strike(&room, act, how, n);
            shown(n, hit.as_ref(), || match act {
                _ if hit.is_none() => assert!(room.write().is_some()),
                Act::Up => after_up(&mut room, n, n % 4 < 2),
                _ => after_rollback(&mut room, n),
            });
            room.leave();
            hit
        });
    }
}

pair!(json_to_sqlite, Json, Sqlite);
pair!(json_to_postgres, Json, Postgres);
pair!(sqlite_to_postgres, Sqlite, Postgres);
pair!(postgres_to_sqlite, Postgres, Sqlite);
pair!(sqlite_to_sqlite, Sqlite, Sqlite);
pair!(postgres_to_postgres, Postgres, Postgres);
