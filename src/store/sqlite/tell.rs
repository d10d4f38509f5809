//! Columns that change by SQL: what an expression makes of a value, as a computed column of a database in memory says it. SQLite lets those
//! speak of their own row alone, and of nothing that changes.

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection};

use super::text::quote;
use super::{Sqlite, bound, failure, owned};
use crate::plan::{Column, Made, Teller};
use crate::store::{Error, Result};
use crate::value::Value;

const MADE: &str = "backout_made";

/// A table named by the way, with a column as `from` and one that `expression` makes of it.
fn table(
    conn: &Connection,
    name: &str,
    expression: &str,
    from: &Column,
    to: &Column,
    strict: bool,
) -> rusqlite::Result<()> {
    let collation = from.collation.as_ref().map_or(String::new(), |c| format!(" COLLATE {}", quote(c)));
    conn.execute_batch(&format!(
        "CREATE TABLE {name} ({} {}{collation}, {MADE} {} GENERATED ALWAYS AS (\n{expression}\n) STORED){}",
        quote(&from.name),
        from.ty,
        to.ty,
        if strict { " STRICT" } else { "" }
    ))
}

fn memory() -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    // a name that is none is an error, not a text
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    Ok(conn)
}

fn said(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        e => e.to_string(),
    }
    .replace("a generated column", "an expression of this kind")
    .replace("generated columns", "expressions of this kind")
}

fn one(insert: &mut CachedStatement<'_>, value: &Value<'_>) -> Made {
    let given = bound(value).ok_or_else(|| format!("SQLite has no type for {value}"))?;
    insert.query_row([given], |r| r.get_ref(0).map(owned)).map_err(|e| said(&e))
}

fn each(conn: &Connection, name: &str, column: &str, values: &[Value<'static>]) -> rusqlite::Result<Vec<Made>> {
    let mut insert =
        conn.prepare_cached(&format!("INSERT INTO {name} ({}) VALUES (?1) RETURNING {MADE}", quote(column)))?;
    conn.execute_batch("BEGIN")?;
    let made = values.iter().map(|v| one(&mut insert, v)).collect();
    conn.execute_batch("ROLLBACK")?;
    Ok(made)
}

impl Sqlite {
    pub(super) fn can_say(&self, expression: &str, from: &Column, to: &Column, strict: bool) -> Result<()> {
        let no = |cause: String| Error::Refused {
            store: self.title.clone(),
            cause,
            hint: format!("an expression speaks of its own column, {}, and of nothing else", from.name),
        };
        let conn = memory().map_err(|e| failure(&self.title, "open a database in memory", &e))?;
        table(&conn, "up", expression, from, to, strict).map_err(|e| no(said(&e)))?;
        let made = each(&conn, "up", &from.name, &[Value::Null]).map_err(|e| no(said(&e)))?;
        match made.first() {
            Some(Err(why)) if why.contains("non-deterministic") => Err(no(why.clone())),
            _ => Ok(()),
        }
    }
}

/// See [`crate::store::Store::teller`].
pub(super) fn teller(was: &Column, is: &Column, up: &str, down: &str, strict: bool) -> Teller {
    let (was, is, up, down) = (was.clone(), is.clone(), up.to_owned(), down.to_owned());
    let mut opened: Option<Connection> = None;
    Box::new(move |goes_up, values| {
        let make = || {
            let conn = memory()?;
            table(&conn, "up", &up, &was, &is, strict)?;
            table(&conn, "down", &down, &is, &was, strict)?;
            Ok(conn)
        };
        let conn = match opened.take() {
            Some(conn) => conn,
            None => make().map_err(|e: rusqlite::Error| said(&e))?,
        };
        let (name, column) = if goes_up { ("up", &was.name) } else { ("down", &is.name) };
        let made = each(&conn, name, column, values).map_err(|e| said(&e))?;
        opened = Some(conn);
        Ok(made)
    })
}
