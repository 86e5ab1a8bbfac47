//! Decoding with the tolerance of Go's decoder: `null` is the same as absent.

use crate::lenient::Lenient;
use corten_base::ErrorKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The empty object that Go writes for `struct{}`, as in `"ExposedPorts": {"80/tcp": {}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A body that is not the JSON it should be.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJson {
    /// Nothing at all.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// More than one value.
    #[error("unexpected content after JSON")]
    Trailing,
    /// No JSON, or of another shape.
    #[error("invalid JSON: {0}")]
    Shape(#[source] serde_json::Error),
}

impl InvalidJson {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Reads one JSON value of type `T` with the tolerance of Go's decoder (module `lenient`).
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidJson> {
    if body.trim_ascii().is_empty() {
        return Err(InvalidJson::Empty);
    }
    let mut values = serde_json::Deserializer::from_slice(body);
    let value = Value::deserialize(&mut values).map_err(InvalidJson::Shape)?;
    values.end().map_err(|_| InvalidJson::Trailing)?;
    decode_value(&value)
}

/// [`decode`] for a value that is parsed already.
pub fn decode_value<T: DeserializeOwned>(value: &Value) -> Result<T, InvalidJson> {
    T::deserialize(Lenient(value)).map_err(InvalidJson::Shape)
}

/// For `skip_serializing_if`.
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

/// For `skip_serializing_if`.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample {
        name: String,
        list: Option<Vec<String>>,
        inner: Vec<Sample>,
    }

    #[test]
    fn null_is_absent() {
        let sample: Sample = decode(br#"{"name":null,"list":null,"inner":[{"name":null}],"other":1}"#).unwrap();
        assert_eq!(sample, Sample { inner: vec![Sample::default()], ..Sample::default() });
    }

    #[test]
    fn bad_bodies() {
        let check = |body: &str, expect: &str| {
            let text = decode::<Sample>(body.as_bytes()).unwrap_err().to_string();
            assert!(text.starts_with(expect), "{text}");
        };
        check("", "invalid JSON: got EOF while reading request body");
        check("{", "invalid JSON: EOF");
        check(r#"{"name":1}"#, "invalid JSON: name: invalid type: integer");
        check(r#"{"inner":[{"name":1}]}"#, "invalid JSON: inner: name: invalid type: integer");
        check("[1]", "invalid JSON: invalid type");
        check("{} {}", "unexpected content after JSON");
        check(&"[".repeat(100_000), "invalid JSON: recursion limit exceeded");
    }
}
