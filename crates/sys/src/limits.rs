//! Resource limits by their kernel numbers.

use std::io;

use crate::process::check;

/// A resource of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource(pub u32);

impl Resource {
    /// By its OCI name, such as `RLIMIT_NOFILE`.
    pub fn parse(name: &str) -> Option<Resource> {
        let number = match name {
            "RLIMIT_CPU" => libc::RLIMIT_CPU,
            "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
            "RLIMIT_DATA" => libc::RLIMIT_DATA,
            "RLIMIT_STACK" => libc::RLIMIT_STACK,
            "RLIMIT_CORE" => libc::RLIMIT_CORE,
            "RLIMIT_RSS" => libc::RLIMIT_RSS,
            "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
            "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
            "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
            "RLIMIT_AS" => libc::RLIMIT_AS,
            "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
            "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
            "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
            "RLIMIT_NICE" => libc::RLIMIT_NICE,
            "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
            "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
            _ => return None,
        };
        Some(Resource(number))
    }
}

/// Soft and hard values; `u64::MAX` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far the soft value may be raised.
    pub hard: u64,
}

/// The calling process's limit.
pub fn get(resource: Resource) -> io::Result<Limit> {
    let mut value = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit64 through a valid pointer; the new value is null.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource.0, std::ptr::null::<libc::rlimit64>(), &raw mut value)
    })?;
    Ok(Limit { soft: value.rlim_cur, hard: value.rlim_max })
}

/// Sets the calling process's limit.
pub fn set(resource: Resource, limit: Limit) -> io::Result<()> {
    let value = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the kernel reads one rlimit64 from a valid pointer; the old value is null.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource.0, &raw const value, std::ptr::null_mut::<libc::rlimit64>())
    };
    check(result).map(drop)
}
