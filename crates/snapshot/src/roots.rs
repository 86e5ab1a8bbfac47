//! Active snapshots: containers' root file systems.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use corten_base::ChainId;
use corten_metadata::rusqlite::Transaction;

use crate::{Error, Recorded, Result, Snapshots, records};

/// What an overlay is made of. The folders belong to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFs {
    /// The layers' folders, nearest first; never empty.
    pub lower: Vec<PathBuf>,
    /// The folder that takes the changes.
    pub upper: PathBuf,
    /// The folder that overlayfs works in.
    pub work: PathBuf,
    /// The folder that all of these are in.
    pub(crate) root: PathBuf,
}

/// What a tree of files takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sum of the sizes of all but folders, as Docker has it: symbolic links count with their length, a file with several
    /// names once.
    pub bytes: u64,
    /// The number of files, folders among them.
    pub files: u64,
}

/// A writable layer that has no record yet; removed if it is dropped before it is [kept](ActiveDraft::keep).
#[derive(Debug)]
pub struct ActiveDraft {
    store: Snapshots,
    pub(crate) id: u64,
    parent: Option<ChainId>,
    init: Option<u64>,
    pub(crate) root: RootFs,
    pub(crate) kept: bool,
}

/// An active snapshot whose record is gone and whose files are still there; see [`Snapshots::sweep`].
#[derive(Debug)]
#[must_use = "its files stay until the store is opened next"]
pub struct Forgotten(pub(crate) u64);

impl Snapshots {
    /// Makes a writable layer on top of `parent`, to be recorded together with what it is for.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Io`]; [`Error::Mount`] if an init layer had to be made and could not be.
    pub fn draft_active(&self, parent: Option<&ChainId>) -> Result<ActiveDraft> {
        let below = self.below(parent)?;
        let id = self.next_id();
        if let Err(error) = self.make_active(id) {
            self.discard(id);
            return Err(error);
        }
        let root = self.root(id, below.lower);
        Ok(ActiveDraft { store: self.clone(), id, parent: parent.cloned(), init: below.init, root, kept: false })
    }

    /// Makes the writable layer `key` on top of `parent`. The record survives kill -9 at once and power loss with the next
    /// durable change of the same database.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Exists`], [`Error::Io`].
    pub fn prepare(&self, key: &str, parent: Option<&ChainId>) -> Result<RootFs> {
        let draft = self.draft_active(parent)?;
        self.database().write_relaxed(draft.record(key))?;
        Ok(draft.keep().root().clone())
    }

    /// The folders of an active snapshot.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`]; [`Error::NoLayer`] if one of its layers was lost with the power and has to be unpacked again.
    pub fn rootfs(&self, key: &str) -> Result<RootFs> {
        let (id, parent) = self
            .database()
            .read(|connection| records::active(connection, key))?
            .ok_or_else(|| Error::NoSnapshot(key.into()))?;
        Ok(self.root(id, self.below(parent.as_ref())?.lower))
    }

    /// Removes an active snapshot; fine if there is none. Its record goes first, its files soon after.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn remove(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        let forgotten = self.database().write(move |transaction| Snapshots::forget(transaction, &key))?;
        forgotten.into_iter().for_each(|forgotten| self.sweep(forgotten));
        Ok(())
    }

    /// Removes an active snapshot's record, if there is one, with the caller's transaction. Its files are still there.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn forget(transaction: &Transaction<'_>, key: &str) -> Result<Option<Forgotten>> {
        let found = records::active(transaction, key)?;
        transaction.prepare_cached("DELETE FROM snapshot_active WHERE key = ?1")?.execute([key])?;
        Ok(found.map(|(id, _)| Forgotten(id)))
    }

    /// Removes the files of a snapshot, soon, once its [`forget`](Snapshots::forget) is committed.
    pub fn sweep(&self, forgotten: Forgotten) {
        self.discard(forgotten.0);
    }

    /// The keys of all active snapshots.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn keys(&self) -> Result<Vec<String>> {
        self.database().read(|connection| {
            let mut query = connection.prepare_cached("SELECT key FROM snapshot_active")?;
            query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>().map_err(Error::from)
        })
    }

    /// The keys of active snapshots that can't be mounted: a folder or a layer that they stand on is missing.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn broken(&self) -> Result<Vec<String>> {
        let is_whole = |key: &str| match self.rootfs(key) {
            Ok(root) => root.lower.iter().chain([&root.upper, &root.work]).all(|path| path.is_dir()),
            // Removed since it was listed.
            Err(Error::NoSnapshot(_)) => true,
            Err(_) => false,
        };
        Ok(self.keys()?.into_iter().filter(|key| !is_whole(key)).collect())
    }

    /// What the changes in an active snapshot take.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], [`Error::Io`].
    pub fn usage(&self, key: &str) -> Result<Usage> {
        let upper = self.rootfs(key)?.upper;
        let mut usage = Usage::default();
        measure(&upper, &mut usage, &mut HashSet::new())?;
        Ok(usage)
    }

    /// The folders of an overlay: its upper and its work directory.
    pub(crate) fn make_active(&self, id: u64) -> Result<()> {
        let folder = self.folder(id);
        for path in [folder.clone(), folder.join("fs"), folder.join("work")] {
            DirBuilder::new().mode(0o755).create(&path).map_err(Error::io("create", &path))?;
        }
        // The upper directory's mode is the one that `/` shows in the container, whatever the umask.
        let upper = folder.join("fs");
        fs::set_permissions(&upper, PermissionsExt::from_mode(0o755)).map_err(Error::io("protect", &upper))
    }

    pub(crate) fn root(&self, id: u64, lower: Vec<PathBuf>) -> RootFs {
        let folder = self.folder(id);
        RootFs { lower, upper: folder.join("fs"), work: folder.join("work"), root: self.shared.root.clone() }
    }
}

impl ActiveDraft {
    /// Its folders.
    #[must_use]
    pub fn root(&self) -> &RootFs {
        &self.root
    }

    /// Whether it stands on what a snapshot made now would stand on.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.store.below(self.parent.as_ref()).is_ok_and(|below| below.lower == self.root.lower)
    }

    /// The change that records it as `key`, for a transaction of the same database. Fails with [`Error::Exists`], or with
    /// [`Error::NoLayer`] if its parent was removed meanwhile.
    pub fn record(&self, key: &str) -> impl FnOnce(&Transaction<'_>) -> Result<()> + Send + use<> {
        let (key, id, parent, init) = (key.to_owned(), self.id, self.parent.clone(), self.init);
        move |transaction| records::insert_active(transaction, &key, id, parent.as_ref(), init)
    }

    /// It is recorded: its files stay.
    pub fn keep(mut self) -> Recorded {
        self.kept = true;
        Recorded(self)
    }
}

impl Drop for ActiveDraft {
    fn drop(&mut self) {
        if !self.kept {
            self.store.discard(self.id);
        }
    }
}

fn measure(folder: &Path, usage: &mut Usage, seen: &mut HashSet<u64>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        // A running container removes files while they are counted.
        let Ok(metadata) = entry.metadata() else { continue };
        usage.files += 1;
        if metadata.is_dir() {
            measure(&entry.path(), usage, seen)?;
        } else if metadata.nlink() == 1 || seen.insert(metadata.ino()) {
            usage.bytes += metadata.len();
        }
    }
    Ok(())
}
