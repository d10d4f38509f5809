//! Migration files: `migrations/20250301090000_reminders_to_sqlite.toml`.

use std::path::{Path, PathBuf};

use super::config::{keys, kind_of, read};
use super::document::{At, ConfigError, Document, Section, Text, did_you_mean};
use super::reshape::{Reshape, reshape};
use super::{Config, Kind};

/// What one migration file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its 14 digits, by which migrations are ordered.
    pub stamp: String,
    /// What follows them in the file's name: `reminders_to_sqlite`.
    pub slug: String,
    /// The file.
    pub path: PathBuf,
    /// Its title; the slug in words if it has none.
    pub title: String,
    /// From where to where it goes; of one that changes a store in place, both are that store.
    pub transfer: Transfer,
    /// What changes in place, if it is of that kind.
    pub reshape: Option<Reshape>,
    /// Why some rows may have no way back, if the author says so.
    pub irreversible: Option<String>,
    /// The file's text, to show lines of it.
    pub text: String,
}

/// `[transfer]`: rows move from one store to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Where `[transfer]` stands.
    pub at: At,
    /// Name of the source store.
    pub from: String,
    /// Name of the target store.
    pub to: String,
    /// `[[transfer.table]]`: the collections of a JSON source; empty for others.
    pub tables: Vec<TransferTable>,
    /// `[[transfer.column]]`.
    pub columns: Vec<TransferColumn>,
    /// `[[transfer.dangling]]`.
    pub dangling: Vec<TransferDangling>,
    /// `tables`: the only tables that move; empty when all do.
    pub only: Vec<String>,
    /// `exclude`: tables that stay.
    pub exclude: Vec<String>,
    /// `rename`: source table, target table.
    pub rename: Vec<(String, String)>,
}

/// `[[transfer.table]]`: a collection of a JSON file and the table it becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferTable {
    /// Where it stands.
    pub at: At,
    /// The collection as a JSON Pointer; `""` is the whole document.
    pub source: String,
    /// The columns of the key: names of members, or the name that an object's own keys get.
    pub key: Vec<String>,
    /// The table.
    pub into: String,
    /// Members that each record must have.
    pub required: Vec<String>,
}

/// `[[transfer.column]]`: what one column becomes, where it is not left to the scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferColumn {
    /// Where it stands.
    pub at: At,
    /// The table, by its name in the target of a JSON source, else in the source.
    pub table: String,
    /// The column.
    pub column: String,
    /// Its type in the target.
    pub ty: Option<String>,
    /// Name of the codec.
    pub codec: Option<String>,
    /// Times without a zone are in UTC.
    pub utc: bool,
}

/// `[[transfer.dangling]]`: what becomes of rows that refer to rows that do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferDangling {
    /// Where it stands.
    pub at: At,
    /// The table that refers.
    pub table: String,
    /// The foreign key's columns.
    pub columns: Vec<String>,
    /// What becomes of such rows.
    pub rows: DanglingRows,
}

/// What becomes of rows that refer to rows that do not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DanglingRows {
    /// They move as they are, and the foreign key is NOT VALID.
    #[default]
    Keep,
    /// The reference becomes NULL in the target.
    Null,
    /// They stay in the source, with the rows that refer to them.
    Quarantine,
}

/// All that lies in the folder of migrations, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrations {
    /// The folder.
    pub folder: PathBuf,
    /// Migrations by stamp.
    pub list: Vec<Migration>,
    /// Names of SQL revisions, which this version does not run.
    pub sql: Vec<String>,
}

pub(super) const KEYS: &[(&str, &[&str])] = &[
    ("", &["title", "irreversible", "transfer", "rekey", "merge", "split", "alter"]),
    ("transfer", &["from", "to", "tables", "exclude", "rename", "table", "column", "dangling"]),
    ("transfer.table", &["source", "key", "into", "required"]),
    ("transfer.dangling", &["table", "columns", "rows"]),
    ("transfer.column", &["table", "column", "type", "codec", "zone"]),
    ("rekey", &["store", "type", "tables", "invalid", "reference"]),
    ("rekey.reference", &["table", "column", "to", "invalid"]),
    ("alter", &["store", "table", "column"]),
    ("alter.table", &["table", "rename"]),
    ("merge", &["store", "into", "discriminator", "from"]),
    ("merge.from", &["table", "value", "columns", "constants", "offset"]),
    ("split", &["store", "table", "discriminator", "into", "reference"]),
    ("split.reference", &["table", "column", "to"]),
    ("split.into", &["table", "value", "columns", "without"]),
    (
        "alter.column",
        &["table", "column", "rename", "drop", "add", "type", "default", "not_null", "codec", "zone", "up", "down"],
    ),
];

impl Config {
    /// Reads all migrations. A folder that does not exist holds none.
    ///
    /// # Errors
    /// The first thing that is wrong in any of them, with its place.
    pub fn migrations(&self) -> Result<Migrations, ConfigError> {
        let folder = &self.migrations;
        let mut names = Vec::new();
        let unreadable = |cause| ConfigError::Read { file: folder.clone(), cause, hint: None };
        match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(unreadable(cause)),
            Ok(entries) => {
                for entry in entries {
                    names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
                }
            }
        }
        names.sort();
        let mut all = Migrations { folder: folder.clone(), ..Migrations::default() };
        for name in names {
            if name.starts_with('.') {
                continue;
            }
            if name.ends_with(".sql") {
                all.sql.push(name);
            } else if name.ends_with(".toml") {
                let migration = Migration::load(&folder.join(&name), self)?;
                if let Some(twin) = all.list.iter().find(|m| m.stamp == migration.stamp) {
                    let message = format!("its stamp {} is also that of {}", twin.stamp, file_name(&twin.path));
                    let hint = Some("rename one of them: stamps say what comes first".to_owned());
                    return Err(ConfigError::File { file: migration.path, message, hint });
                }
                all.list.push(migration);
            }
        }
        for migration in &all.list {
            let twin = |name: &&String| order(digits(name)) == order(&migration.stamp);
            if let Some(sql) = all.sql.iter().find(twin) {
                let message = format!("its stamp {} is also that of {sql}", migration.stamp);
                let hint = Some("rename one of them: stamps say what comes first".to_owned());
                return Err(ConfigError::File { file: migration.path.clone(), message, hint });
            }
        }
        Ok(all)
    }
}

impl Migrations {
    /// The migration that a person names: by stamp, the beginning of one, slug, or file name.
    ///
    /// # Errors
    /// None or several are meant, or a SQL revision.
    pub fn find(&self, name: &str) -> Result<&Migration, ConfigError> {
        let error = |message: String, hint: String| {
            Err(ConfigError::File { file: self.folder.clone(), message, hint: Some(hint) })
        };
        let name = name.trim();
        let named = |file: &str| {
            let stem = file.trim_end_matches(".sql").trim_end_matches(".toml");
            let stem = stem.trim_end_matches(".up").trim_end_matches(".down");
            file == name || stem == name || stem.split_once('_').is_some_and(|(_, slug)| slug == name)
        };
        let numeric = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        let begins = |file: &str| numeric && (file.starts_with(name) || order(digits(file)) == order(name));
        let found: Vec<_> =
            self.list.iter().filter(|m| named(&file_name(&m.path)) || begins(&file_name(&m.path))).collect();
        match found[..] {
            [one] => Ok(one),
            [] if self.sql.iter().any(|file| named(file) || begins(file)) => {
                error(format!("`{name}` is a SQL revision"), "SQL revisions come with a later version".into())
            }
            [] => {
                let hint = did_you_mean(name, self.list.iter().flat_map(|m| [m.slug.as_str(), m.stamp.as_str()]));
                error(format!("there is no migration `{name}`"), hint.unwrap_or_else(|| self.known()))
            }
            _ => error(format!("`{name}` may mean {} migrations", found.len()), self.known()),
        }
    }

    fn known(&self) -> String {
        if self.list.is_empty() {
            return "there is none yet".to_owned();
        }
        let names: Vec<String> = self.list.iter().map(|m| format!("{}_{}", m.stamp, m.slug)).collect();
        format!("there are: {}", names.join(", "))
    }
}

/// Versions are numbers, however many digits they are written with.
pub(crate) fn order(stamp: &str) -> (usize, &str) {
    let digits = stamp.trim_start_matches('0');
    (digits.len(), digits)
}

/// The digits that a file's name begins with.
fn digits(name: &str) -> &str {
    &name[..name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len())]
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Migration {
    /// Reads one migration of a project.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(path: &Path, config: &Config) -> Result<Migration, ConfigError> {
        Migration::parse(&read(path, "`backout plan` lists the migrations")?, path, config)
    }

    /// The same from a text that the file at `path` would hold.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str, path: &Path, config: &Config) -> Result<Migration, ConfigError> {
        let (stamp, slug) = stamp_and_slug(path)?;
        let doc = Document { file: path, text };
        let root = doc.parse()?;
        let top = Section::new(doc, "", root.get_ref(), 0, keys(KEYS, ""))?;
        let title = top.text("title")?.map_or_else(|| slug.replace('_', " "), |text| text.value);
        let irreversible = top.text("irreversible")?.map(|text| text.value);
        let reshape = reshape(&top, config)?;
        let transfer = match (&reshape, top.section("transfer", keys(KEYS, "transfer"))?) {
            (Some(r), _) => Transfer { at: r.at, from: r.store.clone(), to: r.store.clone(), ..Transfer::default() },
            (None, Some(section)) => transfer(&section, config)?,
            (None, None) => {
                let hint = "[transfer] says from where to where: from = \"local\", to = \"main\"; [rekey], [alter], [merge] and [split] change one store";
                return Err(top.missing("transfer", hint));
            }
        };
        let (path, text) = (path.to_owned(), text.to_owned());
        Ok(Migration { stamp, slug, path, title, transfer, reshape, irreversible, text })
    }

    /// It changes tables in the store they are in.
    pub fn in_place(&self) -> bool {
        self.transfer.from == self.transfer.to
    }

    /// An error at a place of this file, for whoever finds out later that what stands there cannot be.
    pub fn refuse(&self, at: At, message: impl Into<String>, hint: Option<String>) -> ConfigError {
        let place = Document { file: &self.path, text: &self.text }.place(at);
        ConfigError::At { place, message: message.into(), hint }
    }
}

fn stamp_and_slug(path: &Path) -> Result<(String, String), ConfigError> {
    let name = file_name(path);
    let stem = name.strip_suffix(".toml").unwrap_or(&name);
    match stem.split_once('_') {
        Some((stamp, slug)) if stamp.len() == 14 && stamp.bytes().all(|b| b.is_ascii_digit()) && !slug.is_empty() => {
            Ok((stamp.to_owned(), slug.to_owned()))
        }
        _ => Err(ConfigError::File {
            file: path.to_owned(),
            message: "its name is not that of a migration".into(),
            hint: Some("14 digits, `_`, a few words: 20250301090000_reminders_to_sqlite.toml".into()),
        }),
    }
}

pub(super) fn values(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

fn transfer(section: &Section<'_>, config: &Config) -> Result<Transfer, ConfigError> {
    let doc = section.doc;
    let store = |key: &str| -> Result<(Text, Kind), ConfigError> {
        let name = section.required(key, "the name of a store in backout.toml")?;
        match (config.store(&name.value), config.unset(&name.value)) {
            (Some(url), _) => Ok((name, kind_of(url))),
            // what else is said of a source depends on what it is
            (None, Some(unset)) if key == "from" => {
                let message =
                    format!("the URL of `{}` needs the variable {}, which is not set", name.value, unset.variable);
                Err(doc.error(name.start, message, Some(super::config::set_it(&unset.variable))))
            }
            (None, Some(unset)) => Ok((name, unset.kind)),
            (None, None) => Err(config.no_such_store(doc, &name)),
        }
    };
    let (from, kind) = store("from")?;
    let (to, to_kind) = store("to")?;
    if from.value == to.value {
        let message = format!("`from` and `to` are both `{}`", to.value);
        return Err(doc.error(to.start, message, Some("a transfer goes from one store to another".into())));
    }
    if to_kind == Kind::Json {
        let hint = Some("`to` is a SQLite or PostgreSQL store".to_owned());
        return Err(doc.error(to.start, "a JSON file cannot be the target", hint));
    }

    let mut tables: Vec<TransferTable> = Vec::new();
    for table in section.sections("table", "transfer.table", keys(KEYS, "transfer.table"))? {
        if kind != Kind::Json {
            let hint = "for a SQL source: tables = [\"a\"], exclude = [\"b\"], rename = { a = \"c\" } in [transfer]";
            let message = format!("[[transfer.table]] is for a JSON source, and `{}` is not one", from.value);
            return Err(doc.error(table.start, message, Some(hint.into())));
        }
        let table = transfer_table(&table, &tables)?;
        tables.push(table);
    }
    if kind == Kind::Json {
        for key in ["tables", "exclude", "rename"] {
            if section.has(key) {
                let message = format!("`{key}` is for a SQL source, and `{}` is a JSON file", from.value);
                let hint = Some("name each collection in a [[transfer.table]]".to_owned());
                return Err(doc.error(section.start_of(key), message, hint));
            }
        }
        if tables.is_empty() {
            let hint = r#"[[transfer.table]] with source = "$", key = "id", into = "events""#;
            return Err(doc.error(section.start, "a JSON source needs a [[transfer.table]]", Some(hint.into())));
        }
    }

    let only = section.texts("tables", false)?;
    let exclude = section.texts("exclude", false)?;
    if let Some(both) = exclude.iter().find(|e| only.iter().any(|o| o.value == e.value)) {
        return Err(doc.error(both.start, format!("`{}` is both in `tables` and in `exclude`", both.value), None));
    }
    let moves = |name: &str| {
        (only.is_empty() || only.iter().any(|o| o.value == name)) && !exclude.iter().any(|e| e.value == name)
    };
    let mut rename: Vec<(String, String)> = Vec::new();
    for (old, new) in section.pairs("rename")? {
        if !moves(&old.value) {
            return Err(doc.error(old.start, format!("`{}` is renamed but does not move", old.value), None));
        }
        if new.value.trim().is_empty() {
            return Err(doc.error(new.start, format!("`{}` is renamed to nothing", old.value), None));
        }
        if let Some((other, _)) = rename.iter().find(|(_, name)| *name == new.value) {
            let message = format!("`{other}` and `{}` are both renamed to `{}`", old.value, new.value);
            return Err(doc.error(new.start, message, None));
        }
        rename.push((old.value, new.value));
    }

    let mut dangling: Vec<TransferDangling> = Vec::new();
    for choice in section.sections("dangling", "transfer.dangling", keys(KEYS, "transfer.dangling"))? {
        let table = choice.required("table", "the table whose rows refer to nothing")?;
        let rows = choice.required("rows", "`keep`, `null` or `quarantine`")?;
        if kind == Kind::Json || !moves(&table.value) {
            return Err(doc.error(table.start, format!("table `{}` does not move", table.value), None));
        }
        let become_ = match rows.value.as_str() {
            "keep" => DanglingRows::Keep,
            "null" => DanglingRows::Null,
            "quarantine" => DanglingRows::Quarantine,
            other => {
                let hint = "`keep` moves them and makes the foreign key NOT VALID; `null` makes the reference NULL in the target; `quarantine` leaves them in the source";
                return Err(doc.error(rows.start, format!("rows cannot be `{other}`"), Some(hint.into())));
            }
        };
        dangling.push(TransferDangling {
            at: doc.at(choice.start),
            table: table.value,
            columns: values(choice.texts("columns", true)?),
            rows: become_,
        });
    }

    let mut columns: Vec<TransferColumn> = Vec::new();
    for column in section.sections("column", "transfer.column", keys(KEYS, "transfer.column"))? {
        let start = column.start;
        let (table, name) = (column.required("table", "its table")?, column.required("column", "its name")?);
        if kind == Kind::Json && !tables.iter().any(|t| t.into == table.value) {
            let hint = did_you_mean(&table.value, tables.iter().map(|t| t.into.as_str()));
            return Err(doc.error(table.start, format!("no [[transfer.table]] goes into `{}`", table.value), hint));
        }
        if kind != Kind::Json && !moves(&table.value) {
            return Err(doc.error(table.start, format!("table `{}` does not move", table.value), None));
        }
        let (ty, codec) = (column.text("type")?, column.text("codec")?);
        let zone = column.text("zone")?;
        if let Some(zone) = zone.as_ref().filter(|z| z.value != "UTC") {
            let hint = "local times are ambiguous when clocks are set back: keep them as timestamp, without a zone";
            return Err(doc.error(
                zone.start,
                format!("`{}` is no zone that a time comes back from", zone.value),
                Some(hint.into()),
            ));
        }
        if ty.is_none() && codec.is_none() {
            return Err(column.missing("type", "say `type`, `codec` or both"));
        }
        if columns.iter().any(|c| c.table == table.value && c.column == name.value) {
            return Err(doc.error(start, format!("`{}.{}` stands here twice", table.value, name.value), None));
        }
        columns.push(TransferColumn {
            at: doc.at(start),
            table: table.value,
            column: name.value,
            ty: ty.map(|t| t.value),
            codec: codec.map(|c| c.value),
            utc: zone.is_some(),
        });
    }
    Ok(Transfer {
        at: doc.at(section.start),
        from: from.value,
        to: to.value,
        tables,
        columns,
        dangling,
        only: values(only),
        exclude: values(exclude),
        rename,
    })
}

fn transfer_table(section: &Section<'_>, others: &[TransferTable]) -> Result<TransferTable, ConfigError> {
    let doc = section.doc;
    let source = match section.source()? {
        Some(text) => text,
        None => return Err(section.missing("source", r#"source = "$" is the whole document, "/events" a part of it"#)),
    };
    let pointer = pointer(&source.value).map_err(|message| {
        let hint = r#"the whole document is "$"; a part of it "/events" (a JSON Pointer) or "$.events""#;
        doc.error(source.start, message, Some(hint.into()))
    })?;
    let key = section.texts("key", true)?;
    if key.is_empty() {
        return Err(section.missing("key", "the member that identifies a record: key = \"id\", or a list of them"));
    }
    let into = match section.text("into")? {
        Some(text) => text.value,
        None => match pointer.rsplit('/').next() {
            Some(last) if !last.is_empty() => last.replace("~1", "/").replace("~0", "~"),
            _ => return Err(section.missing("into", "the table that the records become: into = \"events\"")),
        },
    };
    if others.iter().any(|t| t.into == into) {
        return Err(doc.error(section.start_of("into"), format!("two collections go into `{into}`"), None));
    }
    let nested = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
    if let Some(other) = others.iter().find(|t| nested(&t.source, &pointer) || nested(&pointer, &t.source)) {
        let message = format!("this collection and that of `{}` overlap", other.into);
        return Err(doc.error(source.start, message, Some("each record moves once".into())));
    }
    Ok(TransferTable {
        at: doc.at(section.start),
        source: pointer,
        key: values(key),
        into,
        required: values(section.texts("required", false)?),
    })
}

/// `$`, `$.a.b` or `/a/b` as a JSON Pointer.
fn pointer(source: &str) -> Result<String, String> {
    let source = source.trim();
    if let Some(path) = source.strip_prefix('$') {
        if path.is_empty() {
            return Ok(String::new());
        }
        let parts: Vec<&str> = path.split('.').skip(1).collect();
        let plain = |part: &&str| !part.is_empty() && !part.contains(['[', ']', '*', '?', '(', '\'', '"']);
        if !path.starts_with('.') || !parts.iter().all(plain) {
            return Err(format!("`{source}` is not a path of members"));
        }
        return Ok(parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect());
    }
    if source.is_empty() {
        return Ok(String::new());
    }
    if !source.starts_with('/') {
        return Err(format!("`{source}` is not a JSON Pointer; did you mean `/{source}`?"));
    }
    if source.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(format!("`{source}` is not a JSON Pointer: after `~` comes 0 or 1"));
    }
    Ok(source.to_owned())
}
