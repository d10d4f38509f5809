//! Changes in place: source and target are tables of one store.

mod flow;
mod house;
mod merging;
mod numbers;
mod plan;
mod postgres;
mod sqlite;
mod sweep;
mod types;
