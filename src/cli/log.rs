//! `backout log`

use std::fmt::Write;

use super::{Answer, Answered, Context};
use backout::migrate::Options;

/// Show what happened in this project, step by step
///
/// Example: backout log -n 50
#[derive(clap::Args)]
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
            let mark = if e.ok { "" } else { "FAILED " };
            let _ = writeln!(text, "{}  {}  {:14} {mark}{} ({} ms)", e.at, e.run, e.phase, e.detail, e.ms);
        }
        if events.is_empty() {
            text.push_str("nothing happened here yet\n");
        }
        Ok(Answer::new(&serde_json::json!({ "events": events[from..] }), text))
    }
}
