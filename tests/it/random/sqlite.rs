//! Random SQLite databases.

use std::fmt::Write as _;

use proptest::prelude::*;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::scenarios::{quoted, sqlite_dump, sqlite_schema};

/// A value of any storage class.
#[derive(Clone, PartialEq)]
pub enum Val {
    Null,
    Int(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl std::fmt::Debug for Val {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Val::Null => write!(f, "NULL"),
            Val::Int(i) => write!(f, "{i}"),
            Val::Real(r) => write!(f, "{r:?}"),
            Val::Text(t) => write!(f, "'{}'", t.escape_ascii()),
            Val::Blob(b) => write!(f, "x'{}'", b.escape_ascii()),
        }
    }
}

impl rusqlite::ToSql for Val {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Val::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Val::Int(i) => ToSqlOutput::Borrowed(ValueRef::Integer(*i)),
            Val::Real(r) => ToSqlOutput::Borrowed(ValueRef::Real(*r)),
            Val::Text(t) => ToSqlOutput::Borrowed(ValueRef::Text(t)),
            Val::Blob(b) => ToSqlOutput::Borrowed(ValueRef::Blob(b)),
        })
    }
}

/// How a table's rows are told apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Alias {
        auto: bool,
        descending: bool,
    },
    /// The first column.
    Single {
        without_rowid: bool,
    },
    /// The second and the first column.
    Pair {
        without_rowid: bool,
    },
    /// No key; the first column NOT NULL and UNIQUE, or not.
    Bare {
        unique: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Col {
    pub name: String,
    pub ty: &'static str,
    pub not_null: bool,
    pub unique: bool,
    pub collation: Option<&'static str>,
    pub default: Option<&'static str>,
    /// A condition on `{}`.
    pub check: Option<&'static str>,
    pub values: Vec<Val>,
}

#[derive(Clone, Debug)]
pub struct Ix {
    pub columns: Vec<usize>,
    pub unique: bool,
    pub descending: bool,
    pub collation: Option<&'static str>,
    /// Of `{}`, the first column.
    pub expression: Option<&'static str>,
    pub condition: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Tab {
    pub name: String,
    pub shape: Shape,
    pub strict: bool,
    pub cols: Vec<Col>,
    pub generated: Vec<&'static str>,
    pub indexes: Vec<Ix>,
    /// Table referred to, on delete, on update, deferred, rows of the parent that rows here refer to.
    pub parents: Vec<(usize, &'static str, &'static str, bool, Vec<usize>)>,
    pub dangling: bool,
}

/// A database; shown as the SQL that makes it.
#[derive(Clone)]
pub struct Base {
    pub tabs: Vec<Tab>,
    pub view: bool,
    pub trigger: bool,
    pub fts: bool,
}

const NAMES: &[&str] = &[
    "plain",
    "Order Items",
    "select",
    "ünï",
    "quo\"ted",
    "it's",
    "a.b",
    "x;--",
    "CamelCase",
    "group",
    "日本",
    "[brackets]",
    "back`tick",
    "user",
    "trailing ",
    "percent%s",
    "$1",
    "a_rather_long_name_that_still_goes_into_63_bytes",
];
const COLUMNS: &[&str] = &[
    "a", "Order", "select", "ünï c", "q\"q", "it's", "a.b", "Desc", "cAmEl", "table", "日本", "]", "value", "ROWID",
    "user", " lead", "100%", "?1",
];
const TYPES: &[&str] = &[
    "INTEGER",
    "INT",
    "BIGINT",
    "SMALLINT",
    "TINYINT",
    "INT4",
    "UNSIGNED BIG INT",
    "intege",
    "TEXT",
    "VARCHAR(10)",
    "NVARCHAR(5)",
    "CHAR(3)",
    "CLOB",
    "REAL",
    "DOUBLE PRECISION",
    "FLOAT",
    "FLOATING POINT",
    "NUMERIC",
    "DECIMAL(10,2)",
    "MONEY",
    "BLOB",
    "",
    "STRING",
    "BOOL",
    "BOOLEAN",
    "DATE",
    "DATETIME",
    "TIMESTAMP",
    "JSON",
    "UUID",
    "foo bar",
    "ANY",
];
const STRICT: &[&str] = &["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"];

fn int() -> BoxedStrategy<Val> {
    prop_oneof![
        4 => (-9i64..100).prop_map(Val::Int),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(i64::from(i32::MAX) + 1), Just(32_768), Just((1 << 53) + 1)].prop_map(Val::Int),
    ]
    .boxed()
}

fn real() -> BoxedStrategy<Val> {
    prop_oneof![
        3 => (-99i32..99).prop_map(|i| Val::Real(f64::from(i) / 4.0)),
        1 => prop_oneof![
            Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0), Just(0.1), Just(5e-324), Just(f64::MAX), Just(83.092_031_2), Just(1e15), Just(9_007_199_254_740_992.0),
            any::<f64>().prop_filter("SQLite has no NaN", |r| !r.is_nan()),
        ].prop_map(Val::Real),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<Val> {
    prop_oneof![
        4 => "[a-cA-C é'\"\\\\%]{0,5}",
        1 => prop_oneof![
            Just(String::new()), Just("007".into()), Just("1.10".into()), Just("1e3".into()), Just(" 5".into()), Just("\r\n\t".into()), Just(incompressible()),
            Just("☕日本".into()), Just("NULL".into()), Just("0x10".into()), Just("-0".into()), Just("+1".into()), Just("inf".into()), Just("9223372036854775808".into()), Just("\\N".into()),
        ],
    ]
    .prop_map(|s| Val::Text(s.into_bytes()))
    .boxed()
}

/// Text too long for an index of PostgreSQL, even packed.
fn incompressible() -> String {
    (0..1500u64).map(|i| format!("{:x}", (i * i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)).collect()
}

fn bad_text() -> BoxedStrategy<Val> {
    prop_oneof![
        text(),
        Just(Val::Text(b"\xff".to_vec())),
        Just(Val::Text(b"a\0b".to_vec())),
        Just(Val::Text(b"\xc3".to_vec()))
    ]
    .boxed()
}

fn blob() -> BoxedStrategy<Val> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..4), Just(vec![]), Just(b"\0".to_vec())]
        .prop_map(Val::Blob)
        .boxed()
}

fn words(list: &'static [&'static str]) -> BoxedStrategy<Val> {
    proptest::sample::select(list).prop_map(|s| Val::Text(s.as_bytes().to_vec())).boxed()
}

/// Values that one column holds.
fn flavour() -> BoxedStrategy<BoxedStrategy<Val>> {
    let ints = |list: &'static [i64]| proptest::sample::select(list).prop_map(Val::Int).boxed();
    prop_oneof![
        4 => Just(int()),
        3 => Just(real()),
        5 => Just(text()),
        1 => Just(bad_text()),
        2 => Just(blob()),
        1 => Just(ints(&[0, 1])),
        1 => Just(words(&["t", "f"])),
        1 => Just(words(&["true", "false"])),
        1 => Just(words(&["2024-02-29", "1900-01-01", "9999-12-31", "0001-01-01"])),
        1 => Just(words(&["2024-02-29", "2023-02-29"])),
        2 => Just(words(&["2024-02-29 12:00:00", "1969-12-31 23:59:59", "2024-02-29 12:00:00.000001"])),
        1 => Just(words(&["2024-02-29 12:00:00", "2024-02-29T12:00:00", "soon"])),
        1 => Just(words(&["2024-02-29T12:00:00Z", "0001-01-01T00:00:00Z"])),
        1 => Just(words(&["2024-02-29T12:00:00.123+00:00", "2024-03-31T02:30:00.000+00:00"])),
        1 => Just(ints(&[1_709_208_000_123, 1_709_208_000_000])),
        1 => Just(ints(&[1_709_208_000, 2_000_000_000])),
        1 => Just(words(&["{\"a\": 1}", "[]", "{ \"b\":1E3, \"a\": \"\\u00e9\", \"a\":2}", "null", "12345678901234567890"])),
        1 => Just(words(&["{\"a\": \"\\u0000\"}", "{\"a\": \"\\ud800\"}", "not json"])),
        1 => Just(words(&["9f3c1a52-7d6e-4b0f-8a21-5c4d3e2f1a0b", "00000000-0000-0000-0000-000000000000"])),
        1 => Just(words(&["9F3C1A527D6E4B0F8A215C4D3E2F1A0B", "9f3c1a52-7d6e-4b0f-8a21-5c4d3e2f1a0b"])),
        1 => Just(prop_oneof![int(), real()].boxed()),
        1 => Just(prop_oneof![int(), real(), text()].boxed()),
        1 => Just(prop_oneof![int(), real(), bad_text(), blob()].boxed()),
    ]
    .boxed()
}

fn col(rows: usize, strict: bool) -> impl Strategy<Value = Col> {
    let ty = if strict { proptest::sample::select(STRICT) } else { proptest::sample::select(TYPES) };
    let values = (flavour(), 0..4u8).prop_flat_map(move |(of, nulls)| {
        let one = prop_oneof![u32::from(nulls) => Just(Val::Null), 8 => of];
        proptest::collection::vec(one, rows)
    });
    let collation = prop_oneof![10 => Just(None), 1 => Just(Some("NOCASE")), 1 => Just(Some("RTRIM"))];
    let default = prop_oneof![
        6 => Just(None),
        3 => proptest::sample::select(&[
            "1", "-5", "'x'", "\"y\"", "'null'", "NULL", "CURRENT_TIMESTAMP", "CURRENT_DATE", "(datetime('now'))", "(random())", "1.5", "TRUE", "x'00'", "'it''s'",
            "(strftime('%s','now'))", "''", "1e3", "bare",
        ][..]).prop_map(Some),
    ];
    let check = prop_oneof![
        8 => Just(None),
        2 => proptest::sample::select(&[
            "{} IS NOT NULL OR 1", "{} IN (0, 1)", "{} >= 0", "length({}) < 4000", "{} <> ''", "typeof({}) <> 'real'", "{} BETWEEN -10 AND 1000", "NOT ({} = 3)", "{} LIKE '%a%'",
            "{} IN ('a', 'b', 't', 'f')", "{} IS NULL OR {} < 5.5",
        ][..]).prop_map(Some),
    ];
    (
        proptest::sample::select(COLUMNS),
        ty,
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.15),
        collation,
        default,
        check,
        values,
    )
        .prop_map(|(name, ty, not_null, unique, collation, default, check, values)| Col {
            name: name.into(),
            ty,
            not_null,
            unique,
            collation,
            default,
            check,
            values,
        })
}

fn ix() -> impl Strategy<Value = Ix> {
    let expression = prop_oneof![
        4 => Just(None),
        1 => proptest::sample::select(&["lower({})", "{} + 1", "{} || 'x'", "abs({})", "coalesce({}, 0)", "substr({}, 1, 2)", "length({})", "hex({})"][..]).prop_map(Some),
    ];
    let condition = prop_oneof![
        3 => Just(None),
        1 => proptest::sample::select(&["{} IS NOT NULL", "{} = 1", "{} > 'a'", "{} IN (1, 2, 'a')", "{} = 0 OR {} IS NULL", "{} <> 'where'", "{} > 1 AND {} < 50", "{}"][..]).prop_map(Some),
    ];
    (
        proptest::collection::vec(0..8usize, 1..3),
        proptest::bool::weighted(0.4),
        any::<bool>(),
        prop_oneof![6 => Just(None), 1 => Just(Some("NOCASE")), 1 => Just(Some("RTRIM"))],
        expression,
        condition,
    )
        .prop_map(|(columns, unique, descending, collation, expression, condition)| Ix {
            columns,
            unique,
            descending,
            collation,
            expression,
            condition,
        })
}

fn tab() -> impl Strategy<Value = Tab> {
    let shape = prop_oneof![
        4 => (any::<bool>(), proptest::bool::weighted(0.1)).prop_map(|(auto, descending)| Shape::Alias { auto: auto && !descending, descending }),
        3 => any::<bool>().prop_map(|without_rowid| Shape::Single { without_rowid }),
        2 => any::<bool>().prop_map(|without_rowid| Shape::Pair { without_rowid }),
        1 => proptest::bool::weighted(0.8).prop_map(|unique| Shape::Bare { unique }),
    ];
    let action = || proptest::sample::select(&["", "CASCADE", "SET NULL", "RESTRICT", "NO ACTION"][..]);
    let parent = (0..4usize, action(), action(), any::<bool>(), proptest::collection::vec(0..6usize, 6));
    (proptest::sample::select(NAMES), shape, proptest::bool::weighted(0.15), 0..7usize).prop_flat_map(
        move |(name, shape, strict, rows)| {
            (
                proptest::collection::vec(col(rows, strict), 2..6),
                proptest::collection::vec(
                    proptest::sample::select(
                        &[
                            "{} || '!'",
                            "{} * 2",
                            "abs({})",
                            "upper({})",
                            "{} IS NULL",
                            "length({})",
                            "coalesce({}, 1)",
                            "{} + 0.5",
                        ][..],
                    ),
                    0..2,
                ),
                proptest::collection::vec(ix(), 0..3),
                proptest::collection::vec(parent.clone(), 0..2),
                proptest::bool::weighted(0.05),
            )
                .prop_map(move |(cols, generated, indexes, parents, dangling)| Tab {
                    name: name.into(),
                    shape: shape.clone(),
                    strict,
                    cols,
                    generated,
                    indexes,
                    parents,
                    dangling,
                })
        },
    )
}

/// A whole database.
pub fn base() -> impl Strategy<Value = Base> {
    (proptest::collection::vec(tab(), 1..4), any::<bool>(), any::<bool>(), proptest::bool::weighted(0.3)).prop_map(
        |(mut tabs, view, trigger, fts)| {
            for (n, t) in tabs.iter_mut().enumerate() {
                t.name = if n == 0 { t.name.clone() } else { format!("{}{n}", t.name) };
                for (i, c) in t.cols.iter_mut().enumerate() {
                    c.name = if i == 0 { c.name.clone() } else { format!("{}{i}", c.name) };
                }
            }
            Base { tabs, view, trigger, fts }
        },
    )
}

fn of(template: &str, name: &str) -> String {
    template.replace("{}", &quoted(name))
}

impl Tab {
    /// Columns that the key is made of.
    pub fn key(&self) -> Vec<String> {
        match self.shape {
            Shape::Alias { .. } => vec!["id".into()],
            Shape::Single { .. } | Shape::Bare { .. } => vec![self.cols[0].name.clone()],
            Shape::Pair { .. } => vec![self.cols[1].name.clone(), self.cols[0].name.clone()],
        }
    }

    fn refers(&self, n: usize) -> String {
        format!("ref {n}")
    }

    /// `CREATE TABLE`; `all` are the tables that may be referred to.
    pub fn create(&self, all: &[Tab]) -> String {
        let mut parts = Vec::new();
        let without_rowid =
            matches!(self.shape, Shape::Single { without_rowid: true } | Shape::Pair { without_rowid: true });
        if let Shape::Alias { auto, descending } = self.shape {
            let more = if auto {
                " AUTOINCREMENT"
            } else if descending {
                " DESC"
            } else {
                ""
            };
            parts.push(format!("id INTEGER PRIMARY KEY{more}"));
        }
        for (i, c) in self.cols.iter().enumerate() {
            let mut s = format!("{} {}", quoted(&c.name), c.ty);
            if c.not_null || (matches!(self.shape, Shape::Bare { unique: true }) && i == 0) {
                s += " NOT NULL";
            }
            if c.unique || (matches!(self.shape, Shape::Bare { unique: true }) && i == 0) {
                s += " UNIQUE";
            }
            if let Some(n) = c.collation {
                let _ = write!(s, " COLLATE {n}");
            }
            if let Some(d) = c.default {
                let _ = write!(s, " DEFAULT {d}");
            }
            if let Some(k) = c.check {
                let _ = write!(s, " CHECK ({})", of(k, &c.name));
            }
            parts.push(s);
        }
        for (i, g) in self.generated.iter().enumerate() {
            let ty = if self.strict { "ANY" } else { ["", "INTEGER", "TEXT"][i % 3] };
            let kept = if i == 0 { "STORED" } else { "VIRTUAL" };
            parts.push(format!(
                "\"gen {i}\" {ty} GENERATED ALWAYS AS ({}) {kept}",
                of(g, &self.cols[i % self.cols.len()].name)
            ));
        }
        for (n, (parent, ..)) in self.parents.iter().enumerate() {
            let parent = &all[parent % all.len()];
            let ty = match parent.shape {
                Shape::Alias { .. } => "INTEGER",
                _ => parent.cols[0].ty,
            };
            let ty = if self.strict && !STRICT.contains(&ty) { "ANY" } else { ty };
            parts.push(format!("{} {ty}", quoted(&self.refers(n))));
        }
        if matches!(self.shape, Shape::Single { .. } | Shape::Pair { .. }) {
            let key: Vec<String> = self.key().iter().map(|k| quoted(k)).collect();
            parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        for (n, (parent, delete, update, deferred, _)) in self.parents.iter().enumerate() {
            let parent = &all[parent % all.len()];
            let to = match parent.shape {
                Shape::Alias { .. } => "id".to_owned(),
                _ => parent.cols[0].name.clone(),
            };
            let mut s = format!(
                "FOREIGN KEY ({}) REFERENCES {} ({})",
                quoted(&self.refers(n)),
                quoted(&parent.name),
                quoted(&to)
            );
            for (on, action) in [("DELETE", delete), ("UPDATE", update)] {
                if !action.is_empty() {
                    let _ = write!(s, " ON {on} {action}");
                }
            }
            if *deferred {
                s += " DEFERRABLE INITIALLY DEFERRED";
            }
            parts.push(s);
        }
        let options: Vec<&str> = [(without_rowid, "WITHOUT ROWID"), (self.strict, "STRICT")]
            .into_iter()
            .filter_map(|(on, o)| on.then_some(o))
            .collect();
        format!("CREATE TABLE {} ({}) {}", quoted(&self.name), parts.join(", "), options.join(", "))
    }
}

impl Base {
    /// Makes it. What SQLite itself refuses (a row against a CHECK, an index over what is not unique) is left out.
    pub fn make(&self, db: &Connection) {
        db.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").unwrap();
        for t in &self.tabs {
            // what a column cannot be made of is SQLite's to say; then the table does without
            if db.execute_batch(&t.create(&self.tabs)).is_err() {
                let mut plain = t.clone();
                plain.generated.clear();
                plain.cols.iter_mut().for_each(|c| (c.default, c.check) = (None, None));
                db.execute_batch(&plain.create(&self.tabs))
                    .unwrap_or_else(|e| panic!("{e}: {}", plain.create(&self.tabs)));
            }
            let names: Vec<String> = t.cols.iter().map(|c| quoted(&c.name)).collect();
            let marks: Vec<String> = (1..=names.len()).map(|i| format!("?{i}")).collect();
            let sql = format!("INSERT INTO {} ({}) VALUES ({})", quoted(&t.name), names.join(", "), marks.join(", "));
            for row in 0..t.cols[0].values.len() {
                let _ = db.execute(&sql, params_from_iter(t.cols.iter().map(|c| &c.values[row])));
            }
            for (n, i) in t.indexes.iter().enumerate() {
                let columns: Vec<&Col> = i.columns.iter().map(|c| &t.cols[c % t.cols.len()]).collect();
                let first = &columns[0].name;
                let mut parts: Vec<String> = Vec::new();
                for c in &columns {
                    let collation = i.collation.map_or(String::new(), |n| format!(" COLLATE {n}"));
                    parts.push(format!("{}{collation}{}", quoted(&c.name), if i.descending { " DESC" } else { "" }));
                }
                if let Some(e) = i.expression {
                    parts[0] = of(e, first);
                }
                let sql = format!(
                    "CREATE {}INDEX {} ON {} ({}){}",
                    if i.unique { "UNIQUE " } else { "" },
                    quoted(&format!("ix {n} {}", t.name)),
                    quoted(&t.name),
                    parts.join(", "),
                    i.condition.map_or(String::new(), |c| format!(" WHERE {}", of(c, first)))
                );
                let _ = db.execute_batch(&sql);
            }
        }
        for t in &self.tabs {
            for (n, (parent, _, _, _, rows)) in t.parents.iter().enumerate() {
                let parent = &self.tabs[parent % self.tabs.len()];
                let to = match parent.shape {
                    Shape::Alias { .. } => "id".to_owned(),
                    _ => parent.cols[0].name.clone(),
                };
                // the parent's columns must be unique, or SQLite takes no write
                let index = format!(
                    "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({})",
                    quoted(&format!("up {to} {}", parent.name)),
                    quoted(&parent.name),
                    quoted(&to)
                );
                if !matches!(parent.shape, Shape::Alias { .. }) && db.execute_batch(&index).is_err() {
                    continue;
                }
                for (at, row) in rows.iter().enumerate() {
                    let key: Vec<String> = t.key().iter().map(|k| quoted(k)).collect();
                    let key = key.join(", ");
                    let sql = format!(
                        "UPDATE {0} SET {1} = (SELECT {2} FROM {3} WHERE {2} IS NOT NULL ORDER BY {2} LIMIT 1 OFFSET {row}) \
                         WHERE ({key}) IN (SELECT {key} FROM {0} ORDER BY {key} LIMIT 1 OFFSET {at})",
                        quoted(&t.name),
                        quoted(&t.refers(n)),
                        quoted(&to),
                        quoted(&parent.name)
                    );
                    let _ = db.execute(&sql, []);
                }
                if t.dangling {
                    let _ =
                        db.execute(&format!("UPDATE {} SET {} = 424242", quoted(&t.name), quoted(&t.refers(n))), []);
                }
            }
        }
        let (first, last) = (&self.tabs[0], &self.tabs[self.tabs.len() - 1]);
        if self.view {
            db.execute_batch(&format!("CREATE VIEW \"a view\" AS SELECT * FROM {}", quoted(&first.name))).unwrap();
        }
        if self.trigger {
            let sql = format!(
                "CREATE TRIGGER \"a trigger\" AFTER UPDATE ON {0} BEGIN UPDATE {1} SET {2} = {2}; END",
                quoted(&first.name),
                quoted(&last.name),
                quoted(&last.cols[0].name)
            );
            db.execute_batch(&sql).unwrap();
        }
        if self.fts {
            db.execute_batch(
                "CREATE VIRTUAL TABLE \"search it\" USING fts5(body); INSERT INTO \"search it\" VALUES ('some words')",
            )
            .unwrap();
            let sql = format!(
                "CREATE TRIGGER \"into search\" AFTER INSERT ON {} BEGIN INSERT INTO \"search it\" (body) VALUES (typeof(new.{})); END",
                quoted(&first.name),
                quoted(&first.cols[0].name)
            );
            db.execute_batch(&sql).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let db = Connection::open_in_memory().unwrap();
        self.make(&db);
        writeln!(f)?;
        for t in sqlite_schema(&db).iter().filter(|s| s.contains("text CREATE") && !s.contains("search it_")) {
            writeln!(f, "{}", t.split_once("text CREATE").map_or("", |(_, sql)| sql))?;
        }
        for (table, rows) in sqlite_dump(&db).iter().filter(|(t, _)| !t.starts_with("search it")) {
            writeln!(f, "{table}: {rows:#?}")?;
        }
        Ok(())
    }
}
