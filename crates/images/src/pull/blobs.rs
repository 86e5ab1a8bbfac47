//! Blobs from the registry: each once, continued where it broke off, a bounded number at a time.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use corten_base::{Digest, ErrorKind};
use corten_content::Ingest;
use corten_distribution::{Direction, Slot};

use super::Pull;
use crate::document::{Document, LARGEST};
use crate::types::{Descriptor, Progress};
use crate::unpack::{self, Wanted};
use crate::{Error, Result};

/// Progress of one blob is told this often.
const TELL: Duration = Duration::from_millis(100);

impl Pull<'_> {
    /// Begins a blob's download when its turn has come, or continues it, and has `take` put what comes from the source into the
    /// ingest. Only for who is in the blob's flight. What a mirror has sent wrong is asked of the next.
    pub(super) fn download<T>(
        &self,
        blob: &Descriptor,
        take: impl Fn(Ingest, &mut dyn Read, &mut dyn FnMut(u64) -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let Descriptor { digest, size, .. } = blob;
        let mut told: Option<Instant> = None;
        let mut progress = |current| {
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if told.is_none_or(|told| told.elapsed() >= TELL) || current == *size {
                told = Some(Instant::now());
                (self.report)(Progress::bytes(digest.short(), "Downloading", current, Some(*size)));
            }
            Ok(())
        };
        self.until_right(|| {
            let ingest = self.images.content().ingest_blob(digest, *size, self.lease)?;
            if ingest.offset() == *size {
                return Ok((take(ingest, &mut io::empty(), &mut progress), None));
            }
            let slot = Some(self.options.registry.slot(Direction::Download)?);
            let mut source = self.blob(blob, ingest.offset())?;
            Ok((take(ingest, &mut Slotted { source: &mut source, slot }, &mut progress), Some(source)))
        })
    }

    /// Asks again while what came was wrong and somebody else can be asked; `ask` answers what became of it, and where it came from.
    fn until_right<T>(
        &self,
        mut ask: impl FnMut() -> Result<(Result<T>, Option<corten_distribution::Reader>)>,
    ) -> Result<T> {
        for _ in 1..self.options.registry.limits().attempts {
            match ask()? {
                (Err(error), Some(source)) if !error.is_interruption() && source.reject() => {
                    tracing::warn!(%error, image = self.reference.familiar(), "somebody else is asked");
                }
                (done, _) => return done,
            }
        }
        ask()?.0
    }

    /// Verifies a blob that has come, and names it.
    pub(super) fn commit_blob(&self, ingest: Ingest, digest: &Digest) -> Result<(Digest, u64)> {
        (self.report)(Progress::part(digest.short(), "Verifying Checksum"));
        let committed = ingest.commit(Some(digest), self.lease)?;
        (self.report)(Progress::part(digest.short(), "Download complete"));
        Ok(committed)
    }

    /// Brings blobs in that are kept as they are.
    pub(super) fn keep_all(&self, blobs: &[Descriptor]) -> Result<()> {
        let at_once = self.options.registry.limits().downloads.max(1).min(blobs.len());
        let (next, first) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let kept = if self.is_cancelled() { Err(Error::Cancelled) } else { self.keep(blob) };
                if let Err(error) = kept {
                    let part = format!("blob {}", blob.digest.short());
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error.of_part(&self.reference, &part));
                    // After it was told: what the others give up for this must not take its place.
                    self.failed.cancel();
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for number in 1..at_once {
                let spawned = thread::Builder::new().name(format!("pull-{number}")).spawn_scoped(scope, work);
                if let Err(error) = spawned {
                    tracing::debug!(%error, "one pull thread less");
                }
            }
            work();
        });
        first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn keep(&self, blob: &Descriptor) -> Result<()> {
        let digest = &blob.digest;
        let _flight = self.images.flights().enter(digest, || self.is_cancelled())?;
        if self.lease.hold(digest)? {
            self.tell_of(blob, "Already exists");
            return Ok(());
        }
        self.download(blob, |mut ingest, source, progress| {
            unpack::fill(Wanted::Always, &mut ingest, source, progress)?;
            self.commit_blob(ingest, digest).map(drop)
        })
    }

    /// Brings what is said about the image: manifests, each with its configuration and statements. One that the registry
    /// hasn't is left out: a mirror may have the images alone. Answers the blobs.
    pub(super) fn attestations(&self, manifests: &[Descriptor]) -> Result<Vec<Digest>> {
        let mut kept = Vec::new();
        for manifest in manifests {
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let part = format!("attestation {}", manifest.digest.short());
            match self.attestation(manifest) {
                Ok(blobs) => kept.extend(blobs),
                Err(Error::Registry(error)) if error.kind() == ErrorKind::NotFound => {
                    tracing::info!(image = self.reference.familiar(), part, "the registry does not have it");
                }
                Err(error) => return Err(error.of_part(&self.reference, &part)),
            }
        }
        Ok(kept)
    }

    fn attestation(&self, descriptor: &Descriptor) -> Result<Vec<Digest>> {
        let digest = &descriptor.digest;
        let (sent_as, bytes) = if self.lease.hold(digest)? {
            (String::new(), self.images.content().read(digest, LARGEST)?)
        } else {
            let (sent, bytes) = self.options.registry.manifest(&self.reference, digest, self.options.credentials)?;
            (sent.media_type, bytes)
        };
        let what = format!("attestation {digest}");
        let Document::Manifest(manifest) = Document::received(&bytes, &sent_as, &what)? else {
            return Err(Error::document(what, "it is an index"));
        };
        let blobs: Vec<Descriptor> = manifest.blobs().cloned().collect();
        blobs.iter().try_for_each(|blob| self.keep(blob))?;
        let document = self.images.put_document(&bytes, Some(digest), self.lease)?;
        Ok(blobs.into_iter().map(|blob| blob.digest).chain([document]).collect())
    }

    /// A small document among the blobs: from the store if it is there, else from the registry.
    pub(super) fn fetch_document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
        if descriptor.size > LARGEST {
            return Err(Error::document(
                what,
                format!("it has {} bytes, at most {LARGEST} are allowed", descriptor.size),
            ));
        }
        let _flight = self.images.flights().enter(&descriptor.digest, || self.is_cancelled())?;
        if !self.lease.hold(&descriptor.digest)? {
            self.until_right(|| {
                let mut source = self.blob(descriptor, 0)?;
                Ok((self.keep_document(descriptor, &mut source), Some(source)))
            })?;
        }
        Ok(self.images.content().read(&descriptor.digest, LARGEST)?)
    }

    fn keep_document(&self, descriptor: &Descriptor, source: &mut dyn Read) -> Result<()> {
        let mut ingest = self.images.content().ingest_nameless(descriptor.digest.algorithm(), Some(descriptor.size))?;
        let mut bytes = Vec::new();
        source.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unpack::input)?;
        ingest.write_all(&bytes).map_err(Error::io("write a document"))?;
        ingest.commit(Some(&descriptor.digest), self.lease)?;
        Ok(())
    }

    /// A blob of the repository from an offset on.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<corten_distribution::Reader> {
        let descriptor = corten_distribution::Descriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        };
        Ok(self.options.registry.blob(&self.reference, &descriptor, offset, self.options.credentials)?)
    }

    pub(super) fn tell_of(&self, blob: &Descriptor, status: &str) {
        (self.report)(Progress::part(blob.digest.short(), status));
    }
}

/// A download that gives its slot back when its bytes are all here: what is made of them then is no download any more.
struct Slotted<'a> {
    source: &'a mut dyn Read,
    slot: Option<Slot>,
}

impl Read for Slotted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(into)?;
        if length == 0 && !into.is_empty() {
            self.slot = None;
        }
        Ok(length)
    }
}
