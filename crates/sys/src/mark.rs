//! Telling whether anything was done to a file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::buffer::spare_capacity;

/// The most bytes that the names of a file's extended attributes may take.
const NAMES: usize = 512;

/// How a file or a directory looked at a moment. Its change time can't be set, and with the multigrain timestamps of Linux 6.13 (ext4,
/// XFS, Btrfs, tmpfs) no change has the time of one that was looked at before. On other file systems two changes within a tick of the
/// clock may look alike; then mode, owner and the attributes' names still tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    place: (u64, u64),
    changed: (i64, i64),
    modified: (i64, i64),
    mode: u32,
    links: u64,
    owner: (u32, u32),
    attributes: Vec<u8>,
}

impl Mark {
    /// How a file looks now; a symbolic link for itself. Reading it leaves it as it is.
    ///
    /// # Errors
    /// As lstat(2) and llistxattr(2); ERANGE if it has more attributes than anything that nobody has touched.
    pub fn of(path: &Path) -> io::Result<Mark> {
        let metadata = fs::symlink_metadata(path)?;
        let mut attributes = Vec::with_capacity(NAMES);
        rustix::fs::llistxattr(path, spare_capacity(&mut attributes))?;
        Ok(Mark {
            place: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
            links: metadata.nlink(),
            owner: (metadata.uid(), metadata.gid()),
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
    use std::os::unix::fs::PermissionsExt;

    /// Whether the kernel has multigrain timestamps; prints the reason if not.
    fn tells_changes_apart() -> bool {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let numbers: Vec<u32> = release.split(['.', '-']).take(2).filter_map(|number| number.parse().ok()).collect();
        let fine = numbers >= vec![6, 13];
        if !fine {
            eprintln!("skipped: two changes within a tick of Linux {release} look alike");
        }
        fine
    }

    #[test]
    fn whatever_is_done_to_a_file_shows() {
        if !tells_changes_apart() {
            return;
        }
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
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
