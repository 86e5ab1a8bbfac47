//! The only unsafe code: mounts, clone3, pidfd, setns, netlink and nfnetlink messages, bpf, pty, fd-relative paths.
//!
//! Functions return owned descriptors and take borrowed ones; errors are [`std::io::Error`] with the kernel's number.
//! What rustix offers safely is used from there; the rest is a handful of raw system calls, each with its facts stated.

pub mod bpf;
pub mod credentials;
pub mod limits;
pub mod mark;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod path;
pub mod precedence;
pub mod process;
pub mod pty;
pub mod scheduling;
pub mod signal;
pub mod slate;
pub mod socket;
pub mod user_namespace;
pub mod watch;
