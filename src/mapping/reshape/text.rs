//! SQLite: the CREATE TABLE of a table whose columns change. What is not touched stays word for word.

use std::collections::HashMap;

use crate::plan::Kind;
use crate::tokens::{Is, Token, tokens};

use super::words::{new_name, quote};
use super::{Changing, Fate};

/// New names of columns, by table and old name.
pub(super) type Renames = HashMap<String, HashMap<String, String>>;

/// A token, and how many brackets are open around it.
struct Piece<'t> {
    token: Token<'t>,
    depth: usize,
}

fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let mut depth = 0usize;
    tokens(sql, Kind::Sqlite)
        .map(|token| {
            if token.symbol(")") {
                depth = depth.saturating_sub(1);
            }
            let piece = Piece { token, depth };
            if token.symbol("(") {
                depth += 1;
            }
            piece
        })
        .collect()
}

/// Replacements of parts of a text.
#[derive(Default)]
struct Edits(Vec<(usize, usize, String)>);

impl Edits {
    fn put(&mut self, from: usize, to: usize, text: impl Into<String>) {
        self.0.push((from, to, text.into()));
    }

    /// The text from `from` to `to` with the replacements that lie in it.
    fn applied(&self, sql: &str, from: usize, to: usize) -> String {
        let mut within: Vec<_> = self.0.iter().filter(|e| e.0 >= from && e.1 <= to).collect();
        within.sort_by_key(|e| (e.0, e.1));
        let (mut out, mut at) = (String::new(), from);
        for (start, end, text) in within {
            out.push_str(&sql[at..*start]);
            out.push_str(text);
            at = *end;
        }
        out + &sql[at..to]
    }
}

/// Whether a token that stands where only a name can, in whatever quotes, is this one.
fn called(t: &Token<'_>, name: &str) -> bool {
    matches!(t.is, Is::Word | Is::Name | Is::Text) && t.name(Kind::Sqlite) == name.to_ascii_lowercase()
}

/// The CREATE TABLE as it will be; `None` if it cannot be told for sure.
pub(super) fn changed(sql: &str, t: &Changing, renames: &Renames) -> Option<String> {
    let all = pieces(sql);
    let open = all.iter().position(|p| p.depth == 0 && p.token.symbol("("))?;
    let close = (open + 1..all.len()).find(|&i| all[i].depth == 0 && all[i].token.symbol(")"))?;
    let mut items: Vec<(usize, usize)> = Vec::new();
    let mut first = open + 1;
    for (i, p) in all.iter().enumerate().take(close + 1).skip(open + 1) {
        if i == close || p.depth == 1 && p.token.symbol(",") {
            items.push((first, i));
            first = i + 1;
        }
    }
    let (mut edits, mut parts, mut columns) = (Edits::default(), Vec::new(), 0);
    for (at, &(from, to)) in items.iter().enumerate() {
        let item = &all[from..to];
        let head = &item.first()?.token;
        let is_column = !["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|k| head.word(k));
        let mut kept = true;
        if is_column {
            kept = column(head, item, t, &mut edits)?;
            columns = if kept { parts.len() + 1 } else { columns };
        }
        names_within(&item[usize::from(is_column)..], t, renames, &mut edits)?;
        // with the blanks and comments up to the commas around it
        let begin = if at == 0 { all[open].token.end() } else { all[items[at - 1].1].token.end() };
        if kept {
            parts.push(edits.applied(sql, begin, all[to].token.start));
        }
    }
    for c in t.added.iter().rev() {
        let default = c.default.as_ref().map_or(String::new(), |d| format!(" DEFAULT {}", default(d)));
        let not_null = if c.not_null { " NOT NULL" } else { "" };
        parts.insert(columns, format!(" {} {}{not_null}{default}", quote(&c.name), c.ty));
    }
    Some(format!("{}{}{}", &sql[..all[open].token.end()], parts.join(","), &sql[all[close].token.start..]))
}

/// What becomes of a column's definition; whether it stays.
fn column(head: &Token<'_>, item: &[Piece<'_>], t: &Changing, edits: &mut Edits) -> Option<bool> {
    if let Some(g) = t.table.generated.iter().position(|g| called(head, &g.name)) {
        match &t.generated[g] {
            None => return Some(false),
            Some(name) if *name != t.table.generated[g].name => edits.put(head.start, head.end(), quote(name)),
            Some(_) => {}
        }
        return Some(true);
    }
    let i = t.table.columns.iter().position(|c| called(head, &c.name))?;
    let (was, fate): (_, &Fate) = (&t.table.columns[i], &t.fates[i]);
    if fate.dropped {
        return Some(false);
    }
    let now = &fate.column;
    if now.name != was.name {
        edits.put(head.start, head.end(), quote(&now.name));
    }
    let word = |i: usize, w: &str| item.get(i).is_some_and(|p| p.depth == 1 && p.token.word(w));
    let starts = |i: usize| {
        [
            "CONSTRAINT",
            "PRIMARY",
            "UNIQUE",
            "CHECK",
            "COLLATE",
            "REFERENCES",
            "GENERATED",
            "NOT",
            "DEFAULT",
            "AS",
            "NULL",
        ]
        .iter()
        .any(|w| word(i, w))
    };
    let first = (1..item.len()).find(|&i| starts(i)).unwrap_or(item.len());
    let typed = item[first - 1].token.end();
    if now.ty != was.ty {
        edits.put(head.end(), typed, format!(" {}", now.ty));
    }
    if now.identity != was.identity && item.iter().any(|p| p.depth == 1 && p.token.word("DESC")) {
        // such a key is no alias of the rowid
        return None;
    }
    // the rowid's alias says it without the words
    if now.not_null != was.not_null && now.identity == was.identity {
        let at = (first..item.len()).find(|&i| word(i, "NOT") && word(i + 1, "NULL"));
        match (now.not_null, at) {
            (true, None) => edits.put(typed, typed, " NOT NULL"),
            (false, Some(at)) if !word(at.wrapping_sub(2), "CONSTRAINT") && !word(at + 2, "ON") => {
                edits.put(item[at - 1].token.end(), item[at + 1].token.end(), "");
            }
            _ => return None,
        }
    }
    if now.default != was.default {
        let at = (first..item.len()).find(|&i| word(i, "DEFAULT") && !word(i - 1, "SET"));
        let new = now.default.as_ref().map_or(String::new(), |d| format!(" DEFAULT {}", default(d)));
        match at {
            Some(at) => {
                let end = (at + 2..item.len()).find(|&i| starts(i));
                if word(at.wrapping_sub(2), "CONSTRAINT") {
                    return None;
                }
                edits.put(item[at - 1].token.end(), item[end.unwrap_or(item.len()) - 1].token.end(), new);
            }
            None => edits.put(typed, typed, new),
        }
    }
    Some(true)
}

/// What brackets hold, by the word before them.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    /// Nothing that names a column.
    Nothing,
    /// An expression of the table's own columns.
    Expression,
    /// A list of its own columns.
    Own,
    /// A list of the columns of this token's table.
    Other(usize),
}

/// New names in what follows a column's name, or in a constraint.
fn names_within(item: &[Piece<'_>], t: &Changing, renames: &Renames, edits: &mut Edits) -> Option<()> {
    let mut within = Within::Nothing;
    let none = HashMap::new();
    let own = renames.get(&t.table.name).unwrap_or(&none);
    let flat: Vec<Token<'_>> = item.iter().map(|p| p.token).collect();
    for (i, p) in item.iter().enumerate() {
        if p.depth == 1 {
            within = match () {
                () if p.token.word("CHECK") || p.token.word("AS") => Within::Expression,
                () if p.token.word("PRIMARY") || p.token.word("UNIQUE") || p.token.word("FOREIGN") => Within::Own,
                () if p.token.word("REFERENCES") => Within::Other(i + 1),
                () if p.token.symbol(")") || p.token.word("DEFAULT") || p.token.word("COLLATE") => Within::Nothing,
                () => within,
            };
            continue;
        }
        let new = match within {
            Within::Nothing => None,
            Within::Expression => new_name(&flat, i, own, Kind::Sqlite)?,
            Within::Own | Within::Other(_) => {
                let first = item[i - 1].token.symbol("(") || item[i - 1].token.symbol(",");
                let map = match within {
                    Within::Other(parent) => {
                        let parent = &item.get(parent)?.token;
                        renames.iter().find(|(table, _)| called(parent, table)).map_or(&none, |(_, m)| m)
                    }
                    _ => own,
                };
                map.iter().find(|(old, _)| first && p.depth == 2 && called(&p.token, old)).map(|(_, n)| n.clone())
            }
        };
        if let Some(new) = new {
            edits.put(p.token.start, p.token.end(), quote(&new));
        }
    }
    Some(())
}

/// A default as a column's definition takes it.
fn default(sql: &str) -> String {
    let all: Vec<Token<'_>> = tokens(sql, Kind::Sqlite).collect();
    match all.as_slice() {
        [one] if one.is != Is::Name => sql.to_owned(),
        [first, .., last] if first.symbol("(") && last.symbol(")") && closes_last(&pieces(sql)) => sql.to_owned(),
        _ => format!("({sql})"),
    }
}

/// The first bracket is closed by the last one.
fn closes_last(all: &[Piece<'_>]) -> bool {
    all.iter().skip(1).position(|p| p.depth == 0).is_some_and(|at| at + 2 == all.len())
}
