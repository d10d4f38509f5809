//! Reading both sides of a table at once, into sums that tell whether they agree, and into keys where they do not.
//!
//! A row counts into a bucket chosen by its key, twice: as the target has it, and as the source has it (`down` being called
//! without the source's row). Only buckets that differ are read again, for keys.

use std::collections::{HashMap, HashSet};

use crate::mapping::{Way, canon_source, canon_target, has_words, map_row};
use crate::plan::TablePlan;
use crate::store::Store;
use crate::value::{Batch, Digest, Key};

use super::{Error, Event, Result, Run};

const BUCKETS: usize = 4096;
/// About as many rows are held at once, to tell which of them differ.
const MOST_KEYS: usize = 200_000;

/// Both sums of a side's rows.
pub(super) struct Sums {
    pub as_target: Vec<Digest>,
    pub as_source: Vec<Digest>,
    /// Rows that do not map to the other side.
    pub misfits: Vec<(Key, String)>,
}

impl Sums {
    pub(super) fn new() -> Sums {
        Sums {
            as_target: vec![Digest::default(); BUCKETS],
            as_source: vec![Digest::default(); BUCKETS],
            misfits: Vec::new(),
        }
    }
    pub(super) fn total(list: &[Digest]) -> Digest {
        list.iter().fold(Digest::default(), |mut a, d| {
            a.merge(*d);
            a
        })
    }
}

fn bucket(key: &[u8]) -> usize {
    usize::try_from(xxhash_rust::xxh3::xxh3_64(key) % BUCKETS as u64).unwrap_or(0)
}

/// Reads both sides of a table at once.
pub(super) fn both(run: &mut Run, i: usize, t: &TablePlan) -> Result<(Sums, Sums)> {
    let (mut source, mut target) = (run.source.again()?, run.target.again()?);
    let (observer, total) = (run.observer.clone(), run.counts.get(i).copied().unwrap_or(0));
    let stopped = run.stopped();
    std::thread::scope(|threads| {
        let from_source = threads.spawn(|| sum(source.as_mut(), Way::Up, t, None, &stopped, |_| {}));
        let from_target = sum(target.as_mut(), Way::Down, t, None, &stopped, |done| {
            observer.event(Event::Progress {
                what: "comparing",
                table: t.source.title().to_owned(),
                done,
                total: total.max(done),
            });
        });
        let from_source =
            from_source.join().map_err(|_| Error::Internal("the thread reading the source died".into()))?;
        Ok((from_source?.0, from_target?.0))
    })
}

/// Reads one side of a table.
pub(super) fn one(store: &mut dyn Store, way: Way, t: &TablePlan, stopped: &dyn Fn() -> bool) -> Result<Sums> {
    Ok(sum(store, way, t, None, stopped, |_| {})?.0)
}

type Rows = HashMap<Key, (u128, u128)>;

/// Reads one side of a table and sums it up; or, given buckets, returns the rows in them by key.
fn sum(
    store: &mut dyn Store,
    way: Way,
    t: &TablePlan,
    collect: Option<&HashSet<usize>>,
    stopped: &dyn Fn() -> bool,
    mut progress: impl FnMut(u64),
) -> Result<(Sums, Rows)> {
    let words = has_words(t);
    let (mut sums, mut rows, mut after, mut done) = (Sums::new(), Rows::new(), Vec::new(), 0u64);
    let (mut batch, mut own, mut other) = (Batch::default(), Vec::new(), Vec::new());
    loop {
        if stopped() {
            return Err(Error::Stopped);
        }
        batch.clear();
        let next = store.scan(way.giver(t), &after, 20_000, &mut batch)?;
        for (bytes, row) in batch.encoded().zip(batch.rows()) {
            own.clear();
            other.clear();
            let mapped = map_row(way, t, &row, None);
            let mapped = match mapped {
                Ok(m) => m,
                Err(misfit) => {
                    if sums.misfits.len() < MOST_KEYS {
                        sums.misfits.push((Key::of_row(&row, &way.giver(t).key), misfit.to_string()));
                    }
                    continue;
                }
            };
            let (as_target, as_source, key) = match way {
                Way::Up => {
                    let key = Key::of_row(&mapped, &t.target.key);
                    mapped.iter().for_each(|v| v.encode(&mut other));
                    canon_source(t, row, &mut own);
                    (&other[..], &own[..], key)
                }
                Way::Down => {
                    let key = Key::of_row(&row, &t.target.key);
                    let words = words.then(|| canon_target(t, &row, &mapped));
                    words.iter().flatten().for_each(|v| v.encode(&mut own));
                    canon_source(t, mapped, &mut other);
                    (if words.is_some() { &own[..] } else { bytes }, &other[..], key)
                }
            };
            let at = bucket(&key.0);
            let Some(wanted) = collect else {
                sums.as_target[at].add(as_target);
                sums.as_source[at].add(as_source);
                continue;
            };
            if wanted.contains(&at) {
                rows.insert(key, (xxhash_rust::xxh3::xxh3_128(as_target), xxhash_rust::xxh3::xxh3_128(as_source)));
            }
        }
        done += batch.len() as u64;
        progress(done);
        match next {
            Some(n) => after = n,
            None => return Ok((sums, rows)),
        }
    }
}

/// Keys (as the target has them) that may differ.
pub(super) fn suspects(run: &mut Run, i: usize, t: &TablePlan) -> Result<Vec<Key>> {
    let (source, target) = both(run, i, t)?;
    suspects_of(run, t, &source, &target)
}

pub(super) fn suspects_of(run: &mut Run, t: &TablePlan, source: &Sums, target: &Sums) -> Result<Vec<Key>> {
    let wrong: HashSet<usize> = (0..BUCKETS)
        .filter(|&b| source.as_target[b] != target.as_target[b] || source.as_source[b] != target.as_source[b])
        .collect();
    let mut keys: Vec<Key> = Vec::new();
    for (key, _) in &source.misfits {
        keys.extend(crate::mapping::map_key(Way::Up, t, key));
    }
    keys.extend(target.misfits.iter().map(|(k, _)| k.clone()));
    // as many buckets at a time as fit into memory
    let mut wrong: Vec<usize> = wrong.into_iter().collect();
    while !wrong.is_empty() {
        let mut some = 0;
        let mut these = HashSet::new();
        while let Some(b) = wrong.pop_if(|_| some < MOST_KEYS as u64) {
            some += source.as_target[b].rows.max(target.as_target[b].rows);
            these.insert(b);
        }
        let (mut s, mut d) = (run.source.again()?, run.target.again()?);
        let stopped = run.stopped();
        let (_, a) = sum(s.as_mut(), Way::Up, t, Some(&these), &stopped, |_| {})?;
        let (_, b) = sum(d.as_mut(), Way::Down, t, Some(&these), &stopped, |_| {})?;
        keys.extend(a.iter().filter(|(k, v)| b.get(*k) != Some(v)).map(|(k, _)| k.clone()));
        keys.extend(b.keys().filter(|k| !a.contains_key(*k)).cloned());
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}
