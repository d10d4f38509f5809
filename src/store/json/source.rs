//! Where a text is while it is worked with: not in memory, but in a copy without a name, read in pieces.
//!
//! The application may truncate its file and write it anew at any time, so that places found in it a moment ago mean
//! nothing. Hence a copy, made while the file is looked at: nobody can write it, it goes when the last reader lets go of
//! it, and a crash leaves nothing. It is made in the folder of the file, where there is room for as much again when the
//! file is to be replaced; where that may not be, in the system's folder for temporary files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// How much is read at once.
const PIECE: usize = 1 << 16;
/// A shorter text is kept in memory. (Less in debug builds, so that the tests take the longer way.)
const SHORT: usize = if cfg!(debug_assertions) { 256 } else { 1 << 20 };

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

    /// The same, of a text that stands at `at` in a longer one, as a place in the longer.
    pub fn beyond(&self, at: usize) -> Span {
        Span { start: at + self.start, end: at + self.end }
    }
}

/// A text that does not change.
#[derive(Debug)]
pub struct Text {
    memory: Vec<u8>,
    /// Where it is if not in memory.
    file: Option<File>,
    pub len: usize,
    piece: usize,
}

impl From<Vec<u8>> for Text {
    fn from(memory: Vec<u8>) -> Text {
        Text { len: memory.len(), memory, file: None, piece: PIECE }
    }
}

impl Text {
    /// What an open file holds that nobody else writes.
    pub fn in_file(file: File) -> io::Result<Text> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(Text { memory: Vec::new(), file: Some(file), len, piece: PIECE })
    }

    /// The same in a file, read in pieces of this size.
    #[cfg(test)]
    pub fn in_pieces(text: &[u8], piece: usize) -> Text {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Text { piece, ..Text::in_file(file).unwrap() }
    }

    /// A reader of all of it, or of what is near some place.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            file: self.file.as_ref(),
            end: self.len,
            piece: Cow::Borrowed(&self.memory),
            from: 0,
            size: self.piece,
        }
    }

    /// A reader of small things here and there.
    pub fn here_and_there(&self) -> Reader<'_> {
        Reader { size: self.piece.min(PIECE >> 4), ..self.reader() }
    }

    /// Writes the bytes of `span`.
    pub fn copy(&self, span: Span, out: &mut dyn Write) -> io::Result<()> {
        let mut reader = self.reader();
        let mut at = span.start;
        while at < span.end {
            let piece = reader.fill(at, 1)?;
            let n = piece.len().min(span.end - at);
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write_all(&piece[..n])?;
            at += n;
        }
        Ok(())
    }

    /// Writes all of it.
    pub fn pour(&self, out: &mut dyn Write) -> io::Result<()> {
        self.copy(Span { start: 0, end: self.len }, out)
    }
}

/// Reads a text anywhere, forwards best.
pub struct Reader<'t> {
    file: Option<&'t File>,
    end: usize,
    /// What was read last, and from where; of a text in memory all of it.
    piece: Cow<'t, [u8]>,
    from: usize,
    size: usize,
}

impl<'t> Reader<'t> {
    pub fn of(text: &'t [u8]) -> Reader<'t> {
        Reader { file: None, end: text.len(), piece: Cow::Borrowed(text), from: 0, size: PIECE }
    }

    /// What stands at `at` and after it: at least so many bytes, unless the text ends.
    pub fn fill(&mut self, at: usize, least: usize) -> io::Result<&[u8]> {
        if at >= self.end {
            return Ok(&[]);
        }
        let least = least.clamp(1, self.end - at);
        if let Some(file) = self.file
            && (at < self.from || at + least > self.from + self.piece.len())
        {
            let piece = self.piece.to_mut();
            piece.resize(self.size.max(least).min(self.end - at), 0);
            self.from = at;
            if let Err(e) = file.read_exact_at(piece, at as u64) {
                piece.clear();
                return Err(e);
            }
        }
        Ok(self.piece.get(at - self.from..).unwrap_or_default())
    }

    /// The bytes of `span`.
    pub fn slice(&mut self, span: Span) -> io::Result<&[u8]> {
        let len = span.end.saturating_sub(span.start);
        self.fill(span.start, len)?.get(..len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    #[inline]
    pub fn get(&mut self, at: usize) -> io::Result<Option<u8>> {
        if at >= self.from
            && let Some(b) = self.piece.get(at - self.from)
        {
            return Ok(Some(*b));
        }
        Ok(self.fill(at, 1)?.first().copied())
    }

    /// The first byte at which the text is not UTF-8.
    pub fn not_utf8(&mut self) -> io::Result<Option<usize>> {
        let mut at = 0;
        while at < self.end {
            // no character is longer than four bytes
            let piece = self.fill(at, 4)?;
            match std::str::from_utf8(piece) {
                Ok(_) => at += piece.len(),
                Err(e) if e.valid_up_to() > 0 => at += e.valid_up_to(),
                Err(_) => return Ok(Some(at)),
            }
        }
        Ok(None)
    }

    /// Where the line begins that `at` is in.
    pub fn line_start(&mut self, at: usize) -> io::Result<usize> {
        let mut end = at.min(self.end);
        while end > 0 {
            let start = end.saturating_sub(self.size);
            if let Some(line) = self.slice(Span { start, end })?.iter().rposition(|&b| b == b'\n') {
                return Ok(start + line + 1);
            }
            end = start;
        }
        Ok(0)
    }
}

/// A text that is being written, with its digest.
pub struct Spool {
    beside: PathBuf,
    file: Option<File>,
    written: u64,
    /// What is not in the file yet.
    rest: Vec<u8>,
    digest: Xxh3,
}

impl Spool {
    /// For a text that is, or will be, in the file at `path`.
    pub fn beside(path: &Path) -> Spool {
        let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Spool { beside, file: None, written: 0, rest: Vec::new(), digest: Xxh3::new() }
    }

    /// The text and its digest.
    pub fn finish(mut self) -> io::Result<(Text, String)> {
        let digest = format!("{:032x}", self.digest.digest128());
        if self.file.is_some() {
            self.put()?;
        }
        let text = match self.file {
            Some(file) => Text::in_file(file)?,
            None => Text::from(self.rest),
        };
        Ok((text, digest))
    }

    fn put(&mut self) -> io::Result<()> {
        let written = match &self.file {
            Some(file) => file.write_all_at(&self.rest, self.written),
            None => tempfile::tempfile_in(&self.beside).and_then(|file| {
                let written = file.write_all_at(&self.rest, 0);
                self.file = Some(file);
                written
            }),
        };
        if written.is_err() {
            // no room there, or not for us: all of it goes elsewhere
            let other = tempfile::tempfile()?;
            if let Some(file) = self.file.take() {
                Text { len: usize::try_from(self.written).map_err(io::Error::other)?, ..Text::in_file(file)? }
                    .pour(&mut &other)?;
            }
            other.write_all_at(&self.rest, self.written)?;
            self.file = Some(other);
        }
        self.written += self.rest.len() as u64;
        self.rest.clear();
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > if self.file.is_some() { PIECE } else { SHORT } {
            self.put()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
