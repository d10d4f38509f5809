//! Values that change their type go there and come back as they were; what the old type does not hold is parked.

use backout::migrate::{RollbackOptions, Until, UpOptions};
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

/// Keys and what refers to them, of which some are no UUIDs, or are spelled otherwise than the others.
const MIXED: &str = "
    CREATE TABLE users (id text PRIMARY KEY, name text);
    CREATE TABLE profiles (id text PRIMARY KEY REFERENCES users, bio text);
    CREATE TABLE notes (id serial PRIMARY KEY, user_id varchar(40) REFERENCES users, body text);
    CREATE TABLE audit (id serial PRIMARY KEY, who text, what text);
    INSERT INTO users VALUES ('system', 'the system'), ('ABCDEFAB-0000-0000-0000-000000000001', 'capitals'), ('{abcdefab-0000-0000-0000-000000000002}', 'braces'),
        ('abcdefab-0000-0000-0000-000000000001', 'small'), ('abcdefab-0000-0000-0000-000000000003', 'small, too'), ('', 'nobody');
    INSERT INTO profiles VALUES ('system', 'none'), ('abcdefab-0000-0000-0000-000000000003', 'some');
    INSERT INTO notes (user_id, body) SELECT id, 'of ' || name FROM users ORDER BY name;
    INSERT INTO audit (who, what) VALUES ('system', 'began'), ('cron', 'ran'), ('abcdefab000000000000000000000003', 'no dashes'), (NULL, 'none'),
        ('abcdefab-0000-0000-0000-000000000003', 'came'), ('abcdefab-0000-0000-0000-000000000001', 'went')";

const CARRY: &str = r#"
[rekey]
store = "main"
type = "uuid"
tables = ["users", "profiles"]
invalid = "carry"
[[rekey.reference]]
table = "audit"
column = "who"
to = "users"
"#;

#[test]
fn p10_keys_that_are_no_uuids_are_carried_and_come_back_word_for_word() {
    let database = Database::new();
    let mut client = database.client();
    client.batch_execute(MIXED).unwrap();
    let home = Home::new(&[("main", &database.url)], "");
    let plan = |text: &str| {
        home.migration("20250101000000_types", text);
        home.project().plan(None).map(Option::unwrap)
    };
    // not unless it is asked for, and not for the reference if that is to be refused
    let alone = CARRY.split("[[rekey").next().unwrap();
    let refused = plan(&alone.replace("\"carry\"", "\"refuse\"")).unwrap_err().to_string();
    assert!(refused.contains("users.id, key 'system': text is no UUID"), "{refused}");
    let soft = plan(&CARRY.replace("to = \"users\"", "to = \"users\"\ninvalid = \"refuse\"")).unwrap_err().to_string();
    assert!(soft.contains("audit.who, key 1: text is no UUID"), "{soft}");
    let notes = plan(CARRY).unwrap().plan.notes.join("\n");
    assert!(notes.contains("users.id: 4 values are no UUID of 36 characters in small letters"), "{notes}");
    assert!(notes.contains("audit.who: 3 values are no UUID") && notes.contains("'cron' as "), "{notes}");

    let all = |client: &mut Client| {
        let tables = ["users", "profiles", "notes", "audit"];
        tables.map(|t| {
            let mut rows = rows(client, &format!("SELECT * FROM public.{t}"));
            rows.sort();
            rows
        })
    };
    home.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
    client.batch_execute("UPDATE users SET name = 'The system' WHERE id = 'system'; INSERT INTO audit (who, what) VALUES ('cron', 'again'), ('stranger', 'came')").unwrap();
    // a text of which the plan does not know has no UUID
    let unknown = home.project().up(&UpOptions::default()).unwrap_err().to_string();
    assert!(unknown.contains("'stranger'") && unknown.contains("nor was it there when the plan was made"), "{unknown}");
    client.batch_execute("DELETE FROM audit WHERE who = 'stranger'").unwrap();
    let mut after = all(&mut client);
    assert_eq!(home.project().up(&UpOptions::default()).unwrap().phase, Some(Phase::Soaking));
    let mut client = database.client();
    // what was equal is equal, and what was not is not
    let joined = "SELECT u.name, n.body, p.bio FROM notes n JOIN users u ON u.id = n.user_id JOIN profiles p ON p.id = u.id ORDER BY 1";
    assert_eq!(rows(&mut client, joined), ["The system | of the system | none", "small, too | of small, too | some"]);
    let soft = "SELECT what FROM audit a JOIN users u ON u.id = a.who ORDER BY 1";
    assert_eq!(rows(&mut client, soft), ["began", "came", "went"]);
    client
        .batch_execute(
            "INSERT INTO audit (who, what) SELECT id, 'ended' FROM users WHERE name = 'The system';
             INSERT INTO profiles SELECT id, 'of nobody' FROM users WHERE name = 'nobody';
             INSERT INTO users VALUES ('abcdefab-0000-0000-0000-00000000000a', 'new');
             DELETE FROM notes WHERE body = 'of braces'; DELETE FROM users WHERE name = 'braces';
             UPDATE notes SET user_id = (SELECT id FROM users WHERE name = 'capitals') WHERE body = 'of small'",
        )
        .unwrap();
    let back = home.project().rollback(&RollbackOptions::default()).unwrap();
    assert_eq!((back.phase, back.parked), (Some(Phase::RolledBack), Vec::new()));
    after[0].retain(|r| !r.ends_with("braces"));
    after[2].retain(|r| !r.ends_with("braces"));
    after[0].push("abcdefab-0000-0000-0000-00000000000a | new".into());
    after[1].push(" | of nobody".into());
    for r in after[2].iter_mut().filter(|r| r.ends_with("of small")) {
        *r = r.replace("abcdefab", "ABCDEFAB");
    }
    after[3].push("9 | system | ended".into());
    after.iter_mut().for_each(|t| t.sort());
    assert_eq!(all(&mut database.client()), after);
}
