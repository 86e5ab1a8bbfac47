//! Blobs and manifests into a registry: the distribution specification, "Push".
//!
//! A blob goes out in one stream (`PATCH`), which is closed by naming its digest (`PUT`); a small one goes with the closing
//! request alone. When the connection breaks, the registry is asked how much it has, and the stream goes on from there.
//! Nothing is asked of mirrors.

use crate::Words;
use crate::body::Body;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Cause, Error, Result};
use crate::outgoing::Outgoing;
use crate::request::{Action, Requested, content_digest, token_key, translated};
use crate::retry::{self, Asked};
use crate::transport::Call;
use crate::url::{join, same_origin, shown};
use bytes::Bytes;
use corten_base::{Digest, Reference};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

/// Blobs up to this size need no stream of their own.
const SMALL: u64 = 256 * 1024;

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
    url: Uri,
    /// How it was begun: what is meant for that host goes to no other.
    begun: Box<Call>,
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

/// How one part of an upload ended.
enum Failed {
    /// It makes no sense to go on.
    Final(Error),
    /// The registry may have a part of it, and perhaps asks to be left alone so long.
    Broken(Error, Option<Duration>),
    /// The registry does not know of the upload any more.
    Forgotten(Error),
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
        let mut session = match session {
            Some(session) => session,
            None => self.session(reference, credentials).await?,
        };
        let request = Requested::new(reference, Action::Push, Method::PATCH, "blobs/uploads/".to_owned());
        let sent = self.send_all(&request, source, &mut session, credentials).await;
        if sent.is_err() {
            self.take_back(&request, &session, credentials).await;
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

    /// Stores a manifest or index under a tag or its digest. The answer is its digest as the registry has it, if it says so.
    pub async fn put_manifest(
        &self,
        reference: &Reference,
        name: &str,
        media_type: &str,
        bytes: Bytes,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Digest>> {
        let mut request = Requested::new(reference, Action::Push, Method::PUT, format!("manifests/{name}"));
        let media_type = HeaderValue::from_str(media_type);
        request.headers.insert(
            header::CONTENT_TYPE,
            media_type.map_err(|_| Error::Config("a manifest's media type is malformed".to_owned()))?,
        );
        request.body = bytes;
        let (response, _) = self.request_upstream(&request, credentials).await?;
        if !response.status().is_success() {
            return Err(translated(self.words(), response, &request).await);
        }
        Ok(content_digest(response.headers()))
    }

    /// Begins an upload.
    async fn session(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Session> {
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

    async fn send_all(
        &self,
        request: &Requested<'_>,
        source: &Source<'_>,
        session: &mut Session,
        credentials: Option<&Credentials>,
    ) -> Result<Digest> {
        let (mut offset, mut failures) = (0, 0);
        loop {
            let done = match source.size {
                Some(size) if size <= SMALL => self.close_with_bytes(request, source, session, credentials).await,
                _ => match self.send_rest(request, source, session, offset, credentials).await {
                    Ok(()) => self.close(request, source, session, Bytes::new(), credentials).await,
                    Err(failed) => Err(failed),
                },
            };
            let (error, is_forgotten, pause) = match done {
                Ok(digest) => return Ok(digest),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Broken(error, pause)) => (error, false, pause),
                Err(Failed::Forgotten(error)) => (error, true, None),
            };
            failures += 1;
            if failures >= self.limits().attempts {
                return Err(error);
            }
            tracing::debug!(url = shown(&session.url), offset, %error, "an upload is resumed");
            let pause = pause.unwrap_or_else(|| retry::back_off(failures, self.timeouts().back_off));
            tokio::time::sleep(pause).await;
            let there = if is_forgotten { None } else { self.status(request, session, credentials).await? };
            offset = match there {
                Some(there) => there,
                None => {
                    *session = self.session(request.reference, credentials).await?;
                    0
                }
            };
        }
    }

    /// Streams what is missing from an offset on.
    async fn send_rest(
        &self,
        request: &Requested<'_>,
        source: &Source<'_>,
        session: &mut Session,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<(), Failed> {
        let left = source.size.map(|size| size.saturating_sub(offset));
        if left == Some(0) {
            return Ok(());
        }
        let mut call = session.call(Method::PATCH, &session.url);
        if session.is_at_home(&session.url) {
            call.authorization = self.tokens().get(&token_key(&call, request.scopes(), credentials));
        }
        if let Some(size) = source.size
            && let Ok(range) = HeaderValue::from_str(&format!("{offset}-{}", size - 1))
        {
            call.headers.insert(header::CONTENT_RANGE, range);
        }
        let unread = |error| Failed::Final(call.failed(Cause::Source(error)));
        let (body, sent) = Outgoing::stream((source.open)(offset).map_err(unread)?, left);
        let progress = |bytes| if (source.progress)(offset + bytes) { Ok(()) } else { Err(Cause::Cancelled) };
        let response = match self.transport().stream(&call, body, &sent, &progress).await {
            Ok(response) => response,
            Err(cause @ (Cause::Source(_) | Cause::Cancelled)) => return Err(Failed::Final(call.failed(cause))),
            Err(cause) => return Err(Failed::Broken(call.failed(cause), None)),
        };
        let response = checked(self.words(), response, request).await?;
        session.advance(&response).map_err(Failed::Final)?;
        match received(response.headers()) {
            // What it has not taken of a stream that was sent to its end comes again.
            Some(there) if there < offset + sent.bytes() => {
                Err(Failed::Broken(call.failed(Cause::Range(offset + sent.bytes())), None))
            }
            _ => Ok(()),
        }
    }

    async fn close_with_bytes(
        &self,
        request: &Requested<'_>,
        source: &Source<'_>,
        session: &Session,
        credentials: Option<&Credentials>,
    ) -> Result<Digest, Failed> {
        let mut bytes = Vec::new();
        let read = (source.open)(0).and_then(|reader| reader.take(SMALL).read_to_end(&mut bytes));
        if let Err(error) = read {
            let call = session.call(Method::PUT, &session.url);
            return Err(Failed::Final(call.failed(Cause::Source(error))));
        }
        self.close(request, source, session, bytes.into(), credentials).await
    }

    /// Says which blob it is, with the last of its bytes.
    async fn close(
        &self,
        request: &Requested<'_>,
        source: &Source<'_>,
        session: &Session,
        bytes: Bytes,
        credentials: Option<&Credentials>,
    ) -> Result<Digest, Failed> {
        let unknown = || Error::Config("an upload ended without a digest".to_owned());
        let (digest, _) = (source.identity)().ok_or_else(|| Failed::Final(unknown()))?;
        let separator = if session.url.query().is_some() { '&' } else { '?' };
        let url = format!("{}{separator}digest={digest}", session.url).parse();
        let url: Uri = url.map_err(|_| Failed::Final(misled("the location of an upload is malformed")))?;
        let mut call = session.call(Method::PUT, &url);
        call.body = bytes;
        let response = self.in_session(session, &call, request, credentials).await.map_err(Failed::Final)?;
        checked(self.words(), response, request).await?;
        Ok(digest)
    }

    /// How many bytes the registry has; none if it has forgotten the upload.
    async fn status(
        &self,
        request: &Requested<'_>,
        session: &mut Session,
        credentials: Option<&Credentials>,
    ) -> Result<Option<u64>> {
        let call = session.call(Method::GET, &session.url);
        let response = self.in_session(session, &call, request, credentials).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        session.advance(&response)?;
        // `0-0` may mean one byte or none: the first one is sent again by beginning anew.
        Ok(received(response.headers()).filter(|&there| there > 1))
    }

    /// Sends a request of an upload: with credentials, unless the registry has sent us elsewhere.
    async fn in_session(
        &self,
        session: &Session,
        call: &Call,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>> {
        if session.is_at_home(&call.url) {
            return self.authorized(call, request, credentials).await;
        }
        self.transport().call(call).await
    }
}

impl Session {
    fn of(response: &Response<Body>, begun: Call) -> Result<Session> {
        let mut session = Session { url: begun.url.clone(), begun: Box::new(begun) };
        if response.headers().get(header::LOCATION).is_none() {
            return Err(misled("the registry did not say where to upload to"));
        }
        session.advance(response)?;
        Ok(session)
    }

    /// Follows the location of an answer, if it has one.
    fn advance(&mut self, response: &Response<Body>) -> Result<()> {
        let Some(location) = response.headers().get(header::LOCATION) else { return Ok(()) };
        let next = location.to_str().ok().and_then(|location| join(&self.url, location));
        let next = next.ok_or_else(|| misled("the location of an upload is malformed"))?;
        if self.url.scheme_str() == Some("https") && next.scheme_str() == Some("http") {
            return Err(misled("the location of an upload leads from https to http"));
        }
        self.url = next;
        Ok(())
    }

    fn is_at_home(&self, url: &Uri) -> bool {
        same_origin(&self.begun.url, url)
    }

    fn call(&self, method: Method, url: &Uri) -> Call {
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

fn misled(text: &str) -> Error {
    Error::Refused { code: "upload invalid".to_owned(), message: text.to_owned(), status: 500 }
}

/// What a refusal of a part means for the whole.
async fn checked(words: Words, response: Response<Body>, request: &Requested<'_>) -> Result<Response<Body>, Failed> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let asked = retry::asked(response.headers(), SystemTime::now());
    let error = translated(words, response, request).await;
    Err(match (status.as_u16(), asked) {
        (404, _) => Failed::Forgotten(error),
        (408 | 429 | 500..=599, Asked::TooMuch) => Failed::Final(error),
        (408 | 429 | 500..=599, Asked::Wait(pause)) => Failed::Broken(error, Some(pause)),
        (401 | 408 | 416 | 429 | 499 | 500..=599, _) => Failed::Broken(error, None),
        _ => Failed::Final(error),
    })
}

/// How many bytes `Range: 0-9` stands for.
fn received(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RANGE)?.to_str().ok()?;
    let last = value.strip_prefix("bytes=").unwrap_or(value).split_once('-')?.1.trim();
    last.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |value: &str, expect| {
            let headers = [(header::RANGE, value.parse().unwrap())].into_iter().collect();
            assert_eq!(received(&headers), expect, "{value}");
        };
        check("0-9", Some(10));
        check("bytes=0-9", Some(10));
        check("0-18446744073709551615", None);
        check("none", None);
    }
}
