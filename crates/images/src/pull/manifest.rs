//! From a name to one platform's manifest.

use corten_base::{Digest, Platform};

use super::Pull;
use crate::document::{Document, Index, Manifest};
use crate::types::Descriptor;
use crate::walk::DEEPEST;
use crate::{Error, Result};

/// A manifest and how it was found.
pub(super) struct Chosen {
    /// What the name means: the manifest, or the index it was chosen from.
    pub target: Descriptor,
    pub descriptor: Descriptor,
    pub manifest: Manifest,
    /// What its index has beside it about it.
    pub attestations: Vec<Descriptor>,
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
        match Document::received(&bytes, &target.media_type, &what)? {
            Document::Manifest(manifest) => {
                let target = target.of_document(manifest.media_type.as_deref(), false);
                let documents = vec![(target.digest.clone(), bytes)];
                let (descriptor, attestations) = (target.clone(), Vec::new());
                Ok(Chosen { target, descriptor, manifest, attestations, documents })
            }
            Document::Index(_) if depth >= DEEPEST => Err(Error::document(what, "indexes are nested too deeply")),
            Document::Index(index) => {
                let target = target.of_document(index.media_type.as_deref(), true);
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
        let wanted = &entry.descriptor.digest;
        let received = registry.manifest(&self.reference, wanted, credentials).map_err(Error::from);
        let part = format!("manifest {}", wanted.short());
        let (descriptor, bytes) = received.map_err(|error| error.of_part(&self.reference, &part))?;
        let chosen = self.choose_from(converted(descriptor), bytes, depth + 1)?;
        // Of images for platforms, none was for this one.
        if chosen.manifest.is_artifact() && index.manifests.iter().any(|entry| entry.platform.is_some()) {
            return Err(Error::NoManifest { platform: platform.to_string() });
        }
        let attestations = index.attestations_of(&chosen.descriptor.digest).map(|entry| entry.descriptor.clone());
        Ok(Chosen { attestations: attestations.chain(chosen.attestations.iter().cloned()).collect(), ..chosen })
    }
}

fn converted(descriptor: corten_distribution::Descriptor) -> Descriptor {
    Descriptor { media_type: descriptor.media_type, digest: descriptor.digest, size: descriptor.size }
}
