//! Running a revision: its up, or the down that was frozen when its up ran.
//!
//! In one transaction, together with its record, it either happened or it did not. With `transaction:false` each statement is on its own:
//! the record counts those that are done, in the statement's own transaction where it can have one. A statement that cannot is
//! announced first, so that whoever goes on after a kill knows that it may have had its effect.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::catalog::{self, Catalog};
use super::database::{Database, FrozenDown, Record, Standing};
use super::keep::{self, Loss};
use super::put_back::Returning;
use super::taken::Taken;
use super::{Down, Error, Result, Revision, Statement, sql};
use crate::plan::Kind;
use crate::store;

/// What an up is recorded with, beside what its file says.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Which one it is in the order in which revisions were applied here, from 1.
    pub nth: u64,
    /// What its proof came to.
    pub proof: Option<String>,
    /// Why the author accepts what the down does not bring back.
    pub accepted_loss: Option<String>,
    /// What the up takes away, and keeps.
    pub lost_up: Vec<Loss>,
    /// What the down takes away, and keeps; an up that comes after it puts it back.
    pub lost_down: Vec<Loss>,
    /// It was not proven, so that what it takes away is found out as it runs.
    pub unproven: bool,
}

/// Runs an up to its end.
///
/// # Errors
/// [`Error::Statement`] with nothing left of it (in one transaction), or with its record at the statement that failed.
pub fn up(db: &mut dyn Database, revision: &Revision, terms: &Terms, stop: &dyn Fn() -> bool) -> Result<Record> {
    let begun = Instant::now();
    let record = begun_record(revision, terms);
    if !revision.up.transaction {
        within(db, &format!("record {} as begun", revision.stamp), |db| {
            db.prepare()?;
            Ok(db.put_record(&record)?)
        })?;
        return go_on(db, record, Some(revision), stop);
    }
    let done = within(db, &format!("apply {}", revision.stamp), |db| {
        db.prepare()?;
        let statements = (&revision.up.statements[..], &*revision.path);
        let (lost_up, lost_down) =
            if terms.unproven { found_out_up(db, revision)? } else { (terms.lost_up.clone(), terms.lost_down.clone()) };
        let conflicts = step_across(db, statements, &lost_up, &lost_down, stop)?;
        let (standing, ms, at) = (Standing::Applied, since(begun), crate::now());
        let applied = Record { standing, ms, at, conflicts, lost_up, lost_down, ..record.clone() };
        db.put_record(&applied)?;
        db.log(&applied.line("applied", &record.at, applied.words()))?;
        Ok(applied)
    });
    if let Err(error @ Error::Statement { .. }) = &done {
        let line = record.line("failed", &record.at, error.to_string());
        let failed = Record { standing: Standing::Failed, error: Some(error.to_string()), at: crate::now(), ..record };
        // that it failed is worth a record, but what it failed of is what must be heard
        let _ = within(db, &format!("record {} as failed", revision.stamp), |db| {
            db.prepare()?;
            db.put_record(&failed)?;
            Ok(db.log(&line)?)
        });
    }
    done
}

/// What a step that was not proven takes away: it is tried, looked at, and undone. Within the step's transaction.
fn found_out(
    db: &mut dyn Database,
    (statements, file): (&[Statement], &Path),
    stamp: &str,
    way: &str,
) -> Result<Vec<Loss>> {
    if !Taken::by(statements, db.kind()).holds_rows(db)? {
        return Ok(Vec::new());
    }
    let (before, after) = around(db, (statements, file))?;
    for (table, columns) in keep::keyless(&before, &after, statements) {
        if !db.query(&format!("SELECT 1 FROM {table} LIMIT 1"))?.is_empty() {
            return Err(Error::Refused {
                cause: format!(
                    "{table} has no key that tells its rows apart: what {columns} held could not be put back"
                ),
                hint: "give it a key first; or have it proven, with --accept-loss \"REASON\"".into(),
            });
        }
    }
    Ok(keep::losses(&before, &after, statements, stamp, way))
}

/// What an up that was not proven takes away, and what its down has kept.
fn found_out_up(db: &mut dyn Database, revision: &Revision) -> Result<(Vec<Loss>, Vec<Loss>)> {
    let up = (&revision.up.statements[..], &*revision.path);
    let lost_up = found_out(db, up, &revision.stamp, "up")?;
    let mut lost_down = Vec::new();
    if let Down::Sql(down) = &revision.down
        && keep::lies_there(db, &format!("{}_down_", revision.stamp))?
    {
        let (before, after) = around(db, up)?;
        lost_down = keep::losses(&after, &before, &down.statements, &revision.stamp, "down");
    }
    Ok((lost_up, lost_down))
}

/// The schema before and after a script, of which nothing is left.
fn around(db: &mut dyn Database, (statements, file): (&[Statement], &Path)) -> Result<(Catalog, Catalog)> {
    let before = catalog::read(db)?;
    db.run("SAVEPOINT tried")?;
    let ran = statements.iter().try_for_each(|statement| run(db, statement, file));
    let after = ran.and_then(|()| catalog::read(db));
    db.run("ROLLBACK TO SAVEPOINT tried; RELEASE SAVEPOINT tried")?;
    Ok((before, after?))
}

/// Runs an up in a transaction, looks, and takes it back.
pub(crate) fn tried<T>(
    db: &mut dyn Database,
    revision: &Revision,
    look: impl FnOnce(&mut dyn Database) -> Result<T>,
) -> Result<T> {
    db.begin()?;
    let ran = revision.up.statements.iter().try_for_each(|statement| run(db, statement, &revision.path));
    let seen = ran.and_then(|()| look(db));
    db.rollback();
    seen
}

/// Runs the down that was frozen, puts back what the up kept, and forgets the revision. Returns what both have their own word on.
///
/// # Errors
/// As for `up`; what cannot be taken back is refused.
pub fn down(db: &mut dyn Database, record: &Record, stop: &dyn Fn() -> bool) -> Result<Vec<String>> {
    let (forget, begun) = (format!("take {} back", record.stamp), crate::now());
    let (text, transaction) = match &record.down {
        FrozenDown::Irreversible(why) => return Err(irreversible(record, why)),
        FrozenDown::Nothing => {
            return within(db, &forget, |db| taken_back(db, record, &begun, &[])).map(|()| Vec::new());
        }
        FrozenDown::Sql { text, transaction } => (text, *transaction),
    };
    if !transaction {
        let record =
            Record { standing: Standing::GoingDown, done: 0, trying: false, at: crate::now(), ..record.clone() };
        within(db, &format!("record {} as going down", record.stamp), |db| {
            db.prepare()?;
            Ok(db.put_record(&record)?)
        })?;
        return go_on(db, record, None, stop).map(|record| record.conflicts);
    }
    let file = frozen_name(record);
    let statements = sql::split(text, db.kind(), &file)?;
    let done = within(db, &forget, |db| {
        let found = if record.unproven || record.stamped {
            found_out(db, (&statements, &file), &record.stamp, "down")?
        } else {
            record.lost_down.clone()
        };
        let conflicts = step_across(db, (&statements, &file), &found, &record.lost_up, stop)?;
        taken_back(db, record, &begun, &conflicts)?;
        Ok(conflicts)
    });
    if let Err(error @ Error::Statement { .. }) = &done {
        let line = record.line("rollback failed", &begun, error.to_string());
        // as above
        let _ = within(db, &format!("note that {} was not taken back", record.stamp), |db| {
            db.prepare()?;
            Ok(db.log(&line)?)
        });
    }
    done
}

/// A revision is not applied any more. Within the transaction of its last statement.
fn taken_back(db: &mut dyn Database, record: &Record, begun: &str, conflicts: &[String]) -> Result<()> {
    db.remove_record(&record.stamp)?;
    db.prepare()?;
    Ok(db.log(&record.line("rolled back", begun, conflicts.join("; ")))?)
}

/// Records that one was applied that runs statement by statement. Within the transaction of its last statement, if that can have one.
fn applied(db: &mut dyn Database, record: &Record, begun: &str) -> Result<()> {
    db.put_record(record)?;
    Ok(db.log(&record.line("applied", begun, record.words()))?)
}

/// Runs a step's statements: `loses` is kept before, `returns` is what the opposite step kept, and comes back. Within a transaction.
fn step_across(
    db: &mut dyn Database,
    (statements, file): (&[Statement], &Path),
    loses: &[Loss],
    returns: &[Loss],
    stop: &dyn Fn() -> bool,
) -> Result<Vec<String>> {
    keep::keep(db, loses)?;
    keep::mark_changed(db, returns)?;
    let mut returning = Returning::begin(db, returns)?;
    if returning.waits() {
        db.run("SAVEPOINT step")?;
    }
    let ran = statements_across(db, (statements, file), &mut returning, stop);
    match ran {
        // the script puts rows there itself, or alters what waits for a check: it runs as it was written
        Err(Error::Statement { .. }) if returning.has_begun() => {
            db.run("ROLLBACK TO SAVEPOINT step")?;
            returning.at_the_end();
            statements_across(db, (statements, file), &mut returning, stop)?;
        }
        other => other?,
    }
    let told = returning.finish(db)?;
    keep::note_rows(db, loses)?;
    Ok(told)
}

fn statements_across(
    db: &mut dyn Database,
    (statements, file): (&[Statement], &Path),
    returning: &mut Returning<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<()> {
    for statement in statements {
        if stop() {
            return Err(Error::Stopped);
        }
        run(db, statement, file)?;
        if returning.waits() && matches!(first_word(statement, db.kind()).as_str(), "ALTER" | "CREATE") {
            returning.put_early(db)?;
        }
    }
    Ok(())
}

/// Goes on with a revision that runs statement by statement, from where its record stands. Returns its record, with what was not put back.
///
/// # Errors
/// [`Error::Statement`], its record standing at the statement that failed.
pub fn go_on(
    db: &mut dyn Database,
    mut record: Record,
    file: Option<&Revision>,
    stop: &dyn Fn() -> bool,
) -> Result<Record> {
    let begun = Instant::now();
    if let Some(file) = file {
        take_edit(db, &mut record, file)?;
    }
    let (statements, file) = match (&record.standing, &record.down) {
        (Standing::GoingUp, _) => match file.filter(|file| file.up.text == record.up) {
            // the same, with the lines of the file
            Some(file) => (file.up.statements.clone(), file.path.clone()),
            None => {
                let name = PathBuf::from(format!("{}_{} as it began", record.stamp, record.slug));
                (sql::split(&record.up, db.kind(), &name)?, name)
            }
        },
        (Standing::GoingDown, FrozenDown::Sql { text, .. }) => {
            let name = frozen_name(&record);
            (sql::split(text, db.kind(), &name)?, name)
        }
        _ => return Ok(record),
    };
    let (units, way) = (units(statements, db.kind()), record.standing);
    if units.is_empty() {
        // nothing but comments, or a transaction with nothing in it
        let (what, at) = (format!("record {} as done", record.stamp), crate::now());
        let done = Record { standing: Standing::Applied, at, ..record.clone() };
        within(db, &what, |db| match record.standing {
            Standing::GoingDown => taken_back(db, &record, &record.at, &[]),
            _ => applied(db, &done, &record.at),
        })?;
        return not_put_back(db, &record.standing, done);
    }
    while record.done < units.len() {
        if stop() {
            return Err(Error::Stopped);
        }
        let unit = &units[record.done];
        let last = record.done + 1 == units.len();
        let mut after = Record { done: record.done + 1, trying: false, error: None, ..record.clone() };
        if last && after.standing == Standing::GoingUp {
            after = Record { standing: Standing::Applied, ms: record.ms + since(begun), at: crate::now(), ..after };
        }
        if let Err(e) = step(db, &mut record, unit, &after, last, &file) {
            note_failure(db, &record, unit, &e);
            return Err(e);
        }
        record = after;
    }
    not_put_back(db, &way, record)
}

/// With what the opposite step kept, which such a script does not put back.
fn not_put_back(db: &mut dyn Database, way: &Standing, record: Record) -> Result<Record> {
    let opposite = if *way == Standing::GoingDown { "up" } else { "down" };
    let conflicts = keep::still_kept(db, &record.stamp, opposite)?;
    Ok(Record { conflicts, ..record })
}

/// A file that was edited to mend the statement that failed: what is still to be run is as it says now, if what ran already is the same.
fn take_edit(db: &mut dyn Database, record: &mut Record, file: &Revision) -> Result<()> {
    let (kind, name) = (db.kind(), PathBuf::from("as it began"));
    let same_so_far = |began: &str, now: &[Statement], done: usize| -> Result<bool> {
        let (began, now) = (units(sql::split(began, kind, &name)?, kind), units(now.to_vec(), kind));
        let texts = |units: &[Vec<Statement>]| -> Vec<Vec<String>> {
            units.iter().take(done).map(|unit| unit.iter().map(|s| s.sql.clone()).collect()).collect()
        };
        Ok(began.len() >= done && now.len() >= done && texts(&began) == texts(&now))
    };
    match (record.standing, &record.down, &file.down) {
        (Standing::GoingUp, ..) => {
            let same = file.up.text == record.up && frozen(&file.down) == record.down;
            if !same && !file.up.transaction && same_so_far(&record.up, &file.up.statements, record.done)? {
                record.up.clone_from(&file.up.text);
                record.down = frozen(&file.down);
                record.proof = Some("not proven: its file was edited when it had stopped half-way".into());
                record.unproven = true;
            }
        }
        (Standing::GoingDown, FrozenDown::Sql { text, .. }, Down::Sql(down))
            if down.text != *text && !down.transaction && same_so_far(text, &down.statements, record.done)? =>
        {
            record.down = frozen(&file.down);
        }
        _ => {}
    }
    Ok(())
}

/// Notes why a statement failed, if the record still says that it is the next one: an answer may have been lost, and its effect not.
fn note_failure(db: &mut dyn Database, record: &Record, unit: &[Statement], error: &Error) {
    let cleared = matches!(error, Error::Statement { .. }) && clear_invalid(db, unit).is_ok();
    let note = within(db, &format!("record that {} stopped", record.stamp), |db| {
        let known = db.records()?.into_iter().find(|known| known.stamp == record.stamp);
        let Some(known) = known.filter(|known| (known.standing, known.done) == (record.standing, record.done)) else {
            return Ok(());
        };
        // a statement that failed had no effect but what was cleared away
        let trying = known.trying && !cleared;
        let outcome = if known.standing == Standing::GoingDown { "rollback failed" } else { "failed" };
        let why = format!("half-way, after statement {}: {error}", known.done);
        db.log(&known.line(outcome, &known.at, why))?;
        Ok(db.put_record(&Record { error: Some(error.to_string()), trying, ..known })?)
    });
    // what it failed of must be heard, not that it could not be noted
    drop(note);
}

/// One unit, in its transaction with the record if it can be, else announced, run, recorded.
fn step(
    db: &mut dyn Database,
    record: &mut Record,
    unit: &[Statement],
    after: &Record,
    last: bool,
    file: &Path,
) -> Result<()> {
    let what = format!("statement {} of {}", after.done, record.stamp);
    let begun = record.at.clone();
    let note = |db: &mut dyn Database| match after.standing {
        Standing::GoingDown if last => taken_back(db, after, &begun, &[]),
        _ if last => applied(db, after, &begun),
        _ => Ok(db.put_record(after)?),
    };
    let alone = unit.len() == 1 && runs_alone(&unit[0], db.kind());
    if !record.trying && !alone {
        let tried = within(db, &what, |db| {
            for statement in unit {
                run(db, statement, file)?;
            }
            note(db)
        });
        match tried {
            Err(Error::Statement { outside: true, .. }) if unit.len() == 1 => {}
            other => return other,
        }
    }
    let again = record.trying;
    if again {
        clear_invalid(db, unit)?;
    } else {
        let announced = Record { trying: true, ..record.clone() };
        within(db, &format!("announce {what}"), |db| Ok(db.put_record(&announced)?))?;
        record.trying = true;
    }
    for statement in unit {
        match run(db, statement, file) {
            // it had its effect before we were cut off
            Err(Error::Statement { cause, .. }) if again && is_so_already(&cause) => {}
            other => other?,
        }
    }
    within(db, &format!("record {what}"), note)
}

/// Statements that belong together: a script's own BEGIN … COMMIT, without these two.
fn units(statements: Vec<Statement>, kind: Kind) -> Vec<Vec<Statement>> {
    let mut units: Vec<Vec<Statement>> = Vec::new();
    let mut open: Option<Vec<Statement>> = None;
    for statement in statements {
        let first = first_word(&statement, kind);
        match (first.as_str(), &mut open) {
            ("BEGIN" | "START", None) => open = Some(Vec::new()),
            ("COMMIT" | "END", Some(unit)) => {
                units.push(std::mem::take(unit));
                open = None;
            }
            (_, Some(unit)) => unit.push(statement),
            (_, None) => units.push(vec![statement]),
        }
    }
    units.extend(open);
    units.retain(|unit| !unit.is_empty());
    units
}

fn first_word(statement: &Statement, kind: Kind) -> String {
    let first = sql::tokens(&statement.sql, kind).next();
    first.map_or(String::new(), |token| token.text.to_ascii_uppercase())
}

/// The name that CREATE INDEX CONCURRENTLY gives, as it is written.
fn concurrent_index(statement: &Statement) -> Option<String> {
    let mut tokens = sql::tokens(&statement.sql, Kind::Postgres)
        .filter(|token| !["UNIQUE", "IF", "NOT", "EXISTS"].iter().any(|word| token.word(word)));
    let begins = ["CREATE", "INDEX", "CONCURRENTLY"].iter().all(|word| tokens.next().is_some_and(|t| t.word(word)));
    let name = tokens.next().filter(|token| begins && !token.word("ON"))?;
    Some(name.text.to_owned())
}

/// A PRAGMA of SQLite's within a transaction may do nothing, and say nothing.
fn runs_alone(statement: &Statement, kind: Kind) -> bool {
    kind == Kind::Sqlite && matches!(first_word(statement, kind).as_str(), "PRAGMA" | "VACUUM" | "ATTACH" | "DETACH")
}

/// The error of a statement that was cut off, had its effect, and is run again.
fn is_so_already(cause: &str) -> bool {
    ["42P07", "42710", "42P04", "42P06", "42701", "42704", "42P01", "3F000", "3D000"]
        .iter()
        .any(|code| cause.ends_with(&format!("({code})")))
}

/// CREATE INDEX CONCURRENTLY that fails or is killed leaves an index that serves nobody and holds the name.
fn clear_invalid(db: &mut dyn Database, unit: &[Statement]) -> Result<()> {
    if db.kind() != Kind::Postgres {
        return Ok(());
    }
    for name in unit.iter().filter_map(concurrent_index) {
        let literal = format!("'{}'", name.replace('\'', "''"));
        let invalid = db.query(&format!(
            "SELECT 1 FROM pg_catalog.pg_index WHERE indexrelid = to_regclass({literal}) AND NOT indisvalid"
        ))?;
        if !invalid.is_empty() {
            db.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"))?;
        }
    }
    Ok(())
}

/// Runs one statement of a file.
pub(crate) fn run(db: &mut dyn Database, statement: &Statement, file: &Path) -> Result<()> {
    db.run(&statement.sql).map_err(|e| {
        let outside = db.wants_no_transaction(&e);
        let place = format!("{}:{}", super::shown(file), statement.line);
        match e {
            // nothing is wrong with the statement
            store::Error::Locked { store, cause } => {
                let said = cause.trim_start_matches("run: ");
                let cause = format!("{place} waited too long for a lock that another transaction holds ({said})");
                store::Error::Locked { store, cause }.into()
            }
            store::Error::Refused { store, cause, hint } => {
                let cause = format!("{place}: {}", cause.trim_start_matches("run: "));
                store::Error::Refused { store, cause, hint }.into()
            }
            store::Error::Database { cause, .. } => Error::Statement {
                file: file.to_owned(),
                line: statement.line,
                statement: statement.sql.lines().next().unwrap_or_default().chars().take(120).collect(),
                cause,
                outside,
            },
            other => other.into(),
        }
    })
}

/// A transaction around `body`.
pub(crate) fn within<T>(
    db: &mut dyn Database,
    what: &str,
    body: impl FnOnce(&mut dyn Database) -> Result<T>,
) -> Result<T> {
    db.begin()?;
    let done = body(db).and_then(|v| db.commit(what).map(|()| v).map_err(Error::from));
    if done.is_err() {
        db.rollback();
    }
    done
}

/// How a revision's record begins.
pub fn begun_record(revision: &Revision, terms: &Terms) -> Record {
    Record {
        format: 1,
        nth: terms.nth,
        stamp: revision.stamp.clone(),
        slug: revision.slug.clone(),
        title: revision.title.clone(),
        standing: Standing::GoingUp,
        at: crate::now(),
        ms: 0,
        done: 0,
        trying: false,
        up: revision.up.text.clone(),
        up_transaction: revision.up.transaction,
        down: frozen(&revision.down),
        proof: terms.proof.clone(),
        accepted_loss: terms.accepted_loss.clone(),
        lost_up: terms.lost_up.clone(),
        lost_down: terms.lost_down.clone(),
        unproven: terms.unproven,
        let_go: None,
        conflicts: Vec::new(),
        stamped: false,
        error: None,
    }
}

/// A down as it is frozen.
pub fn frozen(down: &Down) -> FrozenDown {
    match down {
        Down::Sql(script) => FrozenDown::Sql { text: script.text.clone(), transaction: script.transaction },
        Down::Nothing => FrozenDown::Nothing,
        Down::Irreversible(why) => FrozenDown::Irreversible(why.clone()),
    }
}

/// What a frozen down is called where a file's name would stand.
fn frozen_name(record: &Record) -> PathBuf {
    PathBuf::from(format!("frozen down of {}_{}", record.stamp, record.slug))
}

pub(crate) fn irreversible(record: &Record, why: &str) -> Error {
    Error::Refused {
        cause: format!("{} ({}) cannot be taken back: {why}", record.stamp, record.title),
        hint: "restore a backup from before it, or write a new revision that undoes what can be undone".into(),
    }
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
