//! Failures of reading a log.

use std::io;
use std::path::PathBuf;

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Opening or reading a file failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory could not be watched for changes.
    #[error("cannot watch {path}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Always the system's failure.
    pub fn kind(&self) -> corten_base::ErrorKind {
        corten_base::ErrorKind::Internal
    }
}
