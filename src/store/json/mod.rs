//! The JSON store: a file that is never parsed into anything but spans, and never written but whole; read from a copy, in pieces,
//! with forty bytes of memory for each record.
//!
//! There is no lock and no log in a JSON file. A read counts when the file was twice the same; what changed is found by
//! comparing it with a manifest of hashes; a seal is a recorded digest (P20).

mod check;
mod document;
mod edit;
#[cfg(test)]
mod examples;
mod files;
mod fresh;
mod index;
mod log;
mod manifest;
mod records;
mod source;
mod style;
#[cfg(test)]
mod tests;
mod text;
mod transaction;

pub(super) use fresh::write as write_new;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use self::files::{Loaded, failed};
use self::records::{Capture, Doubt, Folder, Image, Kept, Records, Seal, Sharing, from_hex, to_hex};
use self::source::Spool;
use self::text::splice;
use self::transaction::Transaction;
use super::{
    Chunk, Entry, Error, HistoryLine, LogSize, Mode, Parked, Phase, Position, Result, Role, Schema, Site, State, Store,
    Write,
};
use crate::gate::Gate;
use crate::plan::{Kind, Pair, Table};
use crate::value::{Batch, Key, Row, Value, values_of};

/// A call of `scan` stops after about this many bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// Opens the JSON file at `location`, which must be there.
///
/// # Errors
/// [`Error::Input`] or [`Error::File`].
pub fn open(location: &Path, gate: &Gate) -> Result<Box<dyn Store>> {
    let title = location.display().to_string();
    // What a symbolic link points to is what is read and replaced.
    let path = fs::canonicalize(location).map_err(|e| files::missing(&title, location, e))?;
    if !path.is_file() {
        return Err(Error::Input {
            store: title,
            cause: "is not a file".into(),
            hint: "name the JSON file itself".into(),
        });
    }
    fs::File::open(&path).map_err(|e| files::missing(&title, location, e))?;
    let folder = Folder::of(&path, &title, gate);
    Ok(Box::new(JsonFile {
        path,
        folder,
        shared: Sharing::default(),
        locked: false,
        live: None,
        scanned: None,
        seen: None,
        open: None,
    }))
}

struct JsonFile {
    path: PathBuf,
    folder: Folder,
    shared: Sharing,
    locked: bool,
    /// The file as it was read last.
    live: Option<Arc<Loaded>>,
    /// What the last `scan` read from; a scan goes on in it even if the file has changed since.
    scanned: Option<Arc<Loaded>>,
    /// What the last `log_since` saw, and of which tables, for `mark`.
    seen: Option<(Arc<Loaded>, Vec<Table>)>,
    open: Option<Transaction>,
}

impl JsonFile {
    fn title(&self) -> String {
        self.folder.title.clone()
    }

    fn refused(&self, cause: impl Into<String>, hint: &str) -> Error {
        Error::Refused { store: self.title(), cause: cause.into(), hint: hint.into() }
    }

    fn no_target<T>(&self) -> Result<T> {
        Err(self.refused("a JSON file cannot be a forward target", "name a SQLite or PostgreSQL store as the target"))
    }

    /// Images of this run that count, oldest first.
    fn kept_images(&mut self, run: &str) -> Result<Vec<Image>> {
        let upto = self.records()?.images;
        Ok(self.folder.images(upto)?.into_iter().filter(|i| i.run == run).collect())
    }

    fn diverged(&self, seal: &Seal, found: &str) -> String {
        format!(
            "the file rests, but someone wrote to it: it has the digest {found}, and what Backout wrote last had {}",
            seal.digest
        )
    }
}

impl Drop for JsonFile {
    fn drop(&mut self) {
        self.rollback();
        if self.locked {
            self.shared.give(&self.folder);
        }
    }
}

impl Store for JsonFile {
    fn kind(&self) -> Kind {
        Kind::Json
    }

    fn title(&self) -> String {
        self.folder.title.clone()
    }

    fn again(&self) -> Result<Box<dyn Store>> {
        Ok(Box::new(JsonFile {
            path: self.path.clone(),
            folder: self.folder.clone(),
            shared: self.shared.clone(),
            locked: false,
            live: self.live.clone(),
            scanned: None,
            seen: None,
            open: None,
        }))
    }

    fn stand(&mut self, _role: Role, _site: Site) {}

    fn standing(&self) -> (Role, Site) {
        (Role::Source, Site::Home)
    }

    fn swap(&mut self, _: &[&Table], _: &Site, _: &[&Table], _: &Site) -> Result<()> {
        self.no_target()
    }

    fn lock(&mut self, wait: Duration) -> Result<()> {
        if self.locked {
            return Ok(());
        }
        let first = self.shared.take(&self.folder, wait)?;
        self.locked = true;
        if first { self.sweep() } else { Ok(()) }
    }

    fn schema(&mut self) -> Result<Schema> {
        self.file()?.document.schema()
    }

    fn scan(&mut self, table: &Table, after: &[u8], limit: usize, out: &mut Batch) -> Result<Option<Vec<u8>>> {
        // Where to go on: where the next record begins, and in what text.
        let (from, digest) = match values_of(after).as_slice() {
            [Value::Int(at), Value::Text(digest)] => {
                (usize::try_from(*at).ok(), Some(String::from_utf8_lossy(digest).into_owned()))
            }
            _ => (None, None),
        };
        let file = self.scan_in(digest.as_deref())?;
        self.scanned = Some(file.clone());
        let collection = file.document.collection(table)?;
        let mut records = file.document.records(&collection, from)?;
        let start = out.size();
        for _ in 0..limit.max(1) {
            let Some(record) = records.next()? else { break };
            out.push(&file.document.row(table, &record)?);
            if out.size() - start >= CHUNK_BYTES {
                break;
            }
        }
        let more = records.more()?;
        let next = i64::try_from(records.at).unwrap_or(i64::MAX);
        Ok(more.then(|| Key::of(&[Value::Int(next), Value::text(file.digest.as_str())]).0))
    }

    fn count(&mut self, table: &Table) -> Result<u64> {
        Ok(self.file()?.document.collection(table)?.index.len() as u64)
    }

    fn self_check(&mut self, tables: &[&Table], _deep: bool) -> Result<Vec<String>> {
        let file = match self.file() {
            Ok(file) => file,
            Err(e @ (Error::Input { .. } | Error::Refused { .. })) => return Ok(vec![e.to_string()]),
            Err(e) => return Err(e),
        };
        let document = &file.document;
        let sound = |table: &Table| -> Result<()> {
            let mut records = document.records(&*document.collection(table)?, None)?;
            while let Some(record) = records.next()? {
                document.row(table, &record)?;
            }
            Ok(())
        };
        Ok(tables.iter().filter_map(|t| sound(t).err()).map(|e| e.to_string()).collect())
    }

    fn begin(&mut self, mode: Mode, tables: &[&Table]) -> Result<()> {
        if self.open.is_some() {
            return Err(self.refused("a transaction is open already", "nothing was changed; this is a bug in Backout"));
        }
        if mode != Mode::Read {
            self.shared.begin(&self.folder.title)?;
        }
        let look = |me: &mut Self| -> Result<Transaction> {
            let file = if tables.is_empty() { None } else { Some(me.fresh()?) };
            let (records, stamp) = match &file {
                Some(file) => me.folder.read(|| Ok(file.digest.clone()))?,
                None => me.stored()?,
            };
            let (records, images) = (records.unwrap_or_default(), Vec::new());
            Ok(Transaction { mode, file, edited: None, records, stamp, dirty: false, closing: false, images })
        };
        match look(self) {
            Ok(t) => self.open = Some(t),
            Err(e) => {
                if mode != Mode::Read {
                    self.shared.end();
                }
                return Err(e);
            }
        }
        Ok(())
    }

    fn commit(&mut self, what: &str) -> Result<()> {
        let Some(t) = self.open.take() else {
            return Err(self.refused("no transaction is open", "nothing was changed; this is a bug in Backout"));
        };
        if t.mode == Mode::Read {
            return Ok(());
        }
        let done = self.commit_transaction(what, t);
        self.shared.end();
        done
    }

    fn rollback(&mut self) {
        if self.open.take().is_some_and(|t| t.mode != Mode::Read) {
            self.shared.end();
        }
    }

    fn fetch(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.file()?.document.fetch(table, keys)
    }

    fn keys(&mut self, table: &Table) -> Result<Vec<Key>> {
        let document = self.file()?.document.clone();
        let collection = document.collection(table)?;
        let (names, mut keys) = (table.key_names(), Vec::with_capacity(collection.index.len()));
        let mut records = document.records(&collection, None)?;
        while let Some(record) = records.next()? {
            keys.push(document.key(&names, &record)?);
        }
        Ok(keys)
    }

    fn write(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()> {
        if writes.iter().all(|(_, list)| list.is_empty()) {
            return self.writing().map(|_| ());
        }
        let before = self.writing().map(|t| t.records.seal.clone())?;
        let (found, file) = (self.untouched()?.digest.clone(), self.file()?);
        if let Some(seal) = before.filter(|s| s.digest != found) {
            let hint = "nothing was overwritten, and both are kept: stop whoever writes this file, keep what they wrote elsewhere, and put the file back as Backout left it";
            return Err(self.refused(self.diverged(&seal, &found), hint));
        }
        let splices = file.document.edit(tables, writes)?;
        let mut text = Spool::beside(&self.path);
        let written = splice(&file.document.text, &splices, &mut text).and_then(|()| text.finish());
        let written = written.map_err(|e| failed("write a new copy of", &self.path, e))?;
        // Reading it whole again is what shows that it is sound before it replaces anything.
        let edited = Loaded::new(&self.folder.title, written)?;
        for (t, _) in writes {
            if let Some(table) = tables.get(*t) {
                edited.document.collection(table)?;
            }
        }
        self.writing()?.edited = Some(Arc::new(edited));
        Ok(())
    }

    fn create(&mut self, _: &[&Table]) -> Result<()> {
        self.no_target()
    }

    fn load(&mut self, _: &Table, _: &Batch) -> Result<()> {
        self.no_target()
    }

    fn build_key(&mut self, _: &Table) -> Result<()> {
        self.no_target()
    }

    fn build_rest(&mut self, _: &[&Table]) -> Result<()> {
        self.no_target()
    }

    fn drop_tables(&mut self, _: &[&Table]) -> Result<()> {
        self.no_target()
    }

    fn set_aside(&mut self, _: &[&Table], _: &str) -> Result<String> {
        self.no_target()
    }

    fn capture_on(&mut self, tables: &[&Table], run: &str) -> Result<Position> {
        let records = self.writing().map(|t| t.records.clone())?;
        let early = records.state.as_ref().is_none_or(|s| s.phase <= Phase::Backfilling);
        let snapshot = self.folder.snapshot(run);
        let tables: Vec<Table> = tables.iter().map(|t| (*t).clone()).collect();
        if let Some(c) = &records.capture
            && early
            && c.run == run
            && c.tables == tables
            && snapshot.exists()
            && self.folder.has_manifest(&c.digest)
        {
            // It is on, and chunks may have been read since: what changed after that is told from there.
            return Ok(log::position(&c.digest, records.doubt));
        }
        let file = self.file()?;
        let list: Vec<&Table> = tables.iter().collect();
        self.folder.put_manifest(&file, &list)?;
        if early {
            self.folder.put(&snapshot, |out| file.document.text.pour(out))?;
        }
        let position = log::position(&file.digest, records.doubt);
        let digest = file.digest.clone();
        self.change()?.capture = Some(Capture { run: run.to_owned(), digest, tables, amended: false });
        Ok(position)
    }

    fn capture_off(&mut self, _: &[&Table]) -> Result<()> {
        self.change()?.capture = None;
        Ok(())
    }

    fn look(&mut self, tables: &[&Table]) -> Result<()> {
        let found = self.untouched()?.digest.clone();
        if let Some(seal) = self.records()?.seal.filter(|s| s.digest != found) {
            return Err(self.unseen(self.diverged(&seal, &found)));
        }
        let file = self.file()?;
        tables.iter().try_for_each(|t| file.document.collection(t).map(|_| ()))
    }

    fn log_since(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        self.changes(tables, from)
    }

    fn lag(&mut self, tables: &[&Table], from: &Position) -> Result<u64> {
        Ok(self.changes(tables, from)?.0.len() as u64)
    }

    fn log_size(&mut self, _: &[&Table]) -> Result<LogSize> {
        // what is kept instead of a log: how each record was when it was seen last
        let files = ["manifest-", "snapshot-"].into_iter().flat_map(|prefix| self.folder.named(prefix));
        let bytes = files.filter_map(|f| fs::metadata(f).ok()).map(|m| m.len()).sum();
        Ok(LogSize { rows: self.records()?.doubts.len() as u64, bytes })
    }

    fn mark(&mut self, position: Position) -> Result<Position> {
        let (digest, _) = log::parts(&position);
        match &self.seen {
            _ if self.folder.has_manifest(digest) => {}
            Some((seen, tables)) if seen.digest == digest => {
                self.folder.put_manifest(seen, &tables.iter().collect::<Vec<_>>())?;
            }
            _ => return Err(self.unseen("the file is not any more what was read up to this position".into())),
        }
        files::sync(&self.path)?;
        Ok(position)
    }

    fn trim(&mut self, _: &[&Table], position: &Position) -> Result<()> {
        let (digest, doubt) = log::parts(position);
        let records = self.records()?;
        if records.doubts.iter().any(|d| d.n <= doubt) {
            self.alone("trim the doubts", |r| r.doubts.retain(|d| d.n > doubt))?;
        }
        if records.state.as_ref().is_some_and(|s| s.phase <= Phase::Backfilling) || !self.folder.has_manifest(digest) {
            return Ok(());
        }
        self.folder.keep_only_manifest(digest)?;
        self.folder.named("snapshot-").iter().try_for_each(|p| self.folder.remove(p))
    }

    fn doubt(&mut self, _tables: &[&Table], table: usize, keys: &[Key]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.alone("note doubts", |r| {
            for key in keys {
                r.doubt += 1;
                r.doubts.push(Doubt { n: r.doubt, table, key: to_hex(&key.0) });
            }
        })
    }

    fn seal(&mut self, _: &[&Table], run: &str) -> Result<()> {
        let digest = self.file()?.digest.clone();
        let records = self.change()?;
        // Sealed already: what was recorded then stays, so that a change made since is found.
        if records.seal.as_ref().is_none_or(|s| s.run != run) {
            records.seal = Some(Seal { run: run.to_owned(), digest });
        }
        Ok(())
    }

    fn unseal(&mut self, _: &[&Table]) -> Result<()> {
        self.change()?.seal = None;
        Ok(())
    }

    fn high_water(&mut self, tables: &[&Table]) -> Result<Vec<Option<i64>>> {
        let file = self.file()?;
        tables.iter().map(|t| Ok(file.document.collection(t)?.highest)).collect()
    }

    fn raise_high_water(&mut self, _: &[&Table], _: &[Option<i64>]) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        if self.folder.is_there() {
            return Ok(());
        }
        let what = format!("make {}", self.folder.path.display());
        self.alone(&what, |_| {})
    }

    fn state(&mut self) -> Result<Option<State>> {
        Ok(self.records()?.state)
    }

    fn plan(&mut self, run: &str) -> Result<Option<String>> {
        Ok(self.records()?.plan.filter(|(r, _)| r == run).map(|(_, text)| text))
    }

    fn put_state(&mut self, state: &State, plan: Option<&str>) -> Result<()> {
        let records = self.change()?;
        records.state = Some(state.clone());
        if let Some(plan) = plan {
            records.plan = Some((state.run.clone(), plan.to_owned()));
        }
        Ok(())
    }

    fn chunks(&mut self, _: &str) -> Result<Vec<(usize, Chunk)>> {
        Ok(Vec::new())
    }

    fn put_chunk(&mut self, _: &str, _: usize, _: &Chunk) -> Result<()> {
        self.no_target()
    }

    fn keep_images(&mut self, run: &str, drain: u64, at: &str, images: &[(usize, Key, Option<Row>)]) -> Result<()> {
        let t = self.writing()?;
        for (table, key, row) in images {
            let (run, at) = (run.to_owned(), at.to_owned());
            let row = row.as_ref().map(|r| to_hex(&crate::value::encode_row(r)));
            let image = Image { run, drain, at, table: *table, key: to_hex(&key.0), row };
            t.images.extend_from_slice(format!("{}\n", json!(image)).as_bytes());
        }
        Ok(())
    }

    fn image_drains(&mut self, run: &str) -> Result<Vec<(u64, String)>> {
        let mut out: Vec<(u64, String)> = Vec::new();
        for image in self.kept_images(run)? {
            if out.last().is_none_or(|(n, _)| *n != image.drain) {
                out.push((image.drain, image.at));
            }
        }
        Ok(out)
    }

    fn images(&mut self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>> {
        let mut out: Vec<(usize, Key, Option<Row>)> = Vec::new();
        for image in self.kept_images(run)?.into_iter().filter(|i| i.drain == drain) {
            let row = image.row.map(|r| crate::value::row_of(&from_hex(&r)));
            out.push((image.table, Key(from_hex(&image.key)), row));
        }
        // stable, so that the first image of a key is the one kept
        out.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        out.dedup_by(|b, a| (a.0, &a.1) == (b.0, &b.1));
        Ok(out)
    }

    fn parked(&mut self, run: &str) -> Result<Vec<Parked>> {
        Ok(self.records()?.parked.iter().filter(|p| p.run == run).map(Kept::parked).collect())
    }

    fn put_parked(&mut self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()> {
        let gone: Vec<(usize, String)> = remove
            .iter()
            .map(|(t, k)| (*t, &k.0))
            .chain(add.iter().map(|p| (p.table, &p.key.0)))
            .map(|(t, k)| (t, to_hex(k)))
            .collect();
        let records = self.change()?;
        records.parked.retain(|p| p.run != run || !gone.iter().any(|(t, k)| p.table == *t && p.key == *k));
        let added: HashMap<(usize, &Key), &Parked> = add.iter().map(|p| ((p.table, &p.key), p)).collect();
        let last = |p: &&Parked| added.get(&(p.table, &p.key)).is_some_and(|l| std::ptr::eq(*l, *p));
        records.parked.extend(add.iter().filter(last).map(|p| Kept::new(run, p)));
        Ok(())
    }

    /// Keys of a file never become others.
    fn pairs(&mut self, _: &str) -> Result<Vec<Pair>> {
        Ok(Vec::new())
    }

    fn put_pairs(&mut self, _: &str, pairs: &[Pair]) -> Result<()> {
        if pairs.is_empty() { Ok(()) } else { self.no_target() }
    }

    fn history(&mut self) -> Result<Vec<HistoryLine>> {
        Ok(self.records()?.history)
    }

    fn close(&mut self, _: &[&Table], line: &HistoryLine) -> Result<()> {
        let t = self.writing()?;
        (t.dirty, t.closing) = (true, true);
        t.images.clear();
        let mut history = std::mem::take(&mut t.records.history);
        history.retain(|l| l.run != line.run);
        history.push(line.clone());
        t.records = Records { history, ..Records::default() };
        Ok(())
    }

    fn now(&mut self) -> Result<String> {
        Ok(jiff::Timestamp::now().to_string())
    }
}
