//! Trying an account out: `POST /auth` of the Engine API.

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Cause, Error, Result};
use crate::request::challenges;
use crate::token::{self, Wanted};
use crate::transport::Call;
use corten_base::Reference;
use http::{StatusCode, Uri};

impl Client {
    /// Whether a registry, named by its address as people write it, takes an account. The answer is a token that can take the
    /// password's place from now on, if the registry gives one.
    pub async fn login(&self, address: &str, credentials: &Credentials) -> Result<Option<String>> {
        let domain = domain_of(address);
        let malformed = || Error::Config(format!("invalid registry address: {address:?}"));
        // It becomes the name of a folder and a part of a URL.
        Reference::parse_normalized(&format!("{domain}/x"))
            .ok()
            .filter(|x| x.domain() == domain)
            .ok_or_else(malformed)?;
        let endpoints = self.endpoints(domain)?;
        let endpoint = endpoints.last().ok_or_else(malformed)?;
        let (host, mut last) = (&endpoint.host, None);
        for &is_https in self.schemes_for(host).await {
            let scheme = endpoint.scheme.unwrap_or(if is_https { "https" } else { "http" });
            let url: Uri = format!("{scheme}://{host}{}/", endpoint.prefix).parse().map_err(|_| malformed())?;
            let (trust, own_headers) = (endpoint.trust.clone(), endpoint.headers.clone());
            match self.login_at(&Call { trust, own_headers, ..Call::get(url) }, credentials).await {
                Err(error) if error.is_connecting() => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or(Error::Status(StatusCode::BAD_GATEWAY)))
    }

    async fn login_at(&self, call: &Call, credentials: &Credentials) -> Result<Option<String>> {
        let response = self.transport().call(call).await?;
        let asked = challenges(response.headers());
        if response.status() != StatusCode::UNAUTHORIZED || asked.is_empty() {
            return accepted(call, response.status()).map(|()| None);
        }
        let granted = token::answer(self.transport(), call, &asked, Wanted::Login, Some(credentials)).await;
        let granted = granted.map_err(|error| match error {
            Error::Refused { code, message, .. } => call.failed(Cause::Denied(format!("{code}: {message}"))),
            other => other,
        })?;
        let call = Call { authorization: Some(granted.authorization), ..call.clone() };
        let response = self.transport().call(&call).await?;
        accepted(&call, response.status())?;
        Ok(granted.identity.map(|token| token.expose().to_owned()))
    }
}

fn accepted(call: &Call, status: StatusCode) -> Result<()> {
    match status {
        StatusCode::OK => Ok(()),
        status => Err(Error::Login { url: call.url.to_string(), status }),
    }
}

/// The registry's domain in an address such as `https://index.docker.io/v1/`.
fn domain_of(address: &str) -> &str {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    match rest.split('/').next().unwrap_or(rest) {
        "" | "index.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let check = |address, expect| assert_eq!(domain_of(address), expect, "{address}");
        check("", "docker.io");
        check("https://index.docker.io/v1/", "docker.io");
        check("reg.test:5000", "reg.test:5000");
        check("http://reg.test/v2/", "reg.test");
    }
}
