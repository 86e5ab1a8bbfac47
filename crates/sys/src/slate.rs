//! Memory shared with copies of this process, to be written to without a system call.
//!
//! A process under construction may be under a seccomp filter that answers every call with an error, or kills it for any. What it
//! has to say by then it writes here; whoever waits for it reads the slate once the process has executed or is gone. Nobody
//! else can reach it: the mapping has no name, and exec takes it away.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Bytes mapped: a text of 4096 characters fits however it is escaped. Pages that nobody writes take no memory.
const SIZE: usize = 32 * 1024;

/// The memory as both sides see it.
#[repr(C)]
struct Content {
    mark: AtomicU32,
    length: AtomicU32,
    text: [AtomicU8; SIZE - 8],
}

const _: () = assert!(size_of::<Content>() == SIZE);

/// A mark and a text. A new one has mark 0 and no text.
#[derive(Debug)]
pub struct Slate(NonNull<Content>);

impl Slate {
    /// Maps one. Copies of the process made from now on share it.
    pub fn new() -> io::Result<Slate> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address that the kernel chooses touches no memory in use.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(Slate).ok_or_else(crate::process::invalid)
    }

    /// Sets the mark; what was written before is seen by whoever sees the mark.
    pub fn mark(&self, mark: u32) {
        self.content().mark.store(mark, Ordering::Release);
    }

    /// The mark set last.
    pub fn marked(&self) -> u32 {
        self.content().mark.load(Ordering::Acquire)
    }

    /// Replaces the text. What is beyond the room for it is cut off. To be followed by [`Slate::mark`].
    pub fn write(&self, text: &[u8]) {
        let content = self.content();
        let text = &text[..text.len().min(content.text.len())];
        for (cell, byte) in content.text.iter().zip(text) {
            cell.store(*byte, Ordering::Relaxed);
        }
        content.length.store(text.len() as u32, Ordering::Relaxed);
    }

    /// The text.
    pub fn read(&self) -> Vec<u8> {
        let content = self.content();
        let length = content.length.load(Ordering::Relaxed) as usize;
        content.text.iter().take(length).map(|cell| cell.load(Ordering::Relaxed)).collect()
    }

    fn content(&self) -> &Content {
        // SAFETY: the mapping is as large and at least as aligned as `Content`, zeroed by the kernel, lives until drop, and is
        // only ever accessed through its atomics, which may change at any time.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Slate {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let slate = Slate::new().unwrap();
        assert_eq!((slate.marked(), slate.read()), (0, vec![]));
        slate.write(b"a longer text");
        slate.write(b"words");
        slate.mark(7);
        assert_eq!((slate.marked(), slate.read()), (7, b"words".to_vec()));
        slate.write(&[1; 2 * SIZE]);
        assert_eq!(slate.read(), [1; SIZE - 8]);
    }
}
