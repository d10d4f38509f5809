//! The json store, on real ones.
