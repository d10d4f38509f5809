//! The SQL of SQLite and PostgreSQL as far as it must be understood to cut a script into statements: tokens, and where
//! a statement ends.

use std::path::Path;

use super::Statement;
use crate::plan::{ConfigError, Document, Kind};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in quotes: `"a"`, `U&"a"`; in SQLite also `` `a` `` and `[a]`.
    Name,
    /// A string: `'a'`, `E'a'`, `U&'a'`, `$$a$$`.
    Text,
    /// A number.
    Number,
    /// A parameter: `$1`, `?`, `:name`.
    Parameter,
    /// Any other single character.
    Symbol,
    /// A comment of either kind.
    Comment,
}

/// A piece of SQL that has no smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// What it is.
    pub is: Is,
    /// As written, quotes included.
    pub text: &'t str,
    /// Where it begins, in bytes.
    pub start: usize,
}

impl Token<'_> {
    /// Whether it is this keyword, given in capitals.
    pub fn word(&self, word: &str) -> bool {
        self.is == Is::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is this character.
    pub fn symbol(&self, symbol: &str) -> bool {
        self.is == Is::Symbol && self.text == symbol
    }

    /// Whether it may stand where the name of a thing is wanted.
    pub fn is_name(&self, kind: Kind) -> bool {
        matches!(self.is, Is::Word | Is::Name) || (self.is == Is::Text && kind != Kind::Postgres)
    }

    /// The name that it means, without quotes, in the one spelling by which the database compares names.
    pub fn name(&self, kind: Kind) -> String {
        let inner = |quote: &str, end: &str| {
            let text = self.text.strip_prefix("U&").or_else(|| self.text.strip_prefix("u&")).unwrap_or(self.text);
            let text = text.strip_prefix(quote).unwrap_or(text);
            let text = text.strip_suffix(end).unwrap_or(text);
            if quote == end { text.replace(&end.repeat(2), end) } else { text.to_owned() }
        };
        let name = match (self.is, self.text.as_bytes().first()) {
            (Is::Name, Some(b'`')) => inner("`", "`"),
            (Is::Name, Some(b'[')) => inner("[", "]"),
            (Is::Name, _) => inner("\"", "\""),
            (Is::Text, _) => inner("'", "'"),
            _ => return self.text.to_ascii_lowercase(),
        };
        if kind == Kind::Postgres { name } else { name.to_ascii_lowercase() }
    }

    fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The tokens of a text without its comments. What is never closed reaches to the text's end.
pub fn tokens(sql: &str, kind: Kind) -> impl Iterator<Item = Token<'_>> {
    let mut scanner = Scanner { text: sql, kind, at: 0 };
    std::iter::from_fn(move || {
        loop {
            match scanner.next()? {
                Ok(token) if token.is == Is::Comment => {}
                Ok(token) => return Some(token),
                Err(open) => {
                    scanner.at = sql.len();
                    return Some(Token { is: open.is, text: &sql[open.start..], start: open.start });
                }
            }
        }
    })
}

/// Keywords and names in capitals, in order; what is in quotes is left as it is, without them.
pub fn words(sql: &str, kind: Kind) -> Vec<String> {
    tokens(sql, kind)
        .filter_map(|token| match token.is {
            Is::Word => Some(token.text.to_ascii_uppercase()),
            Is::Name => Some(token.name(kind)),
            _ => None,
        })
        .collect()
}

/// The text without a byte order mark, with line ends as `\n`: how texts are compared, whoever saved them.
pub fn plain(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n")
}

/// Cuts a script into its statements. `file` is what errors speak of.
///
/// # Errors
/// What is never closed, or cannot run here, with its place.
pub fn split(text: &str, kind: Kind, file: &Path) -> Result<Vec<Statement>, ConfigError> {
    let doc = Document { file, text };
    let mut list = List::default();
    for piece in pieces(doc, kind) {
        match piece? {
            Piece::Statement { start, end } => list.statement(doc, start, end),
            Piece::Directive(comment) => {
                if let Some(rest) = comment.body.strip_prefix("backout:allow") {
                    list.allow(doc, &comment, rest)?;
                }
            }
        }
    }
    list.end(doc)
}

/// Statements as they are found.
#[derive(Default)]
pub(super) struct List {
    pub statements: Vec<Statement>,
    waiting: Vec<(String, String)>,
    waiting_at: usize,
    counted: (usize, usize),
}

impl List {
    pub fn statement(&mut self, doc: Document<'_>, start: usize, end: usize) {
        let (offset, lines) = self.counted;
        let lines = lines + doc.text[offset..start].matches('\n').count();
        self.counted = (start, lines);
        let sql = doc.text[start..end].to_owned();
        self.statements.push(Statement { sql, line: lines + 1, silenced: std::mem::take(&mut self.waiting) });
    }

    /// `-- backout:allow CODE reason`; `rest` is what follows `allow`.
    pub fn allow(&mut self, doc: Document<'_>, comment: &Comment<'_>, rest: &str) -> Result<(), ConfigError> {
        let (code, reason) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        if !comment.alone {
            let hint = "put it on a line of its own before the statement".to_owned();
            return Err(doc.error(comment.start, "`backout:allow` stands after a statement", Some(hint)));
        }
        if code.is_empty() || reason.trim().is_empty() {
            let hint = "a code and a reason: -- backout:allow D01 nothing reads this table any more".to_owned();
            return Err(doc.error(comment.start, "`backout:allow` lacks its code or its reason", Some(hint)));
        }
        self.waiting.push((code.to_owned(), reason.trim().to_owned()));
        self.waiting_at = comment.start;
        Ok(())
    }

    pub fn end(self, doc: Document<'_>) -> Result<Vec<Statement>, ConfigError> {
        if self.waiting.is_empty() {
            return Ok(self.statements);
        }
        let hint = "put it before the statement that it speaks of".to_owned();
        Err(doc.error(self.waiting_at, "no statement follows this `backout:allow`", Some(hint)))
    }
}

/// A line comment that speaks to us.
pub(super) struct Comment<'t> {
    /// What follows the dashes, trimmed.
    pub body: &'t str,
    pub start: usize,
    pub end: usize,
    /// Nothing but blanks stands before it on its line.
    pub alone: bool,
}

pub(super) enum Piece<'t> {
    /// From its first token to its last.
    Statement { start: usize, end: usize },
    /// A comment `-- migrate:…` or `-- backout:…`. The former ends the statement before it; the latter may stand within
    /// the statement that comes next.
    Directive(Comment<'t>),
}

/// What a script is made of, in order.
pub(super) fn pieces<'t>(
    doc: Document<'t>,
    kind: Kind,
) -> impl Iterator<Item = Result<Piece<'t>, ConfigError>> + use<'t> {
    let mut pieces =
        Pieces { doc, kind, scanner: Scanner { text: doc.text, kind, at: 0 }, so_far: None, queued: None, over: false };
    std::iter::from_fn(move || {
        if pieces.over {
            return None;
        }
        let next = pieces.next();
        pieces.over = matches!(next, Err(_) | Ok(None));
        next.transpose()
    })
}

struct Pieces<'t> {
    doc: Document<'t>,
    kind: Kind,
    scanner: Scanner<'t>,
    so_far: Option<SoFar>,
    queued: Option<Comment<'t>>,
    over: bool,
}

/// A statement up to the token that was read last.
struct SoFar {
    start: usize,
    end: usize,
    /// Its first words in capitals, as many as its nature takes to tell.
    words: Vec<String>,
    body: Body,
    /// The token before the last was a `;` or ATOMIC, so that END is the body's.
    fresh: bool,
    last: Last,
    /// Of a rule: open brackets.
    brackets: Vec<usize>,
    copy: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// A `;` ends the statement.
    None,
    /// It begins here, and goes on until an END that follows a `;`.
    Open(usize),
    /// Its END was read.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Other,
    Begin(usize),
    From,
    To,
}

impl<'t> Pieces<'t> {
    fn next(&mut self) -> Result<Option<Piece<'t>>, ConfigError> {
        if let Some(comment) = self.queued.take() {
            return Ok(Some(Piece::Directive(comment)));
        }
        while let Some(token) = self.scanner.next() {
            let token = token.map_err(|open| self.never_closed(&open))?;
            if token.is == Is::Comment {
                let Some(comment) = self.directive(&token) else { continue };
                if comment.body.to_ascii_lowercase().starts_with("migrate:")
                    && let Some(statement) = self.finish()?
                {
                    self.queued = Some(comment);
                    return Ok(Some(statement));
                }
                return Ok(Some(Piece::Directive(comment)));
            }
            if token.symbol(";") && self.so_far.as_ref().is_none_or(SoFar::ends) {
                match self.finish()? {
                    Some(statement) => return Ok(Some(statement)),
                    None => continue,
                }
            }
            self.refuse_commands(&token)?;
            let so_far = self.so_far.get_or_insert_with(|| SoFar::begin(token.start));
            so_far.take(&token, self.kind);
        }
        self.finish()
    }

    /// The statement so far, if there is one, which ends here.
    fn finish(&mut self) -> Result<Option<Piece<'t>>, ConfigError> {
        let Some(so_far) = self.so_far.take() else { return Ok(None) };
        if let Some(bracket) = so_far.brackets.first() {
            return Err(self.doc.error(*bracket, "this bracket is never closed", None));
        }
        if let Body::Open(at) = so_far.body {
            let hint = "each statement within it ends with `;`, and after the last comes END;".to_owned();
            let what = if self.kind == Kind::Postgres { "BEGIN ATOMIC" } else { "trigger" };
            return Err(self.doc.error(at, format!("this {what} never comes to its END"), Some(hint)));
        }
        if let Some(what) = so_far.copy {
            let hint = match what {
                "FROM STDIN" => {
                    "write INSERT INTO … VALUES (…), (…), as pg_dump --inserts does; or COPY from a file on the server"
                }
                _ => "what it writes would go nowhere: take it out",
            };
            let message = format!("COPY … {what} speaks with psql and cannot run here");
            return Err(self.doc.error(so_far.start, message, Some(hint.to_owned())));
        }
        Ok(Some(Piece::Statement { start: so_far.start, end: so_far.end }))
    }

    fn alone(&self, start: usize) -> bool {
        self.doc.text[..start].rsplit('\n').next().is_none_or(|before| before.trim().is_empty())
    }

    fn directive(&self, token: &Token<'t>) -> Option<Comment<'t>> {
        let body = token.text.strip_prefix("--")?.trim();
        let head = body.get(..8)?;
        if !head.eq_ignore_ascii_case("migrate:") && !head.eq_ignore_ascii_case("backout:") {
            return None;
        }
        Some(Comment { body, start: token.start, end: token.end(), alone: self.alone(token.start) })
    }

    /// Commands of the shells, which look like part of the language to those who use them daily.
    fn refuse_commands(&self, token: &Token<'_>) -> Result<(), ConfigError> {
        let command = |start: usize| -> String {
            self.doc.text[start..].chars().take_while(|c| !c.is_whitespace() && *c != ';').collect()
        };
        if token.symbol("\0") {
            let hint = "was this file saved as UTF-16? save it as UTF-8".to_owned();
            return Err(self.doc.error(token.start, "a NUL character", Some(hint)));
        }
        let (shell, hint) = match self.kind {
            Kind::Postgres if token.symbol("\\") => ("psql", "write it in SQL, or take it out"),
            Kind::Sqlite if self.so_far.is_none() && token.symbol(".") => {
                ("the sqlite3 shell", "write it in SQL, or take it out")
            }
            _ => return Ok(()),
        };
        let message = format!("`{}` is a command of {shell}, not SQL", command(token.start));
        Err(self.doc.error(token.start, message, Some(hint.to_owned())))
    }

    fn never_closed(&self, open: &Open) -> ConfigError {
        let hint = format!("it needs its `{}`", open.wants);
        self.doc.error(open.start, format!("this {} is never closed", open.what), Some(hint))
    }
}

impl SoFar {
    fn begin(start: usize) -> SoFar {
        let (words, brackets) = (Vec::new(), Vec::new());
        SoFar { start, end: start, words, body: Body::None, fresh: false, last: Last::Other, brackets, copy: None }
    }

    /// Whether a `;` that comes now ends it.
    fn ends(&self) -> bool {
        !matches!(self.body, Body::Open(_)) && self.brackets.is_empty()
    }

    fn take(&mut self, token: &Token<'_>, kind: Kind) {
        self.end = token.end();
        let last = std::mem::replace(&mut self.last, Last::Other);
        let fresh = std::mem::replace(&mut self.fresh, token.symbol(";"));
        match self.body {
            Body::Open(_) if fresh && token.word("END") => self.body = Body::Closed,
            Body::None if token.word("ATOMIC") && self.routine() => {
                if let Last::Begin(at) = last {
                    (self.body, self.fresh) = (Body::Open(at), true);
                }
            }
            _ => {}
        }
        if token.is == Is::Word && self.words.len() < 5 {
            self.words.push(token.text.to_ascii_uppercase());
            if kind != Kind::Postgres && self.body == Body::None && self.trigger() {
                self.body = Body::Open(self.start);
            }
        } else if self.words.len() < 5 {
            // names cannot be taken for keywords
            self.words.push(String::new());
        }
        if kind != Kind::Postgres {
            return;
        }
        self.last = match () {
            () if token.word("BEGIN") => Last::Begin(token.start),
            () if token.word("FROM") => Last::From,
            () if token.word("TO") => Last::To,
            () => Last::Other,
        };
        if self.words.first().is_some_and(|w| w == "COPY") {
            match last {
                Last::From if token.word("STDIN") => self.copy = Some("FROM STDIN"),
                Last::To if token.word("STDOUT") => self.copy = Some("TO STDOUT"),
                _ => {}
            }
        }
        if self.begins(&["CREATE", "RULE"]) || self.begins(&["CREATE", "OR", "REPLACE", "RULE"]) {
            if token.symbol("(") {
                self.brackets.push(token.start);
            } else if token.symbol(")") {
                self.brackets.pop();
            }
        }
    }

    fn begins(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(a, b)| a == b)
    }

    fn trigger(&self) -> bool {
        let words = self.words.strip_prefix(&["EXPLAIN".to_owned()]).unwrap_or(&self.words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        matches!(words[..], ["CREATE", "TRIGGER", ..] | ["CREATE", "TEMP" | "TEMPORARY", "TRIGGER", ..])
    }

    fn routine(&self) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        matches!(
            words[..],
            ["CREATE", "FUNCTION" | "PROCEDURE", ..] | ["CREATE", "OR", "REPLACE", "FUNCTION" | "PROCEDURE", ..]
        )
    }
}

/// Something that begins at `start` and is not closed before the text ends.
struct Open {
    start: usize,
    is: Is,
    what: &'static str,
    wants: String,
}

struct Scanner<'t> {
    text: &'t str,
    kind: Kind,
    at: usize,
}

impl<'t> Scanner<'t> {
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Option<Result<Token<'t>, Open>> {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) {
            self.at += 1;
        }
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let (is, end) = match self.token(start) {
            Ok(found) => found,
            Err(open) => return Some(Err(open)),
        };
        self.at = end;
        Some(Ok(Token { is, text: &self.text[start..end], start }))
    }

    fn token(&self, start: usize) -> Result<(Is, usize), Open> {
        let postgres = self.kind == Kind::Postgres;
        let (first, second) = (self.byte(start), self.byte(start + 1));
        Ok(match (first, second) {
            (b'-', b'-') => (Is::Comment, self.line_end(start)),
            (b'/', b'*') => (Is::Comment, self.comment(start)?),
            (b'\'', _) => (Is::Text, self.quoted(start, start)?),
            (b'"', _) => (Is::Name, self.quoted(start, start)?),
            (b'`', _) if !postgres => (Is::Name, self.quoted(start, start)?),
            (b'[', _) if !postgres => match self.text[start..].find(']') {
                Some(length) => (Is::Name, start + length + 1),
                None => return Err(self.open(start, Is::Name, "name in brackets", "]")),
            },
            (b'E' | b'e', b'\'') if postgres => (Is::Text, self.escaped(start)?),
            (b'B' | b'b' | b'X' | b'x' | b'N' | b'n', b'\'') if postgres => (Is::Text, self.quoted(start, start + 1)?),
            (b'U' | b'u', b'&') if postgres && matches!(self.byte(start + 2), b'\'' | b'"') => {
                let is = if self.byte(start + 2) == b'"' { Is::Name } else { Is::Text };
                (is, self.quoted(start, start + 2)?)
            }
            (b'$', _) if postgres => self.dollar(start)?,
            (b'$' | b'@' | b'#' | b':', next) if !postgres && in_word(next) => {
                (Is::Parameter, self.while_byte(start + 1, in_word))
            }
            (b'?', _) if !postgres => (Is::Parameter, self.while_byte(start + 1, |b| b.is_ascii_digit())),
            (b'0'..=b'9', _) => (Is::Number, self.number(start)),
            (b'.', b'0'..=b'9') => (Is::Number, self.number(start)),
            (b, _) if in_word(b) => (Is::Word, self.while_byte(start, in_word)),
            _ => (Is::Symbol, start + 1),
        })
    }

    fn open(&self, start: usize, is: Is, what: &'static str, wants: &str) -> Open {
        Open { start, is, what, wants: wants.to_owned() }
    }

    fn while_byte(&self, mut at: usize, fits: impl Fn(u8) -> bool) -> usize {
        while at < self.text.len() && fits(self.byte(at)) {
            at += 1;
        }
        at
    }

    fn number(&self, start: usize) -> usize {
        let end = self.while_byte(start, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
        let exponent = matches!(self.byte(end - 1), b'e' | b'E') && !matches!(self.byte(start + 1), b'x' | b'X');
        if exponent && matches!(self.byte(end), b'+' | b'-') && self.byte(end + 1).is_ascii_digit() {
            return self.while_byte(end + 1, |b| b.is_ascii_digit() || b == b'_');
        }
        end
    }

    fn line_end(&self, start: usize) -> usize {
        let postgres = self.kind == Kind::Postgres;
        self.while_byte(start, |b| b != b'\n' && (b != b'\r' || !postgres))
    }

    fn comment(&self, start: usize) -> Result<usize, Open> {
        let (mut at, mut depth) = (start + 2, 1);
        while at < self.text.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => {
                    (at, depth) = (at + 2, depth - 1);
                    if depth == 0 {
                        return Ok(at);
                    }
                }
                (b'/', b'*') if self.kind == Kind::Postgres => (at, depth) = (at + 2, depth + 1),
                _ => at += 1,
            }
        }
        Err(self.open(start, Is::Comment, "comment", "*/"))
    }

    /// The end of what begins at `start` and has its quote at `quote`; a doubled quote stands for one.
    fn quoted(&self, start: usize, quote: usize) -> Result<usize, Open> {
        let (mark, mut at) = (self.byte(quote), quote + 1);
        while at < self.text.len() {
            if self.byte(at) != mark {
                at += 1;
            } else if self.byte(at + 1) == mark {
                at += 2;
            } else {
                return Ok(at + 1);
            }
        }
        let (is, what) = if mark == b'\'' { (Is::Text, "string") } else { (Is::Name, "name in quotes") };
        Err(self.open(start, is, what, &char::from(mark).to_string()))
    }

    /// `E'…'`, which goes on in a string on a later line, with the same rules.
    fn escaped(&self, start: usize) -> Result<usize, Open> {
        let mut at = start + 2;
        while at < self.text.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'\\', _) => at += 2,
                (b'\'', b'\'') => at += 2,
                (b'\'', _) => match self.continued(at + 1) {
                    Some(quote) => at = quote + 1,
                    None => return Ok(at + 1),
                },
                _ => at += 1,
            }
        }
        Err(self.open(start, Is::Text, "string", "'"))
    }

    /// The quote with which a string goes on after blanks, comments and at least one line end.
    fn continued(&self, mut at: usize) -> Option<usize> {
        let mut lines = false;
        loop {
            match self.byte(at) {
                b'\n' | b'\r' => (at, lines) = (at + 1, true),
                b' ' | b'\t' | 0x0b | 0x0c => at += 1,
                b'-' if self.byte(at + 1) == b'-' => at = self.line_end(at),
                b'\'' if lines => return Some(at),
                _ => return None,
            }
        }
    }

    /// `$1`, `$$…$$` or `$tag$…$tag$`.
    fn dollar(&self, start: usize) -> Result<(Is, usize), Open> {
        let after = self.while_byte(start + 1, |b| in_word(b) && b != b'$');
        if self.byte(start + 1).is_ascii_digit() {
            return Ok((Is::Parameter, self.while_byte(start + 1, |b| b.is_ascii_digit())));
        }
        if self.byte(after) != b'$' {
            return Ok((Is::Symbol, start + 1));
        }
        let tag = &self.text[start..=after];
        match self.text[after + 1..].find(tag) {
            Some(length) => Ok((Is::Text, after + 1 + length + tag.len())),
            None => Err(self.open(start, Is::Text, "dollar quote", tag)),
        }
    }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}
