//! Other containers' namespaces that a container joins, and the files that go with them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use corten_runtime::plan::{MountKind, MountPlan};
use corten_sys::mount;
use rustix::fs::CWD;

use crate::error::Error;
use crate::launch::FAILED;
use crate::life::{Phase, Refusal};
use crate::record::Record;
use crate::registry::Handle;
use crate::settings::{IpcMode, JoinMode, NetworkMode};
use crate::shared::Shared;
use crate::view::{ContainerView, Files};

/// Other containers whose namespaces this one joins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    /// Whose network namespace.
    pub network: Option<JoinedNetwork>,
    /// Whose IPC namespace, by a process in it.
    pub ipc: Option<i32>,
    /// Whose PID namespace, likewise.
    pub pid: Option<i32>,
    /// All of them.
    others: Vec<Other>,
}

/// A container that another one joins, and the process that it is found by.
#[derive(Debug, Clone)]
struct Other {
    handle: Arc<Handle>,
    pid: i32,
    /// The kind of namespace.
    what: &'static str,
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
            let other = joined.add(shared, record, name, "network")?;
            joined.network = Some(JoinedNetwork { pid: other.state.pid, files: other.files.clone() });
        }
        if let IpcMode::Container(name) = &spec.ipc_mode {
            let other = joined.add(shared, record, name, "IPC")?;
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
            joined.pid = Some(joined.add(shared, record, name, "PID")?.state.pid);
        }
        Ok(joined)
    }

    fn add(
        &mut self,
        shared: &Shared,
        record: &Record,
        name: &str,
        what: &'static str,
    ) -> Result<Arc<ContainerView>, Error> {
        let handle = shared.registry.find(&record.namespace, name).map_err(|error| refused(what, &error))?;
        let view = handle.now();
        check(&view, what)?;
        self.others.push(Other { handle, pid: view.state.pid, what });
        Ok(view)
    }

    /// From now on what these have is in another one's reach. Blocks.
    pub(crate) fn share(&self) {
        self.others.iter().for_each(|other| other.handle.share());
    }

    /// Refuses if one of them has ended: its process's number may be another's, and what was opened by it of that one.
    pub(crate) fn recheck(&self) -> Result<(), Error> {
        self.others.iter().try_for_each(|other| {
            let view = other.handle.now();
            check(&view, other.what)?;
            match view.state.pid == other.pid {
                true => Ok(()),
                false => Err(refused(other.what, &Refusal::Restarting(view.id.to_string()).into())),
            }
        })
    }
}

impl JoinedNetwork {
    /// The files of one that joins: what is said about the network is the other's, as with Docker.
    pub(crate) fn shared_with(&self, own: &Files) -> Files {
        let Files { hosts, hostname, resolv_conf, .. } = (*self.files).clone();
        Files { hosts, hostname, resolv_conf, ..own.clone() }
    }
}

/// Only a container that runs can be joined.
fn check(other: &ContainerView, what: &str) -> Result<(), Error> {
    match other.state.phase {
        Phase::Running | Phase::Paused => Ok(()),
        Phase::Restarting => Err(refused(what, &Refusal::Restarting(other.id.to_string()).into())),
        _ => {
            let (id, phase) = (&other.id, other.state.phase.as_str());
            let why = format!("cannot join {what} namespace of a non running container: container {id} is {phase}");
            Err(refused(what, &Error::Conflict(why)))
        }
    }
}

fn refused(what: &str, error: &Error) -> Error {
    let message = format!("joining {what} namespace of container: {}", error.message());
    Error::Launch { message, exit_code: FAILED }
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
