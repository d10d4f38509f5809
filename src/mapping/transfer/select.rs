//! Which tables or collections move, by what key, and in which order.

use std::collections::HashSet;

use super::{Refusal, refuse};
use crate::plan::{Kind, NotMoved, Schema, Table, Transfer, base_type};

/// Which of the source's tables move, with their keys settled, and what stays behind.
///
/// # Errors
/// [`Refusal`]
pub fn select(schema: Schema, wanted: &Transfer, from: Kind) -> Result<(Vec<Table>, Vec<NotMoved>), Refusal> {
    let (mut tables, left) = if from == Kind::Json { collections(schema, wanted) } else { tables(schema, wanted) }?;
    if from == Kind::Postgres {
        let numerics = tables.iter_mut().flat_map(|t| &mut t.columns).filter(|c| base_type(&c.ty) == "numeric");
        // 1.10 and 1.1 are one number, and two spellings that must both come back
        numerics.for_each(|c| c.as_text = true);
    }
    Ok((tables, left))
}

fn collections(schema: Schema, wanted: &Transfer) -> Result<(Vec<Table>, Vec<NotMoved>), Refusal> {
    if wanted.tables.is_empty() {
        let found: Vec<_> = schema.tables.iter().map(|t| format!("{:?}", t.name)).collect();
        return refuse(
            "the migration names no collection of the JSON file",
            format!(
                "add [[transfer.table]] with source, key and into for each collection; the file has: {}",
                if found.is_empty() { "none".into() } else { found.join(", ") }
            ),
        );
    }
    let mut out = Vec::new();
    for w in &wanted.tables {
        let Some(mut t) = schema.tables.iter().find(|t| t.name == w.source).cloned() else {
            let found: Vec<_> =
                schema.tables.iter().map(|t| if t.name.is_empty() { "$".into() } else { t.name.clone() }).collect();
            return refuse(
                format!(
                    "the JSON file has no collection of records at {:?}",
                    if w.source.is_empty() { "$" } else { &w.source }
                ),
                format!("collections there are: {}", if found.is_empty() { "none".into() } else { found.join(", ") }),
            );
        };
        if t.details.json_object {
            let [name] = w.key.as_slice() else {
                return refuse(format!("{}: an object keyed by id has one key", t.title()), "give `key` one name");
            };
            if t.columns.iter().skip(1).any(|c| c.name == *name) {
                return refuse(
                    format!("{}: its records have a member {name:?} of their own", t.title()),
                    format!("`key` names the new column for the record's id; choose another name than {name:?}"),
                );
            }
            t.columns[0].name.clone_from(name);
            t.columns[0].not_null = true;
            t.key = vec![0];
        } else {
            t.key = w
                .key
                .iter()
                .map(|k| {
                    t.column(k).ok_or_else(|| Refusal {
                        cause: format!("{}: no record has a member {k:?}, which is to be the key", t.title()),
                        hint: format!(
                            "members are: {}",
                            t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
                        ),
                    })
                })
                .collect::<Result<_, _>>()?;
            for &i in &t.key.clone() {
                t.columns[i].not_null = true;
            }
        }
        for r in &w.required {
            match t.column(r) {
                Some(i) => t.columns[i].not_null = true,
                None => {
                    return refuse(
                        format!("{}: required member {r:?} is in no record", t.title()),
                        "take it out of `required`, or mend the file",
                    );
                }
            }
        }
        out.push(t);
    }
    let moved: HashSet<&str> = out.iter().map(|t| t.name.as_str()).collect();
    let whole = moved.contains("");
    let mut left: Vec<NotMoved> = schema
        .tables
        .iter()
        .filter(|t| !whole && !t.name.is_empty() && !moved.contains(t.name.as_str()))
        .map(|t| NotMoved { what: format!("collection {}", t.name), why: "no [[transfer.table]] names it".into() })
        .collect();
    left.extend(schema.others.into_iter().map(|(what, why)| NotMoved { what, why }));
    Ok((out, left))
}

fn tables(schema: Schema, wanted: &Transfer) -> Result<(Vec<Table>, Vec<NotMoved>), Refusal> {
    let names: Vec<String> = schema.tables.iter().map(|t| t.name.clone()).collect();
    let asked = wanted
        .only
        .iter()
        .chain(&wanted.exclude)
        .chain(wanted.rename.iter().map(|(a, _)| a))
        .chain(wanted.columns.iter().map(|c| &c.table));
    for name in asked {
        if !names.contains(name) {
            return refuse(
                format!("the source has no table {name:?}, which the migration names"),
                format!("its tables are: {}", names.join(", ")),
            );
        }
    }
    let mut left: Vec<NotMoved> = schema.others.into_iter().map(|(what, why)| NotMoved { what, why }).collect();
    let mut out = Vec::new();
    for mut t in schema.tables {
        if wanted.exclude.contains(&t.name) || (!wanted.only.is_empty() && !wanted.only.contains(&t.name)) {
            left.push(NotMoved { what: format!("table {}", t.name), why: "the migration leaves it out".into() });
            continue;
        }
        if let Some(why) = &t.details.cannot {
            return refuse(
                format!("table {} cannot be moved: {why}", t.name),
                format!("leave it behind with exclude = [{:?}]", t.name),
            );
        }
        if t.key.is_empty() {
            match usable_key(&t) {
                Some(key) => t.key = key,
                None => {
                    return refuse(
                        format!("table {} has no key: rows without one cannot be told apart", t.name),
                        format!(
                            "give it a primary key, or a unique index over NOT NULL columns; or leave it behind with exclude = [{:?}]",
                            t.name
                        ),
                    );
                }
            }
        }
        out.push(t);
    }
    if out.is_empty() {
        return refuse("there is no table to move", "check `tables` and `exclude` in the migration");
    }
    Ok((parents_first(out), left))
}

/// A key beside the primary one by which rows can be told apart: that of a unique index over NOT NULL columns.
pub(in crate::mapping) fn usable_key(t: &Table) -> Option<Vec<usize>> {
    let unique = t.indexes.iter().find(|i| {
        i.unique
            && i.predicate.is_none()
            && !i.expression
            && i.special.is_none()
            && i.columns
                .iter()
                .all(|c| c.collation.is_none() && t.column(&c.name).is_some_and(|n| t.columns[n].not_null))
    });
    unique.map(|u| u.columns.iter().filter_map(|c| t.column(&c.name)).collect())
}

/// Tables so that those referred to come first; cycles stay in the order given.
pub(in crate::mapping) fn parents_first(mut rest: Vec<Table>) -> Vec<Table> {
    let mut out: Vec<Table> = Vec::new();
    while !rest.is_empty() {
        let waiting: HashSet<String> = rest.iter().map(|t| t.name.clone()).collect();
        let at = rest
            .iter()
            .position(|t| t.foreign_keys.iter().all(|f| f.table == t.name || !waiting.contains(&f.table)))
            .unwrap_or(0);
        out.push(rest.remove(at));
    }
    out
}
