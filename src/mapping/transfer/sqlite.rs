//! SQLite → PostgreSQL: what a table has beyond columns and rows. It is translated where it surely means the same, else named.

use std::collections::HashSet;

use super::references::references;
use super::{Refusal, refuse};
use crate::mapping::convert;
use crate::mapping::expression::{self, Scope};
use crate::plan::{Codec, ColumnPlan, Generated, Index, IndexColumn, Kind, NotMoved, Table, TablePlan};

fn is_text(ty: &str) -> bool {
    ty == "text" || ty.starts_with("character")
}

/// Indexes, foreign keys, checks and generated columns.
pub(super) fn rest(
    source: &Table,
    target: &mut Table,
    codecs: &mut [ColumnPlan],
    moved: &HashSet<String>,
    into: &dyn Fn(&str) -> String,
    left: &mut Vec<NotMoved>,
) {
    json_in_keys_is_text(source, target, codecs);
    let codecs = &*codecs;
    let columns = target.columns.clone();
    let scope = |reckons| Scope { source: &source.columns, target: &columns, codecs, reckons };
    collations(source, target, codecs, left);
    for g in &source.generated {
        match generated(g, &scope(g.classes.iter().all(|c| c == "integer" || c == "null"))) {
            Some(g) => target.generated.push(g),
            None => left.push(NotMoved {
                what: format!("generated column {}.{}", source.name, g.name),
                why: "its expression has no sure counterpart in PostgreSQL; the source goes on computing it, the target lacks it".into(),
            }),
        }
    }
    for i in &source.indexes {
        match index(i, target, codecs, &scope(false)) {
            Ok(i) => target.indexes.push(i),
            Err(why) => {
                let what = match &i.name {
                    Some(n) => format!("index {n} on {}", source.name),
                    None => format!("unique constraint on {}", source.name),
                };
                left.push(NotMoved { what, why });
            }
        }
    }
    references(source, target, moved, into, left);
    for c in &source.checks {
        match expression::condition(c, &scope(false)) {
            Some(check) => target.checks.push(check),
            None => left.push(NotMoved {
                what: format!("check of {}: {c}", source.name),
                why: "it has no sure counterpart in PostgreSQL; add one there yourself. A row that breaks it is parked on a rollback".into(),
            }),
        }
    }
}

/// Columns whose values are told from each other, or followed: by the key, a unique index, a foreign key.
fn compared(source: &Table) -> HashSet<&str> {
    let unique = source.indexes.iter().filter(|i| i.unique).flat_map(|i| &i.columns).map(|c| c.name.as_str());
    let refers = source.foreign_keys.iter().flat_map(|f| &f.columns).map(String::as_str);
    unique.chain(refers).chain(source.key_names()).collect()
}

/// jsonb takes documents for one that SQLite tells apart by their spelling, and gives them all the same one.
pub(super) fn jsonb_is_no_key(source: &Table, codecs: &[ColumnPlan]) -> Result<(), Refusal> {
    let names = compared(source);
    let asked = source.columns.iter().zip(codecs).find(|(c, p)| p.codec == Codec::Jsonb && names.contains(&*c.name));
    match asked {
        None => Ok(()),
        Some((c, _)) => refuse(
            format!("{}.{} is asked to be jsonb, and it is a key, unique, or refers to one", source.name, c.name),
            "two spellings of one document are one value in jsonb: ask for type = \"text\" there",
        ),
    }
}

/// json has neither order nor equality in PostgreSQL: what is a key stays text.
fn json_in_keys_is_text(source: &Table, target: &mut Table, codecs: &mut [ColumnPlan]) {
    let names = compared(source);
    for (at, c) in source.columns.iter().enumerate() {
        if codecs[at].codec == Codec::JsonText && names.contains(&*c.name) && target.columns[at].ty == "json" {
            codecs[at].codec = Codec::Same;
            codecs[at].why += "; a key, which json cannot be";
            target.columns[at].ty = "text".into();
        }
    }
}

/// What a column's collation did for its key, and that queries go without it.
fn collations(source: &Table, target: &mut Table, codecs: &[ColumnPlan], left: &mut Vec<NotMoved>) {
    for c in source.columns.iter().filter(|c| !c.identity) {
        if let Some(collation) = &c.collation {
            left.push(NotMoved {
                what: format!("collation {collation} of {}.{}", source.name, c.name),
                why: "PostgreSQL compares all bytes; unique indexes stay blind to ASCII's case with NOCASE, queries do not".into(),
            });
        }
    }
    let folds = |&i: &usize| source.columns[i].collation.is_some() && is_text(&target.columns[i].ty);
    let odd = |&i: &usize| {
        source.columns[i].collation.as_deref().is_some_and(|n| n != "NOCASE")
            || (source.columns[i].collation.is_some() && codecs[i].codec == Codec::TextBytes)
    };
    if source.key.iter().any(odd) {
        left.push(NotMoved {
            what: format!("collation in the key of {}", source.name),
            why: "keys that it held to be one can be two in PostgreSQL; on a rollback such rows are parked".into(),
        });
    } else if source.key.iter().any(folds) {
        let column = |&i: &usize| IndexColumn {
            name: target.columns[i].name.clone(),
            descending: false,
            collation: source.columns[i].collation.clone().filter(|_| folds(&i)),
        };
        let columns: Vec<IndexColumn> = source.key.iter().map(column).collect();
        target.indexes.push(Index { unique: true, columns, ..Index::default() });
    }
}

fn generated(g: &Generated, scope: &Scope<'_>) -> Option<Generated> {
    let (said, yields) = expression::scalar(g.expression.as_deref()?, scope)?;
    let class = match yields {
        expression::Yields::Truth | expression::Yields::Int => "integer",
        expression::Yields::Real => "real",
        expression::Yields::Text => "text",
    };
    // the declared type's affinity may have made something else of it
    let as_is = g.classes.iter().all(|c| c == class || c == "null");
    as_is.then(|| Generated {
        name: g.name.clone(),
        ty: yields.ty().into(),
        expression: Some(said),
        classes: Vec::new(),
        place: g.place,
        // older servers know STORED alone
        is_virtual: false,
    })
}

fn index(i: &Index, target: &Table, codecs: &[ColumnPlan], scope: &Scope<'_>) -> Result<Index, String> {
    let there = |name: &str| target.column(name).is_some() || target.generated.iter().any(|g| g.name == name);
    if i.expression {
        let definition = over_expressions(i, target, scope);
        let unsure =
            || "it is over an expression that has no sure counterpart; create one in PostgreSQL yourself".to_owned();
        return Ok(Index { definition: Some(definition.ok_or_else(unsure)?), ..i.clone() });
    }
    if !i.columns.iter().all(|c| there(&c.name)) {
        return Err("it is over an expression; create its counterpart in PostgreSQL yourself".into());
    }
    let predicate =
        match &i.predicate {
            Some(p) => Some(expression::condition(p, scope).ok_or_else(|| {
                format!("its condition «{p}» has no sure counterpart; create it in PostgreSQL yourself")
            })?),
            None => None,
        };
    let mut i = Index { expression: false, predicate, definition: None, ..i.clone() };
    for c in &mut i.columns {
        let at = target.column(&c.name);
        let ty = at.map_or("", |n| target.columns[n].ty.as_str());
        if ty == "json" {
            return Err(format!("PostgreSQL does not index the json of column {}", c.name));
        }
        let Some(collation) = &c.collation else { continue };
        let as_bytes = at.is_some_and(|n| codecs[n].codec == Codec::TextBytes);
        if as_bytes || (is_text(ty) && !collation.eq_ignore_ascii_case("NOCASE")) || at.is_none() {
            return Err(format!("its collation {collation} is unknown to PostgreSQL"));
        }
        if !is_text(ty) {
            // numbers, times and UUIDs have one spelling here, whatever the case
            c.collation = None;
        }
    }
    Ok(i)
}

/// What follows the table's name in the CREATE INDEX of an index over expressions.
fn over_expressions(i: &Index, target: &Table, scope: &Scope<'_>) -> Option<String> {
    let part = |c: &IndexColumn| {
        let said = match target.column(&c.name) {
            Some(_) if c.collation.is_none() => super::quoted(&c.name),
            Some(_) => return None,
            None if c.collation.is_none() => format!("({})", expression::scalar(&c.name, scope)?.0),
            None => return None,
        };
        Some(if c.descending { format!("{said} DESC") } else { said })
    };
    let parts: Vec<String> = i.parts.iter().map(part).collect::<Option<_>>()?;
    let only = match &i.predicate {
        Some(p) => format!(" WHERE {}", expression::condition(p, scope)?),
        None => String::new(),
    };
    Some(format!("USING btree ({}){only}", parts.join(", ")))
}

/// A SQLite default as PostgreSQL says it, for a column of type `ty`; `None` when there is no sure counterpart.
pub(super) fn default(d: &str, ty: &str, codec: &Codec, to: Kind) -> Option<String> {
    let d = d.trim();
    if to == Kind::Sqlite {
        return Some(d.to_owned());
    }
    let bare = {
        let mut b = d;
        while let Some(inner) = b.strip_prefix('(').and_then(|r| r.strip_suffix(')')) {
            b = inner.trim();
        }
        b
    };
    let low = bare.to_ascii_lowercase();
    let now = [
        "current_timestamp",
        "datetime('now')",
        "datetime(\"now\")",
        "strftime('%y-%m-%d %h:%m:%s', 'now')",
        "strftime('%y-%m-%d %h:%m:%s','now')",
    ];
    if now.contains(&low.as_str()) {
        return match ty {
            "timestamp" => Some("date_trunc('second', now() AT TIME ZONE 'UTC')".into()),
            "timestamptz" => Some("now()".into()),
            "text" => Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')".into()),
            t if t.starts_with("character") => {
                Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')".into())
            }
            _ => None,
        };
    }
    if matches!(low.as_str(), "current_date" | "date('now')") {
        return match ty {
            "date" => Some("(now() AT TIME ZONE 'UTC')::date".into()),
            "text" => Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')".into()),
            _ => None,
        };
    }
    if ["strftime('%s','now')", "strftime('%s', 'now')", "unixepoch()", "unixepoch('now')"].contains(&low.as_str()) {
        // SQLite's strftime gives text, which only an integer's affinity makes a number
        return matches!((ty, codec), ("bigint", Codec::Same))
            .then(|| "floor(extract(epoch FROM now()))::bigint".into());
    }
    if low == "strftime('%y-%m-%dt%h:%m:%sz','now')" || low == "strftime('%y-%m-%dt%h:%m:%sz', 'now')" {
        let exact = bare.contains("'%Y-%m-%dT%H:%M:%SZ'");
        return match ty {
            "timestamptz" if exact => Some("date_trunc('second', now())".into()),
            "text" if exact => Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')".into()),
            _ => None,
        };
    }
    if let Some(h) = low.strip_prefix("x'").and_then(|r| r.strip_suffix('\'')).filter(|_| ty == "bytea") {
        let whole = h.len().is_multiple_of(2) && h.bytes().all(|b| b.is_ascii_hexdigit());
        return (whole && *codec == Codec::Same).then(|| format!("'\\x{h}'"));
    }
    let quoted = bare
        .strip_prefix('\'')
        .and_then(|r| r.strip_suffix('\''))
        .or_else(|| bare.strip_prefix('"').and_then(|r| r.strip_suffix('"')));
    let value = if let Some(q) = quoted {
        crate::value::Value::text(q.replace("''", "'"))
    } else if low == "true" || low == "false" {
        crate::value::Value::Int(i64::from(low == "true"))
    } else if let Ok(i) = bare.parse::<i64>() {
        crate::value::Value::Int(i)
    } else if let Ok(r) = bare.parse::<f64>() {
        crate::value::Value::Real(r)
    } else {
        return None;
    };
    // a number as default of a text column is stored as text, and the other way round, by affinity
    let value = match (&value, codec) {
        (crate::value::Value::Int(i), Codec::Same) if ty == "text" || ty.starts_with("character") => {
            crate::value::Value::text(i.to_string())
        }
        (crate::value::Value::Int(i), Codec::Same) if ty == "double precision" => crate::value::Value::Real(*i as f64),
        _ => value,
    };
    use crate::value::Value;
    match (convert::up(codec, &value).ok()?, ty) {
        (Value::Int(i), "bigint" | "integer" | "smallint") => Some(i.to_string()),
        (Value::Real(r), "double precision") if r.is_finite() => Some(r.to_string()),
        (Value::Bool(b), "boolean") => Some(b.to_string()),
        (Value::Decimal(d), t) if t.starts_with("numeric") => Some(d.into_owned()),
        (Value::Text(t), ty) if ty == "text" || ty.starts_with("character") => {
            Some(format!("'{}'", String::from_utf8(t.into_owned()).ok()?.replace('\'', "''")))
        }
        (Value::Timestamp(us), "timestamp") => Some(format!("'{}'", crate::value::timestamp_text(us)?)),
        (Value::Date(d), "date") => Some(format!("'{}'", crate::value::date_text(d)?)),
        (Value::Json(j), "json") => Some(format!("'{}'", String::from_utf8(j.into_owned()).ok()?.replace('\'', "''"))),
        _ => None,
    }
}

/// Names that PostgreSQL makes up, or would find taken, are settled: tables and indexes share one space there, constraints of a
/// table another.
///
/// # Errors
/// [`Refusal`], where a name cannot be chosen by us.
pub(super) fn settle_names(plans: &mut [TablePlan]) -> Result<(), Refusal> {
    let tables = plans.iter().map(|p| p.target.name.clone());
    let indexes = plans.iter().flat_map(|p| p.target.indexes.iter().filter_map(|i| i.name.clone()));
    let mut taken: HashSet<String> = tables.chain(indexes).collect();
    let mut free = |wanted: String| {
        let name =
            (1..).map(|n| if n == 1 { wanted.clone() } else { format!("{wanted}_{n}") }).find(|n| !taken.contains(n));
        let name = name.unwrap_or(wanted);
        taken.insert(name.clone());
        name
    };
    for p in plans.iter_mut() {
        let t = &mut p.target;
        let short = |name: &str| name.len() <= 60;
        let key = format!("{}_pkey", t.name);
        if t.key_name.is_none() && short(&key) {
            t.key_name = Some(free(key.clone())).filter(|n| *n != key);
        }
        for i in t.indexes.iter_mut().filter(|i| i.name.is_none()) {
            let columns: Vec<&str> = i.columns.iter().map(|c| c.name.as_str()).collect();
            let made = format!("{}_{}_key", t.name, columns.join("_"));
            if short(&made) {
                i.name = Some(free(made.clone())).filter(|n| *n != made);
            }
        }
        let mut constraints: HashSet<String> = (1..=t.checks.len()).map(|n| format!("{}_check{n}", t.name)).collect();
        for f in &mut t.foreign_keys {
            f.name = f.name.take().filter(|n| n.len() <= 63);
            let wanted = f.name.clone().unwrap_or_else(|| format!("{}_{}_fkey", t.name, f.columns.join("_")));
            if !constraints.insert(wanted.clone()) {
                let base: String = wanted.chars().take(40).collect();
                let name = (2..).map(|n| format!("{base}_{n}")).find(|n| !constraints.contains(n)).unwrap_or(wanted);
                constraints.insert(name.clone());
                f.name = Some(name);
            }
        }
    }
    for t in plans.iter().map(|p| &p.target) {
        for c in t.columns.iter().filter(|c| c.identity) {
            let sequence = format!("{}_{}_seq", t.name, c.name);
            if taken.contains(&sequence) {
                return refuse(
                    format!(
                        "{sequence} is the name that PostgreSQL gives to the numbering of {}.{}, and it is taken",
                        t.name, c.name
                    ),
                    "give that table another name with `rename`, or its index one in the source",
                );
            }
        }
    }
    Ok(())
}

/// An index of PostgreSQL holds no entry of more than about 2 700 bytes. Those that would not be built are named, a key is refused.
///
/// # Errors
/// [`Refusal`]
pub fn narrow(plans: &mut [TablePlan], widest: &[Vec<usize>], left: &mut Vec<NotMoved>) -> Result<(), Refusal> {
    const MOST: usize = 2600;
    for (p, widest) in plans.iter_mut().zip(widest) {
        let of = |name: &str| p.source.columns.iter().position(|c| c.name == name).map_or(0, |i| widest[i]);
        let wide = |names: &[String]| names.iter().map(|n| of(n)).sum::<usize>() > MOST;
        let key: Vec<String> = p.source.key_names().iter().map(ToString::to_string).collect();
        if wide(&key) {
            return refuse(
                format!(
                    "{}: the key ({}) has values of {} bytes, and an index of PostgreSQL takes some {MOST}",
                    p.source.name,
                    key.join(", "),
                    key.iter().map(|n| of(n)).max().unwrap_or(0)
                ),
                format!("shorten them in the source, or leave the table behind with exclude = [{:?}]", p.source.name),
            );
        }
        let (table, mut gone) = (p.source.name.clone(), Vec::new());
        p.target.indexes.retain(|i| {
            let mut names: Vec<String> = i.columns.iter().map(|c| c.name.clone()).collect();
            if i.expression {
                names = p.source.columns.iter().map(|c| c.name.clone()).collect();
                names.retain(|n| i.definition.as_ref().is_some_and(|d| d.contains(&super::quoted(n))));
            }
            let keep = !wide(&names);
            if !keep {
                gone.push(NotMoved {
                    what: format!(
                        "{} on {table}",
                        i.name
                            .as_ref()
                            .map_or(format!("unique constraint ({})", names.join(", ")), |n| format!("index {n}"))
                    ),
                    why: format!("it has values of more than {MOST} bytes, which an index of PostgreSQL does not take"),
                });
            }
            keep
        });
        p.target.foreign_keys.retain(|f| {
            let keep = !wide(&f.columns);
            if !keep {
                gone.push(NotMoved {
                    what: format!("foreign key {table} ({}) → {}", f.columns.join(", "), f.table),
                    why: format!("it has values of more than {MOST} bytes, for which PostgreSQL can build no index"),
                });
            }
            keep
        });
        left.extend(gone);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Spelling;

    #[test]
    fn a14_defaults_are_translated_from_a_list_or_named() {
        let flag = Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) };
        let d = |d: &str, ty: &str, c: &Codec| default(d, ty, c, Kind::Postgres);
        assert_eq!(d("1", "boolean", &flag).as_deref(), Some("true"));
        assert_eq!(d("false", "boolean", &flag).as_deref(), Some("false"));
        assert_eq!(d("'it''s'", "text", &Codec::Same).as_deref(), Some("'it''s'"));
        assert_eq!(d("\"x\"", "text", &Codec::Same).as_deref(), Some("'x'"));
        assert_eq!(d("'null'", "text", &Codec::Same).as_deref(), Some("'null'"));
        assert_eq!(d("(-5)", "bigint", &Codec::Same).as_deref(), Some("-5"));
        assert_eq!(
            d("CURRENT_TIMESTAMP", "timestamp", &Codec::Same).as_deref(),
            Some("date_trunc('second', now() AT TIME ZONE 'UTC')")
        );
        assert_eq!(d("(random())", "bigint", &Codec::Same), None);
        assert_eq!(d("'abc'", "bigint", &Codec::Same), None);
    }
}
