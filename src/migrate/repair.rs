//! Repair: where nearly everything agrees, what differs is carried again from the live side, through the log like any change (P13).

use std::collections::HashSet;
use std::time::Instant;

use crate::mapping::{Way, map_key};
use crate::plan::TablePlan;
use crate::store::Phase;
use crate::value::Key;

use super::project::{Done, Project};
use super::sums::{Sums, both, suspects_of};
use super::verify::{self, Scope, Verified, alike};
use super::{Error, Failure, Result, Run, drain};

/// From this share of rows on (percent), what differs is worth carrying again; below it something is wrong with the whole.
const WORTH_IT: f64 = 95.0;

/// What `repair` is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    /// Rows carried in one transaction.
    pub batch: usize,
    /// Only say what differs.
    pub dry_run: bool,
    /// However few rows agree.
    pub force: bool,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Repaired {
    /// Run id.
    pub run: String,
    /// Migration's stamp.
    pub migration: String,
    /// Migration's title.
    pub title: String,
    /// Nothing was carried, as asked.
    pub dry_run: bool,
    /// Each table, in plan order.
    pub tables: Vec<TableRepaired>,
    /// Percent of all rows that agreed.
    pub agreement: f64,
    /// Rows that could not be mapped back.
    pub parked: Vec<String>,
    /// The comparison afterwards.
    pub verified: Option<Verified>,
    /// What state the data is in.
    pub state: String,
    /// Commands that lead on.
    pub next: String,
    /// Seconds it took.
    pub seconds: f64,
}

/// A table in a repair.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TableRepaired {
    /// The table, as the source names it.
    pub table: String,
    /// Rows of the side that has more.
    pub rows: u64,
    /// Rows that differed.
    pub differing: u64,
    /// Percent of rows that agreed.
    pub agreement: f64,
    /// Rows that were carried again.
    pub repaired: u64,
}

impl Project {
    /// Compares both sides of a run that is `ready` or soaking, and carries again from the live side what differs, if at least 95 %
    /// of all rows agree. Compares again afterwards.
    ///
    /// # Errors
    /// As for `up`; a refusal if fewer agree, with nothing changed.
    pub fn repair(&self, asked: &RepairOptions) -> Done<Repaired> {
        let begun = Instant::now();
        let (m, state) = self.the_open_run()?;
        let during = |e: Error| Failure::during(e, state.phase);
        let way = match state.phase {
            Phase::Ready => Way::Up,
            Phase::Soaking => Way::Down,
            other => return Err(self.not_now("repair", other)),
        };
        let mut run = self.attach(m, &state).map_err(during)?;
        let mut out = repair(&mut run, way, asked).map_err(during)?;
        (out.run, out.migration, out.title) = (state.run.clone(), state.migration.clone(), state.title.clone());
        (out.state, out.next) = (super::state_words(state.phase).into(), super::ways_out(state.phase));
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }
}

fn repair(run: &mut Run, way: Way, asked: &RepairOptions) -> Result<Repaired> {
    let plan = run.plan.clone();
    let id = run.id.clone();
    let mut out = Repaired { dry_run: asked.dry_run, ..Repaired::default() };
    let mut wrong = Vec::new();
    drain::drain(run, way)?;
    for (i, t) in plan.tables.iter().enumerate() {
        let (rows, keys) = differing(run, way, i, t)?;
        out.tables.push(TableRepaired {
            table: t.source.title().to_owned(),
            rows,
            differing: keys.len() as u64,
            agreement: agreement(rows, keys.len() as u64),
            repaired: 0,
        });
        wrong.push(keys);
    }
    let all = |f: fn(&TableRepaired) -> u64| out.tables.iter().map(f).sum::<u64>();
    out.agreement = agreement(all(|t| t.rows), all(|t| t.differing));
    if out.agreement < WORTH_IT && !asked.force {
        return Err(Error::Refused { cause: too_few(&out), hint: instead(way).into() });
    }
    // a repair that was cut off has left none: the comparison at the end takes them anew
    let known = run.sides(way).1.state()?.is_some_and(|s| !s.digests.is_empty());
    if asked.dry_run || (known && wrong.iter().all(Vec::is_empty)) {
        return Ok(out);
    }
    if known {
        // what is overwritten now is not what the fingerprints speak of
        super::change_state(run.sides(way).1, &id, "receiver: fingerprints cleared", |s| s.digests.clear())?;
    }
    for (i, (t, keys)) in plan.tables.iter().zip(&wrong).enumerate() {
        for some in keys.chunks(asked.batch.max(1)) {
            run.go_on()?;
            let given: Vec<Key> = match way {
                Way::Up => some.iter().filter_map(|k| map_key(Way::Down, t, k).ok()).collect(),
                Way::Down => some.to_vec(),
            };
            run.sides(way).0.doubt(&way.givers(&plan), i, &given)?;
            drain::drain(run, way)?;
            out.tables[i].repaired += given.len() as u64;
            run.observer.event(super::Event::Progress {
                what: "repairing",
                table: t.source.title().to_owned(),
                done: out.tables[i].repaired,
                total: keys.len() as u64,
            });
        }
    }
    out.parked = run.source.parked(&id)?.into_iter().map(|p| p.reason).collect();
    out.verified = Some(verify::compare(run, way, Scope::Full)?);
    Ok(out)
}

/// Rows of the larger side, and the keys (as the target has them) under which the sides really differ.
fn differing(run: &mut Run, way: Way, i: usize, t: &TablePlan) -> Result<(u64, Vec<Key>)> {
    run.go_on()?;
    let (source, target) = both(run, &mut None, i, t)?;
    let count = |s: &Sums| Sums::total(&s.as_target).rows + s.misfits.len() as u64;
    let rows = count(&source).max(count(&target));
    if alike(&source, &target) {
        return Ok((rows, Vec::new()));
    }
    let id = run.id.clone();
    let parked: HashSet<Key> = run.source.parked(&id)?.into_iter().filter(|p| p.table == i).map(|p| p.key).collect();
    let mut suspects = suspects_of(run, t, &source, &target)?;
    suspects.retain(|k| !parked.contains(k));
    drain::drain(run, way)?;
    let mut keys = Vec::new();
    for some in suspects.chunks(5_000) {
        keys.extend(verify::differing(run, way, i, t, some)?.into_iter().map(|(k, _)| k));
    }
    Ok((rows, keys))
}

/// Percent.
fn agreement(rows: u64, differing: u64) -> f64 {
    if rows == 0 && differing == 0 { 100.0 } else { 100.0 * rows.saturating_sub(differing) as f64 / rows.max(1) as f64 }
}

fn too_few(out: &Repaired) -> String {
    let tables: Vec<String> = out
        .tables
        .iter()
        .filter(|t| t.differing > 0)
        .map(|t| format!("{} {:.1} % ({} of {} differ)", t.table, t.agreement, t.differing, t.rows))
        .collect();
    format!(
        "only {:.1} % of all rows agree, and below {WORTH_IT} % there is no repairing: {}",
        out.agreement,
        tables.join(", ")
    )
}

fn instead(way: Way) -> &'static str {
    match way {
        Way::Up => {
            "nothing was changed: `backout abort` throws the target away and `backout up` makes it anew; `backout repair --force` carries all of it again"
        }
        Way::Down => {
            "nothing was changed: `backout rollback` takes the change back, carrying what differs as well; `backout repair --force` carries all of it again"
        }
    }
}
