//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs, dead_code)]

mod adopt;
mod between;
mod catalog;
#[path = "../it/database.rs"]
mod database;
mod ends;
mod faults;
mod generate;
mod halfway;
mod kept;
mod log;
mod model;
mod peers;
mod project;
mod proof;
mod run;
mod splitting;
mod stacked;
