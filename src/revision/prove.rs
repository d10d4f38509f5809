//! The proof: a revision runs up, down and up again on a scratch copy, and what came back is held against what was.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::catalog::{self, Catalog};
use super::database::{Database, FrozenDown};
use super::keep::{self, Loss};
use super::run::{self, Terms};
use super::taken::Taken;
use super::{Down, Error, Result, Revision, sample, sql};
use crate::plan::Kind;
use crate::store;
use crate::value::Value;

/// Lines of a difference that are shown.
const SHOWN: usize = 20;

/// What a proof came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The revision's stamp.
    pub stamp: String,
    /// In plain words.
    pub words: String,
    /// What the down does not bring back: lines of DDL, and rows.
    pub lost: Vec<String>,
    /// What a proof cannot see.
    pub unseen: Vec<String>,
    /// What the up takes away, and keeps.
    pub lost_up: Vec<Loss>,
    /// What the down takes away, and keeps.
    pub lost_down: Vec<Loss>,
}

/// Proves revisions, in order, on one scratch copy of `real`, of which nothing is changed.
///
/// # Errors
/// [`Error::Statement`] if an up or a down fails there; what a database says.
pub fn prove(
    real: &mut dyn Database,
    at: Option<&str>,
    revisions: &[&Revision],
    stop: &dyn Fn() -> bool,
    tell: &dyn Fn(&Revision, &Proof),
) -> Result<Vec<Proof>> {
    if revisions.is_empty() {
        return Ok(Vec::new());
    }
    let schema = catalog::read(real)?;
    let mut scratch = real.scratch(at)?;
    let copied = sample::copy(real, &schema, scratch.as_mut())?;
    let mut proofs = Vec::new();
    let mut now = Snapshot::take(scratch.as_mut(), None)?;
    for (i, revision) in revisions.iter().enumerate() {
        let (proof, after) = one(scratch.as_mut(), revision, now, &copied, stop)?;
        tell(revision, &proof);
        proofs.push(proof);
        now = match after {
            Some(after) => after,
            // it cannot be run again on this copy: those after it are proven on another one
            None => {
                drop(scratch);
                scratch = real.scratch(at)?;
                sample::copy(real, &schema, scratch.as_mut())?;
                for applied in &revisions[..=i] {
                    run::up(scratch.as_mut(), applied, &Terms::default(), stop)?;
                }
                Snapshot::take(scratch.as_mut(), None)?
            }
        };
    }
    Ok(proofs)
}

/// Proves one, and leaves it applied; `None` if it could not be run again.
fn one(
    scratch: &mut dyn Database,
    revision: &Revision,
    before: Snapshot,
    copied: &sample::Copied,
    stop: &dyn Fn() -> bool,
) -> Result<(Proof, Option<Snapshot>)> {
    let mut proof = Proof { stamp: revision.stamp.clone(), ..Proof::default() };
    proof.unseen = unseen(revision, scratch.kind());
    proof.unseen.extend(copied.absent.iter().take(3).map(|what| format!("{what} (not in the copy)")));
    if copied.absent.len() > 3 {
        proof.unseen.push(format!("{} more that are not in the copy", copied.absent.len() - 3));
    }
    let alone =
        [("up", Some(&revision.up)), ("down", if let Down::Sql(down) = &revision.down { Some(down) } else { None })];
    for (way, script) in alone.into_iter().filter_map(|(way, script)| Some((way, script?))) {
        if !script.transaction && !Taken::by(&script.statements, scratch.kind()).is_nothing() {
            proof.unseen.push(format!("its {way} runs outside a transaction, so that what it takes away is not kept"));
        }
    }
    if let (true, Down::Sql(down)) = (revision.up.transaction, &revision.down) {
        // what goes is known once it is gone; so it goes in a transaction that is taken back
        let tried = run::tried(scratch, revision, |scratch| catalog::read(scratch))?;
        let stamp = &revision.stamp;
        for (table, columns) in keep::keyless(&before.catalog, &tried, &revision.up.statements) {
            // the copy has all of its rows, or they are not all seen to come back
            if before.rows.get(&table).is_some_and(|rows| rows.rows.len() >= sample::ROWS) {
                proof.lost.push(format!(
                    "{table} has no key that tells its rows apart: what {columns} held cannot be kept for all of them"
                ));
            }
        }
        proof.lost_up = keep::losses(&before.catalog, &tried, &revision.up.statements, stamp, "up");
        if down.transaction {
            proof.lost_down = keep::losses(&tried, &before.catalog, &down.statements, stamp, "down");
        }
    }
    let terms = Terms { lost_up: proof.lost_up.clone(), lost_down: proof.lost_down.clone(), ..Terms::default() };
    let record = run::up(scratch, revision, &terms, stop)?;
    let after = Snapshot::take(scratch, Some(&before))?;
    let on = match copied.rows {
        0 => "a copy of the schema (there are no rows)".to_owned(),
        n => format!("a copy with {n} rows"),
    };
    match &record.down {
        FrozenDown::Irreversible(why) => {
            proof.words = format!("its up ran on {on}; it cannot be taken back: {why}");
            return Ok((proof, Some(after)));
        }
        FrozenDown::Nothing => {
            proof.lost = before.differences(&after);
            proof.words = format!("its up ran on {on}, and left nothing to undo");
            return Ok((proof, Some(after)));
        }
        FrozenDown::Sql { .. } => {}
    }
    let left = run::down(scratch, &record, stop).map_err(|e| down_fails(e, revision))?;
    let back = Snapshot::take(scratch, Some(&before))?;
    proof.lost.extend(before.differences(&back));
    // nobody wrote in between: what is in the way is the down's own
    if proof.lost.is_empty() {
        proof.lost.extend(left);
    }
    // a down that leaves something behind may make the next up fail
    match run::up(scratch, revision, &terms, stop) {
        Ok(_) => {}
        Err(Error::Statement { cause, .. } | Error::Store(store::Error::Database { cause, .. }))
            if !proof.lost.is_empty() =>
        {
            proof.lost.push(format!("after that, the up cannot run again: {cause}"));
            return Ok((proof, None));
        }
        Err(e) => return Err(again(e, revision)),
    }
    let twice = Snapshot::take(scratch, Some(&after))?;
    let schema = catalog::differences(&after.catalog, &twice.catalog);
    proof.lost.extend(schema.iter().filter(|d| !d.order_only).map(|d| format!("after up, down and up again: {d}")));
    proof.words = format!("ran up, down and up again on {on}: schema and rows came back");
    if !proof.lost_up.is_empty() {
        let kept: Vec<String> = proof.lost_up.iter().map(Loss::words).collect();
        proof.words.push_str(&format!("; what the up takes away is kept: {}", kept.join("; ")));
    }
    Ok((proof, Some(twice)))
}

/// A down that does not even run, with its line in the file.
fn down_fails(error: Error, revision: &Revision) -> Error {
    match error {
        Error::Statement { line, statement, cause, .. } => {
            let file = revision.down_path.as_ref().unwrap_or(&revision.path);
            let begins = |s: &&super::Statement| s.sql.lines().next().unwrap_or_default().starts_with(&statement);
            let line = match &revision.down {
                Down::Sql(script) => script.statements.iter().find(begins).map_or(line, |s| s.line),
                _ => line,
            };
            Error::Refused {
                cause: format!(
                    "the down of {}_{} fails on a copy that its up has just run on: {}:{line}: {cause}",
                    revision.stamp,
                    revision.slug,
                    super::shown(file)
                ),
                hint: "mend the down, then run the same command again".into(),
            }
        }
        other => other,
    }
}

fn again(error: Error, revision: &Revision) -> Error {
    match error {
        Error::Statement { file, line, statement, cause, outside } => {
            let cause = format!("after up and down, the up of {}_{} fails: {cause}", revision.stamp, revision.slug);
            Error::Statement { file, line, statement, cause, outside }
        }
        other => other,
    }
}

/// What a copy does not show: values that are another each time, and effects elsewhere.
fn unseen(revision: &Revision, kind: Kind) -> Vec<String> {
    const OUTSIDE: &[&str] =
        &["NOTIFY", "PG_NOTIFY", "DBLINK", "DBLINK_EXEC", "PROGRAM", "ATTACH", "PG_TERMINATE_BACKEND"];
    let mut found: Vec<String> = Vec::new();
    let down = if let Down::Sql(script) = &revision.down { &script.statements[..] } else { &[] };
    for statement in revision.up.statements.iter().chain(down) {
        for word in sql::words(&statement.sql, kind) {
            let said = if keep::VOLATILE.contains(&word.as_str()) {
                format!("{} gives another value each time", word.to_lowercase())
            } else if OUTSIDE.contains(&word.as_str()) {
                format!("{} has effects outside of the database", word.to_lowercase())
            } else {
                continue;
            };
            if !found.contains(&said) {
                found.push(said);
            }
        }
    }
    found
}

/// A schema with its rows.
struct Snapshot {
    catalog: Catalog,
    /// Of each table, its columns by name and its rows as text, sorted.
    rows: BTreeMap<String, Rows>,
}

#[derive(Clone, PartialEq, Eq)]
struct Rows {
    columns: Vec<String>,
    digest: String,
    rows: Vec<String>,
}

impl Snapshot {
    /// Reads everything; of tables that are as they were in `known`, rows are not read again.
    fn take(db: &mut dyn Database, known: Option<&Snapshot>) -> Result<Snapshot> {
        let catalog = catalog::read(db)?;
        let mut rows = BTreeMap::new();
        let digests = if db.kind() == Kind::Postgres { digests(db, &catalog)? } else { BTreeMap::new() };
        for table in catalog.tables() {
            let name = table.name.quoted().to_owned();
            let mut sorted: Vec<_> = table.columns.iter().collect();
            sorted.sort_by(|a, b| a.name.cmp(&b.name));
            let columns: Vec<String> = sorted.iter().map(|c| c.name.clone()).collect();
            let digest = digests.get(&name).cloned().unwrap_or_default();
            let same = known.and_then(|k| k.rows.get(&name)).filter(|k| k.columns == columns && k.digest == digest);
            if let (Some(same), false) = (same, digest.is_empty()) {
                rows.insert(name, same.clone());
                continue;
            }
            let list = sorted.iter().map(|c| c.quoted()).collect::<Vec<_>>().join(", ");
            let list = if list.is_empty() { "1".to_owned() } else { list };
            let read = db.query(&format!("SELECT {list} FROM {name}"))?;
            let mut lines: Vec<String> = read.iter().map(|row| line(row)).collect();
            lines.sort();
            rows.insert(name, Rows { columns, digest, rows: lines });
        }
        Ok(Snapshot { catalog, rows })
    }

    /// What `other` does not have as this one has it, as lines with `-` and `+`.
    fn differences(&self, other: &Snapshot) -> Vec<String> {
        let schema = catalog::differences(&self.catalog, &other.catalog);
        let mut lines: Vec<String> = schema.iter().filter(|d| !d.order_only).map(ToString::to_string).collect();
        for (table, mine) in &self.rows {
            let Some(theirs) = other.rows.get(table) else { continue };
            if mine.columns != theirs.columns || mine.rows == theirs.rows {
                continue;
            }
            let (gone, born) = (missing(&mine.rows, &theirs.rows), missing(&theirs.rows, &mine.rows));
            let mut told = format!("rows of {table} ({}):", mine.columns.join(", "));
            for (sign, rows) in [('-', &gone), ('+', &born)] {
                for row in rows.iter().take(3) {
                    let _ = write!(told, "\n  {sign} {row}");
                }
                if rows.len() > 3 {
                    let _ = write!(told, "\n  {sign} and {} more", rows.len() - 3);
                }
            }
            lines.push(told);
        }
        if lines.len() > SHOWN {
            let more = lines.len() - SHOWN;
            lines.truncate(SHOWN);
            lines.push(format!("and {more} more differences"));
        }
        lines
    }
}

/// What is in the first sorted list and not in the second, each as often as it is missing.
fn missing(mine: &[String], theirs: &[String]) -> Vec<String> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for row in theirs {
        *left.entry(row).or_default() += 1;
    }
    let mut out = Vec::new();
    for row in mine {
        match left.get_mut(row.as_str()) {
            Some(n) if *n > 0 => *n -= 1,
            _ => out.push(row.clone()),
        }
    }
    out
}

/// A row for people, and to be compared: its values as a statement would say them.
fn line(row: &[Value<'_>]) -> String {
    row.iter().map(sample::literal).collect::<Vec<_>>().join(", ")
}

/// PostgreSQL: a digest of each table's rows, in one query.
fn digests(db: &mut dyn Database, catalog: &Catalog) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for tables in catalog.tables().chunks(100) {
        let parts: Vec<String> = tables
            .iter()
            .map(|table| {
                let name = table.name.quoted();
                let row = table.columns.iter().map(|c| format!("quote_nullable({}::text)", c.quoted()));
                let row = row.collect::<Vec<_>>().join(" || ',' || ");
                let row = if row.is_empty() { "''".to_owned() } else { row };
                let literal = format!("'{}'", name.replace('\'', "''"));
                format!(
                    "SELECT {literal}, count(*) || md5(coalesce(string_agg(r, ';' ORDER BY r COLLATE \"C\"), '')) \
                     FROM (SELECT {row} AS r FROM {name}) q"
                )
            })
            .collect();
        for line in db.query(&parts.join(" UNION ALL "))? {
            if let [Value::Text(name), Value::Text(digest)] = &line[..] {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                found.insert(text(name), text(digest));
            }
        }
    }
    Ok(found)
}
