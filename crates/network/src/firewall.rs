//! The packet rules, as data: one nftables table of the family ip, named `corten`, that holds everything of ours.
//!
//! ```text
//! sets  bridges {link}          our bridges            maps  published    {proto . port : address . port}   0.0.0.0
//!       internal {link}         those without way out        published_on {address . proto . port : ...}    one address
//!       talk {link . link}      bridges whose containers see each other
//!       subnets {range}         of all our bridges
//!       masquerade {range}      of those hidden behind the host
//!
//! raw          prerouting -300  from a bridge to 127.0.0.0/8: drop (route_localnet below would let it in)
//! prerouting   nat -100         jump publish
//! output       nat -100         jump publish           (the host itself, 127.0.0.1 included)
//! publish                       to an address of this host: look up in the two maps, new destination
//! forward      filter 0         known connections, published ports, within a bridge, out of a bridge: accept;
//!                               anything else to or from our bridges: drop
//! postrouting  nat 100          out of our subnets: masquerade; to ourselves through a published port: masquerade,
//!                               so that the answer comes back through here
//! ```
//!
//! A published port is one map element, so publishing costs the same with ten ports and with ten thousand. The table is always
//! written as a whole in one transaction (delete, add) except for these elements; connections outlive that, for address
//! translation lives in connection tracking.

use crate::Protocol;
use corten_sys::nft::{
    Batch, Chain, ChainKind, Comparison, CtKey, Element, Expr, FieldType, Hook, MetaKey, PayloadBase, Set, Verdict,
    register32,
};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// The table's name.
pub(crate) const TABLE: &str = "corten";

/// What a network contributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    pub(crate) device: String,
    pub(crate) subnet: Ipv4Net,
    pub(crate) masquerade: bool,
    pub(crate) inter_container: bool,
    pub(crate) internal: bool,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRule {
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) host_port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: u16,
}

/// The whole table. With `close_others`, what is routed between two links neither of which is a bridge is dropped: the
/// engine switched forwarding on, and must not make a router of the host.
pub(crate) fn rebuild(networks: &[NetworkRules], ports: &[PortRule], close_others: bool) -> Batch {
    let mut batch = Batch::new();
    // Deleting needs a table that is there.
    batch.add_table(TABLE);
    batch.delete_table(TABLE);
    batch.add_table(TABLE);
    add_sets(&mut batch, networks);
    add_chains(&mut batch);
    add_rules(&mut batch, close_others);
    for (map, elements) in port_elements(ports, true) {
        batch.add_elements(TABLE, map, &elements);
    }
    batch
}

/// Takes the table away, if it is there.
pub(crate) fn remove() -> Batch {
    let mut batch = Batch::new();
    batch.add_table(TABLE);
    batch.delete_table(TABLE);
    batch
}

/// Publishes ports in a table that is there.
pub(crate) fn add_ports(ports: &[PortRule]) -> Batch {
    let mut batch = Batch::new();
    for (map, elements) in port_elements(ports, true) {
        batch.add_elements(TABLE, map, &elements);
    }
    batch
}

/// Ends the publication of ports, which all must be there.
pub(crate) fn remove_ports(ports: &[PortRule]) -> Batch {
    let mut batch = Batch::new();
    for (map, elements) in port_elements(ports, false) {
        batch.delete_elements(TABLE, map, &elements);
    }
    batch
}

fn add_sets(batch: &mut Batch, networks: &[NetworkRules]) {
    use FieldType::{Ipv4, LinkName, Port, Protocol};
    let set = |name, key, intervals| Set { name, key, data: &[], intervals };
    batch.add_set(TABLE, &set("bridges", &[LinkName], false));
    batch.add_set(TABLE, &set("internal", &[LinkName], false));
    batch.add_set(TABLE, &set("talk", &[LinkName, LinkName], false));
    batch.add_set(TABLE, &set("subnets", &[Ipv4], true));
    batch.add_set(TABLE, &set("masquerade", &[Ipv4], true));
    let data = &[Ipv4, Port];
    batch.add_set(TABLE, &Set { name: "published", key: &[Protocol, Port], data, intervals: false });
    batch.add_set(TABLE, &Set { name: "published_on", key: &[Ipv4, Protocol, Port], data, intervals: false });

    let links = |wanted: fn(&NetworkRules) -> bool| -> Vec<Element> {
        networks.iter().filter(|n| wanted(n)).map(|n| Element::key(link_name(&n.device))).collect()
    };
    batch.add_elements(TABLE, "bridges", &links(|_| true));
    batch.add_elements(TABLE, "internal", &links(|network| network.internal));
    let pair = |network: &NetworkRules| Element::key([link_name(&network.device), link_name(&network.device)].concat());
    let talk: Vec<_> = networks.iter().filter(|network| network.inter_container).map(pair).collect();
    batch.add_elements(TABLE, "talk", &talk);
    let subnets = |wanted: fn(&NetworkRules) -> bool| ranges(networks.iter().filter(|n| wanted(n)).map(|n| n.subnet));
    batch.add_elements(TABLE, "subnets", &subnets(|_| true));
    batch.add_elements(TABLE, "masquerade", &subnets(|network| network.masquerade && !network.internal));
}

fn add_chains(batch: &mut Batch) {
    let base = |name, kind, hook, priority| Chain { name, base: Some((kind, hook, priority)) };
    batch.add_chain(TABLE, &Chain { name: "publish", base: None });
    batch.add_chain(TABLE, &base("raw", ChainKind::Filter, Hook::Prerouting, -300));
    batch.add_chain(TABLE, &base("prerouting", ChainKind::Nat, Hook::Prerouting, -100));
    batch.add_chain(TABLE, &base("output", ChainKind::Nat, Hook::Output, -100));
    batch.add_chain(TABLE, &base("forward", ChainKind::Filter, Hook::Forward, 0));
    batch.add_chain(TABLE, &base("postrouting", ChainKind::Nat, Hook::Postrouting, 100));
}

fn add_rules(batch: &mut Batch, close_others: bool) {
    let mut rule =
        |chain: &str, comment: &str, parts: &[&[Expr]]| batch.add_rule(TABLE, chain, comment, &parts.concat());
    let (accept, drop) = (Expr::from(Verdict::Accept), Expr::from(Verdict::Drop));
    let jump = [Expr::from(Verdict::Jump("publish".to_owned()))];
    let from_bridge = link_in(MetaKey::InputName, "bridges", false);
    let to_bridge = link_in(MetaKey::OutputName, "bridges", false);
    let translated = ct_bits(CtKey::Status, CtKey::DESTINATION_TRANSLATED);

    rule(
        "raw",
        "the host's loopback is not for containers",
        &[&from_bridge, &to_loopback(16), std::slice::from_ref(&drop)],
    );
    rule("prerouting", "published ports", &[&jump]);
    rule("output", "published ports", &[&jump]);

    let [no_local, back] = [
        Expr::Compare { register: 1, with: Comparison::NotEqual, value: 2u32.to_ne_bytes().to_vec() },
        Expr::from(Verdict::Return),
    ];
    rule("publish", "only what is sent to this host", &[&[Expr::DestinationType { register: 1 }, no_local, back]]);
    rule("publish", "ports published on one address", &[&publish_on_one()]);
    rule("publish", "ports published on all addresses", &[&publish_on_all()]);

    let known = ct_bits(CtKey::State, CtKey::ESTABLISHED | CtKey::RELATED);
    let accept = std::slice::from_ref(&accept);
    let drop = std::slice::from_ref(&drop);
    rule("forward", "known connections", &[&known, accept]);
    rule("forward", "published ports", &[&to_bridge, &translated, accept]);
    rule("forward", "within a bridge", &[&same_bridge(), accept]);
    rule("forward", "into a bridge", &[&to_bridge, drop]);
    rule("forward", "out of an internal network", &[&link_in(MetaKey::InputName, "internal", false), drop]);
    rule("forward", "out of a bridge", &[&from_bridge, accept]);
    if close_others {
        let others = [not_a_bridge(MetaKey::InputKind), not_a_bridge(MetaKey::OutputKind)].concat();
        rule("forward", "the host routes for nobody else", &[&others, drop]);
    }

    let outwards = link_in(MetaKey::OutputName, "bridges", true);
    let masquerade: &[Expr] = &[Expr::Masquerade];
    rule("postrouting", "hide containers behind the host", &[&source_in("masquerade"), &outwards, masquerade]);
    rule(
        "postrouting",
        "a container calls its own bridge's published port",
        &[&to_bridge, &translated, &source_in("subnets"), masquerade],
    );
    rule("postrouting", "the host calls by loopback", &[&to_bridge, &translated, &to_loopback(12), masquerade]);
}

/// The look-up of protocol and port for all addresses.
fn publish_on_all() -> Vec<Expr> {
    let [protocol, port] = protocol_and_port(0);
    vec![protocol, port, lookup_destination("published"), destination_nat()]
}

/// The look-up of address, protocol and port.
fn publish_on_one() -> Vec<Expr> {
    let address = Expr::Payload { base: PayloadBase::Network, offset: 16, len: 4, register: register32(0) };
    let [protocol, port] = protocol_and_port(1);
    vec![address, protocol, port, lookup_destination("published_on"), destination_nat()]
}

fn protocol_and_port(first: u32) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::TransportProtocol, register: register32(first) },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, register: register32(first + 1) },
    ]
}

fn lookup_destination(map: &str) -> Expr {
    Expr::Lookup { set: map.to_owned(), register: register32(0), into: Some(register32(0)), inverted: false }
}

fn destination_nat() -> Expr {
    Expr::DestinationNat { address: register32(0), port: register32(1) }
}

/// Bridges whose containers may talk, the same on both sides.
fn same_bridge() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::InputName, register: 1 },
        Expr::Meta { key: MetaKey::OutputName, register: 2 },
        Expr::Lookup { set: "talk".to_owned(), register: 1, into: None, inverted: false },
    ]
}

fn link_in(key: MetaKey, set: &str, inverted: bool) -> Vec<Expr> {
    vec![Expr::Meta { key, register: 1 }, Expr::Lookup { set: set.to_owned(), register: 1, into: None, inverted }]
}

fn source_in(set: &str) -> Vec<Expr> {
    vec![
        Expr::Payload { base: PayloadBase::Network, offset: 12, len: 4, register: 1 },
        Expr::Lookup { set: set.to_owned(), register: 1, into: None, inverted: false },
    ]
}

/// The address at this offset of the IP header is in 127.0.0.0/8.
fn to_loopback(offset: u32) -> Vec<Expr> {
    vec![
        Expr::Payload { base: PayloadBase::Network, offset, len: 1, register: 1 },
        Expr::Compare { register: 1, with: Comparison::Equal, value: vec![127] },
    ]
}

fn ct_bits(key: CtKey, mask: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key, register: 1 },
        Expr::And { register: 1, mask },
        Expr::Compare { register: 1, with: Comparison::NotEqual, value: vec![0; 4] },
    ]
}

fn not_a_bridge(key: MetaKey) -> Vec<Expr> {
    let value = link_name("bridge").to_vec();
    vec![Expr::Meta { key, register: 1 }, Expr::Compare { register: 1, with: Comparison::NotEqual, value }]
}

fn link_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

/// Subnets as range elements: the first address, and the first one behind.
fn ranges(subnets: impl Iterator<Item = Ipv4Net>) -> Vec<Element> {
    let mut elements = Vec::new();
    for subnet in subnets {
        elements.push(Element::key(subnet.network().octets()));
        if let Some(behind) = u32::from(subnet.broadcast()).checked_add(1) {
            elements.push(Element { interval_end: true, ..Element::key(behind.to_be_bytes()) });
        }
    }
    elements
}

/// The elements of both maps.
fn port_elements(ports: &[PortRule], with_data: bool) -> [(&'static str, Vec<Element>); 2] {
    let (all, one): (Vec<&PortRule>, Vec<&PortRule>) = ports.iter().partition(|rule| rule.host_ip.is_unspecified());
    let element = |rule: &PortRule, key: Vec<u8>| match with_data {
        true => Element::map(key, [&rule.ip.octets()[..], &port_field(rule.port)].concat()),
        false => Element::key(key),
    };
    let short = |rule: &PortRule| [[rule.protocol.number(), 0, 0, 0], port_field(rule.host_port)].concat();
    let long = |rule: &PortRule| [&rule.host_ip.octets()[..], &short(rule)].concat();
    [
        ("published", all.iter().map(|rule| element(rule, short(rule))).collect()),
        ("published_on", one.iter().map(|rule| element(rule, long(rule))).collect()),
    ]
}

fn port_field(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_become_elements_of_the_right_map() {
        let rule = |host_ip: [u8; 4]| PortRule {
            host_ip: host_ip.into(),
            host_port: 8080,
            protocol: Protocol::Tcp,
            ip: Ipv4Addr::new(172, 17, 0, 2),
            port: 80,
        };
        let [(_, all), (_, one)] = port_elements(&[rule([0; 4]), rule([127, 0, 0, 1])], true);
        assert_eq!(all, [Element::map([6, 0, 0, 0, 0x1f, 0x90, 0, 0], [172, 17, 0, 2, 0, 80, 0, 0])]);
        assert_eq!(one[0].key, [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        let [(_, all), (_, one)] = port_elements(&[rule([0; 4])], false);
        assert!(all[0].data.is_empty() && one.is_empty());
    }

    #[test]
    fn subnets_become_ranges() {
        let elements = ranges(["172.17.0.0/16".parse().unwrap(), "255.255.255.0/24".parse().unwrap()].into_iter());
        assert_eq!(
            elements.iter().map(|e| (e.key[..].to_vec(), e.interval_end)).collect::<Vec<_>>(),
            [(vec![172, 17, 0, 0], false), (vec![172, 18, 0, 0], true), (vec![255, 255, 255, 0], false),]
        );
    }
}
