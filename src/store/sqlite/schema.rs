//! What is in a SQLite file: the pragmas, and what only the text of the CREATE statements tells.

use std::collections::HashMap;

use rusqlite::Row;

use super::swap::{named, prefix};
use super::text::{self, quote};
use super::{Sqlite, owned, records};
use crate::plan::{Affinity, Column, Details, ForeignKey, Generated, Index, IndexColumn, Table};
use crate::store::{Result, Schema};
use crate::value::Key;

/// A name by which the rowid can be reached; `None` if there is none, or columns have taken all three.
pub(super) fn rowid_name(table: &Table) -> Option<&'static str> {
    let taken = |name: &str| {
        let columns = table.columns.iter().map(|c| &c.name).chain(table.generated.iter().map(|g| &g.name));
        columns.into_iter().any(|c| c.eq_ignore_ascii_case(name))
    };
    if table.details.without_rowid { None } else { ["rowid", "_rowid_", "oid"].into_iter().find(|n| !taken(n)) }
}

/// The key is the rowid itself.
pub(super) fn is_alias(table: &Table) -> bool {
    !table.details.without_rowid && table.key.len() == 1 && table.columns[table.key[0]].identity
}

fn collation(name: &str) -> Option<String> {
    match name.to_ascii_uppercase().as_str() {
        "BINARY" => None,
        known @ ("NOCASE" | "RTRIM") => Some(known.to_owned()),
        _ => Some(name.to_owned()),
    }
}

impl Sqlite {
    /// All rows of a query.
    pub(super) fn all<T>(
        &self,
        operation: &str,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.conn
            .prepare(sql)
            .and_then(|mut s| s.query_map(params, row)?.collect::<rusqlite::Result<Vec<T>>>())
            .map_err(self.err(operation))
    }

    pub(super) fn read_schema(&self) -> Result<Schema> {
        let mut out = Schema::default();
        let objects = self.all(
            "list the tables",
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid",
            [],
            |r| {
                Ok((
                    r.get::<_, String>(0)?,
                    r.get::<_, String>(1)?,
                    r.get::<_, String>(2)?,
                    r.get::<_, Option<String>>(3)?,
                ))
            },
        )?;
        let kinds: HashMap<String, (String, bool, bool)> = self
            .all(
                "list the tables",
                "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main'",
                [],
                |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?, r.get(3)?))),
            )?
            .into_iter()
            .collect();
        let elsewhere = self.side.as_ref().map(|(_, site)| prefix(site)).filter(|p| !p.is_empty());
        for (kind, name, on, sql) in &objects {
            let lower = name.to_lowercase();
            if let Some(prefix) = &elsewhere {
                if let (true, Some((_, wr, strict))) = (kind == "table" && name.starts_with(prefix), kinds.get(name)) {
                    let (table, note) = self.read_table(name, *wr, *strict, sql.as_deref().unwrap_or_default())?;
                    out.tables.push(named(table, prefix));
                    out.notes.push(note);
                }
                continue;
            }
            if lower.starts_with("sqlite_")
                || lower.starts_with("backout_")
                // what rests, and what revisions keep
                || lower.starts_with("migration_backup__")
                || records::is_our_view(name, sql.as_deref())
            {
                continue;
            }
            let mut other = |what: String, why: &str| out.others.push((what, why.to_owned()));
            match kind.as_str() {
                "view" => other(format!("view {name}"), "views are not moved; make it again in the target"),
                "trigger" => {
                    other(format!("trigger {name} on {on}"), "triggers are not moved; its language is SQLite's own");
                }
                "table" => match kinds.get(name).map(|(kind, wr, strict)| (kind.as_str(), *wr, *strict)) {
                    Some(("virtual", ..)) => {
                        other(
                            format!("virtual table {name}"),
                            "made by a module of SQLite; its content is derived or outside",
                        );
                    }
                    Some(("shadow", ..)) => other(format!("shadow table {name}"), "belongs to a virtual table"),
                    Some((_, wr, strict)) => {
                        let (table, note) = self.read_table(name, wr, strict, sql.as_deref().unwrap_or_default())?;
                        out.tables.push(table);
                        out.notes.push(note);
                    }
                    None => other(format!("table {name}"), "SQLite does not list it"),
                },
                _ => {}
            }
        }
        let version = self.number("read user_version", "PRAGMA user_version")?;
        if version != 0 {
            let why = "a number of the application's in the file's head; set it in the target if it is asked for there";
            out.others.push((format!("user_version {version}"), why.to_owned()));
        }
        // REFERENCES may be spelled in another case than the table
        let names: Vec<String> = out.tables.iter().map(|t| t.name.clone()).collect();
        for fk in out.tables.iter_mut().flat_map(|t| &mut t.foreign_keys) {
            if let Some(real) = names.iter().find(|n| n.eq_ignore_ascii_case(&fk.table)) {
                fk.table.clone_from(real);
            }
        }
        Ok(out)
    }

    fn read_table(&self, name: &str, without_rowid: bool, strict: bool, sql: &str) -> Result<(Table, String)> {
        let op = format!("read the definition of {name}");
        let said = text::table(sql);
        let column_text = |c: &str| said.columns.iter().find(|(n, ..)| *n == c.to_lowercase());
        let mut table = Table { name: name.into(), checks: said.checks.clone(), ..Table::default() };
        let mut key: Vec<(i64, usize)> = Vec::new();
        let columns = self.all(&op, "SELECT * FROM pragma_table_xinfo(?1) ORDER BY cid", [name], |r| {
            let column =
                Column { name: r.get(1)?, ty: r.get(2)?, not_null: r.get(3)?, default: r.get(4)?, ..Column::default() };
            Ok((column, r.get::<_, i64>(5)?, r.get::<_, i64>(6)?))
        })?;
        for (mut column, pk, hidden) in columns {
            if hidden != 0 {
                let expression = column_text(&column.name).and_then(|c| c.2.clone());
                let place = table.columns.len();
                let sql = format!("SELECT DISTINCT typeof({}) FROM {}", quote(&column.name), quote(name));
                let classes = self.all(&op, &sql, [], |r| r.get(0))?;
                table.generated.push(Generated {
                    name: column.name,
                    ty: column.ty,
                    expression,
                    place,
                    is_virtual: hidden == 2,
                    classes,
                });
                continue;
            }
            column.collation = column_text(&column.name).and_then(|c| c.1.as_deref()).and_then(collation);
            if pk > 0 {
                key.push((pk, table.columns.len()));
            }
            table.columns.push(column);
        }
        key.sort_unstable();
        table.key = key.into_iter().map(|(_, at)| at).collect();
        let pk_index = self.read_indexes(&mut table, &op)?;
        if let ([only], false) = (table.key.as_slice(), without_rowid || pk_index) {
            // INTEGER PRIMARY KEY DESC has an index of its own, so it is no alias
            let column = &mut table.columns[*only];
            column.identity = column.ty.eq_ignore_ascii_case("INTEGER");
            column.not_null |= column.identity;
        }
        self.read_foreign_keys(&mut table, &op, &said.foreign)?;
        table.details = Details {
            without_rowid,
            strict,
            autoincrement: said.autoincrement,
            sql: Some(sql.to_owned()),
            ..Details::default()
        };
        table.details.rowid_name = rowid_name(&table).map(Into::into);
        let note = self.notes(&table)?;
        Ok((table, note))
    }

    /// Fills in the indexes; true if the key has one of its own.
    fn read_indexes(&self, table: &mut Table, op: &str) -> Result<bool> {
        let mut pk = false;
        let list = self.all(
            op,
            "SELECT l.name, l.\"unique\", l.origin, l.partial, m.sql FROM pragma_index_list(?1) AS l \
             LEFT JOIN sqlite_schema AS m ON m.type = 'index' AND m.name = l.name ORDER BY l.seq DESC",
            [&table.name],
            |r| {
                Ok((
                    r.get::<_, String>(0)?,
                    r.get(1)?,
                    r.get::<_, String>(2)?,
                    r.get(3)?,
                    r.get::<_, Option<String>>(4)?,
                ))
            },
        )?;
        for (name, unique, origin, partial, sql) in list {
            if origin == "pk" {
                pk = true;
                continue;
            }
            let parts = self.all(
                op,
                "SELECT cid, name, \"desc\", coll FROM pragma_index_xinfo(?1) WHERE \"key\" = 1 ORDER BY seqno",
                [&name],
                |r| {
                    Ok((
                        r.get::<_, i64>(0)?,
                        r.get::<_, Option<String>>(1)?,
                        r.get::<_, bool>(2)?,
                        r.get::<_, Option<String>>(3)?,
                    ))
                },
            )?;
            let mut index = Index {
                name: (origin == "c").then_some(name),
                unique,
                columns: Vec::new(),
                predicate: if partial { sql.as_deref().and_then(text::predicate) } else { None },
                definition: sql.clone(),
                ..Index::default()
            };
            let said = sql.as_deref().map(text::indexed_parts).unwrap_or_default();
            for (at, (cid, column, descending, coll)) in parts.into_iter().enumerate() {
                let collation = coll.as_deref().and_then(collation);
                let named = column.filter(|_| cid >= 0);
                let name = named.clone().or_else(|| said.get(at).cloned()).unwrap_or_default();
                let part = IndexColumn { name, descending, collation };
                index.parts.push(part.clone());
                match named {
                    Some(_) => index.columns.push(part),
                    None => index.expression = true,
                }
            }
            table.indexes.push(index);
        }
        Ok(pk)
    }

    fn read_foreign_keys(&self, table: &mut Table, op: &str, said: &[(Option<String>, bool)]) -> Result<()> {
        let parts = self.all(
            op,
            "SELECT id, \"table\", \"from\", \"to\", on_update, on_delete FROM pragma_foreign_key_list(?1) \
             ORDER BY id DESC, seq",
            [&table.name],
            |r| {
                Ok((
                    r.get::<_, i64>(0)?,
                    r.get::<_, String>(1)?,
                    r.get::<_, String>(2)?,
                    r.get::<_, Option<String>>(3)?,
                    (r.get::<_, String>(4)?, r.get::<_, String>(5)?),
                ))
            },
        )?;
        let mut last = None;
        for (id, parent, from, to, (on_update, on_delete)) in parts {
            if last != Some(id) {
                last = Some(id);
                // ids count backwards from the end of the text
                let (name, deferred) = said.get(table.foreign_keys.len()).cloned().unwrap_or_default();
                let references = match to {
                    Some(_) => Vec::new(),
                    None => self.all(
                        op,
                        "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk",
                        [&parent],
                        |r| r.get(0),
                    )?,
                };
                let columns = Vec::new();
                table.foreign_keys.push(ForeignKey {
                    name,
                    columns,
                    table: parent,
                    references,
                    on_delete,
                    on_update,
                    deferred,
                    ..ForeignKey::default()
                });
            }
            if let Some(fk) = table.foreign_keys.last_mut() {
                fk.columns.push(from);
                fk.references.extend(to);
            }
        }
        Ok(())
    }

    /// What a person should know of a table's rows before it is moved.
    fn notes(&self, table: &Table) -> Result<String> {
        let mut notes = Vec::new();
        let op = format!("look at the rows of {}", table.name);
        let open: Vec<String> = table
            .key
            .iter()
            .map(|&i| &table.columns[i])
            .filter(|c| !c.not_null)
            .map(|c| quote(&c.name) + " IS NULL")
            .collect();
        if !open.is_empty() && !table.details.without_rowid {
            let sql = format!("SELECT count(*) FROM {} WHERE {}", quote(&table.name), open.join(" OR "));
            let n = self.number(&op, &sql)?;
            if n > 0 {
                notes.push(format!("{n} rows have NULL in the key"));
            }
        }
        Ok(notes.join("; "))
    }

    /// Every parent is there, as told by indexes alone: each value of a foreign key is looked for once, in order, and not once per
    /// row. False where this cannot be told so: only text or integers of one column that refer to such a primary key, both compared
    /// byte for byte, mean to SQL what they mean to a foreign key.
    fn parents_by_index(&self, table: &Table, tables: &[&Table]) -> Result<bool> {
        let op = "look for rows without a parent";
        let sql = "SELECT f.\"table\", f.\"from\", f.\"to\", c.type, i.name FROM pragma_foreign_key_list(?1) f \
            LEFT JOIN pragma_table_xinfo(?1) c ON c.name = f.\"from\" COLLATE NOCASE \
            LEFT JOIN (SELECT l.name, x.name AS leads FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
                WHERE NOT l.partial AND x.seqno = 0 AND x.coll = 'BINARY') i ON i.leads = f.\"from\" COLLATE NOCASE \
            GROUP BY f.id HAVING count(DISTINCT f.seq) = 1";
        let keys = self.all(op, sql, [&table.name], |r| {
            let text = |i| r.get::<_, Option<String>>(i);
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, text(2)?, text(3)?, text(4)?))
        })?;
        let all: Vec<i64> =
            self.all(op, "SELECT count(DISTINCT id) FROM pragma_foreign_key_list(?1)", [&table.name], |r| r.get(0))?;
        if all != [keys.len() as i64] {
            return Ok(false);
        }
        for (parent, from, to, ty, index) in keys {
            let sql = "SELECT name, type, (SELECT x.coll FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
                WHERE l.origin = 'pk' AND x.seqno = 0) FROM pragma_table_xinfo(?1) \
                WHERE pk = 1 AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE pk > 1)";
            let key = self.all(op, sql, [&parent], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, Option<String>>(2)?))
            })?;
            let (Some(index), [(key, key_type, collation)]) = (index, key.as_slice()) else { return Ok(false) };
            let affinity = Affinity::of(&ty.unwrap_or_default());
            let bare = |t: &&Table, column: &str| t.column(column).is_some_and(|c| t.columns[c].collation.is_none());
            let named = tables.iter().find(|t| t.name.eq_ignore_ascii_case(&parent));
            if !(matches!(affinity, Affinity::Integer | Affinity::Text)
                && affinity == Affinity::of(key_type)
                && to.is_none_or(|to| to.eq_ignore_ascii_case(key))
                && collation.as_deref().is_none_or(|c| c == "BINARY")
                && bare(&table, &from)
                && named.is_some_and(|t| bare(t, key)))
            {
                return Ok(false);
            }
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT {0} AS v FROM {1} INDEXED BY {2} WHERE {0} IS NOT NULL) \
                 WHERE NOT EXISTS (SELECT 1 FROM {3} WHERE {4} = v))",
                quote(&from),
                quote(&table.name),
                quote(&index),
                quote(&parent),
                quote(key)
            );
            if self.number(op, &sql)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows whose parent is missing, as a sentence per foreign key.
    fn dangling(&self, table: &Table, tables: &[&Table]) -> Result<Vec<String>> {
        if self.parents_by_index(table, tables)? {
            return Ok(Vec::new());
        }
        // each table's foreign keys are read backwards by the pragmas, too
        let sql = "SELECT fkid, count(*), min(rowid), parent FROM pragma_foreign_key_check(?1) GROUP BY fkid ORDER BY fkid DESC";
        let found = self.all("look for rows without a parent", sql, [&table.name], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, Option<i64>>(2)?, r.get::<_, Option<String>>(3)?))
        });
        let found = match found {
            Ok(found) => found,
            // a parent that is missing or has no unique index: worth a note, nothing that stops a plan here
            Err(e) => return Ok(vec![format!("its foreign keys cannot be checked: {e}")]),
        };
        let mut out = Vec::new();
        for (id, n, row, parent) in found {
            let sql = "SELECT \"from\" FROM pragma_foreign_key_list(?1) WHERE id = ?2 ORDER BY seq";
            let columns: Vec<String> =
                self.all("read a foreign key", sql, rusqlite::params![table.name, id], |r| r.get(0))?;
            if table.foreign_keys.iter().any(|f| f.not_valid && f.columns == columns) {
                continue;
            }
            let mut example = String::new();
            if let (Some(row), Some(rowid), false) = (row, rowid_name(table), table.key.is_empty()) {
                let key: Vec<String> = table.key_names().into_iter().map(quote).collect();
                let sql = format!("SELECT {} FROM {} WHERE {rowid} = ?1", key.join(", "), quote(&table.name));
                let keys = self.all("read a key", &sql, [row], |r| {
                    let values: rusqlite::Result<Vec<_>> = (0..key.len()).map(|i| r.get_ref(i).map(owned)).collect();
                    Ok(Key::of(&values?))
                })?;
                example = keys.first().map(|k| format!(", such as {k}")).unwrap_or_default();
            }
            out.push(format!(
                "{n} {} by {} to rows of {} that do not exist{example}",
                if n == 1 { "row refers" } else { "rows refer" },
                columns.join(", "),
                parent.unwrap_or_default()
            ));
        }
        Ok(out)
    }

    pub(super) fn orphan_keys(&self, table: &Table, columns: &[String], limit: usize) -> Result<Vec<Key>> {
        let known = |f: &&ForeignKey| f.columns == columns && f.references.len() == columns.len();
        let Some(fk) = table.foreign_keys.iter().find(known) else { return Ok(Vec::new()) };
        let each = |say: &dyn Fn(&str, &str) -> String| -> String {
            let pairs = fk.columns.iter().zip(&fk.references);
            pairs.map(|(c, p)| say(&quote(c), &quote(p))).collect::<Vec<_>>().join(" AND ")
        };
        let sql = format!(
            "SELECT {} FROM {} AS c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {}) LIMIT {limit}",
            table.key_names().into_iter().map(|k| format!("c.{}", quote(k))).collect::<Vec<_>>().join(", "),
            quote(&table.name),
            each(&|c, _| format!("c.{c} IS NOT NULL")),
            quote(&fk.table),
            each(&|c, p| format!("p.{p} = c.{c}")),
        );
        let n = table.key.len();
        self.all(&format!("look for parents of {}", table.name), &sql, [], |r| {
            let values: rusqlite::Result<Vec<_>> = (0..n).map(|i| r.get_ref(i).map(owned)).collect();
            Ok(Key::of(&values?))
        })
    }

    pub(super) fn orphans(&self, table: &Table, column: &str, limit: usize) -> Result<crate::value::Row> {
        let Some(fk) = table.foreign_keys.iter().find(|f| f.columns == [column]) else { return Ok(Vec::new()) };
        let Some(parent) = fk.references.first() else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT DISTINCT c.{0} FROM {1} AS c WHERE c.{0} IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM {2} AS p WHERE p.{3} = c.{0}) ORDER BY 1 LIMIT {limit}",
            quote(column),
            quote(&table.name),
            quote(&fk.table),
            quote(parent)
        );
        self.all(&format!("look for parents of {}", table.name), &sql, [], |r| r.get_ref(0).map(owned))
    }

    pub(super) fn checked(&self, tables: &[&Table], deep: bool) -> Result<Vec<String>> {
        let mut out = Vec::new();
        let check = if deep { "integrity_check" } else { "quick_check" };
        for table in tables {
            let sql = format!("PRAGMA {check}({})", text::literal(&table.name));
            let said: Vec<String> = self.all(&format!("check {}", table.name), &sql, [], |r| r.get(0))?;
            out.extend(said.into_iter().filter(|s| s != "ok").map(|s| format!("{}: {s}", table.name)));
            out.extend(self.dangling(table, tables)?.into_iter().map(|s| format!("{}: {s}", table.name)));
        }
        Ok(out)
    }
}
