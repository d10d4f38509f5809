//! PostgreSQL's binary forms of values, for COPY streams and array parameters alike.

use std::borrow::Cow;
use std::io::{self, BufRead};

use crate::plan::{Column, base_type as base};
use crate::value::Value;

/// How a column's values travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Bool,
    Text,
    Bytea,
    Numeric,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    Jsonb,
    /// Any other type travels as its text.
    Other,
}

impl Wire {
    /// Of this column.
    pub fn of_column(column: &Column) -> Wire {
        if column.as_text { Wire::Other } else { Wire::of(&column.ty) }
    }

    /// Of a column of this declared type (as `format_type` prints it, or an alias).
    pub fn of(ty: &str) -> Wire {
        match base(ty).as_str() {
            "smallint" | "int2" => Wire::Int2,
            "integer" | "int" | "int4" => Wire::Int4,
            "bigint" | "int8" => Wire::Int8,
            "real" | "float4" => Wire::Float4,
            "double precision" | "float8" => Wire::Float8,
            "boolean" | "bool" => Wire::Bool,
            "text" | "character varying" | "varchar" | "character" | "char" | "bpchar" | "name" => Wire::Text,
            "bytea" => Wire::Bytea,
            "numeric" | "decimal" => Wire::Numeric,
            "date" => Wire::Date,
            "timestamp" | "timestamp without time zone" => Wire::Timestamp,
            "timestamptz" | "timestamp with time zone" => Wire::TimestampTz,
            "uuid" => Wire::Uuid,
            "json" => Wire::Json,
            "jsonb" => Wire::Jsonb,
            _ => Wire::Other,
        }
    }

    /// The type in which its values are sent, and that type's OID.
    pub fn sent_as(self) -> (&'static str, u32) {
        match self {
            Wire::Int2 => ("int2", 21),
            Wire::Int4 => ("int4", 23),
            Wire::Int8 => ("int8", 20),
            Wire::Float4 => ("float4", 700),
            Wire::Float8 => ("float8", 701),
            Wire::Bool => ("bool", 16),
            Wire::Text | Wire::Other => ("text", 25),
            Wire::Bytea => ("bytea", 17),
            Wire::Numeric => ("numeric", 1700),
            Wire::Date => ("date", 1082),
            Wire::Timestamp => ("timestamp", 1114),
            Wire::TimestampTz => ("timestamptz", 1184),
            Wire::Uuid => ("uuid", 2950),
            Wire::Json => ("json", 114),
            Wire::Jsonb => ("jsonb", 3802),
        }
    }
}

/// What a sent value of this column must be cast to, so that it compares as the column does and no length cuts it.
pub fn comparable(ty: &str) -> String {
    match base(ty).as_str() {
        "character" | "char" | "bpchar" => "pg_catalog.bpchar".into(),
        "name" => "pg_catalog.name".into(),
        _ => match Wire::of(ty) {
            Wire::Other => ty.to_owned(),
            wire => format!("pg_catalog.{}", wire.sent_as().0),
        },
    }
}

/// The value in a field; `None` when its bytes are no such value.
pub fn value(wire: Wire, field: Option<&[u8]>) -> Option<Value<'_>> {
    let Some(b) = field else { return Some(Value::Null) };
    Some(match wire {
        Wire::Int2 => Value::Int(i16::from_be_bytes(b.try_into().ok()?).into()),
        Wire::Int4 => Value::Int(i32::from_be_bytes(b.try_into().ok()?).into()),
        Wire::Int8 => Value::Int(i64::from_be_bytes(b.try_into().ok()?)),
        Wire::Float4 => Value::Real(widen(f32::from_be_bytes(b.try_into().ok()?))),
        Wire::Float8 => Value::Real(f64::from_be_bytes(b.try_into().ok()?)),
        Wire::Bool => Value::Bool(*b.first()? != 0),
        Wire::Text | Wire::Other => Value::Text(Cow::Borrowed(b)),
        Wire::Bytea => Value::Blob(Cow::Borrowed(b)),
        Wire::Numeric => Value::Decimal(Cow::Owned(decimal(b)?)),
        Wire::Date => Value::Date(i32::from_be_bytes(b.try_into().ok()?)),
        Wire::Timestamp => Value::Timestamp(i64::from_be_bytes(b.try_into().ok()?)),
        Wire::TimestampTz => Value::TimestampTz(i64::from_be_bytes(b.try_into().ok()?)),
        Wire::Uuid => Value::Uuid(b.try_into().ok()?),
        Wire::Json => Value::Json(Cow::Borrowed(b)),
        Wire::Jsonb => Value::Json(Cow::Borrowed(b.strip_prefix(&[1])?)),
    })
}

/// A float4 as the double that means the same; a NaN's payload is kept where both have room.
fn widen(f: f32) -> f64 {
    f64::from(f)
}

/// Appends a value as a field (length and bytes) of a column that travels as `wire`.
///
/// # Errors
/// In plain words, when the value does not fit.
pub fn field(wire: Wire, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    fn fixed(bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    fn long(version: &[u8], bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let n = i32::try_from(version.len() + bytes.len()).map_err(|_| "a value of 2 GiB or more".to_owned())?;
        out.extend_from_slice(&n.to_be_bytes());
        out.extend_from_slice(version);
        out.extend_from_slice(bytes);
        Ok(())
    }
    match (wire, value) {
        (_, Value::Null | Value::Missing) => out.extend_from_slice(&(-1i32).to_be_bytes()),
        (Wire::Int8, Value::Int(i)) => fixed(&i.to_be_bytes(), out),
        (Wire::Int4, Value::Int(i)) => match i32::try_from(*i) {
            Ok(i) => fixed(&i.to_be_bytes(), out),
            Err(_) => return Err(format!("{i} is beyond integer")),
        },
        (Wire::Int2, Value::Int(i)) => match i16::try_from(*i) {
            Ok(i) => fixed(&i.to_be_bytes(), out),
            Err(_) => return Err(format!("{i} is beyond smallint")),
        },
        (Wire::Float8, Value::Real(r)) => fixed(&r.to_be_bytes(), out),
        (Wire::Float4, Value::Real(r)) => {
            let small = *r as f32;
            if widen(small).to_bits() != r.to_bits() && !r.is_nan() {
                return Err(format!("{r:?} is not exact as real"));
            }
            fixed(&small.to_be_bytes(), out);
        }
        (Wire::Bool, Value::Bool(b)) => fixed(&[u8::from(*b)], out),
        (Wire::Text | Wire::Other, Value::Text(t)) => long(&[], t, out)?,
        (Wire::Bytea, Value::Blob(b)) => long(&[], b, out)?,
        (Wire::Numeric, Value::Decimal(d)) => numeric(d, out)?,
        (Wire::Numeric, Value::Text(t)) => numeric(std::str::from_utf8(t).map_err(|e| e.to_string())?, out)?,
        (Wire::Date, Value::Date(d)) => fixed(&d.to_be_bytes(), out),
        (Wire::Timestamp, Value::Timestamp(t)) | (Wire::TimestampTz, Value::TimestampTz(t)) => {
            fixed(&t.to_be_bytes(), out);
        }
        (Wire::Uuid, Value::Uuid(u)) => fixed(u, out),
        (Wire::Json, Value::Json(j)) => long(&[], j, out)?,
        (Wire::Jsonb, Value::Json(j)) => long(&[1], j, out)?,
        (wire, value) => return Err(format!("{value} is no {}", wire.sent_as().0)),
    }
    Ok(())
}

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const PLUS_INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// The text of a binary numeric, as the server prints it.
pub fn decimal(b: &[u8]) -> Option<String> {
    let word = |i: usize| Some(u16::from_be_bytes(b.get(2 * i..2 * i + 2)?.try_into().ok()?));
    let (digits, weight, sign, scale) = (usize::from(word(0)?), word(1)? as i16, word(2)?, usize::from(word(3)?));
    match sign {
        NAN => return Some("NaN".into()),
        PLUS_INFINITY => return Some("Infinity".into()),
        MINUS_INFINITY => return Some("-Infinity".into()),
        _ => {}
    }
    // Group number `g` counts from the decimal point: 0 is the units' group, -1 the first after the point.
    let group = |g: i32| -> Option<u16> {
        let at = i32::from(weight) - g;
        if at < 0 || at as usize >= digits { Some(0) } else { word(4 + at as usize) }
    };
    let mut out = String::with_capacity(2 + 4 * digits + scale);
    if sign == NEGATIVE {
        out.push('-');
    }
    let start = out.len();
    for g in (0..=i32::from(weight).max(0)).rev() {
        let d = group(g)?;
        if out.len() == start {
            if d > 0 || g == 0 {
                out.push_str(&d.to_string());
            }
        } else {
            out.push_str(&format!("{d:04}"));
        }
    }
    if scale > 0 {
        out.push('.');
        let end = out.len() + scale;
        let mut g = -1;
        while out.len() < end {
            out.push_str(&format!("{:04}", group(g)?));
            g -= 1;
        }
        out.truncate(end);
    }
    Some(out)
}

/// Appends a decimal's text as a numeric field.
fn numeric(d: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let wrong = || format!("{d} is no numeric");
    let (negative, digits) = d.strip_prefix('-').map_or((false, d), |rest| (true, rest));
    let special = match digits {
        "NaN" => Some(NAN),
        "Infinity" if negative => Some(MINUS_INFINITY),
        "Infinity" => Some(PLUS_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        out.extend_from_slice(&8i32.to_be_bytes());
        for w in [0, 0, sign, 0] {
            out.extend_from_slice(&w.to_be_bytes());
        }
        return Ok(());
    }
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + part.len() == 0 || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole = whole.trim_start_matches('0');
    let scale = u16::try_from(part.len()).ok().filter(|&s| s <= 16383).ok_or_else(wrong)?;
    let mut groups: Vec<u16> = Vec::with_capacity(whole.len() / 4 + part.len() / 4 + 2);
    let number = |b: &[u8]| b.iter().fold(0u16, |n, d| n * 10 + u16::from(d - b'0'));
    let (head, rest) = whole.as_bytes().split_at(whole.len() % 4);
    if !head.is_empty() {
        groups.push(number(head));
    }
    groups.extend(rest.chunks(4).map(number));
    let mut weight = groups.len() as i64 - 1;
    for chunk in part.as_bytes().chunks(4) {
        groups.push(number(chunk) * 10u16.pow(4 - chunk.len() as u32));
    }
    let zeros = groups.iter().take_while(|&&g| g == 0).count();
    groups.drain(..zeros);
    weight -= zeros as i64;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let negative = negative && !groups.is_empty();
    let weight = if groups.is_empty() { 0 } else { i16::try_from(weight).map_err(|_| wrong())? };
    let count = u16::try_from(groups.len()).map_err(|_| wrong())?;
    out.extend_from_slice(&(8 + 2 * i32::from(count)).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&(if negative { NEGATIVE } else { 0 }).to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for g in groups {
        out.extend_from_slice(&g.to_be_bytes());
    }
    Ok(())
}

/// What a binary COPY stream begins with.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// The fields of one row of a COPY stream.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; `None` is NULL.
    pub fn take(&mut self) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(4)?;
        self.0 = rest;
        let n = usize::try_from(i32::from_be_bytes(head.try_into().ok()?)).ok()?;
        let (field, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(field)
    }
}

/// Where the row that begins `buf` ends; `None` when it is not all there.
fn row_end(buf: &[u8]) -> Option<usize> {
    let n = i16::from_be_bytes(buf.get(..2)?.try_into().ok()?);
    let mut at = 2;
    for _ in 0..n {
        let len = i32::from_be_bytes(buf.get(at..at + 4)?.try_into().ok()?);
        at += 4 + usize::try_from(len).unwrap_or(0);
    }
    (at <= buf.len()).then_some(at)
}

/// Reads a binary COPY stream to its end, row by row.
///
/// # Errors
/// The stream's, or what `row` found wrong (as `InvalidData`).
pub fn read(mut from: impl BufRead, mut row: impl FnMut(Fields<'_>) -> Result<(), String>) -> io::Result<()> {
    let mut rows = |mut buf: &[u8], begun: &mut bool| -> io::Result<usize> {
        let whole = buf.len();
        if !*begun {
            if buf.len() < HEADER.len() {
                return Ok(0);
            }
            buf = &buf[HEADER.len()..];
            *begun = true;
        }
        while let Some(end) = row_end(buf) {
            if !buf.starts_with(&TRAILER) {
                row(Fields(&buf[2..end])).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            }
            buf = &buf[end..];
        }
        Ok(whole - buf.len())
    };
    let mut begun = false;
    let mut kept: Vec<u8> = Vec::new();
    loop {
        let buf = from.fill_buf()?;
        let n = buf.len();
        if n == 0 {
            break;
        }
        if kept.is_empty() {
            let used = rows(buf, &mut begun)?;
            kept.extend_from_slice(&buf[used..]);
        } else {
            kept.extend_from_slice(buf);
            let used = rows(&kept, &mut begun)?;
            kept.drain(..used);
        }
        from.consume(n);
    }
    if kept.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_decimal_comes_back_from_its_binary_form(text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?") {
            let mut out = Vec::new();
            numeric(&text, &mut out).unwrap();
            let zero = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
            let expected = if zero { text.trim_start_matches('-') } else { &text };
            prop_assert_eq!(decimal(&out[4..]).unwrap(), expected);
        }
    }

    #[test]
    fn types_are_known_by_any_of_their_names() {
        for (ty, wire) in [
            ("character varying(36)", Wire::Text),
            ("timestamp(3) with time zone", Wire::TimestampTz),
            ("NUMERIC(10,2)", Wire::Numeric),
            ("integer[]", Wire::Other),
            ("\"char\"", Wire::Other),
            ("double precision", Wire::Float8),
            ("interval", Wire::Other),
        ] {
            assert_eq!(Wire::of(ty), wire, "{ty}");
        }
    }
}
