//! The way back: a directory tree as a tar, and an overlay's upper directory as a layer.
//!
//! Names are sorted, so that equal trees give equal archives. Directories are held open while their children are read:
//! a container may rename what is being read, but cannot make the reader leave the tree.

use crate::header::{Entry, Kind};
use crate::lower::{Lower, is_opaque, open_directory};
use crate::metadata::{self, is_whiteout, kind};
use crate::name::joined;
use crate::writer::Writer;
use crate::{Error, Result};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Writes everything below `root`, sockets left out, as an uncompressed tar. Hard links among it stay hard links.
pub fn create<W: Write>(root: BorrowedFd, writer: W) -> Result<W> {
    let mut walk = Walk::new(writer, None);
    walk.run(root)?;
    walk.writer.finish()
}

/// Writes the upper directory of an overlay as a layer: its marks become whiteouts. `lower` are the directories below,
/// nearest first; a deletion of something they don't have is left out.
pub fn diff<W: Write>(upper: BorrowedFd, lower: &[OwnedFd], writer: W) -> Result<W> {
    let mut walk = Walk::new(writer, Some(Lower(lower)));
    walk.run(upper)?;
    walk.writer.finish()
}

struct Walk<'a, W> {
    writer: Writer<W>,
    /// Present when the tree is an overlay's upper directory.
    lower: Option<Lower<'a>>,
    /// Files with several names, by device and inode.
    seen: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory whose children are being written.
struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    /// Names to go, the next one last.
    names: Vec<Vec<u8>>,
}

impl<'a, W: Write> Walk<'a, W> {
    fn new(writer: W, lower: Option<Lower<'a>>) -> Walk<'a, W> {
        Walk { writer: Writer::new(writer), lower, seen: HashMap::new() }
    }

    fn run(&mut self, root: BorrowedFd) -> Result<()> {
        let fd = open_directory(root, b".").map_err(|errno| Error::entry("open", b"", errno))?;
        let mut levels = vec![self.enter(fd, Vec::new())?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            if let Some(child) = self.visit(level, &name)? {
                levels.push(child);
            }
        }
        Ok(())
    }

    fn enter(&mut self, fd: OwnedFd, path: Vec<u8>) -> Result<Level> {
        if self.lower.is_some() && is_opaque(&fd) {
            let mark = joined(&path, b".wh..wh..opq");
            self.writer.append_bytes(&Entry::new(Kind::File, mark, 0o600), b"")?;
        }
        let names = sorted_names(&fd).map_err(|errno| Error::entry("readdir", &path, errno))?;
        Ok(Level { fd, path, names })
    }

    /// Writes one entry; answers the level below it if it is a directory.
    fn visit(&mut self, level: &Level, name: &[u8]) -> Result<Option<Level>> {
        let path = joined(&level.path, name);
        let failed = |operation| {
            let path = &path;
            move |errno: Errno| Error::entry(operation, path, errno)
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&level.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            // Gone since the directory was listed.
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed("open")(errno)),
        };
        let stat = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH).map_err(failed("stat"))?;
        if is_whiteout(&stat)
            && let Some(lower) = &self.lower
        {
            if lower.find(&path).map_err(failed("stat"))?.is_some() {
                let mark = joined(&level.path, &[b".wh.", name].concat());
                self.writer.append_bytes(&Entry::new(Kind::File, mark, 0o600), b"")?;
            }
            return Ok(None);
        }
        let Some(kind) = kind(&stat) else { return Ok(None) };
        let mut entry = metadata::from_stat(kind, &stat);
        entry.path.clone_from(&path);
        entry.xattrs = metadata::read_xattrs(&file).map_err(failed("getxattr"))?;
        if kind != Kind::Directory && stat.st_nlink > 1 && self.append_link(&mut entry, &stat)? {
            return Ok(None);
        }
        match kind {
            Kind::File => {
                let data =
                    File::open(metadata::by_descriptor(&file)).map_err(|error| Error::entry("open", &path, error))?;
                entry.size = stat.st_size.cast_unsigned();
                self.writer.append(&entry, data)?;
            }
            Kind::Directory => {
                entry.path.push(b'/');
                self.writer.append(&entry, io::empty())?;
                let fd = open_directory(file.as_fd(), b".").map_err(failed("open"))?;
                return self.enter(fd, path).map(Some);
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(&file, "", Vec::new()).map_err(failed("readlink"))?;
                entry.link = target.into_bytes();
                self.writer.append(&entry, io::empty())?;
            }
            _ => self.writer.append(&entry, io::empty())?,
        }
        Ok(None)
    }

    /// Writes a further name of a file as a hard link; false for its first name.
    fn append_link(&mut self, entry: &mut Entry, stat: &Stat) -> Result<bool> {
        let id = (stat.st_dev, stat.st_ino);
        let Some(first) = self.seen.get(&id) else {
            self.seen.insert(id, entry.path.clone());
            return Ok(false);
        };
        let link = Entry { kind: Kind::HardLink, link: first.clone(), xattrs: Vec::new(), ..entry.clone() };
        self.writer.append(&link, io::empty())?;
        Ok(true)
    }
}

/// The names in a directory, last first.
fn sorted_names(fd: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for item in Dir::read_from(fd)? {
        let name = item?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
