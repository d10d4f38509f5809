//! The ways back when things are bad: the target is gone, hangs, lost a table, or what it took cannot be trusted. What is said to
//! be carried and not to be carried is held against a ledger of what the application was told is written.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::postgres::{Client, NoTls};
use backout::gate::Gate;
use backout::migrate::{Failure, Options, Outcome, Project, RollbackOptions, UpOptions};
use backout::store::{Phase, open};
use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::database::Database;

mod emergency;
mod ends;
mod untrusted;

type Rows = Vec<(i64, String)>;

fn rows(list: &[(i64, &str)]) -> Rows {
    list.iter().map(|(id, w)| (*id, (*w).to_owned())).collect()
}

// ── a server of one's own, that may be stopped ─────────────────────────────────────────────────────────────────────

struct Server {
    folder: TempDir,
    port: u16,
    stopped: bool,
    /// What lets it go on, if it may be frozen.
    frozen: Option<String>,
}

impl Server {
    fn new() -> Server {
        let folder = tempfile::Builder::new().prefix("pg.").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { folder, port, stopped: false, frozen: None };
        server.run("initdb", &["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync"]);
        server.start();
        server
    }

    fn run(&self, program: &str, args: &[&str]) {
        let bin = std::env::var("BACKOUT_TEST_PG_BIN").expect("start the tests with scripts/with-postgres");
        let program = format!("{bin}/{program}");
        let mut command = if rustix::process::getuid().is_root() {
            let mut c = Command::new("runuser");
            c.args(["-u", "postgres", "--", &program]);
            c
        } else {
            Command::new(&program)
        };
        let data = self.folder.path().join("data");
        let done = command.arg("-D").arg(data).args(args).current_dir(self.folder.path());
        let done = done.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(done.success(), "{program} {args:?}");
    }

    fn start(&self) {
        let folder = self.folder.path().display();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={folder} -c fsync=off",
            self.port
        );
        let log = format!("{folder}/log");
        self.run("pg_ctl", &["-w", "-t", "60", "-l", &log, "-o", &options, "start"]);
    }

    fn stop(&self) {
        self.run("pg_ctl", &["-m", "immediate", "-w", "stop"]);
    }

    /// The postmaster stops where it is, as a machine does that hangs: connections are taken, and nothing is said.
    fn hang(&mut self) {
        self.signal("STOP");
        self.stopped = true;
    }

    /// A command that stops every program of the server where it is, and the program that lets them go on.
    fn freezing(&mut self) -> (String, String) {
        let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let all = format!("{pid} $(cat /proc/{pid}/task/{pid}/children)");
        let thaw = format!("kill -CONT {all}");
        self.frozen = Some(thaw.clone());
        (format!("kill -STOP {all}"), thaw)
    }

    fn go_on(&mut self) {
        self.signal("CONT");
        self.stopped = false;
    }

    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stopped {
            self.signal("CONT");
        }
        if let Some(thaw) = self.frozen.take() {
            let _ = Command::new("sh").args(["-c", &thaw]).stderr(Stdio::null()).status();
        }
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.stop();
        }
    }
}

// ── an application ─────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    JsonToSqlite,
    SqliteToPostgres,
}
use Pair::{JsonToSqlite, SqliteToPostgres};

/// A project of five things, 1 to 5, and an application that writes wherever it is asked to.
struct House {
    pair: Pair,
    folder: TempDir,
    target: String,
    _database: Option<Database>,
}

const SWITCH: &str = "[[service]]\nname = \"app\"\nstop = \"rm -f running\"\nstart = \"touch running\"\n\
    check = \"test -f running\"\n[[switch]]\ndotenv = \".env\"\nset = { STORE = \"new\" }\n";

impl House {
    fn new(pair: Pair) -> House {
        let database = (pair == SqliteToPostgres).then(Database::new);
        let target = database.as_ref().map_or("sqlite:target.db".to_owned(), |d| d.url.clone());
        House::at(pair, target, database)
    }

    fn on(server: &Server) -> House {
        House::at(SqliteToPostgres, server.url(), None)
    }

    fn at(pair: Pair, target: String, database: Option<Database>) -> House {
        let house = House { pair, folder: tempfile::tempdir().unwrap(), target, _database: database };
        house.config(&house.target, "");
        house.put(".env", "STORE=old\n");
        house.put("running", "");
        fs::create_dir(house.path("migrations")).unwrap();
        let mut table = "";
        if pair == SqliteToPostgres {
            let sql =
                "CREATE TABLE things (id INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT CHECK (word NOT GLOB 'bad*'));
                CREATE TABLE more (id INTEGER PRIMARY KEY, thing INTEGER REFERENCES things (id));
                INSERT INTO things (word) VALUES ('one'), ('two'), ('three'), ('four'), ('five');
                INSERT INTO more VALUES (1, 1)";
            house.sqlite("source.db").execute_batch(sql).unwrap();
        } else {
            table = "[[transfer.table]]\nsource = \"$\"\nkey = \"id\"\ninto = \"things\"\nrequired = [\"word\"]\n";
            house.put_json(&rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]));
        }
        let migration = format!("title = \"Things move\"\n[transfer]\nfrom = \"here\"\nto = \"there\"\n{table}");
        house.put("migrations/20250301090000_move.toml", &migration);
        house
    }

    fn config(&self, target: &str, more: &str) {
        let from = if self.pair == SqliteToPostgres { "sqlite:source.db" } else { "json:source.json" };
        let text = format!("[stores]\nhere = \"{from}\"\nthere = \"{target}\"\n{more}{SWITCH}");
        self.put("backout.toml", &text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
    fn put_json(&self, list: &Rows) {
        let lines: Vec<String> =
            list.iter().map(|(id, word)| format!("  {{\"id\": {id}, \"word\": \"{word}\"}}")).collect();
        self.put("source.json", &format!("[\n{}\n]\n", lines.join(",\n")));
    }
    fn sqlite(&self, name: &str) -> Connection {
        let file = Connection::open(self.path(name)).unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        file
    }

    fn project(&self) -> Project {
        let options = Options { wait: Duration::from_secs(20), ..Options::default() };
        Project::open(self.folder.path(), &|_| None).unwrap().with(options)
    }
    fn up(&self) {
        let out = ok(self.project().up(&UpOptions::default()));
        assert_eq!(out.phase, Some(Phase::Soaking));
    }
    fn shadow(&self) {
        ok(self.project().shadow());
    }
    fn phase(&self) -> Option<Phase> {
        self.project().phase().unwrap()
    }
    fn emergency(&self) -> Outcome {
        let asked = RollbackOptions { emergency: true, timeout: Some(Duration::from_secs(8)), ..Default::default() };
        ok(self.project().rollback(&asked))
    }
    fn killed(&self, at: &str, run: impl FnOnce(Project) -> Result<Outcome, Failure>) {
        let at = at.to_owned();
        let met = at.clone();
        let gate = Gate::watched(move |what| {
            if what.starts_with(&at) {
                resume_unwind(Box::new("killed"));
            }
        });
        let project = self.project().gated(gate);
        let end = catch_unwind(AssertUnwindSafe(|| run(project)));
        assert!(end.is_err(), "{met} was never met: {:?}", end.map(|r| r.map(|o| o.phase)));
    }

    /// The application writes on the target; refused or not.
    fn try_target(&self, sql: &str) -> Result<(), String> {
        if self.pair == JsonToSqlite {
            return self.sqlite("target.db").execute_batch(sql).map_err(|e| e.to_string());
        }
        Client::connect(&self.target, NoTls).unwrap().batch_execute(sql).map_err(|e| format!("{e:?}"))
    }
    fn at_target(&self, sql: &str) {
        self.try_target(sql).unwrap();
    }
    fn target_time(&self) -> jiff::Timestamp {
        let url = if self.pair == JsonToSqlite { "sqlite:target.db" } else { &self.target };
        open(url, self.folder.path(), false, &Gate::default()).unwrap().now().unwrap().parse().unwrap()
    }
    fn source(&self) -> Rows {
        if self.pair == JsonToSqlite {
            let all: Vec<Json> = serde_json::from_slice(&fs::read(self.path("source.json")).unwrap()).unwrap();
            let mut list: Rows =
                all.iter().map(|t| (t["id"].as_i64().unwrap(), t["word"].as_str().unwrap().to_owned())).collect();
            list.sort();
            return list;
        }
        let file = self.sqlite("source.db");
        let mut s = file.prepare("SELECT id, word FROM things ORDER BY id").unwrap();
        s.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
    }
    /// The application, on the source, gives these words.
    fn at_source(&self, changes: &[(i64, Option<&str>)]) {
        if self.pair == SqliteToPostgres {
            let file = self.sqlite("source.db");
            for (id, word) in changes {
                match word {
                    Some(word) => {
                        let sql = "INSERT INTO things (id, word) VALUES (?1, ?2) \
                            ON CONFLICT (id) DO UPDATE SET word = excluded.word";
                        file.execute(sql, rusqlite::params![id, word]).unwrap()
                    }
                    None => file.execute("DELETE FROM things WHERE id = ?1", [id]).unwrap(),
                };
            }
            return;
        }
        let mut all = self.source();
        for (id, word) in changes {
            all.retain(|(i, _)| i != id);
            all.extend(word.map(|w| (*id, w.to_owned())));
        }
        self.put_json(&all);
    }
    /// The application runs on the source, by its configuration too.
    fn runs_on_the_source(&self) {
        assert_eq!(fs::read_to_string(self.path(".env")).unwrap(), "STORE=old\n");
        assert!(self.path("running").exists());
        self.at_source(&[(900, Some("probe"))]);
        self.at_source(&[(900, None)]);
    }
    fn exported(&self, out: &Outcome) -> Vec<Json> {
        let path = out.exported.as_ref().expect("a file of what is left out");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

#[track_caller]
fn ok(result: Result<Outcome, Failure>) -> Outcome {
    result.unwrap_or_else(|f| panic!("{f}\nstate: {}\nhint: {}\n{:?}", f.state, f.hint, f.error))
}

/// Some writes, the source having seen them; then some that it has not. Returns what it has, and a time between.
fn written(house: &House) -> (Rows, jiff::Timestamp) {
    house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2; DELETE FROM things WHERE id = 4");
    house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
    let before = house.target_time();
    house.shadow();
    let carried = rows(&[(1, "one"), (2, "zwei"), (3, "three"), (5, "five"), (6, "six")]);
    assert_eq!(house.source(), carried);
    // by the target's clock, so that no clock's grain matters
    let seen: jiff::Timestamp = house.project().status().unwrap().unwrap().source.drained_at.unwrap().parse().unwrap();
    assert!(before <= seen, "{before} {seen}");
    while house.target_time() <= seen {
        std::thread::yield_now();
    }
    house.at_target("UPDATE things SET word = 'drei' WHERE id = 3; DELETE FROM things WHERE id = 5");
    house.at_target("INSERT INTO things (id, word) VALUES (7, 'seven'), (8, 'eight')");
    (carried, before)
}

fn upto(out: &Outcome) -> jiff::Timestamp {
    out.upto.as_ref().unwrap().parse().unwrap()
}
