//! Whole stories on real files and a real server, through the library's public API: there, back, there again.

mod chinook;
mod fixture;
mod reminders;
mod rules;
mod signage;
mod style;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backout::migrate::{Failure, Options, Outcome, Project, RollbackOptions, Until, UpOptions};
use postgres::Client;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tempfile::TempDir;

pub(crate) use super::database::Database;

/// A file of the shared sample data.
fn sample(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    assert!(path.exists(), "the sample data {} is not there: these tests cannot do without it", path.display());
    path
}

/// A project's folder, as a user would write it.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new(stores: &[(&str, &str)], rest: &str) -> Home {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("migrations")).unwrap();
        let stores: String = stores.iter().map(|(name, url)| format!("{name} = \"{url}\"\n")).collect();
        std::fs::write(folder.path().join("backout.toml"), format!("{rest}\n[stores]\n{stores}")).unwrap();
        Home { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub(crate) fn migration(&self, name: &str, text: &str) {
        self.write(&format!("migrations/{name}.toml"), text);
    }

    /// Opened anew for each command, as the command line does.
    pub(crate) fn project(&self) -> Project {
        let options = Options { writers_stopped: true, wait: Duration::from_secs(20), ..Options::default() };
        Project::open(self.folder.path(), &|_| None).unwrap().with(options)
    }

    pub(crate) fn up(&self) -> Outcome {
        let out = ok(self.project().up(&UpOptions::default()));
        assert_eq!(out.phase.map(|p| p.words()), Some("soaking"), "{out:?}");
        out
    }

    pub(crate) fn up_until_ready(&self) -> Outcome {
        ok(self.project().up(&UpOptions { until: Until::Ready, ..UpOptions::default() }))
    }

    pub(crate) fn rollback(&self) -> Outcome {
        let out = ok(self.project().rollback(&RollbackOptions::default()));
        let verified = out.verified.as_ref().expect("a rollback is verified afterwards");
        assert!(verified.differences.is_empty(), "{verified:?}");
        out
    }

    pub(crate) fn complete(&self) -> Outcome {
        ok(self.project().complete(false))
    }

    pub(crate) fn sqlite(&self, name: &str) -> Connection {
        let db = Connection::open(self.path(name)).unwrap();
        db.busy_timeout(Duration::from_secs(20)).unwrap();
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        db
    }

    /// `phase` of the open run, by the stores.
    pub(crate) fn phase(&self) -> Option<String> {
        ok(self.project().status()).map(|s| s.source.phase.words().to_owned())
    }

    /// (stamp, state, applied) of each migration.
    pub(crate) fn list(&self) -> Vec<(String, String, bool)> {
        ok(self.project().list()).into_iter().map(|m| (m.migration, m.state, m.applied)).collect()
    }

    /// Migration and outcome of each line of the history of one store.
    pub(crate) fn history(&self, store: &str) -> Vec<(String, String)> {
        let all = ok(self.project().history()).lines;
        all.into_iter().filter(|(s, _)| s == store).map(|(_, l)| (l.migration, l.outcome)).collect()
    }
}

/// The value, or a panic that shows what a person would have been shown.
#[track_caller]
pub(crate) fn ok<T>(result: Result<T, Failure>) -> T {
    match result {
        Ok(v) => v,
        Err(f) => panic!("{f}\nstate: {}\nhint: {}\n{:?}", f.state, f.hint, f.error),
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_or(condition, || format!("waited in vain: {what}"));
}

#[track_caller]
pub(crate) fn wait_until_or(mut condition: impl FnMut() -> bool, what: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "{}", what());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Rows per table, each with storage class and bytes of every column, generated ones too; sorted.
pub(crate) type Dump = BTreeMap<String, Vec<String>>;

pub(crate) fn sqlite_tables(db: &Connection) -> Vec<String> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'backout\\_%' ESCAPE '\\' ORDER BY name";
    db.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn sqlite_dump(db: &Connection) -> Dump {
    sqlite_tables(db)
        .into_iter()
        .map(|t| (t.clone(), sqlite_rows(db, &format!("SELECT * FROM {}", quoted(&t)))))
        .collect()
}

pub(crate) fn sqlite_rows(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut out = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<String> = (0..columns)
            .map(|i| match row.get_ref(i).unwrap() {
                ValueRef::Null => "null".into(),
                ValueRef::Integer(i) => format!("int {i}"),
                ValueRef::Real(r) => format!("real {r:?} {:016x}", r.to_bits()),
                ValueRef::Text(t) => format!("text {}", t.escape_ascii()),
                ValueRef::Blob(b) => format!("blob {}", b.escape_ascii()),
            })
            .collect();
        out.push(values.join(" | "));
    }
    out.sort();
    out
}

/// What `sqlite_schema` says, of everything that is not Backout's.
pub(crate) fn sqlite_schema(db: &Connection) -> Vec<String> {
    sqlite_rows(
        db,
        "SELECT type, name, tbl_name, sql FROM sqlite_schema
         WHERE tbl_name NOT LIKE 'backout\\_%' ESCAPE '\\' AND name <> 'migration_log'",
    )
}

/// Names of Backout's own objects.
pub(crate) fn sqlite_ours(db: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE name LIKE '%backout\\_%' ESCAPE '\\' OR sql LIKE '%backout\\_%' ESCAPE '\\' ORDER BY name";
    db.prepare(sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// First line at which two dumps part, for a readable failure.
#[track_caller]
pub(crate) fn same(found: &Dump, expected: &Dump) {
    let names = |d: &Dump| d.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "tables");
    for (table, rows) in expected {
        let (missing, more): (Vec<_>, Vec<_>) = (
            rows.iter().filter(|r| found[table].binary_search(r).is_err()).take(5).collect(),
            found[table].iter().filter(|r| rows.binary_search(r).is_err()).take(5).collect(),
        );
        assert!(
            missing.is_empty() && more.is_empty(),
            "{table}\nexpected, not there: {missing:#?}\nthere, not expected: {more:#?}"
        );
        assert_eq!(found[table].len(), rows.len(), "{table}: number of rows");
    }
}

/// A query's rows, every column as text, NULL as `∅`; sorted.
pub(crate) fn pg_rows(client: &mut Client, sql: &str) -> Vec<String> {
    let mut out = Vec::new();
    for message in client.simple_query(sql).unwrap() {
        if let postgres::SimpleQueryMessage::Row(row) = message {
            out.push((0..row.len()).map(|i| row.get(i).unwrap_or("∅")).collect::<Vec<_>>().join(" | "));
        }
    }
    out.sort();
    out
}

/// Replaces `was`, which has to be there exactly once.
#[track_caller]
pub(crate) fn edit(text: &mut String, was: &str, is: &str) {
    assert_eq!(text.matches(was).count(), 1, "{was:?} is to be there once");
    *text = text.replacen(was, is, 1);
}

/// That two texts are the same, byte for byte; shows where they part.
#[track_caller]
pub(crate) fn same_bytes(found: &[u8], expected: &[u8]) {
    if found == expected {
        return;
    }
    let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
    let around = |b: &[u8]| {
        String::from_utf8_lossy(&b[at.saturating_sub(200).min(b.len())..(at + 200).min(b.len())]).into_owned()
    };
    panic!(
        "they part at byte {at} ({} and {} bytes)\nfound:\n{}\nexpected:\n{}",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
}
