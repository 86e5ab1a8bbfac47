//! The few kinds of failure that a face (HTTP, command line) tells apart.

use std::fmt;

/// What sort of failure an error is, as a caller without the details sees it.
///
/// Each error type of the project answers `kind()`; one table per face turns the kind into a status or an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// The request contradicts the present state, such as a name in use.
    Conflict,
    /// The input is malformed or not allowed by its own rules.
    Invalid,
    /// The thing is already in the wanted state.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Known, but not allowed.
    Denied,
    /// Something needed does not answer just now; trying again may help.
    Unavailable,
    /// The feature is not there.
    NotImplemented,
    /// The caller gave up.
    Cancelled,
    /// A failure of the engine or the system below it.
    Internal,
}

impl ErrorKind {
    /// The kind's name in lower case, as logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Invalid => "invalid",
            ErrorKind::NotModified => "not modified",
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Denied => "denied",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::NotImplemented => "not implemented",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
