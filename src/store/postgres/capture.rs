//! Change capture put up and looked after, and seals. What the triggers are is in `triggers`, what they wrote in `log`.

use postgres::types::ToSql;

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

/// What there is of a table's log.
struct Log {
    /// The types of the table's key.
    types: Vec<String>,
    /// The log's columns, if it is there.
    shape: Option<String>,
    blocks: u64,
    /// The key alone does not say which row.
    deferred: bool,
}

impl Log {
    fn wanted(&self) -> String {
        let mut shape: Vec<String> = ["xid xid8", "lsn pg_lsn"].map(String::from).into();
        if self.deferred {
            shape.extend(["heap oid", "was tid", "now tid"].map(String::from));
        }
        for letter in ['b', 'a'] {
            shape.extend(self.types.iter().enumerate().map(|(i, ty)| format!("{letter}{i} {ty}")));
        }
        // the smallest last; every byte and column costs the application
        shape.push("op \"char\"".into());
        shape.join(", ")
    }

    fn fits(&self) -> bool {
        self.shape.as_ref() == Some(&self.wanted())
    }

    /// Makes the log anew unless one of the same shape is there, which is emptied if it was full.
    fn made_sql(&self, n: usize, full: bool) -> String {
        match (self.fits(), full) {
            (true, true) => format!("DELETE FROM backout.log_{n};"),
            (true, false) => String::new(),
            _ => {
                format!("DROP TABLE IF EXISTS backout.log_{n}; CREATE TABLE backout.log_{n} ({});", self.wanted())
            }
        }
    }
}

/// Of each table $1, its key being the columns $3 of the tables $2 (the first is 1): the types of the key, of the columns as they are and not
/// as they were planned; its log's shape and blocks; and whether no unique index is checked at once that keeps two rows from being
/// under one key.
const LOGS: &str = "
SELECT ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM unnest($2::int8[], $3::text[]) WITH ORDINALITY k(tbl, name, o)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = w.name::regclass AND a.attname = k.name WHERE k.tbl = w.n ORDER BY k.o),
    (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped),
    coalesce(pg_catalog.pg_relation_size(l.oid) / current_setting('block_size')::int8, 0),
    NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = w.name::regclass
        AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND NOT EXISTS (SELECT FROM unnest(i.indkey) WITH ORDINALITY x(n, o) JOIN pg_catalog.pg_attribute a
            ON a.attrelid = i.indrelid AND a.attnum = x.n
            WHERE x.o <= i.indnkeyatts AND NOT (a.attnotnull AND a.attname IN
                (SELECT k.name FROM unnest($2::int8[], $3::text[]) k(tbl, name) WHERE k.tbl = w.n))))
FROM unnest($1::text[]) WITH ORDINALITY w(name, n) LEFT JOIN pg_catalog.pg_class l ON l.relname = 'log_' || w.n - 1
    AND l.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'backout') ORDER BY w.n";

impl Postgres {
    fn looks(&mut self, tables: &[&Table]) -> Result<Vec<Look>> {
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let home = quoted(&self.home);
        let lines = self.ask("looking at the tables", LOOK, &[&names, &home])?;
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

    /// Of each table its partitions, and itself: TRUNCATE of one fires only its own triggers.
    fn parts(&mut self, tables: &[&Table]) -> Result<Vec<Vec<String>>> {
        let sql = "SELECT ARRAY(SELECT relid::regclass::text FROM pg_catalog.pg_partition_tree(w.name::regclass)) \
            FROM unnest($1::text[]) WITH ORDINALITY w(name, n) ORDER BY w.n";
        let names: Vec<String> = tables.iter().map(|t| self.name(t)).collect();
        let lines = self.ask("looking for partitions", sql, &[&names])?;
        let parts = lines.iter().map(|l| l.get::<_, Vec<String>>(0));
        Ok(parts.zip(names).map(|(parts, name)| if parts.is_empty() { vec![name] } else { parts }).collect())
    }

    pub(super) fn start_capture(&mut self, tables: &[&Table], run: &str) -> Result<Position> {
        self.mark_session(run)?;
        self.grab("turning capture on", tables, "SHARE ROW EXCLUSIVE")?;
        // Nobody who writes these tables is under way now. A writer with an older snapshot may still see that a log was full, but
        // his trigger asks for this generation.
        let generation = uuid::Uuid::new_v4().simple().to_string();
        let full = self.full()?;
        let (logs, parts) = (self.logs(tables)?, self.parts(tables)?);
        let mut sql = String::from("DELETE FROM backout.overflow; DELETE FROM backout.meta;");
        for (n, ((table, log), parts)) in tables.iter().zip(logs).zip(parts).enumerate() {
            sql.push_str(&log.made_sql(n, full));
            let last = self.last_block(if log.fits() { log.blocks } else { 0 });
            sql.push_str(&capture_function(n, table, run, &generation, last, log.deferred));
            let function = format!("backout.capture_{n}()");
            let name = self.name(table);
            sql.push_str(&trigger(self.version, ROW, "AFTER INSERT OR UPDATE OR DELETE", &name, "ROW", &function));
            for part in parts {
                sql.push_str(&trigger(self.version, TRUNCATE, "BEFORE TRUNCATE", &part, "STATEMENT", &function));
            }
        }
        self.run("turning capture on", &sql)?;
        let incarnation = self.incarnation()?;
        let looks = self.looks(tables)?;
        let column = |of: fn(&Look) -> &Option<String>| looks.iter().map(|l| of(l).as_deref()).collect::<Vec<_>>();
        let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let (oids, columns, rewritten) = (column(|l| &l.oid), column(|l| &l.columns), column(|l| &l.rewritten));
        let (parts, triggers) = (column(|l| &l.parts), column(|l| &l.triggers));
        let sql = "INSERT INTO backout.meta (tbl, name, incarnation, oid, columns, rewritten, parts, triggers) \
            SELECT u.n - 1, u.name, $1, u.oid, u.columns, u.rewritten, u.parts, u.triggers \
            FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) \
                WITH ORDINALITY u(name, oid, columns, rewritten, parts, triggers, n)";
        let values: [&(dyn ToSql + Sync); 7] = [&incarnation, &names, &oids, &columns, &rewritten, &parts, &triggers];
        self.execute("remembering the tables", sql, &values)?;
        let position = self.position_in(&incarnation, None)?;
        self.put_mark(position)
    }

    /// What the logs of these tables have to be like, and are.
    fn logs(&mut self, tables: &[&Table]) -> Result<Vec<Log>> {
        let names: Vec<String> = tables.iter().map(|t| self.name(t)).collect();
        let keys: Vec<Vec<&str>> = tables.iter().map(|t| t.key_names()).collect();
        let of: Vec<i64> = (1..).zip(&keys).flat_map(|(n, k)| k.iter().map(move |_| n)).collect();
        let lines = self.ask("looking at the change logs", LOGS, &[&names, &of, &keys.concat()])?;
        let log = |l: &postgres::Row| Log {
            types: l.get(0),
            shape: l.get(1),
            blocks: l.get::<_, i64>(2).unsigned_abs(),
            deferred: l.get(3),
        };
        Ok(lines.iter().map(log).collect())
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
        sql: &'static str,
        mode: &str,
    ) -> Result<()> {
        let all: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
        let home = quoted(&self.home);
        let lines = self.ask(operation, sql, &[&all, &home, &names])?;
        if lines.is_empty() {
            return Ok(());
        }
        let statements: Vec<String> = lines.iter().map(|l| l.get(0)).collect();
        if self.open == Some(Mode::Swap) {
            // every lock is had already
            return self.run(operation, &statements.join(";"));
        }
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
        let known = self.ask("looking at the tables", sql, &[])?;
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
        let parts = self.parts(tables)?;
        for (table, parts) in tables.iter().zip(parts) {
            let name = self.name(table);
            let row = "BEFORE INSERT OR UPDATE OR DELETE";
            sql.push_str(&trigger(self.version, SEAL_ROW, row, &name, "ROW", &function));
            for part in parts {
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
