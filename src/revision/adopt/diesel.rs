//! Diesel: a folder for each migration, with `up.sql`, `down.sql` and perhaps `metadata.toml`.

use std::path::Path;

use super::files::{entries, found, note_others, sorted, text};
use super::{Found, Result, Way, refused};
use crate::plan::ConfigError;
use crate::revision::Error;

pub(super) fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let (mut all, mut others) = (Vec::new(), Vec::new());
    for (name, path) in entries(folder)? {
        let up = path.join("up.sql");
        if !up.is_file() {
            others.push(name);
            continue;
        }
        // as Diesel itself makes a version of the name
        let (version, slug) = name.split_once('_').unwrap_or((&name, ""));
        let version = version.replace('-', "");
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
            let cause = format!("the folder {} does not begin with digits", path.display());
            return Err(refused(cause, "rename it in a copy, and import that: 2024-01-02-030405_name"));
        }
        let transaction = in_transaction(&path.join("metadata.toml"))?;
        let down = path.join("down.sql");
        let down = if down.is_file() { Some(Way { transaction, ..Way::whole(&down, text(&down)?) }) } else { None };
        all.push(found(&version, slug, Way { transaction, ..Way::whole(&up, text(&up)?) }, down));
    }
    note_others(&others, notes);
    Ok(sorted(all))
}

/// What `metadata.toml` says, if it is there.
fn in_transaction(file: &Path) -> Result<bool> {
    if !file.is_file() {
        return Ok(true);
    }
    let table: toml::Table = toml::from_str(&text(file)?).map_err(|error| {
        let message = format!("this is not TOML: {}", error.message());
        Error::File(ConfigError::File { file: file.to_owned(), message, hint: None })
    })?;
    Ok(table.get("run_in_transaction").and_then(toml::Value::as_bool).unwrap_or(true))
}
