//! SQL revisions: an up and a down that are written by hand, run in place, in the order of their versions.
//!
//! What makes them different here: the down is proven on a scratch copy before the up runs, frozen when it runs, and what an up
//! or a down destroys is kept and put back.

pub mod adopt;
pub mod catalog;
pub mod database;
pub mod file;
#[cfg(test)]
mod file_tests;
pub mod keep;
pub mod lint;
#[cfg(test)]
mod lint_tests;
mod look;
pub mod offline;
pub mod prove;
mod put_back;
pub mod run;
mod sample;
pub mod sql;
#[cfg(test)]
mod sql_tests;
pub mod taken;
mod trace;

use std::path::PathBuf;

use crate::plan::ConfigError;
use crate::store;

pub(crate) use crate::plan::order;

/// A revision as its file (or its pair of files) says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The digits its file's name begins with; what comes first is decided by their number. Usually 14 of them.
    pub stamp: String,
    /// What follows them in the file's name: `create_events`.
    pub slug: String,
    /// Its file, or the one with the up.
    pub path: PathBuf,
    /// The file with the down, where that is another one.
    pub down_path: Option<PathBuf>,
    /// The slug in words, or what `-- backout:title` says.
    pub title: String,
    /// Name of the store it runs in, by `-- backout:store`; else the project's default.
    pub store: Option<String>,
    /// The way up.
    pub up: Script,
    /// The way down.
    pub down: Down,
}

/// Statements to be run in order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Script {
    /// The statements.
    pub statements: Vec<Statement>,
    /// All in one transaction; otherwise each on its own (`transaction:false`).
    pub transaction: bool,
    /// As written between the directives, with line ends as `\n`.
    pub text: String,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its text, without the `;` at its end, comments within it as they are.
    pub sql: String,
    /// The line of the file on which it begins, from 1.
    pub line: usize,
    /// Lint codes that a comment before it silences, each with the reason given.
    pub silenced: Vec<(String, String)>,
}

/// How a revision is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// By these statements.
    Sql(Script),
    /// There is nothing to undo.
    Nothing,
    /// It cannot be, for this reason.
    Irreversible(String),
}

/// What can go wrong with a revision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The store it runs in.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A check says no.
    #[error("{cause}")]
    Refused {
        /// Why.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// A statement failed.
    #[error("{}:{line}: {cause}", shown(file))]
    Statement {
        /// Its file.
        file: PathBuf,
        /// The line on which the statement begins.
        line: usize,
        /// The statement's beginning.
        statement: String,
        /// What the database said.
        cause: String,
        /// It cannot run within a transaction.
        outside: bool,
    },
    /// Told to stop (Ctrl-C).
    #[error("stopped on request")]
    Stopped,
    /// A test made an effect of ours fail.
    #[error(transparent)]
    Gate(#[from] crate::gate::Refused),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// A file's path for people: below the present folder without its `./`.
pub(crate) fn shown(file: &std::path::Path) -> String {
    file.strip_prefix(".").unwrap_or(file).display().to_string()
}

/// What differs between a revision's file and what ran of it, as lines with `-` and `+`; `None` where nothing does.
pub(crate) fn edited(record: &database::Record, file: &Revision) -> Option<String> {
    if record.stamped {
        return None;
    }
    let down = |down: &database::FrozenDown| match down {
        database::FrozenDown::Sql { text, .. } => text.clone(),
        database::FrozenDown::Nothing => "nothing".to_owned(),
        database::FrozenDown::Irreversible(why) => format!("irreversible: {why}"),
    };
    let pairs =
        [("up", record.up.clone(), file.up.text.clone()), ("down", down(&record.down), down(&run::frozen(&file.down)))];
    let mut out = String::new();
    for (way, ran, written) in pairs {
        if ran.trim() == written.trim() {
            continue;
        }
        out.push_str(&format!("its {way}, as it ran (-) and as the file is now (+):\n"));
        for change in similar::TextDiff::from_lines(ran.trim(), written.trim()).iter_all_changes() {
            let sign = match change.tag() {
                similar::ChangeTag::Delete => "-",
                similar::ChangeTag::Insert => "+",
                similar::ChangeTag::Equal => continue,
            };
            out.push_str(&format!("  {sign} {}\n", change.value().trim_end()));
        }
    }
    (!out.is_empty()).then(|| out.trim_end().to_owned())
}
