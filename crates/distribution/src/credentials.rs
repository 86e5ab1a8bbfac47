//! Who the client says it is. The values never show in `Debug`, errors or logs.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use corten_base::ErrorKind;
use std::fmt;

/// A text that is only shown as `[hidden]`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A registry account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials(Account);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    Password {
        user: String,
        password: Secret,
    },
    /// An OAuth refresh token, from an earlier login.
    IdentityToken(Secret),
    /// A token to be sent to the registry as it is.
    RegistryToken(Secret),
}

impl Credentials {
    /// A user name with a password or access token.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials(Account::Password { user: user.into(), password: Secret::new(password) })
    }

    /// An OAuth refresh token, which is exchanged for access tokens.
    pub fn identity_token(token: impl Into<String>) -> Credentials {
        Credentials(Account::IdentityToken(Secret::new(token)))
    }

    /// A bearer token that the registry takes as it is.
    pub fn registry_token(token: impl Into<String>) -> Credentials {
        Credentials(Account::RegistryToken(Secret::new(token)))
    }

    /// Reads the header `X-Registry-Auth` of the Engine API: base 64, mostly the URL-safe alphabet, of a JSON object. An
    /// empty one means nobody.
    pub fn from_registry_auth(header: &str) -> Result<Option<Credentials>, InvalidCredentials> {
        if header.is_empty() {
            return Ok(None);
        }
        let text = header.replace('+', "-").replace('/', "_");
        let json = FORGIVING.decode(text.trim()).map_err(|_| InvalidCredentials)?;
        Credentials::from_json(&json)
    }

    /// Reads the API's AuthConfig, as the body of a request. One that names nobody means nobody.
    pub fn from_json(json: &[u8]) -> Result<Option<Credentials>, InvalidCredentials> {
        let object: RegistryAuth = serde_json::from_slice(json).map_err(|_| InvalidCredentials)?;
        object.into_credentials()
    }

    pub(crate) fn account(&self) -> &Account {
        &self.0
    }
}

/// Credentials that can't be read. What they look like is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid X-Registry-Auth header")]
pub struct InvalidCredentials;

impl InvalidCredentials {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The API's AuthConfig.
#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "lowercase")]
struct RegistryAuth {
    username: String,
    password: String,
    /// `user:password` in base 64, as config.json has it.
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl RegistryAuth {
    fn into_credentials(self) -> Result<Option<Credentials>, InvalidCredentials> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::registry_token(self.registrytoken)));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::identity_token(self.identitytoken)));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credentials::password(self.username, self.password)));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let text = self.auth.replace('+', "-").replace('/', "_");
        let decoded = FORGIVING.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or(InvalidCredentials)?;
        let (user, password) = decoded.split_once(':').ok_or(InvalidCredentials)?;
        Ok(Some(Credentials::password(user, password.trim_end_matches('\0'))))
    }
}

/// The value of a basic `Authorization` header.
pub(crate) fn basic(user: &str, password: &str) -> Secret {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Secret::new(format!("Basic {encoded}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows() {
        for credentials in [
            Credentials::password("me", "hunter2"),
            Credentials::identity_token("hunter2"),
            Credentials::registry_token("hunter2"),
        ] {
            assert!(!format!("{credentials:?} {credentials:#?}").contains("hunter2"));
        }
    }

    #[test]
    fn registry_auth() {
        let check = |json: &str, expect: Option<Credentials>| {
            let url_safe = base64::engine::general_purpose::URL_SAFE.encode(json);
            assert_eq!(Credentials::from_registry_auth(&url_safe).unwrap(), expect, "{json}");
            let standard = base64::engine::general_purpose::STANDARD_NO_PAD.encode(json);
            assert_eq!(Credentials::from_registry_auth(&standard).unwrap(), expect, "{json}");
        };
        check("{}", None);
        check(r#"{"username":"","password":""}"#, None);
        check(r#"{"username":"a","password":"b?>~","serveraddress":"x"}"#, Some(Credentials::password("a", "b?>~")));
        check(r#"{"auth":"dXNlcjpwYTpzcw=="}"#, Some(Credentials::password("user", "pa:ss")));
        check(r#"{"username":"a","identitytoken":"t"}"#, Some(Credentials::identity_token("t")));
        check(r#"{"registrytoken":"t"}"#, Some(Credentials::registry_token("t")));
        assert_eq!(Credentials::from_registry_auth(""), Ok(None));
        assert_eq!(Credentials::from_registry_auth("!!"), Err(InvalidCredentials));
        assert_eq!(Credentials::from_registry_auth("bm90IGpzb24="), Err(InvalidCredentials));
    }
}
