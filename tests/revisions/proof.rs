//! The proof: a down that does not take back what its up does is found before anything real is touched; what goes is kept.

use backout::migrate::{RollbackOptions, UpOptions};
use backout::plan::Kind;

use crate::project::{BOTH, Place};

const USERS: &str = "CREATE TABLE users (id integer PRIMARY KEY, name text NOT NULL, age integer DEFAULT 18);\n\
    CREATE INDEX users_name ON users (name);";

fn users(kind: Kind) -> Place {
    let place = Place::new(kind);
    place.revision("1", "users", USERS, "DROP TABLE users;");
    place.up("head");
    place.sql("INSERT INTO users VALUES (1, 'anna', 30), (2, 'bert', NULL), (3, 'cleo', 18)");
    place
}

/// The revision is refused, says this, and nothing real was touched.
fn refused(place: &Place, up: &str, down: &str, says: &[&str]) {
    let before = place.list("SELECT name FROM users ORDER BY id");
    let tables = place.tables();
    place.revision("2", "next", up, down);
    let e = place.try_up("head").unwrap_err();
    assert_eq!(e.exit, 4, "{e}");
    for words in says {
        assert!(e.to_string().contains(words), "{:?}: {words:?} is not in {e}", place.kind);
    }
    assert_eq!((place.tables(), place.list("SELECT name FROM users ORDER BY id")), (tables, before));
    assert_eq!(place.applied(), ["1"]);
}

#[test]
fn a_down_that_drops_too_much() {
    for kind in BOTH {
        let place = users(kind);
        let (up, down) = ("CREATE TABLE tags (id integer PRIMARY KEY);", "DROP TABLE tags;\nDROP INDEX users_name;");
        refused(&place, up, down, &["users_name"]);
    }
}

#[test]
fn a_down_that_forgets_an_index() {
    for kind in BOTH {
        let place = users(kind);
        refused(&place, "CREATE INDEX users_age ON users (age);", "SELECT 1;", &["users_age"]);
    }
}

#[test]
fn a_down_that_loses_a_default() {
    let place = users(Kind::Postgres);
    let (up, down) = ("ALTER TABLE users ALTER age SET DEFAULT 21;", "ALTER TABLE users ALTER age DROP DEFAULT;");
    refused(&place, up, down, &["age", "18"]);
    let place = users(Kind::Sqlite);
    let up = "ALTER TABLE users ADD COLUMN x text;";
    let down = "CREATE TABLE n (id integer PRIMARY KEY, name text NOT NULL, age integer);\n\
        INSERT INTO n SELECT id, name, age FROM users;\nDROP TABLE users;\nALTER TABLE n RENAME TO users;\n\
        CREATE INDEX users_name ON users (name);";
    refused(&place, up, down, &["age"]);
}

#[test]
fn f_a_down_that_leaves_an_enum() {
    let place = users(Kind::Postgres);
    let up = "CREATE TYPE mood AS ENUM ('sad', 'ok');\nALTER TABLE users ADD COLUMN mood mood;";
    refused(&place, up, "ALTER TABLE users DROP COLUMN mood;", &["mood"]);
}

#[test]
fn f_a_down_that_passes_by_doing_nothing_with_the_rows() {
    for kind in BOTH {
        let place = users(kind);
        refused(&place, "UPDATE users SET name = upper(name);", "SELECT 1;", &["rows of", "anna"]);
        refused(&place, "UPDATE users SET name = upper(name);", "nothing", &["nothing to undo", "ANNA"]);
    }
}

#[test]
fn an_up_or_a_down_that_fails_is_found_on_the_copy() {
    for kind in BOTH {
        let place = users(kind);
        place.revision("2", "next", "CREATE TABLE t (id integer);", "DROP TABLE tt;");
        let e = place.try_up("head").unwrap_err();
        assert!(e.to_string().contains("tt"), "{e}");
        assert_eq!(e.state, "nothing was changed");
        assert_eq!(place.tables(), ["users"]);
        // nothing failed for real, so nothing has to be acknowledged
        place.revision("2", "next", "CREATE TABLE t (id integer);", "DROP TABLE t;");
        place.up("head");
    }
}

#[test]
fn a_loss_is_accepted_with_a_reason_that_is_recorded() {
    for kind in BOTH {
        let place = users(kind);
        place.revision("2", "next", "DELETE FROM users WHERE id = 2;", "SELECT 1;");
        assert_eq!(place.try_up("head").unwrap_err().exit, 4);
        let asked = UpOptions { accept_loss: Some("bert asked for it".into()), ..UpOptions::default() };
        place.project().up(&asked).unwrap();
        assert_eq!(place.list("SELECT name FROM users ORDER BY id"), ["anna", "cleo"]);
        let list = place.project().list().unwrap();
        assert!(list[1].note.contains("bert asked for it"), "{}", list[1].note);
    }
}

#[test]
fn a_dropped_column_comes_back_with_its_values() {
    for kind in BOTH {
        let place = users(kind);
        place.revision(
            "2",
            "ageless",
            "ALTER TABLE users DROP COLUMN age;",
            "ALTER TABLE users ADD COLUMN age integer DEFAULT 18;",
        );
        place.up("head");
        // the application goes on: one is renamed, one leaves, one comes
        place.sql("UPDATE users SET name = 'anne' WHERE id = 1; DELETE FROM users WHERE id = 3; INSERT INTO users VALUES (4, 'dora')");
        let back = place.back("-1");
        // of the others nothing is left to say
        let gone = |note: &&String| !(note.starts_with("no such row") && note.ends_with("users 3: age was 18"));
        let [kept] = back.notes.iter().filter(gone).collect::<Vec<_>>()[..] else { panic!("{:?}", back.notes) };
        assert!(kept.contains("until `backout complete`") && back.notes.len() == 2, "{:?}", back.notes);
        let ages = "SELECT id || ' ' || name || ' ' || coalesce(age, -1) FROM users ORDER BY id";
        assert_eq!(place.list(ages), ["1 anne 30", "2 bert -1", "4 dora 18"], "{kind:?}");
        // up and back once more: nothing of ours is in the way
        place.up("head");
        place.back("-1");
        assert_eq!(place.list(ages), ["1 anne 30", "2 bert -1", "4 dora 18"], "{kind:?}");
    }
}

#[test]
fn a_dropped_table_comes_back_with_its_rows() {
    for kind in BOTH {
        let place = users(kind);
        place.revision("2", "nobody", "DROP TABLE users;", USERS);
        place.up("head");
        assert_eq!(place.tables(), [""; 0]);
        place.back("-1");
        assert_eq!(place.list("SELECT name FROM users ORDER BY id"), ["anna", "bert", "cleo"]);
        assert_eq!(place.ask("SELECT count(*) FROM users WHERE age = 30"), "1");
    }
}

#[test]
fn what_a_down_drops_comes_back_with_the_next_up() {
    for kind in BOTH {
        let place = users(kind);
        place.revision("2", "mail", "ALTER TABLE users ADD COLUMN mail text;", "ALTER TABLE users DROP COLUMN mail;");
        place.revision("3", "tags", "CREATE TABLE tags (id integer PRIMARY KEY, t text);", "DROP TABLE tags;");
        place.up("head");
        place.sql("UPDATE users SET mail = 'a@example.org' WHERE id = 1; INSERT INTO tags VALUES (1, 'x')");
        place.back("-2");
        assert_eq!(place.tables(), ["users"]);
        place.up("head");
        assert_eq!(place.ask("SELECT mail FROM users WHERE id = 1"), "a@example.org");
        assert_eq!(place.list("SELECT t FROM tags"), ["x"]);
    }
}

#[test]
fn a_retyped_column_comes_back_exactly_and_a_value_changed_since_wins() {
    let place = users(Kind::Postgres);
    place.sql("ALTER TABLE users ADD COLUMN score numeric; UPDATE users SET score = 1.50 WHERE id < 3");
    place.revision(
        "2",
        "score",
        "ALTER TABLE users ALTER score TYPE integer USING round(score);",
        "ALTER TABLE users ALTER score TYPE numeric;",
    );
    place.up("head");
    assert_eq!(place.ask("SELECT score::text FROM users WHERE id = 1"), "2");
    place.sql("UPDATE users SET score = 7 WHERE id = 2");
    let back = place.back("-1");
    assert_eq!(place.list("SELECT coalesce(score::text, '-') FROM users ORDER BY id"), ["1.50", "7", "-"]);
    assert!(back.notes.iter().any(|n| n.contains("stays 7, was 1.50 before")), "{:?}", back.notes);
}

#[test]
fn a_not_null_column_is_filled_before_its_down_says_not_null() {
    let place = users(Kind::Postgres);
    place.revision(
        "2",
        "nameless",
        "ALTER TABLE users DROP COLUMN name;",
        "ALTER TABLE users ADD COLUMN name text;\nALTER TABLE users ALTER name SET NOT NULL;\nCREATE INDEX users_name ON users (name);",
    );
    place.up("head");
    place.back("-1");
    assert_eq!(place.list("SELECT name FROM users ORDER BY id"), ["anna", "bert", "cleo"]);
}

#[test]
fn a_rename_takes_nothing_away() {
    for kind in BOTH {
        let place = users(kind);
        place.revision(
            "2",
            "people",
            "ALTER TABLE users RENAME TO people;\nALTER TABLE people RENAME COLUMN name TO full_name;",
            "ALTER TABLE people RENAME COLUMN full_name TO name;\nALTER TABLE people RENAME TO users;",
        );
        let checked = place.project().check().unwrap();
        assert!(checked[0].lost.is_empty(), "{checked:?}");
        assert!(!checked[0].proof.as_ref().unwrap().contains("takes away"), "{checked:?}");
        place.up("head");
        place.back("-1");
        assert_eq!(place.list("SELECT name FROM users ORDER BY id"), ["anna", "bert", "cleo"]);
    }
}

#[test]
fn a_column_of_100_000_rows_comes_back() {
    for kind in BOTH {
        let place = users(kind);
        let numbers = match kind {
            Kind::Sqlite => "WITH RECURSIVE n (i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)",
            _ => "WITH n AS (SELECT generate_series(4, 100000) AS i)",
        };
        place.sql(&format!("{numbers} INSERT INTO users SELECT i, 'u' || i, i % 90 FROM n"));
        let sum = "SELECT sum(age * id) || ' of ' || count(*) FROM users";
        let before = place.ask(sum);
        place.revision(
            "2",
            "ageless",
            "ALTER TABLE users DROP COLUMN age;",
            "ALTER TABLE users ADD COLUMN age integer DEFAULT 18;",
        );
        place.up("head");
        place.back("-1");
        assert_eq!(place.ask(sum), before);
    }
}

#[test]
fn children_are_copied_with_their_parents() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision(
            "1",
            "tree",
            "CREATE TABLE p (id integer PRIMARY KEY);\n\
             CREATE TABLE c (id integer PRIMARY KEY, p integer NOT NULL REFERENCES p (id), up integer REFERENCES c (id));",
            "DROP TABLE c;\nDROP TABLE p;",
        );
        place.up("head");
        let numbers = match kind {
            Kind::Sqlite => "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)",
            _ => "WITH n AS (SELECT generate_series(1, 3000) AS i)",
        };
        place.sql(&format!("{numbers} INSERT INTO p SELECT i FROM n"));
        place.sql(&format!("{numbers} INSERT INTO c SELECT i, 3001 - i, CASE WHEN i < 3000 THEN i + 1 END FROM n"));
        place.revision("2", "t", "CREATE TABLE t (id integer PRIMARY KEY REFERENCES c (id));", "DROP TABLE t;");
        let checked = place.project().check().unwrap();
        let words = checked[0].proof.clone().unwrap();
        assert!(words.contains("rows"), "{words}");
        place.up("head");
    }
}

#[test]
fn check_finds_what_is_dangerous_and_touches_nothing() {
    for kind in BOTH {
        let place = users(kind);
        place.revision("2", "drop", "DROP TABLE users;", USERS);
        let checked = place.project().check().unwrap();
        assert!(!checked[0].findings.is_empty(), "{checked:?}");
        assert_eq!(place.tables(), ["users"]);
        assert_eq!(place.applied(), ["1"]);
    }
}

#[test]
fn a_rollback_of_an_irreversible_one_is_refused() {
    for kind in BOTH {
        let place = users(kind);
        place.revision("2", "gone", "DELETE FROM users;", "irreversible: the law asks for it");
        place.up("head");
        let e = place.project().rollback(&RollbackOptions::default()).unwrap_err();
        assert_eq!(e.exit, 4);
        assert!(e.to_string().contains("the law asks for it"));
    }
}

#[test]
fn what_is_kept_does_not_hold_on_to_a_type_that_goes() {
    let place = users(Kind::Postgres);
    place.revision(
        "2",
        "moods",
        "CREATE TYPE mood AS ENUM ('sad', 'ok');\nCREATE DOMAIN code AS text CHECK (value <> '');\n\
         CREATE TABLE feelings (code code PRIMARY KEY, mood mood NOT NULL, moods mood[]);",
        "DROP TABLE feelings;\nDROP DOMAIN code;\nDROP TYPE mood;",
    );
    place.revision(
        "3",
        "mood",
        "ALTER TABLE feelings ADD COLUMN later mood;",
        "ALTER TABLE feelings DROP COLUMN later;",
    );
    place.up("head");
    place.sql("INSERT INTO feelings VALUES ('a', 'ok', '{sad,ok}', 'sad'), ('b', 'sad', NULL, NULL)");
    let all = "SELECT code || ' ' || mood || ' ' || coalesce(moods::text, '-') || ' ' || coalesce(later::text, '-') \
        FROM feelings ORDER BY code";
    let before = place.list(all);
    place.back("-1");
    place.up("head");
    assert_eq!(place.list(all), before, "a column of such a type, under a key of such a type");
    place.back("-2");
    assert_eq!(place.tables(), ["users"]);
    assert_eq!(place.ask("SELECT count(*) FROM pg_type WHERE typname IN ('mood', 'code')"), "0");
    place.up("head");
    assert_eq!(place.list(all), before);
}
