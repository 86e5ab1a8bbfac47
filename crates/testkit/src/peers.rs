//! Other engines and runtimes, in the roots that `./x peers` makes.

use std::path::Path;
use std::process::Command;

/// A command inside the root, to be completed with its words: in network and mount namespaces of its own and in whatever
/// else `unshare` is asked for, with `place` as `/bench` and, of the control groups, the v1 controllers.
pub fn enter(root: &Path, place: &Path, unshare: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    complete(command, root, place, unshare)
}

/// The same in the network namespace of a process.
pub fn enter_beside(process: u32, root: &Path, place: &Path, unshare: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &process.to_string(), "--net", "--", "unshare"]);
    complete(command, root, place, unshare)
}

fn complete(mut command: Command, root: &Path, place: &Path, unshare: &[&str]) -> Command {
    command.args(["--mount", "--propagation", "private"]).args(unshare);
    command.args(["sh", "-eu", "-c", SCRIPT, "sh"]).args([root, place]);
    command
}

/// Makes the root the shell's own and becomes the command.
const SCRIPT: &str = r#"
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
    cd /
    shift 2
    exec "$@"
"#;
