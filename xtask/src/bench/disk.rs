//! A fresh ext4 for those that are compared.
//!
//! What file creation costs depends on what was done to the file system before: without a journal, ext4 passes over each inode that
//! was freed in the last minutes, and all contenders free tens of thousands in each round. So all of them work on one fresh ext4 with a
//! journal, which most machines have, in a file that is mounted over `/var/tmp` in a mount namespace of the bench's own. It goes with
//! the last process there. In memory it leaves out what the machine's disk adds by itself.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use corten_testkit::workspace;

/// Says that the bench has its file system, or is to do without.
pub const HERE: &str = "--here";

/// Where the file system's file lies, and its size.
#[derive(Clone, Copy)]
pub enum Medium {
    /// Room for three copies of all that a round of `images` leaves.
    Disk,
    /// Room for small containers.
    Memory,
}

/// Runs this program's bench `name` again with the same arguments in its own namespace.
pub fn again(name: &str, arguments: &[&str], medium: Medium) -> Result<()> {
    let folder = workspace().join("target/bench");
    fs::create_dir_all(&folder)?;
    let program = std::env::current_exe()?;
    let words = match medium {
        Medium::Disk => ["true", "8G", "on"],
        Medium::Memory => ["mount -t tmpfs none .", "2G", "off"],
    };
    let mut command = Command::new("unshare");
    command.current_dir(folder).args(["--mount", "--propagation", "private", "sh", "-eu", "-c", MOUNT, "sh"]);
    command.args(words).arg(program).args(["bench", name, HERE]).args(arguments);
    let status = command.status().context("unshare(1) does not start")?;
    ensure!(status.success(), "the bench failed: {status}");
    Ok(())
}

/// The device frees itself when nobody uses it any more, and the file's blocks with it.
const MOUNT: &str = r#"
    prepare=$1 size=$2 direct=$3
    shift 3
    $prepare
    cd .
    image=$PWD/disk.img
    trap 'rm -f "$image"' EXIT
    rm -f "$image"
    fallocate --length "$size" "$image"
    mkfs.ext4 -q -F "$image"
    device=$(losetup --direct-io="$direct" --find --show "$image")
    rm "$image"
    mount "$device" /var/tmp
    losetup --detach "$device"
    chmod 1777 /var/tmp
    cd /
    exec "$@"
"#;
