//! Choosing a column's codec by looking at every value it holds; the declared type is only a hint.

use crate::plan::{Affinity, Codec, Column, ColumnPlan, Form, Kind, Shape, Spelling, base_type};
use crate::value::Value;

use super::convert;

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

#[derive(Clone, Debug, PartialEq)]
enum Try {
    Ints,
    Reals,
    Texts,
    Blobs,
    Codec(Codec),
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

impl Try {
    /// `plain`: a text that every store takes. What can be told without converting the value there and back is told so.
    fn takes(&self, v: &Value<'_>, plain: bool) -> Result<(), String> {
        let fit = match (self, v) {
            (Try::Texts, Value::Text(_)) if plain => return Ok(()),
            (Try::Codec(Codec::TextBytes), Value::Text(_)) => return Ok(()),
            (Try::Codec(Codec::Real), Value::Int(i)) if i.unsigned_abs() < 1 << 53 => return Ok(()),
            (Try::Codec(Codec::AffinityText { affinity: Affinity::Integer | Affinity::Numeric }), Value::Int(_)) => {
                return Ok(());
            }
            (Try::Codec(Codec::AffinityText { affinity: Affinity::Real }), Value::Real(r)) if r.is_finite() => {
                return Ok(());
            }
            (Try::Codec(Codec::AffinityText { .. }), Value::Text(t)) if plain && !t.iter().all(of_a_number) => {
                return Ok(());
            }
            (Try::Ints, Value::Int(_)) | (Try::Reals, Value::Real(_)) | (Try::Blobs, Value::Blob(_)) => return Ok(()),
            (Try::Texts, Value::Text(_)) => convert::up(&Codec::Same, v),
            (Try::Codec(Codec::Epoch { per_second }), Value::Int(i)) => {
                // years 1973 to 2096, or it is no moment but a number
                let second = i / per_second;
                return if (100_000_000..4_000_000_000).contains(&second) {
                    Ok(())
                } else {
                    Err("not a likely moment".into())
                };
            }
            (Try::Codec(c), v) => convert::up(c, v),
            _ => Err(format!("{} among other kinds of values", convert::class(v))),
        };
        fit.map(|_| ())
    }

    fn codec(&self) -> Codec {
        match self {
            Try::Codec(c) => c.clone(),
            _ => Codec::Same,
        }
    }
}

/// What text is made of that an affinity might take for a number.
fn of_a_number(b: &u8) -> bool {
    matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' | b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
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

    /// The type that a user asked for, if all values of the type that was chosen go into it as they are.
    ///
    /// # Errors
    /// Why not, in plain words.
    pub fn as_asked(&self, chosen: &str, asked: &str) -> Result<String, String> {
        let lower = asked.trim().to_ascii_lowercase();
        let (name, limits) =
            lower.split_once('(').map_or((lower.as_str(), None), |(n, _)| (n.trim(), precision(&lower)));
        let name = match name {
            "int8" => "bigint",
            "int" | "int4" => "integer",
            "int2" => "smallint",
            "float8" | "float" => "double precision",
            "bool" => "boolean",
            "varchar" => "character varying",
            "decimal" => "numeric",
            "timestamp without time zone" => "timestamp",
            "timestamp with time zone" => "timestamptz",
            other => other,
        };
        let s = &self.seen;
        let within = |max: i64| s.min.is_none_or(|m| m >= -max - 1) && s.max.is_none_or(|m| m <= max);
        let base = chosen.split('(').next().unwrap_or(chosen);
        let integer = |ty: &str| ["bigint", "integer", "smallint"].contains(&ty);
        let text = |ty: &str| ["text", "character varying"].contains(&ty);
        let no = || Err(format!("the column's values became {chosen}, which {asked} does not take as they are"));
        match (base, name, limits) {
            (c, a, None) if integer(c) && integer(a) => match a {
                "integer" if !within(i64::from(i32::MAX)) => no(),
                "smallint" if !within(i64::from(i16::MAX)) => no(),
                a => Ok(a.into()),
            },
            (c, "text", None) if text(c) => Ok("text".into()),
            (c, "character varying", None) if text(c) => Ok("text".into()),
            (c, "character varying", Some((n, _))) if text(c) => {
                if s.chars <= n {
                    Ok(format!("character varying({n})"))
                } else {
                    Err(format!("there is text of {} characters", s.chars))
                }
            }
            ("numeric", "numeric", None) => Ok("numeric".into()),
            ("numeric", "numeric", Some((p, sc))) if s.scale <= sc && s.whole + sc <= p => {
                Ok(format!("numeric({p},{sc})"))
            }
            ("timestamp", "timestamptz", None) => {
                Err("its times have no zone; say zone = \"UTC\" if that is what they mean, and timestamp if it is not"
                    .into())
            }
            (c, a, None) if c == a => Ok(a.into()),
            _ => no(),
        }
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

    fn type_of(&self, t: &Try) -> String {
        if *t == Try::Codec(Codec::Verbatim) {
            return self.column.ty.clone();
        }
        if self.from == Kind::Postgres {
            return sqlite_type(&self.column.ty, t);
        }
        let declared = self.column.ty.to_ascii_uppercase();
        let s = &self.seen;
        if self.to == Kind::Sqlite {
            return match t {
                Try::Codec(Codec::Member { shape: Shape::Int, .. }) => "INTEGER",
                Try::Codec(Codec::Member { shape: Shape::Bool, .. }) => "BOOLEAN",
                Try::Codec(Codec::Member { shape: Shape::Number { .. }, .. }) => "REAL",
                _ => "TEXT",
            }
            .into();
        }
        let fits = |max: i64| s.min.is_none_or(|m| m >= -max - 1) && s.max.is_none_or(|m| m <= max);
        match t {
            Try::Ints if ["SMALLINT", "INT2", "TINYINT"].iter().any(|w| declared.contains(w)) && fits(32_767) => {
                "smallint".into()
            }
            Try::Ints if ["MEDIUMINT", "INT4"].iter().any(|w| declared.contains(w)) && fits(2_147_483_647) => {
                "integer".into()
            }
            Try::Ints => "bigint".into(),
            Try::Reals => "double precision".into(),
            Try::Texts => match length(&declared) {
                Some(n) if declared.contains("CHAR") && n > 0 && s.chars <= n => format!("character varying({n})"),
                _ => "text".into(),
            },
            Try::Blobs => "bytea".into(),
            Try::Codec(c) => match c {
                Codec::Flag { .. } => "boolean".into(),
                Codec::Real => "double precision".into(),
                Codec::Decimal { .. } => match precision(&declared) {
                    Some((p, sc)) if s.scale <= sc && s.whole + sc <= p && p <= 1000 => format!("numeric({p},{sc})"),
                    _ => "numeric".into(),
                },
                Codec::TextBytes => "bytea".into(),
                Codec::Date => "date".into(),
                Codec::Timestamp { format } if format.zone == crate::plan::Zone::None => "timestamp".into(),
                Codec::Timestamp { .. } | Codec::Epoch { .. } => "timestamptz".into(),
                Codec::JsonText => "json".into(),
                Codec::Uuid { .. } => "uuid".into(),
                Codec::Member { shape, .. } => match shape {
                    Shape::Text => "text",
                    Shape::Int => "bigint",
                    Shape::Bool => "boolean",
                    Shape::Number { .. } => "double precision",
                    Shape::Decimal => "numeric",
                    Shape::Raw => "json",
                }
                .into(),
                Codec::Jsonb => "jsonb".into(),
                Codec::Same
                | Codec::Verbatim
                | Codec::Spelled { .. }
                | Codec::AffinityText { .. }
                | Codec::Literal
                | Codec::Escape
                | Codec::Dangling { .. } => "text".into(),
            },
        }
    }
}

fn tag(c: &Codec) -> String {
    serde_json::to_value(c).ok().and_then(|v| Some(v.get("codec")?.as_str()?.to_owned())).unwrap_or_default()
}

/// SQLite's names for dates and times.
fn is_time(declared: &str) -> bool {
    let d = declared.to_ascii_uppercase();
    d.contains("DATETIME") || d.contains("TIMESTAMP")
}

fn epoch_tries() -> Vec<Try> {
    [1, 1000, 1_000_000].map(|per_second| Try::Codec(Codec::Epoch { per_second })).into()
}

fn uuid_tries() -> Vec<Try> {
    [(true, false), (true, true), (false, false), (false, true)]
        .map(|(hyphens, upper)| Try::Codec(Codec::Uuid { hyphens, upper }))
        .into()
}

/// Which plain type an empty column of that declared type gets.
fn empty_try(declared: &str) -> Try {
    match Affinity::of(declared) {
        Affinity::Integer => Try::Ints,
        Affinity::Real => Try::Reals,
        Affinity::Numeric => Try::Codec(Codec::Real),
        Affinity::Text => Try::Texts,
        Affinity::Blob => Try::Blobs,
    }
}

fn sqlite_tries(declared: &str) -> Vec<Try> {
    let d = declared.to_ascii_uppercase();
    let affinity = Affinity::of(declared);
    let integral = matches!(affinity, Affinity::Numeric | Affinity::Integer);
    let mut out = Vec::new();
    if d.contains("BOOL") {
        out.push(Try::Codec(Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) }));
        for (y, n) in
            [("t", "f"), ("true", "false"), ("True", "False"), ("TRUE", "FALSE"), ("T", "F"), ("Y", "N"), ("yes", "no")]
        {
            out.push(Try::Codec(Codec::Flag { yes: Spelling::Text(y.into()), no: Spelling::Text(n.into()) }));
        }
    }
    if d.trim() == "DATE" {
        out.push(Try::Codec(Codec::Date));
    }
    if is_time(declared) {
        out.extend(epoch_tries());
    }
    if d.contains("JSON") {
        out.push(Try::Codec(Codec::JsonText));
    }
    if d.contains("UUID") || d.contains("GUID") {
        out.extend(uuid_tries());
    }
    if ["NUMERIC", "DECIMAL", "MONEY"].iter().any(|w| d.contains(w)) {
        out.push(Try::Codec(Codec::Decimal { integral }));
    }
    // an affinity turns 3.0 into 3 and '12' into 12: values born in the target meet it on their way back
    let reals = if integral { Try::Codec(Codec::Real) } else { Try::Reals };
    let texts = match affinity {
        Affinity::Text | Affinity::Blob => Try::Texts,
        _ => Try::Codec(Codec::AffinityText { affinity }),
    };
    let mut plain = [Try::Ints, reals, texts, Try::Blobs];
    match affinity {
        Affinity::Integer | Affinity::Numeric => {}
        Affinity::Real => plain.swap(0, 1),
        Affinity::Text => plain.rotate_left(2),
        Affinity::Blob => plain.rotate_right(1),
    }
    out.extend(plain);
    out.push(Try::Codec(Codec::TextBytes));
    out
}

/// What has no type of its own in SQLite goes as the text that the server prints of it.
fn postgres_tries(ty: &str) -> Vec<Try> {
    let spelled = |form| Try::Codec(Codec::Spelled { form });
    match base_type(ty).as_str() {
        "boolean" => vec![spelled(Form::Truth)],
        "date" => vec![spelled(Form::Day)],
        "timestamp without time zone" => vec![spelled(Form::Moment { zone: false })],
        "timestamp with time zone" => vec![spelled(Form::Moment { zone: true })],
        "numeric" => {
            // a negative scale rounds to tens: what is printed has no digit after the point
            let scale = precision(ty).map(|(_, s)| u16::try_from(s).unwrap_or(0));
            let bare = !ty.contains('(');
            vec![spelled(Form::Digits { scale: if bare { None } else { Some(scale.unwrap_or(0)) } })]
        }
        "real" => vec![spelled(Form::Single), spelled(Form::Float { single: true })],
        "double precision" => vec![spelled(Form::Double), spelled(Form::Float { single: false })],
        "uuid" => vec![spelled(Form::Uuid)],
        "json" => vec![spelled(Form::Json)],
        "jsonb" => vec![spelled(Form::Jsonb)],
        "character" => {
            let length = length(ty).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
            vec![spelled(Form::Padded { length })]
        }
        _ => vec![Try::Codec(Codec::Same)],
    }
}

/// Declared so that the affinity changes none of the values.
fn sqlite_type(ty: &str, t: &Try) -> String {
    let Try::Codec(codec) = t else { return "TEXT".into() };
    match (codec, base_type(ty).as_str()) {
        (Codec::Spelled { form: Form::Truth }, _) => "BOOLEAN".into(),
        (Codec::Spelled { form: Form::Day }, _) => "DATE".into(),
        (Codec::Spelled { form: Form::Moment { .. } }, _) => "TIMESTAMP".into(),
        (Codec::Spelled { form: Form::Single | Form::Double }, _) => "REAL".into(),
        (Codec::Spelled { form: Form::Padded { length } }, _) => format!("CHAR({length})"),
        (Codec::Same, "smallint") => "SMALLINT".into(),
        (Codec::Same, "integer") => "INTEGER".into(),
        (Codec::Same, "bigint") => "BIGINT".into(),
        (Codec::Same, "bytea") => "BLOB".into(),
        (Codec::Same, "character varying") => length(ty).map_or("TEXT".into(), |n| format!("VARCHAR({n})")),
        _ => "TEXT".into(),
    }
}

fn member_tries(to: Kind) -> Vec<Try> {
    let sqlite = to == Kind::Sqlite;
    let mut shapes = vec![Shape::Text, Shape::Int, Shape::Bool, Shape::Number { point: false }];
    if !sqlite {
        shapes.push(Shape::Decimal);
    }
    shapes.push(Shape::Raw);
    shapes
        .into_iter()
        .map(|shape| {
            Try::Codec(Codec::Member { shape, null: true, fold: true, numeric_bool: sqlite, text_json: sqlite })
        })
        .collect()
}

fn length(declared: &str) -> Option<usize> {
    precision(declared).map(|(p, _)| p)
}

/// `(p, s)` of `NUMERIC(p, s)`, `(n, 0)` of `VARCHAR(n)`.
fn precision(declared: &str) -> Option<(usize, usize)> {
    let inner = declared.split_once('(')?.1.split_once(')')?.0;
    let (p, s) = inner.split_once(',').unwrap_or((inner, "0"));
    Some((p.trim().parse().ok()?, s.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choose(declared: &str, values: &[Value<'static>]) -> (Codec, String) {
        let column = Column { name: "c".into(), ty: declared.into(), ..Column::default() };
        let mut p = ColumnProfile::new(&column, Kind::Sqlite, Kind::Postgres, None).unwrap();
        values.iter().for_each(|v| p.look(v));
        let (c, ty) = p.choose().unwrap();
        (c.codec, ty)
    }

    proptest! {
        #[test]
        fn what_is_told_at_once_is_what_converting_says(v in value(), i in 0..64usize) {
            let affinities = [Affinity::Integer, Affinity::Real, Affinity::Numeric, Affinity::Text, Affinity::Blob];
            let mut all = ["BOOL", "DATE", "TIMESTAMP", "JSON", "UUID", "NUMERIC", "INT", "REAL", "TEXT", ""]
                .map(sqlite_tries)
                .concat();
            all.extend(affinities.map(|affinity| Try::Codec(Codec::AffinityText { affinity })));
            let t = &all[i % all.len()];
            let plain = matches!(&v, Value::Text(t) if super::super::plain_text(t).is_some());
            if let (Try::Codec(c), false) = (t, matches!(t, Try::Codec(Codec::Epoch { .. }))) {
                prop_assert_eq!(t.takes(&v, plain).is_ok(), convert::up(c, &v).is_ok(), "{:?} {:?}", c, v);
            } else if *t == Try::Texts {
                let text = matches!(v, Value::Text(_));
                prop_assert_eq!(t.takes(&v, plain).is_ok(), text && convert::up(&Codec::Same, &v).is_ok());
            }
        }
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<i64>().prop_map(Value::Int),
            (-(1i64 << 54)..1 << 54).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Real),
            (-1000i64..1000).prop_map(|i| Value::Real(i as f64)),
            prop_oneof![Just(-0.0), Just(1e15), Just(1e16), Just(1e300), Just(f64::INFINITY)].prop_map(Value::Real),
            "[ 0-9eE.+é\\x00-]{0,5}".prop_map(Value::text),
            "[a-z0-9 ]{0,4}".prop_map(Value::text),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(|b| Value::Text(b.into())),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(|b| Value::Blob(b.into())),
        ]
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
