//! A transaction: the requests between a begin and an end message.

use super::expr::{Expr, Verdict, write_value};
use super::{IPV4_HEADER, message_type};
use crate::netlink::wire::{ACK, APPEND, Buffer, CREATE, EXCL, Open, REQUEST};

const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DEL_ELEMENT: u16 = 14;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;

/// An attribute holds 64 kB at most, an element here takes about 60 bytes.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// Where a base chain sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Everything that comes in.
    Prerouting = 0,
    /// What is passed on to another link.
    Forward = 2,
    /// What this host sends.
    Output = 3,
    /// Everything that leaves.
    Postrouting = 4,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Translate addresses.
    Nat,
}

/// A chain: a base chain if it has a hook, else one to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// The kind, hook and priority of a base chain; its policy is always to accept.
    pub base: Option<(ChainKind, Hook, i32)>,
}

/// The type of one field of a key or of map data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// An IPv4 address.
    Ipv4,
    /// A transport protocol's number.
    Protocol,
    /// A port, in network byte order.
    Port,
    /// A link's name, padded with zeros to 16 bytes.
    LinkName,
}

impl FieldType {
    /// The number by which nft(8) knows the type when it prints the set.
    fn number(self) -> u32 {
        match self {
            FieldType::Ipv4 => 7,
            FieldType::Protocol => 12,
            FieldType::Port => 13,
            FieldType::LinkName => 41,
        }
    }

    fn len(self) -> u32 {
        match self {
            FieldType::Ipv4 => 4,
            FieldType::Protocol => 1,
            FieldType::Port => 2,
            FieldType::LinkName => 16,
        }
    }
}

/// A set, or a map if it has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// The fields of its keys.
    pub key: &'a [FieldType],
    /// The fields of a map's data.
    pub data: &'a [FieldType],
    /// Whether its elements are ranges, given as a first key and an end.
    pub intervals: bool,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The data's bytes; empty in sets.
    pub data: Vec<u8>,
    /// Whether the key is the first one *behind* a range.
    pub interval_end: bool,
}

impl Element {
    /// An element of a set.
    pub fn key(key: impl Into<Vec<u8>>) -> Element {
        Element { key: key.into(), data: Vec::new(), interval_end: false }
    }

    /// An element of a map.
    pub fn map(key: impl Into<Vec<u8>>, data: impl Into<Vec<u8>>) -> Element {
        Element { key: key.into(), data: data.into(), interval_end: false }
    }
}

/// A transaction for tables of the family ip.
#[derive(Debug)]
pub struct Batch {
    buffer: Buffer,
    requests: Vec<String>,
    last: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

impl Batch {
    /// An empty transaction.
    pub fn new() -> Batch {
        let mut batch = Batch { buffer: Buffer::default(), requests: Vec::new(), last: 0 };
        batch.mark(BEGIN, 0);
        batch.requests.push("begin a transaction".to_owned());
        batch
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.requests.len() == 1
    }

    /// Makes a table unless it is there.
    pub fn add_table(&mut self, table: &str) {
        let open = self.begin(NEW_TABLE, CREATE, format!("add table {table}"));
        self.buffer.attr_str(1, table);
        self.buffer.end_message(open);
    }

    /// Deletes a table with everything in it; it must be there.
    pub fn delete_table(&mut self, table: &str) {
        let open = self.begin(DEL_TABLE, 0, format!("delete table {table}"));
        self.buffer.attr_str(1, table);
        self.buffer.end_message(open);
    }

    /// Makes a chain.
    pub fn add_chain(&mut self, table: &str, chain: &Chain<'_>) {
        let open = self.begin(NEW_CHAIN, CREATE, format!("add chain {table} {}", chain.name));
        self.buffer.attr_str(1, table);
        self.buffer.attr_str(3, chain.name);
        if let Some((kind, hook, priority)) = chain.base {
            let nested = self.buffer.begin_nested(4);
            self.buffer.attr_be32(1, hook as u32);
            self.buffer.attr_be32(2, priority.cast_unsigned());
            self.buffer.end(nested);
            self.buffer.attr_be32(5, 1);
            self.buffer.attr_str(7, if kind == ChainKind::Nat { "nat" } else { "filter" });
        }
        self.buffer.end_message(open);
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, table: &str, set: &Set<'_>) {
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        let id = u32::try_from(self.requests.len()).expect("a transaction has less than 2^32 requests");
        let open = self.begin(NEW_SET, CREATE | EXCL, format!("add set {table} {}", set.name));
        self.buffer.attr_str(1, table);
        self.buffer.attr_str(2, set.name);
        let flags = if set.intervals { INTERVAL } else { 0 } | if set.data.is_empty() { 0 } else { MAP };
        self.buffer.attr_be32(3, flags);
        let (kind, len) = field_type(set.key);
        self.buffer.attr_be32(4, kind);
        self.buffer.attr_be32(5, len);
        if !set.data.is_empty() {
            let (kind, len) = field_type(set.data);
            self.buffer.attr_be32(6, kind);
            self.buffer.attr_be32(7, len);
        }
        self.buffer.attr_be32(10, id);
        self.buffer.end_message(open);
    }

    /// Appends a rule to a chain; the comment is what `nft list` shows.
    pub fn add_rule(&mut self, table: &str, chain: &str, comment: &str, expressions: &[Expr]) {
        let open = self.begin(NEW_RULE, CREATE | APPEND, format!("add rule {table} {chain} ({comment})"));
        self.buffer.attr_str(1, table);
        self.buffer.attr_str(2, chain);
        let nested = self.buffer.begin_nested(4);
        for expression in expressions {
            expression.write(&mut self.buffer);
        }
        self.buffer.end(nested);
        self.buffer.attr(7, &comment_data(comment));
        self.buffer.end_message(open);
    }

    /// Adds elements; one that is already there with the same data is no error.
    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(NEW_ELEMENT, CREATE, "add elements to", table, set, elements);
    }

    /// Deletes elements, which all must be there.
    pub fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(DEL_ELEMENT, 0, "delete elements of", table, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, what: &str, table: &str, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let open = self.begin(kind, flags, format!("{what} {table} {set}"));
            self.buffer.attr_str(1, table);
            self.buffer.attr_str(2, set);
            let list = self.buffer.begin_nested(3);
            for element in chunk {
                let nested = self.buffer.begin_nested(1);
                if element.interval_end {
                    self.buffer.attr_be32(3, 1);
                }
                write_value(&mut self.buffer, 1, &element.key);
                if !element.data.is_empty() {
                    write_value(&mut self.buffer, 2, &element.data);
                }
                self.buffer.end(nested);
            }
            self.buffer.end(list);
            self.buffer.end_message(open);
        }
    }

    /// The whole transaction as bytes.
    pub(super) fn finished(&self) -> Buffer {
        let mut end = Batch { buffer: Buffer::default(), requests: Vec::new(), last: 0 };
        end.buffer.raw(self.buffer.bytes());
        end.buffer.add_flags(self.last, ACK);
        end.mark(END, u32::try_from(self.requests.len()).unwrap_or(u32::MAX));
        end.buffer
    }

    /// The number of the request that asks for an acknowledgement.
    pub(super) fn last_seq(&self) -> u32 {
        u32::try_from(self.requests.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn describe(&self, seq: u32) -> String {
        self.requests.get(seq as usize).cloned().unwrap_or_else(|| "end a transaction".to_owned())
    }

    fn begin(&mut self, kind: u16, flags: u16, description: String) -> Open {
        let seq = u32::try_from(self.requests.len()).expect("a transaction has less than 2^32 requests");
        self.last = self.buffer.bytes().len();
        self.requests.push(description);
        let open = self.buffer.begin_message(message_type(kind), REQUEST | flags, seq);
        self.buffer.raw(&IPV4_HEADER);
        open
    }

    fn mark(&mut self, kind: u16, seq: u32) {
        let open = self.buffer.begin_message(kind, REQUEST, seq);
        // struct nfgenmsg: the resource id names the subsystem nf_tables, in network byte order.
        self.buffer.raw(&[0, 0, 0, 10]);
        self.buffer.end_message(open);
    }
}

/// Type number and length of a field or of several put together.
fn field_type(fields: &[FieldType]) -> (u32, u32) {
    match fields {
        [field] => (field.number(), field.len()),
        fields => fields
            .iter()
            .fold((0, 0), |(number, len), field| (number << 6 | field.number(), len + field.len().next_multiple_of(4))),
    }
}

/// A comment as nft(8) stores it in a rule's user data: type 0, length, text with its zero.
fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(120)];
    let mut data = vec![0, u8::try_from(text.len() + 1).expect("at most 121")];
    data.extend_from_slice(text);
    data.push(0);
    data
}

impl From<Verdict> for Expr {
    fn from(verdict: Verdict) -> Expr {
        Expr::Verdict(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::{attribute, messages, u32_at};

    #[test]
    fn a_transaction_is_framed_and_asks_once() {
        let mut batch = Batch::new();
        assert!(batch.is_empty());
        batch.add_table("t");
        batch.delete_table("t");
        let bytes = batch.finished();
        let found: Vec<_> = messages(bytes.bytes()).collect();
        let expect = [(BEGIN, 1, 0), (0x0a00, 0x401, 1), (0x0a02, 5, 2), (END, 1, 3)];
        assert_eq!(found.iter().map(|m| (m.kind, m.flags, m.seq)).collect::<Vec<_>>(), expect);
        assert_eq!(batch.describe(2), "delete table t");
        assert_eq!(batch.describe(3), "end a transaction");
    }

    #[test]
    fn set_types() {
        use FieldType::*;
        assert_eq!(field_type(&[Ipv4]), (7, 4));
        assert_eq!(field_type(&[LinkName, LinkName]), (41 << 6 | 41, 32));
        assert_eq!(field_type(&[Ipv4, Protocol, Port]), ((7 << 6 | 12) << 6 | 13, 12));
    }

    #[test]
    fn many_elements_take_several_messages() {
        let mut batch = Batch::new();
        let elements: Vec<_> = (0..1000u32).map(|n| Element::key(n.to_be_bytes())).collect();
        batch.add_elements("t", "s", &elements);
        let bytes = batch.finished();
        let found: Vec<_> = messages(bytes.bytes()).collect();
        assert_eq!(found.len(), 2 + 3);
        let list = attribute(&found[1].payload[4..], 3).unwrap();
        let first = attribute(attribute(attribute(list, 1).unwrap(), 1).unwrap(), 1).unwrap();
        assert_eq!(u32_at(first, 0), Some(0));
    }
}
