//! What SQL revisions would do, shown before anything is done.

use serde::Serialize;

use crate::revision::database::Database;
use crate::revision::taken::{Taken, rows_of};
use crate::revision::{Down, Revision, lint, sql};

use super::answers::RollbackOptions;
use super::chain::{Applied, Ledger};
use super::project::{Done, Project};
use super::revisions::leading;
use super::{Failure, Result};

/// What a script takes away, by its words, and how many rows that is of.
fn keeps(db: &mut dyn Database, taken: &Taken) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (what, tables) in [("the table", &taken.dropped), ("columns of", &taken.narrowed)] {
        for (table, rows) in rows_of(db, tables)? {
            all.push(format!("{what} {table}, {}", super::count(rows as usize, "row")));
        }
    }
    Ok(all)
}

/// A SQL revision that a command would run.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its stamp.
    pub stamp: String,
    /// Its title.
    pub title: String,
    /// The store it runs in.
    pub store: String,
    /// `up` or `down`.
    pub way: &'static str,
    /// The statements, as they would run.
    pub statements: Vec<String>,
    /// In one transaction.
    pub transaction: bool,
    /// How it can be taken back, in plain words.
    pub back: String,
    /// What it takes away and keeps, with rows: as its words tell, before anything is tried.
    pub keeps: Vec<String>,
    /// What is worth a second look.
    pub findings: Vec<lint::Finding>,
}

impl Project {
    /// The SQL revisions that `up` would run first; empty if the next migration moves data, or nothing is pending.
    ///
    /// # Errors
    /// What a store says.
    pub fn steps_up(&self, goal: Option<&str>) -> Done<Vec<Step>> {
        let made = || -> Result<Vec<Step>> {
            let mut ledgers = self.ledgers(false)?;
            let links = self.up_to(self.pending(&ledgers)?, goal)?;
            leading(&links).into_iter().map(|revision| self.step_up(revision, &mut ledgers)).collect()
        };
        made().map_err(Failure::untouched)
    }

    fn step_up(&self, revision: &Revision, ledgers: &mut [Ledger]) -> Result<Step> {
        let store = self.home(revision)?;
        let kind = self.kind_of(&store);
        let keeps = match (&revision.down, ledgers.iter_mut().find(|l| l.store == store)) {
            (Down::Sql(_), Some(ledger)) if revision.up.transaction => {
                keeps(ledger.db.as_mut(), &Taken::by(&revision.up.statements, kind))?
            }
            _ => Vec::new(),
        };
        Ok(Step {
            stamp: revision.stamp.clone(),
            title: revision.title.clone(),
            way: "up",
            statements: revision.up.statements.iter().map(|s| s.sql.clone()).collect(),
            transaction: revision.up.transaction,
            back: match &revision.down {
                Down::Sql(script) => super::count(script.statements.len(), "statement"),
                Down::Nothing => "nothing to undo".into(),
                Down::Irreversible(why) => format!("irreversible: {why}"),
            },
            keeps,
            findings: lint::lint(revision, kind),
            store,
        })
    }

    /// What `rollback` would take back of SQL revisions, newest first; checked as it would be. Empty where it would take a
    /// migration back that moved data, or nothing.
    ///
    /// # Errors
    /// What `rollback` would refuse.
    pub fn steps_down(&self, asked: &RollbackOptions) -> Done<Vec<Step>> {
        let made = || -> Result<Vec<Step>> {
            let mut ledgers = self.ledgers(false)?;
            let chain = self.down_to(self.applied(&ledgers)?, asked.to.as_deref().unwrap_or("-1"))?;
            self.may_go_down(&chain, asked)?;
            let mut steps = Vec::new();
            for link in &chain {
                let Applied::Sql(ledger, record) = link else { break };
                let (text, transaction) = record.down.text();
                let mut keep = Vec::new();
                if let (Some(text), true, Some(ledger)) = (text, transaction, ledgers.get_mut(*ledger)) {
                    let kind = ledger.db.kind();
                    let statements = sql::split(text, kind, std::path::Path::new("frozen down"))?;
                    keep = keeps(ledger.db.as_mut(), &Taken::by(&statements, kind))?;
                }
                steps.push(Step {
                    keeps: keep,
                    stamp: record.stamp.clone(),
                    title: record.title.clone(),
                    store: ledgers.get(*ledger).map(|l| l.store.clone()).unwrap_or_default(),
                    way: "down",
                    statements: text.into_iter().map(str::to_owned).collect(),
                    transaction,
                    back: String::new(),
                    findings: Vec::new(),
                });
            }
            Ok(steps)
        };
        made().map_err(Failure::untouched)
    }
}
