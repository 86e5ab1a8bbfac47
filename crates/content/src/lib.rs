//! Blobs: ingest by ref and offset, verify, commit, open; leases with owner, expiry, labels.
//!
//! ```text
//! <data root>/content/
//!   blobs/<algorithm>/<hex>   a committed blob: whole, verified, never changed, read-only
//!   ingest/<hex>              a named ingest's bytes so far; <hex> is the SHA-256 of its reference
//!   ingest/tmp-<hex>          a nameless ingest, which ends with the process
//! content_lease(namespace, id, owner, created, expires, labels)
//! content_lease_blob(namespace, lease, digest)      digest: of a blob, or ingest/<hex>
//! ```
//!
//! **What survives what.** The bytes of an ingest are in the page cache as they are written: they survive kill -9, and
//! [`Store::ingest`] with the same reference goes on behind them (hashing them again first). [`Ingest::commit`] compares
//! digest and length, syncs the file's data, renames it to its digest and syncs the folder: a blob that has a name is whole,
//! whatever happens. A part that a power loss has damaged fails its verification and is thrown away.
//!
//! **Garbage.** An ingest stays while a lease holds it, a blob while a lease holds it or [`Store::collect`]'s caller calls it live. Take a lease first, add each
//! blob to it by committing or [`Lease::hold`], make the record that names the blobs, then drop the lease. Leases without an
//! expiry end with the process; one with an expiry outlives it, so that an interrupted download is worth continuing.

mod audit;
mod blobs;
mod collect;
mod error;
mod follow;
mod ingest;
mod lease;
mod verify;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use corten_base::{Algorithm, Digest};
use corten_metadata::{Database, Schema};

pub use audit::BadLease;
pub use collect::Collected;
pub use error::{Error, Result};
pub use follow::Follower;
pub use ingest::Ingest;
pub use lease::{Lease, LeaseOptions};

/// The tables of this room.
pub const SCHEMA: Schema = Schema { room: "content", migrations: &[lease::TABLES] };

/// The blobs of one data root; clones are handles on the same store.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    database: Database,
    /// Files of named ingests that are being written.
    busy: Mutex<HashSet<String>>,
    /// Leases that this process has.
    leases: Mutex<HashSet<String>>,
    /// Numbers for names that are unique within the process.
    counter: AtomicU64,
    /// Held for writing while garbage is collected, for reading while a blob comes under a lease.
    garbage: RwLock<()>,
}

impl Store {
    /// Opens or creates the store below `root` and removes what ended with the last process: nameless ingests and leases without
    /// expiry.
    ///
    /// # Errors
    /// [`Error::Io`] if the folders can't be made.
    pub fn open(root: &Path, database: Database) -> Result<Store> {
        for folder in ["ingest", "blobs/sha256", "blobs/sha512"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        // Images hold what only their own users may read, and here it lies without its owners and modes.
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(Error::io("protect", root))?;
        let shared = Shared {
            root: root.into(),
            database,
            busy: Mutex::default(),
            leases: Mutex::default(),
            counter: AtomicU64::new(0),
            garbage: RwLock::default(),
        };
        let store = Store { shared: Arc::new(shared) };
        store.forget_process_leases()?;
        store.clear_nameless()?;
        Ok(store)
    }

    fn next(&self) -> u64 {
        self.shared.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn database(&self) -> &Database {
        &self.shared.database
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_folder(digest.algorithm()).join(digest.hex())
    }

    fn blob_folder(&self, algorithm: Algorithm) -> PathBuf {
        self.shared.root.join("blobs").join(algorithm.as_str())
    }

    fn ingest_folder(&self) -> PathBuf {
        self.shared.root.join("ingest")
    }
}

#[cfg(test)]
mod tests;
