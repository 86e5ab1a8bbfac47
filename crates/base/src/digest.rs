//! Content digests as the OCI image specification writes them (`sha256:<hex>`), and the ids that are digests.
//!
//! A chain id names a stack of layers: the first layer's chain id is its diff id, each further one is the digest of
//! `"<chain id below> <diff id>"` (image-spec, config.md, "Layer ChainID").

use crate::ErrorKind;
use crate::id::{is_lower_hex, to_hex};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// A hash function that digests may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what everybody writes.
    Sha256,
    /// SHA-512, allowed by the specification.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a digest; the texts are those of Docker's digest library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// No `algorithm:hex`, or characters other than lower-case hexadecimal digits.
    #[error("invalid checksum digest format")]
    Format,
    /// The wrong number of digits for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// Another algorithm than SHA-256 and SHA-512.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

impl InvalidDigest {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// The digest of some content. Its parts are safe as path components.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    text: String,
    algorithm: Algorithm,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::from_hash(Algorithm::Sha256, &sha2::Sha256::digest(bytes))
    }

    /// The digest of these bytes by this algorithm.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut digester = Digester::new(algorithm);
        digester.update(bytes);
        digester.finish()
    }

    /// Reads `algorithm:hex`.
    pub fn parse(text: &str) -> Result<Digest, InvalidDigest> {
        let (algorithm, hex) = text.split_once(':').ok_or(InvalidDigest::Format)?;
        if algorithm.is_empty() || hex.is_empty() {
            return Err(InvalidDigest::Format);
        }
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(InvalidDigest::Unsupported),
        };
        if hex.len() != algorithm.hex_length() {
            return Err(InvalidDigest::Length);
        }
        if !is_lower_hex(hex) {
            return Err(InvalidDigest::Format);
        }
        Ok(Digest { text: text.to_owned(), algorithm })
    }

    /// A SHA-256 digest from its 64 hexadecimal digits.
    pub fn from_sha256_hex(hex: &str) -> Result<Digest, InvalidDigest> {
        Digest::parse(&format!("sha256:{hex}"))
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The first 12 digits, as Docker shows image ids.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Digest {
        Digest { text: format!("{algorithm}:{}", to_hex(hash)), algorithm }
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Digester(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Digester {
    /// Begins with nothing hashed.
    pub fn new(algorithm: Algorithm) -> Digester {
        Digester(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(sha2::Sha512::new())),
        })
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Begins a SHA-256 digest.
    pub fn sha256() -> Digester {
        Digester::new(Algorithm::Sha256)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Digester {
        match &mut self.0 {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
        self
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.finalize()),
            State::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.finalize()),
        }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl std::io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        Digest::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Digest, InvalidDigest> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.text
    }
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Reads `algorithm:hex`.
            pub fn parse(text: &str) -> Result<$name, InvalidDigest> {
                Digest::parse(text).map($name)
            }

            /// The digest.
            pub fn digest(&self) -> &Digest {
                &self.0
            }

            /// The whole text, `algorithm:hex`.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The hexadecimal digits.
            pub fn hex(&self) -> &str {
                self.0.hex()
            }

            /// The first 12 digits.
            pub fn short(&self) -> &str {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> $name {
                $name(digest)
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;
            fn from_str(text: &str) -> Result<$name, InvalidDigest> {
                $name::parse(text)
            }
        }
    };
}

digest_id! {
    /// An image's id: the digest of its configuration.
    ImageId
}
digest_id! {
    /// The digest of one layer's uncompressed tar.
    DiffId
}
digest_id! {
    /// The digest of a stack of layers.
    ChainId
}

impl ChainId {
    /// The chain id of `layers`, lowest first; none for no layers.
    pub fn of(layers: &[DiffId]) -> Option<ChainId> {
        let (first, rest) = layers.split_first()?;
        Some(rest.iter().fold(ChainId(first.0.clone()), |chain, layer| chain.extend(layer)))
    }

    /// The chain id of each prefix of `layers`, lowest first.
    pub fn prefixes(layers: &[DiffId]) -> Vec<ChainId> {
        let mut chains: Vec<ChainId> = Vec::with_capacity(layers.len());
        for layer in layers {
            let next = match chains.last() {
                Some(chain) => chain.extend(layer),
                None => ChainId(layer.0.clone()),
            };
            chains.push(next);
        }
        chains
    }

    /// The chain id of this stack with `layer` on top.
    pub fn extend(&self, layer: &DiffId) -> ChainId {
        ChainId(Digest::sha256(format!("{} {}", self.0, layer.0).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_round_trip() {
        let digest = Digest::sha256(b"");
        assert_eq!(digest.as_str(), EMPTY);
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert_eq!(Digest::parse(EMPTY).unwrap(), digest);
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("{EMPTY:?}"));
    }

    #[test]
    fn bad_digests() {
        let check = |text: &str, expect| assert_eq!(Digest::parse(text).unwrap_err(), expect, "{text}");
        check("", InvalidDigest::Format);
        check("sha256", InvalidDigest::Format);
        check("sha256:", InvalidDigest::Format);
        check("sha256:abc", InvalidDigest::Length);
        check("md5:d41d8cd98f00b204e9800998ecf8427e", InvalidDigest::Unsupported);
        check(&EMPTY.to_uppercase().replace("SHA", "sha"), InvalidDigest::Format);
        check(&format!("sha256:{}", "../".repeat(22).get(..64).unwrap()), InvalidDigest::Format);
    }

    #[test]
    fn pieces_equal_the_whole() {
        for (algorithm, length) in [(Algorithm::Sha256, 64), (Algorithm::Sha512, 128)] {
            let mut pieces = Digester::new(algorithm);
            pieces.update(b"hello ").update(b"world");
            let mut whole = Digester::new(algorithm);
            whole.update(b"hello world");
            let digest = pieces.finish();
            assert_eq!(digest, whole.finish());
            assert_eq!(digest.hex().len(), length);
            assert_eq!(Digest::parse(digest.as_str()).unwrap(), digest);
        }
    }

    #[test]
    fn chains() {
        let layers = [DiffId(Digest::sha256(b"a")), DiffId(Digest::sha256(b"b")), DiffId(Digest::sha256(b"c"))];
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&layers[..1]).unwrap().0, layers[0].0);
        let two = Digest::sha256(format!("{} {}", layers[0], layers[1]).as_bytes());
        assert_eq!(ChainId::of(&layers[..2]).unwrap().0, two);
        assert_eq!(ChainId::prefixes(&layers).last(), ChainId::of(&layers).as_ref());
        assert_eq!(ChainId::prefixes(&layers)[1].0, two);
    }
}
