//! A container's life: tasks, exec, reconciliation.
//!
//! The engine knows no HTTP and no API JSON. A face calls [`Engine::containers`], [`Engine::execs`], [`Engine::images`],
//! [`Engine::networks`], [`Engine::volumes`], [`Engine::info`] and gives errors on by their
//! [`Error::kind`] and [`Error::message`].
//!
//! - One task owns one container (`task`); requests are messages in its bounded mailbox, readers take the snapshot that it
//!   publishes ([`ContainerView`]). What may follow from what is the pure table in [`life`].
//! - `create` and `launch` decide in pure code (`merge`, `mounts`, `translate`) and act in the stores' crates, everything that may
//!   block behind one doorway (`blocking`; what moves images behind `transfers`). What was done is undone in reverse when a later step fails.
//! - A container's processes belong to its shim, not to the daemon: `pool` keeps warm ones, `link` is the daemon's end of one,
//!   `reconcile` takes over those that an earlier daemon left.
//! - `limits` says what a container's limits may be and become; `stats` looks at what containers use, one collector for all watchers.
//! - Records (`record`) are written before a create or remove is acknowledged, durably; what runs is known by the shims, so a
//!   running state's record only has to survive the daemon, not the machine.

mod attach;
mod background;
pub mod blocking;
mod config;
mod containers;
mod create;
mod engine;
mod error;
mod exec;
mod expiry;
mod external;
mod filters;
mod grouped;
mod info;
mod init_layer;
mod init_program;
mod joined;
mod launch;
pub mod life;
mod limits;
mod link;
mod list;
mod logs;
mod merge;
mod mounts;
mod network;
mod network_files;
mod parents;
mod pool;
mod reconcile;
mod record;
mod refill;
mod refusal;
mod registry;
mod resources;
mod reuse;
mod run;
mod runtimes;
mod services;
pub mod settings;
mod shared;
mod spare;
mod stats;
mod task;
mod top;
mod transfers;
mod translate;
mod undo;
mod view;
mod volumes;
mod watches;
mod watermark;

pub use attach::{AttachOptions, Attached, Detach, DetachKeys};
pub use config::{Config, ProxyConfig};
pub use containers::{
    Containers, CreateContainer, Created, ListOptions, RemoveOptions, StopOptions, UpdateContainer, WaitCondition,
    WaitResult, Waiting,
};
pub use corten_cgroup::BlockStats;
pub use corten_distribution::Credentials;
pub use engine::Engine;
pub use error::{Error, chain};
pub use exec::{ExecEnd, ExecService, StartExec};
pub use info::{Info, Version};
pub use logs::{LogOptions, LogStream};
pub use resources::{NetworkService, NetworkState, VolumeService};
pub use runtimes::{BUILT_IN, ExternalRuntime, Runtimes};
pub use services::{Body, Download, ImageService, Operation};
pub use settings::ContainerSpec;
pub use stats::{Counters, Sample, Traffic, Usage, Watcher};
pub use view::{BoundPort, ContainerView, Echo, EndpointView, ExecSpec, ExecView, Files, MountPoint, NetworkView};
pub use watermark::Watermarks;
