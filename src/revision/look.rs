//! A statement as lint looks at it: which table it is about, and what it does to it.

use super::sql::{Is, Token};
use crate::plan::Kind;

/// Whether two names, qualified or not, may mean the same.
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b || a.ends_with(&format!(".{b}")) || b.ends_with(&format!(".{a}"))
}

/// A statement, or a part of one, to be looked at.
pub(super) struct Look<'t> {
    pub kind: Kind,
    pub tokens: Vec<Token<'t>>,
}

/// A part of ALTER TABLE, up to its comma.
pub(super) struct Action<'t> {
    pub table: String,
    pub tokens: Vec<Token<'t>>,
}

/// What an action does to a table.
pub(super) enum Alteration<'t> {
    Add { column: String, not_null: bool, default: Option<Vec<Token<'t>>>, computed: bool },
    Constraint,
    DropColumn(String),
    NotNull(String),
    Type(String),
    Default(String),
    RenameTable(String),
    RenameColumn { from: String, to: String },
    Other,
}

impl<'t> Look<'t> {
    /// The keyword at a place, in capitals; empty where there is none.
    pub fn word(&self, i: usize) -> String {
        self.tokens.get(i).filter(|t| t.is == Is::Word).map_or(String::new(), |t| t.text.to_ascii_uppercase())
    }

    pub fn is(&self, i: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| self.tokens.get(i + n).is_some_and(|t| t.word(word)))
    }

    pub fn symbol(&self, i: usize, symbol: &str) -> bool {
        self.tokens.get(i).is_some_and(|t| t.symbol(symbol))
    }

    pub fn has(&self, word: &str) -> bool {
        self.tokens.iter().any(|t| t.word(word))
    }

    /// Where a row of keywords begins, outside all brackets, from `from` on.
    pub fn position(&self, from: usize, words: &[&str]) -> Option<usize> {
        let mut depth = 0;
        for i in from..self.tokens.len() {
            if self.symbol(i, "(") {
                depth += 1;
            } else if self.symbol(i, ")") {
                depth -= 1;
                if depth < 0 {
                    return None;
                }
            } else if depth == 0 && self.is(i, words) {
                return Some(i);
            }
        }
        None
    }

    /// The place after keywords that may stand here, each at most once.
    pub fn skip(&self, mut i: usize, words: &[&str]) -> usize {
        for word in words {
            if self.is(i, &[word]) {
                i += 1;
            }
        }
        i
    }

    /// A name, qualified or not, and the place after it.
    pub fn name(&self, i: usize) -> Option<(String, usize)> {
        let mut name = self.tokens.get(i).filter(|t| t.is_name(self.kind))?.name(self.kind);
        let mut i = i + 1;
        while self.symbol(i, ".")
            && let Some(next) = self.tokens.get(i + 1).filter(|t| t.is_name(self.kind))
        {
            name = format!("{name}.{}", next.name(self.kind));
            i += 2;
        }
        Some((name, i))
    }

    /// Names with commas between them.
    pub fn names(&self, mut i: usize) -> Vec<String> {
        let mut names = Vec::new();
        while let Some((name, next)) = self.name(i) {
            names.push(name);
            i = if self.symbol(next, "*") { next + 1 } else { next };
            if !self.symbol(i, ",") {
                break;
            }
            i = self.skip(i + 1, &["ONLY"]);
        }
        names
    }

    /// The table that is made.
    pub fn created(&self) -> Option<String> {
        if !self.is(0, &["CREATE"]) {
            return None;
        }
        let i = self.skip(1, &["GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED", "FOREIGN", "MATERIALIZED"]);
        if !self.is(i, &["TABLE"]) && !self.is(i - 1, &["MATERIALIZED", "VIEW"]) {
            return None;
        }
        Some(self.name(self.skip(i + 1, &["IF", "NOT", "EXISTS"]))?.0)
    }

    /// INSERT INTO … SELECT and CREATE TABLE … AS SELECT: where to, and where from.
    pub fn copies(&self) -> Option<(String, Vec<String>)> {
        let into = match self.created() {
            Some(table) => table,
            None if self.is(0, &["INSERT"]) => {
                let into = self.tokens.iter().position(|t| t.word("INTO"))?;
                self.name(into + 1)?.0
            }
            None => return None,
        };
        let select = self.tokens.iter().position(|t| t.word("SELECT"))?;
        let from = (select..self.tokens.len()).filter(|i| self.is(*i, &["FROM"]) || self.is(*i, &["JOIN"]));
        Some((into, from.filter_map(|i| Some(self.name(self.skip(i + 1, &["ONLY"]))?.0)).collect()))
    }

    /// The parts of an ALTER TABLE.
    pub fn actions(&self) -> Vec<Action<'t>> {
        if !self.is(0, &["ALTER", "TABLE"]) {
            return Vec::new();
        }
        let Some((table, next)) = self.name(self.skip(2, &["IF", "EXISTS", "ONLY"])) else { return Vec::new() };
        let (mut parts, mut depth) = (vec![Vec::new()], 0);
        for token in &self.tokens[if self.symbol(next, "*") { next + 1 } else { next }..] {
            depth += i32::from(token.symbol("(")) - i32::from(token.symbol(")"));
            if depth == 0 && token.symbol(",") {
                parts.push(Vec::new());
            } else if let Some(part) = parts.last_mut() {
                part.push(*token);
            }
        }
        parts.into_iter().map(|tokens| Action { table: table.clone(), tokens }).collect()
    }

    /// What an action does.
    pub fn alteration(&self) -> Alteration<'t> {
        let column = |i: usize| self.name(i).map(|(name, _)| name).unwrap_or_default();
        match self.word(0).as_str() {
            "ADD" => {
                let constraint = ["CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE", "NOT"];
                if constraint.contains(&self.word(1).as_str()) {
                    return Alteration::Constraint;
                }
                let i = self.skip(1, &["COLUMN", "IF", "NOT", "EXISTS"]);
                let default = self.position(i, &["DEFAULT"]).map(|at| self.default(at + 1));
                let null = default.as_ref().is_some_and(|d| matches!(d[..], [only] if only.word("NULL")));
                Alteration::Add {
                    column: column(i),
                    not_null: self.position(i, &["NOT", "NULL"]).is_some()
                        || self.position(i, &["PRIMARY", "KEY"]).is_some(),
                    default: default.filter(|_| !null),
                    computed: self.position(i + 1, &["GENERATED"]).is_some() || self.position(i + 1, &["AS"]).is_some(),
                }
            }
            "DROP" if self.word(1) != "CONSTRAINT" => {
                Alteration::DropColumn(column(self.skip(1, &["COLUMN", "IF", "EXISTS"])))
            }
            "ALTER" if self.word(1) != "CONSTRAINT" => {
                let i = self.skip(1, &["COLUMN"]);
                match self.word(i + 1).as_str() {
                    "TYPE" => Alteration::Type(column(i)),
                    "SET" if self.is(i + 2, &["DATA", "TYPE"]) => Alteration::Type(column(i)),
                    "SET" if self.is(i + 2, &["NOT", "NULL"]) => Alteration::NotNull(column(i)),
                    "SET" if self.is(i + 2, &["DEFAULT"]) => Alteration::Default(column(i)),
                    _ => Alteration::Other,
                }
            }
            "RENAME" if self.word(1) == "TO" => Alteration::RenameTable(column(2)),
            "RENAME" if self.word(1) != "CONSTRAINT" => {
                let i = self.skip(1, &["COLUMN"]);
                Alteration::RenameColumn { from: column(i), to: column(i + 2) }
            }
            _ => Alteration::Other,
        }
    }

    /// The expression that begins at a place within a column's definition.
    fn default(&self, from: usize) -> Vec<Token<'t>> {
        let ends = ["NOT", "CHECK", "UNIQUE", "PRIMARY", "REFERENCES", "CONSTRAINT", "GENERATED", "COLLATE"];
        let mut depth = 0;
        let mut found = Vec::new();
        for i in from..self.tokens.len() {
            depth += i32::from(self.symbol(i, "(")) - i32::from(self.symbol(i, ")"));
            if depth == 0 && i > from && (ends.contains(&self.word(i).as_str()) || self.is(i, &["NULL"])) {
                break;
            }
            found.push(self.tokens[i]);
        }
        found
    }
}
