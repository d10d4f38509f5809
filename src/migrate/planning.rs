//! Making a plan: look at the source's schema and at every value, choose codecs, and say what a run will cost. Changes nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use serde::Serialize;

use crate::mapping::profile::{ColumnProfile, NoFit};
use crate::mapping::{transfer, transfer::Refusal};
use crate::plan::{Counts, DanglingRows, Kind, Migration, Plan, StoreRef, Table, TablePlan};
use crate::store::Store;
use crate::value::{Batch, Key, Row, Value, values_of};

use super::{Error, Event, Observer, Result};

/// A plan with what it will cost.
#[derive(Clone, Debug, Serialize)]
pub struct Proposal {
    /// The plan, as a run freezes it.
    pub plan: Plan,
    /// Its hash; `up --plan HASH` holds a run to it.
    pub hash: String,
    /// Rows and bytes per table.
    pub counts: Counts,
    /// What it will cost.
    pub estimate: Estimate,
}

/// What a run will cost, roughly.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Estimate {
    /// Seconds until `Ready`.
    pub seconds: f64,
    /// Bytes on the target's disk.
    pub disk_bytes: u64,
    /// Seconds a rollback takes, services apart, when 1 000 rows were written since.
    pub rollback_seconds: f64,
    /// Which locks are taken when.
    pub locks: Vec<String>,
}

/// Makes the plan of a transfer. `target` is `None` where the target does not exist yet.
///
/// # Errors
/// A refusal that names table, column, key; or what a store says.
pub(crate) fn propose(
    migration: &Migration,
    source: &mut dyn Store,
    target: Option<&mut dyn Store>,
    to_kind: Kind,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Proposal> {
    if let Some(wanted) = &migration.reshape {
        return super::reshaping::propose(migration, wanted, source, observer, stop);
    }
    let wanted = &migration.transfer;
    let from_kind = source.kind();
    if to_kind == Kind::Json {
        return Err(refusal("a JSON file cannot be where a migration goes to", "move to sqlite: or postgres://"));
    }
    let mut schema = source.schema()?;
    let mut notes: Vec<String> = schema.notes.drain(..).filter(|n| !n.is_empty()).collect();
    let (mut sources, mut not_moved) = transfer::select(schema, wanted, from_kind)?;
    chosen_for_dangling(&mut sources, migration, from_kind, to_kind)?;
    let (mut chosen, mut counts, mut widest) = (Vec::new(), Counts::default(), Vec::new());
    for (columns, wide, rows, bytes) in look(source, &sources, migration, to_kind, observer, stop)? {
        chosen.push(columns);
        widest.push(wide);
        counts.tables.push((rows, bytes));
    }
    let transfer::Assembled { mut tables, not_moved: left, notes: more } =
        transfer::assemble(sources, chosen, wanted, from_kind, to_kind)?;
    dangling_as_null(source, &mut tables, migration)?;
    notes.extend(quarantine(source, &mut tables, migration)?);
    if to_kind == Kind::Postgres {
        transfer::narrow(&mut tables, &widest, &mut not_moved)?;
    }
    not_moved.extend(left);
    notes.extend(more);
    if let Some(target) = target {
        if from_kind == to_kind && source.identity()? == target.identity()? {
            return Err(refusal(
                format!("{} and {} are the same store", source.title(), target.title()),
                "a transfer goes from one store to another: two files, or two databases (two schemas of one do not do)",
            ));
        }
        not_taken(target, &mut tables)?;
    }
    let moving: Vec<&Table> = tables.iter().map(|t| &t.source).collect();
    source.may_record()?;
    notes.extend(
        source.lingering(&moving)?.into_iter().map(|who| format!("in the way of a cutover at this moment: {who}")),
    );
    if let Some(reason) = &migration.irreversible {
        notes.push(format!("declared irreversible: {reason}"));
    }
    let numbered: Vec<&str> =
        tables.iter().filter(|t| t.target.columns.iter().any(|c| c.identity)).map(|t| t.target.name.as_str()).collect();
    if !numbered.is_empty() {
        notes.push(format!(
            "ids that the target gives go on from the source's highest, and such rows keep them on a rollback: {}",
            numbered.join(", ")
        ));
    }
    // a sequence can be moved past what the target gave, the greatest key cannot (P22)
    let reused: Vec<&str> = tables
        .iter()
        .filter(|t| from_kind == Kind::Sqlite && !t.source.details.autoincrement)
        .filter(|t| t.source.columns.iter().any(|c| c.identity))
        .map(|t| t.source.title())
        .collect();
    if !reused.is_empty() {
        notes.push(format!(
            "after an emergency rollback the source may give ids again that the target gave already (without \
             AUTOINCREMENT it goes on after its greatest one), and `salvage` lists them: {}",
            reused.join(", ")
        ));
    }
    let plan = Plan {
        format: 1,
        migration: migration.stamp.clone(),
        title: migration.title.clone(),
        from: StoreRef { name: wanted.from.clone(), kind: from_kind },
        to: StoreRef { name: wanted.to.clone(), kind: to_kind },
        tables,
        not_moved,
        notes,
    };
    let estimate = estimate(&plan, &counts);
    Ok(Proposal { hash: plan.hash(), plan, counts, estimate })
}

/// Marks the foreign keys whose dangling rows the migration knows of.
fn chosen_for_dangling(sources: &mut [Table], m: &Migration, from: Kind, to: Kind) -> Result<()> {
    for d in &m.transfer.dangling {
        if (from, to) != (Kind::Sqlite, Kind::Postgres) {
            return Err(refusal(
                format!("[[transfer.dangling]] is for SQLite → PostgreSQL, not {} → {}", from.name(), to.name()),
                "take it out of the migration, and mend the rows in the source",
            ));
        }
        let fk = sources.iter_mut().filter(|t| t.name == d.table).flat_map(|t| &mut t.foreign_keys);
        match fk.into_iter().find(|f| f.columns == d.columns) {
            Some(fk) => fk.not_valid = true,
            None => {
                return Err(refusal(
                    format!(
                        "table {} has no foreign key ({}), which [[transfer.dangling]] names",
                        d.table,
                        d.columns.join(", ")
                    ),
                    "mend the migration",
                ));
            }
        }
    }
    Ok(())
}

/// References to nothing that become NULL in the target: their values are frozen with the plan, so that they come back.
fn dangling_as_null(source: &mut dyn Store, tables: &mut [TablePlan], m: &Migration) -> Result<()> {
    const MOST: usize = 1000;
    for d in m.transfer.dangling.iter().filter(|d| d.rows == DanglingRows::Null) {
        let no = |why: &str| {
            let named = format!("dangling rows of {} ({}) cannot become NULL: {why}", d.table, d.columns.join(", "));
            Err(refusal(named, "choose rows = \"keep\", or mend them in the source"))
        };
        let [column] = d.columns.as_slice() else { return no("the foreign key has several columns") };
        let Some(t) = tables.iter_mut().find(|t| t.source.name == d.table) else { continue };
        let Some(at) = t.source.column(column) else { return no("there is no such column") };
        if t.source.columns[at].not_null || t.source.key.contains(&at) {
            return no("the column is NOT NULL");
        }
        let found = source.dangling(&t.source, column, MOST + 1)?;
        if found.len() > MOST {
            return no("there are more than a thousand such values");
        }
        let values: Vec<String> = found.iter().filter_map(crate::mapping::convert::as_literal).collect();
        let of = Box::new(t.codecs[at].codec.clone());
        t.codecs[at].codec = crate::plan::Codec::Dangling { of, values };
        t.target.foreign_keys.iter_mut().filter(|f| f.columns == d.columns).for_each(|f| f.not_valid = false);
    }
    Ok(())
}

pub(super) fn refusal(cause: impl Into<String>, hint: impl Into<String>) -> Error {
    Refusal { cause: cause.into(), hint: hint.into() }.into()
}

type Chosen = Vec<(crate::plan::ColumnPlan, String)>;

/// What a table's values come to: codec and type per column, its widest value, and rows and bytes of all.
type Looked = (Chosen, Vec<usize>, u64, u64);

/// Looks at every value of all tables, while another thread has the source check itself.
fn look(
    source: &mut dyn Store,
    tables: &[Table],
    migration: &Migration,
    to: Kind,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Vec<Looked>> {
    let hint = "mend it before it is moved: what is broken there would be broken in the target. For rows that refer to nothing, [[transfer.dangling]] table = …, columns = …, rows = \"keep\", \"null\" or \"quarantine\" says what becomes of them";
    self_checked(source, tables, hint, |source| {
        tables.iter().map(|t| profile(source, t, migration, to, observer, stop)).collect()
    })
}

/// What `look` says, while another thread has the source check itself.
pub(super) fn self_checked<T>(
    source: &mut dyn Store,
    tables: &[Table],
    hint: &str,
    look: impl FnOnce(&mut dyn Store) -> Result<T>,
) -> Result<T> {
    let (mut second, all) = (source.again()?, tables.iter().collect::<Vec<_>>());
    let (found, looked) = std::thread::scope(|threads| {
        let check = threads.spawn(|| second.self_check(&all, false));
        let looked = look(source);
        (check.join(), looked)
    });
    let found = found.map_err(|_| Error::Internal("the thread that checks the source died".into()))??;
    if !found.is_empty() {
        let of_it = format!("{}: ", source.title());
        return Err(refusal(
            format!(
                "{} does not pass its own checks: {}",
                source.title(),
                found.iter().take(5).map(|f| f.strip_prefix(&of_it).unwrap_or(f)).collect::<Vec<_>>().join("; ")
            ),
            hint,
        ));
    }
    looked
}

/// Looks at every value of a table.
fn profile(
    source: &mut dyn Store,
    t: &Table,
    m: &Migration,
    to: Kind,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Looked> {
    let kind = source.kind();
    // a JSON file's collections are spoken of by the table they become
    let into = m.transfer.tables.iter().find(|w| kind == Kind::Json && w.source == t.name);
    let named = into.map_or(&t.name, |w| &w.into);
    let wished = |c: &str| m.transfer.columns.iter().find(|w| w.table == *named && w.column == c);
    let mut columns: Vec<ColumnProfile> = Vec::new();
    for c in &t.columns {
        let utc = wished(&c.name).is_some_and(|w| w.utc);
        let asked = wished(&c.name).and_then(|w| w.codec.clone().or_else(|| implied(kind, w.ty.as_deref()?)));
        let profile = ColumnProfile::new(c, kind, to, asked.as_deref());
        let profile = profile.map(|p| if utc { p.in_utc() } else { p });
        columns.push(profile.map_err(|e| {
            refusal(format!("{}.{}: {e}", t.title(), c.name), "mend [[transfer.column]] in the migration")
        })?);
    }
    if let Some(w) = m.transfer.columns.iter().find(|w| w.table == *named && t.column(&w.column).is_none()) {
        let columns = t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let hint = Some(format!("its columns are: {columns}"));
        return Err(m.refuse(w.at, format!("table {named} has no column {:?}", w.column), hint).into());
    }
    let total = source.count(t)?;
    let (mut rows, mut bytes) = (0u64, 0u64);
    let mut keys: HashSet<u128> = HashSet::new();
    each_batch(source, t, |batch| {
        if stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped);
        }
        for row in batch.encoded() {
            let key = || Key::of_row(&values_of(row), &t.key).to_string();
            let mut rest = row;
            for (i, c) in t.columns.iter().enumerate() {
                let value = Value::decode(&mut rest).unwrap_or(Value::Null);
                let null = value.is_null();
                if null && t.key.contains(&i) {
                    return Err(refusal(
                        format!("{}: the key column {} is {value} in the row {}", t.title(), c.name, key()),
                        "give that row a key in the source, or choose other key columns",
                    ));
                }
                if null && c.not_null {
                    return Err(refusal(
                        format!("{}: {} is required, but {value} in the record {}", t.title(), c.name, key()),
                        "mend that record, or take the member out of `required`",
                    ));
                }
                if !columns[i].is_lost() {
                    columns[i].look(&value);
                    if columns[i].is_lost()
                        && let Err(NoFit { why, value }) = columns[i].choose()
                    {
                        return Err(refusal(
                            format!(
                                "{}.{}, key {}: no codec fits every value of the column: {why} (value {value})",
                                t.title(),
                                c.name,
                                key()
                            ),
                            if kind == Kind::Json {
                                "leave `codec` out of its [[transfer.column]]: what is chosen then takes every value, and a missing one too".into()
                            } else {
                                format!(
                                    "change that value in the source; or keep the column as SQL literals with [[transfer.column]] table = {:?}, column = {:?}, codec = \"literal\"; or leave the table out with exclude",
                                    t.name, c.name
                                )
                            },
                        ));
                    }
                }
            }
            if kind == Kind::Json && !keys.insert(xxhash_rust::xxh3::xxh3_128(&Key::of_row(&values_of(row), &t.key).0))
            {
                return Err(refusal(
                    format!("{}: the key {} occurs twice", t.title(), key()),
                    "every record needs a key of its own: mend the file, or name more members in `key`",
                ));
            }
        }
        rows += batch.len() as u64;
        bytes += batch.size() as u64;
        observer.event(Event::Progress {
            what: "profiling",
            table: t.title().to_owned(),
            done: rows,
            total: total.max(rows),
        });
        Ok(())
    })?;
    let mut out = Chosen::new();
    for (p, c) in columns.iter().zip(&t.columns) {
        let (plan, ty) = p.choose().map_err(|NoFit { why, value }| {
            refusal(
                format!("{}.{}: no codec fits every value: {why} (value {value})", t.title(), c.name),
                "choose a codec in [[transfer.column]]",
            )
        })?;
        let ty = match wished(&c.name).and_then(|w| w.ty.as_deref()) {
            Some(_) if kind == to => {
                return Err(refusal(
                    format!("{}.{}: from {} to {} types stay as they are", t.title(), c.name, kind.name(), to.name()),
                    "take `type` out of [[transfer.column]]",
                ));
            }
            Some(asked) if to == Kind::Postgres => p.as_asked(&ty, asked).map_err(|why| {
                refusal(
                    format!("{}.{} cannot be {asked}: {why}", t.title(), c.name),
                    format!("mend `type` in [[transfer.column]]; left out, it is {ty}"),
                )
            })?,
            Some(asked) if crate::plan::Affinity::of(asked) != crate::plan::Affinity::of(&ty) => {
                return Err(refusal(
                    format!("{}.{} cannot be {asked}: its affinity would change what SQLite stores", t.title(), c.name),
                    format!("mend `type` in [[transfer.column]]; left out, it is {ty}"),
                ));
            }
            Some(asked) => asked.to_owned(),
            None => ty,
        };
        out.push((plan, ty));
    }
    let widest = columns.iter().map(ColumnProfile::widest).collect();
    Ok((out, widest, rows, bytes))
}

/// Reads a table in a thread of its own, a piece ahead of what looks at it.
pub(super) fn each_batch(source: &mut dyn Store, t: &Table, mut look: impl FnMut(&Batch) -> Result<()>) -> Result<()> {
    let (send, receive) = sync_channel(1);
    std::thread::scope(|threads| {
        let reader = threads.spawn(move || {
            let mut after = Vec::new();
            loop {
                let mut batch = Batch::default();
                let read = source.scan(t, &after, 20_000, &mut batch);
                let next = read.as_ref().ok().cloned().flatten();
                if send.send(read.map(|_| batch)).is_err() {
                    return;
                }
                match next {
                    Some(next) => after = next,
                    None => return,
                }
            }
        });
        // dropped with this closure, whatever ends it, so that the reader is not left waiting
        let receive = receive;
        while let Ok(batch) = receive.recv() {
            look(&batch?)?;
        }
        reader.join().map_err(|_| Error::Internal("the thread that reads the source died".into()))
    })
}

/// The codec that a target type asks for.
fn implied(from: Kind, ty: &str) -> Option<String> {
    if from != Kind::Sqlite {
        return None;
    }
    match ty.to_ascii_lowercase().as_str() {
        "uuid" => Some("uuid".into()),
        "text" => Some("text".into()),
        "json" => Some("json_text".into()),
        "jsonb" => Some("jsonb".into()),
        "date" => Some("date".into()),
        t if t.starts_with("timestamp") => Some("timestamp".into()),
        _ => None,
    }
}

/// The places in the target must be free. Types that are there already, and the same, are not made again.
fn not_taken(target: &mut dyn Store, tables: &mut [crate::plan::TablePlan]) -> Result<()> {
    let there = target.schema()?;
    for t in tables.iter_mut() {
        let types = std::mem::take(&mut t.target.details.types);
        for made in types {
            match there.types.iter().find(|x| x.name == made.name) {
                None => t.target.details.types.push(made),
                Some(same) if *same == made => {}
                Some(other) => {
                    return Err(refusal(
                        format!("{} has another type {}: {}", target.title(), made.name, other.definition),
                        format!("the source has: {}; make them the same, or rename one", made.definition),
                    ));
                }
            }
        }
    }
    target.may_create(&tables.iter().map(|t| &t.target).collect::<Vec<_>>())?;
    for t in tables.iter() {
        let taken = there.tables.iter().find(|x| match target.kind() {
            Kind::Sqlite => x.name.eq_ignore_ascii_case(&t.target.name),
            _ => x.name == t.target.name,
        });
        if let Some(x) = taken {
            let rows = target.count(x)?;
            return Err(refusal(
                format!(
                    "{} already has a table {} ({})",
                    target.title(),
                    x.name,
                    if rows == 0 {
                        "empty".into()
                    } else {
                        format!("{}: not empty", super::count(rows as usize, "row"))
                    }
                ),
                "drop or rename that table if nothing needs it, or give ours another name (`into`, `rename`)",
            ));
        }
        let names = |t: &Table| -> Vec<String> {
            t.indexes.iter().filter_map(|i| i.name.clone()).chain(t.key_name.clone()).collect()
        };
        let ours = names(&t.target);
        if let Some((x, name)) =
            there.tables.iter().find_map(|x| Some((x, names(x).into_iter().find(|n| ours.contains(n))?)))
        {
            return Err(refusal(
                format!(
                    "{} already has an index {name}, on {}; {} is to have one of that name",
                    target.title(),
                    x.name,
                    t.target.name
                ),
                "rename one of the two",
            ));
        }
        if there.others.iter().any(|(what, _)| what.split(' ').next_back() == Some(&t.target.name)) {
            return Err(refusal(
                format!("{} already has something called {}", target.title(), t.target.name),
                "drop or rename it, or give ours another name",
            ));
        }
    }
    Ok(())
}

/// Rows that refer to nothing and stay in the source, with those that refer to them: their keys are frozen with the plan.
fn quarantine(source: &mut dyn Store, tables: &mut [TablePlan], m: &Migration) -> Result<Vec<String>> {
    const MOST: usize = 1000;
    let mut staying: Vec<HashSet<Key>> = vec![HashSet::new(); tables.len()];
    let mut new: Vec<(usize, Key)> = Vec::new();
    for d in m.transfer.dangling.iter().filter(|d| d.rows == DanglingRows::Quarantine) {
        let Some(i) = tables.iter().position(|t| t.source.name == d.table) else { continue };
        let found = source.strays(&tables[i].source, &d.columns, MOST + 1)?;
        new.extend(found.into_iter().map(|key| (i, key)));
        tables[i].target.foreign_keys.iter_mut().filter(|f| f.columns == d.columns).for_each(|f| f.not_valid = false);
    }
    while !new.is_empty() {
        let mut gone: Vec<Vec<Key>> = vec![Vec::new(); tables.len()];
        for (i, key) in new.drain(..) {
            if staying[i].insert(key.clone()) {
                gone[i].push(key);
            }
        }
        if staying.iter().map(HashSet::len).sum::<usize>() > MOST {
            return Err(refusal(
                "more than a thousand rows would stay in the source, with those that refer to them".to_owned(),
                "[[transfer.dangling]] rows = \"quarantine\" is for few: choose \"keep\" or \"null\", or mend them in the source",
            ));
        }
        for (p, keys) in gone.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            let rows: Vec<Row> = source.fetch(&tables[p].source, keys)?.into_iter().flatten().collect();
            for (c, child) in tables.iter().enumerate() {
                new.extend(referring(source, &child.source, &tables[p].source, &rows)?.into_iter().map(|key| (c, key)));
            }
        }
    }
    let mut notes = Vec::new();
    for (t, keys) in tables.iter_mut().zip(staying).filter(|(_, keys)| !keys.is_empty()) {
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.sort();
        let some: Vec<String> = keys.iter().take(5).map(ToString::to_string).collect();
        let more = if keys.len() > some.len() { ", …" } else { "" };
        notes.push(format!(
            "{} of {} {}, referring to nothing or to such rows: {}{more}",
            super::count(keys.len(), "row"),
            t.source.title(),
            if keys.len() == 1 {
                "stays in the source and is not in the target"
            } else {
                "stay in the source and are not in the target"
            },
            some.join(", ")
        ));
        t.staying = keys.iter().map(|k| crate::value::hex(&k.0)).collect();
    }
    Ok(notes)
}

/// Keys of the rows of a table that refer to one of these rows of another.
fn referring(source: &mut dyn Store, child: &Table, parent: &Table, rows: &[Row]) -> Result<Vec<Key>> {
    let mut out = Vec::new();
    for f in child.foreign_keys.iter().filter(|f| f.table == parent.name) {
        let there = if f.references.is_empty() {
            Some(parent.key.clone())
        } else {
            f.references.iter().map(|c| parent.column(c)).collect()
        };
        let (Some(there), Some(here)) = (there, f.columns.iter().map(|c| child.column(c)).collect::<Option<Vec<_>>>())
        else {
            continue;
        };
        let gone: HashSet<Key> = rows.iter().map(|row| Key::of_row(row, &there)).collect();
        let (mut after, mut batch) = (Vec::new(), Batch::default());
        loop {
            batch.clear();
            let next = source.scan(child, &after, 20_000, &mut batch)?;
            let rows = batch.encoded().map(values_of).filter(|row| gone.contains(&Key::of_row(row, &here)));
            out.extend(rows.map(|row| Key::of_row(&row, &child.key)));
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    Ok(out)
}

/// From rates measured on a small machine; see docs/benchmarks.md.
pub(super) fn estimate(plan: &Plan, counts: &Counts) -> Estimate {
    let (rows, bytes) = counts.tables.iter().fold((0u64, 0u64), |(r, b), (x, y)| (r + x, b + y));
    let indexes =
        plan.tables.iter().map(|t| t.target.indexes.len() + 1).sum::<usize>() as f64 / plan.tables.len().max(1) as f64;
    let (rows_f, mb) = (rows as f64, bytes as f64 / 1e6);
    let seconds = match plan.from.kind {
        // a file is read whole several times, and SQLite's target has its key from the start
        Kind::Json => 0.3 + rows_f * (7.0e-6 + 2.0e-6 * indexes) + mb / 60.0,
        _ => 0.3 + rows_f * (2.5e-6 + 0.8e-6 * indexes) + mb / 180.0,
    };
    let locks = match (plan.from.kind, plan.to.kind) {
        (Kind::Json, _) => vec!["cutover: the file cannot be locked; its writers are stopped from the last reading until the target is open".to_owned()],
        _ => vec![
            "copying: none on the source; short reads of one chunk each".to_owned(),
            "cutover: one write lock on the source from the last drain until it is sealed; writers wait, usually well below a second".to_owned(),
        ],
    };
    let rewrite = if plan.from.kind == Kind::Json { 2.0 * mb / 200.0 } else { 0.0 };
    Estimate {
        seconds,
        disk_bytes: (bytes as f64 * 1.3 + rows_f * indexes * 30.0) as u64,
        rollback_seconds: 0.3 + rewrite,
        locks,
    }
}
