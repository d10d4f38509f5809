//! Making the plan of a change in place. Changes nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::mapping::convert::as_literal;
use crate::mapping::reshape::{self, Changing, Refused};
use crate::mapping::{self, Way};
use crate::plan::{Counts, Fixed, Kind, Migration, Plan, Reshape, Split, StoreRef, Table, TablePlan};
use crate::store::{self, Store};
use crate::value::{Key, Value, values_of};

use super::planning::{Estimate, Proposal, each_batch, refusal, self_checked};
use super::{Error, Event, Observer, Result, prepare};

/// Makes the plan of a migration that changes tables where they are.
///
/// # Errors
/// A refusal that names table, column, key; or what the store says.
pub(super) fn propose(
    migration: &Migration,
    wanted: &Reshape,
    source: &mut dyn Store,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Proposal> {
    let kind = source.kind();
    let told = |r: Refused| -> Error {
        match r.at {
            Some(at) => migration.refuse(at, r.refusal.cause, Some(r.refusal.hint)).into(),
            None => r.refusal.into(),
        }
    };
    let hint = "mend it before it changes: what is broken now would be broken afterwards";
    let schema = source.schema()?;
    if let Some(merge) = &wanted.merge {
        let tables = reshape::merge::parts(&schema, merge, kind).map_err(told)?;
        let given = source.high_water(&tables.iter().collect::<Vec<_>>())?;
        let each = self_checked(source, &tables, hint, |source| {
            tables.iter().map(|t| size(source, t, stop)).collect::<Result<Vec<_>>>()
        })?;
        let kept = prepare::kept_pairs(source, &migration.stamp)?;
        let assembled = reshape::merge::assemble(tables, merge, &given, &kept, kind).map_err(told)?;
        return proposal(migration, wanted, source, assembled, Counts { tables: each }, Vec::new());
    }
    if let Some(split) = &wanted.split {
        let tables = reshape::split::parts(&schema, split, kind).map_err(told)?;
        let mut each = self_checked(source, &tables, hint, |source| {
            tables.iter().map(|t| size(source, t, stop)).collect::<Result<Vec<_>>>()
        })?;
        let at = tables.iter().position(|t| t.name == split.from);
        let assembled = reshape::split::assemble(tables, split, kind).map_err(told)?;
        // each part is told by its own rows
        if let Some(at) = at {
            each.splice(at..=at, parted(source, &assembled.tables, split, stop)?);
        }
        return proposal(migration, wanted, source, assembled, Counts { tables: each }, Vec::new());
    }
    let mut all = reshape::select(&schema, wanted, kind).map_err(told)?;
    let names: Vec<(String, String)> =
        schema.tables.iter().zip(&schema.notes).map(|(t, n)| (t.name.clone(), n.clone())).collect();
    let mut notes: Vec<String> = Vec::new();
    for (name, note) in
        names.into_iter().filter(|(name, note)| !note.is_empty() && all.iter().any(|t| t.table.name == *name))
    {
        notes.push(if note.starts_with(&name) { note } else { format!("{name}: {note}") });
    }
    let mut counts = Counts::default();
    let tables: Vec<Table> = all.iter().map(|t| t.table.clone()).collect();
    for t in &all {
        ask(source, migration, t)?;
    }
    let looked = self_checked(source, &tables, hint, |source| {
        all.iter_mut().map(|t| look(source, t, observer, stop)).collect::<Result<Vec<_>>>()
    })?;
    counts.tables.extend(looked.iter().map(|l| (l.rows, l.bytes)));
    given_yet(source, &tables, &looked)?;
    let assembled = reshape::assemble(all, kind).map_err(told)?;
    proposal(migration, wanted, source, assembled, counts, notes)
}

/// Columns that change by SQL: whether the store takes it, and whom to ask.
fn ask(source: &mut dyn Store, migration: &Migration, t: &Changing) -> Result<()> {
    let strict = t.table.details.strict;
    for (was, fate) in t.table.columns.iter().zip(&t.fates) {
        let Some(by) = fate.by_sql() else { continue };
        for (word, (expression, at), from, to) in [("up", by.up, was, by.is), ("down", by.down, by.is, was)] {
            source.may_say(expression, from, to, strict).map_err(|e| match e {
                store::Error::Refused { cause, hint, .. } => {
                    let message = format!("`{word}` of {}.{} cannot be used: {cause}", t.table.name, was.name);
                    Error::from(migration.refuse(at, message, Some(hint)))
                }
                e => e.into(),
            })?;
        }
        by.said.by(source.teller(was, by.is, by.up.0, by.down.0, strict));
    }
    Ok(())
}

/// Rows and bytes of each part of a table that is split, every row of which must go to one of them and lose nothing by it.
fn parted(source: &mut dyn Store, tables: &[TablePlan], split: &Split, stop: &AtomicBool) -> Result<Vec<(u64, u64)>> {
    let parts: Vec<&TablePlan> = tables.iter().filter(|t| t.source.name == split.from).collect();
    let mut each = vec![(0, 0); parts.len()];
    let Some(first) = parts.first() else { return Ok(each) };
    let whole = first.source.whole();
    each_batch(source, &whole, |batch| {
        if stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        for row in batch.rows() {
            let key = || Key::of_row(&row, &whole.key);
            let mine = |t: &&TablePlan| {
                t.source.only.as_ref().is_some_and(|o| as_literal(&row[o.column]).as_ref() == Some(&o.value))
            };
            let Some(n) = parts.iter().position(&mine) else {
                let at = first.source.only.as_ref().map_or(0, |o| o.column);
                return Err(refusal(
                    format!(
                        "{}, key {}: {} is {}, which goes to none of the tables",
                        whole.name,
                        key(),
                        split.discriminator,
                        row[at]
                    ),
                    "name that value in a [[split.into]], or mend the row",
                ));
            };
            let kept = |f: &&Fixed| {
                as_literal(&row[f.column]).as_ref() != Some(&f.value) && !(row[f.column].is_null() && f.value == "NULL")
            };
            if let Some(f) = parts[n].target.constants.iter().find(kept) {
                let column = &whole.columns[f.column].name;
                return Err(refusal(
                    format!(
                        "{}, key {}: {column} is {}, and {} is without it",
                        whole.name,
                        key(),
                        row[f.column],
                        parts[n].target.name
                    ),
                    "take the column out of `without`, or mend the row",
                ));
            }
            each[n].0 += 1;
            each[n].1 += (batch.size() / batch.len().max(1)) as u64;
        }
        Ok(())
    })?;
    Ok(each)
}

/// Rows and bytes of a table of which nothing has to be looked at.
fn size(source: &mut dyn Store, t: &Table, stop: &AtomicBool) -> Result<(u64, u64)> {
    let (mut rows, mut bytes) = (0, 0);
    each_batch(source, t, |batch| {
        if stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        rows += batch.len() as u64;
        bytes += batch.size() as u64;
        Ok(())
    })?;
    Ok((rows, bytes))
}

/// The plan of these tables, once the store has said what could not follow.
fn proposal(
    migration: &Migration,
    wanted: &Reshape,
    source: &mut dyn Store,
    assembled: reshape::Assembled,
    counts: Counts,
    mut notes: Vec<String>,
) -> Result<Proposal> {
    let kind = source.kind();
    let reshape::Assembled { tables, notes: more } = assembled;
    notes.extend(more);
    let sources: Vec<&Table> = tables.iter().map(|t| &t.source).collect();
    let targets: Vec<&Table> = tables.iter().map(|t| &t.target).collect();
    source.may_record()?;
    notes.extend(source.may_swap(&sources, &targets)?);
    notes.extend(
        source.lingering(&sources)?.into_iter().map(|who| format!("in the way of a cutover at this moment: {who}")),
    );
    if let Some(reason) = &migration.irreversible {
        notes.push(format!("declared irreversible: {reason}"));
    }
    let store = || StoreRef { name: wanted.store.clone(), kind };
    let plan = Plan {
        format: 1,
        migration: migration.stamp.clone(),
        title: migration.title.clone(),
        from: store(),
        to: store(),
        tables,
        not_moved: Vec::new(),
        notes,
    };
    let estimate = Estimate { locks: locks(kind), ..super::planning::estimate(&plan, &counts) };
    Ok(Proposal { hash: plan.hash(), plan, counts, estimate })
}

/// What was found in a table.
#[derive(Default)]
struct Looked {
    rows: u64,
    bytes: u64,
    /// Its greatest key, if that is one number.
    greatest: Option<i64>,
    /// Per column that holds another table's numbers without a foreign key: that table, the greatest of them, and where it is.
    soft: Vec<(String, i64, String)>,
}

/// A number that is referred to and that nobody has yet would mean the next row that is born.
fn given_yet(source: &mut dyn Store, tables: &[Table], looked: &[Looked]) -> Result<()> {
    let given = source.high_water(&tables.iter().collect::<Vec<_>>())?;
    for (of, number, place) in looked.iter().flat_map(|l| &l.soft) {
        let parent = tables.iter().position(|t| t.name == *of);
        let highest = parent.and_then(|p| given[p].max(looked[p].greatest)).unwrap_or(0);
        if *number > highest {
            return Err(refusal(
                format!("{place} holds {number}, and {of} has given no number beyond {highest} yet"),
                "mend that row: after the change its number would be another's",
            ));
        }
    }
    Ok(())
}

/// Looks at every value of what changes.
fn look(source: &mut dyn Store, t: &mut Changing, observer: &dyn Observer, stop: &AtomicBool) -> Result<Looked> {
    const TOLD: usize = 3;
    let mut out = Looked::default();
    let Changing { table, fates, .. } = t;
    let total = source.count(table)?;
    let (mut rows, mut bytes) = (0u64, 0u64);
    let mut bad: Vec<(usize, u64, Vec<String>)> = Vec::new();
    each_batch(source, table, |batch| {
        if stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        for (i, fate) in fates.iter().enumerate() {
            if let Some(by) = fate.by_sql() {
                mapping::said_ahead(by.said, Way::Up, batch.rows().map(|row| row[i].clone().into_owned()).collect());
            }
        }
        for row in batch.encoded() {
            let key = || Key::of_row(&values_of(row), &table.key).to_string();
            let mut rest = row;
            for (i, fate) in fates.iter_mut().enumerate() {
                let value = Value::decode(&mut rest).unwrap_or(Value::Null);
                if value.is_null() && table.key.contains(&i) {
                    return Err(refusal(
                        format!(
                            "{}: the key column {} is {value} in the row {}",
                            table.name,
                            table.columns[i].name,
                            key()
                        ),
                        "give that row a key",
                    ));
                }
                if fate.is_plain() {
                    continue;
                }
                if let Value::Int(n) = value {
                    if table.key == [i] {
                        out.greatest = out.greatest.max(Some(n));
                    }
                    if let Some(of) = fate.softly_of() {
                        let place = || format!("{}.{}, key {},", table.name, table.columns[i].name, key());
                        match out.soft.iter_mut().find(|s| s.0 == of) {
                            Some(s) if s.1 >= n => {}
                            Some(s) => *s = (of.to_owned(), n, place()),
                            None => out.soft.push((of.to_owned(), n, place())),
                        }
                    }
                }
                if let Err(why) = fate.look(&value) {
                    if !bad.iter().any(|b| b.0 == i) {
                        bad.push((i, 0, Vec::new()));
                    }
                    let Some(of) = bad.iter_mut().find(|b| b.0 == i) else { continue };
                    of.1 += 1;
                    if of.2.len() < TOLD {
                        of.2.push(format!("key {}: {why} (value {value})", key()));
                    }
                }
            }
        }
        rows += batch.len() as u64;
        bytes += batch.size() as u64;
        observer.event(Event::Progress {
            what: "profiling",
            table: table.name.clone(),
            done: rows,
            total: total.max(rows),
        });
        Ok(())
    })?;
    (out.rows, out.bytes) = (rows, bytes);
    let Some((i, n, some)) = bad.first() else { return Ok(out) };
    let more = if *n > some.len() as u64 { format!("; and {} more", n - some.len() as u64) } else { String::new() };
    Err(refusal(
        format!("{}.{}, {}{more}", table.name, table.columns[*i].name, some.join("; ")),
        "mend those rows, or leave the column as it is",
    ))
}

fn locks(kind: Kind) -> Vec<String> {
    let mut out = vec!["copying: none; short reads of one chunk each".to_owned()];
    out.push(match kind {
        Kind::Postgres => "cutover: one transaction that locks these tables, readers too, from the last drain until they are swapped; tried for 50 ms at a time, until it has them".into(),
        _ => "cutover: one write transaction, from the last drain until the tables are swapped; writers wait, usually well below a second".into(),
    });
    out
}
