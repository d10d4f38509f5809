//! The operations `rekey` and `alter`: the tables of one store, and what they become where they are. Data in, data out.
//!
//! `select` says which tables take part and what becomes of each column; then every value of what changes its type or its NOT NULL is
//! looked at (`Fate::look`); `assemble` makes the plan's tables of it.

use std::collections::{HashMap, HashSet};

use crate::plan::{At, Codec, Column, ColumnChange, ColumnPlan, Kind, Reshape, Said, Schema, Table, base_type};
use crate::value::Value;

use super::convert::canon;
use super::transfer::{Refusal, parents_first, usable_key};
use super::up_exact;

pub use assemble::{Assembled, assemble};
use carry::Carry;
pub(crate) use constants::value as constant;

mod assemble;
mod carry;
mod constants;
mod drops;
pub mod keyed;
pub mod merge;
pub mod references;
pub mod split;
mod text;
mod types;
mod words;

/// Why it cannot be, and which line of the migration speaks of it, if one does.
#[derive(Debug)]
pub struct Refused {
    /// Why, and what to do.
    pub refusal: Refusal,
    /// The line.
    pub at: Option<At>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, at: None }
    }
}

type Result<T> = std::result::Result<T, Refused>;

fn refuse<T>(at: Option<At>, cause: impl Into<String>, hint: impl Into<String>) -> Result<T> {
    Err(Refused { refusal: Refusal { cause: cause.into(), hint: hint.into() }, at })
}

/// A table that takes part, and what becomes of it.
pub struct Changing {
    /// As it is.
    pub table: Table,
    /// What becomes of each of its columns.
    pub fates: Vec<Fate>,
    /// The name that it gets.
    pub name: String,
    /// New columns.
    added: Vec<Column>,
    /// Columns that the store computes: their new names; `None` where it goes.
    generated: Vec<Option<String>>,
}

/// What becomes of a column.
#[derive(Clone, Debug)]
pub struct Fate {
    /// As it will be.
    column: Column,
    /// It goes.
    dropped: bool,
    /// Its type is another one.
    retyped: bool,
    /// Codecs that every value so far fits; of a column that keeps its type the one.
    tries: Vec<Codec>,
    /// No NULL may be there any more.
    no_null: bool,
    /// Values that were looked at, NULLs left out.
    values: u64,
    /// By number the columns that foreign keys tie together, which have one spelling.
    family: usize,
    /// Of a soft reference: the family whose spelling it takes if it has no value of its own.
    leans: Option<usize>,
    /// Values that SQL does not bring back as they are spelled, and one of them.
    otherwise: (u64, String),
    /// Texts that are no UUIDs may go along; what was seen of them.
    carry: Option<Carry>,
    /// Where its `up` and its `down` stand.
    said_at: Option<(At, At)>,
    kind: Kind,
    at: Option<At>,
}

/// A column that changes by SQL.
pub struct BySql<'f> {
    /// As it will be.
    pub is: &'f Column,
    /// `up`, and where it stands.
    pub up: (&'f str, At),
    /// `down`, and where it stands.
    pub down: (&'f str, At),
    /// Whom it asks.
    pub said: &'f Said,
}

impl Fate {
    fn of(column: &Column, kind: Kind, family: usize) -> Fate {
        Fate {
            column: column.clone(),
            dropped: false,
            retyped: false,
            tries: vec![Codec::Verbatim],
            no_null: false,
            values: 0,
            family,
            leans: None,
            otherwise: (0, String::new()),
            carry: None,
            said_at: None,
            kind,
            at: None,
        }
    }

    /// Its values are of no matter: they go as they are.
    pub fn is_plain(&self) -> bool {
        !self.retyped && !self.no_null
    }

    /// The table whose numbers it holds though no foreign key says so, if they become others.
    pub fn softly_of(&self) -> Option<&str> {
        self.leans.and(self.tries.first()).and_then(Codec::key_map).map(|m| m.table.as_str())
    }

    /// Its expressions, if it changes by SQL.
    pub fn by_sql(&self) -> Option<BySql<'_>> {
        match (self.tries.first()?, self.said_at) {
            (Codec::Sql { up, down, said, .. }, Some((up_at, down_at))) => {
                Some(BySql { is: &self.column, up: (up, up_at), down: (down, down_at), said })
            }
            _ => None,
        }
    }

    /// A value that is there now, in the store's own words.
    fn look_by_sql(&mut self, value: &Value<'_>) -> std::result::Result<(), String> {
        let Some(codec) = self.tries.first() else { return Ok(()) };
        let plan = ColumnPlan { codec: codec.clone(), why: String::new() };
        let target = up_exact(&plan, self.kind, &self.column.ty, value)?;
        if target.is_null() && self.no_null {
            return Err("`up` makes NULL of it, and the column is to be NOT NULL".into());
        }
        let back = canon(codec, value.clone());
        if back != *value {
            self.otherwise.0 += 1;
            if self.otherwise.1.is_empty() {
                self.otherwise.1 = format!("{value} as {back}");
            }
        }
        self.values += 1;
        Ok(())
    }

    /// A value that is there now.
    ///
    /// # Errors
    /// Why it cannot go with the column.
    pub fn look(&mut self, value: &Value<'_>) -> std::result::Result<(), String> {
        if let Some(Codec::Sql { .. }) = self.tries.first() {
            return self.look_by_sql(value);
        }
        if let (Some(carry), Value::Text(t)) = (&mut self.carry, value) {
            self.values += 1;
            carry.look(&self.tries, t);
            return Ok(());
        }
        if value.is_null() {
            return if self.no_null { Err("NULL in a column that is to be NOT NULL".into()) } else { Ok(()) };
        }
        if !self.retyped {
            return Ok(());
        }
        let (kind, ty) = (self.kind, &self.column.ty);
        let fits = |codec: &Codec| {
            let plan = ColumnPlan { codec: codec.clone(), why: String::new() };
            match (codec, value) {
                // years 1973 to 2096, or seconds could not be told from milliseconds
                (Codec::Epoch { per_second }, Value::Int(i))
                    if !(100_000_000..4_000_000_000).contains(&(i / per_second)) =>
                {
                    Err("not a likely moment in these units".into())
                }
                _ => up_exact(&plan, kind, ty, value).map(drop),
            }
        };
        if self.kind == Kind::Sqlite && self.column.identity && self.tries == [Codec::Verbatim] {
            let whole = matches!(value, Value::Int(_));
            return if whole { Ok(()) } else { Err("an INTEGER that is the key takes whole numbers alone".into()) };
        }
        let left: Vec<Codec> = self.tries.iter().filter(|c| fits(c).is_ok()).cloned().collect();
        if left.is_empty() {
            let other = types::spellings(&self.tries).into_iter().find(|c| fits(c).is_ok());
            return Err(match other {
                Some(other) if self.values > 0 => {
                    format!("{}, where the values before it are {}", spelled(&other), spelled(&self.tries[0]))
                }
                _ => self.tries.first().and_then(|c| fits(c).err()).unwrap_or_else(|| "no codec fits".into()),
            });
        }
        self.tries = left;
        self.values += 1;
        Ok(())
    }
}

fn spelled(codec: &Codec) -> String {
    match codec {
        Codec::Uuid { hyphens, upper } => format!(
            "{} characters in {} letters",
            if *hyphens { 36 } else { 32 },
            if *upper { "capital" } else { "small" }
        ),
        other => other.title(),
    }
}

/// The tables that take part: those that change, and all that foreign keys connect with them; parents first.
///
/// # Errors
/// What cannot be, with the line that asks for it.
pub fn select(schema: &Schema, wanted: &Reshape, kind: Kind) -> Result<Vec<Changing>> {
    let named = |table: &str, at: At| match schema.tables.iter().find(|t| t.name == table) {
        Some(t) => Ok(t),
        None => {
            let names: Vec<&str> = schema.tables.iter().map(|t| t.name.as_str()).collect();
            refuse(Some(at), format!("there is no table {table:?}"), format!("its tables are: {}", names.join(", ")))
        }
    };
    let mut seeds: HashSet<String> = HashSet::new();
    for w in &wanted.tables {
        seeds.insert(named(&w.table, w.at)?.name.clone());
    }
    for w in &wanted.columns {
        seeds.insert(named(&w.table, w.at)?.name.clone());
    }
    if let Some(rekey) = &wanted.rekey {
        for name in &rekey.tables {
            seeds.insert(named(name, rekey.at)?.name.clone());
        }
        for soft in &rekey.references {
            seeds.insert(named(&soft.table, soft.at)?.name.clone());
        }
    }
    let tables = taking_part(schema, &seeds, kind)?;
    let mut family = 0;
    let mut all: Vec<Changing> = tables
        .into_iter()
        .map(|table| Changing {
            fates: table
                .columns
                .iter()
                .map(|c| {
                    family += 1;
                    Fate::of(c, kind, family)
                })
                .collect(),
            name: table.name.clone(),
            added: Vec::new(),
            generated: table.generated.iter().map(|g| Some(g.name.clone())).collect(),
            table,
        })
        .collect();
    alter(&mut all, schema, wanted, kind)?;
    rekey(&mut all, wanted, kind)?;
    tie(&mut all, kind)?;
    for t in &all {
        t.may_drop()?;
        t.names_differ(kind)?;
    }
    Ok(all)
}

/// These tables, and all that foreign keys connect with them, as they take part; parents first.
fn taking_part(schema: &Schema, seeds: &HashSet<String>, kind: Kind) -> Result<Vec<Table>> {
    let found = connected(schema, seeds);
    let mut tables: Vec<Table> = schema.tables.iter().filter(|t| found.contains(&t.name)).cloned().collect();
    for t in &mut tables {
        let with = |t: &Table| {
            if seeds.contains(&t.name) { "" } else { ", which foreign keys connect with what changes," }.to_owned()
        };
        if let Some(why) = &t.details.cannot {
            return refuse(
                None,
                format!("table {}{} cannot take part: {why}", t.name, with(t)),
                "change it in a SQL revision",
            );
        }
        // of such a table only the reader of the schema knows, and says it so
        let noted = schema.tables.iter().position(|s| s.name == t.name).and_then(|i| schema.notes.get(i));
        if noted.is_some_and(|n| n.contains("it is partitioned")) {
            let cause = format!("table {}{} cannot take part: it is partitioned", t.name, with(t));
            return refuse(None, cause, "a partitioned table cannot change in place with this version");
        }
        if t.key.is_empty() {
            t.key = usable_key(t).ok_or_else(|| Refusal {
                cause: format!("table {}{} has no key: rows without one cannot be told apart", t.name, with(t)),
                hint: "give it a primary key, or a unique index over NOT NULL columns".into(),
            })?;
        }
        if let Some(f) = t.foreign_keys.iter().find(|f| !schema.tables.iter().any(|p| p.name == f.table)) {
            let cause =
                format!("table {}{} refers to {}, which is none of this schema's tables", t.name, with(t), f.table);
            return refuse(None, cause, "drop that foreign key first, in a SQL revision, and make it again afterwards");
        }
        if kind == Kind::Postgres {
            // 1.10 and 1.1 are one number, and two spellings that must both come back
            t.columns.iter_mut().filter(|c| base_type(&c.ty) == "numeric").for_each(|c| c.as_text = true);
        }
        // the types are there, and stay
        t.details.types.clear();
    }
    Ok(parents_first(tables))
}

/// All tables that foreign keys connect with these, in either direction.
fn connected(schema: &Schema, seeds: &HashSet<String>) -> HashSet<String> {
    let mut found = seeds.clone();
    loop {
        let before = found.len();
        for t in &schema.tables {
            for f in t.foreign_keys.iter().filter(|f| schema.tables.iter().any(|p| p.name == f.table)) {
                if found.contains(&t.name) || found.contains(&f.table) {
                    found.insert(t.name.clone());
                    found.insert(f.table.clone());
                }
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn alter(all: &mut [Changing], schema: &Schema, wanted: &Reshape, kind: Kind) -> Result<()> {
    for w in &wanted.tables {
        let taken = schema
            .tables
            .iter()
            .map(|t| t.name.as_str())
            .chain(schema.others.iter().filter_map(|(what, _)| what.split_once(' ')).map(|(_, name)| name));
        let same = |a: &str| if kind == Kind::Sqlite { a.eq_ignore_ascii_case(&w.rename) } else { a == w.rename };
        if let Some(other) = taken.into_iter().find(|name| same(name)) {
            return refuse(
                Some(w.at),
                format!("there is a {other} already"),
                "choose another name, or rename that one first",
            );
        }
        may_be_called(&w.rename, kind, w.at)?;
        if let Some(t) = all.iter_mut().find(|t| t.table.name == w.table) {
            t.name.clone_from(&w.rename);
        }
    }
    for w in &wanted.columns {
        let Some(t) = all.iter_mut().find(|t| t.table.name == w.table) else { continue };
        let title = format!("{}.{}", w.table, w.column);
        if let ColumnChange::Add { ty, default, not_null } = &w.change {
            let there = t.table.column(&w.column).is_some() || t.table.generated.iter().any(|g| g.name == w.column);
            if there {
                return refuse(Some(w.at), format!("there is a column {title} already"), "choose another name");
            }
            may_be_called(&w.column, kind, w.at)?;
            let ty = types::plain(ty, kind);
            let column = Column {
                name: w.column.clone(),
                ty,
                not_null: *not_null,
                default: default.clone(),
                ..Column::default()
            };
            t.added.push(column);
            continue;
        }
        if let Some(g) = t.table.generated.iter().position(|g| g.name == w.column) {
            match &w.change {
                ColumnChange::Drop => t.generated[g] = None,
                ColumnChange::Alter { rename: Some(name), ty: None, default: None, not_null: None, by: None } => {
                    may_be_called(name, kind, w.at)?;
                    t.generated[g] = Some(name.clone());
                }
                _ => {
                    let cause =
                        format!("{title} is computed from other columns: it can be renamed or dropped, no more");
                    return refuse(Some(w.at), cause, "drop it, and make it anew in a SQL revision");
                }
            }
            continue;
        }
        let Some(i) = t.table.column(&w.column) else {
            let columns = t.table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let cause = format!("table {} has no column {:?}", w.table, w.column);
            return refuse(Some(w.at), cause, format!("its columns are: {columns}"));
        };
        let fate = &mut t.fates[i];
        fate.at = Some(w.at);
        match &w.change {
            ColumnChange::Drop => fate.dropped = true,
            ColumnChange::Alter { rename, ty, default, not_null, by } => {
                if let Some(name) = rename {
                    may_be_called(name, kind, w.at)?;
                    fate.column.name.clone_from(name);
                }
                if let Some(ty) = ty {
                    types::retype(fate, &t.table, i, ty, default.is_some(), by.as_ref())?;
                }
                if let Some(default) = default {
                    if fate.column.identity {
                        let cause = format!("{title} has its numbers given: it has no other default");
                        return refuse(Some(w.at), cause, "take `default` out");
                    }
                    fate.column.default = Some(default.clone());
                }
                if let Some(not_null) = not_null {
                    if !not_null && (t.table.key.contains(&i) || fate.column.identity) {
                        let cause = format!("{title} is part of the key: it cannot be NULL");
                        return refuse(Some(w.at), cause, "take `not_null` out");
                    }
                    fate.no_null = *not_null && !fate.column.not_null;
                    fate.column.not_null = *not_null;
                }
            }
            ColumnChange::Add { .. } => {}
        }
    }
    Ok(())
}

/// Every primary key that is named, and every column of a foreign key that refers to one.
fn rekey(all: &mut [Changing], wanted: &Reshape, kind: Kind) -> Result<()> {
    let Some(rekey) = &wanted.rekey else { return Ok(()) };
    // a key that is an INTEGER gives numbers by itself there
    let ty = if kind == Kind::Sqlite && rekey.ty == "bigint" { "INTEGER" } else { &rekey.ty };
    let mut changed: Vec<(usize, usize)> = Vec::new();
    // whose keys each of them holds
    let mut roots: Vec<usize> = Vec::new();
    for name in &rekey.tables {
        let Some(t) = all.iter().position(|t| t.table.name == *name) else { continue };
        let table = &all[t].table;
        let [key] = table.key.as_slice() else {
            let cause = format!("the key of {name} has several columns ({})", table.key_names().join(", "));
            let hint = "name the tables whose key is one column: columns that refer to it change with it";
            return refuse(Some(rekey.at), cause, hint);
        };
        if ty.eq_ignore_ascii_case(&table.columns[*key].ty) {
            let cause = format!("the key of {name}, {}, is {} already", table.columns[*key].name, rekey.ty);
            return refuse(Some(rekey.at), cause, "take it out of `tables`");
        }
        changed.push((t, *key));
        roots.push(t);
    }
    let mut at = 0;
    while at < changed.len() {
        let (parent, column) = changed[at];
        let name = all[parent].table.columns[column].name.clone();
        for (c, child) in all.iter().enumerate() {
            for f in child.table.foreign_keys.iter().filter(|f| f.table == all[parent].table.name) {
                for (here, there) in f.columns.iter().zip(references(&all[parent].table, &f.references)) {
                    if let Some(i) = position(&child.table, here, kind).filter(|_| same(&there, &name, kind))
                        && !changed.contains(&(c, i))
                    {
                        changed.push((c, i));
                        roots.push(roots[at]);
                    }
                }
            }
        }
        at += 1;
    }
    let families: HashMap<String, usize> = changed[..rekey.tables.len().min(changed.len())]
        .iter()
        .map(|&(t, i)| (all[t].table.name.clone(), all[t].fates[i].family))
        .collect();
    for soft in &rekey.references {
        let Some(t) = all.iter().position(|t| t.table.name == soft.table) else { continue };
        let Some(i) = all[t].table.column(&soft.column) else {
            let columns = all[t].table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let cause = format!("table {} has no column {:?}", soft.table, soft.column);
            return refuse(Some(soft.at), cause, format!("its columns are: {columns}"));
        };
        if changed.contains(&(t, i)) {
            let cause = format!("{}.{} changes with a foreign key already", soft.table, soft.column);
            return refuse(Some(soft.at), cause, "take the [[rekey.reference]] out");
        }
        all[t].fates[i].leans = families.get(&soft.to).copied();
        all[t].fates[i].at = Some(soft.at);
        changed.push((t, i));
        roots.extend(all.iter().position(|t| t.table.name == soft.to));
    }
    for ((t, i), root) in changed.into_iter().zip(roots) {
        let (own, of) = (t == root && all[t].table.key == [i], all[root].table.name.clone());
        let t = &mut all[t];
        let fate = &mut t.fates[i];
        if fate.dropped || fate.retyped {
            let cause = format!(
                "{}.{} changes with [rekey], and [[alter.column]] speaks of it too",
                t.table.name, t.table.columns[i].name
            );
            return refuse(fate.at, cause, "let one of them go: [[alter.column]] may still rename it");
        }
        if ty.eq_ignore_ascii_case(&fate.column.ty) {
            continue;
        }
        fate.at = fate.at.or(Some(rekey.at));
        let defaulted = fate.column.default != t.table.columns[i].default;
        if kind == Kind::Postgres && rekey.ty == "uuid" && types::is_integer(&t.table.columns[i].ty) {
            types::numbered(fate, &t.table, i, own, &of)?;
        } else {
            types::retype(fate, &t.table, i, ty, defaulted, None)?;
            let soft = rekey.references.iter().find(|s| s.table == t.table.name && s.column == t.table.columns[i].name);
            if soft.map_or(rekey.carry, |s| s.carry) && types::spells_uuids(&fate.tries) {
                fate.carry = Some(Carry::of(&of));
            }
        }
    }
    Ok(())
}

/// SQLite knows no case in names.
fn same(one: &str, other: &str, kind: Kind) -> bool {
    if kind == Kind::Sqlite { one.eq_ignore_ascii_case(other) } else { one == other }
}

/// Position of a column by a name as a foreign key may say it.
fn position(t: &Table, name: &str, kind: Kind) -> Option<usize> {
    t.columns.iter().position(|c| same(&c.name, name, kind))
}

/// The columns that a foreign key refers to: where it does not say, those of the key.
fn references(parent: &Table, said: &[String]) -> Vec<String> {
    if said.is_empty() { parent.key_names().into_iter().map(str::to_owned).collect() } else { said.to_vec() }
}

/// Columns on both ends of a foreign key must be of one type after it as before it, and have one spelling.
fn tie(all: &mut [Changing], kind: Kind) -> Result<()> {
    let mut pairs = Vec::new();
    for (c, child) in all.iter().enumerate() {
        for f in &child.table.foreign_keys {
            let Some(p) = all.iter().position(|t| t.table.name == f.table) else { continue };
            for (here, there) in f.columns.iter().zip(references(&all[p].table, &f.references)) {
                let ends = (position(&child.table, here, kind), position(&all[p].table, &there, kind));
                if let (Some(i), Some(k)) = ends {
                    pairs.push(((c, i), (p, k)));
                }
            }
        }
    }
    for ((c, i), (p, k)) in pairs {
        let (one, other) = (all[c].fates[i].clone(), all[p].fates[k].clone());
        for fate in [&one, &other] {
            if let Some(Codec::Sql { .. }) = fate.tries.first() {
                let cause = format!(
                    "{}.{} refers to {}.{}, and one of them changes by SQL: what referred to a row would not any more",
                    all[c].table.name, all[c].table.columns[i].name, all[p].table.name, all[p].table.columns[k].name
                );
                return refuse(fate.at, cause, "`up` and `down` are for columns that no foreign key ties to others");
            }
        }
        if (one.retyped || other.retyped) && !types::alike(&one.column.ty, &other.column.ty, kind) {
            let cause = format!(
                "{}.{} would be {}, and {}.{}, to which a foreign key refers from it, {}",
                all[c].table.name,
                all[c].table.columns[i].name,
                one.column.ty,
                all[p].table.name,
                all[p].table.columns[k].name,
                other.column.ty
            );
            let hint = "[rekey] changes a key with all that refers to it: name the table in its `tables`";
            return refuse(one.at.or(other.at), cause, hint);
        }
        if one.retyped && other.retyped && one.family != other.family {
            let (gone, into) = (one.family, other.family);
            for fate in all.iter_mut().flat_map(|t| &mut t.fates) {
                if fate.family == gone {
                    fate.family = into;
                }
                if fate.leans == Some(gone) {
                    fate.leans = Some(into);
                }
            }
        }
    }
    Ok(())
}

fn may_be_called(name: &str, kind: Kind, at: At) -> Result<()> {
    let why = match kind {
        Kind::Postgres if name.len() > 63 => "PostgreSQL keeps 63 bytes of a name",
        Kind::Postgres if ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"].contains(&name) => {
            "every table of PostgreSQL has a column of that name"
        }
        Kind::Sqlite if name.to_lowercase().starts_with("sqlite_") => "SQLite keeps such names for itself",
        _ if name.to_lowercase().starts_with("backout_") || name.to_lowercase().starts_with("migration_backup") => {
            "Backout keeps such names for itself"
        }
        _ => return Ok(()),
    };
    refuse(Some(at), format!("nothing can be called {name:?}: {why}"), "choose another name")
}

impl Changing {
    /// Neither it nor anything of it is another than before, but for what its foreign keys refer to.
    pub fn stays(&self) -> bool {
        self.name == self.table.name && self.stays_but_name()
    }

    fn stays_but_name(&self) -> bool {
        self.added.is_empty()
            && self.fates.iter().zip(&self.table.columns).all(|(f, c)| !f.dropped && !f.retyped && f.column == *c)
            && self.generated.iter().zip(&self.table.generated).all(|(n, g)| n.as_ref() == Some(&g.name))
    }

    /// Its columns that change their type or lose their NULLs.
    pub fn is_plain(&self) -> bool {
        self.fates.iter().all(Fate::is_plain)
    }

    fn renames(&self) -> HashMap<String, String> {
        let columns = self.table.columns.iter().zip(&self.fates).map(|(c, f)| (c.name.clone(), f.column.name.clone()));
        let generated = self.table.generated.iter().zip(&self.generated);
        let generated = generated.filter_map(|(g, n)| Some((g.name.clone(), n.clone()?)));
        columns.chain(generated).filter(|(a, b)| a != b).collect()
    }

    fn names_differ(&self, kind: Kind) -> Result<()> {
        let mut seen = HashSet::new();
        let columns = self.fates.iter().filter(|f| !f.dropped).map(|f| &f.column.name);
        let all = columns.chain(self.generated.iter().flatten()).chain(self.added.iter().map(|c| &c.name));
        for name in all {
            if !seen.insert(if kind == Kind::Sqlite { name.to_lowercase() } else { name.clone() }) {
                let cause = format!("two columns of {} would be called {name:?}", self.table.name);
                return refuse(
                    self.fates.iter().find_map(|f| f.at.filter(|_| f.column.name == *name)),
                    cause,
                    "choose another name",
                );
            }
        }
        Ok(())
    }
}
