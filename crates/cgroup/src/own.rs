//! Trees that begin at the calling process's own groups, for paths that are relative to them.
//!
//! As runc's cgroupfs driver has it: on v1 each hierarchy begins at the group that the caller is in; on v2 at the one above,
//! because a group with processes in it gives its children no controllers.

use std::path::{Path, PathBuf};

use crate::detect::Controller;
use crate::tree::Hierarchy;
use crate::{Error, Result, Tree};

impl Tree {
    /// Where the caller's groups are, one directory for each hierarchy, for [`Tree::below`].
    pub fn own_roots(&self) -> Result<Vec<PathBuf>> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|source| Error::Io {
                operation: "reading",
                path: path.into(),
                source,
            })
        };
        let (groups, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
        self.hierarchies()
            .iter()
            .map(|hierarchy| own_root(hierarchy, self.is_v2(), &groups, &mounts).ok_or(Error::NotMounted))
            .collect()
    }

    /// The same hierarchies, each from one of these directories on. The list is in the order of [`Tree::own_roots`].
    pub fn below(&self, roots: &[PathBuf]) -> Result<Tree> {
        if roots.len() != self.hierarchies().len() {
            return Err(Error::NotMounted);
        }
        self.with_hierarchies(|hierarchy, place| hierarchy.moved(&roots[place]))
    }
}

fn own_root(hierarchy: &Hierarchy, v2: bool, groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let known = |name: &str| Controller::parse(name).is_some_and(|controller| hierarchy.has(controller));
        let fits = if v2 { controllers.is_empty() } else { controllers.split(',').any(known) };
        fits.then_some(path)
    })?;
    let group = if v2 { Path::new(group).parent().unwrap_or(Path::new("/")) } else { Path::new(group) };
    // The mount may show a part of the hierarchy only.
    let shown = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let root = fields.next()?;
        (Path::new(fields.next()?) == hierarchy.path).then_some(root)
    })?;
    let below = group.strip_prefix(shown).or_else(|_| group.strip_prefix("/")).ok()?;
    Some(hierarchy.path.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(v2: bool, group: &str, root: &str, expect: &str) {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path()).unwrap();
        let hierarchy = &tree.hierarchies()[0];
        let mounts = format!("9 1 0:3 {root} {} rw - cgroup2 none rw\n", directory.path().display());
        let found = own_root(hierarchy, v2, &format!("3:nosuch:/x\n0::{group}\n"), &mounts).unwrap();
        assert_eq!(found, directory.path().join(expect));
    }

    #[test]
    fn groups_are_found_below_the_mount() {
        check(true, "/user/session", "/", "user");
        check(true, "/", "/", "");
        check(true, "/docker/x/init", "/docker/x", "");
    }

    #[test]
    fn a_tree_begins_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("own")).unwrap();
        let below = Tree::at(directory.path()).unwrap().below(&[directory.path().join("own")]).unwrap();
        std::fs::create_dir(directory.path().join("own/child")).unwrap();
        let child = crate::CgroupPath::parse("child").unwrap();
        assert!(below.open(&child).is_ok() && below.open(&crate::CgroupPath::parse("own").unwrap()).is_err());
    }
}
