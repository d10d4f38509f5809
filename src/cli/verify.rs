//! `backout verify`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Compare both sides in full: every row and column, both ways
///
/// Asks the stores' own checks too (foreign keys, integrity). Works before the
/// cutover and while soaking, with the application writing. Ends with 3 if
/// anything differs, and names the rows.
///
/// Example:
///   backout verify && echo both sides agree
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let o = cx.project(Options::default())?.verify()?;
        let (mut text, mut differ) = (String::new(), false);
        if let Some(v) = &o.verified {
            differ = !v.differences.is_empty() || !v.problems.is_empty();
            text = show::verified(v);
        }
        text.push_str(if differ {
            "result    the two sides do not agree\n"
        } else {
            "result    the two sides agree\n"
        });
        let mut answer = Answer::new(&o, text);
        answer.exit = if differ { 3 } else { 0 };
        Ok(answer)
    }
}
