//! Bringing layers' files to the disk.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::{Error, Result, Snapshots};

/// The thread that syncs without anybody waiting.
#[derive(Debug, Default)]
pub(crate) struct Background {
    running: AtomicBool,
    wanted: AtomicBool,
}

impl Snapshots {
    /// Brings all layers committed so far to the disk; from then on a power loss doesn't cost them.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk fails: the layers stay marked, and are unpacked again after a power loss.
    pub fn sync(&self) -> Result<()> {
        // Listed first: a layer that is committed while the sync goes on may have files written behind it.
        let ids = self.database().read(|connection| {
            let mut query = connection.prepare_cached("SELECT id FROM snapshot_layer WHERE boot IS NOT NULL")?;
            query.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>().map_err(Error::from)
        })?;
        if ids.is_empty() {
            return Ok(());
        }
        let root = &self.shared.root;
        let folder = File::open(root).map_err(Error::io("open", root))?;
        rustix::fs::syncfs(folder).map_err(Error::io("sync", root))?;
        self.database().write_relaxed(move |transaction| {
            let mut update = transaction.prepare_cached("UPDATE snapshot_layer SET boot = NULL WHERE id = ?1")?;
            ids.into_iter().try_for_each(|id| update.execute([id]).map(drop))?;
            Ok(())
        })
    }

    /// As [`sync`](Snapshots::sync), without waiting for it.
    pub fn sync_soon(&self) {
        let background = &self.shared.background;
        background.wanted.store(true, Ordering::SeqCst);
        if background.running.swap(true, Ordering::SeqCst) {
            return;
        }
        let store = self.clone();
        let spawned =
            thread::Builder::new().name("layer-sync".into()).stack_size(256 << 10).spawn(move || store.sync_loop());
        if spawned.is_err() {
            background.running.store(false, Ordering::SeqCst);
        }
    }

    fn sync_loop(&self) {
        let background = &self.shared.background;
        loop {
            while background.wanted.swap(false, Ordering::SeqCst) {
                if let Err(error) = self.sync() {
                    tracing::warn!(%error, "cannot sync the layers");
                }
            }
            background.running.store(false, Ordering::SeqCst);
            // Somebody may have asked between the last look and the line above, and seen this thread running.
            if !background.wanted.load(Ordering::SeqCst) || background.running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }
}
