//! How a command ends: with an exit status, or with a message and one.

use corten_client::Error as ClientError;

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A command's unsuccessful end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Everything has been said already, or the status itself is the message.
    #[error("exit status {0}")]
    Status(u8),
    /// A message for stderr.
    #[error("{text}")]
    Message {
        /// What the user reads.
        text: String,
        /// The process's exit status.
        status: u8,
    },
    /// The daemon refused or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Failure {
    /// A message with exit status 1.
    pub fn message(text: impl Into<String>) -> Failure {
        Failure::Message { text: text.into(), status: 1 }
    }

    /// True when the daemon said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Failure::Client(error) if error.is_not_found())
    }
}

impl From<corten_base::InvalidReference> for Failure {
    /// Docker's client repeats the library's words alone.
    fn from(error: corten_base::InvalidReference) -> Failure {
        Failure::message(error.to_string())
    }
}

/// A local operation's failure: what was attempted and what the system said.
pub(crate) fn local(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::message(format!("{what}: {}", plain_io(&error)))
}

/// A system error in the words of Go programs: lower case, without the number.
pub(crate) fn plain_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
