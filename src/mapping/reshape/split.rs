//! `split`: a table becomes several, each with the rows that have its value in one column. Data in, data out.
//!
//! To the engine each of them stays a table of its own, whose source is a slice of the one. Numbers stay as they are; a row that is made in
//! one of them gets the next number of the one table on its way back.

use std::collections::{HashMap, HashSet};

use crate::plan::{
    Codec, ColumnPlan, Constraint, Fixed, Index, KeyForm, KeyMap, Kind, Schema, Split, Table, TablePlan,
};
use crate::tokens::{Is, Token, tokens};

use super::super::transfer::Refusal;
use super::keyed::Keys;
use super::references::{self, Pointed, Seen};
use super::{Assembled, Result, may_be_called, refuse, taking_part, words};

/// The tables that take part as they are, parents first; and which of them becomes several.
///
/// # Errors
/// What cannot be, with the line that asks for it.
pub fn parts(schema: &Schema, wanted: &Split, kind: Kind) -> Result<Vec<Table>> {
    let Some(whole) = schema.tables.iter().find(|t| t.name == wanted.from) else {
        let names: Vec<&str> = schema.tables.iter().map(|t| t.name.as_str()).collect();
        let hint = format!("its tables are: {}", names.join(", "));
        return refuse(Some(wanted.at), format!("there is no table {:?}", wanted.from), hint);
    };
    let same = |a: &str, b: &str| if kind == Kind::Sqlite { a.eq_ignore_ascii_case(b) } else { a == b };
    let others = || schema.others.iter().filter_map(|(what, _)| what.split_once(' ')).map(|(_, name)| name);
    for part in &wanted.into {
        let taken = schema.tables.iter().map(|t| t.name.as_str()).chain(others());
        if let Some(taken) = taken.into_iter().find(|n| same(n, &part.table)) {
            return refuse(Some(part.at), format!("there is a {taken} already"), "choose another name for `table`");
        }
        may_be_called(&part.table, kind, part.at)?;
    }
    let line = Some(wanted.at);
    if let Some(g) = whole.generated.first() {
        let cause = format!("{}.{} is computed from other columns", whole.name, g.name);
        return refuse(line, cause, "drop it first, in a SQL revision");
    }
    taking_part(schema, &HashSet::from([whole.name.clone()]), kind)
}

/// What the keys of the table are.
///
/// # Errors
/// Those that cannot be told apart in one table, by their names.
pub fn keys(tables: &[Table], wanted: &Split, kind: Kind) -> Result<Keys> {
    let whole: Vec<_> = tables.iter().filter(|t| t.name == wanted.from).map(|t| (t, wanted.at)).collect();
    Keys::of(&whole, kind)
}

/// The plan's tables. `seen` says to which of the new ones the rows refer that refer to the one.
///
/// # Errors
/// What does not go together, by its name.
pub fn assemble(tables: Vec<Table>, wanted: &Split, seen: &[Seen], kind: Kind) -> Result<Assembled> {
    let keys = keys(&tables, wanted, kind)?;
    let pointed = references::pointed(&tables, wanted, seen)?;
    let mut out = Vec::new();
    for t in tables {
        if t.name != wanted.from {
            let mut codecs = vec![Codec::Verbatim; t.columns.len()];
            let (source, mut target) = (t.clone(), t);
            if kind == Kind::Postgres {
                // among its constraints, too, with their names
                target.checks.clear();
            }
            references::point(&source, &mut target, &mut codecs, wanted, &pointed, None, keys)?;
            let codecs = codecs.into_iter().zip(&source.columns);
            let codecs = codecs.map(|(codec, c)| ColumnPlan { codec, why: c.ty.clone() }).collect();
            out.push(TablePlan { source, target, codecs, from: kind, to: kind, staying: Vec::new() });
            continue;
        }
        let Some(told_by) = t.column(&wanted.discriminator) else {
            let columns = t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let cause = format!("table {} has no column {:?}", t.name, wanted.discriminator);
            return refuse(Some(wanted.at), cause, format!("its columns are: {columns}"));
        };
        for n in 0..wanted.into.len() {
            out.push(part(&t, told_by, wanted, n, (keys, &pointed), kind)?);
        }
    }
    let mut notes = notes(wanted, keys);
    notes.extend(references::note(&pointed, wanted));
    Ok(Assembled { tables: out, notes })
}

fn notes(wanted: &Split, keys: Keys) -> Vec<String> {
    let names: Vec<&str> = wanted.into.iter().map(|p| p.table.as_str()).collect();
    let (any, all, from) = (names.join(" or "), names.join(", "), &wanted.from);
    match keys {
        Keys::Counted => vec![
            format!(
                "rows keep their numbers; one that is made in {any} gets the next number of {from} on a rollback: a number that is in a URL or \
                 a mail by then does not survive it"
            ),
            format!("two of these tables may give the same number, which {from} never did: {all}"),
        ],
        Keys::Numbers => vec![
            format!(
                "rows keep their numbers; one that is made in {any} keeps its own on a rollback if it is free in {from}, and gets one more than \
                 the greatest there else: a number that is in a URL or a mail by then may not survive it"
            ),
            format!(
                "whoever makes rows gives the numbers of {from}, so that a rollback cannot move them ahead: after one without the target \
                 (--emergency) the target may have given the same"
            ),
        ],
        Keys::Names => vec![format!(
            "rows keep their keys, on a rollback too; of two rows with one key in {all} only one can go back to {from}, and the other is \
             parked and listed"
        )],
    }
}

fn part(
    t: &Table,
    told_by: usize,
    wanted: &Split,
    n: usize,
    (keys, pointed): (Keys, &[Pointed]),
    kind: Kind,
) -> Result<TablePlan> {
    let asked = &wanted.into[n];
    let line = Some(asked.at);
    let named = |name: &String| t.column(name).filter(|c| *c != told_by && !t.key.contains(c));
    for name in asked.without.iter().chain(asked.columns.iter().map(|(old, _)| old)) {
        if t.column(name).is_none() {
            let columns = t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let cause = format!("table {} has no column {name:?}", t.name);
            return refuse(line, cause, format!("its columns are: {columns}"));
        }
    }
    if let Some(name) = asked.without.iter().find(|name| named(name).is_none()) {
        let cause = format!("{} cannot be without {name}: it is the key, or tells the rows apart", asked.table);
        return refuse(line, cause, "take it out of `without`");
    }
    let left: Vec<usize> = asked.without.iter().filter_map(named).collect();
    if let Some(c) = left.iter().find(|c| t.columns[**c].not_null) {
        let cause = format!("{} cannot be without {}: it is NOT NULL", asked.table, t.columns[*c].name);
        return refuse(line, cause, "take it out of `without`");
    }
    let value = format!("'{}'", asked.value.replace('\'', "''"));
    let (mut source, mut target) = (t.clone(), t.clone());
    source.only = Some(Fixed { column: told_by, value: value.clone() });
    target.name.clone_from(&asked.table);
    target.details.sql = None;
    for column in 0..t.columns.len() {
        if column == told_by {
            target.constants.push(Fixed { column, value: value.clone() });
        } else if left.contains(&column) {
            target.constants.push(Fixed { column, value: "NULL".to_owned() });
        }
    }
    let names: HashMap<String, String> = asked.columns.iter().filter(|(a, b)| a != b).cloned().collect();
    for c in &mut target.columns {
        if let Some(new) = names.get(&c.name) {
            c.name.clone_from(new);
        }
    }
    let gone: Vec<&str> = target.constants.iter().map(|f| t.columns[f.column].name.as_str()).collect();
    let speaks = |text: &str| gone.iter().any(|name| words::mentions(text, name, kind));
    if let Some(key) = &t.key_name {
        target.key_name = Some(of_part(key, &asked.table));
    }
    target.foreign_keys.retain(|f| !f.columns.iter().any(|c| gone.contains(&c.as_str())));
    let mut codecs = vec![Codec::Verbatim; t.columns.len()];
    references::point(t, &mut target, &mut codecs, wanted, pointed, Some(n), keys)?;
    for f in &mut target.foreign_keys {
        f.columns
            .iter_mut()
            .filter_map(|c| names.get(c.as_str()).map(|new| (c, new)))
            .for_each(|(c, new)| c.clone_from(new));
        f.name = f.name.as_ref().map(|name| of_part(name, &asked.table));
    }
    let unsure = |what: &str| words::unsure(what, &t.name, &asked.table);
    target.indexes.clear();
    for index in &t.indexes {
        let title = format!("the index {}", index.name.as_deref().unwrap_or("that a UNIQUE makes"));
        let Some(mut new) = own(index, &wanted.discriminator, &value, kind) else { continue };
        let texts = [&new.predicate, &new.definition];
        let in_text = texts.into_iter().flatten().any(|text| {
            let text =
                if kind == Kind::Sqlite { text.split_once('(').map_or(text.as_str(), |(_, rest)| rest) } else { text };
            speaks(text)
        });
        if in_text || new.columns.iter().any(|c| gone.contains(&c.name.as_str())) {
            // of what is not there nothing can be looked up
            if new.unique || new.columns.iter().any(|c| c.name == wanted.discriminator) {
                return Err(unsure(&title).into());
            }
            continue;
        }
        for c in &mut new.columns {
            if let Some(name) = names.get(&c.name) {
                c.name.clone_from(name);
            }
        }
        for text in [&mut new.predicate].into_iter().flatten() {
            *text = words::renamed(text, &names, kind).ok_or_else(|| unsure(&title))?;
        }
        if let Some(text) = &new.definition {
            new.definition = Some(words::renamed_definition(text, &names, kind).ok_or_else(|| unsure(&title))?);
        }
        new.name = new.name.as_ref().map(|name| of_part(name, &asked.table));
        target.indexes.push(new);
    }
    let told = |text: &str| -> std::result::Result<Option<String>, Refusal> {
        let Some(text) = own_check(text, &wanted.discriminator, &value, kind) else { return Ok(None) };
        let text = text.as_str();
        if speaks(text) {
            return Err(unsure(&format!("CHECK ({text})")));
        }
        words::renamed(text, &names, kind).map(Some).ok_or_else(|| unsure("a CHECK"))
    };
    target.checks = Vec::new();
    if kind == Kind::Sqlite {
        for check in &t.checks {
            target.checks.extend(told(check)?);
        }
    }
    target.constraints.clear();
    for c in &t.constraints {
        if let Some(definition) = told(&c.definition)? {
            target.constraints.push(Constraint { name: of_part(&c.name, &asked.table), definition });
        }
    }
    codecs[t.key[0]] = key_codec(&asked.table, keys);
    let codecs = codecs.into_iter().zip(&t.columns).map(|(codec, c)| ColumnPlan { codec, why: c.ty.clone() }).collect();
    Ok(TablePlan { source, target, codecs, from: kind, to: kind, staying: Vec::new() })
}

/// What becomes of a part's keys.
pub(super) fn key_codec(part: &str, keys: Keys) -> Codec {
    match keys {
        Keys::Names => Codec::Verbatim,
        // a number that is free here may be another part's, so each part knows its own pairs
        _ => Codec::Key { map: KeyMap::of(part), form: KeyForm::Shift { by: 0, most: i64::MAX } },
    }
}

fn of_part(name: &str, part: &str) -> String {
    format!("{name}_{part}")
}

/// A check for the rows of one part: one that asks something of these rows alone asks it of all of them; `None` if it asks it of others.
fn own_check(text: &str, told_by: &str, value: &str, kind: Kind) -> Option<String> {
    let (head, inside) = match text.trim().strip_prefix("CHECK") {
        Some(rest) => ("CHECK ", rest),
        None => ("", text),
    };
    let inside = words::bare(inside, kind);
    let mut depth = 0usize;
    let or = tokens(inside, kind).find(|t| {
        match t.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && t.word("OR")
    });
    match or.and_then(|or| Some((of_rows(&inside[..or.start], "<>", told_by, value, kind)?, or.end()))) {
        None => Some(text.to_owned()),
        Some((true, rest)) => Some(format!("{head}({})", inside[rest..].trim())),
        Some((false, _)) => None,
    }
}

/// The index for the rows of one part: one that was for these rows alone is for all of them; `None` if it was for others alone.
fn own(index: &Index, told_by: &str, value: &str, kind: Kind) -> Option<Index> {
    let mut out = index.clone();
    if let Some(these) = index.predicate.as_ref().and_then(|p| of_rows(p, "=", told_by, value, kind)) {
        if !these {
            return None;
        }
        out.predicate = None;
        out.definition = index.definition.as_ref().map(|d| words::condition(d, kind).0.to_owned());
    }
    Some(out)
}

/// Whether a condition speaks of the rows with this value, or of those with another; `None` if it says anything else.
fn of_rows(condition: &str, sign: &str, told_by: &str, value: &str, kind: Kind) -> Option<bool> {
    let all: Vec<Token<'_>> = tokens(condition, kind).filter(|t| !t.symbol("(") && !t.symbol(")")).collect();
    let (mut said, mut rest) = (Vec::new(), all.as_slice());
    while let Some((t, after)) = rest.split_first() {
        rest = match after {
            // PostgreSQL says of both sides what they are
            [colon, ty, after @ ..] if t.symbol(":") && colon.symbol(":") && ty.word("text") => after,
            _ => {
                said.push(t);
                after
            }
        };
    }
    let [column, signs @ .., text] = said.as_slice() else { return None };
    let signed: String = signs.iter().map(|t| t.text).collect();
    let plain = signed == sign && text.is == Is::Text && text.text.starts_with('\'');
    (plain && words::names(column, told_by, kind)).then(|| text.text == value)
}
