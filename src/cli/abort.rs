//! `backout abort`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Throw the target away, before a cutover; the application is not touched
///
/// After a cutover it is `backout rollback` that takes a migration back.
///
/// Example:
///   backout abort
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let o = cx.project(Options::default())?.abort()?;
        Ok(Answer::new(&o, show::outcome(&o)))
    }
}
