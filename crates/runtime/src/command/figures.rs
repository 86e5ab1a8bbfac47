//! The document of `events`: every field of runc's `types.Stats`, in its order, and what runc leaves out when it is zero.

use std::collections::BTreeMap;

use corten_cgroup::{Cpuset, Details, MemoryUse, Pressure, Stall, Stalls, Stats};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Figures {
    cpu: Cpu,
    cpuset: CpusetFigures,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Counter>,
    intel_rdt: Rdt,
    network_interfaces: (),
}

#[derive(Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_user: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

#[derive(Serialize)]
struct CpusetFigures {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(flatten)]
    counter: Counter,
}

/// Bytes of something, and how often there were no more.
#[derive(Serialize)]
struct Counter {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    op: String,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Serialize)]
struct Psi {
    some: PsiLine,
    full: PsiLine,
}

#[derive(Serialize)]
struct PsiLine {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

/// Nothing is told of the processor's resources.
#[derive(Serialize)]
struct Rdt {}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Figures {
    pub(super) fn new(stats: Stats, details: Details, pressure: &Pressure) -> Figures {
        let Stats { memory, cpu, pids, block, hugepages, .. } = stats;
        let detail = |name: &str| memory.details.get(name).copied().unwrap_or(0);
        Figures {
            cpu: Cpu {
                usage: CpuUsage {
                    total: cpu.usage,
                    percpu: cpu.per_cpu,
                    percpu_kernel: details.per_cpu_system,
                    percpu_user: details.per_cpu_user,
                    kernel: cpu.system,
                    user: cpu.user,
                },
                throttling: Throttling {
                    periods: cpu.periods,
                    throttled_periods: cpu.throttled_periods,
                    throttled_time: cpu.throttled,
                },
                psi: pressure.cpu.map(psi),
            },
            cpuset: cpuset(details.cpuset),
            memory: Memory {
                // The first is v1's name, the other v2's.
                cache: detail("cache").max(detail("file")),
                usage: MemoryEntry {
                    limit: memory.limit,
                    counter: Counter { usage: memory.usage, max: memory.max_usage, failcnt: memory.failures },
                },
                swap: entry(details.memory_and_swap),
                kernel: entry(details.kernel),
                kernel_tcp: entry(details.kernel_tcp),
                raw: memory.details,
                psi: pressure.memory.map(psi),
            },
            pids: Pids { current: pids.current, limit: pids.limit },
            blkio: Blkio {
                io_service_bytes_recursive: devices(block.bytes),
                io_serviced_recursive: devices(block.operations),
                psi: pressure.io.map(psi),
            },
            hugetlb: hugepages
                .into_iter()
                .map(|(size, pages)| {
                    (size, Counter { usage: pages.usage, max: pages.max_usage, failcnt: pages.failures })
                })
                .collect(),
            intel_rdt: Rdt {},
            network_interfaces: (),
        }
    }
}

fn cpuset(set: Cpuset) -> CpusetFigures {
    CpusetFigures {
        cpus: set.cpus,
        cpu_exclusive: set.cpu_exclusive,
        mems: set.mems,
        mem_hardwall: set.mem_hardwall,
        mem_exclusive: set.mem_exclusive,
        memory_migrate: set.memory_migrate,
        memory_spread_page: set.memory_spread_page,
        memory_spread_slab: set.memory_spread_slab,
        memory_pressure: set.memory_pressure,
        sched_load_balance: set.sched_load_balance,
        sched_relax_domain_level: set.sched_relax_domain_level,
    }
}

fn entry(memory: MemoryUse) -> MemoryEntry {
    let MemoryUse { limit, usage, max_usage: max, failures: failcnt } = memory;
    MemoryEntry { limit, counter: Counter { usage, max, failcnt } }
}

fn devices(list: Vec<(u64, u64, String, u64)>) -> Vec<BlkioEntry> {
    list.into_iter().map(|(major, minor, op, value)| BlkioEntry { major, minor, op, value }).collect()
}

fn psi(stalls: Stalls) -> Psi {
    Psi { some: line(stalls.some), full: line(stalls.full) }
}

fn line(stall: Stall) -> PsiLine {
    PsiLine { avg10: stall.avg10, avg60: stall.avg60, avg300: stall.avg300, total: stall.total }
}
