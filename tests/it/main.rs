//! All tests against real files and servers, in one binary so that it links once.
#![allow(missing_docs)]

mod app;
mod cli;
mod contract;
mod database;
mod examples;
mod faults;
mod first_week;
mod in_place;
mod json;
mod pairs;
mod postgres;
mod protocol;
mod random;
mod room;
mod scenarios;
mod sqlite;
mod sweep;
mod traps_a;
mod traps_b;
mod traps_c;
mod verification;
mod ways;
mod writers;
