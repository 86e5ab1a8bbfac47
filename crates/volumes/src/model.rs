//! The values this crate's callers hand in and get back.

use corten_base::VolumeName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// The label that marks a volume whose name was made up by the engine.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A volume as `inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The name.
    pub name: VolumeName,
    /// The driver: `local`.
    pub driver: String,
    /// Where its content is.
    pub mountpoint: PathBuf,
    /// When it was created.
    pub created: SystemTime,
    /// `Labels`; empty is null in the API.
    pub labels: BTreeMap<String, String>,
    /// `Options`; empty is null in the API.
    pub options: BTreeMap<String, String>,
}

impl Volume {
    /// Whether the engine made the name up.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }
}

/// What a caller asks of [`Volumes::create`](crate::Volumes::create).
#[derive(Clone, Debug, Default)]
pub struct CreateVolume {
    /// The name; empty makes an anonymous volume.
    pub name: String,
    /// The driver; empty is `local`.
    pub driver: String,
    /// Driver options: `type`, `device`, `o`.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Docker's filters of `volume ls`; an empty list lets everything pass, several values of one name are alternatives
/// (labels: all of them).
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Parts of names.
    pub name: Vec<String>,
    /// `key` or `key=value`.
    pub label: Vec<String>,
    /// `label!` of prune: those without.
    pub label_not: Vec<String>,
    /// Drivers.
    pub driver: Vec<String>,
    /// Only those (not) in use.
    pub dangling: Option<bool>,
}
