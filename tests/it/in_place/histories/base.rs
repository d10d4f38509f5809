//! Databases: the one that Backout works on, and the model, which is one that it never sees.

use postgres::{Client, SimpleQueryMessage};
use rusqlite::Connection;

use super::shape::{Lit, NULL, Shape, Table, quoted};

pub enum Base {
    Sqlite(Connection),
    Postgres(Client),
}

fn why(e: &postgres::Error) -> String {
    e.as_db_error().map_or_else(|| e.to_string(), ToString::to_string)
}

/// Of each table all rows, in order.
pub type Rows = Vec<Vec<Vec<Lit>>>;

impl Base {
    /// Runs one statement or several; how many rows the last one changed.
    pub fn run(&mut self, sql: &str) -> Result<u64, String> {
        match self {
            Base::Sqlite(c) => {
                c.execute_batch(sql).map_err(|e| e.to_string())?;
                Ok(c.changes())
            }
            Base::Postgres(c) => {
                let done = c.simple_query(sql).map_err(|e| why(&e))?;
                let rows = |m: &SimpleQueryMessage| match m {
                    SimpleQueryMessage::CommandComplete(n) => Some(*n),
                    _ => None,
                };
                Ok(done.iter().rev().find_map(rows).unwrap_or(0))
            }
        }
    }

    /// Rows of text.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let c = match self {
            Base::Sqlite(c) => c,
            Base::Postgres(c) => {
                let all = c.simple_query(sql).map_err(|e| why(&e))?;
                let row = |m: &SimpleQueryMessage| match m {
                    SimpleQueryMessage::Row(r) => {
                        Some((0..r.len()).map(|i| r.get(i).unwrap_or(NULL).to_owned()).collect())
                    }
                    _ => None,
                };
                return Ok(all.iter().filter_map(row).collect());
            }
        };
        let mut s = c.prepare(sql).map_err(|e| e.to_string())?;
        let n = s.column_count();
        let text = |v: rusqlite::types::Value| match v {
            rusqlite::types::Value::Null => NULL.into(),
            rusqlite::types::Value::Integer(i) => i.to_string(),
            rusqlite::types::Value::Real(r) => format!("{r:?}"),
            rusqlite::types::Value::Text(t) => t,
            rusqlite::types::Value::Blob(b) => format!("{b:?}"),
        };
        let rows = s.query_map([], |r| (0..n).map(|i| r.get(i).map(text)).collect()).map_err(|e| e.to_string())?;
        rows.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    /// A column's value as SQL says it.
    pub fn said(&self, column: &str) -> String {
        match self {
            Base::Sqlite(_) => format!("quote({column})"),
            Base::Postgres(_) => format!("quote_nullable({column}::text)"),
        }
    }

    /// All rows of a table, each value as SQL says it; in the model with what is hidden.
    pub fn rows_of(&mut self, t: &Table, twin: bool) -> Vec<Vec<Lit>> {
        let mut columns: Vec<String> = (0..t.columns.len()).map(|i| self.said(&t.col(i))).collect();
        if twin {
            columns.extend(t.hidden.iter().map(|h| self.said(&quoted(&h.name))));
        }
        let sql = format!("SELECT {} FROM {}", columns.join(", "), t.title());
        let mut rows = self.ask(&sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.sort();
        rows
    }

    pub fn rows(&mut self, shape: &Shape, twin: bool) -> Rows {
        shape.tables.iter().map(|t| self.rows_of(t, twin)).collect()
    }

    /// The application's definitions, as the database tells them.
    pub fn schema(&mut self) -> Vec<Vec<String>> {
        let sql = match self {
            Base::Sqlite(_) => {
                "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT GLOB 'backout_*' AND name <> 'migration_log' \
                 AND tbl_name NOT GLOB 'backout_*' ORDER BY rowid"
            }
            Base::Postgres(_) => {
                "SELECT c.relname::text, c.relkind::text, a.attnum::int, a.attname::text, \
                    format_type(a.atttypid, a.atttypmod) || a.attidentity::text || a.attgenerated::text, \
                    a.attnotnull, pg_get_expr(d.adbin, d.adrelid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
                    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relnamespace = 'public'::regnamespace \
                 UNION ALL SELECT conrelid::regclass::text, contype::text, 0, conname, pg_get_constraintdef(oid), convalidated, '' \
                    FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
                 UNION ALL SELECT tgrelid::regclass::text, 't', 0, tgname, pg_get_triggerdef(oid), true, tgenabled::text FROM pg_trigger \
                    WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) \
                 UNION ALL SELECT tablename, 'x', 0, indexname, indexdef, true, '' FROM pg_indexes WHERE schemaname = 'public' \
                 ORDER BY 1, 2, 3, 4, 5"
            }
        };
        self.ask(sql).unwrap()
    }

    /// The database itself finds nothing wrong.
    pub fn is_sound(&mut self) {
        if let Base::Postgres(_) = self {
            return;
        }
        assert_eq!(self.ask("PRAGMA integrity_check").unwrap(), [["ok"]]);
        assert_eq!(self.ask("PRAGMA foreign_key_check").unwrap(), [[""; 0]; 0]);
    }

    /// A model begins anew.
    pub fn empty(&mut self) {
        match self {
            Base::Sqlite(c) => {
                *c = Connection::open_in_memory().unwrap();
                c.execute_batch("PRAGMA foreign_keys = ON").unwrap();
            }
            Base::Postgres(_) => drop(self.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public").unwrap()),
        }
    }

    /// Rows are put there whatever else is.
    pub fn fill(&mut self, shape: &Shape, rows: &Rows) {
        let (off, on) = match self {
            Base::Sqlite(_) => ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
            Base::Postgres(_) => ("SET session_replication_role = replica", "RESET session_replication_role"),
        };
        let mut sql = format!("{off}; BEGIN;");
        for (t, rows) in shape.tables.iter().zip(rows) {
            sql += &format!("DELETE FROM {};", t.title());
            let writable = t.writable();
            let hidden: Vec<String> = t.hidden.iter().map(|h| quoted(&h.name)).collect();
            let names: Vec<String> = writable.iter().map(|i| t.col(*i)).chain(hidden).collect();
            for r in rows {
                let values: Vec<&str> = writable
                    .iter()
                    .map(|i| r[*i].as_str())
                    .chain(r[t.columns.len()..].iter().map(String::as_str))
                    .collect();
                sql += &format!("INSERT INTO {} ({}) VALUES ({});", t.title(), names.join(", "), values.join(", "));
            }
        }
        sql += &format!("COMMIT; {on};");
        self.run(&sql).unwrap_or_else(|e| panic!("the model does not take its rows: {e}\n{sql}"));
    }
}
