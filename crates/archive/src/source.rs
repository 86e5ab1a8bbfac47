//! The stream below a tar reader: one large buffer, the hash of all that passes, and the bound on how much may pass.

use crate::{Error, Result};
use corten_base::{Digest, Digester};
use std::io::{self, Read};

/// Fits in a second-level cache, and lets large files be written with few calls.
const BUFFER: usize = 256 * 1024;

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;

pub(crate) struct Source<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes handed out so far.
    position: u64,
    /// Bytes read from `inner` so far, and how many may be.
    read: u64,
    limit: u64,
    hash: Option<Digester>,
}

impl<R: Read> Source<R> {
    pub fn new(inner: R, limit: u64, hash: Option<Digester>) -> Source<R> {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Source { inner, buffer, start: 0, end: 0, position: 0, read: 0, limit, hash }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// The bytes at hand, read anew when there are none; empty at the end of the stream.
    pub fn fill(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// The first `most` of the bytes that the last [`fill`](Source::fill) answered, taken.
    pub fn take(&mut self, most: u64) -> &[u8] {
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.end - self.start);
        let at = self.start;
        self.start += length;
        self.position += length as u64;
        &self.buffer[at..at + length]
    }

    fn refill(&mut self) -> Result<()> {
        let length = loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        };
        let fresh = &self.buffer[self.end..self.end + length];
        if let Some(hash) = &mut self.hash {
            hash.update(fresh);
        }
        self.end += length;
        self.read += length as u64;
        if self.read > self.limit {
            return Err(Error::Limit { what: "bytes", limit: self.limit });
        }
        Ok(())
    }

    /// The next block; none at a clean end of the stream.
    pub fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.fill()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.exact(&mut block, "a header")?;
        Ok(Some(block))
    }

    /// `length` bytes, which the caller has bounded, in memory.
    pub fn bytes(&mut self, length: usize, within: &'static str) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.exact(&mut bytes, within)?;
        Ok(bytes)
    }

    fn exact(&mut self, into: &mut [u8], within: &'static str) -> Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            if self.fill()?.is_empty() {
                return Err(Error::Truncated(within));
            }
            let piece = self.take((into.len() - filled) as u64);
            into[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        Ok(())
    }

    /// Passes over `length` bytes.
    pub fn skip(&mut self, mut length: u64, within: &'static str) -> Result<()> {
        while length > 0 {
            if self.fill()?.is_empty() {
                return Err(Error::Truncated(within));
            }
            length -= self.take(length).len() as u64;
        }
        Ok(())
    }

    /// Reads to the end of the stream, so that the hash covers all of it; answers its length and digest.
    pub fn drain(mut self) -> Result<(u64, Option<Digest>)> {
        while !self.fill()?.is_empty() {
            self.take(u64::MAX);
        }
        Ok((self.position, self.hash.map(Digester::finish)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_everything() {
        let data = vec![7u8; BUFFER * 2 + 5];
        let mut source = Source::new(&data[..], u64::MAX, Some(Digester::sha256()));
        source.skip(1000, "x").unwrap();
        assert_eq!(source.bytes(3, "x").unwrap(), [7, 7, 7]);
        assert_eq!(source.drain().unwrap(), (data.len() as u64, Some(Digest::sha256(&data))));
    }

    #[test]
    fn bounds() {
        let mut source = Source::new(io::repeat(0), 1 << 20, None);
        assert!(matches!(source.skip(u64::MAX, "x"), Err(Error::Limit { what: "bytes", limit: 1048576 })));
        let mut source = Source::new(&[0u8; 100][..], 1000, None);
        assert!(matches!(source.block(), Err(Error::Truncated("a header"))));
    }
}
