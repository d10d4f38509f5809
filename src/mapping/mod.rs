//! Mappings: a row of the source as a row of the target, and back. Pure; no I/O.
//!
//! Read `convert` for one value, this file for a row, `fold` for a log of changes, `profile` for how a codec is chosen,
//! `transfer` for how a store's schema becomes a plan.

pub mod convert;
pub mod expression;
pub mod fold;
mod jsonb;
mod keys;
pub(crate) mod literal;
pub mod profile;
pub mod reshape;
mod spelled;
mod sql;
pub mod stream;
mod times;
pub mod transfer;

pub use sql::{ahead, said_ahead, warm};

use crate::plan::{Affinity, Codec, ColumnPlan, Kind, Plan, Table, TablePlan};
use crate::value::{Key, Row, Value};

/// Which way a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Source → target: before the cutover.
    Up,
    /// Target → source: after it.
    Down,
}

impl Way {
    /// The table that gives.
    pub fn giver(self, t: &TablePlan) -> &Table {
        if self == Way::Up { &t.source } else { &t.target }
    }
    /// The table that receives.
    pub fn receiver(self, t: &TablePlan) -> &Table {
        if self == Way::Up { &t.target } else { &t.source }
    }
    /// The tables that give, in plan order.
    pub fn givers(self, p: &Plan) -> Vec<&Table> {
        p.tables.iter().map(|t| self.giver(t)).collect()
    }
    /// The tables that receive, in plan order.
    pub fn receivers(self, p: &Plan) -> Vec<&Table> {
        p.tables.iter().map(|t| self.receiver(t)).collect()
    }
}

/// The text, if it is one that every store takes: UTF-8 without NUL.
fn plain_text(t: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(t).ok().filter(|_| !t.contains(&0))
}

/// A row that does not go through the mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, key {key}, column {column}: {why} (value {value})")]
pub struct Misfit {
    /// Table, as the giver names it.
    pub table: String,
    /// The row's key, for people.
    pub key: String,
    /// Column, as the giver names it.
    pub column: String,
    /// Why.
    pub why: String,
    /// The value, shortened.
    pub value: String,
}

/// Maps a row from the giver's side to the receiver's. On the way down, `base` is the source's own row as it rests there: columns that
/// say the same keep its bytes.
///
/// # Errors
/// [`Misfit`] if the other way would not give back what came in.
pub fn map_row(way: Way, t: &TablePlan, row: &[Value<'_>], base: Option<&Row>) -> Result<Row, Misfit> {
    let misfit = |i: usize, why: String| {
        let giver = way.giver(t);
        Misfit {
            table: giver.title().to_owned(),
            key: Key::of_row(row, &giver.key).to_string(),
            column: giver.columns[i].name.clone(),
            why,
            value: row[i].to_string(),
        }
    };
    (0..t.codecs.len())
        .map(|i| {
            let codec = &t.codecs[i].codec;
            match way {
                Way::Up => match up_exact(&t.codecs[i], t.to, &t.target.columns[i].ty, &row[i]) {
                    Ok(Value::Null) if t.target.columns[i].not_null => {
                        Err(misfit(i, "it is required, and not there".into()))
                    }
                    Ok(value) => Ok(value.into_owned()),
                    Err(why) => Err(misfit(i, why)),
                },
                Way::Down => {
                    if let Some(kept) = base.map(|b| &b[i])
                        && convert::up(codec, kept).as_ref() == Ok(&row[i])
                    {
                        return Ok(kept.clone());
                    }
                    let down = convert::down(codec, &row[i]).map_err(|why| misfit(i, why))?;
                    let ty = &t.source.columns[i].ty;
                    match convert::up(codec, &down) {
                        Ok(_) if t.from == Kind::Sqlite && loses_sign(ty, &down) => {
                            Err(misfit(i, "SQLite keeps a negative zero as 0.0 in such a column".into()))
                        }
                        Ok(again) if again == row[i] || is_loose(t, i) => {
                            if let Some(kept) = base.map(|b| &b[i])
                                && convert::up(codec, kept).as_ref() == Ok(&again)
                            {
                                return Ok(kept.clone());
                            }
                            fits(t.from, codec, ty, &down).map_err(|why| misfit(i, why))?;
                            Ok(down)
                        }
                        Ok(_) => Err(misfit(i, "it would not come out the same again".into())),
                        Err(why) => Err(misfit(i, why)),
                    }
                }
            }
        })
        .collect()
}

/// Whether a SQLite column of that type would keep −0.0 as 0.0: all do that have an affinity.
fn loses_sign(ty: &str, v: &Value<'_>) -> bool {
    matches!(v, Value::Real(r) if r.to_bits() == (-0.0f64).to_bits()) && Affinity::of(ty) != Affinity::Blob
}

/// The target may say the same in other words there; a key may not, for it is looked up by its bytes.
fn is_loose(t: &TablePlan, column: usize) -> bool {
    t.codecs[column].codec.is_loose() && !t.target.key.contains(&column)
}

/// One value up, refused unless its way down says the same.
fn up_exact<'a>(c: &ColumnPlan, to: Kind, ty: &str, v: &Value<'a>) -> Result<Value<'a>, String> {
    let target = convert::up(&c.codec, v)?;
    fits(to, &c.codec, ty, &target)?;
    if matches!(c.codec, Codec::Member { .. }) {
        let back = convert::down(&c.codec, &target)?;
        if convert::canon(&c.codec, back) != convert::canon(&c.codec, v.clone()) {
            return Err("it would not come back the same".into());
        }
    }
    Ok(target)
}

/// A value that came unchanged must be of the class its new column has, and within its limits.
pub(crate) fn fits(kind: Kind, codec: &Codec, ty: &str, v: &Value<'_>) -> Result<(), String> {
    if kind != Kind::Postgres || *codec == Codec::Verbatim {
        return Ok(());
    }
    let range =
        |max: i64, i: i64| if (-max - 1..=max).contains(&i) { Ok(()) } else { Err(format!("too large for {ty}")) };
    match (ty, v) {
        (_, Value::Null) => Ok(()),
        ("smallint", Value::Int(i)) => range(i64::from(i16::MAX), *i),
        ("integer", Value::Int(i)) => range(i64::from(i32::MAX), *i),
        ("bigint" | "smallint" | "integer", Value::Text(_) | Value::Real(_) | Value::Blob(_))
        | ("double precision", Value::Int(_) | Value::Text(_) | Value::Blob(_))
        | ("text", Value::Int(_) | Value::Real(_) | Value::Blob(_))
        | ("bytea", Value::Int(_) | Value::Real(_) | Value::Text(_)) => {
            Err(format!("{} in a column of type {ty}", convert::class(v)))
        }
        (ty, v) if ty.starts_with("character varying(") => {
            let Value::Text(t) = v else { return Err(format!("{} in a column of type {ty}", convert::class(v))) };
            let most: usize = ty[18..].trim_end_matches(')').parse().unwrap_or(usize::MAX);
            let chars = t.iter().filter(|b| (**b & 0xC0) != 0x80).count();
            if chars <= most { Ok(()) } else { Err(format!("{chars} characters, and the column is {ty}")) }
        }
        // a type that travels as its text
        (ty, Value::Int(_) | Value::Real(_) | Value::Blob(_)) if *codec == Codec::Same && !has_class(ty) => {
            Err(format!("{} in a column of type {ty}", convert::class(v)))
        }
        _ => Ok(()),
    }
}

/// PostgreSQL's types that integers, doubles, text or bytes go into as they are.
fn has_class(ty: &str) -> bool {
    ["smallint", "integer", "bigint", "double precision", "text", "bytea"].contains(&ty) || ty.starts_with("character")
}

/// A key of the source that leads to this one of the target although another is paired with it.
pub fn rival_key(t: &TablePlan, key: &Key) -> Option<Key> {
    let values = key.values();
    let ([at], [value]) = (t.source.key.as_slice(), values.as_slice()) else { return None };
    let Codec::Key { map, form } = &t.codecs[*at].codec else { return None };
    keys::rival(form, map, value).map(|other| Key::of(&[other]))
}

/// Maps a key.
///
/// # Errors
/// [`Misfit`], as for a row.
pub fn map_key(way: Way, t: &TablePlan, key: &Key) -> Result<Key, Misfit> {
    let values = key.values();
    let giver = way.giver(t);
    let mut out = Vec::new();
    for (at, v) in giver.key.iter().zip(&values) {
        let codec = &t.codecs[*at].codec;
        let misfit = |why| Misfit {
            table: giver.title().to_owned(),
            key: key.to_string(),
            column: giver.columns[*at].name.clone(),
            why,
            value: v.to_string(),
        };
        let mapped = match way {
            Way::Up => convert::up(codec, v).map(Value::into_owned),
            // a key in other words is another key, and must not be taken for the row of this one
            Way::Down => convert::down(codec, v).and_then(|d| match convert::up(codec, &d) {
                Ok(again) if codec.is_loose() && again != *v => Err("it would not come out the same again".into()),
                _ => Ok(d),
            }),
        };
        mapped.map_err(misfit)?.encode(&mut out);
    }
    Ok(Key(out))
}

/// Whether the target's rows may say the same in other words, so that `canon_target` is needed.
pub fn has_words(t: &TablePlan) -> bool {
    (0..t.codecs.len()).any(|i| is_loose(t, i))
}

/// A target row in the words of the way up, given what the way down made of it.
pub fn canon_target<'a>(t: &TablePlan, row: &[Value<'a>], down: &[Value<'a>]) -> Vec<Value<'a>> {
    let column = |i: usize| match convert::up(&t.codecs[i].codec, &down[i]) {
        Ok(again) if is_loose(t, i) => again,
        _ => row[i].clone(),
    };
    (0..row.len()).map(column).collect()
}

/// A source row as verification compares it, encoded into `out`.
pub fn canon_source(t: &TablePlan, row: Vec<Value<'_>>, out: &mut Vec<u8>) {
    for (c, v) in t.codecs.iter().zip(row) {
        convert::canon(&c.codec, v).encode(out);
    }
}
