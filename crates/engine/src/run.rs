//! One run of a container: its shim and what it holds on the host, from the start until everything is given back.

use std::os::fd::OwnedFd;

use corten_cgroup::{Group, Limits};

use crate::blocking;
use crate::error::{Error, chain};
use crate::grouped;
use crate::launch::{self, Launched};
use crate::link::Link;
use crate::network;
use crate::record::Record;
use crate::settings::{JoinMode, Resources};
use crate::shared::Shared;
use crate::undo::log;
use crate::view::NetworkView;
use std::sync::Arc;

/// A container's process and its surroundings.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) link: Link,
    pub(crate) pid: i32,
    /// Keeps the network namespace while endpoints are in it.
    netns: Option<OwnedFd>,
    group: Option<Arc<Group>>,
    /// What it is plugged into; none once it was taken off.
    network: Option<NetworkView>,
    /// Another runtime made it, and is asked where it might keep count.
    pub(crate) external: bool,
}

impl Run {
    /// The run that a launch began, and what the launch has to tell.
    pub(crate) fn new(launched: Launched) -> (Run, NetworkView, Vec<String>) {
        let run = Run {
            link: launched.link,
            pid: launched.pid,
            netns: Some(launched.netns),
            group: launched.group.map(Arc::new),
            network: Some(launched.network.clone()),
            external: launched.external,
        };
        (run, launched.network, launched.warnings)
    }

    /// A run that an earlier daemon began.
    pub(crate) fn adopted(
        link: Link,
        pid: i32,
        netns: Option<OwnedFd>,
        group: Option<Group>,
        network: NetworkView,
        external: bool,
    ) -> Run {
        Run { link, pid, netns, group: group.map(Arc::new), network: Some(network), external }
    }

    /// Freezes or thaws the container's processes. Where another runtime can't, its control group can: nothing that is to be
    /// killed stays frozen.
    pub(crate) async fn freeze(&mut self, on: bool) {
        if self.external {
            let done = self.link.call(|shim| shim.freeze(on)).await;
            let Err(error) = done else { return };
            tracing::warn!(error = chain(&error), "another runtime could not freeze or thaw its container");
        }
        let Some(group) = self.group.clone() else { return };
        let frozen = blocking::run(move || group.freeze(on).map_err(Error::failed("cannot freeze or thaw"))).await;
        log("a container could not be frozen or thawed", frozen.and_then(|frozen| frozen));
    }

    /// Kills everything that is left in the container's control group.
    pub(crate) async fn kill_all(&mut self) {
        let Some(group) = self.group.clone() else { return };
        let killed = blocking::run(move || group.kill_all().map_err(Error::failed("cannot kill"))).await;
        log("a container's processes could not be killed", killed.and_then(|killed| killed));
    }

    /// Sets those of the limits that aren't zero or empty.
    pub(crate) async fn limit(&mut self, resources: &Resources) -> Result<(), Error> {
        let Some(group) = self.group.clone().filter(|_| *resources != Resources::default()) else { return Ok(()) };
        let limits = crate::translate::resources(resources)?;
        let oci = corten_spec::resources(&limits).map_err(Error::failed("cannot set the limits"))?;
        if self.external {
            let text = serde_json::to_vec(&oci).map_err(Error::failed("cannot set the limits"))?;
            let done = self.link.call(|shim| shim.limit(&text)).await;
            return done.map(drop).map_err(Error::failed("cannot set the limits"));
        }
        let limits = Limits::from(&oci);
        blocking::run(move || group.apply(&limits).map_err(Error::failed("cannot set the limits"))).await?
    }

    /// Takes the container off its networks ahead of the rest.
    pub(crate) async fn unplug(&mut self, shared: &Arc<Shared>, record: &Record) {
        let Some(network) = self.network.take() else { return };
        let (shared, id) = (shared.clone(), record.id.clone());
        log("a container's network stays behind", blocking::run(move || network::unplug(&shared, &id, &network)).await);
    }

    /// Lets the shim go and gives everything back. Each part is tried, whatever becomes of the others.
    pub(crate) async fn tear_down(self, shared: &Arc<Shared>, record: &Record) {
        let Run { link, netns, group, network, external, .. } = self;
        link.release().await;
        let (shared, record) = (shared.clone(), record.clone());
        let done = blocking::run_behind(move || {
            if let Some(network) = network {
                network::unplug(&shared, &record.id, &network);
            }
            drop(netns);
            // Another runtime has removed it by itself, if all went well.
            let group = group.filter(|group| !external || shared.cgroups.open(group.path()).is_ok());
            if let Some(group) = group {
                // With its own PID namespace's first process the kernel has killed all others; in another's they may live on.
                match record.spec.pid_mode {
                    JoinMode::Private => grouped::discard_empty(&group),
                    _ => grouped::discard(&group),
                }
            }
            log("a shim's directory stays behind", launch::remove_run_directory(&shared, &record));
            let volumes: Vec<String> = record.mounts.iter().filter_map(|point| point.name.clone()).collect();
            launch::unmount_volumes(&shared, &record.id, &volumes);
        });
        log("a container was not cleaned up", done.await);
    }
}
