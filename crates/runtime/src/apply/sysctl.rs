//! Kernel settings and a process's own files in procfs, through a procfs instance that no container has touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::mount::{FileSystem, attr};
use corten_sys::path;
use rustix::fs::OFlags;

use super::base::Base;
use super::report::Explain;
use crate::Failure;
use crate::plan::Plan;

const ATTRIBUTES: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// A procfs of the caller's PID namespace: the one just mounted for the container, or one made when it is needed.
///
/// A process of the container that has CAP_SYS_PTRACE can take descriptors out of one that comes to join it (pidfd_getfd(2)),
/// and this procfs has no masks. So one that is made for a newcomer shows processes and nothing else.
#[derive(Debug, Default)]
pub(super) enum Proc {
    /// Processes only, when it is needed.
    #[default]
    None,
    /// Processes only (`subset=pid`).
    Processes(OwnedFd),
    /// All of it.
    Whole(OwnedFd),
}

impl Proc {
    /// A whole one.
    pub(super) fn whole() -> io::Result<Proc> {
        FileSystem::open("proc")?.mount(ATTRIBUTES).map(Proc::Whole)
    }

    /// A whole one that goes with the kit: a detached mount's end costs a grace period of the kernel of its own.
    pub(super) fn whole_in(base: &Base) -> io::Result<Proc> {
        let whole = FileSystem::open("proc")?.mount(ATTRIBUTES)?;
        base.take_proc(whole.as_fd())?;
        Ok(Proc::Whole(whole))
    }

    fn root(&mut self) -> io::Result<&OwnedFd> {
        if let Proc::None = self {
            let processes = FileSystem::open("proc")?;
            processes.set_string("subset", "pid")?;
            *self = Proc::Processes(processes.mount(ATTRIBUTES)?);
        }
        match self {
            Proc::Processes(root) | Proc::Whole(root) => Ok(root),
            Proc::None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// This one, or else the other.
    pub(super) fn or(self, other: Proc) -> Proc {
        if let Proc::None = self { other } else { self }
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

    /// Writes a file of a process.
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

/// Makes the plan's settings but those that are `made` already.
pub(super) fn apply(plan: &Plan, made: &BTreeMap<String, String>, proc: &mut Proc) -> Result<(), Failure> {
    let mut left = plan.sysctls.iter().filter(|(key, value)| made.get(*key) != Some(value)).peekable();
    if left.peek().is_none() {
        return Ok(());
    }
    // Made for this, it is gone before anything else happens.
    let mut own;
    let whole = match proc {
        Proc::Whole(_) => proc,
        _ => {
            own = Proc::whole().explain("cannot make a procfs")?;
            &mut own
        }
    };
    for (key, value) in left {
        whole
            .write(&format!("sys/{}", file_name(key)), value)
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
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_newcomer_holds_processes_only() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let mut newcomers = Proc::default();
        assert_ne!(newcomers.read_own("comm").unwrap(), "");
        for masked in ["sys/kernel/core_pattern", "sysrq-trigger", "kcore", "keys", "timer_list"] {
            assert_eq!(newcomers.open(masked, OFlags::PATH).unwrap_err().kind(), ErrorKind::NotFound, "{masked}");
        }
        assert!(Proc::whole().unwrap().open("sys/kernel/core_pattern", OFlags::PATH).is_ok());
    }

    #[test]
    fn keys_become_paths() {
        assert_eq!(file_name("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(file_name("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(file_name("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
