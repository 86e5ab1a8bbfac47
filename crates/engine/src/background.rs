//! Work that nobody waits for but the engine's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts tasks under way.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Arc<(AtomicUsize, Notify)>,
}

struct Guard(Arc<(AtomicUsize, Notify)>);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_waiters();
        }
    }
}

impl Tasks {
    /// Runs a task behind the caller's back.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
        self.running.0.fetch_add(1, Ordering::AcqRel);
        let guard = Guard(self.running.clone());
        tokio::spawn(async move {
            let _guard = guard;
            work.await;
        })
    }

    /// Waits until none is under way.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.running.1.notified();
            if self.running.0.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}
