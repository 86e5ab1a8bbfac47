//! dockerd's options: one table for flags and for the keys of `daemon.json`.
//!
//! A flag and a key of the same meaning at once are an error, unknown keys too, as with dockerd. Options of Docker's that change
//! nothing here (they are about containerd, say) are taken and ignored; those that would change something that isn't there are
//! refused unless they ask for what is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::runtimes;
use super::settings::Settings;
use super::values::{
    absolute, address_pools, at_least_one, boolean, list, map, one, only, parse, percent, plain_tcp, proxies, proxy,
    size, text, ulimits, watermarks,
};

/// Where the settings file is, unless a flag says otherwise.
const CONFIG_FILE: &str = "/etc/corten/daemon.json";

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// Run with these settings.
    Run(Box<Settings>),
    /// Only print this.
    Print(String),
}

/// What an option's values look like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    Text,
    /// A JSON list; a flag that may be repeated.
    List,
    /// A JSON object; a repeated `key=value` flag.
    Map,
}

type Apply = fn(&mut Settings, &[String]) -> Result<(), String>;

struct Opt {
    flag: &'static str,
    short: Option<char>,
    /// The key in the file; empty where there is none.
    key: &'static str,
    kind: Kind,
    help: &'static str,
    apply: Apply,
}

const fn option(flag: &'static str, key: &'static str, kind: Kind, help: &'static str, apply: Apply) -> Opt {
    Opt { flag, short: None, key, kind, help, apply }
}

const fn short(letter: char, option: Opt) -> Opt {
    Opt { short: Some(letter), ..option }
}

/// Taken and ignored: nothing here depends on it.
const fn ignored(flag: &'static str, key: &'static str, kind: Kind) -> Opt {
    option(flag, key, kind, "", |_, _| Ok(()))
}

/// Refused but for the value that is true anyway.
const fn absent(flag: &'static str, key: &'static str, kind: Kind) -> Opt {
    option(flag, key, kind, "", |_, values| match values.iter().all(|value| matches!(value.as_str(), "" | "false")) {
        true => Ok(()),
        false => Err("is not implemented".into()),
    })
}

static OPTIONS: &[Opt] = &[
    option("add-runtime", "runtimes", Kind::Map, "Register an OCI runtime: name=path", runtimes::add),
    option("bip", "bip", Kind::Text, "IPv4 address for the default bridge", |s, v| {
        parse(one(v)).map(|net| s.engine.network.bip = Some(net))
    }),
    short(
        'b',
        option(
            "bridge",
            "bridge",
            Kind::Text,
            "Device of the default bridge network; none: without that network",
            |s, v| {
                s.engine.network.bridge = (one(v) != "none").then(|| one(v).into());
                Ok(())
            },
        ),
    ),
    option("cgroup-parent", "cgroup-parent", Kind::Text, "Parent cgroup for all containers", |s, v| {
        text(&mut s.engine.cgroup_parent, v)
    }),
    option("config-file", "", Kind::Text, "Daemon configuration file (default \"/etc/corten/daemon.json\")", |_, _| {
        Ok(())
    }),
    option(
        "data-root",
        "data-root",
        Kind::Text,
        "Root directory of persistent state (default \"/var/lib/corten\")",
        |s, v| {
            s.engine.data_root = absolute(one(v))?;
            Ok(())
        },
    ),
    short('D', option("debug", "debug", Kind::Bool, "Enable debug mode", |s, v| boolean(&mut s.engine.debug, v))),
    option(
        "default-address-pool",
        "default-address-pools",
        Kind::List,
        "Default address pools for networks",
        address_pools,
    ),
    option("default-gateway", "default-gateway", Kind::Text, "Gateway for the default bridge network", |s, v| {
        parse(one(v)).map(|address| s.engine.network.default_gateway = Some(address))
    }),
    option(
        "default-runtime",
        "default-runtime",
        Kind::Text,
        "Runtime of containers that name none (default \"corten\")",
        |s, v| text(&mut s.engine.runtimes.default, v),
    ),
    option(
        "default-shm-size",
        "default-shm-size",
        Kind::Text,
        "Default shm size for containers (default 64MiB)",
        |s, v| {
            s.engine.default_shm_size = size(one(v))?;
            Ok(())
        },
    ),
    option("default-ulimit", "default-ulimits", Kind::Map, "Default ulimits for containers", ulimits),
    option(
        "docker-socket",
        "docker-socket",
        Kind::Bool,
        "Listen on /run/docker.sock too where nobody does (default true)",
        |s, v| boolean(&mut s.docker_socket, v),
    ),
    option(
        "exec-root",
        "exec-root",
        Kind::Text,
        "Root directory for execution state files (default \"/run/corten\")",
        |s, v| {
            s.engine.exec_root = absolute(one(v))?;
            Ok(())
        },
    ),
    option("fixed-cidr", "fixed-cidr", Kind::Text, "IPv4 subnet for containers on the default bridge", |s, v| {
        parse(one(v)).map(|net| s.engine.network.fixed_cidr = Some(net))
    }),
    short(
        'G',
        option("group", "group", Kind::Text, "Group for the unix socket (default \"docker\")", |s, v| {
            text(&mut s.group, v)
        }),
    ),
    short('H', option("host", "hosts", Kind::List, "Daemon socket(s) to listen on", |s, v| list(&mut s.hosts, v))),
    option("http-proxy", "", Kind::Text, "Proxy for HTTP requests to registries", |s, v| {
        proxy(&mut s.engine.proxies.http, v)
    }),
    option("https-proxy", "", Kind::Text, "Proxy for HTTPS requests to registries", |s, v| {
        proxy(&mut s.engine.proxies.https, v)
    }),
    option(
        "icc",
        "icc",
        Kind::Bool,
        "Let containers on the default bridge talk to each other (default true)",
        |s, v| boolean(&mut s.engine.network.inter_container, v),
    ),
    option("init", "init", Kind::Bool, "Run an init in containers", |s, v| boolean(&mut s.engine.init, v)),
    option("init-path", "init-path", Kind::Text, "Path to the init program", |s, v| {
        s.engine.init_path = Some(absolute(one(v))?);
        Ok(())
    }),
    option(
        "insecure-registry",
        "insecure-registries",
        Kind::List,
        "Registries to speak to without verified TLS",
        |s, v| list(&mut s.engine.insecure_registries, v),
    ),
    option("ip", "ip", Kind::Text, "Host IP for published ports (default 0.0.0.0)", |s, v| {
        parse(one(v)).map(|address| s.engine.network.default_bind_ip = address)
    }),
    option("ip-forward", "ip-forward", Kind::Bool, "Enable IP forwarding (default true)", |s, v| {
        boolean(&mut s.engine.network.ip_forward, v)
    }),
    option(
        "ip-forward-no-drop",
        "ip-forward-no-drop",
        Kind::Bool,
        "Do not drop other forwarded packets when enabling it",
        |s, v| boolean(&mut s.engine.network.ip_forward_no_drop, v),
    ),
    option("ip-masq", "ip-masq", Kind::Bool, "Masquerade the default bridge network (default true)", |s, v| {
        boolean(&mut s.engine.network.masquerade, v)
    }),
    option("iptables", "iptables", Kind::Bool, "Make packet filter rules (default true)", |s, v| {
        boolean(&mut s.engine.network.firewall, v)
    }),
    option("label", "labels", Kind::List, "Set key=value labels to the daemon", |s, v| list(&mut s.engine.labels, v)),
    option("live-restore", "live-restore", Kind::Bool, "Let containers run on when the daemon ends", |s, v| {
        boolean(&mut s.engine.live_restore, v)
    }),
    option(
        "log-driver",
        "log-driver",
        Kind::Text,
        "Default driver for container logs (default \"json-file\")",
        |s, v| match one(v) {
            "json-file" | "none" | "local" => text(&mut s.engine.log_driver, v),
            _ => Err("is not a log driver that is there: json-file, local, none".into()),
        },
    ),
    short(
        'l',
        option("log-level", "log-level", Kind::Text, "Set the logging level (default \"info\")", |s, v| match one(v) {
            "trace" | "debug" | "info" | "warn" | "error" | "fatal" => text(&mut s.log_level, v),
            other => Err(format!("not a valid logging level: {other}")),
        }),
    ),
    option("log-opt", "log-opts", Kind::Map, "Default log driver options for containers", |s, v| {
        s.engine.log_options = map(v)?;
        Ok(())
    }),
    option(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Kind::Text,
        "Layers that are downloaded at once, for all pulls together (default 3)",
        |s, v| at_least_one(v, "max concurrent downloads").map(|n| s.engine.registry_limits.downloads = n as usize),
    ),
    option(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Kind::Text,
        "Layers that are uploaded at once, for all pushes together (default 5)",
        |s, v| at_least_one(v, "max concurrent uploads").map(|n| s.engine.registry_limits.uploads = n as usize),
    ),
    option(
        "max-download-attempts",
        "max-download-attempts",
        Kind::Text,
        "How often a request to a registry is tried (default 5)",
        |s, v| at_least_one(v, "max download attempts").map(|n| s.engine.registry_limits.attempts = n),
    ),
    option(
        "image-gc-high",
        "image-gc-high",
        Kind::Text,
        "Percent of the disk in use at which unused images are removed (default: never)",
        |s, v| percent(one(v)).map(|percent| watermarks(s).high = percent),
    ),
    option(
        "image-gc-low",
        "image-gc-low",
        Kind::Text,
        "Percent of the disk in use below which no more images are removed (default 80)",
        |s, v| percent(one(v)).map(|percent| watermarks(s).low = percent),
    ),
    option(
        "image-gc-min-age",
        "image-gc-min-age",
        Kind::Text,
        "Seconds that an image is left alone after it got a name (default 120)",
        |s, v| parse(one(v)).map(|seconds| watermarks(s).least_age = Duration::from_secs(seconds)),
    ),
    option(
        "max-layer-size",
        "max-layer-size",
        Kind::Text,
        "How large one unpacked layer may be (default: what the disk has)",
        |s, v| size(one(v)).map(|bytes| s.engine.largest_layer = u64::try_from(bytes).ok()),
    ),
    option("mtu", "mtu", Kind::Text, "MTU of the default bridge network (default 1500)", |s, v| {
        parse(one(v)).map(|mtu| s.engine.network.mtu = mtu)
    }),
    option("no-new-privileges", "no-new-privileges", Kind::Bool, "Set no-new-privileges by default", |s, v| {
        boolean(&mut s.engine.no_new_privileges, v)
    }),
    option("no-proxy", "", Kind::Text, "Hosts and networks to reach without a proxy, separated by commas", |s, v| {
        proxy(&mut s.engine.proxies.exceptions, v)
    }),
    short(
        'p',
        option(
            "pidfile",
            "pidfile",
            Kind::Text,
            "File for the daemon's PID (default \"/run/corten/corten.pid\")",
            |s, v| text(&mut s.pidfile, v),
        ),
    ),
    option(
        "pool-size",
        "pool-size",
        Kind::Text,
        "Warm supervisors kept ready, up to three times as many in a rush (default 3)",
        |s, v| parse(one(v)).map(|size| s.engine.pool_size = size),
    ),
    option("raw-logs", "raw-logs", Kind::Bool, "Log without colours", |s, v| boolean(&mut s.raw_logs, v)),
    option("", "proxies", Kind::Map, "", proxies),
    option(
        "registries-dir",
        "registries-dir",
        Kind::List,
        "Folders with certificates and hosts.toml per registry (default /etc/corten/certs.d, /etc/docker/certs.d)",
        |s, v| {
            s.engine.registry_directories = v.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
            Ok(())
        },
    ),
    option("registry-mirror", "registry-mirrors", Kind::List, "Preferred registry mirror", |s, v| {
        list(&mut s.engine.registry_mirrors, v)
    }),
    option(
        "shutdown-timeout",
        "shutdown-timeout",
        Kind::Text,
        "Seconds for containers to stop with the daemon (default 15)",
        |s, v| parse(one(v)).map(|seconds| s.engine.shutdown_timeout = Duration::from_secs(seconds)),
    ),
    option("tls", "tls", Kind::Bool, "--tls=false allows TCP without TLS on any address", plain_tcp),
    option("tlsverify", "tlsverify", Kind::Bool, "Not there yet; false as --tls=false", plain_tcp),
    option("background", "", Kind::Bool, "Leave the session of whoever started it", |s, v| {
        boolean(&mut s.background, v)
    }),
    option("validate", "", Kind::Bool, "Validate the configuration and exit", |s, v| boolean(&mut s.validate, v)),
    option("storage-driver", "storage-driver", Kind::Text, "", |_, v| only(v, &["", "overlay2", "overlayfs"])),
    option("exec-opt", "exec-opts", Kind::List, "", |_, v| only(v, &["native.cgroupdriver=cgroupfs"])),
    option("seccomp-profile", "seccomp-profile", Kind::Text, "", |_, v| only(v, &["", "builtin"])),
    option("default-ipc-mode", "default-ipc-mode", Kind::Text, "", |_, v| only(v, &["private"])),
    option("log-format", "log-format", Kind::Text, "", |_, v| only(v, &["text"])),
    absent("ipv6", "ipv6", Kind::Bool),
    absent("fixed-cidr-v6", "fixed-cidr-v6", Kind::Text),
    absent("bip6", "bip6", Kind::Text),
    absent("default-gateway-v6", "default-gateway-v6", Kind::Text),
    absent("rootless", "", Kind::Bool),
    absent("selinux-enabled", "selinux-enabled", Kind::Bool),
    absent("userns-remap", "userns-remap", Kind::Text),
    absent("authorization-plugin", "authorization-plugins", Kind::List),
    absent("metrics-addr", "metrics-addr", Kind::Text),
    absent("default-network-opt", "default-network-opts", Kind::Map),
    absent("dns", "dns", Kind::List),
    absent("dns-opt", "dns-opts", Kind::List),
    absent("dns-search", "dns-search", Kind::List),
    absent("tlscacert", "tlscacert", Kind::Text),
    absent("tlscert", "tlscert", Kind::Text),
    absent("tlskey", "tlskey", Kind::Text),
    absent("cri-containerd", "", Kind::Bool),
    absent("default-cgroupns-mode", "default-cgroupns-mode", Kind::Text),
    absent("host-gateway-ip", "host-gateway-ips", Kind::List),
    absent("cpu-rt-period", "cpu-rt-period", Kind::Text),
    absent("cpu-rt-runtime", "cpu-rt-runtime", Kind::Text),
    absent("allow-direct-routing", "allow-direct-routing", Kind::Bool),
    ignored("cdi-spec-dir", "cdi-spec-dirs", Kind::List),
    ignored("containerd", "containerd", Kind::Text),
    ignored("containerd-namespace", "containerd-namespace", Kind::Text),
    ignored("containerd-plugins-namespace", "containerd-plugin-namespace", Kind::Text),
    ignored("experimental", "experimental", Kind::Bool),
    ignored("feature", "features", Kind::Map),
    ignored("", "builder", Kind::Map),
    ignored("ip6tables", "ip6tables", Kind::Bool),
    ignored("network-control-plane-mtu", "network-control-plane-mtu", Kind::Text),
    ignored("node-generic-resource", "node-generic-resources", Kind::List),
    ignored("storage-opt", "storage-opts", Kind::List),
    ignored("swarm-default-advertise-addr", "swarm-default-advertise-addr", Kind::Text),
    ignored("userland-proxy", "userland-proxy", Kind::Bool),
    ignored("userland-proxy-path", "userland-proxy-path", Kind::Text),
];

/// Values as given, by the option's place in the table.
type Given = BTreeMap<usize, Vec<String>>;

/// Reads the command line and the file it names.
pub(super) fn read(arguments: &[String]) -> Result<Action, String> {
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h")) {
        return Ok(Action::Print(help()));
    }
    if arguments.iter().any(|argument| matches!(argument.as_str(), "--version" | "-v")) {
        return Ok(Action::Print(format!("Corten version {}", env!("CARGO_PKG_VERSION"))));
    }
    let flags = flags(arguments)?;
    let file_flag = index("config-file").and_then(|index| flags.get(&index));
    let path = file_flag.map_or(CONFIG_FILE, |values| one(values));
    let file = match std::fs::read_to_string(path) {
        Ok(text) => {
            file(&text).map_err(|error| format!("unable to configure the Docker daemon with file {path}: {error}"))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file_flag.is_none() => Given::new(),
        Err(error) => return Err(format!("unable to configure the Docker daemon with file {path}: {error}")),
    };
    let settings = combine(&flags, &file).map_err(|error| match file.is_empty() {
        true => error,
        false => format!("unable to configure the Docker daemon with file {path}: {error}"),
    })?;
    match settings.validate {
        true => Ok(Action::Print("configuration OK".into())),
        false => Ok(Action::Run(Box::new(settings))),
    }
}

fn index(flag: &str) -> Option<usize> {
    OPTIONS.iter().position(|option| option.flag == flag)
}

/// Values of the flags on the command line.
fn flags(arguments: &[String]) -> Result<Given, String> {
    let mut given = Given::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (place, rest) = find(word)?;
        let value = match rest {
            Some(value) => value,
            None if OPTIONS[place].kind == Kind::Bool => "true".into(),
            None => words.next().cloned().ok_or_else(|| format!("flag needs an argument: {word}"))?,
        };
        given.entry(place).or_default().push(value);
    }
    Ok(given)
}

/// The option of a word and the value that is in the same word.
fn find(word: &str) -> Result<(usize, Option<String>), String> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_string())));
        let place = index(name).filter(|_| !name.is_empty()).ok_or_else(|| format!("unknown flag: --{name}"))?;
        return Ok((place, value));
    }
    let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
    let letter = letters.next().ok_or_else(|| format!("\"corten daemon\" accepts no arguments: {word:?}"))?;
    let place = OPTIONS.iter().position(|option| option.short == Some(letter));
    let place = place.ok_or_else(|| format!("unknown shorthand flag: '{letter}' in {word}"))?;
    let rest = letters.as_str().strip_prefix('=').unwrap_or(letters.as_str());
    Ok((place, (!rest.is_empty()).then(|| rest.into())))
}

/// Values of the keys in the file.
fn file(text: &str) -> Result<Given, String> {
    if text.trim().is_empty() {
        return Ok(Given::new());
    }
    let document: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let place = |key: &str| OPTIONS.iter().position(|option| option.key == key && !key.is_empty());
    let unknown: Vec<&str> = document.keys().map(String::as_str).filter(|key| place(key).is_none()).collect();
    if !unknown.is_empty() {
        return Err(format!("the following directives don't match any configuration option: {}", unknown.join(", ")));
    }
    let mut given = Given::new();
    for (key, value) in &document {
        if let Some(place) = place(key) {
            given.insert(
                place,
                values(OPTIONS[place].kind, value).ok_or_else(|| format!("{key}: the value has the wrong type"))?,
            );
        }
    }
    Ok(given)
}

/// A key's value as a flag would write it.
fn values(kind: Kind, value: &Value) -> Option<Vec<String>> {
    match (kind, value) {
        (Kind::Bool, Value::Bool(value)) => Some(vec![value.to_string()]),
        (Kind::Text, Value::String(text)) => Some(vec![text.clone()]),
        (Kind::Text, Value::Number(number)) => Some(vec![number.to_string()]),
        (Kind::List, Value::Array(items)) => items.iter().map(item).collect(),
        (Kind::Map, Value::Object(entries)) => {
            entries.iter().map(|(key, value)| Some(format!("{key}={}", entry(value)?))).collect()
        }
        _ => None,
    }
}

fn item(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(parts) => {
            let part = |(key, value): (&String, &Value)| Some(format!("{key}={}", entry(value)?));
            Some(parts.iter().map(part).collect::<Option<Vec<String>>>()?.join(","))
        }
        _ => None,
    }
}

/// A value inside an object; a ulimit is one with `Soft` and `Hard`.
fn entry(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Object(limits) => {
            let number =
                |key: &str| limits.get(key).or_else(|| limits.get(&key.to_lowercase())).and_then(Value::as_i64);
            match (number("Soft"), number("Hard")) {
                (Some(soft), Some(hard)) => Some(format!("{soft}:{hard}")),
                _ => Some(value.to_string()),
            }
        }
        _ => None,
    }
}

/// Applies the file's values and the flags', which must not speak of the same.
fn combine(flags: &Given, file: &Given) -> Result<Settings, String> {
    let both = file.iter().filter_map(|(place, in_file)| {
        let flag = flags.get(place)?;
        Some(format!("{}: (from flag: {}, from file: {})", OPTIONS[*place].key, flag.join(","), in_file.join(",")))
    });
    let both: Vec<String> = both.collect();
    if !both.is_empty() {
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            both.join(", ")
        ));
    }
    let mut settings = Settings::default();
    for (place, values) in file.iter().chain(flags) {
        let option = &OPTIONS[*place];
        let name = if option.flag.is_empty() { option.key.into() } else { format!("--{}", option.flag) };
        (option.apply)(&mut settings, values).map_err(|error| format!("{name}: {error}"))?;
    }
    settings.engine.runtimes.check()?;
    Ok(settings)
}

fn help() -> String {
    let mut text = String::from("\nUsage:\tcorten daemon [OPTIONS]\n\nRuns the container engine.\n\nOptions:\n");
    for option in OPTIONS.iter().filter(|option| !option.help.is_empty()) {
        let letter = option.short.map_or("    ".into(), |letter| format!("-{letter}, "));
        let name = match option.kind {
            Kind::Bool => option.flag.into(),
            Kind::Text => format!("{} string", option.flag),
            Kind::List => format!("{} list", option.flag),
            Kind::Map => format!("{} map", option.flag),
        };
        text.push_str(&format!("  {letter}--{name:<30} {}\n", option.help));
    }
    text
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
