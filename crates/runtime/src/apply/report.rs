//! What the process under construction tells whoever made it.
//!
//! Notes go over a close-on-exec socket, whose end means that the program runs or the process is gone. Which of the two is on
//! a [`Slate`]: the process marks that it is about to execute, and writes there why it could not, with no system call that a
//! seccomp filter could refuse or kill it for. A process that ends without either mark did not get that far.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use corten_sys::process::{self, Cloned};
use corten_sys::slate::Slate;
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
    /// The seccomp filter is loaded and notifies: to be handed to its agent (see [`crate::agent`]). The process waits for
    /// [`Reports::go_on`].
    Listener {
        /// The listener's descriptor number in the process.
        fd: i32,
    },
    /// All mounts are made, the root is not entered yet; the process waits for a packet.
    Mounted,
    /// The program was found; the process waits to be started.
    Ready,
    /// Something was done otherwise than asked.
    Warning(String),
    /// There will be no program; the last note.
    Failed(Failure),
}

/// On the slate: the process is about to execute.
const EXECUTING: u32 = 1;
/// On the slate: the text is a [`Failure`].
const FAILED: u32 = 2;

/// A channel to a copy of the calling process that is yet to be made: each side takes its end of it.
#[derive(Debug)]
pub struct Channel {
    ours: Seqpacket,
    theirs: Seqpacket,
    slate: Slate,
}

impl Channel {
    /// A new one.
    pub fn new() -> io::Result<Channel> {
        let (ours, theirs) = Seqpacket::pair()?;
        Ok(Channel { ours, theirs, slate: Slate::new()? })
    }

    /// The end of the process that made the copy.
    pub fn reports(self) -> Reports {
        Reports { socket: self.ours, slate: self.slate }
    }

    /// The copy's end.
    pub fn reporter(self) -> Reporter {
        Reporter { socket: self.theirs, slate: self.slate }
    }
}

/// The receiving side.
#[derive(Debug)]
pub struct Reports {
    socket: Seqpacket,
    slate: Slate,
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Reports {
    /// The socket, for what goes the other way.
    pub fn socket(&self) -> &Seqpacket {
        &self.socket
    }

    /// Takes one note; none once the program runs. After [`Note::Failed`] there is nothing more to come.
    pub fn receive(&self) -> io::Result<Option<(Note, Vec<OwnedFd>)>> {
        let (packet, fds) = self.socket.recv_sized(MAX_NOTE)?;
        if !packet.is_empty() {
            return Ok(Some((serde_json::from_slice(&packet)?, fds)));
        }
        let failure = match self.slate.marked() {
            EXECUTING => return Ok(None),
            FAILED => serde_json::from_slice(&self.slate.read())?,
            _ => Failure::new(FailureKind::Internal, "the process ended before it could execute its program"),
        };
        Ok(Some((Note::Failed(failure), Vec::new())))
    }

    /// The process that was [led in](Reporter::lead_in), also if its leader did not live to name it. It is a child of the caller's that
    /// nobody else reaps.
    pub fn led(&self) -> Option<i32> {
        self.slate.birth()
    }

    /// Lets the process go on that waits after [`Note::Listener`] or [`Note::Mounted`].
    pub fn go_on(&self) -> io::Result<()> {
        self.socket.send(b"go", &[])
    }
}

/// The sending side.
#[derive(Debug)]
pub struct Reporter {
    socket: Seqpacket,
    slate: Slate,
}

impl Reporter {
    /// The socket, for what comes the other way.
    pub fn socket(&self) -> &Seqpacket {
        &self.socket
    }

    /// Clones the process that takes over, as a sibling of the caller, which is to tell so with [`Reporter::moved`]. Should it be
    /// killed before it can (its cgroup is the container's already), [`Reports::led`] knows.
    pub fn lead_in(&self) -> io::Result<Cloned> {
        process::clone_sibling_noted(&self.slate)
    }

    /// Hands the terminal's other side over.
    pub fn console(&mut self, primary: OwnedFd) -> Result<(), Failure> {
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

    /// Tells how far the process has come, with a system call that every profile allows.
    pub(super) fn reached(&mut self, note: &Note) -> Result<(), Failure> {
        let what = "the runtime is gone";
        let note = serde_json::to_vec(note).map_err(io::Error::from).explain(what)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&self.socket, &note)).map(drop).explain(what)
    }

    /// Tells of something that was done otherwise than asked; a lost warning is no reason to fail.
    pub(super) fn warn(&mut self, text: String) {
        let _ = self.send(&Note::Warning(short(text)), &[]);
    }

    /// Has the filter's listener taken out of this process. The filter is in force: the two system calls here are those that a
    /// profile has to allow for runc, too (`write`), or may notify (`read`).
    pub(super) fn listener(&mut self, listener: BorrowedFd<'_>) -> Result<(), Failure> {
        let what = "cannot hand the seccomp listener over";
        let note =
            serde_json::to_vec(&Note::Listener { fd: listener.as_raw_fd() }).map_err(io::Error::from).explain(what)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&self.socket, &note)).explain(what)?;
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut [0; 8])).explain(what)? {
            0 => Err(Failure::new(FailureKind::Internal, format!("{what}: nobody took it"))),
            _ => Ok(()),
        }
    }

    /// Tells that the program is executed next (or by now, in a process that was led to): from now on only a failure says
    /// otherwise.
    pub fn executing(&mut self) {
        self.slate.mark(EXECUTING);
    }

    /// Tells why there will be no program.
    pub fn failed(&mut self, failure: Failure) {
        let failure = Failure { message: short(failure.message), ..failure };
        self.slate.write(&serde_json::to_vec(&failure).unwrap_or_default());
        self.slate.mark(FAILED);
    }

    fn send(&mut self, note: &Note, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
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
