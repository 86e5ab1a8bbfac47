//! Garbage: blobs that nobody names and no lease holds, parts that no lease holds, and parts of blobs that are here.

use std::collections::HashSet;
use std::fs;
use std::sync::PoisonError;

use corten_base::Digest;

use crate::ingest::part_of;
use crate::{Error, Result, Store};

/// What a collection removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The number of blobs.
    pub blobs: u64,
    /// The number of ingests.
    pub ingests: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes all blobs that no lease holds and that aren't among those that `live` answers, and the ingests that no lease holds.
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
        let (garbage, kept): (Vec<Digest>, Vec<Digest>) =
            self.blobs()?.into_iter().partition(|digest| !held.has_blob(digest) && !live.contains(digest));
        let mut collected = self.remove_all(&garbage)?;
        let ingests = self.named_ingests()?;
        if ingests.is_empty() {
            return Ok(collected);
        }
        // What has come whole in another way; who is at it finds that out.
        let whole: HashSet<String> = kept.iter().map(part_of).collect();
        for (name, bytes) in ingests {
            if (!held.has_ingest(&name) || whole.contains(&name)) && !self.is_busy(&name) {
                let path = self.ingest_folder().join(name);
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                collected.ingests += 1;
                collected.bytes += bytes;
            }
        }
        Ok(collected)
    }

    /// As [`collect`](Store::collect), of these blobs alone: it takes as long as there are of them.
    ///
    /// # Errors
    /// As [`collect`](Store::collect).
    pub fn collect_among<E: From<Error>>(
        &self,
        blobs: &HashSet<Digest>,
        live: impl FnOnce() -> Result<HashSet<Digest>, E>,
    ) -> Result<Collected, E> {
        let _alone = self.shared.garbage.write().unwrap_or_else(PoisonError::into_inner);
        let held = self.held()?;
        let live = live()?;
        let garbage = blobs.iter().filter(|digest| !held.has_blob(digest) && !live.contains(digest));
        Ok(self.remove_all(garbage)?)
    }

    fn remove_all<'a>(&self, garbage: impl IntoIterator<Item = &'a Digest>) -> Result<Collected> {
        let mut collected = Collected::default();
        for digest in garbage {
            let Some(size) = self.size(digest) else { continue };
            self.remove(digest)?;
            collected.bytes += size;
            collected.blobs += 1;
        }
        Ok(collected)
    }

    /// What is here for nothing but an interrupted operation that may go on: `live` answers which blobs have a record.
    ///
    /// # Errors
    /// As [`collect`](Store::collect).
    pub fn interrupted<E: From<Error>>(
        &self,
        live: impl FnOnce() -> Result<HashSet<Digest>, E>,
    ) -> Result<Collected, E> {
        let mut found = Collected::default();
        for (name, bytes) in self.named_ingests()? {
            if !self.is_busy(&name) {
                found.ingests += 1;
                found.bytes += bytes;
            }
        }
        let held = self.held()?;
        let waiting = held.abandoned.difference(&held.active).filter_map(|text| Digest::parse(text).ok());
        let waiting: Vec<(Digest, u64)> =
            waiting.filter_map(|digest| self.size(&digest).map(|size| (digest, size))).collect();
        if !waiting.is_empty() {
            let live = live()?;
            for (_, size) in waiting.iter().filter(|(digest, _)| !live.contains(digest)) {
                found.blobs += 1;
                found.bytes += size;
            }
        }
        Ok(found)
    }
}
