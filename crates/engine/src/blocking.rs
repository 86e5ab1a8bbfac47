//! The one doorway through which the engine's tasks do work that blocks: files, the database, netlink, mounts.
//!
//! The runtime has one thread; what runs here has the runtime's bounded pool of small threads.

use std::time::Duration;

use crate::error::Error;

/// What somebody waits for gets the processors soon.
const SLICE: Duration = Duration::from_micros(100);

/// Gives the calling thread, and those it makes from now on, the short time slice of what somebody waits for. A kernel without
/// time slices to choose (before Linux 6.12) ignores it.
pub fn take_precedence() {
    let _ = corten_sys::process::set_slice(SLICE);
}

/// As [`run`], for what nobody waits for: it gives way to what somebody does.
pub(crate) async fn run_behind<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let behind = || {
        let _ = corten_sys::process::set_slice(Duration::ZERO);
        // If it panics, too: the thread does other things next.
        let _precedence = Precedence;
        work()
    };
    run(behind).await
}

struct Precedence;

impl Drop for Precedence {
    fn drop(&mut self) {
        take_precedence();
    }
}

/// Runs `work` where it may block. Fails only when it panicked or the runtime is ending.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::failed("a task of the engine ended early"))
}
