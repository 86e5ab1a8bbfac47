//! The little of RFC 3986 that redirects and tokens need.

use crate::hosts::Trust;
use http::Uri;

/// Where a request goes: two equal ones can share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub is_https: bool,
    pub host: String,
    pub port: u16,
    /// Whose certificate it may have, and which is ours.
    pub trust: Trust,
}

impl Origin {
    /// Host and port as the `Host` header has them.
    pub fn authority(&self) -> String {
        let usual = if self.is_https { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Scheme, host and port of an absolute URL; none if it is not http or https, or carries a user.
pub(crate) fn parts(url: &Uri) -> Option<(bool, &str, Option<u16>)> {
    let is_https = match url.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = url.authority()?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    Some((is_https, authority.host(), authority.port_u16()))
}

/// Whether both lie on the same scheme, host and port, so that credentials for one may go to the other.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let key = |url| {
        let (is_https, host, port) = parts(url)?;
        Some((is_https, host.to_ascii_lowercase(), port.unwrap_or(if is_https { 443 } else { 80 })))
    };
    key(a).is_some() && key(a) == key(b)
}

/// The URL that a `Location` means for an answer from `base`.
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let text = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let url: Uri = text.parse().ok()?;
    parts(&url)?;
    Some(url)
}

/// The URL as errors show it: without the query, which may hold a signature.
pub(crate) fn shown(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("http");
    format!("{scheme}://{}{}", url.authority().map_or("", |authority| authority.as_str()), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins() {
        let base: Uri = "https://reg.test:5000/v2/a/blobs/x?y=1".parse().unwrap();
        let check = |location: &str, expect: Option<&str>| {
            assert_eq!(join(&base, location).map(|url| url.to_string()).as_deref(), expect, "{location}");
        };
        check("https://cdn.test/x?sig=1#f", Some("https://cdn.test/x?sig=1"));
        check("http://cdn.test", Some("http://cdn.test/"));
        check("//cdn.test/x", Some("https://cdn.test/x"));
        check("/other", Some("https://reg.test:5000/other"));
        check("z", Some("https://reg.test:5000/v2/a/blobs/z"));
        check("ftp://cdn.test/x", None);
        check("file:///etc/passwd", None);
        check("https://user:pw@cdn.test/x", None);
        check("https://bad host/", None);
        check("https:///x", None);
    }

    #[test]
    fn origins() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a.test/x", "https://A.test:443/y"));
        assert!(!same("https://a.test/", "http://a.test/"));
        assert!(!same("https://a.test/", "https://a.test:444/"));
        assert!(!same("https://a.test/", "https://b.a.test/"));
    }
}
