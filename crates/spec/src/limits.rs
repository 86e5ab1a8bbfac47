//! Limits that can't be: Docker's checks and its adjustments, with its texts, before anything is created.

use corten_base::ErrorKind;

use crate::Resources;

/// Docker's smallest memory limit: 6 MB, enough for a container to start at all.
const MIN_MEMORY: i64 = 6 * 1024 * 1024;
const NANO: i64 = 1_000_000_000;

/// What the host's control groups can do, and which CPUs and memory nodes there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the limit of the same name")]
pub struct Support {
    pub memory: bool,
    pub swap: bool,
    pub memory_reservation: bool,
    pub memory_swappiness: bool,
    pub oom_kill_disable: bool,
    pub pids: bool,
    pub cpu_shares: bool,
    /// Period and quota.
    pub cpu_cfs: bool,
    /// Period and run time of real-time processes.
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub blkio_weight: bool,
    pub blkio_weight_device: bool,
    /// The four throttles of devices.
    pub blkio_throttle: bool,
    /// CPUs as the kernel lists them, such as `0-3`.
    pub cpus: String,
    /// Memory nodes likewise.
    pub mems: String,
    /// Number of CPUs the engine may use.
    pub cpu_count: u32,
}

/// A limit that is refused; the text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Refused {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Fills what follows from other limits: memory and swap together are twice the memory where swap isn't said; an
/// explicit -1 swappiness is none.
pub fn adapt(limits: &mut Resources) {
    if limits.memory.unwrap_or(0) > 0 && limits.memory_swap.unwrap_or(0) == 0 {
        limits.memory_swap = limits.memory.map(|memory| memory.saturating_mul(2));
    }
}

/// Checks `limits`, taking away what the host can't do. Answers warnings for the client, or the first impossible limit.
pub fn verify(limits: &mut Resources, host: &Support, update: bool) -> Result<Vec<String>, Refused> {
    let mut warnings = Vec::new();
    memory(limits, host, update, &mut warnings)?;
    tasks(limits, host, &mut warnings);
    cpu(limits, host, &mut warnings)?;
    realtime(limits, host)?;
    cpuset(limits, host, &mut warnings)?;
    blkio(limits, host, &mut warnings)?;
    Ok(warnings)
}

/// Checks `--shm-size`.
pub fn verify_shm_size(bytes: i64) -> Result<(), Refused> {
    refuse_if(bytes < 0, || "SHM size can not be less than 0".to_owned())
}

/// Checks `--oom-score-adj`.
pub fn verify_oom_score(adjustment: i64) -> Result<(), Refused> {
    refuse_if(!(-1000..=1000).contains(&adjustment), || {
        format!("Invalid value {adjustment}, range for oom score adj is [-1000, 1000]")
    })
}

fn refuse_if(condition: bool, text: impl FnOnce() -> String) -> Result<(), Refused> {
    if condition { Err(Refused(text())) } else { Ok(()) }
}

fn refuse(condition: bool, text: &str) -> Result<(), Refused> {
    refuse_if(condition, || text.to_owned())
}

fn memory(limits: &mut Resources, host: &Support, update: bool, warnings: &mut Vec<String>) -> Result<(), Refused> {
    limits.memory_swappiness = limits.memory_swappiness.filter(|value| *value != -1);
    refuse(value(limits.memory) != 0 && value(limits.memory) < MIN_MEMORY, "Minimum memory limit allowed is 6MB")?;
    if value(limits.memory) > 0 && !host.memory {
        warnings.push(discarded("memory limit capabilities", "Limitation discarded."));
        limits.memory = None;
        limits.memory_swap = Some(-1);
    }
    if value(limits.memory) > 0 && value(limits.memory_swap) != -1 && !host.swap {
        warnings.push(discarded("swap limit capabilities", "Memory limited without swap."));
        limits.memory_swap = Some(-1);
    }
    let (limit, swap) = (value(limits.memory), value(limits.memory_swap));
    refuse(
        limit > 0 && swap > 0 && swap < limit,
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    )?;
    refuse(
        limit == 0 && swap > 0 && !update,
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    )?;
    swappiness(limits, host, warnings)?;
    reservation(limits, host, warnings)?;
    if limits.oom_kill_disable && !host.oom_kill_disable {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        limits.oom_kill_disable = false;
    }
    if limits.oom_kill_disable && value(limits.memory) == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running \
             out of resources."
                .to_owned(),
        );
    }
    Ok(())
}

fn swappiness(limits: &mut Resources, host: &Support, warnings: &mut Vec<String>) -> Result<(), Refused> {
    let Some(swappiness) = limits.memory_swappiness else { return Ok(()) };
    if !host.memory_swappiness {
        warnings.push(discarded("memory swappiness capabilities", "Memory swappiness discarded."));
        limits.memory_swappiness = None;
        return Ok(());
    }
    refuse_if(!(0..=100).contains(&swappiness), || {
        format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    })
}

fn reservation(limits: &mut Resources, host: &Support, warnings: &mut Vec<String>) -> Result<(), Refused> {
    if value(limits.memory_reservation) > 0 && !host.memory_reservation {
        warnings.push(discarded("memory soft limit capabilities", "Limitation discarded."));
        limits.memory_reservation = None;
    }
    let (limit, reservation) = (value(limits.memory), value(limits.memory_reservation));
    refuse(reservation > 0 && reservation < MIN_MEMORY, "Minimum memory reservation allowed is 6MB")?;
    refuse(
        limit > 0 && reservation > 0 && limit < reservation,
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    )
}

fn tasks(limits: &mut Resources, host: &Support, warnings: &mut Vec<String>) {
    if limits.pids_limit.is_some() && !host.pids {
        if value(limits.pids_limit) > 0 {
            warnings.push(discarded("PIDs limit capabilities", "PIDs limit discarded."));
        }
        limits.pids_limit = None;
    }
}

fn cpu(limits: &mut Resources, host: &Support, warnings: &mut Vec<String>) -> Result<(), Refused> {
    let nano = value(limits.nano_cpus);
    refuse(
        nano > 0 && value(limits.cpu_period) > 0,
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    )?;
    refuse(nano > 0 && value(limits.cpu_quota) > 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set")?;
    refuse(
        nano > 0 && !host.cpu_cfs,
        "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
    )?;
    let count = host.cpu_count;
    refuse_if(nano < 0 || nano > i64::from(count) * NANO, || {
        format!("range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    })?;
    refuse(value(limits.cpu_shares) < 0, "shares: invalid argument")?;
    if value(limits.cpu_shares) > 0 && !host.cpu_shares {
        warnings.push(discarded("CPU shares", "Shares discarded."));
        limits.cpu_shares = None;
    }
    if (value(limits.cpu_period) != 0 || value(limits.cpu_quota) != 0) && !host.cpu_cfs {
        warnings.push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".to_owned());
        limits.cpu_period = None;
        limits.cpu_quota = None;
    }
    let (period, quota) = (value(limits.cpu_period), value(limits.cpu_quota));
    refuse(
        period != 0 && !(1000..=1_000_000).contains(&period),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    )?;
    refuse(quota > 0 && quota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)")
}

fn realtime(limits: &Resources, host: &Support) -> Result<(), Refused> {
    let runtime = value(limits.cpu_realtime_runtime);
    let period = limits.cpu_realtime_period.unwrap_or(0);
    refuse((period != 0 || runtime != 0) && !host.cpu_realtime, "kernel does not support CPU real-time scheduler")?;
    refuse(
        period != 0 && u64::try_from(runtime).is_ok_and(|runtime| runtime > period),
        "cpu real-time runtime cannot be higher than cpu real-time period",
    )
}

fn cpuset(limits: &mut Resources, host: &Support, warnings: &mut Vec<String>) -> Result<(), Refused> {
    let cpus = limits.cpuset_cpus.clone().unwrap_or_default();
    let mems = limits.cpuset_mems.clone().unwrap_or_default();
    if !(host.cpuset || cpus.is_empty() && mems.is_empty()) {
        warnings.push(discarded("cpuset", "Cpuset discarded."));
        limits.cpuset_cpus = None;
        limits.cpuset_mems = None;
        return Ok(());
    }
    subset(&cpus, &host.cpus, "cpuset cpus", "CPUs")?;
    subset(&mems, &host.mems, "cpuset mems", "memory nodes")
}

fn subset(requested: &str, available: &str, field: &str, what: &str) -> Result<(), Refused> {
    if requested.is_empty() {
        return Ok(());
    }
    let wanted =
        parse_list(requested).map_err(|cause| Refused(format!("Invalid value {requested} for {field}: {cause}")))?;
    let there = parse_list(available).unwrap_or_default();
    let inside = |range: &(u32, u32)| (range.0..=range.1).all(|id| there.iter().any(|it| (it.0..=it.1).contains(&id)));
    refuse_if(!wanted.iter().all(inside), || {
        format!("Requested {what} are not available - requested {requested}, available: {available}")
    })
}

/// Largest number in a list of CPUs or nodes, as Docker bounds it.
const MAX_LISTED: u32 = 8192;

/// Reads the kernel's list format (`0-2,4`) into ranges.
fn parse_list(text: &str) -> Result<Vec<(u32, u32)>, String> {
    let number = |part: &str| -> Result<u32, String> {
        let number = part.trim().parse().map_err(|_| format!("invalid format: {text}"))?;
        if number > MAX_LISTED { Err(format!("value of out range, maximum is {MAX_LISTED}")) } else { Ok(number) }
    };
    let ranges = text.split(',').filter(|part| !part.trim().is_empty()).map(|part| match part.split_once('-') {
        None => number(part).map(|id| (id, id)),
        Some((first, last)) => match (number(first)?, number(last)?) {
            (first, last) if first <= last => Ok((first, last)),
            _ => Err(format!("invalid format: {text}")),
        },
    });
    ranges.collect()
}

fn blkio(limits: &mut Resources, host: &Support, warnings: &mut Vec<String>) -> Result<(), Refused> {
    if limits.blkio_weight.unwrap_or(0) > 0 && !host.blkio_weight {
        warnings.push(discarded("Block I/O weight", "Weight discarded."));
        limits.blkio_weight = None;
    }
    let weight = limits.blkio_weight.unwrap_or(0);
    refuse(weight > 0 && !(10..=1000).contains(&weight), "Range of blkio weight is from 10 to 1000")?;
    if !limits.blkio_weight_device.is_empty() && !host.blkio_weight_device {
        warnings.push(discarded("Block I/O weight_device", "Weight-device discarded."));
        limits.blkio_weight_device.clear();
    }
    let throttles = [
        (&mut limits.device_read_bps, "BPS Block I/O read limit", "Block I/O BPS read limit discarded."),
        (&mut limits.device_write_bps, "BPS Block I/O write limit", "Block I/O BPS write limit discarded."),
        (&mut limits.device_read_iops, "IOPS Block read limit", "Block I/O IOPS read limit discarded."),
        (&mut limits.device_write_iops, "IOPS Block write limit", "Block I/O IOPS write limit discarded."),
    ];
    for (list, what, consequence) in throttles {
        if !list.is_empty() && !host.blkio_throttle {
            warnings.push(discarded(what, consequence));
            list.clear();
        }
    }
    Ok(())
}

fn value(limit: Option<i64>) -> i64 {
    limit.unwrap_or(0)
}

fn discarded(what: &str, consequence: &str) -> String {
    format!("Your kernel does not support {what} or the cgroup is not mounted. {consequence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Support {
        Support {
            memory: true,
            swap: true,
            memory_reservation: true,
            memory_swappiness: true,
            oom_kill_disable: true,
            pids: true,
            cpu_shares: true,
            cpu_cfs: true,
            cpu_realtime: true,
            cpuset: true,
            blkio_weight: true,
            blkio_weight_device: true,
            blkio_throttle: true,
            cpus: "0-1".into(),
            mems: "0".into(),
            cpu_count: 2,
        }
    }

    fn check(mut limits: Resources, expect: &str) {
        let text = match verify(&mut limits, &full(), false) {
            Ok(warnings) => warnings.join("\n"),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expect, "{limits:?}");
    }

    const MIB: i64 = 1 << 20;

    #[test]
    fn impossible_memory() {
        let with = |memory, memory_swap| Resources { memory, memory_swap, ..Resources::default() };
        check(with(Some(4 * MIB), None), "Minimum memory limit allowed is 6MB");
        check(with(Some(-5), None), "Minimum memory limit allowed is 6MB");
        check(with(Some(6 * MIB), None), "");
        check(
            with(Some(8 * MIB), Some(7 * MIB)),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        );
        check(
            with(None, Some(7 * MIB)),
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
        check(with(Some(8 * MIB), Some(-1)), "");
        let reserve = |bytes| Resources { memory_reservation: Some(bytes), ..with(Some(8 * MIB), None) };
        check(reserve(MIB), "Minimum memory reservation allowed is 6MB");
        check(reserve(9 * MIB), "Minimum memory limit can not be less than memory reservation limit, see usage");
        check(
            Resources { memory_swappiness: Some(101), ..Resources::default() },
            "Invalid value: 101, valid memory swappiness range is 0-100",
        );
    }

    #[test]
    fn impossible_cpus() {
        let nano = |cpus: i64| Resources { nano_cpus: Some(cpus), ..Resources::default() };
        check(nano(2 * NANO), "");
        let text = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
        check(nano(2 * NANO + 1), text);
        check(nano(-1), text);
        check(
            Resources { cpu_quota: Some(5), ..Resources::default() },
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        );
        check(
            Resources { cpu_period: Some(500), ..Resources::default() },
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
        check(
            Resources { cpu_period: Some(5000), ..nano(1) },
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        );
    }

    #[test]
    fn impossible_real_time() {
        let with = |period, runtime| Resources {
            cpu_realtime_period: Some(period),
            cpu_realtime_runtime: Some(runtime),
            ..Resources::default()
        };
        check(with(500_000, 400_000), "");
        check(with(5, 6), "cpu real-time runtime cannot be higher than cpu real-time period");
        let text = "kernel does not support CPU real-time scheduler";
        assert_eq!(verify(&mut with(0, 5), &Support::default(), true).unwrap_err().to_string(), text);
        assert!(verify(&mut with(0, 0), &Support::default(), true).is_ok());
    }

    #[test]
    fn impossible_cpusets() {
        let cpus = |list: &str| Resources { cpuset_cpus: Some(list.into()), ..Resources::default() };
        check(cpus("0-1"), "");
        check(cpus("1,0"), "");
        check(cpus("99"), "Requested CPUs are not available - requested 99, available: 0-1");
        check(cpus("0-2"), "Requested CPUs are not available - requested 0-2, available: 0-1");
        check(cpus("x"), "Invalid value x for cpuset cpus: invalid format: x");
        check(cpus("1-0"), "Invalid value 1-0 for cpuset cpus: invalid format: 1-0");
        check(cpus("0-4294967295"), "Invalid value 0-4294967295 for cpuset cpus: value of out range, maximum is 8192");
        check(
            Resources { cpuset_mems: Some("3".into()), ..Resources::default() },
            "Requested memory nodes are not available - requested 3, available: 0",
        );
    }

    #[test]
    fn what_the_host_lacks_is_discarded_with_a_warning() {
        let mut limits =
            Resources { memory: Some(MIB * 64), pids_limit: Some(5), cpu_shares: Some(2), ..Resources::default() };
        let warnings = verify(&mut limits, &Support::default(), false).unwrap();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert_eq!((limits.memory, limits.memory_swap, limits.pids_limit), (None, Some(-1), None));
    }

    #[test]
    fn swap_follows_memory() {
        let mut limits = Resources { memory: Some(100), ..Resources::default() };
        adapt(&mut limits);
        assert_eq!(limits.memory_swap, Some(200));
    }
}
