//! The way into a user namespace, or into a PID namespace of others, for a container's first process.
//!
//! Maps, limits and namespaces of the host need privileges that nobody inside has, so one process leads the way and
//! another stays:
//!
//! ```text
//! driver -> leader (the host's root, in the minimal root with a procfs and a sysfs in sight)
//!             joins cgroups and namespaces, sets what only root may set
//!             clones -> the init, the driver's child, in its new namespaces; waits
//!             writes its maps, lets it go, tells the driver its id, ends
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::namespace;
use corten_sys::process::{self, Cloned};
use rustix::pipe::{PipeFlags, pipe_with};

use super::namespaces::{clone_flags, join};
use super::report::{Explain, Reporter};
use super::sysctl::Proc;
use super::{base, endow, join_cgroups};
use crate::plan::{NamespaceKind, NamespaceSource, Plan};
use crate::{Failure, FailureKind};

/// What the leader joins before it clones.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Namespaces, as [`Plan::joins`] names them. Those that the init has to join itself are left in it.
    pub namespaces: Vec<(NamespaceKind, OwnedFd)>,
    /// Cgroup directories.
    pub cgroups: Vec<OwnedFd>,
}

/// Clones the process that becomes the container's init, as a sibling of the caller; true in the new process, which
/// goes on with [`super::init`] and what `entrance` still holds. The caller is a single-threaded process of its own
/// in the minimal root; it reports with [`Reporter::moved`] and is to end then. On v2 the init is cloned inside the
/// cgroup `into`.
pub fn lead(
    plan: &Plan,
    entrance: &mut Entrance,
    into: Option<BorrowedFd<'_>>,
    reporter: &mut Reporter,
) -> Result<bool, Failure> {
    join_cgroups(&std::mem::take(&mut entrance.cgroups))?;
    let user = plan.namespaces.user != NamespaceSource::Host;
    let mut proc = Proc::default();
    if user {
        base::show_kernel_views().explain("cannot mount the kernel's views")?;
        endow::ahead_of_clone(&plan.process, &mut proc, reporter)?;
    }
    join_ahead(&mut entrance.namespaces)?;
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC).explain("cannot make a pipe")?;
    let cloned = process::clone_sibling_into(clone_flags(&plan.namespaces), into);
    match cloned.map_err(|error| clone_failure(user, &error))? {
        Cloned::Child => {
            drop(release);
            wait(hold)?;
            Ok(true)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(hold);
            if !plan.id_map.is_empty() {
                write_maps(plan, pid, &mut proc)?;
            }
            reporter.moved(pid, pidfd).explain("cannot name the container's init")?;
            rustix::io::write(&release, &[1]).explain("cannot let the container's init go")?;
            Ok(false)
        }
    }
}

/// The kernel makes no user namespace for whoever stands in a chroot (user_namespaces(7)), with an error that tells nobody why.
fn clone_failure(user: bool, error: &io::Error) -> Failure {
    let denied = user && error.kind() == io::ErrorKind::PermissionDenied;
    if denied && namespace::is_in_chroot().unwrap_or(false) {
        let text = "cannot run a container with a user namespace from a chroot: the kernel makes none there";
        return Failure::new(FailureKind::Invalid, text);
    }
    Failure::host("cannot clone the container's init", error)
}

/// Joins what can be joined as the host's root; the user namespace comes last and takes that away. What belongs to it
/// is left for afterwards, and the mount namespace to the init.
fn join_ahead(namespaces: &mut Vec<(NamespaceKind, OwnedFd)>) -> Result<(), Failure> {
    let rank = |kind: NamespaceKind| match kind {
        NamespaceKind::Mount => 2,
        NamespaceKind::User => 1,
        _ => 0,
    };
    namespaces.sort_by_key(|(kind, _)| rank(*kind));
    let stays = namespaces.iter().position(|(kind, _)| *kind == NamespaceKind::Mount).unwrap_or(namespaces.len());
    namespaces.drain(..stays).try_for_each(|(kind, fd)| join(kind, &fd))
}

fn write_maps(plan: &Plan, pid: i32, proc: &mut Proc) -> Result<(), Failure> {
    proc.write(&format!("{pid}/uid_map"), &plan.id_map.uid_lines()).explain("cannot map the user ids")?;
    proc.write(&format!("{pid}/gid_map"), &plan.id_map.gid_lines()).explain("cannot map the group ids")
}

/// Until the maps are written the init is nobody; without a word the leader has failed, and told why.
fn wait(hold: OwnedFd) -> Result<(), Failure> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(hold.as_fd(), &mut byte)) {
        Ok(1) => Ok(()),
        _ => Err(Failure::new(FailureKind::Internal, "the process that leads into the namespaces has died")),
    }
}
