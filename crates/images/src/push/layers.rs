//! Bringing an image's layers, configuration and manifest into the registry.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use corten_base::Digest;
use corten_distribution::{Direction, Mounted, Session, Source};

use super::Push;
use super::pack::{Packed, Told};
use super::plan::{Form, PlannedImage, PlannedLayer};
use crate::document;
use crate::media_type;
use crate::types::{Descriptor, Progress};
use crate::{Error, Result, record};

/// Repositories that are tried as the source of a mount.
const MOUNTS: usize = 3;

/// What a layer's blob here is called in the registry.
type Sent = HashMap<Digest, Descriptor>;

/// How a layer came to be there.
enum Arrival {
    Existed,
    Mounted(String),
    Uploaded(Descriptor),
}

impl Push<'_> {
    /// Brings one image; answers the manifest that the registry has now.
    pub(super) fn image(&self, image: PlannedImage) -> Result<Descriptor> {
        let sent = self.layers(&image.layers)?;
        let (descriptor, bytes) = if image.layers.iter().all(|layer| layer.form == Form::Stored) {
            (image.descriptor, image.bytes)
        } else {
            let layers = image.layers.iter().map(|layer| sent[&layer.descriptor.digest].clone()).collect();
            self.rewritten(&image.bytes, layers)?
        };
        self.bring_config(&image.manifest.config)?;
        let name = if image.is_tagged { self.tag() } else { descriptor.digest.as_str() };
        self.put(name, &descriptor, &bytes)?;
        Ok(descriptor)
    }

    /// A manifest with the layers as they were sent, stored here too: it is what the image is called by from now on.
    fn rewritten(&self, manifest: &[u8], layers: Vec<Descriptor>) -> Result<(Descriptor, Vec<u8>)> {
        let (bytes, media_type) = document::with_layers(manifest, layers)?;
        let digest = self.images.put_document(&bytes, None, self.lease)?;
        Ok((Descriptor { media_type, digest, size: bytes.len() as u64 }, bytes))
    }

    fn bring_config(&self, config: &Descriptor) -> Result<()> {
        let (registry, credentials) = (self.options.registry, self.options.credentials);
        if registry.has_blob(&self.reference, &config.digest, credentials)? {
            return Ok(());
        }
        self.lease.hold(&config.digest)?;
        self.upload_stored(&config.digest, config.size, None, &|_| !self.is_cancelled())
    }

    /// Brings the layers, several at a time, topmost first as Docker does.
    fn layers(&self, layers: &[PlannedLayer]) -> Result<Sent> {
        let at_once = self.options.registry.limits().uploads.max(1);
        let mut unique: Vec<&PlannedLayer> = Vec::new();
        for layer in layers.iter().rev() {
            self.tell(layer, "Preparing");
            // The same files may be there in two packings: each blob goes.
            if !unique.iter().any(|other| other.descriptor.digest == layer.descriptor.digest) {
                unique.push(layer);
            }
        }
        unique.iter().skip(at_once).for_each(|layer| self.tell(layer, "Waiting"));
        let (next, sent, first) = (AtomicUsize::new(0), Mutex::new(Sent::new()), Mutex::new(None));
        let work = || {
            while let Some(layer) = unique.get(next.fetch_add(1, Ordering::Relaxed)) {
                let arrived = if self.is_cancelled() { Err(Error::Cancelled) } else { self.layer(layer) };
                match arrived {
                    Ok(descriptor) => {
                        let blob = layer.descriptor.digest.clone();
                        sent.lock().unwrap_or_else(PoisonError::into_inner).insert(blob, descriptor);
                    }
                    Err(error) => {
                        first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        // After it was told: what the others give up for this must not take its place.
                        self.failed.cancel();
                        return;
                    }
                }
            }
        };
        thread::scope(|scope| {
            for number in 1..at_once.min(unique.len()) {
                let spawned = thread::Builder::new().name(format!("push-{number}")).spawn_scoped(scope, work);
                if let Err(error) = spawned {
                    tracing::debug!(%error, "one push thread less");
                }
            }
            work();
        });
        match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn layer(&self, layer: &PlannedLayer) -> Result<Descriptor> {
        let known = self.expected(layer)?;
        let arrival = self.bring(layer, known.as_ref())?;
        let descriptor = match &arrival {
            Arrival::Uploaded(descriptor) => descriptor.clone(),
            Arrival::Existed | Arrival::Mounted(_) => known.ok_or_else(|| Error::NotFound(layer.id.clone()))?,
        };
        match arrival {
            Arrival::Existed => self.tell(layer, "Layer already exists"),
            Arrival::Mounted(from) => self.tell(layer, &format!("Mounted from {from}")),
            Arrival::Uploaded(_) => self.tell(layer, "Pushed"),
        }
        Ok(descriptor)
    }

    /// What the layer is called in the registry, where that is known before it is sent.
    fn expected(&self, layer: &PlannedLayer) -> Result<Option<Descriptor>> {
        match &layer.form {
            Form::Stored => Ok(Some(layer.descriptor.clone())),
            Form::Packed(plain) => {
                let known = self.images.database().read(|connection| record::packed(connection, plain))?;
                let media_type = media_type::packed_layer(&layer.descriptor.media_type);
                Ok(known.map(|(digest, size)| Descriptor { media_type, digest, size }))
            }
        }
    }

    fn bring(&self, layer: &PlannedLayer, known: Option<&Descriptor>) -> Result<Arrival> {
        let (registry, credentials) = (self.options.registry, self.options.credentials);
        let mut session = None;
        if let Some(known) = known {
            if registry.has_blob(&self.reference, &known.digest, credentials)? {
                return Ok(Arrival::Existed);
            }
            for from in self.mount_sources(layer, &known.digest)? {
                match registry.mount(&self.reference, &known.digest, &from, credentials) {
                    Ok(Mounted::Done) => return Ok(Arrival::Mounted(from)),
                    Ok(Mounted::Upload(begun)) => {
                        session = Some(begun);
                        break;
                    }
                    // It is a shortcut only: a repository that may not be read, say.
                    Err(error) => tracing::debug!(from, %error, "not mounted"),
                }
            }
        }
        let _slot = registry.slot(Direction::Upload)?;
        let total = self.images.content().size(self.blob_of(layer)).unwrap_or_default();
        let progress = |current| {
            (self.report)(Progress::bytes(layer.id.clone(), "Pushing", current, Some(total)));
            !self.is_cancelled()
        };
        if let (Form::Packed(plain), media_type) = (&layer.form, media_type::packed_layer(&layer.descriptor.media_type))
        {
            let (digest, size) = self.upload_packed(plain, session, &progress)?;
            return Ok(Arrival::Uploaded(Descriptor { media_type, digest, size }));
        }
        let known = known.cloned().ok_or_else(|| Error::NotFound(layer.id.clone()))?;
        self.upload_stored(&known.digest, known.size, session, &progress)?;
        Ok(Arrival::Uploaded(known))
    }

    /// The blob here that a layer's bytes come from.
    fn blob_of<'a>(&self, layer: &'a PlannedLayer) -> &'a Digest {
        match &layer.form {
            Form::Stored => &layer.descriptor.digest,
            Form::Packed(digest) => digest,
        }
    }

    /// Other repositories of the same registry that are known to have had the layer.
    fn mount_sources(&self, layer: &PlannedLayer, digest: &Digest) -> Result<Vec<String>> {
        let namespace = self.images.namespace().as_str();
        let mut blobs = vec![digest.clone(), self.blob_of(layer).clone()];
        let names = self.images.database().read(|connection| -> Result<_> {
            if let Some(diff_id) = &layer.diff_id {
                blobs.extend(record::blobs_of_layer(connection, diff_id)?);
            }
            record::repositories_with(connection, namespace, &blobs)
        })?;
        let ours = |name: &corten_base::Reference| {
            name.domain() == self.reference.domain() && name.path() != self.reference.path()
        };
        Ok(names.iter().filter(|name| ours(name)).map(|name| name.path().to_owned()).take(MOUNTS).collect())
    }

    /// Uploads a blob as it is stored.
    fn upload_stored(
        &self,
        digest: &Digest,
        size: u64,
        session: Option<Session>,
        progress: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<()> {
        let open = |offset| -> io::Result<Box<dyn Read + Send>> {
            let mut file = self.open(digest)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(Box::new(file))
        };
        let identity = || Some((digest.clone(), size));
        let source = Source { open: &open, size: Some(size), identity: &identity, progress };
        self.upload(&source, session).map(drop)
    }

    /// Uploads a plain blob packed, and remembers what it became.
    fn upload_packed(
        &self,
        plain: &Digest,
        session: Option<Session>,
        progress: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Digest, u64)> {
        let told = Told::default();
        let open = |offset| -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(Packed::open(self.open(plain)?, offset, told.clone())?))
        };
        let identity = || told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let source = Source { open: &open, size: None, identity: &identity, progress };
        self.upload(&source, session)?;
        let (digest, size) = identity().ok_or_else(|| Error::NotFound(plain.to_string()))?;
        let row = (plain.clone(), digest.clone(), size);
        self.images
            .database()
            .write_relaxed(move |transaction| record::put_packed(transaction, &row.0, &row.1, row.2))?;
        Ok((digest, size))
    }

    fn upload(&self, source: &Source<'_>, session: Option<Session>) -> Result<Digest> {
        let uploaded = self.options.registry.upload(&self.reference, source, session, self.options.credentials);
        uploaded.map_err(|error| if self.is_cancelled() { Error::Cancelled } else { error.into() })
    }

    fn open(&self, digest: &Digest) -> io::Result<File> {
        self.images.content().open_blob(digest).map_err(io::Error::other)
    }

    fn tell(&self, layer: &PlannedLayer, status: &str) {
        (self.report)(Progress::part(layer.id.clone(), status));
    }
}
