//! Groups for a test on the machine's real control groups, as root: all below `/corten-test-<pid>-<name>`, removed at the end.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::process::{Child, Command};

use corten_cgroup::{CgroupPath, DeviceKind, DeviceRule, Group, Tree};

/// A group of its own for one test, removed with its parent at the end.
pub struct Fixture {
    pub tree: Tree,
    pub parent: CgroupPath,
    children: Vec<Child>,
}

impl Fixture {
    /// `None`, with the reason printed, on a machine with the other version's control groups or without root.
    pub fn new(name: &str, v2: bool) -> Option<Self> {
        let fixture = Self::on_any(name)?;
        if fixture.tree.is_v2() != v2 {
            eprintln!("skipped {name}: needs cgroup v{}", if v2 { 2 } else { 1 });
            return None;
        }
        Some(fixture)
    }

    /// On whatever the machine mounts.
    pub fn on_any(name: &str) -> Option<Self> {
        let tree = Tree::detect().ok().filter(|_| rustix::process::geteuid().is_root());
        let Some(tree) = tree else {
            eprintln!("skipped {name}: needs root and control groups");
            return None;
        };
        let parent = CgroupPath::parse(&format!("/corten-test-{}-{name}", std::process::id())).unwrap();
        Some(Self { tree, parent, children: Vec::new() })
    }

    /// The parent itself: a group directly below the root, which has real-time to give.
    pub fn top(&self) -> Group {
        self.tree.create(&self.parent).unwrap()
    }

    pub fn group(&self, name: &str) -> Group {
        self.tree.create(&self.parent.join(name).unwrap()).unwrap()
    }

    /// A shell that first waits for a line, so that it can be put into its group in time.
    pub fn spawn(&mut self, group: &Group, script: &str) -> i32 {
        let script = format!("read _; {script}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        add(group, pid);
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        self.children.push(child);
        pid
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.children.remove(0).wait().unwrap()
    }
}

/// Moves a process into the group, in every hierarchy.
fn add(group: &Group, pid: i32) {
    for dir in group.dir_fds().unwrap() {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, "cgroup.procs", flags, rustix::fs::Mode::empty()).unwrap();
        rustix::io::write(file, pid.to_string().as_bytes()).unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for group in self.tree.children(&self.parent).unwrap_or_default() {
            let _ = self.tree.open(&group).map(|group| group.remove());
        }
        if let Ok(parent) = self.tree.open(&self.parent) {
            parent.remove().unwrap();
        }
    }
}

/// A rule on a memory device (major 1).
pub fn rule(allow: bool, kind: DeviceKind, minor: Option<u32>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind, major: Some(1), minor, access: access.to_owned() }
}
