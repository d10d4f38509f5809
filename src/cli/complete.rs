//! `backout complete`

use super::{Answer, Answered, Context, show, terminal};
use backout::migrate::{Error, Failure, Options};

/// Close the rollback window for good; the one point of no return
///
/// Asks for the project's name. The source stays where it is, sealed, unless --delete-source is given.
///
/// Example: backout complete --confirm my-bot
#[derive(clap::Args)]
pub struct Command {
    /// The project's name, so that no question is asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Drop the source's tables
    #[arg(long)]
    delete_source: bool,
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let project = cx.project(Options::default())?;
        let name = project.config.name.clone();
        let refuse = |cause: String, hint: String| Box::new(Failure::untouched(Error::Refused { cause, hint }));
        if let Some(s) = project.status()? {
            let what = if self.delete_source { "drops the source's tables and " } else { "" };
            let question = format!(
                "This {what}gives up the way back of {} {}. Type the project's name ({name}) to go on:",
                s.source.migration, s.source.title
            );
            let given = self.confirm.clone().or_else(|| terminal::ask(&question));
            match given {
                Some(given) if given == name => {}
                Some(given) => {
                    return Err(refuse(format!("{given:?} is not the project's name"), format!("the name is {name}")));
                }
                None => {
                    return Err(refuse(
                        "complete gives up the way back, and asks for the project's name".into(),
                        format!("`backout complete --confirm {name}`"),
                    ));
                }
            }
        }
        let o = project.complete(self.delete_source)?;
        let text = if o.nothing { format!("nothing to do: {}\n", o.state) } else { show::outcome(&o) };
        Ok(Answer::new(&o, text))
    }
}
