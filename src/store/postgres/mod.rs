//! The postgres store.

use crate::gate::Gate;
use crate::store::{Error, Result, Store};

/// Opens it.
///
/// # Errors
/// [`Error::Input`] or [`Error::Server`].
pub fn open(location: &str, _gate: &Gate) -> Result<Box<dyn Store>> {
    Err(Error::Input { store: location.to_owned(), cause: "not built yet".into(), hint: String::new() })
}
