//! What the administrator decides about networking: dockerd's `--bip`, `--fixed-cidr`, `--default-address-pool` and so on.

use corten_base::Namespace;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Settings of one [`Networks`](crate::Networks); [`Config::default`] is a daemon without flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespace whose networks this is.
    pub namespace: Namespace,
    /// The device of the network `bridge`; `None` is `--bridge none`: that network doesn't exist then.
    pub bridge: Option<String>,
    /// `--bip`: the bridge's own address and its subnet.
    pub bip: Option<Ipv4Net>,
    /// `--fixed-cidr`: containers on `bridge` get addresses from this part of the subnet only.
    pub fixed_cidr: Option<Ipv4Net>,
    /// `--default-gateway`: containers on `bridge` use this router instead of the bridge's address.
    pub default_gateway: Option<Ipv4Addr>,
    /// `--default-address-pool`, in order; empty means Docker's.
    pub default_address_pools: Vec<AddressPool>,
    /// `--mtu` of `bridge` and its containers.
    pub mtu: u32,
    /// `--icc`: containers on `bridge` may talk to each other.
    pub inter_container: bool,
    /// `--ip-masq` of `bridge`.
    pub masquerade: bool,
    /// `--iptables`: whether packet filter rules are made at all (here in nftables). Without them `-p` reaches nothing.
    pub firewall: bool,
    /// `--ip-forward`: switch forwarding on where it is off.
    pub ip_forward: bool,
    /// `--ip-forward-no-drop`: when switching forwarding on, don't also drop what is routed between the host's other links.
    pub ip_forward_no_drop: bool,
    /// `--ip`: the host address of `-p` without one.
    pub default_bind_ip: Ipv4Addr,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            namespace: Namespace::default(),
            bridge: Some(crate::DEFAULT_BRIDGE.to_owned()),
            bip: None,
            fixed_cidr: None,
            default_gateway: None,
            default_address_pools: Vec::new(),
            mtu: 1500,
            inter_container: true,
            masquerade: true,
            firewall: true,
            ip_forward: true,
            ip_forward_no_drop: false,
            default_bind_ip: Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// A range of addresses from which networks without a subnet of their own take subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole range.
    pub base: Ipv4Net,
    /// The prefix length of each subnet, at least `base`'s.
    pub size: u8,
}
