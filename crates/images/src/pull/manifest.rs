//! From a name to one platform's manifest.

use std::io::{Read, Write};

use corten_base::{Digest, Platform};

use super::Pull;
use crate::document::{Document, Index, LARGEST, Manifest};
use crate::types::Descriptor;
use crate::{Error, Result, unpack};

/// Indexes within indexes that are followed.
const DEEPEST: usize = 4;

/// A manifest and how it was found.
pub(super) struct Chosen {
    /// What the name means: the manifest, or the index it was chosen from.
    pub target: Descriptor,
    pub descriptor: Descriptor,
    pub manifest: Manifest,
    /// The manifest and the indexes above it, as received.
    pub documents: Vec<(Digest, Vec<u8>)>,
}

impl Pull<'_> {
    /// Asks the registry what the name means and chooses the platform.
    pub(super) fn choose(&self) -> Result<Chosen> {
        let (descriptor, bytes) = self.options.registry.resolve(&self.reference, self.options.credentials)?;
        self.choose_from(converted(descriptor), bytes, 0)
    }

    fn choose_from(&self, target: Descriptor, bytes: Vec<u8>, depth: usize) -> Result<Chosen> {
        let what = format!("manifest {} of {}", target.digest, self.reference.familiar());
        match Document::parse(&bytes, &what)? {
            Document::Manifest(manifest) if manifest.is_artifact() => {
                let reason = format!("unsupported media type {}", manifest.config.media_type.escape_debug());
                Err(Error::document(what, reason))
            }
            Document::Manifest(manifest) => {
                let documents = vec![(target.digest.clone(), bytes)];
                Ok(Chosen { target: target.clone(), descriptor: target, manifest, documents })
            }
            Document::Index(_) if depth >= DEEPEST => Err(Error::document(what, "indexes are nested too deeply")),
            Document::Index(index) => {
                let mut chosen = self.choose_in(&index, depth)?;
                chosen.documents.push((target.digest.clone(), bytes));
                Ok(Chosen { target, ..chosen })
            }
        }
    }

    fn choose_in(&self, index: &Index, depth: usize) -> Result<Chosen> {
        let platform = self.options.platform.cloned().unwrap_or_else(Platform::host);
        let Some(entry) = index.candidates(&platform).into_iter().next() else {
            return Err(Error::NoManifest { platform: platform.to_string() });
        };
        let (registry, credentials) = (self.options.registry, self.options.credentials);
        let (descriptor, bytes) = registry.manifest(&self.reference, &entry.descriptor.digest, credentials)?;
        self.choose_from(converted(descriptor), bytes, depth + 1)
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
            let algorithm = descriptor.digest.algorithm();
            let mut ingest = self.images.content().ingest_nameless(algorithm, Some(descriptor.size))?;
            let mut blob = self.blob(descriptor, 0)?;
            let mut bytes = Vec::new();
            blob.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).map_err(unpack::input)?;
            ingest.write_all(&bytes).map_err(Error::io("write a document"))?;
            ingest.commit(Some(&descriptor.digest), self.lease)?;
        }
        Ok(self.images.content().read(&descriptor.digest, LARGEST)?)
    }
}

fn converted(descriptor: corten_distribution::Descriptor) -> Descriptor {
    Descriptor { media_type: descriptor.media_type, digest: descriptor.digest, size: descriptor.size }
}
