//! What can go wrong with volumes, in Docker's words where its clients read them.

use corten_base::{ErrorKind, InvalidName};
use std::io;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a volume operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// Containers refer to the volume.
    #[error("remove {name}: volume is in use - [{}]", users.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// The containers' ids.
        users: Vec<String>,
    },
    /// The name breaks the rules.
    #[error("create {name}: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong.
        reason: InvalidName,
    },
    /// The name belongs to a volume of another driver.
    #[error("create {name}: conflict: volume name must be unique")]
    Conflict {
        /// The name.
        name: String,
    },
    /// There is no such driver.
    #[error("create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found")]
    NoDriver {
        /// The volume.
        name: String,
        /// The driver.
        driver: String,
    },
    /// The driver's options are wrong.
    #[error("create {name}: {reason}")]
    InvalidOptions {
        /// The volume.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A `-v` text that can't be understood, with Docker's reason.
    #[error("{0}")]
    InvalidSpec(String),
    /// The volume's file system can't be mounted.
    #[error("error while mounting volume '{}': failed to mount local volume: {reason}", mountpoint)]
    Mount {
        /// Where it should appear.
        mountpoint: String,
        /// What the kernel said.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The record store failed.
    #[error("cannot access volume records")]
    Metadata(#[from] corten_metadata::Error),
    /// A stored record can't be understood.
    #[error("cannot read the record of volume {0}")]
    Record(String, #[source] serde_json::Error),
}

impl Error {
    /// Which sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound(_) | Error::NoDriver { .. } => ErrorKind::NotFound,
            Error::InUse { .. } | Error::Conflict { .. } => ErrorKind::Conflict,
            Error::InvalidName { .. } | Error::InvalidOptions { .. } | Error::InvalidSpec(_) => ErrorKind::Invalid,
            Error::Mount { .. } | Error::Io { .. } | Error::Metadata(_) | Error::Record(..) => ErrorKind::Internal,
        }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source }
    }
}
