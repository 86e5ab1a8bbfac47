//! What no image needs, and what was lost.

use std::collections::HashSet;
use std::time::SystemTime;

use corten_base::{ChainId, DiffId, Digest, ImageId};
use corten_snapshot::{Hold, Layer};

use crate::document::{self, Document};
use crate::extract::never;
use crate::types::Image;
use crate::unpack::{self, LayerSource};
use crate::{Error, Images, Result, record};

/// What a collection removed.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// The layers, topmost first.
    pub layers: Vec<Layer>,
    /// Blobs and parts of blobs.
    pub content: corten_content::Collected,
}

impl Collected {
    /// The bytes of all of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum::<u64>() + self.content.bytes
    }
}

impl Images {
    /// Removes all layers and blobs that no image of any namespace needs, no container stands on and no operation holds, and what
    /// interrupted operations left and nobody came back for in time. Removing an image does this; it is for the time after a
    /// container was removed whose image isn't known any more, and for when a lease has expired.
    ///
    /// # Errors
    /// [`Error::Snapshot`], [`Error::Content`].
    pub fn collect(&self) -> Result<Collected> {
        let layers = self.snapshots().collect(|transaction| record::live_chains(transaction))?;
        let content = self.content().collect(|| self.database().read(record::live_blobs))?;
        Ok(Collected { layers, content })
    }

    /// The same after images were removed that needed these blobs.
    pub(crate) fn collect_of(&self, blobs: &HashSet<Digest>) -> Result<Collected> {
        let layers = self.snapshots().collect(|transaction| record::live_chains(transaction))?;
        let live = || self.database().read(|connection| record::live_among(connection, blobs));
        let content = self.content().collect_among(blobs, live)?;
        Ok(Collected { layers, content })
    }

    /// When there may be something to collect because a lease ends then; none if nothing waits for anybody.
    ///
    /// # Errors
    /// [`Error::Content`].
    pub fn next_expiry(&self) -> Result<Option<SystemTime>> {
        Ok(self.content().next_expiry()?)
    }

    /// Whether an image has a record: what it needs isn't garbage then.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn is_recorded(&self, id: &ImageId) -> Result<bool> {
        Ok(self.record_of(id)?.is_some())
    }

    /// What is kept for interrupted pulls alone, so that they can go on.
    ///
    /// # Errors
    /// [`Error::Content`].
    pub fn interrupted(&self) -> Result<corten_content::Collected> {
        self.content().interrupted(|| self.database().read(record::live_blobs))
    }

    /// Gives up what interrupted pulls may go on with. Answers what went.
    ///
    /// # Errors
    /// As [`collect`](Images::collect).
    pub fn forget_interrupted(&self) -> Result<Collected> {
        match self.content().end_abandoned(self.namespace(), None)? {
            0 => Ok(Collected::default()),
            _ => self.collect(),
        }
    }

    /// Makes sure that all layers of an image are unpacked, and holds what might go. They are, unless the power went soon after the image
    /// came, or it is one of several behind a name that nobody wanted so far; then they are unpacked from the blobs. Blocks for
    /// that time.
    ///
    /// # Errors
    /// [`Error::Content`] if a blob is damaged or gone; as [`load`](Images::load).
    pub fn ensure_unpacked(&self, image: &Image) -> Result<Option<Hold>> {
        let Some(top) = &image.chain else { return Ok(None) };
        // What has a record stays without being held, and costs no turn of the writer.
        if image.is_recorded && self.snapshots().exists(top)? {
            return Ok(None);
        }
        if let Some(hold) = self.snapshots().hold(top)? {
            return Ok(Some(hold));
        }
        let bytes = self.content().read(&image.manifest.digest, document::LARGEST)?;
        let Document::Manifest(manifest) = Document::parse(&bytes, "manifest")? else {
            return Err(Error::document("manifest", "it is an index"));
        };
        if manifest.layers.len() != image.layers.len() {
            return Err(Error::document("manifest", "its layers aren't those of the configuration"));
        }
        let chains = ChainId::prefixes(&image.layers);
        let mut held = None;
        for (at, diff_id) in image.layers.iter().enumerate() {
            if let Some(hold) = self.snapshots().hold(&chains[at])? {
                held = Some(hold);
                continue;
            }
            let blob = self.blob_of(&manifest.layers[at].digest, diff_id)?;
            let source = LayerSource {
                name: diff_id.short(),
                blob: &blob,
                diff_id,
                chain: &chains[at],
                parent: at.checked_sub(1).map(|below| &chains[below]),
            };
            held = Some(unpack::commit(self.snapshots(), self.content(), &source, None, &never)?);
        }
        self.snapshots().sync_soon();
        Ok(held)
    }

    /// A blob that is here and unfolds to the layer: the manifest's, or the same layer packed otherwise.
    pub(crate) fn blob_of(&self, digest: &Digest, diff_id: &DiffId) -> Result<Digest> {
        let known = self.database().read(|connection| record::blobs_of_layer(connection, diff_id.digest()))?;
        let here = std::iter::once(digest).chain(&known).find(|digest| self.content().contains(digest));
        Ok(here.unwrap_or(digest).clone())
    }

    /// The layers of the given stack that are among those removed, topmost first.
    pub(crate) fn removed_of(removed: &[Layer], image: &[ChainId]) -> Vec<ChainId> {
        let stack: HashSet<&ChainId> = image.iter().collect();
        removed.iter().filter(|layer| stack.contains(&layer.chain)).map(|layer| layer.chain.clone()).collect()
    }
}
