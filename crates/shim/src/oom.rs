//! Did the OOM killer strike? Read from the container's cgroup when it has ended.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

/// True if the directory of the memory controller counts an OOM kill: `memory.events` on v2, `memory.oom_control` on v1.
pub(crate) fn happened(memory: &OwnedFd) -> bool {
    let text = read(memory, "memory.events").or_else(|| read(memory, "memory.oom_control"));
    text.is_some_and(|text| counts(&text))
}

fn read(cgroup: &OwnedFd, name: &str) -> Option<String> {
    let file = openat(cgroup, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}

fn counts(text: &str) -> bool {
    text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn both_versions_are_read() {
        assert!(counts("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"));
        assert!(counts("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert!(!counts("oom_kill_disable 0\nunder_oom 1\noom_kill 0\n"));
    }
}
