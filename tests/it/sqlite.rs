//! The sqlite store, on real ones.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backout::gate::Gate;
use backout::plan::Table;
use backout::store::{
    Chunk, Entry, Error, HistoryLine, Mode, Op, Parked, Position, Role, Side, State, Store, Write, open,
};
use backout::value::{Batch, Key, Row, Value};
use rusqlite::Connection;
use tempfile::TempDir;

struct File {
    folder: TempDir,
    app: Connection,
}

impl File {
    fn new(sql: &str) -> File {
        let folder = TempDir::new().unwrap();
        let app = Connection::open(folder.path().join("app.db")).unwrap();
        app.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        app.execute_batch(sql).unwrap();
        File { folder, app }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }
    fn store(&self) -> Box<dyn Store> {
        open("sqlite:app.db", self.folder.path(), false, &Gate::default()).unwrap()
    }
    fn run(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap();
    }
    fn rows(&self, sql: &str) -> Vec<Row> {
        let mut s = self.app.prepare(sql).unwrap();
        let n = s.column_count();
        s.query_map([], |r| Ok((0..n).map(|i| value(r.get_ref(i).unwrap())).collect()))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
    /// All schema text but ours.
    fn schema_text(&self) -> Vec<Row> {
        self.rows(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'backout%' AND \
             name <> 'migration_log' ORDER BY rowid",
        )
    }
}

fn value(v: rusqlite::types::ValueRef<'_>) -> Value<'static> {
    use rusqlite::types::ValueRef as R;
    match v {
        R::Null => Value::Null,
        R::Integer(i) => Value::Int(i),
        R::Real(r) => Value::Real(r),
        R::Text(t) => Value::Text(Cow::Owned(t.to_vec())),
        R::Blob(b) => Value::Blob(Cow::Owned(b.to_vec())),
    }
}

fn t(s: &str) -> Value<'static> {
    Value::text(s)
}
fn i(n: i64) -> Value<'static> {
    Value::Int(n)
}
fn key(values: &[Value<'static>]) -> Key {
    Key::of(values)
}
fn k(n: i64) -> Key {
    key(&[i(n)])
}
fn put(row: Row, from: Option<Key>) -> Write {
    Write::Put { row, from }
}
fn refs(tables: &[Table]) -> Vec<&Table> {
    tables.iter().collect()
}

fn tables(store: &mut dyn Store) -> Vec<Table> {
    store.schema().unwrap().tables
}

fn capture(store: &mut dyn Store, tables: &[Table]) -> Position {
    store.begin(Mode::Write, &refs(tables)).unwrap();
    let at = store.capture_on(&refs(tables), "run").unwrap();
    store.commit("capture on").unwrap();
    at
}

fn drained(store: &mut dyn Store, tables: &[Table], from: &Position) -> (Vec<Entry>, Position) {
    store.begin(Mode::Read, &refs(tables)).unwrap();
    let out = store.log_since(&refs(tables), from);
    store.rollback();
    out.unwrap()
}

fn look(store: &mut dyn Store, tables: &[Table]) -> Result<(), Error> {
    store.begin(Mode::Read, &refs(tables)).unwrap();
    let out = store.look(&refs(tables));
    store.rollback();
    out
}

fn told(entries: &[Entry]) -> Vec<String> {
    let show = |k: &Option<Key>| k.as_ref().map(ToString::to_string).unwrap_or_default();
    entries.iter().map(|e| format!("{:?} {}>{}", e.op, show(&e.before), show(&e.after))).collect()
}

/// What the application's statements leave in the log.
fn logged(setup: &str, sql: &str) -> Vec<String> {
    let file = File::new(setup);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    file.run(sql);
    told(&drained(&mut *store, &tables, &at).0)
}

fn written(store: &mut dyn Store, tables: &[Table], t: usize, set: Vec<Write>) -> Result<(), Error> {
    store.begin(Mode::Write, &refs(tables)).unwrap();
    let out = store.write(&refs(tables), &[(t, set)]);
    if out.is_ok() { store.commit("write") } else { Err(out.inspect_err(|_| store.rollback()).unwrap_err()) }
}

fn state(role: Role) -> State {
    let begun = State::begun("abc", role, "2025", "T", "h", "2025-01-01T00:00:00Z");
    State { side: Side::Open, epoch: 0, ..begun }
}

fn line() -> HistoryLine {
    let s = |x: &str| x.to_owned();
    HistoryLine {
        run: s("abc"),
        migration: s("2025"),
        title: s("T"),
        plan_hash: s("h"),
        outcome: s("rolled back"),
        started_at: s("a"),
        ended_at: s("b"),
        note: s(""),
        remains: None,
    }
}

fn sqlite3(path: &Path, sql: &str) -> (bool, String) {
    let out = Command::new("sqlite3").arg(path).arg(sql).output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout))
}

const USERS: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT UNIQUE, nick TEXT COLLATE NOCASE);
    CREATE UNIQUE INDEX ux ON users (nick);
    INSERT INTO users VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z');";

#[test]
fn c_replace_victims_of_every_unique_index_are_deletes() {
    let got = logged(USERS, "INSERT OR REPLACE INTO users VALUES (9, 'a', 'Y')");
    assert_eq!(got, ["Delete 2>", "Delete 1>", "Insert >9"]);
    assert_eq!(logged(USERS, "UPDATE OR REPLACE users SET nick = 'Z' WHERE id = 1"), ["Delete 3>", "Update 1>1"]);
    assert_eq!(logged(USERS, "UPDATE OR REPLACE users SET id = 2 WHERE id = 1"), ["Delete 2>", "Update 1>2"]);
    let own = "CREATE TABLE t (a TEXT PRIMARY KEY, b TEXT NOT NULL DEFAULT \"d\" UNIQUE ON CONFLICT REPLACE);
        INSERT INTO t VALUES ('p', 'd')";
    assert_eq!(logged(own, "INSERT OR REPLACE INTO t VALUES ('q', NULL)"), ["Delete 'p'>", "Insert >'q'"]);
    assert_eq!(logged(own, "INSERT INTO t (a) VALUES ('q')"), ["Delete 'p'>", "Insert >'q'"]);
    let without = "CREATE TABLE w (a TEXT COLLATE NOCASE, b INT, c INT UNIQUE, PRIMARY KEY (b, a)) WITHOUT ROWID;
        INSERT INTO w VALUES ('k', 1, 1), ('l', 1, 2)";
    let got = logged(without, "INSERT OR REPLACE INTO w VALUES ('K', 1, 2)");
    assert_eq!(got, ["Delete (1, 'k')>", "Delete (1, 'l')>", "Insert >(1, 'K')"]);
    let by_rowid = "CREATE TABLE r (a TEXT PRIMARY KEY); INSERT INTO r (rowid, a) VALUES (5, 'p')";
    assert_eq!(logged(by_rowid, "INSERT OR REPLACE INTO r (rowid, a) VALUES (5, 'q')"), ["Delete 'p'>", "Insert >'q'"]);
}

#[test]
fn p08_nothing_of_ours_drops_the_applications_lock() {
    let file = File::new(USERS);
    file.run("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE; UPDATE users SET nick = 'held' WHERE id = 1");
    let mut store = file.store();
    let all = tables(&mut *store);
    store.count(&all[0]).unwrap();
    let mut batch = Batch::default();
    store.scan(&all[0], &[], 10, &mut batch).unwrap();
    drop(store);
    // another process, as this one's locks are what would have gone
    let (ok, said) = sqlite3(&file.path(), "UPDATE users SET nick = 'other' WHERE id = 1");
    assert!(!ok && said.contains("locked"), "{said}");
    file.run("COMMIT");
}

#[test]
fn p09_replace_of_the_same_key_is_an_update() {
    assert_eq!(logged(USERS, "REPLACE INTO users VALUES (1, 'a', 'n')"), ["Update 1>1"]);
    assert_eq!(logged(USERS, "REPLACE INTO users VALUES (1, 'b', 'n')"), ["Delete 2>", "Update 1>1"]);
    assert_eq!(
        logged(USERS, "DELETE FROM users WHERE id = 1; INSERT INTO users VALUES (1, 'a', 'n')"),
        ["Delete 1>", "Insert >1"]
    );
    // an ignored insert is forgotten before the next change
    assert_eq!(
        logged(
            USERS,
            "INSERT OR IGNORE INTO users VALUES (1, 'q', 'q'); DELETE FROM users WHERE id = 1;
             INSERT INTO users VALUES (1, 'a', 'n')"
        ),
        ["Delete 1>", "Insert >1"]
    );
}

#[test]
fn c_or_ignore_and_do_nothing_leave_no_trace() {
    let sql = "INSERT OR IGNORE INTO users VALUES (1, 'q', 'q'), (9, 'a', 'q');
        INSERT INTO users VALUES (2, 'q', 'q') ON CONFLICT DO NOTHING";
    assert!(logged(USERS, sql).is_empty());
    let upsert = "INSERT INTO users VALUES (2, 'q', 'q') ON CONFLICT (id) DO UPDATE SET nick = 'new'";
    assert_eq!(logged(USERS, upsert), ["Update 2>2"]);
}

#[test]
fn c_update_of_a_key_logs_both_and_delete_of_all_logs_each() {
    assert_eq!(logged(USERS, "UPDATE users SET id = id + 10 WHERE id > 1"), ["Update 2>12", "Update 3>13"]);
    assert_eq!(logged(USERS, "DELETE FROM users"), ["Delete 1>", "Delete 2>", "Delete 3>"]);
}

#[test]
fn c_keys_of_all_storage_classes_are_logged_and_fetched_exactly() {
    let file = File::new(
        "CREATE TABLE any (k PRIMARY KEY COLLATE NOCASE, v);
         CREATE TABLE two (a PRIMARY KEY, v)",
    );
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    file.run(
        "INSERT INTO any VALUES (1, 1), (NULL, 2), (x'00ff', 3), (2.5, 4), ('1', 5), ('A', 6),
         (CAST(x'80' AS TEXT), 7), (CAST(x'610062' AS TEXT), 8)",
    );
    let (entries, _) = drained(&mut *store, &tables, &at);
    let keys: Vec<Key> = entries.iter().filter_map(|e| e.after.clone()).collect();
    assert_eq!(keys, file.rows("SELECT k FROM any ORDER BY v").iter().map(Key::of).collect::<Vec<_>>());
    store.begin(Mode::Read, &[]).unwrap();
    let rows = store.fetch(&tables[0], &keys).unwrap();
    assert_eq!(rows.iter().flatten().map(|r| r[1].clone()).collect::<Vec<_>>(), (1..=8).map(i).collect::<Vec<_>>());
    let strangers = [key(&[Value::Real(1.0)]), key(&[t("a")]), key(&[t("2.5")]), key(&[t("a\0c")])];
    assert_eq!(store.fetch(&tables[0], &strangers).unwrap(), vec![None; 4]);
    store.rollback();
}

#[test]
fn c_replace_victims_of_unique_expression_indexes_are_deletes() {
    let e = "CREATE TABLE e (id INTEGER PRIMARY KEY, a, b NOT NULL DEFAULT 'd', g AS (upper(b)));
        CREATE UNIQUE INDEX low ON e (lower(a), (b || 'x') COLLATE NOCASE DESC) WHERE a IS NOT NULL;
        CREATE UNIQUE INDEX gen ON e (g || a);
        INSERT INTO e (id, a, b) VALUES (1, 'A', 'p'), (2, 'B', 'q'), (3, 'c', 'd')";
    assert_eq!(logged(e, "INSERT OR REPLACE INTO e (id, a, b) VALUES (9, 'a', 'P')"), ["Delete 1>", "Insert >9"]);
    assert_eq!(logged(e, "INSERT OR REPLACE INTO e (id, a, b) VALUES (9, 'a', 'q')"), ["Insert >9"]);
    assert_eq!(logged(e, "INSERT OR REPLACE INTO e (id, a, b) VALUES (9, 'C', NULL)"), ["Delete 3>", "Insert >9"]);
    assert_eq!(logged(e, "UPDATE OR REPLACE e SET a = 'b', b = 'q' WHERE id = 1"), ["Delete 2>", "Update 1>1"]);
    assert!(logged(e, "INSERT OR IGNORE INTO e (id, a, b) VALUES (9, 'a', 'p')").is_empty());
}

#[test]
fn p17_triggers_parse_and_work_in_the_systems_sqlite() {
    let file = File::new(USERS);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    let (ok, said) = sqlite3(&file.path(), "REPLACE INTO users VALUES (2, 'a', 'q'); SELECT changes()");
    assert!(ok && said.trim() == "1", "{said}");
    assert_eq!(told(&drained(&mut *store, &tables, &at).0), ["Delete 1>", "Update 2>2"]);
}

#[test]
fn p15_two_rebuilds_vacuum_and_lost_triggers_are_seen() {
    let rebuild = "CREATE TABLE n (id INTEGER PRIMARY KEY, mail TEXT UNIQUE, nick TEXT COLLATE NOCASE);
        INSERT INTO n SELECT id, mail || '!', nick FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users;
        CREATE UNIQUE INDEX ux ON users (nick);";
    let seen = |setup: &str, sql: &str| {
        let file = File::new(setup);
        let mut store = file.store();
        let tables = tables(&mut *store);
        capture(&mut *store, &tables);
        look(&mut *store, &tables).unwrap();
        let ours = file.rows("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'users'");
        file.run(sql);
        if sql.contains("RENAME TO users") {
            for row in &ours {
                let Value::Text(text) = &row[0] else { panic!() };
                file.run(std::str::from_utf8(text).unwrap());
            }
        }
        match look(&mut *store, &tables) {
            Ok(()) => None,
            Err(Error::Capture { schema_changed, .. }) => Some(schema_changed),
            Err(e) => panic!("{e}"),
        }
    };
    // the text is as after a first rebuild, and our triggers are put back: only the version tells
    let rebuilt = USERS.replace("CREATE TABLE users", "CREATE TABLE \"users\"");
    assert_eq!(seen(&rebuilt, rebuild), Some(false));
    assert_eq!(seen(USERS, rebuild), Some(true));
    assert_eq!(seen(USERS, "VACUUM"), Some(false));
    assert_eq!(seen(USERS, "DROP TRIGGER \"backout_capture_delete__users\""), Some(false));
    assert_eq!(seen(USERS, "ALTER TABLE users ADD COLUMN more"), Some(true));
    assert_eq!(seen(USERS, "DROP TABLE users"), Some(true));
    assert_eq!(seen(USERS, "CREATE UNIQUE INDEX other ON users (nick, mail)"), Some(false));
    assert_eq!(seen(USERS, "CREATE TABLE x (a); DROP TABLE x"), Some(false));
    let writes = "CREATE TABLE x (a); CREATE TRIGGER g AFTER INSERT ON x BEGIN DELETE FROM users; END";
    assert_eq!(seen(USERS, writes), Some(false));
}

#[test]
fn p15_new_indexes_tables_views_and_the_first_analyze_are_harmless() {
    let file = File::new(&format!("{USERS} CREATE TABLE u (a); CREATE INDEX ua ON u (a);"));
    let mut store = file.store();
    let mut tables = tables(&mut *store);
    tables.truncate(1);
    capture(&mut *store, &tables);
    file.run(
        "CREATE INDEX one ON users (mail, nick); CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE);
         CREATE VIEW v AS SELECT 1; ANALYZE; DROP TABLE u; CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    );
    look(&mut *store, &tables).unwrap();
    // remembered by a writing transaction: the next rise is counted from there
    store.begin(Mode::Lease, &refs(&tables)).unwrap();
    store.look(&refs(&tables)).unwrap();
    store.commit("remember").unwrap();
    file.run("DROP INDEX one");
    look(&mut *store, &tables).unwrap();
    file.run("DROP TRIGGER g; VACUUM");
    assert!(look(&mut *store, &tables).is_err());
}

#[test]
fn p16_marker_incarnation_and_file_are_checked() {
    let file = File::new(USERS);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    file.run("DELETE FROM users WHERE id = 1");
    let copy = file.folder.path().join("copy.db");
    file.run(&format!("VACUUM INTO '{}'", copy.display()));
    let (_, read) = drained(&mut *store, &tables, &at);
    let marked = store.mark(read.clone()).unwrap();
    store.trim(&refs(&tables), &marked).unwrap();
    assert_eq!(drained(&mut *store, &tables, &marked).0, []);
    file.run("DELETE FROM users WHERE id = 2");
    assert_eq!(store.lag(&refs(&tables), &marked).unwrap(), 1);
    assert_eq!(told(&drained(&mut *store, &tables, &marked).0), ["Delete 2>"]);
    // the marker of the first position was trimmed
    store.begin(Mode::Read, &[]).unwrap();
    assert!(matches!(store.log_since(&refs(&tables), &at), Err(Error::Capture { schema_changed: false, .. })));
    store.rollback();
    // a copy of an earlier state under the same name
    drop(store);
    let bytes = std::fs::read(&copy).unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut store = file.store();
    store.begin(Mode::Read, &[]).unwrap();
    assert!(matches!(store.log_since(&refs(&tables), &marked), Err(Error::Capture { schema_changed: false, .. })));
    store.rollback();
}

#[test]
fn p16_ids_of_trimmed_entries_are_never_given_again() {
    let file = File::new(USERS);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    let marked = store.mark(at).unwrap();
    file.run("DELETE FROM users WHERE id = 1");
    let (_, read) = drained(&mut *store, &tables, &marked);
    store.trim(&refs(&tables), &read).unwrap();
    file.run("DELETE FROM users WHERE id = 2");
    assert_eq!(told(&drained(&mut *store, &tables, &read).0), ["Delete 2>"]);
}

#[test]
fn p02_a_hand_over_called_off_keeps_its_positions_and_a_gap_does_not() {
    let file = File::new(USERS);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    let mut step = |work: &dyn Fn(&mut dyn Store)| {
        store.begin(Mode::Lease, &refs(&tables)).unwrap();
        work(&mut *store);
        store.commit("step").unwrap();
    };
    let all = || refs(&tables);
    step(&|s| {
        s.seal(&all(), "r").unwrap();
        s.capture_off(&all()).unwrap();
    });
    step(&|s| {
        s.unseal(&all()).unwrap();
        s.capture_on(&all(), "r").unwrap();
    });
    step(&|s| assert!(s.log_since(&all(), &at).unwrap().0.is_empty()));
    step(&|s| s.look(&all()).unwrap());
    step(&|s| s.capture_off(&all()).unwrap());
    step(&|s| drop(s.capture_on(&all(), "r").unwrap()));
    step(&|s| assert!(matches!(s.log_since(&all(), &at), Err(Error::Capture { .. }))));
}

#[test]
fn p11_our_own_writes_are_not_logged_and_doubts_are() {
    let file = File::new(USERS);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let at = capture(&mut *store, &tables);
    written(&mut *store, &tables, 0, vec![put(vec![i(1), t("new"), t("new")], Some(k(1)))]).unwrap();
    store.doubt(&[], 0, &[k(2)]).unwrap();
    let (entries, _) = drained(&mut *store, &tables, &at);
    assert_eq!(entries, [Entry { table: 0, op: Op::Doubt, before: Some(k(2)), after: None, was: None, now: None }]);
    look(&mut *store, &tables).unwrap();
}

#[test]
fn p01_a_seal_refuses_everyone_but_us() {
    let file = File::new(USERS);
    let mut store = file.store();
    let tables = tables(&mut *store);
    let mut step = |on: bool| {
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        if on { store.seal(&refs(&tables), "r") } else { store.unseal(&refs(&tables)) }.unwrap();
        store.commit("seal").unwrap();
    };
    step(true);
    step(true);
    for sql in [
        "INSERT OR IGNORE INTO users VALUES (7, 'q', 'q')",
        "UPDATE users SET mail = 'q'",
        "DELETE FROM users WHERE id = 1",
        "REPLACE INTO users VALUES (1, 'q', 'q')",
    ] {
        let (ok, said) = sqlite3(&file.path(), sql);
        assert!(!ok && said.contains("backout: table users is resting"), "{sql}: {said}");
    }
    let mut ours = file.store();
    written(&mut *ours, &tables, 0, vec![put(vec![i(7), t("q"), t("q")], None)]).unwrap();
    // a connection that does nothing but write, and has the schema in its memory
    let writer = Connection::open(file.path()).unwrap();
    for _ in 0..2 {
        let said = writer.execute("UPDATE users SET mail = 'q' WHERE id = 7", []).unwrap_err();
        assert_eq!(said.sqlite_error_code(), Some(rusqlite::ErrorCode::Unknown), "no constraint: {said}");
    }
    step(false);
    writer.execute("UPDATE users SET mail = 'w' WHERE id = 7", []).unwrap();
    assert!(sqlite3(&file.path(), "INSERT INTO users VALUES (8, 'r', 'r')").0);
}

#[test]
fn p11_swaps_cycles_and_moves_resolve_and_keep_the_rest_of_the_row() {
    let file = File::new(
        "CREATE TABLE t (k TEXT PRIMARY KEY, u INT UNIQUE ON CONFLICT REPLACE, more TEXT);
         INSERT INTO t (rowid, k, u, more) VALUES (11, 'a', 1, 'A'), (12, 'b', 2, 'B'), (13, 'c', 3, 'C'), (14, 'd', 4, 'D')",
    );
    let mut store = file.store();
    let mut tables = tables(&mut *store);
    // the mapping knows nothing of `more`
    tables[0].columns.pop();
    let ka = |s: &str| key(&[t(s)]);
    written(
        &mut *store,
        &tables,
        0,
        vec![
            put(vec![t("a"), i(2)], Some(ka("a"))),
            put(vec![t("b"), i(1)], Some(ka("b"))),
            put(vec![t("d"), i(3)], Some(ka("c"))),
            Write::Delete { key: ka("c") },
            put(vec![t("e"), i(9)], None),
        ],
    )
    .unwrap();
    assert_eq!(
        file.rows("SELECT rowid, k, u, more FROM t ORDER BY k"),
        vec![
            vec![i(11), t("a"), i(2), t("A")],
            vec![i(12), t("b"), i(1), t("B")],
            vec![i(13), t("d"), i(3), t("C")],
            vec![file.rows("SELECT rowid FROM t WHERE k = 'e'")[0][0].clone(), t("e"), i(9), Value::Null],
        ]
    );
    // a stranger under the key: nothing of the dead row stays
    written(&mut *store, &tables, 0, vec![put(vec![t("a"), i(2)], None)]).unwrap();
    assert_eq!(file.rows("SELECT more FROM t WHERE k = 'a'"), vec![vec![Value::Null]]);
    // a row that stays is never taken away by the table's own conflict clause
    assert!(written(&mut *store, &tables, 0, vec![put(vec![t("f"), i(9)], None)]).is_err());
    assert_eq!(file.rows("SELECT count(*) FROM t WHERE k = 'e'"), vec![vec![i(1)]]);
}

#[test]
fn p11_triggers_that_write_mapped_tables_are_off_and_others_fire() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TABLE audit (x); CREATE TABLE mid (x);
         CREATE TRIGGER a1 AFTER UPDATE ON t BEGIN INSERT INTO audit VALUES (NEW.v); END;
         CREATE TRIGGER \"b 2\" AFTER UPDATE ON t BEGIN UPDATE t SET v = 'touched' WHERE id = NEW.id; END;
         CREATE TRIGGER c3 BEFORE UPDATE ON t BEGIN SELECT RAISE(IGNORE); END;
         CREATE TRIGGER d4 AFTER UPDATE ON t BEGIN INSERT INTO mid VALUES (1); END;
         CREATE TRIGGER e5 AFTER INSERT ON mid BEGIN DELETE FROM t; END;
         CREATE TRIGGER f6 AFTER UPDATE ON t BEGIN INSERT INTO audit VALUES ('second'); END;
         INSERT INTO t VALUES (1, 'a')",
    );
    let before = file.schema_text();
    let mut store = file.store();
    let tables: Vec<Table> = tables(&mut *store).into_iter().filter(|t| t.name == "t").collect();
    capture(&mut *store, &tables);
    written(&mut *store, &tables, 0, vec![put(vec![i(1), t("b")], Some(k(1)))]).unwrap();
    assert_eq!(file.rows("SELECT v FROM t"), vec![vec![t("b")]]);
    assert_eq!(file.rows("SELECT x FROM audit ORDER BY x"), vec![vec![t("b")], vec![t("second")]]);
    let names =
        |rows: Vec<Row>| rows.into_iter().filter(|r| r[0] == t("trigger") && r[2] == t("t")).collect::<Vec<_>>();
    assert_eq!(names(file.schema_text()), names(before));
    look(&mut *store, &tables).unwrap();
}

#[test]
fn p11_foreign_keys_of_touched_rows_hold_both_ways() {
    let file = File::new(
        "CREATE TABLE p (id INTEGER PRIMARY KEY, v);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE, v);
         INSERT INTO p VALUES (1, 'a'), (2, 'b'); INSERT INTO c VALUES (1, 1, 'x'), (2, 99, 'dangling')",
    );
    let mut store = file.store();
    let tables = tables(&mut *store);
    let refused = |r: Result<(), Error>| matches!(&r, Err(Error::Unfit { rows, .. }) if rows.iter().any(|r| r.2.contains(" of c ")));
    assert!(refused(written(&mut *store, &tables, 0, vec![Write::Delete { key: k(1) }])));
    assert!(refused(written(&mut *store, &tables, 0, vec![put(vec![i(5), t("a")], Some(k(1)))])));
    assert!(refused(written(&mut *store, &tables, 1, vec![put(vec![i(3), i(77), t("x")], None)])));
    assert_eq!(file.rows("SELECT count(*) FROM c"), vec![vec![i(2)]]);
    // a row that dangled before is not our doing
    written(&mut *store, &tables, 1, vec![put(vec![i(2), i(99), t("new")], Some(k(2)))]).unwrap();
    written(&mut *store, &tables, 0, vec![Write::Delete { key: k(2) }]).unwrap();
    for deep in [false, true] {
        let said = store.self_check(&refs(&tables), deep).unwrap();
        assert!(said.len() == 1 && said[0].contains("1 row refers") && said[0].contains("such as 2"), "{said:?}");
    }
}

#[test]
fn a_foreign_key_told_by_its_index_is_told_as_by_its_rows() {
    let parents = [
        ("id TEXT PRIMARY KEY", "'a'"),
        ("id TEXT PRIMARY KEY", "'01'"),
        ("id INTEGER PRIMARY KEY", "1"),
        ("id INT PRIMARY KEY", "1"),
        ("id TEXT COLLATE NOCASE PRIMARY KEY", "'a'"),
        ("id PRIMARY KEY", "1"),
        ("id TEXT, PRIMARY KEY (id COLLATE NOCASE)", "'a'"),
        ("id TEXT UNIQUE, other INTEGER PRIMARY KEY", "'a', 9"),
        ("id TEXT, n INTEGER, PRIMARY KEY (id, n)", "'a', 1"),
        ("id TEXT PRIMARY KEY, n) WITHOUT ROWID; CREATE TABLE q (x", "'a', 1"),
    ];
    let children = ["TEXT", "INTEGER", "TEXT COLLATE NOCASE", "BLOB", "REAL"];
    let values = ["'a'", "'A'", "1", "'1'", "1.5", "'01'", "x'61'", "NULL", "9"];
    let indexes = ["", "(p)", "(p COLLATE NOCASE)", "(p) WHERE p <> 'A'", "(p DESC, n)", "(n, p)"];
    let (mut told, mut sound) = (0, 0);
    for (parent, held) in parents {
        for child in children {
            let file = File::new(&format!(
                "CREATE TABLE p ({parent}); INSERT INTO p VALUES ({held});
                 CREATE TABLE c (n INTEGER PRIMARY KEY, p {child} REFERENCES p (id))"
            ));
            for index in indexes {
                file.run(&format!(
                    "DROP INDEX IF EXISTS i; {}",
                    if index.is_empty() { String::new() } else { format!("CREATE INDEX i ON c {index}") }
                ));
                let mut store = file.store();
                let tables = tables(&mut *store);
                for value in values {
                    file.run(&format!("DELETE FROM c; INSERT INTO c (p) VALUES (NULL), ({value})"));
                    let by_rows = file
                        .app
                        .query_row("SELECT count(*) FROM pragma_foreign_key_check('c')", [], |r| r.get::<_, i64>(0))
                        .map_or(true, |n| n > 0);
                    let said = store.self_check(&refs(&tables), false).unwrap();
                    assert_eq!(!said.is_empty(), by_rows, "p ({parent}) {held}, c {child} {index} {value}: {said:?}");
                    (told, sound) = (told + usize::from(by_rows), sound + usize::from(!by_rows));
                }
            }
        }
    }
    assert!(told > 100 && sound > 100, "{told} {sound}");
}

#[test]
fn a08_a09_text_that_is_no_utf8_or_holds_nul_comes_back() {
    let file = File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
    let mut store = file.store();
    let tables = tables(&mut *store);
    let rows: Vec<Row> = [&b"\xff\xfe"[..], b"a\0b", b"", "ü".as_bytes()]
        .iter()
        .zip(1..)
        .map(|(b, n)| vec![i(n), Value::Text(Cow::Owned(b.to_vec()))])
        .collect();
    written(&mut *store, &tables, 0, rows.iter().map(|r| put(r.clone(), None)).collect()).unwrap();
    let mut batch = Batch::default();
    assert_eq!(store.scan(&tables[0], &[], 100, &mut batch).unwrap(), None);
    assert_eq!(batch.rows().collect::<Vec<_>>(), rows);
    assert_eq!(file.rows("SELECT * FROM t"), rows);
}

#[test]
fn p07_a_scan_goes_on_where_it_ended() {
    let file = File::new(
        "CREATE TABLE r (a TEXT PRIMARY KEY, rowid); CREATE TABLE w (a TEXT COLLATE NOCASE, b, PRIMARY KEY (b, a DESC))
         WITHOUT ROWID;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO r SELECT 'k' || i, i FROM n; INSERT INTO w SELECT a, rowid % 7 FROM r",
    );
    let mut store = file.store();
    for table in tables(&mut *store) {
        let (mut at, mut all, mut calls) = (Vec::new(), Vec::new(), 0);
        let mut batch = Batch::default();
        loop {
            batch.clear();
            let next = store.scan(&table, &at, 300, &mut batch).unwrap();
            all.extend(batch.encoded().map(<[u8]>::to_vec));
            calls += 1;
            let Some(next) = next else { break };
            at = next;
        }
        assert_eq!((all.len(), calls), (1000, 4));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1000);
        assert_eq!(store.count(&table).unwrap(), 1000);
    }
}

#[test]
fn a13_a26_schema_is_read_whole() {
    let file = File::new(
        r#"CREATE TABLE "or""der" (b INT, a TEXT NOT NULL DEFAULT 'x' COLLATE NOCASE, "c,d" REAL CHECK ("c,d" > 0),
             g TEXT AS (upper(a)) STORED, PRIMARY KEY (a, b)) WITHOUT ROWID;
           CREATE UNIQUE INDEX "part" ON "or""der" (b DESC, a COLLATE RTRIM) WHERE b > 1 /* WHERE */;
           CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, x REFERENCES plain DEFERRABLE INITIALLY DEFERRED);
           CREATE TABLE plain (id INTEGER PRIMARY KEY DESC, y UNIQUE); CREATE INDEX ex ON plain (abs(y));
           CREATE VIEW v AS SELECT 1; CREATE TRIGGER tr AFTER INSERT ON plain BEGIN SELECT 1; END;
           CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO plain VALUES (NULL, 1)"#,
    );
    let mut store = file.store();
    let schema = store.schema().unwrap();
    let [order, auto, plain] = &schema.tables[..] else { panic!("{:?}", schema.tables) };
    assert_eq!((order.name.as_str(), order.key_names()), ("or\"der", vec!["a", "b"]));
    assert!(order.details.without_rowid && order.details.rowid_name.is_none());
    assert_eq!(order.checks, [r#""c,d" > 0"#]);
    assert_eq!(order.generated[0].expression.as_deref(), Some("upper(a)"));
    let a = &order.columns[1];
    assert_eq!((a.collation.as_deref(), a.default.as_deref(), a.not_null), (Some("NOCASE"), Some("'x'"), true));
    let part = &order.indexes[0];
    assert!(part.unique && part.columns[0].descending && part.columns[1].collation.as_deref() == Some("RTRIM"));
    assert_eq!(part.predicate.as_deref(), Some("b > 1 /* WHERE */"));
    assert!(auto.columns[0].identity && auto.details.autoincrement);
    let fk = &auto.foreign_keys[0];
    assert_eq!((fk.table.as_str(), &fk.references[..], fk.deferred), ("plain", &["id".to_owned()][..], true));
    assert!(!plain.columns[0].identity, "INTEGER PRIMARY KEY DESC is no alias");
    assert_eq!(plain.indexes.len(), 2);
    assert!(plain.indexes.iter().any(|x| x.name.is_none() && x.unique));
    assert!(plain.indexes.iter().any(|x| x.expression));
    assert!(schema.notes[2].contains("NULL in the key"), "{:?}", schema.notes);
    let others: Vec<&str> = schema.others.iter().map(|o| o.0.as_str()).collect();
    for what in ["view v", "trigger tr on plain", "virtual table f", "shadow table f_data"] {
        assert!(others.contains(&what), "{others:?}");
    }
    store.prepare().unwrap();
    assert_eq!(store.schema().unwrap().others, schema.others);
}

#[test]
fn p23_nothing_but_the_history_stays() {
    for role in [Role::Source, Role::Target] {
        let file = File::new(&format!("{USERS} CREATE TRIGGER own AFTER INSERT ON users BEGIN SELECT 1; END;"));
        let before = file.schema_text();
        let mut store = file.store();
        let tables = tables(&mut *store);
        store.prepare().unwrap();
        assert_eq!(store.state().unwrap(), None);
        capture(&mut *store, &tables);
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        store.put_state(&state(role), Some("the plan")).unwrap();
        store.put_state(&state(role), None).unwrap();
        store.put_chunk("abc", 3, &Chunk { n: 2, upto: vec![1], rows: 7, done: true }).unwrap();
        store.keep_images("abc", 1, "now", &[(0, k(1), None), (0, k(2), Some(vec![i(2)]))]).unwrap();
        let parked = Parked { table: 0, key: k(1), row: vec![9], reason: "no".into() };
        store.put_parked("abc", &[parked.clone(), Parked { key: k(2), ..parked.clone() }], &[]).unwrap();
        store.put_parked("abc", &[], &[(0, k(2))]).unwrap();
        store.seal(&refs(&tables), "abc").unwrap();
        store.commit("records").unwrap();
        assert_eq!(store.state().unwrap(), Some(state(role)));
        assert_eq!(store.plan("abc").unwrap().as_deref(), Some("the plan"));
        assert_eq!(store.chunks("abc").unwrap(), [(3, Chunk { n: 2, upto: vec![1], rows: 7, done: true })]);
        assert_eq!(store.parked("abc").unwrap(), [parked]);
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        store.close(&refs(&tables), &line()).unwrap();
        store.commit("close").unwrap();
        assert_eq!(store.history().unwrap(), [line()]);
        let left = file.rows("SELECT name FROM sqlite_schema WHERE name LIKE 'backout%' OR name = 'migration_log'");
        let history = vec![t("backout_history")];
        let view = vec![t("migration_log")];
        let mut left = left;
        left.sort_by_key(|r| r[0].to_string());
        assert_eq!(left, if role == Role::Source { vec![history] } else { vec![history, view] });
        assert_eq!(file.schema_text(), before);
    }
}

#[test]
fn a15_targets_are_built_loaded_counted_on_and_set_aside() {
    let file = File::new(
        "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT NOT NULL DEFAULT 'x', g AS (n || '!') STORED,
           UNIQUE (n), CHECK (length(n) < 9));
         CREATE TABLE c (a TEXT, b INT, p INT REFERENCES p (id) ON DELETE CASCADE, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE INDEX cp ON c (p) WHERE p > 1;",
    );
    let mut tables = tables(&mut *file.store());
    let mut store = open("sqlite:made.db", file.folder.path(), true, &Gate::default()).unwrap();
    let made = file.folder.path().join("made.db");
    store.begin(Mode::Write, &[]).unwrap();
    store.create(&refs(&tables)).unwrap();
    store.rollback();
    assert!(!made.exists(), "nothing was committed");
    store.begin(Mode::Write, &[]).unwrap();
    store.create(&refs(&tables)).unwrap();
    let mut batch = Batch::default();
    batch.push(&[i(7), t("one")]);
    batch.push(&[i(7), t("two")]);
    store.load(&tables[0], &batch).unwrap();
    store.build_key(&tables[0]).unwrap();
    store.build_rest(&refs(&tables)).unwrap();
    store.build_rest(&refs(&tables)).unwrap();
    store.raise_high_water(&refs(&tables), &[Some(40), None]).unwrap();
    store.commit("build").unwrap();
    assert_eq!(store.high_water(&refs(&tables)).unwrap(), [Some(40), None]);
    let app = Connection::open(&made).unwrap();
    app.execute_batch("INSERT INTO p (n) VALUES ('three')").unwrap();
    let got: (i64, String) =
        app.query_row("SELECT max(id), group_concat(g) FROM p", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_eq!(got, (41, "two!,three!".into()));
    let mut built = self::tables(&mut *store);
    for t in tables.iter_mut().chain(&mut built) {
        *t = t.as_frozen();
        t.indexes.iter_mut().for_each(|x| x.name = None);
    }
    assert_eq!(built, tables);
    app.execute_batch("CREATE VIEW v AS SELECT * FROM p; CREATE VIEW broken AS SELECT * FROM nowhere").unwrap();
    store.begin(Mode::Write, &[]).unwrap();
    let phrase = store.set_aside(&refs(&tables), "r1").unwrap();
    store.commit("aside").unwrap();
    assert!(phrase.contains("backout_kept_r1__p"), "{phrase}");
    assert!(self::tables(&mut *store).is_empty());
    store.begin(Mode::Write, &[]).unwrap();
    store.create(&refs(&tables)).unwrap();
    store.build_rest(&refs(&tables)).unwrap();
    store.commit("again").unwrap();
    assert_eq!(app.query_row("SELECT count(*) FROM v", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    store.begin(Mode::Write, &[]).unwrap();
    store.drop_tables(&refs(&tables)).unwrap();
    store.drop_tables(&refs(&tables)).unwrap();
    store.commit("drop").unwrap();
    assert_eq!(app.query_row("SELECT count(*) FROM backout_kept_r1__p", [], |r| r.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn a_refused_effect_changes_nothing() {
    let file = File::new(USERS);
    let gate = Gate::with_trap(1, |_| {});
    let mut store = open("sqlite:app.db", file.folder.path(), false, &gate).unwrap();
    assert!(matches!(store.prepare(), Err(Error::Gate(_))));
    assert!(file.rows("SELECT 1 FROM sqlite_schema WHERE name LIKE 'backout%'").is_empty());
    store.prepare().unwrap();
    let n = gate.count();
    store.prepare().unwrap();
    assert_eq!(gate.count(), n, "what is there is no effect");
}

#[test]
fn one_lock_per_file_names_its_holder_and_leaves_no_file() {
    let file = File::new(USERS);
    let (mut one, mut two) = (file.store(), file.store());
    one.lock(Duration::ZERO).unwrap();
    one.lock(Duration::ZERO).unwrap();
    let no = two.lock(Duration::from_millis(1)).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(matches!(&no, Error::Locked { cause, .. } if cause.contains(&pid)), "{no}");
    drop(one);
    two.lock(Duration::ZERO).unwrap();
    drop(two);
    assert!(!file.folder.path().join("app.db-backout-lock").exists());
}

#[test]
fn a_busy_file_is_locked_not_broken() {
    let file = File::new(USERS);
    let mut store = file.store();
    file.run("BEGIN IMMEDIATE");
    assert!(matches!(store.begin(Mode::Write, &[]), Err(Error::Locked { .. })));
    file.run("COMMIT");
    store.begin(Mode::Write, &[]).unwrap();
    store.rollback();
}

/// A drain has read the first change of a row when the next one is noted and both are merged: what stays must be the one that no
/// drain has read.
#[test]
fn p17_of_merged_changes_the_newest_stays() {
    let file = File::new(USERS);
    let mut store = file.store();
    let all = tables(&mut *store);
    store.limit_log(40);
    let from = capture(&mut *store, &all);
    file.run("UPDATE users SET nick = 'first' WHERE id = 1");
    let (entries, read) = drained(&mut *store, &all, &from);
    assert_eq!(told(&entries), ["Update 1>1"]);
    file.run("UPDATE users SET nick = 'then' WHERE id = 1");
    for n in 0..9 {
        file.run(&format!("UPDATE users SET nick = 'n{n}' WHERE id = 2"));
    }
    assert!(store.log_size(&refs(&all)).unwrap().rows < 11, "nothing was merged");
    assert_eq!(told(&drained(&mut *store, &all, &read).0)[0], "Update 1>1", "the last change of row 1 was merged away");
}

/// A lock taken by the first write only would let another writer in before it, behind what was looked at: in a WAL that write could
/// then never be made, as what was read is not the latest any more.
#[test]
fn p01_a_lease_is_had_from_its_beginning_and_not_from_its_first_write() {
    for journal in ["DELETE", "WAL"] {
        let file = File::new(USERS);
        file.run(&format!("PRAGMA journal_mode = {journal}"));
        file.app.busy_timeout(Duration::ZERO).unwrap();
        let mut store = file.store();
        let all = tables(&mut *store);
        let from = capture(&mut *store, &all);
        let write = || file.app.execute_batch("UPDATE users SET nick = nick || '!'").map_err(|e| e.to_string());
        let locked = |done: Result<(), String>| done.is_err_and(|e| e.contains("locked"));
        store.begin(Mode::Lease, &refs(&all)).unwrap();
        assert!(locked(write()), "{journal}");
        // how much waits is asked before anything is written
        assert_eq!(store.lag(&refs(&all), &from).unwrap(), 0);
        assert!(locked(write()), "{journal}");
        let (entries, read) = store.log_since(&refs(&all), &from).unwrap();
        assert_eq!(entries, []);
        store.mark(read).unwrap();
        store.commit("lease").unwrap();
        write().unwrap();
    }
}

#[test]
fn bad_inputs_are_said_and_odd_names_are_paths() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str, create| open(&format!("sqlite:{name}"), folder.path(), create, &Gate::default());
    let input = |name: &str| match at(name, false) {
        Err(Error::Input { cause, hint, .. }) if !hint.is_empty() => cause,
        Err(e) => panic!("{name}: {e}"),
        Ok(_) => panic!("{name} was opened"),
    };
    assert!(input("missing.db").contains("no such file"));
    assert!(!folder.path().join("missing.db").exists());
    std::fs::create_dir(folder.path().join("dir")).unwrap();
    assert!(input("dir").contains("directory"));
    std::fs::write(folder.path().join("text"), "this is a text, not a database\n".repeat(100)).unwrap();
    assert_eq!(input("text"), "is not a SQLite database, or it is encrypted");
    let name = "a?b#c%20 'd.db";
    Connection::open(folder.path().join("plain.db")).unwrap().execute_batch(USERS).unwrap();
    std::fs::rename(folder.path().join("plain.db"), folder.path().join(name)).unwrap();
    assert_eq!(at(name, false).unwrap().schema().unwrap().tables.len(), 1);
    // the schema's page is broken
    let mut bytes = std::fs::read(folder.path().join(name)).unwrap();
    bytes[100..120].fill(0xee);
    std::fs::write(folder.path().join("broken.db"), bytes).unwrap();
    assert!(input("broken.db").contains("damaged"));
    let mut fresh = at("new.db", true).unwrap();
    assert!(fresh.schema().unwrap().tables.is_empty());
    assert!(!folder.path().join("new.db").exists());
    fresh.prepare().unwrap();
    assert!(folder.path().join("new.db").exists());
}

/// Whatever the application writes, the keys in the log are enough to follow it.
#[test]
fn c_the_log_names_every_key_that_changed() {
    for (setup, recursive) in [
        (
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL DEFAULT 'B' UNIQUE, c TEXT, up INT REFERENCES t ON DELETE
               SET NULL ON UPDATE CASCADE); CREATE UNIQUE INDEX u ON t (c COLLATE NOCASE DESC, b) WHERE c <> 'z';
             CREATE TRIGGER own AFTER INSERT ON t WHEN NEW.a % 3 = 0 BEGIN UPDATE t SET c = 'A' WHERE a = NEW.a + 1; END;",
            false,
        ),
        ("CREATE TABLE t (a TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, b INT UNIQUE ON CONFLICT REPLACE, c, up)", true),
        (
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE, c TEXT UNIQUE, up INT REFERENCES t ON DELETE SET NULL);
             INSERT INTO t VALUES (1, 'p', 'q', NULL), (2, '2', '3', 1), (3, '4', '5', 1);",
            false,
        ),
        ("CREATE TABLE t (a, b COLLATE RTRIM, c INT UNIQUE, up, PRIMARY KEY (b, a)) WITHOUT ROWID", false),
        (
            "CREATE TABLE t (a NOT NULL, b TEXT, c TEXT, up, UNIQUE (c, b), PRIMARY KEY (a) ON CONFLICT REPLACE);
             CREATE TRIGGER own BEFORE INSERT ON t WHEN NEW.b = '2' BEGIN REPLACE INTO t VALUES (NEW.c, 'w', 'w', NULL); END;",
            false,
        ),
    ] {
        let file = File::new(setup);
        let mut store = file.store();
        let tables = tables(&mut *store);
        let mut at = capture(&mut *store, &tables);
        file.run(if recursive { "PRAGMA recursive_triggers = ON" } else { "PRAGMA foreign_keys = ON" });
        file.run("PRAGMA synchronous = OFF");
        let mut mirror: std::collections::HashMap<Key, Row> =
            file.rows("SELECT * FROM t").into_iter().map(|r| (Key::of_row(&r, &tables[0].key), r)).collect();
        let mut seed = 7u64;
        let mut pick = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut changes = 0;
        for _ in 0..1500 {
            let mut v = |texts: bool| {
                let all = ["1", "2", "3", "4", "5", "6", "NULL", "'a'", "'A'", "'a '", "2.0"];
                all[pick(if texts { 11 } else { 7 }) as usize]
            };
            let alias = setup.contains("a INTEGER PRIMARY KEY");
            let (a, b, c, d, e) = (v(!alias), v(true), v(true), v(!alias), v(true));
            let or = ["", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL"][pick(5) as usize];
            let sql = match pick(7) {
                0..=2 => format!("INSERT {or} INTO t VALUES ({a}, {b}, {c}, NULL), ({d}, {e}, {b}, {a})"),
                3 => format!("UPDATE {or} t SET a = {a}, c = {c} WHERE b >= {b}"),
                4 => format!("UPDATE {or} t SET b = {b} WHERE a = {a} OR c = {c}"),
                5 => format!("INSERT INTO t VALUES ({a}, {b}, {c}, NULL) ON CONFLICT DO UPDATE SET b = {e}, a = {d}"),
                _ => format!("DELETE FROM t WHERE a = {a} OR c = {c}"),
            };
            // what fails is part of the game: it may have done half of its work
            let _ = file.app.execute_batch(&sql);
            store.begin(Mode::Read, &refs(&tables)).unwrap();
            let (entries, next) = store.log_since(&refs(&tables), &at).unwrap();
            let keys: Vec<Key> = entries.into_iter().flat_map(|e| [e.before, e.after]).flatten().collect();
            changes += keys.len();
            for (key, row) in keys.iter().zip(store.fetch(&tables[0], &keys).unwrap()) {
                match row {
                    Some(row) => mirror.insert(key.clone(), row),
                    None => mirror.remove(key),
                };
            }
            store.rollback();
            at = next;
            let there = file.rows("SELECT * FROM t");
            let there: std::collections::HashMap<Key, Row> =
                there.into_iter().map(|r| (Key::of_row(&r, &tables[0].key), r)).collect();
            assert_eq!(mirror, there, "after {sql}");
        }
        assert!(changes > 1000, "{changes}");
    }
}
