//! The log of changes: positions in it, what is in it since one, markers and doubts, and what is forgotten.
//!
//! What was read is told by snapshots, never by numbers: transactions commit out of order.

use serde_json::json;

use super::rows::{key_arrays, params, selected, unnest};
use super::{Postgres, copy, list, literal};
use crate::plan::{Column, Table};
use crate::store::{Entry, LogSize, Mode, Op, Place, Position, Result};
use crate::value::Key;

pub(super) const ANOTHER: &str = "this is another incarnation of the database (restored, or failed over)";

fn key_columns(table: &Table) -> Vec<&Column> {
    table.key.iter().map(|&c| &table.columns[c]).collect()
}

impl Postgres {
    /// Which incarnation of which database this is.
    pub(super) fn incarnation(&mut self) -> Result<String> {
        let sql = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'), pg_is_in_recovery(), \
            (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database())";
        let lines = self.ask("asking which server this is", sql, &[])?;
        let Some(line) = lines.first() else { return Ok(String::new()) };
        let (may, standby, database): (bool, bool, String) = (line.get(0), line.get(1), line.get(2));
        let system = if may { "(SELECT system_identifier::text FROM pg_catalog.pg_control_system())" } else { "'?'" };
        let timeline = if standby { "'?'" } else { "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)" };
        let lines = self.query("asking which server this is", &format!("SELECT {system}, {timeline}"), &[])?;
        let line = lines.first().map(|l| (l.get::<_, String>(0), l.get::<_, String>(1))).unwrap_or_default();
        Ok(format!("{} {database} {}", line.0, line.1))
    }

    pub(super) fn position(&mut self, nonce: Option<&str>) -> Result<Position> {
        let incarnation = self.incarnation()?;
        self.position_in(&incarnation, nonce)
    }

    pub(super) fn position_in(&mut self, incarnation: &str, nonce: Option<&str>) -> Result<Position> {
        let lines = self.ask("taking a snapshot", "SELECT pg_current_snapshot()::text", &[])?;
        let snapshot: String = lines.first().map(|l| l.get(0)).unwrap_or_default();
        Ok(Position(json!({ "incarnation": incarnation, "snapshot": snapshot, "nonce": nonce })))
    }

    /// The snapshot in a position, as an SQL literal.
    pub(super) fn snapshot(&self, position: &Position) -> Result<String> {
        let text = position.0.get("snapshot").and_then(|s| s.as_str());
        text.map(literal).ok_or_else(|| self.broken("this position was not taken in a PostgreSQL database", false))
    }

    /// The block of a log past which it is full, which has so many now. Entries are counted by the room they take, a hundred to a block: no
    /// other count is free for a trigger. What a full log held is deleted and not yet vacuumed, so it is counted from its present end.
    pub(super) fn last_block(&self, there: u64) -> u64 {
        (there + (self.log_limit / 100).max(1)).min(u64::from(u32::MAX) - 1)
    }

    /// A log is as long as it may be: what was written since is not in it.
    pub(super) fn full(&mut self) -> Result<bool> {
        if !self.has("overflow")? {
            return Ok(false);
        }
        let lines = self.ask("looking how long the change log is", "SELECT EXISTS (TABLE backout.overflow)", &[])?;
        Ok(lines.first().is_some_and(|l| l.get(0)))
    }

    pub(super) fn read_log(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        let position = self.position(None)?;
        if from.0.get("incarnation") != position.0.get("incarnation") {
            return Err(self.rewound(ANOTHER));
        }
        let nonce = from.0.get("nonce").and_then(|n| n.as_str());
        if let Some(nonce) = nonce {
            let found = self.has("mark")?
                && !self
                    .query("looking for the marker", "SELECT FROM backout.mark WHERE nonce = $1", &[&nonce])?
                    .is_empty();
            if !found {
                return Err(self
                    .rewound("the marker of the last drain is gone: the database was taken back to an earlier state"));
            }
        }
        if self.full()? {
            return Err(self.broken("the change log reached its limit, and what was written since is not in it", false));
        }
        let snapshot = self.snapshot(from)?;
        let mut out = Vec::new();
        for (n, table) in tables.iter().enumerate() {
            let columns = key_columns(table);
            let wires: Vec<copy::Wire> = columns.iter().map(|c| copy::Wire::of_column(c)).collect();
            let named = |letter: char| {
                let rename = |(i, c): (usize, &&Column)| Column { name: format!("{letter}{i}"), ..(*c).clone() };
                columns.iter().enumerate().map(rename).map(|c| selected("", &c)).collect::<Vec<_>>().join(", ")
            };
            // a log without places has them from the outer line, as what it does not name itself
            let sql = format!(
                "SELECT l.* FROM (SELECT NULL::oid AS heap, NULL::tid AS was, NULL::tid AS now) o, LATERAL (\
                 SELECT op::pg_catalog.text, heap, was, now, {}, {} FROM backout.log_{n} \
                 WHERE NOT pg_catalog.pg_visible_in_snapshot(xid, {snapshot}) ORDER BY lsn) l",
                named('b'),
                named('a')
            );
            let operation = format!("reading the change log of {}", table.name);
            let mut entries = Vec::new();
            self.copy_out(&operation, &sql, |mut fields| {
                let op = match fields.take() {
                    Some(b"I") => Op::Insert,
                    Some(b"U") => Op::Update,
                    Some(b"D") => Op::Delete,
                    Some(b"T") => Op::Truncate,
                    Some(b"X") => Op::Doubt,
                    _ => return Err("an entry of no known kind".into()),
                };
                let heap = fields.take().and_then(|b| Some(u32::from_be_bytes(b.try_into().ok()?)));
                let mut place = || {
                    // a block's number and one within it, six bytes
                    let bytes = fields.take().filter(|b| b.len() <= 8)?;
                    let at = bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
                    heap.map(|heap| Place { heap, at })
                };
                let (was, now) = (place(), place());
                let mut key = || -> std::result::Result<Key, String> {
                    let mut bytes = Vec::new();
                    for wire in &wires {
                        copy::value(*wire, fields.take()).ok_or("a key that cannot be read")?.encode(&mut bytes);
                    }
                    Ok(Key(bytes))
                };
                let (before, after) = (key()?, key()?);
                let before = matches!(op, Op::Update | Op::Delete | Op::Doubt).then_some(before);
                let after = matches!(op, Op::Insert | Op::Update).then_some(after);
                entries.push(Entry { table: n, op, before, after, was, now });
                Ok(())
            })?;
            out.append(&mut entries);
        }
        Ok((out, position))
    }

    pub(super) fn waiting(&mut self, tables: &[&Table], from: &Position) -> Result<u64> {
        let snapshot = self.snapshot(from)?;
        let each: Vec<String> = (0..tables.len())
            .map(|n| {
                format!(
                    "(SELECT count(*) FROM backout.log_{n} \
                     WHERE NOT pg_catalog.pg_visible_in_snapshot(xid, {snapshot}))"
                )
            })
            .collect();
        if each.is_empty() {
            return Ok(0);
        }
        let lines = self.query("counting changes", &format!("SELECT {}", each.join(" + ")), &[])?;
        Ok(lines.first().map_or(0, |l| l.get::<_, i64>(0)) as u64)
    }

    pub(super) fn size_of_log(&mut self, tables: &[&Table]) -> Result<LogSize> {
        let mut size = LogSize::default();
        for n in 0..tables.len() {
            let log = format!("log_{n}");
            if !self.has(&log)? {
                continue;
            }
            let sql = format!("SELECT count(*), pg_catalog.pg_total_relation_size('backout.{log}') FROM backout.{log}");
            if let Some(line) = self.query("looking at the change log", &sql, &[])?.first() {
                size.rows += line.get::<_, i64>(0).unsigned_abs();
                size.bytes += line.get::<_, i64>(1).unsigned_abs();
            }
        }
        Ok(size)
    }

    pub(super) fn put_mark(&mut self, mut position: Position) -> Result<Position> {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        if matches!(self.open, Some(Mode::Read)) {
            return Err(self.wrong("marking", "the reading transaction is still open"));
        }
        let sql = format!("INSERT INTO backout.mark (nonce, xid) VALUES ({}, pg_current_xact_id())", literal(&nonce));
        self.effect("marking the position", &sql)?;
        if let Some(fields) = position.0.as_object_mut() {
            fields.insert("nonce".into(), json!(nonce));
        }
        Ok(position)
    }

    pub(super) fn trim_log(&mut self, tables: &[&Table], position: &Position) -> Result<()> {
        let snapshot = self.snapshot(position)?;
        let nonce = literal(position.0.get("nonce").and_then(|n| n.as_str()).unwrap_or_default());
        let visible = format!("pg_catalog.pg_visible_in_snapshot(xid, {snapshot})");
        let mut sql = format!("DELETE FROM backout.mark WHERE nonce <> {nonce} AND {visible};");
        for n in 0..tables.len() {
            // what an application's transaction has merged is gone with its commit, and not waited for
            sql.push_str(&format!(
                "DELETE FROM backout.log_{n} WHERE ctid = ANY (ARRAY (SELECT ctid FROM backout.log_{n} \
                 WHERE {visible} FOR UPDATE SKIP LOCKED));"
            ));
        }
        self.effect("trimming the change log", &sql)?;
        // so that its room is used again before it counts as full, whatever autovacuum does
        for n in 0..tables.len() {
            let sql = "SELECT pg_catalog.pg_relation_size($1::text::regclass)";
            let lines = self.query("looking how long the change log is", sql, &[&format!("backout.log_{n}")])?;
            let size = lines.first().map_or(0, |l| l.get::<_, i64>(0)).unsigned_abs();
            if self.open.is_none() && size / 80 > self.log_limit / 4 {
                self.effect("vacuuming the change log", &format!("VACUUM (SKIP_LOCKED) backout.log_{n}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn put_doubts(&mut self, table: usize, keys: &[Key]) -> Result<()> {
        // Only the log knows here what its key is made of.
        let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = 'backout' AND c.relname = $1 AND a.attname ~ '^b[0-9]+$' AND NOT a.attisdropped \
            ORDER BY a.attnum";
        let lines = self.query("noting doubts", sql, &[&format!("log_{table}")])?;
        let columns: Vec<Column> =
            lines.iter().map(|l| Column { name: l.get(0), ty: l.get(1), ..Column::default() }).collect();
        let log =
            Table { name: format!("log_{table}"), key: (0..columns.len()).collect(), columns, ..Table::default() };
        let wires = super::rows::key_wires(&log);
        let sql = format!(
            "INSERT INTO backout.log_{table} (xid, lsn, op, {}) \
             SELECT pg_current_xact_id(), pg_current_wal_insert_lsn(), 'X', {} FROM {}",
            list(log.key_names()),
            super::rows::staged(&log, &wires),
            unnest(&wires, 1, "n", 'c')
        );
        for piece in keys.chunks(super::rows::MANY) {
            let arrays = key_arrays(&log, piece).map_err(|e| self.wrong("noting doubts", e))?;
            self.execute("noting doubts", &sql, &params(&arrays))?;
        }
        Ok(())
    }
}
