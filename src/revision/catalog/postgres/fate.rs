//! What becomes of what: what goes, what stays under another type, what has to go for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::alter;
use crate::revision::catalog::{Catalog, Object, Table, What};

/// What becomes of what.
pub(super) struct Fate {
    /// Ids of the schema before that do not stay as they are: they go, or go and come again.
    pub gone: BTreeSet<String>,
    /// Ids of columns that stay under another type.
    pub retyped: BTreeSet<String>,
    /// Types that are built anew while their columns stay.
    pub rebuilt: BTreeSet<String>,
}

pub(super) fn by_id(catalog: &Catalog) -> HashMap<String, &Object> {
    catalog.objects.iter().map(|o| (o.id(), o)).collect()
}

/// All that has an id, each with what it needs.
pub(super) fn needs(catalog: &Catalog) -> BTreeMap<String, BTreeSet<String>> {
    let mut out = BTreeMap::new();
    for table in &catalog.tables {
        let id = table.id();
        out.insert(id.clone(), table.depends.clone());
        for column in &table.columns {
            let mut depends = column.depends.clone();
            depends.insert(id.clone());
            out.insert(table.column_id(column), depends);
            if column.default.is_some() {
                let mut depends = column.default_depends.clone();
                depends.insert(table.column_id(column));
                out.insert(table.default_id(column), depends);
            }
        }
    }
    for object in &catalog.objects {
        let mut depends = object.depends.clone();
        // pg_depend names the columns only
        let tables: Vec<String> = depends
            .iter()
            .filter_map(|d| d.strip_prefix("column "))
            .map(|c| format!("table {}", super::words::split_last(c).0))
            .collect();
        depends.extend(tables);
        if let Some(table) = object.table.as_ref().filter(|t| catalog.table(t).is_some()) {
            depends.insert(format!("table {table}"));
        }
        out.insert(object.id(), depends);
    }
    out
}

/// What no statement is made for, and all that needs it.
pub(super) fn beyond(from: &Catalog, to: &Catalog) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for catalog in [from, to] {
        let other = if std::ptr::eq(catalog, from) { to } else { from };
        out.extend(catalog.tables.iter().filter(|t| stuck(t, catalog, other)).map(Table::id));
        out.extend(catalog.objects.iter().filter(|o| o.what == What::Other).map(Object::id));
        let needs = needs(catalog);
        loop {
            let more: Vec<String> = needs
                .iter()
                .filter(|(id, on)| !out.contains(*id) && on.iter().any(|d| out.contains(d)))
                .map(|(id, _)| id.clone())
                .collect();
            // a table that has such a column
            let tables = more.iter().filter_map(|id| id.strip_prefix("column ")).map(super::words::split_last);
            let tables: Vec<String> = tables.map(|(table, _)| format!("table {table}")).collect();
            let before = out.len();
            out.extend(more);
            out.extend(tables);
            if out.len() == before {
                break;
            }
        }
    }
    out
}

/// A table for which no statement is made: of a kind that is never made, or partitioned or inheriting and no longer the same.
fn stuck(table: &Table, catalog: &Catalog, other: &Catalog) -> bool {
    if table.beyond.is_none() {
        return false;
    }
    let shared = ["partitioned by", "partition", "inherits"].iter().any(|key| table.options.contains_key(*key));
    let Some(there) = other.table(&table.name.quoted) else { return !shared || table.options.contains_key("of type") };
    let own = |catalog: &Catalog| -> Vec<(String, String)> {
        let own = |o: &&Object| o.table.as_deref() == Some(&table.name.quoted);
        catalog.objects.iter().filter(own).map(|o| (o.id(), format!("{}{:?}", o.canon, o.parts))).collect()
    };
    table.columns != there.columns || table.options != there.options || own(catalog) != own(other)
}

/// It can be altered without having to go.
fn alterable(from: &Object, to: &Object) -> bool {
    match from.what {
        What::Enum | What::Domain | What::Sequence => true,
        What::Function => {
            let fixed = |o: &Object| o.parts.iter().filter(|(k, _)| k != "language").cloned().collect::<Vec<_>>();
            fixed(from) == fixed(to) && from.word != Some("AGGREGATE".into())
        }
        // WITH SCHEMA; the public schema's comment
        What::Schema | What::Extension => true,
        _ => false,
    }
}

pub(super) fn fate(from: &Catalog, to: &Catalog) -> (Fate, Vec<String>) {
    let mut fate = Fate { gone: BTreeSet::new(), retyped: BTreeSet::new(), rebuilt: BTreeSet::new() };
    let (mut stuck, after) = (Vec::new(), by_id(to));
    for object in &from.objects {
        let id = object.id();
        match after.get(&id) {
            None => {
                fate.gone.insert(id);
            }
            Some(other) => {
                let same =
                    object.canon == other.canon && object.parts == other.parts && (other.broken || !object.broken);
                if !same && alter::rebuilds(object, other, to) {
                    fate.rebuilt.insert(id);
                } else if !same && object.what == What::Composite && held(from, &id) {
                    stuck.push(format!(
                        "{id}: columns of tables hold it, and values of it cannot be turned into others"
                    ));
                } else if !same && !alterable(object, other) {
                    fate.gone.insert(id);
                }
            }
        }
    }
    for table in &from.tables {
        let Some(other) = to.table(&table.name.quoted) else {
            fate.gone.insert(table.id());
            fate.gone.extend(table.columns.iter().map(|c| table.column_id(c)));
            fate.gone.extend(table.columns.iter().map(|c| table.default_id(c)));
            continue;
        };
        for column in &table.columns {
            match other.column(&column.name) {
                None => {
                    fate.gone.insert(table.column_id(column));
                    fate.gone.insert(table.default_id(column));
                }
                Some(is) if alter::remade(column, is) => {
                    fate.gone.insert(table.column_id(column));
                    fate.gone.insert(table.default_id(column));
                }
                Some(is) => {
                    if column.ty != is.ty || column.collation != is.collation {
                        fate.retyped.insert(table.column_id(column));
                        fate.gone.insert(table.default_id(column));
                    }
                    if column.default != is.default {
                        fate.gone.insert(table.default_id(column));
                    }
                }
            }
        }
    }
    spread(from, &after, &mut fate);
    (fate, stuck)
}

/// A column has this type.
fn held(catalog: &Catalog, id: &str) -> bool {
    catalog.tables.iter().flat_map(|t| &t.columns).any(|c| c.depends.contains(id))
}

/// What depends on what goes, goes too (and comes again, if it is wanted).
fn spread(from: &Catalog, after: &HashMap<String, &Object>, fate: &mut Fate) {
    let needs = needs(from);
    let before = by_id(from);
    loop {
        let mut more = BTreeSet::new();
        for (id, on) in &needs {
            if fate.gone.contains(id) {
                continue;
            }
            let key = before.get(id).is_some_and(|o| {
                o.what == What::Constraint && matches!(o.parts.first(), Some((_, k)) if k == "p" || k == "u")
            });
            // keys of a column are built anew with its type
            let disturbed = on
                .iter()
                .any(|d| fate.gone.contains(d) || !key && fate.retyped.contains(d) && !id.starts_with("sequence "));
            let of_type = on.iter().any(|d| fate.rebuilt.contains(d));
            if id.starts_with("column ") {
                if of_type {
                    fate.retyped.insert(id.clone());
                }
                if (disturbed || of_type) && generated(from, id) {
                    more.insert(id.clone());
                }
            } else if ["table ", "schema ", "extension "].iter().any(|kind| id.starts_with(kind))
                || fate.rebuilt.contains(id)
            {
                continue;
            } else if (id.starts_with("enum ") || id.starts_with("domain ")) && (of_type || disturbed) {
                if after.contains_key(id) {
                    fate.rebuilt.insert(id.clone());
                } else {
                    more.insert(id.clone());
                }
            } else if disturbed || of_type {
                more.insert(id.clone());
            }
        }
        // a default of a column that is retyped
        for id in fate.retyped.iter().filter_map(|id| id.strip_prefix("column ")) {
            more.insert(format!("default {id}"));
        }
        let so_far = (fate.gone.len(), fate.rebuilt.len(), fate.retyped.len());
        fate.gone.extend(more);
        let retyped: Vec<String> = fate.retyped.iter().filter(|id| !fate.gone.contains(*id)).cloned().collect();
        fate.retyped = retyped.into_iter().collect();
        if so_far == (fate.gone.len(), fate.rebuilt.len(), fate.retyped.len()) {
            break;
        }
    }
}

fn generated(catalog: &Catalog, id: &str) -> bool {
    let of = |t: &Table| t.columns.iter().any(|c| c.generated.is_some() && t.column_id(c) == id);
    catalog.tables.iter().any(of)
}
