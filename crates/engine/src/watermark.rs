//! Images that nobody uses go by themselves when the disk fills: at a high mark, until a low one. Off unless it is asked for.
//!
//! An image is fair game when no container was made from it and its last name is older than the least age, so that what was
//! just pulled to be run isn't taken away before it is. Those named longest ago go first.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_base::Namespace;
use corten_images::{Filters, Summary};

use crate::blocking;
use crate::error::Error;
use crate::services::ImageService;
use crate::shared::Shared;

/// How often the disk is looked at when no image arrives.
const LOOK: Duration = Duration::from_secs(60);

/// When images are removed; percent of the file system in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// At so much it begins.
    pub high: u8,
    /// Below so much it ends.
    pub low: u8,
    /// Images named more recently stay.
    pub least_age: Duration,
}

impl Watermarks {
    /// Refuses marks that make no sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.high > 100 || self.low >= self.high {
            let (high, low) = (self.high, self.low);
            return Err(Error::Invalid(format!(
                "image-gc-low ({low}) must be below image-gc-high ({high}), at most 100"
            )));
        }
        Ok(())
    }
}

/// Looks at the disk whenever an image has arrived, and from time to time. Runs until it is aborted.
pub(crate) async fn keep(shared: Arc<Shared>, marks: Watermarks) {
    loop {
        if let Err(error) = relieve(&shared, marks).await {
            tracing::warn!(error = error.message(), "cannot make room on the disk");
        }
        // Either is reason enough to look.
        let _ = tokio::time::timeout(LOOK, shared.image_arrived.notified()).await;
    }
}

/// Removes images from the high mark down to the low one.
async fn relieve(shared: &Arc<Shared>, marks: Watermarks) -> Result<(), Error> {
    if in_use(shared).await? < marks.high {
        return Ok(());
    }
    let images = ImageService { shared: shared.clone(), namespace: Namespace::default() };
    // What can be fetched again at no one's cost goes before what somebody may want to run.
    if images.forget_interrupted().await? > 0 && in_use(shared).await? < marks.low {
        return Ok(());
    }
    let list = images.list(Filters { all: true, ..Filters::default() }).await?;
    for image in candidates(list, SystemTime::now(), marks.least_age) {
        if images.users(&image.id) > 0 {
            continue;
        }
        match images.remove(image.id.as_str(), true, false).await {
            Ok(_) => tracing::info!(image = image.id.short(), "removed an unused image to make room on the disk"),
            Err(error) => tracing::debug!(image = image.id.short(), error = error.message(), "an image stays"),
        }
        let snapshots = shared.snapshots.clone();
        blocking::run(move || snapshots.wait_removed()).await?;
        if in_use(shared).await? < marks.low {
            break;
        }
    }
    Ok(())
}

/// The images that may go, the first first.
fn candidates(mut images: Vec<Summary>, now: SystemTime, least_age: Duration) -> Vec<Summary> {
    images.retain(|image| {
        image.last_tagged.is_none_or(|named| now.duration_since(named).unwrap_or_default() >= least_age)
    });
    images.sort_by_key(|image| (image.last_tagged, image.created));
    images
}

/// Percent of the data root's file system that is in use, as df(1) counts it.
async fn in_use(shared: &Arc<Shared>) -> Result<u8, Error> {
    let root = shared.config.data_root.clone();
    blocking::run(move || percent_in_use(&root)).await?
}

fn percent_in_use(path: &Path) -> Result<u8, Error> {
    let stat = rustix::fs::statvfs(path).map_err(Error::failed("cannot look at the disk"))?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let whole = used.saturating_add(stat.f_bavail).max(1);
    Ok(u8::try_from(used.saturating_mul(100).div_ceil(whole)).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_base::{Digest, ImageId};
    use corten_images::Descriptor;

    fn image(named: Option<u64>, created: i64) -> Summary {
        let digest = Digest::sha256(format!("{named:?} {created}").as_bytes());
        Summary {
            id: ImageId(digest.clone()),
            parent: None,
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            created,
            size: 1,
            labels: Default::default(),
            target: Descriptor { media_type: String::new(), digest, size: 1 },
            last_tagged: named.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn what_was_named_longest_ago_goes_first() {
        let images = vec![image(Some(50), 1), image(None, 9), image(Some(20), 5), image(Some(95), 0)];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let order: Vec<i64> =
            candidates(images, now, Duration::from_secs(10)).iter().map(|image| image.created).collect();
        assert_eq!(order, [9, 5, 1]);
    }

    #[test]
    fn marks_are_checked() {
        let check = |high, low| Watermarks { high, low, least_age: Duration::ZERO }.check().is_ok();
        assert!(check(90, 80) && check(1, 0) && check(100, 99));
        assert!(!check(80, 80) && !check(80, 90) && !check(101, 5));
    }
}
