//! Foreign keys that refer to a table that becomes several: each has to mean one of them.

use crate::plan::{Codec, Split, Table};

use super::keyed::Keys;
use super::split::key_codec;
use super::{Result, refuse};

/// Whither rows of one table refer by one foreign key to the table that is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The table.
    pub table: String,
    /// Of the table that is split: which of the new ones these rows go to.
    pub part: Option<usize>,
    /// The column of the foreign key.
    pub column: String,
    /// For each of the new tables how many rows refer to it, and keys of some of them.
    pub to: Vec<(u64, Vec<String>)>,
}

impl Seen {
    /// What has to be looked at: each foreign key to the table that is split, for each of the new tables that its rows may go to.
    ///
    /// # Errors
    /// One of several columns, or that refers to something else than the key.
    pub fn to_look_at(tables: &[Table], wanted: &Split) -> Result<Vec<Seen>> {
        let mut out: Vec<Seen> = Vec::new();
        let key = tables.iter().find(|t| t.name == wanted.from).map_or("", |t| t.key_names()[0]);
        for t in tables {
            for f in t.foreign_keys.iter().filter(|f| f.table == wanted.from) {
                let to_key = f.references.iter().all(|c| c.eq_ignore_ascii_case(key));
                let ([column], true) = (f.columns.as_slice(), to_key) else {
                    let cause = format!(
                        "the foreign key of {} ({}) refers to {} by something else than its key, {key}",
                        t.name,
                        f.columns.join(", "),
                        wanted.from
                    );
                    return refuse(Some(wanted.at), cause, "drop that foreign key first, in a SQL revision");
                };
                let parts = if t.name == wanted.from { (0..wanted.into.len()).map(Some).collect() } else { vec![None] };
                for part in parts {
                    let to = vec![(0, Vec::new()); wanted.into.len()];
                    let seen = Seen { table: t.name.clone(), part, column: column.clone(), to };
                    if !out.contains(&seen) {
                        out.push(seen);
                    }
                }
            }
        }
        let names = |s: &Seen, table: &str| s.table == table || s.part.is_some_and(|n| wanted.into[n].table == table);
        let lost = wanted.references.iter().find(|r| !out.iter().any(|s| names(s, &r.table) && s.column == r.column));
        match lost {
            None => Ok(out),
            Some(r) => {
                let cause = format!("{} has no foreign key {} to {}", r.table, r.column, wanted.from);
                refuse(Some(r.at), cause, "take it out: what refers without a foreign key keeps the values that it has")
            }
        }
    }
}

/// A foreign key, and which of the new tables it means.
pub(super) struct Pointed {
    table: String,
    part: Option<usize>,
    column: String,
    to: usize,
}

/// What each foreign key means, by what the migration says or all of its rows refer to.
pub(super) fn pointed(tables: &[Table], wanted: &Split, seen: &[Seen]) -> Result<Vec<Pointed>> {
    let mut out = Vec::new();
    for s in seen {
        let own = s.part.map(|n| wanted.into[n].table.as_str());
        let said = wanted
            .references
            .iter()
            .find(|r| (r.table == s.table || Some(r.table.as_str()) == own) && r.column == s.column);
        let found: Vec<usize> = (0..s.to.len()).filter(|n| s.to[*n].0 > 0).collect();
        let meant = said.and_then(|r| wanted.into.iter().position(|p| p.table == r.to));
        let line = Some(said.map_or(wanted.at, |r| r.at));
        let whose = match own {
            Some(own) => format!("{}.{} of rows that go to {own}", s.table, s.column),
            None => format!("{}.{}", s.table, s.column),
        };
        let without = s.part.is_some_and(|n| wanted.into[n].without.contains(&s.column));
        let to = match (meant, found.as_slice()) {
            _ if without => continue,
            (Some(to), rest) if rest.iter().all(|n| *n == to) => to,
            (None, [to]) => *to,
            // where nothing says otherwise a row refers to its like
            (None, []) if s.part.is_some() => s.part.unwrap_or_default(),
            (None, []) => {
                let hint =
                    format!("[[split.reference]] table = {:?}, column = {:?}, to = … says it", s.table, s.column);
                return refuse(line, format!("{whose}: no row tells which of the new tables it refers to"), hint);
            }
            _ => {
                let each = found.iter().map(|n| {
                    let (rows, some) = &s.to[*n];
                    let more = if *rows > some.len() as u64 { ", …" } else { "" };
                    let word = if *rows == 1 { "row refers" } else { "rows refer" };
                    format!("{rows} {word} to {} (keys {}{more})", wanted.into[*n].table, some.join(", "))
                });
                let each = each.collect::<Vec<_>>().join("; ");
                let hint = "a foreign key refers to one table: mend those rows, or drop the foreign key first, in a SQL revision";
                return refuse(line, format!("{whose}: {each}"), hint);
            }
        };
        out.push(Pointed { table: s.table.clone(), part: s.part, column: s.column.clone(), to });
    }
    debug_assert!(tables.iter().any(|t| t.name == wanted.from));
    Ok(out)
}

/// Has the foreign keys of a table refer to what they mean, and their columns hold such keys. `part` is which of the new tables it is.
pub(super) fn point(
    source: &Table,
    target: &mut Table,
    codecs: &mut [Codec],
    wanted: &Split,
    pointed: &[Pointed],
    part: Option<usize>,
    keys: Keys,
) -> Result<()> {
    for f in target.foreign_keys.iter_mut().filter(|f| f.table == wanted.from) {
        let mine = |p: &&Pointed| p.table == source.name && p.part == part && f.columns == [p.column.clone()];
        let Some(p) = pointed.iter().find(mine) else { continue };
        let into = &wanted.into[p.to];
        f.table.clone_from(&into.table);
        let renamed = |c: &String| into.columns.iter().find(|(old, _)| old == c).map_or(c, |(_, new)| new).clone();
        let references: Vec<String> = f.references.iter().map(renamed).collect();
        if references != f.references {
            // its words would name a column that is not there
            (f.references, target.details.sql) = (references, None);
        }
        if let Some(at) = source.column(&p.column) {
            codecs[at] = key_codec(&into.table, keys);
        }
    }
    Ok(())
}

/// What `plan` says of them.
pub(super) fn note(pointed: &[Pointed], wanted: &Split) -> Option<String> {
    let each = pointed.iter().map(|p| {
        let table = p.part.map_or(&p.table, |n| &wanted.into[n].table);
        format!("{table}.{} to {}", p.column, wanted.into[p.to].table)
    });
    let each = each.collect::<Vec<_>>().join(", ");
    (!pointed.is_empty()).then(|| {
        format!(
            "foreign keys to {} refer to one of the new tables each, as all rows do that are there; one that refers elsewhere by the \
             cutover stops it: {each}",
            wanted.from
        )
    })
}
