//! The protocol's interleavings, played through whole runs: the application writes, or we are killed, exactly before a
//! named effect. Each case is named after its rule in PROTOCOL.md.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use ::postgres::Client;
use backout::gate::Gate;
use backout::migrate::{Error, Failure, Options, Outcome, Project, RollbackOptions, Until, UpOptions};
use backout::store::{self, Error as StoreError, Phase};
use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::database::Database;

/// Where things are, and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    JsonToSqlite,
    JsonToPostgres,
    SqliteToPostgres,
}
use Pair::{JsonToPostgres, JsonToSqlite, SqliteToPostgres};
const PAIRS: [Pair; 3] = [JsonToSqlite, JsonToPostgres, SqliteToPostgres];

type Rows = Vec<(i64, String)>;

/// A project of one migration and five things, 1 to 5, with a word each.
pub(crate) struct House {
    pair: Pair,
    folder: TempDir,
    database: Option<Database>,
}

impl House {
    pub(crate) fn new(pair: Pair) -> House {
        House::with(pair, "")
    }

    fn with(pair: Pair, more: &str) -> House {
        let database = (pair != JsonToSqlite).then(Database::new);
        let house = House { pair, folder: TempDir::new().unwrap(), database };
        let to = house.database.as_ref().map_or("sqlite:target.db".into(), |d| d.url.clone());
        let from = if pair == SqliteToPostgres { "sqlite:source.db" } else { "json:source.json" };
        house.put("backout.toml", &format!("[stores]\nhere = \"{from}\"\nthere = \"{to}\"\n{more}"));
        fs::create_dir(house.path("migrations")).unwrap();
        let tables = if pair == SqliteToPostgres {
            ""
        } else {
            "[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"things\"\n"
        };
        house.put(
            "migrations/20250301090000_move.toml",
            &format!("title = \"Things move\"\n[transfer]\nfrom = \"here\"\nto = \"there\"\n{tables}"),
        );
        if pair == SqliteToPostgres {
            let sql = "CREATE TABLE things (id INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT, n INTEGER);
                INSERT INTO things (word, n) VALUES ('one', 10), ('two', 20), ('three', 30), ('four', 40), ('five', 50)";
            house.file("source.db").execute_batch(sql).unwrap();
        } else {
            house.put("source.json", TEXT);
        }
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
    fn json(&self) -> String {
        fs::read_to_string(self.path("source.json")).unwrap()
    }
    pub(crate) fn file(&self, name: &str) -> Connection {
        let file = Connection::open(self.path(name)).unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        file
    }
    /// Someone who may what the application may not.
    pub(crate) fn admin(&self) -> Client {
        self.database.as_ref().unwrap().admin()
    }
    pub(crate) fn server(&self) -> Client {
        self.database.as_ref().unwrap().client()
    }
    fn url(&self, name: &str) -> String {
        match (name, self.pair) {
            ("there", JsonToSqlite) => "sqlite:target.db".into(),
            ("there", _) => self.database.as_ref().unwrap().url.clone(),
            (_, SqliteToPostgres) => "sqlite:source.db".into(),
            _ => "json:source.json".into(),
        }
    }
    fn store(&self, name: &str) -> Box<dyn store::Store> {
        store::open(&self.url(name), self.folder.path(), false, &Gate::default()).unwrap()
    }

    pub(crate) fn project(&self) -> Project {
        let options = Options { batch: 2, writers_stopped: true, wait: Duration::from_secs(20), ..Options::default() };
        Project::open(self.folder.path(), &|_| None).unwrap().with(options)
    }

    /// Does this with a gate at which, before the named effects, in this order, these things happen.
    fn when<T: Send>(
        &self,
        script: Script<'_>,
        run: impl FnOnce(Project) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let (told, heard) = mpsc::channel::<String>();
        let (done, go_on) = mpsc::channel::<bool>();
        let go_on = Mutex::new(go_on);
        let gate = Gate::watched(move |what| {
            // the script is read by the thread that owns what it speaks of
            if told.send(what.to_owned()).is_ok() && go_on.lock().unwrap().recv() == Ok(true) {
                resume_unwind(Box::new("killed"));
            }
        });
        let project = self.project().gated(gate);
        std::thread::scope(move |threads| {
            let ran = threads.spawn(|| run(project));
            let done = done;
            let mut script = script.into_iter().peekable();
            for what in heard {
                let mut kill = false;
                if script.peek().is_some_and(|(when, _)| what.starts_with(when)) {
                    match script.next() {
                        Some((_, Some(act))) => act(),
                        _ => kill = true,
                    }
                }
                let _ = done.send(kill);
            }
            let out = ran.join().unwrap_or_else(|e| resume_unwind(e));
            assert!(script.peek().is_none(), "{} was never met", script.peek().unwrap().0);
            out
        })
    }

    /// Does this and is killed just before the named effect.
    fn killed(&self, at: &'static str, run: impl FnOnce(Project) -> Result<Outcome, Failure>) {
        let gate = Gate::watched(move |what| {
            if what.starts_with(at) {
                resume_unwind(Box::new("killed"));
            }
        });
        let project = self.project().gated(gate);
        let end = catch_unwind(AssertUnwindSafe(|| run(project)));
        assert!(end.is_err(), "{at} was never met: {:?}", end.map(|r| r.map(|o| o.phase)));
    }

    fn up(&self) {
        let out = self.project().up(&UpOptions::default()).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
    }
    pub(crate) fn until_ready(&self) {
        let out = self.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
        assert_eq!(out.phase, Some(Phase::Ready));
    }
    fn phase(&self) -> Phase {
        self.project().status().unwrap().unwrap().source.phase
    }

    /// The application does this to the source; in SQL, or by another spelling of the file.
    pub(crate) fn at_source(&self, sql: &str) {
        if self.pair == SqliteToPostgres {
            self.file("source.db").execute_batch(sql).unwrap();
        } else {
            let text = edited(&self.json(), sql);
            self.put("source.json", &text);
        }
    }
    /// The application does this to the target.
    pub(crate) fn at_target(&self, sql: &str) {
        self.try_target(sql).unwrap();
    }
    fn try_target(&self, sql: &str) -> Result<(), String> {
        if self.pair == JsonToSqlite {
            self.file("target.db").execute_batch(sql).map_err(|e| e.to_string())
        } else {
            self.server().batch_execute(sql).map_err(|e| format!("{:?}", e.as_db_error()))
        }
    }
    pub(crate) fn source(&self) -> Rows {
        if self.pair == SqliteToPostgres {
            return select(&self.file("source.db"));
        }
        let all: Vec<Json> = serde_json::from_str(&self.json()).unwrap();
        let mut rows: Rows =
            all.iter().map(|t| (t["id"].as_i64().unwrap(), t["word"].as_str().unwrap().to_owned())).collect();
        rows.sort();
        rows
    }
    fn target(&self) -> Rows {
        if self.pair == JsonToSqlite {
            return select(&self.file("target.db"));
        }
        let rows = self.server().query("SELECT id, word FROM things ORDER BY id", &[]).unwrap();
        rows.iter().map(|r| (r.get(0), r.get(1))).collect()
    }
}

const TEXT: &str = "[\n  {\"id\": 1, \"word\": \"one\", \"n\": 1E1},\n  {\"id\": 2, \"word\": \"two\", \"n\": 20.0},\n  {\"id\": 3, \"word\": \"three\", \"n\": 30.5},\n  {\"id\": 4, \"word\": \"four\", \"n\": 40.0},\n  {\"id\": 5, \"word\": \"five\", \"n\": 50.0}\n]\n";

fn select(file: &Connection) -> Rows {
    let mut s = file.prepare("SELECT id, word FROM things ORDER BY id").unwrap();
    s.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// Understands as much SQL as is written here: one INSERT, UPDATE or DELETE per statement.
fn edited(text: &str, sql: &str) -> String {
    let mut lines: Vec<String> =
        text.lines().filter(|l| l.contains("\"id\"")).map(|l| l.trim_end_matches(',').to_owned()).collect();
    let id = |s: &str| s.rsplit('=').next().unwrap().trim().to_owned();
    let at = |lines: &[String], id: &str| lines.iter().position(|l| l.contains(&format!("\"id\": {id},"))).unwrap();
    for one in sql.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        let quoted = one.split('\'').nth(1).unwrap_or_default();
        if one.starts_with("INSERT") {
            let new = one.split("VALUES (").nth(1).unwrap().split(',').next().unwrap();
            lines.push(format!("  {{\"id\": {new}, \"word\": \"{quoted}\", \"n\": 0.5}}"));
        } else if one.starts_with("DELETE") {
            lines.remove(at(&lines, &id(one)));
        } else if let Some(to) = one.strip_prefix("UPDATE things SET id = ") {
            let to = to.split(' ').next().unwrap();
            let i = at(&lines, &id(one));
            lines[i] = lines[i].replace(&format!("\"id\": {},", id(one)), &format!("\"id\": {to},"));
        } else {
            let i = at(&lines, &id(one));
            let word = lines[i].split("\"word\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            lines[i] = lines[i].replace(&format!("\"word\": \"{word}\""), &format!("\"word\": \"{quoted}\""));
        }
    }
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// What happens before which effects; `None`: we are killed there.
type Script<'h> = Vec<(&'static str, Option<Box<dyn Fn() + 'h>>)>;

fn act<'h>(what: impl Fn() + 'h) -> Option<Box<dyn Fn() + 'h>> {
    Some(Box::new(what))
}

fn rows(list: &[(i64, &str)]) -> Rows {
    list.iter().map(|(id, w)| (*id, (*w).to_owned())).collect()
}

fn first() -> Rows {
    rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")])
}

/// What everyone writes in between.
const WRITES: &str = "UPDATE things SET word = 'zwei' WHERE id = 2; UPDATE things SET id = 13 WHERE id = 3; \
    DELETE FROM things WHERE id = 4; INSERT INTO things (id, word) VALUES (6, 'six')";

fn after_writes() -> Rows {
    rows(&[(1, "one"), (2, "zwei"), (5, "five"), (6, "six"), (13, "three")])
}

fn go(project: Project) -> Result<Outcome, Failure> {
    project.up(&UpOptions::default())
}

fn back(project: Project) -> Result<Outcome, Failure> {
    project.rollback(&RollbackOptions::default())
}

fn rolled_back(house: &House) -> Outcome {
    let out = back(house.project()).unwrap();
    assert_eq!(out.phase, Some(Phase::RolledBack));
    assert!(out.verified.is_some_and(|v| v.differences.is_empty()));
    back(house.project()).unwrap_err();
    house.project().history().unwrap();
    Outcome::default()
}

// ── hand-over ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn p02_killed_between_drained_and_sealed_then_written_to() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.at_source("UPDATE things SET word = 'uno' WHERE id = 1");
        house.killed("giver: sealed", |p| p.cutover());
        assert_eq!(house.phase(), Phase::CuttingOver);
        // the source is live: it was never sealed
        house.at_source(WRITES);
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking), "{pair:?}");
        let mut wanted = after_writes();
        wanted[0].1 = "uno".into();
        assert_eq!(house.target(), wanted, "{pair:?}");
        // and the same on the way back
        house.at_target("UPDATE things SET word = 'fünf' WHERE id = 5");
        house.killed("giver: sealed", back);
        assert_eq!(house.phase(), Phase::RollingBack);
        house.at_target("UPDATE things SET id = 7 WHERE id = 6; DELETE FROM things WHERE id = 2");
        let now = house.target();
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?}");
        assert_eq!(house.source(), now, "{pair:?}");
    }
}

#[test]
fn p02_killed_before_the_receiver_opens_nobody_can_write() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.killed("receiver: open", |p| p.cutover());
        assert!(house.try_target("DELETE FROM things").is_err(), "{pair:?}");
        if pair == SqliteToPostgres {
            assert!(house.file("source.db").execute_batch("DELETE FROM things").is_err());
        }
        let out = house.project().abort().unwrap();
        assert_eq!(out.phase, Some(Phase::Aborted));
        house.at_source(WRITES);
        assert_eq!(house.source(), after_writes());
        house.up();
        assert_eq!(house.target(), after_writes());
        house.killed("receiver: open", back);
        assert!(house.try_target("DELETE FROM things").is_err(), "{pair:?}");
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        assert_eq!(house.source(), after_writes());
    }
}

#[test]
fn p02_after_a_rollback_capture_stays_until_both_sides_were_compared() {
    let service = "[[service]]\nname = \"app\"\nstop = \"true\"\nstart = \"true\"\n";
    for pair in PAIRS {
        let house = House::with(pair, service);
        house.up();
        house.at_target(WRITES);
        let seen = Mutex::new(Vec::new());
        let script: Script = vec![
            // the application is back and writes, before anything is compared
            ("start service app", act(|| house.at_source("UPDATE things SET word = 'uno' WHERE id = 1"))),
            (
                "target: closed",
                act(|| {
                    let state = house.store("here").state().unwrap().unwrap();
                    seen.lock().unwrap().push(state.captured_from.is_some());
                }),
            ),
        ];
        let out = house.when(script, back).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        assert_eq!(out.verified.unwrap().differences, Vec::<String>::new());
        assert_eq!(*seen.lock().unwrap(), [true]);
        let mut wanted = after_writes();
        wanted[0].1 = "uno".into();
        assert_eq!(house.source(), wanted);
        // nothing of ours stays in the source but the history
        assert!(house.store("here").state().unwrap().is_none());
        if pair == SqliteToPostgres {
            let n: i64 = house
                .file("source.db")
                .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%backout%'", [], |r| r.get(0))
                .unwrap();
            assert_eq!(n, 1);
        }
    }
}

impl House {
    /// Somebody else raises this side's epoch: what is under way has become a ghost.
    fn raise(&self, name: &str) {
        let mut store = self.store(name);
        store.begin(store::Mode::Write, &[]).unwrap();
        let mut state = store.state().unwrap().unwrap();
        state.epoch += 1;
        store.put_state(&state, None).unwrap();
        store.commit("another operator").unwrap();
    }
}

#[test]
fn p04_a_ghost_writes_neither_a_chunk_nor_a_drain_nor_a_seal() {
    for pair in PAIRS {
        let house = House::new(pair);
        let script: Script = vec![("source: phase backfilling", act(|| house.raise("there")))];
        house.when(script, go).unwrap_err();
        assert_eq!(house.target(), [], "{pair:?}: a chunk of a ghost");
        house.project().abort().unwrap();

        house.until_ready();
        if pair == SqliteToPostgres {
            house.at_source(WRITES);
            let script: Script = vec![("mark the change log", act(|| house.raise("there")))];
            house.when(script, |p| p.cutover()).unwrap_err();
            assert_eq!((house.target(), house.phase()), (first(), Phase::Ready), "a drain of a ghost");
            house.project().cutover().unwrap();
            assert_eq!(house.target(), after_writes());
            house.at_target("DELETE FROM things WHERE id = 1");
            let script: Script = vec![
                ("receiver: changes", act(|| {})),
                ("source: epoch", act(|| {})),
                ("target: epoch", act(|| house.at_target("DELETE FROM things WHERE id = 2"))),
                ("receiver: changes", act(|| house.raise("there"))),
            ];
            let end = house.when(script, back).unwrap_err();
            assert!(matches!(*end.error, Error::CalledOff { .. }), "{end:?}");
            assert_eq!(house.phase(), Phase::Soaking);
            house.at_target("UPDATE things SET word = 'it is not sealed' WHERE id = 5");
            rolled_back(&house);
            assert_eq!(house.source(), rows(&[(5, "it is not sealed"), (6, "six"), (13, "three")]));
        }
    }
}

#[test]
fn p02_a_receiver_that_was_withdrawn_meanwhile_is_not_opened() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        let script: Script = vec![(
            "giver: sealed",
            act(|| {
                let mut store = house.store("there");
                store.begin(store::Mode::Write, &[]).unwrap();
                let mut state = store.state().unwrap().unwrap();
                assert!(matches!(state.side, store::Side::Drained { .. }));
                state.side = store::Side::Withdrawn { epoch: state.epoch };
                store.put_state(&state, None).unwrap();
                store.commit("another operator").unwrap();
            }),
        )];
        house.when(script, |p| p.cutover()).unwrap_err();
        assert_eq!(house.phase(), Phase::Ready, "{pair:?}");
        assert!(house.try_target("DELETE FROM things").is_err(), "{pair:?}: it never opened");
        house.at_source(WRITES);
        house.project().cutover().unwrap();
        assert_eq!(house.target(), after_writes());
    }
}

#[test]
fn p04_killed_between_the_two_epochs() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.killed("target: epoch", |p| p.cutover());
        house.at_source(WRITES);
        // one side's epoch is ahead now: drains and hand-overs work all the same
        let out = house.project().resume(Some(Until::Ready)).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking), "{pair:?}");
        assert_eq!(house.target(), after_writes());
        house.killed("target: epoch", back);
        house.at_target("DELETE FROM things WHERE id = 1");
        let now = house.target();
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        assert_eq!(house.source(), now);
    }
}

#[test]
fn p01_a_target_that_is_still_being_filled_refuses_others() {
    for pair in [JsonToPostgres, SqliteToPostgres] {
        let house = House::new(pair);
        let tried = Mutex::new(0);
        let astray = || {
            for sql in ["INSERT INTO things (id, word) VALUES (77, 'astray')", "DELETE FROM things", "TRUNCATE things"]
            {
                let end = house.try_target(&format!("SET lock_timeout = '1s'; {sql}")).unwrap_err();
                assert!(end.contains("is resting") || sql.starts_with("TRUNCATE"), "{sql} {end}");
                *tried.lock().unwrap() += 1;
            }
        };
        let script: Script = vec![
            ("target: chunk 1", act(astray)),
            ("source: phase catching up", act(astray)),
            ("source: phase verifying", act(astray)),
        ];
        house.when(script, go).unwrap();
        assert_eq!((house.target(), *tried.lock().unwrap()), (first(), 9), "{pair:?}");
        house.at_target("DELETE FROM things WHERE id = 1");
        rolled_back(&house);
    }
}

#[test]
fn p01_a_writer_that_never_pauses_does_not_keep_us_out() {
    let house = House::new(SqliteToPostgres);
    let (say, hear) = mpsc::channel();
    let path = house.path("source.db");
    let writer = std::thread::spawn(move || {
        let file = Connection::open(path).unwrap();
        file.busy_timeout(Duration::from_secs(60)).unwrap();
        let mut written = 0;
        loop {
            let sql = format!("BEGIN IMMEDIATE; UPDATE things SET n = {} WHERE id = 1; COMMIT", written + 1);
            if let Err(e) = file.execute_batch(&sql) {
                return (written, e.to_string());
            }
            written += 1;
            if written == 100 {
                say.send(()).unwrap();
            }
        }
    });
    hear.recv().unwrap();
    house.up();
    let (written, end) = writer.join().unwrap();
    assert!(end.contains("backout: table things is resting"), "{end}");
    let n: i64 = house.server().query_one("SELECT n FROM things WHERE id = 1", &[]).unwrap().get(0);
    assert_eq!(n, written, "every write that was acknowledged is there");
}

// ── carrying ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What hangs is told, not waited for.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || say.send(work()));
    hear.recv_timeout(Duration::from_secs(60)).expect("it does not end")
}

#[test]
fn p06_a_backfill_that_is_cut_off_ends_and_goes_on() {
    for pair in PAIRS {
        let left = ends(move || {
            let house = House::new(pair);
            let one = Options { batch: 1, writers_stopped: true, wait: Duration::from_secs(20), ..Options::default() };
            house.killed("target: chunk 2", |p| go(p.with(one)));
            house
        });
        assert_eq!(left.phase(), Phase::Backfilling);
        left.at_source(WRITES);
        let out = left.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
        assert_eq!(left.target(), after_writes(), "{pair:?}");
    }
}

#[test]
fn p06_rows_written_at_every_moment_of_a_copy_arrive() {
    for pair in PAIRS {
        let house = House::new(pair);
        let script: Script = vec![
            ("target: tables", act(|| house.at_source("DELETE FROM things WHERE id = 1"))),
            ("target: chunk 1", act(|| house.at_source("UPDATE things SET id = 11 WHERE id = 2"))),
            ("target: chunk 2", act(|| house.at_source("INSERT INTO things (id, word) VALUES (6, 'six')"))),
            ("target: key", act(|| house.at_source("DELETE FROM things WHERE id = 3"))),
            ("receiver: changes", act(|| house.at_source("UPDATE things SET word = 'cinque' WHERE id = 5"))),
            ("target: indexes", act(|| house.at_source("INSERT INTO things (id, word) VALUES (1, 'again')"))),
            ("target: epoch", act(|| house.at_source("UPDATE things SET id = 12 WHERE id = 11"))),
        ];
        let out = house.when(script, go).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
        assert_eq!(
            house.target(),
            rows(&[(1, "again"), (4, "four"), (5, "cinque"), (6, "six"), (12, "two")]),
            "{pair:?}"
        );
        rolled_back(&house);
    }
}

#[test]
fn p09_a_move_that_is_carried_twice_keeps_the_rows_bytes() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.up();
        // two changes that come so late that the second is carried under the lease
        let script: Script = vec![
            ("source: epoch", act(|| house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2"))),
            ("receiver: changes", act(|| house.at_target("UPDATE things SET id = 11 WHERE id = 1"))),
            ("giver: sealed", None),
        ];
        let end = catch_unwind(AssertUnwindSafe(|| house.when(script, back)));
        assert!(end.is_err());
        assert!(house.json().contains("\"id\": 11, \"word\": \"one\", \"n\": 1E1"), "{}", house.json());
        let out = house.project().resume(None).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
        let wanted = TEXT.replace("\"id\": 1,", "\"id\": 11,").replace("two", "zwei");
        assert_eq!(house.json(), wanted, "{pair:?}: the row that moved is the same row, 1E1 and all");
    }
}

#[test]
fn p12_a_row_that_cannot_go_back_and_its_children_are_parked() {
    let house = House::new(SqliteToPostgres);
    house.at_source(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY, seen TIMESTAMP);
         INSERT INTO parents VALUES (1, '2025-01-01 10:00:00'), (2, '2025-01-02 11:00:00');
         CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id));
         CREATE TABLE grandchildren (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES children (id));",
    );
    house.up();
    house.at_target(
        "INSERT INTO parents VALUES (3, 'infinity'); UPDATE parents SET seen = 'infinity' WHERE id = 2;
         INSERT INTO children VALUES (1, 1), (2, 2), (3, 3), (4, NULL); INSERT INTO grandchildren VALUES (1, 1), (3, 3)",
    );
    let shadow = || house.project().shadow().unwrap().parked.len();
    assert_eq!(shadow(), 4, "both parents, and the child and grandchild of the one that is not there");
    assert_eq!(shadow(), 4, "tried again");
    let ids = |table: &str| -> Vec<i64> {
        let file = house.file("source.db");
        let mut s = file.prepare(&format!("SELECT id FROM {table} ORDER BY id")).unwrap();
        s.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!((ids("parents"), ids("children"), ids("grandchildren")), (vec![1, 2], vec![1, 2, 4], vec![1]));
    // what is mended goes through, with its children
    house.at_target("UPDATE parents SET seen = '2025-01-03 12:00:00' WHERE id = 3");
    assert_eq!(shadow(), 1);
    assert_eq!((ids("children"), ids("grandchildren")), (vec![1, 2, 3, 4], vec![1, 3]));
    let asked = RollbackOptions { clean_target: Some(true), ..RollbackOptions::default() };
    let out = house.project().rollback(&asked).unwrap();
    assert_eq!((out.phase, out.parked.len()), (Some(Phase::RolledBack), 1));
    assert!(out.kept.is_some(), "the only place where that row is whole");
}

#[test]
fn p14_rows_written_while_both_sides_are_compared_do_not_count() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.until_ready();
        house.at_source("UPDATE things SET word = 'a' WHERE id = 1; DELETE FROM things WHERE id = 2");
        // the drain in the comparison carries these; what is written while it does is still on its way
        let script: Script = vec![(
            "receiver: changes",
            act(|| {
                house.at_source(
                    "UPDATE things SET word = 'b' WHERE id = 1; INSERT INTO things (id, word) VALUES (8, 'eight')",
                )
            }),
        )];
        let out = house.when(script, |p| p.verify()).unwrap();
        assert_eq!(out.verified.unwrap().differences, Vec::<String>::new(), "{pair:?}");
        // what differs for good does count
        let raw = house.store("there").state().unwrap().unwrap();
        assert_eq!(raw.phase, Phase::Preparing, "the source's word counts");
        house.project().cutover().unwrap();
        assert_eq!(house.target(), rows(&[(1, "b"), (3, "three"), (4, "four"), (5, "five"), (8, "eight")]));
    }
}

#[test]
fn p14_what_is_compared_while_indexes_are_built_is_sealed_before() {
    for pair in [JsonToPostgres, SqliteToPostgres] {
        let house = House::new(pair);
        let stranger = "SET lock_timeout = '5s'; UPDATE things SET word = 'stray' WHERE id = 3";
        let refused = || assert!(house.try_target(stranger).unwrap_err().contains("25006"));
        let script: Script = vec![("source: phase catching up", act(refused)), ("target: indexes", act(refused))];
        let asked = UpOptions { until: Until::Ready, ..UpOptions::default() };
        let out = house.when(script, |p| p.up(&asked)).unwrap();
        assert_eq!(out.verified.unwrap().rows[0].1, 5, "{pair:?}");
        assert_eq!(house.target(), rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]));
    }
}

#[test]
fn p13_rows_of_a_misdirected_application_do_not_stay_in_the_target() {
    for pair in PAIRS {
        let house = House::new(pair);
        let script: Script = vec![(
            "source: phase catching up",
            act(|| {
                if pair != JsonToSqlite {
                    // the seal lets it pass, as it says that it is us
                    house.at_target("SELECT set_config('backout.session', run, false) FROM backout.run; INSERT INTO things (id, word) VALUES (77, 'astray'); UPDATE things SET word = 'x' WHERE id = 1");
                }
            }),
        )];
        let out = house.when(script, |p| p.up(&UpOptions { until: Until::Ready, ..UpOptions::default() })).unwrap();
        assert_eq!(out.phase, Some(Phase::Ready));
        assert_eq!(house.target(), first(), "{pair:?}");
        assert!(house.try_target("INSERT INTO things (id, word) VALUES (78, 'astray')").is_err());
        assert!(house.try_target("DELETE FROM things").is_err());
    }
}

// ── when capture cannot be trusted ─────────────────────────────────────────────────────────────────────────────────

fn schema_changed(failure: &Failure) -> bool {
    let of = |e: &Error| matches!(e, Error::Store(StoreError::Capture { schema_changed: true, .. }));
    match &*failure.error {
        Error::CalledOff { cause, .. } => of(cause),
        e => of(e),
    }
}

#[test]
fn p15_a_column_that_appears_in_the_source_during_the_copy_is_seen() {
    let house = House::new(SqliteToPostgres);
    let script: Script =
        vec![("target: chunk 1", act(|| house.at_source("ALTER TABLE things ADD COLUMN more TEXT DEFAULT 'm'")))];
    let end = house.when(script, go).unwrap_err();
    assert!(schema_changed(&end), "{end:?}");
    assert!(end.hint.contains("backout abort"), "{}", end.hint);
    house.project().abort().unwrap();
    house.up();
    let n: i64 = house.server().query_one("SELECT count(*) FROM things WHERE more = 'm'", &[]).unwrap().get(0);
    assert_eq!(n, 5);
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        let with = TEXT.replace("\"id\": 2,", "\"id\": 2, \"more\": true,");
        let script: Script = vec![("target: chunk 1", act(|| house.put("source.json", &with)))];
        let end = house.when(script, go).unwrap_err();
        assert!(schema_changed(&end), "{end:?}");
        house.project().abort().unwrap();
        house.up();
        rolled_back(&house);
        assert_eq!(house.json(), with);
    }
}

#[test]
fn p15_the_targets_schema_changes_while_soaking() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.up();
        house.at_target(WRITES);
        house.at_target("ALTER TABLE things ADD COLUMN extra text");
        house.at_target("UPDATE things SET word = 'mit', extra = 'e' WHERE id = 1");
        for end in [house.project().shadow().unwrap_err(), back(house.project()).unwrap_err()] {
            assert!(schema_changed(&end), "{end:?}");
            assert!(!end.hint.contains("abort"), "there is nothing to abort while soaking: {}", end.hint);
            assert!(
                end.hint.contains("things") || end.hint.contains("column") || end.hint.contains("table"),
                "{}",
                end.hint
            );
        }
        assert_eq!(house.phase(), Phase::Soaking);
        // the application goes on meanwhile, and once the table is as it was, nothing was lost
        house.at_target("UPDATE things SET word = 'weiter' WHERE id = 5");
        house.at_target("ALTER TABLE things DROP COLUMN extra");
        let now = house.target();
        rolled_back(&house);
        assert_eq!(house.source(), now, "{pair:?}");
    }
}

#[test]
fn p15_a_rewrite_that_no_trigger_sees_is_carried() {
    let house = House::new(SqliteToPostgres);
    house.up();
    house.at_target("ALTER TABLE things ALTER n TYPE bigint USING n * 100");
    rolled_back(&house);
    let n: i64 = house.file("source.db").query_row("SELECT sum(n) FROM things", [], |r| r.get(0)).unwrap();
    assert_eq!(n, 15000);
    for pair in [JsonToPostgres, SqliteToPostgres] {
        let house = House::new(pair);
        house.up();
        house.at_target("ALTER TABLE things DISABLE TRIGGER USER");
        house.at_target(WRITES);
        house.at_target("ALTER TABLE things ENABLE TRIGGER USER");
        house.at_target("UPDATE things SET word = 'uno' WHERE id = 1");
        let now = house.target();
        rolled_back(&house);
        assert_eq!(house.source(), now, "{pair:?}");
    }
}

#[test]
fn p15_a_dropped_target_is_never_taken_for_an_empty_one() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.up();
        house.at_target("UPDATE things SET word = 'uno' WHERE id = 1");
        house.project().shadow().unwrap();
        let kept = house.source();
        house.at_target("DROP TABLE things");
        for end in [house.project().shadow().unwrap_err(), back(house.project()).unwrap_err()] {
            assert!(schema_changed(&end), "{pair:?} {end:?}");
        }
        assert_eq!(house.source(), kept);
        assert_eq!(house.phase(), Phase::Soaking);
    }
}

/// The target as it is now, to be put back later as a restored backup would.
enum Copy<'h> {
    File(&'h House, Vec<u8>),
    Server(&'h House),
}

impl Copy<'_> {
    fn of(house: &House) -> Copy<'_> {
        if house.pair == JsonToSqlite {
            return Copy::File(house, fs::read(house.path("target.db")).unwrap());
        }
        house
            .server()
            .batch_execute(
                "CREATE SCHEMA copy; CREATE TABLE copy.things AS TABLE things; CREATE TABLE copy.log AS TABLE backout.log_0;
                 CREATE TABLE copy.mark AS TABLE backout.mark; CREATE TABLE copy.run AS TABLE backout.run",
            )
            .unwrap();
        Copy::Server(house)
    }
    fn restore(self) {
        match self {
            Copy::File(house, bytes) => fs::write(house.path("target.db"), bytes).unwrap(),
            Copy::Server(house) => house
                .server()
                .batch_execute(
                    "SELECT set_config('backout.session', run, false) FROM backout.run; DELETE FROM things; INSERT INTO things TABLE copy.things;
                     DELETE FROM backout.log_0; INSERT INTO backout.log_0 TABLE copy.log; DELETE FROM backout.mark;
                     INSERT INTO backout.mark TABLE copy.mark; DELETE FROM backout.run; INSERT INTO backout.run TABLE copy.run;
                     DROP SCHEMA copy CASCADE",
                )
                .unwrap(),
        }
    }
}

#[test]
fn p16_what_a_restored_target_does_not_have_any_more_is_parked() {
    for pair in PAIRS {
        let house = House::new(pair);
        house.up();
        house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2");
        house.project().shadow().unwrap();
        let copy = Copy::of(&house);
        house.at_target("INSERT INTO things (id, word) VALUES (6, 'six'); DELETE FROM things WHERE id = 4; UPDATE things SET word = 'uno' WHERE id = 1");
        house.project().shadow().unwrap();
        assert_eq!(house.source().len(), 5);
        copy.restore();
        house.at_target("INSERT INTO things (id, word) VALUES (7, 'seven')");
        // what is deleted once we follow it again is a deletion
        let script: Script =
            vec![("receiver: doubt resolved", act(|| house.at_target("DELETE FROM things WHERE id = 3")))];
        let out = house.when(script, |p| p.shadow()).unwrap();
        assert_eq!(out.parked.len(), 1, "{pair:?} {:?}", out.parked);
        assert!(out.parked[0].contains("key 6"), "{:?}", out.parked);
        let wanted = rows(&[(1, "one"), (2, "zwei"), (4, "four"), (5, "five"), (7, "seven")]);
        assert_eq!((house.source(), house.target()), (wanted.clone(), wanted), "{pair:?}");
        let kept = house.store("here").state().unwrap().unwrap().run;
        let kept = house.store("here").parked(&kept).unwrap();
        assert!(backout::value::Key(kept[0].row.clone()).to_string().contains("'six'"), "the row is kept whole");
        // it is not tried again, and a rollback tells of it
        house.at_target("DELETE FROM things WHERE id = 5");
        house.project().shadow().unwrap();
        let out = house.project().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!((out.phase, out.parked.len()), (Some(Phase::RolledBack), 1), "{pair:?}");
        assert_eq!(house.source(), rows(&[(1, "one"), (2, "zwei"), (4, "four"), (7, "seven")]), "{pair:?}");
    }
}

#[test]
fn p16_a_lost_trigger_is_not_a_restored_target() {
    let house = House::new(SqliteToPostgres);
    house.up();
    house.at_target("ALTER TABLE things DISABLE TRIGGER USER; DELETE FROM things WHERE id = 4; ALTER TABLE things ENABLE TRIGGER USER");
    let out = house.project().shadow().unwrap();
    assert_eq!((out.parked.len(), house.source().len()), (0, 4), "a deletion that went unseen is carried");
    house.at_target(
        "ALTER TABLE things DISABLE TRIGGER USER; DELETE FROM things WHERE id = 5; DELETE FROM backout.mark",
    );
    assert_eq!(house.project().shadow().unwrap().parked.len(), 1, "broken capture does not hide another incarnation");
}

// ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn p20_a_write_between_the_drain_and_the_seal_is_not_lost() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.until_ready();
        let script: Script = vec![("giver: sealed", act(|| house.at_source(WRITES)))];
        let end = house.when(script, |p| p.cutover()).unwrap_err();
        assert!(matches!(*end.error, Error::CalledOff { .. }), "{end:?}");
        assert_eq!(house.phase(), Phase::Ready);
        house.project().cutover().unwrap();
        assert_eq!(house.target(), after_writes(), "{pair:?}");
    }
}

#[test]
fn p20_what_someone_wrote_to_the_resting_file_is_noticed_at_once() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.up();
        let ours = house.json();
        let theirs = ours.replace("three", "theirs");
        house.put("source.json", &theirs);
        // there is nothing to drain
        for end in [house.project().shadow().unwrap_err(), back(house.project()).unwrap_err()] {
            assert!(matches!(&*end.error, Error::Refused { .. } | Error::Store(StoreError::Refused { .. })), "{end:?}");
            assert!(end.to_string().contains("someone wrote to it"), "{end}");
        }
        assert_eq!(house.json(), theirs, "nothing of theirs is overwritten");
        assert_eq!(house.phase(), Phase::Soaking);
        house.put("source.json", &ours);
        // and while it is handed back
        let script: Script = vec![("giver: sealed", act(|| house.put("source.json", &theirs)))];
        let end = house.when(script, back).unwrap_err();
        assert!(matches!(*end.error, Error::CalledOff { .. }), "{end:?}");
        assert_eq!((house.json(), house.phase()), (theirs, Phase::Soaking));
        house.put("source.json", &ours);
        house.at_target(WRITES);
        rolled_back(&house);
        assert_eq!(house.source(), after_writes(), "{pair:?}");
    }
}

// ── people ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn p04_two_operators_at_once_make_one_run() {
    for pair in PAIRS {
        let house = House::new(pair);
        let ends: Vec<Result<Outcome, Failure>> = std::thread::scope(|threads| {
            let both: Vec<_> = (0..2).map(|_| threads.spawn(|| go(house.project()))).collect();
            both.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ends.iter().any(Result::is_ok), "{ends:?}");
        assert_eq!(house.phase(), Phase::Soaking);
        assert_eq!(house.target(), first(), "{pair:?}");
        rolled_back(&house);
        assert_eq!(house.source(), first());
        assert_eq!(house.project().history().unwrap().lines.len(), 2, "one run, told by both stores");
    }
}

/// Waits until someone else has this file open too: he waits for its lock.
fn waited_for(file: &Path) {
    let path = fs::canonicalize(file).unwrap();
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path)).count()
    };
    while open() < 2 {
        std::thread::yield_now();
    }
}

#[test]
fn p04_a_command_that_waited_for_another_looks_again_where_things_stand() {
    type Command = fn(Project) -> Result<Outcome, Failure>;
    let (abort, complete): (Command, Command) = (|p| p.abort(), |p| p.complete(false));
    for (command, stood, stands) in [
        (abort, Phase::Ready, Phase::Soaking),
        (complete, Phase::Soaking, Phase::RollingBack),
        (back, Phase::Soaking, Phase::Completing),
        (|p| p.shadow(), Phase::Soaking, Phase::RollingBack),
    ] {
        let house = House::new(SqliteToPostgres);
        house.until_ready();
        if stood == Phase::Soaking {
            house.project().cutover().unwrap();
        }
        let mut other = house.store("here");
        other.lock(Duration::from_secs(20)).unwrap();
        let end = std::thread::scope(|threads| {
            let waiting = threads.spawn(|| command(house.project()));
            waited_for(&house.path("source.db-backout-lock"));
            // the other one's command goes on to somewhere else
            let mut state = other.state().unwrap().unwrap();
            state.phase = stands;
            other.begin(store::Mode::Write, &[]).unwrap();
            other.put_state(&state, None).unwrap();
            other.commit("the other one").unwrap();
            drop(other);
            waiting.join().unwrap()
        });
        let end = end.unwrap_err();
        assert!(matches!(*end.error, Error::Overtaken { .. }) && end.exit == 5, "{end:?}");
        assert_eq!(house.phase(), stands, "{stood:?}");
    }
}

#[test]
fn p25_each_drain_while_soaking_keeps_what_it_changes() {
    let house = House::new(SqliteToPostgres);
    house.up();
    house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2; INSERT INTO things (id, word) VALUES (6, 'six')");
    house.project().shadow().unwrap();
    house.at_target("UPDATE things SET word = 'due' WHERE id = 2; DELETE FROM things WHERE id = 3; UPDATE things SET id = 11 WHERE id = 1");
    house.project().shadow().unwrap();
    house.project().shadow().unwrap();
    let file = house.file("source.db");
    let mut s = file.prepare("SELECT drain, key, image, at FROM backout_image ORDER BY drain, key").unwrap();
    let kept: Vec<(i64, String, Option<String>)> = s
        .query_map([], |r| {
            let show = |b: Vec<u8>| backout::value::Key(b).to_string();
            assert!(r.get::<_, String>(3)?.parse::<jiff::Timestamp>().is_ok());
            Ok((r.get(0)?, show(r.get(1)?), r.get::<_, Option<Vec<u8>>>(2)?.map(show)))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let (one, two) = (kept[0].0, kept[kept.len() - 1].0);
    assert!(one < two);
    let row = |s: &str| Some(s.to_owned());
    let k = |i: i64| i.to_string();
    assert_eq!(
        kept,
        [
            (one, k(2), row("(2, 'two', 20)")),
            (one, k(6), None),
            (two, k(1), row("(1, 'one', 10)")),
            (two, k(2), row("(2, 'zwei', 20)")),
            (two, k(3), row("(3, 'three', 30)")),
            (two, k(11), None),
        ]
    );
}

#[test]
fn a15_numbers_go_on_on_both_sides() {
    let house = House::new(SqliteToPostgres);
    house.at_source("INSERT INTO things (word) VALUES ('six'); DELETE FROM things WHERE id = 6");
    house.up();
    let new = |word: &str| -> i64 {
        house.server().query_one("INSERT INTO things (word) VALUES ($1) RETURNING id", &[&word]).unwrap().get(0)
    };
    assert_eq!(new("seven"), 7, "6 was given once and is not given again");
    assert_eq!(new("eight"), 8);
    house.at_target("DELETE FROM things WHERE id = 8");
    rolled_back(&house);
    house.at_source("INSERT INTO things (word) VALUES ('nine')");
    assert_eq!(house.source().last().unwrap(), &(9, "nine".to_owned()));
    // and again
    house.up();
    assert_eq!(new("ten"), 10);
}

// ── a log that nobody drains ───────────────────────────────────────────────────────────────────────────────────────

const SHORT: &str = "[rollback]\nlog_limit = 1000\n";

impl House {
    /// Room for entries in the target's log that is taken.
    fn logged(&self) -> i64 {
        if self.pair == JsonToSqlite {
            let sql = "SELECT max(id) - min(id) FROM backout_log";
            return self.file("target.db").query_row(sql, [], |r| r.get(0)).unwrap();
        }
        let sql = "SELECT pg_relation_size('backout.log_0') / 80";
        self.server().query_one(sql, &[]).unwrap().get(0)
    }
    /// The application writes so much, in as many transactions.
    fn write_much(&self, times: i64) {
        if self.pair == JsonToSqlite {
            let file = self.file("target.db");
            file.execute_batch("BEGIN").unwrap();
            for n in 0..times {
                file.execute("UPDATE things SET word = ?1 WHERE id = 1", [format!("w{n}")]).unwrap();
            }
            file.execute_batch("COMMIT").unwrap();
        } else {
            let sql = "DO $$ BEGIN FOR i IN 0..TIMES LOOP UPDATE things SET word = 'w' || i WHERE id = 1; \
                IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$";
            self.at_target(&sql.replace("TIMES", &(times - 1).to_string()));
        }
    }
}

#[test]
fn p17_a_log_that_nobody_drains_ends_at_its_limit_and_says_so() {
    for pair in PAIRS {
        let house = House::with(pair, SHORT);
        house.up();
        assert!(house.project().status().unwrap().unwrap().problems.is_empty());
        house.write_much(3000);
        let full = house.logged();
        // some more than the limit, as room is counted in blocks
        assert!((900..3000).contains(&full), "{pair:?} {full}");
        house.write_much(3000);
        let grown = house.logged() - full;
        assert!(grown < 300, "{pair:?}: it does not grow any more, but by what new sessions try: {grown}");
        house.at_target("DELETE FROM things WHERE id = 4; INSERT INTO things (id, word) VALUES (6, 'six')");
        let told = house.project().status().unwrap().unwrap().problems;
        assert!(told.len() == 1 && told[0].contains("reached its limit"), "{pair:?} {told:?}");
        // what the log does not have is found by comparing both sides
        house.project().shadow().unwrap();
        assert_eq!(house.source(), house.target(), "{pair:?}");
        assert!(house.project().status().unwrap().unwrap().problems.is_empty());
        house.at_target(WRITES_AGAIN);
        rolled_back(&house);
        assert_eq!(house.source(), rows(&[(1, "w2999"), (2, "two"), (5, "fünf"), (6, "six")]), "{pair:?}");
    }
}

const WRITES_AGAIN: &str = "DELETE FROM things WHERE id = 3; UPDATE things SET word = 'fünf' WHERE id = 5";

#[test]
fn p17_a_log_that_fills_up_during_a_drain_is_not_taken_for_a_short_one() {
    for pair in PAIRS {
        let house = House::with(pair, SHORT);
        house.up();
        house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2");
        let script: Script = vec![(
            "receiver: changes",
            act(|| {
                house.write_much(3000);
                house.at_target("DELETE FROM things WHERE id = 4");
            }),
        )];
        house.when(script, |p| p.shadow()).unwrap();
        rolled_back(&house);
        assert_eq!(house.source(), rows(&[(1, "w2999"), (2, "zwei"), (3, "three"), (5, "five")]), "{pair:?}");
    }
}

#[test]
fn p17_a_writer_with_an_older_view_is_not_left_out_when_a_full_log_begins_anew() {
    let house = House::with(SqliteToPostgres, SHORT);
    house.up();
    // he has met the log full, and his snapshot has it full for ever
    let mut app = house.server();
    app.batch_execute(
        "DO $$ BEGIN FOR i IN 0..5000 LOOP UPDATE things SET word = 'w' || i WHERE id = 1; IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )
    .unwrap();
    app.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    house.project().shadow().unwrap();
    app.batch_execute("UPDATE things SET word = 'late' WHERE id = 2; COMMIT").unwrap();
    rolled_back(&house);
    assert_eq!(house.source()[1].1, "late");
}

#[test]
fn p16_killed_while_capture_is_put_up_anew_a_deletion_is_still_a_deletion() {
    for at in ["giver: change capture anew", "receiver: doubt resolved", "receiver: changes"] {
        for pair in PAIRS {
            let house = House::new(pair);
            house.up();
            house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2");
            house.project().shadow().unwrap();
            if pair == JsonToSqlite {
                let sql = "DROP TRIGGER backout_capture_delete__things; DELETE FROM things WHERE id = 4; VACUUM";
                house.at_target(sql);
            } else {
                house.at_target("ALTER TABLE things DISABLE TRIGGER USER; DELETE FROM things WHERE id = 4");
            }
            house.killed(at, |p| p.shadow());
            let out = house.project().shadow().unwrap();
            assert_eq!((out.parked, house.source().len()), (vec![], 4), "{pair:?} {at}");
            rolled_back(&house);
        }
    }
}

#[test]
fn p05_a_giver_whose_crash_took_back_what_it_gave_under_the_lease_is_compared() {
    let house = House::new(SqliteToPostgres);
    house.until_ready();
    let before = Mutex::new(Vec::new());
    let script: Script = vec![
        ("target: epoch", act(|| house.at_source("UPDATE things SET word = 'due' WHERE id = 2"))),
        (
            "receiver: changes",
            act(|| {
                *before.lock().unwrap() = fs::read(house.path("source.db")).unwrap();
                // so late that it is carried under the lease, which never commits
                house.at_source("UPDATE things SET word = 'uno' WHERE id = 1");
            }),
        ),
        ("giver: sealed", None),
    ];
    assert!(catch_unwind(AssertUnwindSafe(|| house.when(script, |p| p.cutover()))).is_err());
    assert_eq!(house.target()[0].1, "uno");
    // the machine crashed too, and an application without fsync had not made its last write durable
    fs::write(house.path("source.db"), &*before.lock().unwrap()).unwrap();
    house.project().resume(None).unwrap();
    assert_eq!(house.phase(), Phase::Soaking);
    assert_eq!(house.target()[..2], rows(&[(1, "one"), (2, "due")]));
    rolled_back(&house);
}

#[test]
fn p09_a_row_deleted_and_born_anew_inherits_nothing_of_the_dead_one() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.up();
        assert!(house.json().contains("1E1"));
        house.at_target("DELETE FROM things WHERE id = 1; INSERT INTO things (id, word, n) VALUES (1, 'one', 10)");
        rolled_back(&house);
        assert!(!house.json().contains("1E1"), "{pair:?}: {}", house.json());
        assert_eq!(house.source(), first());
    }
}
