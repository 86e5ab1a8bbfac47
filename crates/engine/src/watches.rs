//! Watches over containers' mounts, used again and again: a user may have 128 of them, and to let one go takes the kernel a while.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_sys::watch::Watch;

/// How many there are at most.
const MOST: usize = 64;
/// How many of those that were not clear are looked at again for one that is wanted.
const TRIES: usize = 4;

/// Those that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<Unused>);

#[derive(Debug, Default)]
struct Unused {
    clear: Vec<Watch>,
    /// Their last mounts were still there; those that were not looked at for longest first.
    stale: VecDeque<Watch>,
    made: usize,
}

/// One in use.
#[derive(Debug)]
pub(crate) struct Watched {
    watch: Option<Watch>,
    pool: Arc<Watches>,
}

impl Watches {
    /// Watches these mounts; none if it can't be done, or there are too many.
    pub(crate) fn watch<'a>(self: &Arc<Self>, mounts: impl IntoIterator<Item = BorrowedFd<'a>>) -> Option<Watched> {
        let watched = Watched { watch: Some(self.take()?), pool: self.clone() };
        mounts.into_iter().try_for_each(|mount| watched.add(mount)).ok()?;
        Some(watched)
    }

    fn take(&self) -> Option<Watch> {
        let mut unused = self.lock();
        if let Some(watch) = unused.clear.pop() {
            return Some(watch);
        }
        for _ in 0..TRIES.min(unused.stale.len()) {
            match unused.stale.pop_front() {
                Some(watch) if watch.is_clear().unwrap_or(false) => return Some(watch),
                still => unused.stale.extend(still),
            }
        }
        if unused.made >= MOST {
            return None;
        }
        let watch = Watch::new().ok()?;
        unused.made += 1;
        Some(watch)
    }

    fn lock(&self) -> MutexGuard<'_, Unused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn add(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.add(mount))
    }

    /// Whether nobody has any of the mounts any more. Over, if so.
    pub(crate) fn are_gone(mut self) -> bool {
        let is_clear = self.watch.as_ref().is_some_and(|watch| watch.is_clear().unwrap_or(false));
        if is_clear {
            self.pool.lock().clear.extend(self.watch.take());
        }
        is_clear
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pool.lock().stale.extend(self.watch.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn there_are_only_so_many() {
        let root = File::open("/").unwrap();
        let watches = Arc::new(Watches::default());
        let Some(first) = watches.watch([]) else {
            return eprintln!("skipped there_are_only_so_many: it needs root");
        };
        assert!(first.are_gone());
        let all: Vec<_> = (0..MOST).map_while(|_| watches.watch([root.as_fd()])).collect();
        assert!(all.len() == MOST && watches.watch([]).is_none());
        let mut all = all.into_iter();
        assert!(!all.next().unwrap().are_gone(), "the root directory's mount stays");
        drop(all);
        assert!(watches.watch([]).is_none(), "none of them is clear");
        assert_eq!(watches.lock().stale.len(), MOST);
        // One of a mount that stays doesn't keep others from being found.
        watches.lock().stale[TRIES + 1] = Watch::new().unwrap();
        assert!(watches.watch([]).is_none());
        assert!(watches.watch([]).is_some_and(Watched::are_gone));
    }
}
