//! How the write-ahead log stands to the disk.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::writer::Durability;
use crate::{Error, Result};

/// The log of one database: the writer tells it of its commits, and whoever needs them on the disk brings them there without keeping
/// the writer from the next ones.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// The commit under way has written to it.
    is_written: AtomicBool,
    /// What was to go to the disk hasn't, and whether the kernel still has it nobody can tell: it says so once.
    is_lost: AtomicBool,
    /// Commits that were made without waiting for the disk.
    relaxed: AtomicU64,
    /// So many of them are on it.
    durable: AtomicU64,
    /// Held while they go there: who comes meanwhile finds its own there afterwards.
    turn: Mutex<()>,
}

impl Log {
    /// The log at `path`, all of which is on the disk.
    pub(crate) fn new(path: PathBuf) -> Log {
        let [is_written, is_lost] = Default::default();
        Log { path, is_written, is_lost, relaxed: AtomicU64::new(0), durable: AtomicU64::new(0), turn: Mutex::new(()) }
    }

    /// A commit by the writer has come here.
    pub(crate) fn written(&self) {
        self.is_written.store(true, Ordering::Release);
    }

    /// After a commit by the writer, the only thread that makes any. A durable one shall have made all before it durable, too, even if
    /// it has written nothing: for a row that says already what it shall say SQLite writes no page, and leaves the disk alone.
    pub(crate) fn committed(&self, durability: Durability) -> Result<()> {
        match (durability, self.is_written.swap(false, Ordering::AcqRel)) {
            (Durability::ProcessDeath, false) => {}
            (Durability::ProcessDeath, true) => drop(self.relaxed.fetch_add(1, Ordering::AcqRel)),
            (Durability::PowerLoss, true) => self.reached(self.relaxed.load(Ordering::Acquire)),
            (Durability::PowerLoss, false) => self.settle()?,
        }
        Ok(())
    }

    /// Blocks until every commit before it is on the disk; costs nothing if they are. Once it has failed at the disk it always fails.
    pub(crate) fn settle(&self) -> Result<()> {
        let wanted = self.relaxed.load(Ordering::Acquire);
        if self.is_durable(wanted) {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_durable(wanted) {
            return Ok(());
        }
        let failed = |error| Error::Commit { reason: format!("the log cannot be synchronised: {error}") };
        if self.is_lost.load(Ordering::Acquire) {
            return Err(failed(io::Error::other("the disk has failed before")));
        }
        let written = self.relaxed.load(Ordering::Acquire);
        self.synchronise().map_err(failed)?;
        self.reached(written);
        Ok(())
    }

    fn is_durable(&self, commits: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= commits
    }

    fn reached(&self, commits: u64) {
        // Who reads the log after the loss of power stops where a commit before is not whole.
        if !self.is_lost.load(Ordering::Acquire) {
            self.durable.fetch_max(commits, Ordering::AcqRel);
        }
    }

    /// What a checkpoint has moved into the database meanwhile was synchronised by it. SQLite holds no locks on this file, which closing
    /// it would drop.
    fn synchronise(&self) -> io::Result<()> {
        let log = File::open(&self.path)?;
        log.sync_data().inspect_err(|_| self.is_lost.store(true, Ordering::Release))
    }
}
