//! Taking a migration back without relying on its target: it may be gone, or what it holds may not be wanted (P22, P25).
//!
//! Fences first, then as few steps as can be: the epoch is raised in the source, services are stopped, the target is sealed if it
//! answers in time. The commit point is the opening of the source; before it nobody is told anything, after it only forward.
//! Each step may be cut off and run again.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::gate::Gate;
use crate::mapping::Way;
use crate::plan::{Kind, Plan, Table};
use crate::store::{self, HistoryLine, Mode, Parked, Parting, Phase, Position, Role, Side, State, Store};

use super::drain::{self, Moment, Read, Then};
use super::export::Export;
use super::undo::{self, own};
use super::{Error, Event, Observer, Result, fingerprint, in_place, keys, now, within};

/// Numbers that the target may have given since its last drain are passed over by this many.
const GAP: i64 = 10_000;

/// A run without its target.
pub(crate) struct Alone {
    pub id: String,
    pub plan: Plan,
    pub source: Box<dyn Store>,
    /// The source's, as we found or raised it: whoever raises it after us makes us a ghost (P4).
    pub epoch: u64,
    pub app: App,
    pub gate: Gate,
    /// The project's.
    pub folder: PathBuf,
    pub observer: Arc<dyn Observer>,
}

/// What shall become of what was carried, and of what was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All of it is wanted.
    All,
    /// What was written after this moment is not; without one, all that was written since the cutover.
    Until(Option<jiff::Timestamp>),
}

/// A target that was reached: it is sealed, and what it had to say was read.
pub(crate) struct Fenced {
    pub store: Box<dyn Store>,
    /// What it had beyond the source's checkpoint, with a position that is marked there; or why that cannot be told.
    pub read: Result<Read>,
}

impl Alone {
    pub(crate) fn state(&mut self) -> Result<State> {
        own(self.source.as_mut(), &self.id)
    }

    pub(crate) fn parting(&mut self) -> Result<Parting> {
        let parting = self.state()?.parting;
        parting.ok_or_else(|| Error::Internal("this run does not part from its target".into()))
    }

    /// Where rows go that are left out.
    pub(crate) fn left_out(&self) -> Export {
        Export::of(&self.folder, "left-out", &self.id, &self.gate)
    }

    fn change(&mut self, what: &str, change: impl FnOnce(&mut State)) -> Result<State> {
        let (id, epoch) = (self.id.clone(), self.epoch);
        within(self.source.as_mut(), Mode::Write, &[], what, |s| {
            let mut state = undo::ours(s, &id, epoch)?;
            change(&mut state);
            s.put_state(&state, None)?;
            Ok(state)
        })
    }

    fn note(&self, text: impl Into<String>) {
        self.observer.event(Event::Note(text.into()));
    }
}

/// Writes down that the run parts from its target, and fences out whatever still runs of an earlier attempt (P4).
pub(crate) fn begin(alone: &mut Alone, trust: Trust) -> Result<State> {
    let state = alone.state()?;
    let fresh = match &state.parting {
        Some(_) => None,
        None => {
            let cutover = || state.cutover_at.clone().unwrap_or_else(|| state.started_at.clone());
            let (untrusted, keep, upto) = match trust {
                Trust::All => (false, 0, state.drained_at.clone().unwrap_or_else(cutover)),
                Trust::Until(time) => {
                    let (keep, upto) = undo::moment(alone.source.as_mut(), &state, time)?;
                    (true, keep, upto)
                }
            };
            let (sealed, whole, opened_at) = (false, false, None);
            Some(Parting { upto, untrusted, keep, undone: 0, exported: 0, left_out: 0, sealed, whole, opened_at })
        }
    };
    let begun = alone.change("source: parting from the target", |s| {
        s.epoch += 1;
        s.phase = Phase::RollingBack;
        s.last_error = None;
        if fresh.is_some() {
            s.parting = fresh;
        }
    })?;
    alone.epoch = begun.epoch;
    Ok(begun)
}

/// Stops the services. One that cannot be stopped holds nothing up: the target is sealed, or said not to be.
pub(crate) fn stop(alone: &mut Alone) {
    if let Err(e) = alone.app.stop() {
        alone.note(format!("{e}: going on, for the source is sealed; it may still write to the target"));
    }
}

/// Seals the target and reads what it had to say, in a thread of its own, so that a server that does not answer holds up
/// nobody: it has `patience` to let us in, and `budget` for all of it.
pub(crate) fn fence(
    open: impl FnOnce() -> Result<Box<dyn Store>> + Send + 'static,
    alone: &mut Alone,
    patience: Duration,
    budget: Duration,
) -> Result<Fenced> {
    enum Told {
        Answers,
        Done(Box<Result<Fenced>>),
    }
    let state = alone.state()?;
    let parked = alone.source.parked(&alone.id)?;
    let (id, plan) = (alone.id.clone(), alone.plan.clone());
    let site = if plan.in_place() { Some(in_place::stand_source(alone.source.as_mut(), &id)?) } else { None };
    let (tell, told) = channel();
    let begun = Instant::now();
    std::thread::spawn(move || {
        let done = open().and_then(|mut store| {
            let _ = tell.send(Told::Answers);
            match site {
                // the source's lock is its own too
                Some(site) => store.stand(Role::Target, site),
                None => store.lock(Duration::from_secs(3).min(budget))?,
            }
            let read = seal_and_read(store.as_mut(), &id, &plan, state.epoch, state.checkpoint, &parked)?;
            Ok(Fenced { store, read })
        });
        let _ = tell.send(Told::Done(Box::new(done)));
    });
    let mut limit = patience;
    loop {
        match told.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(Told::Answers) => limit = budget,
            Ok(Told::Done(done)) => return *done,
            Err(RecvTimeoutError::Timeout) => return Err(silent(limit)),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Internal("the thread at the target died".into())),
        }
    }
}

fn silent(limit: Duration) -> Error {
    let seconds = (limit.as_secs_f64() * 10.0).round() / 10.0;
    Error::Refused { cause: format!("the target did not answer within {seconds} s"), hint: String::new() }
}

/// It has the lower epoch: sealed before it is read (P22). `from`: where the source stands in its log.
pub(crate) fn seal_and_read(
    target: &mut dyn Store,
    id: &str,
    plan: &Plan,
    epoch: u64,
    from: Option<Position>,
    parked: &[Parked],
) -> Result<Result<Read>> {
    let state = own(target, id)?;
    let tables = plan.target_tables();
    let here = present(target, &tables)?;
    let from = from.or(state.captured_from.clone()).ok_or_else(|| Error::Internal("it noted no changes".into()));
    if state.side == Side::Open || state.epoch < epoch {
        within(target, Mode::Lease, &here, "target: sealed", |t| {
            let mut state = own(t, id)?;
            state.epoch = epoch.max(state.epoch);
            if state.side == Side::Open {
                t.seal(&here, id)?;
                let position = from.as_ref().map_or(Position(serde_json::Value::Null), Clone::clone);
                state.side = Side::Sealed { epoch, position };
                (state.checkpoint, state.previous) = (None, None);
            }
            Ok(t.put_state(&state, None)?)
        })?;
    }
    if let Some(gone) = tables.iter().find(|t| !here.iter().any(|h| h.name == t.name)) {
        let cause = format!("table {} is gone", gone.name);
        return Ok(Err(
            store::Error::Capture { store: target.title(), cause, schema_changed: true, rewound: false }.into()
        ));
    }
    if state.captured_from.is_none() {
        // it was never opened, so nobody has written to it
        let (changes, marks, at) = (Vec::new(), Vec::new(), target.now()?);
        let position = Position(serde_json::Value::Null);
        return Ok(Ok(Read { changes, entries: 0, position, at, marks }));
    }
    Ok(from.and_then(|from| {
        let read = drain::read_now(target, Way::Down, plan, &from, parked)?;
        let position = target.mark(read.position)?;
        Ok(Read { position, ..read })
    }))
}

/// Those of the tables that are still there.
pub(crate) fn present<'t>(store: &mut dyn Store, tables: &[&'t Table]) -> Result<Vec<&'t Table>> {
    let there = store.schema()?.tables;
    Ok(tables.iter().filter(|t| there.iter().any(|x| x.name == t.name)).copied().collect())
}

/// What the sealed target had is carried, or exported, and undone is what is not to stay.
pub(crate) fn settle(alone: &mut Alone, fenced: &Result<Fenced>) -> Result<()> {
    let parting = alone.parting()?;
    let sealed = parting.sealed || fenced.is_ok();
    if sealed != parting.sealed {
        alone.change("source: the target is sealed", |s| s.parting.iter_mut().for_each(|p| p.sealed = true))?;
    }
    let read = fenced.as_ref().ok().and_then(|f| f.read.as_ref().ok());
    if let Some(read) = read.filter(|_| !parting.whole) {
        if parting.untrusted {
            undo::leave_out(alone, &read.changes, &read.at)?;
        } else if let Err(e) = carry(alone, read) {
            if alone.plan.in_place() {
                return Err(e);
            }
            alone.note(format!("the last changes could not be carried ({e}); `backout salvage` tries again"));
        }
    }
    if parting.untrusted {
        undo::take_out(alone)?;
    }
    Ok(())
}

fn carry(alone: &mut Alone, read: &Read) -> Result<()> {
    let epoch = alone.epoch;
    let moment = Moment { position: &read.position, at: &read.at, marks: &read.marks, epoch, then: Then::Whole };
    let (id, plan) = (alone.id.clone(), alone.plan.clone());
    drain::apply(&id, &plan, alone.source.as_mut(), Way::Down, &read.changes, &moment).map(drop)
}

/// The commit point.
pub(crate) fn open(alone: &mut Alone) -> Result<()> {
    let (plan, id) = (alone.plan.clone(), alone.id.clone());
    let (tables, epoch) = (plan.source_tables(), alone.epoch);
    let state = alone.state()?;
    if state.side == Side::Open {
        return Ok(());
    }
    if state.parting.is_none() {
        return Err(Error::Internal("no parting is under way".into()));
    }
    let opened = |state: &mut State, own: &[Option<i64>]| -> Vec<Option<i64>> {
        let whole = state.parting.as_ref().is_some_and(|p| p.whole);
        state.parting.iter_mut().for_each(|p| p.opened_at = Some(now()));
        let gap = if whole { 0 } else { GAP };
        let seen = |i: usize| state.marks.get(i).copied().flatten();
        own.iter().enumerate().map(|(i, own)| own.max(&seen(i)).map(|n| n.saturating_add(gap))).collect()
    };
    if plan.in_place() {
        return in_place::part(alone, opened);
    }
    within(alone.source.as_mut(), Mode::Write, &tables, "source: open", |s| {
        let mut state = undo::ours(s, &id, epoch)?;
        s.unseal(&tables)?;
        state.captured_from = Some(s.capture_on(&tables, &id)?);
        let marks = s.high_water(&tables)?;
        let marks = opened(&mut state, &marks);
        s.raise_high_water(&tables, &marks)?;
        state.side = Side::Open;
        state.previous = None;
        Ok(s.put_state(&state, None)?)
    })
}

/// Past the commit point: switches and services.
pub(crate) fn start(alone: &mut Alone) -> Result<()> {
    // until it is so, whoever goes on with this sees to it first
    alone.change("source: phase outstanding", |s| {
        s.phase = Phase::Outstanding;
        s.last_error = Some("the application was not switched back and started yet".to_owned());
    })?;
    alone.app.undo()?.into_iter().for_each(|n| alone.note(n));
    let started = alone.app.start().and_then(|()| alone.app.check());
    started.map_err(|e| Error::NotStarted(Box::new(e.into())))?;
    alone.change("source: started", |s| s.last_error = None)?;
    Ok(())
}

/// The run ends in the source; its target, if it ever comes back, is set aside by the next `up`.
pub(crate) fn close(alone: &mut Alone, line: &HistoryLine) -> Result<()> {
    alone.app.forget()?;
    let plan = alone.plan.clone();
    let tables = plan.source_tables();
    let (id, epoch) = (alone.id.clone(), alone.epoch);
    within(alone.source.as_mut(), Mode::Write, &tables, "source: closed", |s| {
        let state = undo::ours(s, &id, epoch)?;
        let pairs = keys::living(s, &plan, state.captured_from.as_ref())?;
        let remains = Some(fingerprint::remains(&state, &plan, pairs)?);
        Ok(s.close(&tables, &HistoryLine { remains, ..line.clone() })?)
    })
}

/// Copies the file beside itself, over nothing that is there; a copy that is there already is enough. Returns its path.
fn keep_copy(gate: &Gate, file: &Path, id: &str) -> Result<String> {
    let name = format!("{}.foreign-{id}", file.file_name().unwrap_or_default().to_string_lossy());
    let numbered = |n: u32| file.with_file_name(if n == 1 { name.clone() } else { format!("{name}-{n}") });
    let free = |copy: &PathBuf| !copy.exists() || same_bytes(file, copy).unwrap_or(false);
    let copy = (1..).map(numbered).find(free).unwrap_or_else(|| numbered(1));
    let shown = copy.display().to_string();
    if !copy.exists() {
        // whole or not at all
        let new = file.with_file_name(format!("{name}.new"));
        let kept = || -> std::io::Result<()> {
            std::fs::copy(file, &new)?;
            File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &copy)?;
            File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        let operation = "keep what others wrote as".to_owned();
        let failed = |cause| store::Error::File { operation, path: shown.clone(), cause };
        gate.pass(&format!("write {shown}"), || kept().map_err(failed))?;
    }
    Ok(shown)
}

fn same_bytes(a: &Path, b: &Path) -> std::io::Result<bool> {
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    loop {
        let (x, y) = (a.fill_buf()?, b.fill_buf()?);
        let n = x.len().min(y.len());
        if x[..n] != y[..n] || n == 0 {
            return Ok(n == 0 && x.len() == y.len());
        }
        a.consume(n);
        b.consume(n);
    }
}

/// A resting file that someone wrote to: what it holds is kept beside it, and from here on it is what rests (P20). Returns the
/// copy's path.
pub(crate) fn accept(alone: &mut Alone, file: Option<PathBuf>) -> Result<Option<String>> {
    let (plan, id) = (alone.plan.clone(), alone.id.clone());
    let (tables, epoch) = (plan.source_tables(), alone.epoch);
    let (Some(file), Kind::Json) = (file, alone.source.kind()) else { return Ok(None) };
    let foreign = match super::looking(alone.source.as_mut(), &tables, |s| Ok(s.look(&tables)?)) {
        Err(Error::Store(store::Error::Capture { cause, .. })) => cause,
        Err(e) => return Err(e),
        Ok(()) => return Ok(None),
    };
    let shown = keep_copy(&alone.gate, &file, &id)?;
    within(alone.source.as_mut(), Mode::Write, &tables, "source: what is there is accepted", |s| {
        let mut state = undo::ours(s, &id, epoch)?;
        s.unseal(&tables)?;
        s.seal(&tables, &id)?;
        state.doubt = Some(foreign);
        state.digests.clear();
        Ok(s.put_state(&state, None)?)
    })?;
    Ok(Some(shown))
}
