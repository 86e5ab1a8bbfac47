//! A store in a folder of its own.

use std::fs;
use std::path::PathBuf;

use corten_base::{ChainId, Digest};
use corten_metadata::Database;
use corten_snapshot::{SCHEMA, Snapshots};

pub struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn database(&self) -> Database {
        Database::open(&self.path("metadata.db"), &[SCHEMA]).unwrap()
    }

    pub fn open(&self) -> Snapshots {
        Snapshots::open(&self.path("snapshots"), self.database()).unwrap()
    }

    /// Commits layer `number` on top of the one before: `file-<number>` and `same`, both with the number in them.
    pub fn layer(&self, store: &Snapshots, number: u32) {
        let draft = store.draft_layer().unwrap();
        for name in [format!("file-{number}"), "same".to_owned()] {
            fs::write(draft.path().join(name), number.to_string()).unwrap();
        }
        let parent = (number > 1).then(|| chain(number - 1));
        draft.commit(&chain(number), parent.as_ref(), 2).unwrap();
    }

    pub fn layers(&self, store: &Snapshots, count: u32) {
        (1..=count).for_each(|number| self.layer(store, number));
    }
}

pub fn chain(number: u32) -> ChainId {
    ChainId(Digest::sha256(&number.to_be_bytes()))
}
