//! An application that changes its tables in place: a database of people and their notes, a connection that is never closed, and a
//! ledger of what it was told is written. Before the change a person has a `nick` and a `fax`; after it a `name`, no fax and a `level`.

use std::collections::BTreeMap;

use backout::migrate::{Project, RollbackOptions, UpOptions};
use backout::store::Phase;
use postgres::{Client, NoTls};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::database::Database;
use crate::room::{Kind, folder};

/// The application's connection, which is never closed.
pub enum Session {
    Sqlite(Connection),
    Postgres(Client),
}

impl Session {
    pub fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Session::Sqlite(c) => c.execute_batch(sql).map_err(|e| e.to_string()),
            Session::Postgres(c) => {
                let done = c.batch_execute(sql).map_err(|e| format!("{e:?}"));
                if done.is_err() {
                    let _ = c.batch_execute("ROLLBACK");
                }
                done
            }
        }
    }

    /// Rows of text, NULL being `∅`.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Session::Sqlite(c) => {
                let mut s = c.prepare(sql).unwrap();
                let n = s.column_count();
                let text = |v: rusqlite::types::Value| match v {
                    rusqlite::types::Value::Null => "∅".into(),
                    rusqlite::types::Value::Integer(i) => i.to_string(),
                    rusqlite::types::Value::Real(r) => format!("{r:?}"),
                    rusqlite::types::Value::Text(t) => t,
                    rusqlite::types::Value::Blob(b) => format!("{b:?}"),
                };
                let rows = s.query_map([], |r| (0..n).map(|i| r.get(i).map(text)).collect()).unwrap();
                rows.map(Result::unwrap).collect()
            }
            Session::Postgres(c) => {
                let mut out = Vec::new();
                for m in c.simple_query(sql).unwrap() {
                    if let postgres::SimpleQueryMessage::Row(r) = m {
                        out.push((0..r.len()).map(|i| r.get(i).unwrap_or("∅").to_owned()).collect());
                    }
                }
                out
            }
        }
    }
}

/// By table and key: what the application was told is there.
pub type Ledger = BTreeMap<(&'static str, String), String>;

pub struct House {
    pub kind: Kind,
    pub folder: TempDir,
    session: Session,
    ledger: Ledger,
    schema: Vec<Vec<String>>,
    written: u64,
    // dropped last
    _database: Option<Database>,
}

/// A key that both shapes take.
fn person(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

const MIGRATION: &str = r#"title = "People get names"
[alter]
store = "main"
[[alter.column]]
table = "people"
column = "nick"
rename = "name"
[[alter.column]]
table = "people"
column = "fax"
drop = true
[[alter.column]]
table = "people"
column = "level"
add = true
type = "integer"
default = "1"
not_null = true
"#;

const REKEY: &str = r#"[rekey]
store = "main"
type = "uuid"
tables = ["people"]
"#;

impl House {
    pub fn new(kind: Kind) -> House {
        let folder = folder();
        let database = (kind == Kind::Postgres).then(Database::new);
        let (url, session) = match &database {
            Some(d) => (d.url.clone(), Session::Postgres(Client::connect(&d.url, NoTls).unwrap())),
            None => {
                let conn = Connection::open(folder.path().join("app.db")).unwrap();
                conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
                ("sqlite:app.db".to_owned(), Session::Sqlite(conn))
            }
        };
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("migrations")).unwrap();
        let config = format!("[project]\nname = \"house\"\n[stores]\nmain = {url:?}\n");
        std::fs::write(path("backout.toml"), config).unwrap();
        let rekey = if kind == Kind::Postgres { REKEY } else { "" };
        std::fs::write(path("migrations/20250301090000_names.toml"), format!("{MIGRATION}{rekey}")).unwrap();
        let mut house = House {
            kind,
            folder,
            session,
            ledger: BTreeMap::new(),
            schema: Vec::new(),
            written: 0,
            _database: database,
        };
        house.fill();
        house.schema = house.schema_now();
        house
    }

    fn fill(&mut self) {
        let (key, id) = match self.kind {
            Kind::Postgres => ("varchar(36)", "serial PRIMARY KEY"),
            _ => ("VARCHAR(36)", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        };
        let sql = format!(
            "CREATE TABLE people (id {key} NOT NULL CONSTRAINT people_pk PRIMARY KEY, email text NOT NULL UNIQUE, nick text, fax text); \
             CREATE TABLE notes (id {id}, person_id {key} NOT NULL CONSTRAINT of_person REFERENCES people (id) ON DELETE CASCADE, \
                body text, stars integer DEFAULT 3); \
             CREATE INDEX notes_by_person ON notes (person_id); \
             CREATE INDEX loved ON notes (stars) WHERE stars > 4; \
             CREATE VIEW mails AS SELECT id, email FROM people; \
             CREATE TABLE seen (what text)"
        );
        self.session.run(&sql).unwrap();
        for n in 0..20 {
            let (id, nick, fax) = (person(n), format!("nick {n}"), format!("+49 {n}"));
            let sql = format!("INSERT INTO people VALUES ('{id}', 'm{n}@example.org', '{nick}', '{fax}')");
            self.session.run(&sql).unwrap();
            self.ledger.insert(("people", id.clone()), nick);
            for k in 0..2 {
                let (note, body) = (2 * n + k + 1, format!("note {k} of {n}"));
                let sql = format!("INSERT INTO notes (person_id, body) VALUES ('{id}', '{body}')");
                self.session.run(&sql).unwrap();
                self.ledger.insert(("notes", note.to_string()), body);
            }
        }
        self.written = 20;
    }

    pub fn project(&self) -> Project {
        Project::open(self.folder.path(), &|_| None).unwrap()
    }

    pub fn phase(&self) -> Option<Phase> {
        self.project().phase().unwrap()
    }

    pub fn up(&mut self) {
        let out = self.project().up(&UpOptions::default()).unwrap();
        assert_eq!(out.phase, Some(Phase::Soaking));
    }

    pub fn roll_back(&mut self) {
        let out = self.project().rollback(&RollbackOptions::default()).unwrap();
        assert_eq!((out.phase, out.parked), (Some(Phase::RolledBack), Vec::new()));
    }

    pub fn sql(&mut self, sql: &str) -> Result<(), String> {
        self.session.run(sql)
    }

    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.session.rows(sql)
    }

    /// After a kill: waits until its sessions have ended.
    pub fn settle(&mut self) {
        let begun = std::time::Instant::now();
        while self.kind == Kind::Postgres
            && self.session.rows(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'backout'",
            )[0][0] != "0"
        {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "a session of ours is still there");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// What was written since is not wanted any more.
    pub fn forget_since(&mut self, ledger: &Ledger) {
        self.ledger.clone_from(ledger);
    }

    /// The application's connection as another one would be: what a kill of ours may have left is no matter.
    pub fn is_new_shape(&mut self) -> bool {
        let sql = match self.kind {
            Kind::Postgres => {
                "SELECT attname FROM pg_attribute WHERE attrelid = 'public.people'::regclass AND NOT attisdropped AND attname = 'name'"
            }
            _ => "SELECT name FROM pragma_table_info('people') WHERE name = 'name'",
        };
        !self.session.rows(sql).is_empty()
    }

    // ── the application ────────────────────────────────────────────────────────────────────────────────────────────

    /// A new person with a note, another name, another body, and one person less; each acknowledged.
    pub fn write(&mut self) {
        let (column, n) = (if self.is_new_shape() { "name" } else { "nick" }, self.written);
        self.written += 1;
        let (id, name) = (person(n), format!("born {n}"));
        self.put(
            &format!("INSERT INTO people (id, email, {column}) VALUES ('{id}', 'b{n}@example.org', '{name}')"),
            "people",
            &id,
            Some(&name),
        );
        let made = self
            .session
            .rows(&format!("INSERT INTO notes (person_id, body) VALUES ('{id}', 'first of {n}') RETURNING id"));
        self.ledger.insert(("notes", made[0][0].clone()), format!("first of {n}"));
        let old = person(n % 19 + 1);
        if self.ledger.contains_key(&("people", old.clone())) {
            let name = format!("named by {n}");
            self.put(&format!("UPDATE people SET {column} = '{name}' WHERE id = '{old}'"), "people", &old, Some(&name));
        }
        let note = (n % 30 + 1).to_string();
        if self.ledger.contains_key(&("notes", note.clone())) {
            let body = format!("body by {n}");
            self.put(&format!("UPDATE notes SET body = '{body}' WHERE id = {note}"), "notes", &note, Some(&body));
            let gone = (n % 30 + 2).to_string();
            self.put(&format!("DELETE FROM notes WHERE id = {gone}"), "notes", &gone, None);
        }
    }

    fn put(&mut self, sql: &str, table: &'static str, key: &str, value: Option<&str>) {
        self.session.run(sql).unwrap();
        match value {
            Some(v) => self.ledger.insert((table, key.to_owned()), v.to_owned()),
            None => self.ledger.remove(&(table, key.to_owned())),
        };
    }

    // ── what must be so ────────────────────────────────────────────────────────────────────────────────────────────

    /// Definitions of the application's own, where it looks for them.
    pub fn schema_now(&mut self) -> Vec<Vec<String>> {
        let sql = match self.kind {
            Kind::Postgres => {
                "SELECT c.relname, c.relkind, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                    pg_get_expr(d.adbin, d.adrelid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
                    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
                    WHERE c.relnamespace = 'public'::regnamespace \
                 UNION ALL SELECT conrelid::regclass::text, contype, 0, conname, pg_get_constraintdef(oid), convalidated, '' \
                    FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
                 UNION ALL SELECT tgrelid::regclass::text, 't', 0, tgname, pg_get_triggerdef(oid), true, tgenabled::text \
                    FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) \
                 UNION ALL SELECT viewname, 'w', 0, '', definition, true, '' FROM pg_views WHERE schemaname = 'public' \
                 UNION ALL SELECT tablename, 'x', 0, indexname, indexdef, true, '' FROM pg_indexes WHERE schemaname = 'public' \
                 ORDER BY 1, 2, 3, 4"
            }
            _ => {
                "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT GLOB 'backout_*' AND name <> 'migration_log' \
                 AND name NOT GLOB 'sqlite_autoindex_backout_*' AND tbl_name NOT GLOB 'backout_*'"
            }
        };
        self.session.rows(sql)
    }

    /// What there is of ours: schemas and tables but the history's.
    fn ours(&mut self) -> Vec<String> {
        let sql = match self.kind {
            Kind::Postgres => {
                "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relkind IN ('r', 'v', 'm') \
                 AND (relnamespace::regnamespace::text LIKE 'backout%' OR relnamespace::regnamespace::text = 'migration_backup') \
                 UNION SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'backout_stage%' OR nspname = 'migration_backup' \
                 UNION SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'backout%' ORDER BY 1"
            }
            _ => "SELECT name FROM sqlite_schema WHERE name GLOB 'backout_*' OR name GLOB 'migration_*' ORDER BY 1",
        };
        self.session.rows(sql).into_iter().map(|r| r[0].clone()).collect()
    }

    fn holds_the_ledger(&mut self) {
        let column = if self.is_new_shape() { "name" } else { "nick" };
        let mut found = BTreeMap::new();
        for r in self.session.rows(&format!("SELECT id, {column} FROM people")) {
            found.insert(("people", r[0].clone()), r[1].clone());
        }
        for r in self.session.rows("SELECT id, body FROM notes") {
            found.insert(("notes", r[0].clone()), r[1].clone());
        }
        assert_eq!(found, self.ledger);
        let mails = self.session.rows("SELECT count(*) FROM mails")[0][0].clone();
        let people = found.keys().filter(|k| k.0 == "people").count();
        assert_eq!(mails, people.to_string(), "the view shows other rows than the table");
    }

    /// The source is home, as it was but for what was written.
    pub fn is_home(&mut self) {
        assert!(!self.is_new_shape());
        assert_eq!(self.phase(), None);
        self.holds_the_ledger();
        assert_eq!(self.schema_now(), self.schema);
        let fax = self
            .session
            .rows("SELECT count(*) FROM people WHERE fax = '+49 ' || substr(nick, 6) OR nick NOT LIKE 'nick%'");
        assert_eq!(fax[0][0], self.session.rows("SELECT count(*) FROM people")[0][0], "a fax number was lost");
        let left = self.ours();
        // SQLite keeps a target where it was made
        let kept = if self.kind == Kind::Sqlite { "backout_stage" } else { "backout_kept" };
        let fine = |n: &String| n.starts_with(kept) || n.ends_with("history") || n.ends_with("migration_log");
        assert!(left.iter().all(fine), "left: {left:?}");
        self.write();
        self.holds_the_ledger();
    }

    /// The target is home; the source rests.
    pub fn is_soaking(&mut self) {
        assert!(self.is_new_shape());
        assert_eq!(self.phase(), Some(Phase::Soaking));
        self.holds_the_ledger();
        let resting = if self.kind == Kind::Postgres { "migration_backup.people" } else { "migration_backup__people" };
        let refused = self.session.run(&format!("UPDATE {resting} SET nick = 'by a stranger'"));
        assert!(refused.is_err(), "the resting table takes writes");
        self.write();
        self.holds_the_ledger();
    }

    pub fn is_completed(&mut self) {
        assert!(self.is_new_shape());
        assert_eq!(self.phase(), None);
        self.holds_the_ledger();
        let left = self.ours();
        let fine = |n: &String| n.ends_with("history") || n.ends_with("migration_log");
        assert!(left.iter().all(fine), "left: {left:?}");
        self.write();
        self.holds_the_ledger();
    }
}
