//! What changed, told by comparing the file with a manifest; and what a scan reads from meanwhile.

use std::fs;
use std::sync::Arc;

use serde_json::json;

use super::JsonFile;
use super::document::Manifest;
use super::files::{self, Loaded, failed};
use super::records::{Records, from_hex};
use crate::plan::Table;
use crate::store::{Entry, Error, Op, Phase, Position, Result};
use crate::value::Key;

/// A position's parts: the digest of the file, and the number of the last doubt that was told.
pub fn parts(position: &Position) -> (&str, u64) {
    let digest = position.0.get("digest").and_then(|d| d.as_str()).unwrap_or_default();
    (digest, position.0.get("doubt").and_then(serde_json::Value::as_u64).unwrap_or(0))
}

/// The position of a file with this digest, all doubts up to this one told.
pub fn position(digest: &str, doubt: u64) -> Position {
    Position(json!({ "digest": digest, "doubt": doubt }))
}

impl JsonFile {
    /// A snapshot that the backfill reads, if it is on.
    fn snapshot(&mut self, records: &Records) -> Result<Option<Arc<Loaded>>> {
        let (Some(state), Some(capture)) = (&records.state, &records.capture) else { return Ok(None) };
        if state.phase > Phase::Backfilling || state.run != capture.run {
            return Ok(None);
        }
        let held = self.scanned.iter().chain(&self.live).find(|l| l.digest == capture.digest);
        if let Some(held) = held {
            return Ok(Some(held.clone()));
        }
        let path = self.folder.snapshot(&state.run);
        match fs::read(&path) {
            Ok(bytes) if files::digest(&bytes) == capture.digest => {
                Ok(Some(Arc::new(Loaded::new(&path.display().to_string(), bytes)?)))
            }
            Ok(_) => Err(self.unseen(format!("{} is not what was written there", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path, e)),
        }
    }

    /// What a scan begins in, or goes on in if it began in `digest`.
    pub(super) fn scan_in(&mut self, digest: Option<&str>) -> Result<Arc<Loaded>> {
        let is = |l: &Arc<Loaded>| digest == Some(l.digest.as_str());
        if let Some(held) = self.scanned.as_ref().filter(|l| is(l)) {
            return Ok(held.clone());
        }
        if self.open.as_ref().is_none_or(|t| t.edited.is_none()) {
            let records = self.records()?;
            if let Some(snapshot) = self.snapshot(&records)?
                && (digest.is_none() || is(&snapshot))
            {
                return Ok(snapshot);
            }
        }
        let file = self.file()?;
        if digest.is_none() || is(&file) {
            return Ok(file);
        }
        Err(self.refused("it changed between two chunks of one reading", "nothing was changed; run the command again"))
    }

    /// Keys whose records are not what they were in the manifest of `from`, each once.
    fn differences(&self, tables: &[&Table], then: &Manifest, now: &Manifest) -> Result<Vec<Entry>> {
        let mut out = Vec::new();
        for (table, t) in tables.iter().enumerate() {
            let of = |m: &Manifest| m.iter().position(|(name, _)| *name == t.name);
            let (Some(then), Some(now)) = (of(then).map(|i| &then[i].1), of(now).map(|i| &now[i].1)) else {
                return Err(self.unseen(format!("nothing was noted of {} at that time", t.title())));
            };
            let mut add = |op, before: Option<&Key>, after: Option<&Key>| {
                out.push(Entry { table, op, before: before.cloned(), after: after.cloned(), was: None, now: None });
            };
            for (key, hash) in now {
                match then.get(key) {
                    None => add(Op::Insert, None, Some(key)),
                    Some(old) if old != hash => add(Op::Update, Some(key), Some(key)),
                    Some(_) => {}
                }
            }
            then.keys().filter(|k| !now.contains_key(*k)).for_each(|k| add(Op::Delete, Some(k), None));
        }
        Ok(out)
    }

    pub(super) fn unseen(&self, cause: String) -> Error {
        Error::Capture { store: self.title(), cause, schema_changed: false, rewound: false }
    }

    /// Entries after `from`, in a file whose manifest is made only if it is needed.
    pub(super) fn changes(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        let file = self.file()?;
        let records = self.records()?;
        let (then, doubt) = parts(from);
        let amended = records.capture.as_ref().is_some_and(|c| c.amended);
        let mut entries = Vec::new();
        if then != file.digest || amended || !self.folder.has_manifest(then) {
            let now = file.document.manifest(tables)?;
            let known = match self.folder.get_manifest(then)? {
                Some(known) => known,
                None if then == file.digest => now.clone(),
                None => return Err(self.unseen("the manifest of what the file held then is gone".into())),
            };
            entries = self.differences(tables, &known, &now)?;
            self.seen = Some((file.digest.clone(), now));
        }
        let new = records.doubts.iter().filter(|d| d.n > doubt && d.table < tables.len());
        entries.extend(new.map(|d| Entry {
            table: d.table,
            op: Op::Doubt,
            before: Some(Key(from_hex(&d.key))),
            after: None,
            was: None,
            now: None,
        }));
        let position = position(&file.digest, records.doubt.max(doubt));
        Ok((entries, position))
    }
}
