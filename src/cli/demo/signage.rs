//! The demo's second part: a signage player's assets move from SQLite to PostgreSQL and back. Nobody is stopped: the seal refuses the
//! player's writes, it rereads .env, and goes to the other store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backout::migrate::{Failure, RollbackOptions, UpOptions};
use postgres::{Client, NoTls};
use rusqlite::Connection;
use serde_json::json;

use super::super::{Answered, Context, show, terminal};
use super::{failed, project};

const DB: &str = "screenly.db";
const ENV: &str = "# the player's settings\nUSE_POSTGRES=false\n";
const COLUMNS: &str = "asset_id, name, uri, md5, start_date, end_date, duration, mimetype, is_enabled, play_order";

/// Values as SQL literals, which both databases read alike.
type Asset = Vec<String>;
/// What was acknowledged: the asset's id, the asset or nothing if deleted, whether it went to PostgreSQL.
type Ledger = Vec<(String, Option<Asset>, bool)>;

fn asset(id: &str, n: u64) -> Asset {
    let date = |n: u64| format!("'2025-{:02}-{:02} {:02}:00:00'", 1 + n % 12, 1 + n % 28, n % 24);
    vec![
        format!("'{id}'"),
        format!("'Écran {n} ''à gauche'' ☕'"),
        format!("'https://example.org/{n}?a=%20'"),
        if n.is_multiple_of(3) { "NULL".into() } else { format!("'{n:032x}'") },
        date(n),
        if n.is_multiple_of(4) { "NULL".into() } else { date(n + 7) },
        format!("'{}'", n % 60),
        format!("'{}'", ["image", "video", "webpage"][(n % 3) as usize]),
        (n % 2).to_string(),
        n.to_string(),
    ]
}

/// An empty database, or a refusal that names what is in it. Nothing is changed.
pub fn must_be_empty(url: &str) -> Result<(), Box<Failure>> {
    let mut client = connect(url)?;
    let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
        UNION ALL SELECT 'the schema backout' FROM pg_namespace WHERE nspname = 'backout' LIMIT 3";
    let there = client.query(sql, &[]).map_err(|e| failed(format!("{}: {e}", shown(url))))?;
    if there.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = there.iter().map(|r| r.get(0)).collect();
    let cause = format!("{} is not empty: there is {}", shown(url), names.join(", "));
    Err(Box::new(Failure {
        error: Box::new(backout::migrate::Error::Refused { cause, hint: String::new() }),
        state: "nothing was changed".into(),
        hint: "the demo only works in a database of its own: `createdb backout_demo` makes one".into(),
        exit: 4,
    }))
}

fn connect(url: &str) -> Result<Client, Box<Failure>> {
    let unreachable = |e: postgres::Error| {
        // its own words come first, where there are any
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        let cause = format!("{}: {cause}", shown(url));
        Box::new(Failure {
            error: Box::new(backout::migrate::Error::Refused { cause, hint: String::new() }),
            state: "nothing was changed".into(),
            hint: "give the URL of an empty database that can be reached, postgres://USER@HOST/DATABASE".into(),
            exit: 2,
        })
    };
    let mut config: postgres::Config = url.parse().map_err(unreachable)?;
    config.connect_timeout(Duration::from_secs(5));
    config.connect(NoTls).map_err(unreachable)
}

fn shown(url: &str) -> String {
    backout::plan::redact(url)
}

/// Plays it; whatever happens, nothing stays in the database.
pub fn play(cx: &Context, folder: &Path, url: &str, rows: u32) -> Answered {
    let result = run(cx, folder, url, u64::from(rows));
    // it was empty when we came
    if let Ok(mut client) = connect(url) {
        let _ = client.batch_execute("DROP SCHEMA IF EXISTS backout CASCADE; DROP TABLE IF EXISTS assets CASCADE");
    }
    result
}

fn run(cx: &Context, folder: &Path, url: &str, rows: u64) -> Answered {
    set_up(folder, url, rows).map_err(|e| failed(format!("{}: {e}", folder.display())))?;
    let say = |text: &str| {
        if !cx.json && !cx.quiet {
            terminal::out(&format!("{text}\n"));
        }
    };
    let before = assets(folder).map_err(|e| failed(e.to_string()))?;
    say(&format!("\nA signage player keeps {} assets in {DB}. They move to PostgreSQL.", show::number(rows)));
    say("Nobody stops it: refused on one side, it rereads .env and writes on the other.\n");
    let player =
        Player { folder, url, ledger: Mutex::default(), over: AtomicBool::new(false), longest: Mutex::default() };
    std::thread::scope(|threads| {
        let _ends = Ends(&player.over);
        threads.spawn(|| player.live());
        player.wait_for(50, cx)?;
        let project = || project(folder, cx);
        say("$ backout up");
        say(&show::outcome(&project()?.up(&UpOptions::default())?));
        let at_cutover = player.written();
        player.wait_for(at_cutover + 300, cx)?;
        project()?.shadow()?;
        player.wait_for(player.written() + 100, cx)?;
        say(&format!(
            "The player has written {} times to PostgreSQL since.",
            show::number((player.written() - at_cutover) as u64)
        ));
        say("Now the screens stay black (simulated). Back.\n");
        say("$ backout rollback");
        let taken = Instant::now();
        let asked = RollbackOptions { clean_target: Some(true), ..RollbackOptions::default() };
        let back = project()?.rollback(&asked)?;
        let took = taken.elapsed();
        say(&show::outcome(&back));
        player.wait_for(player.written() + 20, cx)?;
        player.over.store(true, Ordering::SeqCst);
        Ok((back, took))
    })
    .and_then(|(back, took): (backout::migrate::Outcome, Duration)| {
        let ledger = player.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = *player.longest.lock().unwrap_or_else(PoisonError::into_inner);
        let after = assets(folder).map_err(|e| failed(e.to_string()))?;
        let touched: BTreeSet<&String> = ledger.iter().map(|(id, ..)| id).collect();
        let mut expected = before.clone();
        for (id, asset, _) in ledger.iter() {
            match asset {
                Some(a) => expected.insert(id.clone(), kept(a)),
                None => expected.remove(id),
            };
        }
        let lost = expected.iter().filter(|(id, a)| after.get(*id) != Some(a)).count();
        let invented = after.keys().filter(|id| !expected.contains_key(*id)).count();
        let untouched: Vec<_> = before.iter().filter(|(id, _)| !touched.contains(id)).collect();
        let identical = untouched.iter().filter(|(id, a)| after.get(*id) == Some(a)).count();
        let to_postgres = ledger.iter().filter(|(.., p)| *p).count();
        let env = fs::read_to_string(folder.join(".env")).is_ok_and(|t| t == ENV);
        let n = |n: usize| show::number(n as u64);
        let lines = [
            ("assets before", n(before.len())),
            ("written since, all acknowledged", n(ledger.len())),
            ("  to PostgreSQL, between cutover and rollback", n(to_postgres)),
            ("rows carried back", show::number(back.carried)),
            ("lost", n(lost)),
            ("invented", n(invented)),
            ("untouched assets, every byte and type as before", format!("{} of {}", n(identical), n(untouched.len()))),
            (".env as before", if env { "yes".into() } else { "NO".into() }),
            ("frozen (nobody could write)", format!("{} ms", back.frozen_ms.unwrap_or(0))),
            ("longest that a single write of the player took", show::seconds(longest.as_secs_f64())),
            ("rollback in all, full comparison too", show::seconds(took.as_secs_f64())),
        ];
        let mut text = String::from("evidence\n");
        for (what, value) in &lines {
            let _ = writeln!(text, "  {what:<52} {value:>12}");
        }
        let holds = lost == 0 && invented == 0 && identical == untouched.len() && env && to_postgres > 0 && back.carried > 0;
        if !holds {
            terminal::out(&text);
            return Err(failed(format!("the evidence does not hold; the folder {} shows why (run with --keep)", folder.display())));
        }
        let said = json!({
            "rows_before": before.len(), "acknowledged": ledger.len(), "to_target": to_postgres, "carried": back.carried,
            "lost": lost, "invented": invented, "untouched": untouched.len(), "identical": identical,
            "frozen_ms": back.frozen_ms, "longest_write_ms": longest.as_millis() as u64,
            "rollback_seconds": took.as_secs_f64(),
        });
        Ok(super::Answer::new(&said, text))
    })
}

/// Raised at the end, whatever it was.
struct Ends<'o>(&'o AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn set_up(folder: &Path, url: &str, rows: u64) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("migrations"))?;
    fs::write(folder.join(".env"), ENV)?;
    let url = toml_text(url);
    fs::write(
        folder.join("backout.toml"),
        format!(
            "[project]\nname = \"signage\"\n\n[stores]\nplayer = \"sqlite:{DB}\"\nmain = {url}\n\n[[switch]]\ndotenv = \".env\"\nset = {{ USE_POSTGRES = \"true\" }}\n"
        ),
    )?;
    fs::write(
        folder.join("migrations/20250401090000_assets_to_postgres.toml"),
        "title = \"Assets move from SQLite to PostgreSQL\"\n\n[transfer]\nfrom = \"player\"\nto   = \"main\"\n",
    )?;
    let fill = || -> rusqlite::Result<()> {
        let db = Connection::open(folder.join(DB))?;
        db.execute_batch(
            "CREATE TABLE assets (asset_id TEXT PRIMARY KEY, name TEXT, uri TEXT, md5 TEXT, start_date TIMESTAMP,
                 end_date TIMESTAMP, duration TEXT, mimetype TEXT, is_enabled INTEGER default 0, play_order INTEGER default 0);
             BEGIN",
        )?;
        for n in 0..rows {
            let values = asset(&format!("asset{n:06}"), n).join(", ");
            db.execute_batch(&format!("INSERT INTO assets ({COLUMNS}) VALUES ({values})"))?;
        }
        db.execute_batch("COMMIT")
    };
    fill().map_err(std::io::Error::other)
}

fn toml_text(text: &str) -> String {
    json!(text).to_string()
}

/// Every asset with the type and bytes of each value, as SQLite holds it.
fn assets(folder: &Path) -> rusqlite::Result<BTreeMap<String, String>> {
    let db = Connection::open(folder.join(DB))?;
    db.busy_timeout(Duration::from_secs(10))?;
    let quoted: Vec<String> = COLUMNS.split(", ").map(|c| format!("quote({c})")).collect();
    let mut all = db.prepare(&format!("SELECT asset_id, {} FROM assets", quoted.join(" || ', ' || ")))?;
    all.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
}

/// The same of an asset that was written.
fn kept(asset: &Asset) -> String {
    asset.join(", ")
}

/// The player: one write after the other, to the side that .env names.
struct Player<'f> {
    folder: &'f Path,
    url: &'f str,
    ledger: Mutex<Ledger>,
    over: AtomicBool,
    longest: Mutex<Duration>,
}

impl Player<'_> {
    fn written(&self) -> usize {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn wait_for(&self, writes: usize, cx: &Context) -> Result<(), Box<Failure>> {
        let until = Instant::now() + Duration::from_secs(60);
        while self.written() < writes {
            if cx.stop.load(Ordering::SeqCst) {
                return Err(Box::new(Failure::untouched(backout::migrate::Error::Stopped)));
            }
            if Instant::now() > until {
                return Err(failed("the player does not write any more".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn live(&self) {
        let mut server = None;
        let (mut n, mut born) = (0u64, 1_000_000u64);
        while !self.over.load(Ordering::SeqCst) {
            n += 1;
            let target = format!("asset{:06}", (n * 7919) % 3000);
            let (id, value) = match n % 6 {
                0 | 3 => {
                    born += 1;
                    let id = format!("asset{born}");
                    (id.clone(), Some(asset(&id, born)))
                }
                1 => (target, None),
                _ => (target.clone(), Some(asset(&target, n + 40_000))),
            };
            let begun = Instant::now();
            while !self.over.load(Ordering::SeqCst) {
                if let Some(to_postgres) = self.write(&mut server, &id, value.as_ref()) {
                    let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
                    *longest = begun.elapsed().max(*longest);
                    self.ledger.lock().unwrap_or_else(PoisonError::into_inner).push((id, value, to_postgres));
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // a player, not a benchmark
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// To which side it went; nothing if it was refused.
    fn write(&self, server: &mut Option<Client>, id: &str, value: Option<&Asset>) -> Option<bool> {
        let to_postgres = fs::read_to_string(self.folder.join(".env")).ok()?.lines().any(|l| l == "USE_POSTGRES=true");
        let delete = format!("DELETE FROM assets WHERE asset_id = '{id}'");
        let values = value.map(|v| format!("; INSERT INTO assets ({COLUMNS}) VALUES ({})", v.join(", ")));
        let sql = format!("BEGIN; {delete}{}; COMMIT", values.unwrap_or_default());
        if to_postgres {
            if server.is_none() {
                *server = Client::connect(self.url, NoTls).ok();
            }
            if server.as_mut()?.batch_execute(&sql).is_err() {
                // whatever the transaction was, it is over with its session
                *server = None;
                return None;
            }
        } else {
            let db = Connection::open(self.folder.join(DB)).ok()?;
            db.busy_timeout(Duration::from_secs(10)).ok()?;
            db.execute_batch(&sql.replacen("BEGIN", "BEGIN IMMEDIATE", 1)).ok()?;
        }
        Some(to_postgres)
    }
}
