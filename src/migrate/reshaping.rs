//! Making the plan of a change in place. Changes nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mapping::convert::as_literal;
use crate::mapping::reshape::keyed::Keys;
use crate::mapping::reshape::references::Seen;
use crate::mapping::reshape::{self, Changing, Refused};
use crate::mapping::{self, Way};
use crate::plan::{Counts, Fixed, Kind, Merge, Migration, Plan, Reshape, Split, StoreRef, Table, TablePlan};
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
        let keys = reshape::merge::keys(&tables, merge, kind).map_err(told)?;
        let given = source.high_water(&tables.iter().collect::<Vec<_>>())?;
        let kept = prepare::kept_pairs(source, &migration.stamp)?;
        let (each, apart) = self_checked(source, &tables, hint, |source| {
            let apart = reshape::merge::may_stay(keys, merge, &kept) && are_apart(source, &tables, merge, keys, stop)?;
            let of_part = |t: &Table| merge.from.iter().any(|p| p.table == t.name).then_some(apart);
            let each = tables.iter().map(|t| size(source, t, of_part(t), stop)).collect::<Result<Vec<_>>>()?;
            Ok((each, apart))
        })?;
        let found = reshape::merge::Found { given: &given, kept: &kept, apart };
        let assembled = reshape::merge::assemble(tables, merge, &found, kind).map_err(told)?;
        return proposal(migration, wanted, source, assembled, Counts { tables: each }, Vec::new());
    }
    if let Some(split) = &wanted.split {
        let tables = reshape::split::parts(&schema, split, kind).map_err(told)?;
        let keys = reshape::split::keys(&tables, split, kind).map_err(told)?;
        let mut seen = Seen::to_look_at(&tables, split).map_err(told)?;
        let mut each = self_checked(source, &tables, hint, |source| {
            let of_it = |t: &Table| (t.name == split.from).then_some(keys == Keys::Names);
            tables.iter().map(|t| size(source, t, of_it(t), stop)).collect::<Result<Vec<_>>>()
        })?;
        referred(source, &tables, split, &mut seen, stop)?;
        let at = tables.iter().position(|t| t.name == split.from);
        let assembled = reshape::split::assemble(tables, split, &seen, kind).map_err(told)?;
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

/// Which of the new tables the rows refer to that refer to the one that is split.
fn referred(
    source: &mut dyn Store,
    tables: &[Table],
    split: &Split,
    seen: &mut [Seen],
    stop: &AtomicBool,
) -> Result<()> {
    const TOLD: usize = 3;
    let Some(whole) = tables.iter().find(|t| t.name == split.from) else { return Ok(()) };
    let Some(told_by) = whole.column(&split.discriminator) else { return Ok(()) };
    let part_of = |row: &[Value<'_>]| match &row[told_by] {
        Value::Text(t) => split.into.iter().position(|p| p.value.as_bytes() == t.as_ref()),
        _ => None,
    };
    let mut second = source.again()?;
    for t in tables {
        let columns: HashSet<usize> =
            seen.iter().filter(|s| s.table == t.name).filter_map(|s| t.column(&s.column)).collect();
        if columns.is_empty() {
            continue;
        }
        each_batch(source, t, |batch| {
            if stop.load(Ordering::SeqCst) {
                return Err(Error::Stopped);
            }
            for column in &columns {
                let refer = |row: &Vec<Value<'_>>| !row[*column].is_null();
                let asked: Vec<Key> =
                    batch.rows().filter(refer).map(|row| Key::of(&[row[*column].clone().into_owned()])).collect();
                let parents = second.fetch(whole, &asked)?;
                for (row, parent) in batch.rows().filter(refer).zip(parents) {
                    let own = if t.name == whole.name { part_of(&row) } else { None };
                    let of = seen
                        .iter_mut()
                        .find(|s| s.table == t.name && s.part == own && t.column(&s.column) == Some(*column));
                    let (Some(of), Some(to)) = (of, parent.and_then(|p| part_of(&p))) else { continue };
                    let (rows, some) = &mut of.to[to];
                    *rows += 1;
                    if some.len() < TOLD {
                        some.push(Key::of_row(&row, &t.key).to_string());
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
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

/// Whether no key is in two of the tables that become one. Where keys cannot become others, one that is in two is refused.
fn are_apart(source: &mut dyn Store, tables: &[Table], merge: &Merge, keys: Keys, stop: &AtomicBool) -> Result<bool> {
    const TOLD: usize = 3;
    let mut parts: Vec<&Table> = tables.iter().filter(|t| merge.from.iter().any(|p| p.table == t.name)).collect();
    // what is looked for has to be of the other's type
    parts.sort_by_key(|t| reshape::keyed::WIDTHS.iter().position(|w| *w == t.columns[t.key[0]].ty));
    let mut second = source.again()?;
    let (mut found, mut told) = (0, Vec::new());
    for (n, one) in parts.iter().enumerate() {
        for other in &parts[n + 1..] {
            each_batch(source, one, |batch| {
                if stop.load(Ordering::SeqCst) {
                    return Err(Error::Stopped);
                }
                let asked: Vec<Key> = batch.rows().map(|row| Key::of_row(&row, &one.key)).collect();
                for (key, row) in asked.iter().zip(second.fetch(other, &asked)?) {
                    if row.is_some() {
                        found += 1;
                        if told.len() < TOLD {
                            told.push(format!("{key} is in {} and in {}", one.name, other.name));
                        }
                    }
                }
                Ok(())
            })?;
        }
    }
    if found > told.len() {
        told.push(format!("and {} more", found - told.len()));
    }
    if found > 0 && keys == Keys::Names {
        return Err(refusal(
            format!("keys that two rows of {} would have: {}", merge.into, told.join("; ")),
            "give those rows of one table other keys, and what refers to them the same",
        ));
    }
    Ok(found == 0)
}

/// Rows and bytes of a table of which nothing has to be looked at but the keys of one that is merged or split: `free` if they may be any,
/// else they are numbers from 0 up.
fn size(source: &mut dyn Store, t: &Table, free: Option<bool>, stop: &AtomicBool) -> Result<(u64, u64)> {
    let (mut rows, mut bytes) = (0, 0);
    each_batch(source, t, |batch| {
        if stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        for (row, free) in batch.rows().filter_map(|row| Some((row, free?))) {
            let wanted = match &row[t.key[0]] {
                Value::Null => "a key",
                Value::Int(0..) => continue,
                _ if free => continue,
                _ => "a key that is a whole number, 0 at least",
            };
            let cause = format!("{}: {} is {} in a row", t.name, t.columns[t.key[0]].name, row[t.key[0]]);
            return Err(refusal(cause, format!("give that row {wanted}")));
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
