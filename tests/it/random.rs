//! Databases and files made at random, in which everything is mixed that is known to go wrong: each is refused in `plan` by name with
//! nothing changed, or goes there, takes writes, and comes back exact.
//!
//! A few are tried in CI; `BACKOUT_TEST_RANDOM=500` tries so many. A failure prints what it was made of, shrunk, and its seed,
//! which proptest keeps in `proptest-regressions/` and tries first from then on.

mod alike;
mod json;
mod sqlite;
mod tour;

use proptest::test_runner::{Config, RngSeed};

/// So many cases, unless the environment asks for more.
fn cases(usual: u32) -> Config {
    let asked: Option<u32> = std::env::var("BACKOUT_TEST_RANDOM").ok().and_then(|n| n.parse().ok());
    // the usual ones are the same each time, so that whoever changes nothing meets nothing new; those asked for are new ones
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) };
    Config { cases: asked.unwrap_or(usual), max_shrink_iters: 200, rng_seed, ..Config::default() }
}
