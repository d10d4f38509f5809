//! The codecs that a column's values are tried with, by what it is declared, and what each one takes.

use crate::mapping::convert;
use crate::plan::{Affinity, Codec, Form, Kind, Shape, Spelling, base_type};
use crate::value::Value;

use super::types::{length, precision};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Try {
    Ints,
    Reals,
    Texts,
    Blobs,
    Codec(Codec),
}

impl Try {
    /// `plain`: a text that every store takes. What can be told without converting the value there and back is told so.
    pub(super) fn takes(&self, v: &Value<'_>, plain: bool) -> Result<(), String> {
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

    pub(super) fn codec(&self) -> Codec {
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

/// SQLite's names for dates and times.
pub(super) fn is_time(declared: &str) -> bool {
    let d = declared.to_ascii_uppercase();
    d.contains("DATETIME") || d.contains("TIMESTAMP")
}

pub(super) fn epoch_tries() -> Vec<Try> {
    [1, 1000, 1_000_000].map(|per_second| Try::Codec(Codec::Epoch { per_second })).into()
}

pub(super) fn uuid_tries() -> Vec<Try> {
    [(true, false), (true, true), (false, false), (false, true)]
        .map(|(hyphens, upper)| Try::Codec(Codec::Uuid { hyphens, upper }))
        .into()
}

/// Which plain type an empty column of that declared type gets.
pub(super) fn empty_try(declared: &str) -> Try {
    match Affinity::of(declared) {
        Affinity::Integer => Try::Ints,
        Affinity::Real => Try::Reals,
        Affinity::Numeric => Try::Codec(Codec::Real),
        Affinity::Text => Try::Texts,
        Affinity::Blob => Try::Blobs,
    }
}

pub(super) fn sqlite_tries(declared: &str) -> Vec<Try> {
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
pub(super) fn postgres_tries(ty: &str) -> Vec<Try> {
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

pub(super) fn member_tries(to: Kind) -> Vec<Try> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::plain_text;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_told_at_once_is_what_converting_says(v in value(), i in 0..64usize) {
            let affinities = [Affinity::Integer, Affinity::Real, Affinity::Numeric, Affinity::Text, Affinity::Blob];
            let mut all = ["BOOL", "DATE", "TIMESTAMP", "JSON", "UUID", "NUMERIC", "INT", "REAL", "TEXT", ""]
                .map(sqlite_tries)
                .concat();
            all.extend(affinities.map(|affinity| Try::Codec(Codec::AffinityText { affinity })));
            let t = &all[i % all.len()];
            let plain = matches!(&v, Value::Text(t) if plain_text(t).is_some());
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
}
