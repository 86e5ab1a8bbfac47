//! Where the daemon is: `-H`, `--context`, the environment, contexts, or the default socket, in that order.
//!
//! Contexts are Docker's: `contexts/meta/<sha256 of the name>/meta.json` in the configuration directory, of which
//! `Endpoints.docker.Host` is read.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{ConfigFile, Error, Result};

/// The socket that the daemon listens on unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/corten/corten.sock";

const DEFAULT_TCP_PORT: u16 = 2375;

/// An address that the daemon listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://host:port`, without TLS.
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// The port, 2375 when none is given.
        port: u16,
    },
}

impl Endpoint {
    /// The endpoint `unix:///run/corten/corten.sock`.
    pub fn default_socket() -> Endpoint {
        Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET))
    }

    /// Reads `unix://`, `tcp://` and `http://` URLs.
    pub fn parse(text: &str) -> Result<Endpoint> {
        let invalid =
            || Error::Endpoint(format!("unable to resolve docker endpoint: invalid bind address format: {text}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.is_empty() => Ok(Endpoint::default_socket()),
            "unix" => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "tcp" | "http" => parse_tcp(rest).ok_or_else(invalid),
            "ssh" | "https" | "npipe" | "fd" => Err(Error::Endpoint(format!(
                "unable to resolve docker endpoint: the protocol of {text} is not supported (use unix:// or tcp://)"
            ))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

fn parse_tcp(rest: &str) -> Option<Endpoint> {
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) = inner.split_once(']')?;
        (host, after.strip_prefix(':'))
    } else {
        match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return None,
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = port.map_or(Some(DEFAULT_TCP_PORT), |port| port.parse().ok())?;
    Some(Endpoint::Tcp { host: host.to_owned(), port })
}

/// What the endpoint may come from, besides the configuration file.
#[derive(Debug, Clone, Default)]
pub struct EndpointSource {
    /// `-H` or `--host`.
    pub host: Option<String>,
    /// `-c` or `--context`.
    pub context: Option<String>,
    /// `CORTEN_HOST`, else `DOCKER_HOST`.
    pub env_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub env_context: Option<String>,
}

/// The endpoint found, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// The context's name; `default` when none was chosen.
    pub context: String,
    /// True when nobody named an endpoint, so that it is the built-in default.
    pub is_builtin: bool,
}

/// Finds the endpoint in Docker's order of precedence.
pub fn resolve_endpoint(source: &EndpointSource, config: &ConfigFile) -> Result<Resolved> {
    let named = |host: &str| {
        Ok(Resolved { endpoint: Endpoint::parse(host)?, context: "default".to_owned(), is_builtin: false })
    };
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if source.host.is_some() && source.context.is_some() {
        return Err(Error::Endpoint("conflicting options: either specify --host or --context, not both".to_owned()));
    }
    if let Some(host) = given(&source.host) {
        return named(&host);
    }
    let chosen = given(&source.context).or_else(|| match given(&source.env_host) {
        Some(_) => None,
        None => given(&source.env_context).or_else(|| given(&config.current_context)),
    });
    if let Some(name) = chosen.filter(|name| name != "default") {
        let endpoint = read_context(&config.directory, &name)?;
        return Ok(Resolved { endpoint, context: name, is_builtin: false });
    }
    match given(&source.env_host) {
        Some(host) => named(&host),
        None => Ok(Resolved { endpoint: Endpoint::default_socket(), context: "default".to_owned(), is_builtin: true }),
    }
}

#[derive(Deserialize)]
struct ContextMetadata {
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
}

fn read_context(config_directory: &Path, name: &str) -> Result<Endpoint> {
    let directory: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = config_directory.join("contexts/meta").join(directory).join("meta.json");
    let bytes =
        std::fs::read(&path).map_err(|source| Error::Context { name: name.to_owned(), path: path.clone(), source })?;
    let metadata: ContextMetadata = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Config { path: path.clone(), reason: error.to_string() })?;
    match metadata.endpoints.get("docker") {
        Some(endpoint) if !endpoint.host.is_empty() => Endpoint::parse(&endpoint.host),
        _ => Ok(Endpoint::default_socket()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let shown = Endpoint::parse(text).map_or_else(|error| error.to_string(), |endpoint| endpoint.to_string());
        assert_eq!(shown, expect);
    }

    #[test]
    fn endpoints() {
        check("unix:///run/x.sock", "unix:///run/x.sock");
        check("unix://", "unix:///run/corten/corten.sock");
        check("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555");
        check("tcp://box", "tcp://box:2375");
        check("tcp://[::1]:99", "tcp://[::1]:99");
        check("box:80", "tcp://box:80");
        check("foo://x", "unable to resolve docker endpoint: invalid bind address format: foo://x");
        check("tcp://x:y", "unable to resolve docker endpoint: invalid bind address format: tcp://x:y");
    }

    fn source(host: &str, context: &str, env_host: &str, env_context: &str) -> EndpointSource {
        let option = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        EndpointSource {
            host: option(host),
            context: option(context),
            env_host: option(env_host),
            env_context: option(env_context),
        }
    }

    #[test]
    fn precedence() {
        let directory = tempfile::tempdir().expect("temp dir");
        let hash = "ca3704aa0b06f5954c79ee837faa152d84d6b2d42838f0637a15eda8337dbdce";
        let meta = directory.path().join("contexts/meta").join(hash);
        std::fs::create_dir_all(&meta).expect("dirs");
        std::fs::write(meta.join("meta.json"), r#"{"Name":"nope","Endpoints":{"docker":{"Host":"tcp://c:1"}}}"#)
            .expect("meta");
        let config = ConfigFile::empty(directory.path().to_owned());
        let resolve = |source: EndpointSource| {
            resolve_endpoint(&source, &config).map_or_else(|error| error.to_string(), |it| it.endpoint.to_string())
        };
        assert_eq!(resolve(source("", "", "", "")), "unix:///run/corten/corten.sock");
        assert_eq!(resolve(source("tcp://a", "", "tcp://b", "nope")), "tcp://a:2375");
        assert_eq!(resolve(source("", "nope", "tcp://b", "")), "tcp://c:1");
        assert_eq!(resolve(source("", "", "tcp://b", "nope")), "tcp://b:2375");
        assert_eq!(resolve(source("", "", "", "nope")), "tcp://c:1");
        assert_eq!(resolve(source("", "default", "tcp://b", "")), "tcp://b:2375");
        assert!(resolve(source("", "other", "", "")).starts_with("context \"other\": context not found: open "));
        assert!(resolve(source("tcp://a", "b", "", "")).starts_with("conflicting options"));
    }
}
