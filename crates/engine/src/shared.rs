//! What all of the engine's tasks use: stores, rooms, and facts about the host.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use corten_base::{ContainerId, Namespace};
use corten_cgroup::{CgroupPath, Group, Tree};
use corten_distribution::Blocking;
use corten_events::{Actor, Kind};
use corten_images::Images;
use corten_network::Networks;
use corten_snapshot::Snapshots;
use corten_spec::HostFacts;
use corten_spec::limits::Support;
use corten_volumes::Volumes;
use tokio::sync::Semaphore;

use crate::background::Tasks;
use crate::config::Config;
use crate::error::Error;
use crate::exec::Execs;
use crate::filters::Filters;
use crate::init_program::InitProgram;
use crate::parents::{Noted, Parents};
use crate::pool::Pool;
use crate::record::Records;
use crate::registry::Registry;
use crate::spare::Spares;
use crate::stats::Collector;
use crate::transfers::Transfers;

/// The engine's inside.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    /// The data root's own id.
    pub id: String,
    pub records: Records,
    pub snapshots: Snapshots,
    /// Speaks to registries.
    pub registry_client: Blocking,
    /// The same for asynchronous code.
    pub registries: corten_distribution::Client,
    pub images: Images,
    /// Threads for what moves them.
    pub transfers: Transfers,
    /// Told when an image has arrived.
    pub image_arrived: tokio::sync::Notify,
    /// Told when a pull has left what it may go on with.
    pub pull_interrupted: tokio::sync::Notify,
    pub networks: Networks,
    pub volumes: Volumes,
    pub events: corten_events::Log,
    pub registry: Registry,
    pub execs: Execs,
    pub collector: Collector,
    pub pool: Arc<Pool>,
    pub spares: Arc<Spares>,
    pub cgroups: Tree,
    pub cgroup_parent: CgroupPath,
    pub cgroup_parents: Parents,
    pub host: HostFacts,
    pub support: Support,
    pub filters: Filters,
    pub init: InitProgram,
    /// Starts under way at once: more than a few per processor only make each of them slower.
    pub starts: Semaphore,
    /// The same for other runtimes, which may hang: they hold each other back and nobody else.
    pub external_starts: Semaphore,
    /// Work that goes on behind an answered request; waited for at the end.
    pub background: Tasks,
    /// Keeps other engines off the data root.
    pub _lock: std::fs::File,
}

impl Shared {
    /// `<data-root>/containers/<id>`.
    pub(crate) fn container_directory(&self, id: &ContainerId) -> PathBuf {
        self.config.data_root.join("containers").join(id.as_str())
    }

    /// `<exec-root>/shims/<id>`.
    pub(crate) fn run_directory(&self, id: &ContainerId) -> PathBuf {
        self.config.exec_root.join("shims").join(id.as_str())
    }

    /// Whom a start with this runtime has to wait for.
    pub(crate) fn starts_with(&self, runtime: &str) -> &Semaphore {
        if self.config.runtimes.is_external(runtime) { &self.external_starts } else { &self.starts }
    }

    /// Where the container's next control group has its place.
    pub(crate) fn cgroup_path(&self, id: &ContainerId, parent: &str) -> Result<CgroupPath, Error> {
        let failed = || Error::failed("cannot place the container's control group");
        if parent.is_empty() {
            return self.cgroup_parent.join(id.as_str()).map_err(failed());
        }
        let parent = if parent.starts_with('/') { parent.into() } else { format!("/{parent}") };
        CgroupPath::parse(&parent).and_then(|parent| parent.join(id.as_str())).map_err(failed())
    }

    /// Makes the container's control group, in a place where later daemons find it.
    pub(crate) fn create_group(&self, id: &ContainerId, parent: &str) -> Result<Group, Error> {
        let path = self.cgroup_path(id, parent)?;
        let _noted = self.note_parent_of(&path)?;
        self.cgroups.create(&path).map_err(Error::failed("cannot make the container's control group"))
    }

    /// Has later daemons look for the container's control group in its place.
    pub(crate) fn note_cgroup_parent(&self, id: &ContainerId, parent: &str) -> Result<(), Error> {
        self.note_parent_of(&self.cgroup_path(id, parent)?).map(drop)
    }

    fn note_parent_of(&self, group: &CgroupPath) -> Result<Option<Noted<'_>>, Error> {
        let noted = group.parent().map(|above| self.cgroup_parents.note(&above)).transpose();
        noted.map_err(Error::failed("cannot write the control group's parent down"))
    }

    /// The container's control group; an earlier daemon may have had it elsewhere.
    pub(crate) fn find_group(&self, id: &ContainerId, parent: &str) -> Result<Group, Error> {
        let opened = self.cgroups.open(&self.cgroup_path(id, parent)?);
        let found = opened.or_else(|error| self.cgroup_parents.groups_of(id).pop().ok_or(error));
        found.map_err(Error::failed("cannot open the container's control group"))
    }

    /// Tells the event log of something other than a container.
    pub(crate) fn tell<const N: usize>(
        &self,
        namespace: &Namespace,
        kind: Kind,
        action: &str,
        id: &str,
        attributes: [(&str, String); N],
    ) {
        self.events.publish(namespace, kind, action, Actor::new(id, attributes));
    }
}

/// Reads a file of a container, never leaving its root; a missing one is empty.
pub(crate) fn read_in_root(root: BorrowedFd<'_>, path: &str) -> Result<String, Error> {
    use std::io::{ErrorKind, Read};
    /// Nobody's passwd file is larger, and a hostile one shall not fill the daemon's memory.
    const MOST: u64 = 8 * 1024 * 1024;
    let failed = || Error::failed(format!("cannot read {path} of the container"));
    let file = match corten_sys::path::open_regular(root, path) {
        Ok(Some(file)) => std::fs::File::from(file),
        Ok(None) => return Ok(String::new()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        Err(error) => return Err(failed()(error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(failed())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
