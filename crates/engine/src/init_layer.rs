//! What Docker puts above every image before a container sees it: the places that mounts go to, `/.dockerenv`, `/etc/mtab`.
//!
//! An image may have a link or a file where a mount must go (`/proc`, `/etc/resolv.conf`, any directory above them): it is replaced in
//! a layer between the image and its containers, as Docker's init layer does it. What is of the right kind already stays as it is.
//! The layer is made with an image's first container; it is not counted as the containers'.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

enum Place {
    Directory,
    File,
    Link(&'static str),
}

const PLACES: [(&str, Place); 10] = [
    ("proc", Place::Directory),
    ("sys", Place::Directory),
    ("dev/pts", Place::Directory),
    ("dev/shm", Place::Directory),
    ("dev/console", Place::File),
    ("etc/hosts", Place::File),
    ("etc/hostname", Place::File),
    ("etc/resolv.conf", Place::File),
    ("etc/mtab", Place::Link("/proc/mounts")),
    (".dockerenv", Place::File),
];

/// Makes the places below the image's mounted root. No link is followed: each component is opened by itself.
pub(crate) fn make(root: BorrowedFd<'_>) -> io::Result<()> {
    for (path, place) in &PLACES {
        match path.split_once('/') {
            Some((parent, name)) => make_one(directory(root, parent)?.as_fd(), name, place)?,
            None => make_one(root, path, place)?,
        }
    }
    Ok(())
}

fn make_one(parent: BorrowedFd<'_>, name: &str, place: &Place) -> io::Result<()> {
    let found = kind(parent, name)?;
    match place {
        Place::Directory => directory(parent, name).map(drop),
        Place::File if found == Some(FileType::RegularFile) => Ok(()),
        Place::Link(_) if found.is_some_and(|kind| kind != FileType::Directory) => Ok(()),
        _ if found == Some(FileType::Directory) => Ok(()),
        Place::File => {
            remove(parent, name, found)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            Ok(openat(parent, name, flags, Mode::from_raw_mode(0o755)).map(drop)?)
        }
        Place::Link(target) => Ok(symlinkat(*target, parent, name)?),
    }
}

/// Opens a directory, made if it is missing or something else.
fn directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let found = kind(parent, name)?;
    if found != Some(FileType::Directory) {
        remove(parent, name, found)?;
        mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(openat(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn remove(parent: BorrowedFd<'_>, name: &str, found: Option<FileType>) -> io::Result<()> {
    match found {
        Some(_) => Ok(unlinkat(parent, name, AtFlags::empty())?),
        None => Ok(()),
    }
}

fn kind(parent: BorrowedFd<'_>, name: &str) -> io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn make_at(root: &Path) -> std::io::Result<()> {
        super::make(std::os::fd::AsFd::as_fd(&fs::File::open(root)?))
    }

    #[test]
    fn an_empty_image_gets_everything() {
        let root = tempfile::tempdir().unwrap();
        make_at(root.path()).unwrap();
        make_at(root.path()).unwrap();
        assert!(root.path().join("dev/pts").is_dir() && root.path().join("etc/hosts").is_file());
        assert!(root.path().join(".dockerenv").is_file());
        assert_eq!(fs::read_link(root.path().join("etc/mtab")).unwrap().to_str(), Some("/proc/mounts"));
    }

    #[test]
    fn links_are_replaced_and_never_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["proc", "sys", "dev", "etc"] {
            symlink(outside.path(), root.path().join(name)).unwrap();
        }
        make_at(root.path()).unwrap();
        assert!(fs::symlink_metadata(root.path().join("etc")).unwrap().is_dir());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_right_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/hosts"), "own").unwrap();
        symlink("../run/resolv.conf", root.path().join("etc/resolv.conf")).unwrap();
        make_at(root.path()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("etc/hosts")).unwrap(), "own");
        assert!(fs::symlink_metadata(root.path().join("etc/resolv.conf")).unwrap().is_file());
    }
}
