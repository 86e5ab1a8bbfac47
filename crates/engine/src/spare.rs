//! What the next container like the last one needs on the disk, made before it is asked for.
//!
//! Who runs one short container after the other mostly takes the same few images. From the second of a kind on, the next ones' layers
//! are mounted and their directories made while nobody waits; a create that finds nothing ready makes its own. All of it is without
//! a record: what a dead daemon leaves is removed by the next one.

mod directory;

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use corten_base::ChainId;
use corten_snapshot::{ActiveDraft, Forgotten, MountOptions, RootFs, Snapshots};
use corten_sys::mark::tells_changes_apart;

use crate::blocking;
use crate::error::Error;
use crate::refill::{Demand, Refill};
use crate::reuse::{Copy, Lent, Marks, Renewed, Reuse, Rights, Root};
use crate::undo::log;
use crate::view::Files;
use crate::watches::Watches;

pub(crate) use directory::Directory;

/// How many are kept of a kind at least: one for the create that comes while the other is being replaced.
const READY: usize = 2;
/// How many kinds are remembered, the last used ones.
const KINDS: usize = 4;
/// How many that were handed on are kept of a kind at most.
const HANDED_ON: usize = 16;
/// How many running containers' roots may be handed on later.
const LENT: usize = 64;

/// What a spare can be used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The image's layers.
    pub(crate) chain: Option<ChainId>,
    pub(crate) options: MountOptions,
    /// Of the containers that hand their roots on to each other; none for those that don't.
    pub(crate) rights: Option<Rights>,
}

/// A container's place on the disk, before there is one. Dropped in the order of the fields: unmounted, then removed.
#[derive(Debug)]
pub(crate) struct Spare {
    /// The layer, mounted.
    pub(crate) rootfs: OwnedFd,
    pub(crate) layer: ActiveDraft,
    pub(crate) directory: Directory,
    /// How many containers have had it.
    pub(crate) uses: u32,
}

/// The spares of one engine.
#[derive(Debug)]
pub(crate) struct Spares {
    snapshots: Snapshots,
    place: PathBuf,
    state: Mutex<State>,
    next: AtomicU64,
    refill: Refill,
    watches: Arc<Watches>,
    /// Whether it shows on this file system that something was changed.
    shows_changes: bool,
}

#[derive(Debug, Default)]
struct State {
    /// The last used first.
    kinds: VecDeque<Known>,
    /// What is of no use any more, on its way out.
    gone: Vec<Spare>,
    /// What may be handed on, the oldest first.
    lent: VecDeque<Weak<Reuse>>,
    /// Those that have lent for too long. It takes the kernel a while to let go of a mount.
    kept: Vec<Arc<Reuse>>,
}

/// A kind that was asked for.
#[derive(Debug)]
struct Known {
    kind: Kind,
    /// More than once.
    again: bool,
    ready: VecDeque<Spare>,
    demand: Demand,
}

impl Known {
    fn new(kind: Kind) -> Known {
        Known { kind, again: false, ready: VecDeque::new(), demand: Demand::new(READY) }
    }

    fn take(&mut self) -> Option<Spare> {
        let spare = self.ready.pop_front();
        if self.again && self.ready.is_empty() {
            self.demand.ran_out();
        }
        spare
    }
}

impl State {
    /// What is known of a kind, which is the last used one from now on.
    fn used(&mut self, kind: &Kind) -> &mut Known {
        let known = match self.kinds.iter().position(|known| known.kind == *kind) {
            Some(at) => self.kinds.remove(at).map(|known| Known { again: true, ..known }),
            None => None,
        };
        let known = known.unwrap_or_else(|| Known::new(kind.clone()));
        self.kinds.push_front(known);
        self.gone.extend(self.kinds.drain(KINDS.min(self.kinds.len())..).flat_map(|known| known.ready));
        &mut self.kinds[0]
    }

    fn calm_after(&self) -> Option<Duration> {
        self.kinds.iter().find_map(|known| known.demand.calm_after(known.ready.len()))
    }

    /// Nobody has asked for a while: no more is kept than what a single start needs.
    fn calm(&mut self) {
        for known in &mut self.kinds {
            known.demand.calm();
            self.gone.extend(known.ready.drain(READY.min(known.ready.len())..));
        }
    }
}

impl Spares {
    /// Removes what a dead daemon left in `place`, where spare directories are made: on the containers' file system. Blocks.
    pub(crate) fn open(snapshots: Snapshots, place: PathBuf) -> Result<Spares, Error> {
        let failed = || Error::failed(format!("cannot make the directory {}", place.display()));
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => fs::create_dir(&place).map_err(failed())?,
        }
        // Where it can't even be tried nothing is handed on.
        let apart = |directory: &Path| tells_changes_apart(directory).unwrap_or(false);
        let shows_changes = apart(&place) && apart(snapshots.directory());
        let (state, next, refill, watches) = Default::default();
        Ok(Spares { snapshots, place, state, next, refill, watches, shows_changes })
    }

    /// A spare of this kind, if one is ready. From a kind's second time on others are made after the next [`Spares::refill`]: who
    /// creates a container mostly starts it next, and waits for that. Blocks.
    pub(crate) fn take(&self, kind: &Kind) -> Option<Spare> {
        let spare = self.lock().used(kind).take();
        spare.filter(|spare| spare.layer.is_current())
    }

    /// Lets what was taken be made again: a container has been started.
    pub(crate) fn refill(&self) {
        self.refill.ask();
    }

    /// Drops all: their image may be going. Blocks.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        let old = (std::mem::take(&mut state.kinds), std::mem::take(&mut state.gone));
        drop(state);
        drop(old);
    }

    /// Makes new ones at each [`Spares::refill`], until it is closed.
    pub(crate) async fn keep_filled(self: Arc<Spares>) {
        loop {
            let calm = self.lock().calm_after();
            if self.refill.asked(calm).await {
                self.refill.due(|| self.lacks_all_of_a_kind()).await;
            } else {
                self.lock().calm();
            }
            if self.refill.is_closed() {
                return;
            }
            let spares = self.clone();
            log("no spare was made", blocking::run_behind(move || spares.fill()).await);
        }
    }

    /// Has [`Spares::keep_filled`] end.
    pub(crate) fn close(&self) {
        self.refill.close();
    }

    fn fill(&self) {
        let mut state = self.lock();
        let (gone, kept) = (std::mem::take(&mut state.gone), std::mem::take(&mut state.kept));
        drop(state);
        drop(gone);
        kept.iter().for_each(|reuse| reuse.forget());
        while let Some(kind) = self.lacking() {
            match self.make(&kind) {
                Ok(spare) => self.put(&kind, spare),
                // Whoever creates a container hears of the same trouble.
                Err(error) => return tracing::debug!(error = error.message(), "no spare was made"),
            }
        }
    }

    fn lacks_all_of_a_kind(&self) -> bool {
        self.lock().kinds.iter().any(|known| known.again && known.ready.is_empty())
    }

    fn lacking(&self) -> Option<Kind> {
        if self.refill.is_closed() {
            return None;
        }
        let state = self.lock();
        let lacking = state.kinds.iter().find(|known| known.again && known.ready.len() < known.demand.wanted());
        lacking.map(|known| known.kind.clone())
    }

    fn make(&self, kind: &Kind) -> Result<Spare, Error> {
        let failed = || Error::failed("cannot prepare a container's root file system");
        let layer = self.snapshots.draft_active(kind.chain.as_ref()).map_err(failed())?;
        let rootfs = layer.root().mount_detached(kind.options).map_err(failed())?;
        Ok(Spare { rootfs, layer, directory: self.directory()?, uses: 0 })
    }

    fn directory(&self) -> Result<Directory, Error> {
        let directory = Directory::make(self.next_place())?;
        directory.fill().map_err(Error::failed("cannot make a container's files"))?;
        Ok(directory)
    }

    /// A removed container's directory, if nothing was done to the files in it that the container had; else a new one.
    fn directory_from(&self, used: &Path, marks: Option<Marks>) -> Result<Directory, Error> {
        let taken = marks.and_then(|marks| Directory::take(used, self.next_place(), &marks).ok()?);
        taken.map_or_else(|| self.directory(), Ok)
    }

    fn next_place(&self) -> PathBuf {
        self.place.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// For a container that is being made: a copy of its root to run on, so that the root can be handed on.
    pub(crate) fn copy(&self, mount: &OwnedFd, root: &RootFs, kind: Kind, uses: u32) -> Option<Copy> {
        (self.shows_changes && kind.rights.is_some()).then(|| Copy::of(mount, root, kind, uses)).flatten()
    }

    /// The mount for a container's first start. Only the newest so many can be handed on: who runs for long has written somewhere, mostly.
    pub(crate) fn lend(&self, reuse: &Arc<Reuse>, root: Root) -> OwnedFd {
        if root.copy.is_some() {
            let mut state = self.lock();
            state.lent.push_back(Arc::downgrade(reuse));
            if state.lent.len() > LENT {
                let oldest = state.lent.pop_front().and_then(|oldest| oldest.upgrade());
                state.kept.extend(oldest);
            }
        }
        reuse.lend(root)
    }

    /// The container has its mounts, and its files are written, and its program doesn't run yet.
    pub(crate) fn begin<'a>(&self, reuse: &Reuse, mounts: impl IntoIterator<Item = BorrowedFd<'a>>, files: &Files) {
        reuse.begin(&self.watches, mounts, files);
    }

    /// Takes what a removed container had, if it is as new and there is use for it; else what is to be swept. Blocks.
    pub(crate) fn hand_on(&self, lent: Option<Lent>, layer: Forgotten, used: &Path) -> Option<Forgotten> {
        let Some(lent) = lent.filter(|lent| lent.is_young() && self.has_use_for(&lent.kind)) else {
            return Some(layer);
        };
        let kind = lent.kind.clone();
        let Renewed { mount: rootfs, layer, files, uses } = match lent.renew(layer) {
            Ok(renewed) => renewed,
            Err(layer) => return Some(layer),
        };
        match self.directory_from(used, files) {
            Ok(directory) => {
                self.put(&kind, Spare { rootfs, layer, directory, uses });
                // Some day it may be one too many.
                self.refill.ask();
            }
            Err(error) => {
                drop(rootfs);
                tracing::debug!(error = error.message(), "no spare was made");
            }
        }
        None
    }

    fn has_use_for(&self, kind: &Kind) -> bool {
        self.lock().kinds.iter().any(|known| known.kind == *kind && known.again && known.ready.len() < HANDED_ON)
    }

    fn put(&self, kind: &Kind, spare: Spare) {
        let mut state = self.lock();
        let room = |known: &&mut Known| known.kind == *kind && known.ready.len() < HANDED_ON;
        if let Some(known) = state.kinds.iter_mut().find(room) {
            known.ready.push_back(spare);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_base::Digest;

    #[test]
    fn the_last_used_kinds_are_remembered() {
        let kind = |number: u8| Kind {
            chain: Some(ChainId(Digest::sha256(&[number]))),
            options: Default::default(),
            rights: None,
        };
        let mut state = State::default();
        let mut again = |number| state.used(&kind(number)).again;
        assert_eq!([1, 2, 1, 3, 4, 1].map(&mut again), [false, false, true, false, false, true]);
        // The fifth takes the place of the second.
        assert_eq!([5, 3, 2, 1].map(&mut again), [false, true, false, true]);
        assert_eq!(state.kinds.len(), KINDS);
    }
}
