//! How a JSON file is written, and writing more of it in the same way.

use std::io;

use super::source::{Reader, Span};
use super::text::{decode, items, members};

/// An object or an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Object,
    Array,
}

impl Shape {
    pub fn brackets(self) -> (u8, u8) {
        match self {
            Shape::Object => (b'{', b'}'),
            Shape::Array => (b'[', b']'),
        }
    }
}

/// Depths told apart when counting which lists are on one line.
const DEPTHS: usize = 24;

/// What is noted while a text is read.
pub struct Survey {
    plain: [bool; 256],
    coded: [bool; 128],
    slash: bool,
    beyond_ascii: bool,
    upper: Option<bool>,
    /// Per shape and depth: lists over several lines, lists on one.
    counts: [[(u32, u32); DEPTHS]; 2],
    unit: Option<Span>,
    crlf: Option<bool>,
    colon: Option<(Span, Span)>,
    comma_line: Option<(Span, Span)>,
    comma_flat: Option<(Span, Span)>,
    pad: [Option<Span>; 2],
}

impl Default for Survey {
    fn default() -> Self {
        Survey {
            plain: [false; 256],
            coded: [false; 128],
            slash: false,
            beyond_ascii: false,
            upper: None,
            counts: [[(0, 0); DEPTHS]; 2],
            unit: None,
            crlf: None,
            colon: None,
            comma_line: None,
            comma_flat: None,
            pad: [None; 2],
        }
    }
}

/// Space between two tokens.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub span: Span,
    /// Where its last line begins, if there is a line break in it.
    pub line: Option<usize>,
    /// That line break is `\r\n`.
    pub crlf: bool,
}

impl Survey {
    #[inline]
    pub fn plain(&mut self, byte: u8) {
        self.plain[usize::from(byte)] = true;
    }

    pub fn slash(&mut self) {
        self.slash = true;
    }

    /// `\uXXXX`, or a pair of them.
    pub fn escaped(&mut self, raw: &[u8], unit: u32, lone: bool) {
        if unit < 128 {
            self.coded[unit as usize] = true;
        } else if !lone {
            self.beyond_ascii = true;
        }
        if self.upper.is_none()
            && let Some(letter) = raw.iter().find(|b| b.is_ascii_alphabetic() && **b != b'u')
        {
            self.upper = Some(letter.is_ascii_uppercase());
        }
    }

    /// A list that is not empty begins; `open` is the space before its first entry. Returns the length of the
    /// indentation of the line that entry is in.
    pub fn opened(&mut self, shape: Shape, depth: usize, open: Space, indent: usize) -> usize {
        let count = &mut self.counts[shape as usize][depth.min(DEPTHS - 1)];
        let Some(line) = open.line else {
            count.1 += 1;
            self.pad[shape as usize].get_or_insert(open.span);
            return indent;
        };
        count.0 += 1;
        let end = open.span.end;
        let inner = end - line;
        if self.unit.is_none() {
            self.crlf = Some(open.crlf);
            self.unit = Some(Span { start: end - inner.saturating_sub(indent), end });
        }
        inner
    }

    #[inline]
    pub fn colon(&mut self, before: Span, after: Span) {
        if self.colon.is_none() {
            self.colon = Some((before, after));
        }
    }

    #[inline]
    pub fn comma(&mut self, before: Span, after: Space) {
        if self.comma_line.is_some() && self.comma_flat.is_some() {
            return;
        }
        let kind = if after.line.is_some() { &mut self.comma_line } else { &mut self.comma_flat };
        kind.get_or_insert((before, after.span));
    }

    /// What all this says of the file.
    pub fn style(&self, text: &mut Reader<'_>) -> io::Result<Style> {
        let mut read = |span: Span| text.slice(span).map(<[u8]>::to_vec);
        let mut both =
            |pair: Option<(Span, Span)>| pair.map(|(b, a)| Ok::<_, io::Error>((read(b)?, read(a)?))).transpose();
        let (colon, comma_flat, comma_line) = (both(self.colon)?, both(self.comma_flat)?, both(self.comma_line)?);
        let breaks = |space: &[u8]| space.contains(&b'\n');
        let around = |mark: u8, pair: Option<(Vec<u8>, Vec<u8>)>, otherwise: &[u8]| match pair {
            Some((b, a)) if !breaks(&b) && !breaks(&a) => [&b[..], &[mark], &a].concat(),
            _ => otherwise.to_vec(),
        };
        let colon = around(b':', colon, b": ");
        let comma_flat = around(b',', comma_flat, if colon.ends_with(b":") { b"," } else { b", " });
        // What stands before and after the comma in its line (Python 2 wrote a space at the end of each).
        let comma_line = match comma_line {
            Some((b, a)) if !breaks(&b) => {
                let rest: Vec<u8> = a.iter().copied().take_while(|b| matches!(b, b' ' | b'\t')).collect();
                [&b[..], b",", &rest].concat()
            }
            _ => b",".to_vec(),
        };
        let mut one = |span: Option<Span>| span.map(|s| text.slice(s).map(<[u8]>::to_vec)).transpose();
        let (unit, pad) = (one(self.unit)?, [one(self.pad[0])?, one(self.pad[1])?].map(Option::unwrap_or_default));
        let mut coded = [false; 128];
        for (code, coded) in coded.iter_mut().enumerate() {
            *coded = self.coded[code] && !self.plain[code];
        }
        let ascii = self.beyond_ascii && !self.plain[128..].contains(&true);
        coded[127] |= ascii && !self.plain[127];
        Ok(Style {
            unit,
            newline: if self.crlf == Some(true) { b"\r\n".to_vec() } else { b"\n".to_vec() },
            colon,
            comma_line,
            comma_flat,
            pad,
            counts: self.counts,
            ascii,
            coded,
            slash: self.slash && !self.plain[usize::from(b'/')],
            upper: self.upper == Some(true),
        })
    }
}

/// How a file is written.
#[derive(Clone, Debug)]
pub struct Style {
    /// What each level is indented by; `None`: nothing in the file is.
    pub unit: Option<Vec<u8>>,
    pub newline: Vec<u8>,
    pub colon: Vec<u8>,
    pub comma_line: Vec<u8>,
    pub comma_flat: Vec<u8>,
    pad: [Vec<u8>; 2],
    counts: [[(u32, u32); DEPTHS]; 2],
    ascii: bool,
    coded: [bool; 128],
    slash: bool,
    upper: bool,
}

/// Where a value will stand.
#[derive(Clone, Debug)]
pub struct Place {
    /// How many lists it is in.
    pub depth: usize,
    /// The space at the beginning of its line.
    pub indent: Vec<u8>,
    /// It is in a list on one line, and so must be on one itself.
    pub flat: bool,
}

impl Style {
    /// Whether a list of this shape at this depth goes on one line, as most of its like do.
    pub fn flat(&self, shape: Shape, depth: usize) -> bool {
        if self.unit.is_none() {
            return true;
        }
        let counts = &self.counts[shape as usize];
        let depth = depth.min(DEPTHS - 1);
        let near = (0..=depth).rev().chain(depth + 1..DEPTHS).find(|&d| counts[d] != (0, 0));
        near.is_some_and(|d| counts[d].1 > counts[d].0)
    }

    /// Whether lists at this depth are mostly over several lines.
    pub fn broken(&self, depth: usize) -> bool {
        let depth = depth.min(DEPTHS - 1);
        self.counts.iter().any(|c| c[depth].0 > c[depth].1)
    }

    /// Writes a string with its quotes.
    pub fn string(&self, text: &str, out: &mut Vec<u8>) {
        out.push(b'"');
        for c in text.chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '/' if self.slash => out.extend_from_slice(b"\\/"),
                '\u{8}' => out.extend_from_slice(b"\\b"),
                '\u{c}' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c < ' ' || (c.is_ascii() && self.coded[c as usize]) || (!c.is_ascii() && self.ascii) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let code = if self.upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                        out.extend_from_slice(code.as_bytes());
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.push(b'"');
    }

    /// Writes a list of `n` entries, each by `entry`.
    pub fn list(
        &self,
        shape: Shape,
        place: &Place,
        n: usize,
        out: &mut Vec<u8>,
        mut entry: impl FnMut(usize, &Place, &mut Vec<u8>),
    ) {
        let (open, close) = shape.brackets();
        out.push(open);
        if n > 0 {
            let inner = self.inside(shape, place);
            let (before, between, after) = self.seams(shape, place, &inner);
            out.extend_from_slice(&before);
            for i in 0..n {
                if i > 0 {
                    out.extend_from_slice(&between);
                }
                entry(i, &inner, out);
            }
            out.extend_from_slice(&after);
        }
        out.push(close);
    }

    /// Where the entries of a list that stands at `place` stand.
    pub fn inside(&self, shape: Shape, place: &Place) -> Place {
        let flat = place.flat || self.flat(shape, place.depth);
        let mut indent = place.indent.clone();
        if !flat {
            indent.extend_from_slice(self.unit.as_deref().unwrap_or_default());
        }
        Place { depth: place.depth + 1, indent, flat }
    }

    /// What goes before the first entry, between two, and after the last.
    pub fn seams(&self, shape: Shape, place: &Place, inner: &Place) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        if inner.flat {
            let pad = self.pad[shape as usize].clone();
            return (pad.clone(), self.comma_flat.clone(), pad);
        }
        let before = [&self.newline[..], &inner.indent].concat();
        let between = [&self.comma_line[..], &before].concat();
        let after = [&self.newline[..], &place.indent].concat();
        (before, between, after)
    }

    /// Writes valid JSON text laid out in this style; numbers and strings stay as they are spelled.
    pub fn json(&self, raw: &[u8], place: &Place, out: &mut Vec<u8>) {
        let start = raw.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let all = Span { start, end: raw.len() };
        match raw.get(start) {
            Some(b'{') => {
                let list: Vec<_> = members(raw, all).collect();
                self.list(Shape::Object, place, list.len(), out, |i, inner, out| {
                    out.extend_from_slice(list[i].name.of(raw));
                    out.extend_from_slice(&self.colon);
                    self.json(list[i].value.of(raw), inner, out);
                });
            }
            Some(b'[') => {
                let list: Vec<_> = items(raw, all).collect();
                self.list(Shape::Array, place, list.len(), out, |i, inner, out| {
                    self.json(list[i].of(raw), inner, out);
                });
            }
            _ => out.extend_from_slice(raw.trim_ascii()),
        }
    }

    /// A member's name as it is to be written: `raw` is text, or with `spelled` a JSON string in its own spelling.
    pub fn name(&self, raw: &[u8], spelled: bool) -> Option<Vec<u8>> {
        if spelled {
            return (raw.first() == Some(&b'"') && decode(raw).1).then(|| raw.to_vec());
        }
        let mut out = Vec::new();
        self.string(std::str::from_utf8(raw).ok()?, &mut out);
        Some(out)
    }
}
