//! The type that a column gets in the target: the one that takes all its values, or one that a user asks for and that does.

use crate::plan::{Codec, Form, Kind, Shape, base_type};

use super::ColumnProfile;
use super::tries::Try;

impl ColumnProfile {
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

    pub(super) fn type_of(&self, t: &Try) -> String {
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
                Codec::Uuid { .. } | Codec::Carried { .. } => "uuid".into(),
                Codec::Whole => "bigint".into(),
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
                | Codec::Key { .. }
                | Codec::Sql { .. }
                | Codec::Dangling { .. } => "text".into(),
            },
        }
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

pub(super) fn length(declared: &str) -> Option<usize> {
    precision(declared).map(|(p, _)| p)
}

/// `(p, s)` of `NUMERIC(p, s)`, `(n, 0)` of `VARCHAR(n)`.
pub(super) fn precision(declared: &str) -> Option<(usize, usize)> {
    let inner = declared.split_once('(')?.1.split_once(')')?.0;
    let (p, s) = inner.split_once(',').unwrap_or((inner, "0"));
    Some((p.trim().parse().ok()?, s.trim().parse().ok()?))
}
