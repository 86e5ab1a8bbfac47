//! Where containers' control groups have been put: below the daemon's parent and whatever parents containers asked for.
//!
//! A container's group is named after its id, but its parent stands in its record alone, and the daemon's parent in its settings. A
//! daemon that starts may find containers without a record, and its settings changed. So every parent is written down before the
//! first group is made below it, and all of them are looked through.
//!
//! `<exec-root>/cgroup-parents` has one path a line; lines may be incomplete, empty, or there twice. It lives as long as
//! the groups do where both are in memory, as usual, and is none the worse for living longer: what is no group is dropped.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_base::ContainerId;
use corten_cgroup::{CgroupPath, Group, Tree};

/// The parents of this daemon's containers and of those before it.
#[derive(Debug)]
pub(crate) struct Parents {
    file: PathBuf,
    known: Mutex<BTreeSet<CgroupPath>>,
}

impl Parents {
    /// Those that earlier daemons of the same run directory wrote down and that are still there, and the daemon's own.
    pub(crate) fn open(exec_root: &Path, tree: &Tree, own: &CgroupPath) -> io::Result<Parents> {
        let file = exec_root.join("cgroup-parents");
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let paths = text.lines().filter(|line| !line.is_empty()).filter_map(|line| CgroupPath::parse(line).ok());
        let there = paths.filter(|path| tree.open(path).is_ok());
        let known: BTreeSet<CgroupPath> = there.chain([own.clone()]).collect();
        let fresh = file.with_extension("new");
        fs::write(&fresh, known.iter().map(line).collect::<String>())?;
        fs::rename(&fresh, &file)?;
        Ok(Parents { file, known: Mutex::new(known) })
    }

    /// Makes sure that a parent is found again. To be called before a container's group is made below it.
    pub(crate) fn note(&self, parent: &CgroupPath) -> io::Result<()> {
        if self.known().contains(parent) {
            return Ok(());
        }
        // The line before may be incomplete: it is not to take this one along.
        let text = format!("\n{}", line(parent));
        File::options().append(true).create(true).open(&self.file)?.write_all(text.as_bytes())?;
        self.known().insert(parent.clone());
        Ok(())
    }

    /// All parents.
    pub(crate) fn all(&self) -> Vec<CgroupPath> {
        self.known().iter().cloned().collect()
    }

    /// The groups of a container, wherever they are.
    pub(crate) fn groups_of(&self, tree: &Tree, id: &ContainerId) -> Vec<Group> {
        let paths = self.all().into_iter().filter_map(|parent| parent.join(id.as_str()).ok());
        paths.filter_map(|path| tree.open(&path).ok()).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<CgroupPath>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(path: &CgroupPath) -> String {
    format!("{path}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_there_is_known_to_the_next_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let (exec_root, root) = (directory.path().join("run"), directory.path().join("groups"));
        fs::create_dir(&exec_root).unwrap();
        fs::create_dir_all(root.join("mine/deep")).unwrap();
        let tree = Tree::at(&root).unwrap();
        let path = |text: &str| CgroupPath::parse(text).unwrap();
        let id = ContainerId::parse(&"5".repeat(64)).unwrap();

        let first = Parents::open(&exec_root, &tree, &path("/first")).unwrap();
        for parent in ["/mine/deep", "/gone", "/mine/deep"] {
            first.note(&path(parent)).unwrap();
        }
        let written = fs::read_to_string(exec_root.join("cgroup-parents")).unwrap();
        assert_eq!(written, "/first\n\n/mine/deep\n\n/gone\n");
        fs::create_dir_all(root.join("mine/deep").join(id.as_str())).unwrap();
        // As if the disk had been full, or the daemon killed, while it wrote.
        fs::write(exec_root.join("cgroup-parents"), "/first\n/mi").unwrap();
        let later = Parents { file: first.file, known: Mutex::default() };
        later.note(&path("/mine/deep")).unwrap();

        let second = Parents::open(&exec_root, &tree, &path("/second")).unwrap();
        assert_eq!(second.all(), [path("/mine/deep"), path("/second")]);
        let groups = second.groups_of(&tree, &id);
        let found: Vec<_> = groups.iter().map(|group| group.path().as_str()).collect();
        assert_eq!(found, [format!("/mine/deep/{id}")]);
    }
}
