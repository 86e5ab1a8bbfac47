//! Bringing layers in: several downloads at once, commits from below.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use corten_base::{ChainId, DiffId};
use corten_snapshot::Hold;

use super::Pull;
use crate::config::ImageConfig;
use crate::extract::{Extraction, Terms, extract_blob};
use crate::types::{Descriptor, Progress};
use crate::unpack::{self, LayerSource, Wanted};
use crate::{Error, Result};

/// What becomes of one layer.
enum Step {
    /// It was unpacked already, and its blob is here.
    There(Hold),
    /// Its blob is here, and it is extracted.
    Ready(Extraction),
}

/// One layer to bring in.
struct Layer<'a> {
    blob: &'a Descriptor,
    chain: &'a ChainId,
}

impl Pull<'_> {
    /// Brings all layers of an image in. What it answers keeps the topmost, and so all.
    pub(super) fn layers(&self, config: &ImageConfig, blobs: &[Descriptor]) -> Result<Option<Hold>> {
        let chains = ChainId::prefixes(&config.rootfs.diff_ids);
        let layers: Vec<Layer<'_>> = blobs.iter().zip(&chains).map(|(blob, chain)| Layer { blob, chain }).collect();
        layers.iter().for_each(|layer| self.tell(layer, "Pulling fs layer"));
        let at_once = self.options.registry.limits().downloads.max(1);
        layers.iter().skip(at_once).for_each(|layer| self.tell(layer, "Waiting"));
        let next = AtomicUsize::new(0);
        let (send, receive) = channel();
        thread::scope(|scope| {
            // A layer has its worker until it is extracted: so many download, and as many see to what has come.
            for number in 0..at_once.saturating_mul(2).min(layers.len()) {
                let (send, layers, next, config) = (send.clone(), &layers, &next, config);
                let worker = move || self.work(layers, config, next, &send);
                let spawned = thread::Builder::new().name(format!("pull-{number}")).spawn_scoped(scope, worker);
                if let Err(error) = spawned {
                    self.failed.cancel();
                    return Err(Error::io("start a thread")(error));
                }
            }
            drop(send);
            self.commit_all(&layers, config, &receive).inspect_err(|_| self.failed.cancel())
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
            let wanted = || if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) };
            let bring = || {
                let step = self.bring(layer, &config.rootfs.diff_ids[number])?;
                // It may have been given up when all of it was here.
                wanted().map(|()| step)
            };
            let step = wanted().and_then(|()| bring().map_err(|error| self.of_layer(layer, error)));
            let failed = step.is_err();
            let sent = send.send((number, step));
            // After it was sent: what the others give up for this must not be told in its place.
            if failed {
                self.failed.cancel();
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
    ) -> Result<Option<Hold>> {
        let mut ready: Vec<Option<Step>> = layers.iter().map(|_| None).collect();
        let mut held = None;
        let mut at = 0;
        while at < layers.len() {
            let Ok((number, step)) = receive.recv() else { return Err(Error::Cancelled) };
            ready[number] = Some(step?);
            while let Some(step) = ready.get_mut(at).and_then(Option::take) {
                let below = at.checked_sub(1).map(|below| &layers[below]);
                let committed = self.commit(&layers[at], below, config, at, step);
                held = Some(committed.map_err(|error| self.of_layer(&layers[at], cause(error, receive)))?);
                at += 1;
            }
        }
        Ok(held)
    }

    fn commit(
        &self,
        layer: &Layer<'_>,
        below: Option<&Layer<'_>>,
        config: &ImageConfig,
        at: usize,
        step: Step,
    ) -> Result<Hold> {
        let extraction = match step {
            Step::There(hold) => return Ok(hold),
            Step::Ready(extraction) => extraction,
        };
        let size = layer.blob.size;
        (self.report)(Progress::bytes(layer.blob.digest.short(), "Extracting", size, Some(size)));
        let name = format!("{} of {}", layer.blob.digest.short(), self.reference.familiar());
        let diff_id = &config.rootfs.diff_ids[at];
        let parent = below.map(|below| below.chain);
        let source = LayerSource { name: &name, blob: &layer.blob.digest, diff_id, chain: layer.chain, parent };
        let (snapshots, content) = (self.images.snapshots(), self.images.content());
        let committed = unpack::commit(snapshots, content, &source, Some(extraction), &|| self.is_cancelled());
        let hold = committed.map_err(|error| if self.is_cancelled() { Error::Cancelled } else { error })?;
        self.tell(layer, "Pull complete");
        Ok(hold)
    }

    /// Brings one layer's blob in and extracts it. A layer that is unpacked already isn't again; its blob comes all the same if
    /// this packing isn't here: the image is handed on as it came.
    fn bring(&self, layer: &Layer<'_>, diff_id: &DiffId) -> Result<Step> {
        let digest = &layer.blob.digest;
        let hold = self.images.snapshots().hold(layer.chain)?;
        let _flight = self.images.flights().enter(digest, || self.is_cancelled())?;
        let is_here = self.lease.hold(digest)?;
        let terms = self.terms();
        match hold {
            Some(hold) if is_here => {
                self.tell(layer, "Already exists");
                Ok(Step::There(hold))
            }
            Some(hold) => {
                self.download(layer.blob, |ingest, source, progress| {
                    let commit = |ingest| self.commit_blob(ingest, digest);
                    unpack::receive_packing((digest.short(), diff_id), &terms, ingest, source, progress, commit)
                })?;
                self.tell(layer, "Pull complete");
                Ok(Step::There(hold))
            }
            None if is_here => {
                self.tell(layer, "Download complete");
                Ok(Step::Ready(extract_blob(&terms, self.images.content(), digest)?))
            }
            None => {
                let received = self.download(layer.blob, |ingest, source, progress| {
                    let commit = |ingest| self.commit_blob(ingest, digest);
                    unpack::receive(Wanted::UnlessLong, &terms, digest.short(), ingest, source, progress, commit)
                })?;
                Ok(Step::Ready(received.extraction))
            }
        }
    }

    /// As many are extracted as may be downloaded.
    fn terms(&self) -> Terms<'_> {
        let most = self.options.registry.limits().downloads.max(1);
        let turns = Some((self.images.turns(), most));
        Terms { snapshots: self.images.snapshots(), turns, cancel: self.failed }
    }

    fn of_layer(&self, layer: &Layer<'_>, error: Error) -> Error {
        error.of_part(&self.reference, &format!("layer {}", layer.blob.digest.short()))
    }

    fn tell(&self, layer: &Layer<'_>, status: &str) {
        self.tell_of(layer.blob, status);
    }
}

/// What a commit failed with; if it was given up, the failure that it was given up for, which has been sent before.
fn cause(error: Error, receive: &Receiver<(usize, Result<Step>)>) -> Error {
    if !matches!(error, Error::Cancelled) {
        return error;
    }
    let mut failures = receive.try_iter().filter_map(|(_, step)| step.err());
    failures.find(|failure| !matches!(failure, Error::Cancelled)).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use corten_base::{Digest, Reference};
    use corten_content::{LeaseOptions, Store};
    use corten_distribution::{Cancel, Client, RegistryConfig};
    use corten_events::Log;
    use corten_metadata::Database;
    use corten_snapshot::Snapshots;

    use super::*;
    use crate::Images;
    use crate::document::config_descriptor;
    use crate::types::TransferOptions;

    #[test]
    fn a_failure_is_told_and_not_what_was_given_up_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = [corten_content::SCHEMA, corten_snapshot::SCHEMA, crate::SCHEMA];
        let database = Database::open(&folder.path().join("metadata.db"), &schemas).unwrap();
        let content = Store::open(&folder.path().join("content"), database.clone()).unwrap();
        let snapshots = Snapshots::open(&folder.path().join("snapshots"), database.clone()).unwrap();
        let images = Images::open(database, content, snapshots, Log::new(1)).unwrap();
        let lease = images.content().lease(LeaseOptions::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let registry = Client::new(RegistryConfig::default()).blocking(runtime.handle().clone());
        let failed = Cancel::default();
        let pull = Pull {
            images: &images,
            reference: Reference::parse_normalized("box:1").unwrap(),
            options: TransferOptions { registry: &registry, credentials: None, platform: None },
            lease: &lease,
            report: &|_| {},
            failed: &failed,
        };
        let blobs = [config_descriptor(b"first"), config_descriptor(b"second")];
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = blobs.iter().map(|blob| DiffId(blob.digest.clone())).collect();
        let chains = ChainId::prefixes(&config.rootfs.diff_ids);
        let layers: Vec<Layer<'_>> = blobs.iter().zip(&chains).map(|(blob, chain)| Layer { blob, chain }).collect();
        // The first one's commit is given up when the second one has failed.
        let (send, receive) = channel();
        let given_up = corten_archive::Error::Read(std::io::Error::other("it was given up"));
        send.send((0, Ok(Step::Ready(Err(given_up))))).unwrap();
        let (expected, actual) = (Digest::sha256(b"second"), Digest::sha256(b"other"));
        let failure = Error::Mismatch { what: "blob".into(), expected, actual };
        send.send((1, Err(pull.of_layer(&layers[1], failure)))).unwrap();
        failed.cancel();
        let error = pull.commit_all(&layers, &config, &receive).err().unwrap();
        assert!(!error.is_interruption() && error.to_string().contains(blobs[1].digest.short()), "{error:?}");
    }
}
