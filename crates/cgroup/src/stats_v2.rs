//! Statistics from v2's files.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::detect::Controller;
use crate::stats::{BlockStats, CpuStats, HugepageStats, MemoryStats, Stats};
use crate::{Group, Result, file, stats};

pub(crate) fn read(group: &Group) -> Result<Stats> {
    let (_, dir) = group.place(Controller::Core)?;
    Ok(Stats {
        memory: memory(dir),
        cpu: cpu(dir),
        pids: stats::pids(dir),
        block: block(dir),
        hugepages: hugepages(dir),
        rdma: stats::rdma(dir),
    })
}

fn memory(dir: BorrowedFd<'_>) -> MemoryStats {
    let number = |name| file::read_number(dir, name).unwrap_or(0);
    let details = file::read(dir, "memory.stat").unwrap_or_default();
    let events = file::read(dir, "memory.events").unwrap_or_default();
    MemoryStats {
        usage: number("memory.current"),
        max_usage: number("memory.peak"),
        limit: number("memory.max"),
        failures: file::value_of(&events, "max").unwrap_or(0),
        out_of_memory: file::value_of(&events, "oom").unwrap_or(0),
        swap_usage: number("memory.swap.current"),
        swap_limit: number("memory.swap.max"),
        details: file::pairs(&details).map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn cpu(dir: BorrowedFd<'_>) -> CpuStats {
    let text = file::read(dir, "cpu.stat").unwrap_or_default();
    let value = |key| file::value_of(&text, key).unwrap_or(0);
    CpuStats {
        usage: value("usage_usec") * 1000,
        user: value("user_usec") * 1000,
        system: value("system_usec") * 1000,
        per_cpu: Vec::new(),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled: value("throttled_usec") * 1000,
    }
}

fn hugepages(dir: BorrowedFd<'_>) -> BTreeMap<String, HugepageStats> {
    let stats = |size: &str| {
        let events = file::read(dir, &format!("hugetlb.{size}.events")).unwrap_or_default();
        HugepageStats {
            usage: file::read_number(dir, &format!("hugetlb.{size}.current")).unwrap_or(0),
            max_usage: 0,
            failures: file::value_of(&events, "max").unwrap_or(0),
        }
    };
    // `hugetlb.2MB.rsvd.current` counts reservations: not a size.
    let sizes = file::parts_between(dir, "hugetlb.", ".current").unwrap_or_default();
    sizes.into_iter().map(|size| (size.clone(), stats(&size))).collect()
}

fn block(dir: BorrowedFd<'_>) -> BlockStats {
    let mut stats = BlockStats::default();
    let text = file::read(dir, "io.stat").unwrap_or_default();
    for line in text.lines() {
        take_line(line, &mut stats);
    }
    stats
}

/// A line such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn take_line(line: &str, stats: &mut BlockStats) {
    let mut words = line.split(' ');
    let device = words.next().and_then(|device| device.split_once(':'));
    let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else { return };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let (list, operation) = match key {
            "rbytes" => (&mut stats.bytes, "Read"),
            "wbytes" => (&mut stats.bytes, "Write"),
            "rios" => (&mut stats.operations, "Read"),
            "wios" => (&mut stats.operations, "Write"),
            _ => continue,
        };
        list.push((major, minor, operation.to_owned(), value.parse().unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_lines() {
        let mut stats = BlockStats::default();
        take_line("8:0 rbytes=4096 wbytes=7 rios=1 wios=2 dbytes=0 dios=0", &mut stats);
        take_line("odd", &mut stats);
        assert_eq!(stats.bytes, [(8, 0, "Read".to_owned(), 4096), (8, 0, "Write".to_owned(), 7)]);
        assert_eq!(stats.operations.len(), 2);
    }
}
