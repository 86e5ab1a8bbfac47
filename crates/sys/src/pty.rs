//! Terminals, allocated inside a given devpts instance.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::pty::OpenptFlags;

use crate::process::check;

/// A terminal pair.
#[derive(Debug)]
pub struct Terminal {
    /// The side that the supervisor keeps.
    pub primary: OwnedFd,
    /// The side that the program gets.
    pub secondary: OwnedFd,
}

/// Allocates a terminal from the devpts instance mounted at the directory `devpts`, through its own `ptmx` node and
/// TIOCGPTPEER: no path below the directory is trusted besides `ptmx` itself, which must be a terminal multiplexer.
pub fn open(devpts: BorrowedFd<'_>) -> io::Result<Terminal> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let primary = openat2(devpts, "ptmx", flags, Mode::empty(), resolve)?;
    rustix::pty::unlockpt(&primary)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let secondary = rustix::pty::ioctl_tiocgptpeer(&primary, peer)?;
    Ok(Terminal { primary, secondary })
}

/// Number of a terminal in its devpts instance, from its primary side.
pub fn number(primary: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int through a valid pointer.
    check(unsafe { libc::ioctl(primary.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }.into())?;
    Ok(number)
}

/// Makes a terminal the controlling one of the calling process, which must lead a session without one.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

/// Sets the size in character cells; the programs in the foreground get SIGWINCH.
pub fn resize(terminal: BorrowedFd<'_>, columns: u16, lines: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
