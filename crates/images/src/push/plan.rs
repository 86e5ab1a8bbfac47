//! What a push has to bring: which manifests, and which of their blobs in which form.

use std::collections::HashSet;

use corten_base::{Digest, Platform};

use super::Push;
use crate::config::ImageConfig;
use crate::document::{Document, Index, LARGEST, Manifest};
use crate::media_type;
use crate::record::{self, NameRow};
use crate::types::Descriptor;
use crate::walk::Contents;
use crate::{Error, Result};

/// Everything that one tag needs in the registry.
pub(super) struct Plan {
    pub images: Vec<PlannedImage>,
    /// The indexes above the images, the tag's own last; none where the tag names a single image.
    pub index: Option<Vec<(Descriptor, Vec<u8>)>>,
    /// The index that can't be pushed, because only one of its images is here.
    pub instead_of: Option<Descriptor>,
}

/// One manifest with its blobs.
pub(super) struct PlannedImage {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
    /// Lowest first.
    pub layers: Vec<PlannedLayer>,
    /// Where it goes: under the tag itself, or its digest.
    pub is_tagged: bool,
}

/// One layer and where its bytes are.
pub(super) struct PlannedLayer {
    /// As progress calls it.
    pub id: String,
    /// As the manifest has it.
    pub descriptor: Descriptor,
    /// What it unfolds to; none for the parts of artifacts.
    pub diff_id: Option<Digest>,
    pub form: Form,
}

/// How a layer goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is stored, under the manifest's own digest.
    Stored,
    /// This blob, packed.
    Packed(Digest),
}

impl Plan {
    pub(super) fn of(push: &Push<'_>, row: &NameRow) -> Result<Plan> {
        let bytes = push.document(&row.target.digest)?;
        let what = format!("manifest {} of {}", row.target.digest, push.reference.familiar());
        match Document::parse(&bytes, &what)? {
            Document::Manifest(manifest) => {
                push.check_platform(&manifest)?;
                let image = push.planned(row.target.clone(), bytes, manifest, true)?;
                Ok(Plan { images: vec![image], index: None, instead_of: None })
            }
            Document::Index(index) => match push.options.platform {
                Some(platform) => {
                    let image = push.choose(&index, platform, row)?;
                    Ok(Plan { images: vec![image], index: None, instead_of: None })
                }
                None => Plan::of_index(push, row),
            },
        }
    }

    /// All of an index if all of it is here, else the one image that is.
    fn of_index(push: &Push<'_>, row: &NameRow) -> Result<Plan> {
        let contents = push.images.contents(&row.target)?;
        if let Some(images) = push.all_of(&contents)? {
            let indexes = contents.indexes.iter().map(|(descriptor, index)| {
                let bytes = push.document(&descriptor.digest)?;
                Ok((descriptor.clone().of_document(index.media_type.as_deref(), true), bytes))
            });
            return Ok(Plan { images, index: Some(indexes.collect::<Result<_>>()?), instead_of: None });
        }
        let image = push.one_of(row)?;
        Ok(Plan { images: vec![image], index: None, instead_of: Some(row.target.clone()) })
    }
}

impl Push<'_> {
    /// A document of the store, held until the push is over.
    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.lease.hold(digest)?;
        Ok(self.images.content().read(digest, LARGEST)?)
    }

    fn manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<Manifest> {
        let what = format!("manifest {digest} of {}", self.reference.familiar());
        match Document::parse(bytes, &what)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(Error::document(what, "it is an index")),
        }
    }

    /// All images behind an index, each once; none if some of it is not here.
    fn all_of(&self, contents: &Contents) -> Result<Option<Vec<PlannedImage>>> {
        let (mut images, mut seen) = (Vec::new(), HashSet::new());
        for part in contents.parts.iter().filter(|part| seen.insert(part.digest())) {
            let here = |blob: &Descriptor| self.images.content().contains(&blob.digest);
            let Some(manifest) = part.manifest.as_ref().filter(|manifest| manifest.blobs().all(here)) else {
                return Ok(None);
            };
            let bytes = self.document(part.digest())?;
            let image = self.planned(part.entry.descriptor.clone(), bytes, (**manifest).clone(), false)?;
            // Its digest is in the index: it goes as it is or not at all.
            if image.layers.iter().any(|layer| layer.form != Form::Stored) {
                return Ok(None);
            }
            images.push(image);
        }
        Ok(Some(images))
    }

    /// The image of an index for a platform.
    fn choose(&self, index: &Index, platform: &Platform, row: &NameRow) -> Result<PlannedImage> {
        let missing = || Error::Platform {
            reference: self.reference.familiar(),
            found: self
                .images
                .read_config(&row.image)
                .map_or_else(|_| "unknown".to_owned(), |c| c.platform().to_string()),
            wanted: platform.to_string(),
        };
        let here = |blob: &Descriptor| self.images.content().contains(&blob.digest);
        for entry in index.candidates(platform) {
            if !here(&entry.descriptor) {
                continue;
            }
            let bytes = self.document(&entry.descriptor.digest)?;
            let manifest = self.manifest(&entry.descriptor.digest, &bytes)?;
            if manifest.blobs().all(here) {
                return self.planned(entry.descriptor.clone(), bytes, manifest, true);
            }
        }
        Err(missing())
    }

    /// Of an index that isn't whole, the one image to push: this machine's, or the only one.
    fn one_of(&self, row: &NameRow) -> Result<PlannedImage> {
        let namespace = self.images.namespace().as_str();
        let record = self.images.database().read(|connection| record::image(connection, namespace, &row.image))?;
        let record = record.ok_or_else(|| Error::NotFound(row.image.to_string()))?;
        let record = self.images.as_named(record, &row.target)?;
        let is_hosts = Platform::host().matches(&self.images.image(record.clone(), Vec::new())?.config.platform());
        if !is_hosts && self.images.sibling_ids(&row.target)?.len() > 1 {
            let text = "multiple matching manifests found but no specific platform requested";
            return Err(Error::Conflict(text.to_owned()));
        }
        let bytes = self.document(&record.manifest.digest)?;
        let manifest = self.manifest(&record.manifest.digest, &bytes)?;
        self.planned(record.manifest, bytes, manifest, true)
    }

    fn check_platform(&self, manifest: &Manifest) -> Result<()> {
        let Some(wanted) = self.options.platform else { return Ok(()) };
        let found = self.config(manifest)?.map(|config| config.platform()).unwrap_or_default();
        if wanted.matches(&found) {
            return Ok(());
        }
        let (found, wanted) = (found.to_string(), wanted.to_string());
        Err(Error::Platform { reference: self.reference.familiar(), found, wanted })
    }

    /// The configuration, where the manifest is an image's for whatever system. An attestation's says of its layers what isn't so.
    fn config(&self, manifest: &Manifest) -> Result<Option<ImageConfig>> {
        if manifest.is_artifact() {
            return Ok(None);
        }
        let config: Option<ImageConfig> = serde_json::from_slice(&self.document(&manifest.config.digest)?).ok();
        Ok(config.filter(|config| config.rootfs.diff_ids.len() == manifest.layers.len()))
    }

    fn planned(
        &self,
        descriptor: Descriptor,
        bytes: Vec<u8>,
        manifest: Manifest,
        is_tagged: bool,
    ) -> Result<PlannedImage> {
        let descriptor = descriptor.of_document(manifest.media_type.as_deref(), false);
        let diff_ids = self.config(&manifest)?.map(|config| config.rootfs.diff_ids);
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (number, blob) in manifest.layers.iter().enumerate() {
            let diff_id = diff_ids.as_ref().and_then(|ids| ids.get(number)).map(|id| id.0.clone());
            let form = self.form(blob, diff_id.as_ref())?;
            let id = diff_id.as_ref().unwrap_or(&blob.digest).short().to_owned();
            layers.push(PlannedLayer { id, descriptor: blob.clone(), diff_id, form });
        }
        Ok(PlannedImage { descriptor, bytes, manifest, layers, is_tagged })
    }

    /// Where a layer's bytes are; they are held from then on. What is no layer of an image goes as it is.
    fn form(&self, blob: &Descriptor, diff_id: Option<&Digest>) -> Result<Form> {
        if !self.lease.hold(&blob.digest)? {
            return Err(corten_content::Error::NotFound(blob.digest.clone()).into());
        }
        let is_plain = diff_id.is_some() && media_type::is_plain_layer(&blob.media_type);
        Ok(if is_plain { Form::Packed(blob.digest.clone()) } else { Form::Stored })
    }
}
