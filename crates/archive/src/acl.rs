//! POSIX access lists as they stand in extended attributes (linux/posix_acl_xattr.h): a version, then tag, rights and id of
//! each entry, little-endian.

const VERSION: u32 = 2;
const ENTRY: usize = 8;
/// The tags of entries with an id: one user's, one group's. Those of others may have any.
const USER: u16 = 2;
const GROUP: u16 = 8;
/// The tags of entries that say no more than a mode: owner, group, others.
const OF_MODE: [u16; 3] = [1, 4, 0x20];

/// The attribute of the list that counts for the file itself.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the list that a directory hands on to what is made in it.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

type List = Vec<(u16, u16, Option<u32>)>;

/// Whether the attribute `name` isn't what it was set to: the kernel doesn't keep what says nothing.
pub(crate) fn differs(name: &[u8], found: Option<&[u8]>, said: Option<&[u8]>) -> bool {
    let list = |value: Option<&[u8]>| value.map_or(Some(List::new()), |value| read(name, value));
    // The kernel takes none that is malformed.
    list(said).is_some_and(|said| list(found) != Some(said))
}

/// Whether the list says more than a mode can.
pub(crate) fn says_more(value: &[u8]) -> bool {
    read(ACCESS, value).is_some_and(|list| !list.is_empty())
}

/// The entries of a list, none where it says nothing. None for what isn't a list.
fn read(name: &[u8], value: &[u8]) -> Option<List> {
    let (version, entries) = value.split_first_chunk()?;
    let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
    if u32::from_le_bytes(*version) != VERSION {
        return None;
    }
    let entry = |&[a, b, c, d, id @ ..]: &[u8; ENTRY]| {
        let tag = u16::from_le_bytes([a, b]);
        (tag, u16::from_le_bytes([c, d]), matches!(tag, USER | GROUP).then_some(u32::from_le_bytes(id)))
    };
    let list: List = entries.iter().map(entry).collect();
    let is_mode = name == ACCESS && list.iter().all(|(tag, ..)| OF_MODE.contains(tag));
    Some(if is_mode { List::new() } else { list })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |&(tag, rights, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [&2_u32.to_le_bytes()[..], &entries.iter().flat_map(entry).collect::<Vec<u8>>()].concat()
    }

    #[test]
    fn what_counts() {
        let minimal = list(&[(1, 6, u32::MAX), (4, 4, u32::MAX), (0x20, 0, u32::MAX)]);
        let (seven, eight) = (list(&[(1, 6, 0), (USER, 4, 7), (0x10, 4, 0)]), list(&[(1, 6, 0), (USER, 4, 8)]));
        let as_kept = list(&[(1, 6, u32::MAX), (USER, 4, 7), (0x10, 4, u32::MAX)]);
        let check = |name, found: Option<&Vec<u8>>, said: Option<&Vec<u8>>, expect| {
            assert_eq!(differs(name, found.map(Vec::as_slice), said.map(Vec::as_slice)), expect);
        };
        check(ACCESS, None, None, false);
        check(ACCESS, Some(&as_kept), Some(&seven), false);
        check(ACCESS, Some(&as_kept), Some(&eight), true);
        check(ACCESS, Some(&as_kept), None, true);
        check(ACCESS, None, Some(&seven), true);
        check(ACCESS, None, Some(&minimal), false);
        check(DEFAULT, None, Some(&minimal), true);
        check(DEFAULT, None, Some(&list(&[])), false);
        // Longer than was looked for, or damaged.
        check(ACCESS, Some(&vec![0; 29]), Some(&seven), true);
        check(ACCESS, Some(&as_kept[..27].to_vec()), None, true);
        check(ACCESS, None, Some(&b"nonsense".to_vec()), false);
        assert_eq!([&minimal, &seven, &b"nonsense".to_vec()].map(|value| says_more(value)), [false, true, false]);
    }
}
