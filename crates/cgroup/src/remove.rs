//! Removing groups, whose last process may not be gone entirely yet.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use crate::tree::Hierarchy;
use crate::{CgroupPath, Error, Result, Tree, file};

/// How long a busy group is tried again: 1 ms, doubled each time, about two seconds in all.
const ATTEMPTS: u32 = 11;

/// Removes a group from every hierarchy; the first error is returned after all have been tried.
pub(crate) fn remove(tree: &Tree, path: &CgroupPath) -> Result<()> {
    let mut result = Ok(());
    for hierarchy in tree.hierarchies() {
        result = result.and(remove_in(hierarchy, path));
    }
    result
}

fn remove_in(hierarchy: &Hierarchy, path: &CgroupPath) -> Result<()> {
    for attempt in 0..ATTEMPTS {
        match fs::unlinkat(&hierarchy.root, path.relative(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => remove_below(hierarchy, path),
            Err(error) => return Err(hierarchy.failed("removing", path)(error.into())),
        }
        // A process that was waited for is still leaving its groups, and a removed child is taken down behind the scenes.
        std::thread::sleep(Duration::from_millis(1 << attempt));
    }
    match fs::unlinkat(&hierarchy.root, path.relative(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {
            Err(Error::Timeout { operation: "removing", path: hierarchy.path.join(path.relative()) })
        }
        Err(error) => Err(hierarchy.failed("removing", path)(error.into())),
    }
}

/// Removes what was made below the group, deepest first; what can't be removed is left to the next attempt.
fn remove_below(hierarchy: &Hierarchy, path: &CgroupPath) {
    let Ok(dir) = file::open_dir(hierarchy.root.as_fd(), path.relative()) else { return };
    for name in file::children(dir.as_fd()).unwrap_or_default() {
        if let Ok(child) = path.join(&name) {
            remove_below(hierarchy, &child);
            let _ = fs::unlinkat(&hierarchy.root, child.relative(), AtFlags::REMOVEDIR);
        }
    }
}
