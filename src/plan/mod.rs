//! From files a user writes to a checked, frozen plan.

mod model;

pub use model::*;
