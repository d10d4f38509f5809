//! What each codec does to a value, both ways. `up` refuses what `down` would not give back exactly.

use std::borrow::Cow;

use super::literal::{escaped, literal, parse_literal, unescaped};
use super::sql::Rule;
use super::times::{parse_date, parse_time, time_text};
use crate::plan::{Affinity, Codec, Shape, Spelling, Zone};
use crate::value::{Value, date_text, timestamp_text};

/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// Source value → target value; the error says why it does not fit.
///
/// # Errors
/// In plain words, without the value.
pub fn up<'a>(codec: &Codec, value: &Value<'a>) -> Result<Value<'a>, String> {
    if let Codec::Member { shape, null, fold, numeric_bool, text_json } = codec {
        return match value {
            Value::Null if *null || *fold => Ok(Value::Null),
            Value::Missing if !*null || *fold => Ok(Value::Null),
            Value::Null => Err("a null where no record had one when the plan was made".into()),
            Value::Missing => Err("missing where no record lacked it when the plan was made".into()),
            _ => member_up(*shape, *numeric_bool, *text_json, value),
        };
    }
    if let Some(rule) = rule(codec) {
        return rule.up(value);
    }
    match value {
        Value::Null => return Ok(Value::Null),
        Value::Missing => return Err("missing, which this codec would bring back as a null".into()),
        _ => {}
    }
    if let Codec::Dangling { of, values } = codec {
        return if dangles(values, value) { Ok(Value::Null) } else { up(of, value) };
    }
    let text = |what: &str| match value {
        Value::Text(t) => std::str::from_utf8(t).map_err(|_| format!("text that is not UTF-8 is no {what}")),
        v => Err(format!("{} is no {what}", class(v))),
    };
    match codec {
        Codec::Verbatim => Ok(value.clone()),
        Codec::Spelled { form } => super::spelled::up(*form, value),
        Codec::Same => match value {
            Value::Text(t) => match std::str::from_utf8(t) {
                Ok(s) if !s.contains('\0') => Ok(value.clone()),
                Ok(_) => Err("text holds a NUL character".into()),
                Err(_) => Err("text is not valid UTF-8".into()),
            },
            _ => Ok(value.clone()),
        },
        Codec::Flag { yes, no } => {
            let is = |s: &Spelling| match (s, value) {
                (Spelling::Int(i), Value::Int(v)) => i == v,
                (Spelling::Text(t), Value::Text(v)) => t.as_bytes() == v.as_ref(),
                _ => false,
            };
            if is(yes) {
                Ok(Value::Bool(true))
            } else if is(no) {
                Ok(Value::Bool(false))
            } else {
                Err(format!("{} is neither of the two spellings of a truth value", class(value)))
            }
        }
        Codec::Real => exact(
            codec,
            value,
            match value {
                Value::Int(i) => Value::Real(*i as f64),
                Value::Real(r) => Value::Real(*r),
                v => return Err(format!("{} is no number", class(v))),
            },
        ),
        Codec::Decimal { .. } => exact(
            codec,
            value,
            match value {
                Value::Int(i) => Value::Decimal(Cow::Owned(i.to_string())),
                Value::Real(r) if r.is_finite() => Value::Decimal(Cow::Owned(r.to_string())),
                v => return Err(format!("{} is no decimal", class(v))),
            },
        ),
        Codec::AffinityText { .. } => exact(
            codec,
            value,
            match value {
                Value::Int(i) => Value::text(i.to_string()),
                Value::Real(r) => Value::text(real_text(*r)),
                Value::Text(t) => match std::str::from_utf8(t) {
                    Ok(s) if !s.contains('\0') => value.clone(),
                    _ => return Err("text is not valid UTF-8, or holds NUL".into()),
                },
                v => return Err(format!("{} does not go into text", class(v))),
            },
        ),
        Codec::TextBytes => match value {
            Value::Text(t) => Ok(Value::Blob(t.clone())),
            v => Err(format!("{} where all else is text", class(v))),
        },
        Codec::Date => {
            let s = text("date")?;
            parse_date(s).map(Value::Date).ok_or_else(|| "text is no date YYYY-MM-DD".into())
        }
        Codec::Timestamp { format } => {
            let s = text("time")?;
            let us = parse_time(s, *format).ok_or("text is no time in the column's own format")?;
            Ok(if format.zone == Zone::None { Value::Timestamp(us) } else { Value::TimestampTz(us) })
        }
        Codec::Epoch { per_second } => match value {
            Value::Int(i) => i
                .checked_mul(1_000_000 / per_second)
                .and_then(|us| us.checked_sub(EPOCH_2000))
                .filter(|us| timestamp_text(*us).is_some())
                .map(Value::TimestampTz)
                .ok_or_else(|| "number is no moment".into()),
            v => Err(format!("{} is no moment", class(v))),
        },
        Codec::JsonText => {
            let s = text("JSON")?;
            if s.contains('\0') || serde_json::from_str::<serde::de::IgnoredAny>(s).is_err() {
                return Err("text is no JSON document".into());
            }
            match value {
                Value::Text(t) => Ok(Value::Json(t.clone())),
                v => Err(format!("{} is no JSON", class(v))),
            }
        }
        Codec::Uuid { .. } => {
            let s = text("UUID")?;
            let u = uuid::Uuid::try_parse(s).map_err(|_| "text is no UUID".to_owned())?;
            exact(codec, value, Value::Uuid(*u.as_bytes()))
        }
        Codec::Carried { of, values } => super::keys::carried_up(of, values, value),
        Codec::Key { map, form } => super::keys::up(form, map, value),
        Codec::Whole => {
            let i = text("number")?.parse().map_err(|_| "text is no integer of 64 bits".to_owned())?;
            exact(codec, value, Value::Int(i))
        }
        Codec::Literal => exact(codec, value, Value::text(literal(value)?)),
        Codec::Escape => match value {
            Value::Text(t) => Ok(Value::text(escaped(t))),
            v => Err(format!("{} is no text", class(v))),
        },
        Codec::Jsonb => Ok(Value::Json(Cow::Owned(super::jsonb::kept_whole(text("JSON")?)?.into_bytes()))),
        Codec::Member { .. } | Codec::Dangling { .. } | Codec::Sql { .. } => Err("not reached".into()),
    }
}

/// Target value → source value, from the codec's memory alone; the error says why it does not fit.
///
/// # Errors
/// In plain words, without the value.
pub fn down(codec: &Codec, value: &Value<'_>) -> Result<Value<'static>, String> {
    if let Codec::Member { shape, null, numeric_bool, .. } = codec {
        return match value {
            Value::Null => Ok(if *null { Value::Null } else { Value::Missing }),
            v => member_down(*shape, *numeric_bool, v),
        };
    }
    if let Some(rule) = rule(codec) {
        return rule.down(value);
    }
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let Codec::Dangling { of, .. } = codec {
        return down(of, value);
    }
    match (codec, value) {
        (Codec::Key { map, form }, v) => super::keys::down(form, map, v),
        (Codec::Carried { of, values }, v) => super::keys::carried_down(of, values, v),
        (Codec::Same | Codec::Verbatim, v) => Ok(v.clone().into_owned()),
        (Codec::Spelled { form }, v) => super::spelled::down(*form, v),
        (Codec::Flag { yes, no }, Value::Bool(b)) => Ok(match if *b { yes } else { no } {
            Spelling::Int(i) => Value::Int(*i),
            Spelling::Text(t) => Value::text(t.clone()),
        }),
        (Codec::Real, Value::Real(r)) => Ok(whole(*r).map_or(Value::Real(*r), Value::Int)),
        (Codec::Decimal { integral }, Value::Decimal(d)) => decimal_down(d, *integral),
        (Codec::AffinityText { affinity }, Value::Text(t)) => Ok(with_affinity(t, *affinity)),
        (Codec::TextBytes, Value::Blob(b)) => Ok(Value::Text(Cow::Owned(b.to_vec()))),
        (Codec::Date, Value::Date(d)) => {
            date_text(*d).map(Value::text).ok_or_else(|| "date outside years 1 to 9999".into())
        }
        (Codec::Timestamp { format }, Value::Timestamp(us) | Value::TimestampTz(us)) => {
            time_text(*us, *format).map(Value::text)
        }
        (Codec::Epoch { per_second }, Value::TimestampTz(us)) => {
            let unit = 1_000_000 / per_second;
            let us = us.checked_add(EPOCH_2000).ok_or("an infinite time")?;
            if us % unit == 0 { Ok(Value::Int(us / unit)) } else { Err("a time finer than the source counts".into()) }
        }
        (Codec::JsonText, Value::Json(j)) => Ok(Value::Text(Cow::Owned(j.to_vec()))),
        (Codec::Uuid { hyphens, upper }, Value::Uuid(u)) => {
            let u = uuid::Uuid::from_bytes(*u);
            let s = if *hyphens { u.hyphenated().to_string() } else { u.simple().to_string() };
            Ok(Value::text(if *upper { s.to_ascii_uppercase() } else { s }))
        }
        (Codec::Whole, Value::Int(i)) => Ok(Value::text(i.to_string())),
        (Codec::Escape, Value::Text(t)) => {
            let back = unescaped(t).ok_or("a backslash that begins no escape: \\\\ is one, \\x00 a byte")?;
            Ok(Value::Text(Cow::Owned(back)))
        }
        (Codec::Jsonb, Value::Json(j)) => Ok(Value::Text(Cow::Owned(j.to_vec()))),
        (Codec::Literal, Value::Text(t)) => parse_literal(t).ok_or_else(|| "text is no SQL literal".into()),
        (c, v) => Err(format!("{} does not go back through «{}»", class(v), c.title())),
    }
}

/// A source value as verification compares it: JSON numbers by what they say, null and missing alike where they fold.
pub fn canon<'a>(codec: &Codec, value: Value<'a>) -> Value<'a> {
    if let Codec::Dangling { of, values } = codec {
        return if dangles(values, &value) { Value::Null } else { canon(of, value) };
    }
    if let Some(rule) = rule(codec) {
        return rule.canon(value);
    }
    if let (Codec::Jsonb, Value::Text(t)) = (codec, &value) {
        return match std::str::from_utf8(t).ok().and_then(|s| super::jsonb::kept_whole(s).ok()) {
            Some(same) => Value::text(same),
            None => value,
        };
    }
    let Codec::Member { shape, fold, .. } = codec else { return value };
    match (shape, value) {
        (_, Value::Missing) if *fold => Value::Null,
        (Shape::Number { .. } | Shape::Decimal, Value::Int(i)) => Value::Decimal(Cow::Owned(i.to_string())),
        (Shape::Number { .. } | Shape::Decimal, Value::Json(j)) => {
            match std::str::from_utf8(&j).ok().and_then(plain_number) {
                Some(p) => Value::Decimal(Cow::Owned(p)),
                None => Value::Json(j),
            }
        }
        (_, v) => v,
    }
}

fn rule(codec: &Codec) -> Option<Rule<'_>> {
    match codec {
        Codec::Sql { said, exact, numeric, .. } => Some(Rule { said, exact: *exact, numeric: *numeric }),
        _ => None,
    }
}

/// A decimal's text, as [`plain_number`] says it.
pub(super) fn plain(text: &[u8]) -> Option<String> {
    std::str::from_utf8(text).ok().and_then(plain_number)
}

fn dangles(values: &[String], v: &Value<'_>) -> bool {
    literal(v).is_ok_and(|l| values.contains(&l))
}

/// A value as the plan writes it down.
pub(crate) fn as_literal(v: &Value<'_>) -> Option<String> {
    literal(v).ok()
}

fn exact<'a>(codec: &Codec, source: &Value<'_>, target: Value<'a>) -> Result<Value<'a>, String> {
    if down(codec, &target)? == *source {
        Ok(target)
    } else {
        Err(format!("{} would not come back the same", class(source)))
    }
}

fn member_up<'a>(shape: Shape, numeric_bool: bool, text_json: bool, v: &Value<'a>) -> Result<Value<'a>, String> {
    match (shape, v) {
        (Shape::Text, Value::Text(t)) if !t.contains(&0) => Ok(v.clone()),
        (Shape::Text, Value::Text(_)) => Err("a string that holds \\u0000".into()),
        (Shape::Int, Value::Int(_)) => Ok(v.clone()),
        (Shape::Bool, Value::Bool(b)) => Ok(if numeric_bool { Value::Int(i64::from(*b)) } else { v.clone() }),
        (Shape::Number { .. }, Value::Int(i)) if (*i as f64) as i128 == i128::from(*i) => Ok(Value::Real(*i as f64)),
        (Shape::Number { .. }, Value::Json(j)) => {
            let s = std::str::from_utf8(j).unwrap_or_default();
            let said = plain_number(s).ok_or("JSON that is no number")?;
            let r: f64 = s.parse().map_err(|_| "JSON that is no number")?;
            // −0.0 is said as -0.0, and -0 is a spelling too: both are that one double
            if numeric_bool && r.to_bits() == (-0.0f64).to_bits() {
                Err("a negative zero, which SQLite does not keep".into())
            } else if r.is_finite() && plain_number(&real_text(r)).as_deref() == Some(&said) {
                Ok(Value::Real(r))
            } else {
                Err("a number that a double does not hold".into())
            }
        }
        (Shape::Decimal, Value::Int(i)) => Ok(Value::Decimal(Cow::Owned(i.to_string()))),
        (Shape::Decimal, Value::Json(j)) => {
            let s = std::str::from_utf8(j).unwrap_or_default();
            plain_number(s).map(|p| Value::Decimal(Cow::Owned(p))).ok_or_else(|| "JSON that is no number".into())
        }
        (Shape::Raw, v) => {
            let raw = json_text(v).ok_or("a value that has no JSON text")?;
            if !text_json && raw.windows(6).any(|w| w == b"\\u0000") {
                // json keeps it, but nothing that reads it does
                return Err("a string that holds \\u0000".into());
            }
            Ok(if text_json { Value::Text(Cow::Owned(raw)) } else { Value::Json(Cow::Owned(raw)) })
        }
        (_, v) => Err(format!(
            "{} where all else is {}",
            class(v),
            Codec::Member { shape, null: false, fold: false, numeric_bool, text_json }.title()
        )),
    }
}

fn member_down(shape: Shape, numeric_bool: bool, v: &Value<'_>) -> Result<Value<'static>, String> {
    match (shape, v) {
        (Shape::Text, Value::Text(t)) if std::str::from_utf8(t).is_ok() => Ok(v.clone().into_owned()),
        (Shape::Int, Value::Int(i)) => Ok(Value::Int(*i)),
        (Shape::Bool, Value::Bool(b)) => Ok(Value::Bool(*b)),
        (Shape::Bool, Value::Int(i @ (0 | 1))) if numeric_bool => Ok(Value::Bool(*i == 1)),
        (Shape::Number { point }, Value::Real(r)) if r.is_finite() => Ok(match whole(*r) {
            Some(i) if !point && r.to_bits() != (-0.0f64).to_bits() => Value::Int(i),
            _ => Value::Json(Cow::Owned(real_text(*r).into_bytes())),
        }),
        (Shape::Decimal, Value::Decimal(d)) if d.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'.') => {
            Ok(d.parse().map_or_else(|_| Value::Json(Cow::Owned(d.as_bytes().to_vec())), Value::Int))
        }
        (Shape::Raw, Value::Text(t) | Value::Json(t)) => json_value(t).ok_or_else(|| "text is no JSON document".into()),
        (_, v) => Err(format!("{} does not go back into a JSON member of that kind", class(v))),
    }
}

/// The JSON text of a value of a JSON store.
fn json_text(v: &Value<'_>) -> Option<Vec<u8>> {
    Some(match v {
        Value::Bool(b) => b.to_string().into_bytes(),
        Value::Int(i) => i.to_string().into_bytes(),
        Value::Text(t) => serde_json::to_vec(std::str::from_utf8(t).ok()?).ok()?,
        Value::Json(j) => j.to_vec(),
        _ => return None,
    })
}

/// The value of a JSON store that JSON text stands for: as that store would read it.
fn json_value(text: &[u8]) -> Option<Value<'static>> {
    let s = std::str::from_utf8(text).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(s).ok()?;
    let small = minify(s);
    Some(match small.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => return None,
        t if t.starts_with('"') => Value::text(serde_json::from_str::<String>(t).ok()?),
        t => match t.parse::<i64>() {
            Ok(i) if t != "-0" => Value::Int(i),
            _ => Value::Json(Cow::Owned(small.into_bytes())),
        },
    })
}

fn minify(s: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(s.len()), false, false);
    for c in s.chars() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if !c.is_ascii_whitespace() {
            out.push(c);
            quoted = c == '"';
        }
    }
    out
}

/// What kind of thing a value is, for messages.
pub fn class(v: &Value<'_>) -> &'static str {
    match v {
        Value::Null => "NULL",
        Value::Missing => "a missing member",
        Value::Bool(_) => "a truth value",
        Value::Int(_) => "an integer",
        Value::Real(_) => "a real number",
        Value::Text(_) => "text",
        Value::Blob(_) => "bytes",
        Value::Decimal(_) => "a decimal",
        Value::Date(_) => "a date",
        Value::Timestamp(_) | Value::TimestampTz(_) => "a time",
        Value::Uuid(_) => "a UUID",
        Value::Json(_) => "JSON",
    }
}

/// The integer that SQLite stores for a double in a column of numeric or integer affinity.
fn whole(r: f64) -> Option<i64> {
    let i = r as i64;
    (r == i as f64 && i > i64::MIN && i < i64::MAX).then_some(i)
}

/// The shortest text that reads back as this double, always telling that it is one.
pub(super) fn real_text(r: f64) -> String {
    if r.is_infinite() {
        return if r > 0.0 { "Inf".into() } else { "-Inf".into() };
    }
    format!("{r:?}")
}

fn decimal_down(d: &str, integral: bool) -> Result<Value<'static>, String> {
    let plain = d.trim_end_matches('0').trim_end_matches('.');
    let plain = if d.contains('.') { plain } else { d };
    if integral && let Ok(i) = plain.parse::<i64>() {
        return Ok(Value::Int(i));
    }
    let r: f64 = plain.parse().map_err(|_| "a decimal that is no number")?;
    let back = Value::Decimal(Cow::Owned(r.to_string()));
    if !r.is_finite() || back != Value::Decimal(Cow::Borrowed(d)) {
        return Err("more digits than a double holds".into());
    }
    Ok(match whole(r) {
        Some(i) if integral => Value::Int(i),
        _ => Value::Real(r),
    })
}

/// What SQLite stores when this text is written into a column of that affinity. Text that could be read as a number in
/// more ways than one is left to the exactness check.
fn with_affinity(t: &[u8], affinity: Affinity) -> Value<'static> {
    let as_text = || Value::Text(Cow::Owned(t.to_vec()));
    if matches!(affinity, Affinity::Text | Affinity::Blob) {
        return as_text();
    }
    let Ok(s) = std::str::from_utf8(t) else { return as_text() };
    let s = s.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let number = !s.is_empty() && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    if !number {
        return as_text();
    }
    if let Ok(i) = s.parse::<i64>() {
        return if affinity == Affinity::Real { Value::Real(i as f64) } else { Value::Int(i) };
    }
    match s.parse::<f64>() {
        Ok(r) if affinity == Affinity::Real => Value::Real(r),
        Ok(r) => whole(r).map_or(Value::Real(r), Value::Int),
        Err(_) => as_text(),
    }
}

/// A JSON number without exponent, leading plus or trailing zeros; `None` if it is no number or absurdly long.
pub fn plain_number(s: &str) -> Option<String> {
    let (negative, rest) = s.strip_prefix('-').map_or((false, s), |r| (true, r));
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if int.is_empty() || !int.bytes().chain(frac.bytes()).all(|b| b.is_ascii_digit()) || exponent.abs() > 1000 {
        return None;
    }
    let digits = format!("{int}{frac}");
    let point = i64::try_from(int.len()).ok()? + exponent;
    let len = i64::try_from(digits.len()).ok()?;
    let zeros = |n: i64| "0".repeat(usize::try_from(n.max(0)).unwrap_or(0));
    let (whole, part) = if point <= 0 {
        (String::new(), format!("{}{digits}", zeros(-point)))
    } else if point >= len {
        (format!("{digits}{}", zeros(point - len)), String::new())
    } else {
        let at = usize::try_from(point).ok()?;
        (digits[..at].to_owned(), digits[at..].to_owned())
    };
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let sign = if negative && !(whole.is_empty() && part.is_empty()) { "-" } else { "" };
    Some(match (whole.is_empty(), part.is_empty()) {
        (true, true) => "0".into(),
        (true, false) => format!("{sign}0.{part}"),
        (false, true) => format!("{sign}{whole}"),
        (false, false) => format!("{sign}{whole}.{part}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fraction, TimeFormat};
    use proptest::prelude::*;

    fn sqlite_value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            (-100i64..100).prop_map(Value::Int),
            any::<f64>().prop_filter("SQLite has no NaN", |r| !r.is_nan()).prop_map(Value::Real),
            (-1000i64..1000).prop_map(|i| Value::Real(i as f64 / 8.0)),
            "[ -~é日]{0,12}".prop_map(Value::text),
            "-?[0-9]{1,4}(\\.[0-9]{1,3})?(e[0-9])?".prop_map(Value::text),
            (0i64..4_000_000_000_000_000).prop_map(|us| Value::text(timestamp_text(us).unwrap())),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Text(Cow::Owned(b))),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Blob(Cow::Owned(b))),
        ]
    }

    fn any_codec() -> impl Strategy<Value = Codec> {
        let f = |fraction, zone, t| TimeFormat { t, fraction, zone };
        prop_oneof![
            Just(Codec::Same),
            Just(Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) }),
            Just(Codec::Real),
            Just(Codec::Decimal { integral: true }),
            Just(Codec::Decimal { integral: false }),
            Just(Codec::AffinityText { affinity: Affinity::Integer }),
            Just(Codec::AffinityText { affinity: Affinity::Real }),
            Just(Codec::AffinityText { affinity: Affinity::Text }),
            Just(Codec::TextBytes),
            Just(Codec::Date),
            Just(Codec::Timestamp { format: f(Fraction::SixOrNone, Zone::None, false) }),
            Just(Codec::Timestamp { format: f(Fraction::Digits(6), Zone::None, false) }),
            Just(Codec::Timestamp { format: f(Fraction::Digits(0), Zone::Z, true) }),
            Just(Codec::Epoch { per_second: 1 }),
            Just(Codec::Epoch { per_second: 1000 }),
            Just(Codec::JsonText),
            Just(Codec::Whole),
            Just(Codec::Literal),
            Just(Codec::Escape),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn what_goes_up_comes_down_as_it_was(codec in any_codec(), v in sqlite_value()) {
            if let Ok(t) = up(&codec, &v) {
                let s = down(&codec, &t).unwrap();
                prop_assert_eq!(&s, &v);
                prop_assert_eq!(up(&codec, &s).unwrap(), t);
            }
        }

        #[test]
        fn any_sqlite_value_goes_as_a_literal(v in sqlite_value()) {
            prop_assert!(up(&Codec::Literal, &v).is_ok());
        }

        #[test]
        fn a_number_says_the_same_in_any_spelling(i in -99999i64..99999, e in 0u32..6) {
            let plain = plain_number(&format!("{i}e{e}")).unwrap();
            prop_assert_eq!(plain, (i * 10i64.pow(e)).to_string());
        }
    }

    #[test]
    fn b_json_numbers_keep_what_they_say() {
        let member = |shape| Codec::Member { shape, null: true, fold: false, numeric_bool: false, text_json: false };
        let n = |s: &'static str| Value::Json(Cow::Borrowed(s.as_bytes()));
        let real = member(Shape::Number { point: false });
        assert_eq!(up(&real, &n("1E3")).unwrap(), Value::Real(1000.0));
        assert_eq!(canon(&real, n("1E3")), canon(&real, down(&real, &Value::Real(1000.0)).unwrap()));
        assert!(up(&real, &n("0.1000000000000000055511151231257827")).is_err());
        assert!(up(&real, &n("12345678901234567890")).is_err());
        let dec = member(Shape::Decimal);
        assert_eq!(up(&dec, &n("12345678901234567890")).unwrap(), Value::Decimal("12345678901234567890".into()));
        assert!(up(&real, &Value::Missing).is_err());
        assert_eq!(minify("{ \"a b\" : [1, \"\\\" x\"] }"), "{\"a b\":[1,\"\\\" x\"]}");
    }

    #[test]
    fn a06_impossible_days_are_no_dates() {
        for bad in ["2023-02-29", "0000-00-00", "2023-1-01", "not a date", "2023-13-01"] {
            assert!(up(&Codec::Date, &Value::text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_plain_decimal_of_an_integer_is_a_number() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            let number = up(&Codec::Whole, &Value::text(text)).unwrap();
            assert_eq!(number, Value::Int(text.parse().unwrap()));
            assert_eq!(down(&Codec::Whole, &number).unwrap(), Value::text(text));
        }
        for text in ["", "-0", "+1", "007", " 1", "1 ", "1.0", "1e3", "0x1", "9223372036854775808", "١"] {
            assert!(up(&Codec::Whole, &Value::text(text)).is_err(), "{text}");
        }
        assert!(up(&Codec::Whole, &Value::Int(1)).is_err() && down(&Codec::Whole, &Value::text("a")).is_err());
    }
}
