//! The statements that make one schema into another.

use super::{Catalog, Table, postgres, sqlite};
use crate::plan::Kind;

/// Statements that make one schema into another.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Change {
    /// The statements, in order, without `;`. In SQLite foreign keys have to be off.
    pub up: Vec<String>,
    /// What differs, and what no statement is made for, each with the reason.
    pub not_generated: Vec<String>,
}

/// What is the same under another name. Names are without quotes; a PostgreSQL table's may be qualified.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Renames {
    /// Tables: its name before, its name after.
    pub tables: Vec<(String, String)>,
    /// Columns: their table's name after, the column's name before, its name after.
    pub columns: Vec<(String, String, String)>,
}

/// Statements that make `from` into `to`. What they destroy is destroyed: rows are carried along where a table stays, nothing else is.
pub fn change(from: &Catalog, to: &Catalog, renames: &Renames) -> Change {
    let (up, not_generated) = match to.kind {
        Kind::Postgres => postgres::change::change(from, to, renames),
        _ => sqlite::change::change(from, to, renames),
    };
    Change { up: up.into_iter().map(|s| s.sql).collect(), not_generated }
}

impl Renames {
    /// The same, read from the other side.
    pub fn reversed(&self) -> Renames {
        let swap = |(a, b): &(String, String)| (b.clone(), a.clone());
        let columns = self.columns.iter().map(|(table, from, to)| {
            let before = self.tables.iter().find(|(_, now)| now == table).map(|(then, _)| then);
            (before.unwrap_or(table).clone(), to.clone(), from.clone())
        });
        Renames { tables: self.tables.iter().map(swap).collect(), columns: columns.collect() }
    }
}

/// A table by the name that someone gave.
pub(super) fn given<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a Table> {
    let full = |t: &Table| format!("{}.{}", t.name.schema.as_deref().unwrap_or_default(), t.name.name);
    catalog.tables.iter().find(|t| t.name.quoted == name || full(t) == name || t.name.name == name)
}

/// Renames that are likely: a table that is gone and one that was born with the same columns, or a column that is gone and
/// one that was born in the same table with the same type, where there is no second of its like. To be asked, not to be assumed.
pub fn suggest_renames(from: &Catalog, to: &Catalog) -> Renames {
    let mut out = Renames::default();
    let shape = |t: &Table| -> Vec<(String, String)> {
        let mut columns: Vec<_> = t.columns.iter().map(|c| (c.name.clone(), c.ty.to_lowercase())).collect();
        columns.sort();
        columns
    };
    let full = |t: &Table| match &t.name.schema {
        Some(schema) => format!("{schema}.{}", t.name.name),
        None => t.name.name.clone(),
    };
    let gone: Vec<&Table> = from.tables.iter().filter(|t| to.table(&t.name.quoted).is_none()).collect();
    let born: Vec<&Table> = to.tables.iter().filter(|t| from.table(&t.name.quoted).is_none()).collect();
    let mut pairs: Vec<(&Table, &Table)> = Vec::new();
    for then in &gone {
        let alike = |a: &&&Table, b: &Table| shape(a) == shape(b);
        let mut now = born.iter().filter(|b| alike(b, then));
        if let (Some(now), None) = (now.next(), now.next())
            && gone.iter().filter(|g| alike(g, now)).count() == 1
        {
            out.tables.push((full(then), full(now)));
            pairs.push((then, now));
        }
    }
    pairs.extend(from.tables.iter().filter_map(|t| Some((t, to.table(&t.name.quoted)?))));
    for (then, now) in pairs {
        let gone = || then.columns.iter().filter(|c| now.column(&c.name).is_none());
        let born = || now.columns.iter().filter(|c| then.column(&c.name).is_none());
        let alike = |a: &super::Column, b: &super::Column| {
            a.ty.eq_ignore_ascii_case(&b.ty) && a.generated.is_some() == b.generated.is_some()
        };
        for was in gone() {
            let mut is = born().filter(|b| alike(b, was));
            if let (Some(is), None) = (is.next(), is.next())
                && gone().filter(|g| alike(g, is)).count() == 1
            {
                out.columns.push((full(now), was.name.clone(), is.name.clone()));
            }
        }
    }
    out
}
