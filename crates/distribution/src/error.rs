//! What can go wrong with a registry, in Docker's words where its users know them.

use crate::resolve::LookupError;
use corten_base::{Digest, ErrorKind};
use std::io;
use std::time::Duration;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request did not come to an answer: `Get "https://host/v2/"`.
    #[error("{method} \"{url}\"")]
    Request {
        /// As Go's client writes it: `Get`, `Head`.
        method: &'static str,
        /// Without user, password and query.
        url: String,
        /// What happened.
        #[source]
        source: Cause,
    },
    /// The registry does not have it, or does not show it to this account. The text is Docker's.
    #[error("{0}")]
    NotFound(String),
    /// The registry refused, in the words of Docker's command line: see [`Words`](crate::Words).
    #[error("{text}")]
    Told {
        /// All that it said.
        text: String,
        /// It is not there, or not for this account: another place may have it.
        may_be_elsewhere: bool,
        /// The HTTP status.
        status: u16,
    },
    /// The registry refused: `unauthorized: authentication required`.
    #[error("{code}: {message}")]
    Refused {
        /// The registry's code in lower case with spaces.
        code: String,
        /// Its explanation.
        message: String,
        /// The HTTP status.
        status: u16,
    },
    /// The registry does not know this account.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// What was asked.
        url: String,
        /// The answer.
        status: http::StatusCode,
    },
    /// An answer with a status that means nothing here.
    #[error("received unexpected HTTP status: {0}")]
    Status(http::StatusCode),
    /// Content that is larger than it may be.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What is.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// A manifest that is not the one asked for.
    #[error("manifest verification failed for digest {0}")]
    Mismatch(Digest),
    /// A blob whose length is not what its descriptor says.
    #[error("blob {digest} has {actual} bytes instead of {expected}")]
    Length {
        /// Which blob.
        digest: Digest,
        /// What the descriptor says.
        expected: u64,
        /// What the registry says or sent.
        actual: u64,
    },
    /// A URL that nothing can be fetched from.
    #[error("Get \"{address}\": {reason}")]
    Address {
        /// What was given, without user and password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A web server that does not give a file.
    #[error("failed to GET {address} with status {status}: {text}")]
    Web {
        /// What was asked for.
        address: String,
        /// The answer.
        status: http::StatusCode,
        /// Its body.
        text: String,
    },
    /// Nobody waits for it any more.
    #[error("context canceled")]
    Cancelled,
    /// A setting that makes no sense.
    #[error("invalid registry setting: {0}")]
    Config(String),
}

impl Error {
    /// Whether there was no connection that another scheme could not mend.
    pub fn is_connecting(&self) -> bool {
        matches!(self, Error::Request { source, .. } if source.is_connecting())
    }

    /// What failed and why, in one line.
    pub fn with_causes(&self) -> String {
        chain(self)
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Request { source, .. } => source.kind(),
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Refused { status: 401, .. } | Error::Told { status: 401, .. } => ErrorKind::Unauthorized,
            Error::Refused { status: 403, .. } | Error::Told { status: 403, .. } => ErrorKind::Denied,
            Error::Refused { status: 404, .. } | Error::Told { status: 404, .. } => ErrorKind::NotFound,
            Error::Refused { status: 429 | 500.., .. } | Error::Told { status: 429, .. } => ErrorKind::Unavailable,
            Error::Status(status) if status.is_server_error() => ErrorKind::Unavailable,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Config(_) | Error::Address { .. } => ErrorKind::Invalid,
            Error::Web { status, .. } => crate::web::kind(*status),
            _ => ErrorKind::Internal,
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // Those that carry the system's answer have it in their own text already.
        if !source.is::<io::Error>() {
            text.push_str(&format!(": {source}"));
        }
        next = source.source();
    }
    text
}

/// What happened to a request.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The name has no address.
    #[error("dial tcp")]
    Lookup(#[source] LookupError),
    /// No connection to any of the addresses; this is the last one's error.
    #[error("dial tcp {address}: connect: {}", plain(source))]
    Dial {
        /// Host and port as text.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// No encrypted connection.
    #[error("tls: {}", tls(.0))]
    Tls(io::Error),
    /// The other side has ended the encrypted connection, and says why: it wants a certificate of ours, say.
    #[error("remote error: tls: {0}")]
    Alert(String),
    /// A certificate or key in a file that an administrator has put there.
    #[error("cannot use {0}")]
    Certificate(String),
    /// The other side speaks no TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainHttp,
    /// A bound on time.
    #[error("{what} took longer than {} s", limit.as_secs_f32())]
    Timeout {
        /// What did.
        what: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// The answer was no HTTP, too large in its head, or ended early.
    #[error("malformed HTTP response")]
    Http(#[source] hyper::Error),
    /// The connection broke.
    #[error("unexpected EOF")]
    Closed,
    /// A chain of redirects.
    #[error("stopped after 10 redirects")]
    Redirects,
    /// A redirect that leads nowhere, or from https to http.
    #[error("refused redirect: {0}")]
    Redirect(&'static str),
    /// Basic credentials were asked for, and there are none.
    #[error("no basic auth credentials")]
    NoCredentials,
    /// The token service does not know the account, or does not allow it; its words.
    #[error("{0}")]
    Denied(String),
    /// The challenge or the token service's answer makes no sense.
    #[error("{0}")]
    Token(String),
    /// The proxy did not do its part.
    #[error("proxyconnect tcp: {0}")]
    Proxy(String),
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent")]
    Source(#[source] io::Error),
    /// Whoever asked does not want it any more.
    #[error("context canceled")]
    Cancelled,
    /// Partial content that is not the part that was asked for.
    #[error("the registry answered with another range than {0}")]
    Range(u64),
}

impl Cause {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Cause::NoCredentials | Cause::Denied(_) => ErrorKind::Unauthorized,
            Cause::Cancelled => ErrorKind::Cancelled,
            Cause::Lookup(_)
            | Cause::Dial { .. }
            | Cause::Timeout { .. }
            | Cause::Closed
            | Cause::Proxy(_)
            | Cause::Http(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }

    /// Whether nothing was sent yet that another try, or plain HTTP, could not mend.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(
            self,
            Cause::Lookup(_)
                | Cause::Dial { .. }
                | Cause::Tls(_)
                | Cause::Alert(_)
                | Cause::PlainHttp
                | Cause::Proxy(_)
                | Cause::Timeout { what: CONNECTING, .. }
        )
    }

    /// Whether the same request may well succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Cause::Closed | Cause::Timeout { .. }) || matches!(self, Cause::Http(error) if !error.is_parse())
    }
}

pub(crate) const CONNECTING: &str = "connecting";

/// The system's message without Rust's "(os error 111)", in lower case as Go has it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// What the other side of an encrypted connection says is wrong, if that is how it ended.
pub(crate) fn alert(error: &(dyn std::error::Error + 'static)) -> Option<Cause> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(Cause::Alert(words(&format!("{alert:?}"))));
        }
        next = error.source();
    }
    None
}

/// `CertificateRequired` as Go writes it.
fn words(name: &str) -> String {
    if name == "UnknownCA" {
        return "unknown certificate authority".to_owned();
    }
    name.chars().fold(String::new(), |mut text, sign| {
        if sign.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(sign.to_lowercase());
        text
    })
}

fn tls(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => {
            let reason = match problem {
                rustls::CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
                rustls::CertificateError::Expired => "certificate has expired or is not yet valid".to_owned(),
                // A certificate that signed itself, as openssl makes them by default.
                other if other.to_string().contains("CaUsedAsEndEntity") => {
                    "certificate signed by unknown authority".to_owned()
                }
                other => other.to_string(),
            };
            format!("failed to verify certificate: x509: {reason}")
        }
        _ => plain(error),
    }
}

/// One error of a registry's answer body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    /// As in `MANIFEST_UNKNOWN`.
    pub code: String,
    pub message: String,
}

impl Reported {
    fn new(code: &str, message: &str) -> Reported {
        Reported { code: code.to_owned(), message: message.to_owned() }
    }

    /// The code as Docker's messages have it.
    pub fn spoken_code(&self) -> String {
        self.code.to_lowercase().replace('_', " ")
    }

    /// The first error in a body of the distribution specification, else what the status stands for.
    pub fn read(status: http::StatusCode, body: &[u8]) -> Option<Reported> {
        #[derive(serde::Deserialize)]
        struct Body {
            errors: Vec<Item>,
        }
        #[derive(serde::Deserialize)]
        struct Item {
            code: String,
            #[serde(default)]
            message: String,
        }
        let parsed: Option<Body> = serde_json::from_slice(body).ok();
        if let Some(item) = parsed.and_then(|body| body.errors.into_iter().next()) {
            let message =
                if item.message.is_empty() { item.code.to_lowercase().replace('_', " ") } else { item.message };
            return Some(Reported { code: printable(item.code), message: printable(message) });
        }
        if let Some(details) = details(body).filter(|_| matches!(status.as_u16(), 401 | 403)) {
            let code = if status == http::StatusCode::UNAUTHORIZED { "UNAUTHORIZED" } else { "DENIED" };
            return Some(Reported::new(code, &printable(details)));
        }
        match status.as_u16() {
            401 => Some(Reported::new("UNAUTHORIZED", "authentication required")),
            403 => Some(Reported::new("DENIED", "requested access to the resource is denied")),
            429 => Some(Reported::new("TOOMANYREQUESTS", "too many requests")),
            _ => None,
        }
    }
}

/// Docker Hub's token service explains itself so.
fn details(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        details: String,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| body.details)
}

/// A registry's words, fit for a terminal.
pub(crate) fn printable(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn bodies() {
        let check = |status, body: &str, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(code, message)| Reported::new(code, message));
            assert_eq!(Reported::read(status, body.as_bytes()), expect, "{body}");
        };
        check(
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
            Some(("MANIFEST_UNKNOWN", "manifest unknown")),
        );
        check(StatusCode::NOT_FOUND, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, Some(("NAME_UNKNOWN", "name unknown")));
        check(StatusCode::UNAUTHORIZED, "<html>", Some(("UNAUTHORIZED", "authentication required")));
        check(StatusCode::NOT_FOUND, "<html>", None);
        check(StatusCode::BAD_REQUEST, r#"{"errors":[]}"#, None);
    }

    #[test]
    fn words() {
        let refused = Cause::Dial { address: "127.0.0.1:5000".to_owned(), source: io::Error::from_raw_os_error(111) };
        assert_eq!(refused.to_string(), "dial tcp 127.0.0.1:5000: connect: connection refused");
        assert!(refused.is_connecting() && !refused.is_transient());
        let told = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let told = alert(&io::Error::other(told)).unwrap();
        assert_eq!(told.to_string(), "remote error: tls: certificate required");
        assert!(told.is_connecting() && alert(&io::Error::other("else")).is_none());
    }
}
