//! From the flags of `run` and `create` to the daemon's create request: pure parsing with Docker's rules and error texts.

mod checks;
mod config;
pub(crate) mod csv;
mod devices;
mod env;
mod flags;
mod health;
mod mounts;
mod networks;
mod ports;

pub(crate) use checks::{ip_address, label, memory, parse_cpus, signed};
pub(crate) use config::{CreateRequest, Streams, build, parse_restart_policy, parse_size};
pub(crate) use env::environment;
pub(crate) use flags::{CONTAINER_FLAGS, RESOURCE_FLAGS};
