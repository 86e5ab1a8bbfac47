//! Ids, digests, image references, platforms, error kinds, units as Docker prints them.
//!
//! Everything here is pure: no I/O (but for the kernel's random source behind [`ContainerId::generate`]), no clocks, no
//! globals. All other crates may depend on this one; it depends on none of them.

pub mod digest;
pub mod duration;
mod error;
mod id;
mod names;
mod namespace;
mod platform;
pub mod reference;
pub mod signal;
pub mod sysctl;
pub mod time;
pub mod units;

pub use digest::{Algorithm, ChainId, DiffId, Digest, Digester, ImageId, InvalidDigest};
pub use error::ErrorKind;
pub use id::{
    ContainerId, ContainerName, EndpointId, ExecId, InvalidId, InvalidName, NetworkId, SandboxId, VolumeName,
};
pub use names::random_name;
pub use namespace::Namespace;
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
