//! When what was taken is made again: in a pause between starts, which it would slow down, or as soon as there is nothing left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// So long without a start is a pause: longer than a short container's life takes, one after the other.
const PAUSE: Duration = Duration::from_millis(8);
/// How long the container that took the last one has the processors for itself.
const AFTER_START: Duration = Duration::from_millis(3);

/// The bell of a store that is kept filled.
#[derive(Debug, Default)]
pub(crate) struct Refill {
    started: Notify,
    closed: AtomicBool,
}

impl Refill {
    /// A container has been started: what it took may be made again.
    pub(crate) fn ask(&self) {
        self.started.notify_one();
    }

    /// No more refills.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.started.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until it was asked and it is time. `is_empty`: the next start would find nothing.
    pub(crate) async fn due(&self, is_empty: impl Fn() -> bool) {
        self.started.notified().await;
        while !self.is_closed() {
            if is_empty() {
                return tokio::time::sleep(AFTER_START).await;
            }
            if tokio::time::timeout(PAUSE, self.started.notified()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_for_a_pause_or_for_the_last() {
        let refill = Refill::default();
        let starts = async {
            for _ in 0..100 {
                refill.ask();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = starts => {}
            () = refill.due(|| false) => panic!("between two starts"),
        }
        refill.ask();
        refill.due(|| false).await;
        refill.ask();
        refill.due(|| true).await;
        refill.close();
        refill.due(|| false).await;
        assert!(refill.is_closed());
    }
}
