//! What changed, told by comparing the file with a manifest; and what a scan reads from meanwhile.

use std::sync::Arc;

use serde_json::json;

use super::JsonFile;
use super::document::Document;
use super::files::Loaded;
use super::manifest::Manifest;
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
        if !path.exists() {
            return Ok(None);
        }
        let snapshot = Loaded::ours(&path)?;
        if snapshot.digest != capture.digest {
            return Err(self.unseen(format!("{} is not what was written there", path.display())));
        }
        Ok(Some(Arc::new(snapshot)))
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

    /// Keys whose records are not what they were when the manifest was written, each once.
    fn differences(&self, tables: &[&Table], mut then: Manifest<'_>, now: &Document) -> Result<Vec<Entry>> {
        let mut out = Vec::new();
        let collections = tables.iter().map(|t| now.collection(t)).collect::<Result<Vec<_>>>()?;
        // which records were there then
        let mut known: Vec<Option<Vec<bool>>> = vec![None; tables.len()];
        while let Some((name, records)) = then.collection()? {
            let asked: Vec<usize> = (0..tables.len()).filter(|&t| tables[t].name == name).collect();
            asked.iter().for_each(|&t| known[t] = Some(vec![false; collections[t].index.len()]));
            for _ in 0..records {
                let (key, hash) = then.record()?;
                for &table in &asked {
                    let index = &collections[table].index;
                    let like = index.like(&key);
                    let same = index.places()[like.clone()].iter().any(|p| p.hash() == hash);
                    let key = || Some(Key(key.clone()));
                    if like.is_empty() {
                        out.push(Entry { table, op: Op::Delete, before: key(), after: None, was: None, now: None });
                    } else if !same {
                        out.push(Entry { table, op: Op::Update, before: key(), after: key(), was: None, now: None });
                    }
                    if let Some(known) = &mut known[table] {
                        known[like].fill(true);
                    }
                }
            }
        }
        for (table, t) in tables.iter().enumerate() {
            let Some(known) = &known[table] else {
                return Err(self.unseen(format!("nothing was noted of {} at that time", t.title())));
            };
            let c = &collections[table];
            let new = c.index.places().iter().zip(known).filter(|(_, known)| !**known);
            let mut new: Vec<usize> = new.map(|(place, _)| place.at).collect();
            new.sort_unstable();
            let mut reader = now.text.here_and_there();
            for at in new {
                let record = now.record_at(&mut reader, c.shape, at)?;
                let key = now.key(&t.key_names(), &record)?;
                out.push(Entry { table, op: Op::Insert, before: None, after: Some(key), was: None, now: None });
            }
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
            // lets go of what it held
            self.seen = None;
            match self.folder.get_manifest(then)? {
                Some(known) => entries = self.differences(tables, known, &file.document)?,
                None if then == file.digest => {}
                None => return Err(self.unseen("the manifest of what the file held then is gone".into())),
            }
            self.seen = Some((file.clone(), tables.iter().map(|t| (*t).clone()).collect()));
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
