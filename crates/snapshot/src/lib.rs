//! Layered root file systems, active and committed, on overlayfs.
//!
//! A committed **layer** is known by its chain id, an **active** snapshot (a container's writable layer) by its key. Both are
//! folders of the same shape; committing a draft makes a record, it moves nothing.
//!
//! ```text
//! <data root>/snapshots/
//!   <id>/fs      a layer's files in overlay's form (whiteouts are character devices 0,0), or an active snapshot's upper
//!   <id>/work    an active snapshot's work directory, for overlayfs alone
//!   empty/       the lower directory of images without layers
//! snapshot_layer(chain, id, parent, size, boot)    snapshot_active(key, id, parent)    snapshot_init(parent, id, boot)
//! ```
//!
//! Ids are short decimal numbers, because the old mount interface must fit the names of all layers into one page. A folder
//! without a record is what an interrupted operation left; it is removed when the store is opened.
//!
//! **Durability.** Layers are extracted without syncing each file. A layer's record carries the boot in which it was written
//! until [`Snapshots::sync`] has brought its files to the disk; records of an earlier boot that still carry one are dropped
//! when the store is opened (the power went), and the layer is unpacked again from its blob. So nobody waits for the disk to
//! run an image just pulled, and a half-written layer is never used. Active snapshots promise what the kernel promises.
//!
//! An **init layer** stands between a layer and all active snapshots on it: what the store's user puts above every image
//! ([`Snapshots::with_init`]), made once instead of in each snapshot. It goes with its layer, and isn't synced: after a power
//! loss it is made anew.
//!
//! The one snapshotter is overlay; a trait comes with the second.

mod error;
mod init;
mod layers;
mod mount;
mod reaper;
mod records;
mod reuse;
mod roots;
mod sync;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use corten_base::ChainId;
use corten_metadata::{Database, Schema};

pub use error::{Error, Result};
pub use init::Furnish;
pub use layers::{Hold, Layer, LayerDraft};
pub use mount::MountOptions;
pub use reuse::Recorded;
pub use roots::{ActiveDraft, Forgotten, RootFs, Usage};

use reaper::Reaper;
use sync::Background;

/// The tables of this room.
pub const SCHEMA: Schema = Schema { room: "snapshot", migrations: &[records::TABLES, records::INIT_TABLE] };

/// The name of the folder that stands in for the layers of an image without any.
const EMPTY: &str = "empty";

/// A layer of this size is tried however full the disk is: it may be all holes.
const LEAST_ROOM: u64 = 1 << 30;

/// The layers and active snapshots of one data root; clones are handles on the same store.
#[derive(Clone, Debug)]
pub struct Snapshots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    database: Database,
    boot: String,
    next: AtomicU64,
    /// Layers that operations under way rely on, and how many do.
    holds: Mutex<HashMap<ChainId, usize>>,
    reaper: Arc<Reaper>,
    background: Background,
    furnish: OnceLock<Furnish>,
    /// Held while an init layer is made: only one is wanted.
    making_init: Mutex<()>,
    /// The most bytes that a layer may take.
    largest: AtomicU64,
}

impl Snapshots {
    /// Opens or creates the store below `root` and removes what interrupted operations and a power loss left.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder can't be made or read.
    pub fn open(root: &Path, database: Database) -> Result<Snapshots> {
        let empty = root.join(EMPTY);
        fs::create_dir_all(&empty).map_err(Error::io("create", &empty))?;
        let root = root.canonicalize().map_err(Error::io("find", root))?;
        // Layers hold set-uid programs and devices: nobody but root comes in here.
        fs::set_permissions(&root, PermissionsExt::from_mode(0o700)).map_err(Error::io("protect", &root))?;
        let boot = fs::read_to_string(BOOT_ID).map_err(Error::io("read", BOOT_ID.as_ref()))?.trim().to_owned();
        let folders = folders(&root)?;
        let kept = records::reconcile(&database, &boot, &folders)?;
        let reaper = Arc::new(Reaper::default());
        let highest = folders.iter().copied().max().unwrap_or(0).max(kept.highest);
        for id in folders.iter().filter(|id| !kept.ids.contains(id)) {
            reaper.remove(root.join(id.to_string()));
        }
        let shared = Shared {
            root,
            database,
            boot,
            next: AtomicU64::new(highest + 1),
            holds: Mutex::default(),
            reaper,
            background: Background::default(),
            furnish: OnceLock::new(),
            making_init: Mutex::default(),
            largest: AtomicU64::new(u64::MAX),
        };
        Ok(Snapshots { shared: Arc::new(shared) })
    }

    /// Sets how many bytes a layer may take from now on; at first as many as the disk has.
    pub fn limit_layers(&self, bytes: u64) {
        self.shared.largest.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes a layer may take now: what was configured, at most what the disk has.
    #[must_use]
    pub fn room(&self) -> u64 {
        let largest = self.shared.largest.load(Ordering::Relaxed);
        // Headers and holes take no place on the disk, hence the factor.
        largest.min(self.free().saturating_mul(2).max(LEAST_ROOM))
    }

    /// How many files a layer may have now: what the disk has inodes for, where it counts them beforehand.
    #[must_use]
    pub fn room_for_files(&self) -> u64 {
        match rustix::fs::statvfs(&self.shared.root) {
            Ok(stat) if stat.f_files > 0 => stat.f_favail,
            _ => u64::MAX,
        }
    }

    /// The folder that all layers are in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shared.root
    }

    /// How many bytes the disk has free.
    #[must_use]
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.shared.root);
        stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Blocks until all files that are to be removed are gone.
    pub fn wait_removed(&self) {
        self.shared.reaper.wait();
    }

    fn database(&self) -> &Database {
        &self.shared.database
    }

    fn folder(&self, id: u64) -> PathBuf {
        self.shared.root.join(id.to_string())
    }

    fn next_id(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    fn discard(&self, id: u64) {
        self.shared.reaper.remove(self.folder(id));
    }
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The ids that have a folder.
fn folders(root: &Path) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::io("list", root))? {
        let name = entry.map_err(Error::io("list", root))?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(ids)
}
