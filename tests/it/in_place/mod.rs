//! Changes in place: source and target are tables of one store.

mod by_sql;
mod flow;
mod histories;
mod house;
mod kills;
mod merging;
mod numbers;
mod partly;
mod plan;
mod postgres;
mod sqlite;
mod sweep;
mod types;
