//! `backout plan`

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Show what `up` would do: every table, every column, what stays behind, what it costs
///
/// Looks at every value of the source to choose each column's conversion. Changes nothing.
///
/// Example: backout plan
#[derive(clap::Args)]
pub struct Command {
    /// A migration's stamp; the next pending one if left out
    revision: Option<String>,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        match cx.project(Options::default())?.plan(self.revision.as_deref())? {
            Some(p) => Ok(Answer::new(&p, show::proposal(&p))),
            None => {
                Ok(Answer::new(&serde_json::json!({ "nothing": true }), "nothing to do: every migration is applied\n"))
            }
        }
    }
}
