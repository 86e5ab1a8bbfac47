//! How registries are reached.

use crate::resolve::Resolver;
use crate::{Error, Proxies, Result, Words};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where certificates and `hosts.toml` of registries are looked for unless something else is said: Corten's own folder, then
/// Docker's.
pub const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/corten/certs.d", "/etc/docker/certs.d"];

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Registries that may lack a valid certificate or TLS altogether. Loopback addresses always may.
    pub insecure: Vec<Insecure>,
    /// Whether those that may are also spoken to without TLS.
    pub plain_http: bool,
    /// In whose words refusals are told.
    pub words: Words,
    /// Asked for Docker Hub's images before it is, in this order.
    pub mirrors: Vec<Mirror>,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// Bounds on time.
    pub timeouts: Timeouts,
    /// Bounds on how much goes on at once.
    pub limits: Limits,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Folders with one folder per registry: certificates and `hosts.toml`. The first that has a file counts.
    pub directories: Vec<PathBuf>,
    /// Certificates (PEM) of authorities that are trusted besides the host's.
    pub authorities: Vec<Vec<u8>>,
    /// Where host names are looked up.
    pub resolver: Resolver,
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig {
            insecure: Vec::new(),
            plain_http: true,
            words: Words::default(),
            mirrors: Vec::new(),
            proxies: Proxies::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            user_agent: concat!("corten/", env!("CARGO_PKG_VERSION")).to_owned(),
            directories: Vec::new(),
            authorities: Vec::new(),
            resolver: Resolver::default(),
        }
    }
}

impl RegistryConfig {
    /// The default with the proxies of this process' environment.
    pub fn from_environment() -> Result<RegistryConfig> {
        Ok(RegistryConfig { proxies: Proxies::from_environment()?, ..RegistryConfig::default() })
    }

    /// Whether this host, which has these addresses, may be spoken to without a valid certificate.
    pub(crate) fn is_insecure(&self, host: &str, port: Option<u16>, addresses: &[IpAddr]) -> bool {
        addresses.iter().any(IpAddr::is_loopback)
            || self.insecure.iter().any(|insecure| match insecure {
                Insecure::Host(name, at) => name.eq_ignore_ascii_case(host) && *at == port,
                Insecure::Network(network) => addresses.iter().any(|address| network.contains(address)),
            })
    }

    /// Whether the addresses of a host matter to [`is_insecure`](RegistryConfig::is_insecure).
    pub(crate) fn has_networks(&self) -> bool {
        self.insecure.iter().any(|insecure| matches!(insecure, Insecure::Network(_)))
    }
}

/// Bounds on time; beyond them a connection counts as broken.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To look up, connect and agree on TLS.
    pub connect: Duration,
    /// From a request to the head of its answer.
    pub headers: Duration,
    /// Without progress in a body; a body must also bring 100 bytes per second on average over this time, and a kilobyte over ten
    /// times as long.
    pub stall: Duration,
    /// The wait before the second try, doubled for each further one.
    pub back_off: Duration,
    /// A mirror that could not be reached is left alone so long.
    pub mirror_rest: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(30),
            headers: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            back_off: Duration::from_millis(500),
            mirror_rest: Duration::from_secs(60),
        }
    }
}

/// Bounds on how much goes on at once, for all images together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Layers that are downloaded.
    pub downloads: usize,
    /// Layers that are uploaded.
    pub uploads: usize,
    /// How often something is tried.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { downloads: 3, uploads: 5, attempts: 5 }
    }
}

/// One entry of `insecure-registries`: `host`, `host:port`, or a network such as `10.0.0.0/8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insecure {
    /// Exactly this name and port.
    Host(String, Option<u16>),
    /// Every host with an address in it.
    Network(IpNet),
}

impl FromStr for Insecure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Insecure> {
        if let Ok(network) = text.parse() {
            return Ok(Insecure::Network(network));
        }
        // Docker takes a scheme in front, and warns.
        let name = text.strip_prefix("http://").or(text.strip_prefix("https://")).unwrap_or(text).trim_end_matches('/');
        let authority: http::uri::Authority = name
            .parse()
            .map_err(|_| Error::Config(format!("insecure registry {text} is not valid: invalid host {name:?}")))?;
        Ok(Insecure::Host(authority.host().to_owned(), authority.port_u16()))
    }
}

/// One entry of `registry-mirrors`: `https://host[:port]`, or with `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
}

impl FromStr for Mirror {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mirror> {
        let invalid = |reason: &str| Error::Config(format!("invalid mirror: {reason}"));
        let url: http::Uri = text.parse().map_err(|_| invalid(&format!("{text:?} is not a valid URI")))?;
        let scheme = match url.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            other => {
                return Err(invalid(&format!("unsupported scheme {:?} in {text:?}", other.unwrap_or_default())));
            }
        };
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
        match (authority, url.path(), url.query()) {
            (Some(authority), "/" | "", None) => Ok(Mirror { scheme, host: authority.to_string() }),
            _ => Err(invalid(&format!("path, query, or fragment at end of the URI {text:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_registries() {
        let list = ["reg.test", "reg.test:5000", "10.0.0.0/8", "http://odd.test:80/", "[2001:db8::1]:5000"];
        let config = RegistryConfig {
            insecure: list.iter().map(|text| text.parse().unwrap()).collect(),
            ..RegistryConfig::default()
        };
        let check = |host: &str, port, addresses: &[&str], expect| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(config.is_insecure(host, port, &addresses), expect, "{host} {port:?}");
        };
        check("reg.test", None, &[], true);
        check("REG.test", Some(5000), &[], true);
        check("reg.test", Some(5001), &[], false);
        check("other.test", Some(5000), &["10.1.1.1"], true);
        check("other.test", Some(5000), &["11.1.1.1"], false);
        check("localhost", Some(5000), &["127.0.0.1", "::1"], true);
        check("odd.test", Some(80), &[], true);
        check("[2001:db8::1]", Some(5000), &[], true);
        assert!("a b".parse::<Insecure>().is_err());
    }

    #[test]
    fn mirrors() {
        let parse = |text: &str| text.parse::<Mirror>().map(|mirror| format!("{} {}", mirror.scheme, mirror.host));
        assert_eq!(parse("https://mirror.test/").unwrap(), "https mirror.test");
        assert_eq!(parse("http://10.0.0.1:5000").unwrap(), "http 10.0.0.1:5000");
        for bad in ["mirror.test", "ftp://mirror.test", "https://mirror.test/path", "https://mirror.test/?q"] {
            assert!(parse(bad).unwrap_err().to_string().contains("invalid mirror: "), "{bad}");
        }
    }
}
