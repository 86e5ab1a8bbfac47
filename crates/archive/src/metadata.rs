//! Owners, modes, times and extended attributes of what was just created.
//!
//! The order matters: a change of owner clears set-uid bits and capabilities, so the mode comes after it and attributes
//! after that; any write changes the times, so they come last.

use crate::acl;
use crate::header::{Entry, Kind, Timestamp, Xattrs};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Marks a directory of an overlay that hides what lies below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// What a new file gets from the kernel without being asked, so that calls which change nothing can be left out.
pub(crate) struct Defaults {
    /// New files belong to root: this process is root, and no directory hands its group on.
    owned_by_root: bool,
    umask: u32,
}

impl Defaults {
    /// Promises nothing: for what existed before.
    pub const UNKNOWN: Defaults = Defaults { owned_by_root: false, umask: 0o777 };

    /// Looks at this process and the directory that is extracted into.
    pub fn of(root: &Stat) -> Defaults {
        let is_root = rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
        Defaults { owned_by_root: is_root && root.st_mode & 0o2000 == 0, umask: umask() }
    }

    /// A directory with this mode will hold further entries.
    pub fn saw_directory(&mut self, mode: u32) {
        if mode & 0o2000 != 0 {
            self.owned_by_root = false;
        }
    }

    fn needs_owner(&self, uid: u32, gid: u32) -> bool {
        !(self.owned_by_root && uid == 0 && gid == 0)
    }

    fn needs_mode(&self, mode: u32) -> bool {
        self.umask == 0o777 || mode & (self.umask | 0o7000) != 0
    }
}

/// This process' umask; all bits where it can't be told.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}

/// Owner, mode and attributes of an open file or directory, made with `entry.mode` masked by the umask.
pub(crate) fn set(file: BorrowedFd, entry: &Entry, defaults: &Defaults) -> Result<(), (&'static str, Errno)> {
    if defaults.needs_owner(entry.uid, entry.gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|errno| ("chown", errno))?;
    }
    if defaults.needs_mode(entry.mode) {
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(|errno| ("chmod", errno))?;
    }
    set_xattrs(&entry.xattrs, |name, value| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))
}

/// The same for what can't be opened: links, devices, pipes.
pub(crate) fn set_at(
    directory: BorrowedFd,
    name: &[u8],
    entry: &Entry,
    defaults: &Defaults,
) -> Result<(), (&'static str, Errno)> {
    let is_link = entry.kind == Kind::Symlink;
    if defaults.needs_owner(entry.uid, entry.gid) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| ("chown", errno))?;
    }
    if !is_link && defaults.needs_mode(entry.mode) {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(|errno| ("chmod", errno))?;
    }
    if entry.xattrs.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(|errno| ("open", errno))?;
    let path = by_descriptor(&file);
    set_xattrs(&entry.xattrs, |name, value| rustix::fs::setxattr(&path, name, value, XattrFlags::empty()))
}

/// Times of what `name` is, be it a link.
pub(crate) fn set_times_at(
    directory: BorrowedFd,
    name: &[u8],
    times: &Timestamps,
) -> Result<(), (&'static str, Errno)> {
    rustix::fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| ("utimes", errno))
}

/// What a tar entry would say of this owner, mode, device and time.
pub(crate) fn from_stat(kind: Kind, stat: &Stat) -> Entry {
    let mut entry = Entry::new(kind, "", stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    entry.mtime = Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
    entry
}

/// Modification and access time as Docker sets them: nothing was read before it was last written.
pub(crate) fn times(entry: &Entry) -> Timestamps {
    let spec = |time: Timestamp| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    let last_access = entry.atime.map_or(entry.mtime, |time| time.max(entry.mtime));
    Timestamps { last_access: spec(last_access), last_modification: spec(entry.mtime) }
}

fn set_xattrs(xattrs: &Xattrs, set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>) -> Result<(), (&'static str, Errno)> {
    for (name, value) in xattrs {
        // The overlay's own marks would let a layer redirect look-ups or hide what it does not own.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") || name == acl::DEFAULT {
            continue;
        }
        tolerate(set(name, value))?;
    }
    Ok(())
}

/// Docker goes on where the file system has no such attributes, or the kernel no such label.
fn tolerate(set: Result<(), Errno>) -> Result<(), (&'static str, Errno)> {
    match set {
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(errno) => Err(("setxattr", errno)),
    }
}

/// The access list that a directory hands on to what is made in it. [`set`] leaves it out.
pub(crate) fn default_acl(entry: &Entry) -> Option<Vec<u8>> {
    entry.xattrs.iter().find(|(name, _)| name == acl::DEFAULT).map(|(_, value)| value.clone())
}

pub(crate) fn set_default_acl(directory: BorrowedFd, list: &[u8]) -> Result<(), (&'static str, Errno)> {
    tolerate(rustix::fs::fsetxattr(directory, acl::DEFAULT, list, XattrFlags::empty()))
}

/// Reads the extended attributes that belong to a file's content, without the overlay's and the host's labels.
pub(crate) fn read_xattrs(file: &OwnedFd) -> Result<Xattrs, Errno> {
    let path = by_descriptor(file);
    let mut names = vec![0; 65536];
    let length = match rustix::fs::listxattr(&path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|&b| b == 0).filter(|name| is_content(name)) {
        let mut value = vec![0; 65536];
        let length = match rustix::fs::getxattr(&path, name, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        value.truncate(length);
        xattrs.push((name.to_vec(), value));
    }
    xattrs.sort();
    Ok(xattrs)
}

fn is_content(name: &[u8]) -> bool {
    let foreign: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
    !name.is_empty() && !foreign.iter().any(|prefix| name.starts_with(prefix))
}

/// A path for the calls that take no descriptor; it also reaches symbolic links themselves.
pub(crate) fn by_descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file.as_fd()))
}

/// What an entry for this would be; none for what archives can't hold.
pub(crate) fn kind(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return None,
    })
}

/// An overlay whiteout: a character device numbered 0, 0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
