//! `backout repair`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, RepairOptions, Repaired};

/// Carry again what differs between both sides, if nearly everything agrees
///
/// Compares every row, and where at least 95 % of all rows agree, carries those
/// that differ from the live side to the other, batch by batch; then compares
/// again. Where fewer agree, something is wrong with the whole: nothing is changed,
/// and going back is proposed. Works when `ready` and while soaking, with the
/// application writing. Ends with 3 if anything differs in the end.
///
/// Examples:
///   backout repair --dry-run           which tables agree, and by how much
///   backout repair --batch-size 1000
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Rows carried in one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Only show what differs
    #[arg(long)]
    dry_run: bool,
    /// However few rows agree
    #[arg(long)]
    force: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let asked = RepairOptions { batch: self.batch_size as usize, dry_run: self.dry_run, force: self.force };
        let r = cx.project(Options::default())?.repair(&asked)?;
        let mut answer = Answer::new(&r, text(&r));
        let left = r.verified.as_ref().is_some_and(|v| !v.agrees());
        let differs = r.dry_run && r.tables.iter().any(|t| t.differing > 0);
        answer.exit = if left || differs { 3 } else { 0 };
        Ok(answer)
    }
}

fn text(r: &Repaired) -> String {
    let mut out = String::new();
    let widest = r.tables.iter().map(|t| t.table.chars().count()).max().unwrap_or(0).min(34);
    let done = if r.dry_run { "" } else { "repaired" };
    let _ = writeln!(out, "{:widest$}  {:>13}  {:>11}  {:>8}  {done:>8}", "", "rows", "differ", "agree");
    for t in &r.tables {
        let done = if r.dry_run { String::new() } else { show::number(t.repaired) };
        // rounded down, so that it says 100 only where all do
        let agree = (t.agreement * 100.0).floor() / 100.0;
        let (rows, differ) = (show::number(t.rows), show::number(t.differing));
        let _ = writeln!(out, "{:widest$}  {rows:>13}  {differ:>11}  {agree:>6.2} %  {done:>8}", t.table);
    }
    out.push_str(&show::parked(&r.parked));
    if let Some(v) = &r.verified {
        out.push_str(&show::verified(v));
    }
    let differ: u64 = r.tables.iter().map(|t| t.differing).sum();
    let result = match &r.verified {
        Some(v) if v.agrees() => "the two sides agree now",
        Some(_) => "the two sides still do not agree",
        None if differ == 0 => "the two sides agree; there was nothing to repair",
        None => "nothing was changed; `backout repair` carries these rows again",
    };
    let _ = writeln!(out, "result    {result}");
    let _ = writeln!(out, "took      {}", show::seconds(r.seconds));
    out
}
