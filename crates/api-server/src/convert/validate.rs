//! What a create request may not say, in Docker's words and with its statuses. Pure: what depends on the host or on other
//! objects is checked by the engine.

use crate::error::Failure;
use corten_api_types::{ContainerConfig, ContainerCreateRequest, HealthConfig, HostConfig, Mount, RestartPolicy};

const LOG_OPTIONS: [&str; 10] = [
    "max-file",
    "max-size",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];
const OTHER_LOG_DRIVERS: [&str; 7] = ["local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk"];

/// Checks a whole request.
pub(crate) fn container(request: &ContainerCreateRequest) -> Result<(), Failure> {
    if request.config == ContainerConfig::default() {
        return Err(Failure::invalid("config cannot be empty in order to create a container"));
    }
    config(&request.config)?;
    let host = &request.host_config;
    modes(host)?;
    conflicts(&request.config, host)?;
    restart_policy(&host.restart_policy)?;
    restarts_and_removes(host)?;
    ports(host)?;
    limits(host)?;
    logging(host)?;
    host.mounts.iter().flatten().try_for_each(mount)?;
    unsupported(host)
}

fn config(config: &ContainerConfig) -> Result<(), Failure> {
    if !config.stop_signal.is_empty() {
        corten_base::signal::parse(&config.stop_signal).map_err(|error| Failure::invalid(error.to_string()))?;
    }
    if let Some(bad) = config.env.iter().flatten().find(|env| env.is_empty() || env.starts_with('=')) {
        return Err(Failure::invalid(format!("invalid environment variable: {bad}")));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        let directory = &config.working_dir;
        let text = format!("the working directory '{directory}' is invalid, it needs to be an absolute path");
        return Err(Failure::invalid(text));
    }
    match &config.healthcheck {
        Some(health) => health_check(health),
        None => Ok(()),
    }
}

fn health_check(health: &HealthConfig) -> Result<(), Failure> {
    const MILLISECOND: i64 = 1_000_000;
    let durations = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    if let Some((name, _)) = durations.iter().find(|(_, nanos)| *nanos != 0 && *nanos < MILLISECOND) {
        return Err(Failure::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    if health.retries < 0 {
        return Err(Failure::invalid("Retries in Healthcheck cannot be negative"));
    }
    match health.test.iter().flatten().next().map(String::as_str) {
        None | Some("NONE") => Ok(()),
        Some(_) => Err(Failure::unsupported("a container's Healthcheck")),
    }
}

fn modes(host: &HostConfig) -> Result<(), Failure> {
    let joins = |text: &str| text.strip_prefix("container:").is_some_and(|container| !container.is_empty());
    if !joins(&host.ipc_mode) && !["", "private", "shareable", "none", "host"].contains(&host.ipc_mode.as_str()) {
        return Err(Failure::invalid(format!("invalid IPC mode: {}", host.ipc_mode)));
    }
    if !joins(&host.pid_mode) && !["", "host"].contains(&host.pid_mode.as_str()) {
        return Err(Failure::invalid(format!("invalid PID mode: {}", host.pid_mode)));
    }
    if !["", "host"].contains(&host.uts_mode.as_str()) {
        return Err(Failure::invalid(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    if !["", "private", "host"].contains(&host.cgroupns_mode.as_str()) {
        return Err(Failure::invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode)));
    }
    if host.network_mode == "container:" {
        return Err(Failure::invalid("invalid network mode: invalid container format container:<name|id>"));
    }
    if !["", "default"].contains(&host.isolation.as_str()) {
        return Err(Failure::invalid(format!("invalid isolation ({}): linux only supports 'default'", host.isolation)));
    }
    Ok(())
}

fn conflicts(config: &ContainerConfig, host: &HostConfig) -> Result<(), Failure> {
    let conflict = |what: &str| Err(Failure::invalid(format!("conflicting options: {what}")));
    let named = !config.hostname.is_empty();
    if host.uts_mode == "host" && named {
        return conflict("hostname and the UTS mode");
    }
    let has_links = host.links.as_ref().is_some_and(|links| !links.is_empty());
    if host.network_mode == "host" && has_links {
        return conflict("host type networking can't be used with links. This would result in undefined behavior");
    }
    if !host.network_mode.starts_with("container:") {
        return Ok(());
    }
    let is_set = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if named {
        return conflict("hostname and the network mode");
    }
    if has_links {
        return conflict("container type network can't be used with links. This would result in undefined behavior");
    }
    if is_set(&host.dns) {
        return conflict("dns and the network mode");
    }
    if is_set(&host.extra_hosts) {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return conflict("port publishing and the container type network mode");
    }
    if config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return conflict("port exposing and the container type network mode");
    }
    Ok(())
}

/// Checks a restart policy; without a name it says nothing, whatever else stands in it (Docker's old clients).
pub(crate) fn restart_policy(policy: &RestartPolicy) -> Result<(), Failure> {
    let invalid = |text: String| Err(Failure::invalid(format!("invalid restart policy: {text}")));
    match (policy.name.as_str(), policy.maximum_retry_count) {
        ("", _) | ("no" | "always" | "unless-stopped", 0) | ("on-failure", 0..) => Ok(()),
        ("on-failure", _) => invalid("maximum retry count cannot be negative".to_owned()),
        ("no" | "always" | "unless-stopped", count) => {
            let negative = if count < 0 { " and cannot be negative" } else { "" };
            invalid(format!("maximum retry count can only be used with 'on-failure'{negative}"))
        }
        (other, _) => {
            invalid(format!("unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"))
        }
    }
}

fn restarts_and_removes(host: &HostConfig) -> Result<(), Failure> {
    let restarts = !matches!(host.restart_policy.name.as_str(), "" | "no");
    if restarts && host.auto_remove {
        return Err(Failure::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

fn ports(host: &HostConfig) -> Result<(), Failure> {
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let number = port.split('/').next().unwrap_or_default();
        if number.is_empty() || !is_port_range(number) {
            return Err(Failure::invalid(format!("invalid port specification: {number:?}")));
        }
        for binding in bindings.iter().flatten() {
            if !binding.host_port.is_empty() && !is_port_range(&binding.host_port) {
                return Err(Failure::invalid(format!("invalid port specification: {:?}", binding.host_port)));
            }
        }
    }
    Ok(())
}

/// `80` or `8000-8010`.
fn is_port_range(text: &str) -> bool {
    let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    match text.split_once('-') {
        Some((first, last)) => port(first).zip(port(last)).is_some_and(|(first, last)| first <= last),
        None => port(text).is_some(),
    }
}

fn limits(host: &HostConfig) -> Result<(), Failure> {
    if host.shm_size < 0 {
        return Err(Failure::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        let value = host.oom_score_adj;
        return Err(Failure::invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]")));
    }
    if host.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Failure::invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }
    host.extra_hosts.iter().flatten().try_for_each(|line| extra_host(line))?;
    match host.tmpfs.iter().flatten().find(|(path, _)| !path.starts_with('/')) {
        Some((path, _)) => Err(Failure::invalid(format!("invalid mount path: '{path}' mount path must be absolute"))),
        None => Ok(()),
    }
}

/// `name:address`, where the address may be the word for the host itself.
fn extra_host(line: &str) -> Result<(), Failure> {
    let Some((_, address)) = line.split_once(':').filter(|(name, _)| !name.is_empty()) else {
        return Err(Failure::invalid(format!("bad format for add-host: {line:?}")));
    };
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if address == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Failure::invalid(format!("invalid IP address in add-host: {address:?}")))
}

fn logging(host: &HostConfig) -> Result<(), Failure> {
    let (driver, options) = (host.log_config.kind.as_str(), host.log_config.config.iter().flatten());
    match driver {
        "" | "json-file" => {}
        "none" => return Ok(()),
        other if OTHER_LOG_DRIVERS.contains(&other) => {
            return Err(Failure::unsupported(format!("the log driver {other}")));
        }
        other => {
            let text = format!("error looking up logging plugin {other}: plugin {other:?} not found");
            return Err(Failure::invalid(text));
        }
    }
    match options.map(|(name, _)| name).find(|name| !LOG_OPTIONS.contains(&name.as_str())) {
        Some(name) => Err(Failure::invalid(format!("unknown log opt '{name}' for json-file log driver"))),
        None => Ok(()),
    }
}

fn mount(mount: &Mount) -> Result<(), Failure> {
    let kind = mount.kind.as_str();
    let stray = [
        ("BindOptions", mount.bind_options.is_some(), "bind"),
        ("VolumeOptions", mount.volume_options.is_some(), "volume"),
        ("ImageOptions", mount.image_options.is_some(), "image"),
        ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
    ];
    match stray.iter().find(|(_, is_set, owner)| *is_set && *owner != kind) {
        Some((name, ..)) => Err(Failure::invalid(format!("{name} must not be specified on mount type {kind:?}"))),
        None => Ok(()),
    }
}

/// What is not there yet and would change the container.
fn unsupported(host: &HostConfig) -> Result<(), Failure> {
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if has(&host.links) {
        return Err(Failure::unsupported("HostConfig.Links"));
    }
    if host.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
        return Err(Failure::unsupported("HostConfig.DeviceRequests"));
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Failure::unsupported("HostConfig.StorageOpt"));
    }
    if !host.cgroup.is_empty() {
        return Err(Failure::unsupported("HostConfig.Cgroup"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(config: Value, host: Value, message: &str) {
        let mut request = config;
        request["HostConfig"] = host;
        let request: ContainerCreateRequest = corten_api_types::decode_value(&request).unwrap();
        let text = container(&request).err().map(|failure| failure.message).unwrap_or_default();
        assert_eq!(text, message);
    }

    fn host(host: Value, message: &str) {
        check(json!({"Image": "a"}), host, message);
    }

    fn config(mut config: Value, message: &str) {
        config["Image"] = json!("a");
        check(config, json!({}), message);
    }

    #[test]
    fn configs() {
        check(json!({}), json!({}), "config cannot be empty in order to create a container");
        config(json!({}), "");
        config(json!({"StopSignal": "x"}), "invalid signal: x");
        config(json!({"Env": ["=x"]}), "invalid environment variable: =x");
        config(json!({"WorkingDir": "x"}), "the working directory 'x' is invalid, it needs to be an absolute path");
        config(json!({"Healthcheck": {"Interval": 5}}), "Interval in Healthcheck cannot be less than 1ms");
        config(json!({"Healthcheck": {"Test": ["CMD", "x"]}}), "a container's Healthcheck is not supported yet");
        config(json!({"Healthcheck": {"Test": ["NONE"]}}), "");
    }

    #[test]
    fn hosts() {
        host(json!({"IpcMode": "x"}), "invalid IPC mode: x");
        host(json!({"PidMode": "x"}), "invalid PID mode: x");
        host(json!({"UTSMode": "x"}), "invalid UTS mode: x");
        host(json!({"CgroupnsMode": "x"}), "invalid cgroup namespace mode: x");
        host(json!({"Isolation": "hyperv"}), "invalid isolation (hyperv): linux only supports 'default'");
        host(json!({"ShmSize": -1}), "SHM size can not be less than 0");
        host(json!({"OomScoreAdj": 2000}), "Invalid value 2000, range for oom score adj is [-1000, 1000]");
        host(json!({"ExtraHosts": ["x"]}), "bad format for add-host: \"x\"");
        host(json!({"ExtraHosts": ["x:y"]}), "invalid IP address in add-host: \"y\"");
        host(json!({"ExtraHosts": ["x:host-gateway", "y:::1", "z:1.2.3.4"]}), "");
        host(json!({"Tmpfs": {"x": ""}}), "invalid mount path: 'x' mount path must be absolute");
        host(json!({"PortBindings": {"x/tcp": [{"HostPort": "1"}]}}), "invalid port specification: \"x\"");
        host(json!({"PortBindings": {"80/tcp": [{"HostPort": "2-1"}]}}), "invalid port specification: \"2-1\"");
        host(json!({"PortBindings": {"80/tcp": [{"HostPort": "8000-8010"}], "81": null}}), "");
        host(json!({"LogConfig": {"Type": "x"}}), "error looking up logging plugin x: plugin \"x\" not found");
        host(json!({"LogConfig": {"Type": "syslog"}}), "the log driver syslog is not supported yet");
        host(
            json!({"LogConfig": {"Type": "json-file", "Config": {"foo": "1"}}}),
            "unknown log opt 'foo' for json-file log driver",
        );
        host(
            json!({"Mounts": [{"Type": "volume", "Target": "/x", "BindOptions": {}}]}),
            "BindOptions must not be specified on mount type \"volume\"",
        );
        host(json!({"Links": ["a"]}), "HostConfig.Links is not supported yet");
    }

    #[test]
    fn restart_policies() {
        let policy = |policy: Value, message: &str| host(json!({"RestartPolicy": policy}), message);
        policy(
            json!({"Name": "x"}),
            "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        );
        policy(
            json!({"Name": "always", "MaximumRetryCount": 3}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        );
        policy(
            json!({"Name": "on-failure", "MaximumRetryCount": -3}),
            "invalid restart policy: maximum retry count cannot be negative",
        );
        host(
            json!({"RestartPolicy": {"Name": "always"}, "AutoRemove": true}),
            "can't create 'AutoRemove' container with restart policy",
        );
    }

    #[test]
    fn network_conflicts() {
        check(
            json!({"Image": "a", "Hostname": "x"}),
            json!({"NetworkMode": "container:y"}),
            "conflicting options: hostname and the network mode",
        );
        check(
            json!({"Image": "a", "Hostname": "x"}),
            json!({"UTSMode": "host"}),
            "conflicting options: hostname and the UTS mode",
        );
        host(
            json!({"NetworkMode": "container:y", "PublishAllPorts": true}),
            "conflicting options: port publishing and the container type network mode",
        );
        host(
            json!({"NetworkMode": "host", "Links": ["a"]}),
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
}
