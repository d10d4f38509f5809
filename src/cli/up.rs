//! `backout up`

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Until, UpOptions};

/// Move forward: run SQL revisions, move data, hand the application over
///
/// A SQL revision runs in a transaction with its record, once its way down has been
/// proven on a scratch copy. A migration that moves data copies, follows, compares
/// everything, then hands the application over, which may go on writing all the
/// while; its source is kept whole and can take every later write back.
/// `backout rollback` takes either back. If it is cut off, `backout resume` goes on.
///
/// Examples:
///   backout up                      everything that is pending
///   backout up +1                   the next one
///   backout up 20250301             up to the one whose stamp begins so
///   backout up --until ready        copy and compare now, cut over later
///   backout up --dry-run            the plan, with its hash
///   backout up --plan 1f0c44d20a7e  hold the run to the plan you saw
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// How far: `head`, `+N`, or a migration's stamp, its beginning, or its name
    #[arg(value_name = "head|+N|REV")]
    target: Option<String>,
    /// Stop before the cutover; `backout cutover` goes on
    #[arg(long, value_name = "PHASE", value_parser = ["ready"])]
    until: Option<String>,
    /// Print the SQL of FROM:TO (default base:head) instead of running it
    #[arg(long, value_name = "FROM:TO", num_args = 0..=1, default_missing_value = "base:head")]
    sql: Option<String>,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    /// Refuse if the plan is not the one with this hash (at least 8 digits)
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    /// Rows copied in one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 20_000)]
    batch_size: u32,
    /// Do not compare both sides before the cutover, nor prove a revision's way down
    #[arg(long)]
    no_verify: bool,
    /// What failed, or was taken back by itself, has been seen to: go on
    #[arg(long)]
    acknowledge: bool,
    /// Run a revision although its down was shown to lose something
    #[arg(long, value_name = "REASON")]
    accept_loss: Option<String>,
    /// Run a revision although a later one is applied
    #[arg(long)]
    out_of_order: bool,
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
        if let Some(range) = &self.sql {
            let script = project.script(range, false)?;
            return Ok(Answer::new(&serde_json::json!({ "sql": script }), script));
        }
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
            acknowledge: self.acknowledge,
            accept_loss: self.accept_loss.clone(),
            out_of_order: self.out_of_order,
        };
        let o = project.up(&asked)?;
        let mut answer = Answer::new(&o, show::outcome(&o));
        answer.json["unused"] = serde_json::json!(project.config.unused);
        Ok(answer)
    }
}
