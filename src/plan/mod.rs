//! From files a user writes to a checked, frozen plan.

mod codec;
mod config;
mod document;
pub(crate) mod dotenv;
mod merge;
mod migration;
mod model;
mod pairs;
mod reshape;
mod said;

pub use codec::*;
pub use config::{Config, Control, Lookup, RollbackConfig, Service, SwitchConfig, Unset, redact, set_it};
pub use document::{At, ConfigError, Place, duration};
pub use merge::{Merge, Part, Split, SplitPart};
pub use migration::{DanglingRows, Migration, Migrations, Transfer, TransferColumn, TransferTable};
pub use model::*;
pub use pairs::{KeyForm, KeyMap, Pair};
pub use reshape::{AlterColumn, AlterTable, By, ColumnChange, Rekey, Reshape, SoftReference};
pub use said::{Made, Said, Teller};

use config::redact_keeping_length;
pub(crate) use config::{read, store_url};
pub(crate) use document::{Document, Text, did_you_mean};
pub(crate) use migration::order;

#[cfg(test)]
mod tests;
