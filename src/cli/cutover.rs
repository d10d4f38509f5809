//! `backout cutover`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Hand the application over to a target that is ready
///
/// Example: backout up --until ready && backout cutover
#[derive(clap::Args)]
pub struct Command {
    /// I have stopped everything that writes the JSON file
    #[arg(long)]
    writers_stopped: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let o = cx.project(Options { writers_stopped: self.writers_stopped, ..Options::default() })?.cutover()?;
        let text = if o.nothing { format!("nothing to do: {}\n", o.state) } else { show::outcome(&o) };
        Ok(Answer::new(&o, text))
    }
}
