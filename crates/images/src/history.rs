//! How an image came to be.

use corten_base::{Platform, time};

use crate::types::HistoryItem;
use crate::{Images, Result};

impl Images {
    /// The steps of an image's making, newest first. The newest has the image's id and names, those below what it was built
    /// on, if that is known; the others are `<missing>`. Layers that aren't unpacked have no size.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve).
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>> {
        let image = self.resolve(name, platform)?;
        let mut sizes = Vec::new();
        // One of several platforms' images may not be unpacked: nobody has measured its layers.
        if let Some(chain) = &image.chain
            && self.snapshots().exists(chain)?
        {
            sizes = self.snapshots().stack(chain)?.into_iter().rev().map(|layer| layer.size).collect();
        }
        let mut sizes = sizes.into_iter();
        let steps = image.config.history.iter().map(|step| HistoryItem {
            id: "<missing>".into(),
            created: step
                .created
                .as_deref()
                .and_then(|text| time::parse_rfc3339(text).ok())
                .map_or(0, time::unix_seconds),
            created_by: step.created_by.clone(),
            tags: Vec::new(),
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: step.comment.clone(),
        });
        let mut items: Vec<HistoryItem> = steps.collect();
        items.reverse();
        let mut known = Some(image);
        for item in &mut items {
            let Some(image) = known else { break };
            item.id = image.id.to_string();
            item.tags = image.repo_tags;
            known = image.parent.and_then(|parent| self.resolve(parent.as_str(), None).ok());
        }
        Ok(items)
    }
}
