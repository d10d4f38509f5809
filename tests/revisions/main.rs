//! Tests of SQL revisions against real files and servers.
#![allow(missing_docs)]

#[path = "../it/database.rs"]
mod database;
