//! The targets.

pub(crate) mod config;
pub(crate) mod mounts;
pub(crate) mod seccomp;
