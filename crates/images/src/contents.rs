//! What lies behind an image's name: its manifest, or all manifests of the index it was chosen from, as far as they are here.
//!
//! Image-spec image-index.md; attestations as BuildKit writes them: a manifest beside the image's in the same index, for the
//! platform `unknown/unknown`, that names the image's manifest in an annotation and holds in-toto statements as layers.

use std::collections::BTreeMap;

use corten_base::{ChainId, Digest, ImageId, Platform};
use serde::Deserialize;

use crate::document::{IndexEntry, LARGEST, Manifest};
use crate::types::{Descriptor, Image, ManifestKind, ManifestSummary, Statement};
use crate::walk::{Budget, Contents, Part, walk};
use crate::{Error, Images, Result};

const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";

impl Images {
    /// Reads what lies behind a descriptor. Documents that aren't here are left out: a pull brings one platform of many.
    ///
    /// # Errors
    /// [`Error::Document`] if it is more than a name may lead to, which nothing is as it comes, but may become with what comes later.
    pub(crate) fn contents(&self, target: &Descriptor) -> Result<Contents> {
        let read = |descriptor: &Descriptor| {
            let digest = &descriptor.digest;
            let is_here = self.content().contains(digest);
            Ok(is_here.then(|| self.content().read(digest, LARGEST)).transpose()?)
        };
        walk(target, &read, &|_| true, &mut Budget::default())
    }

    /// The manifests behind an image's name, in their index's order.
    ///
    /// # Errors
    /// [`Error::Document`], [`Error::Content`] if a document is damaged.
    pub fn manifests(&self, target: &Descriptor) -> Result<Vec<ManifestSummary>> {
        self.contents(target)?.parts.into_iter().map(|part| self.manifest_summary(part)).collect()
    }

    fn manifest_summary(&self, part: Part) -> Result<ManifestSummary> {
        let Part { entry, manifest } = part;
        let content = |digest: &Digest| self.content().size(digest);
        let own = content(&entry.descriptor.digest);
        let needed: Vec<&Descriptor> = manifest.iter().flat_map(|manifest| manifest.blobs()).collect();
        let sizes: Vec<Option<u64>> = needed.iter().map(|descriptor| content(&descriptor.digest)).collect();
        let kind = self.kind_of(&entry, manifest.as_deref());
        Ok(ManifestSummary {
            available: own.is_some() && manifest.is_some() && sizes.iter().all(Option::is_some),
            content: own.into_iter().chain(sizes.into_iter().flatten()).sum(),
            unpacked: match &kind {
                ManifestKind::Image { id: Some(id), .. } => self.unpacked_size(id)?,
                _ => 0,
            },
            kind,
            descriptor: entry.descriptor,
            platform: entry.platform,
            annotations: entry.annotations.unwrap_or_default(),
            artifact_type: entry.artifact_type.unwrap_or_default(),
        })
    }

    fn kind_of(&self, entry: &IndexEntry, manifest: Option<&Manifest>) -> ManifestKind {
        if entry.is_attestation() {
            let subject = entry.subject().unwrap_or_default().to_owned();
            return ManifestKind::Attestation { subject };
        }
        if manifest.is_some_and(Manifest::is_artifact) {
            return ManifestKind::Unknown;
        }
        let id = manifest.map(|manifest| ImageId(manifest.config.digest.clone()));
        let config = id.as_ref().and_then(|id| self.read_config(id).ok());
        // The index says it; the configuration where there is none.
        match entry.platform.clone().or_else(|| config.map(|config| config.platform())) {
            Some(platform) => ManifestKind::Image { id, platform },
            None => ManifestKind::Unknown,
        }
    }

    /// What an image's layers take on the disk, if all are unpacked.
    fn unpacked_size(&self, id: &ImageId) -> Result<u64> {
        let Ok(config) = self.read_config(id) else { return Ok(0) };
        let Some(chain) = ChainId::of(&config.rootfs.diff_ids) else { return Ok(0) };
        if !self.snapshots().exists(&chain)? {
            return Ok(0);
        }
        Ok(self.snapshots().stack(&chain)?.iter().map(|layer| layer.size).sum())
    }

    /// The in-toto statements about an image's manifest for a platform (the image's own if none is given), of these
    /// predicate types (all if there are none); their text only `with_text`.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve); [`Error::NoManifest`] if the index has no image for the platform.
    pub fn attestations(
        &self,
        image: &Image,
        platform: Option<&Platform>,
        types: &[String],
        with_text: bool,
    ) -> Result<Vec<Statement>> {
        let contents = self.contents(&image.target)?;
        let subject = match platform {
            Some(platform) => subject_for(&contents, platform)?,
            None => image.manifest.digest.clone(),
        };
        let mut statements = Vec::new();
        for part in contents.parts.iter().filter(|part| part.entry.is_attestation()) {
            if part.manifest.is_none() || part.entry.subject() != Some(subject.as_str()) {
                continue;
            }
            let digest = &part.entry.descriptor.digest;
            let bytes = self.content().read(digest, LARGEST)?;
            let document: StatementManifest = serde_json::from_slice(&bytes)
                .map_err(|error| Error::document(format!("attestation {digest}"), error))?;
            for layer in document.layers {
                statements.extend(self.statement(layer, types, with_text)?);
            }
        }
        Ok(statements)
    }

    fn statement(&self, layer: StatementLayer, types: &[String], with_text: bool) -> Result<Option<Statement>> {
        let StatementLayer { descriptor, annotations } = layer;
        let predicate_type = annotations.get(PREDICATE).cloned().unwrap_or_default();
        let is_wanted = types.is_empty() || types.contains(&predicate_type);
        if descriptor.media_type != STATEMENT || !is_wanted {
            return Ok(None);
        }
        let text = if with_text && self.content().contains(&descriptor.digest) {
            Some(self.content().read(&descriptor.digest, LARGEST)?)
        } else {
            None
        };
        Ok(Some(Statement { descriptor, annotations, predicate_type, text }))
    }
}

fn subject_for(contents: &Contents, platform: &Platform) -> Result<Digest> {
    let fits = |part: &&Part| {
        !part.entry.is_attestation() && part.entry.platform.as_ref().is_none_or(|offered| platform.matches(offered))
    };
    let part = contents.parts.iter().find(fits);
    let part = part.ok_or_else(|| Error::NoManifest { platform: platform.to_string() })?;
    Ok(part.entry.descriptor.digest.clone())
}

/// As much of an attestation's manifest as its statements need.
#[derive(Deserialize)]
struct StatementManifest {
    layers: Vec<StatementLayer>,
}

#[derive(Deserialize)]
struct StatementLayer {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}
