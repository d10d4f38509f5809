//! The triggers that note changes.
//!
//! `backout_log` has a row per change with the keys before (`b…`) and after (`a…`). Its entries, per row changed:
//! INSERT: `I`, preceded by a `D` for each row that a REPLACE removed; when it removed a row of the very same key: `U` of
//! that key, as the row is kept. UPDATE: `U` with both keys, preceded by `D`s likewise. DELETE: `D`. Ours: `X` is a doubt,
//! `M` a marker, with its nonce, `F` says that the log is full.
//!
//! REPLACE removes rows without firing DELETE triggers. So BEFORE triggers note in `backout_scratch` who could be removed,
//! and AFTER triggers tell who was. An application with `recursive_triggers` on fires DELETE triggers too; there the REPLACE
//! of a key is logged as `D` and `I`, a row born anew.

use super::rows::same;
use super::schema::rowid_name;
use super::text::{self, quote};
use crate::plan::Table;

/// Prefixes of our triggers' names.
pub(super) const CAPTURE: &str = "backout_capture_";
pub(super) const SEAL: &str = "backout_seal_";

/// The log's own trigger.
pub(super) const MERGING: &str = "backout_merge";

/// The id of the log's entry that says that it is full; all others are greater.
pub(super) const FULL_ID: i64 = -1;

/// `b1, b2` for a key of two columns.
pub(super) fn marked(letter: &str, n: usize) -> String {
    (1..=n).map(|i| format!("{letter}{i}")).collect::<Vec<_>>().join(", ")
}

/// The key's columns of `row` (`NEW`, `OLD`, an alias).
fn key_of(row: &str, table: &Table) -> String {
    table.key_names().into_iter().map(|n| format!("{row}.{}", quote(n))).collect::<Vec<_>>().join(", ")
}

/// Two keys that are no columns of a table with an index: `s.k1` and `NEW."id"`.
fn equal(table: &Table, a: impl Fn(usize) -> String, b: impl Fn(usize) -> String) -> String {
    let one = |i: usize| {
        let (a, b) = (a(i), b(i));
        format!("{a} COLLATE BINARY IS {b} AND typeof({a}) = typeof({b})")
    };
    (0..table.key.len()).map(one).collect::<Vec<_>>().join(" AND ")
}

/// What a column gets by this statement: REPLACE puts the default where NULL is not allowed.
fn new_value(table: &Table, column: &str) -> String {
    let plain = format!("NEW.{}", quote(column));
    match table.column(column).map(|i| &table.columns[i]) {
        Some(c) if c.not_null && !c.identity => match &c.default {
            Some(default) => format!("coalesce({plain}, {})", text::default_expression(default)),
            None => plain,
        },
        _ => plain,
    }
}

/// A unique index, part by part, each with its collation.
pub(super) type Unique = Vec<Part>;

pub(super) enum Part {
    Column { name: String, collation: Option<String> },
    Expression { text: String, collation: Option<String> },
}

/// What an index's expression says of a row whose columns are `value`: in a subquery they have their bare names.
fn calculated(table: &Table, expression: &str, value: impl Fn(&str) -> String) -> String {
    let names = table.columns.iter().map(|c| &c.name).chain(table.generated.iter().map(|g| &g.name));
    let each: Vec<String> = names.map(|n| format!("{} AS {}", value(n), quote(n))).collect();
    format!("(SELECT {expression} FROM (SELECT {}))", each.join(", "))
}

/// What else may change a table between our BEFORE trigger and the end of the change: then what the scratch table has
/// of rows that still exist may be an outer statement's, and is not cleared.
#[derive(Clone, Copy)]
pub(super) struct Nested {
    /// A trigger of the user's writes the table.
    pub any: bool,
    /// A foreign key's action may update it.
    pub update: bool,
}

/// The triggers of a table: name and text.
pub(super) fn triggers(table: &Table, t: usize, uniques: &[Unique], nested: Nested) -> Vec<(String, String)> {
    let name = quote(&table.name);
    let n = table.key.len();
    let (ks, bs, az) = (marked("k", n), marked("b", n), marked("a", n));
    let exists = |row: &str| {
        let whose = same("x.", table, |i| format!("{row}k{}", i + 1));
        format!("EXISTS (SELECT 1 FROM {name} AS x WHERE {whose})")
    };
    let col = |row: &'static str| move |i: usize| format!("{row}.{}", quote(&table.columns[table.key[i]].name));
    let slot = |i: usize| format!("s.k{}", i + 1);
    // noting who is in the way of NEW
    let note = |update: bool| {
        let mut sql = String::new();
        if !(nested.any || update && nested.update) {
            sql += &format!("DELETE FROM backout_scratch WHERE t = {t} AND {}; ", exists("backout_scratch."));
        }
        let not_itself = match rowid_name(table) {
            _ if !update => String::new(),
            Some(rowid) => format!(" AND x.{rowid} <> OLD.{rowid}"),
            None => format!(" AND NOT ({})", equal(table, col("x"), col("OLD"))),
        };
        let head =
            format!("INSERT INTO backout_scratch (t, {ks}) SELECT {t}, {} FROM {name} AS x WHERE", key_of("x", table));
        if let Some(rowid) = rowid_name(table) {
            let moved = if update { format!("NEW.{rowid} <> OLD.{rowid} AND ") } else { String::new() };
            sql += &format!("{head} {moved}x.{rowid} = NEW.{rowid}{not_itself}; ");
        }
        for index in uniques {
            let changed: Vec<String> = index
                .iter()
                .map(|p| match p {
                    Part::Column { name, .. } => format!("NEW.{0} COLLATE BINARY IS NOT OLD.{0}", quote(name)),
                    Part::Expression { text, .. } => {
                        let of = |row: &str| calculated(table, text, |c| format!("{row}.{}", quote(c)));
                        format!("{} COLLATE BINARY IS NOT {}", of("NEW"), of("OLD"))
                    }
                })
                .collect();
            let changed = if update { format!("({}) AND ", changed.join(" OR ")) } else { String::new() };
            let hit: Vec<String> = index
                .iter()
                .map(|p| match p {
                    Part::Column { name, collation } => {
                        let collation = quote(collation.as_deref().unwrap_or("BINARY"));
                        format!("x.{} COLLATE {collation} = {}", quote(name), new_value(table, name))
                    }
                    Part::Expression { text, collation } => {
                        let collation = quote(collation.as_deref().unwrap_or("BINARY"));
                        let new = calculated(table, text, |c| new_value(table, c));
                        format!("({text}) COLLATE {collation} = {new}")
                    }
                })
                .collect();
            sql += &format!("{head} {changed}{}{not_itself}; ", hit.join(" AND "));
        }
        sql
    };
    let dead = format!("INSERT INTO backout_log (t, op, {bs}) SELECT {t}, 'D', {}", marked("s.k", n));
    let clear = |all: bool, done: String| {
        let only = if all { String::new() } else { format!(" AND (NOT {} OR {done})", exists("backout_scratch.")) };
        format!("DELETE FROM backout_scratch WHERE t = {t}{only};")
    };
    let bare = |i: usize| format!("k{}", i + 1);
    let is_new = equal(table, bare, col("NEW"));
    let inserted = format!(
        "{dead} FROM backout_scratch AS s WHERE s.t = {t} AND NOT {}; \
         INSERT INTO backout_log (t, op, {bs}, {az}) SELECT {t}, CASE WHEN EXISTS (SELECT 1 FROM backout_scratch AS s \
         WHERE s.t = {t} AND {}) THEN 'U' ELSE 'I' END, {new}, {new}; {}",
        exists("s."),
        equal(table, slot, col("NEW")),
        clear(!nested.any, is_new.clone()),
        new = key_of("NEW", table),
    );
    let updated = format!(
        "{dead} FROM backout_scratch AS s WHERE s.t = {t} AND NOT ({}) AND (NOT {} OR {}); \
         INSERT INTO backout_log (t, op, {bs}, {az}) VALUES ({t}, 'U', {}, {}); {}",
        equal(table, slot, col("OLD")),
        exists("s."),
        equal(table, slot, col("NEW")),
        key_of("OLD", table),
        key_of("NEW", table),
        clear(!nested.any && !nested.update, format!("({is_new} AND NOT ({}))", equal(table, bare, col("OLD")))),
    );
    let deleted = format!(
        "INSERT INTO backout_log (t, op, {bs}) VALUES ({t}, 'D', {}); DELETE FROM backout_scratch WHERE t = {t} AND {};",
        key_of("OLD", table),
        equal(table, bare, col("OLD")),
    );
    [
        ("before_insert", "BEFORE INSERT", note(false)),
        ("before_update", "BEFORE UPDATE", note(true)),
        ("insert", "AFTER INSERT", inserted),
        ("update", "AFTER UPDATE", updated),
        ("delete", "AFTER DELETE", deleted),
    ]
    .into_iter()
    .filter(|(.., body)| !body.is_empty())
    .map(|(what, when, body)| {
        let own = format!("{CAPTURE}{what}__{}", table.name);
        let room = format!("NOT EXISTS (SELECT 1 FROM backout_log WHERE id = {FULL_ID})");
        let sql = format!("CREATE TRIGGER {} {when} ON {name} WHEN {room} BEGIN {} END", quote(&own), body.trim_end());
        (own, sql)
    })
    .collect()
}

/// The log's own trigger, which keeps it from growing without end while nobody drains it (P17), for keys of up to `n` columns. Every
/// so many entries it merges, among the last ones, updates of one row into the newest of them; one that has as many left as the limit
/// is full. A drain misses nothing by that: it reads log and rows in one snapshot, and writers come one after the other.
pub(super) fn merging(n: usize, limit: u64) -> String {
    let (some, limit) = ((limit / 4).clamp(1, 4096), i64::try_from(limit).unwrap_or(i64::MAX));
    let same = |i: usize| format!("b{i} IS a{i} AND typeof(b{i}) = typeof(a{i})");
    let plain =
        format!("op = 'U' AND id > NEW.id - {some} AND {}", (1..=n).map(same).collect::<Vec<_>>().join(" AND "));
    let whose = (1..=n).map(|i| format!(", b{i}, typeof(b{i})")).collect::<String>();
    format!(
        "CREATE TRIGGER {MERGING} AFTER INSERT ON backout_log WHEN NEW.id % {some} = 0 BEGIN \
         DELETE FROM backout_log WHERE {plain} \
         AND id NOT IN (SELECT max(id) FROM backout_log WHERE {plain} GROUP BY t{whose}); \
         INSERT INTO backout_log (id, t, op) SELECT {FULL_ID}, -1, 'F' WHERE NEW.id - (SELECT min(id) FROM backout_log) >= {limit} \
         AND (SELECT count(*) FROM backout_log) >= {limit} \
         AND NOT EXISTS (SELECT 1 FROM backout_log WHERE id = {FULL_ID}); END"
    )
}
