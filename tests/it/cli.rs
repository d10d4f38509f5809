//! The program itself, as a person or a script meets it: what it prints, what it ends with, and that a refusal changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::Database;

// ── a project in a folder of its own ───────────────────────────────────────────────────────────────────────────────

const STAMP: &str = "20250301090000";

struct Project {
    folder: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Both streams.
    fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
    /// The one object that `--json` prints.
    fn object(&self) -> Value {
        let mut found: Vec<Value> = serde_json::Deserializer::from_str(&self.stdout)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|e| panic!("no JSON: {e}: {self:?}"));
        assert_eq!(found.len(), 1, "not one object: {self:?}");
        let object = found.remove(0);
        assert_eq!(object["exit"], self.code, "{self:?}");
        assert_eq!(object["ok"], self.code == 0, "{self:?}");
        object
    }
    fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backout"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(folder).args(args).stdin(Stdio::null());
    command
}

fn ended(mut command: Command) -> Ran {
    let out = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: out.status.code().unwrap_or(-1), stdout: text(out.stdout), stderr: text(out.stderr) }
}

fn run(folder: &Path, args: &[&str]) -> Ran {
    ended(command(folder, args))
}

impl Project {
    /// A project that moves `from` to `to`; `tables` is the rest of the migration's file.
    fn new(from: &str, to: &str, tables: &str) -> Project {
        let p = Project { folder: tempfile::tempdir().unwrap() };
        p.write(
            "backout.toml",
            format!("[project]\nname = \"my-bot\"\n\n[stores]\nfrom = \"{from}\"\nto = \"{to}\"\n"),
        );
        fs::create_dir(p.path("migrations")).unwrap();
        let text = format!("title = \"Move house\"\n\n[transfer]\nfrom = \"from\"\nto = \"to\"\n{tables}");
        p.write(&format!("migrations/{STAMP}_move.toml"), text);
        p
    }
    /// A SQLite file with two tables that goes to `to`.
    fn sqlite(to: &str) -> Project {
        let p = Project::new("sqlite:app.db", to, "");
        p.source().execute_batch(APP).unwrap();
        p
    }
    /// A JSON file that goes to SQLite.
    fn json(text: &str) -> Project {
        let p = Project::new("json:bot.json", "sqlite:bot.db", JSON_TABLE);
        p.write("bot.json", text);
        p
    }
    /// A JSON file with good reminders, and a service, so that all goes through.
    fn bot() -> Project {
        let p = Project::json(BOT);
        p.add(SERVICE);
        p
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }
    /// More for backout.toml.
    fn add(&self, toml: &str) {
        self.write("backout.toml", fs::read_to_string(self.path("backout.toml")).unwrap() + toml);
    }
    fn source(&self) -> Connection {
        Connection::open(self.path("app.db")).unwrap()
    }
    fn run(&self, args: &[&str]) -> Ran {
        run(self.folder.path(), args)
    }
    fn json_of(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        self.run(&all).object()
    }
    /// Every file's bytes, but those that SQLite makes while somebody looks, and our own lock.
    fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut out = BTreeMap::new();
        let mut open = vec![self.folder.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    out.insert(path.clone(), Vec::new());
                    open.push(path);
                } else if !["-shm", "-wal", "-journal", ".lock"].iter().any(|e| path.to_string_lossy().ends_with(e)) {
                    out.insert(path.clone(), fs::read(&path).unwrap_or_default());
                }
            }
        }
        out
    }
    /// Runs the command twice, for people and for programs: an error with this exit and code that says all of `needles`, and nothing is
    /// changed by it.
    fn refuses(&self, args: &[&str], exit: i32, code: &str, needles: &[&str]) -> Ran {
        self.refuses_by(&|args| self.run(args), args, exit, code, needles)
    }
    fn refuses_by(&self, run: &dyn Fn(&[&str]) -> Ran, args: &[&str], exit: i32, code: &str, needles: &[&str]) -> Ran {
        let before = self.all();
        let people = run(args);
        assert_eq!(people.code, exit, "{people:?}");
        assert_eq!(people.stdout, "", "a result although it failed: {people:?}");
        assert!(people.stderr.contains("error: ") && people.stderr.contains("state: "), "{people:?}");
        assert!(people.stderr.contains("next: "), "what now? {people:?}");
        let flat = people.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for needle in needles {
            assert!(flat.contains(needle), "{needle:?} is not in {}", people.stderr);
        }
        let long = people.stderr.lines().find(|l| l.chars().count() > 80 && !l.contains('/'));
        assert_eq!(long, None, "wider than 80 columns");
        self.assert_same(&before, &people);
        let program = run(&[args, &["--json"]].concat());
        assert_eq!(program.code, exit, "{program:?}");
        let error = &program.object()["error"];
        assert_eq!(error["code"], code, "{program:?}");
        for part in ["message", "hint", "state"] {
            assert!(error[part].as_str().is_some_and(|t| !t.is_empty()), "no {part}: {program:?}");
        }
        self.assert_same(&before, &program);
        people
    }
    fn assert_same(&self, before: &BTreeMap<PathBuf, Vec<u8>>, ran: &Ran) {
        let after = self.all();
        let (a, b): (Vec<_>, Vec<_>) = (before.keys().collect(), after.keys().collect());
        assert_eq!(a, b, "{ran:?}");
        for (path, bytes) in before {
            assert!(after[path] == *bytes, "{} was changed: {ran:?}", path.display());
        }
    }
    fn phase(&self) -> String {
        self.json_of(&["status"])["source"]["phase"].as_str().unwrap_or("none").to_owned()
    }
}

const APP: &str = "create table users (id integer primary key, name text not null);
    insert into users values (1, 'Ada'), (2, 'Grace');
    create table notes (id integer primary key, user_id integer not null references users (id), body text);
    insert into notes values (1, 1, 'one'), (2, 2, null);";

const JSON_TABLE: &str =
    "\n[[transfer.table]]\nsource = \"$\"\nkey = \"event_id\"\ninto = \"events\"\nrequired = [\"title\"]\n";

const BOT: &str =
    "{\n  \"a\": {\"title\": \"Tea\", \"minutes\": 5},\n  \"b\": {\"title\": \"Bread\", \"minutes\": 40}\n}\n";

const SERVICE: &str = "\n[[service]]\nname = \"bot\"\nstop = \"true\"\nstart = \"true\"\n";

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

// ── PostgreSQL ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// Schemas and relations.
fn all(d: &Database) -> Vec<String> {
    let sql = "select nspname::text from pg_namespace where nspname !~ '^pg_(toast_)?temp' union all
               select n.nspname || '.' || relname from pg_class c join pg_namespace n on n.oid = relnamespace
               where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1";
    d.client().query(sql, &[]).unwrap().iter().map(|r| r.get(0)).collect()
}

// ── bad input: files ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_missing_file() {
    let p = Project::new("json:bot.json", "sqlite:bot.db", JSON_TABLE);
    for command in ["plan", "up"] {
        p.refuses(&[command], 2, "input", &["bot.json", "there is no such file", "check the path in backout.toml"]);
    }
    let p = Project::new("sqlite:app.db", "sqlite:other.db", "");
    p.refuses(&["up"], 2, "input", &["app.db", "there is no such file"]);
    assert!(!p.path("app.db").exists());
}

/// As somebody who has no rights of root.
fn as_nobody(folder: &Path, args: &[&str]) -> Ran {
    if !rustix::process::geteuid().is_root() {
        return run(folder, args);
    }
    let mut c = Command::new("setpriv");
    c.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_backout")]).args(args);
    c.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(folder);
    ended(c)
}

#[test]
fn a_file_that_may_not_be_read() {
    for (p, file) in [(Project::json(BOT), "bot.json"), (Project::sqlite("postgres://nobody@localhost:1/x"), "app.db")]
    {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(p.folder.path(), Some(65534), Some(65534)).unwrap();
        }
        fs::set_permissions(p.path(file), fs::Permissions::from_mode(0o000)).unwrap();
        p.refuses_by(&|args| as_nobody(p.folder.path(), args), &["up"], 2, "input", &[file, "it may not be read"]);
    }
}

#[test]
fn a_folder_that_may_not_be_written() {
    for p in [Project::json(BOT), Project::sqlite("postgres://nobody@localhost:1/x")] {
        fs::set_permissions(p.folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        p.refuses_by(&|args| as_nobody(p.folder.path(), args), &["up"], 4, "refused", &["folder"]);
    }
}

#[test]
fn not_a_database() {
    let p = Project::new("sqlite:app.db", "sqlite:other.db", "");
    p.write("app.db", "Dear diary, today I was renamed to .db. ".repeat(200));
    p.refuses(&["up"], 2, "input", &["app.db", "is not a SQLite database, or it is encrypted"]);
}

#[test]
fn an_encrypted_database() {
    let p = Project::new("sqlite:app.db", "postgres://nobody@localhost:1/x", "");
    let noise: Vec<u8> = (0..8192u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8).collect();
    p.write("app.db", noise);
    p.refuses(&["up"], 2, "input", &["app.db", "is not a SQLite database, or it is encrypted"]);
}

#[test]
fn a_broken_database() {
    let d = Database::new();
    let p = Project::sqlite(&d.url);
    p.source()
        .execute_batch("insert into notes select value, 1, hex(zeroblob(200)) from generate_series(10, 400)")
        .ok();
    p.source().execute_batch("with recursive n (i) as (select 10 union all select i + 1 from n where i < 500) insert into notes select i, 1, hex(zeroblob(200)) from n").unwrap();
    let mut bytes = fs::read(p.path("app.db")).unwrap();
    let (from, to) = (bytes.len() / 2, bytes.len() / 2 + 8192);
    bytes[from..to].fill(0x5a);
    p.write("app.db", bytes);
    let before = all(&d);
    let ran = p.run(&["up"]);
    assert!(matches!(ran.code, 2 | 4), "{ran:?}");
    let code = if ran.code == 2 { "input" } else { "refused" };
    p.refuses(&["up"], ran.code, code, &["app.db"]);
    assert_eq!(all(&d), before);
}

#[test]
fn broken_json_with_line_and_column() {
    let p = Project::json("{\n  \"a\": {\"title\": \"Tea\"},\n  \"b\": {\"title\": \"Bread\",,}\n}\n");
    p.refuses(&["up"], 2, "input", &["bot.json", "line 3", "column 26"]);
    let p = Project::json("{\n  \"a\": {\"title\": \"Tea\"}");
    p.refuses(&["plan"], 2, "input", &["bot.json", "line 2"]);
}

#[test]
fn a_key_twice() {
    let p = Project::json("{\n  \"a\": {\"title\": \"Tea\"},\n  \"a\": {\"title\": \"Bread\"}\n}\n");
    p.refuses(&["up"], 2, "input", &["bot.json", "\"a\"", "twice", "line 3"]);
    let p = Project::json("[{\"event_id\": 7, \"title\": \"Tea\"}, {\"event_id\": 7, \"title\": \"Bread\"}]");
    p.refuses(&["up"], 4, "refused", &["the key 7 is already that of"]);
}

#[test]
fn a_key_missing() {
    let p = Project::json("[{\"event_id\": 7, \"title\": \"Tea\"}, {\"title\": \"Bread\"}]");
    p.refuses(&["up"], 4, "refused", &["event_id", "key"]);
}

#[test]
fn a_required_member_missing() {
    let p = Project::json("{\"a\": {\"title\": \"Tea\"}, \"b\": {\"minutes\": 4}}");
    p.refuses(&["up"], 4, "refused", &["title is required", "'b'"]);
}

#[test]
fn a_value_that_fits_no_codec() {
    let d = Database::new();
    let p = Project::sqlite(&d.url);
    p.source().execute_batch("create table mixed (id integer primary key, what); insert into mixed values (1, 5), (2, 'five'), (3, x'05')").unwrap();
    let before = all(&d);
    p.refuses(&["up"], 4, "refused", &["mixed.what", "no codec fits", "codec = \"literal\""]);
    assert_eq!(all(&d), before);
}

#[test]
fn an_unknown_key_in_the_configuration() {
    let p = Project::json(BOT);
    p.add("\n[rollback]\nwindwo = \"24h\"\n");
    p.refuses(&["up"], 2, "configuration", &["backout.toml:9:1", "unknown key `windwo`", "did you mean `window`?"]);
}

#[test]
fn no_configuration_at_all() {
    let p = Project { folder: tempfile::tempdir().unwrap() };
    p.refuses(&["up"], 2, "configuration", &["backout.toml", "backout init"]);
}

#[test]
fn a_migration_that_names_a_store_there_is_not() {
    let p = Project::json(BOT);
    p.write(
        &format!("migrations/{STAMP}_move.toml"),
        format!("title = \"Move\"\n\n[transfer]\nfrom = \"form\"\nto = \"to\"\n{JSON_TABLE}"),
    );
    let place = format!("{STAMP}_move.toml:4:8");
    for command in ["plan", "up", "status"] {
        p.refuses(&[command], 2, "configuration", &[&place, "there is no store `form`", "did you mean `from`?"]);
    }
}

#[test]
fn an_unknown_migration() {
    let p = Project::json(BOT);
    p.refuses(&["up", "20990101000000"], 2, "configuration", &["there is no migration `20990101000000`", STAMP]);
    p.refuses(&["plan", "20990101000000"], 2, "configuration", &["there is no migration `20990101000000`"]);
}

#[test]
fn arguments_that_make_no_sense() {
    let p = Project::json(BOT);
    let before = p.all();
    let ran = p.run(&["up", "--sideways"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    let ran = p.run(&["up", "--sideways", "--json"]);
    let object = ran.object();
    assert_eq!((ran.code, &object["error"]["code"]), (2, &json!("usage")), "{ran:?}");
    for part in ["message", "hint", "state"] {
        assert!(object["error"][part].as_str().is_some_and(|t| !t.is_empty()), "no {part}: {ran:?}");
    }
    p.assert_same(&before, &ran);
}

// ── bad input: servers ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_wrong_password() {
    let mut d = Database::new();
    let (_, url) = d.role("right");
    let p = Project::sqlite(&url.replace(":right@", ":wr0ng@"));
    let ran = p.refuses(&["up"], 1, "server", &["the user or the password is wrong"]);
    assert!(!ran.said().contains("wr0ng"));
}

#[test]
fn a_server_that_is_down() {
    // a port that was free a moment ago
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let p = Project::sqlite(&format!("postgres://me:s3cret@127.0.0.1:{port}/app"));
    for command in ["plan", "up"] {
        let ran = p.refuses(&[command], 1, "server", &[&format!("127.0.0.1:{port}"), "refused"]);
        assert!(!ran.said().contains("s3cret"));
    }
}

#[test]
fn a_role_that_may_not_make_our_schema() {
    let mut d = Database::new();
    let (role, url) = d.role("pw");
    let p = Project::sqlite(&url);
    let before = all(&d);
    d.admin().batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {role}")).unwrap();
    p.refuses(
        &["up"],
        4,
        "refused",
        &[&format!("\"{role}\" may not make the schema backout"), "GRANT CREATE ON DATABASE"],
    );
    assert_eq!(all(&d), before);
}

#[test]
fn a_role_that_may_not_make_tables() {
    let mut d = Database::new();
    let (role, url) = d.role("pw");
    d.admin().batch_execute(&format!("GRANT CREATE ON DATABASE {} TO {role}", d.name)).unwrap();
    let p = Project::sqlite(&url);
    let before = all(&d);
    p.refuses(
        &["up"],
        4,
        "refused",
        &[&format!("\"{role}\" may not make tables in the schema"), "GRANT USAGE, CREATE ON SCHEMA"],
    );
    assert_eq!(all(&d), before);
}

#[test]
fn tables_that_are_there_already() {
    let d = Database::new();
    d.client().batch_execute("create table users (x int); insert into users values (1)").unwrap();
    let p = Project::sqlite(&d.url);
    let before = all(&d);
    for command in ["plan", "up"] {
        p.refuses(&[command], 4, "refused", &["already has a table users (1 row: not empty)"]);
    }
    assert_eq!(all(&d), before);
}

// ── locks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_database_that_somebody_holds() {
    let d = Database::new();
    let p = Project::sqlite(&d.url);
    // another process: closing any descriptor of the file would give up this one's locks
    let mut holder =
        Command::new("sqlite3").arg(p.path("app.db")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = holder.stdin.take().unwrap();
    let mut from = BufReader::new(holder.stdout.take().unwrap()).lines();
    to.write_all(b"BEGIN EXCLUSIVE;\nSELECT 'held';\n").unwrap();
    assert_eq!(from.next().unwrap().unwrap(), "held");
    let before = all(&d);
    p.refuses(&["up"], 5, "locked", &["app.db is locked", "another program", "waited 10 s"]);
    assert_eq!(all(&d), before);
    drop(to);
    holder.wait().unwrap();
    p.run(&["up"]).ok();
}

/// A command that stands still inside of a service's `stop`, holding its locks, until [`Held::go`].
struct Held {
    child: Child,
    go: PathBuf,
}

impl Held {
    fn up(p: &Project) -> Held {
        let (here, go) = (p.path("here"), p.path("go"));
        for fifo in [&here, &go] {
            assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        }
        p.add("\n[[service]]\nname = \"bot\"\nstop = \"echo > here; cat go\"\nstart = \"true\"\n");
        let child = command(p.folder.path(), &["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // opens when the service is asked to stop
        let mut line = String::new();
        fs::File::open(&here).unwrap().read_to_string(&mut line).unwrap();
        Held { child, go }
    }
    fn go(mut self) -> i32 {
        fs::write(&self.go, "").unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

#[test]
fn another_run_holds_the_lock() {
    let p = Project::json(BOT);
    let held = Held::up(&p);
    for args in [&["up"][..], &["abort"], &["resume"], &["rollback"]] {
        let ran = p.run(args);
        assert_eq!(ran.code, 5, "{ran:?}");
        assert!(ran.stderr.contains("wait until the other one has ended"), "{ran:?}");
        let object = p.json_of(args);
        assert_eq!(object["error"]["code"], "locked", "{object}");
    }
    // looking is always possible
    assert_eq!(p.run(&["status"]).code, 0);
    assert_eq!(held.go(), 0);
    assert_eq!(p.phase(), "soaking");
}

// ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_plan_that_is_not_the_one_that_was_seen() {
    let d = Database::new();
    let p = Project::sqlite(&d.url);
    let seen = p.json_of(&["plan"])["hash"].as_str().unwrap().to_owned();
    p.source().execute_batch("insert into users values (3, 'Edsger')").unwrap();
    assert_eq!(p.json_of(&["plan"])["hash"], seen.as_str(), "rows are no change of plan");
    p.source().execute_batch("alter table users add column mail text").unwrap();
    let before = all(&d);
    p.refuses(&["up", "--plan", &seen], 4, "refused", &["the plan is not the one you saw", "backout plan"]);
    assert_eq!(all(&d), before);
    let now = p.json_of(&["plan"])["hash"].as_str().unwrap().to_owned();
    p.run(&["up", "--plan", &now[..16]]).ok();
}

#[test]
fn a_json_source_without_a_service_waits() {
    let p = Project::json(BOT);
    let ran = p.run(&["up"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    assert!(ran.stderr.contains("--writers-stopped") && ran.stderr.contains("[[service]]"), "{ran:?}");
    assert_eq!(p.phase(), "ready");
    p.run(&["cutover", "--writers-stopped"]).ok();
    assert_eq!(p.phase(), "soaking");
}

#[test]
fn the_window_is_closed() {
    let p = Project::bot();
    p.add("\n[rollback]\nwindow = \"1s\"\n");
    p.run(&["up"]).ok();
    wait_until("the window ends", || p.json_of(&["status"])["window_over"] == true);
    assert!(p.run(&["status"]).ok().stdout.contains("over: a rollback needs --force"));
    p.refuses(&["rollback"], 4, "refused", &["the rollback window ended at", "backout rollback --force"]);
    p.run(&["rollback", "--force"]).ok();
    assert_eq!(fs::read_to_string(p.path("bot.json")).unwrap(), BOT);
}

#[test]
fn completing_asks_for_the_projects_name() {
    let p = Project::bot();
    p.run(&["up"]).ok();
    p.refuses(&["complete"], 4, "refused", &["asks for the project's name", "backout complete --confirm my-bot"]);
    p.refuses(
        &["complete", "--confirm", "your-bot"],
        4,
        "refused",
        &["\"your-bot\" is not the project's name", "my-bot"],
    );
    assert_eq!(p.phase(), "soaking");
    p.run(&["complete", "--confirm", "my-bot"]).ok();
    p.refuses(&["rollback"], 4, "refused", &["was completed at", "its way back was given up"]);
}

#[test]
fn rolling_back_further_than_there_is() {
    let p = Project::bot();
    p.run(&["up"]).ok();
    p.refuses(&["rollback", "-2"], 4, "refused", &["-2 would take back 2 migrations", "only 1 is applied"]);
    for nonsense in ["-0", "--sideways", "-x"] {
        let ran = p.run(&["rollback", nonsense, "--json"]);
        assert_eq!((ran.code, &ran.object()["error"]["code"]), (2, &json!("usage")), "{ran:?}");
    }
    p.refuses(&["rollback", "yesterday"], 2, "configuration", &["there is no migration `yesterday`"]);
    p.refuses(&["rollback", "20990101000000"], 2, "configuration", &["there is no migration `20990101000000`"]);
    // "down to REV" leaves REV itself applied, so there is nothing to take back
    let there = p.run(&["rollback", STAMP]).ok();
    assert!(there.stdout.contains("nothing to do: that is the newest one applied"), "{there:?}");
    assert_eq!(p.phase(), "soaking");
    p.run(&["rollback", "base"]).ok();
    assert_eq!(p.phase(), "none");
    let again = p.run(&["rollback", "base"]).ok();
    assert!(again.stdout.contains("nothing to do: no migration is applied"), "{again:?}");
}

#[test]
fn a_rollback_that_drops_rows_asks_for_the_projects_name() {
    for (args, toml) in
        [(vec!["rollback", "base"], "\n[rollback]\nclean_target = true\n"), (vec!["rollback", "--clean-target"], "")]
    {
        let p = Project::bot();
        p.add(toml);
        p.run(&["up"]).ok();
        p.refuses(&args, 4, "refused", &["drops events (2 rows)", "--confirm my-bot"]);
        let wrong = [&args[..], &["--confirm", "your-bot"]].concat();
        p.refuses(&wrong, 4, "refused", &["\"your-bot\" is not the project's name"]);
        assert_eq!(p.phase(), "soaking");
        let right = [&args[..], &["--confirm", "my-bot"]].concat();
        p.run(&right).ok();
        assert_eq!(fs::read_to_string(p.path("bot.json")).unwrap(), BOT);
        // set aside instead, nothing is dropped and nothing asked
        p.run(&["up"]).ok();
        p.run(&["rollback", "base", "--keep-target"]).ok();
    }
}

#[test]
fn commands_at_the_wrong_time() {
    let p = Project::bot();
    for (args, says) in [
        (&["cutover"][..], "no migration is under way"),
        (&["verify"], "no migration is under way"),
        (&["shadow", "--once"], "no migration is under way"),
        (&["rollback"], "no migration is applied that could be rolled back"),
        (&["rollback", "--dry-run"], "no migration is applied that could be rolled back"),
    ] {
        p.refuses(args, 4, "refused", &[says]);
    }
    for args in [&["resume"][..], &["abort"], &["complete"]] {
        let ran = p.run(args).ok();
        assert!(ran.stdout.contains("nothing to do"), "{ran:?}");
        assert_eq!(p.json_of(args)["nothing"], true);
    }
    p.run(&["up", "--until", "ready"]).ok();
    p.refuses(&["rollback"], 4, "refused", &["rollback is not possible while the migration is ready", "backout abort"]);
    p.refuses(
        &["complete", "--confirm", "my-bot"],
        4,
        "refused",
        &["complete is not possible while the migration is ready"],
    );
    p.run(&["cutover"]).ok();
    p.refuses(&["abort"], 4, "refused", &["abort is not possible while the migration is soaking", "backout rollback"]);
    for args in [&["up"][..], &["cutover"], &["resume"]] {
        assert!(p.run(args).ok().stdout.contains("nothing to do"), "{args:?}");
    }
}

// ── for programs ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn json_is_one_object_and_progress_is_on_stderr() {
    let p = Project::bot();
    let up = p.run(&["up", "--json"]).ok();
    assert_eq!(up.object()["phase"], "soaking");
    assert!(up.stderr.contains("backfilling"), "{up:?}");
    assert_eq!(p.run(&["verify", "--json", "--quiet"]).ok().stderr, "");
    for args in [
        &["status"][..],
        &["current"],
        &["history"],
        &["log"],
        &["verify"],
        &["rollback", "--dry-run"],
        &["shadow", "--once"],
    ] {
        p.json_of(args);
    }
    p.run(&["rollback", "--json"]).ok().object();
    p.json_of(&["plan"]);
}

// ── stopping ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// `up` in small steps, and its standard error from the moment it copies.
fn copying(p: &Project) -> (Child, BufReader<std::process::ChildStderr>) {
    p.source()
        .execute_batch(
            "with recursive n (i) as (select 10 union all select i + 1 from n where i < 30000)
             insert into notes select i, 1, 'a note' from n",
        )
        .unwrap();
    let args = ["up", "--until", "ready", "--batch-size", "20"];
    let mut child = command(p.folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("backfilling") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
    }
    (child, said)
}

#[test]
fn ctrl_c_stops_after_the_present_step_and_resume_goes_on() {
    let d = Database::new();
    let p = Project::sqlite(&d.url);
    let (mut child, mut said) = copying(&p);
    signal(&child, rustix::process::Signal::INT);
    let mut stderr = String::new();
    said.read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7), "{stderr}");
    for needle in ["stopping after the present step", "stopped on request", "backout resume", "backout abort"] {
        assert!(stderr.contains(needle), "{needle}: {stderr}");
    }
    assert_eq!(p.phase(), "backfilling");
    assert!(p.run(&["status"]).ok().stdout.contains("failed    stopped on request"));
    assert!(p.run(&["resume"]).ok().stdout.starts_with("ready "), "it was begun with --until ready");
    assert!(p.run(&["verify"]).ok().stdout.contains("no differences"));
}

#[test]
fn killed_at_once_it_resumes_all_the_same() {
    let d = Database::new();
    let p = Project::sqlite(&d.url);
    let (mut child, _) = copying(&p);
    signal(&child, rustix::process::Signal::KILL);
    child.wait().unwrap();
    assert_eq!(p.phase(), "backfilling");
    p.run(&["resume"]).ok();
    assert!(p.run(&["verify"]).ok().stdout.contains("no differences"));
}

// ── secrets ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn no_password_is_ever_shown_or_kept() {
    const PASSWORD: &str = "s3cr3t-passw0rd";
    let mut d = Database::new();
    let (role, url) = d.role(PASSWORD);
    d.admin()
        .batch_execute(&format!("GRANT CREATE ON DATABASE {} TO {role}", d.name))
        .and_then(|()| d.admin().batch_execute(&format!("GRANT ALL ON SCHEMA public TO {role}")))
        .unwrap();
    for how in ["plain", "variable"] {
        let p = Project::sqlite(if how == "plain" { &url } else { "${DATABASE_URL}" });
        if how == "variable" {
            p.write(".env", format!("DATABASE_URL={url}\nTOKEN=old-{PASSWORD}\n"));
            p.add(&format!("\n[[switch]]\ndotenv = \".env\"\nset = {{ TOKEN = \"new-{PASSWORD}\" }}\n"));
        }
        let mut said = String::new();
        for args in [
            &["plan"][..],
            &["up", "--until", "ready"],
            &["status"],
            &["cutover"],
            &["status"],
            &["verify"],
            &["shadow", "--once"],
            &["rollback", "--dry-run"],
            &["history"],
            &["log"],
        ] {
            said += &p.run(args).ok().said();
            said += &p.run(&[args, &["--json"]].concat()).said();
        }
        let mut kept: Vec<u8> = Vec::new();
        let mut client = d.admin();
        for relation in all(&d).iter().filter(|r| r.starts_with("backout.")) {
            let rows = client.simple_query(&format!("select t::text from {relation} t")).into_iter().flatten();
            for row in rows {
                if let postgres::SimpleQueryMessage::Row(r) = row {
                    kept.extend(r.get(0).unwrap_or_default().bytes());
                }
            }
        }
        assert!(!kept.is_empty(), "the records were looked at");
        let files = p.all();
        let journal = files.keys().find(|f| f.ends_with("journal.sqlite")).cloned();
        assert!(journal.is_some(), "{:?}", files.keys());
        said += &p.run(&["rollback"]).ok().said();
        // wrong in every way, with the password at hand
        p.write("backout.toml", fs::read_to_string(p.path("backout.toml")).unwrap().replace("to = \"", "to = 5 # \""));
        said += &p.run(&["up"]).said();
        assert!(!said.contains("passw0rd"), "{said}");
        assert!(!String::from_utf8_lossy(&kept).contains("passw0rd"));
        let mut open = vec![p.folder.path().to_owned()];
        while let Some(folder) = open.pop() {
            for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
                if path.is_dir() {
                    open.push(path);
                } else if !path.ends_with("backout.toml") && !path.ends_with(".env") {
                    let bytes = fs::read(&path).unwrap();
                    let found = bytes.windows(8).any(|w| w == b"passw0rd");
                    assert!(!found, "{} holds the password", path.display());
                }
            }
        }
        d.admin().batch_execute("drop schema if exists backout cascade").unwrap();
    }
}

// ── telling ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_this_version_does_not_use_is_said() {
    let p = Project::bot();
    p.add("\n[backup]\ndir = \"b\"\n\n[[notify]]\nslack = \"x\"\n");
    for args in [&["plan"][..], &["up", "--dry-run"], &["up"]] {
        let ran = p.run(args).ok();
        for unused in ["[backup]", "[[notify]]", "not used by this version"] {
            assert!(ran.said().contains(unused), "{args:?}: {ran:?}");
        }
    }
    assert_eq!(p.json_of(&["up"])["unused"], json!(["[backup]", "[[notify]]"]));
    assert_eq!(p.run(&["status"]).ok().stderr, "", "said where it matters, and not everywhere");
}

/// A switch that would not be set leaves the application on the store that is about to be sealed: no note is enough.
#[test]
fn an_application_switched_by_a_flag_is_not_moved() {
    let p = Project::bot();
    p.add("\n[[switch]]\nflag = \"sqlite\"\nto = true\n");
    let ran = p.run(&["up"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.said().contains("feature flag"), "{ran:?}");
}

#[test]
fn the_plan_says_it_all() {
    let p = Project::bot();
    let plan = p.run(&["plan"]).ok().stdout;
    for needle in [
        "events   2 rows",
        "key (event_id)",
        "title     string → TEXT not null",
        "every value is a string",
        "minutes   integer → INTEGER",
        "time ",
        "disk ",
        "locks ",
        "cutover   stops bot",
        "rollback  under a second",
        "next:     backout up --plan ",
    ] {
        assert!(plan.contains(needle), "{needle:?} is not in\n{plan}");
    }
}

#[test]
fn the_status_while_the_target_is_gone() {
    let p = Project::bot();
    p.run(&["up"]).ok();
    fs::rename(p.path("bot.db"), p.path("elsewhere.db")).unwrap();
    let ran = p.run(&["status"]).ok();
    assert!(ran.stdout.contains("problem   the target could not be asked"), "{ran:?}");
    assert!(ran.stdout.contains("backout rollback"), "{ran:?}");
}

#[test]
fn the_log_has_durations_and_the_history_both_sides() {
    let p = Project::bot();
    p.run(&["up"]).ok();
    p.run(&["rollback"]).ok();
    let log = p.run(&["log"]).ok().stdout;
    for step in ["preparing", "backfilling", "cutting over", "rolling back", "closing"] {
        let line = log.lines().find(|l| l.contains(&format!("  {step} "))).unwrap_or_else(|| panic!("{step}: {log}"));
        assert!(line.contains(" ms") || line.contains(" s"), "{line}");
    }
    assert_eq!(p.run(&["log", "-n", "1"]).ok().stdout.lines().count(), 1);
    let history = p.run(&["history"]).ok().stdout;
    assert!(history.contains("rolled back") && history.contains("0 rows carried back"), "{history}");
    assert!(history.contains("the tables are kept in bot.db"), "{history}");
}

// ── help ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Every command that `backout help` lists.
fn commands() -> Vec<String> {
    let help = run(Path::new("."), &["--help"]).ok().stdout;
    let list = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    names.map(|l| l.split_whitespace().next().unwrap().to_owned()).filter(|n| n != "help").collect()
}

#[test]
fn every_command_teaches_at_80_columns_and_has_an_example() {
    let commands = commands();
    assert!(commands.len() >= 15, "{commands:?}");
    let whole = run(Path::new("."), &["--help"]).ok().stdout;
    assert_eq!(whole.lines().find(|l| l.chars().count() > 80), None);
    for name in commands {
        let help = run(Path::new("."), &["help", &name]).ok().stdout;
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("\n  backout {name}")) || help.contains(&format!("backout {name}")), "{help}");
        assert_eq!(help.lines().find(|l| l.chars().count() > 80), None, "{name}");
        assert_eq!(run(Path::new("."), &[&name, "--help"]).ok().stdout, help);
    }
}

#[test]
fn every_command_is_in_the_reference() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md")).unwrap();
    for name in commands() {
        let head = format!("\n## {name}\n");
        let section = page.split(&head).nth(1).unwrap_or_else(|| panic!("docs/commands.md lacks {head:?}"));
        let section = section.split("\n## ").next().unwrap();
        for part in ["--json", "Exit codes"] {
            assert!(section.contains(part), "{name} says nothing of {part}");
        }
        let help = run(Path::new("."), &["help", &name]).ok().stdout;
        let own = help.split("Options of every command:").next().unwrap();
        let listed = own.lines().map(str::trim_start).filter(|l| l.starts_with('-') && !l.contains("--help"));
        for option in listed.flat_map(str::split_whitespace).filter(|w| w.starts_with("--")) {
            let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(section.contains(option), "{name}: {option} is not explained");
        }
    }
}

#[test]
fn init_writes_what_plan_can_use_and_overwrites_nothing() {
    let p = Project { folder: tempfile::tempdir().unwrap() };
    p.write("bot.json", BOT);
    p.run(&["init", "--from", "json:bot.json", "--to", "sqlite:bot.db"]).ok();
    let plan = p.run(&["plan"]).ok().stdout;
    assert!(plan.contains("2 rows"), "{plan}");
    p.refuses(&["init"], 4, "refused", &["backout.toml is there already"]);
    let empty = Project { folder: tempfile::tempdir().unwrap() };
    empty.refuses(
        &["init", "--from", "bot.json", "--to", "sqlite:bot.db"],
        2,
        "configuration",
        &["did you mean `json:bot.json`?"],
    );
    empty.refuses(
        &["init", "--from", "json:bot.json", "--to", "sqlite:bot.db"],
        2,
        "input",
        &["there is no such file"],
    );
}

// ── comparing, repairing, making anew ──────────────────────────────────────────────────────────────────────────────

#[test]
fn verify_ends_with_1_without_time_and_with_3_if_anything_differs() {
    let p = Project::sqlite("sqlite:target.db");
    p.run(&["up"]).ok();
    assert!(p.run(&["verify", "--quick"]).ok().stdout.contains("their contents were not compared"));
    let sample = p.run(&["verify", "--sample", "2", "--seed", "5"]).ok();
    assert!(sample.stdout.contains("seed 5"), "{sample:?}");
    let late = p.run(&["verify", "--timeout", "1ms", "--json"]);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(!late.object()["verified"]["not_compared"].as_array().unwrap().is_empty());
    assert!(p.run(&["verify", "--timeout", "1ms"]).stdout.contains("was not compared"));
    for wrong in [
        &["verify", "--timeout", "soon"][..],
        &["verify", "--seed", "5"],
        &["verify", "--quick", "--deep"],
        &["verify", "--sample", "0"],
    ] {
        assert_eq!(p.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(p.run(&["verify", "--rollback"]).code, 4);
    p.run(&["rollback"]).ok();
    assert!(p.run(&["verify", "--rollback"]).ok().stdout.contains("what it was before the cutover"));
    p.source().execute_batch("CREATE TABLE bystander (x)").unwrap();
    p.run(&["verify", "--rollback"]).ok();
    let table: String = p.source().query_row("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'backout%' AND name <> 'bystander' LIMIT 1", [], |r| r.get(0)).unwrap();
    p.source()
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF; DELETE FROM \"{table}\" WHERE rowid IN (SELECT max(rowid) FROM \"{table}\")"
        ))
        .unwrap();
    let differs = p.run(&["verify", "--rollback"]);
    assert_eq!(differs.code, 3, "{differs:?}");
    assert!(differs.stdout.contains("1 fewer") && differs.stdout.contains("cannot be told"), "{differs:?}");
}

#[test]
fn the_demo_goes_on_to_an_empty_database_only_and_leaves_it_empty() {
    let database = crate::database::Database::new();
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["demo", "--rows", "300", "--postgres", &database.url, "--json"]).ok().object();
    assert_eq!(
        (&said["lost"], &said["signage"]["lost"], &said["signage"]["invented"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(said["signage"]["identical"], said["signage"]["untouched"]);
    let left = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";
    assert_eq!(database.client().query_one(left, &[]).unwrap().get::<_, i64>(0), 0);
    database.client().batch_execute("CREATE TABLE mine (x int)").unwrap();
    let refused = run(folder.path(), &["demo", "--postgres", &database.url]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("public.mine") && refused.stderr.contains("nothing was changed"), "{refused:?}");
    let own = run(folder.path(), &["demo", "--rows", "300", "--json", "--postgres"]).ok().object();
    assert_eq!((&own["signage"]["lost"], &own["signage"]["invented"]), (&json!(0), &json!(0)));
    let gone = run(folder.path(), &["demo", "--postgres", "postgres://nobody@127.0.0.1:1/x"]);
    assert_eq!(gone.code, 2, "{gone:?}");
}
