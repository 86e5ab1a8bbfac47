//! A bundle: its `config.json`, and what is decided from it before anything is done.

use std::path::{Path, PathBuf};

use corten_cgroup::{CgroupPath, Limits, Tree};
use oci_spec::runtime::{LinuxSeccomp, Spec};
use serde_json::value::RawValue;

use super::error::{Error, Result};
use crate::plan::{Facts, SeccompProgram};
use crate::{Plan, devices};

/// A bundle, read.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) directory: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) config: Box<RawValue>,
    pub(super) spec: Spec,
}

impl Bundle {
    pub(super) fn read(directory: &Path) -> Result<Bundle> {
        let failed = format!("cannot open the bundle {}", directory.display());
        let directory = directory.canonicalize().map_err(Error::doing(failed))?;
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::doing(format!("cannot read {}", path.display())))?;
        let spec =
            crate::parse_spec(text.as_bytes()).map_err(Error::doing(format!("cannot parse {}", path.display())))?;
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
        let facts = Facts { seccomp: compile(&self.spec)?, unified_cgroup: tree.is_v2() };
        crate::plan(&self.spec, &facts).map_err(Error::doing("invalid specification"))
    }

    /// Where the container's control group is; a relative path counts from the hierarchies' roots.
    pub(super) fn cgroup(&self, id: &str) -> Result<CgroupPath> {
        let path = self.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
        let path = path.map(|path| path.to_string_lossy().into_owned()).filter(|path| !path.is_empty());
        CgroupPath::parse(&path.unwrap_or_else(|| id.to_owned())).map_err(Error::doing("cgroupsPath"))
    }

    /// The limits, with the rules on devices that every container has.
    pub(super) fn limits(&self) -> Limits {
        let resources = self.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let mut limits = resources.map(Limits::from).unwrap_or_default();
        limits.device_rules = Some(devices::complete(limits.device_rules.take()));
        limits
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
