//! A column's pair of conversions, as the frozen plan writes it down. What they do is in `mapping::convert`.

use serde::{Deserialize, Serialize};

/// How a column's values look on each side. Every codec is exact: what `up` takes, `down` gives back as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "codec", rename_all = "snake_case")]
pub enum Codec {
    /// Integers, doubles, text or bytes, unchanged.
    Same,
    /// Two spellings of a truth value ↔ boolean.
    Flag {
        /// How the source spells true.
        yes: Spelling,
        /// How the source spells false.
        no: Spelling,
    },
    /// Integers and doubles mixed ↔ double. The source's column type keeps whole numbers as integers.
    Real,
    /// Doubles ↔ numeric, by the shortest decimal that reads back as the same double.
    Decimal {
        /// The source's column type keeps whole numbers as integers.
        integral: bool,
    },
    /// Numbers and text mixed ↔ text; the source's column type turns what reads as a number back into one.
    AffinityText {
        /// The source column's affinity.
        affinity: Affinity,
    },
    /// Text that is not UTF-8 or holds NUL ↔ bytes.
    TextBytes,
    /// Text ↔ date.
    Date,
    /// Text ↔ timestamp, without or with time zone.
    Timestamp {
        /// How the source spells it.
        format: TimeFormat,
    },
    /// Integer since 1970-01-01 UTC ↔ timestamp with time zone.
    Epoch {
        /// Units in a second: 1, 1 000 or 1 000 000.
        per_second: i64,
    },
    /// Text holding a JSON document ↔ json.
    JsonText,
    /// Text ↔ uuid.
    Uuid {
        /// 36 characters with hyphens, else 32 without.
        hyphens: bool,
        /// Capital letters.
        upper: bool,
    },
    /// Any SQLite value ↔ text, as an SQL literal (`12`, `1.5`, `'abc'`, `x'00ff'`). Only if asked for.
    Literal,
    /// A member of a JSON record.
    Member {
        /// What its values are.
        shape: Shape,
        /// SQL NULL becomes a JSON null (else the member is left out).
        null: bool,
        /// Both null and missing occur, so that NULL stands for either; each record keeps its own.
        fold: bool,
        /// The target has no boolean: 0 and 1.
        numeric_bool: bool,
        /// The target has no JSON type: text.
        text_json: bool,
    },
}

/// A literal of SQLite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Spelling {
    /// An integer.
    Int(i64),
    /// Text.
    Text(String),
}

/// SQLite's column affinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// INT…
    Integer,
    /// CHAR, CLOB, TEXT
    Text,
    /// BLOB or nothing
    Blob,
    /// REAL, FLOA, DOUB
    Real,
    /// all else
    Numeric,
}

impl Affinity {
    /// SQLite's rules, in their order.
    pub fn of(declared: &str) -> Affinity {
        let t = declared.to_ascii_uppercase();
        if t.contains("INT") {
            Affinity::Integer
        } else if ["CHAR", "CLOB", "TEXT"].iter().any(|w| t.contains(w)) {
            Affinity::Text
        } else if t.contains("BLOB") || t.trim().is_empty() {
            Affinity::Blob
        } else if ["REAL", "FLOA", "DOUB"].iter().any(|w| t.contains(w)) {
            Affinity::Real
        } else {
            Affinity::Numeric
        }
    }
}

/// How a source spells a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeFormat {
    /// `T` between date and time, else a space.
    pub t: bool,
    /// Digits after the seconds.
    pub fraction: Fraction,
    /// What follows.
    pub zone: Zone,
}

/// Digits after the seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fraction {
    /// Always that many, 0 to 6 (0: no point).
    Digits(u8),
    /// Six, or none when it is zero, as Python's isoformat writes.
    SixOrNone,
}

/// A time zone at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// Nothing: local or unsaid.
    None,
    /// `Z`
    Z,
    /// `+00:00`
    Utc,
}

/// What a JSON member's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Strings.
    Text,
    /// Integers of 64 bits.
    Int,
    /// true and false.
    Bool,
    /// Numbers that a double holds exactly as written.
    Number {
        /// Whole numbers are spelled `10.0`, else `10`.
        point: bool,
    },
    /// Numbers a double does not hold, kept as decimals.
    Decimal,
    /// Anything, as JSON text.
    Raw,
}

impl Codec {
    /// In a word or two, for `plan`.
    pub fn title(&self) -> String {
        match self {
            Codec::Same => "as it is".into(),
            Codec::Flag { yes, no } => {
                let s = |s: &Spelling| match s {
                    Spelling::Int(i) => i.to_string(),
                    Spelling::Text(t) => format!("'{t}'"),
                };
                format!("{}/{} as boolean", s(yes), s(no))
            }
            Codec::Real => "number as double".into(),
            Codec::Decimal { .. } => "number as decimal".into(),
            Codec::AffinityText { .. } => "widened to text".into(),
            Codec::TextBytes => "text as bytes".into(),
            Codec::Date => "text as date".into(),
            Codec::Timestamp { format } => {
                let zone = match format.zone {
                    Zone::None => "",
                    Zone::Z => "Z",
                    Zone::Utc => "+00:00",
                };
                let fraction = match format.fraction {
                    Fraction::Digits(0) => String::new(),
                    Fraction::Digits(n) => format!(".{}", "f".repeat(usize::from(n))),
                    Fraction::SixOrNone => "[.ffffff]".into(),
                };
                format!("text as time, YYYY-MM-DD{}HH:MM:SS{fraction}{zone}", if format.t { "T" } else { " " })
            }
            Codec::Epoch { per_second } => match per_second {
                1 => "seconds since 1970 as time".into(),
                1000 => "milliseconds since 1970 as time".into(),
                _ => "microseconds since 1970 as time".into(),
            },
            Codec::JsonText => "text as json".into(),
            Codec::Uuid { hyphens, .. } => format!("{} characters as uuid", if *hyphens { 36 } else { 32 }),
            Codec::Literal => "as SQL literal".into(),
            Codec::Member { shape, .. } => match shape {
                Shape::Text => "string".into(),
                Shape::Int => "integer".into(),
                Shape::Bool => "true/false".into(),
                Shape::Number { .. } => "number as double".into(),
                Shape::Decimal => "number as decimal".into(),
                Shape::Raw => "as JSON text".into(),
            },
        }
    }
}
