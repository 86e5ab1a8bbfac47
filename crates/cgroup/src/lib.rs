//! The cgroup tree on v1, v2 and hybrid: limits, devices, freeze, statistics, OOM events.
//!
//! A [`Tree`] is what the host has mounted; a [`Group`] is one path in it, made in every hierarchy at once. Limits are
//! planned as data (`v1`, `v2`) and then written through directory descriptors that the group keeps, so that a write costs
//! an open, a write and a close, and renaming a group doesn't break it.
//!
//! Only groups that this crate made are written to; the one exception, enabling controllers at the root of a v2 tree that
//! nobody else manages, is a call of its own: [`Tree::enable_root_controllers`]. On a hybrid host the v1 controllers are used
//! and the v2 tree is left alone.
//!
//! See the kernel's admin-guide: cgroup-v1/ and cgroup-v2.rst.

mod details;
mod detect;
mod devices;
mod ebpf;
mod error;
mod file;
mod freeze;
mod group;
mod limits;
mod oom;
mod own;
mod path;
mod plan;
mod pressure;
mod remove;
mod stats;
mod stats_v1;
mod stats_v2;
mod tree;
mod v1;
mod v2;

pub use details::{Cpuset, Details, MemoryUse};
pub use detect::{Controller, Layout, V1Mount};
pub use error::Error;
pub use group::Group;
pub use limits::{BlockIo, DeviceKind, DeviceRule, HugepageLimit, Limits};
pub use oom::OomWatch;
pub use path::CgroupPath;
pub use pressure::{Pressure, Stall, Stalls};
pub use stats::{BlockStats, CpuStats, HugepageStats, MemoryStats, PidsStats, RdmaStats, Stats};
pub use tree::{Support, Tree};
pub use v2::weight_of_shares;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
