//! The application around the data: services and switches; each action has its inverse.

mod files;
mod services;
mod switches;

use std::path::PathBuf;

pub use switches::{State, Switch};

use crate::gate::{Gate, Refused};
use crate::plan::{Config, Service};

/// What could not be done to the application. Nothing here shows a value that a switch sets, only names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A service's command failed, did not end in time, or the service is not as it should be.
    #[error("cannot {operation} {object}: {cause}{}", tail(output))]
    Service {
        /// `stop`, `start` or `check`.
        operation: &'static str,
        /// Which service.
        object: String,
        /// What happened.
        cause: String,
        /// The end of what the command printed.
        output: String,
        /// What to do.
        hint: String,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}: {cause}", path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
        /// What to do.
        hint: String,
    },
    /// A file that a switch finds otherwise than it can be; it is left as it is.
    #[error("cannot {operation} {}: {cause}", path.display())]
    Refused {
        /// `switch` or `switch back`.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// A test made this effect fail.
    #[error(transparent)]
    Gate(#[from] Refused),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        match self {
            Error::Service { hint, .. } | Error::File { hint, .. } | Error::Refused { hint, .. } => hint,
            Error::Gate(_) => "",
        }
    }
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

fn tail(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it said:\n{output}") }
}

/// The services and switches of a project, for one run.
pub struct App {
    folder: PathBuf,
    services: Vec<Service>,
    switches: Vec<Box<dyn Switch>>,
    gate: Gate,
}

impl App {
    /// The application as `config` describes it. `run` is in the names of the files that undo its switches.
    ///
    /// # Errors
    /// Two switches are of the same file.
    pub fn new(config: &Config, run: &str, gate: &Gate) -> Result<App> {
        let switches = switches::from_config(&config.switches, run, gate)?;
        let (folder, services) = (config.folder.clone(), config.services.clone());
        Ok(App { folder, services, switches, gate: gate.clone() })
    }

    /// Whether there is any service that can be stopped.
    pub fn has_services(&self) -> bool {
        !self.services.is_empty()
    }

    /// Stops all services in the order of backout.toml, and sees that those with a check are down.
    ///
    /// # Errors
    /// The first that cannot be stopped; those before it are down.
    pub fn stop(&self) -> Result<()> {
        self.services.iter().try_for_each(|service| services::stop(service, &self.folder, &self.gate))
    }

    /// Starts all services in the reverse order.
    ///
    /// # Errors
    /// The first that cannot be started; those before it run.
    pub fn start(&self) -> Result<()> {
        self.services.iter().rev().try_for_each(|service| services::start(service, &self.folder, &self.gate))
    }

    /// Waits until all services that can be checked are well, each within its timeout.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<()> {
        self.services.iter().rev().try_for_each(|service| services::check(service, &self.folder, &self.gate))
    }

    /// The switches, in the order of backout.toml.
    pub fn switches(&self) -> &[Box<dyn Switch>] {
        &self.switches
    }

    /// Sets all switches; those that are set are left. May be run again after it was cut off.
    ///
    /// # Errors
    /// The first that cannot be set; those before it are, and `undo` takes them back.
    pub fn apply(&self) -> Result<()> {
        self.switches.iter().try_for_each(|switch| switch.apply())
    }

    /// Takes all switches back in the reverse order. Returns what was left because someone changed it since. May be run
    /// again after it was cut off.
    ///
    /// # Errors
    /// The first that cannot be taken back.
    pub fn undo(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for switch in self.switches.iter().rev() {
            notes.extend(switch.undo()?);
        }
        Ok(notes)
    }

    /// Removes what would undo the switches; they stay as they are.
    ///
    /// # Errors
    /// The first file that cannot be removed.
    pub fn forget(&self) -> Result<()> {
        self.switches.iter().try_for_each(|switch| switch.forget())
    }
}
