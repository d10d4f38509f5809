//! A random SQLite database goes to PostgreSQL, is written there, and comes back.
//!
//! The model is SQLite itself: a copy of the file takes the same writes. What SQLite refuses is not asked of PostgreSQL, and what
//! PostgreSQL refuses is taken back in the copy. In the end the source must be the copy: classes, bytes, schema.

use std::path::Path;

use backout::migrate::{Failure, Proposal};
use backout::plan::{Codec, TablePlan};
use postgres::Client;
use proptest::prelude::*;
use rusqlite::Connection;

use super::cases;
use super::sqlite::{Base, base};
use crate::scenarios::{Database, Home, pg_rows, quoted, same, sqlite_dump, sqlite_ours, sqlite_rows, sqlite_schema};

/// A write of the application's; numbers choose among what is there.
#[derive(Clone, Debug)]
pub enum Act {
    /// A column gets the value it has in another row.
    Cell {
        table: usize,
        column: usize,
        row: usize,
        from: usize,
    },
    Null {
        table: usize,
        column: usize,
        row: usize,
    },
    Delete {
        table: usize,
        row: usize,
    },
    /// A row like another, under a new key.
    Insert {
        table: usize,
        from: usize,
    },
    Key {
        table: usize,
        row: usize,
    },
    Empty {
        table: usize,
    },
}

impl Act {
    pub fn table(&self) -> usize {
        let (Act::Cell { table, .. }
        | Act::Null { table, .. }
        | Act::Delete { table, .. }
        | Act::Insert { table, .. }
        | Act::Key { table, .. }
        | Act::Empty { table }) = self;
        *table
    }
}

pub fn acts() -> impl Strategy<Value = Vec<Act>> {
    let n = || 0..64usize;
    let one = prop_oneof![
        6 => (n(), n(), n(), n()).prop_map(|(table, column, row, from)| Act::Cell { table, column, row, from }),
        1 => (n(), n(), n()).prop_map(|(table, column, row)| Act::Null { table, column, row }),
        2 => (n(), n()).prop_map(|(table, row)| Act::Delete { table, row }),
        4 => (n(), n()).prop_map(|(table, from)| Act::Insert { table, from }),
        3 => (n(), n()).prop_map(|(table, row)| Act::Key { table, row }),
        1 => n().prop_map(|table| Act::Empty { table }),
    ];
    proptest::collection::vec(one, 0..12)
}

/// A new key value: how SQLite says it, how PostgreSQL says it.
fn fresh(t: &TablePlan, column: usize, n: usize) -> Option<(String, String)> {
    let ty = t.target.columns[column].ty.as_str();
    match (&t.codecs[column].codec, ty) {
        (Codec::Same, "bigint" | "integer" | "smallint") => Some((format!("{}", 1000 + n), format!("{}", 1000 + n))),
        (Codec::Same | Codec::Real, "double precision") => Some((format!("{n}.625"), format!("{n}.625"))),
        (Codec::Same, ty) if ty == "text" || ty.starts_with("character") => {
            Some((format!("'n{n}'"), format!("'n{n}'")))
        }
        (Codec::AffinityText { .. }, "text") => Some((format!("'n{n}'"), format!("'n{n}'"))),
        (Codec::Same, "bytea") => Some((format!("x'ff{n:02x}'"), format!("'\\xff{n:02x}'"))),
        (Codec::TextBytes, "bytea") => Some((format!("CAST(x'ff{n:02x}' AS TEXT)"), format!("'\\xff{n:02x}'"))),
        (Codec::Literal, "text") => Some((format!("'n{n}'"), format!("'''n{n}'''"))),
        _ => None,
    }
}

/// A table's rows on both sides, each by where it is.
struct Places {
    /// `rowid` or key, as SQL that finds one row of the model.
    here: Vec<String>,
    /// `ctid`
    there: Vec<String>,
}

pub struct Tour {
    pub home: Home,
    server: Database,
    pub proposal: Proposal,
}

pub enum Planned {
    Goes(Box<Tour>),
    /// Refused for good, with these words.
    Refused(String),
}

/// Plans it, following what the refusals propose: literals for a column, leaving a table out.
pub fn plan(made: &dyn Fn(&Connection), tables: &[String]) -> Planned {
    let server = Database::new();
    let home = Home::new(&[("local", "sqlite:app.db"), ("main", &server.url)], "");
    {
        let db = home.sqlite("app.db");
        made(&db);
    }
    let before = home.read("app.db");
    let (mut columns, mut exclude): (String, Vec<String>) = (String::new(), Vec::new());
    for _ in 0..40 {
        let left_out: Vec<String> = exclude.iter().map(|t| toml_text(t)).collect();
        home.migration(
            "20250101000000_to_postgres",
            &format!("[transfer]\nfrom = \"local\"\nto = \"main\"\nexclude = [{}]\n{columns}", left_out.join(", "))
                .replace("exclude = []\n", ""),
        );
        let refused: Failure = match home.project().plan(None) {
            Ok(proposal) => return Planned::Goes(Box::new(Tour { home, server, proposal: proposal.unwrap() })),
            Err(refused) => refused,
        };
        // nothing is changed by a refusal, in neither store
        assert_eq!(home.read("app.db"), before, "{refused}");
        let there = pg_rows(
            &mut server.client(),
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backout%' UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        );
        assert_eq!(there, [""; 0], "{refused}");
        let (said, hint) = (refused.to_string(), refused.hint.clone());
        assert_eq!(refused.exit, 4, "{said}");
        let Some(named) = tables.iter().filter(|t| said.contains(t.as_str())).max_by_key(|t| t.len()) else {
            panic!("no table is named: {said}\n{hint}");
        };
        if let Some(column) = hint
            .split_once("[[transfer.column]] table = ")
            .and_then(|(_, rest)| rest.split_once(", codec = \"literal\""))
        {
            let (table, column) = column.0.split_once(", column = ").unwrap();
            let unquoted = |s: &str| serde_json::from_str::<String>(&s.replace("\\'", "'")).unwrap();
            let said_column = unquoted(column);
            assert!(said.contains(&said_column), "the column is not named: {said}");
            columns += &format!(
                "[[transfer.column]]\ntable = {}\ncolumn = {}\ncodec = \"literal\"\n",
                toml_text(&unquoted(table)),
                toml_text(&said_column)
            );
            continue;
        }
        if exclude.len() + 1 == tables.len() || exclude.contains(named) {
            return Planned::Refused(said);
        }
        exclude.push(named.clone());
        // columns of a table that does not move may not be spoken of
        let kept: Vec<&str> = columns
            .split("[[transfer.column]]\n")
            .filter(|c| !c.is_empty() && !c.starts_with(&format!("table = {}\n", toml_text(named))))
            .collect();
        columns = kept.iter().map(|c| format!("[[transfer.column]]\n{c}")).collect();
    }
    panic!("the refusals' hints lead nowhere")
}

pub fn toml_text(s: &str) -> String {
    serde_json::to_string(s).unwrap()
}

pub fn copy(from: &Path, to: &Path) -> Connection {
    std::fs::copy(from, to).unwrap();
    let db = Connection::open(to).unwrap();
    let triggers: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    // the source's triggers that write mapped tables do not fire for what is carried
    for t in triggers.iter().filter(|t| *t == "a trigger") {
        db.execute_batch(&format!("DROP TRIGGER {}", quoted(t))).unwrap();
    }
    db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    db
}

impl Tour {
    fn places(&self, model: &Connection, pg: &mut Client) -> Vec<Places> {
        let tables = &self.proposal.plan.tables;
        tables
            .iter()
            .map(|t| {
                let name = quoted(&t.source.name);
                let here = match &t.source.details.rowid_name {
                    Some(rowid) => {
                        let sql = format!("SELECT '{rowid} = ' || {rowid} FROM {name} ORDER BY {rowid}");
                        model.prepare(&sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
                    }
                    None => {
                        let key: Vec<String> = t.source.key_names().iter().map(|k| quoted(k)).collect();
                        let each: Vec<String> =
                            key.iter().map(|k| format!("'{} = ' || CASE typeof({k}) WHEN 'text' THEN 'CAST(x''' || hex({k}) || ''' AS TEXT)' WHEN 'real' THEN 'backout_none' ELSE quote({k}) END", k.replace('\'', "''"))).collect();
                        let sql = format!("SELECT {} FROM {name} ORDER BY {}", each.join(" || ' AND ' || "), key.join(", "));
                        model.prepare(&sql).unwrap().query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
                    }
                };
                let there: Vec<String> = pg
                    .query(&format!("SELECT ctid::text FROM {} ORDER BY ctid", quoted(&t.target.name)), &[])
                    .unwrap()
                    .iter()
                    .map(|r| r.get(0))
                    .collect();
                assert_eq!(Vec::len(&here), there.len());
                Places { here, there }
            })
            .collect()
    }

    /// Both sides take a write, or neither. Returns where the row is then in PostgreSQL, if it says so.
    fn both(model: &Connection, pg: &mut Client, here: &str, there: &str) -> Option<String> {
        let mut t = pg.transaction().unwrap();
        model.execute_batch("BEGIN").unwrap();
        let mut place = None;
        let mut taken = || -> Option<()> {
            let mine = model.execute(here, []).ok()?;
            let (mut theirs, whole) = (0, there.starts_with("TRUNCATE"));
            for m in t.simple_query(there).ok()? {
                match m {
                    postgres::SimpleQueryMessage::Row(row) => place = row.get(0).map(str::to_owned),
                    postgres::SimpleQueryMessage::CommandComplete(n) => theirs = n,
                    _ => {}
                }
            }
            // a row that moved since, by a cascade, is found by neither or by one
            (whole || theirs == mine as u64).then_some(())?;
            t.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").ok()?;
            model.execute_batch("COMMIT").ok()
        };
        if taken().is_some() {
            t.commit().unwrap();
            return place;
        }
        t.rollback().unwrap();
        model.execute_batch("ROLLBACK").unwrap();
        None
    }

    /// Goes up, is written, comes back; the source must then be what the model says.
    pub fn there_and_back(self, acts: &[Act]) {
        let home = &self.home;
        let path = home.path("app.db");
        let schema = sqlite_schema(&home.sqlite("app.db"));
        let left_out = |db: &Connection| {
            let mut dump = sqlite_dump(db);
            // derived: a row that came and went in the target never was in the source
            dump.retain(|t, _| !t.starts_with("search it"));
            dump.remove("sqlite_sequence");
            dump
        };
        let model = copy(&path, &home.path("model.db"));
        home.up();
        let mut pg = self.server.client();
        let mut places = self.places(&model, &mut pg);
        let tables = &self.proposal.plan.tables;
        // where a foreign key stayed behind, PostgreSQL lacks its actions
        let keyless = self.proposal.plan.not_moved.iter().any(|n| n.what.starts_with("foreign key"));
        for (n, act) in acts.iter().enumerate() {
            let at = act.table() % tables.len();
            let (t, p) = (&tables[at], &places[at]);
            if p.here.is_empty() || (keyless && !matches!(act, Act::Cell { .. } | Act::Null { .. })) {
                continue;
            }
            let (s, d) = (quoted(&t.source.name), quoted(&t.target.name));
            let names: Vec<String> = t.source.columns.iter().map(|c| quoted(&c.name)).collect();
            let whose = |row: usize| (p.here[row % p.here.len()].clone(), p.there[row % p.there.len()].clone());
            let index = |row: usize| row % p.here.len();
            let refers = |c: usize| {
                t.source.columns[c].name.starts_with("ref ")
                    || tables.iter().any(|o| {
                        o.source
                            .foreign_keys
                            .iter()
                            .any(|f| f.table == t.source.name && f.references.contains(&t.source.columns[c].name))
                    })
            };
            let (here, there, row) = match *act {
                Act::Cell { column, row, from, .. } => {
                    let c = column % names.len();
                    if t.source.key.contains(&c) || (keyless && refers(c)) {
                        continue;
                    }
                    let ((a, pa), (b, pb)) = (whose(row), whose(from));
                    (
                        format!(
                            "UPDATE {s} SET {0} = (SELECT {0} FROM {s} WHERE {b}) WHERE {a} AND EXISTS (SELECT 1 FROM {s} WHERE {b})",
                            names[c]
                        ),
                        format!(
                            "UPDATE {d} t SET {0} = f.{0} FROM {d} f WHERE f.ctid = '{pb}' AND t.ctid = '{pa}' RETURNING t.ctid::text",
                            names[c]
                        ),
                        Some(index(row)),
                    )
                }
                Act::Null { column, row, .. } => {
                    let c = column % names.len();
                    if t.source.key.contains(&c) || (keyless && refers(c)) {
                        continue;
                    }
                    let (a, pa) = whose(row);
                    (
                        format!("UPDATE {s} SET {} = NULL WHERE {a}", names[c]),
                        format!("UPDATE {d} SET {} = NULL WHERE ctid = '{pa}' RETURNING ctid::text", names[c]),
                        Some(index(row)),
                    )
                }
                Act::Delete { row, .. } => {
                    let (a, pa) = whose(row);
                    (format!("DELETE FROM {s} WHERE {a}"), format!("DELETE FROM {d} WHERE ctid = '{pa}'"), None)
                }
                Act::Key { row, .. } => {
                    let k = t.source.key[n % t.source.key.len()];
                    let Some((f, pf)) = fresh(t, k, n) else { continue };
                    let (a, pa) = whose(row);
                    (
                        format!("UPDATE {s} SET {} = {f} WHERE {a}", names[k]),
                        format!("UPDATE {d} SET {} = {pf} WHERE ctid = '{pa}' RETURNING ctid::text", names[k]),
                        Some(index(row)),
                    )
                }
                Act::Insert { from, .. } => {
                    let Some(new) =
                        t.source.key.iter().map(|&k| Some((k, fresh(t, k, n)?))).collect::<Option<Vec<_>>>()
                    else {
                        continue;
                    };
                    let (mut mine, mut theirs) = (names.clone(), names.clone());
                    for (k, (f, pf)) in new {
                        (mine[k], theirs[k]) = (f, pf);
                    }
                    let (a, pa) = whose(from);
                    let all = names.join(", ");
                    (
                        format!("INSERT INTO {s} ({all}) SELECT {} FROM {s} WHERE {a}", mine.join(", ")),
                        format!("INSERT INTO {d} ({all}) SELECT {} FROM {d} WHERE ctid = '{pa}'", theirs.join(", ")),
                        None,
                    )
                }
                Act::Empty { .. } => (format!("DELETE FROM {s}"), format!("TRUNCATE {d}"), None),
            };
            if here.contains("backout_none") {
                continue;
            }
            if let (Some(row), Some(place)) = (row, Self::both(&model, &mut pg, &here, &there)) {
                places[at].there[row] = place;
            }
        }
        let out = home.rollback();
        assert!(out.parked.is_empty(), "{:#?}", out.parked);
        let db = home.sqlite("app.db");
        same(&left_out(&db), &left_out(&model));
        assert_eq!(sqlite_schema(&db), schema);
        assert_eq!(sqlite_ours(&db), ["backout_history"]);
        assert_eq!(sqlite_rows(&db, "PRAGMA integrity_check"), ["text ok"]);
    }
}

fn whole(base: &Base, acts: &[Act]) -> Option<String> {
    let tables: Vec<String> = base.tabs.iter().map(|t| t.name.clone()).collect();
    match plan(&|db| base.make(db), &tables) {
        Planned::Goes(tour) => {
            tour.there_and_back(acts);
            None
        }
        Planned::Refused(why) => Some(why),
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn property_random_sqlite_databases_go_there_and_back(base in base(), acts in acts()) {
        whole(&base, &acts);
    }
}
