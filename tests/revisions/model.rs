//! A random table, ups that lose things of it, writes in between, all taken back: it is what a model says.

use std::collections::BTreeMap;

use backout::migrate::{Options, RollbackOptions, UpOptions};
use backout::plan::Kind;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::project::Place;

/// The same cases each time.
fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

/// What an up takes away. A table that is dropped or made anew is written to by nobody in between.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Takes {
    ColumnX,
    ColumnY,
    Rebuild,
    Retype,
    Table,
}

#[derive(Clone, Debug)]
enum Write {
    Insert(i64),
    Delete(i64),
    Keep(i64, i64),
}

/// By key: x, y (a number), and what no up touches.
type Rows = BTreeMap<i64, (Option<String>, Option<i64>, i64)>;

fn makes(kind: Kind, takes: Takes) -> (String, String) {
    let sqlite = kind == Kind::Sqlite;
    let number = if sqlite { "integer" } else { "bigint" };
    let anew = |table: &str, x: bool| {
        let x = if x { "x text, " } else { "" };
        format!("CREATE TABLE {table} (id integer PRIMARY KEY, {x}y {number}, k integer NOT NULL);")
    };
    let copy = |columns: &str, x: bool| {
        let made = anew("n", x);
        format!("{made}\nINSERT INTO n ({columns}) SELECT {columns} FROM t;\nDROP TABLE t;\nALTER TABLE n RENAME TO t;")
    };
    match takes {
        Takes::ColumnX => ("ALTER TABLE t DROP COLUMN x;".into(), "ALTER TABLE t ADD COLUMN x text;".into()),
        Takes::ColumnY => ("ALTER TABLE t DROP COLUMN y;".into(), format!("ALTER TABLE t ADD COLUMN y {number};")),
        Takes::Rebuild => (copy("id, y, k", false), copy("id, y, k", true)),
        Takes::Retype if sqlite => {
            let made = "CREATE TABLE n (id integer PRIMARY KEY, x text, y text, k integer NOT NULL);";
            let up = "INSERT INTO n SELECT id, x, y / 10, k FROM t;\nDROP TABLE t;\nALTER TABLE n RENAME TO t;";
            let down =
                "INSERT INTO n SELECT id, x, CAST(y AS integer), k FROM t;\nDROP TABLE t;\nALTER TABLE n RENAME TO t;";
            (format!("{made}\n{up}"), format!("{}\n{down}", anew("n", true)))
        }
        Takes::Retype => (
            "ALTER TABLE t ALTER y TYPE text USING (y / 10)::text;".into(),
            "ALTER TABLE t ALTER y TYPE bigint USING y::bigint;".into(),
        ),
        Takes::Table => ("DROP TABLE t;".into(), anew("t", true)),
    }
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        (20..30i64).prop_map(Write::Insert),
        (0..12i64).prop_map(Write::Delete),
        (0..12i64, 0..5i64).prop_map(|(id, k)| Write::Keep(id, k)),
    ];
    prop::collection::vec(one, 0..6)
}

fn rows() -> impl Strategy<Value = Rows> {
    let x = prop::option::of("[a-z'\\\\ é]{0,4}");
    prop::collection::btree_map(0..12i64, (x, prop::option::of(any::<i32>().prop_map(i64::from)), 0..5i64), 0..8)
}

fn check(kind: Kind, rows: &Rows, takes: Takes, writes: &[Write], proves: bool) -> Result<(), TestCaseError> {
    let place = if proves { Place::new(kind) } else { Place::bare(kind) };
    let number = if kind == Kind::Sqlite { "integer" } else { "bigint" };
    place.sql(&format!("CREATE TABLE t (id integer PRIMARY KEY, x text, y {number}, k integer NOT NULL)"));
    let said = |x: &Option<String>| x.as_ref().map_or("NULL".to_owned(), |x| format!("'{}'", x.replace('\'', "''")));
    for (id, (x, y, k)) in rows {
        let y = y.map_or("NULL".to_owned(), |y| y.to_string());
        place.sql(&format!("INSERT INTO t VALUES ({id}, {}, {y}, {k})", said(x)));
    }
    let (up, down) = makes(kind, takes);
    place.revision("1", "takes", &up, &down);
    let project = || place.project().with(Options { verify: proves, ..Options::default() });
    project().up(&UpOptions::default()).map_err(|e| TestCaseError::fail(format!("{e}")))?;
    let mut model = rows.clone();
    let mut strays = 0;
    for write in writes.iter().filter(|_| takes != Takes::Table) {
        match write {
            Write::Insert(id) if !model.contains_key(id) => {
                place.sql(&format!("INSERT INTO t (id, k) VALUES ({id}, 9)"));
                model.insert(*id, (None, None, 9));
            }
            Write::Insert(_) => {}
            Write::Delete(id) => {
                place.sql(&format!("DELETE FROM t WHERE id = {id}"));
                let gone = model.remove(id);
                strays += u64::from(gone.is_some_and(|(x, y, _)| match takes {
                    Takes::ColumnX | Takes::Rebuild => x.is_some(),
                    _ => y.is_some(),
                }));
            }
            Write::Keep(id, k) => {
                place.sql(&format!("UPDATE t SET k = {k} WHERE id = {id}"));
                model.entry(*id).and_modify(|row| row.2 = *k);
            }
        }
    }
    project().rollback(&RollbackOptions::default()).map_err(|e| TestCaseError::fail(format!("{e}")))?;
    let found = place.list(
        "SELECT id || '|' || coalesce('''' || x || '''', '-') || '|' || coalesce(y, -1) || '|' || k FROM t ORDER BY id",
    );
    let wanted: Vec<String> = model
        .iter()
        .map(|(id, (x, y, k))| {
            let x = x.as_ref().map_or("-".to_owned(), |x| format!("'{x}'"));
            format!("{id}|{x}|{}|{k}", y.unwrap_or(-1))
        })
        .collect();
    prop_assert_eq!(found, wanted);
    // what the down took away itself waits for the next up; what rows had that are no more stays
    let left = place.project().kept().unwrap();
    let kept: u64 = left.iter().filter(|kept| kept.table.contains("_up_")).map(|kept| kept.rows).sum();
    prop_assert_eq!(kept, strays, "{:?}", left);
    Ok(())
}

fn takes() -> impl Strategy<Value = Takes> {
    prop::sample::select(vec![Takes::ColumnX, Takes::ColumnY, Takes::Rebuild, Takes::Retype, Takes::Table])
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn sqlite(rows in rows(), takes in takes(), writes in writes(), proves: bool) {
        check(Kind::Sqlite, &rows, takes, &writes, proves)?;
    }
}

proptest! {
    #![proptest_config(config(25))]

    #[test]
    fn postgres(rows in rows(), takes in takes(), writes in writes()) {
        check(Kind::Postgres, &rows, takes, &writes, false)?;
    }
}
