//! `backout log`

use super::{Answer, Answered, Context, show, terminal};
use backout::migrate::Options;

/// Show what happened in this project, step by step, with how long it took
///
/// Each line has the time, the run, the step, its duration and its outcome. It is
/// read from .backout/, which is for people: what is true stands in the stores.
///
/// Examples:
///   backout log
///   backout log -n 50
///   backout log | grep FAILED
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let events = cx.project(Options::default())?.log()?;
        let from = self.lines.map_or(0, |n| events.len().saturating_sub(n));
        let mut text = String::new();
        for e in &events[from..] {
            let took = show::seconds(e.ms as f64 / 1000.0);
            let mark = if e.ok { "" } else { "FAILED: " };
            // the next line says which step came next; where the run came to rest is worth a word
            let goes_on = ["→ backfilling", "→ catching up", "→ verifying", "→ cutting over", "→ rolling back"];
            let detail = if goes_on.contains(&e.detail.as_str()) { "" } else { &e.detail };
            let step = format!("{}  {}  {:13} {took:>9}  {mark}{detail}", e.at, e.run, terminal::doing(&e.phase));
            let line = step.trim_end();
            text.push_str(&show::wrap(line, 4));
            text.push('\n');
        }
        if events.is_empty() {
            text.push_str("nothing happened here yet\n");
        }
        Ok(Answer::new(&serde_json::json!({ "events": events[from..] }), text))
    }
}
