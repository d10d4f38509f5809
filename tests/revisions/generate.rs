//! Revisions that write themselves, and drift.

use crate::project::{BOTH, Place};

const FIRST: &str = "CREATE TABLE users (id integer PRIMARY KEY, name text NOT NULL);\n\
    CREATE TABLE posts (id integer PRIMARY KEY, author integer NOT NULL REFERENCES users (id), body text);\n\
    CREATE INDEX posts_author ON posts (author);\n";

const SECOND: &str = "CREATE TABLE users (id integer PRIMARY KEY, full_name text NOT NULL, age integer DEFAULT 18 CHECK (age > 0));\n\
    CREATE TABLE posts (id integer PRIMARY KEY, author integer NOT NULL REFERENCES users (id), body text NOT NULL DEFAULT '');\n\
    CREATE UNIQUE INDEX posts_body ON posts (author, body) WHERE body <> '';\n\
    CREATE VIEW names AS SELECT full_name FROM users;\n";

fn wanted(place: &Place, text: &str) -> std::path::PathBuf {
    let path = place.folder.path().join("schema.sql");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn from_nothing_to_a_schema_to_another_and_back() {
    for kind in BOTH {
        let place = Place::new(kind);
        let file = wanted(&place, FIRST);
        let found = place.project().difference(&file, None, &[]).unwrap();
        assert!(found.not_generated.is_empty(), "{found:?}");
        place.project().write_generated("first", None, &found).unwrap().unwrap();
        // what is pending is applied before the next one is made
        assert_eq!(place.project().difference(&file, None, &[]).unwrap_err().exit, 4);
        place.up("head");
        assert_eq!(place.tables(), ["posts", "users"]);
        assert_eq!(place.project().difference(&file, None, &[]).unwrap().differences, [""; 0]);
        place.sql("INSERT INTO users VALUES (1, 'anna'); INSERT INTO posts VALUES (1, 1, 'x'), (2, 1, 'y')");

        let file = wanted(&place, SECOND);
        let found = place.project().difference(&file, None, &[]).unwrap();
        assert_eq!(found.renames, ["users.name=users.full_name"]);
        let renames = ["users.name=users.full_name".to_owned()];
        let found = place.project().difference(&file, None, &renames).unwrap();
        assert!(found.renames.is_empty());
        place.project().write_generated("second", None, &found).unwrap().unwrap();
        place.up("head");
        assert_eq!(place.project().difference(&file, None, &[]).unwrap().differences, [""; 0], "{kind:?}");
        assert_eq!(place.list("SELECT full_name FROM names"), ["anna"], "carried along by the rename");
        assert!(
            place
                .project()
                .write_generated("third", None, &place.project().difference(&file, None, &[]).unwrap())
                .unwrap()
                .is_none()
        );

        place.back("-1");
        assert_eq!(place.list("SELECT name FROM users"), ["anna"]);
        assert_eq!(place.list("SELECT body FROM posts ORDER BY id"), ["x", "y"]);
        let file = wanted(&place, FIRST);
        place.project().stamp("second").unwrap();
        let back = place.project().difference(&file, None, &[]).unwrap();
        assert_eq!(back.differences, [""; 0], "{kind:?}");
    }
}

#[test]
fn drift_is_found_and_nothing_else() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision("1", "first", FIRST, "DROP TABLE posts;\nDROP TABLE users;");
        place.up("head");
        place.sql("INSERT INTO users VALUES (1, 'anna')");
        assert_eq!(place.project().drift().unwrap(), [""; 0]);
        place.sql("CREATE INDEX by_hand ON users (name)");
        let drift = place.project().drift().unwrap();
        assert!(drift.len() == 1 && drift[0].contains("by_hand"), "{drift:?}");
    }
}

#[test]
fn the_history_of_another_tool_is_no_part_of_the_schema() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision("1", "first", FIRST, "DROP TABLE posts;\nDROP TABLE users;");
        place.up("head");
        let id = if kind == backout::plan::Kind::Sqlite { "integer PRIMARY KEY" } else { "serial PRIMARY KEY" };
        place.sql(&format!(
            "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)); \
             CREATE TABLE goose_db_version (id {id}, version_id bigint); CREATE INDEX g ON goose_db_version (version_id)"
        ));
        assert_eq!(place.project().drift().unwrap(), [""; 0], "{kind:?}");
        let file = wanted(&place, FIRST);
        assert_eq!(place.project().difference(&file, None, &[]).unwrap().differences, [""; 0], "{kind:?}");
    }
}
