//! What the stores say of themselves: their own checks (foreign keys, integrity), and the definitions against those in the plan.

use std::sync::mpsc::channel;
use std::time::Instant;

use crate::plan::{Kind, Plan, Table, TablePlan};
use crate::store::Store;

use super::verify::Scope;
use super::{Result, Run, fingerprint};

/// The stores' own checks, and the definitions against the plan. What there is no time for is told in the second list.
pub(super) fn in_time(run: &mut Run, scope: Scope) -> Result<(Vec<String>, Vec<String>)> {
    let plan = run.plan.clone();
    let (mut out, mut left) = (Vec::new(), Vec::new());
    if matches!(scope, Scope::Full | Scope::Deep) {
        let sides = [(run.target.again()?, plan.target_tables()), (run.source.again()?, plan.source_tables())];
        for (store, tables) in sides {
            let title = store.title();
            match own_checks(store, &tables, scope == Scope::Deep, run.deadline)? {
                Some(found) => out.extend(found),
                None => left.push(format!("the own checks of {title}")),
            }
        }
    }
    out.extend(target_definitions(run, &plan)?);
    if scope == Scope::Deep && plan.from.kind != Kind::Json {
        out.extend(definitions(run.source.as_mut(), &plan)?);
    }
    Ok((out, left))
}

/// A store's own checks, on a connection of their own; `None` if they are not done by then. They only read: nobody has to wait for
/// their end.
fn own_checks(
    mut store: Box<dyn Store>,
    tables: &[&Table],
    deep: bool,
    deadline: Option<Instant>,
) -> Result<Option<Vec<String>>> {
    let Some(deadline) = deadline else { return Ok(Some(store.self_check(tables, deep)?)) };
    if Instant::now() >= deadline {
        return Ok(None);
    }
    let tables: Vec<Table> = tables.iter().map(|t| (*t).clone()).collect();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let _ = send.send(store.self_check(&tables.iter().collect::<Vec<_>>(), deep));
    });
    match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(found) => Ok(Some(found?)),
        Err(_) => Ok(None),
    }
}

/// The target's own checks, and its definitions against the plan. The source was asked while planning a moment ago.
pub(super) fn of_target(run: &mut Run) -> Result<Vec<String>> {
    let plan = run.plan.clone();
    let mut out = run.target.self_check(&plan.target_tables(), false)?;
    out.extend(target_definitions(run, &plan)?);
    Ok(out)
}

fn target_definitions(run: &mut Run, plan: &Plan) -> Result<Vec<String>> {
    let there = run.target.schema()?;
    let mut out = Vec::new();
    for t in &plan.tables {
        match there.tables.iter().find(|x| x.name == t.target.name) {
            None => out.push(format!("table {} is not in the target", t.target.name)),
            Some(found) => out.extend(schema_differences(&t.target, found, plan.to.kind)),
        }
    }
    Ok(out)
}

fn schema_differences(planned: &Table, found: &Table, kind: Kind) -> Vec<String> {
    let plain = |ty: &str| -> String {
        let t = ty.to_ascii_lowercase();
        match t.as_str() {
            "timestamp without time zone" => "timestamp".into(),
            "timestamp with time zone" => "timestamptz".into(),
            "varchar" => "character varying".into(),
            _ if kind == Kind::Postgres => t.replace("varchar(", "character varying("),
            _ => t,
        }
    };
    let planned = &planned.whole();
    let name = &planned.name;
    let mut out = Vec::new();
    for c in &planned.columns {
        match found.columns.iter().find(|f| f.name == c.name) {
            None => out.push(format!("column {name}.{} is missing", c.name)),
            Some(f) if plain(&f.ty) != plain(&c.ty) => {
                out.push(format!("column {name}.{} is {} and not {}", c.name, f.ty, c.ty))
            }
            Some(f) if c.not_null && !f.not_null => out.push(format!("column {name}.{} has lost NOT NULL", c.name)),
            Some(f) if c.default.is_some() && f.default.is_none() => {
                out.push(format!("column {name}.{} has lost its default", c.name))
            }
            Some(f) if c.identity && !f.identity => out.push(format!("column {name}.{} has lost its identity", c.name)),
            Some(_) => {}
        }
    }
    if planned.key_names() != found.key_names() {
        let unique =
            found.indexes.iter().any(|i| i.unique && i.columns.iter().map(|c| c.name.as_str()).eq(planned.key_names()));
        if !unique {
            out.push(format!(
                "table {name} has the key ({}) and not ({})",
                found.key_names().join(", "),
                planned.key_names().join(", ")
            ));
        }
    }
    for i in &planned.indexes {
        let like = |f: &crate::plan::Index| {
            f.unique == i.unique
                && (f.expression || f.columns.iter().map(|c| &c.name).eq(i.columns.iter().map(|c| &c.name)))
        };
        if !found.indexes.iter().any(like) {
            let columns: Vec<&str> = i.columns.iter().map(|c| c.name.as_str()).collect();
            out.push(format!(
                "index {} on {name} ({}) is missing",
                i.name.as_deref().unwrap_or("unique"),
                columns.join(", ")
            ));
        }
    }
    for f in &planned.foreign_keys {
        if !found.foreign_keys.iter().any(|x| x.columns == f.columns && x.table == f.table) {
            out.push(format!("foreign key {name} ({}) → {} is missing", f.columns.join(", "), f.table));
        }
    }
    out
}

/// The source's definitions, against those that the plan recorded.
pub(super) fn definitions(source: &mut dyn Store, plan: &Plan) -> Result<Vec<String>> {
    let there = source.schema()?;
    let found = |t: &TablePlan| there.tables.iter().find(|x| x.name == t.source.name);
    Ok(plan.tables.iter().flat_map(|t| fingerprint::schema_apart(&t.source.whole(), found(t))).collect())
}
