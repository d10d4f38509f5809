//! Two operators at once.

use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use backout::gate::Gate;
use backout::migrate::{Failure, Options, Outcome, Project};
use backout::store::Phase;

use crate::room::{PAIRS, Pair, Pool, Room};
use crate::sweep::strike::{Act, How, strike};
use crate::sweep::{after_rollback, after_up, full_grid};

fn impatient(room: &Room) -> Project {
    room.project().with(Options { wait: Duration::ZERO, ..Options::default() })
}

/// At every effect of what one operator does, another tries everything; the first one's command ends well all the same.
fn elbowed(room: &Room, act: Act) -> Outcome {
    let others: &[Act] = match act {
        Act::Up => &[Act::Up, Act::Resume, Act::Rollback, Act::Abort, Act::Complete { delete: true }],
        _ => &[Act::Rollback, Act::Up, Act::Resume, Act::Abort, Act::Complete { delete: false }],
    };
    let (folder, tried) = (room.folder.path().to_owned(), Arc::new(Mutex::new(0)));
    let count = tried.clone();
    let gate = Gate::watched(move |what| {
        let mut n = count.lock().unwrap();
        *n += 1;
        let other = others[*n % others.len()];
        let project = Project::open(&folder, &|_| None).unwrap();
        let done = other.perform(&project.with(Options { wait: Duration::ZERO, ..Options::default() }));
        match done {
            Ok(out) => assert!(out.nothing, "{other:?} before {what:?}: {out:?}"),
            Err(e) => assert!([4, 5].contains(&e.exit), "{other:?} before {what:?}: {e:?}"),
        }
    });
    let out = act.perform(&room.project().gated(gate)).unwrap();
    assert!(*tried.lock().unwrap() > 10);
    out
}

#[test]
fn p04_a_second_operator_is_refused_at_every_effect_and_changes_nothing() {
    let _pool = Pool::open();
    for pair in PAIRS {
        let mut room = Room::new(pair);
        room.write();
        assert_eq!(elbowed(&room, Act::Up).phase, Some(Phase::Soaking));
        room.is_soaking();
        assert_eq!(elbowed(&room, Act::Rollback).phase, Some(Phase::RolledBack));
        room.is_home();
        room.leave();
    }
}

/// Both at the same moment. One of them at least gets through, or both were told to look again.
fn race(room: &Room, acts: [Act; 2]) -> Vec<Result<Outcome, Failure>> {
    let start = Barrier::new(2);
    std::thread::scope(|threads| {
        let both = acts.map(|act| {
            let project = impatient(room);
            let start = &start;
            threads.spawn(move || {
                start.wait();
                act.perform(&project)
            })
        });
        both.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn told(done: &[Result<Outcome, Failure>]) {
    for failure in done.iter().filter_map(|d| d.as_ref().err()) {
        assert!([4, 5].contains(&failure.exit), "{failure:?}");
    }
    assert!(done.iter().any(Result::is_ok), "{done:?}");
}

fn races(pair: Pair) {
    for n in 1..if full_grid() { 4 } else { 2 } {
        let mut room = Room::new(pair);
        told(&race(&room, [Act::Up, Act::Up]));
        room.is_soaking();
        let other = [Act::Rollback, Act::Up, Act::Rollback][n as usize - 1];
        told(&race(&room, [Act::Rollback, other]));
        room.is_home();
        // dead somewhere, then two who go on with it
        let hit = strike(&room, Act::Up, How::Dies, 9 * n);
        assert!(hit.is_some());
        room.between(1);
        let done = race(&room, [Act::Resume, [Act::Resume, Act::Abort, Act::Resume][n as usize - 1]]);
        assert!(done.iter().any(Result::is_ok), "{done:?}");
        after_up(&mut room, n, true);
        if room.status().is_some() {
            strike(&room, Act::Rollback, How::Dies, 5 * n);
            room.between(1);
            if room.status().is_some_and(|s| s.source.phase == Phase::RollingBack) {
                told(&race(&room, [Act::Resume, Act::Rollback]));
            }
            after_rollback(&mut room, 1);
        }
        room.leave();
    }
}

#[test]
fn two_operators_at_the_same_moment() {
    let _pool = Pool::open();
    for pair in PAIRS {
        races(pair);
    }
}
