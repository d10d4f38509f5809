//! The postgres store, on real ones. Run by `scripts/with-postgres`.

use std::path::Path;
use std::time::{Duration, Instant};

use backout::gate::Gate;
use backout::plan::{Column, ForeignKey, Index, IndexColumn, Table};
use backout::store::{self, Chunk, Entry, Error, HistoryLine, Mode, Op, Parked, Position, Role, State, Store, Write};
use backout::value::{Batch, Key, Row, Value};
use postgres::{Client, NoTls};

use super::database::Database;

/// A database of its own.
struct Place {
    database: Database,
    url: String,
}

impl Place {
    fn new() -> Place {
        let database = Database::new();
        Place { url: database.url.clone(), database }
    }
    /// An application's session.
    fn app(&self) -> Client {
        self.database.client()
    }
    fn with(sql: &str) -> Place {
        let place = Place::new();
        place.app().batch_execute(sql).unwrap();
        place
    }
    /// A role without any privilege, and the URL by which it connects.
    fn role(&mut self) -> (String, String) {
        self.database.role("secret")
    }
    fn open(&self) -> Box<dyn Store> {
        open(&self.url)
    }
    fn table(&self, name: &str) -> Table {
        table(&mut *self.open(), name)
    }
}

fn open(url: &str) -> Box<dyn Store> {
    store::open(url, Path::new("."), false, &Gate::default()).unwrap()
}

fn refusal(url: &str) -> Error {
    match store::open(url, Path::new("."), false, &Gate::default()) {
        Ok(_) => panic!("it let us in"),
        Err(e) => e,
    }
}

fn table(store: &mut dyn Store, name: &str) -> Table {
    store.schema().unwrap().tables.into_iter().find(|t| t.name == name).unwrap()
}

fn int(i: i64) -> Value<'static> {
    Value::Int(i)
}

fn text(s: &str) -> Value<'static> {
    Value::text(s)
}

fn key(v: Value<'_>) -> Key {
    Key::of([&v])
}

fn put(row: Row) -> Write {
    Write::Put { row, from: None }
}

fn rows(store: &mut dyn Store, table: &Table) -> Vec<Row> {
    let (mut after, mut out) = (Vec::new(), Vec::new());
    loop {
        let mut batch = Batch::default();
        let next = store.scan(table, &after, 3, &mut batch).unwrap();
        out.extend(batch.rows().map(|r| r.into_iter().map(Value::into_owned).collect::<Row>()));
        match next {
            Some(next) => after = next,
            None => return out,
        }
    }
}

fn sorted(store: &mut dyn Store, table: &Table) -> Vec<Row> {
    let mut all = rows(store, table);
    all.sort_by_key(|r| Key::of_row(r, &table.key));
    all
}

fn on(store: &mut dyn Store, tables: &[&Table]) -> Position {
    store.prepare().unwrap();
    store.begin(Mode::Write, &[]).unwrap();
    let position = store.capture_on(tables, RUN).unwrap();
    store.put_state(&state(), Some("{}")).unwrap();
    store.commit("capture").unwrap();
    position
}

const RUN: &str = "0123456789ab";

fn state() -> State {
    State::begun(RUN, Role::Source, "20250301090000", "t", "h", "2025-03-01T09:00:00Z")
}

fn line() -> HistoryLine {
    HistoryLine {
        run: RUN.into(),
        migration: "20250301090000".into(),
        title: "t".into(),
        plan_hash: "h".into(),
        outcome: "rolled back".into(),
        started_at: "2025-03-01T09:00:00Z".into(),
        ended_at: "2025-03-01T10:00:00Z".into(),
        note: String::new(),
        remains: None,
    }
}

/// What a drain reads: looked at under the locks, in one snapshot.
fn drain(store: &mut dyn Store, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position), Error> {
    store.begin(Mode::Read, tables)?;
    let done = store.look(tables).and_then(|()| store.log_since(tables, from));
    store.rollback();
    done
}

fn ops(entries: &[Entry]) -> Vec<(Op, Option<i64>, Option<i64>)> {
    let number = |k: &Option<Key>| match k.as_ref().map(|k| k.values()).as_deref() {
        Some([Value::Int(i)]) => Some(*i),
        _ => None,
    };
    entries.iter().map(|e| (e.op, number(&e.before), number(&e.after))).collect()
}

/// What is different now, the schema or only the trust?
fn broken(result: Result<(Vec<Entry>, Position), Error>) -> bool {
    match result {
        Err(Error::Capture { schema_changed, .. }) => schema_changed,
        other => panic!("capture was trusted: {other:?}"),
    }
}

const T: &str = "CREATE TABLE t (id int8 PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');";

// ── connecting ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_refused_connection_says_why_and_never_the_password() {
    let place = Place::new();
    let host = place.url.split('@').nth(1).unwrap();
    let own = place.url.split([':', '@']).nth(2).unwrap();
    for url in [
        format!("postgres://postgres:hunter2wrong@{host}"),
        format!("postgres://postgres:{own}@127.0.0.1:1/none"),
        format!("{}_no_such", place.url),
        "postgres://u:hunter2?x=hunter2@h/db".to_owned(),
    ] {
        let e = refusal(&url);
        let all = format!("{e} {e:?}");
        assert!(matches!(e, Error::Server { .. }), "{all}");
        assert!(!all.contains("hunter2") && !all.contains(own), "{all}");
    }
}

#[test]
fn one_lock_per_database_names_its_holder_and_dies_with_it() {
    let place = Place::new();
    let (mut a, mut b) = (place.open(), place.open());
    a.lock(Duration::ZERO).unwrap();
    a.lock(Duration::ZERO).unwrap();
    let e = b.lock(Duration::from_millis(60)).unwrap_err();
    assert!(matches!(&e, Error::Locked { cause, .. } if cause.contains("backout") && cause.contains("since")), "{e}");
    let other = Place::new();
    other.open().lock(Duration::ZERO).unwrap();
    drop(a);
    b.lock(Duration::from_secs(5)).unwrap();
}

// ── values ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn numerics_are_read_and_written_as_the_server_has_them() {
    let place = Place::with("CREATE TABLE n (id int8 PRIMARY KEY, d numeric, s text)");
    let mut app = place.app();
    app.batch_execute(
        "SELECT setseed(0.5);
         INSERT INTO n SELECT i, d, d::text FROM (SELECT i,
            CASE i % 3 WHEN 0 THEN -1 ELSE 1 END * round((random() * power(10, i % 60 - 30))::numeric, i % 41) * power(10::numeric, i % 7) AS d
            FROM generate_series(1, 3000) i) x;
         INSERT INTO n SELECT -i, v::numeric, v FROM unnest(ARRAY['NaN', 'Infinity', '-Infinity', '0', '0.000', '1.10',
            '-0.0001', '10000', '9999', '100000000', '0.00010000', '12345678901234567890.123456789', '1e200'::numeric::text,
            '1e-200'::numeric::text]) WITH ORDINALITY u(v, i);
         CREATE TABLE back (id int8, d numeric, s text);",
    )
    .unwrap();
    let mut store = place.open();
    let n = place.table("n");
    // As the server prints them …
    let ids: Vec<Key> = (-14..=3000).filter(|i| *i != 0).map(|i| key(int(i))).collect();
    store.begin(Mode::Read, &[&n]).unwrap();
    for row in store.fetch(&n, &ids).unwrap() {
        let row = row.unwrap();
        let (Value::Decimal(d), Value::Text(s)) = (&row[1], &row[2]) else { panic!("{row:?}") };
        assert_eq!(d.as_bytes(), s.as_ref());
    }
    store.rollback();
    // … and to the server as they are printed.
    let mut batch = Batch::default();
    assert!(store.scan(&n, &[], 999, &mut batch).unwrap().is_some());
    batch.clear();
    let mut after = vec![];
    while let Some(next) = store.scan(&n, &after, 1_000_000, &mut batch).unwrap() {
        after = next;
    }
    assert_eq!(batch.len(), 3014);
    store.begin(Mode::Write, &[]).unwrap();
    store.load(&Table { name: "back".into(), key: vec![], ..n }, &batch).unwrap();
    store.commit("load").unwrap();
    let wrong = app.query_one("SELECT count(*), count(*) FILTER (WHERE d IS DISTINCT FROM s::numeric) FROM back", &[]);
    let wrong = wrong.unwrap();
    assert_eq!((wrong.get::<_, i64>(0), wrong.get::<_, i64>(1)), (3014, 0));
}

const ALL: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE TABLE every (id int8 PRIMARY KEY, i2 int2, i4 int4, f4 float4, f8 float8, b bool, t text, vc varchar(10),
        c char(5), n name, by bytea, num numeric(20,4), d date, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb,
        iv interval, arr int[], m mood, dom small, ip inet, tim time, gen int GENERATED ALWAYS AS (i4 + 1) STORED);
    INSERT INTO every VALUES
    (1, -32768, 2147483646, 1.5, 0.1, true, E'h\\u00e9\\n''\\\\', 'abc', 'ab', 'nm', '\\x00ff', 1.10, '2024-02-29',
     '2024-02-29 12:00:00.123456', '2024-02-29 12:00:00.123456+02', '11111111-2222-3333-4444-555555555555',
     '{\"b\": 1,  \"a\": 1.0}', '{\"b\": 1, \"a\": 1.0}', '1 mon 2 days 03:04:05.6', '{1,NULL,3}', 'ok', 7, '::1', '01:02'),
    (3, 0, 0, 'NaN', '-0', false, '', '', '', '', '', 'NaN', 'infinity', '-infinity', 'infinity',
     '00000000-0000-0000-0000-000000000000', 'null', 'null', '0', '{}', 'sad', 0, '10.0.0.0/8', '24:00'),
    (4, 1, 1, '-Infinity', 'Infinity', true, 'x', 'x', 'x', 'x', 'x', 0, '0044-03-15 BC', '4713-01-01 BC', '294276-01-01',
     '00000000-0000-0000-0000-000000000001', '[]', '[]', '-1 year', '{{1,2},{3,4}}', 'ok', 1, '1.2.3.4', '00:00');
    INSERT INTO every (id) VALUES (2);";

#[test]
fn every_type_comes_back_from_scan_load_fetch_and_write() {
    let place = Place::with(ALL);
    let mut app = place.app();
    app.batch_execute(
        "CREATE TABLE loaded (LIKE every INCLUDING ALL); CREATE TABLE written (LIKE every INCLUDING ALL)",
    )
    .unwrap();
    let mut store = place.open();
    let every = place.table("every");
    let (loaded, written) = (place.table("loaded"), place.table("written"));
    assert_eq!(every.columns.len() + every.generated.len(), 25);
    let mut batch = Batch::default();
    assert_eq!(store.scan(&every, &[], 100, &mut batch).unwrap(), None);
    let scanned: Vec<Row> = batch.rows().map(|r| r.into_iter().map(Value::into_owned).collect()).collect();
    let keys: Vec<Key> = scanned.iter().map(|r| Key::of_row(r, &every.key)).collect();
    store.begin(Mode::Write, &[]).unwrap();
    let fetched = store.fetch(&every, &keys).unwrap();
    assert_eq!(fetched, scanned.iter().cloned().map(Some).collect::<Vec<_>>());
    store.load(&loaded, &batch).unwrap();
    let writes = scanned.into_iter().map(put).collect();
    store.write(&[&written], &[(0, writes)]).unwrap();
    store.commit("both").unwrap();
    for copy in ["loaded", "written"] {
        // Compared as text, so that NaN, -0 and json spellings count.
        let sql = format!("SELECT count(*) FROM every e JOIN {copy} l ON e::text = l::text");
        assert_eq!(app.query_one(&sql, &[]).unwrap().get::<_, i64>(0), 4, "{copy}");
    }
}

#[test]
fn a_load_that_the_server_refuses_says_which_row() {
    let place = Place::with("CREATE TABLE t (id int8, v varchar(3))");
    let mut store = place.open();
    let t = place.table("t");
    let mut batch = Batch::default();
    for i in 0..200_000 {
        batch.push(&[int(i), text(if i == 7 { "too long" } else { "ok" })]);
    }
    store.begin(Mode::Write, &[]).unwrap();
    let e = store.load(&t, &batch).unwrap_err().to_string();
    assert!(e.contains("too long for type character varying(3)") && e.contains("line 8"), "{e}");
    assert!(store.commit("half").is_err());
    assert_eq!(store.count(&t).unwrap(), 0);
}

#[test]
fn keys_are_compared_by_bytes_and_order_and_absence_are_kept() {
    let place = Place::with(
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v int); INSERT INTO t VALUES ('A', 1), ('b', 2);
         CREATE TABLE p (k char(4) PRIMARY KEY); INSERT INTO p VALUES ('x');",
    );
    let mut store = place.open();
    let (t, p) = (place.table("t"), place.table("p"));
    store.begin(Mode::Read, &[&t, &p]).unwrap();
    let keys = [text("b"), text("a"), text("A"), text("b")].map(key);
    let got: Vec<bool> = store.fetch(&t, &keys).unwrap().iter().map(Option::is_some).collect();
    assert_eq!(got, [true, false, true, true]);
    assert!(store.fetch(&p, &[key(text("x   "))]).unwrap()[0].is_some());
    assert_eq!(store.keys(&p).unwrap(), [key(text("x   "))]);
    store.rollback();
    store.begin(Mode::Write, &[]).unwrap();
    store.write(&[&t], &[(0, vec![Write::Delete { key: key(text("a")) }])]).unwrap();
    store.commit("nothing").unwrap();
    assert_eq!(store.count(&t).unwrap(), 2);
}

#[test]
fn a_scan_meets_each_row_once_whatever_its_pieces() {
    let place = Place::with(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', i % 50) FROM generate_series(1, 5000) i;
         DELETE FROM t WHERE id BETWEEN 1000 AND 3000;
         CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50); CREATE TABLE p2 PARTITION OF p DEFAULT;
         INSERT INTO p SELECT i, 'x' FROM generate_series(1, 100) i;",
    );
    let mut store = place.open();
    for (name, n) in [("t", 2999), ("p", 100)] {
        let t = place.table(name);
        let mut all: Vec<i64> = rows(&mut *store, &t)
            .into_iter()
            .map(|r| match r[0] {
                Value::Int(i) => i,
                _ => panic!(),
            })
            .collect();
        assert_eq!(all.len(), n);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), n);
    }
}

// ── capture ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn p05_positions_out_of_commit_order() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    let (mut early, mut late) = (place.app(), place.app());
    early.batch_execute("BEGIN; INSERT INTO t VALUES (10, 'early')").unwrap();
    late.batch_execute("INSERT INTO t VALUES (11, 'late')").unwrap();
    let (entries, position) = drain(&mut *store, &[&t], &from).unwrap();
    assert_eq!(ops(&entries), [(Op::Insert, None, Some(11))]);
    let position = store.mark(position).unwrap();
    store.trim(&[&t], &position).unwrap();
    early.batch_execute("COMMIT").unwrap();
    assert_eq!(store.lag(&[&t], &position).unwrap(), 1);
    let (entries, position) = drain(&mut *store, &[&t], &position).unwrap();
    assert_eq!(ops(&entries), [(Op::Insert, None, Some(10))]);
    assert_eq!(store.lag(&[&t], &position).unwrap(), 0);
}

#[test]
fn p05_a_savepoints_change_is_not_taken_for_drained() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    let (mut app, mut other) = (place.app(), place.app());
    app.batch_execute("BEGIN; SAVEPOINT a; UPDATE t SET v = 'x' WHERE id = 1; RELEASE a; SAVEPOINT b").unwrap();
    other.batch_execute("INSERT INTO t VALUES (11, 'late')").unwrap();
    let (_, position) = drain(&mut *store, &[&t], &from).unwrap();
    app.batch_execute("DELETE FROM t WHERE id = 2; ROLLBACK TO b; COMMIT").unwrap();
    let (entries, _) = drain(&mut *store, &[&t], &position).unwrap();
    assert_eq!(ops(&entries), [(Op::Update, Some(1), Some(1))]);
}

#[test]
fn p09_every_way_of_changing_rows_is_noted_in_its_order() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    let mut app = place.app();
    app.batch_execute(
        "UPDATE t SET id = 7 WHERE id = 1; DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (7, 'again')",
    )
    .unwrap();
    app.batch_execute("INSERT INTO t VALUES (2, 'c') ON CONFLICT (id) DO UPDATE SET v = 'c'").unwrap();
    app.batch_execute("INSERT INTO t VALUES (2, 'c') ON CONFLICT DO NOTHING").unwrap();
    app.batch_execute("MERGE INTO t USING (VALUES (2), (20)) n(id) ON t.id = n.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (n.id, 'm')").unwrap();
    let mut copy = app.copy_in("COPY t FROM STDIN").unwrap();
    std::io::Write::write_all(&mut copy, b"30\tcopied\n").unwrap();
    copy.finish().unwrap();
    let mut admin = place.database.admin();
    admin.batch_execute("SET session_replication_role = replica; INSERT INTO t VALUES (40, 'replica')").unwrap();
    app.batch_execute("BEGIN; TRUNCATE t; ROLLBACK; TRUNCATE t").unwrap();
    let (entries, _) = drain(&mut *store, &[&t], &from).unwrap();
    use Op::{Delete, Insert, Truncate, Update};
    assert_eq!(
        ops(&entries),
        [
            (Update, Some(1), Some(7)),
            (Delete, Some(7), None),
            (Insert, None, Some(7)),
            (Update, Some(2), Some(2)),
            (Delete, Some(2), None),
            (Insert, None, Some(20)),
            (Insert, None, Some(30)),
            (Insert, None, Some(40)),
            (Truncate, None, None),
        ]
    );
}

#[test]
fn p11_our_own_session_is_not_noted_and_doubts_are() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    // Another process of ours, that has been told nothing.
    let mut ours = place.open();
    ours.begin(Mode::Write, &[]).unwrap();
    ours.write(&[&t], &[(0, vec![put(vec![int(50), text("ours")])])]).unwrap();
    ours.commit("ours").unwrap();
    ours.doubt(&[], 0, &[key(int(2))]).unwrap();
    place.app().batch_execute("SET backout.session = 'another run'; INSERT INTO t VALUES (51, 'x')").unwrap();
    let (entries, _) = drain(&mut *store, &[&t], &from).unwrap();
    assert_eq!(ops(&entries), [(Op::Doubt, Some(2), None), (Op::Insert, None, Some(51))]);
}

#[test]
fn p15_what_goes_by_the_log_is_found_under_the_lock() {
    for (sql, schema_changed) in [
        ("ALTER TABLE t ALTER COLUMN n TYPE int USING n * 100", false),
        ("ALTER TABLE t DISABLE TRIGGER backout_capture_row", false),
        (
            "ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE ALWAYS TRIGGER backout_capture_row; ALTER TABLE t ENABLE ALWAYS TRIGGER backout_capture_truncate",
            false,
        ),
        (
            "CREATE OR REPLACE TRIGGER backout_capture_row AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION backout.capture_0()",
            false,
        ),
        ("DROP TRIGGER backout_capture_truncate ON t", false),
        (
            "CREATE OR REPLACE FUNCTION backout.capture_0() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            false,
        ),
        (
            "CREATE TABLE n AS TABLE t; ALTER TABLE n ALTER id SET NOT NULL, ADD PRIMARY KEY (id); DROP TABLE t; ALTER TABLE n RENAME TO t",
            false,
        ),
        ("ALTER TABLE t ADD COLUMN more int", true),
        ("ALTER TABLE t ALTER COLUMN n TYPE int8", true),
        ("ALTER TABLE t DROP COLUMN n", true),
        ("ALTER TABLE t RENAME TO s", true),
        ("DROP TABLE t", true),
    ] {
        let place = Place::with("CREATE TABLE t (id int8 PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)");
        let t = place.table("t");
        let mut store = place.open();
        let from = on(&mut *store, &[&t]);
        place.app().batch_execute("CREATE INDEX ON t (n); ANALYZE t").unwrap();
        place.app().batch_execute("VACUUM FULL t").unwrap();
        drain(&mut *store, &[&t], &from).unwrap();
        place.app().batch_execute(sql).unwrap();
        assert_eq!(broken(drain(&mut *store, &[&t], &from)), schema_changed, "{sql}");
        if !schema_changed {
            let from = on(&mut *store, &[&t]);
            place.app().batch_execute("UPDATE t SET n = 5").unwrap();
            assert_eq!(drain(&mut *store, &[&t], &from).unwrap().0.len(), 1, "{sql}");
        }
    }
}

#[test]
fn p15_our_own_seal_and_the_applications_attached_partition() {
    let place = Place::with(
        "CREATE TABLE t (id int8 PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
         CREATE TABLE t2 (id int8 PRIMARY KEY); INSERT INTO t2 VALUES (15)",
    );
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    place.app().batch_execute("INSERT INTO t VALUES (1); INSERT INTO t1 VALUES (2); TRUNCATE t1").unwrap();
    let (entries, _) = drain(&mut *store, &[&t], &from).unwrap();
    assert_eq!(entries.iter().map(|e| e.op).collect::<Vec<_>>(), [Op::Insert, Op::Insert, Op::Truncate]);
    store.begin(Mode::Write, &[]).unwrap();
    store.seal(&[&t], RUN).unwrap();
    store.unseal(&[&t]).unwrap();
    store.commit("seal").unwrap();
    drain(&mut *store, &[&t], &from).unwrap();
    place.app().batch_execute("ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)").unwrap();
    assert!(!broken(drain(&mut *store, &[&t], &from)));
}

#[test]
fn p16_a_position_of_another_incarnation_is_refused() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    let (_, position) = drain(&mut *store, &[&t], &from).unwrap();
    let first = store.mark(position.clone()).unwrap();
    let second = store.mark(position).unwrap();
    assert_ne!(first, second);
    store.trim(&[&t], &second).unwrap();
    drain(&mut *store, &[&t], &second).unwrap();
    // As if restored from a copy taken before the mark.
    place.app().batch_execute("DELETE FROM backout.mark").unwrap();
    assert!(!broken(drain(&mut *store, &[&t], &second)));
    let mut other = from;
    other.0["incarnation"] = "another".into();
    assert!(!broken(drain(&mut *store, &[&t], &other)));
    // Under a lease the marker commits with it, or not at all.
    store.begin(Mode::Lease, &[&t]).unwrap();
    let (_, position) = store.log_since(&[&t], &on_again(&t, &place)).unwrap();
    let position = store.mark(position).unwrap();
    store.rollback();
    assert!(!broken(drain(&mut *store, &[&t], &position)));
}

/// A position that is good now.
fn on_again(t: &Table, place: &Place) -> Position {
    let mut store = place.open();
    store.begin(Mode::Read, &[t]).unwrap();
    let from = Position(serde_json::json!({"incarnation": null, "snapshot": "1:1:", "nonce": null}));
    let error = store.log_since(&[t], &from).unwrap_err();
    assert!(matches!(error, Error::Capture { .. }));
    let sql = "SELECT (SELECT incarnation FROM backout.meta LIMIT 1), pg_current_snapshot()::text";
    let line = place.app().query_one(sql, &[]).unwrap();
    Position(serde_json::json!({"incarnation": line.get::<_, String>(0), "snapshot": line.get::<_, String>(1)}))
}

#[test]
fn p17_capture_does_not_disturb_the_application() {
    let mut place = Place::with("CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE SCHEMA evil");
    let (role, url) = place.role();
    place
        .app()
        .batch_execute(&format!("GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON t TO {role}; GRANT USAGE ON SEQUENCE t_id_seq TO {role}; GRANT ALL ON SCHEMA evil TO {role}"))
        .unwrap();
    let t = place.table("t");
    let mut store = place.open();
    let from = on(&mut *store, &[&t]);
    place.app().batch_execute("REVOKE ALL ON SCHEMA backout FROM PUBLIC").unwrap();
    let mut app = Client::connect(&url, NoTls).unwrap();
    // Functions and operators that stand in front of the server's.
    app.batch_execute(
        "CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no);
         CREATE FUNCTION evil.current_setting(text, bool) RETURNS text LANGUAGE sql AS $$SELECT '0123456789ab'$$;
         SET search_path = evil, public, pg_catalog",
    )
    .unwrap();
    app.batch_execute("INSERT INTO public.t (v) VALUES ('a')").unwrap();
    assert_eq!(app.query_one("SELECT lastval()", &[]).unwrap().get::<_, i64>(0), 1);
    app.batch_execute("UPDATE public.t SET v = 'b'; DELETE FROM public.t; TRUNCATE public.t").unwrap();
    let (entries, _) = drain(&mut *store, &[&t], &from).unwrap();
    assert_eq!(entries.iter().map(|e| e.op).collect::<Vec<_>>(), [Op::Insert, Op::Update, Op::Delete, Op::Truncate]);
    let sequences = "SELECT count(*) FROM pg_class c WHERE relkind = 'S' AND relnamespace = 'backout'::regnamespace";
    assert_eq!(place.app().query_one(sequences, &[]).unwrap().get::<_, i64>(0), 0);
}

/// A drain has read the first change of a row when the next one is noted and a trigger merges both: what stays must be the one
/// that no drain has read.
#[test]
fn p17_of_merged_changes_the_newest_stays() {
    let place = Place::with("CREATE TABLE t (id int8 PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    let t = place.table("t");
    let mut store = place.open();
    store.limit_log(50_000);
    let from = on(&mut *store, &[&t]);
    let (mut app, mut other) = (place.app(), place.app());
    app.batch_execute("UPDATE t SET v = 'first' WHERE id = 1").unwrap();
    store.begin(Mode::Read, &[&t]).unwrap();
    let (entries, read) = store.log_since(&[&t], &from).unwrap();
    assert_eq!(ops(&entries), [(Op::Update, Some(1), Some(1))]);
    app.batch_execute("UPDATE t SET v = 'then' WHERE id = 1").unwrap();
    let often = "DO $$ BEGIN FOR i IN 1..10000 LOOP UPDATE t SET v = 'b' || i WHERE id = 2; END LOOP; END $$";
    other.batch_execute(often).unwrap();
    let kept: i64 = app.query_one("SELECT count(*) FROM backout.log_0", &[]).unwrap().get(0);
    assert!(kept < 9_000, "nothing was merged");
    // the drain sees what it saw, whatever went meanwhile
    let (entries, _) = store.log_since(&[&t], &from).unwrap();
    assert_eq!(ops(&entries), [(Op::Update, Some(1), Some(1))]);
    store.rollback();
    let (entries, _) = drain(&mut *store, &[&t], &read).unwrap();
    assert_eq!(ops(&entries)[0], (Op::Update, Some(1), Some(1)), "the last change of row 1 was merged away");
}

#[test]
fn p05_a_reader_has_its_locks_and_its_snapshot_from_the_beginning() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    store.begin(Mode::Read, &[&t]).unwrap();
    let mut app = place.app();
    app.batch_execute("INSERT INTO t VALUES (3, 'later'); SET lock_timeout = '50ms'").unwrap();
    for ddl in ["ALTER TABLE t ALTER v TYPE varchar(9)", "TRUNCATE t", "DROP TABLE t"] {
        assert_eq!(sqlstate(app.batch_execute(ddl).unwrap_err()), "55P03", "{ddl}");
    }
    assert_eq!(store.count(&t).unwrap(), 2);
    assert_eq!(rows(&mut *store, &t).len(), 2);
    store.rollback();
    assert_eq!(store.count(&t).unwrap(), 3);
}

#[test]
fn p05_a_table_rewritten_while_we_wait_for_it_does_not_read_as_empty() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut app = place.app();
    for n in 0..5 {
        app.batch_execute("BEGIN; ALTER TABLE t ALTER v TYPE varchar(90); ALTER TABLE t ALTER v TYPE text; ALTER TABLE t ALTER v TYPE text USING v || '!'").unwrap();
        let mut store = place.open();
        let waiting = std::thread::scope(|threads| {
            let t = &t;
            let waiting = threads.spawn(move || {
                store.begin(Mode::Read, &[t]).unwrap();
                let seen = rows(&mut *store, t).len();
                store.rollback();
                seen
            });
            let mut other = place.app();
            let until = Instant::now() + Duration::from_secs(5);
            let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
            while other.query_one(sql, &[]).map_or(0, |l| l.get::<_, i64>(0)) == 0 && Instant::now() < until {}
            app.batch_execute("COMMIT").unwrap();
            waiting.join().unwrap()
        });
        assert_eq!(waiting, 2, "{n}");
    }
}

#[test]
fn p05_under_row_security_hidden_rows_are_an_error() {
    let mut place = Place::with(T);
    let (role, url) = place.role();
    place
        .app()
        .batch_execute(&format!(
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id = 1); GRANT SELECT ON t TO {role}"
        ))
        .unwrap();
    let t = place.table("t");
    let mut store = open(&url);
    let mut batch = Batch::default();
    let e = store.scan(&t, &[], 10, &mut batch).unwrap_err().to_string();
    assert!(e.contains("row-level security"), "{e}");
}

// ── who may write ──────────────────────────────────────────────────────────────────────────────────────────────────

fn sqlstate(e: postgres::Error) -> String {
    e.code().map(|c| c.code().to_owned()).unwrap_or_default()
}

#[test]
fn p01_a_seal_refuses_everyone_but_us() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    on(&mut *store, &[&t]);
    for _ in 0..2 {
        store.begin(Mode::Lease, &[&t]).unwrap();
        store.seal(&[&t], RUN).unwrap();
        store.capture_off(&[&t]).unwrap();
        store.commit("seal").unwrap();
    }
    let (mut app, mut admin) = (place.app(), place.database.admin());
    for sql in [
        "INSERT INTO t VALUES (9, 'x')",
        "INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING",
        "UPDATE t SET v = 'x'",
        "DELETE FROM t",
        "TRUNCATE t",
        "SET backout.session = 'another'; DELETE FROM t",
    ] {
        assert_eq!(sqlstate(app.batch_execute(sql).unwrap_err()), "25006", "{sql}");
        assert_eq!(sqlstate(admin.batch_execute(sql).unwrap_err()), "25006", "{sql}");
    }
    let e = admin.batch_execute("SET session_replication_role = replica; DELETE FROM t").unwrap_err();
    assert_eq!(sqlstate(e), "25006");
    let mut ours = place.open();
    ours.begin(Mode::Write, &[]).unwrap();
    ours.write(&[&t], &[(0, vec![put(vec![int(9), text("ours")]), Write::Delete { key: key(int(1)) }])]).unwrap();
    ours.commit("ours").unwrap();
    ours.begin(Mode::Write, &[]).unwrap();
    ours.unseal(&[&t]).unwrap();
    ours.commit("unseal").unwrap();
    app.batch_execute("RESET ALL; UPDATE t SET v = 'mine again'; TRUNCATE t").unwrap();
}

#[test]
fn p01_a_lease_keeps_writers_out_and_ends_with_its_holder() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    on(&mut *store, &[&t]);
    store.begin(Mode::Lease, &[&t]).unwrap();
    let mut app = place.app();
    app.batch_execute("SET lock_timeout = '100ms'").unwrap();
    assert_eq!(sqlstate(app.batch_execute("UPDATE t SET v = 'x'").unwrap_err()), "55P03");
    assert_eq!(app.query("SELECT * FROM t", &[]).unwrap().len(), 2);
    drop(store);
    app.batch_execute("SET lock_timeout = '5s'; UPDATE t SET v = 'x'").unwrap();
}

/// Its program hangs, or its machine is gone: the server ends it, and whoever waited goes on.
#[test]
fn p01_a_lease_ends_when_its_holder_falls_silent() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    on(&mut *store, &[&t]);
    store.begin(Mode::Lease, &[&t]).unwrap();
    place.app().batch_execute("SET lock_timeout = '30s'; UPDATE t SET v = 'x'").unwrap();
    store.seal(&[&t], RUN).unwrap_err();
    store.commit("late").unwrap_err();
    place.app().batch_execute("UPDATE t SET v = 'y'").unwrap();
}

#[test]
fn p21_a_lease_that_is_not_had_names_who_is_in_the_way() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    let mut app = place.app();
    app.batch_execute("SET application_name = 'the app'; BEGIN; UPDATE t SET v = 'x'").unwrap();
    let began = Instant::now();
    let e = store.begin(Mode::Lease, &[&t]).unwrap_err();
    assert!(
        matches!(&e, Error::Locked { cause, .. } if cause.contains("the app") && cause.contains("holding t")),
        "{e}"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
    app.batch_execute("COMMIT").unwrap();
    store.begin(Mode::Lease, &[&t]).unwrap();
    store.rollback();
}

#[test]
fn a_reader_does_not_hold_up_the_switching_of_triggers() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut app = place.app();
    app.batch_execute("BEGIN; SELECT * FROM t").unwrap();
    let mut store = place.open();
    on(&mut *store, &[&t]);
    on(&mut *store, &[&t]);
    store.begin(Mode::Lease, &[&t]).unwrap();
    store.seal(&[&t], RUN).unwrap();
    store.capture_off(&[&t]).unwrap();
    store.unseal(&[&t]).unwrap();
    store.commit("all").unwrap();
}

// ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn written(place: &Place, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<(), Error> {
    let mut store = place.open();
    store.begin(Mode::Write, &[])?;
    store.write(tables, writes)?;
    store.commit("write")
}

/// A drain says of a row that moved: under the old key there is nothing, and the row of the old key is at the new one.
#[test]
fn p09_a_row_moves_though_its_former_key_is_said_to_be_gone() {
    let place = Place::with(
        "CREATE TABLE t (id bigint PRIMARY KEY, a text, beyond text); INSERT INTO t VALUES (1, 'a', 'stays')",
    );
    let mut t = place.table("t");
    t.columns.truncate(2);
    let moved = Write::Put { row: vec![int(2), text("b")], from: Some(key(int(1))) };
    written(&place, &[&t], &[(0, vec![Write::Delete { key: key(int(1)) }, moved])]).unwrap();
    let row = place.app().query_one("SELECT id, a, beyond FROM t", &[]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)), (2, "b", "stays"));
}

#[test]
fn unique_values_swap_between_rows_and_what_the_plan_does_not_know_stays() {
    let place = Place::with(
        "CREATE TABLE p (id int8 PRIMARY KEY, mail text UNIQUE, extra text DEFAULT 'new');
         CREATE TABLE c (id int8 PRIMARY KEY, p int8 REFERENCES p ON DELETE CASCADE);
         INSERT INTO p VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, 'c', 'three'); INSERT INTO c VALUES (1, 1), (2, 2)",
    );
    let mut p = place.table("p");
    p.columns.truncate(2);
    let c = place.table("c");
    let kept = |i: i64, m: &str| Write::Put { row: vec![int(i), text(m)], from: Some(key(int(i))) };
    written(&place, &[&p, &c], &[(0, vec![kept(1, "b"), kept(2, "a")])]).unwrap();
    let all = |sql: &str| -> Vec<String> { place.app().query(sql, &[]).unwrap().iter().map(|l| l.get(0)).collect() };
    let p_rows = "SELECT p::text FROM p ORDER BY id";
    assert_eq!(all(p_rows), ["(1,b,one)", "(2,a,two)", "(3,c,three)"]);
    assert_eq!(all("SELECT c::text FROM c ORDER BY id"), ["(1,1)", "(2,2)"]);
    // Moved to another key, in place, and a stranger in the place of a row.
    let writes = vec![
        Write::Put { row: vec![int(4), text("d")], from: Some(key(int(3))) },
        put(vec![int(2), text("e")]),
        put(vec![int(3), text("c")]),
    ];
    written(&place, &[&p, &c], &[(0, writes)]).unwrap();
    assert_eq!(all(p_rows), ["(1,b,one)", "(2,e,new)", "(3,c,new)", "(4,d,three)"]);
    // Keys swap too.
    let writes = vec![
        Write::Put { row: vec![int(4), text("c")], from: Some(key(int(3))) },
        Write::Put { row: vec![int(3), text("d")], from: Some(key(int(4))) },
    ];
    written(&place, &[&p, &c], &[(0, writes)]).unwrap();
    assert_eq!(all(p_rows), ["(1,b,one)", "(2,e,new)", "(3,d,three)", "(4,c,new)"]);
    let fk = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(all(fk), ["FOREIGN KEY (p) REFERENCES p(id) ON DELETE CASCADE"]);
}

#[test]
fn no_action_of_a_foreign_key_touches_a_row_behind_our_back() {
    for action in ["CASCADE", "SET NULL", "NO ACTION", "RESTRICT"] {
        let place = Place::with(&format!(
            "CREATE TABLE p (id int8 PRIMARY KEY); CREATE TABLE c (id int8 PRIMARY KEY, p int8 REFERENCES p ON DELETE {action});
             CREATE TABLE g (id int8 PRIMARY KEY, c int8 REFERENCES c ON DELETE {action});
             INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (10, 1); INSERT INTO g VALUES (100, 10)"
        ));
        let (p, c, g) = (place.table("p"), place.table("c"), place.table("g"));
        let gone = |i: i64| Write::Delete { key: key(int(i)) };
        let e = written(&place, &[&p, &c, &g], &[(0, vec![gone(1)])]).unwrap_err();
        assert!(
            matches!(&e, Error::Unfit { rows, .. } if rows.len() == 1 && rows[0].1 == key(int(1)) && rows[0].2.contains("row 10 of c")),
            "{e}"
        );
        // Unmapped children count as well.
        let e = written(&place, &[&p, &c], &[(1, vec![gone(10)])]).unwrap_err();
        assert!(matches!(&e, Error::Unfit { rows, .. } if rows[0].1 == key(int(10))), "{e}");
        // The child goes to another parent in the same set: nothing of it, nor its own children, is touched.
        let moved = Write::Put { row: vec![int(10), int(2)], from: Some(key(int(10))) };
        written(&place, &[&p, &c, &g], &[(0, vec![gone(1)]), (1, vec![moved])]).unwrap();
        let left = place.app().query_one("SELECT (SELECT p FROM c), (SELECT c FROM g)", &[]).unwrap();
        assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (2, 10), "{action}");
        // All of them go together.
        written(&place, &[&p, &c, &g], &[(0, vec![gone(2)]), (1, vec![gone(10)]), (2, vec![gone(100)])]).unwrap();
        assert_eq!(
            place.app().query("SELECT FROM p UNION ALL SELECT FROM c UNION ALL SELECT FROM g", &[]).unwrap().len(),
            0
        );
    }
}

/// The child that referred to the parent is gone, and another one has its key now.
#[test]
fn p11_a_parent_goes_with_its_child_into_whose_key_another_child_moved() {
    let place = Place::with(
        "CREATE TABLE p (id int8 PRIMARY KEY); CREATE TABLE c (id int8 PRIMARY KEY, p int8 REFERENCES p ON DELETE CASCADE);
         INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (10, 1), (20, 2)",
    );
    let (p, c) = (place.table("p"), place.table("c"));
    let gone = |i: i64| Write::Delete { key: key(int(i)) };
    let moved = Write::Put { row: vec![int(10), int(2)], from: Some(key(int(20))) };
    written(&place, &[&p, &c], &[(0, vec![gone(1)]), (1, vec![moved, gone(20)])]).unwrap();
    let left = place.app().query_one("SELECT p.id, c.id FROM p JOIN c ON c.p = p.id", &[]).unwrap();
    assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (2, 10));
}

#[test]
fn cycles_of_foreign_keys_are_written_and_orphans_are_not() {
    for deferrable in ["DEFERRABLE", ""] {
        let place = Place::with(&format!(
            "CREATE TABLE n (id int8 PRIMARY KEY, up int8 NOT NULL REFERENCES n {deferrable});
             CREATE TABLE a (id int8 PRIMARY KEY, b int8); CREATE TABLE b (id int8 PRIMARY KEY, a int8 REFERENCES a {deferrable});
             ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b {deferrable};"
        ));
        let (n, a, b) = (place.table("n"), place.table("a"), place.table("b"));
        let all = [&n, &a, &b];
        let pair = |x: i64, y: i64| put(vec![int(x), int(y)]);
        written(
            &place,
            &all,
            &[(0, vec![pair(1, 2), pair(2, 3), pair(3, 1)]), (1, vec![pair(1, 1)]), (2, vec![pair(1, 1)])],
        )
        .unwrap();
        let e = written(&place, &all, &[(0, vec![pair(4, 99)])]).unwrap_err();
        assert!(matches!(&e, Error::Unfit { rows, .. } if rows[0].2.contains("99")), "{e}");
        let gone = |i: i64| Write::Delete { key: key(int(i)) };
        written(&place, &all, &[(0, vec![gone(1), gone(2), gone(3)]), (1, vec![gone(1)]), (2, vec![gone(1)])]).unwrap();
        assert_eq!(place.app().query("SELECT FROM n UNION ALL SELECT FROM a", &[]).unwrap().len(), 0);
    }
}

#[test]
fn triggers_that_change_rows_are_off_and_as_they_were_afterwards() {
    let place = Place::with(
        "CREATE TABLE t (id int8 PRIMARY KEY, v text); CREATE TABLE audit (id int8); CREATE TABLE other (id int8);
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := 'touched'; RETURN NEW; END$$;
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NULL; END$$;
         CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE t SET v = 'echo' WHERE id = NEW.id AND v <> 'echo'; RETURN NULL; END$$;
         CREATE TRIGGER a BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
         CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER c AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION echo(); ALTER TABLE t ENABLE ALWAYS TRIGGER c;
         CREATE TRIGGER d AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION echo(); ALTER TABLE t DISABLE TRIGGER d;",
    );
    let t = place.table("t");
    written(&place, &[&t], &[(0, vec![put(vec![int(1), text("exact")])])]).unwrap();
    let mut app = place.app();
    let got = app.query_one("SELECT v, (SELECT count(*) FROM audit), (SELECT string_agg(tgname || tgenabled::text, ',' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal) FROM t", &[]).unwrap();
    assert_eq!(got.get::<_, &str>(0), "exact");
    assert_eq!(got.get::<_, i64>(1), 1);
    assert_eq!(got.get::<_, &str>(2), "aO,bO,cA,dD");
}

#[test]
fn identities_that_always_generate_take_our_numbers() {
    let place = Place::with(
        "CREATE TABLE t (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a')",
    );
    let t = place.table("t");
    let moved = Write::Put { row: vec![int(7), text("a")], from: Some(key(int(1))) };
    written(&place, &[&t], &[(0, vec![moved, put(vec![int(8), text("b")])])]).unwrap();
    let again = Write::Put { row: vec![int(8), text("c")], from: Some(key(int(8))) };
    written(&place, &[&t], &[(0, vec![again])]).unwrap();
    let mut store = place.open();
    assert_eq!(sorted(&mut *store, &t), [vec![int(7), text("a")], vec![int(8), text("c")]]);
    assert_eq!(store.high_water(&[&t]).unwrap(), [Some(1)]);
    store.begin(Mode::Write, &[]).unwrap();
    store.raise_high_water(&[&t], &[None]).unwrap();
    store.commit("raise").unwrap();
    assert_eq!(store.high_water(&[&t]).unwrap(), [Some(8)]);
}

// ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn column(name: &str, ty: &str) -> Column {
    Column { name: name.into(), ty: ty.into(), ..Column::default() }
}

fn target() -> (Table, Table) {
    let users = Table {
        name: "Users".into(),
        columns: vec![
            Column { identity: true, not_null: true, ..column("id", "bigint") },
            Column { not_null: true, default: Some("'x'".into()), ..column("na\"me", "text") },
            column("boss", "bigint"),
        ],
        key: vec![0],
        key_name: Some("users_pk".into()),
        indexes: vec![
            Index {
                name: Some("by_name".into()),
                unique: true,
                columns: vec![IndexColumn {
                    name: "na\"me".into(),
                    descending: false,
                    collation: Some("NOCASE".into()),
                }],
                predicate: Some("id > 0".into()),
                ..Index::default()
            },
            Index {
                name: None,
                unique: true,
                columns: vec![IndexColumn { name: "boss".into(), descending: false, collation: None }],
                ..Index::default()
            },
        ],
        foreign_keys: vec![ForeignKey {
            name: None,
            columns: vec!["boss".into()],
            table: "Users".into(),
            references: vec![],
            on_delete: "SET NULL".into(),
            on_update: "CASCADE".into(),
            deferred: true,
            ..ForeignKey::default()
        }],
        checks: vec!["id > -10".into()],
        ..Table::default()
    };
    let posts = Table {
        name: "posts".into(),
        columns: vec![column("id", "uuid"), column("author", "bigint")],
        key: vec![0],
        foreign_keys: vec![ForeignKey {
            name: Some("wrote".into()),
            columns: vec!["author".into()],
            table: "Users".into(),
            references: vec!["id".into()],
            on_delete: "CASCADE".into(),
            on_update: String::new(),
            ..ForeignKey::default()
        }],
        ..Table::default()
    };
    (users, posts)
}

#[test]
fn what_two_sessions_build_at_a_time_becomes_what_one_builds() {
    let by = |name: Option<&str>, column: &str| Index {
        name: name.map(Into::into),
        columns: vec![IndexColumn { name: column.into(), descending: false, collation: None }],
        ..Index::default()
    };
    let table = |name: &str, key_name: Option<&str>, index: Index| Table {
        name: name.into(),
        columns: vec![column("id", "text"), column("n", "bigint")],
        key: vec![0],
        key_name: key_name.map(Into::into),
        indexes: vec![index],
        ..Table::default()
    };
    let build = |t: &Table, early: bool, ids: &[&str]| {
        let place = Place::new();
        let (mut one, mut two) = (place.open(), place.open());
        let begin = |s: &mut dyn Store| s.begin(Mode::Write, &[]).unwrap();
        let mut batch = Batch::default();
        ids.iter().for_each(|id| batch.push(&[text(id), int(1)]));
        begin(&mut *one);
        one.create(&[t]).unwrap();
        one.load(t, &batch).unwrap();
        one.commit("load").unwrap();
        assert!(one.builds_early(t));
        if early {
            begin(&mut *one);
            begin(&mut *two);
            // neither waits for the other
            two.build_early(t, false).unwrap();
            let built = one.build_early(t, true);
            assert_eq!(built.is_ok(), ids.len() == 2 || t.name == "c", "{built:?}");
            if built.is_ok() {
                one.commit("index for the key").unwrap();
                two.commit("indexes").unwrap();
            }
            one.rollback();
            two.rollback();
        }
        begin(&mut *one);
        one.build_key(t).unwrap();
        one.build_rest(&[t]).unwrap();
        one.commit("built").unwrap();
        assert_eq!(one.count(t).unwrap(), 2);
        self::table(&mut *one, &t.name)
    };
    for t in [
        table("a", None, by(None, "n")),
        table("b", Some("b_key"), by(Some("b_n"), "n")),
        // its name is what the key's would be
        table("c", None, by(Some("c_pkey"), "n")),
    ] {
        for ids in [&["x", "y"][..], &["x", "y", "x"]] {
            let built = build(&t, true, ids);
            assert_eq!((&built.key, built.indexes.len()), (&vec![0], 1), "{}", t.name);
            if t.name != "c" {
                assert_eq!(built, build(&t, false, ids));
            }
        }
    }
    let unique = table("u", None, Index { unique: true, ..by(None, "n") });
    assert!(!Place::new().open().builds_early(&unique), "it may refuse a row");
}

/// Everything a plain owner does with a target and a source, from prepare to close.
fn whole_life(url: &str) {
    let mut store = open(url);
    let (users, posts) = target();
    let tables = [&users, &posts];
    store.prepare().unwrap();
    assert_eq!(store.state().unwrap(), None);
    store.begin(Mode::Write, &[]).unwrap();
    store.put_state(&state(), Some("the plan")).unwrap();
    store.create(&tables).unwrap();
    store.commit("create").unwrap();
    assert_eq!(store.high_water(&tables).unwrap(), [None, None]);
    let mut batch = Batch::default();
    for (i, boss) in [(1, Value::Null), (2, int(1)), (2, int(1))] {
        batch.push(&[int(i), text(&format!("n{i}")), boss]);
    }
    store.begin(Mode::Write, &[]).unwrap();
    store.load(&users, &batch).unwrap();
    let chunk = Chunk { n: 1, upto: vec![1, 2], rows: 3, done: true };
    store.put_chunk(RUN, 0, &chunk).unwrap();
    store.commit("chunk").unwrap();
    assert_eq!(store.chunks(RUN).unwrap(), [(0, chunk)]);
    for _ in 0..2 {
        store.begin(Mode::Write, &[]).unwrap();
        store.build_key(&users).unwrap();
        store.build_key(&posts).unwrap();
        store.commit("key").unwrap();
    }
    assert_eq!(store.count(&users).unwrap(), 2, "the row read twice is there once");
    for _ in 0..2 {
        store.begin(Mode::Write, &[]).unwrap();
        store.build_rest(&tables).unwrap();
        store.raise_high_water(&tables, &[Some(41), None]).unwrap();
        store.commit("rest").unwrap();
    }
    assert_eq!(store.high_water(&tables).unwrap(), [Some(41), None]);
    assert_eq!(store.self_check(&tables, true).unwrap(), Vec::<String>::new());
    let there = table(&mut *store, "Users");
    assert_eq!((there.key_name.as_deref(), there.indexes.len(), there.checks.len()), (Some("users_pk"), 2, 1));
    let boss = &there.foreign_keys[0];
    assert_eq!((boss.on_delete.as_str(), boss.on_update.as_str(), boss.deferred), ("SET NULL", "CASCADE", true));
    let mut app = Client::connect(url, NoTls).unwrap();
    let twice = "INSERT INTO \"Users\" VALUES (9, 'N1', NULL)";
    assert_eq!(sqlstate(app.batch_execute(twice).unwrap_err()), "25006", "it is sealed from its creation on");
    store.begin(Mode::Write, &[]).unwrap();
    store.unseal(&tables).unwrap();
    store.commit("unsealed").unwrap();
    assert_eq!(sqlstate(app.batch_execute(twice).unwrap_err()), "23505");

    store.begin(Mode::Write, &[]).unwrap();
    let from = store.capture_on(&tables, RUN).unwrap();
    store.commit("capture").unwrap();
    app.batch_execute("INSERT INTO \"Users\" DEFAULT VALUES").unwrap();
    let (entries, position) = drain(&mut *store, &tables, &from).unwrap();
    assert_eq!(ops(&entries), [(Op::Insert, None, Some(42))]);
    let position = store.mark(position).unwrap();
    store.trim(&tables, &position).unwrap();
    store.begin(Mode::Lease, &tables).unwrap();
    store.look(&tables).unwrap();
    assert!(store.log_since(&tables, &position).unwrap().0.is_empty());
    store.seal(&tables, RUN).unwrap();
    store.capture_off(&tables).unwrap();
    store.commit("seal").unwrap();
    assert_eq!(sqlstate(app.batch_execute("DELETE FROM \"Users\"").unwrap_err()), "25006");

    store.begin(Mode::Write, &[]).unwrap();
    let k = key(int(2));
    let was = store.fetch(&users, std::slice::from_ref(&k)).unwrap().remove(0);
    store.keep_images(RUN, 1, "now", &[(0, k.clone(), was), (1, key(int(5)), None)]).unwrap();
    let parked = Parked { table: 1, key: key(int(5)), row: vec![1], reason: "why".into() };
    store.put_parked(RUN, std::slice::from_ref(&parked), &[]).unwrap();
    // A unique swap on the way, so that the owner drops and adds foreign keys.
    let swap = |i, b| Write::Put { row: vec![int(i), text(&format!("n{i}")), b], from: Some(key(int(i))) };
    store.write(&tables, &[(0, vec![swap(1, int(1)), swap(2, Value::Null)])]).unwrap();
    store.commit("drain").unwrap();
    assert_eq!(store.parked(RUN).unwrap(), [parked]);
    assert_eq!(store.plan(RUN).unwrap().as_deref(), Some("the plan"));
    assert_eq!(store.state().unwrap(), Some(state()));
    assert!(store.now().unwrap().ends_with('Z'));

    store.begin(Mode::Write, &[]).unwrap();
    store.unseal(&tables).unwrap();
    store.close(&tables, &line()).unwrap();
    store.commit("close").unwrap();
    assert_eq!(store.history().unwrap(), [line()]);
    assert_eq!(store.state().unwrap(), None);
    app.batch_execute("UPDATE \"Users\" SET boss = NULL").unwrap();
    let left = app
        .query(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'backout'::regnamespace AND relkind IN ('r', 'v')
             UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'backout'::regnamespace
             UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'backout%' ORDER BY 1",
            &[],
        )
        .unwrap();
    let left: Vec<String> = left.iter().map(|l| l.get(0)).collect();
    assert_eq!(left, ["history", "migration_log"], "nothing of ours stays but the history");
    assert_eq!(app.query("SELECT * FROM backout.migration_log", &[]).unwrap().len(), 1);

    store.begin(Mode::Write, &[]).unwrap();
    assert!(store.set_aside(&tables, RUN).unwrap().contains("backout_kept_0123456789ab"));
    store.create(&tables).unwrap();
    store.drop_tables(&tables).unwrap();
    store.drop_tables(&tables).unwrap();
    store.commit("aside").unwrap();
    assert_eq!(app.query("SELECT * FROM backout_kept_0123456789ab.\"Users\"", &[]).unwrap().len(), 3);
}

#[test]
fn a_whole_life_leaves_nothing_but_its_history() {
    whole_life(&Place::new().url);
}

#[test]
fn p26_a_plain_owner_role_can_do_everything() {
    let mut place = Place::new();
    let (role, url) = place.role();
    let e = open(&url).prepare().unwrap_err();
    assert!(matches!(&e, Error::Refused { hint, .. } if hint.contains("GRANT CREATE ON DATABASE")), "{e:?}");
    let name = place.database.name.clone();
    place
        .database
        .admin()
        .batch_execute(&format!("GRANT CREATE ON DATABASE {name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}"))
        .unwrap();
    whole_life(&url);
}

#[test]
fn an_index_name_of_another_table_is_refused() {
    let place = Place::with("CREATE TABLE by_name (id int)");
    let (users, _) = target();
    let mut store = place.open();
    store.begin(Mode::Write, &[]).unwrap();
    store.create(&[&users]).unwrap();
    store.build_key(&users).unwrap();
    let e = store.build_rest(&[&users]).unwrap_err();
    assert!(matches!(&e, Error::Refused { cause, .. } if cause.contains("by_name")), "{e}");
    store.rollback();
}

#[test]
fn the_schema_tells_what_is_there_and_what_would_be_missed() {
    let place = Place::with(&format!(
        "{ALL} CREATE TABLE s (id serial PRIMARY KEY, f text DEFAULT 'x', e int REFERENCES every (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, CHECK (id > 0));
         CREATE INDEX part ON s (f DESC) WHERE f IS NOT NULL; CREATE UNIQUE INDEX expr ON s (lower(f), id); CREATE INDEX h ON s USING hash (f);
         CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW mv AS SELECT 1; CREATE SEQUENCE loose;
         CREATE FUNCTION fn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER tr BEFORE INSERT ON s FOR EACH ROW EXECUTE FUNCTION fn(); CREATE POLICY po ON s;
         CREATE TABLE nokey (a int)"
    ));
    let mut store = place.open();
    let before = store.schema().unwrap();
    assert_eq!(before.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["every", "nokey", "s"]);
    assert_eq!(before.notes.len(), 3);
    let s = &before.tables[2];
    assert!(s.columns[0].identity && s.columns[0].default.is_none() && before.tables[1].key.is_empty());
    assert_eq!(s.columns[1].default.as_deref(), Some("'x'::text"));
    let fk = &s.foreign_keys[0];
    assert_eq!((fk.table.as_str(), fk.on_delete.as_str(), fk.deferred), ("every", "SET NULL", true));
    assert_eq!(s.checks, ["(id > 0)"]);
    let of = |n: &str| s.indexes.iter().find(|i| i.name.as_deref() == Some(n)).unwrap();
    assert!(of("expr").expression && of("expr").unique && of("part").columns[0].descending);
    assert_eq!(of("part").predicate.as_deref(), Some("(f IS NOT NULL)"));
    assert_eq!(of("h").special.as_deref(), Some("it is a hash index"));
    assert_eq!(of("h").definition.as_deref(), Some("USING hash (f)"));
    assert_eq!(before.tables[0].generated[0].expression.as_deref(), Some("(i4 + 1)"));
    let others: Vec<&str> = before.others.iter().map(|(w, _)| w.as_str()).collect();
    assert_eq!(
        others,
        ["function fn", "materialized view mv", "policy po on s", "sequence loose", "trigger tr on s", "view v"]
    );
    on(&mut *store, &[s]);
    let after = store.schema().unwrap();
    assert_eq!((after.tables, after.others), (before.tables.clone(), before.others.clone()));
}

#[test]
fn orphans_are_told() {
    let place = Place::with(
        "CREATE TABLE p (id int8 PRIMARY KEY); CREATE TABLE c (id int8 PRIMARY KEY, p int8); INSERT INTO c VALUES (1, 9);
         ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (p) REFERENCES p NOT VALID",
    );
    let c = place.table("c");
    for deep in [true, false] {
        let said = place.open().self_check(&[&c], deep).unwrap();
        assert!(said.len() == 1 && said[0].contains("fk was never validated: 1 rows refer by p"), "{said:?}");
    }
    place
        .app()
        .batch_execute("UPDATE c SET p = NULL; ALTER TABLE c ADD CONSTRAINT few CHECK (id > 1) NOT VALID")
        .unwrap();
    let said = place.open().self_check(&[&c], false).unwrap();
    assert_eq!(said, ["c: constraint few was never validated, and 1 rows break it"]);
    // a promise that nothing breaks is none the less kept as it is
    place
        .app()
        .batch_execute("ALTER TABLE c DROP CONSTRAINT few, ADD CONSTRAINT all_of CHECK (id > 0) NOT VALID")
        .unwrap();
    assert_eq!(place.open().self_check(&[&c], true).unwrap(), [""; 0]);
}

// ── effects ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_effect_that_fails_leaves_nothing_and_a_failed_transaction_does_not_commit() {
    let place = Place::with(T);
    let t = place.table("t");
    let gate = Gate::with_trap(2, |_| {});
    let mut store = store::open(&place.url, Path::new("."), false, &gate).unwrap();
    store.prepare().unwrap();
    store.prepare().unwrap();
    assert_eq!(gate.count(), 1);
    store.begin(Mode::Write, &[]).unwrap();
    store.write(&[&t], &[(0, vec![put(vec![int(3), text("c")])])]).unwrap();
    assert!(matches!(store.commit("third"), Err(Error::Gate(_))));
    assert_eq!(store.count(&t).unwrap(), 2);
    store.begin(Mode::Write, &[]).unwrap();
    assert!(store.write(&[&t], &[(0, vec![put(vec![text("no number"), text("c")])])]).is_err());
    store.rollback();
    store.begin(Mode::Write, &[]).unwrap();
    let odd = Table { name: "none".into(), ..t.clone() };
    assert!(store.count(&odd).is_err());
    assert!(store.commit("what failed").is_err());
    store.begin(Mode::Write, &[]).unwrap();
    store.rollback();
    store.rollback();
}

#[test]
fn a_connection_lost_in_the_middle_is_told_as_such() {
    let place = Place::with(T);
    let t = place.table("t");
    let mut store = place.open();
    store.begin(Mode::Write, &[]).unwrap();
    store.write(&[&t], &[(0, vec![put(vec![int(3), text("c")])])]).unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'backout'";
    place.app().batch_execute(kill).unwrap();
    let e = store.commit("lost").unwrap_err();
    assert!(matches!(e, Error::Server { .. }), "{e:?}");
    assert!(matches!(store.count(&t), Err(Error::Server { .. })));
    assert_eq!(place.open().count(&t).unwrap(), 2);
}
