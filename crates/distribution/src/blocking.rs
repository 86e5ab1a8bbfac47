//! The client for synchronous code.

use crate::{BlobStream, Cancel, Client, Credentials, Descriptor, Direction, Limits, Mounted, Result, Session, Source};
use crate::{WebAddress, WebFile};
use bytes::{Buf, Bytes};
use corten_base::{Digest, Reference};
use std::io::{self, Read};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

/// A [`Client`] that waits. Clones may be used on several threads at once; none of them may be one that runs a runtime. What
/// comes from the network is decrypted on the calling thread. Every wait ends with [`Error::Cancelled`](crate::Error::Cancelled)
/// when it is [given up](Blocking::under).
#[derive(Clone, Debug)]
pub struct Blocking {
    client: Client,
    handle: Handle,
    cancel: Cancel,
}

impl Blocking {
    pub(crate) fn new(client: Client, handle: Handle) -> Blocking {
        Blocking { client, handle, cancel: Cancel::default() }
    }

    /// The same for an operation that may be given up; what was given up before counts no longer.
    #[must_use]
    pub fn under(&self, cancel: &Cancel) -> Blocking {
        Blocking { cancel: cancel.clone(), ..self.clone() }
    }

    /// What gives up on everything done with this.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.handle.block_on(self.cancel.unless(work))
    }

    /// See [`Client::resolve`].
    pub fn resolve(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<(Descriptor, Vec<u8>)> {
        let (descriptor, bytes) = self.wait(self.client.resolve(reference, credentials))?;
        Ok((descriptor, bytes.into()))
    }

    /// See [`Client::manifest`].
    pub fn manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let (descriptor, bytes) = self.wait(self.client.manifest(reference, digest, credentials))?;
        Ok((descriptor, bytes.into()))
    }

    /// See [`Client::tags`].
    pub fn tags(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Vec<String>> {
        self.wait(self.client.tags(reference, credentials))
    }

    /// See [`Client::head`].
    pub fn head(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Option<Descriptor>> {
        self.wait(self.client.head(reference, credentials))
    }

    /// See [`Client::blob`].
    pub fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Reader> {
        let stream = self.wait(self.client.blob(reference, blob, offset, credentials))?;
        Ok(self.reader(Stream::Blob(Box::new(stream))))
    }

    /// See [`Client::download`].
    pub fn download(&self, address: &WebAddress) -> Result<Reader> {
        let file = self.wait(self.client.download(address))?;
        Ok(self.reader(Stream::File(Box::new(file))))
    }

    fn reader(&self, stream: Stream) -> Reader {
        Reader { stream, piece: Bytes::new(), handle: self.handle.clone(), cancel: self.cancel.clone() }
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

    /// Waits until one more layer may be moved this way.
    pub fn slot(&self, direction: Direction) -> Result<Slot> {
        let slots = self.client.slots(direction);
        self.wait(async { Ok(Slot { _permit: slots.acquire_owned().await.expect("nobody closes it") }) })
    }

    /// See [`Client::has_blob`].
    pub fn has_blob(&self, reference: &Reference, digest: &Digest, credentials: Option<&Credentials>) -> Result<bool> {
        self.wait(self.client.has_blob(reference, digest, credentials))
    }

    /// See [`Client::mount`].
    pub fn mount(
        &self,
        reference: &Reference,
        digest: &Digest,
        from: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Mounted> {
        self.wait(self.client.mount(reference, digest, from, credentials))
    }

    /// See [`Client::upload`]. The source is read on the calling thread.
    pub fn upload(
        &self,
        reference: &Reference,
        source: &Source<'_>,
        session: Option<Session>,
        credentials: Option<&Credentials>,
    ) -> Result<Digest> {
        self.wait(self.client.upload(reference, source, session, credentials))
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
        self.wait(self.client.put_manifest(reference, name, media_type, bytes.into(), credentials))
    }
}

/// A blob or file as a reader: nothing is taken from the network ahead of what is read, but for what lies in the socket.
/// Errors carry the [`Error`](crate::Error) inside.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    piece: Bytes,
    handle: Handle,
    cancel: Cancel,
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

    /// See [`BlobStream::reject`].
    pub fn reject(&self) -> bool {
        match &self.stream {
            Stream::Blob(blob) => blob.reject(),
            Stream::File(_) => false,
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
            let next = self.cancel.unless(self.stream.chunk());
            match self.handle.block_on(next).map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
