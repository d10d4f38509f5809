//! Tables as the test knows them, and the words that make them.

use std::fmt::Write as _;

/// A value as SQL says it.
pub type Lit = String;

pub const NULL: &str = "NULL";

/// What an application writes into a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Int,
    /// Text that is the plain decimal of an integer.
    Decimal,
    /// An integer; now and then something else, where the type takes it.
    Mostly,
    Text,
    /// Words that keys are made of.
    Word,
    Real,
    Blob,
    Any,
    Uuid,
    /// A number that no other row has ever had.
    Tag,
    /// What tells whose row it is.
    Told,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: String,
    pub flavour: Flavour,
    pub not_null: bool,
    /// The application never has a NULL there, whether or not it might.
    pub filled: bool,
    pub unique: bool,
    pub default: Option<Lit>,
    pub collation: Option<&'static str>,
    /// An expression of another column.
    pub computed: Option<(&'static str, usize)>,
}

impl Column {
    pub fn new(name: &str, ty: &str, flavour: Flavour) -> Column {
        Column {
            name: name.into(),
            ty: ty.into(),
            flavour,
            not_null: false,
            filled: false,
            unique: false,
            default: None,
            collation: None,
            computed: None,
        }
    }
}

/// The rows of which something is said: those with this value in this column.
pub type Only = Option<(usize, Lit)>;

#[derive(Clone, Debug)]
pub struct Check {
    pub of: usize,
    pub says: &'static str,
    pub only: Only,
}

#[derive(Clone, Debug)]
pub struct Foreign {
    pub columns: Vec<usize>,
    pub parent: usize,
    pub references: Vec<usize>,
    pub delete: &'static str,
    pub update: &'static str,
    pub deferred: bool,
    /// Of a merged table: the parents that a row may have, by what tells them; and whose rows have one.
    pub of: Lit,
}

#[derive(Clone, Debug)]
pub struct Index {
    pub name: String,
    pub columns: Vec<usize>,
    pub unique: bool,
    pub expression: Option<&'static str>,
    pub condition: Option<(usize, &'static str)>,
    pub only: Only,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// The store gives numbers.
    Numbers {
        auto: bool,
    },
    Declared,
    /// A UNIQUE over a NOT NULL column is all.
    Bare,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub key: Vec<usize>,
    pub keyed: Keyed,
    pub without_rowid: bool,
    pub strict: bool,
    pub foreign: Vec<Foreign>,
    pub checks: Vec<Check>,
    pub indexes: Vec<Index>,
    /// What the model alone has: values that the other shape has a column for.
    pub hidden: Vec<Column>,
    /// Of a merged table.
    pub slices: Vec<Slice>,
}

/// The rows of a merged table that come from one of those that became it.
#[derive(Clone, Debug)]
pub struct Slice {
    pub told: Lit,
    /// Columns that they may have a value in.
    pub own: Vec<usize>,
    /// Columns that they must have a value in.
    pub needs: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub pg: bool,
    /// How UUIDs are spelled in text: with hyphens, in capitals.
    pub spelling: (bool, bool),
    pub tables: Vec<Table>,
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Table {
    pub fn title(&self) -> String {
        quoted(&self.name)
    }

    pub fn col(&self, i: usize) -> String {
        quoted(&self.columns[i].name)
    }

    pub fn cols(&self, all: &[usize]) -> String {
        all.iter().map(|i| self.col(*i)).collect::<Vec<_>>().join(", ")
    }

    /// Columns that can be written.
    pub fn writable(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|i| self.columns[*i].computed.is_none()).collect()
    }

    /// Its numbers are given where none is said.
    pub fn gives(&self) -> bool {
        matches!(self.keyed, Keyed::Numbers { .. })
    }

    /// The foreign key that a column is in.
    pub fn foreign_of(&self, column: usize) -> Option<&Foreign> {
        self.foreign.iter().find(|f| f.columns.contains(&column))
    }

    pub fn says(&self, column: usize, template: &str) -> String {
        template.replace("{}", &self.col(column))
    }

    /// Whether a definition speaks of a column beyond its own.
    pub fn spoken_of(&self, c: usize) -> bool {
        let col = &self.columns[c];
        col.unique
            || self.key.contains(&c)
            || self.foreign_of(c).is_some()
            || self.checks.iter().any(|k| k.of == c)
            || self.columns.iter().any(|o| o.computed.is_some_and(|(_, of)| of == c))
            || self.indexes.iter().any(|i| i.columns.contains(&c) || i.condition.is_some_and(|(of, _)| of == c))
    }

    fn ddl(&self, shape: &Shape, twin: bool, sql: &mut String) {
        let mut parts = Vec::new();
        for (i, c) in self.columns.iter().enumerate() {
            let mut p = format!("{} {}", self.col(i), c.ty);
            if let Some((template, of)) = c.computed {
                let stored = if shape.pg || i % 2 == 0 { "STORED" } else { "VIRTUAL" };
                let _ = write!(p, " GENERATED ALWAYS AS ({}) {stored}", self.says(of, template));
            }
            if self.key == [i] && self.keyed != Keyed::Bare {
                match (self.keyed, shape.pg) {
                    (Keyed::Numbers { .. }, true) => p += " GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
                    (Keyed::Numbers { auto: true }, false) => p += " PRIMARY KEY AUTOINCREMENT",
                    _ => p += " PRIMARY KEY",
                }
            }
            if c.not_null {
                p += " NOT NULL";
            }
            if c.unique {
                p += " UNIQUE";
            }
            if let Some(d) = &c.default {
                let _ = write!(p, " DEFAULT {d}");
            }
            if let Some(k) = c.collation {
                let _ = write!(p, " COLLATE {k}");
            }
            for k in self.checks.iter().filter(|k| k.of == i) {
                let says = self.says(i, k.says);
                match &k.only {
                    Some((told, v)) => {
                        let _ = write!(p, " CHECK ({} <> {v} OR ({says}))", self.col(*told));
                    }
                    None => {
                        let _ = write!(p, " CHECK ({says})");
                    }
                }
            }
            parts.push(p);
        }
        if twin {
            for h in &self.hidden {
                let default = h.default.as_ref().map(|d| format!(" DEFAULT {d}")).unwrap_or_default();
                parts.push(format!("{} {}{default}", quoted(&h.name), h.ty));
            }
        }
        if self.key.len() > 1 {
            parts.push(format!("PRIMARY KEY ({})", self.cols(&self.key)));
        }
        for f in &self.foreign {
            let parent = &shape.tables[f.parent];
            let mut p = format!("FOREIGN KEY ({}) REFERENCES {}", self.cols(&f.columns), parent.title());
            let _ = write!(p, " ({})", parent.cols(&f.references));
            for (on, what) in [("DELETE", f.delete), ("UPDATE", f.update)] {
                if !what.is_empty() {
                    let _ = write!(p, " ON {on} {what}");
                }
            }
            if f.deferred {
                p += " DEFERRABLE INITIALLY DEFERRED";
            }
            parts.push(p);
        }
        let mut tail = Vec::new();
        if self.without_rowid {
            tail.push("WITHOUT ROWID");
        }
        if self.strict {
            tail.push("STRICT");
        }
        let _ = writeln!(sql, "CREATE TABLE {} (\n    {}\n) {};", self.title(), parts.join(",\n    "), tail.join(", "));
        for ix in &self.indexes {
            let on = match ix.expression {
                Some(e) => self.says(ix.columns[0], e),
                None => self.cols(&ix.columns),
            };
            let mut only = Vec::new();
            only.extend(ix.condition.map(|(of, says)| format!("({})", self.says(of, says))));
            only.extend(ix.only.as_ref().map(|(told, v)| format!("{} = {v}", self.col(*told))));
            let only = if only.is_empty() { String::new() } else { format!(" WHERE {}", only.join(" AND ")) };
            let unique = if ix.unique { "UNIQUE " } else { "" };
            let _ = writeln!(sql, "CREATE {unique}INDEX {} ON {} ({on}){only};", quoted(&ix.name), self.title());
        }
    }
}

impl Shape {
    /// The words that make it; `twin` with what only the model has.
    pub fn ddl(&self, twin: bool) -> String {
        let mut sql = String::new();
        self.tables.iter().for_each(|t| t.ddl(self, twin, &mut sql));
        sql
    }
}
