//! Files with holes: which parts of a file the archive carries.
//! See GNU tar's manual, "Storing Sparse Files": the old GNU header, and PAX versions 0.0, 0.1 and 1.0.

use crate::header::number;
use crate::pax::decimal;
use crate::source::{BLOCK, Source};
use crate::{Error, Result};
use std::io::Read;

/// A stretch of data within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The most segments that are kept in memory for one file (16 MiB).
const MOST: usize = 1 << 20;

type Parsed<T> = Result<T, &'static str>;

/// Refuses segments out of order, overlapping, past `size`, or that don't add up to the `stored` bytes.
pub(crate) fn check(segments: &[Segment], size: u64, stored: u64) -> Parsed<()> {
    let mut position = 0;
    let mut sum = 0u64;
    for segment in segments {
        let end = segment.offset.checked_add(segment.length).ok_or("a sparse map is out of range")?;
        if segment.offset < position || end > size {
            return Err("a sparse map is out of order");
        }
        position = end;
        sum += segment.length;
    }
    if sum == stored { Ok(()) } else { Err("a sparse map does not fit its data") }
}

/// Pairs of the numbers in a PAX map.
pub(crate) fn from_pairs(numbers: &[u64]) -> Parsed<Vec<Segment>> {
    if !numbers.len().is_multiple_of(2) {
        return Err("a sparse map of odd length");
    }
    Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

/// The old GNU form: four slots in the header, then blocks of 21.
pub(crate) fn read_gnu<R: Read>(source: &mut Source<R>, slots: &[u8]) -> Result<Vec<Segment>> {
    let offset = source.position();
    let header = |reason| Error::Header { offset, reason };
    let mut segments = Vec::new();
    let mut more = read_slots(slots, &mut segments).map_err(header)?;
    while more {
        let block = source.block()?.ok_or(Error::Truncated("a sparse map"))?;
        more = read_slots(&block[..21 * 24 + 1], &mut segments).map_err(header)?;
        if segments.len() > MOST {
            return Err(Error::Limit { what: "holes in one file", limit: MOST as u64 });
        }
    }
    Ok(segments)
}

/// Slots of 24 bytes, then a flag whether more follow.
fn read_slots(slots: &[u8], segments: &mut Vec<Segment>) -> Parsed<bool> {
    let (flag, slots) = slots.split_last().ok_or("a sparse map is empty")?;
    for slot in slots.chunks_exact(24) {
        if slot[0] == 0 {
            break;
        }
        let part = |field| u64::try_from(number(field)?).map_err(|_| "a sparse map is negative");
        segments.push(Segment { offset: part(&slot[..12])?, length: part(&slot[12..])? });
    }
    Ok(*flag != 0)
}

/// PAX 1.0: decimal lines in front of the data, padded to blocks. Answers the bytes they took as well.
pub(crate) fn read_pax<R: Read>(source: &mut Source<R>, stored: u64) -> Result<(Vec<Segment>, u64)> {
    let offset = source.position();
    let header = |reason| Error::Header { offset, reason };
    let mut numbers: Vec<u64> = Vec::new();
    let mut line = Vec::new();
    let mut taken = 0;
    loop {
        if taken + BLOCK as u64 > stored {
            return Err(header("a sparse map is longer than its file"));
        }
        let block = source.block()?.ok_or(Error::Truncated("a sparse map"))?;
        taken += BLOCK as u64;
        for &byte in &block {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(header("a sparse map is malformed"));
                }
                continue;
            }
            numbers.push(decimal(&line).map_err(header)?);
            line.clear();
            if numbers[0] > MOST as u64 {
                return Err(Error::Limit { what: "holes in one file", limit: MOST as u64 });
            }
            if numbers.len() as u64 == 1 + numbers[0] * 2 {
                return Ok((from_pairs(&numbers[1..]).map_err(header)?, taken));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
        pairs.iter().map(|&(offset, length)| Segment { offset, length }).collect()
    }

    #[test]
    fn maps_are_checked() {
        let good = |pairs: &[(u64, u64)], size, stored| check(&segments(pairs), size, stored).is_ok();
        assert!(good(&[], 0, 0));
        assert!(good(&[], 1 << 40, 0));
        assert!(good(&[(0, 5), (5, 0), (10, 5)], 15, 10));
        assert!(!good(&[(0, 5), (10, 5)], 14, 10));
        assert!(!good(&[(0, 5), (4, 5)], 20, 10));
        assert!(!good(&[(10, 5), (0, 5)], 20, 10));
        assert!(!good(&[(u64::MAX, 2)], u64::MAX, 2));
        assert!(!good(&[(0, 5)], 5, 6));
    }

    #[test]
    fn pax_map() {
        let mut block = [0; BLOCK];
        block[..14].copy_from_slice(b"2\n0\n5\n100\n20\n\0");
        let read = |block: &[u8], stored| read_pax(&mut Source::new(block, u64::MAX, None), stored);
        assert_eq!(read(&block, 537).unwrap(), (segments(&[(0, 5), (100, 20)]), 512));
        assert!(read(&block, 100).is_err());
        assert!(read(b"99999999\n", 1 << 30).is_err());
        assert!(read(&[b'1'; BLOCK], 1 << 30).is_err());
    }
}
