//! What ends a way back: what is kept is let go, tables with rows are dropped. And where a proof may not go.

use std::process::{Command, Output};

use backout::migrate::{RollbackOptions, UpOptions};
use backout::plan::Kind;

use crate::project::{BOTH, Place};

fn backout(place: &Place, args: &[&str]) -> (i32, String) {
    let done: Output =
        Command::new(env!("CARGO_BIN_EXE_backout")).args(args).current_dir(place.folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), text)
}

fn name(place: &Place) -> String {
    place.project().config.name.clone()
}

fn dropped(kind: Kind) -> Place {
    let place = Place::new(kind);
    place.sql("CREATE TABLE t (id integer PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'one'), (2, 'two')");
    place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
    place
}

#[test]
fn complete_lets_go_what_is_kept_and_a_rollback_says_so() {
    for kind in BOTH {
        let place = dropped(kind);
        let (_, plan) = backout(&place, &["plan"]);
        assert!(plan.contains("columns of t, 2 rows"), "{plan}");
        let (_, check) = backout(&place, &["check"]);
        assert!(check.contains("x of") && check.contains("2 rows"), "{check}");
        place.up("head");
        let (exit, asked) = backout(&place, &["complete"]);
        assert_eq!(exit, 4, "{asked}");
        assert!(asked.contains("2 rows") && asked.contains("--confirm"), "{asked}");
        assert_eq!(place.project().kept().unwrap()[0].rows, 2, "asked, and nothing let go");
        let (exit, done) = backout(&place, &["complete", "--confirm", &name(&place)]);
        assert_eq!(exit, 0, "{done}");
        assert!(place.project().kept().unwrap().is_empty());
        assert_eq!(place.applied(), ["1"]);
        let refused = place.try_back("-1").unwrap_err();
        assert_eq!(refused.exit, 4, "{refused}");
        assert!(refused.to_string().contains("let go"), "{refused}");
        let forced = RollbackOptions { force: true, ..RollbackOptions::default() };
        place.project().rollback(&forced).unwrap();
        assert_eq!(place.list("SELECT coalesce(x, '-') FROM t"), ["-", "-"]);
        let (exit, none) = backout(&place, &["complete"]);
        assert!(exit == 0 && none.contains("nothing to do"), "{none}");
    }
}

#[test]
fn m21_base_asks_before_it_drops_tables_with_rows() {
    for kind in BOTH {
        let place = Place::new(kind);
        place.revision("1", "a", "CREATE TABLE a (id integer PRIMARY KEY);", "DROP TABLE a;");
        place.revision("2", "b", "CREATE TABLE b (id integer PRIMARY KEY);", "DROP TABLE IF EXISTS b;");
        place.up("head");
        place.sql("INSERT INTO b VALUES (1), (2)");
        let (exit, asked) = backout(&place, &["rollback", "base"]);
        assert_eq!(exit, 4, "{asked}");
        assert!(asked.contains("b (2 rows)") && !asked.contains("a (0"), "{asked}");
        assert_eq!(place.tables(), ["a", "b"]);
        let (exit, done) = backout(&place, &["rollback", "base", "--confirm", &name(&place)]);
        assert_eq!(exit, 0, "{done}");
        assert_eq!(place.tables(), [""; 0]);
        // empty tables are no loss
        place.up("head");
        place.sql("DELETE FROM b");
        let (exit, done) = backout(&place, &["rollback", "base"]);
        assert_eq!(exit, 0, "{done}");
    }
}

#[test]
fn a_scratch_database_is_no_store_of_the_project_and_nothing_stays_in_it() {
    let place = dropped(Kind::Postgres);
    let real = place.database.as_ref().unwrap();
    let other = crate::database::Database::new();
    let config = |scratch: &str| {
        let text = format!(
            "[stores]\nmain = \"{}\"\nother = \"{}\"\n[project]\ndefault_store = \"main\"\nscratch = \"{scratch}\"\n",
            real.url, other.url
        );
        std::fs::write(place.folder.path().join("backout.toml"), text).unwrap();
    };
    // empty as it is, and by another spelling of its host
    for scratch in [other.url.clone(), other.url.replace("127.0.0.1", "localhost"), real.url.clone()] {
        config(&scratch);
        let refused = place.try_up("head").unwrap_err();
        assert_eq!(refused.exit, 4, "{refused}");
        assert!(refused.to_string().contains("scratch"), "{refused}");
        let marks = "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'backout_scratch'";
        assert_eq!(other.client().query_one(marks, &[]).unwrap().get::<_, String>(0), "0");
    }
    let lent = crate::database::Database::new();
    let owner = crate::database::owner();
    lent.admin().batch_execute(&format!("ALTER SCHEMA public OWNER TO {owner}")).unwrap();
    config(&lent.url);
    place.up("head");
    let left = "SELECT count(*)::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' OR nspname = 'backout_scratch'";
    assert_eq!(lent.client().query_one(left, &[]).unwrap().get::<_, String>(0), "0", "no copies of rows stay");
    // nor where it fails
    place.revision("2", "bad", "CREATE TABLE b (id integer);", "DROP TABLE bb;");
    place.try_up("head").unwrap_err();
    assert_eq!(lent.client().query_one(left, &[]).unwrap().get::<_, String>(0), "0");
}

#[test]
fn a_lock_that_is_held_too_long_holds_up_nobody_later() {
    for kind in BOTH {
        let place = dropped(kind);
        let held = match kind {
            Kind::Sqlite => {
                let conn = place.sqlite();
                conn.execute_batch("BEGIN IMMEDIATE").unwrap();
                let refused = place.quick().up(&UpOptions::default()).unwrap_err();
                conn.execute_batch("ROLLBACK").unwrap();
                refused
            }
            _ => {
                let mut idle = place.database.as_ref().unwrap().client();
                idle.batch_execute("BEGIN; SELECT * FROM t").unwrap();
                place.quick().up(&UpOptions::default()).unwrap_err()
            }
        };
        assert_eq!(held.exit, 5, "{kind:?}: {held}");
        assert!(!held.state.contains("half-way"), "{}", held.state);
        if kind == Kind::Postgres {
            assert!(held.to_string().contains("1_x.sql:2"), "{held}");
        }
        // nothing to acknowledge
        place.quick().up(&UpOptions::default()).unwrap();
        assert_eq!(place.applied(), ["1"]);
    }
}

#[test]
fn a_proof_beside_what_cannot_be_copied_or_read() {
    let place = dropped(Kind::Postgres);
    place.sql(
        "CREATE TABLE part (id int, d int) PARTITION BY RANGE (d); CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (9); \
         INSERT INTO part VALUES (1, 1); ALTER TABLE t ADD CONSTRAINT small CHECK (id < 2) NOT VALID; \
         CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM t",
    );
    place
        .database
        .as_ref()
        .unwrap()
        .admin()
        .batch_execute("CREATE TABLE closed (id int); INSERT INTO closed VALUES (1)")
        .unwrap();
    let checked = place.project().check().unwrap();
    assert!(checked[0].lost.is_empty(), "{checked:?}");
    let unseen = checked[0].unseen.join("\n");
    assert!(unseen.contains("closed"), "{unseen}");
    place.up("head");
    place.back("-1");
    assert_eq!(place.list("SELECT x FROM t ORDER BY id"), ["one", "two"]);
}

#[test]
fn rows_that_row_security_hides_are_kept_like_all_others() {
    for up in ["DROP TABLE t;", "ALTER TABLE t DROP COLUMN x;"] {
        let place = Place::new(Kind::Postgres);
        let policy = "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY; \
            CREATE POLICY p ON t USING (id = 1);";
        let table = format!("CREATE TABLE t (id integer PRIMARY KEY, x text); {policy}");
        place.sql(&table);
        let mut admin = place.database.as_ref().unwrap().admin();
        admin.batch_execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')").unwrap();
        let down = if up.starts_with("DROP") { table.as_str() } else { "ALTER TABLE t ADD COLUMN x text;" };
        place.revision("1", "drop", up, down);
        place.quick().up(&UpOptions::default()).unwrap();
        place.quick().rollback(&RollbackOptions::default()).unwrap();
        let found = "SELECT string_agg(x, ' ' ORDER BY id) || ' ' || (SELECT relforcerowsecurity FROM pg_class \
            WHERE oid = 't'::regclass) FROM t";
        assert_eq!(admin.query_one(found, &[]).unwrap().get::<_, String>(0), "one two true", "{up}");
    }
}

#[test]
fn what_a_stranger_reads_of_a_failing_proof() {
    let place = dropped(Kind::Sqlite);
    place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "SELECT 1;\n\nDROP TABLE typo;");
    let (exit, text) = backout(&place, &["check"]);
    assert_eq!(exit, 4, "{text}");
    assert!(text.contains("migrations/1_x.sql:6") && !text.contains("frozen") && !text.contains("./"), "{text}");
    place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "SELECT 1;");
    let (exit, text) = backout(&place, &["up"]);
    assert_eq!(exit, 4, "{text}");
    assert!(text.contains("- t: x") && !text.contains("migration_backup") && !text.contains(": ,"), "{text}");
    assert!(text.lines().filter(|l| !l.starts_with("note")).all(|l| l.chars().count() <= 80), "{text}");
    // a line of a difference stands below its text
    let long = "a long word and another long word and one more long word and again one, which makes it long";
    place.revision("1", "x", "ALTER TABLE t DROP COLUMN x;", "ALTER TABLE t ADD COLUMN x text;");
    place.up("head");
    place.revision("1", "x", &format!("-- {long}\nALTER TABLE t DROP COLUMN x;"), "ALTER TABLE t ADD COLUMN x text;");
    let (exit, text) = backout(&place, &["rollback"]);
    assert_eq!(exit, 4, "{text}");
    assert!(text.contains("\n         + -- a long word") && text.contains("\n           "), "{text}");
}
