//! Init layers: what stands between an image and every container of it.
//!
//! Docker gives each container a layer `<id>-init` with the places that mounts go to. What is in it follows from the image alone,
//! so one for each image does, and a new container is two empty folders. Its content is overlay's own: made by mounting an
//! overlay on the image's layers and letting the store's user furnish that.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::PoisonError;

use corten_base::ChainId;

use crate::{EMPTY, Error, MountOptions, Result, Snapshots, records};

/// Puts what every container needs into an image's mounted root. The same in each run for the same image.
pub type Furnish = fn(BorrowedFd<'_>) -> io::Result<()>;

/// What an active snapshot stands on.
pub(crate) struct Below {
    /// The id of the init layer, where there is one.
    pub init: Option<u64>,
    /// All folders, the nearest first.
    pub lower: Vec<PathBuf>,
}

impl Snapshots {
    /// Has every active snapshot stand on an init layer that `furnish` fills. To be said before the store is used.
    #[must_use]
    pub fn with_init(self, furnish: Furnish) -> Snapshots {
        self.shared.furnish.get_or_init(|| furnish);
        self
    }

    /// What an active snapshot on `parent` stands on, with an init layer that is made if there is none yet.
    pub(crate) fn below(&self, parent: Option<&ChainId>) -> Result<Below> {
        let mut below = self.recorded(parent)?;
        if let Some(furnish) = self.shared.furnish.get()
            && below.init.is_none()
        {
            below.init = Some(self.make_init(parent, *furnish)?);
        }
        if let Some(init) = below.init {
            below.lower.insert(0, self.folder(init).join("fs"));
        }
        Ok(below)
    }

    /// The init layer that is there, if any, and the layers' folders without it.
    fn recorded(&self, parent: Option<&ChainId>) -> Result<Below> {
        let (stack, init) = self.database().read(|connection| {
            let stack = parent.map(|chain| records::stack(connection, chain)).transpose()?;
            Ok::<_, Error>((stack, records::init(connection, parent)?))
        })?;
        let lower = match stack {
            Some(rows) => rows.iter().map(|row| self.folder(row.id).join("fs")).collect(),
            None => vec![self.shared.root.join(EMPTY)],
        };
        Ok(Below { init, lower })
    }

    fn make_init(&self, parent: Option<&ChainId>, furnish: Furnish) -> Result<u64> {
        let _one_at_a_time = self.shared.making_init.lock().unwrap_or_else(PoisonError::into_inner);
        let below = self.recorded(parent)?;
        if let Some(init) = below.init {
            return Ok(init);
        }
        let id = self.next_id();
        let made = self.fill_init(id, below.lower, furnish).and_then(|()| self.record_init(parent, id));
        if made.is_err() {
            self.discard(id);
        }
        made.map(|()| id)
    }

    fn fill_init(&self, id: u64, lower: Vec<PathBuf>, furnish: Furnish) -> Result<()> {
        self.make_active(id)?;
        let root = self.root(id, lower);
        let mounted = root.mount_detached(MountOptions::default())?;
        furnish(mounted.as_fd()).map_err(Error::io("furnish", &root.upper))?;
        // Unmounted before anything stands on it: a folder is not to be upper and lower at once.
        drop(mounted);
        fs::remove_dir_all(&root.work).map_err(Error::io("remove", &root.work))
    }

    fn record_init(&self, parent: Option<&ChainId>, id: u64) -> Result<()> {
        let (parent, boot) = (parent.cloned(), self.shared.boot.clone());
        self.database().write_relaxed(move |transaction| {
            if let Some(parent) = &parent
                && !records::has_layer(transaction, parent)?
            {
                return Err(Error::NoLayer(parent.clone()));
            }
            records::insert_init(transaction, parent.as_ref(), id, &boot)
        })
    }
}
