//! Limits on v2: which files get what. Values of the OCI document are v1's and are converted as runc 1.3 does.

use crate::detect::Controller::{self, Cpu, Cpuset, Hugetlb, Io, Memory, Pids, Rdma};
use crate::limits::Limits;
use crate::plan::{Step, one, write};
use crate::{Error, Result, v1};

/// The steps that set `limits` on a v2 group, device rules apart.
pub(crate) fn steps(limits: &Limits) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    steps.extend(cpuset(limits));
    memory(limits, &mut steps)?;
    cpu(limits, &mut steps);
    if let Some(limit) = limits.pids.filter(|limit| *limit != 0) {
        steps.push(one(Pids, "pids.max", or_max(limit)));
    }
    io(limits, &mut steps);
    for page in &limits.hugepages {
        page.check()?;
        let limit = or_max(page.limit);
        steps.push(one(Hugetlb, format!("hugetlb.{}.max", page.size), &limit));
        // Reservations are counted apart since Linux 5.7.
        steps.push(Step::Optional(write(Hugetlb, format!("hugetlb.{}.rsvd.max", page.size), limit)));
    }
    if !limits.rdma.is_empty() {
        steps.push(Step::Many(Rdma, "rdma.max", limits.rdma.iter().map(v1::rdma).collect()));
    }
    unified(limits, &mut steps)?;
    Ok(steps)
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn cpuset(limits: &Limits) -> impl Iterator<Item = Step> {
    let set = |value: &Option<String>| value.clone().filter(|list| !list.is_empty());
    let cpus = set(&limits.cpuset_cpus).map(|cpus| one(Cpuset, "cpuset.cpus", cpus));
    cpus.into_iter().chain(set(&limits.cpuset_mems).map(|mems| one(Cpuset, "cpuset.mems", mems)))
}

fn memory(limits: &Limits, steps: &mut Vec<Step>) -> Result<()> {
    match swap(limits.memory.unwrap_or(0), limits.memory_swap.unwrap_or(0))? {
        None => {}
        // Without swap there is no file, and nothing to limit.
        Some(swap @ (-1 | 0)) => steps.push(Step::Optional(write(Memory, "memory.swap.max", or_max(swap)))),
        Some(swap) => steps.push(one(Memory, "memory.swap.max", swap)),
    }
    let set = |value: Option<i64>| value.filter(|value| *value != 0).map(or_max);
    steps.extend(set(limits.memory).map(|limit| one(Memory, "memory.max", limit)));
    steps.extend(set(limits.memory_reservation).map(|low| one(Memory, "memory.low", low)));
    Ok(())
}

/// Swap alone, from memory and swap together: `None` leaves it, -1 is no limit. 0 is "not set" on both sides.
fn swap(memory: i64, together: i64) -> Result<Option<i64>> {
    match (memory, together) {
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (-1, swap) => Ok(Some(swap)),
        (0, _) => Err(Error::Limit("unable to set swap limit without memory limit".to_owned())),
        (memory, together) if memory < 0 || together < memory => {
            Err(Error::Limit("memory+swap limit should be >= memory limit".to_owned()))
        }
        (memory, together) => Ok(Some(together - memory)),
    }
}

fn cpu(limits: &Limits, steps: &mut Vec<Step>) {
    if let Some(idle) = limits.cpu_idle {
        steps.push(one(Cpu, "cpu.idle", idle));
    }
    // An idle group has no weight to set.
    if let Some(shares) = limits.cpu_shares.filter(|shares| *shares != 0 && limits.cpu_idle != Some(1)) {
        steps.push(one(Cpu, "cpu.weight", weight_of_shares(shares)));
    }
    let bandwidth = bandwidth(limits);
    // A burst is at most the quota, the old one and the new one.
    let burst = limits.cpu_burst.map(|burst| write(Cpu, "cpu.max.burst", burst));
    steps.extend(match (burst, bandwidth) {
        (Some(burst), Some(bandwidth)) => Some(Step::Around(burst, Box::new(bandwidth))),
        (burst, bandwidth) => burst.map(Step::One).or(bandwidth),
    });
}

/// One file holds quota and period; what isn't asked stays.
fn bandwidth(limits: &Limits) -> Option<Step> {
    let quota = limits.cpu_quota.filter(|quota| *quota != 0).map(or_max);
    let period = limits.cpu_period.filter(|period| *period != 0);
    match (quota, period) {
        (Some(quota), Some(period)) => Some(one(Cpu, "cpu.max", format!("{quota} {period}"))),
        (Some(quota), None) => Some(one(Cpu, "cpu.max", quota)),
        (None, Some(period)) => Some(Step::Period(period)),
        (None, None) => None,
    }
}

/// v2's weight (1 to 10000, default 100) for v1's shares (2 to 262144, default 1024): a curve through the ends and the
/// defaults, `10^((l^2 + 125 l) / 612 - 7/34)` with `l` the binary logarithm, rounded up.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// v2's weight (1 to 10000) for v1's block weight (10 to 1000), linear.
fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

fn io(limits: &Limits, steps: &mut Vec<Step>) {
    let io = &limits.blkio;
    if let Some(weight) = io.weight {
        // BFQ takes v1's own scale.
        steps.push(Step::Either(
            write(Io, "io.bfq.weight", weight),
            write(Io, "io.weight", format!("default {}", io_weight(u64::from(weight)))),
        ));
    }
    for (major, minor, weight) in &io.weight_devices {
        steps.push(Step::Either(
            write(Io, "io.bfq.weight", format!("{major}:{minor} {weight}")),
            write(Io, "io.weight", format!("{major}:{minor} {}", io_weight(*weight))),
        ));
    }
    let throttles =
        [("rbps", &io.read_bps), ("wbps", &io.write_bps), ("riops", &io.read_iops), ("wiops", &io.write_iops)];
    let lines: Vec<String> = throttles
        .iter()
        .flat_map(|(key, list)| list.iter().map(move |(major, minor, rate)| format!("{major}:{minor} {key}={rate}")))
        .collect();
    if !lines.is_empty() {
        steps.push(Step::Many(Io, "io.max", lines));
    }
}

/// Files named directly; their controller is the first part of the name.
fn unified(limits: &Limits, steps: &mut Vec<Step>) -> Result<()> {
    for (file, value) in &limits.unified {
        let controller = file.split_once('.').filter(|(_, rest)| !rest.is_empty() && !file.contains('/'));
        let Some((controller, _)) = controller else {
            return Err(Error::Limit(format!("unified resource {file:?} must be a file name")));
        };
        let controller = match controller {
            "cgroup" => Controller::Core,
            name => Controller::parse(name)
                .ok_or_else(|| Error::Limit(format!("unified resource {file:?}: no such controller")))?,
        };
        for line in value.lines() {
            steps.push(one(controller, file, line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::shorthand;

    fn check(limits: Limits, expect: &[&str]) {
        let found = match steps(&limits) {
            Ok(steps) => steps.iter().map(shorthand).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn shares_become_weights() {
        let pairs =
            [(2, 1), (3, 2), (100, 17), (512, 59), (1024, 100), (2048, 174), (262_143, 10_000), (u64::MAX, 10_000)];
        for (shares, weight) in pairs {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert!((2..=262_144).map(weight_of_shares).is_sorted());
    }

    #[test]
    fn swap_is_written_alone() {
        let with = |memory, memory_swap| Limits { memory, memory_swap, ..Limits::default() };
        check(with(Some(100), Some(150)), &["memory.swap.max=50", "memory.max=100"]);
        check(with(Some(100), Some(100)), &["memory.swap.max=0?", "memory.max=100"]);
        check(with(Some(100), Some(-1)), &["memory.swap.max=max?", "memory.max=100"]);
        check(with(Some(-1), None), &["memory.swap.max=max?", "memory.max=max"]);
        check(with(Some(100), None), &["memory.max=100"]);
        check(with(None, Some(9)), &["unable to set swap limit without memory limit"]);
        check(with(Some(10), Some(9)), &["memory+swap limit should be >= memory limit"]);
    }

    #[test]
    fn cpu_bandwidth() {
        let with = |cpu_quota, cpu_period| Limits { cpu_quota, cpu_period, ..Limits::default() };
        check(with(Some(50_000), None), &["cpu.max=50000"]);
        check(with(Some(-1), Some(20_000)), &["cpu.max=max 20000"]);
        check(with(None, Some(20_000)), &["cpu.max=_ 20000"]);
        let burst = Limits { cpu_burst: Some(7), ..with(Some(50), None) };
        check(burst, &["cpu.max.burst=7&cpu.max=50"]);
        check(with(None, None), &[]);
        check(Limits { cpu_idle: Some(1), cpu_shares: Some(5), ..Limits::default() }, &["cpu.idle=1"]);
    }

    #[test]
    fn unified_files() {
        let with = |file: &str, value: &str| Limits {
            unified: [(file.to_owned(), value.to_owned())].into(),
            ..Limits::default()
        };
        check(with("memory.high", "1M"), &["memory.high=1M"]);
        check(with("io.max", "8:0 rbps=1\n8:16 rbps=2"), &["io.max=8:0 rbps=1", "io.max=8:16 rbps=2"]);
        check(with("../memory.max", "1"), &["unified resource \"../memory.max\" must be a file name"]);
        check(with("bogus.x", "1"), &["unified resource \"bogus.x\": no such controller"]);
    }

    #[test]
    fn huge_pages() {
        let with = |size: &str| Limits {
            hugepages: vec![crate::HugepageLimit { size: size.to_owned(), limit: 5 }],
            ..Limits::default()
        };
        check(with("2MB"), &["hugetlb.2MB.max=5", "hugetlb.2MB.rsvd.max=5?"]);
        check(with("../2MB"), &["invalid size of huge pages \"../2MB\""]);
        check(with("MB"), &["invalid size of huge pages \"MB\""]);
    }

    #[test]
    fn block_devices() {
        let blkio = crate::BlockIo {
            weight: Some(1000),
            read_bps: vec![(8, 0, 5)],
            write_iops: vec![(8, 0, 6)],
            ..crate::BlockIo::default()
        };
        check(
            Limits { blkio, ..Limits::default() },
            &["io.bfq.weight=1000|io.weight=default 10000", "io.max=8:0 rbps=5,8:0 wiops=6"],
        );
    }
}
