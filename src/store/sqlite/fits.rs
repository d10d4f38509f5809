//! What others have built upon tables that are to be swapped, tried in memory on the schema as it will be.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::Sqlite;
use super::build::{create_sql, index_sql, made_apart};
use super::schema::is_alias;
use super::swap::{Leg, Object, after, placed, prefix};
use super::text::{self, Token, quote, tokens};
use crate::plan::Table;
use crate::store::{Result, Site};

/// What does not work: kind and name, and what SQLite says.
type Broken = HashMap<(String, String), String>;

impl Sqlite {
    pub(super) fn could_swap(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<Vec<String>> {
        self.arrive(false)?;
        let ours = |o: &Object| [&o.name, &o.on].iter().any(|n| n.to_lowercase().starts_with("backout_"));
        let now: Vec<Object> = self.schema_rows()?.into_iter().filter(|o| !ours(o)).collect();
        let (sources, targets) = (once(sources), once(targets));
        let resting = prefix(&Site::Backup);
        for source in &sources {
            let name = format!("{resting}{}", source.name);
            if now.iter().any(|o| o.name.eq_ignore_ascii_case(&name)) {
                let cause = format!("there is a {name} already, where {} would rest", source.name);
                return Err(self.refused(cause, "rename or drop it"));
            }
        }
        let staged = Site::Staged("plan".into());
        let before: Vec<Object> = now.iter().cloned().chain(made(&targets, &staged, &now)).collect();
        let out = Leg { tables: &sources, from: &Site::Home, to: &Site::Backup };
        let home = Leg { tables: &targets, from: &staged, to: &Site::Home };
        let refused = |cause: String| self.refused(cause, "change what stands in the way first, or the migration");
        let then = after(&before, &out, &home, &[]).map_err(|cause| refused(format!("after the swap {cause}")))?;
        // "name" is a string to SQLite where there is no column of that name: what was a column must not become one
        let (strict, lax) = (broken(&now, true), broken(&now, false));
        let (mut bad, mut notes) = (Vec::new(), Vec::new());
        let (then_strict, then_lax) = (broken(&then, true), broken(&then, false));
        // what rests is called otherwise, and works or does not as it did
        let at_home = |w: &(String, String)| (w.0.clone(), w.1.strip_prefix(&resting).unwrap_or(&w.1).to_owned());
        let by_strict = then_strict.iter().filter(|(w, _)| !strict.contains_key(&at_home(w)));
        let by_lax =
            then_lax.iter().filter(|(w, _)| strict.contains_key(&at_home(w)) && !lax.contains_key(&at_home(w)));
        for (what, said) in by_strict.chain(by_lax) {
            bad.push(format!("{} {} would not work on the tables as they will be: {said}", what.0, what.1));
        }
        // where `"name"` is said for a string already, only the names tell
        let names = |tables: &[&Table]| -> HashSet<String> {
            let each = |t: &&Table| {
                let columns = t.columns.iter().chain(t.alone.iter().map(|l| &l.column)).map(|c| c.name.to_lowercase());
                columns.chain(t.generated.iter().map(|g| g.name.to_lowercase())).collect::<Vec<_>>()
            };
            tables.iter().flat_map(each).collect()
        };
        let (had, have) = (names(&sources), names(&targets));
        let unsure = |o: &&Object| {
            let what = (o.kind.clone(), o.name.clone());
            matches!(o.kind.as_str(), "view" | "trigger") && strict.contains_key(&what) && !lax.contains_key(&what)
        };
        for object in now.iter().filter(unsure) {
            let all = tokens(object.sql.as_deref().unwrap_or_default());
            let quoted = all.iter().filter(|t| t.text.starts_with('"')).map(|t| t.name().to_lowercase());
            for gone in quoted.filter(|n| had.contains(n) && !have.contains(n)) {
                let (kind, name) = (&object.kind, &object.name);
                bad.push(format!("{kind} {name} says \"{gone}\", which would be a string and no column any more"));
            }
        }
        let of_a_view = |w: &&(String, String)| w.0 != "table";
        notes.extend(lax.iter().filter(|(w, _)| of_a_view(w)).map(|(w, said)| {
            format!("{} {} does not work as things are ({said}): it stays as it is, and was not tried", w.0, w.1)
        }));
        for object in now.iter().filter(|o| o.kind == "table") {
            bad.extend(content(object, &sources, &targets));
        }
        for source in &sources {
            let target = targets.iter().find(|t| t.name.eq_ignore_ascii_case(&source.name));
            if target.is_some_and(|t| t.details.sql.is_none()) {
                notes.extend(self.unsaid(source)?);
            }
        }
        bad.sort();
        notes.sort();
        if bad.is_empty() {
            return Ok(notes);
        }
        let hint = "drop it, or change it so that it works with both, and make it as it should be after the cutover";
        Err(self.refused(bad.join("; "), hint))
    }

    /// What a table's text says and our model of it does not, so that a table made by that lacks it.
    fn unsaid(&self, table: &Table) -> Result<Vec<String>> {
        let sql = table.details.sql.as_deref().unwrap_or_default();
        let all = tokens(sql);
        let mut out = Vec::new();
        let mut lost = |what: String| out.push(format!("table {}: {what}; the new table will be without", table.name));
        if let Some(at) = all.windows(2).position(|w| w[0].is("ON") && w[1].is("CONFLICT")) {
            lost(format!("ON CONFLICT {}", all.get(at + 2).map(Token::name).unwrap_or_default()));
        }
        let op = format!("read the definition of {}", table.name);
        let asked = "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden > 1 AND \"notnull\"";
        let not_null: Vec<String> = self.all(&op, asked, [&table.name], |r| r.get(0))?;
        not_null.into_iter().for_each(|c| lost(format!("NOT NULL of the computed column {c}")));
        for (column, collation, expression) in text::table(sql).columns {
            if let (Some(collation), Some(_)) = (collation, expression) {
                lost(format!("COLLATE {collation} of the computed column {column}"));
            }
        }
        Ok(out)
    }
}

/// Each table once: several sources may become one target, and the other way round.
fn once<'t>(tables: &[&'t Table]) -> Vec<&'t Table> {
    let mut seen = HashSet::new();
    tables.iter().filter(|t| seen.insert(t.name.to_lowercase())).copied().collect()
}

/// The rows that the schema will have of tables that are not made yet.
fn made(tables: &[&Table], site: &Site, now: &[Object]) -> Vec<Object> {
    let mut at = now.iter().map(|o| o.at).max().unwrap_or_default();
    let mut rows = Vec::new();
    let mut row = |kind: &str, name: String, on: &str, sql: String| {
        at += 1;
        rows.push(Object { at, kind: kind.into(), name, on: on.into(), sql: Some(sql) });
    };
    for table in tables.iter().map(|t| placed(t, site)) {
        row("table", table.name.clone(), &table.name, create_sql(&table));
        for (index, name) in made_apart(&table) {
            let sql = index_sql(&table, index, &name);
            row("index", name, &table.name, sql);
        }
    }
    rows
}

/// Makes the schema in memory and finds what of it does not work. `strict`: `"name"` is a column and nothing else.
fn broken(rows: &[Object], strict: bool) -> Broken {
    let mut out = Broken::new();
    let Ok(conn) = Connection::open_in_memory() else { return out };
    for quirk in [DbConfig::SQLITE_DBCONFIG_DQS_DML, DbConfig::SQLITE_DBCONFIG_DQS_DDL] {
        let _ = conn.set_db_config(quirk, !strict);
    }
    let _ = conn.execute_batch("PRAGMA foreign_keys = ON");
    let mut failed = |kind: &str, o: &Object, said: rusqlite::Result<()>| {
        if let Err(e) = said {
            let said = match e {
                rusqlite::Error::SqlInputError { msg, .. } => msg,
                e => e.to_string(),
            };
            out.entry((kind.to_owned(), o.name.clone())).or_insert(said);
        }
    };
    let prepare = |sql: &str| conn.prepare(sql).map(drop);
    let is_virtual = |o: &Object| tokens(o.sql.as_deref().unwrap_or_default()).get(1).is_some_and(|t| t.is("VIRTUAL"));
    let with = |kind: &'static str| rows.iter().filter(move |o| o.kind == kind && !o.name.starts_with("sqlite_"));
    let make = |o: &Object| o.sql.as_deref().map_or(Ok(()), |sql| conn.execute_batch(sql));
    // with a virtual table come the tables that it lies in
    for o in with("table").filter(|o| is_virtual(o)) {
        failed("virtual table", o, make(o));
    }
    for o in with("table").filter(|o| !is_virtual(o)) {
        let there = conn.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1").and_then(|mut s| s.exists([&o.name]));
        if !there.unwrap_or_default() {
            failed("table", o, make(o));
        }
    }
    for o in with("index") {
        failed("index", o, make(o));
    }
    for o in with("table").filter(|o| !is_virtual(o)) {
        // checks, computed columns and foreign keys are looked at when a statement is compiled
        failed("table", o, prepare(&format!("INSERT INTO {} DEFAULT VALUES", quote(&o.name))));
    }
    for o in with("view") {
        failed("view", o, make(o));
    }
    for o in with("view") {
        failed("view", o, prepare(&format!("SELECT * FROM {}", quote(&o.name))));
    }
    for o in with("trigger") {
        // one at a time, so that it is known which
        let tried = make(o).and_then(|()| {
            let tried = prepare(&fires(&conn, o)?);
            conn.execute_batch(&format!("DROP TRIGGER {}", quote(&o.name)))?;
            tried
        });
        failed("trigger", o, tried);
    }
    out
}

/// A statement that sets a trigger off.
fn fires(conn: &Connection, trigger: &Object) -> rusqlite::Result<String> {
    let all = tokens(trigger.sql.as_deref().unwrap_or_default());
    let on = all.iter().position(|t| t.is("ON")).unwrap_or(all.len());
    let head = &all[..on];
    let table = quote(&trigger.on);
    if head.iter().any(|t| t.is("DELETE")) {
        return Ok(format!("DELETE FROM {table}"));
    }
    if head.iter().any(|t| t.is("INSERT")) {
        return Ok(format!("INSERT INTO {table} DEFAULT VALUES"));
    }
    let of = head.iter().position(|t| t.is("OF"));
    let columns: Vec<String> = match of {
        Some(of) => head[of + 1..].iter().filter(|t| !t.sign(",")).map(Token::name).collect(),
        None => conn
            .prepare("SELECT name FROM pragma_table_info(?1)")?
            .query_map([&trigger.on], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?,
    };
    let sets: Vec<String> = columns.iter().map(|c| format!("{} = NULL", quote(c))).collect();
    Ok(format!("UPDATE {table} SET {}", sets.join(", ")))
}

/// What is wrong with a full-text index whose rows are those of a table that is swapped: it knows them by their rowid.
fn content(object: &Object, sources: &[&Table], targets: &[&Table]) -> Option<String> {
    let all = tokens(object.sql.as_deref()?);
    if !all.get(1)?.is("VIRTUAL") {
        return None;
    }
    let said = |option: &str| {
        let at = all.windows(2).position(|w| w[0].name().eq_ignore_ascii_case(option) && w[1].sign("="))?;
        Some(all.get(at + 2)?.name())
    };
    let content = said("content")?;
    let source = sources.iter().find(|t| t.name.eq_ignore_ascii_case(&content))?;
    let named = said("content_rowid").filter(|n| !["rowid", "_rowid_", "oid"].contains(&n.to_lowercase().as_str()));
    let key = |t: &Table| is_alias(t).then(|| t.columns[t.key[0]].name.to_lowercase());
    let by = |t: &Table| match &named {
        Some(name) => key(t).filter(|k| k.eq_ignore_ascii_case(name)),
        None => key(t),
    };
    let why = match targets.iter().find(|t| t.name.eq_ignore_ascii_case(&content)) {
        None => "it will not be there".to_owned(),
        Some(target) if by(source).is_none() || by(target) != by(source) => "its rows get other rowids".to_owned(),
        Some(target) => {
            let has = |n: &String| {
                let names = target.columns.iter().map(|c| &c.name).chain(target.generated.iter().map(|g| &g.name));
                names.chain(target.alone.iter().map(|l| &l.column.name)).any(|c| c.eq_ignore_ascii_case(n))
            };
            let gone = source
                .columns
                .iter()
                .map(|c| &c.name)
                .find(|c| all.iter().skip(5).any(|t| t.name().eq_ignore_ascii_case(c)) && !has(c))?;
            format!("it will have no column {gone}")
        }
    };
    Some(format!("full-text table {} has its rows in {content}, and would not find them: {why}", object.name))
}
