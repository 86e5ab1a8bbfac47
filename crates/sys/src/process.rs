//! Processes: clone3 for single-threaded callers, pidfds, prctl, exec, and the calling thread's scheduling.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use crate::slate::Slate;

/// Namespace flags for [`clone_process`] and [`crate::namespace`].
pub mod flags {
    /// New PID namespace.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// New mount namespace.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// New network namespace.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// New IPC namespace.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// New UTS namespace.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// New cgroup namespace.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// A root and working directory of its own, for a thread.
    pub const FILE_SYSTEM: u64 = libc::CLONE_FS as u64;
    /// New user namespace.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// New time namespace; a process moves into it only by joining it.
    pub const TIME: u64 = 0x80;
}

/// As the kernel defines it; libc's constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone_process`] is running.
#[derive(Debug)]
pub enum Cloned {
    /// The caller; the child's id as the caller's PID namespace sees it.
    Parent {
        /// Process id.
        pid: i32,
        /// A pidfd of the child.
        pidfd: OwnedFd,
    },
    /// The new process, with a copy of the caller's memory and descriptors.
    Child,
}

/// Makes a copy of the calling process in new namespaces (`flags`), on v2 hosts directly inside the cgroup whose
/// directory is given. The caller must be single-threaded; anything else is refused with EBUSY, because the copy
/// would inherit locks that other threads hold. The child gets SIGCHLD as its exit signal.
pub fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    clone_with(flags, libc::SIGCHLD, cgroup, None)
}

/// Makes a copy of the calling process as a child of its parent (CLONE_PARENT), in the PID namespace that the caller
/// has chosen for its children. Otherwise as [`clone_process`].
pub fn clone_sibling() -> io::Result<Cloned> {
    clone_sibling_into(0, None)
}

/// As [`clone_sibling`]. The kernel notes the copy's number in `births` before the copy runs: so the parent, which shares that
/// slate, knows of it even if the caller is killed before it can tell.
pub fn clone_sibling_noted(births: &Slate) -> io::Result<Cloned> {
    clone_with(libc::CLONE_PARENT as u64, 0, None, Some(births))
}

/// As [`clone_sibling`], in new namespaces and, on v2 hosts, inside a cgroup, as [`clone_process`] takes them.
pub fn clone_sibling_into(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // The kernel gives the copy the caller's own exit signal.
    clone_with(flags | libc::CLONE_PARENT as u64, 0, cgroup, None)
}

fn clone_with(
    flags: u64,
    exit_signal: i32,
    cgroup: Option<BorrowedFd<'_>>,
    births: Option<&Slate>,
) -> io::Result<Cloned> {
    if !is_single_threaded() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; all zero is its documented neutral value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = exit_signal as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    if let Some(births) = births {
        arguments.flags |= libc::CLONE_PARENT_SETTID as u64;
        arguments.parent_tid = births.birth_address();
    }
    // SAFETY: without CLONE_VM this is fork: the child runs on a copy of this stack and memory. The process has one
    // thread (checked above), so no lock is held by a thread that does not exist in the child. `arguments` and `pidfd`
    // outlive the call, and so does the slate, whose word for it is as large as a process id and expects to change.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has stored a new descriptor, owned by nobody else, into `pidfd`.
        pid => Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// True when the calling process has one thread.
pub fn is_single_threaded() -> bool {
    // SAFETY: unshare(CLONE_THREAD) takes no pointers; it changes nothing in a process of one thread and fails with
    // EINVAL in any other (unshare(2)).
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// Opens a pidfd for a process of the caller's PID namespace.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(invalid)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Sends a signal by number to the process behind a pidfd; ESRCH once it has been reaped.
pub fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call; the info pointer may be null.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<c_void>(), 0) };
    check(result).map(drop)
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The child.
    pub pid: i32,
    /// Exit code, or 128 + n after signal n.
    pub code: i32,
}

/// Reaps one child that has ended, whichever; none if none has (or there are no children).
pub fn reap_any() -> io::Result<Option<Ended>> {
    match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(rustix::io::Errno::INTR) => reap_any(),
        Err(error) => Err(error.into()),
        Ok(Some((pid, status))) => Ok(Some(Ended { pid: pid.as_raw_nonzero().get(), code: exit_code(status) })),
    }
}

/// True if the process is a child of the caller that nobody has reaped.
pub fn is_child(pid: i32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

/// Waits for one child to end and reaps it.
pub fn reap(pid: i32) -> io::Result<Ended> {
    let wanted = rustix::process::Pid::from_raw(pid).ok_or_else(invalid)?;
    loop {
        match rustix::process::waitpid(Some(wanted), rustix::process::WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(Ended { pid, code: exit_code(status) }),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A child of the calling process, held by a pidfd: its number can't become another's before it is reaped.
#[derive(Debug)]
pub struct Child {
    /// Process id.
    pub pid: i32,
    /// Becomes readable when the process has ended.
    pub pidfd: OwnedFd,
}

impl Child {
    /// A child that nobody has waited for.
    pub fn open(pid: i32) -> io::Result<Child> {
        Ok(Child { pid, pidfd: open_pidfd(pid)? })
    }

    /// Waits for its end and reaps it.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.reap(rustix::process::WaitIdOptions::EXITED)? {
                return Ok(ended);
            }
        }
    }

    /// Reaps it if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        self.reap(rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG)
    }

    /// Kills it; no error if it has ended.
    pub fn kill(&self) -> io::Result<()> {
        match signal_pidfd(self.pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    fn reap(&self, options: rustix::process::WaitIdOptions) -> io::Result<Option<Ended>> {
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        let status = rustix::io::retry_on_intr(|| rustix::process::waitid(id.clone(), options))?;
        Ok(status.map(|status| {
            let signalled = status.terminating_signal().map(|signal| 128 + signal);
            Ended { pid: self.pid, code: status.exit_status().or(signalled).unwrap_or(255) }
        }))
    }
}

fn exit_code(status: rustix::process::WaitStatus) -> i32 {
    status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Makes the calling process the one that orphaned descendants are given to.
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Sets whether others of the same user may trace the process and read its `/proc/self` links; execve resets it.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// Keeps setuid programs and file capabilities from adding privileges, for good.
pub fn set_no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Has the kernel signal the calling process when its parent thread ends; 0 clears it.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// Sets the thread's name (15 bytes count).
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used in this module take integers only.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into()).map(drop)
}

/// Replaces the process's program. Returns only on failure.
pub fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: all pointers are to NUL-terminated strings that live until the call returns, in arrays ended by null.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Ends the process at once: no destructors, no buffers flushed.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only descriptor flags change (Linux 5.11); no descriptor is closed under an owner's feet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match check(result) {
        // EINVAL before 5.11; a seccomp filter above this process may say anything.
        Err(_) => close_on_exec_one_by_one(first),
        Ok(_) => Ok(()),
    }
}

/// Closes every descriptor from 3 on but `keep`. For a process made by [`clone_process`] that never returns to the
/// code that owns the copied descriptors.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    close_from_but(3, keep);
}

/// The same for every descriptor from `first` on.
pub fn close_from_but(mut first: u32, keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    for fd in keep {
        if fd < first {
            continue;
        }
        close_between(first, fd.saturating_sub(1));
        first = fd + 1;
    }
    close_between(first, u32::MAX);
}

fn close_between(first: u32, last: u32) {
    if first <= last {
        // SAFETY: by this function's contract no owner of these descriptors runs again in this process.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// For Linux 5.10, whose close_range(2) cannot mark: the limit bounds the loop.
fn close_on_exec_one_by_one(first: u32) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    for fd in i64::from(first)..limit.min(1 << 20) as i64 {
        // SAFETY: F_SETFD on a number that is not open fails harmlessly.
        unsafe { libc::fcntl(fd as RawFd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Makes descriptor `target` (0, 1 or 2) a copy of `source`, inherited through exec.
pub fn set_standard_fd(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if source.as_raw_fd() == target {
        // SAFETY: clears the close-on-exec flag of a borrowed, open descriptor.
        return check(unsafe { libc::fcntl(target, libc::F_SETFD, 0) }.into()).map(drop);
    }
    assert!((0..=2).contains(&target), "only standard descriptors may be replaced");
    // SAFETY: dup2 onto a standard descriptor, which std and this project treat as always open and never owned.
    check(unsafe { libc::dup2(source.as_raw_fd(), target) }.into()).map(drop)
}

/// A path that names an open descriptor of the calling process, for exec and for file systems that only take paths.
pub fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Joins a new, anonymous session keyring, so that the caller's keys are not inherited.
pub fn new_session_keyring(name: Option<&CStr>) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let name = name.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the name is null or NUL-terminated and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// Loads a seccomp filter into the calling thread. `filter` holds one `sock_filter` per word (code in the low 16
/// bits, then jt, jf, and k in the high 32); `flags` are SECCOMP_FILTER_FLAG_*. With the notify flag the listener is returned.
pub fn load_seccomp(filter: &[u64], flags: u64) -> io::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: libc::c_long = 1;
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: u64 = 1 << 3;
    let instructions: Vec<libc::sock_filter> = filter
        .iter()
        .map(|word| libc::sock_filter {
            code: *word as u16,
            jt: (*word >> 16) as u8,
            jf: (*word >> 24) as u8,
            k: (*word >> 32) as u32,
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| invalid())?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel copies and only reads them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let value = check(result)?;
    if flags & SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with the listener flag the kernel returns a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(value as RawFd) }))
}

/// The kernel's answer as a result.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// EINVAL as an error.
pub(crate) fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threaded_process_is_not_cloned() {
        // The test harness itself has several threads.
        assert!(!is_single_threaded());
        let error = clone_process(0, None).expect_err("must refuse");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }
}
