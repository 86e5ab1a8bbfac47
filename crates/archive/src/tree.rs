//! Directories below a layer's root, found one component at a time.
//!
//! Links on the way are followed as a process in a chroot would follow them: an absolute target starts at the root, and
//! `..` at the root stays there. The kernel never follows a link here (every open says `O_NOFOLLOW`), so there is no way
//! out. Directories that the archive implies are made on the way.

use crate::kept::{Allowance, Kept, Late};
use crate::lower::{Found, Lower, is_opaque, open_directory};
use crate::metadata::{self, Defaults, OPAQUE, is_directory, is_whiteout};
use crate::name::{joined, split};
use crate::reader::Limits;
use crate::{Entry, Error, Kind, Result};
use rustix::fs::{AtFlags, Mode, Stat, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Links that one look-up may follow, as the kernel's limit.
const MOST_LINKS: usize = 40;

/// Directories kept open. Archives are mostly in the order of the tree, so few are needed.
const MOST_OPEN: usize = 64;

/// Steps that any archive may take, and so many more with each entry. Links that lead through thousands of directories, thousands of
/// times, end here; the deepest of honest trees, in the worst order, take less.
const FREE_STEPS: u64 = 1_000_000;
const STEPS_PER_ENTRY: u64 = 64;

/// An open directory of the layer.
pub(crate) struct Directory {
    pub fd: OwnedFd,
    /// Its path below the root, free of links.
    pub path: Vec<u8>,
}

pub(crate) struct Tree<'a> {
    root: Rc<Directory>,
    pub lower: Lower<'a>,
    pub defaults: Defaults,
    /// By the clean path they were looked up with.
    open: HashMap<Vec<u8>, Rc<Directory>>,
    kept: Kept,
    /// Entries and implied directories that may still come.
    files: Allowance,
    /// Directories that may still be opened on the way to entries.
    steps: Allowance,
}

impl<'a> Tree<'a> {
    pub fn new(root: BorrowedFd, lower: &'a [OwnedFd], limits: &Limits) -> Result<Tree<'a>> {
        let failed = |errno| Error::entry("open", b"", errno);
        let fd = open_directory(root, b".").map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        Ok(Tree {
            root: Rc::new(Directory { fd, path: Vec::new() }),
            lower: Lower(lower),
            defaults: Defaults::of(&stat),
            open: HashMap::new(),
            kept: Kept::new(limits.max_kept_bytes),
            files: Allowance::new("files", limits.max_files),
            steps: Allowance::new("steps through directories", FREE_STEPS),
        })
    }

    /// Counts an entry that is about to be placed.
    pub fn admit(&mut self) -> Result<()> {
        self.steps.grant(STEPS_PER_ENTRY);
        self.files.take(1)
    }

    /// Directories made without an entry of their own.
    pub fn into_implied(self) -> Vec<Vec<u8>> {
        self.kept.into_implied()
    }

    /// A directory that was implied has an entry after all.
    pub fn told(&mut self, path: &[u8]) {
        self.kept.not_implied(path);
    }

    pub fn root(&self) -> &Rc<Directory> {
        &self.root
    }

    /// The directory at a clean path, made where it is missing.
    pub fn make(&mut self, path: &[u8]) -> Result<Rc<Directory>> {
        let found = self.walk(path, true)?;
        found.ok_or_else(|| Error::entry("open", path, Errno::NOENT))
    }

    /// The directory at a clean path, if this layer has it.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<Rc<Directory>>> {
        self.walk(path, false)
    }

    /// Remembers a directory that was just made.
    pub fn remember(&mut self, path: &[u8], directory: Rc<Directory>) {
        if self.open.len() >= MOST_OPEN {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), directory);
    }

    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<Rc<Directory>>> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        if let Some(directory) = self.open.get(path) {
            return Ok(Some(directory.clone()));
        }
        let (mut current, rest) = self.nearest_open(path);
        // Components to go, the next one last.
        let mut pending: Vec<Vec<u8>> = components(rest).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                let parent = split(&current.path).0.to_vec();
                current = self.reopen(&parent)?;
                continue;
            }
            match self.step(&current, &name, make)? {
                Step::Directory(directory) => current = directory,
                Step::Missing => return Ok(None),
                Step::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::entry("open", path, Errno::LOOP));
                    }
                    if target.starts_with(b"/") {
                        current = self.root.clone();
                    }
                    pending.extend(components(&target).rev().map(<[u8]>::to_vec));
                }
            }
        }
        self.remember(path, current.clone());
        Ok(Some(current))
    }

    /// The longest prefix of `path` that is open, and what follows it.
    fn nearest_open<'p>(&self, path: &'p [u8]) -> (Rc<Directory>, &'p [u8]) {
        let mut prefix = split(path).0;
        while !prefix.is_empty() {
            if let Some(directory) = self.open.get(prefix) {
                return (directory.clone(), &path[prefix.len() + 1..]);
            }
            prefix = split(prefix).0;
        }
        (self.root.clone(), path)
    }

    /// Opens a directory by its path free of links.
    fn reopen(&mut self, path: &[u8]) -> Result<Rc<Directory>> {
        let mut current = self.root.clone();
        for name in components(path) {
            self.steps.take(1)?;
            let fd = open_directory(current.fd.as_fd(), name).map_err(|errno| Error::entry("open", path, errno))?;
            current = Rc::new(Directory { fd, path: joined(&current.path, name) });
        }
        Ok(current)
    }

    fn step(&mut self, current: &Rc<Directory>, name: &[u8], make: bool) -> Result<Step> {
        self.steps.take(1)?;
        let path = joined(&current.path, name);
        let failed = |operation, errno| Error::entry(operation, &path, errno);
        match open_directory(current.fd.as_fd(), name) {
            Ok(fd) => return Ok(Step::Directory(Rc::new(Directory { fd, path }))),
            Err(Errno::NOENT) if !make => return Ok(Step::Missing),
            Err(Errno::NOENT) => return self.imply(current, name, false).map(Step::Directory),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(failed("open", errno)),
        }
        match rustix::fs::readlinkat(&current.fd, name, Vec::new()) {
            Ok(target) => return Ok(Step::Link(target.into_bytes())),
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(failed("readlink", errno)),
        }
        let stat = status(current, name).map_err(|errno| failed("stat", errno))?;
        match stat {
            Some(stat) if is_whiteout(&stat) && make => {
                rustix::fs::unlinkat(&current.fd, name, AtFlags::empty()).map_err(|errno| failed("unlink", errno))?;
                self.imply(current, name, true).map(Step::Directory)
            }
            Some(stat) if is_whiteout(&stat) => Ok(Step::Missing),
            _ => Err(failed("open", Errno::NOTDIR)),
        }
    }

    /// Makes a directory that has no entry so far. It looks like the one it covers, else like Docker's: root's, 0755.
    fn imply(&mut self, parent: &Rc<Directory>, name: &[u8], opaque: bool) -> Result<Rc<Directory>> {
        self.files.take(1)?;
        let path = joined(&parent.path, name);
        let failed = |operation, errno| Error::entry(operation, &path, errno);
        rustix::fs::mkdirat(&parent.fd, name, Mode::from_raw_mode(0o755)).map_err(|errno| failed("mkdir", errno))?;
        let fd = open_directory(parent.fd.as_fd(), name).map_err(|errno| failed("open", errno))?;
        let directory = Rc::new(Directory { fd, path: path.clone() });
        if opaque {
            set_opaque(&directory)?;
            self.take_after(&directory, None)?;
        } else {
            self.inherit(&directory)?;
        }
        self.kept.imply(path)?;
        Ok(directory)
    }

    /// Gives an implied directory the owner, mode, attributes and time of the one that it covers.
    pub fn inherit(&mut self, directory: &Directory) -> Result<()> {
        let found = self.lower.find(&directory.path);
        let found = found.map_err(|errno| Error::entry("stat", &directory.path, errno))?;
        self.take_after(directory, found.filter(|found| is_directory(&found.stat)))
    }

    fn take_after(&mut self, directory: &Directory, found: Option<Found>) -> Result<()> {
        let failed = |(operation, errno)| Error::entry(operation, &directory.path, errno);
        let mut model = Entry::new(Kind::Directory, "", 0o755);
        if let Some(found) = &found {
            model = metadata::from_stat(Kind::Directory, &found.stat);
            model.xattrs = metadata::read_xattrs(&found.file).map_err(|errno| failed(("getxattr", errno)))?;
            self.defer(directory, &model)?;
        }
        self.defaults.saw_directory(model.mode);
        metadata::set(directory.fd.as_fd(), &model, &Defaults::UNKNOWN).map_err(failed)
    }

    /// Notes what a directory gets in [`settle`](Tree::settle).
    pub fn defer(&mut self, directory: &Directory, entry: &Entry) -> Result<()> {
        let late = Late { times: metadata::times(entry), default_acl: metadata::default_acl(entry) };
        self.kept.defer(directory.path.clone(), late)
    }

    /// Forgets what is known of a directory and all below it: it was replaced.
    pub fn forget(&mut self, path: &[u8]) {
        self.forget_links();
        self.kept.forget(path);
    }

    /// Forgets where paths lead: one of the links on the way may have been replaced.
    pub fn forget_links(&mut self) {
        self.open.clear();
    }

    /// Gives the directories what was left for the end.
    pub fn settle(&mut self) -> Result<()> {
        // Its own paths were all there before, once.
        self.steps = Allowance::new("steps through directories", u64::MAX);
        for (path, Late { times, default_acl }) in self.kept.take_late() {
            let failed = |(operation, errno)| Error::entry(operation, &path, errno);
            if let Some(acl) = default_acl
                && let Some(directory) = self.find(&path)?
            {
                metadata::set_default_acl(directory.fd.as_fd(), &acl).map_err(failed)?;
            }
            let (parent, name) = split(&path);
            let Some(parent) = self.find(parent)? else { continue };
            metadata::set_times_at(parent.fd.as_fd(), name, &times).map_err(failed)?;
        }
        Ok(())
    }
}

enum Step {
    Directory(Rc<Directory>),
    Link(Vec<u8>),
    Missing,
}

/// Components of a path that come to something; `..` is kept.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// What lies at `name`, not following a link.
pub(crate) fn status(directory: &Directory, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Lets a directory hide what the layers below hold at its place.
pub(crate) fn set_opaque(directory: &Directory) -> Result<()> {
    if is_opaque(&directory.fd) {
        return Ok(());
    }
    rustix::fs::fsetxattr(&directory.fd, OPAQUE, b"y", XattrFlags::empty())
        .map_err(|errno| Error::entry("setxattr", &directory.path, errno))
}
