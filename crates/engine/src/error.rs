//! What can go wrong in the engine, in Docker's words where its clients match on them.
//!
//! A message says what failed here; the cause is in `source()`. [`Error::message`] joins the chain with colons, which is the text
//! that Docker's API answers with.

use std::error::Error as StdError;

use corten_base::{ContainerId, ErrorKind};

/// A failed operation on containers, executions, or the engine itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several ids begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousPrefix(String),
    /// No execution has this id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name without its slash.
        name: String,
        /// Who has it.
        id: ContainerId,
    },
    /// The operation does not fit the container's state.
    #[error(transparent)]
    Refused(#[from] crate::life::Refusal),
    /// The request contradicts the state of something else.
    #[error("{0}")]
    Conflict(String),
    /// The request is malformed or impossible.
    #[error("{0}")]
    Invalid(String),
    /// Something named in the request does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Something that is not there yet.
    #[error("{0} is not implemented")]
    NotImplemented(String),
    /// The container's program could not be started.
    #[error("{message}")]
    Launch {
        /// What Docker's user reads.
        message: String,
        /// What `inspect` shows as the exit code: 126, 127 or 128.
        exit_code: i32,
    },
    /// An error with what was tried in front of it, in one line as Docker writes it.
    #[error("{what}")]
    Context {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// The engine is ending, or the container's task is gone.
    #[error("{0}")]
    Unavailable(String),
    /// The image room's own error.
    #[error(transparent)]
    Images(#[from] corten_images::Error),
    /// The network room's own error.
    #[error(transparent)]
    Network(#[from] corten_network::Error),
    /// The volume room's own error.
    #[error(transparent)]
    Volumes(#[from] corten_volumes::Error),
    /// A mechanism below failed.
    #[error("{what}")]
    Failed {
        /// What the engine was doing.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// Wraps a mechanism's error with what was being done.
    pub(crate) fn failed<E: StdError + Send + Sync + 'static>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::Failed { what, source: Box::new(source) }
    }

    /// Which sort of failure it is, for a face's table.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoSuchContainer(_) | Error::NoSuchExec(_) | Error::NotFound(_) => ErrorKind::NotFound,
            Error::NameInUse { .. } | Error::Conflict(_) => ErrorKind::Conflict,
            Error::AmbiguousPrefix(_) | Error::Invalid(_) => ErrorKind::Invalid,
            Error::Refused(refusal) => refusal.kind(),
            Error::NotImplemented(_) => ErrorKind::NotImplemented,
            // Docker answers 400 where the container's own settings are to blame, and 500 for the rest.
            Error::Launch { exit_code: 126 | 127, .. } => ErrorKind::Invalid,
            Error::Launch { .. } | Error::Failed { .. } => ErrorKind::Internal,
            Error::Unavailable(_) => ErrorKind::Unavailable,
            Error::Context { source, .. } => source.kind(),
            // A registry that can't be reached is no state of this daemon: Docker answers 500 then.
            Error::Images(error) if is_of_registry(error) && error.kind() == ErrorKind::Unavailable => {
                ErrorKind::Internal
            }
            Error::Images(error) => error.kind(),
            Error::Network(error) => error.kind(),
            Error::Volumes(error) => error.kind(),
        }
    }

    /// The whole chain in one line.
    pub fn message(&self) -> String {
        chain(self)
    }
}

/// Whether it is about a registry, as a whole or for a part of an image.
fn is_of_registry(error: &corten_images::Error) -> bool {
    match error {
        corten_images::Error::Registry(_) => true,
        corten_images::Error::Part { source, .. } => is_of_registry(source),
        _ => false,
    }
}

/// An error and its causes, joined with colons.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let reason = reason(cause);
        // Some errors name their cause in their own message, where Docker's text has it so.
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        next = cause.source();
    }
    text
}

/// A cause's text; the system's own as Docker's users know them: `no space left on device`, without Rust's `(os error 28)`.
fn reason(cause: &dyn StdError) -> String {
    let text = cause.to_string();
    let Some((system, number)) = text.rsplit_once(" (os error ") else { return text };
    if !number.ends_with(')') {
        return text;
    }
    let mut letters = system.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
