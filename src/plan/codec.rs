//! A column's pair of conversions, as the frozen plan writes it down. What they do is in `mapping::convert`.

use serde::{Deserialize, Serialize};

/// How a column's values look on each side. Every codec is exact: what `up` takes, `down` gives back as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "codec", rename_all = "snake_case")]
pub enum Codec {
    /// Integers, doubles, text or bytes, unchanged.
    Same,
    /// Any value as it is: both stores are of one kind, and both columns of one type.
    Verbatim,
    /// A value of PostgreSQL ↔ the number or the text that says it in SQLite.
    Spelled {
        /// How it is spelled.
        form: Form,
    },
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
    /// Text that is the plain decimal of an integer of 64 bits ↔ that integer.
    Whole,
    /// Any SQLite value ↔ text, as an SQL literal (`12`, `1.5`, `'abc'`, `x'00ff'`). Only if asked for.
    Literal,
    /// Text ↔ text in which NUL, bytes that are not UTF-8, and the backslash are escaped: `\\x00`, `\\xff`, `\\\\`. Only if asked for.
    Escape,
    /// Text holding a JSON document ↔ jsonb, which spells it in its own way: the rows that were there keep their spelling on
    /// their way back. Only if asked for.
    Jsonb,
    /// Values that refer to rows that do not exist ↔ NULL, all others as they would be. Only if asked for.
    Dangling {
        /// What becomes of all others.
        of: Box<Codec>,
        /// Those values, as SQL literals.
        values: Vec<String>,
    },
    /// A key that becomes another one, or what refers to such a key.
    Key {
        /// Whose keys these are, and the pairs that are known.
        map: super::KeyMap,
        /// How one follows from the other.
        form: super::KeyForm,
    },
    /// Text that is a UUID ↔ uuid, and some that is none, of which one is made up. Only if asked for.
    Carried {
        /// How all others are spelled.
        of: Box<Codec>,
        /// The texts, in their order, and the UUID of each (36 characters).
        values: Vec<(String, String)>,
    },
    /// By SQL of the store. What comes back of a value is spelled as `down` says it; the rows that were there keep their spelling.
    Sql {
        /// The expression of a source value that makes the target's.
        up: String,
        /// The expression of a target value that makes the source's.
        down: String,
        /// No two values of the source may become one: the column is in a unique index.
        exact: bool,
        /// The target's values are decimals as text, where 1.10 and 1.1 are one.
        numeric: bool,
        /// What the store made of values.
        #[serde(skip)]
        said: super::Said,
    },
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

/// How a value of PostgreSQL is said where there is no such type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Form {
    /// boolean as 0 and 1.
    Truth,
    /// date as `YYYY-MM-DD`.
    Day,
    /// timestamp as `YYYY-MM-DD HH:MM:SS[.ffffff]`, with `+00:00` if it has a zone.
    Moment {
        /// It is a moment in UTC.
        zone: bool,
    },
    /// numeric as its digits.
    Digits {
        /// Digits after the point, where the type says how many.
        scale: Option<u16>,
    },
    /// real as the double of the shortest decimal.
    Single,
    /// double precision as a double, where none is NaN or −0.0, which SQLite does not keep.
    Double,
    /// real or double precision as text.
    Float {
        /// It is a real.
        single: bool,
    },
    /// uuid as 36 characters.
    Uuid,
    /// json as its text.
    Json,
    /// jsonb as its text.
    Jsonb,
    /// character(n) without the blanks at its end.
    Padded {
        /// Its length.
        length: u32,
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

/// The name of a PostgreSQL type without length or precision; empty for an array or a name in quotes.
pub fn base_type(ty: &str) -> String {
    let ty = ty.trim();
    if ty.ends_with(']') || ty.starts_with('"') {
        return String::new();
    }
    let mut out = String::new();
    let mut depth = 0;
    for c in ty.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 => out.extend(c.to_lowercase()),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
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
    /// Nothing, but the migration says that UTC is meant.
    Meant,
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
    /// The target may say the same in several ways, of which `up` gives one.
    pub fn is_loose(&self) -> bool {
        match self {
            Codec::Spelled { form } => !matches!(form, Form::Truth | Form::Double | Form::Single | Form::Json),
            // an application writes its JSON with blanks or without
            Codec::Member { shape, .. } => *shape == Shape::Raw,
            Codec::Sql { .. } => true,
            _ => false,
        }
    }

    /// The source says each value in one way only, so that `canon` changes nothing. Of a codec that is not named here this is
    /// not known.
    pub fn is_plain(&self) -> bool {
        use Codec::{
            AffinityText, Carried, Date, Decimal, Epoch, Flag, JsonText, Literal, Real, Same, Spelled, TextBytes,
        };
        use Codec::{Timestamp, Uuid, Verbatim, Whole};
        matches!(self, Same | Verbatim | Spelled { .. } | Flag { .. } | Real | Decimal { .. } | AffinityText { .. })
            || matches!(
                self,
                TextBytes
                    | Carried { .. }
                    | Date
                    | Timestamp { .. }
                    | Epoch { .. }
                    | JsonText
                    | Uuid { .. }
                    | Whole
                    | Literal
            )
    }

    /// In a word or two, for `plan`.
    pub fn title(&self) -> String {
        match self {
            Codec::Same | Codec::Verbatim => "as it is".into(),
            Codec::Spelled { form } => match form {
                Form::Truth => "boolean as 0/1",
                Form::Day => "as text, YYYY-MM-DD",
                Form::Moment { zone: false } => "as text, YYYY-MM-DD HH:MM:SS[.ffffff]",
                Form::Moment { zone: true } => "as text, YYYY-MM-DD HH:MM:SS[.ffffff]+00:00",
                Form::Digits { .. } => "as text, digit by digit",
                Form::Single | Form::Double => "as double",
                Form::Float { .. } => "number as text",
                Form::Uuid => "as text of 36 characters",
                Form::Json | Form::Jsonb => "as JSON text",
                Form::Padded { .. } => "as text without blanks at its end",
            }
            .into(),
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
                    Zone::Meant => " (UTC)",
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
            Codec::Whole => "digits as number".into(),
            Codec::Literal => "as SQL literal".into(),
            Codec::Escape => "text, with \\x escapes".into(),
            Codec::Jsonb => "text as jsonb".into(),
            Codec::Key { map, form: super::KeyForm::Uuid { .. } } => format!("key of {} as uuid", map.table),
            Codec::Key { map, form: super::KeyForm::Shift { by: 0, .. } } => format!("key of {} as it is", map.table),
            Codec::Key { map, form: super::KeyForm::Shift { by, .. } } => format!("key of {} + {by}", map.table),
            Codec::Carried { of, values } => format!("{}, {} others as made-up ones", of.title(), values.len()),
            Codec::Sql { up, down, .. } => format!("up: {up}; down: {down}"),
            Codec::Dangling { of, values } => format!("{}, {} dangling as NULL", of.title(), values.len()),
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
