//! Keys of tables that become one, or that one becomes: whether they can stay, and what is added to them where they cannot.

use crate::plan::{Affinity, At, KeyForm, Kind, Merge, Pair, Table};

use super::{Result, refuse};

/// What the keys of such tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Numbers, some of which the store gives by itself: sooner or later two tables have the same.
    Counted,
    /// Numbers that the application gives.
    Numbers,
    /// Texts, UUIDs or the like, which the application gives.
    Names,
}

impl Keys {
    /// What the keys of these tables are, each with the line that asks for it.
    ///
    /// # Errors
    /// A key that is none of these, or not the same in all of them, by its name.
    pub(super) fn of(parts: &[(&Table, At)], kind: Kind) -> Result<Keys> {
        let mut found: Option<(Keys, &Table)> = None;
        for (part, at) in parts {
            let [key] = part.key.as_slice() else {
                let cause = format!("the key of {} has several columns ({})", part.name, part.key_names().join(", "));
                return refuse(Some(*at), cause, "a table that is merged or split has a key of one column");
            };
            let column = &part.columns[*key];
            let affinity = Affinity::of(&column.ty);
            let one = match kind {
                Kind::Postgres if WIDTHS.contains(&column.ty.as_str()) => Keys::Numbers,
                Kind::Postgres
                    if column.ty == "text" || column.ty == "uuid" || column.ty.starts_with("character varying") =>
                {
                    Keys::Names
                }
                Kind::Sqlite if affinity == Affinity::Integer => Keys::Numbers,
                Kind::Sqlite if [Affinity::Text, Affinity::Blob].contains(&affinity) && column.collation.is_none() => {
                    Keys::Names
                }
                _ => {
                    let collated = column.collation.as_ref().map(|c| format!(" COLLATE {c}")).unwrap_or_default();
                    let cause = format!("the key of {}, {}, is {}{collated}", part.name, column.name, column.ty);
                    let hint = "a table that is merged or split has an integer, a text that is compared byte by byte, or a UUID as its key";
                    return refuse(Some(*at), cause, hint);
                }
            };
            let one = if one == Keys::Numbers && column.identity { Keys::Counted } else { one };
            found = match found {
                None => Some((one, part)),
                Some((all, _)) if (all == Keys::Names) != (one == Keys::Names) => {
                    let (first, _) = parts[0];
                    let ty = |t: &Table| t.columns[t.key[0]].ty.clone();
                    let cause = format!(
                        "the key of {} is {}, and that of {} is {}",
                        first.name,
                        ty(first),
                        part.name,
                        ty(part)
                    );
                    return refuse(
                        Some(*at),
                        cause,
                        "give them one type first, in a migration with [rekey] or [alter]",
                    );
                }
                // one that the store gives for one of them may be another's tomorrow
                Some((Keys::Counted, t)) => Some((Keys::Counted, t)),
                Some((_, t)) => Some((one, t)),
            };
        }
        Ok(found.map_or(Keys::Counted, |(keys, _)| keys))
    }
}

/// PostgreSQL's integers, the widest last.
pub const WIDTHS: [&str; 3] = ["smallint", "integer", "bigint"];

/// The least round number that leaves room for ten times as many.
fn room(high: i64) -> i64 {
    let mut room: i64 = 10;
    while room <= high.max(1000).saturating_mul(10) {
        room = room.saturating_mul(10);
    }
    room
}

/// The first table's numbers stay, those of each other one are above all room of those before it, or where the migration says. What an
/// earlier run made up is nobody's room: its rows have those numbers still. `given` has the highest number of each of the tables.
pub(super) fn forms(parts: &[&Table], wanted: &Merge, given: &[i64], kept: &[Pair]) -> Result<Vec<KeyForm>> {
    let numbers = || kept.iter().filter_map(Pair::target_number);
    let taken = numbers().min().zip(numbers().max());
    // below them there should be room for as many rows again
    let in_the_way = |by: i64, high: i64| {
        taken.filter(|(low, last)| by <= *last && by.saturating_add(high.max(1000).saturating_mul(2)) >= *low)
    };
    let (mut next, mut by): (i64, Vec<i64>) = (0, Vec::new());
    for (asked, high) in wanted.from.iter().zip(given) {
        let room = room(*high);
        let beyond = |last: i64| (last / room).saturating_add(1).saturating_mul(room);
        let one = match (asked.offset, in_the_way(asked.offset.unwrap_or(next), *high)) {
            (None, Some((_, last))) => beyond(last),
            (None, None) => next,
            (Some(said), Some((low, last))) => {
                let cause = format!(
                    "offset = {said} of {}: rows that were made in {} in an earlier run have the numbers from {low} to {last} there",
                    asked.table, wanted.into
                );
                return refuse(Some(asked.at), cause, format!("offset = {}", beyond(last)));
            }
            (Some(said), None) => said,
        };
        by.push(one);
        next = next.max(one.saturating_add(room));
    }
    let mut out = Vec::new();
    for (n, asked) in wanted.from.iter().enumerate() {
        let mut end = by.iter().filter(|other| **other > by[n]).min().map_or(i64::MAX, |above| above - 1);
        if let Some((low, _)) = taken.filter(|(low, _)| by[n] < *low) {
            end = end.min(low - 1);
        }
        let twin = (0..n).find(|m| by[*m] == by[n]);
        let most = end - by[n];
        if let Some(other) = twin.or_else(|| (most < given[n]).then(|| above(&by, n)).flatten()) {
            let cause = format!(
                "the numbers of {} and {} would meet: those of {} go up to {}, and {} and {} are added to them",
                asked.table, parts[other].name, asked.table, given[n], by[n], by[other]
            );
            // of the two it is the upper one that can go elsewhere
            let upper = if by[other] >= by[n] && wanted.from[other].offset.is_some() { other } else { n };
            return refuse(Some(wanted.from[upper].at), cause, format!("offset = {next} is free"));
        }
        out.push(KeyForm::Shift { by: by[n], most });
    }
    Ok(out)
}

/// The part whose numbers begin next above those of this one.
fn above(by: &[i64], n: usize) -> Option<usize> {
    (0..by.len()).filter(|m| by[*m] > by[n]).min_by_key(|m| by[*m])
}
