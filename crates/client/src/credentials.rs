//! Credentials of registries, kept as Docker keeps them: in `config.json` (`auths`), or by programs (`credsStore`, `credHelpers`).
//!
//! A program is called `docker-credential-<name>` and takes one of `get`, `store` and `erase`; what it works on is its standard
//! input, what it answers its standard output, and nothing secret is ever an argument.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_api_types::AuthConfig;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{ConfigFile, Error, Result};

/// The key under which Docker keeps its hub's credentials.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The name that a helper gives to a token instead of a user's.
const TOKEN_USER: &str = "<token>";

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StoredAuth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl std::fmt::Debug for StoredAuth {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredAuth")
    }
}

/// The key of a registry's credentials: the hub's own, or host and port. Old files and users write URLs.
pub fn registry_key(address: &str) -> &str {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    match rest.split('/').next().unwrap_or(rest) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB_KEY,
        host => host,
    }
}

impl ConfigFile {
    /// The credentials for a registry, by its domain or key: from its helper, the store, or the file itself.
    pub fn auth_for(&self, address: &str) -> Option<AuthConfig> {
        let key = registry_key(address);
        if let Some(helper) = self.helper(key) {
            return get(helper, key).ok().flatten();
        }
        let stored = self.auths.get(key);
        let stored = stored.or_else(|| self.auths.iter().find(|(name, _)| registry_key(name) == key).map(|(_, s)| s));
        stored.map(|stored| decode_stored(stored, key)).filter(|auth| {
            let parts = [&auth.username, &auth.password, &auth.identity_token, &auth.registry_token];
            parts.iter().any(|part| !part.is_empty())
        })
    }

    /// Keeps credentials under their `server_address`. Where they went unencrypted, the answer is the file.
    pub fn store_credentials(&self, auth: &AuthConfig) -> Result<Option<PathBuf>> {
        let key = &auth.server_address;
        let Some(helper) = self.helper(key) else {
            let text = format!("{}:{}", auth.username, auth.password);
            let mut entry = Map::new();
            if !auth.username.is_empty() || !auth.password.is_empty() {
                entry.insert("auth".into(), STANDARD.encode(text).into());
            }
            if !auth.identity_token.is_empty() {
                entry.insert("identitytoken".into(), auth.identity_token.clone().into());
            }
            let path = self.edit_auths(|auths| drop(auths.insert(key.clone(), Value::Object(entry))))?;
            return Ok(Some(path));
        };
        let (user, secret) = match auth.identity_token.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => (TOKEN_USER, token),
        };
        let input = json!({ "ServerURL": key, "Username": user, "Secret": secret }).to_string();
        run(helper, "store", "storing", &input)?;
        // The file says that there are some, as Docker's does.
        self.edit_auths(|auths| drop(auths.insert(key.clone(), json!({}))))?;
        Ok(None)
    }

    /// Forgets the credentials under a key as it is written.
    pub fn erase_credentials(&self, key: &str) -> Result<()> {
        if let Some(helper) = self.helper(key) {
            match run(helper, "erase", "erasing", key) {
                Err(Error::Helper { output, .. }) if output.starts_with(NOT_FOUND) => {}
                done => drop(done?),
            }
        }
        if self.auths.contains_key(key) {
            self.edit_auths(|auths| drop(auths.remove(key)))?;
        }
        Ok(())
    }

    /// The program that keeps a registry's credentials.
    fn helper(&self, key: &str) -> Option<&str> {
        let named = self.cred_helpers.get(key).or(self.creds_store.as_ref());
        named.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Changes `auths` in the file and nothing else; whoever reads it meanwhile sees the old or the new one.
    fn edit_auths(&self, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<PathBuf> {
        let named = self.directory.join("config.json");
        // The file may be a link to where somebody keeps it.
        let path = fs::canonicalize(&named).unwrap_or_else(|_| named.clone());
        let failed = |error: &dyn std::fmt::Display| Error::Config { path: path.clone(), reason: error.to_string() };
        let mut file: Value = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(&error))?,
            Err(_) => json!({}),
        };
        let object = file.as_object_mut().ok_or_else(|| failed(&"it is not an object"))?;
        let auths = object.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        edit(auths.as_object_mut().expect("it was just made one"));
        let mut text = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
        serde::Serialize::serialize(&file, &mut serializer).map_err(|error| failed(&error))?;
        replace(&path, &text).map_err(|error| failed(&error))?;
        Ok(named)
    }
}

/// Writes a file anew, readable by its owner alone unless the old one was more open.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".config.json-{}", std::process::id()));
    let mode = fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(text)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
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

/// How helpers say that there is nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

fn get(helper: &str, key: &str) -> Result<Option<AuthConfig>> {
    let output = match run(helper, "get", "getting", key) {
        Err(Error::Helper { output, .. }) if output.starts_with(NOT_FOUND) => return Ok(None),
        output => output?,
    };
    let Ok(answer) = serde_json::from_slice::<HelperAnswer>(&output) else { return Ok(None) };
    let mut auth = AuthConfig { server_address: key.to_owned(), ..AuthConfig::default() };
    if answer.username == TOKEN_USER {
        auth.identity_token = answer.secret;
    } else {
        auth.username = answer.username;
        auth.password = answer.secret;
    }
    Ok(Some(auth))
}

/// Runs a helper; what it answers, or what it says is wrong.
fn run(helper: &str, action: &str, operation: &'static str, input: &str) -> Result<Vec<u8>> {
    let failed = |reason: String, output: &[u8]| Error::Helper {
        operation,
        reason,
        output: String::from_utf8_lossy(output).trim().to_owned(),
    };
    let program = format!("docker-credential-{helper}");
    let spawned = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(failed(format!("exec: \"{program}\": executable file not found in $PATH"), b""));
        }
        Err(error) => return Err(failed(error.to_string(), b"")),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that needs no input may be gone already; how it ended says whether that is fine.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string(), b""))?;
    match output.status.code() {
        Some(0) => Ok(output.stdout),
        Some(code) => Err(failed(format!("exit status {code}"), &output.stdout)),
        None => Err(failed("killed by a signal".to_owned(), &output.stdout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |address, expect| assert_eq!(registry_key(address), expect, "{address}");
        check("docker.io", HUB_KEY);
        check("https://index.docker.io/v1/", HUB_KEY);
        check("localhost:5000", "localhost:5000");
        check("https://reg.test/v2/", "reg.test");
        check("http://reg.test:80", "reg.test:80");
    }

    #[test]
    fn the_file_keeps_what_it_had() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, r#"{"psFormat":"x","auths":{"a.test":{"auth":"dTpw"}},"unknown":[1]}"#).unwrap();
        let config = ConfigFile::load(directory.path()).unwrap();
        let auth = AuthConfig {
            username: "me".into(),
            password: "pa:ss".into(),
            server_address: "b.test:5000".into(),
            ..AuthConfig::default()
        };
        assert_eq!(config.store_credentials(&auth).unwrap(), Some(path.clone()));
        let config = ConfigFile::load(directory.path()).unwrap();
        assert_eq!(config.auth_for("b.test:5000"), Some(auth));
        assert_eq!(config.auth_for("a.test").map(|auth| auth.username).as_deref(), Some("u"));
        config.erase_credentials("b.test:5000").unwrap();
        let config = ConfigFile::load(directory.path()).unwrap();
        assert_eq!(config.auth_for("b.test:5000"), None);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\t\"psFormat\": \"x\"") && text.contains("unknown"), "{text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let config = ConfigFile::empty(directory.path().join("new"));
        let auth = AuthConfig {
            username: "me".into(),
            identity_token: "t".into(),
            server_address: HUB_KEY.into(),
            ..AuthConfig::default()
        };
        let path = config.store_credentials(&auth).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let found = ConfigFile::load(&directory.path().join("new")).unwrap().auth_for("docker.io").unwrap();
        assert_eq!((&found.username[..], &found.password[..], &found.identity_token[..]), ("me", "", "t"));
    }

    #[test]
    fn stored_credentials_do_not_show() {
        let stored: StoredAuth = serde_json::from_str(r#"{"auth":"hunter2","password":"hunter2"}"#).unwrap();
        assert!(!format!("{stored:?}").contains("hunter2"));
    }
}
