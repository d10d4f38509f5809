//! Cut off at every effect: `resume` and `rollback` end clean. Two runs at once: one waits, or is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use backout::gate::Gate;
use backout::migrate::{Failure, Options, Outcome, RollbackOptions, UpOptions};
use backout::plan::Kind;

use crate::project::{BOTH, Place};

/// What happens at the chosen effect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Strike {
    Fails,
    Dies,
    AnswerIsLost,
}

/// A revision in one transaction, one that runs statement by statement, one with a script's own transaction in it.
fn place(kind: Kind) -> Place {
    let place = Place::bare(kind);
    place.revision(
        "1",
        "a",
        "CREATE TABLE a (id integer PRIMARY KEY, t text);\nINSERT INTO a VALUES (1, 'x');",
        "DROP TABLE a;",
    );
    let (index, drop) = match kind {
        Kind::Sqlite => ("CREATE INDEX", "DROP INDEX"),
        _ => ("CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY"),
    };
    place.file(
        "2_index.sql",
        &format!(
            "-- migrate:up transaction:false\n{index} a_t ON a (t);\nBEGIN;\nCREATE TABLE b (id integer PRIMARY KEY);\n\
             INSERT INTO b VALUES (7);\nCOMMIT;\n{index} a_id ON a (id, t);\n\
             -- migrate:down transaction:false\n{drop} a_id;\nDROP TABLE b;\n{drop} a_t;\n"
        ),
    );
    place.revision("3", "c", "CREATE TABLE c (id integer PRIMARY KEY);", "DROP TABLE c;");
    place
}

fn schema(place: &Place) -> Vec<String> {
    let mut all = place.tables();
    all.extend(place.list(match place.kind {
        Kind::Sqlite => {
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'a\\_%' ESCAPE '\\' ORDER BY 1"
        }
        _ => {
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname LIKE 'a\\_%' \
             AND NOT indisprimary AND indisvalid ORDER BY 1"
        }
    }));
    all
}

fn strike(strike: Strike, n: u64, run: impl FnOnce(&Gate) -> Result<Outcome, Failure>) -> bool {
    let (hit, seen) =
        (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let tell = hit.clone();
    let gate = match strike {
        Strike::AnswerIsLost => Gate::losing(n, move |_| tell.store(true, seen)),
        _ => Gate::with_trap(n, move |_| {
            tell.store(true, seen);
            if strike == Strike::Dies {
                std::panic::panic_any("dies");
            }
        }),
    };
    // what it answers is no matter: the database is asked
    let _ = catch_unwind(AssertUnwindSafe(|| run(&gate)));
    hit.load(seen)
}

/// A death is no failure of the test, and says nothing.
fn quiet() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"dies") {
            loud(info);
        }
    }));
}

fn quick(place: &Place, gate: &Gate) -> backout::migrate::Project {
    place.quick().gated(gate.clone())
}

#[test]
fn f_cut_off_at_every_effect_resume_and_rollback_end_clean() {
    quiet();
    for kind in BOTH {
        for how in [Strike::Fails, Strike::Dies, Strike::AnswerIsLost] {
            for resumes in [true, false] {
                let mut n = 1;
                loop {
                    let place = place(kind);
                    let up = UpOptions { acknowledge: true, ..UpOptions::default() };
                    let hit = strike(how, n, |gate| quick(&place, gate).up(&up));
                    if !hit {
                        break;
                    }
                    let at = format!("{kind:?} {how:?} at {n}");
                    if resumes {
                        place.quick().resume(None).unwrap_or_else(|e| panic!("{at}: {e}"));
                        place.quick().up(&up).unwrap_or_else(|e| panic!("{at}: {e}"));
                        assert_eq!(schema(&place), ["a", "b", "c", "a_id", "a_t"], "{at}");
                        assert_eq!(place.list("SELECT id FROM b"), ["7"], "{at}: once");
                        assert_eq!(place.applied(), ["1", "2", "3"], "{at}");
                    }
                    let to = RollbackOptions { to: Some("base".into()), ..RollbackOptions::default() };
                    place.quick().rollback(&to).unwrap_or_else(|e| panic!("{at}: back: {e}"));
                    assert_eq!(schema(&place), [""; 0], "{at}");
                    assert!(place.applied().is_empty(), "{at}");
                    n += 1;
                }
                assert!(n > 6, "{n} effects");
            }
        }
    }
}

#[test]
fn a_rollback_cut_off_at_every_effect_goes_on() {
    quiet();
    for kind in BOTH {
        for how in [Strike::Fails, Strike::Dies, Strike::AnswerIsLost] {
            let mut n = 1;
            loop {
                let place = place(kind);
                place.quick().up(&UpOptions::default()).unwrap();
                let base = RollbackOptions { to: Some("base".into()), ..RollbackOptions::default() };
                if !strike(how, n, |gate| quick(&place, gate).rollback(&base)) {
                    break;
                }
                let at = format!("{kind:?} {how:?} at {n}");
                place.quick().resume(None).unwrap_or_else(|e| panic!("{at}: {e}"));
                place.quick().rollback(&base).unwrap_or_else(|e| panic!("{at}: {e}"));
                assert_eq!(schema(&place), [""; 0], "{at}");
                n += 1;
            }
            assert!(n > 5, "{n} effects");
        }
    }
}

#[test]
fn two_runs_at_once_one_waits_or_is_refused() {
    for kind in BOTH {
        let place = place(kind);
        let (inside, go) =
            (std::sync::Arc::new(std::sync::Barrier::new(2)), std::sync::Arc::new(std::sync::Barrier::new(2)));
        let (in_there, go_there) = (inside.clone(), go.clone());
        let gate = Gate::between(move |what| {
            if what == "apply 1" {
                in_there.wait();
                go_there.wait();
            }
        });
        std::thread::scope(|scope| {
            let first = scope.spawn(|| quick(&place, &gate).up(&UpOptions::default()));
            inside.wait();
            let options = Options { verify: false, wait: Duration::from_millis(100), ..Options::default() };
            let second = place.project().with(options).up(&UpOptions::default()).unwrap_err();
            assert_eq!(second.exit, 5, "{second}");
            go.wait();
            // the gate asks before and after
            inside.wait();
            go.wait();
            first.join().unwrap().unwrap();
        });
        assert_eq!(place.applied(), ["1", "2", "3"]);
    }
}

/// Three tables, each by a revision of its own.
fn together() -> Place {
    let place = Place::bare(Kind::Sqlite);
    for (stamp, t) in [("1", "a"), ("2", "b"), ("3", "c")] {
        place.revision(stamp, t, &format!("CREATE TABLE {t} (id integer PRIMARY KEY);"), &format!("DROP TABLE {t};"));
    }
    place
}

/// What a failure says of those before the last one; `None` if it says that nothing was changed.
fn before_it(told: &str) -> Option<usize> {
    let words = told.split("; ").nth(1);
    let n = words.map_or(Some(0), |words| words.split(' ').next().and_then(|n| n.parse().ok()));
    n.filter(|_| !told.contains("nothing was changed"))
}

#[test]
fn revisions_that_are_committed_together_are_told_truly_wherever_it_is_cut_off() {
    quiet();
    let base = RollbackOptions { to: Some("base".into()), ..RollbackOptions::default() };
    for (how, down) in
        [Strike::Fails, Strike::Dies, Strike::AnswerIsLost].into_iter().flat_map(|how| [(how, false), (how, true)])
    {
        for n in 1.. {
            let place = together();
            if down {
                place.quick().up(&UpOptions::default()).unwrap();
            }
            let mut told = None;
            let hit = strike(how, n, |gate| {
                let project = quick(&place, gate);
                let done = if down { project.rollback(&base) } else { project.up(&UpOptions::default()) };
                told = done.as_ref().err().map(|failure| failure.state.clone());
                done
            });
            if !hit {
                assert!(n > 1);
                break;
            }
            let at = format!("{how:?} at {n}, down: {down}: {told:?}");
            let applied = place.applied();
            assert_eq!(place.tables().len(), applied.len(), "{at}");
            let there = !place.list("SELECT name FROM sqlite_schema WHERE name = 'migration_log'").is_empty();
            let lines = |outcome: &str| match there {
                true => place.list(&format!("SELECT migration FROM migration_log WHERE outcome = '{outcome}'")).len(),
                false => 0,
            };
            assert_eq!(lines("applied") - lines("rolled back"), applied.len(), "{at}");
            let done = if down { 3 - applied.len() } else { applied.len() };
            if let Some(before) = told.as_deref().and_then(before_it) {
                let same = told.as_ref().is_some_and(|told| told.contains("all the same"));
                assert_eq!(before, done - usize::from(same), "{at}");
            }
            let again = if down { place.quick().rollback(&base) } else { place.quick().up(&UpOptions::default()) };
            again.unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(place.tables().len(), if down { 0 } else { 3 }, "{at}");
        }
    }
}

#[test]
fn a_statement_that_takes_the_whole_transaction_back_takes_what_waited_for_it() {
    let place = Place::bare(Kind::Sqlite);
    place.revision("1", "a", "CREATE TABLE a (id integer PRIMARY KEY);", "DROP TABLE a;");
    let twice =
        "CREATE TABLE b (id integer PRIMARY KEY);\nINSERT INTO b VALUES (1);\nINSERT OR ROLLBACK INTO b VALUES (1);";
    place.revision("2", "b", twice, "DROP TABLE b;");
    let failed = place.quick().up(&UpOptions::default()).unwrap_err();
    assert_eq!((failed.exit, failed.state.contains("before it")), (1, !place.tables().is_empty()), "{}", failed.state);
    assert_eq!(place.tables().len(), place.applied().len());
    place.revision("2", "b", "CREATE TABLE b (id integer PRIMARY KEY);", "DROP TABLE b;");
    place.quick().up(&UpOptions { acknowledge: true, ..UpOptions::default() }).unwrap();
    assert_eq!(place.tables(), ["a", "b"]);
    place.back("base");
}
