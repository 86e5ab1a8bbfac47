//! What can go wrong with networks, in Docker's words where its clients read them.

use corten_base::{EndpointId, ErrorKind};
use ipnet::Ipv4Net;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a network operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No network has this name, id or id prefix.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several networks match an id prefix.
    #[error("network {0} is ambiguous ({1} matches found based on ID prefix)")]
    Ambiguous(String, usize),
    /// The name is taken.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// `bridge`, `host` or `none` can't be created.
    #[error("operation is not permitted on predefined {0} network")]
    Predefined(String),
    /// `bridge`, `host` or `none` can't be removed.
    #[error("{0} is a pre-defined network and cannot be removed")]
    RemovePredefined(String),
    /// Endpoints are still attached.
    #[error("error while removing network: network {name} has active endpoints ({endpoints})")]
    InUse {
        /// The network.
        name: String,
        /// `name:"web" id:"0123456789ab"`, with commas between.
        endpoints: String,
    },
    /// A request that can't be.
    #[error("{0}")]
    Invalid(String),
    /// A malformed hardware address.
    #[error("invalid MAC address: address {0}: invalid MAC address")]
    InvalidMac(String),
    /// An unknown transport protocol.
    #[error("invalid proto: {0}")]
    InvalidProtocol(String),
    /// The subnet overlaps another network's.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    /// All default pools are taken.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// The subnet has no free address.
    #[error("no available IPv4 addresses on this network's address pools: {name} ({subnet})")]
    NoAddress {
        /// The network.
        name: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
    /// A fixed address that is someone else's.
    #[error("Address already in use")]
    AddressInUse(Ipv4Addr),
    /// A fixed address that this network can't give.
    #[error("invalid config for network {network}: invalid endpoint settings:\n{reason}")]
    FixedAddress {
        /// The network.
        network: String,
        /// Why, in Docker's words.
        reason: String,
    },
    /// There is no such driver.
    #[error("plugin {0:?} not found")]
    NoDriver(String),
    /// The sandbox already has an endpoint there.
    #[error("endpoint with name {name} already exists in network {network}")]
    AlreadyAttached {
        /// The endpoint's name.
        name: String,
        /// The network.
        network: String,
    },
    /// Publishing a port failed.
    #[error("driver failed programming external connectivity on endpoint {name} ({id}): {source}")]
    Publish {
        /// The container's name.
        name: String,
        /// The endpoint.
        id: EndpointId,
        /// Why.
        source: Box<Error>,
    },
    /// Another container has the port.
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    PortAllocated {
        /// The host's address.
        ip: Ipv4Addr,
        /// The host's port.
        port: u16,
    },
    /// Every port of the range is taken by containers.
    #[error("all ports are allocated")]
    PortsExhausted,
    /// The host refuses the port, mostly because another program has it.
    #[error("failed to bind host port for {ip}:{port}:{target}: {reason}")]
    BindPort {
        /// The host's address.
        ip: IpAddr,
        /// The host's port.
        port: u16,
        /// The container's side: `172.17.0.2:80/tcp`.
        target: String,
        /// The system's words in lower case, as Go writes them.
        reason: String,
    },
    /// Something that isn't there yet.
    #[error("{0} is not implemented")]
    NotImplemented(String),
    /// The kernel refused a link, address, route or rule.
    #[error("cannot {action}")]
    Kernel {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file could not be read or written.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The record store failed.
    #[error("cannot access network records")]
    Metadata(#[from] corten_metadata::Error),
    /// A stored record can't be understood.
    #[error("cannot read the record of {0}")]
    Record(String, #[source] serde_json::Error),
}

impl Error {
    /// Which sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound(_) | Error::NoDriver(_) => ErrorKind::NotFound,
            Error::Ambiguous(..)
            | Error::Invalid(_)
            | Error::InvalidMac(_)
            | Error::InvalidProtocol(_)
            | Error::FixedAddress { .. } => ErrorKind::Invalid,
            Error::Exists(_) => ErrorKind::Conflict,
            Error::Predefined(_)
            | Error::RemovePredefined(_)
            | Error::InUse { .. }
            | Error::PoolOverlaps
            | Error::AddressInUse(_)
            | Error::AlreadyAttached { .. } => ErrorKind::Denied,
            Error::NotImplemented(_) => ErrorKind::NotImplemented,
            Error::PoolsExhausted
            | Error::NoAddress { .. }
            | Error::Publish { .. }
            | Error::PortAllocated { .. }
            | Error::PortsExhausted
            | Error::BindPort { .. }
            | Error::Kernel { .. }
            | Error::Io { .. }
            | Error::Metadata(_)
            | Error::Record(..) => ErrorKind::Internal,
        }
    }

    pub(crate) fn kernel<E>(action: impl Into<String>) -> impl FnOnce(E) -> Error
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let action = action.into();
        move |source| Error::Kernel { action, source: Box::new(source) }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source }
    }
}
