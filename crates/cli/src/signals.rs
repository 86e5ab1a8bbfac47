//! Signals as events: those that are forwarded to a container, and the terminal's change of size.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use corten_sys::signal;

use crate::failure::{Outcome, local};

/// `SIGWINCH`
pub(crate) const WINDOW_CHANGED: i32 = 28;

/// Never forwarded: the two that can't be caught, those of faults in this program, of its children and pipes, the one Go's
/// runtime uses, and the C library's own real-time signals.
const KEPT: [i32; 12] = [4, 5, 7, 8, 9, 11, 13, 17, 19, 23, 32, 33];
const LAST: i32 = 64;

/// A descriptor on which signals arrive. They stay blocked until the process ends.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// All signals that a container's main process may be meant by.
    pub fn forwardable() -> Outcome<Signals> {
        Signals::watch(&(1..=LAST).filter(|number| !KEPT.contains(number)).collect::<Vec<_>>())
    }

    /// What a session with a terminal must notice without forwarding: a new size, and its own end, before which the
    /// terminal is restored.
    pub fn own() -> Outcome<Signals> {
        Signals::watch(&[1, 2, 3, 15, WINDOW_CHANGED])
    }

    fn watch(numbers: &[i32]) -> Outcome<Signals> {
        let descriptor = signal::watch(numbers).map_err(local("cannot watch for signals"))?;
        Ok(Signals { descriptor })
    }

    /// The next signal that has arrived.
    pub fn take(&self) -> Option<i32> {
        signal::next(self.descriptor.as_fd())
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
