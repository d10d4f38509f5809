//! Migrations you can take back.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::exit)
)]

pub mod app;
pub mod gate;
pub mod journal;
pub mod mapping;
pub mod plan;
pub mod store;
pub mod value;
