//! Registry protocol, auth, client.
//!
//! The OCI distribution specification 1.1, pull and push. [`Client`] is asynchronous; [`Client::blocking`] gives the same
//! to plain synchronous code, with a blob as a `Read` that takes from the network only as fast as it is read.
//!
//! A registry's answers are hostile: every body is bounded before it is kept, every wait has an end, credentials go to the
//! host that they were meant for and to the token service that it names, never along with a redirect to another. What a
//! blob's bytes are is not checked here: whoever stores them compares the digest.
//!
//! No task runs in the background. A connection moves only while somebody waits for its answer, on that one's thread.

mod blob;
mod blocking;
mod body;
mod cancel;
mod challenge;
mod client;
mod config;
mod connect;
mod credentials;
mod error;
mod hosts;
mod login;
mod outgoing;
mod pool;
mod proxy;
mod referrers;
mod request;
pub mod resolve;
mod retry;
mod route;
mod search;
mod sending;
mod tls;
mod token;
mod transport;
mod upload;
mod url;
mod web;
mod words;

pub use blob::BlobStream;
pub use blocking::{Blocking, Reader, Slot};
pub use cancel::Cancel;
pub use challenge::Challenge;
pub use client::{Client, Descriptor, Direction, MEDIA_TYPES};
pub use config::{Insecure, Limits, Mirror, RegistryConfig, SYSTEM_DIRECTORIES, Timeouts};
pub use credentials::{Credentials, InvalidCredentials};
pub use error::{Cause, Error, Result};
pub use proxy::{Proxies, ShownProxies};
pub use search::Found;
pub use upload::{Mounted, Session, Source};
pub use web::{WebAddress, WebFile};
pub use words::Words;
