//! What may be mounted on a container's procfs: next to nothing.
//!
//! Programs take what they read and write below `/proc` for the kernel's, and masks and read-only paths protect what was
//! there when they were applied. An image (`VOLUME`) or a user that puts something else there gets the same refusals
//! as with runc (CVE-2019-16884); a few files that tools such as lxcfs emulate are allowed.

use std::os::fd::BorrowedFd;

use corten_sys::path;
use rustix::fs::fstat;

use super::report::Explain;
use crate::plan::MountPlan;
use crate::{Failure, FailureKind};

/// Files that may be emulated, as runc allows them.
const EMULATED: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

const WHAT: &str = "cannot look at the mount point";

/// Refuses a file system at a place where only procfs may be.
pub(super) fn check(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    fstype: &str,
    place: BorrowedFd<'_>,
) -> Result<(), Failure> {
    if fstype == "proc" { Ok(()) } else { refuse(root, plan, place) }
}

/// Refuses a bind at such a place, unless it shows a procfs at `/proc` itself.
pub(super) fn check_bind(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    tree: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let whole = is_proc(plan) || path::is_proc_root(place).explain(WHAT)?;
    if whole && path::is_in_proc(tree).explain(WHAT)? { Ok(()) } else { refuse(root, plan, place) }
}

fn is_proc(plan: &MountPlan) -> bool {
    plan.destination.trim_end_matches('/') == "/proc"
}

fn refuse(root: BorrowedFd<'_>, plan: &MountPlan, place: BorrowedFd<'_>) -> Result<(), Failure> {
    let refused = |why: &str| {
        let text = format!("{:?} cannot be mounted because it is {why}", plan.destination);
        Err(Failure::new(FailureKind::Invalid, text))
    };
    if is_proc(plan) || path::is_proc_root(place).explain(WHAT)? {
        return refused("not of type proc");
    }
    // The place itself decides, not its name: links in the image lead anywhere.
    if path::is_in_proc(place).explain(WHAT)? && !is_emulated(root, place)? {
        return refused("inside /proc");
    }
    Ok(())
}

fn is_emulated(root: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<bool, Failure> {
    let place = fstat(place).explain(WHAT)?;
    let same = |name: &str| {
        let found = path::find(root, name).and_then(|found| Ok(fstat(&found)?));
        found.is_ok_and(|found| (found.st_dev, found.st_ino) == (place.st_dev, place.st_ino))
    };
    Ok(EMULATED.iter().any(|name| same(name)))
}
