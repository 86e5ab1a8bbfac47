//! Bringing layers in: several downloads at once, commits from below.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use corten_base::{ChainId, Digest};
use corten_content::Ingest;
use corten_distribution::Direction;
use corten_snapshot::Hold;

use super::Pull;
use crate::config::ImageConfig;
use crate::types::{Descriptor, Progress};
use crate::unpack::{self, Extraction, LayerSource, Wanted};
use crate::{Error, Result, record};

/// Progress of one layer is told this often.
const TELL: Duration = Duration::from_millis(100);

/// The layers of an image, all of them there.
pub(super) struct Fetched {
    /// Their blobs, lowest first.
    pub blobs: Vec<Digest>,
    /// Keeps the topmost, and so all.
    pub held: Option<Hold>,
}

/// What becomes of one layer.
enum Step {
    /// It was there, with this blob.
    There(Hold, Digest),
    /// Its blob is here, and it is extracted.
    Ready(Extraction),
}

/// One layer to bring in.
struct Layer<'a> {
    blob: &'a Descriptor,
    chain: &'a ChainId,
}

impl Pull<'_> {
    /// Brings all layers of an image in.
    pub(super) fn layers(&self, config: &ImageConfig, blobs: &[Descriptor]) -> Result<Fetched> {
        let chains = ChainId::prefixes(&config.rootfs.diff_ids);
        let layers: Vec<Layer<'_>> = blobs.iter().zip(&chains).map(|(blob, chain)| Layer { blob, chain }).collect();
        layers.iter().for_each(|layer| self.tell(layer, "Pulling fs layer"));
        let at_once = self.options.registry.limits().downloads.max(1);
        layers.iter().skip(at_once).for_each(|layer| self.tell(layer, "Waiting"));
        let next = AtomicUsize::new(0);
        let (send, receive) = channel();
        thread::scope(|scope| {
            for number in 0..at_once.min(layers.len()) {
                let (send, layers, next, config) = (send.clone(), &layers, &next, config);
                let worker = move || self.work(layers, config, next, &send);
                let spawned = thread::Builder::new().name(format!("pull-{number}")).spawn_scoped(scope, worker);
                if let Err(error) = spawned {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(Error::io("start a thread")(error));
                }
            }
            drop(send);
            self.commit_all(&layers, config, &receive).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
        })
    }

    /// One of the download threads: takes layers until none is left or one fails.
    fn work(
        &self,
        layers: &[Layer<'_>],
        config: &ImageConfig,
        next: &AtomicUsize,
        send: &Sender<(usize, Result<Step>)>,
    ) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(number) else { return };
            let step = if self.is_cancelled() {
                Err(Error::Cancelled)
            } else {
                self.bring(layer, &config.rootfs.diff_ids[number].0).map_err(|error| self.of_layer(layer, error))
            };
            let failed = step.is_err();
            let sent = send.send((number, step));
            // After it was sent: what the others give up for this must not be told in its place.
            if failed {
                self.failed.store(true, Ordering::Relaxed);
            }
            if sent.is_err() || failed {
                return;
            }
        }
    }

    /// Commits layers from below as they become ready. Of several failures the first one is told.
    fn commit_all(
        &self,
        layers: &[Layer<'_>],
        config: &ImageConfig,
        receive: &Receiver<(usize, Result<Step>)>,
    ) -> Result<Fetched> {
        let mut ready: Vec<Option<Step>> = layers.iter().map(|_| None).collect();
        let mut fetched = Fetched { blobs: Vec::new(), held: None };
        let mut at = 0;
        while at < layers.len() {
            let Ok((number, step)) = receive.recv() else { return Err(Error::Cancelled) };
            ready[number] = Some(step?);
            while let Some(step) = ready.get_mut(at).and_then(Option::take) {
                let below = at.checked_sub(1).map(|below| &layers[below]);
                let committed = self.commit(&layers[at], below, config, at, step);
                let (hold, blob) = committed.map_err(|error| self.of_layer(&layers[at], error))?;
                fetched.held = Some(hold);
                fetched.blobs.push(blob);
                at += 1;
            }
        }
        Ok(fetched)
    }

    fn commit(
        &self,
        layer: &Layer<'_>,
        below: Option<&Layer<'_>>,
        config: &ImageConfig,
        at: usize,
        step: Step,
    ) -> Result<(Hold, Digest)> {
        let extraction = match step {
            Step::There(hold, blob) => return Ok((hold, blob)),
            Step::Ready(extraction) => extraction,
        };
        let size = layer.blob.size;
        (self.report)(Progress::bytes(layer.blob.digest.short(), "Extracting", size, Some(size)));
        let name = format!("{} of {}", layer.blob.digest.short(), self.reference.familiar());
        let diff_id = &config.rootfs.diff_ids[at];
        let parent = below.map(|below| below.chain);
        let source = LayerSource { name: &name, blob: &layer.blob.digest, diff_id, chain: layer.chain, parent };
        let hold = unpack::commit(self.images.snapshots(), self.images.content(), &source, Some(extraction))?;
        self.tell(layer, "Pull complete");
        Ok((hold, layer.blob.digest.clone()))
    }

    /// Brings one layer's blob in and extracts it, unless it is there.
    fn bring(&self, layer: &Layer<'_>, diff_id: &Digest) -> Result<Step> {
        let digest = &layer.blob.digest;
        if let Some(hold) = self.images.snapshots().hold(layer.chain)?
            && let Some(blob) = self.blob_of(digest, diff_id)?
        {
            self.tell(layer, "Already exists");
            return Ok(Step::There(hold, blob));
        }
        let _flight = self.images.flights().enter(digest, || self.is_cancelled())?;
        let (snapshots, content) = (self.images.snapshots(), self.images.content());
        if self.lease.hold(digest)? {
            self.tell(layer, "Download complete");
            return Ok(Step::Ready(unpack::extract_blob(snapshots, content, digest)?));
        }
        let slot = self.options.registry.slot(Direction::Download, || self.is_cancelled());
        let _slot = slot.ok_or(Error::Cancelled)?;
        let size = layer.blob.size;
        let ingest = content.ingest(&format!("blob-{digest}"), digest.algorithm(), Some(size))?;
        let mut source = self.source(layer, ingest.offset())?;
        let mut told: Option<Instant> = None;
        let mut progress = |current| {
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if told.is_none_or(|told| told.elapsed() >= TELL) || current == size {
                told = Some(Instant::now());
                (self.report)(Progress::bytes(digest.short(), "Downloading", current, Some(size)));
            }
            Ok(())
        };
        let commit = |ingest: Ingest| {
            self.tell(layer, "Verifying Checksum");
            let committed = ingest.commit(Some(digest), self.lease)?;
            self.tell(layer, "Download complete");
            Ok(committed)
        };
        let (wanted, name) = (Wanted::Always, digest.short());
        let received = unpack::receive(wanted, snapshots, name, ingest, &mut source, &mut progress, commit)?;
        Ok(Step::Ready(received.extraction))
    }

    /// A blob that is here and unfolds to this layer: the manifest's own, or the same layer packed otherwise.
    fn blob_of(&self, digest: &Digest, diff_id: &Digest) -> Result<Option<Digest>> {
        let known = self.images.database().read(|connection| record::blobs_of_layer(connection, diff_id))?;
        for digest in std::iter::once(digest.clone()).chain(known) {
            if self.lease.hold(&digest)? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// What is still missing of a blob.
    fn source(&self, layer: &Layer<'_>, offset: u64) -> Result<Box<dyn Read + Send>> {
        if offset == layer.blob.size {
            return Ok(Box::new(io::empty()));
        }
        Ok(Box::new(self.blob(layer.blob, offset)?))
    }

    /// A blob of the repository from an offset on.
    pub(super) fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<corten_distribution::Reader> {
        let descriptor = corten_distribution::Descriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        };
        Ok(self.options.registry.blob(&self.reference, &descriptor, offset, self.options.credentials)?)
    }

    fn of_layer(&self, layer: &Layer<'_>, error: Error) -> Error {
        error.of_part(&self.reference, &format!("layer {}", layer.blob.digest.short()))
    }

    fn tell(&self, layer: &Layer<'_>, status: &str) {
        (self.report)(Progress::part(layer.blob.digest.short(), status));
    }
}
