//! One control group in every hierarchy.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use crate::detect::Controller;
use crate::devices::Policy;
use crate::plan::{Step, Write};
use crate::tree::{Hierarchy, enable};
use crate::{CgroupPath, Error, Limits, Result, Tree, ebpf, file, remove, v1, v2};

/// A group. Its directories stay open, so that neither a rename nor a remount confuses it. Dropping it removes nothing.
#[derive(Debug)]
pub struct Group {
    pub(crate) tree: Tree,
    pub(crate) path: CgroupPath,
    /// One directory for each hierarchy of the tree, in its order; `None` where the group isn't there.
    dirs: Vec<Option<OwnedFd>>,
}

impl Group {
    pub(crate) fn create(tree: &Tree, path: &CgroupPath) -> Result<Self> {
        let mut group = Self { tree: tree.clone(), path: path.clone(), dirs: Vec::new() };
        for hierarchy in tree.hierarchies() {
            match group.create_in(hierarchy) {
                Ok(dir) => group.dirs.push(Some(dir)),
                Err(error) => {
                    for made in &tree.hierarchies()[..group.dirs.len()] {
                        let _ = fs::unlinkat(&made.root, path.relative(), fs::AtFlags::REMOVEDIR);
                    }
                    return Err(error);
                }
            }
        }
        Ok(group)
    }

    fn create_in(&self, hierarchy: &Hierarchy) -> Result<OwnedFd> {
        let failed = hierarchy.failed("creating", &self.path);
        let made = match fs::mkdirat(&hierarchy.root, self.path.relative(), Mode::from(0o755)) {
            Err(Errno::NOENT) => {
                self.create_parents(hierarchy)?;
                fs::mkdirat(&hierarchy.root, self.path.relative(), Mode::from(0o755))
            }
            result => result,
        };
        if let Err(error) = made
            && error != Errno::EXIST
        {
            return Err(failed(error.into()));
        }
        let dir = file::open_dir(hierarchy.root.as_fd(), self.path.relative()).map_err(&failed)?;
        if hierarchy.has(Controller::Cpuset) && !self.tree.is_v2() {
            inherit_cpuset(hierarchy, self.path.split().0, dir.as_fd()).map_err(&failed)?;
        }
        if self.tree.is_v2() && made.is_ok() {
            self.check_controllers(hierarchy);
        }
        Ok(dir)
    }

    /// Makes the groups above this one. They are ours then, and pass their settings down.
    fn create_parents(&self, hierarchy: &Hierarchy) -> Result<()> {
        let failed = hierarchy.failed("creating", &self.path);
        let last = self.path.relative();
        for parent in self.path.ancestry().filter(|parent| *parent != last) {
            match fs::mkdirat(&hierarchy.root, parent, Mode::from(0o755)) {
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(failed(error.into())),
                Ok(()) => {}
            }
            let dir = file::open_dir(hierarchy.root.as_fd(), parent).map_err(&failed)?;
            if self.tree.is_v2() {
                enable(dir.as_fd(), &hierarchy.controllers);
            } else if hierarchy.has(Controller::Cpuset) {
                let above = parent.rsplit_once('/').map_or("", |(above, _)| above);
                inherit_cpuset(hierarchy, above, dir.as_fd()).map_err(&failed)?;
            }
        }
        Ok(())
    }

    /// Controllers may have become available at the root since the parent was made.
    fn check_controllers(&self, hierarchy: &Hierarchy) {
        let (parent, _) = self.path.split();
        let ours = self.path.ancestry().count() > 1;
        if let (true, Ok(dir)) = (ours, file::open_dir(hierarchy.root.as_fd(), parent)) {
            let available = file::read(dir.as_fd(), "cgroup.controllers").unwrap_or_default();
            let available: Vec<_> = available.split_whitespace().filter_map(Controller::parse).collect();
            enable(dir.as_fd(), &available);
        }
    }

    pub(crate) fn open(tree: &Tree, path: &CgroupPath) -> Result<Self> {
        let mut dirs = Vec::new();
        for hierarchy in tree.hierarchies() {
            match file::open_dir(hierarchy.root.as_fd(), path.relative()) {
                Ok(dir) => dirs.push(Some(dir)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => dirs.push(None),
                Err(error) => return Err(hierarchy.failed("opening", path)(error)),
            }
        }
        if dirs.iter().all(Option::is_none) {
            let source = io::Error::from(Errno::NOENT);
            return Err(Error::Io { operation: "opening", path: path.as_str().into(), source });
        }
        Ok(Self { tree: tree.clone(), path: path.clone(), dirs })
    }

    /// Where the group is.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The directory on v2, for `CLONE_INTO_CGROUP`; `None` on v1.
    pub fn dir_fd(&self) -> Option<OwnedFd> {
        match self.dirs.as_slice() {
            [Some(dir)] if self.tree.is_v2() => dir.try_clone().ok(),
            _ => None,
        }
    }

    /// All directories: one on v2, one for each hierarchy on v1. They are `O_PATH` descriptors.
    pub fn dir_fds(&self) -> Result<Vec<OwnedFd>> {
        let copy = |(hierarchy, dir): (&Hierarchy, BorrowedFd<'_>)| {
            dir.try_clone_to_owned().map_err(hierarchy.failed("opening", &self.path))
        };
        self.places().map(copy).collect()
    }

    /// Which of [`dir_fds`](Self::dir_fds) counts the memory.
    pub fn memory_dir(&self) -> Option<u8> {
        let at = self.places().position(|(hierarchy, _)| self.tree.is_v2() || hierarchy.has(Controller::Memory));
        at.and_then(|at| at.try_into().ok())
    }

    /// The directory in the hierarchy of a controller by the kernel's name, such as `memory` or `name=systemd`.
    pub fn dir_fd_of(&self, controller: &str) -> Option<OwnedFd> {
        let controller = Controller::parse(controller)?;
        self.place(controller).ok()?.1.try_clone_to_owned().ok()
    }

    /// Sets limits. A limit whose controller isn't there is an error, before anything is written.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        let steps = if self.tree.is_v2() { v2::steps(limits)? } else { v1::steps(limits)? };
        for step in &steps {
            self.place(step.controller())?;
        }
        if self.tree.is_v2() && limits.memory_check_before_update {
            self.check_memory(limits)?;
        }
        steps.iter().try_for_each(|step| self.perform(step))?;
        match &limits.device_rules {
            Some(rules) if self.tree.is_v2() => self.attach_device_program(&Policy::new(rules)?),
            _ => Ok(()),
        }
    }

    /// v2 takes a limit below what is used and kills until it holds; v1 refuses it by itself.
    fn check_memory(&self, limits: &Limits) -> Result<()> {
        let Ok((_, dir)) = self.place(Controller::Memory) else { return Ok(()) };
        let Ok(usage) = file::read_number(dir, "memory.current") else { return Ok(()) };
        for (name, limit) in [("memory+swap", limits.memory_swap), ("memory", limits.memory)] {
            if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok())
                && (1..=usage).contains(&limit)
            {
                return Err(Error::Limit(format!("rejecting {name} limit {limit} <= usage {usage}")));
            }
        }
        Ok(())
    }

    /// Gives the group another name below the same parent; processes and limits stay. v1 only: v2 has no renaming.
    pub fn rename(&mut self, to: &CgroupPath) -> Result<()> {
        if self.tree.is_v2() {
            return Err(Error::Unsupported("renaming a group"));
        }
        if self.path.split().0 != to.split().0 {
            return Err(Error::Path(to.to_string()));
        }
        let (from, to_relative) = (self.path.relative(), to.relative());
        let places: Vec<&Hierarchy> = self.places().map(|(hierarchy, _)| hierarchy).collect();
        for (done, hierarchy) in places.iter().enumerate() {
            if let Err(error) = fs::renameat(&hierarchy.root, from, &hierarchy.root, to_relative) {
                for renamed in &places[..done] {
                    let _ = fs::renameat(&renamed.root, to_relative, &renamed.root, from);
                }
                return Err(hierarchy.failed("renaming", &self.path)(error.into()));
            }
        }
        self.path = to.clone();
        Ok(())
    }

    /// The processes in the group and below it: each once, in ascending order.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let Some((hierarchy, dir)) = self.process_place() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_procs(dir, &mut pids).map_err(hierarchy.failed("listing processes", &self.path))?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes the group, and those that were made below it, from every hierarchy. A group that is gone already is fine; one
    /// whose processes are just ending is tried again for a while.
    pub fn remove(&self) -> Result<()> {
        remove::remove(&self.tree, &self.path)
    }

    /// Hierarchies where the group is, with its directory.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&Hierarchy, BorrowedFd<'_>)> {
        let pairs = self.tree.hierarchies().iter().zip(&self.dirs);
        pairs.filter_map(|(hierarchy, dir)| dir.as_ref().map(|dir| (hierarchy, dir.as_fd())))
    }

    /// The place of a controller.
    pub(crate) fn place(&self, controller: Controller) -> Result<(&Hierarchy, BorrowedFd<'_>)> {
        let fits =
            |hierarchy: &Hierarchy| hierarchy.has(controller) || (self.tree.is_v2() && controller == Controller::Core);
        self.places().find(|(hierarchy, _)| fits(hierarchy)).ok_or(Error::NoController(controller.name()))
    }

    /// The hierarchy that is asked for processes: the freezer on v1, so that what is listed is what freezes.
    pub(crate) fn process_place(&self) -> Option<(&Hierarchy, BorrowedFd<'_>)> {
        self.place(Controller::Freezer).ok().or_else(|| self.places().next())
    }

    fn perform(&self, step: &Step) -> Result<()> {
        match step {
            Step::One(write) => self.write(write),
            Step::Optional(write) => match self.write(write) {
                Err(error) if is(&error, Errno::NOENT) => Ok(()),
                result => result,
            },
            Step::Either(first, second) => match self.write(first) {
                Err(error) if is(&error, Errno::NOENT) => self.write(second),
                result => result,
            },
            Step::Around(write, step) => match self.write(write) {
                Err(error) if is(&error, Errno::INVAL) => {
                    self.perform(step)?;
                    self.write(write)
                }
                Err(error) => Err(error),
                Ok(()) => self.perform(step),
            },
            Step::Period(period) => {
                let (hierarchy, dir) = self.place(Controller::Cpu)?;
                let present = self.read(hierarchy, dir, "cpu.max")?;
                let quota = present.split_whitespace().next().unwrap_or("max");
                self.write_in(hierarchy, dir, "cpu.max", &format!("{quota} {period}"))
            }
            Step::Devices(policy) => {
                let (hierarchy, dir) = self.place(Controller::Devices)?;
                let list = self.read(hierarchy, dir, "devices.list")?;
                let steps = policy.steps_from(&list);
                steps.iter().try_for_each(|(name, value)| self.write_in(hierarchy, dir, name, value))
            }
            Step::Many(controller, name, values) => self.write_many(*controller, name, values),
        }
    }

    fn write(&self, write: &Write) -> Result<()> {
        let (hierarchy, dir) = self.place(write.controller)?;
        self.write_in(hierarchy, dir, &write.file, &write.value)
    }

    pub(crate) fn write_in(&self, hierarchy: &Hierarchy, dir: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
        file::write(dir, name, value).map_err(|source| self.write_error(hierarchy, name, value, source))
    }

    fn write_many(&self, controller: Controller, name: &str, values: &[String]) -> Result<()> {
        let (hierarchy, dir) = self.place(controller)?;
        let failed = |value: &str, source| self.write_error(hierarchy, name, value, source);
        let file = file::open_for_writing(dir, name).map_err(|source| failed("", source))?;
        values.iter().try_for_each(|value| file::write_to(&file, value).map_err(|source| failed(value, source)))
    }

    fn write_error(&self, hierarchy: &Hierarchy, name: &str, value: &str, source: io::Error) -> Error {
        let file = hierarchy.path.join(self.path.relative()).join(name);
        // v1's answer to a limit below what is used and can't be reclaimed; runc's words, which Docker's users know.
        if name == "memory.limit_in_bytes" && Errno::from_io_error(&source) == Some(Errno::BUSY) {
            let number =
                |name| self.place(Controller::Memory).ok().and_then(|(_, dir)| file::read_number(dir, name).ok());
            let usage = number("memory.usage_in_bytes").unwrap_or(0);
            let peak = number("memory.max_usage_in_bytes").unwrap_or(0);
            let text = format!("unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})");
            return Error::Limit(text);
        }
        Error::Write { file, value: value.to_owned(), source }
    }

    /// Puts a device program in place of those that are there.
    fn attach_device_program(&self, policy: &Policy) -> Result<()> {
        let Some((hierarchy, _)) = self.places().next() else { return Err(Error::NotMounted) };
        let failed = hierarchy.failed("setting device rules", &self.path);
        let flags = fs::OFlags::RDONLY | fs::OFlags::DIRECTORY | fs::OFlags::CLOEXEC;
        let dir = fs::openat(&hierarchy.root, self.path.relative(), flags, Mode::empty());
        let dir = dir.map_err(|error| failed(error.into()))?;
        corten_sys::bpf::replace_device_program(dir.as_fd(), &ebpf::program(policy)).map_err(&failed)
    }
}

fn is(error: &Error, errno: Errno) -> bool {
    matches!(error, Error::Write { source, .. } if source.raw_os_error() == Some(errno.raw_os_error()))
}

fn collect_procs(dir: BorrowedFd<'_>, pids: &mut Vec<i32>) -> io::Result<()> {
    pids.extend(file::read(dir, "cgroup.procs")?.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in file::children(dir)? {
        match file::open_dir(dir, &child).and_then(|child| collect_procs(child.as_fd(), pids)) {
            // It may go away meanwhile, and a threaded group lists no processes.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP)) => {}
            result => result?,
        }
    }
    Ok(())
}

/// A v1 cpuset begins without CPUs and nodes, and nothing can join it; it takes those of the group above.
fn inherit_cpuset(hierarchy: &Hierarchy, parent: &str, dir: BorrowedFd<'_>) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(dir, name)?.trim().is_empty() {
            let above = if parent.is_empty() {
                file::read(hierarchy.root.as_fd(), name)?
            } else {
                file::read(file::open_dir(hierarchy.root.as_fd(), parent)?.as_fd(), name)?
            };
            file::write(dir, name, above.trim())?;
        }
    }
    // Groups below get theirs from the kernel.
    file::write(dir, "cgroup.clone_children", "1")
}
