//! `corten info`

use std::fmt::Write as _;

use corten_api_types::SystemInfo;
use corten_base::units::bytes_size;

use crate::args::report;
use crate::command::{Arguments, Command, value};
use crate::commands::OBJECT_FORMAT;
use crate::failure::{Failure, Outcome};
use crate::json::Json;
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::{Sink, write_plain};
use crate::template::Format;

pub(crate) static COMMAND: Command = Command {
    spellings: &["system info", "info"],
    usage: "[OPTIONS]",
    about: "Show what the daemon is, has and can do",
    flags: &[&[value("format", "string", OBJECT_FORMAT).short('f')]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let context = session.endpoint()?.context;
    let answer = session.client().and_then(|client| Ok(client.get("/info").send()?.bytes()?));
    if let Some(source) = matches.get("format").filter(|source| !source.is_empty()) {
        return templated(source, &context, &answer?);
    }
    let mut text = format!(
        "Client: Corten\n Version:    {}\n Context:    {context}\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    );
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(failure) => {
            write_plain(Sink::Stdout, text.as_bytes())?;
            return Err(failure);
        }
    };
    let info: SystemInfo = corten_api_types::decode(&bytes)
        .map_err(|error| Failure::message(format!("cannot decode the daemon's answer: {error}")))?;
    text.push_str(&server(&info));
    write_plain(Sink::Stdout, text.as_bytes())?;
    info.warnings.iter().flatten().for_each(|warning| report(warning));
    Ok(())
}

fn templated(source: &str, context: &str, bytes: &[u8]) -> Outcome {
    let source = if source == "json" { "{{json .}}" } else { source };
    let format = Format::parse(source)
        .map_err(|error| Failure::Message { text: format!("template parsing error: {error}"), status: 64 })?;
    let decoded: Result<Json, _> = serde_json::from_slice(bytes);
    let mut info = decoded.map_err(|error| Failure::message(format!("cannot decode the daemon's answer: {error}")))?;
    let client = Json::Object(vec![
        ("Debug".to_owned(), Json::Bool(false)),
        ("Version".to_owned(), Json::String(env!("CARGO_PKG_VERSION").to_owned())),
        ("Context".to_owned(), Json::String(context.to_owned())),
        ("Plugins".to_owned(), Json::Array(Vec::new())),
        ("Warnings".to_owned(), Json::Null),
    ]);
    if let Json::Object(members) = &mut info {
        members.push(("ClientInfo".to_owned(), client));
    }
    let text = format.render(&format.data(&info)).map_err(Failure::message)?;
    write_plain(Sink::Stdout, format!("{text}\n").as_bytes())
}

/// Lines of `name: value`, some of them only when there is a value.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, " {name}: {value}");
    }

    fn add_if(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add(name, value);
        }
    }

    fn title(&mut self, name: &str) {
        let _ = writeln!(self.0, " {name}:");
    }

    fn item(&mut self, item: impl std::fmt::Display) {
        let _ = writeln!(self.0, "  {item}");
    }
}

fn server(info: &SystemInfo) -> String {
    let mut lines = Lines(String::new());
    lines.add("Containers", info.containers);
    lines.item(format_args!("Running: {}", info.containers_running));
    lines.item(format_args!("Paused: {}", info.containers_paused));
    lines.item(format_args!("Stopped: {}", info.containers_stopped));
    lines.add("Images", info.images);
    lines.add_if("Server Version", &info.server_version);
    lines.add("Storage Driver", &info.driver);
    info.driver_status.iter().for_each(|[name, value]| lines.item(format_args!("{name}: {value}")));
    lines.add_if("Logging Driver", &info.logging_driver);
    lines.add_if("Cgroup Driver", &info.cgroup_driver);
    lines.add_if("Cgroup Version", &info.cgroup_version);
    lines.title("Plugins");
    lines.item(format_args!("Volume: {}", info.plugins.volume.join(" ")));
    lines.item(format_args!("Network: {}", info.plugins.network.join(" ")));
    if let Some(authorization) = info.plugins.authorization.as_ref().filter(|plugins| !plugins.is_empty()) {
        lines.item(format_args!("Authorization: {}", authorization.join(" ")));
    }
    lines.item(format_args!("Log: {}", info.plugins.log.join(" ")));
    if !info.cdi_spec_dirs.is_empty() {
        lines.title("CDI spec directories");
        info.cdi_spec_dirs.iter().for_each(|directory| lines.item(directory));
    }
    lines.add("Swarm", &info.swarm.local_node_state);
    if !info.runtimes.is_empty() {
        lines.add("Runtimes", info.runtimes.keys().map(String::as_str).collect::<Vec<_>>().join(" "));
        lines.add("Default Runtime", &info.default_runtime);
    }
    host(info, &mut lines);
    lines.0
}

/// What the daemon says of the machine and of its own settings.
fn host(info: &SystemInfo, lines: &mut Lines) {
    lines.add("Init Binary", &info.init_binary);
    lines.add("containerd version", &info.containerd_commit.id);
    lines.add("runc version", &info.runc_commit.id);
    lines.add("init version", &info.init_commit.id);
    if !info.security_options.is_empty() {
        lines.title("Security Options");
        info.security_options.iter().for_each(|option| security_option(option, lines));
    }
    lines.add_if("Kernel Version", &info.kernel_version);
    lines.add_if("Operating System", &info.operating_system);
    lines.add_if("OSType", &info.os_type);
    lines.add_if("Architecture", &info.architecture);
    lines.add("CPUs", info.ncpu);
    lines.add("Total Memory", bytes_size(info.mem_total as f64));
    lines.add_if("Name", &info.name);
    lines.add_if("ID", &info.id);
    lines.add("Docker Root Dir", &info.docker_root_dir);
    lines.add("Debug Mode", info.debug);
    if info.debug {
        lines.item(format_args!("File Descriptors: {}", info.n_fd));
        lines.item(format_args!("Goroutines: {}", info.n_goroutines));
        lines.item(format_args!("System Time: {}", info.system_time));
        lines.item(format_args!("EventsListeners: {}", info.n_events_listener));
    }
    lines.add_if("HTTP Proxy", &info.http_proxy);
    lines.add_if("HTTPS Proxy", &info.https_proxy);
    lines.add_if("No Proxy", &info.no_proxy);
    if !info.labels.is_empty() {
        lines.title("Labels");
        info.labels.iter().for_each(|label| lines.item(label));
    }
    lines.add("Experimental", info.experimental_build);
    registries(info, lines);
    lines.add("Live Restore Enabled", info.live_restore_enabled);
    lines.add_if("Product License", &info.product_license);
    if !info.default_address_pools.is_empty() {
        lines.title("Default Address Pools");
        info.default_address_pools
            .iter()
            .for_each(|pool| lines.item(format_args!(" Base: {}, Size: {}", pool.base, pool.size)));
    }
    if let Some(firewall) = info.firewall_backend.as_ref().filter(|_| info.debug) {
        lines.add("Firewall Backend", &firewall.driver);
        firewall.info.iter().for_each(|[name, value]| lines.item(format_args!("{name}: {value}")));
    }
    let _ = writeln!(lines.0);
}

fn registries(info: &SystemInfo, lines: &mut Lines) {
    let registry = &info.registry_config;
    let insecure: Vec<&String> =
        registry.index_configs.values().filter(|index| !index.secure).map(|index| &index.name).collect();
    if !insecure.is_empty() || !registry.insecure_registry_cidrs.is_empty() {
        lines.title("Insecure Registries");
        insecure.iter().for_each(|name| lines.item(name));
        registry.insecure_registry_cidrs.iter().for_each(|range| lines.item(range));
    }
    if let Some(mirrors) = registry.mirrors.as_ref().filter(|mirrors| !mirrors.is_empty()) {
        lines.title("Registry Mirrors");
        mirrors.iter().for_each(|mirror| lines.item(mirror));
    }
}

/// `name=seccomp,profile=builtin` is shown as a title and its settings.
fn security_option(option: &str, lines: &mut Lines) {
    for field in option.split(',') {
        match field.split_once('=') {
            Some(("name", name)) => lines.item(name),
            Some((key, value)) => {
                let mut letters = key.chars();
                let key: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
                lines.item(format_args!(" {key}: {value}"));
            }
            None => lines.item(field),
        }
    }
}
