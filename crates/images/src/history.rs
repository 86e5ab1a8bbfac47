//! How an image came to be.

use corten_base::time;

use crate::types::HistoryItem;
use crate::{Images, Result};

impl Images {
    /// The steps of an image's making, newest first. Only the newest has the image's id and names: the others are
    /// `<missing>`, as for every image that wasn't built here.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve).
    pub fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let image = self.resolve(name, None)?;
        let mut sizes = Vec::new();
        if let Some(chain) = &image.chain {
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
        if let Some(newest) = items.first_mut() {
            newest.id = image.id.to_string();
            newest.tags = image.repo_tags;
        }
        Ok(items)
    }
}
