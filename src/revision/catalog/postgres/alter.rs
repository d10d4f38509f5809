//! What PostgreSQL alters in place.

use super::words::plain;
use crate::revision::catalog::{Catalog, Column, Object, Statement, Table, What};

/// The column cannot be altered into the other one, and loses nothing by being made anew: it is computed.
pub(super) fn remade(was: &Column, is: &Column) -> bool {
    match (&was.generated, &is.generated) {
        (None, None) => false,
        (Some(a), Some(b)) => {
            a != b || was.ty != is.ty || was.collation != is.collation || was.is_virtual != is.is_virtual
        }
        (None, Some(_)) => true,
        // DROP EXPRESSION keeps the values
        (Some(_), None) => was.is_virtual,
    }
}

/// The type has to be built anew to become the other one.
pub(super) fn rebuilds(was: &Object, is: &Object, to: &Catalog) -> bool {
    match was.what {
        What::Enum => {
            let (values, wanted) = (list(was, "value"), list(is, "value"));
            let mut kept = wanted.iter().filter(|v| values.contains(v));
            if !values.iter().all(|v| kept.next() == Some(v)) {
                return true;
            }
            // a value that was added cannot be used in the same transaction
            let added: Vec<String> =
                wanted.iter().filter(|v| !values.contains(v)).map(|v| format!("{v}::{}", is.name)).collect();
            let says = |text: &str| added.iter().any(|a| text.contains(a.as_str()));
            to.objects.iter().any(|o| says(&o.sql))
                || to
                    .tables
                    .iter()
                    .flat_map(|t| &t.columns)
                    .any(|c| c.default.as_deref().is_some_and(says) || c.generated.as_deref().is_some_and(says))
        }
        What::Domain => list(was, "type") != list(is, "type"),
        _ => false,
    }
}

fn list(object: &Object, key: &str) -> Vec<String> {
    object.parts.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
}

/// The statements that alter an object that stays.
pub(super) fn object(was: &Object, is: &Object) -> Vec<Statement> {
    let name = &is.name;
    let mut out = Vec::new();
    if was.canon == is.canon && was.parts == is.parts {
        return out;
    }
    match is.what {
        What::Enum => {
            let (values, wanted) = (list(was, "value"), list(is, "value"));
            for (i, value) in wanted.iter().enumerate().filter(|(_, v)| !values.contains(v)) {
                let place = match i.checked_sub(1).and_then(|i| wanted.get(i)) {
                    Some(before) => format!(" AFTER {before}"),
                    // the first of those that are there already
                    None => values.first().map(|v| format!(" BEFORE {v}")).unwrap_or_default(),
                };
                out.push(plain(format!("ALTER TYPE {name} ADD VALUE {value}{place}")));
            }
        }
        What::Domain => {
            let one = |o: &Object, key: &str| list(o, key).into_iter().next();
            for check in list(was, "check").iter().filter(|c| !list(is, "check").contains(c)) {
                let constraint = first_name(check);
                out.push(plain(format!("ALTER DOMAIN {name} DROP CONSTRAINT {constraint}")));
            }
            match (one(was, "default"), one(is, "default")) {
                (a, b) if a == b => {}
                (_, Some(default)) => out.push(plain(format!("ALTER DOMAIN {name} SET DEFAULT {default}"))),
                _ => out.push(plain(format!("ALTER DOMAIN {name} DROP DEFAULT"))),
            }
            match (one(was, "not null"), one(is, "not null")) {
                (None, Some(_)) => out.push(plain(format!("ALTER DOMAIN {name} SET NOT NULL"))),
                (Some(_), None) => out.push(plain(format!("ALTER DOMAIN {name} DROP NOT NULL"))),
                _ => {}
            }
            for check in list(is, "check").iter().filter(|c| !list(was, "check").contains(c)) {
                out.push(plain(format!("ALTER DOMAIN {name} ADD CONSTRAINT {check}")));
            }
        }
        What::Sequence => {
            let number = |o: &Object, key: &str| -> i128 {
                list(o, key).first().and_then(|v| v.parse().ok()).unwrap_or_default()
            };
            let (min, max) = (number(is, "MINVALUE"), number(is, "MAXVALUE"));
            let (least, most) = (min.min(number(was, "MINVALUE")), max.max(number(was, "MAXVALUE")));
            let narrower = least < min || most > max;
            if narrower {
                // where it stands may be outside of what it is to be
                out.push(plain(format!("ALTER SEQUENCE {name} AS bigint MINVALUE {least} MAXVALUE {most}")));
                out.push(plain(format!(
                    "SELECT pg_catalog.setval('{}', greatest(least(last_value, {max}), {min}), \
                     is_called AND last_value BETWEEN {min} AND {max}) FROM {name}",
                    name.replace('\'', "''")
                )));
            }
            let settings: Vec<String> = is
                .parts
                .iter()
                .filter(|p| p.0 != "OWNED BY" && (narrower || !was.parts.contains(p)))
                .map(|(key, value)| format!("{key} {value}").trim().to_owned())
                .collect();
            if !settings.is_empty() {
                out.push(plain(format!("ALTER SEQUENCE {name} {}", settings.join(" "))));
            }
            let unlogged = |o: &Object| o.sql.starts_with("CREATE UNLOGGED");
            if unlogged(was) != unlogged(is) {
                let word = if unlogged(is) { "UNLOGGED" } else { "LOGGED" };
                out.push(plain(format!("ALTER SEQUENCE {name} SET {word}")));
            }
        }
        What::Extension => {
            if let Some((_, schema)) = is.sql.rsplit_once(" WITH SCHEMA ") {
                out.push(plain(format!("ALTER EXTENSION {name} SET SCHEMA {schema}")));
            }
        }
        // CREATE OR REPLACE
        What::Function => out.push(plain(is.sql.clone())),
        _ => {}
    }
    out
}

/// The name in front of a text.
fn first_name(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('"') {
        let mut at = 0;
        while let Some(n) = rest.get(at..).and_then(|r| r.find('"')) {
            at += n + 1;
            if !rest[at..].starts_with('"') {
                return &text[..=at];
            }
            at += 1;
        }
    }
    text.split(' ').next().unwrap_or_default()
}

/// What a column has to lose first.
pub(super) fn loosened(table: &Table, was: &Column, is: &Column) -> Vec<Statement> {
    let options = |c: &Column| c.identity.as_ref().map(|i| i.split_once(" (").map(|(_, o)| o.to_owned()));
    let word = match () {
        () if was.generated.is_some() && is.generated.is_none() => "DROP EXPRESSION",
        () if was.identity.is_some() && options(was) != options(is) => "DROP IDENTITY",
        () => return Vec::new(),
    };
    vec![plain(format!("ALTER TABLE {} ALTER COLUMN {} {word}", table.name.quoted, was.quoted))]
}

/// The statements that alter a column, but for its default. `retyped`: its type, or the type's own definition, is another one;
/// `rebuilt`: only the latter.
pub(super) fn column(table: &Table, was: &Column, is: &Column, retyped: bool, rebuilt: bool) -> Vec<Statement> {
    let mut out = Vec::new();
    let mut alter = |what: String| {
        out.push(plain(format!("ALTER TABLE {} ALTER COLUMN {} {what}", table.name.quoted, is.quoted)));
    };
    let kind = |c: &Column| c.identity.as_ref().map(|i| i.split_once(" (").map_or(i.clone(), |(k, _)| k.to_owned()));
    let options = |c: &Column| c.identity.as_ref().and_then(|i| i.split_once(" (").map(|(_, o)| o.to_owned()));
    let kept = was.identity.is_some() && is.identity.is_some() && options(was) == options(is);
    if retyped {
        let collation = match (&was.collation, &is.collation) {
            (a, Some(b)) if a != &Some(b.clone()) => format!(" COLLATE {b}"),
            (_, Some(b)) => format!(" COLLATE {b}"),
            _ => String::new(),
        };
        let by = using(was, is, rebuilt).map(|e| format!(" USING {e}")).unwrap_or_default();
        alter(format!("TYPE {}{collation}{by}", is.ty));
    }
    match (was.not_null, is.not_null) {
        (false, true) => alter("SET NOT NULL".into()),
        (true, false) => alter("DROP NOT NULL".into()),
        _ => {}
    }
    match (&is.identity, kind(is)) {
        (Some(_), Some(k)) if kept && kind(was).as_ref() == Some(&k) => {}
        (Some(_), Some(k)) if kept => alter(format!("SET GENERATED {k}")),
        (Some(identity), Some(k)) if was.identity.as_ref() != Some(identity) => {
            let options = options(is).map(|o| format!(" ({o}")).unwrap_or_default();
            alter(format!("ADD GENERATED {k} AS IDENTITY{options}"));
            // it goes on after the rows that are there
            let (name, raw) = (&table.name.quoted, is.name.replace('\'', "''"));
            out.push(plain(format!(
                "SELECT pg_catalog.setval(pg_catalog.pg_get_serial_sequence('{}', '{raw}'), (SELECT max({}) FROM {name}))",
                name.replace('\'', "''"),
                is.quoted
            )));
        }
        _ => {}
    }
    out
}

/// How values of one type become those of the other; `None` where an assignment does it, which refuses what does not fit where a cast
/// would cut it off.
fn using(was: &Column, is: &Column, rebuilt: bool) -> Option<String> {
    let column = &is.quoted;
    let array = is.ty.ends_with("[]");
    if rebuilt {
        return Some(if array { format!("{column}::text[]::{}", is.ty) } else { format!("{column}::text::{}", is.ty) });
    }
    let family = |ty: &str| {
        let ty = ty.split('(').next().unwrap_or_default().trim();
        match ty {
            _ if ty.ends_with("[]") => "array",
            "text" | "character varying" | "character" => "text",
            "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => "number",
            "date" => "time",
            _ if ty.starts_with("timestamp") => "time",
            "json" | "jsonb" => "json",
            _ => "",
        }
    };
    let (a, b) = (family(&was.ty), family(&is.ty));
    if was.ty.split('(').next() == is.ty.split('(').next() && !array || b == "text" && a != "array" {
        return None;
    }
    match (a, b) {
        ("number", "number") | ("time", "time") | ("json", "json") => None,
        ("text", _) if !array => Some(format!("{column}::{}", is.ty)),
        _ if was.ty == "boolean" && is.ty == "integer" || was.ty == "integer" && is.ty == "boolean" => {
            Some(format!("{column}::{}", is.ty))
        }
        ("array", "array") => Some(format!("{column}::text[]::{}", is.ty)),
        _ => Some(format!("{column}::text::{}", is.ty)),
    }
}
