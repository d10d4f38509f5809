//! `backout demo`: a reminder bot's data moves from a JSON file to SQLite and back while the bot writes.

mod server;
mod signage;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Answer, Answered, Context, show, terminal};
use backout::migrate::{Error, Failure, Options, Project, RollbackOptions, UpOptions};

/// Watch it work: a bot's data moves while it writes, and is taken back
///
/// A reminder bot's data moves from a JSON file to SQLite and back. Everything
/// happens in a temporary folder and needs no server. With --postgres it goes on: a
/// signage player's assets move from SQLite to PostgreSQL and back: to a server of
/// its own, if PostgreSQL is installed here, or in an empty database that you name,
/// which is left empty again. The bot is a process of its
/// own that rereads .env before each write, and keeps a ledger of every write that
/// was acknowledged; the end compares the file with the ledger.
///
/// Examples:
///   backout demo
///   backout demo --rows 20000 --keep
///   backout demo --postgres
///   backout demo --postgres postgres://me@localhost/backout_demo
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Reminders to begin with
    #[arg(long, default_value_t = 3000, value_name = "N")]
    rows: u32,
    /// Go on to PostgreSQL: with a server of its own, or in this empty database
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    postgres: Option<String>,
    /// Leave the folder, to look around in it
    #[arg(long)]
    keep: bool,
}

/// The bot (used by `demo`).
#[derive(clap::Args)]
pub struct Writer {
    /// start, stop, check, run
    what: String,
    /// The demo's folder
    folder: PathBuf,
}

const JSON: &str = "watched_reminders.json";
const DB: &str = "discord_bot.db";

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let folder = std::env::temp_dir().join(format!("backout-demo-{}", std::process::id()));
        // stopped and removed at the end, whatever happens
        let server = match self.postgres.as_deref() {
            Some("") => Some(server::Server::start().map_err(no_server)?),
            _ => None,
        };
        let url = server.as_ref().map(|s| s.url.clone()).or_else(|| self.postgres.clone());
        if let Some(url) = &url {
            signage::must_be_empty(url)?;
        }
        let begun = Instant::now();
        let result = self.play(cx, &folder).and_then(|(mut json, mut text)| {
            if let Some(url) = &url {
                if !cx.json && !cx.quiet {
                    terminal::out(&std::mem::take(&mut text));
                }
                let second = signage::play(cx, &folder.join("signage"), url, self.rows)?;
                json["signage"] = second.json;
                text.push_str(&second.text);
            }
            text.push_str(&self.farewell(begun, &folder));
            Ok(Answer::new(&json, text))
        });
        // whatever happened: no bot stays behind
        let stopped = stop(&folder);
        if !self.keep {
            let _ = fs::remove_dir_all(&folder);
        }
        stopped.map_err(|e| failed(format!("the demo's bot does not stop: {e}")))?;
        result
    }

    fn play(&self, cx: &Context, folder: &Path) -> Result<(Value, String), Box<Failure>> {
        let exe = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
        let before = set_up(folder, self.rows, &exe).map_err(|e| failed(format!("{}: {e}", folder.display())))?;
        let original = fs::read_to_string(folder.join(JSON)).map_err(|e| failed(e.to_string()))?;
        let say = |text: &str| {
            if !cx.json && !cx.quiet {
                terminal::out(&format!("{text}\n"));
            }
        };
        say(&format!(
            "A reminder bot keeps {} reminders in {JSON} ({}).",
            show::number(u64::from(self.rows)),
            show::size(original.len() as u64)
        ));
        say("It writes all the time: adds, edits, deletes. Now its data moves to SQLite.\n");
        start(folder, &exe).map_err(|e| failed(e.to_string()))?;
        wait_for(folder, 20, cx)?;

        say("$ backout up");
        let project = || project(folder, cx);
        let up = project()?.up(&UpOptions::default())?;
        say(&show::outcome(&up));
        let at_cutover = ledger(folder).len();
        wait_for(folder, at_cutover + 500, cx)?;
        project()?.shadow()?;
        let at_shadow = ledger(folder).len();
        wait_for(folder, at_shadow + 200, cx)?;
        say(&format!(
            "The bot has written {} times to SQLite since.",
            show::number((ledger(folder).len() - at_cutover) as u64)
        ));
        say("Now a fault (simulated): reminders arrive late, and nobody knows why. Back.\n");
        say("$ backout rollback");
        let taken = Instant::now();
        let back = project()?.rollback(&RollbackOptions::default())?;
        let took = taken.elapsed();
        say(&show::outcome(&back));
        let at_back = ledger(folder).len();
        wait_for(folder, at_back + 20, cx)?;
        stop(folder).map_err(|e| failed(e.to_string()))?;

        let e = evidence(folder, &before, &original)?;
        let lines = [
            ("reminders before", show::number(before.len() as u64)),
            ("written since, all acknowledged", show::number(e.acknowledged)),
            ("  to the JSON file, before and after", show::number(e.acknowledged - e.to_sqlite)),
            ("  to SQLite, between cutover and rollback", show::number(e.to_sqlite)),
            ("rows carried back", show::number(back.carried)),
            ("lost", show::number(e.lost)),
            ("invented", show::number(e.invented)),
            (
                "untouched reminders, byte for byte as before",
                format!("{} of {}", show::number(e.identical), show::number(e.untouched)),
            ),
            (".env as before", if e.env { "yes".into() } else { "NO".into() }),
            ("frozen (nobody could write), services apart", format!("{} ms", back.frozen_ms.unwrap_or(0))),
            ("rollback in all, services and full comparison too", show::seconds(took.as_secs_f64())),
        ];
        let mut text = String::from("evidence\n");
        for (what, value) in &lines {
            let _ = writeln!(text, "  {what:<52} {value:>12}");
        }
        let holds = e.lost == 0
            && e.invented == 0
            && e.identical == e.untouched
            && e.env
            && back.carried > 0
            && e.to_sqlite > 0;
        if !holds {
            terminal::out(&text);
            return Err(failed(format!(
                "the evidence does not hold; the folder {} shows why (run with --keep)",
                folder.display()
            )));
        }
        let said = json!({
            "rows_before": before.len(), "acknowledged": e.acknowledged, "to_target": e.to_sqlite, "carried": back.carried,
            "lost": e.lost, "invented": e.invented, "untouched": e.untouched, "identical": e.identical,
            "frozen_ms": back.frozen_ms, "rollback_seconds": took.as_secs_f64(),
        });
        Ok((said, text))
    }

    fn farewell(&self, begun: Instant, folder: &Path) -> String {
        format!(
            "\nall of it in {}{}. Try next, in your own project's folder:\n\
             \x20 backout init --from json:FILE --to sqlite:FILE   writes what is needed\n\
             \x20 backout plan                                     what would happen; changes nothing\n\
             \x20 backout up                                       move, compare, hand over\n\
             \x20 backout status                                   who is live, what can be done\n\
             \x20 backout rollback                                 take it back\n",
            show::seconds(begun.elapsed().as_secs_f64()),
            if self.keep { format!(", kept in {}", folder.display()) } else { String::new() },
        )
    }
}

/// The demo's project, as the command line opens one.
fn project(folder: &Path, cx: &Context) -> Result<Project, Box<Failure>> {
    Ok(Project::open(folder, &|_| None)?
        .with(Options::default())
        .gated(cx.gate.clone())
        .stopped_by(cx.stop.clone())
        .observed(Arc::new(terminal::Terminal::new(cx.quiet, cx.json))))
}

fn failed(cause: String) -> Box<Failure> {
    Box::new(Failure {
        error: Box::new(Error::Refused { cause, hint: String::new() }),
        state: "only the demo's temporary folder and its own tables were touched".into(),
        hint: "run `backout demo --keep` and look around; `backout -C FOLDER status` works there".into(),
        exit: 1,
    })
}

fn no_server(cause: String) -> Box<Failure> {
    Box::new(Failure {
        error: Box::new(Error::Refused { cause, hint: String::new() }),
        state: "nothing was changed".into(),
        hint: "give the URL of an empty database: `backout demo --postgres postgres://USER@HOST/DATABASE`".into(),
        exit: 1,
    })
}

type Reminders = BTreeMap<String, Value>;

fn reminder(n: u64) -> Value {
    json!({
        "message_id": 1_100_000_000_000_000_000u64 + n,
        "channel_id": 500 + n % 7,
        "guild_id": 42,
        "title": format!("Réunion {n} ☕"),
        "interval_minutes": ([15.0, 30.0, 60.5][(n % 3) as usize]),
        "paused": n.is_multiple_of(5),
        "reactions": ["✅", "❌"],
        "last_reminder": if n.is_multiple_of(4) { Value::Null } else { json!(format!("2025-01-{:02}T08:00:00", 1 + n % 28)) },
    })
}

/// As Python's json.dump(…, indent=4) writes.
fn render(reminders: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut s =
        serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    let _ = serde::Serialize::serialize(reminders, &mut s);
    out
}

fn set_up(folder: &Path, rows: u32, exe: &Path) -> std::io::Result<Reminders> {
    fs::create_dir_all(folder.join("migrations"))?;
    let all: Map<String, Value> = (0..u64::from(rows)).map(|n| (format!("ev{n:06}"), reminder(n))).collect();
    fs::write(folder.join(JSON), render(&all))?;
    fs::write(folder.join(".env"), "# the bot's settings\nDISCORD_TOKEN=not-a-real-one\nUSE_SQLITE=false\n")?;
    let call = |what: &str| json!(format!("'{}' demo-writer {what} '{}'", exe.display(), folder.display())).to_string();
    fs::write(
        folder.join("backout.toml"),
        format!(
            "[project]\nname = \"reminder-bot\"\n\n[stores]\nfiles = \"json:{JSON}\"\nlocal = \"sqlite:{DB}\"\n\n[[service]]\nname  = \"bot\"\nstop  = {}\nstart = {}\ncheck = {}\n\n[[switch]]\ndotenv = \".env\"\nset = {{ USE_SQLITE = \"true\" }}\n",
            call("stop"),
            call("start"),
            call("check")
        ),
    )?;
    fs::write(
        folder.join("migrations/20250301090000_reminders_to_sqlite.toml"),
        "title = \"Reminders move from JSON to SQLite\"\n\n[transfer]\nfrom = \"files\"\nto   = \"local\"\n\n[[transfer.table]]\nsource   = \"$\"\nkey      = \"event_id\"\ninto     = \"events\"\nrequired = [\"message_id\", \"channel_id\", \"guild_id\", \"title\"]\n",
    )?;
    Ok(all.into_iter().collect())
}

/// What was acknowledged: (id, the reminder as written or nothing if deleted, to SQLite).
fn ledger(folder: &Path) -> Vec<(String, Option<Value>, bool)> {
    let text = fs::read_to_string(folder.join("ledger")).unwrap_or_default();
    text.lines().filter_map(|l| serde_json::from_str::<(String, Option<Value>, bool)>(l).ok()).collect()
}

fn wait_for(folder: &Path, writes: usize, cx: &Context) -> Result<(), Box<Failure>> {
    let until = Instant::now() + Duration::from_secs(60);
    while ledger(folder).len() < writes {
        if cx.stop.load(Ordering::SeqCst) {
            return Err(Box::new(Failure::untouched(Error::Stopped)));
        }
        if Instant::now() > until {
            let said = fs::read_to_string(folder.join("bot.log")).unwrap_or_default();
            return Err(failed(format!("the bot does not write any more; it said: {said}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

struct Evidence {
    acknowledged: u64,
    to_sqlite: u64,
    lost: u64,
    invented: u64,
    untouched: u64,
    identical: u64,
    env: bool,
}

/// Replays the ledger over what there was, and holds the file against it.
fn evidence(folder: &Path, before: &Reminders, original: &str) -> Result<Evidence, Box<Failure>> {
    let ledger = ledger(folder);
    let mut expected = before.clone();
    let mut touched = std::collections::BTreeSet::new();
    for (id, value, _) in &ledger {
        touched.insert(id.clone());
        match value {
            Some(v) => expected.insert(id.clone(), v.clone()),
            None => expected.remove(id),
        };
    }
    let text = fs::read_to_string(folder.join(JSON)).map_err(|e| failed(e.to_string()))?;
    let now: Map<String, Value> = serde_json::from_str(&text).map_err(|e| failed(format!("{JSON} is broken: {e}")))?;
    let lost = expected.iter().filter(|(id, v)| now.get(*id) != Some(v)).count()
        + ledger_deletes_back(&expected, &touched, &now);
    let invented = now.keys().filter(|id| !expected.contains_key(*id) && !touched.contains(*id)).count();
    // a record's text: from its key to the next one's
    let records = |text: &str| -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for part in text.split("\n    \"").skip(1) {
            if let Some((id, body)) = part.split_once('"') {
                out.insert(id.to_owned(), body.trim_end_matches(['}', '\n', ',', ' ']).to_owned());
            }
        }
        out
    };
    let (was, is) = (records(original), records(&text));
    let untouched: Vec<_> = was.iter().filter(|(id, _)| !touched.contains(*id)).collect();
    let identical = untouched.iter().filter(|(id, body)| is.get(*id) == Some(body)).count();
    let env = fs::read_to_string(folder.join(".env"))
        .is_ok_and(|t| t == "# the bot's settings\nDISCORD_TOKEN=not-a-real-one\nUSE_SQLITE=false\n");
    Ok(Evidence {
        acknowledged: ledger.len() as u64,
        to_sqlite: ledger.iter().filter(|(_, _, s)| *s).count() as u64,
        lost: lost as u64,
        invented: invented as u64,
        untouched: untouched.len() as u64,
        identical: identical as u64,
        env,
    })
}

/// Deletes that were acknowledged and came back to life.
fn ledger_deletes_back(
    expected: &Reminders,
    touched: &std::collections::BTreeSet<String>,
    now: &Map<String, Value>,
) -> usize {
    touched.iter().filter(|id| !expected.contains_key(*id) && now.contains_key(*id)).count()
}

// ── the bot ────────────────────────────────────────────────────────────────────────────────────────────────────────

impl Writer {
    pub fn run(&self) -> Answered {
        let done = match self.what.as_str() {
            "start" => std::env::current_exe().and_then(|exe| start(&self.folder, &exe)),
            "stop" => stop(&self.folder),
            "check" => check(&self.folder),
            _ => bot(&self.folder),
        };
        done.map(|()| Answer::new(&json!({}), "")).map_err(|e| failed(e.to_string()))
    }
}

fn start(folder: &Path, exe: &Path) -> std::io::Result<()> {
    if check(folder).is_ok() {
        return Ok(());
    }
    let log = OpenOptions::new().create(true).append(true).open(folder.join("bot.log"))?;
    std::process::Command::new(exe)
        .args(["demo-writer", "run"])
        .arg(folder)
        .env_remove("BACKOUT_GATE")
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let until = Instant::now() + Duration::from_secs(10);
    while check(folder).is_err() {
        if Instant::now() > until {
            return Err(std::io::Error::other("the bot did not start"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The bot holds a lock as long as it lives.
fn check(folder: &Path) -> std::io::Result<()> {
    match File::open(folder.join("bot.lock"))?.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Ok(()),
        _ => Err(std::io::Error::other("the bot does not run")),
    }
}

fn stop(folder: &Path) -> std::io::Result<()> {
    if !folder.join("bot.lock").exists() {
        return Ok(());
    }
    fs::write(folder.join("bot.stop"), "")?;
    let until = Instant::now() + Duration::from_secs(10);
    while check(folder).is_ok() {
        if Instant::now() > until {
            return Err(std::io::Error::other("the bot goes on"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(folder.join("bot.stop")).or(Ok(()))
}

fn bot(folder: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(folder.join("bot.stop"));
    let lock = File::create(folder.join("bot.lock"))?;
    lock.lock()?;
    let mut ledger_file = OpenOptions::new().create(true).append(true).open(folder.join("ledger"))?;
    let mut n = ledger(folder).len() as u64;
    let mut born = 1_000_000 + n;
    // a bot whose demo was killed ends by itself
    let last = Instant::now() + Duration::from_secs(120);
    while !folder.join("bot.stop").exists() && Instant::now() < last {
        n += 1;
        let sqlite = fs::read_to_string(folder.join(".env"))?.lines().any(|l| l == "USE_SQLITE=true");
        // a step of a fixed walk through the reminders: of six writes three edit, two add, one deletes
        let target = (n * 7919) % 3000;
        let (id, value) = match n % 6 {
            0 | 3 => {
                born += 1;
                (format!("ev{born:07}"), Some(reminder(born)))
            }
            1 => (format!("ev{target:06}"), None),
            _ => {
                let mut r = reminder(target);
                r["title"] = json!(format!("Edited {n} «{target}» \"quoted\""));
                r["paused"] = json!(true);
                (format!("ev{target:06}"), Some(r))
            }
        };
        let written =
            if sqlite { write_sqlite(folder, &id, value.as_ref()) } else { write_json(folder, &id, value.as_ref()) };
        match written {
            Ok(()) => {
                writeln!(ledger_file, "{}", json!([id, value, sqlite]))?;
                ledger_file.flush()?;
            }
            Err(e) => {
                eprintln!("a write was refused: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(if sqlite { 2 } else { 10 }));
    }
    Ok(())
}

fn write_json(folder: &Path, id: &str, value: Option<&Value>) -> std::io::Result<()> {
    let path = folder.join(JSON);
    let mut all: Map<String, Value> = serde_json::from_str(&fs::read_to_string(&path)?)?;
    match value {
        Some(v) => {
            all.insert(id.to_owned(), v.clone());
        }
        None => {
            all.shift_remove(id);
        }
    }
    let next = folder.join("watched_reminders.json.bot");
    fs::write(&next, render(&all))?;
    fs::rename(next, path)
}

fn write_sqlite(folder: &Path, id: &str, value: Option<&Value>) -> Result<(), std::io::Error> {
    let run = || -> rusqlite::Result<()> {
        let db = rusqlite::Connection::open(folder.join(DB))?;
        db.busy_timeout(Duration::from_secs(5))?;
        let Some(v) = value else {
            db.execute("delete from events where event_id = ?1", [id])?;
            return Ok(());
        };
        let text = |k: &str| v[k].as_str().map(str::to_owned);
        db.execute(
            "insert or replace into events (event_id, message_id, channel_id, guild_id, title, interval_minutes, paused, reactions, last_reminder)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            rusqlite::params![
                id,
                v["message_id"].as_i64(),
                v["channel_id"].as_i64(),
                v["guild_id"].as_i64(),
                text("title"),
                v["interval_minutes"].as_f64(),
                v["paused"].as_bool(),
                v["reactions"].to_string(),
                text("last_reminder"),
            ],
        )?;
        Ok(())
    };
    run().map_err(std::io::Error::other)
}
