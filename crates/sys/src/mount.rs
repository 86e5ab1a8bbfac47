//! The mount API by descriptors: make a file system or clone a tree detached, set its attributes, attach it.
//!
//! Follows fsopen(2), fsconfig(2), fsmount(2), open_tree(2), mount_setattr(2) and move_mount(2).

pub mod by_path;

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::path::Arg;

use crate::namespace;
use crate::process::check;

/// Attributes of one mount, for [`Attributes`] and [`FileSystem::mount`] (MOUNT_ATTR_*).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x01;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x02;
    /// Device nodes have no effect.
    pub const NODEV: u64 = 0x04;
    /// No program may be executed.
    pub const NOEXEC: u64 = 0x08;
    /// The bits in which access time settings are encoded.
    pub const ATIME_MASK: u64 = 0x70;
    /// Access times are updated sparingly (the value zero of the mask).
    pub const RELATIME: u64 = 0x00;
    /// Access times are never updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Directories' access times are never updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped as in a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// How mount events are shared with the mount's peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Both ways.
    Shared,
    /// Only from the peer group to here.
    Slave,
    /// Not at all, and the mount cannot be bound elsewhere.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of a mount's attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Bits of [`attr`] to be set.
    pub set: u64,
    /// Bits of [`attr`] to be cleared.
    pub clear: u64,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// With [`attr::IDMAP`]: the user namespace whose mapping applies.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Changes the attributes of the mount whose root `mount` is open on, and with `recursive` of all mounts below it.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: &Attributes<'_>, recursive: bool) -> io::Result<()> {
    set_attributes_at(mount, c"", attributes, recursive)
}

/// As [`set_attributes`], for the mount at `path` relative to a directory.
pub fn set_attributes_at(
    directory: BorrowedFd<'_>,
    path: &CStr,
    attributes: &Attributes<'_>,
    recursive: bool,
) -> io::Result<()> {
    let value = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation.map_or(0, Propagation::bits),
        userns_fd: attributes.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_SYMLINK_NOFOLLOW
        | if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 }
        | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is NUL-terminated and `value` complete; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const value,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// What [`open_tree`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// The place itself, as with O_PATH.
    Place,
    /// A detached copy of the mount seen from there (a bind mount in the making).
    Clone,
    /// The same with all mounts below it.
    CloneRecursive,
}

/// Opens a mount tree at `path` relative to a directory; an empty path means the directory descriptor itself.
/// Symbolic links at the end are followed.
pub fn open_tree(directory: impl AsFd, path: impl Arg + Copy, tree: Tree) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | match tree {
            Tree::Place => OpenTreeFlags::empty(),
            Tree::Clone => OpenTreeFlags::OPEN_TREE_CLONE,
            Tree::CloneRecursive => OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE,
        };
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// Attaches a detached mount (or moves an attached one) on top of what `target` is open on.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", target, c"", flags)?)
}

/// A file system being configured.
#[derive(Debug)]
pub struct FileSystem(OwnedFd);

impl FileSystem {
    /// Starts configuring a new instance of a file system type.
    pub fn open(kind: &str) -> io::Result<FileSystem> {
        Ok(FileSystem(rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets an option without a value.
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        rustix::mount::fsconfig_set_flag(&self.0, key).map_err(|error| self.explain(error))
    }

    /// Sets an option with a value.
    pub fn set_string(&self, key: &str, value: impl Arg) -> io::Result<()> {
        rustix::mount::fsconfig_set_string(&self.0, key, value).map_err(|error| self.explain(error))
    }

    /// Sets an option to an open descriptor.
    pub fn set_fd(&self, key: &str, value: BorrowedFd<'_>) -> io::Result<()> {
        rustix::mount::fsconfig_set_fd(&self.0, key, value).map_err(|error| self.explain(error))
    }

    /// Sets an option that takes a path, relative to a directory.
    pub fn set_path(&self, key: &str, directory: BorrowedFd<'_>, path: impl Arg) -> io::Result<()> {
        rustix::mount::fsconfig_set_path(&self.0, key, path, directory).map_err(|error| self.explain(error))
    }

    /// Makes the file system and a detached mount of it with the attributes `set` ([`attr`]).
    pub fn mount(&self, set: u64) -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.0).map_err(|error| self.explain(error))?;
        let attributes = MountAttrFlags::from_bits_retain(set as u32);
        Ok(rustix::mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }

    /// The kernel's own words for a failure, where the file system left some.
    fn explain(&self, error: rustix::io::Errno) -> io::Error {
        let plain = io::Error::from(error);
        let mut words = [0_u8; 256];
        let Ok(copy) = self.0.try_clone() else { return plain };
        match std::fs::File::from(copy).read(&mut words) {
            Ok(length) if length > 2 => {
                let words = String::from_utf8_lossy(&words[2..length]).trim().to_owned();
                io::Error::new(plain.kind(), format!("{words}: {plain}"))
            }
            _ => plain,
        }
    }
}

/// Changes the propagation of the calling mount namespace's root and everything below it, also for a caller that stands in a chroot
/// of it. See [`namespace::stand_at_root`] for what that takes.
pub fn set_root_propagation(propagation: Propagation) -> io::Result<()> {
    let flags = MountPropagationFlags::from_bits_retain(propagation.bits() as u32) | MountPropagationFlags::REC;
    namespace::at_root(|| Ok(rustix::mount::mount_change("/", flags)?))
}

/// Makes the root of `root` (a mount attached in the calling mount namespace) the root directory, and detaches the
/// old one: nothing of it stays reachable. The working directory is the new root. A caller that may stand in a chroot leaves it
/// first ([`namespace::stand_at_root`]): what it does not stand in is not exchanged.
pub fn pivot_into(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    // The old root ends up on top of the new one at the same place, where a lazy unmount by "." takes it away.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}

/// Moves `root` (a mount attached in the calling mount namespace) on top of the root directory and makes it the
/// caller's: for an initial ramdisk, which pivot_root(2) refuses, and for an old root that may stay. It stays mounted below: no path
/// leads there, as to the ramdisk below a host's root, unless somebody with CAP_SYS_ADMIN over the mount namespace unmounts `/`.
pub fn move_into(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    let top = rustix::fs::openat(CWD, "/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
    attach(root, top.as_fd())?;
    rustix::process::chroot(c".")?;
    Ok(rustix::process::chdir(c"/")?)
}

/// Unmounts what is at `path` relative to the working directory; lazily.
pub fn detach(path: &CStr) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// A bind of one descriptor's file or directory, detached.
pub fn clone_of(place: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(place, c"", if recursive { Tree::CloneRecursive } else { Tree::Clone })
}

/// A detached bind of a path of the caller's mount namespace.
pub fn clone_path(path: impl Arg + Copy, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(CWD, path, if recursive { Tree::CloneRecursive } else { Tree::Clone })
}

/// A detached read-only view of a file: what is executed through it cannot be written to through `/proc/<pid>/exe`. `path` may be
/// such a link. The caller needs CAP_SYS_ADMIN.
pub fn read_only_view(path: &Path) -> io::Result<OwnedFd> {
    // The link first: it still leads to a file that an upgrade has replaced. It may lead into another mount
    // namespace, though, of which nothing can be cloned.
    let view = clone_path(path, false).or_else(|_| clone_path(&std::fs::canonicalize(path)?, false))?;
    let view = match set_attributes(view.as_fd(), &Attributes { set: attr::RDONLY, ..Attributes::default() }, false) {
        Err(error) if by_path::is_needed(&error) => by_path::read_only(view)?,
        result => result.map(|()| view)?,
    };
    // A mount that hangs on its descriptor can be changed by whoever finds a way to it and has CAP_SYS_ADMIN in some mount namespace;
    // one that is in none can't.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, crate::process::fd_path(view.as_fd()), flags, rustix::fs::Mode::empty())?)
}
