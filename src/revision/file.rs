//! Reading revisions: `20250128140000_create_events.sql` with `-- migrate:up` and `-- migrate:down`, or a pair of files
//! `.up.sql` and `.down.sql`.

use std::path::{Path, PathBuf};

use super::sql::{Comment, Is, List, Piece, pieces, plain, tokens};
use super::{Down, Revision, Script, order};
use crate::plan::{Config, ConfigError, Document, Kind, Text, did_you_mean, read};

const DIRECTIVES: [&str; 5] = ["migrate:up", "migrate:down", "backout:title", "backout:store", "backout:allow"];
const EMPTY_DOWN: &str =
    "an empty or missing down is an error: say `-- migrate:down nothing` or `-- migrate:down irreversible: reason`";

/// Reads the SQL revisions of a project, sorted by version. `sql_names`: the names of their files in the folder of
/// migrations.
///
/// # Errors
/// The first thing that is wrong in any of them, with its place.
pub fn load(config: &Config, sql_names: &[String]) -> Result<Vec<Revision>, ConfigError> {
    let mut revisions: Vec<Revision> = Vec::new();
    for name in sql_names {
        let path = config.migrations.join(name);
        if let Some(stem) = name.strip_suffix(".down.sql") {
            lonely(sql_names, stem, ".up.sql", &path)?;
            continue;
        }
        let text = read(&path, "`backout history` lists the revisions")?;
        let revision = match name.strip_suffix(".up.sql") {
            None => parse(&text, &path, config)?,
            Some(stem) => {
                lonely(sql_names, stem, ".down.sql", &path)?;
                let down_path = config.migrations.join(format!("{stem}.down.sql"));
                let down = read(&down_path, "`backout history` lists the revisions")?;
                parse_pair((&text, &path), (&down, &down_path), config)?
            }
        };
        revisions.push(revision);
    }
    revisions.sort_by(|a, b| (order(&a.stamp), &a.path).cmp(&(order(&b.stamp), &b.path)));
    for pair in revisions.windows(2) {
        if order(&pair[0].stamp) == order(&pair[1].stamp) {
            let message = format!("its version {} is also that of {}", pair[1].stamp, pair[0].path.display());
            let hint = Some("rename one of them: versions say what comes first, and count as numbers".to_owned());
            return Err(ConfigError::File { file: pair[1].path.clone(), message, hint });
        }
    }
    Ok(revisions)
}

/// An error if the other file of a pair is missing.
fn lonely(names: &[String], stem: &str, wanted: &str, path: &Path) -> Result<(), ConfigError> {
    let other = format!("{stem}{wanted}");
    if names.contains(&other) {
        return Ok(());
    }
    let near = did_you_mean(&other, names.iter().filter(|n| n.ends_with(wanted)).map(String::as_str));
    let hint = match near {
        Some(near) => format!("{near} both files of a pair have the same name before `.up.sql` and `.down.sql`"),
        None if wanted == ".down.sql" => {
            "write it; `-- migrate:down nothing` in it says that there is nothing to undo".to_owned()
        }
        None => "write it, or remove this file".to_owned(),
    };
    Err(ConfigError::File { file: path.to_owned(), message: format!("{other} is missing"), hint: Some(hint) })
}

/// Reads a revision that is one file, from its text.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str, path: &Path, config: &Config) -> Result<Revision, ConfigError> {
    let (stamp, slug) = stamp_and_slug(path, ".sql")?;
    let text = plain(text);
    let doc = Document { file: path, text: &text };
    let (store, kind) = store(doc, config)?;
    let found = sections(doc, kind, None)?;
    let Some(up) = found.up else {
        return Err(doc.error(0, "there is no `-- migrate:up`", Some(foreign(&text))));
    };
    let Some(down) = found.down else {
        let message = "the revision has no `-- migrate:down`";
        return Err(doc.error(up.at, message, Some(EMPTY_DOWN.to_owned())));
    };
    let down = fate(doc, &up, doc, down)?;
    let title = found.title.unwrap_or_else(|| slug.replace('_', " "));
    Ok(Revision { stamp, slug, path: path.to_owned(), down_path: None, title, store: Some(store), up: up.script, down })
}

/// Reads a revision that is a pair of files: text and path of the one with the up, then of the one with the down.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse_pair(up: (&str, &Path), down: (&str, &Path), config: &Config) -> Result<Revision, ConfigError> {
    let (stamp, slug) = stamp_and_slug(up.1, ".up.sql")?;
    let (up_text, down_text) = (plain(up.0), plain(down.0));
    let up_doc = Document { file: up.1, text: &up_text };
    let down_doc = Document { file: down.1, text: &down_text };
    let (store, kind) = store(up_doc, config)?;
    let up_found = sections(up_doc, kind, Some(Side::Up))?;
    let down_found = sections(down_doc, kind, Some(Side::Down))?;
    let up_section = up_found.up.unwrap_or_default();
    let down = fate(up_doc, &up_section, down_doc, down_found.down.unwrap_or_default())?;
    let title = up_found.title.unwrap_or_else(|| slug.replace('_', " "));
    let down_path = Some(down_doc.file.to_owned());
    let path: PathBuf = up.1.to_owned();
    Ok(Revision { stamp, slug, path, down_path, title, store: Some(store), up: up_section.script, down })
}

/// What a file's name says: its digits, and what follows them.
fn stamp_and_slug(path: &Path, ending: &str) -> Result<(String, String), ConfigError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(ending).unwrap_or(&name);
    match stem.split_once('_') {
        Some((stamp, slug))
            if (1..=20).contains(&stamp.len())
                && stamp.bytes().all(|b| b.is_ascii_digit())
                && !slug.trim().is_empty() =>
        {
            Ok((stamp.to_owned(), slug.to_owned()))
        }
        _ => Err(ConfigError::File {
            file: path.to_owned(),
            message: "its name is not that of a revision".into(),
            hint: Some("1 to 20 digits, `_`, a few words: 20250128140000_create_events.sql".into()),
        }),
    }
}

/// What to do about a file without directives of ours, that may have another tool's.
fn foreign(text: &str) -> String {
    let begins = |words: &str| text.lines().any(|line| line.trim().to_ascii_lowercase().starts_with(words));
    if begins("-- +goose") {
        "this is a file of goose: `backout import --from goose` writes ours".to_owned()
    } else if begins("-- no-transaction") {
        "`-- no-transaction` is what sqlx reads; here it is `-- migrate:up transaction:false`".to_owned()
    } else {
        "`-- migrate:up` stands before the statements of the way up, `-- migrate:down` before those of the way down"
            .to_owned()
    }
}

/// The store that a revision runs in, and its kind: what the file says, else the project's default, else the only one
/// there is.
fn store(doc: Document<'_>, config: &Config) -> Result<(String, Kind), ConfigError> {
    let all = config.stores.iter().map(|(name, _)| name).chain(config.unset.iter().map(|unset| &unset.store));
    let sql: Vec<&str> = all.filter(|n| config.kind(n) != Some(Kind::Json)).map(String::as_str).collect();
    let there_are = || match sql[..] {
        [] => "[stores] in backout.toml has no SQLite or PostgreSQL store".to_owned(),
        _ => format!("SQL stores in backout.toml: {}", sql.join(", ")),
    };
    // the rules of its kind are not known yet, and before the first statement they make no difference
    for piece in pieces(doc, Kind::Sqlite) {
        let Ok(Piece::Directive(comment)) = piece else { break };
        let Some((name, at)) = argument(doc, &comment, "backout:store") else { continue };
        let kind = match config.kind(name) {
            _ if name.is_empty() => {
                return Err(doc.error(comment.start, "`backout:store` names no store", Some(there_are())));
            }
            None => return Err(config.no_such_store(doc, &Text { value: name.to_owned(), start: at })),
            Some(Kind::Json) => {
                let message = format!("`{name}` is a JSON file, in which no SQL runs");
                return Err(doc.error(at, message, Some(there_are())));
            }
            Some(kind) => kind,
        };
        return Ok((name.to_owned(), kind));
    }
    let error = |message: String| {
        let hint = if sql.is_empty() {
            there_are()
        } else {
            format!("say `-- backout:store NAME` before the statements; {}", there_are())
        };
        Err(ConfigError::File { file: doc.file.to_owned(), message, hint: Some(hint) })
    };
    match (&config.default_store, &sql[..]) {
        (Some(name), _) => match config.kind(name) {
            Some(kind) if kind != Kind::Json => Ok((name.clone(), kind)),
            _ => error(format!("the default store `{name}` is a JSON file, in which no SQL runs")),
        },
        (None, [only]) => Ok(((*only).to_owned(), config.kind(only).unwrap_or(Kind::Postgres))),
        (None, _) => error("it is not said in which store it runs".to_owned()),
    }
}

/// What follows a directive, if it is this one, and where that stands.
fn argument<'t>(doc: Document<'_>, comment: &Comment<'t>, directive: &str) -> Option<(&'t str, usize)> {
    let rest = comment.body.strip_prefix(directive)?;
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let written = &doc.text[comment.start..comment.end];
    let after = written.find(directive).unwrap_or(0) + directive.len();
    let blanks = written[after..].len() - written[after..].trim_start().len();
    Some((rest.trim(), comment.start + after + blanks))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Up,
    Down,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Up => "up",
            Side::Down => "down",
        }
    }
}

/// One way, as its file says it.
#[derive(Default)]
struct Section {
    /// Where its directive stands, or else its file's beginning.
    at: usize,
    script: Script,
    /// Where the first statement stands.
    first: Option<usize>,
    /// There are no statements, on purpose.
    none: Option<Down>,
}

#[derive(Default)]
struct Found {
    title: Option<String>,
    store: bool,
    up: Option<Section>,
    down: Option<Section>,
}

/// A section that is being read.
struct Reading {
    side: Side,
    section: Section,
    list: List,
    text: usize,
    starts: Vec<usize>,
}

impl Reading {
    fn begin(side: Side, at: usize, text: usize) -> Reading {
        let section = Section { at, script: Script { transaction: true, ..Script::default() }, ..Section::default() };
        Reading { side, section, list: List::default(), text, starts: Vec::new() }
    }
}

/// The sections of a file; `whole`: it is all of one side.
fn sections(doc: Document<'_>, kind: Kind, whole: Option<Side>) -> Result<Found, ConfigError> {
    let mut found = Found::default();
    let mut reading = whole.map(|side| Reading::begin(side, 0, 0));
    let mut said = false;
    if let Some(side) = whole
        && doc.text.lines().next().is_some_and(|line| line.trim_start_matches('-').trim() == "no-transaction")
    {
        let hint = format!("here it is `-- migrate:{} transaction:false`", side.name());
        return Err(doc.error(0, "`no-transaction` is what sqlx reads", Some(hint)));
    }
    for piece in pieces(doc, kind) {
        match piece? {
            Piece::Statement { start, end } => match &mut reading {
                Some(reading) => {
                    reading.section.first.get_or_insert(start);
                    reading.starts.push(start);
                    reading.list.statement(doc, start, end);
                }
                None => {
                    let message = "a statement before `-- migrate:up`";
                    return Err(doc.error(start, message, Some(foreign(doc.text))));
                }
            },
            Piece::Directive(comment) => {
                let name = known(doc, &comment)?;
                let (rest, at) = argument(doc, &comment, name).unwrap_or(("", comment.start));
                let side = match name {
                    "migrate:up" => Side::Up,
                    "migrate:down" => Side::Down,
                    "backout:allow" => {
                        let Some(reading) = &mut reading else {
                            let hint = "put it before the statement that it speaks of".to_owned();
                            return Err(doc.error(comment.start, "no statement follows this directive", Some(hint)));
                        };
                        reading.list.allow(doc, &comment, rest)?;
                        continue;
                    }
                    _ => {
                        let begun = reading.as_ref().is_some_and(|r| whole.is_none() || r.section.first.is_some());
                        found.head(doc, &comment, name, rest, begun || said, whole)?;
                        continue;
                    }
                };
                if let Some(whole) = whole {
                    if whole != side {
                        let message = format!("`-- {name}` in the file of the {}", whole.name());
                        let hint = format!("the {} is the file that ends in .{}.sql", side.name(), side.name());
                        return Err(doc.error(comment.start, message, Some(hint)));
                    }
                    if said || reading.as_ref().is_some_and(|r| r.section.first.is_some()) {
                        let message = format!("`-- {name}` comes after statements, or twice");
                        let hint = "in a pair of files it may stand once, at the top".to_owned();
                        return Err(doc.error(comment.start, message, Some(hint)));
                    }
                } else if let Some(reading) = reading.take() {
                    found.close(doc, kind, reading, doc.text[..comment.start].rfind('\n').map_or(0, |i| i + 1))?;
                }
                said = true;
                if (side == Side::Up && found.up.is_some()) || (side == Side::Down && found.down.is_some()) {
                    let hint = "a revision has one way up and one way down; a second step is a second revision";
                    return Err(doc.error(comment.start, format!("a second `-- {name}`"), Some(hint.to_owned())));
                }
                if whole.is_none() && side == Side::Down && found.up.is_none() {
                    let hint = "the way up comes first".to_owned();
                    return Err(doc.error(comment.start, "`-- migrate:down` before `-- migrate:up`", Some(hint)));
                }
                let text = (comment.end + 1).min(doc.text.len());
                let mut next = Reading::begin(side, comment.start, text);
                options(doc, side, rest, at, &mut next.section)?;
                reading = Some(next);
            }
        }
    }
    if let Some(reading) = reading {
        found.close(doc, kind, reading, doc.text.len())?;
    }
    Ok(found)
}

/// The directive that a comment is.
fn known(doc: Document<'_>, comment: &Comment<'_>) -> Result<&'static str, ConfigError> {
    let written = comment.body.split_whitespace().next().unwrap_or_default();
    let Some(name) = DIRECTIVES.into_iter().find(|name| *name == written) else {
        let hint = did_you_mean(written, DIRECTIVES)
            .unwrap_or_else(|| format!("known: {}; let a comment begin with another word", DIRECTIVES.join(", ")));
        return Err(doc.error(comment.start, format!("unknown directive `{written}`"), Some(hint)));
    };
    if !comment.alone {
        let hint = "put it on a line of its own".to_owned();
        return Err(doc.error(comment.start, format!("`{name}` stands behind something else"), Some(hint)));
    }
    Ok(name)
}

impl Found {
    /// `-- backout:title` and `-- backout:store`.
    fn head(
        &mut self,
        doc: Document<'_>,
        comment: &Comment<'_>,
        name: &str,
        rest: &str,
        late: bool,
        whole: Option<Side>,
    ) -> Result<(), ConfigError> {
        let error = |message: String, hint: &str| Err(doc.error(comment.start, message, Some(hint.to_owned())));
        if whole == Some(Side::Down) {
            return error(format!("`{name}` in the file of the down"), "put it at the top of the file with the up");
        }
        if late {
            return error(format!("`{name}` comes too late"), "put it at the top of the file, before `-- migrate:up`");
        }
        let twice = if name == "backout:title" { self.title.is_some() } else { self.store };
        if twice {
            return error(format!("a second `{name}`"), "take one of them out");
        }
        if rest.is_empty() {
            return error(format!("`{name}` says nothing"), "what it sets stands behind it, on the same line");
        }
        if name == "backout:title" {
            self.title = Some(rest.to_owned());
        } else {
            self.store = true;
        }
        Ok(())
    }

    fn close(&mut self, doc: Document<'_>, kind: Kind, reading: Reading, end: usize) -> Result<(), ConfigError> {
        let Reading { side, mut section, list, text, starts } = reading;
        section.script.statements = list.end(doc)?;
        section.script.text = doc.text.get(text..end).unwrap_or_default().to_owned();
        if let (Some(_), Some(first)) = (&section.none, section.first) {
            let hint = "take the statements out, or what is said in place of them".to_owned();
            return Err(doc.error(first, "a statement in a down that is said to have none", Some(hint)));
        }
        transactions(doc, kind, &section.script, &starts)?;
        match side {
            Side::Up => self.up = Some(section),
            Side::Down => self.down = Some(section),
        }
        Ok(())
    }
}

/// A script that runs in a transaction has none of its own; another has to end those that it begins.
fn transactions(doc: Document<'_>, kind: Kind, script: &Script, starts: &[usize]) -> Result<(), ConfigError> {
    let mut open = None;
    for (statement, start) in script.statements.iter().zip(starts) {
        let words: Vec<String> = tokens(&statement.sql, kind)
            .take(3)
            .map(|token| if token.is == Is::Word { token.text.to_ascii_uppercase() } else { String::new() })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let begins = match words[..] {
            ["ROLLBACK", "TO", ..] | ["ROLLBACK", "WORK" | "TRANSACTION", "TO"] => continue,
            ["COMMIT" | "ROLLBACK", "PREPARED", ..] if !script.transaction => continue,
            ["BEGIN", ..] => true,
            ["START", "TRANSACTION", ..] if kind == Kind::Postgres => true,
            ["COMMIT" | "END" | "ROLLBACK", ..] => false,
            ["ABORT", ..] | ["PREPARE", "TRANSACTION", ..] if kind == Kind::Postgres => false,
            _ => continue,
        };
        if script.transaction {
            let hint =
                "take it out: all statements run in one transaction; or say `transaction:false` behind the directive";
            let message = format!("{} in a script that runs in a transaction", words[0]);
            return Err(doc.error(*start, message, Some(hint.to_owned())));
        }
        if begins == open.is_some() {
            let (message, hint) = if begins {
                ("a transaction begins within one", "end the first with COMMIT")
            } else {
                ("no transaction is open here", "begin one with BEGIN, or take this out")
            };
            return Err(doc.error(*start, message, Some(hint.to_owned())));
        }
        open = begins.then_some(*start);
    }
    match open {
        None => Ok(()),
        Some(start) => Err(doc.error(start, "this transaction is never ended", Some("end it with COMMIT".to_owned()))),
    }
}

/// What stands behind `migrate:up` and `migrate:down`.
fn options(doc: Document<'_>, side: Side, rest: &str, at: usize, section: &mut Section) -> Result<(), ConfigError> {
    if side == Side::Down {
        let word = rest.split(|c: char| c == ':' || c.is_whitespace()).next().unwrap_or_default();
        if rest == "nothing" {
            section.none = Some(Down::Nothing);
            return Ok(());
        }
        if word == "irreversible" {
            let reason = rest[word.len()..].trim_start().strip_prefix(':').unwrap_or_default().trim();
            if reason.is_empty() {
                let hint = "say why: -- migrate:down irreversible: the rows are gone for good".to_owned();
                return Err(doc.error(at, "`irreversible` without a reason", Some(hint)));
            }
            section.none = Some(Down::Irreversible(reason.to_owned()));
            return Ok(());
        }
    }
    let mut said = false;
    let mut offset = 0;
    for word in rest.split_whitespace() {
        let start = offset + rest[offset..].find(word).unwrap_or(0);
        offset = start + word.len();
        match word {
            "transaction:false" | "transaction:true" if !said => {
                section.script.transaction = word == "transaction:true";
                said = true;
            }
            "transaction:false" | "transaction:true" => {
                return Err(doc.error(at + start, "`transaction` stands twice", None));
            }
            "nothing" | "irreversible" | "irreversible:" if side == Side::Down => {
                let message = format!("`{}` stands alone behind `-- migrate:down`", word.trim_end_matches(':'));
                let hint = "take the other words out; a reason follows only `irreversible:`".to_owned();
                return Err(doc.error(at + start, message, Some(hint)));
            }
            _ => {
                let known: &[&str] = match side {
                    Side::Up => &["transaction:false", "transaction:true"],
                    Side::Down => &["transaction:false", "transaction:true", "nothing", "irreversible: reason"],
                };
                let hint = did_you_mean(word, known.iter().copied())
                    .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
                let message = format!("unknown option `{word}` of migrate:{}", side.name());
                return Err(doc.error(at + start, message, Some(hint)));
            }
        }
    }
    Ok(())
}

/// The way down of a revision, which has to be said.
fn fate(up_doc: Document<'_>, up: &Section, doc: Document<'_>, down: Section) -> Result<Down, ConfigError> {
    match down.none {
        Some(none) => Ok(none),
        None if down.script.statements.is_empty() => {
            Err(doc.error(down.at, "the down is empty", Some(EMPTY_DOWN.to_owned())))
        }
        None if up.script.statements.is_empty() => {
            let hint = "a revision that does nothing says `-- migrate:down nothing`".to_owned();
            Err(up_doc.error(up.at, "the up is empty, and the down is not", Some(hint)))
        }
        None => Ok(Down::Sql(down.script)),
    }
}
