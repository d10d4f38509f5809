//! Reads PostgreSQL's catalogs: all in one message, every name in it qualified.

mod alter;
pub(super) mod change;
mod drops;
mod fate;
mod question;
mod rename;
pub(super) mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{About, Catalog, Column, ForeignKey, Name, Object, Table, What};
use crate::plan::Kind;
use crate::revision::Result;
use crate::revision::database::Database;
use crate::value::Value;

/// A row of the answer; NULL is an empty text where nobody asks.
struct Line(Vec<Option<String>>);

impl Line {
    fn text(&self, i: usize) -> String {
        self.0.get(i).cloned().flatten().unwrap_or_default()
    }

    fn some(&self, i: usize) -> Option<String> {
        self.0.get(i).cloned().flatten().filter(|t| !t.is_empty())
    }

    fn yes(&self, i: usize) -> bool {
        self.text(i) == "t"
    }

    fn list(&self, i: usize) -> Vec<String> {
        self.some(i).map(|t| t.split('\u{1f}').map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Owner, grants and comment from column `i` on.
    fn about(&self, i: usize) -> About {
        let mut grants = self.list(i + 1);
        grants.sort();
        About { owner: self.some(i), grants, comment: self.some(i + 2) }
    }
}

/// What an oid stands for, by its catalog and, of columns, their number.
type Ids = HashMap<(String, String, String), String>;

struct Reading {
    tables: Vec<Table>,
    objects: Vec<Object>,
    ids: Ids,
    /// Which table an oid is.
    at: HashMap<String, usize>,
    /// Names of columns, by their table and their number.
    numbers: HashMap<(String, String), String>,
    /// Quoted names of all relations.
    relations: HashMap<String, String>,
}

pub(super) fn read(db: &mut dyn Database) -> Result<Catalog> {
    let mut lines: HashMap<String, Vec<Line>> = HashMap::new();
    for row in db.query(&question::question())? {
        let texts = row.into_iter().map(|value| match value {
            Value::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            _ => None,
        });
        let line = Line(texts.collect());
        lines.entry(line.text(0)).or_default().push(line);
    }
    let mut reading = Reading {
        tables: Vec::new(),
        objects: Vec::new(),
        ids: Ids::new(),
        at: HashMap::new(),
        numbers: HashMap::new(),
        relations: HashMap::new(),
    };
    let none = Vec::new();
    let of = |tag: &str| lines.get(tag).unwrap_or(&none);
    reading.apart(of("N"), of("E"), of("O"));
    reading.types(of("T"));
    reading.relations(of("C"));
    reading.columns(of("A"));
    reading.sequences(of("S"));
    reading.constraints(of("K"));
    reading.indexes(of("I"));
    reading.functions(of("F"));
    reading.belongings(of("G"), of("R"), of("P"), of("X"));
    let classes = of("Q").iter().map(|l| (l.text(1), l.text(2))).collect();
    reading.dependencies(of("D"), &classes);
    let reader = of("Y").first().and_then(|l| l.some(1));
    Ok(Catalog { kind: Kind::Postgres, tables: reading.tables, objects: reading.objects, reader })
}

fn object(what: What, name: String, table: Option<String>, sql: String, about: About) -> Object {
    Object {
        what,
        name,
        table,
        canon: sql.clone(),
        sql,
        parts: Vec::new(),
        word: None,
        broken: false,
        about,
        depends: BTreeSet::new(),
    }
}

fn commented(comment: Option<String>) -> About {
    About { comment, ..About::default() }
}

impl Reading {
    fn known(&mut self, class: &str, oid: &str, id: &str) {
        self.ids.insert((class.to_owned(), oid.to_owned(), "0".into()), id.to_owned());
    }

    /// Columns by their numbers in a table.
    fn named(&self, table: &str, numbers: Vec<String>) -> Vec<String> {
        let name = |n: String| self.numbers.get(&(table.to_owned(), n)).cloned();
        numbers.into_iter().filter_map(name).collect()
    }

    fn add(&mut self, class: &str, oid: &str, object: Object) {
        self.known(class, oid, &object.id());
        self.objects.push(object);
    }

    fn apart(&mut self, schemas: &[Line], extensions: &[Line], others: &[Line]) {
        for line in schemas {
            let name = line.text(2);
            let mut about = line.about(3);
            if name == "public" {
                // it is in every new database, with this comment
                about.comment = about.comment.filter(|c| c != "standard public schema");
            }
            let made = object(What::Schema, name.clone(), None, format!("CREATE SCHEMA {name}"), about);
            self.add("pg_namespace", &line.text(1), made);
        }
        for line in extensions {
            let name = line.text(2);
            let sql = format!("CREATE EXTENSION {name} WITH SCHEMA {}", line.text(3));
            let made = object(What::Extension, name, None, sql, About::default());
            self.add("pg_extension", &line.text(1), made);
        }
        for line in others {
            let name = format!("{} {}", line.text(3), line.text(4));
            let sql = format!("{name}: {}", line.text(5));
            let made = object(What::Other, name, None, sql, commented(line.some(6)));
            self.add(&line.text(1), &line.text(2), made);
        }
    }

    fn types(&mut self, lines: &[Line]) {
        for line in lines {
            let (name, kind) = (line.text(4), line.text(3));
            let about = line.about(14);
            let mut parts = Vec::new();
            let (what, sql) = match kind.as_str() {
                "e" => {
                    let values = line.list(5);
                    parts = values.iter().map(|v| ("value".to_owned(), v.clone())).collect();
                    (What::Enum, format!("CREATE TYPE {name} AS ENUM ({})", values.join(", ")))
                }
                "d" => {
                    parts.push(("type".into(), format!("{}{}", line.text(6), line.text(10))));
                    let mut sql = format!("CREATE DOMAIN {name} AS {}{}", line.text(6), line.text(10));
                    if let Some(default) = line.some(8) {
                        sql += &format!(" DEFAULT {default}");
                        parts.push(("default".into(), default));
                    }
                    if line.yes(7) {
                        sql += " NOT NULL";
                        parts.push(("not null".into(), String::new()));
                    }
                    for check in line.list(9) {
                        sql += &format!(" CONSTRAINT {check}");
                        parts.push(("check".into(), check));
                    }
                    (What::Domain, sql)
                }
                "c" => {
                    parts = line.list(11).into_iter().map(|a| ("attribute".to_owned(), a)).collect();
                    (What::Composite, format!("CREATE TYPE {name} AS ({})", line.list(11).join(", ")))
                }
                _ => (What::Other, format!("type {name}: {}", line.text(13))),
            };
            let named = if what == What::Other { format!("type {name}") } else { name };
            let mut made = object(what, named, None, sql, about);
            made.parts = parts;
            made.word = matches!(what, What::Enum | What::Composite).then(|| "TYPE".to_owned());
            let id = made.id();
            self.known("pg_type", &line.text(2), &id);
            if kind == "c" {
                self.known("pg_class", &line.text(12), &id);
            }
            self.add("pg_type", &line.text(1), made);
        }
    }

    fn relations(&mut self, lines: &[Line]) {
        for line in lines {
            let (oid, quoted, kind) = (line.text(1), line.text(7), line.text(4));
            self.relations.insert(oid.clone(), quoted.clone());
            let id = if kind == "v" || kind == "m" {
                let what = if kind == "v" { What::View } else { What::MaterializedView };
                let with = line.some(9).map(|o| format!(" WITH ({o})")).unwrap_or_default();
                let query = line.text(19).trim().trim_end_matches(';').to_owned();
                let method = line.some(18).map(|m| format!(" USING {m}")).unwrap_or_default();
                let place = line.some(17).map(|t| format!(" TABLESPACE {t}")).unwrap_or_default();
                let word = if kind == "v" { "VIEW" } else { "MATERIALIZED VIEW" };
                let sql = format!("CREATE {word} {quoted}{method}{with}{place} AS\n{query}");
                let mut made = object(what, quoted, None, sql, line.about(22));
                if kind == "m" && !line.yes(20) {
                    made.sql += " WITH NO DATA";
                }
                made.parts = line.list(25).into_iter().map(|c| ("column comment".to_owned(), c)).collect();
                let id = made.id();
                self.add("pg_class", &oid, made);
                id
            } else {
                let mut options = BTreeMap::new();
                let mut option = |key: &str, value: Option<String>| {
                    if let Some(value) = value {
                        options.insert(key.to_owned(), value);
                    }
                };
                option("unlogged", (line.text(8) == "u").then(String::new));
                option("with", line.some(9));
                option("row security", line.yes(10).then(String::new));
                option("forced row security", line.yes(11).then(String::new));
                option(
                    "replica identity",
                    match line.text(12).as_str() {
                        "f" => Some("FULL".into()),
                        "n" => Some("NOTHING".into()),
                        _ => None,
                    },
                );
                option("partitioned by", line.some(14));
                option("partition", line.some(15));
                option("inherits", line.some(16));
                option("tablespace", line.some(17));
                option("access method", line.some(18));
                option("of type", line.some(21));
                let beyond = match kind.as_str() {
                    "p" => Some("it is partitioned"),
                    "f" => Some("it is a foreign table"),
                    _ if line.yes(13) => Some("it is a partition"),
                    _ if line.some(16).is_some() => Some("it inherits from another table"),
                    _ if line.some(21).is_some() => Some("it is a table of a type"),
                    _ => None,
                };
                let name = Name { schema: Some(line.text(5)), name: line.text(6), quoted };
                self.at.insert(oid.clone(), self.tables.len());
                let made = Table {
                    name,
                    columns: Vec::new(),
                    key: Vec::new(),
                    unique: Vec::new(),
                    foreign_keys: Vec::new(),
                    sql: String::new(),
                    constraints: Vec::new(),
                    options,
                    beyond: beyond.map(str::to_owned),
                    about: line.about(22),
                    depends: BTreeSet::new(),
                };
                let id = made.id();
                self.known("pg_class", &oid, &id);
                self.tables.push(made);
                id
            };
            self.known("pg_type", &line.text(2), &id);
            self.known("pg_type", &line.text(3), &id);
        }
    }

    fn columns(&mut self, lines: &[Line]) {
        for line in lines {
            let (oid, number) = (line.text(1), line.text(2));
            let Some(&at) = self.at.get(&oid) else { continue };
            let mut options = BTreeMap::new();
            let storage = match line.text(12).as_str() {
                "p" => Some("PLAIN"),
                "e" => Some("EXTERNAL"),
                "m" => Some("MAIN"),
                "x" => Some("EXTENDED"),
                _ => None,
            };
            let compression = match line.text(14).as_str() {
                "p" => Some("pglz"),
                "l" => Some("lz4"),
                _ => None,
            };
            for (key, value) in [
                ("storage", storage.map(str::to_owned)),
                ("statistics", line.some(13)),
                ("compression", compression.map(str::to_owned)),
                ("with", line.some(15)),
            ] {
                if let Some(value) = value {
                    options.insert(key.to_owned(), value);
                }
            }
            let (expression, generated) = (line.some(10), line.some(8));
            let mut grants = line.list(16);
            grants.sort();
            let column = Column {
                name: line.text(3),
                quoted: line.text(4),
                ty: line.text(5),
                not_null: line.yes(6),
                default: expression.clone().filter(|_| generated.is_none()),
                is_virtual: generated.as_deref() == Some("v"),
                generated: generated.and(expression),
                identity: match line.text(7).as_str() {
                    "a" => Some("ALWAYS".into()),
                    "d" => Some("BY DEFAULT".into()),
                    _ => None,
                },
                collation: line.some(11),
                options,
                about: About { comment: line.some(17), owner: None, grants },
                ..Column::default()
            };
            self.numbers.insert((oid.clone(), number.clone()), column.name.clone());
            let table = &mut self.tables[at];
            let (id, default) = (table.column_id(&column), table.default_id(&column));
            let of_default = if column.default.is_some() { default } else { id.clone() };
            table.columns.push(column);
            self.ids.insert(("pg_class".into(), oid, number), id);
            if let Some(default) = line.some(9) {
                self.known("pg_attrdef", &default, &of_default);
            }
        }
    }

    fn sequences(&mut self, lines: &[Line]) {
        for line in lines {
            let (oid, name, ty) = (line.text(1), line.text(3), line.text(4));
            let (start, increment, min, max) = (line.text(5), line.text(6), line.text(7), line.text(8));
            let (least, greatest) = match ty.as_str() {
                "smallint" => ("-32768", "32767"),
                "integer" => ("-2147483648", "2147483647"),
                _ => ("-9223372036854775808", "9223372036854775807"),
            };
            let (usual_min, usual_max) = if increment.starts_with('-') { (least, "-1") } else { ("1", greatest) };
            let usual_start = if increment.starts_with('-') { &max } else { &min };
            let mut said = String::new();
            let mut say = |text: String, usual: bool| {
                if !usual {
                    said += &text;
                }
            };
            say(format!(" INCREMENT BY {increment}"), increment == "1");
            say(format!(" MINVALUE {min}"), min == usual_min);
            say(format!(" MAXVALUE {max}"), max == usual_max);
            say(format!(" START WITH {start}"), start == *usual_start);
            say(format!(" CACHE {}", line.text(9)), line.text(9) == "1");
            say(" CYCLE".into(), !line.yes(10));
            let owner = self
                .at
                .get(&line.text(13))
                .map(|&at| (at, self.ids.get(&("pg_class".into(), line.text(13), line.text(14))).cloned()));
            let place = owner.as_ref().and_then(|(at, id)| {
                let id = id.clone()?;
                let table = &self.tables[*at];
                let column = table.columns.iter().position(|c| table.column_id(c) == id)?;
                Some((*at, column, id))
            });
            if line.text(12) == "i" {
                let Some((at, column, id)) = place else { continue };
                self.known("pg_class", &oid, &id);
                let table = &mut self.tables[at];
                table.columns[column].sequence = Some(name);
                if let Some(identity) = &mut table.columns[column].identity
                    && !said.is_empty()
                {
                    *identity += &format!(" ({})", said.trim_start());
                }
                continue;
            }
            let mut sql = format!("CREATE SEQUENCE {name}");
            if line.text(11) == "u" {
                sql = format!("CREATE UNLOGGED SEQUENCE {name}");
            }
            if ty != "bigint" {
                sql += &format!(" AS {ty}");
            }
            sql += &said;
            let mut made = object(What::Sequence, name, None, sql, line.about(15));
            made.parts = vec![
                ("AS".into(), ty),
                ("INCREMENT BY".into(), increment),
                ("MINVALUE".into(), min),
                ("MAXVALUE".into(), max),
                ("START WITH".into(), start),
                ("CACHE".into(), line.text(9)),
                (if line.yes(10) { "CYCLE" } else { "NO CYCLE" }.into(), String::new()),
            ];
            if let Some((_, _, id)) = place {
                made.parts.push(("OWNED BY".into(), id.trim_start_matches("column ").to_owned()));
            }
            self.add("pg_class", &oid, made);
        }
    }

    fn constraints(&mut self, lines: &[Line]) {
        for line in lines {
            let Some(&at) = self.at.get(&line.text(2)) else { continue };
            let (kind, name) = (line.text(4), line.text(3));
            let columns = self.named(&line.text(2), line.list(8));
            let references = self.named(&line.text(7), line.list(9));
            let parent = self.at.get(&line.text(7)).map(|&p| self.tables[p].name.clone());
            let table = &mut self.tables[at];
            match (kind.as_str(), parent) {
                ("p", _) => table.key = columns,
                ("u", _) => table.unique.push(columns),
                // one that speaks of a partition of the table meant is not said again
                ("f", Some(parent)) if line.text(11) == "0" || table.options.contains_key("partition") => {
                    table.foreign_keys.push(ForeignKey { columns, table: parent, references });
                }
                _ => {}
            }
            if line.yes(13) {
                table.options.insert("clustered on".into(), name.clone());
            }
            if line.yes(14) {
                table.options.insert("replica identity".into(), format!("USING INDEX {name}"));
            }
            let what = if kind == "f" { What::ForeignKey } else { What::Constraint };
            // a partition has those of its parent by itself
            if what == What::ForeignKey && line.text(11) != "0" {
                continue;
            }
            let mut text = line.text(5);
            if let Some(options) = line.some(12) {
                // in front of what may follow it
                let end = [" DEFERRABLE", " WHERE ("].iter().filter_map(|w| text.find(w)).min().unwrap_or(text.len());
                text.insert_str(end, &format!(" WITH ({options})"));
            }
            let sql = format!("CONSTRAINT {name} {text}");
            let quoted = table.name.quoted.clone();
            let mut made = object(what, name, Some(quoted), sql, commented(line.some(10)));
            made.parts = vec![("kind".into(), kind)];
            if what == What::Constraint && line.text(6) != "0" {
                self.known("pg_class", &line.text(6), &made.id());
            }
            self.add("pg_constraint", &line.text(1), made);
        }
    }

    fn indexes(&mut self, lines: &[Line]) {
        for line in lines {
            let Some(quoted) = self.relations.get(&line.text(2)).cloned() else { continue };
            let columns = self.named(&line.text(2), line.list(11));
            if let Some(&at) = self.at.get(&line.text(2)) {
                let table = &mut self.tables[at];
                if line.yes(6) && line.yes(7) && line.some(11).is_some() {
                    table.unique.push(columns);
                }
                if line.yes(8) {
                    table.options.insert("clustered on".into(), line.text(4));
                }
                if line.yes(9) {
                    table.options.insert("replica identity".into(), format!("USING INDEX {}", line.text(4)));
                }
            }
            let mut made = object(What::Index, line.text(3), Some(quoted), line.text(5), commented(line.some(10)));
            made.broken = !line.yes(7);
            made.parts = line.list(12).into_iter().map(|s| ("statistics".to_owned(), s)).collect();
            self.add("pg_class", &line.text(1), made);
        }
    }

    fn functions(&mut self, lines: &[Line]) {
        for line in lines {
            let name = format!("{}({})", line.text(3), line.text(4));
            let (what, sql) = match line.some(5) {
                Some(sql) => (What::Function, sql.trim_end().to_owned()),
                None => (What::Other, format!("aggregate {name}")),
            };
            let mut made = object(what, name, None, sql, line.about(9));
            made.word = match line.text(2).as_str() {
                "p" => Some("PROCEDURE".into()),
                "a" => Some("AGGREGATE".into()),
                _ => None,
            };
            if line.text(2) == "a" && line.text(4).is_empty() {
                made.name = format!("{}(*)", line.text(3));
            }
            // what CREATE OR REPLACE cannot change
            made.parts = vec![
                ("arguments".into(), line.text(6)),
                ("returns".into(), line.text(7)),
                ("kind".into(), line.text(2)),
            ];
            made.parts.push(("language".into(), line.text(8)));
            self.add("pg_proc", &line.text(1), made);
        }
    }

    fn belongings(&mut self, triggers: &[Line], rules: &[Line], policies: &[Line], statistics: &[Line]) {
        for line in triggers.iter().filter(|l| matches!(l.text(7).as_str(), "" | "0")) {
            let Some(table) = self.relations.get(&line.text(2)).cloned() else { continue };
            let mut made = object(What::Trigger, line.text(3), Some(table), line.text(4), commented(line.some(6)));
            made.parts = state(&line.text(5));
            self.add("pg_trigger", &line.text(1), made);
        }
        for line in rules {
            let Some(table) = self.relations.get(&line.text(2)).cloned() else { continue };
            match line.some(4) {
                Some(sql) => {
                    let sql = sql.trim_end().trim_end_matches(';').to_owned();
                    let mut made = object(What::Rule, line.text(3), Some(table), sql, commented(line.some(6)));
                    made.parts = state(&line.text(5));
                    self.add("pg_rewrite", &line.text(1), made);
                }
                None => {
                    let key = ("pg_class".to_owned(), line.text(2), "0".to_owned());
                    if let Some(view) = self.ids.get(&key).cloned() {
                        self.known("pg_rewrite", &line.text(1), &view);
                    }
                }
            }
        }
        for line in policies {
            let Some(table) = self.relations.get(&line.text(2)).cloned() else { continue };
            let sql = format!("CREATE POLICY {} ON {table}{}", line.text(3), line.text(4));
            let made = object(What::Policy, line.text(3), Some(table), sql, commented(line.some(5)));
            self.add("pg_policy", &line.text(1), made);
        }
        for line in statistics {
            let about = About { owner: line.some(6), comment: line.some(7), grants: Vec::new() };
            let mut made = object(What::Statistics, line.text(3), None, line.text(4), about);
            made.parts = line.some(5).map(|t| ("target".to_owned(), t)).into_iter().collect();
            self.add("pg_statistic_ext", &line.text(1), made);
        }
    }

    /// Whose parts need what, from `pg_depend`.
    fn dependencies(&mut self, lines: &[Line], classes: &HashMap<String, String>) {
        let class = |line: &Line, i: usize| classes.get(&line.text(i)).cloned().unwrap_or_default();
        for line in lines.iter().filter(|l| l.text(7) == "e") {
            let key = ("pg_extension".to_owned(), line.text(5), "0".to_owned());
            if let Some(extension) = self.ids.get(&key).cloned() {
                self.known(&class(line, 1), &line.text(2), &extension);
            }
        }
        let mut needs: HashMap<String, BTreeSet<String>> = HashMap::new();
        for line in lines {
            let find = |class: String, oid: String, sub: String| {
                let whole = || self.ids.get(&(class.clone(), oid.clone(), "0".into()));
                self.ids.get(&(class.clone(), oid.clone(), sub)).or_else(whole)
            };
            let (Some(id), Some(on)) =
                (find(class(line, 1), line.text(2), line.text(3)), find(class(line, 4), line.text(5), line.text(6)))
            else {
                continue;
            };
            // that a column owns a sequence is said after both are there
            if id == on || id.starts_with("sequence ") && line.text(7) == "a" {
                continue;
            }
            needs.entry(id.clone()).or_default().insert(on.clone());
        }
        let mut take = |id: &str| needs.remove(id).unwrap_or_default();
        for table in &mut self.tables {
            table.depends = take(&table.id());
            let name = table.name.quoted.clone();
            for column in &mut table.columns {
                column.depends = take(&format!("column {name}.{}", column.quoted));
                column.default_depends = take(&format!("default {name}.{}", column.quoted));
            }
        }
        for object in &mut self.objects {
            object.depends = take(&object.id());
        }
    }
}

/// The state of a trigger or a rule, where it is not plainly enabled.
fn state(letter: &str) -> Vec<(String, String)> {
    let word = match letter {
        "D" => "DISABLE",
        "R" => "ENABLE REPLICA",
        "A" => "ENABLE ALWAYS",
        _ => return Vec::new(),
    };
    vec![("state".into(), word.into())]
}
