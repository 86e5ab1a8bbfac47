//! One mount of the plan: made detached, configured, attached to a place that was resolved below the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::mount::{self, Attributes, FileSystem, attr};
use corten_sys::path;

use super::attributes::{change_attached, change_detached};
use super::base::Base;
use super::report::Explain;
use super::stage::Staged;
use super::sysctl::Proc;
use super::{cgroupfs, copy_up, procfs};
use crate::plan::{MountKind, MountPlan, Propagation};
use crate::{Failure, FailureKind};

/// Docker's users know this hint.
const MISMATCH: &str = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? \
                        Check if the specified host path exists and is the expected type";

/// A bind's failure, with the hint if a file meets a directory.
fn mismatch(what: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotADirectory => Failure::new(FailureKind::Invalid, MISMATCH),
        _ => Failure::host(what, error),
    }
}

/// What all mounts of one start share.
pub(super) struct Context<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) base: &'a Base,
    pub(super) sources: &'a [OwnedFd],
    pub(super) staged: &'a Staged,
    pub(super) private_cgroup: bool,
    pub(super) proc: Proc,
}

impl Context<'_> {
    pub(super) fn mount(&mut self, plan: &MountPlan) -> Result<(), Failure> {
        match &plan.kind {
            MountKind::Bind { source, .. } => self.bind(plan, *source),
            MountKind::FileSystem { fstype, .. } if self.staged.covers_mount(plan) => {
                self.staged.attach(plan, self, fstype)
            }
            MountKind::FileSystem { fstype, source, options } => self.file_system(plan, fstype, source, options),
            // It came with the tree that it is in.
            MountKind::CgroupV1 if self.staged.covers_mount(plan) => Ok(()),
            MountKind::CgroupV1 => cgroupfs::mount_v1(self, plan),
            MountKind::CgroupV2 => self.file_system(plan, "cgroup2", "cgroup", &[]),
            MountKind::Remount => self.remount(plan),
        }
    }

    /// Changes what an earlier mount put there.
    fn remount(&self, plan: &MountPlan) -> Result<(), Failure> {
        let place = path::find(self.root, &plan.destination).explain("cannot find what is to be remounted")?;
        change(place.as_fd(), plan, false, change_attached)
    }

    /// The tree was cloned by the daemon; what is left is to change it and to put it in place.
    fn bind(&self, plan: &MountPlan, source: usize) -> Result<(), Failure> {
        let missing = || Failure::new(FailureKind::Internal, "its source was not handed over");
        let tree = self.sources.get(source).ok_or_else(missing)?;
        let directory = path::is_directory(tree.as_fd()).explain("cannot look at the source")?;
        let place = if directory {
            path::make_directories(self.root, &plan.destination, 0o755)
        } else {
            path::make_file(self.root, &plan.destination, 0o644)
        };
        change(tree.as_fd(), plan, true, change_detached)?;
        let place = place.map_err(|error| mismatch("cannot make the mount point", &error))?;
        procfs::check_bind(self.root, plan, tree.as_fd(), place.as_fd())?;
        mount::attach(tree.as_fd(), place.as_fd()).map_err(|error| mismatch("cannot attach it", &error))
    }

    fn file_system(
        &mut self,
        plan: &MountPlan,
        fstype: &str,
        source: &str,
        options: &[(String, Option<String>)],
    ) -> Result<(), Failure> {
        let configured = configure(fstype, source, options)?;
        // What is to be filled becomes read-only when it is full.
        let late = if plan.copy_up { plan.set & attr::RDONLY } else { 0 };
        let mount = configured.mount(plan.set & !late).explain("cannot make the file system")?;
        let place = self.place(plan, fstype)?;
        procfs::check(self.root, plan, fstype, place.as_fd())?;
        if plan.copy_up {
            copy_up::copy(place.as_fd(), mount.as_fd())?;
        }
        change(mount.as_fd(), &MountPlan { set: late, clear: 0, ..plan.clone() }, false, change_detached)?;
        attach(mount.as_fd(), &place)?;
        if fstype == "proc" {
            let in_part = options.iter().any(|(key, _)| key == "subset");
            self.proc = if in_part { Proc::Processes(mount) } else { Proc::Whole(mount) };
        }
        Ok(())
    }

    /// The mount point. The kernel's own views must not be led elsewhere by a link in the image: what is written
    /// below them later would go astray (CVE-2019-19921, CVE-2023-27561).
    pub(super) fn place(&self, plan: &MountPlan, fstype: &str) -> Result<OwnedFd, Failure> {
        let own = matches!(fstype, "proc" | "sysfs") || plan.destination.trim_end_matches('/') == "/dev";
        if own && is_link(self.root, &plan.destination)? {
            let text = format!("filesystem {fstype:?} must be mounted on ordinary directory");
            return Err(Failure::new(FailureKind::Invalid, text));
        }
        path::make_directories(self.root, &plan.destination, 0o755).explain("cannot make the mount point")
    }
}

/// True when the last part of the path is a symbolic link.
fn is_link(root: BorrowedFd<'_>, path: &str) -> Result<bool, Failure> {
    use rustix::fs::{FileType, fstat};
    match path::find_no_follow(root, path) {
        Ok(found) => {
            let stat = fstat(&found).explain("cannot look at the mount point")?;
            Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).explain("cannot look at the mount point"),
    }
}

/// A file system with its options set, not yet made.
pub(super) fn configure(
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
) -> Result<FileSystem, Failure> {
    let system = FileSystem::open(fstype).explain_with(|| format!("cannot open file system type {fstype:?}"))?;
    if !source.is_empty() {
        system.set_string("source", source).explain("cannot set its source")?;
    }
    for (key, value) in options {
        match value {
            None => system.set_flag(key),
            Some(value) => system.set_string(key, value.as_str()),
        }
        .map_err(|error| option_failure(key, &error))?;
    }
    Ok(system)
}

/// Only SELinux knows labels of mounts.
fn option_failure(key: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::host(format!("option {key:?}"), error);
    if key != "context" {
        return failure;
    }
    Failure::new(FailureKind::Invalid, format!("{}: SELinux is not enabled on this host", failure.message))
}

/// Changes one mount, or with the flag all of a tree.
type Change = fn(BorrowedFd<'_>, &Attributes<'_>, bool) -> std::io::Result<()>;

/// Sets attributes and propagation; of a detached tree, which is never seen without them, or of what is there already.
fn change(mount: BorrowedFd<'_>, plan: &MountPlan, bind: bool, change: Change) -> Result<(), Failure> {
    // A bind keeps its source's peer group unless it is told otherwise; the plan's default is to be private.
    let default = bind.then_some((Propagation::Private, true));
    if let Some((kind, recursive)) = plan.propagation.or(default) {
        let attributes = Attributes { propagation: Some(propagation(kind)), ..Attributes::default() };
        change(mount, &attributes, recursive).explain("cannot set its propagation")?;
    }
    for (set, clear, recursive) in [(plan.set, plan.clear, false), (plan.set_recursive, plan.clear_recursive, true)] {
        if set | clear != 0 {
            let attributes = Attributes { set, clear, ..Attributes::default() };
            change(mount, &attributes, recursive).explain("cannot set its options")?;
        }
    }
    Ok(())
}

/// The kernel interface's word for a plan's.
pub(super) fn propagation(kind: Propagation) -> mount::Propagation {
    match kind {
        Propagation::Private => mount::Propagation::Private,
        Propagation::Shared => mount::Propagation::Shared,
        Propagation::Slave => mount::Propagation::Slave,
        Propagation::Unbindable => mount::Propagation::Unbindable,
    }
}

fn attach(mount: BorrowedFd<'_>, place: &OwnedFd) -> Result<(), Failure> {
    mount::attach(mount, place.as_fd()).explain("cannot attach it")
}
