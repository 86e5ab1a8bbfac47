//! Reading a blob while it is being written.
//!
//! A follower reads the ingest's file from its first byte and waits where the bytes end. It holds nobody up and needs no memory:
//! what it hasn't read yet lies in the page cache, whichever of the two is faster.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How far an ingest is, as its followers see it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
    /// A follower has gone.
    is_abandoned: bool,
}

/// How an ingest's bytes ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// All of them are there.
    Whole,
    /// No more will come, though more should.
    Broken,
}

impl Progress {
    pub(crate) fn reach(&self, written: u64) {
        self.lock().written = written;
        self.changed.notify_all();
    }

    /// The first end counts.
    pub(crate) fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned
    }

    /// Waits until there is more than `offset` bytes: their number. None at the end.
    fn wait(&self, offset: u64) -> io::Result<Option<u64>> {
        let mut state = self.lock();
        loop {
            match state.end {
                Some(End::Broken) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its writer gave up")),
                _ if state.written > offset => return Ok(Some(state.written)),
                Some(End::Whole) => return Ok(None),
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an ingest's bytes as they come; see [`Ingest::follow`](crate::Ingest::follow).
#[derive(Debug)]
pub struct Follower {
    file: File,
    offset: u64,
    /// So many bytes are known to be there.
    known: u64,
    progress: Arc<Progress>,
}

impl Follower {
    pub(crate) fn new(file: File, progress: Arc<Progress>) -> Follower {
        Follower { file, offset: 0, known: 0, progress }
    }
}

impl Read for Follower {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.known {
            let Some(known) = self.progress.wait(self.offset)? else { return Ok(0) };
            self.known = known;
        }
        let most = usize::try_from(self.known - self.offset).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read_at(&mut into[..most], self.offset)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        Ok(read)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.progress.lock().is_abandoned = true;
    }
}
