//! Devices: a bridge per network, a veth pair per endpoint.

use crate::attach::mtu;
use crate::model::{Endpoint, IpamConfig, MacAddress, Network};
use crate::{Config, Error, Result, sysctl};
use corten_sys::netlink::netns::{Pending, Workers};
use corten_sys::netlink::{Batch, Error as NetlinkError, LinkChange, Route, VethPair};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// All links of this group are about to be deleted: "cort".
const DOOMED: u32 = 0x636f_7274;

/// What the host-side end of a pair is called: `veth` and seven digits, as Docker does.
pub(crate) fn host_name(endpoint: &str) -> String {
    format!("veth{}", &endpoint[..7])
}

/// Whether a link could be one that [`host_name`] named.
pub(crate) fn is_host_name(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|rest| rest.len() == 7 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Makes a network's bridge or repairs it; harmless when all is there.
pub(crate) fn ensure_bridge(network: &Network, config: &IpamConfig, settings: &Config) -> Result<()> {
    let device = network.device.as_str();
    let act = |what: &str| Error::kernel(format!("{what} bridge {device}"));
    let mut route = Route::open().map_err(act("set up"))?;
    if !bridge_exists(device)? {
        create_bridge(&mut route, device, config, mtu(network, settings)).map_err(act("create"))?;
    }
    if let (Some(gateway), false) = (config.gateway, network.options.contains_key(crate::options::INHIBIT_IPV4)) {
        set_address(&mut route, device, gateway, config.subnet).map_err(act("give an address to"))?;
    }
    // Only with the rule that keeps containers off the host's loopback.
    if settings.firewall
        && let Err(error) = sysctl::route_localnet(device)
    {
        tracing::warn!(device, %error, "published ports will not answer at 127.0.0.1");
    }
    let mut batch = Batch::new();
    batch.change_link(device, &LinkChange { up: Some(true), ..LinkChange::default() });
    route.apply(&batch).map_err(act("switch on"))
}

/// Whether there is such a bridge; a device that is no bridge is an error.
pub(crate) fn bridge_exists(device: &str) -> Result<bool> {
    let look_up = || Route::open()?.link(device);
    match look_up().map_err(Error::kernel(format!("look up bridge {device}")))? {
        None => Ok(false),
        Some(link) if link.kind == "bridge" => Ok(true),
        Some(_) => Err(Error::Invalid(format!("device {device} is there and is not a bridge"))),
    }
}

fn create_bridge(route: &mut Route, device: &str, config: &IpamConfig, mtu: u32) -> Result<(), NetlinkError> {
    // A fixed address: else the bridge takes the lowest of its ports', and neighbours' caches go stale as ports come and go.
    let mac = MacAddress::from_ipv4(config.gateway.unwrap_or_else(|| config.subnet.network()));
    let mut batch = Batch::new();
    batch.create_bridge(device, mtu, mac.0);
    match route.apply(&batch) {
        Err(error) if !error.is_exists() => return Err(error),
        _ => {}
    }
    sysctl::disable_ipv6(device);
    Ok(())
}

/// Gives the bridge its address, taking away those that it had from an earlier configuration in the same subnet.
fn set_address(route: &mut Route, device: &str, address: Ipv4Addr, subnet: Ipv4Net) -> Result<(), NetlinkError> {
    let index = route.index(device)?;
    let present = route.addresses()?;
    let mut mine = present.iter().filter(|present| present.index == index);
    if mine.any(|present| present.address == address && present.prefix_len == subnet.prefix_len()) {
        return Ok(());
    }
    let mut batch = Batch::new();
    for old in present.iter().filter(|old| old.index == index && subnet.contains(&old.address)) {
        batch.delete_address(index, old.address, old.prefix_len);
    }
    batch.add_address(index, address, subnet.prefix_len());
    route.apply(&batch)
}

/// Deletes a network's bridge; one that is not there is no error.
pub(crate) fn delete_bridge(device: &str) -> Result<()> {
    let act = || Error::kernel(format!("delete bridge {device}"));
    let mut batch = Batch::new();
    batch.delete_link(device);
    match Route::open().and_then(|mut route| route.apply(&batch)) {
        Err(error) if !error.is_missing() => Err(act()(error)),
        _ => Ok(()),
    }
}

/// Connects an endpoint: the pair, then both ends at the same time.
///
/// Three round trips to the kernel: the pair with its far end born in the sandbox; the near end up; and, in the sandbox by a
/// worker, address, link up and default route. IPv6 is switched off on both ends while they are down.
pub(crate) fn connect(
    workers: &Workers,
    endpoint: &Endpoint,
    device: &str,
    mtu: u32,
    netns: BorrowedFd<'_>,
    default_route: bool,
) -> Result<()> {
    let act = |what: &str| Error::kernel(format!("{what} of endpoint {} ({})", endpoint.name, endpoint.id.short()));
    let mut route = Route::open().map_err(act("create the link"))?;
    let name = endpoint.host_interface.as_str();
    let inside = create_pair(&mut route, endpoint, device, mtu, netns)
        .and_then(|()| start_inside(workers, endpoint, netns, default_route))
        .map_err(act("create the link"))?;
    sysctl::disable_ipv6(name);
    // A container that calls itself by a published port sends and receives on the same port of the bridge.
    let hairpin = (!endpoint.ports.is_empty()).then_some(true);
    let mut batch = Batch::new();
    batch.change_link(name, &LinkChange { up: Some(true), hairpin, ..LinkChange::default() });
    let outside = route.apply(&batch).map_err(act("switch on the link"));
    inside.wait().and_then(|result| result).map_err(act("set up the sandbox's side"))?;
    outside
}

fn create_pair(
    route: &mut Route,
    endpoint: &Endpoint,
    device: &str,
    mtu: u32,
    netns: BorrowedFd<'_>,
) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    batch.create_veth(&VethPair {
        name: &endpoint.host_interface,
        master: route.index(device)?,
        peer_name: &endpoint.interface,
        peer_mac: endpoint.mac.0,
        peer_netns: netns,
        mtu,
    });
    route.apply(&batch)
}

fn start_inside(
    workers: &Workers,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
    default_route: bool,
) -> Result<Pending<Result<(), NetlinkError>>, NetlinkError> {
    let netns: OwnedFd = netns.try_clone_to_owned().map_err(NetlinkError::Namespace)?;
    let (interface, ip, prefix_len) = (endpoint.interface.clone(), endpoint.ip, endpoint.prefix_len);
    let gateway = endpoint.gateway.filter(|_| default_route);
    workers.start(netns, move || {
        sysctl::disable_ipv6(&interface);
        let mut route = Route::open()?;
        let index = route.index(&interface)?;
        let mut batch = Batch::new();
        batch.add_address(index, ip, prefix_len);
        batch.change_link(&interface, &LinkChange { up: Some(true), ..LinkChange::default() });
        if let Some(gateway) = gateway {
            batch.add_default_route(index, gateway);
        }
        route.apply(&batch)
    })
}

/// Deletes links of endpoints, all in one go; those that are gone already are no error.
pub(crate) fn delete_all(names: &[String]) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    for name in names {
        batch.change_link(name, &LinkChange { group: Some(DOOMED), ..LinkChange::default() });
    }
    let mut route = Route::open()?;
    let marked = route.apply_each(&batch)?;
    for result in &marked {
        if let Err(error) = result
            && !error.is_missing()
        {
            tracing::warn!(%error, "a link stays");
        }
    }
    if !marked.iter().any(Result::is_ok) {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.delete_group(DOOMED);
    match route.apply(&batch) {
        // The last of them went with its namespace meanwhile.
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// The names of all endpoint links on these bridges.
pub(crate) fn endpoint_links(devices: &[String]) -> Result<Vec<String>, NetlinkError> {
    let links = Route::open()?.links()?;
    let bridges: Vec<u32> = links.iter().filter(|link| devices.contains(&link.name)).map(|link| link.index).collect();
    let ours = links.into_iter().filter(|link| {
        link.kind == "veth" && (link.group == DOOMED || bridges.contains(&link.master)) && is_host_name(&link.name)
    });
    Ok(ours.map(|link| link.name).collect())
}

/// The subnets that the host itself can reach without a default route, except through these devices.
pub(crate) fn host_subnets(except: &[String]) -> Result<Vec<Ipv4Net>, NetlinkError> {
    let mut route = Route::open()?;
    let ours: Vec<u32> = except.iter().filter_map(|device| route.index(device).ok()).collect();
    let routes = route.routes()?.into_iter().filter(|entry| entry.prefix_len > 0 && !ours.contains(&entry.index));
    let routed = routes.filter_map(|entry| Ipv4Net::new(entry.destination, entry.prefix_len).ok());
    // The local table's loopback and broadcast entries are no one's subnets.
    let mut subnets: Vec<_> = routed.filter(|net| !net.addr().is_loopback() && net.prefix_len() < 32).collect();
    let addresses = route.addresses()?.into_iter().filter(|address| !ours.contains(&address.index));
    subnets.extend(addresses.filter_map(|a| Ipv4Net::new(a.address, a.prefix_len).ok()).map(|net| net.trunc()));
    Ok(subnets)
}

/// The first address of a device that is there already, with its subnet.
pub(crate) fn device_address(device: &str) -> Result<Option<Ipv4Net>, NetlinkError> {
    let mut route = Route::open()?;
    let Some(link) = route.link(device)? else { return Ok(None) };
    let found = route.addresses()?.into_iter().find(|address| address.index == link.index);
    Ok(found.and_then(|address| Ipv4Net::new(address.address, address.prefix_len).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links() {
        let name = host_name("0123456789abcdef");
        assert_eq!(name, "veth0123456");
        assert!(is_host_name(&name));
        for other in ["veth0", "veth012345", "veth01234567", "vethxyz1234", "eth0"] {
            assert!(!is_host_name(other), "{other}");
        }
    }
}
