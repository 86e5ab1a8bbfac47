//! What an extraction keeps in memory until its end, and how much it may do and keep.
//!
//! An archive's size says little about this: one name of 4096 bytes may imply two thousand directories.

use crate::{Error, Result};
use rustix::fs::Timestamps;
use std::collections::{BTreeMap, BTreeSet};

/// What a path costs beside its bytes: its place in a map.
const PLACE: u64 = 128;

/// What making files in a directory would change, or would be changed by.
pub(crate) struct Late {
    pub times: Timestamps,
    /// The access list that new files in it get: those of the archive have their own.
    pub default_acl: Option<Vec<u8>>,
}

/// How much of something may still come.
pub(crate) struct Allowance {
    what: &'static str,
    limit: u64,
    left: u64,
}

impl Allowance {
    pub fn new(what: &'static str, limit: u64) -> Allowance {
        Allowance { what, limit, left: limit }
    }

    pub fn take(&mut self, count: u64) -> Result<()> {
        self.left = self.left.checked_sub(count).ok_or(Error::Limit { what: self.what, limit: self.limit })?;
        Ok(())
    }

    fn give_back(&mut self, count: u64) {
        self.left = self.left.saturating_add(count);
    }

    /// Allows so many more.
    pub fn grant(&mut self, count: u64) {
        self.limit = self.limit.saturating_add(count);
        self.give_back(count);
    }
}

/// Directories by their paths free of links.
pub(crate) struct Kept {
    /// Made without an entry of their own.
    implied: BTreeSet<Vec<u8>>,
    /// What they get in the end, when nothing changes in them any more.
    late: BTreeMap<Vec<u8>, Late>,
    bytes: Allowance,
}

impl Kept {
    pub fn new(most_bytes: u64) -> Kept {
        let bytes = Allowance::new("bytes of directories' names", most_bytes);
        Kept { implied: BTreeSet::new(), late: BTreeMap::new(), bytes }
    }

    pub fn imply(&mut self, path: Vec<u8>) -> Result<()> {
        self.bytes.take(cost(&path))?;
        self.implied.insert(path);
        Ok(())
    }

    pub fn not_implied(&mut self, path: &[u8]) {
        if self.implied.remove(path) {
            self.bytes.give_back(cost(path));
        }
    }

    pub fn defer(&mut self, path: Vec<u8>, late: Late) -> Result<()> {
        let cost = cost(&path) + late.acl_bytes();
        self.bytes.take(cost)?;
        if let Some(before) = self.late.insert(path, late) {
            self.bytes.give_back(cost - before.acl_bytes().min(cost));
        }
        Ok(())
    }

    /// Forgets a directory and all below it.
    pub fn forget(&mut self, path: &[u8]) {
        let below = [path, b"/"].concat();
        let is_below = |known: &Vec<u8>| known.starts_with(&below);
        self.not_late(path);
        while let Some(known) = self.late.range(below.clone()..).next().map(|(known, _)| known.clone()).filter(is_below)
        {
            self.not_late(&known);
        }
        self.not_implied(path);
        while let Some(known) = self.implied.range(below.clone()..).next().cloned().filter(is_below) {
            self.not_implied(&known);
        }
    }

    pub fn take_late(&mut self) -> BTreeMap<Vec<u8>, Late> {
        std::mem::take(&mut self.late)
    }

    pub fn into_implied(self) -> Vec<Vec<u8>> {
        self.implied.into_iter().collect()
    }

    fn not_late(&mut self, path: &[u8]) {
        if let Some(late) = self.late.remove(path) {
            self.bytes.give_back(cost(path) + late.acl_bytes());
        }
    }
}

impl Late {
    fn acl_bytes(&self) -> u64 {
        self.default_acl.as_ref().map_or(0, Vec::len) as u64
    }
}

fn cost(path: &[u8]) -> u64 {
    path.len() as u64 + PLACE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(acl: usize) -> Late {
        let none = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        Late { times: Timestamps { last_access: none, last_modification: none }, default_acl: Some(vec![0; acl]) }
    }

    #[test]
    fn what_is_forgotten_is_given_back() {
        let mut kept = Kept::new(10_000);
        for _ in 0..1000 {
            kept.imply(b"a/b".to_vec()).unwrap();
            kept.defer(b"a".to_vec(), late(1000)).unwrap();
            kept.defer(b"a".to_vec(), late(2000)).unwrap();
            kept.defer(b"a/b/c".to_vec(), late(0)).unwrap();
            kept.not_implied(b"a/b");
            kept.forget(b"a");
        }
        assert_eq!(kept.bytes.left, 10_000);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut kept = Kept::new(10_000);
        assert!(kept.defer(b"a".to_vec(), late(20_000)).is_err());
        let mut kept = Kept::new(10_000);
        let made = (0..100).take_while(|number| kept.imply(vec![b'x'; *number]).is_ok()).count();
        assert!((50..80).contains(&made), "{made}");
    }
}
