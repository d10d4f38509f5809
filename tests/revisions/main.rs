//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs, dead_code)]

mod adopt;
mod catalog;
#[path = "../it/database.rs"]
mod database;
mod faults;
mod peers;
mod project;
mod run;
mod stacked;
