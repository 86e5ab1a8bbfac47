//! What can go wrong with layers and snapshots.

use std::io;
use std::path::{Path, PathBuf};

use corten_base::{ChainId, ErrorKind};

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the layer store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such layer.
    #[error("layer {0} does not exist")]
    NoLayer(ChainId),
    /// No such active snapshot.
    #[error("snapshot {0} does not exist")]
    NoSnapshot(String),
    /// There is one with this key already.
    #[error("snapshot {0} already exists")]
    Exists(String),
    /// Something stands on the layer.
    #[error("layer {0} is in use")]
    InUse(ChainId),
    /// A file could not be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The overlay could not be mounted.
    #[error("cannot mount the overlay of {layers} layers on {}", upper.display())]
    Mount {
        /// The number of lower directories.
        layers: usize,
        /// The writable directory.
        upper: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The record store failed.
    #[error(transparent)]
    Metadata(#[from] corten_metadata::Error),
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoLayer(_) | Error::NoSnapshot(_) => ErrorKind::NotFound,
            Error::Exists(_) | Error::InUse(_) => ErrorKind::Conflict,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::Unavailable,
            Error::Io { .. } | Error::Mount { .. } => ErrorKind::Internal,
            Error::Metadata(error) => error.kind(),
        }
    }

    pub(crate) fn io<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { operation, path, source: source.into() }
    }
}

impl From<corten_metadata::rusqlite::Error> for Error {
    fn from(error: corten_metadata::rusqlite::Error) -> Error {
        Error::Metadata(error.into())
    }
}
