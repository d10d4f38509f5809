//! Tables as DDL: made with their key at once, as SQLite cannot add it later; dropped; put out of the way.

use super::rows::list;
use super::schema::is_alias;
use super::text::{self, quote};
use super::{Sqlite, triggers};
use crate::plan::{Column, Table};
use crate::store::Result;

/// The statement that makes a table.
fn create_sql(table: &Table) -> String {
    if let Some(sql) = &table.details.sql {
        let parents: Vec<&str> = table.foreign_keys.iter().map(|f| f.table.as_str()).collect();
        return text::renamed(sql, &table.name, &parents);
    }
    let single = if let [only] = table.key.as_slice() { Some(*only) } else { None };
    let in_line = |i: usize| single == Some(i) && is_alias(table);
    let mut parts: Vec<String> =
        table.columns.iter().enumerate().map(|(i, c)| column_sql(c, in_line(i), table.details.autoincrement)).collect();
    // the last first, so that the places of the others stay
    for g in table.generated.iter().rev() {
        if let Some(expression) = &g.expression {
            let sql = format!("{} {} GENERATED ALWAYS AS ({expression}) {}", quote(&g.name), g.ty, g.kept());
            parts.insert(g.place.min(table.columns.len()), sql);
        }
    }
    for lone in table.alone.iter().rev() {
        parts.insert(lone.place.min(table.columns.len()), column_sql(&lone.column, false, false));
    }
    let named = |name: &Option<String>| name.as_ref().map_or(String::new(), |n| format!("CONSTRAINT {} ", quote(n)));
    if !table.key.is_empty() && !is_alias(table) {
        parts.push(format!("{}PRIMARY KEY ({})", named(&table.key_name), list(table.key_names())));
    }
    for check in &table.checks {
        let whole = text::tokens(check).first().is_some_and(|t| t.is("CHECK") || t.is("CONSTRAINT"));
        parts.push(if whole { check.clone() } else { format!("CHECK ({check})") });
    }
    for fk in &table.foreign_keys {
        let own = |names: &[String]| list(names.iter().map(String::as_str));
        let mut sql = format!("{}FOREIGN KEY ({}) REFERENCES {}", named(&fk.name), own(&fk.columns), quote(&fk.table));
        if !fk.references.is_empty() {
            sql += &format!(" ({})", own(&fk.references));
        }
        for (event, action) in [("DELETE", &fk.on_delete), ("UPDATE", &fk.on_update)] {
            if !action.is_empty() && !action.eq_ignore_ascii_case("NO ACTION") {
                sql += &format!(" ON {event} {action}");
            }
        }
        if fk.deferred {
            sql += " DEFERRABLE INITIALLY DEFERRED";
        }
        parts.push(sql);
    }
    let options: Vec<&str> = [(table.details.without_rowid, "WITHOUT ROWID"), (table.details.strict, "STRICT")]
        .into_iter()
        .filter_map(|(on, option)| on.then_some(option))
        .collect();
    let sql = format!("CREATE TABLE {} (\n    {}\n) {}", quote(&table.name), parts.join(",\n    "), options.join(", "));
    sql.trim_end().to_owned()
}

fn column_sql(column: &Column, alias: bool, autoincrement: bool) -> String {
    let mut sql = quote(&column.name);
    if alias {
        sql += if autoincrement { " INTEGER PRIMARY KEY AUTOINCREMENT" } else { " INTEGER PRIMARY KEY" };
        return sql;
    }
    if !column.ty.is_empty() {
        sql += &format!(" {}", column.ty);
    }
    if column.not_null {
        sql += " NOT NULL";
    }
    if let Some(default) = &column.default {
        sql += &format!(" DEFAULT {}", text::default_expression(default));
    }
    if let Some(collation) = &column.collation {
        sql += &format!(" COLLATE {}", quote(collation));
    }
    sql
}

impl Sqlite {
    pub(super) fn create_tables(&mut self, tables: &[&Table]) -> Result<()> {
        self.ddl()?;
        for table in tables {
            if self.has(&table.name)? {
                return Err(self.refused(
                    format!("there is a {} already", table.name),
                    "rename or drop it, or choose another target",
                ));
            }
            self.run(&format!("create table {}", table.name), &create_sql(table))?;
        }
        Ok(())
    }

    pub(super) fn create_indexes(&mut self, tables: &[&Table]) -> Result<()> {
        self.ddl()?;
        for table in tables {
            let worded = table.details.sql.is_some();
            let made_here = |i: &&crate::plan::Index| {
                // what has no name came with the text of the table
                if worded && i.name.is_none() { false } else { !i.expression || i.definition.is_some() }
            };
            for index in table.indexes.iter().filter(made_here) {
                let columns: Vec<&str> = index.columns.iter().map(|c| c.name.as_str()).collect();
                let mut name =
                    index.name.clone().unwrap_or_else(|| format!("{}_{}_unique", table.name, columns.join("_")));
                if let Some(on) = self.owner(&name)? {
                    if on.eq_ignore_ascii_case(&table.name) && !name.eq_ignore_ascii_case(&table.name) {
                        continue;
                    }
                    // names of indexes are one space with all tables of the file
                    name = format!("{name}_{}", table.name);
                    if self.has(&name)? {
                        continue;
                    }
                }
                let parts: Vec<String> = index
                    .columns
                    .iter()
                    .map(|c| {
                        let collation =
                            c.collation.as_ref().map_or(String::new(), |n| format!(" COLLATE {}", quote(n)));
                        format!("{}{collation}{}", quote(&c.name), if c.descending { " DESC" } else { "" })
                    })
                    .collect();
                let unique = if index.unique { "UNIQUE " } else { "" };
                let only = index.predicate.as_ref().map_or(String::new(), |p| format!(" WHERE {p}"));
                let made = || {
                    let columns = parts.join(", ");
                    format!("CREATE {unique}INDEX {} ON {} ({columns}){only}", quote(&name), quote(&table.name))
                };
                let worded = index.definition.as_deref();
                let sql = worded.and_then(|d| text::index_renamed(d, &name, &table.name)).unwrap_or_else(made);
                self.run(&format!("create index {name} on {}", table.name), &sql)?;
            }
        }
        Ok(())
    }

    /// The table that an object of this name belongs to.
    fn owner(&self, name: &str) -> Result<Option<String>> {
        let sql = "SELECT tbl_name FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
        Ok(self.all("look for an index", sql, [name], |r| r.get(0))?.into_iter().next())
    }

    pub(super) fn remove_tables(&mut self, tables: &[&Table]) -> Result<()> {
        self.ddl()?;
        for table in tables {
            let sql = format!("DROP TABLE IF EXISTS {}", quote(&table.name));
            self.run(&format!("drop table {}", table.name), &sql)?;
        }
        Ok(())
    }

    /// Renames the tables. What others made upon them goes by name, not with the table: views and triggers elsewhere keep
    /// their text (a rename would rewrite them, and a broken one would stop it), so they are taken out and put back.
    pub(super) fn keep_tables(&mut self, tables: &[&Table], run: &str) -> Result<String> {
        self.ddl()?;
        self.remove_triggers(tables, triggers::CAPTURE)?;
        self.remove_triggers(tables, triggers::SEAL)?;
        let ours = |name: &str| tables.iter().any(|t| t.name.eq_ignore_ascii_case(name));
        let objects = self.all(
            "list views and triggers",
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid",
            [],
            |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get::<_, String>(3)?)),
        )?;
        let (mut back, mut views) = (Vec::new(), Vec::new());
        for (kind, name, on, sql) in objects {
            match kind.as_str() {
                "trigger" => {
                    self.run(&format!("drop trigger {name}"), &format!("DROP TRIGGER {}", quote(&name)))?;
                    if !ours(&on) {
                        back.push((name, sql));
                    }
                }
                "view" => views.push((name, sql)),
                "index" if ours(&on) => {
                    self.run(&format!("drop index {name}"), &format!("DROP INDEX {}", quote(&name)))?
                }
                _ => {}
            }
        }
        for (name, _) in &views {
            self.run(&format!("drop view {name}"), &format!("DROP VIEW {}", quote(name)))?;
        }
        let mut kept = Vec::new();
        for table in tables {
            if !self.has(&table.name)? {
                continue;
            }
            let name = format!("backout_kept_{run}__{}", table.name);
            let sql = format!("ALTER TABLE {} RENAME TO {}", quote(&table.name), quote(&name));
            self.run(&format!("move {} aside", table.name), &sql)?;
            kept.push(name);
        }
        // views first: a trigger may be on one
        for (name, sql) in views.iter().chain(&back) {
            self.run(&format!("put {name} back"), sql)?;
        }
        Ok(if kept.is_empty() {
            format!("nothing was kept in {}", self.title)
        } else {
            format!("the tables are kept in {} as {}", self.title, kept.join(", "))
        })
    }

    pub(super) fn highest(&self, table: &Table) -> Result<Option<i64>> {
        if !is_alias(table) {
            return Ok(None);
        }
        let op = format!("read the highest key of {}", table.name);
        let sql = format!("SELECT max({}) FROM {}", list(table.key_names()), quote(&table.name));
        let mut high: Option<i64> = self.conn.query_row(&sql, [], |r| r.get(0)).map_err(self.err(&op))?;
        if table.details.autoincrement && self.has("sqlite_sequence")? {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1 COLLATE NOCASE";
            let given: Vec<Option<i64>> = self.all(&op, sql, [&table.name], |r| r.get(0))?;
            high = high.max(given.into_iter().flatten().max());
        }
        Ok(high)
    }

    /// A plain alias goes on after its greatest row by itself.
    pub(super) fn raise(&self, table: &Table, mark: Option<i64>) -> Result<()> {
        let Some(to) = self.highest(table)?.max(mark) else { return Ok(()) };
        if !is_alias(table) || !table.details.autoincrement {
            return Ok(());
        }
        let put = || {
            let n = self.conn.execute(
                "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1 COLLATE NOCASE",
                rusqlite::params![table.name, to],
            )?;
            if n == 0 {
                self.conn.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)",
                    rusqlite::params![table.name, to],
                )?;
            }
            Ok(())
        };
        put().map_err(self.err(&format!("set the sequence of {}", table.name)))
    }
}
