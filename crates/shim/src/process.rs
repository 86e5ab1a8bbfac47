//! One process that the shim makes: from its request to its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_runtime::agent::Agent;
use corten_runtime::apply::Note;
use corten_runtime::{Failure, FailureKind};
use corten_sys::{precedence, process};

use crate::io::Io;
use crate::protocol::TerminalSize;
use crate::stub::Stub;
use crate::supervisor::Origin;

const SIGKILL: i32 = 9;

/// A process that was made here: the container's first, or an exec's.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) stub: Stub,
    pub(crate) io: Io,
    /// Size for the terminal when it comes.
    pub(crate) size: Option<TerminalSize>,
    /// The request to be answered when exec has happened; none once it has been.
    pub(crate) starting: Option<Origin>,
    /// Answers what its seccomp filter notifies.
    pub(crate) agent: Option<Agent>,
    /// The filter's listener in the process, as long as it is not known which process that is.
    listener: Option<i32>,
    pub(crate) warnings: Vec<String>,
    /// Keeps its mounts alive until its end has been reported.
    pub(crate) mounts: Vec<OwnedFd>,
    /// It ended before its start was answered.
    pub(crate) ended: Option<i32>,
    /// Its start failed.
    pub(crate) failed: bool,
}

impl Process {
    pub(crate) fn new(stub: Stub, io: Io, size: Option<TerminalSize>, origin: Origin, agent: Option<Agent>) -> Process {
        let (warnings, mounts) = (Vec::new(), Vec::new());
        Process {
            stub,
            io,
            size,
            starting: Some(origin),
            agent,
            listener: None,
            warnings,
            mounts,
            ended: None,
            failed: false,
        }
    }

    /// Its program runs, or has run: before that, whatever flows is not its own.
    pub(crate) fn flows(&self) -> bool {
        self.starting.is_none()
    }

    /// True if its present process is the one with this id. Once that has been reaped the id may be another's.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.stub.pid == pid && self.ended.is_none()
    }

    /// Its present process has ended; true if that is the end of a program.
    pub(crate) fn reaped(&mut self, code: i32) -> bool {
        if !self.stub.leading {
            self.ended = Some(code);
        }
        !self.stub.leading && !self.failed
    }

    /// The process that was led in takes over. It may have ended before this was known.
    fn moved(&mut self, pid: i32, pidfd: OwnedFd, strays: &mut Vec<process::Ended>) {
        self.stub.moved(pid, pidfd);
        if let Some(at) = strays.iter().position(|ended| ended.pid == pid) {
            self.ended = Some(strays.swap_remove(at).code);
        }
    }

    /// The leader names the process that it has led to, or the kernel on their slate; who could take the socket or the memory from one
    /// that is in the container already may have named another. It has to be a child of this process, which nothing but a leader's
    /// clone of a sibling makes.
    fn follow(&mut self, pid: i32, strays: &mut Vec<process::Ended>) -> Result<(), Failure> {
        if !process::is_child(pid) && !strays.iter().any(|ended| ended.pid == pid) {
            return Err(Failure::new(FailureKind::Internal, "a process was named that is none of the container's"));
        }
        self.take_over(pid, strays).map_err(|error| Failure::host("cannot name the container's init", &error))
    }

    /// The process with this id takes over. A number that has been reaped may be another's by now: then the leader's descriptor stays in
    /// its place.
    fn take_over(&mut self, pid: i32, strays: &mut Vec<process::Ended>) -> io::Result<()> {
        let reaped = strays.iter().any(|ended| ended.pid == pid);
        let pidfd = if reaped { self.stub.pidfd.try_clone() } else { process::open_pidfd(pid) };
        self.moved(pid, pidfd?, strays);
        Ok(())
    }

    /// Its program runs, or is not to. If its leader has not lived to name it, the kernel has noted which process it is.
    fn find_follower(&mut self, strays: &mut Vec<process::Ended>) -> Result<(), Failure> {
        self.stub.led().map_or(Ok(()), |pid| self.follow(pid, strays))
    }

    /// There will be no program.
    pub(crate) fn fail(&mut self, buffer: &mut Vec<u8>) {
        self.failed = true;
        // It ends by itself, unless its own filter keeps it from that, or the failure is on this side.
        let _ = process::signal_pidfd(self.stub.pidfd.as_fd(), SIGKILL);
        self.mounts.clear();
        self.io.discard(buffer);
    }

    /// Takes all notes that have come. Once the matter is decided: whom to answer, and what.
    pub(crate) fn take_notes(&mut self, strays: &mut Vec<process::Ended>) -> Option<(Origin, Result<(), Failure>)> {
        let outcome = loop {
            match self.stub.note() {
                Ok(Some((note, fds))) => {
                    if let Err(failure) = self.note(note, fds, strays) {
                        break Err(failure);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => break Err(Failure::host("cannot hear from the container's init", &error)),
            }
        };
        // Also where there will be no program: it is to be ended.
        let outcome = outcome.and(self.find_follower(strays));
        self.stub.decided();
        if outcome.is_ok() && self.ended.is_none() {
            precedence::end(self.stub.pid);
        }
        self.agent = None;
        self.starting.take().map(|origin| (origin, outcome))
    }

    fn note(&mut self, note: Note, fds: Vec<OwnedFd>, strays: &mut Vec<process::Ended>) -> Result<(), Failure> {
        match (note, fds.into_iter().next()) {
            (Note::Console, Some(primary)) => self.io.set_terminal(primary, self.size),
            (Note::MountNamespace, namespace) => self.mounts.extend(namespace),
            // What stands inside a container already has no further process to name: there it would be forged.
            (Note::Moved { .. }, _) if !self.stub.leading => {
                return Err(Failure::new(FailureKind::Internal, "a process was named that nobody was led to"));
            }
            (Note::Moved { pid }, Some(pidfd)) if self.stub.guiding => self.moved(pid, pidfd, strays),
            (Note::Moved { pid }, Some(_)) => self.follow(pid, strays)?,
            (Note::Listener { fd }, _) => self.listener = Some(fd),
            (Note::Warning(text), _) => self.warnings.push(text),
            (Note::Failed(failure), _) => return Err(failure),
            (Note::Mounted | Note::Ready, _) => {
                return Err(Failure::new(FailureKind::Internal, "the container's init waits for nobody"));
            }
            (Note::Console | Note::Moved { .. }, None) => {
                return Err(Failure::new(FailureKind::Internal, "a descriptor was lost on the way"));
            }
        }
        // Who was led in may tell of its listener before its leader has named it.
        match self.listener.take_if(|_| !self.stub.leading) {
            Some(listener) => self.tell_agent(listener),
            None => Ok(()),
        }
    }

    fn tell_agent(&mut self, listener: i32) -> Result<(), Failure> {
        let what = "cannot hand the seccomp listener to its agent";
        let Some(agent) = self.agent.take() else {
            return Err(Failure::new(FailureKind::Invalid, format!("{what}: there is none")));
        };
        agent
            .tell(self.stub.pidfd.as_fd(), self.stub.pid, listener)
            .and_then(|()| self.stub.reports()?.go_on())
            .map_err(|error| Failure::host(what, &error))
    }
}
