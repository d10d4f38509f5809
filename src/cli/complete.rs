//! `backout complete`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;
use backout::store::Phase;

/// Close the rollback window for good; the one point of no return
///
/// Asks for the project's name. The source stays where it is, sealed against
/// writes, unless --delete-source is given. After this nothing can be rolled back.
///
/// With nothing soaking it lets go what SQL revisions keep of what they took away
/// (dropped tables, columns and values): their downs run as before, but cannot
/// bring that back, so that `backout rollback` asks for --force.
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
        if open.is_none() {
            let kept = project.kept()?;
            if !kept.is_empty() {
                let list: Vec<String> = kept.iter().map(|k| format!("{} ({})", k.what, show::rows(k.rows))).collect();
                let what = format!("complete lets go what revisions keep: {}", list.join(", "));
                super::confirm(&project.config.name, self.confirm.as_deref(), &what, "complete")?;
            }
        }
        if let Some(s) = open.filter(|s| s.source.phase == Phase::Soaking) {
            let drops = if self.delete_source { " and drops the source's tables" } else { "" };
            let what = format!("complete gives up the way back of {} {}{drops}", s.source.migration, s.source.title);
            super::confirm(&project.config.name, self.confirm.as_deref(), &what, "complete")?;
        }
        let o = project.complete(self.delete_source)?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
