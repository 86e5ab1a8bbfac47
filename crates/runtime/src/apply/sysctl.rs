//! Kernel settings and a process's own files in procfs, through a procfs instance that no container has touched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::mount::{FileSystem, attr};
use corten_sys::path;
use rustix::fs::OFlags;

use super::report::Explain;
use crate::Failure;
use crate::plan::Plan;

/// A procfs of the caller's PID namespace: the one just mounted for the container, or one made when it is needed.
#[derive(Debug, Default)]
pub(super) struct Proc(Option<OwnedFd>);

impl From<OwnedFd> for Proc {
    fn from(mount: OwnedFd) -> Self {
        Proc(Some(mount))
    }
}

impl Proc {
    fn root(&mut self) -> io::Result<&OwnedFd> {
        if self.0.is_none() {
            let attributes = attr::NOSUID | attr::NODEV | attr::NOEXEC;
            self.0 = Some(FileSystem::open("proc")?.mount(attributes)?);
        }
        self.0.as_ref().ok_or_else(|| io::Error::other("no procfs"))
    }

    /// Makes sure that there is one.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.root().map(drop)
    }

    /// This one, or else the other.
    pub(super) fn or(self, other: Proc) -> Proc {
        if self.0.is_some() { self } else { other }
    }

    /// Reads one of the calling process's own files.
    pub(super) fn read_own(&mut self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        File::from(self.open(&own(name), OFlags::RDONLY)?).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes one of the calling process's own files.
    pub(super) fn write_own(&mut self, name: &str, value: &str) -> io::Result<()> {
        self.write(&own(name), value)
    }

    /// A descriptor of one of the calling process's namespaces. The name is one of the kernel's own links.
    pub(super) fn namespace(&mut self, name: &str) -> io::Result<OwnedFd> {
        let directory = self.open(&own("ns"), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
    }

    pub(super) fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        File::from(self.open(path, OFlags::WRONLY)?).write_all(value.as_bytes())
    }

    fn open(&mut self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        path::open_proc_file(self.root()?.as_fd(), path, flags)
    }
}

fn own(name: &str) -> String {
    format!("{}/{name}", rustix::process::getpid().as_raw_nonzero())
}

pub(super) fn apply(plan: &Plan, proc: &mut Proc) -> Result<(), Failure> {
    for (key, value) in &plan.sysctls {
        proc.write(&format!("sys/{}", file_name(key)), value)
            .explain_with(|| format!("cannot set sysctl {key} to {value:?}"))?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` is a path with dots; written with slashes, dots are literal (`net/ipv4/conf/eth0.1/..`).
fn file_name(key: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => key.to_owned(),
        _ => key.chars().map(swap).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn keys_become_paths() {
        assert_eq!(file_name("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(file_name("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(file_name("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
