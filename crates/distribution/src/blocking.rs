//! The client for synchronous code.

use crate::{BlobStream, Client, Credentials, Descriptor, Direction, Limits, Mounted, Result, Session, Source};
use crate::{WebAddress, WebFile};
use bytes::{Buf, Bytes};
use corten_base::{Digest, Reference};
use std::io::{self, Read};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

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

    /// See [`Client::tags`].
    pub fn tags(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Vec<String>> {
        self.handle.block_on(self.client.tags(reference, credentials))
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
    ) -> Result<Reader> {
        let stream = self.handle.block_on(self.client.blob(reference, blob, offset, credentials))?;
        Ok(self.reader(Stream::Blob(Box::new(stream))))
    }

    /// See [`Client::download`].
    pub fn download(&self, address: &WebAddress) -> Result<Reader> {
        let file = self.handle.block_on(self.client.download(address))?;
        Ok(self.reader(Stream::File(Box::new(file))))
    }

    fn reader(&self, stream: Stream) -> Reader {
        Reader { stream, piece: Bytes::new(), handle: self.handle.clone() }
    }
}

/// The right to move one layer; it is given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Blocking {
    /// Bounds on what goes on at once.
    pub fn limits(&self) -> Limits {
        self.client.limits()
    }

    /// Waits until one more layer may be moved this way; none if `is_cancelled` says so meanwhile.
    pub fn slot(&self, direction: Direction, is_cancelled: impl Fn() -> bool) -> Option<Slot> {
        let slots = self.client.slots(direction);
        self.handle.block_on(async {
            let mut waiting = std::pin::pin!(slots.acquire_owned());
            loop {
                if let Ok(permit) = tokio::time::timeout(LOOK, &mut waiting).await {
                    return permit.ok().map(|permit| Slot { _permit: permit });
                }
                if is_cancelled() {
                    return None;
                }
            }
        })
    }

    /// See [`Client::has_blob`].
    pub fn has_blob(&self, reference: &Reference, digest: &Digest, credentials: Option<&Credentials>) -> Result<bool> {
        self.handle.block_on(self.client.has_blob(reference, digest, credentials))
    }

    /// See [`Client::mount`].
    pub fn mount(
        &self,
        reference: &Reference,
        digest: &Digest,
        from: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Mounted> {
        self.handle.block_on(self.client.mount(reference, digest, from, credentials))
    }

    /// See [`Client::upload`]. The source is read on the calling thread.
    pub fn upload(
        &self,
        reference: &Reference,
        source: &Source<'_>,
        session: Option<Session>,
        credentials: Option<&Credentials>,
    ) -> Result<Digest> {
        self.handle.block_on(self.client.upload(reference, source, session, credentials))
    }

    /// See [`Client::put_manifest`].
    pub fn put_manifest(
        &self,
        reference: &Reference,
        name: &str,
        media_type: &str,
        bytes: Vec<u8>,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Digest>> {
        self.handle.block_on(self.client.put_manifest(reference, name, media_type, bytes.into(), credentials))
    }
}

/// How often those who wait look whether they still should.
const LOOK: Duration = Duration::from_millis(200);

/// A blob or file as a reader: nothing is taken from the network ahead of what is read, but for what lies in the socket.
/// Errors carry the [`Error`](crate::Error) inside.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    piece: Bytes,
    handle: Handle,
}

#[derive(Debug)]
enum Stream {
    Blob(Box<BlobStream>),
    File(Box<WebFile>),
}

impl Reader {
    /// The number of bytes, where it is known.
    pub fn size(&self) -> Option<u64> {
        match &self.stream {
            Stream::Blob(blob) => Some(blob.size()),
            Stream::File(file) => file.size(),
        }
    }
}

impl Stream {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match self {
            Stream::Blob(blob) => blob.chunk().await,
            Stream::File(file) => file.chunk().await,
        }
    }
}

impl Read for Reader {
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
