//! Which proxy a request goes through, by the environment's `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as Go's programs
//! (and so Docker) read them.

use crate::credentials::{Secret, basic};
use crate::{Error, Result};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// The proxies to use. The default is none; see [`Proxies::from_environment`].
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    /// Whether the proxy itself is spoken to with TLS.
    pub is_encrypted: bool,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Secret>,
}

#[derive(Clone, Debug)]
enum Exception {
    All,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// A host and the names below it; with a leading dot only those below.
    Host {
        name: String,
        is_below_only: bool,
        port: Option<u16>,
    },
}

/// Proxies in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownProxies {
    /// For https; empty where there is none.
    pub https: String,
    /// For http; empty where there is none.
    pub http: String,
    /// The hosts to reach without, separated by commas.
    pub exceptions: String,
}

/// What is given, else an environment variable in upper or lower case.
fn setting(given: Option<&str>, name: &str) -> Option<String> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    given.map(str::to_owned).or_else(|| read(name)).or_else(|| read(&name.to_lowercase()))
}

/// An address without its user and password.
fn masked(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}xxxxx:xxxxx{}", &rest[at..]),
        None => address.to_owned(),
    }
}

impl Proxies {
    /// Reads the process' environment; upper-case names win over lower-case ones.
    pub fn from_environment() -> Result<Proxies> {
        Proxies::from_environment_but(None, None, None)
    }

    /// The same, but for what is set here: proxies for https and http, and exceptions.
    pub fn from_environment_but(https: Option<&str>, http: Option<&str>, exceptions: Option<&str>) -> Result<Proxies> {
        let set = |given, name| setting(given, name).unwrap_or_default();
        Proxies::new(Some(&set(https, "HTTPS_PROXY")), Some(&set(http, "HTTP_PROXY")), &set(exceptions, "NO_PROXY"))
    }

    /// The same as people may see them: Docker's mask is in the place of users and passwords.
    pub fn shown_from_environment_but(
        https: Option<&str>,
        http: Option<&str>,
        exceptions: Option<&str>,
    ) -> ShownProxies {
        let set = |given, name| setting(given, name).unwrap_or_default();
        ShownProxies {
            https: masked(&set(https, "HTTPS_PROXY")),
            http: masked(&set(http, "HTTP_PROXY")),
            exceptions: set(exceptions, "NO_PROXY"),
        }
    }

    /// The proxies for https and for http requests, and the hosts to reach without, separated by commas.
    pub fn new(https: Option<&str>, http: Option<&str>, exceptions: &str) -> Result<Proxies> {
        Ok(Proxies {
            https: https.filter(|text| !text.is_empty()).map(Proxy::parse).transpose()?,
            http: http.filter(|text| !text.is_empty()).map(Proxy::parse).transpose()?,
            exceptions: exceptions.split(',').filter_map(Exception::parse).collect(),
        })
    }

    /// The proxy for a request to this host. Loopback is always reached directly.
    pub(crate) fn choose(&self, is_https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if is_https { self.https.as_ref() } else { self.http.as_ref() };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return None;
        }
        let is_exception = self.exceptions.iter().any(|exception| exception.matches(&host, address, port));
        proxy.filter(|_| !is_exception)
    }
}

impl Proxy {
    /// `http://user:password@host:port`; the scheme may be left out.
    fn parse(text: &str) -> Result<Proxy> {
        // The text may hold a password, so it is not repeated.
        let invalid = |reason: &str| Error::Config(format!("proxy: {reason}"));
        let (is_encrypted, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => return Err(invalid(&format!("{scheme:?} is not http or https"))),
            None => (false, text),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let authority: http::uri::Authority = address.parse().map_err(|_| invalid("the address is malformed"))?;
        if authority.host().is_empty() {
            return Err(invalid("the address is empty"));
        }
        let authorization = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            basic(&decode(user), &decode(password))
        });
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        Ok(Proxy { host: authority.host().to_owned(), port, is_encrypted, authorization })
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Exception> {
        let text = text.trim().to_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Exception::All);
        }
        if let Ok(network) = text.parse() {
            return Some(Exception::Network(network));
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Exception::Address(address, None));
        }
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Some(Exception::Address(address.ip(), Some(address.port())));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (&text[..], None),
        };
        let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
        let is_below_only = name.starts_with('.');
        Some(Exception::Host { name: name.trim_start_matches('.').to_owned(), is_below_only, port })
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Exception::All => true,
            Exception::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Exception::Address(excepted, at) => address == Some(*excepted) && at.is_none_or(|at| at == port),
            Exception::Host { name, is_below_only, port: at } => {
                let is_name = host == name && !is_below_only;
                let is_below = host.strip_suffix(&name[..]).is_some_and(|rest| rest.ends_with('.'));
                (is_name || is_below) && at.is_none_or(|at| at == port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let proxies = Proxies::new(
            Some("http://u%40x:p%3Aw@proxy:3128/"),
            Some("plain"),
            "example.com, .below.org,10.0.0.0/8,192.0.2.7:5000,only.port:81,*.star.net",
        )
        .unwrap();
        let uses = |host: &str, port| proxies.choose(true, host, port).is_some();
        assert!(uses("registry-1.docker.io", 443));
        assert!(!uses("example.com", 443) && !uses("a.Example.com", 443) && uses("notexample.com", 443));
        assert!(uses("below.org", 443) && !uses("a.below.org", 443));
        assert!(!uses("a.star.net", 443));
        assert!(!uses("10.1.2.3", 443) && uses("11.1.2.3", 443));
        assert!(!uses("192.0.2.7", 5000) && uses("192.0.2.7", 443));
        assert!(!uses("only.port", 81) && uses("only.port", 82));
        assert!(!uses("localhost", 5000) && !uses("127.0.0.1", 5000) && !uses("[::1]", 5000));
        let https = proxies.https.as_ref().unwrap();
        assert_eq!((&https.host[..], https.port, https.is_encrypted), ("proxy", 3128, false));
        assert_eq!(https.authorization, Some(basic("u@x", "p:w")));
        assert_eq!(proxies.choose(false, "x.y", 80).unwrap().port, 80);
        assert!(Proxies::new(Some("http://proxy"), None, "*").unwrap().choose(true, "a", 1).is_none());
    }

    #[test]
    fn passwords_do_not_show() {
        let proxies = Proxies::new(Some("https://me:hunter2@proxy"), None, "").unwrap();
        assert!(!format!("{proxies:?}").contains("hunter2"));
        for bad in ["socks5://me:hunter2@proxy", "http://me:hunter2@pro xy", "http://"] {
            let error = Proxies::new(Some(bad), None, "").unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn passwords_are_masked() {
        let check = |address, expect| assert_eq!(masked(address), expect);
        check("", "");
        check("http://proxy.test:3128/", "http://proxy.test:3128/");
        check("http://me:p@ss@proxy.test:3128/x@y", "http://xxxxx:xxxxx@proxy.test:3128/x@y");
        check("me:pass@proxy.test", "xxxxx:xxxxx@proxy.test");
    }
}
