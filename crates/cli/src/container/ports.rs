//! `-p` and `--expose`: `[[ip:][hostPort]:]containerPort[/proto]` with ranges, as Docker's nat package reads them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

/// The bindings of all `-p` flags, by `port/proto`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub exposed: Vec<String>,
    pub bindings: BTreeMap<String, Vec<(String, String)>>,
}

impl Ports {
    /// Reads all `-p` and `--expose` values.
    pub fn parse<'a>(
        publish: impl Iterator<Item = &'a str>,
        expose: impl Iterator<Item = &'a str>,
    ) -> Result<Ports, String> {
        let mut ports = Ports::default();
        for spec in publish {
            ports.publish(spec)?;
        }
        for spec in expose {
            ports.expose(spec)?;
        }
        ports.exposed.sort();
        ports.exposed.dedup();
        Ok(ports)
    }

    fn publish(&mut self, spec: &str) -> Result<(), String> {
        // `-p published=80,target=80` is the services' syntax; the short one is what nat reads.
        if spec.contains('=') {
            return self.publish_long(spec);
        }
        let (ip, host, container) = split(spec);
        let (container, protocol) = match container.split_once('/') {
            Some((container, "")) => (container, "tcp".to_owned()),
            Some((container, protocol)) => (container, protocol.to_ascii_lowercase()),
            None => (container, "tcp".to_owned()),
        };
        if container.is_empty() {
            return Err(format!("no port specified: {spec}<empty>"));
        }
        self.bind(ip, host, container, &protocol)
    }

    fn publish_long(&mut self, spec: &str) -> Result<(), String> {
        let (mut target, mut published, mut protocol) = ("", "", "tcp");
        for field in spec.split(',') {
            match field.split_once('=') {
                Some(("target", value)) => target = value,
                Some(("published", value)) => published = value,
                Some(("protocol", value)) => protocol = value,
                Some(("mode", _)) => {}
                Some((key, _)) => return Err(format!("invalid field key {key}")),
                None => return Err(format!("invalid field {field}")),
            }
        }
        self.bind("", published, target, protocol)
    }

    fn bind(&mut self, ip: &str, host: &str, container: &str, protocol: &str) -> Result<(), String> {
        let bare = ip.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(ip);
        if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address: {ip}"));
        }
        let (first, last) = parse_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
        let host_range = match host {
            "" => None,
            host => Some(parse_range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
        };
        if !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(format!("invalid proto: {protocol}"));
        }
        // One container port may take any of several host ports; otherwise both ranges must be of one length.
        let count = last - first;
        let spread = match host_range {
            Some((low, high)) if high - low != count && count != 0 => {
                return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
            }
            Some((low, high)) if count == 0 && high > low => Some(format!("{low}-{high}")),
            _ => None,
        };
        for offset in 0..=count {
            let key = format!("{}/{protocol}", first + offset);
            let host_port = match (&spread, host_range) {
                (Some(range), _) => range.clone(),
                (None, Some((low, _))) => (low + offset).to_string(),
                (None, None) => String::new(),
            };
            self.exposed.push(key.clone());
            self.bindings.entry(key).or_default().push((bare.to_owned(), host_port));
        }
        Ok(())
    }

    fn expose(&mut self, spec: &str) -> Result<(), String> {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (range, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
        let (first, last) = parse_range(range)
            .map_err(|error| format!("invalid range format for --expose: {range}, error: {error}"))?;
        self.exposed.extend((first..=last).map(|port| format!("{port}/{}", protocol.to_ascii_lowercase())));
        Ok(())
    }

    /// `ExposedPorts` of the request, or nothing.
    pub fn exposed_json(&self) -> Option<Value> {
        let map: serde_json::Map<String, Value> = self.exposed.iter().map(|port| (port.clone(), json!({}))).collect();
        (!map.is_empty()).then_some(Value::Object(map))
    }

    /// `PortBindings` of the request.
    pub fn bindings_json(&self) -> Value {
        let entry = |(ip, port): &(String, String)| json!({ "HostIp": ip, "HostPort": port });
        self.bindings
            .iter()
            .map(|(port, bindings)| (port.clone(), bindings.iter().map(entry).collect()))
            .collect::<serde_json::Map<String, Value>>()
            .into()
    }
}

/// `ip:host:container` from the right, because an IPv6 address has colons of its own.
fn split(spec: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = spec.rsplit_once(':') else { return ("", "", spec) };
    match rest.rsplit_once(':') {
        Some((ip, host)) => (ip, host, container),
        None => ("", rest, container),
    }
}

/// `80` or `80-90`.
fn parse_range(text: &str) -> Result<(u32, u32), String> {
    let number = |part: &str| {
        super::checks::parse_unsigned(part).and_then(|number| match u16::try_from(number) {
            Ok(port) => Ok(u32::from(port)),
            Err(_) => Err(format!("strconv.ParseUint: parsing {}: value out of range", crate::matches::quote(part))),
        })
    };
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expect: &str) {
        let shown = match Ports::parse([spec].into_iter(), [].into_iter()) {
            Ok(ports) => {
                let all: Vec<String> = ports
                    .bindings
                    .iter()
                    .flat_map(|(port, all)| all.iter().map(move |(ip, host)| format!("{ip}|{host}>{port}")))
                    .collect();
                all.join(" ")
            }
            Err(error) => error,
        };
        assert_eq!(shown, expect, "{spec}");
    }

    #[test]
    fn publish() {
        check("80", "|>80/tcp");
        check("8080:80", "|8080>80/tcp");
        check("127.0.0.1:90-91:90-91/udp", "127.0.0.1|90>90/udp 127.0.0.1|91>91/udp");
        check("127.0.0.1::80", "127.0.0.1|>80/tcp");
        check("[::1]:1:2", "::1|1>2/tcp");
        check("80-81:100", "|80-81>100/tcp");
        check("published=8080,target=80,protocol=udp", "|8080>80/udp");
        check("80-82:100-101", "invalid ranges specified for container and host Ports: 100-101 and 80-82");
        check("80:", "no port specified: 80:<empty>");
        check("x", "invalid containerPort: x");
        check("1.2.3:80:80", "invalid IP address: 1.2.3");
        check("80:80/foo", "invalid proto: foo");
        check(":::80", "invalid IP address: :");
        check("70000", "invalid containerPort: 70000");
        check("x:80", "invalid hostPort: x");
    }

    #[test]
    fn expose() {
        let expose = |spec: &str| Ports::parse([].into_iter(), [spec].into_iter()).map(|ports| ports.exposed.join(" "));
        assert_eq!(expose("80-82/udp"), Ok("80/udp 81/udp 82/udp".to_owned()));
        assert_eq!(
            expose("x"),
            Err("invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
                .to_owned())
        );
        assert_eq!(
            expose("80-70"),
            Err("invalid range format for --expose: 80-70, error: invalid range specified for port: 80-70".to_owned())
        );
    }
}
