//! PostgreSQL's statements for single objects.

use std::collections::BTreeSet;

use crate::revision::catalog::{About, Catalog, Column, Object, Statement, Table, What};

pub(in crate::revision::catalog) fn plain(sql: String) -> Statement {
    Statement { sql, after_rows: false, rights: false }
}

fn right(sql: String) -> Statement {
    Statement { sql, after_rows: false, rights: true }
}

fn literal(text: &str) -> String {
    let text = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

/// A column within CREATE TABLE or ADD COLUMN; with its default, and with NOT NULL, where wanted.
pub(in crate::revision::catalog) fn column(table: &Table, column: &Column, default: bool, not_null: bool) -> String {
    let mut out = format!("{} {}", column.quoted, column.ty);
    if let Some(collation) = &column.collation {
        out += &format!(" COLLATE {collation}");
    }
    if let Some(expression) = column.default.as_ref().filter(|_| default) {
        out += &format!(" DEFAULT {expression}");
    }
    if let Some(expression) = &column.generated {
        let word = if column.is_virtual { "VIRTUAL" } else { "STORED" };
        out += &format!(" GENERATED ALWAYS AS ({expression}) {word}");
    }
    if let Some(identity) = &column.identity {
        let (kind, options) = identity.split_once(" (").unwrap_or((identity, ""));
        let named = table.odd_sequence(column).map(|n| format!("SEQUENCE NAME {n}"));
        let options = options.trim_end_matches(')').to_owned();
        let options: Vec<String> = named.into_iter().chain((!options.is_empty()).then_some(options)).collect();
        out += &format!(" GENERATED {kind} AS IDENTITY");
        if !options.is_empty() {
            out += &format!(" ({})", options.join(" "));
        }
    }
    if column.not_null && not_null {
        out += " NOT NULL";
    }
    out
}

/// A CREATE TABLE, with these constraints within it, and with the defaults of all columns but these.
pub(in crate::revision::catalog) fn table(
    table: &Table,
    constraints: &[&Object],
    without: &BTreeSet<String>,
) -> String {
    let mut lines: Vec<String> = table
        .columns
        .iter()
        .map(|c| column(table, c, !without.contains(&c.name), !table.key.contains(&c.name) || constraints.is_empty()))
        .collect();
    lines.extend(constraints.iter().map(|c| c.sql.clone()));
    let unlogged = if table.options.contains_key("unlogged") { "UNLOGGED " } else { "" };
    let body = if lines.is_empty() { String::new() } else { format!("\n    {}\n", lines.join(",\n    ")) };
    let mut out = format!("CREATE {unlogged}TABLE {} ({body})", table.name.quoted);
    if let Some(parents) = table.options.get("inherits").filter(|_| !table.options.contains_key("partition")) {
        out += &format!(" INHERITS ({parents})");
    }
    if let Some(key) = table.options.get("partitioned by") {
        out += &format!(" PARTITION BY {key}");
    }
    for (option, word) in [("access method", "USING"), ("with", "WITH"), ("tablespace", "TABLESPACE")] {
        if let Some(value) = table.options.get(option) {
            let value = if option == "with" { format!("({value})") } else { value.clone() };
            out += &format!(" {word} {value}");
        }
    }
    out
}

/// A table as people read it.
pub(in crate::revision::catalog) fn shown(catalog: &Catalog, one: &Table) -> String {
    let own = |o: &&Object| o.table.as_deref() == Some(&one.name.quoted) && o.what == What::Constraint && within(o);
    let constraints: Vec<&Object> = catalog.objects.iter().filter(own).collect();
    let mut out = table(one, &constraints, &BTreeSet::new());
    for option in ["partition", "of type"] {
        if let Some(value) = one.options.get(option) {
            out += &format!(" -- {option} {value}");
        }
    }
    out
}

/// It may stand within CREATE TABLE: keys, UNIQUE and CHECK that is valid.
pub(in crate::revision::catalog) fn within(object: &Object) -> bool {
    let kind = object.parts.first().map_or("", |(_, kind)| kind.as_str());
    matches!(kind, "p" | "u") || kind == "c" && !object.sql.ends_with("NOT VALID")
}

/// Settings of a table that CREATE TABLE does not take; each is put from `from`, where there is one, to what it is.
pub(in crate::revision::catalog) fn settings(from: Option<&Table>, table: &Table, late: bool) -> Vec<Statement> {
    let name = &table.name.quoted;
    let mut out = Vec::new();
    let was = |key: &str| from.and_then(|t| t.options.get(key));
    let mut alter = |what: String| out.push(plain(format!("ALTER TABLE {name} {what}")));
    let is = |key: &str| table.options.get(key);
    if late {
        if was("replica identity") != is("replica identity") {
            alter(format!("REPLICA IDENTITY {}", is("replica identity").map_or("DEFAULT", |v| v)));
        }
        match is("clustered on") {
            Some(index) if was("clustered on") != Some(index) => alter(format!("CLUSTER ON {index}")),
            None if was("clustered on").is_some() => alter("SET WITHOUT CLUSTER".into()),
            _ => {}
        }
        return out;
    }
    for (key, on, off) in [
        ("row security", "ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY"),
        ("forced row security", "FORCE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY"),
    ] {
        if was(key) != is(key) {
            alter(if is(key).is_some() { on } else { off }.into());
        }
    }
    if let Some(from) = from {
        if was("unlogged") != is("unlogged") {
            alter(if is("unlogged").is_some() { "SET UNLOGGED" } else { "SET LOGGED" }.into());
        }
        for change in stored(from.options.get("with"), is("with")) {
            alter(change);
        }
        if was("tablespace") != is("tablespace") {
            alter(format!("SET TABLESPACE {}", is("tablespace").map_or("pg_default", |v| v)));
        }
        if was("access method") != is("access method") {
            alter(format!("SET ACCESS METHOD {}", is("access method").map_or("heap", |v| v)));
        }
    }
    out
}

/// SET (…) and RESET (…) from one list of `name=value` to another.
fn stored(was: Option<&String>, is: Option<&String>) -> Vec<String> {
    let list = |text: Option<&String>| -> Vec<String> {
        text.map(|t| t.split(", ").map(str::to_owned).collect()).unwrap_or_default()
    };
    let (was, is) = (list(was), list(is));
    let key = |s: &String| s.split('=').next().unwrap_or_default().to_owned();
    let mut out = Vec::new();
    let reset: Vec<String> = was.iter().map(key).filter(|k| !is.iter().any(|i| key(i) == *k)).collect();
    if !reset.is_empty() {
        out.push(format!("RESET ({})", reset.join(", ")));
    }
    let set: Vec<String> = is.into_iter().filter(|i| !was.contains(i)).collect();
    if !set.is_empty() {
        out.push(format!("SET ({})", set.join(", ")));
    }
    out
}

/// Storage, statistics and the like of a column, from what they were to what they are.
pub(in crate::revision::catalog) fn column_settings(
    table: &Table,
    from: Option<&Column>,
    column: &Column,
) -> Vec<Statement> {
    let mut out = Vec::new();
    let mut alter = |what: String| {
        out.push(plain(format!("ALTER TABLE {} ALTER COLUMN {} {what}", table.name.quoted, column.quoted)));
    };
    let was = |key: &str| from.and_then(|c| c.options.get(key));
    let is = |key: &str| column.options.get(key);
    for (key, word, usual) in [
        ("storage", "STORAGE", "DEFAULT"),
        ("statistics", "STATISTICS", "-1"),
        ("compression", "COMPRESSION", "default"),
    ] {
        if was(key) != is(key) {
            alter(format!("SET {word} {}", is(key).map_or(usual, |v| v)));
        }
    }
    for change in stored(was("with"), is("with")) {
        alter(change);
    }
    out
}

/// How COMMENT, OWNER and DROP call an object.
pub(in crate::revision::catalog) fn called(object: &Object) -> String {
    let word = object.word.clone().unwrap_or_else(|| match object.what {
        What::Constraint | What::ForeignKey => "CONSTRAINT".into(),
        what => what.word().to_uppercase(),
    });
    match &object.table {
        Some(table) if object.what != What::Index => format!("{word} {} ON {table}", object.name),
        _ => format!("{word} {}", object.name),
    }
}

/// The statements that make an object, but for what is said of it.
pub(in crate::revision::catalog) fn make(object: &Object) -> Vec<Statement> {
    let table = object.table.clone().unwrap_or_default();
    let mut out = vec![plain(match object.what {
        What::Constraint | What::ForeignKey => format!("ALTER TABLE {table} ADD {}", object.sql),
        _ => object.sql.clone(),
    })];
    for (key, value) in &object.parts {
        let name = &object.name;
        match (object.what, key.as_str()) {
            (What::Trigger, "state") => {
                out.push(plain(format!("ALTER TABLE {table} {}", state(value, "TRIGGER", name))))
            }
            (What::Rule, "state") => out.push(plain(format!("ALTER TABLE {table} {}", state(value, "RULE", name)))),
            (What::Statistics, "target") => out.push(plain(format!("ALTER STATISTICS {name} SET STATISTICS {value}"))),
            (What::Index, "statistics") => {
                let (column, n) = value.split_once(' ').unwrap_or_default();
                out.push(plain(format!("ALTER INDEX {name} ALTER COLUMN {column} SET STATISTICS {n}")));
            }
            (What::View | What::MaterializedView, "column comment") => {
                // a name as format() quotes it, then a literal
                let at = value.find(" '").or_else(|| value.find(" E'")).unwrap_or(value.len());
                out.push(plain(format!("COMMENT ON COLUMN {name}.{} IS{}", &value[..at], &value[at..])));
            }
            _ => {}
        }
    }
    out
}

fn state(words: &str, what: &str, name: &str) -> String {
    match words.split_once(' ') {
        Some((first, second)) => format!("{first} {second} {what} {name}"),
        None => format!("{words} {what} {name}"),
    }
}

/// The statement that removes an object.
pub(in crate::revision::catalog) fn unmake(object: &Object) -> String {
    match (object.what, &object.table) {
        (What::Constraint | What::ForeignKey, Some(table)) => {
            format!("ALTER TABLE {table} DROP CONSTRAINT {}", object.name)
        }
        _ => format!("DROP {}", called(object)),
    }
}

/// What is said of an object, from what was said of it. `usual`: what a new one has.
pub(in crate::revision::catalog) fn about(
    called: &str,
    from: &About,
    to: &About,
    reader: Option<&str>,
    fresh: bool,
) -> Vec<Statement> {
    let mut out = Vec::new();
    if from.comment != to.comment {
        let text = to.comment.as_deref().map_or("NULL".into(), literal);
        out.push(plain(format!("COMMENT ON {called} IS {text}")));
    }
    let was = if fresh { reader } else { from.owner.as_deref() };
    if let Some(owner) = to.owner.as_deref().filter(|o| Some(*o) != was) {
        out.push(right(format!("ALTER {called} OWNER TO {owner}")));
    }
    let owner = to.owner.as_deref().unwrap_or("CURRENT_USER");
    let object = match called.split_once(' ') {
        // grants know tables by one word
        Some(("VIEW" | "TABLE", name)) => name.to_owned(),
        Some(("MATERIALIZED", name)) => name.trim_start_matches("VIEW ").to_owned(),
        Some(("AGGREGATE", name)) => format!("FUNCTION {}", name.replace("(*)", "()")),
        _ => called.to_owned(),
    };
    let split = |grant: &str| -> (String, String) {
        let (privilege, to) = grant.split_once(" TO ").unwrap_or((grant, ""));
        (privilege.to_owned(), to.replace("%owner", owner))
    };
    let on = |privilege: &str| match called.strip_prefix("COLUMN ") {
        Some(column) => {
            let (table, column) = split_last(column);
            format!("{privilege} ({column}) ON {table}")
        }
        None => format!("{privilege} ON {object}"),
    };
    for grant in from.grants.iter().filter(|g| !to.grants.contains(g)) {
        let (privilege, whom) = split(grant);
        let whom = whom.trim_end_matches(" WITH GRANT OPTION").to_owned();
        out.push(right(format!("REVOKE {} FROM {whom}", on(&privilege))));
    }
    for grant in to.grants.iter().filter(|g| !from.grants.contains(g)) {
        let (privilege, whom) = split(grant);
        out.push(right(format!("GRANT {} TO {whom}", on(&privilege))));
    }
    out
}

/// `public.t` and `c` of `public.t.c`, whatever is quoted.
pub(in crate::revision::catalog) fn split_last(name: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut at = None;
    for (i, c) in name.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => at = Some(i),
            _ => {}
        }
    }
    at.map_or(("", name), |at| (&name[..at], &name[at + 1..]))
}

/// The grants that a new object has, as far as they are known without its server: those of a table are the owner's own, whatever they are.
pub(in crate::revision::catalog) fn usual(what: What, to: &About) -> Vec<String> {
    let mut out: Vec<String> = match what {
        What::Function => vec!["EXECUTE TO PUBLIC".into()],
        What::Enum | What::Domain | What::Composite => vec!["USAGE TO PUBLIC".into()],
        _ => Vec::new(),
    };
    let owners: &[&str] = match what {
        What::Function => &["EXECUTE"],
        What::Enum | What::Domain | What::Composite => &["USAGE"],
        What::Schema => &["CREATE", "USAGE"],
        What::Sequence => &["USAGE", "SELECT", "UPDATE"],
        What::Table | What::View | What::MaterializedView => {
            &["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
        }
        _ => &[],
    };
    out.extend(owners.iter().map(|p| format!("{p} TO %owner")));
    // a later server knows further ones
    out.extend(to.grants.iter().filter(|g| g.ends_with(" TO %owner")).cloned());
    out.sort();
    out.dedup();
    out
}
