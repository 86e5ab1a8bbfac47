//! Images for several platforms that came one after the other behind one index.
//!
//! Each has its own record, so that its layers stay. One of them **leads**: it has all names that mean the index, this machine's
//! if it is there, else the one that came first. The others have no names; lists don't show them, and they go with the last
//! name of the index. Found by the index's digest, which all records of the family have as their target.

use corten_base::{Digest, ImageId};
use corten_metadata::rusqlite::{Connection, Transaction};

use crate::Result;
use crate::record::{self, ImageRow, Parsed};

/// Records of one index: those with names that mean it, and those without any.
const NAMED: &str = "SELECT DISTINCT image FROM images_name
    WHERE namespace = ?1 AND target ->> '$.digest' = ?2";
const NAMELESS: &str = "SELECT id FROM images_image
    WHERE namespace = ?1 AND target ->> '$.digest' = ?2 AND manifest ->> '$.digest' <> ?2
        AND id NOT IN (SELECT image FROM images_name WHERE namespace = ?1)";

/// Which image gets the names of a record's target. One for this machine (`is_hosts`) takes those that others have.
pub(crate) fn lead(transaction: &Transaction<'_>, namespace: &str, row: &ImageRow, is_hosts: bool) -> Result<ImageId> {
    if !row.is_of_index() {
        return Ok(row.id.clone());
    }
    let target = &row.target.digest;
    if is_hosts {
        give_names(transaction, namespace, target, &row.id)?;
        return Ok(row.id.clone());
    }
    let named = ids(transaction, NAMED, namespace, target)?;
    Ok(named.into_iter().next().unwrap_or_else(|| row.id.clone()))
}

/// Gives all names that mean an index to one image of it.
pub(crate) fn give_names(transaction: &Transaction<'_>, namespace: &str, target: &Digest, to: &ImageId) -> Result<()> {
    let text = "UPDATE images_name SET image = ?3 WHERE namespace = ?1 AND target ->> '$.digest' = ?2";
    transaction.prepare_cached(text)?.execute((namespace, target.as_str(), to.as_str()))?;
    Ok(())
}

/// The records of all images of an index.
pub(crate) fn members(connection: &Connection, namespace: &str, target: &Digest) -> Result<Vec<ImageRow>> {
    let rows = record::images(connection, namespace)?.into_iter();
    Ok(rows.filter(|row| row.is_of_index() && row.target.digest == *target).collect())
}

/// The records that belong to an index that has no name any more.
pub(crate) fn orphans(connection: &Connection, namespace: &str, target: &Digest) -> Result<Vec<ImageId>> {
    match ids(connection, NAMED, namespace, target)?.is_empty() {
        true => ids(connection, NAMELESS, namespace, target),
        false => Ok(Vec::new()),
    }
}

fn ids(connection: &Connection, query: &str, namespace: &str, target: &Digest) -> Result<Vec<ImageId>> {
    let mut query = connection.prepare_cached(query)?;
    let rows = query.query_map((namespace, target.as_str()), |row| Ok(row.get::<_, Parsed<ImageId>>(0)?.0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
