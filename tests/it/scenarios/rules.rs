//! The rules of the flow: windows, parked rows, doubt, abort, what is told and where truth lives.

use backout::migrate::{Error, RollbackOptions, UpOptions};

use super::{Database, Home, ok, pg_rows, same, sqlite_dump, sqlite_ours, sqlite_rows, sqlite_schema, wait_until};

const STAMP: &str = "20250101000000";

/// A small shop in SQLite, to go to PostgreSQL.
fn shop(rest: &str) -> (Home, Database) {
    let server = Database::new();
    let home = Home::new(&[("local", "sqlite:shop.db"), ("main", &server.url)], rest);
    home.sqlite("shop.db")
        .execute_batch(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, born DATETIME, paid NUMERIC(10,2) CHECK (paid >= 0));
             CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL REFERENCES people (id), what TEXT);
             CREATE INDEX by_person ON orders (person);
             INSERT INTO people VALUES (1, 'Ann', '2000-01-01 00:00:00', 1.5), (2, 'Bo', NULL, NULL), (3, 'Cy', '1999-01-01 00:00:00', 3);
             INSERT INTO orders (person, what) VALUES (1, 'tea'), (1, 'salt'), (2, 'é');",
        )
        .unwrap();
    home.migration(
        &format!("{STAMP}_to_postgres"),
        "title = \"The shop moves\"\n[transfer]\nfrom = \"local\"\nto = \"main\"\n",
    );
    (home, server)
}

fn rollback(force: bool) -> RollbackOptions {
    RollbackOptions { force, ..RollbackOptions::default() }
}

#[test]
fn a_closed_window_wants_force() {
    let (home, server) = shop("[rollback]\nwindow = \"1s\"\n");
    home.up();
    server.client().batch_execute("INSERT INTO orders (person, what) VALUES (2, 'late')").unwrap();
    wait_until("the window closes", || ok(home.project().status()).unwrap().window_over);
    let refused = home.project().rollback(&rollback(false)).unwrap_err();
    assert_eq!((refused.exit, refused.code()), (4, "refused"), "{refused:?}");
    assert_eq!(home.phase().as_deref(), Some("soaking"), "a refusal changes nothing");
    // the end of the window deletes nothing (P27)
    ok(home.project().shadow());
    ok(home.project().rollback(&rollback(true)));
    assert_eq!(
        sqlite_rows(&home.sqlite("shop.db"), "SELECT person, what FROM orders WHERE id = 4"),
        ["int 2 | text late"]
    );
}

#[test]
fn ready_then_more_writes_then_cutover() {
    let (home, server) = shop("");
    let out = home.up_until_ready();
    assert_eq!(out.phase.unwrap().words(), "ready");
    let db = home.sqlite("shop.db");
    db.execute_batch("INSERT INTO orders (person, what) VALUES (3, 'after ready'); UPDATE people SET id = 30 WHERE id = 3 AND 0; DELETE FROM orders WHERE id = 1; UPDATE people SET name = 'Änn' WHERE id = 1").unwrap();
    // it is asked again, and stays
    assert!(home.up_until_ready().phase.unwrap().words() == "ready");
    // VACUUM renumbers what has no key of its own, and nobody can tell from outside: a full comparison settles it
    db.execute_batch("VACUUM").unwrap();
    db.execute_batch("INSERT INTO orders (person, what) VALUES (3, 'after vacuum')").unwrap();
    ok(home.project().cutover());
    let mut pg = server.client();
    assert_eq!(
        pg_rows(&mut pg, "SELECT * FROM orders"),
        ["2 | 1 | salt", "3 | 2 | é", "4 | 3 | after ready", "5 | 3 | after vacuum"]
    );
    assert_eq!(pg_rows(&mut pg, "SELECT name FROM people WHERE id = 1"), ["Änn"]);
    assert!(db.execute("DELETE FROM orders", []).is_err(), "the source is sealed");
    let verified = ok(home.project().verify()).verified.unwrap();
    assert!(verified.differences.is_empty() && verified.problems.is_empty(), "{verified:?}");
}

/// Rows that have no way down are parked, with what hangs on them; all else comes back.
#[test]
fn p12_rows_that_do_not_fit_the_way_down_are_parked() {
    let (home, server) = shop("");
    home.up();
    server
        .client()
        .batch_execute(
            "INSERT INTO people VALUES (10, 'for ever', 'infinity', 1);
             INSERT INTO people VALUES (11, 'fits', '2024-01-01 00:00:00', 2.25);
             INSERT INTO orders (person, what) VALUES (11, 'kept');
             UPDATE people SET born = '-infinity' WHERE id = 2;
             ALTER TABLE people ALTER paid TYPE numeric(10,2);",
        )
        .unwrap();
    ok(home.project().shadow());
    let status = ok(home.project().status()).unwrap();
    assert_eq!(status.parked.len(), 2, "{:?}", status.parked);
    // one of them is mended: it goes through at the next drain
    server.client().batch_execute("UPDATE people SET born = '2001-01-01 00:00:00' WHERE id = 2").unwrap();
    let out = home.rollback();
    assert_eq!(out.parked.len(), 1, "{:?}", out.parked);
    assert!(out.parked[0].contains("10") && out.parked[0].contains("born"), "{:?}", out.parked);
    assert_eq!(
        sqlite_rows(&home.sqlite("shop.db"), "SELECT * FROM people"),
        [
            "int 1 | text Ann | text 2000-01-01 00:00:00 | real 1.5 3ff8000000000000",
            "int 11 | text fits | text 2024-01-01 00:00:00 | real 2.25 4002000000000000",
            "int 2 | text Bo | text 2001-01-01 00:00:00 | null",
            "int 3 | text Cy | text 1999-01-01 00:00:00 | int 3",
        ]
    );
}

/// A child of a parked row cannot be there without it: it is parked too, and the rest comes back.
#[test]
fn p12_children_of_parked_rows_are_parked_too() {
    let (home, server) = shop("");
    home.up();
    server
        .client()
        .batch_execute(
            "INSERT INTO people VALUES (10, 'for ever', 'infinity', 1);
             INSERT INTO orders (person, what) VALUES (10, 'of nobody'), (1, 'of Ann');",
        )
        .unwrap();
    let out = home.rollback();
    assert_eq!(out.parked.len(), 2, "{:?}", out.parked);
    assert_eq!(
        sqlite_rows(&home.sqlite("shop.db"), "SELECT person, what FROM orders WHERE id > 3"),
        ["int 1 | text of Ann"]
    );
}

/// The source's CHECK does not move; a row that it refuses has no way down.
#[test]
fn p12_a_row_that_the_sources_check_refuses_is_parked() {
    let (home, server) = shop("");
    home.up();
    server
        .client()
        .batch_execute("UPDATE people SET paid = -1 WHERE id = 1; UPDATE people SET name = 'Bob' WHERE id = 2")
        .unwrap();
    let out = home.rollback();
    assert_eq!(out.parked.len(), 1, "{:?}", out.parked);
    assert_eq!(
        sqlite_rows(&home.sqlite("shop.db"), "SELECT name, paid FROM people WHERE id < 3"),
        ["text Ann | real 1.5 3ff8000000000000", "text Bob | null"]
    );
}

/// A trigger of ours that somebody switched off let a write through unseen: the look finds it, a full comparison carries it (P15).
#[test]
fn p15_a_lost_trigger_on_the_target_is_doubt_and_a_full_comparison_carries_it() {
    let (home, server) = shop("");
    home.up();
    let mut pg = server.admin();
    pg.batch_execute(
        "ALTER TABLE people DISABLE TRIGGER ALL; UPDATE people SET name = 'unseen' WHERE id = 1; INSERT INTO people VALUES (9, 'unseen too', NULL, 0);
         DELETE FROM people WHERE id = 3",
    )
    .unwrap();
    pg.batch_execute("UPDATE orders SET what = 'seen' WHERE id = 1").unwrap();
    home.rollback();
    let db = home.sqlite("shop.db");
    assert_eq!(
        sqlite_rows(&db, "SELECT id, name FROM people"),
        ["int 1 | text unseen", "int 2 | text Bo", "int 9 | text unseen too"]
    );
    assert_eq!(sqlite_rows(&db, "SELECT what FROM orders WHERE id = 1"), ["text seen"]);
    assert_eq!(sqlite_ours(&db), ["backout_history"]);
}

#[test]
fn an_abort_leaves_everything_as_it_was() {
    let (home, server) = shop("");
    let db = home.sqlite("shop.db");
    let (before, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.up_until_ready();
    db.execute_batch("INSERT INTO people VALUES (4, 'meanwhile', NULL, NULL)").unwrap();
    let out = ok(home.project().abort());
    assert_eq!(out.phase.unwrap().words(), "aborted");
    db.execute_batch("DELETE FROM people WHERE id = 4").unwrap();
    same(&sqlite_dump(&db), &before);
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(sqlite_ours(&db), ["backout_history"]);
    let left =
        pg_rows(&mut server.client(), "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace");
    assert_eq!(left, [""; 0], "nothing of the target stays");
    assert_eq!(home.list(), [(STAMP.to_owned(), "pending".to_owned(), false)]);
    assert!(ok(home.project().abort()).nothing, "there is nothing left to abort");
    // and it can be begun again
    home.up();
    let refused = home.project().abort().unwrap_err();
    assert_eq!(home.phase().as_deref(), Some("soaking"), "{refused:?}");
    home.rollback();
}

/// What status, history and list say is so, at every step; the state directory may be gone at any moment.
#[test]
fn what_is_told_is_true_at_each_step_without_the_state_directory() {
    let (home, server) = shop("");
    let forget = || {
        let _ = std::fs::remove_dir_all(home.path(".backout"));
    };
    let state = |applied: bool, state: &str| assert_eq!(home.list(), [(STAMP.to_owned(), state.to_owned(), applied)]);
    let live = || ok(home.project().status()).map(|s| (s.live, s.lag));
    let db = home.sqlite("shop.db");

    state(false, "pending");
    assert!(live().is_none() && home.history("local").is_empty());
    let nothing = home.project().rollback(&rollback(false)).unwrap_err();
    assert_eq!(nothing.exit, 4, "{nothing:?}");
    assert!(home.project().cutover().is_err());
    home.up_until_ready();
    forget();
    state(false, "ready");
    assert_eq!(live(), Some(("source".to_owned(), Some(0))));
    db.execute_batch("UPDATE people SET name = 'x' WHERE id = 1; UPDATE people SET name = 'y' WHERE id = 2").unwrap();
    assert_eq!(live(), Some(("source".to_owned(), Some(2))));
    let early = home.project().rollback(&rollback(false)).unwrap_err();
    assert!(matches!(*early.error, Error::Refused { .. }), "{early:?}");
    assert!(home.project().complete(false).is_err());
    forget();
    ok(home.project().cutover());
    forget();
    state(true, "soaking");
    assert_eq!(live(), Some(("target".to_owned(), Some(0))));
    assert!(home.up().nothing, "up again has nothing to do");
    server.client().batch_execute("UPDATE people SET name = 'z' WHERE id = 3").unwrap();
    assert_eq!(live(), Some(("target".to_owned(), Some(1))));
    forget();
    ok(home.project().shadow());
    assert_eq!(live(), Some(("target".to_owned(), Some(0))));
    let status = ok(home.project().status()).unwrap();
    assert_eq!((status.source.carried, status.parked.len(), status.window_over), (1, 0, false));
    forget();
    let out = home.rollback();
    assert_eq!(out.carried, 1);
    forget();
    state(false, "pending");
    assert!(live().is_none());
    let rolled = |n: usize| vec![(STAMP.to_owned(), "rolled back".to_owned()); n];
    assert_eq!((home.history("local"), home.history("main")), (rolled(1), rolled(1)));
    assert_eq!(sqlite_rows(&db, "SELECT name FROM people"), ["text x", "text y", "text z"]);
    // with a kept target beside, again and again
    home.up();
    forget();
    home.rollback();
    assert_eq!(home.history("local"), rolled(2));
    home.up();
    home.complete();
    forget();
    state(true, "completed");
    assert!(live().is_none());
    let mut all = rolled(2);
    all.push((STAMP.to_owned(), "completed".to_owned()));
    assert_eq!((home.history("local"), home.history("main")), (all.clone(), all));
    let over = home.project().rollback(&rollback(true)).unwrap_err();
    assert_eq!(over.exit, 4, "what is completed is not rolled back: {over:?}");
    assert!(ok(home.project().up(&UpOptions::default())).nothing);
}

/// One soaking mapping per store: the next one asks for `complete` first.
#[test]
fn p18_a_second_migration_waits_for_the_first_to_be_completed() {
    let server = Database::new();
    let home = Home::new(&[("files", "json:a.json"), ("local", "sqlite:a.db"), ("main", &server.url)], "");
    home.write("a.json", "[{\"id\": 1, \"x\": \"one\"}]");
    home.migration(
        "20250101000000_first",
        "[transfer]\nfrom = \"files\"\nto = \"local\"\n[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"things\"\n",
    );
    home.migration("20250202000000_second", "[transfer]\nfrom = \"local\"\nto = \"main\"\n");
    home.up();
    for revision in [None, Some("head".to_owned()), Some("20250202000000".to_owned())] {
        let refused = home.project().up(&UpOptions { revision, ..UpOptions::default() }).unwrap_err();
        assert_eq!((refused.exit, refused.code()), (4, "refused"), "{refused:?}");
    }
    assert_eq!(home.phase().as_deref(), Some("soaking"));
    home.complete();
    home.up();
    assert_eq!(pg_rows(&mut server.client(), "SELECT * FROM things"), ["1 | one"]);
    assert_eq!(
        home.list(),
        [
            ("20250101000000".to_owned(), "completed".to_owned(), true),
            ("20250202000000".to_owned(), "soaking".to_owned(), true)
        ]
    );
    home.rollback();
    // the one before is completed: rolling back past it is refused
    let refused = home.project().rollback(&rollback(true)).unwrap_err();
    assert_eq!(refused.exit, 4, "{refused:?}");
    assert_eq!(sqlite_rows(&home.sqlite("a.db"), "SELECT * FROM things"), ["int 1 | text one"]);
}

/// A column's affinity turns 3.0 into 3 and '12' into 12: values that are born in the target know it, and come back.
#[test]
fn values_born_in_the_target_meet_the_sources_affinity() {
    let server = Database::new();
    let home = Home::new(&[("local", "sqlite:a.db"), ("main", &server.url)], "");
    let db = home.sqlite("a.db");
    db.execute_batch(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, number NUMBER, at DATETIME, empty NUMBER, size REAL, bare);
         INSERT INTO t VALUES (1, 1.5, 'soon', NULL, 1.5, 0.5), (2, 2.5, '2024-01-01', NULL, 2, 0.5)",
    )
    .unwrap();
    home.migration(&format!("{STAMP}_to_postgres"), "[transfer]\nfrom = \"local\"\nto = \"main\"\n");
    home.up();
    server
        .client()
        .batch_execute(
            "INSERT INTO t VALUES (3, 3, '12', 4, 5, '-0'); UPDATE t SET number = 7, at = '1.5', empty = 0.5 WHERE id = 1;
             UPDATE t SET size = '-0' WHERE id = 2",
        )
        .unwrap();
    let out = home.rollback();
    assert_eq!(out.parked.len(), 1, "SQLite has no negative zero in a REAL column: {:?}", out.parked);
    assert_eq!(
        sqlite_rows(&db, "SELECT * FROM t"),
        [
            "int 1 | int 7 | real 1.5 3ff8000000000000 | real 0.5 3fe0000000000000 | real 1.5 3ff8000000000000 | real 0.5 3fe0000000000000",
            "int 2 | real 2.5 4004000000000000 | text 2024-01-01 | null | real 2.0 4000000000000000 | real 0.5 3fe0000000000000",
            "int 3 | int 3 | int 12 | int 4 | real 5.0 4014000000000000 | real -0.0 8000000000000000",
        ]
    );
}
