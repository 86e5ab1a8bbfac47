//! What one container asks for: its process, its isolation and its limits, free of API JSON and of the host.
//!
//! [`Settings::default`] is a container with every default of Docker's, so that a caller sets only what was asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::user::ResolvedUser;

/// The settings of one container, everything that is needed to write its OCI spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Program and its arguments, entry point and command already joined.
    pub args: Vec<String>,
    /// The image's and the user's environment as `NAME=value`; [`crate::environment()`] makes it from its sources.
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    pub cwd: String,
    /// Who the process is: see [`crate::user::resolve`].
    pub user: ResolvedUser,
    /// File mode creation mask; `None` leaves the runtime's default (0022).
    pub umask: Option<u32>,
    /// The process has a terminal.
    pub tty: bool,
    /// Height and width of the terminal in characters at the start, where known.
    pub console_size: Option<(u64, u64)>,
    /// Host name; not applied when the UTS namespace is the host's.
    pub hostname: String,
    /// NIS domain name; empty leaves it alone.
    pub domainname: String,
    /// Where the root file system is (or is going to be) found, as `root.path`.
    pub rootfs: PathBuf,
    /// `--read-only`.
    pub readonly_rootfs: bool,
    /// `--privileged`: all capabilities and devices, nothing masked, no seccomp filter.
    pub privileged: bool,
    /// `--cap-add` as given.
    pub cap_add: Vec<String>,
    /// `--cap-drop` as given.
    pub cap_drop: Vec<String>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=`.
    pub seccomp: SeccompChoice,
    /// Profile of AppArmor to run under, `unconfined` for none; `None` is Docker's default. Means nothing on a host without AppArmor.
    pub apparmor: Option<String>,
    /// SELinux label of the process.
    pub selinux_label: Option<String>,
    /// SELinux label of the mounts.
    pub mount_label: Option<String>,
    /// `--ulimit`, daemon defaults already merged.
    pub rlimits: Vec<Rlimit>,
    /// Binds, volumes and tmpfs mounts, also the engine's own for `/etc/hosts` and its like.
    pub mounts: Vec<Mount>,
    /// `--device`, already looked up on the host.
    pub devices: Vec<Device>,
    /// `--device-cgroup-rule` as given (`c 1:3 rwm`).
    pub device_cgroup_rules: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// Which namespaces are new, joined or the host's.
    pub namespaces: Namespaces,
    /// Path of the control group below the hierarchy's root, such as `/corten/<container id>`.
    pub cgroup_path: String,
    /// What `/dev/shm` is.
    pub shm: Shm,
    /// Replaces the default masked paths (`Some(vec![])` masks nothing), also in a privileged container.
    pub masked_paths: Option<Vec<String>>,
    /// Replaces the default read-only paths, also in a privileged container.
    pub readonly_paths: Option<Vec<String>>,
    /// `--oom-score-adj`.
    pub oom_score_adj: i32,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--init`: `Some` holds the init program's path on the host; ignored unless the PID namespace is new.
    pub init: Option<PathBuf>,
}

/// Which seccomp profile applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeccompChoice {
    /// Docker's default profile, adapted to the capabilities.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// The text of a profile in Docker's JSON language.
    Profile(String),
}

/// One resource limit of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Name without prefix, in lower case: `nofile`.
    pub name: String,
    /// Soft limit; -1 is no limit.
    pub soft: i64,
    /// Hard limit; -1 is no limit.
    pub hard: i64,
}

/// One mount that the user or the engine adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted there.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A directory or file of the host, bind-mounted: binds and volumes alike.
    Bind(Bind),
    /// A fresh tmpfs, with the options given by the user (`size=64m`, `mode=1770`, `exec`), not yet merged with the defaults.
    Tmpfs(Vec<String>),
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host.
    pub source: PathBuf,
    /// Whether the container may write.
    pub access: Access,
    /// Propagation; Docker's default is [`Propagation::RPrivate`].
    pub propagation: Propagation,
    /// Mounts below the source come along (`rbind`); off for `bind-nonrecursive`.
    pub recursive: bool,
}

impl Bind {
    /// A recursive, private, writable bind of `source`.
    pub fn writable(source: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), access: Access::ReadWrite, propagation: Propagation::RPrivate, recursive: true }
    }
}

/// Whether, and how deep, a bind is read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The container may write.
    #[default]
    ReadWrite,
    /// Read-only, with the mounts below it where the kernel can (Docker's default for `ro`).
    ReadOnly,
    /// Read-only, the mounts below stay as they are.
    ReadOnlyNonRecursive,
    /// Read-only with all mounts below, or an error.
    ReadOnlyForceRecursive,
}

/// Mount propagation by the kernel's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are mount(8)'s own")]
pub enum Propagation {
    #[default]
    RPrivate,
    Private,
    RShared,
    Shared,
    RSlave,
    Slave,
}

impl Propagation {
    /// Reads `rprivate`, `slave` and so on; the empty string is the default.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "rprivate" => Self::RPrivate,
            "private" => Self::Private,
            "rshared" => Self::RShared,
            "shared" => Self::Shared,
            "rslave" => Self::RSlave,
            "slave" => Self::Slave,
            _ => return None,
        })
    }

    /// The mount option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RShared => "rshared",
            Self::Shared => "shared",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
        }
    }
}

/// One device node for the container: see [`crate::host::devices_at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path in the container.
    pub path: PathBuf,
    /// Character or block device.
    pub kind: DeviceKind,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits of the node.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the control group allows: letters of `rwm`.
    pub access: String,
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device (`c`).
    Char,
    /// Block device (`b`).
    Block,
}

/// Limits, named and valued as in Docker's API; zero and empty mean "not set" there and `None` here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// Soft limit of memory in bytes.
    pub memory_reservation: Option<i64>,
    /// 0 to 100; cgroup v1 only. -1 (the client's "not set") counts as `None`.
    pub memory_swappiness: Option<i64>,
    /// Cgroup v1 only.
    pub oom_kill_disable: bool,
    /// Relative weight (1024 is one share).
    pub cpu_shares: Option<i64>,
    /// Microseconds of a period.
    pub cpu_period: Option<i64>,
    /// Microseconds of CPU per period.
    pub cpu_quota: Option<i64>,
    /// Billionths of a CPU (`--cpus`); excludes period and quota.
    pub nano_cpus: Option<i64>,
    /// Microseconds of a real-time period; cgroup v1 only.
    pub cpu_realtime_period: Option<u64>,
    /// Microseconds of real-time CPU per period; cgroup v1 only.
    pub cpu_realtime_runtime: Option<i64>,
    /// CPUs such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Number of tasks; -1 (and 0 on update) is no limit.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Weights of devices.
    pub blkio_weight_device: Vec<DeviceValue>,
    /// Bytes read per second of devices.
    pub device_read_bps: Vec<DeviceValue>,
    /// Bytes written per second of devices.
    pub device_write_bps: Vec<DeviceValue>,
    /// Reads per second of devices.
    pub device_read_iops: Vec<DeviceValue>,
    /// Writes per second of devices.
    pub device_write_iops: Vec<DeviceValue>,
}

/// A weight or rate of one device, its numbers already looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceValue {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// The weight or rate.
    pub value: u64,
}

/// A container's namespaces. The mount namespace is always new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network; `New` also for `--network none` and bridges.
    pub network: Namespace,
    /// System V IPC and message queues.
    pub ipc: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// Host and domain name.
    pub uts: Namespace,
    /// Control groups; Docker's default is `New` on cgroup v2 and `Host` on v1.
    pub cgroup: Namespace,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The host's.
    Host,
    /// The one behind a file such as `/proc/<pid>/ns/net`.
    Join(PathBuf),
    /// That of a process, by pid.
    JoinPid(i32),
}

/// What `/dev/shm` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shm {
    /// A tmpfs of this many bytes.
    Private(i64),
    /// Not there (`--ipc none`).
    None,
    /// A directory of the host, for shared IPC namespaces (`/dev/shm` itself for the host's).
    Shared(PathBuf),
}

impl Shm {
    /// Docker's default size: 64 MiB.
    pub const DEFAULT_SIZE: i64 = 64 * 1024 * 1024;
}

impl Default for Shm {
    fn default() -> Self {
        Self::Private(Self::DEFAULT_SIZE)
    }
}

/// What [`crate::to_oci`] must know about the host; [`crate::host::facts`] reads them, once per daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Machine name as `uname -m` has it: `x86_64`, `aarch64`.
    pub machine: String,
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// Highest capability number the kernel knows (`/proc/sys/kernel/cap_last_cap`).
    pub last_capability: u32,
    /// Capabilities in the daemon's own bounding set; what is missing can't be granted.
    pub bounding: u64,
    /// Sysctls among the defaults that exist on this kernel.
    pub default_sysctls: Vec<String>,
    /// Paths below `/sys` that are masked where they exist (each CPU's `thermal_throttle`).
    pub thermal_throttle: Vec<String>,
    /// The kernel can make mounts recursively read-only (5.12).
    pub recursive_readonly: bool,
    /// The kernel was built with seccomp filters.
    pub seccomp: bool,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// Docker's default profile of AppArmor is loaded, by whoever did that: nobody here compiles profiles.
    pub default_profile: bool,
    /// The host's devices below `/dev`, for privileged containers.
    pub devices: Vec<Device>,
}
