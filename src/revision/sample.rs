//! A scratch copy of a database: its schema, and some of its rows; parents first, then children of the parents that were copied.

use std::collections::BTreeMap;

use super::Result;
use super::catalog::{Catalog, Statement, Table};
use super::database::Database;
use super::keep::{text, words};
use super::run::within;
use crate::plan::Kind;
use crate::value::{Row, Value};

/// Rows copied of each table at most.
pub const ROWS: usize = 1_000;

/// What a scratch copy holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows in all tables.
    pub rows: usize,
    /// What is not in the copy, each with the reason.
    pub absent: Vec<String>,
}

/// Makes `scratch`, which is empty, a small copy of `real`, of which nothing is changed.
///
/// # Errors
/// What either database says; a schema that cannot be built again is an error that names the statement.
pub fn copy(real: &mut dyn Database, catalog: &Catalog, scratch: &mut dyn Database) -> Result<Copied> {
    // a check that is not valid holds of rows that come, not of those that are there
    let early = |made: &Statement| !made.after_rows && !made.sql.ends_with("NOT VALID");
    let (first, rest): (Vec<_>, Vec<_>) = catalog.create().into_iter().partition(early);
    let mut copied = Copied { rows: 0, absent: catalog.not_created() };
    let closed = closed(real, catalog)?;
    copied.absent.extend(closed.iter().map(|table| format!("rows of {table}, which may not be read")));
    within(scratch, "build the scratch copy", |scratch| {
        for made in &first {
            build(scratch, made)?;
        }
        let mut taken: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        // the rows of a partition are read through its parent
        for table in parents_first(catalog.tables()).into_iter().filter(|table| !table.is_part()) {
            let columns = stored(table);
            if columns.is_empty() {
                continue;
            }
            if closed.iter().any(|name| name == table.name.quoted()) || !is_made(scratch, table)? {
                continue;
            }
            let rows = real.query(&select(table, catalog, &taken))?;
            scratch.put_rows(table.name.quoted(), &columns, &rows)?;
            copied.rows += rows.len();
            taken.insert(table.name.quoted().to_owned(), rows);
        }
        orphans(catalog, scratch, &mut copied)?;
        for made in &rest {
            build(scratch, made)?;
        }
        numbers(real, scratch)
    })?;
    Ok(copied)
}

/// Tables whose rows we may not read.
fn closed(real: &mut dyn Database, catalog: &Catalog) -> Result<Vec<String>> {
    if real.kind() != Kind::Postgres || catalog.tables().is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = catalog.tables().iter().map(|t| text(t.name.quoted())).collect();
    let asked = format!(
        "SELECT n FROM unnest(ARRAY[{}]) n WHERE NOT has_table_privilege(n, 'SELECT') \
         OR NOT has_schema_privilege((SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = to_regclass(n)), 'USAGE')",
        names.join(", ")
    );
    Ok(real.query(&asked)?.iter().filter_map(|row| row.first()).map(words).collect())
}

/// A table that could be built at all.
fn is_made(scratch: &mut dyn Database, table: &Table) -> Result<bool> {
    if scratch.kind() != Kind::Postgres {
        return Ok(true);
    }
    let asked = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", text(table.name.quoted()));
    Ok(!scratch.query(&asked)?.is_empty())
}

/// Makes a part of the schema; who may use it is said as far as we may say it.
fn build(scratch: &mut dyn Database, made: &Statement) -> Result<()> {
    if !made.rights {
        return Ok(scratch.run(&made.sql)?);
    }
    scratch.run("SAVEPOINT rights")?;
    if scratch.run(&made.sql).is_err() {
        scratch.run("ROLLBACK TO SAVEPOINT rights")?;
    }
    Ok(scratch.run("RELEASE SAVEPOINT rights")?)
}

/// Columns that can be put.
fn stored(table: &Table) -> Vec<String> {
    table.columns.iter().filter(|c| c.generated.is_none()).map(|c| c.quoted().to_owned()).collect()
}

/// Tables so that each comes after those it refers to, as far as they do not refer to each other in a circle.
pub(super) fn parents_first(tables: &[Table]) -> Vec<&Table> {
    let mut left: Vec<&Table> = tables.iter().collect();
    let mut sorted: Vec<&Table> = Vec::new();
    while !left.is_empty() {
        let waits = |table: &Table| {
            table.foreign_keys.iter().any(|f| f.table != table.name && left.iter().any(|other| other.name == f.table))
        };
        let at = left.iter().position(|table| !waits(table)).unwrap_or(0);
        sorted.push(left.remove(at));
    }
    sorted
}

/// Some of a table's rows; where not all of a parent's were taken, those that refer to one that was.
fn select(table: &Table, catalog: &Catalog, taken: &BTreeMap<String, Vec<Row>>) -> String {
    let mut conditions: Vec<String> = Vec::new();
    for key in table.foreign_keys.iter().filter(|key| key.table != table.name) {
        let Some(parents) = taken.get(key.table.quoted()).filter(|rows| rows.len() >= ROWS) else { continue };
        let Some(parent) = catalog.tables().iter().find(|t| t.name == key.table) else { continue };
        let order: Vec<&str> =
            parent.columns.iter().filter(|c| c.generated.is_none()).map(|c| c.name.as_str()).collect();
        let at: Option<Vec<usize>> = key.references.iter().map(|c| order.iter().position(|name| name == c)).collect();
        let Some(at) = at else { continue };
        let names: Vec<String> = key.columns.iter().map(|c| column(table, c)).collect();
        let tuple = |row: &Row| at.iter().map(|i| literal(&row[*i])).collect::<Vec<_>>().join(", ");
        let list: Vec<String> = parents.iter().map(|row| format!("({})", tuple(row))).collect();
        let tuples = if catalog.kind == Kind::Sqlite { format!("VALUES {}", list.join(", ")) } else { list.join(", ") };
        let absent: Vec<String> = names.iter().map(|name| format!("{name} IS NULL")).collect();
        conditions.push(format!("(({}) IN ({tuples}) OR {})", names.join(", "), absent.join(" OR ")));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {} FROM {}{condition} LIMIT {ROWS}", stored(table).join(", "), table.name.quoted())
}

fn column(table: &Table, name: &str) -> String {
    table.columns.iter().find(|c| c.name == name).map_or_else(|| name.to_owned(), |c| c.quoted().to_owned())
}

/// A value as a statement says it. PostgreSQL's are texts that take the type of what they are compared with.
pub(super) fn literal(value: &Value<'_>) -> String {
    match value {
        Value::Int(i) => i.to_string(),
        Value::Real(r) if r.is_finite() => format!("{r:?}"),
        Value::Real(r) => (if *r > 0.0 { "9e999" } else { "-9e999" }).to_owned(),
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) if !text.contains('\0') => format!("'{}'", text.replace('\'', "''")),
            _ => format!("CAST(x'{}' AS TEXT)", crate::value::hex(text)),
        },
        Value::Blob(bytes) => format!("x'{}'", crate::value::hex(bytes)),
        _ => "NULL".to_owned(),
    }
}

/// Takes rows out whose parents were not copied, until every row has its own.
fn orphans(catalog: &Catalog, scratch: &mut dyn Database, copied: &mut Copied) -> Result<()> {
    loop {
        let mut gone = 0;
        for table in catalog.tables() {
            for key in &table.foreign_keys {
                let Some(parent) = catalog.tables().iter().find(|t| t.name == key.table) else { continue };
                if !is_made(scratch, table)? || !is_made(scratch, parent)? {
                    continue;
                }
                let child = table.name.quoted();
                let absent = key.columns.iter().map(|c| format!("{child}.{} IS NULL", column(table, c)));
                let same = key.columns.iter().zip(&key.references);
                let same = same.map(|(c, p)| format!("p.{} = {child}.{}", column(parent, p), column(table, c)));
                let lost = format!(
                    "{child} WHERE NOT ({}) AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
                    absent.collect::<Vec<_>>().join(" OR "),
                    parent.name.quoted(),
                    same.collect::<Vec<_>>().join(" AND ")
                );
                let count = scratch.query(&format!("SELECT count(*) FROM {lost}"))?;
                let count = count.first().and_then(|row| row.first()).map_or(0, number);
                if count > 0 {
                    scratch.run(&format!("DELETE FROM {lost}"))?;
                    gone += count;
                }
            }
        }
        copied.rows = copied.rows.saturating_sub(gone);
        if gone == 0 {
            return Ok(());
        }
    }
}

fn number(value: &Value<'_>) -> usize {
    match value {
        Value::Int(i) => usize::try_from(*i).unwrap_or_default(),
        Value::Text(text) => String::from_utf8_lossy(text).parse().unwrap_or_default(),
        _ => 0,
    }
}

/// Numbers that rows will be given go on from where the real ones are.
fn numbers(real: &mut dyn Database, scratch: &mut dyn Database) -> Result<()> {
    if real.kind() == Kind::Postgres {
        let asked = "SELECT format('SELECT setval(%L, %s)', format('%I.%I', schemaname, sequencename), last_value) \
            FROM pg_catalog.pg_sequences WHERE last_value IS NOT NULL AND schemaname <> 'backout' \
            AND has_sequence_privilege(format('%I.%I', schemaname, sequencename), 'SELECT')";
        for row in real.query(asked)? {
            if let Some(Value::Text(sql)) = row.first() {
                scratch.run(&String::from_utf8_lossy(sql))?;
            }
        }
        return Ok(());
    }
    if real.query("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'")?.is_empty() {
        return Ok(());
    }
    for row in real.query("SELECT name, seq FROM sqlite_sequence")? {
        let [name, seq] = &row[..] else { continue };
        let (name, seq) = (literal(name), literal(seq));
        scratch.run(&format!("DELETE FROM sqlite_sequence WHERE name = {name}"))?;
        scratch.run(&format!("INSERT INTO sqlite_sequence (name, seq) VALUES ({name}, {seq})"))?;
    }
    Ok(())
}
