//! Values that change their type go there and come back as they were; what the old type does not hold is parked.

use backout::migrate::{RollbackOptions, UpOptions};
use backout::store::Phase;
use postgres::{Client, SimpleQueryMessage};

use super::super::database::Database;
use super::super::scenarios::{Home, same, sqlite_dump, sqlite_schema};

const TABLES: &str = "
    CREATE TABLE users (id varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text, age integer, digits text, code varchar(3), fax text DEFAULT 'none');
    CREATE TABLE notes (id serial PRIMARY KEY, user_id text NOT NULL REFERENCES users ON UPDATE CASCADE, body text);
    CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who text);
    INSERT INTO users VALUES ('0B7C6C2E-0F1E-4C53-9A0C-0D1F5A1B2C3D', 30, '-12', 'abc', '1'), ('00000000-0000-0000-0000-000000000001', NULL, NULL, 'ü', NULL);
    INSERT INTO notes (user_id, body) VALUES ('0B7C6C2E-0F1E-4C53-9A0C-0D1F5A1B2C3D', 'one'), ('00000000-0000-0000-0000-000000000001', 'two');
    INSERT INTO audit (who) VALUES ('0b7c6c2e0f1e4c539a0c0d1f5a1b2c3d')";

const MIGRATION: &str = r#"
[rekey]
store = "main"
type = "uuid"
tables = ["users"]
[[rekey.reference]]
table = "audit"
column = "who"
to = "users"
[alter]
store = "main"
[[alter.column]]
table = "users"
column = "age"
type = "bigint"
[[alter.column]]
table = "users"
column = "digits"
rename = "number"
type = "bigint"
[[alter.column]]
table = "users"
column = "code"
type = "text"
[[alter.column]]
table = "users"
column = "fax"
drop = true
"#;

fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let all = client.simple_query(sql).unwrap();
    let row = |m: &SimpleQueryMessage| match m {
        SimpleQueryMessage::Row(r) => {
            Some((0..r.len()).map(|i| r.get(i).unwrap_or("∅")).collect::<Vec<_>>().join(" | "))
        }
        _ => None,
    };
    all.iter().filter_map(row).collect()
}

const ALL: [&str; 3] = [
    "SELECT * FROM public.users ORDER BY id COLLATE \"C\"",
    "SELECT id, user_id, body FROM public.notes ORDER BY id",
    "SELECT * FROM public.audit ORDER BY id",
];

fn whole(client: &mut Client) -> Vec<Vec<String>> {
    ALL.iter().map(|sql| rows(client, sql)).collect()
}

#[test]
fn postgres_values_come_back_as_they_were() {
    let database = Database::new();
    let mut client = database.client();
    client.batch_execute(TABLES).unwrap();
    let before = whole(&mut client);
    let home = Home::new(&[("main", &database.url)], "");
    home.migration("20250101000000_types", MIGRATION);
    let out = home.project().up(&UpOptions::default()).unwrap();
    assert_eq!(out.phase, Some(Phase::Soaking));
    let mut client = database.client();
    assert_eq!(
        rows(&mut client, "SELECT id, age, number, code, pg_typeof(id) FROM public.users ORDER BY id"),
        [
            "00000000-0000-0000-0000-000000000001 | ∅ | ∅ | ü | uuid",
            "0b7c6c2e-0f1e-4c53-9a0c-0d1f5a1b2c3d | 30 | -12 | abc | uuid"
        ]
    );
    client
        .batch_execute(
            "INSERT INTO public.users (id, age, number, code) VALUES
                ('abcdefab-0000-0000-0000-000000000002', 2147483647, 9223372036854775807, 'xyz'),
                ('abcdefab-0000-0000-0000-000000000003', 2147483648, 1, 'a'), ('abcdefab-0000-0000-0000-000000000004', 1, 1, 'long');
             INSERT INTO public.notes (user_id, body) VALUES ('abcdefab-0000-0000-0000-000000000002', 'new');
             UPDATE public.users SET age = 31 WHERE age = 30",
        )
        .unwrap();
    let back = home.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(back.phase, Some(Phase::RolledBack));
    let parked = back.parked.join("; ");
    assert_eq!(back.parked.len(), 2, "{parked}");
    assert!(parked.contains("too large for integer") && parked.contains("4 characters"), "{parked}");
    let mut after = before;
    let ann = after[0].iter().position(|r| r.starts_with("0B7C")).unwrap();
    after[0][ann] = after[0][ann].replace("| 30 |", "| 31 |");
    after[0].push("ABCDEFAB-0000-0000-0000-000000000002 | 2147483647 | 9223372036854775807 | xyz | none".into());
    after[1].push("3 | ABCDEFAB-0000-0000-0000-000000000002 | new".into());
    let mut client = database.client();
    assert_eq!(whole(&mut client), after);
}

#[test]
fn sqlite_values_come_back_as_they_were() {
    let home = Home::new(&[("main", "sqlite:app.db")], "");
    home.sqlite("app.db")
        .execute_batch(
            "CREATE TABLE t (id TEXT PRIMARY KEY, n TEXT, gone TEXT DEFAULT 'none', v);
             CREATE TABLE c (id INTEGER PRIMARY KEY, of TEXT REFERENCES t (id), x TEXT AS (v || 'x'), v TEXT);
             INSERT INTO t VALUES ('12', '-3', 'a', x'00'), ('9223372036854775807', NULL, NULL, 1.5);
             INSERT INTO c (of, v) VALUES ('12', '1'), (NULL, '2')",
        )
        .unwrap();
    home.migration(
        "20250101000000_types",
        "[rekey]\nstore = \"main\"\ntype = \"bigint\"\ntables = [\"t\"]\n[alter]\nstore = \"main\"\n\
         [[alter.column]]\ntable = \"t\"\ncolumn = \"n\"\ntype = \"INTEGER\"\n\
         [[alter.column]]\ntable = \"t\"\ncolumn = \"gone\"\ndrop = true\n\
         [[alter.column]]\ntable = \"c\"\ncolumn = \"v\"\nrename = \"w\"\n",
    );
    let (before, schema) = (sqlite_dump(&home.sqlite("app.db")), sqlite_schema(&home.sqlite("app.db")));
    home.up();
    let db = home.sqlite("app.db");
    let all: Vec<String> = {
        let mut rows =
            db.prepare("SELECT typeof(id) || id || coalesce(typeof(n) || n, '') FROM t ORDER BY id").unwrap();
        rows.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(all, ["integer12integer-3", "integer9223372036854775807"]);
    let computed: String = db.query_row("SELECT x FROM c WHERE w = '1'", [], |r| r.get(0)).unwrap();
    assert_eq!(computed, "1x");
    db.execute_batch("INSERT INTO t (id, n) VALUES (5, 7), (6, 'many'); INSERT INTO c (of, w) VALUES (5, '3')")
        .unwrap();
    drop(db);
    let back = home.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!(back.parked.len(), 1, "{:?}", back.parked);
    let db = home.sqlite("app.db");
    assert_eq!(sqlite_schema(&db), schema);
    let mut after = before;
    after.get_mut("t").unwrap().insert(1, "text 5 | text 7 | text none | null".into());
    after.get_mut("c").unwrap().push("int 3 | text 5 | text 3x | text 3".into());
    same(&sqlite_dump(&db), &after);
}

/// Two rows change places, and one of them does not go back: the other one has left its place all the same.
#[test]
fn p25_a_row_that_changed_places_with_one_that_is_parked_is_not_lost() {
    for discard in [false, true] {
        let home = Home::new(&[("main", "sqlite:app.db")], "");
        home.sqlite("app.db")
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT NOT NULL); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
            )
            .unwrap();
        let before = sqlite_dump(&home.sqlite("app.db"));
        home.migration(
            "20250101000000_nullable",
            "[alter]\nstore = \"main\"\n[[alter.column]]\ntable = \"t\"\ncolumn = \"v\"\nnot_null = false\n",
        );
        home.up();
        home.sqlite("app.db")
            .execute_batch(
                "BEGIN; UPDATE t SET id = 3 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 3; \
                 UPDATE t SET v = NULL WHERE id = 2; COMMIT",
            )
            .unwrap();
        home.project().shadow().unwrap();
        let back = home.project().rollback(&RollbackOptions { discard, ..RollbackOptions::default() }).unwrap();
        assert_eq!(back.phase, Some(Phase::RolledBack));
        let mut after = before;
        if !discard {
            assert_eq!(back.verified.unwrap().problems, [""; 0]);
            after.insert("t".into(), vec!["int 1 | text b".into()]);
        }
        same(&sqlite_dump(&home.sqlite("app.db")), &after);
    }
}
