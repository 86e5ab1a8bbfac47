//! Manifests and blobs of a registry: the distribution specification, "Pull".

use crate::blob::BlobStream;
use crate::blocking::Blocking;
use crate::body::Body;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::hosts::Hosts;
use crate::request::{Action, Requested, content_digest, media_type, translated};
use crate::route::{Answered, Learned};
use crate::token::Tokens;
use crate::transport::Transport;
use crate::words::Words;
use crate::{Cause, Limits, RegistryConfig, Timeouts, retry, url};
use bytes::Bytes;
use corten_base::{Digest, Reference};
use http::{HeaderMap, Method, Response, header};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The manifests that are asked for: OCI's and Docker's, of one image and of several.
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The most that a manifest may have.
pub(crate) const LONGEST_MANIFEST: u64 = 4 << 20;

/// The most that is read of an error's explanation.
pub(crate) const LONGEST_ERROR: u64 = 64 * 1024;

/// The most tags that a repository may have: enough for one a minute for two months, and some megabytes.
const MOST_TAGS: usize = 100_000;

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
    learned: Learned,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
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
            learned: Learned::default(),
            downloads: Arc::new(Semaphore::new(config.limits.downloads.max(1))),
            uploads: Arc::new(Semaphore::new(config.limits.uploads.max(1))),
            transport: Transport::new(config),
            tokens: Tokens::default(),
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

    /// The tags of a repository, each once.
    ///
    /// # Errors
    /// Besides the registry's, more of them than anybody has.
    pub async fn tags(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let (mut tags, mut known) = (Vec::new(), HashSet::new());
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
            let malformed = |reason: String| call.failed(Cause::Token(format!("{}: {reason}", what())));
            let list: List = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
            let before = tags.len();
            let named = list.tags.unwrap_or_default().into_iter().filter(|tag| reference.with_tag(tag).is_ok());
            tags.extend(named.filter(|tag| known.insert(tag.clone())));
            if tags.len() > MOST_TAGS {
                return Err(malformed(format!("it has more than {MOST_TAGS} entries")));
            }
            match next {
                // A registry that brings nothing new has no end.
                Some(query) if tags.len() > before => path = format!("tags/list?{query}"),
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
        let response = self.request(&request, credentials).await?.response;
        if !response.status().is_success() {
            return match translated(self.words(), response, &request).await {
                // Some servers have no answer to this question, but to a pull's.
                Error::Status(status) => {
                    tracing::debug!(%status, url = request.shown(), "no answer without the manifest");
                    Ok(None)
                }
                error => Err(error),
            };
        }
        let digest = content_digest(response.headers());
        let size = response.headers().get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        let (Some(digest), Some(size)) = (digest, size) else { return Ok(None) };
        Ok(Some(Descriptor { media_type: media_type(response.headers()), digest, size }))
    }

    /// A connection that breaks in the middle is tried again, and what a mirror has got wrong is asked of the next.
    async fn fetch_manifest(
        &self,
        reference: &Reference,
        name: &str,
        expected: Option<&Digest>,
        credentials: Option<&Credentials>,
    ) -> Result<(Descriptor, Bytes)> {
        let request = Requested::manifest(Method::GET, reference, name);
        let mut attempt = 1;
        loop {
            let Answered { response, mirror } = self.request(&request, credentials).await?;
            let error = match self.read_manifest(response, &request, expected).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let is_broken = matches!(error, Error::Request { source: Cause::Closed, .. });
            if attempt >= self.limits().attempts || (mirror.is_none() && !is_broken) {
                return Err(error);
            }
            match mirror {
                Some(mirror) => self.rest(&mirror, &error),
                None => tokio::time::sleep(retry::back_off(attempt, self.timeouts().back_off)).await,
            }
            attempt += 1;
        }
    }

    async fn read_manifest(
        &self,
        response: Response<Body>,
        request: &Requested<'_>,
        expected: Option<&Digest>,
    ) -> Result<(Descriptor, Bytes)> {
        if !response.status().is_success() {
            return Err(translated(self.words(), response, request).await);
        }
        let media_type = media_type(response.headers());
        let what = || format!("the manifest of {}", request.reference.familiar());
        let bytes = response.into_body().collect(LONGEST_MANIFEST, what).await;
        let bytes = bytes.map_err(|failure| failure.of("Get", request.shown()))?;
        let digest = expected.map_or_else(|| Digest::sha256(&bytes), |digest| Digest::of(digest.algorithm(), &bytes));
        match expected.filter(|expected| digest != **expected) {
            Some(expected) => Err(Error::Mismatch(expected.clone())),
            None => Ok((Descriptor { media_type, digest, size: bytes.len() as u64 }, bytes)),
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

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    pub(crate) fn learned(&self) -> &Learned {
        &self.0.learned
    }

    /// The rights to move layers in this direction.
    pub(crate) fn slots(&self, direction: Direction) -> Arc<Semaphore> {
        match direction {
            Direction::Download => self.0.downloads.clone(),
            Direction::Upload => self.0.uploads.clone(),
        }
    }
}

/// The query of the next page: `Link: </v2/a/tags/list?n=9&last=x>; rel="next"`. Only the query counts: the rest is known.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.replace('"', "").contains("rel=next");
    target.split_once('?').filter(|_| is_next).map(|(_, query)| query.to_owned())
}
