//! Connection, transactions, migrations (SQLite); each room declares its own tables.
//!
//! One [`Database`] is one file in WAL mode. All changes go through a single writer thread, which runs every closure that
//! waits in its own savepoint and makes them durable with **one** synchronised COMMIT (group commit): replies are sent after
//! it, so whatever a caller was told is on the disk. Reads take a connection from a small pool and never wait for the writer.
//!
//! ```text
//! <data root>/metadata.db      tables of all rooms, and
//!   schema(room TEXT PRIMARY KEY, version INTEGER)     how many of a room's migrations have been applied
//! <data root>/metadata.db-wal  changes not yet moved into the file; at most a few megabytes
//! ```
//!
//! Rooms name their tables `<room>_<thing>` and begin every record's key with the namespace column. Migrations are only ever
//! appended; a database written by a newer version is refused, never guessed at.
//!
//! See <https://www.sqlite.org/wal.html> and <https://www.sqlite.org/pragma.html#pragma_synchronous>.

mod connect;
mod error;
mod log;
mod readers;
mod schema;
mod writer;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};

pub use error::{Error, Result};
pub use rusqlite;
pub use schema::Schema;

use log::Log;
use readers::Readers;
use writer::{Durability, Writer};

/// A handle on the engine's record store; clones share one writer and one pool of readers.
#[derive(Clone, Debug)]
pub struct Database {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // The readers close first, so that the writer's connection is the last and tidies the log away.
    readers: Readers,
    writer: Writer,
    log: Arc<Log>,
}

impl Database {
    /// Opens or creates the database at `path` and brings every room's tables to its newest version.
    ///
    /// # Errors
    /// [`Error::Newer`] if a room's tables were written by a later version of the program, [`Error::Open`] if the file can't
    /// be opened or is no database, [`Error::Migrate`] if a migration fails (nothing of that room's is changed then).
    pub fn open(path: &Path, rooms: &[Schema]) -> Result<Database> {
        let mut connection = connect::writer(path)?;
        // What a killed process has written reached nobody's disk for certain, and whoever opens this acts on it.
        connect::settle(path)?;
        schema::migrate(&mut connection, rooms)?;
        let log = Arc::new(Log::new(connect::log(path)));
        let told = log.clone();
        connect::hear_of_commits(&mut connection, move || told.written())?;
        let shared = Shared { readers: Readers::new(path), writer: Writer::spawn(connection, log.clone())?, log };
        Ok(Database { shared: Arc::new(shared) })
    }

    /// Runs `change` in a savepoint and blocks until it is durable against power loss.
    ///
    /// If `change` fails, nothing of it remains, and others that were committed with it are unaffected.
    ///
    /// # Errors
    /// What `change` answered, or this crate's [`Error`] if the commit itself failed ([`Error::Full`] on a full disk: the
    /// database stays usable).
    pub fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.shared.writer.call(Durability::PowerLoss, change)
    }

    /// As [`write`](Database::write), but only survives the process being killed, not power loss; cheaper by one fsync.
    ///
    /// # Errors
    /// As [`write`](Database::write).
    pub fn write_relaxed<T, E, F>(&self, change: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.shared.writer.call(Durability::ProcessDeath, change)
    }

    /// As [`write`](Database::write), for callers that must not block: the change is queued at once (whether or not the
    /// future is polled) and the future is ready when it is durable. Works on any executor. Dropping the future doesn't undo
    /// the change.
    ///
    /// # Errors
    /// As [`write`](Database::write).
    pub fn write_async<T, E, F>(&self, change: F) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.shared.writer.call_async(Durability::PowerLoss, change)
    }

    /// As [`write_async`](Database::write_async) with the promise of [`write_relaxed`](Database::write_relaxed).
    ///
    /// # Errors
    /// As [`write`](Database::write).
    pub fn write_relaxed_async<T, E, F>(&self, change: F) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.shared.writer.call_async(Durability::ProcessDeath, change)
    }

    /// Blocks until all that was written before survives the loss of power: the disk is waited for here, not by the writer. Costs
    /// nothing if a durable write has come meanwhile.
    ///
    /// # Errors
    /// [`Error::Commit`] if the log can't be synchronised.
    pub fn settle(&self) -> Result<()> {
        self.shared.log.settle()
    }

    /// Runs `query` on a read-only connection, which sees everything that was committed before.
    ///
    /// Blocks for file access (usually microseconds), and when all of the pool's connections are taken. Don't call `read`
    /// within `query`.
    ///
    /// # Errors
    /// What `query` answered, or this crate's [`Error`] if no connection could be opened.
    pub fn read<T, E>(&self, query: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<Error>,
    {
        let connection = self.shared.readers.take()?;
        query(&connection)
    }
}

#[cfg(test)]
mod tests;
