//! Columns that change by SQL of their store, or by a codec: there, back as they were, and back as `down` says what was written meanwhile.

use backout::migrate::{Project, RollbackOptions, Until, UpOptions, VerifyOptions};
use backout::store::Phase;
use postgres::{Client, NoTls};

use super::super::database::Database;
use super::super::scenarios::Home;
use super::house::Session;

const RISE: [&str; 2] = ["postgres", "sqlite"];

struct House {
    home: Home,
    s: Session,
    _database: Option<Database>,
}

impl House {
    fn new(kind: &str, sql: &str) -> House {
        let database = (kind == "postgres").then(Database::new);
        let home = Home::new(&[("main", database.as_ref().map_or("sqlite:app.db", |d| &d.url))], "");
        let mut s = match &database {
            Some(d) => Session::Postgres(Client::connect(&d.url, NoTls).unwrap()),
            None => Session::Sqlite(home.sqlite("app.db")),
        };
        s.run(sql).unwrap();
        House { home, s, _database: database }
    }

    fn project(&self) -> Project {
        self.home.project()
    }

    fn migration(&self, columns: &[(&str, &str)]) {
        let columns: String = columns
            .iter()
            .map(|(name, rest)| {
                let (table, column) = name.split_once('.').unwrap();
                format!("[[alter.column]]\ntable = \"{table}\"\ncolumn = \"{column}\"\n{rest}\n")
            })
            .collect();
        self.home.migration("20250101000000_by_sql", &format!("[alter]\nstore = \"main\"\n{columns}"));
    }

    fn notes(&self) -> String {
        self.project().plan(None).unwrap().unwrap().plan.notes.join("\n")
    }

    /// Refused by `plan` with all of these words, and nothing is changed.
    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        let failure = self.project().plan(None).expect_err("it is not refused");
        let all = format!("{failure} | {}", failure.hint);
        for word in words {
            assert!(all.contains(word), "{word:?} is not in: {all}");
        }
        assert_eq!(failure.state, "nothing was changed");
    }
}

fn to_ready() -> UpOptions {
    UpOptions { until: Until::Ready, ..UpOptions::default() }
}

const BILLS: &str = "CREATE TABLE bills (id integer PRIMARY KEY, amount text, paid text NOT NULL DEFAULT 'no', at bigint, cents integer, ref text UNIQUE, note text);
    INSERT INTO bills VALUES (1, '12,50 EUR', 'yes', 1700000000, 1250, 'A', 'one'), (2, '7,5 EUR', 'Y', 0, NULL, 'B', 'two'),
        (3, NULL, 'no', NULL, 199, NULL, 'three'), (4, '0,00 EUR', 'no', -1, 0, 'C', 'four');
    CREATE INDEX bills_at ON bills (at)";

#[test]
fn postgres_columns_change_by_sql_and_come_back() {
    let mut h = House::new("postgres", BILLS);
    h.migration(&[
        (
            "bills.amount",
            "type = \"numeric(10,2)\"\nup = \"replace(replace(amount, ' EUR', ''), ',', '.')::numeric -- euros\"\ndown = \"replace(amount::text, '.', ',') || ' EUR'\"",
        ),
        (
            "bills.paid",
            "type = \"boolean\"\ndefault = \"false\"\nup = \"CASE WHEN paid IN ('yes', 'Y') THEN true WHEN paid = 'no' THEN false END\"\ndown = \"CASE WHEN paid THEN 'yes' ELSE 'no' END\"",
        ),
        (
            "bills.at",
            "rename = \"moment\"\ntype = \"timestamptz\"\nup = \"to_timestamp(at)\"\ndown = \"extract(epoch from moment)::bigint\"",
        ),
        (
            "bills.cents",
            "rename = \"euros\"\ntype = \"numeric\"\nup = \"cents / 100.0\"\ndown = \"(euros * 100)::integer\"",
        ),
        ("bills.ref", "type = \"text\"\nup = \"'ref-' || ref\"\ndown = \"substr(ref, 5)\""),
    ]);
    let notes = h.notes();
    assert!(
        notes.contains("bills.amount: 1 row holds a value that `down` says otherwise ('7,5 EUR' as '7,50 EUR')"),
        "{notes}"
    );
    assert!(notes.contains("bills.paid: 1 row holds a value that `down` says otherwise ('Y' as 'yes')"), "{notes}");
    assert!(!notes.contains("bills.ref: 1 row") && !notes.contains("bills.cents: 1 row"), "{notes}");
    h.project().up(&to_ready()).unwrap();
    // drained up
    h.s.run("UPDATE bills SET amount = '8,1 EUR', cents = 5 WHERE id = 4; INSERT INTO bills VALUES (5, '1,00 EUR', 'Y', 60, 1, 'D', 'five')")
        .unwrap();
    let before = h.s.rows("SELECT * FROM bills ORDER BY id");
    assert_eq!(h.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(
        h.s.rows("SELECT id, amount, paid, extract(epoch from moment)::bigint, round(euros, 3), ref, note FROM bills ORDER BY id"),
        [
            ["1", "12.50", "t", "1700000000", "12.500", "ref-A", "one"],
            ["2", "7.50", "t", "0", "∅", "ref-B", "two"],
            ["3", "∅", "f", "∅", "1.990", "∅", "three"],
            ["4", "8.10", "f", "-1", "0.050", "ref-C", "four"],
            ["5", "1.00", "t", "60", "0.010", "ref-D", "five"],
        ]
    );
    h.s.run(
        "UPDATE bills SET note = 'two!' WHERE id = 2; UPDATE bills SET paid = false, euros = 12.6 WHERE id = 1;
         INSERT INTO bills VALUES (6, 3.1, true, '2024-01-01Z', 0.5, 'ref-N', 'six')",
    )
    .unwrap();
    h.project().shadow().unwrap();
    // none of these has a form in the source: parked, and the others go on
    h.s.run(
        "UPDATE bills SET paid = true WHERE id = 1; DELETE FROM bills WHERE id = 3;
         INSERT INTO bills VALUES (7, 1, true, '2024-01-01 00:00:00.5Z', 1, NULL, 'half a second'),
            (8, 1, true, NULL, 0.005, NULL, 'half a cent'), (9, 1, true, NULL, NULL, 'bad', 'no reference'),
            (10, 1, true, NULL, 99999999999, NULL, 'too much')",
    )
    .unwrap();
    let back = h.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(back.phase, Some(Phase::RolledBack));
    let parked = back.parked.join("\n");
    assert_eq!(back.parked.len(), 4, "{parked}");
    assert!(parked.contains("key 9, column ref: `down` makes '' of it, and `up` of that 'ref-'"), "{parked}");
    assert!(parked.contains("key 10, column euros: `down` fails: integer out of range"), "{parked}");
    let mut after = before;
    after[0][4] = "1260".into();
    after[1][6] = "two!".into();
    after.remove(2);
    after.push(["6", "3,10 EUR", "yes", "1704067200", "50", "N", "six"].map(str::to_owned).into());
    assert_eq!(h.s.rows("SELECT * FROM bills ORDER BY id"), after);
    // and again
    assert_eq!(h.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(h.project().rollback(&RollbackOptions::default()).unwrap().parked, Vec::<String>::new());
    assert_eq!(h.s.rows("SELECT * FROM bills ORDER BY id"), after);
    // against what was recorded of it, by which a value is as `down` says it
    let asked = VerifyOptions { rollback: true, ..VerifyOptions::default() };
    assert!(h.project().verify_as(&asked).unwrap().verified.unwrap().agrees());
}

#[test]
fn sqlite_columns_change_by_sql_and_come_back() {
    let mut h = House::new("sqlite", BILLS);
    h.migration(&[
        (
            "bills.amount",
            "type = \"REAL\"\nup = \"CAST(replace(replace(amount, ' EUR', ''), ',', '.') AS REAL)\"\ndown = \"CASE WHEN amount IS NOT NULL THEN replace(printf('%.2f', amount), '.', ',') || ' EUR' END\"",
        ),
        (
            "bills.paid",
            "type = \"INTEGER\"\ndefault = \"0\"\nup = \"CASE paid WHEN 'yes' THEN 1 WHEN 'Y' THEN 1 WHEN 'no' THEN 0 END\"\ndown = \"CASE paid WHEN 1 THEN 'yes' WHEN 0 THEN 'no' END\"",
        ),
        (
            "bills.at",
            "rename = \"moment\"\ntype = \"TEXT\"\nup = \"datetime(at, 'unixepoch')\"\ndown = \"CAST(strftime('%s', moment) AS INTEGER)\"",
        ),
    ]);
    let notes = h.notes();
    assert!(!notes.contains("bills.amount: 2 rows"), "{notes}");
    h.project().up(&to_ready()).unwrap();
    h.s.run("UPDATE bills SET amount = '8,1 EUR' WHERE id = 4; INSERT INTO bills VALUES (5, '1,00 EUR', 'Y', 60, 1, 'D', 'five')").unwrap();
    let before = h.s.rows("SELECT *, typeof(at) FROM bills ORDER BY id");
    assert_eq!(h.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    assert_eq!(
        h.s.rows("SELECT id, amount, paid, moment, typeof(amount) FROM bills ORDER BY id"),
        [
            ["1", "12.5", "1", "2023-11-14 22:13:20", "real"],
            ["2", "7.5", "1", "1970-01-01 00:00:00", "real"],
            ["3", "∅", "0", "∅", "null"],
            ["4", "8.1", "0", "1969-12-31 23:59:59", "real"],
            ["5", "1.0", "1", "1970-01-01 00:01:00", "real"],
        ]
    );
    h.s.run(
        "UPDATE bills SET note = 'two!' WHERE id = 2; UPDATE bills SET amount = 12.6 WHERE id = 1; DELETE FROM bills WHERE id = 3;
         INSERT INTO bills VALUES (6, 3.1, 1, '2024-01-01 00:00:00', 50, 'N', 'six'), (7, 0.005, 1, NULL, 1, NULL, 'half a cent'),
            (8, 1, 1, 'soon', 1, NULL, 'no time'), (9, 1, 2, NULL, 1, NULL, 'neither')",
    )
    .unwrap();
    let back = h.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(back.phase, Some(Phase::RolledBack));
    assert_eq!(back.parked.len(), 3, "{:?}", back.parked);
    let mut after = before;
    after[0][1] = "12,60 EUR".into();
    after[1][6] = "two!".into();
    after.remove(2);
    after.push(["6", "3,10 EUR", "yes", "1704067200", "50", "N", "six", "integer"].map(str::to_owned).into());
    assert_eq!(h.s.rows("SELECT *, typeof(at) FROM bills ORDER BY id"), after);
    // without the target's help
    h.project().up(&UpOptions::default()).unwrap();
    h.s.run("UPDATE bills SET amount = 1 WHERE id = 6; UPDATE bills SET note = '!' WHERE id = 4").unwrap();
    h.project().shadow().unwrap();
    let back = h.project().rollback(&RollbackOptions { emergency: true, ..RollbackOptions::default() }).unwrap();
    assert_eq!(back.parked, Vec::<String>::new());
    (after[4][1], after[2][6]) = ("1,00 EUR".into(), "!".into());
    assert_eq!(h.s.rows("SELECT *, typeof(at) FROM bills ORDER BY id"), after);
}

#[test]
fn expressions_that_are_none_or_say_another_thing_at_each_time_are_refused_where_they_stand() {
    let up = |up: &str| format!("type = \"text\"\nup = \"{up}\"\ndown = \"x\"");
    let down = |down: &str| format!("type = \"text\"\nup = \"x\"\ndown = \"{down}\"");
    for kind in RISE {
        let h = House::new(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text, other text, y text)");
        let postgres = kind == "postgres";
        let mut all = vec![
            (up("x || random()"), "7:6", if postgres { "random()" } else { "non-deterministic" }),
            (up("x || (SELECT max(id) FROM t)"), "7:6", if postgres { "subquery" } else { "subqueries" }),
            (down("x || other"), "8:8", "other"),
            (up("\\\"nix\\\""), "7:6", "nix"),
            (up("x ||"), "7:6", ""),
            (up("nothing_like_it(x)"), "7:6", "nothing_like_it"),
            (up("x); DROP TABLE t; --"), "7:6", "this is no expression: a bracket is closed"),
            (up("x; DROP TABLE t"), "7:6", "a semicolon"),
            (up("x, x"), "7:6", "a comma"),
            (up("'x"), "7:6", "never closed"),
            (down("/* x"), "8:8", "never closed"),
            (up("max(x)"), "7:6", ""),
        ];
        all.push((up("x || CURRENT_TIMESTAMP"), "7:6", if postgres { "CURRENT_DATE" } else { "non-deterministic" }));
        if postgres {
            all.extend([
                (up("x || now()"), "7:6", "now()"),
                (down("x || nextval('s')"), "8:8", "nextval()"),
                (up("x || 'now'::timestamptz"), "7:6", "'now' may mean another time"),
                (up("x || clock_timestamp()"), "7:6", "clock_timestamp()"),
                (up("x || $1"), "7:6", "$1"),
                (up("count_t() || x"), "7:6", "count_t()"),
            ]);
        }
        let mut h = h;
        if postgres {
            h.s.run("CREATE SEQUENCE s; CREATE FUNCTION count_t() RETURNS text STABLE LANGUAGE sql AS 'SELECT count(*)::text FROM t'").unwrap();
        } else {
            all.push((up("x || date('now')"), "7:6", "non-deterministic"));
        }
        for (rest, place, words) in all {
            h.migration(&[("t.x", &rest)]);
            h.refuses_at(place, words);
        }
        assert_eq!(h.s.rows("SELECT count(*) FROM t"), [["0"]]);
    }
}

impl House {
    #[track_caller]
    fn refuses_at(&self, place: &str, words: &str) {
        let failure = match Project::open(&self.home.path(""), &|_| None).and_then(|p| p.plan(None).map(drop)) {
            Ok(()) => panic!("it is not refused: {words}"),
            Err(e) => e,
        };
        let all = format!("{failure} | {}", failure.hint);
        assert!(all.contains(&format!(".toml:{place}:")) && all.contains(words), "{place} {words}: {all}");
    }
}

#[test]
fn values_that_would_not_come_back_are_refused_by_table_column_key_and_value() {
    for kind in RISE {
        let mut h = House::new(
            kind,
            "CREATE TABLE t (id integer PRIMARY KEY, x text, y text UNIQUE); INSERT INTO t VALUES (1, 'a', 'a'), (2, 'B', 'b'), (3, NULL, 'B')",
        );
        let sql = |ty: &str, up: &str, down: &str| format!("type = \"{ty}\"\nup = \"{up}\"\ndown = \"{down}\"");
        h.migration(&[("t.x", &sql("text", "CASE x WHEN 'a' THEN 'c' END", "CASE x WHEN 'c' THEN 'a' END"))]);
        h.refuses(&["t.x, key 2: `up` makes NULL of it", "(value 'B')"]);
        h.migration(&[("t.x", &sql("text", "lower(x)", "x || '!'"))]);
        h.refuses(&["t.x, key 1: `up` makes 'a' of it, `down` of that 'a!', and of that `up` 'a!'", "key 2"]);
        h.migration(&[("t.y", &sql("text", "lower(y)", "y"))]);
        h.refuses(&["t.y, key 3: `up` makes 'b' of it, and `down` of that 'b'; in a unique index"]);
        h.migration(&[("t.x", &(sql("text", "lower(x)", "x") + "\nnot_null = true"))]);
        h.refuses(&["t.x, key 3", "NULL"]);
        h.migration(&[("t.id", &sql("text", "id", "id"))]);
        h.refuses(&["t.id cannot become text", "key"]);
        if kind == "postgres" {
            h.migration(&[("t.x", &sql("integer", "x::integer", "x::text"))]);
            h.refuses(&["t.x, key 1: `up` fails: invalid input syntax for type integer", "(value 'a')"]);
            h.migration(&[("t.x", &sql("varchar(3)", "x || 'cde'", "substr(x, 1, 1)"))]);
            h.refuses(&["t.x, key 1: 4 characters, and the column is character varying(3)"]);
        }
        // NULL is something if the expression says so
        h.migration(&[(
            "t.x",
            &(sql("text", "coalesce(x, '-')", "nullif(x, '-')") + "\nnot_null = true\ndefault = \"'-'\""),
        )]);
        h.project().up(&UpOptions::default()).unwrap();
        assert_eq!(h.s.rows("SELECT x FROM t ORDER BY id"), [["a"], ["B"], ["-"]]);
        h.s.run("INSERT INTO t (id, x) VALUES (4, '-'), (5, 'e')").unwrap();
        assert_eq!(h.project().rollback(&RollbackOptions::default()).unwrap().parked, Vec::<String>::new());
        assert_eq!(h.s.rows("SELECT x FROM t ORDER BY id"), [["a"], ["B"], ["∅"], ["∅"], ["e"]]);
    }
}

#[test]
fn p07_a_value_that_appears_later_and_that_up_does_not_take_stops_the_way_up_and_nothing_is_lost() {
    for kind in RISE {
        let mut h =
            House::new(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'yes')");
        let both = "up = \"CASE x WHEN 'yes' THEN 1 WHEN 'no' THEN 0 END\"\ndown = \"CASE x WHEN 1 THEN 'yes' WHEN 0 THEN 'no' END\"";
        h.migration(&[("t.x", &format!("type = \"integer\"\n{both}"))]);
        h.project().up(&to_ready()).unwrap();
        h.s.run("INSERT INTO t VALUES (2, 'perhaps'), (3, 'no')").unwrap();
        let failure = h.project().up(&UpOptions::default()).unwrap_err().to_string();
        assert!(
            failure.contains("table t, key 2, column x: `up` makes NULL of it") && failure.contains("'perhaps'"),
            "{failure}"
        );
        h.s.run("UPDATE t SET x = 'yes' WHERE id = 2").unwrap();
        assert_eq!(h.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
        assert_eq!(h.s.rows("SELECT x FROM t ORDER BY id"), [["1"], ["1"], ["0"]]);
        h.project().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!(h.s.rows("SELECT x FROM t ORDER BY id"), [["yes"], ["yes"], ["no"]]);
    }
}

#[test]
fn codecs_of_transfers_change_columns_in_place() {
    let mut h = House::new(
        "postgres",
        "CREATE TABLE t (id integer PRIMARY KEY, flag text, day varchar(10), at text, meant text, ms bigint, doc text, n integer DEFAULT 1, bit integer);
         INSERT INTO t VALUES (1, 'Y', '2024-02-29', '2024-02-29T10:11:12.500Z', '2024-02-29 10:11:12', 1700000000123, '{\"a\":  [1, 2]}', 7, 1),
            (2, 'N', NULL, NULL, NULL, NULL, NULL, NULL, 0), (3, NULL, '1999-12-31', '2024-02-29T10:11:12.000Z', '2024-02-29 10:11:13', 1600000000000, '1', -1, NULL)",
    );
    let columns = [
        ("t.flag", "type = \"bool\"\ncodec = \"flag\""),
        ("t.bit", "type = \"boolean\"\ncodec = \"flag\""),
        ("t.day", "type = \"date\"\ncodec = \"date\""),
        ("t.at", "type = \"timestamptz\"\ncodec = \"timestamp\""),
        ("t.meant", "type = \"timestamptz\"\ncodec = \"timestamp\"\nzone = \"UTC\""),
        ("t.ms", "type = \"timestamptz\"\ncodec = \"epoch\""),
        ("t.doc", "type = \"jsonb\"\ncodec = \"jsonb\""),
        ("t.n", "type = \"double precision\"\ncodec = \"real\"\ndefault = \"1\""),
    ];
    h.migration(&columns);
    let before = h.s.rows("SELECT * FROM t ORDER BY id");
    assert_eq!(h.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 1";
    assert_eq!(
        h.s.rows(types),
        [[
            "boolean, date, timestamp with time zone, timestamp with time zone, timestamp with time zone, jsonb, double precision, boolean"
        ]]
    );
    h.s.run(
        "UPDATE t SET flag = NOT flag, doc = doc || '[3]' WHERE id = 2; UPDATE t SET n = 8 WHERE id = 1;
         INSERT INTO t VALUES (4, true, '2025-01-01', '2025-01-01 00:00Z', '2025-01-01 00:00Z', '2025-01-01 00:00Z', '{\"b\":2}', 3, true);
         INSERT INTO t (id, n) VALUES (5, 1.5), (6, 1); INSERT INTO t (id, at) VALUES (7, '2025-01-01 00:00:00.0001Z')",
    )
    .unwrap();
    let back = h.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((back.phase, back.parked.len()), (Some(Phase::RolledBack), 2), "{:?}", back.parked);
    let mut after = before;
    after[0][7] = "8".into();
    after[1][1] = "Y".into();
    let new = [
        "4",
        "Y",
        "2025-01-01",
        "2025-01-01T00:00:00.000Z",
        "2025-01-01 00:00:00",
        "1735689600000",
        "{\"b\": 2}",
        "3",
        "1",
    ];
    after.push(new.map(str::to_owned).into());
    after.push(["6", "∅", "∅", "∅", "∅", "∅", "∅", "1", "∅"].map(str::to_owned).into());
    assert_eq!(h.s.rows("SELECT * FROM t ORDER BY id"), after);

    for (column, rest, words) in [
        ("t.flag", "type = \"boolean\"\ncodec = \"flags\"", "no codec is called \"flags\" here"),
        ("t.n", "type = \"boolean\"\ncodec = \"date\"", "codec \"date\" does not make boolean of integer"),
        (
            "t.n",
            "type = \"timestamptz\"\ncodec = \"epoch\"\ndefault = \"now()\"",
            "t.n, key 3: not a likely moment in these units",
        ),
        (
            "t.meant",
            "type = \"timestamptz\"\ncodec = \"timestamp\"",
            "t.meant, key 3: text is no time in the column's own format",
        ),
        ("t.doc", "type = \"timestamp\"", "say how: `up` and `down` in SQL, or a `codec`"),
    ] {
        h.migration(&[(column, rest)]);
        h.refuses(&[words]);
    }
}
