//! The plan: everything that a start does, decided beforehand, as data.
//!
//! A plan is made by the daemon from an OCI spec and applied by the container's init. It crosses the shim's socket as
//! JSON. It names no host path that the init would open: bind sources and namespaces are opened by whoever hands the
//! plan over, and refer to it by index ([`Plan::sources`], [`Plan::joins`]).

mod build;
mod capability;
mod host;
mod mounts;
mod namespaces;
mod options;
mod parse;
mod scheduling;

use std::collections::BTreeMap;

use corten_base::ErrorKind;
use corten_sys::scheduling::Scheduler;
use serde::{Deserialize, Serialize};

pub use build::{exec_plan, plan, process_plan};
pub(crate) use capability::CAPABILITIES;
pub use capability::capability_number;
pub use host::{NetDevice, RdtPlan, net_devices, rdt};
pub(crate) use namespaces::owner;
pub use namespaces::{IdMap, IdRange, Join, NamespaceKind, NamespaceSource, Namespaces, PidNamespace, TimeOffset};
pub(crate) use options::words as mount_options;
pub use parse::{parse_process, parse_spec, parse_spec_telling};
pub use scheduling::{AffinityPlan, IoPriorityPlan, MemoryPolicyPlan};

/// Why a spec cannot become a plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part that is needed is missing.
    #[error("the container's specification has no {0}")]
    Missing(&'static str),
    /// A setting that makes no sense.
    #[error("invalid {what}: {value:?}")]
    Invalid {
        /// What is set.
        what: &'static str,
        /// To what.
        value: String,
    },
    /// A setting that is understood but cannot be applied.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A kernel setting that is not the container's own.
    #[error("sysctl {name:?} {reason}")]
    Sysctl {
        /// Which.
        name: String,
        /// Why not, in runc's words.
        reason: &'static str,
    },
    /// The seccomp program is longer than the kernel takes.
    #[error("the seccomp filter has {0} instructions, the kernel takes 4096")]
    FilterTooLong(usize),
}

impl Error {
    /// The kind for the faces' tables.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Unsupported(_) => ErrorKind::NotImplemented,
            _ => ErrorKind::Invalid,
        }
    }
}

/// What the plan needs to know besides the spec.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The compiled seccomp program, if the spec asks for one.
    pub seccomp: Option<SeccompProgram>,
    /// The host mounts cgroup v2 alone (decides what a mount of type `cgroup` is).
    pub unified_cgroup: bool,
    /// Whoever hands the plan over does what happens outside of the container, too: [`net_devices`] and [`rdt`].
    pub host_side: bool,
}

/// A compiled seccomp filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// One `sock_filter` per word: code in bits 0-15, jt 16-23, jf 24-31, k 32-63.
    pub filter: Vec<u64>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u64,
}

impl SeccompProgram {
    /// From an array of the kernel's `struct sock_filter` in native byte order; what is left of eight bytes is ignored.
    pub fn from_native(bytes: &[u8], flags: u64) -> SeccompProgram {
        let word = |chunk: &[u8; 8]| {
            let [c0, c1, jt, jf, k0, k1, k2, k3] = *chunk;
            let code = u64::from(u16::from_ne_bytes([c0, c1]));
            let k = u64::from(u32::from_ne_bytes([k0, k1, k2, k3]));
            code | u64::from(jt) << 16 | u64::from(jf) << 24 | k << 32
        };
        SeccompProgram { filter: bytes.as_chunks::<8>().0.iter().map(word).collect(), flags }
    }
}

/// Everything a start does inside the container's namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where each namespace comes from.
    pub namespaces: Namespaces,
    /// Host name, where the UTS namespace is the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// The root is remounted read-only at the end.
    pub readonly_root: bool,
    /// Propagation of the root mount, private unless the spec says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_propagation: Option<Propagation>,
    /// It covers the mounts below, too.
    #[serde(default)]
    pub root_propagation_recursive: bool,
    /// Mounts in their order.
    pub mounts: Vec<MountPlan>,
    /// `/dev` is the container's own: its default links, `ptmx` and console are set up.
    pub setup_dev: bool,
    /// Device nodes to be made (their file systems are mounted by then).
    pub devices: Vec<DevicePlan>,
    /// Kernel settings of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Paths to be covered: files by `/dev/null`, directories by an empty read-only file system.
    pub masked_paths: Vec<String>,
    /// Paths to be made read-only.
    pub readonly_paths: Vec<String>,
    /// The process itself.
    pub process: ProcessPlan,
    /// The maps of a new user namespace.
    #[serde(default, skip_serializing_if = "IdMap::is_empty")]
    pub id_map: IdMap,
    /// The offsets of a new time namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_offsets: Vec<TimeOffset>,
}

/// A bind source to be opened by whoever hands the plan over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Path in the daemon's view.
    pub path: String,
    /// With the mounts below it.
    pub recursive: bool,
    /// With other owners.
    pub id_map: Option<MountMap>,
}

impl Plan {
    /// Bind sources in the order in which the plan's mounts refer to them.
    pub fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<(usize, Source)> = self
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { source, path, recursive, id_map } => {
                    Some((*source, Source { path: path.clone(), recursive: *recursive, id_map: id_map.clone() }))
                }
                _ => None,
            })
            .collect();
        sources.sort_by_key(|(index, _)| *index);
        sources.into_iter().map(|(_, source)| source).collect()
    }

    /// Namespaces to be joined, in the order in which their descriptors are handed over: those of others by their
    /// path, and the host's own as the daemon's (`/proc/self/ns/*`).
    pub fn joins(&self) -> Vec<Join> {
        let path = |kind: NamespaceKind, source: &NamespaceSource| match source {
            NamespaceSource::New => None,
            // Only these does a warm shim leave; its children start in the host's others anyway.
            NamespaceSource::Host
                if !matches!(kind, NamespaceKind::Network | NamespaceKind::Ipc | NamespaceKind::Uts) =>
            {
                None
            }
            NamespaceSource::Host => Some(format!("/proc/self/ns/{}", kind.file_name())),
            NamespaceSource::Join(path) => Some(path.clone()),
        };
        self.namespaces
            .each()
            .into_iter()
            .filter_map(|(kind, source)| path(kind, source).map(|path| Join { kind, path }))
            .collect()
    }
}

/// How mount events are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Both ways.
    Shared,
    /// Towards the container.
    Slave,
    /// Not at all, nor bound elsewhere.
    Unbindable,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Absolute path in the container.
    pub destination: String,
    /// What is mounted.
    pub kind: MountKind,
    /// Mount attributes set on the mount itself (MOUNT_ATTR_*).
    #[serde(default)]
    pub set: u64,
    /// Mount attributes cleared on it.
    #[serde(default)]
    pub clear: u64,
    /// Attributes set on it and everything below (`rro` and the like).
    #[serde(default)]
    pub set_recursive: u64,
    /// Attributes cleared on it and everything below.
    #[serde(default)]
    pub clear_recursive: u64,
    /// Propagation, and whether it covers the mounts below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<(Propagation, bool)>,
    /// What the image has at the destination is copied into a new tmpfs.
    #[serde(default)]
    pub copy_up: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MountKind {
    /// A tree of the host, handed over as a descriptor.
    Bind {
        /// Index among the descriptors.
        source: usize,
        /// Its path on the host, for the daemon and for messages.
        path: String,
        /// With the mounts below it.
        recursive: bool,
        /// With other owners, for the daemon.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id_map: Option<MountMap>,
    },
    /// A new instance of a file system.
    FileSystem {
        /// Type.
        fstype: String,
        /// What `/proc/mounts` names as its source.
        source: String,
        /// Its own options: name, and value if it has one.
        options: Vec<(String, Option<String>)>,
    },
    /// The container's part of all cgroup v1 hierarchies, below a tmpfs.
    CgroupV1,
    /// The unified cgroup hierarchy.
    CgroupV2,
    /// What is mounted there already, with other attributes.
    Remount,
}

/// The owners that an id-mapped mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountMap {
    /// From the file system's ids to the mount's.
    pub map: IdMap,
    /// The mounts below, too.
    pub recursive: bool,
}

/// One device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Absolute path in the container.
    pub path: String,
    /// File type and permission bits, as mknod(2) takes them.
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Everything about one process, be it the container's first or an exec's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// The command; the first is looked up in the PATH of `env`.
    pub args: Vec<String>,
    /// `NAME=value` lines.
    pub env: Vec<String>,
    /// Working directory, made if it is missing.
    pub cwd: String,
    /// A terminal instead of pipes.
    pub terminal: bool,
    /// First size of the terminal: columns, lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_size: Option<(u16, u16)>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Capability sets.
    #[serde(default)]
    pub capabilities: CapabilityPlan,
    /// Resource limits.
    pub rlimits: Vec<RlimitPlan>,
    /// No setuid, no file capabilities.
    pub no_new_privileges: bool,
    /// Adjustment of the OOM killer's score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile to be entered at exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// SELinux label to be entered at exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// Seccomp filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompProgram>,
    /// Scheduling policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// I/O class and level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriorityPlan>,
    /// Processors of an exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<AffinityPlan>,
    /// Execution domain (PER_*).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// Nodes that memory comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// What an exec joins besides the namespaces that every container has.
    #[serde(default)]
    pub enters: EnteredNamespaces,
}

/// Namespaces that only some containers have of their own, for their execs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnteredNamespaces {
    /// The user namespace.
    pub user: bool,
    /// The time namespace.
    pub time: bool,
}

/// Capability sets as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityPlan {
    /// Upper bound for everything that follows.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Available.
    pub permitted: u64,
    /// Kept through exec of files that inherit.
    pub inheritable: u64,
    /// Kept through exec of any file.
    pub ambient: u64,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RlimitPlan {
    /// Kernel number of the resource.
    pub resource: u32,
    /// Soft value.
    pub soft: u64,
    /// Hard value.
    pub hard: u64,
}

#[cfg(test)]
pub(crate) mod tests;
