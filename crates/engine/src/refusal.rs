//! Requests that don't fit a container's state.

use corten_base::ErrorKind;

/// A request that does not fit the state, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says it")]
pub enum Refusal {
    #[error("Container is already started")]
    AlreadyStarted,
    #[error("Container is already stopped")]
    AlreadyStopped,
    #[error("cannot start a paused container, try unpause instead")]
    StartPaused,
    #[error("container is marked for removal and cannot be started")]
    MarkedForRemoval,
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("Container {0} is already paused")]
    AlreadyPaused(String),
    #[error("Container {0} is not paused")]
    NotPaused(String),
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    #[error("Container {0} is paused, unpause the container before exec")]
    ExecPaused(String),
    #[error("removal of container {0} is already in progress")]
    RemovalInProgress(String),
    #[error(
        "cannot remove container \"{name}\": container is {state}: stop the container before removing or force remove"
    )]
    RemoveRunning { name: String, state: &'static str },
    #[error("cannot remove container \"{0}\": container is paused and must be unpaused first")]
    RemovePaused(String),
}

impl Refusal {
    /// `NotModified` where nothing needs doing, else `Conflict`.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Refusal::AlreadyStarted | Refusal::AlreadyStopped => ErrorKind::NotModified,
            _ => ErrorKind::Conflict,
        }
    }
}
