//! Telling whether anything was done to a file.

use std::io;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};

/// The most bytes that the names of a file's extended attributes may take.
const NAMES: usize = 512;

/// How a file or a directory looked at a moment. Its change time can't be set, and with the multigrain timestamps of Linux 6.13 (ext4,
/// XFS, Btrfs, tmpfs) no change has the time of one that was looked at before; see [`tells_changes_apart`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    place: (u32, u32, u64),
    changed: (i64, u32),
    modified: (i64, u32),
    mode: u16,
    links: u32,
    owner: (u32, u32),
    flags: u64,
    attributes: Vec<u8>,
}

/// Whether each change of a file in this directory's file system has a time of its own, once the one before was looked at: tried on the
/// directory itself, of which nothing changes but the time.
///
/// # Errors
/// As statx(2) and chmod(2).
pub fn tells_changes_apart(directory: &Path) -> io::Result<bool> {
    for _ in 0..3 {
        let mark = Mark::of(directory)?;
        std::fs::set_permissions(directory, std::fs::metadata(directory)?.permissions())?;
        if mark.still_holds(directory) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Mark {
    /// How a file looks now; a symbolic link for itself. Reading it leaves it as it is.
    ///
    /// # Errors
    /// As statx(2) and llistxattr(2); ERANGE if it has more attributes than anything that nobody has touched.
    pub fn of(path: &Path) -> io::Result<Mark> {
        let found: Statx = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        let mut attributes = Vec::with_capacity(NAMES);
        rustix::fs::llistxattr(path, spare_capacity(&mut attributes))?;
        Ok(Mark {
            place: (found.stx_dev_major, found.stx_dev_minor, found.stx_ino),
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            mode: found.stx_mode,
            links: found.stx_nlink,
            owner: (found.stx_uid, found.stx_gid),
            flags: found.stx_attributes.bits(),
            attributes,
        })
    }

    /// Whether nothing was done to the file at `path` since, not even what left it as it was.
    #[must_use]
    pub fn still_holds(&self, path: &Path) -> bool {
        Mark::of(path).is_ok_and(|now| now == *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whatever_is_done_to_a_file_shows() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        if !tells_changes_apart(directory.path()).unwrap() {
            return eprintln!("skipped: here two changes within a tick of the clock look alike");
        }
        let path = directory.path().join("file");
        fs::write(&path, "1").unwrap();
        let other = directory.path().join("other");
        let changes: [(&str, &dyn Fn()); 6] = [
            ("its mode, back again", &|| {
                fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
                fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            }),
            ("the same text", &|| fs::write(&path, "1").unwrap()),
            ("an attribute, removed again", &|| {
                rustix::fs::setxattr(&path, "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
                rustix::fs::removexattr(&path, "user.x").unwrap();
            }),
            ("its times", &|| {
                let file = fs::File::options().write(true).open(&path).unwrap();
                let times = file.metadata().unwrap();
                file.set_modified(times.modified().unwrap()).unwrap();
            }),
            ("another name, removed again", &|| {
                fs::hard_link(&path, &other).unwrap();
                fs::remove_file(&other).unwrap();
            }),
            ("another file in its place", &|| {
                fs::copy(&path, &other).unwrap();
                fs::rename(&other, &path).unwrap();
            }),
        ];
        for (what, change) in changes {
            let mark = Mark::of(&path).unwrap();
            fs::read(&path).unwrap();
            assert!(mark.still_holds(&path), "before: {what}");
            change();
            assert!(!mark.still_holds(&path), "{what}");
        }
        fs::remove_file(&path).unwrap();
        assert!(!Mark::of(directory.path()).unwrap().still_holds(&path));
    }
}
