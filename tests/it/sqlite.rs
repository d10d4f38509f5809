//! The sqlite store, on real ones.
