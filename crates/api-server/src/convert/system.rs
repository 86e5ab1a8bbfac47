//! `/version` and `/info`.

use corten_api_types::{
    AddressPool, ApiVersion, Commit, ComponentVersion, FirewallInfo, IndexInfo, PlatformName, PluginsInfo,
    RegistryServiceConfig, Runtime, SystemInfo, SystemVersion,
};
use corten_base::time::{from_unix_nanos, rfc3339_nano};
use corten_engine::{BUILT_IN, ExternalRuntime, Info, Version};
use std::collections::BTreeMap;

const INDEX: &str = "https://index.docker.io/v1/";

/// `GET /version`.
pub(crate) fn version(version: Version) -> SystemVersion {
    let (newest, oldest) = (ApiVersion::NEWEST.to_string(), ApiVersion::OLDEST.to_string());
    let details = [
        ("ApiVersion", newest.as_str()),
        ("Arch", &version.architecture),
        ("Experimental", "false"),
        ("GitCommit", &version.commit),
        ("KernelVersion", &version.kernel_version),
        ("MinAPIVersion", &oldest),
        ("Os", &version.os),
    ];
    let engine = ComponentVersion {
        name: "Engine".to_owned(),
        version: version.version.clone(),
        details: details.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    SystemVersion {
        platform: PlatformName { name: "Corten".to_owned() },
        components: vec![engine],
        version: version.version,
        api_version: newest,
        min_api_version: oldest,
        git_commit: version.commit,
        os: version.os,
        arch: version.architecture,
        kernel_version: version.kernel_version,
        ..SystemVersion::default()
    }
}

/// `GET /info`.
pub(crate) fn info(info: Info) -> SystemInfo {
    let count = |number: usize| number as u64;
    let limits = &info.limits;
    SystemInfo {
        id: info.id,
        containers: count(info.containers),
        containers_running: count(info.containers_running),
        containers_paused: count(info.containers_paused),
        containers_stopped: count(info.containers_stopped),
        images: count(info.images),
        driver: info.driver,
        driver_status: info.driver_status.into_iter().map(|(name, value)| [name, value]).collect(),
        plugins: plugins(),
        memory_limit: limits.memory,
        swap_limit: limits.swap,
        cpu_cfs_period: limits.cpu_cfs,
        cpu_cfs_quota: limits.cpu_cfs,
        cpu_shares: limits.cpu_shares,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        ipv4_forwarding: info.ipv4_forwarding,
        debug: info.debug,
        n_fd: count(info.file_descriptors),
        oom_kill_disable: limits.oom_kill_disable,
        n_goroutines: count(info.threads),
        system_time: rfc3339_nano(from_unix_nanos(info.system_time_ns)),
        logging_driver: info.log_driver,
        cgroup_driver: info.cgroup_driver,
        cgroup_version: info.cgroup_version,
        n_events_listener: count(info.event_listeners),
        kernel_version: info.kernel_version,
        operating_system: info.operating_system,
        os_version: info.os_version,
        os_type: info.os_type,
        architecture: info.architecture,
        index_server_address: INDEX.to_owned(),
        registry_config: registries(info.insecure_registries, info.registry_mirrors),
        ncpu: count(info.cpus),
        mem_total: info.memory,
        docker_root_dir: info.root_directory,
        http_proxy: info.proxies.http,
        https_proxy: info.proxies.https,
        no_proxy: info.proxies.exceptions,
        name: info.name,
        labels: info.labels,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes: runtimes(info.external_runtimes),
        default_runtime: info.default_runtime,
        live_restore_enabled: info.live_restore,
        init_binary: info.init_binary,
        containerd_commit: Commit::default(),
        security_options: info.security_options,
        default_address_pools: Vec::<AddressPool>::new(),
        firewall_backend: Some(FirewallInfo { driver: "nftables".to_owned(), info: Vec::new() }),
        cdi_spec_dirs: Vec::new(),
        warnings: Some(info.warnings).filter(|warnings| !warnings.is_empty()),
        ..SystemInfo::default()
    }
}

/// All names that `--runtime` takes; those of the engine's own mean its own program.
fn runtimes(external: BTreeMap<String, ExternalRuntime>) -> BTreeMap<String, Runtime> {
    let own = Runtime { path: BUILT_IN[0].to_owned(), ..Runtime::default() };
    let own = BUILT_IN.iter().map(|name| ((*name).to_owned(), own.clone()));
    let other = external.into_iter().map(|(name, ExternalRuntime { path, arguments })| {
        let runtime_args = Some(arguments).filter(|arguments| !arguments.is_empty());
        (name, Runtime { path, runtime_args, ..Runtime::default() })
    });
    own.chain(other).collect()
}

fn plugins() -> PluginsInfo {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    PluginsInfo {
        volume: names(&["local"]),
        network: names(&["bridge", "host", "null"]),
        authorization: None,
        log: names(&["json-file"]),
    }
}

/// Docker Hub, and the registries that may be insecure: names, and ranges of addresses.
fn registries(insecure: Vec<String>, mirrors: Vec<String>) -> RegistryServiceConfig {
    let (mut ranges, names): (Vec<String>, Vec<String>) = insecure.into_iter().partition(|entry| entry.contains('/'));
    ranges.extend(["::1/128", "127.0.0.0/8"].map(str::to_owned));
    let named = |name: String, secure| {
        let official = name == "docker.io";
        let mirrors = if official { mirrors.clone() } else { Vec::new() };
        (name.clone(), IndexInfo { name, mirrors, secure, official })
    };
    let index_configs =
        names.into_iter().map(|name| named(name, false)).chain([named("docker.io".to_owned(), true)]).collect();
    RegistryServiceConfig {
        insecure_registry_cidrs: ranges,
        index_configs,
        mirrors: Some(mirrors).filter(|mirrors| !mirrors.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let shown = version(Version { version: "1.2".to_owned(), os: "linux".to_owned(), ..Version::default() });
        assert_eq!((shown.api_version.as_str(), shown.min_api_version.as_str()), ("1.55", "1.24"));
        assert_eq!(shown.components[0].details["Os"], "linux");
    }

    #[test]
    fn infos() {
        let shown = info(Info { insecure_registries: vec!["r:5000".into(), "10.0.0.0/8".into()], ..Info::default() });
        assert_eq!(shown.registry_config.insecure_registry_cidrs[0], "10.0.0.0/8");
        assert!(!shown.registry_config.index_configs["r:5000"].secure);
        assert!(shown.registry_config.index_configs["docker.io"].official);
        assert_eq!(shown.swarm.local_node_state, "inactive");
        assert_eq!(shown.warnings, None);
    }
}
