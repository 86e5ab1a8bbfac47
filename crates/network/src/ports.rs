//! Holding the host's ports.
//!
//! Packets to a published port are translated before any socket sees them; the socket bound here only keeps the port: other
//! programs get "address already in use", and `ss -l` shows it. TCP ports listen, as Docker's do: binding alone wouldn't
//! notice a listener on a wildcard address when both sides set SO_REUSEADDR, and without that option a port would stay
//! refused for a minute after its last user.

use crate::{Error, PortMapping, Protocol, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

/// A held port; dropping it lets the port go.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) host_port: u16,
    pub(crate) protocol: Protocol,
    _socket: OwnedFd,
}

/// Which ports are held, for quick look-ups among tens of thousands.
#[derive(Debug, Default)]
pub(crate) struct Index {
    addresses: HashMap<(u16, Protocol), Vec<Ipv4Addr>>,
}

impl Index {
    pub(crate) fn add(&mut self, held: &Reservation) {
        self.addresses.entry((held.host_port, held.protocol)).or_default().push(held.host_ip);
    }

    pub(crate) fn remove(&mut self, held: &Reservation) {
        let key = (held.host_port, held.protocol);
        let Some(addresses) = self.addresses.get_mut(&key) else { return };
        addresses.retain(|ip| *ip != held.host_ip);
        if addresses.is_empty() {
            self.addresses.remove(&key);
        }
    }

    /// Whether a port can't be had at this address.
    pub(crate) fn is_taken(&self, ip: Ipv4Addr, port: u16, protocol: Protocol) -> bool {
        let same_port = self.addresses.get(&(port, protocol));
        same_port
            .is_some_and(|all| all.iter().any(|other| *other == ip || other.is_unspecified() || ip.is_unspecified()))
    }
}

/// Where the kernel takes ephemeral ports from, if it can't be asked.
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

/// Picks and binds the host port of a mapping. `index` knows which ports are held, `target` is the container's
/// address, `after` the ephemeral port given out last.
pub(crate) fn reserve(
    mapping: &PortMapping,
    default_ip: Ipv4Addr,
    target: Ipv4Addr,
    after: &mut u16,
    index: &Index,
) -> Result<Reservation> {
    let host_ip = match mapping.host_ip {
        None => default_ip,
        Some(IpAddr::V4(ip)) => ip,
        Some(IpAddr::V6(_)) => return Err(Error::NotImplemented("publishing on IPv6 addresses".to_owned())),
    };
    let protocol = mapping.protocol;
    let target = format!("{target}:{}/{protocol}", mapping.container_port);
    let range = mapping.host_ports.clone();
    if let Some(port) = range.as_ref().filter(|range| range.start() == range.end()).map(|range| *range.start()) {
        if index.is_taken(host_ip, port, protocol) {
            return Err(Error::PortAllocated { ip: host_ip, port });
        }
        return hold(host_ip, port, protocol).map_err(|errno| refused(host_ip, port, target, errno));
    }
    let mut last = None;
    for port in candidates(range, *after) {
        if index.is_taken(host_ip, port, protocol) {
            continue;
        }
        match hold(host_ip, port, protocol) {
            Ok(held) => {
                *after = if mapping.host_ports.is_none() { port } else { *after };
                return Ok(held);
            }
            Err(errno) => last = Some(refused(host_ip, port, target.clone(), errno)),
        }
        // An address that isn't this host's fails alike for every port.
        if !matches!(last, Some(Error::BindPort { ref reason, .. }) if reason == "address already in use") {
            break;
        }
    }
    Err(last.unwrap_or(Error::PortsExhausted))
}

/// Binds a port that was published before, after a restart.
pub(crate) fn hold(ip: Ipv4Addr, port: u16, protocol: Protocol) -> Result<Reservation, Errno> {
    let (kind, transport) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(transport))?;
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddrV4::new(ip, port))?;
    if protocol == Protocol::Tcp {
        listen(&socket, 1)?;
    }
    Ok(Reservation { host_ip: ip, host_port: port, protocol, _socket: socket })
}

/// The ports to try: a given range from its start, ephemeral ones from behind the last and around.
fn candidates(range: Option<RangeInclusive<u16>>, after: u16) -> Vec<u16> {
    match range {
        Some(range) => range.collect(),
        None => {
            let range = ephemeral_range();
            let start = if range.contains(&after) && after < *range.end() { after + 1 } else { *range.start() };
            (start..=*range.end()).chain(*range.start()..start).collect()
        }
    }
}

fn ephemeral_range() -> RangeInclusive<u16> {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
        let (first, last): (u16, u16) = (numbers.next()??, numbers.next()??);
        (0 < first && first <= last).then_some(first..=last)
    };
    read().unwrap_or(EPHEMERAL)
}

fn refused(ip: Ipv4Addr, port: u16, target: String, errno: Errno) -> Error {
    let reason = match errno {
        Errno::ADDRINUSE => "address already in use".to_owned(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    Error::BindPort { ip: ip.into(), port, target, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn mapping(host_ports: Option<RangeInclusive<u16>>) -> PortMapping {
        PortMapping {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: Some(Ipv4Addr::LOCALHOST.into()),
            host_ports,
        }
    }

    fn try_reserve(mapping: &PortMapping, taken: &[u16]) -> Result<Reservation> {
        let mut index = Index::default();
        for port in taken {
            index.addresses.insert((*port, Protocol::Tcp), vec![Ipv4Addr::UNSPECIFIED]);
        }
        reserve(mapping, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(172, 17, 0, 2), &mut 0, &index)
    }

    #[test]
    fn a_port_is_held_until_dropped() {
        // An address of its own: the tests beside this one take the same first port.
        let own = PortMapping { host_ip: Some(Ipv4Addr::new(127, 0, 17, 1).into()), ..mapping(None) };
        let held = try_reserve(&own, &[]).unwrap();
        let (ip, port) = (held.host_ip, held.host_port);
        assert!(TcpListener::bind((ip, port)).is_err());
        drop(held);
        assert!(TcpListener::bind((ip, port)).is_ok());
    }

    #[test]
    fn addresses_conflict_with_themselves_and_with_all() {
        let mut index = Index::default();
        let held = try_reserve(&mapping(None), &[]).unwrap();
        let port = held.host_port;
        index.add(&held);
        assert!(index.is_taken(Ipv4Addr::LOCALHOST, port, Protocol::Tcp));
        assert!(index.is_taken(Ipv4Addr::UNSPECIFIED, port, Protocol::Tcp));
        assert!(!index.is_taken(Ipv4Addr::new(10, 0, 0, 1), port, Protocol::Tcp));
        assert!(!index.is_taken(Ipv4Addr::LOCALHOST, port, Protocol::Udp));
        index.remove(&held);
        assert!(!index.is_taken(Ipv4Addr::LOCALHOST, port, Protocol::Tcp));
    }

    #[test]
    fn docker_words_for_conflicts() {
        let error = try_reserve(&mapping(Some(8080..=8080)), &[8080]).unwrap_err();
        assert_eq!(error.to_string(), "Bind for 127.0.0.1:8080 failed: port is already allocated");
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let error = try_reserve(&mapping(Some(port..=port)), &[]).unwrap_err();
        let expect = format!("failed to bind host port for 127.0.0.1:{port}:172.17.0.2:80/tcp: address already in use");
        assert_eq!(error.to_string(), expect);
        let error = try_reserve(&mapping(Some(8000..=8001)), &[8000, 8001]).unwrap_err();
        assert_eq!(error.to_string(), "all ports are allocated");
    }

    #[test]
    fn ranges_skip_what_is_taken() {
        let first = try_reserve(&mapping(None), &[]).unwrap().host_port;
        let range = first.min(65000)..=first.min(65000) + 20;
        let held = try_reserve(&mapping(Some(range.clone())), &[*range.start()]).unwrap();
        assert!(held.host_port > *range.start());
    }

    #[test]
    fn ephemeral_ports_go_round() {
        let all = candidates(None, 0);
        assert_eq!(candidates(None, all[4])[0], all[5]);
        assert_eq!(candidates(None, *all.last().unwrap()), all);
    }
}
