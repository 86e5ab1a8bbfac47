//! The targets.

pub(crate) mod config;
pub(crate) mod image;
pub(crate) mod layer;
pub(crate) mod mounts;
pub(crate) mod seccomp;
