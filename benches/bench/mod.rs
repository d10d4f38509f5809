//! What the benches share: the data, the server, commands with their time and memory, medians, tables in Markdown.
//!
//! Everything is made below `target/bench`, and a database of its own on the server at `BACKOUT_TEST_PG`, dropped at the end.
// each bench uses its part
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The numbers on the command line (cargo adds `--bench`), or these.
pub fn numbers(otherwise: &[u64]) -> Vec<u64> {
    let given: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.replace('_', "").parse().ok()).collect();
    if given.is_empty() { otherwise.to_vec() } else { given }
}

/// Where a bench keeps its files.
pub fn folder(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench").join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

// ── the data ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// The same numbers for the same seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn uuid(&mut self) -> String {
        let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
    }
}

const WORDS: [&str; 8] = ["alpha", "beta", "gamma", "delta", "épsilon", "zeta", "日本", "theta"];

/// A journal of so many entries by a twentieth as many users, in SQLite: uuid text keys with a foreign key, varchar, text that is
/// not all ASCII, integer, real, JSON, blob, times as text with microseconds, booleans as 0/1, NULLs. 455 bytes a row.
pub fn journal(rows: u64) -> Result<PathBuf> {
    let path = folder("data")?.join(format!("journal-{rows}.db"));
    if path.exists() {
        return Ok(path);
    }
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut db = Connection::open(&part)?;
    db.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -16384;
         CREATE TABLE users (
            id varchar(36) PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, hashed_password varchar(255) NOT NULL,
            is_active boolean DEFAULT true, created_at timestamp, updated_at timestamp);
         CREATE TABLE journal_entries (
            id varchar(36) PRIMARY KEY, user_id varchar(36) NOT NULL REFERENCES users (id), title varchar(200), body text,
            mood integer, score real, tags json, payload blob, created_at datetime);
         CREATE INDEX ix_journal_entries_user_id ON journal_entries (user_id);",
    )?;
    let mut random = Random(7);
    let moment = |micros: u64| -> String {
        let at = jiff::civil::date(2024, 1, 1).at(0, 0, 0, 0);
        let at = at + jiff::SignedDuration::from_micros(i64::try_from(micros).unwrap_or(0));
        at.strftime(if micros.is_multiple_of(1_000_000) { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S.%6f" })
            .to_string()
    };
    let people: Vec<String> = (0..(rows / 20).max(1)).map(|_| random.uuid()).collect();
    let change = db.transaction()?;
    {
        let mut put = change.prepare("INSERT INTO users VALUES (?,?,?,?,?,?)")?;
        for (i, id) in (0u64..).zip(&people) {
            let mail = format!("u{i}@example.com");
            put.execute((id, mail, "x".repeat(60), i % 7 != 0, moment(i * 1_000_000), None::<String>))?;
        }
        let mut put = change.prepare("INSERT INTO journal_entries VALUES (?,?,?,?,?,?,?,?,?)")?;
        for i in 0..rows {
            let author = &people[usize::try_from(random.below(people.len() as u64))?];
            let body: Vec<&str> = (0..20).map(|_| WORDS[random.below(8) as usize]).collect();
            let payload: Vec<u8> = (0..4).flat_map(|_| random.next().to_be_bytes()).collect();
            let tags = format!("{{\"a\": {i}, \"b\": [1, 2, {}]}}", i % 5);
            let score = random.below(1 << 53) as f64 / (1u64 << 53) as f64 * 100.0;
            let at = moment(i * 3_000_000 + random.below(1_000_000));
            let mood = i64::try_from(random.below(10))?;
            put.execute((random.uuid(), author, format!("title {i}"), body.join(" "), mood, score, tags, payload, at))?;
        }
    }
    change.commit()?;
    db.close().map_err(|(_, e)| e)?;
    fs::rename(&part, &path)?;
    Ok(path)
}

/// A narrow table of so many rows, for what does not depend on their width.
pub fn ledger(rows: u64) -> Result<PathBuf> {
    let path = folder("data")?.join(format!("ledger-{rows}.db"));
    if !path.exists() {
        let part = path.with_extension("part");
        let _ = fs::remove_file(&part);
        let mut db = Connection::open(&part)?;
        db.execute_batch(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;
             CREATE TABLE entries (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL, note TEXT);
             CREATE INDEX entries_account ON entries (account);",
        )?;
        let (mut random, change) = (Random(11), db.transaction()?);
        {
            let mut put = change.prepare("INSERT INTO entries VALUES (?,?,?,?)")?;
            for i in 1..=rows {
                let (account, amount) = (random.below(rows / 10 + 1) as i64, random.below(100_000) as i64);
                put.execute((i as i64, account, amount, format!("note {i}")))?;
            }
        }
        change.commit()?;
        db.close().map_err(|(_, e)| e)?;
        fs::rename(&part, &path)?;
    }
    Ok(path)
}

// ── a project ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// A database of its own on the server, dropped at the end.
pub struct Database {
    pub url: String,
    pub name: String,
}

impl Database {
    pub fn new() -> Result<Database> {
        Database::made("")
    }

    /// A copy of this one, to which nobody may be connected.
    pub fn copy(&self) -> Result<Database> {
        Database::made(&format!(" TEMPLATE {}", self.name))
    }

    fn made(how: &str) -> Result<Database> {
        let name = format!("bench_{}", uuid::Uuid::new_v4().simple());
        Database::server()?.batch_execute(&format!("CREATE DATABASE {name}{how}"))?;
        let server = std::env::var("BACKOUT_TEST_PG")?;
        let url = format!("{}/{name}", server.rsplit_once('/').map_or(server.as_str(), |(head, _)| head));
        Ok(Database { url, name })
    }

    /// A session of the server's administrator.
    pub fn server() -> Result<postgres::Client> {
        let url = std::env::var("BACKOUT_TEST_PG")
            .map_err(|_| "no server: run this as `BACKOUT_TEST_FSYNC=1 scripts/with-postgres cargo bench --bench …`")?;
        Ok(postgres::Client::connect(&url, postgres::NoTls)?)
    }

    pub fn client(&self) -> Result<postgres::Client> {
        Ok(postgres::Client::connect(&self.url, postgres::NoTls)?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(mut c) = Database::server() {
            let _ = c.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

/// A folder with a copy of a SQLite file and a migration that moves all of it to a database of its own.
pub struct House {
    pub folder: tempfile::TempDir,
    pub url: String,
    database: Database,
}

impl House {
    pub fn new(data: &Path) -> Result<House> {
        let database = Database::new()?;
        let url = database.url.clone();
        let stores = format!("local = \"sqlite:app.db\"\nmain = \"{url}\"\n");
        let folder = project(&stores, "title = \"All of it\"\n[transfer]\nfrom = \"local\"\nto = \"main\"\n")?;
        fs::copy(data, folder.path().join("app.db"))?;
        Ok(House { folder, url, database })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn client(&self) -> Result<postgres::Client> {
        self.database.client()
    }

    /// Runs `backout`; what it says as JSON is in `out`.
    pub fn backout(&self, arguments: &[&str]) -> Result<Ran> {
        backout(self.folder.path(), arguments)
    }
}

/// A folder with a project of these stores and one migration.
pub fn project(stores: &str, migration: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir_in(self::folder("run")?)?;
    fs::write(folder.path().join("backout.toml"), format!("[stores]\n{stores}"))?;
    fs::create_dir(folder.path().join("migrations"))?;
    fs::write(folder.path().join("migrations/20250301090000_all.toml"), migration)?;
    Ok(folder)
}

// ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a command took. Of its own process: what a server works for it is not in `cpu` and `peak`.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    pub seconds: f64,
    pub cpu: f64,
    /// MiB.
    pub peak: f64,
    pub out: String,
}

impl Ran {
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.out)?)
    }
}

/// Runs it in `folder` to its end; a failure is an error with what it said.
pub fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<Ran> {
    let (out, err) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(out.reopen()?)
        .stderr(err.reopen()?)
        .spawn()?;
    let (mut ran, place) = (Ran::default(), format!("/proc/{}", child.id()));
    let status = loop {
        // the high-water mark only rises, so that what is read last is it, but for the last moments
        if let Ok(text) = fs::read_to_string(format!("{place}/status"))
            && let Some(kib) = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))
            && let Some(kib) = kib.split_whitespace().next().and_then(|n| n.parse::<f64>().ok())
        {
            ran.peak = kib / 1024.0;
        }
        if let Ok(text) = fs::read_to_string(format!("{place}/stat"))
            && let Some((_, rest)) = text.rsplit_once(')')
        {
            let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
            ran.cpu = ticks / 100.0;
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    ran.seconds = begun.elapsed().as_secs_f64();
    ran.out = fs::read_to_string(out.path())?;
    if !status.success() {
        return Err(format!("{program}: {status}\n{}\n{}", ran.out, fs::read_to_string(err.path())?).into());
    }
    Ok(ran)
}

pub fn backout(folder: &Path, arguments: &[&str]) -> Result<Ran> {
    let all: Vec<&str> = ["--json", "--quiet"].iter().chain(arguments).copied().collect();
    run(folder, env!("CARGO_BIN_EXE_backout"), &all)
}

/// A program on the PATH, or beside the server's own.
pub fn program(name: &str) -> Option<String> {
    let beside = std::env::var("BACKOUT_TEST_PG_BIN").ok().map(PathBuf::from);
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = beside.into_iter().collect();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().map(|f| f.join(name)).find(|p| p.is_file()).map(|p| p.display().to_string())
}

/// A Python program in a virtual environment below `target/bench`, made when it is not there; `None`, said aloud, if that fails.
pub fn from_pypi(package: &str, name: &str, requirement: &str) -> Option<String> {
    let place = folder("").ok()?.join(format!("venv-{package}"));
    let found = place.join("bin").join(name);
    if !found.is_file() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&place).output();
        let _ = made.and_then(|_| {
            Command::new(place.join("bin/pip")).args(["install", "-q", requirement]).stderr(Stdio::null()).output()
        });
    }
    if found.is_file() {
        return Some(found.display().to_string());
    }
    println!("\n{package} could not be installed from PyPI: not compared with it.\n");
    None
}

/// The first line of what a program says of its version.
pub fn version(program: &str, argument: &str) -> String {
    let out = Command::new(program).arg(argument).output().ok();
    let text = out.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("of unknown version").trim().to_owned()
}

// ── telling ────────────────────────────────────────────────────────────────────────────────────────────────────────

pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = numbers.into_iter().collect();
    all.sort_by(f64::total_cmp);
    let n = all.len();
    if n == 0 {
        f64::NAN
    } else if n % 2 == 1 {
        all[n / 2]
    } else {
        (all[n / 2 - 1] + all[n / 2]) / 2.0
    }
}

/// Where it was measured.
pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{cores} cores,{} load {load} at the start", model.trim_start_matches([' ', '\t', ':']).to_owned() + ",")
}

pub fn server_version() -> Result<String> {
    let server = std::env::var("BACKOUT_TEST_PG")?;
    let mut c = postgres::Client::connect(&server, postgres::NoTls)?;
    let ask = "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || current_setting('fsync')";
    Ok(c.query_one(ask, &[])?.get(0))
}

pub fn row(name: &str, all: &[Ran], beside: &str) {
    let (s, cpu) = (median(all.iter().map(|r| r.seconds)), median(all.iter().map(|r| r.cpu)));
    let peak = all.iter().map(|r| r.peak).fold(0.0, f64::max);
    let each: Vec<String> = all.iter().map(|r| format!("{:.2}", r.seconds)).collect();
    println!("| {name} | {s:.2} | {} | {cpu:.2} | {peak:.0} | {beside} |", each.join(" "));
}

pub const HEAD: &str = "| | median s | each | own CPU s | peak MiB | |\n|---|---:|---|---:|---:|---|";
