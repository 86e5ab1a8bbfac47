//! What is mounted, opened once: one [`Tree`] serves all groups.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode};

use crate::detect::{Controller, Layout, V1Mount};
use crate::{CgroupPath, Error, Group, Result, file};

/// The mounted hierarchies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tree {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    hierarchies: Vec<Hierarchy>,
}

/// One hierarchy that groups are made in.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    pub path: PathBuf,
    pub root: OwnedFd,
    pub controllers: Vec<Controller>,
}

/// What limits the host can set; the fields are named as in the engine's checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the limit of the same name")]
pub struct Support {
    pub memory: bool,
    pub swap: bool,
    pub memory_reservation: bool,
    pub memory_swappiness: bool,
    pub oom_kill_disable: bool,
    pub pids: bool,
    pub cpu_shares: bool,
    pub cpu_cfs: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub blkio_weight: bool,
    pub blkio_weight_device: bool,
    pub blkio_throttle: bool,
}

impl Tree {
    /// What this process sees mounted.
    pub fn detect() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            operation: "reading",
            path: path.into(),
            source,
        })?;
        Self::open_layout(Layout::parse(&text).ok_or(Error::NotMounted)?)
    }

    /// A v2 tree at a directory: a cgroup2 mount, or a plain directory in tests.
    pub fn at(root: &Path) -> Result<Self> {
        Self::open_layout(Layout::V2 { root: root.to_owned() })
    }

    /// Opens the roots of a layout.
    pub fn open_layout(layout: Layout) -> Result<Self> {
        let hierarchies = match &layout {
            Layout::V1 { controllers, .. } => controllers.iter().map(Hierarchy::v1).collect::<Result<_>>()?,
            Layout::V2 { root } => vec![Hierarchy::v2(root)?],
        };
        Ok(Self { inner: Arc::new(Inner { layout, hierarchies }) })
    }

    /// How the host mounts control groups.
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// One v2 tree, without v1 controllers.
    pub fn is_v2(&self) -> bool {
        matches!(self.inner.layout, Layout::V2 { .. })
    }

    /// Makes a group in every hierarchy, with those above it; one that is there is taken.
    ///
    /// On v1 it gets its parent's CPUs and memory nodes, without which no process could join. If it fails half-way, what was
    /// made is removed.
    pub fn create(&self, path: &CgroupPath) -> Result<Group> {
        Group::create(self, path)
    }

    /// An existing group; the error's kind is `NotFound` if it is in no hierarchy.
    pub fn open(&self, path: &CgroupPath) -> Result<Group> {
        Group::open(self, path)
    }

    /// The groups directly below one, none if it isn't there.
    pub fn children(&self, path: &CgroupPath) -> Result<Vec<CgroupPath>> {
        let mut names = Vec::new();
        for hierarchy in self.hierarchies() {
            let found = file::open_dir(hierarchy.root.as_fd(), path.relative());
            match found.and_then(|dir| file::children(dir.as_fd())) {
                Ok(found) => names.extend(found),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(hierarchy.failed("listing", path)(error)),
            }
        }
        names.sort_unstable();
        names.dedup();
        names.iter().map(|name| path.join(name)).collect()
    }

    /// Which limits can be set here.
    pub fn support(&self) -> Support {
        let has = |controller| self.hierarchy(controller).is_some();
        // The root group lacks most files, so v1 is asked for those that it has; memsw depends on a boot parameter.
        let file = |controller, name: &str| {
            self.hierarchy(controller)
                .is_some_and(|it| rustix::fs::statat(&it.root, name, rustix::fs::AtFlags::empty()).is_ok())
        };
        let v1 = !self.is_v2();
        let weight = if v1 {
            file(Controller::Io, "blkio.weight") || file(Controller::Io, "blkio.bfq.weight")
        } else {
            has(Controller::Io)
        };
        Support {
            memory: has(Controller::Memory),
            swap: if v1 { file(Controller::Memory, "memory.memsw.limit_in_bytes") } else { has(Controller::Memory) },
            memory_reservation: has(Controller::Memory),
            memory_swappiness: v1 && file(Controller::Memory, "memory.swappiness"),
            oom_kill_disable: v1 && file(Controller::Memory, "memory.oom_control"),
            pids: has(Controller::Pids),
            cpu_shares: has(Controller::Cpu),
            cpu_cfs: has(Controller::Cpu) && (!v1 || cfs_bandwidth(self)),
            cpu_realtime: v1 && file(Controller::Cpu, "cpu.rt_runtime_us"),
            cpuset: has(Controller::Cpuset),
            blkio_weight: weight,
            blkio_weight_device: weight,
            blkio_throttle: if v1 {
                file(Controller::Io, "blkio.throttle.read_bps_device")
            } else {
                has(Controller::Io)
            },
        }
    }

    /// On v2: gives the groups below the root all controllers, as a service manager would; on v1 nothing.
    ///
    /// The only write outside groups that this crate made, and so for hosts where nobody manages the tree.
    pub fn enable_root_controllers(&self) -> Result<()> {
        match self.hierarchies() {
            [root] if self.is_v2() => {
                enable(root.root.as_fd(), &root.controllers);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The same layout with other hierarchies, each made from the present one and its place in the list.
    pub(crate) fn with_hierarchies(&self, make: impl Fn(&Hierarchy, usize) -> Result<Hierarchy>) -> Result<Tree> {
        let made = self.hierarchies().iter().enumerate().map(|(place, hierarchy)| make(hierarchy, place));
        let hierarchies = made.collect::<Result<_>>()?;
        Ok(Tree { inner: Arc::new(Inner { layout: self.inner.layout.clone(), hierarchies }) })
    }

    pub(crate) fn hierarchies(&self) -> &[Hierarchy] {
        &self.inner.hierarchies
    }

    pub(crate) fn hierarchy(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies().iter().find(|hierarchy| hierarchy.has(controller))
    }
}

/// Period and quota are a kernel option of their own; on v1 the root group shows them, or their successor.
fn cfs_bandwidth(tree: &Tree) -> bool {
    let there = |name| {
        tree.hierarchy(Controller::Cpu)
            .is_some_and(|it| rustix::fs::statat(&it.root, name, rustix::fs::AtFlags::empty()).is_ok())
    };
    there("cpu.cfs_quota_us") || there("cpu.stat")
}

impl Hierarchy {
    fn v1(mount: &V1Mount) -> Result<Self> {
        Self::open(&mount.path, |_| mount.controllers.clone())
    }

    fn v2(root: &Path) -> Result<Self> {
        Self::open(root, |root| {
            let names = file::read(root.as_fd(), "cgroup.controllers").unwrap_or_default();
            names.split_whitespace().filter_map(Controller::parse).collect()
        })
    }

    fn open(path: &Path, controllers: impl Fn(&OwnedFd) -> Vec<Controller>) -> Result<Self> {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| Error::Io {
            operation: "opening",
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self { path: path.to_owned(), controllers: controllers(&root), root })
    }

    /// The same one from another directory on.
    pub(crate) fn moved(&self, path: &Path) -> Result<Self> {
        Self::open(path, |_| self.controllers.clone())
    }

    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Turns a system error into this crate's, naming a group's place.
    pub(crate) fn failed<'a>(
        &'a self,
        operation: &'static str,
        group: &'a CgroupPath,
    ) -> impl Fn(std::io::Error) -> Error + 'a {
        move |source| Error::Io { operation, path: self.path.join(group.relative()), source }
    }
}

/// Enables controllers for the groups below one (v2); what is on already or can't be is left.
pub(crate) fn enable(dir: std::os::fd::BorrowedFd<'_>, controllers: &[Controller]) {
    let there = file::read(dir, "cgroup.subtree_control").unwrap_or_default();
    let name = |controller: &Controller| if *controller == Controller::Io { "io" } else { controller.name() };
    let missing: Vec<String> = controllers
        .iter()
        .map(name)
        .filter(|name| !there.split_whitespace().any(|it| it == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() || file::write(dir, "cgroup.subtree_control", &missing.join(" ")).is_ok() {
        return;
    }
    // One that can't be enabled (cpu beside real-time processes, say) makes the whole write fail.
    for controller in missing {
        if let Err(error) = file::write(dir, "cgroup.subtree_control", &controller) {
            tracing::debug!(%controller, %error, "controller not enabled");
        }
    }
}
