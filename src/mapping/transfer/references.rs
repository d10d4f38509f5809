//! Foreign keys: which move with their tables, and which cannot be made in PostgreSQL.

use std::collections::HashSet;

use crate::plan::{Codec, ForeignKey, NotMoved, Table, TablePlan};

/// Foreign keys to tables that move.
pub(super) fn references(
    source: &Table,
    target: &mut Table,
    moved: &HashSet<String>,
    into: &dyn Fn(&str) -> String,
    left: &mut Vec<NotMoved>,
) {
    for f in &source.foreign_keys {
        if moved.contains(&f.table) {
            target.foreign_keys.push(ForeignKey { table: into(&f.table), ..f.clone() });
        } else {
            left.push(NotMoved {
                what: format!("foreign key {} → {}", source.name, f.table),
                why: format!("table {} is not moved", f.table),
            });
        }
    }
}

/// A foreign key whose two ends became different types cannot be made; it is left behind, by name.
pub(super) fn unlike_references(plans: &mut [TablePlan], left: &mut Vec<NotMoved>) {
    // what is compared with each other must have become the same type by the same spelling
    let family = |ty: &str, codec: &Codec| match (ty, codec) {
        ("smallint" | "integer" | "bigint", _) => "integer".to_owned(),
        (t, Codec::Literal | Codec::AffinityText { .. } | Codec::Escape) => format!("{t} {codec:?}"),
        (t, _) if t.starts_with("character varying") => "text".to_owned(),
        (t, _) if t.starts_with("numeric") => "numeric".to_owned(),
        (t, _) => t.to_owned(),
    };
    type Columns = Vec<(String, String, bool)>;
    let columns_of = |p: &TablePlan| -> Columns {
        let all = p.target.columns.iter().zip(&p.source.columns).zip(&p.codecs);
        all.map(|((t, s), c)| (t.name.clone(), family(&t.ty, &c.codec), s.collation.is_some())).collect()
    };
    /// A table's name, its columns' names, families and whether they have a collation, and its unique keys.
    type Referred = (String, Vec<(String, String, bool)>, Vec<Vec<String>>);
    let types: Vec<Referred> = plans
        .iter()
        .map(|p| {
            let t = &p.target;
            let mut unique = vec![t.key_names().iter().map(ToString::to_string).collect::<Vec<_>>()];
            unique.extend(
                t.indexes
                    .iter()
                    .filter(|i| i.unique && i.predicate.is_none() && i.columns.iter().all(|c| c.collation.is_none()))
                    .map(|i| i.columns.iter().map(|c| c.name.clone()).collect()),
            );
            (t.name.clone(), columns_of(p), unique)
        })
        .collect();
    for (at, p) in plans.iter_mut().enumerate() {
        let t = &mut p.target;
        let name = t.name.clone();
        let mine = &types[at].1;
        t.foreign_keys.retain(|f| {
            let why = match types.iter().find(|(n, ..)| *n == f.table) {
                None => Some("the table it refers to is not moved".to_owned()),
                Some((_, theirs, unique)) => {
                    let find = |all: &Columns, name: &str| all.iter().find(|(n, ..)| n == name).cloned();
                    let pairs = f.columns.iter().zip(&f.references);
                    let unlike = pairs.clone().find(|(a, b)| match (find(mine, a), find(theirs, b)) {
                        (Some((_, x, _)), Some((_, y, _))) => x != y || x.starts_with("json"),
                        _ => true,
                    });
                    let folded =
                        pairs.clone().find(|(_, b)| find(theirs, b).is_some_and(|(_, ty, c)| c && ty == "text"));
                    let mut wanted = f.references.clone();
                    wanted.sort();
                    let keyed = unique.iter().any(|u| {
                        let mut u = u.clone();
                        u.sort();
                        u == wanted
                    });
                    match (unlike, folded) {
                        (Some((a, b)), _) => Some(format!("{a} and {b} become types that are not compared")),
                        (_, Some((_, b))) => {
                            Some(format!("{b} has a collation, by which SQLite finds parents and PostgreSQL does not"))
                        }
                        (None, None) if !keyed => Some("what it refers to has no unique key in PostgreSQL".into()),
                        (None, None) => None,
                    }
                }
            };
            if let Some(why) = &why {
                left.push(NotMoved {
                    what: format!("foreign key {name} ({}) → {}", f.columns.join(", "), f.table),
                    why: why.clone(),
                });
            }
            why.is_none()
        });
    }
}
