//! The seccomp agent: whoever listens at a profile's `listenerPath` and answers what its filter notifies.
//!
//! The process that loads the filter only tells its number for the listener. Whoever made the process takes the descriptor out of
//! it and sends it to the agent with the state of the container: one message, one descriptor, as the runtime-spec 1.3 has it
//! (config-linux.md, "The Container Process State"). The connection is made before the start, so that an agent that is not
//! there fails it early, and from where the host's paths can be seen, which a shim cannot.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use corten_base::ErrorKind;
use oci_spec::runtime::{ContainerProcessState, ContainerState, LinuxSeccomp, SECCOMP_FD_NAME, Spec, State};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

/// The agent cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the seccomp agent at {}", path.display())]
pub struct Error {
    /// `listenerPath`.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Error {
    /// The kind for the faces' tables.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}

/// A connection to an agent, and what it will be told.
#[derive(Debug)]
pub struct Agent {
    socket: OwnedFd,
    state: ContainerProcessState,
}

/// Whose process loads the filter.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// `Creating` for its first process, `Running` for a further one.
    pub status: ContainerState,
}

impl Agent {
    /// Connects to the agent of `spec`'s profile, if it names one. To be called where the path is the host's.
    pub fn connect(spec: &Spec, container: Container) -> Result<Option<Agent>, Error> {
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let Some((profile, path)) = profile.and_then(|profile| Some((profile, profile.listener_path().as_deref()?)))
        else {
            return Ok(None);
        };
        let socket = UnixStream::connect(path).map_err(|source| Error { path: path.to_owned(), source })?;
        Ok(Some(Agent { socket: socket.into(), state: state(spec, profile, container) }))
    }

    /// From its parts, as another process has handed them over.
    pub fn from_parts(socket: OwnedFd, state: ContainerProcessState) -> Agent {
        Agent { socket, state }
    }

    /// What it will be told, but for the process id.
    pub fn state(&self) -> &ContainerProcessState {
        &self.state
    }

    /// Takes the listener `fd` out of the process behind `pidfd` and sends it. `pid` is the process as the caller's PID
    /// namespace sees it. Does not wait for an answer, as there is none, nor for room in the socket.
    pub fn tell(mut self, pidfd: BorrowedFd<'_>, pid: i32, fd: i32) -> io::Result<()> {
        let listener = pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?;
        self.state.set_pid(pid);
        self.state.state_mut().set_pid(Some(pid));
        let packet = serde_json::to_vec(&self.state)?;
        let fds = [listener.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = rustix::net::sendmsg(&self.socket, &[IoSlice::new(&packet)], &mut control, flags)?;
        if sent == packet.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl AsFd for Agent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn state(spec: &Spec, profile: &LinuxSeccomp, container: Container) -> ContainerProcessState {
    let mut inner = State::default();
    inner
        .set_version(spec.version().clone())
        .set_id(container.id)
        .set_status(container.status)
        .set_bundle(container.bundle)
        .set_annotations(spec.annotations().clone());
    let mut state = ContainerProcessState::default();
    state
        .set_version(spec.version().clone())
        .set_fds(vec![SECCOMP_FD_NAME.to_owned()])
        .set_metadata(profile.listener_metadata().clone())
        .set_state(inner);
    state
}
