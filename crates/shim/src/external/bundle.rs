//! The bundle that a runtime is pointed at: the document, and everything that it names by path.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use corten_sys::mount;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::protocol::Bundle;

/// What a container of another runtime is put together from.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// `config.json`.
    pub(crate) document: &'a [u8],
    /// The root file system, detached.
    pub(crate) rootfs: BorrowedFd<'a>,
    /// The network namespace.
    pub(crate) netns: BorrowedFd<'a>,
    /// Further mount trees, detached.
    pub(crate) sources: &'a [OwnedFd],
}

impl<'a> Parts<'a> {
    /// All descriptors.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'a>> {
        [self.rootfs, self.netns].into_iter().chain(self.sources.iter().map(AsFd::as_fd)).collect()
    }
}

/// Makes the bundle. Its mounts end with the shim's mount namespace.
pub(super) fn put_together(bundle: &Bundle, parts: &Parts<'_>) -> io::Result<()> {
    let directory = bundle.path();
    make_directory(directory)?;
    let config = File::options().write(true).create_new(true).mode(0o600).open(directory.join("config.json"));
    config?.write_all(parts.document)?;
    let rootfs = directory.join("rootfs");
    make_directory(&rootfs)?;
    attach(parts.rootfs, &rootfs)?;
    let netns = bundle.network_namespace();
    File::create_new(&netns)?;
    attach(mount::clone_of(parts.netns, false)?.as_fd(), &netns)?;
    if !parts.sources.is_empty() {
        make_directory(&directory.join("sources"))?;
    }
    for (index, source) in parts.sources.iter().enumerate() {
        let place = bundle.source(index);
        match FileType::from_raw_mode(fstat(source)?.st_mode) {
            FileType::Directory => make_directory(&place)?,
            _ => drop(File::create_new(&place)?),
        }
        attach(source.as_fd(), &place)?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// By path, not by the run directory's descriptor: that one came from the daemon and leads into its mount namespace.
fn attach(tree: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let place = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    mount::attach(tree, place.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_below_the_bundle() {
        let bundle = Bundle::below(Path::new("/run/x"));
        assert_eq!(bundle.path(), Path::new("/run/x/bundle"));
        assert_eq!(bundle.network_namespace(), Path::new("/run/x/bundle/netns"));
        assert_eq!(bundle.source(2), Path::new("/run/x/bundle/sources/2"));
    }
}
