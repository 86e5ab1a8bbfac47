//! A container's `resolv.conf`: the host's, made fit for another network namespace, as Docker writes it.
//!
//! Pure. Name servers on the host's loopback can't be reached from a container and are left out; if none is left, Google's
//! public ones are used, as Docker does. See `resolv.conf(5)`.

use std::fmt::Write;
use std::net::IpAddr;

/// What the user or the daemon's configuration sets; each empty list leaves the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`; a single `.` means none at all.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// Where the host's file is; Docker names it in a comment.
pub const HOST_FILE: &str = "/etc/resolv.conf";

/// The resolver of systemd: when the host's file names only this one, [`SYSTEMD_FILE`] has the true servers.
const SYSTEMD_STUB: &str = "127.0.0.53";

/// Where systemd-resolved writes the servers that it uses itself.
pub const SYSTEMD_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// Servers of last resort.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Which file of the host to start from, by the content of `/etc/resolv.conf`.
pub fn source_file(etc_resolv_conf: &str) -> &'static str {
    let mut servers = parse(etc_resolv_conf).servers.into_iter();
    match (servers.next(), servers.next()) {
        (Some(only), None) if only.to_string() == SYSTEMD_STUB => SYSTEMD_FILE,
        _ => HOST_FILE,
    }
}

/// The file for a container in a network namespace of its own. `host` is the content of the host's `path`.
pub fn for_sandbox(host: &str, path: &str, settings: &DnsSettings) -> String {
    let mut parsed = parse(host);
    let mut warnings = Vec::new();
    if settings.servers.is_empty() {
        parsed.servers.retain(|server| !server.is_loopback() && server.is_ipv4());
        if parsed.servers.is_empty() {
            parsed.servers = FALLBACK.iter().filter_map(|server| server.parse().ok()).collect();
            warnings.push("Used default nameservers.");
        }
    }
    finish(parsed, path, " (legacy)", settings, &warnings)
}

/// The file for a container in the host's network namespace, where every server of the host can be reached.
pub fn for_host_network(host: &str, path: &str, settings: &DnsSettings) -> String {
    finish(parse(host), path, "", settings, &[])
}

#[derive(Debug, Default)]
struct Parsed {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    options: Vec<String>,
    other: Vec<String>,
    invalid: Vec<String>,
}

fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(keyword) = words.next() else { continue };
        if line.starts_with(['#', ';']) {
            continue;
        }
        match keyword {
            "nameserver" => match words.next() {
                Some(word) => match word.parse() {
                    Ok(server) => parsed.servers.push(server),
                    Err(_) => parsed.invalid.push(word.to_owned()),
                },
                None => parsed.invalid.push(String::new()),
            },
            "domain" => parsed.search = words.take(1).map(str::to_owned).collect(),
            "search" => parsed.search = words.filter(|word| *word != ".").map(str::to_owned).collect(),
            "options" => parsed.options.extend(words.map(str::to_owned)),
            _ => parsed.other.push(line.to_owned()),
        }
    }
    parsed
}

fn finish(mut parsed: Parsed, path: &str, transform: &str, settings: &DnsSettings, warnings: &[&str]) -> String {
    let mut overrides = Vec::new();
    if !settings.servers.is_empty() {
        parsed.servers.clone_from(&settings.servers);
        overrides.push("nameservers");
    }
    if !settings.search.is_empty() {
        parsed.search = settings.search.iter().filter(|domain| *domain != ".").cloned().collect();
        overrides.push("search");
    }
    let host_ndots = has_ndots(&parsed.options);
    if !settings.options.is_empty() {
        parsed.options.clone_from(&settings.options);
        overrides.push("options");
    }
    let ndots = match (settings.options.is_empty(), has_ndots(&parsed.options)) {
        (true, _) if host_ndots => Some("host"),
        (false, true) => Some("override"),
        _ => None,
    };
    let mut out = String::from(HEADER);
    for server in &parsed.servers {
        let _ = writeln!(out, "nameserver {server}");
    }
    for (keyword, words) in [("search", &parsed.search), ("options", &parsed.options)] {
        if !words.is_empty() {
            let _ = writeln!(out, "{keyword} {}", words.join(" "));
        }
    }
    for line in &parsed.other {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "\n# Based on host file: '{path}'{transform}");
    for warning in warnings {
        let _ = writeln!(out, "# {warning}");
    }
    if !parsed.invalid.is_empty() {
        let _ = writeln!(out, "# Invalid nameservers: [{}]", parsed.invalid.join(" "));
    }
    let _ = writeln!(out, "# Overrides: [{}]", overrides.join(" "));
    if let Some(from) = ndots {
        let _ = writeln!(out, "# Option ndots from: {from}");
    }
    out
}

const HEADER: &str =
    "# Generated by Corten.\n# This file can be edited; Corten will not overwrite it while the container runs.\n\n";

fn has_ndots(options: &[String]) -> bool {
    options.iter().any(|option| option == "ndots" || option.starts_with("ndots:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        text.strip_prefix(HEADER).unwrap().lines().collect()
    }

    #[test]
    fn the_host_file_without_its_loopback() {
        let host = "# by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fe80::1\nsearch example.org .\noptions edns0 ndots:2\nsortlist 10.0.0.0\n";
        assert_eq!(
            lines(&for_sandbox(host, HOST_FILE, &DnsSettings::default())),
            [
                "nameserver 10.0.0.2",
                "search example.org",
                "options edns0 ndots:2",
                "sortlist 10.0.0.0",
                "",
                "# Based on host file: '/etc/resolv.conf' (legacy)",
                "# Overrides: []",
                "# Option ndots from: host",
            ]
        );
    }

    #[test]
    fn without_servers_the_public_ones_are_used() {
        for host in ["", "nameserver 127.0.0.1\n", "nameserver ::1\nnameserver nonsense\n"] {
            let text = for_sandbox(host, HOST_FILE, &DnsSettings::default());
            assert_eq!(lines(&text)[..2], ["nameserver 8.8.8.8", "nameserver 8.8.4.4"], "{host}");
            assert!(text.contains("# Used default nameservers.\n"));
        }
    }

    #[test]
    fn settings_override() {
        let settings = DnsSettings {
            servers: vec!["127.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            search: vec![".".to_owned()],
            options: vec!["ndots:5".to_owned()],
        };
        let text = for_sandbox("nameserver 10.0.0.2\nsearch a.b\noptions rotate\n", HOST_FILE, &settings);
        assert_eq!(
            lines(&text),
            [
                "nameserver 127.0.0.1",
                "nameserver 2001:db8::1",
                "options ndots:5",
                "",
                "# Based on host file: '/etc/resolv.conf' (legacy)",
                "# Overrides: [nameservers search options]",
                "# Option ndots from: override",
            ]
        );
    }

    #[test]
    fn the_host_network_keeps_loopback() {
        let text = for_host_network("nameserver 127.0.0.1\ndomain a.b c\n", HOST_FILE, &DnsSettings::default());
        assert_eq!(lines(&text)[..2], ["nameserver 127.0.0.1", "search a.b"]);
    }

    #[test]
    fn systemd_stub() {
        assert_eq!(source_file("nameserver 127.0.0.53\noptions edns0\n"), SYSTEMD_FILE);
        assert_eq!(source_file("nameserver 127.0.0.53\nnameserver 1.1.1.1\n"), HOST_FILE);
        assert_eq!(source_file(""), HOST_FILE);
    }
}
