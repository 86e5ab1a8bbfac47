//! `--network` with its long form, and the flags that speak of the first network.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::csv;
use crate::matches::Matches;

/// One `--network`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    driver_options: Vec<(String, String)>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    links: Vec<String>,
    mac_address: String,
    priority: i64,
}

/// `NetworkMode` and `EndpointsConfig` of the request.
pub(super) struct Networks {
    pub mode: String,
    pub endpoints: Map<String, Value>,
}

/// Checks a `--network` value.
pub(super) fn network(text: &str) -> Result<(), String> {
    parse_one(text).map(drop)
}

fn parse_one(text: &str) -> Result<Attachment, String> {
    let is_long = text.split(',').any(|field| field.contains('='));
    if !is_long {
        return Ok(Attachment { target: text.to_owned(), ..Attachment::default() });
    }
    let mut attachment = Attachment::default();
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => attachment.target = value.to_owned(),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => attachment.ipv4 = value.to_owned(),
            "ip6" => attachment.ipv6 = value.to_owned(),
            "mac-address" => attachment.mac_address = value.to_owned(),
            "link-local-ip" => attachment.link_local.push(value.to_owned()),
            "driver-opt" => {
                let (key, value) = value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                attachment.driver_options.push((key.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase()));
            }
            "gw-priority" => {
                attachment.priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

impl Networks {
    /// Reads all network flags of `run` and `create`.
    pub fn parse(matches: &Matches) -> Result<Networks, String> {
        let mut attachments = Vec::new();
        for text in matches.all("network") {
            attachments.push(parse_one(text)?);
        }
        if attachments.is_empty() {
            attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
        }
        let mode = attachments[0].target.clone();
        add_short_flags(&mut attachments[0], matches)?;
        let is_single = attachments.len() == 1;
        let mut endpoints = Map::new();
        for attachment in attachments {
            if !is_user_defined(&attachment.target) && !is_single {
                return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                    .to_owned());
            }
            if endpoints.contains_key(&attachment.target) {
                return Err(format!("network \"{}\" is specified multiple times", attachment.target));
            }
            // The modes alone say everything; `default` stands for whichever network the daemon prefers.
            if !is_user_defined(&attachment.target) && attachment.target != "default" {
                continue;
            }
            endpoints.insert(attachment.target.clone(), attachment.to_json());
        }
        Ok(Networks { mode, endpoints })
    }
}

/// `--ip`, `--network-alias` and others belong to the first network; saying both is a contradiction.
fn add_short_flags(first: &mut Attachment, matches: &Matches) -> Result<(), String> {
    let conflict = |flag: &str, what: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    let has = |flag: &str| matches.is_set(flag);
    if has("network-alias") {
        if !first.aliases.is_empty() {
            return conflict("network-alias", "alias");
        }
        first.aliases = matches.list("network-alias");
    }
    if has("link") && is_user_defined(&first.target) {
        first.links = matches.list("link");
    }
    if has("ip") {
        if !first.ipv4.is_empty() {
            return conflict("ip", "IPv4 address");
        }
        first.ipv4 = matches.text("ip").to_owned();
    }
    if has("ip6") {
        if !first.ipv6.is_empty() {
            return conflict("ip6", "IPv6 address");
        }
        first.ipv6 = matches.text("ip6").to_owned();
    }
    if has("mac-address") {
        if !first.mac_address.is_empty() {
            return conflict("mac-address", "MAC address");
        }
        first.mac_address = matches.text("mac-address").trim().to_owned();
        check_mac(&first.mac_address)?;
    }
    if has("link-local-ip") {
        if !first.link_local.is_empty() {
            return conflict("link-local-ip", "link-local IP addresses");
        }
        first.link_local = matches.list("link-local-ip");
    }
    if !is_user_defined(&first.target) && !first.aliases.is_empty() {
        return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    Ok(())
}

fn check_mac(text: &str) -> Result<(), String> {
    let octets: Vec<&str> = text.split([':', '-']).collect();
    let valid = matches!(octets.len(), 6 | 8 | 20)
        && octets.iter().all(|octet| octet.len() == 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if valid { Ok(()) } else { Err(format!("{text} is not a valid mac address")) }
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

impl Attachment {
    fn to_json(&self) -> Value {
        let mut ipam = Map::new();
        if !self.ipv4.is_empty() {
            ipam.insert("IPv4Address".to_owned(), self.ipv4.clone().into());
        }
        if !self.ipv6.is_empty() {
            ipam.insert("IPv6Address".to_owned(), self.ipv6.clone().into());
        }
        let local: Vec<&String> = self.link_local.iter().filter(|text| text.parse::<IpAddr>().is_ok()).collect();
        if !local.is_empty() {
            ipam.insert("LinkLocalIPs".to_owned(), json!(local));
        }
        let or_null = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
        let options: Map<String, Value> =
            self.driver_options.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        json!({
            "IPAMConfig": if ipam.is_empty() { Value::Null } else { Value::Object(ipam) },
            "Links": or_null(&self.links),
            "Aliases": or_null(&self.aliases),
            "MacAddress": self.mac_address,
            "DriverOpts": if options.is_empty() { Value::Null } else { Value::Object(options) },
            "GwPriority": self.priority,
            "NetworkID": "",
            "EndpointID": "",
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": null,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form() {
        let parsed = parse_one("name=foo,alias=al,ip=1.2.3.5,driver-opt=A=b,gw-priority=4").expect("valid");
        assert_eq!(parsed.target, "foo");
        assert_eq!(parsed.aliases, ["al"]);
        assert_eq!(parsed.driver_options, [("a".to_owned(), "b".to_owned())]);
        assert_eq!((parsed.ipv4.as_str(), parsed.priority), ("1.2.3.5", 4));
        assert_eq!(network("name=x,foo=y"), Err("invalid field key foo".to_owned()));
        assert_eq!(network("alias=x"), Err("network name/id is not specified".to_owned()));
        assert_eq!(network("container:x"), Ok(()));
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(check_mac("92:d0:c6:0a:29:33"), Ok(()));
        assert_eq!(check_mac("zz"), Err("zz is not a valid mac address".to_owned()));
    }
}
