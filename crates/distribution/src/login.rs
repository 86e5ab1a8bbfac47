//! Trying an account out: `POST /auth` of the Engine API.

use crate::client::{Client, challenges, registry_host};
use crate::credentials::Credentials;
use crate::error::{Cause, Error, Result};
use crate::token::{self, Wanted};
use crate::transport::Call;
use http::{StatusCode, Uri};

impl Client {
    /// Whether a registry, named by its address as people write it, takes an account. The answer is a token that can take the
    /// password's place from now on, if the registry gives one.
    pub async fn login(&self, address: &str, credentials: &Credentials) -> Result<Option<String>> {
        let host = registry_host(domain_of(address));
        let mut last = None;
        for &is_https in self.schemes_for(host).await {
            let scheme = if is_https { "https" } else { "http" };
            let url: Uri = format!("{scheme}://{host}/v2/")
                .parse()
                .map_err(|_| Error::Config(format!("invalid registry address: {address:?}")))?;
            match self.login_at(&Call::get(url), credentials).await {
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
