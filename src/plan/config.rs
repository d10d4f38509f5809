//! `backout.toml`: the stores, the way back's rules, and the application around the data.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{ConfigError, Document, Section, Text, did_you_mean};
use super::{Kind, dotenv};

/// Where a variable's value comes from; the caller's environment, usually.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names and URLs.
type Stores = Vec<(String, String)>;

/// What `backout.toml` says. Its `Debug` shows no password and nothing a switch sets.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// The file itself.
    pub file: PathBuf,
    /// The project's folder, in which the file lies and its commands run.
    pub folder: PathBuf,
    /// `[project] name`, or else the folder's name.
    pub name: String,
    /// Where the migrations are.
    pub migrations: PathBuf,
    /// `[stores]` in the file's order, as `json:…`, `sqlite:…` or `postgres://…`.
    pub stores: Stores,
    /// Those of `[stores]` whose URL needs a variable that is not set. Only what uses them fails: a way back must not need the URL of
    /// a target that is gone.
    pub unset: Vec<Unset>,
    /// `[project] default_store`.
    pub default_store: Option<String>,
    /// `[project] scratch`: a PostgreSQL database in which downs are proven, and everything else may be dropped.
    pub scratch: Option<String>,
    /// `[rollback]`.
    pub rollback: RollbackConfig,
    /// `[[service]]` in the file's order.
    pub services: Vec<Service>,
    /// `[[switch]]` in the file's order.
    pub switches: Vec<SwitchConfig>,
    /// What the file says and this version does not use.
    pub unused: Vec<String>,
}

/// A store of which the URL is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// The store's name.
    pub store: String,
    /// The variable that is not set.
    pub variable: String,
    /// What its URL begins with, or else PostgreSQL.
    pub(super) kind: Kind,
}

impl Unset {
    /// What its URL begins with, or else PostgreSQL.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// What to do about a variable that is not set.
pub fn set_it(name: &str) -> String {
    format!("export {name}, or put {name}=… into .env beside backout.toml")
}

/// `[rollback]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackConfig {
    /// How long after a cutover the way back is meant to be open.
    pub window: Duration,
    /// How long a rollback may take.
    pub timeout: Duration,
    /// Keep the target, sealed, when it is rolled back.
    pub create_backup: bool,
    /// Verify everything once the application is back.
    pub verify: bool,
    /// Remove the kept target once the rollback is verified.
    pub clean_target: bool,
    /// How many changes a store's log may hold before it is given up for a full comparison.
    pub log_limit: u64,
}

impl Default for RollbackConfig {
    fn default() -> Self {
        RollbackConfig {
            window: Duration::from_secs(24 * 3600),
            timeout: Duration::from_secs(300),
            create_backup: true,
            verify: true,
            clean_target: false,
            log_limit: 1_000_000,
        }
    }
}

/// `[[service]]`: a program of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, for people.
    pub name: String,
    /// How it is stopped and started.
    pub control: Control,
    /// How long each command may take, and how long it may be until it is healthy.
    pub timeout: Duration,
}

/// How a service is stopped, started and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// As a unit of systemd.
    Systemd(String),
    /// With commands for `sh -c`, run in the project's folder.
    Commands {
        /// Stops it; succeeds too when it does not run.
        stop: String,
        /// Starts it and returns; succeeds too when it runs.
        start: String,
        /// Succeeds when it runs and is well.
        check: Option<String>,
    },
}

/// `[[switch]]`: a change of the application's configuration that can be taken back.
#[derive(Clone, PartialEq, Eq)]
pub enum SwitchConfig {
    /// Sets variables in a `.env` file.
    Dotenv {
        /// The file.
        path: PathBuf,
        /// Variables and values, in the file's order.
        set: Vec<(String, String)>,
        /// A variable that a value needs and that is not set: it can be undone, and not be applied.
        unset: Option<String>,
    },
    /// Puts another file's content in place of a file's.
    File {
        /// The file.
        path: PathBuf,
        /// The one whose content it gets.
        with: PathBuf,
    },
}

impl std::fmt::Debug for SwitchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SwitchConfig::Dotenv { path, set, .. } => {
                let keys: Vec<_> = set.iter().map(|(key, _)| key).collect();
                f.debug_struct("Dotenv").field("path", path).field("set", &keys).finish()
            }
            SwitchConfig::File { path, with } => {
                f.debug_struct("File").field("path", path).field("with", with).finish()
            }
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stores: Vec<_> = self.stores.iter().map(|(name, url)| (name, redact(url))).collect();
        f.debug_struct("Config")
            .field("file", &self.file)
            .field("name", &self.name)
            .field("migrations", &self.migrations)
            .field("stores", &stores)
            .field("unset", &self.unset)
            .field("default_store", &self.default_store)
            .field("rollback", &self.rollback)
            .field("scratch", &self.scratch.as_deref().map(redact))
            .field("services", &self.services)
            .field("switches", &self.switches)
            .field("unused", &self.unused)
            .finish()
    }
}

/// Keys of each section that is read; sections that are not built yet have none and are not looked into.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    ("", &["project", "stores", "rollback", "service", "switch", "backup", "guard", "probe", "notify", "hook"]),
    ("project", &["name", "migrations", "default_store", "scratch"]),
    ("rollback", &["window", "timeout", "create_backup", "verify", "clean_target", "log_limit"]),
    ("service", &["name", "systemd", "stop", "start", "check", "timeout"]),
    ("switch", &["dotenv", "set", "file", "with", "flag", "to"]),
];

pub(super) fn keys(of: &'static [(&'static str, &'static [&'static str])], section: &str) -> &'static [&'static str] {
    of.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

impl Config {
    /// Reads `file`. `lookup` gives the values of `${VAR}`; what it lacks is looked for in `.env` beside the file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(file: &Path, lookup: Lookup<'_>) -> Result<Config, ConfigError> {
        let text = read(file, "`backout init` writes one")?;
        let beside = folder_of(file).join(".env");
        let dotenv = match std::fs::read(&beside) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound && text.contains("${") => {
                let hint = Some("variables that are not exported are looked for there".to_owned());
                return Err(ConfigError::Read { file: beside, cause, hint });
            }
            Err(_) => Vec::new(),
        };
        Config::parse(&text, file, &|name| {
            lookup(name).or_else(|| {
                let raw = *dotenv::raws(&dotenv, name).last()?;
                String::from_utf8(dotenv::decode(raw)).ok()
            })
        })
    }

    /// The same from a text that `file` would hold.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str, file: &Path, lookup: Lookup<'_>) -> Result<Config, ConfigError> {
        let doc = Document { file, text };
        let root = doc.parse()?;
        let top = Section::new(doc, "", root.get_ref(), 0, keys(KEYS, ""))?;
        let folder = folder_of(file);
        let mut unused = Vec::new();
        for (key, name) in [
            ("backup", "[backup]"),
            ("guard", "[guard]"),
            ("probe", "[[probe]]"),
            ("notify", "[[notify]]"),
            ("hook", "[[hook]]"),
        ] {
            if top.has(key) {
                unused.push(name.to_owned());
            }
        }

        let (stores, unset) = stores(&top, doc, root.get_ref(), lookup)?;
        let mut config = Config {
            file: file.to_owned(),
            name: name_of(&folder),
            migrations: folder.join("migrations"),
            stores,
            unset,
            default_store: None,
            scratch: None,
            rollback: RollbackConfig::default(),
            services: Vec::new(),
            switches: Vec::new(),
            unused,
            folder,
        };
        if let Some(project) = top.section("project", keys(KEYS, "project"))? {
            config.project(&project, lookup)?;
        }
        if let Some(section) = top.section("rollback", keys(KEYS, "rollback"))? {
            let by_default = RollbackConfig::default();
            config.rollback = RollbackConfig {
                window: section.duration("window", by_default.window)?,
                timeout: section.duration("timeout", by_default.timeout)?,
                create_backup: section.boolean("create_backup", by_default.create_backup)?,
                verify: section.boolean("verify", by_default.verify)?,
                clean_target: section.boolean("clean_target", by_default.clean_target)?,
                log_limit: section.thousands("log_limit", by_default.log_limit)?,
            };
        }
        for section in top.sections("service", "service", keys(KEYS, "service"))? {
            let (name, service) = service(&section)?;
            if config.services.iter().any(|s| s.name == service.name) {
                let hint = Some("each service has a name of its own".to_owned());
                return Err(doc.error(name.start, format!("there are two services `{}`", service.name), hint));
            }
            config.services.push(service);
        }
        for section in top.sections("switch", "switch", keys(KEYS, "switch"))? {
            config.switch(&section, lookup)?;
        }
        Ok(config)
    }

    fn project(&mut self, section: &Section<'_>, lookup: Lookup<'_>) -> Result<(), ConfigError> {
        if let Some(name) = section.text("name")? {
            self.name = name.value;
        }
        if let Some(folder) = section.text("migrations")? {
            self.migrations = self.folder.join(folder.value);
        }
        if let Some(store) = section.text("default_store")? {
            if self.store(&store.value).is_none() && self.unset(&store.value).is_none() {
                return Err(self.no_such_store(section.doc, &store));
            }
            self.default_store = Some(store.value);
        }
        if let Some(url) = section.text("scratch")? {
            let (doc, missing) = (section.doc, RefCell::new(None));
            let expanded = expand(doc, &url, &noting(lookup, &missing))?;
            // only a proof on PostgreSQL needs it, and says so then
            if missing.into_inner().is_none() {
                let scratch =
                    store_url(&expanded).map_err(|(message, hint)| doc.error(url.start, message, Some(hint)))?;
                if !scratch.starts_with("postgres") {
                    let hint = "a PostgreSQL database of its own: postgres://…; for SQLite none is needed".to_owned();
                    return Err(doc.error(url.start, "the scratch database is not a PostgreSQL one", Some(hint)));
                }
                self.scratch = Some(scratch);
            }
        }
        Ok(())
    }

    fn switch(&mut self, section: &Section<'_>, lookup: Lookup<'_>) -> Result<(), ConfigError> {
        let doc = section.doc;
        let kinds: Vec<&str> = ["dotenv", "file", "flag"].into_iter().filter(|key| section.has(key)).collect();
        let [kind] = kinds[..] else {
            let message = "a [[switch]] has one of `dotenv`, `file` and `flag`";
            let hint =
                r#"dotenv = ".env" with set = { NAME = "value" }, or file = "settings.py" with with = "other.py""#;
            return Err(doc.error(section.start, message, Some(hint.into())));
        };
        let belongs: &[&str] = match kind {
            "dotenv" => &["dotenv", "set"],
            "file" => &["file", "with"],
            _ => &["flag", "to"],
        };
        for key in keys(KEYS, "switch") {
            if section.has(key) && !belongs.contains(key) {
                let message = format!("`{key}` does not belong to a [[switch]] with `{kind}`");
                return Err(doc.error(section.start_of(key), message, Some(format!("here: {}", belongs.join(", ")))));
            }
        }
        if kind == "flag" {
            self.unused.push("[[switch]] flag".into());
            return Ok(());
        }
        let given = section.required(kind, "the file that is switched")?;
        let path = self.folder.join(expand(doc, &given, lookup)?);
        if self.switches.iter().any(|s| *s.path() == path) {
            let hint = Some("put everything that changes in a file into one [[switch]]".to_owned());
            return Err(doc.error(given.start, format!("there are two switches of `{}`", given.value), hint));
        }
        let switch = if kind == "dotenv" {
            let pairs = section.pairs("set")?;
            if pairs.is_empty() {
                return Err(section.missing("set", r#"set = { NAME = "value" }"#));
            }
            let (mut set, unset) = (Vec::new(), RefCell::new(None));
            for (key, value) in pairs {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                if key.value.is_empty() || !key.value.chars().all(fits) {
                    let message = format!("`{}` is not a variable's name", key.value);
                    return Err(doc.error(key.start, message, Some("letters, digits, `_`, `.` and `-`".into())));
                }
                set.push((key.value, expand(doc, &value, &noting(lookup, &unset))?));
            }
            SwitchConfig::Dotenv { path, set, unset: unset.into_inner() }
        } else {
            let with = section.required("with", "the file whose content it gets")?;
            let with = (self.folder.join(expand(doc, &with, lookup)?), with.start);
            if with.0 == path {
                return Err(doc.error(with.1, "`with` is the file itself", None));
            }
            SwitchConfig::File { path, with: with.0 }
        };
        self.switches.push(switch);
        Ok(())
    }

    /// A store that is named, and whose URL needs a variable that is not set.
    pub fn unset(&self, name: &str) -> Option<&Unset> {
        self.unset.iter().find(|u| u.store == name)
    }

    /// The URL of a store.
    pub fn store(&self, name: &str) -> Option<&str> {
        self.stores.iter().find(|(n, _)| n == name).map(|(_, url)| url.as_str())
    }

    /// What kind a store is, whether or not its URL is known.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.store(name).map(kind_of).or_else(|| self.unset(name).map(|unset| unset.kind))
    }

    pub(crate) fn no_such_store(&self, doc: Document<'_>, name: &Text) -> ConfigError {
        let unset = self.unset.iter().map(|u| u.store.as_str());
        let names: Vec<&str> = self.stores.iter().map(|(name, _)| name.as_str()).chain(unset).collect();
        let hint = did_you_mean(&name.value, names.iter().copied()).unwrap_or_else(|| match names[..] {
            [] => "[stores] in backout.toml is empty".to_owned(),
            _ => format!("stores in backout.toml: {}", names.join(", ")),
        });
        doc.error(name.start, format!("there is no store `{}`", name.value), Some(hint))
    }
}

impl SwitchConfig {
    /// The file that is switched.
    pub fn path(&self) -> &PathBuf {
        match self {
            SwitchConfig::Dotenv { path, .. } | SwitchConfig::File { path, .. } => path,
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn name_of(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let whole = whole.canonicalize().unwrap_or(whole);
    whole.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned())
}

pub(crate) fn read(file: &Path, missing: &str) -> Result<String, ConfigError> {
    let bytes = std::fs::read(file).map_err(|cause| {
        let hint = (cause.kind() == std::io::ErrorKind::NotFound).then(|| missing.to_owned());
        ConfigError::Read { file: file.to_owned(), cause, hint }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let hint = Some("save it as UTF-8".to_owned());
        Document { file, text: &valid }.error(valid.len(), "this is not UTF-8", hint)
    })
}

fn stores<'d>(
    top: &Section<'d>,
    doc: Document<'d>,
    root: &'d toml::de::DeTable<'d>,
    lookup: Lookup<'_>,
) -> Result<(Stores, Vec<Unset>), ConfigError> {
    let Some(value) = root.get("stores") else {
        return Err(top.missing("stores", "[stores] names each store: local = \"sqlite:app.db\""));
    };
    let Some(table) = value.get_ref().as_table() else {
        return Err(doc.error(value.span().start, "`stores` is not a table [stores]", None));
    };
    let (mut stores, mut unset) = (Vec::new(), Vec::new());
    for (name, url) in super::document::pairs(doc, "[stores]", table)? {
        let missing = RefCell::new(None);
        let expanded = expand(doc, &url, &noting(lookup, &missing))?;
        if let Some(variable) = missing.into_inner() {
            unset.push(Unset { store: name.value, variable, kind: kind_of(&expanded) });
            continue;
        }
        let url = store_url(&expanded).map_err(|(message, hint)| {
            doc.error(url.start, format!("store `{}`: {message}", name.value), Some(hint))
        })?;
        stores.push((name.value, url));
    }
    if stores.is_empty() && unset.is_empty() {
        return Err(doc.error(value.span().start, "[stores] is empty", Some("local = \"sqlite:app.db\"".into())));
    }
    Ok((stores, unset))
}

fn service(section: &Section<'_>) -> Result<(Text, Service), ConfigError> {
    let doc = section.doc;
    let name = section.required("name", "a name for people: name = \"bot\"")?;
    let control = if let Some(unit) = section.text("systemd")? {
        for key in ["stop", "start", "check"] {
            if section.has(key) {
                let message = format!("service `{}` has both `systemd` and `{key}`", name.value);
                let hint = "either systemd = \"UNIT\", or the commands stop, start and check";
                return Err(doc.error(section.start_of(key), message, Some(hint.into())));
            }
        }
        if unit.value.starts_with('-') || unit.value.contains(char::is_whitespace) {
            return Err(doc.error(unit.start, format!("`{}` is not the name of a unit", unit.value), None));
        }
        Control::Systemd(unit.value)
    } else {
        let hint = "give systemd = \"UNIT\", or the commands stop and start (and check)";
        Control::Commands {
            stop: section.required("stop", hint)?.value,
            start: section.required("start", hint)?.value,
            check: section.text("check")?.map(|text| text.value),
        }
    };
    let timeout = section.duration("timeout", Duration::from_secs(30))?;
    let service = Service { name: name.value.clone(), control, timeout };
    Ok((name, service))
}

/// `lookup`, but what is not set is noted and no error.
fn noting<'a>(lookup: Lookup<'a>, missing: &'a RefCell<Option<String>>) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| {
        let value = lookup(name);
        if value.is_none() {
            missing.borrow_mut().get_or_insert(name.to_owned());
        }
        Some(value.unwrap_or_default())
    }
}

/// The text with each `${VAR}` replaced; `$${` stands for `${`.
fn expand(doc: Document<'_>, text: &Text, lookup: Lookup<'_>) -> Result<String, ConfigError> {
    let mut out = String::new();
    let mut rest = text.value.as_str();
    while let Some(i) = rest.find("${") {
        if rest[..i].ends_with('$') {
            out += &rest[..i - 1];
            out += "${";
            rest = &rest[i + 2..];
            continue;
        }
        out += &rest[..i];
        let hint = || Some("write ${NAME}, or $${ for the characters themselves".to_owned());
        let Some(end) = rest[i..].find('}') else {
            return Err(doc.error(text.start, "a `${` without its `}`", hint()));
        };
        let name = &rest[i + 2..i + end];
        let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fits {
            return Err(doc.error(text.start, format!("`{name}` is not a variable's name"), hint()));
        }
        let Some(value) = lookup(name) else {
            return Err(doc.error(text.start, format!("the variable {name} is not set"), Some(set_it(name))));
        };
        out += &value;
        rest = &rest[i + end + 1..];
    }
    Ok(out + rest)
}

/// A store's URL in the one spelling that stores read; else what is wrong (without its secrets) and what to do.
pub(crate) fn store_url(url: &str) -> Result<String, (String, String)> {
    let known = || "a store is json:FILE, sqlite:FILE or postgres://USER@HOST/DATABASE".to_owned();
    let url = url.trim();
    if url.is_empty() {
        return Err(("its URL is empty".into(), known()));
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        let hint = match Path::new(url).extension().and_then(|e| e.to_str()) {
            Some("json") => format!("did you mean `json:{url}`?"),
            Some("db" | "sqlite" | "sqlite3") => format!("did you mean `sqlite:{url}`?"),
            _ => known(),
        };
        return Err(("this is not a store's URL".into(), hint));
    };
    let (kind, _driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    match kind.to_ascii_lowercase().as_str() {
        "json" if rest.is_empty() => Err(("no file is named".into(), known())),
        "json" => Ok(format!("json:{rest}")),
        "sqlite" | "sqlite3" => {
            // SQLAlchemy: three slashes before a relative path, four where the fourth is the path's own
            let path = rest.strip_prefix("///").or_else(|| rest.strip_prefix("//")).unwrap_or(rest);
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            if path.is_empty() || path == ":memory:" {
                return Err(("a database in memory cannot be migrated".into(), "name its file: sqlite:app.db".into()));
            }
            Ok(format!("sqlite:{path}"))
        }
        "postgres" | "postgresql" if rest.starts_with("//") => Ok(format!("postgres:{rest}")),
        "postgres" | "postgresql" => Err(("`//` is missing after `postgres:`".into(), known())),
        other => {
            let hint = did_you_mean(other, ["json", "sqlite", "postgres"]).unwrap_or_else(known);
            Err((format!("`{}` is no kind of store that is known", scheme.chars().take(20).collect::<String>()), hint))
        }
    }
}

/// The kind of store that a URL from [`Config::stores`] names.
pub(super) fn kind_of(url: &str) -> Kind {
    match url.split(':').next() {
        Some("json") => Kind::Json,
        Some("sqlite") => Kind::Sqlite,
        _ => Kind::Postgres,
    }
}

/// The URL without its password, for people.
pub fn redact(url: &str) -> String {
    secrets(url).into_iter().rev().fold(url.to_owned(), |mut url, range| {
        url.replace_range(range, "***");
        url
    })
}

/// The text with each password in it masked, character for character.
pub(super) fn redact_keeping_length(text: &str) -> String {
    secrets(text).into_iter().rev().fold(text.to_owned(), |mut text, range| {
        let stars = "*".repeat(text[range.clone()].chars().count());
        text.replace_range(range, &stars);
        text
    })
}

/// Where passwords stand in a URL, or in a line with one: between `:` and the last `@` after `//`, and after `password=`.
fn secrets(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    if let Some(user) = text.find("://").map(|i| i + 3)
        && let Some(at) = text[user..].rfind('@').map(|i| user + i)
        && let Some(colon) = text[user..at].find(':').map(|i| user + i)
    {
        found.push(colon + 1..at);
    }
    let lower = text.to_ascii_lowercase();
    let mut from = found.last().map_or(0, |r| r.end);
    while let Some(i) = lower[from..].find("password=") {
        let start = from + i + "password=".len();
        let end = text[start..].find(['&', '"', '\'', ' ', '#']).map_or(text.len(), |i| start + i);
        found.push(start..end);
        from = end;
    }
    found
}
