//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs, dead_code)]

mod adopt;
#[path = "../it/database.rs"]
mod database;
mod peers;
mod project;
mod run;
