//! Comparing both sides, every row and both ways, while one of them may be written to.
//!
//! Each side is read once (`sums`); where the sums differ, the keys are looked for, and a key counts as different only if, in one
//! look at the live side, no change of it is still on its way (P14).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::mapping::{Way, canon_source, canon_target, map_row};
use crate::plan::{Kind, Plan, Table, TablePlan};
use crate::store::{self, Phase, Store};
use crate::value::{Digest, Key, Value};

use super::fingerprint::{self, Fingerprint};
use super::sums::{Readers, Sums, both, suspects_of};
use super::{Error, Result, Run, checks, doubt, drain, looking, now, sample};

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// How many rows each table has, and its definition.
    Quick,
    /// Some rows of each table, chosen by its key all over it, on both sides.
    Sample {
        /// How many of each side.
        rows: u64,
        /// Which ones: the same seed chooses the same rows of the same table.
        seed: u64,
    },
    /// Every row, every column, both ways, and the stores' own checks.
    #[default]
    Full,
    /// The same with the most thorough checks the stores have, and the source's definition against the plan.
    Deep,
}

/// What `verify` is asked to do.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// How much.
    pub scope: Scope,
    /// Stop after this long, and say what was not compared.
    pub timeout: Option<Duration>,
    /// Compare the source with its recorded fingerprint, after a rollback.
    pub rollback: bool,
}

/// What verification came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verified {
    /// `quick`, `sample`, `full`, `deep`, or `rollback` (only the source, against its fingerprint).
    pub scope: &'static str,
    /// The seed of a sample.
    pub seed: Option<u64>,
    /// Rows compared (or counted, if quick), per table in plan order.
    pub rows: Vec<(String, u64)>,
    /// Digest of each table of the source.
    pub digests: Vec<Digest>,
    /// Rows that differ, one line each.
    pub differences: Vec<String>,
    /// What the stores' own checks and the schema's comparison found.
    pub problems: Vec<String>,
    /// After a rollback: each table of the source against what was recorded of it.
    pub fingerprints: Vec<Fingerprint>,
    /// What there was no time for.
    pub not_compared: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Scope::Quick => "quick",
            Scope::Sample { .. } => "sample",
            Scope::Full => "full",
            Scope::Deep => "deep",
        }
    }
}

impl Verified {
    /// Every difference between rows, and tables that do not have their fingerprint.
    pub fn found(&self) -> Vec<String> {
        let differ = self.fingerprints.iter().filter(|f| f.verdict == "differs");
        let tables = differ.map(|f| format!("{}: {}, by its fingerprint", f.table, f.why));
        self.differences.iter().cloned().chain(tables).collect()
    }

    /// Nothing speaks against it, in what was compared.
    pub fn agrees(&self) -> bool {
        self.found().is_empty() && self.problems.is_empty()
    }
}

/// Rows of the source that are in no slice of their table are not in the target, and no comparison of slices finds them.
fn no_strangers(run: &mut Run) -> Result<()> {
    let plan = run.plan.clone();
    let sources = plan.source_tables();
    for (i, t) in sources.iter().enumerate().filter(|(_, t)| t.only.is_some()) {
        let slices: Vec<usize> = drain::slices_of(Way::Up, &plan, &t.name).map(|(i, _)| i).collect();
        if slices.first() != Some(&i) {
            continue;
        }
        let all = Table { only: None, ..(*t).clone() };
        let (there, taken) = looking(run.source.as_mut(), &sources, |s| {
            let each = slices.iter().map(|i| s.count(sources[*i])).sum::<store::Result<u64>>()?;
            Ok((s.count(&all)?, each))
        })?;
        if there != taken {
            return Err(Error::Refused {
                cause: format!(
                    "{} of {} are in none of the tables that it is split into",
                    super::count(there.abs_diff(taken) as usize, "row"),
                    t.title()
                ),
                hint: "name every value of its discriminator in the migration: `backout abort`, then `backout plan`"
                    .into(),
            });
        }
    }
    Ok(())
}

/// Verifying before the cutover. What differs is looked at again through the log (P13); what differs then fails.
pub(crate) fn before_cutover(run: &mut Run) -> Result<Phase> {
    let mut verified = Verified::default();
    if run.settings.verify {
        verified = compare(run, Way::Up, Scope::Full)?;
        if !verified.differences.is_empty() {
            run.note(format!("{} differ; they are carried again", super::count(verified.differences.len(), "row")));
            doubt::resolve(run, Way::Up)?;
            drain::drain(run, Way::Up)?;
            verified = compare(run, Way::Up, Scope::Full)?;
        }
        if !verified.differences.is_empty() {
            return Err(Error::Differences(verified.differences));
        }
        no_strangers(run)?;
        let problems = checks::of_target(run)?;
        if !problems.is_empty() {
            return Err(Error::Refused {
                cause: format!("the stores' own checks found: {}", problems.join("; ")),
                hint: "mend it in the source, then `backout abort` and `backout up`".into(),
            });
        }
    } else {
        run.note("not verified, as asked");
    }
    let at = run.settings.verify.then(now);
    run.summary.verified = run.settings.verify.then(|| verified.clone());
    run.change_source("source: ready", |s| {
        s.verified_at = at;
        s.digests = verified.digests;
        s.phase = Phase::Ready;
        s.last_error = None;
    })?;
    Ok(Phase::Ready)
}

/// Comparison of a run whose resting side follows: changes under way are carried before a difference counts. Where the time for it is
/// over, what is left is told in `not_compared`.
pub(crate) fn compare(run: &mut Run, way: Way, scope: Scope) -> Result<Verified> {
    let begun = Instant::now();
    let plan = run.plan.clone();
    let mut early = run.early.take();
    let id = run.id.clone();
    let seconds = early.as_ref().map_or(0.0, |e| e.seconds);
    let mut out = Verified { scope: scope.name(), seconds, ..Verified::default() };
    if let Scope::Sample { seed, .. } = scope {
        out.seed = Some(seed);
    }
    // parked rows differ by definition; they are listed as parked
    let parked: HashSet<(usize, Key)> = run.source.parked(&id)?.into_iter().map(|p| (p.table, p.key)).collect();
    // Of the resting side's rows, as the source has them: our drains alone write those. What is known of a source that rests is kept.
    let known = way == Way::Down && !run.source_state()?.digests.is_empty();
    let mut digests = (!known).then(Vec::new);
    let mut readers = None;
    for (i, t) in plan.tables.iter().enumerate() {
        let one = match scope {
            Scope::Quick => {
                drain::drain(run, way)?;
                counted(run, way, i, t)
            }
            Scope::Sample { rows, seed } => sampled(run, way, (i, t), rows, seed),
            Scope::Full | Scope::Deep => {
                let read = early.as_mut().and_then(|e| e.sums.get_mut(i)?.take());
                every_row(run, way, (i, t), (read, &mut readers), &parked, &mut digests)
            }
        };
        match one {
            Ok((rows, digest, differences)) => {
                out.rows.push((t.source.title().to_owned(), rows));
                out.digests.extend(digest);
                out.differences.extend(differences);
            }
            Err(Error::Stopped | Error::TimedOut)
                if run.out_of_time() && !run.stop.load(std::sync::atomic::Ordering::SeqCst) =>
            {
                out.not_compared.extend(plan.tables[i..].iter().map(|t| format!("table {}", t.source.title())));
                break;
            }
            Err(e) => return Err(e),
        }
    }
    super::heard(&plan)?;
    if let Some(digests) = digests.filter(|d| d.len() == plan.tables.len() && out.differences.is_empty()) {
        note_digests(run, way, digests)?;
    }
    out.seconds += begun.elapsed().as_secs_f64();
    Ok(out)
}

type Compared = (u64, Option<Digest>, Vec<String>);

fn every_row(
    run: &mut Run,
    way: Way,
    (i, t): (usize, &TablePlan),
    (read, readers): (Option<(Sums, Sums)>, &mut Option<Readers>),
    parked: &HashSet<(usize, Key)>,
    digests: &mut Option<Vec<Digest>>,
) -> Result<Compared> {
    run.go_on()?;
    let (source, target) = match read {
        Some(read) => read,
        None => both(run, readers, i, t)?,
    };
    let found = Sums::total(&source.as_source);
    if let Some(digests) = digests {
        digests.push(if way == Way::Up { Sums::total(&target.as_source) } else { found });
    }
    if alike(&source, &target) {
        return Ok((found.rows, Some(found), Vec::new()));
    }
    let mut keys = suspects_of(run, t, &source, &target)?;
    keys.retain(|k| !parked.contains(&(i, k.clone())));
    // the drain keeps up what is in the record: what is known by now goes there first
    if let Some(digests) = digests {
        note_digests(run, way, digests.clone())?;
        drain::drain(run, way)?;
        let receiver = if way == Way::Up { run.target_state()? } else { run.source_state()? };
        *digests = receiver.digests;
    } else {
        drain::drain(run, way)?;
    }
    Ok((found.rows, Some(found), words(differing(run, way, i, t, &keys)?)))
}

fn note_digests(run: &mut Run, way: Way, digests: Vec<Digest>) -> Result<()> {
    let id = run.id.clone();
    let (_, receiver) = run.sides(way);
    super::change_state(receiver, &id, "receiver: fingerprints", |s| s.digests = digests).map(drop)
}

pub(super) fn alike(source: &Sums, target: &Sums) -> bool {
    let equal = source.as_target == target.as_target && source.as_source == target.as_source;
    equal && source.misfits.is_empty() && target.misfits.is_empty()
}

/// Rows chosen all over the table, on each side, looked for on the other.
fn sampled(run: &mut Run, way: Way, (i, t): (usize, &TablePlan), rows: u64, seed: u64) -> Result<Compared> {
    run.go_on()?;
    let stopped = run.stopped();
    let mut keys = Vec::new();
    let mut differences = Vec::new();
    let id = run.id.clone();
    let parked: HashSet<Key> = run.source.parked(&id)?.into_iter().filter(|p| p.table == i).map(|p| p.key).collect();
    for side in [Way::Up, Way::Down] {
        let (giver, _) = run.sides(side);
        let (chosen, misfits) = sample::keys(giver, side, t, rows, seed ^ (i as u64), &stopped)?;
        keys.extend(chosen);
        differences.extend(misfits);
    }
    keys.sort();
    keys.dedup();
    keys.retain(|k| !parked.contains(k));
    drain::drain(run, way)?;
    for some in keys.chunks(5_000) {
        run.go_on()?;
        differences.extend(words(differing(run, way, i, t, some)?));
    }
    Ok((keys.len() as u64, None, differences))
}

/// How many rows each side has. A row counts if no change of it is under way, and if it is not parked.
fn counted(run: &mut Run, way: Way, i: usize, t: &TablePlan) -> Result<Compared> {
    run.go_on()?;
    let plan: Plan = run.plan.clone();
    let (givers, receivers) = (way.givers(&plan), way.receivers(&plan));
    let id = run.id.clone();
    let parked: Vec<Key> =
        run.source.parked(&id)?.into_iter().filter(|p| p.table == i && way == Way::Down).map(|p| p.key).collect();
    let staying = t.staying().into_iter();
    let staying: Vec<Key> = match way {
        Way::Up => staying.collect(),
        Way::Down => staying.filter_map(|k| crate::mapping::map_key(Way::Up, t, &k).ok()).collect(),
    };
    let from = log_from(run, way)?;
    let (giver, receiver) = run.sides(way);
    let there = |s: &mut dyn Store, table: &Table, keys: &[Key]| -> Result<u64> {
        Ok(s.count(table)? - s.fetch(table, keys)?.iter().flatten().count() as u64)
    };
    let seen = looking(giver, &givers, |g| {
        let Some(mut keys) = under_way(g, &givers, from.as_ref(), i)? else { return Ok(None) };
        keys.extend(parked);
        keys.extend(staying);
        let keys: Vec<Key> = keys.into_iter().collect();
        Ok(Some((there(g, way.giver(t), &keys)?, keys)))
    })?;
    // truncated this very moment: there is nothing to count
    let Some((mine, keys)) = seen else { return Ok((0, None, Vec::new())) };
    let keys: Vec<Key> = keys.iter().filter_map(|k| crate::mapping::map_key(way, t, k).ok()).collect();
    let theirs = looking(receiver, &receivers, |r| there(r, way.receiver(t), &keys))?;
    let (s, d) = if way == Way::Up { (mine, theirs) } else { (theirs, mine) };
    let name = t.source.title();
    let apart = (s != d).then(|| format!("{name}: {s} rows in the source, {d} in the target"));
    Ok((mine, None, apart.into_iter().collect()))
}

/// Comparison after a rollback, while both sides are still there: every row, and the source against its fingerprint. What the
/// application has written to the source since, by its log, is no difference.
pub(crate) fn after_rollback(run: &mut Run) -> Result<Verified> {
    let begun = Instant::now();
    let plan = run.plan.clone();
    let id = run.id.clone();
    let mut out = Verified { scope: Scope::Full.name(), ..Verified::default() };
    let parked: HashSet<(usize, Key)> = run.source.parked(&id)?.into_iter().map(|p| (p.table, p.key)).collect();
    let mut readers = None;
    for (i, t) in plan.tables.iter().enumerate() {
        run.go_on()?;
        let before = fingerprint::written(run, i)?;
        let (source, target) = both(run, &mut readers, i, t)?;
        let after = fingerprint::written(run, i)?;
        let found = Sums::total(&source.as_source);
        out.rows.push((t.source.title().to_owned(), found.rows));
        out.digests.push(found);
        out.fingerprints.extend(fingerprint::check(run, i, found, [&before, &after])?);
        if !alike(&source, &target) {
            let mut keys = suspects_of(run, t, &source, &target)?;
            keys.retain(|k| !parked.contains(&(i, k.clone())));
            out.differences.extend(words(differing(run, Way::Up, i, t, &keys)?));
        }
    }
    if plan.from.kind != Kind::Json {
        out.problems = checks::definitions(run.source.as_mut(), &plan)?;
    }
    out.seconds = begun.elapsed().as_secs_f64();
    Ok(out)
}

/// From where the receiver has not seen the giver's log.
fn log_from(run: &mut Run, way: Way) -> Result<Option<crate::store::Position>> {
    let id = run.id.clone();
    let (giver, receiver) = run.sides(way);
    let checkpoint = receiver.state()?.filter(|s| s.run == id).and_then(|s| s.checkpoint);
    let begun = giver.state()?.filter(|s| s.run == id).and_then(|s| s.captured_from);
    Ok(checkpoint.or(begun))
}

/// Keys of table `i` of which a change is on its way, within a look at the giver; `None`: all of them.
fn under_way(
    giver: &mut dyn Store,
    givers: &[&Table],
    from: Option<&crate::store::Position>,
    i: usize,
) -> Result<Option<HashSet<Key>>> {
    let mut keys = HashSet::new();
    let Some(from) = from else { return Ok(Some(keys)) };
    for e in giver.log_since(givers, from)?.0.into_iter().filter(|e| e.table == i) {
        if e.op == crate::store::Op::Truncate {
            return Ok(None);
        }
        keys.extend(e.before.into_iter().chain(e.after));
    }
    Ok(Some(keys))
}

/// Which of these keys really differ, seen in one look at the live side in which no change of them is under way.
pub(super) fn differing(run: &mut Run, way: Way, i: usize, t: &TablePlan, keys: &[Key]) -> Result<Vec<(Key, String)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let plan: Plan = run.plan.clone();
    let givers = way.givers(&plan);
    // the giver's own keys, where they can be said
    let mut pairs: Vec<(Key, Key)> = Vec::new();
    let mut out = Vec::new();
    for k in keys {
        match crate::mapping::map_key(Way::Down, t, k) {
            Ok(s) => pairs.push((s, k.clone())),
            Err(m) => out.push((k.clone(), m.to_string())),
        }
    }
    // of two rows of the source that lead to one of the target, one would be lost
    let rivals = keys.iter().filter_map(|k| Some((crate::mapping::rival_key(t, k)?, k.clone())));
    let rivals: Vec<(Key, Key)> = if way == Way::Up { rivals.collect() } else { Vec::new() };
    let rival_keys: Vec<Key> = rivals.iter().map(|(r, _)| r.clone()).collect();
    let source_keys: Vec<Key> = pairs.iter().map(|(s, _)| s.clone()).collect();
    let target_keys: Vec<Key> = pairs.iter().map(|(_, t)| t.clone()).collect();
    let from = log_from(run, way)?;
    let (giver, receiver) = run.sides(way);
    let (mine, theirs) = if way == Way::Up { (&source_keys, &target_keys) } else { (&target_keys, &source_keys) };
    let (rows, rival_rows, pending) = looking(giver, &givers, |g| {
        let pending = under_way(g, &givers, from.as_ref(), i)?;
        let rows = if pending.is_some() { Some(g.fetch(way.giver(t), mine)?) } else { None };
        let rival_rows = if rival_keys.is_empty() { Vec::new() } else { g.fetch(way.giver(t), &rival_keys)? };
        Ok((rows, rival_rows, pending.unwrap_or_default()))
    })?;
    let Some(rows) = rows else { return Ok(Vec::new()) };
    for ((rival, key), row) in rivals.into_iter().zip(rival_rows) {
        if row.is_some() && !pending.contains(&rival) {
            let what = format!("{} {rival}: leads to row {key} of the target, which is another's", t.source.title());
            out.push((key, what));
        }
    }
    let receivers = way.receivers(&plan);
    let others = looking(receiver, &receivers, |r| Ok(r.fetch(way.receiver(t), theirs)?))?;
    for (n, (mine_row, their_row)) in rows.into_iter().zip(others).enumerate() {
        if pending.contains(&mine[n]) {
            continue;
        }
        let (s, d) = if way == Way::Up { (mine_row, their_row) } else { (their_row, mine_row) };
        let what = match (s, d) {
            (None, None) => None,
            (Some(_), None) => Some("missing in the target".to_owned()),
            (None, Some(_)) => Some("only in the target".to_owned()),
            (Some(s), Some(d)) => row_difference(t, &s, &d),
        };
        out.extend(what.map(|what| (pairs[n].1.clone(), format!("{} {}: {what}", t.source.title(), pairs[n].0))));
    }
    Ok(out)
}

fn words(list: Vec<(Key, String)>) -> Vec<String> {
    list.into_iter().map(|(_, what)| what).collect()
}

/// How two rows differ, both ways, or not at all.
fn row_difference(t: &TablePlan, s: &[Value<'_>], d: &[Value<'_>]) -> Option<String> {
    let up = match map_row(Way::Up, t, s, None) {
        Ok(up) => up,
        Err(m) => return Some(m.to_string()),
    };
    let down = match map_row(Way::Down, t, d, None) {
        Ok(down) => down,
        Err(m) => return Some(m.to_string()),
    };
    if let Some(c) = up.iter().zip(&canon_target(t, d, &down)).position(|(a, b)| a != b) {
        return Some(format!("column {}: {} in the source, {} in the target", t.source.columns[c].name, s[c], d[c]));
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    canon_source(t, s.to_vec(), &mut a);
    canon_source(t, down, &mut b);
    (a != b).then(|| "the way back would not give the source's row".to_owned())
}
