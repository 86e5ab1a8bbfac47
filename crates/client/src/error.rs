//! What can go wrong between a command and the daemon.

use std::path::PathBuf;

use corten_base::ErrorKind;

/// The result of a client operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure to reach the daemon, to understand it, or an error that the daemon answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the endpoint.
    #[error("Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?")]
    Unreachable {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// What connect said.
        source: std::io::Error,
    },
    /// The socket exists, but this user may not open it.
    #[error("permission denied while trying to connect to the Docker daemon socket at {endpoint}")]
    SocketDenied {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// What connect said.
        source: std::io::Error,
    },
    /// The daemon answered with an error status.
    #[error("Error response from daemon: {message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// The daemon's own words.
        message: String,
    },
    /// The connection broke in the middle of a request or an answer.
    #[error("error during connect: {during}: {source}")]
    Broken {
        /// What was being done.
        during: &'static str,
        /// What the socket said.
        source: std::io::Error,
    },
    /// The peer does not speak the HTTP that was expected.
    #[error("the daemon's answer is not valid: {0}")]
    Protocol(String),
    /// The answer's JSON has another shape than expected.
    #[error("cannot decode the daemon's answer")]
    Decode(#[source] corten_api_types::InvalidJson),
    /// A host given on the command line or in the environment can't be used.
    #[error("{0}")]
    Endpoint(String),
    /// A program that keeps credentials failed.
    #[error("error {operation} credentials - err: {reason}, out: `{output}`")]
    Helper {
        /// `getting`, `storing` or `erasing`.
        operation: &'static str,
        /// How it ended.
        reason: String,
        /// What it said.
        output: String,
    },
    /// A named context can't be read.
    #[error("context \"{name}\": context not found: open {path}: {source}", path = path.display())]
    Context {
        /// The context's name.
        name: String,
        /// Its metadata file.
        path: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// The client's configuration file can't be read.
    #[error("cannot read the configuration file {path}: {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The kind of failure, by the daemon's status or by what happened on the way.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Unreachable { .. } | Error::Broken { .. } => ErrorKind::Unavailable,
            Error::SocketDenied { .. } => ErrorKind::Denied,
            Error::Api { status, .. } => kind_of_status(*status),
            Error::Protocol(_) | Error::Decode(_) | Error::Helper { .. } => ErrorKind::Internal,
            Error::Endpoint(_) | Error::Context { .. } | Error::Config { .. } => ErrorKind::Invalid,
        }
    }

    /// True when the daemon said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Api { status: 404, .. })
    }

    /// True when no daemon could be reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
    }

    /// The daemon's message without the usual prefix, or the whole text of any other error.
    pub fn message(&self) -> String {
        match self {
            Error::Api { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        304 => ErrorKind::NotModified,
        400 => ErrorKind::Invalid,
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        501 => ErrorKind::NotImplemented,
        503 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
