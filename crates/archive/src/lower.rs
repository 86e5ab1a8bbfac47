//! What the layers below look like together: a small reading of overlayfs, for one path at a time.

use crate::metadata::{OPAQUE, is_directory, is_whiteout};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The layers below, nearest first.
pub(crate) struct Lower<'a>(pub &'a [OwnedFd]);

/// Something that the layers below hold.
pub(crate) struct Found {
    pub stat: Stat,
    /// Refers to the thing itself (`O_PATH`), be it a link.
    pub file: OwnedFd,
}

enum Fd<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Fd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Fd::Root(fd) => *fd,
            Fd::Below(fd) => fd.as_fd(),
        }
    }
}

impl Lower<'_> {
    /// The topmost thing at a clean path that is not empty. Links on the way are not followed: a layer that writes below
    /// one gets a directory of its own, as with Docker's overlay2.
    pub fn find(&self, path: &[u8]) -> Result<Option<Found>, Errno> {
        let mut stack: Vec<Fd> = self.0.iter().map(|fd| Fd::Root(fd.as_fd())).collect();
        let mut components = path.split(|&b| b == b'/').peekable();
        while let Some(component) = components.next() {
            let (top, merged) = look_up(&stack, component)?;
            if components.peek().is_none() || top.is_none() {
                return Ok(top);
            }
            stack = merged;
        }
        Ok(None)
    }

    /// The names that the root directory of the layers below shows, some perhaps twice.
    pub fn root_names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        for layer in self.0 {
            for item in rustix::fs::Dir::read_from(layer)? {
                let name = item?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }
}

/// The topmost thing called `name` in a stack of merged directories, and the directories that merge under that name.
fn look_up<'a>(stack: &[Fd], name: &[u8]) -> Result<(Option<Found>, Vec<Fd<'a>>), Errno> {
    let mut top = None;
    let mut merged = Vec::new();
    for directory in stack {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let stat = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH)?;
        if is_whiteout(&stat) {
            break;
        }
        if !is_directory(&stat) {
            if top.is_none() {
                top = Some(Found { stat, file });
            }
            break;
        }
        let opened = open_directory(directory.as_fd(), name)?;
        let opaque = is_opaque(&opened);
        if top.is_none() {
            top = Some(Found { stat, file });
        }
        merged.push(Fd::Below(opened));
        if opaque {
            break;
        }
    }
    Ok((top, merged))
}

pub(crate) fn open_directory(directory: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Whether a directory hides what lies below it.
pub(crate) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]) == Ok(1) && value == *b"y"
}
