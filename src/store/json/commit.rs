//! The end of a transaction: the records alone, or the file and the records at once.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{self, Loaded, Look};
use super::records::Capture;
use super::{JsonFile, Transaction};
use crate::plan::Table;
use crate::store::{Error, Result};

impl JsonFile {
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
                files::write_new(&temporary, &after.document.text, Some(&like))
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
        records.capture.as_ref().map_or(Ok(()), |capture| self.amend(capture, before, after))
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

    /// What we wrote ourselves is no change of the application's: the manifests learn of it, but for records that the
    /// application had changed too.
    fn amend(&self, capture: &Capture, before: &Loaded, after: &Loaded) -> Result<()> {
        let tables: Vec<&Table> = capture.tables.iter().collect();
        let (old, new) = (before.document.manifest(&tables)?, after.document.manifest(&tables)?);
        for path in self.folder.named("manifest-") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let digest = name.trim_start_matches("manifest-");
            let Some(mut manifest) = self.folder.get_manifest(digest)? else { continue };
            for (i, (name, old)) in old.iter().enumerate() {
                let new = &new[i].1;
                let Some((_, known)) = manifest.iter_mut().find(|(n, _)| n == name) else { continue };
                let ours = old.keys().chain(new.keys()).filter(|k| old.get(*k) != new.get(*k));
                for key in ours {
                    if known.get(key) != old.get(key) {
                        continue;
                    }
                    match new.get(key) {
                        Some(hash) => known.insert(key.clone(), *hash),
                        None => known.remove(key),
                    };
                }
            }
            self.folder.put_manifest(digest, &manifest)?;
        }
        Ok(())
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
