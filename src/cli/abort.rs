//! `backout abort`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Throw the target away, before a cutover; the application is not touched
///
/// Example: backout abort
#[derive(clap::Args)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let o = cx.project(Options::default())?.abort()?;
        let text = if o.nothing { format!("nothing to do: {}\n", o.state) } else { show::outcome(&o) };
        Ok(Answer::new(&o, text))
    }
}
