//! The client for synchronous code.

use crate::{BlobStream, Client, Credentials, Descriptor, Result};
use bytes::{Buf, Bytes};
use corten_base::{Digest, Reference};
use std::io::{self, Read};
use tokio::runtime::Handle;

/// A [`Client`] that waits. Clones may be used on several threads at once; none of them may be one that runs a runtime. What
/// comes from the network is decrypted on the calling thread.
#[derive(Clone, Debug)]
pub struct Blocking {
    client: Client,
    handle: Handle,
}

impl Blocking {
    pub(crate) fn new(client: Client, handle: Handle) -> Blocking {
        Blocking { client, handle }
    }

    /// See [`Client::resolve`].
    pub fn resolve(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<(Descriptor, Vec<u8>)> {
        let (descriptor, bytes) = self.handle.block_on(self.client.resolve(reference, credentials))?;
        Ok((descriptor, bytes.into()))
    }

    /// See [`Client::manifest`].
    pub fn manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let (descriptor, bytes) = self.handle.block_on(self.client.manifest(reference, digest, credentials))?;
        Ok((descriptor, bytes.into()))
    }

    /// See [`Client::head`].
    pub fn head(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Option<Descriptor>> {
        self.handle.block_on(self.client.head(reference, credentials))
    }

    /// See [`Client::blob`].
    pub fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<BlobReader> {
        let stream = self.handle.block_on(self.client.blob(reference, blob, offset, credentials))?;
        Ok(BlobReader { stream, piece: Bytes::new(), handle: self.handle.clone() })
    }
}

/// A blob as a reader: nothing is taken from the network ahead of what is read, but for what lies in the socket. Errors
/// carry the [`Error`](crate::Error) inside.
#[derive(Debug)]
pub struct BlobReader {
    stream: BlobStream,
    piece: Bytes,
    handle: Handle,
}

impl BlobReader {
    /// The blob's size.
    pub fn size(&self) -> u64 {
        self.stream.size()
    }
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.piece.is_empty() {
            match self.handle.block_on(self.stream.chunk()).map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
