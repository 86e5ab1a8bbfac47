//! What the engine says of itself and of its host.

use std::collections::BTreeMap;
use std::fs;

use corten_base::Namespace;
use corten_distribution::{Proxies, ShownProxies};

use crate::engine::Engine;
use crate::error::Error;
use crate::life::Phase;
use crate::runtimes::ExternalRuntime;

/// What `info` shows.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// A stable id of this data root.
    pub id: String,
    /// The host's name.
    pub name: String,
    /// Containers in all states.
    pub containers: usize,
    /// Of those, running and not paused.
    pub containers_running: usize,
    /// Paused.
    pub containers_paused: usize,
    /// In any other state.
    pub containers_stopped: usize,
    /// Images.
    pub images: usize,
    /// The snapshotter in Docker's words.
    pub driver: String,
    /// Name and value of what is known of the snapshotter.
    pub driver_status: Vec<(String, String)>,
    /// Default log driver.
    pub log_driver: String,
    /// `cgroupfs`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// The distribution's name.
    pub operating_system: String,
    /// The distribution's version.
    pub os_version: String,
    /// `linux`.
    pub os_type: String,
    /// `uname -m`.
    pub architecture: String,
    /// Processors that the daemon may use.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The data root.
    pub root_directory: String,
    /// Security options in Docker's notation: `name=seccomp,profile=builtin`.
    pub security_options: Vec<String>,
    /// Which limits work.
    pub limits: corten_spec::limits::Support,
    /// Packets are forwarded.
    pub ipv4_forwarding: bool,
    /// Debugging is on.
    pub debug: bool,
    /// The daemon's open descriptors.
    pub file_descriptors: usize,
    /// The daemon's threads.
    pub threads: usize,
    /// Readers of events.
    pub event_listeners: usize,
    /// The daemon's clock, nanoseconds since 1970.
    pub system_time_ns: i64,
    /// Labels from the daemon's settings.
    pub labels: Vec<String>,
    /// Registries that may be insecure.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Proxies on the way to registries.
    pub proxies: ShownProxies,
    /// Containers outlive the daemon.
    pub live_restore: bool,
    /// Other runtimes than the engine's own, by name.
    pub external_runtimes: BTreeMap<String, ExternalRuntime>,
    /// Who makes a container that names no runtime.
    pub default_runtime: String,
    /// The program of `--init`.
    pub init_binary: String,
    /// What the user should know of this host.
    pub warnings: Vec<String>,
}

/// What `version` shows.
#[derive(Debug, Clone, Default)]
pub struct Version {
    /// The engine's version.
    pub version: String,
    /// The commit it was built from, where known.
    pub commit: String,
    /// `linux`.
    pub os: String,
    /// In Go's words: `amd64`.
    pub architecture: String,
    /// `uname -r`.
    pub kernel_version: String,
}

impl Engine {
    /// The engine's version and platform.
    pub fn version(&self) -> Version {
        let platform = corten_base::Platform::host();
        Version {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: String::new(),
            os: platform.os,
            architecture: platform.architecture,
            kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// What the engine knows of itself and its host, as it is now.
    pub async fn info(&self) -> Result<Info, Error> {
        let engine = self.clone();
        crate::blocking::run(move || gather(&engine)).await?
    }
}

fn gather(engine: &Engine) -> Result<Info, Error> {
    let shared = &engine.shared;
    let config = &shared.config;
    let views: Vec<_> = shared.registry.all(&Namespace::default()).iter().map(|handle| handle.now()).collect();
    let count = |phase: Phase| views.iter().filter(|view| view.state.phase == phase).count();
    let (running, paused) = (count(Phase::Running) + count(Phase::Restarting), count(Phase::Paused));
    let uname = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_string()).unwrap_or_default()
    };
    let count_below = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
    Ok(Info {
        id: shared.id.clone(),
        name: uname.nodename().to_string_lossy().into_owned(),
        containers: views.len(),
        containers_running: running,
        containers_paused: paused,
        containers_stopped: views.len() - running - paused,
        images: shared.images.count()?,
        driver: "overlay2".into(),
        driver_status: [
            ("Backing Filesystem", backing(config)),
            ("Supports d_type", "true".into()),
            ("Native Overlay Diff", "true".into()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into(),
        log_driver: config.log_driver.clone(),
        cgroup_driver: "cgroupfs".into(),
        cgroup_version: if shared.cgroups.is_v2() { "2" } else { "1" }.into(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        operating_system: field("PRETTY_NAME"),
        os_version: field("VERSION_ID"),
        os_type: "linux".into(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: memory(),
        root_directory: config.data_root.to_string_lossy().into_owned(),
        security_options: security_options(shared),
        limits: shared.support.clone(),
        ipv4_forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1"),
        debug: config.debug,
        file_descriptors: count_below("/proc/self/fd"),
        threads: count_below("/proc/self/task"),
        event_listeners: shared.events.readers(),
        system_time_ns: crate::task::now_ns(),
        labels: config.labels.clone(),
        insecure_registries: config.insecure_registries.clone(),
        registry_mirrors: config.registry_mirrors.clone(),
        proxies: Proxies::shown_from_environment_but(
            config.proxies.https.as_deref(),
            config.proxies.http.as_deref(),
            config.proxies.exceptions.as_deref(),
        ),
        live_restore: config.live_restore,
        external_runtimes: config.runtimes.external.clone(),
        default_runtime: config.runtimes.default.clone(),
        init_binary: config.init_path.as_ref().map_or("docker-init".into(), |path| path.to_string_lossy().into_owned()),
        warnings: warnings(&shared.support, shared.cgroups.is_v2()),
    })
}

/// The file system below the data root, by its magic number (statfs(2)).
fn backing(config: &crate::Config) -> String {
    let kind = rustix::fs::statfs(&config.data_root).map_or(0, |found| found.f_type);
    match kind {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlayfs",
        _ => "<unknown>",
    }
    .into()
}

/// Bytes of the host's memory. Blocks.
pub(crate) fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn security_options(shared: &crate::shared::Shared) -> Vec<String> {
    let mut options = Vec::new();
    if shared.host.apparmor {
        options.push("name=apparmor".to_string());
    }
    if shared.host.seccomp {
        options.push("name=seccomp,profile=builtin".to_string());
    }
    if shared.cgroups.is_v2() {
        options.push("name=cgroupns".into());
    }
    if shared.config.no_new_privileges {
        options.push("name=no-new-privileges".into());
    }
    options
}

/// Docker's warnings about limits that don't work here.
fn warnings(support: &corten_spec::limits::Support, v2: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut check = |fine: bool, text: &str| {
        if !fine {
            warnings.push(format!("WARNING: {text}"));
        }
    };
    check(support.memory, "No memory limit support");
    check(support.swap, "No swap limit support");
    check(v2 || support.oom_kill_disable, "No oom kill disable support");
    check(support.cpu_cfs, "No cpu cfs quota support");
    check(support.cpu_shares, "No cpu shares support");
    check(support.cpuset, "No cpuset support");
    check(support.pids, "No pids limit support");
    warnings
}
