//! The log of changes: what is in it since a position, markers and doubts, and what is forgotten.

use rusqlite::{OptionalExtension, params};
use serde_json::{Value as Json, json};

use super::triggers::{FULL_ID, marked};
use super::{Sqlite, bound, owned};
use crate::plan::Table;
use crate::store::{Entry, LogSize, Op, Position, Result};
use crate::value::{Key, values_of};

/// What is said of a log that has reached its limit.
const FULL: &str = "the change log reached its limit, and what was written since is not in it";

impl Sqlite {
    /// The log is as long as it may be: what was written since is not in it.
    pub(super) fn full(&self) -> Result<bool> {
        if !self.has("backout_log")? {
            return Ok(false);
        }
        let sql = format!("SELECT count(*) FROM backout_log WHERE id = {FULL_ID}");
        self.number("look how long the change log is", &sql).map(|full| full != 0)
    }

    pub(super) fn incarnation(&self) -> Result<Option<(i64, String)>> {
        if !self.has("backout_meta")? || !self.has("backout_log")? {
            return Ok(None);
        }
        self.conn
            .query_row("SELECT n, name FROM backout_meta WHERE what = 'incarnation'", [], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .optional()
            .map_err(self.err("read the incarnation"))
    }

    /// The id that a position stands for, if it belongs to this file and its marker is still there.
    fn place(&self, from: &Position) -> Result<i64> {
        let strange = |why: &str| self.rewound(why);
        let Some((_, incarnation)) = self.incarnation()? else { return Err(strange("changes are not being noted")) };
        let (dev, ino) = self.file()?;
        let p = &from.0;
        if p["incarnation"].as_str() != Some(&incarnation) || p["file"] != json!([dev, ino]) {
            return Err(strange("the file is not the one that was followed"));
        }
        let marker = self
            .conn
            .prepare_cached("SELECT 1 FROM backout_log WHERE id = ?1 AND op = 'M' AND b1 = ?2")
            .and_then(|mut s| s.exists(params![p["marker"].as_i64(), p["nonce"].as_str()]))
            .map_err(self.err("look for our marker"))?;
        match p["id"].as_i64() {
            Some(id) if marker => Ok(id),
            _ => Err(strange("our marker is gone from the log: the file was taken back to an earlier state")),
        }
    }

    pub(super) fn entries(&self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        let after = self.place(from)?;
        if self.full()? {
            return Err(self.broken(FULL, false));
        }
        let names = self.captured_names()?.unwrap_or_default();
        let asked: Vec<Option<usize>> = names.iter().map(|n| tables.iter().position(|t| &t.name == n)).collect();
        let n = self.key_width()?;
        let sql = format!(
            "SELECT id, t, op, {}, {} FROM backout_log WHERE id > ?1 ORDER BY id",
            marked("b", n),
            marked("a", n)
        );
        let (mut out, mut last) = (Vec::new(), after);
        let mut work = || -> rusqlite::Result<()> {
            let mut s = self.conn.prepare_cached(&sql)?;
            let mut rows = s.query([after])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                let t: i64 = row.get(1)?;
                let Some(table) = usize::try_from(t).ok().and_then(|t| asked.get(t).copied().flatten()) else {
                    continue;
                };
                let width = tables[table].key.len();
                let key = |first: usize| -> rusqlite::Result<Option<Key>> {
                    let values: rusqlite::Result<Vec<_>> =
                        (0..width).map(|i| row.get_ref(first + i).map(owned)).collect();
                    Ok(Some(Key::of(&values?)))
                };
                let (b, a) = (3, 3 + n);
                let (op, before, after) = match row.get_ref(2)?.as_bytes().unwrap_or_default() {
                    b"I" => (Op::Insert, None, key(a)?),
                    b"U" => (Op::Update, key(b)?, key(a)?),
                    b"D" => (Op::Delete, key(b)?, None),
                    b"X" => (Op::Doubt, key(b)?, None),
                    _ => continue,
                };
                out.push(Entry { table, op, before, after, was: None, now: None });
            }
            Ok(())
        };
        work().map_err(self.err("read the change log"))?;
        let mut position = from.0.clone();
        position["id"] = json!(last);
        Ok((out, Position(position)))
    }

    /// Columns for a key in the log.
    pub(super) fn key_width(&self) -> Result<usize> {
        self.number("read the change log", "SELECT (count(*) - 3) / 2 FROM pragma_table_info('backout_log')")
            .map(|n| usize::try_from(n).unwrap_or(1))
    }

    pub(super) fn waiting(&self, from: &Position) -> Result<u64> {
        if !self.has("backout_log")? {
            return Ok(0);
        }
        let sql = "SELECT count(*) FROM backout_log WHERE id > ?1 AND op <> 'M'";
        self.conn
            .query_row(sql, [from.0["id"].as_i64()], |r| r.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(self.err("count what waits"))
    }

    pub(super) fn size_of_log(&self) -> Result<LogSize> {
        if !self.has("backout_log")? {
            return Ok(LogSize::default());
        }
        let sql = "SELECT (SELECT count(*) FROM backout_log WHERE op NOT IN ('M', 'F')),
            (SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = 'backout_log')";
        self.conn
            .query_row(sql, [], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)))
            .map(|(rows, bytes)| LogSize { rows: rows.unsigned_abs(), bytes: bytes.unsigned_abs() })
            .map_err(self.err("look at the change log"))
    }

    pub(super) fn put_marker(&mut self, position: &Position) -> Result<Position> {
        let Some((_, incarnation)) = self.incarnation()? else {
            return Err(self.broken("changes are not being noted", false));
        };
        let nonce = Sqlite::nonce();
        self.conn
            .execute("INSERT INTO backout_log (t, op, b1) VALUES (-1, 'M', ?1)", [&nonce])
            .map_err(self.err("mark the change log"))?;
        let (dev, ino) = self.file()?;
        let id = position.0.get("id").cloned().unwrap_or(Json::Null);
        Ok(Position(json!({
            "file": [dev, ino],
            "incarnation": incarnation,
            "id": id,
            "marker": self.conn.last_insert_rowid(),
            "nonce": nonce,
        })))
    }

    /// The last row stays whatever it is, or its id would be given again.
    pub(super) fn forget(&mut self, position: &Position) -> Result<()> {
        let upto = self.place(position)?;
        // it filled up since it was read: shortening it would hide that
        if self.full()? {
            return Ok(());
        }
        self.conn
            .execute(
                "DELETE FROM backout_log WHERE id <= ?1 AND id <> ?2 AND id < (SELECT max(id) FROM backout_log) \
                 AND id <> (SELECT max(id) FROM backout_log WHERE op = 'M')",
                params![upto, position.0["marker"].as_i64()],
            )
            .map(drop)
            .map_err(self.err("trim the change log"))
    }

    pub(super) fn put_doubts(&mut self, table: usize, keys: &[Key]) -> Result<()> {
        if !self.has("backout_log")? {
            return Err(self.broken("changes are not being noted", false));
        }
        let put = || -> rusqlite::Result<()> {
            for key in keys {
                let values = values_of(&key.0);
                let marks: Vec<String> = (2..values.len() + 2).map(|i| format!("?{i}")).collect();
                let names = marked("b", values.len());
                let sql = format!("INSERT INTO backout_log (t, op, {names}) VALUES (?1, 'X', {})", marks.join(", "));
                let mut s = self.conn.prepare_cached(&sql)?;
                s.raw_bind_parameter(1, table as i64)?;
                for (i, value) in values.iter().enumerate() {
                    s.raw_bind_parameter(i + 2, bound(value))?;
                }
                s.raw_execute()?;
            }
            Ok(())
        };
        put().map_err(self.err("note doubts"))
    }

    /// The id after which our own writes are logged; `None` without a log.
    pub(super) fn last_logged(&self) -> Result<Option<i64>> {
        if !self.has("backout_log")? {
            return Ok(None);
        }
        self.number("read the change log", "SELECT coalesce(max(id), 0) FROM backout_log").map(Some)
    }
}
