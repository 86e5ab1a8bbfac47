//! The namespace that every stored record carries as the first part of its key.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A namespace of containers, image names, networks, volumes and leases; content is shared beneath them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    /// The namespace of Docker's faces.
    pub const DEFAULT: &'static str = "default";

    /// A namespace of this name.
    pub fn new(name: impl Into<String>) -> Namespace {
        Namespace(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
