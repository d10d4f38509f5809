//! Revisions before a change in place, and on top of one, in one history.

use backout::migrate::RollbackOptions;
use backout::plan::Kind;

use crate::project::Place;

const FIRST: &str = "CREATE TABLE users (id integer PRIMARY KEY, nick text, fax text);";
const ALTER: &str = "title = \"names\"\n[alter]\nstore = \"main\"\n\
    [[alter.column]]\ntable = \"users\"\ncolumn = \"nick\"\nrename = \"name\"\n\
    [[alter.column]]\ntable = \"users\"\ncolumn = \"fax\"\ndrop = true\n";
const ABOVE: &str = "ALTER TABLE users ADD COLUMN age integer;\nCREATE TABLE tags (id integer PRIMARY KEY);";

fn there_and_to_base(kind: Kind) {
    let place = Place::new(kind);
    place.revision("20250101000000", "first", FIRST, "DROP TABLE users;");
    place.up("head");
    place.sql("INSERT INTO users VALUES (1, 'ann', '+1'), (2, 'ben', '+2')");
    place.file("20250102000000_names.toml", ALTER);
    place.revision("20250103000000", "above", ABOVE, "DROP TABLE tags;\nALTER TABLE users DROP COLUMN age;");
    let out = place.up("head");
    assert_eq!(out.revisions.len(), 1, "{out:?}");
    assert_eq!(place.list("SELECT name FROM users ORDER BY id"), ["ann", "ben"]);
    place.sql("INSERT INTO users (id, name, age) VALUES (3, 'cat', 7)");
    place.sql("UPDATE users SET name = 'anna' WHERE id = 1");
    // what the tables must be is in a plan, and in no statement
    assert_eq!(place.project().drift().unwrap(), [""; 0]);
    assert_eq!(place.project().not_compared().unwrap(), ["main"]);

    // the revision on top goes first, then the change in place
    let back = |to: &str| {
        let asked = RollbackOptions { to: Some(to.into()), ..RollbackOptions::default() };
        place.project().rollback(&asked).unwrap()
    };
    back("20250101000000");
    assert_eq!(place.list("SELECT nick FROM users ORDER BY id"), ["anna", "ben", "cat"]);
    assert_eq!(place.list("SELECT fax FROM users WHERE fax IS NOT NULL ORDER BY id"), ["+1", "+2"]);
    back("base");
    let there = match kind {
        Kind::Postgres => "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public' AND tablename = 'users'",
        _ => "SELECT count(*) FROM sqlite_schema WHERE name = 'users'",
    };
    assert_eq!(place.ask(there), "0");
    place.up("head");
    assert_eq!(
        place.list("SELECT name FROM users ORDER BY id"),
        ["anna", "ben", "cat"],
        "what base took away is put back"
    );
}

#[test]
fn sqlite_revisions_below_and_above_a_change_in_place() {
    there_and_to_base(Kind::Sqlite);
}

#[test]
fn postgres_revisions_below_and_above_a_change_in_place() {
    there_and_to_base(Kind::Postgres);
}
