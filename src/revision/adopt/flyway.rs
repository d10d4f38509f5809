//! Flyway: `V1_2__x.sql`, `U1_2__x.sql` for its way down, in a folder and those below it.

use std::path::{Path, PathBuf};

use super::files::{entries, found, note_others, refuse_code, text};
use super::{Found, Result, Unless, Way, listed, refused, stamps};

pub(super) fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let mut all: Vec<Found> = Vec::new();
    let (mut undos, mut code, mut repeatable, mut baselines, mut others) =
        (Vec::<(String, Way)>::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, path) in below(folder)? {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
        let parts = stem.get(1..).and_then(|rest| rest.split_once("__"));
        let version = parts.map(|(version, _)| version).filter(|v| numbers(v));
        match (name.as_bytes().first(), parts, version) {
            (Some(b'V' | b'U'), Some(_), Some(_))
                if matches!(ending, "java" | "class" | "kt" | "py" | "sh" | "ps1") =>
            {
                code.push(name);
            }
            (Some(b'V'), Some((_, words)), Some(version)) if ending == "sql" => {
                all.push(found(version, words, way(&path, notes)?, None));
            }
            (Some(b'U'), _, Some(version)) if ending == "sql" => undos.push((version.to_owned(), way(&path, notes)?)),
            (Some(b'B'), _, Some(_)) if ending == "sql" => baselines.push(name),
            (Some(b'R'), Some(_), _) if ending == "sql" => repeatable.push(name),
            // what stands beside a migration was read with it
            _ if name.ends_with(".sql.conf") => {}
            _ => others.push(name),
        }
    }
    refuse_code(&code, "code")?;
    if !repeatable.is_empty() {
        notes.push(format!(
            "repeatable migrations are not imported: {}; write a revision when one of them changes",
            listed(&repeatable)
        ));
    }
    if !baselines.is_empty() {
        notes.push(format!("baseline migrations are not imported: {}", listed(&baselines)));
    }
    note_others(&others, notes);
    for (version, undo) in undos {
        match all.iter_mut().find(|one| order(&one.version) == order(&version) && one.down.is_none()) {
            Some(one) => one.down = Some(undo),
            None => {
                let cause = format!("{} undoes a version that is not there", undo.file.display());
                return Err(refused(cause, "leave it out of a copy of the folder, and import that"));
            }
        }
    }
    all.sort_by_key(|one| order(&one.version));
    if let Some(pair) = all.windows(2).find(|pair| order(&pair[0].version) == order(&pair[1].version)) {
        let cause = format!("{} and {} have the same version", pair[0].up.file.display(), pair[1].up.file.display());
        return Err(refused(cause, "rename one in a copy of the folder, and import that"));
    }
    let parts: Vec<Vec<String>> = all.iter().map(|one| split(&one.version)).collect();
    let (made, changed) = stamps::of_parts(&parts);
    for (one, stamp) in all.iter_mut().zip(made) {
        one.stamp = stamp;
        one.version = plain(&one.version);
    }
    if changed {
        notes.push("versions of several numbers were made one number each, in the same order".to_owned());
    }
    Ok(all)
}

/// The files of a folder and of those below it, by name.
fn below(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for (name, path) in entries(folder)? {
        if path.is_dir() {
            all.extend(below(&path)?);
        } else {
            all.push((name, path));
        }
    }
    all.sort();
    Ok(all)
}

fn numbers(version: &str) -> bool {
    version.split(['.', '_']).all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn split(version: &str) -> Vec<String> {
    version.split(['.', '_']).map(str::to_owned).collect()
}

/// A version as Flyway writes it down: dots, and no zeros that say nothing before a number.
pub(super) fn plain(version: &str) -> String {
    let part = |part: &str| match part.trim_start_matches('0') {
        "" if part.is_empty() => String::new(),
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    };
    version.split(['.', '_']).map(part).collect::<Vec<_>>().join(".")
}

/// What comes first: numbers one by one; those that are not there are 0.
pub(super) fn order(version: &str) -> Vec<(usize, String)> {
    let mut parts: Vec<(usize, String)> = version
        .split(['.', '_'])
        .map(|part| part.trim_start_matches('0'))
        .map(|digits| (digits.len(), digits.to_owned()))
        .collect();
    while parts.last().is_some_and(|(length, _)| *length == 0) {
        parts.pop();
    }
    parts
}

/// A script, with what the file beside it says: `x.sql.conf`.
fn way(path: &Path, notes: &mut Vec<String>) -> Result<Way> {
    let whole = text(path)?;
    let mut way = Way { unless: Unless::Any, ..Way::whole(path, whole) };
    let mut replaced = true;
    let beside = PathBuf::from(format!("{}.conf", path.display()));
    if beside.is_file() {
        for line in text(&beside)?.lines() {
            match line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                Some(("executeInTransaction", value)) => way.transaction = value != "false",
                Some(("placeholderReplacement", value)) => replaced = value != "false",
                Some((key, _)) if !key.starts_with('#') => {
                    notes.push(format!("{}: `{key}` is not taken over", beside.display()));
                }
                _ => {}
            }
        }
    }
    if let Some((line, name)) = placeholder(&way.text).filter(|_| replaced) {
        let cause = format!("{}:{line}: Flyway puts something in place of {name}", path.display());
        return Err(refused(cause, "write what it stands for in a copy of the folder, and import that"));
    }
    Ok(way)
}

/// The first `${name}` and its line.
fn placeholder(text: &str) -> Option<(usize, &str)> {
    text.match_indices("${").find_map(|(i, _)| {
        let name = &text[i + 2..];
        let name = &name[..name.find('}')?];
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
        (!name.is_empty() && name.chars().all(fits))
            .then(|| (text[..i].matches('\n').count() + 1, &text[i..i + name.len() + 3]))
    })
}
