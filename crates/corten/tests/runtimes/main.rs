//! Other runtimes by name: the daemon drives their OCI command line, and Docker's users see no difference. The runtime that is
//! always there is Corten's own command line; crun and runc join in where `./x peers` has made their root.

#[path = "../common/mod.rs"]
mod common;
mod daily;
mod failures;
mod surroundings;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use common::{CORTEN, engine_with};
use corten_testkit::{Answer, TestEngine, workspace};

/// Runtimes as programs in a directory of the test's own.
struct Programs {
    directory: tempfile::TempDir,
}

impl Programs {
    fn new() -> Programs {
        let directory =
            tempfile::Builder::new().prefix("corten-runtimes-").tempdir_in("/var/tmp").expect("a directory");
        symlink(CORTEN, directory.path().join("corten-runtime")).expect("a link to the program");
        Programs { directory }
    }

    /// A shell script that stands for a runtime.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{text}\n")).expect("writing a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("making it executable");
        path
    }

    /// The runtime that is always there.
    fn own(&self) -> PathBuf {
        self.directory.path().join("corten-runtime")
    }

    /// A runtime of Debian sid, if its root has been made. It sees sid's `/usr`, and no cgroup2 beside v1: crun refuses that.
    fn peer(&self, name: &str) -> Option<PathBuf> {
        let usr = workspace().join("target/peers/sid/usr");
        if !usr.join("bin").join(name).exists() && !usr.join("sbin").join(name).exists() {
            println!("skipped: no {name}; ./x peers makes the root that it runs in");
            return None;
        }
        let enter = format!(
            "exec unshare --mount --propagation unchanged sh -eu -c '\
             ! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified\n\
             mount --bind {} /usr\nexec {name} \"$@\"' {name} \"$@\"",
            usr.display()
        );
        Some(self.script(name, &enter))
    }

    /// An engine that knows all of them.
    fn engine(&self) -> (TestEngine, Vec<&'static str>) {
        let mut known = vec![("own", self.own())];
        known.extend(["crun", "runc"].into_iter().filter_map(|name| Some((name, self.peer(name)?))));
        let flag = |(name, path): &(&str, PathBuf)| {
            let name = if *name == "runc" { "peer-runc" } else { name };
            format!("--add-runtime={name}={}", path.display())
        };
        let flags: Vec<String> = known.iter().map(flag).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let names = known.iter().map(|(name, _)| if *name == "runc" { "peer-runc" } else { name });
        (engine_with(&flags), names.collect())
    }
}

/// `docker run --runtime ..` without a network.
fn run(engine: &TestEngine, runtime: &str, arguments: &[&str]) -> Answer {
    engine.docker(&[&["run", "--rm", "--network", "none", "--runtime", runtime], arguments].concat())
}

/// A container in the background; its first process as the machine sees it.
fn sleeper(engine: &TestEngine, runtime: &str, name: &str, options: &[&str]) -> u32 {
    common::sleeper(engine, &[&["--name", name, "--runtime", runtime], options].concat())
}

/// Whether the process's group is frozen.
fn is_frozen(pid: u32) -> bool {
    let state = group_file(pid, "freezer", "freezer.state", "cgroup.events");
    state == "FROZEN" || state.contains("frozen 1")
}

/// A file of the process's control group: on v1 in the hierarchy of `controller`, or else on v2.
fn group_file(pid: u32, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process's groups");
    let mut lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let file = match lines.find(|line| line[1].split(',').any(|name| name == controller)) {
        Some(line) => format!("/sys/fs/cgroup/{controller}{}/{v1}", line[2]),
        None => format!("/sys/fs/cgroup{}/{v2}", groups.trim().trim_start_matches("0::")),
    };
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
}

/// The supervisor of a container's process. Whoever has made that process for it may be its parent for a moment longer, and on its
/// way out it has no command line any more.
fn supervisor(engine: &TestEngine, pid: u32) -> u32 {
    let mut found = None;
    common::wait_until("the container is its supervisor's child", || {
        found = parent(pid).filter(|shim| parent(*shim) == Some(engine.pid()));
        found.is_some()
    });
    found.expect("it was waited for")
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
