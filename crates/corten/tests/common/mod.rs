//! What the end-to-end suites share: an engine with the test images in it.
#![allow(dead_code, reason = "each suite is an executable of its own and uses a part of this")]

use corten_testkit::{TestEngine, debian};

/// The product under test.
pub const CORTEN: &str = env!("CARGO_BIN_EXE_corten");

/// An engine that has the image `busybox`.
pub fn engine() -> TestEngine {
    engine_with(&[])
}

/// The same, its daemon started with further arguments.
pub fn engine_with(arguments: &[&str]) -> TestEngine {
    let engine = TestEngine::start_with(CORTEN, arguments);
    import(&engine, "busybox", debian::busybox_tar().to_str().expect("a UTF-8 path"), "CMD [\"sh\"]");
    engine
}

/// Imports a root file system's tar as an image.
pub fn import(engine: &TestEngine, name: &str, tar: &str, change: &str) {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    engine.corten(&["import", "-c", change, "-c", &format!("ENV {path}"), tar, name]).ok();
}
