//! `backout complete`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;
use backout::store::Phase;

/// Close the rollback window for good; the one point of no return
///
/// Asks for the project's name. The source stays where it is, sealed against
/// writes, unless --delete-source is given. After this nothing can be rolled back.
///
/// Examples:
///   backout complete
///   backout complete --confirm my-bot      in a script: no question
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// The project's name, so that no question is asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Drop the source's tables (a JSON file always stays)
    #[arg(long)]
    delete_source: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let open = project.status()?;
        if let Some(s) = open.filter(|s| s.source.phase == Phase::Soaking) {
            let drops = if self.delete_source { " and drops the source's tables" } else { "" };
            let what = format!("complete gives up the way back of {} {}{drops}", s.source.migration, s.source.title);
            super::confirm(&project.config.name, self.confirm.as_deref(), &what, "complete")?;
        }
        let o = project.complete(self.delete_source)?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
