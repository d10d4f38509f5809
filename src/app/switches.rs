//! Switches: files of the application that are changed at the cutover and put back at a rollback.
//!
//! What undoes a switch lies beside its file as `FILE.backout-RUN`, readable by the file's owner alone: a line of JSON
//! that says what was written, then the bytes that were there before. It is durable before the file is touched. So
//! every step may be cut off and run again, from another process too, and the state directory is not needed for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::files::{self, Content, Rights};
use super::{Error, Result};
use crate::gate::Gate;
use crate::plan::{SwitchConfig, dotenv, set_it};

/// How a switch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As it was before the run.
    Untouched,
    /// Set.
    Applied,
    /// Someone else changed, since, what the switch sets; this says what.
    Foreign(String),
}

/// A change of the application's configuration that can be taken back. Each action may be cut off anywhere and run again.
pub trait Switch: Send + Sync {
    /// What it changes, for people: never a value.
    fn title(&self) -> String;

    /// Sets it; does nothing if it is set.
    ///
    /// # Errors
    /// The file cannot be changed, or someone changed it since the switch was first set; nothing is changed then.
    fn apply(&self) -> Result<()>;

    /// Puts back what it set, and only what is still as it set it. Returns what was left, and why.
    ///
    /// # Errors
    /// The file cannot be changed.
    fn undo(&self) -> Result<Vec<String>>;

    /// How it stands.
    ///
    /// # Errors
    /// The file cannot be read.
    fn check(&self) -> Result<State>;

    /// Lets it be for good: removes what would undo it.
    ///
    /// # Errors
    /// That cannot be removed.
    fn forget(&self) -> Result<()>;
}

pub(super) fn from_config(configs: &[SwitchConfig], run: &str, gate: &Gate) -> Result<Vec<Box<dyn Switch>>> {
    let mut switches: Vec<Box<dyn Switch>> = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for config in configs {
        let (shown, to) = match config.clone() {
            SwitchConfig::Dotenv { path, set, unset } => (path, To::Set(set, unset)),
            SwitchConfig::File { path, with } => (path, To::ContentOf(with)),
        };
        let path = files::resolve(&shown);
        if paths.contains(&path) {
            let cause = "two switches are of this one file, by different names".to_owned();
            let hint = "put everything that changes in a file into one [[switch]]".to_owned();
            return Err(Error::Refused { operation: "switch", path: shown, cause, hint });
        }
        paths.push(path.clone());
        let undo = files::beside(&path, &format!(".backout-{run}"));
        let temp = files::beside(&undo, ".new");
        switches.push(Box::new(FileSwitch { path, to, undo, temp, run: run.to_owned(), gate: gate.clone() }));
    }
    Ok(switches)
}

/// What a file is switched to.
enum To {
    /// Variables of a `.env` file to these values, unless a variable that they need is not set.
    Set(Vec<(String, String)>, Option<String>),
    /// As a whole to what this file holds.
    ContentOf(PathBuf),
}

struct FileSwitch {
    path: PathBuf,
    to: To,
    undo: PathBuf,
    temp: PathBuf,
    run: String,
    gate: Gate,
}

/// The first line of an undo file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// Format; 1.
    backout: u32,
    run: String,
    /// Whether there was a file; if not, what follows is empty.
    existed: bool,
    /// SHA-256 of what the file was switched to.
    written: String,
    /// In a `.env` file: the variables set, each with what was written in every place where it stands.
    keys: Vec<(String, Vec<String>)>,
}

/// An undo file.
#[derive(PartialEq, Eq)]
struct Undo {
    header: Header,
    before: Vec<u8>,
}

/// How one variable stands, by an undo file.
#[derive(PartialEq, Eq)]
enum Stands {
    Ours,
    Before,
    Foreign,
}

impl Undo {
    fn is_before(&self, now: Option<&Content>) -> bool {
        now.map(|now| now.bytes.as_slice()) == self.header.existed.then_some(self.before.as_slice())
    }

    fn is_ours(&self, now: Option<&Content>) -> bool {
        now.is_some_and(|now| digest(&now.bytes) == self.header.written)
    }

    fn key(&self, key: &str, written: &[String], now: &[u8]) -> Stands {
        let raws = dotenv::raws(now, key);
        if raws.iter().copied().eq(written.iter().map(String::as_bytes)) {
            Stands::Ours
        } else if raws == dotenv::raws(&self.before, key) {
            Stands::Before
        } else {
            Stands::Foreign
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl FileSwitch {
    fn refused(&self, operation: &'static str, cause: String, hint: String) -> Error {
        Error::Refused { operation, path: self.path.clone(), cause, hint }
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn read_undo(&self) -> Result<Option<Undo>> {
        let Some(content) = files::read(&self.undo)? else { return Ok(None) };
        let parsed = content.bytes.iter().position(|&b| b == b'\n').and_then(|line| {
            let header: Header = serde_json::from_slice(&content.bytes[..line]).ok()?;
            (header.backout == 1).then(|| Undo { header, before: content.bytes[line + 1..].to_vec() })
        });
        match parsed {
            Some(undo) => Ok(Some(undo)),
            None => Err(Error::Refused {
                operation: "read",
                path: self.undo.clone(),
                cause: "it is not as Backout wrote it".into(),
                hint: format!("put {} back by hand, then remove this file", self.path.display()),
            }),
        }
    }

    /// What the file shall hold, and whose it shall be.
    fn wanted(&self, now: Option<&Content>) -> Result<(Vec<u8>, Option<Rights>)> {
        match &self.to {
            To::Set(set, Some(unset)) => {
                let cause = format!("what {} is set to needs the variable {unset}, which is not set", names(set));
                Err(self.refused("switch", cause, set_it(unset)))
            }
            To::Set(set, None) => {
                let before = now.map_or(&[][..], |now| now.bytes.as_slice());
                let text = dotenv::set(before, set).ok_or_else(|| {
                    let cause = format!("{} cannot be set there without changing another line", names(set));
                    self.refused("switch", cause, "see whether a quote is left open in this file".into())
                })?;
                Ok((text, now.map(|now| now.rights)))
            }
            To::ContentOf(with) => match files::read(with)? {
                Some(content) => Ok((content.bytes, Some(now.map_or(content.rights, |now| now.rights)))),
                None => {
                    let cause = format!("{}, whose content it shall get, is not there", with.display());
                    Err(self.refused("switch", cause, "make that file, or correct `with` in backout.toml".into()))
                }
            },
        }
    }

    fn header(&self, existed: bool, wanted: &[u8]) -> Header {
        let raws = |key: &str| {
            dotenv::raws(wanted, key).into_iter().map(|raw| String::from_utf8_lossy(raw).into_owned()).collect()
        };
        let keys = match &self.to {
            To::Set(set, _) => set.iter().map(|(key, _)| (key.clone(), raws(key))).collect(),
            To::ContentOf(_) => Vec::new(),
        };
        Header { backout: 1, run: self.run.clone(), existed, written: digest(wanted), keys }
    }

    /// Where an undo file is there and the file is neither as before nor as switched: whether the switch may be set from
    /// what is there now (`Some`), or is set all the same (`None`).
    fn may_apply(&self, undo: &Undo, now: Option<&Content>) -> Result<Option<()>> {
        let beside = format!("what it held before ends {}", self.undo.display());
        let (To::Set(set, _), Some(now)) = (&self.to, now) else {
            let cause = match now {
                Some(_) => "someone changed it since Backout first switched it",
                None => "it is gone since Backout first switched it",
            };
            let hint = format!("{beside}; put that back, or remove that file to take this one as it is now");
            return Err(self.refused("switch", cause.into(), hint));
        };
        let holds = |(key, value): &(String, String)| {
            let raws = dotenv::raws(&now.bytes, key);
            !raws.is_empty() && raws.iter().all(|raw| dotenv::decode(raw) == value.as_bytes())
        };
        if set.iter().all(holds) {
            return Ok(None);
        }
        let changed: Vec<&str> = undo
            .header
            .keys
            .iter()
            .filter(|(key, raws)| {
                dotenv::raws(&now.bytes, key) != dotenv::raws(&undo.before, key)
                    || undo.key(key, raws, &now.bytes) == Stands::Foreign
            })
            .map(|(key, _)| key.as_str())
            .collect();
        if changed.is_empty() {
            return Ok(Some(()));
        }
        let cause = format!("someone changed {} since Backout first switched it", listed(&changed));
        Err(self.refused("switch", cause, format!("set what backout.toml sets by hand, or put it back; {beside}")))
    }

    fn put_back_keys(&self, undo: &Undo, now: &Content) -> Result<Vec<String>> {
        let mut text = now.bytes.clone();
        let mut left = Vec::new();
        for (key, written) in &undo.header.keys {
            match undo.key(key, written, &text) {
                Stands::Ours => text = dotenv::put_back(&text, key, &dotenv::raws(&undo.before, key)),
                Stands::Before => {}
                Stands::Foreign => {
                    left.push(format!("{key} in {} was changed since and is left as it is", self.name()))
                }
            }
        }
        if text != now.bytes {
            files::replace(&self.path, &self.temp, &text, Some(now.rights), &self.gate)?;
        }
        Ok(left)
    }
}

fn names(set: &[(String, String)]) -> String {
    listed(&set.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
}

fn listed(names: &[&str]) -> String {
    names.join(", ")
}

impl Switch for FileSwitch {
    fn title(&self) -> String {
        match &self.to {
            To::Set(set, _) => format!("{} in {}", names(set), self.path.display()),
            To::ContentOf(with) => format!("{} as {}", self.path.display(), with.display()),
        }
    }

    fn apply(&self) -> Result<()> {
        files::remove(&self.temp, &self.gate)?;
        let now = files::read(&self.path)?;
        let old = self.read_undo()?;
        if let Some(undo) = &old {
            if undo.is_ours(now.as_ref()) {
                return Ok(());
            }
            if !undo.is_before(now.as_ref()) && self.may_apply(undo, now.as_ref())?.is_none() {
                return Ok(());
            }
        }
        let (wanted, rights) = self.wanted(now.as_ref())?;
        let before = now.as_ref().map_or(&[][..], |now| now.bytes.as_slice());
        let undo = Undo { header: self.header(now.is_some(), &wanted), before: before.to_vec() };
        if old.as_ref() == Some(&undo) {
            files::sync_folder(&self.undo, &self.gate)?;
        } else {
            let mut bytes = serde_json::to_vec(&undo.header).map_err(|error| {
                self.refused("switch", format!("what undoes it cannot be written: {error}"), String::new())
            })?;
            bytes.push(b'\n');
            bytes.extend_from_slice(before);
            let private = now.as_ref().map(|now| Rights { mode: 0o600, ..now.rights });
            files::replace(&self.undo, &self.temp, &bytes, private, &self.gate)?;
        }
        if now.as_ref().is_some_and(|now| now.bytes == wanted) {
            return Ok(());
        }
        // a file that changed while we looked is not overwritten
        if files::read(&self.path)? != now {
            let cause = "it changed while it was being switched".to_owned();
            return Err(self.refused("switch", cause, "run it again".into()));
        }
        files::replace(&self.path, &self.temp, &wanted, rights, &self.gate)
    }

    fn undo(&self) -> Result<Vec<String>> {
        files::remove(&self.temp, &self.gate)?;
        let Some(undo) = self.read_undo()? else { return Ok(Vec::new()) };
        let now = files::read(&self.path)?;
        let mut left = match &now {
            now if undo.is_before(now.as_ref()) => Vec::new(),
            Some(file) if undo.is_ours(now.as_ref()) => {
                if undo.header.existed {
                    files::replace(&self.path, &self.temp, &undo.before, Some(file.rights), &self.gate)?;
                } else {
                    files::remove(&self.path, &self.gate)?;
                }
                Vec::new()
            }
            Some(file) if !undo.header.keys.is_empty() => self.put_back_keys(&undo, file)?,
            Some(_) => vec![format!("{} was changed since it was switched and is left as it is", self.path.display())],
            None => vec![format!("{} is gone since it was switched and is left so", self.path.display())],
        };
        if left.is_empty() {
            files::remove(&self.undo, &self.gate)?;
        } else {
            left.push(format!("what {} held before is kept at the end of {}", self.name(), self.undo.display()));
        }
        Ok(left)
    }

    fn check(&self) -> Result<State> {
        let Some(undo) = self.read_undo()? else { return Ok(State::Untouched) };
        let now = files::read(&self.path)?;
        if undo.is_ours(now.as_ref()) {
            return Ok(State::Applied);
        }
        if undo.is_before(now.as_ref()) {
            return Ok(State::Untouched);
        }
        let Some(now) = now else { return Ok(State::Foreign(format!("{} is gone", self.path.display()))) };
        let stands = |key: &(String, Vec<String>)| undo.key(&key.0, &key.1, &now.bytes);
        let keys = &undo.header.keys;
        if keys.is_empty() {
            return Ok(State::Foreign(format!("{} was changed since", self.path.display())));
        }
        if keys.iter().all(|key| stands(key) == Stands::Ours) {
            return Ok(State::Applied);
        }
        let same = |key: &(String, Vec<String>)| dotenv::raws(&now.bytes, &key.0) == dotenv::raws(&undo.before, &key.0);
        if keys.iter().all(same) {
            return Ok(State::Untouched);
        }
        let changed: Vec<&str> =
            keys.iter().filter(|key| stands(key) != Stands::Ours).map(|(key, _)| key.as_str()).collect();
        Ok(State::Foreign(format!("{} in {} was changed since", listed(&changed), self.path.display())))
    }

    fn forget(&self) -> Result<()> {
        files::remove(&self.temp, &self.gate)?;
        files::remove(&self.undo, &self.gate)
    }
}
