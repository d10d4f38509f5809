//! What a merged table holds, for all rows of one of those that become it, in a column that this one does not have.

use crate::plan::{Affinity, Column, Kind, Merge, Table, base_type};
use crate::value::Value;

use super::super::literal::{literal, parse_literal};
use super::merge::Merged;
use super::{Result, refuse};

/// Notes the constants of the migration, and makes the columns that none of the tables has.
///
/// # Errors
/// One that its column cannot hold, or that the table has a column for, by its name.
pub(super) fn fix(out: &mut Vec<Merged>, parts: &[&Table], wanted: &Merge, kind: Kind) -> Result<()> {
    let same = |a: &str, b: &str| if kind == Kind::Sqlite { a.eq_ignore_ascii_case(b) } else { a == b };
    let among = out.len();
    for (n, asked) in wanted.from.iter().enumerate() {
        let line = Some(asked.at);
        for (name, text) in &asked.constants {
            if same(name, &wanted.discriminator) {
                let hint = "what it holds is said by `value`";
                return refuse(line, format!("{name} is the discriminator, and no constant"), hint);
            }
            let found = value(text);
            let hint = "a constant is an SQL literal: \"'text'\", \"7\", \"1.5\", \"true\", \"NULL\"";
            let Some(found) = found else { return refuse(line, format!("{text} in `constants` is none"), hint) };
            let at = out.iter().position(|m| same(&m.column.name, name)).unwrap_or_else(|| {
                // the first of them that is not NULL says its type
                let said = wanted.from.iter().flat_map(|p| &p.constants).filter(|(other, _)| same(other, name));
                let ty = said.filter_map(|(_, text)| ty_of(&value(text)?, kind)).next().unwrap_or_default().to_owned();
                let column = Column { name: name.clone(), ty, not_null: true, ..Column::default() };
                out.push(Merged { column, from: vec![None; parts.len()], fixed: vec![None; parts.len()] });
                out.len() - 1
            });
            let m = &mut out[at];
            if m.from[n].is_some() {
                let cause = format!("{} has a column {name} of its own", asked.table);
                return refuse(line, cause, "take it out of `constants`, or give one of them another name");
            }
            if m.is_key(parts) {
                return refuse(line, format!("{name} is the key, which is another in each row"), "take it out");
            }
            if m.column.ty.is_empty() && at >= among {
                let cause = format!("{name} is NULL in all rows, and of no type");
                return refuse(line, cause, "take it out of `constants`, or say a value for one of the tables");
            }
            match fitting(found, &m.column, kind) {
                Some(text) => m.fixed[n] = Some(text),
                None => {
                    let cause = format!("{text} is no value of {name}, which is {}", m.column.ty);
                    return refuse(line, cause, hint);
                }
            }
        }
    }
    for (at, m) in out.iter_mut().enumerate() {
        let fixed = |n: usize| m.fixed[n].as_deref().filter(|text| *text != "NULL");
        let here = |n: usize| m.from[n].is_some();
        if (0..parts.len()).all(here) {
            continue;
        }
        // rows of the others may have nothing there
        m.column.not_null &= (0..parts.len()).all(|n| here(n) || fixed(n).is_some());
        m.column.default =
            fixed(0).filter(|_| at >= among && m.fixed.iter().all(|f| *f == m.fixed[0])).map(str::to_owned);
    }
    Ok(())
}

/// What a literal says.
pub(crate) fn value(text: &str) -> Option<Value<'static>> {
    match text.trim() {
        t if t.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        t if t.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        t if t.eq_ignore_ascii_case("null") => Some(Value::Null),
        t => {
            let quoted = t.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
            let closed = quoted.is_none_or(|t| !t.replace("''", "").contains('\''));
            parse_literal(t.as_bytes()).filter(|v| closed && !matches!(v, Value::Blob(_)))
        }
    }
}

fn ty_of(v: &Value<'_>, kind: Kind) -> Option<&'static str> {
    let postgres = kind == Kind::Postgres;
    match v {
        Value::Text(_) => Some(if postgres { "text" } else { "TEXT" }),
        Value::Int(_) => Some(if postgres { "bigint" } else { "INTEGER" }),
        Value::Real(_) => Some(if postgres { "double precision" } else { "REAL" }),
        Value::Bool(_) => Some(if postgres { "boolean" } else { "INTEGER" }),
        _ => None,
    }
}

/// The literal that a column holds if it is given this value; `None` if it would hold another, or none.
fn fitting(v: Value<'static>, column: &Column, kind: Kind) -> Option<String> {
    let v = match (kind, v) {
        (Kind::Postgres, Value::Bool(b)) => return (column.ty == "boolean").then(|| b.to_string()),
        (_, Value::Bool(b)) => Value::Int(i64::from(b)),
        (_, v) => v,
    };
    let within = |least: i64, most: i64| matches!(v, Value::Int(i) if (least..=most).contains(&i));
    let fits = v.is_null()
        || match kind {
            Kind::Postgres => match base_type(&column.ty).as_str() {
                "smallint" => within(i64::from(i16::MIN), i64::from(i16::MAX)),
                "integer" => within(i64::from(i32::MIN), i64::from(i32::MAX)),
                "bigint" => within(i64::MIN, i64::MAX),
                "double precision" => matches!(v, Value::Real(_)),
                "text" => matches!(v, Value::Text(_)),
                "character varying" => {
                    super::super::fits(kind, &crate::plan::Codec::Same, &column.ty, &v).is_ok()
                        && matches!(v, Value::Text(_))
                }
                _ => false,
            },
            _ => match (Affinity::of(&column.ty), &v) {
                (Affinity::Text, Value::Text(_))
                | (Affinity::Integer | Affinity::Numeric, Value::Int(_))
                | (Affinity::Real, Value::Real(_))
                | (Affinity::Blob, _) => true,
                // text that is no number stays text
                (Affinity::Integer | Affinity::Numeric | Affinity::Real, Value::Text(t)) => {
                    std::str::from_utf8(t).is_ok_and(|t| t.trim().parse::<f64>().is_err())
                }
                _ => false,
            },
        };
    if fits { literal(&v).ok() } else { None }
}
