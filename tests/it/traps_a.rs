//! What is known to go wrong on the way from SQLite to PostgreSQL, trap by trap: there, written, and back, byte for byte.

use backout::migrate::{Failure, Scope, VerifyOptions};
use backout::plan::Plan;
use postgres::Client;
use rusqlite::Connection;

use crate::scenarios::{Database, Dump, Home, ok, pg_rows, same, sqlite_dump, sqlite_ours, sqlite_rows, sqlite_schema};

/// One database on its way.
struct Trip {
    home: Home,
    server: Database,
    before: Dump,
    schema: Vec<String>,
}

const TRANSFER: &str = "[transfer]\nfrom = \"local\"\nto = \"main\"\n";

impl Trip {
    /// A file made by `sql`; `more` stands at the end of the migration.
    fn new(sql: &str, more: &str) -> Trip {
        let server = Database::new();
        let home = Home::new(&[("local", "sqlite:app.db"), ("main", &server.url)], "");
        let db = home.sqlite("app.db");
        db.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        db.execute_batch(sql).unwrap();
        let (before, schema) = (sqlite_dump(&db), sqlite_schema(&db));
        home.migration("20250101000000_to_postgres", &format!("{TRANSFER}{more}"));
        Trip { home, server, before, schema }
    }

    fn plan(&self) -> Plan {
        ok(self.home.project().plan(None)).unwrap().plan
    }

    /// Type and codec of each column of the only table.
    fn columns(&self) -> Vec<String> {
        let plan = self.plan();
        let t = &plan.tables[0];
        t.target
            .columns
            .iter()
            .zip(&t.codecs)
            .map(|(c, p)| format!("{} {}: {}", c.name, c.ty, p.codec.title()))
            .collect()
    }

    /// What stays behind.
    fn left(&self) -> Vec<String> {
        self.plan().not_moved.into_iter().map(|n| n.what).collect()
    }

    /// That `plan` refuses with these words, and changes nothing.
    #[track_caller]
    fn refused(&self, words: &[&str]) -> Failure {
        let bytes = self.home.read("app.db");
        let refused = self.home.project().plan(None).unwrap_err();
        let said = format!("{refused} {}", refused.hint);
        for w in words {
            assert!(said.contains(w), "{w:?} is not in {said}");
        }
        assert_eq!(refused.exit, 4, "{said}");
        assert_eq!(self.home.read("app.db"), bytes);
        let there = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backout%' UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        assert_eq!(pg_rows(&mut self.server.client(), there), [""; 0]);
        refused
    }

    fn up(&self) -> Client {
        self.home.up();
        self.server.client()
    }

    /// Back; then the source is what it was, but for `writes`, done by SQLite itself.
    #[track_caller]
    fn back(&self, writes: &str) {
        let out = self.home.rollback();
        assert!(out.parked.is_empty(), "{:#?}", out.parked);
        let db = self.home.sqlite("app.db");
        let found = sqlite_dump(&db);
        let model = Connection::open_in_memory().unwrap();
        if writes.is_empty() {
            same(&found, &self.before);
        } else {
            for sql in self.texts() {
                model.execute_batch(&sql).unwrap();
            }
            model.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
            self.fill(&model);
            model.execute_batch("PRAGMA foreign_keys = ON").unwrap();
            model.execute_batch(writes).unwrap();
            same(&found, &sqlite_dump(&model));
        }
        assert_eq!(sqlite_schema(&db), self.schema);
        assert_eq!(sqlite_ours(&db), ["backout_history"]);
        assert_eq!(sqlite_rows(&db, "PRAGMA integrity_check"), ["text ok"]);
    }

    fn texts(&self) -> Vec<String> {
        let db = self.home.sqlite("app.db");
        let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND type IN ('table', 'index') AND name NOT LIKE 'backout%' AND name NOT LIKE 'sqlite%' ORDER BY rowid";
        db.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn fill(&self, model: &Connection) {
        let _ = std::fs::remove_file(self.home.path("before.db"));
        std::fs::write(self.home.path("before.db"), self.kept()).unwrap();
        let path = self.home.path("before.db");
        model.execute("ATTACH ?1 AS kept", [path.to_str().unwrap()]).unwrap();
        for table in self.before.keys().filter(|t| *t != "sqlite_sequence") {
            let quoted = format!("\"{}\"", table.replace('"', "\"\""));
            let names: Vec<String> = model
                .prepare(
                    "SELECT '\"' || replace(name, '\"', '\"\"') || '\"' FROM pragma_table_xinfo(?1) WHERE hidden = 0",
                )
                .unwrap()
                .query_map([table], |r| r.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let names = names.join(", ");
            model
                .execute_batch(&format!("INSERT INTO main.{quoted} ({names}) SELECT {names} FROM kept.{quoted}"))
                .unwrap();
        }
        let has = model
            .prepare("SELECT 1 FROM kept.sqlite_schema WHERE name = 'sqlite_sequence'")
            .unwrap()
            .exists([])
            .unwrap();
        if has {
            model.execute_batch("DELETE FROM main.sqlite_sequence; INSERT INTO main.sqlite_sequence SELECT * FROM kept.sqlite_sequence").unwrap();
        }
        model.execute_batch("DETACH kept").unwrap();
    }

    /// The file as it was before the trip.
    fn kept(&self) -> Vec<u8> {
        self.home.read("kept.db")
    }
}

/// A trip whose file is kept aside, so that `back` can say what it should have become.
fn trip(sql: &str, more: &str) -> Trip {
    let t = Trip::new(sql, more);
    t.home.write("kept.db", t.home.read("app.db"));
    t
}

fn pg(c: &mut Client, sql: &str) -> Vec<String> {
    pg_rows(c, sql)
}

fn state_of(c: &mut Client, sql: &str) -> String {
    c.batch_execute(sql).unwrap_err().code().unwrap().code().to_owned()
}

#[test]
fn a01_real_is_double() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL, f FLOAT); INSERT INTO t VALUES (1, 83.0920312, 0.1), (2, 5e-324, 1.7976931348623157e308)",
        "",
    );
    assert_eq!(t.columns()[1..], ["r double precision: as it is", "f double precision: as it is"]);
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT r, f FROM t"), ["5e-324 | 1.7976931348623157e+308", "83.0920312 | 0.1"]);
    c.batch_execute("UPDATE t SET f = 83.09203120000001 WHERE id = 1").unwrap();
    t.back("UPDATE t SET f = 83.09203120000001 WHERE id = 1");
}

#[test]
fn a02_integer_is_64_bits_whatever_its_name() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b SMALLINT, c TINYINT, d MEDIUMINT, e INT4);
         INSERT INTO t VALUES (9223372036854775807, 9223372036854775807, -32769, 5, 2147483648, 7), (-9223372036854775808, NULL, 1, -128, 1, -9)",
        "",
    );
    let types: Vec<String> = t.columns().iter().map(|c| c.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(types, ["id bigint", "a bigint", "b bigint", "c smallint", "d bigint", "e integer"]);
    let mut c = t.up();
    c.batch_execute("UPDATE t SET a = -9223372036854775808 WHERE a IS NULL").unwrap();
    t.back("UPDATE t SET a = -9223372036854775808 WHERE a IS NULL");
}

#[test]
fn a03_odd_type_names_go_by_their_affinity_and_their_values() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s STRING, i intege, b BOOL, n, p FLOATING POINT);
         INSERT INTO t VALUES (1, '007', '12', 1, 'x', 3), (2, 'seven', 7, 0, 'y', 4.0)",
        "",
    );
    assert_eq!(
        t.columns()[1..],
        [
            "s text: widened to text",
            "i bigint: as it is",
            "b boolean: 1/0 as boolean",
            "n text: as it is",
            "p bigint: as it is"
        ]
    );
    let mut c = t.up();
    // SQLite kept the number 7, so 7 it is
    assert_eq!(pg(&mut c, "SELECT s, i, p FROM t"), ["7 | 12 | 3", "seven | 7 | 4"]);
    c.batch_execute("INSERT INTO t VALUES (3, '008x', 1, NULL, 'z', 5), (4, '8', 1, true, '8', 5)").unwrap();
    t.back("INSERT INTO t VALUES (3, '008x', 1, NULL, 'z', 5), (4, 8, 1, 1, '8', 5)");
}

#[test]
fn a04_decimals_are_the_shortest_exact_text_of_the_double() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d DECIMAL, m NUMERIC(10,2));
         INSERT INTO t VALUES (1, 9007199254740993.5, 0.1), (2, 0.30000000000000004, 12345678.91), (3, 7, 10)",
        "",
    );
    assert_eq!(t.columns()[1..], ["d numeric: number as decimal", "m numeric(10,2): number as decimal"]);
    let notes = t.plan().notes.join("\n");
    assert!(notes.contains("binary doubles") && notes.contains("t.d, t.m"), "{notes}");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT d FROM t"), ["0.30000000000000004", "7", "9007199254740994"]);
    c.batch_execute("UPDATE t SET m = 10.50 WHERE id = 3").unwrap();
    t.back("UPDATE t SET m = 10.5 WHERE id = 3");
}

#[test]
fn a05_booleans_only_if_all_fit_and_their_spelling_comes_back() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a BOOLEAN DEFAULT 0, b BOOLEAN DEFAULT 't', c BOOL, d BOOL);
         INSERT INTO t VALUES (1, 1, 't', 'true', 2), (2, 0, 'f', 'false', 1), (3, NULL, NULL, 'true', 0)",
        "",
    );
    let said = t.columns();
    assert_eq!(
        said[1..],
        [
            "a boolean: 1/0 as boolean",
            "b boolean: 't'/'f' as boolean",
            "c boolean: 'true'/'false' as boolean",
            "d bigint: as it is"
        ]
    );
    let mut c = t.up();
    c.batch_execute("INSERT INTO t (id, c, d) VALUES (4, false, 1); UPDATE t SET a = NOT a, b = NOT b").unwrap();
    t.back("INSERT INTO t VALUES (4, 0, 't', 'false', 1); UPDATE t SET a = 1 - a, b = CASE b WHEN 't' THEN 'f' WHEN 'f' THEN 't' END");
}

#[test]
fn a06_times_are_known_by_shape_and_range_and_zones_are_said() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, plain DATETIME, tee TIMESTAMP, zulu TIMESTAMP, s DATETIME, ms TIMESTAMP, us TIMESTAMP, julian REAL, mixed DATETIME, meant DATETIME);
         INSERT INTO t VALUES (1, '2024-03-31 02:30:00', '2024-01-01T00:00:00.123', '2024-01-01T00:00:00Z', 1709208000, 1709208000123, 1709208000123456, 2460310.5, '2024-01-01 00:00:00', '2024-03-31 02:30:00'),
                              (2, '0001-01-01 00:00:00', '9999-12-31T23:59:59.999', '1969-12-31T23:59:59Z', 1709208001, 1709208001000, 1709208001000000, 0.5, '2024-01-01 00:00:00+02:00', '1999-12-31 23:59:59')";
    let meant = "[[transfer.column]]\ntable = \"t\"\ncolumn = \"meant\"\ntype = \"timestamptz\"\n";
    let t = trip(sql, meant);
    t.refused(&["t.meant", "timestamptz", "zone = \"UTC\""]);
    let t = trip(sql, &format!("{meant}zone = \"Europe/Berlin\"\n"));
    let refused = backout::migrate::Project::open(t.home.path("").as_path(), &|_| None).err().unwrap();
    assert!(refused.to_string().contains("Europe/Berlin"), "{refused}");
    let t = trip(sql, &format!("{meant}zone = \"UTC\"\n"));
    let types: Vec<String> = t.columns().iter().map(|c| c.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(
        types[1..],
        [
            "plain timestamp",
            "tee timestamp",
            "zulu timestamptz",
            "s timestamptz",
            "ms timestamptz",
            "us timestamptz",
            "julian double precision",
            "mixed text",
            "meant timestamptz"
        ]
    );
    let mut c = t.up();
    c.batch_execute("SET TimeZone = 'America/New_York'").unwrap();
    assert_eq!(
        pg(
            &mut c,
            "SELECT plain, tee, zulu AT TIME ZONE 'UTC', s AT TIME ZONE 'UTC', ms AT TIME ZONE 'UTC', us AT TIME ZONE 'UTC', meant AT TIME ZONE 'UTC' FROM t WHERE id = 1"
        ),
        [
            "2024-03-31 02:30:00 | 2024-01-01 00:00:00.123 | 2024-01-01 00:00:00 | 2024-02-29 12:00:00 | 2024-02-29 12:00:00.123 | 2024-02-29 12:00:00.123456 | 2024-03-31 02:30:00"
        ]
    );
    c.batch_execute("UPDATE t SET plain = '2030-01-01 00:00:00', zulu = '2030-01-01 02:00:00+02', ms = '2030-01-01 00:00:00.5+00', meant = '2030-01-01 00:00:00+00' WHERE id = 1").unwrap();
    t.back("UPDATE t SET plain = '2030-01-01 00:00:00', zulu = '2030-01-01T00:00:00Z', ms = 1893456000500, meant = '2030-01-01 00:00:00' WHERE id = 1");
}

#[test]
fn a07_text_in_an_integer_column_widens_it_or_is_refused_with_the_key() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 5), (2, 'many'), (3, 2.5)";
    let t = trip(sql, "");
    assert_eq!(t.columns()[1], "n text: widened to text");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT n FROM t"), ["2.5", "5", "many"]);
    c.batch_execute("INSERT INTO t VALUES (4, '77'), (5, 'few')").unwrap();
    t.back("INSERT INTO t VALUES (4, 77), (5, 'few')");
    let t = trip(sql, "[[transfer.column]]\ntable = \"t\"\ncolumn = \"n\"\ntype = \"bigint\"\n");
    t.refused(&["t.n", "bigint"]);
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 5), (2, 'many'), (3, x'00')",
        "",
    );
    t.refused(&["t.n", "key 3", "codec = \"literal\""]);
}

#[test]
fn a08_invalid_utf8_is_bytes_escaped_or_refused_as_the_migration_says() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, CAST(x'61ff62' AS TEXT)), (2, 'a\\b'), (3, CAST(x'c3' AS TEXT)), (4, NULL)";
    let with =
        |codec: &str| trip(sql, &format!("[[transfer.column]]\ntable = \"t\"\ncolumn = \"s\"\ncodec = \"{codec}\"\n"));
    with("text").refused(&["t.s", "key 1", "UTF-8"]);
    let t = trip(sql, "");
    assert_eq!(t.columns()[1], "s bytea: text as bytes");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT s FROM t WHERE id = 1"), ["\\x61ff62"]);
    c.batch_execute("UPDATE t SET s = '\\xfe' WHERE id = 4").unwrap();
    t.back("UPDATE t SET s = CAST(x'fe' AS TEXT) WHERE id = 4");
    let t = with("escape");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT s FROM t"), ["\\xc3", "a\\\\b", "a\\xffb", "∅"]);
    c.batch_execute(r"UPDATE t SET s = 'é\\ \xff' WHERE id = 4").unwrap();
    t.back("UPDATE t SET s = CAST(x'c3a95c20ff' AS TEXT) WHERE id = 4");
}

#[test]
fn a09_nul_in_text_is_carried_whole() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, CAST(x'610062' AS TEXT)), (2, 'plain'), (3, CAST(x'00' AS TEXT))";
    let t = trip(sql, "");
    assert_eq!(t.columns()[1], "s bytea: text as bytes");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT s FROM t"), ["\\x00", "\\x610062", "\\x706c61696e"]);
    c.batch_execute("UPDATE t SET s = s || '\\x00' WHERE id = 2").unwrap();
    t.back("UPDATE t SET s = CAST(x'706c61696e00' AS TEXT) WHERE id = 2");
    let t = trip(sql, "[[transfer.column]]\ntable = \"t\"\ncolumn = \"s\"\ncodec = \"escape\"\n");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT s FROM t"), ["\\x00", "a\\x00b", "plain"]);
    t.back("");
    trip(sql, "[[transfer.column]]\ntable = \"t\"\ncolumn = \"s\"\ntype = \"text\"\n")
        .refused(&["t.s", "key 1", "NUL"]);
}

#[test]
fn a10_json_keeps_its_text_and_jsonb_only_what_survives_it() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, j JSON); INSERT INTO t VALUES (1, '{\"b\":1E3, \"a\" : \"\\u00e9\", \"a\":12345678901234567890}'), (2, '\"\\u0000\"'), (3, '[ ]')",
        "",
    );
    assert_eq!(t.columns()[1], "j json: text as json");
    let mut c = t.up();
    assert_eq!(
        pg(&mut c, "SELECT j FROM t WHERE id = 1"),
        ["{\"b\":1E3, \"a\" : \"\\u00e9\", \"a\":12345678901234567890}"]
    );
    c.batch_execute("UPDATE t SET j = '{ }' WHERE id = 3").unwrap();
    t.back("UPDATE t SET j = '{ }' WHERE id = 3");
    let asked = "[[transfer.column]]\ntable = \"t\"\ncolumn = \"j\"\ntype = \"jsonb\"\n";
    for (bad, why) in
        [("{\"a\":1,\"a\":2}", "two members"), ("\"\\u0000\"", "u0000"), ("-0.0", "zero"), ("{", "no JSON")]
    {
        let sql =
            format!("CREATE TABLE t (id INTEGER PRIMARY KEY, j TEXT); INSERT INTO t VALUES (1, '[]'), (7, '{bad}')");
        trip(&sql, asked).refused(&["t.j", "key 7", why]);
    }
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, j TEXT); INSERT INTO t VALUES (1, '{\"bb\":1E3, \"a\" : \"\\u00e9\"}'), (2, '[1.10,2]'), (3, NULL), (4, '{}')",
        asked,
    );
    let mut c = t.up();
    assert_eq!(
        pg(&mut c, "SELECT j, pg_typeof(j) FROM t WHERE id < 3"),
        ["[1.10, 2] | jsonb", "{\"a\": \"é\", \"bb\": 1000} | jsonb"]
    );
    // a row written there without changing the document keeps its spelling; a changed document has jsonb's
    c.batch_execute("UPDATE t SET id = 20 WHERE id = 2; UPDATE t SET j = j || '{\"z\":1}' WHERE id = 4; UPDATE t SET j = j WHERE id = 1").unwrap();
    t.back("UPDATE t SET id = 20 WHERE id = 2; UPDATE t SET j = '{\"z\": 1}' WHERE id = 4");
}

#[test]
fn a10_jsonb_is_refused_where_two_spellings_must_stay_two_values() {
    let asked = "[[transfer.column]]\ntable = \"t\"\ncolumn = \"j\"\ntype = \"jsonb\"\n";
    for columns in [
        "j TEXT NOT NULL PRIMARY KEY, n INTEGER",
        "id INTEGER PRIMARY KEY, j TEXT UNIQUE",
        "id INTEGER PRIMARY KEY, n INTEGER, j TEXT, UNIQUE (n, j)",
        "n INTEGER NOT NULL, j TEXT NOT NULL, PRIMARY KEY (n, j)",
        "id INTEGER PRIMARY KEY, j TEXT REFERENCES p (j)",
    ] {
        let sql = format!(
            "CREATE TABLE p (j TEXT NOT NULL PRIMARY KEY); CREATE TABLE t ({columns});
             INSERT INTO p VALUES ('[1]'), ('[1 ]'); INSERT INTO t (j) SELECT j FROM p WHERE {}",
            if columns.starts_with("n ") { "0" } else { "1" }
        );
        trip(&sql, asked).refused(&["t.j", "jsonb", "type = \"text\""]);
    }
    // an index that only helps to find is no key
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, j TEXT); CREATE INDEX by_j ON t (j); INSERT INTO t VALUES (1, '[1]'), (2, '[1 ]')";
    let t = trip(sql, asked);
    t.up().batch_execute("DELETE FROM t WHERE id = 1").unwrap();
    t.back("DELETE FROM t WHERE id = 1");
}

#[test]
fn a11_blobs_are_raw_bytes_and_their_class_comes_back() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB, bare); INSERT INTO t VALUES (1, x'00ff27', x'61'), (2, x'', x''), (3, CAST('aGk=' AS BLOB), NULL)",
        "",
    );
    let mut c = t.up();
    assert_eq!(
        pg(&mut c, "SELECT b, pg_typeof(bare) FROM t"),
        ["\\x | bytea", "\\x00ff27 | bytea", "\\x61476b3d | bytea"]
    );
    c.batch_execute("UPDATE t SET b = '\\x00' WHERE id = 2").unwrap();
    t.back("UPDATE t SET b = x'00' WHERE id = 2");
}

#[test]
fn a12_infinities_and_negative_zero_keep_their_bits() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL, bare); INSERT INTO t VALUES (1, 9e999, -0.0), (2, -9e999, 9e999), (3, 0.0, 0.0)",
        "",
    );
    let mut c = t.up();
    assert_eq!(
        pg(&mut c, "SELECT encode(float8send(r), 'hex'), encode(float8send(bare), 'hex') FROM t"),
        [
            "0000000000000000 | 0000000000000000",
            "7ff0000000000000 | 8000000000000000",
            "fff0000000000000 | 7ff0000000000000"
        ]
    );
    c.batch_execute("UPDATE t SET bare = '-Infinity', r = 'Infinity' WHERE id = 3").unwrap();
    t.back("UPDATE t SET bare = -9e999, r = 9e999 WHERE id = 3");
    // NaN is NULL in SQLite: a row that holds one has no way back
    let t = trip("CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL); INSERT INTO t VALUES (1, 1.5)", "");
    let mut c = t.up();
    c.batch_execute("UPDATE t SET r = 'NaN'").unwrap();
    let out = t.home.rollback();
    assert_eq!(out.parked.len(), 1, "{:?}", out.parked);
    same(&sqlite_dump(&t.home.sqlite("app.db")), &t.before);
}

#[test]
fn a13_names_stay_as_they_are_and_collisions_are_found_in_the_plan() {
    let t = trip(
        "CREATE TABLE \"Select\" (\"Group By\" INTEGER PRIMARY KEY, \"quo\"\"te\" TEXT, \"ünï ☕\" TEXT, \"a.b\" INTEGER UNIQUE);
         CREATE INDEX \"Select_a.b_key\" ON \"Select\" (\"quo\"\"te\"); CREATE INDEX \"Select_pkey\" ON \"Select\" (\"a.b\");
         CREATE TABLE plain (a TEXT PRIMARY KEY, r INTEGER REFERENCES \"Select\" (\"a.b\") ON DELETE SET NULL, FOREIGN KEY (r) REFERENCES \"Select\" (\"Group By\"));
         INSERT INTO \"Select\" VALUES (1, 'x', 'y', 1); INSERT INTO plain VALUES ('p', 1)",
        "",
    );
    let mut c = t.up();
    assert_eq!(
        pg(&mut c, "SELECT indexdef FROM pg_indexes WHERE tablename = 'Select'").len(),
        4,
        "the key, the constraint, and both indexes that have their usual names"
    );
    assert_eq!(
        pg(&mut c, "SELECT conname FROM pg_constraint WHERE contype = 'f'").len(),
        2,
        "two foreign keys of one column"
    );
    c.batch_execute("UPDATE \"Select\" SET \"ünï ☕\" = 'z'").unwrap();
    t.back("UPDATE \"Select\" SET \"ünï ☕\" = 'z'");
    let long = "x".repeat(64);
    trip(&format!("CREATE TABLE {long} (id INTEGER PRIMARY KEY)"), "").refused(&[&long, "63 bytes"]);
    trip(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {long} TEXT)"), "").refused(&[&long, "63 bytes", "t"]);
    trip("CREATE TABLE t (id INTEGER PRIMARY KEY, xmin TEXT)", "").refused(&["t.xmin", "PostgreSQL"]);
    trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE u (id INTEGER PRIMARY KEY)",
        "rename = { t = \"u\" }\n",
    )
    .refused(&["\"u\""]);
    let t = trip("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); CREATE INDEX taken ON t (a)", "");
    let mut c = t.server.client();
    c.batch_execute("CREATE TABLE other (x int); CREATE INDEX taken ON other (x)").unwrap();
    let refused = t.home.project().plan(None).unwrap_err();
    assert!(refused.to_string().contains("taken"), "{refused}");
}

#[test]
fn a14_defaults_come_from_a_list_and_the_rest_is_named() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'it''s', b TEXT DEFAULT \"x\", c TEXT DEFAULT 'null', d DATETIME DEFAULT CURRENT_TIMESTAMP, e DATE DEFAULT CURRENT_DATE,
            f INTEGER DEFAULT (strftime('%s', 'now')), g TEXT DEFAULT (datetime('now')), h REAL DEFAULT -1.5, i TEXT DEFAULT NULL, j BLOB DEFAULT x'00ff', k TEXT DEFAULT (hex(randomblob(4))), l INTEGER DEFAULT (unixepoch()), m TEXT DEFAULT (date('now')));
         INSERT INTO t (id, d, e, f, g, l, m) VALUES (1, '2024-01-01 00:00:00', '2024-01-01', 5, 'then', 6, 'x')",
        "",
    );
    assert_eq!(t.left(), ["default of t.k: hex(randomblob(4))"]);
    let mut c = t.up();
    c.batch_execute("INSERT INTO t (id) VALUES (2)").unwrap();
    assert_eq!(
        pg(&mut c, "SELECT a, b, c, now() AT TIME ZONE 'UTC' - d < '1 min', e, abs(f - extract(epoch FROM now())) < 60, length(g), h, i, j, k, abs(l - f) < 2, length(m) FROM t WHERE id = 2"),
        [pg(&mut c, "SELECT 'it''s', 'x', 'null', true, (now() AT TIME ZONE 'UTC')::date, true, 19, -1.5, NULL, '\\x00ff'::bytea, NULL, true, 10").join("")]
    );
    t.home.rollback();
    let well = sqlite_rows(
        &t.home.sqlite("app.db"),
        "SELECT a, b, c, d GLOB '2???-??-?? ??:??:??', typeof(f), g GLOB '2???-??-?? ??:??:??', h, i, hex(j), k, m GLOB '2???-??-??' FROM t WHERE id = 2",
    );
    assert_eq!(
        well,
        [
            "text it\\'s | text x | text null | int 1 | text integer | int 1 | real -1.5 bff8000000000000 | null | text 00FF | null | int 1"
        ]
    );
}

#[test]
fn a15_numbering_goes_on_after_the_highest_ever_given() {
    let t = trip(
        "CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, a); CREATE TABLE alias (id INTEGER PRIMARY KEY, a); CREATE TABLE empty (id INTEGER PRIMARY KEY AUTOINCREMENT);
         CREATE TABLE down (id INTEGER PRIMARY KEY DESC, a); CREATE TABLE below (id INTEGER PRIMARY KEY);
         INSERT INTO auto VALUES (1, 'x'), (90, 'y'); DELETE FROM auto WHERE id = 90; INSERT INTO alias VALUES (7, 'x'); INSERT INTO down VALUES (3, 'x'); INSERT INTO below VALUES (-5)",
        "",
    );
    let mut c = t.up();
    let next = |c: &mut Client, sql: &str| pg(c, sql);
    assert_eq!(next(&mut c, "INSERT INTO auto (a) VALUES ('z') RETURNING id"), ["91"]);
    assert_eq!(next(&mut c, "INSERT INTO alias (a) VALUES ('z') RETURNING id"), ["8"]);
    assert_eq!(next(&mut c, "INSERT INTO empty DEFAULT VALUES RETURNING id"), ["1"]);
    assert_eq!(next(&mut c, "INSERT INTO below DEFAULT VALUES RETURNING id"), ["1"]);
    assert_eq!(state_of(&mut c, "INSERT INTO down (a) VALUES ('z')"), "23502", "what is no alias gives no numbers");
    assert_eq!(
        pg(&mut c, "SELECT attname FROM pg_attribute WHERE attrelid = 'down'::regclass AND attidentity <> ''"),
        [""; 0]
    );
    c.batch_execute("INSERT INTO auto VALUES (200, 'gone'); DELETE FROM auto WHERE id = 200").unwrap();
    t.back("INSERT INTO auto (a) VALUES ('z'); INSERT INTO alias (a) VALUES ('z'); INSERT INTO empty DEFAULT VALUES; INSERT INTO below VALUES (1)");
    let db = t.home.sqlite("app.db");
    assert_eq!(sqlite_rows(&db, "SELECT * FROM sqlite_sequence"), ["text auto | int 91", "text empty | int 1"]);
}

#[test]
fn a16_null_in_a_key_and_tables_without_one_are_refused_by_name() {
    trip("CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1), (NULL, 2)", "")
        .refused(&["t", "k", "NULL"]);
    trip("CREATE TABLE pair (a TEXT, b TEXT, PRIMARY KEY (a, b)); INSERT INTO pair VALUES ('x', NULL)", "").refused(&[
        "pair",
        "column b",
        "('x', NULL)",
    ]);
    trip("CREATE TABLE bare (a, b UNIQUE); INSERT INTO bare VALUES (1, 2)", "").refused(&["bare", "no key", "exclude"]);
    // a unique index over what is never NULL will do
    let t = trip("CREATE TABLE u (a TEXT NOT NULL UNIQUE, b); INSERT INTO u VALUES ('x', 1)", "");
    let mut c = t.up();
    c.batch_execute("UPDATE u SET a = 'y'").unwrap();
    assert_eq!(state_of(&mut c, "INSERT INTO u VALUES ('y', 2)"), "23505");
    t.back("UPDATE u SET a = 'y'");
}

#[test]
fn a17_composite_keys_keep_their_order_and_are_never_null() {
    let t = trip(
        "CREATE TABLE w (a TEXT, b INTEGER, v TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID; INSERT INTO w VALUES ('x', 2, 'p'), ('y', 1, 'q'), ('X', 2, 'r')",
        "",
    );
    let mut c = t.up();
    assert_eq!(
        pg(
            &mut c,
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = 'w'::regclass"
        ),
        ["PRIMARY KEY (b, a)"]
    );
    assert_eq!(state_of(&mut c, "INSERT INTO w VALUES (NULL, 1, 'z')"), "23502");
    c.batch_execute(
        "UPDATE w SET b = 9 WHERE a = 'y'; DELETE FROM w WHERE a = 'X'; INSERT INTO w VALUES ('é', 0, NULL)",
    )
    .unwrap();
    t.back("UPDATE w SET b = 9 WHERE a = 'y'; DELETE FROM w WHERE a = 'X'; INSERT INTO w VALUES ('é', 0, NULL)");
}

const FAMILY: &str = "CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents, name TEXT);
    CREATE TABLE toys (id INTEGER PRIMARY KEY, child INTEGER NOT NULL REFERENCES children (id), name TEXT);
    INSERT INTO parents VALUES (1, 'one'); INSERT INTO children VALUES (1, 1, 'of one'), (2, 99, 'of nobody'), (3, 99, 'of nobody too'), (4, NULL, 'of none'), (5, 98, 'lost');
    INSERT INTO toys VALUES (1, 1, 'ball'), (2, 2, 'bear')";

#[test]
fn a18_dangling_rows_are_refused_by_table_column_and_key() {
    let t = trip(FAMILY, "");
    t.refused(&["children", "parent", "3 rows", "parents", "such as 2", "[[transfer.dangling]]"]);
}

fn dangling(rows: &str) -> String {
    let of = |table: &str, column: &str| {
        format!("[[transfer.dangling]]\ntable = \"{table}\"\ncolumns = \"{column}\"\nrows = \"{rows}\"\n")
    };
    of("children", "parent")
}

#[test]
fn a18_dangling_rows_move_as_they_are_when_asked() {
    let t = trip(FAMILY, &dangling("keep"));
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT parent FROM children WHERE id IN (2, 3, 5)"), ["98", "99", "99"]);
    assert_eq!(
        pg(&mut c, "SELECT convalidated FROM pg_constraint WHERE contype = 'f' AND conrelid = 'children'::regclass"),
        ["f"]
    );
    assert_eq!(state_of(&mut c, "INSERT INTO children VALUES (9, 99, 'one more')"), "23503", "what is new is checked");
    assert_eq!(state_of(&mut c, "INSERT INTO toys VALUES (9, 77, 'of nobody')"), "23503");
    c.batch_execute("UPDATE children SET name = 'still' WHERE id = 2; DELETE FROM children WHERE id = 3; UPDATE children SET parent = 1 WHERE id = 5").unwrap();
    t.back("PRAGMA foreign_keys = OFF; UPDATE children SET name = 'still' WHERE id = 2; DELETE FROM children WHERE id = 3; UPDATE children SET parent = 1 WHERE id = 5");
}

/// Between the building of the constraints, which does not look at rows that were there, and the cutover.
#[test]
fn a18_dangling_rows_that_are_kept_are_written_before_the_cutover() {
    let t = trip(FAMILY, &dangling("keep"));
    t.home.up_until_ready();
    let writes = "PRAGMA foreign_keys = OFF; UPDATE children SET name = 'still' WHERE id = 2; UPDATE children SET id = 50 WHERE id = 5;
        REPLACE INTO children VALUES (3, 99, 'again'); UPDATE children SET parent = 1 WHERE id = 4;
        DELETE FROM children WHERE id = 2; INSERT INTO children VALUES (2, 99, 'born anew')";
    t.home.sqlite("app.db").execute_batch(writes).unwrap();
    ok(t.home.project().cutover());
    let mut c = t.server.client();
    assert_eq!(
        pg(&mut c, "SELECT id, parent, name FROM children ORDER BY id"),
        ["1 | 1 | of one", "2 | 99 | born anew", "3 | 99 | again", "4 | 1 | of none", "50 | 98 | lost"]
    );
    t.back(writes);
}

#[test]
fn a18_dangling_references_are_null_when_asked_and_come_back() {
    let t = trip(FAMILY, &dangling("null"));
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT id FROM children WHERE parent IS NULL"), ["2", "3", "4", "5"]);
    assert_eq!(
        pg(&mut c, "SELECT convalidated FROM pg_constraint WHERE contype = 'f' AND conrelid = 'children'::regclass"),
        ["t"]
    );
    c.batch_execute("UPDATE children SET name = 'still' WHERE id = 2; DELETE FROM children WHERE id = 3; UPDATE children SET parent = 1 WHERE id = 5").unwrap();
    t.back("PRAGMA foreign_keys = OFF; UPDATE children SET name = 'still' WHERE id = 2; DELETE FROM children WHERE id = 3; UPDATE children SET parent = 1 WHERE id = 5");
    // a column that may not be NULL cannot
    let toys = "[[transfer.dangling]]\ntable = \"toys\"\ncolumns = [\"child\"]\nrows = \"null\"\n";
    let t = trip(&format!("{FAMILY}; INSERT INTO toys VALUES (3, 55, 'lost')"), &format!("{}{toys}", dangling("null")));
    t.refused(&["toys (child)", "NOT NULL", "keep"]);
}

#[test]
fn a18_dangling_rows_stay_in_quarantine_with_those_that_refer_to_them() {
    let there = |t: &Trip| {
        let mut c = t.server.client();
        (pg(&mut c, "SELECT id FROM children ORDER BY id"), pg(&mut c, "SELECT id FROM toys ORDER BY id"))
    };
    let t = trip(FAMILY, &dangling("quarantine"));
    let notes = t.home.project().plan(None).unwrap().unwrap().plan.notes;
    for words in ["3 rows of children stay in the source", "1 row of toys stays in the source and is not in the target"]
    {
        assert!(notes.iter().any(|n| n.contains(words)), "{notes:#?}");
    }
    t.home.up_until_ready();
    // one is written, one goes, and one comes to refer to a row that is there: it stays all the same
    let before =
        "PRAGMA foreign_keys = OFF; UPDATE children SET name = 'still' WHERE id = 2; DELETE FROM children WHERE id = 3;
        UPDATE children SET parent = 1 WHERE id = 5";
    t.home.sqlite("app.db").execute_batch(before).unwrap();
    ok(t.home.project().cutover());
    assert_eq!(there(&t), (vec!["1".into(), "4".into()], vec!["1".to_owned()]));
    let mut c = t.server.client();
    let valid = "SELECT bool_and(convalidated)::text FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(pg(&mut c, valid), ["true"]);
    for scope in [Scope::Full, Scope::Quick, Scope::Sample { rows: 100, seed: 7 }] {
        let asked = VerifyOptions { scope, ..VerifyOptions::default() };
        let verified = ok(t.home.project().verify_as(&asked)).verified.unwrap();
        assert_eq!(verified.differences, Vec::<String>::new(), "{scope:?}");
    }
    c.batch_execute("TRUNCATE toys, children; INSERT INTO children VALUES (1, 1, 'again'), (10, NULL, 'new')").unwrap();
    let after = "DELETE FROM toys WHERE id = 1; DELETE FROM children WHERE id IN (1, 4);
        INSERT INTO children VALUES (1, 1, 'again'), (10, NULL, 'new')";
    t.back(&format!("{before}; {after}"));

    // a row of the application's own under such a key does not overwrite it
    let t = trip(FAMILY, &dangling("quarantine"));
    let mut c = t.up();
    c.batch_execute("INSERT INTO children VALUES (5, 1, 'another'), (6, 1, 'one more')").unwrap();
    let out = t.home.rollback();
    assert!(out.parked.len() == 1 && out.parked[0].contains("key 5"), "{:#?}", out.parked);
    let db = t.home.sqlite("app.db");
    assert_eq!(sqlite_rows(&db, "SELECT name FROM children WHERE id > 4"), ["text lost", "text one more"]);

    // and what goes with the source is kept
    let t = trip(FAMILY, &dangling("quarantine"));
    t.up();
    let run = t.home.project().status().unwrap().unwrap().source.run;
    ok(t.home.project().complete(true));
    let kept = String::from_utf8(t.home.read(&format!("backout-stayed-{run}.jsonl"))).unwrap();
    let names = ["of nobody", "of nobody too", "lost", "bear"];
    assert!(kept.lines().count() == 4 && names.iter().all(|n| kept.contains(n)), "{kept}");
}

#[test]
fn a19_nocase_stays_unique_without_regard_to_case() {
    let t = trip(
        "CREATE TABLE t (name TEXT COLLATE NOCASE PRIMARY KEY, mail TEXT COLLATE NOCASE UNIQUE, odd TEXT UNIQUE COLLATE RTRIM, bad TEXT COLLATE NOCASE UNIQUE);
         CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT REFERENCES t (name));
         INSERT INTO t VALUES ('Ann', 'A@x', 'o', CAST(x'ff' AS TEXT)), ('Änn', 'Ä@x', 'p', NULL); INSERT INTO u VALUES (1, 'ANN')",
        "",
    );
    let left = t.left();
    for what in [
        "collation NOCASE of t.name",
        "collation NOCASE of t.mail",
        "collation RTRIM of t.odd",
        "foreign key u (name) → t",
    ] {
        assert!(left.iter().any(|l| l == what), "{what} is not among {left:#?}");
    }
    // that of RTRIM, and that of bytes whose case nobody can fold
    assert_eq!(left.iter().filter(|l| *l == "unique constraint on t").count(), 2, "{left:#?}");
    let mut c = t.up();
    assert_eq!(state_of(&mut c, "INSERT INTO t VALUES ('ANN', 'b', 'c', NULL)"), "23505");
    assert_eq!(state_of(&mut c, "INSERT INTO t VALUES ('Bo', 'a@X', 'c', NULL)"), "23505");
    // SQLite folds ASCII only
    c.batch_execute("INSERT INTO t VALUES ('änn', 'ä@x', 'q', NULL)").unwrap();
    t.back("INSERT INTO t VALUES ('änn', 'ä@x', 'q', NULL)");
}

#[test]
fn a19_one_and_the_text_one_are_never_made_equal() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE); INSERT INTO t VALUES (1, 1), (2, '1'), (3, x'31')";
    trip(sql, "").refused(&["t.v"]);
    // nor where nothing but these two are there, and text is asked for
    let two = sql.replace(", (3, x'31')", "");
    trip(&two, "").refused(&["t.v", "key 2", "'1'"]);
    let text = "[[transfer.column]]\ntable = \"t\"\ncolumn = \"v\"\ncodec = \"text\"\n";
    trip(&two, text).refused(&["t.v", "key 1", "would not come back the same"]);
    let t = trip(sql, "[[transfer.column]]\ntable = \"t\"\ncolumn = \"v\"\ncodec = \"literal\"\n");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT v FROM t"), ["'1'", "1", "x'31'"]);
    t.back("");
}

#[test]
fn a20_partial_and_expression_indexes_are_translated_or_named() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, team INTEGER, active BOOLEAN, mail TEXT, n INTEGER);
         CREATE UNIQUE INDEX one_active ON t (team) WHERE active = 1 AND team > 0;
         CREATE INDEX like_a ON t (mail) WHERE mail LIKE 'a%';
         CREATE INDEX named ON t (mail) WHERE mail <> 'where (' AND n IN (1, 2) OR n IS NULL;
         CREATE UNIQUE INDEX folded ON t (lower(mail), n DESC) WHERE n NOT NULL;
         CREATE INDEX odd ON t (hex(mail));
         INSERT INTO t VALUES (1, 1, 1, 'A', 5), (2, 1, 0, 'a', 6), (3, -1, 1, NULL, 7), (4, -1, 1, 'a', NULL), (5, 9, 0, 'A', NULL)",
        "",
    );
    assert_eq!(t.left(), ["index like_a on t", "index odd on t"]);
    let mut c = t.up();
    assert_eq!(state_of(&mut c, "INSERT INTO t VALUES (9, 1, true, 'x', 1)"), "23505");
    assert_eq!(state_of(&mut c, "INSERT INTO t VALUES (9, 5, true, 'a', 5)"), "23505");
    c.batch_execute("INSERT INTO t VALUES (9, 1, false, 'A', 7), (10, -1, true, 'é', 7)").unwrap();
    assert_eq!(
        pg(&mut c, "SELECT indexdef FROM pg_indexes WHERE indexname IN ('named', 'folded')"),
        [
            "CREATE INDEX named ON public.t USING btree (mail) WHERE (((mail <> 'where ('::text) AND ((n = 1) OR (n = 2))) OR (n IS NULL))",
            "CREATE UNIQUE INDEX folded ON public.t USING btree (lower((mail COLLATE \"C\")), n DESC) WHERE (n IS NOT NULL)",
        ]
    );
    t.back("INSERT INTO t VALUES (9, 1, 0, 'A', 7), (10, -1, 1, 'é', 7)");
}

#[test]
fn a21_generated_columns_are_stored_again_or_named() {
    let t = trip(
        "CREATE TABLE boxes (id INTEGER PRIMARY KEY, w INTEGER, h INTEGER, name TEXT, area INTEGER GENERATED ALWAYS AS (w * h) STORED, label TEXT AS (name || ' ' || w), none AS (w IS NULL), half AS (w / 2.0), text INTEGER AS (name));
         CREATE INDEX by_area ON boxes (area);
         CREATE TABLE big (id INTEGER PRIMARY KEY, w INTEGER, twice AS (w * 2));
         INSERT INTO boxes (id, w, h, name) VALUES (1, 2, 3, 'a'), (2, NULL, 4, '12'); INSERT INTO big VALUES (1, 9223372036854775807)",
        "",
    );
    assert_eq!(t.left(), ["generated column boxes.half", "generated column boxes.text", "generated column big.twice"]);
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT area, label, none FROM boxes"), ["6 | a 2 | 0", "∅ | ∅ | 1"]);
    c.batch_execute("UPDATE boxes SET w = 10 WHERE id = 1; INSERT INTO boxes (id, w, h) VALUES (3, 7, 7)").unwrap();
    assert_eq!(pg(&mut c, "SELECT area FROM boxes WHERE id <> 2"), ["30", "49"]);
    assert_eq!(pg(&mut c, "SELECT count(*) FROM pg_indexes WHERE indexname = 'by_area'"), ["1"]);
    t.back("UPDATE boxes SET w = 10 WHERE id = 1; INSERT INTO boxes (id, w, h) VALUES (3, 7, 7)");
}

#[test]
fn a22_virtual_and_shadow_tables_are_named_not_copied() {
    let sql = "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO docs VALUES (1, 'some words'), (2, 'more');
         CREATE VIRTUAL TABLE search USING fts5(body, content = 'docs', content_rowid = 'id'); INSERT INTO search (search) VALUES ('rebuild');
         CREATE TRIGGER docs_in AFTER INSERT ON docs BEGIN INSERT INTO search (rowid, body) VALUES (new.id, new.body); END;
         CREATE TRIGGER docs_out AFTER DELETE ON docs BEGIN INSERT INTO search (search, rowid, body) VALUES ('delete', old.id, old.body); END;
         CREATE TRIGGER docs_on AFTER UPDATE ON docs BEGIN INSERT INTO search (search, rowid, body) VALUES ('delete', old.id, old.body); INSERT INTO search (rowid, body) VALUES (new.id, new.body); END;
         ANALYZE";
    let t = trip(sql, "");
    let left = t.left();
    assert!(left.contains(&"virtual table search".to_owned()), "{left:?}");
    assert!(left.contains(&"shadow table search_data".to_owned()), "{left:?}");
    assert!(!left.iter().any(|l| l.contains("sqlite_stat")), "{left:?}");
    assert_eq!(t.plan().tables.len(), 1);
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"), ["docs"]);
    c.batch_execute("UPDATE docs SET body = 'other' WHERE id = 1; INSERT INTO docs VALUES (3, 'third words'); DELETE FROM docs WHERE id = 2").unwrap();
    t.home.rollback();
    // the triggers that keep the index fire for what is carried
    let db = t.home.sqlite("app.db");
    assert_eq!(sqlite_rows(&db, "SELECT rowid FROM search('words')"), ["int 3"]);
    assert_eq!(sqlite_rows(&db, "SELECT rowid FROM search('other')"), ["int 1"]);
    db.execute_batch("INSERT INTO search (search) VALUES ('integrity-check')").unwrap();
    assert_eq!(sqlite_schema(&db), t.schema);
}

#[test]
fn a23_views_and_triggers_are_named() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); CREATE TABLE log (id INTEGER PRIMARY KEY, what); INSERT INTO t VALUES (1, 'x');
         CREATE VIEW v AS SELECT a FROM t; CREATE TRIGGER tr AFTER UPDATE ON t BEGIN INSERT INTO log (what) VALUES (new.a); END;
         CREATE TRIGGER tv INSTEAD OF INSERT ON v BEGIN INSERT INTO t (a) VALUES (new.a); END",
        "",
    );
    assert_eq!(t.left(), ["view v", "trigger tr on t", "trigger tv on v"]);
    let mut c = t.up();
    c.batch_execute("UPDATE t SET a = 'y'").unwrap();
    // the trigger did not fire in the target, and does not for what is carried: `log` is moved, and says what the target says
    t.back("UPDATE t SET a = 'y'");
    t.home.sqlite("app.db").execute_batch("UPDATE t SET a = 'z'; INSERT INTO v VALUES ('by view')").unwrap();
    assert_eq!(sqlite_rows(&t.home.sqlite("app.db"), "SELECT what FROM log"), ["text z"]);
}

/// Money moves between two tables while they are copied, chunk by chunk: both sides agree in the end, and no cent is made or lost.
#[test]
fn a24_a_copy_of_a_moving_source_is_not_torn() {
    let t = trip(
        "PRAGMA journal_mode = WAL; CREATE TABLE a (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL); CREATE TABLE b (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO a SELECT i, 100 FROM n; INSERT INTO b SELECT id, 100 FROM a",
        "",
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (order, moved) = (std::sync::atomic::Ordering::SeqCst, std::sync::atomic::AtomicU64::new(0));
    /// Stops the writer, also when the test fails.
    struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    std::thread::scope(|threads| {
        let _stops = Stop(&stop);
        threads.spawn(|| {
            let db = t.home.sqlite("app.db");
            let mut n = 1u64;
            while !stop.load(order) {
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (from, to) = ((n >> 33) % 2000 + 1, (n >> 13) % 2000 + 1);
                let sql = format!("BEGIN IMMEDIATE; UPDATE a SET cents = cents - 1 WHERE id = {from}; UPDATE b SET cents = cents + 1 WHERE id = {to}; COMMIT");
                // once sealed, it is told
                match db.execute_batch(&sql) {
                    Ok(()) => moved.fetch_add(1, order),
                    Err(_) => break,
                };
            }
        });
        crate::scenarios::wait_until("the first transfers", || moved.load(order) > 5);
        t.home.up();
    });
    let mut c = t.server.client();
    assert_eq!(pg(&mut c, "SELECT (SELECT sum(cents) FROM a) + (SELECT sum(cents) FROM b)"), ["400000"]);
    assert_eq!(pg(&mut c, "SELECT 200000 - sum(cents) FROM a"), [moved.load(order).to_string()]);
}

/// What the target swallows of a copy is seen by the verification and carried again; if it swallows that too, nothing is called
/// complete.
#[test]
fn a25_success_is_only_what_was_fully_verified() {
    let spoiled = |rule: &str| {
        let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')";
        let t = trip(sql, "");
        t.server
            .admin()
            .batch_execute(&format!(
                "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END';
                 CREATE FUNCTION spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF to_regclass('public.t') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'swallow') THEN
                        CREATE TRIGGER swallow BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION swallow();
                        ALTER TABLE public.t ENABLE ALWAYS TRIGGER swallow; {rule}
                    END IF; END $$;
                 CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil()"
            ))
            .unwrap();
        t
    };
    let t = spoiled("");
    let mut c = t.up();
    assert_eq!(pg(&mut c, "SELECT id FROM t"), ["1", "2", "3"]);
    let t = spoiled("CREATE RULE swallow AS ON INSERT TO public.t WHERE NEW.id = 2 DO INSTEAD NOTHING;");
    let failed = t.home.project().up(&backout::migrate::UpOptions::default()).unwrap_err();
    assert_ne!(failed.exit, 0, "{failed:?}");
    assert_ne!(t.home.phase().as_deref(), Some("soaking"));
    t.home.sqlite("app.db").execute_batch("UPDATE t SET a = 'still mine' WHERE id = 1").unwrap();
}

#[test]
fn a26_not_null_lengths_and_sure_checks_are_kept() {
    let t = trip(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, v VARCHAR(5), w NVARCHAR(2), n INTEGER CHECK (n BETWEEN 0 AND 9), f BOOLEAN CHECK (f IN (0, 1)), s TEXT CHECK (s GLOB 'a*'));
         INSERT INTO t VALUES (1, 'x', 'Grüße', 'too long', 9, 1, 'a'), (2, '', NULL, NULL, NULL, NULL, NULL)",
        "",
    );
    let types: Vec<String> = t.columns().iter().map(|c| c.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(types[1..4], ["a text", "v character varying(5)", "w text"]);
    assert_eq!(t.left(), ["check of t: s GLOB 'a*'"]);
    let mut c = t.up();
    assert_eq!(state_of(&mut c, "INSERT INTO t VALUES (3, NULL)"), "23502");
    assert_eq!(state_of(&mut c, "INSERT INTO t VALUES (3, 'x', 'Größer')"), "22001");
    assert_eq!(state_of(&mut c, "INSERT INTO t (id, a, n) VALUES (3, 'x', 10)"), "23514");
    c.batch_execute("INSERT INTO t VALUES (3, 'é', 'Füße!', NULL, 0, false, 'ab')").unwrap();
    t.back("INSERT INTO t VALUES (3, 'é', 'Füße!', NULL, 0, 0, 'ab')");
}

/// Long values do not go into an index of PostgreSQL: a key is refused, an index named, before anything is made.
#[test]
fn a_values_too_long_for_an_index_are_found_in_the_plan() {
    let long = "(SELECT group_concat(hex(randomblob(16)), '') FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i FROM n))";
    trip(&format!("CREATE TABLE t (k TEXT PRIMARY KEY); INSERT INTO t VALUES ({long})"), "").refused(&[
        "t",
        "(k)",
        "6400 bytes",
    ]);
    let t = trip(
        &format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE, s TEXT); CREATE INDEX wide ON t (s, v); CREATE INDEX narrow ON t (s); INSERT INTO t VALUES (1, {long}, 'x')"
        ),
        "",
    );
    assert_eq!(t.left(), ["unique constraint (v) on t", "index wide on t"]);
    let mut c = t.up();
    c.batch_execute("UPDATE t SET v = v || 'x'").unwrap();
    t.home.rollback();
}
