//! Fixtures for the tests of all rooms: engines under test, images made from Debian's packages, the leak check.

pub mod apparmor;
pub mod chroot;
pub mod debian;
pub mod elf;
pub mod engine;
pub mod executions;
pub mod fake;
pub mod hostile;
pub mod image;
pub mod kernel;
pub mod leaks;
pub mod peers;
pub mod registry;
pub mod server;
pub mod soak;

pub use engine::{Answer, TestEngine};
pub use fake::Fake;
pub use registry::Registry;

use std::path::PathBuf;

/// The root of this repository.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().expect("the repository's root exists")
}

/// Whether a test that needs root can run; prints the reason when it can't.
pub fn is_root(test: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !root {
        eprintln!("skipped {test}: it needs root");
    }
    root
}
