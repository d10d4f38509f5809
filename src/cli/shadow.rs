//! `backout shadow`

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Let the resting side follow the live one every few seconds, until Ctrl-C
///
/// If the target is lost altogether, what was written since the last time is all that is lost. It also keeps a rollback short.
///
/// Examples:
///   backout shadow
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
        let mut last = cx.project(Options::default())?.shadow()?;
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
            last = cx.project(Options::default())?.shadow()?;
        }
        Ok(Answer::new(&last, show::outcome(&last)))
    }
}
