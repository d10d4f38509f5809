//! Dates and times in the one spelling that a column has throughout.

use crate::plan::{Fraction, TimeFormat, Zone};
use crate::value::{days_of, timestamp_text};

fn digits(b: &[u8]) -> Option<i64> {
    b.iter().try_fold(0i64, |n, &c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
}

/// Days since 2000 of `YYYY-MM-DD`.
pub(super) fn parse_date(s: &str) -> Option<i32> {
    let b = s.as_bytes();
    if b.len() != 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    days_of(digits(&b[..4])?, digits(&b[5..7])?, digits(&b[8..])?)
}

/// Microseconds since 2000 of a moment spelled exactly so.
pub(super) fn parse_time(s: &str, f: TimeFormat) -> Option<i64> {
    let s = match f.zone {
        Zone::None | Zone::Meant => s,
        Zone::Z => s.strip_suffix('Z')?,
        Zone::Utc => s.strip_suffix("+00:00")?,
    };
    let b = s.as_bytes();
    if b.len() < 19 || !s.is_ascii() || b[10] != if f.t { b'T' } else { b' ' } || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let days = i64::from(parse_date(&s[..10])?);
    let (h, m, sec) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
    if h > 23 || m > 59 || sec > 59 {
        return None;
    }
    let fraction = match (&b[19..], f.fraction) {
        ([], Fraction::Digits(0) | Fraction::SixOrNone) => 0,
        ([b'.', d @ ..], Fraction::Digits(n)) if n > 0 && d.len() == usize::from(n) => {
            digits(d)? * 10i64.pow(6 - u32::from(n))
        }
        ([b'.', d @ ..], Fraction::SixOrNone) if d.len() == 6 => Some(digits(d)?).filter(|&u| u != 0)?,
        _ => return None,
    };
    Some(days * 86_400_000_000 + (h * 3600 + m * 60 + sec) * 1_000_000 + fraction)
}

/// What `parse_time` reads in this format.
pub(super) fn time_text(us: i64, f: TimeFormat) -> Result<String, String> {
    let full = timestamp_text(us).ok_or("a time outside years 1 to 9999")?;
    let (head, fraction) = full.split_at(19);
    let head = if f.t { head.replace(' ', "T") } else { head.to_owned() };
    let zero = &fraction[1..] == "000000";
    let fraction = match f.fraction {
        Fraction::SixOrNone if zero => "",
        Fraction::SixOrNone => fraction,
        Fraction::Digits(n) => {
            let keep = if n == 0 { 0 } else { usize::from(n) + 1 };
            if fraction[keep.max(1)..].bytes().any(|b| b != b'0') {
                return Err("a time finer than the source writes".into());
            }
            &fraction[..keep]
        }
    };
    let zone = match f.zone {
        Zone::None | Zone::Meant => "",
        Zone::Z => "Z",
        Zone::Utc => "+00:00",
    };
    Ok(format!("{head}{fraction}{zone}"))
}

/// The formats a text may be in, for a profile to try.
pub(super) fn time_formats(sample: &str) -> Vec<TimeFormat> {
    let t = sample.as_bytes().get(10) == Some(&b'T');
    let zone = match sample {
        s if s.ends_with('Z') => Zone::Z,
        s if s.ends_with("+00:00") => Zone::Utc,
        _ => Zone::None,
    };
    let mut out = vec![TimeFormat { t, fraction: Fraction::SixOrNone, zone }];
    out.extend((0..=6).map(|n| TimeFormat { t, fraction: Fraction::Digits(n), zone }));
    out
}
