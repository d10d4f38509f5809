//! `backout rollback`

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Outcome, Project, RollbackOptions, Status};

/// Take the soaking migration back, with every write made since
///
/// Stops the services, carries the last changes to the source, switches the
/// configuration back, starts the services on the source, compares both sides,
/// and sets the target aside. If it is cut off, `backout resume` goes on.
///
/// It asks for the project's name only where it would drop tables that hold rows
/// (--clean-target, or `base` with clean_target in backout.toml).
///
/// Examples:
///   backout rollback --dry-run      what would be carried, stopped and switched
///   backout rollback                take it back
///   backout rollback --force        past the rollback window
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// How far: -1, -N, `base`, or the migration that shall be the newest then
    #[arg(allow_hyphen_values = true, default_value = "-1", value_name = "-N|REV|base", value_parser = goal)]
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

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let mut project = cx.project(Options::default())?;
        let verify = !self.no_verify && project.config.rollback.verify;
        project = project.with(Options { verify, ..Options::default() });
        if !project.takes_back(&self.to)? {
            let state = if self.to == "base" { "no migration is applied" } else { "that is the newest one applied" };
            let next = "backout history   shows what is applied".into();
            let o = Outcome { nothing: true, state: state.into(), next, ..Outcome::default() };
            return Ok(Answer::new(&o, show::outcome(&o)));
        }
        let clean_target = if self.clean_target { Some(true) } else { self.keep_target.then_some(false) };
        let cleans = clean_target.unwrap_or(project.config.rollback.clean_target);
        if self.dry_run {
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
        let o = project.rollback(&RollbackOptions { force: self.force, clean_target })?;
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
    step(format!("carry {lag} that {} has not seen ({} carried so far)", s.source_title, show::rows(s.source.carried)));
    step(format!("seal {}, open {}", s.target_title, s.source_title));
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
    step(format!("{} the target's tables", if cleans { "drop" } else { "set aside" }));
    let head = format!("would roll back {} {}\n", s.source.migration, s.source.title);
    let over = if s.window_over { " --force" } else { "" };
    let note = if s.window_over { "the rollback window is over\n" } else { "" };
    format!("{head}{out}{note}next:     backout rollback{over}\n")
}
