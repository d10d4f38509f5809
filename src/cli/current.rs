//! `backout current`

use super::{Answer, Answered, Context};
use backout::migrate::Options;

/// Show the newest migration that is applied, and how many are pending
///
/// Example:
///   backout current
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let list = cx.project(Options::default())?.list()?;
        let current = list.iter().rev().find(|m| m.applied);
        let pending = list.iter().filter(|m| !m.applied).count();
        let text = match current {
            Some(m) => format!("{} {}  ({}; {pending} pending)\n", m.migration, m.title, m.state),
            None => format!("base: no migration is applied; {pending} pending\n"),
        };
        Ok(Answer::new(&serde_json::json!({ "current": current, "pending": pending }), text))
    }
}
