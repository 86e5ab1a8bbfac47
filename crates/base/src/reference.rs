//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker does.
//!
//! The grammar and the lengths are those of the distribution project's `reference` package; the error texts are the
//! ones that Docker's users see. `busybox` means `docker.io/library/busybox`; the first component is a registry when it
//! is `localhost`, holds a dot or a colon, or has an upper-case letter.

use crate::{Digest, ErrorKind, InvalidDigest};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The registry meant when none is named.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag meant when neither tag nor digest is given.
pub const DEFAULT_TAG: &str = "latest";
/// The folder of Docker Hub's official images.
const OFFICIAL_PREFIX: &str = "library/";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const NAME_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// A text that is not an image reference; `Display` is Docker's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has an upper-case letter.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The repository is 64 hexadecimal digits, which would look like an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The repository's path is too long.
    #[error("repository name must not be more than {NAME_LENGTH_MAX} characters")]
    TooLong,
    /// The part behind `@` is no digest.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// A tag alone that does not follow the grammar.
    #[error("invalid tag format")]
    Tag,
}

impl InvalidReference {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// A normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as people write it, and completes domain and `library/`; adds no tag.
    pub fn parse_normalized(text: &str) -> Result<Reference, InvalidReference> {
        if text.len() == 64 && crate::id::is_lower_hex(text) {
            return Err(InvalidReference::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let repository = remainder.split(':').next().unwrap_or_default();
        if repository.chars().any(|c| c.is_uppercase()) {
            return Err(InvalidReference::Uppercase(repository.to_owned()));
        }
        parse_parts(domain, &remainder)
    }

    /// A reference from its parts, each checked. The repository is as in [`Reference::parse_normalized`].
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Tag);
        }
        Ok(Reference { tag: Some(tag.to_owned()), ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same reference, its tag included, with this digest.
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference { digest: Some(digest), ..self.clone() }
    }

    /// With the tag `latest` when it has neither tag nor digest.
    pub fn with_default_tag(self) -> Reference {
        match (&self.tag, &self.digest) {
            (None, None) => Reference { tag: Some(DEFAULT_TAG.to_owned()), ..self },
            _ => self,
        }
    }

    /// The repository alone, without tag and digest.
    pub fn repository(&self) -> Reference {
        Reference { tag: None, digest: None, ..self.clone() }
    }

    /// The registry, `docker.io` when none was named.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path in its registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: `busybox`, `user/app`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as people write it; adds no tag.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The canonical form, `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;
    fn from_str(text: &str) -> Result<Reference, InvalidReference> {
        Reference::parse_normalized(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;
    fn try_from(text: String) -> Result<Reference, InvalidReference> {
        Reference::parse_normalized(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// Splits off the registry and completes `library/` on the default one.
fn split_domain(text: &str) -> (&str, String) {
    let (domain, remainder) = match text.split_once('/') {
        None => return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{text}")),
        Some((LEGACY_DEFAULT_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        Some(_) => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        (domain, format!("{OFFICIAL_PREFIX}{remainder}"))
    } else {
        (domain, remainder.to_owned())
    }
}

/// Checks `path[:tag][@digest]`.
fn parse_parts(domain: &str, remainder: &str) -> Result<Reference, InvalidReference> {
    let (named, digest) = match remainder.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (remainder, None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    let well_formed = is_domain(domain)
        && path.split('/').all(is_path_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(looks_like_digest);
    if !well_formed {
        return Err(InvalidReference::Format);
    }
    if path.len() > NAME_LENGTH_MAX {
        return Err(InvalidReference::TooLong);
    }
    Ok(Reference {
        domain: domain.to_owned(),
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(Digest::parse).transpose()?,
    })
}

/// `host[:port]`, where host is a name of dot-separated labels or a bracketed IPv6 address.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')),
        None => host.split('.').all(is_domain_label),
    };
    is_host && port.is_none_or(is_port)
}

fn is_domain_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Lower-case letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| is_alphanumeric(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = match rest {
            [b'.', ..] => 1,
            [b'_', b'_', ..] => 2,
            [b'_', ..] => 1,
            _ => rest.iter().take_while(|b| **b == b'-').count(),
        };
        if separator == 0 {
            return false;
        }
        rest = &rest[separator..];
    }
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= TAG_LENGTH_MAX
        && bytes.first().is_some_and(|b| is_word(*b))
        && bytes.iter().all(|b| is_word(*b) || matches!(b, b'.' | b'-'))
}

/// The reference grammar's wider idea of a digest: unknown algorithms pass here and fail later with a clearer text.
fn looks_like_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['+', '.', '-', '_']).all(is_word) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str, familiar: &str) {
        let reference = Reference::parse_normalized(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(Reference::parse_normalized(canonical).unwrap(), reference);
        assert_eq!(Reference::parse_normalized(familiar).unwrap(), reference);
    }

    fn fails(text: &str, message: &str) {
        assert_eq!(Reference::parse_normalized(text).unwrap_err().to_string(), message, "{text}");
    }

    #[test]
    fn normalises() {
        let digest = Digest::sha256(b"");
        check("busybox", "docker.io/library/busybox", "busybox");
        check("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36");
        check("docker.io/busybox", "docker.io/library/busybox", "busybox");
        check("index.docker.io/user/app", "docker.io/user/app", "user/app");
        check("library/a/b", "docker.io/library/a/b", "library/a/b");
        check("corten/hello:latest", "docker.io/corten/hello:latest", "corten/hello:latest");
        check("localhost/app", "localhost/app", "localhost/app");
        check("localhost:5000/a/b:x_Y.z-1", "localhost:5000/a/b:x_Y.z-1", "localhost:5000/a/b:x_Y.z-1");
        check("Foo/app", "Foo/app", "Foo/app");
        check("[fd00::1]:5000/app", "[fd00::1]:5000/app", "[fd00::1]:5000/app");
        check("a__b/c---d.e", "docker.io/a__b/c---d.e", "a__b/c---d.e");
        check(&format!("app:1@{digest}"), &format!("docker.io/library/app:1@{digest}"), &format!("app:1@{digest}"));
    }

    #[test]
    fn default_tag() {
        let tagged = |text: &str| Reference::parse_normalized(text).unwrap().with_default_tag().familiar();
        assert_eq!(tagged("busybox"), "busybox:latest");
        assert_eq!(tagged("busybox:1"), "busybox:1");
        let pinned = format!("busybox@{}", Digest::sha256(b""));
        assert_eq!(tagged(&pinned), pinned);
    }

    #[test]
    fn refuses() {
        fails("Foo", "invalid reference format: repository name (library/Foo) must be lowercase");
        fails("user/Foo:tag", "invalid reference format: repository name (user/Foo) must be lowercase");
        for text in [
            "",
            ":",
            ":tag",
            "a:",
            "a@",
            "a@sha256:12",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a:b:c",
            "http://a/b",
            "a.b:port/c",
            "a:-x",
            "../a",
            "a\n",
        ] {
            fails(text, "invalid reference format");
        }
        fails(&format!("a:{}", "x".repeat(129)), "invalid reference format");
        fails(&format!("a/{}", "b".repeat(254)), "repository name must not be more than 255 characters");
        fails(&format!("a@md5:{}", "0".repeat(32)), "unsupported digest algorithm");
        fails(&format!("a@sha256:{}", "0".repeat(40)), "invalid checksum digest length");
        let hex = "0".repeat(64);
        fails(&hex, &format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_fails_cleanly(text in ".{0,80}") {
            if let Ok(reference) = Reference::parse_normalized(&text) {
                proptest::prop_assert_eq!(Reference::parse_normalized(&reference.to_string()).unwrap(), reference.clone());
                proptest::prop_assert_eq!(Reference::parse_normalized(&reference.familiar()).unwrap(), reference);
            }
        }
    }
}
