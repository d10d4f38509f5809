//! Comparing both sides, every row and both ways, while one of them may be written to.
//!
//! Each side is read once (`sums`); where the sums differ, the keys are looked for, and a key counts as different only if, in one
//! look at the live side, no change of it is still on its way (P14).

use std::collections::HashSet;

use crate::mapping::{Way, canon_source, canon_target, map_row};
use crate::plan::{Kind, Plan, Table, TablePlan};
use crate::store::Phase;
use crate::value::{Digest, Key, Value};

use super::sums::{Sums, both, suspects, suspects_of};
use super::{Error, Result, Run, drain, looking, now};

/// What verification came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Verified {
    /// Rows compared, per table in plan order.
    pub rows: Vec<(String, u64)>,
    /// Digest of each table of the source.
    pub digests: Vec<Digest>,
    /// Rows that differ, one line each.
    pub differences: Vec<String>,
    /// What the stores' own checks and the schema's comparison found.
    pub problems: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
}

/// Verifying before the cutover. What differs is looked at again through the log (P13); what differs then fails.
pub(crate) fn before_cutover(run: &mut Run) -> Result<Phase> {
    let mut verified = Verified::default();
    if run.settings.verify {
        verified = compare(run, Way::Up, true)?;
        if !verified.differences.is_empty() {
            run.note(format!("{} differ; they are carried again", super::count(verified.differences.len(), "row")));
            compare_and_doubt(run, Way::Up)?;
            drain::drain(run, Way::Up)?;
            verified = compare(run, Way::Up, true)?;
        }
        if !verified.differences.is_empty() {
            return Err(Error::Differences(verified.differences));
        }
        let problems = checks(run, false)?;
        if !problems.is_empty() {
            return Err(Error::Refused {
                cause: format!("the stores' own checks found: {}", problems.join("; ")),
                hint: "mend it in the source, then `backout abort` and `backout up`".into(),
            });
        }
    } else {
        run.note("not verified, as asked");
    }
    let at = run.settings.verify.then(now);
    run.summary.verified = run.settings.verify.then(|| verified.clone());
    run.change_source("source: ready", |s| {
        s.verified_at = at;
        s.digests = verified.digests;
        s.phase = Phase::Ready;
        s.last_error = None;
    })?;
    Ok(Phase::Ready)
}

/// Compares in full and puts every differing key into the giver's log; the doubt is over when that is committed.
pub(crate) fn compare_and_doubt(run: &mut Run, way: Way) -> Result<()> {
    let plan = run.plan.clone();
    for (i, t) in plan.tables.iter().enumerate() {
        let keys: Vec<Key> = suspects(run, i, t)?
            .into_iter()
            .filter_map(|k| match way {
                Way::Up => crate::mapping::map_key(Way::Down, t, &k).ok(),
                Way::Down => Some(k),
            })
            .collect();
        if !keys.is_empty() {
            run.sides(way).0.doubt(i, &keys)?;
        }
    }
    let id = run.id.clone();
    let (_, receiver) = run.sides(way);
    super::change_state(receiver, &id, "receiver: doubt resolved", |s| s.doubt = None)?;
    Ok(())
}

/// Full comparison. With `drains`, changes under way are carried before a difference counts; else (after a rollback) what the live
/// side's log names is left out.
pub(crate) fn compare(run: &mut Run, way: Way, drains: bool) -> Result<Verified> {
    let begun = std::time::Instant::now();
    let plan = run.plan.clone();
    let mut early = run.early.take();
    let mut out = Verified { seconds: early.as_ref().map_or(0.0, |e| e.seconds), ..Verified::default() };
    let id = run.id.clone();
    // parked rows differ by definition; they are listed as parked
    let parked: HashSet<(usize, Key)> = run.source.parked(&id)?.into_iter().map(|p| (p.table, p.key)).collect();
    for (i, t) in plan.tables.iter().enumerate() {
        run.go_on()?;
        let read = early.as_mut().and_then(|e| e.sums.get_mut(i)?.take());
        let (source, target) = match read {
            Some(read) => read,
            None => both(run, i, t)?,
        };
        let (s, d) = (Sums::total(&source.as_target), Sums::total(&source.as_source));
        out.rows.push((t.source.title().to_owned(), s.rows));
        out.digests.push(d);
        let equal = source.as_target == target.as_target && source.as_source == target.as_source;
        if equal && source.misfits.is_empty() && target.misfits.is_empty() {
            continue;
        }
        let mut keys = suspects_of(run, t, &source, &target)?;
        keys.retain(|k| !parked.contains(&(i, k.clone())));
        if drains {
            drain::drain(run, way)?;
        }
        out.differences.extend(differing(run, way, i, t, &keys)?);
    }
    out.seconds += begun.elapsed().as_secs_f64();
    Ok(out)
}

/// Which of these keys really differ, seen in one look at the live side in which no change of them is under way.
fn differing(run: &mut Run, way: Way, i: usize, t: &TablePlan, keys: &[Key]) -> Result<Vec<String>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let plan: Plan = run.plan.clone();
    let givers = way.givers(&plan);
    let id = run.id.clone();
    // the giver's own keys, where they can be said
    let mut pairs: Vec<(Key, Key)> = Vec::new();
    let mut out = Vec::new();
    for k in keys {
        match crate::mapping::map_key(Way::Down, t, k) {
            Ok(s) => pairs.push((s, k.clone())),
            Err(m) => out.push(m.to_string()),
        }
    }
    let source_keys: Vec<Key> = pairs.iter().map(|(s, _)| s.clone()).collect();
    let target_keys: Vec<Key> = pairs.iter().map(|(_, t)| t.clone()).collect();
    let (giver, receiver) = run.sides(way);
    let checkpoint = receiver.state()?.filter(|s| s.run == id).and_then(|s| s.checkpoint);
    let begun = giver.state()?.filter(|s| s.run == id).and_then(|s| s.captured_from);
    let (mine, theirs) = if way == Way::Up { (&source_keys, &target_keys) } else { (&target_keys, &source_keys) };
    let (rows, pending) = looking(giver, &givers, |g| {
        let mut pending = HashSet::new();
        let mut all = false;
        if let Some(from) = checkpoint.or(begun) {
            for e in g.log_since(&givers, &from)?.0.into_iter().filter(|e| e.table == i) {
                all |= e.op == crate::store::Op::Truncate;
                pending.extend(e.before.into_iter().chain(e.after));
            }
        }
        let rows = if all { None } else { Some(g.fetch(way.giver(t), mine)?) };
        Ok((rows, pending))
    })?;
    let Some(rows) = rows else { return Ok(Vec::new()) };
    let receivers = way.receivers(&plan);
    let others = looking(receiver, &receivers, |r| Ok(r.fetch(way.receiver(t), theirs)?))?;
    for (n, (mine_row, their_row)) in rows.into_iter().zip(others).enumerate() {
        if pending.contains(&mine[n]) {
            continue;
        }
        let (s, d) = if way == Way::Up { (mine_row, their_row) } else { (their_row, mine_row) };
        let name = t.source.title();
        match (s, d) {
            (None, None) => {}
            (Some(_), None) => out.push(format!("{name} {}: missing in the target", pairs[n].0)),
            (None, Some(_)) => out.push(format!("{name} {}: only in the target", pairs[n].0)),
            (Some(s), Some(d)) => {
                out.extend(row_difference(t, &s, &d).map(|what| format!("{name} {}: {what}", pairs[n].0)))
            }
        }
    }
    Ok(out)
}

/// How two rows differ, both ways, or not at all.
fn row_difference(t: &TablePlan, s: &[Value<'_>], d: &[Value<'_>]) -> Option<String> {
    let up = match map_row(Way::Up, t, s, None) {
        Ok(up) => up,
        Err(m) => return Some(m.to_string()),
    };
    let down = match map_row(Way::Down, t, d, None) {
        Ok(down) => down,
        Err(m) => return Some(m.to_string()),
    };
    if let Some(c) = up.iter().zip(&canon_target(t, d, &down)).position(|(a, b)| a != b) {
        return Some(format!("column {}: {} in the source, {} in the target", t.source.columns[c].name, s[c], d[c]));
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    canon_source(t, s.to_vec(), &mut a);
    canon_source(t, down, &mut b);
    (a != b).then(|| "the way back would not give the source's row".to_owned())
}

/// The stores' own checks, and the target's schema against the plan.
///
/// Before the cutover the source was asked while planning, a moment ago; `deep` asks both, and all they can tell.
pub(crate) fn checks(run: &mut Run, deep: bool) -> Result<Vec<String>> {
    let plan = run.plan.clone();
    let mut out = run.target.self_check(&plan.target_tables(), deep)?;
    if deep {
        out.extend(run.source.self_check(&plan.source_tables(), deep)?);
    }
    let there = run.target.schema()?;
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
