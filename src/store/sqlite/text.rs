//! Reading SQL text as far as it is needed: what SQLite's pragmas do not tell is cut out of the CREATE statements.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bare word: keyword, name or number.
    Word,
    /// A name in double quotes, backticks or brackets.
    Name,
    /// A string in single quotes.
    Text,
    /// Anything else, one character.
    Sign,
}

/// A token, and how many brackets are open around it.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
    /// Where it starts.
    pub start: usize,
    /// Brackets around it (a bracket itself is outside of its own pair).
    pub depth: usize,
}

impl Token<'_> {
    /// Is it this keyword?
    pub fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Is it this sign?
    pub fn sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    /// The name it stands for, without its quotes.
    pub fn name(&self) -> String {
        let inner = || self.text.get(1..self.text.len().saturating_sub(1)).unwrap_or_default();
        match (self.kind, self.text.chars().next()) {
            (Kind::Name, Some('[')) => inner().to_owned(),
            (Kind::Name, Some('`')) => inner().replace("``", "`"),
            (Kind::Name, _) => inner().replace("\"\"", "\""),
            (Kind::Text, _) => inner().replace("''", "'"),
            _ => self.text.to_owned(),
        }
    }
}

/// All tokens; blanks and comments are left out.
pub fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    let (mut out, mut at, mut depth) = (Vec::new(), 0, 0usize);
    while at < bytes.len() {
        let start = at;
        let kind = match bytes[at] {
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = sql[at..].find('\n').map_or(bytes.len(), |n| at + n + 1);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = sql[at + 2..].find("*/").map_or(bytes.len(), |n| at + 2 + n + 2);
                continue;
            }
            b'[' => {
                at = sql[at..].find(']').map_or(bytes.len(), |n| at + n + 1);
                Kind::Name
            }
            quote @ (b'"' | b'`' | b'\'') => {
                at += 1;
                while at < bytes.len() {
                    if bytes[at] != quote {
                        at += 1;
                    } else if bytes.get(at + 1) == Some(&quote) {
                        at += 2;
                    } else {
                        break;
                    }
                }
                at = (at + 1).min(bytes.len());
                if quote == b'\'' { Kind::Text } else { Kind::Name }
            }
            b if word(b) => {
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
                Kind::Word
            }
            b => {
                at += 1;
                if b == b')' {
                    depth = depth.saturating_sub(1);
                }
                Kind::Sign
            }
        };
        out.push(Token { kind, text: &sql[start..at], start, depth });
        if bytes[start] == b'(' {
            depth += 1;
        }
    }
    out
}

/// The text within the brackets that open at token `open`, and the index of the closing one.
fn inside<'a>(sql: &'a str, all: &[Token<'_>], open: usize) -> Option<(&'a str, usize)> {
    let close = (open + 1..all.len()).find(|&i| all[i].depth == all[open].depth && all[i].sign(")"))?;
    Some((sql.get(all[open].start + 1..all[close].start)?.trim(), close))
}

/// What the text of a CREATE TABLE tells beyond the pragmas.
#[derive(Debug, Default)]
pub struct TableText {
    /// AUTOINCREMENT is said.
    pub autoincrement: bool,
    /// Expressions of CHECK constraints.
    pub checks: Vec<String>,
    /// Per column name (lower case): collation, expression of a generated column.
    pub columns: Vec<(String, Option<String>, Option<String>)>,
    /// Foreign keys in the order of the text: constraint name, initially deferred.
    pub foreign: Vec<(Option<String>, bool)>,
}

/// Reads a CREATE TABLE.
pub fn table(sql: &str) -> TableText {
    let all = tokens(sql);
    let mut out = TableText::default();
    let Some(open) = all.iter().position(|t| t.sign("(")) else { return out };
    let Some((_, close)) = inside(sql, &all, open) else { return out };
    let (mut first, mut column, mut constraint) = (true, false, None);
    let mut i = open + 1;
    while i < close {
        let t = &all[i];
        if t.depth == 1 {
            if first {
                let is_constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|k| t.is(k));
                column = !is_constraint;
                if column {
                    out.columns.push((t.name().to_lowercase(), None, None));
                    constraint = None;
                    first = false;
                    i += 1;
                    continue;
                }
                first = false;
            }
            let next_opens = all.get(i + 1).is_some_and(|n| n.sign("("));
            if t.sign(",") {
                first = true;
                constraint = None;
            } else if t.is("AUTOINCREMENT") {
                out.autoincrement = true;
            } else if t.is("CONSTRAINT") {
                constraint = all.get(i + 1).map(Token::name);
                i += 1;
            } else if t.is("CHECK") && next_opens {
                if let Some((text, _)) = inside(sql, &all, i + 1) {
                    out.checks.push(text.to_owned());
                }
                constraint = None;
            } else if t.is("COLLATE") && column {
                if let (Some(c), Some(name)) = (out.columns.last_mut(), all.get(i + 1)) {
                    c.1 = Some(name.name());
                }
                i += 1;
            } else if t.is("AS") && next_opens && column {
                if let (Some(c), Some((text, _))) = (out.columns.last_mut(), inside(sql, &all, i + 1)) {
                    c.2 = Some(text.to_owned());
                }
            } else if t.is("REFERENCES") {
                out.foreign.push((constraint.take(), false));
            } else if t.is("DEFERRED")
                && all[i - 1].is("INITIALLY")
                && let Some(f) = out.foreign.last_mut()
            {
                f.1 = !(i >= 4 && all[i - 3].is("NOT") && all[i - 2].is("DEFERRABLE"));
            }
        }
        i += 1;
    }
    out
}

/// The WHERE clause of a CREATE INDEX.
pub fn predicate(sql: &str) -> Option<String> {
    let all = tokens(sql);
    let at = all.iter().find(|t| t.depth == 0 && t.is("WHERE"))?;
    Some(sql.get(at.start + 5..)?.trim().to_owned())
}

/// A CREATE INDEX under this name, on this table; word for word if they are its own.
pub fn index_renamed(sql: &str, name: &str, table: &str) -> Option<String> {
    let all = tokens(sql);
    let on = all.iter().position(|t| t.depth == 0 && t.is("ON"))?;
    let own = (all.get(on.checked_sub(1)?)?, all.get(on + 1)?);
    let was = own.1.name();
    if own.0.name() == name && was.eq_ignore_ascii_case(table) {
        return Some(sql.to_owned());
    }
    let open = all.iter().skip(on + 2).position(|t| t.sign("("))? + on + 2;
    let unique = if all.get(1)?.is("UNIQUE") { "UNIQUE " } else { "" };
    let rest = replaced(sql, &all, all[open].start, |i| qualifies(&all, i, &was).then_some(table));
    Some(format!("CREATE {unique}INDEX {} ON {} {rest}", quote(name), quote(table)))
}

/// A CREATE TABLE for a table of this name, its foreign keys referring to these tables, in the order of the text.
pub fn renamed(sql: &str, name: &str, parents: &[&str]) -> String {
    let all = tokens(sql);
    let own = all.iter().position(|t| t.depth == 0 && t.sign("(")).map(|open| open.saturating_sub(1));
    let was = own.map(|own| all[own].name()).unwrap_or_default();
    let mut parents = parents.iter();
    replaced(sql, &all, 0, |i| match i {
        _ if Some(i) == own => Some(name),
        1.. if all[i - 1].is("REFERENCES") => parents.next().copied(),
        _ => qualifies(&all, i, &was).then_some(name),
    })
}

/// An expression over columns of a table that is called so now.
pub fn requalified(expression: &str, was: &str, name: &str) -> String {
    let all = tokens(expression);
    replaced(expression, &all, 0, |i| qualifies(&all, i, was).then_some(name))
}

/// The tables that the foreign keys of a CREATE TABLE refer to, in the order of the text.
pub fn parents(sql: &str) -> Vec<String> {
    let all = tokens(sql);
    all.windows(2).filter(|w| w[0].is("REFERENCES")).map(|w| w[1].name()).collect()
}

/// Token `i` says of which table the column after it is: a CHECK may say `t.a` of its own table.
fn qualifies(all: &[Token<'_>], i: usize, table: &str) -> bool {
    matches!(all[i].kind, Kind::Word | Kind::Name)
        && all.get(i + 1).is_some_and(|n| n.sign("."))
        && all[i].name().eq_ignore_ascii_case(table)
}

/// The text from byte `from` on, with the names that `by` gives in the place of tokens.
fn replaced<'n>(sql: &str, all: &[Token<'_>], start: usize, mut by: impl FnMut(usize) -> Option<&'n str>) -> String {
    let (mut out, mut from) = (String::with_capacity(sql.len()), start);
    for (i, t) in all.iter().enumerate().filter(|(_, t)| t.start >= start) {
        if let Some(to) = by(i).filter(|to| !to.eq_ignore_ascii_case(&t.name())) {
            out.push_str(&sql[from..t.start]);
            out.push_str(&quote(to));
            from = t.start + t.text.len();
        }
    }
    out.push_str(&sql[from..]);
    out
}

/// The columns and expressions of a CREATE INDEX, without collation and direction.
pub fn indexed_parts(sql: &str) -> Vec<String> {
    let all = tokens(sql);
    let on = all.iter().position(|t| t.depth == 0 && t.is("ON")).unwrap_or(all.len());
    let Some(open) = (on..all.len()).find(|&i| all[i].depth == 0 && all[i].sign("(")) else { return Vec::new() };
    let Some((_, close)) = inside(sql, &all, open) else { return Vec::new() };
    let (mut out, mut first) = (Vec::new(), open + 1);
    for i in open + 1..=close {
        if i == close || all[i].depth == 1 && all[i].sign(",") {
            let mut end = i;
            while end > first && (all[end - 1].is("ASC") || all[end - 1].is("DESC")) {
                end -= 1;
            }
            if end > first + 2 && all[end - 2].depth == 1 && all[end - 2].is("COLLATE") {
                end -= 2;
            }
            let stop = all.get(end).map_or(sql.len(), |t| t.start);
            out.push(sql.get(all[first].start..stop).unwrap_or_default().trim().to_owned());
            first = i + 1;
        }
    }
    out
}

/// Tables that the statements of a trigger write, in lower case; `None` when it cannot be told, or when the trigger can
/// stop or skip the statement that fired it.
pub fn written(sql: &str) -> Option<Vec<String>> {
    let all = tokens(sql);
    let mut out = Vec::new();
    let at = |i: usize| all.get(i);
    for (i, t) in all.iter().enumerate() {
        let header = |j: usize| at(j).is_some_and(|n| n.is("OF") || n.is("ON"));
        // INSERT OR IGNORE INTO t, UPDATE OR ABORT t
        let after_or = if at(i + 1).is_some_and(|n| n.is("OR")) { i + 3 } else { i + 1 };
        let name_at = if t.is("RAISE") {
            return None;
        } else if t.is("INSERT") || t.is("REPLACE") {
            let called = at(i + 1).is_some_and(|n| n.sign("(")) || at(i.wrapping_sub(1)).is_some_and(|p| p.is("OR"));
            if header(i + 1) || (t.is("REPLACE") && called) {
                continue;
            }
            if !at(after_or).is_some_and(|n| n.is("INTO")) {
                return None;
            }
            after_or + 1
        } else if t.is("UPDATE") {
            if header(i + 1) || at(i + 1).is_some_and(|n| n.is("SET")) {
                continue;
            }
            after_or
        } else if t.is("DELETE") {
            if header(i + 1) {
                continue;
            }
            if !at(i + 1).is_some_and(|n| n.is("FROM")) {
                return None;
            }
            i + 2
        } else {
            continue;
        };
        let name = at(name_at)?;
        if name.kind == Kind::Sign {
            return None;
        }
        out.push(name.name().to_lowercase());
    }
    Some(out)
}

/// A default as a trigger can say it: a bare or quoted word that SQLite takes for a string becomes one.
pub fn default_expression(text: &str) -> String {
    let all = tokens(text);
    match all.as_slice() {
        [one] if one.kind == Kind::Name => literal(&one.name()),
        [one] if one.kind == Kind::Word => {
            let known = ["NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"];
            let number = one.text.starts_with(|c: char| c.is_ascii_digit());
            if number || known.iter().any(|k| one.is(k)) { text.to_owned() } else { literal(text) }
        }
        _ => format!("({text})"),
    }
}

/// A name in SQL.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_table_is_read_past_strings_comments_and_brackets() {
        let t = table(
            "CREATE TABLE \"a(b\" (id INTEGER PRIMARY KEY AUTOINCREMENT, -- check (no)\n [x y] TEXT COLLATE NoCase \
             CHECK ([x y] <> ')' AND length([x y]) > 1) DEFAULT (coalesce('check (1)', 2)), \
             g GENERATED ALWAYS AS (upper(\"x y\")) STORED, p INT CONSTRAINT f1 REFERENCES q(a) DEFERRABLE INITIALLY \
             DEFERRED, CONSTRAINT c CHECK (p > /* ) */ 0), FOREIGN KEY (p) REFERENCES r)",
        );
        assert!(t.autoincrement);
        assert_eq!(t.checks, ["[x y] <> ')' AND length([x y]) > 1", "p > /* ) */ 0"]);
        assert_eq!(t.columns.len(), 4);
        assert_eq!(t.columns[1], ("x y".into(), Some("NoCase".into()), None));
        assert_eq!(t.columns[2].2.as_deref(), Some("upper(\"x y\")"));
        assert_eq!(t.foreign, [(Some("f1".into()), true), (None, false)]);
        assert_eq!(
            predicate("CREATE INDEX \"where\" ON t(a) /* WHERE */ WHERE a = 'where'"),
            Some("a = 'where'".into())
        );
        assert_eq!(
            indexed_parts(
                "CREATE UNIQUE INDEX i ON \"on (t\" (lower(a, b) COLLATE NOCASE DESC, \"x,y\", (a || ')') ASC) WHERE a"
            ),
            ["lower(a, b)", "\"x,y\"", "(a || ')')"]
        );
    }

    #[test]
    fn a_table_and_its_indexes_get_other_names_and_nothing_else_changes() {
        let sql = "CREATE TABLE [a b] (\n x INT CHECK (\"a b\".x > 1.5 AND x <> 'a b.x'), -- a b.\n b.y INT, \
                   p references `a b` (x), q REFERENCES c)";
        assert_eq!(parents(sql), ["a b", "c"]);
        assert_eq!(
            renamed(sql, "n", &["n", "C"]),
            "CREATE TABLE \"n\" (\n x INT CHECK (\"n\".x > 1.5 AND x <> 'a b.x'), -- a b.\n b.y INT, \
             p references \"n\" (x), q REFERENCES c)"
        );
        assert_eq!(renamed(sql, "a b", &["a b", "c"]), sql);
        let index = "CREATE UNIQUE INDEX \"i (\" ON [a b](lower(x) /* a b.x */ DESC)WHERE [A B] . x > 0";
        assert_eq!(index_renamed(index, "i (", "a b").as_deref(), Some(index));
        assert_eq!(
            index_renamed(index, "j", "n").as_deref(),
            Some("CREATE UNIQUE INDEX \"j\" ON \"n\" (lower(x) /* a b.x */ DESC)WHERE \"n\" . x > 0")
        );
        assert_eq!(requalified("ab.x + abc.x + x", "ab", "n m"), "\"n m\".x + abc.x + x");
    }

    #[test]
    fn what_a_trigger_writes_is_found_or_doubted() {
        let body = |s: &str| written(&format!("CREATE TRIGGER x AFTER UPDATE OF a ON t BEGIN {s} END"));
        assert_eq!(body("INSERT INTO log VALUES (replace(NEW.a, 'UPDATE t', ''));"), Some(vec!["log".into()]));
        assert_eq!(body("INSERT OR REPLACE INTO [L g] SELECT 1;"), Some(vec!["l g".into()]));
        assert_eq!(body("UPDATE OR IGNORE \"T\" SET a = 1; DELETE FROM u;"), Some(vec!["t".into(), "u".into()]));
        assert_eq!(body("INSERT INTO a VALUES (1) ON CONFLICT DO UPDATE SET b = 1;"), Some(vec!["a".into()]));
        assert_eq!(body("SELECT RAISE(IGNORE);"), None);
        assert_eq!(default_expression("\"x\""), "'x'");
        assert_eq!(default_expression("1"), "1");
        assert_eq!(default_expression("datetime('now')"), "(datetime('now'))");
    }
}
