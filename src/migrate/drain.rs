//! A drain: what the live side's log holds beyond the checkpoint, applied to the other side in one transaction.
//!
//! The log names keys; the rows are looked up as they are now. So a drain is idempotent: killed anywhere, the next one does it again.

use std::collections::{HashMap, HashSet};

use crate::mapping::convert::as_literal;
use crate::mapping::fold::{Folded, Origin, fold};
use crate::mapping::{self, Misfit, Way, map_key, map_row};
use crate::plan::{Fixed, Kind, Plan, Table, TablePlan};
use crate::store::{self, Entry, Mode, Op, Parked, Position, Side, Store, Write};
use crate::value::{Key, Row, encode_row};

use super::{Error, Result, Run, doubt, fingerprint, keys, looking, within};

/// What a drain did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    /// Entries read from the log.
    pub entries: usize,
}

/// One table's changes, with the giver's present rows.
pub(super) struct Changes {
    pub table: usize,
    pub truncated: bool,
    /// Keys that nobody is known to have written: they only differ.
    pub doubted: HashSet<Key>,
    pub rows: Vec<(Key, Origin, Option<Row>)>,
    /// Rows that are in the giver's table and in none of the plan's that are slices of it; the first of those has them.
    pub strangers: Vec<(Key, Row)>,
}

/// Drains until a drain finds little, or three in a row not less than one before them: a busy application writes as much
/// during a drain as the drain carries, and no further one comes closer to it. Returns how many entries were read.
pub(crate) fn until_close(run: &mut Run, way: Way) -> Result<usize> {
    let (mut all, mut least, mut vain) = (0, usize::MAX, 0);
    for _ in 0..20 {
        run.go_on()?;
        let some = drain(run, way)?.entries;
        all += some;
        vain = if some < least { 0 } else { vain + 1 };
        least = least.min(some);
        if some < 100 || vain == 3 {
            break;
        }
    }
    Ok(all)
}

/// The last drains before a lock: between them what was carried is not deleted from the log, since what others write meanwhile has to be
/// carried while they wait.
pub(super) fn close_up(run: &mut Run, way: Way) -> Result<()> {
    let mut least = drain(run, way)?.entries;
    for _ in 0..4 {
        run.go_on()?;
        let some = drain_as(run, way, false)?.entries;
        if some < 50 || some >= least {
            break;
        }
        least = some;
    }
    Ok(())
}

/// Drains once. If capture cannot be trusted any more, it is put up anew and both sides are compared in full first (P15, P16).
pub(crate) fn drain(run: &mut Run, way: Way) -> Result<Drained> {
    drain_as(run, way, true)
}

fn drain_as(run: &mut Run, way: Way, trim: bool) -> Result<Drained> {
    let receiver = if way == Way::Up { run.target_state()? } else { run.source_state()? };
    if let Some(cause) = receiver.doubt {
        if receiver.checkpoint.is_none() {
            doubt::distrust(run, way, &cause, false)?;
        }
        doubt::resolve(run, way)?;
    }
    match drain_once(run, way, trim) {
        Err(Error::Store(store::Error::Capture { cause, schema_changed: false, rewound, .. })) => {
            run.note(format!(
                "changes may have gone unseen ({cause}); capture is put up anew and both sides are compared in full"
            ));
            doubt::distrust(run, way, &cause, rewound)?;
            doubt::resolve(run, way)?;
            drain_once(run, way, trim)
        }
        other => other,
    }
}

fn drain_once(run: &mut Run, way: Way, trim: bool) -> Result<Drained> {
    let plan = run.plan.clone();
    let givers = way.givers(&plan);
    let (from, parked, epoch) = from_where(run, way)?;
    let receivers = way.receivers(&plan);
    let (giver, receiver) = run.sides(way);
    if way == Way::Down {
        looking(receiver, &receivers, |r| undisturbed(r, &receivers))?;
    }
    let read = read_now(giver, way, &plan, &from, &parked)?;
    let Read { changes, entries, position, at, marks } = read;
    if entries == 0 && parked.iter().all(Parked::only_here) {
        if way == Way::Down {
            // how far the source is known to follow, should the target be lost
            let id = run.id.clone();
            super::change_state(run.source.as_mut(), &id, "receiver: seen", |s| {
                s.drained_at = Some(at);
                s.rewound = false;
                s.marks = marks;
            })?;
        }
        return Ok(Drained::default());
    }
    // Before the receiver commits, the giver has committed something after what was read: it cannot be crashed behind it (P5).
    let position = giver.mark(position)?;
    let moment = Moment { position: &position, at: &at, marks: &marks, epoch, then: Then::Follows };
    let id = run.id.clone();
    let (_, receiver) = run.sides(way);
    apply(&id, &plan, receiver, way, &changes, &moment)?;
    let (giver, _) = run.sides(way);
    if entries > 0 && trim {
        giver.trim(&givers, &position)?;
    }
    Ok(Drained { entries })
}

/// Drains to empty inside the giver's open lease; the receiver is `Drained` at this epoch afterwards (P2).
pub(crate) fn drain_leased(run: &mut Run, way: Way, epoch: u64) -> Result<(Position, u64)> {
    let plan = run.plan.clone();
    let (from, parked, _) = from_where(run, way)?;
    let (giver, _) = run.sides(way);
    // nobody writes any more, so this is the moment
    let at = giver.now()?;
    let read = read_changes(giver, way, &plan, &from, &parked, at)?;
    let Read { changes, position, at, marks, .. } = read;
    let position = giver.mark(position)?;
    let id = run.id.clone();
    let (giver, receiver) = run.sides(way);
    let moment = Moment { position: &position, at: &at, marks: &marks, epoch, then: Then::Drained(&from) };
    let rows = holding(giver, || apply(&id, &plan, receiver, way, &changes, &moment))?;
    Ok((position, rows))
}

/// How many changes of the giver the receiver has not seen.
pub(super) fn waiting(run: &mut Run, way: Way) -> Result<u64> {
    let plan = run.plan.clone();
    let (from, ..) = from_where(run, way)?;
    Ok(run.sides(way).0.lag(&way.givers(&plan), &from)?)
}

/// Does `work` on the other store and lets the giver hear of us meanwhile, however long it takes: its lease would end else (P1). A
/// lease that was lost all the same is found when the seal is committed.
fn holding<T: Send>(giver: &mut dyn Store, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|threads| {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let working = threads.spawn(move || {
            let _tell = tell;
            work()
        });
        while told.recv_timeout(HEARD) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = giver.hold();
        }
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How often a giver hears of us while the receiver works; well within the time after which a lease ends by itself.
const HEARD: std::time::Duration = std::time::Duration::from_secs(2);

/// A file that rests cannot refuse others: what they wrote to it is found here, before it is relied on (P20). Within a
/// transaction.
pub(crate) fn undisturbed(store: &mut dyn Store, tables: &[&crate::plan::Table]) -> Result<()> {
    if store.kind() != Kind::Json {
        return Ok(());
    }
    match store.look(tables) {
        Err(store::Error::Capture { store, cause, .. }) => Err(Error::Refused {
            cause: format!("{store}: {cause}"),
            hint: "nothing was overwritten: stop whoever writes this file, keep what they wrote elsewhere, and put the file back as Backout left it\nbackout rollback --emergency   keeps the file as it is beside itself, and puts in its place what the target has".into(),
        }),
        other => Ok(other?),
    }
}

/// Where the receiver stands in the giver's log, which keys are parked there, and its epoch.
pub(super) fn from_where(run: &mut Run, way: Way) -> Result<(Position, Vec<Parked>, u64)> {
    let id = run.id.clone();
    let (giver, receiver) = run.sides(way);
    let state = receiver.state()?.filter(|s| s.run == id);
    let state = state.ok_or_else(|| Error::Internal("receiver without a record".into()))?;
    let begun = giver.state()?.filter(|s| s.run == id).and_then(|s| s.captured_from);
    let from = state
        .checkpoint
        .or(begun)
        .ok_or_else(|| Error::Internal(format!("{} has no change capture", giver.title())))?;
    Ok((from, receiver.parked(&id)?, state.epoch))
}

/// What was read of a giver at one moment.
pub(super) struct Read {
    pub changes: Vec<Changes>,
    /// Entries of the log.
    pub entries: usize,
    pub position: Position,
    /// By the giver's clock: what was acknowledged by then is in it.
    pub at: String,
    /// The giver's high water.
    pub marks: Vec<Option<i64>>,
}

/// `read_changes` in a look of its own.
pub(super) fn read_now(
    giver: &mut dyn Store,
    way: Way,
    plan: &Plan,
    from: &Position,
    parked: &[Parked],
) -> Result<Read> {
    // before the snapshot: what is acknowledged after this may not be in it
    let at = giver.now()?;
    looking(giver, &way.givers(plan), |giver| read_changes(giver, way, plan, from, parked, at))
}

/// The changes since `from`, folded per key, with present rows; all in the giver's open transaction.
pub(super) fn read_changes(
    giver: &mut dyn Store,
    way: Way,
    plan: &Plan,
    from: &Position,
    parked: &[Parked],
    at: String,
) -> Result<Read> {
    let givers = way.givers(plan);
    if let Err(seen) = giver.look(&givers) {
        // a store that was taken back has lost more than our triggers, and says so when asked for its log (P16)
        return Err(match giver.log_since(&givers, from) {
            Err(lost @ store::Error::Capture { rewound: true, .. }) if !is_schema(&seen) => lost.into(),
            _ => seen.into(),
        });
    }
    let (mut log, position) = giver.log_since(&givers, from)?;
    let entries = log.len();
    let mut doubted: HashSet<(usize, Key)> =
        log.iter().filter(|e| e.op == Op::Doubt).filter_map(|e| Some((e.table, e.before.clone()?))).collect();
    for e in log.iter().filter(|e| e.op != Op::Doubt) {
        for key in [&e.before, &e.after].into_iter().flatten() {
            doubted.remove(&(e.table, key.clone()));
        }
    }
    // parked rows are tried again with their present rows (P12)
    log.extend(parked.iter().filter(|p| !p.only_here()).map(|p| Entry {
        table: p.table,
        op: Op::Doubt,
        before: Some(p.key.clone()),
        after: None,
        was: None,
        now: None,
    }));
    let mut changes = Vec::new();
    for (i, t) in plan.tables.iter().enumerate() {
        let mine: Vec<&Entry> = log.iter().filter(|e| e.table == i).collect();
        if mine.is_empty() {
            continue;
        }
        let Folded { truncated, mut keys } = fold(mine);
        if truncated {
            let there = giver.keys(way.giver(t))?;
            keys = there.into_iter().map(|k| (k, Origin::Reborn)).collect();
        }
        let asked: Vec<Key> = keys.iter().map(|(k, _)| k.clone()).collect();
        let rows = giver.fetch(way.giver(t), &asked)?;
        let rows = keys.into_iter().zip(rows).map(|((k, o), r)| (k, o, r)).collect();
        let doubted = doubted.iter().filter(|(t, _)| *t == i).map(|(_, k)| k.clone()).collect();
        changes.push(Changes { table: i, truncated, doubted, rows, strangers: Vec::new() });
    }
    find_strangers(giver, way, plan, &mut changes)?;
    // should the target be lost, the source's numbers go on after these (P22)
    let marks = if way == Way::Down { keys::marks(way, plan, giver.high_water(&givers)?) } else { Vec::new() };
    Ok(Read { changes, entries, position, at, marks })
}

/// Looks which rows that changed are in no slice of their table.
fn find_strangers(giver: &mut dyn Store, way: Way, plan: &Plan, changes: &mut [Changes]) -> Result<()> {
    for c in changes {
        let table = way.giver(&plan.tables[c.table]);
        let slices: Vec<(usize, &Fixed)> = slices_of(way, plan, &table.name).collect();
        if slices.first().is_none_or(|(first, _)| *first != c.table) {
            continue;
        }
        let all = Table { only: None, ..table.clone() };
        let keys = match c.truncated {
            true => giver.keys(&all)?,
            false => c.rows.iter().filter(|(_, _, row)| row.is_none()).map(|(key, ..)| key.clone()).collect(),
        };
        let rows = giver.fetch(&all, &keys)?;
        let strange = |row: &Row| !slices.iter().any(|(_, o)| as_literal(&row[o.column]).as_ref() == Some(&o.value));
        c.strangers = keys.into_iter().zip(rows).filter_map(|(k, row)| Some((k, row.filter(strange)?))).collect();
    }
    Ok(())
}

/// The plan's tables that are slices of this one of the giver's.
pub(super) fn slices_of<'p>(way: Way, plan: &'p Plan, name: &'p str) -> impl Iterator<Item = (usize, &'p Fixed)> {
    let givers = plan.tables.iter().map(move |t| way.giver(t)).enumerate();
    givers.filter(move |(_, g)| g.name == name).filter_map(|(i, g)| Some((i, g.only.as_ref()?)))
}

fn stranger(table: &Table, key: &Key, row: &Row) -> Misfit {
    let column = table.only.as_ref().map_or(0, |o| o.column);
    Misfit {
        table: table.title().to_owned(),
        key: key.to_string(),
        column: table.columns[column].name.clone(),
        why: "the migration says nothing of rows with this value".into(),
        value: row[column].to_string(),
    }
}

fn is_schema(e: &store::Error) -> bool {
    matches!(e, store::Error::Capture { schema_changed: true, .. })
}

/// Where in the giver's log, and when, changes were read.
pub(super) struct Moment<'m> {
    pub position: &'m Position,
    pub at: &'m str,
    pub marks: &'m [Option<i64>],
    pub epoch: u64,
    pub then: Then<'m>,
}

/// What is said of the receiver in the transaction that applies changes.
#[derive(Clone, Copy)]
pub(super) enum Then<'m> {
    /// Only how far it follows.
    Follows,
    /// In a hand-over it is `Drained`; it had followed up to here before.
    Drained(&'m Position),
    /// It parts from the giver, and nothing of that is outstanding.
    Whole,
}

/// Rows, by the receiver's table and key, that the receiver does not take, and why.
pub(super) type Unfit = HashMap<(usize, Key), String>;

/// Applies changes. On the way down, rows that the receiver does not take (a CHECK, a parent that is parked itself) are
/// parked, and the rest is applied without them (P12).
pub(super) fn apply(
    id: &str,
    plan: &Plan,
    receiver: &mut dyn Store,
    way: Way,
    changes: &[Changes],
    moment: &Moment<'_>,
) -> Result<u64> {
    let mut unfit = Unfit::new();
    loop {
        match apply_without(id, plan, receiver, way, changes, &unfit, moment) {
            Err(Error::Store(store::Error::Unfit { store, rows })) if way == Way::Down => {
                plan.know_again(&receiver.pairs(id)?);
                let before = unfit.len();
                unfit.extend(rows.iter().map(|(t, k, why)| ((*t, k.clone()), why.clone())));
                if unfit.len() == before {
                    return Err(store::Error::Unfit { store, rows }.into());
                }
            }
            Err(e) => {
                // pairs of keys that were made up for it are none
                if way == Way::Down
                    && let Ok(pairs) = receiver.pairs(id)
                {
                    plan.know_again(&pairs);
                }
                return Err(e);
            }
            done => return done,
        }
    }
}

/// Applies changes to the receiver, reads them back, keeps before-images while soaking, and moves the checkpoint: one
/// transaction.
fn apply_without(
    id: &str,
    plan: &Plan,
    receiver: &mut dyn Store,
    way: Way,
    changes: &[Changes],
    unfit: &Unfit,
    moment: &Moment<'_>,
) -> Result<u64> {
    let receivers = way.receivers(plan);
    let what = if matches!(moment.then, Then::Drained(_)) { "receiver: drained" } else { "receiver: changes" };
    within(receiver, Mode::Write, &receivers, what, |r| apply_in(id, plan, r, way, changes, unfit, moment))
}

/// The same within a transaction that is open.
pub(super) fn apply_in(
    id: &str,
    plan: &Plan,
    r: &mut dyn Store,
    way: Way,
    changes: &[Changes],
    unfit: &Unfit,
    moment: &Moment<'_>,
) -> Result<u64> {
    let Moment { position, at, marks, epoch, then } = *moment;
    let receivers = way.receivers(plan);
    let mut state =
        r.state()?.filter(|s| s.run == id).ok_or_else(|| Error::Internal("receiver without a record".into()))?;
    // a ghost of an earlier attempt must not write late, nor anyone of us where the application does (P2, P4)
    if state.epoch != epoch || state.side == Side::Open {
        return Err(Error::Internal("another hand-over has begun meanwhile".into()));
    }
    if way == Way::Down {
        let made = keys::make_up(r, plan, changes)?;
        if !made.is_empty() {
            r.put_pairs(id, &made)?;
        }
    }
    let mut writes: Vec<(usize, Vec<Write>)> = Vec::new();
    let mut images: Vec<(usize, Key, Option<Row>)> = Vec::new();
    let (mut park, mut unpark) = (Vec::new(), Vec::new());
    let known = r.parked(id)?;
    for c in changes {
        let i = c.table;
        let done = map_changes(r, way, &plan.tables[i], c, unfit)?;
        if way == Way::Down && state.rewound {
            park.extend(only_here(&plan.tables[i], c, &done));
        }
        for (key, row, misfit) in done.misfits {
            if way == Way::Up {
                return Err(misfit.into());
            }
            park.push(Parked { table: i, key, row: encode_row(&row), reason: misfit.to_string() });
        }
        for (key, row) in &c.strangers {
            let misfit = stranger(way.giver(&plan.tables[i]), key, row);
            if way == Way::Up {
                return Err(misfit.into());
            }
            park.push(Parked { table: i, key: key.clone(), row: encode_row(row), reason: misfit.to_string() });
        }
        let refused = done.refused.into_iter();
        park.extend(refused.map(|(key, row, reason)| Parked { table: i, key, row: encode_row(&row), reason }));
        unpark.extend(
            done.through
                .into_iter()
                .filter(|k| known.iter().any(|p| p.table == i && p.key == *k && !p.only_here()))
                .filter(|k| !c.strangers.iter().any(|(s, _)| s == k))
                .map(|k| (i, k)),
        );
        fingerprint::shift(&mut state.digests, way, (i, &plan.tables[i]), &done.before, &done.writes);
        images.extend(done.before.into_iter().map(|(k, row)| (i, k, row)));
        if !done.writes.is_empty() {
            writes.push((i, done.writes));
        }
    }
    super::heard(plan)?;
    let rows = writes.iter().map(|(_, w)| w.len() as u64).sum::<u64>();
    if rows > 0 {
        r.write(&receivers, &writes)?;
        read_back(r, &plan.tables, way, &writes)?;
    }
    state.drains += 1;
    if way == Way::Down && !images.is_empty() {
        r.keep_images(id, state.drains, at, &images)?;
    }
    if !park.is_empty() || !unpark.is_empty() {
        r.put_parked(id, &park, &unpark)?;
    }
    state.checkpoint = Some(position.clone());
    state.drained_at = Some(at.to_owned());
    state.rewound &= state.doubt.is_some();
    if way == Way::Down {
        state.carried += rows;
        state.marks = marks.to_vec();
    }
    match then {
        Then::Follows => {}
        Then::Drained(from) => {
            state.previous = Some(from.clone());
            state.side = Side::Drained { epoch, position: position.clone() };
        }
        Then::Whole => {
            if let Some(p) = &mut state.parting {
                (p.whole, p.upto) = (true, at.to_owned());
            }
        }
    }
    r.put_state(&state, None)?;
    Ok(rows)
}

#[derive(Default)]
pub(super) struct Mapped {
    pub writes: Vec<Write>,
    /// Rows as they were in the receiver.
    pub before: Vec<(Key, Option<Row>)>,
    /// Giver's keys that went through.
    pub through: Vec<Key>,
    /// Giver's key and row, and why not.
    pub misfits: Vec<(Key, Row, Misfit)>,
    /// Giver's key and row (empty if it is gone) of what the receiver does not take, and why not.
    pub refused: Vec<(Key, Row, String)>,
}

pub(super) fn map_changes(
    receiver: &mut dyn Store,
    way: Way,
    t: &TablePlan,
    c: &Changes,
    unfit: &Unfit,
) -> Result<Mapped> {
    let table = way.receiver(t);
    let mut out = Mapped::default();
    // keys in the receiver: of each change, and of the row it came from
    let mut keyed = Vec::new();
    let refuses = |rkey: &Key| unfit.get(&(c.table, rkey.clone()));
    let staying = t.staying();
    for (key, origin, row) in &c.rows {
        if way == Way::Up && staying.contains(key) {
            out.through.push(key.clone());
            continue;
        }
        let mapped = map_key(way, t, key).map(|k| match &origin {
            // a row that the receiver never had may have been there: another's, of a table that several become
            Origin::MovedFrom(was) => (k, map_key(way, t, was).ok()),
            Origin::Kept => (k.clone(), Some(k)),
            Origin::Reborn => (k, None),
        });
        match (mapped, row) {
            (Ok((rkey, _)), row) if way == Way::Down && staying.contains(&rkey) => match row {
                Some(row) => {
                    let why = format!(
                        "table {}, key {rkey}: a row that never left the source has this key",
                        t.source.title()
                    );
                    out.refused.push((key.clone(), row.clone(), why));
                }
                None => out.through.push(key.clone()),
            },
            (Ok((rkey, base)), row) => match refuses(&rkey) {
                Some(why) => out.refused.push((key.clone(), row.clone().unwrap_or_default(), why.clone())),
                None => keyed.push((key.clone(), rkey, base, row.as_ref())),
            },
            (Err(m), Some(row)) => out.misfits.push((key.clone(), row.clone(), m)),
            // a key that does not map and is gone: the receiver never had it
            (Err(_), None) => out.through.push(key.clone()),
        }
    }
    let mut asked: Vec<Key> =
        keyed.iter().flat_map(|(_, k, base, _)| [Some(k), base.as_ref()].into_iter().flatten().cloned()).collect();
    if c.truncated {
        asked.extend(receiver.keys(table)?);
    }
    asked.sort();
    asked.dedup();
    let there: HashMap<Key, Row> =
        asked.iter().cloned().zip(receiver.fetch(table, &asked)?).filter_map(|(k, r)| Some((k, r?))).collect();
    mapping::ahead(way, t, |i| c.rows.iter().filter_map(|(_, _, row)| Some(row.as_ref()?[i].clone())).collect());
    if way == Way::Down {
        mapping::ahead(Way::Up, t, |i| there.values().map(|row| row[i].clone()).collect());
    }
    // a row that moved in a hand-over that was called off is under its key already, unless that one's row moved on
    let claimed: HashSet<Key> = keyed.iter().filter_map(|(_, _, base, _)| base.clone()).collect();
    let mut settled: HashSet<Key> = HashSet::new();
    for (key, rkey, mut base, row) in keyed {
        if base.as_ref().is_some_and(|b| !there.contains_key(b))
            && there.contains_key(&rkey)
            && !claimed.contains(&rkey)
        {
            base = Some(rkey.clone());
        }
        let Some(row) = row else {
            if there.contains_key(&rkey) && settled.insert(rkey.clone()) {
                out.before.push((rkey.clone(), there.get(&rkey).cloned()));
                out.writes.push(Write::Delete { key: rkey });
            }
            out.through.push(key);
            continue;
        };
        let base_row = if c.truncated { None } else { base.as_ref().and_then(|b| there.get(b)) };
        match map_row(way, t, row, base_row) {
            Err(m) => out.misfits.push((key, row.clone(), m)),
            Ok(new) => {
                settled.insert(rkey.clone());
                if there.get(&rkey) != Some(&new) || base.as_ref() != Some(&rkey) || c.truncated {
                    out.before.push((rkey.clone(), there.get(&rkey).cloned()));
                    out.writes.push(Write::Put { row: new, from: base_row.and(base) });
                }
                out.through.push(key);
            }
        }
    }
    // a row leaves its old key, though nothing is written there: what is there now does not go back
    for write in &out.writes {
        if let Write::Put { from: Some(base), .. } = write
            && settled.insert(base.clone())
        {
            out.before.push((base.clone(), there.get(base).cloned()));
        }
    }
    if c.truncated {
        for (k, row) in there {
            if way == Way::Down && staying.contains(&k) {
                continue;
            }
            if let Some(why) = refuses(&k) {
                // it was to go with all others, but something that stays hangs on it
                let giver_key = map_key(if way == Way::Up { Way::Down } else { Way::Up }, t, &k);
                out.refused.extend(giver_key.ok().map(|key| (key, Row::new(), why.clone())));
            } else if settled.insert(k.clone()) {
                out.before.push((k.clone(), Some(row)));
                out.writes.push(Write::Delete { key: k });
            }
        }
    }
    Ok(out)
}

/// Rows that this set of writes takes out of the source though nobody is known to have deleted them: the target is an earlier
/// state of itself. They are kept whole, as the target would have them (P12, P16).
fn only_here(t: &TablePlan, c: &Changes, done: &Mapped) -> Vec<Parked> {
    let deleted: HashSet<&Key> = done
        .writes
        .iter()
        .filter_map(|w| match w {
            Write::Delete { key } => Some(key),
            Write::Put { .. } => None,
        })
        .collect();
    let mut out = Vec::new();
    for (rkey, row) in done.before.iter().filter(|(k, _)| deleted.contains(k)) {
        let (Some(row), Ok(key)) = (row, map_key(Way::Up, t, rkey)) else { continue };
        if c.doubted.contains(&key) {
            let row = map_row(Way::Up, t, row, None).unwrap_or_else(|_| row.clone());
            let reason = format!("table {}, key {key}: {}", t.source.title(), store::state::ONLY_HERE);
            out.push(Parked { table: c.table, key, row: encode_row(&row), reason });
        }
    }
    out
}

/// What referred to one of several tables, and would refer to a row of another that is one with it here and has the same key.
fn refer_elsewhere(
    r: &mut dyn Store,
    tables: &[TablePlan],
    writes: &[(usize, Vec<Write>)],
) -> Result<Vec<(usize, Key, String)>> {
    let mut unfit = Vec::new();
    for (i, list) in writes {
        let t = &tables[*i];
        for f in &t.target.foreign_keys {
            let parent = tables.iter().find(|p| p.target.name == f.table && p.source.only.is_some());
            let (Some(parent), [column]) = (parent, f.columns.as_slice()) else { continue };
            let Some(at) = t.target.column(column) else { continue };
            let puts = list.iter().filter_map(|w| if let Write::Put { row, .. } = w { Some(row) } else { None });
            let puts: Vec<&Row> = puts.filter(|row| !row[at].is_null()).collect();
            let asked: Vec<Key> = puts.iter().map(|row| Key::of(&row[at..=at])).collect();
            for ((row, of), there) in puts.iter().zip(&asked).zip(r.fetch(&parent.source, &asked)?) {
                if there.is_none() {
                    let key = Key::of_row(row, &t.source.key);
                    let why = format!(
                        "table {}, key {key}: it refers to {of} of {}, which is not there",
                        t.source.title(),
                        parent.target.title()
                    );
                    unfit.push((*i, key, why));
                }
            }
        }
    }
    Ok(unfit)
}

/// What was written is what is there now, in the same transaction; whatever changed it under way is found here.
pub(super) fn read_back(
    r: &mut dyn Store,
    tables: &[TablePlan],
    way: Way,
    writes: &[(usize, Vec<Write>)],
) -> Result<()> {
    let mut unfit = Vec::new();
    for (i, list) in writes {
        let table = way.receiver(&tables[*i]);
        let puts: Vec<&Row> =
            list.iter().filter_map(|w| if let Write::Put { row, .. } = w { Some(row) } else { None }).collect();
        let keys: Vec<Key> = puts.iter().map(|row| Key::of_row(row, &table.key)).collect();
        for ((row, key), back) in puts.iter().zip(&keys).zip(r.fetch(table, &keys)?) {
            let differs =
                match &back {
                    None => Some("the row is not there".to_owned()),
                    Some(b) => row.iter().zip(b).position(|(x, y)| x != y).map(|c| {
                        format!("column {} holds {} where {} was written", table.columns[c].name, b[c], row[c])
                    }),
                };
            if let Some(what) = differs {
                let why = format!("table {}, key {key} did not take what was written: {what}", table.title());
                unfit.push((*i, key.clone(), why));
            }
        }
    }
    if way == Way::Down {
        unfit.extend(refer_elsewhere(r, tables, writes)?);
    }
    if unfit.is_empty() { Ok(()) } else { Err(store::Error::Unfit { store: r.title(), rows: unfit }.into()) }
}
