//! Older kernels than the one that runs.

use corten_sys::process;

/// mount_setattr(2), of Linux 5.12. The number is the same on all architectures.
pub const MOUNT_SETATTR: u32 = 442;

/// Has a system call answered as by a kernel that does not know it, for the calling thread and all that it starts. Needs root.
///
/// # Panics
/// If the kernel refuses the filter.
pub fn forget(number: u32) {
    const LOAD_NUMBER: u64 = 0x20;
    const SKIP_UNLESS: u64 = 0x15 | 1 << 24;
    const RETURN: u64 = 0x06;
    const ENOSYS: u64 = 0x0005_0026;
    const ALLOW: u64 = 0x7fff_0000;
    let filter = [LOAD_NUMBER, SKIP_UNLESS | u64::from(number) << 32, RETURN | ENOSYS << 32, RETURN | ALLOW << 32];
    process::load_seccomp(&filter, 0).expect("loading a seccomp filter");
}

/// Does `work`, and starts what it starts, on a kernel without a system call.
///
/// # Panics
/// As the work does.
pub fn without<T: Send>(number: u32, work: impl FnOnce() -> T + Send) -> T {
    let old = || {
        forget(number);
        work()
    };
    let done = std::thread::scope(|scope| scope.spawn(old).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
