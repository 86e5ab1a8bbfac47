//! Removal of whatever an entry replaces.

use crate::lower::open_directory;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Removes `name` below `directory`, with all it holds. One directory is open at a time however deep the tree: the way
/// back up is `..`, which is safe because nobody else changes a layer that is being extracted.
pub(crate) fn remove(directory: BorrowedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done,
    }
    let mut names = vec![name.to_vec()];
    let mut current = open_directory(directory, name)?;
    while let Some(name) = names.pop() {
        if let Some(child) = empty(&current)? {
            current = open_directory(std::os::fd::AsFd::as_fd(&current), &child)?;
            names.push(name);
            names.push(child);
            continue;
        }
        if names.is_empty() {
            return rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
        }
        current = open_directory(std::os::fd::AsFd::as_fd(&current), b"..")?;
        rustix::fs::unlinkat(&current, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Unlinks all but directories; answers the first directory that is not empty.
fn empty(directory: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    for item in Dir::read_from(directory)? {
        let item = item?;
        let name = item.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if item.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                // Some file systems don't tell the type.
                Err(Errno::ISDIR) => {}
                done => {
                    done?;
                    continue;
                }
            }
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_bytes().to_vec())),
            done => done?,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    #[test]
    fn removes_trees_and_keeps_neighbours() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        fs::create_dir_all(root.join("a/b/c/d")).unwrap();
        fs::create_dir_all(root.join("a/b/e")).unwrap();
        fs::write(root.join("a/b/c/file"), "x").unwrap();
        fs::create_dir(root.join("keep")).unwrap();
        fs::write(root.join("keep/file"), "x").unwrap();
        std::os::unix::fs::symlink("../../keep", root.join("a/b/link")).unwrap();
        let fd = fs::File::open(root).unwrap();
        remove(fd.as_fd(), b"a").unwrap();
        assert!(!root.join("a").exists());
        assert!(root.join("keep/file").exists());
        remove(fd.as_fd(), b"keep").unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }
}
