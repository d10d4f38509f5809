//! How long one write of an application waits for a cutover in place, and for its rollback: varchar(36) keys become uuid.
//!
//!     BACKOUT_TEST_FSYNC=1 scripts/with-postgres cargo bench --bench cutover [-- ENTRIES ROUNDS]
//!
//! 1 000 000 entries and 20 rounds. Eight clients read and write by key without a pause (but 5 ms after each statement while the new tables are
//! built, or that would take most of the time), each over one connection that is never closed. A round is `up --until ready`, `cutover` and `rollback`; then the clients stop for a moment, and all that they were told is
//! written is looked for. At the end the same change by ALTER TABLE on a copy of the data, under the same clients.
//!
//! With BACKOUT_BENCH_LOG=1 the server writes down each of our statements with its time: in `target/bench/cutover.log` afterwards.

mod bench;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bench::{Database, Random, Result, backout, median, numbers};

const CLIENTS: usize = 8;
/// How many entries each client changes, and how many of its own it keeps.
const OWN: u64 = 2_000;
const MADE: usize = 200;

const SCHEMA: &str = "
CREATE TABLE users (id varchar(36) PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, hashed_password varchar(255) NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp);
CREATE TABLE journal_entries (id varchar(36) PRIMARY KEY, user_id varchar(36) NOT NULL REFERENCES users (id), title varchar(200),
    body text, mood integer, score double precision, created_at timestamp NOT NULL DEFAULT now());
CREATE INDEX ix_journal_entries_user_id ON journal_entries (user_id);
CREATE TABLE tags (id varchar(36) PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE entry_tags (entry_id varchar(36) REFERENCES journal_entries (id) ON DELETE CASCADE,
    tag_id varchar(36) REFERENCES tags (id), PRIMARY KEY (entry_id, tag_id));
CREATE TABLE reminders (id varchar(36) PRIMARY KEY, entry_id varchar(36) NOT NULL REFERENCES journal_entries (id) ON DELETE CASCADE,
    due timestamp NOT NULL);
CREATE INDEX ix_reminders_entry_id ON reminders (entry_id);";

const MIGRATION: &str = "title = \"Keys become uuid\"\n[rekey]\nstore = \"main\"\ntype = \"uuid\"\n\
    tables = [\"users\", \"journal_entries\", \"tags\", \"reminders\"]\n";

/// What people do who have no other way. `journal_entries` is locked first, as each client's statement begins there.
const ALTER: &str = "BEGIN; LOCK TABLE journal_entries, entry_tags, reminders, tags, users;
ALTER TABLE journal_entries DROP CONSTRAINT journal_entries_user_id_fkey;
ALTER TABLE entry_tags DROP CONSTRAINT entry_tags_entry_id_fkey, DROP CONSTRAINT entry_tags_tag_id_fkey;
ALTER TABLE reminders DROP CONSTRAINT reminders_entry_id_fkey;
ALTER TABLE users ALTER COLUMN id TYPE uuid USING id::uuid;
ALTER TABLE tags ALTER COLUMN id TYPE uuid USING id::uuid;
ALTER TABLE journal_entries ALTER COLUMN id TYPE uuid USING id::uuid, ALTER COLUMN user_id TYPE uuid USING user_id::uuid;
ALTER TABLE entry_tags ALTER COLUMN entry_id TYPE uuid USING entry_id::uuid, ALTER COLUMN tag_id TYPE uuid USING tag_id::uuid;
ALTER TABLE reminders ALTER COLUMN id TYPE uuid USING id::uuid, ALTER COLUMN entry_id TYPE uuid USING entry_id::uuid;
ALTER TABLE journal_entries ADD CONSTRAINT journal_entries_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id);
ALTER TABLE entry_tags ADD CONSTRAINT entry_tags_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES journal_entries (id) ON DELETE CASCADE,
    ADD CONSTRAINT entry_tags_tag_id_fkey FOREIGN KEY (tag_id) REFERENCES tags (id);
ALTER TABLE reminders ADD CONSTRAINT reminders_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES journal_entries (id) ON DELETE CASCADE;
COMMIT";

fn fill(db: &Database, entries: u64) -> Result<()> {
    let (users, last) = ((entries / 20).max(1), entries - 1);
    let id = |what: &str, n: &str| format!("md5('{what}' || {n})::uuid::text");
    let (user, entry, tag) = (id("user", "n"), id("entry", "n"), id("tag", "n"));
    let (author, label) = (id("user", &format!("n::int8 * 7919 % {users}")), id("tag", "n % 50"));
    db.client()?.batch_execute(&format!(
        "{SCHEMA}
         INSERT INTO users SELECT {user}, 'u' || n || '@example.com', repeat('x', 60) FROM generate_series(0, {users} - 1) n;
         INSERT INTO journal_entries SELECT {entry}, {author}, 'title ' || n, repeat('what was on that day ', 10), n % 10, n / 7.0
            FROM generate_series(0, {last}) n;
         INSERT INTO tags SELECT {tag}, 'tag ' || n FROM generate_series(0, 49) n;
         INSERT INTO entry_tags SELECT {entry}, {label} FROM generate_series(0, {last}, 5) n;
         INSERT INTO reminders SELECT {reminder}, {entry}, now() FROM generate_series(0, {last}, 10) n;",
        reminder = id("reminder", "n"),
    ))?;
    let mut c = db.client()?;
    c.batch_execute("VACUUM ANALYZE")?;
    c.batch_execute("CHECKPOINT")?;
    // a copy can be made when it has gone
    c.close()?;
    while Database::server()?
        .query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", &[&db.name])?
        .get::<_, i64>(0)
        > 0
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

// ── the clients ────────────────────────────────────────────────────────────────────────────────────────────────────

/// By key: the title that the client was told is written.
type Ledger = HashMap<String, String>;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pause: AtomicBool,
    ease: AtomicBool,
    parked: AtomicUsize,
    done: [AtomicU64; CLIENTS],
    /// The longest write of each since it was last asked, in microseconds.
    longest: [AtomicU64; CLIENTS],
    errors: Mutex<Vec<String>>,
    ledgers: [Mutex<Ledger>; CLIENTS],
    made: [AtomicUsize; CLIENTS],
}

struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(db: &Database, entries: u64) -> Result<Clients> {
        let mut all = Clients { shared: Arc::default(), threads: Vec::new() };
        for n in 0..CLIENTS {
            let mut db = db.client()?;
            let ids = |db: &mut postgres::Client, what: &str, from: usize, upto: u64, step: u64, limit: u64| {
                let ask = format!(
                    "SELECT md5('{what}' || n)::uuid::text FROM generate_series({from}, {upto} - 1, {step}) n LIMIT {limit}"
                );
                db.query(&ask, &[]).map(|lines| lines.iter().map(|l| l.get(0)).collect::<Vec<String>>())
            };
            // no two clients change the same entry, so that each knows what is in it
            let step = CLIENTS as u64 * (entries / CLIENTS as u64 / OWN).max(1);
            let own = ids(&mut db, "entry", n, entries, step, OWN)?;
            let users = ids(&mut db, "user", 0, (entries / 20).max(1), 1, 500)?;
            let shared = all.shared.clone();
            all.threads.push(std::thread::spawn(move || work(n, &mut db, &own, &users, &shared)));
        }
        Ok(all)
    }

    /// The longest single write in milliseconds since this was last asked, what was under way to its end.
    fn longest(&self) -> f64 {
        let before: Vec<u64> = self.shared.done.iter().map(|d| d.load(SeqCst)).collect();
        while self.alive() && self.shared.done.iter().zip(&before).any(|(now, then)| now.load(SeqCst) == *then) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.longest.iter().map(|l| l.swap(0, SeqCst)).max().unwrap_or(0) as f64 / 1000.0
    }

    /// A client ends by itself if its connection does.
    fn alive(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    fn statements(&self) -> u64 {
        self.shared.done.iter().map(|d| d.load(SeqCst)).sum()
    }

    fn errors(&self) -> Vec<String> {
        self.shared.errors.lock().map(|e| e.clone()).unwrap_or_default()
    }

    /// How many acknowledged writes are not there, with the clients standing still meanwhile.
    fn lost(&self, db: &Database, entries: u64) -> Result<u64> {
        self.shared.pause.store(true, SeqCst);
        while self.alive() && self.shared.parked.load(SeqCst) < CLIENTS {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut lost = 0;
        let mut keys = Vec::new();
        for ledger in &self.shared.ledgers {
            keys.extend(ledger.lock().map_err(|_| "a client has failed")?.clone());
        }
        let ids: Vec<&str> = keys.iter().map(|(id, _)| id.as_str()).collect();
        let ask = "SELECT id::text, title FROM journal_entries WHERE id::text = ANY($1::text[])";
        let there: Ledger = db.client()?.query(ask, &[&ids])?.iter().map(|l| (l.get(0), l.get(1))).collect();
        lost += keys.iter().filter(|(id, title)| there.get(id) != Some(title)).count() as u64;
        // of what was deleted only the number is known
        let count: i64 = db.client()?.query_one("SELECT count(*) FROM journal_entries", &[])?.get(0);
        let made: usize = self.shared.made.iter().map(|m| m.load(SeqCst)).sum();
        lost += count.unsigned_abs().abs_diff(entries + made as u64);
        self.shared.pause.store(false, SeqCst);
        while self.alive() && self.shared.parked.load(SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(lost)
    }

    fn stop(self) -> Result<()> {
        self.shared.stop.store(true, SeqCst);
        self.threads.into_iter().try_for_each(|t| t.join()).map_err(|_| "a client has failed".into())
    }
}

/// Four of ten are reads. The keys are literals, which are of the column's type whatever that is, as an application would have them from a
/// driver that sends text.
fn work(n: usize, db: &mut postgres::Client, own: &[String], users: &[String], shared: &Shared) {
    let (mut random, mut made) = (Random(100 + n as u64), VecDeque::new());
    while !shared.stop.load(SeqCst) {
        if shared.pause.load(SeqCst) {
            shared.parked.fetch_add(1, SeqCst);
            while shared.pause.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            shared.parked.fetch_sub(1, SeqCst);
        }
        if shared.ease.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let entry = &own[random.below(own.len() as u64) as usize];
        let user = &users[random.below(users.len() as u64) as usize];
        let title = format!("title {}", random.next());
        let what = random.below(10);
        let (sql, known) = match what {
            0..4 => (format!("SELECT title, body FROM journal_entries WHERE id = '{entry}'"), None),
            4..8 => (
                format!("UPDATE journal_entries SET title = '{title}' WHERE id = '{entry}'"),
                Some((entry.clone(), true)),
            ),
            8 => {
                let id = random.uuid();
                let sql = format!(
                    "INSERT INTO journal_entries (id, user_id, title, body, mood) VALUES ('{id}', '{user}', '{title}', 'new', 5)"
                );
                (sql, Some((id, true)))
            }
            _ if made.len() > MADE => match made.pop_front() {
                Some(id) => (format!("DELETE FROM journal_entries WHERE id = '{id}'"), Some((id, false))),
                None => continue,
            },
            _ => (format!("UPDATE users SET updated_at = now() WHERE id = '{user}'"), None),
        };
        let begun = std::time::Instant::now();
        let done = db.batch_execute(&sql);
        let took = begun.elapsed();
        if what >= 4 {
            shared.longest[n].fetch_max(took.as_micros() as u64, SeqCst);
        }
        shared.done[n].fetch_add(1, SeqCst);
        if let Err(e) = done {
            if let Ok(mut errors) = shared.errors.lock() {
                errors.push(format!("{sql}: {e:?}"));
            }
            if db.is_closed() {
                return;
            }
            continue;
        }
        let Ok(mut ledger) = shared.ledgers[n].lock() else { return };
        match known {
            Some((id, true)) => {
                if what == 8 {
                    made.push_back(id.clone());
                    shared.made[n].fetch_add(1, SeqCst);
                }
                ledger.insert(id, title);
            }
            Some((id, false)) => {
                shared.made[n].fetch_sub(1, SeqCst);
                ledger.remove(&id);
            }
            None => {}
        }
    }
}

// ── the rounds ─────────────────────────────────────────────────────────────────────────────────────────────────────

fn main() -> Result<()> {
    let asked = numbers(&[1_000_000, 20]);
    let (entries, rounds) = (asked[0], asked.get(1).copied().unwrap_or(20));
    println!("\n## Cutover and rollback in place, varchar(36) → uuid, {entries} entries\n");
    println!("{}; {}.", bench::machine(), bench::server_version()?);
    let db = Database::new()?;
    fill(&db, entries)?;
    let copy = db.copy()?;
    println!(
        "{entries} entries, {} users, 50 tags, {} entry_tags, {} reminders, joined by foreign keys; {CLIENTS} clients without a pause, four \
         of ten statements are reads. Milliseconds of the longest single write of any client, from the start of the command to its end; \
         \"at rest\" is a second without a command before it.\n",
        (entries / 20).max(1),
        entries.div_ceil(5),
        entries.div_ceil(10)
    );
    println!("| round | at rest | cutover | frozen, it says | rollback | frozen, it says | lost writes | errors |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    let log = std::env::var_os("BACKOUT_BENCH_LOG").is_some();
    let logged = if log { "?options=-c%20log_min_duration_statement%3D0" } else { "" };
    if log {
        let mut server = Database::server()?;
        server.batch_execute("ALTER SYSTEM SET log_line_prefix = '%n %p %a |'")?;
        server.batch_execute("SELECT pg_reload_conf()")?;
    }
    let config = format!("main = \"{}{logged}\"\n[rollback]\nclean_target = true\n", db.url);
    let folder = bench::project(&config, MIGRATION)?;
    let run = |arguments: &[&str]| backout(folder.path(), arguments);
    let clients = Clients::start(&db, entries)?;
    let (mut outs, mut backs, mut thaws, mut peak, mut all_lost) = (Vec::new(), Vec::new(), Vec::new(), 0.0f64, 0);
    let begun = std::time::Instant::now();
    for round in 1..=rounds {
        clients.shared.ease.store(true, SeqCst);
        peak = peak.max(run(&["up", "--until", "ready"])?.peak);
        clients.shared.ease.store(false, SeqCst);
        clients.longest();
        std::thread::sleep(Duration::from_secs(1));
        let rest = clients.longest();
        let cutover = run(&["cutover"])?;
        let out = clients.longest();
        let rollback = run(&["rollback", "--no-verify"])?;
        let back = clients.longest();
        let lost = clients.lost(&db, entries)?;
        let frozen = |ran: &bench::Ran| -> Result<f64> { Ok(ran.json()?["frozen_ms"].as_f64().unwrap_or(f64::NAN)) };
        let (there, thaw) = (frozen(&cutover)?, frozen(&rollback)?);
        println!(
            "| {round} | {rest:.0} | {out:.0} | {there:.0} | {back:.0} | {thaw:.0} | {lost} | {} |",
            clients.errors().len()
        );
        outs.push(out);
        backs.push(back);
        thaws.push(thaw);
        all_lost += lost;
        peak = peak.max(cutover.peak).max(rollback.peak);
    }
    if log {
        let data: String = Database::server()?.query_one("SHOW data_directory", &[])?.get(0);
        std::fs::copy(format!("{data}/../server.log"), bench::folder("")?.join("cutover.log"))?;
    }
    let (rate, errors) = (clients.statements() as f64 / begun.elapsed().as_secs_f64(), clients.errors());
    clients.stop()?;
    for e in errors.iter().take(5) {
        println!("\nA client was told: {e}");
    }

    let clients = Clients::start(&copy, entries)?;
    std::thread::sleep(Duration::from_secs(1));
    clients.longest();
    let altered = std::time::Instant::now();
    copy.client()?.batch_execute(ALTER)?;
    let altered = altered.elapsed().as_secs_f64() * 1000.0;
    let alter = clients.longest();
    let alter_errors = clients.errors().len();
    clients.stop()?;

    let most = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    println!("\n| | longest write, ms: median | worst | client errors | lost writes |\n|---|---:|---:|---:|---:|");
    let told = |name: &str, all: &[f64], errors: usize, lost: &str| {
        println!("| {name} | {:.0} | {:.0} | {errors} | {lost} |", median(all.iter().copied()), most(all));
    };
    told(&format!("`backout cutover`, {rounds} times"), &outs, errors.len(), &all_lost.to_string());
    told(&format!("`backout rollback --no-verify`, {rounds} times"), &backs, errors.len(), &all_lost.to_string());
    told(&format!("`ALTER TABLE … TYPE uuid`, {altered:.0} ms in all"), &[alter], alter_errors, "");
    println!(
        "\nRollback from freeze to thaw: median {:.0} ms, worst {:.0} ms. {rate:.0} statements a second by the clients throughout. \
         Peak of `backout`: {peak:.0} MiB.",
        median(thaws.iter().copied()),
        most(&thaws)
    );
    Ok(())
}
