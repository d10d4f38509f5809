//! Another tool's migrations become revisions of this project.

use std::path::PathBuf;

use serde::Serialize;

use crate::revision::adopt::{self, Origin};
use crate::revision::run::within;

use super::project::{Done, Project};
use super::{Error, Failure, Result};

/// What was taken over.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Imported {
    /// Files that were written.
    pub wrote: Vec<PathBuf>,
    /// How many migrations the other tool has.
    pub revisions: usize,
    /// Stamps that are recorded as applied now, and were not before.
    pub stamped: Vec<String>,
    /// How many of them cannot be taken back.
    pub irreversible: usize,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Project {
    /// Reads another tool's folder and history, which stay as they are, writes its migrations as revisions, and records those that
    /// are applied. Done twice, the second time does nothing.
    ///
    /// # Errors
    /// What cannot be taken over, by name; nothing is written then.
    pub fn import(&self, origin: &Origin, store: Option<&str>) -> Done<Imported> {
        self.imported(origin, store).map_err(Failure::untouched)
    }

    fn imported(&self, origin: &Origin, store: Option<&str>) -> Result<Imported> {
        let home = match store {
            Some(name) => name.to_owned(),
            None => self.default_home().ok_or_else(|| Error::Refused {
                cause: "there are several stores".into(),
                hint: "say in which one the history is: --store NAME".into(),
            })?,
        };
        let mut ledger = self.ledger(&home, true)?;
        let origin = Origin { kind: self.kind_of(&home), ..origin.clone() };
        let import = adopt::read(&origin, Some(ledger.db.as_mut()))?;
        let nth = 1 + ledger.records.iter().map(|r| r.nth).max().unwrap_or_default();
        let mut records = adopt::records(&import, &self.config, &home, nth)?;
        records.retain(|record| ledger.record(&record.stamp).is_none());
        let wrote = adopt::write(&import, &self.config, &home, &self.gate)?;
        if !records.is_empty() {
            within(ledger.db.as_mut(), "record what is applied", |db| {
                db.prepare()?;
                for record in &records {
                    db.put_record(record)?;
                    db.log(&record.line("stamped", &record.at, "imported".into()))?;
                }
                Ok(())
            })?;
        }
        let lost = |one: &&adopt::Imported| matches!(one.down, adopt::ImportedDown::Irreversible(_));
        Ok(Imported {
            wrote,
            revisions: import.revisions.len(),
            stamped: records.into_iter().map(|r| r.stamp).collect(),
            irreversible: import.revisions.iter().filter(lost).count(),
            notes: import.notes,
        })
    }
}
