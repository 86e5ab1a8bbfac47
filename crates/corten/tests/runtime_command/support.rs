//! A bundle, a runtime and what they leave.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

const APPLETS: [&str; 19] = [
    "sh", "cat", "true", "sleep", "echo", "readlink", "tty", "id", "test", "kill", "stty", "umount", "grep", "ls",
    "head", "mkdir", "wc", "ip", "tail",
];

/// A bundle with busybox, a root for the runtime's state, and one container's id.
pub(crate) struct Bench {
    pub(crate) place: TempDir,
    pub(crate) id: String,
}

/// A bench whose container runs `script`; none, and a line that says why, where it can't be.
pub(crate) fn bench(script: &str, change: impl FnOnce(&mut Value, &Path)) -> Option<Bench> {
    if !corten_testkit::is_root("runtime_command") {
        return None;
    }
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: busybox-static is not installed");
        return None;
    };
    let place = tempfile::Builder::new().prefix("corten-runtime-").tempdir().unwrap();
    let bin = place.path().join("bundle/rootfs/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(busybox, bin.join("busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let id = format!("corten-runtime-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let bench = Bench { place, id };
    bench.runtime(&["spec", "--bundle", &bench.path("bundle")]).ok();
    bench.configure(|config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        change(config, bench.place.path());
    });
    Some(bench)
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, text: &str) {
        // As a log line it stands in quotes.
        let said = self.err.replace("\\\"", "\"");
        assert!(self.code == Some(code) && said.contains(text), "{code}, {text:?} expected: {self:?}");
    }
}

impl Bench {
    /// Changes the bundle's configuration.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("bundle/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
        command.args(["runtime", "--root", &self.path("state")]).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command whose output goes to files: a detached container may keep it open.
    pub(crate) fn runtime(&self, words: &[&str]) -> Answer {
        self.answer(self.command(words))
    }

    /// The same for a command that leads to the runtime.
    pub(crate) fn answer(&self, mut command: Command) -> Answer {
        let (out, err) = (self.path("out"), self.path("err"));
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let status = command.status().unwrap();
        let read = |path: &str| fs::read_to_string(path).unwrap();
        Answer { code: status.code(), out: read(&out), err: read(&err) }
    }

    pub(crate) fn create(&self, more: &[&str]) -> Answer {
        self.runtime(&[&["create", "--bundle", &self.path("bundle")], more, &[&self.id]].concat())
    }

    pub(crate) fn run(&self, more: &[&str]) -> Answer {
        self.runtime(&[&["run", "--bundle", &self.path("bundle")], more, &[&self.id]].concat())
    }

    pub(crate) fn on(&self, command: &str) -> Answer {
        self.runtime(&[command, &self.id])
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.on("state").ok()).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of the init, which is no child of this process.
    pub(crate) fn wait_for_end(&self) {
        let pid = i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap();
        let Ok(pidfd) = corten_sys::process::open_pidfd(pid) else { return };
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        assert!(rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0, "the container does not end");
    }

    /// Directories of control groups that are called like the container, wherever the runtime's own group is.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        find_groups(Path::new("/sys/fs/cgroup"), &self.id, &mut found);
        found
    }

    /// What one of the container's control groups says, on v1 in the hierarchy of `controller`.
    pub(crate) fn group_file(&self, controller: &str, v1: &str, v2: &str) -> String {
        let groups = self.groups();
        let part = format!("/{controller}/");
        let here = groups.iter().find(|group| group.to_str().is_some_and(|path| path.contains(&part)));
        let path = here.map_or_else(|| groups[0].join(v2), |group| group.join(v1));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// Nothing of the container is left: no directory, group, mount or process.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let state = self.place.path().join("state");
        let left: Vec<_> = fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.place.path().to_str().unwrap()), "a mount is left");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).output();
    }
}

fn find_groups(directory: &Path, id: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() == id {
                found.push(path.clone());
            }
            find_groups(&path, id, found);
        }
    }
}

/// Waits for something that has no event to wait for.
#[track_caller]
pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < end, "it does not come: {what}");
        std::thread::yield_now();
    }
}

/// Receives a descriptor that comes with some text.
pub(crate) fn receive(socket: &OwnedFd) -> OwnedFd {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut buffers = [std::io::IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(socket.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.next().unwrap().next().unwrap()
}
