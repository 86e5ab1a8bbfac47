//! A blob's bytes on their way into a registry.
//!
//! They go out in one stream (`PATCH`), which is closed by naming the digest (`PUT`); a small blob goes with the closing request
//! alone. When the connection breaks, the registry is asked how much it has, and the stream goes on from there. One that refuses so
//! large a request (413; often a proxy before it) gets smaller and smaller ones, but none smaller than it asks for
//! (`OCI-Chunk-Min-Length`).

use crate::Words;
use crate::body::Body;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Cause, Error, Result};
use crate::outgoing::Outgoing;
use crate::request::{Requested, token_key, translated};
use crate::retry::{self, Asked, FORGIVEN};
use crate::transport::Call;
use crate::upload::{Session, Source, misled};
use crate::url::shown;
use bytes::Bytes;
use corten_base::Digest;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Blobs up to this size need no stream of their own.
const SMALL: u64 = 256 << 10;

/// What a request carries once a larger one was refused; a quarter of it if that is too large as well, and so on.
const LARGEST_PART: u64 = 64 << 20;
const SMALLEST_PART: u64 = 64 << 10;

/// One blob, and how far it is.
pub(crate) struct Sending<'a> {
    client: &'a Client,
    request: &'a Requested<'a>,
    source: &'a Source<'a>,
    session: Session,
    credentials: Option<&'a Credentials>,
    /// How many bytes the registry has, and the most it has ever had.
    offset: u64,
    furthest: u64,
    /// How many went out since the last failure.
    sent: u64,
    failures: u32,
    /// The most that a request may carry, once the registry has refused more.
    part: Option<u64>,
}

/// How one part of an upload ended.
enum Failed {
    /// It makes no sense to go on.
    Final(Error),
    /// The registry may have a part of it, and perhaps asks to be left alone so long.
    Broken(Error, Option<Duration>),
    /// The registry does not know of the upload any more.
    Forgotten(Error),
    /// The request carried more than the registry takes at once.
    TooLarge(Error),
}

impl<'a> Sending<'a> {
    pub fn new(
        client: &'a Client,
        request: &'a Requested<'a>,
        source: &'a Source<'a>,
        session: Session,
        credentials: Option<&'a Credentials>,
    ) -> Sending<'a> {
        let (offset, furthest, sent, failures, part) = (0, 0, 0, 0, None);
        Sending { client, request, source, session, credentials, offset, furthest, sent, failures, part }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub async fn run(&mut self) -> Result<Digest> {
        loop {
            self.sent = 0;
            let sent = match self.source.size {
                Some(size) if size <= SMALL && self.part.is_none() => self.close_with_bytes().await,
                _ => match self.send_rest().await {
                    Ok(()) => self.close(Bytes::new()).await,
                    Err(failed) => Err(failed),
                },
            };
            match sent {
                Ok(digest) => return Ok(digest),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::TooLarge(error)) => {
                    let refused = self.part.or(self.source.size.map(|size| size.saturating_sub(self.offset)));
                    self.part = Some(smaller(refused, self.session.least).ok_or(error)?);
                    tracing::debug!(url = shown(&self.session.url), part = self.part, "an upload goes on in parts");
                    self.find_place(false).await?;
                }
                Err(Failed::Broken(error, pause)) => self.resume(error, pause, false).await?,
                Err(Failed::Forgotten(error)) => self.resume(error, None, true).await?,
            }
        }
    }

    /// Gets ready for the next try, if there may be one: those from before so much progress don't count.
    async fn resume(&mut self, error: Error, pause: Option<Duration>, is_forgotten: bool) -> Result<()> {
        let most = self.client.limits().attempts;
        self.failures += 1;
        if self.failures >= most && self.sent < FORGIVEN {
            return Err(error);
        }
        tracing::debug!(url = shown(&self.session.url), offset = self.offset, %error, "an upload is resumed");
        let pause = pause.unwrap_or_else(|| retry::back_off(self.failures, self.client.timeouts().back_off));
        tokio::time::sleep(pause).await;
        self.find_place(is_forgotten).await?;
        if self.offset >= self.furthest.saturating_add(FORGIVEN) {
            self.failures = 0;
        }
        self.furthest = self.furthest.max(self.offset);
        if self.failures >= most { Err(error) } else { Ok(()) }
    }

    /// Asks how much the registry has, and begins anew if it has forgotten.
    async fn find_place(&mut self, is_forgotten: bool) -> Result<()> {
        let there = if is_forgotten { None } else { self.status().await? };
        self.offset = match there {
            Some(there) => there,
            None => {
                self.session = self.client.session(self.request.reference, self.credentials).await?;
                0
            }
        };
        Ok(())
    }

    /// Streams what is missing, in as many requests as it takes.
    async fn send_rest(&mut self) -> Result<(), Failed> {
        if self.left() == Some(0) {
            return Ok(());
        }
        let opened = (self.source.open)(self.offset);
        let unread =
            |error| Failed::Final(self.session.call(Method::PATCH, &self.session.url).failed(Cause::Source(error)));
        let reader = Shared(Arc::new(Mutex::new(opened.map_err(unread)?)));
        loop {
            let sent = self.send_part(reader.clone()).await?;
            let is_over = self.left().map_or(self.part.is_none_or(|part| sent < part), |left| left == 0);
            if is_over {
                return Ok(());
            }
        }
    }

    fn left(&self) -> Option<u64> {
        self.source.size.map(|size| size.saturating_sub(self.offset))
    }

    /// Sends one request's part of what the reader has; how many bytes that were.
    async fn send_part(&mut self, reader: Shared) -> Result<u64, Failed> {
        let most = self.part.unwrap_or(u64::MAX);
        let length = self.left().map(|left| left.min(most));
        let mut call = self.session.call(Method::PATCH, &self.session.url);
        if self.session.is_at_home(&self.session.url) {
            let key = token_key(&call, self.request.scopes(), self.credentials);
            call.authorization = self.client.tokens().get(&key);
        }
        let offset = self.offset;
        if let Some(length) = length
            && let Ok(range) = HeaderValue::from_str(&format!("{offset}-{}", offset + length - 1))
        {
            call.headers.insert(header::CONTENT_RANGE, range);
        }
        let (body, sent) = Outgoing::stream(Box::new(reader.take(most)), length);
        let progress = |bytes| if (self.source.progress)(offset + bytes) { Ok(()) } else { Err(Cause::Cancelled) };
        let answered = self.client.transport().stream(&call, body, &sent, &progress).await;
        self.sent += sent.bytes();
        let response = match answered {
            Ok(response) => response,
            Err(cause @ (Cause::Source(_) | Cause::Cancelled)) => return Err(Failed::Final(call.failed(cause))),
            Err(cause) => return Err(Failed::Broken(call.failed(cause), None)),
        };
        let response = checked(self.client.words(), response, self.request).await?;
        self.session.advance(&response).map_err(Failed::Final)?;
        let end = offset + sent.bytes();
        match received(response.headers()) {
            // What it has not taken of a stream that was sent to its end comes again.
            Some(there) if there < end => Err(Failed::Broken(call.failed(Cause::Range(end)), None)),
            _ => {
                self.offset = end;
                Ok(sent.bytes())
            }
        }
    }

    async fn close_with_bytes(&self) -> Result<Digest, Failed> {
        let mut bytes = Vec::new();
        let read = (self.source.open)(0).and_then(|reader| reader.take(SMALL).read_to_end(&mut bytes));
        if let Err(error) = read {
            let call = self.session.call(Method::PUT, &self.session.url);
            return Err(Failed::Final(call.failed(Cause::Source(error))));
        }
        self.close(bytes.into()).await
    }

    /// Says which blob it is, with the last of its bytes.
    async fn close(&self, bytes: Bytes) -> Result<Digest, Failed> {
        let unknown = || Error::Config("an upload ended without a digest".to_owned());
        let (digest, _) = (self.source.identity)().ok_or_else(|| Failed::Final(unknown()))?;
        let session = &self.session;
        let separator = if session.url.query().is_some() { '&' } else { '?' };
        let url = format!("{}{separator}digest={digest}", session.url).parse();
        let url: Uri = url.map_err(|_| Failed::Final(misled("the location of an upload is malformed")))?;
        let mut call = session.call(Method::PUT, &url);
        call.body = bytes;
        let response = self.in_session(&call).await.map_err(Failed::Final)?;
        checked(self.client.words(), response, self.request).await?;
        Ok(digest)
    }

    /// How many bytes the registry has; none if it has forgotten the upload.
    async fn status(&mut self) -> Result<Option<u64>> {
        let call = self.session.call(Method::GET, &self.session.url);
        let response = self.in_session(&call).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        self.session.advance(&response)?;
        // `0-0` may mean one byte or none: the first one is sent again by beginning anew.
        Ok(received(response.headers()).filter(|&there| there > 1))
    }

    /// Sends a request of an upload: with credentials, unless the registry has sent us elsewhere.
    async fn in_session(&self, call: &Call) -> Result<Response<Body>> {
        if self.session.is_at_home(&call.url) {
            return self.client.authorized(call, self.request, self.credentials).await;
        }
        self.client.transport().call(call).await
    }
}

/// A reader that several requests draw on in turn.
#[derive(Clone)]
struct Shared(Arc<Mutex<Box<dyn Read + Send>>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

/// What to send at once where so much, if that is known, was refused; none if less isn't taken either.
fn smaller(refused: Option<u64>, least: u64) -> Option<u64> {
    let refused = refused.unwrap_or(u64::MAX);
    let mut part = LARGEST_PART;
    while part >= refused {
        part /= 4;
    }
    Some(part.max(least)).filter(|&part| part >= SMALLEST_PART && part < refused)
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
        (413, _) => Failed::TooLarge(error),
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

    #[test]
    fn parts() {
        let check = |refused, least, expect| assert_eq!(smaller(refused, least), expect, "{refused:?} {least}");
        check(None, 0, Some(64 << 20));
        check(Some(1 << 30), 0, Some(64 << 20));
        check(Some(64 << 20), 0, Some(16 << 20));
        check(Some(5_000_000), 0, Some(4 << 20));
        check(Some(64 << 10), 0, None);
        check(Some(4 << 20), 3 << 20, Some(3 << 20));
        check(Some(3 << 20), 3 << 20, None);
        check(Some(2 << 20), u64::MAX, None);
        check(None, u64::MAX, None);
    }
}
