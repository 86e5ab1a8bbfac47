//! Active snapshots: containers' root file systems.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use corten_base::ChainId;

use crate::{EMPTY, Error, Result, Snapshots, records};

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

impl Snapshots {
    /// Makes the writable layer `key` on top of `parent`. The record survives kill -9 at once and power loss with the next
    /// durable change of the same database.
    ///
    /// # Errors
    /// [`Error::NoLayer`], [`Error::Exists`], [`Error::Io`].
    pub fn prepare(&self, key: &str, parent: Option<&ChainId>) -> Result<RootFs> {
        let id = self.next_id();
        let prepared = self.make_active(id).and_then(|()| self.record_active(id, key, parent));
        if prepared.is_err() {
            self.discard(id);
        }
        prepared?;
        self.root(id, parent)
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
        self.root(id, parent.as_ref())
    }

    /// Removes an active snapshot; fine if there is none. Its record goes first, its files soon after.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn remove(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        let id = self.database().write_relaxed(move |transaction| {
            let found = records::active(transaction, &key)?;
            transaction.prepare_cached("DELETE FROM snapshot_active WHERE key = ?1")?.execute([&key])?;
            Ok::<_, Error>(found.map(|(id, _)| id))
        })?;
        if let Some(id) = id {
            self.discard(id);
        }
        Ok(())
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

    fn make_active(&self, id: u64) -> Result<()> {
        let folder = self.folder(id);
        for path in [folder.clone(), folder.join("fs"), folder.join("work")] {
            DirBuilder::new().mode(0o755).create(&path).map_err(Error::io("create", &path))?;
        }
        // The upper directory's mode is the one that `/` shows in the container, whatever the umask.
        let upper = folder.join("fs");
        fs::set_permissions(&upper, PermissionsExt::from_mode(0o755)).map_err(Error::io("protect", &upper))
    }

    fn record_active(&self, id: u64, key: &str, parent: Option<&ChainId>) -> Result<()> {
        let (key, parent) = (key.to_owned(), parent.cloned());
        self.database().write_relaxed(move |transaction| {
            if records::active(transaction, &key)?.is_some() {
                return Err(Error::Exists(key));
            }
            // Looked up in the same transaction: the layer can't be collected in between.
            if let Some(parent) = &parent
                && !records::has_layer(transaction, parent)?
            {
                return Err(Error::NoLayer(parent.clone()));
            }
            transaction.prepare_cached("INSERT INTO snapshot_active VALUES (?1, ?2, ?3)")?.execute((
                key,
                id.cast_signed(),
                parent.as_ref().map(ChainId::as_str),
            ))?;
            Ok(())
        })
    }

    fn root(&self, id: u64, parent: Option<&ChainId>) -> Result<RootFs> {
        let lower = match parent {
            Some(chain) => self.stack(chain)?.into_iter().map(|layer| layer.path).collect(),
            None => vec![self.shared.root.join(EMPTY)],
        };
        let folder = self.folder(id);
        Ok(RootFs { lower, upper: folder.join("fs"), work: folder.join("work"), root: self.shared.root.clone() })
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
