//! The user's `config.json`: Docker's file, of which the client reads what it uses and ignores the rest.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use corten_api_types::AuthConfig;
use serde::Deserialize;

use crate::{Error, Result};

/// The key under which Docker keeps its hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What `config.json` says. Missing file: all defaults.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigFile {
    /// Where the file was looked for; contexts live beside it.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The context in use.
    pub current_context: Option<String>,
    /// The key sequence that detaches from a container.
    pub detach_keys: Option<String>,
    /// Default `--format` of `ps`.
    pub ps_format: Option<String>,
    /// Default `--format` of `stats`.
    pub stats_format: Option<String>,
    /// Default `--format` of `images`.
    pub images_format: Option<String>,
    /// Default `--format` of `network ls`.
    pub networks_format: Option<String>,
    /// Default `--format` of `volume ls`.
    pub volumes_format: Option<String>,
    /// Headers to send with every request.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    /// Proxy settings handed to containers, by daemon address or `default`.
    pub proxies: BTreeMap<String, Proxy>,
    /// Stored credentials by registry.
    auths: BTreeMap<String, StoredAuth>,
    /// A program that keeps all credentials.
    creds_store: Option<String>,
    /// Programs that keep the credentials of single registries.
    cred_helpers: BTreeMap<String, String>,
}

/// Proxy variables that a container gets in its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// `HTTP_PROXY`
    pub http_proxy: String,
    /// `HTTPS_PROXY`
    pub https_proxy: String,
    /// `NO_PROXY`
    pub no_proxy: String,
    /// `FTP_PROXY`
    pub ftp_proxy: String,
    /// `ALL_PROXY`
    pub all_proxy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredAuth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Credentials as the `X-Registry-Auth` header carries them: URL-safe base64 of their JSON.
pub fn auth_header(auth: &AuthConfig) -> String {
    let json = serde_json::to_vec(auth).expect("a struct of strings always serialises");
    URL_SAFE.encode(json)
}

impl ConfigFile {
    /// All defaults, with contexts below `directory`.
    pub fn empty(directory: PathBuf) -> ConfigFile {
        ConfigFile { directory, ..ConfigFile::default() }
    }

    /// Reads `config.json` in `directory`; a missing file means defaults.
    pub fn load(directory: &Path) -> Result<ConfigFile> {
        let path = directory.join("config.json");
        let mut config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::Config { path: path.clone(), reason: error.to_string() })?,
            Err(_) => ConfigFile::default(),
        };
        config.directory = directory.to_owned();
        Ok(config)
    }

    /// The proxy settings for containers of the daemon at `host`.
    pub fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        self.proxies.get(host).or_else(|| self.proxies.get("default"))
    }

    /// The credentials for a registry's domain: from its helper, the store, or the file itself.
    pub fn auth_for(&self, domain: &str) -> Option<AuthConfig> {
        let key = if domain == "docker.io" { HUB_KEY } else { domain };
        if let Some(helper) = self.cred_helpers.get(key).or(self.creds_store.as_ref()) {
            return ask_helper(helper, key);
        }
        let matches = |stored: &str| stored == key || host_of(stored) == host_of(key);
        let (_, stored) = self.auths.iter().find(|(stored, _)| matches(stored))?;
        Some(decode_stored(stored, key))
    }
}

/// Old files name registries by URL; only the host counts.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn decode_stored(stored: &StoredAuth, key: &str) -> AuthConfig {
    let decoded = STANDARD.decode(stored.auth.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((username, password)) => (username.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => (stored.username.clone(), stored.password.clone()),
    };
    AuthConfig {
        username,
        password,
        server_address: key.to_owned(),
        identity_token: stored.identitytoken.clone(),
        registry_token: stored.registrytoken.clone(),
        ..AuthConfig::default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Runs `docker-credential-<helper> get`, Docker's protocol: the registry on stdin, JSON on stdout.
fn ask_helper(helper: &str, key: &str) -> Option<AuthConfig> {
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(key.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    let mut auth = AuthConfig { server_address: key.to_owned(), ..AuthConfig::default() };
    if answer.username == "<token>" {
        auth.identity_token = answer.secret;
    } else {
        auth.username = answer.username;
        auth.password = answer.secret;
    }
    Some(auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dockers_file() {
        let config: ConfigFile = serde_json::from_str(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cGE6c3M="},"localhost:5000":{"username":"u","password":"p"}},
                "currentContext":"far","psFormat":"{{.ID}}","detachKeys":"ctrl-x","HttpHeaders":{"A":"b"},
                "proxies":{"default":{"httpProxy":"http://p"}},"plugins":{"x":{}}}"#,
        )
        .expect("valid");
        assert_eq!(config.current_context.as_deref(), Some("far"));
        let hub = config.auth_for("docker.io").expect("hub");
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "pa:ss"));
        assert_eq!(config.auth_for("localhost:5000").expect("local").username, "u");
        assert_eq!(config.auth_for("elsewhere"), None);
        assert_eq!(config.proxy_for("unix:///x").expect("proxy").http_proxy, "http://p");
    }

    #[test]
    fn header_is_url_safe() {
        let auth = AuthConfig { username: "a".into(), password: "?>".into(), ..AuthConfig::default() };
        assert_eq!(auth_header(&auth), "eyJ1c2VybmFtZSI6ImEiLCJwYXNzd29yZCI6Ij8-In0=");
    }
}
