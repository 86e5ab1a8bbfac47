//! Manifests and blobs of a registry: the distribution specification, "Pull".

use crate::blob::BlobStream;
use crate::blocking::Blocking;
use crate::body::Body;
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::error::{Error, Reported, Result};
use crate::hosts::{Capabilities, Endpoint, Endpoints, Hosts};
use crate::token::{self, Tokens};
use crate::transport::{Call, Transport};
use crate::words::{self, Words};
use crate::{Cause, Limits, RegistryConfig, Timeouts, retry, url};
use bytes::Bytes;
use corten_base::{Digest, Reference};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// The manifests that are asked for: OCI's and Docker's, of one image and of several.
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The most that a manifest may have.
const LONGEST_MANIFEST: u64 = 4 << 20;

/// The most that is read of an error's explanation.
pub(crate) const LONGEST_ERROR: u64 = 64 * 1024;

/// More tags than this aren't asked for.
const MOST_TAGS: usize = 10_000;

/// A piece of content in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The number of its bytes.
    pub size: u64,
}

/// Which way layers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a registry.
    Download,
    /// To a registry.
    Upload,
}

/// A client of all registries; clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    tokens: Tokens,
    hosts: Hosts,
    /// Mirrors that could not be reached, and since when.
    resting: Mutex<HashMap<String, Instant>>,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    /// For insecure registries, whether TLS worked last time.
    schemes: Mutex<HashMap<String, bool>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client with these settings. Nothing is read or connected yet.
    pub fn new(config: RegistryConfig) -> Client {
        let hosts = Hosts::new(config.directories.clone(), config.mirrors.clone());
        Client(Arc::new(Inner {
            hosts,
            resting: Mutex::default(),
            downloads: Arc::new(Semaphore::new(config.limits.downloads.max(1))),
            uploads: Arc::new(Semaphore::new(config.limits.uploads.max(1))),
            transport: Transport::new(config),
            tokens: Tokens::default(),
            schemes: Mutex::default(),
        }))
    }

    /// The same for synchronous code on other threads than the runtime's.
    pub fn blocking(&self, handle: tokio::runtime::Handle) -> Blocking {
        Blocking::new(self.clone(), handle)
    }

    /// The manifest or index that a reference names: by its digest, else its tag (`latest` where it has none). The bytes are
    /// as received, and fit the digest.
    pub async fn resolve(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<(Descriptor, Bytes)> {
        match reference.digest() {
            Some(digest) => self.manifest(reference, digest, credentials).await,
            None => self.fetch_manifest(reference, reference.tag().unwrap_or("latest"), None, credentials).await,
        }
    }

    /// The manifest or index with this digest.
    pub async fn manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<(Descriptor, Bytes)> {
        self.fetch_manifest(reference, digest.as_str(), Some(digest), credentials).await
    }

    /// The tags of a repository, as many as are worth asking for.
    pub async fn tags(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut path = "tags/list".to_owned();
        loop {
            let request = Requested::new(reference, Action::Pull, Method::GET, path);
            let (response, call) = self.request_upstream(&request, credentials).await?;
            if !response.status().is_success() {
                return Err(translated(self.words(), response, &request).await);
            }
            let next = next_page(response.headers());
            let what = || format!("the list of tags of {}", reference.familiar_name());
            let body = response.into_body().collect(LONGEST_MANIFEST, what).await;
            let body = body.map_err(|failure| failure.of("Get", url::shown(&call.url)))?;
            let broken = |error: serde_json::Error| call.failed(Cause::Token(format!("{}: {error}", what())));
            let list: List = serde_json::from_slice(&body).map_err(broken)?;
            let before = tags.len();
            tags.extend(list.tags.unwrap_or_default().into_iter().filter(|tag| reference.with_tag(tag).is_ok()));
            match next {
                // A registry that brings nothing new has no end.
                Some(query) if tags.len() > before && tags.len() < MOST_TAGS => path = format!("tags/list?{query}"),
                _ => return Ok(tags),
            }
        }
    }

    /// What a reference names, without its bytes; none where the registry does not tell its digest this way. Registries
    /// that count pulls don't count this.
    pub async fn head(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Option<Descriptor>> {
        let name = match reference.digest() {
            Some(digest) => digest.to_string(),
            None => reference.tag().unwrap_or("latest").to_owned(),
        };
        let request = Requested::manifest(Method::HEAD, reference, &name);
        let response = self.request(&request, credentials).await?;
        if !response.status().is_success() {
            return Err(translated(self.words(), response, &request).await);
        }
        let digest = content_digest(response.headers());
        let size = response.headers().get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        let (Some(digest), Some(size)) = (digest, size) else { return Ok(None) };
        Ok(Some(Descriptor { media_type: media_type(response.headers()), digest, size }))
    }

    async fn fetch_manifest(
        &self,
        reference: &Reference,
        name: &str,
        expected: Option<&Digest>,
        credentials: Option<&Credentials>,
    ) -> Result<(Descriptor, Bytes)> {
        let request = Requested::manifest(Method::GET, reference, name);
        let (media_type, bytes) = self.small(&request, credentials).await?;
        let digest = match expected {
            None => Digest::sha256(&bytes),
            Some(expected) => {
                let digest = Digest::of(expected.algorithm(), &bytes);
                if digest != *expected {
                    return Err(Error::Mismatch(expected.clone()));
                }
                digest
            }
        };
        Ok((Descriptor { media_type, digest, size: bytes.len() as u64 }, bytes))
    }

    /// A manifest's bytes as they come. A connection that breaks in the middle is tried again.
    async fn small(&self, request: &Requested<'_>, credentials: Option<&Credentials>) -> Result<(String, Bytes)> {
        let what = || format!("the manifest of {}", request.reference.familiar());
        let mut attempt = 1;
        loop {
            let response = self.request(request, credentials).await?;
            if !response.status().is_success() {
                return Err(translated(self.words(), response, request).await);
            }
            let media_type = media_type(response.headers());
            let failure = match response.into_body().collect(LONGEST_MANIFEST, what).await {
                Ok(bytes) => return Ok((media_type, bytes)),
                Err(failure) => failure,
            };
            if !failure.is_transient() || attempt >= self.limits().attempts {
                return Err(failure.of("Get", request.shown()));
            }
            tokio::time::sleep(retry::back_off(attempt, self.timeouts().back_off)).await;
            attempt += 1;
        }
    }

    /// The bytes of a blob from `offset` on. They are not compared with the digest, but never more than its size.
    pub async fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<BlobStream> {
        BlobStream::open(self.clone(), reference, blob, offset, credentials).await
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.0.transport.timeouts()
    }

    /// In whose words refusals are told.
    pub(crate) fn words(&self) -> Words {
        self.0.transport.words()
    }

    /// Bounds on what goes on at once.
    pub fn limits(&self) -> Limits {
        self.0.transport.limits()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Sends to a mirror that has what is asked for, else to the reference's registry.
    pub(crate) async fn request(
        &self,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>> {
        let endpoints = self.endpoints(request.reference.domain())?;
        for mirror in endpoints.iter().filter(|endpoint| !endpoint.is_upstream && request.is_for(endpoint.can)) {
            if self.is_resting(&mirror.host) {
                continue;
            }
            // Nobody's account at a registry is a mirror's business.
            match self.ask(mirror, request, None).await {
                Ok((response, _)) if response.status().is_success() => return Ok(response),
                Ok((response, _)) => {
                    tracing::debug!(mirror = mirror.host, status = %response.status(), "no use of a mirror")
                }
                Err(error) => {
                    tracing::warn!(mirror = mirror.host, %error, "a mirror is not reachable");
                    self.resting().insert(mirror.host.clone(), Instant::now());
                }
            }
        }
        self.request_upstream(request, credentials).await.map(|(response, _)| response)
    }

    /// Whom to ask for a registry's content; the registry itself is the last.
    pub(crate) fn endpoints(&self, domain: &str) -> Result<Endpoints> {
        self.0.hosts.of(domain)
    }

    fn resting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_resting(&self, host: &str) -> bool {
        let mut resting = self.resting();
        resting.retain(|_, since| since.elapsed() < self.timeouts().mirror_rest);
        resting.contains_key(host)
    }

    /// The rights to move layers in this direction.
    pub(crate) fn slots(&self, direction: Direction) -> Arc<Semaphore> {
        match direction {
            Direction::Download => self.0.downloads.clone(),
            Direction::Upload => self.0.uploads.clone(),
        }
    }

    /// Sends to the reference's registry, or what stands in for it when something is stored. The answer comes with the call
    /// that got it.
    pub(crate) async fn request_upstream(
        &self,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<(Response<Body>, Call)> {
        let endpoints = self.endpoints(request.reference.domain())?;
        let pushed = endpoints.iter().find(|endpoint| request.action == Action::Push && endpoint.can.push);
        let endpoint = pushed.or(endpoints.last()).ok_or(Error::Status(StatusCode::BAD_GATEWAY))?;
        self.ask(endpoint, request, credentials.filter(|_| endpoint.is_upstream)).await
    }

    /// Sends to one server, over TLS or, if it may lack that, what works.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<(Response<Body>, Call)> {
        let host = &endpoint.host[..];
        let schemes = match endpoint.scheme {
            Some(scheme) => vec![scheme],
            None => self.schemes_for(host).await.iter().map(|&is_https| scheme(is_https)).collect(),
        };
        let mut last = None;
        for &scheme in &schemes {
            let call = request.call(scheme, endpoint)?;
            match self.authorized(&call, request, credentials).await {
                Err(error) if error.is_connecting() => {
                    // It may come back in the other way.
                    self.schemes().remove(host);
                    last = Some(error);
                }
                done => {
                    if schemes.len() > 1 {
                        self.schemes().insert(host.to_owned(), scheme == "https");
                    }
                    return done.map(|response| (response, call));
                }
            }
        }
        Err(last.unwrap_or(Error::Status(StatusCode::BAD_GATEWAY)))
    }

    /// Whether to speak TLS with a registry, in the order of what is to be tried.
    pub(crate) async fn schemes_for(&self, host: &str) -> &'static [bool] {
        let known = self.schemes().get(host).copied();
        match known {
            Some(true) => &[true],
            Some(false) => &[false],
            None if self.transport().may_be_plain() && self.is_insecure(host).await => &[true, false],
            None => &[true],
        }
    }

    fn schemes(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        self.0.schemes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_insecure(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
        self.0.transport.is_insecure(authority.host(), authority.port_u16()).await
    }

    /// Sends with what worked last, and once more with a fresh answer to the challenge.
    pub(crate) async fn authorized(
        &self,
        call: &Call,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>> {
        let scopes = request.scopes();
        let key = token_key(call, scopes.clone(), credentials);
        let mut call = call.clone();
        call.authorization = self.0.tokens.get(&key);
        let response = self.0.transport.call(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = challenges(response.headers());
        if challenges.is_empty() {
            return Ok(response);
        }
        let wanted = token::Wanted::Scopes(&scopes);
        let authorization =
            token::answer(&self.0.transport, &call, &challenges, wanted, credentials).await?.authorization;
        call.authorization = Some(authorization.clone());
        let response = self.0.transport.call(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            self.0.tokens.put(key, authorization);
        }
        Ok(response)
    }
}

/// The query of the next page: `Link: </v2/a/tags/list?n=9&last=x>; rel="next"`. Only the query counts: the rest is known.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.replace('"', "").contains("rel=next");
    target.split_once('?').filter(|_| is_next).map(|(_, query)| query.to_owned())
}

/// Under which name a token is kept.
pub(crate) fn token_key(call: &Call, scopes: Vec<String>, credentials: Option<&Credentials>) -> token::Key {
    let host = call.url.authority().map(ToString::to_string).unwrap_or_default();
    (host, scopes, credentials.cloned())
}

/// The digest of what an answer is about, where the registry tells it.
pub(crate) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok().and_then(|digest| Digest::parse(digest).ok())
}

/// The host that speaks for a reference's domain.
pub(crate) fn registry_host(domain: &str) -> &str {
    if domain == "docker.io" { "registry-1.docker.io" } else { domain }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(Challenge::parse).collect()
}

/// What a request is for: it decides what a token has to allow, whom else may be asked, and how a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
}

/// A request to a registry, before it is known how to reach it.
#[derive(Clone)]
pub(crate) struct Requested<'a> {
    pub reference: &'a Reference,
    pub action: Action,
    pub method: Method,
    /// Behind `/v2/<name>/`.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Another repository of the same registry that is read from.
    pub source: Option<String>,
    is_manifest: bool,
}

impl<'a> Requested<'a> {
    pub fn new(reference: &'a Reference, action: Action, method: Method, path: String) -> Requested<'a> {
        let is_manifest = path.starts_with("manifests/");
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Requested { reference, action, method, path, headers, body, source: None, is_manifest }
    }

    fn manifest(method: Method, reference: &'a Reference, name: &str) -> Requested<'a> {
        let mut requested = Requested::new(reference, Action::Pull, method, format!("manifests/{name}"));
        for media_type in MEDIA_TYPES {
            requested.headers.append(header::ACCEPT, HeaderValue::from_static(media_type));
        }
        requested
    }

    /// A blob from this byte on.
    pub fn blob(reference: &'a Reference, digest: &Digest, offset: u64) -> Requested<'a> {
        let mut requested = Requested::new(reference, Action::Pull, Method::GET, format!("blobs/{digest}"));
        requested.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-"))
        {
            requested.headers.insert(header::RANGE, range);
        }
        requested
    }

    /// What a token has to allow.
    pub fn scopes(&self) -> Vec<String> {
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        let own = format!("repository:{}:{actions}", self.reference.path());
        std::iter::once(own).chain(self.source.iter().map(|path| format!("repository:{path}:pull"))).collect()
    }

    /// Whether a server may be asked for this.
    fn is_for(&self, can: Capabilities) -> bool {
        match self.action {
            Action::Push => can.push,
            // A digest says for itself that the answer is right.
            Action::Pull if self.is_manifest && !self.path.contains(':') => can.resolve,
            Action::Pull => can.pull,
        }
    }

    fn call(&self, scheme: &str, endpoint: &Endpoint) -> Result<Call> {
        let (host, prefix, domain) = (&endpoint.host, &endpoint.prefix, self.reference.domain());
        let mut text = format!("{scheme}://{host}{prefix}/{}/{}", self.reference.path(), self.path);
        if endpoint.names_registry && !endpoint.is_upstream {
            text.push_str(&format!("{}ns={domain}", if text.contains('?') { '&' } else { '?' }));
        }
        let url: Uri = text.parse().map_err(|_| Error::Config(format!("{text:?} is no URL")))?;
        let may_downgrade = !self.is_manifest;
        let (method, headers, body) = (self.method.clone(), self.headers.clone(), self.body.clone());
        let (own_headers, trust) = (endpoint.headers.clone(), endpoint.trust.clone());
        Ok(Call { method, headers, own_headers, trust, body, may_downgrade, ..Call::get(url) })
    }

    /// The URL for errors.
    pub fn shown(&self) -> String {
        let host = registry_host(self.reference.domain());
        format!("https://{host}/v2/{}/{}", self.reference.path(), self.path)
    }
}

fn scheme(is_https: bool) -> &'static str {
    if is_https { "https" } else { "http" }
}

/// The error that an answer stands for, in Docker's words.
pub(crate) async fn translated(words: Words, response: Response<Body>, request: &Requested<'_>) -> Error {
    let (status, kind) = (response.status(), media_type(response.headers()));
    let challenges = challenges(response.headers());
    let body = response.into_body().collect(LONGEST_ERROR, || "the registry's error".to_owned()).await;
    let body = body.unwrap_or_default();
    if words == Words::Client {
        return words::told(status, &kind, &challenges, &body);
    }
    let bearer = challenges.iter().find(|challenge| challenge.scheme == "bearer");
    let mut reported = Reported::read(status, &body);
    // RFC 6750, section 3.1: Docker Hub says so of repositories that are not there or private.
    if status.is_client_error()
        && let Some(error) = bearer.and_then(|challenge| challenge.parameter("error"))
        && error == "insufficient_scope"
    {
        reported = Reported::read(StatusCode::FORBIDDEN, b"");
    }
    if reported.is_none() && status == StatusCode::NOT_FOUND && request.is_manifest {
        reported = Reported::read(status, br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
    }
    let Some(reported) = reported else { return Error::Status(status) };
    let reason = format!("{}: {}", reported.spoken_code(), reported.message);
    let name = request.reference.familiar_name();
    match &reported.code[..] {
        "DENIED" if request.action == Action::Pull => Error::NotFound(format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': {reason}"
        )),
        "MANIFEST_UNKNOWN" => {
            Error::NotFound(format!("manifest for {} not found: {reason}", request.reference.familiar()))
        }
        "NAME_UNKNOWN" => Error::NotFound(format!("repository {name} not found: {reason}")),
        _ => Error::Refused { code: reported.spoken_code(), message: reported.message, status: status.as_u16() },
    }
}
