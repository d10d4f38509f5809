//! What goes wrong by other hands while a change in place soaks: each is a clear answer, and leads on.

use std::collections::BTreeSet;

use backout::migrate::{RollbackOptions, Until, UpOptions};
use backout::store::Phase;

use super::house::House;
use crate::room::Kind;

fn resting(house: &House, table: &str) -> String {
    if house.kind == Kind::Postgres {
        format!("migration_backup.{table}")
    } else {
        format!("migration_backup__{table}")
    }
}

fn failure(house: &House, emergency: bool) -> (u8, String) {
    let asked = RollbackOptions { emergency, ..RollbackOptions::default() };
    let e = house.project().rollback(&asked).unwrap_err();
    println!("{}: {}\n{}\n{}", e.exit, e.error, e.state, e.hint);
    (e.exit, format!("{} {} {}", e.error, e.state, e.hint))
}

fn backup_missing(kind: Kind) {
    let mut house = House::new(kind);
    house.up();
    let (notes, people) = (resting(&house, "notes"), resting(&house, "people"));
    let all = if kind == Kind::Postgres { " CASCADE" } else { "" };
    house.sql(&format!("DROP TABLE {notes}{all}; DROP TABLE {people}{all}")).unwrap();
    house.write();
    for emergency in [false, true] {
        let (exit, said) = failure(&house, emergency);
        assert!(said.contains("people") && said.contains("notes") && said.contains("backout complete"), "{said}");
        assert_eq!((exit, house.phase()), (4, Some(Phase::Soaking)));
    }
    // the application goes on where it is, and the window can be closed
    house.write();
    house.project().complete(false).unwrap();
    house.is_completed();
}

#[test]
fn sqlite_the_resting_tables_are_gone() {
    backup_missing(Kind::Sqlite);
}

#[test]
fn postgres_the_resting_tables_are_gone() {
    backup_missing(Kind::Postgres);
}

fn changed_by_hand(kind: Kind) {
    let mut house = House::new(kind);
    house.up();
    house.write();
    house.project().shadow().unwrap();
    house.sql("ALTER TABLE people ADD COLUMN shoe integer").unwrap();
    house.write();
    let (exit, said) = failure(&house, false);
    assert_eq!(exit, 4, "{said}");
    assert!(said.contains("people") && said.contains("changed"), "{said}");
    assert_eq!(house.phase(), Some(Phase::Soaking));
    house.sql("ALTER TABLE people DROP COLUMN shoe").unwrap();
    house.write();
    house.roll_back();
    house.is_home();
}

#[test]
fn sqlite_a_table_was_changed_by_hand() {
    changed_by_hand(Kind::Sqlite);
}

#[test]
fn postgres_a_table_was_changed_by_hand() {
    changed_by_hand(Kind::Postgres);
}

/// What cannot be read any more is left out, and said; the application is where it was before, as of the last drain.
fn changed_by_hand_in_an_emergency(kind: Kind, give_up: bool) {
    let mut house = House::new(kind);
    house.up();
    house.write();
    house.project().shadow().unwrap();
    let carried = house.ledger();
    house.sql("ALTER TABLE people ADD COLUMN shoe integer").unwrap();
    (0..4).for_each(|_| house.write());
    let asked = RollbackOptions { emergency: true, ..RollbackOptions::default() };
    let out = house.project().rollback(&asked).unwrap();
    assert_eq!(out.phase, Some(Phase::Outstanding));
    assert!(out.notes.iter().any(|n| n.contains("not carried")), "{:?}", out.notes);
    assert!(!house.is_new_shape());
    let written = house.ledger();
    house.forget_since(&carried);
    house.write();
    if give_up {
        house.project().salvage(true).unwrap();
        return house.is_home();
    }
    let out = house.project().salvage(false).unwrap();
    assert_eq!(out.phase, Some(Phase::RolledBack));
    // what only the target changed is there; what both sides may have changed is as here, and told, as is what the target deleted
    let mut all = house.ledger();
    let here: Vec<_> = all.keys().chain(carried.keys()).filter(|k| carried.get(*k) != all.get(*k)).cloned().collect();
    let there = written.iter().filter(|(k, v)| carried.get(*k) != Some(*v) && !here.contains(k));
    all.extend(there.map(|(k, v)| (k.clone(), v.clone())));
    let gone = carried.keys().filter(|k| !written.contains_key(*k) && !here.contains(k));
    let told: BTreeSet<_> = here.iter().filter(|k| carried.contains_key(*k)).chain(gone.clone()).collect();
    assert!(gone.count() > 0 && told.len() > 1);
    assert_eq!(out.parked.len(), told.len(), "{told:?}: {:?}", out.parked);
    house.forget_since(&all);
    house.is_home();
}

#[test]
fn sqlite_a_table_was_changed_by_hand_in_an_emergency() {
    for give_up in [true, false] {
        changed_by_hand_in_an_emergency(Kind::Sqlite, give_up);
    }
}

#[test]
fn postgres_a_table_was_changed_by_hand_in_an_emergency() {
    for give_up in [true, false] {
        changed_by_hand_in_an_emergency(Kind::Postgres, give_up);
    }
}

/// What was put on a table after the plan would be on the resting one alone.
fn an_index_that_came_later(kind: Kind) {
    let mut house = House::new(kind);
    house.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
    house.sql("CREATE INDEX by_fax ON people (fax)").unwrap();
    let e = house.project().cutover().unwrap_err();
    assert_eq!(e.exit, 6, "{}", e.error);
    assert!(e.error.to_string().contains("index by_fax on people was not so"), "{}", e.error);
    assert_eq!(house.phase(), Some(Phase::Ready));
    assert_eq!(house.project().up(&UpOptions::default()).unwrap_err().exit, 4, "held until it is acknowledged (M20)");
    house.write();
    house.sql("DROP INDEX by_fax").unwrap();
    house.project().cutover().unwrap();
    house.is_soaking();
    house.roll_back();
    house.is_home();
}

#[test]
fn sqlite_an_index_came_after_the_plan() {
    an_index_that_came_later(Kind::Sqlite);
}

#[test]
fn postgres_an_index_came_after_the_plan() {
    an_index_that_came_later(Kind::Postgres);
}

/// A live table is dropped: the source comes home without it.
fn a_live_table_is_gone(kind: Kind) {
    let mut house = House::new(kind);
    if kind == Kind::Postgres {
        house.sql("CREATE PUBLICATION news FOR TABLE people").unwrap();
    }
    house.up();
    house.write();
    house.project().shadow().unwrap();
    house.sql("DROP TABLE notes").unwrap();
    let asked = RollbackOptions { emergency: true, ..RollbackOptions::default() };
    let out = house.project().rollback(&asked).unwrap();
    assert_eq!(out.phase, Some(Phase::Outstanding));
    assert!(!house.is_new_shape());
    house.write();
    if kind == Kind::Postgres {
        let published = "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'news'";
        assert_eq!(house.rows(published), [["public.people"]]);
    }
    house.project().salvage(true).unwrap();
    house.is_home();
}

#[test]
fn sqlite_a_live_table_is_gone_in_an_emergency() {
    a_live_table_is_gone(Kind::Sqlite);
}

#[test]
fn postgres_a_live_table_is_gone_in_an_emergency() {
    a_live_table_is_gone(Kind::Postgres);
}
