//! Blobs that are being brought in: two pulls that need the same one take turns, and the second finds it there.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use corten_base::Digest;

use crate::turns::LOOK;
use crate::{Error, Result};

#[derive(Debug, Default)]
pub(crate) struct Flights {
    blobs: Mutex<HashSet<Digest>>,
    landed: Condvar,
}

/// The right to bring one blob in.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    digest: Digest,
}

impl Flights {
    /// Waits until nobody else brings this blob in.
    pub(crate) fn enter(&self, digest: &Digest, is_cancelled: impl Fn() -> bool) -> Result<Flight<'_>> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        while !blobs.insert(digest.clone()) {
            if is_cancelled() {
                return Err(Error::Cancelled);
            }
            (blobs, _) = self.landed.wait_timeout(blobs, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Flight { flights: self, digest: digest.clone() })
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        self.flights.landed.notify_all();
    }
}
