//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs, dead_code)]

#[path = "../it/database.rs"]
mod database;
mod project;
mod run;
