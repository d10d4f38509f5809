//! The SQL of SQLite and PostgreSQL as tokens: what no smaller pieces can be cut from.

use crate::plan::Kind;

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

    /// Where it ends.
    pub fn end(&self) -> usize {
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

/// Something that begins at `start` and is not closed before the text ends.
pub(crate) struct Open {
    pub start: usize,
    pub is: Is,
    pub what: &'static str,
    pub wants: String,
}

/// Reads token after token.
pub(crate) struct Scanner<'t> {
    pub text: &'t str,
    pub kind: Kind,
    pub at: usize,
}

impl<'t> Scanner<'t> {
    pub fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// The next token, comments included; or what is never closed.
    pub fn next(&mut self) -> Option<Result<Token<'t>, Open>> {
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

    pub fn while_byte(&self, mut at: usize, fits: impl Fn(u8) -> bool) -> usize {
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

    pub fn line_end(&self, start: usize) -> usize {
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

pub(crate) fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}
