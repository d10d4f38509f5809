//! A revision as a script that someone else runs: where Backout may not connect, or a person reads every statement first.

use std::fmt::Write;

use super::database::{FrozenDown, Record, Standing};
use super::run::{self, Terms};
use super::{Result, Revision};
use crate::plan::Kind;
use crate::store;
use crate::store::postgres::records as postgres;
use crate::store::sqlite::records as sqlite;

/// The statements of a revision's up, or of its down, with what records them. Run twice, the record is in the way.
///
/// # Errors
/// A revision that cannot be taken back.
pub fn script(revision: &Revision, nth: u64, kind: Kind, down: bool) -> Result<String> {
    let begun = run::begun_record(revision, &Terms { nth, unproven: true, ..Terms::default() });
    let record = Record { standing: Standing::Applied, proof: Some("not proven: run from a script".into()), ..begun };
    let (text, transaction) = match (&record.down, down) {
        (_, false) => (record.up.clone(), record.up_transaction),
        (FrozenDown::Sql { text, transaction }, true) => (text.clone(), *transaction),
        (FrozenDown::Nothing, true) => (String::new(), true),
        (FrozenDown::Irreversible(why), true) => return Err(run::irreversible(&record, why)),
    };
    let way = if down { "down" } else { "up" };
    let (begin, commit) = if transaction { ("BEGIN;\n", "COMMIT;\n") } else { ("", "") };
    let mut out = format!("-- {}_{}: {way}\n{begin}", record.stamp, record.slug);
    let text = text.trim();
    if !text.is_empty() {
        // a comment at the end does not swallow what follows
        let end = if text.ends_with(';') { "" } else { "\n;" };
        let _ = writeln!(out, "{text}{end}");
    }
    let (table, place) = match kind {
        Kind::Sqlite => ("backout_revision", format!("{}\n{};\n", sqlite::HISTORY.trim(), sqlite_view())),
        _ => ("backout.revision", format!("CREATE SCHEMA IF NOT EXISTS backout;\n{}\n", postgres::HISTORY.trim())),
    };
    if down {
        let _ = writeln!(out, "DELETE FROM {table} WHERE version = {};", literal(&record.stamp));
    } else {
        let json = serde_json::to_string(&record).map_err(|e| store::Error::Database {
            store: "the script".into(),
            operation: "write a revision's record".into(),
            cause: e.to_string(),
        })?;
        let columns = "version text PRIMARY KEY, name text NOT NULL, standing text NOT NULL, at text NOT NULL, record text NOT NULL";
        let _ = writeln!(out, "{place}CREATE TABLE IF NOT EXISTS {table} ({columns});");
        let values = [&record.stamp, &record.slug, &"applied".to_owned(), &record.at, &json].map(|text| literal(text));
        let _ = writeln!(out, "INSERT INTO {table} VALUES ({});", values.join(", "));
    }
    let outcome = if down { "rolled back" } else { "applied" };
    let [stamp, title, outcome, note] = [&record.stamp, &record.title, outcome, "run from a script"].map(literal);
    let (log, line, at) = match kind {
        Kind::Sqlite => ("backout_history", "", "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"),
        _ => (
            "backout.history",
            "coalesce(max(line), 0) + 1, ",
            "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
        ),
    };
    let (number, from) = if line.is_empty() { ("", "") } else { ("line, ", " FROM backout.history") };
    let _ = writeln!(
        out,
        "INSERT INTO {log} ({number}run, migration, title, plan_hash, outcome, started_at, ended_at, note) \
         SELECT {line}'', {stamp}, {title}, '', {outcome}, {at}, {at}, {note}{from};"
    );
    let _ = writeln!(out, "{commit}");
    Ok(out)
}

/// The view, if nothing of its name is there.
fn sqlite_view() -> String {
    sqlite::VIEW.replacen("CREATE VIEW", "CREATE VIEW IF NOT EXISTS", 1)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
