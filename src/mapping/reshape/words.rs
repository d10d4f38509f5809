//! Texts of definitions that name columns: whether they speak of one, and the same under a new name.

use std::collections::HashMap;

use crate::plan::Kind;
use crate::tokens::{Is, Token, tokens};

use super::super::transfer::Refusal;

/// Whether the token, taken as a name, is this one.
pub(super) fn names(t: &Token<'_>, name: &str, kind: Kind) -> bool {
    match (t.is, kind) {
        (Is::Word, Kind::Postgres) => t.text == name,
        (Is::Name, Kind::Postgres) => t.name(kind) == name,
        (Is::Word | Is::Name, _) => t.name(kind) == name.to_ascii_lowercase(),
        _ => false,
    }
}

/// Whether a text may speak of a column: where it is not sure, it does.
pub(super) fn mentions(text: &str, name: &str, kind: Kind) -> bool {
    tokens(text, kind).any(|t| names(&t, name, kind))
}

/// Words of SQLite's expressions that a column may be called without quotes.
const DOUBLE: [&str; 8] = ["CAST", "LIKE", "GLOB", "MATCH", "REGEXP", "END", "DESC", "ASC"];

/// What a word may be that names a column.
enum Part {
    /// The column.
    Column,
    /// Something else of that name: a type, a function, a collation.
    Other,
    /// It cannot be told.
    Unsure,
}

fn part(all: &[Token<'_>], i: usize, kind: Kind) -> Part {
    let (t, before, after) = (&all[i], i.checked_sub(1).and_then(|b| all.get(b)), all.get(i + 1));
    let follows = |word: &str| before.is_some_and(|b| b.word(word));
    let is_before = |sign: &str| before.is_some_and(|b| b.symbol(sign));
    let is_after = |sign: &str| after.is_some_and(|a| a.symbol(sign));
    if follows("COLLATE") || follows("CONSTRAINT") || follows("TABLESPACE") || follows("USING") {
        return Part::Other;
    }
    if is_after("(") || is_before(".") || in_type(all, i) {
        return Part::Other;
    }
    // CAST(a AS type); in PostgreSQL's words it is a name that is given
    if follows("AS") {
        return if kind == Kind::Postgres { Part::Unsure } else { Part::Other };
    }
    if is_after(".") {
        return Part::Unsure;
    }
    if kind != Kind::Postgres {
        let double = t.is == Is::Word && DOUBLE.iter().any(|w| t.word(w));
        return if double { Part::Unsure } else { Part::Column };
    }
    // EXTRACT(year FROM created)
    if after.is_some_and(|a| a.word("FROM")) && i >= 2 && all[i - 2].word("EXTRACT") {
        return Part::Other;
    }
    // an operator class stands behind what it is for; PostgreSQL prints its own words in capitals
    match before {
        Some(b) if b.symbol(")") || b.is == Is::Name => Part::Other,
        Some(b) if b.is == Is::Word && b.text.chars().any(char::is_lowercase) => Part::Other,
        // a slice of an array
        Some(b) if b.symbol(":") => Part::Unsure,
        _ => Part::Column,
    }
}

/// Whether it is part of a type's name after `::`.
fn in_type(all: &[Token<'_>], i: usize) -> bool {
    let mut at = i;
    while at >= 2 {
        let b = &all[at - 1];
        if b.symbol(":") && all[at - 2].symbol(":") {
            return true;
        }
        let goes_on = b.symbol(".") || matches!(b.is, Is::Word | Is::Name) && !b.text.chars().any(char::is_uppercase);
        if !goes_on {
            return false;
        }
        at -= 1;
    }
    false
}

/// The new name of the column that token `i` speaks of, if it does; `None` if that cannot be told.
#[allow(clippy::option_option)]
pub(super) fn new_name(
    all: &[Token<'_>],
    i: usize,
    new: &HashMap<String, String>,
    kind: Kind,
) -> Option<Option<String>> {
    let Some((_, to)) = new.iter().find(|(old, _)| names(&all[i], old, kind)) else { return Some(None) };
    match part(all, i, kind) {
        Part::Other => Some(None),
        Part::Unsure => None,
        Part::Column => Some(Some(to.clone())),
    }
}

/// An expression of the table's own columns, under their new names; `None` if it cannot be told.
pub(super) fn renamed(text: &str, new: &HashMap<String, String>, kind: Kind) -> Option<String> {
    let all: Vec<Token<'_>> = tokens(text, kind).collect();
    let (mut out, mut from) = (String::new(), 0);
    for (i, t) in all.iter().enumerate() {
        if let Some(to) = new_name(&all, i, new, kind)? {
            out.push_str(&text[from..t.start]);
            out.push_str(&quote(&to));
            from = t.end();
        }
    }
    out.push_str(&text[from..]);
    Some(out)
}

/// What an index's definition says of columns: SQLite's is the whole CREATE INDEX.
pub(super) fn indexed(definition: &str, kind: Kind) -> &str {
    if kind == Kind::Postgres {
        return definition;
    }
    let on = tokens(definition, kind).skip_while(|t| !t.word("ON"));
    let open = on.skip(1).find(|t| t.symbol("("));
    open.map_or(definition, |t| &definition[t.start..])
}

/// An index's definition under the new names of its columns.
pub(super) fn renamed_definition(text: &str, new: &HashMap<String, String>, kind: Kind) -> Option<String> {
    if kind == Kind::Postgres {
        return renamed(text, new, kind);
    }
    let rest = indexed(text, kind);
    let head = &text[..text.len() - rest.len()];
    // directions are no names here
    let rest_all: Vec<Token<'_>> = tokens(rest, kind).collect();
    if rest_all.iter().any(|t| new.keys().any(|old| names(t, old, kind)) && (t.word("ASC") || t.word("DESC"))) {
        return None;
    }
    Some(head.to_owned() + &renamed(rest, new, kind)?)
}

/// An index's definition up to its condition, and the condition; without what is only a comment at their ends.
pub(super) fn condition(definition: &str, kind: Kind) -> (&str, Option<&str>) {
    let from = definition.len() - indexed(definition, kind).len();
    let (mut depth, mut end, mut found) = (0usize, from, None);
    for t in tokens(&definition[from..], kind) {
        match t.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && found.is_none() && t.word("WHERE") => found = Some((end, from + t.end())),
            _ => {}
        }
        end = from + t.end();
    }
    match found {
        Some((head, begin)) => (&definition[..head], Some(definition[begin..end].trim())),
        None => (&definition[..end], None),
    }
}

/// Whether an index's definition gives this column an operator class or a collation.
pub(super) fn has_class(definition: &str, column: &str) -> bool {
    let all: Vec<Token<'_>> = tokens(definition, Kind::Postgres).collect();
    all.windows(2).any(|w| {
        let next = w[1].is == Is::Name || w[1].is == Is::Word && !["ASC", "DESC", "NULLS"].iter().any(|k| w[1].word(k));
        names(&w[0], column, Kind::Postgres) && next
    })
}

/// Whether a part of an index that is no column may speak of this one, given the index's definition. Where it is not sure, it does.
pub(super) fn in_expression(definition: &str, column: &str, kind: Kind) -> bool {
    let (head, _) = condition(definition, kind);
    let all: Vec<Token<'_>> = tokens(indexed(head, kind), kind).collect();
    let Some(open) = all.iter().position(|t| t.symbol("(")) else { return true };
    let (mut depth, mut first) = (0usize, open + 1);
    for (i, t) in all.iter().enumerate().skip(open + 1) {
        let ends = depth == 0 && (t.symbol(",") || t.symbol(")"));
        if ends {
            let part = &all[first..i];
            let plain = part.iter().all(|t| matches!(t.is, Is::Word | Is::Name))
                && part.first().is_some_and(|t| names(t, column, kind) || !part.iter().any(|t| names(t, column, kind)));
            if !plain && part.iter().any(|t| names(t, column, kind)) {
                return true;
            }
            first = i + 1;
        }
        match t.text {
            ")" if ends => return false,
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
    }
    true
}

/// An expression without the brackets around all of it.
pub(super) fn bare(text: &str, kind: Kind) -> &str {
    let all: Vec<Token<'_>> = tokens(text, kind).collect();
    let (mut from, mut to, mut depth) = (0, all.len(), 0usize);
    // how deep each token stands; a pair of brackets as deep as itself
    let depths: Vec<usize> = all
        .iter()
        .map(|t| {
            depth -= usize::from(t.symbol(")") && depth > 0);
            depth += usize::from(t.symbol("("));
            depth - usize::from(t.symbol("("))
        })
        .collect();
    while from + 1 < to && all[from].symbol("(") && all[to - 1].symbol(")") {
        // closed before the end, it is not around all
        if depths[from + 1..to - 1].iter().any(|d| *d <= depths[from]) {
            break;
        }
        (from, to) = (from + 1, to - 1);
    }
    match all.get(from..to) {
        Some([first, .., last]) => &text[first.start..last.end()],
        Some([one]) => &text[one.start..one.end()],
        _ => text,
    }
}

/// That a definition cannot be told for another table.
pub(super) fn unsure(what: &str, table: &str, other: &str) -> Refusal {
    Refusal {
        cause: format!("{what} of {table} cannot be told for {other}"),
        hint: "drop it first, in a SQL revision; it comes back on a rollback".into(),
    }
}

/// A name in SQL.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to(old: &str, new: &str) -> HashMap<String, String> {
        [(old.to_owned(), new.to_owned())].into()
    }

    #[test]
    fn a_condition_is_all_behind_its_where() {
        let c = |d, kind| condition(d, kind);
        let sqlite = "CREATE INDEX \"where\" ON t (a, (b WHERE c)) /* WHERE */\nwhere a = 1 OR b = ')' -- why\n";
        let head = "CREATE INDEX \"where\" ON t (a, (b WHERE c))";
        assert_eq!(c(sqlite, Kind::Sqlite), (head, Some("a = 1 OR b = ')'")));
        assert_eq!(c("CREATE INDEX i ON t(a) -- why", Kind::Sqlite), ("CREATE INDEX i ON t(a)", None));
        assert_eq!(c("USING btree (a) WHERE (a > 1)", Kind::Postgres), ("USING btree (a)", Some("(a > 1)")));
    }

    #[test]
    fn only_brackets_around_all_of_it_go() {
        for (text, wanted) in [
            (" ((a) OR (b)) ", "(a) OR (b)"),
            ("(a) OR (b)", "(a) OR (b)"),
            ("(((a))) -- (", "a"),
            ("(a = ')')", "a = ')'"),
            ("((a OR b) AND c)", "(a OR b) AND c"),
            ("()", "()"),
            ("", ""),
        ] {
            assert_eq!(bare(text, Kind::Sqlite), wanted);
        }
    }

    #[test]
    fn what_is_no_column_keeps_its_name() {
        for (kind, text, wanted) in [
            (Kind::Postgres, "(a > 'a'::a) AND a(a) = a.a", None),
            (Kind::Postgres, "(a > 'a'::a) AND a(a)", Some("(\"b\" > 'a'::a) AND a(\"b\")")),
            (Kind::Postgres, "A = \"a\" COLLATE a", Some("A = \"b\" COLLATE a")),
            (Kind::Postgres, "a[1:a]", None),
            (
                Kind::Postgres,
                "USING btree (a a, lower(a) a DESC) INCLUDE (a)",
                Some("USING btree (\"b\" a, lower(\"b\") a DESC) INCLUDE (\"b\")"),
            ),
            (
                Kind::Sqlite,
                "A > 'a' AND [a] <> `A` OR a(\"a\") /* a */",
                Some("\"b\" > 'a' AND \"b\" <> \"b\" OR a(\"b\") /* a */"),
            ),
            (Kind::Sqlite, "CAST(a AS a)", Some("CAST(\"b\" AS a)")),
        ] {
            assert_eq!(renamed(text, &to("a", "b"), kind).as_deref(), wanted, "{text}");
        }
        assert_eq!(renamed("x match end", &to("end", "b"), Kind::Sqlite), None);
        let index = "CREATE INDEX a ON a (a, a COLLATE a DESC) WHERE a";
        let wanted = "CREATE INDEX a ON a (\"b\", \"b\" COLLATE a DESC) WHERE \"b\"";
        assert_eq!(renamed_definition(index, &to("a", "b"), Kind::Sqlite).as_deref(), Some(wanted));
        assert!(has_class("USING btree (a text_pattern_ops)", "a") && !has_class("USING btree (a DESC, c)", "a"));
    }

    proptest! {
        /// There and back is what it was, but for quotes; and who is not spoken of is not touched.
        #[test]
        fn a_new_name_has_a_way_back(
            parts in proptest::collection::vec(
                prop::sample::select(vec!["a", "\"a\"", "'a'", "c", "(", ")", "=", "AND", "::a", "lower(", "::text", ",", "1", "COLLATE a"]), 0..12),
            postgres in any::<bool>(),
        ) {
            let kind = if postgres { Kind::Postgres } else { Kind::Sqlite };
            let text = parts.join(" ");
            let same = |t: &str| t.replace('"', "");
            if let Some(there) = renamed(&text, &to("a", "zz"), kind) {
                let back = renamed(&there, &to("zz", "a"), kind);
                prop_assert_eq!(back.as_deref().map(same), Some(same(&text)), "{}", there);
            }
            prop_assert_eq!(renamed(&text, &to("q", "zz"), kind), Some(text.clone()));
            prop_assert_eq!(mentions(&text, "q", kind), false);
        }
    }
}
