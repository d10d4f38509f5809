//! A set of writes, applied so that only their end counts.
//!
//! The short way: delete children first, put parents first, constraints deferred where they can be. Where rows stand in each
//! other's way, or a foreign key's action would touch rows, the long way: foreign keys dropped, every touched row
//! deleted and put anew, foreign keys added again, by which the server checks them.

mod unfit;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::rows::{
    MANY, as_text, cell, insert_select, key_arrays, key_matches, key_wires, params, selected, staged, staged_each,
    unnest, wires,
};
use super::{Postgres, code, copy, list, quoted};
use crate::plan::Table;
use crate::store::{Error, Result, Write};
use crate::value::{Key, Row, Value};

/// One table's writes, by what they need.
#[derive(Default)]
struct Work<'w> {
    deletes: Vec<&'w Key>,
    /// In place, with another key.
    moved: Vec<(&'w Key, &'w Row)>,
    /// In place, under its key.
    kept: Vec<&'w Row>,
    /// New here.
    fresh: Vec<&'w Row>,
}

/// A foreign key that refers to one of the tables.
struct Incoming {
    name: String,
    /// Referring table: its qualified name, and its index if it is in the plan.
    child: String,
    child_index: Option<usize>,
    child_columns: Vec<String>,
    parent: usize,
    parent_columns: Vec<String>,
    /// Does ON UPDATE change rows?
    acts_on_update: bool,
}

/// Which way is open.
enum Way {
    Short,
    Long,
}

/// A table's columns that the plan does not speak of, and those that only OVERRIDING can set.
#[derive(Default)]
struct Beyond {
    extra: Vec<String>,
    always: HashSet<String>,
}

impl Postgres {
    pub(super) fn apply(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()> {
        let mut work: BTreeMap<usize, Work<'_>> = BTreeMap::new();
        for (index, list) in writes.iter().filter(|(_, list)| !list.is_empty()) {
            let table = tables.get(*index).ok_or_else(|| self.wrong("writing rows", "there is no such table"))?;
            let entry = work.entry(*index).or_default();
            for write in list {
                match write {
                    Write::Delete { key } => entry.deletes.push(key),
                    Write::Put { row, from: None } => entry.fresh.push(row),
                    Write::Put { row, from: Some(from) } if Key::of_row(row, &table.key) == *from => {
                        entry.kept.push(row)
                    }
                    Write::Put { row, from: Some(from) } => entry.moved.push((from, row)),
                }
            }
        }
        if work.is_empty() {
            return Ok(());
        }
        for w in work.values_mut() {
            // a row that moves leaves its old key by itself: nothing is to be deleted there
            let leaving: HashSet<&Key> = w.moved.iter().map(|(from, _)| *from).collect();
            w.deletes.retain(|key| !leaving.contains(key));
        }
        self.run("writing rows", "SAVEPOINT backout_set")?;
        let (cause, tell) = match self.apply_work(tables, &work) {
            Ok(()) => return self.run("writing rows", "RELEASE SAVEPOINT backout_set"),
            Err(e @ (Error::Database { .. } | Error::Refused { .. })) => {
                self.run("writing rows", "ROLLBACK TO SAVEPOINT backout_set")?;
                (e, self.unfit(tables, &work)?)
            }
            Err(e) => return Err(e),
        };
        self.run("writing rows", "ROLLBACK TO SAVEPOINT backout_set; RELEASE SAVEPOINT backout_set")?;
        if tell.is_empty() { Err(cause) } else { Err(Error::Unfit { store: self.title.clone(), rows: tell }) }
    }

    fn apply_work(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>) -> Result<()> {
        let silenced = self.silence(tables, work)?;
        let incoming = self.incoming(tables, work)?;
        let beyond = self.beyond(tables, work)?;
        self.run("writing rows", "SAVEPOINT backout_write; SET CONSTRAINTS ALL DEFERRED")?;
        let way = self.choose(tables, work, &incoming)?;
        let done = match way {
            Way::Short => self.short_way(tables, work, &beyond)?,
            Way::Long => false,
        };
        if !done {
            self.run("writing rows", "ROLLBACK TO SAVEPOINT backout_write")?;
            self.long_way(tables, work, &beyond)?;
        }
        self.run("writing rows", "RELEASE SAVEPOINT backout_write")?;
        if silenced.1.is_empty() { Ok(()) } else { self.run("enabling triggers again", &silenced.1) }
    }

    /// Disables the triggers that change rows on their way in or may write these tables; returns the statements that
    /// disable and that enable them as they were.
    fn silence(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>) -> Result<(String, String)> {
        let touched: Vec<&Table> = work.keys().map(|&i| tables[i]).collect();
        let names: Vec<&str> = touched.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT c.relname::text, t.tgname::text, t.tgenabled::text, t.tgtype & 3 = 3 OR t.tgtype & 64 <> 0, \
                l.lanname::text, p.prosrc \
            FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
            WHERE c.relname = ANY($1) AND c.relnamespace = pg_catalog.to_regnamespace($2::text) AND NOT t.tgisinternal \
            AND t.tgenabled IN ('O', 'A') AND t.tgname NOT LIKE 'backout\\_%' ORDER BY 1, 2";
        let home = quoted(&self.home);
        let (mut off, mut on) = (String::new(), String::new());
        for line in self.ask("looking for triggers", sql, &[&names, &home])? {
            let (changes_rows, language, source): (bool, String, String) = (line.get(3), line.get(4), line.get(5));
            // with both sides in one store, the live side's trigger has written elsewhere already
            if self.side.is_none() && !changes_rows && writes_elsewhere(&language, &source, tables) {
                continue;
            }
            let (table, trigger) = (self.named(line.get(0)), quoted(line.get(1)));
            let again = if line.get::<_, String>(2) == "A" { "ENABLE ALWAYS" } else { "ENABLE" };
            off.push_str(&format!("ALTER TABLE {table} DISABLE TRIGGER {trigger};"));
            on.push_str(&format!("ALTER TABLE {table} {again} TRIGGER {trigger};"));
        }
        if self.side.is_some() {
            // one for UPDATE forbids ON CONFLICT even where it is disabled
            let sql = "SELECT format(CASE WHEN r.ev_type = '2' THEN 'DROP RULE %2$I ON %1$s;' ELSE 'ALTER TABLE %1$s DISABLE RULE %2$I;' END, r.ev_class::regclass, r.rulename), \
                    concat(CASE WHEN r.ev_type = '2' THEN pg_get_ruledef(r.oid) END, format('ALTER TABLE %s %s RULE %I;', r.ev_class::regclass, \
                        CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END, r.rulename), \
                        CASE WHEN r.ev_type = '2' THEN format('COMMENT ON RULE %I ON %s IS ', r.rulename, r.ev_class::regclass) \
                            || quote_literal(obj_description(r.oid, 'pg_rewrite')) || ';' END) \
                FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class WHERE c.relname = ANY($1) \
                AND c.relnamespace = pg_catalog.to_regnamespace($2::text) AND (r.ev_enabled IN ('O', 'A') OR r.ev_type = '2') ORDER BY 1";
            for line in self.ask("looking for rules", sql, &[&names, &home])? {
                off.push_str(line.get(0));
                on.push_str(line.get(1));
            }
        }
        if !off.is_empty() {
            self.ddl("disabling triggers", &touched, &off)?;
        }
        Ok((off, on))
    }

    fn incoming(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>) -> Result<Vec<Incoming>> {
        let names: Vec<&str> = work.keys().map(|&i| tables[i].name.as_str()).collect();
        let sql = "SELECT f.conname::text, n.nspname::text, c.relname::text, p.relname::text, \
                f.confupdtype IN ('c', 'n', 'd'), \
                ARRAY(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY k(n, o) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.n ORDER BY k.o), \
                ARRAY(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY k(n, o) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.n ORDER BY k.o) \
            FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid = f.conrelid \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_class p ON p.oid = f.confrelid \
            WHERE f.contype = 'f' AND f.conparentid = 0 AND p.relname = ANY($1) \
            AND p.relnamespace = pg_catalog.to_regnamespace($2::text) ORDER BY 2, 3, 1";
        let home = quoted(&self.home);
        let lines = self.ask("looking for foreign keys", sql, &[&names, &home])?;
        let index = |name: &str| tables.iter().position(|t| t.name == name);
        Ok(lines
            .iter()
            .filter_map(|l| {
                let (schema, child): (String, String) = (l.get(1), l.get(2));
                Some(Incoming {
                    name: l.get(0),
                    child_index: index(&child).filter(|_| schema == self.home),
                    child: format!("{}.{}", quoted(&schema), quoted(&child)),
                    child_columns: l.get(5),
                    parent: index(l.get(3))?,
                    parent_columns: l.get(6),
                    acts_on_update: l.get(4),
                })
            })
            .collect())
    }

    fn beyond(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>) -> Result<HashMap<usize, Beyond>> {
        let names: Vec<&str> = work.keys().map(|&i| tables[i].name.as_str()).collect();
        let sql = "SELECT c.relname::text, a.attname::text, a.attidentity = 'a' FROM pg_catalog.pg_attribute a \
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE c.relname = ANY($1) \
            AND c.relnamespace = pg_catalog.to_regnamespace($2::text) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";
        let home = quoted(&self.home);
        let mut out: HashMap<usize, Beyond> = HashMap::new();
        for line in self.ask("looking at columns", sql, &[&names, &home])? {
            let (table, column): (String, String) = (line.get(0), line.get(1));
            let Some(index) = tables.iter().position(|t| t.name == table) else { continue };
            let beyond = out.entry(index).or_default();
            if tables[index].column(&column).is_none() {
                beyond.extra.push(column);
            } else if line.get(2) {
                beyond.always.insert(column);
            }
        }
        Ok(out)
    }

    /// Looks who refers to the rows that go: no action of a foreign key may touch a row behind our back.
    fn choose(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>, fks: &[Incoming]) -> Result<Way> {
        let mut way = Way::Short;
        for fk in fks {
            let Some(parent) = work.get(&fk.parent) else { continue };
            let table = tables[fk.parent];
            let by_key = fk.parent_columns.iter().all(|c| table.key_names().contains(&c.as_str()));
            let puts = !parent.kept.is_empty() || !parent.fresh.is_empty();
            if fk.acts_on_update && (!parent.moved.is_empty() || (puts && !by_key)) {
                way = Way::Long;
            }
            if parent.deletes.is_empty() {
                continue;
            }
            let child = fk.child_index.map(|i| (tables[i], work.get(&i)));
            let (mut going, mut put) = (HashSet::new(), HashSet::new());
            if let Some((child, Some(w))) = &child {
                going.extend(w.deletes.iter().map(|k| (*k).clone()));
                put.extend(w.moved.iter().map(|(from, _)| (*from).clone()));
                // what is under the key that a row moves to is not there any more, either
                let rows = w.moved.iter().map(|(_, row)| row).chain(&w.kept).chain(&w.fresh);
                put.extend(rows.map(|r| Key::of_row(r, &child.key)));
            }
            let child_key: Vec<String> = child.iter().flat_map(|(t, _)| &t.key).map(|&c| c.to_string()).collect();
            let mut columns: Vec<String> = table.key.iter().map(|&c| selected("p.", &table.columns[c])).collect();
            if let Some((t, _)) = &child {
                columns.extend(t.key.iter().map(|&c| selected("c.", &t.columns[c])));
            }
            let joined: Vec<String> = fk
                .child_columns
                .iter()
                .zip(&fk.parent_columns)
                .map(|(c, p)| format!("c.{} = p.{}", quoted(c), quoted(p)))
                .collect();
            let sql = format!(
                "SELECT {} FROM {} JOIN {} p ON {} JOIN {} c ON {} LIMIT {}",
                columns.join(", "),
                unnest(&key_wires(table), 1, "k", 'k'),
                self.name(table),
                same_key(table, "p", "k", 'k'),
                fk.child,
                joined.join(" AND "),
                going.len() + put.len() + 1
            );
            for piece in parent.deletes.chunks(MANY) {
                let operation = format!("looking who refers to {}", table.name);
                let arrays = key_arrays(table, piece.iter().copied()).map_err(|e| self.wrong(&operation, e))?;
                for line in self.query(&operation, &sql, &params(&arrays))? {
                    let read = |first: usize, t: &Table| {
                        let all = key_wires(t);
                        let values = all.iter().enumerate().map(|(i, w)| cell(&line, first + i, *w));
                        values.collect::<Option<Vec<Value<'_>>>>().map(|v| Key::of(&v))
                    };
                    let key = child.as_ref().and_then(|(t, _)| read(table.key.len(), t));
                    if key.as_ref().is_some_and(|k| going.contains(k)) {
                        continue;
                    }
                    if key.as_ref().is_some_and(|k| put.contains(k)) && !child_key.is_empty() {
                        way = Way::Long;
                        continue;
                    }
                    let row = read(0, table).map(|k| k.to_string()).unwrap_or_default();
                    let who = key.map(|k| format!(" {k}")).unwrap_or_default();
                    let cause = format!(
                        "{} {row} is to be deleted, but {}{who} still refers to it ({})",
                        table.name, fk.child, fk.name
                    );
                    return Err(self.refused(cause, "delete or change what refers to it first"));
                }
            }
        }
        Ok(way)
    }

    /// True when it worked; false when rows or constraints are in the way.
    fn short_way(
        &mut self,
        tables: &[&Table],
        work: &BTreeMap<usize, Work<'_>>,
        beyond: &HashMap<usize, Beyond>,
    ) -> Result<bool> {
        for (&i, w) in work.iter().rev() {
            if let Err(e) = self.delete_keys(tables[i], &w.deletes)? {
                return self.in_the_way(&e, tables[i]);
            }
        }
        for (&i, w) in work {
            let table = tables[i];
            let none = Beyond::default();
            let beyond = beyond.get(&i).unwrap_or(&none);
            let all = wires(&table.columns);
            if !w.moved.is_empty() {
                let keys = key_wires(table);
                let set = table
                    .columns
                    .iter()
                    .zip(staged_each(table, &all))
                    .map(|(c, v)| format!("{} = {v}", quoted(&c.name)));
                let sql = format!(
                    "UPDATE {} t SET {} FROM {} WHERE {}",
                    self.name(table),
                    set.collect::<Vec<_>>().join(", "),
                    unnest_both(&keys, &all),
                    same_key(table, "t", "n", 'k')
                );
                let rows = w.moved.iter().map(|(k, r)| (Some(*k), r.as_slice()));
                if let Err(e) = self.send_quietly(table, &sql, &keys, rows)? {
                    return self.in_the_way(&e, table);
                }
            }
            for (rows, stranger) in [(&w.kept, false), (&w.fresh, true)] {
                let mut set: Vec<String> = table
                    .columns
                    .iter()
                    .filter(|c| !beyond.always.contains(&c.name))
                    .map(|c| format!("{0} = EXCLUDED.{0}", quoted(&c.name)))
                    .collect();
                if stranger {
                    set.extend(beyond.extra.iter().map(|c| format!("{} = DEFAULT", quoted(c))));
                }
                let action = if set.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", set.join(", ")) };
                let sql = format!(
                    "{} {} ON CONFLICT ({}) DO {action}",
                    self.insert_head(table),
                    insert_select(table, &all),
                    list(table.key_names())
                );
                if let Err(e) = self.send_quietly(table, &sql, &[], rows.iter().map(|r| (None, r.as_slice())))? {
                    return self.in_the_way(&e, table);
                }
            }
        }
        match self.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE") {
            Ok(()) => Ok(true),
            Err(e) => self.in_the_way(&e, tables[0]),
        }
    }

    /// `false` for errors that the long way may not meet, else the error.
    fn in_the_way(&self, e: &postgres::Error, table: &Table) -> Result<bool> {
        match code(e) {
            // unique, foreign key, exclusion; no or a deferrable unique index; identity ALWAYS
            "23505" | "23503" | "23P01" | "42P10" | "55000" | "428C9" => Ok(false),
            _ => Err(self.fail(&format!("writing {}", table.name), e)),
        }
    }

    fn delete_keys(&mut self, table: &Table, keys: &[&Key]) -> Result<std::result::Result<(), postgres::Error>> {
        let sql = format!(
            "DELETE FROM {} t USING {} WHERE {}",
            self.name(table),
            unnest(&key_wires(table), 1, "k", 'k'),
            same_key(table, "t", "k", 'k')
        );
        for piece in keys.chunks(MANY) {
            let arrays = key_arrays(table, piece.iter().copied());
            let arrays = arrays.map_err(|e| self.wrong(&format!("deleting from {}", table.name), e))?;
            if let Err(e) = self.client.execute(&sql, &params(&arrays)) {
                return Ok(Err(e));
            }
        }
        Ok(Ok(()))
    }

    fn long_way(
        &mut self,
        tables: &[&Table],
        work: &BTreeMap<usize, Work<'_>>,
        beyond: &HashMap<usize, Beyond>,
    ) -> Result<()> {
        let touched: Vec<&Table> = work.keys().map(|&i| tables[i]).collect();
        let names: Vec<&str> = touched.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', f.conrelid::regclass, f.conname), \
                concat(format('ALTER TABLE %s ADD CONSTRAINT %I %s', f.conrelid::regclass, f.conname, pg_get_constraintdef(f.oid)), \
                    format('; COMMENT ON CONSTRAINT %I ON %s IS ', f.conname, f.conrelid::regclass) || quote_literal(obj_description(f.oid, 'pg_constraint'))) \
            FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid IN (f.conrelid, f.confrelid) \
            WHERE f.contype = 'f' AND f.conparentid = 0 AND c.relname = ANY($1) \
            AND c.relnamespace = pg_catalog.to_regnamespace($2::text) GROUP BY f.oid, f.conrelid, f.conname ORDER BY f.conrelid, f.conname";
        let home = quoted(&self.home);
        let fks = self.query("looking for foreign keys", sql, &[&names, &home])?;
        let (off, on): (Vec<String>, Vec<String>) =
            fks.iter().map(|l| (l.get::<_, String>(0), l.get::<_, String>(1))).unzip();
        if !off.is_empty() {
            self.ddl("dropping foreign keys for a moment", &touched, &off.join(";"))?;
        }
        let none = Beyond::default();
        for (&i, w) in work {
            let table = tables[i];
            let extra = &beyond.get(&i).unwrap_or(&none).extra;
            if !extra.is_empty() && w.moved.len() + w.kept.len() > 0 {
                let sql = format!(
                    "CREATE TEMP TABLE backout_kept_{i} ON COMMIT DROP AS SELECT * FROM {} LIMIT 0",
                    self.name(table)
                );
                self.run("keeping what rows have beyond the plan", &sql)?;
                let kept: Vec<Key> = w.kept.iter().map(|r| Key::of_row(r, &table.key)).collect();
                let keys: Vec<&Key> = w.moved.iter().map(|(k, _)| *k).chain(&kept).collect();
                let sql = format!(
                    "INSERT INTO pg_temp.backout_kept_{i} SELECT t.* FROM {} t JOIN {} ON {}",
                    self.name(table),
                    unnest(&key_wires(table), 1, "k", 'k'),
                    same_key(table, "t", "k", 'k')
                );
                for piece in keys.chunks(MANY) {
                    let arrays = key_arrays(table, piece.iter().copied());
                    let arrays = arrays.map_err(|e| self.wrong(&format!("reading {}", table.name), e))?;
                    self.execute("keeping what rows have beyond the plan", &sql, &params(&arrays))?;
                }
            }
            let own: Vec<Key> = (w.kept.iter().chain(&w.fresh).copied())
                .chain(w.moved.iter().map(|(_, r)| *r))
                .map(|r| Key::of_row(r, &table.key))
                .collect();
            let keys: Vec<&Key> =
                w.deletes.iter().copied().chain(w.moved.iter().map(|(k, _)| *k)).chain(&own).collect();
            self.delete_keys(table, &keys)?.map_err(|e| self.fail(&format!("deleting from {}", table.name), &e))?;
        }
        for (&i, w) in work {
            let table = tables[i];
            let extra = &beyond.get(&i).unwrap_or(&none).extra;
            let all = wires(&table.columns);
            let plain = format!("{} {}", self.insert_head(table), insert_select(table, &all));
            let hint = "two rows cannot both be there: change one of them";
            if extra.is_empty() {
                let rows = w.moved.iter().map(|(_, r)| *r).chain(w.kept.iter().copied()).chain(w.fresh.iter().copied());
                let sent = self.send_quietly(table, &plain, &[], rows.map(|r| (None, r.as_slice())))?;
                sent.map_err(|e| self.unique_or(&e, table, hint))?;
                continue;
            }
            let keys = key_wires(table);
            let names = list(table.columns.iter().map(|c| &c.name).chain(extra));
            let more: Vec<String> = extra.iter().map(|c| format!("o.{}", quoted(c))).collect();
            let sql = format!(
                "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {}, {} FROM {} JOIN pg_temp.backout_kept_{i} o ON {}",
                self.name(table),
                staged(table, &all),
                more.join(", "),
                unnest_both(&keys, &all),
                same_key(table, "o", "n", 'k')
            );
            let kept: Vec<(Key, &Row)> = w.kept.iter().map(|r| (Key::of_row(r, &table.key), *r)).collect();
            let rows = w.moved.iter().map(|(k, r)| (*k, *r)).chain(kept.iter().map(|(k, r)| (k, *r)));
            let sent = self.send_quietly(table, &sql, &keys, rows.map(|(k, r)| (Some(k), r.as_slice())))?;
            sent.map_err(|e| self.unique_or(&e, table, hint))?;
            let sent = self.send_quietly(table, &plain, &[], w.fresh.iter().map(|r| (None, r.as_slice())))?;
            sent.map_err(|e| self.unique_or(&e, table, hint))?;
            if w.moved.len() + w.kept.len() > 0 {
                self.run("writing rows", &format!("DROP TABLE pg_temp.backout_kept_{i}"))?;
            }
        }
        let mut all = String::from("SET CONSTRAINTS ALL IMMEDIATE;");
        all.push_str(&on.join(";"));
        self.client.batch_execute(&all).map_err(|e| {
            if code(&e).starts_with("23") {
                self.row_refused(&e, "what refers to a row must go or change together with it")
            } else {
                self.fail("adding foreign keys again", &e)
            }
        })
    }

    fn unique_or(&self, e: &postgres::Error, table: &Table, hint: &str) -> Error {
        if code(e).starts_with("23") {
            self.row_refused(e, hint)
        } else {
            self.fail(&format!("writing {}", table.name), e)
        }
    }
}

/// As far as its text tells, the trigger writes none of these tables.
fn writes_elsewhere(language: &str, source: &str, tables: &[&Table]) -> bool {
    let source = source.to_lowercase();
    let word = |w: &str| source.split(|c: char| !c.is_alphanumeric() && c != '_').any(|s| s == w);
    let named = |name: &str| {
        let name = name.to_lowercase();
        if name.chars().all(|c| c.is_alphanumeric() || c == '_') { word(&name) } else { source.contains(&name) }
    };
    matches!(language, "plpgsql" | "sql") && !word("execute") && !tables.iter().any(|t| named(&t.name))
}

/// Rows that are under these very keys: found by the column's own equality (and its index), and equal in bytes.
fn same_key(table: &Table, row: &str, keys: &str, letter: char) -> String {
    let mut all = key_matches(table, row, keys, letter);
    for (i, &c) in table.key.iter().enumerate() {
        let column = &table.columns[c];
        // what travels as text is compared as it was sent: a cast may cut it to another row's key
        let (here, sent) = match copy::Wire::of_column(column) {
            copy::Wire::Text => (
                format!("{row}.{}::pg_catalog.text", quoted(&column.name)),
                format!("::{}", copy::comparable(&column.ty)),
            ),
            copy::Wire::Other => (as_text(&format!("{row}."), column), String::new()),
            _ => continue,
        };
        all.push_str(&format!(" AND {here} COLLATE \"C\" = {keys}.{letter}{i}{sent}::pg_catalog.text COLLATE \"C\""));
    }
    all
}

/// `unnest(…) AS n(k0, …, c0, …)`: keys, then columns.
fn unnest_both(keys: &[copy::Wire], columns: &[copy::Wire]) -> String {
    let all: Vec<copy::Wire> = keys.iter().chain(columns).copied().collect();
    let head = unnest(&all, 1, "n", 'x');
    let names: Vec<String> =
        (0..keys.len()).map(|i| format!("k{i}")).chain((0..columns.len()).map(|i| format!("c{i}"))).collect();
    let arrays = head.split(" AS n(").next().unwrap_or_default();
    format!("{arrays} AS n({})", names.join(", "))
}
