//! Engine API client: where the daemon is, how to speak HTTP to it, and typed calls.
//!
//! The client is part of every measured `corten run`, so it is blocking and small: one HTTP/1.1 connection over a Unix or
//! TCP socket, no threads (except while a file is uploaded), no runtime, nothing initialised before it is needed.
//! Requests go out under a fixed API version without asking the daemon first; only when a daemon answers that this version
//! is too new does the client step down to the one the daemon names.

mod config;
mod connection;
mod credentials;
mod endpoint;
mod error;
mod request;
mod response;
mod transport;

pub use config::{ConfigFile, Proxy, auth_header};
pub use connection::{Client, Hijacked};
pub use credentials::{HUB_KEY, registry_key};
pub use endpoint::{DEFAULT_SOCKET, Endpoint, EndpointSource, Resolved, resolve_endpoint};
pub use error::{Error, Result};
pub use request::{Pending, Request};
pub use response::Response;
pub use transport::Stream;

/// The Engine API version that requests carry unless `DOCKER_API_VERSION` says otherwise.
pub const API_VERSION: &str = "1.51";
