//! Giving up on a registry.
//!
//! A registry may be silent for as long as its limits allow, again and again. Who has no use for its answer any more says so here,
//! and whatever waits for the network through a [`Blocking`](crate::Blocking) [under](crate::Blocking::under) it ends at once.

use crate::{Error, Result};
use tokio::sync::watch;

/// Whether an operation was given up. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    own: watch::Sender<bool>,
    above: Option<Box<Cancel>>,
}

impl Cancel {
    /// One for a part of the operation: it is given up with the whole, or alone.
    #[must_use]
    pub fn below(&self) -> Cancel {
        Cancel { own: watch::Sender::default(), above: Some(Box::new(self.clone())) }
    }

    /// Gives up; whatever waits ends at once.
    pub fn cancel(&self) {
        self.own.send_replace(true);
    }

    /// Whether this, or what it is a part of, was given up.
    pub fn is_cancelled(&self) -> bool {
        *self.own.borrow() || self.above.as_ref().is_some_and(|above| above.is_cancelled())
    }

    /// What comes of `work`, unless it is given up before.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(Error::Cancelled),
            done = work => done,
        }
    }

    async fn cancelled(&self) {
        let mut own = self.own.subscribe();
        // It can't fail: what sends is here as long as this.
        let own = own.wait_for(|&is_cancelled| is_cancelled);
        match &self.above {
            None => drop(own.await),
            Some(above) => tokio::select! {
                _ = own => {}
                () = Box::pin(above.cancelled()) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_ends_with_the_whole_or_alone() {
        let whole = Cancel::default();
        let (one, other) = (whole.below(), whole.clone().below());
        assert!(matches!(one.unless(async { Ok(1) }).await, Ok(1)));
        one.cancel();
        assert_eq!([&whole, &one, &other].map(Cancel::is_cancelled), [false, true, false]);
        assert!(matches!(one.unless(async { Ok(1) }).await, Err(Error::Cancelled)));
        assert!(matches!(other.unless(async { Ok(1) }).await, Ok(1)));
        let (waits, ()) = tokio::join!(other.unless(std::future::pending::<Result<()>>()), async { whole.cancel() });
        assert!(matches!(waits, Err(Error::Cancelled)));
    }
}
