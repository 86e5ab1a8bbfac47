//! Answering a registry's challenge: the distribution project's token and OAuth2 specifications.

use crate::challenge::Challenge;
use crate::credentials::{Account, Credentials, Secret, basic};
use crate::error::{Cause, Error, Reported, Result};
use crate::hosts::Trust;
use crate::transport::{Call, Transport};
use http::{HeaderValue, Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The most that a token service may answer.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Whose token it is: registry, scopes, account.
pub(crate) type Key = (String, Vec<String>, Option<Credentials>);

/// The `Authorization` values that worked last, kept in memory only.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Secret>>);

/// More repositories than one daemon pulls from while tokens live; beyond it all are forgotten.
const MOST_TOKENS: usize = 1000;

impl Tokens {
    pub fn get(&self, key: &Key) -> Option<Secret> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub fn put(&self, key: Key, value: Secret) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            tokens.clear();
        }
        tokens.insert(key, value);
    }
}

/// What an account may do with an answer to a challenge.
pub(crate) struct Granted {
    /// The value of `Authorization`.
    pub authorization: Secret,
    /// A token that stands for the account's password from now on.
    pub identity: Option<Secret>,
}

/// What is asked of a token service.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// A token that allows this.
    Scopes(&'a [String]),
    /// A token at all, and one that can take the password's place.
    Login,
}

/// The answer that the challenges to `call` ask for.
pub(crate) async fn answer(
    transport: &Transport,
    call: &Call,
    challenges: &[Challenge],
    wanted: Wanted<'_>,
    credentials: Option<&Credentials>,
) -> Result<Granted> {
    let account = credentials.map(Credentials::account);
    let granted = |authorization| Ok(Granted { authorization, identity: None });
    if let Some(challenge) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
        if let Some(Account::RegistryToken(token)) = account {
            return granted(Secret::new(format!("Bearer {}", token.expose())));
        }
        let request = token_request(call, challenge, wanted, account).map_err(|cause| call.failed(cause))?;
        let (token, identity) = fetch(transport, &request).await?;
        return Ok(Granted { authorization: Secret::new(format!("Bearer {}", token.expose())), identity });
    }
    match account {
        Some(Account::Password { user, password }) if challenges.iter().any(|c| c.scheme == "basic") => {
            granted(basic(user, password.expose()))
        }
        _ if challenges.iter().any(|challenge| challenge.scheme == "basic") => Err(call.failed(Cause::NoCredentials)),
        _ => {
            let text = "the registry asks for an unknown kind of authorization".to_owned();
            Err(call.failed(Cause::Token(text)))
        }
    }
}

/// The request for a token. A challenge over TLS can't send credentials to a service without.
fn token_request(
    call: &Call,
    challenge: &Challenge,
    wanted: Wanted<'_>,
    account: Option<&Account>,
) -> Result<Call, Cause> {
    let realm =
        challenge.parameter("realm").ok_or(Cause::Token("no realm specified for token auth challenge".to_owned()))?;
    let malformed = || Cause::Token("invalid token auth challenge realm".to_owned());
    let url: Uri = realm.parse().map_err(|_| malformed())?;
    let (is_https, ..) = crate::url::parts(&url).ok_or_else(malformed)?;
    if account.is_some() && !is_https && call.url.scheme_str() == Some("https") {
        return Err(Cause::Token("the token service of a registry with TLS has none".to_owned()));
    }
    let mut fields = Vec::new();
    if let Some(service) = challenge.parameter("service") {
        fields.push(("service", service.to_owned()));
    }
    let scopes = match wanted {
        Wanted::Scopes(scopes) => scopes,
        Wanted::Login => &[],
    };
    if let Some(Account::IdentityToken(token)) = account {
        if !scopes.is_empty() {
            fields.push(("scope", scopes.join(" ")));
        }
        fields.push(("grant_type", "refresh_token".to_owned()));
        fields.push(("client_id", "corten".to_owned()));
        fields.push(("refresh_token", token.expose().to_owned()));
        let trust = trust(call, &url);
        let mut request = Call { method: Method::POST, body: encoded(&fields).into(), trust, ..Call::get(url) };
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert(header::CONTENT_TYPE, form);
        return Ok(request);
    }
    fields.extend(scopes.iter().map(|scope| ("scope", scope.clone())));
    if matches!(wanted, Wanted::Login) {
        fields.extend([("offline_token", "true".to_owned()), ("client_id", "corten".to_owned())]);
    }
    let mut authorization = None;
    if let Some(Account::Password { user, password }) = account {
        fields.push(("account", user.clone()));
        authorization = Some(basic(user, password.expose()));
    }
    let separator = if url.query().is_some() { '&' } else { '?' };
    let url: Uri = format!("{realm}{separator}{}", encoded(&fields)).parse().map_err(|_| malformed())?;
    Ok(Call { authorization, trust: trust(call, &url), ..Call::get(url) })
}

/// Whom a token service may be: the registry's authorities hold for it too, the rest only on the same host.
fn trust(call: &Call, url: &Uri) -> Trust {
    if call.url.host() == url.host() {
        return call.trust.clone();
    }
    Trust { authorities: call.trust.authorities.clone(), ..Trust::default() }
}

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encoded(fields: &[(&str, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// A token, and the one that may come with it for later.
async fn fetch(transport: &Transport, request: &Call) -> Result<(Secret, Option<Secret>)> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        refresh_token: Option<String>,
    }
    let response = transport.call(request).await?;
    let status = response.status();
    let body = response.into_body().collect(LONGEST_ANSWER, || "the token service's answer".to_owned());
    let body = body.await.map_err(|error| error.of(request.verb(), crate::url::shown(&request.url)))?;
    if !status.is_success() {
        return Err(match Reported::read(status, &body) {
            Some(reported) => {
                Error::Refused { code: reported.spoken_code(), message: reported.message, status: status.as_u16() }
            }
            None => Error::Status(status),
        });
    }
    let broken = |text: &str| request.failed(Cause::Token(text.to_owned()));
    // What can't be read is not repeated: it may hold most of a token.
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| broken("unable to decode the token service's answer"))?;
    let token =
        answer.token.filter(|token| !token.is_empty()).or(answer.access_token).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| broken("authorization server did not include a token in the response"))?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(broken("the token service's token has characters that a header can't carry"));
    }
    let identity = answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
    Ok((Secret::new(token), identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(realm: &str, account: Option<&Account>) -> Result<Call, Cause> {
        let call = Call::get("https://reg.test/v2/a/manifests/x".parse().unwrap());
        let challenge = Challenge::parse(&format!("Bearer realm=\"{realm}\",service=\"reg & co\""));
        token_request(&call, &challenge[0], Wanted::Scopes(&["repository:a:pull".to_owned()]), account)
    }

    #[test]
    fn requests() {
        let me = Account::Password { user: "m e".to_owned(), password: Secret::new("pw") };
        let call = request("https://auth.test/token", None).unwrap();
        assert_eq!(call.url, "https://auth.test/token?service=reg%20%26%20co&scope=repository%3Aa%3Apull");
        assert!(call.authorization.is_none());
        let call = request("https://auth.test/token?x=1", Some(&me)).unwrap();
        assert!(
            call.url.to_string().ends_with("?x=1&service=reg%20%26%20co&scope=repository%3Aa%3Apull&account=m%20e")
        );
        assert_eq!(call.authorization, Some(basic("m e", "pw")));
        let call = request("https://auth.test/token", Some(&Account::IdentityToken(Secret::new("r&t")))).unwrap();
        assert_eq!(call.method, Method::POST);
        assert!(
            String::from_utf8_lossy(&call.body)
                .ends_with("grant_type=refresh_token&client_id=corten&refresh_token=r%26t")
        );
        assert_eq!(call.url, "https://auth.test/token");
    }

    #[test]
    fn realms_that_are_refused() {
        let me = Account::Password { user: "me".to_owned(), password: Secret::new("pw") };
        for realm in ["", "auth.test", "ftp://auth.test", "https://u:p@auth.test/", "/token", "https:// /"] {
            assert!(request(realm, None).is_err(), "{realm}");
        }
        assert!(request("http://auth.test/token", None).is_ok());
        assert!(request("http://auth.test/token", Some(&me)).is_err());
    }
}
