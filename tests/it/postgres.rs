//! The postgres store, on real ones.
