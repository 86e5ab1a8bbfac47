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
use crate::walk::{Budget, Contents, walk};
use crate::{Error, Result};

pub(super) const INDEX: &str = "index.json";
pub(super) const LAYOUT: &str = "oci-layout";

/// The images of the layout, unpacked: one for each entry of its index that is one, or has one for this machine.
pub(super) fn images(stage: &mut Stage<'_>) -> Result<Vec<NewImage>> {
    let bytes = stage.document(INDEX)?;
    let Document::Index(index) = Document::parse(&bytes, INDEX)? else {
        return Err(Error::document(INDEX, "it is not an index"));
    };
    let (mut images, mut unwanted): (Vec<NewImage>, HashSet<&Digest>) = (Vec::new(), HashSet::new());
    let mut budget = Budget::of_archive();
    for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
        let digest = &entry.descriptor.digest;
        // Several entries are several names of one image, as skopeo writes it.
        if let Some(other) = images.iter_mut().find(|other| other.target.digest == *digest) {
            other.names.extend(name(entry));
        } else if !unwanted.contains(digest) {
            let called = name(entry).map_or_else(|| digest.to_string(), |name| name.familiar());
            match image(stage, entry, &mut budget).map_err(Error::of_image(&called))? {
                Some(image) => images.push(image),
                None => drop(unwanted.insert(digest)),
            }
        }
    }
    if images.is_empty() {
        return Err(stage.nothing());
    }
    Ok(images)
}

fn image(stage: &mut Stage<'_>, entry: &IndexEntry, budget: &mut Budget) -> Result<Option<NewImage>> {
    let contents = contents(stage, &entry.descriptor, budget)?;
    let Some((descriptor, manifest)) = choose(stage, &entry.descriptor, &contents, &mut HashSet::new()) else {
        return Ok(None);
    };
    let target = match contents.indexes.last() {
        Some((descriptor, index)) => descriptor.clone().of_document(index.media_type.as_deref(), true),
        None => descriptor.clone(),
    };
    let names = name(entry).into_iter().collect();
    if manifest.is_artifact() {
        let image = artifact(stage, (descriptor, manifest), target, &contents)?;
        return Ok(image.map(|image| NewImage { names, ..image }));
    }
    let bytes = blob_document(stage, &manifest.config)?;
    let config = document::parse_config(&bytes, "image configuration", manifest.layers.len())?;
    if !stage.wants(&config.platform()) {
        return Ok(None);
    }
    let layers: Vec<_> =
        manifest.layers.iter().map(|layer| (path(&layer.digest), Some(layer.digest.clone()))).collect();
    let (_, held) = stage.layers(&config, &layers)?;
    let id = ImageId(manifest.config.digest.clone());
    let layers = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
    let blobs = keep(stage, &contents)?;
    Ok(Some(NewImage { id, config, manifest: descriptor, target, blobs, layers, names, parent: None, held }))
}

/// Something that is no image and for no platform.
fn artifact(
    stage: &mut Stage<'_>,
    (descriptor, manifest): (Descriptor, &Manifest),
    target: Descriptor,
    contents: &Contents,
) -> Result<Option<NewImage>> {
    if !stage.takes_artifacts() {
        return Ok(None);
    }
    let blobs = keep(stage, contents)?;
    if let Some(missing) = manifest.blobs().find(|blob| !blobs.contains(&blob.digest)) {
        return Err(Error::Missing(path(&missing.digest)));
    }
    Ok(Some(NewImage::artifact(manifest, descriptor, target, blobs)))
}

/// What the archive has behind a descriptor, as far as it is wanted.
fn contents(stage: &Stage<'_>, root: &Descriptor, budget: &mut Budget) -> Result<Contents> {
    let source = |descriptor: &Descriptor| {
        let is_there = descriptor.digest == root.digest || stage.has(&path(&descriptor.digest));
        is_there.then(|| blob_document(stage, descriptor)).transpose()
    };
    let wanted = |entry: &IndexEntry| {
        entry.is_attestation() || entry.platform.as_ref().is_none_or(|platform| stage.wants(platform))
    };
    walk(root, &source, &wanted, budget)
}

/// Keeps what the archive has behind an image's target: the image, attestations, artifacts, other platforms' images. What it hasn't
/// is left out.
fn keep(stage: &mut Stage<'_>, contents: &Contents) -> Result<HashSet<Digest>> {
    let mut kept = HashSet::new();
    for digest in contents.blobs() {
        if stage.keep(&path(&digest), &digest)? {
            kept.insert(digest);
        }
    }
    Ok(kept)
}

/// The image that a descriptor means: itself, or the best of an index that is in the archive; an artifact where there is no image.
/// What was `tried` before isn't again.
fn choose<'c>(
    stage: &Stage<'_>,
    descriptor: &Descriptor,
    contents: &'c Contents,
    tried: &mut HashSet<Digest>,
) -> Option<(Descriptor, &'c Manifest)> {
    if !tried.insert(descriptor.digest.clone()) {
        return None;
    }
    let index = contents.indexes.iter().find(|(index, _)| index.digest == descriptor.digest);
    let Some((_, index)) = index else {
        // An archive often has one platform of an index only.
        let manifest = contents.parts.iter().find(|part| *part.digest() == descriptor.digest)?.manifest.as_ref()?;
        return Some((descriptor.clone().of_document(manifest.media_type.as_deref(), false), manifest));
    };
    let mut artifact = None;
    for entry in ordered(stage, index) {
        let Some(chosen) = choose(stage, &entry.descriptor, contents, tried) else { continue };
        if !chosen.1.is_artifact() {
            return Some(chosen);
        }
        artifact.get_or_insert(chosen);
    }
    artifact
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
