//! The command line: arguments in, the library's answers out. One file per command; its doc comment is its help.

mod abort;
mod check;
mod complete;
mod current;
mod cutover;
mod demo;
mod diff;
mod extract;
mod history;
mod import;
mod init;
mod log;
mod new;
mod plan;
mod repair;
mod resume;
mod rollback;
mod salvage;
mod shadow;
mod show;
mod stamp;
mod status;
mod terminal;
mod up;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backout::gate::Gate;
use backout::migrate::{Error, Failure, Options, Project};
use clap::{Parser, Subcommand};

/// Migrations you can take back.
///
/// Backout moves an application's data from one store to another (from a JSON file,
/// SQLite or PostgreSQL to SQLite or PostgreSQL) while it is being written to,
/// proves that both sides agree, and takes the change back in seconds without losing
/// what was written since.
///
/// It reads backout.toml and migrations/ in the present folder. `backout init`
/// makes them, `backout demo` shows it all, `backout help COMMAND` explains one.
#[derive(Parser)]
#[command(name = "backout", version, max_term_width = 80, verbatim_doc_comment, after_help = EXIT_CODES)]
struct Cli {
    /// The project's folder
    #[arg(short = 'C', long = "dir", global = true, default_value = ".", value_name = "FOLDER", help_heading = EVERYWHERE)]
    dir: PathBuf,
    /// One JSON object on standard output instead of text, on errors too
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// No progress on standard error
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const EVERYWHERE: &str = "Options of every command";

const EXIT_CODES: &str = "Exit codes:
  0  done, or nothing to do          5  locked by another
  1  failed, data as before          6  failed and rolled back
  2  usage or configuration          7  stopped half-way, `resume` goes on
  3  differences found               8  rollback incomplete, a person is needed
  4  refused by a check

First steps:
  backout demo       watch a migration and its rollback, in a temporary folder
  backout init       write a backout.toml and a first migration to fill in
  backout plan       what `up` would do; changes nothing
  backout up         move forward
  backout rollback   take it back, with every later write";

#[derive(Subcommand)]
enum Command {
    Init(init::Command),
    New(new::Command),
    Plan(plan::Command),
    Check(check::Command),
    Diff(diff::Command),

    #[command(alias = "upgrade")]
    Up(up::Command),
    Cutover(cutover::Command),
    Status(status::Command),
    Current(current::Command),
    History(history::Command),
    Verify(verify::Command),
    Repair(repair::Command),
    Extract(extract::Command),
    #[command(alias = "downgrade")]
    Rollback(rollback::Command),
    Salvage(salvage::Command),
    Abort(abort::Command),
    Resume(resume::Command),
    Complete(complete::Command),
    Shadow(shadow::Command),
    Stamp(stamp::Command),
    Import(import::Command),
    Log(log::Command),
    Demo(demo::Command),
    #[command(hide = true)]
    DemoWriter(demo::Writer),
}

impl Command {
    /// It changes nothing, so there is nothing to resume.
    fn only_looks(&self) -> bool {
        use Command::{Check, Current, Demo, Diff, Extract, History, Init, Log, New, Plan, Shadow, Status, Verify};
        matches!(
            self,
            Init(_)
                | Check(_)
                | Diff(_)
                | Extract(_)
                | New(_)
                | Plan(_)
                | Status(_)
                | Current(_)
                | History(_)
                | Verify(_)
                | Log(_)
                | Demo(_)
                | Shadow(_)
        )
    }
}

/// What a command has to say.
pub struct Answer {
    /// For `--json`; an object.
    json: serde_json::Value,
    /// For people.
    text: String,
    exit: u8,
}

impl Answer {
    fn new(result: &impl serde::Serialize, text: impl Into<String>) -> Answer {
        Answer { json: serde_json::to_value(result).unwrap_or_default(), text: text.into(), exit: 0 }
    }
}

type Answered = Result<Answer, Box<Failure>>;

/// What every command is given.
pub struct Context {
    dir: PathBuf,
    json: bool,
    quiet: bool,
    gate: Gate,
    stop: Arc<AtomicBool>,
}

impl Context {
    /// The project in the folder.
    fn project(&self, options: Options) -> Result<Project, Box<Failure>> {
        let project = Project::open(&self.dir, &|name| std::env::var(name).ok())?;
        Ok(project
            .with(options)
            .gated(self.gate.clone())
            .stopped_by(self.stop.clone())
            .observed(Arc::new(terminal::Terminal::new(self.quiet, self.json))))
    }
}

/// Parses, runs, prints.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // help and version are no errors
            if !e.use_stderr() {
                let _ = e.print();
                return ExitCode::SUCCESS;
            }
            if std::env::args_os().any(|a| a == "--json") {
                let text = e.render().to_string();
                let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
                let (hint, state) =
                    ("`backout help` lists the commands, `backout help COMMAND` explains one", "nothing was changed");
                terminal::out(&failed(2, "usage", said, hint, state));
            } else {
                let _ = e.print();
            }
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let looks = cli.command.only_looks();
    let _ = ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        let later = if looks { "" } else { "; then `backout resume` goes on" };
        eprintln!("\nstopping after the present step{later} (Ctrl-C again: stop at once)");
    });
    let cx = Context { dir: cli.dir, json: cli.json, quiet: cli.quiet, gate: gate(), stop };
    let answered = match &cli.command {
        Command::Init(c) => c.run(&cx),
        Command::New(c) => c.run(&cx),
        Command::Stamp(c) => c.run(&cx),
        Command::Import(c) => c.run(&cx),
        Command::Plan(c) => c.run(&cx),
        Command::Check(c) => c.run(&cx),
        Command::Diff(c) => c.run(&cx),
        Command::Up(c) => c.run(&cx),
        Command::Cutover(c) => c.run(&cx),
        Command::Status(c) => c.run(&cx),
        Command::Current(c) => c.run(&cx),
        Command::History(c) => c.run(&cx),
        Command::Verify(c) => c.run(&cx),
        Command::Repair(c) => c.run(&cx),
        Command::Extract(c) => c.run(&cx),
        Command::Rollback(c) => c.run(&cx),
        Command::Salvage(c) => c.run(&cx),
        Command::Abort(c) => c.run(&cx),
        Command::Resume(c) => c.run(&cx),
        Command::Complete(c) => c.run(&cx),
        Command::Shadow(c) => c.run(&cx),
        Command::Log(c) => c.run(&cx),
        Command::Demo(c) => c.run(&cx),
        Command::DemoWriter(c) => c.run(),
    };
    match answered {
        Ok(answer) => {
            if cx.json {
                let mut object = serde_json::json!({ "ok": answer.exit == 0, "exit": answer.exit });
                if let (Some(to), serde_json::Value::Object(from)) = (object.as_object_mut(), answer.json) {
                    to.extend(from);
                }
                terminal::out(&format!("{object}\n"));
            } else {
                terminal::out(&answer.text);
            }
            ExitCode::from(answer.exit)
        }
        Err(failure) => {
            if cx.json {
                terminal::out(&failed(
                    failure.exit,
                    failure.code(),
                    &failure.to_string(),
                    &failure.hint,
                    &failure.state,
                ));
            } else {
                eprint!("{}", show::failure(&failure));
            }
            ExitCode::from(failure.exit)
        }
    }
}

/// A failure as `--json` prints it.
fn failed(exit: u8, code: &str, message: &str, hint: &str, state: &str) -> String {
    let error = serde_json::json!({ "code": code, "message": message, "hint": hint, "state": state });
    format!("{}\n", serde_json::json!({ "ok": false, "exit": exit, "error": error }))
}

/// Goes on only if the project's name was given, or is typed now; `what` is what is given up, `command` what asks.
fn confirm(name: &str, given: Option<&str>, what: &str, command: &str) -> Result<(), Box<Failure>> {
    let question = || terminal::ask(&format!("{}\nType the project's name ({name}) to go on:", show::wrap(what, 0)));
    let cause = match given.map(str::to_owned).or_else(question) {
        Some(typed) if typed == name => return Ok(()),
        Some(typed) => format!("{typed:?} is not the project's name; {what}"),
        None => format!("{what}, and asks for the project's name"),
    };
    let hint = format!("backout {command} --confirm {name}");
    Err(Box::new(Failure::untouched(Error::Refused { cause, hint })))
}

/// For tests: `BACKOUT_GATE=fail:N` makes the n-th effect fail once, `kill:N` kills the program there, `show` lists them.
fn gate() -> Gate {
    let Ok(word) = std::env::var("BACKOUT_GATE") else { return Gate::default() };
    match word.split_once(':').and_then(|(what, n)| Some((what, n.parse::<u64>().ok()?))) {
        Some(("fail", n)) => Gate::with_trap(n, |_| {}),
        Some(("kill", n)) => Gate::with_trap(n, |_| {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }),
        _ => Gate::watched(|what| eprintln!("effect: {what}")),
    }
}
