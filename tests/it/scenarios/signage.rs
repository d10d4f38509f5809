//! S1: digital signage moves from SQLite to PostgreSQL and back while it writes. No service is stopped: the seal refuses the writer, which
//! rereads .env and goes to the other store.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use postgres::Client;
use rusqlite::Connection;

use super::{Database, Home, ok, pg_rows, wait_until_or};

const TABLE: &str = "CREATE TABLE assets (asset_id TEXT PRIMARY KEY, name TEXT, uri TEXT, md5 TEXT, start_date TIMESTAMP, end_date TIMESTAMP,
    duration TEXT, mimetype TEXT, is_enabled INTEGER default 0, is_processing INTEGER default 0, nocache INTEGER default 0,
    play_order INTEGER default 0, skip_asset_check INTEGER default 0)";

const COLUMNS: &str = "asset_id, name, uri, md5, start_date, end_date, duration, mimetype, is_enabled, is_processing, nocache, play_order, skip_asset_check";

/// Values as SQL literals, which both databases read alike.
type Asset = Vec<String>;

fn asset(id: &str, n: usize) -> Asset {
    let text = |s: String| format!("'{}'", s.replace('\'', "''"));
    let date = |n: usize| format!("'2025-{:02}-{:02} {:02}:00:00'", 1 + n % 12, 1 + n % 28, n % 24);
    vec![
        text(id.to_owned()),
        text(format!("Écran {n} 'x' \\ ☕")),
        text(format!("https://example.org/{n}?a=%20&b=\"")),
        if n.is_multiple_of(3) { "NULL".into() } else { text(format!("{n:032x}")) },
        date(n),
        if n.is_multiple_of(4) { "NULL".into() } else { date(n + 7) },
        text(format!("{}", n % 60)),
        text(["image", "video", "webpage"][n % 3].to_owned()),
        (n % 2).to_string(),
        "0".into(),
        (n % 5 % 2).to_string(),
        n.to_string(),
        "1".into(),
    ]
}

struct Signage<'h> {
    home: &'h Home,
    url: String,
    over: AtomicBool,
    writes: AtomicUsize,
    refusals: Mutex<Vec<String>>,
    /// Acknowledged writes: the asset's id, and the asset or none.
    ledger: Mutex<Vec<(String, Option<Asset>)>>,
}

impl Signage<'_> {
    fn live(&self) {
        let (mut sqlite, mut server): (Option<Connection>, Option<Client>) = (None, None);
        let mut n = 0;
        while !self.over.load(Ordering::SeqCst) {
            // an application that never lets go of the file starves everyone
            std::thread::sleep(std::time::Duration::from_millis(1));
            n += 1;
            let known = format!("asset{:03}", (n * 7919) % 100);
            let (changes, sql) = match n % 6 {
                0 | 4 => {
                    let (id, a) = (format!("born{n}"), asset(&format!("born{n}"), n));
                    let sql = format!("INSERT INTO assets ({COLUMNS}) VALUES ({})", a.join(", "));
                    (vec![(id, Some(a))], sql)
                }
                1 => (vec![(known.clone(), None)], format!("DELETE FROM assets WHERE asset_id = '{known}'")),
                // one row moves to another key, if it is there
                3 => {
                    let (was, is) = (format!("born{}", n - 3), format!("moved{n}"));
                    let a = asset(&is, n - 3);
                    (
                        vec![(was.clone(), None), (is.clone(), Some(a))],
                        format!("UPDATE assets SET asset_id = '{is}' WHERE asset_id = '{was}'"),
                    )
                }
                _ => {
                    let a = asset(&known, n);
                    let put = format!(
                        "INSERT INTO assets ({COLUMNS}) VALUES ({}) ON CONFLICT (asset_id) DO UPDATE SET ",
                        a.join(", ")
                    );
                    let set: Vec<String> = COLUMNS.split(", ").skip(1).map(|c| format!("{c} = excluded.{c}")).collect();
                    (vec![(known, Some(a))], put + &set.join(", "))
                }
            };
            // until somebody takes it
            while !self.over.load(Ordering::SeqCst) {
                let taken = if self.home.text(".env").lines().any(|l| l == "DATABASE=postgres") {
                    let server = server.get_or_insert_with(|| Client::connect(&self.url, postgres::NoTls).unwrap());
                    server.execute(&sql, &[]).map_err(|e| format!("{e:?}"))
                } else {
                    let db = sqlite.get_or_insert_with(|| self.home.sqlite("screenly.db"));
                    db.execute(&sql, []).map(|n| n as u64).map_err(|e| format!("{e:?}"))
                };
                match taken {
                    Ok(0) => {}
                    Ok(_) => self.ledger.lock().unwrap().extend(changes),
                    Err(refusal) => {
                        self.refusals.lock().unwrap().push(refusal);
                        // as pools do with a connection that failed
                        (sqlite, server) = (None, None);
                        std::thread::sleep(std::time::Duration::from_millis(1));
                        continue;
                    }
                }
                self.writes.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
    }

    fn wait_for(&self, more: usize) {
        let goal = self.writes.load(Ordering::SeqCst) + more;
        let writes = || self.writes.load(Ordering::SeqCst);
        let last = || self.refusals.lock().unwrap().last().cloned();
        wait_until_or(|| writes() >= goal, || format!("the application writes no more: {:?}", last()));
    }
}

/// The ledger's replay, as a database holds it.
fn replay(ledger: &[(String, Option<Asset>)]) -> Vec<String> {
    let mut all: BTreeMap<String, Asset> =
        (0..100).map(|n| (format!("asset{n:03}"), asset(&format!("asset{n:03}"), n))).collect();
    for (id, a) in ledger {
        match a {
            Some(a) => drop(all.insert(id.clone(), a.clone())),
            None => drop(all.remove(id)),
        }
    }
    let bare = |v: &String| match v.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        Some(text) => text.replace("''", "'"),
        None => v.replace("NULL", "∅"),
    };
    let mut rows: Vec<String> = all.values().map(|a| a.iter().map(bare).collect::<Vec<_>>().join(" | ")).collect();
    rows.sort();
    rows
}

fn in_sqlite(home: &Home) -> Vec<String> {
    let shown: Vec<String> = COLUMNS.split(", ").map(|c| format!("ifnull({c}, '∅')")).collect();
    let db = home.sqlite("screenly.db");
    let mut statement = db.prepare(&format!("SELECT {} FROM assets", shown.join(" || ' | ' || "))).unwrap();
    let mut rows: Vec<String> = statement.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    rows.sort();
    rows
}

/// Plays `story` while the application writes; gives back what it was acknowledged.
fn play(journal: &str, story: impl FnOnce(&Home, &Signage<'_>, &Database)) -> (Home, Database, Vec<String>, usize) {
    let server = Database::new();
    let home = Home::new(
        &[("local", "sqlite:screenly.db"), ("main", &server.url)],
        "[[switch]]\ndotenv = \".env\"\nset = { DATABASE = \"postgres\" }\n",
    );
    home.write(".env", "DATABASE=sqlite\n");
    home.migration("20250401000000_anthias", "[transfer]\nfrom = \"local\"\nto = \"main\"\n");
    let db = home.sqlite("screenly.db");
    db.pragma_update(None, "journal_mode", journal).unwrap();
    db.execute_batch(TABLE).unwrap();
    for n in 0..100 {
        db.execute(
            &format!("INSERT INTO assets ({COLUMNS}) VALUES ({})", asset(&format!("asset{n:03}"), n).join(", ")),
            [],
        )
        .unwrap();
    }
    drop(db);
    let app = Signage {
        home: &home,
        url: server.url.clone(),
        over: AtomicBool::new(false),
        writes: AtomicUsize::new(0),
        refusals: Mutex::default(),
        ledger: Mutex::default(),
    };
    std::thread::scope(|threads| {
        threads.spawn(|| app.live());
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            app.wait_for(20);
            story(&home, &app, &server);
            app.wait_for(20);
        }));
        app.over.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
    let refusals = app.refusals.into_inner().unwrap().len();
    let expected = replay(&app.ledger.into_inner().unwrap());
    (home, server, expected, refusals)
}

fn assert_same(found: &[String], expected: &[String]) {
    let lost: Vec<_> = expected.iter().filter(|r| !found.contains(r)).take(5).collect();
    let invented: Vec<_> = found.iter().filter(|r| !expected.contains(r)).take(5).collect();
    assert!(
        lost.is_empty() && invented.is_empty() && found.len() == expected.len(),
        "lost {lost:#?}\ninvented {invented:#?}"
    );
}

#[test]
fn s1_forward_and_back_under_a_writing_application() {
    for journal in ["wal", "delete"] {
        let (home, _server, expected, _) = play(journal, |home, app, _| {
            home.up();
            app.wait_for(150);
            ok(home.project().shadow());
            app.wait_for(50);
            let out = home.rollback();
            assert!(out.carried > 0 && out.parked.is_empty(), "{out:?}");
            assert_eq!(home.text(".env"), "DATABASE=sqlite\n");
        });
        assert_same(&in_sqlite(&home), &expected);
    }
}

#[test]
fn s1_forward_back_and_forward_for_good_under_a_writing_application() {
    let (home, server, expected, _) = play("wal", |home, app, _| {
        home.up();
        app.wait_for(100);
        home.rollback();
        app.wait_for(100);
        home.up_until_ready();
        app.wait_for(100);
        ok(home.project().cutover());
        app.wait_for(50);
        home.complete();
    });
    assert_same(&pg_rows(&mut server.client(), &format!("SELECT {COLUMNS} FROM assets")), &expected);
    // the kept source is sealed: an instance that was forgotten fails loudly
    let refused = home.sqlite("screenly.db").execute("INSERT OR IGNORE INTO assets (asset_id) VALUES ('late')", []);
    assert!(refused.is_err());
}
