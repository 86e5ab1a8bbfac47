//! Connections and their settings.
//!
//! Page caches are small and nothing is mapped: the engine's records are a few kilobytes that the kernel caches anyway, and
//! an idle daemon shall stay small.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use crate::{Error, Result};

/// Kibibytes of page cache, as SQLite wants them: negative.
const WRITER_CACHE: i64 = -512;
const READER_CACHE: i64 = -128;

/// The log is folded into the file once it has this many pages of 4 KiB...
const CHECKPOINT_PAGES: i32 = 500;
/// ...and cut back to this many bytes then.
const LOG_BYTES: i64 = 2 << 20;

/// Opens the connection that makes all changes, creating the file (readable by its owner only) if there is none.
pub(crate) fn writer(path: &Path) -> Result<Connection> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::Create { path: path.into(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, WRITER_CACHE).map_err(|source| Error::Open { path: path.into(), source })
}

/// Where SQLite keeps the write-ahead log of the database at `path`.
pub(crate) fn log(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Has `told` hear of each commit that has written to the log. Takes the place of `wal_autocheckpoint`, and so folds the log itself.
pub(crate) fn hear_of_commits(connection: &mut Connection, mut told: impl FnMut() + Send + 'static) -> Result<()> {
    let hook = move |log: &mut Wal, pages| {
        told();
        if pages >= CHECKPOINT_PAGES {
            // A failure is the next commit's to find: this one is made.
            drop(log.checkpoint());
        }
        Ok(())
    };
    Ok(connection.wal_hook(Some(hook))?)
}

/// Brings a log that is there to the disk.
pub(crate) fn settle(path: &Path) -> Result<()> {
    let log = log(path);
    match File::open(&log).and_then(|file| file.sync_data()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Create { path: log, source: error }),
        _ => Ok(()),
    }
}

/// Opens a connection that only reads.
pub(crate) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(path, flags, READER_CACHE).map_err(|source| Error::Open { path: path.into(), source })
}

fn open(path: &Path, flags: OpenFlags, cache: i64) -> rusqlite::Result<Connection> {
    // The engine is the only process that has the file open: one lock for good instead of two system calls for each lock of a
    // transaction, and the log's index in memory instead of a file.
    let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-excl")?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(48);
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", cache)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    }
    Ok(connection)
}
