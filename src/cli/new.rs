//! `backout new`

use super::{Answer, Answered, Context};
use backout::migrate::Options;

/// Write a new SQL revision to fill in
///
/// Its file has an up and a down. A down that has nothing to do, or cannot bring
/// back what the up takes away, says so: an empty one is refused.
///
/// Examples:
///   backout new create_events
///   backout new "add e-mail to users" --store main
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// A few words
    name: String,
    /// The store it runs in, if not the project's default
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let path = project.new_revision(&self.name, self.store.as_deref())?;
        let shown = path.strip_prefix(&project.config.folder).unwrap_or(&path).display().to_string();
        let text = format!("wrote {shown}\nnext:     fill it in, then backout check, then backout up\n");
        Ok(Answer::new(&serde_json::json!({ "path": shown }), text))
    }
}
