//! API versions: `1.24` to the newest, compared number by number.

use corten_base::ErrorKind;
use std::fmt;
use std::str::FromStr;

/// A version of the Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The part before the dot.
    pub major: u16,
    /// The part behind the dot.
    pub minor: u16,
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version {0:?}")]
pub struct InvalidVersion(pub String);

/// A version outside of what the server speaks; `Display` is Docker's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionRefused {
    /// Older than [`ApiVersion::OLDEST`].
    #[error(
        "client version {0} is too old. Minimum supported API version is {oldest}, please upgrade your client to a newer version",
        oldest = ApiVersion::OLDEST
    )]
    TooOld(ApiVersion),
    /// Newer than [`ApiVersion::NEWEST`].
    #[error("client version {0} is too new. Maximum supported API version is {newest}", newest = ApiVersion::NEWEST)]
    TooNew(ApiVersion),
}

impl VersionRefused {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl ApiVersion {
    /// The oldest version served.
    pub const OLDEST: ApiVersion = ApiVersion::new(24);
    /// The newest version served, and the one meant when a request names none.
    pub const NEWEST: ApiVersion = ApiVersion::new(55);

    /// Version `1.<minor>`.
    pub const fn new(minor: u16) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }

    /// Refuses what the server doesn't speak.
    pub fn supported(self) -> Result<ApiVersion, VersionRefused> {
        match self {
            _ if self < ApiVersion::OLDEST => Err(VersionRefused::TooOld(self)),
            _ if self > ApiVersion::NEWEST => Err(VersionRefused::TooNew(self)),
            _ => Ok(self),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<ApiVersion, InvalidVersion> {
        let number = |s: &str| match s.bytes().all(|b| b.is_ascii_digit()) {
            true => s.parse::<u16>().ok(),
            false => None,
        };
        let parsed = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        let (major, minor) = parsed.ok_or_else(|| InvalidVersion(text.to_owned()))?;
        Ok(ApiVersion { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_texts() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("1.9") < version("1.24"));
        assert_eq!(version("1.43").supported(), Ok(ApiVersion::new(43)));
        assert_eq!(
            version("1.99").supported().unwrap_err().to_string(),
            "client version 1.99 is too new. Maximum supported API version is 1.55"
        );
        assert_eq!(
            version("1.12").supported().unwrap_err().to_string(),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
             newer version"
        );
        for text in ["", "1", "1.", ".1", "1.x", "1.+4", "1.2.3", "99999.1"] {
            assert!(text.parse::<ApiVersion>().is_err(), "{text}");
        }
    }
}
