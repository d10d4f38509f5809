//! What a step takes away comes back: every kind of key, name, value, number and trigger.

use backout::migrate::{Options, RollbackOptions, UpOptions};
use backout::plan::Kind;
use rusqlite::types::Value;

use crate::project::{BOTH, Place};

/// A place with these tables already there.
fn with(kind: Kind, tables: &str) -> Place {
    let place = Place::new(kind);
    place.sql(tables);
    place
}

fn no_proof(place: &Place) -> backout::migrate::Project {
    place.project().with(Options { verify: false, ..Options::default() })
}

#[test]
fn numbers_go_on_after_a_dropped_table_returned() {
    for kind in BOTH {
        let table = match kind {
            Kind::Sqlite => "CREATE TABLE t (id integer PRIMARY KEY AUTOINCREMENT, x text);",
            _ => "CREATE TABLE t (id serial PRIMARY KEY, x text);",
        };
        for gone in [false, true] {
            let place = with(kind, table);
            place.sql("INSERT INTO t (x) VALUES ('a')");
            if gone {
                // the number 2 was given, and is given to nobody else
                place.sql("INSERT INTO t (x) VALUES ('b'); DELETE FROM t WHERE id = 2");
            }
            place.revision("1", "drop", "DROP TABLE t;", table);
            place.up("head");
            place.back("-1");
            place.sql("INSERT INTO t (x) VALUES ('c')");
            let next = if gone { "3" } else { "2" };
            assert_eq!(place.ask("SELECT id FROM t WHERE x = 'c'"), next, "{kind:?} {gone}");
        }
    }
}

#[test]
fn an_identity_column_comes_back_and_goes_on() {
    let place = with(Kind::Postgres, "CREATE TABLE t (k text PRIMARY KEY, n integer GENERATED ALWAYS AS IDENTITY)");
    place.sql("INSERT INTO t (k) VALUES ('a'), ('b'), ('c'); DELETE FROM t WHERE k = 'a'");
    place.revision(
        "1",
        "n",
        "ALTER TABLE t DROP COLUMN n;",
        "ALTER TABLE t ADD COLUMN n integer GENERATED ALWAYS AS IDENTITY;",
    );
    place.up("head");
    place.back("-1");
    assert_eq!(place.list("SELECT k || n FROM t ORDER BY k"), ["b2", "c3"]);
    place.sql("INSERT INTO t (k) VALUES ('d')");
    assert_eq!(place.ask("SELECT n FROM t WHERE k = 'd'"), "4");
    let always = "SELECT attidentity::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'n'";
    assert_eq!(place.ask(always), "a");
}

#[test]
fn a_down_that_puts_rows_in_by_itself() {
    for kind in BOTH {
        let table = "CREATE TABLE t (id integer PRIMARY KEY, x text);";
        let place = with(kind, table);
        place.sql("INSERT INTO t VALUES (1, 'one'), (2, 'two')");
        place.revision("1", "drop", "DROP TABLE t;", &format!("{table}\nINSERT INTO t VALUES (1, 'one');"));
        place.up("head");
        place.back("-1");
        assert_eq!(place.list("SELECT x FROM t ORDER BY id"), ["one", "two"], "{kind:?}");
    }
}

#[test]
fn a_table_dropped_and_made_again_under_its_name() {
    for kind in BOTH {
        let table = "CREATE TABLE t (id integer PRIMARY KEY, x text);";
        let place = with(kind, table);
        place.sql("INSERT INTO t VALUES (1, 'one')");
        place.revision("1", "anew", &format!("DROP TABLE t;\n{table}"), &format!("DROP TABLE t;\n{table}"));
        place.up("head");
        assert_eq!(place.list("SELECT x FROM t"), [""; 0]);
        place.sql("INSERT INTO t VALUES (7, 'seven')");
        place.back("-1");
        assert_eq!(place.list("SELECT x FROM t"), ["one"], "{kind:?}");
        place.up("head");
        assert_eq!(place.list("SELECT x FROM t"), ["seven"], "{kind:?}");
    }
}

#[test]
fn a_column_dropped_and_made_again_under_its_name() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text)");
        place.sql("INSERT INTO t VALUES (1, 'one')");
        let anew = "ALTER TABLE t DROP COLUMN x;\nALTER TABLE t ADD COLUMN x text;";
        place.revision("1", "anew", anew, anew);
        place.up("head");
        place.back("-1");
        assert_eq!(place.list("SELECT x FROM t"), ["one"], "{kind:?}");
    }
}

#[test]
fn a_table_renamed_and_another_made_under_its_name() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text)");
        place.sql("INSERT INTO t VALUES (1, 'one')");
        place.revision(
            "1",
            "swap",
            "ALTER TABLE t RENAME TO u;\nCREATE TABLE t (id integer PRIMARY KEY, x text);",
            "DROP TABLE t;\nALTER TABLE u RENAME TO t;",
        );
        place.up("head");
        place.sql("INSERT INTO t VALUES (9, 'nine')");
        place.back("-1");
        assert_eq!(place.list("SELECT x FROM t"), ["one"], "{kind:?}");
        place.up("head");
        assert_eq!(place.list("SELECT x FROM t"), ["nine"], "{kind:?}");
    }
}

#[test]
fn names_that_need_quotes() {
    for kind in BOTH {
        let table = "\"My.Täble of things \"\"quoted\"\" and rather long\"";
        let column = "\"Some \"\"odd\"\" Cölumn, dropped.\"";
        let (schema, make) = match kind {
            Kind::Sqlite => ("", "".to_owned()),
            _ => ("\"Od.d\".", "CREATE SCHEMA \"Od.d\";".to_owned()),
        };
        let sql = format!("CREATE TABLE {schema}{table} (\"the Key\" integer PRIMARY KEY, {column} text, rest text);");
        let place = with(kind, &format!("{make}{sql}"));
        place.sql(&format!("INSERT INTO {schema}{table} VALUES (1, 'one', 'r')"));
        place.revision(
            "1",
            "column",
            &format!("ALTER TABLE {schema}{table} DROP COLUMN {column};"),
            &format!("ALTER TABLE {schema}{table} ADD COLUMN {column} text;"),
        );
        place.revision(
            "2",
            "table",
            &format!("DROP TABLE {schema}{table};"),
            &format!("CREATE TABLE {schema}{table} (\"the Key\" integer PRIMARY KEY, rest text);"),
        );
        place.up("head");
        place.back("base");
        let all = format!("SELECT \"the Key\" || {column} || rest FROM {schema}{table}");
        assert_eq!(place.list(&all), ["1oner"], "{kind:?}");
    }
}

#[test]
fn triggers_do_not_fire_and_are_as_they_were() {
    for kind in BOTH {
        let (make, state) = match kind {
            Kind::Sqlite => (
                "CREATE TRIGGER t_u AFTER UPDATE ON t BEGIN INSERT INTO seen VALUES ('u'); END;",
                "SELECT sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name",
            ),
            _ => (
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (TG_NAME); \
                 RETURN NEW; END $$;\n\
                 CREATE TRIGGER t_a AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();\n\
                 CREATE TRIGGER t_b AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();\n\
                 CREATE TRIGGER t_c AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();\n\
                 ALTER TABLE t ENABLE ALWAYS TRIGGER t_b;\nALTER TABLE t DISABLE TRIGGER t_c;",
                "SELECT tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname",
            ),
        };
        let place = with(
            kind,
            &format!(
                "BEGIN; CREATE TABLE seen (x text); CREATE TABLE p (id integer PRIMARY KEY); INSERT INTO p VALUES (5); \
                 CREATE TABLE t (id integer PRIMARY KEY, x text, p integer REFERENCES p DEFERRABLE INITIALLY DEFERRED); \
                 INSERT INTO t VALUES (1, 'one', 5), (2, 'two', NULL); COMMIT; {make}"
            ),
        );
        let before = place.list(state);
        // the reference is checked at the end, so that there are events to wait for
        place.revision(
            "1",
            "loses",
            "ALTER TABLE t DROP COLUMN p;",
            "ALTER TABLE t ADD COLUMN p integer REFERENCES p DEFERRABLE INITIALLY DEFERRED;",
        );
        place.up("head");
        place.back("-1");
        assert_eq!(place.list("SELECT x || coalesce(p, 0) FROM t ORDER BY id"), ["one5", "two0"], "{kind:?}");
        assert_eq!(place.list("SELECT x FROM seen"), [""; 0], "{kind:?}");
        assert_eq!(place.list(state), before, "{kind:?}");
    }
}

#[test]
fn dropped_tables_that_refer_to_each_other() {
    for kind in BOTH {
        for deferred in [false, true] {
            let late = if deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
            let (a, b, refer) = match kind {
                Kind::Sqlite => (
                    format!(
                        "CREATE TABLE a (id integer PRIMARY KEY, b integer REFERENCES b {late}, up integer REFERENCES a);"
                    ),
                    format!("CREATE TABLE b (id integer PRIMARY KEY, a integer NOT NULL REFERENCES a {late});"),
                    String::new(),
                ),
                _ => (
                    "CREATE TABLE a (id integer PRIMARY KEY, b integer, up integer REFERENCES a);".to_owned(),
                    format!("CREATE TABLE b (id integer PRIMARY KEY, a integer NOT NULL REFERENCES a {late});"),
                    format!("ALTER TABLE a ADD CONSTRAINT a_b FOREIGN KEY (b) REFERENCES b {late};"),
                ),
            };
            let place = with(kind, &format!("{a}{b}{refer}"));
            place.sql(
                "BEGIN; INSERT INTO a VALUES (1, NULL, 1), (2, NULL, 1); INSERT INTO b VALUES (1, 2), (2, 1); \
                       UPDATE a SET b = id; COMMIT",
            );
            let cut = if kind == Kind::Sqlite { "" } else { "ALTER TABLE a DROP CONSTRAINT a_b;\n" };
            place.revision("1", "drop", &format!("{cut}DROP TABLE b;\nDROP TABLE a;"), &format!("{a}\n{b}\n{refer}"));
            place.up("head");
            place.back("-1");
            assert_eq!(place.list("SELECT id || ' ' || b FROM a ORDER BY id"), ["1 1", "2 2"], "{kind:?}");
            assert_eq!(place.list("SELECT id || ' ' || a FROM b ORDER BY id"), ["1 2", "2 1"], "{kind:?}");
        }
    }
}

#[test]
fn every_storage_class_of_sqlite() {
    let values: Vec<Value> = vec![
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Integer(9_007_199_254_740_993),
        Value::Real(-0.0),
        Value::Real(0.1),
        Value::Real(1e300),
        Value::Real(f64::INFINITY),
        Value::Real(3.0),
        Value::Text(String::new()),
        Value::Text("a\0b".into()),
        Value::Text("9007199254740993".into()),
        Value::Blob(vec![0, 255, 1]),
        Value::Blob(Vec::new()),
        Value::Blob(b"text".to_vec()),
    ];
    for ty in ["", "text", "integer", "real", "numeric", "blob"] {
        let make = |name: &str| format!("CREATE TABLE {name} (id integer PRIMARY KEY, x {ty}, k text);");
        let place = with(Kind::Sqlite, &make("t"));
        let conn = place.sqlite();
        for (i, value) in values.iter().enumerate() {
            conn.execute("INSERT INTO t VALUES (?1, ?2, 'k')", rusqlite::params![i as i64, value]).unwrap();
        }
        let all = || -> Vec<String> {
            let conn = place.sqlite();
            let mut asked = conn.prepare("SELECT x FROM t ORDER BY id").unwrap();
            let rows = asked.query_map([], |r| {
                Ok(match r.get_ref(0)? {
                    // the sign of zero too
                    rusqlite::types::ValueRef::Real(r) => format!("{:016x}", r.to_bits()),
                    other => format!("{other:?}"),
                })
            });
            rows.unwrap().map(Result::unwrap).collect()
        };
        let before = all();
        place.revision("1", "column", "ALTER TABLE t DROP COLUMN x;", &format!("ALTER TABLE t ADD COLUMN x {ty};"));
        place.revision("2", "table", "DROP TABLE t;", "CREATE TABLE t (id integer PRIMARY KEY, k text);");
        place.up("head");
        place.back("base");
        assert_eq!(all(), before, "{ty}: the column");
        std::fs::remove_file(place.folder.path().join("migrations/2_table.sql")).unwrap();
        place.revision("1", "column", "DROP TABLE t;", &make("t"));
        place.up("head");
        place.back("base");
        assert_eq!(all(), before, "{ty}: the table");
        // retyped by a rebuild, and back
        place.revision(
            "1",
            "column",
            "CREATE TABLE n (id integer PRIMARY KEY, x integer, k text);\nINSERT INTO n SELECT id, CAST(x AS integer), k FROM t;\n\
             DROP TABLE t;\nALTER TABLE n RENAME TO t;",
            &format!("{}\nINSERT INTO n SELECT id, x, k FROM t;\nDROP TABLE t;\nALTER TABLE n RENAME TO t;", make("n")),
        );
        if ty != "integer" {
            place.up("head");
            place.sql("UPDATE t SET k = 'other'");
            place.back("base");
            assert_eq!(all(), before, "{ty}: the type");
        }
    }
}

#[test]
fn keys_of_several_columns_renamed_and_retyped_in_the_same_up() {
    for kind in BOTH {
        let bare = if kind == Kind::Sqlite { " WITHOUT ROWID" } else { "" };
        let place = with(
            kind,
            &format!("CREATE TABLE t (a integer NOT NULL, b text NOT NULL, x text, PRIMARY KEY (b, a)){bare}"),
        );
        place.sql("INSERT INTO t VALUES (1, 'p', 'one'), (1, 'q', 'two'), (2, 'p', NULL)");
        let (retype, back) = match kind {
            Kind::Sqlite => ("", ""),
            _ => ("ALTER TABLE t ALTER a TYPE bigint;\n", "ALTER TABLE t ALTER a TYPE integer;\n"),
        };
        place.revision(
            "1",
            "keys",
            &format!("ALTER TABLE t DROP COLUMN x;\n{retype}ALTER TABLE t RENAME COLUMN a TO aa;"),
            &format!("ALTER TABLE t RENAME COLUMN aa TO a;\n{back}ALTER TABLE t ADD COLUMN x text;"),
        );
        place.up("head");
        place.sql("DELETE FROM t WHERE b = 'q'; INSERT INTO t VALUES (3, 'r')");
        place.back("-1");
        assert_eq!(place.list("SELECT a || b || coalesce(x, '-') FROM t ORDER BY a"), ["1pone", "2p-", "3r-"]);
    }
}

#[test]
fn a_rebuild_with_a_view_on_the_table() {
    let place = with(
        Kind::Sqlite,
        "CREATE TABLE t (id integer PRIMARY KEY, x text, y text); CREATE VIEW v AS SELECT id, x FROM t; \
         CREATE INDEX t_x ON t (x); CREATE TABLE c (t integer REFERENCES t ON DELETE CASCADE); \
         INSERT INTO t VALUES (1, 'one', 'why'), (2, 'two', NULL); INSERT INTO c VALUES (1)",
    );
    place.revision(
        "1",
        "rebuild",
        "DROP VIEW v;\nCREATE TABLE n (id integer PRIMARY KEY, x text);\nINSERT INTO n SELECT id, x FROM t;\nDROP TABLE t;\n\
         ALTER TABLE n RENAME TO t;\nCREATE INDEX t_x ON t (x);\nCREATE VIEW v AS SELECT id, x FROM t;",
        "DROP VIEW v;\nCREATE TABLE n (id integer PRIMARY KEY, x text, y text);\nINSERT INTO n (id, x) SELECT id, x FROM t;\n\
         DROP TABLE t;\nALTER TABLE n RENAME TO t;\nCREATE INDEX t_x ON t (x);\nCREATE VIEW v AS SELECT id, x FROM t;",
    );
    place.up("head");
    place.sql("UPDATE t SET x = 'zwei' WHERE id = 2; INSERT INTO t VALUES (3, 'three')");
    place.back("-1");
    assert_eq!(place.list("SELECT x || coalesce(y, '-') FROM t ORDER BY id"), ["onewhy", "zwei-", "three-"]);
    assert_eq!(place.list("SELECT t FROM c"), ["1"]);
}

#[test]
fn two_revisions_that_lose_things_of_one_table() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text, y text)");
        place.sql("INSERT INTO t VALUES (1, 'one', 'eins')");
        place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
        place.revision("2", "y", "ALTER TABLE t DROP COLUMN y;", "ALTER TABLE t ADD COLUMN y text;");
        place.up("head");
        let both = "SELECT x || y FROM t";
        place.back("-2");
        assert_eq!(place.list(both), ["oneeins"]);
        place.up("head");
        place.back("-1");
        place.back("-1");
        assert_eq!(place.list(both), ["oneeins"]);
    }
}

#[test]
fn what_is_kept_and_does_not_fit_an_edited_up_stays_and_is_told() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision("1", "tags", "CREATE TABLE tags (id integer PRIMARY KEY, t text);", "DROP TABLE tags;");
        place.up("head");
        place.sql("INSERT INTO tags VALUES (1, 'x')");
        place.back("-1");
        place.revision(
            "1",
            "tags",
            "CREATE TABLE tags (id integer PRIMARY KEY, name text NOT NULL);",
            "DROP TABLE tags;",
        );
        let up = place.up("head");
        assert!(up.notes.iter().any(|n| n.contains("migration_backup")), "{kind:?}: {:?}", up.notes);
        let kept = match kind {
            Kind::Sqlite => "SELECT t FROM migration_backup__1_down_1_tags",
            _ => "SELECT t FROM migration_backup.\"1_down_1_tags\"",
        };
        assert_eq!(place.list(kept), ["x"]);
    }
}

#[test]
fn a_retyped_value_that_nobody_changed_comes_back_though_its_row_was() {
    let place = with(Kind::Postgres, "CREATE TABLE t (id integer PRIMARY KEY, n numeric, x text)");
    place.sql("INSERT INTO t VALUES (1, 1.50, 'a'), (2, 2.50, 'b')");
    place.revision(
        "1",
        "n",
        "ALTER TABLE t ALTER n TYPE integer USING round(n);",
        "ALTER TABLE t ALTER n TYPE numeric;",
    );
    place.up("head");
    place.sql("UPDATE t SET x = 'other'; UPDATE t SET n = 7 WHERE id = 2");
    place.back("-1");
    assert_eq!(place.list("SELECT n || x FROM t ORDER BY id"), ["1.50other", "7other"]);
}

#[test]
fn it_is_kept_without_a_proof_too() {
    for kind in BOTH {
        let place =
            with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text); CREATE TABLE u (id integer PRIMARY KEY)");
        place.sql("INSERT INTO t VALUES (1, 'one'); INSERT INTO u VALUES (5)");
        place.revision(
            "1",
            "x",
            "ALTER TABLE t DROP COLUMN x;\nDROP TABLE u;",
            "ALTER TABLE t ADD COLUMN x text;\nCREATE TABLE u (id integer PRIMARY KEY);",
        );
        place.revision("2", "y", "ALTER TABLE t ADD COLUMN y text;", "ALTER TABLE t DROP COLUMN y;");
        let up = UpOptions::default();
        no_proof(&place).up(&up).unwrap();
        place.sql("UPDATE t SET y = 'why'");
        let base = RollbackOptions { to: Some("base".into()), ..RollbackOptions::default() };
        no_proof(&place).rollback(&base).unwrap();
        assert_eq!(place.list("SELECT x FROM t"), ["one"], "{kind:?}");
        assert_eq!(place.list("SELECT id FROM u"), ["5"], "{kind:?}");
        no_proof(&place).up(&up).unwrap();
        assert_eq!(place.list("SELECT y FROM t"), ["why"], "{kind:?}");
    }
}

#[test]
fn a_stamped_one_keeps_what_its_down_takes() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text)");
        place.sql("INSERT INTO t VALUES (1, 'one')");
        place.revision("1", "t", "CREATE TABLE t (id integer PRIMARY KEY, x text);", "DROP TABLE t;");
        place.project().stamp("head").unwrap();
        place.back("-1");
        assert_eq!(place.tables(), [""; 0]);
        place.up("head");
        assert_eq!(place.list("SELECT x FROM t"), ["one"], "{kind:?}");
    }
}

#[test]
fn rows_that_nothing_tells_apart_are_refused() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (k integer, x text)");
        let numbers = match kind {
            Kind::Sqlite => "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)",
            _ => "WITH n AS (SELECT generate_series(1, 1200) AS i)",
        };
        // those that the copy has are alike
        place.sql(&format!("{numbers} INSERT INTO t SELECT i, CASE WHEN i > 1100 THEN 'x' END FROM n"));
        place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
        let refused = place.try_up("head").unwrap_err();
        assert_eq!(refused.exit, 4, "{refused}");
        assert!(refused.to_string().contains("no key"), "{refused}");
        assert_eq!(place.ask("SELECT count(*) FROM t WHERE x = 'x'"), "100");
    }
}

#[test]
fn a_key_of_sqlite_that_is_null() {
    let place = with(Kind::Sqlite, "CREATE TABLE t (k text PRIMARY KEY, x text)");
    place.sql("INSERT INTO t VALUES ('a', 'one'), (NULL, 'none')");
    place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
    place.up("head");
    place.back("-1");
    assert_eq!(place.list("SELECT x FROM t ORDER BY k"), ["none", "one"]);
    // two of them cannot be told apart
    place.sql("INSERT INTO t VALUES (NULL, 'nil')");
    let refused = place.try_up("head").unwrap_err();
    assert_eq!(refused.exit, 4, "{refused}");
    assert_eq!(place.list("SELECT x FROM t ORDER BY x"), ["nil", "none", "one"]);
}

#[test]
fn a_table_without_a_key_comes_back() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (x text, y integer)");
        place.sql("INSERT INTO t VALUES ('a', 1), ('a', 1), (NULL, 2)");
        place.revision("1", "drop", "DROP TABLE t;", "CREATE TABLE t (x text, y integer);");
        place.up("head");
        place.back("-1");
        assert_eq!(place.list("SELECT coalesce(x, '-') || y FROM t ORDER BY 1"), ["-2", "a1", "a1"]);
    }
}

#[test]
fn generated_columns() {
    for kind in BOTH {
        let table =
            "CREATE TABLE t (id integer PRIMARY KEY, x integer, twice integer GENERATED ALWAYS AS (x * 2) STORED);";
        let place = with(kind, table);
        place.sql("INSERT INTO t (id, x) VALUES (1, 4)");
        place.revision("1", "drop", "DROP TABLE t;", table);
        place.up("head");
        place.back("-1");
        assert_eq!(place.list("SELECT twice FROM t"), ["8"]);
    }
}

/// Rows that something is kept of, over all tables.
fn kept_rows(place: &Place) -> u64 {
    place.project().kept().unwrap().iter().map(|kept| kept.rows).sum()
}

#[test]
fn values_of_rows_that_are_no_more_are_listed_and_stay_until_complete() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text, y text)");
        place.sql("INSERT INTO t VALUES (1, 'one', 'y'), (2, 'two', 'y'), (3, 'three', 'y'), (4, NULL, 'y')");
        place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
        place.up("head");
        // nothing but the key could tell that 9 is 3
        place.sql("DELETE FROM t WHERE id IN (2, 4); UPDATE t SET id = 9 WHERE id = 3");
        let back = place.back("-1");
        assert_eq!(place.list("SELECT id || coalesce(x, '-') FROM t ORDER BY id"), ["1one", "9-"], "{kind:?}");
        let told = back.notes.join("\n");
        for (key, value) in [("2", "two"), ("3", "three")] {
            let line = told.lines().find(|line| line.contains(&format!("{key}: ")) && line.contains(value));
            assert!(line.is_some_and(|line| line.contains("not put back")), "{kind:?} {key}: {told}");
        }
        let (schema, name) = if kind == Kind::Sqlite {
            ("", "migration_backup__1_up_1_t_1")
        } else {
            ("migration_backup.", "1_up_1_t_1")
        };
        let table = format!("{schema}\"{name}\"");
        assert!(told.contains(&table), "{kind:?}: {told}");
        assert_eq!(place.list(&format!("SELECT c0 FROM {table} ORDER BY k0")), ["two", "three"], "{kind:?}");
        // neither the next up nor its down touches them
        place.up("head");
        place.sql("INSERT INTO t (id, y) VALUES (2, 'another')");
        place.back("-1");
        assert_eq!(place.list("SELECT id || coalesce(x, '-') FROM t ORDER BY id"), ["1one", "2-", "9-"], "{kind:?}");
        assert_eq!(kept_rows(&place), 2, "{kind:?}");
        place.project().complete(false).unwrap();
        assert_eq!(kept_rows(&place), 0, "{kind:?}");
        let view = if kind == Kind::Sqlite { "migration_log" } else { "backout.migration_log" };
        let gone = place.ask(&format!("SELECT note FROM {view} WHERE outcome = 'let go'"));
        assert!(gone.contains("2 rows"), "{kind:?}: {gone}");
    }
}

#[test]
fn a_row_whose_key_was_changed_and_nothing_else_is_followed() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, mail text NOT NULL UNIQUE, x text, y text)");
        place.sql(
            "INSERT INTO t VALUES (1, 'a@', 'one', 'y'), (2, 'b@', 'two', 'y'), (3, 'c@', 'three', 'y'), (4, 'd@', 'four', 'y'), \
             (5, 'e@', 'five', 'y'), (6, 'f@', 'six', 'y'), (7, 'g@', 'seven', 'y')",
        );
        place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
        place.up("head");
        // 2 is 12 now; 13 may be 3, or a stranger who took its address; 5 took the key of 4, that is 14; 6 took the key of 7, that is
        // 17 and was changed as well
        place.sql(
            "UPDATE t SET id = 12 WHERE id = 2; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (13, 'c@', 'new'); \
             UPDATE t SET id = 14 WHERE id = 4; UPDATE t SET id = 4 WHERE id = 5; \
             UPDATE t SET id = 17, y = 'z' WHERE id = 7; UPDATE t SET id = 7 WHERE id = 6",
        );
        let told = place.back("-1").notes.join("\n");
        let all = "SELECT id || coalesce(x, '-') FROM t ORDER BY id";
        assert_eq!(place.list(all), ["1one", "4five", "7six", "12two", "13-", "14four", "17-"], "{kind:?}: {told}");
        let listed = |name: &str| told.contains(&format!("x was {name}"));
        let names = ["one", "two", "three", "four", "five", "six", "seven"];
        assert_eq!(names.map(listed), [false, false, true, false, false, false, true], "{kind:?}: {told}");
        assert_eq!(kept_rows(&place), 2, "{kind:?}");
    }
}

#[test]
fn a_value_that_gave_way_to_the_downs_own_stays() {
    for kind in BOTH {
        let place = with(kind, "CREATE TABLE t (id integer PRIMARY KEY, x text, y text)");
        place.sql("INSERT INTO t VALUES (1, 'one', 'y'), (2, 'two', 'y')");
        let down = "ALTER TABLE t ADD COLUMN x text;\nUPDATE t SET x = 'made of ' || y;";
        place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", down);
        place.up("head");
        place.sql("UPDATE t SET y = 'z' WHERE id = 2");
        let told = place.back("-1").notes.join("\n");
        assert_eq!(place.list("SELECT x FROM t ORDER BY id"), ["one", "made of z"], "{kind:?}");
        assert!(told.contains("stays made of z, was two before"), "{kind:?}: {told}");
        assert_eq!(kept_rows(&place), 1, "{kind:?}: {told}");
    }
}

#[test]
fn a_row_that_gave_way_to_the_scripts_own_stays() {
    for kind in BOTH {
        let table = "CREATE TABLE t (id integer PRIMARY KEY, x text);";
        let place = with(kind, table);
        place.sql("INSERT INTO t VALUES (1, 'one'), (2, 'two')");
        place.revision("1", "t", "DROP TABLE t;", &format!("{table}\nINSERT INTO t VALUES (2, 'another');"));
        let asked = UpOptions { accept_loss: Some("so it shall be".into()), ..UpOptions::default() };
        place.project().up(&asked).unwrap();
        let told = place.back("-1").notes.join("\n");
        assert_eq!(place.list("SELECT x FROM t ORDER BY id"), ["one", "another"], "{kind:?}");
        assert_eq!(kept_rows(&place), 1, "{kind:?}: {told}");
        assert!(told.contains("migration_backup"), "{kind:?}: {told}");
    }
}

#[test]
fn what_a_down_without_a_transaction_does_not_put_back_is_told() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.sql("CREATE TABLE t (id integer PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'one')");
        place.file(
            "1_x.sql",
            "-- migrate:up\nALTER TABLE t DROP COLUMN x;\n-- migrate:down transaction:false\nALTER TABLE t ADD COLUMN x text;\n",
        );
        assert_eq!(place.try_up("head").unwrap_err().exit, 4, "the proof sees it");
        let asked = UpOptions { accept_loss: Some("so it shall be".into()), ..UpOptions::default() };
        place.project().up(&asked).unwrap();
        let told = place.back("-1").notes.join("\n");
        assert!(told.contains("not put back") && told.contains("1_up_1_t"), "{kind:?}: {told}");
        assert_eq!(kept_rows(&place), 1, "{kind:?}");
    }
}
