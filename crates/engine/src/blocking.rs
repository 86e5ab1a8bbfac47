//! The one doorway through which the engine's tasks do work that blocks: files, the database, netlink, mounts.
//!
//! The runtime has one thread; what runs here has the runtime's bounded pool of small threads.

use crate::error::Error;

/// Runs `work` where it may block. Fails only when it panicked or the runtime is ending.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::failed("a task of the engine ended early"))
}
