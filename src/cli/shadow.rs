//! `backout shadow`

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Let the resting side follow the live one every few seconds, until Ctrl-C
///
/// It keeps a rollback short. And should the target be lost altogether, only what
/// was written since the last time is lost with it. Lets other commands pass.
///
/// Examples:
///   backout shadow
///   backout shadow --every 60
///   backout shadow --once
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Once, and no more
    #[arg(long)]
    once: bool,
    /// Seconds between
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    every: u64,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let follow = || cx.project(Options::default())?.shadow().map_err(Box::new);
        let mut last = follow()?;
        while !self.once && !cx.stop.load(Ordering::SeqCst) {
            if !cx.quiet {
                eprintln!("{} carried in all", show::rows(last.carried));
            }
            let until = Instant::now() + Duration::from_secs(self.every.max(1));
            while Instant::now() < until && !cx.stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(100));
            }
            if cx.stop.load(Ordering::SeqCst) {
                break;
            }
            match follow() {
                Ok(o) => last = o,
                // another command is at work: next time
                Err(f) if f.exit == 5 => eprintln!("note: {f}"),
                Err(f) => return Err(f),
            }
        }
        let mut text = String::from("level     the resting side has seen every change up to now\n");
        let _ = writeln!(text, "carried   {} in all", show::rows(last.carried));
        text.push_str(&show::parked(&last.parked));
        Ok(Answer::new(&last, text))
    }
}
