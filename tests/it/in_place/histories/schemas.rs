//! Schemas at random.

use super::dice::Dice;
use super::shape::{Check, Column, Flavour, Foreign, Index, Keyed, Shape, Table};

const TABLES: &[&str] = &[
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
    "percent%s",
    "$1",
];
const COLUMNS: &[&str] = &[
    "a", "Order", "select", "ünï c", "q\"q", "it's", "a.b", "Desc", "cAmEl", "table", "日本", "value", "user", " lead",
    "100%", "check",
];

const CHECKS: &[(Flavour, &str)] = &[
    (Flavour::Int, "{} > -100"),
    (Flavour::Int, "{} IS NULL OR {} <> 13"),
    (Flavour::Text, "length({}) < 40"),
    (Flavour::Text, "{} <> 'check'"),
    (Flavour::Int, "{} IS NULL oR /* not ) */ {} <> 17 Or {} > 90"),
    (Flavour::Text, "(length({}) < 30) -- or ')'\n OR {} IS null"),
];
const EXPRESSIONS: &[(Flavour, &str)] = &[
    (Flavour::Text, "lower({})"),
    (Flavour::Text, "substr({}, 1, 2)"),
    (Flavour::Int, "({} + 1)"),
    (Flavour::Int, "abs({} / 2)"),
];
const CONDITIONS: &[(Flavour, &str)] = &[
    (Flavour::Int, "{} > 5"),
    (Flavour::Int, "{} IS NOT NULL"),
    (Flavour::Text, "{} > 'b'"),
    (Flavour::Int, "{} > 20 or {} < 5"),
    (Flavour::Int, "({} > 20) /* OR ( */\n  oR ({} IS NULL)"),
    (Flavour::Text, "{} = 'a' -- where\n Or {} = 'or'"),
];
const COMPUTED: &[(Flavour, &str)] = &[
    (Flavour::Text, "{} || '!'"),
    (Flavour::Int, "{} / 2"),
    (Flavour::Int, "coalesce({}, 1)"),
    (Flavour::Text, "upper({})"),
];

/// How a table may be keyed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Any,
    Numbers,
}

pub fn shape(dice: &mut Dice, pg: bool, keys: Keys) -> Shape {
    let n = 1 + dice.below(if keys == Keys::Numbers { 4 } else { 5 });
    let n = if keys == Keys::Numbers { n.max(2) } else { n };
    let mut shape = Shape { pg, spelling: (dice.chance(60), dice.chance(40)), tables: Vec::new() };
    for i in 0..n {
        let numbers = keys == Keys::Numbers && i < 2;
        let mut t = table(dice, pg, numbers, i);
        // foreign keys to those before it, and to itself
        for _ in 0..dice.below(3) {
            let parent = dice.below(i + 1);
            let of = if parent == i { &t } else { &shape.tables[parent] };
            let f = foreign(dice, pg, &t, of, parent, numbers.then_some(i));
            if let Some((columns, f)) = f {
                t.columns.extend(columns);
                t.foreign.push(f);
            }
        }
        decorate(dice, &mut t, i);
        shape.tables.push(t);
    }
    // what RESTRICT refuses depends on the order in which rows and tables are come to, where anything follows of itself
    let follows = |f: &Foreign| ["CASCADE", "SET NULL"].contains(&f.delete);
    let one = |(i, t): (usize, &Table)| t.foreign.iter().any(|f| follows(f) || f.parent == i);
    if shape.tables.iter().enumerate().any(one) {
        let all = shape.tables.iter_mut().flat_map(|t| &mut t.foreign);
        all.filter(|f| f.delete == "RESTRICT").for_each(|f| f.delete = "NO ACTION");
    }
    shape
}

fn ty(dice: &mut Dice, pg: bool, strict: bool, flavour: Flavour) -> String {
    let all: &[&str] = match (flavour, pg, strict) {
        (Flavour::Int, false, false) => &["INTEGER", "INT", "BIGINT", "SMALLINT", "UNSIGNED BIG INT"],
        (Flavour::Int, false, true) => &["INTEGER", "INT"],
        (Flavour::Int, true, _) => &["integer", "bigint"],
        (Flavour::Decimal | Flavour::Text | Flavour::Word, false, false) => {
            &["TEXT", "VARCHAR(80)", "NVARCHAR(80)", "CLOB"]
        }
        (Flavour::Decimal | Flavour::Text | Flavour::Word, false, true) => &["TEXT"],
        (Flavour::Decimal | Flavour::Text | Flavour::Word, true, _) => &["text", "character varying(80)"],
        (Flavour::Real, false, false) => &["REAL", "DOUBLE PRECISION", "FLOAT"],
        (Flavour::Real, false, true) => &["REAL"],
        (Flavour::Real, true, _) => &["double precision", "numeric"],
        (Flavour::Blob, true, _) => &["bytea"],
        (Flavour::Blob, false, _) => &["BLOB"],
        (Flavour::Any, false, true) => &["ANY"],
        (Flavour::Any, false, false) => &["", "NUMERIC", "DATETIME", "BOOLEAN"],
        (Flavour::Any, true, _) => &["text"],
        (Flavour::Uuid, _, _) => &["character varying(36)", "text"],
        (Flavour::Mostly | Flavour::Tag, _, _) => &["integer"],
        (Flavour::Told, _, _) => &["text"],
    };
    (*dice.pick(all)).to_owned()
}

fn table(dice: &mut Dice, pg: bool, numbers: bool, n: usize) -> Table {
    let strict = !pg && dice.chance(15);
    let name = dice.pick(TABLES);
    let name = if n == 0 { (*name).to_owned() } else { format!("{name}{n}") };
    let (mut columns, mut key, mut without_rowid) = (Vec::new(), vec![0], false);
    let mut keyed = Keyed::Declared;
    let kind = if numbers { 0 } else { dice.below(100) };
    match kind {
        0..35 => {
            keyed = Keyed::Numbers { auto: dice.chance(50) };
            columns.push(Column::new(
                "id",
                if pg { ["integer", "bigint"][dice.below(2)] } else { "INTEGER" },
                Flavour::Int,
            ));
        }
        35..65 => {
            // numbers, or UUIDs, in text
            let flavour = if pg && dice.chance(60) { Flavour::Uuid } else { Flavour::Decimal };
            let mut c = Column::new("id", &ty(dice, pg, strict, flavour), flavour);
            c.not_null = dice.chance(80);
            columns.push(c);
            without_rowid = !pg && dice.chance(30);
        }
        65..80 => {
            let mut c = Column::new("Key", &ty(dice, pg, strict, Flavour::Word), Flavour::Word);
            c.not_null = true;
            columns.push(c);
            without_rowid = !pg && dice.chance(30);
        }
        80..93 => {
            for (name, flavour) in [("k 1", Flavour::Word), ("k2", Flavour::Int)] {
                let mut c = Column::new(name, &ty(dice, pg, strict, flavour), flavour);
                c.not_null = true;
                columns.push(c);
            }
            key = vec![1, 0];
            without_rowid = !pg && dice.chance(30);
        }
        _ => {
            let mut c = Column::new("mail", &ty(dice, pg, strict, Flavour::Word), Flavour::Word);
            (c.not_null, c.unique) = (true, true);
            columns.push(c);
            keyed = Keyed::Bare;
        }
    }
    columns.iter_mut().for_each(|c| c.filled = true);
    if numbers {
        let mut tag = Column::new("tag", if pg { "integer" } else { "INTEGER" }, Flavour::Tag);
        tag.filled = true;
        columns.push(tag);
    }
    for i in 0..1 + dice.below(4) {
        let flavour = *dice.pick(&[
            Flavour::Int,
            Flavour::Int,
            Flavour::Text,
            Flavour::Text,
            Flavour::Decimal,
            Flavour::Real,
            Flavour::Blob,
            Flavour::Any,
        ]);
        // the first tables of a merge share nothing but `id` and `tag`
        let name =
            if numbers { format!("{} of {n}.{i}", dice.pick(COLUMNS)) } else { format!("{}{i}", dice.pick(COLUMNS)) };
        let mut c = Column::new(&name, &ty(dice, pg, strict, flavour), flavour);
        if !pg && matches!(flavour, Flavour::Text | Flavour::Decimal) && dice.chance(10) {
            c.collation = Some("NOCASE");
        }
        if dice.chance(30) {
            c.default = Some(default(dice, pg, flavour));
        }
        c.filled = dice.chance(50);
        c.not_null = c.filled && dice.chance(50);
        columns.push(c);
    }
    Table {
        name,
        columns,
        key,
        keyed,
        without_rowid,
        strict,
        foreign: Vec::new(),
        checks: Vec::new(),
        indexes: Vec::new(),
        hidden: Vec::new(),
        slices: Vec::new(),
    }
}

fn default(dice: &mut Dice, pg: bool, flavour: Flavour) -> String {
    match flavour {
        Flavour::Int => (*dice.pick(&["7", "0", "-1"])).into(),
        Flavour::Decimal => "'5'".into(),
        Flavour::Real => "1.5".into(),
        Flavour::Blob => if pg { "'x'" } else { "x'78'" }.into(),
        _ => (*dice.pick(&["'none'", "''", "'it''s'"])).into(),
    }
}

/// New columns of `t` that refer to the key of `of`, or to a column of it that is unique.
fn foreign(
    dice: &mut Dice,
    pg: bool,
    t: &Table,
    of: &Table,
    parent: usize,
    merged: Option<usize>,
) -> Option<(Vec<Column>, Foreign)> {
    let named = match of.keyed {
        Keyed::Bare => vec![0],
        _ => of.key.clone(),
    };
    let delete = *dice.pick(&["", "CASCADE", "CASCADE", "SET NULL", "RESTRICT", "NO ACTION"]);
    let update = *dice.pick(&["", "CASCADE", "CASCADE", "SET NULL"]);
    let (mut columns, mut at) = (Vec::new(), Vec::new());
    let needed = dice.chance(30) && !(delete == "SET NULL" || update == "SET NULL");
    for r in &named {
        let there = &of.columns[*r];
        let n = t.columns.len() + columns.len();
        let name = match merged {
            Some(m) => format!("to {parent} of {m}.{n}"),
            None => format!("to {parent}.{n}"),
        };
        let mut c = Column::new(&name, &there.ty, there.flavour);
        if pg && c.ty.starts_with("character") && dice.chance(20) {
            c.ty = "text".into();
        }
        (c.not_null, c.filled) = (needed && of.name != t.name, needed && of.name != t.name);
        if t.strict && !["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"].contains(&c.ty.as_str()) {
            c.ty = if matches!(there.flavour, Flavour::Int) { "INT" } else { "TEXT" }.into();
        }
        at.push(n);
        columns.push(c);
    }
    let deferred = dice.chance(20);
    Some((columns, Foreign { columns: at, parent, references: named, delete, update, deferred, of: String::new() }))
}

/// Checks, indexes, computed columns.
fn decorate(dice: &mut Dice, t: &mut Table, n: usize) {
    let merged = t.columns.iter().any(|c| c.flavour == Flavour::Tag);
    let plain: Vec<usize> = (0..t.columns.len()).filter(|c| !t.key.contains(c) && t.foreign_of(*c).is_none()).collect();
    for &c in &plain {
        let flavour = t.columns[c].flavour;
        if dice.chance(15)
            && let Some((_, says)) = dice.one(&CHECKS.iter().filter(|k| k.0 == flavour).copied().collect::<Vec<_>>())
        {
            t.checks.push(Check { of: c, says, only: None });
        }
        t.columns[c].unique |= matches!(flavour, Flavour::Int | Flavour::Text | Flavour::Decimal) && dice.chance(12);
    }
    if !merged && dice.chance(20) {
        let of: Vec<(usize, &'static str)> = plain
            .iter()
            .flat_map(|&c| COMPUTED.iter().filter(move |_| true).map(move |k| (c, k)))
            .filter(|(c, k)| t.columns[*c].flavour == k.0)
            .map(|(c, k)| (c, k.1))
            .collect();
        if let Some((of, says)) = dice.one(&of) {
            let ty = match (t.columns[of].flavour, t.strict) {
                (Flavour::Int, _) => "INTEGER",
                _ => "TEXT",
            };
            let mut c = Column::new("computed c", ty, Flavour::Any);
            c.computed = Some((says, of));
            t.columns.push(c);
        }
    }
    for i in 0..dice.below(3) {
        let name = format!("ix \"{n}\" {i}");
        let mut ix = Index {
            name,
            columns: vec![dice.below(t.columns.len())],
            unique: false,
            expression: None,
            condition: None,
            only: None,
        };
        if t.columns[ix.columns[0]].computed.is_some() || t.columns[ix.columns[0]].flavour == Flavour::Tag {
            continue;
        }
        if plain.contains(&ix.columns[0]) {
            let flavour = t.columns[ix.columns[0]].flavour;
            if dice.chance(30) {
                ix.expression =
                    dice.one(&EXPRESSIONS.iter().filter(|e| e.0 == flavour).map(|e| e.1).collect::<Vec<_>>());
            }
            ix.unique = flavour != Flavour::Any && dice.chance(30);
        }
        if dice.chance(30) {
            let of = dice.pick(&plain);
            let says =
                dice.one(&CONDITIONS.iter().filter(|e| e.0 == t.columns[*of].flavour).map(|e| e.1).collect::<Vec<_>>());
            ix.condition = says.map(|s| (*of, s));
        }
        if ix.expression.is_none() && dice.chance(30) && t.columns.len() > 1 {
            let other = dice.below(t.columns.len());
            if other != ix.columns[0] && t.columns[other].computed.is_none() && t.columns[other].flavour != Flavour::Tag
            {
                ix.columns.push(other);
            }
        }
        t.indexes.push(ix);
    }
}
