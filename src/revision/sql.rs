//! The SQL of SQLite and PostgreSQL as far as it must be understood to cut a script into statements: tokens, and where
//! a statement ends.

use std::path::Path;

use super::Statement;
use crate::plan::{ConfigError, Document, Kind};
pub use crate::tokens::{Is, Token, tokens};
use crate::tokens::{Open, Scanner};

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
