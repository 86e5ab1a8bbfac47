//! The state that all clones of [`Networks`] share, and looking things up in it.

use crate::firewall::{self, NetworkRules, PortRule};
use crate::ipam::Pool;
use crate::model::{Driver, Endpoint, Network};
use crate::ports::{self, Reservation};
use crate::reaper::Reaper;
use crate::records::Records;
use crate::{Config, Error, Result, options};
use corten_base::{NetworkId, SandboxId};
use corten_sys::netlink::netns::Workers;
use corten_sys::nft::{Batch, Nft};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All networks of a namespace and what is attached to them. Clones share one state.
#[derive(Clone)]
pub struct Networks {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) records: Records,
    pub(crate) workers: Workers,
    pub(crate) reaper: Reaper,
    /// Drop what is routed past our bridges, because this engine switched forwarding on.
    pub(crate) close_others: bool,
    /// Never held across a system call that may wait.
    state: Arc<Mutex<State>>,
    /// Held while the packet filter table changes. Taken before `state`, never after.
    firewall: Mutex<Nft>,
}

/// What is in memory: records, and what follows from them.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) networks: BTreeMap<NetworkId, NetworkState>,
    pub(crate) sandboxes: HashMap<SandboxId, SandboxState>,
    /// All held host ports.
    pub(crate) ports: ports::Index,
    /// The ephemeral host port given out last.
    pub(crate) last_port: u16,
}

pub(crate) struct NetworkState {
    pub(crate) network: Network,
    /// None for `host` and `none`.
    pub(crate) pool: Option<Pool>,
}

#[derive(Default)]
pub(crate) struct SandboxState {
    pub(crate) endpoints: Vec<Endpoint>,
    /// Held host ports.
    pub(crate) held: Vec<Reservation>,
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Networks {
    /// All networks, by creation time.
    pub fn list(&self) -> Vec<Network> {
        let mut networks: Vec<_> = self.state().networks.values().map(|state| state.network.clone()).collect();
        networks.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        networks
    }

    /// The network with this id, name or unambiguous id prefix.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn inspect(&self, term: &str) -> Result<Network> {
        self.state().find(term).cloned()
    }

    /// The endpoints on a network.
    pub fn endpoints(&self, network: &NetworkId) -> Vec<Endpoint> {
        self.state().endpoints().filter(|endpoint| endpoint.network_id == *network).cloned().collect()
    }

    /// The endpoints of a sandbox.
    pub fn endpoints_of(&self, sandbox: &SandboxId) -> Vec<Endpoint> {
        self.state().sandboxes.get(sandbox).map(|state| state.endpoints.clone()).unwrap_or_default()
    }

    /// Waits until all links of detached sandboxes are gone.
    pub fn settle(&self) {
        self.shared.reaper.settle();
    }

    /// Removes the packet filter table. For a daemon that ends for good; bridges and their addresses stay, as Docker's do.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn remove_firewall(&self) -> Result<()> {
        self.firewall_guard().commit(&firewall::remove()).map_err(Error::kernel("remove the packet filter table"))
    }

    pub(crate) fn new(
        config: Config,
        records: Records,
        workers: Workers,
        reaper: Reaper,
        nft: Nft,
        close_others: bool,
        state: State,
    ) -> Networks {
        let state = Arc::new(Mutex::new(state));
        Networks {
            shared: Arc::new(Shared {
                config,
                records,
                workers,
                reaper,
                close_others,
                state,
                firewall: Mutex::new(nft),
            }),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an address back, from whichever thread and however late.
    pub(crate) fn releaser(&self, network: NetworkId, ip: Ipv4Addr) -> impl FnOnce() + Send + 'static {
        let state = Arc::downgrade(&self.shared.state);
        move || {
            if let Some(state) = state.upgrade() {
                state.lock().unwrap_or_else(PoisonError::into_inner).release(&network, ip);
            }
        }
    }

    /// Rewrites the whole packet filter table from what is in memory.
    pub(crate) fn rebuild_firewall(&self) -> Result<()> {
        if !self.shared.config.firewall {
            return Ok(());
        }
        self.rebuild_locked(&mut self.firewall_guard())
    }

    /// Publishes ports that are in the state already.
    pub(crate) fn publish(&self, rules: &[PortRule]) -> Result<()> {
        self.change_ports(rules, firewall::add_ports)
    }

    /// Ends the publication of ports that are no longer in the state.
    pub(crate) fn unpublish(&self, rules: &[PortRule]) -> Result<()> {
        self.change_ports(rules, firewall::remove_ports)
    }

    fn change_ports(&self, rules: &[PortRule], change: fn(&[PortRule]) -> Batch) -> Result<()> {
        if rules.is_empty() || !self.shared.config.firewall {
            return Ok(());
        }
        let mut nft = self.firewall_guard();
        match nft.commit(&change(rules)) {
            Ok(()) => Ok(()),
            // Someone flushed the ruleset, or an element differs from what we think: memory decides.
            Err(error) => {
                tracing::warn!(%error, "rewriting the packet filter table");
                self.rebuild_locked(&mut nft)
            }
        }
    }

    fn rebuild_locked(&self, nft: &mut Nft) -> Result<()> {
        let batch = {
            let state = self.state();
            let ports: Vec<PortRule> = state.endpoints().flat_map(port_rules).collect();
            firewall::rebuild(&state.rules(), &ports, self.shared.close_others)
        };
        nft.commit(&batch).map_err(Error::kernel("write the packet filter table"))
    }

    fn firewall_guard(&self) -> MutexGuard<'_, Nft> {
        self.shared.firewall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// By id, then by name, then by id prefix, as Docker looks.
    pub(crate) fn find(&self, term: &str) -> Result<&Network> {
        let all = || self.networks.values().map(|state| &state.network);
        if let Some(found) = all().find(|n| n.id.as_str() == term).or_else(|| all().find(|n| n.name == term)) {
            return Ok(found);
        }
        let matches: Vec<_> = all().filter(|n| !term.is_empty() && n.id.as_str().starts_with(term)).collect();
        match matches[..] {
            [] => Err(Error::NotFound(term.to_owned())),
            [found] => Ok(found),
            _ => Err(Error::Ambiguous(term.to_owned(), matches.len())),
        }
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.sandboxes.values().flat_map(|sandbox| &sandbox.endpoints)
    }

    pub(crate) fn release(&mut self, network: &NetworkId, ip: Ipv4Addr) {
        if let Some(pool) = self.networks.get_mut(network).and_then(|state| state.pool.as_mut()) {
            pool.release(ip);
        }
    }

    /// Takes a sandbox out, with its ports; they are held until what is answered is dropped.
    pub(crate) fn forget(&mut self, sandbox: &SandboxId) -> Option<SandboxState> {
        let state = self.sandboxes.remove(sandbox)?;
        for held in &state.held {
            self.ports.remove(held);
        }
        Some(state)
    }

    fn rules(&self) -> Vec<NetworkRules> {
        let bridges = self.networks.values().map(|state| &state.network).filter(|n| n.driver == Driver::Bridge);
        bridges
            .filter_map(|network| {
                let config = network.ipam.first()?;
                Some(NetworkRules {
                    device: network.device.clone(),
                    subnet: config.subnet,
                    masquerade: flag(network, options::ENABLE_MASQUERADE),
                    inter_container: flag(network, options::ENABLE_ICC),
                    internal: network.internal,
                })
            })
            .collect()
    }
}

/// An option that is on unless it says otherwise.
fn flag(network: &Network, option: &str) -> bool {
    network.options.get(option).is_none_or(|value| create_bool(value).unwrap_or(true))
}

/// A truth value as Go's `strconv.ParseBool` reads it.
pub(crate) fn create_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The rules that publish an endpoint's ports.
pub(crate) fn port_rules(endpoint: &Endpoint) -> impl Iterator<Item = PortRule> {
    endpoint.ports.iter().map(|port| PortRule {
        host_ip: port.host_ip,
        host_port: port.host_port,
        protocol: port.protocol,
        ip: endpoint.ip,
        port: port.container_port,
    })
}
