//! JSON as text: a strict scanner that finds where things are and leaves them as they are.
//!
//! Nothing here builds a tree. `check` reads the whole text once and refuses what is no JSON; after it, `members` and
//! `items` find the spans of one level.

use std::borrow::Cow;
use std::collections::HashSet;

use super::style::{Shape, Style, Survey};
use crate::value::Value;

/// Deeper nesting than this is refused (Python's own readers stop at about the same).
const DEEPEST: usize = 1000;

/// From one byte to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn of<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// One member of an object: its name (with quotes) and its value.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub name: Span,
    pub value: Span,
}

impl Member {
    pub fn whole(&self) -> Span {
        Span { start: self.name.start, end: self.value.end }
    }
}

/// What is wrong, and at which byte.
#[derive(Debug)]
pub struct Fault {
    pub at: usize,
    pub what: String,
}

type Result<T> = std::result::Result<T, Fault>;

/// Line and column (both from 1; columns are characters) of a byte.
pub fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before[start..].iter().filter(|&&b| b & 0xC0 != 0x80).count() + 1;
    let mark = usize::from(start == 0 && text.starts_with(BOM) && at >= BOM.len());
    (line, column - mark)
}

/// The byte-order mark that some editors put first.
pub const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Reads the whole text: one JSON value, no member twice in an object. Returns where the value is and how it is written.
pub fn check(text: &[u8]) -> Result<(Span, Style)> {
    if let Err(e) = std::str::from_utf8(text) {
        return Err(Fault { at: e.valid_up_to(), what: "is not UTF-8".into() });
    }
    let mut s = Scanner { text, at: 0, names: Vec::new(), survey: Survey::default() };
    if text.starts_with(BOM) {
        s.at = BOM.len();
    }
    s.space();
    if s.at == text.len() {
        return s.fault("is empty; an application that was writing it may have died");
    }
    let start = s.at;
    s.value(0, 0)?;
    let root = Span { start, end: s.at };
    s.space();
    if s.at < text.len() {
        return s.fault("there is something after the end of the document");
    }
    let style = s.survey.style(text);
    Ok((root, style))
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    names: Vec<Span>,
    survey: Survey,
}

impl Scanner<'_> {
    fn fault<T>(&self, what: &str) -> Result<T> {
        Err(Fault { at: self.at, what: what.into() })
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        let found = match self.text.get(self.at..).unwrap_or_default() {
            [] => "the file ends".to_owned(),
            rest => {
                let word: Vec<u8> =
                    rest.iter().copied().take(12).take_while(|b| b.is_ascii_alphanumeric() || *b >= 0x80).collect();
                let word = if word.is_empty() { rest[..1].to_vec() } else { word };
                format!("there is `{}`", String::from_utf8_lossy(&word).escape_debug())
            }
        };
        self.fault(&format!("{found} where {wanted} should be"))
    }

    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) -> Span {
        let start = self.at;
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        Span { start, end: self.at }
    }

    fn value(&mut self, depth: usize, indent: usize) -> Result<()> {
        if depth > DEEPEST {
            return self.fault("is nested too deeply");
        }
        match self.peek() {
            b'{' => self.list(Shape::Object, depth, indent),
            b'[' => self.list(Shape::Array, depth, indent),
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.unexpected("a value"),
        }
    }

    /// An object or an array; `indent` is the length of the indentation of the line on which it begins.
    fn list(&mut self, shape: Shape, depth: usize, indent: usize) -> Result<()> {
        self.at += 1;
        let open = self.space();
        let close = if shape == Shape::Object { b'}' } else { b']' };
        if self.peek() == close {
            self.at += 1;
            return Ok(());
        }
        let inner = self.survey.opened(self.text, shape, depth, open, indent);
        let names = self.names.len();
        loop {
            if shape == Shape::Object {
                if self.peek() != b'"' {
                    return self.unexpected("a member's name in double quotes");
                }
                let name = self.string()?;
                self.names.push(name);
                let before = self.space();
                if self.peek() != b':' {
                    return self.unexpected("`:`");
                }
                self.at += 1;
                let after = self.space();
                self.survey.colon(before, after);
            }
            self.value(depth + 1, inner)?;
            let before = self.space();
            match self.peek() {
                b',' => {
                    self.at += 1;
                    let after = self.space();
                    self.survey.comma(self.text, before, after);
                    if self.peek() == close {
                        return self.unexpected("the next entry after `,`");
                    }
                }
                b if b == close => {
                    self.at += 1;
                    break;
                }
                _ => return self.unexpected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" }),
            }
        }
        if shape == Shape::Object {
            self.unique(names)?;
            self.names.truncate(names);
        }
        Ok(())
    }

    /// No name twice among those from `first` on; names are compared as decoded.
    fn unique(&self, first: usize) -> Result<()> {
        let names = &self.names[first..];
        let twice = if names.len() <= 16 {
            let escaped = |n: &Span| n.of(self.text).contains(&b'\\');
            let same = |a: &Span, b: &Span| {
                if escaped(a) || escaped(b) {
                    decode(a.of(self.text)).0 == decode(b.of(self.text)).0
                } else {
                    a.of(self.text) == b.of(self.text)
                }
            };
            (1..names.len()).find(|&i| names[..i].iter().any(|n| same(n, &names[i])))
        } else {
            let mut seen = HashSet::with_capacity(names.len());
            names.iter().position(|n| !seen.insert(decode(n.of(self.text)).0))
        };
        match twice.map(|i| names[i]) {
            None => Ok(()),
            Some(name) => Err(Fault {
                at: name.start,
                what: format!(
                    "the member {} is there twice in one object",
                    String::from_utf8_lossy(name.of(self.text))
                ),
            }),
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.unexpected("a value")
    }

    fn digits(&mut self) -> Result<()> {
        if !self.peek().is_ascii_digit() {
            return self.unexpected("a digit");
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
            if self.peek().is_ascii_digit() {
                return self.fault("a number begins with 0");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Span> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.text.get(self.at).copied() {
                None => {
                    self.at = start;
                    return self.fault("a string that does not end");
                }
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Span { start, end: self.at });
                }
                Some(b'\\') => self.escape()?,
                Some(b) if b < 0x20 => return self.fault("a control character that should be written as an escape"),
                Some(b) => {
                    self.survey.plain(b);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        match self.text.get(self.at + 1).copied() {
            Some(b'u') => {
                let Some(unit) = hex4(self.text, self.at + 2) else {
                    return self.fault("`\\u` without four hexadecimal digits");
                };
                let pair = (0xD800..0xDC00).contains(&unit)
                    && self.text.get(self.at + 6..self.at + 8) == Some(b"\\u")
                    && hex4(self.text, self.at + 8).is_some_and(|low| (0xDC00..0xE000).contains(&low));
                let lone = !pair && (0xD800..0xE000).contains(&unit);
                let end = self.at + if pair { 12 } else { 6 };
                self.survey.escaped(&self.text[self.at..end], unit, lone);
                self.at = end;
            }
            Some(c @ (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => {
                if c == b'/' {
                    self.survey.slash();
                }
                self.at += 2;
            }
            _ => return self.fault("an escape that JSON does not know"),
        }
        Ok(())
    }
}

fn hex4(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, &d| Some(n * 16 + char::from(d).to_digit(16)?))
}

// ── after `check` ──────────────────────────────────────────────────────────────────────────────────────────────────

fn past_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Past the string that begins at `at`.
fn past_string(text: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(&b) = text.get(at) {
        match b {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Past the value that begins at `at`.
fn past_value(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(&b) = text.get(at) {
        match b {
            b'"' => at = past_string(text, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            _ => {
                while text.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The members of the object at `span`, in a text that `check` passed.
pub fn members(text: &[u8], span: Span) -> Members<'_> {
    Members { text, at: past_space(text, span.start + 1) }
}

/// See [`members`].
pub struct Members<'t> {
    text: &'t [u8],
    at: usize,
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        if self.text.get(self.at) != Some(&b'"') {
            return None;
        }
        let name = Span { start: self.at, end: past_string(self.text, self.at) };
        let start = past_space(self.text, past_space(self.text, name.end) + 1);
        let value = Span { start, end: past_value(self.text, start) };
        self.at = past_comma(self.text, value.end);
        Some(Member { name, value })
    }
}

/// The elements of the array at `span`, in a text that `check` passed.
pub fn items(text: &[u8], span: Span) -> Items<'_> {
    Items { text, at: past_space(text, span.start + 1) }
}

/// See [`items`].
pub struct Items<'t> {
    text: &'t [u8],
    at: usize,
}

impl Iterator for Items<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        if matches!(self.text.get(self.at), None | Some(b']')) {
            return None;
        }
        let value = Span { start: self.at, end: past_value(self.text, self.at) };
        self.at = past_comma(self.text, value.end);
        Some(value)
    }
}

/// Past `,` and the space around it; at the closing bracket there is none.
fn past_comma(text: &[u8], at: usize) -> usize {
    let at = past_space(text, at);
    if text.get(at) == Some(&b',') { past_space(text, at + 1) } else { at }
}

/// What a string with its quotes says, and whether it has lone surrogates (then the bytes are no UTF-8, but still tell
/// strings apart).
pub fn decode(raw: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if !inside.contains(&b'\\') {
        return (Cow::Borrowed(inside), false);
    }
    let (mut out, mut lone, mut at) = (Vec::with_capacity(inside.len()), false, 0);
    while at < inside.len() {
        if inside[at] != b'\\' {
            out.push(inside[at]);
            at += 1;
            continue;
        }
        let c = inside.get(at + 1).copied().unwrap_or(b'\\');
        at += 2;
        match c {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = hex4(inside, at).unwrap_or(0xFFFD);
                at += 4;
                if (0xD800..0xDC00).contains(&code)
                    && inside.get(at..at + 2) == Some(b"\\u")
                    && let Some(low) = hex4(inside, at + 2)
                    && (0xDC00..0xE000).contains(&low)
                {
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    at += 6;
                }
                match char::from_u32(code) {
                    Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => {
                        lone = true;
                        out.extend([
                            0xE0 | (code >> 12) as u8,
                            0x80 | (code >> 6 & 63) as u8,
                            0x80 | (code & 63) as u8,
                        ]);
                    }
                }
            }
            c => out.push(c),
        }
    }
    (Cow::Owned(out), lone)
}

/// Without the space outside strings; everything else as it is spelled.
pub fn minify(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let end = match raw[at] {
            b'"' => past_string(raw, at).min(raw.len()),
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            _ => at + 1,
        };
        out.extend_from_slice(&raw[at..end]);
        at = end;
    }
    if out.len() == raw.len() { Cow::Borrowed(raw) } else { Cow::Owned(out) }
}

/// The value a field's text stands for.
pub fn field(raw: &[u8]) -> Value<'_> {
    match raw.first() {
        Some(b'"') => match decode(raw) {
            (text, false) => Value::Text(text),
            (_, true) => Value::Json(Cow::Borrowed(raw)),
        },
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        Some(b'{' | b'[') => Value::Json(minify(raw)),
        _ => match std::str::from_utf8(raw).ok().filter(|n| *n != "-0").and_then(|n| n.parse().ok()) {
            Some(n) => Value::Int(n),
            None => Value::Json(Cow::Borrowed(raw)),
        },
    }
}

/// The space at the beginning of the line that `at` is in.
pub fn line_indent(text: &[u8], at: usize) -> &[u8] {
    let start = text[..at].iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
    let start = if start == 0 && text.starts_with(BOM) { BOM.len().min(at) } else { start };
    let len = text[start..at].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &text[start..start + len]
}

/// One piece of text in place of what is at `span`.
#[derive(Debug)]
pub struct Splice {
    pub span: Span,
    pub text: Vec<u8>,
}

/// The text with all splices made; they must not overlap.
pub fn splice(text: &[u8], mut splices: Vec<Splice>) -> Result<Vec<u8>> {
    splices.sort_by_key(|s| (s.span.start, s.span.end));
    let mut out = Vec::with_capacity(text.len() + splices.iter().map(|s| s.text.len()).sum::<usize>());
    let mut at = 0;
    for s in &splices {
        if s.span.start < at {
            return Err(Fault { at: s.span.start, what: "two tables of the plan overlap here".into() });
        }
        out.extend_from_slice(&text[at..s.span.start]);
        out.extend_from_slice(&s.text);
        at = s.span.end;
    }
    out.extend_from_slice(&text[at..]);
    Ok(out)
}
