//! `backout cutover`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Hand the application over to a target that is ready
///
/// Stops the services, carries the last changes, switches the configuration,
/// starts the services on the target. What fails before the target is open is
/// called off, and the application runs on the source as before.
///
/// Example:
///   backout up --until ready && backout cutover
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// I have stopped everything that writes the JSON file
    #[arg(long)]
    writers_stopped: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let options = Options { writers_stopped: self.writers_stopped, ..Options::default() };
        let o = cx.project(options)?.cutover()?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
