//! An image store in a folder of its own, and the leak check for it.

#![expect(dead_code, reason = "each test program uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use corten_base::{ImageId, Namespace};
use corten_content::Store;
use corten_events::{Filter, Log, Subscription};
use corten_images::{Images, InUse, Loaded, Progress, Result};
use corten_metadata::Database;
use corten_snapshot::Snapshots;

pub struct Fixture {
    folder: tempfile::TempDir,
}

/// An open store with its parts.
pub struct Opened {
    pub images: Images,
    pub content: Store,
    pub snapshots: Snapshots,
    pub events: Log,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn open(&self) -> Opened {
        open_at(self.folder())
    }
}

/// Opens the store in a folder.
pub fn open_at(folder: &Path) -> Opened {
    let schemas = [corten_content::SCHEMA, corten_snapshot::SCHEMA, corten_images::SCHEMA];
    let database = Database::open(&folder.join("metadata.db"), &schemas).unwrap();
    let content = Store::open(&folder.join("content"), database.clone()).unwrap();
    let snapshots = Snapshots::open(&folder.join("snapshots"), database.clone()).unwrap();
    let events = Log::new(100);
    let images = Images::open(database, content.clone(), snapshots.clone(), events.clone()).unwrap();
    Opened { images, content, snapshots, events }
}

impl Opened {
    pub fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>> {
        self.images.load(archive, &[], &|_| {})
    }

    /// Loads, and answers the lines of text that were reported.
    pub fn load_lines(&self, archive: &[u8]) -> Vec<String> {
        let lines = Mutex::new(Vec::new());
        let report = |progress| {
            if let Progress::Stream(line) = progress {
                lines.lock().unwrap().push(line);
            }
        };
        self.images.load(archive, &[], &report).unwrap();
        lines.into_inner().unwrap()
    }

    pub fn subscribe(&self) -> Subscription {
        self.events.subscribe(&Namespace::default(), Filter::default(), None)
    }

    /// What is in the store: blobs, layers, folders of layers, unfinished ingests.
    pub fn holdings(&self, fixture: &Fixture) -> [usize; 4] {
        self.snapshots.wait_removed();
        let count = |name: &str| fs::read_dir(fixture.path(name)).unwrap().count();
        [
            self.content.blobs().unwrap().len(),
            self.snapshots.layers().unwrap().len(),
            count("snapshots") - 1,
            count("content/ingest"),
        ]
    }
}

pub fn nobody(_: &ImageId) -> Vec<InUse> {
    Vec::new()
}
