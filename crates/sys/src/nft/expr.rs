//! Expressions: the instructions of a rule.

use crate::netlink::wire::Buffer;

/// What a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet passes this hook.
    Accept,
    /// The packet is gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// On with another chain, and back after it.
    Jump(String),
}

impl Verdict {
    pub(super) fn write(&self, buffer: &mut Buffer, kind: u16) {
        let code = match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Return => -5i32,
        };
        let data = buffer.begin_nested(kind);
        let verdict = buffer.begin_nested(2);
        buffer.attr_be32(1, code.cast_unsigned());
        if let Verdict::Jump(chain) = self {
            buffer.attr_str(2, chain);
        }
        buffer.end(verdict);
        buffer.end(data);
    }
}

/// A fact about the packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MetaKey {
    /// The name of the link it came in by, 16 bytes.
    InputName = 6,
    /// The name of the link it leaves by, 16 bytes.
    OutputName = 7,
    /// The transport protocol's number, 1 byte.
    TransportProtocol = 16,
    /// The kind of the link it came in by (`bridge`), 16 bytes.
    InputKind = 26,
    /// The kind of the link it leaves by, 16 bytes.
    OutputKind = 27,
}

/// A fact that connection tracking knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CtKey {
    /// The state as a bit, 4 bytes: see [`CtKey::ESTABLISHED`].
    State = 0,
    /// Status bits, 4 bytes: see [`CtKey::DESTINATION_TRANSLATED`].
    Status = 2,
}

impl CtKey {
    /// State bit: part of a known connection.
    pub const ESTABLISHED: u32 = 2;
    /// State bit: opened by a known connection.
    pub const RELATED: u32 = 4;
    /// Status bit: the destination was translated.
    pub const DESTINATION_TRANSLATED: u32 = 0x20;
}

/// Where a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadBase {
    /// The IP header.
    Network = 1,
    /// The TCP or UDP header.
    Transport = 2,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Comparison {
    /// Go on if equal.
    Equal = 0,
    /// Go on if different.
    NotEqual = 1,
}

/// The number of the `n`th 32-bit register.
pub const fn register32(n: u32) -> u32 {
    8 + n
}

/// One instruction. A comparison or look-up that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads a fact into a register.
    Meta {
        /// Which.
        key: MetaKey,
        /// Into which register.
        register: u32,
    },
    /// Loads what connection tracking knows.
    Ct {
        /// Which.
        key: CtKey,
        /// Into which register.
        register: u32,
    },
    /// Loads bytes of the packet.
    Payload {
        /// From where the offset counts.
        base: PayloadBase,
        /// The first byte.
        offset: u32,
        /// How many bytes.
        len: u32,
        /// Into which register.
        register: u32,
    },
    /// Loads the type (`RTN_LOCAL` is 2) of the packet's destination address, as the routing tables have it.
    DestinationType {
        /// Into which register.
        register: u32,
    },
    /// `register &= mask`.
    And {
        /// The register.
        register: u32,
        /// The mask, in the machine's byte order.
        mask: u32,
    },
    /// Compares a register with a value.
    Compare {
        /// The register.
        register: u32,
        /// How.
        with: Comparison,
        /// The bytes.
        value: Vec<u8>,
    },
    /// Looks a key up in a set or map.
    Lookup {
        /// The set.
        set: String,
        /// The key's first register.
        register: u32,
        /// For maps, where the data go.
        into: Option<u32>,
        /// Go on if the key is **not** there.
        inverted: bool,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// New destination: address and port from registers.
    DestinationNat {
        /// The register with the address.
        address: u32,
        /// The register with the port.
        port: u32,
    },
    /// New source: the address of the link that the packet leaves by.
    Masquerade,
}

impl Expr {
    pub(super) fn write(&self, buffer: &mut Buffer) {
        let element = buffer.begin_nested(1);
        buffer.attr_str(1, self.name());
        let data = buffer.begin_nested(2);
        self.write_data(buffer);
        buffer.end(data);
        buffer.end(element);
    }

    fn name(&self) -> &'static str {
        match self {
            Expr::Meta { .. } => "meta",
            Expr::Ct { .. } => "ct",
            Expr::Payload { .. } => "payload",
            Expr::DestinationType { .. } => "fib",
            Expr::And { .. } => "bitwise",
            Expr::Compare { .. } => "cmp",
            Expr::Lookup { .. } => "lookup",
            Expr::Verdict(_) => "immediate",
            Expr::DestinationNat { .. } => "nat",
            Expr::Masquerade => "masq",
        }
    }

    fn write_data(&self, buffer: &mut Buffer) {
        let numbers = |buffer: &mut Buffer, pairs: &[(u16, u32)]| {
            for (kind, value) in pairs {
                buffer.attr_be32(*kind, *value);
            }
        };
        match self {
            Expr::Meta { key, register } => numbers(buffer, &[(2, *key as u32), (1, *register)]),
            Expr::Ct { key, register } => numbers(buffer, &[(2, *key as u32), (1, *register)]),
            Expr::Payload { base, offset, len, register } => {
                numbers(buffer, &[(1, *register), (2, *base as u32), (3, *offset), (4, *len)]);
            }
            // Result 3 is the address type, flag 2 the destination address.
            Expr::DestinationType { register } => numbers(buffer, &[(1, *register), (2, 3), (3, 2)]),
            Expr::And { register, mask } => {
                numbers(buffer, &[(1, *register), (2, *register), (3, 4)]);
                write_value(buffer, 4, &mask.to_ne_bytes());
                write_value(buffer, 5, &[0; 4]);
            }
            Expr::Compare { register, with, value } => {
                numbers(buffer, &[(1, *register), (2, *with as u32)]);
                write_value(buffer, 3, value);
            }
            Expr::Lookup { set, register, into, inverted } => {
                buffer.attr_str(1, set);
                numbers(buffer, &[(2, *register), (5, u32::from(*inverted))]);
                if let Some(into) = into {
                    buffer.attr_be32(3, *into);
                }
            }
            Expr::Verdict(verdict) => {
                buffer.attr_be32(1, 0);
                verdict.write(buffer, 2);
            }
            // Type 1 is DNAT, family 2 IPv4.
            Expr::DestinationNat { address, port } => {
                numbers(buffer, &[(1, 1), (2, 2), (3, *address), (4, *address), (5, *port), (6, *port)]);
            }
            Expr::Masquerade => {}
        }
    }
}

/// A value inside its wrapping attribute.
pub(super) fn write_value(buffer: &mut Buffer, kind: u16, value: &[u8]) {
    let data = buffer.begin_nested(kind);
    buffer.attr(1, value);
    buffer.end(data);
}
