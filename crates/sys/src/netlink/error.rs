//! What the kernel refused, in the words of the request.

use std::fmt;
use std::io;

/// A failed netlink request.
#[derive(Debug)]
pub enum Error {
    /// The socket could not be made or used.
    Socket(io::Error),
    /// The kernel refused a request.
    Refused {
        /// What was asked: `create link veth0`.
        request: String,
        /// The kernel's own words, if it had some.
        detail: Option<String>,
        /// The error number.
        source: io::Error,
    },
    /// No answer came in time.
    Timeout {
        /// What was asked.
        request: String,
    },
    /// An answer can't be understood.
    Malformed(&'static str),
    /// The namespace of the request can't be entered, or the thread for it not be started.
    Namespace(io::Error),
}

impl Error {
    /// The error number of a refusal or a failed system call.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Socket(source) | Error::Namespace(source) | Error::Refused { source, .. } => source.raw_os_error(),
            Error::Timeout { .. } | Error::Malformed(_) => None,
        }
    }

    /// Whether the thing asked for is not there (link, address, route, table, element).
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO))
    }

    /// Whether the thing to be made is already there.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Socket(_) => f.write_str("netlink socket failed"),
            Error::Refused { request, detail: Some(detail), .. } => write!(f, "{request}: {detail}"),
            Error::Refused { request, .. } => f.write_str(request),
            Error::Timeout { request } => write!(f, "{request}: no answer from the kernel"),
            Error::Malformed(what) => write!(f, "malformed netlink answer: {what}"),
            Error::Namespace(_) => f.write_str("cannot work in the network namespace"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Socket(source) | Error::Namespace(source) | Error::Refused { source, .. } => Some(source),
            Error::Timeout { .. } | Error::Malformed(_) => None,
        }
    }
}
