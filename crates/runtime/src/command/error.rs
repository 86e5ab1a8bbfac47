//! What a command fails with: one text, as it is printed and logged, and the exit code.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;

use rustix::io::Errno;

use crate::failure::describe;

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
    pub(super) fn doing<E: StdError + 'static>(what: impl Display) -> impl FnOnce(E) -> Error {
        move |error| Error::new(format!("{what}: {}", chain(&error)))
    }

    /// The same with other words in front.
    pub(super) fn within(self, what: &str) -> Error {
        Error { message: format!("{what}: {}", self.message), ..self }
    }
}

/// An error and its causes, on one line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = own_text(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {}", own_text(error));
        cause = error.source();
    }
    text
}

/// The kernel's answers read as in the messages of Docker and runc.
fn own_text(error: &(dyn StdError + 'static)) -> String {
    match (error.downcast_ref::<io::Error>(), error.downcast_ref::<Errno>()) {
        (Some(error), _) if error.raw_os_error().is_some() => describe(error),
        (_, Some(errno)) => describe(&(*errno).into()),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answers_read_as_runcs() {
        let kernel = || io::Error::from_raw_os_error(22);
        let cgroup = corten_cgroup::Error::Write { file: "/a/pids.max".into(), value: "x".into(), source: kernel() };
        let check = |error: Error, expect: &str| assert_eq!(error.message, expect);
        check(Error::doing("a")(kernel()), "a: invalid argument");
        check(Error::doing("a")(Errno::NOENT), "a: no such file or directory");
        check(Error::doing("a")(cgroup), "a: failed to write \"x\": write /a/pids.max: invalid argument");
        check(Error::doing("a")(io::Error::other("Some text")), "a: Some text");
    }
}
