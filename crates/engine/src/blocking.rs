//! The one doorway through which the engine's tasks do work that blocks: files, the database, netlink, mounts.
//!
//! The runtime has one thread; what runs here has the runtime's bounded pool of small threads.

use crate::error::Error;

/// As [`run`], for what nobody waits for: it gives way to what somebody does.
pub(crate) async fn run_behind<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let behind = || {
        corten_sys::precedence::give_way();
        // If it panics, too: the thread does other things next.
        let _precedence = Precedence;
        work()
    };
    run(behind).await
}

struct Precedence;

impl Drop for Precedence {
    fn drop(&mut self) {
        corten_sys::precedence::take();
    }
}

/// Runs `work` where it may block. Fails only when it panicked or the runtime is ending.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::failed("a task of the engine ended early"))
}
