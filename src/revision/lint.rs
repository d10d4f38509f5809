//! What is worth a second thought in a revision before it runs: what it destroys, what it blocks, what the running
//! application will not bear, and what fails or does nothing. Only what is written is looked at, not the database; and
//! not what is in the bodies of functions.

use std::path::{Path, PathBuf};

use super::look::{Action, Alteration, Look, same};
use super::sql::{Is, Token, tokens};
use super::{Down, Revision, Script};
use crate::plan::{Kind, did_you_mean};

/// All codes with what each is about. D: destroys, L: blocks, C: incompatible with the running application, F: fails or
/// does nothing, U: is not known.
pub const CODES: &[(&str, &str)] = &[
    ("D01", "a table is dropped"),
    ("D02", "a column is dropped"),
    ("D03", "a table is truncated"),
    ("D04", "all rows are deleted"),
    ("D05", "all rows are updated"),
    ("D06", "a schema or a database is dropped"),
    ("L01", "an index is built while writers wait"),
    ("L02", "a foreign key is checked while writers wait"),
    ("L03", "a check is checked while everyone waits"),
    ("L04", "NOT NULL is checked while everyone waits"),
    ("L05", "a column's type changes while everyone waits"),
    ("L06", "a table is written anew for a column while everyone waits"),
    ("L07", "a unique key is built while everyone waits"),
    ("L08", "VACUUM FULL"),
    ("L09", "CLUSTER"),
    ("L10", "a table is locked"),
    ("L11", "an index is rebuilt while writers wait"),
    ("C01", "a table is renamed"),
    ("C02", "a column is renamed"),
    ("C03", "a column goes that the application may ask for"),
    ("C04", "a column has to be given that the application may not give"),
    ("C05", "a column has another type"),
    ("C06", "a table goes that the application may ask for"),
    ("F01", "it cannot run in a transaction"),
    ("F02", "it does nothing in a transaction"),
    ("F03", "NOT NULL without a default"),
    ("U01", "an unknown code is silenced"),
];

/// Something worth a second thought.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// One of [`CODES`].
    pub code: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// What is found.
    pub what: String,
    /// Why that matters and what else could be done.
    pub hint: String,
}

/// What is found in a revision that runs in a store of this kind and is not silenced. A down is what takes things away:
/// of it only what blocks, fails or is unknown is said.
pub fn lint(revision: &Revision, kind: Kind) -> Vec<Finding> {
    let mut found = script(&revision.up, kind, &revision.path);
    if let Down::Sql(down) = &revision.down {
        let file = revision.down_path.as_ref().unwrap_or(&revision.path);
        let own = |finding: &Finding| finding.code.starts_with(['L', 'F', 'U']);
        found.extend(script(down, kind, file).into_iter().filter(own));
    }
    found
}

/// What is found in one script.
fn script(script: &Script, kind: Kind, file: &Path) -> Vec<Finding> {
    let statements: Vec<Look<'_>> =
        script.statements.iter().map(|s| Look { kind, tokens: tokens(&s.sql, kind).collect() }).collect();
    let mut so_far = SoFar { transaction: script.transaction, ..SoFar::default() };
    let mut all = Vec::new();
    for (i, (statement, look)) in script.statements.iter().zip(&statements).enumerate() {
        let mut found = Vec::new();
        look.at_it(&so_far, &statements[i + 1..], &mut found);
        so_far.note(look, script.transaction);
        for Found { code, at, what, hint } in found {
            if !statement.silenced.iter().any(|(silenced, _)| silenced == code) {
                let line = statement.line + statement.sql[..at].matches('\n').count();
                all.push(Finding { code, file: file.to_owned(), line, what, hint });
            }
        }
        for (code, _) in &statement.silenced {
            if !CODES.iter().any(|(known, _)| known == code) {
                let hint = did_you_mean(code, CODES.iter().map(|(known, _)| *known))
                    .unwrap_or_else(|| "`backout check` shows the code of each finding".to_owned());
                let what = format!("`backout:allow {code}` silences nothing: there is no such code");
                all.push(Finding { code: "U01", file: file.to_owned(), line: statement.line, what, hint });
            }
        }
    }
    all
}

struct Found {
    code: &'static str,
    /// Where in the statement.
    at: usize,
    what: String,
    hint: String,
}

fn say(found: &mut Vec<Found>, code: &'static str, at: usize, what: String, hint: &str) {
    found.push(Found { code, at, what, hint: hint.to_owned() });
}

/// What the statements of a script have done so far.
#[derive(Default)]
struct SoFar {
    /// A transaction is open.
    transaction: bool,
    /// Tables that exist only since.
    tables: Vec<String>,
    /// Columns that do, with their tables.
    columns: Vec<(String, String)>,
    /// Columns that have a default since.
    defaults: Vec<(String, String)>,
    /// Names that tables have only since, which were there under others.
    moved: Vec<String>,
    /// What rows of tables that exist only since were taken from.
    copied: Vec<String>,
}

impl SoFar {
    fn made(&self, table: &str) -> bool {
        self.tables.iter().any(|t| same(t, table))
    }

    fn note(&mut self, look: &Look<'_>, always: bool) {
        if !always {
            match look.word(0).as_str() {
                "BEGIN" | "START" => self.transaction = true,
                "COMMIT" | "END" | "ROLLBACK" | "ABORT" if !look.has("TO") => self.transaction = false,
                _ => {}
            }
        }
        self.tables.extend(look.created());
        if let Some((into, from)) = look.copies()
            && self.made(&into)
        {
            self.copied.extend(from);
        }
        for Action { table, tokens, .. } in look.actions() {
            let action = Look { kind: look.kind, tokens };
            match action.alteration() {
                Alteration::Add { column, default, .. } => {
                    if default.is_some() {
                        self.defaults.push((table.clone(), column.clone()));
                    }
                    self.columns.push((table, column));
                }
                Alteration::Default(column) => self.defaults.push((table, column)),
                Alteration::RenameTable(name) if self.made(&table) => self.tables.push(name),
                Alteration::RenameTable(name) => self.moved.push(name),
                Alteration::RenameColumn { to, .. } => self.columns.push((table, to)),
                _ => {}
            }
        }
    }
}

impl Look<'_> {
    /// All that is to be said of this statement; `later`: those that follow it in the script.
    fn at_it(&self, so_far: &SoFar, later: &[Look<'_>], found: &mut Vec<Found>) {
        self.destroys(so_far, later, found);
        self.rows(so_far, found);
        for action in self.actions() {
            self.action(&action, so_far, later, found);
        }
        if self.kind == Kind::Postgres {
            self.blocks(so_far, found);
        }
        if so_far.transaction {
            self.in_transaction(found);
        }
    }

    fn destroys(&self, so_far: &SoFar, later: &[Look<'_>], found: &mut Vec<Found>) {
        match self.word(0).as_str() {
            "DROP" if self.is(1, &["TABLE"]) => {
                for table in self.names(self.skip(2, &["IF", "EXISTS"])) {
                    if so_far.made(&table) {
                        continue;
                    }
                    // a table that is built anew: its rows were taken over, and its name returns
                    if !so_far.copied.iter().any(|c| same(c, &table)) {
                        let hint = "its rows go with it; is nothing in it needed any more?";
                        say(found, "D01", 0, format!("the table {table} is dropped"), hint);
                    }
                    if !so_far.moved.iter().any(|m| same(m, &table)) && !comes_back(later, &table) {
                        let hint = "first release an application that does not use it, then drop it";
                        say(found, "C06", 0, format!("an application that runs now may still use {table}"), hint);
                    }
                }
            }
            "DROP" if matches!(self.word(1).as_str(), "SCHEMA" | "DATABASE") => {
                let names = self.names(self.skip(2, &["IF", "EXISTS"])).join(", ");
                let what = format!("the {} {names} is dropped", self.word(1).to_ascii_lowercase());
                say(found, "D06", 0, what, "everything in it goes with it");
            }
            "TRUNCATE" if self.kind == Kind::Postgres => {
                for table in self.names(self.skip(1, &["TABLE", "ONLY"])) {
                    if !so_far.made(&table) {
                        say(found, "D03", 0, format!("the table {table} is emptied"), "its rows cannot come back");
                    }
                }
            }
            _ => {}
        }
    }

    /// DELETE and UPDATE without WHERE, also within WITH.
    fn rows(&self, so_far: &SoFar, found: &mut Vec<Found>) {
        if !["WITH", "UPDATE", "DELETE"].contains(&self.word(0).as_str()) {
            return;
        }
        for i in 0..self.tokens.len() {
            if i > 0 && !self.symbol(i - 1, "(") && !self.symbol(i - 1, ")") {
                continue;
            }
            let at = self.tokens[i].start;
            let all = self.position(i, &["WHERE"]).is_none();
            if self.is(i, &["DELETE", "FROM"]) {
                let Some((table, _)) = self.name(self.skip(i + 2, &["ONLY"])) else { continue };
                if all && !so_far.made(&table) {
                    let hint = "say which rows with WHERE";
                    say(found, "D04", at, format!("all rows of {table} are deleted"), hint);
                }
            } else if self.is(i, &["UPDATE"]) {
                let words = ["OR", "ABORT", "FAIL", "IGNORE", "REPLACE", "ROLLBACK", "ONLY"];
                let Some((table, next)) = self.name(self.skip(i + 1, &words)) else { continue };
                if all && !so_far.made(&table) && !self.only_sets(next, &table, so_far) {
                    let hint = "say which rows with WHERE; what was in them has to be brought back by the down";
                    say(found, "D05", at, format!("all rows of {table} are updated"), hint);
                }
            }
        }
    }

    /// Whether an UPDATE sets only columns that exist only since.
    fn only_sets(&self, from: usize, table: &str, so_far: &SoFar) -> bool {
        let Some(set) = self.position(from, &["SET"]) else { return false };
        let (mut depth, mut target) = (0, true);
        for i in set + 1..self.tokens.len() {
            if self.symbol(i, "(") {
                if target {
                    return false;
                }
                depth += 1;
            } else if self.symbol(i, ")") {
                depth -= 1;
            } else if depth == 0 && self.symbol(i, ",") {
                target = true;
                continue;
            } else if depth == 0 && self.is(i, &["FROM"]) {
                break;
            } else if target {
                let Some((column, _)) = self.name(i) else { return false };
                if !so_far.columns.iter().any(|(t, c)| same(t, table) && *c == column) {
                    return false;
                }
            }
            target = false;
        }
        true
    }

    /// One part of an ALTER TABLE.
    fn action(&self, action: &Action<'_>, so_far: &SoFar, later: &[Look<'_>], found: &mut Vec<Found>) {
        let table = &action.table;
        let Some(at) = action.tokens.first().map(|t| t.start) else { return };
        let part = Look { kind: self.kind, tokens: action.tokens.clone() };
        let postgres = self.kind == Kind::Postgres;
        if let Alteration::Add { column, not_null: true, default: None, computed: false } = part.alteration()
            && !postgres
        {
            let what = format!("{table}.{column} is NOT NULL without a default, which SQLite refuses");
            say(found, "F03", at, what, "give it a DEFAULT that is not NULL, or build the table anew");
        }
        if so_far.made(table) {
            return;
        }
        match part.alteration() {
            Alteration::Add { column, not_null, default, computed } if postgres => {
                part.added(table, &column, default.as_deref(), at, found);
                if not_null && default.is_none() && !computed && !part.serial() {
                    let what = format!("{table}.{column} has to be given, and an application that runs now does not");
                    let hint = "give it a DEFAULT; and where there are rows, this fails without one";
                    say(found, "C04", at, what, hint);
                }
            }
            Alteration::Constraint if postgres => part.constraint(table, at, found),
            Alteration::DropColumn(column) => {
                let hint = "its values go with it; is nothing in it needed any more?";
                say(found, "D02", at, format!("the column {table}.{column} is dropped"), hint);
                let what = format!("an application that runs now may still use {table}.{column}");
                say(found, "C03", at, what, "first release an application that does not use it, then drop it");
            }
            Alteration::NotNull(column) => {
                let hint = "add CHECK (… IS NOT NULL) NOT VALID, validate it in a revision of its own, then set this";
                say(found, "L04", at, format!("all rows of {table} are looked at while everyone waits"), hint);
                if !so_far.defaults.iter().any(|(t, c)| same(t, table) && *c == column) {
                    let what = format!("{table}.{column} has to be given, and an application that runs now may not");
                    say(found, "C04", at, what, "give it a DEFAULT first, or release an application that sets it");
                }
            }
            Alteration::Type(column) => {
                let hint = "add a column of the new type, fill it bit by bit, then change over";
                say(found, "L05", at, format!("{table} may be written anew while everyone waits"), hint);
                let what = format!("an application that runs now expects the type that {table}.{column} had");
                say(found, "C05", at, what, "release an application that bears both types first");
            }
            Alteration::RenameTable(_) if !comes_back(later, table) => {
                let hint = "leave a view under its former name, or release an application that bears both names first";
                say(found, "C01", at, format!("an application that runs now still says {table}"), hint);
            }
            Alteration::RenameColumn { from, .. }
                if !so_far.columns.iter().any(|(t, c)| same(t, table) && *c == from) =>
            {
                let hint = "add a second column and keep both equal until every application says the other name";
                say(found, "C02", at, format!("an application that runs now still says {table}.{from}"), hint);
            }
            Alteration::Other if part.is(0, &["SET", "SCHEMA"]) => {
                let hint = "leave a view in its former schema, or release an application that bears both first";
                say(
                    found,
                    "C01",
                    at,
                    format!("an application that runs now still looks for {table} where it was"),
                    hint,
                );
            }
            _ => {}
        }
    }

    /// Whether a column counts up by itself.
    fn serial(&self) -> bool {
        ["SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL2", "SERIAL4", "SERIAL8"].iter().any(|word| self.has(word))
    }

    /// A column that is added in PostgreSQL.
    fn added(&self, table: &str, column: &str, default: Option<&[Token<'_>]>, at: usize, found: &mut Vec<Found>) {
        let hint = "add it without a default, set the default, fill the rows there are bit by bit";
        let written = |what: &str| format!("{table} is written anew while everyone waits: {table}.{column} {what}");
        if self.serial() || self.position(0, &["IDENTITY"]).is_some() {
            say(found, "L06", at, written("counts up"), hint);
        } else if self.position(0, &["STORED"]).is_some() {
            say(found, "L06", at, written("is computed"), "compute it in a view, or when it is written");
        } else if let Some(call) = default.and_then(volatile) {
            say(
                found,
                "L06",
                at,
                written(&format!("has the default {call}(), which may differ from row to row")),
                hint,
            );
        }
        if self.position(0, &["UNIQUE"]).is_some() || self.position(0, &["PRIMARY", "KEY"]).is_some() {
            let hint = "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX";
            say(found, "L07", at, format!("a unique key of {table} is built while everyone waits"), hint);
        }
        if self.position(0, &["CHECK"]).is_some() {
            let hint =
                "add the column, then ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT in a revision of its own";
            say(found, "L03", at, format!("all rows of {table} are checked while everyone waits"), hint);
        }
        if self.position(0, &["REFERENCES"]).is_some() && default.is_some() {
            let hint = "add the column, then the key NOT VALID, then VALIDATE CONSTRAINT in a revision of its own";
            say(found, "L02", at, format!("all rows of {table} are checked while writers wait"), hint);
        }
    }

    /// A constraint that is added in PostgreSQL.
    fn constraint(&self, table: &str, at: usize, found: &mut Vec<Found>) {
        let unchecked = self.position(0, &["NOT", "VALID"]).is_some();
        let i = if self.is(1, &["CONSTRAINT"]) { self.name(2).map_or(2, |(_, next)| next) } else { 1 };
        let validate = "add it NOT VALID, then VALIDATE CONSTRAINT in a revision of its own";
        match self.word(i).as_str() {
            "FOREIGN" if !unchecked => {
                say(found, "L02", at, format!("all rows of {table} are checked while writers wait"), validate);
            }
            "CHECK" if !unchecked => {
                say(found, "L03", at, format!("all rows of {table} are checked while everyone waits"), validate);
            }
            "NOT" if !unchecked => {
                say(found, "L04", at, format!("all rows of {table} are looked at while everyone waits"), validate);
            }
            "UNIQUE" | "PRIMARY" if self.position(i, &["USING", "INDEX"]).is_none() => {
                let hint = "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX";
                say(found, "L07", at, format!("a unique key of {table} is built while everyone waits"), hint);
            }
            _ => {}
        }
    }

    /// What makes others wait in PostgreSQL, ALTER TABLE apart.
    fn blocks(&self, so_far: &SoFar, found: &mut Vec<Found>) {
        let apart = "writers wait until it is done: add CONCURRENTLY, in a revision with `transaction:false`";
        match self.word(0).as_str() {
            "CREATE" if self.is(1, &["INDEX"]) || self.is(1, &["UNIQUE", "INDEX"]) => {
                let on = self.position(1, &["ON"]).map_or(0, |i| self.skip(i + 1, &["ONLY"]));
                let Some((table, _)) = self.name(on) else { return };
                if !self.has("CONCURRENTLY") && !so_far.made(&table) {
                    say(found, "L01", 0, format!("an index is built on {table} without CONCURRENTLY"), apart);
                }
            }
            "REINDEX" if !self.has("CONCURRENTLY") => {
                say(found, "L11", 0, "REINDEX without CONCURRENTLY".to_owned(), apart);
            }
            "VACUUM" => {
                let full = self.tokens.iter().position(|t| t.word("FULL"));
                let off = |i: usize| {
                    self.is(i + 1, &["FALSE"])
                        || self.is(i + 1, &["OFF"])
                        || self.tokens.get(i + 1).is_some_and(|t| t.text == "0")
                };
                if full.is_some_and(|i| !off(i)) {
                    let hint =
                        "nobody can read or write a table while it is written anew; plain VACUUM is enough for most";
                    say(found, "L08", 0, "VACUUM FULL".to_owned(), hint);
                }
            }
            "CLUSTER" => {
                let hint = "nobody can read or write the table while it is written anew";
                say(found, "L09", 0, "CLUSTER".to_owned(), hint);
            }
            "LOCK" => {
                let mode = self.tokens.iter().rposition(|t| t.word("IN")).map_or(self.tokens.len(), |i| i + 1);
                let mild = ["ACCESS SHARE MODE", "ROW SHARE MODE", "ROW EXCLUSIVE MODE"];
                let mild = mild.iter().any(|words| self.is(mode, &words.split(' ').collect::<Vec<_>>()));
                let tables = self.names(self.skip(1, &["TABLE", "ONLY"]));
                if !mild && !tables.iter().all(|table| so_far.made(table)) {
                    let hint = "everyone waits until the revision is done; is it needed?";
                    say(found, "L10", 0, format!("{} is locked", tables.join(", ")), hint);
                }
            }
            _ => {}
        }
    }

    /// What cannot run, or does nothing, within a transaction.
    fn in_transaction(&self, found: &mut Vec<Found>) {
        let hint = "say `transaction:false` behind the directive; the statements then run one by one";
        let first = self.word(0);
        if self.kind == Kind::Postgres {
            let index = matches!(first.as_str(), "CREATE" | "DROP" | "REINDEX") && self.has("CONCURRENTLY");
            let detach = first == "ALTER" && self.has("DETACH") && self.has("CONCURRENTLY");
            let whole = matches!(first.as_str(), "CREATE" | "DROP")
                && matches!(self.word(1).as_str(), "DATABASE" | "TABLESPACE" | "SUBSCRIPTION");
            if index || detach {
                say(found, "F01", 0, "CONCURRENTLY cannot run in a transaction".to_owned(), hint);
            } else if whole || first == "VACUUM" || self.is(0, &["ALTER", "SYSTEM"]) {
                let what = if first == "VACUUM" { first } else { format!("{first} {}", self.word(1)) };
                say(found, "F01", 0, format!("{what} cannot run in a transaction"), hint);
            }
            return;
        }
        if first == "VACUUM" {
            say(found, "F01", 0, "VACUUM cannot run in a transaction".to_owned(), hint);
        }
        if first == "PRAGMA"
            && let Some((name, next)) = self.name(1)
            && (self.symbol(next, "=") || self.symbol(next, "("))
        {
            let name = name.rsplit('.').next().unwrap_or_default().to_owned();
            if name == "foreign_keys" {
                let hint = "take it out: foreign keys are checked only at the revision's end as it is";
                say(found, "F02", 0, "PRAGMA foreign_keys does nothing in a transaction".to_owned(), hint);
            } else if ["journal_mode", "synchronous", "page_size", "auto_vacuum"].contains(&name.as_str()) {
                say(found, "F02", 0, format!("PRAGMA {name} does nothing or fails in a transaction"), hint);
            }
        }
    }
}

/// Whether a later statement makes a table of this name, or renames one to it.
fn comes_back(later: &[Look<'_>], table: &str) -> bool {
    later.iter().any(|look| {
        look.created().is_some_and(|name| same(&name, table))
            || look.actions().into_iter().any(|action| {
                let part = Look { kind: look.kind, tokens: action.tokens };
                matches!(part.alteration(), Alteration::RenameTable(name) if same(&name, table))
            })
    })
}

/// The first function that a default calls and of which it is not known that it gives one value for all rows.
fn volatile(default: &[Token<'_>]) -> Option<String> {
    const STEADY: &str = "now transaction_timestamp statement_timestamp current_timestamp current_time localtime \
        localtimestamp timezone to_timestamp to_date to_char to_json to_jsonb make_interval make_date make_timestamptz \
        date_trunc extract lower upper concat coalesce nullif md5 current_setting cast array row and or not in \
        jsonb_build_object jsonb_build_array json_build_object json_build_array numeric decimal varchar char character \
        varying bit timestamp timestamptz time interval int4range int8range numrange tsrange tstzrange daterange";
    default.windows(2).find_map(|pair| {
        let called = matches!(pair[0].is, Is::Word | Is::Name) && pair[1].symbol("(");
        let name = pair[0].name(Kind::Postgres);
        (called && !STEADY.split(' ').any(|steady| steady == name)).then_some(name)
    })
}
