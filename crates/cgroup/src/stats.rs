//! Statistics of a group, in one form for both versions.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::{Group, Result, file, stats_v1, stats_v2};

/// What a group uses and has used. Parts whose controller isn't there are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory.
    pub memory: MemoryStats,
    /// Processor time.
    pub cpu: CpuStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub block: BlockStats,
    /// Huge pages by size, such as `2MB`.
    pub hugepages: BTreeMap<String, HugepageStats>,
    /// Adapters for remote memory by name, such as `mlx4_0`.
    pub rdma: BTreeMap<String, RdmaStats>,
}

/// Resources of one adapter in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// Handles.
    pub handles: u64,
    /// Objects.
    pub objects: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, caches included.
    pub usage: u64,
    /// The most so far; 0 where the kernel doesn't say.
    pub max_usage: u64,
    /// The limit; a huge number is no limit.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// How often that was about to be fatal for a process (v2; 0 on v1, where [`crate::OomWatch`] knows).
    pub out_of_memory: u64,
    /// Swap in use: alone on v2, with memory on v1, as the kernel counts; 0 where it doesn't.
    pub swap_usage: u64,
    /// Swap's limit, counted likewise; a huge number is no limit.
    pub swap_limit: u64,
    /// The kernel's own detailed figures (`memory.stat`); names differ between the versions.
    pub details: BTreeMap<String, u64>,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugepageStats {
    /// In use.
    pub usage: u64,
    /// The most so far; 0 where the kernel doesn't say (v2).
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Processor time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All time.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor; empty on v2.
    pub per_cpu: Vec<u64>,
    /// Periods that passed with a quota set.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled: u64,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; 0 is none.
    pub limit: u64,
}

/// Traffic of block devices as (major, minor, operation, value); operations are `Read`, `Write` and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Bytes.
    pub bytes: Vec<(u64, u64, String, u64)>,
    /// Operations.
    pub operations: Vec<(u64, u64, String, u64)>,
}

/// `pids.current` and `pids.max`, the same on both versions.
pub(crate) fn pids(dir: BorrowedFd<'_>) -> PidsStats {
    let limit = file::read_number(dir, "pids.max").unwrap_or(0);
    PidsStats {
        current: file::read_number(dir, "pids.current").unwrap_or(0),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

/// `rdma.current`, the same on both versions: `mlx4_0 hca_handle=2 hca_object=2000`.
pub(crate) fn rdma(dir: BorrowedFd<'_>) -> BTreeMap<String, RdmaStats> {
    let text = file::read(dir, "rdma.current").unwrap_or_default();
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let value =
            |key: &str| rest.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
        Some((device.to_owned(), RdmaStats { handles: value("hca_handle")?, objects: value("hca_object")? }))
    };
    text.lines().filter_map(line).collect()
}

impl Group {
    /// Reads the statistics.
    pub fn stats(&self) -> Result<Stats> {
        if self.tree.is_v2() { stats_v2::read(self) } else { stats_v1::read(self) }
    }
}
