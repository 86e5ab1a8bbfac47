//! Directories below a layer's root, found one component at a time.
//!
//! Links on the way are followed as a process in a chroot would follow them: an absolute target starts at the root, and
//! `..` at the root stays there. The kernel never follows a link here (every open says `O_NOFOLLOW`), so there is no way
//! out. Directories that the archive implies are made on the way.

use crate::lower::{Found, Lower, is_opaque, open_directory};
use crate::metadata::{self, Defaults, OPAQUE, is_directory, is_whiteout};
use crate::name::{joined, split};
use crate::{Entry, Error, Kind, Result};
use rustix::fs::{AtFlags, Mode, Stat, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Links that one look-up may follow, as the kernel's limit.
const MOST_LINKS: usize = 40;

/// Directories kept open. Archives are mostly in the order of the tree, so few are needed.
const MOST_OPEN: usize = 64;

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
    /// Directories made without an entry of their own.
    pub implied: BTreeSet<Vec<u8>>,
    /// What directories get in the end, when nothing changes in them any more.
    late: BTreeMap<Vec<u8>, Late>,
}

/// What making files in a directory would change, or would be changed by.
struct Late {
    times: Timestamps,
    /// The access list that new files in it get: those of the archive have their own.
    default_acl: Option<Vec<u8>>,
}

impl<'a> Tree<'a> {
    pub fn new(root: BorrowedFd, lower: &'a [OwnedFd]) -> Result<Tree<'a>> {
        let failed = |errno| Error::entry("open", b"", errno);
        let fd = open_directory(root, b".").map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        Ok(Tree {
            root: Rc::new(Directory { fd, path: Vec::new() }),
            lower: Lower(lower),
            defaults: Defaults::of(&stat),
            open: HashMap::new(),
            implied: BTreeSet::new(),
            late: BTreeMap::new(),
        })
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
    fn reopen(&self, path: &[u8]) -> Result<Rc<Directory>> {
        let mut current = self.root.clone();
        for name in components(path) {
            let fd = open_directory(current.fd.as_fd(), name).map_err(|errno| Error::entry("open", path, errno))?;
            current = Rc::new(Directory { fd, path: joined(&current.path, name) });
        }
        Ok(current)
    }

    fn step(&mut self, current: &Rc<Directory>, name: &[u8], make: bool) -> Result<Step> {
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
        self.implied.insert(path);
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
            self.defer(directory, &model);
        }
        self.defaults.saw_directory(model.mode);
        metadata::set(directory.fd.as_fd(), &model, &Defaults::UNKNOWN).map_err(failed)
    }

    /// Notes what a directory gets in [`settle`](Tree::settle).
    pub fn defer(&mut self, directory: &Directory, entry: &Entry) {
        let late = Late { times: metadata::times(entry), default_acl: metadata::default_acl(entry) };
        self.late.insert(directory.path.clone(), late);
    }

    /// Forgets what is known of a directory and all below it: it was replaced.
    pub fn forget(&mut self, path: &[u8]) {
        self.forget_links();
        let below = [path, b"/"].concat();
        self.late.remove(path);
        self.implied.remove(path);
        while let Some((known, _)) = self.late.range(below.clone()..).next() {
            if !known.starts_with(&below) {
                break;
            }
            let known = known.clone();
            self.late.remove(&known);
        }
        while let Some(known) = self.implied.range(below.clone()..).next() {
            if !known.starts_with(&below) {
                break;
            }
            let known = known.clone();
            self.implied.remove(&known);
        }
    }

    /// Forgets where paths lead: one of the links on the way may have been replaced.
    pub fn forget_links(&mut self) {
        self.open.clear();
    }

    /// Gives the directories what was left for the end.
    pub fn settle(&mut self) -> Result<()> {
        for (path, Late { times, default_acl }) in std::mem::take(&mut self.late) {
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
