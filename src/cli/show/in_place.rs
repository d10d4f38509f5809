//! How the plan of a change in place looks: what changes, and how much does not.

use std::fmt::Write;

use backout::migrate::Proposal;
use backout::plan::{Codec, Column, ColumnPlan, ForeignKey, Index, Table, TablePlan};

use super::{counted, rows, size, wrap};

/// Where it is, how much takes part, and each table of which something changes.
pub fn tables(out: &mut String, p: &Proposal) {
    let plan = &p.plan;
    let (all_rows, all_bytes) = p.counts.tables.iter().fold((0, 0), |(r, b), (x, y)| (r + x, b + y));
    let changed = plan.tables.iter().filter(|t| changes(t)).count();
    let along = plan.tables.len() - changed;
    let _ = writeln!(out, "in    {} ({})", plan.from.name, plan.from.kind.name());
    let more = if along == 0 {
        String::new()
    } else {
        format!(
            "; {} along as {}",
            if along == 1 { "1 table goes".into() } else { format!("{along} tables go") },
            if along == 1 { "it is" } else { "they are" }
        )
    };
    let of = format!("changes {}{more}; {}, {}", counted(changed, "table"), rows(all_rows), size(all_bytes));
    let _ = writeln!(out, "{}\n", wrap(&of, 6));
    for (t, (n, bytes)) in plan.tables.iter().zip(&p.counts.tables).filter(|(t, _)| changes(t)) {
        let name = renamed(&t.source.name, &t.target.name);
        let _ = writeln!(out, "{name}   {}, {}", rows(*n), size(*bytes));
        let _ = writeln!(out, "  {}", wrap(&format!("key ({})", t.target.key_names().join(", ")), 4));
        columns(out, t);
        beside(out, t);
        out.push('\n');
    }
}

fn renamed(old: &str, new: &str) -> String {
    if old == new { old.to_owned() } else { format!("{old} → {new}") }
}

/// Something of it is another than before, beside what its foreign keys refer to.
fn changes(t: &TablePlan) -> bool {
    let bare = |t: &Table| (t.columns.clone(), t.alone.clone(), t.generated.clone());
    t.source.name != t.target.name || bare(&t.source) != bare(&t.target) || t.codecs.iter().any(by_sql)
}

/// Its values become others, though its type may be the same.
fn by_sql(c: &ColumnPlan) -> bool {
    matches!(c.codec, Codec::Sql { .. })
}

fn columns(out: &mut String, t: &TablePlan) {
    let mut lines: Vec<[String; 3]> = Vec::new();
    let mut same = 0;
    for (at, ((s, d), c)) in t.source.columns.iter().zip(&t.target.columns).zip(&t.codecs).enumerate() {
        // of several tables that become one, what this one has nothing for
        if let Some(fixed) = t.source.constants.iter().find(|f| f.column == at) {
            lines.push([d.name.clone(), short(&d.ty), format!("is new: {} in each of these rows", fixed.value)]);
            continue;
        }
        if s == d && !by_sql(c) {
            same += 1;
            continue;
        }
        let (was, is) = (said(s, d), said(d, s));
        let ty = if s.ty == d.ty { is } else { format!("{was} → {is}") };
        let how = if s.ty == d.ty && !by_sql(c) { String::new() } else { c.codec.title() };
        lines.push([renamed(&s.name, &d.name), ty, how]);
    }
    for lone in &t.source.alone {
        let c = &lone.column;
        lines.push([c.name.clone(), short(&c.ty), "goes".into()]);
    }
    for lone in &t.target.alone {
        let c = &lone.column;
        let not_null = if c.not_null { " not null" } else { "" };
        let default = c.default.as_ref().map(|d| format!(" default {d}")).unwrap_or_default();
        lines.push([c.name.clone(), format!("{}{not_null}{default}", short(&c.ty)), "is new".into()]);
    }
    let width = |text: &String| text.chars().count();
    let name = lines.iter().map(|l| width(&l[0])).max().unwrap_or(0).min(30);
    let short = |l: &&[String; 3]| 6 + name + width(&l[1]) + width(&l[2]) <= 80;
    let ty = lines.iter().filter(short).map(|l| width(&l[1])).max().unwrap_or(0);
    for [n, t, h] in &lines {
        let line = format!("  {n:name$}  {t:ty$}  {h}");
        if line.trim_end().chars().count() <= 80 {
            let _ = writeln!(out, "{}", line.trim_end());
        } else {
            // what it was and what it becomes, each on a line of its own
            let mut parts = t.split(" → ");
            let was = parts.next().unwrap_or_default();
            let _ = writeln!(out, "  {}", wrap(format!("{n:name$}  {was}").trim_end(), name + 6));
            for is in parts {
                let _ = writeln!(out, "  {:name$}    {}", "", wrap(&format!("→ {is}"), name + 8));
            }
            if !h.is_empty() {
                let _ = writeln!(out, "  {:name$}    {}", "", wrap(h, name + 6));
            }
        }
    }
    if same > 0 {
        let lead = if lines.is_empty() { "" } else { "and " };
        let _ =
            writeln!(out, "  {lead}{} as {}", counted(same, "column"), if same == 1 { "it is" } else { "they are" });
    }
}

/// Type, and what of NOT NULL and default differs from the other side's.
fn said(c: &Column, other: &Column) -> String {
    let mut out = short(&c.ty);
    if c.not_null != other.not_null {
        out += if c.not_null { " not null" } else { " null" };
    }
    if c.default != other.default {
        out += &c.default.as_ref().map_or(" no default".into(), |d| format!(" default {d}"));
    }
    out
}

fn short(ty: &str) -> String {
    if ty.is_empty() { "no type".into() } else { ty.replace("character varying", "varchar") }
}

/// Computed columns, indexes and foreign keys that are said otherwise than before.
fn beside(out: &mut String, t: &TablePlan) {
    let mut kept = t.target.generated.iter();
    let mut next = kept.next();
    for g in &t.source.generated {
        let stays = t.target.generated.len() == t.source.generated.len() || next.is_some_and(|n| n.name == g.name);
        match (stays, next) {
            (true, Some(n)) => {
                if n.name != g.name {
                    let _ = writeln!(out, "  {}", wrap(&format!("{} (computed)", renamed(&g.name, &n.name)), 4));
                }
                next = kept.next();
            }
            _ => {
                let _ = writeln!(out, "  {}", wrap(&format!("{} (computed)  goes", g.name), 4));
            }
        }
    }
    let (mut indexes, mut foreign_keys): (Vec<&Index>, Vec<&ForeignKey>) = (Vec::new(), Vec::new());
    match &t.target.only {
        // of those of the whole table, what speaks of these rows alone
        Some(only) => {
            let these = format!("= {}", only.value);
            let speaks = |i: &&Index| i.predicate.as_ref().is_some_and(|p| p.ends_with(&these));
            indexes.extend(t.target.indexes.iter().filter(speaks));
        }
        None => {
            let (was, is) = (&t.source, &t.target);
            indexes.extend(is.indexes.iter().zip(&was.indexes).filter(|(i, s)| s.columns != i.columns).map(|(i, _)| i));
            foreign_keys.extend(is.foreign_keys.iter().zip(&was.foreign_keys).filter(|(f, s)| s != f).map(|(f, _)| f));
        }
    }
    for i in indexes {
        let columns: Vec<&str> = i.columns.iter().map(|c| c.name.as_str()).collect();
        let what = if i.unique { "unique" } else { "index" };
        let named = i.name.as_ref().map(|n| format!(" {n}")).unwrap_or_default();
        let among = if t.target.only.is_some() { ", of these rows alone" } else { "" };
        let _ = writeln!(out, "  {}", wrap(&format!("{what}{named} ({}){among}", columns.join(", ")), 4));
    }
    for f in foreign_keys {
        let text = format!("foreign key ({}) → {} ({})", f.columns.join(", "), f.table, f.references.join(", "));
        let _ = writeln!(out, "  {}", wrap(&text, 4));
    }
}
