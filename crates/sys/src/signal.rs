//! Signals of a small supervisor: all of them blocked, the interesting ones read from a descriptor.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::process::check;

/// Gives every signal its default disposition and blocks all that can be blocked, in the calling thread. What its
/// children need before exec is then only [`unblock_all`].
pub fn block_all() -> io::Result<()> {
    // The kernel's struct sigaction: handler (0 is SIG_DFL), flags, restorer, mask.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // By system call: glibc's signal(2) refuses 32 and 33, which it keeps for itself, and a caller that was started with
        // them ignored would hand that on.
        // SAFETY: the kernel reads one complete structure of its own layout with an 8-byte mask; the default disposition has no
        // handler to call. Numbers that cannot be changed fail harmlessly.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8) };
    }
    set_mask(u64::MAX)
}

/// Unblocks every signal, as a program expects to find it after exec.
pub fn unblock_all() -> io::Result<()> {
    set_mask(0)
}

/// Has a command's process begin with every signal unblocked, whatever its parent blocks. For processes of one thread: it makes the
/// spawn a fork.
pub fn unblock_in(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes one system call between fork and exec; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(unblock_all) }
}

/// The same, and the kernel kills the process when its parent ends: what runs on somebody's behalf does not outlive them.
pub fn bind_to_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let bind = move || {
        unblock_all()?;
        crate::process::set_parent_death_signal(libc::SIGKILL)?;
        // It may have ended before it was asked for.
        match std::os::unix::process::parent_id() == parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: the closure makes three system calls between fork and exec; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(bind) }
}

fn set_mask(mask: u64) -> io::Result<()> {
    // SAFETY: the kernel reads its 8-byte signal set from a valid pointer.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut::<u64>(), 8)
    };
    check(result).map(drop)
}

/// A descriptor that becomes readable when SIGCHLD arrives (which must be blocked). Non-blocking, close-on-exec.
pub fn child_events() -> io::Result<OwnedFd> {
    descriptor(1 << (libc::SIGCHLD - 1))
}

fn descriptor(mask: u64) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads its 8-byte signal set from a valid pointer; -1 asks for a new descriptor.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Blocks just these signals in the calling thread (others keep their state) and returns a descriptor that becomes
/// readable when one arrives. Non-blocking, close-on-exec. Threads made later inherit the mask.
pub fn watch(signals: &[i32]) -> io::Result<OwnedFd> {
    let mask =
        signals.iter().filter(|number| (1..=64).contains(*number)).fold(0_u64, |mask, number| mask | 1 << (number - 1));
    // SAFETY: the kernel reads its 8-byte signal set from a valid pointer; the old set is not asked for.
    check(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut::<u64>(), 8)
    })?;
    descriptor(mask)
}

/// Takes the number of the next signal that arrived on [`watch`]'s descriptor; none if there is none.
pub fn next(signals: BorrowedFd<'_>) -> Option<i32> {
    // struct signalfd_siginfo: 128 bytes that begin with the number.
    let mut info = [0_u8; 128];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(signals, &mut info)).ok()?;
    let number = info.first_chunk::<4>().filter(|_| length == info.len())?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}

/// Takes what has arrived on [`child_events`].
pub fn drain(events: BorrowedFd<'_>) {
    let mut buffer = [0_u8; 128];
    while rustix::io::read(events, &mut buffer).is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn watched_signals_are_read_from_the_descriptor() {
        let signals = watch(&[libc::SIGWINCH]).unwrap();
        assert_eq!(next(signals.as_fd()), None);
        // SAFETY: raises a signal that this thread has just blocked.
        unsafe { libc::raise(libc::SIGWINCH) };
        assert_eq!(next(signals.as_fd()), Some(libc::SIGWINCH));
        assert_eq!(next(signals.as_fd()), None);
    }
}
