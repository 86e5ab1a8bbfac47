//! crun of Debian sid on an equal bundle, inside the root that `./x peers` made.
//!
//! Only the v1 controllers are shown to it: it refuses a hybrid layout. Its root file system is the plain directory, read-only,
//! where the engine pays for an overlay.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::contender::Contender;

/// The namespaces, default mounts, capabilities and masked paths of an engine's container, for `/bin/true` without a terminal.
const CONFIG: &str = include_str!("../../crun-config.json");

/// Starts the coprocess; nothing, and a line that says so, where the root has not been made. `place` holds `rootfs`.
pub fn contender(place: &Path) -> Result<Option<Contender>> {
    let root = corten_testkit::workspace().join("target/peers/sid");
    if !root.join(".complete").exists() {
        println!("no figure for crun: ./x peers makes the root that it runs in");
        return Ok(None);
    }
    let bundle = place.join("bundle");
    std::fs::create_dir(&bundle)?;
    std::fs::write(bundle.join("config.json"), CONFIG)?;
    std::fs::copy(std::env::current_exe()?, place.join("lap"))?;
    let mut enter = Command::new("unshare");
    enter.args(["--net", "--mount", "--propagation", "private", "sh", "-eu", "-c", ENTER, "sh"]).arg(root).arg(place);
    Contender::start("crun of Debian sid: crun run", enter).map(Some)
}

/// Makes the root the shell's own, with the bench's directory in it, and times crun there.
const ENTER: &str = r#"
    root=$1
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
    for controller in /sys/fs/cgroup/*/; do
        name=$(basename "$controller")
        [ "$name" != unified ] && mountpoint -q "$controller" || continue
        mkdir "$root/sys/fs/cgroup/$name"
        mount --bind "$controller" "$root/sys/fs/cgroup/$name"
    done
    mount --bind /dev "$root/dev"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mkdir -p "$root/bench"
    mount --bind "$2" "$root/bench"
    cd "$root"
    pivot_root . .
    umount -l .
    cd /bench/bundle
    exec /bench/lap bench lap crun run corten-bench
"#;
