//! Reading both sides of a table at once, into sums that tell whether they agree, and into keys where they do not.
//!
//! A row counts into a bucket chosen by its key, twice: as the target has it, and as the source has it (`down` being called
//! without the source's row). Only buckets that differ are read again, for keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::mapping::stream::Stream;
use crate::mapping::{self, Way, canon_source, canon_target, has_words};
use crate::plan::{Kind, TablePlan};
use crate::store::Store;
use crate::value::{Batch, Digest, Key, encode_row, values_of};

use super::{Error, Event, Observer, Result, Run};

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

/// Two connections of our own, to read both sides with, beside whatever else the run does.
pub(super) struct Readers {
    source: Box<dyn Store>,
    target: Box<dyn Store>,
    observer: Arc<dyn Observer>,
    stopped: Box<dyn Fn() -> bool + Send + Sync>,
    counts: Vec<u64>,
}

impl Readers {
    pub(super) fn of(run: &Run) -> Result<Readers> {
        let (source, target) = (run.source.again()?, run.target.again()?);
        let (observer, stopped, counts) = (run.observer.clone(), Box::new(run.stopped()), run.counts.clone());
        Ok(Readers { source, target, observer, stopped, counts })
    }

    /// Reads both sides of a table at once, each in a thread; or the target alone, with the source's sums at hand. `enough` ends it early.
    fn read(&mut self, i: usize, t: &TablePlan, enough: &AtomicBool, both: bool) -> Result<(Option<Sums>, Sums)> {
        let Readers { source, target, observer, stopped, counts } = self;
        let total = counts.get(i).copied().unwrap_or(0);
        let stopped = || stopped() || enough.load(Ordering::SeqCst);
        std::thread::scope(|threads| {
            let from_source = both.then(|| threads.spawn(|| one(source.as_mut(), Way::Up, t, &stopped)));
            let from_target = sum(target.as_mut(), Way::Down, t, None, &stopped, |done| {
                let (table, total) = (t.source.title().to_owned(), total.max(done));
                observer.event(Event::Progress { what: "comparing", table, done, total });
            });
            let died = |_| Error::Internal("the thread reading the source died".into());
            let from_source = from_source.map(|s| s.join().map_err(died)).transpose()?.transpose()?;
            Ok((from_source, from_target?.0))
        })
    }

    pub(super) fn both(&mut self, i: usize, t: &TablePlan, enough: &AtomicBool) -> Result<(Sums, Sums)> {
        let (source, target) = self.read(i, t, enough, true)?;
        source.map(|s| (s, target)).ok_or_else(|| Error::Internal("the source was not read".into()))
    }
}

/// Reads both sides of a table at once, by `readers`, which it opens if they are not.
pub(super) fn both(run: &Run, readers: &mut Option<Readers>, i: usize, t: &TablePlan) -> Result<(Sums, Sums)> {
    let readers = match readers {
        Some(open) => open,
        None => readers.insert(Readers::of(run)?),
    };
    readers.both(i, t, &AtomicBool::new(false))
}

/// A reading of the source that began with the backfill, in a thread of its own: the server does most of the work then. It counts only
/// if nothing is carried later: the log began before it, so that the source is then what it was all along.
pub(crate) struct Ahead {
    thread: Option<JoinHandle<Result<Vec<Sums>>>>,
    enough: Arc<AtomicBool>,
}

impl Ahead {
    /// `None` where this is of no use, or cannot be.
    pub(super) fn begin(run: &Run) -> Option<Ahead> {
        let wanted = run.settings.verify && run.source.kind() == Kind::Sqlite && run.target.kind() == Kind::Postgres;
        let mut source = wanted.then(|| run.source.again().ok())??;
        let (plan, stopped, enough) = (run.plan.clone(), run.stopped(), Arc::new(AtomicBool::new(false)));
        let over = enough.clone();
        let thread = std::thread::spawn(move || {
            let stopped = || stopped() || over.load(Ordering::SeqCst);
            plan.tables.iter().map(|t| one(source.as_mut(), Way::Up, t, &stopped)).collect()
        });
        Some(Ahead { thread: Some(thread), enough })
    }

    fn sums(mut self) -> Result<Vec<Sums>> {
        let died = || Error::Internal("the thread reading the source died".into());
        self.thread.take().ok_or_else(died)?.join().map_err(|_| died())?
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sums of every table, read while the target's keys and indexes were built. They count only if nothing was carried after them.
pub(crate) struct Early {
    pub(super) sums: Vec<Option<(Sums, Sums)>>,
    /// How long the reading took.
    pub(super) seconds: f64,
}

/// `work`, and beside it a reading of both sides. The sums are there if the reading succeeded and `work` says that it carried
/// nothing; whatever hinders the reading is met again, and told, by the reading that then follows.
pub(super) fn beside(run: &mut Run, work: impl FnOnce(&mut Run) -> Result<bool>) -> Result<Option<Early>> {
    let plan = run.plan.clone();
    let mut readers = Readers::of(run)?;
    let (enough, ahead) = (AtomicBool::new(false), run.ahead.take());
    std::thread::scope(|threads| {
        let read = threads.spawn(|| -> Result<Early> {
            let begun = Instant::now();
            let tables = plan.tables.iter().enumerate();
            let sums = match ahead {
                Some(ahead) => {
                    let target = tables.map(|(i, t)| Ok(readers.read(i, t, &enough, false)?.1));
                    let target: Vec<Sums> = target.collect::<Result<_>>()?;
                    ahead.sums()?.into_iter().zip(target).map(Some).collect()
                }
                None => tables.map(|(i, t)| readers.both(i, t, &enough).map(Some)).collect::<Result<_>>()?,
            };
            Ok(Early { sums, seconds: begun.elapsed().as_secs_f64() })
        });
        let carried_nothing = work(run);
        if !matches!(carried_nothing, Ok(true)) {
            enough.store(true, Ordering::SeqCst);
        }
        let read = read.join().map_err(|_| Error::Internal("the thread that compares died".into()))?;
        Ok(if carried_nothing? { read.ok() } else { None })
    })
}

/// Reads one side of a table.
pub(super) fn one(store: &mut dyn Store, way: Way, t: &TablePlan, stopped: &(dyn Fn() -> bool + Sync)) -> Result<Sums> {
    Ok(sum(store, way, t, None, stopped, |_| {})?.0)
}

type Rows = HashMap<Key, (u128, u128)>;

/// Reads one side of a table and sums it up; or, given buckets, returns the rows in them by key.
fn sum(
    store: &mut dyn Store,
    way: Way,
    t: &TablePlan,
    collect: Option<&HashSet<usize>>,
    stopped: &(dyn Fn() -> bool + Sync),
    mut progress: impl FnMut(u64),
) -> Result<(Sums, Rows)> {
    let words = has_words(t);
    let (mut sums, mut rows, mut after, mut done) = (Sums::new(), Rows::new(), Vec::new(), 0u64);
    let (mut batch, mut own, mut other) = (Batch::default(), Vec::new(), Vec::new());
    let (mut stream, mut spare) = (Stream::summed(way, t), Vec::new());
    // such as a record's members, which may be said in several ways
    let canon = !t.codecs.iter().all(|c| c.codec.is_plain());
    let staying = if way == Way::Up { t.staying() } else { HashSet::new() };
    loop {
        if stopped() {
            return Err(Error::Stopped);
        }
        batch.clear();
        let next = store.scan(way.giver(t), &after, 20_000, &mut batch)?;
        mapping::ahead(way, t, |i| batch.rows().map(|row| row[i].clone().into_owned()).collect());
        for bytes in batch.encoded() {
            if !staying.is_empty() && staying.contains(&stream.given_key(bytes)) {
                continue;
            }
            own.clear();
            other.clear();
            if let Err(misfit) = stream.map(bytes, &mut other) {
                if sums.misfits.len() < MOST_KEYS {
                    sums.misfits.push((stream.given_key(bytes), misfit.to_string()));
                }
                continue;
            }
            let (as_target, source) = if way == Way::Up { (&other[..], bytes) } else { (bytes, &other[..]) };
            let as_source = if canon {
                canon_source(t, values_of(source), &mut own);
                &own[..]
            } else {
                source
            };
            let key = stream.key(as_target, &mut spare);
            let at = bucket(key);
            let said;
            let as_target = if words && way == Way::Down {
                said = encode_row(&canon_target(t, &values_of(bytes), &values_of(&other)));
                &said[..]
            } else {
                as_target
            };
            let Some(wanted) = collect else {
                sums.as_target[at].add(as_target);
                sums.as_source[at].add(as_source);
                continue;
            };
            if wanted.contains(&at) {
                let hashes = (xxhash_rust::xxh3::xxh3_128(as_target), xxhash_rust::xxh3::xxh3_128(as_source));
                // two rows that lead to one are like none on the other side
                if rows.insert(Key(key.to_vec()), hashes).is_some() {
                    rows.insert(Key(key.to_vec()), (!hashes.0, !hashes.1));
                }
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
    let (source, target) = both(run, &mut None, i, t)?;
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
        let (a, b) = std::thread::scope(|threads| {
            let a = threads.spawn(|| sum(s.as_mut(), Way::Up, t, Some(&these), &stopped, |_| {}));
            let b = sum(d.as_mut(), Way::Down, t, Some(&these), &stopped, |_| {});
            let a = a.join().map_err(|_| Error::Internal("the thread reading the source died".into()))?;
            Ok::<_, Error>((a?.1, b?.1))
        })?;
        keys.extend(a.iter().filter(|(k, v)| b.get(*k) != Some(v)).map(|(k, _)| k.clone()));
        keys.extend(b.keys().filter(|k| !a.contains_key(*k)).cloned());
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}
