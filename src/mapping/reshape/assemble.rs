//! The plan's tables of what was selected and looked at, and what a person should know of them.

use std::collections::HashMap;

use crate::plan::{Codec, Column, ColumnPlan, ForeignKey, Index, Kind, Lone, Table, TablePlan};

use super::super::transfer::Refusal;
use super::{Changing, Fate, Result, carry, references, refuse, same, spelled, text, types, words};

/// What [`assemble`] made.
pub struct Assembled {
    /// The plan's tables, in the order given.
    pub tables: Vec<TablePlan>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// The tables on both sides, once every value has been looked at.
///
/// # Errors
/// What cannot be told safely of the tables' texts, by its name.
pub fn assemble(mut all: Vec<Changing>, kind: Kind) -> Result<Assembled> {
    let carried = carry::settle(&mut all)?;
    settle(&mut all)?;
    let names: HashMap<String, String> = all.iter().map(|t| (t.table.name.clone(), t.name.clone())).collect();
    let columns: HashMap<String, HashMap<String, String>> =
        all.iter().map(|t| (t.table.name.clone(), t.renames())).collect();
    let keys: HashMap<String, Vec<String>> =
        all.iter().map(|t| (t.table.name.clone(), references(&t.table, &[]))).collect();
    let mut tables = Vec::new();
    for t in &all {
        let own = &columns[&t.table.name];
        let (mut source, mut target) = (t.table.clone(), t.table.clone());
        target.name.clone_from(&t.name);
        // the constraints say the same, word for word
        if !target.constraints.is_empty() {
            target.checks.clear();
        }
        (source.columns, target.columns) = (Vec::new(), Vec::new());
        let (mut codecs, mut place) = (Vec::new(), Vec::new());
        for (c, fate) in t.table.columns.iter().zip(&t.fates) {
            place.push(target.columns.len());
            if fate.dropped {
                source.alone.push(Lone { column: c.clone(), place: target.columns.len() });
                continue;
            }
            let codec = fate.tries.first().cloned().unwrap_or(Codec::Verbatim);
            let apart = matches!(codec, Codec::Sql { .. } | Codec::Carried { .. });
            let why =
                if !fate.retyped || apart { c.ty.clone() } else { format!("{}; every value is written so", c.ty) };
            codecs.push(ColumnPlan { codec, why });
            source.columns.push(c.clone());
            target.columns.push(fate.column.clone());
        }
        place.push(target.columns.len());
        source.key = t.table.key.iter().map(|&k| place[k]).collect();
        target.key.clone_from(&source.key);
        for g in source.generated.iter_mut().chain(&mut target.generated) {
            g.place = place[g.place.min(place.len() - 1)];
        }
        target.alone.extend(t.added.iter().map(|c| Lone { column: c.clone(), place: target.columns.len() }));
        let rename = |name: &mut String, of: &str| {
            let found = columns.get(of).and_then(|c| c.iter().find(|(old, _)| same(old, name, kind)));
            if let Some((_, new)) = found {
                name.clone_from(new);
            }
        };
        for f in &mut target.foreign_keys {
            let parent = f.table.clone();
            f.columns.iter_mut().for_each(|c| rename(c, &t.table.name));
            if f.references.is_empty() && columns.get(&parent).is_some_and(|c| !c.is_empty()) && kind == Kind::Postgres
            {
                f.references.clone_from(&keys[&parent]);
            }
            f.references.iter_mut().for_each(|c| rename(c, &parent));
            if let Some(new) = names.get(&parent) {
                f.table.clone_from(new);
            }
            f.on_delete =
                words::renamed(&f.on_delete, own, kind).ok_or_else(|| unsure(&t.table, "the foreign key", &parent))?;
        }
        let mut kept = t.generated.iter();
        target.generated.retain(|_| kept.next().is_some_and(Option::is_some));
        for g in &mut target.generated {
            rename(&mut g.name, &t.table.name);
            if let Some(e) = &g.expression {
                g.expression =
                    Some(words::renamed(e, own, kind).ok_or_else(|| unsure(&t.table, "the computed column", &g.name))?);
            }
        }
        for check in &mut target.checks {
            *check = words::renamed(check, own, kind).ok_or_else(|| unsure(&t.table, "CHECK", check))?;
        }
        for c in &mut target.constraints {
            c.definition =
                words::renamed(&c.definition, own, kind).ok_or_else(|| unsure(&t.table, "the constraint", &c.name))?;
        }
        for index in &mut target.indexes {
            renamed_index(index, own, kind)
                .ok_or_else(|| unsure(&t.table, "the index", &index.name.clone().unwrap_or_default()))?;
        }
        types::still_hold(t)?;
        if kind == Kind::Sqlite {
            let refers = |f: &ForeignKey| columns.get(&f.table).is_some_and(|c| !c.is_empty());
            let worded = t.stays_but_name() && !t.table.foreign_keys.iter().any(refers);
            if let (false, Some(sql)) = (worded, &t.table.details.sql) {
                let made = text::changed(sql, t, &columns);
                target.details.sql = Some(made.ok_or_else(|| unsure(&t.table, "the CREATE TABLE", "itself"))?);
            }
        }
        tables.push(TablePlan { source, target, codecs, from: kind, to: kind, staying: Vec::new() });
    }
    let mut notes = notes(&all, kind);
    notes.extend(carried);
    Ok(Assembled { notes, tables })
}

fn unsure(t: &Table, what: &str, name: &str) -> Refusal {
    Refusal {
        cause: format!(
            "{what} {name} of {} speaks of a column that is renamed, in a way that cannot be told for sure",
            t.name
        ),
        hint: "drop it first, in a SQL revision, and make it again afterwards".into(),
    }
}

fn renamed_index(index: &mut Index, own: &HashMap<String, String>, kind: Kind) -> Option<()> {
    for part in index.columns.iter_mut().chain(&mut index.parts) {
        if let Some(new) = own.get(&part.name) {
            part.name.clone_from(new);
        }
    }
    if let Some(p) = &index.predicate {
        index.predicate = Some(words::renamed(p, own, kind)?);
    }
    if let Some(d) = &index.definition {
        index.definition = Some(words::renamed_definition(d, own, kind)?);
    }
    Some(())
}

/// Columns that foreign keys tie together have one spelling; those without a value take that of the others.
fn settle(all: &mut [Changing]) -> Result<()> {
    let mut left: HashMap<usize, Vec<Codec>> = HashMap::new();
    for fate in all.iter().flat_map(|t| &t.fates).filter(|f| f.retyped) {
        let others = left.entry(fate.family).or_insert_with(|| fate.tries.clone());
        // which may be, beside the same codecs, those for another type of the same kind
        if fate.tries.len() > 1 || matches!(fate.tries.first(), Some(Codec::Uuid { .. })) {
            others.retain(|c| fate.tries.contains(c));
        }
    }
    for t in all.iter_mut() {
        for (i, fate) in t.fates.iter_mut().enumerate().filter(|(_, f)| f.retyped) {
            let family = fate.leans.filter(|_| fate.values == 0).unwrap_or(fate.family);
            let Some(shared) = left.get(&family) else { continue };
            if !matches!(fate.tries.first(), Some(Codec::Uuid { .. })) {
                continue;
            }
            let fitting: Vec<Codec> = shared.iter().filter(|c| fate.tries.contains(c)).cloned().collect();
            if fitting.is_empty() {
                let cause = format!(
                    "{}.{}: its values are spelled otherwise than those of the keys that they refer to ({})",
                    t.table.name,
                    t.table.columns[i].name,
                    fate.tries.first().map(spelled).unwrap_or_default()
                );
                return refuse(fate.at, cause, "spell them alike: the foreign key was never validated");
            }
            fate.tries = fitting;
        }
    }
    Ok(())
}

fn notes(all: &[Changing], kind: Kind) -> Vec<String> {
    let by_sql = |f: &Fate| matches!(f.tries.first(), Some(Codec::Sql { .. }));
    let list = |of: &dyn Fn(&Changing) -> Vec<String>| all.iter().flat_map(of).collect::<Vec<String>>();
    let columns = |t: &Changing, which: &dyn Fn(&Fate, &Column) -> bool| -> Vec<String> {
        let all = t.table.columns.iter().zip(&t.fates).filter(|(c, f)| which(f, c));
        all.map(|(c, _)| format!("{}.{}", t.table.name, c.name)).collect()
    };
    let mut out = Vec::new();
    let mut say = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            out.push(if what.ends_with('.') { what.to_owned() } else { format!("{what}: {}", names.join(", ")) });
        }
    };
    say(
        "these tables go along as they are, because foreign keys connect them with what changes",
        list(&|t| if t.stays() { vec![t.table.name.clone()] } else { Vec::new() }),
    );
    say(
        "columns that go stay with the source, sealed, and are there again after a rollback; rows that are made after the cutover have \
         their default there",
        list(&|t| columns(t, &|f, _| f.dropped)),
    );
    say(
        "what is written into new columns is not in the source after a rollback; it stays in the target's tables, which are kept",
        list(&|t| t.added.iter().map(|c| format!("{}.{}", t.table.name, c.name)).collect()),
    );
    say(
        "a row that has NULL there, once it may, cannot come back to the source: a rollback parks it and lists it",
        list(&|t| columns(t, &|f, c| !f.dropped && c.not_null && !f.column.not_null)),
    );
    let retyped = list(&|t| columns(t, &|f, _| f.retyped));
    if kind == Kind::Postgres {
        say(
            "sessions that have prepared statements of these tables hear «cached plan must not change result type» once after the cutover, \
             and after a rollback: a driver that does not try again by itself needs a new connection.",
            retyped,
        );
    }
    say(
        "a value that is written there after the cutover, and that the old type does not hold, cannot come back: a rollback parks its row \
         and lists it",
        list(&|t| columns(t, &|f, c| f.retyped && !by_sql(f) && types::takes_more(&c.ty, &f.column.ty, kind))),
    );
    say(
        "a value that is written there after the cutover comes back as `down` says it; of what `up` does not make the same again of that, a \
         rollback parks the row and lists it",
        list(&|t| columns(t, &|f, _| by_sql(f))),
    );
    for t in all {
        for (c, f) in t.table.columns.iter().zip(&t.fates).filter(|(_, f)| f.otherwise.0 > 0) {
            let (n, some) = &f.otherwise;
            out.push(format!(
                "{}.{}: {} {} that `down` says otherwise ({some}): it comes back as it is, unless it is written meanwhile",
                t.table.name,
                c.name,
                n,
                if *n == 1 { "row holds a value" } else { "rows hold a value" }
            ));
        }
    }
    let mut say = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            out.push(if what.ends_with('.') { what.to_owned() } else { format!("{what}: {}", names.join(", ")) });
        }
    };
    say(
        "ids that are given after the cutover stay the same after a rollback, in the spelling that the column has now",
        list(&|t| {
            let key = |f: &Fate, c: &Column| {
                let of_key = t.table.key.len() == 1 && t.table.columns[t.table.key[0]].name == c.name;
                of_key && f.retyped && matches!(f.tries.first(), Some(Codec::Uuid { .. } | Codec::Carried { .. }))
            };
            columns(t, &key)
        }),
    );
    let numbered = list(&|t| {
        let of_key = |f: &Fate, c: &Column| {
            t.table.key.first().is_some_and(|k| t.table.columns[*k].name == c.name)
                && f.tries.first().and_then(Codec::key_map).is_some_and(|m| m.table == t.table.name)
        };
        columns(t, &of_key)
    });
    let by_hand = list(&|t| {
        let given = |f: &Fate, c: &Column| {
            !c.identity
                && f.tries
                    .first()
                    .and_then(Codec::key_map)
                    .is_some_and(|m| m.table == t.table.name && t.table.key.len() == 1)
                && t.table.columns[t.table.key[0]].name == c.name
        };
        columns(t, &given)
    });
    if !by_hand.is_empty() {
        out.push(format!(
            "the store gives these no numbers by itself, and will give them no UUIDs: the application has to. A row that is made after the cutover \
             gets the greatest number and one on a rollback. Such numbers cannot be moved ahead: if the greatest row is deleted, or a rollback \
             leaves writes out, its number may be given to another row: {}",
            by_hand.join(", ")
        ));
    }
    if !numbered.is_empty() {
        out.push(format!(
            "each number becomes a UUID that tells it, in the same order; rows that are made after the cutover get the next number on a \
             rollback, so that a UUID that is in a URL or a mail by then does not survive it: {}",
            numbered.join(", ")
        ));
    }
    out
}
