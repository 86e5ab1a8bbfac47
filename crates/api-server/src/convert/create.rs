//! `POST /containers/create`: the API's request to the engine's settings.
//!
//! Settings that are not there yet and would change what the container is are refused by name; those that only tune
//! another system (Windows) are ignored, as Docker does.

use super::validate;
use crate::error::Failure;
use corten_api_types::{ContainerConfig, ContainerCreateRequest, EndpointSettings, HostConfig, Mount, PortMap};
use corten_engine::Echo;
use corten_engine::settings::{
    CgroupNs, ContainerSpec, DeviceMapping, DeviceRate, EndpointSettings as Endpoint, IpcMode, JoinMode, MountSpec,
    MountType, NetworkMode, PortBinding, Resources, RestartPolicy, Ulimit,
};
use std::collections::BTreeMap;

/// What the engine is to make, and what `inspect` shows of the request.
pub(crate) fn container(mut request: ContainerCreateRequest) -> Result<(ContainerSpec, Echo), Failure> {
    normalize(&mut request.host_config);
    validate::container(&request)?;
    let echo = Echo { config: to_value(&request.config)?, host_config: to_value(&request.host_config)? };
    Ok((spec(request)?, echo))
}

fn to_value(part: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(part).map_err(|error| Failure::internal(format!("cannot keep the request: {error}")))
}

/// Fills in the defaults that Docker's `inspect` shows.
fn normalize(host: &mut HostConfig) {
    fill(&mut host.network_mode, "bridge");
    if host.network_mode == "default" {
        host.network_mode = "bridge".to_owned();
    }
    fill(&mut host.ipc_mode, "private");
    fill(&mut host.restart_policy.name, "no");
    host.log_config.config.get_or_insert_default();
    // Both mean that there is no limit.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    let sees_the_host = host.privileged || host.pid_mode == "host" || host.ipc_mode == "host";
    if sees_the_host && host.security_opt.is_none() {
        host.security_opt = Some(vec!["label=disable".to_owned()]);
    }
}

fn fill(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}

fn spec(request: ContainerCreateRequest) -> Result<ContainerSpec, Failure> {
    let ContainerCreateRequest { config, host_config: host, networking_config } = request;
    let mut endpoints: BTreeMap<String, Endpoint> = networking_config
        .endpoints_config
        .unwrap_or_default()
        .into_iter()
        .map(|(name, settings)| (name, endpoint(settings)))
        .collect();
    if !config.mac_address.is_empty() {
        let own = endpoints.entry(host.network_mode.clone()).or_default();
        own.mac_address.get_or_insert(config.mac_address.clone());
    }
    let resources = resources(&host);
    let mut spec = process(config);
    let (port_bindings, exposed_only) = ports(host.port_bindings.unwrap_or_default());
    spec.exposed_ports.extend(exposed_only);
    let (masked_paths, readonly_paths) = (host.masked_paths.clone(), host.readonly_paths.clone());
    Ok(ContainerSpec {
        endpoints,
        resources,
        console_size: console_size(host.console_size),
        group_add: host.group_add.unwrap_or_default(),
        binds: host.binds.unwrap_or_default(),
        mounts: host.mounts.unwrap_or_default().into_iter().map(mount).collect::<Result<_, _>>()?,
        tmpfs: host.tmpfs.unwrap_or_default(),
        volumes_from: host.volumes_from.unwrap_or_default(),
        volume_driver: host.volume_driver,
        network_mode: NetworkMode::parse(&host.network_mode),
        port_bindings,
        publish_all_ports: host.publish_all_ports,
        dns: host.dns.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        ipc_mode: ipc_mode(&host.ipc_mode),
        pid_mode: join_mode(&host.pid_mode),
        uts_host: host.uts_mode == "host",
        cgroupns: cgroupns(&host.cgroupns_mode),
        cgroup_parent: host.cgroup_parent,
        privileged: host.privileged,
        readonly_rootfs: host.readonly_rootfs,
        cap_add: host.cap_add.unwrap_or_default(),
        cap_drop: host.cap_drop.unwrap_or_default(),
        security_opt: host.security_opt.unwrap_or_default(),
        masked_paths,
        readonly_paths,
        sysctls: host.sysctls.unwrap_or_default(),
        ulimits: host.ulimits.unwrap_or_default().into_iter().map(ulimit).collect(),
        devices: host.devices.unwrap_or_default().into_iter().map(device).collect(),
        device_cgroup_rules: host.device_cgroup_rules.unwrap_or_default(),
        shm_size: host.shm_size,
        oom_score_adj: i32::try_from(host.oom_score_adj).unwrap_or_default(),
        annotations: host.annotations.unwrap_or_default(),
        init: host.init,
        runtime: host.runtime,
        log_driver: host.log_config.kind,
        log_options: host.log_config.config.unwrap_or_default(),
        auto_remove: host.auto_remove,
        restart: restart(&host.restart_policy),
        ..spec
    })
}

/// What comes from `Config`.
fn process(config: ContainerConfig) -> ContainerSpec {
    ContainerSpec {
        image: config.image,
        entrypoint: config.entrypoint,
        // The client's empty list is the same as none: the image's command counts.
        cmd: config.cmd.filter(|cmd| !cmd.is_empty()),
        env: config.env.unwrap_or_default(),
        user: config.user,
        working_dir: config.working_dir,
        hostname: config.hostname,
        domainname: config.domainname,
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        labels: config.labels.unwrap_or_default(),
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().map(|port| canonical_port(&port)).collect(),
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        network_disabled: config.network_disabled,
        ..ContainerSpec::default()
    }
}

/// `80` means `80/tcp`.
fn canonical_port(port: &str) -> String {
    if port.contains('/') { port.to_ascii_lowercase() } else { format!("{port}/tcp") }
}

/// Ports to publish, and ports without any binding, which are only exposed.
fn ports(map: PortMap) -> (BTreeMap<String, Vec<PortBinding>>, Vec<String>) {
    let (mut published, mut exposed) = (BTreeMap::new(), Vec::new());
    for (port, bindings) in map {
        let bindings = bindings.unwrap_or_default().into_iter();
        let bindings: Vec<_> = bindings.map(|b| PortBinding { host_ip: b.host_ip, host_port: b.host_port }).collect();
        match bindings.is_empty() {
            true => exposed.push(canonical_port(&port)),
            false => drop(published.insert(canonical_port(&port), bindings)),
        }
    }
    (published, exposed)
}

fn endpoint(settings: EndpointSettings) -> Endpoint {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let addresses = settings.ipam_config.unwrap_or_default();
    Endpoint {
        aliases: settings.aliases.unwrap_or_default(),
        links: settings.links.unwrap_or_default(),
        ipv4_address: given(addresses.ipv4_address),
        ipv6_address: given(addresses.ipv6_address),
        mac_address: given(settings.mac_address),
        driver_options: settings.driver_opts.unwrap_or_default(),
        gateway_priority: settings.gw_priority,
    }
}

fn mount(mount: Mount) -> Result<MountSpec, Failure> {
    let kind = match mount.kind.as_str() {
        "bind" => MountType::Bind,
        "volume" => MountType::Volume,
        "tmpfs" => MountType::Tmpfs,
        "image" | "cluster" | "npipe" => return Err(Failure::unsupported(format!("the mount type {:?}", mount.kind))),
        other => {
            return Err(Failure::invalid(format!("invalid mount config for type {other:?}: mount type unknown")));
        }
    };
    let bind = mount.bind_options.unwrap_or_default();
    let volume = mount.volume_options.unwrap_or_default();
    let tmpfs = mount.tmpfs_options.unwrap_or_default();
    let driver = volume.driver_config.unwrap_or_default();
    if tmpfs.options.is_some_and(|options| !options.is_empty()) {
        return Err(Failure::unsupported("a tmpfs mount with TmpfsOptions.Options"));
    }
    Ok(MountSpec {
        kind,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        propagation: bind.propagation,
        non_recursive: bind.non_recursive,
        create_mountpoint: bind.create_mountpoint,
        read_only_non_recursive: bind.read_only_non_recursive,
        read_only_force_recursive: bind.read_only_force_recursive,
        no_copy: volume.no_copy,
        volume_labels: volume.labels.unwrap_or_default(),
        volume_driver: driver.name,
        volume_options: driver.options.unwrap_or_default(),
        subpath: volume.subpath,
        tmpfs_size: tmpfs.size_bytes,
        tmpfs_mode: tmpfs.mode,
    })
}

fn ulimit(limit: corten_api_types::Ulimit) -> Ulimit {
    Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard }
}

fn device(device: corten_api_types::DeviceMapping) -> DeviceMapping {
    DeviceMapping {
        path_on_host: device.path_on_host,
        path_in_container: device.path_in_container,
        permissions: device.cgroup_permissions,
    }
}

fn resources(host: &HostConfig) -> Resources {
    let rates = |list: &Option<Vec<corten_api_types::ThrottleDevice>>| -> Vec<DeviceRate> {
        list.iter().flatten().map(|d| DeviceRate { path: d.path.clone(), value: d.rate }).collect()
    };
    let weights = host.blkio_weight_device.iter().flatten();
    Resources {
        memory: host.memory,
        memory_swap: host.memory_swap,
        memory_reservation: host.memory_reservation,
        memory_swappiness: host.memory_swappiness,
        oom_kill_disable: host.oom_kill_disable,
        cpu_shares: host.cpu_shares,
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        nano_cpus: host.nano_cpus,
        cpu_realtime_period: host.cpu_realtime_period,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids_limit: host.pids_limit,
        blkio_weight: host.blkio_weight,
        blkio_weight_device: weights.map(|d| DeviceRate { path: d.path.clone(), value: d.weight.into() }).collect(),
        device_read_bps: rates(&host.blkio_device_read_bps),
        device_write_bps: rates(&host.blkio_device_write_bps),
        device_read_iops: rates(&host.blkio_device_read_iops),
        device_write_iops: rates(&host.blkio_device_write_iops),
    }
}

/// Height and width; none when either is zero.
pub(crate) fn console_size([height, width]: [u32; 2]) -> Option<(u16, u16)> {
    let side = |n: u32| u16::try_from(n).ok().filter(|n| *n > 0);
    Some((side(height)?, side(width)?))
}

fn ipc_mode(text: &str) -> IpcMode {
    match text {
        "shareable" => IpcMode::Shareable,
        "none" => IpcMode::None,
        "host" => IpcMode::Host,
        _ => match text.strip_prefix("container:") {
            Some(container) => IpcMode::Container(container.to_owned()),
            None => IpcMode::Private,
        },
    }
}

fn join_mode(text: &str) -> JoinMode {
    match text.strip_prefix("container:") {
        Some(container) => JoinMode::Container(container.to_owned()),
        None if text == "host" => JoinMode::Host,
        None => JoinMode::Private,
    }
}

fn cgroupns(text: &str) -> Option<CgroupNs> {
    match text {
        "host" => Some(CgroupNs::Host),
        "private" => Some(CgroupNs::Private),
        _ => None,
    }
}

/// The policy was checked before.
pub(crate) fn restart(policy: &corten_api_types::RestartPolicy) -> RestartPolicy {
    match policy.name.as_str() {
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure(u32::try_from(policy.maximum_retry_count).unwrap_or_default()),
        _ => RestartPolicy::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn convert(request: serde_json::Value) -> Result<(ContainerSpec, Echo), Failure> {
        container(corten_api_types::decode_value(&request).unwrap())
    }

    /// What `docker run -it --rm -p 8080:80 -v v:/data -e A=b -m 64m busybox sh` sends.
    #[test]
    fn the_command_lines_request() {
        let (spec, echo) = convert(json!({
            "Hostname": "", "User": "", "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
            "ExposedPorts": {"80/tcp": {}}, "Tty": true, "OpenStdin": true, "StdinOnce": true, "Env": ["A=b"],
            "Cmd": ["sh"], "Image": "busybox", "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "Labels": {},
            "HostConfig": {"Binds": ["v:/data"], "NetworkMode": "default", "AutoRemove": true,
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}, "Memory": 67108864,
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "ConsoleSize": [24, 80], "ShmSize": 0,
                "LogConfig": {"Type": "", "Config": {}}, "Dns": [], "CapAdd": null, "MemorySwappiness": -1},
            "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": null}}},
        }))
        .unwrap();
        assert_eq!(spec.image, "busybox");
        assert_eq!(spec.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(spec.entrypoint, None);
        assert_eq!(spec.env, ["A=b"]);
        assert!(spec.tty && spec.open_stdin && spec.stdin_once && spec.auto_remove);
        assert_eq!(spec.console_size, Some((24, 80)));
        assert_eq!(spec.resources.memory, 64 << 20);
        assert_eq!(spec.port_bindings["80/tcp"][0].host_port, "8080");
        assert_eq!(spec.binds, ["v:/data"]);
        assert_eq!(spec.network_mode, NetworkMode::Bridge);
        assert_eq!(echo.host_config["NetworkMode"], "bridge");
        assert_eq!(echo.host_config["IpcMode"], "private");
        assert_eq!(echo.config["Cmd"], json!(["sh"]));
    }

    #[test]
    fn modes() {
        let (spec, _) =
            convert(json!({"Image": "a", "HostConfig": {"NetworkMode": "container:x", "IpcMode": "shareable",
            "PidMode": "host", "UTSMode": "host", "CgroupnsMode": "private",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}}))
            .unwrap();
        assert_eq!(spec.network_mode, NetworkMode::Container("x".to_owned()));
        assert_eq!((spec.ipc_mode, spec.pid_mode, spec.uts_host), (IpcMode::Shareable, JoinMode::Host, true));
        assert_eq!(spec.cgroupns, Some(CgroupNs::Private));
        assert_eq!(spec.restart, RestartPolicy::OnFailure(3));
    }

    #[test]
    fn mounts_and_ports() {
        let (spec, _) = convert(json!({"Image": "a", "ExposedPorts": {"53/UDP": {}, "80": {}}, "HostConfig": {
            "PortBindings": {"81": null, "82": [{}]}, "Mounts": [
                {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}},
                {"Type": "volume", "Target": "/c", "VolumeOptions": {"NoCopy": true, "DriverConfig": {"Name": "local"}}},
                {"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 5, "Mode": 448}}]}}))
        .unwrap();
        assert_eq!(spec.exposed_ports.into_iter().collect::<Vec<_>>(), ["53/udp", "80/tcp", "81/tcp"]);
        assert_eq!(
            spec.port_bindings.into_iter().collect::<Vec<_>>(),
            [("82/tcp".into(), vec![PortBinding::default()])]
        );
        assert_eq!((spec.mounts[0].read_only, spec.mounts[0].propagation.as_str()), (true, "rslave"));
        assert_eq!((spec.mounts[1].kind, spec.mounts[1].no_copy), (MountType::Volume, true));
        assert_eq!((spec.mounts[2].tmpfs_size, spec.mounts[2].tmpfs_mode), (5, 0o700));
        let refused = convert(json!({"Image": "a", "HostConfig": {"Mounts": [{"Type": "image", "Target": "/a"}]}}));
        assert_eq!(refused.unwrap_err().message, "the mount type \"image\" is not supported yet");
    }
}
