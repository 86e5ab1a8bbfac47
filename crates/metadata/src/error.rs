//! What can go wrong with the record store, in its callers' words.

use std::io;
use std::path::PathBuf;

use corten_base::ErrorKind;
use rusqlite::ffi;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the record store itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened or isn't a database.
    #[error("cannot open the metadata database {}", path.display())]
    Open {
        /// Where the database was looked for.
        path: PathBuf,
        /// Why it could not be opened.
        source: rusqlite::Error,
    },
    /// The file can't be made (a missing folder, a read-only file system).
    #[error("cannot create the metadata database {}", path.display())]
    Create {
        /// Where it should have been.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A room's tables come from a later version of the program.
    #[error(
        "the metadata database was written by a newer version of corten: {room} is at version {found}, this corten knows {known}"
    )]
    Newer {
        /// The room whose tables are too new.
        room: &'static str,
        /// The version in the database.
        found: usize,
        /// The newest version this program knows.
        known: usize,
    },
    /// A room's tables could not be brought to the newest version.
    #[error("cannot update the tables of {room} to version {version}")]
    Migrate {
        /// The room.
        room: &'static str,
        /// The version that failed.
        version: usize,
        /// The database's answer.
        source: rusqlite::Error,
    },
    /// No space is left for the change; nothing of it was kept.
    #[error("cannot record the change: no space left on device")]
    Full {
        /// The database's answer.
        source: rusqlite::Error,
    },
    /// The group of changes this one belonged to could not be committed; nothing of it was kept.
    #[error("cannot record the change: {reason}")]
    Commit {
        /// The database's answer, shared by all changes of the group.
        reason: String,
    },
    /// A statement failed.
    #[error("metadata query failed")]
    Sql(#[source] rusqlite::Error),
    /// The writer thread could not be started.
    #[error("cannot start the metadata writer")]
    Spawn(#[source] io::Error),
    /// The closure that should have made the change panicked; nothing of it was kept.
    #[error("a metadata change panicked")]
    Panicked,
    /// A change was asked for from within another change.
    #[error("a metadata change was started within another one")]
    Nested,
    /// The writer thread has ended.
    #[error("the metadata database is closed")]
    Closed,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Full { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }

    /// The same failure for another change of the same group.
    pub(crate) fn again(&self) -> Error {
        match self {
            Error::Full { .. } => Error::Full { source: full() },
            other => Error::Commit { reason: chain(other) },
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Error {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::Full { source },
            _ => Error::Sql(source),
        }
    }
}

fn full() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None)
}

/// The message with those of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
