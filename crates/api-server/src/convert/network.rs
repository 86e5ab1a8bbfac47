//! Networks.

use crate::error::Failure;
use crate::query::{self, Filters};
use corten_api_types::{EndpointResource, Ipam, IpamConfig, Network, NetworkCreateRequest};
use corten_base::time::rfc3339_nano;
use corten_engine::ContainerView;
use corten_network::{CreateNetwork, IpamRequest};
use std::collections::BTreeMap;

/// One network; `containers` only where its endpoints are asked for.
pub(crate) fn network(network: &corten_network::Network, containers: BTreeMap<String, EndpointResource>) -> Network {
    let config: Vec<IpamConfig> = network.ipam.iter().map(ipam).collect();
    Network {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: rfc3339_nano(network.created),
        scope: "local".to_owned(),
        driver: network.driver.to_string(),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam: Ipam {
            driver: network.ipam_driver.clone(),
            options: network.ipam_options.clone(),
            config: Some(config).filter(|config| !config.is_empty()),
        },
        internal: network.internal,
        attachable: network.attachable,
        containers,
        options: network.options.clone(),
        labels: network.labels.clone(),
        ..Network::default()
    }
}

fn ipam(config: &corten_network::IpamConfig) -> IpamConfig {
    let auxiliary: BTreeMap<_, _> = config.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect();
    IpamConfig {
        subnet: config.subnet.to_string(),
        ip_range: config.ip_range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: config.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: super::null_if_empty(&auxiliary),
    }
}

/// A container's place on a network, by the container's id.
pub(crate) fn endpoint(view: &ContainerView, network: &corten_network::Network) -> Option<(String, EndpointResource)> {
    let endpoint = view.network.endpoints.values().find(|e| e.network_id.as_ref() == Some(&network.id))?;
    let resource = EndpointResource {
        name: view.name.clone(),
        endpoint_id: endpoint.endpoint_id.as_ref()?.to_string(),
        mac_address: endpoint.mac_address.clone(),
        ipv4_address: match endpoint.ip_address.as_str() {
            "" => String::new(),
            address => format!("{address}/{}", endpoint.prefix_length),
        },
        ipv6_address: String::new(),
    };
    Some((view.id.to_string(), resource))
}

/// What `POST /networks/create` asks for.
pub(crate) fn create(request: NetworkCreateRequest) -> Result<CreateNetwork, Failure> {
    if request.ingress {
        return Err(Failure::unsupported("an ingress network"));
    }
    if request.config_only || request.config_from.is_some_and(|from| !from.network.is_empty()) {
        return Err(Failure::unsupported("a configuration-only network"));
    }
    if request.enable_ipv4 == Some(false) {
        return Err(Failure::unsupported("a network without IPv4"));
    }
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(Failure::invalid(format!("network scope {:?} needs a swarm", request.scope)));
    }
    let ipam = request.ipam.unwrap_or_default();
    let subnet = |config: IpamConfig| IpamRequest {
        subnet: config.subnet,
        ip_range: config.ip_range,
        gateway: config.gateway,
        auxiliary: config.auxiliary_addresses.unwrap_or_default(),
    };
    Ok(CreateNetwork {
        name: request.name,
        driver: request.driver,
        internal: request.internal,
        attachable: request.attachable,
        enable_ipv6: request.enable_ipv6.unwrap_or_default(),
        ipam_driver: ipam.driver,
        ipam_options: ipam.options,
        ipam: ipam.config.unwrap_or_default().into_iter().map(subnet).collect(),
        options: request.options.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
    })
}

/// Refuses filters that `GET /networks` doesn't know.
pub(crate) fn check_filters(filters: &Filters) -> Result<(), Failure> {
    query::only(filters, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    query::boolean(filters, "dangling")?;
    match filters.get("type").into_iter().flatten().find(|kind| !matches!(kind.as_str(), "custom" | "builtin")) {
        Some(kind) => Err(Failure::invalid(format!("invalid filter: 'type'='{kind}'"))),
        None => Ok(()),
    }
}

/// Whether a network passes the filters; several values of one name are alternatives, but labels must all be there.
pub(crate) fn passes(filters: &Filters, network: &corten_network::Network, is_idle: bool) -> bool {
    let any = |name: &str, fits: &dyn Fn(&str) -> bool| match filters.get(name) {
        Some(values) => values.is_empty() || values.iter().any(|value| fits(value)),
        None => true,
    };
    let has_label = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(wanted),
    };
    let is_builtin = matches!(network.name.as_str(), "bridge" | "host" | "none");
    let is_dangling = is_idle && !is_builtin;
    any("driver", &|driver| network.driver.to_string() == driver)
        && any("id", &|id| network.id.as_str().starts_with(id))
        && any("name", &|name| network.name.contains(name))
        && any("scope", &|scope| scope == "local")
        && any("type", &|kind| (kind == "builtin") == is_builtin)
        && query::boolean(filters, "dangling").ok().flatten().is_none_or(|wanted| wanted == is_dangling)
        && filters.get("label").into_iter().flatten().all(has_label)
        && !filters.get("label!").into_iter().flatten().any(has_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters() {
        let network = corten_network::Network {
            id: corten_base::NetworkId::from_bytes([0xab; 32]),
            name: "front".to_owned(),
            created: std::time::SystemTime::UNIX_EPOCH,
            driver: corten_network::Driver::Bridge,
            internal: false,
            attachable: false,
            enable_ipv4: true,
            enable_ipv6: false,
            ipam_driver: "default".to_owned(),
            ipam_options: None,
            ipam: Vec::new(),
            options: BTreeMap::new(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            device: String::new(),
            subnet_given: false,
            device_given: false,
        };
        let check = |name: &str, value: &str| {
            let filters = Filters::from([(name.to_owned(), vec![value.to_owned()])]);
            check_filters(&filters).map(|()| passes(&filters, &network, true)).map_err(|failure| failure.message)
        };
        for (name, value) in [
            ("name", "ron"),
            ("id", "abab"),
            ("driver", "bridge"),
            ("type", "custom"),
            ("label", "a"),
            ("label", "a=b"),
            ("dangling", "1"),
            ("scope", "local"),
        ] {
            assert_eq!(check(name, value), Ok(true), "{name}");
        }
        for (name, value) in [("name", "x"), ("id", "b"), ("driver", "host"), ("type", "builtin"), ("label", "a=c")] {
            assert_eq!(check(name, value), Ok(false), "{name}");
        }
        assert_eq!(check("type", "x").unwrap_err(), "invalid filter: 'type'='x'");
        assert_eq!(check("foo", "x").unwrap_err(), "invalid filter 'foo'");
    }

    #[test]
    fn requests() {
        let convert = |request| create(corten_api_types::decode_value(&request).unwrap());
        let wanted = convert(json!({"Name": "n", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "10.1.0.0/16"}]},
            "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": null}))
        .unwrap();
        assert_eq!((wanted.name.as_str(), wanted.ipam[0].subnet.as_str()), ("n", "10.1.0.0/16"));
        assert!(convert(json!({"Name": "n", "Ingress": true})).is_err());
        assert!(convert(json!({"Name": "n", "EnableIPv4": false})).is_err());
    }
}
