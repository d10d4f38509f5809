//! The real program, killed at random moments, again and again in the same place.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backout::store::Phase;

use super::Random;
use crate::room::{PAIRS, Pair, Pool, Room};
use crate::sweep::strike::Act;

/// What `status` proposes first, or what moves on where nothing is open.
pub fn proposed(room: &Room) -> Option<Act> {
    let next = room.status()?.next;
    let command = next.split_whitespace().nth(1).unwrap().to_owned();
    Some(match command.as_str() {
        "resume" => Act::Resume,
        "cutover" => Act::Up,
        "rollback" => Act::Rollback,
        "abort" => Act::Abort,
        "complete" => Act::Complete { delete: false },
        other => panic!("status proposes {other}"),
    })
}

/// Follows what `status` proposes until the application is at home.
fn end(room: &mut Room) {
    for _ in 0..6 {
        let Some(act) = proposed(room) else { break };
        act.perform(&room.project()).unwrap();
    }
    room.is_home();
}

fn walk(pair: Pair, seed: u64, kills: &AtomicU64, enough: u64) {
    let mut random = Random(seed);
    let mut room = Room::new(pair);
    // how long the program takes, by what it does
    let mut lasts = [Duration::from_millis(200); 2];
    while kills.load(Ordering::SeqCst) < enough {
        let status = room.status();
        let phase = status.map(|s| s.source.phase);
        let act = match phase {
            None => Act::Up,
            Some(Phase::Soaking) => Act::Rollback,
            Some(p) if p < Phase::CuttingOver && random.below(8) == 0 => Act::Abort,
            Some(_) => proposed(&room).unwrap(),
        };
        let last = &mut lasts[usize::from(phase.is_some_and(|p| p >= Phase::Soaking))];
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_backout"))
            .arg("-q")
            .args(act.words())
            .current_dir(room.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // at any moment; or soon after the services were stopped or started, or the switch was set: that is when it matters, and short
        let seen = || (room.running(), std::fs::read(room.path(".env")).unwrap());
        let hands_over =
            phase.is_none_or(|p| p == Phase::Soaking || p < Phase::CuttingOver) && !matches!(act, Act::Abort);
        let (before, near) = (seen(), hands_over && random.below(2) == 0);
        let mut since = (!near).then_some(begun);
        let moment = if near { last.mul_f64(0.2) } else { *last };
        let moment = moment.mul_f64(random.below(1000) as f64 / 1000.0);
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if since.is_some_and(|s| s.elapsed() >= moment) => break None,
                None if since.is_none() && seen() != before => since = Some(Instant::now()),
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        match ended {
            Some(status) => {
                assert!(status.success(), "{act:?} from {phase:?}: {status}");
                *last = (*last + begun.elapsed()) / 2;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills.fetch_add(1, Ordering::SeqCst);
                *last = last.mul_f64(1.02);
            }
        }
        room.settle();
        room.between(random.below(60));
        match random.below(6) {
            0 => end(&mut room),
            1 if room.status().is_some_and(|s| s.source.phase == Phase::Soaking && s.source.last_error.is_none()) => {
                room.is_soaking();
            }
            _ => {}
        }
    }
    end(&mut room);
    room.leave();
}

/// `BACKOUT_TEST_KILLS` says how many instead of 120.
#[test]
fn the_program_killed_at_random_moments() {
    let total: u64 = std::env::var("BACKOUT_TEST_KILLS").map_or(120, |n| n.parse().unwrap());
    let mut random = Random::new("kills");
    let _pool = Pool::open();
    let begun = Instant::now();
    let kills: Vec<AtomicU64> = PAIRS.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|threads| {
        for (pair, kills) in PAIRS.iter().zip(&kills) {
            let seed = random.below(u64::MAX);
            threads.spawn(move || walk(*pair, seed, kills, total.div_ceil(PAIRS.len() as u64)));
        }
    });
    let all: u64 = kills.iter().map(|k| k.load(Ordering::SeqCst)).sum();
    println!("{all} kills, {:.1} s", begun.elapsed().as_secs_f64());
}
