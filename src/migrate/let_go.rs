//! What SQL revisions keep of what they took away: how much it is, and how it is let go.

use std::time::Instant;

use serde::Serialize;

use crate::revision::database::{FrozenDown, Standing, log_line};
use crate::revision::run::within;
use crate::revision::taken::{Taken, rows_of};
use crate::revision::{keep, sql};

use super::answers::{Outcome, RollbackOptions};
use super::chain::{Applied, Ledger};
use super::project::{Done, Project};
use super::{Error, Failure, Result};

/// A table in which something is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// The store it lies in.
    pub store: String,
    /// The table it lies in, as a statement names it.
    pub table: String,
    /// What it is, in plain words: `the table "a"`, `columns b, c of "a"`; or the table it lies in, where no record tells.
    pub what: String,
    /// Rows.
    pub rows: u64,
}

impl Project {
    /// What SQL revisions keep of what they took away.
    ///
    /// # Errors
    /// What a store says.
    pub fn kept(&self) -> Done<Vec<Kept>> {
        let made = || -> Result<Vec<Kept>> {
            let mut all = Vec::new();
            for ledger in &mut self.ledgers(false)? {
                all.extend(kept_in(ledger)?);
            }
            Ok(all)
        };
        made().map_err(Failure::untouched)
    }

    /// Lets go what revisions keep: their downs will not bring it back.
    pub(crate) fn let_go(&self, begun: Instant) -> Done<Outcome> {
        let mut out = Outcome::default();
        let mut ledgers = self.ledgers(true).map_err(Failure::untouched)?;
        for ledger in &mut ledgers {
            let kept = kept_in(ledger).map_err(Failure::untouched)?;
            if kept.is_empty() {
                continue;
            }
            let now = crate::now();
            let records = ledger.records.clone();
            let gone = within(ledger.db.as_mut(), "let go what revisions keep", |db| {
                db.prepare()?;
                for mut record in records {
                    let mine = |loss: &keep::Loss| kept.iter().any(|k| k.table == loss.kept);
                    if record.standing == Standing::Applied && record.lost_up.iter().any(mine) {
                        record.let_go = Some(now.clone());
                        db.put_record(&record)?;
                    }
                }
                for one in &kept {
                    let (stamp, rows) = (keep::stamp_of(&one.table), super::count(one.rows as usize, "row"));
                    db.log(&log_line(stamp, "", "let go", &now, format!("{}, {rows}", one.what)))?;
                    db.run(&format!("DROP TABLE {}", one.table))?;
                    db.run(&format!("DROP TABLE IF EXISTS {}", keep::numbers_of(&one.table)))?;
                }
                Ok(())
            });
            gone.map_err(|e| Failure::untouched(e.into()))?;
            out.notes
                .extend(kept.iter().map(|k| format!("let go: {}, {}", k.what, super::count(k.rows as usize, "row"))));
        }
        drop(ledgers);
        self.head_words(&mut out)?;
        out.nothing = out.notes.is_empty();
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    /// Tables with rows that a rollback of SQL revisions drops by the words of their downs, and how many rows.
    ///
    /// # Errors
    /// What `rollback` would refuse, or what a store says.
    pub fn rows_dropped(&self, asked: &RollbackOptions) -> Done<Vec<(String, u64)>> {
        let made = || -> Result<Vec<(String, u64)>> {
            let mut ledgers = self.ledgers(false)?;
            let chain = self.down_to(self.applied(&ledgers)?, asked.to.as_deref().unwrap_or("-1"))?;
            let mut all: Vec<(String, u64)> = Vec::new();
            for link in &chain {
                let Applied::Sql(i, record) = link else { continue };
                let (FrozenDown::Sql { text, .. }, Some(ledger)) = (&record.down, ledgers.get_mut(*i)) else {
                    continue;
                };
                let file = std::path::Path::new("frozen down");
                let taken = Taken::by(&sql::split(text, ledger.db.kind(), file)?, ledger.db.kind());
                for (table, rows) in rows_of(ledger.db.as_mut(), &taken.dropped)? {
                    if rows > 0 && !all.iter().any(|(known, _)| *known == table) {
                        all.push((table, rows));
                    }
                }
            }
            Ok(all)
        };
        made().map_err(Failure::untouched)
    }
}

fn kept_in(ledger: &mut Ledger) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    let tables: Vec<(String, String)> = keep::all_kept(ledger.db.as_mut())?;
    let named: Vec<String> = tables.iter().map(|(table, _)| table.clone()).collect();
    for (table, rows) in rows_of(ledger.db.as_mut(), &named)? {
        // the numbers of another one are no rows of anybody's
        if named.iter().any(|other| keep::numbers_of(other) == table) {
            continue;
        }
        let losses = ledger.records.iter().flat_map(|r| &r.lost_up);
        let known = losses.filter(|loss| loss.kept == table).map(keep::Loss::words).next();
        let what = known.unwrap_or_else(|| format!("what was kept in {table}"));
        all.push(Kept { store: ledger.store.clone(), table, what, rows });
    }
    Ok(all)
}

/// Refuses to take a revision back that let go what it kept.
pub(super) fn refuse_let_go(record: &crate::revision::database::Record, force: bool) -> Result<()> {
    let Some(at) = record.let_go.as_ref().filter(|_| !force) else { return Ok(()) };
    let lost: Vec<String> = record.lost_up.iter().map(keep::Loss::words).collect();
    Err(Error::Refused {
        cause: format!(
            "{}_{} would come back without what it took away ({}): that was let go at {at}",
            record.stamp,
            record.slug,
            lost.join("; ")
        ),
        hint: "`backout rollback --force` takes it back all the same, without those values".into(),
    })
}
