//! Mappings: pure, no I/O.

/// stub
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Codec {
    Same,
}
