//! Each effect of each command fails once, loses its answer, or the program dies in its place: what is left is the state before or
//! after, one side is live, and whatever is open leads on. No acknowledged write is lost.

use backout::migrate::{RollbackOptions, Until, UpOptions};
use backout::store::Phase;

use super::house::House;
use crate::room::Kind;
use crate::sweep::strike::{Act, How, strike_at};
use crate::sweep::{shown, sweep_each};

const HOWS: [How; 3] = [How::Dies, How::Fails, How::Loses];

fn struck(house: &House, act: Act, how: How, n: u64) -> Option<String> {
    strike_at(house.project(), how, n, |p| act.perform(p).map(drop))
}

/// The application writes, whatever there is.
fn between(house: &mut House) -> Option<Phase> {
    house.settle();
    house.write();
    let phase = house.phase();
    // the shape that is home is told alike by both
    match phase {
        None | Some(Phase::CuttingOver | Phase::RollingBack | Phase::Completing) => {}
        Some(Phase::Soaking) => assert!(house.is_new_shape()),
        Some(_) => assert!(!house.is_new_shape()),
    }
    phase
}

fn after_up(house: &mut House, n: u64, ahead: bool) {
    let phase = between(house);
    match phase {
        None => house.up(),
        Some(Phase::Soaking) if ahead => drop(house.project().resume(None).unwrap()),
        Some(_) if ahead => {
            let act = if n.is_multiple_of(2) { Act::Resume } else { Act::Up };
            assert_eq!(act.perform(&house.project()).unwrap().phase, Some(Phase::Soaking));
        }
        Some(Phase::Soaking) => house.roll_back(),
        Some(Phase::CuttingOver) => {
            let out = house.project().rollback(&RollbackOptions::default()).unwrap();
            if out.phase == Some(Phase::Ready) {
                house.write();
                house.project().abort().unwrap();
            }
        }
        Some(_) => drop(house.project().abort().unwrap()),
    }
    if ahead || phase.is_none() {
        house.is_soaking();
        house.roll_back();
    }
    house.is_home();
}

fn up(kind: Kind) {
    for how in HOWS {
        sweep_each(step(kind), &format!("{kind:?} in place: up {how:?}"), |n| {
            let mut house = House::new(kind);
            let hit = struck(&house, Act::Up, how, n);
            shown(n, hit.as_ref(), || match hit {
                Some(_) => after_up(&mut house, n, n / 2 % 2 == 0),
                None => house.is_soaking(),
            });
            hit
        });
    }
}

fn after_rollback(house: &mut House, n: u64) {
    match between(house) {
        None => {}
        Some(Phase::RollingBack) if n.is_multiple_of(2) => {
            assert_eq!(house.project().resume(None).unwrap().phase, Some(Phase::RolledBack));
        }
        Some(_) => house.roll_back(),
    }
    house.is_home();
}

fn rollback(kind: Kind) {
    for how in HOWS {
        sweep_each(step(kind), &format!("{kind:?} in place: rollback {how:?}"), |n| {
            let mut house = House::new(kind);
            house.up();
            house.write();
            let hit = struck(&house, Act::Rollback, how, n);
            shown(n, hit.as_ref(), || match hit {
                Some(_) => after_rollback(&mut house, n),
                None => house.is_home(),
            });
            hit
        });
    }
}

fn complete_and_abort(kind: Kind) {
    for how in HOWS {
        sweep_each(step(kind), &format!("{kind:?} in place: complete {how:?}"), |n| {
            let mut house = House::new(kind);
            house.up();
            let hit = struck(&house, Act::Complete { delete: false }, how, n);
            shown(n, hit.as_ref(), || {
                if hit.is_some() && between(&mut house).is_some() {
                    house.project().complete(false).unwrap();
                }
                house.is_completed();
            });
            hit
        });
        sweep_each(step(kind), &format!("{kind:?} in place: abort {how:?}"), |n| {
            let mut house = House::new(kind);
            house.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
            house.write();
            let hit = struck(&house, Act::Abort, how, n);
            shown(n, hit.as_ref(), || {
                if hit.is_some() && between(&mut house).is_some() {
                    house.project().abort().unwrap();
                }
                house.is_home();
            });
            hit
        });
    }
}

fn apart(kind: Kind, act: Act) {
    for how in HOWS {
        sweep_each(step(kind), &format!("{kind:?} in place: {act:?} {how:?}"), |n| {
            let mut house = House::new(kind);
            house.up();
            house.project().shadow().unwrap();
            let before = house.ledger();
            house.write();
            let hit = struck(&house, act, how, n);
            shown(n, hit.as_ref(), || {
                house.settle();
                if hit.is_some() && house.phase().is_some() {
                    act.perform(&house.project()).or_else(|_| house.project().resume(None)).unwrap();
                }
                if house.phase() == Some(Phase::Outstanding) {
                    // what could not be read in time is in the target still
                    assert!(!matches!(act, Act::Discard));
                    house.project().salvage(false).unwrap();
                }
                if matches!(act, Act::Discard) {
                    house.forget_since(&before);
                }
                house.is_home();
            });
            hit
        });
    }
}

/// Died at one effect, and what goes on with it at another.
fn twice(kind: Kind, act: Act) {
    sweep_each(step(kind), &format!("{kind:?} in place: {act:?} dies twice"), |i| {
        let mut house = House::new(kind);
        if matches!(act, Act::Rollback) {
            house.up();
            house.write();
        }
        let (n, m) = (3 * i - 2, 1 + i * 5 % 17);
        let hit = struck(&house, act, How::Dies, n);
        let again = hit.is_some() && between(&mut house).is_some();
        let again = again.then(|| struck(&house, Act::Resume, How::Dies, m)).flatten();
        shown(n, hit.as_ref(), || {
            shown(m, again.as_ref(), || match act {
                _ if hit.is_none() => {}
                Act::Up => after_up(&mut house, i, i.is_multiple_of(2)),
                _ => after_rollback(&mut house, i),
            })
        });
        hit
    });
}

/// A server costs most of the time. Odd, because what is done afterwards alternates.
fn step(kind: Kind) -> u64 {
    if kind == Kind::Postgres { 13 } else { 1 }
}

macro_rules! engine {
    ($name:ident, $kind:ident) => {
        mod $name {
            use super::*;

            #[test]
            fn up_struck() {
                up(Kind::$kind);
            }

            #[test]
            fn rollback_struck() {
                rollback(Kind::$kind);
            }

            #[test]
            fn up_and_rollback_die_twice() {
                twice(Kind::$kind, Act::Up);
                twice(Kind::$kind, Act::Rollback);
            }

            #[test]
            fn complete_and_abort_struck() {
                complete_and_abort(Kind::$kind);
            }

            #[test]
            fn emergency_struck() {
                apart(Kind::$kind, Act::Emergency);
            }

            #[test]
            fn discard_struck() {
                apart(Kind::$kind, Act::Discard);
            }
        }
    };
}

engine!(sqlite, Sqlite);
engine!(postgres, Postgres);
