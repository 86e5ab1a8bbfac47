//! Mounts made before they are asked for.
//!
//! A warm init stub mounts what nearly every container gets (`/proc`, `/dev` with its nodes and inner mounts, `/sys`,
//! with their masks) below `/stage` of the minimal root, by the same steps that a start takes. If the plan that comes
//! asks for exactly that, each tree is moved into the root file system by one system call; a tree that differs in
//! anything is left behind, and its mounts are made anew. Kernel settings of the stub's own namespaces are made as well.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use corten_sys::{mount, path};

use super::base::Base;
use super::mounts::Context;
use super::report::Explain;
use super::sysctl::{self, Proc};
use super::{Root, devices, mask};
use crate::Failure;
use crate::plan::{DevicePlan, MountKind, MountPlan, NamespaceSource, Plan};

/// Roots of the trees that can be staged.
pub(super) const TREES: [&str; 3] = ["/proc", "/dev", "/sys"];

/// What has been staged.
#[derive(Debug)]
pub struct Stage {
    trees: Vec<Tree>,
    /// How many there were.
    built: usize,
    sysctls: BTreeMap<String, String>,
    /// A procfs without masks, for what is written during a start.
    proc: Proc,
}

/// One staged tree, and what it was made from.
#[derive(Debug, PartialEq, Eq)]
struct Tree {
    at: &'static str,
    mounts: Vec<MountPlan>,
    devices: Vec<DevicePlan>,
    masked: Vec<String>,
    readonly: Vec<String>,
    setup_dev: bool,
}

impl Stage {
    /// Mounts the stageable part of a plan like those to come. `in_cgroups`: the caller is in the cgroups of the container to
    /// be, so that their view can be staged, too.
    pub fn build(like: &Plan, base: &Base, in_cgroups: bool) -> Result<Stage, Failure> {
        let plan = stageable(like, in_cgroups);
        let root = Root { fd: base.stage.try_clone().explain("cannot copy a descriptor")? };
        root.mount_all(&plan, base, &[], &Staged::default())?;
        devices::make(&plan, &root, &Staged::default())?;
        mask::apply(&plan, &root, base, &Staged::default())?;
        let mut proc = Proc::whole_in(base).explain("cannot make a procfs")?;
        let made = has_own_settings(like) && sysctl::apply(like, &BTreeMap::new(), &mut proc).is_ok();
        let sysctls = if made { like.sysctls.clone() } else { BTreeMap::new() };
        let trees: Vec<_> = TREES.iter().filter_map(|at| Tree::of(&plan, at)).collect();
        base.put_kit_away().explain("cannot put the kit away")?;
        Ok(Stage { built: trees.len(), trees, sysctls, proc })
    }

    /// The calling process's mount namespace.
    pub fn mount_namespace(&mut self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.proc.namespace("mnt")
    }

    /// Leaves what shows the caller's cgroups behind: the start is in others.
    pub fn without_cgroups(mut self) -> Stage {
        self.trees.retain(|tree| !tree.shows_cgroups());
        self
    }

    /// The trees that fit a plan.
    pub(super) fn fit(self, plan: &Plan) -> Staged {
        let trees: Vec<_> = self.trees.into_iter().filter(|tree| tree.fits(plan)).collect();
        let sysctls = if has_own_settings(plan) { self.sysctls } else { BTreeMap::new() };
        Staged { all: trees.len() == self.built, trees, sysctls, proc: self.proc }
    }
}

/// True if the kernel settings that a plan may contain are those of the stub's own namespaces.
fn has_own_settings(plan: &Plan) -> bool {
    let namespaces = &plan.namespaces;
    [&namespaces.network, &namespaces.ipc, &namespaces.uts].iter().all(|source| **source == NamespaceSource::New)
}

/// The part of a plan that is the same for most containers and needs nothing but the stub's own namespaces.
fn stageable(plan: &Plan, in_cgroups: bool) -> Plan {
    let mut plan = plan.clone();
    // A cgroup namespace would show other paths.
    let cgroups = in_cgroups && plan.namespaces.cgroup == NamespaceSource::Host;
    let simple = |mount: &MountPlan| match mount.kind {
        MountKind::FileSystem { .. } => !mount.copy_up,
        MountKind::CgroupV1 => cgroups,
        _ => false,
    };
    let roots: Vec<&str> = TREES
        .into_iter()
        .filter(|at| plan.mounts.iter().any(|mount| mount.destination == *at && simple(mount)))
        .collect();
    let inside = |path: &str| roots.iter().any(|at| is_below(path, at));
    plan.mounts.retain(|mount| simple(mount) && inside(&mount.destination));
    plan.devices.retain(|device| inside(&device.path));
    plan.masked_paths.retain(|path| inside(path));
    plan.readonly_paths.retain(|path| inside(path));
    plan.setup_dev &= roots.contains(&"/dev");
    plan
}

impl Tree {
    fn of(plan: &Plan, at: &'static str) -> Option<Tree> {
        let below = |paths: &[String]| paths.iter().filter(|path| is_below(path, at)).cloned().collect();
        let tree = Tree {
            at,
            mounts: plan.mounts.iter().filter(|mount| is_below(&mount.destination, at)).cloned().collect(),
            devices: plan.devices.iter().filter(|device| is_below(&device.path, at)).cloned().collect(),
            masked: below(&plan.masked_paths),
            readonly: below(&plan.readonly_paths),
            setup_dev: at == "/dev" && plan.setup_dev,
        };
        tree.mounts.iter().any(|mount| mount.destination == at).then_some(tree)
    }

    fn shows_cgroups(&self) -> bool {
        self.mounts.iter().any(|mount| mount.kind == MountKind::CgroupV1)
    }

    /// True if `plan` asks for this tree, apart from further mounts that neither cover nor alter anything of it.
    fn fits(&self, plan: &Plan) -> bool {
        let (ours, others): (Vec<&MountPlan>, Vec<&MountPlan>) =
            plan.mounts.iter().partition(|mount| self.mounts.contains(mount));
        let namespace = match self.at {
            "/proc" => &plan.namespaces.pid,
            "/dev" => &plan.namespaces.ipc,
            _ => &plan.namespaces.network,
        };
        let same = |paths: &[String], own: &[String]| paths.iter().filter(|path| is_below(path, self.at)).eq(own);
        *namespace == NamespaceSource::New
            && (!self.shows_cgroups() || plan.namespaces.cgroup == NamespaceSource::Host)
            && ours.into_iter().eq(&self.mounts)
            && others.into_iter().all(|other| self.tolerates(&other.destination))
            && plan.devices.iter().filter(|device| is_below(&device.path, self.at)).eq(&self.devices)
            && same(&plan.masked_paths, &self.masked)
            && same(&plan.readonly_paths, &self.readonly)
            && (self.at != "/dev" || plan.setup_dev == self.setup_dev)
    }

    fn tolerates(&self, other: &str) -> bool {
        let mounts = self.mounts.iter().map(|mount| &mount.destination);
        let made = mounts.chain(self.devices.iter().map(|device| &device.path));
        let covers = |path: &String| is_below(path, other);
        let mut protected = self.masked.iter().chain(&self.readonly);
        !other.contains("..")
            && !made.into_iter().any(covers)
            && !protected.any(|path| is_below(path, other) || is_below(other, path))
    }
}

/// True for `top` itself and everything below it.
fn is_below(path: &str, top: &str) -> bool {
    let top = top.trim_end_matches('/');
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The staged trees that a start makes use of; none by default.
#[derive(Debug, Default)]
pub(super) struct Staged {
    trees: Vec<Tree>,
    /// Nothing was left behind.
    pub(super) all: bool,
    /// Kernel settings that are made.
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) proc: Proc,
}

impl Staged {
    /// True if this path of the plan is part of a tree that is there already.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.trees.iter().any(|tree| is_below(path, tree.at))
    }

    /// True if this mount of the plan is part of such a tree.
    pub(super) fn covers_mount(&self, mount: &MountPlan) -> bool {
        self.trees.iter().any(|tree| tree.mounts.contains(mount))
    }

    /// Moves a tree into place, if this mount is its root.
    pub(super) fn attach(&self, mount: &MountPlan, context: &Context<'_>, fstype: &str) -> Result<(), Failure> {
        if !self.trees.iter().any(|tree| tree.at == mount.destination) {
            return Ok(());
        }
        let place = context.place(mount, fstype)?;
        let tree = path::find(&context.base.stage, &mount.destination).explain("cannot find what was staged")?;
        mount::attach(tree.as_fd(), place.as_fd()).explain("cannot move what was staged")
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
