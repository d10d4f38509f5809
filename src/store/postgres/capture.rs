//! Change capture put up and looked after, and seals. What the triggers are is in `triggers`, what they wrote in `log`.

use super::log::ANOTHER;
use super::triggers::{PERMIT, REFUSE, ROW, SEAL_ROW, SEAL_TRUNCATE, TRUNCATE, capture_function, trigger};
use super::{Postgres, literal, quoted};
use crate::plan::Table;
use crate::store::{Mode, Position, Result};

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
    ON c.relname = w.name AND c.relnamespace = pg_catalog.to_regnamespace($2::text) ORDER BY w.n";

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

    pub(super) fn stop_capture(&mut self, tables: &[&Table]) -> Result<()> {
        self.switch_off("turning capture off", tables, &[ROW, TRUNCATE])
    }

    /// Disables triggers of ours: dropping them would wait for every reader. `close` drops them.
    fn switch_off(&mut self, operation: &str, tables: &[&Table], names: &[&str]) -> Result<()> {
        let sql = "SELECT DISTINCT format('ALTER TABLE %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname) \
            FROM unnest($1::text[]) w(name) JOIN pg_catalog.pg_class c ON c.relname = w.name \
            AND c.relnamespace = pg_catalog.to_regnamespace($2::text) \
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
        self.remove_triggers("dropping our triggers", tables, &[ROW, TRUNCATE, SEAL_ROW, SEAL_TRUNCATE])
    }

    fn remove_triggers(&mut self, operation: &str, tables: &[&Table], names: &[&str]) -> Result<()> {
        let sql = "SELECT DISTINCT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) \
            FROM unnest($1::text[]) w(name) JOIN pg_catalog.pg_class c ON c.relname = w.name \
            AND c.relnamespace = pg_catalog.to_regnamespace($2::text) \
            CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)) p \
            JOIN pg_catalog.pg_trigger t ON t.tgrelid = p.relid \
            WHERE t.tgname = ANY($3) AND t.tgparentid = 0 ORDER BY 1";
        self.each_trigger(operation, tables, names, sql, "ACCESS EXCLUSIVE")
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
        // with both sides here the other one's seal is by the same function; under the locks of a swap dropping waits for nobody
        if self.open == Some(Mode::Swap) {
            return self.remove_triggers("unsealing", tables, &[SEAL_ROW, SEAL_TRUNCATE]);
        }
        self.switch_off("unsealing", tables, &[SEAL_ROW, SEAL_TRUNCATE])?;
        if self.side.is_some() {
            return Ok(());
        }
        // an ENABLE TRIGGER USER of somebody else's must not seal the table again
        let made = self.query("unsealing", "SELECT to_regprocedure('backout.refuse()') IS NOT NULL", &[])?;
        if made.first().is_some_and(|l| l.get(0)) { self.run("unsealing", PERMIT) } else { Ok(()) }
    }
}
