//! How answers look to people, at 80 columns.

use std::fmt::Write;

use backout::migrate::{Failure, Outcome, Proposal};

use super::terminal;

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
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..=9_999_999_999 => format!("{:.1} MB", bytes as f64 / 1e6),
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

fn indented(text: &str, first: &str, indent: usize) -> String {
    let mut out = String::new();
    for (i, line) in text.lines().enumerate() {
        let lead = if i == 0 { first.to_owned() } else { " ".repeat(indent) };
        let _ = writeln!(out, "{lead}{}", wrap(line, indent));
    }
    out
}

/// A failure: what happened, what state the data is in, what to type next.
pub fn failure(f: &Failure) -> String {
    let (red, bold, plain) = if terminal::colours(true) { ("\x1b[31;1m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut out = match &*f.error {
        backout::migrate::Error::Config(e) => format!("{red}error{plain}: {}\n", e.shown().trim_end()),
        _ => indented(&f.to_string(), &format!("{red}error{plain}: "), 7),
    };
    out.push_str(&indented(&f.state, &format!("{bold}state{plain}: "), 7));
    if !f.hint.is_empty() {
        out.push_str(&indented(&f.hint, &format!("{bold}next{plain}:  "), 7));
    }
    out
}

/// A plan in plain words.
pub fn proposal(p: &Proposal) -> String {
    let mut out = String::new();
    let plan = &p.plan;
    let _ = writeln!(out, "{}  {}", plan.migration, plan.title);
    let _ = writeln!(
        out,
        "from {} ({}) to {} ({})\n",
        plan.from.name,
        plan.from.kind.name(),
        plan.to.name,
        plan.to.kind.name()
    );
    for (t, (n, bytes)) in plan.tables.iter().zip(&p.counts.tables) {
        let _ = writeln!(out, "{} → {}   {}, {}", t.source.title(), t.target.name, rows(*n), size(*bytes));
        let _ = writeln!(out, "  key ({})", t.target.key_names().join(", "));
        let width = t.source.columns.iter().map(|c| c.name.chars().count()).max().unwrap_or(0).min(24);
        for ((s, d), c) in t.source.columns.iter().zip(&t.target.columns).zip(&t.codecs) {
            let from = if s.ty.is_empty() { "·" } else { &s.ty };
            let null = if d.not_null { " not null" } else { "" };
            let default = d.default.as_ref().map(|d| format!(" default {d}")).unwrap_or_default();
            let identity = if d.identity { " identity" } else { "" };
            let line = format!("{:width$}  {from} → {}{null}{identity}{default}", s.name, d.ty);
            let _ = writeln!(out, "  {}", wrap(&line, 6));
            let _ = writeln!(out, "  {:width$}    {}", "", wrap(&format!("{}: {}", c.codec.title(), c.why), width + 6));
        }
        for i in &t.target.indexes {
            let columns: Vec<&str> = i.columns.iter().map(|c| c.name.as_str()).collect();
            let what = if i.unique { "unique" } else { "index" };
            let when = i.predicate.as_ref().map(|p| format!(" where {p}")).unwrap_or_default();
            let _ = writeln!(out, "  {what} {} ({}){when}", i.name.as_deref().unwrap_or(""), columns.join(", "));
        }
        for f in &t.target.foreign_keys {
            let _ =
                writeln!(out, "  foreign key ({}) → {} ({})", f.columns.join(", "), f.table, f.references.join(", "));
        }
        out.push('\n');
    }
    if !plan.not_moved.is_empty() {
        let _ = writeln!(out, "not moved:");
        for n in &plan.not_moved {
            let _ = writeln!(out, "  {}", wrap(&format!("{}: {}", n.what, n.why), 4));
        }
        out.push('\n');
    }
    if !plan.notes.is_empty() {
        let _ = writeln!(out, "worth knowing:");
        for n in &plan.notes {
            let _ = writeln!(out, "  {}", wrap(n, 4));
        }
        out.push('\n');
    }
    let e = &p.estimate;
    let _ = writeln!(out, "time     about {} until ready", seconds(e.seconds));
    let _ = writeln!(out, "disk     about {} in the target", size(e.disk_bytes));
    let _ =
        writeln!(out, "rollback about {} for 1 000 rows written since, services apart", seconds(e.rollback_seconds));
    for l in &e.locks {
        let _ = writeln!(out, "locks    {}", wrap(l, 9));
    }
    let _ = writeln!(out, "\nplan {}", p.hash);
    let _ = writeln!(out, "next: backout up --plan {}", &p.hash[..16]);
    out
}

/// What a command came to.
pub fn outcome(o: &Outcome) -> String {
    let (bold, plain) = if terminal::colours(false) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut out = String::new();
    if let (Some(m), Some(t), Some(p)) = (&o.migration, &o.title, &o.phase) {
        let _ = writeln!(out, "{bold}{}{plain}  {m} {t}", p.words());
    }
    let _ = writeln!(out, "{}", wrap(&o.state, 0));
    if !o.rows.is_empty() {
        let total: u64 = o.rows.iter().map(|(_, n)| n).sum();
        let _ = writeln!(
            out,
            "rows      {} in {} table{}",
            number(total),
            o.rows.len(),
            if o.rows.len() == 1 { "" } else { "s" }
        );
    }
    if o.carried > 0 {
        let _ = writeln!(out, "carried   {} written on the target came to the source", rows(o.carried));
    }
    for p in &o.parked {
        let _ = writeln!(out, "parked    {}", wrap(p, 10));
    }
    if let Some(v) = &o.verified {
        let compared: u64 = v.rows.iter().map(|(_, n)| n).sum();
        let found = if v.differences.is_empty() {
            "no differences".into()
        } else {
            format!("{} differ", rows(v.differences.len() as u64))
        };
        let _ =
            writeln!(out, "verified  {}, every column, both ways: {found} ({})", rows(compared), seconds(v.seconds));
        for d in v.differences.iter().take(50) {
            let _ = writeln!(out, "  {}", wrap(d, 4));
        }
        if v.differences.len() > 50 {
            let _ = writeln!(out, "  and {} more (all with --json)", v.differences.len() - 50);
        }
        for p in &v.problems {
            let _ = writeln!(out, "problem   {}", wrap(p, 10));
        }
    }
    if let Some(ms) = o.frozen_ms {
        let _ = writeln!(out, "frozen    {ms} ms, from the lock until the other side was open");
    }
    if let Some(k) = &o.kept {
        let _ = writeln!(out, "kept      {}", wrap(k, 10));
    }
    if o.seconds > 0.0 {
        let _ = writeln!(out, "took      {}", seconds(o.seconds));
    }
    if !o.next.is_empty() {
        let _ = write!(out, "{}", indented(&o.next, "next:     ", 10));
    }
    out
}
