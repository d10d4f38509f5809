//! A transaction: what it sees, and its end: the records alone, or the file and the records at once.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::JsonFile;
use super::files::{self, Loaded, Look};
use super::records::{Records, Stamp};
use crate::plan::Table;
use crate::store::{Error, Mode, Result, Store};

pub(super) struct Transaction {
    pub mode: Mode,
    /// The file as this transaction sees it, once it has looked.
    pub file: Option<Arc<Loaded>>,
    /// The same with this transaction's writes.
    pub edited: Option<Arc<Loaded>>,
    pub records: Records,
    pub stamp: Stamp,
    pub dirty: bool,
    pub closing: bool,
    pub images: Vec<u8>,
}

impl JsonFile {
    /// The file as it is now.
    pub(super) fn fresh(&mut self) -> Result<Arc<Loaded>> {
        if let Some(live) = &self.live
            && live.is_fresh(&self.path)
        {
            return Ok(live.clone());
        }
        let live = files::load(&self.path, &self.folder.title, self.live.as_ref())?;
        self.live = Some(live.clone());
        Ok(live)
    }

    /// The file as the open transaction sees it, or as it is now.
    pub(super) fn file(&mut self) -> Result<Arc<Loaded>> {
        if let Some(t) = &self.open
            && let Some(file) = t.edited.as_ref().or(t.file.as_ref())
        {
            return Ok(file.clone());
        }
        let file = self.fresh()?;
        if let Some(t) = &mut self.open {
            t.file = Some(file.clone());
        }
        Ok(file)
    }

    /// The file as it was before the open transaction's own writes.
    pub(super) fn untouched(&mut self) -> Result<Arc<Loaded>> {
        match self.open.as_ref().and_then(|t| t.file.clone()) {
            Some(file) => Ok(file),
            None => self.file(),
        }
    }

    pub(super) fn stored(&mut self) -> Result<(Option<Records>, Stamp)> {
        let folder = self.folder.clone();
        folder.read(|| Ok(self.fresh()?.digest.clone()))
    }

    /// The records as the open transaction sees them, or as they are now.
    pub(super) fn records(&mut self) -> Result<Records> {
        match &self.open {
            Some(t) => Ok(t.records.clone()),
            None => Ok(self.stored()?.0.unwrap_or_default()),
        }
    }

    pub(super) fn writing(&mut self) -> Result<&mut Transaction> {
        let bug = self.refused("this needs a transaction that writes", "nothing was changed; this is a bug in Backout");
        self.open.as_mut().filter(|t| t.mode != Mode::Read).ok_or(bug)
    }

    /// The open transaction's records, to be changed.
    pub(super) fn change(&mut self) -> Result<&mut Records> {
        let t = self.writing()?;
        t.dirty = true;
        Ok(&mut t.records)
    }

    /// Changes the records in the open transaction, or in one of its own.
    pub(super) fn alone(&mut self, what: &str, change: impl FnOnce(&mut Records)) -> Result<()> {
        if self.open.as_ref().is_some_and(|t| t.mode != Mode::Read) {
            change(self.change()?);
            return Ok(());
        }
        // A reading transaction may stay open meanwhile, with the records as it saw them.
        let reading = self.open.take();
        let done = self.begin(Mode::Write, &[]).and_then(|()| {
            change(self.change()?);
            self.commit(what)
        });
        self.rollback();
        self.open = reading;
        done
    }

    pub(super) fn commit_transaction(&mut self, what: &str, mut t: Transaction) -> Result<()> {
        if !t.dirty && t.edited.is_none() && t.images.is_empty() {
            return Ok(());
        }
        if !self.folder.unchanged(&t.stamp)? {
            let hint = "nothing was changed by this one; run the command again";
            return Err(self.refused("another run changed Backout's records meanwhile", hint));
        }
        if !t.images.is_empty() {
            t.records.images = self.folder.add_images(t.records.images, &t.images)?;
        }
        match (t.file.take(), t.edited.take()) {
            (Some(before), Some(after)) if before.digest != after.digest => self.replace(what, &t, &before, &after)?,
            _ => self.folder.write(what, &t.records, None)?,
        }
        if t.closing {
            // the run is closed by now; what cannot be removed here goes when the lock is taken next
            let _ = self.folder.clear();
        }
        Ok(())
    }

    /// Replaces the file: the new one is written beside it, the records as an intent, and the rename makes both true.
    fn replace(&mut self, what: &str, t: &Transaction, before: &Loaded, after: &Loaded) -> Result<()> {
        let title = self.title();
        let look = self.must_hold(before)?;
        let like = fs::metadata(&self.path).map_err(|e| files::missing(&title, &self.path, e))?;
        let temporary = self.temporary();
        let mut records = t.records.clone();
        if let Some(seal) = &mut records.seal {
            seal.digest.clone_from(&after.digest);
        }
        let (old, _) = self.folder.read(|| Ok(before.digest.clone()))?;
        if let Some(capture) = &mut records.capture {
            capture.amended = true;
        }
        let done = self
            .folder
            .gate
            .pass(&format!("write {}", temporary.display()), || {
                files::write_new(&temporary, Some(&like), |out| after.document.text.pour(out))
            })
            .and_then(|()| {
                let intent = format!("{what}: record the intent");
                self.folder.write(&intent, &old.unwrap_or_default(), Some((&after.digest, &records)))
            })
            .and_then(|()| {
                self.folder.gate.pass(what, || {
                    if Look::at(&self.path).map_err(|e| files::missing(&title, &self.path, e))? != look {
                        return Err(self.changed_meanwhile());
                    }
                    files::rename(&temporary, &self.path)
                })
            });
        if done.is_err() {
            // After a rename that succeeded it is not there any more.
            let _ = files::remove(&temporary);
            return done;
        }
        let look = Look::at(&self.path).ok();
        self.live = Some(Arc::new(after.written(look)));
        // The records are true already; this only makes them so without the file's digest.
        let _ = self.folder.write(&format!("{what}: fold the intent"), &records, None);
        let Some(capture) = &records.capture else { return Ok(()) };
        let tables: Vec<&Table> = capture.tables.iter().collect();
        self.folder.amend_manifests(&tables, &before.document, &after.document)
    }

    fn changed_meanwhile(&self) -> Error {
        let hint = "nothing was overwritten; stop the application and run the command again";
        self.refused("it was changed by someone else while Backout was at work on it", hint)
    }

    fn must_hold(&self, before: &Loaded) -> Result<Look> {
        let read = |e| files::missing(&self.folder.title, &self.path, e);
        let look = Look::at(&self.path).map_err(read)?;
        if files::holds(&self.path, &before.document.text).map_err(read)? {
            Ok(look)
        } else {
            Err(self.changed_meanwhile())
        }
    }

    fn temporary(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.backout.tmp"))
    }

    /// Removes what a run that died left behind.
    pub(super) fn sweep(&mut self) -> Result<()> {
        self.folder.remove(&self.temporary())?;
        let stale = |p: &&PathBuf| p.extension().is_some_and(|e| e == "tmp");
        self.folder.named("").iter().filter(stale).try_for_each(|p| self.folder.remove(p))?;
        let (records, _) = self.stored()?;
        if records.is_some_and(|r| r.state.is_none() && r.capture.is_none()) { self.folder.clear() } else { Ok(()) }
    }
}
