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

// ── emergency and salvage ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn p22_a_stopped_server_is_done_without_and_what_it_had_is_salvaged() {
    let server = Server::new();
    let house = House::on(&server);
    house.up();
    let (carried, before) = written(&house);
    let later = house.target_time();
    server.stop();
    // an ordinary rollback changes nothing, and says what is left to do
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency"), "{}", said.hint);
    assert_eq!((said.code(), house.phase()), ("target_lost", Some(Phase::Soaking)));
    fs::remove_dir_all(house.path(".backout")).unwrap();
    let out = house.emergency();
    assert_eq!(out.phase, Some(Phase::Outstanding));
    // what is said to be carried is what is there, no more and no less
    assert_eq!(house.source(), carried);
    assert!(before <= upto(&out) && upto(&out) < later, "{before} {:?} {later}", out.upto);
    assert!(out.notes.iter().any(|n| n.contains("may still take writes")), "{:?}", out.notes);
    house.runs_on_the_source();
    // what is outstanding stays visible, and nothing is put on top of it
    let status = house.project().status().unwrap().unwrap();
    assert_eq!((status.source.phase, status.live.as_str()), (Phase::Outstanding, "source"));
    assert!(house.project().up(&UpOptions::default()).unwrap_err().hint.contains("salvage"));
    for refused in [house.project().abort(), house.project().complete(false), house.project().shadow()] {
        assert_eq!(refused.unwrap_err().exit, 4);
    }
    assert!(house.project().salvage(false).is_err());
    // the application writes on: 3 and 7 on both sides now, 8 the same, 1 here alone
    house.at_source(&[(3, Some("trois")), (7, Some("sept")), (8, Some("eight")), (1, Some("un"))]);
    // and its own numbers do not meet those that the target gave
    let file = house.sqlite("source.db");
    file.execute("INSERT INTO things (word) VALUES ('born')", []).unwrap();
    let born = file.last_insert_rowid();
    assert!(born > 10_000, "{born}");
    drop(file);
    server.start();
    let out = ok(house.project().salvage(false));
    assert_eq!(out.phase, Some(Phase::RolledBack));
    let mut wanted = rows(&[(1, "un"), (2, "zwei"), (3, "trois"), (6, "six"), (7, "sept"), (8, "eight")]);
    wanted.push((born, "born".into()));
    assert_eq!(house.source(), wanted);
    assert_eq!(out.parked.len(), 2, "{:?}", out.parked);
    let left = house.exported(&out);
    let both = |l: &Json| (l["key"]["id"].as_i64(), l["before"]["word"].clone(), l["after"]["word"].clone());
    let left: Vec<_> = left.iter().map(both).collect();
    assert_eq!(left, [(Some(3), "trois".into(), "drei".into()), (Some(7), "sept".into(), "seven".into())]);
    assert_eq!(house.phase(), None);
    // the target is aside, and the migration may be tried again
    house.up();
    let out = ok(house.project().rollback(&RollbackOptions::default()));
    assert!(out.verified.unwrap().differences.is_empty());
    assert_eq!(house.source(), wanted);
}

#[test]
fn p22_a_server_that_hangs_is_waited_for_no_longer_than_the_budget() {
    let mut server = Server::new();
    let house = House::on(&server);
    house.up();
    let (carried, _) = written(&house);
    server.hang();
    let begun = Instant::now();
    let out = house.emergency();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(out.budget, Some((8.0, true)));
    assert_eq!(house.source(), carried);
    house.runs_on_the_source();
    // it takes a write when it wakes, as it was said that it may
    server.go_on();
    house.at_target("INSERT INTO things (id, word) VALUES (9, 'nine')");
    let out = ok(house.project().salvage(false));
    assert!(out.parked.is_empty(), "{:?}", out.parked);
    assert_eq!(
        house.source(),
        rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight"), (9, "nine")])
    );
}

#[test]
fn p22_a_wrong_address_that_answers_nothing_is_no_obstacle() {
    let house = House::new(SqliteToPostgres);
    house.up();
    let (carried, _) = written(&house);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://who@127.0.0.1:{}/nowhere", silent.local_addr().unwrap().port());
    house.config(&format!("{url}?connect_timeout=1"), "");
    // whoever asks is told within the limit of the address
    let begun = Instant::now();
    let status = house.project().status().unwrap().unwrap();
    assert_eq!(status.problems.len(), 1, "{:?}", status.problems);
    assert!(house.project().rollback(&RollbackOptions::default()).unwrap_err().hint.contains("--emergency"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    house.config(&url, "");
    let begun = Instant::now();
    house.emergency();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(house.source(), carried);
    // with the address mended the rest comes; the target could be written to until then
    house.config(&house.target, "");
    house.at_target("INSERT INTO things (id, word) VALUES (9, 'nine')");
    ok(house.project().salvage(false));
    assert!(house.try_target("INSERT INTO things (id, word) VALUES (10, 'ten')").is_err());
    assert!(house.source().contains(&(9, "nine".into())) && house.source().contains(&(7, "seven".into())));
}

#[test]
fn p22_a_target_that_answers_is_sealed_and_everything_is_carried() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        house.up();
        written(&house);
        let out = house.emergency();
        assert_eq!(out.phase, Some(Phase::RolledBack), "{out:?}");
        let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
        assert_eq!(house.source(), wanted, "{pair:?}");
        house.runs_on_the_source();
        assert_eq!(house.phase(), None);
    }
}

#[test]
fn p22_a_deleted_target_is_done_without_and_given_up() {
    let house = House::new(JsonToSqlite);
    house.up();
    let (carried, _) = written(&house);
    fs::remove_file(house.path("target.db")).unwrap();
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency"), "{}", said.hint);
    assert!(!house.path("target.db").exists());
    let out = house.emergency();
    assert_eq!((out.phase, house.source()), (Some(Phase::Outstanding), carried.clone()));
    house.runs_on_the_source();
    assert!(house.project().salvage(false).is_err());
    // to give writes up is asked for by name
    let backout = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_backout")).args(args).current_dir(house.folder.path()).output();
        done.unwrap().status.code()
    };
    assert_eq!((backout(&["salvage", "--forget"]), house.phase()), (Some(4), Some(Phase::Outstanding)));
    let name = house.project().config.name;
    assert_eq!((backout(&["salvage", "--forget", "--confirm", &name]), house.phase()), (Some(0), None));
    assert_eq!(house.source(), carried);
    house.up();
}

#[test]
fn p22_an_emergency_does_not_need_the_variable_that_names_the_target() {
    let house = House::new(SqliteToPostgres);
    house.config("${TARGET}", "");
    let text = fs::read_to_string(house.path("backout.toml")).unwrap();
    house.put("backout.toml", &text.replace("STORE = \"new\"", "STORE = \"${TARGET}\""));
    let said = house.project().up(&UpOptions::default()).unwrap_err();
    assert!(said.hint.contains("export TARGET") && house.phase().is_none(), "{said}");
    let target = house.target.clone();
    let known = |name: &str| (name == "TARGET").then(|| target.clone());
    let project = || Project::open(house.folder.path(), &known).unwrap();
    ok(project().up(&UpOptions::default()));
    house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
    ok(project().shadow());
    let carried = rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five"), (6, "six")]);
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency") && said.to_string().contains("TARGET"), "{said} {}", said.hint);
    let out = house.emergency();
    assert_eq!((out.phase, house.source()), (Some(Phase::Outstanding), carried));
    house.runs_on_the_source();
    assert_eq!(ok(project().salvage(false)).phase, Some(Phase::RolledBack));
}

#[test]
fn p22_a_dropped_table_leaves_the_emergency() {
    let house = House::new(SqliteToPostgres);
    house.up();
    let (carried, _) = written(&house);
    house.at_target("DROP TABLE things CASCADE");
    let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
    assert!(said.hint.contains("rollback --emergency"), "{}", said.hint);
    let out = house.emergency();
    assert_eq!((out.phase, house.source()), (Some(Phase::Outstanding), carried.clone()));
    assert!(out.notes.iter().any(|n| n.contains("things is gone")), "{:?}", out.notes);
    // what is still there is sealed
    assert!(house.try_target("INSERT INTO more VALUES (2, 1)").is_err());
    house.runs_on_the_source();
    assert!(house.project().salvage(false).is_err());
    ok(house.project().salvage(true));
    assert_eq!(house.source(), carried);
    // what was left there is set aside, and the place is free
    house.up();
}

#[test]
fn p22_an_emergency_cut_off_anywhere_goes_on() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        for at in ["target: sealed", "source: open", "source: phase outstanding"] {
            let house = House::new(pair);
            house.up();
            written(&house);
            let asked = RollbackOptions { emergency: true, ..Default::default() };
            // an effect at the target fails in its own thread, which the emergency does without
            if at != "target: sealed" {
                house.killed(at, |p| p.rollback(&asked));
                let out = ok(house.project().resume(None));
                assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?} {at}: {out:?}");
            } else {
                let at = at.to_owned();
                let gate = Gate::watched(move |what| {
                    if what == at {
                        resume_unwind(Box::new("killed"));
                    }
                });
                let out = ok(house.project().gated(gate).rollback(&asked));
                assert_eq!(out.phase, Some(Phase::Outstanding));
                ok(house.project().salvage(false));
            }
            let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted, "{pair:?} {at}");
            house.runs_on_the_source();
            assert_eq!(house.phase(), None);
        }
    }
}

#[test]
fn p22_an_emergency_in_a_cutover_that_was_cut_off_goes_back_to_where_it_was() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        for (at, gone) in [("receiver: open", false), ("receiver: open", true), ("source: soaking", false)] {
            let house = House::new(pair);
            let first = house.source();
            house.killed(at, |p| p.up(&UpOptions::default()));
            assert_eq!(house.phase(), Some(Phase::CuttingOver));
            if gone {
                house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
            }
            let out = house.emergency();
            let ends = if gone { Phase::Outstanding } else { Phase::RolledBack };
            assert_eq!((out.phase, house.source()), (Some(ends), first), "{pair:?} {at} {gone}");
            house.runs_on_the_source();
        }
    }
}

/// Killed in place of each effect, from the first to the last; each time it is gone on with by what `status` proposes.
fn swept(prepare: impl Fn() -> House, run: impl Fn(Project) -> Result<Outcome, Failure>, wanted: impl Fn(&House)) {
    for n in 1.. {
        let house = prepare();
        let gate = Gate::with_trap(n, |_| resume_unwind(Box::new("killed")));
        let project = house.project().gated(gate);
        let end = catch_unwind(AssertUnwindSafe(|| run(project)));
        // in the thread that asks the target it is the target that fails
        let done = matches!(&end, Ok(Ok(out)) if out.effects < n);
        match house.phase() {
            None => {}
            Some(Phase::Soaking) => drop(ok(run(house.project()))),
            Some(Phase::Outstanding) => drop(ok(house.project().salvage(false))),
            Some(_) => {
                let out = ok(house.project().resume(None));
                if out.phase == Some(Phase::Outstanding) {
                    ok(house.project().salvage(false));
                }
            }
        }
        assert_eq!(house.phase(), None, "killed at effect {n}");
        wanted(&house);
        house.runs_on_the_source();
        if done {
            assert!(n > 10, "{n}");
            return;
        }
    }
}

#[test]
fn p22_an_emergency_killed_at_each_effect() {
    let asked = RollbackOptions { emergency: true, ..Default::default() };
    swept(
        || {
            let house = House::new(JsonToSqlite);
            house.up();
            written(&house);
            house
        },
        |project| project.rollback(&asked),
        |house| {
            let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted);
        },
    );
}

#[test]
fn p22_a_salvage_killed_at_each_effect() {
    swept(
        || {
            let house = House::new(JsonToSqlite);
            house.up();
            written(&house);
            house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
            house.emergency();
            house.config(&house.target, "");
            house.at_source(&[(3, Some("trois")), (1, Some("un"))]);
            house
        },
        |project| project.salvage(false),
        |house| {
            let wanted = rows(&[(1, "un"), (2, "zwei"), (3, "trois"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted);
            let names =
                fs::read_dir(house.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let parked: Vec<String> = names.filter(|n| n.starts_with("backout-parked-")).collect();
            assert_eq!(fs::read_to_string(house.path(&parked[0])).unwrap().lines().count(), 1);
        },
    );
}

#[test]
fn p25_a_discard_killed_at_each_effect() {
    let asked = RollbackOptions { discard: true, ..Default::default() };
    swept(
        || {
            let house = House::new(JsonToSqlite);
            house.up();
            house.at_target("UPDATE things SET word = 'zwei' WHERE id = 2; DELETE FROM things WHERE id = 4");
            house.shadow();
            house.at_target(
                "UPDATE things SET word = 'deux' WHERE id = 2; INSERT INTO things (id, word) VALUES (6, 'six')",
            );
            house
        },
        |project| project.rollback(&asked),
        |house| {
            let wanted = rows(&[(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")]);
            assert_eq!(house.source(), wanted);
        },
    );
}

#[test]
fn p22_a_salvage_cut_off_and_written_to_meanwhile_does_not_take_it_for_a_conflict() {
    let house = House::new(SqliteToPostgres);
    house.up();
    written(&house);
    house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
    house.emergency();
    house.config(&house.target, "");
    house.killed("source: salvaged", |p| p.salvage(false));
    // from before it was read nobody writes to the target any more
    assert!(house.try_target("INSERT INTO things (id, word) VALUES (9, 'nine')").unwrap_err().contains("resting"));
    house.killed("target: closed", |p| p.salvage(false));
    // 7 has come by now, and the application changes it
    house.at_source(&[(7, Some("sept"))]);
    let out = ok(house.project().salvage(false));
    assert!(out.parked.is_empty(), "{:?}", out.parked);
    assert_eq!(house.source(), rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "sept"), (8, "eight")]));
}

#[test]
fn p16_a_salvaged_target_whose_log_is_not_the_one_known_is_compared_in_full() {
    let house = House::new(SqliteToPostgres);
    house.up();
    written(&house);
    house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
    house.emergency();
    house.at_source(&[(3, Some("trois")), (20, Some("mine"))]);
    house.config(&house.target, "");
    // as in a copy that was put back: the marker of the last drain is not there
    house.at_target("DELETE FROM backout.mark");
    let out = ok(house.project().salvage(false));
    // 5 is only here: whether the target deleted it, or never had it, cannot be told, so it stays
    let wanted = rows(&[
        (1, "one"),
        (2, "zwei"),
        (3, "trois"),
        (5, "five"),
        (6, "six"),
        (7, "seven"),
        (8, "eight"),
        (20, "mine"),
    ]);
    assert_eq!(house.source(), wanted);
    assert!(out.parked.iter().any(|p| p.contains("only in the source")), "{:?}", out.parked);
    assert!(out.parked.iter().any(|p| p.contains("changed on both sides")), "{:?}", out.parked);
}

// ── writes that are not trusted ────────────────────────────────────────────────────────────────────────────────────

/// Three drains, with a moment before each of the last two. Returns what the source was after each.
fn three_drains(house: &House) -> (Vec<Rows>, Vec<jiff::Timestamp>) {
    let mut states = Vec::new();
    let mut times = Vec::new();
    let steps = [
        "UPDATE things SET word = 'zwei' WHERE id = 2; INSERT INTO things (id, word) VALUES (6, 'six')",
        "UPDATE things SET word = 'xxx'; DELETE FROM things WHERE id = 3",
        "UPDATE things SET word = 'deux' WHERE id = 2; UPDATE things SET id = 40 WHERE id = 4; \
         INSERT INTO things (id, word) VALUES (3, 'again')",
    ];
    for sql in steps {
        while times.last().is_some_and(|t| house.target_time() <= *t) {
            std::thread::yield_now();
        }
        house.at_target(sql);
        house.shadow();
        states.push(house.source());
        let seen = house.project().status().unwrap().unwrap().source.drained_at.unwrap();
        times.push(seen.parse().unwrap());
    }
    house.at_target("INSERT INTO things (id, word) VALUES (50, 'never carried')");
    (states, times)
}

#[test]
fn p25_until_undoes_back_to_the_last_drain_before_and_exports_the_rest() {
    for (pair, gone) in
        [(JsonToSqlite, false), (SqliteToPostgres, false), (JsonToSqlite, true), (SqliteToPostgres, true)]
    {
        let house = House::new(pair);
        house.up();
        let (states, times) = three_drains(&house);
        if gone {
            house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
        }
        let asked = RollbackOptions { until: Some(times[0]), ..Default::default() };
        let out = ok(house.project().rollback(&asked));
        assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?}");
        assert_eq!(house.source(), states[0], "{pair:?} gone: {gone}");
        assert_eq!(upto(&out), times[0]);
        house.runs_on_the_source();
        let left = house.exported(&out);
        let never = |l: &Json| l["why"] == "never carried";
        assert_eq!(left.iter().filter(|l| never(l)).count(), usize::from(!gone), "{left:?}");
        let of = |id: i64| -> Vec<(Json, Json)> {
            let mine = left.iter().filter(|l| l["key"]["id"].as_i64() == Some(id));
            mine.map(|l| (l["before"]["word"].clone(), l["after"]["word"].clone())).collect()
        };
        assert_eq!(of(2), [("xxx".into(), "deux".into()), ("zwei".into(), "xxx".into())], "{pair:?}");
        assert_eq!(of(3), [(Json::Null, "again".into()), ("three".into(), Json::Null)], "{pair:?}");
        // a run whose target was not there is set aside when the next one finds it
        house.config(&house.target, "");
        house.up();
        assert_eq!(house.phase(), Some(Phase::Soaking));
    }
}

#[test]
fn p25_discard_goes_back_to_the_cutover_to_the_byte() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        let before = fs::read(house.path("source.json")).unwrap_or_default();
        let first = house.source();
        house.up();
        three_drains(&house);
        let out = ok(house.project().rollback(&RollbackOptions { discard: true, ..Default::default() }));
        assert_eq!(house.source(), first, "{pair:?}");
        if pair == JsonToSqlite {
            let after: Json = serde_json::from_slice(&fs::read(house.path("source.json")).unwrap()).unwrap();
            let was: Json = serde_json::from_slice(&before).unwrap();
            let sorted = |j: &Json| {
                let mut list: Vec<String> = j.as_array().unwrap().iter().map(ToString::to_string).collect();
                list.sort();
                list
            };
            assert_eq!(sorted(&after), sorted(&was));
        }
        assert!(out.notes.iter().any(|n| n.contains("left out")), "{:?}", out.notes);
        house.runs_on_the_source();
    }
}

#[test]
fn p25_an_undoing_cut_off_between_two_drains_goes_on_and_exports_each_row_once() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        let first = house.source();
        house.up();
        three_drains(&house);
        let n = house.project().status().unwrap().unwrap().source.drains;
        let asked = RollbackOptions { discard: true, ..Default::default() };
        house.killed(&format!("source: drain {} undone", n - 2), |p| p.rollback(&asked));
        assert_eq!(house.phase(), Some(Phase::RollingBack));
        let out = ok(house.project().resume(None));
        assert_eq!(house.source(), first, "{pair:?}");
        let lines: Vec<String> = house.exported(&out).iter().map(ToString::to_string).collect();
        let mut once = lines.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), lines.len());
        assert_eq!(
            lines.iter().filter(|l| l.contains("never carried\",\"") || l.contains("never carried\"}")).count(),
            1
        );
        house.runs_on_the_source();
    }
}

#[test]
fn p25_a_moment_before_the_cutover_is_refused_and_nothing_is_changed() {
    let house = House::new(JsonToSqlite);
    house.up();
    let asked = RollbackOptions { until: Some("2001-01-01T00:00:00Z".parse().unwrap()), ..Default::default() };
    let said = house.project().rollback(&asked).unwrap_err();
    assert!(said.hint.contains("--discard"), "{}", said.hint);
    assert_eq!(house.phase(), Some(Phase::Soaking));
    assert!(house.path("running").exists());
}

// ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn p12_parked_rows_are_exported_by_a_rollback_and_by_a_completion() {
    for complete in [false, true] {
        let house = House::new(SqliteToPostgres);
        house.up();
        house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
        house.at_target("ALTER TABLE things DROP CONSTRAINT IF EXISTS things_word_check");
        house.at_target("INSERT INTO things (id, word) VALUES (7, 'bad')");
        house.shadow();
        let out = if complete {
            ok(house.project().complete(false))
        } else {
            ok(house.project().rollback(&RollbackOptions::default()))
        };
        assert_eq!(out.parked.len(), usize::from(!complete), "{out:?}");
        let left = house.exported(&out);
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!((left[0]["key"]["id"].as_i64(), &left[0]["after"]["word"]), (Some(7), &Json::from("bad")));
        assert!(house.source().contains(&(6, "six".into())) && !house.source().contains(&(7, "bad".into())));
    }
}

#[test]
fn p20_a_resting_file_that_others_wrote_is_kept_and_gives_way_to_the_target() {
    for gone in [false, true] {
        let house = House::new(JsonToSqlite);
        house.up();
        let (carried, _) = written(&house);
        let mut foreign = carried.clone();
        foreign[0].1 = "by a stranger".into();
        foreign.push((77, "a stranger's".into()));
        house.put_json(&foreign);
        let bytes = fs::read(house.path("source.json")).unwrap();
        let said = house.project().rollback(&RollbackOptions::default()).unwrap_err();
        assert!(said.hint.contains("--emergency"), "{}", said.hint);
        assert_eq!(fs::read(house.path("source.json")).unwrap(), bytes);
        if gone {
            fs::remove_file(house.path("target.db")).unwrap();
        }
        let run = house.project().status().unwrap().unwrap().source.run;
        let out = house.emergency();
        let note = out.notes.iter().find(|n| n.contains("kept as")).unwrap();
        let copy = house.path(&format!("source.json.foreign-{run}"));
        assert!(note.contains(&copy.display().to_string()), "{note}");
        assert_eq!(fs::read(&copy).unwrap(), bytes);
        if gone {
            assert_eq!(house.source(), foreign);
        } else {
            let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
            assert_eq!(house.source(), wanted);
        }
        house.runs_on_the_source();
    }
}

#[test]
fn p20_what_others_wrote_to_a_resting_file_twice_is_kept_twice() {
    let house = House::new(JsonToSqlite);
    house.up();
    written(&house);
    let run = house.project().status().unwrap().unwrap().source.run;
    let mut kept = Vec::new();
    for word in ["first", "second"] {
        house.put_json(&rows(&[(1, word)]));
        kept.push(fs::read(house.path("source.json")).unwrap());
        let asked = RollbackOptions { emergency: true, ..Default::default() };
        house.killed("source: what is there is accepted", |p| p.rollback(&asked));
    }
    house.emergency();
    let copies = ["", "-2"].map(|end| fs::read(house.path(&format!("source.json.foreign-{run}{end}"))).unwrap());
    assert_eq!(copies.to_vec(), kept);
    assert!(!house.path(&format!("source.json.foreign-{run}-3")).exists());
    house.runs_on_the_source();
}

#[test]
fn m04_a_rollback_whose_time_is_used_up_is_called_off_and_says_so() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        // the application takes its time to stop
        let slow = SWITCH.replace("rm -f running", "sleep 0.4; rm -f running");
        let text = fs::read_to_string(house.path("backout.toml")).unwrap().replace(SWITCH, &slow);
        house.up();
        house.put("backout.toml", &text);
        house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
        let asked = RollbackOptions { timeout: Some(Duration::from_millis(350)), ..Default::default() };
        let said = house.project().rollback(&asked).unwrap_err();
        assert!(matches!(said.code(), "called_off" | "timed_out"), "{said}: {}", said.code());
        assert_eq!((said.exit, house.phase()), (1, Some(Phase::Soaking)));
        assert!(said.state.contains("runs on the target"), "{}", said.state);
        // it is live again, and nothing was lost
        assert!(house.path("running").exists());
        house.at_target("INSERT INTO things (id, word) VALUES (7, 'seven')");
        let out = ok(house.project().rollback(&RollbackOptions::default()));
        assert_eq!(out.budget, Some((300.0, true)), "{out:?}");
        assert!(house.source().ends_with(&rows(&[(6, "six"), (7, "seven")])));
    }
}

#[test]
fn m04_a_target_that_falls_silent_in_the_middle_ends_the_waiting_and_leaves_the_emergency() {
    let mut server = Server::new();
    let house = House::on(&server);
    house.up();
    written(&house);
    let (freeze, thaw) = server.freezing();
    // it falls silent when the rollback has just stopped the application
    let service = SWITCH.replace("rm -f running", &format!("rm -f running; {freeze}"));
    let service = service.replace("check =", "timeout = \"1s\"\ncheck =");
    let text = fs::read_to_string(house.path("backout.toml")).unwrap().replace(SWITCH, &service);
    house.put("backout.toml", &text);
    let backout = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_backout")).args(args).current_dir(house.folder.path()).output();
        let done = done.unwrap();
        (done.status.code(), serde_json::from_slice::<Json>(&done.stdout).unwrap())
    };
    let begun = Instant::now();
    let (code, said) = backout(&["rollback", "--timeout", "1s", "--json"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!((code, said["error"]["code"].as_str()), (Some(8), Some("target_lost")), "{said}");
    assert!(said["error"]["hint"].as_str().unwrap().contains("rollback --emergency"), "{said}");
    house.config(&house.target, "");
    let (code, said) = backout(&["rollback", "--emergency", "--timeout", "8s", "--json"]);
    assert_eq!((code, said["phase"].as_str()), (Some(0), Some("outstanding")), "{said}");
    // it had been carried before the application was stopped
    let wanted = rows(&[(1, "one"), (2, "zwei"), (3, "drei"), (6, "six"), (7, "seven"), (8, "eight")]);
    assert_eq!(house.source(), wanted);
    house.runs_on_the_source();
    assert!(Command::new("sh").args(["-c", &thaw]).status().unwrap().success());
    let (code, said) = backout(&["salvage", "--json"]);
    assert_eq!((code, said["phase"].as_str()), (Some(0), Some("rolled_back")), "{said}");
    assert_eq!(house.source(), wanted);
}

#[test]
fn p22_what_is_said_to_be_carried_is_true_to_the_write_while_a_writer_writes() {
    let server = Server::new();
    let house = House::on(&server);
    house.up();
    let url = server.url();
    let (told, heard) = std::sync::mpsc::channel::<(i64, jiff::Timestamp)>();
    let writer = std::thread::spawn(move || {
        let mut client = Client::connect(&url, NoTls).unwrap();
        for id in 100.. {
            if client.execute("INSERT INTO things (id, word) VALUES ($1, 'w')", &[&id]).is_err() {
                return id;
            }
            let Ok(row) = client.query_one("SELECT clock_timestamp()::text", &[]) else { return id + 1 };
            let at: String = row.get(0);
            let _ = told.send((id, at.replace("+00", "+00:00").parse().unwrap()));
        }
        0
    });
    for _ in 0..5 {
        house.shadow();
    }
    // a few more than were carried, certainly
    let mut ledger: Vec<_> = heard.iter().take(200).collect();
    server.stop();
    let attempted = writer.join().unwrap();
    ledger.extend(heard);
    let out = house.emergency();
    let here: Vec<i64> = house.source().into_iter().map(|(id, _)| id).filter(|id| *id >= 100).collect();
    let upto = upto(&out);
    let promised: Vec<i64> = ledger.iter().filter(|(_, at)| *at <= upto).map(|(id, _)| *id).collect();
    assert!(!promised.is_empty() && promised.len() < ledger.len(), "{} of {}", promised.len(), ledger.len());
    let lost: Vec<&i64> = promised.iter().filter(|id| !here.contains(id)).collect();
    assert!(lost.is_empty(), "said to be carried, and are not: {lost:?} (up to {upto})");
    server.start();
    ok(house.project().salvage(false));
    let here: Vec<i64> = house.source().into_iter().map(|(id, _)| id).filter(|id| *id >= 100).collect();
    assert!(ledger.iter().all(|(id, _)| here.contains(id)), "{} of {}", here.len(), ledger.len());
    // the last one may have been written though nobody was told
    assert!(here.iter().all(|id| *id <= attempted));
}

#[test]
fn p27_a_completion_that_is_cut_off_still_drops_what_it_was_told_to() {
    let house = House::new(SqliteToPostgres);
    house.up();
    house.killed("target: closed", |p| p.complete(true));
    assert_eq!(house.phase(), Some(Phase::Completing));
    ok(house.project().resume(None));
    let there: i64 = house
        .sqlite("source.db")
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'things'", [], |r| r.get(0))
        .unwrap();
    assert_eq!(there, 0);
}

#[test]
fn p23_a_target_is_kept_aside_or_dropped_and_the_way_up_is_free() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        for clean in [false, true] {
            let house = House::new(pair);
            for round in 0..2 {
                house.up();
                house.at_target(&format!("INSERT INTO things (id, word) VALUES ({}, 'new')", 10 + round));
                let asked = RollbackOptions { clean_target: Some(clean), ..Default::default() };
                let out = ok(house.project().rollback(&asked));
                assert_eq!(out.kept.is_some(), !clean, "{pair:?}: {:?}", out.kept);
                assert!(house.source().contains(&(10 + round, "new".into())));
                assert!(house.try_target("SELECT * FROM things").is_err());
            }
            let kept: i64 = if pair == JsonToSqlite {
                let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name LIKE '%things%'";
                house.sqlite("target.db").query_row(sql, [], |r| r.get(0)).unwrap()
            } else {
                let sql = "SELECT count(*) FROM pg_catalog.pg_tables WHERE tablename LIKE '%things%'";
                Client::connect(&house.target, NoTls).unwrap().query_one(sql, &[]).unwrap().get(0)
            };
            assert_eq!(kept, if clean { 0_i64 } else { 2 }, "{pair:?}");
        }
    }
}

/// A crash of the giver right after the receiver has what it gave must not take back what that was.
#[test]
fn p05_what_a_receiver_commits_is_durable_in_its_giver_before() {
    let server = Arc::new(Server::new());
    // commits are told before they are written, and nobody writes them soon
    for set in ["synchronous_commit = off", "wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"] {
        let mut admin = Client::connect(&server.url(), NoTls).unwrap();
        admin.batch_execute(&format!("ALTER SYSTEM SET {set}")).unwrap();
    }
    server.stop();
    server.start();
    let house = House::on(&server);
    house.up();
    house.shadow();
    house.at_target("INSERT INTO things (id, word) VALUES (6, 'six')");
    let (seen, crashing) = (Arc::new(Mutex::new(0)), server.clone());
    let gate = Gate::between(move |what| {
        let mut seen = seen.lock().unwrap();
        *seen += usize::from(what == "receiver: changes");
        if *seen == 2 {
            // it has committed just now
            *seen += 1;
            crashing.stop();
        }
    });
    house.project().gated(gate).shadow().unwrap_err();
    server.start();
    assert_eq!(house.source().last().unwrap(), &(6, "six".to_owned()));
    assert_eq!(ok(house.project().shadow()).parked, Vec::<String>::new(), "the target is no earlier state of itself");
    ok(house.project().rollback(&RollbackOptions::default()));
    assert_eq!(house.source().len(), 6);
}
