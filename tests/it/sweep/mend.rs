//! What mends, struck at each effect: a repair of rows that somebody changed behind the seal, and the source's form made anew.

use backout::migrate::{ExtractOptions, Failure, Outcome, Project, RepairOptions, Until, UpOptions};
use backout::store::Phase;

use super::strike::{Act, How, strike, strike_at};
use super::{shown, sweep, sweep_as};
use crate::room::{Kind, Pair, Place, Room, Source, Target};

/// As `backout repair`.
pub fn mend(project: &Project) -> Result<Outcome, Failure> {
    let done = project.repair(&RepairOptions { batch: 1000, dry_run: false, force: false })?;
    assert!(done.verified.is_none_or(|v| v.agrees()));
    Ok(Outcome::default())
}

/// Before the cutover, or while the target is soaking.
pub fn repair(pair: Pair, how: How, soaks: bool) {
    sweep_as(pair, how, if soaks { "repair, soaking" } else { "repair, ready" }, |n| {
        let mut room = Room::new(pair);
        let until = if soaks { Until::Soaking } else { Until::Ready };
        room.write_to(Some(Source));
        room.project().up(&UpOptions { until, ..UpOptions::default() }).unwrap();
        room.write_to(Some(if soaks { Target } else { Source }));
        let resting = if soaks { Source } else { Target };
        room.tamper(resting, n);
        let hit = strike(&room, Act::Repair, how, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                room.between(n);
                Act::Repair.perform(&room.project()).unwrap();
            }
            if !soaks {
                assert_eq!(room.status().unwrap().source.phase, Phase::Ready);
                room.up();
            }
            room.is_soaking();
            if n % 8 == 1 {
                room.roll_back();
                room.is_home();
            }
        });
        room.leave();
        hit
    });
}

/// Once more elsewhere, where the first one did not come to its end; what it left at its place is nothing, or all.
pub fn extract(pair: Pair, how: How) {
    sweep(&format!("{pair}: extract {how:?}"), |n| {
        let mut room = Room::soaking(pair);
        let place = |stem: &str| Place::new(pair.from, room.folder.path(), stem);
        let (again, anew) = (place("again"), place("anew"));
        let asked = |to: &Place| ExtractOptions { to: to.url(), migration: None };
        let hit = strike_at(room.project(), how, n, |p| p.extract(&asked(&again)).map(drop));
        let whole = room.ledger();
        shown(n, hit.as_ref(), || {
            let made = if pair.from == Kind::Json { again.path.exists() } else { !again.schema().is_empty() };
            if hit.is_none() || made {
                assert_eq!(again.rows(), whole, "what is there is not all");
            }
            if hit.is_some() {
                room.project().extract(&asked(&anew)).unwrap();
                assert_eq!(anew.rows(), whole);
            }
            for stem in ["again", "anew"] {
                for ending in ["json", "db", "db-journal"] {
                    let _ = std::fs::remove_file(room.path(&format!("{stem}.{ending}")));
                }
            }
            room.is_soaking();
            if n % 8 == 1 {
                room.roll_back();
                room.is_home();
            }
        });
        again.leave();
        anew.leave();
        room.leave();
        hit
    });
}
