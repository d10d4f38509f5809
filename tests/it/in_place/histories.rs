//! Schemas, changes in place and histories of writes, all at random: at each moment the application finds what a model of its tables
//! says, and a rollback brings the source back with every write in it and everything else as it was.
//!
//! The model is a database of the same shape that Backout never sees. It takes the same statements, and says of each the same; values
//! that the new shape has no column for stay beside their rows in it.
//!
//! `BACKOUT_TEST_HISTORIES=20000` plays so many, all of them new ones; `BACKOUT_TEST_SEED=7` that one alone. A failure prints its seed
//! and every statement.

mod base;
mod crossing;
mod dice;
mod migrations;
mod play;
mod schemas;
mod shape;
mod writes;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::play::{Ended, Play};

/// What of each kind there was.
#[derive(Default)]
struct Count {
    all: usize,
    ends: BTreeMap<String, usize>,
}

/// Plays every `of`th history from `first` on.
fn histories(usual: u64, first: u64, of: u64, mut play: impl FnMut(u64, &mut Play) -> Ended) {
    let number = |name: &str| {
        std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (one, asked) = (number("BACKOUT_TEST_SEED"), number("BACKOUT_TEST_HISTORIES"));
    let base = if asked.is_some() { rand_seed() } else { 0 };
    let seeds: Vec<u64> = match one {
        Some(seed) => vec![seed].into_iter().filter(|s| s % of == first).collect(),
        None => (0..asked.unwrap_or(usual)).map(|n| base + n).filter(|n| n % of == first).collect(),
    };
    let mut count = Count::default();
    let mut failed = Vec::new();
    for seed in seeds {
        let mut p = Play::default();
        let done = catch_unwind(AssertUnwindSafe(|| play(seed, &mut p)));
        match done {
            Ok(end) => {
                count.all += 1;
                *count.ends.entry(end.to_string()).or_default() += 1;
                for told in p.told {
                    *count.ends.entry(told).or_default() += 1;
                }
            }
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
                let said = p.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                failed.push((said, seed, why));
            }
        }
    }
    // the shortest is the one to read
    failed.sort_by_key(|(said, ..)| said.len());
    if let Some((said, seed, why)) = failed.first() {
        let others: Vec<String> =
            failed.iter().map(|(_, seed, why)| format!("{seed}: {}", why.lines().next().unwrap_or(why))).collect();
        println!("{}\n\nthese fail:\n{}", said.join("\n"), others.join("\n"));
        panic!("the history above fails: {why}\nagain: BACKOUT_TEST_SEED={seed}");
    }
    println!("{} histories: {:?}", count.all, count.ends);
    let refused: usize = count.ends.iter().filter(|(k, _)| k.starts_with("refused")).map(|(_, n)| n).sum();
    assert!(refused * 2 <= count.all, "most are refused");
}

fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() * 1_000_000
}

/// What CI has time for; a thousand and more by the argument.
const SQLITE: u64 = 640;
/// The same on a server, where each takes many times as long.
const POSTGRES: u64 = 16;

#[test]
fn sqlite_alters_and_rekeys_1() {
    histories(SQLITE, 0, 4, |seed, p| play::sqlite(seed, play::Wanted::Alter, p));
}

#[test]
fn sqlite_alters_and_rekeys_2() {
    histories(SQLITE, 1, 4, |seed, p| play::sqlite(seed, play::Wanted::Alter, p));
}

#[test]
fn sqlite_alters_and_rekeys_3() {
    histories(SQLITE, 2, 4, |seed, p| play::sqlite(seed, play::Wanted::Alter, p));
}

#[test]
fn sqlite_merges() {
    histories(SQLITE, 3, 4, |seed, p| play::sqlite(seed, play::Wanted::Merge, p));
}

#[test]
fn postgres_alters_and_rekeys() {
    let server = play::Server::new();
    histories(POSTGRES, 0, 2, |seed, p| play::postgres(seed, play::Wanted::Alter, p, &server));
}

#[test]
fn postgres_merges() {
    let server = play::Server::new();
    histories(POSTGRES, 1, 2, |seed, p| play::postgres(seed, play::Wanted::Merge, p, &server));
}
