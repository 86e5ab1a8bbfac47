//! One HTTP request with everything around it: connection, redirects, tries.

use crate::body::Body;
use crate::connect::Dialer;
use crate::credentials::Secret;
use crate::error::{Cause, Error, Result};
use crate::pool::{Connection, Pool, RequestBody};
use crate::retry;
use crate::url::{Origin, join, parts, same_origin, shown};
use crate::{RegistryConfig, Timeouts};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// A request that can be sent several times.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub url: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Goes to the URL's own host only.
    pub authorization: Option<Secret>,
    /// Whether a redirect may lead from https to http: for content that is checked against its digest.
    pub may_downgrade: bool,
}

impl Call {
    pub fn get(url: Uri) -> Call {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Call { method: Method::GET, url, headers, body, authorization: None, may_downgrade: false }
    }

    /// The method as Go's errors write it.
    pub fn verb(&self) -> &'static str {
        match self.method {
            Method::HEAD => "Head",
            Method::POST => "Post",
            _ => "Get",
        }
    }

    pub fn failed(&self, source: Cause) -> Error {
        // A connection that failed says nothing about the path: Docker names the registry's root then.
        let mut url = shown(&self.url);
        if source.is_connecting()
            && let Some(at) = url.find("/v2/")
        {
            url.truncate(at + 4);
        }
        Error::Request { method: self.verb(), url, source }
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
        let mut attempt = 1;
        loop {
            let delay = match self.follow(call).await {
                Ok(response) => {
                    match retry::after_status(response.status(), response.headers(), attempt, first, SystemTime::now())
                    {
                        Some(delay) => delay,
                        None => return Ok(response),
                    }
                }
                Err(cause) if cause.is_transient() && !cause.is_connecting() && attempt < retry::MOST_ATTEMPTS => {
                    retry::back_off(attempt, first)
                }
                Err(cause) => return Err(call.failed(cause)),
            };
            tracing::debug!(url = shown(&call.url), attempt, ?delay, "trying again");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
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
                call.authorization = None;
            }
            call.url = next;
        }
        Err(Cause::Redirects)
    }

    async fn send(&self, call: &Call) -> Result<Response<Body>, Cause> {
        let (is_https, host, port) = parts(&call.url).ok_or(Cause::Redirect("its location is malformed"))?;
        let origin = Origin {
            is_https,
            host: host.to_owned(),
            port: port.unwrap_or(if is_https { 443 } else { 80 }),
            is_verified: is_https && !self.is_insecure(host, port).await,
        };
        // A kept connection may have been closed just now; that says nothing about the registry.
        while let Some(connection) = self.pool.take(&origin) {
            match self.exchange(call, &origin, connection).await {
                Err(Cause::Closed) => {}
                done => return done,
            }
        }
        let connection = Connection::open(&self.dialer, &origin).await?;
        self.exchange(call, &origin, connection).await
    }

    async fn exchange(
        &self,
        call: &Call,
        origin: &Origin,
        mut connection: Connection,
    ) -> Result<Response<Body>, Cause> {
        let request = self.request(call, origin, &connection)?;
        let limit = self.config.timeouts.headers;
        let response = tokio::time::timeout(limit, connection.send(request))
            .await
            .map_err(|_| Cause::Timeout { what: "waiting for the response", limit })??;
        let (parts, incoming) = response.into_parts();
        let stall = self.config.timeouts.stall;
        let body = Body::new(incoming, connection, self.pool.clone(), origin.clone(), stall).await;
        Ok(Response::from_parts(parts, body))
    }

    fn request(&self, call: &Call, origin: &Origin, connection: &Connection) -> Result<Request<RequestBody>, Cause> {
        let malformed = |_| Cause::Token("a header's value is malformed".to_owned());
        let mut request = Request::new(RequestBody::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        let target = call.url.path_and_query().map_or("/", |target| target.as_str());
        let mut headers = call.headers.clone();
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
