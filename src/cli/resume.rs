//! `backout resume`

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Until};

/// Go on with whatever was cut off: a copy, a cutover, a rollback
///
/// What is true is read from the stores, so it may be run at any time and as often
/// as you like. A run that was begun with --until ready stops there again.
///
/// Example:
///   backout resume
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Stop before the cutover
    #[arg(long, value_name = "PHASE", value_parser = ["ready"])]
    until: Option<String>,
    /// I have stopped everything that writes the JSON file
    #[arg(long)]
    writers_stopped: bool,
    /// Rows copied in one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 20_000)]
    batch_size: u32,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let options =
            Options { writers_stopped: self.writers_stopped, batch: self.batch_size as usize, ..Options::default() };
        let o = cx.project(options)?.resume(self.until.as_ref().map(|_| Until::Ready))?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
