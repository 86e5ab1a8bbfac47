//! The pool of connections that only read.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::{Result, connect};

/// So many may read at once...
const MOST: usize = 4;
/// ...and so many connections are kept open while nobody does.
const KEPT: usize = 2;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    taken: usize,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Readers {
        Readers { path: path.into(), pool: Mutex::default(), returned: Condvar::new() }
    }

    /// Takes an idle connection, opens one, or waits for one, in this order.
    pub(crate) fn take(&self) -> Result<Reader<'_>> {
        let mut pool = self.lock();
        while pool.idle.is_empty() && pool.taken >= MOST {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.taken += 1;
        let idle = pool.idle.pop();
        drop(pool);
        // From here on the place in the pool is given back by Reader::drop, also if opening fails.
        let mut reader = Reader { readers: self, connection: idle };
        if reader.connection.is_none() {
            reader.connection = Some(connect::reader(&self.path)?);
        }
        Ok(reader)
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on loan.
pub(crate) struct Reader<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a reader holds its connection until it is dropped")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut pool = self.readers.lock();
        pool.taken -= 1;
        // A connection left inside a transaction (its query panicked) would hold the log back for ever.
        if let Some(connection) = connection.filter(Connection::is_autocommit)
            && pool.idle.len() < KEPT
        {
            pool.idle.push(connection);
        }
        drop(pool);
        self.readers.returned.notify_one();
    }
}
