//! Namespaces: leaving, joining, and the settings that live in them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};

use crate::process::{check, flags, invalid};

/// Moves the calling process into new namespaces (`flags` from [`crate::process::flags`]). A new PID namespace only
/// takes in future children.
pub fn unshare(flags: u64) -> io::Result<()> {
    let flags = i32::try_from(flags).map_err(|_| invalid())?;
    // SAFETY: namespaces and the working directory only: no CLONE_FILES, so no descriptor table changes under an owner.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Joins the namespace behind a `/proc/<pid>/ns/*` descriptor; `kind` guards against another kind of namespace.
pub fn join(namespace: BorrowedFd<'_>, kind: u64) -> io::Result<()> {
    let kind = i32::try_from(kind).map_err(|_| invalid())?;
    // SAFETY: the descriptor is borrowed for the call.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }.into()).map(drop)
}

/// Joins several namespaces (`flags`) of the process behind a pidfd at once (Linux 5.8).
pub fn join_process(pidfd: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    join(pidfd, flags)
}

/// Moves the calling thread's root and working directory to the root of its mount namespace, out of any chroot(2). That is where
/// others arrive who join the namespace: what is to be their root has to be put there, not where the thread happens to
/// stand. The thread shares neither directory with another (unshare(2) with CLONE_NEWNS sees to that), sees a procfs at
/// `/proc` and has CAP_SYS_ADMIN and CAP_SYS_CHROOT.
pub fn stand_at_root() -> io::Result<()> {
    let own = rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    join(own.as_fd(), flags::MOUNT)
}

/// Does `work` at the root of the calling thread's mount namespace ([`stand_at_root`]), then goes back to where it stood.
pub(crate) fn at_root<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let place = |path: &CStr| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (root, directory) = (place(c"/")?, place(c".")?);
    stand_at_root()?;
    let done = work();
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(c".")?;
    rustix::process::fchdir(&directory)?;
    done
}

/// Whether the calling thread stands in a chroot: at another root than its mount namespace's. Takes what [`stand_at_root`] takes.
pub fn is_in_chroot() -> io::Result<bool> {
    let root = || -> io::Result<_> {
        let found = statx(CWD, c"/", AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID)?;
        Ok((found.stx_mnt_id, found.stx_ino))
    };
    Ok(root()? != at_root(root)?)
}

/// Does `work` on a thread of its own that stands at the root of another mount namespace (mount_namespaces(7)); the caller stays
/// where it is. Needs CAP_SYS_ADMIN.
pub fn in_mount_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let visit = || {
        // Its root and working directory are no longer those of the other threads: setns(2) insists on that.
        unshare(flags::FILE_SYSTEM)?;
        join(namespace, flags::MOUNT)?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(visit).join())
        .unwrap_or_else(|_| Err(io::Error::other("the visit panicked")))
}

/// All namespaces of a container that an exec joins, besides its PID namespace.
pub const EXEC: u64 = flags::MOUNT | flags::NETWORK | flags::IPC | flags::UTS | flags::CGROUP;

/// Sets the host name of the UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Sets the NIS domain name of the UTS namespace.
pub fn set_domainname(name: &str) -> io::Result<()> {
    Ok(rustix::system::setdomainname(name.as_bytes())?)
}

/// The calling process's network namespace. No procfs is needed: a socket tells (SIOCGSKNS).
pub fn network() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the request takes no argument.
    let namespace = check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGSKNS as _) }.into())?;
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace as RawFd) })
}

/// Brings the loopback device of the calling process's network namespace up.
pub fn bring_loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: SIOCGIFFLAGS reads the name from and writes the flags into a complete ifreq that outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) }.into())?;
    // SAFETY: the flags member of the union was just written by the kernel.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: SIOCSIFFLAGS reads a complete ifreq that outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) }.into()).map(drop)
}
