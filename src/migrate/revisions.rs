//! SQL revisions as steps of `up`, `rollback` and `resume`: proven, run, recorded; on top of a soaking migration too (P18).

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::journal::{Event as Note, Journal};
use crate::plan::Migration;
use crate::revision::database::{FrozenDown, Record, Standing};
use crate::revision::run::{self, Terms, within};
use crate::revision::{Revision, edited, order};
use crate::store::{self, State};

use super::answers::{Outcome, RevisionDone, RollbackOptions, UpOptions};
use super::chain::{Applied, Ledger, Link};
use super::project::{Done, Project};
use super::{Error, Failure, Result};

impl Project {
    /// Runs revisions that belong together, in order, each recorded before the next one begins. What was done is added to `out`.
    pub(crate) fn run_up(&self, group: &[&Revision], asked: &UpOptions, out: &mut Outcome) -> Done<()> {
        let done = out.revisions.len();
        let before = |e: Error| untouched_by(done, e);
        let homes: Vec<String> = group.iter().map(|r| self.home(r)).collect::<Result<_>>().map_err(before)?;
        let soaking = self.beneath(&homes).map_err(before)?;
        if soaking.is_some() {
            self.shadow()?;
        }
        let mut ledgers = self.ledgers(true).map_err(before)?;
        self.may_go_up(&mut ledgers, asked).map_err(before)?;
        let begun = Instant::now();
        let terms = self.proven(group, &homes, &mut ledgers, asked).map_err(before)?;
        out.proof_seconds += begun.elapsed().as_secs_f64();
        let mut ran = Vec::new();
        let mut at = 0;
        let mut going = self.run_each(group, &homes, terms, &mut ledgers, &mut ran, &mut at);
        for ledger in &mut ledgers {
            going = going.and(ledger.db.gather(false).map_err(Error::from));
        }
        drop(ledgers);
        if going.is_err()
            && let Ok(ledgers) = self.ledgers(false)
        {
            // what was to be committed together may be there, or not; the last one is told of apart
            let last = &group[at].stamp;
            let applied = |home: &str, stamp: &str| ledgers.iter().any(|l| l.store == home && l.has_applied(stamp));
            ran.retain(|(home, record, _)| record.stamp != *last && applied(home, &record.stamp));
        }
        let mut journal = Journal::open(&self.config.folder, &self.gate);
        for (_, record, took) in ran {
            let done = RevisionDone::of(&record, "up", took);
            self.journal(&mut journal, &done.stamp, "apply", &done.title, true, done.ms);
            out.notes.extend(record.conflicts);
            out.revisions.push(done);
        }
        going.map_err(|e| self.failed_up(e, group[at], &homes[at], out))?;
        if soaking.is_some()
            && let Err(why) = self.shadow()
        {
            out.notes.push(format!(
                "the resting side cannot follow past these revisions ({why}): `backout rollback` takes them back first"
            ));
        }
        Ok(())
    }

    /// Runs each of a group, the one at `at` last: what `ran` is made true by the end of the gathering.
    fn run_each(
        &self,
        group: &[&Revision],
        homes: &[String],
        terms: Vec<Terms>,
        ledgers: &mut [Ledger],
        ran: &mut Vec<(String, Record, Duration)>,
        at: &mut usize,
    ) -> Result<()> {
        for (i, (revision, mut terms)) in group.iter().zip(terms).enumerate() {
            // in one store they are committed in their order, in two they would not be
            if i > 0 && (homes[i] != homes[*at] || !revision.up.transaction) {
                the(ledgers, &homes[*at])?.db.gather(false)?;
            }
            *at = i;
            terms.nth = 1 + ledgers.iter().flat_map(|l| &l.records).map(|r| r.nth).max().unwrap_or_default();
            let ledger = the(ledgers, &homes[i])?;
            // another command did it while we waited for the lock
            if ledger.record(&revision.stamp).is_some_and(|r| r.standing != Standing::Failed) {
                continue;
            }
            self.note(format!("applying {}_{}", revision.stamp, revision.slug));
            let stop = self.stop.clone();
            let stop = move || stop.load(std::sync::atomic::Ordering::SeqCst);
            let begun = Instant::now();
            ledger.db.gather(revision.up.transaction)?;
            let record = run::up(ledger.db.as_mut(), revision, &terms, &stop)?;
            ledger.records.retain(|known| known.stamp != record.stamp);
            ledger.records.push(record.clone());
            ran.push((homes[i].clone(), record, begun.elapsed()));
        }
        Ok(())
    }

    /// The soaking migration that these stores' revisions are put on top of.
    fn beneath(&self, homes: &[String]) -> Result<Option<(&Migration, State)>> {
        if self.migrations.list.is_empty() {
            return Ok(None);
        }
        let Some((m, state)) = self.open_state()? else { return Ok(None) };
        if !m.in_place() && homes.contains(&m.transfer.from) {
            return Err(Error::Refused {
                cause: format!(
                    "{} rests: {} ({}) moved the application away from it",
                    m.transfer.from, m.stamp, m.title
                ),
                hint: "`backout complete` or `backout rollback` ends that first".into(),
            });
        }
        Ok(homes.contains(&m.transfer.to).then_some((m, state)))
    }

    /// Nothing is half-way, and what failed has been acknowledged.
    fn may_go_up(&self, ledgers: &mut [Ledger], asked: &UpOptions) -> Result<()> {
        for ledger in ledgers {
            for record in ledger.records.clone() {
                match record.standing {
                    Standing::Applied => {}
                    Standing::Failed if asked.acknowledge => {
                        within(ledger.db.as_mut(), "forget the failure", |db| {
                            db.prepare()?;
                            db.remove_record(&record.stamp)?;
                            Ok(db.log(&record.line("acknowledged", &crate::now(), String::new()))?)
                        })?;
                    }
                    Standing::Failed => {
                        let why = record.error.clone().unwrap_or_default();
                        return Err(Error::Refused {
                            cause: format!(
                                "{}_{} failed at {}, and others wait: {why}",
                                record.stamp, record.slug, record.at
                            ),
                            hint: "once the cause is mended: `backout up --acknowledge`".into(),
                        });
                    }
                    Standing::GoingUp | Standing::GoingDown => return Err(halfway(&record)),
                }
            }
            ledger.refresh()?;
        }
        Ok(())
    }

    /// Whether a revision is recorded as applied, asked anew: where an answer was lost, what it spoke of may have happened all the same.
    fn is_applied(&self, home: &str, stamp: &str) -> Option<bool> {
        let ledgers = self.ledgers(false).ok()?;
        let ledger = ledgers.iter().find(|l| l.store == home)?;
        Some(ledger.has_applied(stamp))
    }

    fn failed_up(&self, error: Error, revision: &Revision, home: &str, out: &Outcome) -> Failure {
        let name = format!("{}_{}", revision.stamp, revision.slug);
        let done = done_before(out);
        let ran = matches!(error, Error::Revision(_));
        let stopped = matches!(error, Error::Stopped);
        let mut failure = Failure::untouched(error);
        if revision.up.transaction {
            let applied = if ran || stopped { Some(false) } else { self.is_applied(home, &revision.stamp) };
            failure.state = match applied {
                Some(false) => format!("nothing of {name} was left{done}"),
                Some(true) => format!("{name} is applied all the same{done}"),
                None => format!("{name} may be applied, or nothing of it is; `backout current` tells{done}"),
            };
            if stopped {
                failure.hint = "backout up         goes on\nbackout rollback   takes the newest one back".into();
            }
            if ran {
                failure.hint = "mend the file, then `backout up --acknowledge`".into();
            }
        } else {
            failure.state = format!("{name} stopped half-way; what ran of it stays{done}");
            failure.hint = "backout resume     goes on with the statement that failed, as the file then says it\n\
                 backout rollback   does the same, and then takes it back"
                .into();
            failure.exit = 7;
        }
        self.journal_failure(&name, &failure);
        failure
    }

    /// Checks that everything of a chain can be taken back, before its first step.
    pub(crate) fn may_go_down(&self, chain: &[Applied<'_>], asked: &RollbackOptions) -> Result<()> {
        for link in chain {
            match link {
                Applied::Completed(stamp, title, at) => {
                    return Err(Error::Refused {
                        cause: format!("{stamp} ({title}) was completed at {at}: its way back was given up then"),
                        hint: "a completed migration is taken back by a migration of its own that goes the other way"
                            .into(),
                    });
                }
                Applied::Soaking(..) => {}
                Applied::Sql(_, record) => {
                    if let FrozenDown::Irreversible(why) = &record.down {
                        return Err(run::irreversible(record, why).into());
                    }
                    super::let_go::refuse_let_go(record, asked.force)?;
                    let file = self.revisions.iter().find(|r| order(&r.stamp) == order(&record.stamp));
                    // what stopped half-way may have been edited to mend the statement that failed
                    if let Some(diff) = file.and_then(|file| edited(record, file))
                        && !asked.frozen
                        && !record.standing.is_halfway()
                    {
                        return Err(Error::Refused {
                            cause: format!("{}_{} was edited after it ran:\n{diff}", record.stamp, record.slug),
                            hint: "bring the file back, or `backout rollback --frozen` takes it back by the down that was \
                                   frozen when it ran"
                                .into(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes revisions back that belong together, newest first, by their frozen downs.
    pub(crate) fn run_down(&self, group: &[(usize, Record)], out: &mut Outcome) -> Done<()> {
        let mut ledgers = self.ledgers(true).map_err(|e| untouched_by(out.revisions.len(), e))?;
        let (mut ran, mut last) = (Vec::new(), None);
        let mut going = self.down_each(group, &mut ledgers, &mut ran, &mut last);
        for ledger in &mut ledgers {
            going = going.and(ledger.db.gather(false).map_err(crate::revision::Error::from));
        }
        drop(ledgers);
        if going.is_err()
            && let Ok(ledgers) = self.ledgers(false)
        {
            // as above
            let there = |home: &str, stamp: &str| ledgers.iter().any(|l| l.store == home && l.record(stamp).is_some());
            let told = last.as_ref().map(|(_, record, _)| record.stamp.clone());
            ran.retain(|(home, record, ..)| Some(&record.stamp) != told.as_ref() && !there(home, &record.stamp));
        }
        let mut journal = Journal::open(&self.config.folder, &self.gate);
        for (_, record, conflicts, took) in ran {
            let done = RevisionDone::of(&record, "down", took);
            self.journal(&mut journal, &done.stamp, "take back", &done.title, true, done.ms);
            out.notes.extend(conflicts);
            out.revisions.push(done);
        }
        going.map_err(|e| match last {
            Some((home, record, half)) => self.failed_down(e, &record, &home, half, out),
            None => untouched_by(out.revisions.len(), e.into()),
        })
    }

    /// Takes each of a group back, `last` being the one it came to: its store, its record, whether it runs statement by statement.
    fn down_each(
        &self,
        group: &[(usize, Record)],
        ledgers: &mut [Ledger],
        ran: &mut Vec<(String, Record, Vec<String>, Duration)>,
        last: &mut Option<(String, Record, bool)>,
    ) -> crate::revision::Result<()> {
        let mut before: Option<usize> = None;
        for (i, record) in group {
            let Some(mut record) = ledgers.get(*i).and_then(|l| l.record(&record.stamp)).cloned() else { continue };
            let alone =
                record.standing.is_halfway() || matches!(record.down, FrozenDown::Sql { transaction: false, .. });
            if let Some(before) = before.filter(|before| before != i || alone)
                && let Some(ledger) = ledgers.get_mut(before)
            {
                ledger.db.gather(false)?;
            }
            before = Some(*i);
            let Some(ledger) = ledgers.get_mut(*i) else { continue };
            *last = Some((ledger.store.clone(), record.clone(), alone));
            ledger.db.gather(!alone)?;
            self.note(format!("taking {}_{} back", record.stamp, record.slug));
            let stop = self.stop.clone();
            let stop = move || stop.load(std::sync::atomic::Ordering::SeqCst);
            let file = self.revisions.iter().find(|r| r.stamp == record.stamp);
            let begun = Instant::now();
            // an up that was cut off is brought to its end first, which its down was proven for
            if record.standing == Standing::GoingUp {
                record = run::go_on(ledger.db.as_mut(), record, file, &stop)?;
                let alone = matches!(record.down, FrozenDown::Sql { transaction: false, .. });
                *last = Some((ledger.store.clone(), record.clone(), alone));
            }
            let conflicts = if record.standing == Standing::GoingDown {
                run::go_on(ledger.db.as_mut(), record.clone(), file, &stop)?.conflicts
            } else {
                run::down(ledger.db.as_mut(), &record, &stop)?
            };
            ledger.records.retain(|known| known.stamp != record.stamp);
            ran.push((ledger.store.clone(), record, conflicts, begun.elapsed()));
        }
        Ok(())
    }

    /// `half`: it runs statement by statement, and stopped between two of them.
    fn failed_down(
        &self,
        error: crate::revision::Error,
        record: &Record,
        home: &str,
        half: bool,
        out: &Outcome,
    ) -> Failure {
        let name = format!("{}_{}", record.stamp, record.slug);
        let stopped = matches!(error, crate::revision::Error::Stopped | crate::revision::Error::Statement { .. });
        let mut failure = Failure::untouched(error.into());
        let applied = if half || stopped { Some(true) } else { self.is_applied(home, &record.stamp) };
        let done = done_before(out);
        failure.state = match applied {
            _ if half => format!("{name} stopped half-way; what ran of it stays{done}"),
            Some(true) => format!("{name} is applied as before{done}"),
            Some(false) => format!("{name} is taken back all the same{done}"),
            None => format!("{name} may be taken back, or is applied as before; `backout current` tells{done}"),
        };
        if matches!(*failure.error, Error::Stopped) {
            failure.hint = "the same command again goes on".into();
        }
        if matches!(*failure.error, Error::Revision(_)) {
            // the file does not count any more
            failure.hint = "clear away what is in its way, then run the same command again; or undo it by hand, and \
                            `backout stamp` says how far that is"
                .into();
        }
        if half {
            failure.exit = 8;
            failure.hint = "backout resume     goes on with the statement that failed, as the file then says it".into();
        }
        self.journal_failure(&name, &failure);
        failure
    }

    /// Goes on with a revision that was cut off between its statements, if there is one.
    pub(crate) fn go_on_sql(&self, out: &mut Outcome) -> Done<bool> {
        let mut ledgers = self.ledgers(true).map_err(|e| untouched_by(out.revisions.len(), e))?;
        for ledger in &mut ledgers {
            let Some(record) = ledger.records.iter().find(|r| r.standing.is_halfway()).cloned() else { continue };
            let way = if record.standing == Standing::GoingUp { "up" } else { "down" };
            let file = self.revisions.iter().find(|r| r.stamp == record.stamp);
            let stop = self.stop.clone();
            let stop = move || stop.load(std::sync::atomic::Ordering::SeqCst);
            let begun = Instant::now();
            let done = run::go_on(ledger.db.as_mut(), record.clone(), file, &stop).map_err(|e| {
                let mut failure = Failure::untouched(e.into());
                failure.state = format!("{}_{} stopped half-way; what ran of it stays", record.stamp, record.slug);
                failure.hint =
                    "backout resume     goes on with the statement that failed, as the file then says it".into();
                failure.exit = if way == "up" { 7 } else { 8 };
                failure
            })?;
            out.notes.extend(done.conflicts.iter().cloned());
            let done = RevisionDone::of(&done, way, begun.elapsed());
            self.journal(&mut Journal::open(&self.config.folder, &self.gate), &done.stamp, way, "", true, done.ms);
            out.revisions.push(done);
            return Ok(true);
        }
        Ok(false)
    }

    /// Writes a new revision to fill in, with the time as its stamp.
    ///
    /// # Errors
    /// A name without a letter or digit, a store that is not there, or a file that cannot be written.
    pub fn new_revision(&self, name: &str, store: Option<&str>) -> Done<PathBuf> {
        self.new_file(name, store, "-- migrate:up\n\n\n-- migrate:down\n\n")
    }

    pub(crate) fn new_file(&self, name: &str, store: Option<&str>, body: &str) -> Done<PathBuf> {
        let slug: String = name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let slug = slug.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
        let refused = |cause: String, hint: &str| Failure::untouched(Error::Refused { cause, hint: hint.into() });
        if slug.is_empty() {
            return Err(refused(
                format!("{name:?} has no word in it"),
                "say in a few words what it does: create_events",
            ));
        }
        if let Some(store) = store {
            self.url(store).map_err(Failure::untouched)?;
        }
        let now = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string();
        // two in one second, or a newest one that is dated later than now
        let newest = self.links().last().and_then(|link| link.stamp().parse::<u64>().ok());
        let stamp =
            newest.map_or(now.clone(), |n| now.parse::<u64>().map_or(now.clone(), |now| now.max(n + 1).to_string()));
        let directive = store.map_or(String::new(), |store| format!("-- backout:store {store}\n"));
        let text = format!("{directive}{body}");
        let path = self.config.migrations.join(format!("{stamp}_{slug}.sql"));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.config.migrations)?;
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all(text.as_bytes())
        };
        let shown = path.display().to_string();
        let failed = |cause| store::Error::File { operation: "write".into(), path: shown, cause };
        let written = self.gate.pass("write a new revision", || write().map_err(failed));
        written.map_err(|e| Failure::untouched(e.into()))?;
        Ok(path)
    }

    /// Records revisions as applied, or as not applied, without running anything.
    ///
    /// # Errors
    /// A goal that is not there, or what a store says.
    pub fn stamp(&self, to: &str) -> Done<Outcome> {
        let untouched = Failure::untouched;
        let last = match to {
            "head" | "base" => None,
            name => Some(self.find(name).map_err(untouched)?.stamp().to_owned()),
        };
        let within_goal = |stamp: &str| match &last {
            None => to == "head",
            Some(last) => order(stamp) <= order(last),
        };
        let mut out = Outcome::default();
        let mut ledgers = self.ledgers(true).map_err(untouched)?;
        let mut nth = ledgers.iter().flat_map(|l| &l.records).map(|r| r.nth).max().unwrap_or_default();
        for ledger in &mut ledgers {
            let mut put: Vec<Record> = Vec::new();
            for revision in &self.revisions {
                let mine = self.home(revision).map_err(untouched)? == ledger.store;
                let record = ledger.record(&revision.stamp);
                if mine && within_goal(&revision.stamp) && record.is_none_or(|r| r.standing != Standing::Applied) {
                    nth += 1;
                    let terms = Terms { nth, unproven: true, ..Terms::default() };
                    let begun = run::begun_record(revision, &terms);
                    put.push(Record { standing: Standing::Applied, stamped: true, ..begun });
                }
            }
            let gone: Vec<Record> = ledger.records.iter().filter(|r| !within_goal(&r.stamp)).cloned().collect();
            if put.is_empty() && gone.is_empty() {
                continue;
            }
            let stamped = within(ledger.db.as_mut(), "stamp", |db| {
                db.prepare()?;
                for record in &put {
                    db.put_record(record)?;
                    db.log(&record.line("stamped", &record.at, String::new()))?;
                }
                for record in &gone {
                    db.remove_record(&record.stamp)?;
                    db.log(&record.line("unstamped", &crate::now(), String::new()))?;
                }
                Ok(())
            });
            stamped.map_err(|e| untouched(e.into()))?;
            out.notes.extend(put.iter().map(|r| format!("{}_{} is recorded as applied", r.stamp, r.slug)));
            out.notes.extend(gone.iter().map(|r| format!("{}_{} is recorded no more", r.stamp, r.slug)));
        }
        drop(ledgers);
        self.head_words(&mut out)?;
        out.nothing = out.notes.is_empty();
        Ok(out)
    }

    /// Says where the history stands now.
    pub(crate) fn head_words(&self, out: &mut Outcome) -> Done<()> {
        let ledgers = self.ledgers(false).map_err(Failure::untouched)?;
        let applied = self.applied(&ledgers).map_err(Failure::untouched)?;
        out.state = match applied.last() {
            Some(last) => format!("{} is the newest one applied", last.stamp()),
            None => "no migration is applied".into(),
        };
        let pending = self.pending(&ledgers).map_err(Failure::untouched)?.len();
        out.next = match (pending, applied.is_empty()) {
            (0, _) => "backout rollback   takes the newest one back".into(),
            (n, true) => format!("backout up         applies {}", super::count(n, "pending migration")),
            (n, false) => {
                format!(
                    "backout up         applies {}\nbackout rollback   takes the newest one back",
                    super::count(n, "pending migration")
                )
            }
        };
        Ok(())
    }

    fn journal_failure(&self, name: &str, failure: &Failure) {
        self.journal(
            &mut Journal::open(&self.config.folder, &self.gate),
            name,
            "revision",
            &failure.to_string(),
            false,
            0,
        );
    }

    /// A line in the journal; a journal that cannot be written never fails a command.
    fn journal(&self, journal: &mut Journal, migration: &str, operation: &str, detail: &str, ok: bool, ms: u64) {
        let _ = journal.note(&Note {
            at: crate::now(),
            run: String::new(),
            migration: migration.to_owned(),
            phase: operation.to_owned(),
            operation: operation.to_owned(),
            detail: detail.to_owned(),
            ok,
            ms,
        });
    }

    fn note(&self, text: String) {
        self.observer.event(super::Event::Note(text));
    }
}

/// The consecutive revisions at the beginning of a list of links.
pub(crate) fn leading<'a>(links: &[Link<'a>]) -> Vec<&'a Revision> {
    links.iter().map_while(|link| if let Link::Sql(r) = link { Some(*r) } else { None }).collect()
}

pub(crate) fn halfway(record: &Record) -> Error {
    let way = if record.standing == Standing::GoingUp { "up" } else { "down" };
    Error::Refused {
        cause: format!("{}_{} stopped on its way {way}, after statement {}", record.stamp, record.slug, record.done),
        hint: "backout resume     goes on\nbackout rollback   takes it back".into(),
    }
}

fn the<'a>(ledgers: &'a mut [Ledger], home: &str) -> Result<&'a mut Ledger> {
    let found = ledgers.iter_mut().find(|l| l.store == home);
    found.ok_or_else(|| Error::Internal(format!("the store {home} was not opened")))
}

fn done_before(out: &Outcome) -> String {
    match out.revisions.len() {
        0 => String::new(),
        n => format!("; {} before it {} done", super::count(n, "revision"), if n == 1 { "is" } else { "are" }),
    }
}

/// A failure before the next step: what was done stays.
fn untouched_by(done: usize, error: Error) -> Failure {
    let failure = Failure::untouched(error);
    match done {
        0 => failure,
        n => {
            Failure { state: format!("{} done, and nothing else was changed", super::count(n, "revision")), ..failure }
        }
    }
}
