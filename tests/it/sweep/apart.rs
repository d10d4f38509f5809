//! Ways back that do not wait for the target, struck at each effect: an emergency, what is salvaged after it, and what is
//! left out.

use backout::migrate::{Failure, Outcome, Project, RollbackOptions};
use backout::store::Phase;

use super::strike::{Act, How, strike};
use super::{once_more, shown, sweep_as};
use crate::room::{Kind, Pair, Room, Source, Target};

/// Nothing answers there.
fn nowhere(kind: Kind) -> &'static str {
    if kind == Kind::Postgres {
        "postgres://nobody@127.0.0.1:1/nothing?connect_timeout=1"
    } else {
        "sqlite:nowhere/target.db"
    }
}

/// Goes on with what was cut off, until nothing is under way but what `until` allows.
fn go_on(room: &Room, act: Act, n: u64, until: Option<Phase>) {
    for round in 0..4 {
        let phase = room.status().map(|s| s.source.phase);
        if phase.is_none() || phase == until {
            return;
        }
        let next = match phase {
            Some(Phase::Outstanding) => Act::Salvage,
            Some(Phase::RollingBack) if (n / 2 + round) % 2 == 1 => Act::Resume,
            _ => act,
        };
        next.perform(&room.project()).unwrap();
    }
    panic!("it does not end: {:?}", room.status().map(|s| s.source.phase));
}

/// The target answers: everything is carried.
pub fn emergency(pair: Pair, how: How) {
    sweep_as(pair, how, "emergency", |n| {
        let mut room = Room::soaking(pair);
        let hit = strike(&room, Act::Emergency, how, n);
        shown(n, hit.as_ref(), || {
            // a target that was not sealed may still take writes, and is said to
            if hit.as_ref().is_some_and(|what| !what.starts_with("target:")) {
                room.between(n);
            }
            go_on(&room, Act::Emergency, n, None);
            room.is_home();
        });
        room.leave();
        hit
    });
}

/// The target is away, comes back, and the salvage is struck.
pub fn salvage(pair: Pair, how: How) {
    sweep_as(pair, how, "salvage", |n| {
        let mut room = away(pair);
        let hit = strike(&room, Act::Salvage, how, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                room.was_cut_off();
            }
            // the application goes on at home meanwhile
            room.writes_at_home();
            go_on(&room, Act::Salvage, n, None);
            room.is_home();
        });
        room.leave();
        hit
    });
}

/// After an emergency whose target did not answer, and which is there again.
fn away(pair: Pair) -> Room {
    let mut room = Room::soaking(pair);
    room.project().shadow().unwrap();
    room.write_to(Some(Target));
    let (from, to) = (room.source.url(), room.target.url());
    room.configure(&from, nowhere(pair.to));
    let out = Act::Emergency.perform(&room.project()).unwrap();
    assert_eq!(out.phase, Some(Phase::Outstanding));
    assert!(room.running() && !room.switched());
    room.configure(&from, &to);
    room.writes_at_home();
    room
}

/// The target is away, and the emergency is struck; then all is salvaged.
pub fn lost(pair: Pair, how: How) {
    sweep_as(pair, how, "emergency without the target", |n| {
        let mut room = Room::soaking(pair);
        room.project().shadow().unwrap();
        room.write_to(Some(Target));
        let (from, to) = (room.source.url(), room.target.url());
        room.configure(&from, nowhere(pair.to));
        let hit = strike(&room, Act::Emergency, how, n);
        shown(n, hit.as_ref(), || {
            go_on(&room, Act::Emergency, n, Some(Phase::Outstanding));
            let begun = room.status().unwrap().source;
            if begun.last_error.is_some() {
                Act::Resume.perform(&room.project()).unwrap();
            }
            assert!(room.running() && !room.switched());
            room.writes_at_home();
            room.configure(&from, &to);
            go_on(&room, Act::Salvage, n, None);
            room.is_home();
        });
        room.leave();
        hit
    });
}

/// What was written since the cutover, or since the drain before the last one, is not wanted.
pub fn left_out(pair: Pair, how: How, until: bool) {
    sweep_as(pair, how, if until { "until" } else { "discard" }, |n| {
        let mut room = Room::new(pair);
        room.write_to(Some(Source));
        room.up();
        let mut wanted = (room.ledger(), Act::Discard);
        // two that were carried are undone, at least: it may be cut off between them
        for round in 0..if until { 3 } else { 2 } {
            room.write_to(Some(Target));
            room.project().shadow().unwrap();
            if until && round == 0 {
                let drained = room.status().unwrap().source.drained_at.unwrap().parse().unwrap();
                wanted = (room.ledger(), Act::Until(drained));
                while jiff::Timestamp::now() <= drained {
                    std::thread::yield_now();
                }
            }
        }
        room.write_to(Some(Target));
        let (wanted, act) = wanted;
        let hit = strike(&room, act, how, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                room.was_cut_off();
            }
            go_on(&room, act, n, None);
            room.believes(wanted);
            if how != How::Dies && hit.as_ref().is_some_and(|what| what == "target: sealed") {
                // it counts as away: it may still take writes, and is said to, until the next run sets it aside
                assert!(room.status().is_none() && room.source.rows() == room.ledger());
                once_more(&mut room);
            } else {
                room.is_home();
            }
        });
        room.leave();
        hit
    });
}

impl Act {
    /// Those of this file.
    pub fn part(self, project: &Project) -> Result<Outcome, Failure> {
        let none = RollbackOptions::default();
        match self {
            Act::Salvage => project.salvage(false),
            Act::Discard => project.rollback(&RollbackOptions { discard: true, ..none }),
            Act::Until(moment) => project.rollback(&RollbackOptions { until: Some(moment), ..none }),
            _ => project.rollback(&RollbackOptions { emergency: true, ..none }),
        }
    }
}
