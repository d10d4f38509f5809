//! Change capture, markers, seals.
//!
//! Each table has a log `backout.log_<n>` of keys before and after, written by triggers that fire for everyone but our own
//! marked session. What was read is told by snapshots, never by numbers: transactions commit out of order.

use serde_json::json;

use super::rows::{key_arrays, params, selected, unnest};
use super::{Postgres, copy, list, literal, quoted};
use crate::plan::{Column, Table};
use crate::store::{Entry, LogSize, Mode, Op, Place, Position, Result};
use crate::value::Key;

const ROW: &str = "backout_capture_row";
const TRUNCATE: &str = "backout_capture_truncate";
const SEAL_ROW: &str = "backout_seal_row";
const SEAL_TRUNCATE: &str = "backout_seal_truncate";

const ANOTHER: &str = "this is another incarnation of the database (restored, or failed over)";

/// What the server can tell of a table that changes go through.
struct Look {
    oid: Option<String>,
    columns: Option<String>,
    rewritten: Option<String>,
    parts: Option<String>,
    triggers: Option<String>,
}

/// `xmin` of the columns' definitions alone shows an `ALTER COLUMN … USING` that leaves the definition as it was; that of a
/// trigger shows that it was off for a while. Where uniqueness is deferrable, more has to be noted.
const LOOK: &str = "SELECT w.name, c.oid::text, \
    (SELECT string_agg(concat_ws(' ', a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), \
        a.attnotnull, a.attgenerated), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
    concat_ws(' ', (SELECT string_agg(a.attnum || ':' || a.xmin::text, ' ' ORDER BY a.attnum) \
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), \
        (SELECT string_agg('deferrable ' || i.indexrelid, ' ' ORDER BY i.indexrelid) FROM pg_catalog.pg_index i \
        WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indimmediate)), \
    (SELECT string_agg(p.relid::oid::text, ' ' ORDER BY p.relid::oid) FROM pg_catalog.pg_partition_tree(c.oid) p), \
    (SELECT string_agg(concat_ws(' ', t.tgname, t.tgenabled, t.xmin, f.xmin, f.prosecdef, md5(f.prosrc), \
        md5(pg_get_triggerdef(t.oid))), '; ' ORDER BY t.tgname) \
        FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid \
        WHERE t.tgrelid = c.oid AND t.tgname LIKE 'backout\\_capture\\_%') \
    FROM unnest($1::text[]) WITH ORDINALITY w(name, n) LEFT JOIN pg_catalog.pg_class c \
    ON c.relname = w.name AND c.relnamespace = $2::text::regnamespace ORDER BY w.n";

/// `CREATE TRIGGER … ENABLE ALWAYS`, whether it is there or not, without the lock that dropping takes.
fn trigger(version: i32, name: &str, when: &str, table: &str, level: &str, function: &str) -> String {
    let create = if version >= 140_000 {
        "CREATE OR REPLACE TRIGGER".to_owned()
    } else {
        format!("DROP TRIGGER IF EXISTS {name} ON {table}; CREATE TRIGGER")
    };
    format!(
        "{create} {name} {when} ON {table} FOR EACH {level} EXECUTE FUNCTION {function}; \
         ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};"
    )
}

fn key_columns(table: &Table) -> Vec<&Column> {
    table.key.iter().map(|&c| &table.columns[c]).collect()
}

impl Postgres {
    fn looks(&mut self, tables: &[&Table]) -> Result<Vec<Look>> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let home = quoted(&self.home);
        let lines = self.query("looking at the tables", LOOK, &[&names, &home])?;
        let look = |l: &postgres::Row| Look {
            oid: l.get(1),
            columns: l.get(2),
            rewritten: l.get(3),
            parts: l.get(4),
            triggers: l.get(5),
        };
        Ok(lines.iter().map(look).collect())
    }

    /// Which incarnation of which database this is.
    fn incarnation(&mut self) -> Result<String> {
        let sql = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'), pg_is_in_recovery(), \
            (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database())";
        let lines = self.query("asking which server this is", sql, &[])?;
        let Some(line) = lines.first() else { return Ok(String::new()) };
        let (may, standby, database): (bool, bool, String) = (line.get(0), line.get(1), line.get(2));
        let system = if may { "(SELECT system_identifier::text FROM pg_catalog.pg_control_system())" } else { "'?'" };
        let timeline = if standby { "'?'" } else { "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)" };
        let lines = self.query("asking which server this is", &format!("SELECT {system}, {timeline}"), &[])?;
        let line = lines.first().map(|l| (l.get::<_, String>(0), l.get::<_, String>(1))).unwrap_or_default();
        Ok(format!("{} {database} {}", line.0, line.1))
    }

    fn position(&mut self, nonce: Option<&str>) -> Result<Position> {
        let incarnation = self.incarnation()?;
        let lines = self.query("taking a snapshot", "SELECT pg_current_snapshot()::text", &[])?;
        let snapshot: String = lines.first().map(|l| l.get(0)).unwrap_or_default();
        Ok(Position(json!({ "incarnation": incarnation, "snapshot": snapshot, "nonce": nonce })))
    }

    /// The snapshot in a position, as an SQL literal.
    fn snapshot(&self, position: &Position) -> Result<String> {
        let text = position.0.get("snapshot").and_then(|s| s.as_str());
        text.map(literal).ok_or_else(|| self.broken("this position was not taken in a PostgreSQL database", false))
    }

    /// Takes all the locks that putting triggers on needs at once, in short attempts.
    fn grab(&mut self, operation: &str, tables: &[&Table], mode: &str) -> Result<()> {
        let sql = self.lock_sql(tables, mode);
        if sql.is_empty() { Ok(()) } else { self.ddl(operation, tables, sql.trim_end_matches(';')) }
    }

    /// The table's partitions, and the table: TRUNCATE of one fires only its own triggers.
    fn parts(&mut self, table: &Table) -> Result<Vec<String>> {
        let sql = "SELECT relid::regclass::text FROM pg_catalog.pg_partition_tree($1::text::regclass)";
        let name = self.name(table);
        let lines = self.query(&format!("looking for partitions of {}", table.name), sql, &[&name])?;
        let parts: Vec<String> = lines.iter().map(|l| l.get(0)).collect();
        Ok(if parts.is_empty() { vec![name] } else { parts })
    }

    pub(super) fn start_capture(&mut self, tables: &[&Table], run: &str) -> Result<Position> {
        self.mark_session(run)?;
        self.grab("turning capture on", tables, "SHARE ROW EXCLUSIVE")?;
        // Nobody who writes these tables is under way now. A writer with an older snapshot may still see that a log was full, but
        // his trigger asks for this generation.
        let generation = uuid::Uuid::new_v4().simple().to_string();
        let full = self.full()?;
        self.run("turning capture on", "DELETE FROM backout.overflow")?;
        for (n, table) in tables.iter().enumerate() {
            let operation = format!("noting changes of {}", table.name);
            let mut sql = self.log_sql(n, table)?;
            if full && sql.is_empty() {
                sql = format!("DELETE FROM backout.log_{n}");
            }
            self.run(&operation, &sql)?;
            let last = self.last_block(n)?;
            let deferred = self.may_share_keys(table)?;
            let mut sql = capture_function(n, table, run, &generation, last, deferred);
            let name = self.name(table);
            let function = format!("backout.capture_{n}()");
            sql.push_str(&trigger(self.version, ROW, "AFTER INSERT OR UPDATE OR DELETE", &name, "ROW", &function));
            for part in self.parts(table)? {
                sql.push_str(&trigger(self.version, TRUNCATE, "BEFORE TRUNCATE", &part, "STATEMENT", &function));
            }
            self.run(&operation, &sql)?;
        }
        let incarnation = self.incarnation()?;
        self.run("remembering the tables", "DELETE FROM backout.meta")?;
        let looks = self.looks(tables)?;
        for (n, (table, l)) in tables.iter().zip(&looks).enumerate() {
            let sql = "INSERT INTO backout.meta (tbl, name, incarnation, oid, columns, rewritten, parts, triggers) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            self.execute(
                "remembering the tables",
                sql,
                &[&(n as i32), &table.name, &incarnation, &l.oid, &l.columns, &l.rewritten, &l.parts, &l.triggers],
            )?;
        }
        let position = self.position(None)?;
        self.put_mark(position)
    }

    /// The log's table, made anew unless one of the same shape is there.
    fn log_sql(&mut self, n: usize, table: &Table) -> Result<String> {
        let mut shape: Vec<String> =
            ["xid xid8", "lsn pg_lsn", "op \"char\"", "heap oid", "was tid", "now tid"].map(String::from).into();
        // Of the columns as they are, not as they were planned: a type is given by its name in the catalog.
        let sql = "SELECT format_type(a.atttypid, a.atttypmod) FROM unnest($1::text[]) WITH ORDINALITY k(name, n) \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = $2::text::regclass AND a.attname = k.name ORDER BY k.n";
        let lines = self.query(&format!("looking at {}", table.name), sql, &[&table.key_names(), &self.name(table)])?;
        for letter in ['b', 'a'] {
            for (i, line) in lines.iter().enumerate() {
                let ty: String = line.get(0);
                shape.push(format!("{letter}{i} {ty}"));
            }
        }
        let sql = "SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) \
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
            WHERE s.nspname = 'backout' AND c.relname = $1";
        let there = self.query("looking at the change log", sql, &[&format!("log_{n}")])?;
        if there.first().and_then(|l| l.get::<_, Option<String>>(0)) == Some(shape.join(", ")) {
            return Ok(String::new());
        }
        Ok(format!("DROP TABLE IF EXISTS backout.log_{n}; CREATE TABLE backout.log_{n} ({})", shape.join(", ")))
    }

    /// No unique index is checked at once that keeps two rows from being under one key: a key alone does not say which row then.
    fn may_share_keys(&mut self, table: &Table) -> Result<bool> {
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1::text::regclass \
            AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
            AND NOT EXISTS (SELECT FROM unnest(i.indkey) WITH ORDINALITY k(n, o) JOIN pg_catalog.pg_attribute a \
                ON a.attrelid = i.indrelid AND a.attnum = k.n \
                WHERE k.o <= i.indnkeyatts AND NOT (a.attnotnull AND a.attname = ANY ($2))))";
        let (name, keys) = (self.name(table), table.key_names());
        let lines = self.query(&format!("looking at the key of {}", table.name), sql, &[&name, &keys])?;
        Ok(lines.first().is_none_or(|l| l.get(0)))
    }

    /// The block of a log past which it is full. Entries are counted by the room they take, a hundred to a block: no other count
    /// is free for a trigger. What a full log held is deleted and not yet vacuumed, so it is counted from its present end.
    fn last_block(&mut self, n: usize) -> Result<u64> {
        let sql = "SELECT pg_catalog.pg_relation_size($1::text::regclass) / current_setting('block_size')::int8";
        let lines = self.query("looking how long the change log is", sql, &[&format!("backout.log_{n}")])?;
        let there = lines.first().map_or(0, |l| l.get::<_, i64>(0)).unsigned_abs();
        Ok((there + (self.log_limit / 100).max(1)).min(u64::from(u32::MAX) - 1))
    }

    /// A log is as long as it may be: what was written since is not in it.
    pub(super) fn full(&mut self) -> Result<bool> {
        if !self.has("overflow")? {
            return Ok(false);
        }
        let lines = self.query("looking how long the change log is", "SELECT EXISTS (TABLE backout.overflow)", &[])?;
        Ok(lines.first().is_some_and(|l| l.get(0)))
    }

    pub(super) fn stop_capture(&mut self, tables: &[&Table]) -> Result<()> {
        self.switch_off("turning capture off", tables, &[ROW, TRUNCATE])
    }

    /// Disables triggers of ours: dropping them would wait for every reader. `close` drops them.
    fn switch_off(&mut self, operation: &str, tables: &[&Table], names: &[&str]) -> Result<()> {
        let sql = "SELECT DISTINCT format('ALTER TABLE %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname) \
            FROM unnest($1::text[]) w(name) JOIN pg_catalog.pg_class c ON c.relname = w.name \
            AND c.relnamespace = $2::text::regnamespace \
            CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)) p \
            JOIN pg_catalog.pg_trigger t ON t.tgrelid = p.relid \
            WHERE t.tgname = ANY($3) AND t.tgenabled <> 'D' AND t.tgparentid = 0 ORDER BY 1";
        self.each_trigger(operation, tables, names, sql, "SHARE ROW EXCLUSIVE")
    }

    fn each_trigger(
        &mut self,
        operation: &str,
        tables: &[&Table],
        names: &[&str],
        sql: &str,
        mode: &str,
    ) -> Result<()> {
        let all: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let home = quoted(&self.home);
        let lines = self.query(operation, sql, &[&all, &home, &names])?;
        if lines.is_empty() {
            return Ok(());
        }
        let statements: Vec<String> = lines.iter().map(|l| l.get(0)).collect();
        let there = self.present(tables)?;
        self.grab(operation, &there, mode)?;
        self.ddl(operation, &there, &statements.join(";"))
    }

    /// Those of the tables that are there.
    pub(super) fn present<'t>(&mut self, tables: &[&'t Table]) -> Result<Vec<&'t Table>> {
        let looks = self.looks(tables)?;
        Ok(tables.iter().zip(looks).filter(|(_, l)| l.oid.is_some()).map(|(t, _)| *t).collect())
    }

    pub(super) fn drop_triggers(&mut self, tables: &[&Table]) -> Result<()> {
        let sql = "SELECT DISTINCT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) \
            FROM unnest($1::text[]) w(name) JOIN pg_catalog.pg_class c ON c.relname = w.name \
            AND c.relnamespace = $2::text::regnamespace \
            CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)) p \
            JOIN pg_catalog.pg_trigger t ON t.tgrelid = p.relid \
            WHERE t.tgname = ANY($3) AND t.tgparentid = 0 ORDER BY 1";
        self.each_trigger(
            "dropping our triggers",
            tables,
            &[ROW, TRUNCATE, SEAL_ROW, SEAL_TRUNCATE],
            sql,
            "ACCESS EXCLUSIVE",
        )
    }

    /// Drops the logs and the functions that write them, with their triggers on tables moved elsewhere. A seal on a table that
    /// was not named stays, and its function with it.
    pub(super) fn drop_logs(&mut self) -> Result<()> {
        let sql = "SELECT s FROM ( \
            SELECT 1, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) FROM pg_catalog.pg_trigger t \
                JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace \
                WHERE n.nspname = 'backout' AND t.tgparentid = 0 AND f.proname <> 'refuse' \
            UNION ALL SELECT 2, format('DROP FUNCTION backout.%I()', f.proname) FROM pg_catalog.pg_proc f \
                JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace \
                WHERE n.nspname = 'backout' AND (f.proname ~ '^capture_[0-9]+$' OR f.proname = 'refuse' \
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid = f.oid)) \
            UNION ALL SELECT 3, format('DROP TABLE backout.%I', c.relname) FROM pg_catalog.pg_class c \
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = 'backout' AND c.relname ~ '^log_[0-9]+$' AND c.relkind = 'r') x(o, s) ORDER BY o, s";
        let lines = self.query("dropping the change log", sql, &[])?;
        let statements: Vec<String> = lines.iter().map(|l| l.get(0)).collect();
        if statements.is_empty() { Ok(()) } else { self.ddl("dropping the change log", &[], &statements.join(";")) }
    }

    pub(super) fn look_at(&mut self, tables: &[&Table]) -> Result<()> {
        if !self.has("meta")? {
            return Err(self.broken("changes are not being noted here", false));
        }
        let sql = "SELECT name, incarnation, oid, columns, rewritten, parts, triggers FROM backout.meta ORDER BY tbl";
        let known = self.query("looking at the tables", sql, &[])?;
        let incarnation = self.incarnation()?;
        let looks = self.looks(tables)?;
        for (table, now) in tables.iter().zip(&looks) {
            let name = &table.name;
            let Some(then) = known.iter().find(|l| l.get::<_, &str>(0) == name) else {
                return Err(self.broken(format!("changes of {name} are not being noted"), false));
            };
            let then_is = |at: usize, now: &Option<String>| then.get::<_, Option<String>>(at) == *now;
            if now.oid.is_none() {
                return Err(self.broken(format!("table {name} is gone"), true));
            }
            if !then_is(3, &now.columns) {
                return Err(self.broken(format!("the columns of {name} were changed"), true));
            }
            if then.get::<_, &str>(1) != incarnation {
                return Err(self.rewound(ANOTHER));
            }
            let cause = if !then_is(2, &now.oid) {
                "was made anew"
            } else if !then_is(4, &now.rewritten) {
                "had a column redefined or rewritten"
            } else if !then_is(5, &now.parts) {
                "had a partition attached or detached"
            } else if !then_is(6, &now.triggers) {
                "had our triggers dropped, disabled or replaced"
            } else {
                continue;
            };
            return Err(self.broken(format!("{name} {cause}"), false));
        }
        Ok(())
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
            let sql = format!(
                "SELECT op::pg_catalog.text, heap, was, now, {}, {} FROM backout.log_{n} \
                 WHERE NOT pg_catalog.pg_visible_in_snapshot(xid, {snapshot}) ORDER BY lsn",
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

    pub(super) fn put_seal(&mut self, tables: &[&Table], run: &str) -> Result<()> {
        self.mark_session(run)?;
        self.grab("sealing", tables, "SHARE ROW EXCLUSIVE")?;
        let mut sql = String::from(REFUSE);
        let function = format!("backout.refuse({})", literal(run));
        for table in tables {
            let name = self.name(table);
            let row = "BEFORE INSERT OR UPDATE OR DELETE";
            sql.push_str(&trigger(self.version, SEAL_ROW, row, &name, "ROW", &function));
            for part in self.parts(table)? {
                sql.push_str(&trigger(self.version, SEAL_TRUNCATE, "BEFORE TRUNCATE", &part, "STATEMENT", &function));
            }
        }
        self.run("sealing", &sql)
    }

    /// Seals tables that are still to be filled, by a trigger for each statement: one for each row would slow COPY down, for us
    /// too. Nothing without a run. `put_seal` makes it a whole one.
    pub(super) fn seal_unfilled(&mut self, tables: &[&Table]) -> Result<()> {
        let run =
            if self.has("run")? { self.query("sealing", "SELECT run FROM backout.run", &[])? } else { Vec::new() };
        let Some(run) = run.first().map(|l| l.get::<_, String>(0)) else { return Ok(()) };
        let mut sql = String::from(REFUSE);
        let function = format!("backout.refuse({})", literal(&run));
        for table in tables {
            let when = "BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE";
            sql.push_str(&trigger(self.version, SEAL_TRUNCATE, when, &self.name(table), "STATEMENT", &function));
        }
        self.run("sealing", &sql)
    }

    pub(super) fn lift_seal(&mut self, tables: &[&Table]) -> Result<()> {
        self.switch_off("unsealing", tables, &[SEAL_ROW, SEAL_TRUNCATE])?;
        // an ENABLE TRIGGER USER of somebody else's must not seal the table again
        let made = self.query("unsealing", "SELECT to_regprocedure('backout.refuse()') IS NOT NULL", &[])?;
        if made.first().is_some_and(|l| l.get(0)) { self.run("unsealing", PERMIT) } else { Ok(()) }
    }
}

/// Every name in it is qualified and every operator too, for it runs with our rights under the search_path of others.
const REFUSE: &str = "CREATE OR REPLACE FUNCTION backout.refuse() RETURNS trigger LANGUAGE plpgsql AS $backout$
BEGIN
    IF COALESCE(pg_catalog.current_setting('backout.session', true), '') OPERATOR(pg_catalog.=) TG_ARGV[0] THEN
        IF TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN RETURN NULL; END IF;
        IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = '25006',
        MESSAGE = pg_catalog.format('backout: table %I is resting, its data lives in another store now', TG_TABLE_NAME),
        HINT = 'Point this program at the store that is live (backout status tells), or take the migration back with: backout rollback';
END $backout$;";

/// What the seal's function does where there is no seal.
const PERMIT: &str = "CREATE OR REPLACE FUNCTION backout.refuse() RETURNS trigger LANGUAGE plpgsql AS $backout$
BEGIN
    IF TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN RETURN NULL; END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $backout$;";

/// Every hundred blocks: among the entries in them, updates of one row are merged into the newest (P17). Whoever sees the older ones gone
/// sees that one. Should it fail, the application's write does not.
fn merging(n: usize, keys: usize) -> String {
    let names = |letter: char| (0..keys).map(|i| format!("{letter}{i}")).collect::<Vec<_>>().join(", ");
    format!(
        "IF place::pg_catalog.text OPERATOR(pg_catalog.~~) '%00,1)'
    AND pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed' THEN BEGIN
        since := pg_catalog.format('(%s,0)', pg_catalog.split_part(pg_catalog.ltrim(place::pg_catalog.text, '('), ',', 1)::pg_catalog.int8
            OPERATOR(pg_catalog.-) 100);
        IF since OPERATOR(pg_catalog.~~) '(-%' THEN since := '(0,0)'; END IF;
        DELETE FROM backout.log_{n} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY (
            SELECT l.ctid FROM backout.log_{n} l WHERE l.ctid OPERATOR(pg_catalog.=) ANY (ARRAY (
                SELECT w.at FROM (SELECT e.ctid AS at, pg_catalog.row_number() OVER (PARTITION BY {b} ORDER BY e.lsn DESC) AS nth
                    FROM backout.log_{n} e WHERE e.ctid OPERATOR(pg_catalog.>=) since::pg_catalog.tid
                    AND e.ctid OPERATOR(pg_catalog.<=) place AND e.op OPERATOR(pg_catalog.=) 'U'
                    AND pg_catalog.record_image_eq(ROW({b}), ROW({a}))) w WHERE w.nth OPERATOR(pg_catalog.>) 1))
            FOR UPDATE SKIP LOCKED));
    EXCEPTION WHEN OTHERS THEN NULL; END; END IF;",
        b = names('b'),
        a = names('a')
    )
}

/// Past the end of the log a session writes one entry more, learns that the log is full, and from then on passes by: asking before
/// each entry would cost every write.
fn capture_function(n: usize, table: &Table, run: &str, generation: &str, last_block: u64, deferred: bool) -> String {
    let keys = table.key_names();
    let names = |letter: char| (0..keys.len()).map(|i| format!(", {letter}{i}")).collect::<String>();
    let values = |row: &str| keys.iter().map(|k| format!(", {row}.{}", quoted(k))).collect::<String>();
    let full = format!("tbl OPERATOR(pg_catalog.=) {n} AND generation OPERATOR(pg_catalog.=) '{generation}'");
    let insert = |op: char, places: &[(&str, &str)], names: &str, values: &str| {
        let (mut at, mut is_at) = (String::new(), String::new());
        if deferred && !places.is_empty() {
            (at, is_at) = (", heap".into(), ", pg_catalog.pg_relation_filenode(TG_RELID)".into());
            for (name, row) in places {
                (at, is_at) = (format!("{at}, {name}"), format!("{is_at}, {row}.ctid"));
            }
        }
        format!(
            "INSERT INTO backout.log_{n} (xid, lsn, op{at}{names}) SELECT pg_catalog.pg_current_xact_id(), \
             pg_catalog.pg_current_wal_insert_lsn(), '{op}'{is_at}{values} RETURNING ctid INTO place;"
        )
    };
    let (was, now) = (("was", "OLD"), ("now", "NEW"));
    let both = (format!("{}{}", names('b'), names('a')), format!("{}{}", values("OLD"), values("NEW")));
    format!(
        "CREATE OR REPLACE FUNCTION backout.capture_{n}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $backout$
DECLARE place pg_catalog.tid; since pg_catalog.text;
BEGIN
    IF COALESCE(pg_catalog.current_setting('backout.session', true), '') OPERATOR(pg_catalog.=) {run}
    OR pg_catalog.current_setting('backout.full_{n}', true) OPERATOR(pg_catalog.=) '{generation}' THEN RETURN NULL;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN {update}
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN {inserted}
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN {deleted}
    ELSE {truncated}
    END IF;
    IF place OPERATOR(pg_catalog.>) '({last_block},0)'::pg_catalog.tid THEN
        IF EXISTS (SELECT FROM backout.overflow WHERE {full}) THEN
            DELETE FROM backout.log_{n} WHERE ctid OPERATOR(pg_catalog.=) place;
        ELSE
            INSERT INTO backout.overflow (tbl, generation) VALUES ({n}, '{generation}');
        END IF;
        PERFORM pg_catalog.set_config('backout.full_{n}', '{generation}', false);
    END IF;
    {merging}
    RETURN NULL;
END $backout$;",
        run = literal(run),
        // where rows may share keys, how each changed places is told by every entry
        merging = if deferred { String::new() } else { merging(n, keys.len()) },
        update = insert('U', &[was, now], &both.0, &both.1),
        inserted = insert('I', &[now], &names('a'), &values("NEW")),
        deleted = insert('D', &[was], &names('b'), &values("OLD")),
        truncated = insert('T', &[], "", ""),
    )
}
