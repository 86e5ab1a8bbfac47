//! Extraction of a layer into the upper directory of an overlay, with the results of Docker's overlay2.
//!
//! - `.wh.<name>` becomes a character device 0, 0, and `.wh..wh..opq` the attribute `trusted.overlay.opaque` (image-spec,
//!   layer.md, "Whiteouts", and the kernel's overlayfs.rst). A whiteout hides what lies in the layers below, never what
//!   the same layer brings, wherever it stands in the archive.
//! - An entry replaces an earlier one of the same name, but a directory over a directory only changes its metadata. The
//!   root's own entry is passed over, as Docker does.
//! - Links among the parents of a name are followed within the layer as in a chroot; see [`tree`](crate::tree). What the
//!   layers below have in that place is not: a directory covers it.
//! - A hard link to a file that only a layer below has brings that file up into this layer first.
//! - Set-uid bits, devices and capabilities are created as they are said to be: the place where layers are kept is closed
//!   to everybody but root.
//!
//! Nothing is synced here; whoever commits a layer does that once.

use crate::metadata::{self, Defaults, is_directory, is_whiteout};
use crate::name::{clean, joined, split};
use crate::reader::{Limits, Reader};
use crate::remove::remove;
use crate::tree::{Directory, Tree, set_opaque, status};
use crate::{Entry, Error, Kind, Result};
use corten_base::DiffId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// How a layer is extracted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyOptions {
    /// How large the archive may be; a gzip bomb ends here.
    pub limits: Limits,
    /// The layers below are not there yet, `lower` is empty for that reason: what needs them is left out, and
    /// [`Applied::needs_lower`] says so.
    pub lower_pending: bool,
    /// The archive's digest is known otherwise: it is not computed.
    pub unhashed: bool,
}

/// What was extracted.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The sum of the files' sizes, which is the layer's size in Docker's answers.
    pub size: u64,
    /// Length of the uncompressed archive.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Digest of the whole uncompressed archive; none with [`ApplyOptions::unhashed`].
    pub diff_id: Option<DiffId>,
    /// Directories that the archive uses without an entry for them; see [`inherit`].
    pub implied: Vec<Vec<u8>>,
    /// With [`ApplyOptions::lower_pending`]: the result is incomplete (a hard link to a lower layer's file, an opaque
    /// root) and the layer has to be extracted again, into an empty directory and with its lower layers. Rare.
    pub needs_lower: bool,
}

/// Extracts an uncompressed tar below `root`, an empty directory on the file system that will be an overlay's layer.
///
/// `lower` are the directories of the layers below, nearest first; they are only read. To extract layers in parallel give
/// none, set [`ApplyOptions::lower_pending`], and when they are there call [`inherit`]. After an error the
/// directory holds some of the layer and is to be thrown away.
pub fn apply(reader: impl Read, root: BorrowedFd, lower: &[OwnedFd], options: &ApplyOptions) -> Result<Applied> {
    let make = if options.unhashed { Reader::new } else { Reader::hashing };
    let mut reader = make(reader, options.limits);
    let tree = Tree::new(root, lower, &options.limits)?;
    let lower_pending = options.lower_pending;
    let mut extractor = Extractor { tree, size: 0, root_is_opaque: false, lower_pending, needs_lower: false };
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        extractor.tree.admit()?;
        extractor.place(&mut reader, &entry)?;
    }
    extractor.cover_root()?;
    extractor.tree.settle()?;
    let (bytes, digest) = reader.finish()?;
    let diff_id = digest.map(DiffId);
    let (size, needs_lower) = (extractor.size, extractor.needs_lower);
    let implied = extractor.tree.into_implied();
    Ok(Applied { size, bytes, entries, diff_id, implied, needs_lower })
}

/// Gives the directories that a layer implied the owner, mode, attributes and times that they have in the layers below.
/// For a layer that was extracted before those were known.
pub fn inherit(root: BorrowedFd, lower: &[OwnedFd], implied: &[Vec<u8>]) -> Result<()> {
    let mut tree = Tree::new(root, lower, &Limits::default())?;
    for path in implied {
        if let Some(directory) = tree.find(&clean(path)?)? {
            tree.inherit(&directory)?;
        }
    }
    tree.settle()
}

pub(crate) const WHITEOUT: &[u8] = b".wh.";
pub(crate) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

struct Extractor<'a> {
    tree: Tree<'a>,
    size: u64,
    root_is_opaque: bool,
    lower_pending: bool,
    needs_lower: bool,
}

/// An entry with its place.
struct Target<'a> {
    entry: &'a Entry,
    /// The clean path as the archive has it.
    path: &'a [u8],
    parent: Rc<Directory>,
    name: &'a [u8],
}

impl Target<'_> {
    fn failed(&self, operation: &'static str) -> impl Fn(Errno) -> Error + '_ {
        move |errno| Error::entry(operation, self.path, errno)
    }

    /// The path free of links.
    fn real_path(&self) -> Vec<u8> {
        joined(&self.parent.path, self.name)
    }
}

impl Extractor<'_> {
    fn place<R: Read>(&mut self, reader: &mut Reader<R>, entry: &Entry) -> Result<()> {
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(Error::Name { name: entry.path.clone(), reason: "the root must be a directory" }),
            };
        }
        let (parent, name) = split(&path);
        if name.starts_with(WHITEOUT) || parent.split(|&b| b == b'/').any(|name| name.starts_with(b".wh..wh.")) {
            return self.hide(&path, parent, name);
        }
        let parent = self.tree.make(parent)?;
        let target = Target { entry, path: &path, parent, name };
        match entry.kind {
            Kind::File => self.file(reader, &target),
            Kind::Directory => self.directory(&target),
            Kind::HardLink => self.hard_link(&target),
            Kind::Symlink => self.symlink(&target),
            Kind::CharDevice => self.node(&target, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(&target, FileType::BlockDevice),
            Kind::Fifo => self.node(&target, FileType::Fifo),
        }
    }

    /// A whiteout, or one of aufs' own files, which mean nothing here.
    fn hide(&mut self, path: &[u8], parent: &[u8], name: &[u8]) -> Result<()> {
        if name == OPAQUE_MARK {
            let directory = self.tree.make(parent)?;
            self.root_is_opaque |= directory.path.is_empty();
            return set_opaque(&directory);
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|hidden| !hidden.starts_with(WHITEOUT)) else {
            return Ok(());
        };
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::Name { name: path.to_vec(), reason: "a whiteout of a directory itself" });
        }
        let parent = self.tree.make(parent)?;
        hide_below(&parent, hidden)
    }

    /// Hides everything at the root of the layers below. The kernel does not look for the attribute there.
    fn cover_root(&mut self) -> Result<()> {
        if !self.root_is_opaque {
            return Ok(());
        }
        self.needs_lower |= self.lower_pending;
        let root = self.tree.root().clone();
        let names = self.tree.lower.root_names().map_err(|errno| Error::entry("readdir", b"", errno))?;
        names.iter().try_for_each(|name| hide_below(&root, name))
    }

    fn file<R: Read>(&mut self, reader: &mut Reader<R>, target: &Target) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(target.entry.mode & 0o777);
        let file = self.fresh(target, "open", |parent, name| rustix::fs::openat(parent, name, flags, mode))?;
        let is_sparse = target.entry.is_sparse;
        while let Some((offset, piece)) = reader.next_piece()? {
            let written = if is_sparse { write_at(&file, piece, offset) } else { write(&file, piece) };
            written.map_err(target.failed("write"))?;
        }
        if is_sparse {
            rustix::fs::ftruncate(&file, target.entry.size).map_err(target.failed("truncate"))?;
        }
        self.size = self.size.saturating_add(target.entry.size);
        metadata::set(file.as_fd(), target.entry, &self.tree.defaults)
            .map_err(|(operation, errno)| Error::entry(operation, target.path, errno))?;
        rustix::fs::futimens(&file, &metadata::times(target.entry)).map_err(target.failed("utimes"))
    }

    fn directory(&mut self, target: &Target) -> Result<()> {
        let (parent, name) = (&target.parent, target.name);
        let mode = Mode::from_raw_mode(target.entry.mode & 0o777);
        let (mut is_fresh, mut is_opaque) = (true, false);
        match rustix::fs::mkdirat(&parent.fd, name, mode) {
            Err(Errno::EXIST) => match status(parent, name).map_err(target.failed("stat"))? {
                Some(stat) if is_directory(&stat) => is_fresh = false,
                found => {
                    is_opaque = found.is_some_and(|stat| is_whiteout(&stat));
                    self.clear(target)?;
                    rustix::fs::mkdirat(&parent.fd, name, mode).map_err(target.failed("mkdir"))?;
                }
            },
            made => made.map_err(target.failed("mkdir"))?,
        }
        let fd = crate::lower::open_directory(parent.fd.as_fd(), name).map_err(target.failed("open"))?;
        let directory = Rc::new(Directory { fd, path: target.real_path() });
        if is_opaque {
            set_opaque(&directory)?;
        }
        let defaults = if is_fresh { &self.tree.defaults } else { &Defaults::UNKNOWN };
        metadata::set(directory.fd.as_fd(), target.entry, defaults)
            .map_err(|(operation, errno)| Error::entry(operation, target.path, errno))?;
        self.tree.defaults.saw_directory(target.entry.mode);
        self.tree.told(&directory.path);
        self.tree.defer(&directory, target.entry)?;
        self.tree.remember(target.path, directory);
        Ok(())
    }

    fn symlink(&mut self, target: &Target) -> Result<()> {
        let link = &target.entry.link;
        self.fresh(target, "symlink", |parent, name| rustix::fs::symlinkat(&link[..], parent, name))?;
        self.finish_node(target)
    }

    fn node(&mut self, target: &Target, kind: FileType) -> Result<()> {
        let (major, minor) = target.entry.device;
        let mode = Mode::from_raw_mode(target.entry.mode & 0o777);
        let device = if kind == FileType::Fifo { 0 } else { rustix::fs::makedev(major, minor) };
        self.fresh(target, "mknod", |parent, name| rustix::fs::mknodat(parent, name, kind, mode, device))?;
        self.finish_node(target)
    }

    fn finish_node(&mut self, target: &Target) -> Result<()> {
        let parent = target.parent.fd.as_fd();
        metadata::set_at(parent, target.name, target.entry, &self.tree.defaults)
            .and_then(|()| metadata::set_times_at(parent, target.name, &metadata::times(target.entry)))
            .map_err(|(operation, errno)| Error::entry(operation, target.path, errno))
    }

    /// Owner, mode and times belong to the file that is linked to, and were set there.
    fn hard_link(&mut self, target: &Target) -> Result<()> {
        let link = clean(&target.entry.link)?;
        let source_name = split(&link).1;
        let Some(source) = self.source_of(target, &link)? else {
            self.needs_lower = true;
            return Ok(());
        };
        if source.path == target.parent.path && source_name == target.name {
            return Ok(());
        }
        self.fresh(target, "link", |parent, name| {
            rustix::fs::linkat(&source.fd, source_name, parent, name, AtFlags::empty())
        })
    }

    /// The directory of this layer that holds the file `link`, brought up from below if need be; none if that has to wait.
    fn source_of(&mut self, target: &Target, link: &[u8]) -> Result<Option<Rc<Directory>>> {
        let (parent, name) = split(link);
        if let Some(directory) = self.tree.find(parent)? {
            match status(&directory, name).map_err(target.failed("stat"))? {
                Some(stat) if is_whiteout(&stat) => return Err(target.failed("link")(Errno::NOENT)),
                Some(stat) if is_directory(&stat) => return Err(target.failed("link")(Errno::ISDIR)),
                Some(_) => return Ok(Some(directory)),
                None => {}
            }
        }
        if self.lower_pending {
            return Ok(None);
        }
        let found = self.tree.lower.find(link).map_err(target.failed("stat"))?;
        let found = found.ok_or_else(|| target.failed("link")(Errno::NOENT))?;
        let directory = self.tree.make(parent)?;
        self.size = self.size.saturating_add(crate::copy::copy_up(&found, &directory, name)?);
        Ok(Some(directory))
    }

    /// Creates something where nothing was; on the second try after removing what was.
    fn fresh<T>(
        &mut self,
        target: &Target,
        operation: &'static str,
        create: impl Fn(BorrowedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T> {
        match create(target.parent.fd.as_fd(), target.name) {
            Err(Errno::EXIST) => {
                self.clear(target)?;
                create(target.parent.fd.as_fd(), target.name).map_err(target.failed(operation))
            }
            created => created.map_err(target.failed(operation)),
        }
    }

    fn clear(&mut self, target: &Target) -> Result<()> {
        let (parent, name) = (&target.parent, target.name);
        match status(parent, name).map_err(target.failed("stat"))? {
            Some(stat) if is_directory(&stat) => self.tree.forget(&target.real_path()),
            _ => self.tree.forget_links(),
        }
        remove(parent.fd.as_fd(), name).map_err(target.failed("unlink"))
    }
}

/// Hides `name` as the layers below have it. What this layer has stays, but no longer merges with what is below.
fn hide_below(parent: &Directory, name: &[u8]) -> Result<()> {
    let failed = |operation, errno| Error::entry(operation, &joined(&parent.path, name), errno);
    match rustix::fs::mknodat(&parent.fd, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("mknod", errno)),
    }
    let stat = status(parent, name).map_err(|errno| failed("stat", errno))?;
    if !stat.is_some_and(|stat| is_directory(&stat)) {
        return Ok(());
    }
    let fd = crate::lower::open_directory(parent.fd.as_fd(), name).map_err(|errno| failed("open", errno))?;
    set_opaque(&Directory { fd, path: joined(&parent.path, name) })
}

fn write(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(length) => {
                bytes = &bytes[length..];
                offset += length as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
