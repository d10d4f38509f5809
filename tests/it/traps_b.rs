//! Traps of the way back, and of JSON: each by its name.

use backout::migrate::Project;

use super::pairs::{pg_dump_rows, pg_schema};
use super::scenarios::{Database, Home, edit, pg_rows, same, same_bytes};

fn home(from: &str, to: &str) -> Home {
    let home = Home::new(&[("from", from), ("to", to)], "");
    home.migration("20250101000000_move", "[transfer]\nfrom = \"from\"\nto = \"to\"\n");
    home
}

/// An application that compares texts finds its rows after the way back, those written meanwhile too.
#[test]
fn b01_timestamps_return_in_the_form_the_application_compares() {
    let target = Database::new();
    let home = home("sqlite:app.db", &target.url);
    let db = home.sqlite("app.db");
    db.execute_batch(
        "CREATE TABLE beats (id INTEGER PRIMARY KEY, tee TIMESTAMP, zulu TIMESTAMP, offs DATETIME, spaced DATETIME, micro DATETIME, ms TIMESTAMP);
         INSERT INTO beats VALUES (1, '2024-05-01T10:00:00', '2024-05-01T10:00:00Z', '2024-05-01 10:00:00+00:00', '2024-05-01 10:00:00',
            '2024-05-01 10:00:00.000001', 1714557600123);",
    )
    .unwrap();
    home.up();
    let new = "INSERT INTO beats VALUES (2, '2024-05-02 10:00', '2024-05-02 10:00+00', '2024-05-02 12:00+02', '2024-05-02 10:00', '2024-05-02 10:00', '2024-05-02 10:00+00');
        UPDATE beats SET spaced = spaced + interval '1 hour' WHERE id = 1";
    target.client().batch_execute(new).unwrap();
    home.rollback();
    let found = |sql: &str| -> i64 { db.query_row(sql, [], |r| r.get(0)).unwrap() };
    let since = "SELECT count(*) FROM beats WHERE tee >= '2024-05-01T00:00:00' AND tee < '2024-05-02T23' AND zulu > '2024-05-01T09:59:59Z'
        AND zulu LIKE '%Z' AND offs >= '2024-05-01 10:00:00+00:00' AND offs LIKE '%+00:00' AND spaced > '2024-05-01 10:30:00' AND ms >= 1714557600000";
    assert_eq!(found(since), 2);
    assert_eq!(
        found(
            "SELECT count(*) FROM beats WHERE spaced = '2024-05-01 11:00:00' AND micro = '2024-05-01 10:00:00.000001'"
        ),
        1
    );
    assert_eq!(
        found("SELECT count(*) FROM beats WHERE id = 2 AND micro = '2024-05-02 10:00:00' AND ms = 1714644000000"),
        1
    );
}

/// No digit goes through a double, nor through an affinity.
#[test]
fn b02_numeric_keeps_every_digit_and_its_scale() {
    let source = Database::new();
    source
        .client()
        .batch_execute(
            "CREATE TABLE n (id int PRIMARY KEY, any_scale numeric, two numeric(12,2), whole numeric(30), k numeric UNIQUE);
             INSERT INTO n VALUES (1, 1.10, 1.10, 123456789012345678901234567890, 1), (2, 12345678901234567890.1234567890, 0, 0, 1.50),
                (3, 'NaN', 'NaN', -1, 2), (4, 0.000, -0.05, 10, 3), (5, 1e-40, NULL, NULL, NULL)",
        )
        .unwrap();
    let before = pg_dump_rows(&mut source.client());
    let home = home(&source.url, "sqlite:app.db");
    home.up();
    let db = home.sqlite("app.db");
    let spelled: (String, String, String) = db
        .query_row(
            "SELECT typeof(any_scale) || any_scale, typeof(two) || two, typeof(whole) || whole FROM n WHERE id = 1",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .unwrap();
    assert_eq!(spelled, ("text1.10".into(), "text1.10".into(), "text123456789012345678901234567890".into()));
    db.execute_batch("UPDATE n SET two = 7.5, any_scale = '2.500' WHERE id = 4; UPDATE n SET k = 9 WHERE id = 2")
        .unwrap();
    let out = home.rollback();
    assert!(out.parked.is_empty(), "{:?}", out.parked);
    let mut expected = before;
    for (was, is) in
        [("(4,0.000,-0.05,10,3)", "(4,2.500,7.50,10,3)"), ("1234567890,0.00,0,1.50)", "1234567890,0.00,0,9)")]
    {
        let rows = expected.get_mut("n").unwrap();
        let at = rows.iter().position(|r| r.ends_with(was)).unwrap();
        rows[at] = rows[at].replace(was, is);
        rows.sort();
    }
    same(&pg_dump_rows(&mut source.client()), &expected);
}

const EXOTIC: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE DOMAIN moods AS mood DEFAULT 'sad';
CREATE TYPE address AS (street text, no int, feeling mood);
CREATE TYPE span AS RANGE (SUBTYPE = float8);
CREATE TABLE exotic (
    id mood PRIMARY KEY, d date, ts timestamp(3), tz timestamptz, t time, tt timetz, iv interval, ints int[], texts text[], many float8[],
    m moods, s small, a address, r int4range, rs tstzrange, mr int8multirange, sp span, ip inet, c cidr, mac macaddr, b bit(3), vb varbit, u uuid,
    x xml, tsv tsvector, tsq tsquery, lsn pg_lsn, o oid, mon money, j json, jb jsonb, p point, ch "char", bp char(3), arr_m mood[], f4 real, f8 double precision
);
INSERT INTO exotic (id, d, ts, tz, t, tt, iv, ints, texts, many, m, s, a, r, rs, mr, sp, ip, c, mac, b, vb, u, x, tsv, tsq, lsn, o, mon, j, jb, p, ch, bp, arr_m, f4, f8) VALUES
    ('sad', '0044-03-15 BC', '12024-01-01 00:00:00.123', '-infinity', '24:00', '12:00:00.5+05:30', '-1 year 2 mons -3 days 04:05:06.789',
     '[0:2]={1,NULL,3}', '{"a \"q\"",NULL,"NULL",""}', '{0.1,NaN,-Infinity,-0}', 'happy', 99, ROW('Main "St"', 5, 'it''s ok'), '[1,5)',
     '["2024-01-01 00:00:00+00",infinity)', '{[1,3),[7,9)}', '[0.1,2.5]', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', B'', '11111111-2222-3333-4444-555555555555',
     '<a>é<!-- c --></a>', 'fat:2A cat:1', 'fat & !cat', '16/B374D848', 4294967295, 1234.56, '{"b":1,  "a":1e3}', '{"b": 1.50, "a": [1E3]}', '(0.1,-0)', 'x', 'ab', '{sad,happy}', 'NaN', '-0'),
    ('happy', 'infinity', '-infinity', '0001-01-01 00:00:00+00 BC', '00:00:00.000001', '00:00-15:59', '0', '{}', '{}', '{}', NULL, NULL, ROW(NULL, NULL, NULL),
     'empty', '(,)', '{}', 'empty', '::1', '::/0', 'ff:ff:ff:ff:ff:ff', B'000', B'1', NULL, 'text', '', '', '0/0', 0, -0.01, 'null', 'null', NULL, ' ', '', '{NULL}', 1e-45, 5e-324);
"#;

const EXOTIC_CHANGES: &str = r#"
UPDATE exotic SET d = '1999-01-01', ints = '{4,5}', iv = '1 day', j = '{"new": 1}', s = 7, ip = '1.2.3.4', mon = '$1.00' WHERE id = 'happy';
INSERT INTO exotic (id, ts, m, r, a) VALUES ('it''s ok', '2024-01-01 00:00:00.5', 'sad', '[2,3)', '(x,1,sad)');
"#;

/// Infinity, BC, intervals, arrays, enums, ranges, domains, and whatever else has a text of its own.
#[test]
fn b03_exotic_types_come_back_exactly() {
    let model = Database::new();
    model.client().batch_execute(&format!("{EXOTIC}{EXOTIC_CHANGES}")).unwrap();
    let expected = pg_dump_rows(&mut model.client());
    for to in ["sqlite", "postgres"] {
        let (source, target) = (Database::new(), Database::new());
        source.client().batch_execute(EXOTIC).unwrap();
        let schema = pg_schema(&source);
        let home = home(&source.url, if to == "sqlite" { "sqlite:app.db" } else { &target.url });
        home.up();
        if to == "sqlite" {
            // the key's own spelling is not SQLite's to know
            home.sqlite("app.db").execute_batch(EXOTIC_CHANGES).unwrap();
        } else {
            same(&pg_dump_rows(&mut target.client()), &pg_dump_rows(&mut source.client()));
            target.client().batch_execute(EXOTIC_CHANGES).unwrap();
        }
        let out = home.rollback();
        assert!(out.parked.is_empty(), "{to}: {:#?}", out.parked);
        same(&pg_dump_rows(&mut source.client()), &expected);
        assert_eq!(pg_schema(&source), schema, "{to}");
    }
}

/// What the source's types do not take is parked with its reason, and the rest goes home.
#[test]
fn b03_what_a_type_does_not_take_is_parked() {
    let source = Database::new();
    source
        .client()
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE p (id int PRIMARY KEY, m mood, CHECK (id + 0 <> 13));
             CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, v varchar(3) UNIQUE, n int NOT NULL DEFAULT 1, iv interval);
             INSERT INTO p VALUES (1, 'sad'); INSERT INTO c VALUES (1, 1, 'abc', 1, '1 day'), (2, 1, 'two', 1, NULL)",
        )
        .unwrap();
    let home = home(&source.url, "sqlite:app.db");
    home.up();
    let db = home.sqlite("app.db");
    db.execute_batch(
        "INSERT INTO p VALUES (2, 'ok'), (3, 'angry'), (13, 'sad'); UPDATE p SET m = 'ok' WHERE id = 1;
         INSERT INTO c (id, p, v) VALUES (3, 2, 'ok'), (4, 3, 'x'), (5, 13, 'y'), (6, 2, 'longer');
         UPDATE c SET iv = 'soon' WHERE id = 1; UPDATE c SET iv = '2 days' WHERE id = 2; INSERT INTO c (id, n) VALUES (7, x'00')",
    )
    .unwrap();
    let out = home.rollback();
    let mut pg = source.client();
    assert_eq!(out.parked.len(), 7, "{:#?}", out.parked);
    assert!(out.parked.iter().any(|p| p.contains("table c, key 1:") && p.contains("\"soon\"")), "{:#?}", out.parked);
    assert_eq!(pg_rows(&mut pg, "SELECT * FROM p"), ["1 | ok", "2 | ok"]);
    assert_eq!(
        pg_rows(&mut pg, "SELECT * FROM c"),
        ["1 | 1 | abc | 1 | 1 day", "2 | 1 | two | 1 | 2 days", "3 | 2 | ok | 1 | ∅"]
    );
}

/// Sakila's `last_update`: a trigger of the receiver must not overwrite what was carried, and is as it was afterwards.
#[test]
fn b04_triggers_of_the_receiver_do_not_change_what_is_carried() {
    let source = Database::new();
    source
        .client()
        .batch_execute(
            "CREATE TABLE films (id int PRIMARY KEY, title text, last_update timestamp NOT NULL DEFAULT now());
             CREATE TABLE audit (at timestamp DEFAULT now(), what text);
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.last_update = now(); RETURN NEW; END';
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END';
             CREATE TRIGGER touched BEFORE INSERT OR UPDATE ON films FOR EACH ROW EXECUTE FUNCTION touch();
             CREATE TRIGGER off BEFORE UPDATE ON films FOR EACH ROW EXECUTE FUNCTION touch();
             CREATE TRIGGER always BEFORE UPDATE ON films FOR EACH ROW EXECUTE FUNCTION touch();
             CREATE TRIGGER noted AFTER UPDATE ON films FOR EACH ROW EXECUTE FUNCTION note();
             ALTER TABLE films DISABLE TRIGGER off; ALTER TABLE films ENABLE ALWAYS TRIGGER always;
             INSERT INTO films (id, title) VALUES (1, 'one'), (2, 'two')",
        )
        .unwrap();
    let schema = pg_schema(&source);
    let home = home(&source.url, "sqlite:app.db");
    home.migration("20250101000000_move", "[transfer]\nfrom = \"from\"\nto = \"to\"\nexclude = [\"audit\"]\n");
    home.up();
    home.sqlite("app.db")
        .execute_batch(
            "UPDATE films SET title = 'uno', last_update = '2001-01-01 00:00:00' WHERE id = 1;
             INSERT INTO films VALUES (3, 'three', '2002-02-02 00:00:00')",
        )
        .unwrap();
    home.rollback();
    let mut pg = source.client();
    assert_eq!(
        pg_rows(&mut pg, "SELECT id, title, last_update FROM films WHERE id <> 2"),
        ["1 | uno | 2001-01-01 00:00:00", "3 | three | 2002-02-02 00:00:00"]
    );
    assert_eq!(pg_rows(&mut pg, "SELECT what FROM audit"), ["UPDATE"], "a trigger that writes elsewhere fires");
    assert_eq!(pg_schema(&source), schema);
}

fn from_json(text: &str) -> (Home, Database) {
    let server = Database::new();
    let home = Home::new(&[("from", "json:app.json"), ("to", "sqlite:app.db"), ("far", &server.url)], "");
    home.write("app.json", text);
    (home, server)
}

fn json_migration(to: &str) -> String {
    format!(
        "[transfer]\nfrom = \"from\"\nto = \"{to}\"\n[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"things\"\n"
    )
}

/// There, a change of one record alone, and back; for both targets.
fn one_record_changes(text: &str, change: &str, was: &str, is: &str) {
    for to in ["to", "far"] {
        let (home, server) = from_json(text);
        home.migration("20250101000000_move", &json_migration(to));
        home.up();
        if to == "to" {
            home.sqlite("app.db").execute_batch(change).unwrap();
        } else {
            server.client().batch_execute(change).unwrap();
        }
        home.rollback();
        let mut expected = text.to_owned();
        edit(&mut expected, was, is);
        same_bytes(&home.read("app.json"), expected.as_bytes());
    }
}

/// `1E3`, `\u00e9`, `\/`, a lone surrogate: what serde_json would write in its own way is not written at all.
#[test]
fn b05_untouched_records_keep_their_spelling() {
    let text = "{\n  \"a\": {\"n\": 1E3, \"t\": \"\\u00e9\\/\", \"o\": {\"z\": 1.0, \"y\": \"\\ud800\", \"z2\": 1e+3}},\n  \"b\": {\"n\": 2, \"t\": \"x\", \"o\": []},\n  \
        \"c\": {\"n\": 1.50, \"t\": \"\\u0041\", \"o\": null}\n}\n";
    one_record_changes(text, "UPDATE things SET t = 'é/' WHERE id = 'b'", "\"t\": \"x\"", "\"t\": \"\\u00e9\\/\"");
}

/// Of two equal names a parser keeps the last; which one the application means cannot be told.
#[test]
fn b05_b06_equal_names_are_refused_and_nothing_is_changed() {
    for text in
        ["{\"a\": {\"n\": 1}, \"a\": {\"n\": 2}}", "{\"a\": {\"n\": 1, \"n\": 2}}", "[{\"id\": 1}, {\"id\": 1}]"]
    {
        let (home, _server) = from_json(text);
        home.migration("20250101000000_move", &json_migration("to"));
        let refused = home.project().plan(None);
        assert!(refused.is_err(), "{text}");
        assert_eq!(home.text("app.json"), text);
        assert!(!home.path("app.db").exists());
    }
}

/// Integers beyond 2⁵³ and 2⁶³, `10.0`, `1e3`, many digits.
#[test]
fn b06_numbers_come_back_as_they_were_written() {
    let text = "[\n  {\"id\": 1, \"big\": 9007199254740993, \"huge\": 123456789012345678901234567890, \"p\": 10.0, \"e\": 1e3},\n  \
        {\"id\": 2, \"big\": -9223372036854775808, \"huge\": 1, \"p\": 0.1, \"e\": 5},\n  \
        {\"id\": 3, \"big\": 9223372036854775807, \"huge\": 0.1000000000000000055511151231257827, \"p\": -0.0, \"e\": 1E400}\n]";
    one_record_changes(
        text,
        "UPDATE things SET big = 9007199254740995 WHERE id = 2",
        "\"big\": -9223372036854775808",
        "\"big\": 9007199254740995",
    );
}

/// Order of members, indentation, escapes of all that is not ASCII, line ends, no newline at the end.
#[test]
fn b06_the_files_style_comes_back() {
    for text in [
        "{\r\n\t\"a\" : {\"z\" : \"\\u65e5\", \"a\" : 1},\r\n\t\"b\" : {\"z\" : \"q\", \"a\" : 2}\r\n}\r\n",
        "{\"a\":{\"z\":\"\\u65e5\",\"a\":1},\"b\":{\"z\":\"q\",\"a\":2}}",
    ] {
        one_record_changes(text, "UPDATE things SET z = '日' WHERE id = 'b'", "\"q\"", "\"\\u65e5\"");
    }
}

/// A member that is missing is not one that is null.
#[test]
fn b06_missing_is_not_null() {
    let text = "{\"a\": {\"x\": null, \"y\": 1}, \"b\": {\"y\": 2}, \"c\": {\"x\": 1, \"y\": 3}}";
    one_record_changes(text, "UPDATE things SET y = 9 WHERE id = 'b'", "\"y\": 2", "\"y\": 9");
    one_record_changes(text, "UPDATE things SET y = 9 WHERE id = 'a'", "\"y\": 1", "\"y\": 9");
}

/// A temporary file takes the old one's place: whoever has the old one open reads it to its end.
#[test]
fn b06_nothing_is_written_in_place() {
    use std::io::Read as _;
    let text = "{\"a\": {\"x\": 1}, \"b\": {\"x\": 2}}";
    let (home, _server) = from_json(text);
    home.migration("20250101000000_move", &json_migration("to"));
    home.up();
    home.sqlite("app.db").execute_batch("UPDATE things SET x = 77 WHERE id = 'a'").unwrap();
    let mut reader = std::fs::File::open(home.path("app.json")).unwrap();
    home.rollback();
    let mut old = String::new();
    reader.read_to_string(&mut old).unwrap();
    assert_eq!(old, text);
    assert_eq!(home.text("app.json"), "{\"a\": {\"x\": 77}, \"b\": {\"x\": 2}}");
}

const MEMBERS: &str = r#"[
  {"id": 1, "u": "9f3c1a52-7d6e-4b0f-8a21-5c4d3e2f1a0b", "at": "2024-01-01T00:00:00", "n": 5, "s": "x", "odd": 1},
  {"id": 2, "u": null, "at": "2024-01-01T00:00:00", "n": 7E0, "s": "\u00e9", "odd": "1", "some": 1.50}
]
"#;

/// A file whose members become what the migration asks for.
fn asked(to: &str, columns: &[(&str, &str)]) -> Home {
    let home = Home::new(&[("from", "json:data.json"), ("to", to)], "");
    home.write("data.json", MEMBERS);
    let mut migration = "[transfer]\nfrom = \"from\"\nto = \"to\"\n".to_owned();
    migration += "[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"things\"\n";
    for (column, what) in columns {
        migration += &format!("[[transfer.column]]\ntable = \"things\"\ncolumn = \"{column}\"\n{what}\n");
    }
    home.migration("20250101000000_move", &migration);
    home
}

#[test]
fn b06_members_become_what_is_asked_for_and_come_back() {
    let server = Database::new();
    let home = asked(
        &server.url,
        &[
            ("u", "codec = \"uuid\""),
            ("at", "type = \"timestamp\"\ncodec = \"timestamp\""),
            ("s", "type = \"varchar(10)\""),
            ("odd", "codec = \"literal\""),
        ],
    );
    home.up();
    let mut c = server.client();
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'things'::regclass AND attname IN ('u', 'at', 's', 'odd')";
    assert_eq!(pg_rows(&mut c, types), ["uuid, timestamp without time zone, character varying(10), text"]);
    assert_eq!(pg_rows(&mut c, "SELECT odd FROM things"), ["'1'", "1"]);
    c.batch_execute(
        "UPDATE things SET u = '00000000-0000-0000-0000-00000000000A', at = '2025-06-07 08:09', s = 'y', odd = '''2''' WHERE id = 1",
    )
    .unwrap();
    home.rollback();
    let was =
        r#""u": "9f3c1a52-7d6e-4b0f-8a21-5c4d3e2f1a0b", "at": "2024-01-01T00:00:00", "n": 5, "s": "x", "odd": 1}"#;
    let is =
        r#""u": "00000000-0000-0000-0000-00000000000a", "at": "2025-06-07T08:09:00", "n": 5, "s": "y", "odd": "2"}"#;
    same_bytes(&home.read("data.json"), MEMBERS.replace(was, is).as_bytes());

    let home = asked("sqlite:app.db", &[("s", "type = \"VARCHAR(10)\""), ("odd", "codec = \"literal\"")]);
    home.up();
    let db = home.sqlite("app.db");
    let sql = "SELECT group_concat(type || ' ' || odd, ', ') FROM things, pragma_table_info('things') WHERE name = 's'";
    let said: String = db.query_row(sql, [], |r| r.get(0)).unwrap();
    assert_eq!(said, "VARCHAR(10) 1, VARCHAR(10) '1'");
    db.execute_batch("UPDATE things SET s = 'y', odd = '''2''' WHERE id = 1").unwrap();
    home.rollback();
    let expected = MEMBERS.replace(r#""s": "x", "odd": 1}"#, r#""s": "y", "odd": "2"}"#);
    same_bytes(&home.read("data.json"), expected.as_bytes());
}

#[test]
fn b06_what_members_cannot_become_is_refused() {
    let server = Database::new();
    let refused = |to: &str, column: &str, what: &str, words: &[&str]| {
        let home = asked(to, &[("s", "codec = \"text\""), (column, what)]);
        let refused = home.project().plan(None).unwrap_err();
        let said = format!("{refused} {}", refused.hint);
        for w in words {
            assert!(said.contains(w), "{w:?} is not in {said}");
        }
        same_bytes(&home.read("data.json"), MEMBERS.as_bytes());
        assert!(pg_dump_rows(&mut server.client()).is_empty() && !home.path("app.db").exists(), "{said}");
        refused.exit
    };
    // a record lacks it: what would come back is a null
    let words = ["the whole file.some, key 1", "missing", "leave `codec` out"];
    assert_eq!(refused(&server.url, "some", "codec = \"literal\"", &words), 4);
    let words = ["the whole file.n cannot be integer", "double precision"];
    assert_eq!(refused(&server.url, "n", "type = \"integer\"", &words), 4);
    let words = ["the whole file.n", "\"decimal\"", "there are: literal"];
    assert_eq!(refused(&server.url, "n", "codec = \"decimal\"", &words), 4);
    assert_eq!(refused("sqlite:app.db", "u", "codec = \"uuid\"", &["the whole file.u", "SQLite has no type"]), 4);
    let words = ["20250101000000_move.toml:12:1", "things has no column \"nn\"", "its columns are: id, u, at"];
    assert_eq!(refused(&server.url, "nn", "type = \"bigint\"", &words), 2);

    let home = asked("sqlite:app.db", &[("s", "codec = \"text\"")]);
    let wrong = home.text("migrations/20250101000000_move.toml").replace("table = \"things\"", "table = \"thing\"");
    home.migration("20250101000000_move", &wrong);
    let refused = Project::open(&home.path(""), &|_| None).err().unwrap();
    let said = format!("{refused} {}", refused.hint);
    for w in ["20250101000000_move.toml:9:9", "no [[transfer.table]] goes into `thing`", "did you mean `things`"] {
        assert!(said.contains(w), "{w:?} is not in {said}");
    }
}
