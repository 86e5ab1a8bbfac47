//! The targets.

pub(crate) mod challenge;
pub(crate) mod config;
pub(crate) mod image;
pub(crate) mod layer;
pub(crate) mod manifest;
pub(crate) mod mounts;
pub(crate) mod progress;
pub(crate) mod reference;
pub(crate) mod seccomp;
