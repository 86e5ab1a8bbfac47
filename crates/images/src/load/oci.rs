//! OCI image layouts: `index.json` names manifests or indexes among `blobs/<algorithm>/<hex>`.
//!
//! Image-spec, image-layout.md. Names are taken from containerd's annotation, then from the specification's own where it
//! holds a whole name (skopeo, podman); a bare tag names no repository.

use std::collections::HashSet;

use corten_base::{Digest, Digester, ImageId, Reference};

use super::stage::Stage;
use crate::document::{self, Document, Index, IndexEntry, Manifest};
use crate::register::NewImage;
use crate::save::blob_path as path;
use crate::types::Descriptor;
use crate::{Error, Result};

pub(super) const INDEX: &str = "index.json";
pub(super) const LAYOUT: &str = "oci-layout";

/// Indexes within indexes that are followed.
const DEEPEST: usize = 4;

/// The images of the layout, unpacked: one for each entry of its index that is one, or has one for this machine.
pub(super) fn images(stage: &mut Stage<'_>) -> Result<Vec<NewImage>> {
    let bytes = stage.document(INDEX)?;
    let Document::Index(index) = Document::parse(&bytes, INDEX)? else {
        return Err(Error::document(INDEX, "it is not an index"));
    };
    let mut images: Vec<NewImage> = Vec::new();
    for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
        let called = name(entry).map_or_else(|| entry.descriptor.digest.to_string(), |name| name.familiar());
        let Some(image) = image(stage, entry).map_err(Error::of_image(&called))? else { continue };
        // Several entries are several names of one image, as skopeo writes it.
        match images.iter_mut().find(|other| other.id == image.id && other.target == image.target) {
            Some(other) => other.names.extend(image.names),
            None => images.push(image),
        }
    }
    if images.is_empty() {
        return Err(stage.nothing());
    }
    for image in &mut images {
        let target = image.target.clone();
        keep(stage, &target, 0, &mut image.blobs)?;
    }
    Ok(images)
}

fn image(stage: &mut Stage<'_>, entry: &IndexEntry) -> Result<Option<NewImage>> {
    let Some(chosen) = choose(stage, &entry.descriptor, 0)? else { return Ok(None) };
    let Chosen { target, manifest, documents } = chosen;
    if manifest.1.is_artifact() {
        return artifact(stage, entry, target, &manifest);
    }
    let bytes = blob_document(stage, &manifest.1.config)?;
    let config = document::parse_config(&bytes, "image configuration", manifest.1.layers.len())?;
    if !stage.wants(&config.platform()) {
        return Ok(None);
    }
    let layers: Vec<_> =
        manifest.1.layers.iter().map(|layer| (path(&layer.digest), Some(layer.digest.clone()))).collect();
    let (_, held) = stage.layers(&config, &layers)?;
    let layer_blobs: Vec<Digest> = manifest.1.layers.iter().map(|layer| layer.digest.clone()).collect();
    let mut blobs: HashSet<Digest> = layer_blobs.iter().cloned().collect();
    for (digest, bytes) in documents.iter().chain([&(manifest.1.config.digest.clone(), bytes)]) {
        blobs.insert(stage.images.put_document(bytes, Some(digest), stage.lease)?);
    }
    let id = ImageId(manifest.1.config.digest);
    let names = name(entry).into_iter().collect();
    Ok(Some(NewImage {
        id,
        config,
        manifest: manifest.0,
        target,
        blobs,
        layers: layer_blobs,
        names,
        parent: None,
        held,
    }))
}

/// Something that is no image and for no platform.
fn artifact(
    stage: &mut Stage<'_>,
    entry: &IndexEntry,
    target: Descriptor,
    (descriptor, manifest): &(Descriptor, Manifest),
) -> Result<Option<NewImage>> {
    if !stage.takes_artifacts() {
        return Ok(None);
    }
    let mut blobs = HashSet::new();
    for blob in manifest.blobs() {
        if !stage.keep(&path(&blob.digest), &blob.digest)? {
            return Err(Error::Missing(path(&blob.digest)));
        }
        blobs.insert(blob.digest.clone());
    }
    let names = name(entry).into_iter().collect();
    Ok(Some(NewImage { names, ..NewImage::artifact(manifest, descriptor.clone(), target, blobs) }))
}

/// Keeps what else the archive has behind an image's target: attestations, artifacts, other platforms' images as far as they
/// are wanted. What it hasn't is left out.
fn keep(stage: &mut Stage<'_>, descriptor: &Descriptor, depth: usize, blobs: &mut HashSet<Digest>) -> Result<()> {
    let digest = &descriptor.digest;
    if depth > DEEPEST || !stage.keep(&path(digest), digest)? {
        return Ok(());
    }
    blobs.insert(digest.clone());
    match Document::parse(&blob_document(stage, descriptor)?, &format!("manifest {digest}"))? {
        Document::Index(index) => {
            let wanted = |entry: &&IndexEntry| {
                entry.is_attestation() || entry.platform.as_ref().is_none_or(|platform| stage.wants(platform))
            };
            let entries: Vec<_> = index.manifests.iter().filter(wanted).map(|entry| entry.descriptor.clone()).collect();
            entries.iter().try_for_each(|entry| keep(stage, entry, depth + 1, blobs))
        }
        Document::Manifest(manifest) => manifest.blobs().try_for_each(|blob| {
            if stage.keep(&path(&blob.digest), &blob.digest)? {
                blobs.insert(blob.digest.clone());
            }
            Ok(())
        }),
    }
}

/// A manifest and how it was found.
struct Chosen {
    target: Descriptor,
    manifest: (Descriptor, Manifest),
    /// The manifest and the indexes above it.
    documents: Vec<(Digest, Vec<u8>)>,
}

impl Chosen {
    /// The same, found in an index.
    fn within(mut self, target: Descriptor, index: Vec<u8>) -> Chosen {
        self.documents.push((target.digest.clone(), index));
        Chosen { target, ..self }
    }
}

/// The image that a descriptor means: itself, or the best of an index that is in the archive; an artifact where there is no image.
fn choose(stage: &Stage<'_>, descriptor: &Descriptor, depth: usize) -> Result<Option<Chosen>> {
    let what = format!("manifest {}", descriptor.digest);
    if depth > DEEPEST {
        return Err(Error::document(what, "indexes are nested too deeply"));
    }
    let bytes = blob_document(stage, descriptor)?;
    let parsed = Document::parse(&bytes, &what)?;
    let mut target = descriptor.clone();
    if target.media_type.is_empty() {
        target.media_type = document::media_type(&parsed).to_owned();
    }
    match parsed {
        Document::Manifest(manifest) => {
            let documents = vec![(target.digest.clone(), bytes)];
            Ok(Some(Chosen { target: target.clone(), manifest: (target, manifest), documents }))
        }
        Document::Index(index) => {
            let mut artifact = None;
            for entry in ordered(stage, &index) {
                // An archive often has one platform of an index only.
                if !stage.has(&path(&entry.descriptor.digest)) {
                    continue;
                }
                let Some(chosen) = choose(stage, &entry.descriptor, depth + 1)? else { continue };
                if chosen.manifest.1.is_artifact() {
                    artifact.get_or_insert(chosen);
                    continue;
                }
                return Ok(Some(chosen.within(target, bytes)));
            }
            Ok(artifact.map(|chosen| chosen.within(target, bytes)))
        }
    }
}

/// What fits the wanted platforms, best first, then all other images: a lone image of another platform is loaded too, unless
/// one was asked for.
fn ordered<'i>(stage: &Stage<'_>, index: &'i Index) -> Vec<&'i IndexEntry> {
    let mut entries: Vec<&IndexEntry> = Vec::new();
    for platform in stage.preferred() {
        entries.extend(index.candidates(&platform));
    }
    let others = index.manifests.iter().filter(|entry| !entry.is_attestation());
    let others = others.filter(|entry| entry.platform.as_ref().is_none_or(|platform| stage.wants(platform)));
    let others: Vec<_> = others.filter(|&other| !entries.iter().any(|&entry| std::ptr::eq(entry, other))).collect();
    entries.extend(others);
    entries
}

/// A document among the blobs, compared with its descriptor.
fn blob_document(stage: &Stage<'_>, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let bytes = stage.document(&path(&descriptor.digest))?;
    let mut digester = Digester::new(descriptor.digest.algorithm());
    digester.update(&bytes);
    let actual = digester.finish();
    if actual != descriptor.digest {
        let what = format!("blob {}", path(&descriptor.digest));
        return Err(Error::Mismatch { what, expected: descriptor.digest.clone(), actual });
    }
    Ok(bytes)
}

/// The name that an entry's annotations give.
fn name(entry: &IndexEntry) -> Option<Reference> {
    let whole = entry.annotation("io.containerd.image.name");
    let text = whole
        .or_else(|| entry.annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/'])));
    let reference = Reference::parse_normalized(text?).ok()?.with_default_tag();
    Some(reference).filter(|reference| reference.digest().is_none())
}
