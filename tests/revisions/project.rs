//! A project with SQL revisions in a folder of its own, on SQLite or PostgreSQL.

use std::path::PathBuf;

use backout::gate::Gate;
use backout::migrate::{Failure, Options, Outcome, Project, RollbackOptions, UpOptions};
use backout::plan::Kind;
use tempfile::TempDir;

use crate::database::Database;

pub const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

pub struct Place {
    pub folder: TempDir,
    pub kind: Kind,
    pub database: Option<Database>,
    _scratch: Option<Database>,
}

impl Place {
    /// One in which downs can be proven.
    pub fn new(kind: Kind) -> Place {
        Place::made(kind, true)
    }

    /// One for runs without proofs.
    pub fn bare(kind: Kind) -> Place {
        Place::made(kind, false)
    }

    fn made(kind: Kind, proves: bool) -> Place {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (mut database, mut scratch) = (None, None);
        let text = match kind {
            Kind::Sqlite => {
                rusqlite::Connection::open(folder.path().join("app.db")).unwrap();
                "[stores]\nmain = \"sqlite:app.db\"\n".to_owned()
            }
            _ => {
                let one = Database::new();
                let mut text = format!("[stores]\nmain = \"{}\"\n", one.url);
                if proves {
                    let other = Database::new();
                    text.push_str(&format!("[project]\nscratch = \"{}\"\n", other.url));
                    // a plain role may not drop the schema that an administrator made
                    let owner = crate::database::owner();
                    other.admin().batch_execute(&format!("ALTER SCHEMA public OWNER TO {owner}")).unwrap();
                    scratch = Some(other);
                }
                database = Some(one);
                text
            }
        };
        std::fs::create_dir(folder.path().join("migrations")).unwrap();
        std::fs::write(folder.path().join("backout.toml"), text).unwrap();
        Place { folder, kind, database, _scratch: scratch }
    }

    /// Writes a revision's file.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join("migrations").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn revision(&self, stamp: &str, slug: &str, up: &str, down: &str) -> PathBuf {
        let down = if down == "nothing" || down.starts_with("irreversible") {
            format!("-- migrate:down {down}\n")
        } else {
            format!("-- migrate:down\n{down}\n")
        };
        self.file(&format!("{stamp}_{slug}.sql"), &format!("-- migrate:up\n{up}\n{down}"))
    }

    pub fn project(&self) -> Project {
        Project::open(self.folder.path(), &|_| None).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn gated(&self, gate: &Gate) -> Project {
        self.project().gated(gate.clone())
    }

    /// Without proofs.
    pub fn quick(&self) -> Project {
        self.project().with(Options { verify: false, ..Options::default() })
    }

    pub fn up(&self, goal: &str) -> Outcome {
        self.try_up(goal).unwrap_or_else(|e| panic!("{e}\n{}\n{}", e.state, e.hint))
    }

    pub fn try_up(&self, goal: &str) -> Result<Outcome, Failure> {
        self.project().up(&UpOptions { revision: Some(goal.into()), ..UpOptions::default() })
    }

    pub fn back(&self, goal: &str) -> Outcome {
        self.try_back(goal).unwrap_or_else(|e| panic!("{e}\n{}\n{}", e.state, e.hint))
    }

    pub fn try_back(&self, goal: &str) -> Result<Outcome, Failure> {
        self.project().rollback(&RollbackOptions { to: Some(goal.into()), ..RollbackOptions::default() })
    }

    /// The application writes, or an administrator does.
    pub fn sql(&self, text: &str) {
        match &self.database {
            None => self.sqlite().execute_batch(text).unwrap(),
            Some(database) => database.client().batch_execute(text).unwrap(),
        }
    }

    pub fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("app.db")).unwrap()
    }

    /// One text from a query; empty where there is no row.
    pub fn ask(&self, query: &str) -> String {
        self.list(query).into_iter().next().unwrap_or_default()
    }

    /// The first column of a query, as text.
    pub fn list(&self, query: &str) -> Vec<String> {
        match &self.database {
            None => {
                let conn = self.sqlite();
                let mut asked = conn.prepare(query).unwrap();
                let rows = asked.query_map([], |r| {
                    Ok(match r.get_ref(0)? {
                        rusqlite::types::ValueRef::Integer(i) => i.to_string(),
                        rusqlite::types::ValueRef::Real(r) => r.to_string(),
                        rusqlite::types::ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
                        other => format!("{other:?}"),
                    })
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
            Some(database) => {
                let rows = database.client().simple_query(query).unwrap();
                rows.iter()
                    .filter_map(|m| match m {
                        postgres::SimpleQueryMessage::Row(r) => Some(r.get(0).unwrap_or("NULL").to_owned()),
                        _ => None,
                    })
                    .collect()
            }
        }
    }

    /// Names of the application's tables.
    pub fn tables(&self) -> Vec<String> {
        self.list(match self.kind {
            Kind::Sqlite => {
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'backout%' \
                 AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'migration%' ORDER BY name"
            }
            _ => {
                "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'backout', \
                 'migration_backup') ORDER BY tablename"
            }
        })
    }

    /// Stamps recorded as applied, in order.
    pub fn applied(&self) -> Vec<String> {
        self.project().list().unwrap().into_iter().filter(|m| m.applied).map(|m| m.migration).collect()
    }
}
