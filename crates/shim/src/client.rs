//! The daemon's side of a shim: typed requests, received messages. How a shim comes to be is [`crate::spawn`]'s.
//!
//! Everything here is synchronous over a non-blocking socket: an async caller registers the connection's descriptor
//! with its reactor, calls [`Connection::try_recv`] when it is readable and the request methods at any time (a request
//! is one small packet; the socket buffer holds hundreds).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_base::ErrorKind;
use corten_runtime::agent::Agent;
use corten_runtime::{Failure, NamespaceKind, NamespaceSource, PidNamespace, Plan, ProcessPlan};
use corten_sys::memfd;
use corten_sys::socket::Seqpacket;

use crate::protocol::{
    Assign, Attach, AttachMode, Command, Event, Exec, ExitStatus, External, Freeze, LogConfig, MAX_FDS, MAX_PACKET,
    Message, Prepare, Request, Resize, Signal, Start, Streams, Target, TerminalSize,
};

/// What can go wrong between the daemon and a shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim's executable could not be opened or started.
    #[error("cannot start a shim from {}", path.display())]
    Spawn {
        /// The executable.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection could not be made.
    #[error("cannot connect to the shim at {}", path.display())]
    Connect {
        /// The adoption socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Sending or receiving failed.
    #[error("the connection to the shim failed")]
    Io(#[source] io::Error),
    /// The shim is gone.
    #[error("the shim has closed its connection")]
    Closed,
    /// No answer in time.
    #[error("the shim did not answer within {0:?}")]
    Timeout(Duration),
    /// A packet that is not understood.
    #[error("the shim sent a malformed message")]
    Malformed(#[source] serde_json::Error),
    /// An answer that does not fit the request.
    #[error("the shim answered {0} unexpectedly")]
    Unexpected(String),
    /// More descriptors than one packet carries.
    #[error("{0} descriptors are too many for one start (at most {MAX_FDS})")]
    TooManyFds(usize),
    /// The shim carried the request out and failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Error {
    /// The kind for the faces' tables.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Failed(failure) => failure.kind(),
            Error::TooManyFds(_) => ErrorKind::Invalid,
            Error::Timeout(_) | Error::Closed | Error::Connect { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }
}

/// One daemon's connection to one shim.
#[derive(Debug)]
pub struct Connection {
    socket: Seqpacket,
    next: u64,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Connection {
    fn as_raw_fd(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket.as_fd())
    }
}

/// Everything that a start hands over besides the plan.
#[derive(Debug)]
pub struct StartRequest<'a> {
    /// What to apply. With a user namespace the container's new namespaces are made along with it, also the network namespace: the
    /// shim's belongs to the host's root, and nobody in there could set it up.
    pub plan: &'a Plan,
    /// The root file system: a detached mount.
    pub rootfs: BorrowedFd<'a>,
    /// Mount trees for [`Plan::sources`], in that order (see [`corten_runtime::sources::open_sources`]).
    pub sources: &'a [BorrowedFd<'a>],
    /// Namespaces for [`Plan::joins`], in that order (see [`corten_runtime::sources::open_namespaces`]).
    pub namespaces: &'a [BorrowedFd<'a>],
    /// Cgroup directories: v1 one per hierarchy, v2 one.
    pub cgroups: &'a [BorrowedFd<'a>],
    /// Which of them the memory controller has.
    pub memory: Option<u8>,
    /// True when the init has to join `cgroups` now: not if they are those that it was prepared with.
    pub join_cgroups: bool,
    /// Standard streams and log.
    pub streams: Streams,
    /// Clients attached before the process runs.
    pub attach: &'a [(AttachMode, BorrowedFd<'a>)],
    /// Who answers what the seccomp filter notifies.
    pub agent: Option<&'a Agent>,
    /// The program waits for a byte from this pipe, or its end, which ends the start.
    pub hold: Option<BorrowedFd<'a>>,
    /// The filter that the plan lacks is that of the zygote's usual plan.
    pub usual_filter: bool,
}

/// What a start by another runtime hands over.
#[derive(Debug)]
pub struct ExternalStart<'a> {
    /// Who makes the container.
    pub runtime: External,
    /// The runtime-spec's document, for the bundle. What it names below the bundle is where [`Bundle`](crate::protocol::Bundle) says.
    pub document: &'a [u8],
    /// The root file system: a detached mount.
    pub rootfs: BorrowedFd<'a>,
    /// Mount trees that the bundle shall have.
    pub sources: &'a [BorrowedFd<'a>],
    /// Cgroup directories: v1 one per hierarchy, v2 one. The runtime puts the container there by itself.
    pub cgroups: &'a [BorrowedFd<'a>],
    /// Which of them the memory controller has.
    pub memory: Option<u8>,
    /// Standard streams and log.
    pub streams: Streams,
    /// Clients attached before the process runs.
    pub attach: &'a [(AttachMode, BorrowedFd<'a>)],
}

/// What an exec runs.
#[derive(Clone, Copy, Debug)]
pub enum ExecProcess<'a> {
    /// By the shim itself.
    Plan(&'a ProcessPlan),
    /// By the container's own runtime: the runtime-spec's Process, and whether it has a terminal.
    Document(&'a [u8], bool),
}

impl ExecProcess<'_> {
    fn terminal(&self) -> bool {
        match self {
            ExecProcess::Plan(plan) => plan.terminal,
            ExecProcess::Document(_, terminal) => *terminal,
        }
    }

    fn sealed(&self) -> Result<OwnedFd, Error> {
        match self {
            ExecProcess::Plan(plan) => {
                let plan = serde_json::to_vec(plan).map_err(Error::Malformed)?;
                memfd::sealed("process", &plan).map_err(Error::Io)
            }
            ExecProcess::Document(text, _) => memfd::sealed("process", text).map_err(Error::Io),
        }
    }
}

/// An agent's state as it crosses the socket.
fn agent_state(agent: Option<&Agent>) -> Result<Option<OwnedFd>, Error> {
    let Some(agent) = agent else { return Ok(None) };
    let state = serde_json::to_vec(agent.state()).map_err(Error::Malformed)?;
    memfd::sealed("agent", &state).map(Some).map_err(Error::Io)
}

impl Connection {
    pub(crate) fn new(socket: Seqpacket) -> Connection {
        Connection { socket, next: 1 }
    }

    /// Connects to a running shim's adoption socket.
    pub fn connect(path: &Path) -> Result<Connection, Error> {
        let failed = |source| Error::Connect { path: path.into(), source };
        let socket = Seqpacket::connect(path).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Connection::new(socket))
    }

    /// Sends a command with its descriptors; returns the number that its answer carries as `re`.
    pub fn send(&mut self, command: Command, fds: &[BorrowedFd<'_>]) -> Result<u64, Error> {
        if fds.len() > MAX_FDS {
            return Err(Error::TooManyFds(fds.len()));
        }
        let seq = self.next;
        self.next += 1;
        let packet = serde_json::to_vec(&Request { seq, command }).map_err(Error::Malformed)?;
        self.socket.send(&packet, fds).map_err(Error::Io)?;
        Ok(seq)
    }

    /// Takes the next message, if one has arrived. [`Error::Closed`] once the shim is gone.
    pub fn try_recv(&mut self) -> Result<Option<(Message, Vec<OwnedFd>)>, Error> {
        match self.socket.recv_sized(MAX_PACKET) {
            Ok((packet, _)) if packet.is_empty() => Err(Error::Closed),
            Ok((packet, fds)) => {
                let message = serde_json::from_slice(&packet).map_err(Error::Malformed)?;
                Ok(Some((message, fds)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Error::Closed),
            Err(error) => Err(Error::Io(error)),
        }
    }

    /// Waits for the next message.
    pub fn recv(&mut self, timeout: Duration) -> Result<(Message, Vec<OwnedFd>), Error> {
        loop {
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            if !self.socket.wait_readable(timeout).map_err(Error::Io)? {
                return Err(Error::Timeout(timeout));
            }
        }
    }

    /// Waits for the answer to request `seq`; messages that come before it are given to `other` in their order.
    pub fn recv_answer(
        &mut self,
        seq: u64,
        timeout: Duration,
        mut other: impl FnMut(Message, Vec<OwnedFd>),
    ) -> Result<(Event, Vec<OwnedFd>), Error> {
        loop {
            let (message, fds) = self.recv(timeout)?;
            match message {
                Message { re: Some(re), event: Event::Failed(failure) } if re == seq => return Err(failure.into()),
                Message { re: Some(re), event } if re == seq => return Ok((event, fds)),
                message => other(message, fds),
            }
        }
    }

    /// Has the warm shim mount beforehand what its zygote's usual plan asks for, and its init join `cgroups`. To be sent when
    /// the pool is filled; answered by [`Event::Done`].
    pub fn prepare(&mut self, cgroups: &[BorrowedFd<'_>]) -> Result<u64, Error> {
        self.send(Command::Prepare(Prepare { cgroups: cgroups.len() }), cgroups)
    }

    /// Binds the shim to a container; `run` and `directory`, where its log is, are its own directories. Answered by
    /// [`Event::Done`].
    pub fn assign(
        &mut self,
        container_id: &str,
        run: BorrowedFd<'_>,
        directory: BorrowedFd<'_>,
        log: LogConfig,
    ) -> Result<u64, Error> {
        self.send(Command::Assign(Assign { container_id: container_id.into(), log }), &[run, directory])
    }

    /// Starts the container. Answered by [`Event::Started`] or [`Event::Failed`].
    pub fn start(&mut self, request: &StartRequest<'_>) -> Result<u64, Error> {
        let plan = serde_json::to_vec(request.plan).map_err(Error::Malformed)?;
        let plan = memfd::sealed("plan", &plan).map_err(Error::Io)?;
        let mut fds = vec![plan.as_fd(), request.rootfs];
        fds.extend(request.sources);
        fds.extend(request.namespaces);
        fds.extend(request.cgroups);
        fds.extend(request.attach.iter().map(|(_, socket)| *socket));
        let state = agent_state(request.agent)?;
        fds.extend(request.agent.map(AsFd::as_fd));
        fds.extend(state.as_ref().map(AsFd::as_fd));
        fds.extend(request.hold);
        let namespaces: Vec<NamespaceKind> = request.plan.joins().iter().map(|join| join.kind).collect();
        let start = Start {
            sources: request.sources.len(),
            namespaces,
            pid: request.plan.namespaces.pid_mode(),
            user: request.plan.namespaces.user != NamespaceSource::Host,
            cgroups: request.cgroups.len(),
            memory: request.memory,
            join_cgroups: request.join_cgroups,
            streams: request.streams.clone(),
            attach: request.attach.iter().map(|(mode, _)| *mode).collect(),
            agent: request.agent.is_some(),
            held: request.hold.is_some(),
            usual_filter: request.usual_filter,
            external: None,
        };
        self.send_start(start, &fds)
    }

    /// Has another runtime start the container. Answered by [`Event::Started`] or [`Event::Failed`].
    pub fn start_external(&mut self, request: ExternalStart<'_>) -> Result<u64, Error> {
        let document = memfd::sealed("document", request.document).map_err(Error::Io)?;
        let mut fds = vec![document.as_fd(), request.rootfs];
        fds.extend(request.sources);
        fds.extend(request.cgroups);
        fds.extend(request.attach.iter().map(|(_, socket)| *socket));
        let start = Start {
            sources: request.sources.len(),
            namespaces: Vec::new(),
            pid: PidNamespace::New,
            user: false,
            cgroups: request.cgroups.len(),
            memory: request.memory,
            join_cgroups: false,
            streams: request.streams,
            attach: request.attach.iter().map(|(mode, _)| *mode).collect(),
            agent: false,
            held: false,
            usual_filter: false,
            external: Some(request.runtime),
        };
        self.send_start(start, &fds)
    }

    fn send_start(&mut self, start: Start, fds: &[BorrowedFd<'_>]) -> Result<u64, Error> {
        let (ahead, last) = fds.split_at(fds.len().saturating_sub(MAX_FDS));
        for some in ahead.chunks(MAX_FDS) {
            self.send(Command::Descriptors, some)?;
        }
        self.send(Command::Start(start), last)
    }

    /// Attaches a client's stream socket. Answered by [`Event::Done`].
    pub fn attach(&mut self, exec_id: Option<&str>, mode: AttachMode, socket: BorrowedFd<'_>) -> Result<u64, Error> {
        self.send(Command::Attach(Attach { exec_id: exec_id.map(Into::into), mode }), &[socket])
    }

    /// Runs another process in the container. Answered by [`Event::ExecStarted`] or [`Event::Failed`].
    pub fn exec(
        &mut self,
        exec_id: &str,
        process: ExecProcess<'_>,
        size: Option<TerminalSize>,
        attach: Option<(AttachMode, BorrowedFd<'_>)>,
        agent: Option<&Agent>,
    ) -> Result<u64, Error> {
        let plan = process.sealed()?;
        let mut fds = vec![plan.as_fd()];
        fds.extend(attach.map(|(_, socket)| socket));
        let state = agent_state(agent)?;
        fds.extend(agent.map(AsFd::as_fd));
        fds.extend(state.as_ref().map(AsFd::as_fd));
        let exec = Exec {
            exec_id: exec_id.into(),
            tty: process.terminal(),
            size,
            attach: attach.map(|(mode, _)| mode),
            agent: agent.is_some(),
        };
        self.send(Command::Exec(exec), &fds)
    }

    /// Sets the size of the container's or an exec's terminal. Answered by [`Event::Done`].
    pub fn resize(&mut self, exec_id: Option<&str>, size: TerminalSize) -> Result<u64, Error> {
        self.send(Command::Resize(Resize { exec_id: exec_id.map(Into::into), size }), &[])
    }

    /// Sends a signal to the container's init or an exec's process. Answered by [`Event::Done`].
    pub fn signal(&mut self, exec_id: Option<&str>, signal: i32) -> Result<u64, Error> {
        self.send(Command::Signal(Signal { exec_id: exec_id.map(Into::into), signal }), &[])
    }

    /// Has the container's own runtime freeze or thaw it. Answered by [`Event::Done`] or [`Event::Failed`].
    pub fn freeze(&mut self, on: bool) -> Result<u64, Error> {
        self.send(Command::Freeze(Freeze { on }), &[])
    }

    /// Has the container's own runtime set limits, the runtime-spec's LinuxResources. Answered by [`Event::Done`] or
    /// [`Event::Failed`].
    pub fn limit(&mut self, resources: &[u8]) -> Result<u64, Error> {
        let resources = memfd::sealed("resources", resources).map_err(Error::Io)?;
        self.send(Command::Limit, &[resources.as_fd()])
    }

    /// Closes standard input. Answered by [`Event::Done`].
    pub fn close_stdin(&mut self, exec_id: Option<&str>) -> Result<u64, Error> {
        self.send(Command::CloseStdin(Target { exec_id: exec_id.map(Into::into) }), &[])
    }

    /// Asks for the state. Answered by [`Event::State`] with the network namespace's descriptor.
    pub fn state(&mut self) -> Result<u64, Error> {
        self.send(Command::State, &[])
    }

    /// Lets the shim end; to be called once the exit is recorded. Answered by [`Event::Done`], then the connection closes.
    pub fn release(&mut self) -> Result<u64, Error> {
        self.send(Command::Release, &[])
    }
}

/// Reads the exit status that a shim left in its run directory; none if there is none.
pub fn read_exit_status(run_directory: &Path) -> Result<Option<ExitStatus>, Error> {
    match std::fs::read(run_directory.join(crate::protocol::EXIT_NAME)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(Error::Malformed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io(error)),
    }
}
