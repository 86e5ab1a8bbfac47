//! DNS messages, as much as a look-up of addresses needs: RFC 1035, section 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn record_type(self) -> u16 {
        match self {
            Family::V4 => 1,
            Family::V6 => 28,
        }
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name's addresses, perhaps none of this family.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// The answer did not fit: ask again over TCP.
    Truncated,
    /// The server can't tell.
    Failed,
}

const INTERNET: u16 = 1;
const CNAME: u16 = 5;
const RECURSION_DESIRED: u16 = 0x0100;

/// A query; none for a name that DNS can't carry.
pub(crate) fn query(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(name.len() + 18);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    let name = name.trim_end_matches('.');
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(family.record_type().to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    Some(message)
}

/// Reads the answer to `query`; none if it is not that or is malformed.
pub(crate) fn answer(query: &[u8], message: &[u8]) -> Option<Answer> {
    let question = query.get(12..)?;
    let flags = word(message, 2)?;
    let is_response = flags & 0x8000 != 0;
    if message.get(..2)? != query.get(..2)? || !is_response || word(message, 4)? != 1 {
        return None;
    }
    let mut at = 12 + question.len();
    // Servers may answer in another case than they were asked in.
    if !message.get(12..at)?.eq_ignore_ascii_case(question) {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Answer::Truncated);
    }
    match flags & 0xf {
        0 => {}
        3 => return Some(Answer::NoName),
        _ => return Some(Answer::Failed),
    }
    let wanted = word(question, question.len() - 4)?;
    // A resolver sends the chain of aliases in order; only what the name leads to counts.
    let mut name = read_name(message, 12)?.0;
    let mut addresses = Vec::new();
    for _ in 0..word(message, 6)? {
        let (owner, after) = read_name(message, at)?;
        let (kind, class) = (word(message, after)?, word(message, after + 2)?);
        let start = after + 10;
        at = start + usize::from(word(message, after + 8)?);
        let data = message.get(start..at)?;
        if class != INTERNET || owner != name {
            continue;
        }
        if kind == CNAME {
            name = read_name(message, start)?.0;
        } else if kind == wanted {
            addresses.push(address(data)?);
        }
    }
    Some(Answer::Addresses(addresses))
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(data).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// The name at `at` in lower case, and where what follows it begins. A pointer leads backwards only, so that this ends.
fn read_name(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let mut end = None;
    let mut at = at;
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=63 => {
                name.extend(message.get(at + 1..at + 1 + length)?.to_ascii_lowercase());
                name.push(b'.');
                at += 1 + length;
            }
            0xc0.. => {
                let target = usize::from(word(message, at)? & 0x3fff);
                if target >= at || name.len() > 255 {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = target;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record: owner (none for the question's), type, data.
    pub(crate) type Record<'a> = (Option<&'a [u8]>, u16, &'a [u8]);

    /// A server's answer to `query` with these records.
    pub(crate) fn reply(query: &[u8], flags: u16, records: &[Record]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, data) in records {
            message.extend(owner.unwrap_or(b"\xc0\x0c"));
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn answers() {
        let query = query(7, "www.Example.com", Family::V4).unwrap();
        let check = |message: Vec<u8>, expect: Option<Answer>| assert_eq!(answer(&query, &message), expect);
        let one = [192, 0, 2, 1];
        let addresses = |list: &[[u8; 4]]| Some(Answer::Addresses(list.iter().map(|&a| a.into()).collect()));
        check(reply(&query, 0, &[(None, 1, &one)]), addresses(&[one]));
        check(reply(&query, 0, &[]), addresses(&[]));
        check(reply(&query, 3, &[]), Some(Answer::NoName));
        check(reply(&query, 2, &[]), Some(Answer::Failed));
        check(reply(&query, 0x0200, &[]), Some(Answer::Truncated));
        // An alias, then its address; an address of somebody else.
        let alias = b"\x01a\x03net\x00";
        check(reply(&query, 0, &[(None, 5, alias), (Some(alias), 1, &one)]), addresses(&[one]));
        check(reply(&query, 0, &[(Some(alias), 1, &one)]), addresses(&[]));
        // Another id, no response, other question, nonsense.
        let mut other = reply(&query, 0, &[]);
        other[0] ^= 1;
        check(other, None);
        check(query.clone(), None);
        check(reply(&query, 0, &[(Some(b"\xc0\xff"), 1, &one)]), None);
        check(reply(&query, 0, &[(None, 1, b"abc")]), None);
        check(Vec::new(), None);
    }

    #[test]
    fn pointers_can_not_loop() {
        let query = query(7, "a.b", Family::V4).unwrap();
        let at = query.len() as u16;
        let itself = (0xc000 | at).to_be_bytes();
        assert_eq!(answer(&query, &reply(&query, 0, &[(Some(&itself), 1, &[1, 2, 3, 4])])), None);
    }

    #[test]
    fn names_that_do_not_fit() {
        for name in ["", ".", "a..b", &"x".repeat(64), &"abc.".repeat(70)] {
            assert_eq!(query(1, name, Family::V6), None, "{name}");
        }
        assert!(query(1, "absolute.example.", Family::V6).is_some());
    }

    proptest! {
        #[test]
        fn never_panics(tail in prop::collection::vec(any::<u8>(), 0..200), changes in prop::collection::vec((0usize..60, any::<u8>()), 0..6)) {
            let query = query(7, "www.example.com", Family::V4).unwrap();
            answer(&query, &tail);
            let mut message = reply(&query, 0, &[(None, 5, b"\x01a\xc0\x0c"), (Some(b"\x01a\xc0\x0c"), 1, &[1, 2, 3, 4])]);
            message.extend(tail);
            let length = message.len();
            for (at, byte) in changes {
                message[at % length] = byte;
            }
            answer(&query, &message);
        }
    }
}
