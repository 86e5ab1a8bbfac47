//! What readers see of a container: a snapshot that its task publishes after each change. `ps` and `inspect` never wait for a
//! container, however busy or stuck it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use corten_base::{ContainerId, EndpointId, ExecId, ImageId, Namespace, NetworkId, SandboxId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::life::State;
use crate::settings::ContainerSpec;

/// One container at one moment. Cheap to clone by its parts; published whole behind an [`Arc`].
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its id.
    pub id: ContainerId,
    /// Its name, without the slash that Docker's API puts in front.
    pub name: String,
    /// Nanoseconds since 1970.
    pub created_ns: i64,
    /// The image it was made from.
    pub image_id: ImageId,
    /// The platform as Docker's API shows it: `linux`.
    pub os: String,
    /// Settings with the image's defaults merged in.
    pub spec: Arc<ContainerSpec>,
    /// The client's own JSON, for `inspect`.
    pub echo: Arc<Echo>,
    /// Program and arguments: entry point and command joined.
    pub args: Arc<[String]>,
    /// Life-cycle state.
    pub state: State,
    /// Mount points other than the engine's own.
    pub mounts: Arc<Vec<MountPoint>>,
    /// Networks it is on.
    pub network: Arc<NetworkView>,
    /// Its files on the host.
    pub files: Arc<Files>,
    /// Executions that run now.
    pub exec_ids: Arc<[ExecId]>,
    /// It is gone; this is the last snapshot.
    pub removed: bool,
}

impl ContainerView {
    /// Seconds since 1970.
    pub fn created_seconds(&self) -> i64 {
        self.created_ns.div_euclid(1_000_000_000)
    }
}

/// JSON as the client sent it, kept to be shown again and for nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Echo {
    /// `Config`.
    pub config: Value,
    /// `HostConfig`.
    pub host_config: Value,
}

/// A mount point of a container, in Docker's terms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// The volume's name.
    pub name: Option<String>,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// The volume's driver.
    pub driver: Option<String>,
    /// Options as the client wrote them (`z`, `ro`).
    pub mode: String,
    /// The container may write.
    pub writable: bool,
    /// Propagation of a bind.
    pub propagation: String,
    /// Made for this container alone: removed with it by `-v` and `--rm`.
    pub anonymous: bool,
    /// Fill the volume from the image when it is empty.
    pub copy_up: bool,
    /// Submounts come along.
    pub recursive: bool,
    /// How deep a read-only bind is: empty, `non-recursive` or `force-recursive`.
    pub read_only_depth: String,
    /// Options of a tmpfs.
    pub tmpfs_options: Vec<String>,
    /// Path inside the volume.
    pub subpath: String,
}

/// A container's networks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkView {
    /// Whose network namespace it lives in; none when not running or in the host's.
    pub sandbox_id: Option<SandboxId>,
    /// By network name.
    pub endpoints: BTreeMap<String, EndpointView>,
    /// Ports by container port (`80/tcp`); an exposed port that isn't published has no bindings.
    pub ports: BTreeMap<String, Vec<BoundPort>>,
}

/// A container on one network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    /// The network.
    pub network_id: Option<NetworkId>,
    /// The attachment, while it lasts.
    pub endpoint_id: Option<EndpointId>,
    /// IPv4 address, empty when not attached.
    pub ip_address: String,
    /// Its prefix length.
    pub prefix_length: u8,
    /// IPv4 gateway.
    pub gateway: String,
    /// Link-layer address.
    pub mac_address: String,
    /// Names that the client asked for.
    pub aliases: Vec<String>,
    /// Names under which it is found by DNS.
    pub dns_names: Vec<String>,
}

/// The host's side of a published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPort {
    /// `0.0.0.0` for all.
    pub host_ip: String,
    /// The port.
    pub host_port: u16,
}

/// A container's files on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files {
    /// `<data-root>/containers/<id>`.
    pub directory: PathBuf,
    /// The json-file log; empty when the driver keeps none.
    pub log: PathBuf,
    /// Mounted as `/etc/hostname`.
    pub hostname: PathBuf,
    /// Mounted as `/etc/hosts`.
    pub hosts: PathBuf,
    /// Mounted as `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Layers below the container's own, nearest first.
    pub lower: Vec<PathBuf>,
    /// The container's own layer.
    pub upper: PathBuf,
    /// The overlay's work directory.
    pub work: PathBuf,
}

/// One `exec`.
#[derive(Debug, Clone)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// The container it runs in.
    pub container_id: ContainerId,
    /// What runs.
    pub spec: Arc<ExecSpec>,
    /// It has been started and has not ended.
    pub running: bool,
    /// Once it has ended.
    pub exit_code: Option<i32>,
    /// The process on the host, 0 before the start.
    pub pid: i32,
}

/// What an `exec` runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Empty is the container's.
    pub user: String,
    /// Empty is the container's.
    pub working_dir: String,
    /// The process has a terminal.
    pub tty: bool,
    /// All capabilities.
    pub privileged: bool,
    /// A client gives it standard input.
    pub attach_stdin: bool,
    /// A client takes its standard output.
    pub attach_stdout: bool,
    /// A client takes its standard error.
    pub attach_stderr: bool,
    /// Keys that detach, empty for the default.
    pub detach_keys: String,
    /// Height and width at the start.
    pub console_size: Option<(u16, u16)>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A container that was made and nothing else.
    pub(crate) fn view(id: ContainerId, name: &str) -> ContainerView {
        ContainerView {
            namespace: Namespace::default(),
            id,
            name: name.into(),
            created_ns: 0,
            image_id: corten_base::Digest::sha256(b"").into(),
            os: "linux".into(),
            spec: Default::default(),
            echo: Default::default(),
            args: Arc::new([]),
            state: State::default(),
            mounts: Default::default(),
            network: Default::default(),
            files: Default::default(),
            exec_ids: Arc::new([]),
            removed: false,
        }
    }
}
