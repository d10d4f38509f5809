//! Which type a column may become, and by which codecs its values come back.

use crate::plan::{
    Affinity, At, By, Codec, Fraction, KeyForm, KeyMap, Kind, Said, Spelling, Table, TimeFormat, Zone, base_type,
};

use super::{Changing, Fate, Result, refuse, words};

/// A type as its store prints it.
pub(super) fn plain(ty: &str, kind: Kind) -> String {
    let ty = ty.trim();
    if kind == Kind::Sqlite {
        return ty.to_owned();
    }
    let limits = ty.find('(').map_or("", |at| &ty[at..]);
    let base = match base_type(ty).as_str() {
        "" => return ty.to_owned(),
        "int8" => "bigint",
        "int" | "int4" => "integer",
        "int2" => "smallint",
        "float8" => "double precision",
        "float4" => "real",
        "bool" => "boolean",
        "varchar" => "character varying",
        "char" => "character",
        "decimal" => "numeric",
        other => return if limits.is_empty() { other.to_owned() } else { ty.to_owned() },
    }
    .to_owned();
    base + limits
}

const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];

pub(super) fn is_integer(ty: &str) -> bool {
    INTEGERS.contains(&ty)
}

fn is_text(ty: &str) -> bool {
    ["text", "character varying"].contains(&base_type(ty).as_str())
}

/// The most characters that a type takes.
fn length(ty: &str) -> Option<usize> {
    ty.split_once('(')?.1.trim_end_matches(')').trim().parse().ok()
}

/// The spellings of a UUID, the likeliest first.
const UUIDS: [Codec; 4] = [
    Codec::Uuid { hyphens: true, upper: false },
    Codec::Uuid { hyphens: false, upper: false },
    Codec::Uuid { hyphens: true, upper: true },
    Codec::Uuid { hyphens: false, upper: true },
];

/// Whether they are spellings of a UUID.
pub(super) fn spells_uuids(tries: &[Codec]) -> bool {
    matches!(tries.first(), Some(Codec::Uuid { .. }))
}

/// All ways to spell what these codecs spell.
pub(super) fn spellings(of: &[Codec]) -> Vec<Codec> {
    if spells_uuids(of) { UUIDS.to_vec() } else { Vec::new() }
}

/// Whether a foreign key may have these on its ends.
pub(super) fn alike(one: &str, other: &str, kind: Kind) -> bool {
    match kind {
        Kind::Postgres => one == other || is_integer(one) && is_integer(other) || is_text(one) && is_text(other),
        _ => Affinity::of(one) == Affinity::of(other),
    }
}

/// Whether the new type takes values that the old one does not.
pub(super) fn takes_more(from: &str, to: &str, kind: Kind) -> bool {
    let wide = |ty: &str| INTEGERS.iter().position(|i| *i == ty);
    match (wide(from), wide(to)) {
        (Some(was), Some(is)) => is > was,
        _ if kind == Kind::Sqlite => Affinity::of(from) == Affinity::Text && Affinity::of(to) == Affinity::Integer,
        _ => is_text(from) && length(from).is_some_and(|n| is_text(to) && length(to).is_none_or(|m| m > n)),
    }
}

/// Has the column become of this type.
pub(super) fn retype(
    fate: &mut Fate,
    t: &Table,
    i: usize,
    asked: &str,
    defaulted: bool,
    by: Option<&By>,
) -> Result<()> {
    let (kind, ty, column) = (fate.kind, plain(asked, fate.kind), &t.columns[i]);
    let title = format!("{}.{}", t.name, column.name);
    let at = fate.at;
    let no = |why: &str, hint: &str| refuse(at, format!("{title} cannot become {ty}: {why}"), hint);
    let by_sql = matches!(by, Some(By::Sql { .. }));
    if ty == column.ty && !by_sql {
        return refuse(fate.at, format!("{title} is {ty} already"), "take it out of the migration");
    }
    if kind == Kind::Sqlite && column.identity {
        return no("it is the rowid, which is an INTEGER", "leave it, or give the table another key in a SQL revision");
    }
    let tries = match by {
        Some(By::Sql { up, down }) => said(fate, t, i, &ty, up, down),
        Some(By::Codec { .. }) if kind == Kind::Sqlite => {
            Err(("SQLite has no types that a codec makes".into(), "say `up` and `down`, in SQL"))
        }
        Some(By::Codec { name, utc, .. }) => by_name(name, &column.ty, &ty, *utc),
        None if kind == Kind::Sqlite => sqlite(t, &column.ty, &ty),
        None => postgres(&column.ty, &ty),
    };
    let tries = match tries {
        Ok(tries) => tries,
        Err((why, hint)) => return no(&why, hint),
    };
    if kind == Kind::Postgres && column.identity && !is_integer(&ty) {
        return no("its numbers are given by a sequence", "drop its default in a SQL revision first");
    }
    if !defaulted && let Some(default) = &column.default {
        match translated(default, &column.ty, &ty, kind).filter(|d| !by_sql || d.is_none()) {
            Some(default) => fate.column.default = default,
            None => {
                let hint = "drop that default first, in a SQL revision; or say the new one in [[alter.column]] default = \"…\"";
                let why = if by_sql { "is one of the old values" } else { "is none of that type" };
                return no(&format!("its default {default} {why}"), hint);
            }
        }
    }
    let keeps_collation = kind == Kind::Sqlite || is_text(&ty);
    fate.column.collation = column.collation.clone().filter(|_| keeps_collation);
    // the rowid's alias, as SQLite takes it
    if kind == Kind::Sqlite && t.key == [i] && !t.details.without_rowid && ty.eq_ignore_ascii_case("INTEGER") {
        fate.column.identity = true;
        fate.column.not_null = true;
    }
    fate.column.as_text = kind == Kind::Postgres && base_type(&ty) == "numeric";
    fate.column.ty = ty;
    fate.retyped = true;
    fate.tries = tries;
    Ok(())
}

/// Has a column of numbers hold UUIDs, each of which tells its number: the key `of` a table (`own`), or what refers to it. What gave numbers
/// by itself gives UUIDs by itself.
pub(super) fn numbered(fate: &mut Fate, t: &Table, i: usize, own: bool, of: &str) -> Result<()> {
    let column = &t.columns[i];
    let title = format!("{}.{}", t.name, column.name);
    if !(own && column.identity)
        && (column.identity || column.default.as_deref().is_some_and(|d| !d.eq_ignore_ascii_case("null")))
    {
        let cause = format!("{title} cannot become uuid: it has a default");
        return refuse(fate.at, cause, "drop that default first, in a SQL revision");
    }
    fate.column.default = (own && column.identity).then(|| "gen_random_uuid()".to_owned());
    (fate.column.identity, fate.column.always) = (false, false);
    fate.column.ty = "uuid".to_owned();
    fate.retyped = true;
    let (map, form) = (KeyMap::of(of), KeyForm::Uuid { space: of.to_owned() });
    fate.tries = vec![Codec::Key { map, form }];
    Ok(())
}

type Found = std::result::Result<Vec<Codec>, (String, &'static str)>;

const LATER: &str = "say how: `up` and `down` in SQL, or a `codec`";

fn postgres(from: &str, to: &str) -> Found {
    let of = base_type(from);
    let uuids =
        |most: Option<usize>| UUIDS.iter().filter(|c| most.is_none_or(|n| n >= spelled_in(c))).cloned().collect();
    match (of.as_str(), to) {
        (a, b) if is_integer(a) && is_integer(b) => Ok(vec![Codec::Same]),
        (_, b) if is_text(from) && is_text(b) => Ok(vec![Codec::Same]),
        (_, "uuid") if is_text(from) => match length(from) {
            Some(n) if n < 32 => Err((format!("{from} has no room for a UUID"), "is it the right column?")),
            most => Ok(uuids(most)),
        },
        // blanks at its end would be no part of it
        ("character", "uuid") if length(from) == Some(36) => Ok(vec![UUIDS[0].clone(), UUIDS[2].clone()]),
        ("character", "uuid") if length(from) == Some(32) => Ok(vec![UUIDS[1].clone(), UUIDS[3].clone()]),
        (a, "uuid") if is_integer(a) => Err((
            "only a key's numbers, and what refers to them, become UUIDs".into(),
            "[rekey] type = \"uuid\", tables = [\"…\"] changes a key with all that refers to it",
        )),
        (_, b) if is_text(from) && is_integer(b) => Ok(vec![Codec::Whole]),
        _ => Err((format!("from {from} to {to} no way is known that loses nothing either way"), LATER)),
    }
}

fn spelled_in(codec: &Codec) -> usize {
    if matches!(codec, Codec::Uuid { hyphens: true, .. }) { 36 } else { 32 }
}

fn sqlite(t: &Table, from: &str, to: &str) -> Found {
    if to.eq_ignore_ascii_case("uuid") {
        return Err(("SQLite has no such type".into(), "leave such keys as text there"));
    }
    let strict = ["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"];
    if t.details.strict && !strict.iter().any(|s| s.eq_ignore_ascii_case(to)) {
        return Err((
            "the table is STRICT, which knows INTEGER, REAL, TEXT, BLOB and ANY".into(),
            "choose one of those",
        ));
    }
    if t.details.strict && [from, to].iter().any(|ty| ty.eq_ignore_ascii_case("ANY")) {
        return Err((format!("from {from} to {to} no way is known that loses nothing either way"), LATER));
    }
    match (Affinity::of(from), Affinity::of(to)) {
        // what SQLite does to a value depends on the affinity alone
        (a, b) if a == b => Ok(vec![Codec::Verbatim]),
        (Affinity::Text, Affinity::Integer) => Ok(vec![Codec::Whole]),
        _ => Err((format!("from {from} to {to} no way is known that loses nothing either way"), LATER)),
    }
}

/// SQL of the store makes each value.
fn said(fate: &mut Fate, t: &Table, i: usize, ty: &str, up: &(String, At), down: &(String, At)) -> Found {
    let column = &t.columns[i];
    if t.key.contains(&i) || column.identity {
        return Err(("it is part of the key".into(), "[rekey] changes a key with all that refers to it"));
    }
    if fate.kind == Kind::Postgres {
        // a cast cuts or pads such values without a word
        let fixed =
            |ty: &str| ["character", "bit", "bit varying", "name", "\"char\""].contains(&base_type(ty).as_str());
        if let Some(other) = [column.ty.as_str(), ty].into_iter().find(|ty| fixed(ty)) {
            return Err((format!("values of {other} are cut to fit when SQL makes them"), "choose text or varchar"));
        }
    }
    fate.said_at = Some((up.1, down.1));
    let exact = t.indexes.iter().any(|x| x.unique && x.columns.iter().any(|k| k.name == column.name));
    let numeric = fate.kind == Kind::Postgres && base_type(ty) == "numeric";
    Ok(vec![Codec::Sql { up: up.0.clone(), down: down.0.clone(), exact, numeric, said: Said::default() }])
}

/// The codecs of this name, the likeliest first.
fn by_name(name: &str, from: &str, to: &str, utc: bool) -> Found {
    let (text, of, into) = (is_text(from), base_type(from), base_type(to));
    let zoned = ["timestamptz", "timestamp with time zone"].contains(&into.as_str());
    let fits = match name {
        "flag" => (text || is_integer(&of)) && into == "boolean",
        "date" => text && into == "date",
        "timestamp" => {
            text && (zoned || ["timestamp", "timestamp without time zone"].contains(&into.as_str()))
                && !to.contains('(')
        }
        "epoch" => ["integer", "bigint"].contains(&of.as_str()) && zoned && !to.contains('('),
        "json_text" => text && into == "json",
        "jsonb" => text && into == "jsonb",
        "real" => is_integer(&of) && into == "double precision",
        "uuid" => text && into == "uuid",
        _ => {
            return Err((
                format!("no codec is called {name:?} here"),
                "there are: flag, date, timestamp, epoch, json_text, jsonb, real, uuid; or say `up` and `down`, in SQL",
            ));
        }
    };
    if !fits {
        return Err((format!("codec {name:?} does not make {to} of {from}"), "say `up` and `down`, in SQL"));
    }
    Ok(match name {
        "flag" if text => {
            FLAGS.map(|(yes, no)| Codec::Flag { yes: Spelling::Text(yes.into()), no: Spelling::Text(no.into()) }).into()
        }
        "flag" => vec![Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) }],
        "date" => vec![Codec::Date],
        "timestamp" => {
            let zones = match (zoned, utc) {
                (false, _) => vec![Zone::None],
                (true, true) => vec![Zone::Meant, Zone::Z, Zone::Utc],
                (true, false) => vec![Zone::Z, Zone::Utc],
            };
            let fractions = || std::iter::once(Fraction::SixOrNone).chain((0..=6).map(Fraction::Digits));
            let formats = zones.into_iter().flat_map(|zone| {
                [false, true]
                    .into_iter()
                    .flat_map(move |t| fractions().map(move |fraction| TimeFormat { t, fraction, zone }))
            });
            formats.map(|format| Codec::Timestamp { format }).collect()
        }
        "epoch" => [1, 1000, 1_000_000].map(|per_second| Codec::Epoch { per_second }).into(),
        "json_text" => vec![Codec::JsonText],
        "jsonb" => vec![Codec::Jsonb],
        "real" => vec![Codec::Real],
        _ => UUIDS.to_vec(),
    })
}

/// How text spells true and false.
const FLAGS: [(&str, &str); 14] = [
    ("t", "f"),
    ("true", "false"),
    ("yes", "no"),
    ("y", "n"),
    ("on", "off"),
    ("1", "0"),
    ("T", "F"),
    ("True", "False"),
    ("TRUE", "FALSE"),
    ("Yes", "No"),
    ("YES", "NO"),
    ("Y", "N"),
    ("On", "Off"),
    ("ON", "OFF"),
];

/// A default for the new type; `Some(None)` is none at all, `None` that it does not fit.
#[allow(clippy::option_option)]
fn translated(default: &str, from: &str, ty: &str, kind: Kind) -> Option<Option<String>> {
    if kind == Kind::Sqlite {
        if Affinity::of(from) == Affinity::of(ty) || default.eq_ignore_ascii_case("null") {
            return Some(Some(default.to_owned()));
        }
        // text that becomes an integer; a bare number is its text there
        let text = default.strip_prefix('\'').and_then(|d| d.strip_suffix('\'')).unwrap_or(default);
        return text.parse::<i64>().ok().filter(|i| i.to_string() == text).map(|i| Some(i.to_string()));
    }
    let (bare, cast) = match default.rsplit_once("::") {
        Some((bare, cast)) if !cast.contains(['(', ')', '\'']) || cast.contains('(') && cast.ends_with(')') => {
            (bare, true)
        }
        _ => (default, false),
    };
    let unbracketed = bare.strip_prefix('(').and_then(|b| b.strip_suffix(')')).unwrap_or(bare);
    let literal = bare.strip_prefix('\'').and_then(|b| b.strip_suffix('\''));
    let literal = literal.filter(|b| !b.replace("''", "").contains('\''));
    if bare.eq_ignore_ascii_case("null") {
        return Some(None);
    }
    match ty {
        "uuid" => {
            let made = [
                "gen_random_uuid()",
                "uuid_generate_v4()",
                "uuid_generate_v1()",
                "uuid_generate_v1mc()",
                "uuidv4()",
                "uuidv7()",
            ];
            let name = unbracketed.rsplit('.').next().unwrap_or(unbracketed);
            if cast && made.contains(&name) {
                return Some(Some(unbracketed.to_owned()));
            }
            let literal = uuid::Uuid::try_parse(literal?).ok()?;
            Some(Some(format!("'{literal}'::uuid")))
        }
        ty if is_integer(ty) => {
            let text = literal.unwrap_or(unbracketed);
            let number: i64 = text.parse().ok().filter(|n: &i64| n.to_string() == text)?;
            Some(Some(number.to_string()))
        }
        _ => literal.map(|l| Some(format!("'{l}'::{ty}"))),
    }
}

/// Checks, indexes and computed columns that speak of a column hold for its new type too, or the migration is refused.
pub(super) fn still_hold(t: &Changing) -> Result<()> {
    let table = &t.table;
    for (c, fate) in table.columns.iter().zip(&t.fates).filter(|(_, f)| f.retyped) {
        let kind = fate.kind;
        let by_sql = matches!(fate.tries.first(), Some(Codec::Sql { .. }));
        let close = !by_sql && alike(&c.ty, &fate.column.ty, kind);
        let speaks = |text: &String| words::mentions(text, &c.name, kind);
        let no = |what: String| {
            let hint = "drop it first, in a SQL revision, and make it again afterwards".to_owned();
            refuse(
                fate.at,
                format!("{}.{} cannot become {}: {what} speaks of it", table.name, c.name, fate.column.ty),
                hint,
            )
        };
        if let Some(g) = table.generated.iter().find(|g| g.expression.as_ref().is_none_or(speaks)) {
            return no(format!("the computed column {}", g.name));
        }
        if close {
            continue;
        }
        if let Some(check) = table.constraints.iter().find(|k| speaks(&k.definition)) {
            return no(format!("the constraint {}, {},", check.name, check.definition));
        }
        if let Some(check) = table.checks.iter().find(|k| speaks(k)) {
            return no(format!("CHECK ({check})"));
        }
        for index in &table.indexes {
            let name = index.name.as_deref().unwrap_or("that a UNIQUE makes");
            if index.predicate.as_ref().is_some_and(speaks) {
                return no(format!("the condition of the index {name}"));
            }
            let as_column = index.columns.iter().any(|k| k.name == c.name);
            let in_expression = |d: &String| speaks(d) && words::in_expression(d, &c.name, kind);
            if index.expression && index.definition.as_ref().is_none_or(in_expression) {
                return no(format!("the index {name}, which is over an expression,"));
            }
            // an operator class is one of the old type's
            let special =
                index.definition.as_ref().is_some_and(|d| kind == Kind::Postgres && words::has_class(d, &c.name));
            if as_column && fate.column.ty == "json" {
                return no(format!("the index {name}, and json cannot be compared,"));
            }
            if as_column && (special || index.special.is_some()) {
                return no(format!("the index {name}, which is made for its present type,"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_keeps_its_quotes_in_another_type() {
        let to_text = |default| translated(default, "character varying(9)", "text", Kind::Postgres);
        assert_eq!(to_text("'it''s'::character varying"), Some(Some("'it''s'::text".into())));
        assert_eq!(to_text("'a'::text || 'b'::text"), None);
        assert_eq!(translated("'7'::text", "text", "bigint", Kind::Postgres), Some(Some("7".into())));
    }
}
