//! Walking and removing trees that containers have filled: links are never followed, and depth costs neither stack nor
//! descriptors.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Directories nested deeper than this are moved up before they are entered.
const DEPTH: usize = 64;

/// Whether a directory has no entries.
pub(crate) fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(path)?.next().is_none())
}

/// Removes a tree; one that isn't there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let directory = match openat(CWD, path, OPEN_DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    empty(&directory)?;
    std::fs::remove_dir(path)
}

/// Removes everything in a directory.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    empty(&openat(CWD, path, OPEN_DIRECTORY, Mode::empty())?)
}

/// Empties a directory: its subdirectories by recursion of a limited depth; what is deeper is moved up to the top and found
/// there in the next round.
fn empty(top: &OwnedFd) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let before = moved;
        empty_level(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        if moved == before {
            return Ok(());
        }
    }
}

fn empty_level(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> io::Result<()> {
    for (name, kind) in entries(directory)? {
        if kind != FileType::Directory {
            unlinkat(directory, &name, AtFlags::empty())?;
            continue;
        }
        if depth == DEPTH {
            move_up(top, directory, &name, moved)?;
            continue;
        }
        let below = openat(directory, &name, OPEN_DIRECTORY, Mode::empty())?;
        empty_level(top, below.as_fd(), depth + 1, moved)?;
        drop(below);
        unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn move_up(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match renameat_with(directory, name, top, format!(".moved-{moved}"), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
    }
}

/// The sum of the sizes of all files, each counted once.
pub(crate) fn usage(path: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut pending = vec![path.to_path_buf()];
    // By path, so that depth costs no descriptors; what is too deep for a path isn't counted.
    while let Some(path) = pending.pop() {
        let directory = match openat(CWD, &path, OPEN_DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NAMETOOLONG | Errno::NOTDIR | Errno::LOOP) => continue,
            opened => opened?,
        };
        for (name, kind) in entries(directory.as_fd())? {
            let Ok(stat) = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if seen.insert((stat.st_dev, stat.st_ino)) {
                total += u64::try_from(stat.st_size).unwrap_or(0);
            }
            if kind == FileType::Directory {
                pending.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(total)
}

/// All names in a directory with their types, read before anything is changed.
pub(crate) fn entries(directory: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems don't tell.
            FileType::Unknown => FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            known => known,
        };
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use std::fs;

    #[test]
    fn links_are_removed_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        fs::write(tree.join("a/b/file"), "12345").unwrap();
        fs::hard_link(tree.join("a/b/file"), tree.join("again")).unwrap();
        assert!(usage(&tree).unwrap() >= 5);
        remove(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("keep").exists());
    }

    #[test]
    fn very_deep_trees_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = openat(CWD, &tree, OPEN_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..1200 {
            mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "d", OPEN_DIRECTORY, Mode::empty()).unwrap();
        }
        usage(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
