//! The socket to which a runtime sends the terminal's other side.
//!
//! Source: runc's docs/terminals.md, "Detached": one message on a stream socket, with the descriptor.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_sys::socket::Seqpacket;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::lookup::describe;

/// A listening console socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    path: String,
    file: PathBuf,
    _directory: OwnedFd,
}

impl Console {
    /// Listens in a directory. The address leads there through this process's descriptors: a socket's has room for 107 bytes
    /// only, and the directory's path may have more.
    pub(super) fn listen(directory: &Path, name: &str) -> io::Result<Console> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = openat(CWD, directory, flags, Mode::empty())?;
        let path = format!("/proc/{}/fd/{}/{name}", std::process::id(), handle.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Console { listener, path, file: directory.join(name), _directory: handle })
    }

    /// The address, for the runtime.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Takes the terminal that a runtime which has succeeded has sent.
    pub(super) fn receive(self, deadline: Instant) -> Result<OwnedFd, String> {
        let failed = |reason: String| format!("the runtime has sent no terminal: {reason}");
        let (connection, _) = self.listener.accept().map_err(|error| failed(describe(&error)))?;
        let socket = Seqpacket::from(OwnedFd::from(connection));
        let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(10));
        if !socket.wait_readable(left).map_err(|error| failed(describe(&error)))? {
            return Err(failed("it is silent".into()));
        }
        // The text is the terminal's name, which nobody needs.
        let packet = socket.recv(&mut [0; 4096]).map_err(|error| failed(describe(&error)))?;
        packet.fds.into_iter().next().ok_or_else(|| failed("its message has no descriptor".into()))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}
