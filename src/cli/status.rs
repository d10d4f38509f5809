//! `backout status`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Status};
use backout::store::Phase;

/// Show where the migration under way stands, and which commands lead on
///
/// Who is live, how many changes wait and when the other side had last seen all,
/// how large the change log is, until when a rollback is meant to be possible, what
/// could not be carried, what went wrong last. Read from both stores; changes
/// nothing. It warns if nothing follows the target.
///
/// Examples:
///   backout status
///   backout status --json | jq .lag
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        if let Some(s) = project.status()? {
            let mut answer = Answer::new(&s, text(&s));
            answer.json["open"] = true.into();
            return Ok(answer);
        }
        let list = project.list()?;
        if let Some(m) = list.iter().find(|m| m.state.starts_with("half-way") || m.state == "failed") {
            let next = match m.state.as_str() {
                "failed" => "backout up --acknowledge   once the cause is mended",
                _ => "backout resume     goes on\nbackout rollback   takes it back",
            };
            let mut text = format!("{}  {} {}\n", m.state, m.migration, m.title);
            text.push_str(&show::indented(&m.note, "          ", 10));
            text.push_str(&show::indented(next, "next:     ", 10));
            return Ok(Answer::new(&serde_json::json!({ "open": false, "stopped": m }), text));
        }
        let pending = list.iter().filter(|m| !m.applied).count();
        let next = if pending > 0 { "backout plan" } else { "backout history" };
        let text = format!("no migration is under way; {pending} pending\nnext:     {next}\n");
        Ok(Answer::new(&serde_json::json!({ "open": false, "pending": pending }), text))
    }
}

/// The status in plain words.
pub fn text(s: &Status) -> String {
    let mut out = String::new();
    let _ =
        writeln!(out, "{}  {} {}  (run {})", s.source.phase.words(), s.source.migration, s.source.title, s.source.run);
    let _ = writeln!(out, "{}", show::wrap(&s.state, 0));
    let (source, target) = if show::is_in_place(s) {
        let _ = writeln!(out, "in        {}", s.source_title);
        ("the old tables", "the new tables")
    } else {
        (s.source_title.as_str(), s.target_title.as_str())
    };
    let _ = writeln!(out, "source    {source}{}", if s.live == "source" { "  live" } else { "" });
    let _ = writeln!(out, "target    {target}{}", if s.live == "target" { "  live" } else { "" });
    if s.live == "nobody" {
        let _ = writeln!(out, "live      nobody: a hand-over was cut off; `backout resume` goes on");
    }
    if let Some(n) = s.lag {
        let other = if s.live == "target" { "source" } else { "target" };
        let seen = s.followed_at.as_deref().map_or("never, so far".to_owned(), |t| t.to_owned());
        let wait = if n == 1 { "waits" } else { "wait" };
        let text = format!("{} {wait}; the {other} had seen all: {seen}", show::counted(n as usize, "change"));
        let _ = writeln!(out, "lag       {}", show::wrap(&text, 10));
    }
    if let Some(l) = s.log.filter(|l| l.bytes > 0) {
        let entries = if l.rows == 1 { "1 entry".into() } else { format!("{} entries", show::number(l.rows)) };
        let _ = writeln!(out, "log       {entries}, {} in the {}", show::size(l.bytes), s.live);
    }
    if s.unfollowed {
        let text = "nothing follows the target: run `backout shadow`, so that a rollback stays short and little is lost \
                    with the target";
        let _ = writeln!(out, "warning   {}", show::wrap(text, 10));
    }
    if let Some(t) = &s.source.cutover_at {
        let _ = writeln!(out, "cutover   {t}");
        let _ = writeln!(out, "window    {}", window(s));
    }
    if s.source.carried > 0 {
        let _ = writeln!(out, "carried   {} so far", show::rows(s.source.carried));
    }
    if let Some(p) = &s.source.parting {
        let _ = writeln!(out, "carried   what the target had acknowledged at {}, by its clock", p.upto);
        if s.source.phase == Phase::Outstanding && !p.whole && !p.untrusted {
            let sealed = if p.sealed { "which is sealed" } else { "which was not reached and may still take writes" };
            let _ = writeln!(
                out,
                "missing   {}",
                show::wrap(&format!("what was written later to the target, {sealed}"), 10)
            );
        }
    }
    out.push_str(&show::parked(&s.parked));
    if let Some(e) = &s.source.last_error {
        let _ = writeln!(out, "failed    {}", show::wrap(e, 10));
    }
    for p in &s.problems {
        let _ = writeln!(out, "problem   {}", show::wrap(p, 10));
    }
    out.push_str(&show::indented(&s.next, "next:     ", 10));
    out
}

/// Until when a rollback is meant to be possible.
fn window(s: &Status) -> String {
    let Some(ends) = &s.source.window_ends else { return "open".into() };
    if s.window_over {
        return format!("ended {ends}, over: a rollback needs --force");
    }
    let left = ends.parse::<jiff::Timestamp>().map_or(0, |end| end.as_second() - jiff::Timestamp::now().as_second());
    format!("open until {ends} ({} h {} min left)", left / 3600, left % 3600 / 60)
}
