//! Renames in PostgreSQL, which follow the object: what depends on it needs no word.

use std::collections::{BTreeMap, BTreeSet};

use super::words::{plain, split_last};
use crate::revision::catalog::change::given;
use crate::revision::catalog::{Catalog, Object, Renames, Statement, What};
use crate::store::sqlite::text::{Kind, tokens};

/// The schema after the renames, and the statements for them.
pub(super) fn apply(from: &Catalog, to: &Catalog, renames: &Renames) -> (Catalog, Vec<Statement>) {
    let (mut from, mut out) = (from.clone(), Vec::new());
    for (was, is) in &renames.tables {
        let (Some(then), Some(now)) = (given(&from, was), given(to, is)) else { continue };
        let (then, now) = (then.name.clone(), now.name.clone());
        if then == now || from.table(&now.quoted).is_some() {
            continue;
        }
        let (schema, bare) = split_last(&now.quoted);
        if then.schema != now.schema {
            out.push(plain(format!("ALTER TABLE {} SET SCHEMA {schema}", then.quoted)));
        }
        if then.name != now.name {
            let at = format!("{schema}.{}", split_last(&then.quoted).1);
            out.push(plain(format!("ALTER TABLE {at} RENAME TO {bare}")));
        }
        rename_table(&mut from, &then.quoted, &now.quoted);
        if let Some(table) = from.tables.iter_mut().find(|t| t.name == then) {
            table.name = now;
        }
    }
    for (table, was, is) in &renames.columns {
        let Some(now) = given(to, table) else { continue };
        let Some(column) = now.column(is) else { continue };
        let (name, quoted) = (now.name.quoted.clone(), column.quoted.clone());
        let Some(then) = from.table(&name) else { continue };
        let Some(before) = then.column(was).map(|c| c.quoted.clone()).filter(|_| then.column(is).is_none()) else {
            continue;
        };
        out.push(plain(format!("ALTER TABLE {name} RENAME COLUMN {before} TO {quoted}")));
        rename_column(&mut from, &name, (was, &before), (is, &quoted));
    }
    belongings(&mut from, to, &mut out);
    (from, out)
}

/// Ids under which others name what was renamed.
fn rekey(catalog: &mut Catalog, ids: &BTreeMap<String, String>) {
    let change = |depends: &mut BTreeSet<String>| -> bool {
        let hit: Vec<String> = depends.iter().filter(|d| ids.contains_key(*d)).cloned().collect();
        for id in &hit {
            depends.remove(id);
            depends.extend(ids.get(id).cloned());
        }
        !hit.is_empty()
    };
    for table in &mut catalog.tables {
        change(&mut table.depends);
        for column in &mut table.columns {
            change(&mut column.depends);
            change(&mut column.default_depends);
        }
    }
    for object in &mut catalog.objects {
        // the text of these names what they need, in ways of their own: they are made again
        let text = !matches!(object.what, What::Constraint | What::ForeignKey | What::Index | What::Sequence);
        if change(&mut object.depends) && text {
            object.canon.push_str("\nrenamed");
        }
        for (key, value) in &mut object.parts {
            if key == "OWNED BY"
                && let Some(id) = ids.get(&format!("column {value}"))
            {
                *value = id.trim_start_matches("column ").to_owned();
            }
        }
    }
}

fn rename_table(catalog: &mut Catalog, was: &str, is: &str) {
    let mut ids = BTreeMap::from([(format!("table {was}"), format!("table {is}"))]);
    if let Some(table) = catalog.table(was) {
        for column in &table.columns {
            for kind in ["column", "default"] {
                ids.insert(format!("{kind} {was}.{}", column.quoted), format!("{kind} {is}.{}", column.quoted));
            }
        }
    }
    let swap = |text: &mut String| *text = swapped(text, was, is);
    for column in catalog.tables.iter_mut().flat_map(|t| &mut t.columns) {
        // types of rows are called as their tables are
        swap(&mut column.ty);
        column.default.as_mut().map(swap);
        column.generated.as_mut().map(swap);
    }
    for object in &mut catalog.objects {
        let before = object.id();
        if object.table.as_deref() == Some(was) {
            object.table = Some(is.to_owned());
            if !matches!(object.what, What::Constraint | What::ForeignKey | What::Index) {
                object.canon.push_str("\nrenamed");
            }
        }
        object.parts.iter_mut().for_each(|(_, value)| swap(value));
        match object.what {
            What::Function => swap(&mut object.name),
            What::Constraint | What::ForeignKey | What::Index | What::Composite | What::Domain => {
                swap(&mut object.sql);
                object.canon = object.sql.clone();
            }
            _ => {}
        }
        if before != object.id() {
            ids.insert(before, object.id());
        }
    }
    rekey(catalog, &ids);
}

/// The text with a qualified name put in place of another.
fn swapped(text: &str, was: &str, is: &str) -> String {
    let (schema, bare) = split_last(was);
    let all = tokens(text);
    let (mut out, mut from) = (String::new(), 0);
    for i in 2..all.len() {
        if all[i].text == bare && all[i - 1].sign(".") && all[i - 2].text == schema {
            out.push_str(&text[from..all[i - 2].start]);
            out.push_str(is);
            from = all[i].start + all[i].text.len();
        }
    }
    out.push_str(&text[from..]);
    out
}

fn rename_column(catalog: &mut Catalog, table: &str, was: (&str, &str), is: (&str, &str)) {
    let mut ids = BTreeMap::new();
    for kind in ["column", "default"] {
        ids.insert(format!("{kind} {table}.{}", was.1), format!("{kind} {table}.{}", is.1));
    }
    // bare names, from `start` to `end`
    let substituted = |sql: &str, start: usize, end: usize| -> String {
        let (mut text, mut from) = (String::new(), 0);
        let all = tokens(sql);
        for (i, token) in all.iter().enumerate() {
            let qualified = i > 0 && all[i - 1].sign(".");
            let name = matches!(token.kind, Kind::Word | Kind::Name) && token.text == was.1;
            if name && !qualified && (start..end).contains(&token.start) {
                text.push_str(&sql[from..token.start]);
                text.push_str(is.1);
                from = token.start + token.text.len();
            }
        }
        text.push_str(&sql[from..]);
        text
    };
    if let Some(table) = catalog.tables.iter_mut().find(|t| t.name.quoted == table) {
        let swap =
            |names: &mut Vec<String>| names.iter_mut().filter(|n| *n == was.0).for_each(|n| *n = is.0.to_owned());
        swap(&mut table.key);
        table.unique.iter_mut().for_each(swap);
        for column in &mut table.columns {
            if column.name == was.0 {
                column.name = is.0.to_owned();
                column.quoted = is.1.to_owned();
            }
            if let Some(generated) = &mut column.generated {
                *generated = substituted(generated, 0, usize::MAX);
            }
        }
    }
    for object in &mut catalog.objects {
        let own = object.table.as_deref() == Some(table);
        let refers = object.sql.find(" REFERENCES ");
        let sql = match (object.what, refers) {
            (What::ForeignKey, Some(at)) => {
                let parent = object.sql[at + 12..].starts_with(&format!("{table}("));
                match (own, parent) {
                    (true, true) => substituted(&object.sql, skip(object), usize::MAX),
                    (true, false) => substituted(&object.sql, skip(object), at),
                    (false, true) => substituted(&object.sql, at, usize::MAX),
                    _ => continue,
                }
            }
            (What::Constraint | What::Index, _) if own => substituted(&object.sql, skip(object), usize::MAX),
            _ => continue,
        };
        object.canon = sql.clone();
        object.sql = sql;
    }
    rekey(catalog, &ids);
}

/// Where the text of a constraint or an index begins, after its own name.
fn skip(object: &Object) -> usize {
    match object.what {
        What::Index => object.sql.find(" ON ").unwrap_or(0),
        _ => "CONSTRAINT ".len() + object.name.len(),
    }
}

/// Constraints, indexes and owned sequences that differ in nothing but their name are renamed.
fn belongings(from: &mut Catalog, to: &Catalog, out: &mut Vec<Statement>) {
    let taken: BTreeSet<String> = from.objects.iter().map(Object::id).collect();
    let wanted: BTreeSet<String> = to.objects.iter().map(Object::id).collect();
    let mut used = BTreeSet::new();
    let mut ids = BTreeMap::new();
    let tables: BTreeSet<&String> = to.tables.iter().map(|t| &t.name.quoted).collect();
    let rest = |o: &Object| match o.what {
        What::Sequence => format!("{:?}", o.parts),
        What::Index if o.sql.starts_with("CREATE UNIQUE") => format!("unique {}", &o.sql[skip(o)..]),
        _ => o.sql[skip(o)..].to_owned(),
    };
    for object in &mut from.objects {
        let id = object.id();
        let kind = matches!(object.what, What::Constraint | What::ForeignKey | What::Index | What::Sequence);
        if !kind || wanted.contains(&id) || object.table.as_ref().is_some_and(|t| !tables.contains(t)) {
            continue;
        }
        if object.what == What::Sequence && !object.parts.iter().any(|(k, _)| k == "OWNED BY") {
            continue;
        }
        let like = |o: &&Object| {
            o.what == object.what
                && o.table == object.table
                && rest(o) == rest(object)
                && !taken.contains(&o.id())
                && !used.contains(&o.id())
        };
        let Some(other) = to.objects.iter().find(like) else { continue };
        let (schema, bare) = split_last(&other.name);
        out.push(plain(match object.what {
            What::Index if split_last(&object.name).0 == schema => {
                format!("ALTER INDEX {} RENAME TO {bare}", object.name)
            }
            What::Sequence if split_last(&object.name).0 == schema => {
                format!("ALTER SEQUENCE {} RENAME TO {bare}", object.name)
            }
            What::Index | What::Sequence => continue,
            _ => format!(
                "ALTER TABLE {} RENAME CONSTRAINT {} TO {bare}",
                object.table.as_deref().unwrap_or_default(),
                object.name
            ),
        }));
        used.insert(other.id());
        if object.what == What::Sequence {
            // a default says it by name
            for table in &mut from.tables {
                for column in &mut table.columns {
                    if let Some(default) = &mut column.default
                        && column.default_depends.contains(&id)
                    {
                        *default = default.replace(&format!("'{}'", object.name), &format!("'{}'", other.name));
                    }
                }
            }
        }
        object.name = other.name.clone();
        object.sql = other.sql.clone();
        object.canon = other.canon.clone();
        ids.insert(id, object.id());
    }
    rekey(from, &ids);
    // so is the sequence of an identity
    for table in &mut from.tables {
        let Some(other) = to.table(&table.name.quoted) else { continue };
        for column in &mut table.columns {
            let is = other.column(&column.name).and_then(|c| c.sequence.clone());
            if let (Some(was), Some(is)) = (&column.sequence, is)
                && *was != is
                && split_last(was).0 == split_last(&is).0
            {
                out.push(plain(format!("ALTER SEQUENCE {was} RENAME TO {}", split_last(&is).1)));
                column.sequence = Some(is);
            }
        }
    }
}
