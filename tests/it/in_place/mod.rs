//! Changes in place: source and target are tables of one store.

mod by_sql;
mod everything;
mod flow;
mod histories;
mod house;
mod kills;
mod merging;
mod numbers;
mod own_keys;
mod partly;
mod plan;
mod postgres;
mod references;
mod sqlite;
mod sweep;
mod types;
