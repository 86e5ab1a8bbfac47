//! Where containers' control groups have been put: below the daemon's parent and whatever parents containers asked for.
//!
//! A container's group is named after its id, but its parent stands in its record alone, and the daemon's parent in its settings. A
//! daemon that starts may find containers without a record, and its settings changed. So every parent is written down before the
//! first group is made below it, and all of them are looked through.
//!
//! `<exec-root>/cgroup-parents` has one path a line; lines may be incomplete, empty, or there twice. It lives as long as
//! the groups do where both are in memory, as usual, and is none the worse for living longer: what has no group below it is dropped.
//!
//! Nobody removes an emptied parent, which may be the user's own, with limits. So what has nothing below it, and no start on the way
//! there, is forgotten whenever the paths have doubled since the last look: they stay in proportion to the containers that there are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_base::ContainerId;
use corten_cgroup::{CgroupPath, Group, Tree};

use crate::undo::log;

/// So few are never looked through.
const FEW: usize = 64;

/// The parents of this daemon's containers and of those before it.
#[derive(Debug)]
pub(crate) struct Parents {
    tree: Tree,
    /// The daemon's own, where its pool is: never forgotten.
    own: CgroupPath,
    /// Who changes the file, or forgets what stands there, which takes neither a disk nor a container. Never waited for by who holds
    /// `known`, nor by who notes what is known.
    file: Mutex<Lines>,
    /// Not held while anything is read or written.
    known: Mutex<BTreeMap<CgroupPath, Notes>>,
}

/// The file, which has at least all that is known.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    /// How many parents are looked through.
    many: usize,
}

/// How often a parent was noted, and how many of these notes are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Notes {
    begun: u64,
    over: u64,
}

/// A parent that is found again, whatever becomes of the others; to be held until a group is below it, which keeps it from then on.
#[derive(Debug)]
#[must_use = "a parent without a group below it may be forgotten"]
pub(crate) struct Noted<'a> {
    parents: &'a Parents,
    parent: CgroupPath,
}

impl Parents {
    /// Those that earlier daemons of the same run directory wrote down and that are still in use, and the daemon's own.
    pub(crate) fn open(exec_root: &Path, tree: &Tree, own: &CgroupPath) -> io::Result<Parents> {
        let path = exec_root.join("cgroup-parents");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let paths = text.lines().filter(|line| !line.is_empty()).filter_map(|line| CgroupPath::parse(line).ok());
        let used = paths.filter(|path| has_groups(tree, path));
        let known: BTreeMap<_, _> = used.chain([own.clone()]).map(|path| (path, Notes::default())).collect();
        replace(&path, known.keys())?;
        let file = Mutex::new(Lines { path, many: FEW.max(2 * known.len()) });
        Ok(Parents { tree: tree.clone(), own: own.clone(), file, known: Mutex::new(known) })
    }

    /// Makes sure that a parent is found again. To be called before a container's group is made below it.
    pub(crate) fn note(&self, parent: &CgroupPath) -> io::Result<Noted<'_>> {
        if let Some(noted) = self.note_known(parent) {
            return Ok(noted);
        }
        let mut file = lock(&self.file);
        // Somebody else may have written it down meanwhile.
        if let Some(noted) = self.note_known(parent) {
            return Ok(noted);
        }
        // The line before may be incomplete: it is not to take this one along.
        let text = format!("\n{}", line(parent));
        File::options().append(true).create(true).open(&file.path)?.write_all(text.as_bytes())?;
        lock(&self.known).insert(parent.clone(), Notes { begun: 1, over: 0 });
        let noted = Noted { parents: self, parent: parent.clone() };
        if lock(&self.known).len() > file.many {
            log("parents of control groups can't be forgotten", self.forget_unused(&file.path));
            file.many = FEW.max(2 * lock(&self.known).len());
        }
        Ok(noted)
    }

    fn note_known(&self, parent: &CgroupPath) -> Option<Noted<'_>> {
        lock(&self.known).get_mut(parent)?.begun += 1;
        Some(Noted { parents: self, parent: parent.clone() })
    }

    /// Forgets those without a group below them. Who has noted one meanwhile may have made a group after the look: it stays. The file is
    /// the caller's: what is noted anew waits for it, and is written after.
    fn forget_unused(&self, file: &Path) -> io::Result<()> {
        let mut unused: Vec<(CgroupPath, Notes)> = {
            let known = lock(&self.known);
            let idle = known.iter().filter(|(path, notes)| **path != self.own && notes.begun == notes.over);
            idle.map(|(path, notes)| (path.clone(), *notes)).collect()
        };
        unused.retain(|(path, _)| !has_groups(&self.tree, path));
        let left: Vec<CgroupPath> = {
            let mut known = lock(&self.known);
            for (path, notes) in unused {
                if known.get(&path) == Some(&notes) {
                    known.remove(&path);
                }
            }
            known.keys().cloned().collect()
        };
        replace(file, left.iter())
    }

    /// All parents.
    pub(crate) fn all(&self) -> Vec<CgroupPath> {
        lock(&self.known).keys().cloned().collect()
    }

    /// The groups of a container, wherever they are.
    pub(crate) fn groups_of(&self, id: &ContainerId) -> Vec<Group> {
        let paths = self.all().into_iter().filter_map(|parent| parent.join(id.as_str()).ok());
        paths.filter_map(|path| self.tree.open(&path).ok()).collect()
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(notes) = lock(&self.parents.known).get_mut(&self.parent) {
            notes.over += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a container's group may be below a parent: also where that can't be told.
fn has_groups(tree: &Tree, parent: &CgroupPath) -> bool {
    tree.children(parent).map_or(true, |children| !children.is_empty())
}

/// Puts a file with these lines in the place of the present one, in one step.
fn replace<'a>(file: &Path, paths: impl Iterator<Item = &'a CgroupPath>) -> io::Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, paths.map(line).collect::<String>())?;
    fs::rename(&fresh, file)
}

fn line(path: &CgroupPath) -> String {
    format!("{path}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run directory and a tree of control groups.
    struct Place {
        _directory: tempfile::TempDir,
        run: PathBuf,
        groups: PathBuf,
        tree: Tree,
    }

    impl Place {
        fn new() -> Place {
            let directory = tempfile::tempdir().unwrap();
            let (run, groups) = (directory.path().join("run"), directory.path().join("groups"));
            fs::create_dir(&run).unwrap();
            fs::create_dir(&groups).unwrap();
            let tree = Tree::at(&groups).unwrap();
            Place { _directory: directory, run, groups, tree }
        }

        fn open(&self, own: &str) -> Parents {
            Parents::open(&self.run, &self.tree, &path(own)).unwrap()
        }

        fn written(&self) -> String {
            fs::read_to_string(self.run.join("cgroup-parents")).unwrap()
        }

        /// What a daemon that starts now would look through.
        fn is_written(&self, parent: &str) -> bool {
            self.written().lines().any(|line| line == parent)
        }

        /// Containers that come and go below parents of their own, which stay behind.
        fn pass_by(&self, parents: &Parents, name: &str, count: usize) {
            for number in 0..count {
                let parent = path(&format!("/{name}/{number}"));
                let noted = parents.note(&parent).unwrap();
                let group = self.tree.create(&parent.join(id().as_str()).unwrap()).unwrap();
                drop(noted);
                assert!(parents.all().contains(&parent) && self.is_written(parent.as_str()), "{parent} is in use");
                fs::remove_dir(self.groups.join(&group.path().as_str()[1..])).unwrap();
            }
        }
    }

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    fn id() -> ContainerId {
        ContainerId::parse(&"5".repeat(64)).unwrap()
    }

    fn below(parent: &str) -> CgroupPath {
        path(parent).join(id().as_str()).unwrap()
    }

    #[test]
    fn what_is_still_there_is_known_to_the_next_daemon() {
        let place = Place::new();
        let first = place.open("/first");
        for parent in ["/mine/deep", "/gone", "/mine/deep", "/empty"] {
            drop(first.note(&path(parent)).unwrap());
        }
        assert_eq!(place.written(), "/first\n\n/mine/deep\n\n/gone\n\n/empty\n");
        place.tree.create(&below("/mine/deep")).unwrap();
        fs::create_dir(place.groups.join("empty")).unwrap();
        // As if the disk had been full, or the daemon killed, while it wrote.
        fs::write(place.run.join("cgroup-parents"), "/first\n/empty\n/gone\n/mi").unwrap();
        lock(&first.known).clear();
        drop(first.note(&path("/mine/deep")).unwrap());

        let second = place.open("/second");
        assert_eq!(second.all(), [path("/mine/deep"), path("/second")]);
        assert_eq!(place.written(), "/mine/deep\n/second\n");
        let found: Vec<_> = second.groups_of(&id()).iter().map(|group| group.path().clone()).collect();
        assert_eq!(found, [below("/mine/deep")]);
    }

    #[test]
    fn parents_whose_containers_have_gone_are_forgotten() {
        let place = Place::new();
        let parents = place.open("/own");
        place.pass_by(&parents, "passing", 1000);
        assert!(parents.all().len() <= FEW + 1, "{} parents", parents.all().len());
        assert!(place.written().lines().count() <= 2 * (FEW + 1), "{}", place.written());
        // Nor do starts that fail for their parent leave anything.
        fs::write(place.groups.join("file"), "").unwrap();
        for number in 0..1000 {
            let parent = format!("/file/{number}");
            let _noted = parents.note(&path(&parent)).unwrap();
            assert!(place.tree.create(&below(&parent)).is_err());
        }
        assert!(parents.all().len() <= FEW + 1, "{} parents", parents.all().len());
        assert!(parents.all().contains(&path("/own")) && place.is_written("/own"));
    }

    #[test]
    fn the_more_containers_there_are_the_rarer_is_a_look() {
        let place = Place::new();
        let parents = place.open("/own");
        let names: Vec<_> = (0..3 * FEW).map(|number| format!("/kept/{number}")).collect();
        for name in &names {
            let _noted = parents.note(&path(name)).unwrap();
            place.tree.create(&below(name)).unwrap();
        }
        place.pass_by(&parents, "passing", 500);
        assert!(parents.all().len() <= 2 * (names.len() + 1) + 1, "{} parents", parents.all().len());
        assert!(names.iter().all(|name| place.is_written(name)));
        assert_eq!(place.open("/own").all().len(), names.len() + 1);
    }

    #[test]
    fn a_parent_whose_group_is_on_the_way_is_not_forgotten() {
        let place = Place::new();
        let parents = place.open("/own");
        let noted = parents.note(&path("/slow")).unwrap();
        // Another start below the same one that fails.
        drop(parents.note(&path("/slow")).unwrap());
        place.pass_by(&parents, "before", 200);
        assert!(parents.all().contains(&path("/slow")) && place.is_written("/slow"));
        place.tree.create(&below("/slow")).unwrap();
        drop(noted);
        place.pass_by(&parents, "after", 200);
        assert_eq!(parents.groups_of(&id()).len(), 1);
        assert_eq!(place.open("/own").groups_of(&id()).len(), 1);
    }

    #[test]
    fn whenever_the_daemon_dies_its_groups_are_found() {
        let place = Place::new();
        let parents = place.open("/own");
        std::thread::scope(|scope| {
            for number in 0..2 {
                let (place, parents) = (&place, &parents);
                scope.spawn(move || place.pass_by(parents, &format!("passing-{number}"), 1000));
                let name = format!("/often-{number}");
                scope.spawn(move || {
                    // Known or just forgotten, with a group or without.
                    for _ in 0..1000 {
                        drop(parents.note(&path(&name)).unwrap());
                        let noted = parents.note(&path(&name)).unwrap();
                        place.tree.create(&below(&name)).unwrap();
                        drop(noted);
                        assert!(place.is_written(&name), "{name} would be lost");
                        fs::remove_dir(place.groups.join(&below(&name).as_str()[1..])).unwrap();
                    }
                });
            }
        });
    }
}
