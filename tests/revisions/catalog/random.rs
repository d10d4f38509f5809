//! Schemas made at random: built again without a difference; made into one another and back.
//!
//! A schema is read off a row of bytes, each of which decides one thing, so that changing a few of them changes a few things.

mod postgres;
mod sqlite;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::{Catalog, Place, Renames, change, failing, text};

/// How many tables there may be, and bytes for each.
const TABLES: usize = 4;
const EACH: usize = 50;
const COLUMNS: usize = 5;

/// The bytes that a schema is read off, and what is called otherwise.
#[derive(Clone, Default)]
struct Dice {
    bytes: Vec<u8>,
    /// The first table, and the first column of the second, have other names.
    renamed: bool,
}

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set: Vec<_> = self.bytes.iter().enumerate().filter(|(_, b)| **b != 0).collect();
        write!(f, "{set:?} renamed: {}", self.renamed)
    }
}

impl Dice {
    fn at(&self, i: usize) -> usize {
        self.bytes.get(i).copied().unwrap_or(0).into()
    }

    /// A byte of a table.
    fn of(&self, table: usize, i: usize) -> usize {
        self.at(table * EACH + i)
    }

    /// A byte of a column.
    fn column(&self, table: usize, column: usize, i: usize) -> usize {
        self.of(table, 2 + column * 6 + i)
    }

    /// A byte of what is no table's.
    fn other(&self, i: usize) -> usize {
        self.at(TABLES * EACH + i)
    }

    fn has(&self, table: usize) -> bool {
        !self.of(table, 0).is_multiple_of(4)
    }

    fn has_column(&self, table: usize, column: usize) -> bool {
        !self.column(table, column, 0).is_multiple_of(3)
    }

    fn tables(&self) -> impl Iterator<Item = usize> {
        (0..TABLES).filter(|&t| self.has(t))
    }

    fn columns(&self, table: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..COLUMNS).filter(|&c| self.has_column(table, c)).collect();
        if self.of(table, 45) % 3 == 1 {
            all.reverse();
        }
        all
    }

    fn name(&self, table: usize) -> String {
        if self.renamed && table == 0 { "Other name".into() } else { format!("t{table}") }
    }

    fn column_name(&self, table: usize, column: usize) -> String {
        match column {
            0 if self.renamed && table == 1 => "order".into(),
            4 => "Odd \"name".into(),
            _ => format!("c{column}"),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Bytes by their place: a failure is made small by leaving some out.
fn dice() -> impl Strategy<Value = Dice> {
    vec((0..TABLES * EACH + 30, any::<u8>()), 0..400).prop_map(|set| {
        let mut bytes = vec![0; TABLES * EACH + 30];
        for (i, byte) in set {
            bytes[i] = byte;
        }
        Dice { bytes, renamed: false }
    })
}

/// Another one that differs from it in a few places.
fn pairs() -> impl Strategy<Value = (Dice, Dice)> {
    let edits = vec((0..TABLES * EACH + 30, any::<u8>()), 1..25);
    (dice(), edits, any::<bool>()).prop_map(|(one, edits, renamed)| {
        let mut other = one.clone();
        for (i, byte) in edits {
            other.bytes[i] = byte;
        }
        if renamed {
            // what has another name is there before and after
            for i in [0, EACH, EACH + 2] {
                other.bytes[i] = other.bytes[i] / 12 * 12 + 1;
            }
            let mut one = one;
            for i in [0, EACH, EACH + 2] {
                one.bytes[i] = one.bytes[i] / 12 * 12 + 1;
            }
            other.renamed = true;
            return (one, other);
        }
        (one, other)
    })
}

fn config(usual: u32) -> Config {
    let asked: Option<u32> = std::env::var("BACKOUT_TEST_RANDOM").ok().and_then(|n| n.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) };
    Config {
        cases: asked.unwrap_or(usual),
        max_shrink_iters: 150,
        rng_seed,
        failure_persistence: None,
        ..Config::default()
    }
}

/// What two databases do for all cases; emptied before each.
struct Bench {
    one: Place,
    other: Place,
    empty: fn(&mut Place),
    script: fn(&Dice) -> String,
}

fn run(place: &mut Place, statements: &[String]) -> Result<(), TestCaseError> {
    place.session.begin().unwrap();
    for sql in statements {
        if let Err(e) = place.session.run(sql) {
            place.session.rollback();
            return Err(TestCaseError::fail(format!("{e}\nat {sql}\nof\n{}", statements.join(";\n"))));
        }
    }
    place.session.commit("statements").map_err(|e| TestCaseError::fail(e.to_string()))
}

fn same(wanted: &Catalog, found: &Catalog, by: &[String]) -> Result<(), TestCaseError> {
    let left = failing(wanted, found);
    prop_assert!(left.is_empty(), "{}\nafter\n{}", text(&left), by.join(";\n"));
    prop_assert_eq!(wanted.fingerprint(), found.fingerprint());
    Ok(())
}

impl Bench {
    fn build(&mut self, dice: &Dice) -> Result<Catalog, TestCaseError> {
        (self.empty)(&mut self.one);
        run(&mut self.one, &[(self.script)(dice)])?;
        Ok(self.one.read())
    }

    fn built_again(&mut self, dice: &Dice) -> Result<(), TestCaseError> {
        let catalog = self.build(dice)?;
        (self.empty)(&mut self.other);
        let all: Vec<String> = catalog.create().into_iter().map(|s| s.sql).collect();
        run(&mut self.other, &all)?;
        same(&catalog, &self.other.read(), &all)?;
        prop_assert_eq!(catalog.not_created(), Vec::<String>::new());
        // and by what would be written for an empty database; its down leads back to that
        (self.empty)(&mut self.other);
        let nothing = self.other.read();
        for (from, to) in [(&nothing, &catalog), (&catalog, &nothing)] {
            let change = change(from, to, &Renames::default());
            prop_assert_eq!(&change.not_generated, &Vec::<String>::new());
            run(&mut self.other, &change.up)?;
            same(to, &self.other.read(), &change.up)?;
        }
        Ok(())
    }

    /// What rows there are, by table: those of a table that stays are kept, or the change is refused for what one of them holds.
    fn with_rows(&mut self, from: &Dice, to: &Dice, fill: &str) -> Result<(), TestCaseError> {
        let wanted = self.build(to)?;
        let start = self.build(from)?;
        for table in start.tables() {
            for id in 1..4 {
                // a row that its own table does not take is none
                let _ =
                    self.one.session.run(&fill.replace("TABLE", table.name.quoted()).replace("ID", &id.to_string()));
            }
        }
        let counted = |place: &mut Place, tables: &[String]| -> Vec<String> {
            tables.iter().flat_map(|t| place.ask(&format!("SELECT id FROM {t} ORDER BY id"))).collect()
        };
        let both = |catalog: &Catalog, other: &Catalog| -> Vec<String> {
            let names: Vec<_> = other.tables().iter().map(|t| t.name.quoted().to_owned()).collect();
            let all = catalog.tables().iter().map(|t| t.name.quoted().to_owned());
            all.filter(|t| names.contains(t)).collect()
        };
        let tables = both(&start, &wanted);
        let rows = counted(&mut self.one, &tables);
        let change = change(&start, &wanted, &Renames::default());
        match run(&mut self.one, &change.up) {
            Ok(()) => {
                same(&wanted, &self.one.read(), &change.up)?;
                prop_assert_eq!(rows, counted(&mut self.one, &tables), "{}", change.up.join(";\n"));
            }
            Err(e) => {
                let said = e.to_string();
                let known = [
                    "constraint failed",
                    "cannot store",
                    "would be broken",
                    "null value",
                    "is violated",
                    "invalid input",
                    "out of range",
                    "contains null",
                    "duplicate",
                    "could not create unique",
                    "cannot cast",
                    "malformed",
                    "overflow",
                    "too long",
                ];
                prop_assert!(known.iter().any(|k| said.contains(k)), "{said}");
            }
        }
        Ok(())
    }

    fn there_and_back(&mut self, from: &Dice, to: &Dice) -> Result<(), TestCaseError> {
        let wanted = self.build(to)?;
        let start = self.build(from)?;
        let scripts = format!("FROM\n{}\nTO\n{}", (self.script)(from), (self.script)(to));
        let renames = if to.renamed {
            Renames {
                tables: vec![(from.name(0), to.name(0))],
                columns: vec![(to.name(1), from.column_name(1, 0), to.column_name(1, 0))],
            }
        } else {
            Renames::default()
        };
        for (from, to, renames) in [(&start, &wanted, renames.clone()), (&wanted, &start, renames.reversed())] {
            let change = change(from, to, &renames);
            prop_assert_eq!(&change.not_generated, &Vec::<String>::new());
            let done = run(&mut self.one, &change.up).and_then(|()| same(to, &self.one.read(), &change.up));
            done.map_err(|e| TestCaseError::fail(format!("{e}\n{scripts}")))?;
        }
        Ok(())
    }
}

#[track_caller]
fn all<S: Strategy>(usual: u32, strategy: S, mut test: impl FnMut(S::Value) -> Result<(), TestCaseError>) {
    let cell = std::cell::RefCell::new(&mut test);
    if let Err(e) = TestRunner::new(config(usual)).run(&strategy, |value| (cell.borrow_mut())(value)) {
        panic!("{e}");
    }
}
