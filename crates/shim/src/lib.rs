//! One container's supervisor: stdio, log files, exit status, its wire protocol.
//!
//! A shim is one small single-threaded process that outlives the daemon. It serves one run of one container. The
//! daemon's side is [`spawn`] and [`client`], the messages are [`protocol`], the role's entry is [`main`].
//!
//! ```text
//! zygote:   executed once, minimal root, usual plan; each warm shim is a copy of it
//! warm-up:  namespaces, init stub  ->  Ready
//! Assign:   adoption socket in the run directory
//! Start:    plan and descriptors to the stub; it executes the program  ->  Started
//! exit:     streams drained, exit.json by rename  ->  Exited; then Release, or the end if no daemon is connected
//! ```
//!
//! A container of another runtime has a shim of the same kind that was started with `--external`: it stays in the host's tree, and
//! what the stub does is done by that runtime's command line.

pub mod client;
mod clients;
mod external;
mod handlers;
mod io;
mod json_log;
pub mod lookup;
mod oom;
mod process;
pub mod protocol;
pub mod spawn;
mod stub;
mod supervisor;
mod time;
mod warm;
mod zygote;

pub use warm::main;
