//! What the kernel gives the calling thread of processors, disks and memory nodes, and which kernel it pretends to be.
//!
//! Everything here is inherited by children and survives exec. Follows sched_setattr(2), ioprio_set(2),
//! sched_setaffinity(2), set_mempolicy(2) and personality(2).

use std::io;

use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

use crate::process::{check, invalid};

/// A scheduling policy with its parameters; zero where the policy knows no such parameter. Part of the runtime's plans, which
/// cross a socket as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Niceness, for the policies that share time.
    pub nice: i32,
    /// Priority, for the real-time policies.
    pub priority: u32,
    /// Nanoseconds of each period, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds from a period's begin, likewise.
    pub deadline: u64,
    /// Nanoseconds, likewise.
    pub period: u64,
}

/// SCHED_FLAG_RESET_ON_FORK: children start with the default policy.
pub const RESET_ON_FORK: u64 = 1;
/// SCHED_DEADLINE, the policy whose threads cannot fork.
pub const DEADLINE: u32 = 6;

/// The kernel's `struct sched_attr`; kernels before 5.3 know it without the last two, which are zero here.
#[repr(C)]
#[derive(Default)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) utilisation_min: u32,
    pub(crate) utilisation_max: u32,
}

impl SchedAttr {
    const SIZE: u32 = size_of::<Self>() as u32;

    /// A thread's; 0 is the caller.
    pub(crate) fn of(thread: i32) -> io::Result<SchedAttr> {
        let mut attributes = SchedAttr::default();
        // SAFETY: the kernel writes at most as many bytes as the structure has.
        check(unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut attributes, Self::SIZE, 0) })?;
        Ok(attributes)
    }

    /// Sets a thread's; 0 is the caller.
    pub(crate) fn set(self, thread: i32) -> io::Result<()> {
        let attributes = SchedAttr { size: Self::SIZE, ..self };
        // SAFETY: `attributes` is a complete sched_attr that outlives the call.
        check(unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) }).map(drop)
    }
}

/// Sets the calling thread's scheduling policy.
pub fn set_scheduler(wanted: &Scheduler) -> io::Result<()> {
    let attributes = SchedAttr {
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        ..SchedAttr::default()
    };
    attributes.set(0)
}

/// Lets the calling thread run wherever its cpuset allows, now and when that changes: what its parent was kept on is forgotten
/// (kernels from 6.2 on remember it otherwise).
pub fn forget_affinity() -> io::Result<()> {
    /// As many processors as no kernel is built for; it takes what it knows.
    const ALL: [u64; 1 << 10] = [u64::MAX; 1 << 10];
    // SAFETY: the kernel reads at most as many bytes as it is told; 0 names the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&ALL), ALL.as_ptr()) }).map(drop)
}

/// Sets the calling thread's I/O class (IOPRIO_CLASS_*) and its level in that class.
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = libc::c_long::from(class) << IOPRIO_CLASS_SHIFT | libc::c_long::from(level);
    // SAFETY: ioprio_set takes integers; 0 names the calling thread.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// Keeps the calling thread on the given processors.
pub fn set_affinity(processors: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        let index = usize::try_from(*processor).ok().filter(|index| *index < CpuSet::MAX_CPU).ok_or_else(invalid)?;
        set.set(index);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Sets from which nodes the calling thread's memory comes; `mode` is MPOL_* with its MPOL_F_* bits.
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> io::Result<()> {
    let length = nodes.iter().max().map_or(0, |last| *last as usize + 1);
    let mut mask = vec![0_u64; length.div_ceil(64)];
    for node in nodes {
        mask[*node as usize / 64] |= 1 << (node % 64);
    }
    let pointer = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // The kernel reads one bit less than it is told.
    let bits = if mask.is_empty() { 0 } else { mask.len() * 64 + 1 };
    // SAFETY: the kernel reads `bits` - 1 bits from a mask of that size, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_long, pointer, bits) }).map(drop)
}

/// Sets the execution domain of the calling thread (PER_*).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: personality takes an integer.
    check(unsafe { libc::personality(domain.into()) }.into()).map(drop)
}
