//! One SQLite schema into another: by ALTER TABLE where that is enough, else the table is built anew.
//!
//! A rename lets SQLite look through the whole schema, rewriting what refers to the table and failing at the first view that it cannot
//! read. So what mentions a table that is renamed or built anew goes before, and comes again after; and a table that is built anew gets
//! its own name back by a rename that finds nothing to rewrite.

use std::collections::BTreeSet;

use super::text::{self, canonical, mentions, named};
use crate::revision::catalog::change::given;
use crate::revision::catalog::{Catalog, Column, Object, Renames, Statement, Table, What};
use crate::store::sqlite::text::quote;

fn plain(sql: String) -> Statement {
    Statement { sql, after_rows: false, rights: false }
}

/// Statements for a whole schema. SQLite checks neither foreign keys nor views when they are made.
pub(in crate::revision::catalog) fn create(catalog: &Catalog) -> Vec<Statement> {
    let mut out: Vec<Statement> = catalog.tables.iter().map(|t| plain(t.sql.clone())).collect();
    for object in &catalog.objects {
        out.push(Statement { sql: object.sql.clone(), after_rows: object.what == What::Trigger, rights: false });
    }
    out.sort_by_key(|s| s.after_rows);
    out
}

fn drop_of(object: &Object) -> String {
    let word = object.word.clone().unwrap_or_else(|| object.what.word().to_uppercase());
    format!("DROP {word} {}", object.name)
}

/// What is done to a table that stays.
struct Altered<'a> {
    from: &'a Table,
    to: &'a Table,
    /// Columns under their names before and after.
    renamed: Vec<(String, String)>,
    /// It has another name.
    moved: bool,
    plan: Plan,
}

enum Plan {
    Nothing,
    /// These statements, after renames of columns.
    Alter(Vec<String>),
    Rebuild,
}

pub(in crate::revision::catalog) fn change(
    from: &Catalog,
    to: &Catalog,
    renames: &Renames,
) -> (Vec<Statement>, Vec<String>) {
    let mut not_generated = Vec::new();
    let mut altered = Vec::new();
    for table in &from.tables {
        let moved = renames.tables.iter().find(|(was, _)| given(from, was).is_some_and(|t| t.name == table.name));
        let moved = moved.and_then(|(_, is)| given(to, is)).filter(|t| from.table(&t.name.quoted).is_none());
        let Some(is) = moved.or_else(|| to.table(&table.name.quoted)) else { continue };
        let renamed: Vec<(String, String)> = renames
            .columns
            .iter()
            .filter(|(name, was, now)| {
                given(to, name).is_some_and(|t| t.name == is.name)
                    && table.column(was).is_some()
                    && table.column(now).is_none()
                    && is.column(now).is_some()
                    && is.column(was).is_none()
            })
            .map(|(_, was, now)| (was.clone(), now.clone()))
            .collect();
        let moved = table.name != is.name;
        altered.push(Altered { from: table, to: is, plan: Plan::Nothing, renamed, moved });
    }
    let tables: Vec<(String, String)> =
        altered.iter().filter(|a| a.moved).map(|a| (a.from.name.name.clone(), a.to.name.name.clone())).collect();
    for one in &mut altered {
        one.plan = plan(one, &tables);
    }

    let gone: Vec<&Table> = from.tables.iter().filter(|t| !altered.iter().any(|a| a.from.name == t.name)).collect();
    let born: Vec<&Table> = to.tables.iter().filter(|t| !altered.iter().any(|a| a.to.name == t.name)).collect();

    // tables over which SQLite looks through the schema, and those whose indexes and triggers go along
    let touched: Vec<&Altered<'_>> =
        altered.iter().filter(|a| a.moved || !a.renamed.is_empty() || !matches!(a.plan, Plan::Nothing)).collect();
    let mut away: BTreeSet<String> = BTreeSet::new();
    let says = |object: &Object, name: &str| mentions(&object.sql, name);
    let looks = touched.iter().any(|a| {
        let drops = matches!(&a.plan, Plan::Alter(all) if all.iter().any(|s| s.contains(" DROP COLUMN ")));
        a.moved || !a.renamed.is_empty() || drops || matches!(a.plan, Plan::Rebuild)
    });
    let leaves = |view: &Object| !to.objects.iter().any(|o| o.id() == view.id() && o.canon == view.canon);
    loop {
        let before = away.len();
        for object in &from.objects {
            let id = object.id();
            let text = matches!(object.what, What::View | What::Trigger);
            let by_table = touched.iter().any(|a| text && says(object, &a.from.name.name))
                || gone.iter().any(|t| text && looks && says(object, &t.name.name));
            let by_view = text
                && from
                    .objects
                    .iter()
                    .filter(|v| v.what == What::View && v.name != object.name)
                    .any(|v| (away.contains(&v.id()) || looks && leaves(v)) && says(object, &unquoted(&v.name)));
            // tables that are nowhere: a view of them is what no rename gets past
            let broken = looks && object.broken;
            if by_table || by_view || broken {
                away.insert(id);
            }
        }
        if away.len() == before {
            break;
        }
    }
    // an index stays with its table, unless the table is built anew or it is another one
    let swapped = |object: &Object| -> String {
        let own = |a: &&Altered<'_>| Some(&a.from.name.quoted) == object.table.as_ref();
        let Some(one) = altered.iter().find(own) else { return object.canon.clone() };
        let mut names = one.renamed.clone();
        if one.moved {
            names.push((one.from.name.name.clone(), one.to.name.name.clone()));
        }
        if names.is_empty() { object.canon.clone() } else { canonical(&text::replaced(&object.canon, &names)) }
    };
    let follows = |object: &Object| -> Option<&Object> {
        let wanted = swapped(object);
        to.objects.iter().find(|o| o.what == object.what && o.name == object.name && o.canon == wanted)
    };
    let rebuilt = |object: &Object| {
        let own = |a: &&Altered<'_>| Some(&a.from.name.quoted) == object.table.as_ref();
        altered.iter().find(own).is_some_and(|a| matches!(a.plan, Plan::Rebuild))
    };
    let with_gone = |object: &Object| gone.iter().any(|t| Some(&t.name.quoted) == object.table.as_ref());
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let mut drops = Vec::new();
    for object in &from.objects {
        let id = object.id();
        let stays = follows(object).filter(|_| !away.contains(&id));
        if object.what == What::VirtualTable {
            let same = to.objects.iter().find(|o| o.id() == id);
            match same {
                Some(other) if other.canon == object.canon => drop(kept.insert(id)),
                Some(_) => {
                    kept.insert(id.clone());
                    not_generated
                        .push(format!("{id}: it is another one, and its rows would be lost by making it anew"));
                }
                None => drops.push((3, drop_of(object))),
            }
            continue;
        }
        if let Some(other) = stays.filter(|_| !rebuilt(object) || !matches!(object.what, What::Index | What::Trigger)) {
            kept.insert(other.id());
            continue;
        }
        // with its table
        if with_gone(object) && object.what == What::Index
            || object.what == What::Trigger && with_gone(object) && !away.contains(&id)
        {
            continue;
        }
        let order = match object.what {
            What::Trigger => 0,
            What::View => 1,
            _ => 2,
        };
        drops.push((order, drop_of(object)));
    }
    drops.sort();
    let mut out: Vec<Statement> = drops.into_iter().map(|(_, sql)| plain(sql)).collect();
    out.extend(gone.iter().map(|t| plain(format!("DROP TABLE {}", t.name.quoted))));
    for one in &altered {
        if one.moved {
            out.push(plain(format!("ALTER TABLE {} RENAME TO {}", one.from.name.quoted, one.to.name.quoted)));
        }
        for (was, is) in &one.renamed {
            out.push(plain(format!(
                "ALTER TABLE {} RENAME COLUMN {} TO {}",
                one.to.name.quoted,
                named(was),
                named(is)
            )));
        }
    }
    for one in &altered {
        match &one.plan {
            Plan::Nothing => {}
            Plan::Alter(statements) => out.extend(statements.iter().cloned().map(plain)),
            Plan::Rebuild => out.extend(rebuild(one, to).into_iter().map(plain)),
        }
    }
    out.extend(born.iter().map(|t| plain(t.sql.clone())));
    for object in &to.objects {
        if !kept.contains(&object.id()) {
            out.push(Statement { sql: object.sql.clone(), after_rows: object.what == What::Trigger, rights: false });
        }
    }
    (out, not_generated)
}

fn unquoted(name: &str) -> String {
    if name.starts_with('"') { name[1..name.len() - 1].replace("\"\"", "\"") } else { name.to_owned() }
}

/// A column in one spelling, under its name after a rename.
fn spelled(column: &Column, names: &[(String, String)]) -> String {
    let swap = |text: &Option<String>| text.as_ref().map(|t| canonical(&text::replaced(t, names)));
    format!(
        "{:?}",
        (
            column.ty.to_uppercase(),
            column.not_null,
            column.default.as_ref().map(|d| canonical(d)),
            swap(&column.generated),
            column.is_virtual,
            &column.collation,
            &column.identity
        )
    )
}

/// A default that ADD COLUMN takes where there are rows: a literal.
fn constant(default: &str) -> bool {
    let number = default.trim_start_matches(['+', '-']).trim_start();
    let word = ["NULL", "TRUE", "FALSE"].iter().any(|w| default.eq_ignore_ascii_case(w));
    let text = default.strip_prefix('\'').and_then(|d| d.strip_suffix('\''));
    word || text.is_some_and(|t| !t.replace("''", "").contains('\''))
        || number.starts_with(|c: char| c.is_ascii_digit()) && number.parse::<f64>().is_ok()
}

/// How a table becomes the other one.
fn plan(one: &Altered<'_>, tables: &[(String, String)]) -> Plan {
    let mut names = one.renamed.clone();
    names.extend(tables.iter().cloned());
    let (from, to) = (one.from, one.to);
    let name_now = |c: &Column| {
        one.renamed.iter().find(|(was, _)| *was == c.name).map_or_else(|| c.name.clone(), |(_, is)| is.clone())
    };
    let mut was: Vec<String> = from.constraints.iter().map(|c| canonical(&text::replaced(c, &names))).collect();
    let mut is: Vec<String> = to.constraints.iter().map(|c| canonical(c)).collect();
    was.sort();
    is.sort();
    if from.options != to.options {
        return Plan::Rebuild;
    }
    let parsed = text::table(&to.sql);
    let parsed_before = text::table(&from.sql);
    let (mut added, mut dropped) = (Vec::new(), Vec::new());
    // what goes
    for column in &from.columns {
        let name = name_now(column);
        match to.column(&name) {
            Some(other) if spelled(column, &names) == spelled(other, &[]) => {}
            Some(_) => return Plan::Rebuild,
            None => {
                // SQLite refuses to drop what a key, an index, a CHECK or another column speaks of
                let said = parsed_before.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name));
                let alone = said.is_some_and(|c| !c.key && !c.unique && !c.check && !c.references);
                let spoken = from.constraints.iter().any(|c| mentions(c, &column.name))
                    || from.columns.iter().any(|c| c.generated.as_ref().is_some_and(|g| mentions(g, &column.name)));
                if !alone || spoken {
                    return Plan::Rebuild;
                }
                dropped.push(format!("ALTER TABLE {} DROP COLUMN {}", to.name.quoted, column.quoted));
            }
        }
    }
    // what comes: each adds its constraints
    let kept: Vec<String> = from.columns.iter().map(name_now).collect();
    for column in to.columns.iter().filter(|c| !kept.contains(&c.name)) {
        let Some(said) = parsed.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name)) else {
            return Plan::Rebuild;
        };
        let constant = column.default.as_deref().is_none_or(constant);
        let null = column.default.as_deref().is_none_or(|d| d.eq_ignore_ascii_case("NULL"));
        let stored = column.generated.is_some() && !column.is_virtual;
        let cased = from.columns.iter().any(|c| name_now(c).eq_ignore_ascii_case(&column.name));
        if cased
            || said.key
            || said.unique
            || !constant
            || stored
            || column.not_null && null
            || said.references && !null
        {
            return Plan::Rebuild;
        }
        let alone = text::table(&format!("CREATE TABLE t ({})", said.text)).constraints;
        was.extend(alone.iter().map(|c| canonical(c)));
        added.push(format!("ALTER TABLE {} ADD COLUMN {}", to.name.quoted, said.text));
    }
    was.sort();
    if was != is {
        return Plan::Rebuild;
    }
    // a table has a column at any time
    added.extend(dropped);
    if added.is_empty() { Plan::Nothing } else { Plan::Alter(added) }
}

/// The name that a column had.
fn name_before<'a>(one: &'a Altered<'_>, column: &'a Column) -> &'a str {
    let cased = || one.from.columns.iter().map(|c| &c.name).find(|n| n.eq_ignore_ascii_case(&column.name));
    let renamed = one.renamed.iter().find(|(_, now)| *now == column.name).map(|(was, _)| was);
    renamed.or_else(cased).unwrap_or(&column.name)
}

/// Builds a table anew, its rows carried along; by SQLite's own recipe.
fn rebuild(one: &Altered<'_>, to: &Catalog) -> Vec<String> {
    let (from, is) = (one.from, one.to);
    let name = &is.name.name;
    let mut aside = format!("{name}_rebuilt");
    while to.tables.iter().any(|t| t.name.name.eq_ignore_ascii_case(&aside)) {
        aside.push('_');
    }
    let (quoted, aside_quoted) = (&is.name.quoted, named(&aside));
    let common: Vec<&Column> =
        is.columns.iter().filter(|c| c.generated.is_none() && from.column(name_before(one, c)).is_some()).collect();
    let mut columns: Vec<String> = common.iter().map(|c| c.quoted.clone()).collect();
    let mut values: Vec<String> = common
        .iter()
        .map(|c| {
            let was = from.column(name_before(one, c));
            match &c.default {
                // where NULL is no longer allowed, the default stands for it
                Some(default) if c.not_null && was.is_some_and(|w| !w.not_null) => {
                    format!("coalesce({}, {})", c.quoted, crate::store::sqlite::text::default_expression(default))
                }
                _ => c.quoted.clone(),
            }
        })
        .collect();
    // rows keep their numbers where these are nobody's column
    let free = |t: &Table| {
        !t.options.contains_key("without rowid")
            && t.columns.iter().all(|c| c.identity.is_none() && !c.name.eq_ignore_ascii_case("rowid"))
    };
    if free(from) && free(is) {
        columns.insert(0, "rowid".into());
        values.insert(0, "rowid".into());
    }
    let mut out = vec![text::under(&is.sql, &aside)];
    if !columns.is_empty() {
        let (columns, values) = (columns.join(", "), values.join(", "));
        out.push(format!("INSERT INTO {aside_quoted} ({columns}) SELECT {values} FROM {quoted}"));
    }
    if from.options.contains_key("autoincrement") && is.options.contains_key("autoincrement") {
        let text = |name: &str| format!("'{}'", name.replace('\'', "''"));
        out.push(format!("DELETE FROM sqlite_sequence WHERE name = {}", text(&aside)));
        out.push(format!(
            "INSERT INTO sqlite_sequence (name, seq) SELECT {}, seq FROM sqlite_sequence WHERE name = {}",
            text(&aside),
            text(name)
        ));
    }
    out.push(format!("DROP TABLE {quoted}"));
    out.push(format!("ALTER TABLE {aside_quoted} RENAME TO {}", quote(name)));
    out
}
