//! The user's `config.json`: Docker's file, of which the client reads what it uses and ignores the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use corten_api_types::AuthConfig;
use serde::Deserialize;

use crate::credentials::StoredAuth;
use crate::{Error, Result};

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
    pub(crate) auths: BTreeMap<String, StoredAuth>,
    /// A program that keeps all credentials.
    pub(crate) creds_store: Option<String>,
    /// Programs that keep the credentials of single registries.
    pub(crate) cred_helpers: BTreeMap<String, String>,
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
