//! Forgetting tracked connections.
//!
//! Where a packet's destination is translated to is decided once per connection, and a UDP "connection" lives as long as its
//! packets come. One that began before a port was published would never reach the container. See
//! `linux/netfilter/nfnetlink_conntrack.h`.

use super::Error;
use super::connection::{Connection, refused};
use super::wire::{self, ACK, Buffer, DUMP, REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::net::Ipv4Addr;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const IPV4_HEADER: [u8; 4] = [2, 0, 0, 0];
const TUPLE_ORIGINAL: u16 = 1;
const ZONE: u16 = 18;
const UDP: u8 = 17;

/// What identifies a connection: its first direction's addresses as the kernel wrote them, and its zone.
struct Tracked {
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Forgets all UDP connections that were opened to one of these ports, at the address beside it or, if that is `0.0.0.0`, at
/// any. Answers how many there were.
///
/// # Errors
/// Whatever the kernel answers; one that ended meanwhile is no error.
pub fn forget_udp(ports: &[(Ipv4Addr, u16)]) -> Result<usize, Error> {
    if ports.is_empty() {
        return Ok(0);
    }
    let mut connection = Connection::open(NETLINK_NETFILTER)?;
    let mut request = Buffer::default();
    let open = request.begin_message(GET, REQUEST | DUMP, 0);
    request.raw(&IPV4_HEADER);
    request.end_message(open);
    let read =
        |message: &wire::Message<'_>| Ok(message.payload.get(4..).and_then(|attributes| select(attributes, ports)));
    let found = connection.dump("list tracked connections", &request, read)?;
    for tracked in &found {
        delete(&mut connection, tracked)?;
    }
    Ok(found.len())
}

fn select(attributes: &[u8], ports: &[(Ipv4Addr, u16)]) -> Option<Tracked> {
    let original = wire::attribute(attributes, TUPLE_ORIGINAL)?;
    let address: [u8; 4] = wire::attribute(wire::attribute(original, 1)?, 2)?.try_into().ok()?;
    let transport = wire::attribute(original, 2)?;
    let port: [u8; 2] = wire::attribute(transport, 3)?.try_into().ok()?;
    let (address, port) = (Ipv4Addr::from(address), u16::from_be_bytes(port));
    let wanted = |(ip, wanted): &(Ipv4Addr, u16)| *wanted == port && (ip.is_unspecified() || *ip == address);
    let udp = wire::attribute(transport, 1) == Some(&[UDP]);
    (udp && ports.iter().any(wanted))
        .then(|| Tracked { original: original.to_vec(), zone: wire::attribute(attributes, ZONE).map(<[u8]>::to_vec) })
}

fn delete(connection: &mut Connection, tracked: &Tracked) -> Result<(), Error> {
    let mut request = Buffer::default();
    let open = request.begin_message(DELETE, REQUEST | ACK, 0);
    request.raw(&IPV4_HEADER);
    let tuple = request.begin_nested(TUPLE_ORIGINAL);
    request.raw(&tracked.original);
    request.end(tuple);
    if let Some(zone) = &tracked.zone {
        request.attr(ZONE, zone);
    }
    request.end_message(open);
    connection.send(&request)?;
    let answers = connection.queued_answers()?;
    match answers.into_iter().find(|answer| answer.errno != 0) {
        None => Ok(()),
        Some(answer) => match refused("forget a connection".to_owned(), answer.errno, answer.detail) {
            error if error.is_missing() => Ok(()),
            error => Err(error),
        },
    }
}
