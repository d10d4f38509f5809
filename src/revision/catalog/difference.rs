//! What differs between two schemas.

use std::collections::BTreeMap;
use std::fmt;

use super::{About, Catalog, Column, Object, Table, What, postgres, sqlite};
use crate::plan::Kind;

/// In which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Only in the one before.
    Gone,
    /// Only in the one after.
    Born,
    /// In both, and not the same.
    Changed,
}

/// One difference between two schemas. It prints as `- …` and `+ …`, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of object it is about.
    pub what: What,
    /// The object, as people say it: `public.events`, `public.events.title`.
    pub object: String,
    /// In which of the two it is.
    pub sign: Sign,
    /// How it was.
    pub before: Option<String>,
    /// How it is.
    pub after: Option<String>,
    /// Nothing but the order of columns, which no ALTER TABLE can mend; worth a word, and no failure.
    pub order_only: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (sign, text) in [('-', &self.before), ('+', &self.after)] {
            for (i, line) in text.iter().flat_map(|t| t.lines()).enumerate() {
                let sign = if i == 0 { sign } else { ' ' };
                write!(f, "{}{sign} {line}", if first { "" } else { "\n" })?;
                first = false;
            }
        }
        Ok(())
    }
}

/// One thing that is said of a schema.
struct Entry {
    what: What,
    object: String,
    /// What people read.
    shown: String,
    /// What is compared.
    canon: String,
    /// It is said of this one, and goes without saying if that is in one of the two only.
    of: Option<Key>,
}

/// Where an entry stands: the object's id, and which of its aspects it is.
type Key = (What, String, String);

fn about(out: &mut BTreeMap<Key, Entry>, what: What, id: &str, object: &str, about: &About, of: &Key) {
    let mut add = |aspect: String, shown: String, canon: &str| {
        let entry = Entry { what, object: object.to_owned(), shown, canon: canon.to_owned(), of: Some(of.clone()) };
        out.insert((what, id.to_owned(), aspect), entry);
    };
    if let Some(comment) = &about.comment {
        add("comment".into(), format!("COMMENT ON {id} IS '{}'", comment.replace('\'', "''")), comment);
    }
    if let Some(owner) = &about.owner {
        add("owner".into(), format!("OWNER OF {id}: {owner}"), owner);
    }
    for grant in &about.grants {
        let (privilege, to) = grant.split_once(" TO ").unwrap_or((grant, ""));
        let shown = format!("GRANT {privilege} ON {id} TO {}", to.replace("%owner", "its owner"));
        add(format!("grant {grant}"), shown, "");
    }
}

/// A column as people read it.
fn column_shown(table: &Table, column: &Column, kind: Kind) -> String {
    let mut said = match kind {
        Kind::Postgres => postgres::words::column(table, column, true, true),
        _ => {
            let mut said = format!("{} {}", column.quoted, column.ty);
            if column.not_null {
                said += " NOT NULL";
            }
            if let Some(default) = &column.default {
                said += &format!(" DEFAULT {default}");
            }
            if let Some(collation) = &column.collation {
                said += &format!(" COLLATE {collation}");
            }
            if let Some(generated) = &column.generated {
                said += &format!(" AS {generated} {}", if column.is_virtual { "VIRTUAL" } else { "STORED" });
            }
            said
        }
    };
    for (key, value) in &column.options {
        said += &format!(" -- {key} {value}");
    }
    format!("{}: {said}", table.name.quoted)
}

fn column_canon(table: &Table, column: &Column, kind: Kind) -> String {
    let loose = kind != Kind::Postgres;
    let default = column.default.as_ref().map(|d| if loose { sqlite::text::canonical(d) } else { d.clone() });
    let ty = if loose { column.ty.to_uppercase() } else { column.ty.clone() };
    format!(
        "{:?}",
        (
            ty,
            column.not_null,
            default,
            &column.generated,
            column.is_virtual,
            (&column.identity, table.odd_sequence(column)),
            &column.collation,
            &column.options
        )
    )
}

fn object_shown(object: &Object) -> String {
    let mut out = match object.what {
        What::Constraint | What::ForeignKey => {
            format!("ALTER TABLE {} ADD {}", object.table.as_deref().unwrap_or_default(), object.sql)
        }
        _ => object.sql.trim().to_owned(),
    };
    for (key, value) in &object.parts {
        if ["state", "OWNED BY", "statistics", "target", "column comment"].contains(&key.as_str()) {
            out += &format!(" -- {} {value}", key.to_lowercase());
        }
    }
    if object.broken && object.what == What::Index {
        out += " -- not valid";
    }
    out
}

/// All that is said of a schema.
fn entries(catalog: &Catalog) -> BTreeMap<Key, Entry> {
    let mut out = BTreeMap::new();
    let kind = catalog.kind;
    for table in &catalog.tables {
        let quoted = &table.name.quoted;
        let key: Key = (What::Table, table.id(), String::new());
        let shown = match kind {
            Kind::Postgres => postgres::words::shown(catalog, table),
            _ => table.sql.trim().to_owned(),
        };
        out.insert(
            key.clone(),
            Entry { what: What::Table, object: quoted.clone(), shown, canon: String::new(), of: None },
        );
        let mut add = |what: What, id: String, aspect: String, object: String, shown: String, canon: String| {
            out.insert((what, id, aspect), Entry { what, object, shown, canon, of: Some(key.clone()) });
        };
        for (option, value) in &table.options {
            let shown = format!("{quoted}: {}", format!("{option} {value}").trim());
            add(What::Table, table.id(), format!("option {option}"), quoted.clone(), shown, value.clone());
        }
        for column in &table.columns {
            let object = format!("{quoted}.{}", column.quoted);
            let (shown, canon) = (column_shown(table, column, kind), column_canon(table, column, kind));
            add(What::Column, table.column_id(column), String::new(), object, shown, canon);
        }
        for (i, constraint) in table.constraints.iter().enumerate() {
            // the same one may be there twice
            let nth = table.constraints[..i].iter().filter(|c| *c == constraint).count();
            let what = if constraint.contains("FOREIGN KEY") { What::ForeignKey } else { What::Constraint };
            let shown = format!("{quoted}: {constraint}");
            add(what, format!("{quoted} {constraint}"), nth.to_string(), quoted.clone(), shown, String::new());
        }
        about(&mut out, What::Table, &table.id(), quoted, &table.about, &key);
        for column in &table.columns {
            let object = format!("{quoted}.{}", column.quoted);
            let id = table.column_id(column);
            let of = (What::Column, id.clone(), String::new());
            about(&mut out, What::Column, &id, &object, &column.about, &of);
        }
    }
    for object in &catalog.objects {
        let id = object.id();
        let key: Key = (object.what, id.clone(), String::new());
        let broken = object.broken && object.what == What::Index;
        let canon = format!("{:?}", (&object.canon, &object.parts, broken));
        let entry = Entry { what: object.what, object: object.title(), shown: object_shown(object), canon, of: None };
        out.insert(key.clone(), entry);
        about(&mut out, object.what, &id, &object.title(), &object.about, &key);
    }
    out
}

/// All that is said, a line each, without the order of columns.
pub(super) fn canonical(catalog: &Catalog) -> Vec<String> {
    entries(catalog).iter().map(|((_, id, aspect), entry)| format!("{id}\n{aspect}\n{}", entry.canon)).collect()
}

/// What differs between a schema before and a schema after.
pub fn differences(before: &Catalog, after: &Catalog) -> Vec<Difference> {
    let (was, is) = (entries(before), entries(after));
    let in_both = |key: &Key| was.contains_key(key) && is.contains_key(key);
    let told = |entry: &Entry| {
        // whose own object is in one of the two only, or whose object's object is
        let mut of = entry.of.as_ref();
        while let Some(key) = of {
            if !in_both(key) {
                return false;
            }
            of = was.get(key).and_then(|e| e.of.as_ref());
        }
        true
    };
    let mut out = Vec::new();
    let keys: std::collections::BTreeSet<&Key> = was.keys().chain(is.keys()).collect();
    for key in keys {
        let (then, now) = (was.get(key), is.get(key));
        let Some(entry) = then.or(now).filter(|e| told(e)) else { continue };
        let sign = match (then, now) {
            (Some(then), Some(now)) if then.canon == now.canon => continue,
            (Some(_), Some(_)) => Sign::Changed,
            (Some(_), None) => Sign::Gone,
            _ => Sign::Born,
        };
        out.push(Difference {
            what: entry.what,
            object: entry.object.clone(),
            sign,
            before: then.map(|e| e.shown.clone()),
            after: now.map(|e| e.shown.clone()),
            order_only: false,
        });
    }
    for table in &before.tables {
        let Some(other) = after.table(&table.name.quoted) else { continue };
        let names = |t: &Table, o: &Table| -> Vec<String> {
            t.columns.iter().filter(|c| o.column(&c.name).is_some()).map(|c| c.quoted.clone()).collect()
        };
        let (then, now) = (names(table, other), names(other, table));
        if then != now {
            let shown =
                |names: &[String]| Some(format!("{}: columns in the order {}", table.name.quoted, names.join(", ")));
            out.push(Difference {
                what: What::Table,
                object: table.name.quoted.clone(),
                sign: Sign::Changed,
                before: shown(&then),
                after: shown(&now),
                order_only: true,
            });
        }
    }
    out
}
