//! Sandboxes' endpoints: IPAM, links, nft tables, port reservations.
//!
//! A network is a bridge on the host with a subnet; an endpoint is a veth pair between a sandbox's namespace and the bridge,
//! with an address. This crate knows sandboxes, never containers; `host`, `none` and a container's network shared by another
//! have records here for `inspect`, but nothing is ever attached to them.
//!
//! ```text
//! attach  decide (one short lock: addresses, host ports) -> record -> links (three round trips) -> port elements
//! detach  record gone -> port elements and host ports gone -> links collected and deleted later -> addresses free
//! ```
//!
//! Every step can be done twice. What an engine that died left behind is found by [`Networks::recover`]: records of dead
//! sandboxes, links on our bridges without a record, and the packet filter table, which is rewritten as a whole.
//!
//! Everything happens in the network namespace of the calling thread. All functions block, most for less than a millisecond.
//!
//! Not here yet: IPv6, SCTP, the DNS server of user-defined networks (their containers get the host's servers, as those on
//! `bridge` do).

mod attach;
mod config;
mod create;
mod error;
mod firewall;
pub mod hosts;
mod ipam;
mod links;
mod model;
mod networks;
mod open;
mod options;
mod ports;
mod reaper;
mod records;
pub mod resolv;
mod sysctl;

pub use config::{AddressPool, Config};
pub use error::{Error, Result};
pub use model::{
    Attachment, BoundPort, CreateNetwork, Driver, Endpoint, EndpointRequest, IpamConfig, IpamRequest, MacAddress,
    Network, PortMapping, Protocol, Sandbox,
};
pub use networks::Networks;
pub use records::SCHEMA;

/// The bridge device of the network `bridge`; not `docker0`, so that a dockerd can run beside.
pub const DEFAULT_BRIDGE: &str = "corten0";
