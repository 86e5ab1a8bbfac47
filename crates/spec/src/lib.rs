//! A container's settings to an OCI spec: Docker's defaults, its seccomp profile language.
//!
//! [`to_oci`] is pure: what it must know about the host arrives as [`HostFacts`]. Only the module [`host`] looks at the
//! machine, to gather those facts. Behaviour follows Docker Engine 28.5, the document the OCI runtime-spec 1.3 for Linux.

pub mod caps;
mod devices;
mod environment;
mod error;
pub mod exec;
pub mod host;
pub mod limits;
mod mounts;
mod oci;
mod resources;
pub mod seccomp;
mod settings;
pub mod user;

pub use environment::{DEFAULT_PATH, environment};
pub use error::Error;
pub use oci::{MASKED_PATHS, READONLY_PATHS, to_oci};
pub use resources::resources;
pub use settings::*;
