//! `backout new`

use super::diff::Wanted;
use super::{Answer, Answered, Context};
use backout::migrate::{Failure, Generated, Options, Project};

/// Write a new SQL revision to fill in
///
/// Its file has an up and a down. A down that has nothing to do, or cannot bring
/// back what the up takes away, says so: an empty one is refused.
///
/// With --autogenerate both are written from what differs between the present schema
/// and the wanted one, which a script builds: schema.sql, or --schema FILE. Read them
/// before they run.
///
/// Examples:
///   backout new create_events
///   backout new "add e-mail to users" --store main
///   backout new add_tags --autogenerate --schema db/schema.sql
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// A few words
    name: String,
    /// Write up and down from what differs from the wanted schema
    #[arg(long)]
    autogenerate: bool,
    #[command(flatten)]
    wanted: Wanted,
}

impl Command {
    /// What differs, with the renames that are given, and those that a person says yes to.
    fn asked(&self, cx: &Context, project: &Project) -> Result<Generated, Box<Failure>> {
        let (file, store, mut renames) =
            (self.wanted.file(cx), self.wanted.store.as_deref(), self.wanted.rename.clone());
        let found = project.difference(&file, store, &renames)?;
        let given = renames.len();
        for likely in &found.renames {
            let question = format!("Is {} the same under another name? [y/N]", likely.replace('=', " → "));
            if super::terminal::ask(&question).is_some_and(|answer| answer.eq_ignore_ascii_case("y")) {
                renames.push(likely.clone());
            }
        }
        if renames.len() == given { Ok(found) } else { Ok(project.difference(&file, store, &renames)?) }
    }

    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let store = self.wanted.store.as_deref();
        let mut notes = String::new();
        let path = if self.autogenerate {
            let found = self.asked(cx, &project)?;
            notes = super::diff::notes(&found);
            let Some(path) = project.write_generated(&self.name, store, &found)? else {
                let text = format!("nothing to do: no difference a statement could be made for\n{notes}");
                return Ok(Answer::new(&serde_json::json!({ "nothing": true, "found": found }), text));
            };
            path
        } else {
            project.new_revision(&self.name, store)?
        };
        let shown = path.strip_prefix(&project.config.folder).unwrap_or(&path).display().to_string();
        let text = {
            let first = if self.autogenerate { "read it" } else { "fill it in" };
            format!("wrote {shown}\n{notes}next:     {first}, then backout check, then backout up\n")
        };
        Ok(Answer::new(&serde_json::json!({ "path": shown }), text))
    }
}
