//! `backout import`

use std::fmt::Write;
use std::path::PathBuf;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Error, Failure, Options};
use backout::plan::Kind;
use backout::revision::adopt::{self, Origin, Tool};

/// Take over another tool's migrations
///
/// Its folder and its history in the database are only read: each of its migrations
/// is written as a revision of ours, and what is applied is recorded as applied. A
/// migration without a way down becomes `irreversible`. Without a backout.toml one
/// is written, with the database that alembic.ini or DATABASE_URL names.
///
/// Tools: alembic, dbmate, sqlx, golang-migrate, goose, flyway, refinery, diesel, yoyo
///
/// Examples:
///   backout import --from alembic
///   backout import --from dbmate --folder db/migrations
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// The tool
    #[arg(long, value_name = "TOOL", value_parser = tool)]
    from: Tool,
    /// Its folder of migrations (of Alembic: where alembic.ini is) [default: the tool's usual one]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The store that its history is in, if not the project's default
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// The table of its history, if not the usual one
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// The Python that has Alembic
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

fn tool(word: &str) -> Result<Tool, String> {
    let known = || Tool::ALL.map(Tool::word).join(", ");
    Tool::named(word).ok_or_else(|| format!("one of {}", known()))
}

/// Where a tool's migrations usually are.
fn usual(tool: Tool) -> &'static str {
    match tool {
        Tool::Alembic => ".",
        Tool::Dbmate => "db/migrations",
        Tool::Flyway => "sql",
        _ => "migrations",
    }
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let folder = cx.dir.join(self.folder.clone().unwrap_or_else(|| usual(self.from).into()));
        let mut text = String::new();
        if !cx.dir.join("backout.toml").exists() {
            self.configure(cx, &folder)?;
            text.push_str("wrote     backout.toml\n");
        }
        let project = cx.project(Options::default())?;
        let origin = Origin {
            table: self.table.clone(),
            python: self.python.clone(),
            environment: std::env::vars_os().collect(),
            ..Origin::of(self.from, &folder, Kind::Sqlite)
        };
        let done = project.import(&origin, self.store.as_deref())?;
        let _ = writeln!(
            text,
            "read      {} of {}, {} of them without a way down",
            show::counted(done.revisions, "migration"),
            self.from.name(),
            done.irreversible
        );
        let folder = &project.config.migrations;
        let folder = folder.strip_prefix(&project.config.folder).unwrap_or(folder);
        let _ = writeln!(text, "wrote     {} in {}", show::counted(done.wrote.len(), "revision"), folder.display());
        let _ = writeln!(text, "recorded  {} as applied", show::counted(done.stamped.len(), "revision"));
        done.notes.iter().for_each(|note| text.push_str(&show::indented(note, "note      ", 10)));
        text.push_str("next:     backout current --check, then backout up\n");
        Ok(Answer::new(&done, text))
    }

    /// Writes a backout.toml with the database that the tool's own settings name.
    fn configure(&self, cx: &Context, folder: &std::path::Path) -> Result<(), Box<Failure>> {
        let refused =
            |cause: String, hint: &str| Box::new(Failure::untouched(Error::Refused { cause, hint: hint.into() }));
        let lookup = |name: &str| std::env::var(name).ok();
        let url = adopt::store_of(self.from, folder, &lookup).map_err(|e| Box::new(Failure::untouched(e.into())))?;
        let hint = "write it: [stores] main = \"sqlite:FILE\" or \"postgres://…\"; or set DATABASE_URL";
        let url = url
            .ok_or_else(|| refused("there is no backout.toml, and nothing says where the database is".into(), hint))?;
        let secret = url
            .split_once("://")
            .is_some_and(|(_, rest)| rest.split('@').next().is_some_and(|u| u.contains(':')) && rest.contains('@'));
        let url = match (secret, lookup("DATABASE_URL")) {
            (false, _) => url,
            // passwords stay where they are
            (true, Some(_)) => "${DATABASE_URL}".to_owned(),
            (true, None) => {
                return Err(refused(
                    "the database's URL has a password, which does not belong into backout.toml".into(),
                    "put it into .env as DATABASE_URL=…, or export it, then run this again",
                ));
            }
        };
        let toml = format!("[stores]\nmain = {}\n", serde_json::json!(url));
        let path = cx.dir.join("backout.toml");
        std::fs::write(&path, toml)
            .map_err(|e| refused(format!("cannot write {}: {e}", path.display()), "look at the folder's permissions"))
    }
}
