//! Values and bytes that only text can hold in the other store, spelled so that they come back exactly.

use std::borrow::Cow;

use super::convert::{class, real_text};
use crate::value::{Value, hex, unhex};

/// A value as SQLite spells it in SQL.
pub(super) fn literal(v: &Value<'_>) -> Result<String, String> {
    Ok(match v {
        Value::Int(i) => i.to_string(),
        Value::Real(r) => real_text(*r),
        Value::Text(t) => match std::str::from_utf8(t) {
            Ok(s) if !s.contains('\0') => format!("'{}'", s.replace('\'', "''")),
            _ => format!("cast(x'{}' as text)", hex(t)),
        },
        Value::Blob(b) => format!("x'{}'", hex(b)),
        v => return Err(format!("{} is no value of SQLite", class(v))),
    })
}

/// What `literal` spelled.
pub(crate) fn parse_literal(t: &[u8]) -> Option<Value<'static>> {
    let s = std::str::from_utf8(t).ok()?;
    if let Some(h) = s.strip_prefix("cast(x'").and_then(|r| r.strip_suffix("' as text)")) {
        return Some(Value::Text(Cow::Owned(unhex(h)?)));
    }
    if let Some(h) = s.strip_prefix("x'").and_then(|r| r.strip_suffix('\'')) {
        return Some(Value::Blob(Cow::Owned(unhex(h)?)));
    }
    if let Some(q) = s.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')) {
        return Some(Value::text(q.replace("''", "'")));
    }
    match s {
        "NULL" => Some(Value::Null),
        "Inf" => Some(Value::Real(f64::INFINITY)),
        "-Inf" => Some(Value::Real(f64::NEG_INFINITY)),
        _ => s.parse().map(Value::Int).or_else(|_| s.parse().map(Value::Real)).ok(),
    }
}

/// Text as it is, but NUL and bytes that are not UTF-8 as `\xff`, and the backslash doubled.
pub(super) fn escaped(t: &[u8]) -> String {
    let mut out = String::with_capacity(t.len());
    for chunk in t.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\0' => out.push_str("\\x00"),
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out
}

/// What `escaped` spelled.
pub(super) fn unescaped(t: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(t.len()), t);
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            out.push(b);
        } else if let Some(tail) = rest.strip_prefix(b"\\") {
            out.push(b'\\');
            rest = tail;
        } else {
            let h = std::str::from_utf8(rest.strip_prefix(b"x")?.get(..2)?).ok()?;
            out.extend(unhex(h)?);
            rest = &rest[3..];
        }
    }
    Some(out)
}
