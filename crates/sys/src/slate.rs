//! Memory shared with another process, to be written to without a system call.
//!
//! A process under construction may be under a seccomp filter that answers every call with an error, or kills it for any. What it
//! has to say by then it writes here; whoever waits for it reads the slate once the process has executed or is gone. Nobody
//! else can reach it: the mapping has no name, and exec takes it away. One that is shared with a process that executes a program
//! of its own is a memfd, whose descriptor is handed over.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

use crate::process::invalid;

/// Bytes mapped: a text of 4096 characters fits however it is escaped. Pages that nobody writes take no memory.
const SIZE: usize = 32 * 1024;

/// The memory as both sides see it.
#[repr(C)]
struct Content {
    mark: AtomicU32,
    birth: AtomicU32,
    length: AtomicU32,
    text: [AtomicU8; SIZE - 12],
}

const _: () = assert!(size_of::<Content>() == SIZE);

/// A mark, a text, and the process that the kernel has noted there. A new one has mark 0, no text and no process.
#[derive(Debug)]
pub struct Slate(NonNull<Content>);

// SAFETY: the mapping belongs to the process, not to a thread, and goes with its one owner.
unsafe impl Send for Slate {}

impl Slate {
    /// Maps one. Copies of the process made from now on share it.
    pub fn new() -> io::Result<Slate> {
        Slate::map(None)
    }

    /// Maps one, and gives a descriptor that another process can [open](Slate::open).
    pub fn shared() -> io::Result<(Slate, OwnedFd)> {
        let file = memfd_create("slate", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, SIZE as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Slate::map(Some(file.as_fd()))?, file))
    }

    /// Maps what another process shares. Copies made from now on share it, too.
    pub fn open(file: BorrowedFd<'_>) -> io::Result<Slate> {
        // Whoever shortened it would end this process at its next look.
        let whole = fcntl_get_seals(file)?.contains(SealFlags::SHRINK) && fstat(file)?.st_size == SIZE as i64;
        if whole { Slate::map(Some(file)) } else { Err(invalid()) }
    }

    fn map(file: Option<BorrowedFd<'_>>) -> io::Result<Slate> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (flags, file) = match file {
            None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        };
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, protection, flags, file, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).map(Slate).ok_or_else(invalid)
    }

    /// The process noted last ([`clone_sibling_noted`](crate::process::clone_sibling_noted)).
    pub fn birth(&self) -> Option<i32> {
        i32::try_from(self.content().birth.load(Ordering::Acquire)).ok().filter(|pid| *pid != 0)
    }

    /// It is known: nobody needs to look for it here.
    pub fn forget_birth(&self) {
        self.content().birth.store(0, Ordering::Release);
    }

    /// Where the kernel notes a process.
    pub(crate) fn birth_address(&self) -> u64 {
        self.content().birth.as_ptr() as u64
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
        // SAFETY: the mapping is as large and at least as aligned as `Content`, zeroed by the kernel, lives until drop, cannot be
        // shortened, and is only ever accessed through its atomics, which may change at any time.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Slate {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and no reference to it outlives `self`.
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
        assert_eq!(slate.read(), [1; SIZE - 12]);
    }

    #[test]
    fn what_is_shared_is_seen_there() {
        let (ours, file) = Slate::shared().unwrap();
        let theirs = Slate::open(file.as_fd()).unwrap();
        theirs.mark(7);
        assert_eq!(ours.marked(), 7);
        let short = memfd_create("short", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&short, SealFlags::SHRINK).unwrap();
        assert!(Slate::open(short.as_fd()).is_err(), "too short");
        let loose = memfd_create("loose", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&loose, SIZE as u64).unwrap();
        assert!(Slate::open(loose.as_fd()).is_err(), "it can be shortened");
    }
}
