//! Databases and files made at random, in which everything is mixed that is known to go wrong: each is refused in `plan` by name with
//! nothing changed, or goes there, takes writes, and comes back exact.
//!
//! A few are tried in CI; `BACKOUT_TEST_RANDOM=500` tries so many. A failure prints what it was made of, shrunk, and its seed,
//! which proptest keeps in `proptest-regressions/` and tries first from then on.

mod alike;
mod json;
mod sqlite;
mod tour;

use proptest::test_runner::Config;

/// So many cases, unless the environment asks for more.
fn cases(usual: u32) -> Config {
    let asked = std::env::var("BACKOUT_TEST_RANDOM").ok().and_then(|n| n.parse().ok());
    Config { cases: asked.unwrap_or(usual), max_shrink_iters: 200, ..Config::default() }
}
