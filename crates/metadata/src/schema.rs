//! Each room's tables and how they came to be.

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::{Error, Result};

/// A room's tables: the statements that bring them from one version to the next, the first from nothing.
///
/// Released entries are never changed, only followed by new ones.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The room's name, which its tables' names begin with.
    pub room: &'static str,
    /// One batch of statements per version.
    pub migrations: &'static [&'static str],
}

/// Brings all rooms' tables to their newest versions, one transaction per room.
pub(crate) fn migrate(connection: &mut Connection, rooms: &[Schema]) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema(room TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
    )?;
    // All rooms are looked at before any is touched: a refused database stays as it was.
    let mut behind = Vec::new();
    for room in rooms {
        let found = version(connection, room.room)?;
        let known = room.migrations.len();
        if found > known {
            return Err(Error::Newer { room: room.room, found, known });
        }
        if found < known {
            behind.push((room, found));
        }
    }
    for (room, found) in behind {
        let transaction = connection.transaction()?;
        apply(&transaction, room, found)?;
        transaction.commit()?;
    }
    Ok(())
}

fn apply(transaction: &Transaction<'_>, room: &Schema, from: usize) -> Result<()> {
    for (index, statements) in room.migrations.iter().enumerate().skip(from) {
        let version = index + 1;
        transaction.execute_batch(statements).map_err(|source| Error::Migrate { room: room.room, version, source })?;
    }
    let known = i64::try_from(room.migrations.len()).unwrap_or(i64::MAX);
    transaction.execute("INSERT OR REPLACE INTO schema(room, version) VALUES (?1, ?2)", (room.room, known))?;
    Ok(())
}

fn version(connection: &Connection, room: &str) -> Result<usize> {
    let found: Option<i64> =
        connection.query_row("SELECT version FROM schema WHERE room = ?1", [room], |row| row.get(0)).optional()?;
    Ok(usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX))
}
