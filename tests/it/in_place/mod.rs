//! Changes in place: source and target are tables of one store.

mod sqlite;
