//! Rows: scan, fetch, load. Writing sets of changes is in `apply`.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Statement};

use super::schema::{is_alias, rowid_name};
use super::text::quote;
use super::{Sqlite, bound, in_the_way, owned};
use crate::plan::Table;
use crate::store::{Error, Result};
use crate::value::{Batch, Key, Row, Value, values_of};

/// A scan's piece ends when it has this many bytes.
const PIECE: usize = 4 << 20;

/// Quoted names, separated by commas.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// Quoted names of a table's columns.
pub(super) fn columns(table: &Table) -> String {
    list(table.columns.iter().map(|c| c.name.as_str()))
}

/// `column` of `row` holds just what `other` says: class and bytes, and by its index where it has one.
pub(super) fn same(row: &str, table: &Table, other: impl Fn(usize) -> String) -> String {
    let one = |(i, name): (usize, &str)| {
        let (c, o) = (format!("{row}{}", quote(name)), other(i));
        if is_alias(table) {
            format!("{c} = {o} AND typeof({o}) = 'integer'")
        } else {
            format!("{c} IS {o} AND {c} COLLATE BINARY IS {o} AND typeof({c}) = typeof({o})")
        }
    };
    table.key_names().into_iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
}

/// Encodes a value as [`Value::encode`] does, without a copy in between.
fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => Value::Null.encode(out),
        ValueRef::Integer(i) => Value::Int(i).encode(out),
        ValueRef::Real(r) => Value::Real(r).encode(out),
        ValueRef::Text(t) => Value::Text(t.into()).encode(out),
        ValueRef::Blob(b) => Value::Blob(b.into()).encode(out),
    }
}

impl Sqlite {
    pub(super) fn scan_rows(
        &self,
        table: &Table,
        after: &[u8],
        limit: usize,
        out: &mut Batch,
    ) -> Result<Option<Vec<u8>>> {
        let op = format!("read {}", table.name);
        let (name, wanted, width) = (quote(&table.name), columns(table), table.columns.len());
        let limit = limit.max(1);
        let started = out.size();
        let full = |out: &Batch, n: usize| n >= limit || out.size() - started >= PIECE;
        let mut n = 0;
        let sql = if let Some(rowid) = rowid_name(table) {
            let from = if after.is_empty() { String::new() } else { format!("WHERE {rowid} > ?1") };
            format!("SELECT {wanted}, {rowid} FROM {name} {from} ORDER BY {rowid}")
        } else {
            let key = list(table.key_names());
            let marks: Vec<String> = (1..=table.key.len()).map(|i| format!("?{i}")).collect();
            let from = if after.is_empty() { String::new() } else { format!("WHERE ({key}) > ({})", marks.join(", ")) };
            format!("SELECT {wanted} FROM {name} {from} ORDER BY {key}")
        };
        let by_rowid = rowid_name(table).is_some();
        let mut work = || -> rusqlite::Result<Option<Vec<u8>>> {
            let mut s = self.conn.prepare_cached(&sql)?;
            if by_rowid && let Ok(last) = <[u8; 8]>::try_from(after) {
                s.raw_bind_parameter(1, i64::from_be_bytes(last))?;
            } else if !by_rowid {
                for (i, v) in values_of(after).iter().enumerate() {
                    s.raw_bind_parameter(i + 1, bound(v))?;
                }
            }
            let mut rows = s.raw_query();
            while let Some(row) = rows.next()? {
                let buffer = out.buffer();
                for i in 0..width {
                    encode(row.get_ref(i)?, buffer);
                }
                out.end_row();
                n += 1;
                if full(out, n) {
                    if by_rowid {
                        return Ok(Some(row.get::<_, i64>(width)?.to_be_bytes().to_vec()));
                    }
                    let mut cursor = Vec::new();
                    for &i in &table.key {
                        encode(row.get_ref(i)?, &mut cursor);
                    }
                    return Ok(Some(cursor));
                }
            }
            Ok(None)
        };
        work().map_err(self.err(&op))
    }

    pub(super) fn fetch_rows(&self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let op = format!("read rows of {}", table.name);
        let mut s = self.by_key(table, &format!("SELECT {} FROM", columns(table)), &op)?;
        keys.iter().map(|k| self.one(&mut s, table, k).map_err(self.err(&op))).collect()
    }

    /// A statement that addresses one row by its key, bound from parameter 1.
    pub(super) fn by_key(&self, table: &Table, start: &str, op: &str) -> Result<CachedStatement<'_>> {
        let whose = same("", table, |i| format!("?{}", i + 1));
        let sql = format!("{start} {} WHERE {whose}", quote(&table.name));
        self.conn.prepare_cached(&sql).map_err(self.err(op))
    }

    /// The row that a statement of `by_key` finds.
    pub(super) fn one(&self, s: &mut Statement<'_>, table: &Table, key: &Key) -> rusqlite::Result<Option<Row>> {
        if !bind_key(s, table, key)? {
            return Ok(None);
        }
        let width = s.column_count();
        let mut rows = s.raw_query();
        let Some(row) = rows.next()? else { return Ok(None) };
        (0..width).map(|i| row.get_ref(i).map(owned)).collect::<rusqlite::Result<Row>>().map(Some)
    }

    pub(super) fn all_keys(&self, table: &Table) -> Result<Vec<Key>> {
        let sql = format!("SELECT {} FROM {}", list(table.key_names()), quote(&table.name));
        let width = table.key.len();
        self.all(&format!("read the keys of {}", table.name), &sql, [], |row| {
            let mut key = Vec::new();
            for i in 0..width {
                encode(row.get_ref(i)?, &mut key);
            }
            Ok(Key(key))
        })
    }

    /// INSERT of all of a table's columns, parameters in their order; conflicts fail whatever the table says.
    pub(super) fn insert(&self, table: &Table, op: &str) -> Result<CachedStatement<'_>> {
        let marks: Vec<String> = (1..=table.columns.len()).map(|i| format!("?{i}")).collect();
        let (name, wanted) = (quote(&table.name), columns(table));
        let sql = format!("INSERT OR ABORT INTO {name} ({wanted}) VALUES ({})", marks.join(", "));
        self.conn.prepare_cached(&sql).map_err(self.err(op))
    }

    pub(super) fn load_rows(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        let left_out = self.loaded(table, rows)?;
        self.left_out.extend(left_out);
        Ok(())
    }

    /// Returns the keys of rows that were left out, each with that of the row that has its value in a unique index.
    fn loaded(&self, table: &Table, rows: &Batch) -> Result<Vec<Key>> {
        let mut left_out = Vec::new();
        let op = format!("load into {}", table.name);
        let mut insert = self.insert(table, &op)?;
        let mut delete = self.by_key(table, "DELETE FROM", &op)?;
        for mut bytes in rows.encoded() {
            let whole = bytes;
            let mut i = 0;
            while let Some(value) = Value::decode(&mut bytes) {
                i += 1;
                let given = self.given(table, i - 1, &value)?;
                insert.raw_bind_parameter(i, given).map_err(self.err(&op))?;
            }
            let Err(e) = insert.raw_execute() else { continue };
            let row = values_of(whole);
            let key = Key::of_row(&row, &table.key);
            let op = format!("load row {key} into {}", table.name);
            let failed = self.err(&op);
            if !in_the_way(&e) {
                return Err(failed(e));
            }
            // the row was read twice: the later reading counts
            bind_key(&mut delete, table, &key).map_err(&failed)?;
            delete.raw_execute().map_err(&failed)?;
            match insert.raw_execute() {
                // where the indexes are there before the rows: the two were read at different moments
                Err(e) if in_the_way(&e) => {
                    left_out.extend([self.holder(table, &row)?, Some(key)].into_iter().flatten())
                }
                done => drop(done.map_err(&failed)?),
            }
        }
        Ok(left_out)
    }

    /// The key of a row that keeps this one out, whatever unique index it is by.
    fn holder(&self, table: &Table, row: &[Value<'_>]) -> Result<Option<Key>> {
        let op = format!("look who is in the way in {}", table.name);
        let marks: Vec<String> = (1..=row.len()).map(|i| format!("?{i}")).collect();
        let (name, key) = (quote(&table.name), list(table.key_names()));
        let (columns, first) = (columns(table), quote(table.key_names().first().copied().unwrap_or_default()));
        // it is given its own key again, so nothing changes
        let sql = format!(
            "INSERT INTO {name} ({columns}) VALUES ({}) ON CONFLICT DO UPDATE SET {first} = {name}.{first} RETURNING {key}",
            marks.join(", ")
        );
        let width = table.key.len();
        let values = rusqlite::params_from_iter(row.iter().map(bound));
        let found = self.all(&op, &sql, values, |r| {
            Ok(Key::of(&(0..width).map(|i| r.get_ref(i).map(owned)).collect::<rusqlite::Result<Row>>()?))
        })?;
        Ok(found.into_iter().next())
    }

    /// A value for a column, or what is wrong with it.
    pub(super) fn given<'a>(&self, table: &Table, column: usize, value: &'a Value<'_>) -> Result<ToSqlOutput<'a>> {
        bound(value).ok_or_else(|| Error::Database {
            store: self.title.clone(),
            operation: format!("write {}.{}", table.name, table.columns.get(column).map_or("?", |c| &c.name)),
            cause: format!("SQLite has no type for {value}"),
        })
    }
}

/// Binds a key from parameter 1; false if no row of SQLite can have it.
pub(super) fn bind_key(s: &mut Statement<'_>, table: &Table, key: &Key) -> rusqlite::Result<bool> {
    let values = values_of(&key.0);
    if values.len() != table.key.len() {
        return Ok(false);
    }
    for (i, value) in values.iter().enumerate() {
        match bound(value) {
            Some(v) => s.raw_bind_parameter(i + 1, v)?,
            None => return Ok(false),
        }
    }
    Ok(true)
}
