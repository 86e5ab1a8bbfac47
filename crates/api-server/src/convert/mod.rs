//! Between the API's JSON types and the engine's own: pure functions.

pub(crate) mod create;
pub(crate) mod event;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod network;
pub(crate) mod progress;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod volume;

use std::collections::BTreeMap;

/// A map that Docker writes as `null` when it is empty.
pub(crate) fn null_if_empty(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    Some(map.clone()).filter(|map| !map.is_empty())
}
