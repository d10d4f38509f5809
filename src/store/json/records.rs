//! Our own records, in the folder `FILE.backout/` beside the file:
//!
//! * `lock`: held by the run that works here, with its process id;
//! * `state.json`: everything small, one document, replaced whole; with an `intent` when the file itself is about to be
//!   replaced: the records in it are true once the file has the digest it names;
//! * `snapshot-RUN`: the file as it was when change capture began, from which the backfill reads;
//! * `manifest-DIGEST`: each record's key and hash, as the file with that digest had them;
//! * `images.jsonl`: rows as they were before drains changed them; bytes beyond the length in `state.json` do not count.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files::{self, failed, with_suffix};
use crate::gate::Gate;
use crate::plan::Table;
use crate::store::{Error, HistoryLine, Parked, Result, State};
use crate::value::Key;

/// What `state.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Records {
    pub format: u32,
    pub state: Option<State>,
    /// Run and text of the frozen plan.
    pub plan: Option<(String, String)>,
    pub capture: Option<Capture>,
    pub seal: Option<Seal>,
    pub doubts: Vec<Doubt>,
    /// Number of the last doubt.
    pub doubt: u64,
    pub parked: Vec<Kept>,
    /// How much of `images.jsonl` counts.
    pub images: u64,
    pub history: Vec<HistoryLine>,
}

/// Change capture is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capture {
    pub run: String,
    /// The file's digest when it began.
    pub digest: String,
    pub tables: Vec<Table>,
    /// We wrote rows since, so that manifests were amended and are not those of the file they are named after.
    pub amended: bool,
}

/// The file rests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    pub run: String,
    /// What we wrote last.
    pub digest: String,
}

/// A key to be looked at again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    pub n: u64,
    pub table: usize,
    pub key: String,
}

/// A parked row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub run: String,
    pub table: usize,
    pub key: String,
    pub row: String,
    pub reason: String,
}

/// A row as it was before a drain changed it: a line of `images.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub run: String,
    pub drain: u64,
    pub at: String,
    pub table: usize,
    pub key: String,
    pub row: Option<String>,
}

impl Kept {
    pub fn new(run: &str, p: &Parked) -> Kept {
        let (key, row) = (to_hex(&p.key.0), to_hex(&p.row));
        Kept { run: run.to_owned(), table: p.table, key, row, reason: p.reason.clone() }
    }

    pub fn parked(&self) -> Parked {
        let (key, row) = (Key(from_hex(&self.key)), from_hex(&self.row));
        Parked { table: self.table, key, row, reason: self.reason.clone() }
    }
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
}

#[derive(Serialize, Deserialize)]
struct Stored {
    records: Records,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<Intent>,
}

#[derive(Serialize, Deserialize)]
struct Intent {
    digest: String,
    records: Records,
}

/// The folder beside one JSON file.
#[derive(Clone, Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub title: String,
    pub gate: Gate,
}

/// The bytes of `state.json` when it was read, by which a change by someone else is found.
pub type Stamp = Option<String>;

impl Folder {
    pub fn of(file: &Path, title: &str, gate: &Gate) -> Folder {
        Folder { path: with_suffix(file, ".backout"), title: title.to_owned(), gate: gate.clone() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn snapshot(&self, run: &str) -> PathBuf {
        self.at(&format!("snapshot-{run}"))
    }

    pub fn manifest(&self, digest: &str) -> PathBuf {
        self.at(&format!("manifest-{digest}"))
    }

    pub fn broken(&self, path: &Path, cause: &str) -> Error {
        Error::Input {
            store: self.title.clone(),
            cause: format!("{}: {cause}", path.display()),
            hint: "the application's file is untouched; restore this file of Backout's own from a copy of the folder"
                .into(),
        }
    }

    fn bytes(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(failed("read", path, e)),
        }
    }

    /// The records that are true, given the digest of the file (asked for only if it matters).
    pub fn read(&self, file: impl FnOnce() -> Result<String>) -> Result<(Option<Records>, Stamp)> {
        let path = self.at("state.json");
        let Some(bytes) = self.bytes(&path)? else { return Ok((None, None)) };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| self.broken(&path, &e.to_string()))?;
        if stored.records.format > 1 {
            return Err(self.broken(&path, "was written by a newer Backout"));
        }
        let records = match stored.intent {
            Some(intent) if file()? == intent.digest => intent.records,
            _ => stored.records,
        };
        Ok((Some(records), Some(files::digest(&bytes))))
    }

    /// Whether `state.json` is still what was read.
    pub fn unchanged(&self, stamp: &Stamp) -> Result<bool> {
        Ok(self.bytes(&self.at("state.json"))?.map(|b| files::digest(&b)) == *stamp)
    }

    /// Writes the records, with what will be true once the file has the given digest. One effect.
    pub fn write(&self, what: &str, records: &Records, intent: Option<(&str, &Records)>) -> Result<()> {
        let path = self.at("state.json");
        let one = |records: &Records| Records { format: 1, ..records.clone() };
        let intent = intent.map(|(digest, records)| Intent { digest: digest.to_owned(), records: one(records) });
        let mut text = serde_json::to_vec_pretty(&Stored { records: one(records), intent })
            .map_err(|e| self.broken(&path, &e.to_string()))?;
        text.push(b'\n');
        self.gate.pass(what, || {
            self.make()?;
            files::put(&path, |out| out.write_all(&text))
        })
    }

    pub fn is_there(&self) -> bool {
        self.at("state.json").exists()
    }

    fn make(&self) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(Error::Refused {
                store: self.title.clone(),
                cause: format!("{}, where the records are kept, may not be made", self.path.display()),
                hint: "give the user who runs this the right to write in the file's folder".into(),
            }),
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("make the folder", &self.path, e)),
            _ => Ok(()),
        }
    }

    /// Writes a file of ours as one effect.
    pub fn put(&self, path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
        self.gate.pass(&format!("write {}", path.display()), || {
            self.make()?;
            files::put(path, content)
        })
    }

    pub fn remove(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let what = format!("remove {}", path.display());
        self.gate.pass(&what, || files::remove(path).map_err(|e| failed("remove", path, e)))
    }

    /// Files of ours whose names begin so.
    pub fn named(&self, prefix: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let mut all: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
            .collect();
        all.sort();
        all
    }

    // ── before-images ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Appends lines after the first `from` bytes; returns the new length. What was beyond is of a transaction that
    /// never came to be.
    pub fn add_images(&self, from: u64, lines: &[u8]) -> Result<u64> {
        let path = self.at("images.jsonl");
        let write = || -> io::Result<u64> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.set_len(from)?;
            file.seek(SeekFrom::Start(from))?;
            file.write_all(lines)?;
            file.sync_all()?;
            Ok(from + lines.len() as u64)
        };
        self.gate.pass(&format!("write {}", path.display()), || {
            self.make()?;
            write().map_err(|e| failed("write", &path, e))
        })
    }

    /// The images in the first `upto` bytes.
    pub fn images(&self, upto: u64) -> Result<Vec<Image>> {
        let path = self.at("images.jsonl");
        let bytes = self.bytes(&path)?.unwrap_or_default();
        let bytes = bytes.get(..usize::try_from(upto).unwrap_or(usize::MAX));
        let bytes = bytes.ok_or_else(|| self.broken(&path, "is shorter than it was"))?;
        let line = |l: &[u8]| serde_json::from_slice(l).map_err(|e| self.broken(&path, &e.to_string()));
        bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(line).collect()
    }

    /// Removes everything of runs; the records stay.
    pub fn clear(&self) -> Result<()> {
        for prefix in ["manifest-", "snapshot-", "images.jsonl"] {
            self.named(prefix).iter().try_for_each(|p| self.remove(p))?;
        }
        Ok(())
    }
}

// ── the lock ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What the handles on one file share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The lock file, and how many handles hold it.
    held: Mutex<Option<(File, usize)>>,
    writing: Mutex<bool>,
    written: Condvar,
}

impl Shared {
    /// Waits until no other handle is in a writing transaction.
    pub fn begin(&self, title: &str) -> Result<()> {
        let limit = Duration::from_secs(10);
        let busy = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut busy, waited) =
            self.written.wait_timeout_while(busy, limit, |b| *b).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let cause = format!("another thread of this process has been writing for {} s", limit.as_secs());
            return Err(Error::Locked { store: title.to_owned(), cause });
        }
        *busy = true;
        Ok(())
    }

    pub fn end(&self) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.written.notify_one();
    }

    /// Takes the lock for one more handle. True if it had not been held by any.
    pub fn take(&self, folder: &Folder, wait: Duration) -> Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handles)) = &mut *held {
            *handles += 1;
            return Ok(false);
        }
        let path = folder.at("lock");
        let end = Instant::now() + wait;
        let file = folder.gate.pass(&format!("lock {}", path.display()), || {
            loop {
                folder.make()?;
                match try_lock(&path) {
                    Ok(Some(file)) => return Ok(file),
                    Ok(None) => {}
                    // The folder went with its last holder just now.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(failed("lock", &path, e)),
                }
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let holder = fs::read_to_string(&path).unwrap_or_default();
                    let holder =
                        if holder.trim().is_empty() { "another process".into() } else { holder.trim().to_owned() };
                    let cause = format!("{holder} holds {} (waited {:.1} s)", path.display(), wait.as_secs_f64());
                    return Err(Error::Locked { store: folder.title.clone(), cause });
                }
                std::thread::sleep(left.min(Duration::from_millis(50)));
            }
        })?;
        *held = Some((file, 1));
        Ok(true)
    }

    /// Gives it back for one handle; the last one removes the lock file, and the folder if nothing else is in it.
    pub fn give(&self, folder: &Folder) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, handles)) = &mut *held else { return };
        *handles -= 1;
        if *handles == 0 {
            let _ = fs::remove_file(folder.at("lock"));
            *held = None;
            let _ = fs::remove_dir(&folder.path);
        }
    }
}

/// The lock file, if nobody holds it. One that was removed while we waited for it is no lock.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(e)) => return Err(e),
        Ok(()) => {}
    }
    let (mine, there) = (file.metadata()?, fs::metadata(path)?);
    if (mine.dev(), mine.ino()) != (there.dev(), there.ino()) {
        return Ok(None);
    }
    file.set_len(0)?;
    file.write_all(format!("process {}\n", std::process::id()).as_bytes())?;
    Ok(Some(file))
}

/// Handles share this.
pub type Sharing = Arc<Shared>;
