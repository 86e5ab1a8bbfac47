//! Where a registry's content is asked for: itself and its mirrors, with certificates, by files that an administrator keeps.
//!
//! ```text
//! <directory>/<host[:port]>/*.crt              authorities to trust besides the host's         (Docker's certs.d)
//!                           *.cert and *.key   a certificate of our own and its key, by name
//!                           hosts.toml         servers to ask instead, in order                (containerd's)
//! <directory>/_default/hosts.toml              the same for registries without a file of their own
//!
//! server = "https://registry.example"          the registry itself, if it is elsewhere
//! [host."https://mirror.example:5000/path"]    asked before it, in the order of the file
//! capabilities = ["pull", "resolve", "push"]   blobs and manifests by digest; tags; uploads
//! ca = "a.pem"                                 or a list; paths are relative to the file
//! client = [["cert.pem", "key.pem"]]           or "both.pem", or a list of such
//! skip_verify = true
//! override_path = true                         the path replaces /v2 instead of going before it
//! [host."https://mirror.example:5000/path".header]
//! x-name = "value"                             or a list
//! ```
//!
//! `registry-mirrors` of daemon.json are asked before all that a file for docker.io names, but for those that it names itself.
//! The files are read again after a few seconds, so that a change needs no restart.

use crate::config::Mirror;
use crate::error::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long what was read holds.
const FRESH: Duration = Duration::from_secs(5);

/// Whom a TLS connection trusts, and as whom it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// Any certificate will do.
    pub is_blind: bool,
    /// Files with authorities besides the host's.
    pub authorities: Vec<Stamped>,
    /// Files with a certificate and its key.
    pub clients: Vec<(Stamped, Stamped)>,
}

/// A file as it was: another time means another content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamped {
    pub path: PathBuf,
    changed: Option<SystemTime>,
}

/// What a server may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Blobs, and manifests by digest.
    pub pull: bool,
    /// Manifests by tag.
    pub resolve: bool,
    pub push: bool,
}

/// One server to ask.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// None where TLS has to be tried first, for registries that may lack it.
    pub scheme: Option<&'static str>,
    /// With the port, if it is named.
    pub host: String,
    /// What goes before the repository: `/v2`.
    pub prefix: String,
    pub can: Capabilities,
    pub headers: HeaderMap,
    pub trust: Trust,
    /// The registry itself: accounts are for it alone.
    pub is_upstream: bool,
    /// Told by `ns` whose content is asked for.
    pub names_registry: bool,
}

/// Servers in the order in which they are asked.
pub(crate) type Endpoints = Arc<Vec<Endpoint>>;

/// The files, and what they said last.
#[derive(Default)]
pub(crate) struct Hosts {
    directories: Vec<PathBuf>,
    mirrors: Vec<Mirror>,
    known: Mutex<HashMap<String, (Instant, Endpoints)>>,
}

impl Hosts {
    pub fn new(directories: Vec<PathBuf>, mirrors: Vec<Mirror>) -> Hosts {
        Hosts { directories, mirrors, known: Mutex::default() }
    }

    /// Whom to ask for a registry's content, in this order; the registry itself is the last.
    pub fn of(&self, domain: &str) -> Result<Endpoints> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, endpoints)) = known.get(domain)
            && since.elapsed() < FRESH
        {
            return Ok(endpoints.clone());
        }
        let endpoints = Arc::new(self.read(domain)?);
        known.insert(domain.to_owned(), (Instant::now(), endpoints.clone()));
        Ok(endpoints)
    }

    fn read(&self, domain: &str) -> Result<Vec<Endpoint>> {
        let configured = self.configured(domain)?;
        let mut endpoints = Vec::new();
        if domain == "docker.io" {
            let is_said_more_of = |mirror: &&Mirror| configured.iter().any(|endpoint| endpoint.host == mirror.host);
            endpoints.extend(self.mirrors.iter().filter(|mirror| !is_said_more_of(mirror)).map(|mirror| Endpoint {
                scheme: Some(mirror.scheme),
                is_upstream: false,
                can: Capabilities { pull: true, resolve: true, push: false },
                trust: self.trust(&mirror.host),
                ..Endpoint::upstream(&mirror.host)
            }));
        }
        endpoints.extend(configured);
        Ok(endpoints)
    }

    /// What the first file for a registry says, else the registry alone.
    fn configured(&self, domain: &str) -> Result<Vec<Endpoint>> {
        for folder in [domain, "_default"] {
            for directory in &self.directories {
                let path = directory.join(folder).join("hosts.toml");
                match fs::read_to_string(&path) {
                    Ok(text) => return self.parsed(domain, &path, &text),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(invalid(&path, &error)),
                }
            }
        }
        Ok(vec![self.upstream(domain)])
    }

    fn upstream(&self, domain: &str) -> Endpoint {
        let host = crate::request::registry_host(domain);
        Endpoint { trust: self.trust(domain), ..Endpoint::upstream(host) }
    }

    fn parsed(&self, domain: &str, path: &Path, text: &str) -> Result<Vec<Endpoint>> {
        let file: File = basic_toml::from_str(text).map_err(|error| invalid(path, &error))?;
        let mut endpoints = Vec::new();
        for (name, host) in &file.host.0 {
            let trust = self.trust(authority(name));
            endpoints.push(host.endpoint(name, path, trust).map_err(|reason| invalid(path, &reason))?);
        }
        let mut upstream = self.upstream(domain);
        if let Some(server) = &file.server {
            let trust = upstream.trust.clone();
            let endpoint = file.own.endpoint(server, path, trust).map_err(|reason| invalid(path, &reason))?;
            // Docker Hub's name is not where its registry is.
            let host = crate::request::registry_host(&endpoint.host).to_owned();
            upstream = Endpoint { host, is_upstream: true, names_registry: false, ..endpoint };
        }
        endpoints.push(upstream);
        Ok(endpoints)
    }

    /// What Docker's files say of a host.
    fn trust(&self, host: &str) -> Trust {
        let mut trust = Trust::default();
        for directory in &self.directories {
            let Ok(entries) = fs::read_dir(directory.join(host)) else { continue };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => trust.authorities.push(Stamped::of(path)),
                    Some("cert") => {
                        let key = Stamped::of(path.with_extension("key"));
                        trust.clients.push((Stamped::of(path), key));
                    }
                    _ => {}
                }
            }
        }
        trust
    }
}

fn invalid(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Config(format!("{}: {reason}", path.display()))
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

impl Stamped {
    fn of(path: PathBuf) -> Stamped {
        let changed = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        Stamped { path, changed }
    }
}

impl Endpoint {
    /// A registry that nothing is said of.
    fn upstream(host: &str) -> Endpoint {
        Endpoint {
            scheme: None,
            host: host.to_owned(),
            prefix: "/v2".to_owned(),
            can: Capabilities { pull: true, resolve: true, push: true },
            headers: HeaderMap::new(),
            trust: Trust::default(),
            is_upstream: true,
            names_registry: false,
        }
    }
}

/// `hosts.toml`.
#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    own: Settings,
    #[serde(default)]
    host: InOrder,
}

/// What is said of one server.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore<String>>,
    client: Option<OneOrMore<OneOrMore<String>>>,
    skip_verify: bool,
    override_path: bool,
    header: BTreeMap<String, OneOrMore<String>>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn all(&self) -> &[T] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

/// Tables in the order of the file, which is the order in which they are asked.
#[derive(Default)]
struct InOrder(Vec<(String, Settings)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<InOrder, D::Error> {
        struct Tables;
        impl<'de> Visitor<'de> for Tables {
            type Value = InOrder;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a table of hosts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<InOrder, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = members.next_entry()? {
                    tables.push(table);
                }
                Ok(InOrder(tables))
            }
        }
        deserializer.deserialize_map(Tables)
    }
}

impl Settings {
    fn endpoint(&self, name: &str, file: &Path, trust: Trust) -> Result<Endpoint, String> {
        let text = if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
        let url: Uri = text.parse().map_err(|_| format!("{name:?} is not a URL"))?;
        let (is_https, ..) = crate::url::parts(&url).ok_or_else(|| format!("{name:?} is not a URL of a registry"))?;
        let path = url.path().trim_end_matches('/');
        let prefix = if self.override_path { path.to_owned() } else { format!("{}/v2", path.trim_end_matches("/v2")) };
        Ok(Endpoint {
            scheme: Some(if is_https { "https" } else { "http" }),
            host: url.authority().map(ToString::to_string).unwrap_or_default(),
            prefix,
            can: self.capabilities()?,
            headers: self.headers()?,
            trust: self.trust(file, trust),
            is_upstream: false,
            names_registry: true,
        })
    }

    fn capabilities(&self) -> Result<Capabilities, String> {
        let Some(names) = &self.capabilities else {
            return Ok(Capabilities { pull: true, resolve: true, push: true });
        };
        let mut can = Capabilities { pull: false, resolve: false, push: false };
        for name in names {
            match name.as_str() {
                "pull" => can.pull = true,
                "resolve" => can.resolve = true,
                "push" => can.push = true,
                "referrers" => {}
                other => return Err(format!("unknown capability {other:?}")),
            }
        }
        Ok(can)
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.header {
            let malformed = || format!("the header {name:?} is malformed");
            let name: HeaderName = name.parse().map_err(|_| malformed())?;
            for value in values.all() {
                let mut value = HeaderValue::from_str(value).map_err(|_| malformed())?;
                value.set_sensitive(true);
                headers.append(name.clone(), value);
            }
        }
        Ok(headers)
    }

    fn trust(&self, file: &Path, mut trust: Trust) -> Trust {
        let beside = |name: &String| Stamped::of(file.parent().unwrap_or(Path::new("/")).join(name));
        trust.is_blind = self.skip_verify;
        trust.authorities.extend(self.ca.iter().flat_map(|ca| ca.all()).map(beside));
        for pair in self.client.iter().flat_map(|client| client.all()) {
            if let [certificate, rest @ ..] = pair.all() {
                let key = rest.first().filter(|key| !key.is_empty()).unwrap_or(certificate);
                trust.clients.push((beside(certificate), beside(key)));
            }
        }
        trust
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where content of a registry is asked for, given a file for it: scheme, host and prefix.
    fn check(domain: &str, text: &str, expect: &[&str]) -> Vec<Endpoint> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(domain)).unwrap();
        fs::write(directory.path().join(domain).join("hosts.toml"), text).unwrap();
        let hosts = Hosts::new(vec![directory.path().into()], Vec::new());
        let endpoints = hosts.of(domain).unwrap().to_vec();
        let shown =
            |endpoint: &Endpoint| format!("{} {}{}", endpoint.scheme.unwrap_or("any"), endpoint.host, endpoint.prefix);
        assert_eq!(endpoints.iter().map(shown).collect::<Vec<_>>(), expect, "{text}");
        endpoints
    }

    #[test]
    fn files() {
        check("a.test", "", &["any a.test/v2"]);
        check("docker.io", "", &["any registry-1.docker.io/v2"]);
        check("docker.io", "server = \"https://docker.io\"", &["https registry-1.docker.io/v2"]);
        let found = check(
            "a.test:5000",
            r#"
            server = "http://b.test"
            [host."https://z.test/cache"]
              capabilities = ["pull"]
              [host."https://z.test/cache".header]
                x-key = ["1", "2"]
            [host."http://c.test:80/odd/path"]
              override_path = true
              skip_verify = true
              ca = "ca.pem"
              client = [["c.pem", "k.pem"], ["both.pem"]]
            [host."m.test"]
            "#,
            &["https z.test/cache/v2", "http c.test:80/odd/path", "https m.test/v2", "http b.test/v2"],
        );
        assert_eq!(found[0].can, Capabilities { pull: true, resolve: false, push: false });
        assert_eq!(found[0].headers.get_all("x-key").iter().count(), 2);
        assert!(!format!("{found:?}").contains("\"1\""), "a header may be a secret");
        let trust = &found[1].trust;
        assert!(trust.is_blind && trust.authorities[0].path.ends_with("a.test:5000/ca.pem"));
        assert!(trust.clients[0].1.path.ends_with("k.pem") && trust.clients[1].1.path.ends_with("both.pem"));
        assert!(found[3].is_upstream && !found[2].is_upstream);
    }

    #[test]
    fn a_file_for_docker_hub_stands_beside_the_daemons_mirrors() {
        let mirrors = ["https://m.test", "https://both.test"].map(|mirror| mirror.parse().unwrap());
        for folder in ["docker.io", "_default"] {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join(folder)).unwrap();
            let text = "[host.\"https://both.test\"]\ncapabilities = [\"pull\"]\n[host.\"https://f.test\"]";
            fs::write(directory.path().join(folder).join("hosts.toml"), text).unwrap();
            let hosts = Hosts::new(vec![directory.path().into()], mirrors.to_vec());
            let shown = hosts.of("docker.io").unwrap().iter().map(|endpoint| endpoint.host.clone()).collect::<Vec<_>>();
            assert_eq!(shown, ["m.test", "both.test", "f.test", "registry-1.docker.io"], "{folder}");
            assert!(!hosts.of("docker.io").unwrap()[1].can.resolve);
        }
    }

    #[test]
    fn mistakes_name_the_file() {
        for text in ["server = 1", "[host.\"ftp://x\"]", "[host.\"https://x\"]\ncapabilities = [\"fly\"]", "nonsense"] {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("_default")).unwrap();
            fs::write(directory.path().join("_default/hosts.toml"), text).unwrap();
            let hosts = Hosts::new(vec![directory.path().into()], Vec::new());
            let error = hosts.of("any.test").unwrap_err().to_string();
            assert!(error.contains("_default/hosts.toml: "), "{error}");
        }
    }

    #[test]
    fn certificates_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("a.test:5000");
        fs::create_dir(&folder).unwrap();
        for name in ["ca.crt", "client.cert", "client.key", "other.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let hosts = Hosts::new(vec![directory.path().into()], Vec::new());
        let trust = hosts.of("a.test:5000").unwrap()[0].trust.clone();
        assert_eq!(trust.authorities.len(), 1);
        assert!(trust.clients[0].0.path.ends_with("client.cert") && trust.clients[0].1.path.ends_with("client.key"));
        assert_eq!(hosts.of("a.test").unwrap()[0].trust, Trust::default());
    }
}
