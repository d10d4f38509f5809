//! Up, soak, back; complete; abort; the ways that do not wait.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use backout::migrate::{RollbackOptions, Until, UpOptions};
use backout::store::Phase;

use super::house::House;
use crate::room::Kind;

fn there_and_back(kind: Kind) {
    let mut house = House::new(kind);
    house.write();
    house.up();
    house.is_soaking();
    house.project().shadow().unwrap();
    house.write();
    house.roll_back();
    house.is_home();
    house.up();
    house.is_soaking();
    house.roll_back();
    house.is_home();
}

#[test]
fn sqlite_goes_there_and_back_twice() {
    there_and_back(Kind::Sqlite);
}

#[test]
fn postgres_goes_there_and_back_twice() {
    there_and_back(Kind::Postgres);
}

fn held(kind: Kind) {
    let mut house = House::new(kind);
    let ready = UpOptions { until: Until::Ready, ..UpOptions::default() };
    house.project().up(&ready).unwrap();
    assert_eq!(house.phase(), Some(Phase::Ready));
    house.write();
    house.project().abort().unwrap();
    house.is_home();
    house.project().up(&ready).unwrap();
    house.write();
    house.project().cutover().unwrap();
    house.is_soaking();
    house.project().complete(false).unwrap();
    house.is_completed();
}

#[test]
fn sqlite_is_held_thrown_away_and_completed() {
    held(Kind::Sqlite);
}

#[test]
fn postgres_is_held_thrown_away_and_completed() {
    held(Kind::Postgres);
}

/// `complete` takes a while where the resting tables are large, and may be stopped in it.
fn completed_in_two_goes(kind: Kind) {
    let mut house = House::new(kind);
    house.up();
    house.write();
    let stop = Arc::new(AtomicBool::new(true));
    house.project().stopped_by(stop).complete(false).unwrap_err();
    let status = house.project().status().unwrap().unwrap();
    assert_eq!((house.phase(), status.live.as_str()), (Some(Phase::Completing), "target"));
    house.write();
    house.project().rollback(&RollbackOptions::default()).unwrap_err();
    house.project().complete(false).unwrap();
    house.is_completed();
}

#[test]
fn sqlite_is_completed_in_two_goes() {
    completed_in_two_goes(Kind::Sqlite);
}

#[test]
fn postgres_is_completed_in_two_goes() {
    completed_in_two_goes(Kind::Postgres);
}

fn emergency(kind: Kind) {
    let mut house = House::new(kind);
    house.up();
    house.write();
    let out = house.project().rollback(&RollbackOptions { emergency: true, ..RollbackOptions::default() }).unwrap();
    assert_eq!(out.phase, Some(Phase::RolledBack), "{out:?}");
    house.is_home();
}

#[test]
fn sqlite_comes_back_in_an_emergency() {
    emergency(Kind::Sqlite);
}

#[test]
fn postgres_comes_back_in_an_emergency() {
    emergency(Kind::Postgres);
}
