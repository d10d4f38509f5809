//! What stopped between two statements, and what brings it out: the file mended, `resume`, `rollback`, `stamp`.

use backout::migrate::{RollbackOptions, UpOptions};
use backout::plan::Kind;

use crate::project::{BOTH, Place};

fn alone(up: &str, down: &str) -> String {
    format!("-- migrate:up transaction:false\n{up}\n-- migrate:down transaction:false\n{down}\n")
}

#[test]
fn a_statement_that_failed_is_mended_in_its_file() {
    for kind in BOTH {
        for resumes in [true, false] {
            let place = Place::bare(kind);
            let (a, b) = ("CREATE TABLE a (id integer PRIMARY KEY);", "CREATE TABLE b (id integer PRIMARY KEY);");
            let down = "DROP TABLE b;\nDROP TABLE a;";
            place.file("1_two.sql", &alone(&format!("{a}\nCREATE TABEL b (id integer);"), down));
            let failed = place.quick().up(&UpOptions::default()).unwrap_err();
            assert_eq!(failed.exit, 7, "{failed}");
            assert!(failed.to_string().contains("1_two.sql:3"), "{failed}");
            assert_eq!(place.tables(), ["a"]);
            // as it is it fails again, and a further up is refused
            assert_eq!(place.quick().resume(None).unwrap_err().exit, 7);
            assert_eq!(place.quick().up(&UpOptions::default()).unwrap_err().exit, 4);
            place.file("1_two.sql", &alone(&format!("{a}\n{b}"), down));
            if resumes {
                place.quick().resume(None).unwrap();
                assert_eq!(place.tables(), ["a", "b"], "{kind:?}");
                assert_eq!(place.applied(), ["1"]);
            }
            place.quick().rollback(&RollbackOptions::default()).unwrap();
            assert_eq!(place.tables(), [""; 0], "{kind:?}");
            assert!(place.applied().is_empty());
        }
    }
}

#[test]
fn a_down_that_failed_is_mended_in_its_file() {
    for kind in BOTH {
        let place = Place::bare(kind);
        let up = "CREATE TABLE a (id integer PRIMARY KEY);\nCREATE TABLE b (id integer PRIMARY KEY);";
        place.file("1_two.sql", &alone(up, "DROP TABLE b;\nDROP TABEL a;"));
        place.quick().up(&UpOptions::default()).unwrap();
        let failed = place.quick().rollback(&RollbackOptions::default()).unwrap_err();
        assert_eq!(failed.exit, 8, "{failed}");
        assert_eq!(place.tables(), ["a"]);
        assert_eq!(place.quick().up(&UpOptions::default()).unwrap_err().exit, 4);
        place.file("1_two.sql", &alone(up, "DROP TABLE b;\nDROP TABLE a;"));
        place.quick().resume(None).unwrap();
        assert_eq!(place.tables(), [""; 0], "{kind:?}");
        assert!(place.applied().is_empty());
    }
}

#[test]
fn a_file_whose_beginning_was_edited_goes_on_as_it_began() {
    for kind in BOTH {
        let place = Place::bare(kind);
        place.sql("CREATE TABLE late (id integer)");
        let two = "CREATE TABLE a (id integer);\nCREATE TABLE late (id integer);";
        place.file("1_two.sql", &alone(two, "DROP TABLE late;\nDROP TABLE a;"));
        place.quick().up(&UpOptions::default()).unwrap_err();
        place.file("1_two.sql", &alone("CREATE TABLE c (id integer);", "DROP TABLE c;"));
        place.sql("DROP TABLE late");
        place.quick().resume(None).unwrap();
        assert_eq!(place.tables(), ["a", "late"], "{kind:?}");
        let asked = RollbackOptions { frozen: true, ..RollbackOptions::default() };
        place.quick().rollback(&asked).unwrap();
        assert_eq!(place.tables(), [""; 0], "{kind:?}");
    }
}

#[test]
fn a_stamp_ends_what_is_half_way() {
    for kind in BOTH {
        let place = Place::bare(kind);
        place.file("1_two.sql", &alone("CREATE TABLE a (id integer);\nCREATE TABEL b (id integer);", "DROP TABLE a;"));
        place.quick().up(&UpOptions::default()).unwrap_err();
        place.project().stamp("head").unwrap();
        assert_eq!(place.applied(), ["1"]);
        place.quick().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!(place.tables(), [""; 0]);
    }
}

#[test]
fn an_application_that_writes_all_the_while() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    let place = Place::new(Kind::Sqlite);
    place.sql("PRAGMA journal_mode = WAL; CREATE TABLE t (id integer PRIMARY KEY, x text); CREATE TABLE w (id integer PRIMARY KEY)");
    place.sql("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT i, 'x' || i FROM n");
    place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let conn = place.sqlite();
            conn.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
            while !stop.load(SeqCst) {
                conn.execute("INSERT INTO w DEFAULT VALUES", []).unwrap();
                written.fetch_add(1, SeqCst);
            }
        });
        for _ in 0..3 {
            place.up("head");
            place.back("-1");
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(place.ask("SELECT count(*) FROM t WHERE x = 'x' || id"), "5000");
    assert_eq!(place.ask("SELECT count(*) FROM w"), written.load(SeqCst).to_string());
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    use backout::gate::Gate;
    for kind in BOTH {
        for strikes in [1, 2, 3, 4] {
            let place = Place::bare(kind);
            place.revision("1", "a", "CREATE TABLE a (id integer PRIMARY KEY);", "DROP TABLE a;");
            let (gate, done) = (Gate::losing(strikes, |_| {}), |place: &Place| place.applied() == ["1"]);
            if let Err(e) = place.quick().gated(gate).up(&UpOptions::default()) {
                assert_eq!(done(&place), e.state.contains("is applied"), "{kind:?} {strikes}: {}", e.state);
            }
            place.quick().up(&UpOptions::default()).unwrap();
            let gate = Gate::losing(strikes, |_| {});
            if let Err(e) = place.quick().gated(gate).rollback(&RollbackOptions::default()) {
                assert_eq!(done(&place), e.state.contains("is applied"), "{kind:?} {strikes}: {}", e.state);
            }
        }
    }
}

/// Raises a flag as soon as the third revision's turn has come.
struct Raises(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl backout::migrate::Observer for Raises {
    fn event(&self, event: backout::migrate::Event) {
        if matches!(event, backout::migrate::Event::Note(text) if text.starts_with("applying 3")) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
}

#[test]
fn told_to_stop_between_revisions() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    for kind in BOTH {
        let place = Place::bare(kind);
        for n in 1..4 {
            place.revision(
                &n.to_string(),
                "t",
                &format!("CREATE TABLE t{n} (id integer);"),
                &format!("DROP TABLE t{n};"),
            );
        }
        let stop = Arc::new(AtomicBool::new(false));
        let raise = stop.clone();
        // two may be committed together, so that the effects do not tell when the second is done
        let heard = Arc::new(Raises(raise));
        let stopped = place.quick().observed(heard).stopped_by(stop).up(&UpOptions::default()).unwrap_err();
        assert!(stopped.state.contains("2 revisions"), "{}", stopped.state);
        assert!(stopped.hint.contains("backout up"), "{}", stopped.hint);
        assert_eq!(place.applied(), ["1", "2"]);
        place.quick().up(&UpOptions::default()).unwrap();
        assert_eq!(place.applied(), ["1", "2", "3"]);
    }
}

#[test]
fn a_file_of_sqlite_that_does_not_exist_yet() {
    let place = Place::new(Kind::Sqlite);
    let path = place.folder.path().join("app.db");
    std::fs::remove_file(&path).unwrap();
    place.revision("1", "a", "CREATE TABLE a (id integer PRIMARY KEY);", "DROP TABLE a;");
    place.project().check().unwrap();
    assert!(!path.exists(), "a proof makes nothing");
    place.up("head");
    assert_eq!(place.tables(), ["a"]);
}
