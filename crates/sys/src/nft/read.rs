//! Reading tables back: for recovery, and for tests that must not trust what was written.

use super::{IPV4_HEADER, message_type};
use crate::netlink::Error;
use crate::netlink::connection::Connection;
use crate::netlink::wire::{self, Buffer, DUMP, REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_ELEMENT: u16 = 13;

/// An element as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetElement {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// A map's data.
    pub data: Vec<u8>,
}

/// The names of all tables of the family ip.
///
/// # Errors
/// Whatever the kernel answers.
pub fn tables() -> Result<Vec<String>, Error> {
    dump("list tables", GET_TABLE, |_| {}, |attributes| wire::attribute(attributes, 1).map(wire::text))
}

/// The names of a table's chains.
///
/// # Errors
/// Whatever the kernel answers.
pub fn chains(table: &str) -> Result<Vec<String>, Error> {
    dump(
        "list chains",
        GET_CHAIN,
        |_| {},
        |attributes| {
            let of = wire::attribute(attributes, 1).map(wire::text)?;
            let name = wire::attribute(attributes, 3).map(wire::text)?;
            (of == table).then_some(name)
        },
    )
}

/// How many rules a table has.
///
/// # Errors
/// Whatever the kernel answers.
pub fn rule_count(table: &str) -> Result<usize, Error> {
    let rules = dump("list rules", GET_RULE, |_| {}, |attributes| wire::attribute(attributes, 1).map(wire::text))?;
    Ok(rules.iter().filter(|of| *of == table).count())
}

/// The elements of a set or map; of range sets, starts and ends alike.
///
/// # Errors
/// Whatever the kernel answers; [`Error::is_missing`] holds if there is no such set.
pub fn elements(table: &str, set: &str) -> Result<Vec<SetElement>, Error> {
    let select = |buffer: &mut Buffer| {
        buffer.attr_str(1, table);
        buffer.attr_str(2, set);
    };
    let lists = dump("list elements", GET_ELEMENT, select, |attributes| {
        Some(
            wire::attributes(wire::attribute(attributes, 3)?)
                .filter_map(|(_, value)| element(value))
                .collect::<Vec<_>>(),
        )
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn element(attributes: &[u8]) -> Option<SetElement> {
    let value = |kind| wire::attribute(attributes, kind).and_then(|data| wire::attribute(data, 1)).map(<[u8]>::to_vec);
    Some(SetElement { key: value(1)?, data: value(2).unwrap_or_default() })
}

fn dump<T>(
    what: &str,
    kind: u16,
    select: impl FnOnce(&mut Buffer),
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut request = Buffer::default();
    let open = request.begin_message(message_type(kind), REQUEST | DUMP, 0);
    request.raw(&IPV4_HEADER);
    select(&mut request);
    request.end_message(open);
    let mut connection = Connection::open(NETLINK_NETFILTER)?;
    connection.dump(what, &request, |message| Ok(message.payload.get(4..).and_then(&read)))
}
