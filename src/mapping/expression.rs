//! SQLite's expressions as PostgreSQL says them, where both surely mean the same; all else is `None`, and named in the plan.
//!
//! Sure are: columns against literals by way of the column's codec, columns of one kind among each other, NULL tests, the three
//! words of logic, text joined, and a few functions. Not sure: whatever depends on an affinity, on a collation, on LIKE's case.

use crate::plan::{Codec, Column, ColumnPlan};
use crate::value::{Value, date_text, timestamp_text};

use super::convert;

/// The columns that an expression may speak of.
pub struct Scope<'a> {
    /// As the source has them.
    pub source: &'a [Column],
    /// As the target has them, in the same order.
    pub target: &'a [Column],
    /// How each is converted.
    pub codecs: &'a [ColumnPlan],
    /// Whole numbers may be reckoned with: no value of today goes beyond 64 bits, where SQLite turns to doubles.
    pub reckons: bool,
}

/// What kind of value an expression yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yields {
    /// true, false or NULL
    Truth,
    /// `bigint`
    Int,
    /// `double precision`
    Real,
    /// `text`
    Text,
}

impl Yields {
    /// The type in PostgreSQL; truth is a number in SQLite.
    pub fn ty(self) -> &'static str {
        match self {
            Yields::Truth | Yields::Int => "bigint",
            Yields::Real => "double precision",
            Yields::Text => "text",
        }
    }
}

/// A condition: a CHECK, or what a partial index is restricted to.
pub fn condition(sql: &str, scope: &Scope<'_>) -> Option<String> {
    truth(&parse(sql, scope)?, scope)
}

/// A value: a generated column, or what an index is of.
pub fn scalar(sql: &str, scope: &Scope<'_>) -> Option<(String, Yields)> {
    match say(&parse(sql, scope)?, scope)? {
        (s, Yields::Truth) => Some((number(&s), Yields::Int)),
        other => Some(other),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Name(String),
    Text(String),
    Sign(String),
}

fn tokens(sql: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = sql.chars().collect();
    let (mut out, mut at) = (Vec::new(), 0);
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied());
        if c.is_ascii_whitespace() {
            at += 1;
        } else if (c == '-' && next == Some('-')) || (c == '/' && next == Some('*')) {
            return None;
        } else if let Some(close) = match c {
            '\'' | '"' | '`' => Some(c),
            '[' => Some(']'),
            _ => None,
        } {
            let mut inner = String::new();
            at += 1;
            loop {
                let c = *chars.get(at)?;
                if c == close && (close == ']' || chars.get(at + 1) != Some(&close)) {
                    break;
                }
                at += if c == close { 2 } else { 1 };
                inner.push(c);
            }
            at += 1;
            out.push(if c == '\'' { Token::Text(inner) } else { Token::Name(inner) });
        } else if c.is_ascii_digit() || (c == '.' && next.is_some_and(|n| n.is_ascii_digit())) {
            let start = at;
            while at < chars.len()
                && (word(chars[at])
                    || chars[at] == '.'
                    || (matches!(chars[at], '+' | '-') && matches!(chars[at - 1], 'e' | 'E')))
            {
                at += 1;
            }
            out.push(Token::Word(chars[start..at].iter().collect()));
        } else if word(c) {
            let start = at;
            while at < chars.len() && word(chars[at]) {
                at += 1;
            }
            out.push(Token::Word(chars[start..at].iter().collect()));
        } else {
            let two: String = [Some(c), next].into_iter().flatten().collect();
            let sign = if ["||", "==", "<>", "!=", "<=", ">="].contains(&two.as_str()) { two } else { c.to_string() };
            at += sign.len();
            out.push(Token::Sign(sign));
        }
    }
    Some(out)
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Column(usize),
    Literal(Value<'static>),
    Not(Box<Expr>),
    Null { of: Box<Expr>, not: bool },
    In { of: Box<Expr>, list: Vec<Expr>, not: bool },
    Two(String, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    scope: &'a Scope<'a>,
}

fn parse(sql: &str, scope: &Scope<'_>) -> Option<Expr> {
    let mut p = Parser { tokens: tokens(sql)?, at: 0, scope };
    let e = p.either()?;
    (p.at == p.tokens.len()).then_some(e)
}

fn two(op: &str, a: Expr, b: Expr) -> Expr {
    Expr::Two(op.to_owned(), Box::new(a), Box::new(b))
}

impl Parser<'_> {
    fn word(&mut self, w: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some(Token::Word(t)) if t.eq_ignore_ascii_case(w));
        self.at += usize::from(is);
        is
    }

    fn sign(&mut self, s: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some(Token::Sign(t)) if t == s);
        self.at += usize::from(is);
        is
    }

    fn one_of(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        signs.iter().copied().find(|s| self.sign(s))
    }

    fn either(&mut self) -> Option<Expr> {
        let mut e = self.both()?;
        while self.word("OR") {
            e = two("OR", e, self.both()?);
        }
        Some(e)
    }

    fn both(&mut self) -> Option<Expr> {
        let mut e = self.negated()?;
        while self.word("AND") {
            e = two("AND", e, self.negated()?);
        }
        Some(e)
    }

    fn negated(&mut self) -> Option<Expr> {
        if self.word("NOT") { Some(Expr::Not(Box::new(self.negated()?))) } else { self.equal() }
    }

    fn equal(&mut self) -> Option<Expr> {
        let mut e = self.ordered()?;
        loop {
            if let Some(op) = self.one_of(&["==", "=", "<>", "!="]) {
                let op = match op {
                    "==" => "=",
                    "!=" => "<>",
                    op => op,
                };
                e = two(op, e, self.ordered()?);
            } else if self.word("ISNULL") {
                e = Expr::Null { of: Box::new(e), not: false };
            } else if self.word("NOTNULL") {
                e = Expr::Null { of: Box::new(e), not: true };
            } else if self.word("IS") {
                let not = self.word("NOT");
                if !self.word("NULL") {
                    return None;
                }
                e = Expr::Null { of: Box::new(e), not };
            } else {
                let back = self.at;
                let not = self.word("NOT");
                if self.word("NULL") && not {
                    e = Expr::Null { of: Box::new(e), not: true };
                } else if self.word("IN") {
                    if !self.sign("(") {
                        return None;
                    }
                    let mut list = vec![self.either()?];
                    while self.sign(",") {
                        list.push(self.either()?);
                    }
                    if !self.sign(")") {
                        return None;
                    }
                    e = Expr::In { of: Box::new(e), list, not };
                } else if self.word("BETWEEN") {
                    let low = self.ordered()?;
                    if !self.word("AND") {
                        return None;
                    }
                    let high = self.ordered()?;
                    let within = two("AND", two(">=", e.clone(), low), two("<=", e, high));
                    e = if not { Expr::Not(Box::new(within)) } else { within };
                } else {
                    self.at = back;
                    return Some(e);
                }
            }
        }
    }

    fn ordered(&mut self) -> Option<Expr> {
        let mut e = self.sum()?;
        while let Some(op) = self.one_of(&["<=", ">=", "<", ">"]) {
            e = two(op, e, self.sum()?);
        }
        Some(e)
    }

    fn sum(&mut self) -> Option<Expr> {
        let mut e = self.product()?;
        while let Some(op) = self.one_of(&["+", "-"]) {
            e = two(op, e, self.product()?);
        }
        Some(e)
    }

    fn product(&mut self) -> Option<Expr> {
        let mut e = self.joined()?;
        while self.sign("*") {
            e = two("*", e, self.joined()?);
        }
        Some(e)
    }

    fn joined(&mut self) -> Option<Expr> {
        let mut e = self.single()?;
        while self.sign("||") {
            e = two("||", e, self.single()?);
        }
        Some(e)
    }

    fn single(&mut self) -> Option<Expr> {
        if self.sign("(") {
            let e = self.either()?;
            return self.sign(")").then_some(e);
        }
        let minus = self.sign("-");
        if !minus {
            self.sign("+");
        }
        let token = self.tokens.get(self.at)?.clone();
        self.at += 1;
        match token {
            Token::Word(w) if w.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                let text = if minus { format!("-{w}") } else { w };
                let value = match text.parse::<i64>() {
                    Ok(i) => Value::Int(i),
                    Err(_) if text.contains(['.', 'e', 'E']) => {
                        Value::Real(text.parse().ok().filter(|r: &f64| r.is_finite())?)
                    }
                    Err(_) => return None,
                };
                Some(Expr::Literal(value))
            }
            _ if minus => None,
            Token::Text(t) => Some(Expr::Literal(Value::text(t))),
            Token::Name(n) => self.column(&n),
            Token::Sign(_) => None,
            Token::Word(w) => {
                if self.sign("(") {
                    let mut args = vec![self.either()?];
                    while self.sign(",") {
                        args.push(self.either()?);
                    }
                    return self.sign(")").then(|| Expr::Call(w.to_ascii_lowercase(), args));
                }
                match w.to_ascii_uppercase().as_str() {
                    "NULL" => Some(Expr::Literal(Value::Null)),
                    "TRUE" => Some(Expr::Literal(Value::Int(1))),
                    "FALSE" => Some(Expr::Literal(Value::Int(0))),
                    "CASE" | "CAST" | "EXISTS" | "SELECT" | "RAISE" | "COLLATE" => None,
                    _ => self.column(&w),
                }
            }
        }
    }

    fn column(&mut self, name: &str) -> Option<Expr> {
        let at = self.scope.source.iter().position(|c| c.name.eq_ignore_ascii_case(name))?;
        let next = self.tokens.get(self.at);
        let more = matches!(next, Some(Token::Sign(s)) if s == ".")
            || matches!(next, Some(Token::Word(w)) if w.eq_ignore_ascii_case("COLLATE"));
        (!more).then_some(Expr::Column(at))
    }
}

fn number(truth: &str) -> String {
    format!("CASE WHEN {truth} THEN 1 WHEN NOT {truth} THEN 0 END")
}

fn quoted(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| format!("'{}'", text.replace('\'', "''")))
}

/// What a column's values can be used as without regard to how they are written; `None`: only as its codec has them.
fn kind(at: usize, scope: &Scope<'_>) -> Option<Yields> {
    if scope.source[at].collation.is_some() {
        return None;
    }
    match (&scope.codecs[at].codec, scope.target[at].ty.as_str()) {
        (Codec::Same, "bigint" | "integer" | "smallint") => Some(Yields::Int),
        (Codec::Same | Codec::Real, "double precision") => Some(Yields::Real),
        (Codec::Same, ty) if ty == "text" || ty.starts_with("character varying") => Some(Yields::Text),
        _ => None,
    }
}

/// As a condition.
fn truth(e: &Expr, scope: &Scope<'_>) -> Option<String> {
    match e {
        Expr::Literal(Value::Int(i)) => Some(if *i == 0 { "false".into() } else { "true".into() }),
        Expr::Column(at) => match &scope.codecs[*at].codec {
            Codec::Flag { yes: crate::plan::Spelling::Int(1), no: crate::plan::Spelling::Int(0) } => {
                Some(named(*at, scope))
            }
            _ => match kind(*at, scope)? {
                Yields::Int | Yields::Real => Some(format!("({} <> 0)", named(*at, scope))),
                _ => None,
            },
        },
        e => match say(e, scope)? {
            (s, Yields::Truth) => Some(s),
            (s, Yields::Int) => Some(format!("({s} <> 0)")),
            _ => None,
        },
    }
}

fn named(at: usize, scope: &Scope<'_>) -> String {
    format!("\"{}\"", scope.target[at].name.replace('"', "\"\""))
}

/// A literal as the column `at` would hold it in the target; `ordered` if it is to be compared by order.
fn as_column(at: usize, literal: &Value<'static>, ordered: bool, scope: &Scope<'_>) -> Option<String> {
    let (codec, ty) = (&scope.codecs[at].codec, scope.target[at].ty.as_str());
    match (kind(at, scope), literal) {
        (Some(Yields::Int), Value::Int(i)) => return Some(i.to_string()),
        (Some(Yields::Int), Value::Real(r)) => return Some(format!("{r:?}")),
        (Some(Yields::Real), Value::Int(i)) if *i == (*i as f64) as i64 => return Some(format!("{i}::float8")),
        (Some(Yields::Real), Value::Real(r)) => return Some(format!("{r:?}::float8")),
        (Some(Yields::Text), Value::Text(t)) => return quoted(std::str::from_utf8(t).ok()?),
        (Some(_), _) => return None,
        (None, _) => {}
    }
    if scope.source[at].collation.is_some() {
        return None;
    }
    match (codec, convert::up(codec, literal).ok()?, ty) {
        (Codec::Flag { .. }, Value::Bool(b), "boolean") if !ordered => Some(b.to_string()),
        (Codec::Date, Value::Date(d), "date") => Some(format!("'{}'::date", date_text(d)?)),
        (Codec::Timestamp { .. }, Value::Timestamp(us), "timestamp") => {
            Some(format!("'{}'::timestamp", timestamp_text(us)?))
        }
        _ => None,
    }
}

/// As an operand, and what it yields.
fn say(e: &Expr, scope: &Scope<'_>) -> Option<(String, Yields)> {
    let pair =
        |a: &Expr, b: &Expr| -> Option<((String, Yields), (String, Yields))> { Some((say(a, scope)?, say(b, scope)?)) };
    Some(match e {
        Expr::Column(at) => (named(*at, scope), kind(*at, scope)?),
        Expr::Literal(Value::Int(i)) => (i.to_string(), Yields::Int),
        Expr::Literal(Value::Text(t)) => (quoted(std::str::from_utf8(t).ok()?)?, Yields::Text),
        Expr::Literal(_) => return None,
        Expr::Not(e) => (format!("(NOT {})", truth(e, scope)?), Yields::Truth),
        Expr::Null { of, not } => {
            let of = match of.as_ref() {
                Expr::Column(at) => named(*at, scope),
                other => say(other, scope)?.0,
            };
            (format!("({of} IS {}NULL)", if *not { "NOT " } else { "" }), Yields::Truth)
        }
        Expr::In { of, list, not } => {
            let any =
                list.iter().map(|l| Some(format!("({})", compared("=", of, l, scope)?))).collect::<Option<Vec<_>>>()?;
            (format!("({}({}))", if *not { "NOT " } else { "" }, any.join(" OR ")), Yields::Truth)
        }
        Expr::Two(op, a, b) => match op.as_str() {
            "AND" | "OR" => (format!("({} {op} {})", truth(a, scope)?, truth(b, scope)?), Yields::Truth),
            "||" => {
                let ((a, ka), (b, kb)) = pair(a, b)?;
                let text = |s: String, k: Yields| match k {
                    Yields::Text => Some(s),
                    Yields::Int => Some(format!("({s})::text")),
                    _ => None,
                };
                (format!("({} || {})", text(a, ka)?, text(b, kb)?), Yields::Text)
            }
            "+" | "-" | "*" => {
                let ((a, ka), (b, kb)) = pair(a, b)?;
                if !scope.reckons || (ka, kb) != (Yields::Int, Yields::Int) {
                    return None;
                }
                // of two literals, or of narrow columns, PostgreSQL would reckon with fewer bits
                (format!("(({a})::bigint {op} ({b})::bigint)"), Yields::Int)
            }
            op => (format!("({})", compared(op, a, b, scope)?), Yields::Truth),
        },
        Expr::Call(name, args) => call(name, args, scope)?,
    })
}

fn compared(op: &str, a: &Expr, b: &Expr, scope: &Scope<'_>) -> Option<String> {
    let ordered = !matches!(op, "=" | "<>");
    let by_bytes = |s: String, k: Option<Yields>| {
        if ordered && k == Some(Yields::Text) { format!("{s} COLLATE \"C\"") } else { s }
    };
    match (a, b) {
        (Expr::Literal(Value::Null), _) | (_, Expr::Literal(Value::Null)) => None,
        (Expr::Column(at), Expr::Literal(v)) => {
            let literal = as_column(*at, v, ordered, scope)?;
            Some(format!("{} {op} {literal}", by_bytes(named(*at, scope), kind(*at, scope))))
        }
        (Expr::Literal(v), Expr::Column(at)) => {
            let literal = as_column(*at, v, ordered, scope)?;
            Some(format!("{literal} {op} {}", by_bytes(named(*at, scope), kind(*at, scope))))
        }
        _ => {
            let ((a, ka), (b, kb)) = (say(a, scope)?, say(b, scope)?);
            match (ka, kb) {
                (Yields::Int, Yields::Int) | (Yields::Real, Yields::Real) => Some(format!("{a} {op} {b}")),
                (Yields::Text, Yields::Text) => Some(format!("{} {op} {b}", by_bytes(a, Some(Yields::Text)))),
                _ => None,
            }
        }
    }
}

fn call(name: &str, args: &[Expr], scope: &Scope<'_>) -> Option<(String, Yields)> {
    let said: Vec<(String, Yields)> = args.iter().map(|a| say(a, scope)).collect::<Option<_>>()?;
    match (name, said.as_slice()) {
        // SQLite's know ASCII's letters only
        ("lower" | "upper", [(s, Yields::Text)]) => Some((format!("{name}({s} COLLATE \"C\")"), Yields::Text)),
        ("length", [(s, Yields::Text)]) => Some((format!("length({s})::bigint"), Yields::Int)),
        ("trim", [(s, Yields::Text)]) => Some((format!("btrim({s})"), Yields::Text)),
        ("abs", [(s, Yields::Int)]) => Some((format!("abs(({s})::bigint)"), Yields::Int)),
        ("coalesce" | "ifnull", [(a, k), (b, l)]) if k == l && *k != Yields::Truth => {
            Some((format!("coalesce({a}, {b})"), *k))
        }
        ("substr" | "substring", [(s, Yields::Text), (from, _), (n, _)])
            if matches!((&args[1], &args[2]), (Expr::Literal(Value::Int(1..)), Expr::Literal(Value::Int(0..)))) =>
        {
            Some((format!("substr({s}, {from}, {n})"), Yields::Text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Spelling;

    fn with<T>(f: impl FnOnce(&Scope<'_>) -> T) -> T {
        let flag = Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) };
        let all = [
            ("a", "bigint", Codec::Same),
            ("Name", "text", Codec::Same),
            ("on", "boolean", flag),
            ("r", "double precision", Codec::Same),
            ("day", "date", Codec::Date),
            ("wide", "text", Codec::AffinityText { affinity: crate::plan::Affinity::Integer }),
            ("ci", "text", Codec::Same),
        ];
        let column = |(n, t, _): &(&str, &str, Codec)| Column {
            name: (*n).into(),
            ty: (*t).into(),
            collation: (*n == "ci").then(|| "NOCASE".into()),
            ..Column::default()
        };
        let columns: Vec<Column> = all.iter().map(column).collect();
        let codecs: Vec<ColumnPlan> =
            all.iter().map(|(.., c)| ColumnPlan { codec: c.clone(), why: String::new() }).collect();
        f(&Scope { source: &columns, target: &columns, codecs: &codecs, reckons: true })
    }

    #[test]
    fn a20_conditions_are_translated_when_sure() {
        let c = |s: &str| with(|scope| condition(s, scope));
        assert_eq!(c("a >= 0 AND NOT a = 7").as_deref(), Some("((\"a\" >= 0) AND (NOT (\"a\" = 7)))"));
        assert_eq!(c("\"on\" IN (0, 1)").as_deref(), Some("(((\"on\" = false) OR (\"on\" = true)))"));
        assert_eq!(c("\"on\"").as_deref(), Some("\"on\""));
        assert_eq!(c("name > 'a''b'").as_deref(), Some("(\"Name\" COLLATE \"C\" > 'a''b')"));
        assert_eq!(
            c("[name] IS NOT NULL or `a` between 1 and 5").as_deref(),
            Some("((\"Name\" IS NOT NULL) OR ((\"a\" >= 1) AND (\"a\" <= 5)))")
        );
        assert_eq!(c("day <> '2024-01-01'").as_deref(), Some("(\"day\" <> '2024-01-01'::date)"));
        assert_eq!(c("length(trim(name)) > 2").as_deref(), Some("(length(btrim(\"Name\"))::bigint > 2)"));
        for unsure in [
            "name LIKE 'a%'",
            "wide = 5",
            "ci = 'a'",
            "a = '5'",
            "name = 5",
            "typeof(a) = 'integer'",
            "a / 2 = 1",
            "t.a = 1",
            "a COLLATE NOCASE = 1",
            "on",
            "name",
            "a = r",
            "a IN (SELECT 1)",
            "day = 'soon'",
            "\"nobody\" = 1",
            "random() > 1",
            "a -- b",
            "a = 0x10",
            "name GLOB 'a'",
            "a = NULL",
            "a IS 5",
        ] {
            let said = c(unsure);
            assert!(said.is_none() || unsure == "on", "{unsure}: {said:?}");
        }
    }

    #[test]
    fn a21_values_are_translated_when_sure() {
        let v = |s: &str| with(|scope| scalar(s, scope));
        assert_eq!(
            v("a * 2 + a"),
            Some(("((((\"a\")::bigint * (2)::bigint))::bigint + (\"a\")::bigint)".into(), Yields::Int))
        );
        assert_eq!(v("name || '-' || a"), Some(("((\"Name\" || '-') || (\"a\")::text)".into(), Yields::Text)));
        assert_eq!(v("lower(name)"), Some(("lower(\"Name\" COLLATE \"C\")".into(), Yields::Text)));
        assert_eq!(
            v("a IS NULL"),
            Some(("CASE WHEN (\"a\" IS NULL) THEN 1 WHEN NOT (\"a\" IS NULL) THEN 0 END".into(), Yields::Int))
        );
        assert_eq!(v("r * 2"), None);
        assert_eq!(v("wide"), None);
    }
}
