//! The container's view of cgroup v1: a tmpfs with one directory per hierarchy, each showing the container's own part.
//!
//! The hierarchies are mounted anew instead of being bound from the host's tree, which is not there: a second mount
//! of a hierarchy is the same file system.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::mount::{self, FileSystem, attr};
use corten_sys::path;
use rustix::fs::{Mode, OFlags, mkdirat, symlinkat};

use super::attributes::{change_attached, change_detached};
use super::mounts::Context;
use super::report::Explain;
use crate::Failure;
use crate::plan::MountPlan;

/// One line of `/proc/self/cgroup` that names a v1 hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or `name=..`.
    controllers: Vec<String>,
    /// The caller's group in it, as the caller's cgroup namespace shows it.
    path: String,
}

impl Hierarchy {
    /// The calling process's; `/proc` is the host's.
    pub fn own() -> std::io::Result<Vec<Hierarchy>> {
        Ok(parse(&std::fs::read_to_string("/proc/self/cgroup")?))
    }

    /// Mounts it, detached.
    pub(super) fn mount(&self, attributes: u64) -> std::io::Result<OwnedFd> {
        let system = FileSystem::open("cgroup")?;
        system.set_string("source", "cgroup")?;
        for controller in &self.controllers {
            match controller.strip_prefix("name=") {
                Some(name) => {
                    system.set_flag("none")?;
                    system.set_string("name", name)?;
                }
                None => system.set_flag(controller)?,
            }
        }
        system.mount(attributes)
    }

    /// Name of its directory, as hosts call it: `cpu,cpuacct`, `systemd`.
    pub(super) fn directory(&self) -> String {
        let joined = self.controllers.join(",");
        joined.strip_prefix("name=").map(str::to_owned).unwrap_or(joined)
    }
}

fn parse(text: &str) -> Vec<Hierarchy> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            // The empty list is the unified hierarchy, which containers of v1 hosts don't get.
            (!controllers.is_empty()).then(|| Hierarchy {
                controllers: controllers.split(',').map(str::to_owned).collect(),
                path: path.to_owned(),
            })
        })
        .collect()
}

pub(super) fn mount_v1(context: &mut Context<'_>, plan: &MountPlan) -> Result<(), Failure> {
    let place =
        path::make_directories(context.root, &plan.destination, 0o755).explain("cannot make the mount point")?;
    let tmpfs = FileSystem::open("tmpfs").explain("cannot open tmpfs")?;
    tmpfs.set_string("mode", "755").explain("option mode")?;
    let top = tmpfs.mount(plan.set & !attr::RDONLY).explain("cannot make tmpfs")?;
    mount::attach(top.as_fd(), place.as_fd()).explain("cannot attach it")?;
    let own = context.proc.read_own("cgroup").explain("cannot read the cgroups")?;
    for hierarchy in parse(&own) {
        add(context, plan, &top, &hierarchy)?;
    }
    if plan.set & attr::RDONLY != 0 {
        let readonly = mount::Attributes { set: attr::RDONLY, ..Default::default() };
        change_attached(top.as_fd(), &readonly, false).explain("cannot make it read-only")?;
    }
    Ok(())
}

fn add(context: &mut Context<'_>, plan: &MountPlan, top: &OwnedFd, hierarchy: &Hierarchy) -> Result<(), Failure> {
    let name = hierarchy.directory();
    let what = || format!("cgroup hierarchy {name}");
    mkdirat(top, &*name, Mode::from_raw_mode(0o755)).explain_with(what)?;
    let place = path::open_in_root(top, &name, OFlags::PATH | OFlags::NOFOLLOW).explain_with(what)?;
    let part = match own_part(context, hierarchy, plan.set) {
        // Whoever makes the container may be giving its group the name that it will have: once.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let own = parse(&context.proc.read_own("cgroup").explain("cannot read the cgroups")?);
            let renamed = own.iter().find(|own| own.controllers == hierarchy.controllers && own.path != hierarchy.path);
            renamed.map_or(Err(error), |renamed| own_part(context, renamed, plan.set))
        }
        part => part,
    };
    let part = part.explain_with(what)?;
    mount::attach(part.as_fd(), place.as_fd()).explain_with(what)?;
    if hierarchy.controllers.len() > 1 {
        for controller in &hierarchy.controllers {
            symlinkat(&*name, top, controller.as_str()).explain_with(what)?;
        }
    }
    Ok(())
}

/// The container's own part of a hierarchy, detached.
fn own_part(context: &Context<'_>, hierarchy: &Hierarchy, attributes: u64) -> std::io::Result<OwnedFd> {
    // The root of a mount of one's own is the cgroup namespace's.
    if context.private_cgroup || hierarchy.path == "/" {
        return hierarchy.mount(attributes);
    }
    if let Ok(whole) = context.base.hierarchy(hierarchy) {
        // Mounting it anew would cost a grace period of the kernel when that mount, which is never attached, goes.
        let group = path::find(&whole, &hierarchy.path)?;
        return set(mount::clone_of(group.as_fd(), false)?, attributes);
    }
    part_of(context, hierarchy.mount(attributes)?, &hierarchy.path, attributes)
}

/// The part of a hierarchy below the container's own group.
fn part_of(context: &Context<'_>, whole: OwnedFd, path: &str, attributes: u64) -> std::io::Result<OwnedFd> {
    let group = path::find(&whole, path)?;
    match mount::clone_of(group.as_fd(), false) {
        // Before Linux 6.15 only attached mounts can be cloned.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            mount::attach(whole.as_fd(), context.base.stage.as_fd())?;
            let part = mount::clone_of(group.as_fd(), false)?;
            mount::detach(c"stage")?;
            set(part, attributes)
        }
        part => set(part?, attributes),
    }
}

fn set(part: OwnedFd, attributes: u64) -> std::io::Result<OwnedFd> {
    let clear = attr::RDONLY & !attributes;
    change_detached(part.as_fd(), &mount::Attributes { set: attributes, clear, ..Default::default() }, false)?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_and_named() {
        let found = parse("3:cpu,cpuacct:/a:b\n2:name=systemd:/\n0::/x\nrubbish\n");
        assert_eq!(found[0], Hierarchy { controllers: vec!["cpu".into(), "cpuacct".into()], path: "/a:b".into() });
        assert_eq!(found.iter().map(Hierarchy::directory).collect::<Vec<_>>(), ["cpu,cpuacct", "systemd"]);
    }
}
