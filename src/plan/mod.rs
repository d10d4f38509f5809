//! From files a user writes to a checked, frozen plan.

mod codec;
mod model;

pub use codec::*;
pub use model::*;

// TEMP until config lands
/// t
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    #[allow(missing_docs)]
    pub from: String,
    #[allow(missing_docs)]
    pub to: String,
    #[allow(missing_docs)]
    pub tables: Vec<TransferTable>,
    #[allow(missing_docs)]
    pub columns: Vec<TransferColumn>,
    #[allow(missing_docs)]
    pub only: Vec<String>,
    #[allow(missing_docs)]
    pub exclude: Vec<String>,
    #[allow(missing_docs)]
    pub rename: Vec<(String, String)>,
}
/// t
#[derive(Clone, Debug, Default)]
pub struct TransferTable {
    #[allow(missing_docs)]
    pub source: String,
    #[allow(missing_docs)]
    pub key: Vec<String>,
    #[allow(missing_docs)]
    pub into: String,
    #[allow(missing_docs)]
    pub required: Vec<String>,
}
/// t
#[derive(Clone, Debug, Default)]
pub struct TransferColumn {
    #[allow(missing_docs)]
    pub table: String,
    #[allow(missing_docs)]
    pub column: String,
    #[allow(missing_docs)]
    pub ty: Option<String>,
    #[allow(missing_docs)]
    pub codec: Option<String>,
}
