//! Reading TOML so that whatever is wrong can be shown where it stands.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file a user wrote that cannot be used as it is. `Display` is one line for people; [`hint`](ConfigError::hint) says
/// what to do, [`place`](ConfigError::place) where to look.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Something at one place of a file.
    #[error("{place}: {message}")]
    At {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Something about a file or folder as a whole.
    #[error("{}: {message}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {cause}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
        /// What to do.
        hint: Option<String>,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        let (ConfigError::At { hint, .. } | ConfigError::File { hint, .. } | ConfigError::Read { hint, .. }) = self;
        hint.as_deref()
    }

    /// Where it stands, if it stands somewhere.
    pub fn place(&self) -> Option<&Place> {
        match self {
            ConfigError::At { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The source line with a mark below the place, if it stands somewhere.
    pub fn excerpt(&self) -> Option<String> {
        let place = self.place()?;
        let gutter = " ".repeat(place.at.line.to_string().len());
        let before: String =
            place.source.chars().take(place.at.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        Some(format!(" {gutter} |\n {} | {}\n {gutter} | {before}^", place.at.line, place.source))
    }

    /// All of it for a terminal: the message, the source line with a mark below the place, the hint.
    pub fn shown(&self) -> String {
        let mut text = self.to_string();
        if let Some(excerpt) = self.excerpt() {
            text += &format!("\n{excerpt}");
        }
        if let Some(hint) = self.hint() {
            text += &format!("\n  hint: {hint}");
        }
        text
    }
}

/// A line and a column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line and column.
    pub at: At,
    /// That line, with secrets masked.
    pub source: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.at.line, self.at.column)
    }
}

/// Line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Default for At {
    fn default() -> At {
        At { line: 1, column: 1 }
    }
}

/// A file's name and text.
#[derive(Clone, Copy)]
pub(crate) struct Document<'t> {
    pub file: &'t Path,
    pub text: &'t str,
}

impl<'t> Document<'t> {
    pub fn parse(&self) -> Result<Spanned<DeTable<'t>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            self.error(error.span().map_or(0, |span| span.start), format!("this is not TOML: {message}"), None)
        })
    }

    pub fn at(&self, offset: usize) -> At {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let begin = before.rfind('\n').map_or(0, |i| i + 1);
        At { line: before.matches('\n').count() + 1, column: before[begin..].chars().count() + 1 }
    }

    pub fn error(&self, offset: usize, message: impl Into<String>, hint: Option<String>) -> ConfigError {
        let at = self.at(offset);
        ConfigError::At { place: self.place(at), message: message.into(), hint }
    }

    /// The place with its line, in which no secret shows: neither a URL's password nor what a switch sets or a notice
    /// is sent to.
    pub fn place(&self, at: At) -> Place {
        let lines: Vec<&str> = self.text.lines().take(at.line).collect();
        let line = lines.get(at.line - 1).copied().unwrap_or_default();
        let word = |line: &str| -> String {
            line.trim_start_matches(['[', ' ', '\t']).chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let header = lines.iter().rev().find(|l| l.trim_start().starts_with('[')).map(|l| word(l));
        let secret = matches!(header.as_deref(), Some("switch" | "notify"))
            && !line.trim_start().starts_with('[')
            && !matches!(word(line.trim_start()).as_str(), "dotenv" | "file" | "with" | "flag" | "on" | "after");
        let source = if secret { mask_quoted(line) } else { super::redact_keeping_length(line) };
        Place { file: self.file.to_owned(), at, source }
    }
}

/// The line with the inside of each quoted text masked, as long as before.
fn mask_quoted(line: &str) -> String {
    let mut open = None;
    line.chars()
        .map(|c| match open {
            None if c == '"' || c == '\'' => {
                open = Some(c);
                c
            }
            Some(quote) if c == quote => {
                open = None;
                c
            }
            Some(_) => '*',
            None => c,
        })
        .collect()
}

/// ", did you mean `x`?" for the nearest of `known`, when one is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.chars().count().max(word.chars().count()) / 4)
        .min()
        .map(|(_, k)| format!("did you mean `{k}`?"))
}

/// A text and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub value: String,
    pub start: usize,
}

/// One table of a document, whose keys are all known.
pub(super) struct Section<'d> {
    pub doc: Document<'d>,
    /// As a person writes it: `[rollback]`; empty for the top of the file.
    pub name: String,
    pub start: usize,
    table: &'d DeTable<'d>,
    known: &'static [&'static str],
}

impl<'d> Section<'d> {
    /// The section, or an error naming a key that is not `known` and the nearest that is.
    pub fn new(
        doc: Document<'d>,
        name: &str,
        table: &'d DeTable<'d>,
        start: usize,
        known: &'static [&'static str],
    ) -> Result<Section<'d>, ConfigError> {
        let section = Section { doc, name: name.to_owned(), start, table, known };
        let mut keys: Vec<_> = table.keys().map(|key| (key.span().start, key.get_ref())).collect();
        keys.sort();
        for (at, key) in keys {
            if !known.contains(&key.as_ref()) {
                let hint = did_you_mean(key, known.iter().copied())
                    .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
                return Err(doc.error(at, format!("unknown key `{key}`{}", section.within()), Some(hint)));
            }
        }
        Ok(section)
    }

    fn within(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) }
    }

    fn get(&self, key: &str) -> Option<(Range<usize>, &'d DeValue<'d>)> {
        debug_assert!(self.known.contains(&key), "{key} is read but not among the known keys of {}", self.name);
        self.table.get(key).map(|value| (value.span(), value.get_ref()))
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Where `key` stands (its value), or the section itself.
    pub fn start_of(&self, key: &str) -> usize {
        self.get(key).map_or(self.start, |(span, _)| span.start)
    }

    fn wrong(&self, key: &str, start: usize, wanted: &str, found: &DeValue<'_>) -> ConfigError {
        self.doc.error(start, format!("`{key}`{} is {}, not {wanted}", self.within(), a(found)), None)
    }

    pub fn missing(&self, key: &str, hint: &str) -> ConfigError {
        let name = if self.name.is_empty() { "this file" } else { &self.name };
        self.doc.error(self.start, format!("{name} lacks `{key}`"), Some(hint.to_owned()))
    }

    pub fn text(&self, key: &str) -> Result<Option<Text>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some((span, DeValue::String(value))) => {
                let text = Text { value: value.to_string(), start: span.start };
                if text.value.trim().is_empty() {
                    return Err(self.doc.error(span.start, format!("`{key}`{} is empty", self.within()), None));
                }
                if text.value.contains('\0') {
                    let message = format!("`{key}`{} holds a NUL character", self.within());
                    return Err(self.doc.error(span.start, message, None));
                }
                Ok(Some(text))
            }
            Some((span, other)) => Err(self.wrong(key, span.start, "a text", other)),
        }
    }

    /// `source`, which alone may be empty.
    pub fn source(&self) -> Result<Option<Text>, ConfigError> {
        match self.get("source") {
            Some((span, DeValue::String(value))) if value.is_empty() => {
                Ok(Some(Text { value: String::new(), start: span.start }))
            }
            _ => self.text("source"),
        }
    }

    pub fn required(&self, key: &str, hint: &str) -> Result<Text, ConfigError> {
        self.text(key)?.ok_or_else(|| self.missing(key, hint))
    }

    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some((_, DeValue::Boolean(value))) => Ok(*value),
            Some((span, other)) => Err(self.wrong(key, span.start, "true or false", other)),
        }
    }

    /// A whole number of a thousand at least.
    pub fn thousands(&self, key: &str, default: u64) -> Result<u64, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some((span, other)) => match other.as_integer().and_then(|i| i.as_str().parse().ok()) {
                Some(n) if n >= 1000 => Ok(n),
                _ => Err(self.wrong(key, span.start, "a whole number, 1000 at least", other)),
            },
        }
    }

    /// A whole number, 0 at least.
    pub fn number(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        let Some((span, value)) = self.get(key) else { return Ok(None) };
        match value.as_integer().and_then(|i| i.as_str().parse().ok()) {
            Some(n) if n >= 0 => Ok(Some(n)),
            _ => Err(self.wrong(key, span.start, "a whole number, 0 at least", value)),
        }
    }

    pub fn duration(&self, key: &str, default: Duration) -> Result<Duration, ConfigError> {
        let hint = || Some(r#"a duration is a text such as "90s", "5m", "24h", "7d" or "1h30m""#.to_owned());
        match self.get(key) {
            None => Ok(default),
            Some((span, DeValue::String(value))) => duration(value).ok_or_else(|| {
                self.doc.error(span.start, format!("`{key}`{}: \"{value}\" is no duration", self.within()), hint())
            }),
            Some((span, other)) => {
                let message = format!("`{key}`{} is {}, not a duration", self.within(), a(other));
                Err(self.doc.error(span.start, message, hint()))
            }
        }
    }

    /// A list of texts, none empty and none twice; `one` allows a single text in place of a list of one.
    pub fn texts(&self, key: &str, one: bool) -> Result<Vec<Text>, ConfigError> {
        let Some((span, value)) = self.get(key) else { return Ok(Vec::new()) };
        if one && value.is_str() {
            return Ok(self.text(key)?.into_iter().collect());
        }
        let DeValue::Array(items) = value else {
            return Err(self.wrong(key, span.start, if one { "a text or a list of texts" } else { "a list" }, value));
        };
        if items.is_empty() {
            return Err(self.doc.error(span.start, format!("`{key}`{} is an empty list", self.within()), None));
        }
        let mut texts: Vec<Text> = Vec::new();
        for item in items.iter() {
            let start = item.span().start;
            match item.get_ref() {
                DeValue::String(value) if value.trim().is_empty() => {
                    return Err(self.doc.error(start, format!("an empty text in `{key}`{}", self.within()), None));
                }
                DeValue::String(value) if texts.iter().any(|t| t.value == **value) => {
                    return Err(self.doc.error(start, format!("`{value}` stands twice in `{key}`"), None));
                }
                DeValue::String(value) => texts.push(Text { value: value.to_string(), start }),
                other => return Err(self.wrong(key, start, "a list of texts", other)),
            }
        }
        Ok(texts)
    }

    /// A table of texts under names that the user chose, in the file's order.
    pub fn pairs(&self, key: &str) -> Result<Vec<(Text, Text)>, ConfigError> {
        let Some((span, value)) = self.get(key) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = value else { return Err(self.wrong(key, span.start, "a table", value)) };
        pairs(self.doc, key, table)
    }

    /// The table under `key`.
    pub fn section(&self, key: &str, known: &'static [&'static str]) -> Result<Option<Section<'d>>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some((span, DeValue::Table(table))) => {
                Section::new(self.doc, &format!("[{key}]"), table, span.start, known).map(Some)
            }
            Some((span, other)) => Err(self.wrong(key, span.start, &format!("a table [{key}]"), other)),
        }
    }

    /// The tables under `key`, written `[[name]]`.
    pub fn sections(
        &self,
        key: &str,
        name: &str,
        known: &'static [&'static str],
    ) -> Result<Vec<Section<'d>>, ConfigError> {
        let Some((span, value)) = self.get(key) else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value else {
            let hint = Some(format!("write [[{name}]], with two brackets"));
            return Err(self.doc.error(span.start, format!("`{name}` is {}, not a list of tables", a(value)), hint));
        };
        items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(table) => {
                    Section::new(self.doc, &format!("[[{name}]]"), table, item.span().start, known)
                }
                other => Err(self.wrong(key, item.span().start, &format!("a list of tables [[{name}]]"), other)),
            })
            .collect()
    }
}

/// All entries of a table of texts, in the file's order.
pub(super) fn pairs<'d>(
    doc: Document<'d>,
    name: &str,
    table: &'d DeTable<'d>,
) -> Result<Vec<(Text, Text)>, ConfigError> {
    let mut found = Vec::new();
    for (key, value) in table.iter() {
        let DeValue::String(text) = value.get_ref() else {
            let message = format!("`{}` in `{name}` is {}, not a text", key.get_ref(), a(value.get_ref()));
            return Err(doc.error(value.span().start, message, Some("put it in quotes".into())));
        };
        if text.contains('\0') {
            let message = format!("`{}` in `{name}` holds a NUL character", key.get_ref());
            return Err(doc.error(value.span().start, message, None));
        }
        found.push((
            Text { value: key.get_ref().to_string(), start: key.span().start },
            Text { value: text.to_string(), start: value.span().start },
        ));
    }
    found.sort_by_key(|(key, _)| key.start);
    Ok(found)
}

fn a(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `90s`, `5m`, `24h`, `7d`, `250ms`, or several of them in a row; more than nothing.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let ms: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(Duration::from_millis(number.checked_mul(ms)?))?;
    }
    (total > Duration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let seconds = |s: u64| Some(Duration::from_secs(s));
        for (text, wanted) in [
            ("90s", seconds(90)),
            ("5m", seconds(300)),
            ("24h", seconds(86_400)),
            ("7d", seconds(604_800)),
            ("1h30m", seconds(5_400)),
            ("1h 30m", seconds(5_400)),
            ("250ms", Some(Duration::from_millis(250))),
            ("0s", None),
            ("", None),
            ("5", None),
            ("m", None),
            ("-5m", None),
            ("1.5h", None),
            ("5 parsecs", None),
            ("99999999999999999999d", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(duration(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_column_counts_characters_and_survives_any_offset() {
        let doc = Document { file: Path::new("x"), text: "a\r\nüü = é\n" };
        assert_eq!(doc.at(3), At { line: 2, column: 1 });
        assert_eq!(doc.at(7), At { line: 2, column: 3 });
        assert_eq!(doc.at(4), At { line: 2, column: 1 }, "inside of a character");
        assert_eq!(doc.at(999).line, 3);
    }
}
