//! Starting: predefined networks, devices and rules are there afterwards, whatever was before.

use crate::ipam::{self, Pool};
use crate::model::{Driver, Endpoint, IpamConfig, Network};
use crate::networks::{NetworkState, Networks, SandboxState, State};
use crate::reaper::Reaper;
use crate::records::Records;
use crate::{Config, Error, Result, links, options, ports, sysctl};
use corten_base::{NetworkId, SandboxId};
use corten_metadata::Database;
use corten_sys::netlink::netns::Workers;
use corten_sys::nft::Nft;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

/// The setting that remembers in which run of the machine an engine switched forwarding on.
const CLOSE_OTHERS: &str = "close_others";

impl Networks {
    /// Opens the networks, creating the predefined ones, their device and rules, or repairing them.
    ///
    /// # Errors
    /// [`Error::Metadata`], and [`Error::Kernel`] if devices or rules can't be made. A user-defined network whose device can't
    /// be made is only logged.
    pub fn open(db: Database, config: Config) -> Result<Networks> {
        let records = Records::new(db, config.namespace.clone());
        let workers = Workers::new().map_err(Error::io("find the host's network namespace"))?;
        let reaper = Reaper::start().map_err(Error::io("start the thread that deletes links"))?;
        let nft = Nft::open().map_err(Error::kernel("open a packet filter socket"))?;
        let mut networks = records.networks()?;
        predefine(&mut networks, &records, &config)?;
        let mut state = State::default();
        for network in networks {
            let pool = network.ipam.first().map(Pool::new);
            state.networks.insert(network.id.clone(), NetworkState { network, pool });
        }
        for endpoint in records.endpoints()? {
            state.remember(endpoint);
        }
        let close_others = forwarding(&records, &config)?;
        let networks = Networks::new(config, records, workers, reaper, nft, close_others, state);
        networks.ensure_devices()?;
        networks.rebuild_firewall()?;
        Ok(networks)
    }

    /// After a start: keeps what belongs to live sandboxes (holding their host ports again), removes all else of ours.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Metadata`]; everything that can be done is done even so.
    pub fn recover(&self, live: &HashSet<SandboxId>) -> Result<()> {
        let dead: Vec<SandboxId> = self.state().sandboxes.keys().filter(|id| !live.contains(*id)).cloned().collect();
        let mut result = Ok(());
        for sandbox in &dead {
            result = result.and(self.detach(sandbox));
        }
        self.hold_ports_again();
        result = result.and(self.delete_strays());
        result.and(self.rebuild_firewall())
    }

    /// Binds the host ports of live sandboxes, which nobody held while no daemon was there.
    fn hold_ports_again(&self) {
        let mut state = self.state();
        let State { sandboxes, ports: index, .. } = &mut *state;
        for sandbox in sandboxes.values_mut() {
            for port in sandbox.endpoints.iter().flat_map(|endpoint| &endpoint.ports) {
                let same = |held: &ports::Reservation| {
                    (held.host_ip, held.host_port, held.protocol) == (port.host_ip, port.host_port, port.protocol)
                };
                if sandbox.held.iter().any(same) {
                    continue;
                }
                match ports::hold(port.host_ip, port.host_port, port.protocol) {
                    Ok(held) => {
                        index.add(&held);
                        sandbox.held.push(held);
                    }
                    Err(error) => {
                        tracing::warn!(ip = %port.host_ip, port = port.host_port, %error, "a published port was taken meanwhile");
                    }
                }
            }
        }
    }

    /// Deletes links on our bridges that no endpoint knows.
    fn delete_strays(&self) -> Result<()> {
        let (devices, known) = {
            let state = self.state();
            let devices: Vec<String> = state.networks.values().map(|state| state.network.device.clone()).collect();
            let known: HashSet<String> = state.endpoints().map(|endpoint| endpoint.host_interface.clone()).collect();
            (devices, known)
        };
        let found = links::endpoint_links(&devices).map_err(Error::kernel("list links"))?;
        for stray in found.into_iter().filter(|name| !known.contains(name)) {
            self.shared.reaper.delete(stray, || {});
        }
        self.settle();
        Ok(())
    }

    fn ensure_devices(&self) -> Result<()> {
        let networks: Vec<Network> = self.list().into_iter().filter(|n| n.driver == Driver::Bridge).collect();
        for network in networks {
            let Some(config) = network.ipam.first() else { continue };
            match links::ensure_bridge(&network, config, &self.shared.config) {
                Err(error) if is_default(&network) => return Err(error),
                Err(error) => tracing::error!(%error, network = network.name, "a network does not work"),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

impl State {
    /// Takes a recorded endpoint in; one of a network that is gone is forgotten by `recover`.
    fn remember(&mut self, endpoint: Endpoint) {
        if let Some(pool) = self.networks.get_mut(&endpoint.network_id).and_then(|state| state.pool.as_mut()) {
            pool.take_fixed(endpoint.ip);
        }
        let sandbox: &mut SandboxState = self.sandboxes.entry(endpoint.sandbox.clone()).or_default();
        sandbox.endpoints.push(endpoint);
        sandbox.endpoints.sort_by(|a, b| a.interface.cmp(&b.interface));
    }
}

/// Switches forwarding on. True if what isn't ours must be closed, because an engine switched it on since the machine started.
fn forwarding(records: &Records, config: &Config) -> Result<bool> {
    if !config.ip_forward || !config.firewall {
        return Ok(false);
    }
    let switched = sysctl::enable_forwarding().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot switch IP forwarding on: containers will not reach the outside");
        false
    });
    let boot = sysctl::boot_id();
    let ours = switched || records.setting(CLOSE_OTHERS)?.is_some_and(|recorded| recorded == boot);
    if switched {
        records.set_setting(CLOSE_OTHERS, boot)?;
    }
    Ok(ours && !config.ip_forward_no_drop)
}

/// `bridge`, `host` and `none` as the configuration wants them, in the list and on disk.
fn predefine(networks: &mut Vec<Network>, records: &Records, config: &Config) -> Result<()> {
    for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
        if !networks.iter().any(|network| network.name == name) {
            let network = fresh(name, driver);
            records.put_network(&network)?;
            networks.push(network);
        }
    }
    let position = networks.iter().position(is_default);
    let Some(device) = &config.bridge else {
        if let Some(position) = position {
            records.delete_network(&networks.remove(position).id)?;
        }
        return Ok(());
    };
    let old = position.map(|position| networks.remove(position));
    let network = default_bridge(old.as_ref(), device, networks, config)?;
    if old.as_ref() != Some(&network) {
        records.put_network(&network)?;
    }
    networks.push(network);
    Ok(())
}

/// The network `bridge`: what the configuration says, then what it was, then what its device has, then a free subnet.
fn default_bridge(old: Option<&Network>, device: &str, others: &[Network], config: &Config) -> Result<Network> {
    let before = old.filter(|old| old.device == device).and_then(|old| old.ipam.first());
    let net = match (config.bip, before) {
        (Some(bip), _) => bip,
        (None, Some(before)) => {
            Ipv4Net::new(before.gateway.unwrap_or(before.subnet.network()), before.subnet.prefix_len())
                .unwrap_or(before.subnet)
        }
        (None, None) => match links::device_address(device).map_err(Error::kernel("look at the bridge"))? {
            Some(present) => present,
            None => with_first_host(free_subnet(others, &host_subnets(others)?, config)?),
        },
    };
    let mut network = old.cloned().unwrap_or_else(|| fresh("bridge", Driver::Bridge));
    network.device = device.to_owned();
    network.ipam = vec![IpamConfig {
        subnet: net.trunc(),
        ip_range: config.fixed_cidr,
        gateway: Some(config.default_gateway.unwrap_or(net.addr())),
        auxiliary: BTreeMap::new(),
    }];
    network.options = BTreeMap::from(
        [
            (options::DEFAULT_BRIDGE, "true".to_owned()),
            (options::ENABLE_ICC, config.inter_container.to_string()),
            (options::ENABLE_MASQUERADE, config.masquerade.to_string()),
            (options::HOST_BINDING, config.default_bind_ip.to_string()),
            (options::BRIDGE_NAME, device.to_owned()),
            (options::MTU, config.mtu.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(network)
}

/// A subnet from the pools that neither the host (`host`) nor another network uses.
pub(crate) fn free_subnet(networks: &[Network], host: &[Ipv4Net], config: &Config) -> Result<Ipv4Net> {
    let mut taken = host.to_vec();
    taken.extend(networks.iter().flat_map(|network| &network.ipam).map(|ipam| ipam.subnet));
    match &config.default_address_pools[..] {
        [] => ipam::choose_subnet(&ipam::default_pools(), &taken),
        pools => ipam::choose_subnet(pools, &taken),
    }
}

/// The subnets that the host reaches without these networks.
pub(crate) fn host_subnets(networks: &[Network]) -> Result<Vec<Ipv4Net>> {
    let devices: Vec<String> = networks.iter().map(|network| network.device.clone()).collect();
    links::host_subnets(&devices).map_err(Error::kernel("list the host's routes"))
}

/// The subnet's first host, with the prefix: `172.17.0.1/16`.
pub(crate) fn with_first_host(subnet: Ipv4Net) -> Ipv4Net {
    let host = subnet.hosts().next().unwrap_or(subnet.addr());
    Ipv4Net::new(host, subnet.prefix_len()).unwrap_or(subnet)
}

pub(crate) fn is_default(network: &Network) -> bool {
    network.options.get(options::DEFAULT_BRIDGE).is_some_and(|value| value == "true")
}

fn fresh(name: &str, driver: Driver) -> Network {
    Network {
        id: NetworkId::generate(),
        name: name.to_owned(),
        created: SystemTime::now(),
        driver,
        internal: false,
        attachable: false,
        enable_ipv4: true,
        enable_ipv6: false,
        ipam_driver: "default".to_owned(),
        ipam_options: None,
        ipam: Vec::new(),
        subnet_given: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        device: String::new(),
        device_given: false,
    }
}
