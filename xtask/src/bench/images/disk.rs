//! A fresh ext4 for those that are compared.
//!
//! What file creation costs depends on what was done to the file system before: without a journal, ext4 passes over each inode that
//! was freed in the last minutes, and all contenders free tens of thousands in each round. So all of them work on one fresh ext4 with a
//! journal, which most machines have, in a file that is mounted over `/var/tmp` in a mount namespace of the bench's own. It goes with
//! the last process there.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use corten_testkit::workspace;

/// Says that the bench has its file system, or is to do without.
pub const HERE: &str = "--here";

/// Enough for three copies of all that a round leaves.
const SIZE: &str = "8G";

/// Runs this program again with the same arguments in its own namespace.
pub fn again(arguments: &[&str]) -> Result<()> {
    let folder = workspace().join("target/bench");
    fs::create_dir_all(&folder)?;
    let program = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-eu", "-c", MOUNT, "sh"]);
    command.arg(folder.join("disk.img")).arg(SIZE).arg(program).args(["bench", "images", HERE]).args(arguments);
    let status = command.status().context("unshare(1) does not start")?;
    ensure!(status.success(), "the bench failed: {status}");
    Ok(())
}

/// The device frees itself when nobody uses it any more, and the file's blocks with it.
const MOUNT: &str = r#"
    image=$1 size=$2
    shift 2
    trap 'rm -f "$image"' EXIT
    rm -f "$image"
    fallocate --length "$size" "$image"
    mkfs.ext4 -q -F "$image"
    device=$(losetup --direct-io=on --find --show "$image")
    rm "$image"
    mount "$device" /var/tmp
    losetup --detach "$device"
    chmod 1777 /var/tmp
    exec "$@"
"#;
