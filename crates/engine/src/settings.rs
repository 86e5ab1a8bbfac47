//! What a client asks of a container, in the engine's own words, and what a container is asked to be after its image's
//! defaults were merged in: the same type before and after `merge`.
//!
//! Faces translate their own form (Docker's `Config`, `HostConfig` and `NetworkingConfig`) into this one. It is also what the
//! container's record holds, as JSON: fields are only ever added, each with a default.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One container's settings. [`ContainerSpec::default`] is what `docker create IMAGE` asks for, but for the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as the client named it.
    pub image: String,
    /// `None` takes the image's; `Some` of an empty list, or of one empty string, resets it.
    pub entrypoint: Option<Vec<String>>,
    /// `None` takes the image's (unless the client gave an entry point).
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`; a bare `NAME` removes the image's.
    pub env: Vec<String>,
    /// `uid`, `user`, `user:group` ...; empty takes the image's.
    pub user: String,
    /// Supplementary groups, by name or number.
    pub group_add: Vec<String>,
    /// Working directory; empty takes the image's, then `/`.
    pub working_dir: String,
    /// Empty takes the first 12 digits of the id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// The process has a terminal.
    pub tty: bool,
    /// Standard input is kept open for attaching clients.
    pub open_stdin: bool,
    /// Standard input closes when the first attached client leaves.
    pub stdin_once: bool,
    /// Echoed by `inspect`; what is really attached is each client's own choice.
    pub attach_stdin: bool,
    /// As `attach_stdin`.
    pub attach_stdout: bool,
    /// As `attach_stdin`.
    pub attach_stderr: bool,
    /// Height and width of the terminal at the start.
    pub console_size: Option<(u16, u16)>,
    /// Labels, the image's merged in.
    pub labels: BTreeMap<String, String>,
    /// Ports such as `80/tcp`, the image's merged in.
    pub exposed_ports: BTreeSet<String>,
    /// Paths that get an anonymous volume, the image's merged in.
    pub volumes: BTreeSet<String>,
    /// Signal that asks the process to stop; empty takes the image's, then SIGTERM.
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL; `None` is 10, negative waits for ever.
    pub stop_timeout: Option<i64>,
    /// No network at all, whatever the mode (`Config.NetworkDisabled`).
    pub network_disabled: bool,

    /// Binds as `-v` writes them: `source:target[:options]`, the source a host path or a volume's name.
    pub binds: Vec<String>,
    /// Mounts as `--mount` describes them.
    pub mounts: Vec<MountSpec>,
    /// `--tmpfs`: options by path.
    pub tmpfs: BTreeMap<String, String>,
    /// `--volumes-from`: `container[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// Driver for volumes that are made on the way; empty is `local`.
    pub volume_driver: String,

    /// Which network the container is on.
    pub network_mode: NetworkMode,
    /// Settings for the networks to join by name; the mode's own network need not be among them.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// Ports to publish, by container port (`80/tcp`).
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Publish every exposed port at a free host port.
    pub publish_all_ports: bool,
    /// DNS servers; empty takes the host's.
    pub dns: Vec<String>,
    /// DNS search domains.
    pub dns_search: Vec<String>,
    /// DNS resolver options.
    pub dns_options: Vec<String>,
    /// Extra lines for `/etc/hosts` as `name:address`; the address `host-gateway` is the bridge's.
    pub extra_hosts: Vec<String>,

    /// Where the IPC namespace comes from.
    pub ipc_mode: IpcMode,
    /// Where the PID namespace comes from.
    pub pid_mode: JoinMode,
    /// Whether the host's UTS namespace is used.
    pub uts_host: bool,
    /// `--cgroupns`; `None` is `private` on cgroup v2 and `host` on v1.
    pub cgroupns: Option<CgroupNs>,
    /// Parent control group; empty is the engine's own.
    pub cgroup_parent: String,

    /// All capabilities and devices, nothing masked.
    pub privileged: bool,
    /// The root file system can't be written.
    pub readonly_rootfs: bool,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt` as given.
    pub security_opt: Vec<String>,
    /// Replaces the default masked paths.
    pub masked_paths: Option<Vec<String>>,
    /// Replaces the default read-only paths.
    pub readonly_paths: Option<Vec<String>>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--device`.
    pub devices: Vec<DeviceMapping>,
    /// `--device-cgroup-rule`.
    pub device_cgroup_rules: Vec<String>,
    /// Bytes of `/dev/shm`; 0 is 64 MiB.
    pub shm_size: i64,
    /// `--oom-score-adj`.
    pub oom_score_adj: i32,
    /// Annotations of the OCI spec.
    pub annotations: BTreeMap<String, String>,
    /// An init process reaps children (`--init`); `None` is the daemon's default.
    pub init: Option<bool>,
    /// Runtime by name; empty is the engine's own.
    pub runtime: String,
    /// Limits of memory, CPU and tasks.
    pub resources: Resources,

    /// `json-file`, `none`; empty is the daemon's default.
    pub log_driver: String,
    /// Options of the log driver.
    pub log_options: BTreeMap<String, String>,
    /// Remove the container once it has ended.
    pub auto_remove: bool,
    /// Whether and when it is started again.
    pub restart: RestartPolicy,
}

/// `HostConfig.NetworkMode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The predefined bridge network.
    #[default]
    Bridge,
    /// The host's network namespace.
    Host,
    /// Loopback only.
    None,
    /// The network namespace of another container, by name or id.
    Container(String),
    /// A user-defined network, by name or id.
    Named(String),
}

impl NetworkMode {
    /// Reads Docker's text: `default`, `bridge`, `host`, `none`, `container:<x>` or a network's name.
    pub fn parse(text: &str) -> NetworkMode {
        match text {
            "" | "default" | "bridge" => NetworkMode::Bridge,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            _ => match text.strip_prefix("container:") {
                Some(container) => NetworkMode::Container(container.into()),
                None => NetworkMode::Named(text.into()),
            },
        }
    }

    /// Docker's text of it.
    pub fn as_text(&self) -> String {
        match self {
            NetworkMode::Bridge => "bridge".into(),
            NetworkMode::Host => "host".into(),
            NetworkMode::None => "none".into(),
            NetworkMode::Container(container) => format!("container:{container}"),
            NetworkMode::Named(name) => name.clone(),
        }
    }
}

/// `HostConfig.IpcMode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    /// An own namespace that nobody joins.
    #[default]
    Private,
    /// An own namespace that others may join.
    Shareable,
    /// An own namespace without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

/// A namespace that is new, the host's, or another container's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinMode {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's, by name or id.
    Container(String),
}

/// `HostConfig.CgroupnsMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupNs {
    /// A new namespace.
    Private,
    /// The host's.
    Host,
}

/// One `--mount`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountSpec {
    /// What is mounted.
    pub kind: MountType,
    /// Host path or volume name; empty for tmpfs and anonymous volumes.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// The container can't write.
    pub read_only: bool,
    /// Propagation of a bind, empty for the default.
    pub propagation: String,
    /// Submounts stay behind.
    pub non_recursive: bool,
    /// Make a bind's missing source.
    pub create_mountpoint: bool,
    /// Submounts stay writable in a read-only bind.
    pub read_only_non_recursive: bool,
    /// Submounts must become read-only.
    pub read_only_force_recursive: bool,
    /// Don't fill a new volume with the image's files.
    pub no_copy: bool,
    /// Labels of a volume made on the way.
    pub volume_labels: BTreeMap<String, String>,
    /// Driver of a volume made on the way.
    pub volume_driver: String,
    /// Driver options of a volume made on the way.
    pub volume_options: BTreeMap<String, String>,
    /// Path inside the volume that is mounted.
    pub subpath: String,
    /// Bytes of a tmpfs; 0 is without limit.
    pub tmpfs_size: i64,
    /// Mode of a tmpfs; 0 is 1777.
    pub tmpfs_mode: u32,
}

/// What a [`MountSpec`] mounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountType {
    /// A host path.
    #[default]
    Bind,
    /// A named or anonymous volume.
    Volume,
    /// A fresh tmpfs.
    Tmpfs,
}

/// How a container joins one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// Names beside the container's.
    pub aliases: Vec<String>,
    /// Links as `container:alias`.
    pub links: Vec<String>,
    /// A fixed IPv4 address.
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address.
    pub ipv6_address: Option<String>,
    /// Fixed link-layer address.
    pub mac_address: Option<String>,
    /// Options for the driver.
    pub driver_options: BTreeMap<String, String>,
    /// The highest becomes the default gateway.
    pub gateway_priority: i64,
}

/// One published port's host side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// Address of the host; empty is all.
    pub host_ip: String,
    /// Port or range of the host; empty is a free one.
    pub host_port: String,
}

/// One `--ulimit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile` ...
    pub name: String,
    /// Soft limit, -1 for none.
    pub soft: i64,
    /// Hard limit, -1 for none.
    pub hard: i64,
}

/// One `--device`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// On the host.
    pub path_on_host: String,
    /// In the container; empty is the same.
    pub path_in_container: String,
    /// Letters of `rwm`; empty is all.
    pub permissions: String,
}

/// Limits, named as in Docker's `HostConfig`; zero and empty mean "not set".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory and swap; -1 is no limit.
    pub memory_swap: i64,
    /// Bytes, soft.
    pub memory_reservation: i64,
    /// 0 to 100; `None` or -1 leaves the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Never kill for memory (cgroup v1).
    pub oom_kill_disable: Option<bool>,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Tasks; `None`, 0 and -1 are no limit.
    pub pids_limit: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Weight by device path.
    pub blkio_weight_device: Vec<DeviceRate>,
    /// Bytes per second by device path.
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes per second by device path.
    pub device_write_bps: Vec<DeviceRate>,
    /// Operations per second by device path.
    pub device_read_iops: Vec<DeviceRate>,
    /// Operations per second by device path.
    pub device_write_iops: Vec<DeviceRate>,
}

/// A weight or rate of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's path on the host.
    pub path: String,
    /// Weight or rate.
    pub value: u64,
}

/// `HostConfig.RestartPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it ends, also when the daemon starts.
    Always,
    /// As `Always`, but not after somebody stopped it.
    UnlessStopped,
    /// After a failure; at most so many times (0 is without limit).
    OnFailure(u32),
}

impl RestartPolicy {
    /// Docker's name of the policy.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure(_) => "on-failure",
        }
    }
}
