//! S0: a reminder bot moves from its JSON file to SQLite and back while it writes; nothing is lost, nothing invented.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::{Home, ok, wait_until};

/// What a person would write: stop and start tell the bot through files, and wait until it says so.
const CONFIG: &str = r#"
[[service]]
name  = "bot"
stop  = "rm -f run; until [ -e idle ]; do sleep 0.01; done"
start = "touch run; while [ -e idle ]; do sleep 0.01; done"
check = "test -e run && test ! -e idle"

[[switch]]
dotenv = ".env"
set = { USE_SQLITE = "true" }
"#;

const ENV: &str = "# the bot's own\nTOKEN='x y'\nUSE_SQLITE=false\n";

struct Bot<'h> {
    home: &'h Home,
    over: AtomicBool,
    writes: AtomicUsize,
    /// Acknowledged writes: a reminder as it was written, or none where it was deleted.
    ledger: Mutex<Vec<(String, Option<Value>)>>,
}

impl Bot<'_> {
    /// Works while the service is to run, and says when it does not.
    fn live(&self) {
        let (run, idle) = (self.home.path("run"), self.home.path("idle"));
        let mut n = 0;
        while !self.over.load(Ordering::SeqCst) {
            if !run.exists() {
                std::fs::write(&idle, "").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            let _ = std::fs::remove_file(&idle);
            n += 1;
            self.write(n);
        }
    }

    fn write(&self, n: usize) {
        let known = (n * 7919) % 200;
        let (id, reminder) = match n % 5 {
            0 | 3 => (format!("born{n}"), Some(reminder(n))),
            1 => (format!("ev{known:04}"), None),
            _ => {
                let mut r = reminder(known);
                r["title"] = json!(format!("Ü {n} \"{known}\" ☕\n"));
                r["paused"] = json!(true);
                r["last"] = Value::Null;
                (format!("ev{known:04}"), Some(r))
            }
        };
        let to_sqlite = self.home.text(".env").lines().any(|l| l == "USE_SQLITE=true");
        if to_sqlite {
            self.to_sqlite(&id, reminder.as_ref());
        } else {
            to_json(&self.home.path("reminders.json"), &id, reminder.as_ref());
        }
        self.ledger.lock().unwrap().push((id, reminder));
        self.writes.fetch_add(1, Ordering::SeqCst);
    }

    fn to_sqlite(&self, id: &str, reminder: Option<&Value>) {
        let db = self.home.sqlite("bot.db");
        let Some(r) = reminder else {
            db.execute("DELETE FROM events WHERE event_id = ?1", [id]).unwrap();
            return;
        };
        let values = rusqlite::params![
            id,
            r["message_id"].as_i64(),
            r["title"].as_str(),
            r["every"].as_f64(),
            r["paused"].as_bool(),
            r["reactions"].to_string(),
            r["last"].as_str()
        ];
        db.execute("INSERT OR REPLACE INTO events (event_id, message_id, title, every, paused, reactions, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", values)
            .unwrap();
    }

    fn wait_for(&self, more: usize) {
        let goal = self.writes.load(Ordering::SeqCst) + more;
        wait_until("the bot writes", || self.writes.load(Ordering::SeqCst) >= goal);
    }
}

fn reminder(n: usize) -> Value {
    let last = if n.is_multiple_of(4) { Value::Null } else { json!(format!("2025-01-{:02}T08:00:00", 1 + n % 28)) };
    json!({
        "message_id": 1_100_000_000_000_000_000u64 + n as u64, "title": format!("Réunion {n}"), "every": ([15.0, 30.0, 60.5][n % 3]),
        "paused": n.is_multiple_of(5), "reactions": ["✅", {"n": n}], "last": last
    })
}

fn render(all: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut s =
        serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    serde::Serialize::serialize(all, &mut s).unwrap();
    out
}

fn to_json(path: &Path, id: &str, reminder: Option<&Value>) {
    let mut all: Map<String, Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    match reminder {
        Some(r) => drop(all.insert(id.to_owned(), r.clone())),
        None => drop(all.shift_remove(id)),
    }
    let next = path.with_extension("next");
    std::fs::write(&next, render(&all)).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn start_of_all() -> Map<String, Value> {
    (0..200).map(|n| (format!("ev{n:04}"), reminder(n))).collect()
}

#[test]
fn s0_reminders_to_sqlite_and_back_and_for_good_under_a_writing_bot() {
    let home = Home::new(&[("files", "json:reminders.json"), ("local", "sqlite:bot.db")], CONFIG);
    home.write("reminders.json", render(&start_of_all()));
    home.write(".env", ENV);
    home.migration(
        "20250301090000_reminders_to_sqlite",
        "title = \"Reminders move\"\n[transfer]\nfrom = \"files\"\nto = \"local\"\n[[transfer.table]]\nsource = \"$\"\nkey = \"event_id\"\ninto = \"events\"\nrequired = [\"message_id\", \"title\"]\n",
    );
    home.write("run", "");
    let bot = Bot { home: &home, over: AtomicBool::new(false), writes: AtomicUsize::new(0), ledger: Mutex::default() };
    std::thread::scope(|threads| {
        // whatever happens here, the bot ends
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let over = Over(&bot.over);
        threads.spawn(|| bot.live());
        bot.wait_for(20);

        home.up();
        assert!(home.text(".env").contains("USE_SQLITE=true"));
        bot.wait_for(60);
        ok(home.project().shadow());
        bot.wait_for(40);
        let out = home.rollback();
        assert!(out.carried > 0 && out.parked.is_empty(), "{out:?}");
        assert_eq!(home.text(".env"), ENV, "as it was");
        bot.wait_for(20);

        home.up();
        bot.wait_for(40);
        home.complete();
        assert!(home.text(".env").contains("USE_SQLITE=true"));
        bot.wait_for(40);
        drop(over);
    });

    let mut expected = start_of_all();
    for (id, reminder) in bot.ledger.into_inner().unwrap() {
        match reminder {
            Some(r) => drop(expected.insert(id, r)),
            None => drop(expected.shift_remove(&id)),
        }
    }
    let db = home.sqlite("bot.db");
    let mut statement =
        db.prepare("SELECT event_id, message_id, title, every, paused, reactions, last FROM events").unwrap();
    let found: Map<String, Value> = statement
        .query_map([], |r| {
            let reactions: String = r.get(5)?;
            let reminder = json!({
                "message_id": r.get::<_, i64>(1)?, "title": r.get::<_, String>(2)?, "every": r.get::<_, f64>(3)?, "paused": r.get::<_, bool>(4)?,
                "reactions": serde_json::from_str::<Value>(&reactions).unwrap(), "last": r.get::<_, Option<String>>(6)?
            });
            Ok((r.get(0)?, reminder))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_same(&found, &expected);
}

fn assert_same(found: &Map<String, Value>, expected: &Map<String, Value>) {
    let lost: Vec<_> =
        expected.iter().filter(|(id, r)| found.get(*id) != Some(r)).map(|(id, r)| (id, r, found.get(id))).collect();
    let invented: Vec<_> = found.keys().filter(|id| !expected.contains_key(*id)).collect();
    assert!(lost.is_empty() && invented.is_empty(), "lost {lost:#?}\ninvented {invented:#?}");
}

/// The same way back, and the JSON file is the ledger.
#[test]
fn s0_after_a_rollback_the_file_is_what_was_acknowledged() {
    let home = Home::new(&[("files", "json:reminders.json"), ("local", "sqlite:bot.db")], CONFIG);
    home.write("reminders.json", render(&start_of_all()));
    home.write(".env", ENV);
    home.migration(
        "20250301090000_reminders_to_sqlite",
        "[transfer]\nfrom = \"files\"\nto = \"local\"\n[[transfer.table]]\nsource = \"$\"\nkey = \"event_id\"\ninto = \"events\"\n",
    );
    home.write("run", "");
    let bot = Bot { home: &home, over: AtomicBool::new(false), writes: AtomicUsize::new(0), ledger: Mutex::default() };
    std::thread::scope(|threads| {
        threads.spawn(|| bot.live());
        bot.wait_for(5);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            home.up();
            bot.wait_for(150);
            home.rollback();
            bot.wait_for(5);
        }));
        bot.over.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
    let mut expected = start_of_all();
    for (id, reminder) in bot.ledger.into_inner().unwrap() {
        match reminder {
            Some(r) => drop(expected.insert(id, r)),
            None => drop(expected.shift_remove(&id)),
        }
    }
    let found: Map<String, Value> = serde_json::from_slice(&home.read("reminders.json")).unwrap();
    assert_same(&found, &expected);
}
