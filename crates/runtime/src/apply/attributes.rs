//! Changes of mounts, on kernels before 5.12, too.
//!
//! There a mount has to be attached before it can be changed (see [`by_path`]): a detached one is attached in the minimal root,
//! which is the working directory, and goes to its place from there. Nothing but this process sees it meanwhile. What such a
//! kernel cannot do, a recursive change of attributes where there are mounts below, is refused.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::mount::{self, Attributes, by_path};
use corten_sys::path;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};

use super::sysctl::Proc;

/// Where a directory passes through...
const DIRECTORY: &CStr = c"stage";
/// ...and a file.
const FILE: &CStr = c"file";

/// Changes a mount that is not attached yet. On old kernels it is in the minimal root afterwards, to be moved.
pub(super) fn change_detached(mount: BorrowedFd<'_>, wanted: &Attributes<'_>, recursive: bool) -> io::Result<()> {
    otherwise(mount::set_attributes(mount, wanted, recursive), || {
        let place = if path::is_directory(mount)? { DIRECTORY } else { FILE };
        let there = open(place)?;
        if id(there.as_fd())? != id(mount)? {
            mount::attach(mount, there.as_fd())?;
        }
        change_by_path(place, mount, wanted, recursive)
    })
}

/// Changes a mount that is in its place. On old kernels that has to be a directory that the caller may enter.
pub(super) fn change_attached(mount: BorrowedFd<'_>, wanted: &Attributes<'_>, recursive: bool) -> io::Result<()> {
    otherwise(mount::set_attributes(mount, wanted, recursive), || {
        if !path::is_directory(mount)? {
            return Err(by_path::missing("to change the mount of a file in its place"));
        }
        let here = open(c".")?;
        rustix::process::fchdir(mount)?;
        let changed = change_by_path(c".", mount, wanted, recursive);
        rustix::process::fchdir(here)?;
        changed
    })
}

fn otherwise(changed: io::Result<()>, by_other_means: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match changed {
        Err(error) if by_path::is_needed(&error) => by_other_means(),
        result => result,
    }
}

fn change_by_path(place: &CStr, mount: BorrowedFd<'_>, wanted: &Attributes<'_>, recursive: bool) -> io::Result<()> {
    if recursive && wanted.set | wanted.clear != 0 && has_others_below(mount)? {
        return Err(by_path::missing("to change all mounts of a tree"));
    }
    by_path::set_attributes_of(place, wanted, recursive)
}

fn open(place: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// The kernel's number of the mount that a descriptor is open on.
fn id(mount: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(statx(mount, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn has_others_below(mount: BorrowedFd<'_>) -> io::Result<bool> {
    let id = id(mount)?.to_string();
    // proc_pid_mountinfo(5): its own number, then its parent's.
    let table = Proc::default().read_own("mountinfo")?;
    Ok(table.lines().any(|line| line.split(' ').nth(1) == Some(&id)))
}
