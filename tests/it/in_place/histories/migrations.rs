//! Migrations at random, and what the tables are after them.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::crossing::{Codec, Crossing, From, Part};
use super::dice::Dice;
use super::shape::{Check, Column, Flavour, Foreign, Index, Keyed, Shape, Slice, Table};

fn said(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What becomes of a column.
#[derive(Default)]
struct Change {
    rename: Option<String>,
    ty: Option<String>,
    default: Option<String>,
    not_null: Option<bool>,
    drop: bool,
}

/// `[rekey]` and `[alter]`. `odd`: the application will write what cannot come back.
pub fn altered(dice: &mut Dice, source: &Shape, odd: bool) -> Crossing {
    let pg = source.pg;
    let mut out = Crossing {
        toml: String::new(),
        source: source.clone(),
        target: source.clone(),
        parts: Vec::new(),
        pairs: HashMap::new(),
        perhaps: HashMap::new(),
        refused: false,
    };
    let (rekey, rekeyed) = rekey(dice, source);
    out.toml += &rekey;
    let mut alter = String::new();
    for (t, table) in source.tables.iter().enumerate() {
        let target = &mut out.target.tables[t];
        if dice.chance(20) {
            target.name = format!("new '{t}' \"of\" {}", table.name);
            let _ = writeln!(alter, "[[alter.table]]\ntable = {}\nrename = {}", said(&table.name), said(&target.name));
        }
        let mut from: Vec<From> = (0..table.columns.len()).map(|i| From::Column(i, Codec::Same)).collect();
        let mut gone = Vec::new();
        let mut changes: Vec<Change> =
            (0..table.columns.len()).map(|c| change(dice, table, c, rekeyed.contains_key(&(t, c)))).collect();
        // of two that belong together one may not stay alone, but both may go
        for (c, column) in table.columns.iter().enumerate() {
            if let Some((_, of)) = column.computed
                && changes[c].drop
            {
                changes[of].drop = false;
            }
        }
        for (c, (column, mut change)) in table.columns.iter().zip(changes).enumerate() {
            let key = rekeyed.get(&(t, c)).copied();
            if change.drop && table.spoken_of(c) {
                out.refused = true;
            }
            let new = &mut target.columns[c];
            if let Some((codec, ty)) = key {
                from[c] = From::Column(c, codec);
                (new.ty, new.flavour) = (ty.to_owned(), if ty == "uuid" { Flavour::Uuid } else { Flavour::Int });
                if !pg && table.key == [c] && !table.without_rowid && target.keyed == Keyed::Declared {
                    target.keyed = Keyed::Numbers { auto: false };
                }
            }
            if change.drop {
                gone.push(c);
            }
            if let Some(ty) = &change.ty {
                let whole = column.flavour == Flavour::Decimal && ty.to_lowercase().contains("int");
                if whole {
                    from[c] = From::Column(c, Codec::Whole);
                    new.flavour = if odd && !table.strict && !pg { Flavour::Mostly } else { Flavour::Int };
                    new.default = column.default.as_ref().map(|d| d.trim_matches('\'').to_owned());
                    new.collation = if pg { None } else { new.collation };
                }
                new.ty.clone_from(ty);
            }
            if let Some(d) = &change.default {
                new.default = Some(d.clone());
            }
            if let Some(n) = change.not_null {
                new.not_null = n;
                new.filled = n || !odd;
            }
            if let Some(n) = &change.rename {
                new.name.clone_from(n);
            }
            if column.computed.is_some() {
                from[c] = From::Computed;
                (change.ty, change.default, change.not_null) = (None, None, None);
            }
            alter += &words(table, column, &change);
        }
        for n in 0..2 {
            if !dice.chance(15) {
                continue;
            }
            let flavour = *dice.pick(&[Flavour::Int, Flavour::Text]);
            let ty = if flavour == Flavour::Int { "INTEGER" } else { "TEXT" };
            let mut c = Column::new(
                &format!("added's {n}"),
                if pg { if flavour == Flavour::Int { "integer" } else { "text" } } else { ty },
                flavour,
            );
            let default = if flavour == Flavour::Int { "41" } else { "'it''s new'" };
            c.default = dice.chance(60).then(|| default.to_owned());
            c.not_null = c.default.is_some() && dice.chance(50);
            c.filled = c.not_null;
            let _ = writeln!(
                alter,
                "[[alter.column]]\ntable = {}\ncolumn = {}\nadd = true\ntype = {}",
                said(&table.name),
                said(&c.name),
                said(&c.ty)
            );
            if let Some(d) = &c.default {
                let _ = writeln!(alter, "default = {}\nnot_null = {}", said(d), c.not_null);
            }
            let there = c
                .default
                .as_ref()
                .map_or("NULL".to_owned(), |d| if pg { format!("'{}'", d.trim_matches('\'')) } else { d.clone() });
            from.push(From::Added(there));
            target.columns.push(c);
        }
        target.hidden = gone
            .iter()
            .map(|c| Column { name: format!("~{c}"), not_null: false, unique: false, ..table.columns[*c].clone() })
            .collect();
        if !out.refused {
            take_out(target, &mut from, &gone);
        }
        out.parts.push(Part { source: t, target: t, from, dropped: gone, told: None, shift: 0 });
    }
    if !out.refused {
        // keys and references by their new places
        for t in 0..source.tables.len() {
            for f in 0..source.tables[t].foreign.len() {
                let parent = source.tables[t].foreign[f].parent;
                let place = |r: &usize| r - out.parts[parent].dropped.iter().filter(|d| *d < r).count();
                let references = source.tables[t].foreign[f].references.iter().map(place).collect();
                out.target.tables[t].foreign[f].references = references;
            }
        }
    }
    if alter.is_empty() && rekey.is_empty() {
        let (t, c) = (&source.tables[0], &source.tables[0].columns[0]);
        alter = format!(
            "[[alter.column]]\ntable = {}\ncolumn = {}\nrename = \"the new name\"\n",
            said(&t.name),
            said(&c.name)
        );
        out.target.tables[0].columns[0].name = "the new name".into();
    }
    if !alter.is_empty() {
        let _ = write!(out.toml, "[alter]\nstore = \"main\"\n{alter}");
    }
    out
}

fn words(table: &Table, column: &Column, change: &Change) -> String {
    let mut rest = String::new();
    for (what, text) in [("rename", &change.rename), ("type", &change.ty), ("default", &change.default)] {
        if let Some(text) = text {
            let _ = writeln!(rest, "{what} = {}", said(text));
        }
    }
    if let Some(n) = change.not_null {
        let _ = writeln!(rest, "not_null = {n}");
    }
    if change.drop {
        rest += "drop = true\n";
    }
    if rest.is_empty() {
        return rest;
    }
    format!("[[alter.column]]\ntable = {}\ncolumn = {}\n{rest}", said(&table.name), said(&column.name))
}

fn change(dice: &mut Dice, t: &Table, c: usize, rekeyed: bool) -> Change {
    let (column, mut out) = (&t.columns[c], Change::default());
    let (key, foreign, spoken) = (t.key.contains(&c), t.foreign_of(c).is_some(), t.spoken_of(c));
    let can_come_back = !column.not_null || column.default.is_some() || column.computed.is_some();
    if can_come_back && dice.chance(if spoken { 1 } else { 20 }) && column.flavour != Flavour::Tag {
        out.drop = true;
        return out;
    }
    if dice.chance(20) {
        out.rename = Some(format!("re'named \"{c}\""));
    }
    if column.computed.is_some() || key || rekeyed {
        return out;
    }
    if column.not_null && dice.chance(20) {
        out.not_null = Some(false);
    } else if column.filled && !column.not_null && !foreign && dice.chance(25) {
        out.not_null = Some(true);
    }
    if foreign {
        return out;
    }
    let computed = t.columns.iter().any(|o| o.computed.is_some_and(|(_, of)| of == c));
    let in_words = computed
        || t.checks.iter().any(|k| k.of == c)
        || t.indexes
            .iter()
            .any(|i| i.expression.is_some() && i.columns.contains(&c) || i.condition.is_some_and(|(of, _)| of == c));
    let postgres = column.ty.chars().all(|x| !x.is_uppercase()) && column.ty != String::new();
    let to: &[&str] = match (column.flavour, t.strict, postgres) {
        (Flavour::Decimal, _, false) if !in_words => &["INTEGER"],
        (Flavour::Decimal, _, true) if !in_words => &["bigint"],
        (Flavour::Int, true, _) if !computed => &["INTEGER", "INT"],
        (Flavour::Int, _, false) if !computed => &["INTEGER", "MEDIUMINT", "BIGINT"],
        (Flavour::Int, _, true) if !computed => &["bigint"],
        (Flavour::Text, false, false) if !computed => &["TEXT", "VARCHAR(90)"],
        (Flavour::Text, _, true) if !computed && !in_words => &["text", "character varying(90)"],
        (Flavour::Real, false, false) if !computed => &["REAL", "DOUBLE"],
        _ => &[],
    };
    if let Some(ty) = dice.one(to)
        && dice.chance(40)
        && ty != column.ty
    {
        out.ty = Some(ty.to_owned());
    }
    if column.flavour == Flavour::Int && dice.chance(10) {
        out.default = Some("77".into());
    }
    out
}

/// Takes columns out of a table, with what is numbered.
fn take_out(t: &mut Table, from: &mut Vec<From>, gone: &[usize]) {
    let place = |c: usize| c - gone.iter().filter(|g| **g < c).count();
    for &g in gone.iter().rev() {
        t.columns.remove(g);
        from.remove(g);
    }
    t.key.iter_mut().for_each(|k| *k = place(*k));
    t.columns.iter_mut().filter_map(|c| c.computed.as_mut()).for_each(|(_, of)| *of = place(*of));
    t.foreign.iter_mut().flat_map(|f| &mut f.columns).for_each(|c| *c = place(*c));
    t.checks.iter_mut().for_each(|k| k.of = place(k.of));
    for ix in &mut t.indexes {
        ix.columns.iter_mut().for_each(|c| *c = place(*c));
        if let Some((of, _)) = &mut ix.condition {
            *of = place(*of);
        }
    }
}

/// By table and column: how its values change, and its type.
type Rekeyed = HashMap<(usize, usize), (Codec, &'static str)>;

/// The section, and what becomes of each column that it changes.
fn rekey(dice: &mut Dice, s: &Shape) -> (String, Rekeyed) {
    let mut out = HashMap::new();
    let uuid = s.pg && dice.chance(60);
    let flavour = |f: Flavour| f == if uuid { Flavour::Uuid } else { Flavour::Decimal };
    let can = |t: &Table| {
        t.key.len() == 1
            && (t.keyed == Keyed::Declared && flavour(t.columns[t.key[0]].flavour)
                || s.pg && !uuid && t.columns[t.key[0]].ty == "integer")
    };
    let tables: Vec<usize> = (0..s.tables.len()).filter(|t| can(&s.tables[*t]) && dice.chance(60)).collect();
    if tables.is_empty() {
        return (String::new(), out);
    }
    let names: Vec<String> = tables.iter().map(|t| said(&s.tables[*t].name)).collect();
    let ty = if uuid { "uuid" } else { "bigint" };
    let section = format!("[rekey]\nstore = \"main\"\ntype = \"{ty}\"\ntables = [{}]\n", names.join(", "));
    let becomes = if uuid || s.pg { ty } else { "INTEGER" };
    for t in tables {
        let key = s.tables[t].key[0];
        let codec = match s.tables[t].columns[key].flavour {
            Flavour::Uuid => Codec::Uuid { hyphens: s.spelling.0, upper: s.spelling.1 },
            Flavour::Decimal => Codec::Whole,
            _ => Codec::Same,
        };
        out.insert((t, key), (codec, becomes));
        for (c, child) in s.tables.iter().enumerate() {
            for f in child.foreign.iter().filter(|f| f.parent == t) {
                out.insert((c, f.columns[0]), (codec, becomes));
            }
        }
    }
    (section, out)
}

/// `[merge]` of the first two tables.
pub fn merged(dice: &mut Dice, source: &Shape, odd: bool) -> Crossing {
    let pg = source.pg;
    let order = if dice.chance(50) { [0, 1] } else { [1, 0] };
    let (into, told_by) = ((*dice.pick(&["all of them", "it's \"merged\"", "media"])).to_owned(), "told by");
    let mut toml = format!("[merge]\nstore = \"main\"\ninto = {}\ndiscriminator = \"{told_by}\"\n", said(&into));
    let values = [*dice.pick(&["image", "it's an image"]), "doc \"ument\""];
    let tell = |n: usize| format!("'{}'", values[n].replace('\'', "''"));
    let mut merged = Table {
        name: into,
        columns: Vec::new(),
        key: vec![0],
        keyed: Keyed::Numbers { auto: order.iter().any(|n| source.tables[*n].keyed == Keyed::Numbers { auto: true }) },
        without_rowid: false,
        strict: false,
        foreign: Vec::new(),
        checks: Vec::new(),
        indexes: Vec::new(),
        hidden: vec![Column::new("~source", if pg { "bigint" } else { "INTEGER" }, Flavour::Int)],
        slices: Vec::new(),
    };
    // where each column of each part is
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); 2];
    for n in order {
        let part = &source.tables[n];
        let mut renames = Vec::new();
        for (i, c) in part.columns.iter().enumerate() {
            let mut c = c.clone();
            if part.strict && c.ty == "ANY" {
                c.ty = String::new();
            }
            let shared = i < 2;
            if !shared && dice.chance(20) {
                let new = format!("re'named {n} {i}");
                renames.push(format!("{} = {}", said(&c.name), said(&new)));
                c.name = new;
            }
            match merged.columns.iter().position(|m| m.name == c.name) {
                Some(at) if shared => {
                    if c.ty == "bigint" {
                        merged.columns[at].ty = c.ty;
                    }
                    places[n].push(at);
                }
                _ => {
                    if !shared {
                        (c.not_null, c.filled, c.default) = (false, false, None);
                    }
                    c.unique = false;
                    places[n].push(merged.columns.len());
                    merged.columns.push(c);
                }
            }
        }
        let _ = write!(toml, "[[merge.from]]\ntable = {}\nvalue = {}\n", said(&part.name), said(values[n]));
        if !renames.is_empty() {
            let _ = writeln!(toml, "columns = {{ {} }}", renames.join(", "));
        }
    }
    let told = merged.columns.len();
    let mut c = Column::new(told_by, if pg { "text" } else { "TEXT" }, Flavour::Told);
    c.not_null = true;
    merged.columns.push(c);
    let target_of = |t: usize| if t < 2 { 0 } else { t - 1 };
    for n in order {
        let part = &source.tables[n];
        let at = |c: &usize| places[n][*c];
        let only = Some((told, tell(n)));
        let needs = (0..part.columns.len()).filter(|c| part.columns[*c].not_null && !odd).collect::<Vec<_>>();
        merged.slices.push(Slice { told: tell(n), own: places[n].clone(), needs: needs.iter().map(at).collect() });
        for k in &part.checks {
            merged.checks.push(Check { of: at(&k.of), only: only.clone(), ..k.clone() });
        }
        for (c, column) in part.columns.iter().enumerate().filter(|(_, c)| c.unique) {
            let name = format!("unique {n} {}", column.name);
            merged.indexes.push(Index {
                name,
                columns: vec![at(&c)],
                unique: true,
                expression: None,
                condition: None,
                only: only.clone(),
            });
        }
        for ix in part.indexes.iter().filter(|i| i.unique) {
            let condition = ix.condition.map(|(of, says)| (at(&of), says));
            merged.indexes.push(Index {
                columns: ix.columns.iter().map(at).collect(),
                condition,
                only: only.clone(),
                ..ix.clone()
            });
        }
        for f in &part.foreign {
            let of = if f.parent < 2 { tell(f.parent) } else { String::new() };
            merged.foreign.push(Foreign {
                columns: f.columns.iter().map(at).collect(),
                parent: target_of(f.parent),
                of,
                ..f.clone()
            });
        }
    }
    let mut parts = Vec::new();
    for (place, n) in order.into_iter().enumerate() {
        let from = (0..merged.columns.len())
            .map(|m| match places[n].iter().position(|p| *p == m) {
                _ if m == told => From::Fixed(tell(n)),
                Some(0) => From::Column(0, Codec::Key(n)),
                Some(c) => From::Column(c, codec_of(&source.tables[n], c)),
                None => From::Nothing,
            })
            .collect();
        parts.push(Part {
            source: n,
            target: 0,
            from,
            dropped: Vec::new(),
            told: Some((told, tell(n))),
            shift: 100_000 * place as i64,
        });
    }
    let key_ty = merged.columns[0].ty.clone();
    let mut target = Shape { tables: vec![merged], ..source.clone() };
    for (s, t) in source.tables.iter().enumerate().skip(2) {
        let from = (0..t.columns.len())
            .map(|c| if t.columns[c].computed.is_some() { From::Computed } else { From::Column(c, codec_of(t, c)) })
            .collect();
        parts.push(Part { source: s, target: target_of(s), from, dropped: Vec::new(), told: None, shift: 0 });
        let mut new = t.clone();
        for f in &mut new.foreign {
            if f.parent < 2 {
                f.of = tell(f.parent);
                new.columns[f.columns[0]].ty.clone_from(&key_ty);
            }
            f.parent = target_of(f.parent);
        }
        target.tables.push(new);
    }
    for f in target.tables[0].foreign.clone() {
        if !f.of.is_empty() {
            target.tables[0].columns[f.columns[0]].ty.clone_from(&key_ty);
        }
    }
    Crossing {
        toml,
        source: source.clone(),
        target,
        parts,
        pairs: HashMap::new(),
        perhaps: HashMap::new(),
        refused: false,
    }
}

fn codec_of(t: &Table, c: usize) -> Codec {
    match t.foreign_of(c) {
        Some(f) if f.parent < 2 => Codec::Key(f.parent),
        _ => Codec::Same,
    }
}
