//! `backout verify`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Compare both sides in full: every row, every column, both ways; and ask the stores' own checks
///
/// Works before the cutover and while soaking, with the application writing. Ends with 3 if anything differs.
///
/// Example: backout verify
#[derive(clap::Args)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let o = cx.project(Options::default())?.verify()?;
        let differ = o.verified.as_ref().is_some_and(|v| !v.differences.is_empty() || !v.problems.is_empty());
        let mut answer = Answer::new(&o, show::outcome(&o));
        answer.exit = if differ { 3 } else { 0 };
        Ok(answer)
    }
}
