//! `backout up`

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Until, UpOptions};

/// Move forward: copy, follow, compare everything, then hand the application over
///
/// The application may go on writing all the while. After the cutover the source is
/// kept whole and can take every later write back: `backout rollback`. If it is cut
/// off anywhere, `backout resume` goes on.
///
/// Examples:
///   backout up
///   backout up --until ready        copy and compare now, cut over later
///   backout up --dry-run            the plan, with its hash
///   backout up --plan 1f0c44d20a7e  hold the run to the plan you saw
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// A migration's stamp, `head` or `+1`; the next pending one if left out
    target: Option<String>,
    /// Stop before the cutover; `backout cutover` goes on
    #[arg(long, value_name = "PHASE", value_parser = ["ready"])]
    until: Option<String>,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    /// Refuse if the plan is not the one with this hash (at least 8 digits)
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    /// Rows copied in one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 20_000)]
    batch_size: u32,
    /// Do not compare both sides before the cutover
    #[arg(long)]
    no_verify: bool,
    /// I have stopped everything that writes the JSON file
    #[arg(long)]
    writers_stopped: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let options = Options {
            batch: self.batch_size as usize,
            verify: !self.no_verify,
            writers_stopped: self.writers_stopped,
            ..Options::default()
        };
        let project = cx.project(options)?;
        if self.dry_run {
            return super::plan::plan(&project, self.target.as_deref());
        }
        for unused in &project.config.unused {
            eprintln!("note: {unused} in backout.toml is not used by this version");
        }
        let asked = UpOptions {
            revision: self.target.clone(),
            until: if self.until.is_some() { Until::Ready } else { Until::Soaking },
            plan: self.plan.clone(),
        };
        let o = project.up(&asked)?;
        let mut answer = Answer::new(&o, show::outcome(&o));
        answer.json["unused"] = serde_json::json!(project.config.unused);
        Ok(answer)
    }
}
