//! Extractions of pulls take turns: so many go on at once, of all pulls together.
//!
//! There may be as many as downloads. One that follows a download that has come to a standstill keeps its turn, but the
//! download keeps its slot as well: it is never in the way of those that go on.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often those who wait look whether they still should.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<usize>,
    given_back: Condvar,
}

/// The right to extract one layer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits until fewer than `most` are taken; none if it is over before.
    pub(crate) fn enter(&self, most: usize, is_over: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= most {
            if is_over() {
                return None;
            }
            (taken, _) = self.given_back.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once() {
        let turns = Turns::default();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let over = || is_over.load(std::sync::atomic::Ordering::Relaxed);
        let (first, second) = (turns.enter(2, over), turns.enter(2, over));
        assert!(first.is_some() && second.is_some());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| turns.enter(2, over).is_some());
            drop(first);
            assert!(third.join().unwrap(), "what is given back is taken");
        });
        let first = turns.enter(2, over);
        assert!(first.is_some());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| turns.enter(2, over).is_some());
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(!third.join().unwrap(), "none is taken by who has no use for it");
        });
        assert_eq!(*turns.taken.lock().unwrap(), 2);
    }
}
