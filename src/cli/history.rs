//! `backout history`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// List every migration and where it stands, and every run that ended
///
/// Example: backout history
#[derive(clap::Args)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let (list, ended) = (project.list()?, project.history()?);
        let mut text = String::new();
        for m in &list {
            let mark = if m.applied { "*" } else { " " };
            let _ = writeln!(text, "{mark} {}  {:12} {}", m.migration, m.state, m.title);
        }
        if list.is_empty() {
            let _ = writeln!(text, "no migrations in {}", project.config.migrations.display());
        }
        // both stores of a run tell the same story; the source's line knows what was carried
        let mut seen = std::collections::HashSet::new();
        if !ended.lines.is_empty() {
            let _ = writeln!(text, "\nended:");
        }
        for (_, l) in ended.lines.iter().rev() {
            if seen.insert(l.run.clone()) {
                let _ = writeln!(
                    text,
                    "  {}",
                    show::wrap(&format!("{}  {} {}: {} ({})", l.ended_at, l.outcome, l.migration, l.note, l.run), 4)
                );
            }
        }
        Ok(Answer::new(&serde_json::json!({ "migrations": list, "ended": ended.lines }), text))
    }
}
