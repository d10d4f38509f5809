//! `backout salvage`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;
use backout::store::Phase;

/// Carry what an emergency rollback left in the target, once it is back
///
/// Seals the target, and writes to the source what only the target changed since
/// its last drain, while the application runs on the source. Rows that both sides
/// changed stay as the source has them: they are listed, and exported to a file in
/// the project's folder. Then the run is closed and the target set aside.
///
/// --forget ends the run with what the source has, and asks for the project's name.
///
/// Examples:
///   backout salvage
///   backout salvage --forget --confirm my-bot     the target will not come back
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Give up what was not carried
    #[arg(long)]
    forget: bool,
    /// Nobody writes the JSON file now; there is no [[service]] to stop
    #[arg(long)]
    writers_stopped: bool,
    /// Do not compare both sides afterwards
    #[arg(long)]
    no_verify: bool,
    /// The project's name, where it is asked for
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let mut project = cx.project(Options::default())?;
        let verify = !self.no_verify && project.config.rollback.verify;
        project = project.with(Options { verify, writers_stopped: self.writers_stopped, ..Options::default() });
        if self.forget && project.phase()? == Some(Phase::Outstanding) {
            let what = "this gives up what was written to the target after its last drain";
            super::confirm(&project.config.name, self.confirm.as_deref(), what, "salvage --forget")?;
        }
        let o = project.salvage(self.forget)?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
