//! Whom to ask: mirrors in their order, then the registry; over TLS or, if it may lack that, what works; with what it wants to see.

use crate::body::Body;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::hosts::{Endpoint, Endpoints};
use crate::request::{Action, Requested, challenges, token_key};
use crate::retry;
use crate::token;
use crate::transport::{Call, Tries};
use http::{Response, StatusCode};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What was learned of servers.
#[derive(Default)]
pub(crate) struct Learned {
    /// Mirrors that are no use, and since when.
    resting: Mutex<HashMap<String, Instant>>,
    /// For insecure registries, whether TLS worked last time.
    schemes: Mutex<HashMap<String, bool>>,
}

/// An answer, and the mirror that gave it if one did.
pub(crate) struct Answered {
    pub response: Response<Body>,
    pub mirror: Option<String>,
}

impl Answered {
    fn of_mirror(response: Response<Body>, mirror: &Endpoint) -> Answered {
        Answered { response, mirror: Some(mirror.host.clone()) }
    }
}

impl Client {
    /// Sends to a mirror that has what is asked for, else to the reference's registry. A mirror gets one try; it is what is left
    /// if the registry can't be reached.
    pub(crate) async fn request(&self, request: &Requested<'_>, credentials: Option<&Credentials>) -> Result<Answered> {
        let endpoints = self.endpoints(request.reference.domain())?;
        let mut last_resort = None;
        for mirror in endpoints.iter().filter(|endpoint| !endpoint.is_upstream && request.is_for(endpoint.can)) {
            if self.is_resting(&mirror.host) {
                last_resort = last_resort.or(Some(mirror));
                continue;
            }
            // Nobody's account at a registry is a mirror's business.
            match self.ask(mirror, request, None, Tries::One).await {
                Ok((response, _)) if response.status().is_success() => {
                    return Ok(Answered::of_mirror(response, mirror));
                }
                Ok((response, _)) if retry::is_transient(response.status()) => {
                    self.rest(&mirror.host, &response.status());
                    last_resort = last_resort.or(Some(mirror));
                }
                Ok((response, _)) => {
                    tracing::debug!(mirror = mirror.host, status = %response.status(), "no use of a mirror")
                }
                Err(error) => {
                    self.rest(&mirror.host, &error);
                    last_resort = last_resort.or(Some(mirror));
                }
            }
        }
        let error = match (self.request_upstream(request, credentials).await, last_resort) {
            (Ok((response, _)), _) => return Ok(Answered { response, mirror: None }),
            (Err(error), Some(mirror)) if error.is_connecting() => {
                match self.ask(mirror, request, None, Tries::Usual).await {
                    Ok((response, _)) if response.status().is_success() => {
                        return Ok(Answered::of_mirror(response, mirror));
                    }
                    _ => error,
                }
            }
            (Err(error), _) => error,
        };
        Err(error)
    }

    /// Whom to ask for a registry's content; the registry itself is the last.
    pub(crate) fn endpoints(&self, domain: &str) -> Result<Endpoints> {
        self.hosts().of(domain)
    }

    /// Leaves a mirror alone for a while.
    pub(crate) fn rest(&self, mirror: &str, why: &dyn std::fmt::Display) {
        tracing::warn!(mirror, %why, "a mirror is left alone for a while");
        self.resting().insert(mirror.to_owned(), Instant::now());
    }

    fn resting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.learned().resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_resting(&self, host: &str) -> bool {
        let mut resting = self.resting();
        resting.retain(|_, since| since.elapsed() < self.timeouts().mirror_rest);
        resting.contains_key(host)
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
        self.ask(endpoint, request, credentials.filter(|_| endpoint.is_upstream), Tries::Usual).await
    }

    /// Sends to one server, over TLS or, if it may lack that, what works.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        request: &Requested<'_>,
        credentials: Option<&Credentials>,
        tries: Tries,
    ) -> Result<(Response<Body>, Call)> {
        let host = &endpoint.host[..];
        let schemes = match endpoint.scheme {
            Some(scheme) => vec![scheme],
            None => self.schemes_for(host).await.iter().map(|&is_https| scheme(is_https)).collect(),
        };
        let mut last = None;
        for &scheme in &schemes {
            let call = Call { tries, ..request.call(scheme, endpoint)? };
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
        self.learned().schemes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_insecure(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
        self.transport().is_insecure(authority.host(), authority.port_u16()).await
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
        call.authorization = self.tokens().get(&key);
        let response = self.transport().call(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = challenges(response.headers());
        if challenges.is_empty() {
            return Ok(response);
        }
        let wanted = token::Wanted::Scopes(&scopes);
        let authorization =
            token::answer(self.transport(), &call, &challenges, wanted, credentials).await?.authorization;
        call.authorization = Some(authorization.clone());
        let response = self.transport().call(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            self.tokens().put(key, authorization);
        }
        Ok(response)
    }
}

fn scheme(is_https: bool) -> &'static str {
    if is_https { "https" } else { "http" }
}
