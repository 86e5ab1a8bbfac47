//! What is asked of registries, before it is known whom to ask, and what their refusals mean.

use crate::body::Body;
use crate::challenge::Challenge;
use crate::client::{LONGEST_ERROR, MEDIA_TYPES};
use crate::credentials::Credentials;
use crate::error::{Error, Reported, Result};
use crate::hosts::{Capabilities, Endpoint};
use crate::token;
use crate::transport::Call;
use crate::words::{self, Words};
use bytes::Bytes;
use corten_base::{Digest, Reference};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};

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

pub(crate) fn media_type(headers: &HeaderMap) -> String {
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

    pub fn manifest(method: Method, reference: &'a Reference, name: &str) -> Requested<'a> {
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
    pub fn is_for(&self, can: Capabilities) -> bool {
        match self.action {
            Action::Push => can.push,
            // A digest says for itself that the answer is right.
            Action::Pull if self.is_manifest && !self.path.contains(':') => can.resolve,
            Action::Pull => can.pull,
        }
    }

    pub fn call(&self, scheme: &str, endpoint: &Endpoint) -> Result<Call> {
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
