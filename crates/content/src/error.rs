//! What can go wrong with blobs.

use std::io;
use std::path::{Path, PathBuf};

use corten_base::{Digest, ErrorKind};

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the blob store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such blob.
    #[error("content {0}: not found")]
    NotFound(Digest),
    /// The bytes are not what was promised; they were thrown away.
    #[error("content digest mismatch: expected {expected}, got {actual}")]
    Mismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// Another number of bytes than was promised; they were thrown away.
    #[error("content size mismatch: expected {expected} bytes, got {actual}")]
    Size {
        /// The size that was promised.
        expected: u64,
        /// The size that came, or was reached when it was too much.
        actual: u64,
    },
    /// A blob is larger than its reader is willing to take into memory.
    #[error("content {digest} is too large: {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The reader's limit.
        limit: u64,
    },
    /// The disk has less room than the blob needs; it was not begun.
    #[error("no space left on device: {needed} bytes are needed, {free} are free")]
    Full {
        /// The bytes that would come.
        needed: u64,
        /// The bytes that there is room for.
        free: u64,
    },
    /// The reference is being written by somebody else.
    #[error("content {0} is being written by another operation")]
    Busy(String),
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
    /// The record store failed.
    #[error(transparent)]
    Metadata(#[from] corten_metadata::Error),
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Mismatch { .. } | Error::Size { .. } | Error::TooLarge { .. } => ErrorKind::Invalid,
            Error::Busy(_) => ErrorKind::Conflict,
            Error::Full { .. } => ErrorKind::Unavailable,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::Unavailable,
            Error::Io { .. } => ErrorKind::Internal,
            Error::Metadata(error) => error.kind(),
        }
    }

    /// Whether the disk failed, and not this process's means or rights.
    #[must_use]
    pub fn is_disks_fault(&self) -> bool {
        let Error::Io { source, .. } = self else { return false };
        source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { operation, path, source }
    }
}

impl From<corten_metadata::rusqlite::Error> for Error {
    fn from(error: corten_metadata::rusqlite::Error) -> Error {
        Error::Metadata(error.into())
    }
}
