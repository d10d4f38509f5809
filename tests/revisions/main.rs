//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs)]

// each of the two programs of tests needs a part of it
#[allow(dead_code)]
#[path = "../it/database.rs"]
mod database;

mod catalog;
