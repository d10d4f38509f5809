//! Values of PostgreSQL as SQLite says them, and back. What an application writes there may say the same in other words;
//! the way up has one of them.

use std::borrow::Cow;

use crate::plan::Form;
use crate::value::{Value, date_text, days_of, timestamp_text};

use super::convert::{class, plain_number};

const DAY: i64 = 86_400_000_000;

/// PostgreSQL's value → SQLite's.
pub(super) fn up<'a>(form: Form, value: &Value<'a>) -> Result<Value<'a>, String> {
    Ok(match (form, value) {
        (Form::Truth, Value::Bool(b)) => Value::Int(i64::from(*b)),
        (Form::Day, Value::Date(d)) => Value::text(day_text(*d)),
        (Form::Moment { .. }, Value::Timestamp(us)) => Value::text(moment_text(*us)),
        (Form::Moment { .. }, Value::TimestampTz(us)) => Value::text(match (moment_text(*us), *us) {
            (text, i64::MIN | i64::MAX) => text,
            (text, _) => text.strip_suffix(" BC").map_or_else(|| format!("{text}+00:00"), |t| format!("{t}+00:00 BC")),
        }),
        (Form::Digits { .. }, Value::Text(t)) => Value::Text(t.clone()),
        (Form::Double, Value::Real(r)) if kept(*r) => Value::Real(*r),
        (Form::Single, Value::Real(r)) if kept(*r) => Value::Real(shortest(*r as f32)?),
        (Form::Double | Form::Single, Value::Real(_)) => return Err("NaN or −0.0, which SQLite does not keep".into()),
        (Form::Float { single }, Value::Real(r)) => Value::text(float_text(*r, single)),
        (Form::Uuid, Value::Uuid(u)) => Value::text(uuid::Uuid::from_bytes(*u).hyphenated().to_string()),
        (Form::Json | Form::Jsonb, Value::Json(j)) => Value::Text(j.clone()),
        (Form::Padded { .. }, Value::Text(t)) => {
            let end = t.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
            Value::Text(Cow::Owned(t[..end].to_vec()))
        }
        (_, v) => return Err(format!("{} in a column of another type", class(v))),
    })
}

/// SQLite's value → PostgreSQL's; as the application may have written it.
pub(super) fn down(form: Form, value: &Value<'_>) -> Result<Value<'static>, String> {
    let text = || match value {
        Value::Text(t) => std::str::from_utf8(t).map_err(|_| "text that is not UTF-8".to_owned()),
        v => Err(format!("{} where text belongs", class(v))),
    };
    Ok(match (form, value) {
        (Form::Truth, Value::Int(i @ (0 | 1))) => Value::Bool(*i == 1),
        (Form::Truth, v) => return Err(format!("{v} is neither 0 nor 1")),
        (Form::Day, _) => Value::Date(day(text()?).ok_or("text is no date YYYY-MM-DD")?),
        (Form::Moment { zone: false }, _) => {
            Value::Timestamp(moment(text()?, false).ok_or("text is no time YYYY-MM-DD HH:MM:SS")?)
        }
        (Form::Moment { zone: true }, _) => {
            Value::TimestampTz(moment(text()?, true).ok_or("text is no time YYYY-MM-DD HH:MM:SS with a zone")?)
        }
        (Form::Digits { scale }, Value::Int(i)) => Value::text(scaled(&i.to_string(), scale)?),
        (Form::Digits { scale }, Value::Real(r)) => Value::text(scaled(&format!("{r}"), scale)?),
        (Form::Digits { scale }, _) => Value::text(scaled(text()?, scale)?),
        (Form::Double, Value::Real(r)) => Value::Real(*r),
        (Form::Double, Value::Int(i)) if (*i as f64) as i128 == i128::from(*i) => Value::Real(*i as f64),
        (Form::Single, Value::Real(r)) => {
            let small = *r as f32;
            if shortest(small)?.to_bits() != r.to_bits() {
                return Err("more digits than a real holds".into());
            }
            Value::Real(f64::from(small))
        }
        (Form::Float { single }, _) => float(text()?, single).ok_or("text is no number")?,
        (Form::Uuid, _) => {
            Value::Uuid(*uuid::Uuid::try_parse(text()?).map_err(|_| "text is no UUID".to_owned())?.as_bytes())
        }
        (Form::Json, _) => match text()? {
            t if is_json(t) => Value::Json(Cow::Owned(t.as_bytes().to_vec())),
            _ => return Err("text is no JSON document".into()),
        },
        (Form::Jsonb, _) => Value::Json(Cow::Owned(super::jsonb::canonical(text()?)?.into_bytes())),
        (Form::Padded { length }, _) => {
            let text = text()?.trim_end_matches(' ');
            let chars = text.chars().count();
            let length = length as usize;
            if chars > length {
                return Err(format!("{chars} characters where {length} are allowed"));
            }
            Value::text(format!("{text}{}", " ".repeat(length - chars)))
        }
        (_, v) => return Err(format!("{} in a column of another kind", class(v))),
    })
}

/// SQLite makes NULL of NaN, and 0.0 of −0.0 where a column has an affinity.
fn kept(r: f64) -> bool {
    !r.is_nan() && r.to_bits() != (-0.0f64).to_bits()
}

/// The double that the shortest decimal of a single says.
fn shortest(r: f32) -> Result<f64, String> {
    format!("{r:?}").parse().map_err(|_| "no number".to_owned())
}

fn float_text(r: f64, single: bool) -> String {
    match r {
        r if r.is_nan() => "NaN".into(),
        r if r.is_infinite() => if r > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        r if single => format!("{}", r as f32),
        r => format!("{r}"),
    }
}

fn float(t: &str, single: bool) -> Option<Value<'static>> {
    let r = match t {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        t if !t.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E')) => return None,
        t if single => f64::from(t.parse::<f32>().ok()?),
        t => t.parse().ok()?,
    };
    Some(Value::Real(r))
}

/// Digits as the server prints them in a column of that scale; nothing is rounded.
fn scaled(t: &str, scale: Option<u16>) -> Result<String, String> {
    let t = t.trim();
    if matches!(t, "NaN" | "Infinity" | "-Infinity") {
        return Ok(t.to_owned());
    }
    let digits = t.strip_prefix('-').unwrap_or(t);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let (sign, whole, part) = if plain && !whole.is_empty() && !part.contains('.') {
        (t.starts_with('-'), whole.to_owned(), part.to_owned())
    } else {
        let plain = plain_number(t).ok_or("text is no number")?;
        let digits = plain.trim_start_matches('-');
        let (w, p) = digits.split_once('.').unwrap_or((digits, ""));
        (plain.starts_with('-'), w.to_owned(), p.to_owned())
    };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        w => w,
    };
    let part = match scale.map(usize::from) {
        None => part,
        Some(n) if part.len() <= n => format!("{part:0<n$}"),
        Some(n) if part[n..].bytes().all(|b| b == b'0') => part[..n].to_owned(),
        Some(n) => return Err(format!("more than {n} digits after the point")),
    };
    let zero = whole == "0" && part.bytes().all(|b| b == b'0');
    let sign = if sign && !zero { "-" } else { "" };
    Ok(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

fn is_json(t: &str) -> bool {
    !t.contains('\0') && serde_json::from_str::<serde::de::IgnoredAny>(t).is_ok()
}

/// Days in 400 years, after which the calendar repeats.
const CYCLE: i64 = 146_097;

fn day_text(d: i32) -> String {
    match d {
        i32::MAX => return "infinity".into(),
        i32::MIN => return "-infinity".into(),
        _ => {}
    }
    if let Some(text) = date_text(d) {
        return text;
    }
    let mut days = i64::from(d);
    let mut years = 0i64;
    let (first, last) = (i64::from(days_of(1, 1, 1).unwrap_or(0)), i64::from(days_of(9999, 12, 31).unwrap_or(0)));
    if days < first {
        years = (first - days).div_euclid(CYCLE) + 1;
        days += years * CYCLE;
        years *= -400;
    } else if days > last {
        years = (days - last).div_euclid(CYCLE) + 1;
        days -= years * CYCLE;
        years *= 400;
    }
    let text = i32::try_from(days).ok().and_then(date_text).unwrap_or_default();
    let (y, rest) = text.split_at_checked(4).unwrap_or(("0", ""));
    let year = y.parse::<i64>().unwrap_or(0) + years;
    if year > 0 { format!("{year:04}{rest}") } else { format!("{:04}{rest} BC", 1 - year) }
}

fn day(t: &str) -> Option<i32> {
    match t {
        "infinity" => return Some(i32::MAX),
        "-infinity" => return Some(i32::MIN),
        _ => {}
    }
    let (t, bc) = t.strip_suffix(" BC").map_or((t, false), |t| (t, true));
    let mut parts = t.split('-');
    let number = |s: Option<&str>, n: usize| -> Option<i64> {
        let s = s.filter(|s| s.len() >= n && s.len() <= 7 && s.bytes().all(|b| b.is_ascii_digit()))?;
        s.parse().ok()
    };
    let (y, m, d) = (number(parts.next(), 4)?, number(parts.next(), 2)?, number(parts.next(), 2)?);
    if parts.next().is_some() || y == 0 {
        return None;
    }
    let year = if bc { 1 - y } else { y };
    let cycles = (year - 1).div_euclid(400);
    let days = i64::from(days_of(year - cycles * 400, m, d)?) + cycles * CYCLE;
    // what PostgreSQL's date can be: 4714-11-24 BC to 5874897-12-31
    i32::try_from(days).ok().filter(|d| (-2_451_545..=2_145_031_948).contains(d))
}

fn moment_text(us: i64) -> String {
    match us {
        i64::MAX => return "infinity".into(),
        i64::MIN => return "-infinity".into(),
        _ => {}
    }
    if let Some(text) = timestamp_text(us) {
        return text.strip_suffix(".000000").map_or(text.clone(), ToOwned::to_owned);
    }
    let (days, rest) = (us.div_euclid(DAY), us.rem_euclid(DAY));
    let day = i32::try_from(days).map(day_text).unwrap_or_default();
    let (day, bc) = day.strip_suffix(" BC").map_or((day.as_str(), ""), |d| (d, " BC"));
    let (s, f) = (rest / 1_000_000, rest % 1_000_000);
    let fraction = if f == 0 { String::new() } else { format!(".{f:06}") };
    format!("{day} {:02}:{:02}:{:02}{fraction}{bc}", s / 3600, s / 60 % 60, s % 60)
}

/// `YYYY-MM-DD HH:MM[:SS[.ffffff]]`, `T` or a space between; with `zone` also `Z` or ±HH[:MM] (none is UTC).
fn moment(t: &str, zone: bool) -> Option<i64> {
    match t {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (t, bc) = t.strip_suffix(" BC").map_or((t, ""), |t| (t, " BC"));
    let Some((date, time)) = t.split_once(['T', ' ']) else {
        return i64::from(day(&format!("{t}{bc}"))?).checked_mul(DAY);
    };
    let days = i64::from(day(&format!("{date}{bc}"))?);
    let (time, offset) = match time.find(['Z', '+', '-']) {
        None => (time, 0),
        Some(_) if !zone => return None,
        Some(at) => (&time[..at], offset(&time[at..])?),
    };
    let mut parts = time.split(':');
    let two = |s: Option<&str>| -> Option<i64> {
        s.filter(|s| s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let (h, m) = (two(parts.next())?, two(parts.next())?);
    let (s, fraction) = match parts.next() {
        None => (0, 0),
        Some(s) => {
            let (s, f) = s.split_once('.').unwrap_or((s, ""));
            if !f.bytes().all(|b| b.is_ascii_digit()) || f.get(6..).is_some_and(|more| more.bytes().any(|b| b != b'0'))
            {
                return None;
            }
            let f = format!("{:0<6}", f.get(..6).unwrap_or(f));
            (two(Some(s))?, f.parse::<i64>().ok()?)
        }
    };
    if parts.next().is_some() || h > 23 || m > 59 || s > 59 {
        return None;
    }
    let us = days.checked_mul(DAY)?.checked_add((h * 3600 + m * 60 + s) * 1_000_000 + fraction)?;
    us.checked_sub(offset * 1_000_000)
}

/// Seconds east of UTC.
fn offset(t: &str) -> Option<i64> {
    if t == "Z" {
        return Some(0);
    }
    let digits: String = t[1..].split(':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let h: i64 = digits[..2].parse().ok()?;
    let m: i64 = digits.get(2..).filter(|m| !m.is_empty()).map_or(Some(0), |m| m.parse().ok())?;
    let seconds = h * 3600 + m * 60;
    (h < 16 && m < 60).then_some(if t.starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(form: Form, v: &Value<'static>) -> String {
        let t = up(form, v).unwrap();
        assert_eq!(&down(form, &t).unwrap(), v, "{t}");
        match t {
            Value::Text(t) => String::from_utf8(t.into_owned()).unwrap(),
            t => t.to_string(),
        }
    }

    proptest! {
        #[test]
        fn b_every_moment_and_day_comes_back(us in -211_813_488_000_000_000i64..9_223_371_331_200_000_000, d in -2_451_545i32..=2_145_031_948) {
            there_and_back(Form::Moment { zone: true }, &Value::TimestampTz(us));
            there_and_back(Form::Moment { zone: false }, &Value::Timestamp(us));
            there_and_back(Form::Day, &Value::Date(d));
        }

        #[test]
        fn b_every_double_and_single_comes_back(bits: u64, single: u32) {
            let (r, s) = (f64::from_bits(bits), f64::from(f32::from_bits(single)));
            if kept(r) {
                there_and_back(Form::Double, &Value::Real(r));
            }
            if kept(s) {
                there_and_back(Form::Single, &Value::Real(s));
            }
            if !r.is_nan() {
                there_and_back(Form::Float { single: false }, &Value::Real(r));
            }
            if !s.is_nan() {
                there_and_back(Form::Float { single: true }, &Value::Real(s));
            }
        }
    }

    #[test]
    fn b_days_and_moments_are_spelled_as_the_server_does() {
        let ts = |us| there_and_back(Form::Moment { zone: false }, &Value::Timestamp(us));
        assert_eq!(ts(0), "2000-01-01 00:00:00");
        assert_eq!(ts(1), "2000-01-01 00:00:00.000001");
        assert_eq!(ts(i64::MAX), "infinity");
        assert_eq!(there_and_back(Form::Moment { zone: true }, &Value::TimestampTz(i64::MIN)), "-infinity");
        assert_eq!(there_and_back(Form::Day, &Value::Date(-2_451_545)), "4714-11-24 BC");
        assert_eq!(there_and_back(Form::Day, &Value::Date(2_145_031_948)), "5874897-12-31");
        assert!(down(Form::Day, &Value::text("2023-02-29")).is_err());
    }

    #[test]
    fn b_what_an_application_writes_in_its_own_way_is_understood() {
        let tz = |s: &str| down(Form::Moment { zone: true }, &Value::text(s));
        let noon = tz("2024-01-01 12:00:00+00:00").unwrap();
        for s in ["2024-01-01T12:00:00Z", "2024-01-01 12:00", "2024-01-01T14:00:00.000+02:00", "2024-01-01 06:30-0530"]
        {
            assert_eq!(tz(s).unwrap(), noon, "{s}");
        }
        assert!(down(Form::Moment { zone: false }, &Value::text("2024-01-01T12:00:00Z")).is_err());
        assert!(tz("2024-01-01 12:00:00.0000001").is_err());
        let money = |v: Value<'static>| down(Form::Digits { scale: Some(2) }, &v);
        for v in [Value::text("1.5"), Value::text("01.500"), Value::Real(1.5), Value::text("15e-1")] {
            assert_eq!(money(v).unwrap(), Value::text("1.50"));
        }
        assert!(money(Value::text("1.005")).is_err() && money(Value::text("one")).is_err());
        let any = |s: &str| down(Form::Digits { scale: None }, &Value::text(s.to_owned())).unwrap();
        assert_eq!(any("1.10"), Value::text("1.10"));
        assert_eq!(any("-0.0"), Value::text("0.0"));
        assert_eq!(any("1e3"), Value::text("1000"));
        assert_eq!(down(Form::Padded { length: 3 }, &Value::text("é")).unwrap(), Value::text("é  "));
        assert_eq!(down(Form::Single, &Value::Real(0.1)).unwrap(), Value::Real(f64::from(0.1f32)));
        assert!(down(Form::Single, &Value::Real(0.123_456_789_012)).is_err());
    }
}
