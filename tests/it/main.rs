//! All tests against real files and servers, in one binary so that it links once.
#![allow(missing_docs)]

mod app;
mod cli;
mod contract;
mod database;
mod examples;
mod first_week;
mod json;
mod pairs;
mod postgres;
mod protocol;
mod room;
mod scenarios;
mod sqlite;
mod sweep;
mod traps_b;
mod ways;
