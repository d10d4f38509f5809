//! How answers look to people, at 80 columns.

use std::fmt::Write;

use backout::migrate::{Failure, Outcome, Proposal, Status, Step, Verified};
use backout::plan::{Codec, Config, Kind, Plan, Shape, TablePlan};
use backout::revision::lint::Finding;
use backout::store::Phase;

use super::terminal;

mod in_place;

/// `1 234 567`
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// `12.3 MB`
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{} B", number(bytes)),
        10_000..=999_999 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `0.4 s`, `2 min 5 s`
pub fn seconds(s: f64) -> String {
    if s < 0.95 {
        format!("{} ms", (s * 1000.0).round())
    } else if s < 90.0 {
        format!("{s:.1} s")
    } else {
        format!("{} min {} s", (s / 60.0) as u64, (s % 60.0) as u64)
    }
}

/// `1 row`, `2 rows`
pub fn rows(n: u64) -> String {
    format!("{} row{}", number(n), if n == 1 { "" } else { "s" })
}

/// `1 table`, `2 tables`
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Text broken at words to 80 columns, each further line indented.
pub fn wrap(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > indent && column + 1 + width > 80 {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

/// Are both sides tables of one store?
pub fn is_in_place(s: &Status) -> bool {
    s.source_title == s.target_title
}

/// The lines of a text, the first one after `first`, each wrapped.
pub fn indented(text: &str, first: &str, indent: usize) -> String {
    let mut out = String::new();
    for (i, line) in text.lines().enumerate() {
        let lead = if i == 0 { first.to_owned() } else { " ".repeat(indent) };
        // what belongs to a line of a difference stands below its text, not below its sign
        let text = line.trim_start();
        let own = line.len() - text.len();
        let hang = if text.starts_with("- ") || text.starts_with("+ ") { 2 } else { 0 };
        let _ = writeln!(out, "{lead}{}{}", " ".repeat(own), wrap(text, indent + own + hang));
    }
    out
}

/// A failure: what happened, what state the data is in, what to type next.
pub fn failure(f: &Failure) -> String {
    let (red, bold, plain) = if terminal::colours(true) { ("\x1b[31;1m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut out = indented(&f.to_string(), &format!("{red}error{plain}: "), 7);
    if let backout::migrate::Error::Config(e) = &*f.error
        && let Some(excerpt) = e.excerpt()
    {
        let _ = writeln!(out, "{excerpt}");
    }
    out.push_str(&indented(&f.state, &format!("{bold}state{plain}: "), 7));
    if !f.hint.is_empty() {
        out.push_str(&indented(&f.hint, &format!("{bold}next{plain}:  "), 7));
    }
    out
}

/// Seconds that are only guessed.
fn about(s: f64) -> String {
    match s {
        ..1.0 => "under a second".into(),
        ..90.0 => format!("about {} s", s.ceil()),
        ..5400.0 => format!("about {} min", (s / 60.0).ceil()),
        _ => format!("about {:.1} h", s / 3600.0),
    }
}

/// A plan in plain words, and what backout.toml has the cutover do.
pub fn proposal(p: &Proposal, config: &Config) -> String {
    let mut out = String::new();
    let plan = &p.plan;
    let _ = writeln!(out, "{}  {}", plan.migration, plan.title);
    if plan.in_place() {
        in_place::tables(&mut out, p);
    } else {
        two_stores(&mut out, p);
    }
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(out, "{title}:");
            lines.iter().for_each(|l| out.push_str(&format!("  {}\n", wrap(l, 4))));
            out.push('\n');
        }
    };
    list("not moved", plan.not_moved.iter().map(|n| format!("{}: {}", n.what, n.why)).collect());
    list("worth knowing", plan.notes.clone());
    list("in backout.toml, but not used by this version", config.unused.clone());
    let e = &p.estimate;
    let beside = if plan.in_place() { "beside what is there, until `complete`" } else { "in the target" };
    let _ = writeln!(out, "time      {} until ready", about(e.seconds));
    let _ = writeln!(out, "disk      about {} {beside}", size(e.disk_bytes));
    for l in &e.locks {
        let _ = writeln!(out, "locks     {}", wrap(l, 10));
    }
    let _ = writeln!(out, "cutover   {}", wrap(&at_cutover(plan, config), 10));
    let _ = writeln!(out, "rollback  {} for 1 000 rows written since, services apart", about(e.rollback_seconds));
    let _ = writeln!(out, "plan      {}", p.hash);
    let _ = writeln!(out, "next:     backout up --plan {}", &p.hash[..16]);
    out
}

/// From where to where, and each table.
fn two_stores(out: &mut String, p: &Proposal) {
    let plan = &p.plan;
    let (all_rows, all_bytes) = p.counts.tables.iter().fold((0, 0), |(r, b), (x, y)| (r + x, b + y));
    let _ = writeln!(out, "from  {} ({})", plan.from.name, plan.from.kind.name());
    let _ = writeln!(out, "to    {} ({})", plan.to.name, plan.to.kind.name());
    let _ = writeln!(out, "moves {}, {}, {}\n", counted(plan.tables.len(), "table"), rows(all_rows), size(all_bytes));
    for (t, (n, bytes)) in plan.tables.iter().zip(&p.counts.tables) {
        let _ = writeln!(out, "{} → {}   {}, {}", t.source.title(), t.target.name, rows(*n), size(*bytes));
        columns(out, t);
        out.push('\n');
    }
}

/// What is stopped and switched when the application is handed over.
fn at_cutover(plan: &Plan, config: &Config) -> String {
    let mut does: Vec<String> = Vec::new();
    let services: Vec<&str> = config.services.iter().map(|s| s.name.as_str()).collect();
    if !services.is_empty() {
        does.push(format!("stops {}", services.join(", ")));
    } else if plan.from.kind == Kind::Json {
        does.push(
            "no [[service]] says how to stop the writers of the file: stop them yourself and say --writers-stopped"
                .into(),
        );
    } else {
        does.push("stops no service ([[service]] says which)".into());
    }
    let switched: Vec<String> = config
        .switches
        .iter()
        .map(|s| s.path().strip_prefix(&config.folder).unwrap_or(s.path()).display().to_string())
        .collect();
    does.push(if switched.is_empty() {
        "switches no configuration ([[switch]] says what)".into()
    } else {
        format!("switches {}", switched.join(", "))
    });
    if !services.is_empty() {
        does.push("starts them again".into());
    }
    does.join("; ")
}

/// Each column's types and conversion; on a line each if that fits.
fn columns(out: &mut String, t: &TablePlan) {
    let lines: Vec<(String, String, String)> = (t.source.columns.iter().zip(&t.target.columns).zip(&t.codecs))
        .map(|((s, d), c)| {
            let kind = match &c.codec {
                Codec::Member { shape, .. } => match shape {
                    Shape::Text => "string",
                    Shape::Int => "integer",
                    Shape::Bool => "true/false",
                    Shape::Number { .. } | Shape::Decimal => "number",
                    Shape::Raw => "any",
                },
                _ if s.ty.is_empty() => "no type",
                _ => &s.ty,
            };
            let null = if d.not_null { " not null" } else { "" };
            let default = d.default.as_ref().map(|d| format!(" default {d}")).unwrap_or_default();
            let identity = if d.identity { " identity" } else { "" };
            let types = format!("{kind} → {}{null}{identity}{default}", d.ty.replace("character varying", "varchar"));
            // the declared type has been said
            let why =
                c.why.strip_prefix(s.ty.as_str()).map_or(c.why.as_str(), |w| w.trim_start_matches([';', ',', ' ']));
            let how = match &c.codec {
                Codec::Member { .. } => why.to_owned(),
                Codec::Same if why == "bytes" || why == "an 8-byte double" => why.to_owned(),
                codec if why.is_empty() => codec.title(),
                codec => format!("{}: {why}", codec.title()),
            };
            (s.name.clone(), types, how)
        })
        .collect();
    let widest =
        |of: fn(&(String, String, String)) -> &String| lines.iter().map(|l| of(l).chars().count()).max().unwrap_or(0);
    let (name, types, how) = (widest(|l| &l.0).min(24), widest(|l| &l.1), widest(|l| &l.2));
    let _ = writeln!(out, "  {}", wrap(&format!("key ({})", t.target.key_names().join(", ")), 4));
    for (n, t, h) in &lines {
        if 2 + name + 2 + types + 2 + how <= 80 {
            let _ = writeln!(out, "  {n:name$}  {t:types$}  {h}");
        } else {
            let _ = writeln!(out, "  {}", wrap(&format!("{n:name$}  {t}"), name + 6));
            let _ = writeln!(out, "  {:name$}    {}", "", wrap(h, name + 6));
        }
    }
    for i in &t.target.indexes {
        let columns: Vec<&str> = i.columns.iter().map(|c| c.name.as_str()).collect();
        let what = if i.unique { "unique" } else { "index" };
        let when = i.predicate.as_ref().map(|p| format!(" where {p}")).unwrap_or_default();
        let named = i.name.as_ref().map(|n| format!(" {n}")).unwrap_or_default();
        let _ = writeln!(out, "  {}", wrap(&format!("{what}{named} ({}){when}", columns.join(", ")), 4));
    }
    for f in &t.target.foreign_keys {
        let text = format!("foreign key ({}) → {} ({})", f.columns.join(", "), f.table, f.references.join(", "));
        let _ = writeln!(out, "  {}", wrap(&text, 4));
    }
}

/// What a command came to; or that there was nothing to do.
pub fn outcome(o: &Outcome) -> String {
    if o.nothing {
        let mut out = indented(&o.state, "nothing to do: ", 0);
        out.push_str(&indented(&o.next, "next:     ", 10));
        return out;
    }
    let (bold, plain) = if terminal::colours(false) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut out = String::new();
    if let (Some(m), Some(t), Some(p)) = (&o.migration, &o.title, &o.phase) {
        let _ = writeln!(out, "{bold}{}{plain}  {m} {t}", p.words());
    }
    for r in &o.revisions {
        let sign = if r.way == "up" { "applied  " } else { "taken back" };
        let _ = writeln!(out, "{sign} {}", wrap(&format!("{} {}  ({} ms)", r.stamp, r.title, number(r.ms)), 10));
        if let Some(proof) = r.proof.as_ref().filter(|_| r.way == "up") {
            let _ = writeln!(out, "          {}", wrap(proof, 10));
        }
    }
    let _ = writeln!(out, "{}", wrap(&o.state, 0));
    if let Some(v) = &o.verified {
        out.push_str(&verified(v));
    } else if !o.rows.is_empty() {
        let total: u64 = o.rows.iter().map(|(_, n)| n).sum();
        let _ = writeln!(out, "rows      {} in {}", number(total), counted(o.rows.len(), "table"));
    }
    if o.carried > 0 {
        let _ = writeln!(out, "carried   {} written on the target came to the source", rows(o.carried));
    } else if o.phase == Some(Phase::RolledBack) && o.upto.is_none() {
        let _ = writeln!(out, "carried   nothing: no row was written on the target");
    }
    o.notes.iter().for_each(|n| out.push_str(&indented(n, "note      ", 10)));
    out.push_str(&parked(&o.parked));
    if let Some(path) = &o.exported {
        let _ = writeln!(out, "exported  {path}");
    }
    if let Some(ms) = o.frozen_ms {
        let _ = writeln!(out, "frozen    {ms} ms, from the lock until the other side was open");
    }
    if let Some(k) = &o.kept {
        let _ = writeln!(out, "kept      {}", wrap(k.trim_start_matches("the tables are kept "), 10));
    }
    if o.seconds > 0.0 {
        let budget = match o.budget {
            Some((b, true)) => format!(", within the {} it had until its commit point", seconds(b)),
            Some((b, false)) => format!(", longer than the {} it had until its commit point", seconds(b)),
            None => String::new(),
        };
        let proofs =
            if o.proof_seconds > 0.0 { format!(", {} of it proofs", seconds(o.proof_seconds)) } else { String::new() };
        let _ = writeln!(out, "took      {}{budget}{proofs}", seconds(o.seconds));
    }
    out.push_str(&indented(&o.next, "next:     ", 10));
    out
}

/// What SQL revisions would do.
pub fn steps(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        let alone = if step.transaction { "" } else { ", each statement on its own" };
        let _ = writeln!(out, "{} {}  ({} in {}{alone})", step.stamp, step.title, step.way, step.store);
        for statement in &step.statements {
            for line in statement.lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
        if !step.back.is_empty() {
            let _ = writeln!(out, "  back      {}", wrap(&step.back, 12));
        }
        step.keeps.iter().for_each(|kept| out.push_str(&indented(kept, "  keeps     ", 12)));
        out.push_str(&findings(&step.findings));
    }
    out
}

/// What is worth a second look in a revision.
pub fn findings(findings: &[Finding]) -> String {
    let mut out = String::new();
    for f in findings {
        out.push_str(&indented(&format!("line {}: {}", f.line, f.what), &format!("  {:9} ", f.code), 12));
        out.push_str(&indented(&f.hint, "            ", 12));
    }
    out
}

/// What a comparison found.
pub fn verified(v: &Verified) -> String {
    let mut out = String::new();
    let compared: u64 = v.rows.iter().map(|(_, n)| n).sum();
    let found = match v.differences.len() {
        0 => "no differences".to_owned(),
        1 => "1 row differs".to_owned(),
        n => format!("{} rows differ", number(n as u64)),
    };
    let tables = counted(v.rows.len(), "table");
    let took = seconds(v.seconds);
    let text = match v.scope {
        "quick" => {
            let apart = v.differences.len();
            let found = if apart == 0 { "equal".into() } else { format!("{} not equal", counted(apart, "table")) };
            format!("the counts of {} in {tables}: {found} ({took})", rows(compared))
        }
        "sample" => format!(
            "{} all over {tables}, every column, both ways: {found} (seed {}, {took})",
            rows(compared),
            v.seed.unwrap_or_default()
        ),
        "rollback" => format!("{} in {tables} with what was recorded ({took})", rows(compared)),
        _ => format!("{} in {tables}, every column, both ways: {found} ({took})", rows(compared)),
    };
    let _ = writeln!(out, "compared  {}", wrap(&text, 10));
    for d in v.differences.iter().take(50) {
        let _ = writeln!(out, "  {}", wrap(d, 4));
    }
    if v.differences.len() > 50 {
        let _ = writeln!(out, "  and {} more (all with --json)", v.differences.len() - 50);
    }
    let same = v.fingerprints.iter().filter(|f| f.verdict == "same").count();
    if same > 0 {
        let of = if same == v.fingerprints.len() { String::new() } else { format!(" of {}", v.fingerprints.len()) };
        let text = format!("{}{of} as before the cutover, with what was carried", counted(same, "table"));
        let _ = writeln!(out, "recorded  {}", wrap(&text, 10));
    }
    for f in v.fingerprints.iter().filter(|f| f.verdict != "same") {
        let lead = if f.verdict == "open" { "recorded" } else { "differs" };
        let _ = writeln!(out, "{lead:<10}{}", wrap(&format!("{}: {}", f.table, f.why), 10));
    }
    for p in &v.problems {
        let _ = writeln!(out, "problem   {}", wrap(p, 10));
    }
    for n in &v.not_compared {
        let _ = writeln!(out, "not done  {}", wrap(n, 10));
    }
    out
}

/// Rows that cannot come to the source.
pub fn parked(list: &[String]) -> String {
    list.iter().map(|p| format!("parked    {}\n", wrap(p, 10))).collect()
}
