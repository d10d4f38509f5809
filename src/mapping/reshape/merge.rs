//! `merge`: several tables become one, in which a column tells whose row each is. Data in, data out.
//!
//! To the engine each of them stays a table of its own, whose target is a slice of the merged one. Their numbers are kept where there is
//! room: those of the first table as they are, those of the others above them.

use std::collections::{HashMap, HashSet};

use crate::plan::{
    Codec, Column, ColumnPlan, Constraint, Fixed, ForeignKey, Index, IndexColumn, KeyForm, KeyMap, Kind, Merge, Pair,
    Part, Schema, Table, TablePlan,
};

use super::keyed::{self, Keys, WIDTHS};
use super::{Assembled, Result, constants, may_be_called, refuse, taking_part, words};

/// The tables that take part as they are, parents first: those that become one, and all that foreign keys connect with them.
///
/// # Errors
/// What cannot be, with the line that asks for it.
pub fn parts(schema: &Schema, wanted: &Merge, kind: Kind) -> Result<Vec<Table>> {
    let mut seeds = HashSet::new();
    for part in &wanted.from {
        let Some(t) = schema.tables.iter().find(|t| t.name == part.table) else {
            let names: Vec<&str> = schema.tables.iter().map(|t| t.name.as_str()).collect();
            let hint = format!("its tables are: {}", names.join(", "));
            return refuse(Some(part.at), format!("there is no table {:?}", part.table), hint);
        };
        seeds.insert(t.name.clone());
    }
    let same = |a: &str| if kind == Kind::Sqlite { a.eq_ignore_ascii_case(&wanted.into) } else { a == wanted.into };
    let others = schema.others.iter().filter_map(|(what, _)| what.split_once(' ')).map(|(_, name)| name);
    if let Some(taken) = schema.tables.iter().map(|t| t.name.as_str()).chain(others).find(|n| same(n)) {
        return refuse(Some(wanted.at), format!("there is a {taken} already"), "choose another name for `into`");
    }
    may_be_called(&wanted.into, kind, wanted.at)?;
    taking_part(schema, &seeds, kind)
}

/// A column of the merged table, and where it comes from in each of those that become it.
pub(super) struct Merged {
    pub column: Column,
    pub from: Vec<Option<usize>>,
    /// What it holds in all rows of those that do not have it (an SQL literal); NULL where nothing is said.
    pub fixed: Vec<Option<String>>,
}

impl Merged {
    pub fn is_key(&self, parts: &[&Table]) -> bool {
        self.from.iter().zip(parts).any(|(from, part)| from.is_some_and(|i| part.key.contains(&i)))
    }
}

/// What was found of the tables that become one.
pub struct Found<'a> {
    /// The highest number that each of all tables has given, or has as its key.
    pub given: &'a [Option<i64>],
    /// Pairs that an earlier run made up.
    pub kept: &'a [Pair],
    /// No key is in two of those that become one.
    pub apart: bool,
}

/// What the keys of those that become one are.
///
/// # Errors
/// Those that cannot be told apart in one table, by their names.
pub fn keys(tables: &[Table], wanted: &Merge, kind: Kind) -> Result<Keys> {
    let part = |p: &Part| Some((tables.iter().find(|t| t.name == p.table)?, p.at));
    Keys::of(&wanted.from.iter().filter_map(part).collect::<Vec<_>>(), kind)
}

/// Whether keys stay as they are if none is in two of the tables. An earlier run, or the migration, may have moved them already.
pub fn may_stay(keys: Keys, wanted: &Merge, kept: &[Pair]) -> bool {
    match keys {
        Keys::Counted => false,
        Keys::Numbers => kept.is_empty() && wanted.from.iter().all(|p| p.offset.is_none()),
        Keys::Names => true,
    }
}

/// The plan's tables.
///
/// # Errors
/// What does not go together, by its name.
pub fn assemble(tables: Vec<Table>, wanted: &Merge, found: &Found<'_>, kind: Kind) -> Result<Assembled> {
    let keys = keys(&tables, wanted, kind)?;
    let find = |name: &str| tables.iter().position(|t| t.name == name);
    let at: Vec<usize> = wanted.from.iter().filter_map(|p| find(&p.table)).collect();
    let parts: Vec<&Table> = at.iter().map(|i| &tables[*i]).collect();
    for (part, asked) in parts.iter().zip(&wanted.from) {
        if let Some(g) = part.generated.first() {
            let cause = format!(
                "{}.{} is computed from other columns, which a merged table would have to tell apart",
                part.name, g.name
            );
            return refuse(Some(asked.at), cause, "drop it first, in a SQL revision");
        }
        if let Some((old, _)) = asked.columns.iter().find(|(old, _)| part.column(old).is_none()) {
            let columns = part.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let cause = format!("table {} has no column {old:?}", part.name);
            return refuse(Some(asked.at), cause, format!("its columns are: {columns}"));
        }
    }
    let renames: Vec<HashMap<String, String>> =
        wanted.from.iter().map(|p| p.columns.iter().filter(|(a, b)| a != b).cloned().collect()).collect();
    let merged = columns(&parts, wanted, &renames, kind)?;
    let key = merged.iter().position(|m| m.is_key(&parts)).unwrap_or(0);
    let stay = found.apart && may_stay(keys, wanted, found.kept);
    let given: Vec<i64> = at.iter().map(|i| found.given.get(*i).copied().flatten().unwrap_or(0)).collect();
    if let (Keys::Names, Some(part)) = (keys, wanted.from.iter().find(|p| p.offset.is_some())) {
        let cause = format!("the keys of {} are no numbers, so that nothing can be added to them", part.table);
        return refuse(Some(part.at), cause, "take `offset` out");
    }
    let told_by = merged.len() - 1;

    let mut plain = Table {
        name: wanted.into.clone(),
        columns: merged.iter().map(|m| m.column.clone()).collect(),
        key: vec![key],
        ..Table::default()
    };
    if kind == Kind::Sqlite {
        plain.details.autoincrement = parts.iter().any(|t| t.details.autoincrement);
        plain.details.without_rowid = parts.iter().all(|t| t.details.without_rowid);
        if !plain.details.without_rowid {
            // SQLite takes it for the rowid
            plain.columns[key].identity |= plain.columns[key].ty.eq_ignore_ascii_case("INTEGER");
            plain.details.rowid_name =
                ["rowid", "_rowid_", "oid"].into_iter().find(|n| plain.column(n).is_none()).map(str::to_owned);
        }
    } else {
        plain.columns[key].always = parts.iter().all(|t| t.columns[t.key[0]].always);
    }
    indexes(&mut plain, &parts, wanted, &renames, kind)?;
    checks(&mut plain, &parts, wanted, &renames, kind)?;
    for (part, names) in parts.iter().zip(&renames) {
        for f in &part.foreign_keys {
            let mut f = pointed(f, wanted, &plain.columns[key].name);
            f.columns.iter_mut().for_each(|c| rename(c, names));
            if !plain
                .foreign_keys
                .iter()
                .any(|g| (&g.columns, &g.table, &g.references) == (&f.columns, &f.table, &f.references))
            {
                plain.foreign_keys.push(f);
            }
        }
    }

    // a column that refers to one of them has room for all their numbers
    for name in plain.foreign_keys.iter().filter(|f| f.table == wanted.into).flat_map(|f| &f.columns) {
        if let Some(i) = plain.columns.iter().position(|c| c.name == *name) {
            plain.columns[i].ty = plain.columns[key].ty.clone();
        }
    }

    let forms = if stay { Vec::new() } else { keyed::forms(&parts, wanted, &given, found.kept)? };
    let key_codec = |n: usize, t: &Table| match forms.get(n) {
        Some(form) => Codec::Key { map: KeyMap::of(&t.name), form: form.clone() },
        None => Codec::Verbatim,
    };
    let codec_of: HashMap<&str, Codec> =
        parts.iter().enumerate().map(|(n, t)| (t.name.as_str(), key_codec(n, t))).collect();
    let mut out = Vec::new();
    for t in &tables {
        let part = wanted.from.iter().position(|p| p.table == t.name);
        let (mut source, mut target) = (t.clone(), t.clone());
        if let Some(n) = part {
            source.columns.clear();
            source.constants.clear();
            for (i, m) in merged.iter().enumerate() {
                match m.from[n] {
                    Some(c) => source.columns.push(t.columns[c].clone()),
                    None => {
                        let value = m.fixed[n].clone().unwrap_or_else(|| "NULL".to_owned());
                        source.constants.push(Fixed { column: i, value });
                        source.columns.push(m.column.clone());
                    }
                }
            }
            source.key = vec![key];
            target = plain.clone();
            target.only = Some(Fixed { column: told_by, value: literal(&wanted.from[n].value) });
        } else {
            if kind == Kind::Postgres {
                // among its constraints, too, with their names
                target.checks.clear();
            }
            target.foreign_keys = t.foreign_keys.iter().map(|f| pointed(f, wanted, &plain.columns[key].name)).collect();
            let renamed = t.foreign_keys.iter().zip(&target.foreign_keys);
            if renamed.into_iter().any(|(a, b)| a.references != b.references) {
                // its words would name a column that is not there
                target.details.sql = None;
            }
        }
        let mut codecs = vec![Codec::Verbatim; source.columns.len()];
        if let (Some(_), Some(codec)) = (part, codec_of.get(t.name.as_str())) {
            codecs[key] = codec.clone();
        }
        for f in &t.foreign_keys {
            let Some(codec) = codec_of.get(f.table.as_str()) else { continue };
            let [column] = f.columns.as_slice() else {
                let cause = format!("the foreign key of {} to {} has several columns", t.name, f.table);
                return refuse(Some(wanted.at), cause, "drop it first, in a SQL revision");
            };
            let i = source.columns.iter().position(|c| c.name == *column).unwrap_or_default();
            if codecs[i].key_map().is_some_and(|other| Some(other) != codec.key_map()) {
                let cause = format!("{}.{column} refers to two of the tables that become one", t.name);
                return refuse(Some(wanted.at), cause, "drop one of the foreign keys first, in a SQL revision");
            }
            codecs[i] = codec.clone();
            target.columns[i].ty.clone_from(&plain.columns[key].ty);
        }
        let why = |i: usize| source.columns[i].ty.clone();
        let codecs = codecs.into_iter().enumerate().map(|(i, codec)| ColumnPlan { codec, why: why(i) }).collect();
        out.push(TablePlan { source, target, codecs, from: kind, to: kind, staying: Vec::new() });
    }
    Ok(Assembled { notes: notes(&parts, &merged, wanted, keys, &forms), tables: out })
}

fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn rename(name: &mut String, names: &HashMap<String, String>) {
    if let Some(new) = names.get(name.as_str()) {
        name.clone_from(new);
    }
}

/// A foreign key to one of the tables refers to the merged one.
fn pointed(f: &ForeignKey, wanted: &Merge, key: &str) -> ForeignKey {
    let mut f = f.clone();
    if wanted.from.iter().any(|p| p.table == f.table) {
        f.table.clone_from(&wanted.into);
        f.references.iter_mut().for_each(|c| *c = key.to_owned());
    }
    f
}

fn columns(parts: &[&Table], wanted: &Merge, renames: &[HashMap<String, String>], kind: Kind) -> Result<Vec<Merged>> {
    let mut out: Vec<Merged> = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let line = Some(wanted.from[n].at);
        for (i, c) in part.columns.iter().enumerate() {
            let mut column = c.clone();
            rename(&mut column.name, &renames[n]);
            if part.details.strict && column.ty.eq_ignore_ascii_case("ANY") {
                // in a table that is not STRICT it is no type that makes numbers of text
                column.ty = String::new();
            }
            let same = |m: &Merged| match kind {
                Kind::Sqlite => m.column.name.eq_ignore_ascii_case(&column.name),
                _ => m.column.name == column.name,
            };
            let Some(there) = out.iter_mut().find(|m| same(m)) else {
                let mut from = vec![None; parts.len()];
                from[n] = Some(i);
                out.push(Merged { column, from, fixed: vec![None; parts.len()] });
                continue;
            };
            if let Some(twice) = there.from[n] {
                let cause = format!(
                    "{}.{} and {}.{} would both be {}",
                    part.name, part.columns[twice].name, part.name, c.name, column.name
                );
                return refuse(line, cause, "give one of them another name in `columns`");
            }
            let other = there.from.iter().position(Option::is_some).unwrap_or_default();
            let key_here = part.key.contains(&i);
            if key_here != parts[other].key.contains(&there.from[other].unwrap_or_default()) {
                let cause = format!("{} is the key of one of these tables and not of the others", column.name);
                return refuse(line, cause, "give it another name in `columns`");
            }
            let rank = |ty: &str| WIDTHS.iter().position(|w| *w == ty);
            if let (true, Some(width), Some(other)) = (key_here, rank(&column.ty), rank(&there.column.ty)) {
                // the widest of them has room for all
                if width > other {
                    there.column.ty.clone_from(&column.ty);
                }
            } else if !there.column.ty.eq_ignore_ascii_case(&column.ty) || there.column.collation != column.collation {
                let cause = format!(
                    "{}.{} is {}, and {} of {} is {}",
                    part.name, c.name, c.ty, column.name, parts[other].name, there.column.ty
                );
                let hint = "give it another name in `columns`, or one type to both first, in a migration with [alter]";
                return refuse(line, cause, hint);
            }
            there.column.not_null &= column.not_null;
            there.column.identity |= key_here && column.identity;
            if there.column.default != column.default {
                there.column.default = None;
            }
            there.from[n] = Some(i);
        }
    }
    let keys = out.iter().filter(|m| m.is_key(parts)).count();
    if keys != 1 || out.iter().any(|m| m.column.identity && !m.is_key(parts)) {
        let cause = "the keys of these tables have different names, or one of them gives numbers to two columns";
        return refuse(Some(wanted.at), cause, "give the keys one name in `columns`");
    }
    constants::fix(&mut out, parts, wanted, kind)?;
    let taken = |m: &Merged| m.column.name.eq_ignore_ascii_case(&wanted.discriminator);
    if let Some(there) = out.iter().find(|m| taken(m)) {
        let cause = format!("there is a column {} already", there.column.name);
        return refuse(Some(wanted.at), cause, "choose another name for the `discriminator`");
    }
    let ty = if kind == Kind::Postgres { "text" } else { "TEXT" };
    let column = Column { name: wanted.discriminator.clone(), ty: ty.into(), not_null: true, ..Column::default() };
    let fixed = wanted.from.iter().map(|p| Some(literal(&p.value))).collect();
    out.push(Merged { column, from: vec![None; parts.len()], fixed });
    Ok(out)
}

/// What was unique among one table's rows is so among them still.
fn indexes(
    into: &mut Table,
    parts: &[&Table],
    wanted: &Merge,
    renames: &[HashMap<String, String>],
    kind: Kind,
) -> Result<()> {
    let told = words::quote(&wanted.discriminator);
    for (n, part) in parts.iter().enumerate() {
        let condition = format!("{told} = {}", literal(&wanted.from[n].value));
        for index in part.indexes.iter().filter(|i| i.name != part.key_name || i.name.is_none()) {
            let line = wanted.from[n].at;
            let mut new = index.clone();
            let name = index.name.as_deref().unwrap_or("that a UNIQUE makes");
            let unsure = || words::unsure(&format!("the index {name}"), &part.name, "a merged table");
            new.columns.iter_mut().for_each(|c: &mut IndexColumn| rename(&mut c.name, &renames[n]));
            let names: Vec<String> = new.columns.iter().map(|c| c.name.clone()).collect();
            new.name = Some(
                index
                    .name
                    .clone()
                    .unwrap_or_else(|| format!("{}_{}_{}", wanted.into, names.join("_"), wanted.from[n].value)),
            );
            // one index does for all, where it refuses nothing and all have it
            let plain = |i: &Index| !i.unique && !i.expression && i.predicate.is_none();
            if plain(index) {
                if into.indexes.iter().any(|i| plain(i) && i.columns == new.columns) {
                    continue;
                }
                let alike = |(t, names): (&&Table, &HashMap<String, String>)| {
                    t.indexes.iter().any(|i| {
                        let mut columns = i.columns.clone();
                        columns.iter_mut().for_each(|c| rename(&mut c.name, names));
                        plain(i) && columns == new.columns
                    })
                };
                if parts.iter().zip(renames).all(alike) {
                    new.definition = definition(index, &renames[n], None, kind).ok_or_else(unsure)?;
                    into.indexes.push(new);
                    continue;
                }
            }
            if kind == Kind::Postgres
                && index.definition.as_ref().is_some_and(|d| !d.starts_with("USING ") && !d.starts_with("UNIQUE ("))
            {
                let refusal = unsure();
                return refuse(Some(line), refusal.cause, refusal.hint);
            }
            new.definition = definition(index, &renames[n], Some(&condition), kind).ok_or_else(unsure)?;
            let only = new.definition.as_deref().and_then(|d| words::condition(d, kind).1);
            new.predicate = Some(only.unwrap_or(&condition).to_owned());
            into.indexes.push(new);
        }
    }
    Ok(())
}

/// An index's words for the merged table, for these rows alone; `None` within where its columns say it all.
#[allow(clippy::option_option)]
fn definition(
    index: &Index,
    names: &HashMap<String, String>,
    only: Option<&str>,
    kind: Kind,
) -> Option<Option<String>> {
    let Some(text) = &index.definition else { return Some(None) };
    let mut text = words::renamed_definition(text, names, kind)?;
    if let Some(columns) = text.strip_prefix("UNIQUE ") {
        text = format!("USING btree {columns}");
    }
    let Some(only) = only else { return Some(Some(text)) };
    Some(Some(match words::condition(&text, kind) {
        (head, None) => format!("{head} WHERE {only}"),
        (head, Some(also)) => format!("{head} WHERE ({also}) AND {only}"),
    }))
}

/// What had to hold of one table's rows has to hold of them still.
fn checks(
    into: &mut Table,
    parts: &[&Table],
    wanted: &Merge,
    renames: &[HashMap<String, String>],
    kind: Kind,
) -> Result<()> {
    let told = words::quote(&wanted.discriminator);
    for (n, part) in parts.iter().enumerate() {
        let others = format!("{told} <> {}", literal(&wanted.from[n].value));
        let unsure = |what: &str| words::unsure(what, &part.name, "a merged table");
        if kind == Kind::Postgres {
            for c in &part.constraints {
                let inside = c.definition.strip_prefix("CHECK ").filter(|d| d.ends_with(')'));
                let condition = inside.and_then(|d| words::renamed(d, &renames[n], kind));
                let condition = condition.ok_or_else(|| unsure(&c.name))?;
                let name = match into.constraints.iter().any(|x| x.name == c.name) {
                    true => format!("{}_{}", c.name, wanted.from[n].value),
                    false => c.name.clone(),
                };
                into.constraints.push(Constraint { name, definition: format!("CHECK ({others} OR {condition})") });
            }
            continue;
        }
        for check in &part.checks {
            let inside = check.trim().strip_prefix("CHECK").map_or(check.as_str(), str::trim);
            let condition = words::renamed(inside, &renames[n], kind).ok_or_else(|| unsure("a CHECK"))?;
            into.checks.push(format!("{others} OR ({})", words::bare(&condition, kind)));
        }
    }
    Ok(())
}

fn notes(parts: &[&Table], merged: &[Merged], wanted: &Merge, keys: Keys, forms: &[KeyForm]) -> Vec<String> {
    let mut out = Vec::new();
    let into = &wanted.into;
    let each = parts.iter().zip(&wanted.from).zip(forms).filter_map(|((t, asked), form)| match form {
        KeyForm::Shift { by: 0, .. } => Some(format!("those of {} stay as they are", t.name)),
        KeyForm::Shift { by, .. } if asked.offset.is_some() => Some(format!("those of {} become {by} more", t.name)),
        KeyForm::Shift { by, .. } => {
            Some(format!("those of {} become {by} more (`offset = {by}` in its [[merge.from]] keeps it so)", t.name))
        }
        KeyForm::Uuid { .. } => None,
    });
    let each = each.collect::<Vec<_>>().join(", ");
    let names = parts.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
    if forms.is_empty() {
        out.push(format!(
            "keys in {into} are as they were, none being in two of the tables; if one comes to be so before the cutover, nothing more is \
             carried until it is mended"
        ));
        out.push(format!("rows that are made in {into} keep their keys on a rollback"));
    } else if keys == Keys::Counted {
        out.push(format!("keys in {into}: {each}"));
        out.push(format!(
            "rows that are made in {into} get the next free number of their own table on a rollback: a number that is in a URL or a mail by \
             then does not survive it"
        ));
    } else {
        out.push(format!("keys in {into}: {each}"));
        out.push(format!(
            "rows that are made in {into} keep the number that theirs comes from, if it is free in their own table, and get one more than \
             the greatest there else: a number that is in a URL or a mail by then may not survive a rollback"
        ));
    }
    if keys == Keys::Numbers {
        out.push(format!(
            "whoever makes rows gives the numbers of {names}, so that a rollback cannot move them ahead: after one without the target \
             (--emergency) the target may have given the same"
        ));
    }
    let lacking = |m: &&Merged| m.from.iter().zip(&m.fixed).any(|(from, fixed)| from.is_none() && fixed.is_none());
    let names: Vec<&str> = merged.iter().filter(lacking).map(|m| m.column.name.as_str()).collect();
    if !names.is_empty() {
        out.push(format!(
            "columns that not all of these tables have may be NULL, and are so in rows of the others; a row that has a value there all the \
             same, or none where its own table needs one, is parked on a rollback and listed: {}",
            names.join(", ")
        ));
    }
    let fixed = merged.iter().take(merged.len() - 1).filter(|m| m.fixed.iter().any(Option::is_some));
    let names: Vec<&str> = fixed.map(|m| m.column.name.as_str()).collect();
    if !names.is_empty() {
        out.push(format!(
            "a row that is made with another value than that of its own table is parked on a rollback and listed: {}",
            names.join(", ")
        ));
    }
    let values: Vec<String> = wanted.from.iter().map(|p| literal(&p.value)).collect();
    out.push(format!(
        "rows whose {} is none of {} have no table to go back to: they are parked and listed",
        wanted.discriminator,
        values.join(", ")
    ));
    out
}
