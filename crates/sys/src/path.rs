//! Paths below a root directory that somebody else may have filled: resolved from its descriptor, never out of it.
//!
//! Every look-up is one openat2(2) with RESOLVE_IN_ROOT: absolute links and `..` stay inside, magic links of procfs
//! are refused. What has to be created is created component by component from descriptors that were opened without
//! following links, so that a link swapped in between cannot lead outside (CVE-2021-30465 and its kin).

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::process::fd_path;

/// How many symbolic links one path may lead through.
const MAX_LINKS: usize = 40;
/// `f_type` of procfs.
const PROC_MAGIC: i64 = 0x9fa0;
/// Inode number of the root of every procfs instance.
const PROC_ROOT_INODE: u64 = 1;

/// Opens `path` below `root` with the given flags; close-on-exec is added. Links are followed inside the root.
pub fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    let relative = relative(path.as_ref());
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| openat2(&root, relative.as_path(), flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// A handle (O_PATH) of what `path` below `root` names.
pub fn find(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open_in_root(root, path, OFlags::PATH)
}

/// As [`find`], but a link at the very end is not followed: its own handle is returned.
pub fn find_no_follow(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Opens `path` below `root` for reading if it is a regular file; none if it is anything else. Nothing else is opened at all:
/// opening a device that an image brings has effects (a watchdog is armed, a tape rewound), and so has opening a pipe. For
/// whoever sees their own procfs at `/proc`.
pub fn open_regular(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<Option<OwnedFd>> {
    let place = find(root, path)?;
    if !is_regular(place.as_fd())? {
        return Ok(None);
    }
    // What was looked at, not what the path leads to by now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(Some(rustix::fs::open(fd_path(place.as_fd()), flags, Mode::empty())?))
}

/// The same for whoever may see somebody else's files at `/proc`, and for any kind of file: opens what `path` names if it `fits`, before and
/// after. Between the two somebody could put another file there; who can do that can open it themselves.
pub fn open_fitting(
    root: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    fits: impl Fn(BorrowedFd<'_>) -> io::Result<bool>,
) -> io::Result<Option<OwnedFd>> {
    let place = find(&root, &path)?;
    if !fits(place.as_fd())? {
        return Ok(None);
    }
    let opened = open_in_root(root, path, flags | OFlags::NONBLOCK)?;
    Ok(if fits(opened.as_fd())? { Some(opened) } else { None })
}

/// openat2 answers EAGAIN when a rename raced with a `..`: the look-up is safe to repeat, but not for ever.
fn retry(mut open: impl FnMut() -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 0..64 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// `path` without leading slashes; "." for the root itself.
fn relative(path: &Path) -> PathBuf {
    let relative: PathBuf =
        path.components().filter(|part| !matches!(part, Component::RootDir | Component::Prefix(_))).collect();
    if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative }
}

/// Opens the directory `path` below `root` (O_PATH), making what is missing with `mode`. Links, dangling ones too,
/// are followed inside the root.
pub fn make_directories(root: impl AsFd, path: impl AsRef<Path>, mode: u32) -> io::Result<OwnedFd> {
    match open_in_root(&root, &path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    Walk::new(path.as_ref()).make(root.as_fd(), mode)
}

/// Opens (O_PATH) the file `path` below `root`, making an empty one, and its directories, if there is nothing.
pub fn make_file(root: impl AsFd, path: impl AsRef<Path>, mode: u32) -> io::Result<OwnedFd> {
    match find(&root, &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let (parent, name) = split(path.as_ref())?;
    let directory = make_directories(&root, parent, 0o755)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&directory, name, flags, Mode::from_raw_mode(mode)) {
        Ok(_) => {}
        Err(Errno::EXIST) => return make_link_target(root.as_fd(), directory.as_fd(), path.as_ref(), name, mode),
        Err(error) => return Err(error.into()),
    }
    no_follow(directory.as_fd(), name, OFlags::PATH)
}

/// The name exists but leads nowhere: a dangling link, whose target is made inside the root.
fn make_link_target(
    root: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    path: &Path,
    name: &OsStr,
    mode: u32,
) -> io::Result<OwnedFd> {
    let target = PathBuf::from(OsString::from_vec(readlinkat(directory, name, Vec::new())?.into_bytes()));
    let full = path.parent().unwrap_or(Path::new("/")).join(target);
    if full == path {
        return Err(Errno::LOOP.into());
    }
    // One level is enough for what images contain; a chain of dangling links is refused below by O_EXCL.
    let (parent, name) = split(&full)?;
    let directory = make_directories(root, parent, 0o755)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&directory, name, flags, Mode::from_raw_mode(mode))?;
    no_follow(directory.as_fd(), name, OFlags::PATH)
}

/// Parent directory and final name of a path.
pub fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok((path.parent().unwrap_or(Path::new("/")), name))
}

/// Opens one name in a directory without following a link.
fn no_follow(directory: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// The walk of [`make_directories`]: what is left to resolve, and the link-free path resolved so far.
struct Walk {
    pending: VecDeque<OsString>,
    done: Vec<OwnedFd>,
    links: usize,
}

impl Walk {
    fn new(path: &Path) -> Walk {
        let mut walk = Walk { pending: VecDeque::new(), done: Vec::new(), links: 0 };
        walk.push_front(path);
        walk
    }

    fn push_front(&mut self, path: &Path) {
        for part in path.components().rev() {
            match part {
                Component::Normal(name) => self.pending.push_front(name.to_owned()),
                Component::ParentDir => self.pending.push_front("..".into()),
                _ => {}
            }
        }
    }

    fn make(mut self, root: BorrowedFd<'_>, mode: u32) -> io::Result<OwnedFd> {
        while let Some(name) = self.pending.pop_front() {
            if name == ".." {
                self.done.pop();
                continue;
            }
            let here = self.done.last().map_or(root, |fd| fd.as_fd());
            let next = match no_follow(here, &name, OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_one(here, &name, mode)?;
                    no_follow(here, &name, OFlags::PATH)?
                }
                result => result?,
            };
            self.step(next)?;
        }
        match self.done.pop() {
            Some(fd) => Ok(fd),
            None => find(root, "/"),
        }
    }

    fn step(&mut self, next: OwnedFd) -> io::Result<()> {
        match FileType::from_raw_mode(fstat(&next)?.st_mode) {
            FileType::Directory => self.done.push(next),
            FileType::Symlink => {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = readlinkat(&next, c"", Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    self.done.clear();
                }
                self.push_front(target);
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
        Ok(())
    }
}

fn make_one(directory: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    match mkdirat(directory, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file of procfs for writing, from a handle of a procfs instance's root. The handle has to be procfs's root,
/// and neither links nor other mounts on the way are crossed: a container cannot redirect the write (CVE-2025-52881).
pub fn open_proc_file(proc_root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    if !is_proc_root(proc_root)? {
        return Err(io::Error::other("not the root of a procfs"));
    }
    let path = CString::new(path)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    retry(|| openat2(proc_root, path.as_c_str(), flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// True when the handle is the root directory of a procfs instance.
pub fn is_proc_root(handle: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(is_in_proc(handle)? && fstat(handle)?.st_ino == PROC_ROOT_INODE)
}

/// True when the handle is anything in a procfs instance.
pub fn is_in_proc(handle: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(fstatfs(handle)?.f_type == PROC_MAGIC)
}

/// True when the handle is the character device `major`:`minor`.
pub fn is_character_device(handle: BorrowedFd<'_>, major: u32, minor: u32) -> io::Result<bool> {
    let stat = fstat(handle)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(major, minor))
}

/// True when the handle is a regular file.
pub fn is_regular(handle: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(handle)?.st_mode) == FileType::RegularFile)
}

/// True when the handle is a directory.
pub fn is_directory(handle: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(handle)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
