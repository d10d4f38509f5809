//! A SQLite file in which everything is that is known to go wrong on the way to PostgreSQL: there and back, exact.

use postgres::Client;
use rusqlite::Connection;

use super::{Database, Home, pg_rows, same, sqlite_dump, sqlite_ours, sqlite_rows, sqlite_schema};

const SCHEMA: &str = r#"
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT COLLATE NOCASE UNIQUE,
    active BOOLEAN NOT NULL DEFAULT 1,
    spelled BOOL,
    team INTEGER DEFAULT (-5),
    balance NUMERIC(10,2),
    price DECIMAL,
    greeting TEXT NOT NULL DEFAULT 'it''s',
    word TEXT DEFAULT 'null',
    created TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    stamped DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%S', 'now')),
    odd TEXT DEFAULT (lower('X'))
);
CREATE UNIQUE INDEX one_active ON users (team) WHERE active = 1;
CREATE INDEX by_created ON users (created DESC, id);
CREATE INDEX by_expression ON users (lower(email));
CREATE TABLE times (
    id INTEGER PRIMARY KEY,
    spaced DATETIME, micro DATETIME, tee TIMESTAMP, zulu TIMESTAMP, ms TIMESTAMP, seconds DATETIME, day DATE, mixed DATETIME
);
CREATE TABLE odd_values (
    id TEXT PRIMARY KEY,
    number INTEGER, bytes BLOB, bad TEXT, nul TEXT, d REAL, code VARCHAR(5), wide VARCHAR(3), string STRING, big BIGINT, bare
) ;
CREATE TABLE "Odd ""name"" ☕" ("select" INTEGER PRIMARY KEY, "Group By" TEXT, "ünï 'x'" TEXT, "a.b" INTEGER);
CREATE INDEX "an ""odd"" index" ON "Odd ""name"" ☕" ("Group By", "a.b");
CREATE TABLE pairs (a TEXT NOT NULL, b INTEGER NOT NULL, v REAL, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE TABLE notes (a TEXT NOT NULL, b INTEGER NOT NULL, n INTEGER NOT NULL, body TEXT, PRIMARY KEY (a, b, n),
    FOREIGN KEY (b, a) REFERENCES pairs (b, a) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE boxes (id INTEGER PRIMARY KEY, w INTEGER, h INTEGER, area INTEGER GENERATED ALWAYS AS (w * h) STORED, edge AS (2 * (w + h)));
CREATE TABLE tree (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES tree (id) ON DELETE CASCADE, name TEXT);
CREATE TABLE hens (id INTEGER PRIMARY KEY, egg INTEGER REFERENCES eggs (id) ON DELETE CASCADE);
CREATE TABLE eggs (id INTEGER PRIMARY KEY, hen INTEGER REFERENCES hens (id) ON DELETE CASCADE);
CREATE TABLE empty (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT, at DATETIME);
CREATE TABLE files (id INTEGER PRIMARY KEY, raw BLOB, zero);
CREATE TABLE audit (id INTEGER PRIMARY KEY, what TEXT);
CREATE TRIGGER users_audit AFTER UPDATE ON users BEGIN INSERT INTO audit (what) VALUES ('changed ' || new.id); END;
CREATE TRIGGER notes_touch AFTER INSERT ON notes BEGIN UPDATE pairs SET v = -1 WHERE a = new.a; END;
CREATE VIEW active_users AS SELECT id, email FROM users WHERE active = 1;
"#;

const ROWS: &str = r#"
INSERT INTO users (id, email, active, spelled, team, balance, price, created, stamped) VALUES
    (1, 'Ann@x.org', 1, 'true', 1, 10, 0.1, '2024-01-01 00:00:00', '2024-01-01 00:00:00'),
    (2, 'bo@x.org', 0, 'false', 1, 12345678.91, 1e3, '2024-01-02 03:04:05', NULL),
    (3, NULL, 1, NULL, 2, NULL, 3, NULL, '1999-12-31 23:59:59'),
    (40, 'Ünï@x.org', 0, 'true', 2, -0.05, 0.30000000000000004, '2024-01-01 00:00:00', NULL);
DELETE FROM users WHERE id = 40;
INSERT INTO users (id, email, active, spelled, team) VALUES (7, 'é@x', 0, 'false', 9);
INSERT INTO times VALUES
    (1, '2024-02-29 12:00:00', '2024-02-29 12:00:00.000001', '2024-02-29T12:00:00', '2024-02-29T12:00:00Z', 1709208000123, 1709208000, '2024-02-29', '2024-02-29 12:00:00'),
    (2, '1969-12-31 23:59:59', '2024-02-29 12:00:00.120000', '2024-02-29T12:00:00', '2000-01-01T00:00:00Z', 1709208000000, 1709208001, '1900-01-01', '2024-02-29T12:00:00'),
    (3, NULL, '2024-02-29 12:00:00', NULL, NULL, NULL, NULL, NULL, 'soon'),
    (4, '9999-12-31 23:59:59', '0001-01-01 00:00:00.999999', '0001-01-01T00:00:00', '9999-12-31T23:59:59Z', 1709208000999, 2000000000, '9999-12-31', NULL);
INSERT INTO odd_values VALUES
    ('a', 1, x'00ff', CAST(x'ff41' AS TEXT), CAST(x'410042' AS TEXT), 9e999, 'abc', 'longer than three', '007', 9223372036854775807, 'text'),
    ('b', 'many', x'', 'fine', 'fine', -9e999, 'ÄÖÜß☕', 'abc', 'x', -9223372036854775808, 'more'),
    ('c', 2.5, NULL, NULL, '', -0.0, NULL, NULL, '1.50', 0, NULL),
    ('d', '12abc', 'text', '', NULL, 1.7976931348623157e308, '', '', 5, NULL, ''),
    ('e', NULL, x'deadbeef', 'e', 'e', 5e-324, 'e', 'e', NULL, 1, 'e'),
    ('f', -1, x'31', 'f', 'f', 0.1, 'f', 'f', -3.25, 1, 'f'),
    ('', 0, NULL, 'f', 'f', 83.0920312, 'f', 'f', '', 1, 'f'),
    ('quote '' " \', 0, NULL, 'f', 'f', 3, 'f', 'f', '1e5x', 1, 'f');
INSERT INTO "Odd ""name"" ☕" VALUES (1, 'select', 'it''s', 2), (-5, NULL, '"', NULL);
INSERT INTO pairs VALUES ('x', 1, 0.5), ('x', 2, NULL), ('y', 1, 1e300), ('Y', 1, 2);
INSERT INTO notes VALUES ('x', 1, 1, 'one'), ('x', 1, 2, 'two'), ('y', 1, 1, NULL);
UPDATE pairs SET v = 0.5 WHERE v = -1;
INSERT INTO files VALUES (1, x'00ff27', -0.0), (2, x'', -1.0);
INSERT INTO boxes (id, w, h) VALUES (1, 2, 3), (2, NULL, 4);
INSERT INTO tree VALUES (1, NULL, 'root'), (2, 1, 'a'), (3, 2, 'b'), (4, NULL, 'other'), (5, 4, 'c'), (6, 6, 'self');
INSERT INTO hens VALUES (1, NULL), (2, NULL), (3, NULL);
INSERT INTO eggs VALUES (1, 1), (2, 2), (3, NULL);
UPDATE hens SET egg = id WHERE id < 3;
"#;

/// Changes that both databases understand alike.
const CHANGES: &str = r#"
INSERT INTO users (id, email, active, spelled, team, balance, price, greeting, word, created, stamped, odd) VALUES
    (100, 'new@x.org', true, false, 55, 1.5, 2.25, 'hi', 'w', '2030-01-01 00:00:00', NULL, 'o');
UPDATE users SET balance = 99.99, active = false WHERE id = 1;
UPDATE users SET email = 'BO@x.org' WHERE id = 2;
DELETE FROM users WHERE id = 3;
UPDATE times SET spaced = '2024-03-01 00:00:00', micro = '2024-03-01 00:00:00.5' WHERE id = 1;
UPDATE times SET day = '2024-03-01' WHERE id = 3;
UPDATE odd_values SET d = 0.25, number = '77' WHERE id = 'a';
UPDATE odd_values SET number = 'few', code = NULL WHERE id = 'b';
UPDATE odd_values SET id = 'moved' WHERE id = 'd';
DELETE FROM odd_values WHERE id = '';
UPDATE "Odd ""name"" ☕" SET "ünï 'x'" = 'new', "select" = 77 WHERE "select" = -5;
INSERT INTO "Odd ""name"" ☕" VALUES (78, 'é', NULL, 1);
DELETE FROM pairs WHERE a = 'x' AND b = 1;
UPDATE pairs SET a = 'z' WHERE a = 'y' AND b = 1;
INSERT INTO pairs VALUES ('n', 1, 2.5);
INSERT INTO notes VALUES ('n', 1, 1, 'note');
UPDATE boxes SET w = 10 WHERE id = 1;
INSERT INTO boxes (id, w, h) VALUES (3, 7, 7);
DELETE FROM tree WHERE id = 1;
UPDATE tree SET parent = 6 WHERE id = 4;
INSERT INTO tree VALUES (7, 5, 'deep');
DELETE FROM hens WHERE id = 1;
INSERT INTO hens VALUES (10, NULL);
INSERT INTO eggs VALUES (10, 10);
UPDATE hens SET egg = 10 WHERE id = 10;
"#;

fn set_up() -> (Home, Database) {
    let server = Database::new();
    let home = Home::new(&[("local", "sqlite:app.db"), ("main", &server.url)], "");
    let db = home.sqlite("app.db");
    db.execute_batch(SCHEMA).unwrap();
    db.execute_batch(ROWS).unwrap();
    home.migration("20250101000000_to_postgres", "[transfer]\nfrom = \"local\"\nto = \"main\"\n[[transfer.column]]\ntable = \"odd_values\"\ncolumn = \"bytes\"\ncodec = \"literal\"\n");
    (home, server)
}

#[test]
fn there_and_back_untouched() {
    let (home, _server) = set_up();
    let db = home.sqlite("app.db");
    let (before, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.up();
    home.rollback();
    same(&sqlite_dump(&db), &before);
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(sqlite_ours(&db), ["backout_history"]);
}

#[test]
fn there_and_back_with_changes() {
    let (home, server) = set_up();
    let db = home.sqlite("app.db");
    let schema = sqlite_schema(&db);
    home.up();
    let mut pg = server.client();
    pg.batch_execute(CHANGES).unwrap();
    // what the target gives by itself comes back too: ids, defaults
    let id: i64 = pg.query_one("INSERT INTO users (email) VALUES ('Default@x.org') RETURNING id", &[]).unwrap().get(0);
    assert_eq!(id, 41, "after the greatest that was ever given by itself");
    let first: i64 = pg.query_one("INSERT INTO empty (x) VALUES ('first') RETURNING id", &[]).unwrap().get(0);
    assert_eq!(first, 1, "an identity of an empty table begins at one");
    let out = home.rollback();
    assert!(out.parked.is_empty(), "{:?}", out.parked);

    let expected = Connection::open_in_memory().unwrap();
    expected.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    expected.execute_batch(SCHEMA).unwrap();
    expected.execute_batch(ROWS).unwrap();
    // the source's own triggers do not fire again for what is carried
    expected.execute_batch("DROP TRIGGER users_audit; DROP TRIGGER notes_touch").unwrap();
    let spelled = CHANGES
        .replace("true, false, 55", "1, 'false', 55")
        .replace("active = false", "active = 0")
        .replace("00:00.5'", "00:00.500000'");
    expected.execute_batch(&spelled).unwrap();
    expected.execute_batch("INSERT INTO empty (x) VALUES ('first'); INSERT INTO users (id, email, odd) VALUES (41, 'Default@x.org', NULL)").unwrap();
    // the clock's values are the target's; they have the source's spelling
    let shape = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]";
    let well: bool = db
        .query_row("SELECT created GLOB ?1 AND stamped GLOB ?1 FROM users WHERE id = 41", [shape], |r| r.get(0))
        .unwrap();
    assert!(well, "{:?}", sqlite_rows(&db, "SELECT created, stamped FROM users WHERE id = 41"));
    let (mut found, mut wanted) = (sqlite_dump(&db), sqlite_dump(&expected));
    let without_clock = "SELECT id, email, active, spelled, team, balance, price, greeting, word, odd FROM users";
    found.insert("users".into(), sqlite_rows(&db, without_clock));
    wanted.insert("users".into(), sqlite_rows(&expected, without_clock));
    same(&found, &wanted);
    let times = "SELECT id, created, stamped FROM users WHERE id NOT IN (7, 41)";
    assert_eq!(sqlite_rows(&db, times), sqlite_rows(&expected, times));
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(sqlite_ours(&db), ["backout_history"]);
    // and the application goes on: the trigger fires, the next id is above every one given
    db.execute("UPDATE users SET greeting = 'x' WHERE id = 7", []).unwrap();
    let audited: i64 = db.query_row("SELECT count(*) FROM audit WHERE what = 'changed 7'", [], |r| r.get(0)).unwrap();
    assert_eq!(audited, 1);
    db.execute("INSERT INTO users (email, team) VALUES ('next@x.org', 600)", []).unwrap();
    assert_eq!(db.last_insert_rowid(), 101);
}

#[test]
fn what_the_target_is_made_of() {
    let (home, server) = set_up();
    home.up();
    let mut pg = server.client();
    let types = |pg: &mut Client, table: &str| -> Vec<String> {
        let sql = format!(
            "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
        );
        pg_rows(pg, &sql)
    };
    assert_eq!(
        types(&mut pg, "users"),
        [
            "active boolean",
            "balance numeric(10,2)",
            "created timestamp without time zone",
            "email text",
            "greeting text",
            "id bigint",
            "odd text",
            "price numeric",
            "spelled boolean",
            "stamped timestamp without time zone",
            "team bigint",
            "word text"
        ]
    );
    assert_eq!(
        types(&mut pg, "times"),
        [
            "day date",
            "id bigint",
            "micro timestamp without time zone",
            "mixed text",
            "ms timestamp with time zone",
            "seconds timestamp with time zone",
            "spaced timestamp without time zone",
            "tee timestamp without time zone",
            "zulu timestamp with time zone"
        ]
    );
    assert_eq!(
        types(&mut pg, "odd_values"),
        [
            "bad bytea",
            "bare text",
            "big bigint",
            "bytes text",
            "code character varying(5)",
            "d double precision",
            "id text",
            "nul bytea",
            "number text",
            "string text",
            "wide text"
        ]
    );
    // A12: doubles bit by bit (a column with an affinity has no negative zero: SQLite itself keeps 0.0 there)
    assert_eq!(
        pg_rows(&mut pg, "SELECT id, encode(float8send(d), 'hex') FROM odd_values WHERE id IN ('a', 'b', 'c', 'e')"),
        ["a | 7ff0000000000000", "b | fff0000000000000", "c | 0000000000000000", "e | 0000000000000001"]
    );
    assert_eq!(
        pg_rows(&mut pg, "SELECT encode(float8send(zero), 'hex') FROM files"),
        ["8000000000000000", "bff0000000000000"]
    );
    // A8, A9: bytes as they were
    assert_eq!(pg_rows(&mut pg, "SELECT bad, nul FROM odd_values WHERE id = 'a'"), ["\\xff41 | \\x410042"]);
    // A6: moments
    assert_eq!(
        pg_rows(
            &mut pg,
            "SELECT micro, zulu AT TIME ZONE 'UTC', ms AT TIME ZONE 'UTC', seconds AT TIME ZONE 'UTC' FROM times WHERE id = 1"
        ),
        ["2024-02-29 12:00:00.000001 | 2024-02-29 12:00:00 | 2024-02-29 12:00:00.123 | 2024-02-29 12:00:00"]
    );
    // A14: defaults
    assert_eq!(
        pg_rows(
            &mut pg,
            "INSERT INTO users (email) VALUES ('d') RETURNING active, spelled, team, greeting, word, created IS NOT NULL, stamped IS NOT NULL, odd"
        ),
        ["t | ∅ | -5 | it's | null | t | t | ∅"]
    );
    // A15: identity after the greatest ever given, though that row is gone
    assert_eq!(pg_rows(&mut pg, "SELECT id FROM users WHERE email = 'd'"), ["41"]);
    // A19: NOCASE is unique without regard to case
    assert_eq!(refused(&mut pg, "INSERT INTO users (email, team) VALUES ('ANN@X.ORG', 77)"), "23505");
    // A20: a partial unique index stays partial
    assert_eq!(refused(&mut pg, "INSERT INTO users (team, active) VALUES (1, true)"), "23505");
    pg.batch_execute("INSERT INTO users (team, active) VALUES (1, false), (1, false)").unwrap();
    // A17: a composite key in its own order; cascades
    assert_eq!(
        pg_rows(
            &mut pg,
            "SELECT replace(pg_get_constraintdef(oid), ' DEFERRABLE', '') FROM pg_constraint WHERE conrelid IN ('pairs'::regclass, 'notes'::regclass) AND contype IN ('p', 'f')"
        ),
        [
            "FOREIGN KEY (b, a) REFERENCES pairs(b, a) ON UPDATE CASCADE ON DELETE CASCADE",
            "PRIMARY KEY (a, b, n)",
            "PRIMARY KEY (b, a)"
        ]
    );
    assert_eq!(
        pg_rows(
            &mut pg,
            "SELECT replace(pg_get_constraintdef(oid), ' DEFERRABLE', '') FROM pg_constraint WHERE conrelid IN ('hens'::regclass, 'eggs'::regclass, 'tree'::regclass) AND contype = 'f'"
        ),
        [
            "FOREIGN KEY (egg) REFERENCES eggs(id) ON DELETE CASCADE",
            "FOREIGN KEY (hen) REFERENCES hens(id) ON DELETE CASCADE",
            "FOREIGN KEY (parent) REFERENCES tree(id) ON DELETE CASCADE"
        ]
    );
    // A13: names as they are
    assert_eq!(
        pg_rows(&mut pg, r#"SELECT "Group By", "a.b" FROM "Odd ""name"" ☕" WHERE "select" = 1"#),
        ["select | 2"]
    );
    assert_eq!(
        pg_rows(
            &mut pg,
            "SELECT indexname FROM pg_indexes WHERE tablename LIKE 'Odd%' AND indexdef NOT LIKE '%UNIQUE%'"
        ),
        ["an \"odd\" index"]
    );
    // A11: bytes are bytes
    assert_eq!(pg_rows(&mut pg, "SELECT pg_typeof(raw), raw FROM files"), ["bytea | \\x", "bytea | \\x00ff27"]);
}

/// What does not move is named in the plan: nothing is left behind unsaid.
#[test]
fn what_does_not_move_is_said() {
    let (home, _server) = set_up();
    let plan = super::ok(home.project().plan(None)).unwrap().plan;
    let said: Vec<&str> = plan.not_moved.iter().map(|n| n.what.as_str()).collect();
    for what in [
        "view active_users",
        "trigger users_audit on users",
        "trigger notes_touch on notes",
        "default of users.odd: lower('X')",
        "collation NOCASE of users.email",
        "index by_expression on users",
    ] {
        assert!(said.contains(&what), "{what} is not among {said:#?}");
    }
    assert_eq!(said.len(), 6, "{said:#?}");
}

fn refused(pg: &mut Client, sql: &str) -> String {
    pg.batch_execute(sql).unwrap_err().code().unwrap().code().to_owned()
}
