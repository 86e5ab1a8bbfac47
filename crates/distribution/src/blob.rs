//! A blob's bytes, across broken connections.

use crate::body::Body;
use crate::client::{Client, Descriptor};
use crate::credentials::Credentials;
use crate::error::{Cause, Error, Result};
use crate::request::{Requested, translated};
use crate::retry::{self, FORGIVEN};
use crate::route::Answered;
use bytes::Bytes;
use corten_base::Reference;
use http::{HeaderMap, Response, StatusCode, header};
use std::time::{Duration, Instant};

/// Bytes per second that a body has to bring on average over the time without progress that is allowed...
const SLOWEST: u64 = 100;
/// ...and over so many times as long. What is slower keeps a layer's slot from others for days. It must be less than makes up for
/// a failure.
const SLOWEST_FOR_LONG: u64 = 1024;
const LONG: u32 = 10;

/// The bytes of one blob in order. A connection that breaks or stalls is made anew where it ended, a few times.
pub struct BlobStream {
    client: Client,
    reference: Reference,
    blob: Descriptor,
    credentials: Option<Credentials>,
    body: Option<Body>,
    /// The mirror that it comes from, if it is one, and the last that some of the blob came from.
    mirror: Option<String>,
    suspect: Option<String>,
    /// Where in the blob the next byte belongs.
    position: u64,
    /// Bytes to pass over: the registry began at the start although asked not to.
    surplus: u64,
    failures: u32,
    since_failure: u64,
    pace: Pace,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobStream({} at {})", self.blob.digest, self.position)
    }
}

impl BlobStream {
    pub(crate) async fn open(
        client: Client,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<BlobStream> {
        let mut stream = BlobStream {
            pace: Pace::new(client.timeouts().stall),
            client,
            reference: reference.clone(),
            blob: blob.clone(),
            credentials: credentials.cloned(),
            body: None,
            mirror: None,
            suspect: None,
            position: offset,
            surplus: 0,
            failures: 0,
            since_failure: 0,
        };
        if offset < blob.size || blob.size == 0 {
            stream.connect().await?;
        }
        Ok(stream)
    }

    /// Where in the blob the next piece belongs.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The blob's size.
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// To be told when the bytes turned out wrong. Whether somebody else can be asked for them: some came from a mirror, which is
    /// left alone for a while.
    pub fn reject(&self) -> bool {
        let Some(mirror) = &self.suspect else { return false };
        self.client.rest(mirror, &format_args!("what it has sent is not {}", self.blob.digest));
        true
    }

    /// The next piece; none when the blob is complete.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let cause = match self.read().await? {
                // One that was all surplus is followed by the next.
                Ok(Some(piece)) if piece.is_empty() => continue,
                Ok(Some(piece)) => return Ok(Some(piece)),
                Ok(None) if self.position == self.blob.size => return Ok(None),
                Ok(None) => Cause::Closed,
                Err(cause) => cause,
            };
            self.reconnect(cause).await?;
        }
    }

    /// One read from the present connection, less what was to be passed over: a final error outside, one of the connection
    /// inside.
    async fn read(&mut self) -> Result<Result<Option<Bytes>, Cause>> {
        let Some(body) = &mut self.body else { return Ok(Ok(None)) };
        let begun = Instant::now();
        let piece = match body.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                self.body = None;
                return Ok(Ok(None));
            }
            Err(cause) => return Ok(Err(cause)),
        };
        if let Err(cause) = self.pace.record(begun.elapsed(), piece.len() as u64) {
            return Ok(Err(cause));
        }
        let surplus = usize::try_from(self.surplus).unwrap_or(usize::MAX).min(piece.len());
        self.surplus -= surplus as u64;
        let piece = piece.slice(surplus..);
        self.position += piece.len() as u64;
        self.since_failure += piece.len() as u64;
        if self.position > self.blob.size {
            let digest = self.blob.digest.clone();
            return Err(Error::Length { digest, expected: self.blob.size, actual: self.position });
        }
        Ok(Ok(Some(piece)))
    }

    async fn reconnect(&mut self, cause: Cause) -> Result<()> {
        self.body = None;
        match self.mirror.take() {
            _ if self.since_failure >= FORGIVEN => self.failures = 0,
            // It would be asked first again.
            Some(mirror) => self.client.rest(&mirror, &cause),
            None => {}
        }
        self.since_failure = 0;
        self.failures += 1;
        let is_final = !cause.is_transient() || self.failures >= self.client.limits().attempts;
        if is_final {
            let url = Requested::blob(&self.reference, &self.blob.digest, 0).shown();
            return Err(Error::Request { method: "Get", url, source: cause });
        }
        tracing::debug!(blob = %self.blob.digest, position = self.position, %cause, "resuming");
        tokio::time::sleep(retry::back_off(self.failures, self.client.timeouts().back_off)).await;
        self.connect().await
    }

    /// Asks for what is missing. What a mirror has got wrong is asked of the next.
    async fn connect(&mut self) -> Result<()> {
        let reference = self.reference.clone();
        let request = Requested::blob(&reference, &self.blob.digest, self.position);
        loop {
            let Answered { response, mirror } = self.client.request(&request, self.credentials.as_ref()).await?;
            match (self.accept(response, &request).await, mirror) {
                (Ok(()), mirror) => {
                    self.suspect = mirror.clone().or(self.suspect.take());
                    self.mirror = mirror;
                    return Ok(());
                }
                (Err(error), Some(mirror)) if self.failures + 1 < self.client.limits().attempts => {
                    self.failures += 1;
                    self.client.rest(&mirror, &error);
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    async fn accept(&mut self, response: Response<Body>, request: &Requested<'_>) -> Result<()> {
        self.surplus = match response.status() {
            StatusCode::OK => self.position,
            StatusCode::PARTIAL_CONTENT if range_start(response.headers()) == Some(self.position) => 0,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                let source = Cause::Range(self.position);
                return Err(Error::Request { method: "Get", url: request.shown(), source });
            }
            _ => return Err(translated(self.client.words(), response, request).await),
        };
        self.check_length(&response)?;
        self.body = Some(response.into_body());
        Ok(())
    }

    /// A length that can't be right needs no download to be refused.
    fn check_length(&self, response: &Response<Body>) -> Result<()> {
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let actual = length.map(|length: u64| length.saturating_add(self.position - self.surplus));
        match actual {
            Some(actual) if actual != self.blob.size => {
                Err(Error::Length { digest: self.blob.digest.clone(), expected: self.blob.size, actual })
            }
            _ => Ok(()),
        }
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes")?.trim_start().split('-').next()?.trim().parse().ok()
}

/// Watches that a body comes at some speed. Only the time spent waiting for it counts, not the reader's own.
pub(crate) struct Pace([Window; 2]);

struct Window {
    length: Duration,
    slowest: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// For bodies that may be so long without progress.
    pub fn new(stall: Duration) -> Pace {
        let window = |length, slowest| Window { length, slowest, waited: Duration::ZERO, bytes: 0 };
        Pace([window(stall, SLOWEST), window(stall * LONG, SLOWEST_FOR_LONG)])
    }

    pub fn record(&mut self, waited: Duration, bytes: u64) -> Result<(), Cause> {
        self.0.iter_mut().map(|window| window.record(waited, bytes)).fold(Ok(()), Result::and)
    }
}

impl Window {
    fn record(&mut self, waited: Duration, bytes: u64) -> Result<(), Cause> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.length {
            return Ok(());
        }
        let is_slow = (self.bytes as f64) < self.waited.as_secs_f64() * self.slowest as f64;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if is_slow { Err(Cause::Timeout { what: "a trickling body", limit: self.length }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |value: &str, expect| {
            let headers = [(header::CONTENT_RANGE, value.parse().unwrap())].into_iter().collect();
            assert_eq!(range_start(&headers), expect, "{value}");
        };
        check("bytes 5-9/10", Some(5));
        check("bytes 5-9/*", Some(5));
        check("bytes */10", None);
        check("lines 1-2", None);
    }

    #[test]
    fn trickles() {
        let mut pace = Pace::new(Duration::from_secs(10));
        for _ in 0..9 {
            assert!(pace.record(Duration::from_secs(1), 1).is_ok());
        }
        assert!(pace.record(Duration::from_secs(1), 1).is_err());
        // Enough for a minute, not for ten.
        let ends = (0..200).position(|_| pace.record(Duration::from_secs(1), 1000).is_err());
        assert_eq!(ends, Some(89), "of a hundred seconds ten are over");
        for _ in 0..500 {
            assert!(pace.record(Duration::from_secs(1), 1025).is_ok());
        }
    }
}
