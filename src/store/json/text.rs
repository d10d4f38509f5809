//! JSON as text: where things are in it, and what they say; it is left as it is.
//!
//! Nothing here builds a tree. `check` has read the whole text once and refused what is no JSON; after it, `entry`,
//! `members` and `items` find the spans of one level.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{self, Write};

use super::source::{Reader, Span, Text};
use super::style::Shape;
use crate::value::Value;

/// One member of an object: its name (with quotes) and its value.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub name: Span,
    pub value: Span,
}

/// What is wrong, and at which byte.
#[derive(Debug)]
pub struct Fault {
    pub at: usize,
    pub what: String,
}

/// Line and column (both from 1; columns are characters) of a byte.
pub fn place(text: &mut Reader<'_>, at: usize) -> io::Result<(usize, usize)> {
    let (mut line, mut column, mut next) = (1, 1, 0);
    while next < at {
        let piece = text.fill(next, 1)?;
        let piece = &piece[..piece.len().min(at - next)];
        if piece.is_empty() {
            break;
        }
        for &b in piece {
            if b == b'\n' {
                (line, column) = (line + 1, 1);
            } else if b & 0xC0 != 0x80 {
                column += 1;
            }
        }
        next += piece.len();
    }
    let mark = line == 1 && at >= BOM.len() && text.fill(0, BOM.len())?.starts_with(BOM);
    Ok((line, column - usize::from(mark)))
}

/// The byte-order mark that some editors put first.
pub const BOM: &[u8] = b"\xEF\xBB\xBF";

pub fn hex4(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, &d| Some(n * 16 + char::from(d).to_digit(16)?))
}

// ── after `check` ──────────────────────────────────────────────────────────────────────────────────────────────────

/// What is read byte by byte: a text in memory, where nothing can fail, or one in a file.
pub trait Bytes {
    type Error;
    fn byte(&mut self, at: usize) -> Result<Option<u8>, Self::Error>;
}

impl Bytes for &[u8] {
    type Error = Infallible;
    #[inline]
    fn byte(&mut self, at: usize) -> Result<Option<u8>, Infallible> {
        Ok(<[u8]>::get(self, at).copied())
    }
}

impl Bytes for Reader<'_> {
    type Error = io::Error;
    #[inline]
    fn byte(&mut self, at: usize) -> Result<Option<u8>, io::Error> {
        self.get(at)
    }
}

fn past_space<B: Bytes>(text: &mut B, mut at: usize) -> Result<usize, B::Error> {
    while matches!(text.byte(at)?, Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    Ok(at)
}

/// Past the string that begins at `at`.
pub fn past_string<B: Bytes>(text: &mut B, mut at: usize) -> Result<usize, B::Error> {
    at += 1;
    while let Some(b) = text.byte(at)? {
        match b {
            b'"' => return Ok(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// Past the value that begins at `at`.
fn past_value<B: Bytes>(text: &mut B, mut at: usize) -> Result<usize, B::Error> {
    let mut depth = 0usize;
    while let Some(b) = text.byte(at)? {
        match b {
            b'"' => at = past_string(text, at)?,
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
                while text.byte(at)?.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            break;
        }
    }
    Ok(at)
}

/// Past `,` and the space around it; at the closing bracket there is none.
fn past_comma<B: Bytes>(text: &mut B, at: usize) -> Result<usize, B::Error> {
    let at = past_space(text, at)?;
    if text.byte(at)? == Some(b',') { past_space(text, at + 1) } else { Ok(at) }
}

/// An entry of a list: in an object its name (with quotes), its value, and where the next one begins.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: Option<Span>,
    pub value: Span,
    pub next: usize,
}

/// Where the first entry of the list at `span` begins.
pub fn inside<B: Bytes>(text: &mut B, span: Span) -> Result<usize, B::Error> {
    past_space(text, span.start + 1)
}

/// The entry that begins at `at`, in a text that `check` passed; none at the closing bracket.
#[inline]
pub fn entry<B: Bytes>(text: &mut B, shape: Shape, at: usize) -> Result<Option<Entry>, B::Error> {
    let (name, start) = match (shape, text.byte(at)?) {
        (_, None | Some(b']' | b'}')) => return Ok(None),
        (Shape::Array, _) => (None, at),
        (Shape::Object, _) => {
            let name = Span { start: at, end: past_string(text, at)? };
            let colon = past_space(text, name.end)?;
            (Some(name), past_space(text, colon + 1)?)
        }
    };
    let value = Span { start, end: past_value(text, start)? };
    Ok(Some(Entry { name, value, next: past_comma(text, value.end)? }))
}

/// The members of the object at `span`.
pub fn members(mut text: &[u8], span: Span) -> impl Iterator<Item = Member> {
    let Ok(mut at) = inside(&mut text, span);
    std::iter::from_fn(move || {
        let Ok(found) = entry(&mut text, Shape::Object, at);
        let found = found?;
        at = found.next;
        Some(Member { name: found.name?, value: found.value })
    })
}

/// The elements of the array at `span`.
pub fn items(mut text: &[u8], span: Span) -> impl Iterator<Item = Span> {
    let Ok(mut at) = inside(&mut text, span);
    std::iter::from_fn(move || {
        let Ok(found) = entry(&mut text, Shape::Array, at);
        let found = found?;
        at = found.next;
        Some(found.value)
    })
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
            b'"' => {
                let Ok(end) = past_string(&mut &*raw, at);
                end.min(raw.len())
            }
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
pub fn line_indent(text: &mut Reader<'_>, at: usize) -> io::Result<Vec<u8>> {
    let start = text.line_start(at)?;
    let start = if start == 0 && text.fill(0, BOM.len())?.starts_with(BOM) { BOM.len().min(at) } else { start };
    let mut indent = Vec::new();
    while start + indent.len() < at
        && let Some(b @ (b' ' | b'\t')) = text.get(start + indent.len())?
    {
        indent.push(b);
    }
    Ok(indent)
}

/// One piece of text in place of what is at `span`.
#[derive(Debug)]
pub struct Splice {
    pub span: Span,
    pub text: Vec<u8>,
}

/// The splices in the order of the text; they must not overlap.
pub fn in_order(mut splices: Vec<Splice>) -> Result<Vec<Splice>, Fault> {
    splices.sort_by_key(|s| (s.span.start, s.span.end));
    match splices.windows(2).find(|s| s[1].span.start < s[0].span.end) {
        Some(s) => Err(Fault { at: s[1].span.start, what: "two tables of the plan overlap here".into() }),
        None => Ok(splices),
    }
}

/// Writes the text with these splices made, which are in order.
pub fn splice(text: &Text, splices: &[Splice], out: &mut dyn Write) -> io::Result<()> {
    let mut at = 0;
    for s in splices {
        text.copy(Span { start: at, end: s.span.start }, out)?;
        out.write_all(&s.text)?;
        at = s.span.end;
    }
    text.copy(Span { start: at, end: text.len }, out)
}
