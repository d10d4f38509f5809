//! What a PostgreSQL table has beside its columns, for SQLite: only what surely means the same; the rest is named.

use std::collections::HashSet;

use crate::plan::{Codec, ColumnPlan, Form, Index, NotMoved, Table, base_type};

/// Indexes, foreign keys, checks and generated columns.
pub(super) fn rest(
    source: &Table,
    target: &mut Table,
    codecs: &[ColumnPlan],
    moved: &HashSet<String>,
    into: &dyn Fn(&str) -> String,
    left: &mut Vec<NotMoved>,
) {
    for i in &source.indexes {
        let what = format!("index {} on {}", i.name.as_deref().unwrap_or("?"), source.name);
        let why = if let Some(special) = &i.special {
            format!("{special}, which SQLite has not")
        } else if i.expression || i.columns.is_empty() {
            "it is over an expression; create its counterpart in SQLite yourself".to_owned()
        } else {
            match i.predicate.as_deref().map(|p| (p, predicate(p, source, codecs))) {
                Some((p, None)) => format!("its condition «{p}» has no sure counterpart; create it in SQLite yourself"),
                found => {
                    if i.definition.as_ref().is_some_and(|d| d.contains(") INCLUDE (")) {
                        left.push(NotMoved {
                            what: format!("included columns of {what}"),
                            why: "SQLite's indexes have no such columns; it moves without them".into(),
                        });
                    }
                    let predicate = found.and_then(|(_, p)| p);
                    target.indexes.push(Index { predicate, definition: None, ..i.clone() });
                    continue;
                }
            }
        };
        left.push(NotMoved { what, why });
    }
    super::references::references(source, target, moved, into, left);
    for f in &mut target.foreign_keys {
        let special = f.special.take().or_else(|| f.on_delete.contains('(').then(|| f.on_delete.clone()));
        if let Some(special) = special {
            left.push(NotMoved {
                what: format!("{special} of foreign key {} → {}", source.name, f.table),
                why: "SQLite has no such thing; the foreign key moves without it".into(),
            });
            f.on_delete = f.on_delete.split(" (").next().unwrap_or_default().to_owned();
        }
        f.rigid = false;
    }
    for c in &source.constraints {
        if let Some(check) = c.definition.strip_prefix("CHECK ").and_then(|d| condition(d, source, codecs)) {
            target.checks.push(check);
            continue;
        }
        left.push(NotMoved {
            what: format!("constraint {} of {}: {}", c.name, source.name, c.definition),
            why: "it is not translated; add it in SQLite yourself".into(),
        });
    }
    for g in &source.generated {
        left.push(NotMoved {
            what: format!("generated column {}.{}", source.name, g.name),
            why: "its expression is not translated; the source goes on computing it, the target lacks it".into(),
        });
    }
}

/// A partial index's condition, if it is a column that IS [NOT] NULL, or a truth value, or several of these.
fn predicate(p: &str, source: &Table, codecs: &[ColumnPlan]) -> Option<String> {
    let mut out = Vec::new();
    let p = p.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(p);
    for part in p.split(" AND ") {
        let part = part.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(part);
        let (name, tail) = if let Some(n) = part.strip_suffix(" IS NOT NULL") {
            (n, " IS NOT NULL")
        } else if let Some(n) = part.strip_suffix(" IS NULL") {
            (n, " IS NULL")
        } else if let Some(n) = part.strip_prefix("NOT ") {
            (n, " = 0")
        } else {
            (part, " = 1")
        };
        let name =
            name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).map_or(name.into(), |n| n.replace("\"\"", "\""));
        let at = source.column(&name)?;
        let truth = codecs[at].codec == Codec::Spelled { form: Form::Truth };
        if tail.starts_with(" =") && !truth {
            return None;
        }
        out.push(format!("\"{}\"{tail}", name.replace('"', "\"\"")));
    }
    Some(out.join(" AND "))
}

/// The text within brackets that enclose all of it.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else { return text };
    if split(inner, "").is_some() { bare(inner) } else { text }
}

/// The parts between top-level occurrences of `by`; `None` if brackets or quotes do not match.
fn split<'a>(text: &'a str, by: &str) -> Option<Vec<&'a str>> {
    let (mut depth, mut quote, mut from, mut out) = (0i32, None, 0, Vec::new());
    for (i, c) in text.char_indices() {
        if quote.is_none() && depth == 0 && !by.is_empty() && i >= from && text[i..].starts_with(by) {
            out.push(&text[from..i]);
            from = i + by.len();
        }
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    out.push(&text[from..]);
    (depth == 0 && quote.is_none()).then_some(out)
}

/// A condition that means the same in SQLite: integers compared with a number, texts with a list, NULL, and these joined.
fn condition(text: &str, source: &Table, codecs: &[ColumnPlan]) -> Option<String> {
    let text = bare(text);
    for by in [" OR ", " AND "] {
        let parts = split(text, by)?;
        if parts.len() > 1 {
            let parts: Option<Vec<String>> = parts.into_iter().map(|p| condition(p, source, codecs)).collect();
            return Some(format!("({})", parts?.join(by)));
        }
    }
    let column = |name: &str| {
        let name = bare(name.strip_suffix("::text").unwrap_or(name));
        let name =
            name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).map_or(name.into(), |n| n.replace("\"\"", "\""));
        source.column(&name).map(|at| (at, format!("\"{}\"", name.replace('"', "\"\""))))
    };
    for tail in [" IS NOT NULL", " IS NULL"] {
        if let Some(name) = text.strip_suffix(tail) {
            return column(name).map(|(_, n)| format!("{n}{tail}"));
        }
    }
    let family = |at: usize| base_type(&source.columns[at].ty);
    if let Some((name, list)) = text.split_once(" = ANY (") {
        let (at, name) = column(name)?;
        let list = bare(list.strip_suffix(')')?);
        let list = bare(list.strip_suffix("::text[]").unwrap_or(list)).strip_prefix("ARRAY[")?.strip_suffix(']')?;
        let texts: Option<Vec<&str>> = split(list, ", ")?
            .into_iter()
            .map(|t| Some(without_cast(t)).filter(|t| t.len() > 1 && t.starts_with('\'') && t.ends_with('\'')))
            .collect();
        let plain = codecs[at].codec == Codec::Same && matches!(family(at).as_str(), "text" | "character varying");
        return texts.filter(|_| plain).map(|t| format!("{name} IN ({})", t.join(", ")));
    }
    let mut words = text.split(' ');
    let (name, operator, number) = (words.next()?, words.next()?, words.next()?);
    let (at, name) = column(name)?;
    let known = words.next().is_none() && ["<", "<=", "=", "<>", ">=", ">"].contains(&operator);
    let whole = matches!(family(at).as_str(), "smallint" | "integer" | "bigint");
    let number: i64 = bare(number).parse().ok().or_else(|| without_cast(number).trim_matches('\'').parse().ok())?;
    (known && whole).then(|| format!("{name} {operator} {number}"))
}

/// A default as SQLite says it, for a column of that type and codec; `None` where there is no sure counterpart.
pub(super) fn default(d: &str, ty: &str, codec: &Codec) -> Option<String> {
    let form = match codec {
        Codec::Spelled { form } => Some(*form),
        _ => None,
    };
    let low = d.trim().to_ascii_lowercase();
    let bare = without_cast(d.trim());
    let now = ["now()", "current_timestamp", "transaction_timestamp()", "statement_timestamp()", "clock_timestamp()"];
    let in_utc = [
        "timezone('utc'::text, now())",
        "(now() at time zone 'utc'::text)",
        "(current_timestamp at time zone 'utc'::text)",
    ];
    match form {
        Some(Form::Moment { zone: true }) if now.contains(&low.as_str()) => {
            return Some("strftime('%Y-%m-%d %H:%M:%S', 'now') || '+00:00'".into());
        }
        Some(Form::Moment { zone: false }) if now.contains(&low.as_str()) || in_utc.contains(&low.as_str()) => {
            return Some("CURRENT_TIMESTAMP".into());
        }
        Some(Form::Day) if low == "current_date" => return Some("CURRENT_DATE".into()),
        Some(Form::Uuid) if matches!(low.as_str(), "gen_random_uuid()" | "uuid_generate_v4()") => {
            return Some(
                "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' || \
                 substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
                    .into(),
            );
        }
        Some(Form::Truth) => {
            return match low.as_str() {
                "true" => Some("1".into()),
                "false" => Some("0".into()),
                _ => None,
            };
        }
        _ => {}
    }
    if let Some(text) = bare.strip_prefix('\'').and_then(|b| b.strip_suffix('\'')) {
        if text.replace("''", "").contains('\'') {
            return None;
        }
        // a word such as 'now' or 'today' means the moment at which it is read
        let moment = matches!(form, Some(Form::Day | Form::Moment { .. }));
        if moment && !text.starts_with(|c: char| c.is_ascii_digit()) && !text.ends_with("infinity") {
            return None;
        }
        let number = matches!(form, Some(Form::Double | Form::Single)) || super::INTEGERS.contains(&ty);
        return Some(if number { text.parse::<f64>().ok().map(|_| text.to_owned())? } else { bare.to_owned() });
    }
    let number = bare.strip_prefix("(").and_then(|b| b.strip_suffix(")")).unwrap_or(bare);
    number.parse::<f64>().ok().filter(|n| n.is_finite())?;
    Some(match form {
        Some(Form::Digits { .. } | Form::Float { .. }) => format!("'{number}'"),
        _ => number.to_owned(),
    })
}

/// `'x'::character varying(3)` and `(0)::numeric` without what follows the literal.
fn without_cast(d: &str) -> &str {
    if let Some(rest) = d.strip_prefix('\'') {
        // the quote that ends it is not doubled
        let bytes = rest.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            if bytes[i] == b'\'' {
                if bytes.get(i + 1) != Some(&b'\'') {
                    let tail = &rest[i + 1..];
                    let cast = tail.is_empty()
                        || tail.starts_with("::") && !tail.contains(['(', '|', '+', '\''])
                        || is_cast(tail);
                    return if cast { &d[..i + 2] } else { d };
                }
                i += 1;
            }
            i += 1;
        }
        return d;
    }
    match d.split_once("::") {
        Some((number, tail)) if is_cast(&format!("::{tail}")) => number,
        _ => d,
    }
}

/// `::type` or `::type(3)`, and nothing after it.
fn is_cast(tail: &str) -> bool {
    let plain = |s: &str| {
        s.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b' ' | b'_' | b'"' | b'.' | b'[' | b']' | b',' | b'(' | b')')
        })
    };
    tail.strip_prefix("::").is_some_and(|t| plain(t) && !t.contains("::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Column;

    #[test]
    fn checks_that_surely_mean_the_same_are_translated() {
        let column = |name: &str, ty: &str| Column { name: name.into(), ty: ty.into(), ..Column::default() };
        let columns = vec![column("n", "integer"), column("Odd \"x", "character varying(9)"), column("d", "numeric")];
        let source = Table { columns, ..Table::default() };
        let codecs = vec![ColumnPlan { codec: Codec::Same, why: String::new() }; 3];
        let said = |text: &str| condition(text, &source, &codecs);
        assert_eq!(said("((n > 0))").as_deref(), Some("\"n\" > 0"));
        assert_eq!(said("(((n >= '-5'::integer) AND (n <= 100)))").as_deref(), Some("(\"n\" >= -5 AND \"n\" <= 100)"));
        assert_eq!(
            said("(((\"Odd \"\"x\")::text = ANY ((ARRAY['a, (b'::character varying, 'it''s'::character varying])::text[])))").as_deref(),
            Some("\"Odd \"\"x\" IN ('a, (b', 'it''s')")
        );
        assert_eq!(said("(((n IS NULL) OR (d IS NOT NULL)))").as_deref(), Some("(\"n\" IS NULL OR \"d\" IS NOT NULL)"));
        for odd in ["((d > (0)::numeric))", "((length(n) > 1))", "((n > 0) IS TRUE)", "((n + 1) > 0)", "((n > d))"] {
            assert_eq!(said(odd), None, "{odd}");
        }
    }

    #[test]
    fn a14_defaults_of_postgres_are_translated_from_a_list_or_named() {
        let form = |form| Codec::Spelled { form };
        let d = |d: &str, c: &Codec| default(d, "TEXT", c);
        assert_eq!(d("'it''s'::text", &Codec::Same).as_deref(), Some("'it''s'"));
        assert_eq!(d("'x'::character varying(3)", &Codec::Same).as_deref(), Some("'x'"));
        assert_eq!(default("'-5'::integer", "INTEGER", &Codec::Same).as_deref(), Some("-5"));
        assert_eq!(d("'007'::text", &Codec::Same).as_deref(), Some("'007'"));
        assert_eq!(d("42", &Codec::Same).as_deref(), Some("42"));
        assert_eq!(d("1.50", &form(Form::Digits { scale: Some(2) })).as_deref(), Some("'1.50'"));
        assert_eq!(d("(0)::numeric", &form(Form::Digits { scale: None })).as_deref(), Some("'0'"));
        assert_eq!(d("true", &form(Form::Truth)).as_deref(), Some("1"));
        assert_eq!(d("now()", &form(Form::Moment { zone: false })).as_deref(), Some("CURRENT_TIMESTAMP"));
        assert_eq!(d("'now'::text", &form(Form::Day)), None);
        assert_eq!(d("'happy'::mood", &Codec::Same).as_deref(), Some("'happy'"));
        for odd in ["upper('x'::text)", "('a'::text || 'b'::text)", "random()", "CURRENT_USER", "ARRAY[1, 2]"] {
            assert_eq!(d(odd, &Codec::Same), None, "{odd}");
        }
    }
}
