//! One container's supervisor: stdio, log files, exit status, its wire protocol.
//!
//! A shim is one small single-threaded process that outlives the daemon. It serves one run of one container. The
//! daemon's side is [`client`], the messages are [`protocol`], the role's entry is [`main`].
//!
//! ```text
//! warm-up:  namespaces, minimal root, init stub  ->  Ready
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
mod stub;
mod supervisor;
mod time;
mod warm;

pub use warm::main;
