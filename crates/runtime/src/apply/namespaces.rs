//! The last steps into the container's namespaces, for the process that stays in them.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::process::flags;
use corten_sys::{credentials, namespace};

use super::report::Explain;
use super::sysctl::Proc;
use crate::Failure;
use crate::plan::{NamespaceKind, NamespaceSource, Namespaces, Plan, TimeOffset};

/// A kind's flag for clone3(2) and setns(2).
pub(super) fn flag(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Pid => flags::PID,
        NamespaceKind::Network => flags::NETWORK,
        NamespaceKind::Ipc => flags::IPC,
        NamespaceKind::Uts => flags::UTS,
        NamespaceKind::Cgroup => flags::CGROUP,
        NamespaceKind::User => flags::USER,
        NamespaceKind::Mount => flags::MOUNT,
        NamespaceKind::Time => flags::TIME,
    }
}

pub(super) fn join(kind: NamespaceKind, fd: &OwnedFd) -> Result<(), Failure> {
    namespace::join(fd.as_fd(), flag(kind)).explain_with(|| format!("cannot join the {} namespace", kind.file_name()))
}

/// Joins and makes what is left to be joined and made after the clone, and becomes root of a user namespace.
pub(super) fn settle(plan: &Plan, joined: Vec<(NamespaceKind, OwnedFd)>) -> Result<(), Failure> {
    // A PID or user namespace was chosen by whoever cloned this process; a mount namespace takes the files away.
    let (mount, joined): (Vec<_>, Vec<_>) = joined.into_iter().partition(|(kind, _)| *kind == NamespaceKind::Mount);
    for (kind, fd) in &joined {
        if !matches!(kind, NamespaceKind::Pid | NamespaceKind::User) {
            join(*kind, fd)?;
        }
    }
    if plan.namespaces.cgroup == NamespaceSource::New {
        // Only now that the process is in its cgroup: the namespace's root is where it stands.
        namespace::unshare(flags::CGROUP).explain("cannot make a cgroup namespace")?;
    }
    if plan.namespaces.time == NamespaceSource::New {
        enter_new_time(&plan.time_offsets)?;
    }
    if plan.namespaces.user != NamespaceSource::Host {
        become_root().explain("cannot become root of the user namespace")?;
    }
    mount.iter().try_for_each(|(kind, fd)| join(*kind, fd))
}

/// A new time namespace takes in children only, and its clocks can be set until the first of them lives there; the
/// caller itself joins it like a stranger's (time_namespaces(7)).
fn enter_new_time(offsets: &[TimeOffset]) -> Result<(), Failure> {
    namespace::unshare(flags::TIME).explain("cannot make a time namespace")?;
    let mut proc = Proc::default();
    if !offsets.is_empty() {
        let line = |offset: &TimeOffset| format!("{} {} {}\n", offset.clock, offset.seconds, offset.nanoseconds);
        let text: String = offsets.iter().map(line).collect();
        proc.write_own("timens_offsets", &text).explain("cannot set the time offsets")?;
    }
    let own = proc.namespace("time_for_children").explain("cannot open the new time namespace")?;
    join(NamespaceKind::Time, &own)
}

/// Takes on the user and group that own the container's files. Until then the caller is the host's root without its
/// privileges: nobody inside.
pub(super) fn become_root() -> std::io::Result<()> {
    credentials::set_groups(&[])?;
    credentials::set_gid(0)?;
    credentials::set_uid(0)
}

/// The namespaces that are made along with the clone; those of a new user namespace belong to it.
pub fn clone_flags(namespaces: &Namespaces) -> u64 {
    let new = |source: &NamespaceSource| *source == NamespaceSource::New;
    [
        (new(&namespaces.pid), flags::PID),
        (new(&namespaces.network), flags::NETWORK),
        (new(&namespaces.ipc), flags::IPC),
        (new(&namespaces.uts), flags::UTS),
        (new(&namespaces.user), flags::USER),
    ]
    .into_iter()
    .fold(flags::MOUNT, |all, (wanted, flag)| if wanted { all | flag } else { all })
}
