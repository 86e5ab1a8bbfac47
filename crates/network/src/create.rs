//! Creating and removing user-defined networks.

use crate::ipam::{self, Pool};
use crate::model::{CreateNetwork, Driver, IpamConfig, IpamRequest, Network};
use crate::networks::{NetworkState, Networks, State, create_bool};
use crate::open::{free_subnet, host_subnets, with_first_host};
use crate::{Error, Result, links, options};
use corten_base::NetworkId;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::time::SystemTime;

impl Networks {
    /// Creates a bridge network.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Predefined`], [`Error::Invalid`], [`Error::PoolOverlaps`], [`Error::PoolsExhausted`],
    /// [`Error::NotImplemented`] for other drivers.
    pub fn create(&self, request: CreateNetwork) -> Result<Network> {
        check_request(&request)?;
        let given = read_ipam(&request.ipam)?;
        let device_given = match request.options.get(options::BRIDGE_NAME) {
            Some(device) => links::bridge_exists(device)?,
            None => false,
        };
        let host = host_subnets(&self.list())?;
        let network = {
            let mut state = self.state();
            let network = Network { device_given, ..self.draft(&state, request, given, &host)? };
            let pool = network.ipam.first().map(Pool::new);
            state.networks.insert(network.id.clone(), NetworkState { network: network.clone(), pool });
            network
        };
        if let Err(error) = self.make_network(&network) {
            self.state().networks.remove(&network.id);
            if let Err(error) = self.unmake_network(&network) {
                tracing::warn!(%error, "something of a failed network creation stays");
            }
            return Err(error);
        }
        Ok(network)
    }

    /// Removes a network without endpoints; answers what it was.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RemovePredefined`], [`Error::InUse`].
    pub fn remove(&self, term: &str) -> Result<Network> {
        let network = {
            let mut state = self.state();
            let network = state.find(term)?.clone();
            if is_predefined(&network.name) {
                return Err(Error::RemovePredefined(network.name));
            }
            check_unused(&state, &network)?;
            state.networks.remove(&network.id);
            network
        };
        match self.unmake_network(&network) {
            Ok(()) => Ok(network),
            Err(error) => {
                // It is still recorded, so it is still there.
                let pool = network.ipam.first().map(Pool::new);
                self.state().networks.insert(network.id.clone(), NetworkState { network, pool });
                Err(error)
            }
        }
    }

    /// Removes all user-defined networks without endpoints for which `wanted` holds; answers them.
    ///
    /// # Errors
    /// The first failure other than a network having come into use.
    pub fn prune(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<Network>> {
        let mut removed = Vec::new();
        for network in self.list() {
            if is_predefined(&network.name) || !self.endpoints(&network.id).is_empty() || !wanted(&network) {
                continue;
            }
            match self.remove(network.id.as_str()) {
                Ok(network) => removed.push(network),
                Err(Error::InUse { .. } | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// The network as it will be. `host` are the subnets that the host uses.
    fn draft(
        &self,
        state: &State,
        request: CreateNetwork,
        given: Option<IpamConfig>,
        host: &[Ipv4Net],
    ) -> Result<Network> {
        if state.networks.values().any(|other| other.network.name == request.name) {
            return Err(Error::Exists(request.name));
        }
        let others: Vec<Network> = state.networks.values().map(|state| state.network.clone()).collect();
        let subnet_given = given.is_some();
        let ipam = match given {
            Some(given) => {
                let mut taken = others.iter().flat_map(|other| &other.ipam);
                if taken.any(|other| ipam::overlaps(other.subnet, given.subnet)) {
                    return Err(Error::PoolOverlaps);
                }
                given
            }
            None => {
                let net = with_first_host(free_subnet(&others, host, &self.shared.config)?);
                let (subnet, gateway) = (net.trunc(), Some(net.addr()));
                IpamConfig { subnet, ip_range: None, gateway, auxiliary: Default::default() }
            }
        };
        let id = NetworkId::generate();
        let device = request.options.get(options::BRIDGE_NAME).cloned().unwrap_or_else(|| format!("br-{}", id.short()));
        if others.iter().any(|other| other.device == device) {
            return Err(Error::Invalid(format!("bridge device {device} is used by another network")));
        }
        Ok(Network {
            id,
            name: request.name,
            created: SystemTime::now(),
            driver: Driver::Bridge,
            internal: request.internal,
            attachable: request.attachable,
            enable_ipv4: true,
            enable_ipv6: request.enable_ipv6,
            ipam_driver: if request.ipam_driver.is_empty() { "default".to_owned() } else { request.ipam_driver },
            ipam_options: request.ipam_options,
            ipam: vec![ipam],
            subnet_given,
            options: request.options,
            labels: request.labels,
            device,
            device_given: false,
        })
    }

    /// Record first: what is recorded is made again at the next start.
    fn make_network(&self, network: &Network) -> Result<()> {
        self.shared.records.put_network(network)?;
        if let Some(config) = network.ipam.first() {
            links::ensure_bridge(network, config, &self.shared.config)?;
        }
        self.rebuild_firewall()
    }

    /// Rules, device, record: whatever is there of a network that is no longer in the state.
    fn unmake_network(&self, network: &Network) -> Result<()> {
        self.rebuild_firewall()?;
        if !network.device_given {
            links::delete_bridge(&network.device)?;
        }
        self.shared.records.delete_network(&network.id)
    }
}

fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

fn check_unused(state: &State, network: &Network) -> Result<()> {
    let on = state.endpoints().filter(|endpoint| endpoint.network_id == network.id);
    let shown: Vec<String> = on.map(|e| format!("name:{:?} id:{:?}", e.name, e.id.short())).collect();
    match shown.is_empty() {
        true => Ok(()),
        false => Err(Error::InUse { name: network.name.clone(), endpoints: shown.join(", ") }),
    }
}

fn check_request(request: &CreateNetwork) -> Result<()> {
    if request.name.trim().is_empty() {
        return Err(Error::Invalid("network name cannot be empty".to_owned()));
    }
    if is_predefined(&request.name) {
        return Err(Error::Predefined(request.name.clone()));
    }
    match request.driver.as_str() {
        "" | "bridge" => {}
        "host" | "null" => {
            return Err(Error::Invalid(format!("only one instance of \"{}\" network is allowed", request.driver)));
        }
        "overlay" | "macvlan" | "ipvlan" => {
            return Err(Error::NotImplemented(format!("network driver {:?}", request.driver)));
        }
        other => return Err(Error::NoDriver(other.to_owned())),
    }
    if request.enable_ipv6 {
        return Err(Error::NotImplemented("IPv6 on networks".to_owned()));
    }
    if let Some(mode) = request.options.get(options::GATEWAY_MODE).filter(|mode| !matches!(mode.as_str(), "" | "nat")) {
        return Err(Error::NotImplemented(format!("gateway mode {mode:?}")));
    }
    if !matches!(request.ipam_driver.as_str(), "" | "default") {
        return Err(Error::NotImplemented(format!("IPAM driver {:?}", request.ipam_driver)));
    }
    for option in [options::ENABLE_ICC, options::ENABLE_MASQUERADE, options::INHIBIT_IPV4] {
        if let Some(value) = request.options.get(option).filter(|value| create_bool(value).is_none()) {
            return Err(Error::Invalid(format!("invalid value for option {option}: {value:?}")));
        }
    }
    if let Some(mtu) = request.options.get(options::MTU).filter(|mtu| !mtu.parse().is_ok_and(|mtu: u32| mtu <= 65535)) {
        return Err(Error::Invalid(format!("invalid value for option {}: {mtu:?}", options::MTU)));
    }
    match request.options.get(options::BRIDGE_NAME) {
        Some(name) if !is_link_name(name) => Err(Error::Invalid(format!("invalid bridge device name {name:?}"))),
        _ => Ok(()),
    }
}

/// What the kernel takes as a link's name, and nothing that could be a path.
fn is_link_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'))
}

/// The user's address settings, checked as Docker does: all complaints at once.
fn read_ipam(requests: &[IpamRequest]) -> Result<Option<IpamConfig>> {
    let mut complaints = Vec::new();
    let mut configs = Vec::new();
    for request in requests {
        // IPv6 subnets are for later.
        if request.subnet.parse::<ipnet::Ipv6Net>().is_ok() {
            continue;
        }
        let Ok(subnet) = request.subnet.parse::<Ipv4Net>() else {
            complaints.push(format!("invalid subnet {}: invalid CIDR block notation", request.subnet));
            continue;
        };
        configs.push(read_config(request, subnet, &mut complaints));
    }
    match &complaints[..] {
        [] if configs.len() > 1 => Err(Error::Invalid("bridge driver doesn't support multiple subnets".to_owned())),
        [] => Ok(configs.pop()),
        [one] => Err(Error::Invalid(format!("invalid network config:\n{one}"))),
        many => Err(Error::Invalid(format!("invalid network config:\n* {}", many.join("\n* ")))),
    }
}

fn read_config(request: &IpamRequest, subnet: Ipv4Net, complaints: &mut Vec<String>) -> IpamConfig {
    if subnet != subnet.trunc() {
        complaints.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    let subnet = subnet.trunc();
    let ip_range = if request.ip_range.is_empty() { None } else { read_range(&request.ip_range, subnet, complaints) };
    let mut address = |what: String, text: &str| match text.parse::<Ipv4Addr>() {
        Ok(address) if subnet.contains(&address) => Some(address),
        Ok(_) => {
            complaints.push(format!("invalid {what}: parent subnet {subnet} doesn't contain this address"));
            None
        }
        Err(_) => {
            complaints.push(format!("invalid {what}: invalid address"));
            None
        }
    };
    let gateway = match request.gateway.as_str() {
        "" => subnet.hosts().next(),
        text => address(format!("gateway {text}"), text),
    };
    let auxiliary = request.auxiliary.iter();
    let auxiliary = auxiliary
        .filter_map(|(name, text)| Some((name.clone(), address(format!("auxiliary address {name}"), text)?)))
        .collect();
    IpamConfig { subnet, ip_range, gateway, auxiliary }
}

fn read_range(text: &str, subnet: Ipv4Net, complaints: &mut Vec<String>) -> Option<Ipv4Net> {
    let Ok(range) = text.parse::<Ipv4Net>() else {
        complaints.push(format!("invalid ip-range {text}: invalid CIDR block notation"));
        return None;
    };
    if range.prefix_len() < subnet.prefix_len() {
        complaints.push(format!("invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        complaints.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !ipam::overlaps(range, subnet) {
        complaints.push(format!("invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"));
    }
    Some(range.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(subnet: &str, ip_range: &str, gateway: &str) -> Result<Option<IpamConfig>> {
        let [subnet, ip_range, gateway] = [subnet, ip_range, gateway].map(str::to_owned);
        read_ipam(&[IpamRequest { subnet, ip_range, gateway, ..IpamRequest::default() }])
    }

    #[test]
    fn good_address_settings() {
        let config = ipam("10.1.0.0/16", "10.1.4.0/24", "").unwrap().unwrap();
        assert_eq!(config.gateway, Some(Ipv4Addr::new(10, 1, 0, 1)));
        assert_eq!(config.ip_range, Some("10.1.4.0/24".parse().unwrap()));
        assert_eq!(ipam("10.1.0.0/16", "", "10.1.0.254").unwrap().unwrap().gateway, Some(Ipv4Addr::new(10, 1, 0, 254)));
        assert_eq!(read_ipam(&[]).unwrap(), None);
    }

    #[test]
    fn bad_address_settings_are_told_in_docker_words() {
        let check = |subnet, range, gateway, expect: &str| {
            assert_eq!(
                ipam(subnet, range, gateway).unwrap_err().to_string(),
                format!("invalid network config:\n{expect}")
            );
        };
        check("x", "", "", "invalid subnet x: invalid CIDR block notation");
        check("10.1.2.3/16", "", "", "invalid subnet 10.1.2.3/16: it should be 10.1.0.0/16");
        let bigger = "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16";
        check("10.1.0.0/16", "10.0.0.0/8", "", bigger);
        let outside = "parent subnet 10.1.0.0/16 doesn't contain this address";
        check("10.1.0.0/16", "", "10.2.0.1", &format!("invalid gateway 10.2.0.1: {outside}"));
        let both = "* invalid ip-range y: invalid CIDR block notation\n* invalid gateway z: invalid address";
        check("10.1.0.0/16", "y", "z", both);
    }

    #[test]
    fn requests_that_cannot_be() {
        let check = |change: fn(&mut CreateNetwork), expect: &str| {
            let mut request = CreateNetwork { name: "net".to_owned(), ..CreateNetwork::default() };
            change(&mut request);
            assert_eq!(check_request(&request).unwrap_err().to_string(), expect);
        };
        check(|r| r.name = "host".to_owned(), "operation is not permitted on predefined host network");
        check(|r| r.name.clear(), "network name cannot be empty");
        check(|r| r.driver = "overlay".to_owned(), "network driver \"overlay\" is not implemented");
        let name = |r: &mut CreateNetwork| {
            r.options.insert(options::BRIDGE_NAME.to_owned(), "../../x".to_owned());
        };
        check(name, "invalid bridge device name \"../../x\"");
    }
}
