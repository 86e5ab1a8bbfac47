//! Netlink's framing: messages and nested attributes, written into one buffer and read back.
//!
//! ```text
//! nlmsghdr: len u32 | type u16 | flags u16 | seq u32 | port u32 | payload, padded to 4 bytes
//! nlattr:   len u16 | type u16 (bit 15: nested) | value, padded to 4 bytes
//! ```
//!
//! Header fields are in the machine's byte order. See `Documentation/userspace-api/netlink/intro.rst` of the kernel.

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR` in an answer: the dump is not consistent.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED` in an acknowledgement: the request isn't repeated in it.
pub(crate) const CAPPED: u16 = 0x100;
/// `NLMSG_ERROR`.
pub(crate) const TYPE_ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(crate) const TYPE_DONE: u16 = 3;

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

/// A buffer of whole messages.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
}

/// Where an unfinished message or attribute begins.
#[derive(Debug)]
#[must_use]
pub(crate) struct Open(usize);

impl Buffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a message; its length is known at [`end_message`](Buffer::end_message).
    pub(crate) fn begin_message(&mut self, kind: u16, flags: u16, seq: u32) -> Open {
        let open = Open(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        open
    }

    pub(crate) fn end_message(&mut self, open: Open) {
        let len = u32::try_from(self.bytes.len() - open.0).expect("a message of this crate is below 4 GB");
        self.bytes[open.0..open.0 + 4].copy_from_slice(&len.to_ne_bytes());
        self.pad();
    }

    /// Appends raw bytes to the open message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Room for `len` zero bytes in the open message.
    pub(crate) fn space(&mut self, len: usize) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        &mut self.bytes[start..]
    }

    /// Sets flags of the message that begins at `offset`.
    pub(crate) fn add_flags(&mut self, offset: usize, flags: u16) {
        let old = u16::from_ne_bytes([self.bytes[offset + 6], self.bytes[offset + 7]]);
        self.bytes[offset + 6..offset + 8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let open = self.begin_attr(kind);
        self.bytes.extend_from_slice(value);
        self.end(open);
    }

    /// A text with its closing zero.
    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) {
        let open = self.begin_attr(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.end(open);
    }

    /// A number in network byte order, as nfnetlink has them.
    pub(crate) fn attr_be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn begin_nested(&mut self, kind: u16) -> Open {
        self.begin_attr(kind | NESTED)
    }

    pub(crate) fn end(&mut self, open: Open) {
        let len = u16::try_from(self.bytes.len() - open.0).expect("an attribute of this crate is below 64 kB");
        self.bytes[open.0..open.0 + 2].copy_from_slice(&len.to_ne_bytes());
        self.pad();
    }

    fn begin_attr(&mut self, kind: u16) -> Open {
        let open = Open(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        open
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) payload: &'a [u8],
}

/// Splits a datagram into messages; ends at the first malformed one.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        if len < HEADER || len > bytes.len() {
            return None;
        }
        let whole = &bytes[..len];
        bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
        Some(Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            seq: u32_at(whole, 8)?,
            payload: &whole[HEADER..],
        })
    })
}

/// Splits bytes into attributes (type without its flag bits, value); ends at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        if len < 4 || len > bytes.len() {
            return None;
        }
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = &bytes[4..len];
        bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A zero-terminated text as far as it is UTF-8.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An acknowledgement: the error number (0 is success) and the kernel's own words where it has some.
pub(crate) fn acknowledgement(message: &Message<'_>) -> Option<(i32, Option<String>)> {
    const TLVS: u16 = 0x200;
    const WORDS: u16 = 1;
    let code = u32_at(message.payload, 0)?.cast_signed();
    let request_len = u32_at(message.payload, 4)? as usize;
    let skip = if message.flags & CAPPED != 0 { HEADER } else { request_len.next_multiple_of(4) };
    let rest = message.payload.get(4 + skip..).unwrap_or_default();
    let words = if message.flags & TLVS != 0 { attribute(rest, WORDS).map(text) } else { None };
    Some((-code, words.filter(|words| !words.is_empty())))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = Buffer::default();
        for seq in [7, 8] {
            let message = buffer.begin_message(0x10, REQUEST | ACK, seq);
            buffer.raw(&[1, 2]);
            let nested = buffer.begin_nested(3);
            buffer.attr_str(1, "veth");
            buffer.attr_be32(2, 0x0102_0304);
            buffer.end(nested);
            buffer.end_message(message);
        }
        let found: Vec<_> = messages(buffer.bytes()).collect();
        assert_eq!(found.iter().map(|m| (m.kind, m.flags, m.seq)).collect::<Vec<_>>(), [(0x10, 5, 7), (0x10, 5, 8)]);
        let nested = attribute(&found[0].payload[4..], 3).unwrap();
        assert_eq!(text(attribute(nested, 1).unwrap()), "veth");
        assert_eq!(attribute(nested, 2).unwrap(), [1, 2, 3, 4]);
        assert_eq!(attribute(nested, 9), None);
    }

    #[test]
    fn malformed_bytes_end_the_walk() {
        assert_eq!(messages(&[0; 15]).count(), 0);
        assert_eq!(messages(&[255; 64]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 0]).count(), 0);
        assert_eq!(attributes(&[5, 0, 1, 0, 7]).collect::<Vec<_>>(), [(1, &[7u8][..])]);
    }

    #[test]
    fn acknowledgements() {
        let mut buffer = Buffer::default();
        let message = buffer.begin_message(TYPE_ERROR, CAPPED | 0x200, 3);
        buffer.raw(&(-17i32).to_ne_bytes());
        buffer.raw(&[0; 16]);
        buffer.attr_str(1, "File is there");
        buffer.end_message(message);
        let message = messages(buffer.bytes()).next().unwrap();
        assert_eq!(acknowledgement(&message), Some((17, Some("File is there".to_owned()))));
    }
}
