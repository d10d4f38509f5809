//! Up and down, how far, and what is refused before the first step.

use backout::migrate::{RollbackOptions, UpOptions};
use backout::plan::Kind;

use crate::project::{BOTH, Place};

/// Three revisions, each a table.
fn three(place: &Place) {
    for (stamp, table) in [("20250101000000", "a"), ("20250102000000", "b"), ("20250103000000", "c")] {
        let (up, down) =
            (format!("CREATE TABLE {table} (id integer PRIMARY KEY, t text);"), format!("DROP TABLE {table};"));
        place.revision(stamp, &format!("make_{table}"), &up, &down);
    }
}

#[test]
fn up_and_down_by_every_goal() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        assert_eq!(place.up("+1").revisions.len(), 1);
        assert_eq!(place.tables(), ["a"]);
        assert_eq!(place.up("20250102").revisions.len(), 1, "the beginning of a stamp");
        assert_eq!(place.tables(), ["a", "b"]);
        assert_eq!(place.up("head").revisions.len(), 1);
        assert_eq!(place.applied(), ["20250101000000", "20250102000000", "20250103000000"]);
        assert!(place.up("head").nothing);
        place.back("-1");
        assert_eq!(place.tables(), ["a", "b"]);
        place.back("make_a");
        assert_eq!(place.tables(), ["a"], "the named one stays");
        place.up("make_c");
        place.back("-2");
        assert_eq!(place.tables(), ["a"]);
        place.up("head");
        place.back("base");
        assert_eq!(place.tables(), [""; 0]);
        assert!(place.applied().is_empty());
        assert!(place.back("base").nothing);
    }
}

#[test]
fn a_failing_statement_leaves_nothing_and_holds_the_others() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision("1", "one", "CREATE TABLE a (id integer);", "DROP TABLE a;");
        place.revision(
            "2",
            "two",
            "CREATE TABLE b (id integer);\nINSERT INTO b VALUES (1), (nonsense);",
            "DROP TABLE b;",
        );
        place.revision("3", "three", "CREATE TABLE c (id integer);", "DROP TABLE c;");
        let up = |acknowledge| place.quick().up(&UpOptions { acknowledge, ..UpOptions::default() });
        let failed = up(false).unwrap_err();
        assert_eq!(failed.exit, 1);
        assert!(failed.to_string().contains("2_two.sql:3"), "{failed}");
        assert_eq!(place.tables(), ["a"]);
        place.revision("2", "two", "CREATE TABLE b (id integer);", "DROP TABLE b;");
        assert_eq!(up(false).unwrap_err().exit, 4, "held until it is acknowledged (M20)");
        assert_eq!(place.tables(), ["a"]);
        up(true).unwrap();
        assert_eq!(place.tables(), ["a", "b", "c"]);
        // a rollback by hand holds nothing
        place.back("-1");
        place.up("head");
    }
}

#[test]
fn f_the_whole_way_back_is_checked_before_its_first_step() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        place.revision("20250102000000", "make_b", "CREATE TABLE b (id integer);", "irreversible: nobody knows");
        place.up("head");
        let refused = place.try_back("-3").unwrap_err();
        assert_eq!(refused.exit, 4);
        assert!(refused.to_string().contains("nobody knows"));
        assert_eq!(place.tables(), ["a", "b", "c"], "not even the newest one was taken back");
        place.back("-1");
        assert_eq!(place.try_back("-5").unwrap_err().exit, 4);
    }
}

#[test]
fn f_the_down_is_frozen_when_the_up_runs() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        place.up("head");
        // an older checkout: the files are gone
        for name in ["20250102000000_make_b.sql", "20250103000000_make_c.sql"] {
            std::fs::remove_file(place.folder.path().join("migrations").join(name)).unwrap();
        }
        assert_eq!(place.applied().len(), 3, "the history still knows them");
        place.back("-2");
        assert_eq!(place.tables(), ["a"]);
        // and all of them
        std::fs::remove_file(place.folder.path().join("migrations/20250101000000_make_a.sql")).unwrap();
        place.back("base");
        assert_eq!(place.tables(), [""; 0]);
    }
}

#[test]
fn an_edited_file_is_shown_and_refused_but_for_the_frozen_down() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        place.up("head");
        place.revision(
            "20250103000000",
            "make_c",
            "CREATE TABLE c (id integer PRIMARY KEY, t text);",
            "DROP TABLE c_typo;",
        );
        let refused = place.try_back("-1").unwrap_err();
        assert_eq!(refused.exit, 4);
        assert!(refused.to_string().contains("+ DROP TABLE c_typo"), "{refused}");
        let asked = RollbackOptions { frozen: true, ..RollbackOptions::default() };
        place.project().rollback(&asked).unwrap();
        assert_eq!(place.tables(), ["a", "b"]);
    }
}

#[test]
fn an_out_of_order_file_is_refused_or_runs_as_the_newest() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        place.up("head");
        place.revision("20250102120000", "late", "CREATE TABLE late (id integer);", "DROP TABLE late;");
        let refused = place.try_up("head").unwrap_err();
        assert_eq!(refused.exit, 4);
        assert!(refused.to_string().contains("20250103000000"), "{refused}");
        place.project().up(&UpOptions { out_of_order: true, ..UpOptions::default() }).unwrap();
        place.back("-1");
        assert_eq!(place.tables(), ["a", "b", "c"], "what was applied last goes back first");
    }
}

#[test]
fn stamp_records_and_runs_nothing() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        place.sql("CREATE TABLE a (id integer PRIMARY KEY, t text); CREATE TABLE b (id integer PRIMARY KEY, t text)");
        place.project().stamp("make_b").unwrap();
        assert_eq!(place.applied(), ["20250101000000", "20250102000000"]);
        place.up("head");
        assert_eq!(place.tables(), ["a", "b", "c"]);
        place.back("base");
        assert_eq!(place.tables(), [""; 0], "by the downs that were frozen by the stamp");
        place.project().stamp("head").unwrap();
        place.project().stamp("base").unwrap();
        assert!(place.applied().is_empty());
    }
}

#[test]
fn statements_without_a_transaction_run_one_by_one() {
    let place = Place::new(Kind::Postgres);
    place.revision("1", "a", "CREATE TABLE a (id integer, t text);", "DROP TABLE a;");
    place.file(
        "2_index.sql",
        "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY a_t ON a (t);\nCREATE INDEX CONCURRENTLY a_id ON a (id);\n\
         -- migrate:down transaction:false\nDROP INDEX CONCURRENTLY a_t;\nDROP INDEX CONCURRENTLY a_id;\n",
    );
    place.up("head");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'a'";
    assert_eq!(place.ask(indexes), "2");
    place.back("-1");
    assert_eq!(place.ask(indexes), "0");
}

#[test]
fn a_script_says_what_would_run_and_records_it() {
    for kind in BOTH {
        let place = Place::new(kind);
        three(&place);
        let script = place.project().script("base:head", false).unwrap();
        assert_eq!(place.tables(), [""; 0], "nothing ran");
        place.sql(&script);
        assert_eq!(place.tables(), ["a", "b", "c"]);
        assert_eq!(place.applied().len(), 3, "the script recorded them");
        assert!(place.up("head").nothing);
        let back = place.project().script("head:make_a", true).unwrap();
        place.sql(&back);
        assert_eq!(place.tables(), ["a"]);
        assert_eq!(place.applied(), ["20250101000000"]);
    }
}

#[test]
fn every_finding_is_in_the_reference() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/revisions.md")).unwrap();
    for (code, what) in backout::revision::lint::CODES {
        assert!(page.contains(&format!("| {code} | {what} |")), "docs/revisions.md lacks {code}");
    }
}

#[test]
fn a_gap_is_no_matter_and_a_history_that_names_a_missing_file_says_so() {
    for kind in BOTH {
        let place = Place::bare(kind);
        for n in [1, 2, 7] {
            place.revision(
                &n.to_string(),
                "t",
                &format!("CREATE TABLE t{n} (id integer);"),
                &format!("DROP TABLE t{n};"),
            );
        }
        place.quick().up(&UpOptions::default()).unwrap();
        std::fs::remove_file(place.folder.path().join("migrations/2_t.sql")).unwrap();
        let list = place.project().list().unwrap();
        assert_eq!(list.iter().map(|m| m.migration.as_str()).collect::<Vec<_>>(), ["1", "2", "7"]);
        assert!(list[1].state.contains("its file is missing"), "{}", list[1].state);
        assert!(place.up("head").nothing);
    }
}

#[test]
fn f_crlf_and_a_byte_order_mark_change_nothing() {
    for kind in BOTH {
        let place = Place::bare(kind);
        let text = "-- migrate:up\nCREATE TABLE t (id integer);\n-- migrate:down\nDROP TABLE t;\n";
        place.file("1_t.sql", text);
        place.quick().up(&UpOptions::default()).unwrap();
        place.file("1_t.sql", &format!("\u{feff}{}", text.replace('\n', "\r\n")));
        assert!(place.project().list().unwrap()[0].edited.is_none());
        place.back("-1");
    }
}

#[test]
fn what_would_be_a_parameter_is_refused() {
    for spelled in ["?", "?1", ":name", "@name", "$name"] {
        let place = Place::bare(Kind::Sqlite);
        place.revision(
            "1",
            "t",
            &format!("CREATE TABLE t (x text);\nINSERT INTO t VALUES ({spelled});"),
            "DROP TABLE t;",
        );
        let e = place.quick().up(&UpOptions::default()).unwrap_err();
        assert!(e.to_string().contains("is a parameter"), "{spelled}: {e}");
        assert_eq!(place.tables(), [""; 0]);
    }
}

#[test]
fn f_a_bare_rollback_takes_back_one_and_an_empty_down_is_never_taken_for_one() {
    for kind in BOTH {
        let place = Place::bare(kind);
        for n in [1, 2] {
            place.revision(
                &n.to_string(),
                "t",
                &format!("CREATE TABLE t{n} (id integer);"),
                &format!("DROP TABLE t{n};"),
            );
        }
        place.quick().up(&UpOptions::default()).unwrap();
        place.quick().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!(place.tables(), ["t1"]);
        for down in ["", "-- migrate:down\n", "-- migrate:down\n-- nothing to see\n"] {
            place.file("3_t.sql", &format!("-- migrate:up\nCREATE TABLE t3 (id integer);\n{down}"));
            let refused = place.project().list().err().unwrap_or_else(|| panic!("{down:?} was taken for a down"));
            assert_eq!(refused.exit, 2, "{refused}");
        }
        assert_eq!(place.tables(), ["t1"]);
    }
}

#[test]
fn f_whoever_waits_for_the_lock_does_not_hold_up_concurrently() {
    use std::sync::{Arc, Barrier};
    let place = Place::bare(Kind::Postgres);
    place.revision("1", "a", "CREATE TABLE a (id integer, t text);", "DROP TABLE a;");
    place.file(
        "2_index.sql",
        "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY a_t ON a (t);\n\
         -- migrate:down transaction:false\nDROP INDEX CONCURRENTLY a_t;\n",
    );
    let both = Arc::new(Barrier::new(2));
    let there = both.clone();
    // the first one is about to build the index
    let gate = backout::gate::Gate::watched(move |what| {
        if what == "a statement" {
            there.wait();
        }
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| place.quick().gated(gate).up(&UpOptions::default()));
        let second = scope.spawn(|| {
            let wait = std::time::Duration::from_secs(60);
            let options = backout::migrate::Options { verify: false, wait, ..Default::default() };
            let project = place.project().with(options);
            both.wait();
            project.stamp("head")
        });
        first.join().unwrap().unwrap();
        assert!(second.join().unwrap().unwrap().nothing, "all was applied when its turn came");
    });
    assert_eq!(place.applied(), ["1", "2"]);
}

#[test]
fn an_up_of_nothing_but_comments_is_applied_and_taken_back() {
    for kind in BOTH {
        for option in ["", " transaction:false"] {
            let place = Place::bare(kind);
            place.file(
                "1_t.sql",
                &format!("-- migrate:up{option}\n-- done by hand in March\n-- migrate:down nothing\n"),
            );
            place.quick().up(&UpOptions::default()).unwrap();
            assert_eq!(place.applied(), ["1"]);
            place.back("-1");
            assert!(place.applied().is_empty());
        }
    }
}
