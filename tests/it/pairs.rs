//! Each pair of stores by the one engine: there, writes of every kind where the data lives then, and back, exact.

use std::process::Command;

use postgres::Client;
use rusqlite::Connection;

use super::database::owner;
use super::scenarios::{Database, Home, ok, pg_rows, quoted, same, sqlite_dump, sqlite_ours, sqlite_schema};

/// Every table's rows as the server prints them.
pub(crate) fn pg_dump_rows(client: &mut Client) -> std::collections::BTreeMap<String, Vec<String>> {
    let tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition";
    let tables = pg_rows(client, tables);
    tables.into_iter().map(|t| (t.clone(), pg_rows(client, &format!("SELECT t::text FROM {} t", quoted(&t))))).collect()
}

/// The definition of all that is not ours: by `pg_dump`, or by the catalogs where the server's binaries come without one.
pub(crate) fn pg_schema(database: &Database) -> Vec<String> {
    let bin = std::env::var("BACKOUT_TEST_PG_BIN").unwrap();
    let dump = std::path::Path::new(&bin).join("pg_dump");
    if !dump.exists() {
        return pg_rows(&mut database.client(), CATALOGS);
    }
    let out = Command::new(dump)
        .args(["--schema-only", "--exclude-schema=backout*", "--dbname", &database.url])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let noise = |l: &&str| !l.is_empty() && !l.starts_with("--") && !l.starts_with('\\');
    text.lines().filter(noise).map(ToOwned::to_owned).collect()
}

/// A line for each thing in schemas that are not ours, as the server describes it.
const CATALOGS: &str = "
WITH home AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^(pg_|backout)' AND nspname <> 'information_schema'),
r AS (SELECT c.*, format('%I.%I', nspname, relname) AS name FROM pg_class c JOIN home ON home.oid = relnamespace)
SELECT format('schema %s %s', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^(pg_|backout)'
UNION ALL SELECT concat_ws(' ', 'relation', name, relkind, relpersistence, relowner::regrole, relacl, relrowsecurity, relforcerowsecurity,
    reloptions, relispartition, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), relreplident, obj_description(oid, 'pg_class')) FROM r
UNION ALL SELECT concat_ws(' ', 'column', r.name, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
    attgenerated, attcollation::regcollation, pg_get_expr(adbin, adrelid), attacl, attstorage, attstattarget, col_description(r.oid, attnum))
    FROM r JOIN pg_attribute ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f')
    LEFT JOIN pg_attrdef ON adrelid = r.oid AND adnum = attnum
UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(k.oid), convalidated)
    FROM pg_constraint k JOIN home ON home.oid = connamespace
UNION ALL SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident) FROM pg_index JOIN r ON r.oid = indrelid
UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), tgenabled) FROM pg_trigger t JOIN r ON r.oid = tgrelid WHERE NOT tgisinternal
UNION ALL SELECT concat_ws(' ', 'rule', pg_get_ruledef(w.oid)) FROM pg_rewrite w JOIN r ON r.oid = ev_class
UNION ALL SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd, pg_get_expr(polqual, polrelid)) FROM pg_policy JOIN r ON r.oid = polrelid
UNION ALL SELECT concat_ws(' ', 'sequence', r.name, seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle)
    FROM pg_sequence JOIN r ON r.oid = seqrelid
UNION ALL SELECT concat_ws(' ', 'function', CASE WHEN prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE proname END) FROM pg_proc p JOIN home ON home.oid = pronamespace
UNION ALL SELECT concat_ws(' ', 'type', typname, typtype, (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
    FROM pg_type t JOIN home ON home.oid = typnamespace
ORDER BY 1";

/// What is left of us in a PostgreSQL database.
pub(crate) fn pg_ours(client: &mut Client) -> Vec<String> {
    pg_rows(
        client,
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ '^backout' AND c.relkind IN ('r', 'v')
         UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE 'backout%'
         UNION ALL SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'backout'",
    )
}

const MIGRATION: &str = "[transfer]\nfrom = \"local\"\nto = \"main\"\n";

fn home(from: &str, to: &str) -> Home {
    let home = Home::new(&[("local", from), ("main", to)], "");
    home.migration("20250101000000_move", MIGRATION);
    home
}

// ── PostgreSQL ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A shop, with a column of each type that applications have.
const SHOP: &str = r#"
CREATE TABLE users (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    email varchar(40) NOT NULL UNIQUE,
    active boolean NOT NULL DEFAULT true,
    born date, code char(4), balance numeric(10,2) DEFAULT 0, exact numeric, ratio double precision, weight real,
    created timestamptz NOT NULL DEFAULT now(), seen timestamp DEFAULT now(), token uuid DEFAULT gen_random_uuid(),
    settings jsonb DEFAULT '{}'::jsonb, raw json, picture bytea, small smallint, tags text[], pause interval,
    address inet, bits bit(4), clock time, price money, note text DEFAULT 'it''s'
);
CREATE TABLE orders (
    id serial PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    replaces int REFERENCES orders (id),
    total numeric(12,4) NOT NULL CHECK (total >= 0)
);
CREATE INDEX orders_user ON orders (user_id, id DESC);
CREATE UNIQUE INDEX one_open ON users (born) WHERE active;
CREATE TABLE pairs (b int, a text, v int, PRIMARY KEY (b, a));
CREATE TABLE words (word text PRIMARY KEY, at timestamptz);
INSERT INTO users (id, email, active, born, code, balance, exact, ratio, weight, created, seen, token, settings, raw, picture, small, tags,
        pause, address, bits, clock, price) VALUES
    (1, 'ann@x.org', true, '1999-12-31', 'ab', 1.50, 1.10, 0.1, 0.1, '2024-02-29 12:00:00.123456+02', '2024-02-29 12:00:00',
     '11111111-2222-3333-4444-555555555555', '{"b": [1, 2.50], "a": null}', '{"b":1,  "a":1.0,"a":2}', '\x00ff', -5, '{a,NULL,"b c"}',
     '1 mon 2 days 03:04:05.6', '10.0.0.0/8', B'1010', '01:02:03', 12.34),
    (2, 'Bö@x.org', false, 'infinity', 'abcd', -0.05, 12345678901234567890.123456789000, 'Infinity', -1.5e-30, 'infinity', '-infinity',
     NULL, 'null', 'null', '', 32767, '{}', '0', '::1', B'0000', '24:00', -1),
    (3, '', true, '0044-03-15 BC', '', 0, 0.000, -1e300, 3, '0044-03-15 00:00:00+00 BC', '12024-01-01 00:00:00.5',
     '00000000-0000-0000-0000-000000000000', '"x"', '"\u00e9"', NULL, NULL, NULL, '-1 year', NULL, NULL, NULL, NULL);
SELECT setval('users_id_seq', 40);
INSERT INTO orders (user_id, replaces, total) VALUES (1, NULL, 1), (1, 1, 2.5), (2, NULL, 0.0001);
INSERT INTO pairs VALUES (1, 'x', 1), (1, 'X', 2), (2, '', NULL);
INSERT INTO words VALUES ('one', NULL), ('One', '2024-01-01'), ('two', '1969-07-20 20:17:40+00');
"#;

/// What the application does, and the same in SQLite's words.
const SHOP_CHANGES: &str = r#"
INSERT INTO users (email, balance, exact, code, settings, created, seen, token, tags) VALUES
    ('new@x.org', 5, 1.500, 'é', '{"k": 1, "aa": [1.50]}', '2030-01-01 00:00:00+00', '2030-01-01 00:00:00.5', '99999999-2222-3333-4444-555555555555', '{x}');
UPDATE users SET balance = 99.90, active = false, weight = 0.2, ratio = -7, picture = '\x01' WHERE id = 1;
UPDATE users SET email = 'moved@x.org', id = 77 WHERE id = 2;
UPDATE orders SET user_id = 77 WHERE user_id = 2;
DELETE FROM orders WHERE user_id = 3;
DELETE FROM users WHERE id = 3;
UPDATE pairs SET a = 'z' WHERE a = 'X';
DELETE FROM pairs WHERE b = 2;
INSERT INTO pairs VALUES (3, 'n', 3);
UPDATE words SET word = 'three', at = '2024-05-05 05:05:05+00' WHERE word = 'One';
INSERT INTO orders (user_id, replaces, total) VALUES (41, 2, 7);
"#;
const SHOP_IN_SQLITE: &str = r#"
INSERT INTO users (email, balance, exact, code, settings, created, seen, token, tags) VALUES
    ('new@x.org', 5, '1.500', 'é', '{"aa":[1.50],"k":1}', '2030-01-01T00:00:00Z', '2030-01-01 00:00:00.5', '99999999-2222-3333-4444-555555555555', '{x}');
UPDATE users SET balance = '99.9', active = 0, weight = 0.2, ratio = -7, picture = x'01' WHERE id = 1;
PRAGMA foreign_keys = OFF;
UPDATE users SET email = 'moved@x.org', id = 77 WHERE id = 2;
UPDATE orders SET user_id = 77 WHERE user_id = 2;
PRAGMA foreign_keys = ON;
DELETE FROM orders WHERE user_id = 3;
DELETE FROM users WHERE id = 3;
UPDATE pairs SET a = 'z' WHERE a = 'X';
DELETE FROM pairs WHERE b = 2;
INSERT INTO pairs VALUES (3, 'n', 3);
UPDATE words SET word = 'three', at = '2024-05-05 05:05:05' WHERE word = 'One';
INSERT INTO orders (user_id, replaces, total) VALUES (41, 2, 7);
"#;

/// The key of a row with children changes, which this foreign key forbids by itself.
fn in_postgres(changes: &str) -> String {
    changes.replace(
        "UPDATE users SET email = 'moved@x.org', id = 77 WHERE id = 2;\nUPDATE orders SET user_id = 77 WHERE user_id = 2;",
        "WITH u AS (UPDATE users SET email = 'moved@x.org', id = 77 WHERE id = 2) UPDATE orders SET user_id = 77 WHERE user_id = 2;",
    )
}

fn shop() -> Database {
    let database = Database::new();
    database.client().batch_execute(SHOP).unwrap();
    database
}

/// The same shop on which the changes were made without us.
fn model() -> Database {
    let database = shop();
    database.client().batch_execute(&in_postgres(SHOP_CHANGES)).unwrap();
    database
}

#[track_caller]
fn as_the_model(source: &Database, schema: &[String], model: &Database) {
    let (mut found, mut wanted) = (source.client(), model.client());
    same(&pg_dump_rows(&mut found), &pg_dump_rows(&mut wanted));
    assert_eq!(pg_schema(source), schema);
    assert_eq!(pg_ours(&mut found), ["history", "migration_log"]);
    // and the application goes on with its own numbers, above all that are there
    let next = pg_rows(&mut found, "INSERT INTO users (email) VALUES ('next') RETURNING id > 77");
    assert_eq!(next, ["t"]);
    assert_eq!(pg_rows(&mut found, "INSERT INTO orders (user_id, total) VALUES (1, 1) RETURNING id"), ["5"]);
}

#[test]
fn postgres_to_sqlite_and_back() {
    let source = shop();
    let schema = pg_schema(&source);
    let home = home(&source.url, "sqlite:app.db");
    home.up();
    let db = home.sqlite("app.db");
    db.execute_batch(SHOP_IN_SQLITE).unwrap();
    // what the defaults give there are values of the source's types
    let given = "INSERT INTO users (email) VALUES ('default') RETURNING id || ' ' || active || ' ' || balance || ' ' || note || ' ' || settings || ' ' ||
        (created GLOB '????-??-?? ??:??:??+00:00') || (seen GLOB '????-??-?? ??:??:??') || (token GLOB '????????-????-4???-[89abAB]???-????????????')";
    let given: String = db.query_row(given, [], |r| r.get(0)).unwrap();
    assert_eq!(given, "78 1 0 it's {} 111");
    ok(home.project().shadow());
    assert_eq!(
        pg_rows(&mut source.client(), "SELECT balance, note, token IS NULL FROM users WHERE id = 78"),
        ["0.00 | it's | f"]
    );
    db.execute_batch("DELETE FROM users WHERE id = 78").unwrap();
    let out = home.rollback();
    assert!(out.parked.is_empty(), "{:#?}", out.parked);
    as_the_model(&source, &schema, &model());
}

#[test]
fn postgres_to_postgres_and_back() {
    let (source, target) = (shop(), Database::new());
    let schema = pg_schema(&source);
    let home = home(&source.url, &target.url);
    home.up();
    target.client().batch_execute(&in_postgres(SHOP_CHANGES)).unwrap();
    let out = home.rollback();
    assert!(out.parked.is_empty(), "{:#?}", out.parked);
    as_the_model(&source, &schema, &model());
}

#[test]
fn postgres_goes_and_comes_back_untouched() {
    for to in ["sqlite", "postgres"] {
        let (source, target) = (shop(), Database::new());
        let (rows, schema) = (pg_dump_rows(&mut source.client()), pg_schema(&source));
        let home = home(&source.url, if to == "sqlite" { "sqlite:app.db" } else { &target.url });
        home.up();
        home.rollback();
        same(&pg_dump_rows(&mut source.client()), &rows);
        assert_eq!(pg_schema(&source), schema);
    }
}

#[test]
fn an_abort_leaves_nothing_of_postgres_to_postgres() {
    let (source, target) = (shop(), Database::new());
    let (rows, schema, empty) = (pg_dump_rows(&mut source.client()), pg_schema(&source), pg_schema(&target));
    let home = home(&source.url, &target.url);
    home.up_until_ready();
    ok(home.project().abort());
    same(&pg_dump_rows(&mut source.client()), &rows);
    assert_eq!(pg_schema(&source), schema);
    assert_eq!(pg_schema(&target), empty);
    assert_eq!(pg_ours(&mut target.client()), ["history", "migration_log"]);
}

// ── SQLite ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const FILE: &str = r#"
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- a comment that stays
    email TEXT COLLATE NOCASE UNIQUE ON CONFLICT IGNORE, odd STRING DEFAULT (lower('X')), n INTEGER CHECK (n <> 1000), bare
);
CREATE INDEX by_lower ON users (lower(email)) WHERE odd IS NOT NULL;
CREATE TABLE "odd ""table" ("a b" TEXT NOT NULL, [c] INT, v REAL, d AS (v * 2), e AS (upper("a b")) STORED, PRIMARY KEY ("a b", c)) WITHOUT ROWID;
CREATE TABLE strict (id INT PRIMARY KEY NOT NULL, x ANY, b BLOB) STRICT;
CREATE TABLE notes (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    parent integer references NOTES (id), big integer);
INSERT INTO users (id, email, odd, n, bare) VALUES (1, 'a@x', '007', 5, CAST(x'ff41' AS TEXT)), (2, 'b@x', 'x', 'many', x'00'),
    (3, NULL, 1.50, 2.5, -0.0), (90, 'gone', NULL, NULL, NULL);
DELETE FROM users WHERE id = 90;
INSERT INTO "odd ""table" VALUES ('x', 1, 0.5), ('X', 1, 9e999), ('', -1, NULL);
INSERT INTO strict VALUES (1, '1', x''), (2, 1, NULL), (3, 1.0, x'00');
INSERT INTO notes VALUES (1, 1, NULL, 9223372036854775807), (2, 2, 1, -9223372036854775808), (3, NULL, 3, 0);
"#;

const FILE_CHANGES: &str = r#"
INSERT INTO users (email, bare) VALUES ('new', CAST(x'fe' AS TEXT));
UPDATE users SET odd = 12, n = 'few' WHERE id = 1;
UPDATE users SET id = 50 WHERE id = 3;
DELETE FROM notes WHERE id = 2;
DELETE FROM users WHERE id = 2;
UPDATE "odd ""table" SET "a b" = 'moved' WHERE "a b" = 'X';
DELETE FROM "odd ""table" WHERE c = -1;
INSERT INTO "odd ""table" VALUES ('é', 3, 1e-300);
UPDATE strict SET x = x'01' WHERE id = 2;
UPDATE strict SET id = 9 WHERE id = 3;
INSERT INTO notes (user, big) VALUES (1, 4);
"#;

fn file(home: &Home) -> Connection {
    let db = home.sqlite("from.db");
    db.execute_batch(FILE).unwrap();
    db
}

#[test]
fn sqlite_to_sqlite_and_back() {
    let home = home("sqlite:from.db", "sqlite:to.db");
    let db = file(&home);
    let schema = sqlite_schema(&db);
    home.up();
    let to = home.sqlite("to.db");
    to.execute_batch(FILE_CHANGES).unwrap();
    home.rollback();
    let model = Connection::open_in_memory().unwrap();
    model.execute_batch(FILE).unwrap();
    model.execute_batch(FILE_CHANGES).unwrap();
    same(&sqlite_dump(&db), &sqlite_dump(&model));
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(sqlite_ours(&db), ["backout_history"]);
}

#[test]
fn sqlite_to_sqlite_is_the_same_definition_word_for_word() {
    let home = home("sqlite:from.db", "sqlite:to.db");
    let db = file(&home);
    let (rows, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.up();
    home.complete();
    let to = home.sqlite("to.db");
    same(&sqlite_dump(&to), &rows);
    assert_eq!(sqlite_schema(&to), schema);
    drop(to);
}

/// Other names, and a table that is left out, in the text of the definitions too.
#[test]
fn sqlite_to_sqlite_with_other_names_and_without_a_table() {
    let home = home("sqlite:from.db", "sqlite:to.db");
    let db = file(&home);
    db.execute_batch(
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, v AS (id * 2) VIRTUAL, u INT REFERENCES strict (id), s TEXT DEFAULT 'x' CHECK (s <> ''), t);
         CREATE INDEX by_u ON loose (u); INSERT INTO loose VALUES (1, 1, 'a', NULL), (2, NULL, 'b', x'00')",
    )
    .unwrap();
    let (before, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.migration(
        "20250101000000_move",
        &format!("{MIGRATION}exclude = [\"strict\"]\nrename = {{ users = \"people\", notes = \"Remarks on\" }}\n"),
    );
    home.up();
    let to = home.sqlite("to.db");
    let said: Vec<String> = sqlite_schema(&to);
    let has =
        |text: &str| assert!(said.iter().any(|l| l.replace('\\', "").contains(text)), "{text} is not in {said:#?}");
    has(r#"CREATE TABLE "people" (n    id INTEGER PRIMARY KEY AUTOINCREMENT, -- a comment that stays"#);
    has(
        r#"CREATE TABLE "Remarks on" (id INTEGER PRIMARY KEY, user INTEGER REFERENCES "people" (id) ON DELETE CASCADE"#,
    );
    has(r#"parent integer references "Remarks on" (id)"#);
    has(r#"CREATE INDEX "by_lower" ON "people" (lower(email)) WHERE odd IS NOT NULL"#);
    has(r#""v"  GENERATED ALWAYS AS (id * 2) VIRTUAL"#);
    let row: (i64, String) = to
        .query_row("INSERT INTO loose (id, u) VALUES (5, 77) RETURNING v, s", [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert_eq!(row, (10, "x".into()));
    to.execute_batch("DELETE FROM loose WHERE id = 5; UPDATE loose SET t = -0.0 WHERE id = 1; DELETE FROM \"Remarks on\" WHERE id = 3").unwrap();
    home.rollback();
    let mut expected = before;
    expected.get_mut("notes").unwrap().retain(|r| !r.starts_with("int 3 "));
    expected.get_mut("loose").unwrap()[0] = "int 1 | int 2 | int 1 | text a | real -0.0 8000000000000000".into();
    same(&sqlite_dump(&db), &expected);
    assert_eq!(sqlite_schema(&db), schema);
}

#[test]
fn an_abort_leaves_nothing_of_sqlite_to_sqlite() {
    let home = home("sqlite:from.db", "sqlite:to.db");
    let db = file(&home);
    let (rows, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    home.up_until_ready();
    ok(home.project().abort());
    same(&sqlite_dump(&db), &rows);
    assert_eq!(sqlite_schema(&db), schema);
    // AUTOINCREMENT made SQLite's own table of numbers, which cannot be dropped
    let left = sqlite_schema(&home.sqlite("to.db"));
    assert!(left.iter().all(|o| o.contains("sqlite_sequence")), "{left:?}");
}

// ── PostgreSQL, what it is made of ─────────────────────────────────────────────────────────────────────────────────

const MADE_OF: &str = r#"
CREATE EXTENSION btree_gist;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS numeric(10,2) DEFAULT 1 NOT NULL CONSTRAINT above_zero CHECK (VALUE > 0);
CREATE TYPE address AS (street text, feeling mood);
CREATE TYPE span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi);
CREATE TABLE parents (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "Odd Name" text COLLATE "C" DEFAULT 'it''s' NOT NULL, m mood[] DEFAULT '{sad}', p positive, a address, s span,
    first text, last text, whole text GENERATED ALWAYS AS (first || ' ' || last) STORED,
    doc jsonb, during tstzrange, tags text[],
    CONSTRAINT names UNIQUE (first, last) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT not_both CHECK (first IS NULL OR last IS NULL OR first <> last),
    CONSTRAINT no_overlap EXCLUDE USING gist (first WITH =, during WITH &&)
);
CREATE INDEX by_doc ON parents USING gin (doc);
CREATE INDEX by_lower ON parents (lower(first) text_pattern_ops, id DESC NULLS LAST) INCLUDE (last) WHERE first IS NOT NULL;
CREATE UNIQUE INDEX " USING odd" ON parents USING btree (tags) NULLS NOT DISTINCT;
CREATE INDEX by_hash ON parents USING hash (last);
CREATE TABLE children (
    a int NOT NULL, b text NOT NULL, parent int, n1 text, n2 text,
    CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT by_names FOREIGN KEY (n1, n2) REFERENCES children (b, n2) MATCH FULL ON DELETE SET NULL (n1) DEFERRABLE
);
"#;

/// Unique, and no key by that name: `ON CONFLICT` needs it, and nobody made it the primary key.
const AND_ALSO: &str = "CREATE UNIQUE INDEX the_key ON children (b, a);";

#[test]
fn postgres_to_postgres_is_the_same_definition() {
    let (source, target) = (Database::new(), Database::new());
    let made = MADE_OF
        .replace("REFERENCES children (b, n2)", "REFERENCES parents (first, last)")
        .replace("DEFERRABLE INITIALLY DEFERRED", "");
    source
        .client()
        .batch_execute(&format!(
            "{made}{AND_ALSO} INSERT INTO parents (first, last, during, tags) VALUES ('a', 'b', '[2024-01-01,2024-02-01)', NULL), ('a', 'c', NULL, '{{x}}');
             INSERT INTO children VALUES (1, 'x', 1, 'a', 'b'), (1, 'y', NULL, NULL, NULL);"
        ))
        .unwrap();
    target.client().batch_execute("CREATE EXTENSION btree_gist").unwrap();
    let schema = pg_schema(&source);
    let home = home(&source.url, &target.url);
    home.up();
    same(&pg_dump_rows(&mut target.client()), &pg_dump_rows(&mut source.client()));
    target
        .client()
        .batch_execute("INSERT INTO parents (first, last, tags) VALUES ('n', 'o', '{n}'); UPDATE parents SET last = 'z' WHERE first = 'a' AND last = 'c'; UPDATE children SET a = 5 WHERE b = 'x'")
        .unwrap();
    home.rollback();
    assert_eq!(pg_schema(&source), schema);
    assert_eq!(
        pg_rows(&mut source.client(), "SELECT first, last, whole, id FROM parents"),
        ["a | b | a b | 1", "a | z | a z | 2", "n | o | n o | 3"]
    );
    // what was kept is out of the way: again, and for good
    home.up();
    home.complete();
    assert_eq!(pg_schema(&target), schema);
    let refused = source.client().batch_execute("DELETE FROM children").unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "a source that rests for good stays sealed");
    assert_eq!(pg_ours(&mut source.client()).len(), 2 + 4 + 1, "{:?}", pg_ours(&mut source.client()));
}

#[track_caller]
fn refused(home: &Home, words: &[&str]) {
    let failure = home.project().plan(None).unwrap_err();
    let said = format!("{failure} {}", failure.hint);
    for word in words {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[test]
fn what_cannot_move_from_postgres_is_refused_by_name() {
    let (mut source, target) = (Database::new(), Database::new());
    let mut pg = source.client();
    let to = home(&source.url, &target.url);
    pg.batch_execute("CREATE TABLE t (id int PRIMARY KEY, what regclass)").unwrap();
    refused(&to, &["t.what", "regclass"]);
    pg.batch_execute("ALTER TABLE t DROP what; CREATE EXTENSION citext; ALTER TABLE t ADD mail citext").unwrap();
    refused(&to, &["t.mail", "citext", "CREATE EXTENSION"]);
    target.client().batch_execute("CREATE TYPE mood AS ENUM ('x')").unwrap();
    pg.batch_execute("ALTER TABLE t DROP mail; CREATE TYPE mood AS ENUM ('y'); ALTER TABLE t ADD m mood").unwrap();
    refused(&to, &["another type mood", "'x'", "'y'"]);
    target.client().batch_execute("DROP TYPE mood; CREATE TYPE mood AS ENUM ('y')").unwrap();
    ok(to.project().plan(None));
    pg.batch_execute("CREATE TABLE heir () INHERITS (t)").unwrap();
    refused(&to, &["table heir", "inherit"]);
    pg.batch_execute("DROP TABLE heir; CREATE TABLE nokey (a int)").unwrap();
    refused(&to, &["nokey", "no key"]);
    pg.batch_execute("DROP TABLE nokey").unwrap();
    let (role, url) = source.role("pw");
    let grants = format!("GRANT ALL ON DATABASE {} TO {role}; GRANT ALL ON t TO {role}", source.name);
    source.admin().batch_execute(&grants).unwrap();
    let other = home(&url, &target.url);
    refused(&other, &["table t", &format!("belongs to {}", owner()), "exclude"]);
}

#[test]
fn one_store_is_not_both_sides() {
    let source = shop();
    let same_one = source.url.replace("127.0.0.1", "localhost");
    refused(&home(&source.url, &same_one), &["are the same store"]);
    let twice = home("sqlite:from.db", "sqlite:./x/../from.db");
    std::fs::create_dir(twice.path("x")).unwrap();
    drop(file(&twice));
    refused(&twice, &["are the same store"]);
}

/// A partitioned table's rows move, whichever partition they are in, and come back to theirs.
#[test]
fn a_partitioned_table_goes_and_comes_back() {
    for to in ["sqlite", "postgres"] {
        let (source, target) = (Database::new(), Database::new());
        let sql = "CREATE TABLE m (id int, day date, v int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
            CREATE TABLE m_old PARTITION OF m FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
            CREATE TABLE m_new PARTITION OF m FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
            INSERT INTO m SELECT i, date '2023-12-01' + i, i FROM generate_series(1, 60) i";
        source.client().batch_execute(sql).unwrap();
        let schema = pg_schema(&source);
        let home = home(&source.url, if to == "sqlite" { "sqlite:app.db" } else { &target.url });
        home.up();
        let changes = "UPDATE m SET day = '2024-06-01' WHERE id = 1; UPDATE m SET v = 0 WHERE id = 60; DELETE FROM m WHERE id = 2; INSERT INTO m VALUES (99, '2020-01-01', 1)";
        if to == "sqlite" {
            home.sqlite("app.db").execute_batch(changes).unwrap();
        } else {
            target.client().batch_execute(changes).unwrap();
        }
        assert_eq!(source.client().batch_execute("DELETE FROM m_old").unwrap_err().code().unwrap().code(), "25006");
        assert_eq!(source.client().batch_execute("TRUNCATE m_new").unwrap_err().code().unwrap().code(), "25006");
        home.rollback();
        let model = Database::new();
        model.client().batch_execute(&format!("{sql}; {changes}")).unwrap();
        let each = "SELECT tableoid::regclass, * FROM m";
        assert_eq!(pg_rows(&mut source.client(), each), pg_rows(&mut model.client(), each), "{to}");
        assert_eq!(pg_schema(&source), schema);
    }
}

/// What SQLite cannot say of a PostgreSQL table is named in the plan, each by its name.
#[test]
fn what_sqlite_has_not_is_said() {
    let source = Database::new();
    let mut pg = source.client();
    pg.batch_execute(
        &MADE_OF
            .replace("REFERENCES children (b, n2)", "REFERENCES parents (first, last)")
            .replace("DEFERRABLE INITIALLY DEFERRED", ""),
    )
    .unwrap();
    pg.batch_execute(AND_ALSO).unwrap();
    pg.batch_execute("CREATE VIEW v AS SELECT 1; ALTER TABLE parents ALTER last SET DEFAULT upper('x'); ALTER TABLE parents ADD num serial").unwrap();
    pg.batch_execute(
        "CREATE SEQUENCE shared; CREATE SEQUENCE stepping INCREMENT 10;
         CREATE TABLE c1 (id int PRIMARY KEY DEFAULT nextval('shared')); CREATE TABLE c2 (id int PRIMARY KEY DEFAULT nextval('shared'));
         CREATE TABLE c3 (id int PRIMARY KEY DEFAULT nextval('stepping'));
         GRANT SELECT ON children TO PUBLIC; COMMENT ON COLUMN children.a IS 'x'; CREATE INDEX plain ON children (n1) INCLUDE (n2)",
    )
    .unwrap();
    let plan = ok(home(&source.url, "sqlite:app.db").project().plan(None)).unwrap().plan;
    let mut said: Vec<&str> = plan.not_moved.iter().map(|n| n.what.as_str()).collect();
    said.sort_unstable();
    assert_eq!(
        said,
        [
            "MATCH FULL of foreign key children → parents",
            "comments on children",
            "constraint not_both of parents: CHECK (((first IS NULL) OR (last IS NULL) OR (first <> last)))",
            "default of parents.last: upper('x'::text)",
            "generated column parents.whole",
            "included columns of index plain on children",
            "index  USING odd on parents",
            "index by_doc on parents",
            "index by_hash on parents",
            "index by_lower on parents",
            "index no_overlap on parents",
            "numbering of parents.num",
            "options of the sequence stepping",
            "privileges on children",
            "the one sequence shared of several columns",
            "view v",
        ]
    );
}

#[test]
fn an_abort_leaves_nothing_of_either_kind_in_the_other() {
    let (source, target) = (shop(), Database::new());
    let (rows, schema, empty) = (pg_dump_rows(&mut source.client()), pg_schema(&source), pg_schema(&target));
    let down = home(&source.url, "sqlite:to.db");
    down.up_until_ready();
    ok(down.project().abort());
    same(&pg_dump_rows(&mut source.client()), &rows);
    assert_eq!(pg_schema(&source), schema);
    let left = sqlite_schema(&down.sqlite("to.db"));
    assert!(left.iter().all(|o| o.contains("sqlite_sequence")), "{left:?}");
    let up = home("sqlite:from.db", &target.url);
    let db = up.sqlite("from.db");
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, 'a')").unwrap();
    let (rows, schema) = (sqlite_dump(&db), sqlite_schema(&db));
    up.up_until_ready();
    ok(up.project().abort());
    same(&sqlite_dump(&db), &rows);
    assert_eq!(sqlite_schema(&db), schema);
    assert_eq!(pg_schema(&target), empty);
}

/// What the role may not see is no reason to call the table empty; what may vanish in a crash is said.
#[test]
fn hidden_rows_are_refused_and_unlogged_tables_are_said() {
    let mut source = Database::new();
    let mut pg = source.admin();
    let (role, url) = source.role("pw");
    pg.batch_execute(&format!(
        "GRANT CREATE ON DATABASE {} TO {role}; GRANT ALL ON SCHEMA public TO {role};
         CREATE UNLOGGED TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); ALTER TABLE t OWNER TO {role};
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id = 1)",
        source.name
    ))
    .unwrap();
    let to = home(&url, "sqlite:app.db");
    let plan = ok(to.project().plan(None)).unwrap().plan;
    assert!(plan.notes.iter().any(|n| n.contains("UNLOGGED")), "{:?}", plan.notes);
    assert!(plan.not_moved.iter().any(|n| n.what == "policy p on t"));
    pg.batch_execute("ALTER TABLE t FORCE ROW LEVEL SECURITY").unwrap();
    refused(&to, &["row-level security policy", "t"]);
}

#[test]
fn names_that_sqlite_takes_for_one_are_refused() {
    let source = Database::new();
    let mut pg = source.client();
    let to = home(&source.url, "sqlite:app.db");
    pg.batch_execute("CREATE TABLE t (id int PRIMARY KEY, \"Id\" int)").unwrap();
    refused(&to, &["t: two columns", "Id"]);
    pg.batch_execute("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE \"T\" (id int PRIMARY KEY)")
        .unwrap();
    refused(&to, &["two tables would both become"]);
}

// ── JSON ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Every kind of write on either target; the file is then as an editor would have left it.
#[test]
fn json_to_either_and_back() {
    let text = "[\n  {\"id\": 1, \"name\": \"Ann\", \"rate\": 1.50, \"tags\": [1,  \"x\"], \"on\": true},\n  {\"id\": 2, \"name\": \"Bö\", \"rate\": 2, \"on\": false},\n  \
        {\"id\": 3, \"name\": null, \"rate\": 0.1, \"on\": true},\n  {\"id\": 4, \"name\": \"\\u00e9\", \"rate\": 1E3, \"on\": true}\n]\n";
    let expected = "[\n  {\"id\": 1, \"name\": \"Anna\", \"rate\": 1.50, \"tags\": [1,  \"x\"], \"on\": true},\n  \
        {\"id\": 30, \"name\": null, \"rate\": 0.1, \"on\": true},\n  {\"id\": 4, \"name\": \"\\u00e9\", \"rate\": 1E3, \"on\": false},\n  \
        {\"id\": 9, \"name\": \"new\", \"rate\": 7.5, \"tags\": {\"a\": 1}, \"on\": false}\n]\n";
    for to in ["sqlite", "postgres"] {
        let target = Database::new();
        let home = home("json:app.json", if to == "sqlite" { "sqlite:app.db" } else { &target.url });
        home.migration(
            "20250101000000_move",
            &format!("{MIGRATION}[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"people\"\n"),
        );
        home.write("app.json", text);
        home.up();
        let changes = "UPDATE people SET name = 'Anna' WHERE id = 1; DELETE FROM people WHERE id = 2; UPDATE people SET id = 30 WHERE id = 3;
            INSERT INTO people (id, name, rate, tags, \"on\") VALUES (9, 'new', 7.5, '{\"a\": 1}', false); UPDATE people SET \"on\" = false WHERE id = 4";
        if to == "sqlite" {
            home.sqlite("app.db").execute_batch(changes).unwrap();
        } else {
            target.client().batch_execute(changes).unwrap();
        }
        let out = home.rollback();
        assert!(out.parked.is_empty(), "{:#?}", out.parked);
        assert_eq!(home.text("app.json"), expected, "{to}");
        home.up();
        home.rollback();
        assert_eq!(home.text("app.json"), expected, "{to}: there and back again changes nothing");
    }
}
