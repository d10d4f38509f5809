//! Reads a SQLite file's schema: the pragmas, as tables, and what only the text of the CREATE statements says.

pub(super) mod change;
pub(super) mod text;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::text::named;
use super::{About, Catalog, Column, ForeignKey, Name, Object, Table, What};
use crate::plan::Kind;
use crate::revision::Result;
use crate::revision::database::Database;
use crate::value::{Row, Value};

/// Within a query of `sqlite_schema m`: neither SQLite's nor ours.
const USERS: &str = "m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND m.name NOT LIKE 'backout\\_%' ESCAPE '\\' \
    AND m.name NOT LIKE 'migration\\_backup%' ESCAPE '\\' AND m.name <> 'migration_log' \
    AND m.tbl_name NOT LIKE 'backout\\_%' ESCAPE '\\' AND m.tbl_name NOT LIKE 'migration\\_backup%' ESCAPE '\\'";

/// Those of them that are tables with rows of their own.
const TABLES: &str = "m.type = 'table' AND m.sql NOT LIKE 'create virtual%'";

fn text_of(row: &Row, i: usize) -> String {
    match row.get(i) {
        Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        Some(Value::Int(n)) => n.to_string(),
        _ => String::new(),
    }
}

fn some(row: &Row, i: usize) -> Option<String> {
    row.get(i).filter(|v| !v.is_null()).map(|_| text_of(row, i))
}

fn name_of(name: String) -> Name {
    Name { schema: None, quoted: named(&name), name }
}

pub(super) fn read(db: &mut dyn Database) -> Result<Catalog> {
    let master = db.query(&format!(
        "SELECT m.type, m.name, m.tbl_name, m.sql FROM sqlite_schema m WHERE {USERS} ORDER BY m.rowid"
    ))?;
    // ("main" is the file itself)
    let list = db.query("SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main'")?;
    let list: HashMap<String, Row> = list.into_iter().map(|row| (text_of(&row, 0), row)).collect();
    let mut tables = Vec::new();
    let mut objects = Vec::new();
    for row in &master {
        let (kind, name, sql) = (text_of(row, 0), text_of(row, 1), text_of(row, 3));
        let facts = list.get(&name);
        let shape = facts.map(|f| text_of(f, 1)).unwrap_or_default();
        if sql.is_empty() || shape == "shadow" {
            continue;
        }
        let what = match kind.as_str() {
            "table" if shape == "virtual" => What::VirtualTable,
            "table" => {
                let mut options = BTreeMap::new();
                for (i, option) in [(2, "without rowid"), (3, "strict")] {
                    if facts.is_some_and(|f| text_of(f, i) == "1") {
                        options.insert(option.to_owned(), String::new());
                    }
                }
                tables.push(Table {
                    name: name_of(name),
                    columns: Vec::new(),
                    key: Vec::new(),
                    unique: Vec::new(),
                    foreign_keys: Vec::new(),
                    sql,
                    constraints: Vec::new(),
                    options,
                    beyond: None,
                    about: About::default(),
                    depends: BTreeSet::new(),
                });
                continue;
            }
            "index" => What::Index,
            "view" => What::View,
            _ => What::Trigger,
        };
        let broken = what == What::View && {
            let name = name.replace('\'', "''");
            db.query(&format!("SELECT 1 FROM pragma_table_xinfo('{name}') LIMIT 1")).is_err()
        };
        let table = matches!(what, What::Index | What::Trigger).then(|| named(&text_of(row, 2)));
        objects.push(Object {
            what,
            name: named(&name),
            table,
            canon: text::canonical(&text::bare(&sql)),
            sql,
            parts: Vec::new(),
            word: (what == What::VirtualTable).then(|| "TABLE".to_owned()),
            broken,
            about: About::default(),
            depends: BTreeSet::new(),
        });
    }
    let at: HashMap<String, usize> = tables.iter().enumerate().map(|(i, t)| (t.name.name.clone(), i)).collect();
    columns(db, &mut tables, &at)?;
    keys(db, &mut tables, &at)?;
    Ok(Catalog { kind: Kind::Sqlite, tables, objects, reader: None })
}

fn columns(db: &mut dyn Database, tables: &mut [Table], at: &HashMap<String, usize>) -> Result<()> {
    let sql = format!(
        "SELECT m.name, x.name, x.type, x.\"notnull\", x.dflt_value, x.pk, x.hidden FROM sqlite_schema m, \
         pragma_table_xinfo(m.name) x WHERE {TABLES} AND {USERS} ORDER BY m.rowid, x.cid"
    );
    let mut keys: HashMap<usize, Vec<(i64, String)>> = HashMap::new();
    for row in db.query(&sql)? {
        let Some(&i) = at.get(&text_of(&row, 0)) else { continue };
        let name = text_of(&row, 1);
        if let Some(Value::Int(n @ 1..)) = row.get(5) {
            keys.entry(i).or_default().push((*n, name.clone()));
        }
        tables[i].columns.push(Column {
            quoted: named(&name),
            ty: text_of(&row, 2),
            not_null: text_of(&row, 3) == "1",
            default: some(&row, 4),
            is_virtual: text_of(&row, 6) == "2",
            name,
            ..Column::default()
        });
    }
    for (i, table) in tables.iter_mut().enumerate() {
        let parsed = text::table(&table.sql);
        let mut key = keys.remove(&i).unwrap_or_default();
        key.sort();
        table.key = key.into_iter().map(|(_, name)| name).collect();
        for said in parsed.columns {
            if let Some(column) = table.columns.iter_mut().find(|c| c.name.eq_ignore_ascii_case(&said.name)) {
                column.collation = said.collation;
                column.generated = said.generated;
            }
        }
        if let [one] = table.key.as_slice()
            && !table.options.contains_key("without rowid")
            && !parsed.constraints.iter().any(|c| c.ends_with(") DESC"))
            && let Some(column) = table.columns.iter_mut().find(|c| c.name == *one)
            && column.ty.eq_ignore_ascii_case("INTEGER")
        {
            column.identity = Some("ROWID".into());
        }
        table.constraints = parsed.constraints;
        if parsed.autoincrement {
            table.options.insert("autoincrement".into(), String::new());
            table.constraints.iter_mut().for_each(|c| *c = c.replace(" AUTOINCREMENT", ""));
        }
    }
    Ok(())
}

fn keys(db: &mut dyn Database, tables: &mut [Table], at: &HashMap<String, usize>) -> Result<()> {
    let sql = format!(
        "SELECT m.name, f.id, f.\"table\", f.\"from\", f.\"to\" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f \
         WHERE {TABLES} AND {USERS} ORDER BY m.rowid, f.id DESC, f.seq"
    );
    let mut last = (usize::MAX, String::new());
    for row in db.query(&sql)? {
        let Some(&i) = at.get(&text_of(&row, 0)) else { continue };
        let parent = text_of(&row, 2);
        // the pragma says the parent as the foreign key does, in any case of letters
        let known =
            tables.iter().find(|t| t.name.name.eq_ignore_ascii_case(&parent)).map(|t| (t.name.clone(), t.key.clone()));
        let (parent, key) = known.unwrap_or_else(|| (name_of(parent), Vec::new()));
        let foreign = &mut tables[i].foreign_keys;
        if last != (i, text_of(&row, 1)) {
            last = (i, text_of(&row, 1));
            let references = if some(&row, 4).is_none() { key } else { Vec::new() };
            foreign.push(ForeignKey { columns: Vec::new(), table: parent, references });
        }
        if let Some(foreign) = foreign.last_mut() {
            foreign.columns.push(text_of(&row, 3));
            foreign.references.extend(some(&row, 4));
        }
    }
    let sql = format!(
        "SELECT m.name, l.name, x.name FROM sqlite_schema m, pragma_index_list(m.name) l, pragma_index_info(l.name) x \
         WHERE {TABLES} AND {USERS} AND l.\"unique\" AND l.origin <> 'pk' AND NOT l.partial AND NOT EXISTS \
         (SELECT 1 FROM pragma_index_info(l.name) e WHERE e.cid < 0) ORDER BY m.rowid, l.seq, x.seqno"
    );
    let mut last = String::new();
    for row in db.query(&sql)? {
        let Some(&i) = at.get(&text_of(&row, 0)) else { continue };
        let unique = &mut tables[i].unique;
        if last != text_of(&row, 1) {
            last = text_of(&row, 1);
            unique.push(Vec::new());
        }
        if let Some(unique) = unique.last_mut() {
            unique.push(text_of(&row, 2));
        }
    }
    Ok(())
}
