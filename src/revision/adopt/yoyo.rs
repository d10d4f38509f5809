//! yoyo: `x.sql` and `x.rollback.sql`, each after those that its comment `-- depends:` names.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::files::{entries, found, note_others, numbered, refuse_code, text};
use super::{Found, Result, Way, listed, refused, stamps};
use crate::revision::order;

pub(super) fn read(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let (mut all, mut depends): (Vec<Found>, Vec<Vec<String>>) = Default::default();
    let (mut code, mut hooks, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let names = entries(folder)?;
    for (name, path) in &names {
        if name.ends_with(".rollback.sql") {
            let up = name.replace(".rollback.sql", ".sql");
            if !names.iter().any(|(name, _)| *name == up) {
                return Err(refused(
                    format!("{} without {up}", path.display()),
                    "leave it out of a copy of the folder",
                ));
            }
        } else if let Some(id) = name.strip_suffix(".sql") {
            if id.starts_with("post-apply") {
                hooks.push(name.clone());
                continue;
            }
            let whole = text(path)?;
            let (wants, transaction) = head(&whole);
            let back = folder.join(format!("{id}.rollback.sql"));
            let down = if back.is_file() { Some(Way { transaction, ..Way::whole(&back, text(&back)?) }) } else { None };
            let words = numbered(id).map_or(id, |(_, rest)| rest);
            all.push(found(id, words, Way { transaction, ..Way::whole(path, whole) }, down));
            depends.push(wants);
        } else if name.ends_with(".py") && !name.starts_with("__") {
            code.push(name.clone());
        } else {
            others.push(name.clone());
        }
    }
    refuse_code(&code, "Python")?;
    if !hooks.is_empty() {
        notes.push(format!("what yoyo runs after each time is not imported: {}", listed(&hooks)));
    }
    note_others(&others, notes);
    let mut all = in_order(all, &depends)?;
    let own: Option<Vec<String>> = all.iter().map(|one| digits(&one.version)).collect();
    let rises = |stamps: &Vec<String>| stamps.windows(2).all(|pair| order(&pair[0]) < order(&pair[1]));
    let made = match own.filter(rises) {
        Some(own) => own,
        None => {
            notes.push("the names of the files do not say their order: they were counted".to_owned());
            stamps::counted(all.len())
        }
    };
    for (one, stamp) in all.iter_mut().zip(made) {
        one.stamp = stamp;
    }
    Ok(all)
}

/// The digits that a name begins with: `20240115_01_AbCde-words` is the first of that day.
fn digits(id: &str) -> Option<String> {
    let (first, rest) = numbered(id)?;
    let second = rest.strip_prefix('_').and_then(numbered).filter(|(_, rest)| rest.starts_with(['_', '-', '.']));
    let stamp = format!("{first}{}", second.map_or("", |(second, _)| second));
    (stamp.len() <= 20).then_some(stamp)
}

/// What the comments before the first statement say: what comes before, and whether it runs in a transaction.
fn head(whole: &str) -> (Vec<String>, bool) {
    let (mut depends, mut transaction) = (Vec::new(), true);
    for line in whole.trim_start_matches('\u{feff}').lines() {
        let line = line.trim();
        let Some(comment) = line.strip_prefix("--") else {
            if line.is_empty() {
                continue;
            }
            break;
        };
        match comment.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("depends", ids)) => depends.extend(ids.split_whitespace().map(str::to_owned)),
            Some(("transactional", value)) => transaction = !value.eq_ignore_ascii_case("false"),
            _ => {}
        }
    }
    (depends, transaction)
}

/// Each after what it depends on, else by name.
fn in_order(all: Vec<Found>, depends: &[Vec<String>]) -> Result<Vec<Found>> {
    let places: HashMap<&str, usize> = all.iter().enumerate().map(|(i, one)| (one.version.as_str(), i)).collect();
    let mut wants: Vec<BTreeSet<usize>> = Vec::new();
    for (one, ids) in all.iter().zip(depends) {
        let mut set = BTreeSet::new();
        for id in ids {
            let Some(place) = places.get(id.as_str()) else {
                let cause = format!("{} depends on {id}, which is not there", one.up.file.display());
                return Err(refused(cause, "import the folder that has it, too"));
            };
            set.insert(*place);
        }
        wants.push(set);
    }
    let mut order = Vec::new();
    let mut left: BTreeSet<usize> = (0..all.len()).collect();
    while !left.is_empty() {
        let Some(next) = left.iter().copied().find(|i| wants[*i].is_disjoint(&left)) else {
            let names: Vec<String> = left.iter().map(|i| all[*i].version.clone()).collect();
            return Err(refused(format!("these depend on each other: {}", listed(&names)), "mend one of them"));
        };
        left.remove(&next);
        order.push(next);
    }
    let mut all: Vec<Option<Found>> = all.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|i| all[i].take()).collect())
}
