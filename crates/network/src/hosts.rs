//! A container's `hosts` and `hostname` files, as Docker writes them. Pure.

use std::fmt::Write;
use std::net::IpAddr;

/// What a container's `hosts` file tells.
#[derive(Clone, Debug, Default)]
pub struct HostsInput<'a> {
    /// The host name.
    pub hostname: &'a str,
    /// The domain name; may be empty.
    pub domainname: &'a str,
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// `--add-host`: name and address.
    pub extra: &'a [(String, IpAddr)],
    /// Whether the sandbox has IPv6 at its loopback, as all have unless it was switched off.
    pub ipv6_loopback: bool,
}

/// The file for a container with a network namespace of its own.
pub fn hosts(input: &HostsInput<'_>) -> String {
    let mut out = String::from("127.0.0.1\tlocalhost\n");
    if input.ipv6_loopback {
        out.push_str(
            "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n",
        );
    }
    for (name, address) in input.extra {
        let _ = writeln!(out, "{address}\t{name}");
    }
    for address in input.addresses {
        let _ = match input.domainname {
            "" => writeln!(out, "{address}\t{}", input.hostname),
            domain => writeln!(out, "{address}\t{}.{domain} {}", input.hostname, input.hostname),
        };
    }
    out
}

/// The `hostname` file.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_on_a_bridge() {
        let extra = [("db".to_owned(), "10.0.0.9".parse().unwrap())];
        let addresses = ["172.17.0.2".parse().unwrap()];
        let mut input = HostsInput {
            hostname: "0123456789ab",
            domainname: "",
            addresses: &addresses,
            extra: &extra,
            ipv6_loopback: true,
        };
        let expect = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                      ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.9\tdb\n\
                      172.17.0.2\t0123456789ab\n";
        assert_eq!(hosts(&input), expect);
        (input.domainname, input.ipv6_loopback, input.extra) = ("example.org", false, &[]);
        assert_eq!(hosts(&input), "127.0.0.1\tlocalhost\n172.17.0.2\t0123456789ab.example.org 0123456789ab\n");
        assert_eq!(hostname("web"), "web\n");
    }
}
