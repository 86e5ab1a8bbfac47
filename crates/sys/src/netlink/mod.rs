//! A small synchronous rtnetlink client: links, addresses and routes, many changes per system call.
//!
//! A [`Batch`] holds requests as bytes; [`Route::apply`] sends them in one `sendmsg` and reads all acknowledgements. The kernel
//! works through a batch in order but **doesn't stop at a failure**: the caller undoes what it has made. Requests are
//! written with netlink-packet-route; answers are read by hand and only as far as needed, so that attributes of newer kernels
//! can't break them. See `rtnetlink(7)` and `Documentation/networking/` of the kernel.

mod batch;
mod carry;
pub(crate) mod connection;
pub mod conntrack;
mod error;
pub mod netns;
mod route;
pub(crate) mod wire;

pub use batch::{Batch, LinkChange, VethPair};
pub use carry::carry;
pub use error::Error;
pub use route::{Address, Link, Route, RouteEntry};
