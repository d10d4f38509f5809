//! Which rows of a set the server does not take, looked for after it has refused the set: rows by halves, then what would
//! refer to nothing. All of it is undone again.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Work, cell, copy, params, quoted};
use crate::plan::{Column, Table};
use crate::store::postgres::rows::{insert_select, selected, wires};
use crate::store::postgres::{Postgres, code, words};
use crate::store::{Error, Result};
use crate::value::{Key, Row, Value};

/// A row that is not taken: its table's index, its key, and why.
type Unfit = Vec<(usize, Key, String)>;

/// A foreign key, by names.
struct Reference {
    name: String,
    child: String,
    child_index: Option<usize>,
    child_columns: Vec<String>,
    parent: String,
    parent_index: Option<usize>,
    parent_columns: Vec<String>,
}

impl Postgres {
    /// Within a savepoint of the caller's, who rolls it back.
    pub(super) fn unfit(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>) -> Result<Unfit> {
        self.silence(tables, work)?;
        let references = self.references_off(tables, work)?;
        self.run("looking for rows that do not fit", "SET CONSTRAINTS ALL IMMEDIATE")?;
        let mut gone: HashMap<usize, Vec<(Key, Row)>> = HashMap::new();
        for (&i, w) in work {
            let table = tables[i];
            let own: Vec<Key> = w.kept.iter().chain(&w.fresh).map(|r| Key::of_row(r, &table.key)).collect();
            let leaving = w.moved.iter().map(|(from, _)| *from);
            let mut keys: Vec<Key> = w.deletes.iter().copied().chain(leaving).chain(&own).cloned().collect();
            keys.extend(w.moved.iter().map(|(_, r)| Key::of_row(r, &table.key)));
            let there = self.fetch_rows(table, &keys)?;
            let old = keys.iter().zip(there).filter_map(|(k, r)| Some((k.clone(), r?)));
            gone.insert(i, old.collect());
            let all: Vec<&Key> = keys.iter().collect();
            self.delete_keys(table, &all)?.map_err(|e| self.fail(&format!("deleting from {}", table.name), &e))?;
        }
        let mut unfit = Unfit::new();
        for (&i, w) in work {
            let table = tables[i];
            let rows: Vec<(Option<Key>, &Row)> = (w.kept.iter().map(|r| (Some(Key::of_row(r, &table.key)), *r)))
                .chain(w.moved.iter().map(|(from, r)| (Some((*from).clone()), *r)))
                .chain(w.fresh.iter().map(|r| (None, *r)))
                .collect();
            let every: Vec<&Row> = rows.iter().map(|(_, r)| *r).collect();
            let refused = self.by_halves(table, &every)?;
            for (at, why) in refused {
                let (from, row) = &rows[at];
                unfit.push((i, Key::of_row(row, &table.key), why));
                // what cannot be changed stays as it was
                let old =
                    from.as_ref().and_then(|f| gone.get(&i)?.iter().find(|(k, _)| k == f)).map(|(_, r)| r.clone());
                if let Some(old) = old {
                    self.by_halves(table, &[&old])?;
                }
            }
        }
        for reference in &references {
            self.orphans(tables, work, reference, &gone, &mut unfit)?;
        }
        unfit.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        unfit.dedup_by(|a, b| (a.0, &a.1) == (b.0, &b.1));
        Ok(unfit)
    }

    /// Adds rows; those that are refused are found by halving, and named by their place.
    fn by_halves(&mut self, table: &Table, rows: &[&Row]) -> Result<Vec<(usize, String)>> {
        let operation = format!("writing {}", table.name);
        let all = wires(&table.columns);
        let sql = format!("{} {}", self.insert_head(table), insert_select(table, &all));
        let mut out = Vec::new();
        let mut waiting = vec![(0, rows.len())];
        while let Some((from, to)) = waiting.pop() {
            if from == to {
                continue;
            }
            self.run(&operation, "SAVEPOINT backout_half")?;
            let some = rows[from..to].iter().map(|r| (None, r.as_slice()));
            let why = match self.send_quietly(table, &sql, &[], some) {
                Ok(Ok(())) => None,
                Ok(Err(e)) if e.as_db_error().is_none() || code(&e).starts_with(['0', '4', '5', 'X']) => {
                    return Err(self.fail(&operation, &e));
                }
                Ok(Err(e)) => Some(words(&e)),
                // a value that no column of that type can have
                Err(Error::Database { cause, .. }) => Some(cause),
                Err(e) => return Err(e),
            };
            match why {
                None => self.run(&operation, "RELEASE SAVEPOINT backout_half")?,
                Some(why) => {
                    self.run(&operation, "ROLLBACK TO SAVEPOINT backout_half; RELEASE SAVEPOINT backout_half")?;
                    if to - from == 1 {
                        let key = Key::of_row(rows[from], &table.key);
                        out.push((from, format!("table {}, key {key}: {why}", table.name)));
                    } else {
                        let middle = from.midpoint(to);
                        waiting.extend([(middle, to), (from, middle)]);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Drops the foreign keys of the touched tables, and returns them.
    fn references_off(&mut self, tables: &[&Table], work: &BTreeMap<usize, Work<'_>>) -> Result<Vec<Reference>> {
        let touched: Vec<&Table> = work.keys().map(|&i| tables[i]).collect();
        let names: Vec<&str> = touched.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT f.conname::text, f.conrelid::regclass::text, c.relname::text, \
                c.relnamespace = pg_catalog.to_regnamespace($2::text), f.confrelid::regclass::text, p.relname::text, \
                p.relnamespace = pg_catalog.to_regnamespace($2::text), \
                ARRAY(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY k(n, o) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.n ORDER BY k.o), \
                ARRAY(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY k(n, o) \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.n ORDER BY k.o) \
            FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid = f.conrelid \
            JOIN pg_catalog.pg_class p ON p.oid = f.confrelid \
            WHERE f.contype = 'f' AND f.conparentid = 0 AND (c.relname = ANY($1) AND c.relnamespace = pg_catalog.to_regnamespace($2::text) \
                OR p.relname = ANY($1) AND p.relnamespace = pg_catalog.to_regnamespace($2::text)) ORDER BY 2, 1";
        let home = quoted(&self.home);
        let lines = self.query("looking for foreign keys", sql, &[&names, &home])?;
        let index = |name: &str, here: bool| tables.iter().position(|t| t.name == name).filter(|_| here);
        let references: Vec<Reference> = lines
            .iter()
            .map(|l| Reference {
                name: l.get(0),
                child: l.get(1),
                child_index: index(l.get(2), l.get(3)),
                child_columns: l.get(7),
                parent: l.get(4),
                parent_index: index(l.get(5), l.get(6)),
                parent_columns: l.get(8),
            })
            .collect();
        let off: Vec<String> =
            references.iter().map(|r| format!("ALTER TABLE {} DROP CONSTRAINT {}", r.child, quoted(&r.name))).collect();
        if !off.is_empty() {
            self.ddl("dropping foreign keys for a moment", &touched, &off.join(";"))?;
        }
        Ok(references)
    }

    /// Rows that refer to nothing now: the row itself is to blame if it is of the set, else the one that has gone.
    fn orphans(
        &mut self,
        tables: &[&Table],
        work: &BTreeMap<usize, Work<'_>>,
        r: &Reference,
        gone: &HashMap<usize, Vec<(Key, Row)>>,
        unfit: &mut Unfit,
    ) -> Result<()> {
        let child = r.child_index.map(|i| (i, tables[i]));
        let mut columns: Vec<Column> = Vec::new();
        if let Some((_, t)) = child {
            columns.extend(t.key.iter().map(|&c| t.columns[c].clone()));
        }
        let keyed = columns.len();
        let parent = r.parent_index.map(|i| tables[i]);
        let places: Vec<usize> =
            parent.map_or(Vec::new(), |p| r.parent_columns.iter().filter_map(|c| p.column(c)).collect());
        let mut selects: Vec<String> = columns.iter().map(|c| selected("c.", c)).collect();
        for (&at, name) in places.iter().zip(&r.child_columns) {
            let Some(p) = parent else { continue };
            // as the parent's own column has it, so that it compares with what has gone
            let theirs = p.columns[at].clone();
            let ty = if copy::Wire::of_column(&theirs) == copy::Wire::Other {
                "pg_catalog.text".to_owned()
            } else {
                copy::comparable(&theirs.ty)
            };
            selects.push(format!("c.{}::{ty}", quoted(name)));
            columns.push(theirs);
        }
        selects.push("0".into());
        let set: Vec<String> = r.child_columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect();
        let pairs: Vec<String> = r
            .child_columns
            .iter()
            .zip(&r.parent_columns)
            .map(|(c, p)| format!("p.{} = c.{}", quoted(p), quoted(c)))
            .collect();
        let sql = format!(
            "SELECT {} FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})",
            selects.join(", "),
            r.child,
            set.join(" AND "),
            r.parent,
            pairs.join(" AND ")
        );
        let operation = format!("looking who refers to nothing by {}", r.name);
        let lines = self.query(&operation, &sql, params(&[]).as_slice())?;
        let all = wires(&columns);
        let mut puts: HashSet<Key> = HashSet::new();
        if let Some((i, t)) = child
            && let Some(w) = work.get(&i)
        {
            let rows = w.kept.iter().chain(&w.fresh).copied().chain(w.moved.iter().map(|(_, r)| *r));
            puts.extend(rows.map(|r| Key::of_row(r, &t.key)));
        }
        for line in &lines {
            let values: Option<Vec<Value<'_>>> = all.iter().enumerate().map(|(n, w)| cell(line, n, *w)).collect();
            let Some(values) = values else { continue };
            let key = Key::of(&values[..keyed]);
            let refers = Key::of(&values[keyed..]);
            // the plan's tables by the names that they have at home
            let name = |index: Option<usize>, other: &str| index.map_or(other.to_owned(), |i| tables[i].name.clone());
            let (from, to) = (name(r.child_index, &r.child), name(r.parent_index, &r.parent));
            if let Some((i, _)) = child
                && puts.contains(&key)
            {
                let why =
                    format!("row {key} of {from} would refer to {refers} in {to}, which does not exist ({})", r.name);
                unfit.push((i, key, why));
            } else if let Some(p) = r.parent_index {
                // a row is named by the key that it was to have
                let moved = |k: &Key| {
                    let to = work.get(&p)?.moved.iter().find(|(from, _)| *from == k)?.1;
                    Some(Key::of_row(to, &tables[p].key))
                };
                let old = gone.get(&p).into_iter().flatten().filter(|(_, row)| Key::of_row(row, &places) == refers);
                let whose = if child.is_some() { format!("row {key} of {from}") } else { format!("a row of {from}") };
                unfit.extend(old.map(|(k, _)| {
                    let gone = work.get(&p).is_some_and(|w| w.deletes.contains(&k));
                    let (key, name) = (moved(k).unwrap_or_else(|| k.clone()), &r.name);
                    let why = match gone {
                        true => format!("it is gone, but stays here, as {whose} refers to {refers} ({name})"),
                        false => format!("not written, as it was {refers}, to which {whose} refers ({name})"),
                    };
                    let why = format!("table {to}, key {key}: {why}");
                    (p, key, why)
                }));
            }
        }
        Ok(())
    }
}
