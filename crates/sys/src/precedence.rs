//! What somebody waits for gets the processor soon: a short time slice (sched_setattr(2), Linux 6.12; older kernels ignore it), by
//! which a thread that wakes takes the place of one with a longer slice. Its share of the processor stays what it was.
//!
//! Niceness stays, and a thread with a policy other than the normal one is left alone. It is a favour: a host that refuses it has
//! its reasons.

use std::io;
use std::time::Duration;

use crate::scheduling::{RESET_ON_FORK, SchedAttr};

const SHORT_SLICE: Duration = Duration::from_micros(100);

/// The calling thread gets a short slice. Children inherit it.
pub fn take() {
    let _ = set(0, |_| true, |attributes| attributes.runtime = nanoseconds(SHORT_SLICE));
}

/// The calling thread gets the usual slice again.
pub fn give_way() {
    let _ = set(0, |_| true, |attributes| attributes.runtime = 0);
}

/// Children do not inherit the calling thread's short slice any more, which it has until somebody ends that ([`end`]).
pub fn keep_from_children() {
    let _ = set(0, is_short, |attributes| attributes.flags |= RESET_ON_FORK);
}

/// Ends what [`keep_from_children`] has left to a process: for who waited for it. It takes CAP_SYS_NICE.
pub fn end(pid: i32) {
    let lent = |attributes: &SchedAttr| is_short(attributes) && attributes.flags & RESET_ON_FORK != 0;
    let _ = set(pid, lent, |attributes| {
        attributes.runtime = 0;
        attributes.flags &= !RESET_ON_FORK;
    });
}

/// True if a thread has a short slice; 0 is the caller. Fails as sched_getattr(2) does.
pub fn is_taken(thread: i32) -> io::Result<bool> {
    SchedAttr::of(thread).map(|attributes| is_short(&attributes))
}

fn is_short(attributes: &SchedAttr) -> bool {
    attributes.runtime == nanoseconds(SHORT_SLICE)
}

fn nanoseconds(slice: Duration) -> u64 {
    slice.as_micros() as u64 * 1000
}

fn set(thread: i32, wanted: impl Fn(&SchedAttr) -> bool, change: impl FnOnce(&mut SchedAttr)) -> io::Result<()> {
    let mut attributes = SchedAttr::of(thread)?;
    if attributes.policy != libc::SCHED_OTHER as u32 || !wanted(&attributes) {
        return Ok(());
    }
    change(&mut attributes);
    attributes.set(thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_lent_and_ended() {
        std::thread::spawn(|| {
            let before = SchedAttr::of(0).unwrap();
            take();
            if !is_taken(0).unwrap() {
                println!("skipped: this kernel knows no time slices");
                return;
            }
            keep_from_children();
            let child = std::thread::spawn(|| is_taken(0).unwrap());
            assert!(!child.join().unwrap());
            assert!(is_taken(0).unwrap());
            end(rustix::thread::gettid().as_raw_nonzero().get());
            let after = SchedAttr::of(0).unwrap();
            assert_eq!((after.runtime, after.flags), (before.runtime, before.flags));
        })
        .join()
        .unwrap();
    }
}
