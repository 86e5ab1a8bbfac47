//! One process that the shim makes: from its request to its end.

use std::io;
use std::os::fd::OwnedFd;

use corten_runtime::apply::Note;
use corten_runtime::{Failure, FailureKind};
use corten_sys::process;

use crate::io::Io;
use crate::protocol::TerminalSize;
use crate::stub::Stub;
use crate::supervisor::Origin;

/// A process that was made here: the container's first, or an exec's.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) stub: Stub,
    pub(crate) io: Io,
    /// Size for the terminal when it comes.
    pub(crate) size: Option<TerminalSize>,
    /// The request to be answered when exec has happened; none once it has been.
    pub(crate) starting: Option<Origin>,
    pub(crate) warnings: Vec<String>,
    /// Keeps its mounts alive until its end has been reported.
    pub(crate) mounts: Vec<OwnedFd>,
    /// It ended before its start was answered.
    pub(crate) ended: Option<i32>,
    /// Its start failed.
    pub(crate) failed: bool,
}

impl Process {
    pub(crate) fn new(stub: Stub, io: Io, size: Option<TerminalSize>, origin: Origin) -> Process {
        let starting = Some(origin);
        Process { stub, io, size, starting, warnings: Vec::new(), mounts: Vec::new(), ended: None, failed: false }
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

    /// There will be no program.
    pub(crate) fn fail(&mut self, buffer: &mut Vec<u8>) {
        self.failed = true;
        self.mounts.clear();
        self.io.finish(buffer);
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
                Ok(None) if self.stub.leading => {
                    break Err(Failure::new(FailureKind::Internal, "the process that joins the namespaces has died"));
                }
                Ok(None) => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => break Err(Failure::host("cannot hear from the container's init", &error)),
            }
        };
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
            (Note::Moved { pid }, Some(pidfd)) => {
                self.stub.moved(pid, pidfd);
                if let Some(at) = strays.iter().position(|ended| ended.pid == pid) {
                    self.ended = Some(strays.swap_remove(at).code);
                }
            }
            (Note::Warning(text), _) => self.warnings.push(text),
            (Note::Failed(failure), _) => return Err(failure),
            (Note::Console | Note::Moved { .. }, None) => {
                return Err(Failure::new(FailureKind::Internal, "a descriptor was lost on the way"));
            }
        }
        Ok(())
    }
}
