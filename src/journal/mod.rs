//! What happened, for people: `.backout/journal.sqlite` in the project's folder.
//!
//! Nothing is ever decided by it. It may be lost or deleted at any time, and is begun anew; a note that cannot be written
//! is an error that callers pass over. It is read by others and attached to reports: **no secret may be in a note**, and
//! it is up to callers that there is none.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Row, params};

use crate::gate::{Gate, Refused};

/// What the journal could not do. The migration goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder or a file in it.
    #[error("the journal cannot be kept in {}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// SQLite.
    #[error("the journal {}: {cause}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What it said.
        cause: rusqlite::Error,
    },
    /// A later version wrote it.
    #[error("the journal {} is of a later version of Backout", path.display())]
    Later {
        /// The file.
        path: PathBuf,
    },
    /// A test made this effect fail.
    #[error(transparent)]
    Gate(#[from] Refused),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Event {
    /// When (RFC 3339); empty for now.
    pub at: String,
    /// In which run; empty outside of any.
    pub run: String,
    /// The migration's stamp.
    pub migration: String,
    /// The phase in which the run was.
    pub phase: String,
    /// What was done: `drain`, `stop service bot`.
    pub operation: String,
    /// More of it, for people. No secrets.
    pub detail: String,
    /// Whether it was done.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this run.
    pub run: Option<String>,
    /// Of this migration.
    pub migration: Option<String>,
    /// Only what failed.
    pub failed: bool,
    /// Only so many, the latest.
    pub last: Option<usize>,
}

/// The journal of a project.
pub struct Journal {
    folder: PathBuf,
    path: PathBuf,
    open: Option<(Connection, u64)>,
    gate: Gate,
}

impl Journal {
    /// The journal of the project in `folder`. Nothing is made before there is something to note.
    pub fn open(folder: &Path, gate: &Gate) -> Journal {
        let folder = folder.join(".backout");
        Journal { path: folder.join("journal.sqlite"), folder, open: None, gate: gate.clone() }
    }

    /// Notes an event.
    ///
    /// # Errors
    /// It is not noted. Nothing else depends on that.
    pub fn note(&mut self, event: &Event) -> Result<()> {
        let at = if event.at.is_empty() { jiff::Timestamp::now().to_string() } else { event.at.clone() };
        let gate = self.gate.clone();
        gate.pass("note in the journal", || {
            let path = self.path.clone();
            let connection = self.connection(true)?;
            let ms = i64::try_from(event.ms).unwrap_or(i64::MAX);
            connection
                .execute(
                    "INSERT INTO events (at, run, migration, phase, operation, detail, ok, ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![at, event.run, event.migration, event.phase, event.operation, event.detail, event.ok, ms],
                )
                .map_err(|cause| Error::Database { path, cause })?;
            Ok(())
        })
    }

    /// Events in the order in which they were noted. Where there is no journal there are none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn events(&mut self, filter: &Filter) -> Result<Vec<Event>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let path = self.path.clone();
        let connection = self.connection(false)?;
        let last = filter.last.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
        let read = || -> rusqlite::Result<Vec<Event>> {
            connection
                .prepare_cached(
                    "SELECT at, run, migration, phase, operation, detail, ok, ms FROM (
                         SELECT * FROM events
                         WHERE (?1 IS NULL OR run = ?1) AND (?2 IS NULL OR migration = ?2) AND (NOT ?3 OR NOT ok)
                         ORDER BY id DESC LIMIT ?4)
                     ORDER BY id",
                )?
                .query_map(params![filter.run, filter.migration, filter.failed, last], event)?
                .collect()
        };
        read().map_err(|cause| Error::Database { path, cause })
    }

    /// The connection, made anew if the file is another one than it was, or gone, or broken.
    fn connection(&mut self, repair: bool) -> Result<&Connection> {
        let inode = |path: &Path| std::fs::metadata(path).map(|meta| meta.ino()).ok();
        let there = inode(&self.path);
        if self.open.as_ref().is_none_or(|(_, known)| Some(*known) != there) {
            self.open = None;
            let connection = match self.begin() {
                Err(Error::Database { cause, .. }) if repair && broken(&cause) => {
                    self.set_aside()?;
                    self.begin()?
                }
                other => other?,
            };
            self.open = Some((connection, inode(&self.path).unwrap_or_default()));
        }
        match &self.open {
            Some((connection, _)) => Ok(connection),
            None => Err(Error::Later { path: self.path.clone() }),
        }
    }

    fn begin(&self) -> Result<Connection> {
        if !self.folder.exists() {
            let file = |cause| Error::File { path: self.folder.clone(), cause };
            std::fs::create_dir_all(&self.folder).map_err(file)?;
            std::fs::write(self.folder.join(".gitignore"), "*\n").map_err(file)?;
        }
        let begin = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(&self.path)?;
            connection.busy_timeout(Duration::from_secs(1))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // a note costs no fsync; the file is whole after a crash all the same, but for its last notes
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version <= 1 {
                connection.execute_batch(
                    "CREATE TABLE IF NOT EXISTS events (
                         id INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, migration TEXT NOT NULL,
                         phase TEXT NOT NULL, operation TEXT NOT NULL, detail TEXT NOT NULL, ok INTEGER NOT NULL,
                         ms INTEGER NOT NULL);
                     PRAGMA user_version = 1;",
                )?;
            }
            Ok((connection, version))
        };
        match begin() {
            Ok((_, version)) if version > 1 => Err(Error::Later { path: self.path.clone() }),
            Ok((connection, _)) => Ok(connection),
            Err(cause) => Err(Error::Database { path: self.path.clone(), cause }),
        }
    }

    /// Moves a broken journal out of the way, so that a new one can be begun; what it holds may still be of use to someone.
    fn set_aside(&self) -> Result<()> {
        for ending in ["", "-wal", "-shm"] {
            let name = format!("journal.sqlite{ending}");
            let from = self.folder.join(&name);
            let to = self.folder.join(format!("broken-{name}"));
            match std::fs::rename(&from, to) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::File { path: from, cause });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn broken(cause: &rusqlite::Error) -> bool {
    matches!(cause.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        at: row.get(0)?,
        run: row.get(1)?,
        migration: row.get(2)?,
        phase: row.get(3)?,
        operation: row.get(4)?,
        detail: row.get(5)?,
        ok: row.get(6)?,
        ms: u64::try_from(row.get::<_, i64>(7)?).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(run: &str, operation: &str, ok: bool) -> Event {
        Event { run: run.into(), operation: operation.into(), migration: "2025".into(), ok, ms: 7, ..Event::default() }
    }

    fn operations(journal: &mut Journal, filter: &Filter) -> Vec<String> {
        journal.events(filter).unwrap().into_iter().map(|event| event.operation).collect()
    }

    #[test]
    fn what_is_noted_is_read_back_and_nothing_is_made_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), &Gate::default());
        assert_eq!(journal.events(&Filter::default()).unwrap(), []);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        for (run, operation, ok) in [("a", "one", true), ("a", "two", false), ("b", "three", true)] {
            journal.note(&event(run, operation, ok)).unwrap();
        }
        let all = journal.events(&Filter::default()).unwrap();
        assert!(all[0].at.parse::<jiff::Timestamp>().is_ok());
        assert_eq!(Event { at: String::new(), ..all[1].clone() }, event("a", "two", false));
        let mut other = Journal::open(folder.path(), &Gate::default());
        let run = |run: &str| Filter { run: Some(run.into()), ..Filter::default() };
        assert_eq!(operations(&mut other, &run("a")), ["one", "two"]);
        assert_eq!(operations(&mut other, &Filter { failed: true, ..Filter::default() }), ["two"]);
        assert_eq!(operations(&mut other, &Filter { last: Some(2), ..Filter::default() }), ["two", "three"]);
        assert_eq!(operations(&mut other, &Filter { migration: Some("2024".into()), ..Filter::default() }), [""; 0]);
        assert_eq!(std::fs::read_to_string(folder.path().join(".backout/.gitignore")).unwrap(), "*\n");
    }

    #[test]
    fn it_may_be_deleted_or_broken_at_any_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), &Gate::default());
        journal.note(&event("a", "one", true)).unwrap();
        std::fs::remove_dir_all(folder.path().join(".backout")).unwrap();
        assert_eq!(operations(&mut journal, &Filter::default()), [""; 0]);
        journal.note(&event("a", "two", true)).unwrap();
        assert_eq!(operations(&mut journal, &Filter::default()), ["two"]);

        drop(journal);
        let file = folder.path().join(".backout/journal.sqlite");
        std::fs::write(&file, vec![b'x'; 4096]).unwrap();
        let mut journal = Journal::open(folder.path(), &Gate::default());
        assert!(journal.events(&Filter::default()).is_err());
        journal.note(&event("a", "three", true)).unwrap();
        assert_eq!(operations(&mut journal, &Filter::default()), ["three"]);
        assert!(folder.path().join(".backout/broken-journal.sqlite").exists());
    }

    #[test]
    fn where_it_cannot_be_kept_it_says_so_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".backout"), "in the way").unwrap();
        let mut journal = Journal::open(folder.path(), &Gate::default());
        assert!(journal.note(&event("a", "one", true)).is_err());
        let mut journal = Journal::open(&folder.path().join("x"), &Gate::with_trap(1, |_| {}));
        assert!(matches!(journal.note(&event("a", "one", true)), Err(Error::Gate(_))));
        assert!(!folder.path().join("x").exists());
    }

    #[test]
    fn a_journal_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), &Gate::default());
        journal.note(&event("a", "one", true)).unwrap();
        let file = folder.path().join(".backout/journal.sqlite");
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 2).unwrap();
        let mut journal = Journal::open(folder.path(), &Gate::default());
        assert!(matches!(journal.note(&event("a", "two", true)), Err(Error::Later { .. })));
    }
}
