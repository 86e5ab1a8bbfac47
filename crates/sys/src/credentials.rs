//! Who the calling thread is: users, groups, capabilities. All of them raw thread calls: a process that is about to
//! exec has one thread, and libc's wrappers would signal others.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::process::check;

/// Sets real, effective and saved group ids of the calling thread.
pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: setresgid takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets real, effective and saved user ids of the calling thread.
pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: setresuid takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Replaces the supplementary groups of the calling thread.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` 32-bit ids from the slice, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Keeps permitted capabilities across the next change of user id away from root.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}

/// Sets of capabilities as bit masks (bit n is capability number n).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What the thread may do now.
    pub effective: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What survives exec of files with the same inheritable bits.
    pub inheritable: u64,
}

/// The calling thread's capabilities.
pub fn capabilities() -> io::Result<Capabilities> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(Capabilities {
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    })
}

/// Sets the calling thread's capabilities.
pub fn set_capabilities(sets: Capabilities) -> io::Result<()> {
    Ok(rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective),
            permitted: CapabilitySet::from_bits_retain(sets.permitted),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
        },
    )?)
}

/// Removes everything but `keep` from the calling thread's bounding set; needs CAP_SETPCAP.
pub fn limit_bounding_set(keep: u64) -> io::Result<()> {
    for capability in (0..64).filter(|bit| keep & (1 << bit) == 0) {
        // SAFETY: PR_CAPBSET_DROP takes an integer.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into()) {
            Ok(_) => {}
            // The first number that the kernel does not know ends the list.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets the ambient set; each bit has to be permitted and inheritable.
pub fn set_ambient(ambient: u64) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for capability in (0..64_u64).filter(|bit| ambient & (1 << bit) != 0) {
        // SAFETY: PR_CAP_AMBIENT takes integers.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }.into())?;
    }
    Ok(())
}

/// Highest capability number that the running kernel knows.
pub fn last_capability() -> u32 {
    // SAFETY: PR_CAPBSET_READ takes an integer.
    let known = |capability: &u32| unsafe { libc::prctl(libc::PR_CAPBSET_READ, *capability, 0, 0, 0) >= 0 };
    (0..64).take_while(known).last().unwrap_or(0)
}
