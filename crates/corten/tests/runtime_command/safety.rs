//! What a container must not reach.

use std::fs;

use crate::support::bench;

/// CVE-2019-5736: the runtime's own file, which stands behind an init's `/proc/<pid>/exe`, cannot be opened for writing. That
/// it is being executed is no defence: it ends with the execution.
#[test]
fn the_executable_cannot_be_reached_for_writing() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    bench.create(&[]).ok();
    let exe = format!("/proc/{}/exe", bench.state()["pid"]);
    // Truncation asks for the mount's permission before it asks whether the file is busy.
    let error = fs::OpenOptions::new().write(true).truncate(true).open(exe).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()), "{error}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}
