//! One side of a migration as an application sees it: a file or a database with assets and their plays.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use crate::database::Database;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json,
    Sqlite,
    Postgres,
}

/// Table and key.
pub type Id = (&'static str, String);
/// By table and key: a value of the row, or all of it.
pub type Rows = BTreeMap<Id, String>;

/// A table, its key, and the column that the application changes.
const TABLES: [(&str, &str, &str); 2] = [("assets", "asset_id", "name"), ("plays", "id", "note")];

/// What an application does to one row.
#[derive(Clone, Debug)]
pub enum Change {
    New(Id, String),
    Set(Id, String),
    Gone(Id),
}

impl Change {
    pub fn id(&self) -> &Id {
        let (Change::New(id, _) | Change::Set(id, _) | Change::Gone(id)) = self;
        id
    }

    /// The value that the row has afterwards.
    pub fn value(&self) -> Option<&String> {
        match self {
            Change::New(_, value) | Change::Set(_, value) => Some(value),
            Change::Gone(_) => None,
        }
    }

    fn sql(&self) -> String {
        let (table, key) = self.id();
        let (_, name, column) = TABLES.iter().find(|t| t.0 == *table).unwrap();
        match self {
            Change::New(_, value) if *table == "plays" => {
                format!("INSERT INTO plays (id, asset_id, note) VALUES ({key}, '{}', '{value}')", asset_of(key))
            }
            Change::New(_, value) => {
                format!("INSERT INTO assets (asset_id, name, play_order) VALUES ('{key}', '{value}', 7)")
            }
            Change::Set(_, value) => format!("UPDATE {table} SET {column} = '{value}' WHERE {name} = '{key}'"),
            Change::Gone(_) => format!("DELETE FROM {table} WHERE {name} = '{key}'"),
        }
    }

    fn in_json(&self, all: &mut Map<String, Value>) {
        let (table, key) = self.id();
        if *table == "assets" {
            let assets = all["assets"].as_object_mut().unwrap();
            match self {
                Change::New(_, name) => {
                    // with every member that the others have
                    let mut new = assets["a01"].clone();
                    (new["name"], new["play_order"]) = (json!(name), json!(7));
                    assets.insert(key.clone(), new);
                }
                Change::Set(_, name) => assets[key]["name"] = json!(name),
                Change::Gone(_) => drop(assets.remove(key)),
            }
            return;
        }
        let plays = all["plays"].as_array_mut().unwrap();
        let number: u64 = key.parse().unwrap();
        let at = plays.iter().position(|p| p["id"] == number);
        match self {
            Change::New(_, note) => {
                plays.push(json!({ "id": number, "asset_id": asset_of(key), "note": note, "seconds": 2.5 }))
            }
            Change::Set(_, note) => plays[at.unwrap()]["note"] = json!(note),
            Change::Gone(_) => drop(plays.remove(at.unwrap())),
        }
    }
}

/// Plays from 1000 on are of the asset that was born with them.
fn asset_of(play: &str) -> String {
    let n: u64 = play.parse().unwrap();
    if n < 1000 { "a00".into() } else { format!("new{:02}", n - 1000) }
}

pub struct Place {
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    database: Option<Database>,
    url: Option<String>,
    session: RefCell<Option<Client>>,
}

/// Databases that were used and are clean; kept as long as there is a [`Pool`].
static FREE: Mutex<(usize, Vec<(Database, Client)>)> = Mutex::new((0, Vec::new()));

/// While there is one, databases are used again: making one costs more than most of what is done in it.
pub struct Pool(());

impl Pool {
    pub fn open() -> Pool {
        FREE.lock().unwrap().0 += 1;
        Pool(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap();
        free.0 -= 1;
        if free.0 == 0 {
            free.1.clear();
        }
    }
}

const CLEAN: &str = "DO $$ DECLARE r record; BEGIN
    FOR r IN SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backout%' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', r.nspname); END LOOP;
    FOR r IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('DROP TABLE public.%I CASCADE', r.relname); END LOOP;
    END $$";

fn free_database() -> Option<(Database, Client)> {
    FREE.lock().unwrap().1.pop()
}

impl Place {
    /// Nothing is there yet. `stem` is the file's name without its ending.
    pub fn new(kind: Kind, folder: &Path, stem: &str) -> Place {
        let ending = if kind == Kind::Json { "json" } else { "db" };
        let database = (kind == Kind::Postgres).then(|| {
            free_database().unwrap_or_else(|| {
                let new = Database::new();
                let session = new.client();
                (new, session)
            })
        });
        let (database, session) = database.unzip();
        let url = database.as_ref().map(|d| d.url.clone());
        Place { kind, path: folder.join(format!("{stem}.{ending}")), database, url, session: RefCell::new(session) }
    }

    /// In this database, which is somebody else's to remove.
    pub fn on(url: &str, folder: &Path, stem: &str) -> Place {
        let (path, url) = (folder.join(stem), Some(url.to_owned()));
        Place { kind: Kind::Postgres, path, database: None, url, session: RefCell::new(None) }
    }

    /// As backout.toml has it.
    pub fn url(&self) -> String {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        match self.kind {
            Kind::Json => format!("json:{name}"),
            Kind::Sqlite => format!("sqlite:{name}"),
            Kind::Postgres => self.url.clone().unwrap(),
        }
    }

    /// Makes the application's tables and rows.
    pub fn fill(&self) {
        let date = |i: u64| format!("2024-01-{:02} 08:00:00", i + 1);
        if self.kind == Kind::Json {
            let asset = |i: u64| {
                json!({
                    "name": format!("Clip {i} ☕"), "uri": format!("https://example.org/{i}?q=ä"), "size": 1_100_000_000_000_000_000_u64 + i,
                    "start": date(i), "volume": ([15.0, 30.0, 60.5][(i % 3) as usize]), "paused": i.is_multiple_of(5),
                    "tags": ["✅", "❌"], "last": if i.is_multiple_of(4) { Value::Null } else { json!(date(i)) }, "play_order": i,
                })
            };
            let play = |i: u64| json!({ "id": i, "asset_id": format!("a{:02}", i % 12), "note": format!("play {i}"), "seconds": i as f64 * 1.5 });
            let assets: Map<String, Value> = (0..12).map(|i| (format!("a{i:02}"), asset(i))).collect();
            let plays: Vec<Value> = (1..25).map(play).collect();
            let all = json!({ "version": 3, "assets": assets, "plays": plays });
            std::fs::write(&self.path, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
            return;
        }
        let id = if self.kind == Kind::Postgres { "GENERATED BY DEFAULT AS IDENTITY" } else { "" };
        let mut sql = format!(
            "BEGIN; CREATE TABLE assets (asset_id TEXT PRIMARY KEY, name TEXT, uri TEXT, md5 TEXT, start_date TIMESTAMP, \
             duration TEXT, is_enabled INTEGER DEFAULT 0, play_order INTEGER DEFAULT 0); \
             CREATE TABLE plays (id INTEGER {id} PRIMARY KEY, asset_id TEXT NOT NULL REFERENCES assets (asset_id), \
             note TEXT, seconds DOUBLE PRECISION); CREATE INDEX plays_by_asset ON plays (asset_id);"
        );
        for i in 0..12_u64 {
            let uri = format!("https://example.org/{i}?q=ä");
            sql.push_str(&format!(
                "INSERT INTO assets VALUES ('a{i:02}', 'Clip {i}', '{uri}', NULL, '{}', '{}', {}, {i});",
                date(i),
                i * 5,
                i % 2
            ));
        }
        for i in 1..25_u64 {
            sql.push_str(&format!(
                "INSERT INTO plays VALUES ({i}, 'a{:02}', 'play {i}', {:.1});",
                i % 12,
                i as f64 * 1.5
            ));
        }
        sql.push_str("COMMIT");
        if self.kind == Kind::Sqlite {
            Connection::open(&self.path).unwrap().execute_batch(&sql).unwrap();
        } else {
            self.sql(&sql).unwrap();
        }
    }

    // ── the application ────────────────────────────────────────────────────────────────────────────────────────────

    pub fn sqlite(&self) -> Connection {
        let conn = Connection::open_with_flags(&self.path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        conn
    }

    /// Uses the application's session, a new one if that has died.
    pub fn postgres<T>(&self, use_: impl FnOnce(&mut Client) -> T) -> T {
        let mut session = self.session.borrow_mut();
        if session.as_ref().is_none_or(Client::is_closed) {
            *session = Some(Client::connect(self.url.as_ref().unwrap(), NoTls).unwrap());
        }
        use_(session.as_mut().unwrap())
    }

    /// Its server was restarted.
    pub fn reconnect(&self) {
        self.session.borrow_mut().take();
    }

    fn json(&self) -> Map<String, Value> {
        serde_json::from_str(&std::fs::read_to_string(&self.path).unwrap()).unwrap()
    }

    /// Runs statements as the application does; why not, if they are refused.
    pub fn sql(&self, sql: &str) -> Result<(), String> {
        match self.kind {
            Kind::Postgres => self.postgres(|c| {
                let done = c.batch_execute(sql);
                if done.is_err() {
                    let _ = c.batch_execute("ROLLBACK");
                }
                done.map_err(|e| format!("{e:?}"))
            }),
            _ if !self.path.exists() => Err("no file".into()),
            _ => self.sqlite().execute_batch(sql).map_err(|e| e.to_string()),
        }
    }

    /// Makes these changes, each committed alone.
    pub fn write(&self, changes: &[Change]) -> Result<(), String> {
        if self.kind == Kind::Json {
            let mut all = self.json();
            changes.iter().for_each(|c| c.in_json(&mut all));
            let temp = self.path.with_extension("app");
            std::fs::write(&temp, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
            std::fs::rename(temp, &self.path).unwrap();
            return Ok(());
        }
        changes.iter().try_for_each(|c| self.sql(&c.sql()))
    }

    /// Makes one change if no lock has to be waited for. Whether it was made.
    pub fn try_write(&self, change: &Change) -> bool {
        match self.kind {
            Kind::Json => self.write(std::slice::from_ref(change)).is_ok(),
            Kind::Postgres => {
                self.sql(&format!("BEGIN; SET LOCAL lock_timeout = '5ms'; {}; COMMIT", change.sql())).is_ok()
            }
            Kind::Sqlite if !self.path.exists() => false,
            Kind::Sqlite => {
                let conn = self.sqlite();
                conn.busy_timeout(Duration::ZERO).unwrap();
                conn.execute_batch(&change.sql()).is_ok()
            }
        }
    }

    /// Whether a database takes writes of just anyone. Nothing is left of the attempt.
    pub fn takes_writes(&self) -> bool {
        let probe = Change::New(("assets", "probe".into()), "x".into()).sql();
        match self.sql(&format!("BEGIN; {probe}; ROLLBACK")) {
            Ok(()) => true,
            Err(e) => {
                assert!(!e.contains("locked"), "{:?}: {e}", self.kind);
                false
            }
        }
    }

    /// With what refuses or notes it out of the way, which afterwards is as it was.
    pub fn behind_the_seal(&self, sql: &str) {
        let (mut before, mut after) = (String::new(), String::new());
        if self.kind == Kind::Postgres {
            let triggers = "SELECT tgrelid::regclass::text, quote_ident(tgname), tgenabled::text FROM pg_trigger \
                WHERE NOT tgisinternal AND tgenabled <> 'D'";
            for t in self.postgres(|c| c.query(triggers, &[]).unwrap()) {
                let (table, name, enabled): (String, String, String) = (t.get(0), t.get(1), t.get(2));
                let as_it_was = if enabled == "A" { "ENABLE ALWAYS" } else { "ENABLE" };
                before += &format!("ALTER TABLE {table} DISABLE TRIGGER {name};");
                after += &format!("ALTER TABLE {table} {as_it_was} TRIGGER {name};");
            }
        } else {
            let conn = self.sqlite();
            let mut triggers = conn.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
            let mut triggers = triggers.query([]).unwrap();
            while let Some(t) = triggers.next().unwrap() {
                before += &format!("DROP TRIGGER \"{}\";", t.get_unwrap::<_, String>(0));
                after += &format!("{};", t.get_unwrap::<_, String>(1));
            }
        }
        self.sql(&format!("BEGIN; {before} {sql}; {after} COMMIT")).unwrap();
    }

    /// What the application is told there is.
    pub fn rows(&self) -> Rows {
        if self.kind == Kind::Json {
            let all = self.json();
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            let assets =
                all["assets"].as_object().unwrap().iter().map(|(id, v)| (("assets", id.clone()), text(&v["name"])));
            let plays = all["plays"].as_array().unwrap().iter();
            return assets.chain(plays.map(|p| (("plays", p["id"].to_string()), text(&p["note"])))).collect();
        }
        self.select(|_, key, value| format!("CAST({key} AS TEXT), {value}"))
    }

    /// All rows, to the last byte.
    pub fn whole(&self) -> Rows {
        match self.kind {
            Kind::Json => {
                let all = self.json();
                let assets =
                    all["assets"].as_object().unwrap().iter().map(|(id, v)| (("assets", id.clone()), v.to_string()));
                let plays = all["plays"].as_array().unwrap().iter();
                assets.chain(plays.map(|p| (("plays", p["id"].to_string()), p.to_string()))).collect()
            }
            Kind::Sqlite => {
                let conn = self.sqlite();
                let mut out = Rows::new();
                for (table, key, _) in TABLES {
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
            Kind::Postgres => self.select(|table, key, _| format!("CAST({key} AS TEXT), CAST({table}.* AS TEXT)")),
        }
    }

    fn select(&self, columns: impl Fn(&str, &str, &str) -> String) -> Rows {
        let mut out = Rows::new();
        for (table, key, value) in TABLES {
            let sql = format!("SELECT {} FROM {table}", columns(table, key, value));
            if self.kind == Kind::Postgres {
                let rows = self.postgres(|c| c.query(&sql, &[]).unwrap());
                out.extend(rows.iter().map(|r| ((table, r.get(0)), r.get(1))));
            } else {
                let conn = self.sqlite();
                let mut rows = conn.prepare(&sql).unwrap();
                let rows = rows.query_map([], |r| Ok(((table, r.get(0)?), r.get(1)?))).unwrap();
                out.extend(rows.map(Result::unwrap));
            }
        }
        out
    }

    /// What is defined there: the application's, and ours but for histories and what was kept of rolled-back runs.
    pub fn schema(&self) -> Vec<String> {
        match self.kind {
            Kind::Json => Vec::new(),
            Kind::Sqlite if !self.path.exists() => Vec::new(),
            Kind::Sqlite => {
                let sql = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_schema \
                    WHERE tbl_name NOT IN ('backout_history', 'migration_log', 'sqlite_sequence') AND tbl_name NOT LIKE 'backout\\_kept\\_%' ESCAPE '\\' \
                    ORDER BY type, name";
                let conn = self.sqlite();
                let mut rows = conn.prepare(sql).unwrap();
                rows.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
            }
            Kind::Postgres => {
                let mine = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'backout\\_kept\\_%'";
                let sql = format!(
                    "SELECT c.relkind::text || ' ' || n.nspname || '.' || c.relname || coalesce(' ' || pg_get_indexdef(i.indexrelid), '') || \
                        coalesce(' ' || (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull::text, \
                            attidentity::text, pg_get_expr(adbin, adrelid)), ', ' ORDER BY attnum) FROM pg_attribute \
                            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid AND attnum > 0 \
                            AND NOT attisdropped AND c.relkind = 'r'), '') \
                        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid \
                        WHERE {mine} AND NOT (n.nspname = 'backout' AND c.relname ~ '^(history|migration_log)') \
                    UNION ALL SELECT conname || ' ' || pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_namespace n \
                        ON n.oid = k.connamespace WHERE {mine} AND k.conrelid IS DISTINCT FROM to_regclass('backout.history')::oid \
                    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT tgisinternal \
                    UNION ALL SELECT 'function ' || proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {mine} \
                    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace n WHERE {mine} AND nspname NOT IN ('backout', 'public') ORDER BY 1"
                );
                self.postgres(|c| c.query(&sql, &[]).unwrap().iter().map(|r| r.get(0)).collect())
            }
        }
    }

    // ── what happens to it ─────────────────────────────────────────────────────────────────────────────────────────

    /// Waits until nobody of ours is connected any more.
    pub fn settle(&self) {
        if self.kind != Kind::Postgres {
            return;
        }
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'backout'";
        let begun = Instant::now();
        while self.postgres(|c| c.query_one(sql, &[]).unwrap().get::<_, i64>(0)) > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "a session of ours is left");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nobody of ours is connected any more; another room may have the database.
    pub fn leave(self) {
        self.settle();
        if self.database.is_none() {
            return;
        }
        self.postgres(|c| c.batch_execute(CLEAN)).unwrap();
        let mut free = FREE.lock().unwrap();
        if free.0 > 0 {
            free.1.extend(self.database.zip(self.session.into_inner()));
        }
    }
}
