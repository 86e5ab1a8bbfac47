//! What the daemon's flags and files decide about the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::runtimes::Runtimes;
use crate::settings::Ulimit;
use crate::watermark::Watermarks;

/// The engine's settings; [`Config::default`] is `corten daemon` without flags.
#[derive(Debug, Clone)]
pub struct Config {
    /// What survives a reboot.
    pub data_root: PathBuf,
    /// What does not.
    pub exec_root: PathBuf,
    /// The program that is spawned as `corten shim`.
    pub executable: PathBuf,
    /// Warm shims kept ready.
    pub pool_size: usize,
    /// The network room's settings.
    pub network: corten_network::Config,
    /// Registries that may be spoken to in plain text or with unverified certificates: hosts with ports, or subnets.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub, tried before it.
    pub registry_mirrors: Vec<String>,
    /// Folders with certificates and `hosts.toml` per registry; the first that has a file counts.
    pub registry_directories: Vec<PathBuf>,
    /// Proxies on the way to registries; what isn't set is taken from the environment.
    pub proxies: ProxyConfig,
    /// How many layers are moved at once, and how often something is tried.
    pub registry_limits: corten_distribution::Limits,
    /// Containers outlive a stopped daemon.
    pub live_restore: bool,
    /// How long all containers together may take to stop when the daemon does.
    pub shutdown_timeout: Duration,
    /// Log driver of containers that name none.
    pub log_driver: String,
    /// Log options of containers that name no driver.
    pub log_options: BTreeMap<String, String>,
    /// Limits of containers that don't set their own.
    pub default_ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm` where a container names none.
    pub default_shm_size: i64,
    /// `--init` for containers that don't say.
    pub init: bool,
    /// The program that `--init` runs.
    pub init_path: Option<PathBuf>,
    /// Parent of the containers' control groups.
    pub cgroup_parent: String,
    /// `no-new-privileges` for all containers.
    pub no_new_privileges: bool,
    /// Who makes containers.
    pub runtimes: Runtimes,
    /// Labels that `info` shows.
    pub labels: Vec<String>,
    /// `info` says that debugging is on.
    pub debug: bool,
    /// Events kept for `events --since`.
    pub event_capacity: usize,
    /// When unused images are removed to make room; none: never.
    pub watermarks: Option<Watermarks>,
    /// The most bytes that one layer may unfold to; none: what the disk has.
    pub largest_layer: Option<u64>,
}

/// Proxies by the kind of request, as the environment's variables have them.
#[derive(Clone, Default)]
pub struct ProxyConfig {
    /// For plain HTTP.
    pub http: Option<String>,
    /// For HTTPS.
    pub https: Option<String>,
    /// Hosts to reach without, separated by commas.
    pub exceptions: Option<String>,
}

impl std::fmt::Debug for ProxyConfig {
    /// Without the addresses: they may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyConfig").field("exceptions", &self.exceptions).finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_root: "/var/lib/corten".into(),
            exec_root: "/run/corten".into(),
            executable: "/proc/self/exe".into(),
            pool_size: 3,
            network: corten_network::Config::default(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            registry_directories: corten_distribution::SYSTEM_DIRECTORIES.map(PathBuf::from).to_vec(),
            proxies: ProxyConfig::default(),
            registry_limits: corten_distribution::Limits::default(),
            live_restore: false,
            shutdown_timeout: Duration::from_secs(15),
            log_driver: "json-file".into(),
            log_options: BTreeMap::new(),
            default_ulimits: Vec::new(),
            default_shm_size: 64 * 1024 * 1024,
            init: false,
            init_path: None,
            cgroup_parent: "/corten".into(),
            no_new_privileges: false,
            runtimes: Runtimes::default(),
            labels: Vec::new(),
            debug: false,
            event_capacity: 1024,
            watermarks: None,
            largest_layer: None,
        }
    }
}
