//! Other kernels than the one that runs: older ones, and one that refuses a certain call.

use corten_sys::process;

/// mount_setattr(2), of Linux 5.12. The number is the same on all architectures.
pub const MOUNT_SETATTR: u32 = 442;

/// seccomp(2).
pub const SECCOMP: u32 = if cfg!(target_arch = "x86_64") { 317 } else { 277 };

/// sendmsg(2): who cannot call it can tell nothing that goes with a descriptor.
pub const SENDMSG: u32 = if cfg!(target_arch = "x86_64") { 46 } else { 211 };

/// keyctl(2).
pub const KEYCTL: u32 = if cfg!(target_arch = "x86_64") { 250 } else { 219 };

const LOAD: u64 = 0x20;
const UNLESS_EQUAL: u64 = 0x15;
const RETURN: u64 = 0x06;
const ENOSYS: u64 = 0x0005_0026;
const ENOMEDIUM: u64 = 0x0005_007b;
const ALLOW: u64 = 0x7fff_0000;

/// One instruction of a filter, with its constant.
fn step(code: u64, constant: u64) -> u64 {
    code | constant << 32
}

/// A comparison that goes over the next instructions if it does not hold.
fn unless(equal: u32, skip: u64) -> u64 {
    step(UNLESS_EQUAL | skip << 24, equal.into())
}

/// Has a system call answered as by a kernel that does not know it, for the calling thread and all that it starts. Needs root.
///
/// # Panics
/// If the kernel refuses the filter.
pub fn forget(number: u32) {
    load(&[step(LOAD, 0), unless(number, 1), step(RETURN, ENOSYS), step(RETURN, ALLOW)]);
}

/// Likewise: has a system call fail with ENOMEDIUM (which it never says by itself) if its second argument is this one.
///
/// # Panics
/// If the kernel refuses the filter.
pub fn refuse(number: u32, second: u32) {
    /// Where the filter sees that argument.
    const SECOND: u64 = 24;
    let argument = [step(LOAD, SECOND), unless(second, 1), step(RETURN, ENOMEDIUM)];
    load(&[&[step(LOAD, 0), unless(number, 3)], &argument[..], &[step(RETURN, ALLOW)]].concat());
}

fn load(filter: &[u64]) {
    process::load_seccomp(filter, 0).expect("loading a seccomp filter");
}

/// Does `work`, and starts what it starts, on a kernel without a system call.
///
/// # Panics
/// As the work does.
pub fn without<T: Send>(number: u32, work: impl FnOnce() -> T + Send) -> T {
    apart(|| {
        forget(number);
        work()
    })
}

/// Does `work`, and starts what it starts, where a system call with this second argument is refused ([`refuse`]).
///
/// # Panics
/// As the work does.
pub fn refusing<T: Send>(number: u32, second: u32, work: impl FnOnce() -> T + Send) -> T {
    apart(|| {
        refuse(number, second);
        work()
    })
}

/// On a thread of its own: a filter is never taken back.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
