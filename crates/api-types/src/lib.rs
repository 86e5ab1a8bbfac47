//! Engine API JSON as the server writes and the client reads it, and the old versions' deltas.
//!
//! The structs carry the API's own names. Which fields are `null`, `[]` or left out follows what dockerd 28.5 writes:
//! `Option<Vec<_>>` without `skip_serializing_if` is a list that Docker writes as `null` when it was never set.
//! On input every field may be absent or `null` and unknown ones are ignored, as Go's decoder does it; use [`decode`],
//! which has those rules, rather than serde_json directly.

mod config;
mod container;
pub mod deltas;
mod event;
mod exec;
mod host;
mod image;
mod json;
mod lenient;
mod mount;
mod network;
mod progress;
mod stats;
mod system;
mod update;
mod version;
mod volume;

pub use config::{ContainerConfig, HealthConfig};
pub use container::*;
pub use event::{EventActor, EventMessage};
pub use exec::*;
pub use host::*;
pub use image::*;
pub use json::{Empty, InvalidJson, decode, decode_value};
pub use mount::*;
pub use network::*;
pub use progress::{ErrorDetail, JsonMessage, ProgressDetail};
pub use stats::*;
pub use system::*;
pub use update::*;
pub use version::{ApiVersion, InvalidVersion, VersionRefused};
pub use volume::*;

use serde::{Deserialize, Serialize};

/// The body of every answer that reports a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What failed, for people; clients match on some of the texts.
    #[serde(default)]
    pub message: String,
}

/// The answer that carries nothing but a new object's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdResponse {
    /// The id.
    #[serde(rename = "Id", default)]
    pub id: String,
}
