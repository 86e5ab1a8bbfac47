//! What `docker save` writes: `manifest.json` names configuration, layers and tags of each image.

use std::collections::HashSet;

use corten_base::{ImageId, Reference};
use serde::Deserialize;

use super::stage::Stage;
use crate::document::{self, Manifest};
use crate::register::NewImage;
use crate::{Error, Result};

pub(super) const MANIFEST: &str = "manifest.json";

/// The most images that one archive may have.
const MOST_IMAGES: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    parent: Option<String>,
}

/// The images of the archive, unpacked.
pub(super) fn images(stage: &mut Stage<'_>) -> Result<Vec<NewImage>> {
    let bytes = stage.document(MANIFEST)?;
    let items: Option<Vec<Item>> = serde_json::from_slice(&bytes).map_err(|error| Error::document(MANIFEST, error))?;
    let items =
        items.ok_or_else(|| Error::Archive("invalid manifest, manifest cannot be null (but can be [])".into()))?;
    if items.len() > MOST_IMAGES {
        return Err(Error::Archive(format!(
            "{MANIFEST} has {} images, at most {MOST_IMAGES} are allowed",
            items.len()
        )));
    }
    let is_empty = items.is_empty();
    let mut images = Vec::with_capacity(items.len());
    for item in items {
        images.extend(image(stage, item)?);
    }
    if images.is_empty() && !is_empty {
        return Err(stage.nothing());
    }
    // A parent only counts when it comes along.
    let ids: HashSet<ImageId> = images.iter().map(|image| image.id.clone()).collect();
    for image in &mut images {
        image.parent = image.parent.take().filter(|parent| ids.contains(parent) && *parent != image.id);
    }
    Ok(images)
}

/// None for an image of a platform that isn't wanted.
fn image(stage: &mut Stage<'_>, item: Item) -> Result<Option<NewImage>> {
    let names = item.repo_tags.unwrap_or_default().iter().map(|text| tag(text)).collect::<Result<Vec<_>>>()?;
    let bytes = stage.document(&item.config)?;
    let paths = item.layers.unwrap_or_default();
    let what = format!("image configuration {}", item.config.escape_debug());
    let config = document::parse_config(&bytes, &what, paths.len())?;
    if !stage.wants(&config.platform()) {
        return Ok(None);
    }
    let layers: Vec<_> = paths.into_iter().map(|path| (path, None)).collect();
    let (layers, held) = stage.layers(&config, &layers)?;
    let id = ImageId(stage.images.put_document(&bytes, None, stage.lease)?);
    let layer_blobs: Vec<_> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let mut blobs: HashSet<_> = layer_blobs.iter().cloned().collect();
    let manifest = Manifest::write(document::config_descriptor(&bytes), layers);
    let target = document::manifest_descriptor(&manifest);
    blobs.extend([id.0.clone(), stage.images.put_document(&manifest, None, stage.lease)?]);
    let parent = item.parent.and_then(|parent| ImageId::parse(&parent).ok());
    Ok(Some(NewImage { id, config, manifest: target.clone(), target, blobs, layers: layer_blobs, names, parent, held }))
}

fn tag(text: &str) -> Result<Reference> {
    let reference = Reference::parse_normalized(text)?;
    if reference.tag().is_none() || reference.digest().is_some() {
        return Err(Error::InvalidName(format!("invalid tag {text:?}")));
    }
    Ok(reference)
}
