//! Scheduling, I/O priority, affinity, memory policy and personality: the spec's words to the kernel's numbers.

use corten_sys::scheduling;
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Scheduler,
};
use serde::{Deserialize, Serialize};

use super::Error;

/// The kernel's interfaces take no more processors or memory nodes than this from here.
const MAX_INDEX: u32 = 1024;

/// An I/O priority, as ioprio_set(2) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriorityPlan {
    /// IOPRIO_CLASS_*.
    pub class: u8,
    /// 0 is first, 7 last.
    pub level: u8,
}

/// Processors that an exec's process is kept on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityPlan {
    /// Before it joins the container's cgroups.
    #[serde(default)]
    pub initial: Vec<u32>,
    /// After that.
    #[serde(default, rename = "final")]
    pub last: Vec<u32>,
}

/// A memory policy, as set_mempolicy(2) takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicyPlan {
    /// MPOL_* with its MPOL_F_*.
    pub mode: u32,
    /// Its nodes.
    pub nodes: Vec<u32>,
}

pub(super) fn scheduler(wanted: &Scheduler) -> Result<scheduling::Scheduler, Error> {
    let invalid = |what, value: String| Err(Error::Invalid { what, value });
    let nice = wanted.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return invalid("scheduler nice value", nice.to_string());
    }
    let real_time = matches!(wanted.policy(), LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    let priority = wanted.priority().unwrap_or(0);
    let Some(priority) = u32::try_from(priority).ok().filter(|priority| *priority == 0 || real_time) else {
        return invalid("scheduler priority (it belongs to SCHED_FIFO and SCHED_RR)", priority.to_string());
    };
    let times = [wanted.runtime(), wanted.deadline(), wanted.period()].map(|time| time.unwrap_or(0));
    if times != [0; 3] && *wanted.policy() != LinuxSchedulerPolicy::SchedDeadline {
        return invalid("scheduler runtime, deadline or period (they belong to SCHED_DEADLINE)", format!("{times:?}"));
    }
    Ok(scheduling::Scheduler {
        policy: policy(*wanted.policy())?,
        flags: wanted.flags().iter().flatten().fold(0, |flags, flag| flags | flag_bit(*flag)),
        nice,
        priority,
        runtime: times[0],
        deadline: times[1],
        period: times[2],
    })
}

fn policy(policy: LinuxSchedulerPolicy) -> Result<u32, Error> {
    Ok(match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Error::Unsupported("the scheduling policy SCHED_ISO, which Linux reserves".into()));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    })
}

fn flag_bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

pub(super) fn io_priority(wanted: &LinuxIOPriority) -> Result<IoPriorityPlan, Error> {
    let class = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u8::try_from(wanted.priority()) {
        Ok(level @ 0..=7) => Ok(IoPriorityPlan { class, level }),
        _ => Err(Error::Invalid { what: "I/O priority (0 to 7)", value: wanted.priority().to_string() }),
    }
}

pub(super) fn affinity(wanted: &ExecCPUAffinity) -> Result<AffinityPlan, Error> {
    let list = |text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(Vec::new()),
        Some(text) => indices("CPU affinity", text),
    };
    Ok(AffinityPlan { initial: list(wanted.initial())?, last: list(wanted.cpu_affinity_final())? })
}

/// A list such as `0-3,7`.
fn indices(what: &'static str, text: &str) -> Result<Vec<u32>, Error> {
    let parse = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < MAX_INDEX).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(parse).collect();
    match ranges {
        Some(ranges) => Ok(ranges.into_iter().flatten().collect()),
        None => Err(Error::Invalid { what, value: text.into() }),
    }
}

pub(super) fn memory_policy(wanted: &LinuxMemoryPolicy) -> Result<MemoryPolicyPlan, Error> {
    let mode = match wanted.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = wanted.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
    });
    let nodes = match wanted.nodes().as_deref() {
        None | Some("") => Vec::new(),
        Some(text) => indices("memory policy nodes", text)?,
    };
    Ok(MemoryPolicyPlan { mode: mode | flags, nodes })
}

/// The spec defines no flags yet.
pub(super) fn personality(wanted: &LinuxPersonality) -> Result<u32, Error> {
    if let Some(flag) = wanted.flags().iter().flatten().next() {
        return Err(Error::Invalid { what: "personality flag", value: flag.clone() });
    }
    Ok(match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduled(value: serde_json::Value) -> Result<scheduling::Scheduler, Error> {
        scheduler(&serde_json::from_value(value).expect("a scheduler"))
    }

    #[test]
    fn parameters_belong_to_their_policies() {
        let fifo = scheduled(serde_json::json!({"policy": "SCHED_FIFO", "priority": 9})).expect("valid");
        assert_eq!((fifo.policy, fifo.priority), (1, 9));
        let deadline = serde_json::json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3,
            "flags": ["SCHED_FLAG_RECLAIM"]});
        assert_eq!(scheduled(deadline).expect("valid").flags, 2);
        for wrong in [
            serde_json::json!({"policy": "SCHED_BATCH", "priority": 9}),
            serde_json::json!({"policy": "SCHED_OTHER", "nice": 20}),
            serde_json::json!({"policy": "SCHED_OTHER", "runtime": 1}),
            serde_json::json!({"policy": "SCHED_ISO"}),
        ] {
            assert!(scheduled(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(indices("x", "0-2,7").expect("valid"), [0, 1, 2, 7]);
        for wrong in ["", "1-", "3-1", "a", "1,,2", "4096", "-1"] {
            assert!(indices("x", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn levels_of_io_priority() {
        let level = |priority: i64| {
            let value = serde_json::json!({"class": "IOPRIO_CLASS_BE", "priority": priority});
            io_priority(&serde_json::from_value(value).expect("an I/O priority"))
        };
        assert_eq!(level(7).expect("valid"), IoPriorityPlan { class: 2, level: 7 });
        assert!(level(8).is_err() && level(-1).is_err());
    }
}
