//! One HTTP request with everything around it: connection, redirects, tries.

use crate::body::Body;
use crate::connect::Dialer;
use crate::credentials::Secret;
use crate::error::{Cause, Error, Result};
use crate::hosts::Trust;
use crate::outgoing::{Outgoing, Sent};
use crate::pool::{Connection, Pool};
use crate::retry;
use crate::url::{Origin, join, parts, same_origin, shown};
use crate::{Limits, RegistryConfig, Timeouts, Words};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, Uri};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// How often something is sent that may work a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    /// As often as the settings say.
    Usual,
    /// Once: somebody else can be asked.
    One,
}

/// A request that can be sent several times.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub url: Uri,
    pub headers: HeaderMap,
    /// Headers for the URL's own host only.
    pub own_headers: HeaderMap,
    /// Whom that host may be.
    pub trust: Trust,
    pub body: Bytes,
    /// Goes to the URL's own host only.
    pub authorization: Option<Secret>,
    /// Whether what is said of insecure registries holds for the hosts on the way.
    pub is_registry: bool,
    /// Whether a redirect may lead from https to http: for content that is checked against its digest, or that nobody
    /// expects to be.
    pub may_downgrade: bool,
    pub tries: Tries,
}

impl Call {
    pub fn get(url: Uri) -> Call {
        Call {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            own_headers: HeaderMap::new(),
            trust: Trust::default(),
            body: Bytes::new(),
            authorization: None,
            is_registry: true,
            may_downgrade: false,
            tries: Tries::Usual,
        }
    }

    /// To a server that is no registry.
    pub fn web(url: Uri) -> Call {
        Call { is_registry: false, may_downgrade: true, ..Call::get(url) }
    }

    /// Forgets what was meant for the host that it is leaving.
    fn leave(&mut self) {
        self.authorization = None;
        self.own_headers = HeaderMap::new();
        self.trust = Trust::default();
    }

    /// The method as Go's errors write it.
    pub fn verb(&self) -> &'static str {
        match self.method {
            Method::HEAD => "Head",
            Method::POST => "Post",
            Method::PUT => "Put",
            Method::PATCH => "Patch",
            Method::DELETE => "Delete",
            _ => "Get",
        }
    }

    pub fn failed(&self, source: Cause) -> Error {
        // A connection that failed says nothing of the request: Docker, which asks for the registry's root first, names that.
        let (mut method, mut url) = (self.verb(), shown(&self.url));
        if source.is_connecting()
            && let Some(at) = url.find("/v2/")
        {
            url.truncate(at + 4);
            method = "Get";
        }
        Error::Request { method, url, source }
    }
}

pub(crate) struct Transport {
    config: RegistryConfig,
    pub dialer: Dialer,
    pool: Arc<Pool>,
}

impl Transport {
    pub fn new(config: RegistryConfig) -> Transport {
        Transport { dialer: Dialer::new(&config), pool: Arc::default(), config }
    }

    pub fn timeouts(&self) -> &Timeouts {
        &self.config.timeouts
    }

    pub fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Whether registries may be spoken to without TLS that may lack it.
    pub fn may_be_plain(&self) -> bool {
        self.config.plain_http
    }

    /// In whose words refusals are told.
    pub fn words(&self) -> Words {
        self.config.words
    }

    /// Whether this host may be spoken to without a valid certificate, or without TLS.
    pub async fn is_insecure(&self, host: &str, port: Option<u16>) -> bool {
        if self.config.is_insecure(host, port, &[]) {
            return true;
        }
        // Addresses matter for loopback, which needs no server to be asked, and where networks are configured.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_local = bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok();
        if !is_local && !self.config.has_networks() {
            return false;
        }
        let addresses = self.dialer.look_up(host).await.unwrap_or_default();
        self.config.is_insecure(host, port, &addresses)
    }

    /// Sends, follows redirects, and tries again what may work a moment later. The last answer is the result, whatever its
    /// status.
    pub async fn call(&self, call: &Call) -> Result<Response<Body>> {
        let first = self.config.timeouts.back_off;
        let most = if call.tries == Tries::One { 1 } else { self.config.limits.attempts };
        let mut attempt = 1;
        loop {
            let delay = match self.follow(call).await {
                Ok(response) => {
                    let tries = retry::Tries { attempt, most, first };
                    match retry::after_status(response.status(), response.headers(), tries, SystemTime::now()) {
                        Some(delay) => delay,
                        None => return Ok(response),
                    }
                }
                Err(cause) if cause.is_transient() && !cause.is_connecting() && attempt < most => {
                    retry::back_off(attempt, first)
                }
                Err(cause) => return Err(call.failed(cause)),
            };
            tracing::debug!(url = shown(&call.url), attempt, ?delay, "trying again");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    /// Sends without a second try.
    pub async fn once(&self, call: &Call) -> Result<Response<Body>, Cause> {
        self.follow(call).await
    }

    async fn follow(&self, call: &Call) -> Result<Response<Body>, Cause> {
        let mut call = call.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send(&call).await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect || !matches!(call.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or(Cause::Redirect("it has no location"))?;
            let next = join(&call.url, location).ok_or(Cause::Redirect("its location is malformed"))?;
            let is_downgrade = call.url.scheme_str() == Some("https") && next.scheme_str() == Some("http");
            if is_downgrade && !call.may_downgrade {
                return Err(Cause::Redirect("it leads from https to http"));
            }
            if !same_origin(&call.url, &next) {
                call.leave();
            }
            call.url = next;
        }
        Err(Cause::Redirects)
    }

    /// Sends a stream once: no redirect, no second try. `progress` is told now and then how much has gone out; what it
    /// answers may end the request.
    pub async fn stream(
        &self,
        call: &Call,
        body: Outgoing,
        sent: &Sent,
        progress: &(dyn Fn(u64) -> Result<(), Cause> + Sync),
    ) -> Result<Response<Body>, Cause> {
        let origin = self.origin(call).await?;
        let connection = match self.pool.take(&origin) {
            Some(connection) => connection,
            None => Connection::open(&self.dialer, &origin).await?,
        };
        let answer = self.exchange(call, &origin, connection, body, Some((sent, progress))).await;
        match sent.take_failure() {
            Some(failure) if answer.is_err() => Err(Cause::Source(failure)),
            _ => answer,
        }
    }

    async fn origin(&self, call: &Call) -> Result<Origin, Cause> {
        let (is_https, host, port) = parts(&call.url).ok_or(Cause::Redirect("its location is malformed"))?;
        let mut trust = Trust::default();
        if is_https {
            trust = call.trust.clone();
            trust.is_blind |= call.is_registry && self.is_insecure(host, port).await;
        }
        let port = port.unwrap_or(if is_https { 443 } else { 80 });
        Ok(Origin { is_https, host: host.to_owned(), port, trust })
    }

    async fn send(&self, call: &Call) -> Result<Response<Body>, Cause> {
        let origin = self.origin(call).await?;
        let body = || Outgoing::whole(call.body.clone());
        // A kept connection may have been closed just now; that says nothing about the registry.
        while let Some(connection) = self.pool.take(&origin) {
            match self.exchange(call, &origin, connection, body(), None).await {
                Err(Cause::Closed) => {}
                done => return done,
            }
        }
        let connection = Connection::open(&self.dialer, &origin).await?;
        self.exchange(call, &origin, connection, body(), None).await
    }

    async fn exchange(
        &self,
        call: &Call,
        origin: &Origin,
        mut connection: Connection,
        body: Outgoing,
        watched: Option<Watched<'_>>,
    ) -> Result<Response<Body>, Cause> {
        let request = self.request(call, origin, &connection, body)?;
        let limit = self.config.timeouts.headers;
        let answer = connection.send(request);
        let response = match watched {
            Some(watched) => watch(answer, watched, limit).await?,
            None => tokio::time::timeout(limit, answer).await.map_err(|_| late(limit))??,
        };
        let (parts, incoming) = response.into_parts();
        let stall = self.config.timeouts.stall;
        let body = Body::new(incoming, connection, self.pool.clone(), origin.clone(), stall).await;
        Ok(Response::from_parts(parts, body))
    }

    fn request(
        &self,
        call: &Call,
        origin: &Origin,
        connection: &Connection,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, Cause> {
        let malformed = |_| Cause::Token("a header's value is malformed".to_owned());
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        let target = call.url.path_and_query().map_or("/", |target| target.as_str());
        let mut headers = call.headers.clone();
        headers.extend(call.own_headers.clone());
        let value = |text: &str| HeaderValue::from_str(text);
        headers.insert(header::HOST, value(&origin.authority()).map_err(malformed)?);
        headers.insert(header::USER_AGENT, value(&self.config.user_agent).map_err(malformed)?);
        if let Some(authorization) = &call.authorization {
            let mut value = value(authorization.expose()).map_err(malformed)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut url = target.to_owned();
        if let Some(proxy) = &connection.through {
            url = format!("http://{}{target}", origin.authority());
            if let Some(authorization) = &proxy.authorization {
                let mut value = value(authorization.expose()).map_err(malformed)?;
                value.set_sensitive(true);
                headers.insert(header::PROXY_AUTHORIZATION, value);
            }
        }
        *request.headers_mut() = headers;
        *request.uri_mut() = url.parse().map_err(|_| Cause::Redirect("its location is malformed"))?;
        Ok(request)
    }
}

/// How far a stream is, and who wants to know.
type Watched<'a> = (&'a Sent, &'a (dyn Fn(u64) -> Result<(), Cause> + Sync));

/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);

fn late(limit: Duration) -> Cause {
    Cause::Timeout { what: "waiting for the response", limit }
}

/// Waits for an answer as long as the request's body makes progress, and for `limit` without.
async fn watch<T>(
    answer: impl Future<Output = Result<T, Cause>>,
    (sent, progress): Watched<'_>,
    limit: Duration,
) -> Result<T, Cause> {
    let mut answer = std::pin::pin!(answer);
    let mut moved = (0, Instant::now());
    loop {
        if let Ok(answer) = tokio::time::timeout(TELL.min(limit), &mut answer).await {
            return answer;
        }
        let bytes = sent.bytes();
        progress(bytes)?;
        if bytes != moved.0 {
            moved = (bytes, Instant::now());
        } else if moved.1.elapsed() >= limit {
            return Err(late(limit));
        }
    }
}
