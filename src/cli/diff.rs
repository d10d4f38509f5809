//! `backout diff`

use std::path::PathBuf;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Generated, Options};

/// Show what leads from the present schema to the one that is wanted
///
/// The wanted one is a script that builds it in an empty database: schema.sql, or
/// --schema FILE. Both are built and read back, so it does not matter how a
/// statement is spelled. Nothing is changed or written; `backout new NAME
/// --autogenerate` writes it as a revision. Ends with 3 if anything differs.
///
/// Examples:
///   backout diff
///   backout diff --schema db/schema.sql --rename users.name=users.full_name
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    #[command(flatten)]
    wanted: Wanted,
}

/// The schema that is wanted.
#[derive(clap::Args)]
pub struct Wanted {
    /// The script that builds the wanted schema [default: schema.sql]
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// The store, if not the project's default
    #[arg(long, value_name = "STORE")]
    pub store: Option<String>,
    /// The same under another name: a=b, or a.x=b.y for a column; may be repeated
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
}

impl Wanted {
    /// The file, below the project's folder unless it is given.
    pub fn file(&self, cx: &Context) -> PathBuf {
        self.schema.clone().unwrap_or_else(|| cx.dir.join("schema.sql"))
    }
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let found = project.difference(&self.wanted.file(cx), self.wanted.store.as_deref(), &self.wanted.rename)?;
        let answer = Answer::new(&found, text(&found));
        let same = found.differences.is_empty() && found.not_generated.is_empty();
        Ok(Answer { exit: if same { 0 } else { 3 }, ..answer })
    }
}

fn text(found: &Generated) -> String {
    if found.differences.is_empty() && found.not_generated.is_empty() {
        return "no difference\n".into();
    }
    let mut out = String::new();
    for difference in &found.differences {
        out.push_str(&format!("{difference}\n"));
    }
    for (way, statements) in [("up", &found.up), ("down", &found.down)] {
        out.push_str(&format!("\n-- migrate:{way}\n"));
        statements.iter().for_each(|statement| out.push_str(&format!("{statement};\n")));
    }
    out.push_str(&notes(found));
    out
}

/// What a person has to see to.
pub fn notes(found: &Generated) -> String {
    let mut out = String::new();
    for why in &found.not_generated {
        out.push_str(&show::indented(why, "not generated  ", 15));
    }
    for rename in &found.renames {
        let words = format!("this looks like one thing under another name: --rename {rename} keeps its rows");
        out.push_str(&show::indented(&words, "renamed?  ", 10));
    }
    out
}
