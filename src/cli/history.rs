//! `backout history`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// List every migration and where it stands, and every run that ended
///
/// A star marks what is applied.
///
/// Examples:
///   backout history
///   backout history -v              when, how it was proven, what was edited since
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// With times, proofs, and how files differ from what ran
    #[arg(short, long)]
    verbose: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let (list, ended) = (project.list()?, project.history()?);
        let mut text = String::new();
        for m in &list {
            let mark = if m.applied { "*" } else { " " };
            let _ =
                writeln!(text, "{mark} {}", show::wrap(&format!("{}  {:11}  {}", m.migration, m.state, m.title), 4));
            if m.edited.is_some() && !self.verbose {
                let _ = writeln!(text, "    its file was edited after it ran: `backout history -v` shows how");
            }
            if self.verbose {
                for line in [Some(&m.note), m.edited.as_ref()].into_iter().flatten().filter(|line| !line.is_empty()) {
                    text.push_str(&show::indented(line, "    ", 4));
                }
            }
        }
        if list.is_empty() {
            let _ = writeln!(text, "no migrations in {}", project.config.migrations.display());
        }
        if !ended.lines.is_empty() {
            let _ = writeln!(text, "\nended, newest first:");
        }
        // a run ended in both of its stores, and each notes its own side of it
        let mut runs: Vec<&str> = Vec::new();
        for (_, l) in ended.lines.iter().rev().filter(|(_, l)| !l.run.is_empty()) {
            if !runs.contains(&l.run.as_str()) {
                runs.push(&l.run);
            }
        }
        for run in runs {
            let mine: Vec<_> = ended.lines.iter().map(|(_, l)| l).filter(|l| l.run == run).collect();
            let Some(last) = mine.last() else { continue };
            let _ = writeln!(text, "  {}  {:12} {}  (run {run})", last.ended_at, last.outcome, last.migration);
            for note in mine.iter().map(|l| &l.note).filter(|n| !n.is_empty()) {
                let _ = writeln!(text, "    {}", show::wrap(note, 4));
            }
        }
        Ok(Answer::new(&serde_json::json!({ "migrations": list, "ended": ended.lines }), text))
    }
}
