//! How a shim comes to be, from the daemon's side.
//!
//! Executing a program costs a process more than everything else it does until it is warm: its pages are faulted in anew, and
//! the host's mounts are copied and left. So that is done once, by a [`Zygote`]: the warm shims are copies of it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use corten_runtime::Plan;
use corten_sys::process::Child;
use corten_sys::slate::Slate;
use corten_sys::socket::Seqpacket;
use corten_sys::{memfd, mount, process};

use crate::client::{Connection, Error};
use crate::zygote::{Answer, MAX_ANSWER, Wish};

/// How long a zygote may take for a copy of itself on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The executable that shims run: a read-only, detached view of the file, so that nothing inside a container can
/// reach the host's file for writing through `/proc/<pid>/exe`, while all shims share its pages.
#[derive(Debug)]
pub struct Executable {
    file: OwnedFd,
    path: PathBuf,
}

impl Executable {
    /// Opens the file at `path`, usually `/proc/self/exe`. The caller needs CAP_SYS_ADMIN.
    pub fn open(path: &Path) -> Result<Executable, Error> {
        let file = mount::read_only_view(path).map_err(|source| Error::Spawn { path: path.into(), source })?;
        Ok(Executable { file, path: path.into() })
    }
}

/// How a warm shim prepares itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct WarmOptions {
    /// Makes the init stub at start instead of at warm-up: for cgroup v2, where it is cloned into its cgroup.
    pub late_init: bool,
}

/// A shim that was just spawned. It sends [`Event::Ready`](crate::protocol::Event::Ready) on its connection when it is warm.
#[derive(Debug)]
pub struct Spawned {
    /// The connection.
    pub connection: Connection,
    /// The process; the caller reaps it after the connection has closed.
    pub child: Child,
}

/// The process that warm shims are copies of, `corten shim`. It ends when this is dropped; its shims stay.
#[derive(Debug)]
pub struct Zygote {
    socket: Seqpacket,
    child: Child,
    /// Has the shim that it has made and not told of yet.
    births: Slate,
}

impl Zygote {
    /// Starts one, without forking the caller (posix_spawn). Its shims can prepare themselves for containers like `usual`.
    pub fn start(executable: &Executable, usual: Option<&Plan>) -> Result<Zygote, Error> {
        let (births, file) = Slate::shared().map_err(Error::Io)?;
        let (socket, child) = execute(executable, Stdio::from(file), None, None)?;
        let zygote = Zygote { socket, child, births };
        if let Some(usual) = usual {
            let plan = serde_json::to_vec(usual).map_err(Error::Malformed)?;
            let plan = memfd::sealed("plan", &plan).map_err(Error::Io)?;
            zygote.send(Wish::Expect, plan.as_fd())?;
        }
        Ok(zygote)
    }

    /// Makes a warm shim, a child of the calling process as the zygote is. [`Error::Closed`] if the zygote is gone. Blocks for
    /// the time of a fork(2). After any error but [`Error::Failed`] it is to be dropped: a late answer is not the next one's.
    pub fn spawn(&mut self, options: WarmOptions) -> Result<Spawned, Error> {
        let (ours, theirs) = Seqpacket::pair().map_err(Error::Io)?;
        ours.set_nonblocking(true).map_err(Error::Io)?;
        self.send(Wish::Shim { late_init: options.late_init }, theirs.as_fd())?;
        if !self.socket.wait_readable(PATIENCE).map_err(Error::Io)? {
            return Err(Error::Timeout(PATIENCE));
        }
        let (packet, mut fds) = self.socket.recv_sized(MAX_ANSWER).map_err(closed)?;
        if packet.is_empty() {
            return Err(Error::Closed);
        }
        match serde_json::from_slice(&packet).map_err(Error::Malformed)? {
            Answer::Shim { pid } => {
                let pidfd = fds.pop().ok_or_else(|| Error::Unexpected("a zygote without a pidfd".into()))?;
                if self.births.birth() != Some(pid) {
                    return Err(Error::Unexpected(format!("process {pid}, which the zygote has not made,")));
                }
                self.births.forget_birth();
                Ok(Spawned { connection: Connection::new(ours), child: Child { pid, pidfd } })
            }
            Answer::Failed(failure) => Err(failure.into()),
        }
    }

    /// Ends a shim that the zygote made and did not live to tell of. It is a child of this process, so that its number is its own.
    fn reap_untold(&self) {
        if let Some(Ok(mut shim)) = self.births.birth().map(Child::open) {
            let _ = shim.kill();
            let _ = shim.wait();
        }
    }

    fn send(&self, wish: Wish, fd: BorrowedFd<'_>) -> Result<(), Error> {
        let packet = serde_json::to_vec(&wish).map_err(Error::Malformed)?;
        self.socket.send(&packet, &[fd]).map_err(closed)
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It waits for its next wish, or for nothing that lasts.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.reap_untold();
    }
}

/// A peer that is gone is told apart from a socket that does not work.
fn closed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Closed,
        _ => Error::Io(error),
    }
}

/// Spawns a shim for a container that another runtime makes, without forking the caller. It looks programs up in `path`, which
/// is all of its and the runtime's environment.
pub fn spawn_external(executable: &Executable, path: Option<&OsStr>) -> Result<Spawned, Error> {
    let (socket, child) = execute(executable, Stdio::null(), Some("--external"), path)?;
    socket.set_nonblocking(true).map_err(Error::Io)?;
    Ok(Spawned { connection: Connection::new(socket), child })
}

fn execute(
    executable: &Executable,
    stdout: Stdio,
    flag: Option<&str>,
    path: Option<&OsStr>,
) -> Result<(Seqpacket, Child), Error> {
    let failed = |source| Error::Spawn { path: executable.path.clone(), source };
    let (ours, theirs) = Seqpacket::pair().map_err(failed)?;
    let mut child = Command::new(process::fd_path(executable.file.as_fd()))
        .arg0("corten")
        .arg("shim")
        .args(flag)
        .env_clear()
        .envs(path.map(|path| ("PATH", path)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    // Nobody has waited for it: the number is its own.
    match Child::open(child.id().cast_signed()) {
        Ok(child) => Ok((ours, child)),
        Err(error) => {
            // It ends with its connection.
            drop(ours);
            let _ = child.wait();
            Err(failed(error))
        }
    }
}
