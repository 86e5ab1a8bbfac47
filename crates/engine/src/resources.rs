//! What faces ask of networks and volumes: the rooms' own operations off the runtime's thread, with what containers make of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_base::{Namespace, VolumeName};
use corten_events::Kind;
use corten_network::{CreateNetwork, Network, Networks};
use corten_volumes::{CreateVolume, Volume, Volumes};

use crate::blocking;
use crate::error::Error;
use crate::shared::Shared;
use crate::view::ContainerView;

/// The networks of one namespace.
#[derive(Debug, Clone)]
pub struct NetworkService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: Namespace,
}

/// A network and the running containers on it.
#[derive(Debug, Clone)]
pub struct NetworkState {
    /// The network.
    pub network: Network,
    /// Containers with an endpoint there; the endpoint is in their [`ContainerView::network`] under the network's name.
    pub containers: Vec<Arc<ContainerView>>,
}

impl NetworkService {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Networks) -> corten_network::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let networks = self.shared.networks.clone();
        Ok(blocking::run(move || question(&networks)).await??)
    }

    fn state(&self, network: Network) -> NetworkState {
        let views = self.shared.registry.all(&self.namespace).into_iter().map(|handle| handle.now());
        let on_it = |view: &Arc<ContainerView>| {
            view.network.endpoints.values().any(|endpoint| endpoint.network_id.as_ref() == Some(&network.id))
        };
        let containers = views.filter(on_it).collect();
        NetworkState { network, containers }
    }

    /// All networks, by creation.
    pub fn list(&self) -> Vec<NetworkState> {
        self.shared.networks.list().into_iter().map(|network| self.state(network)).collect()
    }

    /// The network with this name, id or beginning of an id.
    pub fn inspect(&self, term: &str) -> Result<NetworkState, Error> {
        Ok(self.state(self.shared.networks.inspect(term)?))
    }

    /// Makes a network.
    pub async fn create(&self, request: CreateNetwork) -> Result<Network, Error> {
        let network = self.ask(move |networks| networks.create(request)).await?;
        self.tell("create", &network);
        Ok(network)
    }

    /// Removes a network that nothing is on.
    pub async fn remove(&self, term: &str) -> Result<(), Error> {
        let term = term.to_string();
        let network = self.ask(move |networks| networks.remove(&term)).await?;
        self.tell("destroy", &network);
        Ok(())
    }

    /// Removes the networks that nothing is on and for which `wanted` holds. Returns their names.
    pub async fn prune(&self, wanted: impl Fn(&Network) -> bool + Send + 'static) -> Result<Vec<String>, Error> {
        // A stopped container's network is kept for its next start.
        let mut named = Vec::new();
        for view in self.shared.registry.all(&self.namespace).into_iter().map(|handle| handle.now()) {
            named.extend(view.network.endpoints.keys().cloned());
        }
        let gone = self
            .ask(move |networks| networks.prune(|network| !named.contains(&network.name) && wanted(network)))
            .await?;
        for network in &gone {
            self.tell("destroy", network);
        }
        Ok(gone.into_iter().map(|network| network.name).collect())
    }

    fn tell(&self, action: &str, network: &Network) {
        let attributes = [("name", network.name.clone()), ("type", network.driver.to_string())];
        self.shared.tell(&self.namespace, Kind::Network, action, network.id.as_str(), attributes);
    }
}

/// The volumes of one namespace.
#[derive(Debug, Clone)]
pub struct VolumeService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: Namespace,
}

impl VolumeService {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Volumes) -> corten_volumes::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let volumes = self.shared.volumes.clone();
        Ok(blocking::run(move || question(&volumes)).await??)
    }

    /// Volumes that the filters let through, by name.
    pub async fn list(&self, filters: corten_volumes::Filters) -> Result<Vec<Volume>, Error> {
        let in_use = crate::volumes::in_use(&self.shared, &self.namespace);
        self.ask(move |volumes| volumes.list(&filters, &in_use)).await
    }

    /// The volume of this name.
    pub async fn inspect(&self, name: &str) -> Result<Volume, Error> {
        let name = name.to_string();
        self.ask(move |volumes| volumes.get(&name)).await
    }

    /// Makes a volume, or returns the one that is there.
    pub async fn create(&self, request: CreateVolume) -> Result<Volume, Error> {
        let volume = self.ask(move |volumes| volumes.create(request)).await?;
        self.tell("create", volume.name.as_str(), &volume.driver);
        Ok(volume)
    }

    /// Removes a volume that no container mounts.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let users = crate::volumes::users(&self.shared, &self.namespace, name);
        let owned = name.to_string();
        self.ask(move |volumes| volumes.remove(&owned, force, &users)).await?;
        self.tell("destroy", name, "local");
        Ok(())
    }

    /// Removes volumes that no container mounts: anonymous ones only, unless `all`. Returns their names and the bytes freed.
    pub async fn prune(&self, all: bool, filters: corten_volumes::Filters) -> Result<(Vec<VolumeName>, u64), Error> {
        let in_use = crate::volumes::in_use(&self.shared, &self.namespace);
        let (names, freed) = self.ask(move |volumes| volumes.prune(all, &filters, &in_use)).await?;
        for name in &names {
            self.tell("destroy", name.as_str(), "local");
        }
        Ok((names, freed))
    }

    /// Bytes of each volume's content, and how many containers mount it: what `system df` shows.
    pub async fn usage(&self) -> Result<BTreeMap<String, (u64, usize)>, Error> {
        let volumes = self.list(corten_volumes::Filters::default()).await?;
        let mut usage = BTreeMap::new();
        for volume in volumes {
            let name = volume.name.to_string();
            let users = crate::volumes::users(&self.shared, &self.namespace, &name).len();
            let asked = name.clone();
            let bytes = self.ask(move |volumes| volumes.usage(&asked)).await?;
            usage.insert(name, (bytes, users));
        }
        Ok(usage)
    }

    fn tell(&self, action: &str, name: &str, driver: &str) {
        self.shared.tell(&self.namespace, Kind::Volume, action, name, [("driver", driver.to_string())]);
    }
}
