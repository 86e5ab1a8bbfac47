//! Statistics from v1's files.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::detect::Controller;
use crate::stats::{BlockStats, CpuStats, HugepageStats, MemoryStats, Stats};
use crate::{Group, Result, file, stats};

/// `cpuacct.stat` counts in ticks of the user's clock, 100 a second on every architecture we know.
const TICK: u64 = 10_000_000;

pub(crate) fn read(group: &Group) -> Result<Stats> {
    let dir = |controller| group.place(controller).ok().map(|(_, dir)| dir);
    Ok(Stats {
        memory: dir(Controller::Memory).map(memory).unwrap_or_default(),
        cpu: cpu(dir(Controller::Cpuacct), dir(Controller::Cpu)),
        pids: dir(Controller::Pids).map(stats::pids).unwrap_or_default(),
        block: dir(Controller::Io).map(block).unwrap_or_default(),
        hugepages: dir(Controller::Hugetlb).map(hugepages).unwrap_or_default(),
        rdma: dir(Controller::Rdma).map(stats::rdma).unwrap_or_default(),
    })
}

fn memory(dir: BorrowedFd<'_>) -> MemoryStats {
    let number = |name| file::read_number(dir, name).unwrap_or(0);
    let details = file::read(dir, "memory.stat").unwrap_or_default();
    MemoryStats {
        usage: number("memory.usage_in_bytes"),
        max_usage: number("memory.max_usage_in_bytes"),
        limit: number("memory.limit_in_bytes"),
        failures: number("memory.failcnt"),
        out_of_memory: 0,
        swap_usage: number("memory.memsw.usage_in_bytes"),
        swap_limit: number("memory.memsw.limit_in_bytes"),
        details: file::pairs(&details).map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn cpu(cpuacct: Option<BorrowedFd<'_>>, cpu: Option<BorrowedFd<'_>>) -> CpuStats {
    let text = |dir: Option<BorrowedFd<'_>>, name| dir.and_then(|dir| file::read(dir, name).ok()).unwrap_or_default();
    let times = text(cpuacct, "cpuacct.stat");
    let bandwidth = text(cpu, "cpu.stat");
    let value = |text: &str, key| file::value_of(text, key).unwrap_or(0);
    CpuStats {
        usage: text(cpuacct, "cpuacct.usage").trim().parse().unwrap_or(0),
        user: value(&times, "user") * TICK,
        system: value(&times, "system") * TICK,
        per_cpu: text(cpuacct, "cpuacct.usage_percpu").split_whitespace().filter_map(|it| it.parse().ok()).collect(),
        periods: value(&bandwidth, "nr_periods"),
        throttled_periods: value(&bandwidth, "nr_throttled"),
        throttled: value(&bandwidth, "throttled_time"),
    }
}

fn hugepages(dir: BorrowedFd<'_>) -> BTreeMap<String, HugepageStats> {
    let number = |size: &str, name| file::read_number(dir, &format!("hugetlb.{size}.{name}")).unwrap_or(0);
    let stats = |size: &str| HugepageStats {
        usage: number(size, "usage_in_bytes"),
        max_usage: number(size, "max_usage_in_bytes"),
        failures: number(size, "failcnt"),
    };
    let sizes = file::parts_between(dir, "hugetlb.", ".usage_in_bytes").unwrap_or_default();
    sizes.into_iter().map(|size| (size.clone(), stats(&size))).collect()
}

fn block(dir: BorrowedFd<'_>) -> BlockStats {
    let read = |name| lines(&file::read(dir, name).unwrap_or_default());
    BlockStats {
        bytes: read("blkio.throttle.io_service_bytes_recursive"),
        operations: read("blkio.throttle.io_serviced_recursive"),
    }
}

/// Lines such as `8:0 Read 4096`; the last one is a total without a device.
fn lines(text: &str) -> Vec<(u64, u64, String, u64)> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = words.next()?.split_once(':')?;
        let operation = words.next()?.to_owned();
        Some((major.parse().ok()?, minor.parse().ok()?, operation, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lines() {
        let found = lines("8:0 Read 4096\n8:0 Write 0\nTotal 4096\n");
        assert_eq!(found, [(8, 0, "Read".to_owned(), 4096), (8, 0, "Write".to_owned(), 0)]);
    }
}
