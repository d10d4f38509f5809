//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs, dead_code)]

mod catalog;
#[path = "../it/database.rs"]
mod database;
mod ends;
mod faults;
mod halfway;
mod kept;
mod model;
mod project;
mod proof;
mod run;
mod splitting;
mod stacked;
