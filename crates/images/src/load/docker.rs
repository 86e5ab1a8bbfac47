//! What `docker save` writes: `manifest.json` names configuration, layers and tags of each image.

use std::collections::{HashMap, HashSet};

use corten_base::{ImageId, Reference};
use serde::Deserialize;

use super::stage::Stage;
use crate::config::ImageConfig;
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
        let called = item.repo_tags.iter().flatten().next().unwrap_or(&item.config).clone();
        images.extend(image(stage, item).map_err(Error::of_image(&called))?);
    }
    if images.is_empty() && !is_empty {
        return Err(stage.nothing());
    }
    keep_true_parents(&mut images);
    Ok(images)
}

/// A parent only counts when it comes along and can be one. Whatever the archive says, no image is its own ancestor: such a ring could
/// never be removed.
fn keep_true_parents(images: &mut [NewImage]) {
    let at: HashMap<&ImageId, usize> = images.iter().enumerate().map(|(at, image)| (&image.id, at)).collect();
    let is_true = |image: &NewImage| {
        let parent = image.parent.as_ref().and_then(|parent| at.get(parent));
        parent.is_some_and(|&parent| is_child(&image.config, &images[parent].config))
    };
    let kept: Vec<bool> = images.iter().map(is_true).collect();
    for (image, kept) in images.iter_mut().zip(kept) {
        image.parent.take_if(|_| !kept);
    }
}

/// One step of history more, or, as history isn't mandatory, at least one layer more.
fn is_child(image: &ImageConfig, parent: &ImageConfig) -> bool {
    let (history, before) = (&image.history, &parent.history);
    let (layers, below) = (&image.rootfs.diff_ids, &parent.rootfs.diff_ids);
    if history.is_empty() && before.is_empty() {
        return layers.len() > below.len() && layers.starts_with(below);
    }
    history.len() == before.len() + 1 && history.starts_with(before)
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

#[cfg(test)]
mod tests {
    use corten_base::{DiffId, Digest};

    use super::*;
    use crate::config::HistoryEntry;

    fn config(steps: &[&str], layers: u8) -> ImageConfig {
        let step = |step: &&str| HistoryEntry { created_by: (*step).into(), ..HistoryEntry::default() };
        let mut config = ImageConfig { history: steps.iter().map(step).collect(), ..ImageConfig::default() };
        config.rootfs.diff_ids = (0..layers).map(|number| DiffId(Digest::sha256(&[number]))).collect();
        config
    }

    #[test]
    fn a_parent_is_one_step_behind() {
        let one = config(&["a"], 1);
        assert!(is_child(&config(&["a", "b"], 2), &one));
        assert!(is_child(&config(&["a", "b"], 1), &one), "a step without a layer");
        for other in [config(&["a"], 1), config(&["x", "b"], 2), config(&["a", "b", "c"], 3), config(&[], 2)] {
            assert!(!is_child(&other, &one), "{other:?}");
        }
        assert!(is_child(&config(&[], 2), &config(&[], 1)));
        assert!(!is_child(&config(&[], 1), &config(&[], 1)));
        assert!(!is_child(&config(&[], 1), &config(&[], 2)));
    }
}
