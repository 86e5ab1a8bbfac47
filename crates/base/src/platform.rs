//! Platforms in the words of OCI images: operating system, architecture (Go's names), variant.

use crate::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// An empty part, too many parts, or a character that is not allowed.
    #[error(
        "{0:?} is an invalid OS component of {1:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_.-]+)(?:\\\\(([A-Za-z0-9_.%-]*)\\\\))?$\": invalid argument"
    )]
    Component(String, String),
    /// One word that is neither a known system nor a known architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

impl InvalidPlatform {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// What an image or a machine runs; its JSON has the order of the OCI image specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor in Go's names: `amd64`, `arm64`, `arm`, `386`...
    #[serde(default)]
    pub architecture: String,
    /// The operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// Used by Windows images only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Used by Windows images only.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Such as `v7` for 32-bit ARM. Never `v8` for arm64, where it is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Platform {
        Platform::new("linux", host_architecture(), None)
    }

    /// The platform of this machine with the level of its processor, as Docker tells it: `linux/amd64/v3`.
    pub fn detected() -> Platform {
        Platform { variant: Some(host_variant().to_owned()).filter(|v| !v.is_empty()), ..Platform::host() }
    }

    /// Whether a machine of this platform runs programs for `other` by itself: its own and lower levels, and the 32-bit programs of
    /// its kind.
    pub fn runs(&self, other: &Platform) -> bool {
        let other = Platform::new(&other.os, &other.architecture, other.variant.as_deref());
        let is_level = other.variant.is_none() || other.variant <= self.variant;
        match (self.architecture.as_str(), other.architecture.as_str()) {
            _ if self.os != other.os => false,
            ("amd64", "386") | ("arm64", "arm") => true,
            (mine, theirs) => mine == theirs && is_level,
        }
    }

    /// A platform from its parts, with synonyms resolved (`x86_64`, `aarch64`, `armhf`).
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let (architecture, variant) = normalize(architecture, variant.unwrap_or_default());
        Platform {
            os: os.to_ascii_lowercase(),
            architecture,
            variant: Some(variant).filter(|v| !v.is_empty()),
            ..Platform::default()
        }
    }

    /// Reads `os`, `architecture`, `os/architecture` or `os/architecture/variant`.
    pub fn parse(text: &str) -> Result<Platform, InvalidPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        for part in &parts {
            let well_formed = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
            if part.is_empty() || !well_formed {
                return Err(InvalidPlatform::Component((*part).to_owned(), text.to_owned()));
            }
        }
        match parts[..] {
            [os] if KNOWN_SYSTEMS.contains(&os.to_ascii_lowercase().as_str()) => {
                Ok(Platform::new(os, host_architecture(), None))
            }
            [word] => {
                let platform = Platform::new("linux", word, None);
                if KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    Ok(platform)
                } else {
                    Err(InvalidPlatform::Unknown(text.to_owned()))
                }
            }
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform::Component(parts[3].to_owned(), text.to_owned())),
        }
    }

    /// Whether something made for `other` runs where `self` is asked for. A 32-bit ARM variant runs the older ones;
    /// an absent variant in `other` fits every one.
    pub fn matches(&self, other: &Platform) -> bool {
        let other = Platform::new(&other.os, &other.architecture, other.variant.as_deref());
        if self.os != other.os || self.architecture != other.architecture {
            return false;
        }
        match (&self.variant, &other.variant) {
            (Some(mine), Some(theirs)) if self.architecture == "arm" => theirs <= mine,
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, Some(_)) => self.architecture == "arm64",
            (_, None) => true,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;
    fn from_str(text: &str) -> Result<Platform, InvalidPlatform> {
        Platform::parse(text)
    }
}

const KNOWN_SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "linux",
    "netbsd",
    "openbsd",
    "solaris",
    "windows",
];
const KNOWN_ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The levels of the x86-64 psABI; the one level that arm64 machines have.
#[cfg(target_arch = "x86_64")]
fn host_variant() -> &'static str {
    use std::arch::is_x86_feature_detected as has;
    let second = has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt");
    let third = second && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("f16c") && has!("fma") && has!("movbe");
    let fourth = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    match (second, third, third && fourth) {
        (_, _, true) => "v4",
        (_, true, _) => "v3",
        (true, ..) => "v2",
        _ => "v1",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_variant() -> &'static str {
    if host_architecture() == "arm64" { "v8" } else { "" }
}

/// Resolves the synonyms of architectures and variants.
fn normalize(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_what_they_run() {
        let check = |machine: &str, program: &str, expect: bool| {
            let (machine, program) = (Platform::parse(machine).unwrap(), Platform::parse(program).unwrap());
            assert_eq!(machine.runs(&program), expect, "{program} on {machine}");
        };
        check("linux/amd64/v3", "linux/amd64", true);
        check("linux/amd64/v3", "linux/amd64/v2", true);
        check("linux/amd64/v3", "linux/amd64/v4", false);
        check("linux/amd64/v3", "linux/386", true);
        check("linux/amd64/v3", "windows/amd64", false);
        check("linux/amd64/v3", "linux/s390x", false);
        check("linux/arm64", "linux/arm/v7", true);
        check("linux/riscv64", "linux/riscv64", true);
        assert!(Platform::detected().runs(&Platform::host()));
    }

    fn check(text: &str, expect: &str) {
        assert_eq!(Platform::parse(text).unwrap().to_string(), expect);
    }

    #[test]
    fn parses() {
        check("linux/amd64", "linux/amd64");
        check("Linux/x86_64", "linux/amd64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm", "linux/arm/v7");
        check("linux/arm/v6", "linux/arm/v6");
        check("arm64", "linux/arm64");
        check("linux", &Platform::host().to_string());
    }

    #[test]
    fn refuses() {
        assert_eq!(
            Platform::parse("nonsense").unwrap_err().to_string(),
            "\"nonsense\": unknown operating system or architecture: invalid argument"
        );
        for text in ["", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn matching() {
        let matches = |a: &str, b: &str| Platform::parse(a).unwrap().matches(&Platform::parse(b).unwrap());
        assert!(matches("linux/amd64", "linux/amd64"));
        assert!(!matches("linux/amd64", "linux/arm64"));
        assert!(!matches("linux/amd64", "windows/amd64"));
        assert!(matches("linux/arm/v7", "linux/arm/v6"));
        assert!(!matches("linux/arm/v6", "linux/arm/v7"));
        assert!(!matches("linux/amd64", "linux/amd64/v3"));
    }
}
