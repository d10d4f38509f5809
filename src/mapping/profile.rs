//! Choosing a column's codec by looking at every value it holds; the declared type is only a hint.

mod tries;
mod types;

use crate::plan::{Affinity, Codec, Column, ColumnPlan, Form, Kind, Shape};
use crate::value::Value;

use tries::{Try, empty_try, epoch_tries, is_time, member_tries, postgres_tries, sqlite_tries, uuid_tries};

/// What has been seen of a column, and which codecs all of it fits.
pub struct ColumnProfile {
    column: Column,
    from: Kind,
    to: Kind,
    tries: Vec<Try>,
    /// Text that may be time: formats are tried once a first value shows the shape.
    time_pending: bool,
    /// Times without a zone are in UTC.
    utc: bool,
    seen: Seen,
    /// The last codec to fall, and what it fell over.
    fell: Option<(String, String)>,
}

#[derive(Default)]
struct Seen {
    values: u64,
    nulls: u64,
    missing: u64,
    min: Option<i64>,
    max: Option<i64>,
    chars: usize,
    bytes: usize,
    /// Digits before and after the point of decimals.
    whole: usize,
    scale: usize,
    point: bool,
    others: bool,
}

/// No codec takes every value of the column.
#[derive(Debug)]
pub struct NoFit {
    /// Why the last one fell.
    pub why: String,
    /// The value it fell over.
    pub value: String,
}

impl ColumnProfile {
    /// Begins; `wanted` is the codec a user asked for by name, if any.
    pub fn new(column: &Column, from: Kind, to: Kind, wanted: Option<&str>) -> Result<ColumnProfile, String> {
        let mut tries = match (from, to) {
            (Kind::Json, _) => member_tries(to),
            (Kind::Sqlite, Kind::Postgres) => sqlite_tries(&column.ty),
            (Kind::Postgres, Kind::Sqlite) => postgres_tries(&column.ty),
            _ => vec![Try::Codec(Codec::Verbatim)],
        };
        if wanted.is_some() && !matches!((from, to), (Kind::Json, _) | (Kind::Sqlite, Kind::Postgres)) {
            return Err(format!("from {} to {} every column has the one codec that is exact", from.name(), to.name()));
        }
        if (from, to) == (Kind::Json, Kind::Sqlite)
            && wanted.is_some_and(|w| ["uuid", "timestamp", "jsonb"].contains(&w))
        {
            return Err("SQLite has no type of its own for that: leave `codec` out".into());
        }
        let time = is_time(&column.ty) && to == Kind::Postgres;
        let mut time_pending = time && from == Kind::Sqlite;
        if let Some(name) = wanted {
            if name == "literal" {
                tries = vec![Try::Codec(Codec::Literal)];
            } else if name == "uuid" {
                tries = uuid_tries();
            } else if name == "text" {
                tries = vec![Try::Texts, Try::Codec(Codec::AffinityText { affinity: Affinity::of(&column.ty) })];
            } else if name == "timestamp" {
                tries = epoch_tries();
                time_pending = true;
            } else if name == "escape" {
                tries = vec![Try::Codec(Codec::Escape)];
            } else if name == "jsonb" {
                tries = vec![Try::Codec(Codec::Jsonb)];
            } else {
                tries.retain(|t| tag(&t.codec()) == name);
            }
            if name != "timestamp" {
                time_pending = false;
            }
            if tries.is_empty() {
                return Err(match from {
                    Kind::Json => {
                        format!(
                            "no codec {name:?} for a member; there are: literal, text, escape, uuid, timestamp, jsonb"
                        )
                    }
                    _ => format!(
                        "no codec {name:?} for a column of type {:?}; there are: literal, text, escape, text_bytes, uuid, timestamp, date, epoch, decimal, real, flag, json_text, jsonb",
                        column.ty
                    ),
                });
            }
        }
        Ok(ColumnProfile {
            column: column.clone(),
            from,
            to,
            tries,
            time_pending,
            utc: false,
            seen: Seen::default(),
            fell: None,
        })
    }

    /// Looks at one value.
    pub fn look(&mut self, v: &Value<'_>) {
        let mut plain = false;
        match v {
            Value::Null => {
                self.seen.nulls += 1;
                return;
            }
            Value::Missing => {
                self.seen.missing += 1;
                // codecs that are asked for by name bring a null back
                self.retain(v, false);
                return;
            }
            Value::Int(i) => {
                self.seen.min = Some(self.seen.min.map_or(*i, |m| m.min(*i)));
                self.seen.max = Some(self.seen.max.map_or(*i, |m| m.max(*i)));
                if self.decimals() {
                    self.decimal(&i.to_string());
                }
            }
            Value::Real(r) => {
                if self.decimals() {
                    self.decimal(&r.to_string());
                }
            }
            Value::Text(t) => {
                plain = super::plain_text(t).is_some();
                // there are no more characters than bytes
                if t.len() > self.seen.chars {
                    let chars = t.iter().filter(|b| (**b & 0xC0) != 0x80).count();
                    self.seen.chars = self.seen.chars.max(chars);
                }
                self.seen.bytes = self.seen.bytes.max(t.len());
                if self.time_pending {
                    self.time_pending = false;
                    if let Ok(s) = std::str::from_utf8(t) {
                        let utc = self.utc;
                        let formats = super::times::time_formats(s).into_iter().map(|mut format| {
                            if utc && format.zone == crate::plan::Zone::None {
                                format.zone = crate::plan::Zone::Meant;
                            }
                            Try::Codec(Codec::Timestamp { format })
                        });
                        // formats may only be tried if nothing but NULL came before
                        if self.seen.values == 0 {
                            self.tries.splice(0..0, formats);
                        }
                    }
                }
            }
            Value::Json(j) => self.seen.point |= j.contains(&b'.'),
            Value::Blob(b) => self.seen.bytes = self.seen.bytes.max(b.len()),
            _ => self.seen.others = true,
        }
        self.seen.values += 1;
        self.retain(v, plain);
    }

    fn retain(&mut self, v: &Value<'_>, plain: bool) {
        let fell = &mut self.fell;
        self.tries.retain(|t| match t.takes(v, plain) {
            Ok(()) => true,
            Err(why) => {
                *fell = Some((why, v.to_string()));
                false
            }
        });
    }

    /// Whether this may become a decimal, whose digits count.
    fn decimals(&self) -> bool {
        self.tries.iter().any(|t| matches!(t, Try::Codec(Codec::Decimal { .. } | Codec::Member { .. })))
    }

    fn decimal(&mut self, text: &str) {
        let text = text.trim_start_matches('-');
        let (w, f) = text.split_once('.').unwrap_or((text, ""));
        self.seen.whole = self.seen.whole.max(if w == "0" { 0 } else { w.len() });
        self.seen.scale = self.seen.scale.max(f.len());
    }

    /// Times without a zone are UTC's, the migration says.
    pub fn in_utc(mut self) -> ColumnProfile {
        self.utc = true;
        self
    }

    /// The most bytes that one value has in the target, about.
    pub fn widest(&self) -> usize {
        self.seen.bytes
    }

    /// True when no codec is left.
    pub fn is_lost(&self) -> bool {
        self.tries.is_empty()
    }

    /// The codec, the target's type and the reason in plain words; or why there is none.
    ///
    /// # Errors
    /// [`NoFit`]
    pub fn choose(&self) -> Result<(ColumnPlan, String), NoFit> {
        let Some(first) = self.tries.first() else {
            let (why, value) = self.fell.clone().unwrap_or_default();
            return Err(NoFit { why, value });
        };
        let declared = if self.column.ty.is_empty() { "no declared type".to_owned() } else { self.column.ty.clone() };
        let mut codec = first.codec();
        let s = &self.seen;
        if let Codec::Member { shape, null, fold, .. } = &mut codec {
            (*null, *fold) = (s.nulls > 0 && s.missing == 0, s.nulls > 0 && s.missing > 0);
            if let Shape::Number { point } = shape {
                *point = s.point;
            }
        }
        // a column without values says nothing: its declared type decides
        let ty = if s.values == 0
            && (self.from, self.to) == (Kind::Sqlite, Kind::Postgres)
            && matches!(first, Try::Ints | Try::Reals | Try::Texts | Try::Blobs)
        {
            let empty = empty_try(&self.column.ty);
            codec = empty.codec();
            self.type_of(&empty)
        } else {
            self.type_of(first)
        };
        if self.time_pending && s.values == 0 {
            codec = Codec::Timestamp {
                format: crate::plan::TimeFormat {
                    t: false,
                    fraction: crate::plan::Fraction::SixOrNone,
                    zone: crate::plan::Zone::None,
                },
            };
            return Ok((
                ColumnPlan { codec, why: format!("{declared}, no value yet: written as Python does") },
                "timestamp".into(),
            ));
        }
        let mut why = match (first, s.values) {
            (Try::Codec(Codec::Spelled { form: Form::Float { .. } }), 1..) => {
                format!("{declared}; there is a NaN or −0.0, which SQLite does not keep as a number")
            }
            (Try::Codec(Codec::Same), _) if !super::has_class(&self.column.ty) => {
                format!("{declared}; as PostgreSQL prints it, and only so is it taken back")
            }
            (Try::Codec(Codec::Same | Codec::Verbatim | Codec::Spelled { .. }), _) => declared.clone(),
            (_, 0) if self.from == Kind::Json => "no value yet".into(),
            (_, 0) => format!("{declared}, no value yet"),
            (Try::Ints, _) => format!("{declared}; integers {} to {}", s.min.unwrap_or(0), s.max.unwrap_or(0)),
            (Try::Reals, _) => format!("{declared}; an 8-byte double"),
            (Try::Texts, _) => format!("{declared}; text of at most {} characters", s.chars),
            (Try::Blobs, _) => format!("{declared}; bytes"),
            (Try::Codec(Codec::Decimal { .. }), _) => {
                format!("{declared}; SQLite keeps a double: its shortest decimal is taken")
            }
            (Try::Codec(Codec::AffinityText { .. }), _) => format!("{declared}, but there is text in it"),
            (Try::Codec(Codec::TextBytes), _) => format!("{declared}, but not all of it is UTF-8 without NUL"),
            (Try::Codec(Codec::Member { shape, .. }), _) => match shape {
                Shape::Text => "every value is a string",
                Shape::Int => "every value is an integer that fits 64 bits",
                Shape::Bool => "every value is true or false",
                Shape::Number { .. } => "every value is a number that a double holds exactly",
                Shape::Decimal => "every value is a number, but not each one fits a double",
                Shape::Raw => "lists, objects or values of several kinds: kept as JSON text",
            }
            .into(),
            (Try::Codec(_), _) => format!("{declared}; every value is written so"),
        };
        if let Codec::Member { fold: true, .. } = codec {
            why.push_str("; some records say null, some lack it: both become NULL, each record keeps its own");
        }
        Ok((ColumnPlan { codec, why }, ty))
    }
}

fn tag(c: &Codec) -> String {
    serde_json::to_value(c).ok().and_then(|v| Some(v.get("codec")?.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(declared: &str, values: &[Value<'static>]) -> (Codec, String) {
        let column = Column { name: "c".into(), ty: declared.into(), ..Column::default() };
        let mut p = ColumnProfile::new(&column, Kind::Sqlite, Kind::Postgres, None).unwrap();
        values.iter().for_each(|v| p.look(v));
        let (c, ty) = p.choose().unwrap();
        (c.codec, ty)
    }

    #[test]
    fn a01_real_is_double() {
        assert_eq!(choose("REAL", &[Value::Real(83.092_031_2)]), (Codec::Same, "double precision".into()));
    }

    #[test]
    fn a02_integer_is_64_bits_whatever_its_name() {
        assert_eq!(choose("INT", &[Value::Int(1)]).1, "bigint");
        assert_eq!(choose("SMALLINT", &[Value::Int(1)]).1, "smallint");
        assert_eq!(choose("SMALLINT", &[Value::Int(40_000)]).1, "bigint");
    }

    #[test]
    fn a05_booleans_only_if_all_fit() {
        assert_eq!(choose("BOOLEAN", &[Value::Int(1), Value::Null]).1, "boolean");
        assert_eq!(choose("BOOLEAN", &[Value::text("true"), Value::text("false")]).1, "boolean");
        assert_eq!(choose("BOOLEAN", &[Value::Int(1), Value::Int(2)]).1, "bigint");
    }

    #[test]
    fn a06_times_by_shape_and_range() {
        assert_eq!(
            choose("DATETIME", &[Value::text("2024-01-01 00:00:00"), Value::text("2024-01-01 00:00:00.000001")]).1,
            "timestamp"
        );
        assert_eq!(choose("TIMESTAMP", &[Value::text("2024-01-01T00:00:00Z")]).1, "timestamptz");
        assert_eq!(choose("TIMESTAMP", &[Value::text("2024-01-01T00:00:00Z"), Value::text("soon")]).1, "text");
        assert_eq!(choose("TIMESTAMP", &[Value::Int(1_700_000_000_000)]).0, Codec::Epoch { per_second: 1000 });
        assert_eq!(choose("TIMESTAMP", &[Value::Int(1_700_000_000), Value::Int(5)]).1, "bigint");
    }

    #[test]
    fn a07_text_in_an_integer_column_widens() {
        assert_eq!(
            choose("INTEGER", &[Value::Int(1), Value::text("many")]).0,
            Codec::AffinityText { affinity: Affinity::Integer }
        );
    }

    #[test]
    fn a08_a09_bad_text_becomes_bytes() {
        let bad = Value::Text(std::borrow::Cow::Borrowed(b"\xff"));
        assert_eq!(choose("TEXT", &[Value::text("a"), bad]), (Codec::TextBytes, "bytea".into()));
        assert_eq!(choose("TEXT", &[Value::text("a\0b")]).1, "bytea");
    }

    #[test]
    fn a26_lengths_and_decimals_are_kept_where_all_fit() {
        assert_eq!(choose("NVARCHAR(3)", &[Value::text("日本é")]).1, "character varying(3)");
        assert_eq!(choose("NVARCHAR(3)", &[Value::text("four")]).1, "text");
        assert_eq!(choose("NUMERIC(10,2)", &[Value::Real(1.98), Value::Int(10)]).1, "numeric(10,2)");
        assert_eq!(choose("NUMERIC(10,2)", &[Value::Real(1.985)]).1, "numeric");
    }

    #[test]
    fn a_column_of_every_class_without_affinity_is_refused_by_name() {
        let column = Column { name: "c".into(), ..Column::default() };
        let mut p = ColumnProfile::new(&column, Kind::Sqlite, Kind::Postgres, None).unwrap();
        [Value::Int(1), Value::text("1"), Value::Blob(std::borrow::Cow::Borrowed(b"1"))].iter().for_each(|v| p.look(v));
        assert!(p.is_lost());
        assert!(p.choose().is_err());
    }
}
