//! A user namespace that exists only for its mapping of ids: what an id-mapped mount refers to.
//!
//! A namespace needs a process to be made and to have its maps written, so a short-lived copy of the caller holds it
//! until it has a descriptor (user_namespaces(7), mount_setattr(2)).

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::process::check;

/// A user namespace with the given maps, each in the format of `/proc/<pid>/uid_map`. The caller needs CAP_SETUID,
/// CAP_SETGID and a procfs of its PID namespace at `/proc`; it may have several threads.
pub fn with_maps(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = clone_holder(&hold, &release)?;
    drop(hold);
    let path = |name: &str| format!("/proc/{pid}/{name}");
    let namespace = std::fs::write(path("uid_map"), uids)
        .and_then(|()| std::fs::write(path("gid_map"), gids))
        .and_then(|()| File::open(path("ns/user")));
    drop(release);
    reap(&pidfd)?;
    Ok(namespace?.into())
}

/// Clones the process that holds the namespace until the pipe's other end is closed.
fn clone_holder(hold: &OwnedFd, release: &OwnedFd) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; all zero is its documented neutral value (no signal at its end).
    let mut arguments: libc::clone_args = unsafe { zeroed() };
    arguments.flags = (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    // SAFETY: without CLONE_VM this is fork. The caller may have threads that hold locks, so the child does nothing but
    // system calls on integers and its own stack. `arguments` and `pidfd` outlive the call.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => hold_until_closed(hold.as_raw_fd(), release.as_raw_fd()),
        // SAFETY: the kernel has stored a new descriptor, owned by nobody else, into `pidfd`.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

fn hold_until_closed(hold: RawFd, release: RawFd) -> ! {
    let mut byte = 0_u8;
    // SAFETY: raw system calls on descriptors of this process, which nobody else uses here; the byte is on its stack.
    unsafe {
        libc::syscall(libc::SYS_close, release);
        libc::syscall(libc::SYS_read, hold, &raw mut byte, 1);
        libc::syscall(libc::SYS_exit_group, 0);
    }
    // The call above does not return; a kernel that did could not be left in two copies of the caller.
    std::process::abort()
}

/// Waits for a child that sends no signal at its end, and which `wait` without __WALL does not see.
fn reap(pidfd: &OwnedFd) -> io::Result<()> {
    loop {
        // SAFETY: siginfo_t is plain data, written by the kernel through a valid pointer.
        let result = unsafe {
            let mut information: libc::siginfo_t = zeroed();
            libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as u32, &raw mut information, libc::WEXITED | libc::__WALL)
        };
        match check(result.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.map(drop),
        }
    }
}
