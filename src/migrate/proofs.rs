//! Proofs of SQL revisions for the project: before they run, in `check`, in `plan`.

use serde::Serialize;

use crate::plan::Kind;
use crate::revision::prove::{self, Proof};
use crate::revision::run::Terms;
use crate::revision::{Down, Revision, database, keep, lint};

use super::answers::UpOptions;
use super::chain::Ledger;
use super::project::{Done, Project};
use super::revisions::leading;
use super::{Error, Event, Failure, Result};

/// What `check` found of one pending revision.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its stamp.
    pub stamp: String,
    /// Its title.
    pub title: String,
    /// What its proof came to, in plain words; `None` if one before it failed.
    pub proof: Option<String>,
    /// What its down does not bring back.
    pub lost: Vec<String>,
    /// What a proof cannot see.
    pub unseen: Vec<String>,
    /// What its up takes away and keeps, with the rows that the real database has of it.
    pub keeps: Vec<String>,
    /// What is worth a second look: code, line, what, why.
    pub findings: Vec<lint::Finding>,
}

impl Project {
    /// Proves every pending revision (up to the next migration that moves data) on a scratch copy and reads it for what is dangerous.
    /// The real database is only read.
    ///
    /// # Errors
    /// What a store says; what a proof found is no error here.
    pub fn check(&self) -> Done<Vec<Checked>> {
        let untouched = Failure::untouched;
        let mut ledgers = self.ledgers(false).map_err(untouched)?;
        let pending = self.pending(&ledgers).map_err(untouched)?;
        let first = pending.iter().position(|link| matches!(link, super::chain::Link::Sql(_))).unwrap_or(pending.len());
        let group = leading(&pending[first..]);
        let homes: Vec<String> = group.iter().map(|r| self.home(r)).collect::<Result<_>>().map_err(untouched)?;
        let proofs = self.prove(&group, &homes, &mut ledgers).map_err(untouched)?;
        let mut all = Vec::new();
        for ((revision, home), proof) in group.iter().zip(&homes).zip(proofs) {
            let mut keeps = Vec::new();
            if let Some(ledger) = ledgers.iter_mut().find(|l| l.store == *home) {
                for loss in &proof.lost_up {
                    // a table that is only pending has no rows yet
                    if let Ok(counted) = keep::counted(ledger.db.as_mut(), std::slice::from_ref(loss)) {
                        keeps.extend(
                            counted.into_iter().map(|(w, n)| format!("{w}, {}", super::count(n as usize, "row"))),
                        );
                    }
                }
            }
            all.push(Checked {
                keeps,
                stamp: revision.stamp.clone(),
                title: revision.title.clone(),
                proof: Some(proof.words),
                lost: proof.lost,
                unseen: proof.unseen,
                findings: lint::lint(revision, self.kind_of(home)),
            });
        }
        Ok(all)
    }

    /// What revisions of a group are recorded with: their proofs. Refused if one does not bring everything back.
    pub(crate) fn proven(
        &self,
        group: &[&Revision],
        homes: &[String],
        ledgers: &mut [Ledger],
        asked: &UpOptions,
    ) -> Result<Vec<Terms>> {
        if !self.options.verify {
            let proof = Some("not proven: --no-verify".into());
            let without = Terms { proof, unproven: true, ..Terms::default() };
            return Ok(group.iter().map(|_| without.clone()).collect());
        }
        let proofs = self.prove(group, homes, ledgers)?;
        let mut terms = Vec::new();
        for (revision, proof) in group.iter().zip(proofs) {
            let accepted_loss = asked.accept_loss.clone().filter(|_| !proof.lost.is_empty());
            if !proof.lost.is_empty() && accepted_loss.is_none() {
                return Err(does_not_invert(revision, &proof));
            }
            let mut words = if proof.lost.is_empty() {
                proof.words
            } else {
                format!("its down does not bring back: {}", proof.lost.join("; "))
            };
            if !proof.unseen.is_empty() {
                words.push_str(&format!("; not seen by that: {}", proof.unseen.join(", ")));
            }
            let (lost_up, lost_down) = (proof.lost_up, proof.lost_down);
            terms.push(Terms { proof: Some(words), accepted_loss, lost_up, lost_down, ..Terms::default() });
        }
        Ok(terms)
    }

    /// Refuses a scratch database that is a store of the project's.
    pub(crate) fn check_scratch(&self) -> Result<()> {
        let Some(at) = &self.config.scratch else { return Ok(()) };
        let stores: Vec<&str> = self.config.stores.iter().map(|(_, url)| url.as_str()).collect();
        Ok(database::check_scratch(at, &stores)?)
    }

    /// Proves the revisions of each store on a scratch copy of it.
    fn prove(&self, group: &[&Revision], homes: &[String], ledgers: &mut [Ledger]) -> Result<Vec<Proof>> {
        let stop = self.stop.clone();
        let stop = move || stop.load(std::sync::atomic::Ordering::SeqCst);
        let mut proofs: Vec<Option<Proof>> = group.iter().map(|_| None).collect();
        if homes.iter().any(|home| self.kind_of(home) == Kind::Postgres) {
            self.check_scratch()?;
        }
        for ledger in ledgers {
            let mine: Vec<usize> = (0..group.len()).filter(|i| homes[*i] == ledger.store).collect();
            let revisions: Vec<&Revision> = mine.iter().map(|i| group[*i]).collect();
            let tell = |revision: &Revision, proof: &Proof| {
                let lost = if proof.lost.is_empty() { "" } else { ", and something is lost" };
                let words = format!("tried {}_{} on a copy{lost}", revision.stamp, revision.slug);
                self.observer.event(Event::Note(words));
            };
            let at = self.config.scratch.as_deref();
            let done = prove::prove(ledger.db.as_mut(), at, &revisions, &stop, &tell)?;
            for (i, proof) in mine.into_iter().zip(done) {
                proofs[i] = Some(proof);
            }
        }
        Ok(proofs.into_iter().map(Option::unwrap_or_default).collect())
    }
}

fn does_not_invert(revision: &Revision, proof: &Proof) -> Error {
    let said = match revision.down {
        Down::Nothing => "says that there is nothing to undo, but its up changes this:",
        _ => "does not take back what its up does. Before (-) and after up and down (+):",
    };
    Error::Refused {
        cause: format!("the down of {}_{} {said}\n{}", revision.stamp, revision.slug, proof.lost.join("\n")),
        hint: "mend the down; or, if that may be lost: `backout up --accept-loss \"REASON\"`".into(),
    }
}
