//! The socket: applies batches and looks links, addresses and routes up.

use super::connection::Connection;
use super::wire::{self, ACK, Buffer, DUMP, REQUEST};
use super::{Batch, Error};
use netlink_sys::protocols::NETLINK_ROUTE;
use std::net::Ipv4Addr;

const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const AF_INET: u8 = 2;

/// A link as far as this project asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// The index of its bridge, or 0.
    pub master: u32,
    /// Its group, 0 by default.
    pub group: u32,
    /// Its largest packet.
    pub mtu: u32,
    /// Its hardware address; empty for links without.
    pub mac: Vec<u8>,
    /// The kind of virtual link (`bridge`, `veth`); empty for others.
    pub kind: String,
}

/// An IPv4 address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub index: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its subnet's prefix.
    pub prefix_len: u8,
}

/// An IPv4 route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where to.
    pub destination: Ipv4Addr,
    /// The length of the destination's prefix; 0 is a default route.
    pub prefix_len: u8,
    /// The routing table.
    pub table: u32,
    /// The router, if any.
    pub gateway: Option<Ipv4Addr>,
    /// The link's index, or 0.
    pub index: u32,
}

/// An rtnetlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Route {
    connection: Connection,
}

impl Route {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Route, Error> {
        Ok(Route { connection: Connection::open(NETLINK_ROUTE)? })
    }

    /// Sends all requests of a batch at once; answers the first failure. The kernel does the others all the same.
    ///
    /// # Errors
    /// The first request's that was refused.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), Error> {
        self.apply_each(batch)?.into_iter().collect()
    }

    /// As [`apply`](Route::apply), but with one result per request.
    ///
    /// # Errors
    /// Only if nothing could be sent or received.
    pub fn apply_each(&mut self, batch: &Batch) -> Result<Vec<Result<(), Error>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.connection.send(batch.buffer())?;
        let (answers, complete) = self.connection.answers(|answers| answers.len() == batch.len())?;
        if !complete {
            // Late answers must not be taken for those of the next batch.
            self.connection = Connection::open(NETLINK_ROUTE)?;
        }
        Ok(batch.results(answers, complete))
    }

    /// The index of the link of this name.
    ///
    /// # Errors
    /// A refusal for which [`Error::is_missing`] holds if there is no such link.
    pub fn index(&self, name: &str) -> Result<u32, Error> {
        rustix::net::netdevice::name_to_index(&self.connection, name).map_err(|errno| Error::Refused {
            request: format!("look up link {name}"),
            detail: None,
            source: errno.into(),
        })
    }

    /// The link of this name.
    ///
    /// # Errors
    /// As [`links`](Route::links).
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let index = match self.index(name) {
            Ok(index) => index,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut request = Buffer::default();
        let open = request.begin_message(GET_LINK, REQUEST | ACK, 0);
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        request.raw(&header);
        request.end_message(open);
        match self.connection.dump("look up link", &request, |message| Ok(link(message.payload))) {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.dump("list links", GET_LINK, &[0; 16], link)
    }

    /// All IPv4 addresses of the namespace.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        self.dump("list addresses", GET_ADDRESS, &[AF_INET, 0, 0, 0, 0, 0, 0, 0], address)
    }

    /// All IPv4 routes of the namespace, of all tables.
    ///
    /// # Errors
    /// Whatever the kernel answers.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, Error> {
        let mut header = [0; 12];
        header[0] = AF_INET;
        self.dump("list routes", GET_ROUTE, &header, route)
    }

    /// One request, and what `read` makes of the answers.
    pub(super) fn query<T>(
        &mut self,
        what: &str,
        request: &Buffer,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.connection.dump(what, request, |message| Ok(read(message.payload)))
    }

    fn dump<T>(&mut self, what: &str, kind: u16, header: &[u8], read: fn(&[u8]) -> Option<T>) -> Result<Vec<T>, Error> {
        let mut request = Buffer::default();
        let open = request.begin_message(kind, REQUEST | DUMP, 0);
        request.raw(header);
        request.end_message(open);
        self.connection.dump(what, &request, |message| Ok(read(message.payload)))
    }
}

fn link(payload: &[u8]) -> Option<Link> {
    let number = |attributes: &[u8], kind| wire::attribute(attributes, kind).and_then(|value| wire::u32_at(value, 0));
    let attributes = payload.get(16..)?;
    let info = wire::attribute(attributes, 18).unwrap_or_default();
    Some(Link {
        index: wire::u32_at(payload, 4)?,
        name: wire::text(wire::attribute(attributes, 3)?),
        up: wire::u32_at(payload, 8)? & 1 != 0,
        master: number(attributes, 10).unwrap_or(0),
        group: number(attributes, 27).unwrap_or(0),
        mtu: number(attributes, 4).unwrap_or(0),
        mac: wire::attribute(attributes, 1).unwrap_or_default().to_vec(),
        kind: wire::attribute(info, 1).map(wire::text).unwrap_or_default(),
    })
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

fn address(payload: &[u8]) -> Option<Address> {
    let attributes = payload.get(8..)?;
    // On point-to-point links the "address" is the other side's and the "local" one is ours.
    let own = wire::attribute(attributes, 2).or_else(|| wire::attribute(attributes, 1))?;
    Some(Address { index: wire::u32_at(payload, 4)?, address: ipv4(own)?, prefix_len: *payload.get(1)? })
}

fn route(payload: &[u8]) -> Option<RouteEntry> {
    let attributes = payload.get(12..)?;
    let number = |kind| wire::attribute(attributes, kind).and_then(|value| wire::u32_at(value, 0));
    Some(RouteEntry {
        destination: wire::attribute(attributes, 1).and_then(ipv4).unwrap_or(Ipv4Addr::UNSPECIFIED),
        prefix_len: *payload.get(1)?,
        table: number(15).unwrap_or(u32::from(*payload.get(4)?)),
        gateway: wire::attribute(attributes, 5).and_then(ipv4),
        index: number(4).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_without_privileges() {
        let mut route = Route::open().unwrap();
        let lo = route.link("lo").unwrap().unwrap();
        assert_eq!((lo.name.as_str(), lo.kind.as_str()), ("lo", ""));
        assert!(route.links().unwrap().contains(&lo));
        assert_eq!(route.link("no-such-link").unwrap(), None);
        route.addresses().unwrap();
        route.routes().unwrap();
    }
}
