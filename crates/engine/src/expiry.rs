//! What interrupted pulls left goes when nobody has come back for it in time.
//!
//! Their leases say when. There is one wake-up for the first of them, and none while there are none.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::blocking;
use crate::error::Error;
use crate::shared::Shared;

/// After a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(3600);

/// Waits for leases to end, and collects then. Runs until it is aborted.
pub(crate) async fn keep(shared: Arc<Shared>) {
    loop {
        let wait = match next(&shared).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(error = error.message(), "cannot collect what interrupted pulls left");
                Some(AGAIN)
            }
        };
        let interrupted = shared.pull_interrupted.notified();
        match wait {
            Some(wait) => drop(tokio::time::timeout(wait, interrupted).await),
            None => interrupted.await,
        }
    }
}

/// Collects if it is time to; how long until the next time.
async fn next(shared: &Arc<Shared>) -> Result<Option<Duration>, Error> {
    let images = shared.images.clone();
    let next = blocking::run_behind(move || {
        let now = SystemTime::now();
        if images.next_expiry()?.is_some_and(|expiry| expiry <= now) {
            images.collect()?;
        }
        let next = images.next_expiry()?;
        Ok::<_, corten_images::Error>(next.map(|expiry| expiry.duration_since(now).unwrap_or_default()))
    });
    Ok(next.await??)
}
