//! Tables as DDL: made with their key at once, as SQLite cannot add it later; dropped; put out of the way.

use std::time::{Duration, Instant};

use super::rows::list;
use super::schema::{is_alias, rowid_name};
use super::text::{self, quote};
use super::{Sqlite, owned, triggers};
use crate::plan::{Affinity, Column, Index, IndexColumn, Table};
use crate::store::{Result, Site};
use crate::value::Value;

/// The statement that makes a table.
pub(super) fn create_sql(table: &Table) -> String {
    if let Some(sql) = &table.details.sql {
        let parents: Vec<&str> = table.foreign_keys.iter().map(|f| f.table.as_str()).collect();
        return text::renamed(sql, &table.name, &parents);
    }
    let single = if let [only] = table.key.as_slice() { Some(*only) } else { None };
    let in_line = |i: usize| single == Some(i) && is_alias(table);
    // what the store computes, and what only this side has, stand where they stood among the others
    let mut parts: Vec<String> = Vec::new();
    for place in 0..=table.columns.len() {
        let lone = table.alone.iter().filter(|l| l.place.min(table.columns.len()) == place);
        parts.extend(lone.map(|l| column_sql(&l.column, false, false)));
        for g in table.generated.iter().filter(|g| g.place.min(table.columns.len()) == place) {
            if let Some(expression) = &g.expression {
                parts.push(format!("{} {} GENERATED ALWAYS AS ({expression}) {}", quote(&g.name), g.ty, g.kept()));
            }
        }
        if let Some(c) = table.columns.get(place) {
            parts.push(column_sql(c, in_line(place), table.details.autoincrement));
        }
    }
    let named = |name: &Option<String>| name.as_ref().map_or(String::new(), |n| format!("CONSTRAINT {} ", quote(n)));
    if !table.key.is_empty() && !is_alias(table) {
        parts.push(format!("{}PRIMARY KEY ({})", named(&table.key_name), list(table.key_names())));
    }
    for index in table.indexes.iter().filter(|i| is_constraint(i)) {
        parts.push(format!("UNIQUE ({})", indexed(index)));
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

/// A UNIQUE that SQLite named itself: it is said in the table's own text.
fn is_constraint(index: &Index) -> bool {
    index.unique && index.name.is_none() && index.predicate.is_none() && !index.expression
}

/// The columns of an index.
fn indexed(index: &Index) -> String {
    let one = |c: &IndexColumn| {
        let collation = c.collation.as_ref().map_or(String::new(), |n| format!(" COLLATE {}", quote(n)));
        format!("{}{collation}{}", quote(&c.name), if c.descending { " DESC" } else { "" })
    };
    index.columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The statement that makes an index under this name.
pub(super) fn index_sql(table: &Table, index: &Index, name: &str) -> String {
    let worded = index.definition.as_deref().and_then(|d| text::index_renamed(d, name, &table.name));
    worded.unwrap_or_else(|| {
        let unique = if index.unique { "UNIQUE " } else { "" };
        let only = index.predicate.as_ref().map_or(String::new(), |p| format!(" WHERE {p}"));
        format!("CREATE {unique}INDEX {} ON {} ({}){only}", quote(name), quote(&table.name), indexed(index))
    })
}

/// The indexes that are made after the table, each with its name: what has no name came with the table, and what we have no text of
/// cannot be made.
pub(super) fn made_apart(table: &Table) -> impl Iterator<Item = (&Index, String)> {
    table.indexes.iter().filter(|i| i.name.is_some() || !(is_constraint(i) || table.details.sql.is_some())).filter_map(
        |index| {
            let columns: Vec<&str> = index.columns.iter().map(|c| c.name.as_str()).collect();
            let name = || format!("{}_{}_unique", table.name, columns.join("_"));
            let made = !index.expression || index.definition.is_some();
            made.then(|| (index, index.name.clone().unwrap_or_else(name)))
        },
    )
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

/// A table of as many rows is dropped as it is.
const THIN: i64 = 20_000;
/// So many rows are deleted at once, for as long as this.
const PIECE: i64 = 200;
const MOMENT: Duration = Duration::from_millis(20);

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
        // in place, building an index over all rows would keep every writer of the application waiting: each chunk brings its part
        if matches!(self.side, Some((_, Site::Staged(_)))) {
            self.create_indexes(tables)?;
        }
        Ok(())
    }

    pub(super) fn create_indexes(&mut self, tables: &[&Table]) -> Result<()> {
        self.ddl()?;
        for table in tables {
            for (index, mut name) in made_apart(table) {
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
                let sql = index_sql(table, index, &name);
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

    /// To drop a table holds every writer up for as long as it is large; to delete rows can be done in pieces.
    pub(super) fn thin_tables(&mut self, tables: &[&Table]) -> Result<bool> {
        for table in tables {
            let (name, what) = (quote(&table.name), format!("delete from {}", table.name));
            let key = match rowid_name(table) {
                Some(rowid) => rowid.to_owned(),
                None => table.key_names().iter().map(|k| quote(k)).collect::<Vec<_>>().join(", "),
            };
            let few = format!("SELECT count(*) <= {THIN} FROM (SELECT 1 FROM {name} LIMIT {THIN} + 1)");
            if !self.has(&table.name)? || self.number(&what, &few)? == 1 {
                continue;
            }
            let piece = format!("DELETE FROM {name} WHERE ({key}) IN (SELECT {key} FROM {name} LIMIT {PIECE})");
            let began = Instant::now();
            let mut delete = self.conn.prepare(&piece).map_err(self.err(&what))?;
            while delete.execute([]).map_err(self.err(&what))? > 0 {
                if began.elapsed() >= MOMENT {
                    return Ok(true);
                }
            }
        }
        Ok(false)
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
        if matches!(self.side, Some((_, Site::Staged(_)))) {
            // they are out of the way as they are, and their names have the run's id
            let mut there = Vec::new();
            for table in tables {
                if self.has(&table.name)? {
                    there.push(table.name.clone());
                }
            }
            return Ok(self.kept_as(&there));
        }
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
        Ok(self.kept_as(&kept))
    }

    fn kept_as(&self, names: &[String]) -> String {
        if names.is_empty() {
            format!("nothing was kept in {}", self.title)
        } else {
            format!("the tables are kept in {} as {}", self.title, names.join(", "))
        }
    }

    pub(super) fn highest(&self, table: &Table) -> Result<Option<i64>> {
        let op = format!("read the highest key of {}", table.name);
        let name = list(table.key_names());
        let sql = match table.key.as_slice() {
            _ if is_alias(table) => format!("SELECT max({name}) FROM {}", quote(&table.name)),
            [key] if Affinity::of(&table.columns[*key].ty) == Affinity::Integer => format!(
                // a text or a blob is greater than any number
                "SELECT {name} FROM {} WHERE {name} < '' ORDER BY {name} DESC LIMIT 1",
                quote(&table.name)
            ),
            _ => return Ok(None),
        };
        let high: Vec<Value<'_>> = self.all(&op, &sql, [], |r| Ok(owned(r.get_ref(0)?)))?;
        let number = |v| match v {
            Value::Int(i) => Some(i),
            Value::Real(r) => Some(r as i64),
            _ => None,
        };
        let mut high = high.into_iter().find_map(number);
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
