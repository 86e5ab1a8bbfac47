//! Where a process under construction stops for those around it: hooks before the root is entered, and the start.
//!
//! Before the root is entered it tells [`Note::Mounted`] and waits for any packet; the packet's absence means that
//! whoever made it is gone or gave up. Once its program is found it tells [`Note::Ready`] and waits for a byte from the
//! start file, a FIFO that it holds open both ways: the start may come from another process, long after its maker ended.
//! Both waits use the plainest system calls, because a seccomp filter may be in force by then.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{ContainerState, Hook, State};

use super::report::{Explain, Note, Reporter};
use crate::{Failure, FailureKind, hooks};

/// The stops of one process.
#[derive(Debug, Default)]
pub struct Gate {
    /// Stop when the mounts are made.
    pub stop_mounted: bool,
    /// Run in the container's namespaces, with the host's files still there, after that stop.
    pub create_container: Vec<Hook>,
    /// Run in the container just before its program.
    pub start_container: Vec<Hook>,
    /// What hooks are told; the process adds its own id.
    pub state: State,
    /// The bundle, where `create_container` hooks run.
    pub bundle: PathBuf,
    /// The start file; none starts at once.
    pub start: Option<OwnedFd>,
}

/// The reading end of a pipe: a byte comes when all is there that the program shall find and that the making of its mounts did
/// not need. Its end without one means that whoever makes the container is gone or gave up.
#[derive(Debug)]
pub struct Hold(pub OwnedFd);

impl Hold {
    /// The stop before the process takes on its identity.
    pub(super) fn wait(self) -> Result<(), Failure> {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut [0; 1]));
        match read.explain("waiting for the container's surroundings")? {
            0 => Err(Failure::new(FailureKind::Conflict, "the start was given up")),
            _ => Ok(()),
        }
    }
}

impl Gate {
    /// The stop before the root is entered.
    pub(super) fn mounted(&self, reporter: &mut Reporter) -> Result<(), Failure> {
        if !self.stop_mounted {
            return Ok(());
        }
        reporter.reached(&Note::Mounted)?;
        let go = reporter.socket().recv(&mut [0; 8]).explain("waiting for the hooks")?;
        if go.length == 0 {
            return Err(Failure::new(FailureKind::Conflict, "the runtime is gone"));
        }
        self.run("createContainer", &self.create_container, ContainerState::Creating, Some(&self.bundle))
    }

    /// The stop before the program.
    pub(super) fn ready(&self, reporter: &mut Reporter) -> Result<(), Failure> {
        if let Some(start) = &self.start {
            reporter.reached(&Note::Ready)?;
            let mut go = [0];
            rustix::io::retry_on_intr(|| rustix::io::read(start, &mut go)).explain("waiting for the start")?;
        }
        self.run("startContainer", &self.start_container, ContainerState::Created, None)
    }

    fn run(
        &self,
        stage: &str,
        list: &[Hook],
        status: ContainerState,
        directory: Option<&PathBuf>,
    ) -> Result<(), Failure> {
        if list.is_empty() {
            return Ok(());
        }
        let mut state = self.state.clone();
        state.set_status(status).set_pid(Some(rustix::process::getpid().as_raw_nonzero().get()));
        let directory = directory.map(PathBuf::as_path);
        hooks::run(stage, list, &state, directory)
            .map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))
    }
}
