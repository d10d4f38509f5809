//! `backout current`

use super::{Answer, Answered, Context};
use backout::migrate::Options;

/// Show the newest migration that is applied
///
/// Example: backout current
#[derive(clap::Args)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let list = cx.project(Options::default())?.list()?;
        let current = list.iter().rev().find(|m| m.applied);
        let text = match current {
            Some(m) => format!("{} {}  ({})\n", m.migration, m.title, m.state),
            None => "base: no migration is applied\n".to_owned(),
        };
        Ok(Answer::new(
            &serde_json::json!({ "current": current, "pending": list.iter().filter(|m| !m.applied).count() }),
            text,
        ))
    }
}
