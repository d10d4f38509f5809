//! `backout extract`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::{ExtractOptions, Extracted, Options};

/// Make the source's form anew out of the target, when the source is gone
///
/// For when nothing is left to roll back to: the file was deleted, the migration
/// was completed. The target's rows of one moment are mapped as a rollback would,
/// into a file or tables that are not there yet; then they are read again and
/// compared. The target is only read, and the application is left alone. Rows that
/// do not map are listed and exported; it ends with 3 then. Values come back exactly;
/// how a lost JSON file spelled them (10.50, order, indentation) went with it.
///
/// Examples:
///   backout extract --to json:reminders.json
///   backout extract 20250301090000 --to sqlite:screenly.db
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// A migration's stamp; the newest one that its target remembers if left out
    migration: Option<String>,
    /// json:FILE, sqlite:FILE, postgres://…, or a store's name in backout.toml
    #[arg(long, value_name = "STORE")]
    to: String,
    /// Rows read and written at once
    #[arg(long, value_name = "ROWS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let options = Options { batch: self.batch_size as usize, ..Options::default() };
        let asked = ExtractOptions { to: self.to.clone(), migration: self.migration.clone() };
        let e = cx.project(options)?.extract(&asked)?;
        let mut answer = Answer::new(&e, text(&e));
        answer.exit = if e.left_out.is_empty() { 0 } else { 3 };
        Ok(answer)
    }
}

fn text(e: &Extracted) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "extracted {}", show::wrap(&format!("{} {}", e.migration, e.title), 10));
    let _ = writeln!(out, "from      {}", e.from);
    let _ = writeln!(out, "to        {}", e.to);
    for (table, n) in &e.rows {
        let _ = writeln!(
            out,
            "rows      {}",
            show::wrap(&format!("{} in {table}, read back and the same", show::rows(*n)), 10)
        );
    }
    for why in e.left_out.iter().take(50) {
        let _ = writeln!(out, "left out  {}", show::wrap(why, 10));
    }
    if e.left_out.len() > 50 {
        let _ = writeln!(out, "  and {} more", show::number(e.left_out.len() as u64 - 50));
    }
    if let Some(file) = &e.exported {
        let _ = writeln!(out, "exported  {}", show::wrap(&format!("the rows left out are in {file}"), 10));
    }
    let _ = writeln!(out, "{}", show::wrap(&e.state, 0));
    let _ = writeln!(out, "took      {}", show::seconds(e.seconds));
    out
}
