//! The one reading of a whole text that refuses what is no JSON.

use std::io;

use xxhash_rust::xxh3::xxh3_128;

use super::source::{Reader, Span};
use super::style::{Shape, Space, Style, Survey};
use super::text::{BOM, Fault, decode, hex4, past_string};

/// Deeper nesting than this is refused (Python's own readers stop at about the same).
const DEEPEST: usize = 1000;

/// Why a reading ended.
#[derive(Debug)]
pub enum Stop {
    Fault(Fault),
    Read(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Stop {
        Stop::Read(e)
    }
}

type Result<T> = std::result::Result<T, Stop>;

/// Reads the whole text: one JSON value, no member twice in an object. Returns where the value is and how it is written.
pub fn check(text: &mut Reader<'_>) -> Result<(Span, Style)> {
    if let Some(at) = text.not_utf8()? {
        return Err(Fault { at, what: "is not UTF-8".into() }.into());
    }
    let mut s = Scanner { text, at: 0, names: Vec::new(), survey: Survey::default() };
    if s.text.fill(0, BOM.len())?.starts_with(BOM) {
        s.at = BOM.len();
    }
    s.space()?;
    if s.ends()? {
        return s.fault("is empty; an application that was writing it may have died");
    }
    let start = s.at;
    s.value()?;
    let root = Span { start, end: s.at };
    s.space()?;
    if !s.ends()? {
        return s.fault("there is something after the end of the document");
    }
    Ok((root, s.survey.style(s.text)?))
}

/// The name of a member: the hash of what it says, and where it stands. Few bytes, as an object may have very many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    hash: [u64; 2],
    at: usize,
}

/// A list that is open.
struct Level {
    shape: Shape,
    /// The length of the indentation of the line in which its entries begin.
    indent: usize,
    /// How many names there were before its own.
    names: usize,
}

struct Scanner<'r, 't> {
    text: &'r mut Reader<'t>,
    at: usize,
    /// Those of all objects that are open.
    names: Vec<Name>,
    survey: Survey,
}

impl Scanner<'_, '_> {
    fn fault<T>(&self, what: &str) -> Result<T> {
        Err(Fault { at: self.at, what: what.into() }.into())
    }

    fn unexpected<T>(&mut self, wanted: &str) -> Result<T> {
        let found = match self.text.fill(self.at, 12)? {
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

    fn ends(&mut self) -> Result<bool> {
        Ok(self.text.get(self.at)?.is_none())
    }

    #[inline]
    fn peek(&mut self) -> Result<u8> {
        Ok(self.text.get(self.at)?.unwrap_or(0))
    }

    #[inline]
    fn space(&mut self) -> Result<Space> {
        let mut space = Space { span: Span { start: self.at, end: self.at }, line: None, crlf: false };
        let mut last = 0;
        loop {
            match self.peek()? {
                b'\n' => {
                    space.crlf = last == b'\r';
                    space.line = Some(self.at + 1);
                    last = b'\n';
                }
                b @ (b' ' | b'\t' | b'\r') => last = b,
                _ => break,
            }
            self.at += 1;
        }
        space.span.end = self.at;
        Ok(space)
    }

    /// The value that begins here, with all that is in it.
    fn value(&mut self) -> Result<()> {
        let mut open: Vec<Level> = Vec::new();
        'value: loop {
            if open.len() > DEEPEST {
                return self.fault("is nested too deeply");
            }
            match self.peek()? {
                b @ (b'{' | b'[') => {
                    let shape = if b == b'{' { Shape::Object } else { Shape::Array };
                    if let Some(level) = self.opened(shape, &open)? {
                        open.push(level);
                        continue 'value;
                    }
                }
                b'"' => self.string().map(|_| ())?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => return self.unexpected("a value"),
            }
            while let Some(level) = open.last() {
                if self.next(level)? {
                    continue 'value;
                }
                open.pop();
            }
            return Ok(());
        }
    }

    /// After the bracket of a list: up to its first value; nothing if there is none.
    fn opened(&mut self, shape: Shape, around: &[Level]) -> Result<Option<Level>> {
        self.at += 1;
        let open = self.space()?;
        if self.peek()? == shape.brackets().1 {
            self.at += 1;
            return Ok(None);
        }
        let indent = around.last().map_or(0, |l| l.indent);
        let indent = self.survey.opened(shape, around.len(), open, indent);
        let level = Level { shape, indent, names: self.names.len() };
        if shape == Shape::Object {
            self.name()?;
        }
        Ok(Some(level))
    }

    /// After a value in a list: up to the next one, or past the end of the list.
    fn next(&mut self, level: &Level) -> Result<bool> {
        let close = level.shape.brackets().1;
        let before = self.space()?;
        match self.peek()? {
            b',' => {
                self.at += 1;
                let after = self.space()?;
                self.survey.comma(before.span, after);
                if self.peek()? == close {
                    return self.unexpected("the next entry after `,`");
                }
                if level.shape == Shape::Object {
                    self.name()?;
                }
                Ok(true)
            }
            b if b == close => {
                self.at += 1;
                if level.shape == Shape::Object {
                    self.unique(level.names)?;
                    self.names.truncate(level.names);
                }
                Ok(false)
            }
            _ => self.unexpected(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" }),
        }
    }

    /// A member's name, up to its value.
    fn name(&mut self) -> Result<()> {
        if self.peek()? != b'"' {
            return self.unexpected("a member's name in double quotes");
        }
        let name = self.string()?;
        let hash = xxh3_128(&decode(self.text.slice(name)?).0);
        self.names.push(Name { hash: halves(hash), at: name.start });
        let before = self.space()?;
        if self.peek()? != b':' {
            return self.unexpected("`:`");
        }
        self.at += 1;
        let after = self.space()?;
        self.survey.colon(before.span, after.span);
        Ok(())
    }

    /// No name twice among those from `first` on; names are compared as decoded.
    fn unique(&mut self, first: usize) -> Result<()> {
        let names = &mut self.names[first..];
        names.sort_unstable();
        let mut twice: Option<Span> = None;
        for (i, name) in names.iter().enumerate() {
            for other in names[..i].iter().rev().take_while(|n| n.hash == name.hash) {
                let (a, b) = (string_at(self.text, other.at)?, string_at(self.text, name.at)?);
                let before = decode(self.text.slice(a)?).0.into_owned();
                if before == *decode(self.text.slice(b)?).0 {
                    twice = twice.filter(|t| t.start < b.start).or(Some(b));
                    break;
                }
            }
        }
        let Some(name) = twice else { return Ok(()) };
        let title = String::from_utf8_lossy(self.text.slice(name)?).into_owned();
        Err(Fault { at: name.start, what: format!("the member {title} is there twice in one object") }.into())
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if self.text.fill(self.at, word.len())?.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.unexpected("a value")
    }

    fn digits(&mut self) -> Result<()> {
        if !self.peek()?.is_ascii_digit() {
            return self.unexpected("a digit");
        }
        while self.peek()?.is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
            if self.peek()?.is_ascii_digit() {
                return self.fault("a number begins with 0");
            }
        } else {
            self.digits()?;
        }
        if self.peek()? == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek()?, b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
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
            let piece = self.text.fill(self.at, 1)?;
            let plain = piece.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20));
            let n = plain.inspect(|b| self.survey.plain(**b)).count();
            let next = piece.get(n).copied();
            let ends = piece.is_empty();
            self.at += n;
            match next {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Span { start, end: self.at });
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fault("a control character that should be written as an escape"),
                None if ends => {
                    self.at = start;
                    return self.fault("a string that does not end");
                }
                None => {}
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        // two units at most: `\uXXXX\uXXXX`
        let raw = self.text.fill(self.at, 12)?;
        match raw.get(1).copied() {
            Some(b'u') => {
                let Some(unit) = hex4(raw, 2) else {
                    return self.fault("`\\u` without four hexadecimal digits");
                };
                let pair = (0xD800..0xDC00).contains(&unit)
                    && raw.get(6..8) == Some(b"\\u")
                    && hex4(raw, 8).is_some_and(|low| (0xDC00..0xE000).contains(&low));
                let lone = !pair && (0xD800..0xE000).contains(&unit);
                let end = if pair { 12 } else { 6 };
                self.survey.escaped(&raw[..end], unit, lone);
                self.at += end;
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

/// The string that begins at `at`.
fn string_at(text: &mut Reader<'_>, at: usize) -> Result<Span> {
    Ok(Span { start: at, end: past_string(text, at)? })
}

/// A hash as two halves, which need no space between other things.
pub fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}
