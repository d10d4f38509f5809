//! `backout status`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Status};

/// Show the migration under way: who is live, how far behind the other side is, what can be done
///
/// Example: backout status --json
#[derive(clap::Args)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        match project.status()? {
            Some(s) => Ok(Answer::new(&s, text(&s))),
            None => {
                let list = project.list()?;
                let pending = list.iter().filter(|m| !m.applied).count();
                let next = if pending > 0 { "\nnext: backout plan" } else { "" };
                let said = serde_json::json!({ "open": false, "pending": pending });
                Ok(Answer::new(&said, format!("no migration is under way; {pending} pending{next}\n")))
            }
        }
    }
}

/// The status in plain words.
pub fn text(s: &Status) -> String {
    let mut out = String::new();
    let _ =
        writeln!(out, "{}  {} {}  (run {})", s.source.phase.words(), s.source.migration, s.source.title, s.source.run);
    let _ = writeln!(out, "{}", show::wrap(&s.state, 0));
    let _ = writeln!(out, "source    {}{}", s.source_title, if s.live == "source" { "  live" } else { "" });
    let _ = writeln!(out, "target    {}{}", s.target_title, if s.live == "target" { "  live" } else { "" });
    if s.live == "nobody" {
        let _ = writeln!(out, "live      nobody: a hand-over was cut off; `backout resume` goes on");
    }
    if let Some(n) = s.lag {
        let seen = s
            .source
            .drained_at
            .as_deref()
            .filter(|_| s.live == "target")
            .map(|t| format!(", last seen {t}"))
            .unwrap_or_default();
        let _ = writeln!(out, "lag       {} change{}{seen}", show::number(n), if n == 1 { "" } else { "s" });
    }
    if let Some(t) = &s.source.cutover_at {
        let over = if s.window_over { " (over: a rollback needs --force)" } else { "" };
        let _ = writeln!(out, "cutover   {t}, window until {}{over}", s.source.window_ends.as_deref().unwrap_or("?"));
    }
    if s.source.carried > 0 {
        let _ = writeln!(out, "carried   {} so far", show::rows(s.source.carried));
    }
    for p in &s.parked {
        let _ = writeln!(out, "parked    {}", show::wrap(p, 10));
    }
    if let Some(e) = &s.source.last_error {
        let _ = writeln!(out, "failed    {}", show::wrap(e, 10));
    }
    for p in &s.problems {
        let _ = writeln!(out, "problem   {}", show::wrap(p, 10));
    }
    for (i, line) in s.next.lines().enumerate() {
        let _ = writeln!(out, "{}{line}", if i == 0 { "next:     " } else { "          " });
    }
    out
}
