//! Blobs and manifests into a registry: the distribution specification, "Push".
//!
//! How a blob's bytes go out is in `sending`; what a manifest's `subject` asks for, in `referrers`. Nothing is asked of mirrors.

use crate::body::Body;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::referrers::Referrer;
use crate::request::{Action, Requested, content_digest, token_key, translated};
use crate::sending::Sending;
use crate::transport::Call;
use crate::url::{join, same_origin, shown};
use bytes::Bytes;
use corten_base::{Digest, Reference};
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use std::io::{self, Read};
use std::time::Duration;

/// How long a registry may take to hear that an upload is given up.
const FAREWELL: Duration = Duration::from_secs(2);

/// A blob to upload.
pub struct Source<'a> {
    /// Opens its bytes from an offset on. They are the same each time.
    pub open: &'a (dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync),
    /// The number of its bytes, where it is known before they are read.
    pub size: Option<u64>,
    /// What it is and has; asked for when all bytes were read.
    pub identity: &'a (dyn Fn() -> Option<(Digest, u64)> + Sync),
    /// Told now and then how many bytes have gone out; it must not block. `false` ends the upload.
    pub progress: &'a (dyn Fn(u64) -> bool + Sync),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?} bytes)", self.size)
    }
}

/// An upload that the registry has begun.
#[derive(Clone)]
pub struct Session {
    /// Where the next request goes.
    pub(crate) url: Uri,
    /// How it was begun: what is meant for that host goes to no other.
    begun: Box<Call>,
    /// How many bytes a request must carry at least, but for the last.
    pub(crate) least: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", shown(&self.url))
    }
}

/// What became of a mount.
#[derive(Debug)]
pub enum Mounted {
    /// The blob is in the repository.
    Done,
    /// The registry would rather have the bytes.
    Upload(Session),
}

impl Client {
    /// Whether a repository has a blob.
    pub async fn has_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<bool> {
        let request = Requested::new(reference, Action::Push, Method::HEAD, format!("blobs/{digest}"));
        let (response, _) = self.request_upstream(&request, credentials).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(translated(self.words(), response, &request).await),
        }
    }

    /// Asks the registry to take a blob from another of its repositories.
    pub async fn mount(
        &self,
        reference: &Reference,
        digest: &Digest,
        from: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Mounted> {
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        let mut request = Requested::new(reference, Action::Push, Method::POST, path);
        request.source = Some(from.to_owned());
        let (response, begun) = self.begin(&request, credentials).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mounted::Done),
            _ => Session::of(&response, begun).map(Mounted::Upload),
        }
    }

    /// Uploads a blob, in a session that has begun already if there is one.
    pub async fn upload(
        &self,
        reference: &Reference,
        source: &Source<'_>,
        session: Option<Session>,
        credentials: Option<&Credentials>,
    ) -> Result<Digest> {
        let session = match session {
            Some(session) => session,
            None => self.session(reference, credentials).await?,
        };
        let request = Requested::new(reference, Action::Push, Method::PATCH, "blobs/uploads/".to_owned());
        let mut sending = Sending::new(self, &request, source, session, credentials);
        let sent = sending.run().await;
        if sent.is_err() {
            self.take_back(&request, sending.session(), credentials).await;
        }
        sent
    }

    /// Gives up an upload that a mount has begun.
    pub async fn abandon(&self, reference: &Reference, session: &Session, credentials: Option<&Credentials>) {
        let request = Requested::new(reference, Action::Push, Method::DELETE, "blobs/uploads/".to_owned());
        self.take_back(&request, session, credentials).await;
    }

    /// Tells the registry that no more comes. It would find out by itself, days later: one try is enough.
    async fn take_back(&self, request: &Requested<'_>, session: &Session, credentials: Option<&Credentials>) {
        let mut call = session.call(Method::DELETE, &session.url);
        if session.is_at_home(&session.url) {
            call.authorization = self.tokens().get(&token_key(&call, request.scopes(), credentials));
        }
        drop(tokio::time::timeout(FAREWELL, self.transport().once(&call)).await);
    }

    /// Stores a manifest or index under a tag or its digest. The answer is its digest as the registry has it, if it says so. Where
    /// a manifest is about another one (`subject`) and the registry keeps no list of such, this does.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        name: &str,
        media_type: &str,
        bytes: Bytes,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Digest>> {
        let referrer = Referrer::of(media_type, &bytes);
        let response = self.put_document(reference, name, media_type, bytes, credentials).await?;
        let digest = content_digest(response.headers());
        if let Some(referrer) = referrer.filter(|_| !response.headers().contains_key("oci-subject")) {
            self.list_referrer(reference, &referrer, credentials).await?;
        }
        Ok(digest)
    }

    /// The same without a look at what it is about.
    pub(crate) async fn put_document(
        &self,
        reference: &Reference,
        name: &str,
        media_type: &str,
        bytes: Bytes,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>> {
        let mut request = Requested::new(reference, Action::Push, Method::PUT, format!("manifests/{name}"));
        let media_type = HeaderValue::from_str(media_type);
        request.headers.insert(
            header::CONTENT_TYPE,
            media_type.map_err(|_| Error::Config("a manifest's media type is malformed".to_owned()))?,
        );
        request.body = bytes;
        let (response, _) = self.request_upstream(&request, credentials).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(translated(self.words(), response, &request).await),
        }
    }

    /// Begins an upload.
    pub(crate) async fn session(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Session> {
        let request = Requested::new(reference, Action::Push, Method::POST, "blobs/uploads/".to_owned());
        let (response, begun) = self.begin(&request, credentials).await?;
        Session::of(&response, begun)
    }

    async fn begin(
        &self,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<(Response<Body>, Call)> {
        let (response, begun) = self.request_upstream(request, credentials).await?;
        if !matches!(response.status(), StatusCode::CREATED | StatusCode::ACCEPTED) {
            return Err(translated(self.words(), response, request).await);
        }
        Ok((response, begun))
    }
}

impl Session {
    fn of(response: &Response<Body>, begun: Call) -> Result<Session> {
        let least = response.headers().get("oci-chunk-min-length").and_then(|least| least.to_str().ok()?.parse().ok());
        let mut session = Session { url: begun.url.clone(), begun: Box::new(begun), least: least.unwrap_or(0) };
        if response.headers().get(header::LOCATION).is_none() {
            return Err(misled("the registry did not say where to upload to"));
        }
        session.advance(response)?;
        Ok(session)
    }

    /// Follows the location of an answer, if it has one.
    pub(crate) fn advance(&mut self, response: &Response<Body>) -> Result<()> {
        let Some(location) = response.headers().get(header::LOCATION) else { return Ok(()) };
        let next = location.to_str().ok().and_then(|location| join(&self.url, location));
        let next = next.ok_or_else(|| misled("the location of an upload is malformed"))?;
        if self.url.scheme_str() == Some("https") && next.scheme_str() == Some("http") {
            return Err(misled("the location of an upload leads from https to http"));
        }
        self.url = next;
        Ok(())
    }

    pub(crate) fn is_at_home(&self, url: &Uri) -> bool {
        same_origin(&self.begun.url, url)
    }

    pub(crate) fn call(&self, method: Method, url: &Uri) -> Call {
        let mut call = Call { method, ..Call::get(url.clone()) };
        if self.is_at_home(url) {
            call.own_headers = self.begun.own_headers.clone();
            call.trust = self.begun.trust.clone();
        }
        if matches!(call.method, Method::PATCH | Method::PUT) {
            call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        call
    }
}

pub(crate) fn misled(text: &str) -> Error {
    Error::Refused { code: "upload invalid".to_owned(), message: text.to_owned(), status: 500 }
}
