//! Whether an extracted layer is still what its archive says.
//!
//! The counterpart of [`apply`](crate::apply()): the same walk over the archive, comparing instead of creating. Of several entries
//! for one name the last one counts, as it did when the layer was extracted. Times of directories and what directories that the
//! archive only implies look like are not compared: they come from the layers below.

use crate::acl;
use crate::apply::{OPAQUE_MARK, WHITEOUT};
use crate::lower::{is_opaque, open_directory};
use crate::metadata::{by_descriptor, is_directory, is_whiteout, kind};
use crate::name::{clean, joined, split};
use crate::reader::{Limits, Reader};
use crate::tree::{Directory, Tree, status};
use crate::{Entry, Error, Kind, Result};
use rustix::fs::{Dir, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

const CAPABILITIES: &[u8] = b"security.capability";

/// What differs at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Below the layer's root.
    pub path: Vec<u8>,
    /// What is wrong there.
    pub what: &'static str,
}

/// Compares the layer below `root` with its uncompressed archive. Answers the differences by path, none for a sound layer.
///
/// # Errors
/// What reading the archive or the layer failed with.
pub fn verify(reader: impl Read, root: BorrowedFd, limits: Limits) -> Result<Vec<Difference>> {
    let mut reader = Reader::new(reader, limits);
    let mut check = Check { tree: Tree::new(root, &[], &limits)?, found: BTreeMap::new(), known: HashSet::new() };
    let mut covers_root = false;
    while let Some(entry) = reader.next_entry()? {
        let path = clean(&entry.path)?;
        covers_root |= path == OPAQUE_MARK;
        check.tree.admit()?;
        if !path.is_empty() {
            check.entry(&mut reader, &entry, &path)?;
        }
    }
    check.strangers(root, covers_root)?;
    let differences = check.found.into_iter().filter_map(|(path, what)| Some(Difference { path, what: what? }));
    Ok(differences.collect())
}

struct Check<'a> {
    tree: Tree<'a>,
    /// By path free of links, what the last entry for it found.
    found: BTreeMap<Vec<u8>, Option<&'static str>>,
    /// Every path that the archive accounts for.
    known: HashSet<Vec<u8>>,
}

impl Check<'_> {
    fn entry<R: Read>(&mut self, reader: &mut Reader<R>, entry: &Entry, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let parent = match self.tree.find(parent) {
            Ok(Some(parent)) => parent,
            Err(error) if !is_in_the_way(&error) => return Err(error),
            // A later entry may have taken the place of one above.
            _ => {
                self.found.insert(path.to_vec(), Some("it is missing"));
                return Ok(());
            }
        };
        if name == OPAQUE_MARK {
            let covered = parent.path.is_empty() || is_opaque(&parent.fd);
            self.record(parent.path.clone(), (!covered).then_some("it does not hide what is below"));
            return Ok(());
        }
        let hidden = name.strip_prefix(WHITEOUT);
        let place = joined(&parent.path, hidden.unwrap_or(name));
        if let Some(hidden) = hidden {
            // Aufs' own files mean nothing; what the layer itself brings is not hidden by its whiteout.
            if !hidden.starts_with(WHITEOUT) {
                let there = self.status(&parent, hidden)?.is_some();
                self.record(place, (!there).then_some("its whiteout is missing"));
            }
            return Ok(());
        }
        if entry.kind == Kind::HardLink {
            self.account(&clean(&entry.link)?);
        }
        let what = match self.status(&parent, name)? {
            None => Some("it is missing"),
            Some(stat) => self.compare(reader, entry, &parent, name, &stat)?,
        };
        if what.is_none() && entry.kind != Kind::Directory {
            self.forget_below(&place);
        }
        self.record(place, what);
        Ok(())
    }

    fn status(&self, parent: &Directory, name: &[u8]) -> Result<Option<Stat>> {
        status(parent, name).map_err(|errno| Error::entry("stat", &joined(&parent.path, name), errno))
    }

    fn record(&mut self, path: Vec<u8>, what: Option<&'static str>) {
        self.account(&path);
        self.found.insert(path, what);
    }

    /// The path and those that lead to it.
    fn account(&mut self, path: &[u8]) {
        let mut path = path;
        while !path.is_empty() && self.known.insert(path.to_vec()) {
            path = split(path).0;
        }
    }

    /// What an earlier entry had below a name that a later one replaced.
    fn forget_below(&mut self, path: &[u8]) {
        let below = [path, b"/"].concat();
        let gone = self.found.range(below.clone()..).take_while(|(known, _)| known.starts_with(&below));
        for path in gone.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.found.remove(&path);
        }
    }

    fn compare<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        parent: &Rc<Directory>,
        name: &[u8],
        stat: &Stat,
    ) -> Result<Option<&'static str>> {
        if entry.kind == Kind::HardLink {
            return Ok(is_directory(stat).then_some("it is a directory"));
        }
        if kind(stat) != Some(entry.kind) {
            return Ok(Some("it is something else"));
        }
        if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
            return Ok(Some("its owner differs"));
        }
        // The rights follow from an access list, if there is one.
        let of_mode = if said(entry, acl::ACCESS).is_some_and(acl::says_more) { 0o7000 } else { 0o7777 };
        if entry.kind != Kind::Symlink && (stat.st_mode ^ entry.mode) & of_mode != 0 {
            return Ok(Some("its mode differs"));
        }
        let failed = |errno: Errno| Error::entry("read", &joined(&parent.path, name), errno);
        match entry.kind {
            Kind::File if stat.st_size.cast_unsigned() != entry.size => Ok(Some("its size differs")),
            Kind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent.fd, name, flags, Mode::empty()).map_err(failed)?;
                let file = File::from(file);
                if !same_data(reader, &file, &joined(&parent.path, name))? {
                    return Ok(Some("its content differs"));
                }
                different_attribute(file.into(), entry).map_err(failed)
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(&parent.fd, name, Vec::new()).map_err(failed)?;
                Ok((target.as_bytes() != entry.link).then_some("its target differs"))
            }
            Kind::CharDevice | Kind::BlockDevice => {
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                if device != entry.device {
                    return Ok(Some("its device differs"));
                }
                different_attribute(place(parent, name).map_err(failed)?, entry).map_err(failed)
            }
            _ => different_attribute(place(parent, name).map_err(failed)?, entry).map_err(failed),
        }
    }

    /// Finds what the archive doesn't account for. `covers_root`: the layer hides what is below its root, by whiteouts.
    fn strangers(&mut self, root: BorrowedFd, covers_root: bool) -> Result<()> {
        let failed = |path: &[u8]| {
            let path = path.to_vec();
            move |errno: Errno| Error::entry("readdir", &path, errno)
        };
        let mut levels: Vec<(Vec<u8>, OwnedFd)> = vec![(Vec::new(), open_directory(root, b".").map_err(failed(b""))?)];
        while let Some((folder, fd)) = levels.pop() {
            for item in Dir::read_from(&fd).map_err(failed(&folder))? {
                let item = item.map_err(failed(&folder))?;
                let name = item.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let path = joined(&folder, name);
                let directory = Directory { fd: fd.try_clone().map_err(Error::Read)?, path: folder.clone() };
                let Some(stat) = self.status(&directory, name)? else { continue };
                let covers = covers_root && folder.is_empty() && is_whiteout(&stat);
                if !self.known.contains(&path) && !covers {
                    self.found.insert(path, Some("it is not in the archive"));
                } else if is_directory(&stat) {
                    let below = open_directory(fd.as_fd(), name).map_err(failed(&path))?;
                    levels.push((path, below));
                }
            }
        }
        Ok(())
    }
}

/// Whether something that is no directory stands where one was looked for.
fn is_in_the_way(error: &Error) -> bool {
    let Error::Entry { source, .. } = error else { return false };
    [Errno::NOTDIR, Errno::LOOP].iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
}

/// What is there, be it a device that better isn't opened.
fn place(parent: &Directory, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(&parent.fd, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// What an entry says of an attribute.
fn said<'a>(entry: &'a Entry, name: &[u8]) -> Option<&'a [u8]> {
    entry.xattrs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// Compares capabilities, users' attributes and access lists. The file system may keep none.
fn different_attribute(file: OwnedFd, entry: &Entry) -> Result<Option<&'static str>, Errno> {
    match compared_attributes(&by_descriptor(&file), entry) {
        // It could keep none when the layer was extracted, either.
        Err(Errno::NOTSUP) => Ok(None),
        compared => compared,
    }
}

fn compared_attributes(path: &str, entry: &Entry) -> Result<Option<&'static str>, Errno> {
    // A directory that is named twice has what only the first entry says, too.
    let is_compared = |name: &[u8]| entry.kind == Kind::File || said(entry, name).is_some();
    if is_compared(CAPABILITIES) && attribute(path, CAPABILITIES, entry)?.as_deref() != said(entry, CAPABILITIES) {
        return Ok(Some("its capabilities differ"));
    }
    let of_users = |name: &[u8]| name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| of_users(name)) {
        // Of these alone it may have kept none.
        if attribute(path, name, entry)?.is_some_and(|found| found != *value) {
            return Ok(Some("its attributes differ"));
        }
    }
    for name in [acl::ACCESS, acl::DEFAULT].into_iter().filter(|name| is_compared(name)) {
        if acl::differs(name, attribute(path, name, entry)?.as_deref(), said(entry, name)) {
            return Ok(Some("its access list differs"));
        }
    }
    Ok(None)
}

/// An attribute's value; other bytes if it is longer than it should be, or than those that none should have.
fn attribute(path: &str, name: &[u8], entry: &Entry) -> Result<Option<Vec<u8>>, Errno> {
    // A byte more than there should be: an attribute that is too long differs, and doesn't fail.
    let mut value = vec![0; said(entry, name).map_or(64, <[u8]>::len) + 1];
    match rustix::fs::getxattr(path, name, &mut value[..]) {
        Ok(length) => value.truncate(length),
        Err(Errno::RANGE) => {}
        Err(Errno::NODATA) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    Ok(Some(value))
}

/// Whether a file has the data of the current entry. Reads the entry to its end only while they agree.
fn same_data<R: Read>(reader: &mut Reader<R>, file: &File, path: &[u8]) -> Result<bool> {
    let mut buffer = Vec::new();
    while let Some((offset, piece)) = reader.next_piece()? {
        buffer.resize(piece.len(), 0);
        match file.read_exact_at(&mut buffer, offset) {
            Ok(()) if buffer == piece => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(Error::entry("read", path, error)),
        }
    }
    Ok(true)
}
