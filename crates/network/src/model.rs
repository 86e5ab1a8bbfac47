//! The values this crate's callers hand in and get back.

use corten_base::{EndpointId, NetworkId, SandboxId};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

/// What makes a network work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge device with one veth pair per endpoint.
    Bridge,
    /// The host's own network namespace; nothing is attached.
    Host,
    /// A namespace with nothing but loopback.
    Null,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        })
    }
}

/// One address range of a network, `IPAM.Config[i]` of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// `Subnet`.
    pub subnet: Ipv4Net,
    /// `IPRange`: the part of the subnet from which addresses are handed out.
    pub ip_range: Option<Ipv4Net>,
    /// `Gateway`: the bridge's own address, or the router given by the user.
    pub gateway: Option<Ipv4Addr>,
    /// `AuxiliaryAddresses`: addresses that are never handed out.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
}

/// A network as `inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network's id.
    pub id: NetworkId,
    /// Its name, unique in the namespace.
    pub name: String,
    /// When it was created.
    pub created: SystemTime,
    /// What makes it work.
    pub driver: Driver,
    /// `Internal`: no way out.
    pub internal: bool,
    /// `Attachable`, only echoed.
    pub attachable: bool,
    /// `EnableIPv4`; true for every network.
    pub enable_ipv4: bool,
    /// `EnableIPv6`; false for every network so far.
    pub enable_ipv6: bool,
    /// `IPAM.Driver`.
    pub ipam_driver: String,
    /// `IPAM.Options`; `None` is null.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// `IPAM.Config`; empty for `host` and `none` (where the API writes null).
    pub ipam: Vec<IpamConfig>,
    /// Whether the user chose the subnet; only then may endpoints ask for addresses.
    pub subnet_given: bool,
    /// `Options`, with Docker's names (`com.docker.network.bridge.name`).
    pub options: BTreeMap<String, String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// The bridge device; empty for `host` and `none`.
    pub device: String,
    /// Whether the device was there before the network, and so stays after it.
    pub device_given: bool,
}

/// What a caller asks of [`Networks::create`](crate::Networks::create).
#[derive(Clone, Debug, Default)]
pub struct CreateNetwork {
    /// The name; must be new.
    pub name: String,
    /// The driver by name; empty is `bridge`.
    pub driver: String,
    /// `Internal`.
    pub internal: bool,
    /// `Attachable`.
    pub attachable: bool,
    /// `EnableIPv6`; refused so far.
    pub enable_ipv6: bool,
    /// `IPAM.Driver`; empty is `default`.
    pub ipam_driver: String,
    /// `IPAM.Options`; `None` is null.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// `IPAM.Config`, as texts still to be checked.
    pub ipam: Vec<IpamRequest>,
    /// `Options`.
    pub options: BTreeMap<String, String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
}

/// One `IPAM.Config` entry of a request; empty texts are absent.
#[derive(Clone, Debug, Default)]
pub struct IpamRequest {
    /// `Subnet`, CIDR notation.
    pub subnet: String,
    /// `IPRange`, CIDR notation.
    pub ip_range: String,
    /// `Gateway`, an address.
    pub gateway: String,
    /// `AuxiliaryAddresses`, name to address.
    pub auxiliary: BTreeMap<String, String>,
}

/// The sandbox that is to be attached.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    /// Its id.
    pub id: &'a SandboxId,
    /// Its network namespace; only borrowed for the call.
    pub netns: BorrowedFd<'a>,
    /// The name that Docker's messages show for the endpoint: the container's.
    pub name: &'a str,
}

/// One network that a sandbox joins. The first of several gives the default route.
#[derive(Clone, Debug)]
pub struct EndpointRequest {
    /// The network, by id or name.
    pub network: String,
    /// Other names under which it is to be found; kept for the DNS server.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ipv4: Option<Ipv4Addr>,
    /// A fixed hardware address.
    pub mac: Option<MacAddress>,
}

impl EndpointRequest {
    /// An endpoint on this network with everything chosen by the engine.
    pub fn on(network: impl Into<String>) -> EndpointRequest {
        EndpointRequest { network: network.into(), aliases: Vec::new(), ipv4: None, mac: None }
    }
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = crate::Error;
    fn from_str(text: &str) -> Result<Protocol, crate::Error> {
        match text.to_ascii_lowercase().as_str() {
            "" | "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Err(crate::Error::NotImplemented("publishing SCTP ports".to_owned())),
            _ => Err(crate::Error::InvalidProtocol(text.to_owned())),
        }
    }
}

/// A port of the sandbox to be reached at the host (`-p`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The port inside.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
    /// The host's address; `None` is the daemon's default (`0.0.0.0`).
    pub host_ip: Option<IpAddr>,
    /// The host's port: the first free one of the range; `None` is an ephemeral one.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPort {
    /// The port inside.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address, possibly `0.0.0.0`.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
}

/// A sandbox's attachment to one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The endpoint's id.
    pub id: EndpointId,
    /// The sandbox it belongs to.
    pub sandbox: SandboxId,
    /// The network.
    pub network_id: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// The container's name at the time of the attach.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// The link's name inside: `eth0`, `eth1`, ...
    pub interface: String,
    /// The link's name on the host.
    pub host_interface: String,
    /// The address.
    pub ip: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix_len: u8,
    /// The router; `None` on an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// The hardware address.
    pub mac: MacAddress,
    /// Ports published through this endpoint.
    pub ports: Vec<BoundPort>,
}

/// What [`Networks::attach`](crate::Networks::attach) made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// One per request, in its order.
    pub endpoints: Vec<Endpoint>,
    /// All published ports, in the mappings' order.
    pub ports: Vec<BoundPort>,
}

/// A hardware address of six bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The locally administered address that carries this IPv4 address: `02:42` and its four bytes.
    pub fn from_ipv4(ip: Ipv4Addr) -> MacAddress {
        let [a, b, c, d] = ip.octets();
        MacAddress([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacAddress({self})")
    }
}

impl std::str::FromStr for MacAddress {
    type Err = crate::Error;
    fn from_str(text: &str) -> Result<MacAddress, crate::Error> {
        let invalid = || crate::Error::InvalidMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            let part = part.ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(MacAddress(bytes)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = crate::Error;
    fn try_from(text: String) -> Result<MacAddress, crate::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        let mac = MacAddress::from_ipv4(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:AC:11:00:02".parse::<MacAddress>().unwrap(), mac);
        for text in ["", "02:42", "02:42:ac:11:00:02:03", "02:42:ac:11:00:+2", "2:42:ac:11:00:02", "zz:42:ac:11:00:02"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn protocols() {
        assert_eq!("".parse::<Protocol>().unwrap(), Protocol::Tcp);
        assert_eq!("UDP".parse::<Protocol>().unwrap(), Protocol::Udp);
        assert!("icmp".parse::<Protocol>().is_err());
    }
}
