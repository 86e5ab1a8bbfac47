//! Giving a sandbox its endpoints, and taking them away.

use crate::firewall::PortRule;
use crate::model::{
    Attachment, BoundPort, Driver, Endpoint, EndpointRequest, MacAddress, Network, PortMapping, Sandbox,
};
use crate::networks::{Networks, SandboxState, State, port_rules};
use crate::open::is_default;
use crate::ports::{self, Reservation};
use crate::{Config, Error, Protocol, Result, links, options};
use corten_base::{EndpointId, NetworkId, SandboxId};
use corten_sys::netlink::conntrack;
use std::net::Ipv4Addr;

impl Networks {
    /// Gives a sandbox its links, addresses, routes and published ports. On failure nothing of it remains.
    ///
    /// Several networks give `eth0`, `eth1`, ... in the order of the requests; the first that isn't internal has the default
    /// route and the published ports. May be called again for further networks of the same sandbox.
    ///
    /// # Errors
    /// Among others [`Error::NotFound`], [`Error::NoAddress`], [`Error::AddressInUse`], and [`Error::Publish`] for ports.
    pub fn attach(
        &self,
        sandbox: Sandbox<'_>,
        requests: &[EndpointRequest],
        ports: &[PortMapping],
    ) -> Result<Attachment> {
        let endpoints = match self.decide(sandbox, requests, ports) {
            // Addresses of links that are just being deleted come back in a moment.
            Err(Error::NoAddress { .. }) => {
                self.settle();
                self.decide(sandbox, requests, ports)?
            }
            decided => decided?,
        };
        if let Err(error) = self.make(sandbox, &endpoints) {
            self.undo(sandbox.id, &endpoints);
            return Err(error);
        }
        let ports = endpoints.iter().flat_map(|endpoint| endpoint.ports.clone()).collect();
        Ok(Attachment { endpoints, ports })
    }

    /// Takes everything of a sandbox away; harmless when there is nothing. Its links vanish a little later, in batches, and its
    /// addresses are free only then.
    ///
    /// # Errors
    /// [`Error::Metadata`], [`Error::Kernel`]; everything that can be taken away is gone even so.
    pub fn detach(&self, sandbox: &SandboxId) -> Result<()> {
        let Some(SandboxState { endpoints, held }) = self.state().forget(sandbox) else { return Ok(()) };
        let recorded = self.shared.records.delete_endpoints(sandbox);
        let rules: Vec<_> = endpoints.iter().flat_map(port_rules).collect();
        let unpublished = self.unpublish(&rules);
        // The host's ports are free for others only when no rule catches their packets any more.
        drop(held);
        self.reap(endpoints);
        recorded.and(unpublished)
    }

    /// Everything that needs no kernel but the host ports: under one lock, all or nothing.
    fn decide(
        &self,
        sandbox: Sandbox<'_>,
        requests: &[EndpointRequest],
        ports: &[PortMapping],
    ) -> Result<Vec<Endpoint>> {
        let mut state = self.state();
        let mut draft = Draft { endpoints: Vec::new(), held: Vec::new() };
        match draft.fill(&mut state, &self.shared.config, sandbox, requests, ports) {
            Ok(()) => {
                let entry = state.sandboxes.entry(sandbox.id.clone()).or_default();
                entry.endpoints.extend(draft.endpoints.iter().cloned());
                entry.held.extend(draft.held);
                Ok(draft.endpoints)
            }
            Err(error) => {
                for held in &draft.held {
                    state.ports.remove(held);
                }
                for endpoint in &draft.endpoints {
                    state.release(&endpoint.network_id, endpoint.ip);
                }
                Err(error)
            }
        }
    }

    /// Record, links, rules.
    fn make(&self, sandbox: Sandbox<'_>, endpoints: &[Endpoint]) -> Result<()> {
        self.shared.records.put_endpoints(endpoints)?;
        for endpoint in endpoints {
            let (device, mtu) = self.device(&endpoint.network_id)?;
            let with_route = endpoint.gateway.is_some() && self.is_first_route(endpoint);
            links::connect(&self.shared.workers, endpoint, &device, mtu, sandbox.netns, with_route)?;
        }
        for endpoint in endpoints {
            let rules: Vec<_> = port_rules(endpoint).collect();
            self.publish(&rules).map_err(|source| publish_error(endpoint, source))?;
            forget_earlier(&rules);
        }
        Ok(())
    }

    /// Whether no earlier endpoint of the sandbox has the default route.
    fn is_first_route(&self, endpoint: &Endpoint) -> bool {
        let state = self.state();
        let all = state.sandboxes.get(&endpoint.sandbox).map(|sandbox| &sandbox.endpoints[..]).unwrap_or_default();
        all.iter().find(|other| other.gateway.is_some()).is_none_or(|first| first.id == endpoint.id)
    }

    fn device(&self, network: &NetworkId) -> Result<(String, u32)> {
        let state = self.state();
        let network = state.networks.get(network).ok_or_else(|| Error::NotFound(network.to_string()))?;
        Ok((network.network.device.clone(), mtu(&network.network, &self.shared.config)))
    }

    /// After a failed attach. Errors here are only logged: the first one is the caller's.
    fn undo(&self, sandbox: &SandboxId, endpoints: &[Endpoint]) {
        let (held, rest) = {
            let mut state = self.state();
            let Some(entry) = state.sandboxes.get_mut(sandbox) else { return };
            entry.endpoints.retain(|endpoint| !endpoints.iter().any(|failed| failed.id == endpoint.id));
            let mine = |port: &Reservation| {
                endpoints.iter().flat_map(|endpoint| &endpoint.ports).any(|bound| {
                    (bound.host_ip, bound.host_port, bound.protocol) == (port.host_ip, port.host_port, port.protocol)
                })
            };
            let held: Vec<_> = entry.held.extract_if(.., |port| mine(port)).collect();
            let rest = entry.endpoints.clone();
            if rest.is_empty() {
                state.sandboxes.remove(sandbox);
            }
            for port in &held {
                state.ports.remove(port);
            }
            (held, rest)
        };
        let records = &self.shared.records;
        if let Err(error) = records.delete_endpoints(sandbox).and_then(|()| records.put_endpoints(&rest)) {
            tracing::warn!(%error, "a record of a failed attach stays until the next start");
        }
        let rules: Vec<_> = endpoints.iter().flat_map(port_rules).collect();
        if let Err(error) = self.unpublish(&rules) {
            tracing::warn!(%error, "a rule of a failed attach stays until the next change");
        }
        drop(held);
        self.reap(endpoints.to_vec());
    }

    pub(crate) fn reap(&self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            let gone = self.releaser(endpoint.network_id, endpoint.ip);
            self.shared.reaper.delete(endpoint.host_interface, gone);
        }
    }
}

/// The endpoints of an attach while they are decided on.
struct Draft {
    endpoints: Vec<Endpoint>,
    held: Vec<Reservation>,
}

impl Draft {
    fn fill(
        &mut self,
        state: &mut State,
        config: &Config,
        sandbox: Sandbox<'_>,
        requests: &[EndpointRequest],
        ports: &[PortMapping],
    ) -> Result<()> {
        let before = state.sandboxes.get(sandbox.id).map_or(0, |sandbox| sandbox.endpoints.len());
        for (index, request) in requests.iter().enumerate() {
            let endpoint = self.endpoint(state, sandbox, request, before + index)?;
            self.endpoints.push(endpoint);
        }
        let Some(index) = self.endpoints.iter().position(|endpoint| endpoint.gateway.is_some()) else { return Ok(()) };
        for mapping in ports {
            let held = self
                .reserve(state, config, mapping, index)
                .map_err(|source| publish_error(&self.endpoints[index], source))?;
            self.endpoints[index].ports.push(BoundPort {
                container_port: mapping.container_port,
                protocol: held.protocol,
                host_ip: held.host_ip,
                host_port: held.host_port,
            });
            state.ports.add(&held);
            self.held.push(held);
        }
        Ok(())
    }

    fn endpoint(
        &self,
        state: &mut State,
        sandbox: Sandbox<'_>,
        request: &EndpointRequest,
        number: usize,
    ) -> Result<Endpoint> {
        let network = state.find(&request.network)?.clone();
        let present = state.sandboxes.get(sandbox.id).map(|sandbox| &sandbox.endpoints[..]).unwrap_or_default();
        if present.iter().chain(&self.endpoints).any(|endpoint| endpoint.network_id == network.id) {
            return Err(Error::AlreadyAttached { name: sandbox.name.to_owned(), network: network.name });
        }
        let ip = take_address(state, &network, request.ipv4)?;
        let id = EndpointId::generate();
        let ipam = &network.ipam[0];
        Ok(Endpoint {
            sandbox: sandbox.id.clone(),
            network_id: network.id.clone(),
            name: sandbox.name.to_owned(),
            aliases: request.aliases.clone(),
            interface: format!("eth{number}"),
            host_interface: links::host_name(id.as_str()),
            ip,
            prefix_len: ipam.subnet.prefix_len(),
            gateway: ipam.gateway.filter(|_| !network.internal),
            mac: request.mac.unwrap_or_else(|| MacAddress::from_ipv4(ip)),
            ports: Vec::new(),
            network_name: network.name,
            id,
        })
    }

    fn reserve(&self, state: &mut State, config: &Config, mapping: &PortMapping, index: usize) -> Result<Reservation> {
        let endpoint = &self.endpoints[index];
        let default_ip = state
            .networks
            .get(&endpoint.network_id)
            .and_then(|state| state.network.options.get(options::HOST_BINDING)?.parse().ok())
            .unwrap_or(config.default_bind_ip);
        let mut last = state.last_port;
        let reserved = ports::reserve(mapping, default_ip, endpoint.ip, &mut last, &state.ports);
        state.last_port = last;
        reserved
    }
}

fn take_address(state: &mut State, network: &Network, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
    let pool = state.networks.get_mut(&network.id).and_then(|state| state.pool.as_mut());
    let (Some(pool), Driver::Bridge, Some(config)) = (pool, network.driver, network.ipam.first()) else {
        return Err(Error::Invalid(format!("nothing can be attached to the network {}", network.name)));
    };
    let Some(ip) = wanted else {
        return pool.take().ok_or_else(|| Error::NoAddress { name: network.name.clone(), subnet: config.subnet });
    };
    let refuse = |reason: &str| Err(Error::FixedAddress { network: network.name.clone(), reason: reason.to_owned() });
    if is_default(network) {
        refuse("user specified IP address is supported on user defined networks only")
    } else if !network.subnet_given {
        refuse("user specified IP address is supported only when connecting to networks with user configured subnets")
    } else if !pool.contains(ip) {
        refuse(&format!("no configured subnet or ip-range contains the IP address {ip}"))
    } else if pool.take_fixed(ip) {
        Ok(ip)
    } else {
        Err(Error::AddressInUse(ip))
    }
}

/// Senders of UDP packets to a port that has just been published are to reach the container, even if they sent before.
fn forget_earlier(rules: &[PortRule]) {
    let udp = rules.iter().filter(|rule| rule.protocol == Protocol::Udp);
    let ports: Vec<_> = udp.map(|rule| (rule.host_ip, rule.host_port)).collect();
    if let Err(error) = conntrack::forget_udp(&ports) {
        tracing::warn!(%error, "earlier senders may not reach the container");
    }
}

/// The largest packet of a network: its option, or the daemon's setting for `bridge`.
pub(crate) fn mtu(network: &Network, config: &Config) -> u32 {
    network.options.get(options::MTU).and_then(|mtu| mtu.parse().ok()).unwrap_or(config.mtu)
}

fn publish_error(endpoint: &Endpoint, source: Error) -> Error {
    Error::Publish { name: endpoint.name.clone(), id: endpoint.id.clone(), source: Box::new(source) }
}
