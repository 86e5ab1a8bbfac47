//! Attributes of mounts through mount(2), for kernels before 5.12: they have no mount_setattr(2).
//!
//! mount(2) names a mount by the path of its root, so that only one that is attached in the caller's mount namespace can be
//! changed. It changes propagation recursively, attributes of one mount at a time and all of them at once: what is to stay has
//! to be said again. It maps no owners ([`attr::IDMAP`]).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::{Attributes, Propagation, attach, attr, clone_path, set_root_propagation};
use crate::namespace;
use crate::process::flags;

/// `ST_*` of statfs(2), `MS_*` of mount(2) and `MOUNT_ATTR_*` of the attributes that a mount has or has not.
const SWITCHES: [(u64, u64, u64); 6] = [
    (libc::ST_RDONLY, libc::MS_RDONLY, attr::RDONLY),
    (libc::ST_NOSUID, libc::MS_NOSUID, attr::NOSUID),
    (libc::ST_NODEV, libc::MS_NODEV, attr::NODEV),
    (libc::ST_NOEXEC, libc::MS_NOEXEC, attr::NOEXEC),
    (libc::ST_NODIRATIME, libc::MS_NODIRATIME, attr::NODIRATIME),
    (ST_NOSYMFOLLOW, MS_NOSYMFOLLOW, attr::NOSYMFOLLOW),
];

/// As in linux/statfs.h and linux/mount.h; libc does not name them.
const ST_NOSYMFOLLOW: u64 = 0x2000;
const MS_NOSYMFOLLOW: u64 = 0x100;

/// True for the error of a kernel without mount_setattr(2).
pub fn is_needed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSYS)
}

/// Changes the mount whose root `path` names, relative to the working directory; with `recursive` the propagation of all mounts
/// below it, too. Attributes of those stay as they are.
pub fn set_attributes_of(path: &CStr, attributes: &Attributes<'_>, recursive: bool) -> io::Result<()> {
    if let Some(propagation) = attributes.propagation {
        let all = if recursive { MountPropagationFlags::REC } else { MountPropagationFlags::empty() };
        rustix::mount::mount_change(path, MountPropagationFlags::from_bits_retain(propagation.bits() as u32) | all)?;
    }
    if attributes.set | attributes.clear == 0 {
        return Ok(());
    }
    let has = rustix::fs::statfs(path)?.f_flags as u64;
    let flags = MountFlags::from_bits_retain(after(has, attributes.set, attributes.clear) as u32);
    Ok(rustix::mount::mount_remount(path, MountFlags::BIND | flags, c"")?)
}

/// The error for what only mount_setattr(2) can do.
pub fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what} Linux 5.12 (mount_setattr) is needed"))
}

/// The flags of a mount that has `has` (of statfs), when attributes were set and cleared.
fn after(has: u64, set: u64, clear: u64) -> u64 {
    let switches = SWITCHES.into_iter().filter(|(old, _, new)| set & new != 0 || has & old != 0 && clear & new == 0);
    let flags = switches.fold(0, |flags, (_, flag, _)| flags | flag);
    // Without a word on access times a remount keeps them; with one, directories have to be spoken of as well.
    let kept = [(libc::ST_NOATIME, libc::MS_NOATIME), (libc::ST_RELATIME, libc::MS_RELATIME)];
    let kept = kept.into_iter().find(|(old, _)| has & old != 0).map_or(libc::MS_STRICTATIME, |(_, flag)| flag);
    flags
        | match set & attr::ATIME_MASK {
            attr::NOATIME => libc::MS_NOATIME,
            attr::STRICTATIME => libc::MS_STRICTATIME,
            _ if clear & attr::ATIME_MASK != 0 => libc::MS_RELATIME,
            _ => kept,
        }
}

/// A read-only copy of a detached mount of a file. Made in a mount namespace that nobody else sees, by a thread of its own.
pub(super) fn read_only(view: OwnedFd) -> io::Result<OwnedFd> {
    /// A file that is always there to be covered: whoever executes a descriptor needs procfs, too.
    const PLACE: &CStr = c"/proc/uptime";
    let copy = move || {
        namespace::unshare(flags::MOUNT)?;
        set_root_propagation(Propagation::Private)?;
        let place = rustix::fs::openat(CWD, PLACE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(view.as_fd(), place.as_fd())?;
        set_attributes_of(PLACE, &Attributes { set: attr::RDONLY, ..Attributes::default() }, false)?;
        clone_path(PLACE, false)
    };
    std::thread::scope(|scope| scope.spawn(copy).join()).unwrap_or_else(|_| Err(io::Error::other("the visit panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        use libc::{MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOSUID, MS_RDONLY, MS_RELATIME, MS_STRICTATIME};
        use libc::{ST_NOATIME, ST_NODEV, ST_NODIRATIME, ST_NOSUID, ST_RDONLY, ST_RELATIME};
        let check =
            |has, set, clear, expect: u64| assert_eq!(after(has, set, clear), expect, "{has:x} {set:x} {clear:x}");
        check(ST_RELATIME, attr::RDONLY, 0, MS_RDONLY | MS_RELATIME);
        check(ST_NOSUID | ST_NODEV | ST_RELATIME, attr::RDONLY, 0, MS_NOSUID | MS_NODEV | MS_RDONLY | MS_RELATIME);
        check(ST_RDONLY | ST_NOSUID, 0, attr::RDONLY, MS_NOSUID | MS_STRICTATIME);
        check(ST_RDONLY, attr::RDONLY, attr::RDONLY, MS_RDONLY | MS_STRICTATIME);
        check(ST_NOATIME | ST_NODIRATIME, attr::NOSUID, 0, MS_NOSUID | MS_NOATIME | MS_NODIRATIME);
        check(ST_NOATIME, attr::RELATIME, attr::ATIME_MASK, MS_RELATIME);
        check(ST_RELATIME, attr::NOATIME, attr::ATIME_MASK, MS_NOATIME);
        check(ST_RELATIME, attr::STRICTATIME, attr::ATIME_MASK, MS_STRICTATIME);
        check(ST_RELATIME, attr::NOSYMFOLLOW, 0, MS_NOSYMFOLLOW | MS_RELATIME);
        check(ST_NOSYMFOLLOW | ST_RELATIME, 0, attr::NOSYMFOLLOW, MS_RELATIME);
    }
}
