//! The images for other platforms that came behind one name.
//!
//! A record is of one image, the one that was unpacked when it came. Its siblings are manifests of the same index; those whose blobs
//! are all here can be run too: they are unpacked when the first container wants them, and go with its last one. Those that were
//! pulled have a record of their own (see `family`).

use std::collections::HashSet;
use std::sync::Arc;

use corten_base::{ChainId, ImageId, Platform};

use crate::config::ImageConfig;
use crate::document::{self, Manifest};
use crate::record::{self, ImageRow};
use crate::types::{Descriptor, Image};
use crate::{Images, Result};

impl Images {
    /// Of what lies behind the image's name, the one for a platform, if all of it is here.
    pub(crate) fn sibling(&self, image: &Image, target: &Descriptor, platform: &Platform) -> Result<Option<Image>> {
        for (descriptor, manifest) in self.siblings(target)? {
            let bytes = self.content().read(&manifest.config.digest, document::LARGEST)?;
            // Some may be for other systems.
            let found: Option<ImageConfig> = serde_json::from_slice(&bytes).ok();
            if found.is_none_or(|found| !platform.matches(&found.platform())) {
                continue;
            }
            return self.behind(image, target, descriptor, &manifest).map(Some);
        }
        Ok(None)
    }

    /// The image of one of the manifests behind a target.
    pub(crate) fn behind(
        &self,
        image: &Image,
        target: &Descriptor,
        descriptor: Descriptor,
        manifest: &Manifest,
    ) -> Result<Image> {
        let bytes = self.content().read(&manifest.config.digest, document::LARGEST)?;
        let config = document::parse_config(&bytes, "image configuration", manifest.layers.len())?;
        let id = ImageId(manifest.config.digest.clone());
        let is_recorded = self.record_of(&id)?.is_some();
        let chain = ChainId::of(&config.rootfs.diff_ids);
        let unpacked = match &chain {
            Some(chain) if self.snapshots().exists(chain)? => self.snapshots().stack(chain)?,
            _ => Vec::new(),
        };
        Ok(Image {
            id,
            chain,
            size: unpacked.iter().map(|layer| layer.size).sum(),
            layers: config.rootfs.diff_ids.clone(),
            config: Arc::new(config),
            manifest: descriptor,
            target: target.clone(),
            parent: None,
            is_recorded,
            ..image.clone()
        })
    }

    pub(crate) fn record_of(&self, id: &ImageId) -> Result<Option<ImageRow>> {
        self.database().read(|connection| record::image(connection, self.namespace().as_str(), id))
    }

    /// The ids of all images behind a descriptor whose blobs are all here.
    pub(crate) fn sibling_ids(&self, target: &Descriptor) -> Result<HashSet<ImageId>> {
        let siblings = self.siblings(target)?;
        Ok(siblings.into_iter().map(|(_, manifest)| ImageId(manifest.config.digest.clone())).collect())
    }

    /// The images behind a descriptor whose blobs are all here.
    pub(crate) fn siblings(&self, target: &Descriptor) -> Result<Vec<(Descriptor, Arc<Manifest>)>> {
        let parts = self.contents(target)?.parts.into_iter().filter(|part| !part.entry.is_attestation());
        let images = parts.filter_map(|part| Some((part.entry.descriptor, part.manifest?)));
        let is_here = |manifest: &Manifest| manifest.blobs().all(|blob| self.content().contains(&blob.digest));
        Ok(images.filter(|(_, manifest)| !manifest.is_artifact() && is_here(manifest)).collect())
    }
}
