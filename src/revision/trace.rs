//! What becomes of tables and columns as a script runs: followed through its renames, its drops and its rebuilds.

use super::catalog::{Catalog, Column, Table};
use super::look::{Alteration, Look, same};
use super::{Statement, sql};
use crate::plan::Kind;

/// What became of each table that was there before.
pub(super) struct Trace {
    kind: Kind,
    tables: Vec<Followed>,
    /// Tables that rows were put into, and those of `tables` that they came from.
    copies: Vec<(String, Vec<usize>)>,
}

struct Followed {
    before: String,
    /// What it is called now; `None` once it is gone.
    now: Option<String>,
    /// Its rows were copied before it was dropped: it goes on as another table, if that one takes its name.
    rebuilt: bool,
    /// Each column before, and what it is called now.
    columns: Vec<(String, Option<String>)>,
}

impl Trace {
    pub fn of(before: &Catalog, statements: &[Statement]) -> Trace {
        let kind = before.kind;
        let follow = |table: &Table| Followed {
            before: spelled(kind, table),
            now: Some(spelled(kind, table)),
            rebuilt: false,
            columns: table.columns.iter().map(|c| (column_spelled(kind, c), Some(column_spelled(kind, c)))).collect(),
        };
        let tables = before.tables().iter().map(follow).collect();
        let mut trace = Trace { kind, tables, copies: Vec::new() };
        for statement in statements {
            trace.step(&Look { kind, tokens: sql::tokens(&statement.sql, kind).collect() });
        }
        trace
    }

    /// The table that `table` is afterwards.
    pub fn table<'a>(&self, table: &Table, after: &'a Catalog) -> Option<&'a Table> {
        let name = spelled(self.kind, table);
        let followed = self.tables.iter().find(|t| t.before == name)?;
        let now = followed.now.as_ref().filter(|now| !followed.rebuilt || same(now, &name))?;
        let is = |t: &&Table| spelled(self.kind, t) == *now;
        let unqualified = |t: &&Table| same(&spelled(self.kind, t), now);
        after.tables().iter().find(is).or_else(|| after.tables().iter().find(unqualified))
    }

    /// The column of `now` that `column` of `table` is afterwards.
    pub fn column<'a>(&self, table: &Table, column: &Column, now: &'a Table) -> Option<&'a Column> {
        let name = spelled(self.kind, table);
        let columns = &self.tables.iter().find(|t| t.before == name)?.columns;
        let before = column_spelled(self.kind, column);
        let called = columns.iter().find(|(b, _)| *b == before).and_then(|(_, now)| now.as_ref())?;
        now.columns.iter().find(|c| column_spelled(self.kind, c) == *called)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let public = format!("public.{name}");
        let called = |is: &dyn Fn(&str) -> bool| self.tables.iter().position(|t| t.now.as_deref().is_some_and(is));
        called(&|now| now == name).or_else(|| called(&|now| now == public)).or_else(|| called(&|now| same(now, name)))
    }

    fn step(&mut self, look: &Look<'_>) {
        if look.is(0, &["DROP", "TABLE"]) {
            for name in look.names(look.skip(2, &["IF", "EXISTS"])) {
                if let Some(i) = self.find(&name) {
                    self.drop(i);
                }
            }
        }
        if let Some((into, from)) = look.copies() {
            let from: Vec<usize> = from.iter().filter_map(|name| self.find(name)).collect();
            self.copies.push((into, from));
        }
        for action in look.actions() {
            let Some(i) = self.find(&action.table) else {
                // what rows were copied into is followed by its names, too
                if let Alteration::RenameTable(to) = (Look { kind: self.kind, tokens: action.tokens }).alteration() {
                    self.copies.iter_mut().filter(|(n, _)| same(n, &action.table)).for_each(|(n, _)| n.clone_from(&to));
                }
                continue;
            };
            let part = Look { kind: self.kind, tokens: action.tokens };
            let table = &mut self.tables[i];
            match part.alteration() {
                Alteration::RenameTable(to) => {
                    let schema = table.now.as_ref().and_then(|now| now.rsplit_once('.')).map(|(schema, _)| schema);
                    table.now = Some(match schema {
                        Some(schema) if self.kind == Kind::Postgres => format!("{schema}.{to}"),
                        _ => to,
                    });
                }
                Alteration::RenameColumn { from, to } => {
                    if let Some(column) = table.columns.iter_mut().find(|(_, now)| now.as_ref() == Some(&from)) {
                        column.1 = Some(to);
                    }
                }
                Alteration::DropColumn(name) => {
                    if let Some(column) = table.columns.iter_mut().find(|(_, now)| now.as_ref() == Some(&name)) {
                        column.1 = None;
                    }
                }
                _ if part.is(0, &["SET", "SCHEMA"]) => {
                    if let (Some((schema, _)), Some(now)) = (part.name(2), &table.now) {
                        let bare = now.rsplit_once('.').map_or(now.as_str(), |(_, bare)| bare);
                        table.now = Some(format!("{schema}.{bare}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// A table is dropped: for good, or to go on as the one that its rows were copied into.
    fn drop(&mut self, i: usize) {
        let copied =
            self.copies.iter().rev().find(|(into, from)| {
                from.contains(&i) && self.tables[i].now.as_deref().is_none_or(|now| !same(now, into))
            });
        let into = copied.map(|(into, _)| into.clone());
        let table = &mut self.tables[i];
        table.rebuilt = into.is_some();
        // by its name a column is found in the table that was made anew
        if into.is_some() {
            table.columns.iter_mut().filter(|(_, now)| now.is_some()).for_each(|(b, now)| *now = Some(b.clone()));
        }
        table.now = into;
    }
}

fn spelled(kind: Kind, table: &Table) -> String {
    let name = match &table.name.schema {
        Some(schema) => format!("{schema}.{}", table.name.name),
        None => table.name.name.clone(),
    };
    if kind == Kind::Sqlite { name.to_ascii_lowercase() } else { name }
}

fn column_spelled(kind: Kind, column: &Column) -> String {
    if kind == Kind::Sqlite { column.name.to_ascii_lowercase() } else { column.name.clone() }
}
