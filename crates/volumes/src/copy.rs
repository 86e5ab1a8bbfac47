//! Copying an image's directory into an empty volume, all through descriptors: no link of the image or of the volume is ever
//! followed, but for the way to the image's directory, which is resolved inside the image's root.

use crate::content;
use corten_sys::path::open_in_root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat, renameat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file has this name until it is whole.
const PARTIAL: &CStr = c".corten-partial";

/// Directories may be nested so deep; each level holds two descriptors.
const DEPTH: usize = 200;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory of the image; `None` if there is none.
pub(crate) fn open_source(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    match open_in_root(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(source) => Ok(Some(source)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Copies everything, the directory's own owner, mode and attributes included. What is there already is left alone, but for
/// the rest of an unfinished file.
pub(crate) fn tree(source: OwnedFd, target: &File) -> io::Result<()> {
    let target = openat(target, ".", DIRECTORY, Mode::empty())?;
    let top = target.try_clone()?;
    Copy { top, linked: HashMap::new() }.directory(source.as_fd(), target.as_fd(), Path::new(""), 0)
}

struct Copy {
    top: OwnedFd,
    /// Where a file with several names was copied to, by its device and inode in the image.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "directories are nested too deeply"));
        }
        match unlinkat(to, PARTIAL, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        for (name, kind) in content::entries(from)? {
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            match kind {
                FileType::Directory => self.subdirectory(from, to, &name, &below, depth)?,
                _ => self.entry(from, to, &name, &below)?,
            }
        }
        let stat = fstat(from)?;
        attributes(from, to)?;
        own(to, &stat)
    }

    fn subdirectory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        match mkdirat(to, name, Mode::RWXU) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let from = openat(from, name, DIRECTORY, Mode::empty())?;
        let to = openat(to, name, DIRECTORY, Mode::empty())?;
        self.directory(from.as_fd(), to.as_fd(), path, depth + 1)
    }

    /// Anything but a directory.
    fn entry(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, path: &Path) -> io::Result<()> {
        if statat(to, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.linked.get(&key) {
            return self.link(first, to, name);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => file(from, to, name)?,
            FileType::Symlink => {
                let link = readlinkat(from, name, Vec::new())?;
                symlinkat(&link, to, name)?;
                finish_by_name(to, name, &stat)?;
            }
            FileType::Directory => return Err(io::Error::other("a file became a directory while it was copied")),
            kind => {
                mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                // The mode again: mknod applies the umask. Nothing here follows links, and nobody else is here yet.
                rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
                finish_by_name(to, name, &stat)?;
            }
        }
        if stat.st_nlink > 1 {
            self.linked.insert(key, path.to_path_buf());
        }
        Ok(())
    }

    /// A further name of a file that has been copied.
    fn link(&self, first: &Path, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let parent = first.parent().unwrap_or(Path::new(""));
        let directory = open_in_root(&self.top, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let first = first.file_name().ok_or(Errno::INVAL)?;
        Ok(linkat(&directory, first, to, name, AtFlags::empty())?)
    }
}

/// Copies a file under another name and gives it its own when it is whole.
fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, flags, Mode::empty())?);
    let stat = fstat(&source)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("a file changed its type while it was copied"));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut target = File::from(openat(to, PARTIAL, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut target)?;
    own(target.as_fd(), &stat)?;
    // After the owner: changing it drops file capabilities.
    attributes(source.as_fd(), target.as_fd())?;
    futimens(&target, &times(&stat))?;
    Ok(renameat(to, PARTIAL, to, name)?)
}

/// Owner, mode and times; in this order, for a change of owner takes set-user-id bits away.
fn own(to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(futimens(to, &times(stat))?)
}

/// Owner and times of what can't be opened.
fn finish_by_name(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), flags)?;
    Ok(utimensat(to, name, &times(stat), flags)?)
}

fn times(stat: &Stat) -> Timestamps {
    // The fields' types differ between architectures.
    #[expect(clippy::unnecessary_cast, reason = "needed on other architectures")]
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds as i64, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Extended attributes, except for those that say something about where the file was.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let len = match flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        listed => listed?,
    };
    let mut value = vec![0; 64 << 10];
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
            continue;
        }
        match fgetxattr(from, name, &mut value[..]) {
            Ok(size) => match fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
                Err(error) if error != Errno::NOTSUP => return Err(error.into()),
                _ => {}
            },
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
