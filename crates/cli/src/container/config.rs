//! The body of the create request: what Docker's client sends for the same flags, field by field.

use std::collections::BTreeMap;

use corten_api_types::RestartPolicy;
use corten_base::units;
use corten_client::Proxy;
use serde_json::{Map, Value, json};

use super::checks::{parse_cpus, parse_ulimit, split_extra_host};
use super::devices::{self, Devices};
use super::mounts::{self, list_or_null};
use super::networks::Networks;
use super::ports::Ports;
use super::{env, health};
use crate::failure::{Failure, Outcome, plain_io};
use crate::matches::{Matches, quote};

/// What `POST /containers/create` needs, and what the caller must know of it.
#[derive(Debug)]
pub(crate) struct CreateRequest {
    pub body: Value,
    pub image: String,
    pub name: String,
    pub platform: String,
    pub streams: Streams,
}

/// The standard streams to attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Builds the request from the flags, the arguments, and the proxy settings of the configuration file.
pub(crate) fn build(matches: &Matches, proxy: Option<&Proxy>) -> Outcome<CreateRequest> {
    let image = matches.arguments[0].clone();
    let streams = attached_streams(matches);
    let ports = Ports::parse(matches.all("publish"), matches.all("expose")).map_err(Failure::message)?;
    let volumes = mounts::parse_volumes(matches.all("volume")).map_err(Failure::message)?;
    let networks = Networks::parse(matches).map_err(Failure::message)?;
    let mut body = config(matches, &ports, volumes.anonymous, streams, proxy)?;
    body.insert("HostConfig".to_owned(), Value::Object(host_config(matches, &ports, volumes.binds, &networks.mode)?));
    body.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": networks.endpoints }));
    Ok(CreateRequest {
        body: Value::Object(body),
        image,
        name: matches.text("name").to_owned(),
        platform: matches.text("platform").to_owned(),
        streams,
    })
}

/// Without `-a`, output is attached, and input with `-i`; in the background nothing is.
fn attached_streams(matches: &Matches) -> Streams {
    let has = |name: &str| matches.all("attach").any(|stream| stream.eq_ignore_ascii_case(name));
    let mut streams = Streams { stdin: has("stdin"), stdout: has("stdout"), stderr: has("stderr") };
    if !matches.is_set("attach") {
        let foreground = !matches.is_on("detach");
        streams = Streams { stdin: foreground && matches.is_on("interactive"), stdout: foreground, stderr: foreground };
    }
    streams
}

fn config(
    matches: &Matches,
    ports: &Ports,
    anonymous: Map<String, Value>,
    streams: Streams,
    proxy: Option<&Proxy>,
) -> Outcome<Map<String, Value>> {
    let mut variables = env::environment(matches.all("env-file"), matches.all("env"))?;
    add_proxy(&mut variables, proxy);
    let open_stdin = matches.is_on("interactive");
    let command = list_or_null(matches.arguments[1..].to_vec());
    let entrypoint = match matches.get("entrypoint") {
        // An empty entrypoint is the image's own taken away.
        Some(program) => json!([program]),
        None => Value::Null,
    };
    let mut config = Map::new();
    let mut put = |name: &str, value: Value| config.insert(name.to_owned(), value);
    put("Hostname", matches.text("hostname").into());
    put("Domainname", matches.text("domainname").into());
    put("User", matches.text("user").into());
    put("AttachStdin", streams.stdin.into());
    put("AttachStdout", streams.stdout.into());
    put("AttachStderr", streams.stderr.into());
    if let Some(exposed) = ports.exposed_json() {
        put("ExposedPorts", exposed);
    }
    put("Tty", matches.is_on("tty").into());
    put("OpenStdin", open_stdin.into());
    put("StdinOnce", (open_stdin && streams.stdin).into());
    put("Env", list_or_null(variables));
    put("Cmd", command);
    if let Some(health) = health::parse(matches).map_err(Failure::message)? {
        put("Healthcheck", health);
    }
    put("Image", matches.arguments[0].clone().into());
    put("Volumes", anonymous.into());
    put("WorkingDir", matches.text("workdir").into());
    put("Entrypoint", entrypoint);
    put("OnBuild", Value::Null);
    put("Labels", env::labels(matches.all("label-file"), matches.all("label"))?.into());
    if let Some(signal) = matches.get("stop-signal").filter(|signal| !signal.is_empty()) {
        put("StopSignal", signal.into());
    }
    if matches.is_set("stop-timeout") {
        put("StopTimeout", matches.number("stop-timeout").into());
    }
    Ok(config)
}

/// Adds the proxy variables that the user has not set, in both spellings.
fn add_proxy(variables: &mut Vec<String>, proxy: Option<&Proxy>) {
    let Some(proxy) = proxy else { return };
    let settings = [
        ("HTTP_PROXY", &proxy.http_proxy),
        ("HTTPS_PROXY", &proxy.https_proxy),
        ("NO_PROXY", &proxy.no_proxy),
        ("FTP_PROXY", &proxy.ftp_proxy),
        ("ALL_PROXY", &proxy.all_proxy),
    ];
    for (name, value) in settings.iter().filter(|(_, value)| !value.is_empty()) {
        for name in [name.to_string(), name.to_ascii_lowercase()] {
            if !variables.iter().any(|variable| variable.split('=').next() == Some(&name)) {
                variables.push(format!("{name}={value}"));
            }
        }
    }
}

fn host_config(
    matches: &Matches,
    ports: &Ports,
    binds: Vec<String>,
    network_mode: &str,
) -> Outcome<Map<String, Value>> {
    let text = |name: &str| Value::from(matches.text(name));
    let on = |name: &str| Value::from(matches.is_on(name));
    let number = |name: &str| Value::from(matches.number(name));
    let list = |name: &str| list_or_null(matches.list(name));
    let or_empty = |name: &str| Value::from(matches.list(name));
    let size = |name: &str| Value::from(parse_size(matches.text(name)));
    let check = |result: Result<Value, String>| result.map_err(Failure::message);
    let rates = |name: &str, parse: fn(&str) -> Result<Value, String>| {
        matches.all(name).map(parse).collect::<Result<Vec<_>, _>>().map(Value::from).map_err(Failure::message)
    };
    let (security, masked, readonly) = security_options(matches)?;
    let devices = Devices::parse(&matches.list("gpus"), &matches.list("device")).map_err(Failure::message)?;
    let mut host = Map::new();
    let mut put = |name: &str, value: Value| host.insert(name.to_owned(), value);
    put("Binds", list_or_null(binds));
    put("ContainerIDFile", text("cidfile"));
    put("LogConfig", check(log_config(matches))?);
    put("NetworkMode", network_mode.into());
    put("PortBindings", ports.bindings_json());
    let policy = parse_restart_policy(matches.get("restart").unwrap_or("no")).map_err(Failure::message)?;
    put("RestartPolicy", json!(policy));
    put("AutoRemove", on("rm"));
    put("VolumeDriver", text("volume-driver"));
    put("VolumesFrom", list("volumes-from"));
    put("ConsoleSize", json!([0, 0]));
    if matches.is_set("annotation") {
        put("Annotations", env::key_values(matches.all("annotation")).into());
    }
    put("CapAdd", capabilities(matches.list("cap-add")));
    put("CapDrop", capabilities(matches.list("cap-drop")));
    put("CgroupnsMode", check(mode(matches, "cgroupns", &["host", "private"], "CGROUP"))?);
    put("Dns", or_empty("dns"));
    put("DnsOptions", or_empty("dns-option"));
    put("DnsSearch", or_empty("dns-search"));
    put("ExtraHosts", extra_hosts(matches));
    put("GroupAdd", list("group-add"));
    put("IpcMode", text("ipc"));
    put("Cgroup", "".into());
    put("Links", list("link"));
    put("OomScoreAdj", number("oom-score-adj"));
    put("PidMode", check(mode(matches, "pid", &["host"], "PID"))?);
    put("Privileged", on("privileged"));
    put("PublishAllPorts", on("publish-all"));
    put("ReadonlyRootfs", on("read-only"));
    put("SecurityOpt", security);
    if matches.is_set("storage-opt") {
        put("StorageOpt", check(mounts::storage_options(&matches.list("storage-opt")).map(Value::from))?);
    }
    if matches.is_set("tmpfs") {
        put("Tmpfs", mounts::parse_tmpfs(matches.all("tmpfs")).into());
    }
    put("UTSMode", check(mode(matches, "uts", &["host"], "UTS"))?);
    put("UsernsMode", check(mode(matches, "userns", &["host"], "USER"))?);
    put("ShmSize", size("shm-size"));
    if matches.is_set("sysctl") {
        put("Sysctls", env::key_values(matches.all("sysctl")).into());
    }
    if matches.is_set("runtime") {
        put("Runtime", text("runtime"));
    }
    put("Isolation", text("isolation"));
    put("CpuShares", number("cpu-shares"));
    put("Memory", size("memory"));
    put("NanoCpus", parse_cpus(matches.text("cpus")).unwrap_or_default().into());
    put("CgroupParent", text("cgroup-parent"));
    put("BlkioWeight", number("blkio-weight"));
    put("BlkioWeightDevice", rates("blkio-weight-device", devices::parse_weight)?);
    put("BlkioDeviceReadBps", rates("device-read-bps", devices::parse_bytes_rate)?);
    put("BlkioDeviceWriteBps", rates("device-write-bps", devices::parse_bytes_rate)?);
    put("BlkioDeviceReadIOps", rates("device-read-iops", devices::parse_operations_rate)?);
    put("BlkioDeviceWriteIOps", rates("device-write-iops", devices::parse_operations_rate)?);
    put("CpuPeriod", number("cpu-period"));
    put("CpuQuota", number("cpu-quota"));
    put("CpuRealtimePeriod", number("cpu-rt-period"));
    put("CpuRealtimeRuntime", number("cpu-rt-runtime"));
    put("CpusetCpus", text("cpuset-cpus"));
    put("CpusetMems", text("cpuset-mems"));
    put("Devices", devices.nodes.into());
    put("DeviceCgroupRules", list("device-cgroup-rule"));
    put("DeviceRequests", if devices.requests.is_empty() { Value::Null } else { devices.requests.into() });
    put("MemoryReservation", size("memory-reservation"));
    put("MemorySwap", size("memory-swap"));
    put("MemorySwappiness", check(swappiness(matches))?);
    put("OomKillDisable", on("oom-kill-disable"));
    put("PidsLimit", number("pids-limit"));
    put("Ulimits", ulimits(matches));
    put("CpuCount", number("cpu-count"));
    put("CpuPercent", number("cpu-percent"));
    put("IOMaximumIOps", number("io-maxiops"));
    put("IOMaximumBandwidth", size("io-maxbandwidth"));
    if matches.is_set("mount") {
        let mounts: Result<Vec<Value>, String> = matches.all("mount").map(mounts::parse_mount).collect();
        put("Mounts", check(mounts.map(Value::from))?);
    }
    put("MaskedPaths", masked);
    put("ReadonlyPaths", readonly);
    if matches.is_set("init") {
        put("Init", on("init"));
    }
    Ok(host)
}

/// Bytes of a size that has passed its flag's check; -1 is itself.
pub(crate) fn parse_size(text: &str) -> i64 {
    if text == "-1" { -1 } else { units::parse_ram(text).unwrap_or_default() }
}

/// The flag's check has seen each limit; here the last of a name counts, and names are sorted.
fn ulimits(matches: &Matches) -> Value {
    let by_name: BTreeMap<String, Value> = matches
        .all("ulimit")
        .filter_map(|text| parse_ulimit(text).ok())
        .map(|(name, soft, hard)| (name.clone(), json!({ "Name": name, "Hard": hard, "Soft": soft })))
        .collect();
    by_name.into_values().collect()
}

fn swappiness(matches: &Matches) -> Result<Value, String> {
    let value = if matches.is_set("memory-swappiness") { matches.number("memory-swappiness") } else { -1 };
    match value {
        -1..=100 => Ok(value.into()),
        _ => Err(format!("invalid value: {value}. Valid memory swappiness range is 0-100")),
    }
}

/// Capabilities in the form the kernel's documentation uses.
fn capabilities(names: Vec<String>) -> Value {
    let mut normal: Vec<String> = names
        .iter()
        .map(|name| name.trim().to_ascii_uppercase())
        .map(|name| if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") })
        .collect();
    normal.sort();
    normal.dedup();
    list_or_null(normal)
}

fn extra_hosts(matches: &Matches) -> Value {
    let hosts = matches.all("add-host").filter_map(split_extra_host).map(|(name, address)| {
        let plain = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        format!("{name}:{plain}")
    });
    list_or_null(hosts.collect())
}

fn mode(matches: &Matches, flag: &str, words: &[&str], kind: &str) -> Result<Value, String> {
    let text = matches.text(flag);
    if text.is_empty()
        || words.contains(&text)
        || (flag == "pid" && text.strip_prefix("container:").is_some_and(|name| !name.is_empty()))
    {
        return Ok(text.into());
    }
    Err(format!("--{flag}: invalid {kind} mode"))
}

/// `name[:count]`; the daemon knows which names there are.
pub(crate) fn parse_restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, maximum_retry_count) = match text.split_once(':') {
        Some((name, count)) => {
            let count = count
                .parse()
                .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?;
            (name, count)
        }
        None => (text, 0),
    };
    if name.is_empty() && !text.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn log_config(matches: &Matches) -> Result<Value, String> {
    let driver = matches.text("log-driver");
    if driver == "none" && matches.is_set("log-opt") {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(json!({ "Type": driver, "Config": env::key_values(matches.all("log-opt")) }))
}

/// `SecurityOpt`, `MaskedPaths` and `ReadonlyPaths`; a seccomp profile's file is read and travels in the request.
fn security_options(matches: &Matches) -> Outcome<(Value, Value, Value)> {
    let mut options = Vec::new();
    let mut keep_system_paths = true;
    for option in matches.all("security-opt") {
        if option == "systempaths=unconfined" {
            keep_system_paths = false;
            continue;
        }
        options.push(security_option(option)?);
    }
    let paths = if keep_system_paths { Value::Null } else { json!([]) };
    let options = if matches.is_set("security-opt") { Value::from(options) } else { Value::Null };
    Ok((options, paths.clone(), paths))
}

fn security_option(option: &str) -> Outcome<String> {
    let Some((key, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
        return match option {
            "no-new-privileges" => Ok(option.to_owned()),
            _ => Err(Failure::message(format!("Invalid --security-opt: {}", quote(option)))),
        };
    };
    if key != "seccomp" || value == "unconfined" || value == "builtin" {
        return Ok(option.to_owned());
    }
    let profile = std::fs::read(value).map_err(|error| {
        Failure::message(format!("opening seccomp profile ({value}) failed: open {value}: {}", plain_io(&error)))
    })?;
    let compact: Value = serde_json::from_slice(&profile)
        .map_err(|error| Failure::message(format!("compacting json for seccomp profile ({value}) failed: {error}")))?;
    Ok(format!("seccomp={compact}"))
}
