//! Migrations you can take back.
//!
//! Backout moves an application's data from one store to another while the application writes to it, proves that both sides
//! agree, and takes the change back with every write made since. This crate is the whole of it; the program `backout` only
//! prints what this returns.
//!
//! A [`Project`](migrate::Project) is a folder with `backout.toml` and `migrations/`. Everything begins there:
//!
//! ```
//! use backout::migrate::{Options, Project, RollbackOptions, UpOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! std::fs::write(folder.join("notes.json"), r#"{"n1": {"text": "milk"}, "n2": {"text": "bread"}}"#)?;
//! std::fs::write(folder.join("backout.toml"), r#"
//!     [stores]
//!     files = "json:notes.json"
//!     local = "sqlite:notes.db"
//! "#)?;
//! std::fs::create_dir(folder.join("migrations"))?;
//! std::fs::write(folder.join("migrations/20250301090000_to_sqlite.toml"), r#"
//!     title = "Notes move to SQLite"
//!     [transfer]
//!     from = "files"
//!     to = "local"
//!     [[transfer.table]]
//!     source = "$"
//!     key = "id"
//!     into = "notes"
//! "#)?;
//!
//! // nobody else writes the file, and we say so
//! let options = Options { writers_stopped: true, ..Options::default() };
//! let project = Project::open(folder, &|name| std::env::var(name).ok())?.with(options);
//!
//! let plan = project.plan(None)?.expect("one migration is pending");
//! assert_eq!(plan.plan.tables[0].target.columns[1].ty, "TEXT");
//!
//! project.up(&UpOptions { plan: Some(plan.hash), ..UpOptions::default() })?;
//! rusqlite::Connection::open(folder.join("notes.db"))?
//!     .execute("update notes set text = 'oat milk' where id = 'n1'", [])?;
//!
//! let back = project.rollback(&RollbackOptions::default())?;
//! assert_eq!(back.carried, 1);
//! assert_eq!(
//!     std::fs::read_to_string(folder.join("notes.json"))?,
//!     r#"{"n1": {"text": "oat milk"}, "n2": {"text": "bread"}}"#,
//! );
//! # Ok(())
//! # }
//! ```
//!
//! SQL revisions are in the same history. One file with an up and a down; the down is proven on a copy before the up runs:
//!
//! ```
//! use backout::migrate::{Project, RollbackOptions, UpOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! std::fs::write(folder.join("backout.toml"), "[stores]\nmain = \"sqlite:app.db\"\n")?;
//! std::fs::create_dir(folder.join("migrations"))?;
//! std::fs::write(folder.join("migrations/20250128140000_create_events.sql"),
//!     "-- migrate:up\nCREATE TABLE events (id INTEGER PRIMARY KEY);\n-- migrate:down\nDROP TABLE events;\n")?;
//!
//! let project = Project::open(folder, &|_| None)?;
//! assert_eq!(project.up(&UpOptions::default())?.revisions.len(), 1);
//! // the last one; `base` takes all of them back
//! let back = project.rollback(&RollbackOptions { to: Some("-1".into()), ..RollbackOptions::default() })?;
//! assert_eq!(back.state, "no migration is applied");
//! # Ok(())
//! # }
//! ```
//!
//! A [`Failure`](migrate::Failure) says what happened, what state the data is in, and which command leads on. Progress goes to an
//! [`Observer`](migrate::Observer). The library prints nothing, reads no environment variable and never exits.
//!
//! The rooms, in reading order:
//!
//! * [`plan`]: from files a user writes to a checked, frozen [`Plan`](plan::Plan)
//! * [`value`]: values, rows, keys, digests, and their one encoding
//! * [`mapping`]: a row of the source as a row of the target, and back; pure
//! * [`store`]: a JSON file, a SQLite file, a PostgreSQL database behind one trait
//! * [`revision`]: SQL revisions, run in place
//! * [`migrate`]: the flow, one loop over phases
//! * [`app`]: services and switches around the data
//! * [`journal`]: what happened, for people
//! * [`gate`]: every effect passes it, numbered, so that a test can fail or kill the n-th
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::exit)
)]

pub mod app;
pub mod gate;
pub mod journal;
pub mod mapping;
pub mod migrate;
pub mod plan;
pub mod revision;
pub mod store;
mod tokens;
pub mod value;

/// This machine's clock, RFC 3339.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
