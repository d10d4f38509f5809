//! The real program, killed at random moments of a change in place, again and again in the same house.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backout::store::Phase;

use super::house::House;
use crate::faults::Random;
use crate::room::Kind;
use crate::sweep::strike::Act;

/// What `status` proposes.
fn proposed(house: &House) -> Act {
    let next = house.project().status().unwrap().unwrap().next;
    match next.split_whitespace().nth(1).unwrap() {
        "resume" => Act::Resume,
        "cutover" => Act::Up,
        "rollback" => Act::Rollback,
        "abort" => Act::Abort,
        other => panic!("status proposes {other}"),
    }
}

fn end(house: &mut House) {
    for _ in 0..6 {
        match house.phase() {
            None => break,
            Some(Phase::Soaking) => house.roll_back(),
            Some(_) => drop(proposed(house).perform(&house.project()).unwrap()),
        }
    }
    house.is_home();
}

fn walk(kind: Kind, random: &mut Random, enough: u64) {
    let mut house = House::new(kind);
    // how long the program takes; an `up` of a server takes longer than most
    let (mut kills, mut last) = (0, Duration::from_secs(2));
    while kills < enough {
        let phase = house.phase();
        let act = match phase {
            None => Act::Up,
            Some(Phase::Soaking) => Act::Rollback,
            Some(p) if p < Phase::CuttingOver && random.below(8) == 0 => Act::Abort,
            Some(_) => proposed(&house),
        };
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_backout"))
            .arg("-q")
            .args(act.words())
            .current_dir(house.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moment = last.mul_f64(random.below(1000) as f64 / 1000.0);
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if begun.elapsed() >= moment => break None,
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        match ended {
            Some(status) => {
                assert!(status.success(), "{act:?} from {phase:?}: {status}");
                last = (last + begun.elapsed()) / 2;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                last = last.mul_f64(1.1);
            }
        }
        house.settle();
        house.write();
        match (random.below(6), house.phase()) {
            (0, _) => end(&mut house),
            (1, Some(Phase::Soaking)) => house.is_soaking(),
            _ => {}
        }
    }
    end(&mut house);
}

/// `BACKOUT_TEST_KILLS` says how many instead of 32.
#[test]
fn the_program_killed_at_random_moments_in_place() {
    let total: u64 = std::env::var("BACKOUT_TEST_KILLS").map_or(32, |n| n.parse().unwrap());
    let mut random = Random::new("kills in place");
    std::thread::scope(|threads| {
        for kind in [Kind::Sqlite, Kind::Postgres] {
            let mut random = Random(random.below(u64::MAX));
            threads.spawn(move || walk(kind, &mut random, total / 2));
        }
    });
}
