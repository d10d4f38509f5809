//! `backout stamp`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Record SQL revisions as applied without running them
///
/// For a database that has the schema already. Everything up to the one named is
/// recorded, with its down frozen as its file has it; records of later ones go. `base`
/// removes all. Nothing else is changed, and nothing is proven.
///
/// Examples:
///   backout stamp head
///   backout stamp 20250301
///   backout stamp base
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// `head`, `base`, or a revision's stamp, its beginning, or its name
    #[arg(value_name = "head|base|REV")]
    to: String,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let o = cx.project(Options::default())?.stamp(&self.to)?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
