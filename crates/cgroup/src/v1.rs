//! Limits on v1: which files get what.

use crate::detect::Controller::{Cpu, Cpuset, Hugetlb, Io, Memory, NetCls, NetPrio, Pids, Rdma};
use crate::devices::Policy;
use crate::limits::Limits;
use crate::plan::{Step, Write, one, pair, write};
use crate::{Error, Result};

const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// The steps that set `limits` on a v1 group.
pub(crate) fn steps(limits: &Limits) -> Result<Vec<Step>> {
    if !limits.unified.is_empty() {
        return Err(Error::Unsupported("the setting `unified`"));
    }
    let mut steps = Vec::new();
    devices(limits, &mut steps)?;
    cpuset(limits, &mut steps);
    memory(limits, &mut steps)?;
    cpu(limits, &mut steps)?;
    if let Some(limit) = limits.pids.filter(|limit| *limit != 0) {
        steps.push(one(Pids, "pids.max", if limit < 0 { "max".to_owned() } else { limit.to_string() }));
    }
    blkio(limits, &mut steps);
    for page in &limits.hugepages {
        page.check()?;
        steps.push(one(Hugetlb, format!("hugetlb.{}.limit_in_bytes", page.size), page.limit));
        // Reservations are counted apart since Linux 5.7.
        let file = format!("hugetlb.{}.rsvd.limit_in_bytes", page.size);
        steps.push(Step::Optional(write(Hugetlb, file, page.limit)));
    }
    steps.extend(limits.network_class.map(|class| one(NetCls, "net_cls.classid", class)));
    steps.extend(many(
        NetPrio,
        "net_prio.ifpriomap",
        limits.network_priorities.iter().map(|(name, it)| format!("{name} {it}")),
    ));
    steps.extend(many(Rdma, "rdma.max", limits.rdma.iter().map(rdma)));
    Ok(steps)
}

/// One line of `rdma.max`, the same on v2.
pub(crate) fn rdma((name, handles, objects): &(String, Option<u32>, Option<u32>)) -> String {
    let part = |key: &str, value: &Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
    format!("{name}{}{}", part("hca_handle", handles), part("hca_object", objects))
}

fn many(controller: crate::Controller, file: &'static str, values: impl Iterator<Item = String>) -> Option<Step> {
    let values: Vec<String> = values.collect();
    (!values.is_empty()).then_some(Step::Many(controller, file, values))
}

fn devices(limits: &Limits, steps: &mut Vec<Step>) -> Result<()> {
    let Some(rules) = &limits.device_rules else { return Ok(()) };
    steps.push(Step::Devices(Policy::new(rules)?));
    Ok(())
}

fn cpuset(limits: &Limits, steps: &mut Vec<Step>) {
    let set = |value: &Option<String>| value.clone().filter(|list| !list.is_empty());
    steps.extend(set(&limits.cpuset_cpus).map(|cpus| one(Cpuset, "cpuset.cpus", cpus)));
    steps.extend(set(&limits.cpuset_mems).map(|mems| one(Cpuset, "cpuset.mems", mems)));
}

fn memory(limits: &Limits, steps: &mut Vec<Step>) -> Result<()> {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = set(limits.memory).map(|limit| write(Memory, "memory.limit_in_bytes", limit));
    let swap = set(limits.memory_swap).map(|swap| write(Memory, "memory.memsw.limit_in_bytes", swap));
    match (limit, swap) {
        // Memory and swap together can't be less than memory alone.
        (Some(limit), Some(swap)) if swap.value == "-1" => {
            steps.push(Step::Optional(swap));
            steps.push(Step::One(limit));
        }
        (Some(limit), Some(swap)) => steps.push(pair(limit, swap)),
        (Some(limit), None) if limit.value == "-1" => {
            steps.push(Step::Optional(write(Memory, "memory.memsw.limit_in_bytes", -1)));
            steps.push(Step::One(limit));
        }
        (Some(limit), None) => steps.push(Step::One(limit)),
        (None, Some(swap)) if swap.value == "-1" => steps.push(Step::Optional(swap)),
        (None, Some(swap)) => steps.push(Step::One(swap)),
        (None, None) => {}
    }
    steps.extend(set(limits.memory_reservation).map(|it| one(Memory, "memory.soft_limit_in_bytes", it)));
    if let Some(swappiness) = limits.memory_swappiness {
        if swappiness > 100 {
            let text = format!("invalid memory swappiness value: {swappiness} (valid range is 0-100)");
            return Err(Error::Limit(text));
        }
        steps.push(one(Memory, "memory.swappiness", swappiness));
    }
    if limits.oom_kill_disable {
        steps.push(one(Memory, "memory.oom_control", 1));
    }
    Ok(())
}

fn cpu(limits: &Limits, steps: &mut Vec<Step>) -> Result<()> {
    if let Some(shares) = limits.cpu_shares.filter(|shares| *shares != 0) {
        // The kernel would clamp without a word.
        if shares < MIN_SHARES {
            return Err(Error::Limit(format!("the minimum allowed cpu-shares is {MIN_SHARES}")));
        }
        if shares > MAX_SHARES {
            return Err(Error::Limit(format!("the maximum allowed cpu-shares is {MAX_SHARES}")));
        }
        steps.push(one(Cpu, "cpu.shares", shares));
    }
    let runtime = limits.cpu_realtime_runtime.filter(|it| *it != 0).map(|it| write(Cpu, "cpu.rt_runtime_us", it));
    let rt_period = limits.cpu_realtime_period.filter(|it| *it != 0).map(|it| write(Cpu, "cpu.rt_period_us", it));
    steps.extend(both(rt_period, runtime));
    let period = limits.cpu_period.filter(|it| *it != 0).map(|it| write(Cpu, "cpu.cfs_period_us", it));
    let quota = limits.cpu_quota.filter(|it| *it != 0).map(|it| write(Cpu, "cpu.cfs_quota_us", it.max(-1)));
    let bandwidth = both(period, quota);
    // A burst is at most the quota, the old one and the new one.
    let burst = limits.cpu_burst.map(|burst| write(Cpu, "cpu.cfs_burst_us", burst));
    steps.extend(match (burst, bandwidth) {
        (Some(burst), Some(bandwidth)) => Some(Step::Around(burst, Box::new(bandwidth))),
        (burst, bandwidth) => burst.map(Step::One).or(bandwidth),
    });
    steps.extend(limits.cpu_idle.map(|idle| one(Cpu, "cpu.idle", idle)));
    Ok(())
}

fn both(first: Option<Write>, second: Option<Write>) -> Option<Step> {
    match (first, second) {
        (Some(first), Some(second)) => Some(pair(first, second)),
        (first, second) => first.or(second).map(Step::One),
    }
}

fn blkio(limits: &Limits, steps: &mut Vec<Step>) {
    let io = &limits.blkio;
    if let Some(weight) = io.weight {
        steps.push(Step::Either(write(Io, "blkio.bfq.weight", weight), write(Io, "blkio.weight", weight)));
    }
    for (major, minor, weight) in &io.weight_devices {
        let value = format!("{major}:{minor} {weight}");
        steps
            .push(Step::Either(write(Io, "blkio.bfq.weight_device", &value), write(Io, "blkio.weight_device", &value)));
    }
    steps.extend(io.leaf_weight.map(|weight| one(Io, "blkio.leaf_weight", weight)));
    let throttles = [
        ("blkio.leaf_weight_device", &io.leaf_weight_devices),
        ("blkio.throttle.read_bps_device", &io.read_bps),
        ("blkio.throttle.write_bps_device", &io.write_bps),
        ("blkio.throttle.read_iops_device", &io.read_iops),
        ("blkio.throttle.write_iops_device", &io.write_iops),
    ];
    for (file, list) in throttles {
        steps.extend(many(Io, file, list.iter().map(|(major, minor, rate)| format!("{major}:{minor} {rate}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::shorthand;

    fn check(limits: Limits, expect: &[&str]) {
        assert_eq!(steps(&limits).unwrap().iter().map(shorthand).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn memory_and_swap() {
        let with = |memory, memory_swap| Limits { memory, memory_swap, ..Limits::default() };
        check(with(Some(100), Some(200)), &["memory.limit_in_bytes=100&memory.memsw.limit_in_bytes=200"]);
        check(with(Some(100), Some(-1)), &["memory.memsw.limit_in_bytes=-1?", "memory.limit_in_bytes=100"]);
        check(with(Some(-1), None), &["memory.memsw.limit_in_bytes=-1?", "memory.limit_in_bytes=-1"]);
        check(with(Some(100), None), &["memory.limit_in_bytes=100"]);
        check(with(Some(0), Some(0)), &[]);
    }

    #[test]
    fn cpu_and_tasks() {
        check(
            Limits { cpu_quota: Some(50_000), cpu_period: Some(100_000), pids: Some(-1), ..Limits::default() },
            &["cpu.cfs_period_us=100000&cpu.cfs_quota_us=50000", "pids.max=max"],
        );
        check(Limits { cpu_shares: Some(512), pids: Some(0), ..Limits::default() }, &["cpu.shares=512"]);
        let error = steps(&Limits { cpu_shares: Some(1), ..Limits::default() }).unwrap_err();
        assert_eq!(error.to_string(), "the minimum allowed cpu-shares is 2");
    }

    #[test]
    fn block_devices() {
        let blkio =
            crate::BlockIo { weight: Some(300), read_bps: vec![(8, 0, 1024), (8, 16, 1)], ..crate::BlockIo::default() };
        check(
            Limits { blkio, ..Limits::default() },
            &["blkio.bfq.weight=300|blkio.weight=300", "blkio.throttle.read_bps_device=8:0 1024,8:16 1"],
        );
    }
}
