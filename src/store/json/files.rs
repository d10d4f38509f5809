//! Files: read when nobody is writing them, replaced whole.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::document::Document;
use super::source::{Spool, Text};
use crate::store::{Error, Result};

/// How often a file that changes while it is read, or that does not parse, is read again.
const TRIES: u32 = 6;
/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(200);
/// A file that was last written longer ago than this is not being written now.
const STILL: Duration = Duration::from_secs(2);

/// The fingerprint of a file's bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// What changes whenever a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    fn of(m: &Metadata) -> Look {
        Look {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }

    /// How the file is now.
    pub fn at(path: &Path) -> io::Result<Look> {
        Ok(Look::of(&fs::metadata(path)?))
    }

    /// It was last changed so long before `when` that a later change must show in its times.
    fn settled(&self, when: SystemTime) -> bool {
        let changed =
            Duration::new(u64::try_from(self.changed.0).unwrap_or(0), u32::try_from(self.changed.1).unwrap_or(0));
        when.duration_since(SystemTime::UNIX_EPOCH + changed).is_ok_and(|age| age > STILL)
    }
}

/// A document as it was read from a file, or as it will be written.
#[derive(Debug)]
pub struct Loaded {
    pub document: Arc<Document>,
    pub digest: String,
    look: Option<Look>,
    read: SystemTime,
}

impl Loaded {
    /// A text that is not (yet) in a file that can change.
    pub fn new(title: &str, (text, digest): (Text, String)) -> Result<Loaded> {
        Ok(Loaded { document: Arc::new(Document::new(title, text)?), digest, look: None, read: SystemTime::now() })
    }

    /// What is in a file that only we write.
    pub fn ours(path: &Path) -> Result<Loaded> {
        let title = path.display().to_string();
        let read = || -> io::Result<(Text, String)> {
            let text = Text::in_file(File::open(path)?)?;
            let mut hash = Hash(Xxh3::new());
            text.pour(&mut hash)?;
            Ok((text, format!("{:032x}", hash.0.digest128())))
        };
        Loaded::new(&title, read().map_err(|e| failed("read", path, e))?)
    }

    /// The same, known to be what the file now holds.
    pub fn written(&self, look: Option<Look>) -> Loaded {
        self.seen(look, SystemTime::now())
    }

    fn seen(&self, look: Option<Look>, read: SystemTime) -> Loaded {
        Loaded { document: self.document.clone(), digest: self.digest.clone(), look, read }
    }

    /// The file at `path` cannot have changed since this was read.
    pub fn is_fresh(&self, path: &Path) -> bool {
        self.look.is_some_and(|look| look.settled(self.read) && Look::at(path).is_ok_and(|now| now == look))
    }
}

struct Hash(Xxh3);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn failed(operation: &str, path: &Path, cause: io::Error) -> Error {
    Error::File { operation: operation.into(), path: path.display().to_string(), cause }
}

/// Reads a file such that it was twice the same and is sound; one that is just being written is waited for.
pub fn load(path: &Path, title: &str, known: Option<&Arc<Loaded>>) -> Result<Arc<Loaded>> {
    let mut attempt = 1;
    loop {
        let again = match try_load(path, title, known) {
            Ok(Some(loaded)) => return Ok(loaded),
            Ok(None) => Error::Refused {
                store: title.to_owned(),
                cause: "it keeps changing while it is read".into(),
                hint: "nothing was changed; stop the application and run the command again".into(),
            },
            Err(e @ Error::Input { .. }) => {
                let still = Look::at(path).is_ok_and(|look| look.settled(SystemTime::now()));
                if still {
                    return Err(e);
                }
                e
            }
            Err(e) => return Err(e),
        };
        if attempt == TRIES {
            return Err(again);
        }
        attempt += 1;
        std::thread::sleep(PAUSE);
    }
}

fn try_load(path: &Path, title: &str, known: Option<&Arc<Loaded>>) -> Result<Option<Arc<Loaded>>> {
    let read = SystemTime::now();
    let Some((found, look)) = read_twice(path, known).map_err(|e| missing(title, path, e))? else { return Ok(None) };
    let loaded = match (found, known) {
        (None, Some(known)) => known.seen(Some(look), read),
        (Some(new), _) => match known.filter(|known| known.digest == new.1) {
            Some(known) => known.seen(Some(look), read),
            None => Loaded::new(title, new)?.seen(Some(look), read),
        },
        (None, None) => return Ok(None),
    };
    Ok(Some(Arc::new(loaded)))
}

/// A file that cannot be read.
pub fn missing(title: &str, path: &Path, cause: io::Error) -> Error {
    if cause.kind() == io::ErrorKind::NotFound {
        Error::Input {
            store: title.to_owned(),
            cause: "there is no such file".into(),
            hint: "check the path in backout.toml".into(),
        }
    } else if cause.kind() == io::ErrorKind::PermissionDenied {
        Error::Input {
            store: title.to_owned(),
            cause: "it may not be read".into(),
            hint: "check the permissions of the file and of its folder".into(),
        }
    } else {
        failed("read", path, cause)
    }
}

/// A copy of what the file holds if it was twice the same; none of what it is known to hold.
type Found = Option<(Text, String)>;

fn read_twice(path: &Path, known: Option<&Arc<Loaded>>) -> io::Result<Option<(Found, Look)>> {
    let mut file = File::open(path)?;
    let before = Look::of(&file.metadata()?);
    let known = known.map(|k| &k.document.text).filter(|t| t.len as u64 == before.size);
    let known = match known {
        Some(text) => same(&mut file, text)?.then_some(text),
        None => None,
    };
    let copy = match known {
        Some(_) => None,
        None => {
            let mut spool = Spool::beside(path);
            let mut piece = vec![0; 1 << 16];
            file.rewind()?;
            loop {
                match file.read(&mut piece)? {
                    0 => break Some(spool.finish()?),
                    n => spool.write_all(&piece[..n])?,
                }
            }
        }
    };
    let Some(text) = copy.as_ref().map(|c| &c.0).or(known) else { return Ok(None) };
    let same = holds(path, text)? && Look::of(&file.metadata()?) == before && Look::at(path)? == before;
    Ok(same.then_some((copy, before)))
}

/// Whether the file holds exactly this text.
pub fn holds(path: &Path, text: &Text) -> io::Result<bool> {
    same(&mut File::open(path)?, text)
}

fn same(file: &mut File, text: &Text) -> io::Result<bool> {
    let (mut buffer, mut reader, mut at) = (vec![0; 1 << 16], text.reader(), 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(at == text.len),
            n => match reader.fill(at, n)?.get(..n) {
                Some(piece) if piece == &buffer[..n] => at += n,
                _ => return Ok(false),
            },
        }
    }
}

/// Writes a file that is not there yet, durably; with the owner and mode of `like`, else for us alone. What fails is
/// removed again.
pub fn write_new(
    path: &Path,
    like: Option<&Metadata>,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let write = || -> io::Result<()> {
        remove(path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        if let Some(like) = like {
            let mine = file.metadata()?;
            if (mine.uid(), mine.gid()) != (like.uid(), like.gid()) {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
            file.set_permissions(like.permissions())?;
        }
        let mut out = BufWriter::new(file);
        content(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(path);
        failed("write", path, e)
    })
}

/// Puts `from` in the place of `to`, durably.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).and_then(|()| sync_folder(to)).map_err(|e| failed("rename a new file to", to, e))
}

/// Makes what the file holds now outlast a crash.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|f| f.sync_all())
        .and_then(|()| sync_folder(path))
        .map_err(|e| failed("write out", path, e))
}

fn sync_folder(of: &Path) -> io::Result<()> {
    match of.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Replaces or makes a file of our own.
pub fn put(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let temporary = with_suffix(path, ".tmp");
    write_new(&temporary, None, content)?;
    rename(&temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Removes a file if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
