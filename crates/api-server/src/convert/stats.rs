//! `GET /containers/{id}/stats`.

use corten_api_types::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, InterfaceStats, MemoryStats, PidsStats, ThrottlingData,
};
use corten_base::time::{ZERO_TIME, from_unix_nanos, rfc3339_nano};
use corten_engine::{BlockStats, ContainerView, Traffic, Usage};

/// Of `memory.stat` on v1, what Docker shows; zero where the kernel says nothing.
const V1_MEMORY: [&str; 17] = [
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
];
/// So many of them are also counted with the groups below, as `total_cache` and so on.
const V1_TOTALS: usize = 15;
/// The same on v2.
const V2_MEMORY: [&str; 31] = [
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
    "workingset_refault",
    "workingset_activate",
    "workingset_nodereclaim",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
];

/// Makes the frames of one client: each carries the processor times of the one before it.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    before: Option<(String, CpuStats)>,
}

impl Frames {
    /// The next frame; a container that doesn't run has nothing but its names.
    pub(crate) fn frame(&mut self, view: &ContainerView, usage: Option<&Usage>) -> ContainerStats {
        let mut frame = ContainerStats {
            name: format!("/{}", view.name),
            id: view.id.to_string(),
            os_type: view.os.clone(),
            read: ZERO_TIME.to_owned(),
            preread: ZERO_TIME.to_owned(),
            ..ContainerStats::default()
        };
        if let Some(usage) = usage {
            frame.read = rfc3339_nano(from_unix_nanos(usage.read_ns));
            frame.cpu_stats = cpu(usage);
            frame.memory_stats = memory(usage);
            frame.networks = usage.networks.iter().map(|(name, traffic)| (name.clone(), interface(traffic))).collect();
            frame.pids_stats = pids(usage);
            frame.blkio_stats = block_devices(&usage.group.block, usage.is_v2);
        }
        let present = (frame.read.clone(), frame.cpu_stats.clone());
        if let Some((read, cpu)) = self.before.replace(present) {
            (frame.preread, frame.precpu_stats) = (read, cpu);
        }
        frame
    }
}

fn cpu(usage: &Usage) -> CpuStats {
    let cpu = &usage.group.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.usage,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.system,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: usage.system_cpu_ns,
        online_cpus: usage.online_cpus,
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled,
        },
    }
}

fn memory(usage: &Usage) -> MemoryStats {
    let memory = &usage.group.memory;
    let detail = |name: String| {
        let value = memory.details.get(&name).copied().unwrap_or_default();
        (name, value)
    };
    let stats = match usage.is_v2 {
        true => V2_MEMORY.iter().map(|name| detail((*name).to_owned())).collect(),
        false => {
            let totals = V1_MEMORY[..V1_TOTALS].iter().map(|name| detail(format!("total_{name}")));
            V1_MEMORY.iter().map(|name| detail((*name).to_owned())).chain(totals).collect()
        }
    };
    MemoryStats {
        usage: memory.usage,
        // Not on v2, whatever the kernel knows.
        max_usage: if usage.is_v2 { 0 } else { memory.max_usage },
        stats,
        failcnt: if usage.is_v2 { memory.out_of_memory } else { memory.failures },
        limit: memory.limit,
    }
}

fn pids(usage: &Usage) -> PidsStats {
    let pids = &usage.group.pids;
    // No limit is the largest number on v2 and nothing on v1.
    let limit = if usage.is_v2 && pids.limit == 0 { u64::MAX } else { pids.limit };
    PidsStats { current: pids.current, limit }
}

fn interface(traffic: &Traffic) -> InterfaceStats {
    let (received, sent) = (traffic.received, traffic.sent);
    InterfaceStats {
        rx_bytes: received.bytes,
        rx_packets: received.packets,
        rx_errors: received.errors,
        rx_dropped: received.dropped,
        tx_bytes: sent.bytes,
        tx_packets: sent.packets,
        tx_errors: sent.errors,
        tx_dropped: sent.dropped,
    }
}

fn block_devices(stats: &BlockStats, is_v2: bool) -> BlkioStats {
    let entry = |(major, minor, op, value): &(u64, u64, String, u64)| BlkioEntry {
        major: *major,
        minor: *minor,
        op: if is_v2 { op.to_lowercase() } else { op.clone() },
        value: *value,
    };
    let bytes: Vec<BlkioEntry> = stats.bytes.iter().map(entry).collect();
    if is_v2 {
        let io_service_bytes_recursive = Some(bytes).filter(|bytes| !bytes.is_empty());
        return BlkioStats { io_service_bytes_recursive, ..BlkioStats::default() };
    }
    let empty = || Some(Vec::new());
    BlkioStats {
        io_service_bytes_recursive: Some(bytes),
        io_serviced_recursive: Some(stats.operations.iter().map(entry).collect()),
        io_queue_recursive: empty(),
        io_service_time_recursive: empty(),
        io_wait_time_recursive: empty(),
        io_merged_recursive: empty(),
        io_time_recursive: empty(),
        sectors_recursive: empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::inspect::tests::view;
    use serde_json::{Value, json};

    fn usage(total: u64, is_v2: bool) -> Usage {
        let mut usage = Usage { read_ns: 1_000_000_001, is_v2, system_cpu_ns: 9, online_cpus: 2, ..Usage::default() };
        usage.group.cpu.usage = total;
        usage.group.memory.details = [("cache", 1), ("total_rss", 2), ("anon", 3), ("zswap", 4)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        usage.group.memory.max_usage = 5;
        (usage.group.memory.failures, usage.group.memory.out_of_memory) = (6, 7);
        usage.group.block.bytes = vec![(8, 0, "Read".to_owned(), 4096)];
        usage.group.block.operations = vec![(8, 0, "Read".to_owned(), 1)];
        usage
    }

    fn frame(frames: &mut Frames, usage: Option<&Usage>) -> Value {
        serde_json::to_value(frames.frame(&view(), usage)).unwrap()
    }

    #[test]
    fn a_frame_knows_the_one_before_it() {
        let mut frames = Frames::default();
        let first = frame(&mut frames, Some(&usage(10, false)));
        assert_eq!((&first["preread"], &first["read"]), (&json!(ZERO_TIME), &json!("1970-01-01T00:00:01.000000001Z")));
        let none = json!({"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}});
        assert_eq!(first["precpu_stats"], none);
        let second = frame(&mut frames, Some(&usage(25, false)));
        assert_eq!((&second["precpu_stats"], &second["preread"]), (&first["cpu_stats"], &first["read"]));
        assert_eq!(second["cpu_stats"]["cpu_usage"]["total_usage"], 25);
    }

    #[test]
    fn stopped_containers_have_names_only() {
        let shown = frame(&mut Frames::default(), None);
        assert_eq!((&shown["read"], &shown["memory_stats"]), (&json!(ZERO_TIME), &json!({})));
        assert_eq!(shown["pids_stats"], json!({}));
        assert_eq!(shown["blkio_stats"]["io_service_bytes_recursive"], Value::Null);
        assert!(shown.get("networks").is_none());
        assert_eq!(shown["id"], json!(view().id.to_string()));
    }

    #[test]
    fn the_versions_count_other_things() {
        let v1 = frame(&mut Frames::default(), Some(&usage(1, false)));
        let stats = &v1["memory_stats"]["stats"];
        assert_eq!((&stats["cache"], &stats["total_rss"], &stats["rss"]), (&json!(1), &json!(2), &json!(0)));
        assert_eq!(stats.as_object().unwrap().len(), 32);
        assert_eq!((&v1["memory_stats"]["max_usage"], &v1["memory_stats"]["failcnt"]), (&json!(5), &json!(6)));
        assert_eq!(v1["blkio_stats"]["io_serviced_recursive"][0]["op"], "Read");
        assert_eq!(v1["pids_stats"], json!({}));
        let v2 = frame(&mut Frames::default(), Some(&usage(1, true)));
        let stats = v2["memory_stats"]["stats"].as_object().unwrap();
        assert_eq!((stats.len(), &stats["anon"], stats.get("zswap")), (31, &json!(3), None));
        assert_eq!((v2["memory_stats"].get("max_usage"), &v2["memory_stats"]["failcnt"]), (None, &json!(7)));
        let bytes = &v2["blkio_stats"]["io_service_bytes_recursive"];
        assert_eq!(*bytes, json!([{"major": 8, "minor": 0, "op": "read", "value": 4096}]));
        assert_eq!(v2["blkio_stats"]["io_serviced_recursive"], Value::Null);
        assert_eq!(v2["pids_stats"], json!({"limit": u64::MAX}));
    }
}
