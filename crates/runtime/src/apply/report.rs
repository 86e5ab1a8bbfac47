//! What the process under construction tells its shim, over a close-on-exec socket: silence and its end mean success.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::socket::Seqpacket;
use serde::{Deserialize, Serialize};

use crate::failure::describe;
use crate::{Failure, FailureKind};

/// No text is longer.
const MAX_TEXT: usize = 4096;
/// No note is longer; a text grows when its control characters are escaped.
const MAX_NOTE: usize = 64 * 1024;

/// One message from the process under construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The terminal's other side comes along as a descriptor.
    Console,
    /// The mount namespace comes along: whoever holds it keeps the end of the process from taking the mounts down,
    /// which would delay the news of that end.
    MountNamespace,
    /// The process goes on as another one, whose pidfd comes along: the sender only led the way.
    Moved {
        /// Its id, as the host sees it.
        pid: i32,
    },
    /// Something was done otherwise than asked.
    Warning(String),
    /// The end.
    Failed(Failure),
}

/// The sending side.
#[derive(Debug)]
pub struct Reporter {
    socket: Seqpacket,
}

impl Reporter {
    /// Reports over `socket`.
    pub fn new(socket: Seqpacket) -> Reporter {
        Reporter { socket }
    }

    /// The socket, for what comes the other way.
    pub fn socket(&self) -> &Seqpacket {
        &self.socket
    }

    /// Hands the terminal's other side over.
    pub(super) fn console(&mut self, primary: OwnedFd) -> Result<(), Failure> {
        self.send(&Note::Console, &[primary.as_fd()]).explain("cannot hand the terminal over")
    }

    /// Hands the mount namespace over; without it the end is only reported later.
    pub fn mount_namespace(&mut self, namespace: OwnedFd) {
        let _ = self.send(&Note::MountNamespace, &[namespace.as_fd()]);
    }

    /// Tells that another process takes over.
    pub fn moved(&mut self, pid: i32, pidfd: OwnedFd) -> io::Result<()> {
        self.send(&Note::Moved { pid }, &[pidfd.as_fd()])
    }

    /// Tells of something that was done otherwise than asked; a lost warning is no reason to fail.
    pub(super) fn warn(&mut self, text: String) {
        let _ = self.send(&Note::Warning(short(text)), &[]);
    }

    /// Tells why there will be no program.
    pub fn failed(&mut self, failure: Failure) {
        let _ = self.send(&Note::Failed(Failure { message: short(failure.message), ..failure }), &[]);
    }

    fn send(&mut self, note: &Note, fds: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
        self.socket.send(&serde_json::to_vec(note)?, fds)
    }
}

/// A text that quotes what a user gave (a command, a path) may be of any length; whoever reads it needs its beginning
/// and its end, where the cause stands.
fn short(text: String) -> String {
    if text.len() <= MAX_TEXT {
        return text;
    }
    let (head, tail) = (text.floor_char_boundary(MAX_TEXT / 2), text.ceil_char_boundary(text.len() - MAX_TEXT / 2));
    format!("{}...{}", &text[..head], &text[tail..])
}

/// Takes one note from the shim's side of the socket; none once exec has happened (or the process is gone).
pub fn receive(socket: &Seqpacket) -> io::Result<Option<(Note, Vec<OwnedFd>)>> {
    let (packet, fds) = socket.recv_sized(MAX_NOTE)?;
    if packet.is_empty() {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&packet)?, fds)))
}

/// Names the operation that failed.
pub(super) trait Explain<T> {
    fn explain(self, what: &str) -> Result<T, Failure>;
    fn explain_with(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Explain<T> for Result<T, E> {
    fn explain(self, what: &str) -> Result<T, Failure> {
        self.explain_with(|| what.to_owned())
    }

    fn explain_with(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            Failure::new(FailureKind::Internal, format!("{}: {}", what(), describe(&error)))
        })
    }
}
