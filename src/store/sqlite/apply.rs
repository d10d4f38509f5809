//! Applying a set of changes: what is in the way goes first, rows that stay are changed in place, and foreign keys of
//! what was touched hold at the end.

use std::collections::{HashMap, HashSet};

use super::rows::{bind_key, columns, list};
use super::schema::{is_alias, rowid_name};
use super::swap::prefix;
use super::text::{self, quote};
use super::{Sqlite, bound, in_the_way, owned};
use crate::plan::Table;
use crate::store::{Error, Result, Write};
use crate::value::{Key, Row, Value};

/// What happened to one row of a table.
struct Touched {
    table: usize,
    before: Option<Row>,
    after: Option<Row>,
}

/// What came of putting one row.
enum Put {
    Done,
    /// Another row has its key, or its value in a unique column.
    InTheWay,
    /// It can never be there, and why.
    Unfit(String),
}

fn orphan(key: &Key, child: &Table, values: &Row, parent: &str) -> String {
    format!("row {key} of {} would refer to {} in {parent}, which does not exist", child.name, Key::of(values))
}

/// Why a row has to stay, or cannot be another: who refers to it by these values.
fn held(key: &Key, table: &Table, gone: bool, orphaned: &Key, child: &Table, values: &Row) -> String {
    let (values, table, child) = (Key::of(values), &table.name, &child.name);
    match gone {
        true => format!(
            "table {table}, key {key}: it is gone, but stays here, as row {orphaned} of {child} refers to {values}"
        ),
        false => format!(
            "table {table}, key {key}: not written, as it was {values}, to which row {orphaned} of {child} refers"
        ),
    }
}

/// A trigger as SQLite keeps it.
struct Trigger {
    name: String,
    table: String,
    sql: String,
    /// It must not fire when we write.
    off: bool,
}

impl Sqlite {
    pub(super) fn apply(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()> {
        let last = self.last_logged()?;
        let touched: Vec<&Table> = writes.iter().filter_map(|(t, _)| tables.get(*t).copied()).collect();
        let aside = self.triggers_off(tables, &touched)?;
        let (mut done, mut unfit) = (Vec::new(), Vec::new());
        for (t, set) in writes {
            self.apply_to(tables[*t], *t, set, &mut done, &mut unfit)?;
        }
        for trigger in &aside {
            if !trigger.off {
                self.run("order the triggers", &format!("DROP TRIGGER {}", quote(&trigger.name)))?;
            }
            self.run(&format!("put trigger {} back", trigger.name), &trigger.sql)?;
        }
        if let Some(last) = last {
            // what our own writes logged; nobody else writes meanwhile, and the transaction holds the ids
            self.conn
                .execute("DELETE FROM backout_log WHERE id > ?1", [last])
                .and_then(|_| self.conn.execute("DELETE FROM backout_scratch", []))
                .map_err(self.err("leave our own writes out of the change log"))?;
        }
        if unfit.is_empty() {
            self.foreign_keys_hold(tables, &done, &mut unfit)?;
        }
        if unfit.is_empty() {
            return Ok(());
        }
        // where tables lie until they come home is no matter to who reads this
        let place = self.side.as_ref().map(|(_, site)| prefix(site)).filter(|p| !p.is_empty());
        if let Some(place) = place {
            unfit.iter_mut().for_each(|(.., why)| *why = why.replace(&place, ""));
        }
        Err(Error::Unfit { store: self.title.clone(), rows: unfit })
    }

    fn apply_to(
        &self,
        table: &Table,
        t: usize,
        set: &[Write],
        done: &mut Vec<Touched>,
        unfit: &mut Vec<(usize, Key, String)>,
    ) -> Result<()> {
        let op = format!("write {}", table.name);
        let select = format!("SELECT {} FROM", columns(table));
        let mut find = self.by_key(table, &select, &op)?;
        let mut delete = self.by_key(table, "DELETE FROM", &op)?;
        // the rows that go on living, by the key under which they are now
        let mut live: HashMap<&Key, Row> = HashMap::new();
        let mut targets = HashSet::new();
        for write in set {
            let Write::Put { row, from } = write else { continue };
            targets.insert(Key::of_row(row, &table.key));
            if let Some(from) = from
                && let Some(now) = self.one(&mut find, table, from).map_err(self.err(&op))?
            {
                live.insert(from, now);
            }
        }
        let deleted = set.iter().filter_map(|w| if let Write::Delete { key } = w { Some(key) } else { None });
        for key in targets.iter().chain(deleted) {
            if live.contains_key(key) {
                continue;
            }
            if let Some(now) = self.one(&mut find, table, key).map_err(self.err(&op))? {
                let op = format!("delete {key} from {}", table.name);
                bind_key(&mut delete, table, key).and_then(|_| delete.raw_execute()).map_err(self.err(&op))?;
                done.push(Touched { table: t, before: Some(now), after: None });
            }
        }
        // rows in each other's way are tried again until no more go through
        let mut waiting: Vec<(&Row, Option<&Key>)> = set
            .iter()
            .filter_map(|w| match w {
                Write::Put { row, from } => Some((row, from.as_ref().filter(|f| live.contains_key(f)))),
                Write::Delete { .. } => None,
            })
            .collect();
        loop {
            let before = waiting.len();
            let mut again = Vec::new();
            for (row, from) in waiting {
                let put = match from {
                    Some(key) => self.change(table, key, &live[key], row)?,
                    None => self.add(table, row)?,
                };
                let put = match put {
                    Put::Unfit(why) => {
                        unfit.push((t, Key::of_row(row, &table.key), why));
                        continue;
                    }
                    Put::Done => true,
                    Put::InTheWay => false,
                };
                if put {
                    done.push(Touched { table: t, before: from.map(|k| live[k].clone()), after: Some(row.clone()) });
                } else {
                    again.push((row, from));
                }
            }
            waiting = again;
            if waiting.is_empty() {
                return Ok(());
            }
            if waiting.len() == before {
                break;
            }
        }
        if unfit.iter().any(|(of, ..)| *of == t) {
            // those may be all that is in the way, and the set will come again without them
            return Ok(());
        }
        let refused = self.replace(table, &waiting)?;
        unfit.extend(refused.into_iter().map(|(key, why)| (t, key, why)));
        for (row, from) in waiting {
            let before = from.map(|k| live[k].clone());
            done.push(Touched { table: t, before, after: Some(row.clone()) });
        }
        Ok(())
    }

    /// Changes the columns that differ.
    fn change(&self, table: &Table, key: &Key, now: &Row, row: &Row) -> Result<Put> {
        let differ: Vec<usize> = (0..table.columns.len()).filter(|&i| now.get(i) != row.get(i)).collect();
        if differ.is_empty() {
            return Ok(Put::Done);
        }
        let op = format!("write row {} of {}", Key::of_row(row, &table.key), table.name);
        let n = table.key.len();
        let sets: Vec<String> = differ
            .iter()
            .enumerate()
            .map(|(i, &c)| format!("{} = ?{}", quote(&table.columns[c].name), n + 1 + i))
            .collect();
        let whose = super::rows::same("", table, |i| format!("?{}", i + 1));
        // OR ABORT: the table's own ON CONFLICT clauses would delete others or skip the row
        let sql = format!("UPDATE OR ABORT {} SET {} WHERE {whose}", quote(&table.name), sets.join(", "));
        let mut s = self.conn.prepare_cached(&sql).map_err(self.err(&op))?;
        bind_key(&mut s, table, key).map_err(self.err(&op))?;
        for (i, &c) in differ.iter().enumerate() {
            s.raw_bind_parameter(n + 1 + i, self.given(table, c, &row[c])?).map_err(self.err(&op))?;
        }
        self.through(&op, s.raw_execute())
    }

    /// Adds a row.
    fn add(&self, table: &Table, row: &Row) -> Result<Put> {
        let op = format!("add row {} to {}", Key::of_row(row, &table.key), table.name);
        let mut s = self.insert(table, &op)?;
        for (i, value) in row.iter().enumerate() {
            s.raw_bind_parameter(i + 1, self.given(table, i, value)?).map_err(self.err(&op))?;
        }
        self.through(&op, s.raw_execute())
    }

    fn through(&self, op: &str, done: rusqlite::Result<usize>) -> Result<Put> {
        match done {
            Ok(_) => Ok(Put::Done),
            Err(e) if in_the_way(&e) => Ok(Put::InTheWay),
            // a CHECK, a NOT NULL, a STRICT type: this row is not for this table
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                Ok(Put::Unfit(format!("{op}: {e}")))
            }
            Err(e) => Err(self.err(op)(e)),
        }
    }

    /// Takes rows out and puts them in again as they shall be, with all they have beyond the columns given. Returns those that
    /// cannot be.
    fn replace(&self, table: &Table, waiting: &[(&Row, Option<&Key>)]) -> Result<Vec<(Key, String)>> {
        let op = format!("write {}", table.name);
        let mut names: Vec<String> = self.all(
            &op,
            "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid",
            [&table.name],
            |r| r.get(0),
        )?;
        let places: Vec<Option<usize>> = names.iter().map(|n| table.column(n)).collect();
        if let Some(rowid) = rowid_name(table)
            && !is_alias(table)
        {
            names.push(rowid.to_owned());
        }
        let wanted = list(names.iter().map(String::as_str));
        let mut find = self.by_key(table, &format!("SELECT {wanted} FROM"), &op)?;
        let mut delete = self.by_key(table, "DELETE FROM", &op)?;
        let mut whole: Vec<Option<Row>> = Vec::new();
        for (_, from) in waiting {
            let Some(key) = from else {
                whole.push(None);
                continue;
            };
            whole.push(self.one(&mut find, table, key).map_err(self.err(&op))?);
            bind_key(&mut delete, table, key).and_then(|_| delete.raw_execute()).map_err(self.err(&op))?;
        }
        let marks: Vec<String> = (1..=names.len()).map(|i| format!("?{i}")).collect();
        let insert = format!("INSERT OR ABORT INTO {} ({wanted}) VALUES ({})", quote(&table.name), marks.join(", "));
        let mut refused = Vec::new();
        for ((row, _), whole) in waiting.iter().zip(whole) {
            let key = Key::of_row(row, &table.key);
            let op = format!("write row {key} of {}", table.name);
            let put = match whole {
                None => self.add(table, row)?,
                Some(mut values) => {
                    for (value, place) in values.iter_mut().zip(&places) {
                        if let Some(at) = place {
                            value.clone_from(&row[*at]);
                        }
                    }
                    let mut s = self.conn.prepare_cached(&insert).map_err(self.err(&op))?;
                    for (i, value) in values.iter().enumerate() {
                        s.raw_bind_parameter(i + 1, self.given(table, i, value)?).map_err(self.err(&op))?;
                    }
                    self.through(&op, s.raw_execute())?
                }
            };
            match put {
                Put::Done => {}
                Put::InTheWay => {
                    refused.push((key, format!("{op}: another row that stays has the same value in a unique column")));
                }
                Put::Unfit(why) => refused.push((key, why)),
            }
        }
        Ok(refused)
    }

    /// Drops the triggers of touched tables that could write `tables` or change what we write. Returns them, and those
    /// that come after one of them on the same table: the latter are made anew as well, so that the order stays.
    fn triggers_off(&mut self, tables: &[&Table], touched: &[&Table]) -> Result<Vec<Trigger>> {
        let mut all = self.all(
            "list the triggers",
            "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid",
            [],
            |r| Ok(Trigger { name: r.get(0)?, table: r.get(1)?, sql: r.get(2)?, off: false }),
        )?;
        all.retain(|t| !t.name.to_lowercase().starts_with("backout_"));
        if all.is_empty() {
            return Ok(all);
        }
        // a trigger that writes another table may set off one that writes ours
        let mut reaches: HashSet<String> = tables.iter().map(|t| t.name.to_lowercase()).collect();
        let writes: Vec<Option<Vec<String>>> = all.iter().map(|t| text::written(&t.sql)).collect();
        let mut more = true;
        while more {
            more = false;
            for (trigger, writes) in all.iter_mut().zip(&writes) {
                if !trigger.off && writes.as_ref().is_none_or(|w| w.iter().any(|n| reaches.contains(n))) {
                    (trigger.off, more) = (true, true);
                    reaches.insert(trigger.table.to_lowercase());
                }
            }
        }
        let mut begun: HashSet<String> = HashSet::new();
        let mut aside = Vec::new();
        for trigger in all {
            let on = trigger.table.to_lowercase();
            if trigger.off && touched.iter().any(|t| t.name.to_lowercase() == on) {
                self.ddl()?;
                let op = format!("put trigger {} aside", trigger.name);
                self.run(&op, &format!("DROP TRIGGER {}", quote(&trigger.name)))?;
                begun.insert(on);
                aside.push(trigger);
            } else if begun.contains(&on) {
                aside.push(trigger);
            }
        }
        Ok(aside)
    }

    /// Foreign keys of what was touched, both ways, as the tables given have them.
    fn foreign_keys_hold(
        &self,
        tables: &[&Table],
        done: &[Touched],
        unfit: &mut Vec<(usize, Key, String)>,
    ) -> Result<()> {
        for touched in done {
            let table = tables[touched.table];
            let Some(row) = touched.after.as_ref().or(touched.before.as_ref()) else { continue };
            let key = Key::of_row(row, &table.key);
            let pick = |row: &Row, names: &[String]| -> Option<Row> {
                let values: Option<Row> = names.iter().map(|n| row.get(table.column(n)?).cloned()).collect();
                values.filter(|v| !v.iter().any(Value::is_null))
            };
            if let Some(after) = &touched.after {
                for fk in &table.foreign_keys {
                    let Some(values) = pick(after, &fk.columns) else { continue };
                    let as_before =
                        touched.before.as_ref().is_some_and(|b| pick(b, &fk.columns).as_ref() == Some(&values));
                    if !as_before && !self.exists(&fk.table, &fk.references, &values)? {
                        unfit.push((touched.table, key.clone(), orphan(&key, table, &values, &fk.table)));
                    }
                }
            }
            let Some(before) = &touched.before else { continue };
            for child in tables {
                for fk in child.foreign_keys.iter().filter(|f| f.table.eq_ignore_ascii_case(&table.name)) {
                    let Some(values) = pick(before, &fk.references) else { continue };
                    let as_before =
                        touched.after.as_ref().is_some_and(|a| pick(a, &fk.references).as_ref() == Some(&values));
                    if as_before || self.exists(&table.name, &fk.references, &values)? {
                        continue;
                    }
                    if let Some(orphaned) = self.child(child, &fk.columns, &values)? {
                        let why = held(&key, table, touched.after.is_none(), &orphaned, child, &values);
                        unfit.push((touched.table, key.clone(), why));
                    }
                }
            }
        }
        Ok(())
    }

    fn exists(&self, table: &str, names: &[String], values: &Row) -> Result<bool> {
        let whose: Vec<String> = names.iter().enumerate().map(|(i, n)| format!("{} = ?{}", quote(n), i + 1)).collect();
        let sql = format!("SELECT 1 FROM {} WHERE {}", quote(table), whose.join(" AND "));
        self.conn
            .prepare_cached(&sql)
            .and_then(|mut s| s.exists(rusqlite::params_from_iter(values.iter().map(bound))))
            .map_err(self.err(&format!("look for a parent in {table}")))
    }

    fn child(&self, table: &Table, names: &[String], values: &Row) -> Result<Option<Key>> {
        let whose: Vec<String> = names.iter().enumerate().map(|(i, n)| format!("{} = ?{}", quote(n), i + 1)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {} LIMIT 1",
            list(table.key_names()),
            quote(&table.name),
            whose.join(" AND ")
        );
        let width = table.key.len();
        let found = self.all(
            &format!("look for children in {}", table.name),
            &sql,
            rusqlite::params_from_iter(values.iter().map(bound)),
            |r| Ok(Key::of(&(0..width).map(|i| r.get_ref(i).map(owned)).collect::<rusqlite::Result<Row>>()?)),
        )?;
        Ok(found.into_iter().next())
    }
}
