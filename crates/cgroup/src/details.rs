//! Figures that only `events` of the OCI runtime tells: read apart from the others, which are asked for all the time.

use std::os::fd::BorrowedFd;

use crate::detect::Controller;
use crate::{Group, file};

/// What is behind the sums of [`crate::Stats`]. Parts that the kernel does not tell are zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Time in user mode by processor, in nanoseconds (v1).
    pub per_cpu_user: Vec<u64>,
    /// Time in the kernel by processor (v1).
    pub per_cpu_system: Vec<u64>,
    /// Processors and memory nodes, with the switches of v1's files (v1).
    pub cpuset: Cpuset,
    /// Memory and swap together, on both versions.
    pub memory_and_swap: MemoryUse,
    /// The kernel's memory (v1).
    pub kernel: MemoryUse,
    /// Of it, buffers of TCP (v1).
    pub kernel_tcp: MemoryUse,
}

/// One counter of memory in bytes; a huge limit is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct MemoryUse {
    pub limit: u64,
    pub usage: u64,
    pub max_usage: u64,
    pub failures: u64,
}

/// Where tasks may run and take memory (cgroup-v1/cpusets.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the files'")]
pub struct Cpuset {
    pub cpus: Vec<u16>,
    pub mems: Vec<u16>,
    pub cpu_exclusive: u64,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

impl Group {
    /// Reads them.
    pub fn details(&self) -> Details {
        let dir = |controller| self.place(controller).ok().map(|(_, dir)| dir);
        if self.tree.is_v2() {
            let memory_and_swap = dir(Controller::Core).map(together).unwrap_or_default();
            return Details { memory_and_swap, ..Details::default() };
        }
        let memory = dir(Controller::Memory);
        let memory = |name| memory.map(|dir| counter(dir, name)).unwrap_or_default();
        let (per_cpu_user, per_cpu_system) = dir(Controller::Cpuacct).map(by_processor).unwrap_or_default();
        Details {
            per_cpu_user,
            per_cpu_system,
            cpuset: dir(Controller::Cpuset).map(cpuset).unwrap_or_default(),
            memory_and_swap: memory("memory.memsw"),
            kernel: memory("memory.kmem"),
            kernel_tcp: memory("memory.kmem.tcp"),
        }
    }
}

fn counter(dir: BorrowedFd<'_>, name: &str) -> MemoryUse {
    let number = |part: &str| file::read_number(dir, &format!("{name}.{part}")).unwrap_or(0);
    MemoryUse {
        limit: number("limit_in_bytes"),
        usage: number("usage_in_bytes"),
        max_usage: number("max_usage_in_bytes"),
        failures: number("failcnt"),
    }
}

/// v2 counts swap by itself; what both took at most together it cannot say.
fn together(dir: BorrowedFd<'_>) -> MemoryUse {
    let number = |name| file::read_number(dir, name).unwrap_or(0);
    let swap = number("memory.swap.max");
    let limit = if swap == u64::MAX { swap } else { swap.saturating_add(number("memory.max")) };
    let usage = number("memory.swap.current").saturating_add(number("memory.current"));
    MemoryUse { limit, usage, ..MemoryUse::default() }
}

fn by_processor(dir: BorrowedFd<'_>) -> (Vec<u64>, Vec<u64>) {
    modes(&file::read(dir, "cpuacct.usage_all").unwrap_or_default())
}

/// `cpu user system` below such a heading.
fn modes(text: &str) -> (Vec<u64>, Vec<u64>) {
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
    };
    text.lines().filter_map(line).unzip()
}

fn cpuset(dir: BorrowedFd<'_>) -> Cpuset {
    let list = |name| numbers(file::read(dir, name).unwrap_or_default().trim());
    let number = |name| file::read_number(dir, name).unwrap_or(0);
    let level = file::read(dir, "cpuset.sched_relax_domain_level").ok();
    Cpuset {
        cpus: list("cpuset.cpus"),
        mems: list("cpuset.mems"),
        cpu_exclusive: number("cpuset.cpu_exclusive"),
        mem_hardwall: number("cpuset.mem_hardwall"),
        mem_exclusive: number("cpuset.mem_exclusive"),
        memory_migrate: number("cpuset.memory_migrate"),
        memory_spread_page: number("cpuset.memory_spread_page"),
        memory_spread_slab: number("cpuset.memory_spread_slab"),
        memory_pressure: number("cpuset.memory_pressure"),
        sched_load_balance: number("cpuset.sched_load_balance"),
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    }
}

/// `0-2,7`
fn numbers(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        assert_eq!(numbers("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(numbers(""), Vec::<u16>::new());
        assert_eq!(modes("cpu user system\n0 5 6\n1 7 8\n"), (vec![5, 7], vec![6, 8]));
    }
}
