//! `events`: statistics at intervals and out-of-memory events, one JSON object per line, in runc's form.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_cgroup::{HugepageStats, Pressure, Stall, Stats, Tree};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::Context;
use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::store::{Container, Status};

pub(super) const FLAGS: &[Flag] = &[Flag::switch("stats", ""), Flag::value("interval", "")];

/// Prints one line of statistics, or lines of all events until the container ends.
pub(super) fn events(context: &Context, parsed: &Parsed) -> Result<u8> {
    let interval = parsed.value("interval").map_or(Ok(Duration::from_secs(5)), interval)?;
    let container = Container::load(context, parsed.id())?;
    if container.status() == Status::Stopped {
        return Err(Error::new(format!("container with id {} is not running", container.record.id)));
    }
    let group = container.group()?;
    let print_stats = || {
        let stats = group.stats().map_err(Error::doing("cannot read the statistics"))?;
        println!("{}", json!({"type": "stats", "id": container.record.id, "data": data(&stats, &group.pressure())}));
        Ok(())
    };
    if parsed.is_set("stats") {
        return print_stats().map(|()| 0);
    }
    let Some(pidfd) = container.process() else { return Ok(0) };
    let watch = group.oom_events().map_err(Error::doing("cannot watch for events"))?;
    // v1 tells of nothing else but of the group's end, and tells before anybody is killed; v2 tells of much.
    let counted = Tree::detect().is_ok_and(|tree| tree.is_v2());
    let mut seen = group.oom_kill_count().unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let (ended, event) = wait(&pidfd, watch.as_fd(), next.saturating_duration_since(Instant::now()))?;
        if event {
            watch.drain();
            let count = group.oom_kill_count().ok();
            if count.is_some_and(|count| !counted || count > seen) {
                println!("{}", json!({"type": "oom", "id": container.record.id}));
            }
            seen = count.unwrap_or(seen);
        }
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            print_stats()?;
            next += interval;
        }
    }
}

fn interval(text: &str) -> Result<Duration> {
    match corten_base::duration::parse_go_duration(text) {
        Ok(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos as u64)),
        _ => Err(Error::new("duration interval must be greater than 0")),
    }
}

fn wait(pidfd: &OwnedFd, events: std::os::fd::BorrowedFd<'_>, left: Duration) -> Result<(bool, bool)> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(&events, PollFlags::IN | PollFlags::PRI)];
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left))).map_err(Error::doing("poll"))?;
    Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
}

fn data(stats: &Stats, pressure: &Pressure) -> Value {
    let memory = &stats.memory;
    let detail = |name: &str| memory.details.get(name).copied().unwrap_or(0);
    let raw: Map<String, Value> = memory.details.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let devices = |list: &[(u64, u64, String, u64)]| -> Vec<Value> {
        list.iter()
            .map(|(major, minor, operation, value)| json!({"major": major, "minor": minor, "op": operation, "value": value}))
            .collect()
    };
    let huge = |pages: &HugepageStats| json!({"usage": pages.usage, "max": pages.max_usage, "failcnt": pages.failures});
    let huge: Map<String, Value> = stats.hugepages.iter().map(|(size, pages)| (size.clone(), huge(pages))).collect();
    let mut data = json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.usage, "percpu": stats.cpu.per_cpu, "kernel": stats.cpu.system, "user": stats.cpu.user,
            },
            "throttling": {
                "periods": stats.cpu.periods, "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled,
            },
        },
        "memory": {
            "cache": detail("cache").max(detail("file")),
            "usage": {
                "limit": memory.limit, "usage": memory.usage, "max": memory.max_usage, "failcnt": memory.failures,
            },
            "swap": {"limit": memory.swap_limit, "usage": memory.swap_usage, "max": 0, "failcnt": 0},
            "raw": raw,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": devices(&stats.block.bytes),
            "ioServicedRecursive": devices(&stats.block.operations),
        },
        "hugetlb": huge,
        "intel_rdt": {},
        "network_interfaces": null,
    });
    for (key, stalls) in [("cpu", pressure.cpu), ("memory", pressure.memory), ("blkio", pressure.io)] {
        if let Some(stalls) = stalls {
            data[key]["psi"] = json!({"some": stall(stalls.some), "full": stall(stalls.full)});
        }
    }
    data
}

fn stall(stall: Stall) -> Value {
    json!({"avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total": stall.total})
}
