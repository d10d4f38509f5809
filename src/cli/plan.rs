//! `backout plan`

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Project};

/// Show what `up` would do, and change nothing
///
/// Of SQL revisions: their statements, how they are taken back, what is dangerous in
/// them. Of a migration that moves data:
/// every table with its rows and size, every column with its types and the
/// conversion that every one of its values fits, what stays behind, and what the
/// move and its rollback cost. The hash at the end holds a run to this plan.
///
/// Examples:
///   backout plan
///   backout plan > plan.txt
///   backout up --plan "$(backout plan --json | jq -r .hash)"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// A migration's stamp; the next pending one if left out
    revision: Option<String>,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        plan(&cx.project(Options::default())?, self.revision.as_deref())
    }
}

/// The plan, as `plan` and `up --dry-run` show it.
pub fn plan(project: &Project, revision: Option<&str>) -> Answered {
    let steps = project.steps_up(revision)?;
    if !steps.is_empty() {
        let mut text = show::steps(&steps);
        text.push_str("next:     backout check, which proves them on a copy; then backout up\n");
        return Ok(Answer::new(&serde_json::json!({ "steps": steps }), text));
    }
    let mut answer = match project.plan(revision)? {
        Some(p) => Answer::new(&p, show::proposal(&p, &project.config)),
        None => Answer::new(
            &serde_json::json!({ "nothing": true }),
            "nothing to do: every migration is applied\nnext:     backout history\n",
        ),
    };
    answer.json["unused"] = serde_json::json!(project.config.unused);
    Ok(answer)
}
