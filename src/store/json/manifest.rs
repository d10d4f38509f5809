//! What each record was when it was seen last: per collection its pointer, how many records it has, and of each the key and
//! the hash of its text. Written and read from one end to the other, never held.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_128;

use super::check::halves;
use super::document::Document;
use super::files::{Loaded, failed};
use super::index::Place;
use super::records::Folder;
use crate::plan::Table;
use crate::store::{Error, Result};

fn put(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn put_record(out: &mut impl Write, key: &[u8], hash: u128) -> io::Result<()> {
    put(out, key)?;
    out.write_all(&hash.to_le_bytes())
}

impl Folder {
    pub fn has_manifest(&self, digest: &str) -> bool {
        self.manifest(digest).exists()
    }

    /// Removes all manifests but this one.
    pub fn keep_only_manifest(&self, digest: &str) -> Result<()> {
        let keep = self.manifest(digest);
        self.named("manifest-").iter().filter(|p| **p != keep).try_for_each(|p| self.remove(p))
    }

    /// Notes how the records of these tables are now.
    pub fn put_manifest(&self, file: &Loaded, tables: &[&Table]) -> Result<()> {
        let document = &file.document;
        let all = tables.iter().map(|t| document.collection(t)).collect::<Result<Vec<_>>>()?;
        self.put(&self.manifest(&file.digest), |out| {
            for (table, c) in tables.iter().zip(&all) {
                put(out, table.name.as_bytes())?;
                out.write_all(&(c.index.len() as u64).to_le_bytes())?;
                let names = table.key_names();
                let mut records = document.records(c, None).map_err(io::Error::other)?;
                while let Some(record) = records.next().map_err(io::Error::other)? {
                    let key = document.key(&names, &record).map_err(io::Error::other)?;
                    put_record(out, &key.0, xxh3_128(record.value.of(record.raw)))?;
                }
            }
            Ok(())
        })
    }

    /// The manifest of the file as it was with this digest.
    pub fn get_manifest(&self, digest: &str) -> Result<Option<Manifest<'_>>> {
        if digest.is_empty() || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let path = self.manifest(digest);
        let open = || -> io::Result<Manifest<'_>> {
            let file = File::open(&path)?;
            let left = file.metadata()?.len();
            Ok(Manifest { folder: self, path: path.clone(), left, input: BufReader::with_capacity(1 << 16, file) })
        };
        match open() {
            Ok(manifest) => Ok(Some(manifest)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(failed("read", &path, e)),
        }
    }

    /// What we wrote ourselves is no change of the application's: the manifests learn of it, but for records that the
    /// application had changed too.
    pub fn amend_manifests(&self, tables: &[&Table], before: &Document, after: &Document) -> Result<()> {
        let mut ours = Vec::new();
        for table in tables {
            let (old, new) = (before.collection(table)?, after.collection(table)?);
            let mut changes = HashMap::new();
            let mut reader = after.text.here_and_there();
            for (hash, a, b) in old.index.differences(&new.index) {
                let added = match (a, b) {
                    (None, Some(b)) => {
                        let record = after.record_at(&mut reader, new.shape, b.at)?;
                        after.key(&table.key_names(), &record)?.0
                    }
                    _ => Vec::new(),
                };
                changes.insert(hash, Change { old: a.map(Place::hash), new: b.map(Place::hash), added });
            }
            ours.push((table.name.clone(), changes));
        }
        for path in self.named("manifest-") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(mut known) = self.get_manifest(name.trim_start_matches("manifest-"))? else { continue };
            self.put(&path, |out| amend(&mut known, &ours, out).map_err(io::Error::other))?;
        }
        Ok(())
    }
}

/// What we did to a record: the hashes of its text, and its key if it was not there before.
struct Change {
    old: Option<u128>,
    new: Option<u128>,
    added: Vec<u8>,
}

type Changes = HashMap<[u64; 2], Change>;

fn amend(known: &mut Manifest<'_>, ours: &[(String, Changes)], out: &mut BufWriter<File>) -> Result<()> {
    let path = known.path.clone();
    let wrong = |e| failed("write", &path, e);
    let none = Changes::new();
    while let Some((name, records)) = known.collection()? {
        let changes = ours.iter().find(|(n, _)| *n == name).map_or(&none, |(_, c)| c);
        put(out, name.as_bytes()).map_err(wrong)?;
        let place = out.stream_position().map_err(wrong)?;
        let mut written = 0u64;
        let mut there: Vec<[u64; 2]> = Vec::new();
        out.write_all(&written.to_le_bytes()).map_err(wrong)?;
        for _ in 0..records {
            let (key, hash) = known.record()?;
            let id = halves(xxh3_128(&key));
            let change = changes.get(&id);
            if change.is_some() {
                there.push(id);
            }
            let now = change.filter(|c| c.old == Some(hash)).map_or(Some(hash), |c| c.new);
            if let Some(hash) = now {
                put_record(out, &key, hash).map_err(wrong)?;
                written += 1;
            }
        }
        there.sort_unstable();
        for (id, change) in changes {
            if let (None, Some(hash)) = (change.old, change.new)
                && there.binary_search(id).is_err()
            {
                put_record(out, &change.added, hash).map_err(wrong)?;
                written += 1;
            }
        }
        let mut number = || -> io::Result<()> {
            out.seek(SeekFrom::Start(place))?;
            out.write_all(&written.to_le_bytes())?;
            out.seek(SeekFrom::End(0)).map(|_| ())
        };
        number().map_err(wrong)?;
    }
    Ok(())
}

/// A manifest that is being read.
pub struct Manifest<'f> {
    folder: &'f Folder,
    path: PathBuf,
    input: BufReader<File>,
    left: u64,
}

impl Manifest<'_> {
    fn broken(&self) -> Error {
        self.folder.broken(&self.path, "is not as it was written")
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| self.broken())?;
        self.input.read_exact(bytes).map_err(|e| failed("read", &self.path, e))
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.take(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let len = self.number()?;
        if len > self.left {
            return Err(self.broken());
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    /// The pointer of the next collection, and how many records follow.
    pub fn collection(&mut self) -> Result<Option<(String, u64)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let name = String::from_utf8(self.bytes()?).map_err(|_| self.broken())?;
        Ok(Some((name, self.number()?)))
    }

    /// The key of the next record, and the hash of its text.
    pub fn record(&mut self) -> Result<(Vec<u8>, u128)> {
        let key = self.bytes()?;
        let mut hash = [0; 16];
        self.take(&mut hash)?;
        Ok((key, u128::from_le_bytes(hash)))
    }
}
