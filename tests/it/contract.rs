//! What the words of the trait `Store` promise, held to every store alike. A store is a `Place` here: where it is, and an
//! application that writes to it without knowing of us. Another store is added by another `Place`.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::postgres::Client;
use backout::gate::Gate;
use backout::plan::Table;
use backout::store::{
    Chunk, Entry, Error, HistoryLine, Mode, Op, Parked, Phase, Position, Role, Side, State, Store, Write, open,
};
use backout::value::{Batch, Digest, Key, Row, Value};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::database::Database;

const RUN: &str = "0123456789ab";

// ── places ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What the application does to `things`.
#[derive(Clone, Copy)]
enum Do {
    /// A new row with this id and word.
    Add(i64, &'static str),
    /// Another word in the row of this id.
    Edit(i64, &'static str),
    /// Another id for this row.
    Move(i64, i64),
    /// The row goes.
    Remove(i64),
}
use Do::{Add, Edit, Move, Remove};

/// A fresh store with `things` (id, word, number, perhaps) of ids 1 to 5, and `words` (name, meaning) of one row, `a`.
trait Place {
    /// Opens it.
    fn open(&self, gate: &Gate) -> Box<dyn Store>;
    /// The application does this, all at once; what it is told if it is refused.
    fn app(&self, does: &[Do]) -> Result<(), String>;
    /// Can it be a target that is built here?
    fn builds(&self) -> bool;
    /// Does it note each change as it is made, or is it compared with what it was?
    fn notes(&self) -> bool;
    /// Does a seal refuse others, or only find what they wrote?
    fn refuses(&self) -> bool;
    /// Notes what `lose` takes it back to.
    fn remember(&self);
    /// What was noted since `remember` is lost, as when a copy is put back.
    fn lose(&self);
    /// All that is here of ours, but for the history.
    fn traces(&self) -> Vec<String>;

    fn store(&self) -> Box<dyn Store> {
        self.open(&Gate::default())
    }
    fn tables(&self) -> Vec<Table> {
        let mut found = self.store().schema().unwrap().tables;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(found.len(), 2, "{found:?}");
        found.iter_mut().for_each(|t| t.key = vec![0]);
        found
    }
}

struct InJson(TempDir);

impl InJson {
    fn new() -> InJson {
        let things: Vec<Json> =
            (1..=5).map(|id| json!({"id": id, "word": word(id), "number": id * 10, "perhaps": null})).collect();
        let place = InJson(TempDir::new().unwrap());
        place.put(&json!({"things": things, "words": [{"name": "a", "meaning": "first"}]}));
        place
    }
    fn file(&self) -> PathBuf {
        self.0.path().join("app.json")
    }
    fn folder(&self) -> PathBuf {
        self.0.path().join("app.json.backout")
    }
    fn put(&self, all: &Json) {
        fs::write(self.file(), serde_json::to_string_pretty(all).unwrap()).unwrap();
    }
    fn ours(&self) -> Vec<String> {
        let names =
            |d: PathBuf| fs::read_dir(d).into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap());
        names(self.0.path().to_owned()).chain(names(self.folder())).collect()
    }
}

impl Place for InJson {
    fn open(&self, gate: &Gate) -> Box<dyn Store> {
        open("json:app.json", self.0.path(), false, gate).unwrap()
    }
    fn app(&self, does: &[Do]) -> Result<(), String> {
        let mut all: Json = serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap();
        let things = all["things"].as_array_mut().unwrap();
        for what in does {
            let at = |id: i64| things.iter().position(|t| t["id"] == json!(id)).unwrap();
            match *what {
                Add(id, word) => things.push(json!({"id": id, "word": word, "number": 0, "perhaps": null})),
                Edit(id, word) => {
                    let i = at(id);
                    things[i]["word"] = json!(word);
                }
                Move(id, to) => {
                    let i = at(id);
                    things[i]["id"] = json!(to);
                }
                Remove(id) => {
                    let i = at(id);
                    things.remove(i);
                }
            }
        }
        self.put(&all);
        Ok(())
    }
    fn builds(&self) -> bool {
        false
    }
    fn notes(&self) -> bool {
        false
    }
    fn refuses(&self) -> bool {
        false
    }
    fn remember(&self) {}
    fn lose(&self) {
        for name in self.ours().iter().filter(|n| n.starts_with("manifest-")) {
            fs::remove_file(self.folder().join(name)).unwrap();
        }
    }
    fn traces(&self) -> Vec<String> {
        let mut found = self.ours();
        found.retain(|n| !["app.json", "app.json.backout", "state.json"].contains(&n.as_str()));
        found
    }
}

struct InSqlite(TempDir);

impl InSqlite {
    fn new() -> InSqlite {
        let place = InSqlite(TempDir::new().unwrap());
        let app = place.connect();
        app.execute_batch(
            "CREATE TABLE things (id INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT, number INTEGER, perhaps TEXT);
             CREATE TABLE words (name TEXT PRIMARY KEY COLLATE NOCASE, meaning TEXT) WITHOUT ROWID;
             INSERT INTO words VALUES ('a', 'first')",
        )
        .unwrap();
        for id in 1..=5 {
            app.execute("INSERT INTO things VALUES (?1, ?2, ?3, NULL)", (id, word(id), id * 10)).unwrap();
        }
        place
    }
    fn file(&self) -> PathBuf {
        self.0.path().join("app.db")
    }
    fn connect(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }
}

impl Place for InSqlite {
    fn open(&self, gate: &Gate) -> Box<dyn Store> {
        open("sqlite:app.db", self.0.path(), false, gate).unwrap()
    }
    fn app(&self, does: &[Do]) -> Result<(), String> {
        self.connect().execute_batch(&format!("BEGIN; {} COMMIT", sql(does))).map_err(|e| e.to_string())
    }
    fn builds(&self) -> bool {
        true
    }
    fn notes(&self) -> bool {
        true
    }
    fn refuses(&self) -> bool {
        true
    }
    fn remember(&self) {
        fs::copy(self.file(), self.0.path().join("copy")).unwrap();
    }
    fn lose(&self) {
        // into the same file, so that it is not the inode that tells
        fs::write(self.file(), fs::read(self.0.path().join("copy")).unwrap()).unwrap();
    }
    fn traces(&self) -> Vec<String> {
        let app = self.connect();
        let mut s = app
            .prepare("SELECT name FROM sqlite_schema WHERE name LIKE '%backout%' AND name <> 'backout_history'")
            .unwrap();
        let mut found: Vec<String> = s.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
        let files = fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        found.extend(files.filter(|n| n.contains("backout")));
        found
    }
}

struct InPostgres {
    database: Database,
}

impl InPostgres {
    fn new() -> InPostgres {
        let place = InPostgres { database: Database::new() };
        let mut app = place.connect();
        app.batch_execute(
            "CREATE TABLE things (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, word text, number bigint, perhaps text);
             CREATE TABLE words (name text PRIMARY KEY, meaning text); INSERT INTO words VALUES ('a', 'first')",
        )
        .unwrap();
        for id in 1..=5i64 {
            app.execute("INSERT INTO things (word, number) VALUES ($1, 10 * $2::int8)", &[&word(id), &id]).unwrap();
        }
        place
    }
    fn connect(&self) -> Client {
        self.database.client()
    }
}

impl Place for InPostgres {
    fn open(&self, gate: &Gate) -> Box<dyn Store> {
        open(&self.database.url, std::path::Path::new("."), false, gate).unwrap()
    }
    fn app(&self, does: &[Do]) -> Result<(), String> {
        let e = self.connect().batch_execute(&format!("BEGIN; {} COMMIT", sql(does)));
        e.map_err(|e| e.as_db_error().map(|d| d.message().to_owned()).unwrap_or_default())
    }
    fn builds(&self) -> bool {
        true
    }
    fn notes(&self) -> bool {
        true
    }
    fn refuses(&self) -> bool {
        true
    }
    fn remember(&self) {
        self.connect()
            .batch_execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.copy AS SELECT * FROM backout.mark")
            .unwrap();
    }
    fn lose(&self) {
        let sql = "DELETE FROM backout.mark; INSERT INTO backout.mark SELECT * FROM elsewhere.copy; DROP SCHEMA elsewhere CASCADE";
        self.connect().batch_execute(sql).unwrap();
    }
    fn traces(&self) -> Vec<String> {
        let sql = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'backout'::regnamespace AND c.relkind <> 'i' \
            AND c.relname NOT IN ('history', 'migration_log') \
            UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'backout'::regnamespace \
            UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '%backout%'";
        self.connect().query(sql, &[]).unwrap().iter().map(|r| r.get(0)).collect()
    }
}

fn sql(does: &[Do]) -> String {
    let one = |what: &Do| match *what {
        Add(id, word) => format!("INSERT INTO things (id, word, number) VALUES ({id}, '{word}', 0);"),
        Edit(id, word) => format!("UPDATE things SET word = '{word}' WHERE id = {id};"),
        Move(id, to) => format!("UPDATE things SET id = {to} WHERE id = {id};"),
        Remove(id) => format!("DELETE FROM things WHERE id = {id};"),
    };
    does.iter().map(one).collect()
}

// ── helpers ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn word(id: i64) -> &'static str {
    ["", "one", "two", "three", "four", "five"][usize::try_from(id).unwrap()]
}

fn k(id: i64) -> Key {
    Key::of([&Value::Int(id)])
}

fn row(id: i64, word: &str) -> Row {
    vec![Value::Int(id), Value::text(word), Value::Int(id * 10), Value::Null]
}

fn refs(tables: &[Table]) -> Vec<&Table> {
    tables.iter().collect()
}

fn rows(store: &mut dyn Store, table: &Table, limit: usize) -> Vec<Row> {
    let (mut out, mut after) = (Batch::default(), Vec::new());
    while let Some(next) = store.scan(table, &after, limit, &mut out).unwrap() {
        assert!(!next.is_empty());
        after = next;
    }
    let mut all: Vec<Row> = out.rows().map(|r| r.into_iter().map(Value::into_owned).collect()).collect();
    all.sort_by_key(|r| Key::of_row(r, &table.key));
    all
}

/// The present rows of `things`, by id and word.
fn there(place: &dyn Place) -> Vec<(i64, String)> {
    let table = &place.tables()[0];
    let show = |r: &Row| match (&r[0], &r[1]) {
        (Value::Int(id), Value::Text(word)) => (*id, String::from_utf8(word.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    };
    rows(&mut *place.store(), table, 100).iter().map(show).collect()
}

fn originals() -> Vec<(i64, String)> {
    (1..=5).map(|id| (id, word(id).to_owned())).collect()
}

fn in_one(store: &mut dyn Store, what: &str, work: impl FnOnce(&mut dyn Store)) {
    store.begin(Mode::Write, &[]).unwrap();
    work(store);
    store.commit(what).unwrap();
}

fn put(store: &mut dyn Store, tables: &[Table], writes: Vec<Write>) {
    store.begin(Mode::Write, &refs(tables)).unwrap();
    store.write(&refs(tables), &[(0, writes)]).unwrap();
    store.commit("write").unwrap();
}

fn new(row: Row) -> Write {
    Write::Put { row, from: None }
}

fn from(id: i64, row: Row) -> Write {
    Write::Put { row, from: Some(k(id)) }
}

fn state() -> State {
    State {
        format: 1,
        run: RUN.into(),
        role: Role::Source,
        migration: "20250301090000".into(),
        title: "Things move: “ünïcode” 'quoted'".into(),
        plan_hash: "h".into(),
        phase: Phase::Soaking,
        side: Side::Sealed { epoch: 7, position: Position(json!({"n": u64::MAX, "of": [1, 2.5, null]})) },
        epoch: 7,
        captured_from: Some(Position(json!({"a": "b"}))),
        hold: true,
        built: true,
        checkpoint: Some(Position(json!(12345))),
        previous: None,
        drains: 3,
        carried: 4,
        drained_at: Some("2025-03-01T09:00:01Z".into()),
        doubt: Some("why".into()),
        rewound: true,
        last_error: None,
        called_off: None,
        verified_at: None,
        digests: vec![Digest { rows: 2, sum: u128::MAX }],
        started_at: "2025-03-01T09:00:00Z".into(),
        cutover_at: None,
        window_ends: None,
        marks: vec![None, Some(i64::MAX)],
        parting: None,
        delete_source: true,
    }
}

fn line(run: &str, outcome: &str) -> HistoryLine {
    HistoryLine {
        run: run.into(),
        migration: "20250301090000".into(),
        title: "t".into(),
        plan_hash: "h".into(),
        outcome: outcome.into(),
        started_at: "a".into(),
        ended_at: "b".into(),
        note: "n".into(),
        remains: None,
    }
}

/// A run that is open here, with capture on.
fn captured(place: &dyn Place) -> (Box<dyn Store>, Vec<Table>, Position) {
    let (mut store, tables) = (place.store(), place.tables());
    store.prepare().unwrap();
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    let position = store.capture_on(&refs(&tables), RUN).unwrap();
    store.put_state(&state(), None).unwrap();
    store.commit("capture on").unwrap();
    (store, tables, position)
}

/// What a drain reads.
fn since(store: &mut dyn Store, tables: &[Table], from: &Position) -> Result<(Vec<Entry>, Position), Error> {
    store.begin(Mode::Read, &refs(tables)).unwrap();
    let told = store.look(&refs(tables)).and_then(|()| store.log_since(&refs(tables), from));
    store.rollback();
    told
}

fn number(key: &Option<Key>) -> Option<i64> {
    match key.as_ref().map(Key::values).as_deref() {
        Some([Value::Int(i)]) => Some(*i),
        _ => None,
    }
}

/// Operations with their keys before and after.
fn told(entries: &[Entry]) -> Vec<(Op, Option<i64>, Option<i64>)> {
    assert!(entries.iter().all(|e| e.table == 0));
    entries.iter().map(|e| (e.op, number(&e.before), number(&e.after))).collect()
}

/// Every id that is named, once.
fn named(entries: &[Entry]) -> Vec<i64> {
    let mut ids: Vec<i64> = told(entries).into_iter().flat_map(|(_, a, b)| [a, b]).flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

// ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn schema_shows_tables_and_columns(place: &dyn Place) {
    let tables = place.tables();
    let names: Vec<&str> = tables.iter().map(|t| t.name.trim_start_matches('/')).collect();
    assert_eq!(names, ["things", "words"]);
    let columns: Vec<&str> = tables[0].columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(columns, ["id", "word", "number", "perhaps"]);
    // ours are no tables of the application's
    captured(place);
    assert_eq!(place.tables(), tables);
}

fn scan_resumes_and_meets_every_row_once(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    let wanted: Vec<Row> = (1..=5).map(|id| row(id, word(id))).collect();
    for limit in 1..=6 {
        assert_eq!(rows(&mut *store, &tables[0], limit), wanted, "{limit} at a time");
    }
    assert_eq!(store.count(&tables[0]).unwrap(), 5);
    // in the open transaction too, and it goes on in another connection
    store.begin(Mode::Read, &refs(&tables)).unwrap();
    assert_eq!(rows(&mut *store, &tables[0], 2), wanted);
    store.rollback();
    let mut out = Batch::default();
    let next = store.scan(&tables[0], &[], 2, &mut out).unwrap().unwrap();
    assert_eq!(out.len(), 2);
    assert_eq!(store.again().unwrap().scan(&tables[0], &next, 100, &mut out).unwrap(), None);
    assert_eq!(out.len(), 5);
}

fn an_empty_table_has_no_more(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    place.app(&[Remove(1), Remove(2), Remove(3), Remove(4), Remove(5)]).unwrap();
    assert_eq!(store.scan(&tables[0], &[], 10, &mut Batch::default()).unwrap(), None);
    assert_eq!(store.count(&tables[0]).unwrap(), 0);
    store.begin(Mode::Read, &refs(&tables)).unwrap();
    assert!(store.keys(&tables[0]).unwrap().is_empty());
}

fn fetch_keeps_order_and_says_none(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    store.begin(Mode::Read, &refs(&tables)).unwrap();
    let got = store.fetch(&tables[0], &[k(4), k(9), k(1), k(4)]).unwrap();
    assert_eq!(got, [Some(row(4, "four")), None, Some(row(1, "one")), Some(row(4, "four"))]);
    assert!(store.fetch(&tables[0], &[]).unwrap().is_empty());
    let mut keys = store.keys(&tables[0]).unwrap();
    keys.sort();
    assert_eq!(keys, (1..=5).map(k).collect::<Vec<_>>());
    let words = |s: &str| Key::of([&Value::text(s)]);
    let got = store.fetch(&tables[1], &[words("A"), words("a"), words("a ")]).unwrap();
    assert_eq!(got, [None, Some(vec![Value::text("a"), Value::text("first")]), None], "keys are bytes");
}

fn self_check_of_a_sound_store_is_clean(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    for deep in [false, true] {
        assert_eq!(store.self_check(&refs(&tables), deep).unwrap(), Vec::<String>::new());
    }
}

fn now_is_a_time_that_goes_on(place: &dyn Place) {
    let mut store = place.store();
    let mut time = || store.now().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (first, second) = (time(), time());
    assert!(first <= second && (jiff::Timestamp::now() - first).get_hours() == 0, "{first} {second}");
}

fn the_title_has_no_secret(place: &dyn Place) {
    let store = place.store();
    let password = std::env::var("BACKOUT_TEST_PG").ok().and_then(|u| u.split([':', '@']).nth(2).map(str::to_owned));
    assert!(!store.title().is_empty() && password.is_none_or(|p| !store.title().contains(&p)));
    assert_eq!(store.again().unwrap().title(), store.title());
}

// ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn writes_are_a_set(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    let delete = |id: i64| Write::Delete { key: k(id) };
    let both = |list: &[(i64, &str)]| list.iter().map(|(id, w)| (*id, (*w).to_owned())).collect::<Vec<_>>();
    // new, changed, deleted, and a deletion of what is not there
    put(&mut *store, &tables, vec![new(row(6, "six")), from(2, row(2, "zwei")), delete(3), delete(77)]);
    assert_eq!(there(place), both(&[(1, "one"), (2, "zwei"), (4, "four"), (5, "five"), (6, "six")]));
    // moved, its old key deleted by name, or taken by a new one; a stranger is replaced
    put(
        &mut *store,
        &tables,
        vec![delete(1), from(1, row(11, "one")), from(2, row(12, "two")), new(row(2, "new")), new(row(4, "4"))],
    );
    assert_eq!(there(place), both(&[(2, "new"), (4, "4"), (5, "five"), (6, "six"), (11, "one"), (12, "two")]));
    // two that change places, a ring of three, in any order
    put(&mut *store, &tables, vec![from(11, row(12, "was 11")), from(12, row(11, "was 12"))]);
    put(&mut *store, &tables, vec![from(4, row(5, "was 4")), from(5, row(6, "was 5")), from(6, row(4, "was 6"))]);
    assert_eq!(
        there(place),
        both(&[(2, "new"), (4, "was 6"), (5, "was 4"), (6, "was 5"), (11, "was 12"), (12, "was 11")])
    );
    // a mover onto a stranger that is not named replaces it; a mover whose old row is not here is a new one
    put(&mut *store, &tables, vec![from(2, row(4, "was 2")), from(99, row(98, "was nowhere"))]);
    assert_eq!(
        there(place),
        both(&[(4, "was 2"), (5, "was 4"), (6, "was 5"), (11, "was 12"), (12, "was 11"), (98, "was nowhere")])
    );
}

fn writes_are_seen_within_and_forgotten_by_rollback(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    store.prepare().unwrap();
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    store.put_state(&state(), Some("plan")).unwrap();
    store.write(&refs(&tables), &[(0, vec![new(row(6, "six")), Write::Delete { key: k(1) }])]).unwrap();
    let got = store.fetch(&tables[0], &[k(1), k(6)]).unwrap();
    assert_eq!(got, [None, Some(row(6, "six"))]);
    assert_eq!(there(place), originals(), "others see nothing of it");
    store.rollback();
    store.rollback();
    assert_eq!(store.state().unwrap(), None);
    assert_eq!(there(place), originals());
    put(&mut *store, &tables, vec![new(row(7, "seven"))]);
    assert_eq!(there(place).len(), 6);
}

fn there_is_one_transaction_at_a_time(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    assert!(store.commit("nothing").is_err());
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    assert!(store.begin(Mode::Read, &refs(&tables)).is_err());
    store.rollback();
    store.begin(Mode::Read, &refs(&tables)).unwrap();
    assert!(store.write(&refs(&tables), &[(0, vec![Write::Delete { key: k(1) }])]).is_err(), "a look changes nothing");
    store.rollback();
    assert_eq!(there(place), originals());
}

/// Row and record are true together or not at all, whichever effect fails; and the store goes on working.
fn a_commit_is_one_effect_and_a_refused_one_changes_nothing(place: &dyn Place) {
    place.store().prepare().unwrap();
    let tables = place.tables();
    let work = |store: &mut dyn Store| {
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        store.put_state(&state(), None).unwrap();
        store.write(&refs(&tables), &[(0, vec![from(1, row(1, "uno"))])]).unwrap();
        store.commit("the commit")
    };
    for n in 1.. {
        assert!(n < 20);
        let gate = Gate::with_trap(n, |_| {});
        let mut store = place.open(&gate);
        let done = work(&mut *store);
        let fresh = place.store().state().unwrap();
        assert_eq!(fresh, done.is_ok().then(state), "effect {n}: {done:?}");
        assert_eq!(there(place)[0].1, if done.is_ok() { "uno" } else { "one" }, "effect {n}");
        match done {
            Ok(()) => break,
            Err(e) => assert!(matches!(e, Error::Gate(_)), "{e}"),
        }
        // still usable, by the same words
        in_one(&mut *store, "another", |s| s.put_state(&State { epoch: 9, ..state() }, None).unwrap());
        in_one(&mut *store, "closed", |s| s.close(&refs(&tables), &line(RUN, "aborted")).unwrap());
        store.prepare().unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = seen.clone();
    let mut store = place.open(&Gate::watched(move |what| all.lock().unwrap().push(what.to_owned())));
    work(&mut *store).unwrap();
    put(&mut *store, &tables, vec![from(2, row(2, "due"))]);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|w| *w == "the commit").count(), 1, "{seen:?}");
    assert_eq!(seen.iter().filter(|w| *w == "write").count(), 1, "{seen:?}");
    assert!(!place.notes() || seen.len() == 2, "one effect each: {seen:?}");
}

// ── change capture ─────────────────────────────────────────────────────────────────────────────────────────────────

const CHANGES: &[Do] = &[Add(6, "six"), Edit(2, "zwei"), Move(3, 13), Remove(4), Edit(6, "sechs")];

fn the_log_tells_every_change_of_others(place: &dyn Place) {
    place.app(&[Edit(5, "before")]).unwrap();
    let (mut store, tables, from_here) = captured(place);
    assert_eq!(since(&mut *store, &tables, &from_here).unwrap().0, []);
    place.app(CHANGES).unwrap();
    put(&mut *store, &tables, vec![from(1, row(1, "ours")), new(row(8, "ours"))]);
    let (entries, _) = since(&mut *store, &tables, &from_here).unwrap();
    assert_eq!(named(&entries), [2, 3, 4, 6, 13]);
    if place.notes() {
        let (i, u, d) = (Op::Insert, Op::Update, Op::Delete);
        let wanted = [
            (i, None, Some(6)),
            (u, Some(2), Some(2)),
            (u, Some(3), Some(13)),
            (d, Some(4), None),
            (u, Some(6), Some(6)),
        ];
        assert_eq!(told(&entries), wanted);
    }
    let again = since(&mut *store, &tables, &from_here).unwrap().0;
    assert_eq!((again.len(), named(&again)), (entries.len(), named(&entries)), "reading takes nothing away");
    let elsewhere = since(&mut *place.store(), &tables, &from_here).unwrap().0;
    assert_eq!((elsewhere.len(), named(&elsewhere)), (entries.len(), named(&entries)), "in any connection");
}

fn a_marked_position_tells_only_what_came_later(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    place.app(CHANGES).unwrap();
    let (_, read) = since(&mut *store, &tables, &from_here).unwrap();
    let marked = store.mark(read).unwrap();
    assert_eq!(since(&mut *store, &tables, &marked).unwrap().0, []);
    place.app(&[Edit(1, "uno"), Remove(6)]).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &marked).unwrap().0), [1, 6]);
    let text = serde_json::to_string(&marked).unwrap();
    let again: Position = serde_json::from_str(&text).unwrap();
    assert_eq!(named(&since(&mut *place.store(), &tables, &again).unwrap().0), [1, 6]);
}

fn what_is_written_between_reading_and_marking_comes_later(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    place.app(&[Edit(1, "uno")]).unwrap();
    let (_, read) = since(&mut *store, &tables, &from_here).unwrap();
    place.app(&[Edit(2, "due")]).unwrap();
    let marked = store.mark(read).unwrap();
    store.trim(&refs(&tables), &marked).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &marked).unwrap().0), [2]);
}

fn trim_keeps_what_came_later(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    place.app(CHANGES).unwrap();
    let (_, read) = since(&mut *store, &tables, &from_here).unwrap();
    let marked = store.mark(read).unwrap();
    place.app(&[Edit(1, "uno")]).unwrap();
    for _ in 0..2 {
        store.trim(&refs(&tables), &marked).unwrap();
        assert_eq!(named(&since(&mut *store, &tables, &marked).unwrap().0), [1]);
    }
    let (_, read) = since(&mut *store, &tables, &marked).unwrap();
    let later = store.mark(read).unwrap();
    store.trim(&refs(&tables), &later).unwrap();
    assert_eq!(since(&mut *store, &tables, &later).unwrap().0, []);
    assert_eq!(store.lag(&refs(&tables), &later).unwrap(), 0);
}

fn a_lease_reads_marks_and_commits_at_once(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    place.app(&[Edit(1, "uno")]).unwrap();
    store.begin(Mode::Lease, &refs(&tables)).unwrap();
    store.look(&refs(&tables)).unwrap();
    let (entries, read) = store.log_since(&refs(&tables), &from_here).unwrap();
    assert_eq!(named(&entries), [1]);
    assert_eq!(store.fetch(&tables[0], &[k(1)]).unwrap()[0].as_ref().unwrap()[1], Value::text("uno"));
    let marked = store.mark(read).unwrap();
    store.put_state(&State { epoch: 8, ..state() }, None).unwrap();
    store.commit("lease").unwrap();
    assert_eq!(place.store().state().unwrap().unwrap().epoch, 8);
    place.app(&[Edit(2, "due")]).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &marked).unwrap().0), [2]);
}

fn a_position_whose_log_is_lost_is_not_trusted(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    place.app(&[Edit(1, "uno")]).unwrap();
    let (_, read) = since(&mut *store, &tables, &from_here).unwrap();
    place.remember();
    place.app(&[Edit(2, "due")]).unwrap();
    let marked = store.mark(read).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &marked).unwrap().0), [2]);
    drop(store);
    place.lose();
    place.app(&[Edit(3, "tre")]).unwrap();
    let told = since(&mut *place.store(), &tables, &marked);
    assert!(matches!(told, Err(Error::Capture { schema_changed: false, .. })), "{told:?}");
}

fn a_position_of_capture_on_is_lost_with_its_log_too(place: &dyn Place) {
    place.store().prepare().unwrap();
    place.remember();
    let (store, tables, from_here) = captured(place);
    drop(store);
    place.lose();
    place.app(&[Edit(3, "tre")]).unwrap();
    let mut store = place.store();
    store.begin(Mode::Read, &refs(&tables)).unwrap();
    let told = store.log_since(&refs(&tables), &from_here);
    assert!(matches!(told, Err(Error::Capture { schema_changed: false, .. })), "{told:?}");
}

fn capture_on_again_loses_nothing(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    place.app(&[Edit(1, "uno")]).unwrap();
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    let again = store.capture_on(&refs(&tables), RUN).unwrap();
    store.commit("capture on again").unwrap();
    place.app(&[Edit(2, "due")]).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &from_here).unwrap().0), [1, 2]);
    assert_eq!(named(&since(&mut *store, &tables, &again).unwrap().0), [2]);
}

fn capture_off_is_seen_by_a_look(place: &dyn Place) {
    let (mut store, tables, _) = captured(place);
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    store.capture_off(&refs(&tables)).unwrap();
    store.commit("capture off").unwrap();
    place.app(&[Edit(1, "uno")]).unwrap();
    assert_eq!(there(place)[0].1, "uno");
    store.begin(Mode::Read, &refs(&tables)).unwrap();
    let seen = store.look(&refs(&tables));
    // a file is compared, and needs nobody to note anything
    assert_eq!(matches!(seen, Err(Error::Capture { schema_changed: false, .. })), place.notes(), "{seen:?}");
}

fn a_doubt_is_told_once_until_it_is_trimmed(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    store.doubt(&[], 0, &[k(2), k(77)]).unwrap();
    store.doubt(&[], 0, &[]).unwrap();
    let (entries, read) = since(&mut *store, &tables, &from_here).unwrap();
    assert_eq!(told(&entries), [(Op::Doubt, Some(2), None), (Op::Doubt, Some(77), None)]);
    let marked = store.mark(read).unwrap();
    assert_eq!(since(&mut *store, &tables, &marked).unwrap().0, []);
    store.trim(&refs(&tables), &marked).unwrap();
    assert_eq!(since(&mut *store, &tables, &marked).unwrap().0, []);
    // within a transaction it is forgotten with it
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    store.doubt(&[], 0, &[k(3)]).unwrap();
    store.rollback();
    assert_eq!(since(&mut *store, &tables, &marked).unwrap().0, []);
    in_one(&mut *store, "doubt", |s| s.doubt(&[], 0, &[k(4)]).unwrap());
    assert_eq!(named(&since(&mut *store, &tables, &marked).unwrap().0), [4]);
}

fn the_log_has_a_size_that_trimming_takes_away(place: &dyn Place) {
    let mut untouched = place.store();
    let none = untouched.log_size(&refs(&place.tables())).unwrap();
    assert_eq!((none.rows, none.bytes), (0, 0), "without capture");
    let (mut store, tables, from_here) = captured(place);
    place.app(CHANGES).unwrap();
    let full = store.log_size(&refs(&tables)).unwrap();
    assert!(full.bytes > 0, "{full:?}");
    // a store without a log keeps what it needs for telling changes, and has no entries
    assert_eq!(full.rows > 0, place.notes(), "{full:?}");
    let (_, read) = since(&mut *store, &tables, &from_here).unwrap();
    let marked = store.mark(read).unwrap();
    store.trim(&refs(&tables), &marked).unwrap();
    assert_eq!(store.log_size(&refs(&tables)).unwrap().rows, 0);
}

fn lag_counts_what_waits(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    assert_eq!(store.lag(&refs(&tables), &from_here).unwrap(), 0);
    place.app(&[Edit(1, "uno"), Remove(2), Add(6, "six")]).unwrap();
    assert_eq!(store.lag(&refs(&tables), &from_here).unwrap(), 3);
    let (_, read) = since(&mut *store, &tables, &from_here).unwrap();
    let marked = store.mark(read).unwrap();
    assert_eq!(store.lag(&refs(&tables), &marked).unwrap(), 0);
}

// ── who may write ──────────────────────────────────────────────────────────────────────────────────────────────────

fn a_seal_is_for_others(place: &dyn Place) {
    let (mut store, tables, _) = captured(place);
    for _ in 0..2 {
        store.begin(Mode::Lease, &refs(&tables)).unwrap();
        store.seal(&refs(&tables), RUN).unwrap();
        store.commit("seal").unwrap();
    }
    put(&mut *store, &tables, vec![from(1, row(1, "ours"))]);
    put(&mut *place.store(), &tables, vec![from(2, row(2, "ours too"))]);
    let sealed = there(place);
    for what in [Add(6, "six"), Edit(1, "theirs"), Move(2, 12), Remove(3)] {
        if place.refuses() {
            let said = place.app(&[what]).unwrap_err();
            assert!(said.contains("backout"), "{said}");
            continue;
        }
        let before = fs::read(store.title()).unwrap();
        place.app(&[what]).unwrap();
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        assert!(matches!(store.look(&refs(&tables)), Err(Error::Capture { schema_changed: false, .. })));
        assert!(
            store.write(&refs(&tables), &[(0, vec![new(row(9, "ours"))])]).is_err(),
            "nothing of theirs is overwritten"
        );
        store.rollback();
        fs::write(store.title(), before).unwrap();
    }
    assert_eq!(there(place), sealed);
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    store.unseal(&refs(&tables)).unwrap();
    store.commit("unseal").unwrap();
    place.app(CHANGES).unwrap();
    assert_eq!(there(place).len(), 5);
}

fn a_rolled_back_seal_seals_nothing(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    store.begin(Mode::Lease, &refs(&tables)).unwrap();
    store.seal(&refs(&tables), RUN).unwrap();
    store.capture_off(&refs(&tables)).unwrap();
    store.rollback();
    place.app(CHANGES).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &from_here).unwrap().0), [2, 3, 4, 6, 13], "and capture is still on");
}

fn identities_are_only_ever_raised(place: &dyn Place) {
    let (mut store, tables) = (place.store(), place.tables());
    let high = |s: &mut dyn Store| s.high_water(&refs(&tables)).unwrap()[0];
    assert_eq!(high(&mut *store), Some(5));
    assert_eq!(store.high_water(&refs(&tables)).unwrap()[1], None);
    for (mark, wanted) in [(Some(50), 50), (Some(7), 50), (None, 50)] {
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        store.raise_high_water(&refs(&tables), &[mark, None]).unwrap();
        store.commit("raise").unwrap();
        // a file has no sequence: its greatest key is all there is
        assert_eq!(high(&mut *store), Some(if place.builds() { wanted } else { 5 }));
    }
    put(&mut *store, &tables, vec![new(row(70, "seventy"))]);
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    store.raise_high_water(&refs(&tables), &[Some(60), None]).unwrap();
    store.commit("raise").unwrap();
    assert_eq!(high(&mut *store), Some(70), "the greatest in the table counts too");
}

// ── our own records ────────────────────────────────────────────────────────────────────────────────────────────────

fn prepare_is_done_once(place: &dyn Place) {
    let gate = Gate::default();
    let mut store = place.open(&gate);
    assert_eq!(store.state().unwrap(), None);
    assert_eq!(store.plan(RUN).unwrap(), None);
    assert!(
        store.history().unwrap().is_empty()
            && store.parked(RUN).unwrap().is_empty()
            && store.chunks(RUN).unwrap().is_empty()
    );
    assert_eq!(gate.count(), 0, "asking is no effect");
    store.prepare().unwrap();
    assert!(gate.count() >= 1);
    let made = gate.count();
    store.prepare().unwrap();
    place.open(&gate).prepare().unwrap();
    assert_eq!(gate.count(), made);
    assert_eq!(store.state().unwrap(), None);
    assert_eq!(there(place), originals());
}

fn state_and_plan_come_back_as_written(place: &dyn Place) {
    let mut store = place.store();
    store.prepare().unwrap();
    let plan = "{\"what\": \"ünïcode 'quotes' \\\\ \u{1F600}\"}\n";
    in_one(&mut *store, "state", |s| s.put_state(&state(), Some(plan)).unwrap());
    let later = State { phase: Phase::RollingBack, side: Side::Withdrawn { epoch: 8 }, doubt: None, ..state() };
    in_one(&mut *store, "later", |s| {
        assert_eq!(s.state().unwrap(), Some(state()));
        s.put_state(&later, None).unwrap();
        assert_eq!(s.state().unwrap().as_ref(), Some(&later));
    });
    let mut other = place.store();
    assert_eq!(other.state().unwrap(), Some(later));
    assert_eq!(other.plan(RUN).unwrap().as_deref(), Some(plan), "the plan stays when it is not given");
    assert_eq!(other.plan("another").unwrap(), None);
}

fn parked_rows_are_added_replaced_and_removed(place: &dyn Place) {
    let mut store = place.store();
    store.prepare().unwrap();
    let p = |id: i64, reason: &str| Parked { table: 0, key: k(id), row: vec![0, 255, 10, 39], reason: reason.into() };
    in_one(&mut *store, "park", |s| {
        s.put_state(&state(), None).unwrap();
        s.put_parked(RUN, &[p(1, "a"), p(2, "b"), p(3, "c")], &[]).unwrap();
    });
    let sorted = |s: &mut dyn Store| {
        let mut all = s.parked(RUN).unwrap();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    };
    assert_eq!(sorted(&mut *store), [p(1, "a"), p(2, "b"), p(3, "c")]);
    in_one(&mut *store, "again", |s| s.put_parked(RUN, &[p(2, "again")], &[(0, k(1)), (1, k(3)), (0, k(77))]).unwrap());
    assert_eq!(sorted(&mut *place.store()), [p(2, "again"), p(3, "c")]);
    assert!(store.parked("another").unwrap().is_empty());
}

fn images_are_kept(place: &dyn Place) {
    let mut store = place.store();
    store.prepare().unwrap();
    in_one(&mut *store, "images", |s| {
        s.put_state(&state(), None).unwrap();
        s.keep_images(RUN, 1, "2025-03-01T09:00:00Z", &[(0, k(1), Some(row(1, "one"))), (1, k(2), None)]).unwrap();
        s.keep_images(RUN, 2, "2025-03-01T09:00:02Z", &[(0, k(1), Some(row(1, "uno")))]).unwrap();
        s.keep_images(RUN, 3, "2025-03-01T09:00:03Z", &[]).unwrap();
    });
    // what never came to be does not count
    store.begin(Mode::Write, &refs(&place.tables())).unwrap();
    store.keep_images(RUN, 4, "2025-03-01T09:00:04Z", &[(0, k(3), None)]).unwrap();
    store.rollback();
    let mut other = place.store();
    let drains = [(1, "2025-03-01T09:00:00Z".to_owned()), (2, "2025-03-01T09:00:02Z".to_owned())];
    assert_eq!(other.image_drains(RUN).unwrap(), drains);
    assert_eq!(other.images(RUN, 1).unwrap(), vec![(0, k(1), Some(row(1, "one"))), (1, k(2), None)]);
    assert_eq!(other.images(RUN, 2).unwrap(), vec![(0, k(1), Some(row(1, "uno")))]);
    assert_eq!(other.images(RUN, 3).unwrap(), vec![]);
    assert_eq!((other.image_drains("another").unwrap(), other.images("another", 1).unwrap()), (vec![], vec![]));
    drop(other);
    in_one(&mut *store, "closed", |s| s.close(&refs(&place.tables()), &line(RUN, "rolled back")).unwrap());
    assert_eq!(place.traces(), Vec::<String>::new());
}

fn history_is_told_in_order_and_nothing_else_stays(place: &dyn Place) {
    let (mut store, tables, _) = captured(place);
    let plain = there(place);
    let mut runs = Vec::new();
    for (n, outcome) in ["aborted", "rolled back", "completed"].into_iter().enumerate() {
        let run = format!("run{}", 9 - n);
        let s = State { run: run.clone(), ..state() };
        store.prepare().unwrap();
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        // the run of `captured` goes on under another name, and the next ones begin anew
        if n == 0 {
            store.close(&refs(&tables), &line(RUN, "aborted")).unwrap();
            store.commit("the first closed").unwrap();
            runs.push(RUN.to_owned());
            store.prepare().unwrap();
            store.begin(Mode::Write, &refs(&tables)).unwrap();
        }
        store.put_state(&s, Some("{}")).unwrap();
        store.capture_on(&refs(&tables), &run).unwrap();
        store.put_parked(&run, &[Parked { table: 0, key: k(1), row: vec![1], reason: "r".into() }], &[]).unwrap();
        store.keep_images(&run, 1, "now", &[(0, k(1), None)]).unwrap();
        store.seal(&refs(&tables), &run).unwrap();
        store.commit("run").unwrap();
        put(&mut *store, &tables, vec![from(1, row(1, "one"))]);
        assert!(place.refuses() == place.app(&[Edit(1, "one")]).is_err());
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        store.close(&refs(&tables), &line(&run, outcome)).unwrap();
        store.commit("closed").unwrap();
        runs.push(run.clone());
        assert_eq!(store.state().unwrap(), None);
        assert_eq!(store.plan(&run).unwrap(), None);
        assert!(store.parked(&run).unwrap().is_empty());
        assert_eq!(place.traces(), Vec::<String>::new());
        let told: Vec<String> = place.store().history().unwrap().into_iter().map(|l| l.run).collect();
        assert_eq!(told, runs);
    }
    assert_eq!(store.history().unwrap()[3], line("run7", "completed"));
    assert_eq!(there(place), plain);
    place.app(CHANGES).unwrap();
    assert_eq!(place.tables().len(), 2);
}

fn a_closed_run_can_be_rolled_back_to_open(place: &dyn Place) {
    let (mut store, tables, from_here) = captured(place);
    store.begin(Mode::Write, &refs(&tables)).unwrap();
    store.close(&refs(&tables), &line(RUN, "aborted")).unwrap();
    store.rollback();
    assert_eq!(store.state().unwrap(), Some(state()));
    place.app(&[Edit(2, "due")]).unwrap();
    assert_eq!(named(&since(&mut *store, &tables, &from_here).unwrap().0), [2]);
}

fn the_lock_is_one_and_goes_with_its_holder(place: &dyn Place) {
    let (mut a, mut b) = (place.store(), place.store());
    a.lock(Duration::ZERO).unwrap();
    a.lock(Duration::ZERO).unwrap();
    let held = b.lock(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(&held, Error::Locked { cause, .. } if !cause.is_empty()), "{held}");
    let said = held.to_string();
    assert!(said.contains(&std::process::id().to_string()) || said.contains("session"), "names the holder: {said}");
    // who does not ask for it is not held up
    assert_eq!(there(place), originals());
    drop(a);
    // a server notices that a session is gone a moment later
    b.lock(Duration::from_secs(10)).unwrap();
    drop(b);
    place.store().lock(Duration::from_secs(10)).unwrap();
}

// ── building a target ──────────────────────────────────────────────────────────────────────────────────────────────

/// The tables of this place under other names, to be built.
fn planned(place: &dyn Place) -> Vec<Table> {
    let mut tables = place.tables();
    tables.iter_mut().for_each(|t| t.name = format!("{}_2", t.name));
    tables
}

fn batch(rows: &[Row]) -> Batch {
    let mut out = Batch::default();
    rows.iter().for_each(|r| out.push(r));
    out
}

/// True where nothing can be built: then every step of it is refused.
fn refuses_to_be_built(place: &dyn Place) -> bool {
    if place.builds() {
        return false;
    }
    let (mut store, tables) = (place.store(), planned(place));
    store.begin(Mode::Write, &[]).unwrap();
    for done in [
        store.create(&refs(&tables)),
        store.load(&tables[0], &batch(&[row(1, "one")])),
        store.build_key(&tables[0]),
        store.build_rest(&refs(&tables)),
        store.drop_tables(&refs(&tables)),
        store.set_aside(&refs(&tables), RUN).map(drop),
        store.put_chunk(RUN, 0, &Chunk::default()),
    ] {
        assert!(matches!(done, Err(Error::Refused { .. })), "{done:?}");
    }
    true
}

fn a_target_is_built_step_by_step(place: &dyn Place) {
    if refuses_to_be_built(place) {
        return;
    }
    let (mut store, tables) = (place.store(), planned(place));
    store.prepare().unwrap();
    in_one(&mut *store, "create", |s| {
        s.put_state(&state(), None).unwrap();
        s.create(&refs(&tables)).unwrap();
    });
    in_one(&mut *store, "chunk 1", |s| s.load(&tables[0], &batch(&[row(1, "one"), row(2, "two")])).unwrap());
    // a row that moved during the backfill is read twice
    in_one(&mut *store, "chunk 2", |s| s.load(&tables[0], &batch(&[row(2, "two"), row(3, "three")])).unwrap());
    store.begin(Mode::Write, &[]).unwrap();
    store.load(&tables[0], &batch(&[row(4, "four")])).unwrap();
    store.rollback();
    for _ in 0..2 {
        in_one(&mut *store, "key", |s| tables.iter().for_each(|t| s.build_key(t).unwrap()));
        in_one(&mut *store, "rest", |s| s.build_rest(&refs(&tables)).unwrap());
    }
    let wanted: Vec<Row> = (1..=3).map(|id| row(id, word(id))).collect();
    assert_eq!(rows(&mut *store, &tables[0], 2), wanted);
    let found = store.schema().unwrap().tables;
    let made = found.iter().find(|t| t.name == tables[0].name).unwrap();
    assert_eq!((made.key_names(), &made.columns), (tables[0].key_names(), &tables[0].columns));
    assert!(store.self_check(&refs(&tables), true).unwrap().is_empty());
    in_one(&mut *store, "drop", |s| s.drop_tables(&refs(&tables)).unwrap());
    in_one(&mut *store, "drop again", |s| s.drop_tables(&refs(&tables)).unwrap());
    assert_eq!(place.tables().len(), 2);
}

fn a_target_is_set_aside_and_its_place_is_free(place: &dyn Place) {
    if refuses_to_be_built(place) {
        return;
    }
    let (mut store, tables) = (place.store(), planned(place));
    store.prepare().unwrap();
    for run in ["aaaaaaaaaaaa", "bbbbbbbbbbbb"] {
        in_one(&mut *store, "create", |s| {
            s.create(&refs(&tables)).unwrap();
            s.build_key(&tables[0]).unwrap();
            s.build_rest(&refs(&tables)).unwrap();
            s.write(&refs(&tables), &[(0, vec![new(row(1, "kept"))])]).unwrap();
        });
        store.begin(Mode::Write, &refs(&tables)).unwrap();
        let kept = store.set_aside(&refs(&tables), run).unwrap();
        store.commit("set aside").unwrap();
        assert!(kept.contains(run), "{kept}");
    }
    assert!(!store.schema().unwrap().tables.iter().any(|t| t.name == tables[0].name));
}

fn chunks_are_recorded_with_their_rows(place: &dyn Place) {
    if refuses_to_be_built(place) {
        return;
    }
    let mut store = place.store();
    store.prepare().unwrap();
    in_one(&mut *store, "state", |s| s.put_state(&state(), None).unwrap());
    let chunk = |n: u64| Chunk { n, upto: vec![0, 255, 39, u8::try_from(n).unwrap()], rows: 10 * n, done: n == 3 };
    for n in 1..=3 {
        in_one(&mut *store, "chunk", |s| s.put_chunk(RUN, 1, &chunk(n)).unwrap());
    }
    in_one(&mut *store, "chunk", |s| s.put_chunk(RUN, 0, &chunk(1)).unwrap());
    store.begin(Mode::Write, &[]).unwrap();
    store.put_chunk(RUN, 0, &chunk(2)).unwrap();
    store.rollback();
    let mut all = place.store().chunks(RUN).unwrap();
    all.sort_by_key(|c| c.0);
    assert_eq!(all, [(0, chunk(1)), (1, chunk(3))]);
    assert!(store.chunks("another").unwrap().is_empty());
}

// ── every case, in every place ─────────────────────────────────────────────────────────────────────────────────────

macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        contract!(in_: json, InJson, $($case),+);
        contract!(in_: sqlite, InSqlite, $($case),+);
        contract!(in_: postgres, InPostgres, $($case),+);
    };
    (in_: $store:ident, $place:ident, $($case:ident),+) => {
        mod $store {
            $(#[test]
            fn $case() {
                super::$case(&super::$place::new());
            })+
        }
    };
}

contract! {
    schema_shows_tables_and_columns,
    scan_resumes_and_meets_every_row_once,
    an_empty_table_has_no_more,
    fetch_keeps_order_and_says_none,
    self_check_of_a_sound_store_is_clean,
    now_is_a_time_that_goes_on,
    the_title_has_no_secret,
    writes_are_a_set,
    writes_are_seen_within_and_forgotten_by_rollback,
    there_is_one_transaction_at_a_time,
    a_commit_is_one_effect_and_a_refused_one_changes_nothing,
    the_log_tells_every_change_of_others,
    a_marked_position_tells_only_what_came_later,
    what_is_written_between_reading_and_marking_comes_later,
    trim_keeps_what_came_later,
    a_lease_reads_marks_and_commits_at_once,
    a_position_whose_log_is_lost_is_not_trusted,
    a_position_of_capture_on_is_lost_with_its_log_too,
    capture_on_again_loses_nothing,
    capture_off_is_seen_by_a_look,
    a_doubt_is_told_once_until_it_is_trimmed,
    the_log_has_a_size_that_trimming_takes_away,
    lag_counts_what_waits,
    a_seal_is_for_others,
    a_rolled_back_seal_seals_nothing,
    identities_are_only_ever_raised,
    prepare_is_done_once,
    state_and_plan_come_back_as_written,
    parked_rows_are_added_replaced_and_removed,
    images_are_kept,
    history_is_told_in_order_and_nothing_else_stays,
    a_closed_run_can_be_rolled_back_to_open,
    the_lock_is_one_and_goes_with_its_holder,
    a_target_is_built_step_by_step,
    a_target_is_set_aside_and_its_place_is_free,
    chunks_are_recorded_with_their_rows,
}
