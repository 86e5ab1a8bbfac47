//! Files of web servers, which are no registries: what `import` takes from a URL.
//!
//! Go's client is the model: ten redirects, also to plain HTTP, proxies, a user and password within the URL. Nothing is tried
//! twice, and what is said of insecure registries does not hold here.

use crate::blob::Pace;
use crate::body::Body;
use crate::client::{Client, LONGEST_ERROR};
use crate::credentials::{Secret, basic};
use crate::error::{Error, Result, printable};
use crate::transport::Call;
use crate::url::shown;
use bytes::Bytes;
use http::{StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::time::Instant;

/// The address of a file on a web server. It is shown without user and password.
#[derive(Clone, Debug)]
pub struct WebAddress {
    url: Uri,
    authorization: Option<Secret>,
}

impl WebAddress {
    /// Reads `http://..` or `https://..`; without a scheme, `http` is meant.
    pub fn parse(text: &str) -> Result<WebAddress> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let address = format!("{scheme}://{host}{path}");
        let invalid = |reason: &str| Error::Address { address: address.clone(), reason: reason.to_owned() };
        if !matches!(scheme, "http" | "https") {
            return Err(invalid(&format!("unsupported protocol scheme {scheme:?}")));
        }
        let url: Uri = address.split('#').next().unwrap_or_default().parse().map_err(|_| invalid("invalid URL"))?;
        crate::url::parts(&url).ok_or_else(|| invalid("no Host in request URL"))?;
        Ok(WebAddress { url, authorization: user.map(authorization) })
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// The header's value for `user:password` as URLs write it.
fn authorization(user: &str) -> Secret {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    basic(&decode(user), &decode(password))
}

/// A file on its way from a web server.
pub struct WebFile {
    body: Body,
    url: String,
    size: Option<u64>,
    pace: Pace,
}

impl fmt::Debug for WebFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebFile({})", self.url)
    }
}

impl Client {
    /// Asks a web server for a file.
    pub async fn download(&self, address: &WebAddress) -> Result<WebFile> {
        let call = Call { authorization: address.authorization.clone(), ..Call::web(address.url.clone()) };
        let response = self.transport().once(&call).await.map_err(|cause| call.failed(cause))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let body = response.into_body().collect(LONGEST_ERROR, || "the server's error".to_owned()).await;
            let text = String::from_utf8_lossy(&body.unwrap_or_default()).trim().to_owned();
            return Err(Error::Web { address: address.to_string(), status, text: printable(text) });
        }
        let size = response.headers().get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        let pace = Pace::new(self.timeouts().stall);
        Ok(WebFile { body: response.into_body(), url: shown(&address.url), size, pace })
    }
}

impl WebFile {
    /// The number of its bytes, where the server tells it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next piece; none at the end. A file that ends before its stated size is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let begun = Instant::now();
        let piece = match self.body.chunk().await {
            Ok(Some(piece)) => self.pace.record(begun.elapsed(), piece.len() as u64).map(|()| Some(piece)),
            other => other,
        };
        piece.map_err(|source| Error::Request { method: "Get", url: self.url.clone(), source })
    }
}

/// What sort of failure a server's answer is.
pub(crate) fn kind(status: StatusCode) -> corten_base::ErrorKind {
    use corten_base::ErrorKind;
    match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::BAD_REQUEST => ErrorKind::Invalid,
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::Denied,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: &str| match WebAddress::parse(text) {
            Ok(address) => assert_eq!(address.to_string(), expect, "{text}"),
            Err(error) => assert_eq!(error.to_string(), expect, "{text}"),
        };
        check("a.test/x.tar", "http://a.test/x.tar");
        check("https://a.test:8443/x?y=1#z", "https://a.test:8443/x?y=1");
        check("http://me:p%40ss@a.test/x", "http://a.test/x");
        check("http://a.test", "http://a.test/");
        check("ftp://a.test/x", "Get \"ftp://a.test/x\": unsupported protocol scheme \"ftp\"");
        check("http:///x", "Get \"http:///x\": invalid URL");
        check("http://a b/x", "Get \"http://a b/x\": invalid URL");
        let address = WebAddress::parse("http://me:p%40ss@a.test/x").unwrap();
        assert_eq!(address.authorization, Some(basic("me", "p@ss")));
        assert!(!format!("{address:?} {address}").contains("p@ss"));
    }
}
