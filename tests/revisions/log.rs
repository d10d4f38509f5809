//! What `migration_log` tells anyone of revisions.

use backout::migrate::{RollbackOptions, UpOptions};
use backout::plan::Kind;

use crate::project::{BOTH, Place};

/// What the view says, in order.
fn told(place: &Place) -> Vec<String> {
    let view = if place.kind == Kind::Sqlite { "migration_log" } else { "backout.migration_log" };
    place.list(&format!("SELECT coalesce(direction, '-') || ' ' || migration || ' ' || outcome FROM {view}"))
}

fn note(place: &Place, outcome: &str) -> String {
    let view = if place.kind == Kind::Sqlite { "migration_log" } else { "backout.migration_log" };
    place.ask(&format!("SELECT note FROM {view} WHERE outcome = '{outcome}'"))
}

#[test]
fn m12_the_log_tells_what_became_of_each_revision() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision("1", "one", "CREATE TABLE a (id integer PRIMARY KEY, x text);", "DROP TABLE a;");
        place.revision(
            "2",
            "two",
            "ALTER TABLE a DROP COLUMN x;\nSELECT nonsense;",
            "ALTER TABLE a ADD COLUMN x text;",
        );
        place.quick().up(&UpOptions::default()).unwrap_err();
        assert_eq!(told(&place), ["up 1 applied", "up 2 failed"], "{kind:?}");
        assert!(note(&place, "failed").contains("nonsense"), "{kind:?}");
        place.revision("2", "two", "ALTER TABLE a DROP COLUMN x;", "ALTER TABLE a ADD COLUMN x text;");
        place.project().up(&UpOptions { acknowledge: true, ..UpOptions::default() }).unwrap();
        // something stands in its way
        place.sql("ALTER TABLE a ADD COLUMN x text");
        place.try_back("-1").unwrap_err();
        place.sql("ALTER TABLE a DROP COLUMN x");
        place.back("base");
        place.project().stamp("1").unwrap();
        place.project().stamp("base").unwrap();
        let all = [
            "up 1 applied",
            "up 2 failed",
            "- 2 acknowledged",
            "up 2 applied",
            "down 2 rollback failed",
            "down 2 rolled back",
            "down 1 rolled back",
            "up 1 stamped",
            "down 1 unstamped",
        ];
        assert_eq!(told(&place), all, "{kind:?}");
        assert!(place.project().history().unwrap().lines.is_empty(), "they are no runs");
        let late = if kind == Kind::Sqlite { "migration_log" } else { "backout.migration_log" };
        let timed = format!("SELECT count(*) FROM {late} WHERE ended_at >= started_at AND started_at > '2026'");
        assert_eq!(place.ask(&timed), "9", "{kind:?}");
        if kind == Kind::Postgres {
            let anyone = "SELECT has_table_privilege('public', 'backout.migration_log', 'SELECT') \
                AND has_schema_privilege('public', 'backout', 'USAGE')";
            assert_eq!(place.ask(anyone), "t");
        }
    }
}

#[test]
fn m12_the_log_tells_of_statements_without_a_transaction_and_of_scripts() {
    for kind in BOTH {
        let place = Place::bare(kind);
        let alone = |second: &str| {
            format!(
                "-- migrate:up transaction:false\nCREATE TABLE a (id integer);\n{second}\n\
                 -- migrate:down transaction:false\nDROP TABLE b;\nDROP TABLE a;\n"
            )
        };
        place.file("1_one.sql", &alone("CREATE TABEL b (id integer);"));
        place.quick().up(&UpOptions::default()).unwrap_err();
        assert!(note(&place, "failed").starts_with("half-way, after statement 1: "), "{}", note(&place, "failed"));
        place.file("1_one.sql", &alone("CREATE TABLE b (id integer);"));
        place.quick().resume(None).unwrap();
        place.back("-1");
        let so_far = ["up 1 failed", "up 1 applied", "down 1 rolled back"];
        assert_eq!(told(&place), so_far, "{kind:?}");
        let script = |down| place.project().script(if down { "head:base" } else { "base:head" }, down).unwrap();
        place.sql(&script(false));
        place.sql(&script(true));
        assert_eq!(told(&place)[3..], ["up 1 applied", "down 1 rolled back"], "{kind:?}");
    }
}

#[test]
fn somebody_elses_table_of_that_name_stays_as_it_is() {
    let place = Place::bare(Kind::Sqlite);
    place.sql("CREATE TABLE migration_log (mine text)");
    place.revision("1", "one", "CREATE TABLE a (id integer PRIMARY KEY);", "DROP TABLE a;");
    place.quick().up(&UpOptions::default()).unwrap();
    let script = place.project().script("head:base", true).unwrap();
    place.sql(&script);
    assert_eq!(place.list("SELECT mine FROM migration_log"), [""; 0]);
    assert_eq!(place.list("SELECT outcome FROM backout_history"), ["applied", "rolled back"]);
}

#[test]
fn m12_a_source_keeps_the_log_of_its_revisions_when_a_run_went_back_to_it() {
    let place = Place::bare(Kind::Sqlite);
    std::fs::write(
        place.folder.path().join("backout.toml"),
        "[project]\ndefault_store = \"main\"\n[stores]\nmain = \"sqlite:app.db\"\nother = \"sqlite:other.db\"\n",
    )
    .unwrap();
    place.revision("20250101000000", "one", "CREATE TABLE a (id integer PRIMARY KEY, x text);", "DROP TABLE a;");
    place.file("20250102000000_moves.toml", "title = \"It moves\"\n[transfer]\nfrom = \"main\"\nto = \"other\"\n");
    place.quick().up(&UpOptions::default()).unwrap();
    place.quick().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(told(&place), ["up 20250101000000 applied", "down 20250102000000 rolled back"]);
}
