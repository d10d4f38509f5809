//! `backout current`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Show the newest migration that is applied, and how many are pending
///
/// With --check it ends with 3 if anything is pending, half-way or failed, if the
/// file of an applied revision was edited or is missing, or if the schema is not
/// what the history made of it.
///
/// Examples:
///   backout current
///   backout current --check         in CI, or before a deployment
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// End with 3 unless everything is applied and as it was applied
    #[arg(long)]
    check: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let list = project.list()?;
        let current = list.iter().rev().find(|m| m.applied);
        let pending = list.iter().filter(|m| !m.applied).count();
        let mut text = match current {
            Some(m) => format!("{} {}  ({}; {pending} pending)\n", m.migration, m.title, m.state),
            None => format!("base: no migration is applied; {pending} pending\n"),
        };
        let mut json = serde_json::json!({ "current": current, "pending": pending });
        if !self.check {
            return Ok(Answer::new(&json, text));
        }
        let mut findings: Vec<String> = Vec::new();
        for m in &list {
            let name = format!("{}_{}", m.migration, m.slug);
            match m.state.as_str() {
                "applied" | "stamped" | "soaking" | "completed" => {}
                state => findings.push(format!("{name} is {state}")),
            }
            if let Some(diff) = &m.edited {
                findings.push(format!("{name} was edited after it ran:\n{diff}"));
            }
        }
        findings.extend(project.drift()?);
        for finding in &findings {
            let _ = write!(text, "{}", show::indented(finding, "differs   ", 10));
        }
        let unseen = project.not_compared()?;
        for store in &unseen {
            let said = format!(
                "the schema of {store} with its history: a migration moves its tables, or changes them in place"
            );
            let _ = write!(text, "{}", show::indented(&said, "not seen  ", 10));
        }
        if findings.is_empty() {
            text.push_str("everything is applied, and as it was applied\n");
        }
        json["findings"] = serde_json::json!(findings);
        json["not_compared"] = serde_json::json!(unseen);
        let answer = Answer::new(&json, text);
        Ok(Answer { exit: if findings.is_empty() { 0 } else { 3 }, ..answer })
    }
}
