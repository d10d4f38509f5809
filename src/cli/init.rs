//! `backout init`

use std::fmt::Write as _;
use std::path::Path;

use super::{Answer, Answered, Context};
use backout::gate::Gate;
use backout::migrate::{Error, Failure};
use backout::plan::{Config, ConfigError, Kind, redact};
use backout::store;

/// Write a backout.toml and a first migration, to be looked through
///
/// With --from and --to it looks into the source and names its tables; without,
/// it writes an example. Nothing that is there is overwritten.
///
/// Examples:
///   backout init
///   backout init --from json:watched_reminders.json --to sqlite:bot.db
///   backout init --from sqlite:screenly.db --to '${DATABASE_URL}'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Where the data is: json:FILE or sqlite:FILE
    #[arg(long, value_name = "STORE", requires = "to")]
    from: Option<String>,
    /// Where it shall go: sqlite:FILE, postgres://… or ${VARIABLE}
    #[arg(long, value_name = "STORE", requires = "from")]
    to: Option<String>,
}

const SERVICES: &str = r#"
# What must be stopped while the application is handed over, and how.
# [[service]]
# name  = "bot"
# stop  = "systemctl stop my-bot"
# start = "systemctl start my-bot"
# check = "systemctl is-active my-bot"

# What tells the application which store to use; undone exactly on a rollback.
# [[switch]]
# dotenv = ".env"
# set    = { USE_SQLITE = "true" }
"#;

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let fail =
            |cause: String, hint: &str| Box::new(Failure::untouched(Error::Refused { cause, hint: hint.into() }));
        let (config, folder) = (cx.dir.join("backout.toml"), cx.dir.join("migrations"));
        if config.exists() {
            return Err(fail(format!("{} is there already", config.display()), "edit it, or remove it first"));
        }
        let stamp = jiff::Zoned::now().strftime("%Y%m%d%H%M%S").to_string();
        let (from, to) = (
            self.from.clone().unwrap_or_else(|| "json:watched_reminders.json".into()),
            self.to.clone().unwrap_or_else(|| "sqlite:bot.db".into()),
        );
        if from.contains('@') || to.contains('@') && to.contains("://") && !to.starts_with("${") {
            eprintln!(
                "note: backout.toml will hold {}; a password belongs in .env: use ${{DATABASE_URL}}",
                redact(&to)
            );
        }
        let quoted = |s: &str| serde_json::Value::from(s).to_string();
        let toml = format!(
            "[stores]\nold_home = {}\nnew_home = {}\n\n[rollback]\nwindow = \"24h\"\n{SERVICES}",
            quoted(&from),
            quoted(&to)
        );
        // a store that cannot be meant is said now; what a variable holds is not known yet
        Config::parse(&toml, &config, &|_| Some("sqlite:any.db".into())).map_err(|e| {
            let (hint, message) = (e.hint().map(str::to_owned), e.to_string());
            let message = message.rsplit_once(&place(&e)).map_or(message.clone(), |(_, m)| m.to_owned());
            Box::new(Failure::untouched(ConfigError::File { file: config.clone(), message, hint }.into()))
        })?;
        let body = if self.from.is_some() { tables(&from, &cx.dir)? } else { EXAMPLE.to_owned() };
        let migration =
            format!("title = \"Move to the new home\"\n\n[transfer]\nfrom = \"old_home\"\nto   = \"new_home\"\n{body}");
        let file = folder.join(format!("{stamp}_move.toml"));
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text)
                .map_err(|e| fail(format!("cannot write {}: {e}", path.display()), "check the folder's permissions"))
        };
        std::fs::create_dir_all(&folder)
            .map_err(|e| fail(format!("cannot make {}: {e}", folder.display()), "check the folder's permissions"))?;
        write(&file, &migration)?;
        write(&config, &toml)?;
        let text = format!(
            "wrote {}\nwrote {}\nlook through both, say how to stop and switch the application, then:\nnext: backout plan\n",
            config.display(),
            file.display()
        );
        Ok(Answer::new(&serde_json::json!({ "wrote": [config, file] }), text))
    }
}

/// How the place begins the error's message.
fn place(e: &ConfigError) -> String {
    e.place().map(|p| format!("{p}: ")).unwrap_or_default()
}

const EXAMPLE: &str = r#"
[[transfer.table]]
source   = "$"             # the whole file: an object keyed by id, or an array; or a JSON Pointer: "/reminders"
key      = "event_id"      # the object's keys become this column; in an array: the member that is the key
into     = "events"
required = ["title"]
"#;

/// The migration's tables, from what is in the source.
fn tables(from: &str, dir: &Path) -> Result<String, Box<Failure>> {
    if from.starts_with("${") {
        return Ok(String::new());
    }
    let untouched = |e: store::Error| Box::new(Failure::untouched(e.into()));
    let mut source = store::open(from, dir, false, &Gate::default()).map_err(untouched)?;
    if source.kind() != Kind::Json {
        return Ok(
            "# everything moves; to choose: tables = [\"a\", \"b\"], exclude = [\"c\"], rename = { a = \"b\" }\n"
                .into(),
        );
    }
    let schema = source.schema().map_err(untouched)?;
    let mut out = String::new();
    // the root counts only if it is the one collection there is
    let inner = schema.tables.iter().any(|t| !t.name.is_empty());
    for t in schema.tables.iter().filter(|t| !inner || !t.name.is_empty()) {
        let q = |s: &str| serde_json::Value::from(s).to_string();
        let into = t.name.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("records");
        let source = if t.name.is_empty() { "$" } else { &t.name };
        let first = t.columns.first().map_or("id", |c| c.name.as_str());
        let key = if t.details.json_object { "id" } else { first };
        let say = if t.details.json_object {
            "a name for the object's keys"
        } else {
            "check: the member that tells records apart"
        };
        let _ = write!(
            out,
            "\n[[transfer.table]]\nsource = {}\nkey    = {}   # {say}\ninto   = {}\n",
            q(source),
            q(key),
            q(into)
        );
    }
    Ok(out)
}
