//! The operation `transfer`: a store's schema and what the user asked for, as tables of a plan. Data in, data out.

use std::collections::HashSet;

use crate::plan::{
    Codec, Column, ColumnPlan, ForeignKey, Kind, NotMoved, Schema, Table, TablePlan, Transfer, base_type,
};

mod postgres;
mod sqlite;

pub use sqlite::narrow;

/// Why a plan cannot be made, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Refusal {
    /// What is in the way, naming table, column, key.
    pub cause: String,
    /// What to do about it.
    pub hint: String,
}

fn refuse<T>(cause: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { cause: cause.into(), hint: hint.into() })
}

/// Which of the source's tables move, with their keys settled, and what stays behind.
///
/// # Errors
/// [`Refusal`]
pub fn select(schema: Schema, wanted: &Transfer, from: Kind) -> Result<(Vec<Table>, Vec<NotMoved>), Refusal> {
    let (mut tables, left) = if from == Kind::Json { collections(schema, wanted) } else { tables(schema, wanted) }?;
    if from == Kind::Postgres {
        let numerics = tables.iter_mut().flat_map(|t| &mut t.columns).filter(|c| base_type(&c.ty) == "numeric");
        // 1.10 and 1.1 are one number, and two spellings that must both come back
        numerics.for_each(|c| c.as_text = true);
    }
    Ok((tables, left))
}

fn collections(schema: Schema, wanted: &Transfer) -> Result<(Vec<Table>, Vec<NotMoved>), Refusal> {
    if wanted.tables.is_empty() {
        let found: Vec<_> = schema.tables.iter().map(|t| format!("{:?}", t.name)).collect();
        return refuse(
            "the migration names no collection of the JSON file",
            format!(
                "add [[transfer.table]] with source, key and into for each collection; the file has: {}",
                if found.is_empty() { "none".into() } else { found.join(", ") }
            ),
        );
    }
    let mut out = Vec::new();
    for w in &wanted.tables {
        let Some(mut t) = schema.tables.iter().find(|t| t.name == w.source).cloned() else {
            let found: Vec<_> =
                schema.tables.iter().map(|t| if t.name.is_empty() { "$".into() } else { t.name.clone() }).collect();
            return refuse(
                format!(
                    "the JSON file has no collection of records at {:?}",
                    if w.source.is_empty() { "$" } else { &w.source }
                ),
                format!("collections there are: {}", if found.is_empty() { "none".into() } else { found.join(", ") }),
            );
        };
        if t.details.json_object {
            let [name] = w.key.as_slice() else {
                return refuse(format!("{}: an object keyed by id has one key", t.title()), "give `key` one name");
            };
            if t.columns.iter().skip(1).any(|c| c.name == *name) {
                return refuse(
                    format!("{}: its records have a member {name:?} of their own", t.title()),
                    format!("`key` names the new column for the record's id; choose another name than {name:?}"),
                );
            }
            t.columns[0].name.clone_from(name);
            t.columns[0].not_null = true;
            t.key = vec![0];
        } else {
            t.key = w
                .key
                .iter()
                .map(|k| {
                    t.column(k).ok_or_else(|| Refusal {
                        cause: format!("{}: no record has a member {k:?}, which is to be the key", t.title()),
                        hint: format!(
                            "members are: {}",
                            t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
                        ),
                    })
                })
                .collect::<Result<_, _>>()?;
            for &i in &t.key.clone() {
                t.columns[i].not_null = true;
            }
        }
        for r in &w.required {
            match t.column(r) {
                Some(i) => t.columns[i].not_null = true,
                None => {
                    return refuse(
                        format!("{}: required member {r:?} is in no record", t.title()),
                        "take it out of `required`, or mend the file",
                    );
                }
            }
        }
        out.push(t);
    }
    let moved: HashSet<&str> = out.iter().map(|t| t.name.as_str()).collect();
    let whole = moved.contains("");
    let mut left: Vec<NotMoved> = schema
        .tables
        .iter()
        .filter(|t| !whole && !t.name.is_empty() && !moved.contains(t.name.as_str()))
        .map(|t| NotMoved { what: format!("collection {}", t.name), why: "no [[transfer.table]] names it".into() })
        .collect();
    left.extend(schema.others.into_iter().map(|(what, why)| NotMoved { what, why }));
    Ok((out, left))
}

fn tables(schema: Schema, wanted: &Transfer) -> Result<(Vec<Table>, Vec<NotMoved>), Refusal> {
    let names: Vec<String> = schema.tables.iter().map(|t| t.name.clone()).collect();
    let asked = wanted
        .only
        .iter()
        .chain(&wanted.exclude)
        .chain(wanted.rename.iter().map(|(a, _)| a))
        .chain(wanted.columns.iter().map(|c| &c.table));
    for name in asked {
        if !names.contains(name) {
            return refuse(
                format!("the source has no table {name:?}, which the migration names"),
                format!("its tables are: {}", names.join(", ")),
            );
        }
    }
    let mut left: Vec<NotMoved> = schema.others.into_iter().map(|(what, why)| NotMoved { what, why }).collect();
    let mut out = Vec::new();
    for mut t in schema.tables {
        if wanted.exclude.contains(&t.name) || (!wanted.only.is_empty() && !wanted.only.contains(&t.name)) {
            left.push(NotMoved { what: format!("table {}", t.name), why: "the migration leaves it out".into() });
            continue;
        }
        if let Some(why) = &t.details.cannot {
            return refuse(
                format!("table {} cannot be moved: {why}", t.name),
                format!("leave it behind with exclude = [{:?}]", t.name),
            );
        }
        if t.key.is_empty() {
            let unique = t.indexes.iter().find(|i| {
                i.unique
                    && i.predicate.is_none()
                    && !i.expression
                    && i.special.is_none()
                    && i.columns
                        .iter()
                        .all(|c| c.collation.is_none() && t.column(&c.name).is_some_and(|n| t.columns[n].not_null))
            });
            match unique.map(|u| u.columns.iter().filter_map(|c| t.column(&c.name)).collect::<Vec<_>>()) {
                Some(key) => t.key = key,
                None => {
                    return refuse(
                        format!("table {} has no key: rows without one cannot be told apart", t.name),
                        format!(
                            "give it a primary key, or a unique index over NOT NULL columns; or leave it behind with exclude = [{:?}]",
                            t.name
                        ),
                    );
                }
            }
        }
        out.push(t);
    }
    if out.is_empty() {
        return refuse("there is no table to move", "check `tables` and `exclude` in the migration");
    }
    Ok((parents_first(out), left))
}

/// Tables so that those referred to come first; cycles stay in the order given.
fn parents_first(mut rest: Vec<Table>) -> Vec<Table> {
    let mut out: Vec<Table> = Vec::new();
    while !rest.is_empty() {
        let waiting: HashSet<String> = rest.iter().map(|t| t.name.clone()).collect();
        let at = rest
            .iter()
            .position(|t| t.foreign_keys.iter().all(|f| f.table == t.name || !waiting.contains(&f.table)))
            .unwrap_or(0);
        out.push(rest.remove(at));
    }
    out
}

/// What `assemble` made.
pub struct Assembled {
    /// Tables, in the order given.
    pub tables: Vec<TablePlan>,
    /// What stays behind beyond what `select` named.
    pub not_moved: Vec<NotMoved>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// The target's tables for the source's, with each column's codec and type as the profile chose them.
///
/// # Errors
/// [`Refusal`]
pub fn assemble(
    sources: Vec<Table>,
    chosen: Vec<Vec<(ColumnPlan, String)>>,
    wanted: &Transfer,
    from: Kind,
    to: Kind,
) -> Result<Assembled, Refusal> {
    let mut left = Vec::new();
    let into = |name: &str| -> String {
        let named = wanted.tables.iter().find(|t| t.source == name).map(|t| t.into.clone());
        let renamed = wanted.rename.iter().find(|(a, _)| a == name).map(|(_, b)| b.clone());
        named.or(renamed).unwrap_or_else(|| name.to_owned())
    };
    let moved: HashSet<String> = sources.iter().map(|t| t.name.clone()).collect();
    let mut plans = Vec::new();
    for (source, columns) in sources.iter().zip(chosen) {
        let mut target = Table { name: into(&source.name), key: source.key.clone(), ..Table::default() };
        let mut codecs = Vec::new();
        for (i, (c, (plan, ty))) in source.columns.iter().zip(columns).enumerate() {
            if from == to && to == Kind::Postgres && REFERRING.contains(&base_type(&c.ty).as_str()) {
                return refuse(
                    format!(
                        "{}.{} is of type {}: it names an object of this database alone",
                        source.name, c.name, c.ty
                    ),
                    format!("keep the name as text, or leave the table out with exclude = [{:?}]", source.name),
                );
            }
            let alone = source.key == [i];
            let identity = c.identity || (from == Kind::Json && alone && ty == "bigint");
            // an integer that is the whole key is the rowid, and gives numbers by itself
            let rowid = from == Kind::Postgres && to == Kind::Sqlite && alone && INTEGERS.contains(&ty.as_str());
            let ty = if rowid { "INTEGER".into() } else { ty };
            if from == Kind::Postgres && to == Kind::Sqlite {
                if c.identity && !rowid {
                    left.push(NotMoved {
                        what: format!("numbering of {}.{}", source.name, c.name),
                        why:
                            "SQLite gives numbers to a key of one integer alone; the application has to give them there"
                                .into(),
                    });
                }
                target.details.autoincrement |= rowid && c.identity;
            }
            let translated = |d: &str| match (from, to) {
                (Kind::Postgres, Kind::Sqlite) => postgres::default(d, &ty, &plan.codec),
                _ if from == to => Some(d.to_owned()),
                _ => default(d, &ty, &plan.codec, to),
            };
            let default = c.default.as_deref().and_then(|d| match translated(d) {
                Some(d) => Some(d),
                None if d.eq_ignore_ascii_case("null") => None,
                None => {
                    left.push(NotMoved {
                        what: format!("default of {}.{}: {d}", source.name, c.name),
                        why: format!("has no counterpart in {} for type {ty}; set it there yourself if the application relies on it", to.name()),
                    });
                    None
                }
            });
            target.columns.push(Column {
                name: c.name.clone(),
                ty,
                not_null: c.not_null || (from != to && source.key.contains(&i)),
                default,
                identity: if from == Kind::Postgres && to == Kind::Sqlite { rowid } else { identity },
                collation: c.collation.clone().filter(|_| from == to),
                always: c.always && from == to,
                as_text: c.as_text && from == to,
            });
            codecs.push(plan);
        }
        match (from, to) {
            (Kind::Sqlite, Kind::Postgres) => {
                sqlite::jsonb_is_no_key(source, &codecs)?;
                sqlite::rest(source, &mut target, &mut codecs, &moved, &into, &mut left);
            }
            (Kind::Postgres, Kind::Sqlite) => postgres::rest(source, &mut target, &codecs, &moved, &into, &mut left),
            _ if from == to => verbatim(source, &mut target, &moved, &into, &mut left),
            _ => {}
        }
        if to == Kind::Postgres {
            names_fit(&target)?;
        } else {
            columns_differ(&target)?;
        }
        let mut source = source.clone();
        // they are made with the target; the source's own are not ours
        source.details.types.clear();
        plans.push(TablePlan { source, target, codecs, from, to, staying: Vec::new() });
    }
    let mut seen = HashSet::new();
    for p in &plans {
        let folded = if to == Kind::Sqlite { p.target.name.to_lowercase() } else { p.target.name.clone() };
        if !seen.insert(folded) {
            return refuse(
                format!("two tables would both become {:?}", p.target.name),
                "use `rename` or another `into`",
            );
        }
        if p.target.name.starts_with("backout_")
            || (to == Kind::Sqlite && p.target.name.to_lowercase().starts_with("sqlite_"))
        {
            return refuse(format!("a table cannot be called {:?}", p.target.name), "use `rename` or another `into`");
        }
    }
    if to == Kind::Postgres && from != to {
        unlike_references(&mut plans, &mut left);
        sqlite::settle_names(&mut plans)?;
    }
    let columns = plans.iter().flat_map(|t| t.source.columns.iter().zip(&t.codecs).map(move |(c, p)| (t, c, p)));
    let doubles: Vec<String> = columns
        .filter(|(_, _, p)| matches!(p.codec, Codec::Decimal { .. }))
        .map(|(t, c, _)| format!("{}.{}", t.source.name, c.name))
        .collect();
    let mut notes = Vec::new();
    let clocks = plans.iter().flat_map(|t| t.target.columns.iter().map(move |c| (t, c)));
    let clocks: Vec<String> = clocks
        .filter(|(_, c)| {
            from == Kind::Postgres && to == Kind::Sqlite && c.default.as_deref() == Some("CURRENT_TIMESTAMP")
        })
        .map(|(t, c)| format!("{}.{}", t.target.name, c.name))
        .collect();
    if !clocks.is_empty() {
        notes.push(format!("SQLite's clock tells UTC, whatever time zone sessions have had: {}", clocks.join(", ")));
    }
    if !doubles.is_empty() {
        notes.push(format!(
            "declared as decimals, but SQLite keeps binary doubles: their shortest decimals are taken; digits beyond a double's were lost before: {}",
            doubles.join(", ")
        ));
    }
    Ok(Assembled { tables: plans, not_moved: left, notes })
}

/// PostgreSQL's types whose values are objects of a database.
const REFERRING: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// SQLite's integers as a PostgreSQL source's columns become them.
const INTEGERS: [&str; 3] = ["SMALLINT", "INTEGER", "BIGINT"];

/// Between stores of one kind everything goes word for word, but for what refers to tables that stay behind.
fn verbatim(
    source: &Table,
    target: &mut Table,
    moved: &HashSet<String>,
    into: &dyn Fn(&str) -> String,
    left: &mut Vec<NotMoved>,
) {
    target.key_name.clone_from(&source.key_name);
    target.indexes.clone_from(&source.indexes);
    target.generated.clone_from(&source.generated);
    target.details = source.details.clone();
    target.constraints.clone_from(&source.constraints);
    if source.constraints.is_empty() {
        target.checks.clone_from(&source.checks);
    }
    references(source, target, moved, into, left);
    // the text of a table whose foreign keys do not all move would refer to nothing
    let whole = target.foreign_keys.len() == source.foreign_keys.len();
    target.details.sql = source.details.sql.as_ref().filter(|_| whole).cloned();
}

/// Foreign keys to tables that move.
fn references(
    source: &Table,
    target: &mut Table,
    moved: &HashSet<String>,
    into: &dyn Fn(&str) -> String,
    left: &mut Vec<NotMoved>,
) {
    for f in &source.foreign_keys {
        if moved.contains(&f.table) {
            target.foreign_keys.push(ForeignKey { table: into(&f.table), ..f.clone() });
        } else {
            left.push(NotMoved {
                what: format!("foreign key {} → {}", source.name, f.table),
                why: format!("table {} is not moved", f.table),
            });
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQLite knows no case in names.
fn columns_differ(t: &Table) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    match t.columns.iter().find(|c| !seen.insert(c.name.to_ascii_lowercase())) {
        None => Ok(()),
        Some(c) => refuse(
            format!("{}: two columns are called {:?} in SQLite, where case does not count", t.name, c.name),
            "rename one of them in the source, or leave the table out with `exclude`",
        ),
    }
}

/// A foreign key whose two ends became different types cannot be made; it is left behind, by name.
fn unlike_references(plans: &mut [TablePlan], left: &mut Vec<NotMoved>) {
    // what is compared with each other must have become the same type by the same spelling
    let family = |ty: &str, codec: &Codec| match (ty, codec) {
        ("smallint" | "integer" | "bigint", _) => "integer".to_owned(),
        (t, Codec::Literal | Codec::AffinityText { .. } | Codec::Escape) => format!("{t} {codec:?}"),
        (t, _) if t.starts_with("character varying") => "text".to_owned(),
        (t, _) if t.starts_with("numeric") => "numeric".to_owned(),
        (t, _) => t.to_owned(),
    };
    type Columns = Vec<(String, String, bool)>;
    let columns_of = |p: &TablePlan| -> Columns {
        let all = p.target.columns.iter().zip(&p.source.columns).zip(&p.codecs);
        all.map(|((t, s), c)| (t.name.clone(), family(&t.ty, &c.codec), s.collation.is_some())).collect()
    };
    /// A table's name, its columns' names, families and whether they have a collation, and its unique keys.
    type Referred = (String, Vec<(String, String, bool)>, Vec<Vec<String>>);
    let types: Vec<Referred> = plans
        .iter()
        .map(|p| {
            let t = &p.target;
            let mut unique = vec![t.key_names().iter().map(ToString::to_string).collect::<Vec<_>>()];
            unique.extend(
                t.indexes
                    .iter()
                    .filter(|i| i.unique && i.predicate.is_none() && i.columns.iter().all(|c| c.collation.is_none()))
                    .map(|i| i.columns.iter().map(|c| c.name.clone()).collect()),
            );
            (t.name.clone(), columns_of(p), unique)
        })
        .collect();
    for (at, p) in plans.iter_mut().enumerate() {
        let t = &mut p.target;
        let name = t.name.clone();
        let mine = &types[at].1;
        t.foreign_keys.retain(|f| {
            let why = match types.iter().find(|(n, ..)| *n == f.table) {
                None => Some("the table it refers to is not moved".to_owned()),
                Some((_, theirs, unique)) => {
                    let find = |all: &Columns, name: &str| all.iter().find(|(n, ..)| n == name).cloned();
                    let pairs = f.columns.iter().zip(&f.references);
                    let unlike = pairs.clone().find(|(a, b)| match (find(mine, a), find(theirs, b)) {
                        (Some((_, x, _)), Some((_, y, _))) => x != y || x.starts_with("json"),
                        _ => true,
                    });
                    let folded =
                        pairs.clone().find(|(_, b)| find(theirs, b).is_some_and(|(_, ty, c)| c && ty == "text"));
                    let mut wanted = f.references.clone();
                    wanted.sort();
                    let keyed = unique.iter().any(|u| {
                        let mut u = u.clone();
                        u.sort();
                        u == wanted
                    });
                    match (unlike, folded) {
                        (Some((a, b)), _) => Some(format!("{a} and {b} become types that are not compared")),
                        (_, Some((_, b))) => {
                            Some(format!("{b} has a collation, by which SQLite finds parents and PostgreSQL does not"))
                        }
                        (None, None) if !keyed => Some("what it refers to has no unique key in PostgreSQL".into()),
                        (None, None) => None,
                    }
                }
            };
            if let Some(why) = &why {
                left.push(NotMoved {
                    what: format!("foreign key {name} ({}) → {}", f.columns.join(", "), f.table),
                    why: why.clone(),
                });
            }
            why.is_none()
        });
    }
}

fn names_fit(t: &Table) -> Result<(), Refusal> {
    let all = std::iter::once(&t.name)
        .chain(t.columns.iter().map(|c| &c.name))
        .chain(t.indexes.iter().filter_map(|i| i.name.as_ref()));
    for name in all {
        if name.len() > 63 {
            return refuse(
                format!("table {:?}: the name {name:?} is longer than the 63 bytes PostgreSQL keeps", t.name),
                "use `rename`, or leave the table out with `exclude`",
            );
        }
        let system = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"].contains(&name.as_str());
        if system && t.column(name).is_some() {
            return refuse(
                format!("{}.{name} cannot be: every table of PostgreSQL has a column {name} of its own", t.name),
                format!("rename it in the source, or leave the table out with exclude = [{:?}]", t.name),
            );
        }
        if name.contains('\0') || name.is_empty() {
            return refuse(
                format!("table {:?}: PostgreSQL takes no name like {name:?}", t.name),
                "use `rename`, or leave the table out with `exclude`",
            );
        }
    }
    Ok(())
}

/// A SQLite default as PostgreSQL says it, for a column of type `ty`; `None` when there is no sure counterpart.
fn default(d: &str, ty: &str, codec: &Codec, to: Kind) -> Option<String> {
    let d = d.trim();
    if to == Kind::Sqlite {
        return Some(d.to_owned());
    }
    let bare = {
        let mut b = d;
        while let Some(inner) = b.strip_prefix('(').and_then(|r| r.strip_suffix(')')) {
            b = inner.trim();
        }
        b
    };
    let low = bare.to_ascii_lowercase();
    let now = [
        "current_timestamp",
        "datetime('now')",
        "datetime(\"now\")",
        "strftime('%y-%m-%d %h:%m:%s', 'now')",
        "strftime('%y-%m-%d %h:%m:%s','now')",
    ];
    if now.contains(&low.as_str()) {
        return match ty {
            "timestamp" => Some("date_trunc('second', now() AT TIME ZONE 'UTC')".into()),
            "timestamptz" => Some("now()".into()),
            "text" => Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')".into()),
            t if t.starts_with("character") => {
                Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')".into())
            }
            _ => None,
        };
    }
    if matches!(low.as_str(), "current_date" | "date('now')") {
        return match ty {
            "date" => Some("(now() AT TIME ZONE 'UTC')::date".into()),
            "text" => Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')".into()),
            _ => None,
        };
    }
    if ["strftime('%s','now')", "strftime('%s', 'now')", "unixepoch()", "unixepoch('now')"].contains(&low.as_str()) {
        // SQLite's strftime gives text, which only an integer's affinity makes a number
        return matches!((ty, codec), ("bigint", Codec::Same))
            .then(|| "floor(extract(epoch FROM now()))::bigint".into());
    }
    if low == "strftime('%y-%m-%dt%h:%m:%sz','now')" || low == "strftime('%y-%m-%dt%h:%m:%sz', 'now')" {
        let exact = bare.contains("'%Y-%m-%dT%H:%M:%SZ'");
        return match ty {
            "timestamptz" if exact => Some("date_trunc('second', now())".into()),
            "text" if exact => Some("to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')".into()),
            _ => None,
        };
    }
    if let Some(h) = low.strip_prefix("x'").and_then(|r| r.strip_suffix('\'')).filter(|_| ty == "bytea") {
        let whole = h.len().is_multiple_of(2) && h.bytes().all(|b| b.is_ascii_hexdigit());
        return (whole && *codec == Codec::Same).then(|| format!("'\\x{h}'"));
    }
    let quoted = bare
        .strip_prefix('\'')
        .and_then(|r| r.strip_suffix('\''))
        .or_else(|| bare.strip_prefix('"').and_then(|r| r.strip_suffix('"')));
    let value = if let Some(q) = quoted {
        crate::value::Value::text(q.replace("''", "'"))
    } else if low == "true" || low == "false" {
        crate::value::Value::Int(i64::from(low == "true"))
    } else if let Ok(i) = bare.parse::<i64>() {
        crate::value::Value::Int(i)
    } else if let Ok(r) = bare.parse::<f64>() {
        crate::value::Value::Real(r)
    } else {
        return None;
    };
    // a number as default of a text column is stored as text, and the other way round, by affinity
    let value = match (&value, codec) {
        (crate::value::Value::Int(i), Codec::Same) if ty == "text" || ty.starts_with("character") => {
            crate::value::Value::text(i.to_string())
        }
        (crate::value::Value::Int(i), Codec::Same) if ty == "double precision" => crate::value::Value::Real(*i as f64),
        _ => value,
    };
    use crate::value::Value;
    match (super::convert::up(codec, &value).ok()?, ty) {
        (Value::Int(i), "bigint" | "integer" | "smallint") => Some(i.to_string()),
        (Value::Real(r), "double precision") if r.is_finite() => Some(r.to_string()),
        (Value::Bool(b), "boolean") => Some(b.to_string()),
        (Value::Decimal(d), t) if t.starts_with("numeric") => Some(d.into_owned()),
        (Value::Text(t), ty) if ty == "text" || ty.starts_with("character") => {
            Some(format!("'{}'", String::from_utf8(t.into_owned()).ok()?.replace('\'', "''")))
        }
        (Value::Timestamp(us), "timestamp") => Some(format!("'{}'", crate::value::timestamp_text(us)?)),
        (Value::Date(d), "date") => Some(format!("'{}'", crate::value::date_text(d)?)),
        (Value::Json(j), "json") => Some(format!("'{}'", String::from_utf8(j.into_owned()).ok()?.replace('\'', "''"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Spelling;

    #[test]
    fn a14_defaults_are_translated_from_a_list_or_named() {
        let flag = Codec::Flag { yes: Spelling::Int(1), no: Spelling::Int(0) };
        let d = |d: &str, ty: &str, c: &Codec| default(d, ty, c, Kind::Postgres);
        assert_eq!(d("1", "boolean", &flag).as_deref(), Some("true"));
        assert_eq!(d("false", "boolean", &flag).as_deref(), Some("false"));
        assert_eq!(d("'it''s'", "text", &Codec::Same).as_deref(), Some("'it''s'"));
        assert_eq!(d("\"x\"", "text", &Codec::Same).as_deref(), Some("'x'"));
        assert_eq!(d("'null'", "text", &Codec::Same).as_deref(), Some("'null'"));
        assert_eq!(d("(-5)", "bigint", &Codec::Same).as_deref(), Some("-5"));
        assert_eq!(
            d("CURRENT_TIMESTAMP", "timestamp", &Codec::Same).as_deref(),
            Some("date_trunc('second', now() AT TIME ZONE 'UTC')")
        );
        assert_eq!(d("(random())", "bigint", &Codec::Same), None);
        assert_eq!(d("'abc'", "bigint", &Codec::Same), None);
    }
}
