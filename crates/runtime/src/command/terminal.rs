//! The container's terminal: handed to a console socket, or served from the caller's own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use corten_sys::pty;
use corten_sys::socket::Seqpacket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use super::error::{Error, Result};

/// Refuses a terminal that nobody would hold, and a socket that nothing would be sent to.
pub(super) fn check(terminal: bool, detached: bool, socket: Option<&str>) -> Result<()> {
    match (terminal, detached, socket) {
        (true, true, None) => {
            Err(Error::new("cannot allocate tty if the runtime will detach without setting console socket"))
        }
        (_, false, Some(_)) | (false, _, Some(_)) => {
            Err(Error::new("cannot use console socket if the runtime will not detach or allocate tty"))
        }
        _ => Ok(()),
    }
}

/// A terminal served from the caller's; the caller's is raw meanwhile.
#[derive(Debug)]
pub(super) struct Console {
    primary: OwnedFd,
    before: Option<Termios>,
    input_open: bool,
    /// Somebody in the container has the terminal open.
    output_open: bool,
}

impl Console {
    /// Hands the terminal to the socket, or takes it into service.
    pub(super) fn serve(primary: OwnedFd, socket: Option<&str>) -> Result<Option<Console>> {
        match socket {
            Some(path) => {
                // The receiver expects a terminal as open(2) makes it.
                let ready = rustix::io::ioctl_fionbio(&primary, false).map_err(io::Error::from);
                let sent = ready.and_then(|()| send(primary.as_fd(), b"/dev/ptmx", path));
                sent.map_err(Error::doing(format!("console socket {path}"))).map(|()| None)
            }
            None => Console::begin(primary).map(Some).map_err(Error::doing("cannot serve the terminal")),
        }
    }

    fn begin(primary: OwnedFd) -> io::Result<Console> {
        let stdin = rustix::stdio::stdin();
        let before = if isatty(stdin) { Some(tcgetattr(stdin)?) } else { None };
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin, OptionalActions::Flush, &raw)?;
        }
        let console = Console { primary, before, input_open: true, output_open: true };
        console.follow_size();
        Ok(console)
    }

    /// Takes the size of the caller's terminal over.
    pub(super) fn follow_size(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = pty::resize(self.primary.as_fd(), size.ws_col, size.ws_row);
        }
    }

    /// What to wait for: the terminal's output and the caller's input, while there is some.
    pub(super) fn sources(&self) -> (Option<BorrowedFd<'_>>, Option<BorrowedFd<'_>>) {
        (
            self.output_open.then(|| self.primary.as_fd()),
            // What is typed for nobody would only be lost.
            (self.input_open && self.output_open).then(rustix::stdio::stdin),
        )
    }

    /// Whether something is to be copied right now.
    pub(super) fn has_output(&self) -> bool {
        let mut fds = [PollFd::new(&self.primary, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.output_open && poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
    }

    /// Copies what the program wrote, up to the end of it or of whoever reads it here.
    pub(super) fn copy_output(&mut self) {
        let mut buffer = [0; 8192];
        self.output_open = match rustix::io::read(&self.primary, &mut buffer) {
            Ok(length) if length > 0 => write_all(rustix::stdio::stdout(), &buffer[..length]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            // EIO: nobody has the other side open.
            _ => false,
        }
    }

    /// Copies what the caller typed; its end is the terminal's end-of-file character.
    pub(super) fn copy_input(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(length) if length > 0 => {
                write_all(self.primary.as_fd(), &buffer[..length]);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            _ => {
                self.input_open = false;
                write_all(self.primary.as_fd(), &[4]);
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// False if the other side is gone.
fn write_all(to: BorrowedFd<'_>, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match rustix::io::write(to, data) {
            Ok(length) => data = &data[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [PollFd::new(&to, PollFlags::OUT)];
                let _ = poll(&mut fds, None);
            }
            Err(_) => return false,
        }
    }
    true
}

/// The protocol of console sockets, and of sockets for process descriptors: one message with a descriptor and a name.
pub(super) fn send(fd: BorrowedFd<'_>, name: &[u8], path: &str) -> io::Result<()> {
    let socket = Seqpacket::from(OwnedFd::from(UnixStream::connect(path)?));
    socket.send(name, &[fd])
}
