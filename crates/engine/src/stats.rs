//! What containers use, looked at once or about every second.
//!
//! One collector serves all who watch (`stats/collector.rs`): it runs only while somebody does, and looks at all watched
//! containers in one go off the runtime's thread. What it reads is in `stats/read.rs`.

mod collector;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blocking;
use crate::containers::Containers;
use crate::error::Error;
use crate::view::ContainerView;

pub(crate) use collector::Collector;
pub use collector::Watcher;

/// A container as it was at one moment, and what it used.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The container.
    pub view: Arc<ContainerView>,
    /// None when it has no process.
    pub usage: Option<Arc<Usage>>,
}

/// What a running container uses and has used.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Nanoseconds since 1970.
    pub read_ns: i64,
    /// Its control group's figures; a memory limit above the machine's memory is that.
    pub group: corten_cgroup::Stats,
    /// They are from the v2 tree, which counts other things.
    pub is_v2: bool,
    /// Processor time of the whole machine since it was started, idle time included, in nanoseconds.
    pub system_cpu_ns: u64,
    /// Processors in use by the kernel.
    pub online_cpus: u32,
    /// Traffic of its network interfaces; empty in the host's network.
    pub networks: BTreeMap<String, Traffic>,
}

/// Traffic of one interface since it was made, as the container sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What came in.
    pub received: Counters,
    /// What went out.
    pub sent: Counters,
}

/// One direction's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

impl Containers {
    /// One look at what a container uses now.
    pub async fn sample(&self, name: &str) -> Result<Sample, Error> {
        let (shared, handle) = (self.shared.clone(), self.handle(name)?);
        blocking::run(move || {
            let host = read::Host::now().map_err(Error::failed("cannot read the machine's processor times"))?;
            Ok(read::Source::new(handle).look(&shared, &host))
        })
        .await?
    }

    /// Begins to look at a container about once a second, until the watcher is dropped or the container removed. It needs not
    /// run.
    pub fn watch(&self, name: &str) -> Result<Watcher, Error> {
        Ok(Collector::watch(&self.shared, self.handle(name)?))
    }
}
