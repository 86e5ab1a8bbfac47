//! A network device carried into another network namespace, with a new name and its lasting addresses.
//!
//! The kernel takes a device down and its addresses away when it changes its namespace; hardware address, MTU and queues stay.
//! `rtnetlink(7)`; the runtime specification 1.3, config-linux.md "Network Devices".

use std::os::fd::{AsRawFd, BorrowedFd};

use super::wire::{self, ACK, Buffer, CREATE, DUMP, EXCL, REQUEST};
use super::{Error, Route, netns};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_FLAGS: u16 = 8;
const PERMANENT: u32 = 0x80;
const UNIVERSE: u8 = 0;
/// IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST. The label would be the old name, and the times are for what does not last.
const CARRIED: [u16; 3] = [1, 2, 4];

/// An address of a device as the kernel's message has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Carried {
    family: u8,
    prefix_len: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Moves the device `name` of the caller's namespace into `target`, where it is called `new_name` (a template where it contains
/// `%d`), has its permanent addresses of global scope, and is up.
///
/// # Errors
/// [`Error::is_missing`] holds if there is no such device, [`Error::is_exists`] if `target` has one of that name.
pub fn carry(name: &str, new_name: &str, target: BorrowedFd<'_>) -> Result<(), Error> {
    let mut here = Route::open()?;
    let index = here.index(name)?;
    let addresses = here.query("list addresses", &dump_of_addresses(), |payload| address(payload, index))?;
    // The kernel would move it first and find out then.
    let taken: Result<bool, Error> =
        netns::run_in(target, || Ok(Route::open()?.index(new_name).is_ok())).map_err(Error::Namespace)?;
    if taken? {
        let source = std::io::Error::from_raw_os_error(libc::EEXIST);
        return Err(Error::Refused { request: format!("move link {name} to {new_name}"), detail: None, source });
    }
    let moved = format!("move link {name} to {new_name}");
    here.query(&moved, &move_link(index, new_name, target), |_| None::<()>)?;
    let arrive = || -> Result<(), Error> {
        let mut there = Route::open()?;
        let links = there.links()?;
        let mut fitting = links.iter().filter(|link| fits(&link.name, new_name) && !link.up);
        // It keeps its index unless that is taken.
        let found = fitting.clone().find(|link| link.index == index).or_else(|| fitting.next());
        let index = found.map_or_else(|| there.index(new_name), |link| Ok(link.index))?;
        for address in &addresses {
            there.query(&format!("add an address to {new_name}"), &add_address(address, index), |_| None::<()>)?;
        }
        there.query(&format!("set link {new_name} up"), &set_up(index), |_| None::<()>)?;
        Ok(())
    };
    netns::run_in(target, arrive).map_err(Error::Namespace)?
}

/// Whether the kernel may have made `name` from a template.
fn fits(name: &str, template: &str) -> bool {
    match template.split_once("%d") {
        None => name == template,
        Some((before, after)) => {
            let number = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        }
    }
}

fn dump_of_addresses() -> Buffer {
    message(GET_ADDRESS, DUMP, &[0; 8], &[])
}

fn move_link(index: u32, new_name: &str, target: BorrowedFd<'_>) -> Buffer {
    let mut name = new_name.as_bytes().to_vec();
    name.push(0);
    let target = target.as_raw_fd().to_ne_bytes();
    message(NEW_LINK, ACK, &link_header(index, false), &[(IFLA_IFNAME, &name), (IFLA_NET_NS_FD, &target)])
}

fn set_up(index: u32) -> Buffer {
    message(NEW_LINK, ACK, &link_header(index, true), &[])
}

fn add_address(address: &Carried, index: u32) -> Buffer {
    let mut header = vec![address.family, address.prefix_len, 0, UNIVERSE];
    header.extend(index.to_ne_bytes());
    let attributes: Vec<(u16, &[u8])> = address.attributes.iter().map(|(kind, value)| (*kind, &**value)).collect();
    message(NEW_ADDRESS, ACK | CREATE | EXCL, &header, &attributes)
}

/// `struct ifinfomsg`.
fn link_header(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    // IFF_UP, as flag and as what is to change.
    header[8..12].copy_from_slice(&u32::from(up).to_ne_bytes());
    header[12..16].copy_from_slice(&u32::from(up).to_ne_bytes());
    header
}

fn message(kind: u16, flags: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Buffer {
    let mut request = Buffer::default();
    let open = request.begin_message(kind, REQUEST | flags, 0);
    request.raw(header);
    for (kind, value) in attributes {
        request.attr(*kind, value);
    }
    request.end_message(open);
    request
}

/// `struct ifaddrmsg` and what follows, if it is one of this link that is to be carried.
fn address(payload: &[u8], wanted: u32) -> Option<Carried> {
    let attributes = payload.get(8..)?;
    let (family, prefix_len, flags, scope) = (*payload.first()?, *payload.get(1)?, *payload.get(2)?, *payload.get(3)?);
    let flags = wire::attribute(attributes, IFA_FLAGS).and_then(|it| wire::u32_at(it, 0)).unwrap_or(flags.into());
    if wire::u32_at(payload, 4)? != wanted || flags & PERMANENT == 0 || scope != UNIVERSE {
        return None;
    }
    let carried = CARRIED.iter().filter_map(|kind| Some((*kind, wire::attribute(attributes, *kind)?.to_vec())));
    Some(Carried { family, prefix_len, attributes: carried.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(index: u8, flags: u8, scope: u8) -> Option<Carried> {
        let mut buffer = Buffer::default();
        let open = buffer.begin_message(NEW_ADDRESS, 0, 0);
        buffer.raw(&[2, 24, flags, scope, index, 0, 0, 0]);
        buffer.attr(2, &[10, 0, 0, 9]);
        buffer.attr(3, b"eth0\0");
        buffer.end_message(open);
        let found = wire::messages(buffer.bytes()).next().unwrap().payload.to_vec();
        address(&found, u32::from_ne_bytes([7, 0, 0, 0]))
    }

    #[test]
    fn lasting_addresses_of_the_link_are_carried() {
        let carried = Carried { family: 2, prefix_len: 24, attributes: vec![(2, vec![10, 0, 0, 9])] };
        assert_eq!(answer(7, 0x80, 0), Some(carried));
        for (index, flags, scope) in [(8, 0x80, 0), (7, 0, 0), (7, 0x80, 253)] {
            assert_eq!(answer(index, flags, scope), None);
        }
    }

    #[test]
    fn names_from_templates() {
        assert!(fits("eth0", "eth0") && fits("net12", "net%d") && fits("a3b", "a%db"));
        assert!(!fits("eth1", "eth0") && !fits("net", "net%d") && !fits("netx", "net%d"));
    }
}
