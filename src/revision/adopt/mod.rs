//! Taking over the migrations of another tool: its files become ours, and what its history says is applied is stamped.
//!
//! Its folder and its history are only read. What cannot be taken over as it is, is refused by name or noted; nothing
//! is left out without a word.

mod alembic;
mod diesel;
mod files;
mod flyway;
mod goose;
mod history;
mod scripts;
mod stamps;
mod url;
mod write;
mod yoyo;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use url::{settings_of, store_of, store_url};
pub use write::{records, write};

use super::database::Database;
use super::{Error, Result};
use crate::plan::Kind;

/// Why a revision without a way down cannot be taken back.
pub const WITHOUT_DOWN: &str = "imported without a down";

/// A tool whose migrations are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Alembic, of SQLAlchemy.
    Alembic,
    /// dbmate.
    Dbmate,
    /// sqlx.
    Sqlx,
    /// golang-migrate.
    GolangMigrate,
    /// goose.
    Goose,
    /// Flyway.
    Flyway,
    /// refinery.
    Refinery,
    /// Diesel.
    Diesel,
    /// yoyo-migrations.
    Yoyo,
}

/// The tables that the tools keep their histories in: no part of anybody's schema.
pub const HISTORIES: &[&str] = &[
    "alembic_version",
    "schema_migrations",
    "_sqlx_migrations",
    "goose_db_version",
    "flyway_schema_history",
    "refinery_schema_history",
    "__diesel_schema_migrations",
    "_yoyo_migration",
    "_yoyo_log",
    "_yoyo_version",
    "yoyo_lock",
];

impl Tool {
    /// All of them.
    pub const ALL: [Tool; 9] = [
        Tool::Alembic,
        Tool::Dbmate,
        Tool::Sqlx,
        Tool::GolangMigrate,
        Tool::Goose,
        Tool::Flyway,
        Tool::Refinery,
        Tool::Diesel,
        Tool::Yoyo,
    ];

    /// The word that stands for it: `--from WORD`.
    pub fn word(self) -> &'static str {
        match self {
            Tool::Alembic => "alembic",
            Tool::Dbmate => "dbmate",
            Tool::Sqlx => "sqlx",
            Tool::GolangMigrate => "golang-migrate",
            Tool::Goose => "goose",
            Tool::Flyway => "flyway",
            Tool::Refinery => "refinery",
            Tool::Diesel => "diesel",
            Tool::Yoyo => "yoyo",
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Alembic => "Alembic",
            Tool::Flyway => "Flyway",
            Tool::Diesel => "Diesel",
            other => other.word(),
        }
    }

    /// The tool that a word names, whatever its case: `migrate` and `golang_migrate` are golang-migrate, too.
    pub fn named(word: &str) -> Option<Tool> {
        let word = word.to_ascii_lowercase().replace('_', "-");
        match word.as_str() {
            "migrate" | "golang" => Some(Tool::GolangMigrate),
            "sqlalchemy" => Some(Tool::Alembic),
            "yoyo-migrations" => Some(Tool::Yoyo),
            word => Tool::ALL.into_iter().find(|tool| tool.word() == word),
        }
    }
}

/// Whose migrations are taken over, and how they are reached.
#[derive(Clone)]
pub struct Origin {
    /// The tool.
    pub tool: Tool,
    /// Its folder of migrations; of Alembic `alembic.ini`, or the folder where that is.
    pub folder: PathBuf,
    /// What kind of database they are for.
    pub kind: Kind,
    /// The table of its history (`table`, `schema.table`), where that has not the tool's usual name. Alembic says it
    /// itself.
    pub table: Option<String>,
    /// Of Alembic: the Python that has it. `None`: it is looked for in the environment's `VIRTUAL_ENV`, in `.venv` and
    /// `venv` beside `alembic.ini`, beside the `alembic` of the environment's `PATH`, and as `python3` and `python`.
    pub python: Option<PathBuf>,
    /// Of Alembic: an SQLAlchemy URL in place of `sqlalchemy.url`. Nothing connects to it.
    pub url: Option<String>,
    /// Of Alembic: all of the environment that its `env.py` runs in.
    pub environment: Vec<(OsString, OsString)>,
}

impl Origin {
    /// The migrations of `tool` in `folder`, for a database of this kind, in an environment without variables.
    pub fn of(tool: Tool, folder: &Path, kind: Kind) -> Origin {
        Origin { tool, folder: folder.to_owned(), kind, table: None, python: None, url: None, environment: Vec::new() }
    }
}

/// What was read of another tool's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The tool.
    pub tool: Tool,
    /// Its migrations, in the order in which they run.
    pub revisions: Vec<Imported>,
    /// The stamps of those that its history says are applied, in that order.
    pub applied: Vec<String>,
    /// What a person should know; each a sentence.
    pub notes: Vec<String>,
}

/// A migration of another tool's, as a revision of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Its stamp here: their version where that is digits, else digits in the same order.
    pub stamp: String,
    /// What follows in the file's name.
    pub slug: String,
    /// For people; one line.
    pub title: String,
    /// The statements of its way up.
    pub up: String,
    /// They run in one transaction.
    pub up_transaction: bool,
    /// Its way down.
    pub down: ImportedDown,
    /// What the tool calls it.
    pub their_version: String,
}

/// How an imported revision is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportedDown {
    /// By these statements, in one transaction or not.
    Sql(String, bool),
    /// There is nothing to undo.
    Nothing,
    /// It cannot be, for this reason.
    Irreversible(String),
}

/// Reads another tool's migrations, and from `database` what it has applied there. Without a database, or where the
/// tool's history is not in it, nothing is applied.
///
/// # Errors
/// [`Error::Refused`] with the names of what cannot be taken over, or where a stamp would say what is not so;
/// [`Error::File`] with the place of what is no SQL.
pub fn read(origin: &Origin, database: Option<&mut dyn Database>) -> Result<Import> {
    if origin.kind == Kind::Json {
        return Err(refused("SQL migrations do not run in a JSON file", "name a SQLite or PostgreSQL store"));
    }
    let mut notes = Vec::new();
    let (found, applied) = match origin.tool {
        Tool::Alembic => {
            let project = alembic::read(origin, &mut notes)?;
            let applied = history::asked(database, &mut notes, |db, notes| project.applied(db, notes))?;
            (project.found, applied)
        }
        tool => {
            let read = match tool {
                Tool::Dbmate => files::dbmate,
                Tool::Sqlx => files::sqlx,
                Tool::GolangMigrate => files::golang_migrate,
                Tool::Refinery => files::refinery,
                Tool::Goose => goose::read,
                Tool::Flyway => flyway::read,
                Tool::Diesel => diesel::read,
                Tool::Yoyo | Tool::Alembic => yoyo::read,
            };
            let found = read(&origin.folder, &mut notes)?;
            let applied =
                history::asked(database, &mut notes, |db, notes| history::applied(origin, db, &found, notes))?;
            (found, applied)
        }
    };
    if found.is_empty() {
        return Err(refused(
            format!("there are no migrations of {} in {}", origin.tool.name(), origin.folder.display()),
            "name the folder that holds them: --folder PATH",
        ));
    }
    stamps::check(&found)?;
    let applied = history::settle(&found, applied, origin.tool, &mut notes)?;
    let revisions = found.into_iter().map(|one| one.imported(origin, &mut notes)).collect::<Result<Vec<_>>>()?;
    Ok(Import { tool: origin.tool, revisions, applied, notes })
}

/// A migration as another tool has it.
#[derive(Clone, Debug)]
struct Found {
    /// What the tool calls it.
    version: String,
    stamp: String,
    slug: String,
    title: String,
    up: Way,
    down: Option<Way>,
    /// Why there is no way down, in the author's words.
    why: Option<String>,
}

/// One way of a migration of another tool's.
#[derive(Clone, Debug)]
struct Way {
    file: PathBuf,
    /// The line of the file on which the text begins, from 1.
    line: usize,
    text: String,
    /// The tool runs it in a transaction.
    transaction: bool,
    /// But not if there are statements that cannot be.
    unless: Unless,
}

/// Which tools look at the statements themselves before they begin a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unless {
    /// It does not look.
    Never,
    /// The only statement cannot run in one: it is sent as it is.
    Alone,
    /// Any of them cannot.
    Any,
}

impl Way {
    fn whole(file: &Path, text: String) -> Way {
        Way { file: file.to_owned(), line: 1, text, transaction: true, unless: Unless::Never }
    }
}

impl Found {
    fn imported(self, origin: &Origin, notes: &mut Vec<String>) -> Result<Imported> {
        let up = scripts::taken(&self.up, origin.kind, notes)?;
        let down = match &self.down {
            Some(down) => Some(scripts::taken(down, origin.kind, notes)?),
            None => None,
        };
        let down = match down {
            Some(down) if !down.empty => ImportedDown::Sql(down.text, down.transaction),
            _ if up.empty && self.why.is_none() => ImportedDown::Nothing,
            _ => ImportedDown::Irreversible(self.why.unwrap_or_else(|| WITHOUT_DOWN.to_owned())),
        };
        Ok(Imported {
            stamp: self.stamp,
            slug: self.slug,
            title: self.title,
            up: up.text,
            up_transaction: up.transaction,
            down,
            their_version: self.version,
        })
    }
}

fn refused(cause: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Refused { cause: cause.into(), hint: hint.into() }
}

/// Some names, for a sentence.
fn listed(names: &[String]) -> String {
    match names {
        [first @ .., _, _, _] if first.len() > 8 => {
            format!("{} and {} more", names[..8].join(", "), names.len() - 8)
        }
        _ => names.join(", "),
    }
}
