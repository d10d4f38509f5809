//! The sweep of the gate: each effect of a command fails once, or the program is killed in its place, for n = 1, 2, 3 … until
//! the command passes. Whatever is left must be whole, must say how to go on, and must end with the state before or after;
//! and no write that was acknowledged may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use backout::gate::Gate;
use backout::migrate::{Failure, Outcome, Project, RollbackOptions, Status, Until, UpOptions};
use backout::store::{Phase, Side};
use postgres::{Client, NoTls};
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

// ── an application's place ─────────────────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// SQLite → PostgreSQL.
    Signage,
    /// JSON → SQLite.
    Reminders,
}
use Scene::{Reminders, Signage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Source,
    Target,
}
use At::{Source, Target};

/// Table and key.
type Id = (&'static str, String);
type Rows = BTreeMap<Id, String>;

/// A project's folder and databases of its own, an application, and what that application was told is written.
struct Room {
    scene: Scene,
    folder: TempDir,
    database: Option<Database>,
    /// Every row as acknowledged: the column that the application changes.
    ledger: Rows,
    /// Rows that the application wrote since the beginning.
    touched: BTreeSet<Id>,
    /// Rows, with every column, and the source's definitions, as they were at the beginning.
    rows_before: Rows,
    schema_before: Vec<String>,
    writes: u64,
    /// A command was cut off after the run was closed.
    unswept: bool,
    /// The target has been built, so that it is sealed or open.
    whole: bool,
}

struct Database {
    admin: String,
    name: String,
    url: String,
}

const ENV: &str = "# settings\nTOKEN='s3 cret'\nSTORE=old # the first one\n";

const SIGNAGE: &str = "
CREATE TABLE assets (
    asset_id TEXT PRIMARY KEY, name TEXT, uri TEXT, md5 TEXT, start_date TIMESTAMP, end_date TIMESTAMP, duration TEXT,
    mimetype TEXT, is_enabled INTEGER default 0, is_processing INTEGER default 0, nocache INTEGER default 0,
    play_order INTEGER default 0, skip_asset_check INTEGER default 0);
CREATE TABLE plays (
    id INTEGER PRIMARY KEY, asset_id TEXT NOT NULL REFERENCES assets (asset_id), note TEXT, seconds REAL);
CREATE INDEX plays_by_asset ON plays (asset_id);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 11)
INSERT INTO assets SELECT printf('a%02d', i), 'Clip ' || i, 'https://example.org/' || i || '?q=ä', NULL,
    printf('2024-01-%02d 08:00:00', i + 1), '2025-01-01T00:00:00', CAST(i * 5 AS TEXT), 'video', i % 2, 0, 0, i, 0 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 24)
INSERT INTO plays SELECT i, printf('a%02d', i % 12), 'play ' || i, i * 1.5 FROM n;
";

fn reminder(n: u64) -> Value {
    json!({
        "message_id": 1_100_000_000_000_000_000_u64 + n, "channel_id": 500 + n % 7, "title": format!("Réunion {n} ☕"),
        "interval": ([15.0, 30.0, 60.5][(n % 3) as usize]), "paused": n.is_multiple_of(5), "reactions": ["✅", "❌"],
        "last": if n.is_multiple_of(4) { Value::Null } else { json!(format!("2025-01-{:02}T08:00:00", 1 + n % 28)) },
    })
}

impl Room {
    fn new(scene: Scene) -> Room {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("migrations")).unwrap();
        std::fs::write(path(".env"), ENV).unwrap();
        std::fs::write(path("running"), "").unwrap();
        let mut database = None;
        let (from, to, transfer) = match scene {
            Signage => {
                Connection::open(path("signage.db")).unwrap().execute_batch(SIGNAGE).unwrap();
                let made = database.insert(Database::new());
                ("sqlite:signage.db".to_owned(), made.url.clone(), "")
            }
            Reminders => {
                let all: Map<String, Value> = (0..12).map(|n| (format!("ev{n:02}"), reminder(n))).collect();
                std::fs::write(path("reminders.json"), serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
                let table = "\n[[transfer.table]]\nsource = \"$\"\nkey = \"event_id\"\ninto = \"events\"\nrequired = [\"title\"]\n";
                ("json:reminders.json".to_owned(), "sqlite:bot.db".to_owned(), table)
            }
        };
        let config = format!(
            "[project]\nname = \"sweep\"\n[stores]\none = {from:?}\ntwo = {to:?}\n\
             [[service]]\nname = \"app\"\nstop = \"rm -f running\"\nstart = \"touch running\"\ncheck = \"test -f running\"\n\
             [[switch]]\ndotenv = \".env\"\nset = {{ STORE = \"new\" }}\n"
        );
        std::fs::write(path("backout.toml"), config).unwrap();
        let migration = format!("title = \"One to two\"\n[transfer]\nfrom = \"one\"\nto = \"two\"\n{transfer}");
        std::fs::write(path("migrations/20250301090000_one_to_two.toml"), migration).unwrap();
        let (ledger, touched, rows_before) = (Rows::new(), BTreeSet::new(), Rows::new());
        let mut room = Room {
            scene,
            folder,
            database,
            ledger,
            touched,
            rows_before,
            schema_before: vec![],
            writes: 0,
            unswept: false,
            whole: false,
        };
        room.ledger = room.rows(Source);
        room.rows_before = room.whole_rows();
        room.schema_before = room.schema();
        room
    }

    /// A room whose application runs on the target.
    fn soaking(scene: Scene) -> Room {
        let mut room = Room::new(scene);
        room.write();
        room.up();
        room.write();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn project(&self) -> Project {
        Project::open(self.folder.path(), &|_| None).unwrap()
    }

    fn up(&self) {
        let out = self.project().up(&UpOptions::default()).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
    }

    fn roll_back(&self) {
        let out = self.project().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!(out.phase, Some(Phase::RolledBack));
    }

    // ── the application ────────────────────────────────────────────────────────────────────────────────────────────

    fn sqlite(&self) -> Connection {
        let name = if self.scene == Signage { "signage.db" } else { "bot.db" };
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let conn = Connection::open_with_flags(self.path(name), flags).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        conn
    }

    fn postgres(&self) -> Client {
        Client::connect(&self.database.as_ref().unwrap().url, NoTls).unwrap()
    }

    fn json(&self) -> Map<String, Value> {
        serde_json::from_str(&std::fs::read_to_string(self.path("reminders.json")).unwrap()).unwrap()
    }

    fn is_postgres(&self, at: At) -> bool {
        (self.scene, at) == (Signage, Target)
    }

    /// Runs statements as the application does; why not, if they are refused.
    fn sql(&self, at: At, sql: &str) -> Result<(), String> {
        if self.is_postgres(at) {
            return self.postgres().batch_execute(sql).map_err(|e| format!("{e:?}"));
        }
        if !self.path(if self.scene == Signage { "signage.db" } else { "bot.db" }).exists() {
            return Err("no file".into());
        }
        self.sqlite().execute_batch(sql).map_err(|e| e.to_string())
    }

    /// Whether anyone may write there. Nothing is left of the attempt.
    fn is_open(&self, at: At, status: Option<&Status>) -> bool {
        if (self.scene, at) == (Reminders, Source) {
            // a file cannot refuse
            return status.is_none_or(|s| s.live == "source") && !self.is_open(Target, status);
        }
        if at == Target && status.is_some_and(|s| s.source.phase < Phase::Verifying) {
            // being built, and not sealed before it is whole; nobody knows of it
            return false;
        }
        let sql = match self.scene {
            Signage => "INSERT INTO assets (asset_id, name) VALUES ('probe', 'x')",
            Reminders => "INSERT INTO events (event_id, title) VALUES ('probe', 'x')",
        };
        match self.sql(at, &format!("BEGIN; {sql}; ROLLBACK")) {
            Ok(()) => true,
            Err(e) => {
                assert!(!e.contains("locked"), "{at:?}: {e}");
                false
            }
        }
    }

    /// What the application is told there is.
    fn rows(&self, at: At) -> Rows {
        let mut out = Rows::new();
        if (self.scene, at) == (Reminders, Source) {
            out.extend(
                self.json().into_iter().map(|(id, v)| (("events", id), v["title"].as_str().unwrap().to_owned())),
            );
            return out;
        }
        let tables: &[(&'static str, &str)] = match self.scene {
            Signage => &[
                ("assets", "SELECT asset_id, name FROM assets"),
                ("plays", "SELECT CAST(id AS text), note FROM plays"),
            ],
            Reminders => &[("events", "SELECT event_id, title FROM events")],
        };
        for (table, sql) in tables {
            if self.is_postgres(at) {
                out.extend(self.postgres().query(*sql, &[]).unwrap().iter().map(|r| ((*table, r.get(0)), r.get(1))));
            } else {
                let conn = self.sqlite();
                let mut rows = conn.prepare(sql).unwrap();
                let rows = rows.query_map([], |r| Ok(((*table, r.get(0)?), r.get(1)?))).unwrap();
                out.extend(rows.map(Result::unwrap));
            }
        }
        out
    }

    /// The source's rows, to the last byte.
    fn whole_rows(&self) -> Rows {
        if self.scene == Reminders {
            return self.json().into_iter().map(|(id, v)| (("events", id), v.to_string())).collect();
        }
        let conn = self.sqlite();
        let mut out = Rows::new();
        for (table, key) in [("assets", "asset_id"), ("plays", "id")] {
            let mut rows = conn.prepare(&format!("SELECT CAST({key} AS TEXT), * FROM {table}")).unwrap();
            let columns = rows.column_count();
            let whole = |r: &rusqlite::Row<'_>| -> rusqlite::Result<(Id, String)> {
                let values: Vec<String> = (1..columns).map(|c| format!("{:?}", r.get_ref_unwrap(c))).collect();
                Ok(((table, r.get(0)?), values.join(" ")))
            };
            out.extend(rows.query_map([], whole).unwrap().map(Result::unwrap));
        }
        out
    }

    /// The source's definitions, but for the history.
    fn schema(&self) -> Vec<String> {
        if self.scene == Reminders {
            return Vec::new();
        }
        let conn = self.sqlite();
        let sql = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_schema \
                   WHERE tbl_name <> 'backout_history' ORDER BY type, name";
        let mut rows = conn.prepare(sql).unwrap();
        rows.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn switched(&self) -> bool {
        let text = std::fs::read_to_string(self.path(".env")).unwrap();
        assert!(text == ENV || text == ENV.replace("STORE=old", "STORE=new"), ".env: {text}");
        text != ENV
    }

    fn running(&self) -> bool {
        self.path("running").exists()
    }

    /// Who may write at present; at most one.
    fn open_side(&self, status: Option<&Status>) -> Option<At> {
        match (self.is_open(Source, status), self.is_open(Target, status)) {
            (true, true) => panic!("both sides are open"),
            (true, false) => Some(Source),
            (false, true) => Some(Target),
            (false, false) => None,
        }
    }

    /// Writes a few rows wherever that is possible. Returns where.
    fn write(&mut self) -> Option<At> {
        let status = self.project().status().unwrap();
        let at = self.open_side(status.as_ref())?;
        if (self.scene, at) == (Reminders, Source) && !self.running() {
            // only the application writes the file, and it does not run
            return None;
        }
        self.writes += 1;
        let n = self.writes;
        let (born, edited, gone) = (format!("new{n:02}"), n % 4, 4 + n % 8);
        match (self.scene, at) {
            (Signage, _) => {
                let play = 1000 + n;
                let changes = [
                    (
                        ("assets", born.clone()),
                        Some(format!("Clip {born}")),
                        format!("INSERT INTO assets (asset_id, name, play_order) VALUES ('{born}', 'Clip {born}', 7)"),
                    ),
                    (
                        ("plays", play.to_string()),
                        Some("it's new".into()),
                        format!("INSERT INTO plays (id, asset_id, note) VALUES ({play}, '{born}', 'it''s new')"),
                    ),
                    (
                        ("assets", format!("a{edited:02}")),
                        Some(format!("Edited {n}")),
                        format!("UPDATE assets SET name = 'Edited {n}' WHERE asset_id = 'a{edited:02}'"),
                    ),
                    (("plays", gone.to_string()), None, format!("DELETE FROM plays WHERE id = {gone}")),
                    (
                        ("plays", "20".into()),
                        Some(format!("note {n}")),
                        format!("UPDATE plays SET note = 'note {n}' WHERE id = 20"),
                    ),
                ];
                for (id, value, sql) in changes {
                    self.sql(at, &sql).unwrap();
                    self.acknowledge(id, value);
                }
            }
            (Reminders, Target) => {
                let changes = [
                    (
                        born.clone(),
                        Some(format!("Neu {n}")),
                        format!(
                            "INSERT INTO events (event_id, message_id, channel_id, title) VALUES ('{born}', 5, 6, 'Neu {n}')"
                        ),
                    ),
                    (
                        format!("ev{edited:02}"),
                        Some(format!("Edited {n}")),
                        format!("UPDATE events SET title = 'Edited {n}' WHERE event_id = 'ev{edited:02}'"),
                    ),
                    (format!("ev{gone:02}"), None, format!("DELETE FROM events WHERE event_id = 'ev{gone:02}'")),
                ];
                for (id, value, sql) in changes {
                    self.sql(at, &sql).unwrap();
                    self.acknowledge(("events", id), value);
                }
            }
            (Reminders, Source) => {
                let mut all = self.json();
                let mut new = reminder(n);
                new["title"] = json!(format!("Neu {n}"));
                all.insert(born.clone(), new);
                self.acknowledge(("events", born), Some(format!("Neu {n}")));
                if let Some(r) = all.get_mut(&format!("ev{edited:02}")) {
                    r["title"] = json!(format!("Edited {n}"));
                    self.acknowledge(("events", format!("ev{edited:02}")), Some(format!("Edited {n}")));
                }
                self.put_json(&all);
            }
        }
        Some(at)
    }

    /// Tries to write one row to each side, now, in the middle of a command that is at `what`. Waits for no lock.
    fn bystander(&mut self, what: &str) {
        self.writes += 1;
        self.whole |= what == "source: phase verifying";
        let mut taken = Vec::new();
        for at in [Source, Target] {
            let key = format!("by{:03}-{at:?}", self.writes);
            if (self.scene, at) == (Reminders, Source) {
                if self.running() && !self.switched() {
                    let mut all = self.json();
                    all.insert(key.clone(), json!({ "title": key, "message_id": 1 }));
                    self.put_json(&all);
                    self.acknowledge(("events", key.clone()), Some(key));
                    taken.push(at);
                }
                continue;
            }
            if at == Target && !self.whole {
                continue;
            }
            let (table, sql) = match self.scene {
                Signage => ("assets", format!("INSERT INTO assets (asset_id, name) VALUES ('{key}', '{key}')")),
                Reminders => ("events", format!("INSERT INTO events (event_id, title) VALUES ('{key}', '{key}')")),
            };
            let written = if self.is_postgres(at) {
                self.postgres().batch_execute(&format!("SET lock_timeout = '5ms'; {sql}")).is_ok()
            } else {
                let conn = self.sqlite();
                conn.busy_timeout(std::time::Duration::ZERO).unwrap();
                conn.execute_batch(&sql).is_ok()
            };
            if written {
                self.acknowledge((table, key.clone()), Some(key));
                taken.push(at);
            }
        }
        assert!(taken.len() < 2, "both sides took a write at {what:?}");
    }

    fn put_json(&self, all: &Map<String, Value>) {
        let temp = self.path("reminders.json.app");
        std::fs::write(&temp, serde_json::to_string_pretty(all).unwrap() + "\n").unwrap();
        std::fs::rename(temp, self.path("reminders.json")).unwrap();
    }

    fn acknowledge(&mut self, id: Id, value: Option<String>) {
        self.touched.insert(id.clone());
        match value {
            Some(value) => self.ledger.insert(id, value),
            None => self.ledger.remove(&id),
        };
    }

    /// All names in the folder but those that belong there.
    fn strangers(&self) -> Vec<String> {
        let known = [
            "backout.toml",
            "migrations",
            ".env",
            "running",
            ".backout",
            "signage.db",
            "signage.db-backout-lock",
            "reminders.json",
            "reminders.json.backout",
            "bot.db",
            "bot.db-backout-lock",
        ];
        let names =
            std::fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| !known.contains(&n.as_str())).collect()
    }

    // ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    /// After a failure or a kill, before anything mends it: one side may write at most, an application that runs is on
    /// that side, nothing unknown lies about, and there is a way on. Then the application writes, if it can.
    fn between(&mut self, n: u64) -> Option<Phase> {
        if n.is_multiple_of(3) {
            let _ = std::fs::remove_dir_all(self.path(".backout"));
        }
        let status = self.project().status().unwrap();
        let open = self.open_side(status.as_ref());
        self.unswept = status.is_none();
        if let Some(s) = &status {
            assert!(!s.next.is_empty() && !s.state.is_empty() && s.problems.is_empty(), "{:?}", s.problems);
            let records = match (&s.source.side, s.target.as_ref().map(|t| &t.side)) {
                (Side::Open, Some(Side::Open)) => panic!("both records say open"),
                (Side::Open, _) => Some(Source),
                (_, Some(Side::Open)) => Some(Target),
                _ => None,
            };
            // while it is completed the target's record goes first
            if s.source.phase != Phase::Completing {
                assert_eq!(open, records, "what is open is not what the records say");
            }
        }
        if self.running() {
            assert_eq!(
                open,
                Some(if self.switched() { Target } else { Source }),
                "the application runs on a side that is not open"
            );
        }
        for name in self.strangers() {
            let ours = [".env.backout-", ".reminders.json.backout.", "signage.db-journal", "bot.db-journal"];
            assert!(ours.iter().any(|o| name.starts_with(o)), "{name} lies about");
        }
        self.write();
        status.map(|s| s.source.phase)
    }

    fn rows_are_the_ledgers(&self, at: At) {
        assert_eq!(self.rows(at), self.ledger, "rows of the {at:?} are not what was acknowledged");
    }

    /// The application runs on the target, and the source can follow.
    fn is_soaking(&mut self) {
        let status = self.project().status().unwrap().expect("no run is open");
        assert_eq!((status.source.phase, status.live.as_str()), (Phase::Soaking, "target"));
        assert_eq!(status.source.last_error, None);
        assert_eq!(self.open_side(Some(&status)), Some(Target));
        assert!(self.switched() && self.running());
        self.write();
        self.rows_are_the_ledgers(Target);
        self.project().shadow().unwrap();
        self.rows_are_the_ledgers(Source);
        let verified = self.project().verify().unwrap().verified.unwrap();
        assert_eq!((verified.differences, verified.problems), (vec![], vec![]));
        self.untouched_rows_are_as_before();
        let left: Vec<String> = self.strangers().into_iter().filter(|n| !n.starts_with(".env.backout-")).collect();
        assert_eq!(left, Vec::<String>::new());
    }

    fn untouched_rows_are_as_before(&self) {
        let mut now = self.whole_rows();
        let mut before = self.rows_before.clone();
        now.retain(|id, _| !self.touched.contains(id));
        before.retain(|id, _| !self.touched.contains(id));
        assert_eq!(now, before, "rows that nobody wrote have changed");
    }

    /// The application runs on the source, of ours nothing is there but the history, and the target is free.
    fn is_home(&mut self) {
        assert!(self.project().status().unwrap().is_none(), "a run is open");
        assert_eq!(self.open_side(None), Some(Source));
        assert!(!self.switched() && self.running());
        self.write();
        self.rows_are_the_ledgers(Source);
        self.untouched_rows_are_as_before();
        assert_eq!(self.schema(), self.schema_before);
        // a target that was never made: nobody has opened it since, so that SQLite could remove its journal
        let left: Vec<String> = self.strangers().into_iter().filter(|n| n != "bot.db-journal").collect();
        assert_eq!(left, Vec::<String>::new());
        if self.scene == Reminders {
            if self.unswept {
                // cut off when it was closed: the next run sweeps up
                self.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
                self.project().abort().unwrap();
                self.unswept = false;
            }
            let folder = std::fs::read_dir(self.path("reminders.json.backout")).unwrap();
            let left: Vec<String> = folder.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(left, ["state.json"], "left beside the file");
        } else {
            self.target_is_free();
        }
    }

    fn target_is_free(&self) {
        let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema') \
                   AND n.nspname NOT LIKE 'backout\\_kept\\_%' \
                   UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal \
                   UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = to_regnamespace('backout') ORDER BY 1";
        let left: Vec<String> = self.postgres().query(sql, &[]).unwrap().iter().map(|r| r.get(0)).collect();
        let known = |n: &String| n.starts_with("backout.history") || n.starts_with("backout.migration_log");
        assert!(left.iter().all(known), "left in the target: {left:?}");
    }

    /// The application runs on the target for good.
    fn is_completed(&mut self, deleted: bool) {
        assert!(self.project().status().unwrap().is_none(), "a run is open");
        assert!(self.is_open(Target, None) && self.switched() && self.running());
        if self.scene == Signage {
            assert!(!self.is_open(Source, None), "a forgotten writer could write to the source");
            if deleted {
                assert_eq!(self.schema(), Vec::<String>::new());
            }
        }
        self.rows_are_the_ledgers(Target);
        assert_eq!(self.strangers(), Vec::<String>::new());
        let list = self.project().list().unwrap();
        assert!(list.iter().all(|m| m.applied), "{list:?}");
    }

    /// Nobody of ours is left in the database: it could not be dropped else.
    fn leave(mut self) {
        if let Some(d) = self.database.take() {
            let mut admin = Client::connect(&d.admin, NoTls).unwrap();
            admin.batch_execute(&format!("DROP DATABASE {}", d.name)).unwrap();
        }
    }
}

impl Database {
    fn new() -> Database {
        let admin = std::env::var("BACKOUT_TEST_PG").expect("start the tests with scripts/test");
        let name = format!("sweep_{}", uuid::Uuid::new_v4().simple());
        let mut client = Client::connect(&admin, NoTls).unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        let url = format!("{}/{name}", admin.rsplit_once('/').unwrap().0);
        Database { admin, name, url }
    }
}

// ── commands that are cut off ──────────────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Effect n fails once.
    Fails,
    /// The program is killed in place of effect n.
    Killed,
}
use How::{Fails, Killed};

#[derive(Clone, Copy, Debug)]
enum Act {
    Up,
    Resume,
    Rollback,
    Abort,
    Complete { delete: bool },
}

impl Act {
    fn perform(self, project: &Project) -> Result<Outcome, Failure> {
        match self {
            Act::Up => project.up(&UpOptions::default()),
            Act::Resume => project.resume(None),
            Act::Rollback => project.rollback(&RollbackOptions::default()),
            Act::Abort => project.abort(),
            Act::Complete { delete } => project.complete(delete),
        }
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Act::Up => &["up"],
            Act::Resume => &["resume"],
            Act::Rollback => &["rollback"],
            Act::Abort => &["abort"],
            Act::Complete { delete: false } => &["complete", "--confirm", "sweep"],
            Act::Complete { delete: true } => &["complete", "--confirm", "sweep", "--delete-source"],
        }
    }
}

/// Performs `act` with a trap at effect `n`. `None`: it never came to that effect, and passed; else what the effect was.
fn cut_off(room: &Room, act: Act, how: How, n: u64) -> Option<String> {
    match how {
        Fails => {
            let hit = Arc::new(Mutex::new(None));
            let tell = hit.clone();
            let gate = Gate::with_trap(n, move |what| *tell.lock().unwrap() = Some(what.to_owned()));
            let done = act.perform(&room.project().gated(gate));
            let hit = hit.lock().unwrap().take();
            if hit.is_none() {
                done.unwrap();
            }
            hit
        }
        Killed => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_backout"));
            command
                .arg("-q")
                .args(act.words())
                .current_dir(room.folder.path())
                .env("BACKOUT_GATE", format!("kill:{n}"));
            let out = command.output().unwrap();
            if out.status.signal() == Some(9) {
                return Some("killed".into());
            }
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            None
        }
    }
}

/// Plays `one` for n = 1, 2, 3 … until it says that the trap was not reached; several at a time.
fn sweep(what: &str, one: impl Fn(u64) -> Option<String> + Sync) {
    let (next, last) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    let failed = Mutex::new(Vec::new());
    let begun = std::time::Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n > last.load(Ordering::SeqCst) || n > 500 {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| one(n))) {
                        Ok(Some(_)) => {}
                        Ok(None) => {
                            last.fetch_min(n, Ordering::SeqCst);
                        }
                        Err(_) => failed.lock().unwrap().push(n),
                    }
                }
            });
        }
    });
    let (last, mut failed) = (last.into_inner(), failed.into_inner().unwrap());
    failed.sort_unstable();
    println!("{what}: {} effects, {:.1} s", last.saturating_sub(1), begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{what}: failed at n = {failed:?}");
    assert!(last > 3 && last < 500, "{what}: the trap was reached {last} times");
}

/// For a few n, everything once more: the target must be free for it.
fn once_more(room: &mut Room) {
    room.up();
    room.is_soaking();
    room.roll_back();
    room.is_home();
}

/// From wherever an `up` was cut off: forward by `resume` or `up`, or back by what is open there.
fn after_up(room: &mut Room, n: u64, ahead: bool) {
    let phase = room.between(n);
    match phase {
        None => room.up(),
        Some(Phase::Soaking) if ahead => {
            room.project().resume(None).unwrap();
        }
        Some(_) if ahead => {
            let act = if n % 2 == 1 { Act::Resume } else { Act::Up };
            let out = act.perform(&room.project()).unwrap();
            assert_eq!(out.phase, Some(Phase::Soaking));
        }
        Some(Phase::Soaking) => room.roll_back(),
        Some(Phase::CuttingOver) if n.is_multiple_of(2) => {
            let out = room.project().rollback(&RollbackOptions::default()).unwrap();
            if out.phase == Some(Phase::Ready) {
                room.write();
                room.project().abort().unwrap();
            }
        }
        Some(Phase::CuttingOver) => {
            room.project().resume(None).unwrap();
            room.write();
            room.roll_back();
        }
        Some(_) => {
            let out = room.project().abort().unwrap();
            assert_eq!(out.phase, Some(Phase::Aborted));
        }
    }
    if ahead || phase.is_none() {
        room.is_soaking();
        if n % 8 == 3 {
            room.roll_back();
            room.is_home();
        }
    } else {
        room.is_home();
        if n.is_multiple_of(8) {
            once_more(room);
        }
    }
}

fn up(scene: Scene, how: How) {
    sweep(&format!("{scene:?}: up {how:?}"), |n| {
        let once = |ahead| {
            let mut room = Room::new(scene);
            let hit = cut_off(&room, Act::Up, how, n);
            shown(n, hit.as_ref(), || match hit {
                Some(_) => after_up(&mut room, n, ahead),
                None => room.is_soaking(),
            });
            room.leave();
            hit
        };
        once(true).and_then(|_| once(false))
    });
}

/// Says which effect it was if `body` panics.
fn shown(n: u64, hit: Option<&String>, body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        eprintln!("… at effect {n}: {hit:?}");
        std::panic::resume_unwind(panic);
    }
}

fn after_rollback(room: &mut Room, n: u64) {
    if n.is_multiple_of(4) {
        let out =
            Command::new(env!("CARGO_BIN_EXE_backout")).arg("status").current_dir(room.folder.path()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    match room.between(n) {
        None => {}
        Some(Phase::RollingBack) if n % 2 == 1 => {
            let out = room.project().resume(None).unwrap();
            assert_eq!(out.phase, Some(Phase::RolledBack));
        }
        Some(_) => room.roll_back(),
    }
    room.is_home();
    if n % 8 == 5 {
        once_more(room);
    }
}

fn rollback(scene: Scene, how: How) {
    sweep(&format!("{scene:?}: rollback {how:?}"), |n| {
        let mut room = Room::soaking(scene);
        let hit = cut_off(&room, Act::Rollback, how, n);
        shown(n, hit.as_ref(), || match hit {
            Some(_) => after_rollback(&mut room, n),
            None => room.is_home(),
        });
        room.leave();
        hit
    });
}

fn complete(scene: Scene, how: How, delete: bool) {
    sweep(&format!("{scene:?}: complete{} {how:?}", if delete { ", deleting" } else { "" }), |n| {
        let mut room = Room::soaking(scene);
        let hit = cut_off(&room, Act::Complete { delete }, how, n);
        shown(n, hit.as_ref(), || {
            let mut deleted = delete;
            if hit.is_some() {
                match room.between(n) {
                    None => {}
                    Some(Phase::Completing) if n.is_multiple_of(2) => {
                        let out = room.project().resume(None).unwrap();
                        assert_eq!(out.phase, Some(Phase::Completed));
                        // resumed, it deletes nothing that was not said again
                        deleted = false;
                    }
                    Some(_) => {
                        room.project().complete(delete).unwrap();
                    }
                }
            }
            room.is_completed(deleted);
        });
        room.leave();
        hit
    });
}

fn abort(scene: Scene, how: How) {
    sweep(&format!("{scene:?}: abort {how:?}"), |n| {
        let mut room = Room::new(scene);
        room.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
        room.write();
        let hit = cut_off(&room, Act::Abort, how, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                match room.between(n) {
                    None => {}
                    Some(Phase::Aborting) if n.is_multiple_of(2) => {
                        let out = room.project().resume(None).unwrap();
                        assert_eq!(out.phase, Some(Phase::Aborted));
                    }
                    Some(_) => {
                        let out = room.project().abort().unwrap();
                        assert_eq!(out.phase, Some(Phase::Aborted));
                    }
                }
            }
            room.is_home();
            if n.is_multiple_of(4) {
                once_more(&mut room);
            }
        });
        room.leave();
        hit
    });
}

/// Another client tries to write on both sides before and after each effect of a whole life.
fn crowded(scene: Scene) {
    let room = Arc::new(Mutex::new(Room::new(scene)));
    let perform = |act: Act| {
        let crowd = room.clone();
        let gate = Gate::between(move |what| crowd.lock().unwrap().bystander(what));
        let project = room.lock().unwrap().project().gated(gate);
        act.perform(&project).unwrap()
    };
    let out = perform(Act::Up);
    assert_eq!(out.phase, Some(Phase::Soaking));
    room.lock().unwrap().is_soaking();
    let out = perform(Act::Rollback);
    assert_eq!(out.phase, Some(Phase::RolledBack));
    let Ok(room) = Arc::try_unwrap(room) else { panic!("somebody still writes") };
    let mut room = room.into_inner().unwrap();
    room.is_home();
    println!("{scene:?}: {} tries to write meanwhile", room.writes);
    room.leave();
}

/// Killed at n, and what goes on with it at m.
fn twice(scene: Scene, act: Act) {
    sweep(&format!("{scene:?}: {act:?} killed twice"), |i| {
        // a diagonal: every third effect, each with another one
        let (n, m) = (3 * i - 2, 1 + i * 5 % 17);
        let mut room = if matches!(act, Act::Up) { Room::new(scene) } else { Room::soaking(scene) };
        let hit = cut_off(&room, act, Killed, n);
        shown(n, hit.as_ref(), || {
            if hit.is_some() {
                if room.between(n).is_some() {
                    cut_off(&room, Act::Resume, Killed, m);
                }
                match act {
                    Act::Up => after_up(&mut room, i, i % 2 == 1),
                    _ => after_rollback(&mut room, i),
                }
            }
        });
        room.leave();
        hit
    });
}

#[test]
fn signage_up_fails() {
    up(Signage, Fails);
}

#[test]
fn signage_up_killed() {
    up(Signage, Killed);
}

#[test]
fn signage_up_killed_twice() {
    twice(Signage, Act::Up);
}

#[test]
fn signage_rollback_fails() {
    rollback(Signage, Fails);
}

#[test]
fn signage_rollback_killed() {
    rollback(Signage, Killed);
}

#[test]
fn signage_rollback_killed_twice() {
    twice(Signage, Act::Rollback);
}

#[test]
fn signage_complete() {
    complete(Signage, Fails, true);
    complete(Signage, Fails, false);
    complete(Signage, Killed, true);
}

#[test]
fn signage_abort() {
    abort(Signage, Fails);
    abort(Signage, Killed);
}

#[test]
fn reminders_up_fails() {
    up(Reminders, Fails);
}

#[test]
fn reminders_up_killed() {
    up(Reminders, Killed);
}

#[test]
fn reminders_rollback_fails() {
    rollback(Reminders, Fails);
}

#[test]
fn reminders_rollback_killed() {
    rollback(Reminders, Killed);
}

#[test]
fn reminders_killed_twice() {
    twice(Reminders, Act::Up);
    twice(Reminders, Act::Rollback);
}

#[test]
fn reminders_complete_and_abort() {
    complete(Reminders, Killed, false);
    abort(Reminders, Killed);
}

#[test]
fn signage_crowded() {
    crowded(Signage);
}

#[test]
fn reminders_crowded() {
    crowded(Reminders);
}
