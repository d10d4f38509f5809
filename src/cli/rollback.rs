//! `backout rollback`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, RollbackOptions};

/// Take the soaking migration back, with every write made since
///
/// Stops the services, carries the last changes, hands the application back, compares both sides, and sets the target aside.
///
/// Examples:
///   backout rollback --dry-run
///   backout rollback
///   backout rollback --force        past the rollback window
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// How far back: -1 (the default), -N, a migration's stamp, or base
    #[arg(allow_hyphen_values = true, default_value = "-1", value_name = "-N|REV|base")]
    to: String,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Roll back although the window is over
    #[arg(long)]
    force: bool,
    /// Do not compare both sides afterwards
    #[arg(long)]
    no_verify: bool,
    /// Drop the target afterwards instead of setting it aside
    #[arg(long, conflicts_with = "keep_target")]
    clean_target: bool,
    /// Set the target aside even if backout.toml says to drop it
    #[arg(long)]
    keep_target: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let mut project = cx.project(Options::default())?;
        let verify = !self.no_verify && project.config.rollback.verify;
        project = project.with(Options { verify, ..Options::default() });
        if self.dry_run {
            let s = project.rollback_preview()?;
            let mut text = String::new();
            let _ = writeln!(text, "would roll back {} {}", s.source.migration, s.source.title);
            let _ = writeln!(text, "  from {} to {}", s.target_title, s.source_title);
            let _ = writeln!(
                text,
                "  stop {} service{}",
                project.config.services.len(),
                if project.config.services.len() == 1 { "" } else { "s" }
            );
            let _ = writeln!(
                text,
                "  carry {} change{} not seen yet ({} carried so far)",
                s.lag.unwrap_or(0),
                if s.lag == Some(1) { "" } else { "s" },
                s.source.carried
            );
            let _ = writeln!(
                text,
                "  undo {} switch{}, open the source, start the services",
                project.config.switches.len(),
                if project.config.switches.len() == 1 { "" } else { "es" }
            );
            let _ = writeln!(text, "  compare both sides: {}", if verify { "yes" } else { "no" });
            if s.window_over {
                let _ = writeln!(text, "  the window is over: needs --force");
            }
            return Ok(Answer::new(&s, text));
        }
        if !matches!(self.to.as_str(), "-1" | "base") && self.to.starts_with('-') {
            let refused = backout::migrate::Error::Refused {
                cause: format!("{} would take back more than one migration, and only the soaking one can be", self.to),
                hint: "a completed migration is taken back by a migration of its own that goes the other way".into(),
            };
            return Err(Box::new(backout::migrate::Failure::untouched(refused)));
        }
        let clean_target = if self.clean_target { Some(true) } else { self.keep_target.then_some(false) };
        let o = project.rollback(&RollbackOptions { force: self.force, clean_target })?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
