//! glibc's allocator: how much memory a process that idles keeps.

/// Limits the number of arenas, so that threads share the heap. Call before threads start.
pub fn limit_arenas(count: i32) {
    set(M_ARENA_MAX, count);
}

/// Gives free memory at the top of the heap back once it exceeds `bytes`.
pub fn set_trim_threshold(bytes: i32) {
    set(M_TRIM_THRESHOLD, bytes);
}

/// Serves allocations from `bytes` on by their own mapping, which is returned as soon as it is freed.
pub fn set_mmap_threshold(bytes: i32) {
    set(M_MMAP_THRESHOLD, bytes);
}

/// Gives free memory back to the kernel now.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer and only releases memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

const M_TRIM_THRESHOLD: i32 = -1;
const M_MMAP_THRESHOLD: i32 = -3;
const M_ARENA_MAX: i32 = -8;

#[cfg(target_env = "gnu")]
fn set(parameter: i32, value: i32) {
    // SAFETY: mallopt takes integers; a parameter that it does not know is ignored.
    unsafe { libc::mallopt(parameter, value) };
}

#[cfg(not(target_env = "gnu"))]
fn set(_: i32, _: i32) {}
