//! In place: the targets are built beside the sources in the same file, and swapped in by their names (P3).
//!
//! Moved are the rows of `sqlite_schema`, by our own hand. ALTER TABLE … RENAME would rewrite views and triggers that others made,
//! stops at any that is broken, and cannot give an index another name. What goes by name (views, triggers, foreign keys of
//! others) is left alone, and so belongs to the table that is home.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use rusqlite::params;

use super::build::{create_sql, index_sql, made_apart};
use super::text::{self, quote};
use super::{Sqlite, triggers};
use crate::plan::Table;
use crate::store::{Result, Site};

/// Where the texts of what rests are kept, word for word, until it comes home.
const TEXT: &str = "CREATE TABLE IF NOT EXISTS backout_text
    (place INTEGER, kind TEXT, name TEXT, tbl TEXT, sql TEXT, now TEXT, became TEXT)";

/// A row of `sqlite_schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Its rowid: SQLite reads them in this order, a table before its indexes and triggers.
    pub at: i64,
    pub kind: String,
    pub name: String,
    /// The table it belongs to.
    pub on: String,
    pub sql: Option<String>,
}

/// What was before it rested, and what it was called and said then.
pub(super) struct Saved {
    was: Object,
    now: String,
    became: Option<String>,
}

/// Tables that go from one site to another.
pub(super) struct Leg<'t> {
    pub tables: &'t [&'t Table],
    pub from: &'t Site,
    pub to: &'t Site,
}

impl Leg<'_> {
    /// Present names in lower case, and the new ones.
    fn names(&self) -> HashMap<String, String> {
        let (was, to) = (prefix(self.from), prefix(self.to));
        self.tables.iter().map(|t| (format!("{was}{}", t.name).to_lowercase(), format!("{to}{}", t.name))).collect()
    }

    /// The text of a table under its new name.
    fn table(&self, names: &HashMap<String, String>, object: &Object, name: &str) -> Option<String> {
        let sql = object.sql.as_deref()?;
        let own = self.tables.iter().find(|t| format!("{}{}", prefix(self.to), t.name) == name)?;
        if *self.to == Site::Home && create_sql(&placed(own, self.from)) == sql {
            return Some(create_sql(own));
        }
        let parents = text::parents(sql);
        let parents: Vec<&str> =
            parents.iter().map(|p| names.get(&p.to_lowercase()).map_or(p.as_str(), String::as_str)).collect();
        Some(text::renamed(sql, name, &parents))
    }

    /// Name and text of an index on the table that is to be `table`.
    fn index(&self, object: &Object, table: &str) -> Option<(String, Option<String>)> {
        let Some(sql) = object.sql.as_deref() else {
            // SQLite finds them by the name that it would give them itself
            let n = object.name.rsplit('_').next()?;
            return Some((format!("sqlite_autoindex_{table}_{n}"), None));
        };
        let bare = object.name.strip_prefix(&prefix(self.from)).unwrap_or(&object.name);
        let name = format!("{}{bare}", prefix(self.to));
        let own = self.tables.iter().find(|t| format!("{}{}", prefix(self.to), t.name) == table)?;
        if *self.to == Site::Home {
            let there = placed(own, self.from);
            let made = made_apart(own).zip(made_apart(&there)).find(|(_, (_, n))| *n == object.name);
            if let Some(((index, _), (staged, there_name))) = made
                && index_sql(&there, staged, &there_name) == sql
            {
                let sql = index_sql(own, index, &name);
                return Some((name, Some(sql)));
            }
        }
        let sql = text::index_renamed(sql, &name, table)?;
        Some((name, Some(sql)))
    }
}

/// The schema after these went out and those came home, row by row as before. What cannot be said as an error.
pub(super) fn after(
    before: &[Object],
    out: &Leg<'_>,
    home: &Leg<'_>,
    saved: &[Saved],
) -> std::result::Result<Vec<Object>, String> {
    let mut rows = before.to_vec();
    let mut moved: Vec<(usize, bool)> = Vec::new();
    let mut places: HashMap<usize, i64> = HashMap::new();
    for (leg, comes) in [(home, true), (out, false)] {
        let names = leg.names();
        let there = |n: &String| before.iter().any(|o| o.kind == "table" && o.name.to_lowercase() == *n);
        if let Some(missing) = names.keys().find(|n| !there(n)) {
            return Err(format!("there is no table {missing}"));
        }
        for (i, object) in before.iter().enumerate() {
            let Some(table) = names.get(&object.on.to_lowercase()) else { continue };
            let row = &mut rows[i];
            match object.kind.as_str() {
                "table" => {
                    row.sql = leg.table(&names, object, table);
                    (row.name, row.on) = (table.clone(), table.clone());
                }
                "index" => {
                    let Some((name, sql)) = leg.index(object, table) else {
                        return Err(format!("the text of index {} cannot be read", object.name));
                    };
                    (row.name, row.sql, row.on) = (name, sql, table.clone());
                }
                _ => continue,
            }
            moved.push((i, comes));
            let as_it_was = saved
                .iter()
                .find(|s| comes && s.was.kind == object.kind && s.now == object.name && s.became == object.sql);
            if let Some(s) = as_it_was {
                (row.name, row.on, row.sql) = (s.was.name.clone(), s.was.on.clone(), s.was.sql.clone());
                places.insert(i, s.was.at);
            }
        }
    }
    in_order(before, &mut rows, &moved, &places);
    sound(&rows)?;
    Ok(rows)
}

/// Gives each moved row its place: the one that it had, or its namesake's, or one at the end. A table stands before its indexes and
/// triggers, or the schema cannot be read.
fn in_order(before: &[Object], rows: &mut [Object], moved: &[(usize, bool)], places: &HashMap<usize, i64>) {
    let mut next = before.iter().map(|o| o.at).max().unwrap_or_default();
    let mut end = || {
        next += 1;
        next
    };
    let staying = |at: i64| before.iter().enumerate().any(|(i, o)| o.at == at && !moved.iter().any(|m| m.0 == i));
    let back = !places.is_empty() && !places.values().any(|at| staying(*at));
    let mut order: Vec<(usize, bool)> = moved.to_vec();
    order.sort_by_key(|(i, comes)| (!comes, before[*i].kind != "table", before[*i].at));
    for (i, comes) in order {
        let table = rows[i].kind == "table";
        let namesake = before.iter().find(|o| comes && table && o.kind == "table" && o.name == rows[i].name);
        rows[i].at = match (places.get(&i), namesake) {
            (Some(at), _) if back => *at,
            (_, Some(other)) if !back => other.at,
            _ => end(),
        };
    }
    let tables: HashMap<String, i64> =
        rows.iter().filter(|o| o.kind == "table").map(|o| (o.name.to_lowercase(), o.at)).collect();
    for row in rows.iter_mut().filter(|o| o.kind != "table") {
        if tables.get(&row.on.to_lowercase()).is_some_and(|at| *at > row.at) {
            row.at = end();
        }
    }
}

/// No two of a name, and nothing on a table that is not there.
fn sound(rows: &[Object]) -> std::result::Result<(), String> {
    let mut names = HashSet::new();
    for row in rows.iter().filter(|o| o.kind != "trigger") {
        if !names.insert(row.name.to_lowercase()) {
            return Err(format!("there would be two of the name {}", row.name));
        }
    }
    let tables: HashSet<String> =
        rows.iter().filter(|o| o.kind == "table" || o.kind == "view").map(|o| o.name.to_lowercase()).collect();
    match rows.iter().find(|o| !tables.contains(&o.on.to_lowercase())) {
        Some(o) => Err(format!("{} {} belongs to {}, which would not be there", o.kind, o.name, o.on)),
        None => Ok(()),
    }
}

/// What the names of tables and indexes begin with that are at this site.
pub(super) fn prefix(site: &Site) -> String {
    match site {
        Site::Home => String::new(),
        Site::Staged(run) => format!("backout_stage_{run}__"),
        Site::Backup => "migration_backup__".to_owned(),
    }
}

/// The table under the names that it has at this site. The tables of a run that has both sides in one file refer to one another alone.
pub(super) fn placed(table: &Table, site: &Site) -> Table {
    let prefix = prefix(site);
    let mut table = table.clone();
    let was = table.name.clone();
    table.name.insert_str(0, &prefix);
    table.foreign_keys.iter_mut().for_each(|f| f.table.insert_str(0, &prefix));
    table.indexes.iter_mut().filter_map(|i| i.name.as_mut()).for_each(|n| n.insert_str(0, &prefix));
    let expressions = table.checks.iter_mut().chain(table.generated.iter_mut().filter_map(|g| g.expression.as_mut()));
    for text in expressions.chain(table.indexes.iter_mut().filter_map(|i| i.predicate.as_mut())) {
        *text = text::requalified(text, &was, &table.name);
    }
    table
}

/// The same backwards: a table as the plan calls it.
pub(super) fn named(mut table: Table, prefix: &str) -> Table {
    let bare = |name: &mut String| {
        if let Some(rest) = name.strip_prefix(prefix) {
            *name = rest.to_owned();
        }
    };
    bare(&mut table.name);
    table.foreign_keys.iter_mut().for_each(|f| bare(&mut f.table));
    table.indexes.iter_mut().filter_map(|i| i.name.as_mut()).for_each(bare);
    table
}

/// As the functions of this room take them.
pub(super) fn refs<'c>(tables: &'c [Cow<'_, Table>]) -> Vec<&'c Table> {
    tables.iter().map(|t| &**t).collect()
}

impl Sqlite {
    /// The table as it is called where this connection stands.
    pub(super) fn here<'t>(&self, table: &'t Table) -> Cow<'t, Table> {
        match &self.side {
            Some((_, site)) if *site != Site::Home => Cow::Owned(placed(table, site)),
            _ => Cow::Borrowed(table),
        }
    }

    pub(super) fn all_here<'t>(&self, tables: &[&'t Table]) -> Vec<Cow<'t, Table>> {
        tables.iter().map(|t| self.here(t)).collect()
    }

    pub(super) fn schema_rows(&self) -> Result<Vec<Object>> {
        let sql = "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid";
        self.all("read the schema", sql, [], |r| {
            Ok(Object { at: r.get(0)?, kind: r.get(1)?, name: r.get(2)?, on: r.get(3)?, sql: r.get(4)? })
        })
    }

    fn saved(&self) -> Result<Vec<Saved>> {
        let sql = "SELECT place, kind, name, tbl, sql, now, became FROM backout_text";
        self.all("read the texts", sql, [], |r| {
            let was = Object { at: r.get(0)?, kind: r.get(1)?, name: r.get(2)?, on: r.get(3)?, sql: r.get(4)? };
            Ok(Saved { was, now: r.get(5)?, became: r.get(6)? })
        })
    }

    pub(super) fn swap_tables(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        self.ddl()?;
        self.run("make the table of texts", TEXT)?;
        // what was live may be gone
        let mut there = Vec::new();
        for table in out {
            if self.has(&table.name)? {
                there.push(*table);
            }
        }
        let out = Leg { tables: &there, from: &Site::Home, to: aside };
        let home = Leg { tables: home, from, to: &Site::Home };
        let before = self.schema_rows()?;
        let moving: HashSet<String> = out.names().into_keys().chain(home.names().into_keys()).collect();
        let ours = |o: &&Object| o.kind == "trigger" && moving.contains(&o.on.to_lowercase()) && is_ours(&o.name);
        if let Some(left) = before.iter().find(ours) {
            let cause = format!("{} is still on {}: it would stay there for another table", left.name, left.on);
            return Err(self.cannot(&cause));
        }
        let saved = if *from == Site::Backup { self.saved()? } else { Vec::new() };
        let after = after(&before, &out, &home, &saved).map_err(|cause| self.cannot(&cause))?;
        let names: HashMap<&str, &str> =
            before.iter().zip(&after).filter(|(b, _)| b.kind != "trigger").map(|(b, a)| (&*b.name, &*a.name)).collect();
        let tables: Vec<(&str, &str)> = before
            .iter()
            .zip(&after)
            .filter(|(b, _)| b.kind == "table" && moving.contains(&b.name.to_lowercase()))
            .map(|(b, a)| (&*b.name, &*a.name))
            .collect();
        let mut shapes = Vec::new();
        for (was, _) in &tables {
            shapes.push(self.shape(was, &names)?);
        }
        if *aside == Site::Backup {
            self.save(&before, &after, &out)?;
        } else {
            self.run("forget the texts", "DELETE FROM backout_text")?;
        }
        self.follow(&tables, &names)?;
        let edited = self.edit_schema(&before, &after);
        // a log of what was home is none of what comes: the next capture begins anew
        let gap = "INSERT INTO backout_meta (what) VALUES ('gap')";
        let edited = edited.and_then(|()| if self.has("backout_meta")? { self.run("note a gap", gap) } else { Ok(()) });
        let read = || {
            for ((_, to), shape) in tables.iter().zip(shapes) {
                self.run(&format!("read {to} where it is now"), &format!("SELECT 1 FROM {} LIMIT 1", quote(to)))?;
                if self.shape(to, &HashMap::new())? != shape {
                    return Err(self.cannot(&format!("{to} is not what it was under its other name")));
                }
            }
            Ok(())
        };
        // the file is as it was once this is taken back: it is our schema that cannot be read
        edited.inspect_err(|_| self.schema_anew())?;
        read().map_err(|e| self.cannot(&e.to_string()))
    }

    fn cannot(&self, cause: &str) -> crate::store::Error {
        self.refused(format!("the tables cannot be swapped: {cause}"), "nothing was changed; see what has become of it")
    }

    /// What SQLite makes of a table's text and its indexes', these under their new names.
    fn shape(&self, table: &str, names: &HashMap<&str, &str>) -> Result<Vec<String>> {
        let op = format!("read the definition of {table}");
        let columns =
            "SELECT json_array(cid, name, type, \"notnull\", dflt_value, pk, hidden) FROM pragma_table_xinfo(?1)";
        let mut shape: Vec<String> = self.all(&op, columns, [table], |r| r.get(0))?;
        // the key of a table WITHOUT ROWID is no object of the schema, and has no name of its own
        let indexes = "SELECT CASE l.origin WHEN 'pk' THEN 'the key' ELSE l.name END, json_array(l.\"unique\", l.origin, l.partial, x.seqno, x.cid, x.name, x.\"desc\", x.coll, \
            x.\"key\") FROM pragma_index_list(?1) AS l, pragma_index_xinfo(l.name) AS x";
        shape.extend(self.all(&op, indexes, [table], |r| {
            let (name, what) = (r.get::<_, String>(0)?, r.get::<_, String>(1)?);
            Ok(format!("{} {what}", names.get(name.as_str()).copied().unwrap_or(&name)))
        })?);
        shape.sort();
        Ok(shape)
    }

    fn save(&self, before: &[Object], after: &[Object], out: &Leg<'_>) -> Result<()> {
        let names = out.names();
        let put = || {
            self.conn.execute("DELETE FROM backout_text", [])?;
            let mut s = self.conn.prepare("INSERT INTO backout_text VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            for (b, a) in before.iter().zip(after) {
                if b.kind != "trigger" && names.contains_key(&b.on.to_lowercase()) {
                    s.execute(params![b.at, b.kind, b.name, b.on, b.sql, a.name, a.sql])?;
                }
            }
            Ok(())
        };
        put().map_err(self.err("keep the texts"))
    }

    /// What goes by a table's name in SQLite's own tables: the numbers of AUTOINCREMENT, and statistics.
    fn follow(&self, tables: &[(&str, &str)], names: &HashMap<&str, &str>) -> Result<()> {
        let changed = |column: &str, pairs: &mut dyn Iterator<Item = (&str, &str)>| {
            let each: String =
                pairs.map(|(was, to)| format!(" WHEN {} THEN {}", text::literal(was), text::literal(to))).collect();
            format!("{column} = CASE {column}{each} ELSE {column} END")
        };
        let all = || tables.iter().copied();
        let only = all().map(|(was, _)| text::literal(was)).collect::<Vec<_>>().join(", ");
        if self.has("sqlite_sequence")? {
            let sql = format!("UPDATE sqlite_sequence SET {} WHERE name IN ({only})", changed("name", &mut all()));
            self.run("take the numbers along", &sql)?;
        }
        for statistics in ["sqlite_stat1", "sqlite_stat4"] {
            if self.has(statistics)? {
                let mut indexes = names.iter().map(|(was, to)| (*was, *to)).filter(|(was, to)| was != to).chain(all());
                let sql = format!(
                    "UPDATE {statistics} SET {}, {} WHERE tbl IN ({only})",
                    changed("idx", &mut indexes),
                    changed("tbl", &mut all())
                );
                self.run("take the statistics along", &sql)?;
            }
        }
        Ok(())
    }

    /// Writes the rows as they are to be, and reads the schema anew.
    fn edit_schema(&self, before: &[Object], after: &[Object]) -> Result<()> {
        let op = "swap the tables";
        let free = before.iter().chain(after).map(|o| o.at).max().unwrap_or_default() + 1;
        self.run(op, "PRAGMA writable_schema = ON")?;
        let write = || {
            let mut out = self.conn.prepare("UPDATE sqlite_schema SET rowid = ?2 WHERE rowid = ?1")?;
            let mut put = self
                .conn
                .prepare("UPDATE sqlite_schema SET rowid = ?2, name = ?3, tbl_name = ?4, sql = ?5 WHERE rowid = ?1")?;
            let changed: Vec<_> = (free..).zip(before.iter().zip(after).filter(|(b, a)| b != a)).collect();
            for (f, (b, _)) in &changed {
                out.execute(params![b.at, f])?;
            }
            for (f, (_, a)) in changed {
                put.execute(params![f, a.at, a.name, a.on, a.sql])?;
            }
            Ok(())
        };
        write().map_err(self.err(op))?;
        // every connection, ours too, reads the schema again before its next statement
        let version = self.number(op, "PRAGMA schema_version")?;
        self.run(op, &format!("PRAGMA schema_version = {}", version + 1))?;
        self.run(op, "PRAGMA writable_schema = RESET")
    }

    /// What this connection has in mind of the schema is forgotten.
    pub(super) fn schema_anew(&self) {
        // if it fails, the next statement does
        let _ = self.conn.execute_batch("PRAGMA writable_schema = RESET");
    }
}

fn is_ours(trigger: &str) -> bool {
    trigger.starts_with(triggers::CAPTURE) || trigger.starts_with(triggers::SEAL)
}
