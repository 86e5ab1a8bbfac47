//! Docker Hub's search, which is older than the distribution specification: `GET /v1/search?q=TERM&n=LIMIT`.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::request::challenges;
use crate::token::{self, Wanted};
use crate::transport::Call;
use corten_base::Reference;
use http::{StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The most that an answer may have.
const LONGEST: u64 = 4 << 20;

/// Where Docker Hub has its search.
const HUB: &str = "index.docker.io";

/// One repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name in that registry.
    pub name: String,
    /// What it is, in its owner's words.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether Docker keeps it.
    pub is_official: bool,
    /// Whether the registry builds it; none is, nowadays.
    pub is_automated: bool,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    results: Option<Vec<Found>>,
}

impl Client {
    /// Looks for repositories in the registry that a term begins with (`registry.example/term`), else in Docker Hub.
    pub async fn search(&self, term: &str, limit: u32, credentials: Option<&Credentials>) -> Result<Vec<Found>> {
        let (domain, term) = split(term);
        let malformed = || Error::Config(format!("invalid registry address: {domain:?}"));
        let endpoints = self.endpoints(domain)?;
        let endpoint = endpoints.last().ok_or_else(malformed)?;
        let host = if domain == "docker.io" { HUB } else { &endpoint.host[..] };
        let query = format!("q={}&n={limit}", utf8_percent_encode(term, NON_ALPHANUMERIC));
        let mut last = None;
        for &is_https in self.schemes_for(host).await {
            let scheme = endpoint.scheme.unwrap_or(if is_https { "https" } else { "http" });
            let url: Uri = format!("{scheme}://{host}/v1/search?{query}").parse().map_err(|_| malformed())?;
            let (trust, own_headers) = (endpoint.trust.clone(), endpoint.headers.clone());
            match self.search_at(&Call { trust, own_headers, ..Call::get(url) }, host, credentials).await {
                Err(error) if error.is_connecting() => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or(Error::Status(StatusCode::BAD_GATEWAY)))
    }

    async fn search_at(&self, call: &Call, host: &str, credentials: Option<&Credentials>) -> Result<Vec<Found>> {
        let mut response = self.transport().call(call).await?;
        let asked = challenges(response.headers());
        if response.status() == StatusCode::UNAUTHORIZED && !asked.is_empty() && credentials.is_some() {
            let granted = token::answer(self.transport(), call, &asked, Wanted::Login, credentials).await?;
            let call = Call { authorization: Some(granted.authorization), ..call.clone() };
            response = self.transport().call(&call).await?;
        }
        let absent = || Error::NotFound(format!("the registry {host} can't be searched: it has no /v1/search"));
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Err(absent()),
            status => return Err(Error::Status(status)),
        }
        let body = response.into_body().collect(LONGEST, || "the search's answer".to_owned()).await;
        let body = body.map_err(|error| error.of("Get", crate::url::shown(&call.url)))?;
        // A web page, say: a registry that answers everything with its front page.
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| absent())?;
        Ok(answer.results.unwrap_or_default())
    }
}

/// The registry that a term begins with, and the rest. A first part without dot, port or `localhost` is a user.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((HUB, rest)) => ("docker.io", rest),
        Some((domain, rest)) if is_domain(domain) => (domain, rest),
        _ => ("docker.io", term),
    }
}

fn is_domain(text: &str) -> bool {
    let looks_so = text.contains(['.', ':']) || text == "localhost";
    looks_so && Reference::parse_normalized(&format!("{text}/x")).is_ok_and(|name| name.domain() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        let check = |term, expect| assert_eq!(split(term), expect, "{term}");
        check("busybox", ("docker.io", "busybox"));
        check("user/busy", ("docker.io", "user/busy"));
        check("docker.io/busybox", ("docker.io", "busybox"));
        check("index.docker.io/busybox", ("docker.io", "busybox"));
        check("localhost:5000/a/b", ("localhost:5000", "a/b"));
        check("../x", ("docker.io", "../x"));
    }
}
