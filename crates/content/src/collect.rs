//! Garbage: blobs that nobody names and no lease holds, and parts of blobs that are here.

use std::collections::HashSet;
use std::sync::PoisonError;

use corten_base::Digest;

use crate::{Error, Store};

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes all blobs that no lease holds and that aren't among those that `live` answers.
    ///
    /// `live` is asked after the leases were read, and nothing comes under a lease meanwhile: what was committed, recorded
    /// and released before is seen by it, what is committed later is held.
    ///
    /// # Errors
    /// What `live` answers, or [`Error`].
    pub fn collect<E: From<Error>>(&self, live: impl FnOnce() -> Result<HashSet<Digest>, E>) -> Result<Collected, E> {
        let _alone = self.shared.garbage.write().unwrap_or_else(PoisonError::into_inner);
        let held = self.held()?;
        let live = live()?;
        let mut collected = Collected::default();
        let blobs = self.blobs()?;
        self.clear_parts_of(&blobs)?;
        for digest in blobs {
            if !held.contains(&digest) && !live.contains(&digest) {
                let size = self.size(&digest).unwrap_or(0);
                self.remove(&digest)?;
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        Ok(collected)
    }
}
