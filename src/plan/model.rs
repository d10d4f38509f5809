//! The frozen plan: what moves where, how each column is converted, and what stays behind.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Codec;
use crate::value::Key;

/// Which kind of store holds one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JSON file.
    Json,
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
}

impl Kind {
    /// The name people know.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Json => "JSON",
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
        }
    }
}

/// A migration's plan. Everything here but `counts` is covered by the hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Format of this document; 1.
    pub format: u32,
    /// The migration's stamp, e.g. `20250301090000`.
    pub migration: String,
    /// The migration's title.
    pub title: String,
    /// Name and kind of the source store, as backout.toml calls it.
    pub from: StoreRef,
    /// Name and kind of the target store.
    pub to: StoreRef,
    /// Tables in an order in which parents come before children where there is one.
    pub tables: Vec<TablePlan>,
    /// What is in the source and will not be moved.
    pub not_moved: Vec<NotMoved>,
    /// Things worth knowing before saying yes.
    pub notes: Vec<String>,
}

/// A store by its name in backout.toml.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct StoreRef {
    /// Name in `[stores]`.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
}

/// One table on both sides. `source.columns[i]`, `target.columns[i]` and `codecs[i]` belong together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TablePlan {
    /// As it is in the source.
    pub source: Table,
    /// As it will be in the target.
    pub target: Table,
    /// How each column is converted, and why so.
    pub codecs: Vec<ColumnPlan>,
    /// What kind of store gives.
    pub from: Kind,
    /// What kind of store takes.
    pub to: Kind,
    /// Keys (encoded, in hexadecimal) of the source's rows that stay there, in quarantine: they refer to rows that do not exist, or
    /// to such rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staying: Vec<String>,
}

impl TablePlan {
    /// Keys of the source's rows that stay there.
    pub fn staying(&self) -> HashSet<Key> {
        self.staying.iter().map(|hex| Key(crate::value::unhex(hex).unwrap_or_default())).collect()
    }
}

/// A column's conversion.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ColumnPlan {
    /// The pair of conversions.
    pub codec: Codec,
    /// Why this one, in plain words.
    pub why: String,
}

/// A table of one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Table {
    /// Its name; in a JSON file the JSON Pointer of the collection (`""` is the whole document).
    pub name: String,
    /// Columns that are moved, in order (generated ones are in `generated`).
    pub columns: Vec<Column>,
    /// Positions in `columns` of the key, in key order. Never empty in a plan.
    pub key: Vec<usize>,
    /// Name of the primary key constraint, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// Indexes and unique constraints other than the key.
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Foreign keys.
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKey>,
    /// Columns that the store computes from others.
    #[serde(default)]
    pub generated: Vec<Generated>,
    /// CHECK constraints, as SQL of this store.
    #[serde(default)]
    pub checks: Vec<String>,
    /// PostgreSQL: constraints that go to another PostgreSQL word for word (CHECK, EXCLUDE).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Of the table's rows only these: several tables of the other side are one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Fixed>,
    /// Of `columns` those that are not in the store, in their order: each row has these values there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constants: Vec<Fixed>,
    /// Columns that only this side has: rows come and go without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alone: Vec<Lone>,
    /// What only one kind of store has.
    #[serde(default)]
    pub details: Details,
}

/// A column with one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Fixed {
    /// Its position in `columns`.
    pub column: usize,
    /// What it holds (an SQL literal).
    pub value: String,
}

/// A column that the other side has nothing for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Lone {
    /// The column. In a target it is made with the table, and each row begins with its default.
    pub column: Column,
    /// How many of the table's `columns` stand before it.
    pub place: usize,
}

/// What only one kind of store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Details {
    /// SQLite: WITHOUT ROWID.
    pub without_rowid: bool,
    /// SQLite: STRICT.
    pub strict: bool,
    /// SQLite: AUTOINCREMENT on the key.
    pub autoincrement: bool,
    /// SQLite: a name by which the rowid can be reached (`rowid`, `_rowid_` or `oid`, whichever no column has taken).
    pub rowid_name: Option<String>,
    /// JSON: the collection is an object, and the key is the member's name; else an array.
    pub json_object: bool,
    /// SQLite: the CREATE TABLE itself. In a target: what it is made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Why its rows cannot be moved, if they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot: Option<String>,
    /// PostgreSQL: types of the application's own that its columns need, each after those that it needs itself. In a target: those
    /// that are made with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<UserType>,
}

/// A type that an application has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// Its name as SQL.
    pub name: String,
    /// What follows CREATE: `TYPE mood AS ENUM (…)`; empty if we cannot make it.
    pub definition: String,
}

/// A constraint as its store writes it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Name.
    pub name: String,
    /// What follows the name: `CHECK (…)`.
    pub definition: String,
}

/// A column of one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Column {
    /// Its name; in JSON the member's name.
    pub name: String,
    /// Its declared type, as SQL of its store (`format_type` in PostgreSQL); empty in JSON and where SQLite has none.
    #[serde(rename = "type")]
    pub ty: String,
    /// NOT NULL.
    #[serde(default)]
    pub not_null: bool,
    /// Default, as SQL of its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// SQLite: alias of the rowid. PostgreSQL: an identity or serial column.
    #[serde(default)]
    pub identity: bool,
    /// PostgreSQL: GENERATED ALWAYS, an identity that refuses other numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// PostgreSQL: its values are read and written as their text, which tells more than they compare by (1.10 from 1.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_text: bool,
    /// Collation, when it is not the store's own default (SQLite: other than BINARY).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// A column the store computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// Name.
    pub name: String,
    /// Declared type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Expression, as SQL of its store, when it is known.
    pub expression: Option<String>,
    /// How many of the table's `columns` stand before it.
    #[serde(default)]
    pub place: usize,
    /// SQLite: storage classes of its values, as they are now.
    #[serde(skip)]
    pub classes: Vec<String>,
    /// It is computed when it is read, and not kept.
    #[serde(default)]
    pub is_virtual: bool,
}

impl Generated {
    /// The word for how it is kept.
    pub fn kept(&self) -> &'static str {
        if self.is_virtual { "VIRTUAL" } else { "STORED" }
    }
}

/// An index or unique constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Index {
    /// Name; `None` for a constraint that SQLite named itself.
    pub name: Option<String>,
    /// UNIQUE.
    pub unique: bool,
    /// Its columns in order.
    pub columns: Vec<IndexColumn>,
    /// WHERE clause of a partial index, as SQL of its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// SQLite, where there is an expression: all it is of, columns by name and expressions as they are written.
    #[serde(skip)]
    pub parts: Vec<IndexColumn>,
    /// It has a column that is an expression (then `columns` lacks it), so it cannot be moved by columns alone.
    #[serde(default)]
    pub expression: bool,
    /// Word for word, for a store of the same kind. SQLite: its CREATE INDEX. PostgreSQL: what follows the table's name in that;
    /// or, of a constraint, `UNIQUE (…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// What a store of another kind could not say of it, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub special: Option<String>,
}

/// A column of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// Column name.
    pub name: String,
    /// Descending.
    #[serde(default)]
    pub descending: bool,
    /// SQLite: collation when not BINARY. In a PostgreSQL target `NOCASE` means: index the ASCII-lowercased text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ForeignKey {
    /// Constraint name, if the store keeps one.
    pub name: Option<String>,
    /// Referring columns.
    pub columns: Vec<String>,
    /// Referred table (in a target: as named there).
    pub table: String,
    /// Referred columns.
    pub references: Vec<String>,
    /// `NO ACTION`, `CASCADE`, …
    pub on_delete: String,
    /// The same for updates.
    pub on_update: String,
    /// DEFERRABLE INITIALLY DEFERRED.
    #[serde(default)]
    pub deferred: bool,
    /// Rows that refer to nothing are known and stay: it is checked for what is written from now on (NOT VALID).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_valid: bool,
    /// PostgreSQL: NOT DEFERRABLE.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rigid: bool,
    /// PostgreSQL: what else its definition says (`MATCH FULL`, columns of SET NULL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub special: Option<String>,
}

/// Something that stays behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMoved {
    /// What it is: `view recent`, `index ix_lower`, `default of users.created_at`.
    pub what: String,
    /// Why, and what to do about it.
    pub why: String,
}

/// Everything in a store that a plan may speak of.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Tables, with `key` empty where there is none.
    pub tables: Vec<Table>,
    /// What else is there and is no table of rows: (`view recent`, why it does not move).
    pub others: Vec<(String, String)>,
    /// Types that applications have made here.
    pub types: Vec<UserType>,
    /// Per table (same order), notes such as NULLs in a key, dangling foreign keys, CHECKs that could not be read.
    pub notes: Vec<String>,
}

/// What was counted while planning; never part of the hash.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Per table, in plan order: rows and bytes of values.
    pub tables: Vec<(u64, u64)>,
}

impl Plan {
    /// SHA-256 over everything that decides what a run does, in hexadecimal; not over what is only said to people, which speaks of
    /// the values that are there today.
    pub fn hash(&self) -> String {
        let mut plan = self.clone();
        plan.notes.clear();
        plan.tables.iter_mut().flat_map(|t| &mut t.codecs).for_each(|c| c.why.clear());
        plan.not_moved.iter_mut().for_each(|n| n.why.clear());
        let text = serde_json::to_vec(&plan).unwrap_or_default();
        Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Source and target are tables of one store: it is their shape that changes.
    pub fn in_place(&self) -> bool {
        self.from == self.to
    }

    /// The tables as the source has them, in plan order.
    pub fn source_tables(&self) -> Vec<&Table> {
        self.tables.iter().map(|t| &t.source).collect()
    }

    /// The tables as the target has them, in plan order.
    pub fn target_tables(&self) -> Vec<&Table> {
        self.tables.iter().map(|t| &t.target).collect()
    }
}

impl Table {
    /// Position of a column by name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
    /// The table as its store has it: all rows, and the columns that are there.
    pub fn whole(&self) -> Table {
        let mut out = self.clone();
        let fixed = |column: usize| self.constants.iter().any(|c| c.column == column);
        // how many columns before this one the store has
        let before = |column: usize| column - self.constants.iter().filter(|c| c.column < column).count();
        let mut at = 0..;
        out.columns.retain(|_| !at.next().is_some_and(fixed));
        out.key = self.key.iter().map(|k| before(*k)).collect();
        out.generated.iter_mut().for_each(|g| g.place = before(g.place));
        out.alone.iter_mut().for_each(|l| l.place = before(l.place));
        (out.only, out.constants) = (None, Vec::new());
        out
    }
    /// As a frozen plan keeps it: without what is only looked at while planning.
    pub fn as_frozen(&self) -> Table {
        let mut table = self.clone();
        table.indexes.iter_mut().for_each(|i| i.parts.clear());
        table.generated.iter_mut().for_each(|g| g.classes.clear());
        table
    }
    /// Names of the key's columns.
    pub fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|&i| self.columns[i].name.as_str()).collect()
    }
    /// For people: the name, or `the whole file` for a JSON document.
    pub fn title(&self) -> &str {
        if self.name.is_empty() { "the whole file" } else { &self.name }
    }
}
