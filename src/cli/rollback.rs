//! `backout rollback`

use std::time::Duration;

use backout::plan::duration;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Project, RollbackOptions, Status};

/// Take back what is newest: SQL revisions, or the soaking migration
///
/// A SQL revision goes back by the down that was frozen when it ran, whatever the
/// files say now. The whole way is checked before its first step.
///
/// For a migration that moved data it stops the services, carries the last changes
/// to the source, switches the configuration back, starts the services on the
/// source, compares both sides, and sets the target aside: every write is kept.
/// If it is cut off, `backout resume` goes on.
///
/// It asks for the project's name only where it would drop tables that hold rows
/// (--clean-target, or `base`).
///
/// Where the target is gone or does not answer, --emergency goes back without it:
/// what was carried until the last drain is there, and the rest comes with
/// `backout salvage` once the target is back. Where its writes are not to be
/// trusted, --until or --discard take them out again; what is left out goes to a
/// file in the project's folder.
///
/// Examples:
///   backout rollback --dry-run      what would be carried, stopped and switched
///   backout rollback                take the newest one back
///   backout rollback -3             the newest three
///   backout rollback 20250301       down to the one whose stamp begins so
///   backout rollback --force        past the rollback window
///   backout rollback --emergency    the target cannot be reached
///   backout rollback --until 2025-03-01T09:30:00Z
///   backout rollback --until 20m    without what was written in the last 20 min
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// How far: -1, -N, `base`, or the migration that shall be the newest then
    #[arg(allow_hyphen_values = true, default_value = "-1", value_name = "-N|REV|base", value_parser = goal)]
    to: String,
    /// Take an edited revision back by the down that was frozen when it ran
    #[arg(long)]
    frozen: bool,
    /// Print the SQL that takes FROM back down to TO (default head:base)
    #[arg(long, value_name = "FROM:TO", num_args = 0..=1, default_missing_value = "head:base")]
    sql: Option<String>,
    /// Only show what would be done
    #[arg(long, conflicts_with_all = ["emergency", "until", "discard"])]
    dry_run: bool,
    /// Roll back although the window is over
    #[arg(long)]
    force: bool,
    /// Do not compare both sides afterwards
    #[arg(long)]
    no_verify: bool,
    /// Drop the target afterwards instead of setting it aside
    #[arg(long, conflicts_with_all = ["keep_target", "emergency"])]
    clean_target: bool,
    /// Set the target aside even if backout.toml says to drop it
    #[arg(long)]
    keep_target: bool,
    /// Do without the target if it does not answer at once; asks nothing
    #[arg(long)]
    emergency: bool,
    /// Take out again what was written after this moment (RFC 3339, or 20m ago)
    #[arg(long, value_name = "TIME", conflicts_with = "emergency", value_parser = moment)]
    until: Option<jiff::Timestamp>,
    /// Take out again all that was written since the cutover
    #[arg(long, conflicts_with_all = ["emergency", "until"])]
    discard: bool,
    /// Call it off if the source is not open by then [default: 5m, or backout.toml]
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// The project's name, where it is asked for
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

fn goal(text: &str) -> Result<String, String> {
    match text.strip_prefix('-').map(str::parse::<u32>) {
        None | Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("give -1, -2, …, `base`, or a migration's stamp".into()),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "write 90s, 5m or 1h30m".into())
}

fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = duration(text).and_then(|d| jiff::Timestamp::now().checked_sub(d).ok());
    ago.ok_or_else(|| "write a time such as 2025-03-01T09:30:00Z, or 20m for 20 minutes ago".into())
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let mut project = cx.project(Options::default())?;
        if let Some(range) = &self.sql {
            let script = project.script(range, true)?;
            return Ok(Answer::new(&serde_json::json!({ "sql": script }), script));
        }
        let verify = !self.no_verify && project.config.rollback.verify;
        project = project.with(Options { verify, ..Options::default() });
        let clean_target = if self.clean_target { Some(true) } else { self.keep_target.then_some(false) };
        let cleans = clean_target.unwrap_or(project.config.rollback.clean_target);
        if self.dry_run {
            let asked =
                RollbackOptions { to: Some(self.to.clone()), frozen: self.frozen, ..RollbackOptions::default() };
            let steps = project.steps_down(&asked)?;
            if !steps.is_empty() {
                let text = format!("{}next:     backout rollback {}\n", show::steps(&steps), self.to);
                return Ok(Answer::new(&serde_json::json!({ "steps": steps }), text));
            }
            let s = project.rollback_preview()?;
            let text = preview(&project, &s, verify, cleans);
            return Ok(Answer::new(&s, text));
        }
        // what backout.toml says was thought over; what is typed now is asked for
        if cleans && (self.clean_target || self.to == "base") {
            let drops = project.would_drop()?;
            if !drops.is_empty() {
                let list: Vec<String> = drops.iter().map(|(t, n)| format!("{t} ({})", show::rows(*n))).collect();
                let what = format!("this rollback drops {}", list.join(", "));
                let command = if self.to == "base" { "rollback base" } else { "rollback --clean-target" };
                super::confirm(&project.config.name, self.confirm.as_deref(), &what, command)?;
            }
        }
        if self.to == "base" && !(self.emergency || self.discard || self.until.is_some()) {
            let base = RollbackOptions { to: Some(self.to.clone()), ..RollbackOptions::default() };
            let drops = project.rows_dropped(&base)?;
            if !drops.is_empty() {
                let list: Vec<String> = drops.iter().map(|(t, n)| format!("{t} ({})", show::rows(*n))).collect();
                let what = format!("this rollback drops {}", list.join(", "));
                super::confirm(&project.config.name, self.confirm.as_deref(), &what, "rollback base")?;
            }
        }
        let o = project.rollback(&RollbackOptions {
            to: Some(self.to.clone()),
            frozen: self.frozen,
            force: self.force || self.emergency,
            clean_target,
            emergency: self.emergency,
            until: self.until,
            discard: self.discard,
            timeout: self.timeout,
        })?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}

fn preview(project: &Project, s: &Status, verify: bool, cleans: bool) -> String {
    let mut out = String::new();
    let mut step = |text: String| out.push_str(&format!("  {}\n", show::wrap(&text, 4)));
    let services: Vec<&str> = project.config.services.iter().map(|s| s.name.as_str()).collect();
    if !services.is_empty() {
        step(format!("stop {}", services.join(", ")));
    }
    let lag = s.lag.map_or("changes".into(), |n| show::counted(n as usize, "change"));
    let in_place = show::is_in_place(s);
    let seen = if in_place { "the old tables have" } else { &format!("{} has", s.source_title) };
    step(format!("carry {lag} that {seen} not seen ({} carried so far)", show::rows(s.source.carried)));
    step(if in_place {
        format!("lock the tables of {}, and swap the old ones in", s.source_title)
    } else {
        format!("seal {}, open {}", s.target_title, s.source_title)
    });
    for switch in &project.config.switches {
        let path = switch.path();
        step(format!("switch {} back", path.strip_prefix(&project.config.folder).unwrap_or(path).display()));
    }
    if !services.is_empty() {
        step(format!("start {}", services.join(", ")));
    }
    if verify {
        step("compare both sides in full, with the application running".into());
    }
    let whose = if in_place { "the new tables" } else { "the target's tables" };
    step(format!("{} {whose}", if cleans { "drop" } else { "set aside" }));
    let head = format!("would roll back {} {}\n", s.source.migration, s.source.title);
    let over = if s.window_over { " --force" } else { "" };
    let note = if s.window_over { "the rollback window is over\n" } else { "" };
    format!("{head}{out}{note}next:     backout rollback{over}\n")
}
