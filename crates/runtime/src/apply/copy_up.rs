//! Fills a new tmpfs with what the image has at its place: directories, files, links, with owners and modes.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, chownat, fchmod, fchown, fstat, mkdirat, openat, readlinkat, statat,
    symlinkat,
};
use rustix::process::{Gid, Uid};

use super::report::Explain;
use crate::Failure;

/// Deeper trees are not copied: an image must not exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Copies the directory `from` (a handle) into the directory `to`.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Failure> {
    copy_directory(from, to, MAX_DEPTH).explain("cannot copy the image's files into it")
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    let from = open_below(from, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from.as_fd(), to, name, depth)?;
        }
    }
    let stat = fstat(&from)?;
    let to = open_below(to, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    own(to.as_fd(), &stat)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if depth > 0 => {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let (inner, made) = (open_below(from, name, flags)?, open_below(to, name, flags)?);
            copy_directory(inner.as_fd(), made.as_fd(), depth - 1)
        }
        FileType::RegularFile => {
            // It may have become a pipe meanwhile, which keeps nobody waiting and is not copied.
            let source = open_below(from, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
            if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::RegularFile {
                return Ok(());
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
            io::copy(&mut File::from(source), &mut File::from(target.try_clone()?))?;
            own(target.as_fd(), &stat)
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            let (uid, gid) = owner(&stat);
            Ok(chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        // Sockets, pipes and devices mean nothing in a copy.
        _ => Ok(()),
    }
}

fn open_below(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn own(fd: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    fchown(fd, uid, gid)?;
    Ok(fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}
