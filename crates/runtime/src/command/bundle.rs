//! A bundle: its `config.json`, and what is decided from it before anything is done.

use std::path::{Path, PathBuf};

use corten_cgroup::{CgroupPath, Group, Tree};
use oci_spec::runtime::{LinuxResources, LinuxSeccomp, Spec};
use serde_json::value::RawValue;

use super::error::{Error, Result};
use super::log::Log;
use crate::Plan;
use crate::plan::{Facts, RdtPlan, SeccompProgram};
use crate::resctrl::{self, Resctrl};

const MAKE: &str = "cannot make the container's cgroup";
/// For what goes wrong with the processor's resources.
pub(super) const DIVIDE: &str = "cannot divide the processor's resources";

/// A bundle, read.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) directory: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) config: Box<RawValue>,
    pub(super) spec: Spec,
}

impl Bundle {
    pub(super) fn read(directory: &Path, log: &Log) -> Result<Bundle> {
        let failed = format!("cannot open the bundle {}", directory.display());
        let directory = directory.canonicalize().map_err(Error::doing(failed))?;
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::doing(format!("cannot read {}", path.display())))?;
        let (spec, unknown) = crate::plan::parse_spec_telling(text.as_bytes())
            .map_err(Error::doing(format!("cannot parse {}", path.display())))?;
        if !unknown.is_empty() {
            log.warn(&format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
        }
        if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
            warn_of_what_is_ignored(resources, log);
        }
        if spec.version().split('.').next() != Some("1") {
            return Err(Error::new(format!("unsupported ociVersion {:?}", spec.version())));
        }
        let root = spec.root().as_ref().ok_or_else(|| Error::new("the specification has no root"))?;
        let rootfs = directory.join(root.path());
        let rootfs = rootfs.canonicalize().map_err(Error::doing(format!("invalid rootfs {}", rootfs.display())))?;
        let config = RawValue::from_string(text).map_err(Error::doing("config.json"))?;
        Ok(Bundle { directory, rootfs, config, spec })
    }

    /// Everything that the init does.
    pub(super) fn plan(&self, tree: &Tree) -> Result<Plan> {
        let facts = Facts { seccomp: compile(&self.spec)?, unified_cgroup: tree.is_v2(), host_side: true };
        crate::plan(&self.spec, &facts).map_err(Error::doing("invalid specification"))
    }

    /// Where the container's control group is.
    pub(super) fn cgroup(&self, id: &str, tree: &Tree) -> Result<Place> {
        let path = self.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
        let path = path.map(|path| path.to_string_lossy().into_owned()).filter(|path| !path.is_empty());
        let path = path.unwrap_or_else(|| id.to_owned());
        let roots = if path.starts_with('/') { Ok(Vec::new()) } else { tree.own_roots() };
        let roots = roots.map_err(Error::doing("cgroupsPath"))?;
        let below = if roots.is_empty() { Ok(tree.clone()) } else { tree.below(&roots) };
        Ok(Place {
            path: CgroupPath::parse(&path).map_err(Error::doing("cgroupsPath"))?,
            tree: below.map_err(Error::doing("cgroupsPath"))?,
            roots,
        })
    }

    /// How the processor's resources are to be divided, and where.
    pub(super) fn rdt(&self, id: &str) -> Result<Option<(Resctrl, RdtPlan)>> {
        let plan = crate::plan::rdt(&self.spec, id).map_err(Error::doing("invalid specification"))?;
        let find = |plan| Resctrl::find().ok_or(resctrl::Error::Absent).map(|resctrl| (resctrl, plan));
        plan.map(find).transpose().map_err(Error::doing(DIVIDE))
    }
}

/// Where a control group is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: CgroupPath,
    pub(super) tree: Tree,
    /// Where a relative path begins: in the groups of whoever makes the container. Empty for an absolute one.
    pub(super) roots: Vec<PathBuf>,
}

impl Place {
    /// Refuses a group that others live in: the container's limits and end would be theirs, too.
    pub(super) fn check(&self) -> Result<()> {
        let Ok(present) = self.tree.open(&self.path) else { return Ok(()) };
        let count = present.procs().map_err(Error::doing(MAKE))?.len();
        if count > 0 {
            return Err(Error::new(format!("container's cgroup is not empty: {count} process(es) found")));
        }
        if present.is_frozen().unwrap_or(false) {
            return Err(Error::new("container's cgroup unexpectedly frozen"));
        }
        Ok(())
    }

    /// Makes the group, or takes one that is there.
    pub(super) fn make(&self) -> Result<Group> {
        let failed = || Error::doing(MAKE);
        self.tree.enable_root_controllers().map_err(failed())?;
        self.tree.create(&self.path).map_err(failed())
    }
}

/// Limits of the kernel's own memory are nothing that a start or a change would apply, as with runc: its words.
pub(super) fn warn_of_what_is_ignored(resources: &LinuxResources, log: &Log) {
    let memory = resources.memory().as_ref();
    if memory.is_some_and(|memory| memory.kernel().is_some() || memory.kernel_tcp().is_some()) {
        log.warn("Kernel memory settings are ignored and will be removed");
    }
}

/// The specification's seccomp profile, compiled for this machine.
pub(super) fn compile(spec: &Spec) -> Result<Option<SeccompProgram>> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let compile = |profile: &LinuxSeccomp| {
        let machine = corten_seccomp::Machine::host().ok_or(corten_seccomp::Error::Machine)?;
        corten_seccomp::compile(profile, machine)
    };
    let program = profile.map(compile).transpose().map_err(Error::doing("invalid seccomp profile"))?;
    Ok(program.map(|program| SeccompProgram { filter: program.filter, flags: program.flags }))
}
