//! A container's networks: which namespace it is in, and its endpoints.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use corten_base::{ContainerId, Namespace, SandboxId};
use corten_events::Kind;
use corten_network::{Attachment, EndpointRequest, PortMapping, Sandbox};

use crate::error::Error;
use crate::joined::Joined;
use crate::record::Record;
use crate::settings::{ContainerSpec, EndpointSettings, NetworkMode};
use crate::shared::Shared;
use crate::view::{BoundPort, EndpointView, NetworkView};

/// A Docker container has a sandbox of its own; its id is made from the container's, so that a later daemon knows it without a record.
pub(crate) fn sandbox_id(id: &ContainerId) -> SandboxId {
    SandboxId::parse(id.as_str()).expect("both ids are 64 hexadecimal digits")
}

/// Connects a container that is about to start. Blocks.
pub(crate) fn plug(
    shared: &Shared,
    record: &Record,
    netns: BorrowedFd<'_>,
    joined: &Joined,
) -> Result<NetworkView, Error> {
    let mut network = NetworkView { endpoints: wanted(&record.spec), ..Default::default() };
    if joined.network.is_some() {
        return Ok(network);
    }
    let mode = &record.spec.network_mode;
    if !matches!(mode, NetworkMode::Host) {
        network.sandbox_id = Some(sandbox_id(&record.id));
    }
    match mode {
        _ if record.spec.network_disabled => {}
        NetworkMode::Host | NetworkMode::None => fill_predefined(shared, record, &mut network),
        _ => attach(shared, record, netns, &mut network).map_err(|error| Error::Launch {
            message: format!("failed to set up container networking: {}", error.message()),
            exit_code: 128,
        })?,
    }
    Ok(network)
}

/// Takes a container off its networks. Blocks; harmless when it is on none.
pub(crate) fn unplug(shared: &Shared, id: &ContainerId, network: &NetworkView) {
    if network.sandbox_id.is_some() {
        crate::undo::log("a container's network stays behind", shared.networks.detach(&sandbox_id(id)));
    }
}

/// Takes a container whose start failed off its networks again, and tells of it. Blocks.
pub(crate) fn unplug_failed(shared: &Shared, namespace: &Namespace, id: &ContainerId, network: &NetworkView) {
    unplug(shared, id, network);
    tell(shared, namespace, id, network, "disconnect");
}

/// Tells the event log that an ended container has left its networks.
pub(crate) fn tell_left(shared: &Shared, record: &Record) {
    tell(shared, &record.namespace, &record.id, &record.network, "disconnect");
}

/// Tells the event log of each network that a container joined or left.
fn tell(shared: &Shared, namespace: &Namespace, id: &ContainerId, network: &NetworkView, action: &str) {
    for (name, endpoint) in &network.endpoints {
        let Some(network_id) = &endpoint.network_id else { continue };
        let driver = match name.as_str() {
            "none" => "null",
            "host" => "host",
            _ => "bridge",
        };
        let attributes = [("container", id.to_string()), ("name", name.clone()), ("type", driver.into())];
        shared.tell(namespace, Kind::Network, action, network_id.as_str(), attributes);
    }
}

/// The networks that a container is on by its settings, before it runs: without addresses.
pub(crate) fn wanted(spec: &ContainerSpec) -> std::collections::BTreeMap<String, EndpointView> {
    let view = |settings: &EndpointSettings| EndpointView {
        aliases: settings.aliases.clone(),
        mac_address: settings.mac_address.clone().unwrap_or_default(),
        ..Default::default()
    };
    let mut endpoints: std::collections::BTreeMap<String, EndpointView> = spec
        .endpoints
        .iter()
        .filter(|(name, _)| name.as_str() != "default")
        .map(|(name, settings)| (name.clone(), view(settings)))
        .collect();
    if !matches!(spec.network_mode, NetworkMode::Container(_)) {
        endpoints.entry(spec.network_mode.as_text()).or_default();
    }
    endpoints
}

/// `host` and `none` have nothing to attach, but are shown as networks.
fn fill_predefined(shared: &Shared, record: &Record, network: &mut NetworkView) {
    for (name, endpoint) in &mut network.endpoints {
        if let Ok(found) = shared.networks.inspect(name) {
            endpoint.network_id = Some(found.id);
            endpoint.endpoint_id = Some(corten_base::EndpointId::generate());
        }
    }
    tell(shared, &record.namespace, &record.id, network, "connect");
}

fn attach(shared: &Shared, record: &Record, netns: BorrowedFd<'_>, network: &mut NetworkView) -> Result<(), Error> {
    let sandbox = sandbox_id(&record.id);
    let requests = requests(&record.spec)?;
    let ports = port_mappings(&record.spec)?;
    let place = Sandbox { id: &sandbox, netns, name: &record.name };
    let attachment = shared.networks.attach(place, &requests, &ports)?;
    show(&record.spec, attachment, network, &record.id, &record.name);
    tell(shared, &record.namespace, &record.id, network, "connect");
    Ok(())
}

/// The endpoints to be made, the mode's own network first: it gives the default route.
fn requests(spec: &ContainerSpec) -> Result<Vec<EndpointRequest>, Error> {
    let main = spec.network_mode.as_text();
    let main_settings = spec.endpoints.get(&main).or_else(|| spec.endpoints.get("default"));
    let others = spec.endpoints.iter().filter(|(name, _)| **name != main && name.as_str() != "default");
    let mut requests = vec![request(&main, main_settings)?];
    for (name, settings) in others {
        requests.push(request(name, Some(settings))?);
    }
    Ok(requests)
}

fn request(network: &str, settings: Option<&EndpointSettings>) -> Result<EndpointRequest, Error> {
    let mut request = EndpointRequest::on(network);
    let Some(settings) = settings else { return Ok(request) };
    request.aliases.clone_from(&settings.aliases);
    if let Some(address) = settings.ipv4_address.as_deref().filter(|address| !address.is_empty()) {
        let parsed: Ipv4Addr = address
            .parse()
            .map_err(|_| Error::Invalid(format!("invalid endpoint settings:\ninvalid IPv4 address: {address}")))?;
        request.ipv4 = Some(parsed);
    }
    if let Some(address) = settings.mac_address.as_deref().filter(|address| !address.is_empty()) {
        request.mac = Some(address.parse()?);
    }
    Ok(request)
}

/// The ports to be published.
pub(crate) fn port_mappings(spec: &ContainerSpec) -> Result<Vec<PortMapping>, Error> {
    let mut mappings = Vec::new();
    for (port, bindings) in &spec.port_bindings {
        let (container_port, protocol) = parse_port(port)?;
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?),
            };
            let host_ports = parse_range(&binding.host_port)?;
            mappings.push(PortMapping { container_port, protocol, host_ip, host_ports });
        }
    }
    if spec.publish_all_ports {
        for port in spec.exposed_ports.iter().filter(|port| !spec.port_bindings.contains_key(*port)) {
            let (container_port, protocol) = parse_port(port)?;
            mappings.push(PortMapping { container_port, protocol, host_ip: None, host_ports: None });
        }
    }
    Ok(mappings)
}

fn parse_port(text: &str) -> Result<(u16, corten_network::Protocol), Error> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port: u16 = port.parse().map_err(|_| Error::Invalid(format!("invalid port number: {text:?}")))?;
    Ok((port, protocol.parse()?))
}

/// A host's port or range of ports; none for an empty text and for 0.
fn parse_range(text: &str) -> Result<Option<std::ops::RangeInclusive<u16>>, Error> {
    let invalid = || Error::Invalid(format!("invalid port specification: {text:?}"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    match (first, last) {
        (0, 0) => Ok(None),
        _ if first > last => Err(invalid()),
        _ => Ok(Some(first..=last)),
    }
}

/// What was attached, as readers see it.
fn show(spec: &ContainerSpec, attachment: Attachment, network: &mut NetworkView, id: &ContainerId, name: &str) {
    for endpoint in attachment.endpoints {
        // A client may have named the network by its id: it is shown under its name.
        let asked = spec.endpoints.get(endpoint.network_id.as_str());
        network.endpoints.remove(endpoint.network_id.as_str());
        let view = network.endpoints.entry(endpoint.network_name.clone()).or_default();
        if let Some(asked) = asked {
            view.aliases.clone_from(&asked.aliases);
        }
        view.network_id = Some(endpoint.network_id);
        view.endpoint_id = Some(endpoint.id);
        view.ip_address = endpoint.ip.to_string();
        view.prefix_length = endpoint.prefix_len;
        view.gateway = endpoint.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        view.mac_address = endpoint.mac.to_string();
        if endpoint.network_name != "bridge" {
            view.dns_names =
                [name.to_string()].into_iter().chain(view.aliases.clone()).chain([id.short().into()]).collect();
        }
    }
    for port in attachment.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let bound = BoundPort { host_ip: port.host_ip.to_string(), host_port: port.host_port };
        network.ports.entry(key).or_default().push(bound);
    }
    for port in &spec.exposed_ports {
        network.ports.entry(port.clone()).or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::PortBinding;

    fn ports(bindings: &[(&str, &str, &str)]) -> Result<Vec<String>, String> {
        let mut spec = ContainerSpec::default();
        for (port, host_ip, host_port) in bindings {
            let binding = PortBinding { host_ip: host_ip.to_string(), host_port: host_port.to_string() };
            spec.port_bindings.entry(port.to_string()).or_default().push(binding);
        }
        let line = |port: PortMapping| {
            let range = port.host_ports.map_or("any".into(), |range| format!("{}-{}", range.start(), range.end()));
            format!("{:?} {range} {}/{}", port.host_ip, port.container_port, port.protocol)
        };
        Ok(port_mappings(&spec).map_err(|error| error.message())?.into_iter().map(line).collect())
    }

    #[test]
    fn port_bindings() {
        assert_eq!(ports(&[("80/tcp", "", "8080")]).unwrap(), ["None 8080-8080 80/tcp"]);
        assert_eq!(ports(&[("53/udp", "127.0.0.1", "")]).unwrap(), ["Some(127.0.0.1) any 53/udp"]);
        assert_eq!(ports(&[("80", "", "0")]).unwrap(), ["None any 80/tcp"]);
        assert_eq!(ports(&[("80/tcp", "", "9-8")]).unwrap_err(), "invalid port specification: \"9-8\"");
        assert!(ports(&[("80/tcp", "nowhere", "1")]).is_err());
        assert!(ports(&[("99999/tcp", "", "1")]).is_err());
    }

    #[test]
    fn the_modes_network_is_wanted_even_when_unnamed() {
        let names = |spec: &ContainerSpec| wanted(spec).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&ContainerSpec::default()), ["bridge"]);
        let mode = NetworkMode::Container("x".into());
        assert_eq!(names(&ContainerSpec { network_mode: mode, ..Default::default() }), Vec::<String>::new());
        let mut spec = ContainerSpec { network_mode: NetworkMode::Named("n".into()), ..Default::default() };
        spec.endpoints.insert("m".into(), EndpointSettings::default());
        assert_eq!(names(&spec), ["m", "n"]);
    }
}
