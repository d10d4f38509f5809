//! `backout check`

use std::fmt::Write;

use super::{Answer, Answered, Context, show};
use backout::migrate::Options;

/// Prove every pending SQL revision on a scratch copy; change nothing
///
/// Each one runs up, down and up again on a copy of the schema with some of the real
/// rows, and what came back is compared. It also reads them for what is dangerous:
/// what destroys, what blocks writers, what the running application cannot bear.
/// Silence a finding where it stands: `-- backout:allow CODE reason` before the
/// statement. Ends with 3 if anything was found.
///
/// Example:
///   backout check                  in CI, on every change
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let checked = cx.project(Options::default())?.check()?;
        let mut text = String::new();
        let mut bad = 0;
        for c in &checked {
            let _ = writeln!(text, "{} {}", c.stamp, c.title);
            if let Some(proof) = c.proof.as_ref().filter(|_| c.lost.is_empty()) {
                text.push_str(&show::indented(proof, "  proven    ", 12));
            }
            for (mark, list) in [("  lost      ", &c.lost), ("  keeps     ", &c.keeps), ("  not seen  ", &c.unseen)] {
                list.iter().for_each(|line| text.push_str(&show::indented(line, mark, 12)));
            }
            text.push_str(&show::findings(&c.findings));
            bad += c.lost.len() + c.findings.len();
        }
        match (checked.len(), bad) {
            (0, _) => text.push_str("no SQL revision is pending\n"),
            (_, 0) => text.push_str("next:     backout up\n"),
            (_, n) => {
                let _ = writeln!(text, "{} to look at", show::counted(n, "finding"));
            }
        }
        let answer = Answer::new(&serde_json::json!({ "checked": checked }), text);
        Ok(Answer { exit: if bad == 0 { 0 } else { 3 }, ..answer })
    }
}
