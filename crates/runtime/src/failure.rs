//! Why a process could not be started, in the words and exit codes that Docker's users know.

use std::fmt;
use std::io;

use corten_base::ErrorKind;
use serde::{Deserialize, Serialize};

/// What sort of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The command does not exist: exit code 127.
    NotFound,
    /// The command exists and cannot be executed: exit code 126.
    NotExecutable,
    /// A setting of the container is not possible: exit code 125 or 128 as the caller sees fit.
    Invalid,
    /// The container (or exec) is not in the state that the request needs.
    Conflict,
    /// The host refused something.
    Internal,
}

/// A failed start or exec, as it is reported to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What sort.
    pub kind: FailureKind,
    /// One sentence with its cause, such as `exec: "nosuch": executable file not found in $PATH`.
    pub message: String,
}

impl Failure {
    /// A failure with a text of its own.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    /// What was being done, and the kernel's answer.
    pub fn host(what: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::new(FailureKind::Internal, format!("{what}: {}", describe(error)))
    }

    /// The exit code that `docker run` and `docker start` give: 127, 126, else 128.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            FailureKind::NotFound => 127,
            FailureKind::NotExecutable => 126,
            _ => 128,
        }
    }

    /// The kind for the faces' tables. Docker answers 400 to a command that cannot be run.
    pub fn kind(&self) -> ErrorKind {
        match self.kind {
            FailureKind::NotFound | FailureKind::NotExecutable | FailureKind::Invalid => ErrorKind::Invalid,
            FailureKind::Conflict => ErrorKind::Conflict,
            FailureKind::Internal => ErrorKind::Internal,
        }
    }
}

/// The error's text without Rust's "(os error n)", in lower case as Go prints it.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match (letters.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_as_dockers() {
        assert_eq!(describe(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(describe(&io::Error::from_raw_os_error(8)), "exec format error");
        assert_eq!(describe(&io::Error::from_raw_os_error(21)), "is a directory");
    }
}
