//! Making images known: one durable transaction, after everything it names is whole.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::time::SystemTime;

use corten_archive::Compression;
use corten_base::{ChainId, Digest, ImageId, Platform, Reference, time};
use corten_content::Lease;
use corten_snapshot::Hold;

use crate::config::ImageConfig;
use crate::document::Manifest;
use crate::media_type;
use crate::record::{self, ImageRow, NameRow};
use crate::types::Descriptor;
use crate::{Error, Images, Result, family};

/// An image whose blobs are leased and whose layers are held, ready to be recorded.
#[derive(Debug)]
pub(crate) struct NewImage {
    pub id: ImageId,
    pub config: ImageConfig,
    pub manifest: Descriptor,
    pub target: Descriptor,
    /// All blobs that the image needs.
    pub blobs: HashSet<Digest>,
    /// The blobs of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// Names to give, each with a tag or a digest.
    pub names: Vec<Reference>,
    pub parent: Option<ImageId>,
    /// Keeps the layers until the image is recorded.
    pub held: Option<Hold>,
}

impl NewImage {
    /// One that is no image: only its manifest makes it what it is, so that is its id.
    pub fn artifact(
        manifest: &Manifest,
        descriptor: Descriptor,
        target: Descriptor,
        blobs: HashSet<Digest>,
    ) -> NewImage {
        NewImage {
            id: ImageId(descriptor.digest.clone()),
            config: ImageConfig { created: manifest.created().map(str::to_owned), ..ImageConfig::default() },
            manifest: descriptor,
            target,
            blobs,
            layers: Vec::new(),
            names: Vec::new(),
            parent: None,
            held: None,
        }
    }
}

/// A name that was taken from another image.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub name: Reference,
    pub from: ImageId,
}

impl Images {
    /// How a manifest of our own names a layer's blob.
    pub(crate) fn layer_descriptor(&self, blob: &Digest, size: u64) -> Result<Descriptor> {
        Ok(media_type::layer_descriptor(blob, size, self.is_gzip(blob)?))
    }

    /// Whether a blob here is packed with gzip, by its first bytes.
    pub(crate) fn is_gzip(&self, blob: &Digest) -> Result<bool> {
        let mut start = Vec::with_capacity(6);
        let failed = |source| corten_content::Error::Io { operation: "read", path: blob.as_str().into(), source };
        self.content().open_blob(blob)?.take(6).read_to_end(&mut start).map_err(failed)?;
        Ok(Compression::detect(&start) == Compression::Gzip)
    }
}

impl Images {
    /// Stores a document as a blob.
    pub(crate) fn put_document(&self, bytes: &[u8], expected: Option<&Digest>, lease: &Lease) -> Result<Digest> {
        let algorithm = expected.map_or(corten_base::Algorithm::Sha256, Digest::algorithm);
        let mut ingest = self.content().ingest_nameless(algorithm, Some(bytes.len() as u64))?;
        ingest.write_all(bytes).map_err(Error::io("write a document"))?;
        Ok(ingest.commit(expected, lease)?.0)
    }

    /// Records images and their names, all or none; survives power loss when it returns.
    ///
    /// # Errors
    /// [`Error::Document`] for one whose index leads to more than can be looked at.
    pub(crate) fn register(&self, images: Vec<NewImage>) -> Result<Vec<Moved>> {
        let now = time::unix_nanos(SystemTime::now());
        let mut rows = Vec::with_capacity(images.len());
        let (mut held, mut again) = (Vec::new(), Vec::new());
        for image in images {
            let before = self.record_of(&image.id)?;
            again.extend(before.filter(|before| before.target != image.target).map(|before| before.id));
            if image.target != image.manifest {
                self.contents(&image.target)?;
            }
            let size = self.size_of(&image)?;
            held.extend(image.held);
            let is_hosts = image.config.platform() == Platform::host();
            let names = image.names;
            let row = ImageRow {
                chain: ChainId::of(&image.config.rootfs.diff_ids),
                id: image.id,
                manifest: image.manifest,
                target: image.target,
                size,
                created: created(&image.config),
                labels: image.config.config.labels.clone().unwrap_or_default(),
                parent: image.parent,
                last_tagged: (!names.is_empty()).then_some(now),
            };
            let layers: Vec<_> = image.config.rootfs.diff_ids.iter().cloned().zip(image.layers).collect();
            rows.push((row, is_hosts, names, image.blobs, layers));
        }
        let namespace = self.namespace().to_string();
        let moved = self.database().write(move |transaction| -> Result<Vec<Moved>> {
            let mut moved = Vec::new();
            for (row, is_hosts, names, blobs, layers) in rows {
                record::put_layers(transaction, &layers)?;
                record::put_image(transaction, &namespace, &row, &blobs)?;
                let image = family::lead(transaction, &namespace, &row, is_hosts)?;
                if !names.is_empty() {
                    record::touch(transaction, &namespace, &image, now)?;
                }
                for reference in names {
                    let name = NameRow { reference, image: image.clone(), target: row.target.clone() };
                    let from = record::put_name(transaction, &namespace, &name)?;
                    moved.extend(from.map(|from| Moved { name: name.reference, from }));
                }
            }
            Ok(moved)
        })?;
        drop(held);
        for id in again {
            // It is there all the same; what it doesn't need any more goes with it.
            if let Err(error) = self.shed(&id) {
                tracing::warn!(image = id.short(), %error, "what an image needed before stays with it");
            }
        }
        self.snapshots().sync_soon();
        Ok(moved)
    }

    fn size_of(&self, image: &NewImage) -> Result<u64> {
        if image.id.0 == image.manifest.digest {
            return Ok(image.blobs.iter().filter_map(|blob| self.content().size(blob)).sum());
        }
        let Some(chain) = ChainId::of(&image.config.rootfs.diff_ids) else { return Ok(0) };
        Ok(self.snapshots().stack(&chain)?.iter().map(|layer| layer.size).sum())
    }

    /// Tells the event log of an image.
    pub(crate) fn publish(&self, action: &str, id: &ImageId, name: &str, labels: &BTreeMap<String, String>) {
        self.publish_of(action, id.as_str(), name, labels);
    }

    /// The same, where the event's subject isn't an id.
    pub(crate) fn publish_of(&self, action: &str, subject: &str, name: &str, labels: &BTreeMap<String, String>) {
        let mut attributes = labels.clone();
        attributes.insert("name".into(), name.into());
        let actor = corten_events::Actor { id: subject.to_owned(), attributes };
        self.events().publish(self.namespace(), corten_events::Kind::Image, action, actor);
    }
}

/// When an image was made, in seconds since 1970; 0 if it doesn't say.
fn created(config: &ImageConfig) -> i64 {
    let parsed = config.created.as_deref().and_then(|text| time::parse_rfc3339(text).ok());
    parsed.map_or(0, time::unix_seconds)
}
