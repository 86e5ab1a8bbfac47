//! When what was taken is made again, and how much of it: in a pause between starts, which it would slow down, or as soon as
//! there is nothing left; more of it where that has happened, until it is calm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// So long without a start is a pause: longer than a short container's life takes, one after the other.
const PAUSE: Duration = Duration::from_millis(8);
/// How long the container that took the last one has the processors for itself.
const AFTER_START: Duration = Duration::from_millis(3);
/// After so long without a start nobody is in a hurry.
const CALM: Duration = Duration::from_secs(10);
/// A store grows to no more than so many times its least size.
const MOST: usize = 3;

/// How many are kept ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    least: usize,
    wanted: usize,
}

impl Demand {
    /// This many, while they suffice.
    pub(crate) fn new(least: usize) -> Demand {
        Demand { least, wanted: least }
    }

    /// How many there should be.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// The last one was taken before there was a pause to make others in.
    pub(crate) fn ran_out(&mut self) {
        self.wanted = (self.wanted + self.least).min(MOST * self.least);
    }

    /// After how long without a start so many are too many; never, if they are as few as they get.
    pub(crate) fn calm_after(&self, ready: usize) -> Option<Duration> {
        (self.wanted.max(ready) > self.least).then_some(CALM)
    }

    /// Nobody has asked for a while.
    pub(crate) fn calm(&mut self) {
        self.wanted = self.least;
    }
}

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

    /// Waits until a container has been started; false after so long without, if it matters to the asker.
    pub(crate) async fn asked(&self, calm: Option<Duration>) -> bool {
        let Some(calm) = calm else {
            self.started.notified().await;
            return true;
        };
        tokio::time::timeout(calm, self.started.notified()).await.is_ok()
    }

    /// Waits, after a start, until it is time. `is_empty`: the next one would find nothing.
    pub(crate) async fn due(&self, is_empty: impl Fn() -> bool) {
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
        let due = async {
            assert!(refill.asked(None).await);
            refill.due(|| false).await;
        };
        tokio::select! {
            biased;
            () = starts => {}
            () = due => panic!("between two starts"),
        }
        refill.ask();
        assert!(refill.asked(None).await);
        refill.due(|| false).await;
        refill.due(|| true).await;
        refill.close();
        assert!(refill.asked(None).await && refill.is_closed());
        refill.due(|| false).await;
    }

    #[tokio::test]
    async fn without_starts_it_is_calm() {
        assert!(!Refill::default().asked(Some(Duration::from_millis(1))).await);
    }

    #[test]
    fn what_runs_out_is_kept_in_larger_number_until_it_is_calm() {
        let mut demand = Demand::new(3);
        let mut wanted = Vec::new();
        for _ in 0..4 {
            wanted.push(demand.wanted());
            assert_eq!(demand.calm_after(0).is_some(), demand.wanted() > 3);
            demand.ran_out();
        }
        assert_eq!(wanted, [3, 6, 9, 9]);
        demand.calm();
        assert_eq!(demand, Demand::new(3));
        assert!(demand.calm_after(3).is_none() && demand.calm_after(4).is_some());
        let mut none = Demand::new(0);
        none.ran_out();
        assert_eq!(none.wanted(), 0);
    }
}
