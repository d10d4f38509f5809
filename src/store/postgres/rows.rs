//! Rows in and out: scan, fetch, load.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{self, Write as _};

use bytes::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::copy::{self, Wire};
use super::{Postgres, failed, list, quoted, words};
use crate::plan::{Column, Table, base_type};
use crate::store::{Error, Result};
use crate::value::{Batch, Key, Row, Value};

/// At most so many bytes of rows are sent or asked for at a time.
pub(super) const PIECE: usize = 4 << 20;
/// At most so many keys or rows go into one statement.
pub(super) const MANY: usize = 10_000;

/// One column of values, sent as an array.
#[derive(Debug)]
pub(super) struct Array {
    wire: Wire,
    len: i32,
    bytes: Vec<u8>,
}

impl Array {
    pub fn new(wire: Wire) -> Array {
        Array { wire, len: 0, bytes: Vec::new() }
    }
    pub fn push(&mut self, value: &Value<'_>) -> std::result::Result<(), String> {
        self.len += 1;
        copy::field(self.wire, value, &mut self.bytes)
    }
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let oid = self.wire.sent_as().1;
        out.extend_from_slice(&i32::from(self.len > 0).to_be_bytes());
        out.extend_from_slice(&1i32.to_be_bytes());
        out.extend_from_slice(&oid.to_be_bytes());
        if self.len > 0 {
            out.extend_from_slice(&self.len.to_be_bytes());
            out.extend_from_slice(&1i32.to_be_bytes());
            out.extend_from_slice(&self.bytes);
        }
        Ok(IsNull::No)
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

/// The arrays as parameters.
pub(super) fn params(arrays: &[Array]) -> Vec<&(dyn ToSql + Sync)> {
    arrays.iter().map(|a| a as &(dyn ToSql + Sync)).collect()
}

/// A field's bytes as they came.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Raw<'a>, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(raw))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The value in a result's column.
pub(super) fn cell(line: &postgres::Row, at: usize, wire: Wire) -> Option<Value<'_>> {
    copy::value(wire, line.try_get::<_, Option<Raw<'_>>>(at).ok()?.map(|r| r.0))
}

/// `unnest($1::int8[], …) AS alias(k0, k1, …)` for arrays of these wires, whose first parameter has this number.
pub(super) fn unnest(wires: &[Wire], first: usize, alias: &str, letter: char) -> String {
    let arrays: Vec<String> =
        wires.iter().enumerate().map(|(i, w)| format!("${}::pg_catalog.{}[]", first + i, w.sent_as().0)).collect();
    let names: Vec<String> = (0..wires.len()).map(|i| format!("{letter}{i}")).collect();
    format!("unnest({}) AS {alias}({})", arrays.join(", "), names.join(", "))
}

/// A column as it is selected: types without a binary form of ours as their text.
pub(super) fn selected(prefix: &str, column: &Column) -> String {
    let name = quoted(&column.name);
    if Wire::of_column(column) == Wire::Other { as_text(prefix, column) } else { format!("{prefix}{name}") }
}

/// A column as the server prints it.
pub(super) fn as_text(prefix: &str, column: &Column) -> String {
    let name = quoted(&column.name);
    if base_type(&column.ty) == "inet" {
        // its cast adds /32 to what is printed without
        format!("CASE WHEN {prefix}{name} IS NOT NULL THEN pg_catalog.concat({prefix}{name}) END")
    } else {
        format!("{prefix}{name}::pg_catalog.text")
    }
}

/// `t.id = k.k0::type AND …`: what may be under these keys; bytes are compared afterwards.
pub(super) fn key_matches(table: &Table, row: &str, keys: &str, letter: char) -> String {
    let each = table.key.iter().enumerate().map(|(i, &c)| {
        let column = &table.columns[c];
        format!("{row}.{} = {keys}.{letter}{i}::{}", quoted(&column.name), copy::comparable(&column.ty))
    });
    each.collect::<Vec<_>>().join(" AND ")
}

pub(super) fn wires(columns: &[Column]) -> Vec<Wire> {
    columns.iter().map(Wire::of_column).collect()
}

pub(super) fn key_wires(table: &Table) -> Vec<Wire> {
    table.key.iter().map(|&c| Wire::of_column(&table.columns[c])).collect()
}

/// Keys as one array per key column.
pub(super) fn key_arrays<'a>(
    table: &Table,
    keys: impl IntoIterator<Item = &'a Key>,
) -> std::result::Result<Vec<Array>, String> {
    let mut arrays: Vec<Array> = key_wires(table).into_iter().map(Array::new).collect();
    for key in keys {
        let values = crate::value::values_of(&key.0);
        if values.len() != arrays.len() {
            return Err(format!("the key {key} does not fit {}", table.name));
        }
        for (array, value) in arrays.iter_mut().zip(&values) {
            array.push(value)?;
        }
    }
    Ok(arrays)
}

/// What went wrong in a COPY stream.
fn stream_failed(store: &str, operation: &str, e: io::Error) -> Error {
    let wrong = |cause: String| Error::Database { store: store.to_owned(), operation: operation.to_owned(), cause };
    match e.downcast::<postgres::Error>() {
        Ok(e) => failed(store, operation, &e),
        Err(e) => wrong(e.to_string()),
    }
}

/// Where a scan goes on: after the row at this place, with about so many rows at a time, never more than the cap.
struct Place {
    block: u32,
    offset: u16,
    rows: u32,
    cap: u32,
}

impl Place {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(14);
        out.extend_from_slice(&self.block.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.rows.to_be_bytes());
        out.extend_from_slice(&self.cap.to_be_bytes());
        out
    }
    fn of(b: &[u8]) -> Option<Place> {
        let b: &[u8; 14] = b.try_into().ok()?;
        Some(Place {
            block: u32::from_be_bytes(b[..4].try_into().ok()?),
            offset: u16::from_be_bytes(b[4..6].try_into().ok()?),
            rows: u32::from_be_bytes(b[6..10].try_into().ok()?),
            cap: u32::from_be_bytes(b[10..].try_into().ok()?),
        })
    }
}

impl Postgres {
    /// Reads a COPY of `sql` row by row.
    pub(super) fn copy_out(
        &mut self,
        operation: &str,
        sql: &str,
        row: impl FnMut(copy::Fields<'_>) -> std::result::Result<(), String>,
    ) -> Result<()> {
        let sql = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
        let reader = self.client.copy_out(&sql).map_err(|e| failed(&self.title, operation, &e))?;
        copy::read(reader, row).map_err(|e| stream_failed(&self.title, operation, e))
    }

    pub(super) fn scan_rows(
        &mut self,
        table: &Table,
        after: &[u8],
        limit: usize,
        out: &mut Batch,
    ) -> Result<Option<Vec<u8>>> {
        let operation = format!("reading {}", table.name);
        let mut place = match after {
            [] => match self.first_place(table)? {
                Some(place) => place,
                None => return self.scan_by_key(table, after, limit, out),
            },
            [b'k', ..] => return self.scan_by_key(table, after, limit, out),
            _ => Place::of(after).ok_or_else(|| self.wrong(&operation, "the place to go on from cannot be read"))?,
        };
        let n = limit.min(place.rows as usize).min(place.cap as usize).max(1);
        let wires = wires(&table.columns);
        let columns: Vec<String> = table.columns.iter().map(|c| format!(", {}", selected("t.", c))).collect();
        let sql = format!(
            "SELECT t.ctid{} FROM ONLY {} t WHERE t.ctid > '({},{})' LIMIT {n}",
            columns.concat(),
            self.name(table),
            place.block,
            place.offset
        );
        let (rows, size) = (out.len(), out.size());
        self.copy_out(&operation, &sql, |mut fields| {
            let tid = fields.take().filter(|t| t.len() == 6).ok_or("a row without a place")?;
            place.block = u32::from_be_bytes([tid[0], tid[1], tid[2], tid[3]]);
            place.offset = u16::from_be_bytes([tid[4], tid[5]]);
            for (wire, column) in wires.iter().zip(&table.columns) {
                let value = copy::value(*wire, fields.take());
                value.ok_or_else(|| format!("{} is not {}", column.name, column.ty))?.encode(out.buffer());
            }
            out.end_row();
            Ok(())
        })?;
        let (rows, size) = (out.len() - rows, out.size() - size);
        if rows < n {
            return Ok(None);
        }
        place.rows = u32::try_from((PIECE / (size / rows).max(1)).max(1)).unwrap_or(u32::MAX);
        Ok(Some(place.bytes()))
    }

    /// Where a scan by place begins; `None` if this table cannot be read so.
    fn first_place(&mut self, table: &Table) -> Result<Option<Place>> {
        if self.version < 140_000 {
            return Ok(None);
        }
        let sql = "SELECT c.relkind = 'r' AND NOT c.relhassubclass AND m.amname = 'heap', \
            pg_relation_size(c.oid)::int8, coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0)::int8, \
            c.reltuples::float8, c.relpages::int8 \
            FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam WHERE c.oid = $1::text::regclass";
        let name = self.name(table);
        let lines = self.query(&format!("looking at {}", table.name), sql, &[&name])?;
        let Some(line) = lines.first().filter(|l| l.get::<_, Option<bool>>(0) == Some(true)) else { return Ok(None) };
        let (heap, toast, tuples, pages): (i64, i64, f64, i64) = (line.get(1), line.get(2), line.get(3), line.get(4));
        // Long values may be anywhere: where there are any, the table's average (twice, for they are compressed) is the
        // bound, so that no piece grows beyond all measure.
        let cap = if toast == 0 {
            u32::MAX
        } else {
            let blocks = heap as f64 / 8192.0;
            let rows = if pages > 0 && tuples > 0.0 { blocks * tuples / pages as f64 } else { blocks * 20.0 };
            (PIECE as f64 * rows.max(1.0) / (heap as f64 + 2.0 * toast as f64)).clamp(8.0, 1e9) as u32
        };
        Ok(Some(Place { block: 0, offset: 0, rows: 1000, cap }))
    }

    /// The slower way, in the order of the key: partitioned tables, old servers.
    fn scan_by_key(&mut self, table: &Table, after: &[u8], limit: usize, out: &mut Batch) -> Result<Option<Vec<u8>>> {
        if table.key.is_empty() {
            return Err(self.refused(format!("{} has no key to read it by", table.name), "give it a primary key"));
        }
        let operation = format!("reading {}", table.name);
        let wires = wires(&table.columns);
        let n = limit.clamp(1, MANY);
        let columns: Vec<String> = table.columns.iter().map(|c| selected("t.", c)).collect();
        let names: Vec<String> = table.key_names().iter().map(|k| format!("t.{}", quoted(k))).collect();
        let key = |k: &[u8]| key_arrays(table, [&Key(k.to_vec())]);
        let arrays = match after {
            [_, k @ ..] => key(k).map_err(|e| self.wrong(&operation, e))?,
            [] => Vec::new(),
        };
        let clause = if arrays.is_empty() {
            String::new()
        } else {
            let last: Vec<String> = key_wires(table)
                .iter()
                .zip(&table.key)
                .enumerate()
                .map(|(i, (w, &c))| {
                    let ty = copy::comparable(&table.columns[c].ty);
                    format!("(${}::pg_catalog.{}[])[1]::{ty}", i + 1, w.sent_as().0)
                })
                .collect();
            format!("WHERE ({}) > ({})", names.join(", "), last.join(", "))
        };
        let sql = format!(
            "SELECT {} FROM {} t {clause} ORDER BY {} LIMIT {n}",
            columns.join(", "),
            self.name(table),
            names.join(", ")
        );
        let lines = self.query(&operation, &sql, &params(&arrays))?;
        let mut last = None;
        for line in &lines {
            let row = self.row(table, line, 0, &wires)?;
            last = Some(Key::of_row(&row, &table.key));
            out.push(&row);
        }
        Ok(last.filter(|_| lines.len() == n).map(|k| [b"k", k.0.as_slice()].concat()))
    }

    fn row(&self, table: &Table, line: &postgres::Row, first: usize, wires: &[Wire]) -> Result<Row> {
        let cell = |(i, w): (usize, &Wire)| {
            let value = cell(line, first + i, *w).map(Value::into_owned);
            let column = &table.columns[i];
            value.ok_or_else(|| {
                self.wrong(&format!("reading {}", table.name), format!("{} is not {}", column.name, column.ty))
            })
        };
        wires.iter().enumerate().map(cell).collect()
    }

    pub(super) fn fetch_rows(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let operation = format!("reading {}", table.name);
        let wires = wires(&table.columns);
        let columns: Vec<String> = table.columns.iter().map(|c| selected("t.", c)).collect();
        let sql = format!(
            "SELECT {} FROM {} JOIN {} t ON {}",
            columns.join(", "),
            unnest(&key_wires(table), 1, "k", 'k'),
            self.name(table),
            key_matches(table, "t", "k", 'k')
        );
        let mut out = Vec::with_capacity(keys.len());
        for piece in keys.chunks(MANY) {
            let arrays = key_arrays(table, piece).map_err(|e| self.wrong(&operation, e))?;
            let lines = self.query(&operation, &sql, &params(&arrays))?;
            let mut found: HashMap<Key, Row> = HashMap::with_capacity(lines.len());
            for line in &lines {
                let row = self.row(table, line, 0, &wires)?;
                found.insert(Key::of_row(&row, &table.key), row);
            }
            out.extend(piece.iter().map(|k| found.get(k).cloned()));
        }
        Ok(out)
    }

    pub(super) fn all_keys(&mut self, table: &Table) -> Result<Vec<Key>> {
        let wires = key_wires(table);
        let columns: Vec<String> = table.key.iter().map(|&c| selected("t.", &table.columns[c])).collect();
        let sql = format!("SELECT {} FROM {} t", columns.join(", "), self.name(table));
        let mut out = Vec::new();
        self.copy_out(&format!("reading the keys of {}", table.name), &sql, |mut fields| {
            let mut key = Vec::new();
            for wire in &wires {
                copy::value(*wire, fields.take()).ok_or("a key that cannot be read")?.encode(&mut key);
            }
            out.push(Key(key));
            Ok(())
        })?;
        Ok(out)
    }

    pub(super) fn load_rows(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let wires = wires(&table.columns);
        let operation = format!("loading {}", table.name);
        if wires.contains(&Wire::Other) {
            return self.load_by_insert(table, rows, &wires);
        }
        let names = list(table.columns.iter().map(|c| &c.name));
        let sql = format!("COPY {} ({names}) FROM STDIN (FORMAT binary)", self.name(table));
        let mut writer = self.client.copy_in(&sql).map_err(|e| failed(&self.title, &operation, &e))?;
        let mut sent = Ok(());
        let mut buf = Vec::with_capacity(320 << 10);
        buf.extend_from_slice(copy::HEADER);
        let count = (wires.len() as i16).to_be_bytes();
        for mut row in rows.encoded() {
            buf.extend_from_slice(&count);
            for (wire, column) in wires.iter().zip(&table.columns) {
                let value = Value::decode(&mut row).unwrap_or(Value::Null);
                if let Err(e) = copy::field(*wire, &value, &mut buf) {
                    // Dropping the writer aborts the COPY.
                    return Err(Error::Database {
                        store: self.title.clone(),
                        operation,
                        cause: format!("column {}: {e}", column.name),
                    });
                }
            }
            if buf.len() >= 256 << 10 {
                sent = writer.write_all(&buf);
                buf.clear();
                if sent.is_err() {
                    break;
                }
            }
        }
        if sent.is_ok() {
            buf.extend_from_slice(&copy::TRAILER);
            sent = writer.write_all(&buf);
        }
        // When the server has refused a row, sending fails with little to say; what it said is told by a statement's end.
        match (sent, writer.finish()) {
            (Ok(()), Ok(_)) => Ok(()),
            (_, Err(e)) => Err(failed(&self.title, &operation, &e)),
            (Err(e), Ok(_)) => Err(stream_failed(&self.title, &operation, e)),
        }
    }

    /// For tables with columns that travel as text.
    fn load_by_insert(&mut self, table: &Table, rows: &Batch, wires: &[Wire]) -> Result<()> {
        let sql = format!("{} {}", self.insert_head(table), insert_select(table, wires));
        let rows: Vec<_> = rows.rows().collect();
        self.send(table, &sql, &[], rows.iter().map(|r| (None, r.as_slice())))
    }

    pub(super) fn insert_head(&self, table: &Table) -> String {
        let names = list(table.columns.iter().map(|c| &c.name));
        format!("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE", self.name(table))
    }

    /// Runs `sql` for the rows, in pieces, with arrays of their keys (those given) and then of all their columns.
    pub(super) fn send<'a, 'b: 'a>(
        &mut self,
        table: &Table,
        sql: &str,
        key: &[Wire],
        rows: impl Iterator<Item = (Option<&'a Key>, &'a [Value<'b>])>,
    ) -> Result<()> {
        self.send_quietly(table, sql, key, rows)?.map_err(|e| self.fail(&format!("writing {}", table.name), &e))
    }

    /// The same, the server's error being told apart from ours.
    pub(super) fn send_quietly<'a, 'b: 'a>(
        &mut self,
        table: &Table,
        sql: &str,
        key: &[Wire],
        rows: impl Iterator<Item = (Option<&'a Key>, &'a [Value<'b>])>,
    ) -> Result<std::result::Result<(), postgres::Error>> {
        let all: Vec<Wire> = key.iter().copied().chain(wires(&table.columns)).collect();
        let fresh = || all.iter().map(|w| Array::new(*w)).collect::<Vec<_>>();
        let mut arrays = fresh();
        let mut pieces = 0;
        let mut rows = rows.peekable();
        while let Some((from, row)) = rows.next() {
            let from = from.filter(|_| !key.is_empty()).map(Key::values).unwrap_or_default();
            for (array, value) in arrays.iter_mut().zip(from.iter().chain(row.iter())) {
                let pushed = array.push(value);
                pushed.map_err(|e| self.wrong(&format!("writing {}", table.name), e))?;
            }
            pieces += 1;
            if pieces == MANY || rows.peek().is_none() || arrays.iter().map(Array::size).sum::<usize>() > PIECE {
                if let Err(e) = self.client.execute(sql, &params(&arrays)) {
                    return Ok(Err(e));
                }
                arrays = fresh();
                pieces = 0;
            }
        }
        Ok(Ok(()))
    }

    /// Words for a row that the server refused.
    pub(super) fn row_refused(&self, e: &postgres::Error, hint: &str) -> Error {
        let table = e.as_db_error().and_then(|d| d.table().map(|t| format!("{t}: "))).unwrap_or_default();
        self.refused(format!("{table}{}", words(e)), hint)
    }
}

/// `SELECT n.c0, n.c1::type, … FROM unnest(…)`.
pub(super) fn insert_select(table: &Table, wires: &[Wire]) -> String {
    format!("SELECT {} FROM {}", staged(table, wires), unnest(wires, 1, "n", 'c'))
}

/// The staged values `n.c0, n.c1::type, …`, cast where they travel as text.
pub(super) fn staged(table: &Table, wires: &[Wire]) -> String {
    staged_each(table, wires).join(", ")
}

pub(super) fn staged_each(table: &Table, wires: &[Wire]) -> Vec<String> {
    let each = wires.iter().zip(&table.columns).enumerate();
    each.map(|(i, (w, c))| if *w == Wire::Other { format!("n.c{i}::{}", c.ty) } else { format!("n.c{i}") }).collect()
}
