//! A JSON text as jsonb prints it: members by length and bytes, the last of equal ones, numbers in digits, one blank after `,` and `:`.

use serde_json::value::RawValue;

/// The text that PostgreSQL would give back for this one.
///
/// # Errors
/// It is no JSON, or jsonb does not take it.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 16);
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| "text is no JSON document".to_owned())?;
    print(raw.get(), &mut out, false)?;
    Ok(out)
}

/// The same, refused where jsonb would lose something: one of two equal members, the sign of a zero.
///
/// # Errors
/// In plain words.
pub(super) fn kept_whole(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 16);
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| "text is no JSON document".to_owned())?;
    print(raw.get(), &mut out, true)?;
    Ok(out)
}

fn print(raw: &str, out: &mut String, whole: bool) -> Result<(), String> {
    let broken = |_| "text is no JSON document".to_owned();
    let raw = raw.trim();
    match raw.as_bytes().first() {
        Some(b'{') => {
            let Members(mut members) = serde_json::from_str(raw).map_err(broken)?;
            // the last of equal names counts: a stable sort keeps their order
            members.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
            let mut first = true;
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                if members.get(i + 1).is_some_and(|(next, _)| next == name) {
                    if whole {
                        return Err(format!("a JSON object with two members {name:?}, of which jsonb keeps one"));
                    }
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push_str(", ");
                }
                string(name, out)?;
                out.push_str(": ");
                print(value.get(), out, whole)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(broken)?;
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                print(item.get(), out, whole)?;
            }
            out.push(']');
        }
        Some(b'"') => string(&serde_json::from_str::<String>(raw).map_err(broken)?, out)?,
        Some(b't' | b'f' | b'n') => out.push_str(raw),
        _ => {
            let said = number(raw)?;
            if whole && raw.starts_with('-') && !said.starts_with('-') {
                return Err("a negative zero in JSON, of which jsonb keeps no sign".into());
            }
            out.push_str(&said);
        }
    }
    Ok(())
}

/// As numeric prints it: `1E2` is 100, `1.10` stays, `-0` is 0, `1.5e-3` is 0.0015.
fn number(raw: &str) -> Result<String, String> {
    let (negative, rest) = raw.strip_prefix('-').map_or((false, raw), |r| (true, r));
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().map_err(|_| "a number beyond all measure")?),
        None => (rest, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if exponent.abs() > 1000 {
        return Err("a number beyond all measure".into());
    }
    let digits = format!("{whole}{part}");
    let scale = i64::try_from(part.len()).unwrap_or(0) - exponent;
    let digits =
        if scale < 0 { format!("{digits}{}", "0".repeat(usize::try_from(-scale).unwrap_or(0))) } else { digits };
    let scale = usize::try_from(scale.max(0)).unwrap_or(0);
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        w => w,
    };
    let zero = whole == "0" && part.bytes().all(|b| b == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    Ok(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

fn string(s: &str, out: &mut String) -> Result<(), String> {
    out.push('"');
    for c in s.chars() {
        match c {
            '\0' => return Err("a string that holds \\u0000".into()),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

/// All members in the order of the text, equal names too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(member) = map.next_entry()? {
                    out.push(member);
                }
                Ok(out)
            }
        }
        d.deserialize_map(Visitor).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_a_document_is_printed_as_jsonb_prints_it() {
        for (text, printed) in [
            (r#" {"bb":1,"a" : [1,2 , {}],"b":null,"a":"x"} "#, r#"{"a": "x", "b": null, "bb": 1}"#),
            ("[1E2,1.10,-0,-0.0,1.5e-3,0.00,12e0]", "[100, 1.10, 0, 0.0, 0.0015, 0.00, 12]"),
            (r#""\u00e9\/\u0001\n\"""#, "\"é/\\u0001\\n\\\"\""),
            ("[]", "[]"),
            ("true", "true"),
        ] {
            assert_eq!(canonical(text).unwrap(), printed);
        }
        assert!(canonical(r#""\u0000""#).is_err() && canonical("{").is_err());
        assert_eq!(kept_whole(r#"{"bb":1E3, "a":"\ud83d\ude00"}"#).unwrap(), "{\"a\": \"😀\", \"bb\": 1000}");
        for lost in [
            r#"{"a":1,"a":2}"#,
            r#"[{"a":{"b":1,"\u0062":2}}]"#,
            r#""\u0000""#,
            r#""\ud800""#,
            "-0",
            "[-0.0e5]",
            "1e100000",
        ] {
            assert!(kept_whole(lost).is_err(), "{lost}");
        }
    }
}
