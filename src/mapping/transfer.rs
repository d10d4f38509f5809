//! The operation `transfer`: a store's schema and what the user asked for, as tables of a plan. Data in, data out.

use std::collections::HashSet;

use crate::plan::{Codec, Column, ColumnPlan, Kind, NotMoved, Table, TablePlan, Transfer, base_type};

mod postgres;
mod references;
mod select;
mod sqlite;

use references::{references, unlike_references};

pub use select::select;
pub(super) use select::{parents_first, usable_key};
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
                _ => sqlite::default(d, &ty, &plan.codec, to),
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
