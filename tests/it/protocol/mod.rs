//! The protocol's interleavings, played through whole runs: the application writes, or we are killed, exactly before a
//! named effect. Each case is named after its rule in docs/protocol.md.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ::postgres::Client;
use backout::gate::Gate;
use backout::migrate::{Error, Failure, Options, Outcome, Project, RepairOptions, RollbackOptions, Until, UpOptions};
use backout::store::{self, Error as StoreError, Phase};
use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::database::Database;

mod carrying;
mod doubt;
mod files;
mod hand_over;
mod log;
mod people;

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
