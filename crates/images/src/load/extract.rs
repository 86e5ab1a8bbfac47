//! The layers of an archive are extracted beside its reading, a few at a time.
//!
//! The reading thread writes a layer's blob and goes on to the next file; one of the workers follows it, extracts, and brings the
//! blob to the disk. Only so many layers may wait for a worker: then the reading waits, and so do those who send the archive.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use corten_content::{Ingest, Lease};
use corten_snapshot::Snapshots;

use crate::extract::Extractor;
use crate::unpack::{self, Received};
use crate::{Error, Result};

/// The most layers that are extracted at once.
const MOST_WORKERS: usize = 4;
/// Layers that may wait for a worker.
const WAITING: usize = 16;

/// Hands layers to the workers. They end with it, as soon as they have done what they are at.
pub(super) struct Workers<'q> {
    queue: &'q Queue,
}

/// A layer that is being written and extracted.
pub(super) struct Arriving {
    /// Takes the blob when all of it is written.
    pub whole: SyncSender<Ingest>,
    /// Answers when it is extracted and committed.
    pub done: Receiver<Result<Received>>,
}

/// What waits for a worker.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

struct Job {
    name: String,
    extractor: Extractor,
    whole: Receiver<Ingest>,
    done: SyncSender<Result<Received>>,
}

impl<'q> Workers<'q> {
    /// Starts workers in `scope`.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        queue: &'q Queue,
        snapshots: &'scope Snapshots,
        lease: &'scope Lease,
    ) -> Result<Workers<'q>>
    where
        'q: 'scope,
    {
        let workers = Workers { queue };
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
        for number in 0..count {
            thread::Builder::new()
                .name(format!("extract-{number}"))
                .spawn_scoped(scope, move || queue.work(snapshots, lease))
                .map_err(Error::io("start a thread"))?;
        }
        Ok(workers)
    }

    /// Has a layer extracted that is about to be written.
    pub(super) fn begin(&self, name: String, ingest: &Ingest) -> Result<Arriving> {
        let extractor = Extractor::of(ingest)?;
        let ((whole, receive), (send, done)) = (sync_channel(1), sync_channel(1));
        self.queue.put(Job { name, extractor, whole: receive, done: send });
        Ok(Arriving { whole, done })
    }
}

impl Drop for Workers<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.is_closed = true;
        // Something is left only if the reading broke off.
        state.jobs.clear();
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn put(&self, job: Job) {
        let mut state = self.lock();
        while state.jobs.len() >= WAITING {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.jobs.push_back(job);
        self.changed.notify_all();
    }

    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                self.changed.notify_all();
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, snapshots: &Snapshots, lease: &Lease) {
        while let Some(Job { name, extractor, whole, done }) = self.take() {
            // It is closed before all is extracted only if the reading broke off.
            let extraction = extractor.extract(snapshots, &|| self.lock().is_closed);
            // Nothing comes if the reading broke off; that is told by who read.
            let Ok(ingest) = whole.recv() else { continue };
            let received = ingest.commit(None, lease).map_err(Error::from);
            let received = received.and_then(|(digest, size)| unpack::received(&name, digest, size, extraction));
            // Nobody waits for it if another part has failed.
            let _ = done.send(received);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use corten_base::Algorithm;
    use corten_content::LeaseOptions;
    use corten_testkit::image::{noise, tar};
    use corten_testkit::is_root;

    use super::*;
    use crate::extract::with_stores;

    #[test]
    fn what_is_extracted_ends_with_the_reading() {
        if !is_root("what_is_extracted_ends_with_the_reading") {
            return;
        }
        for is_closed in [false, true] {
            with_stores(|snapshots, content| {
                let lease = content.lease(LeaseOptions::default()).unwrap();
                let mut ingest = content.ingest_nameless(Algorithm::Sha256, None).unwrap();
                ingest.write_all(&tar(&[("large", &noise(1, 1 << 20))])).unwrap();
                ingest.complete();
                let queue = Queue::default();
                let ((whole, receive), (send, done)) = (sync_channel(1), sync_channel(1));
                let extractor = Extractor::of(&ingest).unwrap();
                queue.put(Job { name: "it".into(), extractor, whole: receive, done: send });
                whole.send(ingest).unwrap();
                thread::scope(|scope| {
                    queue.lock().is_closed = is_closed;
                    scope.spawn(|| queue.work(snapshots, &lease));
                    let received = done.recv().unwrap();
                    assert_eq!(received.is_ok_and(|received| received.extraction.is_ok()), !is_closed);
                    queue.lock().is_closed = true;
                    queue.changed.notify_all();
                });
            });
        }
    }
}
