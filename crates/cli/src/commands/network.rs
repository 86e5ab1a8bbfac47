//! `corten network create`, `ls` and `rm`

use std::collections::BTreeMap;

use corten_api_types::{ConfigReference, Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkCreateResponse};

use crate::args::report;
use crate::command::{Arguments, Command, switch, value};
use crate::commands::volume::string_map;
use crate::commands::{LIST_FORMAT, print_line, segment};
use crate::container::{ip_address, label};
use crate::failure::{Failure, Outcome};
use crate::filters;
use crate::format::{self, List, Row, join_labels, natural_order, short_id};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static CREATE: Command = Command {
    spellings: &["network create"],
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    flags: &[&[
        switch("attachable", "Let containers attach by hand"),
        value("aux-address", "map", "Addresses that the driver keeps for itself").default("map[]"),
        value("config-from", "string", "Network to take the configuration from"),
        switch("config-only", "Create only a configuration"),
        value("driver", "string", "Driver of the network").short('d').default("\"bridge\""),
        value("gateway", "ipSlice", "Gateway of the subnet").check(ip_address),
        switch("ingress", "Create swarm's routing mesh"),
        switch("internal", "Cut the network off from the outside"),
        value("ip-range", "strings", "Give containers addresses from this range"),
        value("ipam-driver", "string", "Driver that manages addresses").default("\"default\""),
        value("ipam-opt", "map", "Option for the address driver").default("map[]"),
        switch("ipv4", "Give containers IPv4 addresses").default("true"),
        switch("ipv6", "Give containers IPv6 addresses"),
        value("label", "list", "Set a label").check(label),
        value("opt", "map", "Option for the driver").short('o').default("map[]"),
        value("scope", "string", "Scope of the network"),
        value("subnet", "strings", "Subnet of the network, as CIDR"),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run: create,
};

pub(crate) static LS: Command = Command {
    spellings: &["network ls", "network list"],
    usage: "[OPTIONS]",
    about: "List networks",
    flags: &[&[
        value("filter", "filter", "Show only networks that match (e.g. \"driver=bridge\")")
            .short('f')
            .check(filters::filter),
        value("format", "string", LIST_FORMAT),
        switch("no-trunc", "Show everything in full length"),
        switch("quiet", "Show only network IDs").short('q'),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run: ls,
};

pub(crate) static RM: Command = Command {
    spellings: &["network rm", "network remove"],
    usage: "NETWORK [NETWORK...]",
    about: "Remove networks",
    flags: &[&[switch("force", "Don't mind networks that don't exist").short('f')]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: rm,
};

fn create(session: &Session, matches: &Matches) -> Outcome {
    let ipam = Ipam {
        driver: matches.get("ipam-driver").unwrap_or("default").to_owned(),
        options: Some(string_map(matches.all("ipam-opt")).unwrap_or_default()),
        config: Some(subnets(matches).map_err(Failure::message)?),
    };
    let given = |name: &str| matches.is_set(name).then(|| matches.is_on(name));
    let request = NetworkCreateRequest {
        name: matches.arguments[0].clone(),
        driver: matches.get("driver").unwrap_or("bridge").to_owned(),
        scope: matches.text("scope").to_owned(),
        enable_ipv4: given("ipv4"),
        enable_ipv6: given("ipv6"),
        ipam: Some(ipam),
        internal: matches.is_on("internal"),
        attachable: matches.is_on("attachable"),
        ingress: matches.is_on("ingress"),
        config_only: matches.is_on("config-only"),
        config_from: matches.get("config-from").map(|network| ConfigReference { network: network.to_owned() }),
        options: Some(string_map(matches.all("opt")).unwrap_or_default()),
        labels: Some(string_map(matches.all("label")).unwrap_or_default()),
    };
    let answer: NetworkCreateResponse = session.client()?.post("/networks/create").json(&request).send()?.json()?;
    if !answer.warning.is_empty() {
        report(&format!("WARNING: {}", answer.warning));
    }
    print_line(answer.id)
}

/// Ranges, gateways and reserved addresses belong to the subnet that contains them.
fn subnets(matches: &Matches) -> Result<Vec<IpamConfig>, String> {
    let list = |name: &str| -> Vec<String> {
        matches.all(name).flat_map(|text| text.split(',').map(|part| part.trim().to_owned())).collect()
    };
    let subnets = list("subnet");
    let [ranges, gateways] = [list("ip-range"), list("gateway")];
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut configs = Vec::new();
    for subnet in &subnets {
        let net = Cidr::parse(subnet).ok_or_else(|| format!("invalid CIDR address: {subnet}"))?;
        configs.push((net, IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() }));
    }
    for range in &ranges {
        let net = Cidr::parse(range).ok_or_else(|| format!("invalid CIDR address: {range}"))?;
        let owner = configs.iter_mut().find(|(subnet, _)| subnet.contains(net.address));
        let (_, config) = owner.ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !config.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            ));
        }
        config.ip_range.clone_from(range);
    }
    for gateway in &gateways {
        let owner =
            configs.iter_mut().find(|(subnet, _)| gateway.parse().is_ok_and(|address| subnet.contains(address)));
        let (_, config) = owner.ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
        if !config.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            ));
        }
        config.gateway.clone_from(gateway);
    }
    for (name, address) in string_map(matches.all("aux-address")).unwrap_or_default() {
        let owner =
            configs.iter_mut().find(|(subnet, _)| address.parse().is_ok_and(|address| subnet.contains(address)));
        let (_, config) = owner.ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
        config.auxiliary_addresses.get_or_insert_with(BTreeMap::new).insert(name, address);
    }
    Ok(configs.into_iter().map(|(_, config)| config).collect())
}

/// An address block, just enough to see what lies within.
struct Cidr {
    address: std::net::IpAddr,
    prefix: u32,
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (std::net::IpAddr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Cidr { address, prefix })
    }

    fn contains(&self, other: std::net::IpAddr) -> bool {
        let bits = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            std::net::IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((own, size), (theirs, other_size)) = (bits(self.address), bits(other));
        size == other_size && (self.prefix == 0 || (own ^ theirs) >> (size - self.prefix) == 0)
    }
}

fn ls(session: &Session, matches: &Matches) -> Outcome {
    let mut networks: Vec<Network> = session
        .client()?
        .get("/networks")
        .query_if("filters", filters::to_query(matches, &[]).as_deref())
        .send()?
        .json()?;
    networks.sort_by(|left, right| natural_order(&left.name, &right.name));
    let rows: Vec<Row> = networks.iter().map(|network| row(network, !matches.is_on("no-trunc"))).collect();
    let columns = vec!["ID", "Name", "Driver", "Scope"];
    let list = List { headers: HEADERS, columns, quiet_field: "ID", type_name: "networkContext" };
    let configured = if matches.is_on("quiet") { None } else { session.config().networks_format.as_deref() };
    format::print(&list, &rows, matches, configured)
}

static HEADERS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

fn row(network: &Network, truncate: bool) -> Row {
    Row {
        fields: vec![
            ("ID", short_id(&network.id, truncate)),
            ("Name", network.name.clone()),
            ("Driver", network.driver.clone()),
            ("Scope", network.scope.clone()),
            ("IPv4", network.enable_ipv4.to_string()),
            ("IPv6", network.enable_ipv6.to_string()),
            ("Internal", network.internal.to_string()),
            ("Labels", join_labels(&network.labels)),
            ("CreatedAt", created_at(&network.created)),
        ],
        labels: network.labels.clone(),
    }
}

/// `2025-01-01 00:00:00.123 +0000 UTC`, as Go prints a time.
fn created_at(text: &str) -> String {
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return text.to_owned() };
    let fraction = format!("{:09}", time.subsec_nanosecond());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction} +0000 UTC", time.strftime("%Y-%m-%d %H:%M:%S"))
}

fn rm(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    let mut failed = false;
    for name in &matches.arguments {
        match client.delete(&format!("/networks/{}", segment(name))).send().and_then(|response| response.discard()) {
            Ok(()) => print_line(name)?,
            Err(error) if matches.is_on("force") && error.is_not_found() => {}
            Err(error) => {
                report(&error.to_string());
                failed = true;
            }
        }
    }
    if !failed {
        return Ok(());
    }
    // Docker's client ends with this line of its own; scripts may read it.
    report("exit status 1");
    Err(Failure::Status(1))
}
