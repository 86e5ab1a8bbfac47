//! `corten runtime` as higher tools drive it: the real executable, on the real kernel. Needs root.

#![expect(clippy::unwrap_used, reason = "a test program: what fails here is the test")]

mod agent;
mod chroot;
mod devices;
mod exec;
mod flags;
mod hooks;
mod killed;
mod labels;
mod life;
mod limits;
mod orphans;
mod peers;
mod safety;
mod seccomp;
mod support;
mod terminal;
mod update;
