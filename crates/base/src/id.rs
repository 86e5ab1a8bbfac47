//! Ids of 64 hexadecimal digits, and the names that people give.

use crate::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text that is not an id of 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id of 64 lower-case hexadecimal digits")]
pub struct InvalidId(pub String);

impl InvalidId {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// 32 random bytes as 64 hexadecimal digits, never with an all-decimal short form: `123456789012` would be a host name
/// that some software takes for a number.
fn random_hex() -> String {
    loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers on every supported system");
        let hex = to_hex(&bytes);
        if !hex[..12].bytes().all(|b| b.is_ascii_digit()) {
            return hex;
        }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.push(DIGITS[usize::from(byte >> 4)] as char);
        hex.push(DIGITS[usize::from(byte & 15)] as char);
    }
    hex
}

/// Whether `text` is made of lower-case hexadecimal digits only.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random id.
            pub fn generate() -> $name {
                $name(random_hex())
            }

            /// The id of these 32 bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> $name {
                $name(to_hex(&bytes))
            }

            /// Reads a full id of 64 lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Result<$name, InvalidId> {
                if text.len() == 64 && is_lower_hex(text) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(InvalidId(text.to_owned()))
                }
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, as Docker shows ids.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<$name, InvalidId> {
                $name::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<$name, InvalidId> {
                $name::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

hex_id! {
    /// A container's id.
    ContainerId
}
hex_id! {
    /// The id of one `exec` inside a container.
    ExecId
}
hex_id! {
    /// A network's id.
    NetworkId
}
hex_id! {
    /// The id of a sandbox's attachment to a network.
    EndpointId
}
hex_id! {
    /// The id of a sandbox: the namespaces that one or several containers share.
    SandboxId
}

/// The characters of names, in the notation of Docker's messages.
pub const NAME_CHARACTERS: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// A name that Docker's rules refuse; `Display` is Docker's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A container name with other characters, or shorter than two.
    #[error("Invalid container name ({0}), only {NAME_CHARACTERS} are allowed")]
    Container(String),
    /// A volume name of one character.
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    VolumeTooShort,
    /// A volume name with other characters.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only {NAME_CHARACTERS:?} are allowed. If you intended to pass a host directory, use absolute path"
    )]
    Volume(String),
}

impl InvalidName {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Whether `name` is at least two characters of [`NAME_CHARACTERS`].
fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<$name, InvalidName> {
                $name::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<$name, InvalidName> {
                $name::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name! {
    /// A container's name, without the slash that the API puts in front.
    ContainerName
}
name! {
    /// A volume's name; safe as one path component.
    VolumeName
}

impl ContainerName {
    /// Reads a name; one leading slash is taken off.
    pub fn parse(text: &str) -> Result<ContainerName, InvalidName> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if is_name(name) { Ok(ContainerName(name.to_owned())) } else { Err(InvalidName::Container(text.to_owned())) }
    }
}

impl VolumeName {
    /// Reads a name as the `local` driver allows it.
    pub fn parse(text: &str) -> Result<VolumeName, InvalidName> {
        match text {
            _ if text.len() == 1 => Err(InvalidName::VolumeTooShort),
            _ if is_name(text) => Ok(VolumeName(text.to_owned())),
            _ => Err(InvalidName::Volume(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id = ContainerId::generate();
        assert_eq!(ContainerId::parse(id.as_str()).unwrap(), id);
        assert_eq!(id.short().len(), 12);
        assert_eq!(serde_json::from_str::<ContainerId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        assert_eq!(ContainerId::from_bytes([0xab; 32]).short(), "abababababab");
        assert_ne!(ContainerId::generate(), id);
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in ["", "abc", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65), "../../../etc"] {
            assert!(ContainerId::parse(text).is_err(), "{text}");
            assert!(serde_json::from_value::<NetworkId>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn container_names() {
        assert_eq!(ContainerName::parse("/web-1").unwrap().as_str(), "web-1");
        for name in ["", "a", "-a", "a b", "a/b", "..", "ä1", "//ab"] {
            assert_eq!(
                ContainerName::parse(name).unwrap_err().to_string(),
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
        }
    }

    #[test]
    fn volume_names() {
        assert!(VolumeName::parse("data_1.x-y").is_ok());
        assert_eq!(VolumeName::parse("a").unwrap_err(), InvalidName::VolumeTooShort);
        assert_eq!(
            VolumeName::parse("a/b").unwrap_err().to_string(),
            "\"a/b\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
             If you intended to pass a host directory, use absolute path"
        );
    }
}
