//! `GET /containers/{id}/json`.

use crate::error::Failure;
use corten_api_types::{
    ContainerConfig, ContainerInspect, ContainerState, Empty, EndpointIpamConfig, EndpointSettings, GraphDriver,
    HostConfig, MountPoint, NetworkSettings, PortBinding, PortMap,
};
use corten_base::time::{ZERO_TIME, from_unix_nanos, rfc3339_nano};
use corten_engine::settings::{CgroupNs, ContainerSpec, EndpointSettings as Wanted, NetworkMode, RestartPolicy};
use corten_engine::{ContainerView, EndpointView, NetworkView};
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the storage driver, as Docker calls what we do.
pub(crate) const STORAGE_DRIVER: &str = "overlay2";
const DEFAULT_SHM_SIZE: i64 = 64 << 20;

/// What `inspect` shows of a container. Sizes are bytes of its own layer and of the whole root file system.
pub(crate) fn container(view: &ContainerView, sizes: Option<(u64, u64)>) -> Result<ContainerInspect, Failure> {
    let path = |path: &Path| path.display().to_string();
    let signed = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    Ok(ContainerInspect {
        id: view.id.to_string(),
        created: rfc3339_nano(from_unix_nanos(view.created_ns)),
        path: view.args.first().cloned().unwrap_or_default(),
        args: view.args.iter().skip(1).cloned().collect(),
        state: state(view),
        image: view.image_id.to_string(),
        resolv_conf_path: path(&view.files.resolv_conf),
        hostname_path: path(&view.files.hostname),
        hosts_path: path(&view.files.hosts),
        log_path: path(&view.files.log),
        name: format!("/{}", view.name),
        restart_count: view.state.restart_count.into(),
        driver: STORAGE_DRIVER.to_owned(),
        platform: view.os.clone(),
        exec_ids: Some(view.exec_ids.iter().map(ToString::to_string).collect::<Vec<_>>()).filter(|ids| !ids.is_empty()),
        host_config: host_config(view)?,
        graph_driver: graph_driver(view),
        size_rw: sizes.map(|(own, _)| signed(own)),
        size_root_fs: sizes.map(|(_, whole)| signed(whole)),
        mounts: mounts(view),
        config: config(view)?,
        network_settings: network_settings(view),
        ..ContainerInspect::default()
    })
}

fn state(view: &ContainerView) -> ContainerState {
    let state = &view.state;
    let time = |ns: Option<i64>| ns.map_or_else(|| ZERO_TIME.to_owned(), |ns| rfc3339_nano(from_unix_nanos(ns)));
    let status = state.phase.as_str();
    ContainerState {
        status: status.to_owned(),
        running: state.is_running(),
        paused: status == "paused",
        restarting: status == "restarting",
        oom_killed: state.oom_killed,
        dead: status == "dead",
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: time(state.started_ns),
        finished_at: time(state.finished_ns),
        health: None,
    }
}

/// The client's `Config` with what the image added.
fn config(view: &ContainerView) -> Result<ContainerConfig, Failure> {
    let spec = &view.spec;
    let echo: ContainerConfig = echoed(&view.echo.config)?;
    let set = |keys: &std::collections::BTreeSet<String>| {
        Some(keys.iter().map(|key| (key.clone(), Empty {})).collect::<BTreeMap<_, _>>()).filter(|map| !map.is_empty())
    };
    Ok(ContainerConfig {
        hostname: hostname(view),
        domainname: spec.domainname.clone(),
        user: spec.user.clone(),
        exposed_ports: set(&spec.exposed_ports),
        env: Some(spec.env.clone()),
        cmd: spec.cmd.clone(),
        image: spec.image.clone(),
        volumes: set(&spec.volumes),
        working_dir: spec.working_dir.clone(),
        entrypoint: spec.entrypoint.clone().filter(|entrypoint| !entrypoint.is_empty()),
        labels: Some(spec.labels.clone()),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_timeout,
        ..echo
    })
}

/// A container that lives in another's network namespace has no host name of its own to show.
fn hostname(view: &ContainerView) -> String {
    match (&view.spec.network_mode, view.spec.hostname.as_str()) {
        (NetworkMode::Container(_), _) => view.spec.hostname.clone(),
        (_, "") => view.id.short().to_owned(),
        (_, name) => name.to_owned(),
    }
}

fn echoed<T: serde::de::DeserializeOwned + Default>(value: &serde_json::Value) -> Result<T, Failure> {
    match value {
        serde_json::Value::Null => Ok(T::default()),
        value => corten_api_types::decode_value(value)
            .map_err(|error| Failure::internal(format!("cannot read the container's record: {error}"))),
    }
}

/// The client's `HostConfig` with the engine's defaults.
fn host_config(view: &ContainerView) -> Result<HostConfig, Failure> {
    let spec: &ContainerSpec = &view.spec;
    let mut host: HostConfig = echoed(&view.echo.host_config)?;
    let paths = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect());
    let fill = |text: &mut String, value: &str| {
        if text.is_empty() {
            value.clone_into(text);
        }
    };
    fill(&mut host.log_config.kind, if spec.log_driver.is_empty() { "json-file" } else { &spec.log_driver });
    fill(&mut host.runtime, if spec.runtime.is_empty() { corten_engine::BUILT_IN[0] } else { &spec.runtime });
    fill(&mut host.cgroupns_mode, if spec.cgroupns == Some(CgroupNs::Private) { "private" } else { "host" });
    if host.shm_size == 0 {
        host.shm_size = if spec.shm_size > 0 { spec.shm_size } else { DEFAULT_SHM_SIZE };
    }
    host.oom_kill_disable = spec.resources.oom_kill_disable;
    show_updated(&mut host, spec);
    if !spec.privileged {
        host.masked_paths = host.masked_paths.or_else(|| paths(&corten_spec::MASKED_PATHS));
        host.readonly_paths = host.readonly_paths.or_else(|| paths(&corten_spec::READONLY_PATHS));
    }
    Ok(host)
}

/// What `update` changes is shown as it is now, not as the client asked for it once.
fn show_updated(host: &mut HostConfig, spec: &ContainerSpec) {
    let limits = &spec.resources;
    host.memory = limits.memory;
    host.memory_swap = limits.memory_swap;
    host.memory_reservation = limits.memory_reservation;
    host.cpu_shares = limits.cpu_shares;
    host.cpu_period = limits.cpu_period;
    host.cpu_quota = limits.cpu_quota;
    host.nano_cpus = limits.nano_cpus;
    host.cpu_realtime_period = limits.cpu_realtime_period;
    host.cpu_realtime_runtime = limits.cpu_realtime_runtime;
    host.cpuset_cpus.clone_from(&limits.cpuset_cpus);
    host.cpuset_mems.clone_from(&limits.cpuset_mems);
    host.pids_limit = limits.pids_limit;
    host.blkio_weight = limits.blkio_weight;
    host.restart_policy.name = spec.restart.name().to_owned();
    host.restart_policy.maximum_retry_count = match spec.restart {
        RestartPolicy::OnFailure(most) => most.into(),
        _ => 0,
    };
}

fn graph_driver(view: &ContainerView) -> GraphDriver {
    let files = &view.files;
    let lower: Vec<String> = files.lower.iter().map(|path| path.display().to_string()).collect();
    let data = [
        ("ID", view.id.to_string()),
        ("LowerDir", lower.join(":")),
        ("MergedDir", files.upper.with_file_name("merged").display().to_string()),
        ("UpperDir", files.upper.display().to_string()),
        ("WorkDir", files.work.display().to_string()),
    ];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    GraphDriver { data: Some(data), name: STORAGE_DRIVER.to_owned() }
}

/// The container's mount points; those of `HostConfig.Tmpfs` stand only there.
pub(crate) fn mounts(view: &ContainerView) -> Vec<MountPoint> {
    // Docker's word for a volume that is shared in the way of the host's label system, whether or not there is one.
    let mode = |point: &corten_engine::MountPoint| match (point.kind.as_str(), point.mode.as_str()) {
        ("volume", "") if is_bound(view, point) => "z".to_owned(),
        _ => point.mode.clone(),
    };
    let mount = |point: &corten_engine::MountPoint| MountPoint {
        kind: point.kind.clone(),
        name: point.name.clone().unwrap_or_default(),
        source: point.source.clone(),
        destination: point.destination.clone(),
        driver: point.driver.clone().unwrap_or_default(),
        mode: mode(point),
        rw: point.writable,
        propagation: point.propagation.clone(),
    };
    view.mounts.iter().filter(|point| !view.spec.tmpfs.contains_key(&point.destination)).map(mount).collect()
}

/// Whether `Binds` asked for the mount.
fn is_bound(view: &ContainerView, point: &corten_engine::MountPoint) -> bool {
    let names = |bind: &String| bind.split(':').nth(1) == Some(point.destination.as_str());
    view.spec.binds.iter().any(names)
}

fn network_settings(view: &ContainerView) -> NetworkSettings {
    let network: &NetworkView = &view.network;
    let sandbox = network.sandbox_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let first = networks(view).remove("bridge").unwrap_or_default();
    NetworkSettings {
        sandbox_key: match sandbox.get(..12) {
            Some(short) => format!("/run/corten/netns/{short}"),
            None => String::new(),
        },
        sandbox_id: sandbox,
        ports: Some(ports(network)),
        endpoint_id: first.endpoint_id,
        gateway: first.gateway,
        ip_address: first.ip_address,
        ip_prefix_len: first.ip_prefix_len,
        mac_address: first.mac_address,
        networks: Some(networks(view)),
        ..NetworkSettings::default()
    }
}

fn ports(network: &NetworkView) -> PortMap {
    let bound = |port: &corten_engine::BoundPort| PortBinding {
        host_ip: port.host_ip.clone(),
        host_port: port.host_port.to_string(),
    };
    let entry = |(port, bindings): (&String, &Vec<corten_engine::BoundPort>)| {
        let bindings: Vec<_> = bindings.iter().map(bound).collect();
        (port.clone(), Some(bindings).filter(|bindings| !bindings.is_empty()))
    };
    network.ports.iter().map(entry).collect()
}

/// The container's networks by name.
pub(crate) fn networks(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    let entry = |(name, endpoint): (&String, &EndpointView)| {
        (name.clone(), endpoint_settings(endpoint, view.spec.endpoints.get(name)))
    };
    view.network.endpoints.iter().map(entry).collect()
}

fn endpoint_settings(endpoint: &EndpointView, wanted: Option<&Wanted>) -> EndpointSettings {
    let some = |list: &[String]| Some(list.to_vec()).filter(|list| !list.is_empty());
    let addresses = wanted.and_then(|wanted| {
        let addresses = EndpointIpamConfig {
            ipv4_address: wanted.ipv4_address.clone().unwrap_or_default(),
            ipv6_address: wanted.ipv6_address.clone().unwrap_or_default(),
            ..EndpointIpamConfig::default()
        };
        Some(addresses).filter(|addresses| *addresses != EndpointIpamConfig::default())
    });
    EndpointSettings {
        ipam_config: addresses,
        links: wanted.and_then(|wanted| some(&wanted.links)),
        aliases: some(&endpoint.aliases),
        mac_address: endpoint.mac_address.clone(),
        driver_opts: wanted.and_then(|wanted| super::null_if_empty(&wanted.driver_options)),
        gw_priority: wanted.map_or(0, |wanted| wanted.gateway_priority),
        network_id: endpoint.network_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        endpoint_id: endpoint.endpoint_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        gateway: endpoint.gateway.clone(),
        ip_address: endpoint.ip_address.clone(),
        ip_prefix_len: endpoint.prefix_length,
        dns_names: some(&endpoint.dns_names),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
pub(crate) mod tests;
