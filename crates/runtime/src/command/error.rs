//! What a command fails with: one text, as it is printed and logged, and the exit code.

use std::error::Error as StdError;
use std::fmt::Display;

/// A failed command.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) message: String,
    pub(super) code: u8,
}

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Fails with exit code 1.
    pub(super) fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), code: 1 }
    }

    /// For `map_err`: what was done, and the causes.
    pub(super) fn doing<E: StdError>(what: impl Display) -> impl FnOnce(E) -> Error {
        move |error| Error::new(format!("{what}: {}", chain(&error)))
    }

    /// The same with other words in front.
    pub(super) fn within(self, what: &str) -> Error {
        Error { message: format!("{what}: {}", self.message), ..self }
    }
}

/// An error and its causes, on one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
