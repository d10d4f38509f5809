//! Databases: the one that Backout works on, and the model, which is one that it never sees.

use rusqlite::Connection;

use super::shape::{Lit, NULL, Shape, Table, quoted};

pub struct Base(pub Connection);

/// Of each table all rows, in order.
pub type Rows = Vec<Vec<Vec<Lit>>>;

impl Base {
    /// Runs one statement or several; how many rows the last one changed.
    pub fn run(&mut self, sql: &str) -> Result<u64, String> {
        self.0.execute_batch(sql).map_err(|e| e.to_string())?;
        Ok(self.0.changes())
    }

    /// Rows of text.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let mut s = self.0.prepare(sql).map_err(|e| e.to_string())?;
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

    /// All rows of a table, each value as SQL says it; in the model with what is hidden.
    pub fn rows_of(&mut self, t: &Table, twin: bool) -> Vec<Vec<Lit>> {
        let mut columns: Vec<String> = (0..t.columns.len()).map(|i| format!("quote({})", t.col(i))).collect();
        if twin {
            columns.extend(t.hidden.iter().map(|h| format!("quote({})", quoted(&h.name))));
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
        self.ask(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT GLOB 'backout_*' AND name <> 'migration_log' \
             AND tbl_name NOT GLOB 'backout_*' ORDER BY rowid",
        )
        .unwrap()
    }

    /// The database itself finds nothing wrong.
    pub fn is_sound(&mut self) {
        assert_eq!(self.ask("PRAGMA integrity_check").unwrap(), [["ok"]]);
        assert_eq!(self.ask("PRAGMA foreign_key_check").unwrap(), [[""; 0]; 0]);
    }

    /// Rows are put there whatever else is.
    pub fn fill(&mut self, shape: &Shape, rows: &Rows) {
        let mut sql = "PRAGMA foreign_keys = OFF; BEGIN;".to_owned();
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
        sql += "COMMIT; PRAGMA foreign_keys = ON;";
        self.run(&sql).unwrap_or_else(|e| panic!("the model does not take its rows: {e}\n{sql}"));
    }
}
