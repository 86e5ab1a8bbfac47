//! Layers: drafts, commits, holds, garbage.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use corten_base::ChainId;

use crate::records::{self, LayerRow};
use crate::{Error, Result, Shared, Snapshots};

/// A committed layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name: the digest of it and all below it.
    pub chain: ChainId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// The sum of its files' sizes.
    pub size: u64,
    /// Where its files are.
    pub path: PathBuf,
}

/// A layer being extracted; removed if it is dropped without [`commit`](LayerDraft::commit).
#[derive(Debug)]
pub struct LayerDraft {
    store: Snapshots,
    id: u64,
    fs: File,
    committed: bool,
}

/// Keeps a layer (and so those below it) from being collected until it is dropped.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    chain: ChainId,
}

impl Snapshots {
    /// An empty folder to extract a layer into. What it stands on is said when it is committed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn draft_layer(&self) -> Result<LayerDraft> {
        let id = self.next_id();
        let path = self.folder(id).join("fs");
        match make_apart(&self.folder(id), &id.to_string(), &path) {
            Ok(fs) => Ok(LayerDraft { store: self.clone(), id, fs, committed: false }),
            Err(source) => {
                self.discard(id);
                Err(Error::Io { operation: "create", path, source })
            }
        }
    }

    /// Whether the layer is there.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn exists(&self, chain: &ChainId) -> Result<bool> {
        self.database().read(|connection| records::has_layer(connection, chain))
    }

    /// Holds a layer if it is there: it stays until the hold is dropped.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn hold(&self, chain: &ChainId) -> Result<Option<Hold>> {
        let hold = Hold::new(&self.shared, chain);
        let chain = chain.clone();
        // Asked behind any collection in the writer's queue: one that came first has not seen this hold.
        let there = self.database().write_relaxed(move |transaction| records::has_layer(transaction, &chain))?;
        Ok(there.then_some(hold))
    }

    /// All layers.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let rows = self.database().read(records::layers)?;
        Ok(rows.into_iter().map(|row| self.layer(row)).collect())
    }

    /// A layer with those below it, nearest first.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    pub fn stack(&self, chain: &ChainId) -> Result<Vec<Layer>> {
        let rows = self.database().read(|connection| records::stack(connection, chain))?;
        Ok(rows.into_iter().map(|row| self.layer(row)).collect())
    }

    /// The folders of a layer and those below it, opened, nearest first.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Io`].
    pub fn open_stack(&self, chain: &ChainId) -> Result<Vec<OwnedFd>> {
        let open = |layer: Layer| File::open(&layer.path).map(OwnedFd::from).map_err(Error::io("open", &layer.path));
        self.stack(chain)?.into_iter().map(open).collect()
    }

    /// Removes one layer.
    ///
    /// # Errors
    /// [`Error::NoLayer`]; [`Error::InUse`] if a layer or an active snapshot stands on it or an operation holds it.
    pub fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        let (shared, chain) = (self.shared.clone(), chain.clone());
        let (id, init) = self.database().write_relaxed(move |transaction| {
            let row = records::stack(transaction, &chain)?.swap_remove(0);
            if records::has_children(transaction, &chain)? || shared.holds().contains_key(&chain) {
                return Err(Error::InUse(chain));
            }
            Ok((row.id, records::delete_layer(transaction, &chain)?))
        })?;
        init.into_iter().chain([id]).for_each(|id| self.discard(id));
        Ok(())
    }

    /// Removes all layers but those in `live`, those that active snapshots or operations under way need, and what these stand
    /// on. Answers what was removed, topmost first. `live` is asked on the writer's thread, with the transaction that removes.
    ///
    /// # Errors
    /// What `live` answers, or [`Error::Metadata`].
    pub fn collect<E>(
        &self,
        live: impl FnOnce(&corten_metadata::rusqlite::Transaction<'_>) -> Result<HashSet<ChainId>, E> + Send + 'static,
    ) -> Result<Vec<Layer>, E>
    where
        E: From<Error> + From<corten_metadata::Error> + Send + 'static,
    {
        let shared = self.shared.clone();
        let (rows, inits) =
            self.database().write_relaxed(move |transaction| -> Result<(Vec<LayerRow>, Vec<u64>), E> {
                let mut roots = live(transaction)?;
                roots.extend(records::active_parents(transaction)?);
                roots.extend(shared.holds().keys().cloned());
                let garbage = garbage(records::layers(transaction)?, &roots);
                let mut inits = Vec::new();
                for row in &garbage {
                    inits.extend(records::delete_layer(transaction, &row.chain)?);
                }
                Ok((garbage, inits))
            })?;
        inits.into_iter().chain(rows.iter().map(|row| row.id)).for_each(|id| self.discard(id));
        Ok(rows.into_iter().map(|row| self.layer(row)).collect())
    }

    /// Puts a draft in the place of a layer whose files were damaged. The old files go.
    ///
    /// # Errors
    /// [`Error::NoLayer`]; [`Error::InUse`] if a container's layer stands on it: its files may be mounted.
    pub fn replace_layer(&self, chain: &ChainId, mut draft: LayerDraft, size: u64) -> Result<()> {
        let (chain, id, boot) = (chain.clone(), draft.id, self.shared.boot.clone());
        let (old, init) = self.database().write_relaxed(move |transaction| {
            let row = records::stack(transaction, &chain)?.swap_remove(0);
            for top in records::active_parents(transaction)? {
                if records::stack(transaction, &top)?.iter().any(|below| below.chain == chain) {
                    return Err(Error::InUse(chain));
                }
            }
            let init = records::delete_layer(transaction, &chain)?;
            records::insert_layer(transaction, &LayerRow { id, size, ..row.clone() }, &boot)?;
            Ok((row.id, init))
        })?;
        draft.committed = true;
        init.into_iter().chain([old]).for_each(|id| self.discard(id));
        Ok(())
    }

    fn layer(&self, row: LayerRow) -> Layer {
        let path = self.folder(row.id).join("fs");
        Layer { chain: row.chain, parent: row.parent, size: row.size, path }
    }
}

impl LayerDraft {
    /// The folder to extract into.
    #[must_use]
    pub fn fs(&self) -> BorrowedFd<'_> {
        self.fs.as_fd()
    }

    /// Where that folder is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.store.folder(self.id).join("fs")
    }

    /// Names the layer. If the same one was committed meanwhile, that one stays and this draft is removed.
    ///
    /// # Errors
    /// [`Error::NoLayer`] if `parent` isn't there.
    pub fn commit(mut self, chain: &ChainId, parent: Option<&ChainId>, size: u64) -> Result<Hold> {
        let hold = Hold::new(&self.store.shared, chain);
        let row = LayerRow { chain: chain.clone(), id: self.id, parent: parent.cloned(), size };
        let boot = self.store.shared.boot.clone();
        self.committed = self.store.database().write_relaxed(move |transaction| {
            if records::has_layer(transaction, &row.chain)? {
                return Ok(false);
            }
            if let Some(parent) = row.parent.as_ref()
                && !records::has_layer(transaction, parent)?
            {
                return Err(Error::NoLayer(parent.clone()));
            }
            records::insert_layer(transaction, &row, &boot)?;
            Ok(true)
        })?;
        Ok(hold)
    }
}

impl Drop for LayerDraft {
    fn drop(&mut self) {
        if !self.committed {
            self.store.discard(self.id);
        }
    }
}

impl Shared {
    fn holds(&self) -> MutexGuard<'_, HashMap<ChainId, usize>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    fn new(shared: &Arc<Shared>, chain: &ChainId) -> Hold {
        *shared.holds().entry(chain.clone()).or_default() += 1;
        Hold { shared: shared.clone(), chain: chain.clone() }
    }

    /// The layer that is held.
    #[must_use]
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.shared.holds();
        if let Some(count) = holds.get_mut(&self.chain) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.chain);
            }
        }
    }
}

/// Makes the folder `path` in `parent`, which is made too, in a part of the disk of its own where the file system can be asked for that.
///
/// ext2 and its heirs put a directory near its parent, and files near their directory; only directories in one that is marked as
/// the top of hierarchies are spread over the disk, by their names (`FS_TOPDIR_FL`, ioctl_iflags(2)). Layers that are extracted at
/// the same time then don't take turns at one group of inodes. Without a journal, where inodes freed in the last minutes are passed
/// over one by one, a layer that comes after many files were removed is made ten times faster.
fn make_apart(parent: &Path, unique: &str, path: &Path) -> io::Result<File> {
    DirBuilder::new().mode(0o755).recursive(true).create(parent)?;
    let top = File::open(parent)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&top) {
        // Other file systems refuse what they don't know: it is for speed alone.
        let _ = rustix::fs::ioctl_setflags(&top, flags | rustix::fs::IFlags::TOPDIR);
    }
    let apart = parent.join(unique);
    DirBuilder::new().mode(0o755).create(&apart)?;
    // The process's umask must not show in a container's root directory.
    fs::set_permissions(&apart, fs::Permissions::from_mode(0o755))?;
    fs::rename(&apart, path)?;
    File::open(path)
}

/// The layers that no root stands on, topmost first.
fn garbage(layers: Vec<LayerRow>, roots: &HashSet<ChainId>) -> Vec<LayerRow> {
    let parents: HashMap<ChainId, Option<ChainId>> =
        layers.iter().map(|row| (row.chain.clone(), row.parent.clone())).collect();
    let mut live = HashSet::new();
    for root in roots {
        let mut next = Some(root);
        while let Some(chain) = next
            && live.insert(chain.clone())
        {
            next = parents.get(chain).and_then(Option::as_ref);
        }
    }
    let mut dead: Vec<LayerRow> = layers.into_iter().filter(|row| !live.contains(&row.chain)).collect();
    // Parents are always committed before their children.
    dead.sort_by_key(|row| std::cmp::Reverse(row.id));
    dead.sort_by_cached_key(|row| std::cmp::Reverse(depth(&parents, &row.chain)));
    dead
}

fn depth(parents: &HashMap<ChainId, Option<ChainId>>, chain: &ChainId) -> usize {
    let below = std::iter::successors(Some(chain), |&chain| parents.get(chain).and_then(Option::as_ref));
    // Chain ids can't form a circle, but the bound costs nothing.
    below.take(parents.len() + 1).count()
}
