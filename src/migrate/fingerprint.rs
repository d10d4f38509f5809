//! What the source's rows must be, table by table, known without the target and without a second copy.
//!
//! The comparison before the cutover gives each table's digest. It is a sum, so every drain adds what it writes and takes away what
//! it overwrites: expected is what was verified, less the carried changes. As long as the source is live the target's record has
//! the digests (of its own rows as the source would have them), from the seal on the source's own.

use std::collections::HashSet;

use crate::mapping::{Way, canon_source, map_key, map_row};
use crate::plan::{Pair, Plan, Table, TablePlan};
use crate::store::{Op, Position, Remains, State, Store, Write};
use crate::value::{Digest, Key, Row};

use super::sums::{self, Sums};
use super::{Result, Run, looking};

/// What became of a table's fingerprint.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Fingerprint {
    /// The table, as the source names it.
    pub table: String,
    /// What was verified before the cutover, less the carried changes.
    pub expected: Digest,
    /// What was found; what the application has written since taken away, where that can be told.
    pub found: Digest,
    /// `same`, `differs`, or `open`: it cannot be told.
    pub verdict: &'static str,
    /// Why it differs or cannot be told, in words.
    pub why: String,
}

/// Carries a drain's writes to one table into the digests of the receiver's record.
///
/// `before` has what was under each key that is written.
pub(super) fn shift(
    digests: &mut Vec<Digest>,
    way: Way,
    (i, t): (usize, &TablePlan),
    before: &[(Key, Option<Row>)],
    writes: &[Write],
) {
    let Some(mut digest) = digests.get(i).copied() else { return };
    let puts = writes.iter().filter_map(|w| if let Write::Put { row, .. } = w { Some(row) } else { None });
    let carried = || -> std::result::Result<(), crate::mapping::Misfit> {
        let mut bytes = Vec::new();
        for row in before.iter().filter_map(|(_, row)| row.as_ref()) {
            as_source(way, t, row, &mut bytes)?;
            digest.remove(&bytes);
        }
        for row in puts {
            as_source(way, t, row, &mut bytes)?;
            digest.add(&bytes);
        }
        Ok(())
    };
    match carried() {
        Ok(()) => digests[i] = digest,
        // none is better than a wrong one
        Err(_) => digests.clear(),
    }
}

/// A row of the receiver as the source has it, encoded into `out`.
fn as_source(way: Way, t: &TablePlan, row: &Row, out: &mut Vec<u8>) -> std::result::Result<(), crate::mapping::Misfit> {
    out.clear();
    let row = if way == Way::Up { map_row(Way::Down, t, row, None)? } else { row.clone() };
    canon_source(t, row, out);
    Ok(())
}

/// What a run that ends leaves for `verify --rollback` and `extract`, and for its migration's next `up`: these pairs.
pub(super) fn remains(state: &State, plan: &Plan, pairs: Vec<Pair>) -> Result<Remains> {
    let text = serde_json::to_string(plan).map_err(|e| super::Error::Internal(e.to_string()))?;
    Ok(Remains { plan: text, digests: state.digests.clone(), as_of: state.drained_at.clone(), pairs })
}

/// What the live source's log names since it was opened, for one table.
#[derive(Default, PartialEq)]
pub(super) struct Written {
    keys: HashSet<Key>,
    entries: usize,
    all: bool,
}

/// What the application has written to table `i` of the source since it was opened again.
pub(super) fn written(run: &mut Run, i: usize) -> Result<Written> {
    let plan = run.plan.clone();
    let givers = Way::Up.givers(&plan);
    let Some(from) = run.source_state()?.captured_from else { return Ok(Written::default()) };
    looking(run.source.as_mut(), &givers, |s| written_since(s, &givers, &from, i))
}

fn written_since(source: &mut dyn Store, givers: &[&Table], from: &Position, i: usize) -> Result<Written> {
    let mut out = Written::default();
    for e in source.log_since(givers, from)?.0.into_iter().filter(|e| e.table == i) {
        out.entries += 1;
        out.all |= e.op == Op::Truncate;
        out.keys.extend(e.before.into_iter().chain(e.after));
    }
    Ok(out)
}

/// Holds a table of the live source, found to be `found` between two looks at its log, against what it must be. What the application
/// has written since is told apart with the sealed target's help.
pub(super) fn check(run: &mut Run, i: usize, found: Digest, looks: [&Written; 2]) -> Result<Option<Fingerprint>> {
    let plan = run.plan.clone();
    let t = &plan.tables[i];
    let Some(expected) = run.source_state()?.digests.get(i).copied() else { return Ok(None) };
    let mut out = Fingerprint {
        table: t.source.title().to_owned(),
        expected,
        found,
        verdict: "open",
        why: "cannot be told, as the application wrote meanwhile; it was compared with the target".into(),
    };
    let [before, after] = looks;
    if before == after && after.keys.is_empty() && !after.all {
        judge(&mut out);
        return Ok(Some(out));
    }
    // a look that is held so long holds nobody up for long (P7)
    if found.rows > AT_ONCE {
        return Ok(Some(out));
    }
    if let Some((found, now, then)) = taken_apart(run, i, t)? {
        out.found = found;
        out.found.less(now);
        out.found.merge(then);
        judge(&mut out);
    }
    Ok(Some(out))
}

/// Rows of a table that are read in one look.
const AT_ONCE: u64 = 50_000;

fn judge(out: &mut Fingerprint) {
    (out.verdict, out.why) =
        if out.found == out.expected { ("same", String::new()) } else { ("differs", apart(&out.expected, &out.found)) };
}

/// In one look at the live source: the whole table; the rows that were written since it was opened; and these as they were then, by
/// the sealed target. `None` if that cannot be told.
fn taken_apart(run: &mut Run, i: usize, t: &TablePlan) -> Result<Option<(Digest, Digest, Digest)>> {
    let plan = run.plan.clone();
    let id = run.id.clone();
    // of a parked row the target does not tell how the source had it
    if run.source.parked(&id)?.iter().any(|p| p.table == i) {
        return Ok(None);
    }
    let givers = Way::Up.givers(&plan);
    let (stopped, from) = (run.stopped(), run.source_state()?.captured_from);
    let Some(from) = from else { return Ok(None) };
    let (all, keys, now) = looking(run.source.as_mut(), &givers, |s| {
        let keys = written_since(s, &givers, &from, i)?;
        let keys: Option<Vec<Key>> = (!keys.all).then(|| keys.keys.into_iter().collect());
        let all = Sums::total(&sums::one(s, Way::Up, t, &stopped)?.as_source);
        let now = keys.as_ref().map(|keys| s.fetch(&t.source, keys)).transpose()?;
        Ok((all, keys, now))
    })?;
    let Some((keys, now)) = keys.zip(now) else { return Ok(None) };
    // where keys become others, a new one may lead to the row of another that was made up for it
    let its_own = |key: &Key, there: &Key| map_key(Way::Down, t, there).is_ok_and(|back| back == *key);
    let there = keys.iter().filter_map(|k| map_key(Way::Up, t, k).ok().filter(|there| its_own(k, there)));
    let there: Vec<Key> = there.collect();
    let then = looking(run.target.as_mut(), &plan.target_tables(), |d| Ok(d.fetch(&t.target, &there)?))?;
    let mut bytes = Vec::new();
    let mut sum = |way: Way, rows: Vec<Option<Row>>| -> Option<Digest> {
        let mut digest = Digest::default();
        for row in rows.into_iter().flatten() {
            as_source(way, t, &row, &mut bytes).ok()?;
            digest.add(&bytes);
        }
        Some(digest)
    };
    Ok(sum(Way::Down, now).zip(sum(Way::Up, then)).map(|(now, then)| (all, now, then)))
}

/// Reads a source that no run holds any more against what a rolled-back run left.
pub(super) fn check_closed(
    source: &mut dyn Store,
    plan: &Plan,
    remains: &Remains,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<(Vec<Fingerprint>, Vec<String>)> {
    let (mut out, mut misfits) = (Vec::new(), Vec::new());
    for (t, expected) in plan.tables.iter().zip(&remains.digests) {
        let sums = sums::one(source, Way::Up, t, stopped)?;
        misfits.extend(sums.misfits.iter().map(|(_, why)| why.clone()));
        let mut found = Digest::default();
        sums.as_source.iter().for_each(|d| found.merge(*d));
        let mut one = Fingerprint {
            table: t.source.title().to_owned(),
            expected: *expected,
            found,
            verdict: "open",
            why: String::new(),
        };
        judge(&mut one);
        out.push(one);
    }
    Ok((out, misfits))
}

/// How far two digests of a table are apart, as far as a sum can tell.
fn apart(expected: &Digest, found: &Digest) -> String {
    match (expected.rows, found.rows) {
        (e, f) if f > e => format!("{} more than the {e} that were there", f - e),
        (e, f) if f < e => format!("{} fewer than the {e} that were there", e - f),
        (e, _) => format!("as many rows ({e}), but not the same"),
    }
}

/// How a table of the source differs from what the plan recorded of it before the run.
pub(super) fn schema_apart(planned: &Table, found: Option<&Table>) -> Vec<String> {
    let name = planned.title();
    let Some(found) = found else { return vec![format!("table {name} is not there any more")] };
    // a plan leaves out what it does not carry, and says how it reads a value
    let bare = |t: &Table| {
        let mut t = t.whole().as_frozen();
        t.columns.extend(std::mem::take(&mut t.alone).into_iter().map(|l| l.column));
        t.columns.iter_mut().for_each(|c| c.as_text = false);
        // it counts the columns that are carried
        t.generated.iter_mut().for_each(|g| g.place = 0);
        t.details.types.clear();
        t
    };
    let (planned, found) = (&bare(planned), &bare(found));
    let mut out = Vec::new();
    for c in &planned.columns {
        match found.columns.iter().find(|f| f.name == c.name) {
            None => out.push(format!("column {name}.{} is missing", c.name)),
            Some(f) if f != c => out.push(format!("column {name}.{} is not declared as it was", c.name)),
            Some(_) => {}
        }
    }
    for f in found.columns.iter().filter(|f| planned.column(&f.name).is_none()) {
        out.push(format!("column {name}.{} was not there", f.name));
    }
    let mut part = |what: &str, same: bool| {
        if !same {
            out.push(format!("{what} of {name} are not as they were"));
        }
    };
    // of a table without one another unique index serves
    part("the key's columns", found.key.is_empty() || planned.key_names() == found.key_names());
    part("generated columns", planned.generated == found.generated);
    part("the checks", planned.checks == found.checks);
    part("the words of the definition", planned.details == found.details);
    for i in &planned.indexes {
        if !found.indexes.contains(i) {
            out.push(format!("index {} on {name} is not as it was", i.name.as_deref().unwrap_or("without a name")));
        }
    }
    for f in found.indexes.iter().filter(|f| !planned.indexes.contains(f)) {
        out.push(format!("index {} on {name} was not so", f.name.as_deref().unwrap_or("without a name")));
    }
    for f in planned.foreign_keys.iter().filter(|f| !found.foreign_keys.contains(f)) {
        out.push(format!("foreign key {name} ({}) → {} is not as it was", f.columns.join(", "), f.table));
    }
    for f in found.foreign_keys.iter().filter(|f| !planned.foreign_keys.contains(f)) {
        out.push(format!("foreign key {name} ({}) → {} was not so", f.columns.join(", "), f.table));
    }
    out
}
