//! Other containers' namespaces that a container joins, and the files that go with them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use corten_runtime::plan::{MountKind, MountPlan};
use corten_sys::mount;
use rustix::fs::CWD;

use crate::error::Error;
use crate::life::{Phase, Refusal};
use crate::record::Record;
use crate::settings::{IpcMode, JoinMode, NetworkMode};
use crate::shared::Shared;
use crate::view::{ContainerView, Files};

/// How the runtime of Docker's reference ends where a container can't join another.
const FAILED: i32 = 128;

/// Other containers whose namespaces this one joins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    /// Whose network namespace.
    pub network: Option<JoinedNetwork>,
    /// Whose IPC namespace, by a process in it.
    pub ipc: Option<i32>,
    /// Whose PID namespace, likewise.
    pub pid: Option<i32>,
}

/// A container whose network namespace another one joins.
#[derive(Debug, Clone)]
pub(crate) struct JoinedNetwork {
    pub pid: i32,
    files: Arc<Files>,
}

impl Joined {
    /// The containers that a container's settings name, which have to run.
    pub(crate) fn of(shared: &Shared, record: &Record) -> Result<Joined, Error> {
        let spec = &record.spec;
        let mut joined = Joined::default();
        if let NetworkMode::Container(name) = &spec.network_mode {
            let other = running(shared, record, name, "network")?;
            joined.network = Some(JoinedNetwork { pid: other.state.pid, files: other.files.clone() });
        }
        if let IpcMode::Container(name) = &spec.ipc_mode {
            let other = running(shared, record, name, "IPC")?;
            if matches!(other.spec.ipc_mode, IpcMode::Private | IpcMode::None) {
                let message = format!(
                    "failed to join IPC namespace: container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                     container)",
                    other.id
                );
                return Err(Error::Launch { message, exit_code: FAILED });
            }
            joined.ipc = Some(other.state.pid);
        }
        if let JoinMode::Container(name) = &spec.pid_mode {
            joined.pid = Some(running(shared, record, name, "PID")?.state.pid);
        }
        Ok(joined)
    }
}

impl JoinedNetwork {
    /// The files of one that joins: what is said about the network is the other's, as with Docker.
    pub(crate) fn shared_with(&self, own: &Files) -> Files {
        let Files { hosts, hostname, resolv_conf, .. } = (*self.files).clone();
        Files { hosts, hostname, resolv_conf, ..own.clone() }
    }
}

/// The container of that name, if it runs.
fn running(shared: &Shared, record: &Record, name: &str, what: &str) -> Result<Arc<ContainerView>, Error> {
    let context = |error: Error| Error::Launch {
        message: format!("joining {what} namespace of container: {}", error.message()),
        exit_code: FAILED,
    };
    let other = shared.registry.find(&record.namespace, name).map_err(context)?.now();
    match other.state.phase {
        Phase::Running | Phase::Paused => Ok(other),
        Phase::Restarting => Err(context(Refusal::Restarting(other.id.to_string()).into())),
        _ => Err(context(Error::Conflict(format!(
            "cannot join {what} namespace of a non running container: container {} is {}",
            other.id,
            other.state.phase.as_str()
        )))),
    }
}

/// Who joins another container's IPC namespace sees its `/dev/shm` as well: POSIX shared memory and semaphores are files there. That mount
/// is in the other container's mount namespace alone, so it is looked up there, and takes the place of the bind source that stood for it.
pub(crate) fn share_shm(
    plan: &corten_runtime::Plan,
    files: &Files,
    joined: &Joined,
    trees: &mut [OwnedFd],
) -> Result<(), Error> {
    let failed = Error::failed("cannot share the other container's /dev/shm");
    let stands_for_it = |mount: &MountPlan| match &mount.kind {
        MountKind::Bind { source, path, .. } if std::path::Path::new(path) == files.directory => Some(*source),
        _ => None,
    };
    let place = plan.mounts.iter().filter(|mount| mount.destination == "/dev/shm").find_map(stands_for_it);
    let (Some(pid), Some(tree)) = (joined.ipc, place.and_then(|index| trees.get_mut(index))) else { return Ok(()) };
    *tree = shm_of(pid).map_err(failed)?;
    Ok(())
}

/// The `/dev/shm` of a process's mount namespace, detached.
pub(crate) fn shm_of(pid: i32) -> std::io::Result<OwnedFd> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    let shm = || corten_sys::path::find(CWD, "dev/shm").and_then(|found| mount::clone_of(found.as_fd(), false));
    corten_sys::namespace::in_mount_namespace(namespace.as_fd(), shm)
}
