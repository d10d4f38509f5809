//! The text of a script as it runs here: without a transaction of its own where ours takes its place.

use super::{Result, Unless, Way};
use crate::plan::{Document, Kind};
use crate::revision::sql::{self, Piece};

/// A script as it is taken over.
pub(super) struct Taken {
    pub text: String,
    pub transaction: bool,
    /// It has no statement.
    pub empty: bool,
}

/// Reads a script of another tool's. `BEGIN` at its beginning and `COMMIT` at its end are taken out, as ours does the
/// same. Other transactions of its own stay, and it runs statement by statement.
pub(super) fn taken(way: &Way, kind: Kind, notes: &mut Vec<String>) -> Result<Taken> {
    let mut text = sql::plain(&way.text);
    // so that an error names the line of the file
    let before = way.line.saturating_sub(1);
    let padded = "\n".repeat(before) + &text;
    let doc = Document { file: &way.file, text: &padded };
    let mut statements = Vec::new();
    for piece in sql::pieces(doc, kind) {
        if let Piece::Statement { start, end } = piece? {
            statements.push(start - before..end - before);
        }
    }
    let empty = statements.is_empty();
    let mut transaction = way.transaction;
    let control: Vec<Option<bool>> = statements.iter().map(|s| control(&text[s.clone()], kind)).collect();
    let lonely = |s: &std::ops::Range<usize>| alone(&text[s.clone()], kind);
    let bare = match way.unless {
        Unless::Never => false,
        Unless::Alone => matches!(&statements[..], [only] if lonely(only)),
        Unless::Any => statements.iter().any(lonely),
    };
    if transaction && control.iter().any(Option::is_some) {
        let wrapped =
            matches!(control[..], [Some(true), ref inner @ .., Some(false)] if inner.iter().all(Option::is_none));
        if let (true, Some(last), Some(first)) = (wrapped, statements.last().cloned(), statements.first().cloned()) {
            cut(&mut text, last);
            cut(&mut text, first);
        } else {
            transaction = false;
            notes.push(format!(
                "{} begins and ends transactions of its own: it will run statement by statement (transaction:false)",
                way.file.display()
            ));
        }
    }
    Ok(Taken { text: trimmed(&text), transaction: transaction && !bare, empty })
}

/// Whether a statement begins a transaction (`true`), or ends one.
fn control(statement: &str, kind: Kind) -> Option<bool> {
    let words: Vec<String> = sql::words(statement, kind).into_iter().take(3).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["ROLLBACK", "TO", ..] | ["ROLLBACK", "WORK" | "TRANSACTION", "TO"] => None,
        ["COMMIT" | "ROLLBACK", "PREPARED", ..] => None,
        ["BEGIN", ..] | ["START", "TRANSACTION", ..] => Some(true),
        ["COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] => Some(false),
        _ => None,
    }
}

/// Whether a statement cannot run in a transaction.
fn alone(statement: &str, kind: Kind) -> bool {
    let words = sql::words(statement, kind);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["VACUUM", ..] => true,
        _ if kind == Kind::Sqlite => false,
        ["CREATE" | "DROP", "DATABASE" | "TABLESPACE", ..] | ["ALTER", "SYSTEM", ..] => true,
        ["CREATE", "INDEX", "CONCURRENTLY", ..] | ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", ..] => true,
        ["DROP", "INDEX", "CONCURRENTLY", ..] => true,
        ["REINDEX", ref rest @ ..] => rest.iter().take(4).any(|w| *w == "CONCURRENTLY"),
        _ => false,
    }
}

/// Takes a statement out, with its `;` and the rest of a line that is then blank.
fn cut(text: &mut String, statement: std::ops::Range<usize>) {
    let blank = |from: usize| text[from..].len() - text[from..].trim_start_matches([' ', '\t']).len();
    let mut end = statement.end + blank(statement.end);
    if text[end..].starts_with(';') {
        end += 1;
    }
    let after = end + blank(end);
    let begins = text[..statement.start].ends_with('\n') || statement.start == 0;
    if begins && text[after..].starts_with('\n') {
        end = after + 1;
    }
    text.replace_range(statement.start..end, "");
}

/// Without blank lines at both ends, and with one line end.
fn trimmed(text: &str) -> String {
    let text = text.trim_end();
    let blank: usize = text.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
    match &text[blank..] {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn take(text: &str, kind: Kind, unless: Unless) -> (String, bool, usize) {
        let mut notes = Vec::new();
        let way = Way { unless, ..Way::whole(Path::new("x.sql"), text.to_owned()) };
        let taken = taken(&way, kind, &mut notes).unwrap();
        (taken.text, taken.transaction, notes.len())
    }

    #[test]
    fn its_own_transaction_gives_way_to_ours() {
        for (text, wanted, transaction) in [
            ("BEGIN;\nCREATE TABLE t (a int);\nCOMMIT;\n", "CREATE TABLE t (a int);\n", true),
            ("-- why\nbegin transaction ; SELECT 1;\n END;", "-- why\n SELECT 1;\n", true),
            ("SELECT 'BEGIN; COMMIT;';\n-- COMMIT;\n", "SELECT 'BEGIN; COMMIT;';\n-- COMMIT;\n", true),
            ("BEGIN; SELECT 1; COMMIT; SELECT 2;", "BEGIN; SELECT 1; COMMIT; SELECT 2;\n", false),
            ("SAVEPOINT a; SELECT 1; ROLLBACK TO a;", "SAVEPOINT a; SELECT 1; ROLLBACK TO a;\n", true),
        ] {
            let taken = take(text, Kind::Postgres, Unless::Never);
            assert_eq!(taken, (wanted.to_owned(), transaction, usize::from(!transaction)), "{text}");
        }
    }

    #[test]
    fn what_runs_in_no_transaction_is_seen_where_the_tool_sees_it() {
        let index = "CREATE INDEX CONCURRENTLY i ON t (a);";
        assert!(!take(index, Kind::Postgres, Unless::Alone).1);
        assert!(take(&format!("{index} SELECT 1;"), Kind::Postgres, Unless::Alone).1);
        assert!(!take(&format!("{index} SELECT 1;"), Kind::Postgres, Unless::Any).1);
        assert!(take("SELECT 'VACUUM'", Kind::Postgres, Unless::Any).1);
        assert!(!take("vacuum", Kind::Sqlite, Unless::Any).1);
    }
}
